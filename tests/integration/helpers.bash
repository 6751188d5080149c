# Shared parts of the integration tests: real processes on free loopback ports, each started with its pid kept, each
# stopped by that pid. A test file says `load helpers` and calls `stop_all` in its teardown.

bats_require_minimum_version 1.5.0

# An unset variable is a failure, not a skip: a test that did not run has proved nothing.
: "${HALDANE_BUILD:?HALDANE_BUILD must name the build directory}"

# Exported for the test files that load this one.
export DEMO_SHOP=$HALDANE_BUILD/compose/haldane-demo-shop
export DEMO_LOAD=$HALDANE_BUILD/compose/haldane-demo-load

# start_bg NAME COMMAND...: in the background; output to $BATS_TEST_TMPDIR/NAME.log.
start_bg() {
    local name=$1
    shift
    "$@" >"$BATS_TEST_TMPDIR/$name.log" 2>&1 </dev/null 3>&- &
    echo $! >"$BATS_TEST_TMPDIR/$name.pid"
}

bg_pid() {
    cat "$BATS_TEST_TMPDIR/$1.pid"
}

# signal_bg NAME SIGNAL
signal_bg() {
    kill "-$2" "$(bg_pid "$1")"
}

# wait_bg NAME [SECONDS]: waits for its own end and returns its exit code; 124 if it does not end.
wait_bg() {
    local name=$1 pid code=0 i
    pid=$(bg_pid "$name")
    for ((i = 0; i < ${2:-30} * 20; i++)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    kill -0 "$pid" 2>/dev/null && return 124
    wait "$pid" || code=$?
    rm -f "$BATS_TEST_TMPDIR/$name.pid"
    return "$code"
}

# stop_bg NAME: SIGTERM, and its exit code.
stop_bg() {
    signal_bg "$1" TERM
    wait_bg "$1"
}

# Whatever still runs, for teardown. Also ends what was stopped by SIGSTOP.
stop_all() {
    local file pid
    for file in "$BATS_TEST_TMPDIR"/*.pid; do
        [[ -e $file ]] || continue
        pid=$(cat "$file")
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        rm -f "$file"
    done
}

# wait_http URL [SECONDS]: until it answers 2xx.
wait_http() {
    local i
    for ((i = 0; i < ${2:-10} * 20; i++)); do
        curl -fsS -o /dev/null --noproxy '*' --max-time 1 "$1" 2>/dev/null && return 0
        sleep 0.05
    done
    echo "no answer from $1" >&2
    return 1
}

# start_shop NAME PORT [OPTIONS...]: a demo shop that is ready.
start_shop() {
    local name=$1 port=$2
    shift 2
    start_bg "$name" "$DEMO_SHOP" --listen "127.0.0.1:$port" --version v1 "$@"
    wait_http "http://127.0.0.1:$port/readyz"
}

# metric PORT NAME [LABELS]: the sum over the series of that name whose labels contain LABELS.
metric() {
    curl -fsS --noproxy '*' "http://127.0.0.1:$1/metrics" | awk -v name="$2" -v labels="${3:-}" '
        $1 ~ "^" name "({|$)" && index($1, labels) { sum += $2 } END { printf "%.17g\n", sum }'
}

# holds EXPRESSION: arithmetic that may be fractional, as `holds "$p99 < 1.5 * $other"`.
holds() {
    awk "BEGIN { exit !($1) }" || {
        echo "does not hold: $1" >&2
        return 1
    }
}
