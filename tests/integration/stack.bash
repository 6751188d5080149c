# shellcheck shell=bash
#
# The demo's stack (compose/demo/stack.sh) on free ports, for tests that need the real servers: Prometheus, HAProxy,
# two stable shops, and a canary when a test starts one. HALDANE_BUILD names the build; without it a test fails.

load helpers
stack_source=$(cd -- "$BATS_TEST_DIRNAME/../.." && pwd)
export PATH=$HALDANE_BUILD/analyzer/cli:$PATH

stack() {
    "$stack_source/compose/demo/stack.sh" "$@" 3>&-
}

# stack_start: for setup_file. DEMO_RATE and the like may be set before.
stack_start() {
    local ports
    [[ -x $HALDANE_BUILD/analyzer/cli/haldane ]] || {
        echo "no haldane in $HALDANE_BUILD/analyzer/cli"
        return 1
    }
    # The path of a socket is short, and bats's own directories are not.
    DEMO_RUN=$(mktemp -d "${TMPDIR:-/tmp}/haldane-test-XXXXXX")
    read -r -a ports < <("$HALDANE_SOURCE/tests/free_ports" 6)
    export DEMO_RUN DEMO_WEB_PORT=${ports[0]} DEMO_OPS_PORT=${ports[1]} DEMO_STABLE1_PORT=${ports[2]}
    export DEMO_STABLE2_PORT=${ports[3]} DEMO_CANARY1_PORT=${ports[4]} DEMO_PROMETHEUS_PORT=${ports[5]}
    stack start
}

# stack_seen: until Prometheus has seen stable serve for a few scrapes; a rollout cannot begin before that.
stack_seen() {
    local try query='min(count_over_time(up{job="shop",track="stable"}[10s])) >= 4'
    for ((try = 0; try < 300; try++)); do
        curl -fsS --noproxy '*' --data-urlencode "query=$query" \
            "http://127.0.0.1:$DEMO_PROMETHEUS_PORT/api/v1/query" 2>/dev/null | grep -q '"value"' && return 0
        sleep 0.1
    done
    echo "Prometheus has not seen the stable shops"
    return 1
}

# stack_end NAME: at once. A shop that nobody asks any more need not drain.
stack_end() {
    local pid
    pid=$(stack status | sed -n "s/^$1 \([0-9]*\) .*/\1/p")
    [[ -z $pid ]] || kill -KILL "$pid" 2>/dev/null || true
    stack stop "$1"
}

# stack_stop: for teardown_file. What is left behind would be at somebody's port: it is ended, and the file fails.
stack_stop() {
    local left='' try
    [[ -n ${DEMO_RUN:-} ]] || return 0
    stack stop
    for ((try = 0; try < 30; try++)); do
        left=$(stack_processes)
        [[ -n $left ]] || break
        sleep 0.1
    done
    if [[ -n $left ]]; then
        # shellcheck disable=SC2086 # one word a process
        ps -o pid=,args= -p "${left//$'\n'/,}" && kill -KILL $left
        return 1
    fi
    rm -rf -- "$DEMO_RUN"
}

# stack_processes: the numbers of all that carry this stack's mark, known to it or not.
stack_processes() {
    grep -lsz "^HALDANE_DEMO=$DEMO_RUN/" /proc/[0-9]*/environ | tr -dc '0-9\n' || true
}

# balancer COMMAND: asks HAProxy itself, past haldane.
balancer() {
    printf '%s\n' "$1" | socat - "UNIX-CONNECT:$DEMO_RUN/haproxy.sock"
}

# weight SERVER: what HAProxy gives it now.
weight() {
    balancer "get weight shop/$1" | sed -n 's/^\([0-9]*\) .*/\1/p'
}
