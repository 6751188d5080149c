#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031,SC2154 # $output and $stderr come from run
#
# What keeps watch over haldane's own processes. What must hold for a user: the guard that a rollout starts keeps nothing
# of its parent and ends by itself; systemd is told when a process is ready and that it still looks; and one that hangs
# tells it nothing.

load scenario
load proof

setup_file() {
    export DEMO_RATE=300
    scenarios_start
}

teardown_file() {
    stack_stop
}

setup() {
    scenario_begin
    canary
    policy policy.yaml
    policy brief.yaml unattended 4s
}

teardown() {
    [[ ! -e $DEMO_RUN/haproxy.pid ]] || send CONT haproxy || true
    scenario_end
}

# guards: the pids of the guards that watch one rollout of this test's store.
guards() {
    pgrep -f -- " guard .* --detach .*$HALDANE_DB" || true
}

no_guard() {
    [[ -z $(guards) ]]
}

# What is left is the guard of all rollouts.
kill_own_guards() {
    local pid
    for pid in $(guards); do kill -KILL "$pid"; done
}

# Its session: the fourth field after the program's name.
session_of() {
    sed 's/^.*) //' "/proc/$1/stat" | cut -d ' ' -f 4
}

# listen: a socket as systemd's. What it is told, and by which process, is in the file `told`.
listen() {
    export NOTIFY_SOCKET=$DEMO_RUN/notify
    rm -f -- "$NOTIFY_SOCKET"
    start_bg listener python3 -u -c '
import socket, struct, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
s.bind(sys.argv[1])
with open(sys.argv[2], "w", buffering=1) as told:
    while True:
        text, more, _, _ = s.recvmsg(4096, 64)
        told.write("%d %s\n" % (struct.unpack("3i", more[0][2])[0], text.decode()))' "$NOTIFY_SOCKET" told
    wait_until 5 test -S "$NOTIFY_SOCKET"
}

# told PID WHAT [TIMES]: whether that process has said it so often.
told() {
    (($(grep -cx "$1 $2" told) >= ${3:-1}))
}

# silent: nobody says anything for two seconds, in which each would have spoken once at least.
silent() {
    local before
    before=$(wc -l <told)
    sleep 2
    [[ $(wc -l <told) -eq $before ]]
}

@test "begin returns at once; its guard keeps nothing of the parent, goes back alone, and ends by itself" {
    local before pid
    # A descriptor, a pipe and a supervisor of the parent's.
    listen
    exec 7>kept
    before=$EPOCHREALTIME
    haldane begin brief.yaml | cat >id
    holds "$EPOCHREALTIME - $before < 4"
    exec 7>&-
    pid=$(guards)
    [[ $pid =~ ^[0-9]+$ ]]
    shows 25
    [[ $(session_of "$pid") == "$pid" ]]
    [[ $(readlink "/proc/$pid/fd/0" "/proc/$pid/fd/1" "/proc/$pid/fd/2" | sort -u) == /dev/null ]]
    run readlink "/proc/$pid/fd/"*
    [[ $output == *"$HALDANE_DB"* ]]
    run -1 grep -v -e '^/dev/null$' -e "^$HALDANE_DB" <<<"$output"
    # Nobody looks.
    wait_until 12 shows 0
    wait_until 3 no_guard
    haldane_says 20 status "$(<id)" --format json
    answer '.state == "expired" and .weight == 0'
    [[ ! -s told ]]
    record_is_whole
}

@test "a guard ends with its rollout, and with its store" {
    haldane_says 64 guard --detach
    haldane_says 66 guard shop-20260101-000000 --detach
    haldane_says 0 begin policy.yaml
    [[ -n $(guards) ]]
    haldane_says 0 abort shop --reason 'enough'
    wait_until 3 no_guard
    # A store that is named from the folder of the moment.
    mkdir gone
    haldane_says 0 begin policy.yaml --db gone/haldane.db
    HALDANE_DB=$BATS_TEST_TMPDIR/gone/haldane.db
    [[ -n $(guards) ]]
    rm -r gone
    wait_until 3 no_guard
}

@test "systemd hears of rollout and guard: ready, then a sign of life a second, and none of one that hangs" {
    local guard rollout
    listen
    start_bg guard haldane guard
    guard=$(bg_pid guard)
    wait_until 5 told "$guard" READY=1
    start_bg rollout haldane rollout policy.yaml
    rollout=$(bg_pid rollout)
    wait_until 5 told "$rollout" READY=1
    # Not before the first weight is set.
    shows 25
    wait_until 5 told "$rollout" WATCHDOG=1 2
    told "$guard" WATCHDOG=1 2
    signal_bg rollout STOP
    signal_bg guard STOP
    silent
    signal_bg guard CONT
    signal_bg rollout CONT
    wait_until 5 told "$rollout" WATCHDOG=1 3
    signal_bg rollout TERM
    ends_with 20 10
    shows 0
    stop_bg guard
    run -1 grep -v -e "^$rollout " -e "^$guard " told
}

@test "a guard that cannot reach the balancer says so and tries again at once, not with the next lease" {
    local since
    policy slow.yaml unattended 8s
    start_bg guard haldane guard
    begin slow.yaml
    kill_own_guards
    mv "$DEMO_RUN/haproxy.sock" "$DEMO_RUN/away.sock"
    wait_until 20 grep -q 'GUARD: .*NOT proven to be on stable' guard.log
    mv "$DEMO_RUN/away.sock" "$DEMO_RUN/haproxy.sock"
    since=$EPOCHREALTIME
    wait_until 20 shows 0
    holds "$EPOCHREALTIME - $since < 5"
    wait_until 5 audit expired
    record_is_whole
    stop_bg guard
}

