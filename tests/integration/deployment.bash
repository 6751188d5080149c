# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # variables of stack.bash and of the test file
#
# The deployment scripts against the demo's stack: a policy, settings in a file, in which every command is one of ours
# here, and what must hold of the users and the records. A test file loads this after `stack`. The stack has two stable
# shops, a canary and HAProxy by map or by weights.

# deployment_begin: for setup. Each test has its own folder, service, store and records.
deployment_begin() {
    cd "$BATS_TEST_TMPDIR" || return 1
    export SERVICE=shop-$BATS_TEST_NUMBER HALDANE_DB=$BATS_TEST_TMPDIR/haldane.db
    records=$BATS_TEST_TMPDIR/records
    stack_mend
}

# deployment_end: for teardown. What the scripts said is shown if the test failed.
deployment_end() {
    stack stop load
    stack_end canary1
    tail -n 60 "$records"/*/*.log 2>/dev/null || true
}

# A stopped or replaced part of the stack is started again.
stack_mend() {
    if stack status | grep -Eq '^(haproxy|prometheus|stable1|stable2) -' || [[ -n ${stack_replaced:-} ]]; then
        stack stop
        stack start
    fi
}

# policy_write TRAFFIC [SERVICE]: policy.yaml, with short looks and wide margins, so that a verdict takes seconds.
policy_write() {
    cat >"$BATS_TEST_TMPDIR/policy.yaml" <<END
version: 1
service: ${2:-$SERVICE}
prometheus: {url: "http://127.0.0.1:$DEMO_PROMETHEUS_PORT"}
tracks:
  stable: 'track="stable"'
  canary: 'track="canary"'
look: 2s
settle: 2s
warmup: 2s
traffic:
  driver: haproxy
  socket: $DEMO_RUN/haproxy.sock
$1
  unattended: 15s
steps:
  - {weight: 25%, min: 6s, max: 90s}
  - {weight: 100%, bake: 4s}
deadline: 5m
metrics:
  - name: errors
    type: errors
    total: 'http_requests_total{job="shop",\$track}'
    failed: 'http_requests_total{job="shop",code=~"5..",\$track}'
    abort_above: {ratio: 1.1}
    promote_below: {ratio: 2, absolute: 10%}
    critical: true
END
}

by_map="  map: @RUN@/share.map
  stable: [be_stable/stable1, be_stable/stable2]
  canary: [be_canary/canary1]"
by_weights="  backend: shop
  stable: [stable1, stable2]
  canary: [canary1]"

# settings_write [LINE]...: $settings_file, with these lines instead of its own for the same names.
settings_write() {
    local source=$stack_source line
    settings_file=$BATS_TEST_TMPDIR/deployment.conf
    cat >"$settings_file" <<END
PROJECT=demo
COMPOSE_FILES=
STRATEGY=canary
STATE_DIR=$BATS_TEST_TMPDIR/state
RECORDS_DIR=$records
BACKUP_DIR=$BATS_TEST_TMPDIR/backups
POLICIES=$BATS_TEST_TMPDIR
CANARY_POLICY=policy.yaml
HALDANE_POLICIES=
HALDANE_COMMAND=haldane
SERVICE=$SERVICE
SHOP_URL=http://127.0.0.1:$DEMO_WEB_PORT
OPS_URL=http://127.0.0.1:$DEMO_OPS_PORT
PROMETHEUS_URL=http://127.0.0.1:$DEMO_PROMETHEUS_PORT
HEALTH_CHECK_COMMAND=curl -fsS --noproxy '*' -o /dev/null "\$SHOP_URL/readyz"
BACKUP_CHECK_COMMAND=
IMAGE_CHECK_COMMAND=
DEPLOY_COMMAND=$source/tests/integration/demo_deploy.sh deploy "\$SLOT" "\$VERSION"
STOP_COMMAND=$source/tests/integration/demo_deploy.sh stop "\$SLOT"
SMOKE_COMMAND=curl -fsS --noproxy '*' -o /dev/null -D - -H "\$HEADER" "\$SHOP_URL/" | grep -i "^x-version: \$VERSION"
WARM_COMMAND=
CANARY_HEALTH=http://127.0.0.1:$DEMO_CANARY1_PORT/readyz
CANARY_POLL=1
HEALTH_TIMEOUT=10s
DRAIN_TIMEOUT=5s
CAPACITY_QUERY=sum(rate(http_requests_total{job="shop"}[10s]))
CAPACITY_PER_INSTANCE=100000
CAPACITY_INSTANCES=1
PREFLIGHT_DISK_FREE=1
PREFLIGHT_MEMORY_FREE=1
SHARE_MAP=$DEMO_RUN/share.map
BALANCER_STABLE=be_stable/stable1 be_stable/stable2
BALANCER_CANARY=be_canary/canary1
BALANCER_COMMAND=socat - UNIX-CONNECT:$DEMO_RUN/haproxy.sock
BALANCER_SHELL=
BALANCER_RELOAD_COMMAND=$source/tests/integration/demo_deploy.sh reload
PROOF_REQUESTS=100
PROOF_HEADER=X-Version
PROOF_VALUE=v1
END
    for line in "$@"; do
        grep -v "^${line%%=*}=" "$settings_file" >"$settings_file.new"
        printf '%s\n' "$line" >>"$settings_file.new"
        mv "$settings_file.new" "$settings_file"
    done
}

# record_of STRATEGY: the newest record.
record_of() {
    find "$records" -mindepth 1 -maxdepth 1 -type d -exec test -e {}/"$1.log" \; -print | sort | tail -n 1
}

# said TEXT: in a log of the records.
said() {
    grep -qr --include='*.log' -e "$1" "$records"
}

# wait_said TEXT
wait_said() {
    local try
    for ((try = 0; try < 600; try++)); do
        said "$1" 2>/dev/null && return 0
        sleep 0.1
    done
    echo "never said: $1"
    return 1
}

# Customers: each request got an answer, and none failed that the shops did not fail.
nothing_lost() {
    stack stop load
    jq -e '.sent > 0 and .answered == .sent' "$DEMO_RUN/load.json"
}

canary_runs() {
    stack status | grep -q '^canary1 [0-9]'
}
