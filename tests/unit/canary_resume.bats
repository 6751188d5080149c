#!/usr/bin/env bats
#
# canary.sh with settings, interrupted: how a deployment that was killed in any of its phases is taken up again, and
# what becomes of one that is asked to stop.

# shellcheck disable=SC2154 # variables of canary/strategy.bash
load canary/strategy

setup() {
    strategy_begin
}

# kill_at TEXT: starts canary.sh, waits for the journal to say TEXT, and kills every process of it with KILL, as the
# machine's going down would.
kill_at() {
    local at=$1 try
    shift
    setsid "$canary" --config "$BATS_TEST_TMPDIR/d.conf" --version 2 "$@" >/dev/null 2>&1 3>&- &
    for ((try = 0; try < 600; try++)); do
        ! grep -q -- "$at" "$PLAYER/journal" 2>/dev/null || break
        sleep 0.1
    done
    grep -q -- "$at" "$PLAYER/journal"
    kill -KILL -- "-$!"
    wait "$!" || true
}

# What must hold however it was killed: taken up again it ends as if it had not been, and begins no second rollout.
takes_up() {
    local resumed
    rm -f "$PLAYER"/step-*
    resumed=$("$canary" --config "$BATS_TEST_TMPDIR/d.conf" --resume 2>&1) || {
        echo "resume ended with $?: $resumed"
        return 1
    }
    [ "$(grep -c '^haldane begin' "$PLAYER/journal")" -eq 1 ]
    grep -qx 'LAST_GOOD=2' "$versions"
    said 'stop canary'
    [ "$(told .outcome)" = promoted ]
    [ "$(told .resumed)" = 1 ]
    [ -z "$(find "$records" -name state.json -exec jq -r 'select(has("outcome") | not) | .stage' {} +)" ]
}

