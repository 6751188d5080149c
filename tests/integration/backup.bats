#!/usr/bin/env bats
#
# backup.sh against a real PostgreSQL: a backup that it calls good can be brought back as it was, and one that cannot is
# never called good.
# shellcheck disable=SC2154 # config is checks.bash's

load helpers
load databases
load checks

setup_file() {
    databases_start
    migrate
    psql -Xq -d shop -c "insert into orders (item, quantity, body_bytes) select id, 1, 9 from generate_series(1, 500) id"
}

teardown_file() {
    databases_stop
}

setup() {
    settings
    folder=$BATS_TEST_TMPDIR/backups
}

teardown() {
    stop_all
    [[ -z ${mounted:-} ]] || umount "$mounted"
    for database in $(psql -XAtq -c "select datname from pg_database where datname ~ '^shop_|^other'"); do
        psql -Xq -c "drop database \"$database\""
    done
}

backup() {
    deployment backup.sh "$@"
}

# create: makes one; its name goes into `name`.
create() {
    name=$(backup create --format json | jq -r .name)
    [ -s "$folder/$name.dump" ]
}

# The manifest says what is there now, so that only a restore can find the damage.
forge_manifest() {
    jq --arg sum "$(sha256sum <"$folder/$name.dump" | cut -d ' ' -f 1)" --argjson size \
        "$(stat -c %s "$folder/$name.dump")" \
        '.sha256 = $sum | .size = $size' "$folder/$name.json" >"$folder/forged" &&
        mv "$folder/forged" "$folder/$name.json"
}

rows() {
    psql -XAtq -d "${2:-shop}" -c "select count(*) from $1"
}

@test "create, list, verify: what was dumped, for its owner alone, and proven by a restore" {
    mkdir "$BATS_TEST_TMPDIR/textfile"
    create
    [ "$(stat -c %a "$folder" "$folder/$name.dump" "$folder/$name.json" | tr '\n' ' ')" = "700 600 600 " ]
    jq -e '.schema == "haldane.backup/1" and .rows["public.items"] == 1000 and .rows["public.orders"] >= 500 and .size > 1000' \
        "$folder/$name.json"
    run -0 backup list --format json
    jq -e --arg name "$name" '.backups | length == 1 and .[0].name == $name and .[0].verified == null' <<<"$output"
    run -0 backup verify --format json
    jq -e '.status == "good" and .reason == "" and .rows["public.items"] == 1000 and .age_seconds < 60' <<<"$output"
    run -0 backup list --format json
    jq -e '.backups[0].verified != null' <<<"$output"
    # Nothing of the throw-away server is left, and the true one was not touched.
    [ -z "$(find "$DATABASES_DIR" -name 'restore.*')" ]
    [ "$(psql -XAtq -c "select count(*) from pg_database where datname like '%scratch%'")" -eq 0 ]
    # What node-exporter is told.
    promtool check metrics <"$BATS_TEST_TMPDIR/textfile/haldane_backup.prom"
    grep -q '^haldane_backup_verified_timestamp_seconds 1[0-9]*$' "$BATS_TEST_TMPDIR/textfile/haldane_backup.prom"
    # What was good and is not any more does not stay verified.
    truncate -s -1 "$folder/$name.dump"
    run -1 backup verify
    run -0 backup list --format json
    jq -e '.backups[0].verified == null' <<<"$output"
}

@test "orders that come in meanwhile are no contradiction: counts and dump are of one moment" {
    start_bg orders bash -c 'for ((i = 0; i < 2000; i++)); do
        psql -Xq -d shop -c "insert into orders (item, quantity, body_bytes) select 1, 1, 9 from generate_series(1, 50)"; done'
    sleep 0.3
    create
    stop_bg orders || true
    run -0 backup verify
    [[ $output == *" is good: restored in "* ]]
}

@test "a dump with one wrong byte is not good, although pg_restore --list accepts it" {
    local middle
    create
    middle=$(($(stat -c %s "$folder/$name.dump") / 2))
    printf '\377\000\377\000' | dd of="$folder/$name.dump" bs=1 seek="$middle" conv=notrunc status=none
    run -1 backup verify
    [[ $output == *"NOT good: the dump is not what was written: its SHA-256 differs"* ]]
    forge_manifest
    pg_restore --list "$folder/$name.dump" >/dev/null
    run -1 backup verify --format json
    jq -e '.status == "bad" and (.reason | test("it cannot be restored: .*error"))' <<<"$output"
}

