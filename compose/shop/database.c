/*
 * Each connection (a link) is a small state machine:
 *
 *     resting -> resolving -> connecting -> settling -> idle <-> busy
 *        ^___________|____________|____________|__________|_________|   on any fault or deadline
 *
 * Queries wait in one queue, first come first served. All have the same deadline, so the first in the queue is always
 * the next to be late. A query that is late costs its connection: its answer would come in the place of the next one's,
 * and what made one query late makes the next one late as well. The server ends it by its own statement_timeout.
 *
 * The database is up while one link is idle or busy. While it is down a query is refused at once rather than at its
 * deadline: whoever asks can then be told to come again, and nobody waits for nothing.
 */
#include "compose/shop/database.h"

#include "base/memory.h"
#include "compose/shop/metrics.h"
#include "compose/shop/resolve.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WAITING_MAX = 256 };

enum link_state { RESTING, RESOLVING, CONNECTING, SETTLING, IDLE, BUSY };

struct link {
    enum link_state state;
    PGconn *pg;
    struct resolve *resolve;
    PostgresPollingStatusType wants; /* CONNECTING: what libpq waits for */
    bool unsent;                     /* SETTLING, BUSY: part of the query is still in libpq's buffer */
    PGresult *result;                /* SETTLING, BUSY: the first one, until the last has come */
    struct database_query *query;    /* BUSY */
    int64_t due_ns;                  /* RESTING: begin again; IDLE: never; otherwise: give up */
    unsigned failures;               /* in a row */
    size_t place;                    /* in the loop's set */
};

struct database {
    char *conninfo;
    char *password_file;
    char *application;
    char *host; /* NULL: nothing to look up */
    int64_t deadline_ns;
    struct link *links;
    size_t link_count;
    struct database_query *first; /* those that wait for a link */
    struct database_query *last;
    size_t waiting;
    bool closed;
    struct dependency state;
    struct shop_metrics *metrics;
};

/* --- queries --- */

static void finish(struct database *database, struct database_query *query, const PGresult *result)
{
    metrics_database(database->metrics, (double)(loop_now_ns() - query->asked_ns) / 1e9, result != NULL);
    query->done(query, result);
}

static struct database_query *take_waiting(struct database *database)
{
    struct database_query *query = database->first;
    if (!query)
        return NULL;
    database->first = query->next;
    if (!database->first)
        database->last = NULL;
    database->waiting--;
    return query;
}

static void refuse_waiting(struct database *database)
{
    for (struct database_query *query; (query = take_waiting(database));)
        finish(database, query, NULL);
}

bool database_ask(struct database *database, struct database_query *query)
{
    if (database->closed || !database->state.up || database->waiting >= WAITING_MAX) {
        metrics_database_refused(database->metrics);
        return false;
    }
    query->next = NULL;
    query->asked_ns = loop_now_ns();
    if (database->last)
        database->last->next = query;
    else
        database->first = query;
    database->last = query;
    database->waiting++;
    return true;
}

/* --- links --- */

static bool usable(const struct link *link)
{
    return link->state == IDLE || link->state == BUSY;
}

static size_t count_usable(const struct database *database)
{
    size_t count = 0;
    for (size_t i = 0; i < database->link_count; i++)
        count += usable(&database->links[i]);
    return count;
}

static void disconnect(struct link *link)
{
    resolve_abandon(link->resolve);
    link->resolve = NULL;
    PQclear(link->result);
    link->result = NULL;
    PQfinish(link->pg);
    link->pg = NULL;
    link->place = LOOP_NOWHERE;
    link->state = RESTING;
}

/* The queries come last: whoever is told so may ask again, and must find the state as it is. */
static void link_fail(struct database *database, struct link *link, const char *why)
{
    struct database_query *query = link->query;
    char reason[256];
    snprintf(reason, sizeof reason, "%s", why); /* `why` may be in the connection that goes */
    link->query = NULL;
    disconnect(link);
    link->due_ns = loop_now_ns() + backoff_ns(link->failures++);
    bool down = count_usable(database) == 0;
    if (down)
        dependency_down(&database->state, reason);
    if (query)
        finish(database, query, NULL);
    if (down)
        refuse_waiting(database);
}

/* Notices of the server are not for our stderr. */
static void ignore_notice(void *unused, const char *text)
{
    (void)unused;
    (void)text;
}

/* `address` NULL: libpq finds the server by conninfo alone. */
static void link_connect(struct database *database, struct link *link, const char *address)
{
    struct error err = {0};
    char *password = NULL;
    if (database->password_file && !(password = secret_read(database->password_file, &err))) {
        link_fail(database, link, err.text);
        return;
    }
    /* What comes later counts; NULL leaves it to conninfo. */
    const char *const names[] = {"dbname",          "password", "hostaddr", "fallback_application_name",
                                 "client_encoding", NULL};
    const char *const values[] = {database->conninfo, password, address, database->application, "UTF8", NULL};
    link->pg = PQconnectStartParams(names, values, 1);
    if (password)
        explicit_bzero(password, strlen(password));
    free(password);
    if (!link->pg || PQstatus(link->pg) == CONNECTION_BAD) {
        link_fail(database, link, link->pg ? PQerrorMessage(link->pg) : "out of memory");
        return;
    }
    PQsetNoticeProcessor(link->pg, ignore_notice, NULL);
    link->state = CONNECTING;
    link->wants = PGRES_POLLING_WRITING;
}

