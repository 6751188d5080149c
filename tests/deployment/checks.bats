#!/usr/bin/env bats
#
# health-check.sh, smoke-test.sh, warm-cache.sh and backup.sh on a real stack, with nothing set but its name and ports.
# shellcheck disable=SC2154 # variables of stack.bash

load stack

setup_file() {
    stack_begin haldane-test-checks 23000 HEALTH_CHECK_TIMEOUT=12s HEALTH_DISK_WARN=2 HEALTH_DISK_FAIL=1 \
        WARM_TOLERANCE=60% WARM_FLOOR=50ms
    export HALDANE_DEPLOYMENT_CONF=$stack_conf
    stack build
    stack up
}

teardown_file() {
    stack_end
}

setup() {
    folder=$BATS_FILE_TMPDIR/backups
}

teardown() {
    tail -n 20 <<<"${output:-}"
    [[ -n ${broken:-} ]] || return 0
    signal_all postgres CONT
    docker start "$(container_of "$broken")" >/dev/null
    check --wait 60s --accept degraded >/dev/null
}

check() {
    "$HALDANE_SOURCE/deployment/health-check.sh" "$@"
}

backup() {
    "$HALDANE_SOURCE/deployment/backup.sh" "$@"
}

# signal_all SERVICE SIGNAL: every process of the container, from outside.
signal_all() {
    local pid
    for pid in $(docker top "$(container_of "$1")" -eo pid | tail -n +2); do
        kill "-$2" "$pid" 2>/dev/null || true
    done
}

# found NAME TARGET STATUS PATTERN: the output, in JSON, has such a finding.
found() {
    jq -es --arg name "$1" --arg target "$2" --arg status "$3" --arg pattern "$4" \
        '.[0] | any(.checks[]; .name == $name and .target == $target and .status == $status and (.message | test($pattern)))' \
        <<<"$output" >/dev/null || {
        echo "no $* in:"
        jq -r '.checks[] | "\(.status) \(.name) \(.target) \(.message)"' <<<"$output"
        return 1
    }
}

sql() {
    inside postgres psql -XAtq -U postgres -d shop -c "$1"
}

@test "a stack that has come up is healthy, and every check had something to look at" {
    run -0 --separate-stderr check --wait 90s --format json
    [ "$(jq -r '[.checks[].name] | unique | join(" ")' <<<"$output")" = \
        "alerts balancer cache certificate clock containers database disk haldane http memory prometheus readiness servers targets" ]
    found readiness shop-stable-2 ok '^ready, version 1.0.0$'
    found containers migrate ok '^done$'
    found haldane guard ok '^alive$'
    found balancer workers ok '^none is left over$'
    echo "health-check.sh took $(jq .seconds <<<"$output") s for $(jq '.checks | length' <<<"$output") findings" >&3
}

@test "the version that runs passes its smoke test through the balancer, another one would not" {
    run -0 "$HALDANE_SOURCE/deployment/smoke-test.sh" --header 'X-Canary: never' --expect-version 1.0.0
    run -0 "$HALDANE_SOURCE/deployment/smoke-test.sh" --url "http://127.0.0.1:23080"
    # No canary runs, so HAProxy has stable answer.
    run -1 "$HALDANE_SOURCE/deployment/smoke-test.sh" --header 'X-Canary: always' --expect-version 2.0.0 --rounds 1
    [[ $output == *"answered by version 1.0.0 instead of 2.0.0"* ]]
}

@test "the cache is warmed, and Prometheus knows what came from it" {
    run -0 "$HALDANE_SOURCE/deployment/warm-cache.sh" --format json --header 'X-Canary: never'
    jq -e '.status == "warm" and .hit_ratio > 0.3' <<<"$output"
}

@test "a backup, proven in a container of its own that is gone afterwards" {
    run -0 backup create
    run -0 backup verify --max-age 1h --format json
    jq -e '.status == "good" and .rows["public.items"] == 1000' <<<"$output"
    [ -z "$(docker ps --all --quiet --filter label=haldane.project=haldane-test-checks)" ]
}

@test "a backup that is corrupt, or cut short, is not good" {
    local name
    name=$(backup create --format json | jq -r .name)
    truncate -s -1000 "$folder/$name.dump"
    jq --arg sum "$(sha256sum <"$folder/$name.dump" | cut -d ' ' -f 1)" --argjson size \
        "$(stat -c %s "$folder/$name.dump")" \
        '.sha256 = $sum | .size = $size' "$folder/$name.json" >"$BATS_TEST_TMPDIR/x"
    cp "$BATS_TEST_TMPDIR/x" "$folder/$name.json"
    run -1 backup verify "$name"
    [[ $output == *"NOT good: it cannot be restored: "* ]]
    rm -f "$folder/$name".*
}

@test "restore --replace under the shop's feet: the backup is back, the shop goes on with it" {
    local name
    name=$(backup create --format json | jq -r .name)
    sql 'delete from items where id > 500 and not exists (select from orders where item = items.id)'
    run -0 backup restore "$name" --yes --replace
    [ "$(sql 'select count(*) from items')" -eq 1000 ]
    run -0 check --only database,readiness,http --wait 30s
    run -0 "$HALDANE_SOURCE/deployment/smoke-test.sh" --rounds 1
}

@test "the cache is stopped: degraded, by three checks; started again, it is healthy" {
    broken=redis
    docker stop "$(container_of redis)" >/dev/null
    run -1 check --format json --only containers,cache,http
    found containers redis fail '^exited, exit code'
    found cache redis fail 'does not answer'
    within 20 degraded
    docker start "$(container_of redis)" >/dev/null
    run -0 check --only containers,cache,readiness,http --wait 60s
}

degraded() {
    local output
    output=$(check --format json --only readiness) || true
    found readiness shop-stable-1 warn 'degraded, version 1.0.0: cache since .* is down'
}

@test "a database that hangs: down, within the limit, and nothing of the check is left in the container" {
    local began=$SECONDS
    broken=postgres
    signal_all postgres STOP
    run -2 check --format json --only database
    ((SECONDS - began <= 18))
    found database postgres fail 'does not answer|no answer'
    signal_all postgres CONT
    sleep 3
    run -0 docker top "$(container_of postgres)" -eo pid,comm
    [[ $output == *postgres* && $output != *psql* && $output != *pg_isready* ]]
}

@test "a shop that crashes again and again is told so, and the other one carries on" {
    local pid
    broken=shop-stable-2
    for _ in 1 2 3; do
        within 30 alive shop-stable-2
        pid=$(docker inspect --format '{{.State.Pid}}' "$(container_of shop-stable-2)")
        kill -KILL "$pid"
        sleep 1
    done
    within 30 alive shop-stable-2
    run -1 check --format json --only containers,http
    found containers shop-stable-2 fail 'crashes again and again: [3-9] restarts'
    # Started by hand, it begins to count anew.
    docker stop "$(container_of shop-stable-2)" >/dev/null
    docker start "$(container_of shop-stable-2)" >/dev/null
}

alive() {
    [[ $(docker inspect --format '{{.State.Running}}' "$(container_of "$1")") == true ]]
}

@test "no guard: degraded, and it says who is missing" {
    broken=haldane
    docker stop "$(container_of haldane)" >/dev/null
    run -1 check --format json --only haldane
    found haldane guard fail 'its container is exited'
}
