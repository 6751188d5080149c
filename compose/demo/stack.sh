#!/usr/bin/env bash
# The demo's stack: two stable shops, a canary, HAProxy, Prometheus and load, all on loopback, all in one run directory.
# Every process is started by itself and stopped by its pid; nothing outside the run directory is written.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: stack.sh COMMAND [options]

  start                  two stable shops, HAProxy and Prometheus; waits until all are ready
  canary [SHOP OPTIONS]  the canary shop, version v2 unless told otherwise; in place of one that runs
  load [LOAD OPTIONS]    the load generator in the background; its result is in load.json once it has stopped
  stop [NAME]            all, or one of: load canary1 stable1 stable2 haproxy prometheus
  status                 a line for each process: name, pid, processor seconds
  env                    the addresses as shell variables: eval "$(stack.sh env)"

Environment:
  HALDANE_BUILD          the build directory (default: build in the source folder)
  DEMO_RUN               the run directory (default: $XDG_RUNTIME_DIR or /tmp, haldane-demo-UID)
  DEMO_WEB_PORT DEMO_OPS_PORT DEMO_STABLE1_PORT DEMO_STABLE2_PORT DEMO_CANARY1_PORT DEMO_PROMETHEUS_PORT
                         ports on 127.0.0.1 (default 18080 18405 18081 18082 18083 19090)
  DEMO_FAILURE_SHARE     base share of failures of all shops (default 0.5%)
  DEMO_LATENCY_MEDIAN    base latency (default 40ms)
  DEMO_RATE              requests a second (default 1500)
  DEMO_BALANCER          weights: HAProxy splits by weights of one backend (default); map: by a map between two backends,
                         configured as compose/examples/haproxy-map.cfg has it

Exit codes: 0 done, 1 something did not start or stop (its log is shown), 64 wrong usage.
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${HALDANE_BUILD:-$here/../../build}
run=${DEMO_RUN:-${XDG_RUNTIME_DIR:-/tmp}/haldane-demo-$(id -u)}
web_port=${DEMO_WEB_PORT:-18080}
ops_port=${DEMO_OPS_PORT:-18405}
stable1_port=${DEMO_STABLE1_PORT:-18081}
stable2_port=${DEMO_STABLE2_PORT:-18082}
canary1_port=${DEMO_CANARY1_PORT:-18083}
prometheus_port=${DEMO_PROMETHEUS_PORT:-19090}
failure_share=${DEMO_FAILURE_SHARE:-0.5%}
latency_median=${DEMO_LATENCY_MEDIAN:-40ms}
rate=${DEMO_RATE:-1500}
balancer=${DEMO_BALANCER:-weights}
names=(load canary1 stable1 stable2 haproxy prometheus)

