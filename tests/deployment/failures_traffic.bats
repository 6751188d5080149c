#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # jq is quoted so; each test is a process of its own; $output is of run
#
# What can go wrong with a canary, with what judges it and with what moves its traffic: the failures of the runbooks 1 to
# 11, each caused on purpose in a production stack under load. What the page promises is seen, and its commands are given.

load failures

# 4.0.0-slow takes six times as long as 1.0.0. HAProxy's configuration is a copy, so that it can be broken.
setup_file() {
    export override=$HALDANE_BUILD/deployment/haproxy-copy.yml
    mkdir -p -- "${override%/*}"
    printf 'services:\n  haproxy:\n    volumes: ["%s:/usr/local/etc/haproxy:ro"]\n' \
        "$HALDANE_BUILD/deployment/haproxy-copy" >"$override"
    rm -rf -- "${override%.yml}"
    cp -r -- "$HALDANE_SOURCE/compose/haproxy" "${override%.yml}"
    failures_begin failures-traffic "COMPOSE_FILES=compose/docker-compose.prod.yml $override"
    docker image inspect haldane-stack/shop:4.0.0-slow >/dev/null 2>&1 || stack build 4.0.0-slow '--latency-factor 6' >&2
    lab=$failures_lab
    failures_policy short '{weight: 25%, min: 5s, max: 10s}' '{weight: 100%, bake: 10m}'
    sed -i 's/^undecided: .*/undecided: abort/' "$failures_lab/policies/short.yaml"
}

teardown_file() {
    failures_end
}

setup() {
    failures_open
}

teardown() {
    show_sockets || true
    find_canary_metrics || true
    cp -- "$HALDANE_SOURCE/compose/haproxy/haproxy.cfg" "${override%.yml}/"
    failures_heal
}

# What is moved in a socket's place is still the same socket.
hide_socket() {
    stack shell haproxy "mv /run/haproxy/$1.sock /run/haproxy/$1.away"
}

show_sockets() {
    stack shell haproxy 'cd /run/haproxy && for s in admin master; do [ ! -e $s.away ] || mv $s.away $s.sock; done'
}

# Prometheus looks for the canary where nobody listens.
lose_canary_metrics() {
    stack shell prometheus 'sed "s/\(shop-canary-[12]\):8080/\1:8081/g" /etc/prometheus/targets/canary.yml >/run/prometheus/wrong &&
        ln -sf /run/prometheus/wrong /run/prometheus/shop.yml'
}

find_canary_metrics() {
    stack shell prometheus 'ln -sf /etc/prometheus/targets/canary.yml /run/prometheus/shop.yml'
}

# What HAProxy's master says of its processes.
processes() {
    stack shell haproxy 'echo show proc | socat -t 2 - UNIX-CONNECT:/run/haproxy/master.sock'
}

balancer_pid() {
    stack balancer <<<'show info' | sed -n 's/^Pid: //p'
}

@test "1, errors: a canary that fails is out by itself, its log is still there, and rollback.sh finds nothing to do" {
    load_begin errors 150
    canary_begin --version 3.0.0 --smoke true --warm true
    canary_ends 20 200
    logged 'aborted, step 0.* shop canary (had .* requests fail|fails .* as often as stable)'
    logged 'all traffic is on stable, as the balancer itself says'
    share_is 0
    within 30 alert_sees CanaryWorseThanStable
    load_end
    nothing_lost errors

    haldane_says 0 list
    [[ ${lines[0]} =~ ^(shop-[0-9-]+)\ .*aborted\ at\ 0\ %$ ]]
    haldane_says 0 report shop
    [[ $output =~ "To blame    errors" ]]
    [[ $(stack logs shop-canary-1 2>&1) =~ ready|listening|3\.0\.0 ]]
    script 0 rollback.sh
    [[ $stderr =~ "all traffic is on stable already; nothing was changed" ]]
    [[ $stderr =~ "proven: all traffic is on stable" ]]
}

@test "2, latency: a canary that is slower is out by itself, and the report says by how much" {
    canary_ready 4.0.0-slow
    load_begin latency 150
    begin quarter
    advance_until 60 answered '.state == "aborted"'
    holds '.reason | test("shop canary takes .* as long as stable|guardrail slow")' <<<"$output"
    [[ $status == 20 ]]
    within 30 alert_sees CanarySlowerThanStable
    share_is 0
    load_end
    nothing_lost latency
    haldane_says 0 report shop
    [[ $output =~ "To blame    latency" ]]
}

