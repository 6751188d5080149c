#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2154 # jq is quoted so; $output comes from run
#
# What only the balancer sees, with the real HAProxy and the real Prometheus: a canary that dies and comes back under
# traffic. HAProxy sends its requests again to stable, so that no client sees an error, and a process that was killed
# tells nobody what it failed. policies/haproxy-service.yaml asks HAProxy.

load stack

setup_file() {
    export DEMO_LATENCY_MEDIAN=3ms DEMO_FAILURE_SHARE=0% DEMO_RATE=400
    stack_start
    fast_policy "$DEMO_RUN/policy.yaml"
    balancer "set server shop/canary1 weight 67"
    stack canary
    wait_status UP
    stack load --post-share 0%
    sleep 1.5
    date +%s.%N >"$DEMO_RUN/since"
    for _ in 1 2 3 4 5; do
        die_and_come_back
    done
    sleep 1.5
    stack stop load
    judge policy
    # Whichever guardrail fires first ends it: that on its health is asked alone, too.
    sed 's/^crash:.*//' "$DEMO_RUN/policy.yaml" >"$DEMO_RUN/health_alone.yaml"
    echo 'crash: {rate: 10%, times: 0, requests: 20}' >>"$DEMO_RUN/health_alone.yaml"
    judge health_alone
}

# judge NAME: under the policy of this name, to NAME.json and NAME.code.
judge() {
    local code=0
    haldane judge "$DEMO_RUN/$1.yaml" --since "$(cat "$DEMO_RUN/since")" --weight 25% --format json \
        >"$DEMO_RUN/$1.json" || code=$?
    echo "$code" >"$DEMO_RUN/$1.code"
}

teardown_file() {
    stack_stop
}

# The bundled policy on the demo's addresses, with looks of a second; the queries are untouched.
fast_policy() {
    sed -e "s|http://127.0.0.1:9090|http://127.0.0.1:$DEMO_PROMETHEUS_PORT|" \
        -e "s|/run/haproxy/admin.sock|$DEMO_RUN/haproxy.sock|" -e 's/^look: .*/look: 1s/' \
        -e 's/^settle: .*/settle: 1s/' -e 's/^warmup: .*/warmup: 0s/' \
        "$BATS_TEST_DIRNAME/../../policies/haproxy-service.yaml" >"$1"
}

# wait_status STATUS: what HAProxy thinks of the canary.
wait_status() {
    local i
    for ((i = 0; i < 100; i++)); do
        balancer "show stat" | awk -F, -v want="$1" '$2 == "canary1" { found = $18 == want } END { exit !found }' &&
            return 0
        sleep 0.05
    done
    echo "HAProxy does not see the canary $1"
    return 1
}

die_and_come_back() {
    kill -KILL "$(cat "$DEMO_RUN/canary1.pid")"
    wait_status DOWN
    stack canary
    wait_status UP
    sleep 0.3
}

# verdict JQ [NAME]
verdict() {
    jq -e "$1" "$DEMO_RUN/${2:-policy}.json" >&2
}

@test "no client sees an error of a canary that dies and comes back" {
    jq -e '.failed == 0 and .answered == .due and ([.status | to_entries[] | select(.key >= "500")] == [])' \
        "$DEMO_RUN/load.json" >&2
    jq -e '.versions.v2.answered > 200' "$DEMO_RUN/load.json" >&2
}

@test "the service's own metric sees nothing wrong with it" {
    verdict '.metrics[] | select(.name == "errors") | (.canary.failed // 0) == 0 and .status != "harmed"'
}

@test "HAProxy's counts show it, and the rollout would end" {
    [[ $(cat "$DEMO_RUN/policy.code") == 20 ]]
    verdict '.decision == "abort"'
    verdict '.metrics[] | select(.name == "unanswered") | .canary.failed > 20 and .stable.failed == 0'
}

@test "a canary that goes down again and again fires the guardrail on its health" {
    verdict '.guardrails[] | select(.name == "health") | .status == "firing" and .value > 2.5' health_alone
}

# The policy's total. Sessions would be less: some of them have two failures.
@test "every attempt of HAProxy is a response or a failure" {
    balancer "show stat" | awk -F, '$2 == "canary1" {
        failed = $14 + $15 + $16 + $17; answered = $40 + $41 + $42 + $43 + $44 + $45
        printf "%d failed, %d answered, %d sessions\n", failed, answered, $8
        exit !(failed > 0 && answered > 0 && answered + failed >= $8) }'
}
