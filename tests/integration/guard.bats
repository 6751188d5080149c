#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # jq is quoted so; $id, $output and $stderr come from scenario.bash and run
#
# Nobody looks any more, or two look at once. HAProxy has a map here, so that it knows the lease and the epoch itself:
# it and the guard each bring traffic back alone, a process that hangs is not waited for, and of two haldanes one wins.

load scenario
load proof

setup_file() {
    export DEMO_RATE=300 DEMO_BALANCER=map
    scenarios_start
}

teardown_file() {
    stack_stop
}

setup() {
    scenario_begin
    map_policy policy.yaml
    map_policy brief.yaml unattended 4s
    canary_is_up || canary
}

teardown() {
    stop_all
    end_guards
    no_small_disk
    send CONT haproxy
    haldane traffic stable policy.yaml >/dev/null
}

# As `policy`, with HAProxy by its map.
map_policy() {
    policy "$@"
    sed -i "s|^  backend: .*|  map: $DEMO_RUN/share.map|; s|^  stable: .*|  stable: [be_stable/stable1, be_stable/stable2]|
        s|^  canary: .*|  canary: [be_canary/canary1]|" "$1"
}

# In place of scenario.bash's, which reads weights.
share() {
    awk -v bp="$(proof_split)" 'BEGIN { printf "%.4g\n", bp / 100 }'
}

canary_is_up() {
    balancer 'show servers state be_canary' | awk '$4 == "canary1" { up = $6 == 2 } END { exit !up }'
}

kill_guards() {
    local pid
    for pid in $(proof_guards); do kill -KILL "$pid"; done
}

# When the lease that the record shows began.
looked_at_ms() {
    sql "SELECT lease_until_ms - $1 * 900 FROM rollouts ORDER BY seq DESC LIMIT 1"
}

# back_within SECONDS SINCE_MS: all traffic on stable no later than that; $took is after how many milliseconds.
back_within() {
    proof_poll "$(($1 + 4))" proof_split_is 0
    took=$(($(proof_now_ms) - $2))
    ((took <= $1 * 1000)) || {
        echo "all on stable $took ms after the last look"
        return 1
    }
}

has_ended() {
    [[ $(sql "SELECT state FROM rollouts") =~ ^(promoted|aborted|expired|superseded)$ ]]
}

# ---- nobody looks ----

@test "kill -9 of rollout: the guard lives on, sees to it within the lease, and records it" {
    rollout_in_background brief.yaml
    wait_until 10 has_looks 1
    signal_bg rollout KILL
    back_within 4 "$(looked_at_ms 4)"
    wait_until 3 has_ended
    [[ $(sql "SELECT state || '|' || cause || '|' || weight_bp FROM rollouts") == 'expired|expired|0' ]]
    wait_until 3 proof_no_guards
    proof_record_is_whole
}

@test "kill -9 of rollout and of its guard: HAProxy goes back by itself, and the next one records that it did" {
    rollout_in_background brief.yaml
    wait_until 10 has_looks 1
    signal_bg rollout KILL
    kill_guards
    back_within 4 "$(looked_at_ms 4)"
    [[ $(sql "SELECT state FROM rollouts") == stepping ]]
    haldane_says 20 advance "$id" --format json
    answer '.state == "expired" and .weight == 0'
    shows 0
    proof_record_is_whole
}

@test "a rollout that hangs with the lock: the guard kills it, so that it cannot wake up and move traffic" {
    local hung since
    rollout_in_background brief.yaml
    wait_until 10 has_looks 1
    hung=$(bg_pid rollout)
    # It waits for HAProxy, and has the rollout while it does.
    send STOP haproxy
    sleep 1.2
    kill -STOP "$hung"
    since=$(looked_at_ms 4)
    send CONT haproxy
    back_within 4 "$since"
    wait_until 5 has_ended
    # SIGKILL ends what is stopped, too.
    ends_with 137 5
    shows 0
    [[ $(sql "SELECT state FROM rollouts") == expired ]]
    proof_record_is_whole
}

@test "a rollout that is frozen between two looks and wakes up after the guard: it ends with 20 and moves nothing" {
    local frozen code=0
    rollout_in_background brief.yaml
    wait_until 10 has_looks 1
    frozen=$(bg_pid rollout)
    kill -STOP "$frozen"
    back_within 4 "$(looked_at_ms 4)"
    wait_until 5 has_ended
    kill -CONT "$frozen" 2>/dev/null || true
    wait_bg rollout 10 || code=$?
    # Killed only if it was caught in the middle of a look.
    [[ $code -eq 20 || $code -eq 137 ]]
    shows 0
    proof_record_is_whole
}