@test "killed during the pre-flight, the deploy, the smoke test, the warm-up: --resume starts it again" {
    local at
    for at in backup 'deploy canary' 'smoke canary' 'warm canary'; do
        rm -rf "$PLAYER/journal" "$PLAYER"/*.count "$records" "$BATS_TEST_TMPDIR/state"
        step "${at// /-}" 'exec sleep 30'
        kill_at "$at"
        never said 'haldane begin'
        takes_up
    done
}

@test "the deploy command of a deployment that was killed is ended before the next one" {
    step deploy-canary "echo \$\$ >$BATS_TEST_TMPDIR/pid; exec sleep 60"
    kill_at 'deploy canary'
    while [ ! -s "$BATS_TEST_TMPDIR/pid" ]; do sleep 0.1; done
    kill -0 "$(cat "$BATS_TEST_TMPDIR/pid")"
    takes_up
    never kill -0 "$(cat "$BATS_TEST_TMPDIR/pid")"
}

# Whoever takes up after us ends the child that our record names. One that is at work and not named would go on beside it.
@test "a child is named in the record before it does anything, however early its parent dies" {
    local folder=$BATS_TEST_TMPDIR reader pid began
    # shellcheck source=deployment/lib/process.sh
    source "$BATS_TEST_DIRNAME/../../deployment/lib/process.sh"
    child_file=$folder/child
    mkfifo "$child_file" # who writes to it waits for its reader
    (sleep 0.3 && ls "$folder" >"$folder/before" && cat "$child_file" >"$folder/named") 3>&- &
    reader=$!
    start bash -c "touch $folder/begun; sleep 60" 3>&-
    wait "$reader"
    while [ ! -e "$folder/begun" ]; do sleep 0.05; done
    never grep -qx begun "$folder/before"
    read -r pid began <"$folder/named"
    [ "$pid" -eq "$child" ]
    [ "$began" = "$(started_at "$child")" ]
    end_orphan "$folder/named"
    never kill -0 "$child"
}

@test "killed while haldane begins: the rollout is found, and followed" {
    plays begin "sleep=20 $(cat "$PLAYER/begin")"
    local form='{"rollout":"%s","service":"%s","begun_at":"%s-01-01T00:00:00.123Z"} '
    # shellcheck disable=SC2059 # the form is used three times
    plays status "10 $(printf "$form$form$form" shop-0 shop 2020 other-9 other 2100 shop-1 shop 2100)"
    kill_at '^haldane begin' --skip-check rollouts
    takes_up
    said '^haldane advance shop-1'
}

@test "killed while haldane begins, and it had not begun: it is begun again" {
    plays begin "sleep=20 $(cat "$PLAYER/begin")"
    kill_at '^haldane begin'
    plays begin '10 {"rollout":"shop-1","service":"shop","state":"stepping","weight":500,"step":0}'
    rm -f "$PLAYER"/*.count
    run_canary --resume
    echo "$output"
    [ "$status" -eq 0 ]
    [ "$(grep -c '^haldane begin' "$PLAYER/journal")" -eq 2 ]
    grep -qx 'LAST_GOOD=2' "$versions"
}

@test "killed during the rollout: --resume follows it; haldane's abort is the end also then" {
    plays advance "$stepping"
    kill_at '^haldane advance'
    plays advance "$promoted"
    takes_up

    rm -rf "$PLAYER/journal" "$PLAYER"/*.count "$records"
    echo 0 >"$PLAYER/share"
    plays advance "$stepping"
    kill_at '^haldane advance'
    plays advance '20 {"state":"expired","decision":"abort","weight":0,"reason":"the lease has run out"}'
    run_canary --resume
    [ "$status" -eq 20 ]
    said 'stop canary'
}

@test "killed while stable is brought along, tried, or given its traffic: --resume goes on" {
    local at
    for at in 'deploy stable' 'smoke stable' 'haldane traffic drain' 'stop canary'; do
        rm -rf "$PLAYER/journal" "$PLAYER"/*.count "$records" "$BATS_TEST_TMPDIR/state"
        step "${at// /-}" 'exec sleep 30'
        plays traffic-drain 'sleep=20 0'
        [[ $at == *drain* ]] || plays traffic-drain 0
        kill_at "^$at"
        plays traffic-drain 0
        takes_up
    done
}

@test "one that was killed keeps a new one from beginning, until it is taken up or rolled back" {
    plays advance "$stepping"
    kill_at '^haldane advance'
    run_canary --version 3
    [ "$status" -eq 75 ]
    [[ $output == *'was interrupted; first: canary.sh --resume'* ]]
}

@test "TERM while stable is brought along: exit 10, and it can be taken up" {
    step deploy-stable 'exec sleep 30'
    env --default-signal=INT,TERM,HUP "$canary" --config "$BATS_TEST_TMPDIR/d.conf" --version 2 >/dev/null 2>&1 3>&- &
    local try code=0
    for ((try = 0; try < 600; try++)); do
        ! said 'deploy stable' || break
        sleep 0.1
    done
    kill -TERM "$!"
    wait "$!" || code=$?
    [ "$code" -eq 10 ]
    never said 'traffic stable'
    takes_up
}

@test "rollback.sh's request to stop: aborted in the rollout, nothing begun before it, stable forced after it" {
    local try code
    for at in 'smoke canary' 'haldane advance' 'deploy stable'; do
        rm -rf "$PLAYER/journal" "$PLAYER"/*.count "$PLAYER"/step-* "$records"
        echo 0 >"$PLAYER/share"
        plays abort '0 {"state":"aborted","weight":0}'
        plays advance "$stepping"
        [[ $at != 'deploy stable' ]] || plays advance "$promoted"
        step "${at// /-}" 'exec sleep 30'
        "$canary" --config "$BATS_TEST_TMPDIR/d.conf" --version 2 >/dev/null 2>&1 3>&- &
        for ((try = 0; try < 600; try++)); do
            ! said "^$at" 2>/dev/null || break
            sleep 0.1
        done
        touch "$(record)/stop"
        code=0
        wait "$!" || code=$?
        echo "$at: $code"
        [ "$code" -eq 20 ]
        said 'stop canary'
        case $at in
            smoke*) never said 'haldane begin' ;;
            haldane*) said 'haldane abort shop-1' ;;
            deploy*) said 'haldane traffic stable' ;;
        esac
    done
}

@test "--resume: of one that has ended its outcome, of nothing 66, of one that runs 75" {
    run_canary --version 2
    [ "$status" -eq 0 ]
    run_canary --resume
    [ "$status" -eq 66 ]
    [[ $output == *'was left unfinished'* ]]
    run_canary --resume "$(record)"
    [ "$status" -eq 0 ]
    [[ $output == *'has ended: promoted'* ]]
    run_canary --resume "$BATS_TEST_TMPDIR"
    [ "$status" -eq 66 ]
}
