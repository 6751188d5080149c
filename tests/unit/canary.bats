#!/usr/bin/env bats
#
# Which way canary.sh takes for each answer that haldane may give. Here haldane is a player of prepared answers
# (canary/haldane); the same script with the real haldane, HAProxy and Prometheus is tests/integration/canary.bats.

setup() {
    export PLAYER=$BATS_TEST_TMPDIR/player
    mkdir "$PLAYER"
    cp "$BATS_TEST_DIRNAME/canary/haldane" "$BATS_TEST_TMPDIR/haldane"
    export PATH=$BATS_TEST_TMPDIR:$PATH
    unset HALDANE_DB HALDANE_SERVER
    canary=$BATS_TEST_DIRNAME/../../deployment/canary.sh
    policy=$BATS_TEST_TMPDIR/shop.yaml
    logs=$BATS_TEST_TMPDIR/logs
    echo 'service: shop' >"$policy"
    plays traffic-get '0 {"weight":0}'
    plays report '0 <html>'
    plays begin '10 {"rollout":"shop-1","service":"shop","state":"stepping","weight":500,"step":0}'
    stepping='10 {"rollout":"shop-1","state":"stepping","decision":"hold","weight":500,"step":0,"reason":"early"}'
    promoted='0 {"rollout":"shop-1","state":"promoted","decision":"promote","weight":10000,"step":3,"reason":"safe"}'
    aborted='20 {"rollout":"shop-1","state":"aborted","decision":"abort","weight":0,"reason":"fails 3 x as often"}'
}

# plays COMMAND LINE...: what the player answers to the command, one line a call.
plays() {
    local command=$1
    shift
    printf '%s\n' "$@" >"$PLAYER/$command"
}

run_canary() {
    run "$canary" --policy "$policy" --deploy 'echo deployed' --log-dir "$logs" --poll 1 \
        --cleanup "touch $BATS_TEST_TMPDIR/cleaned" "$@"
}

called() {
    grep -q -- "^$1" "$PLAYER/calls"
}

calls_of() {
    grep -c -- "^$1" "$PLAYER/calls" || true
}

cleaned() {
    [ -e "$BATS_TEST_TMPDIR/cleaned" ]
}

