#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2076,SC2154,SC2317 # jq is quoted so; tests are processes; $output is of run
#
# What can go wrong around a canary: with its share and who moves it, with the database, the cache and the disks, with
# images and containers. The failures of the runbooks 12 to 22, each caused on purpose in a production stack under load.
# What the page promises is seen, and its commands are given.

load failures

# Two disks of the stack are small, so that they can be filled without harm to anybody: that of haldane's store and the
# backups, and the database's.
disks=$lab_build/deployment/failures-disks
quarter=$policies/quarter.yaml

setup_file() {
    small_disk store 24m 10007
    small_disk data 320m 10002
    cat >"$disks.yml" <<YAML
volumes:
  haldane-store:
    driver_opts: {type: none, o: bind, device: "$disks/store"}
  postgres-data:
    driver_opts: {type: none, o: bind, device: "$disks/data"}
YAML
    failures_begin failures-stack HEALTH_ACT_AFTER=5 HEALTH_TIMEOUT=30s WARM_COMMAND= HEALTH_DISK_PATHS="$disks/store" \
        COMPOSE_FILES="compose/docker-compose.prod.yml $disks.yml"
    sed -i "s|^BACKUP_DIR=.*|BACKUP_DIR=$disks/store/backups|" "$config"
    bad_images
    failures_open
    load_begin all 100 --path / --path /items --path /items/7 --path /items/42 3>&-
    printf '%s\n' "$load_pid" >"$lab/all.pid"
}

teardown_file() {
    local name
    kill -TERM "$(cat "$failures_lab/all.pid")" || true
    failures_end
    for name in store data; do umount "$disks/$name"; done
    rm -rf -- "$disks" "$disks.yml"
}

# small_disk NAME SIZE UID
small_disk() {
    mkdir -p -- "$disks/$1"
    ! mountpoint -q "$disks/$1" || umount "$disks/$1"
    mount -t tmpfs -o "size=$2,uid=$3,gid=$3,mode=0700" tmpfs "$disks/$1"
}

# What no pipeline should let through: a migration that fails, an image that does not start, and one with another version
# in it than on it.
bad_images() {
    {
        docker build --tag haldane-stack/shop:broken-migration - <<'DOCKERFILE'
FROM haldane-stack/shop:2.0.0
USER root
RUN printf 'ALTER TABLE items ADD COLUMN colour text;\nSELECT 1 / 0;\n' >/usr/share/shop/migrations/0003_colour.sql
USER shop
DOCKERFILE
        docker build --tag haldane-stack/shop:no-start - <<'DOCKERFILE'
FROM haldane-stack/shop:2.0.0
ENTRYPOINT ["sh", "-c", "echo 'shop: no such library' >&2; exit 127"]
DOCKERFILE
        docker tag haldane-stack/shop:1.0.0 haldane-stack/shop:mislabelled
    } >>"$lab/stack.log" 2>&1
}

setup() {
    failures_open
    slow_pid='' rollout_pid=''
}

teardown() {
    [[ -n ${BATS_TEST_COMPLETED:-} ]] || stack haldane status shop || true
    [[ -z $slow_pid ]] || kill -KILL "$slow_pid" 2>/dev/null || true
    rm -f -- "$disks"/*/ballast
    failures_heal
}

# ---- what is asked ----

version_in() {
    stack versions --format json | jq -r --arg slot "$1" '.[$slot] // ""'
}

restarts_of() {
    docker inspect --format '{{.RestartCount}}' "$(container "$1")"
}

# sql STATEMENT: its answer, by the way that the pages name.
sql() {
    stack shell postgres "psql -XAtq -d shop -c \"$1\""
}

page_is() {
    [[ $(curl -s -o /dev/null --max-time 10 -w '%{http_code}' "$web$2") == "$1" ]]
}

order_is() {
    [[ $(curl -s -o /dev/null --max-time 10 -w '%{http_code}' -X POST -d '{"item":7}' "$web/order") == "$1" ]]
}

# attended [POLICY]: a rollout at 25 % with a process that looks after it; attended_ends sees how that ends.
attended() {
    canary_ready 2.0.0
    stack haldane rollout "$policies/${1:-quarter}.yaml" >"$lab/rollout.log" 2>&1 </dev/null 3>&- &
    rollout_pid=$!
    within 20 share_is 2500 || {
        cat "$lab/rollout.log"
        return 1
    }
}

# lease_ends: HAProxy ends the share of brief.yaml by itself, in the time that the policy names.
lease_ends() {
    within $(($(lease) + 2)) share_is 0
}

lease() {
    sed -n 's/^ *unattended: \([0-9]*\)s.*/\1/p' "$lab/policies/brief.yaml"
}

