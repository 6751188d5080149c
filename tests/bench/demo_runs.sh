#!/usr/bin/env bash
#
# Runs the demo again and again and counts how often all three rollouts ended as they should. One line a run; the log of
# a run that went wrong is kept. Fails unless every run ended right.
#
# usage: tests/bench/demo_runs.sh [RUNS]     (default 20; about a minute and a half each)
set -euo pipefail

runs=${1:-20}
source=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(realpath -m -- "${HALDANE_BUILD:-$source/build}")
logs=$build/demo-runs
right=0
mkdir -p "$logs"
for ((run = 1; run <= runs; run++)); do
    began=$SECONDS
    if HALDANE_BUILD=$build DEMO_REPORTS=$logs/$run "$source/compose/demo/run.sh" --no-install \
        >"$logs/$run.log" 2>&1 </dev/null; then
        right=$((right + 1))
        outcome=right
    else
        outcome="WRONG, see $logs/$run.log"
    fi
    printf 'run %d of %d: %s, %d s, load %s\n' "$run" "$runs" "$outcome" $((SECONDS - began)) \
        "$(cut -d ' ' -f 1 /proc/loadavg)"
done
printf '%d of %d demo runs ended right\n' "$right" "$runs"
((right == runs))
