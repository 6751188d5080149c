#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2154 # jq is quoted so; $id, $output and $stderr come from scenario.bash and run
#
# What goes wrong in a rollout, and what must hold all the same: no traffic moves upward without proof, nothing is
# counted twice or made up, harm is not seen where something was merely away, and in the end traffic is on stable,
# proven by the balancer, whoever died on the way.

load scenario

setup_file() {
    export DEMO_RATE=400
    scenarios_start
}

teardown_file() {
    stack_stop
}

setup() {
    scenario_begin
    policy policy.yaml
    policy brief.yaml unattended 4s
    policy quick.yaml steps '[{weight: 25%, min: 3s, max: 5m}, {weight: 100%, bake: 2s}]'
}

teardown() {
    [[ ! -e $DEMO_RUN/hidden.sock ]] || show_socket
    scenario_end
}

hide_socket() {
    mv "$DEMO_RUN/haproxy.sock" "$DEMO_RUN/hidden.sock"
}

show_socket() {
    mv "$DEMO_RUN/hidden.sock" "$DEMO_RUN/haproxy.sock"
}

# The share while the socket is hidden.
hidden_weight() {
    echo 'get weight shop/canary1' | socat - "UNIX-CONNECT:$DEMO_RUN/hidden.sock" | sed -n 's/^\([0-9]*\) .*/\1/p'
}

# ---- restarts ----

