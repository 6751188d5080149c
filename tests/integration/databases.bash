# Real servers for tests: PostgreSQL and Redis from Debian, on free loopback ports, in a folder of their own. A test
# file says `load databases` after `load helpers`; calls `databases_start` in setup_file, or in setup if each test is to
# have its own; and `databases_stop` in the teardown that goes with it.
#
# What a test then has, exported:
#   PGHOST PGPORT PGUSER PGDATABASE   for psql and pg_dump: the superuser, by the socket in $PGHOST, without a password
#   DATABASE DATABASE_PASSWORD_FILE   the shop's user by TCP, with a password: its database "shop" is empty
#   REDIS_PORT REDISCLI_AUTH          for redis-cli: 127.0.0.1, with a password
#   CACHE CACHE_PASSWORD_FILE         the same as the shop takes it
#   DATABASES_DIR                     the folder; logs are in postgres.log and redis.log

databases_bin=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)

# PostgreSQL refuses to run as root. Whoever is somebody else already stays so.
databases_user() {
    as=()
    ((EUID != 0)) || as=(setpriv --reuid="$databases_owner" --regid="$(id -g "$databases_owner")" --clear-groups)
}

# databases_begin NAME COMMAND...: a server in the background; it is no job of this shell, which may end before it.
databases_begin() {
    local name=$1 as
    shift
    databases_user
    "${as[@]}" "$@" >>"$DATABASES_DIR/$name.log" 2>&1 </dev/null 3>&- &
    echo $! >"$DATABASES_DIR/$name.pid"
    disown
}

databases_start() {
    local ports as
    [[ -x $databases_bin/postgres ]] || {
        echo "PostgreSQL's programs are not in /usr/lib/postgresql; scripts/install-deps.sh installs them" >&2
        return 1
    }
    databases_owner=postgres
    id "$databases_owner" >/dev/null 2>&1 || databases_owner=nobody
    DATABASES_DIR=$(mktemp -d /tmp/haldane-databases.XXXXXX)
    read -r -a ports < <("$HALDANE_SOURCE/tests/free_ports" 2)
    export DATABASES_DIR databases_owner
    export PGHOST=$DATABASES_DIR PGPORT=${ports[0]} PGUSER=postgres PGDATABASE=postgres
    export REDIS_PORT=${ports[1]} REDISCLI_AUTH=redis-secret
    export DATABASE="host=127.0.0.1 port=$PGPORT user=shop dbname=shop" CACHE=127.0.0.1:$REDIS_PORT
    export DATABASE_PASSWORD_FILE=$DATABASES_DIR/db_password CACHE_PASSWORD_FILE=$DATABASES_DIR/redis_password
    printf 'shop-secret\n' >"$DATABASE_PASSWORD_FILE"
    printf '%s\n' "$REDISCLI_AUTH" >"$CACHE_PASSWORD_FILE"
    ((EUID != 0)) || chown -R "$databases_owner" "$DATABASES_DIR"
    databases_user
    "${as[@]}" "$databases_bin/initdb" --pgdata="$DATABASES_DIR/data" --username=postgres --auth-local=trust \
        --auth-host=scram-sha-256 --encoding=UTF8 --no-locale --no-sync >"$DATABASES_DIR/initdb.log" || return
    postgres_start
    redis_start
    psql -X -q -c "CREATE ROLE shop LOGIN PASSWORD 'shop-secret'" -c 'CREATE DATABASE shop OWNER shop'
}

# Starts PostgreSQL, or starts it again on what it has.
postgres_start() {
    local i
    databases_begin postgres "$databases_bin/postgres" -D "$DATABASES_DIR/data" -p "$PGPORT" -k "$DATABASES_DIR" \
        -h 127.0.0.1 -c fsync=off -c shared_buffers=16MB -c max_connections=40
    for ((i = 0; i < 400; i++)); do
        "$databases_bin/pg_isready" -q && return 0
        sleep 0.05
    done
    tail -n 20 "$DATABASES_DIR/postgres.log" >&2
    return 1
}

redis_start() {
    local i
    databases_begin redis redis-server --bind 127.0.0.1 --port "$REDIS_PORT" --requirepass "$REDISCLI_AUTH" --save '' \
        --dir "$DATABASES_DIR"
    for ((i = 0; i < 200; i++)); do
        [[ $(redis_cli ping 2>/dev/null) != PONG ]] || return 0
        sleep 0.05
    done
    tail -n 20 "$DATABASES_DIR/redis.log" >&2
    return 1
}

# Makes the tables that the shop needs, in the database that DATABASE names. migrate [OPTION]...
migrate() {
    "$HALDANE_SOURCE/compose/shop/migrate.sh" --database "$DATABASE" \
        --database-password-file "$DATABASE_PASSWORD_FILE" "$@"
}

redis_cli() {
    redis-cli -h 127.0.0.1 -p "$REDIS_PORT" "$@"
}

# All processes of a server: PostgreSQL's are many, and none gets a signal that its parent gets.
# databases_signal postgres|redis SIGNAL
databases_signal() {
    local pid
    pid=$(cat "$DATABASES_DIR/$1.pid")
    # shellcheck disable=SC2046 # one word a process
    kill "-$2" "$pid" $(pgrep -P "$pid") 2>/dev/null || true
}

# The server is gone as if by power loss; what it has on disk stays. postgres_start and redis_start bring it back.
# databases_kill postgres|redis
databases_kill() {
    local pid i
    pid=$(cat "$DATABASES_DIR/$1.pid")
    databases_signal "$1" KILL
    for ((i = 0; i < 200; i++)); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.02
    done
    rm -f -- "$DATABASES_DIR/$1.pid"
}

databases_stop() {
    local name
    [[ -n ${DATABASES_DIR:-} ]] || return 0
    for name in postgres redis; do
        [[ ! -e $DATABASES_DIR/$name.pid ]] || databases_kill "$name"
    done
    rm -rf -- "$DATABASES_DIR"
}
