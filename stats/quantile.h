/* Quantiles from cumulative buckets with the semantics of PromQL's histogram_quantile(). */
#ifndef HALDANE_STATS_QUANTILE_H
#define HALDANE_STATS_QUANTILE_H

#include <stddef.h>
#include <stdint.h>

struct quantile_bucket {
    double le;
    double cumulative;
};

/* `buckets` is scratch: sorted and merged in place. NAN where PromQL gives NaN. */
double histogram_quantile(double q, struct quantile_bucket buckets[], size_t n);

/* The same from per-bucket counts; `le` ascending with INFINITY last. n <= LATENCY_EDGES. */
double bucket_quantile(double q, const double le[], const uint64_t counts[], size_t n);

#endif
