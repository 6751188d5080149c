#!/usr/bin/env bash
# What the demo's stack costs: all of it at a given rate, the canary at a quarter, processor time by process.
# Passes if nothing was lost, the rate was kept, and the stack used less than half of the processors. What others used
# meanwhile is printed, for it makes latencies and the generator's lateness worse.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: demo_stack.sh [RATE [SECONDS]]      (default 1500 a second for 20 s)

HALDANE_BUILD names the build directory. Prints a table of shares of one processor, then the result.
Exit codes: 0 the rate is carried with half of the processors to spare, 1 it is not, 64 wrong usage.
TEXT
}

case ${1:-} in
    -h | --help)
        usage
        exit 0
        ;;
esac
rate=${1:-1500}
seconds=${2:-20}
if (($# > 2)) || [[ ! $rate$seconds =~ ^[0-9]+$ ]]; then
    usage >&2
    exit 64
fi
: "${HALDANE_BUILD:?HALDANE_BUILD must name the build directory}"
stack=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../compose/demo" && pwd)/stack.sh

read -r DEMO_WEB_PORT DEMO_OPS_PORT DEMO_STABLE1_PORT DEMO_STABLE2_PORT DEMO_CANARY1_PORT DEMO_PROMETHEUS_PORT < <(
    "$(dirname "${BASH_SOURCE[0]}")/../free_ports" 6
)
export DEMO_WEB_PORT DEMO_OPS_PORT DEMO_STABLE1_PORT DEMO_STABLE2_PORT DEMO_CANARY1_PORT DEMO_PROMETHEUS_PORT
DEMO_RUN=$(mktemp -d "${TMPDIR:-/tmp}/haldane-bench-XXXXXX")
export DEMO_RUN DEMO_RATE=$rate
trap '"$stack" stop; rm -rf "$DEMO_RUN"' EXIT

machine() {
    awk '/^cpu / { idle = $5 + $6; total = 0; for (i = 2; i <= 9; i++) total += $i; print idle, total }' /proc/stat
}

balancer() {
    echo "$1" | socat - "UNIX-CONNECT:$DEMO_RUN/haproxy.sock" >/dev/null
}

"$stack" start
"$stack" canary
sleep 2 # until the balancer's check has seen the canary twice
balancer 'set server shop/canary1 weight 50'
balancer 'set server shop/stable1 weight 75'
balancer 'set server shop/stable2 weight 75'
"$stack" load --duration "$((seconds + 4))s"
sleep 2
before=$("$stack" status)
machine_before=$(machine)
sleep "$seconds"
after=$("$stack" status)
machine_after=$(machine)
for ((i = 0; i < 200; i++)); do
    [[ -s $DEMO_RUN/load.json ]] && break
    sleep 0.1
done

table=$(paste -d ' ' <(echo "$before") <(echo "$after") | awk -v s="$seconds" '{ print $1, ($6 - $3) / s * 100 }')
sum=$(echo "$table" | awk '{ sum += $2 } END { printf "%.1f", sum }')
idle=$(echo "$machine_before $machine_after" | awk '{ printf "%.1f", ($3 - $1) / ($4 - $2) * 100 }')
printf '%-12s %s\n' process 'share of one processor'
echo "$table" | awk '{ printf "%-12s %5.1f %%\n", $1, $2 }'
printf '%-12s %5.1f %%, of %s processors\n' sum "$sum" "$(nproc)"
printf 'idle, of all processors together: %s %%\n' "$idle"
jq '{rate, achieved_rate, due, answered, failed, tracks: (.tracks | map_values(.answered)), latency_ms,
    lateness_ms: .generator.lateness_ms}' "$DEMO_RUN/load.json"
jq -e --argjson sum "$sum" --argjson processors "$(nproc)" \
    '.failed == 0 and .achieved_rate > 0.99 * .rate and $sum < 50 * $processors' "$DEMO_RUN/load.json" >/dev/null || {
    echo "demo_stack.sh: $rate a second is too much here" >&2
    exit 1
}
