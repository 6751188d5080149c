#!/usr/bin/env bats
#
# Which way blue-green.sh takes for each answer that haldane may give. Here haldane is a player of prepared answers
# (canary/haldane), and the commands of the settings write down how they were called. The same script with the real
# haldane, HAProxy and Prometheus is run by tests/deployment.
# shellcheck disable=SC2016 # the commands of the settings expand their variables themselves

setup() {
    export PLAYER=$BATS_TEST_TMPDIR/player
    mkdir "$PLAYER" "$BATS_TEST_TMPDIR/policies" "$BATS_TEST_TMPDIR/state"
    cp "$BATS_TEST_DIRNAME/canary/haldane" "$BATS_TEST_TMPDIR/haldane"
    export PATH=$BATS_TEST_TMPDIR:$PATH
    unset HALDANE_DB HALDANE_SERVER HALDANE_DEPLOYMENT_CONF
    script=$BATS_TEST_DIRNAME/../../deployment/blue-green.sh
    policy=$BATS_TEST_TMPDIR/policies/blue-green.yaml
    records=$BATS_TEST_TMPDIR/records
    state=$BATS_TEST_TMPDIR/state
    config=$BATS_TEST_TMPDIR/test.conf
    echo 'service: shop' >"$policy"
    printf 'BLUE=1\nLIVE=blue\nLAST_GOOD=1\n' >"$state/versions"
    configure
    plays check 0
    plays status 0
    plays traffic-get '0 {"weight":0,"stable_up":2,"canary_up":2}' '0 {"weight":0}' '0 {"weight":0}' \
        '0 {"weight":10000}'
    plays judge '0 {"decision":"promote","reason":"safe","metrics":[{"type":"errors","canary":{"requests":40}}]}'
    plays begin '10 {"rollout":"shop-1","service":"shop","state":"stepping","weight":500,"step":0}'
    stepping='10 {"rollout":"shop-1","state":"stepping","decision":"hold","weight":500,"step":0,"reason":"early"}'
    baking='10 {"rollout":"shop-1","state":"stepping","decision":"hold","weight":10000,"step":1,"reason":"bakes"}'
    promoted='0 {"rollout":"shop-1","state":"promoted","decision":"promote","weight":10000,"step":1,"reason":"baked"}'
    aborted='20 {"rollout":"shop-1","state":"aborted","decision":"abort","weight":0,"reason":"fails 3 x as often"}'
    plays advance "$baking" "$promoted"
}

