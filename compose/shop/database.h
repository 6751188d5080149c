/*
 * The shop's way to PostgreSQL: a small pool of connections on the one loop. Nothing here ever waits; a query has a
 * deadline from the moment it is asked, and what cannot be answered by then is said to be so.
 *
 * A turn of the loop: database_watch, the wait, database_run. database_wake says how long the wait may be at most.
 */
#ifndef HALDANE_COMPOSE_SHOP_DATABASE_H
#define HALDANE_COMPOSE_SHOP_DATABASE_H

#include "base/error.h"
#include "compose/shop/dependency.h"
#include "compose/shop/loop.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

struct database;
struct shop_metrics;

enum { DATABASE_CONNECTIONS_MAX = 64, DATABASE_VALUES = 4 };

struct database_options {
    const char *conninfo;      /* libpq's connection string or URI; one host */
    const char *password_file; /* NULL: no password but that of conninfo */
    unsigned connections;      /* 1..DATABASE_CONNECTIONS_MAX */
    int64_t deadline_ms;       /* of a query, and of each attempt to connect */
};

/* One statement with its values. It belongs to the asker and must live, values included, until `done` is called. */
struct database_query {
    const char *sql; /* one statement; $1, $2, ... stand for the values */
    int count;
    const char *values[DATABASE_VALUES]; /* NULL: SQL's null */
    int lengths[DATABASE_VALUES];        /* of binary values */
    int formats[DATABASE_VALUES];        /* 0: text, ends in NUL; 1: binary */
    /*
     * Called exactly once. `result` has rows (PGRES_TUPLES_OK), or is an error of SQLSTATE class 23: the data broke a
     * rule. It belongs to the pool. NULL: no answer in time, the connection was lost, or the database refused. Whether
     * the statement took effect is then unknown.
     */
    void (*done)(struct database_query *query, const PGresult *result);

    /* the pool's own */
    struct database_query *next;
    int64_t asked_ns;
};

/* NULL and ERROR_USAGE for a conninfo that libpq cannot read, ERROR_NO_INPUT for the password file. */
struct database *database_new(const struct database_options *options, const char *application,
                              struct shop_metrics *metrics, struct error *err);

const struct dependency *database_state(const struct database *database);

/* False if the database is down or too many queries wait already: then `done` is not called. */
bool database_ask(struct database *database, struct database_query *query);

void database_watch(struct database *database, struct loop_set *set);
int64_t database_wake(const struct database *database);
void database_run(struct database *database, const struct loop_set *set);

/* Ends the connections; every query that is under way is answered with NULL, and every later one is refused. */
void database_close(struct database *database);
void database_free(struct database *database); /* NULL is allowed */

#endif
