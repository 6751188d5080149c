/*
 * HAProxy's answers as data. Columns are found by their name in the header line, never by number: their number differs
 * between versions. An answer that is no table is HAProxy's refusal, and is handed on in the error's text. Pure.
 */
#ifndef HALDANE_TRAFFIC_HAPROXY_PARSE_H
#define HALDANE_TRAFFIC_HAPROXY_PARSE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct haproxy_server {
    char *name;

    /* from `show servers state` */
    uint32_t weight;  /* the user's weight in force, 0 to 256 */
    uint32_t initial; /* of the configuration */
    bool running;     /* the balancer's own view of its health, without what an administrator said */
    bool maintenance, draining;

    /* from `show stat` */
    bool backup;
    bool checked; /* false: nobody looks at its health, and HAProxy takes it for up */
    bool http;    /* false: `failed` is not counted in TCP mode */
    uint64_t total, failed, connection_errors, retries, in_flight;
};

struct haproxy_backend {
    uint32_t id;
    char *algorithm; /* NULL until haproxy_parse_stat() */
    struct haproxy_server *servers;
    size_t count;
};

void haproxy_backend_free(struct haproxy_backend *backend);

/* Up and open for new traffic. */
bool haproxy_server_up(const struct haproxy_server *server);

/* The answer to `show servers state BACKEND`; `backend` is empty before and is freed by the caller also on failure. */
bool haproxy_parse_state(const char *answer, const char *name, struct haproxy_backend *backend, struct error *err);

/* The answer to `show stat ID 6 -1`, added to what haproxy_parse_state() found; each of its servers must be there. */
bool haproxy_parse_stat(const char *answer, const char *name, struct haproxy_backend *backend, struct error *err);

/* The answer to `show info`: a number that changes when the process is another one. */
bool haproxy_parse_info(const char *answer, uint64_t *generation, struct error *err);

/* The answer to `get weight BACKEND/SERVER`: "5 (initial 0)". */
bool haproxy_parse_weight(const char *answer, uint32_t *weight, struct error *err);

enum { HAPROXY_LINE = 240 };

/* The first line of an answer, cut and printable, for an error's text. */
const char *haproxy_first_line(const char *answer, char line[HAPROXY_LINE]);

#endif
