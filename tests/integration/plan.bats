#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # jq is quoted so; $output and $stack_source come from scenario.bash and run
#
# The plan with real servers: what Prometheus knows of stable is what is planned with.

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
    demo=$stack_source/policies/demo.yaml
}

teardown() {
    scenario_end
}

@test "plan --live: traffic, rate and instances are those of the running servers, and nothing moves" {
    wait_until 40 planned
    answer '.schema == "haldane.plan/1" and .decides and .stable_instances == 2 and .canary_instances == 1'
    answer '.requests_per_s > 200 and .requests_per_s < 400'
    answer '.metrics | map(.known) | all and length == 2'
    answer '.metrics[0].rate < 0.03'
    answer '.steps[0].left.in_time and .steps[0].left.canary_requests > 30'
    answer '.metrics[0].whole[2].caught.in_time'
    shows 0
}

# Prometheus has the looks of a history with all of the traffic.
planned() {
    run --separate-stderr haldane plan "$demo" --live --format json
    [[ $status -eq 0 ]] && jq -e '.requests_per_s > 200' <<<"$output" >/dev/null
}

@test "a step that can never decide is told with exit code 10, and with what would do" {
    policy short.yaml steps '[{weight: 1%, min: 1s, max: 8s}, {weight: 50%, min: 1s, max: 2m}, {weight: 100%, bake: 1s}]'
    run -10 haldane plan short.yaml --live
    [[ $output == *"at 1 % a healthy canary is not proven"* && $output == *"this would do"* ]]
    shows 0
}

@test "what cannot be planned: usage 64, latencies 65 and 66, no Prometheus 69" {
    refused 64 'either --live, or --rps' plan "$demo"
    refused 64 'either --live, or --rps' plan "$demo" --live --rps 100
    refused 64 'give --error-rate too' plan "$demo" --rps 100
    refused 64 'give --latency FILE too' plan "$demo" --rps 100 --error-rate 1%
    refused 64 'no number of requests' plan "$demo" --rps many --error-rate 1% --latency x
    refused 66 'cannot be read' plan "$demo" --rps 100 --error-rate 1% --latency absent.json
    echo '{"le": [1, 2], "buckets": [1, 2]}' >open.json
    refused 65 '[+]Inf' plan "$demo" --rps 100 --error-rate 1% --latency open.json
    policy nowhere.yaml prometheus http://127.0.0.1:1
    refused 69 'Prometheus' plan nowhere.yaml --live
}
