#!/usr/bin/env bats
# The demo shop with a real PostgreSQL and a real Redis: what it keeps is kept once, and what it can do without, it does
# without.

load helpers
load databases

setup_file() {
    databases_start
    migrate
}

teardown_file() {
    databases_stop
}

setup() {
    port=$("$HALDANE_SOURCE/tests/free_ports")
    base=http://127.0.0.1:$port
    result=$BATS_TEST_TMPDIR/load.json
    [[ -e $DATABASES_DIR/postgres.pid ]] || postgres_start
    [[ -e $DATABASES_DIR/redis.pid ]] || redis_start
    psql -X -q -d shop -c 'TRUNCATE orders'
    redis_cli flushall >/dev/null
}

teardown() {
    databases_signal postgres CONT
    databases_signal redis CONT
    stop_all
}

# start_full [OPTION]...: a shop with both.
start_full() {
    start_shop shop "$port" --latency-median 0 --database "$DATABASE" \
        --database-password-file "$DATABASE_PASSWORD_FILE" --cache "$CACHE" \
        --cache-password-file "$CACHE_PASSWORD_FILE" "$@"
    readiness ready
}

# start_database_only [OPTION]...
start_database_only() {
    start_shop shop "$port" --latency-median 0 --database "$DATABASE" \
        --database-password-file "$DATABASE_PASSWORD_FILE" "$@"
    readiness ready
}

# readiness STATUS [SECONDS]: waits for /readyz to say so.
readiness() {
    local i
    for ((i = 0; i < ${2:-5} * 50; i++)); do
        [[ $(curl -sS "$base/readyz" | jq -r .status) != "$1" ]] || return 0
        sleep 0.02
    done
    curl -sS "$base/readyz" >&2
    return 1
}

code_of() {
    curl -s -o /dev/null -w '%{http_code}' "$@"
}

# took CODE SECONDS CURL-ARGUMENT...: the answer's code, and that it came within so many seconds.
took() {
    local code=$1 limit=$2 said
    shift 2
    said=$(curl -s -o /dev/null -w '%{http_code} %{time_total}' "$@")
    [[ ${said% *} == "$code" ]] || {
        echo "$said, not $code: $*" >&2
        return 1
    }
    holds "${said#* } < $limit"
}

orders() {
    psql -X -A -t -d shop -c "SELECT count(*) FROM orders ${1:-}"
}

# Nothing is left behind at the server, as soon as it has seen the end.
no_connections() {
    local i left
    for ((i = 0; i < 50; i++)); do
        left=$(psql -X -A -t -c "SELECT count(*) FROM pg_stat_activity WHERE usename = 'shop'")
        ((left > 0)) || return 0
        sleep 0.02
    done
    return 1
}

cache_count() {
    metric "$port" shop_cache_requests_total "result=\"$1\""
}

@test "the catalogue is the same from the database, from the cache and from memory, to the byte" {
    local other path
    other=$("$HALDANE_SOURCE/tests/free_ports")
    start_full
    start_shop memory "$other" --latency-median 0
    for path in items items/1 items/7 items/10 items/1000; do
        curl -fsS "http://127.0.0.1:$other/$path" >"$BATS_TEST_TMPDIR/expected"
        curl -fsS "$base/$path" | cmp - "$BATS_TEST_TMPDIR/expected"
        curl -fsS "$base/$path" | cmp - "$BATS_TEST_TMPDIR/expected"
    done
    for path in items/0 items/1001 items/99999999999999999999; do
        [ "$(code_of "$base/$path")" = 404 ]
        [ "$(code_of "$base/$path")" = 404 ]
    done
    [ "$(psql -X -A -t -d shop -c 'SELECT sum(price_cents) FROM items')" -eq "$(awk 'BEGIN {
        for (i = 1; i <= 1000; i++) s += 100 + i * 7 % 9900; print s }')" ]
}

@test "the second look at a page is a hit, for as long as the cache keeps it" {
    start_full --cache-ttl 1s
    curl -fsS "$base/items/3" | jq -e '.id == 3'
    [ "$(cache_count hit)" -eq 0 ]
    [ "$(cache_count miss)" -eq 1 ]
    curl -fsS "$base/items/3" | jq -e '.id == 3'
    [ "$(cache_count hit)" -eq 1 ]
    [ "$(metric "$port" shop_database_seconds_count)" -eq 1 ]
    [ "$(redis_cli get item:3)" = '{"id":3,"name":"item 3","price_cents":121}' ]
    holds "$(redis_cli pttl item:3) <= 1000"
    sleep 1.1
    curl -fsS "$base/items/3" | jq -e '.id == 3'
    [ "$(cache_count miss)" -eq 2 ]
    [ "$(cache_count error)" -eq 0 ]
}