gone() {
    ! kill -0 "$1" 2>/dev/null
}

# attended_ends CODE [SECONDS]
attended_ends() {
    local code=0
    within "${2:-30}" gone "$rollout_pid" || {
        echo "the rollout has not ended"
        tail -n 5 "$lab/rollout.log"
        return 1
    }
    wait "$rollout_pid" || code=$?
    ((code == $1)) || {
        echo "the rollout ended with $code, not $1"
        tail -n 5 "$lab/rollout.log"
        return 1
    }
}

abort_it() {
    haldane_says 0 abort shop --reason 'the test is over'
    share_is 0
    attended_ends 20
}

# ---------------------------------------------------------------------------------------------------------------------

@test "12, the share does not take effect: the verdict tells it, nothing is moved; another share is set right" {
    attended
    # Requests that ask for stable by name get it, whatever the share is.
    load_begin pinned 200 --path / --header 'X-Canary: never'
    within 60 verdict_is low
    load_end
    share_is 2500
    status_is '.state == "stepping"'
    haldane_says 0 report shop
    [[ $output =~ "not the 25 % that it was given" ]]
    haldane_says 0 traffic get "$quarter"
    [[ $output =~ ^canary\ 25\ % ]]
    haldane_says 0 traffic check "$quarter"
    check_says servers '.status == "ok" and .target == "canary"'
    check_says balancer '.status == "ok" and (.message | test("the canary gets 25.00 %"))'

    haldane_says 0 traffic set 10% "$quarter"
    within 15 share_is 2500
    within 10 told_of drift
    abort_it
}

verdict_is() {
    stack haldane report shop --format json |
        jq -en --arg status "$1" 'input | [.. | objects | select(has("traffic")) | .traffic.status?] | index($status)' >/dev/null
}

told_of() {
    stack haldane report shop --format json | jq -en --arg event "$1" 'input | any(.audit[]; .event == $event)' >/dev/null
}

@test "13, two controllers: the second is refused, and one that has lost the split leaves it alone" {
    attended brief
    haldane_says 75 begin "$quarter"
    [[ $stderr =~ "already has the rollout" ]]
    haldane_says 75 begin "$quarter" --db /tmp/another.db
    [[ $stderr =~ "the canary has 25 %"|"already" ]]
    script 75 canary.sh --version 2.0.0 --yes --skip-check health --skip-check backup
    [[ $stderr =~ "pre-flight: rollouts: failed: shop-" ]]
    share_is 2500

    # What another haldane with another store does first: it takes the split, by an epoch of its own.
    local epoch
    epoch=$(curl -fsS "$ops/haldane/share" | sed -n 's/.* epoch=\([0-9]*\).*/\1/p')
    stack balancer <<<"set map /etc/haproxy/maps/share.map epoch $((epoch + 1))"
    attended_ends 20
    status_is '.state == "superseded"'
    # Nobody renews the lease: HAProxy ends it.
    lease_ends
    haldane_says 0 traffic stable "$quarter"
    [[ $output =~ ^canary\ 0\ % ]]
}

