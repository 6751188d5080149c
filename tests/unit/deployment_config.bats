#!/usr/bin/env bats
# The settings of a deployment: deployment/lib/config.sh and deployment.conf. No engine is needed.

bats_require_minimum_version 1.5.0

setup() {
    user=$BATS_TEST_TMPDIR/user.conf
}

# load_config [NAME...]: in a shell of its own; prints the values of the names.
load_config() {
    bash -euo pipefail -c '
        source "$1/deployment/lib/log.sh"
        source "$1/deployment/lib/config.sh"
        config_load "$2"
        shift 2
        for name in "$@"; do printf "%s=%s\n" "$name" "${!name}"; done
        ' load "$HALDANE_SOURCE" "$user" "$@"
}

@test "a file needs only what differs" {
    printf '# ours\n\nHTTP_PORT=8080\n' >"$user"
    run -0 --separate-stderr load_config HTTP_PORT HTTPS_PORT PROJECT
    [ "$output" = $'HTTP_PORT=8080\nHTTPS_PORT=443\nPROJECT=shop' ]
}

@test "values are taken as they stand" {
    # shellcheck disable=SC2016 # not to be expanded is what is tested
    printf '%s\n' 'SMOKE_COMMAND=sh -c "echo $HOME" # not a comment' 'PROJECT=  ours  ' 'SHOP_URL=' \
        "STATE_DIR=$BATS_TEST_TMPDIR" >"$user"
    run -0 --separate-stderr load_config SMOKE_COMMAND PROJECT SHOP_URL
    # shellcheck disable=SC2016
    [ "$output" = $'SMOKE_COMMAND=sh -c "echo $HOME" # not a comment\nPROJECT=ours\nSHOP_URL=' ]
}

@test "the environment moves no deployment" {
    printf 'HTTP_PORT=8080\n' >"$user"
    HTTP_PORT=1 PROJECT=other run -0 --separate-stderr load_config HTTP_PORT PROJECT
    [ "$output" = $'HTTP_PORT=8080\nPROJECT=shop' ]
}

@test "relative paths and programs begin at the repository" {
    printf 'SECRETS_DIR=/etc/shop\nCOMPOSE_FILES=a.yml /b.yml\nCERTIFICATE_FILE=\n' >"$user"
    run -0 --separate-stderr load_config SECRETS_DIR STATE_DIR COMPOSE_FILES CERTIFICATE_FILE POLICIES HALDANE_COMMAND
    root=$(realpath "$HALDANE_SOURCE")
    [ "${lines[0]}" = SECRETS_DIR=/etc/shop ]
    [ "${lines[1]}" = "STATE_DIR=$root/var/state" ]
    [ "${lines[2]}" = "COMPOSE_FILES=$root/a.yml /b.yml" ]
    [ "${lines[3]}" = CERTIFICATE_FILE= ]
    [ "${lines[4]}" = "POLICIES=$root/compose/policies" ]
    [ "${lines[5]}" = "HALDANE_COMMAND=$root/deployment/stack.sh haldane" ]
}

@test "a program of the path keeps its name" {
    printf 'HALDANE_COMMAND=haldane\nBALANCER_COMMAND=socat - UNIX-CONNECT:/run/haproxy/admin.sock\n' >"$user"
    run -0 --separate-stderr load_config HALDANE_COMMAND BALANCER_COMMAND
    [ "$output" = $'HALDANE_COMMAND=haldane\nBALANCER_COMMAND=socat - UNIX-CONNECT:/run/haproxy/admin.sock' ]
}

@test "a name that is not known is refused, with its line and the nearest known one" {
    printf 'HTTP_PORT=8080\nPROMETEUS_PORT=1\n' >"$user"
    run -65 load_config
    [[ $output == *"$user:2: PROMETEUS_PORT is not known; did you mean PROMETHEUS_PORT?"* ]]
}

@test "a line that is no setting, a name twice, quotes: each is refused with its line" {
    printf 'HTTP_PORT\n' >"$user"
    run -65 load_config
    [[ $output == *"$user:1: 'HTTP_PORT' is no setting"* ]]
    printf 'HTTP_PORT=1\n\nHTTP_PORT=2\n' >"$user"
    run -65 load_config
    [[ $output == *"$user:3: HTTP_PORT is set already in line 1"* ]]
    printf 'PROJECT="ours"\n' >"$user"
    run -65 load_config
    [[ $output == *"$user:1: the quotes would be part of the value of PROJECT"* ]]
}

@test "what has a form is held to it" {
    for line in HTTP_PORT=65536 HTTP_PORT=0 HTTP_PORT=web HEALTH_TIMEOUT=90 STRATEGY=green PROJECT=Shop GRAFANA=true; do
        printf '%s\n' "$line" >"$user"
        run -65 load_config
        [[ $output == *"$user:1: ${line%%=*} is '${line#*=}'; "* ]]
    done
}

@test "a file that cannot be read is an error of its own" {
    run -66 load_config
    [[ $output == *"the configuration '$user' cannot be read"* ]]
}

@test "children read the same file" {
    printf 'PROJECT=ours\n' >"$user"
    run -0 --separate-stderr load_config HALDANE_DEPLOYMENT_CONF
    [ "$output" = "HALDANE_DEPLOYMENT_CONF=$user" ]
}

@test "every setting is documented" {
    # A block of comment stands before each, or before the settings that it is directly under.
    run -0 awk '/^#/ || /^[A-Z]/ && told { told = 1; next } /^$/ { told = 0; next } { print; bad = 1 } END { exit bad }' \
        "$HALDANE_SOURCE/deployment/deployment.conf"
}
