#!/usr/bin/env bash
#
# How the code looks: C by clang-format, shell by shfmt and shellcheck, units by systemd-analyze. Says what differs,
# changes nothing.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
mapfile -t c_files < <(find . -path './.git' -prune -o -path './build*' -prune -o -name '*.[ch]' -print | sort)
mapfile -t shell_files < <(find . -path './.git' -prune -o -path './build*' -prune -o -type f -print |
    while read -r file; do
        case $file in
            *.sh | *.bash | *.bats) printf '%s\n' "$file" ;;
            *.*/run | */run | */tests/unit/canary/haldane) printf '%s\n' "$file" ;;
        esac
    done | sort)

# The units as they will be installed; the program in them need only be there. What is wrong in a unit is told, but is
# mostly no failure to systemd-analyze.
check_units() {
    local units=$1 unit said
    ln -s -- "$(type -P true)" "$units/haldane"
    for unit in deployment/systemd/*.service.in; do
        sed "s|@bindir@|$units|g" "$unit" >"$units/$(basename -- "$unit" .in)"
    done
    said=$(systemd-analyze verify --man=no "$units"/*.service 2>&1) && [[ -z $said ]] && return
    printf '%s\n' "$said"
    return 1
}

failed=0
((${#c_files[@]} == 0)) || clang-format --dry-run --Werror "${c_files[@]}" || failed=1
shfmt -i 4 -ci -d "${shell_files[@]}" || failed=1
shellcheck --external-sources "${shell_files[@]}" || failed=1
units=$(mktemp -d)
trap 'rm -rf -- "$units"' EXIT
check_units "$units" || failed=1
exit "$failed"
