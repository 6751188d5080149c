#!/usr/bin/env bats
# shellcheck disable=SC2154 # $output comes from run
#
# compose/haproxy/haproxy.cfg, with the paths and addresses of this test, in the real HAProxy: what operators are told,
# and that they and the health check get in when users have taken every connection.

load helpers

setup() {
    run_dir=$BATS_TEST_TMPDIR/run
    mkdir "$run_dir" "$run_dir/bin"
    read -r web tls ops shop <<<"$("$HALDANE_SOURCE/tests/free_ports" 4)"
    openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout "$run_dir/key" \
        -out "$run_dir/certificate" 2>/dev/null
    cat "$run_dir/certificate" "$run_dir/key" >"$run_dir/tls.pem"
    cp "$HALDANE_SOURCE/compose/haproxy/inside.networks" "$run_dir/"
    # As the image's start script makes them.
    printf 'canary 0\nepoch 0\nexpires 0\n' >"$run_dir/share.map"
    printf '1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight\n' \
        >"$run_dir/server-state"
    # The health check, and what it calls. It must never find a process to kill here: the first child of process 1 is
    # some other program of this machine.
    sed -e "s|/tmp/healthcheck|$run_dir/healthcheck|" -e 's/kill -KILL/echo would kill/' \
        "$HALDANE_SOURCE/compose/images/healthcheck.sh" >"$run_dir/bin/healthcheck"
    sed "s|/run/haproxy/|$run_dir/|" "$HALDANE_SOURCE/compose/images/haproxy/balancer.sh" >"$run_dir/bin/balancer"
    chmod +x "$run_dir/bin/"*
    PATH=$run_dir/bin:$PATH
}

teardown() {
    stop_all
    # The worker of a master that was killed ends by itself, unless it is stopped.
    [[ ! -s $run_dir/worker ]] || kill -KILL "$(cat "$run_dir/worker")" 2>/dev/null || true
}

# balancer_start STRATEGY [OPTION OF SED...]
balancer_start() {
    local strategy=$1
    shift
    sed -e "s|/run/haproxy/|$run_dir/|; s|/etc/haproxy/maps/|$run_dir/|g; s|/var/lib/haproxy/|$run_dir/|" \
        -e "s|/run/secrets/|$run_dir/|; s|/usr/local/etc/haproxy/|$run_dir/|; s| group balancer||" \
        -e "s|bind :8080|bind 127.0.0.1:$web|; s|bind :8443|bind 127.0.0.1:$tls|; s|bind :8405|bind 127.0.0.1:$ops|" \
        -e "s|shop-[a-z]*-[12]:8080|127.0.0.1:$shop|" "$@" \
        "$HALDANE_SOURCE/compose/haproxy/haproxy.cfg" >"$run_dir/haproxy.cfg"
    STRATEGY=$strategy start_bg haproxy haproxy -W -S "$run_dir/master.sock" -f "$run_dir/haproxy.cfg"
    wait_http "http://127.0.0.1:$ops/healthz"
}

worker_pid() {
    printf 'show proc\n' | socat -t 2 - "UNIX-CONNECT:$run_dir/master.sock" | awk '$2 == "worker" { print $1; exit }'
}

share_page() {
    curl -fsS --noproxy '*' --max-time 2 "http://127.0.0.1:$ops/haldane/share"
}

# The health check of HAProxy's image, as its Dockerfile has it.
image_check() {
    local words
    words=$(sed -n '/^HEALTHCHECK/,/\]$/p' "$HALDANE_SOURCE/compose/images/haproxy/Dockerfile" |
        sed 's/.*CMD //; /^HEALTHCHECK/d; s/\\$//' | sed "s|:8405|:$ops|g")
    # shellcheck disable=SC2046 # jq quotes the words for the shell
    eval "$(jq -r '@sh' <<<"$words")"
}

failures() {
    cat "$run_dir/healthcheck.failures"
}

@test "a colour's weight is that of both its servers" {
    balancer_start blue-green
    [[ $(share_page) == 'blue=200 green=0 now='* ]]
    echo 'set weight be_colours/blue1 0' | balancer
    [[ $(share_page) == 'blue=100 green=0 now='* ]]
    echo 'set weight be_colours/green2 7' | balancer
    [[ $(share_page) == 'blue=100 green=7 now='* ]]
    echo 'set weight be_colours/blue2 0' | balancer
    [[ $(share_page) == 'blue=0 green=7 now='* ]]
}

