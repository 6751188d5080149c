#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2154 # jq is quoted so; $id, $output and $stderr come from scenario.bash and run
#
# A rollout from end to end, under the demo's own policy: errors and latency, 5 > 25 > 50 > 100 %. What must hold for a
# user: a good canary gets all traffic, a failing or slow one ends with none, the customers lose nothing over it, and
# what was decided can be decided again from what was recorded.

load scenario

setup_file() {
    export DEMO_RATE=900
    scenarios_start
}

teardown_file() {
    stack_stop
}

setup() {
    scenario_begin
    demo=$stack_source/policies/demo.yaml
    stack stop load
    stack load
}

teardown() {
    scenario_end
}

# failures_are_the_shops_own BEFORE: those that the load generator saw are those that the shops gave since, one by one.
failures_are_the_shops_own() {
    local port seen=0 given=0
    seen=$(jq '.status["500"] // 0' "$DEMO_RUN/load.json")
    for port in "$DEMO_STABLE1_PORT" "$DEMO_STABLE2_PORT" "$DEMO_CANARY1_PORT"; do
        given=$((given + $(metric "$port" http_requests_total 'code="500"')))
    done
    [[ $seen -eq $((given - $1)) ]] || {
        echo "$seen failures were seen, $((given - $1)) were given"
        return 1
    }
}

# Of the stable shops, before the load began.
failures_so_far() {
    local port sum=0
    for port in "$DEMO_STABLE1_PORT" "$DEMO_STABLE2_PORT"; do
        sum=$((sum + $(metric "$port" http_requests_total 'code="500"')))
    done
    echo "$sum"
}

# live_is_replayed CODE: the verdicts in the store are those that the evidence gives again, byte for byte, and the last
# one is judge's.
live_is_replayed() {
    haldane report "$id" --evidence -o evidence.json
    sql "SELECT json FROM verdicts ORDER BY look" >live
    run -"$1" haldane replay "$demo" --evidence evidence.json --format json
    printf '%s\n' "$output" | diff live - >&2
    run -"$1" haldane judge "$demo" --evidence evidence.json --format json
    diff <(tail -n 1 live) - <<<"$output" >&2
}

@test "a good canary is promoted: 5, 25, 50, 100 %, nothing is lost, and a replay decides the same" {
    local before
    stack stop load
    before=$(failures_so_far)
    stack load
    canary
    haldane_says 0 rollout "$demo" --format json
    answer '.state == "promoted" and .decision == "promote" and .weight == 10000'
    id=$(field rollout)
    shows 100
    record_is_whole
    [[ $(sql "SELECT group_concat(weight_bp) FROM weights ORDER BY from_ms") == 500,2500,5000,10000 ]]
    nothing_lost
    failures_are_the_shops_own "$before"
    live_is_replayed 0
}

@test "a canary that fails 3 % of its requests is aborted, and the balancer shows 0 %" {
    canary --failure-share 3%
    haldane_says 20 rollout "$demo" --format json
    answer '.state == "aborted" and .cause == "harmed" and .weight == 0'
    answer '.reason | test("canary fails")'
    id=$(field rollout)
    shows 0
    audit aborted 'proven to be on stable'
    record_is_whole
    nothing_lost
    live_is_replayed 20

    # The same window and a little more from Prometheus, without a record of looks: other bounds, the same decision.
    local begun
    begun=$(sql "SELECT min(from_ms) / 1000 FROM weights")
    # Long enough that chance cannot leave the evidence short of its limit.
    haldane traffic set 25% "$demo"
    sleep 20
    haldane traffic stable "$demo"
    haldane_says 20 judge "$demo" --since "$begun" --weight 25% --format json
    answer '.decision == "abort"'
}

@test "a canary that is 1.4 times as slow is aborted, and the balancer shows 0 %" {
    canary --latency-factor 1.4
    haldane_says 20 rollout "$demo" --format json
    answer '.state == "aborted" and .cause == "harmed" and .weight == 0'
    answer '.reason | test("takes .* as long as stable")'
    id=$(field rollout)
    shows 0
    record_is_whole
    nothing_lost
    live_is_replayed 20
}
