#!/usr/bin/env bats
# The shop's migrations, on a real PostgreSQL: each is applied once, in order, whole or not at all.

load helpers
load databases

setup_file() {
    databases_start
}

teardown_file() {
    databases_stop
}

teardown() {
    stop_all
}

# fresh NAME: an empty database, and DATABASE set to it.
fresh() {
    psql -X -q -c "CREATE DATABASE $1 OWNER shop"
    DATABASE=${DATABASE/dbname=shop/dbname=$1}
}

ask_fresh() {
    psql -X -A -t -d "${DATABASE##*dbname=}" -c "$1"
}

@test "a dry run changes nothing, the first run applies all, the second nothing" {
    fresh twice
    run -0 migrate --dry-run
    [ "$output" = $'would apply 0001_catalogue.sql\nwould apply 0002_orders.sql' ]
    [ -z "$(ask_fresh "SELECT to_regclass('schema_migrations')")" ]
    run -0 migrate
    [ "$output" = $'applied 0001_catalogue.sql\napplied 0002_orders.sql' ]
    [ "$(ask_fresh 'SELECT count(*) FROM items')" -eq 1000 ]
    run -0 migrate
    [ "$output" = 'nothing to apply' ]
    run -0 migrate --dry-run
    [ "$output" = 'nothing to apply' ]
    [ "$(ask_fresh "SELECT checksum FROM schema_migrations WHERE version = '0002'")" = \
        "$(sha256sum <"$HALDANE_SOURCE/compose/shop/migrations/0002_orders.sql" | cut -d ' ' -f 1)" ]
}

@test "two at once do the work once, and who waits too long says so" {
    fresh at_once
    migrate >"$BATS_TEST_TMPDIR/one" &
    migrate >"$BATS_TEST_TMPDIR/other"
    wait $!
    [ "$(cat "$BATS_TEST_TMPDIR/one" "$BATS_TEST_TMPDIR/other" | sort)" = \
        $'applied 0001_catalogue.sql\napplied 0002_orders.sql\nnothing to apply' ]
    start_bg lock psql -X -q -d at_once -c 'SELECT pg_advisory_lock(4867245071216345937), pg_sleep(3)'
    sleep 0.3
    run -75 migrate --lock-timeout 1
    [[ $output == *"another one is at work"* ]]
}

@test "a changed file is refused before anything is applied; one that fails leaves nothing" {
    local dir=$BATS_TEST_TMPDIR/migrations
    fresh changed
    cp -r "$HALDANE_SOURCE/compose/shop/migrations" "$dir"
    migrate --dir "$dir"
    printf 'CREATE TABLE later (id integer);\n' >"$dir/0003_later.sql"
    printf -- '-- a word\n' >>"$dir/0001_catalogue.sql"
    run -65 migrate --dir "$dir"
    [[ $output == *"0001_catalogue.sql was changed"* ]]
    run -65 migrate --dir "$dir" --dry-run
    cp "$HALDANE_SOURCE/compose/shop/migrations/0001_catalogue.sql" "$dir"
    printf 'CREATE TABLE half (id integer);\nSELECT no_such_column;\n' >"$dir/0004_broken.sql"
    run -65 migrate --dir "$dir"
    [[ $output == *"applied 0003_later.sql"* && $output == *no_such_column* ]]
    [ "$(ask_fresh "SELECT to_regclass('later') IS NOT NULL AND to_regclass('half') IS NULL")" = t ]
    [ "$(ask_fresh "SELECT count(*) FROM schema_migrations")" -eq 3 ]
}

@test "exit codes for what cannot be reached, read or meant" {
    run -64 migrate --nonsense
    run -64 migrate --lock-timeout 0
    run -0 migrate --help
    [[ $output == usage:* ]]
    run -66 migrate --dir "$BATS_TEST_TMPDIR/none"
    mkdir "$BATS_TEST_TMPDIR/odd"
    touch "$BATS_TEST_TMPDIR/odd/drop table.sql"
    run -65 migrate --dir "$BATS_TEST_TMPDIR/odd"
    run -69 migrate --database "host=127.0.0.1 port=1 user=shop"
    printf 'wrong\n' >"$BATS_TEST_TMPDIR/wrong"
    run -69 migrate --database-password-file "$BATS_TEST_TMPDIR/wrong"
    run -66 migrate --database-password-file "$BATS_TEST_TMPDIR/none"
}
