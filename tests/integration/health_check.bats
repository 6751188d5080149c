#!/usr/bin/env bats
#
# health-check.sh against real servers: HAProxy (with and without TLS), Prometheus, Alertmanager, PostgreSQL, Redis, the
# shop and haldane. What is well is healthy; each thing that is broken on purpose is found by the check that it belongs
# to, and told from what users feel.
# shellcheck disable=SC2154 # ports and config are checks.bash's

load helpers
load stack
load databases
load checks

setup_file() {
    local all
    databases_start
    migrate
    export DEMO_BALANCER=map DEMO_LATENCY_MEDIAN=1ms DEMO_FAILURE_SHARE=0%
    stack_start
    read -r -a all < <("$HALDANE_SOURCE/tests/free_ports" 4)
    export SHOP_PORT=${all[0]} TLS_PORT=${all[1]} ALERTS_PORT=${all[2]} CLUSTER_PORT=${all[3]}
    # What outlives a test is kept apart from what a test starts.
    export KEPT=$BATS_FILE_TMPDIR/kept HALDANE_DB=$BATS_FILE_TMPDIR/haldane.db
    mkdir "$KEPT"
    BATS_TEST_TMPDIR=$KEPT
    start_full shop "$SHOP_PORT" --version v1
    certificate "$KEPT/tls.pem" 90
    start_tls "$KEPT/tls.pem"
    start_alertmanager
    write_policy
    stack_seen
}

teardown_file() {
    BATS_TEST_TMPDIR=$KEPT stop_all
    stack_stop
    databases_stop
}

setup() {
    here_settings
}

teardown() {
    jq -r '.checks[] | "\(.status) \(.name) \(.target): \(.message)"' <<<"${output:-}" 2>/dev/null || true
    stop_all
    [[ -e $DATABASES_DIR/postgres.pid ]] || postgres_start
    [[ -e $DATABASES_DIR/redis.pid ]] || redis_start
    databases_signal postgres CONT
    databases_signal redis CONT
    kill -CONT "$(cat "$DEMO_RUN/prometheus.pid")"
    if stack status | grep -Eq '^(stable1|stable2|haproxy) -'; then
        stack stop && stack start && stack_seen
    fi
}

# certificate FILE DAYS: a self-signed one, that ends in so many days.
certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days "$2" \
        -keyout "$1.key" -out "$1.crt" 2>/dev/null
    cat "$1.crt" "$1.key" >"$1"
}

start_tls() {
    cat >"$BATS_TEST_TMPDIR/tls.cfg" <<CFG
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend tls
    bind 127.0.0.1:$TLS_PORT ssl crt $1
    default_backend shop
backend shop
    server shop 127.0.0.1:$SHOP_PORT
CFG
    start_bg tls haproxy -db -f "$BATS_TEST_TMPDIR/tls.cfg"
    for _ in {1..100}; do
        ! curl -fsSk -o /dev/null --noproxy '*' "https://127.0.0.1:$TLS_PORT/healthz" 2>/dev/null || return 0
        sleep 0.05
    done
    return 1
}

start_alertmanager() {
    printf 'route: {receiver: none}\nreceivers: [{name: none}]\n' >"$BATS_TEST_TMPDIR/alertmanager.yml"
    start_bg alertmanager prometheus-alertmanager --config.file="$BATS_TEST_TMPDIR/alertmanager.yml" \
        --storage.path="$BATS_TEST_TMPDIR/alerts" --web.listen-address="127.0.0.1:$ALERTS_PORT" \
        --cluster.listen-address="127.0.0.1:$CLUSTER_PORT" --log.level=warn
    wait_http "http://127.0.0.1:$ALERTS_PORT/-/ready"
    alert Watchdog none "$(date -u -d '+1 day' +%FT%TZ)"
}

