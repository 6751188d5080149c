#!/usr/bin/env bats
#
# rollback.sh by each of its ways, with the real HAProxy (by map), haldane and shops, under load: whatever is missing,
# users end up on stable, it is proven, and the exit code never says so when it is not.

# shellcheck disable=SC2154 # variables of stack.bash and deployment.bash
load stack
load deployment

setup_file() {
    export DEMO_RATE=200 DEMO_LATENCY_MEDIAN=5ms DEMO_BALANCER=map DEMO_FAILURE_SHARE=0%
    stack_start
}

teardown_file() {
    stack_stop
}

setup() {
    deployment_begin
    rollback=$stack_source/deployment/rollback.sh
    policy_write "${by_map/@RUN@/$DEMO_RUN}"
    settings_write
    haldane traffic stable policy.yaml
    stack load --post-share 30%
    stack_seen
}

teardown() {
    haldane abort "$SERVICE" --reason 'the test is over' >/dev/null 2>&1 || true
    deployment_end
}

# A canary that has a quarter of the traffic, by a rollout that is under way.
canary_at_25() {
    stack canary
    begun 2500
}

begun() {
    local try
    for ((try = 0; try < 50; try++)); do
        ! haldane begin policy.yaml >begun 2>&1 || break
        sleep 0.2
    done
    share_is "$1"
}

share_is() {
    curl -fsS --noproxy '*' "http://127.0.0.1:$DEMO_OPS_PORT/haldane/share" | grep -q "^share_bp=$1 "
}

state() {
    haldane status "$SERVICE" --format json | jq -r .state
}

roll_back() {
    run "$rollback" --config "$settings_file" "$@" 3>&-
    echo "$output" | tail -n 40
}

proven() {
    [[ $output == *'proof: all 100 requests were answered by stable'* ]]
}

file_says_0() {
    grep -qx 'canary 0' "$DEMO_RUN/share.map"
}

@test "by haldane: the rollout is aborted, stable has all, nothing is lost; again: nothing is changed" {
    canary_at_25
    roll_back --reason 'a customer called'
    [[ $status -eq 0 ]]
    proven
    [[ $output == *'rolled back by haldane'* ]]
    share_is 0
    file_says_0
    [[ $(state) == aborted ]]
    jq -e '.outcome == "on_stable" and .reason == "a customer called"' "$(record_of rollback)/record.json"
    roll_back
    [[ $status -eq 0 ]]
    proven
    [[ $output == *'nothing was changed'* ]]
    nothing_lost
}

@test "haldane is not there: by the balancer's socket, and its file too" {
    canary_at_25
    settings_write HALDANE_COMMAND=/nowhere/haldane
    roll_back
    [[ $status -eq 0 ]]
    proven
    [[ $output == *'rolled back by socket'* ]]
    share_is 0
    file_says_0
    nothing_lost
}

@test "haldane and the socket are not there: by the file and a reload" {
    canary_at_25
    settings_write HALDANE_COMMAND=/nowhere/haldane BALANCER_COMMAND=false
    roll_back
    [[ $status -eq 0 ]]
    proven
    [[ $output == *'rolled back by file'* ]]
    share_is 0
    file_says_0
    grep -q '^epoch [1-9]' "$DEMO_RUN/share.map"
}

@test "only the canary can be stopped: HAProxy falls back, and it is said that the split still names it" {
    canary_at_25
    settings_write HALDANE_COMMAND=/nowhere/haldane BALANCER_COMMAND=false BALANCER_SHELL=false
    roll_back
    [[ $status -eq 0 ]]
    proven
    [[ $output == *'rolled back by stop'* ]]
    [[ $output == *'the split would still give it a share'* ]]
    ! canary_runs || false
    nothing_lost
}

@test "nothing works: exit 69, loud, with the commands for a person" {
    canary_at_25
    settings_write HALDANE_COMMAND=/nowhere/haldane BALANCER_COMMAND=false BALANCER_SHELL=false STOP_COMMAND=false
    roll_back --now
    [[ $status -eq 69 ]]
    [[ $output == *'NOT PROVEN: USERS MAY STILL GET canary'* ]]
    [[ $output == *"echo 'set map $DEMO_RUN/share.map canary 0'"* ]]
    jq -e '.outcome == "unproven" and .exit_code == 69' "$(record_of rollback)/record.json"
}

@test "the socket says yes and haldane sets its share again: what is asked is the balancer, not the answer" {
    canary_at_25
    settings_write HALDANE_COMMAND=/nowhere/haldane "BALANCER_COMMAND=echo" BALANCER_SHELL=false STOP_COMMAND=true
    roll_back
    [[ $status -eq 69 ]]
}

@test "stable is dead: its traffic is not taken from the canary, which is all that serves" {
    canary_at_25
    stack stop load
    stack stop stable1
    stack stop stable2
    sleep 2
    roll_back
    [[ $status -eq 69 ]]
    [[ $output == *'WAKE SOMEBODY'* ]]
    canary_runs
    curl -fsS --noproxy '*' -o /dev/null "http://127.0.0.1:$DEMO_WEB_PORT/"
    "$stack_source/tests/integration/demo_deploy.sh" deploy stable v1
    roll_back
    [[ $status -eq 0 ]]
    proven
}