@test "14, the controller is lost, and the guard with it: the lease ends, and the script can be taken up" {
    local killed
    canary_ready 2.0.0
    load_begin lost 100 --path / --post-path /cart
    canary_begin --version 2.0.0 --policy "$lab/policies/brief.yaml"
    within 150 share_is 2500 || {
        cat "$lab/canary.log"
        return 1
    }
    kill -KILL -- "-$canary_pid" "$(service_pid haldane)"
    wait "$canary_pid" || true
    canary_pid=''
    killed=$EPOCHSECONDS
    lease_ends
    echo "# all traffic on stable $((EPOCHSECONDS - killed)) s after the kill" >&3
    within 40 state_is haldane healthy
    within 20 status_is '.state == "expired" and (.reason | test("the lease has run out"))'
    script 75 canary.sh --version 2.0.0 --dry-run --skip-check health --skip-check backup
    [[ $stderr =~ "unfinished: failed" ]]
    script 20 canary.sh --resume --yes
    [[ $stderr =~ "all traffic is on stable" ]]
    state_is shop-canary-1 exited
    script 66 canary.sh --resume --yes
    load_end
    nothing_lost lost
}

@test "15, a migration fails: nothing is changed; and a backup brings back what another one has lost" {
    local backup
    run --separate-stderr stack deploy canary broken-migration
    [[ $status == 1 && $stderr =~ "the migrations of version broken-migration failed (exit code 65); no server was changed" ]]
    [[ $(sql "select count(*) from schema_migrations where version = '0003'") == 0 ]]
    [[ $(sql "select count(*) from information_schema.columns where table_name = 'items' and column_name = 'colour'") == 0 ]]
    [[ $(version_in canary) != broken-migration ]]
    share_is 0
    order_is 201
    run -0 --separate-stderr stack migrate broken-migration --dry-run
    [[ $output =~ "would apply 0003_colour.sql" ]]

    script 0 backup.sh create --format json
    backup=$(jq -r .name <<<"$output")
    script 0 backup.sh verify "$backup"
    [[ $output =~ "is good" ]]
    sql 'delete from items where id > 10 and id not in (select item from orders where item is not null)'
    script 75 backup.sh restore "$backup" --yes
    script 0 backup.sh restore "$backup" --replace --yes
    [[ $(sql 'select count(*) from items') == 1000 ]]
    within 20 order_is 201
    [[ $(sql "select count(*) from pg_database where datname like 'shop_before_%'") == 1 ]]
}

@test "16, the database is down: what needs it is refused, the rest is served, and the rollout goes back to stable" {
    attended
    docker stop "$(container postgres)"
    within 10 order_is 503
    run -0 curl -s -D - -o /dev/null -X POST -d '{"item":7}' "$web/order"
    [[ ${output,,} =~ "retry-after: 1" ]]
    page_is 200 /
    page_is 200 /readyz
    check_says database '.status == "fail"'
    [[ $status == 2 ]]
    check_says readiness '.status == "warn" and (.message | test("degraded.*database since"))'
    within 20 alert_sees DatabaseDown
    attended_ends 20 60
    share_is 0
    status_is '.reason | test("guardrail")'
    stack up
    within 20 order_is 201
    within 10 check_says readiness 'all(.checks[]?; .status == "ok") and .status == "ok"'
}

@test "16, all connections to the database are taken: it is told, and who has them" {
    docker run --detach --rm --name haldane-hoarder --network "$(setting PROJECT)_data" \
        --volume "$lab/secrets/db_password:/password:ro" --entrypoint sh haldane-stack/shop:1.0.0 -c '
        PGPASSWORD=$(cat /password) && export PGPASSWORD
        for i in $(seq 72); do psql -qAt "host=postgres user=shop dbname=shop application_name=hoarder" -c "select pg_sleep(300)" & done
        wait'
    within 40 check_says database '.status == "warn" and (.message | test("connections are taken"))'
    [[ $status == 1 ]]
    run -0 sql "select application_name, state, count(*) from pg_stat_activity where backend_type = 'client backend' group by 1, 2 order by 3 desc"
    [[ $output =~ ^hoarder\|active\|72 ]]
    sql "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'hoarder'"
    within 20 check_says database '.status == "ok"'
    docker rm --force haldane-hoarder 2>/dev/null || true
    order_is 201
}