@test "a guard for all of a store: a second one is refused with 75, and a rollout has its own beside it" {
    local pid
    start_bg guard haldane guard --db "$HALDANE_DB"
    wait_until 5 test -e "$HALDANE_DB"
    sleep 0.5
    haldane_says 75 guard
    [[ $stderr == *'already has a guard'* ]]
    begin brief.yaml
    # The one for all may be stopped, or may not be able to do what begin can.
    [[ $(proof_guards | grep -cvx "$(bg_pid guard)") -eq 1 ]]
    for pid in $(proof_guards | grep -vx "$(bg_pid guard)"); do kill -KILL "$pid"; done
    back_within 4 "$(looked_at_ms 4)"
    wait_until 3 has_ended
    kill -0 "$(bg_pid guard)"
    grep -q "$id" guard.log
    stop_bg guard
    proof_record_is_whole
}

# ---- HAProxy's clock is not ours ----

# haproxy_with_clock OFFSET: in place of the one that runs.
haproxy_with_clock() {
    stack stop haproxy
    proof_clock "$1"
    relaunch haproxy "${clock[@]}" haproxy -db -f "$DEMO_RUN/haproxy.cfg"
    wait_http "http://127.0.0.1:$DEMO_WEB_PORT/readyz"
    wait_until 10 canary_is_up
}

@test "a clock of HAProxy that is a minute off neither ends a lease early nor prolongs it" {
    local offset now
    for offset in +61s -61s; do
        haproxy_with_clock "$offset"
        now=$(curl -fsS --noproxy '*' "http://127.0.0.1:$DEMO_OPS_PORT/haldane/share" | sed 's/.*now=//')
        holds "($now - $EPOCHSECONDS - ${offset%s})^2 <= 4"
        rm -f "$HALDANE_DB"*
        rollout_in_background brief.yaml
        # Longer than one lease.
        wait_until 15 has_looks 4
        shows 25
        signal_bg rollout KILL
        kill_guards
        back_within 4 "$(looked_at_ms 4)"
        # The lease is a tenth shorter than `unattended`, and HAProxy counts whole seconds.
        ((took >= 2600))
        wait_bg rollout 2 || true
        # HAProxy's file still has the share, and a lease that is over by this clock may not be by the next.
        haldane traffic stable policy.yaml
    done
    stack stop haproxy
    relaunch_haproxy
    wait_until 10 canary_is_up
}

# ---- two at once ----

# both COMMAND_ONE COMMAND_TWO: at the same time; their exit codes, sorted.
codes_of_both() {
    local one two first=0 second=0
    bash -c "$1" >one 2>&1 3>&- &
    one=$!
    bash -c "$2" >two 2>&1 3>&- &
    two=$!
    wait "$one" || first=$?
    wait "$two" || second=$?
    printf '%s\n' "$first" "$second" | sort -n | paste -sd ' '
}

@test "two begins at once, on one store and on two: one begins, the other is refused with 75 and moves nothing" {
    local store used
    for _ in 1 2 3; do
        for store in one.db two.db; do
            run codes_of_both 'haldane begin policy.yaml --db one.db' "haldane begin policy.yaml --db $store"
            [[ $output == '0 75' ]] || {
                echo "exit codes: $output"
                cat one two
                return 1
            }
            shows 25
            for used in one.db two.db; do
                # It is not known which of them has it.
                haldane abort shop --reason 'the next one' --db "$used" || true
            done
            shows 0
            rm -f one.db* two.db*
        done
    done
}

@test "begin --supersede: the older rollout goes back to stable first and ends as superseded" {
    local older
    begin policy.yaml
    older=$id
    refused 75 'already has the rollout' begin policy.yaml
    sleep 1
    haldane_says 0 begin policy.yaml --supersede
    id=$output
    [[ $id != "$older" ]]
    shows 25
    [[ $(sql "SELECT state || '|' || weight_bp FROM rollouts WHERE id = '$older'") == 'superseded|0' ]]
    haldane_says 20 advance "$older"
    haldane_says 10 advance "$id"
    shows 25
    haldane_says 0 abort "$id" --reason enough
    proof_record_is_whole
}

@test "another store on the same HAProxy: refused while the lease holds; afterwards it fences the older one" {
    local older
    begin brief.yaml
    older=$id
    haldane_says 75 begin policy.yaml --db other.db
    shows 25
    kill_guards
    back_within 4 "$(looked_at_ms 4)"
    haldane_says 0 begin policy.yaml --db other.db
    id=$output
    shows 25
    # The one that was thought dead wakes up.
    haldane_says 20 advance "$older" --format json
    answer '.state == "superseded" or .state == "expired"'
    shows 25
    haldane_says 10 advance "$id" --db other.db
    shows 25
    haldane_says 0 abort "$id" --db other.db --reason enough
    proof_record_is_whole
}

