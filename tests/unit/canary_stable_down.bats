#!/usr/bin/env bats
#
# canary.sh where no server of stable is up. The balancer then has the canary serve in its place, whatever its share: a
# share of 0 is no proof, and the canary must not be stopped.

# shellcheck disable=SC2154 # variables of canary/strategy.bash
load canary/strategy

setup() {
    strategy_begin
}

down='0 {"weight":0,"stable_up":0,"canary_up":2}'
well='0 {"weight":0,"stable_up":2,"canary_up":2}'

@test "a canary that fails its smoke test while stable is down is kept: exit 69; --resume stops it when stable is up" {
    step smoke-canary 'exit 1'
    plays traffic-get "$well" "$down"
    run_canary --version 2
    echo "$output"
    [ "$status" -eq 69 ]
    [[ $output == *'NO SERVER OF STABLE IS UP'*'Do not stop the canary'* ]]
    never said '^stop canary'
    [ "$(told .outcome)" = unproven ]
    plays traffic-get "$well"
    run_canary --resume
    [ "$status" -eq 1 ]
    said '^stop canary'
}

@test "haldane has aborted, and stable is down: not proven, the canary is kept, exit 69" {
    plays advance "$aborted"
    plays traffic-get "$well" "$down"
    run_canary --version 2
    echo "$output"
    [ "$status" -eq 69 ]
    never said '^stop canary'
    [[ $output == *'NO SERVER OF STABLE IS UP'* ]]
    never grep -q 'all traffic is on stable, as the balancer' <<<"$output"
}

@test "stable goes down when it has its traffic back: the canary is kept, exit 10, and --resume stops it" {
    plays traffic-get "$well" '0 {"weight":10000,"stable_up":2}' "$well" "$down"
    run_canary --version 2
    echo "$output"
    [ "$status" -eq 10 ]
    never said '^stop canary'
    plays traffic-get "$well"
    run_canary --resume
    [ "$status" -eq 0 ]
    said '^stop canary'
}

@test "a rollback that is not proven at once: a person is called after the first try, and it goes on" {
    plays advance "$aborted"
    plays traffic-get "$well" '0 {"weight":500}' '0 {"weight":500}' '0 {"weight":500}' "$well"
    run_canary --version 2
    echo "$output"
    [ "$status" -eq 20 ]
    [[ $output == *'A person is needed, now.'*'PROVEN AFTER ALL (try 2 of 3)'*'all traffic is on stable'* ]]
    said '^stop canary'
    [ "$(told .outcome)" = on_stable ]
}

@test "--resume after a rollback.sh that did not get through goes on: the request to stop was for the one that was killed" {
    local try
    plays advance "$stepping"
    setsid "$canary" --config "$BATS_TEST_TMPDIR/d.conf" --version 2 >/dev/null 2>&1 3>&- &
    for ((try = 0; try < 600; try++)); do
        ! said '^haldane advance' 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL -- "-$!"
    wait "$!" || true
    echo 'rolled back' >"$(record)/stop"
    plays advance "$promoted"
    run_canary --resume
    echo "$output"
    [ "$status" -eq 0 ]
    never said '^haldane abort'
}