@test "17, the cache is lost: slower and not broken, and the rollout goes on" {
    attended
    load_begin cache 100 --path /items --path /items/7
    docker stop "$(container redis)"
    within 15 check_says cache '.status == "fail"'
    [[ $status == 1 ]]
    run -0 curl -s -X POST -d '{"item":7}' "$web/cart"
    [[ $output =~ '"kept":false' ]]
    page_is 200 /items/7
    within 20 alert_sees CacheDown
    haldane_says 0 hold shop --reason 'the cache is lost'
    status_is '.state == "held" and .weight == 2500'
    stack up
    within 20 check_says cache '.status == "ok"'
    script 0 warm-cache.sh
    haldane_says 0 resume shop --reason 'the cache is warm'
    run -0 stack shell redis 'cache info stats'
    [[ $output =~ keyspace_hits:[1-9] ]]
    load_end
    nothing_lost cache
    status_is '.state == "stepping" and .weight == 2500'
    abort_it
}

@test "18, the disk is full: nothing begins, the rollout goes back to stable, orders are refused and none is lost" {
    local orders
    attended
    cat /dev/zero >"$disks/store/ballast" || true
    check_says disk '.status == "fail" and (.message | test("only 0 % free"))'
    [[ $status == 1 ]]
    attended_ends 74 40
    share_is 0
    script 75 canary.sh --version 2.0.0 --dry-run --skip-check health --skip-check backup
    [[ $stderr =~ "pre-flight: disk: failed: " ]]
    script 74 backup.sh create
    haldane_says 0 traffic get "$quarter"
    [[ $output =~ ^canary\ 0\ % ]]
    haldane_says 0 traffic stable "$quarter"

    orders=$(sql 'select count(*) from orders')
    cat /dev/zero >"$disks/data/ballast" || true
    within 40 order_is 503
    page_is 200 /items/7
    [[ $(stack logs postgres --tail 50 2>&1) =~ "No space left on device" ]]
    rm -- "$disks/data/ballast"
    within 60 order_is 201
    (($(sql 'select count(*) from orders') > orders))

    rm -- "$disks/store/ballast"
    run stack haldane abort shop --reason 'the disk was full'
    [[ $status == 0 || $status == 66 ]]
    idle
    script 0 backup.sh create
}

@test "19, no image, one that does not start, one with another version in it: none gets traffic" {
    run --separate-stderr stack deploy canary 9.9.9
    [[ $status == 1 && $stderr =~ "there is no image haldane-stack/shop:9.9.9" ]]
    script 75 canary.sh --version 9.9.9 --dry-run --skip-check health --skip-check backup
    [[ $stderr =~ "pre-flight: image: failed" ]]

    load_begin broken 100 --path / --post-path /cart
    run --separate-stderr stack deploy canary no-start
    [[ $status == 1 && $stderr =~ "not healthy in time" && $stderr =~ "no such library" ]]
    [[ $(version_in canary) != no-start ]]
    share_is 0
    stack stop canary
    load_end
    nothing_lost broken

    stack deploy canary mislabelled
    script 1 smoke-test.sh --header 'X-Canary: always' --expect-version mislabelled --rounds 1
    [[ $output =~ 1\.0\.0 ]]
    run -0 docker image inspect --format '{{index .Config.Labels "org.opencontainers.image.version"}}' haldane-stack/shop:mislabelled
    [[ $output == 1.0.0 ]]
    stack deploy canary 2.0.0
    script 0 smoke-test.sh --header 'X-Canary: always' --expect-version 2.0.0 --rounds 1
}

@test "20, a rollback cannot be proven: it is told, HAProxy's lease ends the share, and rollback.sh finds a way" {
    attended brief
    stack shell haproxy 'rm /run/haproxy/admin.sock /run/haproxy/master.sock'
    haldane_says 69 abort shop --reason 'a test'
    status_is '.state == "rolling_back"'
    haldane_says 10 status shop
    [[ $output =~ "NOT PROVEN to be on stable" ]]
    script 0 rollback.sh --now
    [[ $stderr =~ "proven: all traffic is on stable" ]]
    [[ $(tracks 20) == stable ]]
    lease_ends

    # Only a restart makes the sockets again.
    docker restart --time 70 "$(container haproxy)"
    within 30 state_is haproxy healthy
    within 30 status_is '.state == "aborted" or .state == "expired"'
    haldane_says 0 traffic get "$quarter"
    [[ $output =~ ^canary\ 0\ % ]]
    attended_ends 20
}

