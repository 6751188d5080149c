#!/usr/bin/env bats
# The demo's stack without haldane: shops, HAProxy, Prometheus and load as stack.sh starts them.

load helpers

stack=$BATS_TEST_DIRNAME/../../compose/demo/stack.sh

setup_file() {
    local ports
    read -r -a ports < <("$HALDANE_SOURCE/tests/free_ports" 6)
    export DEMO_WEB_PORT=${ports[0]} DEMO_OPS_PORT=${ports[1]} DEMO_STABLE1_PORT=${ports[2]}
    export DEMO_STABLE2_PORT=${ports[3]} DEMO_CANARY1_PORT=${ports[4]} DEMO_PROMETHEUS_PORT=${ports[5]}
    # The path of a socket is short, and bats's own directories are not.
    DEMO_RUN=$(mktemp -d "${TMPDIR:-/tmp}/haldane-test-XXXXXX")
    export DEMO_RUN
    "$stack" start 3>&-
}

teardown_file() {
    "$stack" stop
    rm -rf "$DEMO_RUN"
}

setup() {
    result=$BATS_TEST_TMPDIR/load.json
}

teardown() {
    stop_all
}

balancer() {
    local answer
    answer=$(echo "$1" | socat - "UNIX-CONNECT:$DEMO_RUN/haproxy.sock")
    [[ -z ${answer//[[:space:]]/} ]] || {
        echo "$answer" >&2
        return 1
    }
}

weights() {
    balancer "set server shop/canary1 weight $1"
    balancer "set server shop/stable1 weight $2"
    balancer "set server shop/stable2 weight $2"
}

start_load() {
    start_bg load "$DEMO_LOAD" --url "http://127.0.0.1:$DEMO_WEB_PORT" --json "$result" --post-share 50% "$@"
}

field() {
    jq -e "$1" "$result"
}

query() {
    curl -fsS --noproxy '*' --data-urlencode "query=$1" "http://127.0.0.1:$DEMO_PROMETHEUS_PORT/api/v1/query"
}

query_until() {
    local i
    for ((i = 0; i < 50; i++)); do
        query "$1" | jq -e "$2" >/dev/null && return 0
        sleep 0.2
    done
    query "$1" >&2
    return 1
}

server_is() {
    local i
    for ((i = 0; i < 100; i++)); do
        echo 'show servers state shop' | socat - "UNIX-CONNECT:$DEMO_RUN/haproxy.sock" |
            awk -v server="$1" -v state="$2" '$4 == server && $6 == state { found = 1 } END { exit !found }' && return 0
        sleep 0.1
    done
    return 1
}

@test "the templates are valid, and no placeholder is left" {
    haproxy -c -q -f "$DEMO_RUN/haproxy.cfg"
    promtool check config "$DEMO_RUN/prometheus.yml"
    run -1 grep -E '@[A-Z0-9_]+@' "$DEMO_RUN/haproxy.cfg" "$DEMO_RUN/prometheus.yml"
}

@test "before its process is there the canary is known, down, and gets nothing" {
    server_is canary1 0
    balancer "set server shop/canary1 weight 0"
    start_load --rate 300 --duration 2s --fail-on-loss
    wait_bg load
    [ "$(field .tracks.stable.answered)" -eq 600 ]
    [ "$(field '.tracks | keys | length')" -eq 1 ]
}

@test "weights are the split, and the header tells the track" {
    "$stack" canary 3>&-
    server_is canary1 2
    weights 50 75 # one canary of 50 among 200: a quarter
    start_load --rate 500 --duration 4s --fail-on-loss
    wait_bg load
    holds "$(field .tracks.canary.answered) > 490 && $(field .tracks.canary.answered) < 510"
    [ "$(field .tracks.canary.answered)" -eq "$(field .versions.v2.answered)" ]
    [ "$(field .tracks.stable.answered)" -eq "$(field .versions.v1.answered)" ]
}

@test "the track is the target's label in Prometheus, for two stable instances and a canary" {
    "$stack" canary 3>&-
    query_until 'up{job="shop"}' '[.data.result[].value[1]] == ["1", "1", "1"]'
    query 'up{job="shop",track="stable"}' | jq -e '.data.result | length == 2'
    query 'up{job="shop",track="canary"}' | jq -e '.data.result | length == 1'
    query 'http_requests_total{exported_track!=""}' | jq -e '.data.result | length == 0'
    query_until 'haproxy_server_status{server="canary1",state="UP"}' '.data.result[0].value[1] == "1"'
}

@test "replacing the canary under load loses nothing, POST included" {
    "$stack" canary 3>&-
    server_is canary1 2
    weights 100 50
    start_load --rate 500 --duration 8s --fail-on-loss
    sleep 1
    "$stack" canary --latency-factor 1.1 3>&-
    wait_bg load
    [ "$(field .answered)" -eq 4000 ]
    [ "$(field '[.status | to_entries[] | select(.key > "500") | .value] | add // 0')" -eq 0 ]
    [ "$(field .tracks.canary.answered)" -gt 500 ]
}

@test "a canary that is killed costs at most the POSTs it had in hand" {
    "$stack" canary --crash-after 2s 3>&-
    server_is canary1 2
    weights 20 90
    start_load --rate 500 --duration 4s
    wait_bg load
    server_is canary1 0
    # 50 requests a second of 45 ms each: two or three in hand, half of them POST. HAProxy answers 502, or, where the
    # client's connection had been used before, closes it without a word and leaves it to the client to try again.
    holds "$(field '.failed + ([.status | to_entries[] | select(.key > "500") | .value] | add // 0)') <= 8"
    [ "$(field .failed)" -eq "$(field .failures.empty)" ]
    [ "$(field .methods.GET.failed)" -eq 0 ]
}

@test "stack.sh refuses what it cannot do, in a sentence" {
    run -1 "$stack" start
    [[ $output == *"runs already"* ]]
    run -64 "$stack" stop nobody
    [[ $output == *"there is no nobody"* ]]
    run -64 "$stack" dance
    run -0 "$stack" --help
    run -1 env DEMO_RUN="$BATS_TEST_TMPDIR" "$stack" start
    [[ $output == *"port $DEMO_WEB_PORT is taken"* ]]
}
