/*
 * A latency distribution known only at bucket edges, and what "slower by a share tau" means for the count of requests
 * slower than an edge. S(b) is the share slower than b. Between edges logit S is linear in ln b; outside of them the
 * nearest segment is continued.
 */
#ifndef HALDANE_STATS_LATENCY_H
#define HALDANE_STATS_LATENCY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LATENCY_EDGES = 128 }; /* at most so many buckets, +Inf included */

struct latency_shape {
    size_t edges;               /* finite edges */
    double edge[LATENCY_EDGES]; /* seconds, ascending, > 0 */
    double slow[LATENCY_EDGES]; /* S(edge) of the sample, 0..1 */
    uint64_t requests;
};

/*
 * `le`: upper bounds, ascending, the last INFINITY; `buckets`: counts per bucket, not cumulative; `n` of both. Returns
 * false if le is not of that form or n > LATENCY_EDGES. Edges <= 0 are left out.
 */
bool latency_shape_init(struct latency_shape *shape, const double le[], const uint64_t buckets[], size_t n);

/* S(x), x > 0, interpolated. Shares at edges are kept inside [1/(2n), 1 - 1/(2n)] for the logit. */
double latency_slow_share(const struct latency_shape *shape, double x);

/* The x with S(x) = share, 0 < share < 1; the inverse of the above. NAN with fewer than two usable edges. */
double latency_at_share(const struct latency_shape *shape, double share);

/* S(b/(1+tau)) / S(b): how much more often a service that is slower by tau exceeds edge i. tau > -1. */
double latency_slow_ratio(const struct latency_shape *shape, size_t i, double tau);

/* F(b) / F(b/(1+tau)), F = 1 - S: the same for the complementary event "fast", stable over canary. */
double latency_fast_ratio(const struct latency_shape *shape, size_t i, double tau);

/* The tau at which latency_slow_ratio() = ratio (monotone; by bisection), -0.999..1e6. */
double latency_tau_of_slow_ratio(const struct latency_shape *shape, size_t i, double ratio);
/* The tau at which F(b/(1+tau)) / F(b) = ratio (canary's fast share over stable's; falls as tau grows). */
double latency_tau_of_fast_ratio(const struct latency_shape *shape, size_t i, double ratio);

#endif