@test "metrics and health name each dependency, and promtool finds nothing to mend" {
    start_full
    curl -fsS "$base/metrics" >"$BATS_TEST_TMPDIR/metrics"
    run -0 promtool check metrics <"$BATS_TEST_TMPDIR/metrics"
    [ -z "$output" ]
    [ "$(metric "$port" shop_dependency_up)" -eq 2 ]
    grep -q '^http_requests_total{version="v1",method="GET",code="503"} 0$' "$BATS_TEST_TMPDIR/metrics"
    curl -fsS "$base/readyz" | jq -e '.status == "ready" and .version == "v1"
        and .dependencies.database.status == "up" and (.dependencies.database.since | test("^20.*T.*Z$"))
        and .dependencies.cache.status == "up"'
    [ "$(curl -fsS "$base/healthz")" = '{"status":"alive"}' ]
}

@test "a shop without database and cache has no series of them, and is ready at once" {
    start_shop shop "$port"
    curl -fsS "$base/readyz" | jq -e '.status == "ready" and .dependencies.database.status == "none"
        and .dependencies.cache.status == "none"'
    [ "$(curl -fsS "$base/metrics" | grep -c '^shop_d\|^shop_c')" -eq 0 ]
}

@test "an order is a row; one of an unknown item is none; and a body that is no order is kept as its size" {
    start_full
    curl -fsS -d '{"item":7,"quantity":2}' "$base/order" | jq -e '.order >= 1'
    [ "$(code_of -d '{"item":7,"count":1}' "$base/order")" = 201 ]
    [ "$(code_of -d 'just bytes' "$base/order")" = 201 ]
    [ "$(code_of -d '{"item":0}' "$base/order")" = 201 ]
    [ "$(code_of -d '' "$base/order")" = 201 ]
    [ "$(code_of -d '{"item":5000}' "$base/order")" = 404 ]
    [ "$(psql -X -A -t -d shop -c "SELECT string_agg(concat_ws('/', coalesce(item::text, '-'),
        coalesce(quantity::text, '-'), body_bytes), ' ' ORDER BY id) FROM orders")" = \
        "7/2/23 7/1/20 -/-/10 -/-/10 -/-/0" ]
    [ "$(metric "$port" shop_database_errors_total)" -eq 0 ]
}

@test "one Idempotency-Key, one order, however often and however many at once" {
    local key first i
    start_full
    key=$(printf 'k%.0s' {1..3000})
    first=$(curl -fsS -H "Idempotency-Key: $key" -d '{"item":1}' "$base/order")
    [ "$(curl -fsS -w '%{http_code}' -H "Idempotency-Key: $key" -d '{"item":1}' "$base/order")" = "$first"$'\n'200 ]
    for i in {1..20}; do
        printf 'next\nurl = "%s/order"\nheader = "Idempotency-Key: at once"\n' "$base"
        printf 'data = "{\\"item\\":2}"\noutput = "%s/answer.%d"\n' "$BATS_TEST_TMPDIR" "$i"
    done | tail -n +2 >"$BATS_TEST_TMPDIR/curl.conf"
    curl -sS --fail-early --parallel --parallel-immediate -K "$BATS_TEST_TMPDIR/curl.conf"
    [ "$(sort -u "$BATS_TEST_TMPDIR"/answer.* | wc -l)" -eq 1 ]
    [ "$(orders)" -eq 2 ]
    [ "$(curl -s -o /dev/null -w '%{http_code}' -H 'Idempotency-Key: other' -d '{"item":1}' "$base/order")" = 201 ]
    [ "$(orders)" -eq 3 ]
}

@test "a cart is kept under the key of its cookie" {
    local jar=$BATS_TEST_TMPDIR/jar key
    start_full
    curl -fsS -c "$jar" -d 'two apples' "$base/cart" | jq -e '.cart_bytes == 10 and .kept'
    key=$(awk '$6 == "cart" { print $7 }' "$jar")
    [[ $key =~ ^[0-9a-f]{32}$ ]]
    [ "$(redis_cli get "cart:$key")" = 'two apples' ]
    curl -fsS -b "$jar" -d 'three pears' "$base/cart" | jq -e .kept
    [ "$(redis_cli get "cart:$key")" = 'three pears' ]
    # What cannot be a key is not taken as one.
    curl -fsS -H 'Cookie: cart=a*b c' -d x "$base/cart" | jq -e .kept
    [ "$(redis_cli dbsize)" -eq 2 ]
}

