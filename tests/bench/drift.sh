#!/usr/bin/env bash
#
# What noise of one arm that lasts does to healthy canaries: the share that is aborted, by how long the noise lasts
# (its correlation from one look of 15 s to the next) and by `abort_above: {ratio}`. Errors alone, 1 % on stable, each
# arm's rate moved by 30 %. The table of docs/statistics.md.
#
#   drift.sh [RUNS]    of each cell (default 1000)
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
haldane=${HALDANE_BUILD:-$here/../../build}/analyzer/cli/haldane
runs=${1:-1000}
policy=$(mktemp --suffix .yaml)
trap 'rm -f -- "$policy"' EXIT
cat >"$policy" <<'YAML'
version: 1
service: shop
prometheus: {url: 'http://127.0.0.1:9090'}
tracks: {stable: 'track="stable"', canary: 'track="canary"'}
warmup: 0s
traffic: {driver: none}
crash: {times: 0}
steps: [{weight: 5%, max: 10m}, {weight: 10%, max: 10m}, {weight: 25%, max: 10m}, {weight: 50%, max: 10m}]
metrics:
  - name: errors
    type: errors
    total: 'all{$track}'
    failed: 'bad{$track}'
    promote_below: {ratio: 2}
    abort_above:
      ratio: ${RATIO}
YAML

# share RPS SCENARIO RATIO: of the runs that were aborted for harm.
share() {
    "$haldane" simulate "$policy" --set "RATIO=$3" --step 10m --rps "$1" --error-rate 1% --scenario "$2" \
        --runs "$runs" --seed 1 --format json | jq -r '.scenarios[0].aborted_by_harm.share'
}

# shellcheck disable=SC2016 # the backticks are Markdown's
printf '| requests a second | `ratio` | 0.5 | 0.8 | 0.95 |\n|---|---|---|---|---|\n'
for rps in 100 1000; do
    for ratio in 1.0 1.1 1.25; do
        printf '| %s | %s' "$rps" "$ratio"
        for phi in 0.5 0.8 0.95; do
            aborted=$(share "$rps" "aa-drift-$phi" "$ratio")
            printf ' | %.3f' "$aborted"
        done
        printf ' |\n'
    done
done