@test "stable and canary restart in the middle of a step: counts stay true, and the rollout goes on to its end" {
    policy restarts.yaml latency yes \
        steps '[{weight: 25%, min: 12s, max: 5m}, {weight: 50%, min: 5m, max: 9m}, {weight: 100%, bake: 2s}]'
    stack stop load
    stack load
    canary
    rollout_in_background restarts.yaml
    wait_until 15 has_looks 3
    restart_stable1
    canary
    wait_until 60 at_weight 5000
    wait_until 10 has_looks "$(($(looks) + 3))"
    signal_bg rollout TERM
    ends_with 20 10
    [[ $(sql "SELECT group_concat(weight_bp) FROM weights ORDER BY from_ms") == 2500,5000,0 ]]
    record_is_whole
    # At most what 400 requests a second can be, in the time from the look before; and in all not more than were sent.
    evidence '$per_look | [., .[1:]] | transpose | map(select(.[1]))
        | all(.[0].at as $from | .[1] | (.stable // 0) + (.canary // 0) <= 400 * (.at - $from + 4))'
    nothing_lost
    evidence "[\$per_look[] | (.stable // 0) + (.canary // 0)] | add <= 20 * 400 + $(jq .sent "$DEMO_RUN/load.json")"
}

# ---- the canary is gone ----

@test "a canary that dies: hold, not a step upward and none back at once; at the step's end all is on stable" {
    policy short.yaml undecided abort steps '[{weight: 25%, min: 1s, max: 9s}, {weight: 50%}, {weight: 100%}]' \
        unattended 10s
    stack stop load
    stack load
    canary
    begin short.yaml
    send KILL canary1
    wait_until 5 canary_is_down
    advance_until 10 '.reason | test("no data")'
    answer '.state == "stepping" and .decision == "hold"'
    [[ $status -eq 10 ]]
    shows 25
    advance_until 20 '.state != "stepping"'
    answer '.state == "expired" and .cause == "expired" and .weight == 0'
    [[ $status -eq 20 ]]
    shows 0
    record_is_whole
    # HAProxy carries the users: what was under way in the canary as it died is the most that they notice.
    stack stop load
    jq -e '.failed + ([.status["502", "503", "504"] // 0] | add) < 10' "$DEMO_RUN/load.json"
}

@test "a canary that is down before it begins: refused, no traffic moves, and nothing is left behind" {
    stack stop canary1
    wait_until 5 canary_is_down
    refused 69 'no canary server is up .*start the canary' begin policy.yaml
    haldane_says 0 list
    [[ $output == "no rollouts yet in the store $HALDANE_DB" ]]
}

# ---- Prometheus is gone ----

@test "Prometheus goes away and comes back within the lease: 69 meanwhile, nothing moves, and the looks go on" {
    canary
    begin policy.yaml
    advance_until 10 '.reason | test("shop canary")'
    stack stop prometheus
    wait_for_due
    refused_after_answer "$id"
    shows 25
    local before
    before=$(looks)
    relaunch_prometheus
    local try
    for ((try = 0; try < 15; try++)); do
        haldane_says 10 advance "$id" --format json
        (($(looks) > before + 3)) && break
        sleep 1
    done
    answer '.state == "stepping" and .weight == 2500'
    (($(looks) > before + 3))
    shows 25
    record_is_whole
    evidence '$per_look | [., .[1:]] | transpose | map(select(.[1]))
        | all(.[0].at as $from | .[1] | (.stable // 0) + (.canary // 0) <= 400 * (.at - $from + 4))'
}

@test "Prometheus does not answer in time: 69 after the policy's patience, and the looks go on when it does" {
    canary
    policy patient.yaml unattended 60s
    begin patient.yaml
    send STOP prometheus
    wait_for_due
    local started=$SECONDS
    refused_after_answer "$id"
    # Each query is tried three times.
    ((SECONDS - started <= 12))
    send CONT prometheus
    advance_until 10 '.state == "stepping" and (.reason | test("shop canary"))'
    shows 25
}

@test "Ctrl-C while Prometheus does not answer: nobody waits for it, all traffic is back on stable at once" {
    canary
    rollout_in_background policy.yaml
    send STOP prometheus
    wait_for_due
    signal_bg rollout INT
    ends_with 20 2
    shows 0
}

@test "a person's order while Prometheus does not answer: carried out at once, and the late answer moves nothing" {
    canary
    policy patient.yaml unattended 60s
    rollout_in_background patient.yaml
    wait_until 15 has_looks 1
    send STOP prometheus
    sleep 2
    local started=$SECONDS
    haldane_says 0 hold "$id" --reason 'what is it doing' --format json
    answer '.state == "held" and .weight == 2500'
    haldane_says 0 abort "$id" --reason 'enough' --format json
    answer '.state == "aborted" and .weight == 0'
    ((SECONDS - started <= 3))
    shows 0
    send CONT prometheus
    ends_with 20 15
    shows 0
    record_is_whole
}

@test "somebody puts all on stable while Prometheus does not answer: the late answer does not undo it" {
    canary
    policy patient.yaml unattended 60s
    rollout_in_background patient.yaml
    wait_until 15 has_looks 1
    send STOP prometheus
    sleep 2
    haldane_says 0 traffic stable patient.yaml
    send CONT prometheus
    wait_until 15 is_held
    shows 0
    signal_bg rollout TERM
    ends_with 20 5
    record_is_whole
}

is_held() {
    [[ $(sql "SELECT state FROM rollouts") == held ]]
}

@test "an order that comes after the lease has run out: back on stable first, and a hold holds nothing" {
    canary
    begin brief.yaml
    local pid
    for pid in $(pgrep -f -- "haldane guard $id"); do kill -KILL "$pid"; done
    sleep 4
    haldane_says 64 hold "$id" --reason 'let me see'
    [[ $stderr == *'is expired'* ]]
    shows 0
}

@test "Prometheus is away for longer than the lease: all traffic back on stable, counted as expired" {
    canary
    begin brief.yaml
    stack stop prometheus
    sleep 4
    haldane_says 20 advance "$id" --format json
    answer '.state == "expired" and .cause == "expired" and (.reason | test("lease"))'
    shows 0
    relaunch_prometheus
}

# An advance that fails says why and tells where the rollout stands.
refused_after_answer() {
    haldane_says 69 advance "$1" --format json
    answer '.state == "stepping"'
    [[ $stderr == "haldane: "*"$PROMETHEUS"* ]]
}

# ---- the balancer is gone ----

@test "abort while the balancer cannot be reached: 69 and the truth; proven as soon as it is back" {
    canary
    begin policy.yaml
    hide_socket
    haldane_says 69 abort "$id" --reason 'the night shift says so' --format json
    answer '.state == "rolling_back" and .cause == "person" and .weight == 2500'
    [[ $stderr == *"NOT proven to be on stable"* ]]
    haldane_says 69 advance "$id"
    haldane_says 10 status "$id" --format json
    answer '.state == "rolling_back"'
    (($(hidden_weight) > 0))
    show_socket
    haldane_says 20 advance "$id" --format json
    answer '.state == "aborted" and .weight == 0'
    shows 0
    audit 'rollback failed' 'NOT proven'
    audit aborted
    # Said once, however often it was tried.
    [[ $(sql "SELECT count(*) FROM audit WHERE event = 'rollback failed'") -le 2 ]]
}

@test "Ctrl-C while the balancer cannot be reached: it is tried until the balancer proves it" {
    canary
    rollout_in_background policy.yaml
    hide_socket
    signal_bg rollout INT
    sleep 3
    kill -0 "$(bg_pid rollout)"
    (($(hidden_weight) > 0))
    show_socket
    ends_with 20 10
    shows 0
    [[ $(sql "SELECT count(*) FROM audit WHERE event = 'rollback failed'") -eq 1 ]]
}

@test "HAProxy restarts in the middle: its 0 % is set to the step's share again, and recorded" {
    canary
    begin policy.yaml
    stack stop haproxy
    haldane_says 69 advance "$id"
    relaunch_haproxy
    shows 0
    wait_until 5 canary_is_up
    advance_until 10 '.state == "stepping" and .weight == 2500'
    shows 25
    audit drift 'had 0 %, not the 25 %'
    record_is_whole
}

@test "somebody sets weights by hand: set again, recorded, and what was seen under the wrong split is no evidence" {
    local found before
    canary
    begin policy.yaml
    advance_until 15 '.reason | test("shop canary")'
    before=$(sql "SELECT last_look_ms FROM rollouts")
    balancer 'set server shop/canary1 weight 200'
    found=$(share)
    wait_for_due
    haldane_says 10 advance "$id" --format json
    shows 25
    audit drift 'the record says 25 %'
    wait_for_due
    sleep 1
    haldane_says 10 advance "$id"
    record_is_whole
    # The record of the split: the step's, the one that was found, the step's again; and no look under the one found.
    evidence "(.weights | length) == 3 and .weights[0].basis_points == 2500 and .weights[2].basis_points == 2500
        and ((.weights[1].basis_points / 100 - $found) | fabs) < 0.1"
    [[ $(sql "SELECT count(*) FROM looks, (SELECT max(from_ms) AS again FROM weights)
        WHERE at_ms > $before AND at_ms <= again") -eq 0 ]]
    # The first look that begins after it counts again.
    [[ $(sql "SELECT json ->> 'decision' FROM verdicts ORDER BY look DESC LIMIT 1") == hold ]]
}

@test "somebody takes the canary's traffic away by hand: that is not undone; held, until a person resumes" {
    canary
    begin policy.yaml
    balancer 'set server shop/canary1 weight 0'
    wait_for_due
    # Whoever promotes has not seen that yet.
    haldane_says 75 promote "$id" --reason 'looks good'
    [[ $stderr == *'just become held'* ]]
    haldane_says 10 advance "$id" --format json
    answer '.state == "held" and .weight == 0 and (.reason | test("somebody else gave the canary 0 %.*haldane resume"))'
    wait_for_due
    haldane_says 10 advance "$id"
    shows 0
    haldane_says 0 resume "$id" --reason 'it was me'
    haldane_says 10 advance "$id" --format json
    answer '.state == "stepping" and .weight == 2500'
    shows 25
    record_is_whole
}

# ---- haldane itself is gone ----

has_looked_until() {
    haldane advance "$id" >/dev/null || [[ $? -eq 10 ]]
    (($(sql "SELECT max(at_ms) FROM looks") >= $1))
}

@test "kill -9 of rollout: another process goes on where it was, and no look is counted twice" {
    local before
    canary
    rollout_in_background policy.yaml
    wait_until 15 has_looks 3
    signal_bg rollout KILL
    before=$(sql "SELECT max(at_ms) FROM looks")
    sleep 2
    haldane_says 10 advance "$id" --format json
    answer '.state == "stepping" and .weight == 2500'
    # What was missed is made up for, each look once. One that lacks a sample waits for the next.
    wait_until 10 has_looked_until $((before + 2000))
    shows 25
    record_is_whole
}

@test "kill -9 again and again, at any moment: promoted all the same, and a replay decides the same" {
    local try
    canary
    begin quick.yaml
    for ((try = 0; try < 100; try++)); do
        run timeout -s KILL "0.$((RANDOM % 9))5" haldane advance "$id" --wait
        [[ $status -ne 0 ]] || break
        [[ $status -eq 10 || $status -eq 137 ]]
    done
    haldane_says 0 status "$id" --format json
    answer '.state == "promoted"'
    shows 100
    record_is_whole
    haldane report "$id" --evidence -o evidence.json
    sql "SELECT json FROM verdicts ORDER BY look" | diff - <(haldane replay quick.yaml --evidence evidence.json --format json)
}

@test "kill -9 of rollout, and nobody comes until the lease is out: back on stable, and never upward before that" {
    canary
    rollout_in_background brief.yaml
    signal_bg rollout KILL
    balancer 'set server shop/canary1 weight 0'
    sleep 4
    haldane_says 20 advance "$id" --format json
    answer '.state == "expired" and .weight == 0'
    shows 0
    [[ $(sql "SELECT count(*) FROM audit WHERE event = 'drift'") -eq 0 ]]
}

@test "Ctrl-C of rollout: all traffic is proven to be on stable before it ends with 20" {
    canary
    rollout_in_background policy.yaml
    shows 25
    signal_bg rollout INT
    ends_with 20 5
    shows 0
    jq -e '.state == "aborted" and .cause == "person"' <(tail -n 1 rollout.log)
    audit aborted 'proven to be on stable'
}

# What a process leaves behind that dies at the given point, for the next one to find.
leave() {
    sqlite3 "$HALDANE_DB" "$1"
}

@test "died after the balancer took the next step: that step is in force" {
    canary
    begin policy.yaml
    leave "INSERT INTO intents VALUES (1, 5000, 1, 'proven')"
    haldane traffic set 50% policy.yaml
    haldane_says 10 advance "$id" --format json
    answer '.state == "stepping" and .step == 1 and .weight == 5000'
    shows 50
    audit step 'before that could be recorded'
}

@test "died before the balancer was asked for the next step: the old one is in force" {
    canary
    begin policy.yaml
    leave "INSERT INTO intents VALUES (1, 5000, 1, 'proven')"
    haldane_says 10 advance "$id" --format json
    answer '.step == 0 and .weight == 2500'
    shows 25
    [[ $(sql "SELECT count(*) FROM intents") -eq 0 ]]
}

@test "died between two servers of one change: back to stable, for the split is nobody's" {
    canary
    begin policy.yaml
    leave "INSERT INTO intents VALUES (1, 5000, 1, 'proven')"
    haldane traffic set 37% policy.yaml
    haldane_says 20 advance "$id" --format json
    answer '.state == "aborted" and .cause == "driver"'
    shows 0
}

@test "died after it took the service and before its first weight: the next one sets it" {
    canary
    begin policy.yaml
    leave "UPDATE rollouts SET weight_bp = 0, reason = ''; DELETE FROM weights; DELETE FROM audit"
    haldane traffic stable policy.yaml
    haldane_says 10 advance "$id" --format json
    answer '.state == "stepping" and .step == 0 and .weight == 2500'
    shows 25
}

@test "died between its first intent and its first weight, and is resumed: the record begins with the weight" {
    canary
    begin policy.yaml
    leave "UPDATE rollouts SET weight_bp = 0, reason = ''; DELETE FROM weights; DELETE FROM audit;
        INSERT INTO intents VALUES (1, 2500, 1, 'first step')"
    haldane traffic stable policy.yaml
    start_bg rollout haldane rollout --resume "$id" --format json
    wait_until 10 has_begun
    shows 25
    [[ $(sql "SELECT event FROM audit ORDER BY seq LIMIT 1") == begun ]]
    signal_bg rollout TERM
    ends_with 20 10
}

@test "died after harm was shown and before it moved anything: back on stable, though Prometheus is away" {
    canary --failure-share 60%
    begin policy.yaml
    advance_until 30 '.state == "aborted"'
    stack stop prometheus
    leave "UPDATE rollouts SET state = 'stepping', cause = '', weight_bp = 2500, ended_ms = 0;
        DELETE FROM weights WHERE weight_bp = 0"
    haldane traffic set 25% policy.yaml
    haldane_says 20 advance "$id" --format json
    answer '.state == "aborted" and .cause == "harmed"'
    shows 0
    relaunch_prometheus
}

@test "the clock was set back by more than the lease: back on stable, for nobody knows how long it was alone" {
    canary
    begin policy.yaml
    leave "UPDATE rollouts SET lease_until_ms = lease_until_ms + 3600000, last_look_ms = last_look_ms + 3600000"
    haldane_says 20 advance "$id" --format json
    answer '.state == "expired" and (.reason | test("clock"))'
    shows 0
}

# ---- the store is gone ----

@test "another program keeps the store for seconds: nothing is lost or counted twice, and the rollout goes on" {
    canary
    rollout_in_background quick.yaml
    wait_until 15 has_looks 2
    sqlite3 "$HALDANE_DB" "BEGIN IMMEDIATE" ".shell sleep 7" "COMMIT"
    ends_with 0 60
    grep -q 'is being written by another process' rollout.log
    shows 100
    record_is_whole
    haldane report "$id" --evidence -o evidence.json
    sql "SELECT json FROM verdicts ORDER BY look" | diff - <(haldane replay quick.yaml --evidence evidence.json --format json)
}

# rollout_on_a_small_disk POLICY KIB: no file of it can grow beyond that.
rollout_on_a_small_disk() {
    trap '' XFSZ
    ulimit -f "$2"
    exec haldane rollout "$1" --format json
}

@test "the store cannot grow any more: all traffic on stable first, then 74, and a person finishes it" {
    canary
    start_bg rollout rollout_on_a_small_disk policy.yaml 400
    ends_with 74 60
    id=$(sql "SELECT id FROM rollouts")
    (($(looks) > 0))
    shows 0
    grep -q "traffic is on stable, .*haldane abort $id" rollout.log
    record_is_whole
    # With room again, it is finished.
    haldane_says 0 abort "$id" --reason 'after the repair' --format json
    answer '.state == "aborted" and .weight == 0'
    shows 0
}

# ---- balancers with whole numbers ----

@test "a share that whole weights cannot give exactly: it is taken, is no drift, and is promoted" {
    policy odd.yaml steps '[{weight: 24.97%, min: 3s, max: 5m}, {weight: 50%, min: 5m, max: 9m}, {weight: 100%, bake: 2s}]'
    canary
    begin odd.yaml
    shows 24.96
    advance_until 30 '.step == 1 and .weight == 5000'
    shows 50
    [[ $(sql "SELECT count(*) FROM audit WHERE event = 'drift'") -eq 0 ]]
}
