# shellcheck shell=bash
#
# A real restore, into a server of PostgreSQL that is made for it and thrown away: no network, no disk flushed, nothing
# of the true server's. Run as `bash -c SCRIPT NAME ROWS_SQL`, with a dump of pg_dump -Fc on stdin, by a user that is
# not root. Prints how many rows each table has then.
#
# Exit codes: 0 restored; 3 the server could not be made; 4 the dump could not be restored; 5 the rows not be counted.
set -eu

cd / # the folder we come from may be closed to this user
bin=$(for candidate in /usr/lib/postgresql/*/bin; do printf '%s\n' "$candidate"; done | sort -V | tail -n 1)
[ ! -x "$bin/initdb" ] || PATH=$bin:$PATH
work=$(mktemp -d "${SCRATCH_DIR:-/tmp}/restore.XXXXXX") || exit 3
started=''
finish() {
    [ -z "$started" ] || pg_ctl stop -D "$work/data" -m immediate -w >/dev/null 2>&1 || true
    rm -rf -- "$work"
}
trap finish EXIT
trap 'exit 3' HUP INT TERM

told() {
    "$@" >"$work/log" 2>&1 </dev/null && return
    cat "$work/log" >&2
    return 1
}

# What the environment says of the true server must not reach this one.
unset PGDATABASE PGPASSWORD PGSERVICE PGOPTIONS PGDATA || true
export PGHOST=$work PGUSER=postgres PGPORT=5432

told initdb -D "$work/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync || exit 3
started=yes
told pg_ctl start -D "$work/data" -w -l "$work/server.log" -o "-k $work -c listen_addresses='' -c fsync=off \
    -c full_page_writes=off -c synchronous_commit=off -c autovacuum=off -c shared_buffers=32MB" || {
    tail -n 5 "$work/server.log" >&2
    exit 3
}
told createdb -T template0 scratch || exit 3
# Owners and rights are of roles that this server does not have.
pg_restore --exit-on-error --single-transaction --no-owner --no-privileges -d scratch || exit 4
printf '%s\n' "$1" | psql -XAtq -v ON_ERROR_STOP=1 -d scratch || exit 5
