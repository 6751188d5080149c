#!/usr/bin/env bash
#
# How the code looks: C by clang-format, shell by shfmt and shellcheck. Says what differs, changes nothing.
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

failed=0
((${#c_files[@]} == 0)) || clang-format --dry-run --Werror "${c_files[@]}" || failed=1
shfmt -i 4 -ci -d "${shell_files[@]}" || failed=1
shellcheck --external-sources "${shell_files[@]}" || failed=1
exit "$failed"
