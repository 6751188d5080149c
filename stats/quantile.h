/*
 * Quantiles from buckets, with the semantics of PromQL's histogram_quantile(), so that a report shows the numbers of
 * the user's own dashboards. For display only; no verdict depends on them.
 */
#ifndef HALDANE_STATS_QUANTILE_H
#define HALDANE_STATS_QUANTILE_H

#include <stddef.h>
#include <stdint.h>

/* `cumulative` observations were at most `le`. */
struct quantile_bucket {
    double le;
    double cumulative;
};

/*
 * The q-quantile in the unit of `le`: with rank = q * total, the first bucket whose cumulative count reaches the rank,
 * interpolated linearly from the edge below it (from 0 in the first bucket). If that bucket is +Inf: the highest finite
 * edge. If it is the first and its edge is <= 0: that edge.
 *
 * `buckets` is scratch of n entries in any order: it is sorted, equal edges are added up, and counts that fall are
 * raised to the one before. -INFINITY for q < 0, INFINITY for q > 1. NAN for q = NAN, without a +Inf bucket, with fewer
 * than two buckets, without observations, and for q = 0 on an empty first bucket.
 *
 * Source: the PromQL documentation of histogram_quantile(); Prometheus 2.x, classic histograms.
 */
double histogram_quantile(double q, struct quantile_bucket buckets[], size_t n);

/* The same from counts per bucket, not cumulative; `le` ascending with INFINITY last. NAN if n > LATENCY_EDGES. */
double bucket_quantile(double q, const double le[], const uint64_t counts[], size_t n);

#endif