@test "a dump that is cut short is not good, although pg_restore --list accepts it" {
    create
    truncate -s -2000 "$folder/$name.dump"
    run -1 backup verify
    [[ $output == *"NOT good: the dump has "*" bytes, and not "* ]]
    forge_manifest
    pg_restore --list "$folder/$name.dump" >/dev/null
    run -1 backup verify
    [[ $output == *"NOT good: it cannot be restored: "* ]]
}

@test "rows that are missing, or too many, make a backup bad; so does a manifest that is damaged" {
    create
    jq '.rows["public.items"] = 1001' "$folder/$name.json" >"$folder/x" && mv "$folder/x" "$folder/$name.json"
    run -1 backup verify
    [[ $output == *"public.items has 1000 rows instead of 1001"* ]]
    echo '{"created": "2026-01-01T00:00:00Z"' >"$folder/$name.json"
    run -1 backup verify
    [[ $output == *"its manifest is damaged"* ]]
}

@test "too old is not good; no backup at all is not good; one that is not there is 66" {
    run -1 backup verify --max-age 1h
    [[ $output == *"there is no backup in"* ]]
    run -66 backup verify no-such
    create
    run -0 backup verify --max-age 1h
    jq '.created = "2026-01-01T00:00:00Z"' "$folder/$name.json" >"$folder/x" && mv "$folder/x" "$folder/$name.json"
    run -1 backup verify --max-age 1h
    [[ $output == *"older than 3600 s"* ]]
}

@test "one from the future, one of another project and one of nothing are not good" {
    create
    jq '.created = (now + 86400 | todate)' "$folder/$name.json" >"$folder/forged"
    mv "$folder/forged" "$folder/$name.json"
    run -1 backup verify --max-age 1h
    [[ $output == *'is NOT good: it was made 86'*' s from now'* ]]
    # Another stack's, in the same folder, with a name that begins like ours, and newer.
    for suffix in dump json; do mv "$folder/$name.$suffix" "$folder/${name%-*}-2-20991231T000000Z.$suffix"; done
    run -1 backup verify
    [[ $output == *'there is no backup'* ]]
    run -0 backup list --format json
    jq -e '.backups == []' <<<"$output"
    psql -Xq -c 'create database shop_empty'
    sed -i 's/PGDATABASE=shop$/PGDATABASE=shop_empty/' "$config"
    run -65 backup create
    [[ $output == *'the database has no table'* ]]
    [ -z "$(find "$folder" -name '*T*Z.dump' ! -name '*-2-2099*')" ]
}

@test "a full disk: exit code 74, it says so, and no half file has a backup's name" {
    mkdir "$folder"
    mount -t tmpfs -o size=100k,mode=0700 haldane-test "$folder"
    mounted=$folder
    psql -Xq -d shop -c "create table ballast as select md5(i::text) || md5((-i)::text) as t from generate_series(1, 20000) i"
    run backup create
    psql -Xq -d shop -c 'drop table ballast'
    [ "$status" -eq 74 ]
    [[ $output == *"No space left on device"* && $output == *"nothing is left of it"* ]]
    [ -z "$(find "$folder" -type f -not -name '.*.lock')" ]
}

@test "ended in the middle: nothing is left, and the session that held the snapshot is gone" {
    psql -Xq -d shop -c 'create table if not exists slow (t text)'
    # pg_dump waits for this lock.
    start_bg lock psql -Xq -d shop -c 'begin' -c 'lock table slow' -c 'select pg_sleep(20)'
    sleep 0.3
    began=$SECONDS
    start_bg create "$HALDANE_SOURCE/deployment/backup.sh" create
    sleep 1
    stop_bg create || [ "$?" -eq 143 ]
    ((SECONDS - began < 8))
    psql -Xq -d shop -c "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(20)%' and pid <> pg_backend_pid()" >/dev/null
    stop_bg lock || true
    psql -Xq -d shop -c 'drop table slow'
    [ -z "$(find "$folder" -type f -not -name '.*.lock')" ]
    for _ in {1..50}; do
        [[ $(holders) != 0 ]] || break
        sleep 0.1
    done
    [ "$(holders)" -eq 0 ]
}

holders() {
    psql -XAtq -c "select count(*) from pg_stat_activity where state like 'idle in transaction%'"
}

@test "two at a time: the second is refused" {
    mkdir -p "$folder"
    exec 7>>"$folder/.work.lock"
    flock 7
    run -75 backup create
    [[ $output == *"another backup.sh"* ]]
    exec 7>&-
}

