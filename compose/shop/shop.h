/* What the pieces of the demo shop share: its options, its metrics, the waiting requests and its listening socket. */
#ifndef HALDANE_COMPOSE_SHOP_SHOP_H
#define HALDANE_COMPOSE_SHOP_SHOP_H

#include "base/error.h"
#include "base/strbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shop_options {
    char *host;          /* numeric address */
    char *port;          /* "0": the kernel chooses */
    const char *version; /* 1..64 of [A-Za-z0-9._+-] */
    double failure_share;
    double latency_median_ms;
    double latency_sigma;
    double latency_factor;
    uint64_t leak_bytes;    /* per business request */
    int64_t crash_after_ms; /* negative: never */
    int64_t drain_ms;
    uint64_t seed;
};

/* Serves until SIGTERM or SIGINT and the drain is over. False only if it could not start. */
bool shop_serve(const struct shop_options *options, struct error *err);

/* --- metrics.c: what /metrics tells. Only business requests are counted. --- */

enum shop_method { METHOD_GET, METHOD_HEAD, METHOD_POST, METHOD_COUNT };

enum { LATENCY_BUCKETS = 22, CODE_COUNT = 5 };

struct shop_metrics {
    uint64_t requests[METHOD_COUNT][CODE_COUNT];
    uint64_t bucket[LATENCY_BUCKETS + 1]; /* not cumulative; the last is +Inf */
    double seconds_sum;
    uint64_t in_flight;
    double started_at; /* Unix seconds */
};

void metrics_init(struct shop_metrics *metrics);

/* `code` must be one the shop answers business requests with: 200, 201, 404, 413 or 500. */
void metrics_count(struct shop_metrics *metrics, enum shop_method method, unsigned code, double seconds);

/* Adds the Prometheus text format. */
void metrics_write(const struct shop_metrics *metrics, const char *version, struct strbuf *out);

/* --- delay.c: requests that wait for their time, earliest first. --- */

struct delayed {
    int64_t due_ns;
    void *request;
};

struct delay_queue {
    struct delayed *heap;
    size_t count;
    size_t room;
};

void delay_push(struct delay_queue *queue, int64_t due_ns, void *request);
int64_t delay_next(const struct delay_queue *queue);            /* INT64_MAX if nothing waits */
void *delay_pop_due(struct delay_queue *queue, int64_t now_ns); /* NULL if nothing is due */
void delay_free(struct delay_queue *queue);

/* --- socket.c --- */

/* A listening, non-blocking socket, or -1. `shown` gets the address it really has, as 127.0.0.1:8080. */
int socket_listen(const char *host, const char *port, char *shown, size_t size, struct error *err);

/* Lets no new handshake begin on a listening socket, while those that have begun still end in its queue. */
void socket_refuse_new(int fd);

#endif