# configure [NAME=VALUE]...: settings in which every command leaves a mark.
configure() {
    local mark='echo "$SLOT $VERSION $HEADER"' pair name
    local -A settings=(
        [STATE_DIR]=$state [RECORDS_DIR]=$records [BACKUP_DIR]=$BATS_TEST_TMPDIR/backups
        [TEXTFILE_DIR]=$BATS_TEST_TMPDIR/textfile [POLICIES]=$BATS_TEST_TMPDIR/policies [HALDANE_POLICIES]=''
        [HALDANE_COMMAND]=haldane [STRATEGY]=blue-green [PREFLIGHT_DISK_FREE]=0 [PREFLIGHT_MEMORY_FREE]=0
        [HEALTH_CHECK_COMMAND]='' [BACKUP_CHECK_COMMAND]='' [IMAGE_CHECK_COMMAND]=true [CANARY_POLL]=1
        [BLUE_GREEN_HEALTH]=true [BLUE_GREEN_JUDGE_TIMEOUT]=1s [HEALTH_TIMEOUT]=2s
        [DEPLOY_COMMAND]="$mark >>$BATS_TEST_TMPDIR/deployed" [SMOKE_COMMAND]="$mark >>$BATS_TEST_TMPDIR/smoked"
        [WARM_COMMAND]="$mark >>$BATS_TEST_TMPDIR/warmed" [STOP_COMMAND]="$mark >>$BATS_TEST_TMPDIR/stopped"
    )
    for pair in "$@"; do
        settings[${pair%%=*}]=${pair#*=}
    done
    for name in "${!settings[@]}"; do
        printf '%s=%s\n' "$name" "${settings[$name]}"
    done >"$config"
}

# plays COMMAND LINE...: what the player answers to the command, one line a call.
plays() {
    local command=$1
    shift
    printf '%s\n' "$@" >"$PLAYER/$command"
}

switch_to() {
    run "$script" --config "$config" --version "$1" "${@:2}"
    echo "$output"
}

called() {
    grep -q -- "^$1" "$PLAYER/calls"
}

# never COMMAND...: fails if the command succeeds. (A plain `! command` does not fail a bats test.)
never() {
    if "$@"; then
        echo "happened: $*"
        return 1
    fi
}

remembered() {
    grep -qx -- "$1" "$state/versions"
}

record() {
    echo "$records"/*-shop-*
}

# wait_for TEXT: until the script has logged it.
wait_for() {
    local try
    for ((try = 0; try < 100; try++)); do
        grep -q -- "$1" "$(record)/blue-green.log" 2>/dev/null && return 0
        sleep 0.1
    done
    echo "never logged: $1"
    cat "$(record)/blue-green.log"
    return 1
}

# In a process group of its own, so that all of it can be killed at once.
start_script() {
    env --default-signal=INT,TERM,HUP setsid "$script" --config "$config" "$@" >/dev/null 2>&1 3>&- &
    script_pid=$!
}

# kill_all: as a machine that goes down does it; only what haldane does is left.
kill_all() {
    kill -KILL -- "-$script_pid"
    wait "$script_pid" || true
    rm -f "$PLAYER"/*.count
}

ends_with() {
    local code=0
    wait "$script_pid" || code=$?
    echo "ended with $code"
    [ "$code" -eq "$1" ]
}

@test "switched: the idle colour is deployed, tried, warmed, judged and given all; the other one is drained and kept" {
    switch_to 2
    [ "$status" -eq 0 ]
    [ "$(cat "$BATS_TEST_TMPDIR/deployed")" = 'green 2 X-Colour: green' ]
    [ "$(head -n 1 "$BATS_TEST_TMPDIR/smoked")" = 'green 2 X-Colour: green' ]
    grep -q 'X-Smoke-Test' "$BATS_TEST_TMPDIR/smoked"
    grep -q 'green 2' "$BATS_TEST_TMPDIR/warmed"
    called "begin $policy --format json --set=LIVE=blue --set=IDLE=green"
    called "judge $policy --since"
    called "traffic drain stable $policy"
    called 'report shop-1 --format html'
    never called abort
    never test -e "$BATS_TEST_TMPDIR/stopped"
    remembered LIVE=green
    remembered LAST_GOOD=2
    remembered GREEN=2
    [ "$(cat "$state/kept")" = 'blue 1' ]
    jq -e '.outcome == "switched" and .exit_code == 0 and .version == "2" and .rollout == "shop-1"' \
        "$(record)/record.json"
}

@test "the balancer says that green is live: blue is the idle one, whatever the memory says" {
    plays traffic-get '0 {"weight":10000}' '0 {"weight":0}' '0 {"weight":0}' '0 {"weight":10000}'
    switch_to 2
    [ "$status" -eq 0 ]
    [[ $output == *"by the record of the last deployment blue is live; the balancer says green"* ]]
    [ "$(cat "$BATS_TEST_TMPDIR/deployed")" = 'blue 2 X-Colour: blue' ]
    called "begin $policy --format json --set=LIVE=green --set=IDLE=blue"
    grep -q '^LIVE=green$' "$PLAYER/traffic-drain.env"
    remembered LIVE=blue
}

@test "the traffic is split between the colours: exit 75, nothing is deployed" {
    plays traffic-get '0 {"weight":500}'
    switch_to 2
    [ "$status" -eq 75 ]
    never test -e "$BATS_TEST_TMPDIR/deployed"
}

@test "the balancer does not answer: exit 69, nothing is deployed" {
    plays traffic-get 69
    switch_to 2
    [ "$status" -eq 69 ]
    never test -e "$BATS_TEST_TMPDIR/deployed"
}

@test "a pre-flight check that fails: its exit code, nothing is deployed, and the other checks were made too" {
    configure IMAGE_CHECK_COMMAND=false
    switch_to 2
    [ "$status" -eq 75 ]
    never test -e "$BATS_TEST_TMPDIR/deployed"
    [[ $output == *'pre-flight: image: failed'* ]]
    [[ $output == *'pre-flight: memory: passed'* ]]
    jq -e '.outcome == "refused"' "$(record)/record.json"
    rm "$PLAYER"/*.count
    switch_to 2 --skip-check image
    [ "$status" -eq 0 ]
}

@test "another rollout of the service is under way: exit 75" {
    plays status '10 {"rollout":"shop-0","service":"shop","state":"stepping"}'
    switch_to 2
    [ "$status" -eq 75 ]
    never test -e "$BATS_TEST_TMPDIR/deployed"
}

@test "a deploy command that fails: exit 1, nothing moved; what was kept before is not kept any more" {
    configure DEPLOY_COMMAND='echo no such image; exit 3'
    echo 'green 0' >"$state/kept"
    switch_to 2
    [ "$status" -eq 1 ]
    never called begin
    never test -e "$state/kept"
    remembered LIVE=blue
    grep -q 'no such image' "$(record)/deploy.log"
}

@test "smoke tests that fail on the idle colour: exit 1, nothing moved" {
    configure SMOKE_COMMAND=false
    switch_to 2
    [ "$status" -eq 1 ]
    never called begin
}

@test "a cold cache is told and goes on; a warm-up that cannot be made does not" {
    configure WARM_COMMAND='exit 1'
    switch_to 2
    [ "$status" -eq 0 ]
    [[ $output == *'not warm yet'* ]]
    rm -f "$PLAYER"/*.count "$PLAYER/calls"
    printf 'BLUE=1\nLIVE=blue\n' >"$state/versions"
    configure WARM_COMMAND='exit 69'
    switch_to 2
    [ "$status" -eq 1 ]
    never called begin
}

@test "haldane's verdict on the idle colour: errors stop it, latency alone does not" {
    local harmed='"critical":true,"status":"harmed","canary":{"requests":40}'
    plays judge "20 {\"decision\":\"abort\",\"reason\":\"fails 9 x as often\",\"metrics\":[{\"type\":\"errors\",$harmed}]}"
    switch_to 2
    [ "$status" -eq 1 ]
    [[ $output == *'fails 9 x as often'* ]]
    never called begin
    rm -f "$PLAYER"/*.count
    plays judge "20 {\"decision\":\"abort\",\"metrics\":[{\"type\":\"latency\",$harmed}]}"
    switch_to 2
    [ "$status" -eq 0 ]
}

@test "Prometheus has seen nothing of the idle colour: exit 1, nothing moved" {
    plays judge '10 {"decision":"hold","metrics":[{"type":"errors","canary":null}]}'
    switch_to 2
    [ "$status" -eq 1 ]
    [[ $output == *'is it scraped'* ]]
    never called begin
}

@test "haldane cannot judge the idle colour: exit 1, nothing moved, and no harm is made of that" {
    plays judge 69
    switch_to 2
    [ "$status" -eq 1 ]
    [[ $output == *'haldane judge: exit code 69'* ]]
    never called begin
}

@test "harm after the switch: haldane goes back by itself, the balancer proves it, exit 20" {
    plays advance "$baking" "$aborted"
    plays traffic-get '0 {"weight":0}' '0 {"weight":0}' '0 {"weight":0}' '0 {"weight":0}'
    switch_to 2
    [ "$status" -eq 20 ]
    [[ $output == *'all traffic is on blue, as the balancer itself says. Reason: fails 3 x as often'* ]]
    remembered LIVE=blue
    remembered LAST_GOOD=1
    never test -e "$state/kept"
    jq -e '.outcome == "aborted"' "$(record)/record.json"
}

@test "smoke tests that fail with all of the traffic send it back: exit 20" {
    configure SMOKE_COMMAND='[[ $HEADER == "X-Colour: green" ]]'
    plays advance "$baking"
    plays traffic-get '0 {"weight":0}'
    switch_to 2
    [ "$status" -eq 20 ]
    called 'abort shop-1 --reason the smoke tests failed'
    remembered LIVE=blue
}

@test "smoke tests that fail once the switch is promoted send the traffic back by hand: exit 20" {
    # The first time through the front door they pass.
    configure SMOKE_COMMAND="[[ \$HEADER == 'X-Colour: green' ]] || mkdir $BATS_TEST_TMPDIR/passed"
    plays traffic-get '0 {"weight":0}' '0 {"weight":0}' '0 {"weight":0}' '0 {"weight":10000}' '0 {"weight":0}'
    switch_to 2
    [ "$status" -eq 20 ]
    never called abort
    called "traffic stable $policy"
    remembered LIVE=blue
}

@test "a way back that cannot be proven: exit 69, exact commands" {
    plays advance "$aborted"
    plays abort 69
    plays traffic-stable 69
    plays traffic-get '0 {"weight":0}' '0 {"weight":0}' '0 {"weight":0}' '0 {"weight":10000}'
    switch_to 2
    [ "$status" -eq 69 ]
    [[ $output == *'green MAY STILL GET TRAFFIC'* ]]
    [[ $output == *"LIVE=blue IDLE=green"*"haldane traffic stable $policy"* ]]
    [[ $output == *rollback.sh* ]]
    jq -e '.outcome == "unproven"' "$(record)/record.json"
}

@test "promoted, but the balancer does not show it: exit 69, the record stays open, --resume ends it" {
    plays traffic-get '0 {"weight":0}' '0 {"weight":0}' '0 {"weight":0}' '0 {"weight":500}'
    switch_to 2
    [ "$status" -eq 69 ]
    remembered LIVE=blue
    plays traffic-get '0 {"weight":10000}'
    run "$script" --config "$config" --resume
    echo "$output"
    [ "$status" -eq 0 ]
    remembered LIVE=green
}

@test "--at-once: the first steps are promoted over, and the bake is watched all the same" {
    plays promote '10 {"rollout":"shop-1","state":"stepping","weight":10000,"step":1}'
    plays advance "$promoted"
    switch_to 2 --at-once
    [ "$status" -eq 0 ]
    called 'promote shop-1 --reason'
    [ "$(grep -c X-Smoke-Test "$BATS_TEST_TMPDIR/smoked")" -eq 2 ]
}

@test "--at-once that haldane refuses: it is followed step by step" {
    plays promote 75
    plays advance "$stepping" "$baking" "$promoted"
    switch_to 2 --at-once
    [ "$status" -eq 0 ]
}

@test "--stop-old stops the old colour once it is drained, and never one that still works" {
    switch_to 2 --stop-old
    [ "$status" -eq 0 ]
    [ "$(cat "$BATS_TEST_TMPDIR/stopped")" = 'blue 2 X-Colour: blue' ]
    never test -e "$state/kept"
    rm -f "$PLAYER"/*.count "$BATS_TEST_TMPDIR/stopped"
    printf 'BLUE=1\nLIVE=blue\n' >"$state/versions"
    plays traffic-drain 69
    switch_to 2 --stop-old
    [ "$status" -eq 0 ]
    never test -e "$BATS_TEST_TMPDIR/stopped"
    [ "$(cat "$state/kept")" = 'blue 1' ]
}

@test "superseded by a newer rollout: exit 20, the traffic is left to it" {
    plays advance '20 {"rollout":"shop-1","state":"superseded","weight":500,"reason":"a newer rollout was begun"}'
    switch_to 2
    [ "$status" -eq 20 ]
    never called abort
    never called 'traffic stable'
}

@test "TERM during the switch: aborted, proven, exit 20" {
    plays advance "$stepping"
    plays traffic-get '0 {"weight":0}'
    start_script --version 2
    wait_for 'decision hold'
    kill -TERM "$script_pid"
    ends_with 20
    called 'abort shop-1 --reason interrupted'
}

@test "the new colour's health fails three times in a row: aborted, exit 20" {
    touch "$BATS_TEST_TMPDIR/well"
    configure BLUE_GREEN_HEALTH="test -e $BATS_TEST_TMPDIR/well"
    plays advance "$stepping"
    plays traffic-get '0 {"weight":0}'
    start_script --version 2
    wait_for 'decision hold'
    rm "$BATS_TEST_TMPDIR/well"
    ends_with 20
    called 'abort shop-1 --reason the health check of green failed'
}

@test "--back returns at once to the colour that was kept, and keeps the other one" {
    printf 'BLUE=1\nGREEN=2\nLIVE=green\nLAST_GOOD=2\n' >"$state/versions"
    echo 'blue 1' >"$state/kept"
    plays traffic-get '0 {"weight":10000,"stable_up":2,"canary_up":2}' '0 {"weight":10000}'
    run "$script" --config "$config" --back
    echo "$output"
    [ "$status" -eq 0 ]
    called "traffic switch canary $policy"
    grep -q '^LIVE=green$' "$PLAYER/traffic-switch.env"
    grep -q '^IDLE=blue$' "$PLAYER/traffic-switch.env"
    never called begin
    remembered LIVE=blue
    remembered LAST_GOOD=1
    [ "$(cat "$state/kept")" = 'green 2' ]
    grep -q '1 X-Smoke-Test' "$BATS_TEST_TMPDIR/smoked"
}

@test "--back to what never had the traffic is refused: 77" {
    printf 'BLUE=1\nGREEN=3\nLIVE=blue\n' >"$state/versions"
    run "$script" --config "$config" --back
    [ "$status" -eq 77 ]
    echo 'green 2' >"$state/kept"
    run "$script" --config "$config" --back
    [ "$status" -eq 77 ]
    never called 'traffic switch'
}

@test "--back to servers that are not up is refused: 69" {
    printf 'BLUE=1\nGREEN=2\nLIVE=green\n' >"$state/versions"
    echo 'blue 1' >"$state/kept"
    plays traffic-get '0 {"weight":10000,"stable_up":0,"canary_up":2}'
    run "$script" --config "$config" --back
    [ "$status" -eq 69 ]
    never called 'traffic switch'
}

@test "--back that the balancer refuses: exit 69, and the memory is as it was" {
    printf 'BLUE=1\nGREEN=2\nLIVE=green\n' >"$state/versions"
    echo 'blue 1' >"$state/kept"
    plays traffic-get '0 {"weight":10000,"stable_up":2,"canary_up":2}' '0 {"weight":0}'
    plays traffic-switch 69
    run "$script" --config "$config" --back
    [ "$status" -eq 69 ]
    remembered LIVE=green
}

@test "--back while a switch is under way aborts it" {
    # The player answers one line a call: both rollouts on one.
    plays status '10 {"rollout":"shop-7","service":"other"}{"rollout":"shop-1","service":"shop","state":"stepping"}'
    plays abort '20 {"rollout":"shop-1","state":"aborted"}'
    run "$script" --config "$config" --back
    echo "$output"
    [ "$status" -eq 0 ]
    called 'abort shop-1 --reason return asked for by'
    [[ $output == *'all traffic is on blue'* ]]
}

@test "killed while it deploys: --resume does it again" {
    configure DEPLOY_COMMAND="[[ -e $BATS_TEST_TMPDIR/go ]] || sleep 60"
    start_script --version 2
    wait_for 'deploying version 2'
    kill_all
    touch "$BATS_TEST_TMPDIR/go"
    plays traffic-get '0 {"weight":0}' '0 {"weight":0}' '0 {"weight":0}' '0 {"weight":10000}'
    run "$script" --config "$config" --resume
    echo "$output"
    [ "$status" -eq 0 ]
    remembered LIVE=green
    [ "$(find "$records" -mindepth 1 -maxdepth 1 -type d | wc -l)" -eq 1 ]
    jq -e '.resumed == 1 and .outcome == "switched"' "$(record)/record.json"
}

@test "killed during the switch: --resume follows the same rollout to its end" {
    plays advance "$stepping"
    start_script --version 2
    wait_for 'decision hold'
    kill_all
    plays advance "$baking" "$promoted"
    plays traffic-get '0 {"weight":10000}'
    run "$script" --config "$config" --resume
    echo "$output"
    [ "$status" -eq 0 ]
    [ "$(grep -c '^begin' "$PLAYER/calls")" -eq 1 ]
    remembered LIVE=green
}

@test "killed between begin and its answer: --resume finds the rollout at haldane" {
    plays begin "sleep=5 $(cat "$PLAYER/begin")"
    start_script --version 2
    wait_for 'beginning the rollout'
    sleep 0.3
    kill_all
    plays status '10 {"rollout":"shop-1","service":"shop","state":"stepping"}'
    plays advance "$aborted"
    plays traffic-get '0 {"weight":0}'
    run "$script" --config "$config" --resume
    echo "$output"
    [ "$status" -eq 20 ]
    [ "$(grep -c '^begin' "$PLAYER/calls")" -eq 1 ]
}

@test "killed after the promotion: --resume settles it" {
    configure SMOKE_COMMAND="[[ \$HEADER == 'X-Colour: green' || -e $BATS_TEST_TMPDIR/go ]] || sleep 20"
    plays advance "$promoted"
    start_script --version 2
    wait_for 'all traffic is on green; smoke tests'
    kill_all
    touch "$BATS_TEST_TMPDIR/go"
    plays traffic-get '0 {"weight":10000}'
    run "$script" --config "$config" --resume
    echo "$output"
    [ "$status" -eq 0 ]
    remembered LIVE=green
    [ "$(cat "$state/kept")" = 'blue 1' ]
}

@test "nothing to resume is 66, a deployment that has ended is 64" {
    run "$script" --config "$config" --resume
    [ "$status" -eq 66 ]
    switch_to 2
    run "$script" --config "$config" --resume "$(record)"
    [ "$status" -eq 64 ]
}

@test "a deployment that was left unfinished keeps the next one from beginning: 75" {
    plays advance "$stepping"
    start_script --version 2
    wait_for 'decision hold'
    kill_all
    plays traffic-get '0 {"weight":0}'
    plays status 0
    switch_to 3
    [ "$status" -eq 75 ]
    [[ $output == *'--resume'* ]]
}

@test "two at once: the second is refused before it deploys" {
    plays advance "$stepping"
    plays traffic-get '0 {"weight":0}'
    start_script --version 2
    wait_for 'decision hold'
    switch_to 3
    [ "$status" -eq 75 ]
    [ "$(wc -l <"$BATS_TEST_TMPDIR/deployed")" -eq 1 ]
    kill -TERM "$script_pid"
    ends_with 20
}

@test "--status says who is live, what runs where, and whether there is a way back" {
    printf 'BLUE=1\nGREEN=2\nLIVE=green\n' >"$state/versions"
    echo 'blue 1' >"$state/kept"
    plays traffic-get '0 {"weight":10000,"stable_up":2,"canary_up":1}'
    run "$script" --config "$config" --status
    [ "$status" -eq 0 ]
    [[ $output == *'blue   version 1, idle, 2 up, kept'* ]]
    [[ $output == *'green  version 2, live, 1 up'* ]]
    "$script" --config "$config" --status --format json 2>/dev/null |
        jq -e '.live == "green" and .idle == "blue" and .kept == "blue" and .up.idle == 2 and .versions.green == "2"'
    plays traffic-get 69
    run "$script" --config "$config" --status --format json
    [ "$status" -eq 69 ]
    never test -e "$records"
}

@test "--dry-run checks, prints, and changes nothing" {
    switch_to 2 --dry-run
    [ "$status" -eq 0 ]
    [[ $output == *"deploy to the idle colour:   SLOT=green VERSION=2"* ]]
    never called begin
    never test -e "$BATS_TEST_TMPDIR/deployed"
    never test -e "$records"
    plays check 65
    switch_to 2 --dry-run
    [ "$status" -eq 65 ]
    run "$script" --config "$config" --back --dry-run
    never called 'traffic switch'
}

@test "wrong usage is 64 and says what is wrong" {
    local arguments
    for arguments in '' '--version' '--version=' '--version 2 x' '--nonsense' '--version a/b' '--version 2 --back' \
        '--status --format xml' '--version 2 --set LIVE=green' '--version 2 --set a-b=1' '--back --resume'; do
        # shellcheck disable=SC2086 # the words of each line are the arguments
        run "$script" $arguments --config "$config"
        echo "$arguments: $status $output"
        [ "$status" -eq 64 ]
        [[ $output == *"see blue-green.sh --help"* ]]
    done
}

@test "a stack with another strategy has no colours: 65" {
    configure STRATEGY=canary
    switch_to 2
    [ "$status" -eq 65 ]
}

@test "a setting that is not known is 65, a configuration that is not there 66" {
    echo 'NO_SUCH=1' >>"$config"
    switch_to 2
    [ "$status" -eq 65 ]
    run "$script" --config "$BATS_TEST_TMPDIR/none" --version 2
    [ "$status" -eq 66 ]
}

@test "--help names every option on stdout" {
    local option
    run "$script" --help
    [ "$status" -eq 0 ]
    for option in version back resume status config set at-once stop-old accept-degraded skip-check format dry-run \
        yes; do
        [[ $output == *"--$option "* ]]
    done
}

@test "--back: the version that was left is not good any more, and no 'previous' leads back to it" {
    printf 'BLUE=1\nGREEN=2\nLIVE=green\nLAST_GOOD=2\nPREVIOUS_GOOD=1\n' >"$state/versions"
    echo 'blue 1' >"$state/kept"
    plays traffic-get '0 {"weight":10000,"stable_up":2,"canary_up":2}' '0 {"weight":10000}'
    run "$script" --config "$config" --back
    [ "$status" -eq 0 ]
    remembered LAST_GOOD=1
    never grep -q PREVIOUS_GOOD "$state/versions"
}

@test "--back where nothing can be written goes on without a record" {
    printf 'BLUE=1\nGREEN=2\nLIVE=green\n' >"$state/versions"
    echo 'blue 1' >"$state/kept"
    touch "$BATS_TEST_TMPDIR/file"
    configure RECORDS_DIR="$BATS_TEST_TMPDIR/file/records"
    plays traffic-get '0 {"weight":10000,"stable_up":2,"canary_up":2}' '0 {"weight":10000}'
    TMPDIR=$BATS_TEST_TMPDIR/file run "$script" --config "$config" --back
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *'going on without'*'all traffic is on blue'* ]]
    called "traffic switch canary $policy"
    remembered LIVE=blue
}

@test "--stop-old: the old colour is kept while no server of the new one is up" {
    plays traffic-get '0 {"weight":0}' '0 {"weight":0}' '0 {"weight":0}' '0 {"weight":10000,"canary_up":0}'
    switch_to 2 --stop-old
    [ "$status" -eq 0 ]
    [[ $output == *'blue is not stopped'* ]]
    never test -e "$BATS_TEST_TMPDIR/stopped"
}

@test "the idle colour's health is asked where the stack is published" {
    configure PUBLISH_ADDRESS=10.0.0.5 HTTP_PORT=8080 \
        BLUE_GREEN_HEALTH="echo \"\$SHOP_URL\" >$BATS_TEST_TMPDIR/asked"
    switch_to 2
    [ "$status" -eq 0 ]
    [ "$(cat "$BATS_TEST_TMPDIR/asked")" = http://10.0.0.5:8080 ]
    grep -q '"$SHOP_URL/readyz"' <(grep '^BLUE_GREEN_HEALTH=' "$BATS_TEST_DIRNAME/../../deployment/deployment.conf")
}
