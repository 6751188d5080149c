/*
 * Buckets of one histogram may come from instances of different versions, scraped at different instants: edges repeat
 * and cumulative counts may fall. They are mended first, as Prometheus does; then the rank is looked up.
 */
#include "stats/quantile.h"

#include <math.h>
#include <stdlib.h>

#include "stats/latency.h"

/* Sums of floats in another order differ by so much, relatively; such a difference is none. */
static const double same_count = 1e-12;

static int by_edge(const void *a, const void *b)
{
    double x = ((const struct quantile_bucket *)a)->le, y = ((const struct quantile_bucket *)b)->le;
    return (x > y) - (x < y);
}

/* Adds up sorted buckets of equal edges; returns how many are left. */
static size_t merge_equal_edges(struct quantile_bucket buckets[], size_t n)
{
    size_t last = 0;
    for (size_t i = 1; i < n; i++) {
        if (buckets[i].le == buckets[last].le)
            buckets[last].cumulative += buckets[i].cumulative;
        else
            buckets[++last] = buckets[i];
    }
    return last + 1;
}

static void make_monotone(struct quantile_bucket buckets[], size_t n)
{
    for (size_t i = 1; i < n; i++) {
        double before = buckets[i - 1].cumulative, here = buckets[i].cumulative;
        if (here < before || here - before < same_count * (here + before))
            buckets[i].cumulative = before;
    }
}

static double interpolate(double rank, const struct quantile_bucket buckets[], size_t n)
{
    size_t i = 0;
    while (i < n - 1 && buckets[i].cumulative < rank)
        i++;
    if (i == n - 1)
        return buckets[n - 2].le;
    if (i == 0 && buckets[0].le <= 0)
        return buckets[0].le;
    double from = i == 0 ? 0 : buckets[i - 1].le, below = i == 0 ? 0 : buckets[i - 1].cumulative;
    return from + (buckets[i].le - from) * ((rank - below) / (buckets[i].cumulative - below));
}

double histogram_quantile(double q, struct quantile_bucket buckets[], size_t n)
{
    if (isnan(q))
        return NAN;
    if (q < 0)
        return -INFINITY;
    if (q > 1)
        return INFINITY;
    if (n == 0)
        return NAN;
    for (size_t i = 0; i < n; i++)
        if (isnan(buckets[i].le) || isnan(buckets[i].cumulative))
            return NAN;
    qsort(buckets, n, sizeof *buckets, by_edge);
    if (buckets[n - 1].le != INFINITY)
        return NAN;
    n = merge_equal_edges(buckets, n);
    make_monotone(buckets, n);
    if (n < 2 || buckets[n - 1].cumulative == 0)
        return NAN;
    return interpolate(q * buckets[n - 1].cumulative, buckets, n);
}

double bucket_quantile(double q, const double le[], const uint64_t counts[], size_t n)
{
    if (n > LATENCY_EDGES)
        return NAN;
    struct quantile_bucket buckets[LATENCY_EDGES];
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += counts[i];
        buckets[i] = (struct quantile_bucket){le[i], (double)sum};
    }
    return histogram_quantile(q, buckets, n);
}
