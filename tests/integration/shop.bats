#!/usr/bin/env bats
# The demo shop: what it counts is what happened, what it is told to do it does, and its end loses nothing.

load helpers

setup() {
    port=$("$HALDANE_SOURCE/tests/free_ports")
    result=$BATS_TEST_TMPDIR/load.json
}

teardown() {
    stop_all
}

generate() {
    "$DEMO_LOAD" --url "http://127.0.0.1:$port" --seed 7 --json "$result" "$@"
}

field() {
    jq -e "$1" "${2:-$result}"
}

code_of() {
    curl -s -o /dev/null --noproxy '*' -w '%{http_code}' "$@"
}

@test "metrics are in Prometheus's format, and promtool finds nothing to mend" {
    start_shop shop "$port" --latency-median 1ms
    generate --rate 200 --duration 1s
    curl -fsS "http://127.0.0.1:$port/metrics" >"$BATS_TEST_TMPDIR/metrics"
    run promtool check metrics <"$BATS_TEST_TMPDIR/metrics"
    [ "$status" -eq 0 ]
    [ -z "$output" ]
    grep -q '^shop_build_info{version="v1"} 1$' "$BATS_TEST_TMPDIR/metrics"
}

@test "counters equal what was sent, to the last request, and only business requests count" {
    start_shop shop "$port" --latency-median 5ms --failure-share 2%
    generate --rate 500 --duration 4s --post-share 40%
    for path in healthz readyz metrics nope; do
        curl -s -o /dev/null "http://127.0.0.1:$port/$path"
    done
    [ "$(field .due)" -eq 2000 ]
    [ "$(field .answered)" -eq 2000 ]
    [ "$(metric "$port" http_requests_total)" -eq 2000 ]
    [ "$(metric "$port" http_request_duration_seconds_count)" -eq 2000 ]
    [ "$(metric "$port" http_request_duration_seconds_bucket 'le="+Inf"')" -eq 2000 ]
    [ "$(metric "$port" http_requests_total 'method="POST"')" -eq "$(field .methods.POST.answered)" ]
    [ "$(metric "$port" http_requests_total 'code="500"')" -eq "$(field '.status["500"]')" ]
    [ "$(metric "$port" http_requests_in_flight)" -eq 0 ]
    [ "$(field '.versions.v1.answered')" -eq 2000 ]
}

@test "the series of failures are there before the first failure" {
    start_shop shop "$port"
    curl -fsS "http://127.0.0.1:$port/metrics" | grep -q '^http_requests_total{version="v1",method="POST",code="500"} 0$'
}

@test "routes answer as a shop's would, and a body has its limit" {
    local base=http://127.0.0.1:$port
    start_shop shop "$port" --latency-median 1ms
    [ "$(code_of "$base/")" = 200 ]
    [ "$(code_of "$base/items")" = 200 ]
    [ "$(code_of "$base/items/7")" = 200 ]
    [ "$(code_of "$base/items/0")" = 404 ]
    [ "$(code_of "$base/items/99999999999999999999")" = 404 ]
    [ "$(code_of "$base/items/7x")" = 404 ]
    [ "$(code_of -d '{}' "$base/cart")" = 200 ]
    [ "$(code_of -d '{}' "$base/order")" = 201 ]
    [ "$(code_of "$base/order")" = 405 ]
    [ "$(code_of -d '{}' "$base/items")" = 405 ]
    head -c 65536 /dev/zero >"$BATS_TEST_TMPDIR/full"
    head -c 65537 /dev/zero >"$BATS_TEST_TMPDIR/over"
    [ "$(code_of --data-binary "@$BATS_TEST_TMPDIR/full" "$base/order")" = 201 ]
    [ "$(code_of --data-binary "@$BATS_TEST_TMPDIR/over" "$base/order")" = 413 ]
    [ "$(code_of -H 'Transfer-Encoding: chunked' --data-binary "@$BATS_TEST_TMPDIR/over" "$base/order")" = 413 ]
    curl -fsS "$base/items" | jq -e '.items | length == 10'
    curl -fsSi "$base/" | tr -d '\r' | grep -qx 'X-Version: v1'
}

@test "the share of failures is the one asked for, and the seed repeats it" {
    local first
    start_shop shop "$port" --latency-median 1ms --failure-share 5% --seed 11
    generate --rate 1000 --duration 4s
    first=$(field '.status["500"]')
    # Binomial, n = 4000, p = 0.05: 200 with a standard deviation of 13.8; four of them either way.
    holds "$first > 200 - 4 * 13.8 && $first < 200 + 4 * 13.8"
    stop_bg shop
    start_shop shop "$port" --latency-median 1ms --failure-share 5% --seed 11
    generate --rate 1000 --duration 4s
    [ "$(field '.status["500"]')" -eq "$first" ]
}

