#!/bin/sh
#
# The health check of the images, and what acts on it. The engine marks a container as unhealthy and leaves it running;
# so this script counts the failures in a row, and after HEALTH_ACT_AFTER of them kills the container's program. The
# restart policy then starts it again. A program that hangs does not notice TERM, hence KILL.
#
#   healthcheck ALIVE [READY]
#
# Each is a URL, which must answer 2xx, or a command of the shell. Only ALIVE is acted on: a program that is starting or
# draining is not ready, and must not be killed for it. READY decides whether the container counts as healthy.
#
# A machine that has too much to do slows down every program and every check on it, and must not have all of them
# killed for it at once. So only a check that says no counts, or one that has waited its two seconds for a program that
# hangs. A check that the engine ended, or that took longer than its own limits allow, tells of the machine and not of
# the program.
set -u

limit=${HEALTH_ACT_AFTER:-6}
counter=/tmp/healthcheck.failures # in a tmpfs: gone with the container's program

# Seconds since the machine was started: of a clock that nobody sets.
seconds() {
    read -r now _ </proc/uptime
    printf '%s\n' "${now%.*}"
}

check() {
    case $1 in
        http://*) curl --fail --silent --show-error --max-time 2 --output /dev/null "$1" ;;
        *) timeout --kill-after=1 2 sh -c "$1" ;;
    esac
}

# The program is the first child of process 1, which is the engine's init (`init: true`). What is run from outside, like
# this script, has no parent in here.
program() {
    for stat in /proc/[0-9]*/stat; do
        pid=${stat#/proc/}
        pid=${pid%/stat}
        # After the name, which may hold blanks and brackets: state, parent.
        parent=$(sed 's/.*) . \([0-9]*\) .*/\1/' "$stat" 2>/dev/null) || continue
        [ "$parent" != 1 ] || printf '%s\n' "$pid"
    done | sort -n | head -n 1
}

began=$(seconds)
if check "$1"; then
    printf '0\n' >"$counter"
    [ $# -lt 2 ] || check "$2"
    exit
fi
if [ $(($(seconds) - began)) -gt 4 ]; then
    echo 'healthcheck: the check itself took longer than it may; this does not count'
    exit 1
fi

# Not before the check: one that the engine ends must leave no trace.
failures=$(cat "$counter" 2>/dev/null) || failures=0
failures=$((${failures:-0} + 1))
printf '%s\n' "$failures" >"$counter"
if [ "$failures" -ge "$limit" ]; then
    pid=$(program)
    message="healthcheck: not alive $failures times in a row; killing process $pid to have it started again"
    # To the container's log, if its owner lets us; the engine keeps what is printed here as well.
    { printf '%s\n' "$message" >"/proc/$pid/fd/2"; } 2>/dev/null
    printf '%s\n' "$message"
    kill -KILL "$pid"
fi
exit 1
