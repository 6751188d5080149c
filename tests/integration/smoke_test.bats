#!/usr/bin/env bats
#
# smoke-test.sh against the real shop with its database and cache: what is well passes, and each thing that is not is
# found and named.
# shellcheck disable=SC2154 # ports is checks.bash's

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
    free_ports 3
    base=http://127.0.0.1:${ports[0]}
    settings "SHOP_URL=$base"
}

teardown() {
    stop_all
}

smoke() {
    deployment smoke-test.sh "$@"
}

# table LINE...: of a table of our own; the fields are parted by "|".
table() {
    printf '%s\n' "$@" | tr '|' '\t' >"$BATS_TEST_TMPDIR/table.tsv"
}

orders() {
    psql -XAtq -d shop -c 'select count(*) from orders'
}

@test "the shop passes its table, in the version that is expected, and each round leaves one order" {
    local before
    start_full shop "${ports[0]}" --version v7
    before=$(orders)
    run -0 smoke --expect-version v7 --format json
    jq -e '.schema == "haldane.smoke/1" and .status == "passed" and .failed == 0 and .passed == 26 and .expected_version == "v7"' \
        <<<"$output"
    jq -e 'all(.requests[]; .version == "v7" and .seconds >= 0)' <<<"$output"
    [ "$(orders)" -eq $((before + 2)) ]
    run -0 smoke --rounds 1
    [[ $output == *"passed: 13 passed, 0 failed"* ]]
}

@test "another version than the expected one fails, and both are named" {
    start_full shop "${ports[0]}" --version v7
    run -1 smoke --expect-version v8
    [[ $output == *"answered by version v7 instead of v8"* ]]
}

@test "failures are found: a status, a body, an assertion; with the line of the table" {
    start_full shop "${ports[0]}" --version v7 --failure-share 100%
    run -1 smoke --rounds 1 --format json
    jq -e '.status == "failed" and any(.requests[]; .path == "/items" and .code == 500 and (.message | test("status 500 instead of 200")))' \
        <<<"$output"
    stop_bg shop
    start_full shop "${ports[0]}" --version v7
    table '# a comment' 'GET|/items/1|-|-|200|.body.name == "gold"' 'GET|/items/1|-|-|2xx|-' 'GET|/items/2|-|-|200|.previous.body.id == 1'
    run -1 smoke --table "$BATS_TEST_TMPDIR/table.tsv" --rounds 1
    [[ $output == *'not true: .body.name == "gold"; the body is: {'* && $output == *"(line 2, round 1)"* ]]
    [[ $output == *"failed: 2 passed, 1 failed"* ]]
    # An assertion that says nothing has not said yes.
    table 'GET|/items|-|-|200|empty'
    run -1 smoke --table "$BATS_TEST_TMPDIR/table.tsv" --rounds 1
}

@test "a readiness that is not ready fails, although its status is 200" {
    start_full shop "${ports[0]}" --version v7
    databases_kill redis
    for _ in {1..100}; do
        [[ $(curl -s "$base/readyz" | jq -r .status) != degraded ]] || break
        sleep 0.1
    done
    run -1 smoke --rounds 1
    redis_start
    [[ $output == *'not true: .body.status == "ready"'* ]]
}

@test "a header reaches the balancer: the slot that was asked for answers" {
    start_full old "${ports[1]}" --version v7
    start_full new "${ports[2]}" --version v8
    cat >"$BATS_TEST_TMPDIR/haproxy.cfg" <<CFG
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend web
    bind 127.0.0.1:${ports[0]}
    use_backend new if { req.hdr(X-Canary) -m str always }
    default_backend old
backend old
    server old 127.0.0.1:${ports[1]}
backend new
    server new 127.0.0.1:${ports[2]}
CFG
    start_bg haproxy haproxy -db -f "$BATS_TEST_TMPDIR/haproxy.cfg"
    wait_http "$base/healthz"
    run -0 smoke --header 'X-Canary: always' --expect-version v8
    run -0 smoke --expect-version v7
    run -1 smoke --expect-version v8
}

@test "a dry run sends nothing, but finds what is wrong with the table" {
    start_full shop "${ports[0]}" --version v7
    run -0 smoke --dry-run
    [[ $output == *"Would ask $base, 2 times"* && $output == *"/items/1"* ]]
    [ "$(metric "${ports[0]}" http_requests_total)" -eq 0 ]
    table 'GET|/|-|-|200'
    run -65 smoke --table "$BATS_TEST_TMPDIR/table.tsv" --dry-run
    [[ $output == *"table.tsv:1: 5 fields instead of 6"* ]]
    table '' 'GET|/|-|-|twice|-'
    run -65 smoke --table "$BATS_TEST_TMPDIR/table.tsv" --dry-run
    [[ $output == *"table.tsv:2: 'twice' is no status"* ]]
    table 'GET|/|-|-|200|.body ==='
    run -65 smoke --table "$BATS_TEST_TMPDIR/table.tsv" --dry-run
    [[ $output == *"is no expression of jq"* ]]
}

@test "nobody answers: 69; wrong usage: 64; no such table: 66" {
    run -69 smoke --rounds 1
    [[ $output == *"nobody answers at $base"* ]]
    run -64 smoke --rounds 0
    run -64 smoke --url shop.example.com
    run -64 smoke --header nonsense
    run -64 smoke extra
    run -64 smoke --nonsense
    run -66 smoke --table /nowhere.tsv
    run -0 smoke --help
    [[ $output == usage:* ]]
}
