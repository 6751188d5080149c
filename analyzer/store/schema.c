/*
 * The tables, as a list of migrations: entry n brings version n to n + 1 and is never changed once released. The
 * version is SQLite's user_version; application_id tells our file from the database of another program, which is left
 * alone.
 *
 * Enumerations are stored by name, so that a person can read them in the sqlite3 shell.
 */
#include "analyzer/store/private.h"

#include <stdio.h>

enum { APPLICATION_ID = 0x484C444E }; /* "HLDN" */

static const char *const migrations[] = {
    "CREATE TABLE rollouts ("
    "  seq INTEGER PRIMARY KEY,"
    "  id TEXT NOT NULL UNIQUE,"
    "  service TEXT NOT NULL,"
    "  state TEXT NOT NULL,"
    "  cause TEXT NOT NULL,"
    "  step INTEGER NOT NULL,"
    "  weight_bp INTEGER NOT NULL,"
    "  begun_ms INTEGER NOT NULL,"
    "  step_since_ms INTEGER NOT NULL,"
    "  last_look_ms INTEGER NOT NULL,"
    "  lease_until_ms INTEGER NOT NULL,"
    "  ended_ms INTEGER NOT NULL,"
    "  reason TEXT"
    ") STRICT;"
    /* The database itself makes two live rollouts of one service impossible. Version 2 counts one more state. */
    "CREATE UNIQUE INDEX rollouts_live ON rollouts(service)"
    "  WHERE state NOT IN ('promoted', 'aborted', 'expired');"
    "CREATE TABLE policies ("
    "  rollout INTEGER PRIMARY KEY REFERENCES rollouts(seq),"
    "  sha256 TEXT NOT NULL,"
    "  source TEXT NOT NULL"
    ") STRICT;"
    "CREATE TABLE settings ("
    "  rollout INTEGER NOT NULL REFERENCES rollouts(seq),"
    "  name TEXT NOT NULL,"
    "  value TEXT NOT NULL,"
    "  PRIMARY KEY (rollout, name)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE intents ("
    "  rollout INTEGER PRIMARY KEY REFERENCES rollouts(seq),"
    "  weight_bp INTEGER NOT NULL,"
    "  at_ms INTEGER NOT NULL,"
    "  reason TEXT"
    ") STRICT;"
    "CREATE TABLE looks ("
    "  rollout INTEGER NOT NULL REFERENCES rollouts(seq),"
    "  at_ms INTEGER NOT NULL,"
    "  json TEXT NOT NULL,"
    "  PRIMARY KEY (rollout, at_ms)"
    ") STRICT;"
    "CREATE TABLE weights ("
    "  rollout INTEGER NOT NULL REFERENCES rollouts(seq),"
    "  from_ms INTEGER NOT NULL,"
    "  weight_bp INTEGER NOT NULL,"
    "  PRIMARY KEY (rollout, from_ms)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE decisions ("
    "  seq INTEGER PRIMARY KEY,"
    "  rollout INTEGER NOT NULL REFERENCES rollouts(seq),"
    "  at_ms INTEGER NOT NULL,"
    "  action TEXT NOT NULL,"
    "  by TEXT NOT NULL,"
    "  reason TEXT"
    ") STRICT;"
    "CREATE INDEX decisions_by_time ON decisions(rollout, at_ms);"
    "CREATE TABLE verdicts ("
    "  rollout INTEGER NOT NULL REFERENCES rollouts(seq),"
    "  look INTEGER NOT NULL,"
    "  at_ms INTEGER NOT NULL,"
    "  json TEXT NOT NULL,"
    "  PRIMARY KEY (rollout, look)"
    ") STRICT;"
    "CREATE TABLE audit ("
    "  seq INTEGER PRIMARY KEY,"
    "  rollout INTEGER NOT NULL REFERENCES rollouts(seq),"
    "  at_ms INTEGER NOT NULL,"
    "  actor TEXT NOT NULL,"
    "  event TEXT NOT NULL,"
    "  detail TEXT,"
    "  weight_bp INTEGER NOT NULL"
    ") STRICT;"
    "CREATE INDEX audit_by_rollout ON audit(rollout);",

    /* Numbers without a sign are kept as the number with a sign of the same bits. 7776000000 ms is 90 days. */
    "ALTER TABLE rollouts ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE rollouts ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE rollouts ADD COLUMN advise INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE rollouts ADD COLUMN retention_ms INTEGER NOT NULL DEFAULT 7776000000;"
    "ALTER TABLE rollouts ADD COLUMN pruned_ms INTEGER NOT NULL DEFAULT 0;"
    "DROP INDEX rollouts_live;"
    "CREATE UNIQUE INDEX rollouts_live ON rollouts(service)"
    "  WHERE state NOT IN ('promoted', 'aborted', 'expired', 'superseded');"
    "CREATE TABLE balancer ("
    "  rollout INTEGER NOT NULL REFERENCES rollouts(seq),"
    "  at_ms INTEGER NOT NULL,"
    "  json TEXT NOT NULL,"
    "  PRIMARY KEY (rollout, at_ms)"
    ") STRICT;",
};

enum { SCHEMA_VERSION = sizeof migrations / sizeof *migrations };

/* In one transaction of reading: another process may be setting the same file up. */
static bool read_marks(struct store *store, int64_t *application, int64_t *tables, struct error *err)
{
    bool own;
    if (!read_enter(store, &own, err))
        return false;
    bool ok = sql_number(store, "PRAGMA application_id", application, err) &&
              sql_number(store, "SELECT count(*) FROM sqlite_schema", tables, err);
    read_leave(store, own);
    return ok;
}

bool schema_recognise(struct store *store, struct error *err)
{
    int64_t application, tables;
    if (!read_marks(store, &application, &tables, err))
        return false;
    if (application == APPLICATION_ID || (application == 0 && tables == 0))
        return true;
    return error_set(err, ERROR_IO,
                     "the store %s is the database of another program; name another file with --db, or move this one "
                     "away",
                     store->path);
}

static bool run_migrations(struct store *store, int64_t from, struct error *err)
{
    for (int64_t version = from; version < SCHEMA_VERSION; version++)
        if (!sql_exec(store, migrations[version], err))
            return false;
    char stamp[96];
    snprintf(stamp, sizeof stamp, "PRAGMA application_id = %d; PRAGMA user_version = %d", (int)APPLICATION_ID,
             (int)SCHEMA_VERSION);
    return sql_exec(store, stamp, err);
}

bool schema_migrate(struct store *store, struct error *err)
{
    int64_t version;
    if (!sql_number(store, "PRAGMA user_version", &version, err))
        return false;
    if (version > SCHEMA_VERSION)
        return error_set(err, ERROR_IO,
                         "the store %s was written by a newer haldane (schema %lld, this one knows %d); upgrade "
                         "haldane, or name another file with --db",
                         store->path, (long long)version, (int)SCHEMA_VERSION);
    if (version < 0)
        return error_set(err, ERROR_IO, "the store %s is damaged: schema %lld; restore a backup", store->path,
                         (long long)version);
    if (version == SCHEMA_VERSION)
        return true;
    if (!store_begin(store, err))
        return false;
    if (run_migrations(store, version, err))
        return store_commit(store, err);
    store_rollback(store);
    return false;
}