static void link_begin(struct database *database, struct link *link)
{
    link->due_ns = loop_now_ns() + database->deadline_ns;
    if (!database->host) {
        link_connect(database, link, NULL);
        return;
    }
    link->resolve = resolve_begin(database->host);
    link->state = RESOLVING;
}

static void link_resolved(struct database *database, struct link *link)
{
    struct error err = {0};
    char address[RESOLVE_ADDRESS];
    bool found = resolve_end(link->resolve, link->failures, address, &err);
    link->resolve = NULL;
    if (found)
        link_connect(database, link, address);
    else
        link_fail(database, link, err.text);
}

/* False if the connection broke. */
static bool flush(struct link *link)
{
    int left = PQflush(link->pg);
    link->unsent = left > 0;
    return left >= 0;
}

/* The first statement of a connection shows that the server answers, and has it keep our deadline. */
static void link_settle(struct database *database, struct link *link)
{
    char sql[64];
    snprintf(sql, sizeof sql, "SET statement_timeout = %" PRId64, database->deadline_ns / NS_PER_MS);
    link->state = SETTLING;
    if (PQsetnonblocking(link->pg, 1) != 0 || !PQsendQuery(link->pg, sql) || !flush(link))
        link_fail(database, link, PQerrorMessage(link->pg));
}

static void link_go_on_connecting(struct database *database, struct link *link)
{
    link->wants = PQconnectPoll(link->pg);
    if (link->wants == PGRES_POLLING_OK)
        link_settle(database, link);
    else if (link->wants == PGRES_POLLING_FAILED)
        link_fail(database, link, PQerrorMessage(link->pg));
}

static void link_send(struct database *database, struct link *link, struct database_query *query)
{
    link->state = BUSY;
    link->query = query;
    link->due_ns = query->asked_ns + database->deadline_ns;
    if (!PQsendQueryParams(link->pg, query->sql, query->count, NULL, query->values, query->lengths, query->formats,
                           0) ||
        !flush(link))
        link_fail(database, link, PQerrorMessage(link->pg));
}

static bool is_answer(const PGresult *result)
{
    if (PQresultStatus(result) == PGRES_TUPLES_OK)
        return true;
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    return state && strncmp(state, "23", 2) == 0;
}

/* All results of a statement have come. */
static void link_answered(struct database *database, struct link *link)
{
    struct database_query *query = link->query;
    PGresult *result = link->result;
    bool settled = link->state == BUSY || PQresultStatus(result) == PGRES_COMMAND_OK;
    if (PQstatus(link->pg) == CONNECTION_BAD || !settled) {
        link_fail(database, link, PQerrorMessage(link->pg));
        return;
    }
    link->query = NULL;
    link->result = NULL;
    link->state = IDLE;
    link->due_ns = INT64_MAX;
    link->failures = 0;
    if (!query) {
        dependency_up(&database->state);
    } else if (is_answer(result)) {
        finish(database, query, result);
    } else {
        dependency_tell(&database->state, PQresultErrorMessage(result));
        finish(database, query, NULL);
    }
    PQclear(result);
}

static void link_talk(struct database *database, struct link *link, short seen)
{
    if (((seen & POLLOUT) && !flush(link)) || ((seen & ~POLLOUT) && !PQconsumeInput(link->pg))) {
        link_fail(database, link, PQerrorMessage(link->pg));
        return;
    }
    if (link->unsent && !flush(link)) {
        link_fail(database, link, PQerrorMessage(link->pg));
        return;
    }
    while (link->state != IDLE && !PQisBusy(link->pg)) {
        PGresult *result = PQgetResult(link->pg);
        if (!result) {
            link_answered(database, link);
            return;
        }
        if (link->result)
            PQclear(result);
        else
            link->result = result;
    }
}

static const char *lateness(enum link_state state)
{
    switch (state) {
    case RESOLVING:
        return "the name server did not answer in time";
    case BUSY:
        return "a query was not answered in time";
    default:
        return "the server did not answer in time";
    }
}

static void link_run(struct database *database, struct link *link, short seen)
{
    if (seen && link->state == RESOLVING)
        link_resolved(database, link);
    else if (seen && link->state == CONNECTING)
        link_go_on_connecting(database, link);
    else if (seen && link->state > CONNECTING)
        link_talk(database, link, seen);
    if (loop_now_ns() < link->due_ns)
        return;
    if (link->state == RESTING)
        link_begin(database, link);
    else
        link_fail(database, link, lateness(link->state));
}