# The record of the only deployment.
record() {
    echo "$logs"/*-shop-*
}

# wait_for TEXT: until canary.sh has logged it.
wait_for() {
    local try
    for ((try = 0; try < 100; try++)); do
        grep -q -- "$1" "$(record)/canary.log" 2>/dev/null && return 0
        sleep 0.1
    done
    echo "never logged: $1"
    cat "$(record)/canary.log"
    return 1
}

# start_canary: in the background; its process id is in $canary_pid.
start_canary() {
    # Whoever runs the tests may have them ignore signals, as nohup does.
    env --default-signal=INT,TERM,HUP "$canary" --policy "$policy" --deploy 'echo deployed' --log-dir "$logs" --poll 1 \
        --cleanup "touch $BATS_TEST_TMPDIR/cleaned" "$@" >/dev/null 2>&1 3>&- &
    canary_pid=$!
}

# ends_with CODE: waits for the canary.sh in the background.
ends_with() {
    local code=0
    wait "$canary_pid" || code=$?
    echo "canary.sh ended with $code"
    [ "$code" -eq "$1" ]
}

# never COMMAND...: fails if the command succeeds. (A plain `! command` does not fail a bats test.)
never() {
    if "$@"; then
        echo "happened: $*"
        return 1
    fi
}

@test "promoted: exit 0, the canary stays, the report is archived" {
    plays advance "$stepping" "$promoted"
    run_canary
    [ "$status" -eq 0 ]
    called 'report shop-1 --format html'
    [ "$(cat "$(record)/report.html")" = '<html>' ]
    never called abort
    never called 'traffic stable'
    never cleaned
    grep -q deployed "$(record)/deploy.log"
}

@test "a step upward (exit 0, still stepping) is not the end" {
    plays advance '0 {"state":"stepping","decision":"promote","weight":2500,"step":1}' "$promoted"
    run_canary
    [ "$status" -eq 0 ]
    [ "$(calls_of advance)" -eq 2 ]
}

@test "aborted: exit 20, proven, cleaned up, with haldane's reason" {
    plays advance "$stepping" "$aborted"
    run_canary
    [ "$status" -eq 20 ]
    cleaned
    [[ $output == *"fails 3 x as often"* ]]
    [[ $output == *"all traffic is on stable, as the balancer itself says"* ]]
}

@test "expired is a rollback too" {
    plays advance '20 {"state":"expired","decision":"abort","weight":0,"reason":"nothing was proved in time"}'
    run_canary
    [ "$status" -eq 20 ]
    cleaned
}

@test "aborted, but the balancer still gives traffic to the canary: stable is forced and proven" {
    plays advance "$aborted"
    plays traffic-get '0 {"weight":0}' '0 {"weight":500}' '0 {"weight":500}' '0 {"weight":0}'
    run_canary
    [ "$status" -eq 20 ]
    called 'abort shop-1'
    called 'traffic stable'
    cleaned
}

@test "superseded: exit 20, and neither the newer rollout's traffic nor its canary is touched" {
    plays advance '20 {"state":"superseded","decision":"abort","weight":500,"reason":"a newer rollout was begun"}'
    plays traffic-get '0 {"weight":0}' '0 {"weight":500}'
    run_canary
    [ "$status" -eq 20 ]
    never called 'abort'
    never called 'traffic stable'
    never cleaned
    [[ $output == *"left to it: a newer rollout was begun"* ]]
}

@test "superseded while we were about to roll back: the newer rollout keeps its traffic" {
    plays advance '70'
    plays traffic-get '0 {"weight":0}' '0 {"weight":500}'
    for answer in '0 {"state":"superseded"}' '64 {"state":"superseded"}' '64'; do
        rm -rf "$PLAYER/calls" "$PLAYER"/*.count "$logs"
        plays abort "$answer"
        plays status '20 {"state":"superseded"}'
        run_canary
        [ "$status" -eq 20 ]
        called 'abort shop-1'
        never called 'traffic stable'
        never cleaned
    done
}

@test "a rollback that cannot be proven: exit 69, exact commands, and the canary is left alone" {
    plays advance "$aborted"
    plays abort 69
    plays traffic-stable 69
    plays traffic-get '0 {"weight":0}' '0 {"weight":500}'
    run_canary --set 'DC=east 1' --db "$BATS_TEST_TMPDIR/h.db"
    [ "$status" -eq 69 ]
    never cleaned
    [[ $output == *"THE CANARY MAY STILL GET TRAFFIC"* ]]
    [[ $output == *"env DC=east\\ 1 HALDANE_DB=$BATS_TEST_TMPDIR/h.db haldane traffic stable $policy"* ]]
    [[ $output == *"haldane abort shop-1"* ]]
    [[ $output == *"cleanup command was NOT run"* ]]
}

@test "no answer (69, 75, killed, out of time): waits, moves nothing, goes on" {
    plays advance 69 75 137 "$promoted"
    run_canary
    [ "$status" -eq 0 ]
    never called abort
    never called 'traffic stable'
}

@test "no answer for longer than --max-unreachable: back to stable, exit 69" {
    plays advance 69
    run_canary --max-unreachable 1s
    [ "$status" -eq 69 ]
    called 'abort shop-1'
    cleaned
    [[ $output == *"all traffic is on stable"* ]]
}

@test "while haldane's lease lives, even --max-unreachable does not roll back" {
    local lease
    lease=$(date -u -d '+15 seconds' +%Y-%m-%dT%H:%M:%S.250Z)
    plays begin "10 {\"rollout\":\"shop-1\",\"state\":\"stepping\",\"weight\":500,\"lease_until\":\"$lease\"}"
    plays advance 69 69 69 "$promoted"
    run_canary --max-unreachable 1s
    [ "$status" -eq 0 ]
    never called abort
}

@test "a fault (65, 66, 70, 74, 77) rolls back and keeps its own exit code" {
    local code
    for code in 65 66 70 74 77; do
        rm -rf "$PLAYER"/*.count "$BATS_TEST_TMPDIR/cleaned"
        plays advance "$code"
        run_canary
        [ "$status" -eq "$code" ]
        called 'abort shop-1'
        cleaned
    done
}

@test "an exit code that haldane does not have is a fault: exit 70" {
    plays advance 139
    run_canary
    [ "$status" -eq 70 ]
    called 'abort shop-1'
}

@test "a code of success without a state never looks like a verdict" {
    plays advance '0 not json'
    run_canary
    [ "$status" -eq 70 ]
    called 'abort shop-1'
    cleaned
}

@test "an exit code that contradicts the state is a fault" {
    plays advance '10 {"state":"promoted","weight":10000}'
    run_canary
    [ "$status" -eq 70 ]
    called 'abort shop-1'
}

@test "the store fails and abort with it: traffic goes back by hand" {
    plays advance 74
    plays abort 74
    plays traffic-get '0 {"weight":0}' '0 {"weight":500}' '0 {"weight":0}'
    run_canary
    [ "$status" -eq 74 ]
    called 'traffic stable'
    cleaned
}

@test "somebody promoted while we were about to roll back: the promotion stands" {
    plays advance 70
    plays abort 65
    plays status "$promoted"
    run_canary
    [ "$status" -eq 0 ]
    never called 'traffic stable'
    never cleaned
}

@test "TERM during the rollout: aborted as interrupted, proven, exit 20" {
    plays advance "$stepping"
    start_canary
    wait_for 'decision hold'
    kill -TERM "$canary_pid"
    ends_with 20
    called 'abort shop-1 --reason interrupted'
    cleaned
}

@test "HUP does the same, also when nobody reads what it says" {
    plays advance "$stepping"
    start_canary
    wait_for 'decision hold'
    kill -HUP "$canary_pid"
    ends_with 20
    called 'abort shop-1 --reason interrupted'
}

@test "a signal while haldane is at work waits for its answer; a promotion stands" {
    plays advance "sleep=2 $promoted"
    start_canary
    wait_for 'rollout shop-1'
    sleep 0.5
    kill -TERM "$canary_pid"
    ends_with 0
    never called abort
}

@test "a signal while the rollout begins: the rollout is closed" {
    plays begin "sleep=2 $(cat "$PLAYER/begin")"
    plays advance "$stepping"
    start_canary
    wait_for 'beginning the rollout'
    sleep 0.5
    kill -TERM "$canary_pid"
    ends_with 20
    called 'abort shop-1 --reason interrupted'
}

@test "a signal during the deploy command ends it and all it started: exit 143, nothing moved" {
    start_canary --deploy "sleep 61 & echo \$! >$BATS_TEST_TMPDIR/pid; wait"
    wait_for 'deploying the canary'
    while [ ! -s "$BATS_TEST_TMPDIR/pid" ]; do sleep 0.1; done
    kill -TERM "$canary_pid"
    ends_with 143
    never kill -0 "$(cat "$BATS_TEST_TMPDIR/pid")"
    never called begin
    cleaned
}

@test "the deploy command fails: exit 1, nothing moved, cleaned up" {
    run_canary --deploy 'echo no such image >&2; exit 20'
    [ "$status" -eq 1 ]
    never called begin
    cleaned
    grep -q 'no such image' "$(record)/deploy.log"
}

@test "a canary that does not become healthy in time: exit 1, nothing moved, cleaned up" {
    run_canary --health 'echo starting; false' --health-timeout 1s
    [ "$status" -eq 1 ]
    never called begin
    cleaned
    [[ $output == *"not healthy within 1 s: starting"* ]]
}

@test "a canary that becomes healthy late is waited for" {
    plays advance "$promoted"
    run_canary --health "n=\$(cat $BATS_TEST_TMPDIR/n || echo 0); echo \$((n + 1)) >$BATS_TEST_TMPDIR/n; [ \$n -ge 2 ]"
    [ "$status" -eq 0 ]
}

@test "health that fails three times in a row during the rollout aborts it" {
    plays advance "$stepping"
    touch "$BATS_TEST_TMPDIR/well"
    start_canary --health "test -e $BATS_TEST_TMPDIR/well"
    wait_for 'decision hold'
    rm "$BATS_TEST_TMPDIR/well"
    ends_with 20
    grep -q '^abort shop-1 --reason the health check of the canary failed 3 times in a row' "$PLAYER/calls"
    cleaned
}

@test "the balancer is not ready for the canary yet (begin says 69): tried again" {
    plays begin 69 69 "$(cat "$PLAYER/begin")"
    plays advance "$promoted"
    run_canary
    [ "$status" -eq 0 ]
}

@test "the service has another rollout (begin says 75): it is left alone" {
    plays begin '75 {"rollout":"shop-0"}'
    run_canary
    [ "$status" -eq 75 ]
    never called abort
    never called 'traffic stable'
    cleaned
}

@test "another rollout has traffic on the canary by now: it is not cleaned away under it" {
    plays begin 75
    plays traffic-get '0 {"weight":0}' '0 {"weight":500}'
    run_canary
    [ "$status" -eq 75 ]
    never cleaned
}

@test "begin fails half-way with traffic on the canary: back to stable" {
    plays begin 74
    plays traffic-get '0 {"weight":0}' '0 {"weight":500}' '0 {"weight":0}'
    run_canary
    [ "$status" -eq 74 ]
    called 'traffic stable'
    cleaned
}

@test "the canary has traffic already: exit 75, nothing deployed" {
    plays traffic-get '0 {"weight":500}'
    run_canary --deploy "touch $BATS_TEST_TMPDIR/deployed"
    [ "$status" -eq 75 ]
    [ ! -e "$BATS_TEST_TMPDIR/deployed" ]
    never cleaned
    [[ $output == *"5.00 %"* ]]
}

@test "an invalid policy or an unreachable balancer: haldane's exit code, nothing deployed" {
    plays check 65
    run_canary --deploy "touch $BATS_TEST_TMPDIR/deployed"
    [ "$status" -eq 65 ]
    plays check 0
    plays traffic-get 69
    run_canary --deploy "touch $BATS_TEST_TMPDIR/deployed"
    [ "$status" -eq 69 ]
    [ ! -e "$BATS_TEST_TMPDIR/deployed" ]
}

@test "a second canary.sh for the same policy is refused before it deploys" {
    plays advance "$stepping"
    start_canary
    wait_for 'decision hold'
    run_canary --deploy "touch $BATS_TEST_TMPDIR/deployed"
    [ "$status" -eq 75 ]
    [ ! -e "$BATS_TEST_TMPDIR/deployed" ]
    kill -TERM "$canary_pid"
    ends_with 20
}

@test "a server that the deploy command leaves running does not hold the lock" {
    plays advance "$promoted"
    run_canary --deploy "sleep 30 >/dev/null 2>&1 3>&- & echo \$! >$BATS_TEST_TMPDIR/pid"
    [ "$status" -eq 0 ]
    kill -0 "$(cat "$BATS_TEST_TMPDIR/pid")"
    rm -r "$PLAYER"/*.count
    run_canary
    [ "$status" -eq 0 ]
    kill "$(cat "$BATS_TEST_TMPDIR/pid")"
}

@test "settings reach begin as --set, and the other commands through the environment" {
    plays advance "$promoted"
    run_canary --set DC=east --set RACK=
    [ "$status" -eq 0 ]
    called "begin $policy --format json --set=DC=east --set=RACK="
    grep -q '^DC=east$' "$PLAYER/check.env"
    grep -q '^DC=east$' "$PLAYER/traffic-get.env"
}

@test "--dry-run checks, prints, and changes nothing" {
    run_canary --dry-run --deploy "touch $BATS_TEST_TMPDIR/deployed"
    [ "$status" -eq 0 ]
    [[ $output == *"haldane begin $policy"* ]]
    [ ! -e "$BATS_TEST_TMPDIR/deployed" ]
    [ ! -e "$logs" ]
    never called begin
    plays check 65
    run_canary --dry-run
    [ "$status" -eq 65 ]
}

@test "it works with stdin and stdout closed, without HOME" {
    plays advance "$promoted"
    env -u HOME -u XDG_STATE_HOME "$canary" --policy "$policy" --deploy true --log-dir "$logs" <&- >&- 2>&-
}

@test "wrong usage is 64 and says what is wrong" {
    local arguments
    for arguments in '' '--policy' "--policy $policy" '--deploy x' "--policy $policy --deploy x y" '--nonsense' \
        "--policy $policy --deploy x --poll 0" "--policy $policy --deploy x --poll 1s" \
        "--policy $policy --deploy x --max-unreachable 5" "--policy $policy --deploy x --health-timeout 0s" \
        '--version 1/2' '--config x' "--policy $policy --deploy x --set a-b=1" \
        "--policy $policy --deploy x --health=" "--dry-run=yes"; do
        # shellcheck disable=SC2086 # the words of each line are the arguments
        run "$canary" $arguments
        echo "$arguments: $status $output"
        [ "$status" -eq 64 ]
        [[ $output == *"see canary.sh --help"* ]]
    done
}

@test "a policy that cannot be read is 66" {
    run "$canary" --policy "$BATS_TEST_TMPDIR/none.yaml" --deploy true
    [ "$status" -eq 66 ]
}

@test "--help names every option on stdout" {
    local option
    run "$canary" --help
    [ "$status" -eq 0 ]
    for option in version config resume policy deploy health health-timeout smoke warm promote no-promote set \
        supersede accept-degraded skip-check db cleanup poll max-unreachable log-dir dry-run yes; do
        [[ $output == *"--$option "* ]]
    done
}

@test "durations are Prometheus's" {
    # shellcheck source=deployment/lib/duration.sh
    source "$BATS_TEST_DIRNAME/../../deployment/lib/duration.sh"
    [ "$(duration_seconds 90s)" -eq 90 ]
    [ "$(duration_seconds 1m30s)" -eq 90 ]
    [ "$(duration_seconds 1500ms)" -eq 2 ]
    [ "$(duration_seconds 08s)" -eq 8 ]
    [ "$(duration_seconds 1w)" -eq 604800 ]
    for bad in '' 5 5x s '1 m' -1s 0s 1.5s; do
        run duration_seconds "$bad"
        [ "$status" -eq 1 ]
    done
}
