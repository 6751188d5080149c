/* What the files of the store share: the handle, a statement with sticky failure, and the lock file. */
#ifndef HALDANE_STORE_PRIVATE_H
#define HALDANE_STORE_PRIVATE_H

#include "analyzer/store/store.h"

#include <sqlite3.h>

enum { STORE_WAIT_MS = 5000 }; /* how long to wait for another process that is writing */

struct held_lock {
    int64_t seq;
    char *id;
};

struct store {
    sqlite3 *db;
    char *path; /* as the user named it, for messages */
    int lock_fd;
    struct held_lock *held;
    size_t held_count, held_room;
    bool guard; /* holds the guard's lock */
    bool in_transaction;
    struct error failure; /* of the first write that failed in the open transaction; ERROR_NONE: none did */
};

/* Translates a failure of SQLite into an error with the file and the mend. Returns false. */
bool store_fail(const struct store *store, int rc, struct error *err);

/* ERROR_DATA: `what` of the rollout `id` cannot be understood. Returns false. */
bool store_damaged(const struct store *store, const char *what, const char *id, struct error *err);

/*
 * A statement. A failure sticks: what comes after it does nothing, and sql_end() or sql_run() reports it. Values are
 * bound in order and must outlive the statement.
 */
struct sql {
    struct store *store;
    sqlite3_stmt *stmt;
    int bound;
    int rc;
};

struct sql sql_open(struct store *store, const char *text);
void sql_text(struct sql *sql, const char *value); /* NULL binds NULL */
void sql_int(struct sql *sql, int64_t value);
bool sql_row(struct sql *sql);                    /* steps; true while there is a row */
bool sql_end(struct sql *sql, struct error *err); /* frees the statement; false if anything failed since sql_open() */
bool sql_run(struct sql *sql, struct error *err); /* steps to the end, then sql_end() */

/* Columns of the row. The text is owned by the caller; NULL for NULL, or "" in the second form. */
int64_t sql_int_at(const struct sql *sql, int column);
char *sql_text_at(const struct sql *sql, int column);
char *sql_string_at(const struct sql *sql, int column);
/* False if the column is no share of traffic. */
bool sql_weight_at(const struct sql *sql, int column, uint32_t *weight_bp);

bool sql_exec(struct store *store, const char *text, struct error *err);
bool sql_number(struct store *store, const char *text, int64_t *number, struct error *err);

/* Opens a transaction unless the caller has one; `*own` says which. */
bool write_enter(struct store *store, bool *own, struct error *err);
/* Ends what write_enter() began: commits if `ok`. A failure in the caller's transaction makes its commit fail. */
bool write_leave(struct store *store, bool own, bool ok, struct error *err);

/* A view of the store that does not change between read_enter() and read_leave(). */
bool read_enter(struct store *store, bool *own, struct error *err);
void read_leave(struct store *store, bool own);

/*
 * One written row: write_row() finds the rollout and opens the statement with the rollout's row number bound first;
 * bind the rest, then write_end().
 */
struct write {
    struct sql sql;
    bool own;
};
bool write_row(struct write *write, struct store *store, const char *id, const char *text, struct error *err);
bool write_end(struct write *write, struct error *err);

/* The row number of a rollout. ERROR_NO_INPUT if there is none, with the newest ids. */
bool rollout_seq(struct store *store, const char *id, int64_t *seq, struct error *err);

/* ERROR_IO if the file is the database of another program. */
bool schema_recognise(struct store *store, struct error *err);
/* Creates the tables, or brings those of an older version up to date. Refuses a newer version. */
bool schema_migrate(struct store *store, struct error *err);

/* The lock file, and its record 0 that only one process at a time sets a store up under. */
bool lock_file_open(struct store *store, struct error *err);
void lock_file_close(struct store *store);
bool lock_setup(struct store *store, struct error *err);
void unlock_setup(struct store *store);

#endif
