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

/*
 * `show activity` has a clock, too, but that one falls behind for good whenever the process was stopped for a moment,
 * and runs ahead when the system's clock is set back. So the expression of the rules themselves is evaluated. The last
 * command is there for the empty line that ends its answer: `get var` leaves it out.
 */
#define HAPROXY_ASK_CLOCK                                                                                              \
    "experimental-mode on; set var proc.haldane_now expr date(0,ms); get var proc.haldane_now; experimental-mode off"

struct haproxy_server {
    char *name;

    /* from `show servers state` */
    uint32_t weight;  /* the user's weight in force, 0 to 256 */
    uint32_t initial; /* of the configuration */
    bool running;     /* the balancer's own view of its health, without what an administrator said */
    bool stopped;     /* the balancer has seen it go down, or an administrator took it out */
    bool maintenance, draining;
    char *address; /* "10.0.0.7:8080"; "" where HAProxy does not tell */

    /* from `show stat` */
    bool backup;
    bool checked; /* false: nobody looks at its health, and HAProxy takes it for up */
    bool http;    /* false: `failed` is not counted in TCP mode */
    uint64_t total, failed, connection_errors, retries, redispatches, health_changes, in_flight;
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

/* The answer to HAPROXY_ASK_CLOCK: the clock that the balancer's rules see as `date`, in Unix milliseconds. */
bool haproxy_parse_clock(const char *answer, int64_t *now_ms, struct error *err);

/* What the map of the map driver says, read as HAProxy's rules read it (docs/traffic.md). */
struct haproxy_split {
    uint32_t share_bp;
    uint64_t epoch;
    int64_t expires; /* Unix seconds: the share holds as long as the clock shows less */
    bool whole;      /* each of the three entries is there once, and nothing else */
};

/*
 * The answer to `show map FILE`. A value that is no number is 0, one with something after its digits is its digits, and
 * an entry that is missing is 0: so `map(FILE,0)` and HAProxy's arithmetic take them. Of two entries of one key the
 * first holds. False if HAProxy has no such map, or the answer is no map at all.
 */
bool haproxy_parse_split(const char *answer, struct haproxy_split *split, struct error *err);

/* The answer to `prepare map FILE`: "New version created: 7". */
bool haproxy_parse_version(const char *answer, uint64_t *version, struct error *err);

/* The answer to `show map`: how many lines of the configuration look `file` up; 0 also if HAProxy has no such map. */
size_t haproxy_count_uses(const char *answer, const char *file);

enum { HAPROXY_LINE = 240 };

/* The first line of an answer, cut and printable, for an error's text. */
const char *haproxy_first_line(const char *answer, char line[HAPROXY_LINE]);

#endif
