#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2016 # $output and $stderr come from run; what programs and settings expand
#
# stack.sh and staging.sh where no engine is needed: a `docker` of this test stands in for it. The real one:
# tests/deployment.

bats_require_minimum_version 1.5.0

setup() {
    here=$BATS_TEST_TMPDIR
    unset HALDANE_DEPLOYMENT_CONF HALDANE_SETTINGS FORCE_STOP
    mkdir "$here/bin" "$here/engine" "$here/state"
    printf '%s\n' PROJECT=ours "STATE_DIR=$here/state" "SECRETS_DIR=$here/secrets" "RECORDS_DIR=$here/records" \
        "BACKUP_DIR=$here/backups" "TEXTFILE_DIR=$here/textfile" >"$here/ours.conf"
    # Each service has a container of its name. What there is to be told is in files: NAME.state (else "running
    # healthy"), page, servers.
    cat >"$here/bin/docker" <<END
#!/usr/bin/env bash
cd "$here/engine"
echo "\$*" >>calls
service() { sed 's/.*compose.service=\([a-z0-9-]*\).*/\1/' <<<"\$*"; }
case "\$*" in
    "ps "*) service "\$@" ;;
    "inspect "*) cat "\${!#}.state" 2>/dev/null || echo 'running healthy' ;;
    "exec "*balancer) cat servers 2>/dev/null || exit 1 ;;
    "exec "*share) cat page 2>/dev/null || exit 7 ;;
    "exec "*haldane*) for word; do [[ ! \$word =~ ^[A-Z_]+\$ ]] || echo "\$word=\${!word-}"; done ;;
esac
END
    chmod +x "$here/bin/docker"
    PATH=$here/bin:$PATH
}

stack() {
    "$HALDANE_SOURCE/deployment/stack.sh" --config "$here/ours.conf" "$@" </dev/null
}

# servers_are BACKEND/SERVER=STATE...: as `show servers state` has them. 2 is up.
servers_are() {
    local one
    printf '1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight\n' \
        >"$here/engine/servers"
    for one in "$@"; do
        printf '3 %s 1 %s 10.0.0.2 %s 0 100 100\n' "${one%%/*}" "$(cut -d/ -f2 <<<"${one%=*}")" "${one#*=}"
    done >>"$here/engine/servers"
}

page_is() {
    printf '%s now=1\n' "$1" >"$here/engine/page"
}

stopped() {
    grep -c '^stop ' "$here/engine/calls" || true
}

@test "the canary is not stopped while it alone serves, whatever its share is" {
    page_is 'share_bp=0 epoch=0 expires=0'
    servers_are be_stable/stable1=2 be_stable/stable2=0 be_stable/canary1_backup=2 be_canary/canary1=2
    run -0 stack stop canary
    [ "$(stopped)" = 2 ]
    servers_are be_stable/stable1=0 be_stable/stable2=0 be_stable/canary1_backup=2 be_canary/canary1=2
    run -75 stack stop canary
    [[ $output == *"no stable server is up"* ]]
    [ "$(stopped)" = 2 ]
    run -0 stack stop canary --force
    [ "$(stopped)" = 4 ]
}

@test "stable is stopped only when all traffic is on a canary that is up" {
    servers_are be_stable/stable1=2 be_canary/canary1=2
    page_is 'share_bp=5000 epoch=0 expires=0'
    run -75 stack stop stable
    page_is 'share_bp=10000 epoch=0 expires=0'
    run -0 stack stop stable
    servers_are be_stable/stable1=2 be_canary/canary1=0 be_canary/stable1_backup=2
    run -75 stack stop stable
    [ "$(stopped)" = 2 ]
}

@test "a colour is stopped only when it has no weight" {
    echo STRATEGY=blue-green >>"$here/ours.conf"
    servers_are be_colours/blue1=2 be_colours/green1=2
    page_is 'blue=0 green=200'
    run -0 stack stop blue
    run -75 stack stop green
    page_is 'blue=100 green=100'
    run -75 stack stop blue
    [ "$(stopped)" = 2 ]
}

@test "what HAProxy does not say is no leave to stop; but a HAProxy that does not run has no users" {
    for slot in stable canary; do
        run -75 stack stop "$slot"
        [[ $output == *"HAProxy does not say"* ]]
    done
    page_is 'share_bp=0 epoch=0 expires=0'
    run -75 stack stop canary
    echo 'restarting unhealthy' >"$here/engine/haproxy.state"
    run -75 stack stop stable
    [ "$(stopped)" = 0 ]
    echo 'exited ' >"$here/engine/haproxy.state"
    run -0 stack stop stable
    [ "$(stopped)" = 2 ]
}

@test "what is stopped already needs nobody's leave" {
    echo 'exited ' | tee "$here/engine/shop-canary-1.state" >"$here/engine/shop-canary-2.state"
    run -0 stack stop canary
    [ "$(stopped)" = 0 ]
}

