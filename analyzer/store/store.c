/*
 * Opening, closing and transactions. Before anything is changed the file is recognised as ours; then one process at a
 * time sets it up (WAL mode and tables), because SQLite does not wait for its turn when two switch a new file to WAL.
 *
 * A transaction in which one write failed cannot be committed: some failures make SQLite roll back on its own, and what
 * is written after that would stand alone.
 */
#include "analyzer/store/private.h"
#include "base/memory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A new folder must survive a power cut, or the store in it does not. */
static void sync_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash == path ? 1 : (size_t)(slash - path);
    char *folder = mem_strndup(path, length);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (fd < 0)
        return;
    fsync(fd);
    close(fd);
}

/* `name` is absolute or begins with "./". */
static bool make_folders(const char *name, struct error *err)
{
    char *path = mem_strdup(name);
    bool ok = true;
    for (char *slash = strchr(path + 1, '/'); ok && slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (strchr(path, '/') && mkdir(path, 0700) == 0)
            sync_parent(path);
        else if (strchr(path, '/') && errno != EEXIST)
            ok = error_set(err, ERROR_IO,
                           "cannot make the folder %s for the store: %s; name a file in a folder that this user may "
                           "write, with --db",
                           path, strerror(errno));
        *slash = '/';
    }
    free(path);
    return ok;
}

static bool open_database(struct store *store, const char *name, struct error *err)
{
    /* SQLite would create it readable for all. If this fails, SQLite says why. */
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    errno = 0;
    int rc = sqlite3_open_v2(name, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_EXRESCODE, NULL);
    if (rc != SQLITE_OK)
        return store_fail(store, rc, err);
    if (sqlite3_db_readonly(store->db, "main") == 1)
        return store_fail(store, SQLITE_READONLY, err);
    sqlite3_busy_timeout(store->db, STORE_WAIT_MS);
    /* Nothing that a damaged or planted schema says may do more than fail. */
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    return true;
}

static bool use_wal(struct store *store, struct error *err)
{
    struct sql sql = sql_open(store, "PRAGMA journal_mode = WAL");
    char *mode = sql_row(&sql) ? sql_string_at(&sql, 0) : mem_strdup("");
    bool wal = strcmp(mode, "wal") == 0;
    free(mode);
    if (!sql_end(&sql, err))
        return false;
    return wal || error_set(err, ERROR_IO,
                            "the store %s is on a file system without shared memory (WAL); name a file on a local disk "
                            "with --db",
                            store->path);
}

static bool set_up(struct store *store, struct error *err)
{
    if (!lock_setup(store, err))
        return false;
    bool ok = use_wal(store, err) && sql_exec(store, "PRAGMA synchronous = FULL", err) && schema_migrate(store, err) &&
              sql_exec(store, "PRAGMA foreign_keys = ON", err);
    unlock_setup(store);
    return ok;
}

struct store *store_open(const char *path, struct error *err)
{
    if (!path[0]) {
        error_set(err, ERROR_USAGE, "the store has no name; name a file with --db");
        return NULL;
    }
    struct store *store = mem_alloc(1, sizeof *store);
    store->path = mem_strdup(path);
    store->lock_fd = -1;
    /* "./" keeps SQLite from taking a name as one of its own, such as ":memory:". */
    char *name = mem_printf("%s%s", path[0] == '/' ? "" : "./", path);
    bool ok = make_folders(name, err) && open_database(store, name, err) && schema_recognise(store, err) &&
              lock_file_open(store, err) && set_up(store, err);
    free(name);
    if (ok)
        return store;
    store_close(store);
    return NULL;
}

bool store_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 || errno != ENOENT;
}

void store_close(struct store *store)
{
    if (!store)
        return;
    int rc = sqlite3_close(store->db); /* rolls back an open transaction */
    assert(rc == SQLITE_OK);
    (void)rc;
    lock_file_close(store);
    free(store->path);
    free(store);
}

bool store_begin(struct store *store, struct error *err)
{
    assert(!store->in_transaction);
    /* The right to write is taken now, so that waiting for it cannot fail half-way. */
    if (!sql_exec(store, "BEGIN IMMEDIATE", err))
        return false;
    store->in_transaction = true;
    store->failure.code = ERROR_NONE;
    return true;
}

bool store_commit(struct store *store, struct error *err)
{
    assert(store->in_transaction);
    if (store->failure.code != ERROR_NONE) {
        error_set(err, store->failure.code, "%s", store->failure.text);
        store_rollback(store);
        return false;
    }
    if (!sql_exec(store, "COMMIT", err)) {
        store_rollback(store);
        return false;
    }
    store->in_transaction = false;
    return true;
}

void store_rollback(struct store *store)
{
    if (!sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    store->in_transaction = false;
    store->failure.code = ERROR_NONE;
}

bool write_enter(struct store *store, bool *own, struct error *err)
{
    *own = !store->in_transaction;
    if (*own)
        return store_begin(store, err);
    if (store->failure.code != ERROR_NONE)
        return error_set(err, store->failure.code, "%s", store->failure.text);
    return true;
}

bool write_leave(struct store *store, bool own, bool ok, struct error *err)
{
    if (own && ok)
        return store_commit(store, err);
    if (own)
        store_rollback(store);
    else if (!ok && err)
        store->failure = *err;
    else if (!ok)
        error_set(&store->failure, ERROR_IO, "the store %s: an earlier write of this transaction failed", store->path);
    return ok;
}

bool write_row(struct write *write, struct store *store, const char *id, const char *text, struct error *err)
{
    if (!write_enter(store, &write->own, err))
        return false;
    int64_t seq;
    if (!rollout_seq(store, id, &seq, err))
        return write_leave(store, write->own, false, err);
    write->sql = sql_open(store, text);
    sql_int(&write->sql, seq);
    return true;
}

bool write_end(struct write *write, struct error *err)
{
    struct store *store = write->sql.store;
    bool ok = sql_run(&write->sql, err);
    return write_leave(store, write->own, ok, err);
}

bool read_enter(struct store *store, bool *own, struct error *err)
{
    *own = !store->in_transaction;
    return !*own || sql_exec(store, "BEGIN", err);
}

void read_leave(struct store *store, bool own)
{
    if (own && !sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL); /* nothing was written */
}
