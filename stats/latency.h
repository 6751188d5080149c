/*
 * A latency distribution known only at bucket edges, and what "slower by a share tau" means for the count of requests
 * slower than an edge. S(b) is the share slower than b, F = 1 - S. Between edges logit S is linear in ln b; outside of
 * them the nearest segment is continued.
 *
 * Why logit against ln: for a log-normal service in Prometheus's default buckets, at the edge 0.25 s and tau = 0.05,
 * the true S(b/(1+tau))/S(b) is 1.20; this interpolation gives 1.16, a linear one of F in b gives 1.90.
 *
 * If whole buckets are empty at an end, S is 1 or 0 at several edges; only the innermost of them says where the
 * distribution ends, so only that one is used. A segment on which S does not fall cannot be continued outwards; then
 * the nearest one that falls lends its slope. Without two edges in use and a segment that falls, or without requests,
 * the functions that return a double give NAN; so they do outside of their domain.
 *
 * Units: edges and x in seconds, but nothing depends on the unit. Complexity O(edges) for each evaluation.
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
    double slow[LATENCY_EDGES]; /* S(edge) of the sample, 0..1; all 0 without requests */
    uint64_t requests;
};

/*
 * `le`: upper bounds, ascending without repetition, the last INFINITY; `buckets`: counts per bucket, not cumulative;
 * `n` of both, >= 1. Returns false, and a shape without edges, if le is not of that form or n > LATENCY_EDGES. Edges
 * <= 0 are left out; what they counted is faster than every edge that is left.
 */
bool latency_shape_init(struct latency_shape *shape, const double le[], const uint64_t buckets[], size_t n);

/* S(x), x > 0, interpolated. Shares at edges are kept inside [1/(2n), 1 - 1/(2n)] for the logit, n the requests. */
double latency_slow_share(const struct latency_shape *shape, double x);

/* The x with S(x) = share, 0 < share < 1; the inverse of the above. Where S is flat: the smallest such x. */
double latency_at_share(const struct latency_shape *shape, double share);

/*
 * S(b/(1+tau)) / S(b): how much more often a service that is slower by tau exceeds edge i, b = edge[i]. tau > -1. This
 * is the margin rho of "slower than b" that a tolerance tau stands for. Rises with tau, 1 at tau = 0.
 */
double latency_slow_ratio(const struct latency_shape *shape, size_t i, double tau);

/*
 * F(b) / F(b/(1+tau)): the same for the complementary event "fast", stable over canary: stable is fast with F(b), a
 * canary slower by tau with F(b/(1+tau)). Rises with tau, 1 at tau = 0.
 */
double latency_fast_ratio(const struct latency_shape *shape, size_t i, double tau);

/*
 * The tau at which latency_slow_ratio() = ratio, ratio >= 0 (INFINITY allowed: an upper confidence limit may be). By
 * bisection in ln(1 + tau) to the last bits; -0.999 and 1e6 stand for everything beyond them.
 */
double latency_tau_of_slow_ratio(const struct latency_shape *shape, size_t i, double ratio);

/* The tau at which F(b/(1+tau)) / F(b) = ratio (canary's fast share over stable's; falls as tau grows). As above. */
double latency_tau_of_fast_ratio(const struct latency_shape *shape, size_t i, double ratio);

#endif
