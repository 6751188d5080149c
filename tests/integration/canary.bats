#!/usr/bin/env bats
#
# canary.sh from end to end with the real things: haldane, Prometheus, HAProxy, the shop and steady traffic. What must
# hold for a user: a good canary gets all traffic, a bad one ends with none, whatever breaks on the way ends on stable
# or says loudly that it could not; and the customers lose no request over it.

# shellcheck disable=SC2154 # variables of stack.bash and deployment.bash
load stack
load deployment

setup_file() {
    export DEMO_RATE=400 DEMO_LATENCY_MEDIAN=10ms
    stack_start
}

teardown_file() {
    stack_stop
}

setup() {
    deployment_begin
    canary=$stack_source/deployment/canary.sh
    stack_sh=$stack_source/compose/demo/stack.sh
    # shellcheck disable=SC2016 # the policy's own setting
    policy_write "$by_weights" '${SERVICE}'
    haldane traffic stable policy.yaml
    unset HALDANE_DB # canary.sh is told
    stack load
    stack_seen
}

teardown() {
    if [[ -n ${canary_pid:-} ]]; then
        kill -TERM "$canary_pid" 2>/dev/null || true
        wait "$canary_pid" || true
    fi
    deployment_end
}

# A canary of the shop with the given faults, rolled out. Options of canary.sh come after `--`.
options_for() {
    local shop=()
    while (($# > 0)) && [[ $1 != -- ]]; do
        shop+=("$1")
        shift
    done
    shift || true
    options=(--policy policy.yaml --db haldane.db --log-dir "$records" --poll 1 --set "SERVICE=$SERVICE"
        --deploy "$stack_sh canary ${shop[*]}" --health "http://127.0.0.1:$DEMO_CANARY1_PORT/readyz"
        --cleanup "$stack_sh stop canary1" "$@")
}

roll_out() {
    options_for "$@"
    run "$canary" "${options[@]}" 3>&-
}

start_roll_out() {
    options_for "$@"
    "$canary" "${options[@]}" >/dev/null 2>&1 3>&- &
    canary_pid=$!
}

ends_with() {
    local code=0
    wait "$canary_pid" || code=$?
    canary_pid=''
    echo "canary.sh ended with $code"
    [[ $code -eq $1 ]]
}

all_on_stable() {
    [[ $(weight canary1) -eq 0 ]]
    [[ $(weight stable1) -gt 0 ]]
    [[ $(weight stable2) -gt 0 ]]
}

@test "a good canary is promoted: exit 0, all traffic on it, nothing lost, the report is there" {
    roll_out
    [[ $status -eq 0 ]]
    [[ $(weight canary1) -gt 0 ]]
    [[ $(weight stable1) -eq 0 ]]
    [[ $(weight stable2) -eq 0 ]]
    canary_runs
    grep -q '<html' "$(record_of canary)/report.html"
    nothing_lost
}

@test "a failing canary is aborted: exit 20, no traffic on it, nothing lost, cleaned up" {
    roll_out --failure-share 20%
    [[ $status -eq 20 ]]
    all_on_stable
    ! canary_runs || false
    grep -q '<html' "$(record_of canary)/report.html"
    nothing_lost
}

@test "TERM during the rollout: exit 20, no traffic on the canary, the rollout is closed" {
    start_roll_out
    wait_said 'rollout .* canary at 25'
    [[ $(weight canary1) -gt 0 ]]
    kill -TERM "$canary_pid"
    ends_with 20
    all_on_stable
    ! canary_runs || false
    # The service is free again: the next rollout may begin.
    roll_out --failure-share 20%
    [[ $status -eq 20 ]]
}

@test "the canary dies during the rollout: its health aborts it, exit 20" {
    start_roll_out
    wait_said 'rollout .* canary at 25'
    stack stop canary1
    ends_with 20
    all_on_stable
    nothing_lost
}

@test "the deploy command fails: exit 1, the balancer was not touched" {
    run "$canary" --policy policy.yaml --set "SERVICE=$SERVICE" --db haldane.db --log-dir "$records" --deploy false
    [[ $status -eq 1 ]]
    all_on_stable
}

@test "a dry run changes nothing" {
    roll_out -- --dry-run
    [[ $status -eq 0 ]]
    all_on_stable
    ! canary_runs || false
    [[ ! -e haldane.db && ! -e $records ]]
}

@test "Prometheus is gone during the rollout: waited for, then back on stable" {
    start_roll_out -- --max-unreachable 5s
    wait_said 'rollout .* canary at 25'
    stack stop prometheus
    local code=0
    wait "$canary_pid" || code=$?
    canary_pid=''
    [[ $code -eq 20 || $code -eq 69 ]]
    all_on_stable
    nothing_lost
}

@test "the balancer is gone during the rollout: exit 69, loud, with the commands for a person" {
    start_roll_out -- --max-unreachable 5s
    wait_said 'rollout .* canary at 25'
    stack stop load
    stack stop haproxy
    ends_with 69
    said 'THE CANARY MAY STILL GET TRAFFIC'
    said "haldane traffic stable $(pwd)/policy.yaml"
    canary_runs
}
