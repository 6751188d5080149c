# shellcheck shell=bash
#
# Children and signals. A signal only raises a flag; the main line looks at the flag between two steps, so that there is
# one place where an interruption is acted on and no half-done step. Each child runs in a session of its own: a Ctrl-C
# or a closed terminal reaches this script alone, which then decides what becomes of the child. Children have no
# terminal, an empty stdin, and none of the script's signal settings.

signal_count=0
signal_name=''
child=''
wait_cut=''

watch_signals() {
    trap 'signal_count=$((signal_count + 1)) signal_name=INT' INT
    trap 'signal_count=$((signal_count + 1)) signal_name=TERM' TERM
    trap 'signal_count=$((signal_count + 1)) signal_name=HUP' HUP
    trap '' PIPE # `canary.sh 2>&1 | head` must not end a rollout half-way
}

interrupted() {
    ((signal_count > 0))
}

# The exit code of a program that a signal ended, for an interruption before any traffic was moved.
signal_exit_code() {
    printf '%s\n' $((128 + $(kill -l "$signal_name")))
}

# start [NAME=VALUE...] COMMAND...: in the background; `child` is its process id and its group's.
# Descriptor 9 is the lock of this deployment: a server that outlives the deploy command must not inherit it.
start() {
    setsid env --default-signal "$@" </dev/null 9>&- &
    child=$!
}

# wait_child COUNT: waits for the child while no more signals than COUNT have come. Returns the child's exit code, or 1
# with `wait_cut` set if another signal came first.
wait_child() {
    local status=0
    wait_cut=yes
    ((signal_count == $1)) || return 1
    wait "$child" || status=$?
    ((signal_count == $1)) || return 1
    wait_cut=''
    return "$status"
}

# Runs a command to its end, whatever signals come: for what must not be left half-done.
run_to_end() {
    local status
    start "$@"
    while :; do
        status=0
        wait_child "$signal_count" || status=$?
        [[ -n $wait_cut ]] || return "$status"
    done
}

# Runs a command that an interruption ends at once, with everything it started.
run_until_interrupted() {
    local status=0
    ! interrupted || return 1
    start "$@"
    wait_child 0 || status=$?
    [[ -z $wait_cut ]] || end_child
    return "$status"
}

# TERM to the child's whole group, and KILL to what is left of it after ten seconds.
end_child() {
    local tenth
    kill -TERM -- "-$child" 2>/dev/null || kill -TERM "$child" 2>/dev/null || return 0
    for ((tenth = 0; tenth < 100; tenth++)); do
        kill -0 -- "-$child" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL -- "-$child" 2>/dev/null || true
}

# Sleeps; a signal ends the sleep.
nap() {
    run_until_interrupted sleep "$1" || true
}