@test "21, a long request keeps its server: drain waits and says so, and it can be cut" {
    attended
    slow_request always
    within 10 sessions_of canary
    abort_it
    haldane_says 69 traffic drain canary "$quarter" --timeout 3s
    [[ $stderr =~ "in flight" ]]
    kill -0 "$slow_pid"
    [[ $(stack balancer <<<'show sess') =~ be_canary ]]
    printf 'shutdown sessions server be_canary/canary%d\n' 1 2 | stack balancer
    haldane_says 0 traffic drain canary "$quarter" --timeout 10s
    [[ $output =~ "nothing in flight" ]]
    within 5 gone "$slow_pid"

    # The same with a process of HAProxy that a reload has replaced.
    slow_request never
    within 10 sessions_of stable
    stack reload haproxy
    within 10 check_says balancer '.status == "warn" and (.message | test("old workers still serve"))'
    [[ $status == 1 ]]
    run -0 stack shell haproxy 'echo show proc | socat - UNIX-CONNECT:/run/haproxy/master.sock'
    [[ -n $(awk '/^# old workers/ { old = 1 } !/^#/ && old && $2 == "worker"' <<<"$output") ]]
    kill -KILL "$slow_pid"
    within 20 check_says balancer '.status == "ok" and .target == "workers"'
}

# slow_request always|never: a POST whose body comes at a byte a second, for a minute. Its process is $slow_pid.
slow_request() {
    bash -c 'exec 5<>"/dev/tcp/127.0.0.1/$1"
        printf "POST /cart HTTP/1.1\r\nHost: shop\r\nX-Canary: %s\r\nContent-Length: 60\r\nConnection: close\r\n\r\n" "$2" >&5
        for i in {1..60}; do printf x >&5 || exit 1; sleep 1; done; cat <&5' slow "${web##*:}" "$1" >/dev/null 2>&1 3>&- &
    slow_pid=$!
}

# Seen three times, because the short ones of the load come and go.
sessions_of() {
    for _ in 1 2 3; do
        curl -fsS "$ops/metrics?scope=server" |
            grep -E "^haproxy_server_current_sessions\{proxy=\"be_$1\",server=\"$1[12]\"\} [1-9]" || return 1
        sleep 0.2
    done
}

@test "22, a server hangs: it is out of the balancer at once, its health check kills it, and it comes back" {
    local before stopped
    before=$(restarts_of shop-stable-2)
    load_begin hung 100 --post-share 0% --timeout 60s --path /
    send STOP shop-stable-2
    stopped=$EPOCHSECONDS
    within 10 servers_are be_stable/stable2 DOWN
    echo "# out of the balancer after $((EPOCHSECONDS - stopped)) s" >&3
    within 30 alert_sees StableServerDown
    check_says servers '.status == "warn" and .target == "stable"'
    within 60 state_is shop-stable-2 unhealthy
    within 60 restarted "$before"
    within 40 state_is shop-stable-2 healthy
    within 20 servers_are be_stable/stable2 UP
    echo "# back after $((EPOCHSECONDS - stopped)) s" >&3
    [[ $(stack logs shop-stable-2 2>&1) =~ "not alive 5 times in a row; killing process" ]]
    check_says containers '.target == "shop-stable-2" and (.message | test("restarted"))'
    load_end
    nothing_lost hung

    # What no health check acts on: a person does.
    send STOP redis
    within 90 state_is redis unhealthy # six checks, each 5 s after the one before it, which takes up to 5 s
    docker restart --time 1 "$(container redis)"
    within 30 state_is redis healthy
    order_is 201
}

restarted() {
    (($(restarts_of shop-stable-2) > $1))
}