@test "3, crash loop: users notice nothing, canary.sh goes back by the canary's health, and the restarts are counted" {
    load_begin crash 150 --post-share 0%
    canary_begin --version 2.0.0 --warm true --cleanup true
    within 150 share_is 2500
    local deadline=$((EPOCHSECONDS + 60))
    until canary_has_ended || ((EPOCHSECONDS >= deadline)); do
        send KILL shop-canary-1 2>/dev/null || true
        send KILL shop-canary-2 2>/dev/null || true
        sleep 2
    done
    canary_ends 20 5
    logged 'the health check of the canary failed 3 times in a row|guardrail health|unanswered'
    share_is 0
    load_end
    nothing_lost crash
    (($(docker inspect --format '{{.RestartCount}}' "$(container shop-canary-1)") >= 2))
    stack status --format json | holds '[.services[] | select(.service | startswith("shop-canary")) | .restarts] | min >= 2'
    within 20 alert_sees ServerFlaps
    check_says containers '.target == "shop-canary-1" and (.message | test("restart"))'
}

@test "4, hung: HAProxy takes the canary out, stable serves all, and rollback.sh --now ends the rollout" {
    canary_ready 2.0.0
    load_begin hung 150 --post-share 0% --timeout 90s
    begin quarter
    send STOP shop-canary-1
    send STOP shop-canary-2
    within 8 canaries_are DOWN
    [[ $(tracks 20) == stable ]]
    share_is 2500
    haldane_says 0 traffic get "$policies/quarter.yaml"
    [[ $output =~ canary\ 25\ %.*DOWN ]]
    within 15 alert_sees ServerDown
    script 0 rollback.sh --now
    share_is 0
    status_is '.state == "aborted"'
    [[ $(ps -o stat= -p "$(service_pid shop-canary-1)") =~ ^T ]]

    docker restart --time 0 "$(container shop-canary-1)" "$(container shop-canary-2)"
    within 30 canaries_are UP
    # Requests that the canary had when it hung are sent again when it is killed.
    load_end
    nothing_lost hung
}

@test "6, Prometheus is down: nothing moves, and when the lease is over HAProxy and the guard are back on stable" {
    canary_ready 2.0.0
    load_begin blind 100
    begin brief
    docker kill "$(container prometheus)"
    advance_until 45 refused
    [[ $stderr =~ "after 3 tries: query" ]]
    share_is 2500
    check_says prometheus '.status == "fail"'
    run "$deployment/canary.sh" --version 2.0.0 --dry-run
    [[ $status != 0 && $output =~ "metrics: failed" ]]
    within 60 share_is 0
    within 20 status_is '.state == "expired" and (.reason | test("the lease has run out"))'

    docker start "$(container prometheus)"
    within 60 state_is prometheus healthy
    load_end
    nothing_lost blind
}

@test "7, metrics of the canary are missing: haldane holds and says so, and goes on when they are back" {
    canary_ready 2.0.0
    load_begin stale 100
    begin quarter
    advance_until 30 answered '.reason | test("canary")'
    lose_canary_metrics
    advance_until 60 answered '.state == "stepping" and .decision == "hold" and (.reason | test("no data"))'
    share_is 2500
    within 60 alert_sees ShopNotScraped
    [[ -n $(query 'up{job="shop",slot="canary"} == 0') ]]
    find_canary_metrics
    advance_until 60 answered '.state == "stepping" and (.reason | test("no data") | not)'
    haldane_says 0 abort shop --reason 'the metrics were wrong'
    load_end
    nothing_lost stale
}

@test "8, too little traffic: silence promotes nobody; a person may, and undecided: abort goes back" {
    canary_ready 2.0.0
    # The canary sees one request in five seconds: none at all for a minute and a half is no chance to count with.
    load_begin little 4
    begin canary
    advance_until 90 answered '.state == "stepping" and .step == 0 and .decision == "hold" and (.reason | test("shop canary had|no data"))'
    sleep 5
    haldane_says 10 advance "$id" --format json
    holds '.step == 0 and .decision == "hold"' <<<"$output"
    share_is 500
    haldane_says 0 promote shop --reason 'the night is quiet, the version is small'
    share_is 2500
    haldane_says 0 abort shop --reason 'the test goes on'

    begin short
    advance_until 40 answered '.state == "expired" and (.reason | test("nothing was proved within 10s"))'
    [[ $status == 20 ]]
    share_is 0
}