@test "fenced while it runs: a newer epoch in HAProxy ends the rollout as superseded, and the split is not touched" {
    rollout_in_background policy.yaml
    wait_until 10 has_looks 1
    balancer "set map $DEMO_RUN/share.map epoch 999999"
    ends_with 20 10
    [[ $(sql "SELECT state FROM rollouts") == superseded ]]
    shows 25
    balancer "set map $DEMO_RUN/share.map epoch 1"
    proof_record_is_whole
}

# ---- a person's hand ----

by_hand() {
    balancer "set map $DEMO_RUN/share.map canary $1"
    shows "$(($1 / 100))"
}

@test "the way back cannot be written down: another look of the record is fenced, and it ends as what it was" {
    small_disk
    begin policy.yaml
    shows 25
    fill_disk
    haldane_says 74 abort "$id" --reason 'bad' --format json
    shows 0
    free_disk
    haldane_says 0 abort "$id" --reason 'bad, again' --format json
    answer '.state == "aborted" and .cause == "person" and .weight == 0'
    proof_record_is_whole
}

@test "the way back could not be written down, and somebody advances: no other haldane is made up, all is on stable" {
    small_disk
    begin policy.yaml
    fill_disk
    haldane_says 74 abort "$id" --reason 'bad'
    free_disk
    haldane_says 20 advance "$id" --format json
    answer '.state == "aborted" and .cause == "driver" and .weight == 0 and (.reason | test("newer order"))'
    shows 0
    proof_record_is_whole
}

@test "HAProxy's file cannot be written on the way back: on stable, but not at its end before that would last" {
    begin policy.yaml
    mv "$DEMO_RUN/share.map" share.map.away
    mkdir "$DEMO_RUN/share.map"
    haldane_says 69 abort "$id" --reason 'bad' --format json
    answer '.state == "rolling_back"'
    [[ $stderr == *'all traffic is on stable, but a restart of the balancer would undo that'* ]]
    shows 0
    haldane_says 69 advance "$id" --format json
    rmdir "$DEMO_RUN/share.map"
    mv share.map.away "$DEMO_RUN/share.map"
    haldane_says 20 advance "$id" --format json
    answer '.state == "aborted" and .weight == 0'
    grep -qx 'canary 0' "$DEMO_RUN/share.map"
    proof_record_is_whole
}

@test "drift: heal sets the share again, hold leaves it and holds, abort goes back to stable" {
    local what
    for what in heal hold abort; do
        rm -f "$HALDANE_DB"*
        map_policy drift.yaml
        sed -i "s|^  unattended: .*|&\n  drift: $what|" drift.yaml
        begin drift.yaml
        by_hand 7000
        wait_for_due
        case $what in
            heal)
                haldane_says 10 advance "$id" --format json
                answer '.state == "stepping" and .weight == 2500'
                shows 25
                audit drift 'the record says 25 %'
                haldane_says 0 abort "$id" --reason enough
                ;;
            hold)
                haldane_says 10 advance "$id" --format json
                answer '.state == "held"'
                shows 70
                haldane_says 0 resume "$id" --reason 'mine again' --format json
                haldane_says 10 advance "$id" --format json
                answer '.state == "stepping" and .weight == 2500'
                shows 25
                haldane_says 0 abort "$id" --reason enough
                ;;
            abort)
                haldane_says 20 advance "$id" --format json
                answer '.state == "aborted" and .weight == 0'
                shows 0
                ;;
        esac
        proof_record_is_whole
    done
}

@test "--advise: the split is never touched; the record follows the hand that moves it, and says what to do" {
    haldane_says 0 begin policy.yaml --advise
    id=$output
    shows 0
    wait_for_due
    haldane_says 10 advance "$id" --format json
    answer '.weight == 0'
    shows 0
    by_hand_for_good 2500
    wait_for_due
    haldane_says 10 advance "$id" --format json
    answer '.weight == 2500'
    shows 25
    haldane_says 0 promote "$id" --reason 'say what to do' --format json
    shows 25
    audit advice '50 %'
    haldane traffic stable policy.yaml
    haldane_says 0 abort "$id" --reason enough
    shows 0
}

by_hand_for_good() {
    balancer "set map $DEMO_RUN/share.map expires 9999999999"
    by_hand "$1"
}

@test "abort by the service's name: no need to look up the id" {
    begin policy.yaml
    haldane_says 0 abort shop --reason 'it is late' --format json
    answer '.state == "aborted" and .weight == 0'
    shows 0
    refused 66 'no rollout nosuch' abort nosuch --reason x
}
