#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2154 # jq is quoted so; $output and $stderr come from scenario.bash and run
#
# Calibration on the real servers: the history of the two stable shops, one against the other.

load scenario

setup_file() {
    export DEMO_RATE=300
    scenarios_start
}

teardown_file() {
    stack_stop
}

setup() {
    scenario_begin
}

teardown() {
    scenario_end
}

# knows_stable_for N: Prometheus knows the shops for so many seconds.
knows_stable_for() {
    curl -fsS --noproxy '*' "$PROMETHEUS/api/v1/query" \
        --data-urlencode "query=min(count_over_time(up{job=\"shop\",track=\"stable\"}[$1s:1s])) >= $1 - 1" |
        jq -e '.data.result | length > 0' >/dev/null
}

@test "what cannot be calibrated is refused: too little history 65, wrong options 64, no Prometheus 69" {
    policy policy.yaml
    refused 65 'looks of stable; at least|two are needed' calibrate policy.yaml --from 3s
    refused 65 'more than half|two are needed' calibrate policy.yaml --from 36s --canaries 2
    refused 64 'either a window of time or --evidence' calibrate policy.yaml
    refused 64 'whole number of instances' calibrate policy.yaml --from 36s --canaries 0
    refused 64 'whole number from 1' calibrate policy.yaml --from 36s --runs 0
    refused 64 'does not take --every' calibrate policy.yaml --from 36s --every 5s
    policy nobody.yaml prometheus "http://127.0.0.1:$("$HALDANE_SOURCE/tests/free_ports")"
    refused 69 '' calibrate nobody.yaml --from 36s
}

# made_up_evidence FACTOR: two instances of the shop, of which the second fails so many times as often as the first.
made_up_evidence() {
    jq -nc --argjson factor "$1" '{schema: "haldane.evidence/1", service: "shop", interval_s: 1, weights: [],
        metrics: {errors: {type: "errors", intervals: [range(1; 121) | {at: (1000 + .), canary: null, stable: [
            {instance: "s1", requests: 1000, failed: (8 + . % 5)},
            {instance: "s2", requests: 1000, failed: ($factor * (8 + . % 5))}]}]}}}'
}

@test "evidence instead of Prometheus: alike 0, not alike 10 with what would help" {
    policy short.yaml steps '[{weight: 50%, min: 1s, max: 20s}, {weight: 100%, bake: 1m}]'
    made_up_evidence 1 >alike.json
    made_up_evidence 1.5 | jq -c '(.. | .failed? | numbers) |= round' >apart.json
    haldane_says 0 calibrate short.yaml --evidence alike.json
    haldane_says 10 calibrate short.yaml --evidence apart.json
    [[ $output == *"does not keep its promise"* && $output == *"errors: abort_above: {ratio: "* ]]
    haldane_says 10 calibrate short.yaml --evidence apart.json --seed 5 --format json
    answer '.policy.keeps == false and .recommended.keeps and .recommended.abort_above[0].ratio >= 1.25'
    local first=$output
    haldane_says 10 calibrate short.yaml --evidence - --seed 5 --format json <apart.json
    [[ $output == "$first" ]]
}

@test "shops that are alike keep the demo's policy, and the same seed says so again" {
    local demo=$BATS_TEST_DIRNAME/../../policies/demo.yaml
    wait_until 40 knows_stable_for 38
    haldane_says 0 calibrate "$demo" --from 17s --runs 200 --format json
    answer '.schema == "haldane.calibration/1" and .service == "shop"
        and .stable_instances == 2 and .canary_instances == 1 and .planned_s == 360 and .rollout_s >= 10
        and .policy.keeps and .policy.false_aborts == 0 and .policy.limit == 0.05
        and ([.metrics[].name] == ["errors", "latency"]) and (.warnings | length > 0)'
    # Each shop against the other, from every beginning that there is.
    answer '.looks[0].all and .looks[0].draws >= 2 and .looks[0].draws <= 200'
    answer '[.metrics[0].grid[] | select(.look_s == 1) | .ratio] == [1.1, 1.25, 1.5, 2]
        and [.metrics[1].grid[] | select(.look_s == 1) | .slower] == [0.05, 0.1, 0.2, 0.4]'

    haldane_says 0 calibrate "$demo" --from 17s
    [[ $output == "No rollout was aborted"* ]]
    [[ ${output//$'\n'/ } == *"2 instances of stable, of which 1 plays the canary"* ]]
}