@test "the cache is killed: slower, not broken; and it is used again when it is back" {
    start_full
    start_bg load "$DEMO_LOAD" --url "$base" --seed 7 --rate 300 --duration 1200ms --post-share 50% --json "$result" \
        --fail-on-loss
    sleep 0.3
    databases_kill redis
    readiness degraded
    [ "$(curl -sS "$base/readyz" | jq -r '.dependencies | .database.status + " " + .cache.status')" = "up down" ]
    [ "$(code_of "$base/readyz")" = 200 ]
    curl -fsS -d x "$base/cart" | jq -e '.kept == false'
    curl -fsS "$base/items/5" | jq -e '.id == 5'
    [ "$(metric "$port" shop_dependency_up 'dependency="cache"')" -eq 0 ]
    holds "$(cache_count error) > 0"
    wait_bg load
    [ "$(jq '.status | keys - ["200", "201"] | length' "$result")" -eq 0 ]
    redis_start
    readiness ready
    curl -fsS "$base/items/6" "$base/items/6" >/dev/null
    holds "$(cache_count hit) > 0"
}

@test "the cache hangs: nobody waits for it longer than its deadline" {
    start_full --cache-deadline 500ms
    curl -fsS "$base/items/8" >/dev/null
    databases_signal redis STOP
    took 200 0.9 "$base/items/8"
    took 200 0.4 "$base/items/8"
    took 200 0.4 -d x "$base/cart"
    databases_signal redis CONT
    readiness ready
}

@test "the database is killed: 503 with Retry-After on what needs it, the rest served; and it comes back by itself" {
    start_full
    curl -fsS "$base/items/9" >/dev/null
    databases_kill postgres
    readiness degraded
    [ "$(curl -sS "$base/readyz" | jq -r '.dependencies | .database.status + " " + .cache.status')" = "down up" ]
    [ "$(code_of "$base/readyz")" = 200 ]
    [ "$(code_of "$base/healthz")" = 200 ]
    took 503 0.9 "$base/items/11"
    took 503 0.9 -d '{"item":1}' "$base/order"
    curl -sSi "$base/items/11" | tr -d '\r' | grep -qx 'Retry-After: 1'
    took 200 0.9 "$base/items/9"
    took 200 0.9 "$base/"
    took 200 0.9 -d x "$base/cart"
    [ "$(metric "$port" http_requests_total 'code="503"')" -eq 3 ]
    holds "$(metric "$port" shop_database_errors_total) >= 3"
    [ "$(metric "$port" shop_dependency_up 'dependency="database"')" -eq 0 ]
    postgres_start
    readiness ready
    took 200 0.9 "$base/items/11"
    took 201 0.9 -d '{"item":1}' "$base/order"
    # An outage is told, not every attempt.
    holds "$(grep -c 'database: ' "$BATS_TEST_TMPDIR/shop.log") <= 8"
}

@test "the database hangs: 503 by the deadline, and no other request is delayed" {
    start_full --database-deadline 1s
    curl -fsS "$base/items/12" >/dev/null
    databases_signal postgres STOP
    start_bg stuck curl -s -o /dev/null -w '%{http_code} %{time_total}\n' "$base/items/13"
    start_bg stuck_order curl -s -o /dev/null -w '%{http_code} %{time_total}\n' -d '{"item":1}' "$base/order"
    "$DEMO_LOAD" --url "$base" --rate 200 --duration 1s --post-share 0% --path / --path /items/12 \
        --json "$result" --fail-on-loss
    [ "$(jq '.status | keys == ["200"]' "$result")" = true ]
    holds "$(jq '.latency_ms.max' "$result") < 700"
    wait_bg stuck
    wait_bg stuck_order
    for name in stuck stuck_order; do
        read -r code seconds <"$BATS_TEST_TMPDIR/$name.log"
        [ "$code" = 503 ]
        holds "$seconds > 0.9 && $seconds < 1.7"
    done
    databases_signal postgres CONT
    readiness ready
    took 200 0.9 "$base/items/13"
}

@test "too many that wait for a slow database are turned away, and none beyond its deadline" {
    start_database_only --database-connections 1 --database-deadline 1s
    start_bg lock psql -X -q -d shop -c 'BEGIN; LOCK TABLE items; SELECT pg_sleep(1.6)'
    sleep 0.3
    "$DEMO_LOAD" --url "$base" --rate 400 --duration 1s --post-share 0% --path /items/1 --json "$result" --fail-on-loss
    wait_bg lock
    [ "$(jq '.status["503"]' "$result")" -eq 400 ]
    holds "$(jq '.latency_ms.max' "$result") < 1500"
    readiness ready
    took 200 0.9 "$base/items/1"
}

@test "SIGTERM under load: no request is lost, and every order that was answered is there" {
    start_full --drain 1s
    start_bg load "$DEMO_LOAD" --url "$base" --seed 3 --rate 400 --duration 1500ms --post-share 50% --post-path /order \
        --json "$result" --fail-on-loss
    sleep 0.7
    signal_bg shop TERM
    sleep 0.2
    [ "$(curl -sS "$base/readyz" | jq -r .status)" = draining ]
    wait_bg load
    wait_bg shop
    [ "$(jq .failed "$result")" -eq 0 ]
    [ "$(jq '.status["201"]' "$result")" -eq "$(orders)" ]
    no_connections
}