@test "rollback.sh's last way stops the slot all the same, as the settings have it" {
    command=$(sed -n 's/^STOP_COMMAND=//p' "$HALDANE_SOURCE/deployment/deployment.conf")
    cd "$HALDANE_SOURCE"
    export HALDANE_DEPLOYMENT_CONF=$here/ours.conf SLOT=canary
    run -75 bash -c "$command"
    FORCE_STOP=yes run -0 bash -c "$command"
    [ "$(stopped)" = 2 ]
}

@test "data is deleted by name, or with --yes" {
    echo STABLE=1.0.0 >"$here/state/versions"
    run -77 stack down --volumes
    [[ $output == *"all data of the stack ours"* ]]
    run ! grep -q volumes "$here/engine/calls"
    # On a terminal.
    terminal="$HALDANE_SOURCE/deployment/stack.sh --config $here/ours.conf down --volumes"
    run -77 script -qec "$terminal" /dev/null <<<'theirs'
    [[ $output == *"Type its name"* ]]
    run ! grep -q volumes "$here/engine/calls"
    run -0 script -qec "$terminal" /dev/null <<<'ours'
    grep -q 'down --remove-orphans --volumes' "$here/engine/calls"
    [ ! -e "$here/state/versions" ]
    run -0 stack down
    run -0 stack down --volumes --yes
    [ "$(grep -c 'down --remove-orphans --volumes' "$here/engine/calls")" = 2 ]
}

@test "the memory of one stack is refused to another" {
    run -0 stack init
    [ "$(<"$here/state/project")" = ours ]
    run -0 stack init
    sed 's/^PROJECT=.*/PROJECT=theirs/' "$here/ours.conf" >"$here/theirs.conf"
    run -65 "$HALDANE_SOURCE/deployment/stack.sh" --config "$here/theirs.conf" status
    [[ $output == *"theirs.conf:2: STATE_DIR is"*"the stack 'ours' has its memory there"* ]]
    run -65 "$HALDANE_SOURCE/deployment/blue-green.sh" --config "$here/theirs.conf" --status
    # With its data it gives the folder up.
    run -0 stack down --volumes --yes
    run -0 "$HALDANE_SOURCE/deployment/stack.sh" --config "$here/theirs.conf" init
}

@test "haldane gets the settings that are named, and no other" {
    export LIVE=blue STEP='5 %' OTHER=1 HALDANE_SETTINGS='STEP LIMIT'
    run -0 stack haldane status
    [[ $output == *'STEP=5 %'* && $output == *LIVE=blue* && $output != *OTHER* && $output != *LIMIT* ]]
}

@test "staging runs the migrations as the settings say, and the old version on what they leave" {
    printf '%s\n' IMAGE_CHECK_COMMAND=true STAGING_PROJECT=ours-staging \
        "MIGRATE_COMMAND=echo \"run \$VERSION\" >>$here/done; touch $here/run" \
        "MIGRATE_DRY_COMMAND=[ -e $here/run ] || echo 002.sql; echo noise >&2" \
        "SMOKE_COMMAND=echo \"smoke \$VERSION\" >>$here/done" >>"$here/ours.conf"
    staging() {
        "$HALDANE_SOURCE/deployment/staging.sh" --config "$here/ours.conf" --version 2.0.0 --base 1.0.0 \
            --only migrations "$@"
    }
    run -0 --separate-stderr staging
    [ "$(<"$here/done")" = $'run 2.0.0\nrun 2.0.0\nsmoke 1.0.0' ]
    [[ $output == *'1 lines of a dry run'* ]]
    run ! grep -q '^run \|^compose' "$here/engine/calls"
    # What is pending afterwards fails it.
    echo 'MIGRATE_DRY_COMMAND=date +%N' >>"$here/ours.conf"
    sed -i '0,/^MIGRATE_DRY_COMMAND/{/^MIGRATE_DRY_COMMAND/d}' "$here/ours.conf"
    run -1 staging
    [[ $output == *'are pending after they were run'* ]]
    echo MIGRATE_COMMAND= >>"$here/ours.conf"
    sed -i '0,/^MIGRATE_COMMAND/{/^MIGRATE_COMMAND/d}' "$here/ours.conf"
    run -0 --separate-stderr staging
    [[ $output == *'there are none'* ]]
}

# docker compose v2 refuses a service that has limits in both ways, and docker-compose 1.29 knows none of processes in
# the other one.
@test "no service has limits in two ways" {
    run ! grep -En '^ *deploy:' "$HALDANE_SOURCE"/compose/docker-compose.*.yml
    # Every service of production gets them all, by itself or by what it is a copy of.
    for key in cpus mem_limit mem_reservation; do
        [ "$(grep -cE "^ *$key: " "$HALDANE_SOURCE/compose/docker-compose.prod.yml")" = 10 ]
        [ "$(grep -cE "^ *$key: " "$HALDANE_SOURCE/compose/docker-compose.staging.yml")" = 5 ]
    done
}