/* --- the loop --- */

static void send_waiting(struct database *database)
{
    for (size_t i = 0; i < database->link_count && database->first; i++)
        if (database->links[i].state == IDLE)
            link_send(database, &database->links[i], take_waiting(database));
}

static void watch_link(struct link *link, struct loop_set *set)
{
    link->place = LOOP_NOWHERE;
    if (link->state == RESOLVING)
        link->place = loop_add(set, resolve_fd(link->resolve), POLLIN);
    else if (link->state == CONNECTING)
        link->place = loop_add(set, PQsocket(link->pg), link->wants == PGRES_POLLING_READING ? POLLIN : POLLOUT);
    else if (link->state != RESTING)
        link->place = loop_add(set, PQsocket(link->pg), link->unsent ? POLLIN | POLLOUT : POLLIN);
}

void database_watch(struct database *database, struct loop_set *set)
{
    send_waiting(database);
    for (size_t i = 0; i < database->link_count; i++)
        watch_link(&database->links[i], set);
}

int64_t database_wake(const struct database *database)
{
    int64_t wake = database->first ? database->first->asked_ns + database->deadline_ns : INT64_MAX;
    for (size_t i = 0; i < database->link_count; i++)
        if (database->links[i].due_ns < wake)
            wake = database->links[i].due_ns;
    return wake;
}

void database_run(struct database *database, const struct loop_set *set)
{
    if (database->closed)
        return;
    for (size_t i = 0; i < database->link_count; i++)
        link_run(database, &database->links[i], loop_seen(set, database->links[i].place));
    while (database->first && loop_now_ns() >= database->first->asked_ns + database->deadline_ns)
        finish(database, take_waiting(database), NULL);
}

/* --- begin and end --- */

/* The name that libpq would look up, if it is one: not a socket's folder, not an address given beside it. */
static bool find_host(const char *conninfo, char **host, struct error *err)
{
    char *why = NULL;
    PQconninfoOption *options = PQconninfoParse(conninfo, &why);
    if (!options) {
        error_set(err, ERROR_USAGE, "--database takes a connection string of libpq, as \"host=db user=shop\": %.*s",
                  why ? (int)strcspn(why, "\n") : 0, why ? why : "");
        PQfreemem(why);
        return false;
    }
    const char *name = getenv("PGHOST");
    const char *address = getenv("PGHOSTADDR");
    for (PQconninfoOption *option = options; option->keyword; option++) {
        if (option->val && strcmp(option->keyword, "host") == 0)
            name = option->val;
        if (option->val && strcmp(option->keyword, "hostaddr") == 0)
            address = option->val;
    }
    bool several = name && strchr(name, ',') != NULL;
    if (name && name[0] != '\0' && name[0] != '/' && name[0] != '@' && !address)
        *host = mem_strdup(name);
    PQconninfoFree(options);
    return !several || error_set(err, ERROR_USAGE, "--database takes one host, not several");
}

static bool check_password(const char *path, struct error *err)
{
    char *password = path ? secret_read(path, err) : NULL;
    bool good = !path || password;
    if (password)
        explicit_bzero(password, strlen(password));
    free(password);
    return good;
}

struct database *database_new(const struct database_options *options, const char *application,
                              struct shop_metrics *metrics, struct error *err)
{
    assert(options->connections >= 1 && options->connections <= DATABASE_CONNECTIONS_MAX);
    struct database *database = mem_alloc(1, sizeof *database);
    if (!find_host(options->conninfo, &database->host, err) || !check_password(options->password_file, err)) {
        database_free(database);
        return NULL;
    }
    database->conninfo = mem_strdup(options->conninfo);
    database->password_file = mem_strdup(options->password_file);
    database->application = mem_strdup(application);
    database->deadline_ns = options->deadline_ms * NS_PER_MS;
    database->link_count = options->connections;
    database->links = mem_alloc(database->link_count, sizeof *database->links);
    for (size_t i = 0; i < database->link_count; i++)
        database->links[i] = (struct link){.due_ns = loop_now_ns(), .place = LOOP_NOWHERE};
    database->metrics = metrics;
    dependency_init(&database->state, "database");
    return database;
}

const struct dependency *database_state(const struct database *database)
{
    return &database->state;
}

void database_close(struct database *database)
{
    database->closed = true;
    for (size_t i = 0; i < database->link_count; i++) {
        struct database_query *query = database->links[i].query;
        database->links[i].query = NULL;
        disconnect(&database->links[i]);
        if (query)
            finish(database, query, NULL);
    }
    refuse_waiting(database);
}

void database_free(struct database *database)
{
    if (!database)
        return;
    database_close(database);
    free(database->links);
    free(database->conninfo);
    free(database->password_file);
    free(database->application);
    free(database->host);
    free(database);
}
