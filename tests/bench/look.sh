#!/usr/bin/env bash
#
# How long one look of 20 metrics takes, compared with `curl --parallel` fetching the same answers, against a real
# Prometheus on loopback. Prints one JSON object; fails when ours takes more than 1.3 times as long as a `curl --parallel`
# that is started for each look. The second ratio is to a curl that runs many looks in one process, and is not judged.
#
# usage: tests/bench/look.sh BENCH_LOOK [LOOKS]
set -euo pipefail

bench=$(realpath -- "${1:?usage: tests/bench/look.sh BENCH_LOOK [LOOKS]}")
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
((i < 150)) || {
    cat "$work/log" >&2
    exit 1
}
# Two targets, as stable and canary: the same server, which serves the queries of the measurement itself.
printf '[{"targets": ["%s"], "labels": {"track": "stable"}}, {"targets": ["localhost:%s"], "labels": {"track": "canary"}}]\n' \
    "$address" "${address##*:}" >"$work/targets.json"
# Until the range of a query is full, and the server has counted queries to tell of.
for ((i = 0; i < 20; i++)); do
    curl --silent --output /dev/null "http://$address/api/v1/query?query=up"
    sleep 1
done

result=$("$bench" "http://$address" "$work" "$looks")
printf '%s\n' "$result"
jq --exit-status ".ratio_process_per_look <= 1.3" <<<"$result" >/dev/null
