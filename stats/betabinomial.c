/*
 * E is a ratio of two beta densities at p0, so its logarithm is a difference of two kernels that keep their digits for
 * any counts. In p it falls up to s/n and rises from there, which gives the interval's ends and the least E of a band.
 */
#include "stats/betabinomial.h"

#include <float.h>
#include <math.h>

#include "stats/beta.h"

static bool in_domain(uint64_t s, uint64_t n, double a, double b)
{
    return s <= n && a > 0 && b > 0 && isfinite(a) && isfinite(b);
}

static bool is_inside(double p)
{
    return p > 0 && p < 1;
}

double bb_log_e(uint64_t s, uint64_t n, double p0, double a, double b)
{
    if (!in_domain(s, n, a, b) || !is_inside(p0))
        return NAN;
    return log_beta_kernel(a, b, p0) - log_beta_kernel(a + (double)s, b + (double)(n - s), p0);
}

double bb_log_e_upper(uint64_t s, uint64_t n, double p0, double a, double b)
{
    if (!in_domain(s, n, a, b) || !is_inside(p0))
        return NAN;
    return bb_log_e(s, n, p0, a, b) + log_beta_upper(a + (double)s, b + (double)(n - s), p0) - log_beta_upper(a, b, p0);
}

struct totals {
    uint64_t s, n;
    double a, b;
};

/* Between a p that is refuted (or an end of [0, 1]) and one that is not. */
static double end_of_interval(const struct totals *totals, double log_threshold, double refuted, double kept)
{
    for (;;) {
        double p = refuted + (kept - refuted) / 2;
        if (p <= fmin(refuted, kept) || p >= fmax(refuted, kept))
            return kept;
        if (bb_log_e(totals->s, totals->n, p, totals->a, totals->b) >= log_threshold)
            refuted = p;
        else
            kept = p;
    }
}

void bb_confseq(uint64_t s, uint64_t n, double a, double b, double alpha, struct confseq *out)
{
    *out = (struct confseq){NAN, NAN, NAN};
    if (!in_domain(s, n, a, b) || !(alpha > 0 && alpha < 1))
        return;
    out->lower = 0;
    out->upper = 1;
    if (n == 0)
        return;
    struct totals totals = {s, n, a, b};
    out->estimate = (double)s / (double)n;
    if (s > 0)
        out->lower = end_of_interval(&totals, -log(alpha), 0, out->estimate);
    if (s < n)
        out->upper = end_of_interval(&totals, -log(alpha), 1, out->estimate);
}

bool traffic_share_init(struct traffic_share *share, double weight, double tolerance)
{
    const double least = DBL_MIN, most = 1 - DBL_EPSILON; /* E is not defined at 0 and 1 */
    *share = (struct traffic_share){.low = least, .high = most, .a = 1, .b = 1};
    if (!is_inside(weight) || !(tolerance >= 0 && tolerance < 1))
        return false;
    double spread = 4 * fmax(weight, 1 - weight) / fmin(weight, 1 - weight);
    share->low = fmax(least, weight * (1 - tolerance));
    share->high = fmin(most, weight * (1 + tolerance));
    share->a = spread * weight;
    share->b = spread * (1 - weight);
    return true;
}

void traffic_share_look(struct traffic_share *share, uint64_t n_canary, uint64_t n_stable)
{
    share->canary += n_canary;
    share->all += n_canary + n_stable;
}

double traffic_share_log_e(const struct traffic_share *share)
{
    if (share->all == 0)
        return 0;
    double seen = (double)share->canary / (double)share->all;
    double nearest = fmin(fmax(seen, share->low), share->high);
    return bb_log_e(share->canary, share->all, nearest, share->a, share->b);
}

void traffic_share_confseq(const struct traffic_share *share, double alpha, struct confseq *out)
{
    bb_confseq(share->canary, share->all, share->a, share->b, alpha, out);
}
