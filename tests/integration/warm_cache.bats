#!/usr/bin/env bats
#
# warm-cache.sh against the real shop with its cache, and a real Prometheus: it ends when it is warm and not before, at
# the rate it was given.
# shellcheck disable=SC2154 # ports and config are checks.bash's

load helpers
load databases
load checks

setup_file() {
    databases_start
    migrate
}

teardown_file() {
    databases_stop
}

setup() {
    free_ports 2
    base=http://127.0.0.1:${ports[0]}
    settings "SHOP_URL=$base" WARM_RATE=500 WARM_TIMEOUT=10s WARM_FLOOR=5ms
    redis_cli flushall >/dev/null
}

teardown() {
    stop_all
}

warm() {
    deployment warm-cache.sh "$@"
}

start_prometheus() {
    cat >"$BATS_TEST_TMPDIR/prometheus.yml" <<YML
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: shop
    static_configs:
      - {targets: ["127.0.0.1:${ports[0]}"], labels: {slot: canary}}
YML
    start_bg prometheus prometheus --config.file="$BATS_TEST_TMPDIR/prometheus.yml" \
        --storage.tsdb.path="$BATS_TEST_TMPDIR/prometheus" --web.listen-address="127.0.0.1:${ports[1]}" --log.level=warn
    wait_http "http://127.0.0.1:${ports[1]}/-/ready"
    for _ in {1..100}; do
        ! curl -s --noproxy '*' "http://127.0.0.1:${ports[1]}/api/v1/query?query=shop_cache_requests_total" |
            grep -q '"hit"' || return 0
        sleep 0.1
    done
    echo "Prometheus has not seen the shop" >&2
    return 1
}

@test "a cold cache is warmed: rounds until the percentiles agree, and most of it came from the cache" {
    start_full shop "${ports[0]}" --version v7
    start_prometheus
    settings "SHOP_URL=$base" WARM_RATE=500 WARM_FLOOR=5ms "PROMETHEUS_URL=http://127.0.0.1:${ports[1]}"
    run -0 warm --format json --header 'X-Canary: always'
    jq -e '.schema == "haldane.warm/1" and .status == "warm" and .pages == 102 and (.rounds | length) >= 2
        and all(.rounds[]; .requests == 102 and .failed == 0 and .p95_ms > 0)' <<<"$output"
    # The first round misses, every later one hits.
    jq -e '(1 - 1 / (.rounds | length)) as $hits | .hit_ratio > $hits - 0.1 and .hit_ratio < $hits + 0.1' <<<"$output"
    [ "$(redis_cli --scan --pattern 'item:*' | wc -l)" -ge 100 ]
}

@test "what does not settle is not warm: exit code 1 at the deadline" {
    local began=$SECONDS
    # The latencies are drawn in the order of the requests: with a seed the percentiles of the rounds are always these.
    start_full shop "${ports[0]}" --version v7 --latency-median 20ms --latency-sigma 1.5 --seed 3
    settings "SHOP_URL=$base" WARM_RATE=500 WARM_TOLERANCE=1% WARM_FLOOR=1ms WARM_CONCURRENCY=20
    run -1 warm --items 20 --deadline 3s
    [[ $output == *"cold after "* ]]
    ((SECONDS - began < 8))
}

@test "it keeps to its rate" {
    local began=${EPOCHREALTIME/./}
    start_full shop "${ports[0]}" --version v7
    settings "SHOP_URL=$base" WARM_RATE=20 WARM_FLOOR=50ms
    run -0 warm --items 50
    # Two rounds of 50 at 20 a second: each has two pauses to the next full second.
    ((${EPOCHREALTIME/./} - began > 3900000))
}

@test "failures are told, and keep it from being warm" {
    start_full shop "${ports[0]}" --version v7
    printf '%s\n' '# the most wanted' '' /items/1 /items/999999 >"$BATS_TEST_TMPDIR/paths"
    run -1 warm --paths "$BATS_TEST_TMPDIR/paths" --deadline 1s
    [[ $output == *"2 requests, 1 failed"* ]]
}

@test "the list may come from a command, and only the first of it is taken" {
    start_full shop "${ports[0]}" --version v7
    settings "SHOP_URL=$base" 'WARM_LIST_COMMAND=seq -f /items/%g 1 30 | cat' WARM_TOP=5 WARM_FLOOR=50ms
    run -0 warm --format json
    jq -e '.pages == 5' <<<"$output"
}

@test "nobody answers: 69; wrong usage: 64; a wrong list: 65 or 66; a dry run sends nothing" {
    run -69 warm --items 3 --deadline 2s
    run -64 warm --items 0
    run -64 warm --items 3 --paths x
    run -64 warm --deadline soon
    run -66 warm --paths /nowhere
    echo 'items/1' >"$BATS_TEST_TMPDIR/paths"
    run -65 warm --paths "$BATS_TEST_TMPDIR/paths"
    [[ $output == *"paths:1: 'items/1' is no path"* ]]
    run -0 warm --dry-run
    [[ $output == *"Would ask $base for 102 pages"* ]]
}
