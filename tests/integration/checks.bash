# shellcheck shell=bash
#
# For the tests of the scripts that check: their settings for servers on loopback, where no container is. A test file
# says `load checks` after `load helpers` and, if it has them, `load databases`.

export PATH=$HALDANE_BUILD/analyzer/cli:$PATH

# settings [NAME=VALUE]...: writes $config, all folders in the test's own.
settings() {
    config=$BATS_TEST_TMPDIR/settings.conf
    {
        printf '%s\n' COMPOSE_FILES= "SECRETS_DIR=$BATS_TEST_TMPDIR/secrets" "STATE_DIR=$BATS_TEST_TMPDIR/state" \
            "RECORDS_DIR=$BATS_TEST_TMPDIR/records" "BACKUP_DIR=$BATS_TEST_TMPDIR/backups" \
            "TEXTFILE_DIR=$BATS_TEST_TMPDIR/textfile" \
            SHOP_TLS_URL=none OPS_URL=none PROMETHEUS_URL=none ALERTMANAGER_URL=none HALDANE_COMMAND=none
        if [[ -n ${DATABASES_DIR:-} ]]; then
            printf '%s\n' "DATABASE_COMMAND=env PGHOST=$PGHOST PGPORT=$PGPORT PGUSER=postgres PGDATABASE=shop" \
                "CACHE_COMMAND=env REDISCLI_AUTH=$REDISCLI_AUTH redis-cli -h 127.0.0.1 -p $REDIS_PORT" \
                "SCRATCH_COMMAND=$( ((EUID != 0)) || echo 'setpriv --reuid=postgres --regid=postgres --clear-groups') env SCRATCH_DIR=$DATABASES_DIR"
        fi
    } >"$config.base"
    # A setting may be given once: the test's own takes the place of the one above.
    awk -F= '{ if (!($1 in line)) order[++n] = $1; line[$1] = $0 } END { for (i = 1; i <= n; i++) print line[order[i]] }' \
        "$config.base" <(printf '%s\n' "$@" | sed '/^$/d') >"$config"
    export HALDANE_DEPLOYMENT_CONF=$config
}

deployment() {
    "$HALDANE_SOURCE/deployment/$1" "${@:2}" 3>&-
}

# migrate: the shop's tables and its catalogue.
migrate() {
    "$HALDANE_SOURCE/compose/shop/migrate.sh" --database "$DATABASE" --database-password-file \
        "$DATABASE_PASSWORD_FILE" \
        >"$BATS_FILE_TMPDIR/migrate.log" 2>&1
}

# start_full NAME PORT [OPTION]...: a shop with the database and the cache.
start_full() {
    local i name=$1 port=$2
    shift 2
    start_bg "$name" "$DEMO_SHOP" --listen "127.0.0.1:$port" --latency-median 0 --database "$DATABASE" \
        --database-password-file "$DATABASE_PASSWORD_FILE" --cache "$CACHE" --cache-password-file \
        "$CACHE_PASSWORD_FILE" "$@"
    for ((i = 0; i < 200; i++)); do
        [[ $(curl -s --noproxy '*' "http://127.0.0.1:$port/readyz" | jq -r .status 2>/dev/null) != ready ]] || return 0
        sleep 0.05
    done
    echo "the shop on port $port is not ready" >&2
    return 1
}

# free_ports N: into the array `ports`.
free_ports() {
    # shellcheck disable=SC2034 # the test's
    read -r -a ports < <("$HALDANE_SOURCE/tests/free_ports" "$1")
}
