#!/usr/bin/env bats
#
# rollback.sh where the split is by weights: past haldane at the socket, stable first, and by the server-state-file.

# shellcheck disable=SC2154 # variables of stack.bash and deployment.bash
load stack
load deployment

setup_file() {
    export DEMO_RATE=200 DEMO_LATENCY_MEDIAN=5ms DEMO_BALANCER=weights DEMO_FAILURE_SHARE=0%
    stack_start
}

teardown_file() {
    stack_stop
}

setup() {
    deployment_begin
    rollback=$stack_source/deployment/rollback.sh
    policy_write "$by_weights"
    settings_write SHARE_MAP= 'BALANCER_STABLE=shop/stable1 shop/stable2' BALANCER_CANARY=shop/canary1 \
        PROOF_HEADER=X-LB-Track 'PROOF_VALUE={slot}'
    haldane traffic stable policy.yaml
    stack canary
    stack load --post-share 30%
    sleep 1.5
    haldane traffic set 25% policy.yaml
}

teardown() {
    deployment_end
}

roll_back() {
    run "$rollback" --config "$settings_file" 3>&-
    echo "$output" | tail -n 40
}

@test "by haldane" {
    roll_back
    [[ $status -eq 0 ]]
    [[ $(weight canary1) -eq 0 ]]
    nothing_lost
}

@test "by the socket: stable is raised before the canary is lowered, and nothing is lost" {
    haldane traffic set 100% policy.yaml
    [[ $(weight stable1) -eq 0 ]]
    settings_write SHARE_MAP= 'BALANCER_STABLE=shop/stable1 shop/stable2' BALANCER_CANARY=shop/canary1 \
        PROOF_HEADER=X-LB-Track 'PROOF_VALUE={slot}' HALDANE_COMMAND=/nowhere/haldane
    roll_back
    [[ $status -eq 0 ]]
    [[ $(weight canary1) -eq 0 && $(weight stable1) -eq 100 && $(weight stable2) -eq 100 ]]
    nothing_lost
}
