# shellcheck shell=bash
# shellcheck disable=SC2154 # scratch is the caller's
#
# Children and signals. The work is done in a process of its own; the one that was started, and that people and services
# send their signals to, only waits for it and writes down each signal. The work looks at that record between two steps,
# so that there is one place where an interruption is acted on and no half-done step. (A trap in the working process
# would not do: bash 5.2 may run it in the middle of reading a command substitution, and then stops with a syntax
# error.)
#
# Each child runs in a session of its own: a Ctrl-C or a closed terminal reaches this script alone, which then decides
# what becomes of the child. Children have no terminal, an empty stdin, and none of the script's signal settings.

signals=''
signal_name=''
stop_file=''  # whoever makes this file asks for the same as a signal does; rollback.sh does
child_file='' # says who the child is, for one that outlives this script
child=''

# scratch_make NAME: sets `scratch`, a folder for answers that is gone when the script ends. When the disk is full, memory
# will do. Fails if there is neither.
scratch_make() {
    local folder
    for folder in "${TMPDIR:-/tmp}" /dev/shm; do
        scratch=$(mktemp -d -- "$folder/$1.XXXXXX" 2>/dev/null) || continue
        trap 'scratch_remove' EXIT
        { head -c 65536 /dev/zero >"$scratch/try" && rm -- "$scratch/try"; } 2>/dev/null && return
        scratch_remove
    done
    scratch=''
    return 1
}

scratch_remove() {
    [[ -z $scratch ]] || rm -rf -- "$scratch"
}

# process_files FOLDER: where others leave their request to stop, and find our child.
process_files() {
    stop_file=$1/stop
    child_file=$1/.child
}

# process_take_over FOLDER: the same, in place of a script that was killed. Its child is ended, and what it was asked for
# is done with.
process_take_over() {
    process_files "$1"
    end_orphan "$child_file"
    rm -f -- "$stop_file"
}

# attend COMMAND...: runs the work (a function) to its end, whatever signals come, and ends the script with its exit
# code.
attend() {
    local work status=0
    signals=$scratch/signals
    : >"$signals"
    trap '' PIPE # `canary.sh 2>&1 | head` must not end a rollout half-way
    (
        trap '' INT TERM HUP
        "$@"
    ) &
    work=$!
    trap 'echo INT >>"$signals"' INT
    trap 'echo TERM >>"$signals"' TERM
    trap 'echo HUP >>"$signals"' HUP
    while kill -0 "$work" 2>/dev/null; do
        wait "$work" || true
    done
    wait "$work" || status=$?
    trap - EXIT
    exit "$status"
}

# Whether a signal has come, or the process that takes them was killed; sets signal_name.
interrupted() {
    if [[ -s $signals ]]; then
        read -r signal_name <"$signals"
    elif ! kill -0 $$ 2>/dev/null; then
        signal_name=KILL
    elif [[ -n $stop_file && -e $stop_file ]]; then
        signal_name=ROLLBACK
    else
        return 1
    fi
}

# What an interruption was, for people.
interruption() {
    if [[ $signal_name == ROLLBACK ]]; then
        printf 'stopped by rollback.sh\n'
    else
        printf 'interrupted by SIG%s\n' "$signal_name"
    fi
}

# The exit code of a program that a signal ended, for an interruption before any traffic was moved.
signal_exit_code() {
    if [[ $signal_name == ROLLBACK ]]; then
        printf '20\n'
    else
        printf '%s\n' $((128 + $(kill -l "$signal_name")))
    fi
}

# start [NAME=VALUE...] COMMAND...: in the background; `child` is its process id and its group's.
# Descriptor 9 is the lock of this deployment: a server that outlives the deploy command must not inherit it.
start() {
    start_child "$@" </dev/null 9>&- &
    child=$!
}

# The child itself says who it is, before it does anything: its parent may be killed in the instant after the fork.
start_child() {
    local pid=$BASHPID
    [[ -z $child_file ]] || printf '%s %s\n' "$pid" "$(started_at "$pid")" 2>/dev/null >"$child_file" || true
    exec setsid env --default-signal "$@"
}

# When a process was started, in the kernel's ticks: with its number it is unmistakable. Empty if there is none.
started_at() {
    local line
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 0
    read -r -a line <<<"${line##*) }"
    printf '%s\n' "${line[19]}"
}

# end_orphan FILE: ends the child of a script that was killed, which goes on without it.
end_orphan() {
    local pid began
    { read -r pid began <"$1"; } 2>/dev/null || return 0
    [[ -n $began && $began == "$(started_at "$pid")" ]] || return 0
    child=$pid
    end_child
}

# Runs a command to its end, whatever signals come: for what must not be left half-done.
run_to_end() {
    start "$@"
    wait "$child"
}

# Runs a command that an interruption ends at once, with everything it started.
run_until_interrupted() {
    ! interrupted || return 1
    start "$@"
    while kill -0 "$child" 2>/dev/null; do
        if interrupted; then
            end_child
            return 1
        fi
        sleep 0.1
    done
    wait "$child"
}

# TERM to the child's whole group, and KILL to what is left of it after ten seconds. In its first instant a child has no
# group of its own yet, and is told as soon as it has.
end_child() {
    local tenth told=''
    for ((tenth = 0; tenth < 100; tenth++)); do
        [[ -n $told ]] || ! kill -TERM -- "-$child" 2>/dev/null || told=yes
        kill -0 -- "-$child" 2>/dev/null || kill -0 "$child" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL -- "-$child" 2>/dev/null || true
}

# nap SECONDS (whole ones): sleeps; a signal ends the sleep.
nap() {
    local tenth
    for ((tenth = 0; tenth < 10 * $1; tenth++)); do
        ! interrupted || return 0
        sleep 0.1
    done
}
