/* What /metrics tells. Of requests only those of business are counted. */
#ifndef HALDANE_COMPOSE_SHOP_METRICS_H
#define HALDANE_COMPOSE_SHOP_METRICS_H

#include "base/strbuf.h"
#include "compose/shop/dependency.h"

#include <stdbool.h>
#include <stdint.h>

enum shop_method { METHOD_GET, METHOD_HEAD, METHOD_POST, METHOD_COUNT };

enum cache_outcome { CACHE_HIT, CACHE_MISS, CACHE_ERROR, CACHE_OUTCOMES };

enum { LATENCY_BUCKETS = 22, DATABASE_BUCKETS = 11, CODE_COUNT = 6 };

struct shop_metrics {
    uint64_t requests[METHOD_COUNT][CODE_COUNT];
    uint64_t bucket[LATENCY_BUCKETS + 1]; /* not cumulative; the last is +Inf */
    double seconds_sum;
    uint64_t in_flight;
    double started_at;                 /* Unix seconds */
    const struct dependency *database; /* NULL: the shop has none, and no series of it */
    uint64_t database_bucket[DATABASE_BUCKETS + 1];
    double database_seconds_sum;
    uint64_t database_errors;
    const struct dependency *cache; /* NULL: the shop has none, and no series of it */
    uint64_t cache_requests[CACHE_OUTCOMES];
};

void metrics_init(struct shop_metrics *metrics);

/* `code` must be one the shop answers business requests with: 200, 201, 404, 413, 500 or 503. */
void metrics_count(struct shop_metrics *metrics, enum shop_method method, unsigned code, double seconds);

/* A query that was taken: the time from the question to its end, and whether that was an answer. */
void metrics_database(struct shop_metrics *metrics, double seconds, bool answered);

/* A query that was not taken. */
void metrics_database_refused(struct shop_metrics *metrics);

/* A look-up. */
void metrics_cache(struct shop_metrics *metrics, enum cache_outcome outcome);

/* Adds the Prometheus text format. */
void metrics_write(const struct shop_metrics *metrics, const char *version, struct strbuf *out);

#endif