fail() {
    printf 'stack.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

need() {
    command -v "$1" >/dev/null || fail "$1 is not there; install it first"
}

# A pid alone may have been given to somebody else since: the process must also carry this run's mark.
running() {
    local pid
    pid=$(cat "$run/$1.pid" 2>/dev/null) || return 1
    grep -qszxF "HALDANE_DEMO=$run/$1" "/proc/$pid/environ"
}

launch() {
    local name=$1
    shift
    running "$name" && fail "$name runs already; first: stack.sh stop $name"
    HALDANE_DEMO="$run/$name" setsid "$@" >"$run/$name.log" 2>&1 </dev/null &
    echo $! >"$run/$name.pid"
    # Between fork and exec the mark is not there yet.
    for _ in {1..100}; do
        running "$name" && return 0
        kill -0 "$(cat "$run/$name.pid")" 2>/dev/null || break
        sleep 0.02
    done
    fail "$name did not start: $(tail -n 3 "$run/$name.log")"
}

wait_http() {
    local name=$1 url=$2
    for _ in {1..100}; do
        curl -fsS -o /dev/null --noproxy '*' --max-time 1 "$url" 2>/dev/null && return 0
        running "$name" || break
        sleep 0.1
    done
    fail "$name is not ready at $url: $(tail -n 3 "$run/$name.log")"
}

stop_one() {
    local name=$1 pid
    if running "$name"; then
        pid=$(cat "$run/$name.pid")
        kill -TERM "$pid" 2>/dev/null || true
        for _ in {1..200}; do
            running "$name" || break
            sleep 0.1
        done
        if running "$name"; then
            kill -KILL "$pid" 2>/dev/null || true
            printf 'stack.sh: %s did not end within 20 s and was killed\n' "$name" >&2
        fi
    fi
    rm -f "$run/$name.pid"
}

fill() {
    sed -e "s|@WEB_PORT@|$web_port|g" -e "s|@OPS_PORT@|$ops_port|g" -e "s|@STABLE1_PORT@|$stable1_port|g" \
        -e "s|@STABLE2_PORT@|$stable2_port|g" -e "s|@CANARY1_PORT@|$canary1_port|g" \
        -e "s|@ADMIN_SOCKET@|$run/haproxy.sock|g" "$here/$1.in" >"$run/$1"
}

# The example as it stands, with this stack's places in it; and no line of log for every request.
fill_map() {
    printf 'canary 0\nepoch 0\nexpires 0\n' >"$run/share.map"
    sed -e "s|/run/haproxy/admin.sock|$run/haproxy.sock|; s| group haldane||" -e "s|/etc/haproxy/maps|$run|g" \
        -e "s|bind :80|bind 127.0.0.1:$web_port|; s|127.0.0.1:8405|127.0.0.1:$ops_port|" \
        -e "s|10.0.0.1:8080|127.0.0.1:$stable1_port|; s|10.0.0.2:8080|127.0.0.1:$stable2_port|" \
        -e "s|10.0.0.7:8080|127.0.0.1:$canary1_port|; s|GET /health|GET /readyz|; /option httplog/d" \
        -e "s|maxconn 4000|&\n    nbthread 1|" "$here/../examples/haproxy-map.cfg" >"$run/haproxy.cfg"
}

shop() {
    local name=$1 port=$2
    shift 2
    launch "$name" "$build/compose/haldane-demo-shop" --listen "127.0.0.1:$port" --failure-share "$failure_share" \
        --latency-median "$latency_median" "$@"
    wait_http "$name" "http://127.0.0.1:$port/readyz"
}

check_ports() {
    local port
    for port in "$web_port" "$ops_port" "$stable1_port" "$stable2_port" "$canary1_port" "$prometheus_port"; do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            fail "port $port is taken; stop what listens there, or choose others (see --help)"
        fi
    done
}

start() {
    need haproxy
    need prometheus
    need curl
    [[ -x $build/compose/haldane-demo-shop ]] || fail "no haldane-demo-shop in $build; build first, or set HALDANE_BUILD"
    [[ $balancer == weights || $balancer == map ]] || fail "DEMO_BALANCER is weights or map, not $balancer" 64
    local name
    for name in "${names[@]}"; do
        running "$name" && fail "the stack runs already; stack.sh stop first"
    done
    mkdir -p "$run"
    chmod 700 "$run"
    rm -rf "$run/prometheus"
    check_ports
    # The kernel allows 107 bytes for the path of a socket, and HAProxy first binds to a longer, temporary name.
    ((${#run} <= 70)) || fail "the path $run is too long for a socket; choose a shorter DEMO_RUN"
    if [[ $balancer == map ]]; then fill_map; else fill haproxy.cfg; fi
    fill prometheus.yml
    trap stop_all EXIT
    shop stable1 "$stable1_port" --version v1
    shop stable2 "$stable2_port" --version v1
    launch haproxy haproxy -db -f "$run/haproxy.cfg"
    launch prometheus prometheus --config.file="$run/prometheus.yml" --storage.tsdb.path="$run/prometheus" \
        --storage.tsdb.retention.time=1d --web.listen-address="127.0.0.1:$prometheus_port" --log.level=warn
    wait_http haproxy "http://127.0.0.1:$web_port/readyz"
    wait_http prometheus "http://127.0.0.1:$prometheus_port/-/ready"
    trap - EXIT
}

canary() {
    running haproxy || fail "the stack does not run; stack.sh start first"
    stop_one canary1
    shop canary1 "$canary1_port" --version v2 "$@"
}

load() {
    running haproxy || fail "the stack does not run; stack.sh start first"
    launch load "$build/compose/haldane-demo-load" --url "http://127.0.0.1:$web_port" --rate "$rate" \
        --json "$run/load.json" "$@"
}

# Load first, so that nothing is missed by it; the balancer before what stands behind it. With both gone the shops need
# not drain: the second signal, which stop_one sends, tells them so.
stop_all() {
    local name
    stop_one load
    stop_one haproxy
    for name in canary1 stable1 stable2; do
        running "$name" && kill -TERM "$(cat "$run/$name.pid")"
    done
    for name in canary1 stable1 stable2 prometheus; do
        stop_one "$name"
    done
}

status() {
    local name ticks
    ticks=$(getconf CLK_TCK)
    for name in "${names[@]}"; do
        if running "$name"; then
            awk -v name="$name" -v ticks="$ticks" '{ sub(/^.*\) /, ""); printf "%s %s %.2f\n", name, pid, ($12 + $13) / ticks }' \
                pid="$(cat "$run/$name.pid")" "/proc/$(cat "$run/$name.pid")/stat"
        else
            printf '%s - -\n' "$name"
        fi
    done
}

show_env() {
    printf 'DEMO_WEB=http://127.0.0.1:%s\nDEMO_OPS=http://127.0.0.1:%s\nDEMO_PROMETHEUS=http://127.0.0.1:%s\n' \
        "$web_port" "$ops_port" "$prometheus_port"
    printf 'DEMO_ADMIN_SOCKET=%q\nDEMO_RUN=%q\nDEMO_LOAD_JSON=%q\n' "$run/haproxy.sock" "$run" "$run/load.json"
}

command=${1:-}
(($# > 0)) && shift
case $command in
    -h | --help | help) usage ;;
    start | status | env)
        (($# == 0)) || fail "$command takes no arguments; see --help" 64
        if [[ $command == env ]]; then show_env; else "$command"; fi
        ;;
    canary | load) "$command" "$@" ;;
    stop)
        (($# <= 1)) || fail "stop takes one name at most; see --help" 64
        if (($# == 0)); then
            stop_all
        else
            [[ " ${names[*]} " == *" $1 "* ]] || fail "there is no $1; the names are ${names[*]}" 64
            stop_one "$1"
        fi
        ;;
    *) fail "\"$command\" is not a command; see --help" 64 ;;
esac
