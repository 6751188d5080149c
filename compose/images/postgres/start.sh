#!/bin/sh
# Makes the cluster, the role and the database at the first start, then becomes the server.
set -eu
data=/var/lib/postgresql/data/15
password=$(cat /run/secrets/db_password)
config=/etc/postgresql-stack

# In a folder that is renamed when it is complete: a start that was cut off begins anew.
make_cluster() {
    rm -rf "$data.new"
    initdb --pgdata="$data.new" --username=postgres --encoding=UTF8 --locale=C.UTF-8 --data-checksums \
        --auth-local=peer --auth-host=scram-sha-256 >/dev/null
    # Nobody can reach it meanwhile: no port, and the socket elsewhere.
    pg_ctl --pgdata="$data.new" --silent --wait --options="-c listen_addresses='' -k /tmp" start
    # The password comes by the environment, which nobody else sees, and is quoted by psql.
    DB_PASSWORD=$password psql --host=/tmp --username=postgres --no-psqlrc --quiet --set=ON_ERROR_STOP=1 <<'SQL'
\getenv password DB_PASSWORD
create role shop login password :'password';
create database shop owner shop;
SQL
    pg_ctl --pgdata="$data.new" --silent --wait --mode=fast stop
    mv "$data.new" "$data"
}

[ -d "$data" ] || make_cluster
exec postgres -D "$data" -c config_file=$config/postgresql.conf -c hba_file=$config/pg_hba.conf \
    -c ident_file="$data/pg_ident.conf"
