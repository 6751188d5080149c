#!/usr/bin/env bash
# make demo: three real rollouts that a person can watch, and that must end as they should. Everything runs on free
# loopback ports in a folder of its own, and everything that was started is stopped again, however this ends.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: run.sh [--no-install] [--help]

Installs what is missing, builds, starts two stable shops, a canary, HAProxy, Prometheus and load, and rolls out
  1. a good canary, which must be promoted 5 > 25 > 50 > 100 %,
  2. a canary that fails 3 % of its requests, which must be aborted,
  3. a canary that is 40 % slower, which must be aborted.
Prints the verdicts and where the three reports are. Takes less than six minutes after the installation.

  --no-install  installs and builds nothing

Environment:
  HALDANE_BUILD  the build directory (default: build in the source folder)
  DEMO_REPORTS   where the reports go (default: demo in the build directory)
  DEMO_RATE      requests a second (default 1500)

Exit codes: 0 all three ended as they should and no request was lost, 1 otherwise, 64 wrong usage.
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=$(cd "$here/../.." && pwd)
build=$(realpath -m "${HALDANE_BUILD:-$source_dir/build}")
reports=${DEMO_REPORTS:-$build/demo}
policy=$source_dir/policies/demo.yaml
install=1
failures=0
summary=()

while (($# > 0)); do
    case $1 in
        --no-install) install=0 ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            printf 'run.sh: "%s" is not an option; see --help\n' "$1" >&2
            exit 64
            ;;
    esac
    shift
done

say() {
    local bold='' plain=''
    if [[ -t 2 && -z ${NO_COLOR:-} ]]; then
        bold=$'\033[1m' plain=$'\033[0m'
    fi
    printf '\n%s%s%s\n' "$bold" "$1" "$plain" >&2
}

wrong() {
    printf 'run.sh: %s\n' "$1" >&2
    failures=$((failures + 1))
}

stack() {
    bash "$here/stack.sh" "$@"
}

haldane() {
    "$build/analyzer/cli/haldane" "$@"
}

# Ports that nobody listens on now. They are not kept: the stack checks once more and says so if one was taken.
choose_ports() {
    local name port taken=" "
    for name in WEB OPS STABLE1 STABLE2 CANARY1 PROMETHEUS; do
        while :; do
            port=$((20000 + RANDOM % 10000))
            [[ $taken != *" $port "* ]] && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
        done
        taken+="$port "
        export "DEMO_${name}_PORT=$port"
    done
}

start_load() {
    stack load --duration 400s --post-share 30% --short-share 10% --track-header X-LB-Track
    # Prometheus needs a few scrapes under load, so that stable's normal level is known.
    sleep 6
}

# The load generator's own account: what was lost, and who answered with an error.
check_load() {
    local bad=$1 lost errors
    stack stop load
    lost=$(jq '.failed' "$DEMO_LOAD_JSON")
    errors=$(jq --arg bad "$bad" '[.tracks | to_entries[] | select(.key != $bad) | .value.status | to_entries[]
        | select(.key | startswith("5")) | .value] | add // 0' "$DEMO_LOAD_JSON")
    answered=$(jq '.answered' "$DEMO_LOAD_JSON")
    ((lost == 0)) || wrong "$lost requests were lost: $(jq -c '.failures' "$DEMO_LOAD_JSON")"
    ((errors == 0)) || wrong "$errors requests failed that no bad canary answered"
}

# One rollout: its name, what the canary does, the exit code and the split that it must end with.
rollout() {
    local name=$1 title=$2 code=$3 weight=$4 bad=$5 got=0 id split began=$SECONDS answered=0 state
    shift 5
    say "$title"
    haldane traffic stable "$policy" >/dev/null
    stack canary "$@"
    start_load
    haldane rollout "$policy" --format json >"$DEMO_RUN/$name.json" || got=$?
    id=$(jq -r '.rollout // empty' "$DEMO_RUN/$name.json")
    state=$(jq -r '.state // "no rollout"' "$DEMO_RUN/$name.json")
    split=$(haldane traffic get "$policy" --format json | jq '.weight')
    # The split must also be what users get, so the load goes on for a moment.
    sleep 1
    check_load "$bad"
    ((got == code)) || wrong "$name ended with exit code $got, not $code"
    ((split == weight)) || wrong "the balancer gives the canary $split basis points after $name, not $weight"
    if [[ -n $id ]]; then
        haldane report "$id" --format html -o "$reports/$name.html"
    else
        wrong "$name gave no rollout"
    fi
    summary+=("$(printf '%-8s %-9s in %3d s, %7d requests answered, %s' "$name" "$state" \
        "$((SECONDS - began))" "$answered" "$reports/$name.html")")
    summary+=("         $(jq -r '.reason // ""' "$DEMO_RUN/$name.json")")
}

finish() {
    local code=$?
    trap - EXIT
    trap '' INT TERM HUP # a second Ctrl-C must not leave half of it running
    stack stop || true
    [[ -z ${DEMO_RUN:-} ]] || rm -rf "$DEMO_RUN"
    exit "$code"
}

if ((install)); then
    "$source_dir/scripts/install-deps.sh" build
    "$source_dir/scripts/install-deps.sh" demo
    make -C "$source_dir" build
fi
mkdir -p "$reports"
DEMO_RUN=$(mktemp -d "${TMPDIR:-/tmp}/haldane-demo.XXXXXX")
export DEMO_RUN HALDANE_BUILD=$build DEMO_FAILURE_SHARE=${DEMO_FAILURE_SHARE:-0%} HALDANE_DB=$DEMO_RUN/haldane.db
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
choose_ports
began=$SECONDS
say "Starting two stable shops, HAProxy and Prometheus"
stack start
eval "$(stack env)"
export PROMETHEUS_URL=$DEMO_PROMETHEUS HAPROXY_SOCKET=$DEMO_ADMIN_SOCKET

rollout good "1 of 3: a good canary: must be promoted 5 > 25 > 50 > 100 %" 0 10000 none
rollout errors "2 of 3: a canary that fails 3 % of its requests: must be aborted" 20 0 canary --failure-share 3%
rollout slow "3 of 3: a canary that is 40 % slower, p99 included: must be aborted" 20 0 none --latency-factor 1.4

say "Three rollouts in $((SECONDS - began)) s"
printf '%s\n' "${summary[@]}"
if ((failures > 0)); then
    printf 'The demo did NOT end as it should: %d things were wrong, see above.\n' "$failures"
    exit 1
fi
printf 'All three ended as they should, and no request was lost.\n'