# copy_as NAME: a backup of another time.
copy_as() {
    local file
    for file in "$folder/$name".*; do
        sed "s/$name/$1/g" "$file" >"$folder/$1.${file#"$folder/$name".}"
    done
}

@test "prune keeps the newest, and the newest that was verified; a dry run only says so" {
    create
    copy_as shop-20260101T000003Z
    copy_as shop-20260101T000002Z
    jq '{time: .created, sha256}' "$folder/$name.json" >"$folder/shop-20260101T000002Z.verified.json"
    copy_as shop-20260101T000001Z
    run -0 backup prune --keep 2 --dry-run
    [ "$output" = "Would remove shop-20260101T000001Z" ]
    run -77 backup prune --keep 1 </dev/null
    run -0 backup prune --keep 1 --yes
    [ "$output" = $'removed shop-20260101T000003Z\nremoved shop-20260101T000001Z' ]
    [ "$(backup list --format json | jq -r '[.backups[].name] | join(" ")')" = "$name shop-20260101T000002Z" ]
    [ "$(find "$folder" -name 'shop-20260101T00000[13]Z*' | wc -l)" -eq 0 ]
}

@test "restore: into an empty database, all of it; a second time it is refused" {
    create
    psql -Xq -c 'create database other owner shop'
    sed -i 's/PGDATABASE=shop/PGDATABASE=other/' "$config"
    run -77 backup restore "$name" --no-verify </dev/null
    run -0 backup restore "$name" --yes --no-verify
    [ "$(rows items other)" -eq 1000 ]
    [ "$(rows orders other)" -eq "$(rows orders)" ]
    # The shop's user owns what was his.
    [ "$(psql -XAtq -d other -c "select tableowner from pg_tables where tablename = 'items'")" = shop ]
    run -75 backup restore "$name" --yes --no-verify
    [[ $output == *"the database 'other' is not empty"* ]]
}

@test "restore --replace: the backup takes the place of the database under its users, and the old one is kept" {
    local kept
    create
    psql -Xq -d shop -c "delete from items where id > 500"
    start_bg user psql -Xq -d shop -c 'select pg_sleep(30)'
    sleep 0.3
    kept=$(backup restore "$name" --yes --replace --format json | jq -r .kept)
    [ "$(rows items)" -eq 1000 ]
    [ "$(rows items "$kept")" -eq 500 ]
    # As before, the shop's user can work with it.
    PGPASSWORD=shop-secret psql -XAtq -h 127.0.0.1 -U shop -d shop -c \
        "insert into items values (5000, 'new', 1); delete from items where id = 5000"
}

@test "restore of a bad backup changes nothing" {
    local before
    create
    before=$(rows items)
    truncate -s -100 "$folder/$name.dump"
    run -1 backup restore "$name" --yes --replace
    [[ $output == *"is not good"* ]]
    forge_manifest
    run -70 backup restore "$name" --yes --replace --no-verify
    [[ $output == *"is as it was"* ]]
    [ "$(rows items)" -eq "$before" ]
    [ "$(psql -XAtq -c "select count(*) from pg_database where datname ~ '^shop_'")" -eq 0 ]
}

@test "the copy elsewhere is made by the user's command, and its failure is told" {
    settings "BACKUP_COPY_COMMAND=cp \"\$1\" \"\$2\" $BATS_TEST_TMPDIR"
    create
    cmp "$folder/$name.dump" "$BATS_TEST_TMPDIR/$name.dump"
    settings "BACKUP_COPY_COMMAND=false" PROJECT=other
    run -74 backup create
    [[ $output == *"the backup is here, but BACKUP_COPY_COMMAND failed"* ]]
}

@test "a database that cannot be reached: 69; wrong usage: 64; dry runs change nothing" {
    run -0 backup create --dry-run
    run -0 backup verify --dry-run
    [ ! -e "$folder" ]
    settings "DATABASE_COMMAND=env PGHOST=/nowhere PGUSER=postgres"
    run -69 backup create
    [[ $output == *"the database cannot be asked"* ]]
    [ -z "$(find "$folder" -type f -not -name '.*.lock')" ]
    run -64 backup
    run -64 backup burn
    run -64 backup restore
    run -64 backup create --keep 2
    run -64 backup verify --max-age soon
    run -0 backup --help
    [[ $output == usage:* ]]
}
