#!/usr/bin/env bats
#
# canary.sh with settings, with the real haldane, Prometheus, HAProxy (by map) and shops: a new version goes all the way
# from nothing to stable, under load, and no customer loses a request over it, also if canary.sh is killed again and
# again on the way.

# shellcheck disable=SC2154 # variables of stack.bash and deployment.bash
load stack
load deployment

setup_file() {
    export DEMO_RATE=300 DEMO_LATENCY_MEDIAN=10ms DEMO_BALANCER=map DEMO_FAILURE_SHARE=0%
    stack_start
}

teardown_file() {
    stack_stop
}

setup() {
    # Stable is what the test before has made of it.
    # shellcheck disable=SC2034 # for stack_mend
    ((BATS_TEST_NUMBER == 1)) || stack_replaced=yes
    deployment_begin
    canary=$stack_source/deployment/canary.sh
    policy_write "${by_map/@RUN@/$DEMO_RUN}"
    settings_write
    stack load --post-share 50%
    stack_seen
}

teardown() {
    deployment_end
}

# Everybody is served by stable, and stable is the new version.
stable_is() {
    local try answer
    curl -fsS --noproxy '*' "http://127.0.0.1:$DEMO_OPS_PORT/haldane/share" | grep -q '^share_bp=0 '
    for ((try = 0; try < 50; try++)); do
        answer=$(curl -fsS --noproxy '*' -o /dev/null -D - "http://127.0.0.1:$DEMO_WEB_PORT/")
        grep -qi "^x-version: $1" <<<"$answer"
    done
    for port in "$DEMO_STABLE1_PORT" "$DEMO_STABLE2_PORT"; do
        curl -fsS --noproxy '*' -o /dev/null -D - "http://127.0.0.1:$port/" | grep -qi "^x-version: $1"
    done
}

@test "a good version: checked, deployed, tried, proven, brought to stable one by one, and no request is lost" {
    run "$canary" --config "$settings_file" --version v2 3>&-
    echo "$output" | tail -n 40
    [[ $status -eq 0 ]]
    stable_is v2
    ! canary_runs || false
    nothing_lost
    grep -qx 'LAST_GOOD=v2' "$BATS_TEST_TMPDIR/state/versions"
    jq -e '.outcome == "promoted" and (.phases | map(select(.result != "ok")) == [])' "$(record_of canary)/record.json"
    grep -q '<html' "$(record_of canary)/report.html"
}

# killed_at TEXT: starts or takes up the deployment, and kills all of canary.sh when its log says so.
killed_at() {
    local at=$1
    shift
    setsid "$canary" --config "$settings_file" "$@" >/dev/null 2>&1 3>&- &
    wait_said "$at"
    kill -KILL -- "-$!"
    wait "$!" || true
}

@test "killed in phase after phase and taken up each time: the version still becomes stable, and nothing is lost" {
    killed_at 'deploying the canary' --version v2
    killed_at 'trying the canary' --resume
    killed_at 'rollout .* the canary at 25' --resume
    killed_at 'Bringing stable to it' --resume
    killed_at 'trying stable' --resume
    run "$canary" --config "$settings_file" --resume 3>&-
    [[ $status -eq 0 ]]
    stable_is v2
    ! canary_runs || false
    nothing_lost
    [[ $(haldane list --format json | wc -l) -eq 1 ]]
    jq -e '.outcome == "promoted" and .resumed == 5' "$(record_of canary)/record.json"
}

@test "stable cannot be brought along: users stay on the proven canary; mended, it is taken up" {
    touch full
    settings_write "DEPLOY_COMMAND=[ \"\$SLOT\" = canary -o ! -e $BATS_TEST_TMPDIR/full ] && \
$stack_source/tests/integration/demo_deploy.sh deploy \"\$SLOT\" \"\$VERSION\""
    run "$canary" --config "$settings_file" --version v2 3>&-
    [[ $status -eq 10 ]]
    curl -fsS --noproxy '*' "http://127.0.0.1:$DEMO_OPS_PORT/haldane/share" | grep -q '^share_bp=10000 '
    rm full
    run "$canary" --config "$settings_file" --resume 3>&-
    [[ $status -eq 0 ]]
    stable_is v2
    nothing_lost
}
