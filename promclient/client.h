/*
 * A client of Prometheus's HTTP API (also Thanos, Mimir, VictoriaMetrics): many instant queries at once, on connections
 * that are kept for the client's life.
 *
 * Queries go out in batches. A batch is started, moved on by prom_step(), and read when it is done; prom_query_all() is
 * that in one call. Every query of a batch ends with its own answer or its own error, whatever becomes of the others.
 *
 * A try that ends in a broken connection, a time-out or a 5xx is repeated after a growing, jittered pause, as long as
 * tries and time are left. A 4xx is never repeated. Redirects are not followed, cookies are not kept, signals are not
 * used. A client belongs to one thread at a time. Source: the HTTP API's page and libcurl-multi(3).
 */
#ifndef HALDANE_PROMCLIENT_CLIENT_H
#define HALDANE_PROMCLIENT_CLIENT_H

#include "promclient/answer.h"

struct prom_header {
    const char *name, *value;
};

/* Everything is copied. NULL and 0: not given, or the default. Secrets are named by their files only. */
struct prom_config {
    const char *url;    /* http or https, with the path prefix if there is one; no credentials in it */
    int64_t timeout_ms; /* of one try; default 10 s */
    const struct prom_header *headers;
    size_t header_count;
    const char *username, *password_file; /* basic auth, both or none */
    const char *bearer_token_file;        /* not together with basic auth */
    const char *ca_file;                  /* PEM; instead of the system's authorities */
    const char *cert_file, *key_file;     /* PEM; both or none */
    const char *server_name;              /* the name that the server's certificate must have, also sent as SNI */
    struct prom_limits limits;
    int tries;              /* of one query; default 3 */
    int64_t deadline_ms;    /* of a whole batch, from its start; default (tries + 1) * timeout_ms */
    int64_t retry_pause_ms; /* before the second try, doubled for each further one; default 200 */
    int parallel;           /* queries under way at once; default 16 */
};

/*
 * Checks the configuration; connects to nothing yet. NULL with ERROR_DATA if it is not usable. Batches are freed before
 * their client.
 */
struct prom_client *prom_client_new(const struct prom_config *config, struct error *err)
    __attribute__((warn_unused_result));
void prom_client_free(struct prom_client *client);

struct prom_query {
    const char *text; /* PromQL */
    int64_t at_ms;    /* evaluation time, Unix milliseconds */
    struct prom_expect expect;
};

/* Either answer or error. */
struct prom_result {
    const struct prom_answer *answer; /* owned by the batch; NULL if the query failed */
    struct error error;               /* why; code ERROR_NONE if there is an answer */
};

/*
 * Starts a batch of n queries (copied) and returns at once. The secrets' files are read here: a batch uses the
 * passwords of its own time. If one cannot be read, every query of the batch ends in that error.
 */
struct prom_batch *prom_start(struct prom_client *client, const struct prom_query queries[], size_t n)
    __attribute__((warn_unused_result));

/*
 * Moves all batches of the client on; returns as soon as a query has ended, or after max_wait_ms (0: without waiting).
 * True while anything is under way.
 */
bool prom_step(struct prom_client *client, int max_wait_ms);

bool prom_batch_done(const struct prom_batch *batch);

/* The result of query i, borrowed from a batch that is done. */
const struct prom_result *prom_batch_result(const struct prom_batch *batch, size_t i);

/* Also ends what is still under way. */
void prom_batch_free(struct prom_batch *batch);

/* Starts a batch and stays until it is done, at most until its deadline. */
struct prom_batch *prom_query_all(struct prom_client *client, const struct prom_query queries[], size_t n)
    __attribute__((warn_unused_result));

#endif
