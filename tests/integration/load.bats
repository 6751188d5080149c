#!/usr/bin/env bats
# The load generator: it is what later proofs of "nothing was lost" stand on, so it must see a loss when there is one.

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

# Answers the first request of every connection and then closes on the next without a word, as a server does whose idle
# timeout strikes at the wrong moment. It counts what reaches it.
start_rude_server() {
    cat >"$BATS_TEST_TMPDIR/rude.cfg" <<TEXT
global
    stats socket $BATS_TEST_TMPDIR/rude.sock
defaults
    mode http
    timeout client 10s
    timeout server 10s
    timeout connect 1s
frontend rude
    bind 127.0.0.1:$port
    # Counts the requests that were read; HAProxy's own counter also has connections closed before any request.
    stick-table type integer size 1 store gpc0
    http-request track-sc0 int(1)
    http-request sc-inc-gpc0(0)
    http-request reject if { var(sess.served) -m found }
    http-request set-var(sess.served) int(1)
    http-request return status 200 content-type text/plain string ok
TEXT
    start_bg rude haproxy -db -f "$BATS_TEST_TMPDIR/rude.cfg"
    local i
    for ((i = 0; i < 100; i++)); do
        [[ -S $BATS_TEST_TMPDIR/rude.sock ]] && return 0
        sleep 0.05
    done
    return 1
}

requests_reached() {
    echo 'show table rude' | socat - "UNIX-CONNECT:$BATS_TEST_TMPDIR/rude.sock" | sed -n 's/.*gpc0=//p'
}

@test "the rate is the one asked for, on time" {
    start_shop shop "$port"
    generate --rate 500 --duration 4s
    [ "$(field .due)" -eq 2000 ]
    [ "$(field .sent)" -eq 2000 ]
    holds "$(field .achieved_rate) > 499 && $(field .achieved_rate) < 501"
    holds "$(field '.generator.lateness_ms.p99') < 20"
    # 30 % POST and 10 % on connections of their own, within four standard deviations.
    holds "$(field .methods.POST.due) > 600 - 82 && $(field .methods.POST.due) < 600 + 82"
    holds "$(field .generator.connections_opened) > 200 - 54"
    holds "$(field .generator.connections_opened) < 200 + 54 + 100"
}

@test "poisson arrivals come at the same rate on average, and the seed repeats them" {
    local first
    start_shop shop "$port" --latency-median 1ms
    generate --rate 500 --duration 2s --arrivals poisson
    first=$(field .due)
    holds "$first > 1000 - 4 * 31.6 && $first < 1000 + 4 * 31.6"
    generate --rate 500 --duration 2s --arrivals poisson
    [ "$(field .due)" -eq "$first" ]
}

@test "open loop: a server that stalls gets its requests all the same, and is charged for the wait" {
    start_shop shop "$port" --latency-median 5ms
    start_bg load "$DEMO_LOAD" --url "http://127.0.0.1:$port" --rate 200 --duration 4s --json "$result"
    sleep 1
    signal_bg shop STOP
    sleep 1
    signal_bg shop CONT
    wait_bg load
    [ "$(field .due)" -eq 800 ]
    [ "$(field .sent)" -eq 800 ]
    [ "$(field .failed)" -eq 0 ]
    holds "$(field '.generator.lateness_ms.p99') < 50"
    # A quarter of the requests fell into the second of silence and waited half a second on average. A generator that
    # waits for answers would have sent a few of them only and shown a p90 of some milliseconds.
    holds "$(field '.latency_ms.p90') > 400"
    holds "$(field .generator.in_flight_max) > 150"
}

@test "requests beyond the connections allowed wait, and their wait counts" {
    start_shop shop "$port" --latency-median 100ms --latency-sigma 0
    generate --rate 200 --duration 2s --connections-max 10 --timeout 1s
    # Ten connections carry 100 a second of the 200 that are due.
    [ "$(field .due)" -eq 400 ]
    [ "$(field '.answered + .failed')" -eq 400 ]
    # Who is sent when his patience is nearly over runs out of it on the way.
    [ "$(field ".failures.unsent + .failures.timeout")" -gt 50 ]
    [ "$(field .generator.in_flight_max)" -eq 10 ]
    holds "$(field '.generator.queue.wait_ms.p99') > 800"
    holds "$(field '.latency_ms.max') < 1100"
}

@test "a server that is killed: what was lost is counted, by kind" {
    start_shop shop "$port" --latency-median 100ms
    start_bg load "$DEMO_LOAD" --url "http://127.0.0.1:$port" --rate 500 --duration 3s --json "$result"
    sleep 1
    signal_bg shop KILL
    wait_bg load
    [ "$(field .due)" -eq 1500 ]
    [ "$(field '.answered + .failed')" -eq 1500 ]
    [ "$(field '[.failures[]] | add')" -eq "$(field .failed)" ]
    # Some 50 were under way; all that came later were refused.
    [ "$(field '.failures.empty + .failures.reset')" -gt 10 ]
    [ "$(field .failures.connect)" -gt 500 ]
}