@test "users that hold every connection they may have keep nobody from looking, and HAProxy counts as alive" {
    balancer_start canary -e 's/maxconn 8000/maxconn 30/' -e 's/maxconn 7500/maxconn 20/'
    start_bg users python3 -c 'import socket, time
users = [socket.create_connection(("127.0.0.1", '"$web"')) for _ in range(40)]
time.sleep(60)'
    full() { [[ $(echo 'show info' | balancer) =~ CurrConns:\ 20 ]]; }
    for _ in {1..50}; do
        if full; then break; fi
        sleep 0.1
    done
    full
    run -0 image_check
    [ "$(failures)" = 0 ]
    run -0 share_page
}

@test "HAProxy is alive also when the port of its operators is not; one that hangs is not" {
    # All connections, those of operators too.
    balancer_start canary -e 's/maxconn 8000/maxconn 20/' -e '/maxconn 7500/d'
    start_bg users python3 -c 'import socket, time
users = [socket.create_connection(("127.0.0.1", '"$web"')) for _ in range(20)]
time.sleep(60)'
    for _ in {1..50}; do
        [[ ! $(echo 'show info' | balancer) =~ CurrConns:\ 20 ]] || break
        sleep 0.1
    done
    run image_check
    [ "$status" -ne 0 ] # unhealthy, for people
    [ "$(failures)" = 0 ]
    worker_pid >"$run_dir/worker"
    kill -STOP "$(cat "$run_dir/worker")"
    run image_check
    [ "$status" -ne 0 ]
    [ "$(failures)" = 1 ]
    HEALTH_ACT_AFTER=2 run image_check
    [ "$(failures)" = 2 ]
    [[ $output == *'would kill'* ]]
}

@test "HAProxy whose sockets somebody has removed serves its users, and is not killed" {
    balancer_start canary
    rm "$run_dir/admin.sock" "$run_dir/master.sock"
    run -0 image_check
    [ "$(failures)" = 0 ]
}

@test "a check that the engine ends does not count, nor one that took longer than its limits allow" {
    printf '3\n' >"$run_dir/healthcheck.failures"
    run timeout --signal=KILL 0.5 healthcheck 'sleep 1; false'
    [ "$(failures)" = 3 ]
    # A machine on which a limit of two seconds takes five.
    printf '#!/bin/sh\nsleep 5.1\nexit 124\n' >"$run_dir/bin/timeout"
    chmod +x "$run_dir/bin/timeout"
    run -1 healthcheck 'false'
    [[ $output == *'does not count'* ]]
    [ "$(failures)" = 3 ]
    rm "$run_dir/bin/timeout"
    run -1 healthcheck 'false'
    [ "$(failures)" = 4 ]
    run -1 healthcheck 'sleep 30'
    [ "$(failures)" = 5 ]
    run -1 healthcheck "http://127.0.0.1:$shop/"
    [ "$(failures)" = 6 ]
    run -0 healthcheck true
    [ "$(failures)" = 0 ]
}

@test "a request that failed is in the log, and one that did not is not" {
    start_shop shop "$shop" --latency-median 1ms
    balancer_start canary
    wait_http "http://127.0.0.1:$web/?well"
    stop_bg shop
    curl -s --noproxy '*' -o /dev/null --max-time 5 "http://127.0.0.1:$web/?ill" || true
    logged() { grep -q '503 .*"GET /?ill' "$BATS_TEST_TMPDIR/haproxy.log"; }
    for _ in {1..30}; do
        if logged; then break; fi
        sleep 0.1
    done
    logged
    run ! grep '?well' "$BATS_TEST_TMPDIR/haproxy.log"
}

@test "who is inside is one file" {
    start_shop shop "$shop" --latency-median 1ms
    balancer_start canary
    wait_http "http://127.0.0.1:$web/"
    run -0 curl -fsS --noproxy '*' -o /dev/null -D - -H 'X-Canary: always' "http://127.0.0.1:$web/"
    [[ $output == *'x-lb-track: canary'* ]]
    stop_bg haproxy || true
    sed -i '/^127/d' "$run_dir/inside.networks"
    balancer_start canary
    wait_http "http://127.0.0.1:$web/"
    run -0 curl -fsS --noproxy '*' -o /dev/null -D - -H 'X-Canary: always' "http://127.0.0.1:$web/"
    [[ $output != *'x-lb-'* ]]
    # Not even the server that answers knows of the wish.
    echo 'show stat' | balancer | awk -F, '$1 == "be_canary" && $2 == "BACKEND" { exit $8 != 0 }'
}
