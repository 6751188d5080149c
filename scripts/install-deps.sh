#!/usr/bin/env bash
#
# The one list of what haldane needs from the distribution, and its installation: Debian 12 or newer, Ubuntu 24.04 or
# newer. Only what is missing is installed; if nothing is, neither root nor the network is needed.
set -euo pipefail

declare -A packages=(
    [build]='make meson ninja-build gcc libc6-dev pkg-config libgsl-dev libcurl4-openssl-dev libcjson-dev libyaml-dev
        libmicrohttpd-dev libsqlite3-dev libssl-dev libpq-dev libhiredis-dev libcmocka-dev'
    [demo]='prometheus haproxy socat curl jq procps'
    [test]='bats caddy faketime groff-base jq nginx-light openssl postgresql postgresql-client procps
        prometheus-alertmanager python3 r-base-core redis-server redis-tools sqlite3 socat systemd valgrind clang libclang-rt-dev'
    [lint]='clang-format shellcheck shfmt systemd'
    [deployment]='docker.io docker-compose iptables mmdebstrap hey wrk lynis testssl.sh nmap checksec yamllint'
)

usage() {
    cat <<'END'
usage: scripts/install-deps.sh [--print] [build|demo|test|lint|deployment]...

Installs what is missing of the named groups (default: all but deployment) with apt-get, by sudo unless run by root.

  --print  only print the names of the packages, one a line
  --help   this page
END
}

wanted() {
    local group name
    for group in "$@"; do
        for name in ${packages[$group]}; do
            printf '%s\n' "$name"
        done
    done | sort -u
}

missing() {
    local name
    while read -r name; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || printf '%s\n' "$name"
    done
}

# Debian starts a server when its package is installed. haldane wants the programs, not another HAProxy or Prometheus
# on the machine's ports: a policy-rc.d forbids the start for as long as apt-get runs. One that is there already is the
# owner's and stays.
install_packages() {
    local policy=/usr/sbin/policy-rc.d sudo=()
    ((EUID == 0)) || sudo=(sudo)
    "${sudo[@]}" apt-get update
    if [[ ! -e $policy ]]; then
        # shellcheck disable=SC2064 # the values of now are meant
        trap "$(printf '%q ' "${sudo[@]}" rm -f -- "$policy")" EXIT
        printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
        "${sudo[@]}" chmod 755 "$policy"
    fi
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"
}

main() {
    local groups=() print='' argument list
    for argument in "$@"; do
        case $argument in
            --help)
                usage
                exit 0
                ;;
            --print) print=yes ;;
            build | demo | test | lint | deployment) groups+=("$argument") ;;
            *)
                printf "install-deps.sh: unknown group '%s'; see --help\n" "$argument" >&2
                exit 64
                ;;
        esac
    done
    ((${#groups[@]} > 0)) || groups=(build demo test lint)
    if [[ -n $print ]]; then
        wanted "${groups[@]}"
        exit 0
    fi
    mapfile -t list < <(wanted "${groups[@]}" | missing)
    if ((${#list[@]} == 0)); then
        printf 'Everything for %s is installed.\n' "${groups[*]}" >&2
        exit 0
    fi
    printf 'Installing: %s\n' "${list[*]}" >&2
    install_packages "${list[@]}"
    if [[ -d /run/systemd/system && " ${list[*]} " =~ \ (haproxy|prometheus|prometheus-alertmanager|postgresql|redis-server)\  ]]; then
        printf 'Servers that came with these packages were not started now, but would be at the next boot.\n' >&2
        printf 'If this machine is not to run them: systemctl disable haproxy prometheus prometheus-alertmanager postgresql redis-server\n' >&2
    fi
}

main "$@"
