#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2154 # jq is quoted so; $id, $output and $stderr come from scenario.bash and run
#
# The proof's everyday sample: kills at random moments, and what else can break around a rollout. After each fault the
# split is what the record says or all on stable, the record is whole, and no request is lost that the shops did not
# fail themselves. `make soak` runs the kills by the hundred.

load scenario
load proof

setup_file() {
    export DEMO_RATE=300 DEMO_BALANCER=weights
    scenarios_start
}

teardown_file() {
    stack_stop
}

setup() {
    scenario_begin
    policy policy.yaml
    policy brief.yaml unattended 4s
}

teardown() {
    [[ ! -e $DEMO_RUN/haproxy.pid ]] || send CONT haproxy || true
    scenario_end
    no_small_disk
}

looked_at_ms() {
    sql "SELECT lease_until_ms - $1 * 900 FROM rollouts ORDER BY seq DESC LIMIT 1"
}

back_within() {
    local took
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

has_a_look() {
    [[ -e $HALDANE_DB ]] && has_looks 1 2>/dev/null
}

# Load from here on, so that nothing_lost speaks of this test alone.
count_losses() {
    stack stop load
    failures_before=$(proof_failures_given)
    stack load
}

nobody_lost() {
    stack stop load
    proof_nothing_lost "$failures_before"
}

# ---- kills ----

# Beside the other tests, so that the machine is busy; `make soak` has it for itself.
@test "twenty rollouts, killed at random moments: split, record, requests and times are as promised" {
    "$HALDANE_SOURCE/tests/bench/soak.sh" --seed 1 --runs 20 --lanes 4 --slack 1000
}

@test "kill -9 of rollout, HAProxy knows no lease: the guard alone brings all traffic back, and no order is lost" {
    canary
    count_losses
    rollout_in_background brief.yaml
    wait_until 10 has_looks 1
    signal_bg rollout KILL
    back_within 4 "$(looked_at_ms 4)"
    wait_until 3 has_ended
    [[ $(sql "SELECT state || '|' || cause FROM rollouts") == 'expired|expired' ]]
    [[ $(sql "SELECT DISTINCT actor FROM audit WHERE event IN ('rolling back', 'expired')") == 'haldane guard' ]]
    wait_until 3 proof_no_guards
    proof_record_is_whole
    nobody_lost
}

@test "died after the balancer took the first weight and before the record had it: the record begins with that" {
    canary
    count_losses
    begin policy.yaml
    sqlite3 -cmd '.timeout 5000' "$HALDANE_DB" "UPDATE rollouts SET weight_bp = 0, reason = ''; DELETE FROM weights;
        DELETE FROM audit; INSERT INTO intents VALUES (1, 2500, 1, 'first step')"
    haldane_says 10 advance "$id" --format json
    answer '.state == "stepping" and .weight == 2500'
    shows 25
    [[ $(sql "SELECT event || '|' || weight_bp FROM audit ORDER BY seq LIMIT 1") == 'begun|2500' ]]
    haldane_says 0 abort "$id" --reason enough
    proof_record_is_whole
    nobody_lost
}

# ---- the balancer ----

@test "HAProxy stops answering during a step and during the way back: the way is finished when it answers again" {
    local abort
    canary
    count_losses
    rollout_in_background policy.yaml
    wait_until 10 has_looks 1
    send STOP haproxy
    sleep 2
    send CONT haproxy
    wait_until 10 has_looks "$(($(looks) + 2))"
    shows 25
    [[ $(sql "SELECT state FROM rollouts") == stepping ]]
    send STOP haproxy
    haldane abort "$id" --reason 'on the way back' >abort.log 2>&1 3>&- &
    abort=$!
    sleep 1
    send CONT haproxy
    wait "$abort"
    shows 0
    ends_with 20 10
    proof_record_is_whole
    nobody_lost
}

reload_haproxy() {
    local old
    old=$(cat "$DEMO_RUN/haproxy.pid")
    relaunch haproxy haproxy -db -f "$DEMO_RUN/haproxy.cfg" -x "$DEMO_RUN/haproxy.sock" -sf "$old"
    wait_http "http://127.0.0.1:$DEMO_WEB_PORT/readyz"
}

@test "HAProxy is reloaded and has forgotten the weights: they are set again, and recorded" {
    canary
    begin policy.yaml
    reload_haproxy
    wait_until 5 shows 0
    wait_until 5 canary_is_up
    wait_for_due
    haldane_says 10 advance "$id" --format json
    answer '.state == "stepping" and .weight == 2500'
    shows 25
    audit drift 'restarted or reloaded'
    record_is_whole
}

# ---- the disk ----

@test "the disk fills up during a step: nothing moves up, all traffic is on stable, then 74; finished with room again" {
    small_disk
    canary
    count_losses
    policy steps.yaml steps '[{weight: 25%, min: 1s, max: 3s}, {weight: 50%, min: 5m, max: 9m}, {weight: 100%, bake: 1m}]' \
        undecided promote
    rollout_in_background steps.yaml
    fill_disk
    ends_with 74 20
    shows 0
    [[ $(sql "SELECT max(weight_bp) FROM weights") -eq 2500 ]]
    free_disk
    haldane_says 0 abort "$id" --reason 'room again' --format json
    shows 0
    proof_record_is_whole
    nobody_lost
}

@test "the disk is full during the way back: stable first, the record when there is room" {
    small_disk
    canary
    count_losses
    begin policy.yaml
    fill_disk
    haldane_says 74 abort "$id" --reason 'now'
    shows 0
    free_disk
    haldane_says 0 abort "$id" --reason 'again' --format json
    answer '.state == "aborted" and .weight == 0'
    shows 0
    proof_record_is_whole
    nobody_lost
}

@test "the disk is full and nobody comes: the guard brings traffic back in time, and records it when there is room" {
    small_disk
    canary
    count_losses
    rollout_in_background brief.yaml
    wait_until 10 has_looks 1
    signal_bg rollout KILL
    fill_disk
    back_within 4 "$(looked_at_ms 4)"
    free_disk
    wait_until 5 has_ended
    [[ $(sql "SELECT state FROM rollouts") == expired ]]
    wait_until 3 proof_no_guards
    shows 0
    proof_record_is_whole
    nobody_lost
}

# ---- Prometheus ----

# A broken Prometheus in the place of the real one: the first word of the file `answers` says what it answers.
broken_prometheus() {
    stack stop prometheus
    echo "$1" >answers
    cat >broken.py <<'PYTHON'
import http.server, json, sys

bodies = {
    "rubbish": (200, b"<html>It works!</html>"),
    "cut": (200, b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":{'),
    "error": (500, b"internal server error"),
    "empty": (200, b'{"status":"success","data":{"resultType":"matrix","result":[]}}'),
    "partial": (200, b'{"status":"success","warnings":["remote_read: half is missing"],'
                     b'"data":{"resultType":"matrix","result":[]}}'),
}

class Broken(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        code, body = bodies[open("answers").read().split()[0]]
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Broken).serve_forever()
PYTHON
    start_bg broken python3 broken.py "$DEMO_PROMETHEUS_PORT"
    wait_until 5 curl -s -o /dev/null --noproxy '*' "$PROMETHEUS"
}

@test "Prometheus answers rubbish, half an answer, an error, a part: 69, and nothing moves; nothing at all: hold" {
    local answer
    canary
    count_losses
    begin policy.yaml
    broken_prometheus rubbish
    wait_for_due
    for answer in rubbish cut error partial; do
        echo "$answer" >answers
        haldane_says 69 advance "$id" --format json
        answer '.state == "stepping" and .weight == 2500'
        shows 25
    done
    [[ $(looks) -eq 0 ]]
    echo empty >answers
    advance_until 8 '.state == "stepping" and .decision == "hold" and (.reason | test("no data"))'
    [[ $status -eq 10 ]]
    shows 25
    stop_bg broken || true
    relaunch_prometheus
    advance_until 15 '.reason | test("shop canary")'
    shows 25
    record_is_whole
    nobody_lost
}

@test "Prometheus answers rubbish for longer than the lease: such looks renew nothing, all traffic goes back" {
    local since
    canary
    count_losses
    rollout_in_background brief.yaml
    wait_until 10 has_looks 1
    broken_prometheus rubbish
    since=$(looked_at_ms 4)
    back_within 4 "$since"
    ends_with 20 10
    [[ $(sql "SELECT state FROM rollouts") == expired ]]
    relaunch_prometheus
    proof_record_is_whole
    nobody_lost
}

# ---- the clock ----

# Commands after "${clock[@]}" go by the file `clock`, while they run.
by_clock() {
    proof_clock @clock
    echo +0 >clock
}

@test "the clock jumps an hour forward or back between two calls: back to stable, never on without a look" {
    local jump pid
    canary
    count_losses
    by_clock
    for jump in +3600 -3600; do
        rm -f "$HALDANE_DB"*
        begin policy.yaml
        for pid in $(proof_guards); do kill -KILL "$pid"; done
        echo "$jump" >clock
        run --separate-stderr "${clock[@]}" haldane advance "$id" --format json
        [[ $status -eq 20 ]]
        answer '.state == "expired" and .weight == 0'
        shows 0
    done
    nobody_lost
}

@test "the clock jumps while rollout and its guard run: they end on stable within the lease, whichever way it went" {
    local jump
    canary
    count_losses
    by_clock
    for jump in +3600 -3600; do
        rm -f "$HALDANE_DB"*
        echo +0 >clock
        start_bg rollout "${clock[@]}" haldane rollout brief.yaml --format json
        wait_until 10 has_a_look
        echo "$jump" >clock
        back_within 4 "$(proof_now_ms)"
        ends_with 20 10
        [[ $(sql "SELECT state FROM rollouts") == expired ]]
    done
    nobody_lost
}

@test "the clock jumps and nobody comes: the guard is no later than the lease, whichever way it went" {
    local jump since
    canary
    count_losses
    by_clock
    for jump in +3600 -3600; do
        rm -f "$HALDANE_DB"*
        echo +0 >clock
        start_bg rollout "${clock[@]}" haldane rollout brief.yaml --format json
        wait_until 10 has_a_look
        since=$(looked_at_ms 4)
        signal_bg rollout KILL
        echo "$jump" >clock
        back_within 4 "$since"
        wait_until 4 has_ended
        wait_until 4 proof_no_guards
    done
    nobody_lost
}