@test "a query that is under way when the end comes is waited for" {
    start_database_only --drain 0
    start_bg lock psql -X -q -d shop -c 'BEGIN; LOCK TABLE orders; SELECT pg_sleep(1)'
    sleep 0.3
    start_bg late curl -sS -o /dev/null -w '%{http_code}\n' -d '{"item":4}' "$base/order"
    sleep 0.3
    stop_bg shop
    wait_bg late
    wait_bg lock
    [ "$(tail -n 1 "$BATS_TEST_TMPDIR/late.log")" = 201 ]
    [ "$(orders 'WHERE item = 4')" -eq 1 ]
}

@test "until the database was reached the shop starts; when its patience is over it serves what it can" {
    start_bg shop "$DEMO_SHOP" --listen "127.0.0.1:$port" --version v1 --latency-median 0 --patience 1s \
        --database "host=127.0.0.1 port=$("$HALDANE_SOURCE/tests/free_ports") user=shop dbname=shop"
    wait_http "$base/healthz"
    [ "$(curl -sS "$base/readyz" | jq -r .status)" = starting ]
    [ "$(code_of "$base/readyz")" = 503 ]
    [ "$(code_of "$base/healthz")" = 200 ]
    readiness degraded
    [ "$(code_of "$base/readyz")" = 200 ]
    [ "$(code_of "$base/")" = 200 ]
    [ "$(code_of "$base/items/1")" = 503 ]
}

@test "a name that no server knows holds nobody up" {
    start_bg shop "$DEMO_SHOP" --listen "127.0.0.1:$port" --version v1 --latency-median 0 --patience 0 \
        --drain 0 --database "host=database.invalid user=shop dbname=shop" --cache cache.invalid:6379
    wait_http "$base/readyz"
    "$DEMO_LOAD" --url "$base" --rate 200 --duration 1s --post-share 0% --path / --json "$result" --fail-on-loss
    holds "$(jq '.latency_ms.max' "$result") < 300"
    took 503 0.9 "$base/items/1"
    stop_bg shop
}

@test "a wrong password and a missing table are told, and nobody is answered wrongly" {
    printf 'wrong\n' >"$BATS_TEST_TMPDIR/wrong"
    start_shop shop "$port" --latency-median 0 --patience 0 --drain 0 --database "$DATABASE" \
        --database-password-file "$BATS_TEST_TMPDIR/wrong" --cache "$CACHE" \
        --cache-password-file "$BATS_TEST_TMPDIR/wrong"
    sleep 0.3
    readiness degraded
    grep -q 'database: down: .*password authentication failed' "$BATS_TEST_TMPDIR/shop.log"
    grep -q 'cache: down: .*WRONGPASS' "$BATS_TEST_TMPDIR/shop.log"
    # Changed secrets are read without a restart.
    cp "$DATABASE_PASSWORD_FILE" "$BATS_TEST_TMPDIR/wrong"
    for ((i = 0; i < 100; i++)); do
        [ "$(metric "$port" shop_dependency_up 'dependency="database"')" -eq 0 ] || break
        sleep 0.05
    done
    [ "$(code_of "$base/items/1")" = 200 ]
    stop_bg shop
    psql -X -q -c 'CREATE DATABASE bare OWNER shop'
    start_database_only --drain 0 --database "${DATABASE/dbname=shop/dbname=bare}"
    [ "$(code_of "$base/items/1")" = 503 ]
    grep -q 'database: ERROR: .*relation "items" does not exist' "$BATS_TEST_TMPDIR/shop.log"
    stop_bg shop
    psql -X -q -c 'DROP DATABASE bare'
}

@test "wrong usage of the data options: exit code 64 or 66 and a sentence that says what is right" {
    local shop=("$DEMO_SHOP" --listen 127.0.0.1:0 --version v1)
    run -64 "${shop[@]}" --database 'no such thing'
    [[ $output == *"--database takes a connection string"* ]]
    run -64 "${shop[@]}" --database 'host=a,b'
    [[ $output == *"one host"* ]]
    run -64 "${shop[@]}" --cache redis
    [[ $output == *"redis:6379"* ]]
    run -64 "${shop[@]}" --database-connections 0
    run -64 "${shop[@]}" --database-connections 65
    run -64 "${shop[@]}" --database-deadline 0
    run -64 "${shop[@]}" --database-password-file x
    run -66 "${shop[@]}" --database host=x --database-password-file "$BATS_TEST_TMPDIR/none"
    [[ $output == *"$BATS_TEST_TMPDIR/none"* ]]
    run -66 "${shop[@]}" --cache x:1 --cache-password-file /dev/null
    [[ $output == *"is empty"* ]]
}
