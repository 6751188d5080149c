/*
 * Statements are prepared for each call: a look writes a handful of rows, so there is nothing to gain from keeping
 * them. A failure sticks to the statement, so that callers read as what they store and check once, at the end.
 */
#include "analyzer/store/private.h"
#include "base/memory.h"

#include <errno.h>
#include <string.h>

/* SQLite notes the errno of a failed statement, but not of a failed commit; errno itself was cleared before both. */
static bool fail_io(const struct store *store, const char *what, struct error *err)
{
    int number = errno ? errno : sqlite3_system_errno(store->db);
    if (number == ENOSPC || number == EDQUOT || number == EFBIG)
        return error_set(err, ERROR_IO,
                         "the store %s cannot grow: %s; nothing of this was written, make room and try again",
                         store->path, strerror(number));
    return error_set(err, ERROR_IO, "the store %s %s: %s; check the disk and the rights on the file and its folder",
                     store->path, what, number ? strerror(number) : sqlite3_errmsg(store->db));
}

bool store_fail(const struct store *store, int rc, struct error *err)
{
    const char *path = store->path;
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
        return error_set(err, ERROR_BUSY,
                         "the store %s is being written by another process and did not become free within %d s; try "
                         "again (`fuser FILE` names the process)",
                         path, STORE_WAIT_MS / 1000);
    case SQLITE_FULL:
        return error_set(err, ERROR_IO,
                         "the store %s cannot grow: the disk is full; nothing of this was written, make room and try "
                         "again",
                         path);
    case SQLITE_READONLY:
        return error_set(err, ERROR_IO,
                         "the store %s may only be read; give this user the right to write the file and its folder, or "
                         "name another file with --db",
                         path);
    case SQLITE_NOTADB:
        return error_set(err, ERROR_IO,
                         "the store %s is not a database; name another file with --db, or move this one away", path);
    case SQLITE_CORRUPT:
        return error_set(err, ERROR_IO,
                         "the store %s is damaged (%s); restore a backup, or save what is left as docs/store.md says",
                         path, sqlite3_errmsg(store->db));
    case SQLITE_CANTOPEN:
        return fail_io(store, "cannot be opened", err);
    case SQLITE_IOERR:
        return fail_io(store, "cannot be read or written", err);
    case SQLITE_NOMEM:
        return error_set(err, ERROR_SOFTWARE, "the store %s: out of memory; nothing of this was written", path);
    case SQLITE_CONSTRAINT:
        return error_set(err, ERROR_SOFTWARE, "the store %s refuses what haldane writes: %s; please report this fault",
                         path, sqlite3_errmsg(store->db));
    default:
        return error_set(err, ERROR_IO,
                         "the store %s cannot be used: %s; restore a backup or name another file with "
                         "--db",
                         path, sqlite3_errmsg(store->db));
    }
}

bool store_damaged(const struct store *store, const char *what, const char *id, struct error *err)
{
    return error_set(err, ERROR_DATA, "the store %s: %s of rollout %s is damaged; restore a backup", store->path, what,
                     id);
}

struct sql sql_open(struct store *store, const char *text)
{
    struct sql sql = {.store = store};
    errno = 0;
    sql.rc = sqlite3_prepare_v2(store->db, text, -1, &sql.stmt, NULL);
    return sql;
}

void sql_text(struct sql *sql, const char *value)
{
    if (sql->rc != SQLITE_OK)
        return;
    sql->bound++;
    if (value)
        sql->rc = sqlite3_bind_text64(sql->stmt, sql->bound, value, strlen(value), SQLITE_STATIC, SQLITE_UTF8);
    else
        sql->rc = sqlite3_bind_null(sql->stmt, sql->bound);
}

void sql_int(struct sql *sql, int64_t value)
{
    if (sql->rc == SQLITE_OK)
        sql->rc = sqlite3_bind_int64(sql->stmt, ++sql->bound, value);
}

bool sql_row(struct sql *sql)
{
    if (sql->rc == SQLITE_OK || sql->rc == SQLITE_ROW) {
        errno = 0;
        sql->rc = sqlite3_step(sql->stmt);
    }
    return sql->rc == SQLITE_ROW;
}

bool sql_end(struct sql *sql, struct error *err)
{
    bool ok = sql->rc == SQLITE_OK || sql->rc == SQLITE_ROW || sql->rc == SQLITE_DONE;
    if (!ok)
        store_fail(sql->store, sql->rc, err);
    sqlite3_finalize(sql->stmt);
    sql->stmt = NULL;
    return ok;
}

bool sql_run(struct sql *sql, struct error *err)
{
    while (sql_row(sql))
        ;
    return sql_end(sql, err);
}

int64_t sql_int_at(const struct sql *sql, int column)
{
    return sqlite3_column_int64(sql->stmt, column);
}

char *sql_text_at(const struct sql *sql, int column)
{
    return mem_strdup((const char *)sqlite3_column_text(sql->stmt, column));
}

char *sql_string_at(const struct sql *sql, int column)
{
    char *text = sql_text_at(sql, column);
    return text ? text : mem_strdup("");
}

bool sql_weight_at(const struct sql *sql, int column, uint32_t *weight_bp)
{
    int64_t value = sql_int_at(sql, column);
    if (value < 0 || value > BASIS_POINTS)
        return false;
    *weight_bp = (uint32_t)value;
    return true;
}

bool sql_exec(struct store *store, const char *text, struct error *err)
{
    errno = 0;
    int rc = sqlite3_exec(store->db, text, NULL, NULL, NULL);
    return rc == SQLITE_OK || store_fail(store, rc, err);
}

bool sql_number(struct store *store, const char *text, int64_t *number, struct error *err)
{
    struct sql sql = sql_open(store, text);
    *number = sql_row(&sql) ? sql_int_at(&sql, 0) : 0;
    return sql_end(&sql, err);
}