# ---- one for all ----

# A second HAProxy before the same shops, with the socket $other.
other_haproxy() {
    local ports
    other=$DEMO_RUN/other.sock
    read -r -a ports < <("$HALDANE_SOURCE/tests/free_ports" 2)
    sed "s|$DEMO_RUN/haproxy.sock|$other|; s|:$DEMO_WEB_PORT\$|:${ports[0]}|; s|:$DEMO_OPS_PORT\$|:${ports[1]}|" \
        "$DEMO_RUN/haproxy.cfg" >other.cfg
    start_bg other haproxy -db -f other.cfg
    wait_until 10 other_canary_is_up
}

other_balancer() {
    printf '%s\n' "$1" | socat - "UNIX-CONNECT:$other"
}

other_canary_is_up() {
    other_balancer 'show servers state shop' | awk '$4 == "canary1" { up = $6 == 2 } END { exit !up }'
}

other_is_on_stable() {
    [[ $(other_balancer 'get weight shop/canary1') == 0\ * ]]
}

# begun_ms SECONDS: when the lease of the newest rollout began, which has that `unattended`.
begun_ms() {
    sql "SELECT lease_until_ms - $1 * 900 FROM rollouts ORDER BY seq DESC LIMIT 1"
}

# in_time SECONDS SINCE_MS COMMAND...: it holds no later than that.
in_time() {
    local took seconds=$1 since=$2
    shift 2
    proof_poll "$((seconds + 4))" "$@"
    took=$(($(proof_now_ms) - since))
    ((took <= seconds * 1000)) || {
        echo "$took ms: $*"
        return 1
    }
}

@test "one balancer hangs: the other rollout goes back in time, and the guard of all gives its signs of life" {
    local since guard before
    other_haproxy
    policy other.yaml service other socket "$other" unattended 4s
    policy hung.yaml unattended 3s
    listen
    start_bg guard haldane guard
    guard=$(bg_pid guard)
    begin other.yaml
    since=$(begun_ms 4)
    begin hung.yaml
    kill_own_guards
    send STOP haproxy
    in_time 4 "$since" other_is_on_stable
    before=$(grep -c "^$guard WATCHDOG=1" told)
    wait_until 3 told "$guard" WATCHDOG=1 "$((before + 1))"
    [[ $(sql "SELECT state FROM rollouts ORDER BY seq" | paste -sd ' ') == 'expired rolling_back' ]]
    send CONT haproxy
    wait_until 5 shows 0
    wait_until 5 audit expired
    wait_until 3 no_helpers
    # Each way back was one process, and none ended another.
    run -1 grep -E 'killed|NOT' guard.log
    run -1 grep -v "^$guard " told
    stop_bg guard
    record_is_whole
}

no_helpers() {
    [[ $(proof_guards) == "" && -z $(pgrep -P "$(bg_pid guard)") ]]
}

# Evidence of forty rollouts for which there is no room in four seconds.
fill_store() {
    haldane_says 0 guard --once
    sqlite3 "$HALDANE_DB" "
        INSERT INTO rollouts(id, service, state, cause, step, weight_bp, begun_ms, step_since_ms, last_look_ms,
                lease_until_ms, ended_ms, reason, retention_ms)
            SELECT 'old-' || value, 'old', 'aborted', 'harm', 0, 0, 1, 1, 1, 1, 2, '', 1 FROM generate_series(1, 40);
        INSERT INTO weights(rollout, from_ms, weight_bp) SELECT seq, value, 0
            FROM rollouts, generate_series(1, 1000)"
}

old_rows() {
    sql "SELECT count(*) FROM weights WHERE rollout <= 40"
}

fewer_rows_than() {
    (($(old_rows) < $1))
}

@test "much to remove from the store: it keeps no rollout waiting, and goes on until it is done" {
    local rows
    fill_store
    start_bg guard haldane guard
    begin brief.yaml
    kill_own_guards
    in_time 4 "$(begun_ms 4)" shows 0
    rows=$(old_rows)
    ((rows > 0 && rows < 40000))
    wait_until 5 fewer_rows_than "$rows"
    stop_bg guard
}

@test "guard --once: all that is due goes back, and it returns when it has" {
    begin policy.yaml
    kill_own_guards
    haldane_says 0 guard --once
    shows 25
    sqlite3 -cmd '.timeout 5000' "$HALDANE_DB" 'UPDATE rollouts SET lease_until_ms = 1'
    haldane_says 0 guard --once
    shows 0
    [[ $stderr == *"$id GUARD: "* ]]
    [[ $(sql 'SELECT state FROM rollouts') == expired ]]
    record_is_whole
}

@test "the clock is set back by more than half a lease: whoever guards, traffic is back when the lease is over" {
    local since own_since all=$HALDANE_DB own=$BATS_TEST_TMPDIR/own.db
    other_haproxy
    policy other.yaml service other socket "$other" unattended 4s
    proof_clock @clock
    echo +0 >clock
    start_bg guard "${clock[@]}" haldane guard
    run --separate-stderr "${clock[@]}" haldane begin brief.yaml
    since=$(begun_ms 4)
    kill_own_guards
    HALDANE_DB=$own
    run --separate-stderr "${clock[@]}" haldane begin other.yaml
    own_since=$(begun_ms 4)
    # Both have seen the lease, by the clock as it was.
    sleep 1.2
    echo -2.4 >clock
    in_time 4 "$since" shows 0
    in_time 4 "$own_since" other_is_on_stable
    for HALDANE_DB in "$all" "$own"; do
        wait_until 3 audit expired
    done
    HALDANE_DB=$all
    stop_bg guard
}