@test "a server that is killed and comes back: its successor sees no request twice" {
    start_shop shop "$port" --latency-median 200ms
    start_bg load "$DEMO_LOAD" --url "http://127.0.0.1:$port" --rate 500 --duration 4s --post-share 100% --json "$result"
    sleep 1
    signal_bg shop KILL
    start_bg successor "$DEMO_SHOP" --listen "127.0.0.1:$port" --version v2
    wait_bg load
    [ "$(field '.failures.empty + .failures.reset')" -gt 10 ]
    [ "$(metric "$port" http_requests_total)" -eq "$(field .versions.v2.answered)" ]
}

@test "nothing is ever sent twice: a connection that dies under a POST is a failure" {
    start_rude_server
    # The control: plain curl sends the second POST again and shows a success.
    run -0 curl -sS -d x "http://127.0.0.1:$port/" -d x "http://127.0.0.1:$port/"
    [ "$output" = okok ]
    [ "$(requests_reached)" -eq 3 ]
    generate --rate 100 --duration 2s --post-share 100% --short-share 0%
    [ "$(field .due)" -eq 200 ]
    [ "$(requests_reached)" -eq $((3 + 200)) ]
    [ "$(field .failures.empty)" -gt 50 ]
    # A reset that curl itself sees as an error; it never sends those again.
    [ "$(field ".failures.empty + .failures.reset")" -eq "$(field .failed)" ]
    [ "$(field .generator.resends_prevented)" -eq "$(field .failures.empty)" ]
    generate --rate 100 --duration 2s --post-share 0% --short-share 0%
    [ "$(requests_reached)" -eq $((3 + 400)) ]
    [ "$(field .failures.empty)" -gt 50 ]
}

@test "nobody listens: all failed to connect, and the run itself worked" {
    generate --rate 100 --duration 1s
    [ "$(field .failures.connect)" -eq 100 ]
    run -1 "$DEMO_LOAD" --url "http://127.0.0.1:$port" --rate 100 --duration 1s --fail-on-loss
    [[ $output == *"failed, connect: 100"* ]]
}

@test "patience ends: a timeout is a timeout" {
    start_shop shop "$port" --latency-median 5s --latency-sigma 0
    generate --rate 50 --duration 1s --timeout 300ms
    [ "$(field .failures.timeout)" -eq 50 ]
    holds "$(field .elapsed_s) < 2"
}

@test "answers are counted by the header that names the track, also through HAProxy" {
    local front
    front=$("$HALDANE_SOURCE/tests/free_ports")
    start_shop shop "$port" --latency-median 1ms --failure-share 50%
    cat >"$BATS_TEST_TMPDIR/front.cfg" <<TEXT
defaults
    mode http
    timeout client 10s
    timeout server 10s
    timeout connect 1s
frontend front
    bind 127.0.0.1:$front
    http-request return status 503 hdr X-Track none if { path /order }
    http-after-response set-header X-Track some if { status 200 }
    default_backend shop
backend shop
    server shop 127.0.0.1:$port
TEXT
    start_bg front haproxy -db -f "$BATS_TEST_TMPDIR/front.cfg"
    wait_http "http://127.0.0.1:$front/readyz"
    "$DEMO_LOAD" --url "http://127.0.0.1:$front" --rate 200 --duration 2s --track-header x-track --json "$result"
    [ "$(field .tracks.some.answered)" -eq "$(field '.status["200"]')" ]
    [ "$(field .tracks.none.answered)" -eq "$(field '.status["503"]')" ]
    [ "$(field '.tracks["(none)"].status["500"]')" -eq "$(field '.status["500"]')" ]
    [ "$(field '[.tracks[].answered] | add')" -eq 400 ]
}

@test "SIGINT ends the sending, waits for the answers, and writes the result" {
    start_shop shop "$port" --latency-median 300ms --latency-sigma 0
    start_bg load "$DEMO_LOAD" --url "http://127.0.0.1:$port" --rate 100 --json "$result" --fail-on-loss
    sleep 1
    signal_bg load TERM
    wait_bg load 5
    [ "$(field .interrupted)" = true ]
    [ "$(field .answered)" -eq "$(field .due)" ]
    holds "$(field .due) > 50 && $(field .due) < 200"
}

@test "wrong usage: exit code 64; a result that cannot be written: 74, before anything is sent" {
    run -64 "$DEMO_LOAD" --rate 10
    [[ $output == *"--url is required"* ]]
    run -64 "$DEMO_LOAD" --url http://127.0.0.1:1
    [[ $output == *"--rate is required"* ]]
    run -64 "$DEMO_LOAD" --url http://127.0.0.1:1/items --rate 10
    [[ $output == *"--path"* ]]
    run -64 "$DEMO_LOAD" --url http://127.0.0.1:1 --rate fast
    run -64 "$DEMO_LOAD" --url http://127.0.0.1:1 --rate 10 --arrivals sometimes
    run -64 "$DEMO_LOAD" --url http://127.0.0.1:1 --rate 10 --post-share 1
    run -64 "$DEMO_LOAD" --url http://127.0.0.1:1 --rate 10 --path items
    run -64 "$DEMO_LOAD" --url http://127.0.0.1:1 --rate 10 --header nonsense
    run -64 "$DEMO_LOAD" --url http://127.0.0.1:1 --rate 10 --timeout 0
    run -74 "$DEMO_LOAD" --url http://127.0.0.1:1 --rate 10 --json "$BATS_TEST_TMPDIR/no/such/place"
    run -0 "$DEMO_LOAD" --help
    [[ $output == usage:* ]]
}
