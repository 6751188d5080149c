#!/usr/bin/env bats
# shellcheck disable=SC2154 # $output and $stderr come from run
#
# What keeps watch over haldane's own processes. What must hold for a user: the guard that a rollout starts keeps nothing
# of its parent and ends by itself; systemd is told when a process is ready and that it still looks; and one that hangs
# tells it nothing.

load scenario

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
    scenario_end
}

# guards: the pids of the guards that watch one rollout of this test's store.
guards() {
    pgrep -f -- " guard .* --detach .*$HALDANE_DB" || true
}

no_guard() {
    [[ -z $(guards) ]]
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
    no_guard
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