@test "while canary.sh runs: it is told, ends with 20, and the canary is stopped" {
    local code=0
    "$stack_source/deployment/canary.sh" --config "$settings_file" --version v2 >/dev/null 2>&1 3>&- &
    wait_said 'rollout .* the canary at 25'
    roll_back
    [[ $status -eq 0 ]]
    proven
    wait $! || code=$?
    [[ $code -eq 20 ]]
    share_is 0
    ! canary_runs || false
    nothing_lost
}

@test "a canary.sh that was killed is closed: the next deployment may begin" {
    setsid "$stack_source/deployment/canary.sh" --config "$settings_file" --version v2 >/dev/null 2>&1 3>&- &
    wait_said 'rollout .* the canary at 25'
    kill -KILL -- "-$!"
    wait $! || true
    roll_back
    [[ $status -eq 0 ]]
    run "$stack_source/deployment/canary.sh" --config "$settings_file" --resume 3>&-
    [[ $status -eq 66 ]]
}

@test "--to: stable is brought to the version, one by one, and must answer with it" {
    mkdir -p state
    printf 'STABLE=v1\nLAST_GOOD=v1\n' >state/versions
    "$stack_source/tests/integration/demo_deploy.sh" deploy stable v1.1
    settings_write PROOF_VALUE=v1
    roll_back --to last-good
    [[ $status -eq 0 ]]
    [[ $output == *'bringing stable to version v1'* ]]
    [[ $output == *'proven: all traffic is on stable, version v1'* ]]
    nothing_lost
    roll_back --to last-good
    [[ $status -eq 0 ]]
    [[ $output == *'nothing was changed'* && $output != *'bringing stable'* ]]
    roll_back --to previous
    [[ $status -eq 66 ]]
}

@test "no record can be written: it goes on without" {
    canary_at_25
    touch file
    settings_write RECORDS_DIR="$BATS_TEST_TMPDIR/file/records"
    roll_back
    [[ $status -eq 0 ]]
    [[ $output == *'going on without'* ]]
    share_is 0
}

@test "a dry run says how things are and what would be done, and changes nothing" {
    canary_at_25
    roll_back --dry-run
    [[ $status -eq 0 ]]
    [[ $output == *"set map $DEMO_RUN/share.map canary 0"* ]]
    [[ $output == *'25.00 % for canary'* ]]
    share_is 2500
    [[ ! -e $records ]]
}

@test "wrong usage is 64" {
    local arguments
    for arguments in '--nonsense' 'now' '--way sideways' '--requests 0' '--to' '--set a-b=c'; do
        # shellcheck disable=SC2086 # the words of each line are the arguments
        run "$rollback" --config "$settings_file" $arguments
        [[ $status -eq 64 ]]
        [[ $output == *'see rollback.sh --help'* ]]
    done
}

@test "a canary that is down by itself is no proof: it may be up again in a moment, with its share" {
    canary_at_25
    stack_end canary1
    settings_write HALDANE_COMMAND=/nowhere/haldane BALANCER_COMMAND=false BALANCER_SHELL=false STOP_COMMAND=false
    roll_back --now
    [[ $status -eq 69 ]]
    [[ $output == *'25.00 % for canary'* ]]
    ! proven || false
}

@test "what a killed deployment left running is ended, and its record closed" {
    local folder=$records/20260101T000000Z-policy-1 child
    mkdir -p "$folder"
    echo '{"strategy":"canary","name":"policy","stage":"deployed"}' >"$folder/state.json"
    setsid sleep 300 3>&- &
    child=$!
    sleep 0.1
    echo "$child $(cut -d ' ' -f 22 "/proc/$child/stat")" >"$folder/.child"
    roll_back
    ! kill -KILL "$child" 2>/dev/null || false # it is gone; and if not, it is not left behind
    [[ $status -eq 0 ]]
    jq -e '.outcome == "on_stable"' "$folder/state.json"
}

@test "--to: a deployment that lives is waited for; a version that cannot be brought is told, and no alarm is made of it" {
    local folder=$records/20260101T000000Z-policy-1 holder
    mkdir -p "$folder" state
    echo '{"strategy":"canary","name":"policy","stage":"deployed"}' >"$folder/state.json"
    printf 'STABLE=v1\nLAST_GOOD=v1\n' >state/versions
    # Until it is seen to wait, however slow the machine is; with --now it goes on after five seconds.
    flock --no-fork "$records/.policy.lock" sleep 120 3>&- &
    holder=$!
    while flock --nonblock "$records/.policy.lock" true; do sleep 0.05; done
    settings_write "DEPLOY_COMMAND=echo the stack is being changed; exit 75"
    roll_back --to v1.1 --now
    [[ $status -eq 1 ]]
    [[ $output == *'waiting for the deployment'*'ALL TRAFFIC IS PROVEN TO BE ON stable, BUT IT IS NOT AT VERSION v1.1'* ]]
    [[ $output != *'NOT PROVEN'* ]]
    jq -e '.outcome == "unfinished" and .exit_code == 1' "$(record_of rollback)/record.json"
    kill "$holder"
}

@test "--to previous: afterwards the memory calls it the last good one, and knows none before it" {
    mkdir -p state
    printf 'STABLE=v2\nLAST_GOOD=v2\nPREVIOUS_GOOD=v1\n' >state/versions
    roll_back --to previous
    [[ $status -eq 0 ]]
    grep -qx LAST_GOOD=v1 state/versions
    ! grep -q PREVIOUS_GOOD state/versions || false
}