@test "9, the admin socket is gone: the master's is the second way; without both the lease ends by itself" {
    canary_ready 2.0.0
    load_begin socket 100
    begin quarter
    hide_socket admin
    haldane_says 0 traffic check "$policies/quarter.yaml"
    [[ $output == *"nobody listens at /run/haproxy/admin.sock, so HAProxy is asked by way of its master"* ]]
    advance_until 40 answered '.state == "stepping" and (.reason | test("shop canary"))'
    [[ $(stack balancer <<<'show map /etc/haproxy/maps/share.map') =~ "canary 2500" ]]
    haldane_says 0 abort shop --reason 'the socket is gone'
    share_is 0

    begin brief
    hide_socket master
    advance_until 45 refused
    [[ $stderr =~ "cannot be reached" ]]
    within 60 share_is 0
    [[ $(tracks 20) == stable ]]
    show_sockets
    within 30 status_is '.state == "expired"'
    load_end
    nothing_lost socket
}

@test "10, HAProxy is killed: the engine starts it again, the share is what it was, and the rollout goes on" {
    canary_ready 2.0.0
    load_begin restart 100
    begin quarter
    send KILL haproxy
    within 30 share_is 2500
    advance_until 60 answered '.state == "stepping" and .weight == 2500 and (.reason | test("shop canary"))'
    within 30 alert_sees BalancerRestarted
    within 20 canaries_are UP
    haldane_says 0 abort shop --reason 'the test is over'
    share_is 0
    load_end
    echo "HAProxy was killed: $(lost restart) of $(jq .due "$lab/restart.json") requests were lost" >&3
}

@test "11, a reload fails: the old configuration goes on, with the canary's share, and can be mended" {
    local good=$HALDANE_SOURCE/compose/haproxy/haproxy.cfg copy=${override%.yml}/haproxy.cfg before
    canary_ready 2.0.0
    begin quarter
    printf '\nbackend be_stable\n    balans roundrobin\n' >>"$copy"
    before=$(balancer_pid)
    run --separate-stderr stack reload haproxy
    [[ $status == 65 && $stderr =~ "the configuration is wrong; nothing was changed" ]]
    # Past the script, as a person does it at the socket.
    stack shell haproxy 'echo reload | socat -t 2 - UNIX-CONNECT:/run/haproxy/master.sock' || true
    within 20 eval '[[ $(processes) =~ "failed: 1" ]]'
    [[ $(balancer_pid) == "$before" ]]
    share_is 2500
    advance_until 40 answered '.weight == 2500 and (.reason != "first step")'
    run ! stack shell haproxy 'haproxy -c -f /usr/local/etc/haproxy/haproxy.cfg'
    [[ $output =~ "balans" ]]

    cp -- "$good" "$copy"
    run -0 --separate-stderr stack reload haproxy
    [[ $stderr =~ "is replaced by" ]]
    share_is 2500
    haldane_says 0 abort shop --reason 'the test is over'
    share_is 0
}

# The last one, because a stable that has just been restarted is nothing to compare with.
@test "5, stable crashes: one server costs nobody anything, without any the canary serves and is not taken away" {
    canary_ready 2.0.0
    load_begin stable 150 --post-share 0%
    begin quarter
    send KILL shop-stable-1
    within 15 stables_are UP
    advance_until 60 answered '.state == "stepping" and .decision == "hold" and (.reason | test("shop canary|no comparison"))'
    docker kill "$(container shop-stable-1)" "$(container shop-stable-2)"
    within 10 eval '[[ $(tracks 20) == canary ]]'
    within 20 alert_sees StableServerDown
    check_says servers '.target == "stable" and .status == "fail"'
    # Nothing moves up, and nothing is taken from those who serve.
    advance_until 10 answered '.state == "stepping" and .weight == 2500'
    haldane_says 69 abort shop --reason 'stable is dead'
    [[ $stderr =~ "WAKE SOMEBODY: no stable server" ]]
    script 69 rollback.sh --now
    [[ $stderr =~ "WAKE SOMEBODY: stable does not answer" ]]
    share_is 2500
    [[ $(tracks 20) == canary ]]

    stack up
    # The way back that was asked for is gone now, by the guard.
    within 30 status_is '.state == "aborted"'
    share_is 0
    [[ $(tracks 20) == stable ]]
    load_end
    # What both were answering as they died cannot always be saved.
    lost_at_most 10 stable
}