# alert NAME SEVERITY [END]: fires until then, or for minutes. Alertmanager has it when this returns.
alert() {
    local ends=${3:+,\"endsAt\":\"$3\"}
    curl -fsS --noproxy '*' -H 'Content-Type: application/json' "http://127.0.0.1:$ALERTS_PORT/api/v2/alerts" \
        -d "[{\"labels\":{\"alertname\":\"$1\",\"severity\":\"$2\"}${ends}}]"
}

write_policy() {
    mkdir "$KEPT/policies"
    cat >"$KEPT/policies/canary.yaml" <<YAML
version: 1
service: shop
prometheus: {url: "http://127.0.0.1:$DEMO_PROMETHEUS_PORT"}
tracks: {stable: 'track="stable"', canary: 'track="canary"'}
look: 2s
traffic:
  driver: haproxy
  socket: $DEMO_RUN/haproxy.sock
  map: $DEMO_RUN/share.map
  stable: [be_stable/stable1, be_stable/stable2]
  canary: [be_canary/canary1]
  unattended: 1m
steps:
  - {weight: 25%, min: 6s, max: 90s}
deadline: 5m
metrics:
  - name: errors
    type: errors
    total: 'http_requests_total{job="shop",\$track}'
    failed: 'http_requests_total{job="shop",code=~"5..",\$track}'
    abort_above: {ratio: 1.1}
    promote_below: {ratio: 2, absolute: 5%}
YAML
}

# here_settings [NAME=VALUE]...: everything there is, and thresholds that no machine of tests is above.
here_settings() {
    settings "SHOP_URL=http://127.0.0.1:$DEMO_WEB_PORT" "SHOP_TLS_URL=https://127.0.0.1:$TLS_PORT" \
        "HEALTH_ENDPOINTS=http://127.0.0.1:$DEMO_WEB_PORT/items 200 5s; https://127.0.0.1:$TLS_PORT/ 2xx 5s" \
        "OPS_URL=http://127.0.0.1:$DEMO_OPS_PORT" "PROMETHEUS_URL=http://127.0.0.1:$DEMO_PROMETHEUS_PORT" \
        "ALERTMANAGER_URL=http://127.0.0.1:$ALERTS_PORT" "READINESS_URLS=http://127.0.0.1:$SHOP_PORT/readyz" \
        "HALDANE_COMMAND=$HALDANE_BUILD/analyzer/cli/haldane" \
        "POLICIES=$KEPT/policies" HALDANE_POLICIES= GUARD_COMMAND=true \
        "CERTIFICATE_FILE=$KEPT/tls.pem" HEALTH_DISK_WARN=0 HEALTH_DISK_FAIL=0 HEALTH_MEMORY_WARN=0 HEALTH_MEMORY_FAIL=0 \
        HEALTH_CHECK_TIMEOUT=8s HEALTH_POLL=200ms "$@"
}

check() {
    deployment health-check.sh "$@"
}

# found NAME STATUS PATTERN: the output, in JSON, has such a finding.
found() {
    jq -es --arg name "$1" --arg status "$2" --arg pattern "$3" \
        '.[0] | any(.checks[]; .name == $name and .status == $status and (.message | test($pattern)))' <<<"$output" >/dev/null || {
        echo "no $1 $2 $3 in:"
        jq -r '.checks[] | "\(.status) \(.name) \(.target) \(.message)"' <<<"$output"
        return 1
    }
}

@test "all is well: healthy, 0, every part was asked; as JSON of the documented form and as text" {
    run -0 check --format json
    [ "$(jq -r .status <<<"$output")" = healthy ]
    [ "$(jq -r '[.checks[].name] | unique | join(" ")' <<<"$output")" = \
        "alerts balancer cache certificate clock database disk haldane http memory prometheus readiness servers targets" ]
    jq -e '.schema == "haldane.health/1" and (.seconds | type == "number") and (.time | fromdate > 0) and .strategy == "canary"
        and .counts.ok == (.checks | length) and .counts.fail == 0
        and all(.checks[]; (keys == ["critical", "hint", "message", "name", "seconds", "status", "target"]) and .message != ""
            and (.seconds | type == "number"))' <<<"$output"
    run -0 check
    [[ ${lines[-1]} == "healthy: "*" ok, in "*" s" && $output != *$'\e'* ]]
    # One key was written to the cache, and removed.
    [ "$(redis_cli --scan --pattern 'haldane:*' | wc -l)" -eq 0 ]
}

@test "the cache is gone: degraded, 1; users are served" {
    databases_kill redis
    run -1 check --format json --only cache,http
    found cache fail 'does not answer'
    found http ok '^200 in '
    jq -e '.status == "degraded" and any(.checks[]; .name == "cache" and .hint != "")' <<<"$output"
    run -0 check --only cache,http --accept degraded
}

@test "the database is gone: down, 2, and the shop's readiness names it" {
    databases_kill postgres
    for _ in {1..60}; do
        [[ $(curl -s "http://127.0.0.1:$SHOP_PORT/readyz" | jq -r .dependencies.database.status) != down ]] || break
        sleep 0.1
    done
    run -2 check --format json --only database,readiness
    found database fail 'does not answer|refuses'
    found readiness warn 'degraded, version v1: database since .* is down'
}

@test "a database that answers, but not this query" {
    here_settings 'DATABASE_QUERY=select count(*) from no_such_table'
    run -2 check --format json --only database
    found database fail 'the query fails: .*no_such_table'
}

@test "what hangs is a failure of its own check, within the limit, and leaves nothing behind" {
    local began
    mkdir "$BATS_TEST_TMPDIR/plugins"
    # It does not listen to TERM, and has a child.
    printf '#!/bin/sh\ntrap "" TERM\nsleep 987654 &\nwait; wait\n' >"$BATS_TEST_TMPDIR/plugins/stuck"
    chmod +x "$BATS_TEST_TMPDIR/plugins/stuck"
    here_settings "HEALTH_PLUGINS_DIR=$BATS_TEST_TMPDIR/plugins"
    kill -STOP "$(cat "$DEMO_RUN/prometheus.pid")"
    databases_signal redis STOP
    began=$SECONDS
    run -1 check --format json --timeout 2s --only prometheus,cache,plugins,disk
    ((SECONDS - began <= 8))
    found prometheus fail 'no answer'
    found cache fail 'no answer within 2 s|does not answer'
    found plugins fail 'no answer within 2 s'
    found disk ok 'free'
    run -1 pgrep -f 'sleep 987654'
}

@test "--wait: it comes back while we wait; and what does not is told at the deadline" {
    databases_kill redis
    (
        sleep 1.5
        redis_start
    ) 3>&- &
    local mended=$!
    run -0 --separate-stderr check --only cache --wait 20s --format json
    wait "$mended" # and for it alone: bats has a child of its own, which watches the time
    [ "$(jq -r .status <<<"$output")" = healthy ]
    [[ $stderr == *"degraded, waiting for: cache redis"* ]]
    databases_kill redis
    local began=$SECONDS
    run -1 check --only cache --wait 2s
    ((SECONDS - began >= 2 && SECONDS - began <= 6))
}

@test "servers: one of two down is a warning, none up is down" {
    stack stop stable1
    sleep 0.5
    run -1 check --format json --only servers,targets
    found servers warn '1 of 2 are up: be_stable/stable1 DOWN'
    found servers ok 'none of 1 is up; it has no traffic'
    stack stop stable2
    for _ in {1..50}; do
        ! curl -fsS -o /dev/null "http://127.0.0.1:$DEMO_WEB_PORT/items" 2>/dev/null || { sleep 0.1 && continue; }
        break
    done
    run -2 check --format json --only servers,http
    found servers fail 'none of 2 is up'
    found http fail 'answers 503, expected is 200'
}

@test "targets: who is not scraped is named, except for the slot that has no traffic" {
    run -0 check --format json --only targets
    found targets ok '2 of 2 are up, the newest sample is [0-3] s old; 1 of the slot without traffic are down'
    stack stop stable1
    for _ in {1..50}; do
        run check --format json --only targets
        [[ $status != 1 ]] || break
        sleep 0.2
    done
    found targets warn "1 of 2 are up: 127.0.0.1:$DEMO_STABLE1_PORT: .*refused"
}

@test "alerts: a critical one fails, another one warns, and a watchdog that is silent warns" {
    local now
    alert ShopErrors warning
    run -1 check --format json --only alerts
    found alerts warn '^ShopErrors$'
    alert NoBackend critical
    run -1 check --format json --only alerts
    found alerts fail '^critical: NoBackend; others: ShopErrors$'
    TZ=UTC printf -v now '%(%Y-%m-%dT%H:%M:%SZ)T' $((EPOCHSECONDS - 1))
    alert ShopErrors warning "$now"
    alert NoBackend critical "$now"
    run -0 check --format json --only alerts
    here_settings HEALTH_WATCHDOG=OtherDog
    run -1 check --format json --only alerts
    found alerts warn 'OtherDog does not fire'
}

@test "a share without a rollout is told; so is a guard that is dead and a record that cannot be read" {
    stack canary
    for _ in {1..50}; do
        ! haldane traffic set 5% "$KEPT/policies/canary.yaml" >/dev/null 2>&1 || break
        sleep 0.1
    done
    run check --format json --only haldane,balancer
    haldane traffic stable "$KEPT/policies/canary.yaml"
    stack stop canary1
    [ "$status" -eq 1 ]
    found haldane warn 'canary gets 5.00 %, and no rollout is under way'
    here_settings GUARD_COMMAND=false
    run -1 check --format json --only haldane
    found haldane fail 'not alive, says GUARD_COMMAND'
    echo 'no store' >"$BATS_TEST_TMPDIR/broken.db"
    HALDANE_DB=$BATS_TEST_TMPDIR/broken.db run -1 check --format json --only haldane
    found haldane fail 'haldane status ends with 7[04]'
}

@test "certificates: near their end, at their end, and another one served than the file's" {
    certificate "$BATS_TEST_TMPDIR/short.pem" 15
    here_settings "CERTIFICATE_FILE=$BATS_TEST_TMPDIR/short.pem"
    run -1 check --format json --only certificate
    found certificate warn 'it ends in 1[45] days'
    found certificate warn '[89][0-9] days left, but it is not the one in '
    here_settings CERTIFICATE_WARN_DAYS=200 CERTIFICATE_FAIL_DAYS=100
    run -1 check --format json --only certificate
    [ "$(jq '.counts.fail' <<<"$output")" -eq 2 ]
    found certificate fail 'it ends in [89][0-9] days$'
    here_settings SHOP_TLS_URL=https://127.0.0.1:1
    run -1 check --format json --only certificate
    found certificate fail 'no certificate is served'
}

@test "disk and memory: by their thresholds" {
    here_settings HEALTH_DISK_WARN=100 "HEALTH_DISK_PATHS=/ /no/such/path" HEALTH_MEMORY_WARN=100
    run -1 check --format json --only disk,memory
    [ "$(jq '.counts.warn' <<<"$output")" -eq 2 ]
    found disk warn 'only [0-9]+ % free'
    here_settings HEALTH_DISK_FAIL=100 HEALTH_DISK_PATHS=/ HEALTH_MEMORY_FAIL=100
    run -1 check --format json --only disk,memory
    [ "$(jq '.counts.fail' <<<"$output")" -eq 2 ]
}

@test "a clock that is wrong is found" {
    command -v faketime >/dev/null
    run -1 faketime -f +90s "$HALDANE_SOURCE/deployment/health-check.sh" --only clock --format json
    found clock fail 'its clock is -(8[0-9]|90)[0-9]{3} ms off this machine'
}

@test "checks of the user's own: by their exit codes, and they see no terminal" {
    local code
    mkdir "$BATS_TEST_TMPDIR/plugins"
    for code in 0 1 2 3 9; do
        printf '#!/bin/sh\necho "code %s | time=3s"\nread -r x || exit %s\n' "$code" \
            "$code" >"$BATS_TEST_TMPDIR/plugins/p$code"
        chmod +x "$BATS_TEST_TMPDIR/plugins/p$code"
    done
    echo 'not a program' >"$BATS_TEST_TMPDIR/plugins/README"
    here_settings "HEALTH_PLUGINS_DIR=$BATS_TEST_TMPDIR/plugins"
    run -1 check --format json --only plugins
    [ "$(jq -r '[.checks[] | .status + ":" + .message] | join(",")' <<<"$output")" = \
        "ok:code 0 ,warn:code 1 ,fail:code 2 ,unknown:code 3 ,unknown:ended with 9: code 9 " ]
    here_settings "HEALTH_PLUGINS_DIR=$BATS_TEST_TMPDIR/plugins" HEALTH_CRITICAL=plugins
    run -2 check --only plugins
}

@test "a dry run asks nobody; wrong usage is 64, a wrong setting 65" {
    settings SHOP_URL=http://127.0.0.1:1 "OPS_URL=http://127.0.0.1:1"
    run -0 check --dry-run
    [[ $output == *"http://127.0.0.1:1/items: GET, expects 200 within 1s"* ]]
    run -0 check --dry-run --format json --skip http
    jq -e '.schema == "haldane.health-plan/1" and (.checks | length > 3) and all(.checks[]; .name != "http")' <<<"$output"
    run -64 check --only nonsense
    [[ $output == *"there is no check 'nonsense'; there are http readiness"* ]]
    run -64 check --wait soon
    run -64 check --accept down
    run -64 check --format xml
    run -64 check extra
    settings HEALTH_DISK_WARN=15%
    run -65 check
    [[ $output == *"HEALTH_DISK_WARN is '15%'; write a whole number"* ]]
    settings 'HEALTH_ENDPOINTS=http://x/ 20'
    run -65 check
    run -0 check --help
    [[ $output == usage:* ]]
}

@test "interrupted: it ends at once, and what it had started ends too" {
    mkdir "$BATS_TEST_TMPDIR/plugins"
    printf '#!/bin/sh\nexec sleep 876543\n' >"$BATS_TEST_TMPDIR/plugins/slow"
    chmod +x "$BATS_TEST_TMPDIR/plugins/slow"
    here_settings "HEALTH_PLUGINS_DIR=$BATS_TEST_TMPDIR/plugins"
    start_bg check "$HALDANE_SOURCE/deployment/health-check.sh" --only plugins
    for _ in {1..50}; do
        ! pgrep -f 'sleep 876543' >/dev/null || break
        sleep 0.1
    done
    stop_bg check || [ "$?" -eq 143 ]
    for _ in {1..20}; do
        pgrep -f 'sleep 876543' >/dev/null || break
        sleep 0.1
    done
    run -1 pgrep -f 'sleep 876543'
}
