#!/bin/sh
#
# Brings the shop's database up to date: applies the files of migrations/ that it does not have yet, in the order of
# their numbers, each in a transaction of its own.
#
# All of it is one session of psql, so that the lock taken at its start is held to its end: two that run at once do the
# work once. The table schema_migrations says what was applied, with the checksum of the file; a file that was changed
# afterwards is refused before anything is applied, because nobody could tell what the database then has.
set -eu

database=''
password_file=''
folder=$(dirname -- "$0")/migrations
lock_timeout=60
dry_run=''

usage() {
    cat <<'END'
usage: migrate.sh [OPTION]...

Applies the shop's migrations that the database does not have yet.

  --database CONNINFO            libpq's connection string (default: libpq's variables, as PGHOST and PGDATABASE)
  --database-password-file FILE  the password: its first line
  --dir DIR                      the folder of migrations (default: migrations/ beside this script)
  --lock-timeout SECONDS         how long to wait for another one that is at work (default 60)
  --dry-run                      only say what would be applied
  --help                         this page

Exit codes: 0 the database is up to date (--dry-run: could be brought so); 64 wrong usage; 65 a migration failed or was
changed after it had been applied, nothing of it was kept; 66 a file cannot be read; 69 the database or psql cannot be
reached; 70 a fault; 75 another one holds the lock.
END
}

# fail CODE TEXT...
fail() {
    code=$1
    shift
    printf 'migrate.sh: %s\n' "$*" >&2
    exit "$code"
}

while [ $# -gt 0 ]; do
    case $1 in
        --help)
            usage
            exit 0
            ;;
        --dry-run)
            dry_run=yes
            shift
            continue
            ;;
        --database | --database-password-file | --dir | --lock-timeout)
            [ $# -gt 1 ] || fail 64 "$1 needs a value; see --help"
            ;;
        *) fail 64 "'$1' is not an option; see --help" ;;
    esac
    case $1 in
        --database) database=$2 ;;
        --database-password-file) password_file=$2 ;;
        --dir) folder=$2 ;;
        --lock-timeout) lock_timeout=$2 ;;
    esac
    shift 2
done

case $lock_timeout in
    '' | *[!0-9]* | ?????*) fail 64 "--lock-timeout takes whole seconds, not '$lock_timeout'" ;;
    *[1-9]*) ;;
    *) fail 64 "--lock-timeout takes 1 second or more: 0 would mean for ever" ;;
esac

command -v psql >/dev/null || fail 69 "psql is not found; it is in the package postgresql-client"
if [ -n "$password_file" ]; then
    PGPASSWORD=$(head -n 1 -- "$password_file") || fail 66 "the password file '$password_file' cannot be read"
    export PGPASSWORD
fi
cd -- "$folder" || fail 66 "the folder '$folder' cannot be read"

# Names go into the script as they are, so they must be of the plainest.
last=''
for file in *.sql; do
    [ -e "$file" ] || fail 66 "the folder '$folder' has no migrations"
    [ -r "$file" ] || fail 66 "'$file' cannot be read"
    case $file in
        [0-9][0-9][0-9][0-9]_?*) ;;
        *) fail 65 "'$file' is no name of a migration; they are called 0001_what_it_does.sql" ;;
    esac
    case ${file%.sql} in
        *[!a-z0-9_]*) fail 65 "'$file': the name of a migration has small letters, digits and _ only" ;;
    esac
    [ "${file%%_*}" != "$last" ] || fail 65 "two migrations have the number $last"
    last=${file%%_*}
done

# Descriptor 3 is where psql's script says how it ended, if there is more to say than psql's own exit code.
head_of_script() {
    cat <<END
\\set ON_ERROR_STOP off
SET client_min_messages = warning;
SET lock_timeout = '${lock_timeout}s';
SELECT pg_advisory_lock(4867245071216345937) IS NOT NULL AS locked \\gset
\\if :ERROR
    \\warn migrate.sh: another one is at work and has not ended within $lock_timeout s
    \\! echo 75 >&3
    \\q
\\endif
\\set ON_ERROR_STOP on
-- A change that waits for a lock holds up everybody who comes after it.
SET lock_timeout = '5s';
\\set fresh false
\\set nothing true
END
    if [ -n "$dry_run" ]; then
        cat <<END
SET default_transaction_read_only = on;
SELECT to_regclass('schema_migrations') IS NULL AS fresh \\gset
END
    else
        cat <<END
CREATE TABLE IF NOT EXISTS schema_migrations (
    version text PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
END
    fi
}

checksum() {
    sha256sum <"$1" | cut -d ' ' -f 1
}

# look_up FILE CHECKSUM: sets psql's variables there and changed.
look_up() {
    cat <<END
\\set there false
\\set changed false
\\if :fresh
\\else
    SELECT count(*) > 0 AS there, count(*) FILTER (WHERE checksum <> '$2') > 0 AS changed
    FROM schema_migrations WHERE version = '${1%%_*}' \\gset
\\endif
END
}

check_one() {
    look_up "$1" "$2"
    cat <<END
\\if :changed
    \\warn migrate.sh: $1 was changed after it had been applied; put it back and write a new one
    \\! echo 65 >&3
    \\q
\\endif
END
}

apply_one() {
    look_up "$1" "$2"
    printf '%s\n' '\if :there' '\else' '\set nothing false'
    if [ -n "$dry_run" ]; then
        printf '\\echo would apply %s\n' "$1"
    else
        cat <<END
BEGIN;
\\i $1
INSERT INTO schema_migrations (version, name, checksum) VALUES ('${1%%_*}', '$1', '$2');
COMMIT;
\\echo applied $1
END
    fi
    printf '%s\n' '\endif'
}

script() {
    head_of_script
    for file in *.sql; do
        check_one "$file" "$(checksum "$file")"
    done
    for file in *.sql; do
        apply_one "$file" "$(checksum "$file")"
    done
    printf '%s\n' '\if :nothing' '\echo nothing to apply' '\endif'
}

exec 4>&1
status=0
said=$(script | psql -X -q -A -t -v ON_ERROR_STOP=1 ${database:+-d "$database"} -f - 3>&1 >&4 4>&-) || status=$?
case $status:$said in
    0:'') exit 0 ;;
    0:*) exit "$said" ;;
    2:*) fail 69 "the database cannot be reached" ;;
    3:*) fail 65 "a migration failed; nothing of it was kept" ;;
    *) fail 70 "psql ended with exit code $status" ;;
esac