@test "a latency factor of 1.4 moves p50 and p99 by 1.4, in the answers and in the histogram" {
    local other slow=$BATS_TEST_TMPDIR/slow.json mean_base mean_slow
    other=$("$HALDANE_SOURCE/tests/free_ports")
    start_shop base "$port" --seed 5
    start_shop slow "$other" --seed 5 --latency-factor 1.4
    generate --rate 400 --duration 5s
    "$DEMO_LOAD" --url "http://127.0.0.1:$other" --seed 7 --rate 400 --duration 5s --json "$slow"
    for p in p50 p99; do
        holds "$(field ".latency_ms[\"$p\"]" "$slow") / $(field ".latency_ms[\"$p\"]") > 1.3"
        holds "$(field ".latency_ms[\"$p\"]" "$slow") / $(field ".latency_ms[\"$p\"]") < 1.5"
    done
    mean_base=$(metric "$port" http_request_duration_seconds_sum)
    mean_slow=$(metric "$other" http_request_duration_seconds_sum)
    holds "$mean_slow / $mean_base > 1.35 && $mean_slow / $mean_base < 1.45"
    # With median 40 ms and sigma 0.5, 99 % are below 128 ms, or 179 ms when slowed: the 0.135 bucket must tell.
    holds "$(metric "$port" http_request_duration_seconds_bucket 'le="0.135"') > 0.985 * 2000"
    holds "$(metric "$other" http_request_duration_seconds_bucket 'le="0.135"') < 0.975 * 2000"
}

@test "a leak shows as resident memory" {
    local before
    start_shop shop "$port" --latency-median 1ms --leak 65536
    before=$(metric "$port" process_resident_memory_bytes)
    generate --rate 500 --duration 1s
    holds "$(metric "$port" process_resident_memory_bytes) - $before > 0.95 * 500 * 65536"
}

@test "crash-after is a crash: killed, nothing drained" {
    start_shop shop "$port" --crash-after 500ms
    local code=0
    wait_bg shop 5 || code=$?
    [ "$code" -eq 137 ]
}

@test "SIGTERM: not ready, still serving, then gone with exit code 0" {
    start_shop shop "$port" --drain 1s
    signal_bg shop TERM
    sleep 0.2
    [ "$(code_of "http://127.0.0.1:$port/readyz")" = 503 ]
    [ "$(code_of "http://127.0.0.1:$port/healthz")" = 200 ]
    [ "$(code_of "http://127.0.0.1:$port/items")" = 200 ]
    curl -fsSi "http://127.0.0.1:$port/" | tr -d '\r' | grep -qix 'connection: close'
    wait_bg shop 5
    run curl -sS "http://127.0.0.1:$port/"
    [ "$status" -eq 7 ]
}

@test "what was begun before the end is finished, however slow" {
    start_shop shop "$port" --drain 0 --latency-median 2s --latency-sigma 0
    start_bg slow curl -fsS -o /dev/null -w '%{http_code}' -d '{}' "http://127.0.0.1:$port/order"
    sleep 0.5
    stop_bg shop
    wait_bg slow
    [ "$(tail -n 1 "$BATS_TEST_TMPDIR/slow.log")" = 201 ]
}

@test "drain under load: nothing is lost while it serves" {
    start_shop shop "$port" --drain 3s
    start_bg load "$DEMO_LOAD" --url "http://127.0.0.1:$port" --rate 500 --duration 3s --post-share 50% \
        --json "$result" --fail-on-loss
    sleep 1
    signal_bg shop TERM
    wait_bg load
    wait_bg shop
    [ "$(field .answered)" -eq 1500 ]
}

@test "drain under load that goes on: requests are refused after the end, and none is lost on the way" {
    start_shop shop "$port" --drain 500ms
    start_bg load "$DEMO_LOAD" --url "http://127.0.0.1:$port" --rate 800 --duration 3s --post-share 50% \
        --short-share 50% --json "$result"
    sleep 1
    stop_bg shop
    wait_bg load
    [ "$(field .failures.connect)" -gt 100 ]
    [ "$(field .failed)" -eq "$(field .failures.connect)" ]
    [ "$(field '.answered + .failed')" -eq 2400 ]
}

@test "wrong usage: exit code 64 and a sentence that says what is right" {
    run -64 "$DEMO_SHOP" --listen 127.0.0.1:0
    [[ $output == *"--version is required"* ]]
    run -64 "$DEMO_SHOP" --version v1
    [[ $output == *"--listen is required"* ]]
    run -64 "$DEMO_SHOP" --listen 127.0.0.1:0 --version 'v"1'
    [[ $output == *"--version takes"* ]]
    run -64 "$DEMO_SHOP" --listen localhost --version v1
    [[ $output == *"127.0.0.1:8080"* ]]
    run -64 "$DEMO_SHOP" --listen 127.0.0.1:0 --version v1 --failure-share 0.5
    [[ $output == *"0.5%"* ]]
    run -64 "$DEMO_SHOP" --listen 127.0.0.1:0 --version v1 --latency-median soon
    [[ $output == *"--latency-median takes a duration"* ]]
    run -64 "$DEMO_SHOP" --nonsense
    run -0 "$DEMO_SHOP" --help
    [[ $output == usage:* ]]
}

@test "a port that is taken: exit code 69 and the port in the sentence" {
    start_shop shop "$port"
    run -69 "$DEMO_SHOP" --listen "127.0.0.1:$port" --version v1
    [[ $output == *"port $port"* ]]
}
