#!/usr/bin/env bash
#
# How long one look of 20 queries takes, compared with `curl --parallel` fetching the same answers, against a real
# Prometheus on loopback. Prints one JSON object; fails when ours takes more than 1.3 times as long as curl does,
# with one process per look or with one for many.
#
# usage: tests/bench/promclient.sh BENCH_PROMCLIENT [LOOKS]
set -euo pipefail

bench=$(realpath -- "${1:?usage: tests/bench/promclient.sh BENCH_PROMCLIENT [LOOKS]}")
looks=${2:-100}
work=$(mktemp -d)
pid=
cleanup() {
    [[ -z $pid ]] || { kill "$pid" && wait "$pid"; } 2>/dev/null || true
    rm -rf -- "$work"
}
trap cleanup EXIT

# The kernel chooses the port; Prometheus learns afterwards from a file that it is to scrape itself there.
cat >"$work/prometheus.yml" <<'CONFIG'
global: {scrape_interval: 1s}
scrape_configs:
- job_name: self
  file_sd_configs: [{files: [targets.json]}]
CONFIG
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" \
    --web.listen-address=127.0.0.1:0 >"$work/log" 2>&1 &
pid=$!
address=
for ((i = 0; i < 150; i++)); do
    address=$(sed -n 's/.*msg="Listening on" address=//p' "$work/log")
    [[ -n $address ]] && curl --silent --fail --output /dev/null "http://$address/-/ready" && break
    sleep 0.2
done
((i < 150)) || { cat "$work/log" >&2; exit 1; }
printf '[{"targets": ["%s"]}]\n' "$address" >"$work/targets.json"
sleep 30 # until a range of 30 s is full

result=$("$bench" "http://$address" "$work" "$looks")
printf '%s\n' "$result"
jq --exit-status '.ratio_process_per_look <= 1.3 and .ratio_one_process <= 1.3' <<<"$result" >/dev/null
