/*
 * One point probability by logarithms, then the tail outwards by ratios of neighbours, which fall: what is left out is
 * below the last bit of the sum. A tail that holds the mode is 1 less the other one.
 */
#include "stats/exact.h"

#include <float.h>
#include <math.h>

#include "stats/beta.h"
#include "stats/logmath.h"

/* ln P(X = k), X of law Binomial(n, p), 0 < p < 1. C(n, k) = n / (k (n - k) B(k, n - k)). */
static double log_binomial(uint64_t k, uint64_t n, double p)
{
    if (k == 0)
        return (double)n * log1p(-p);
    if (k == n)
        return (double)n * log(p);
    double events = (double)k, others = (double)(n - k);
    return log_beta_kernel(events, others, p) + log((double)n) - log(events) - log(others);
}

/* Fisher's law of the count in arm 1: `events` of the n1 + n2 requests are drawn at random. */
struct table {
    uint64_t n1, n2, events;
    uint64_t first, last; /* the support */
};

static struct table table_of(uint64_t n1, uint64_t n2, uint64_t events)
{
    return (struct table){n1, n2, events, events > n2 ? events - n2 : 0, events < n1 ? events : n1};
}

/* Loader's form: if every request fails with probability p, then by Bayes. Any p will do; this one has no large terms.
 */
static double log_point(const struct table *table, uint64_t k)
{
    uint64_t all = table->n1 + table->n2;
    double p = (double)table->events / (double)all;
    return log_binomial(k, table->n1, p) + log_binomial(table->events - k, table->n2, p) -
           log_binomial(table->events, all, p);
}

/* P(k + 1) / P(k) */
static double ratio_up(const struct table *table, uint64_t k)
{
    double left1 = (double)(table->n1 - k), left2 = (double)(table->events - k);
    return left1 / (double)(k + 1) * left2 / (double)(table->n2 + k + 1 - table->events);
}

/* ln P(X >= k) for k at or above the mode */
static double log_outer_upper(const struct table *table, uint64_t k)
{
    double sum = 1, term = 1;
    for (uint64_t i = k; i < table->last && term > DBL_EPSILON / 1024 * sum; i++) {
        term *= ratio_up(table, i);
        sum += term;
    }
    return fmin(0, log_point(table, k) + log(sum));
}

/* ln P(X <= k) for k at or below the mode */
static double log_outer_lower(const struct table *table, uint64_t k)
{
    double sum = 1, term = 1;
    for (uint64_t i = k; i > table->first && term > DBL_EPSILON / 1024 * sum; i--) {
        term /= ratio_up(table, i - 1);
        sum += term;
    }
    return fmin(0, log_point(table, k) + log(sum));
}

/* The law rises up to here. */
static uint64_t mode_of(const struct table *table)
{
    double mode = ((double)table->n1 + 1) / ((double)(table->n1 + table->n2) + 2) * ((double)table->events + 1);
    uint64_t k = (uint64_t)fmin(fmax(mode, (double)table->first), (double)table->last);
    while (k > table->first && ratio_up(table, k - 1) < 1)
        k--;
    while (k < table->last && ratio_up(table, k) >= 1)
        k++;
    return k;
}

static double log_upper(const struct table *table, uint64_t k, uint64_t mode)
{
    if (k <= table->first)
        return 0;
    return k > mode ? log_outer_upper(table, k) : log1m_exp(log_outer_lower(table, k - 1));
}

static double log_lower(const struct table *table, uint64_t k, uint64_t mode)
{
    if (k >= table->last)
        return 0;
    return k < mode ? log_outer_lower(table, k) : log1m_exp(log_outer_upper(table, k + 1));
}

/* The first count above the mode that is no more probable than `log_limit`; last + 1 if there is none. */
static uint64_t first_rare_above(const struct table *table, uint64_t mode, double log_limit)
{
    uint64_t low = mode, high = table->last + 1;
    while (high - low > 1) {
        uint64_t k = low + (high - low) / 2;
        if (log_point(table, k) <= log_limit)
            high = k;
        else
            low = k;
    }
    return high;
}

/* The last count below the mode that is no more probable; `mode` itself if there is none. */
static uint64_t last_rare_below(const struct table *table, uint64_t mode, double log_limit)
{
    uint64_t low = table->first, high = mode;
    if (low == mode || log_point(table, low) > log_limit)
        return mode;
    while (high - low > 1) {
        uint64_t k = low + (high - low) / 2;
        if (log_point(table, k) <= log_limit)
            low = k;
        else
            high = k;
    }
    return low;
}

static double log_two_sided(const struct table *table, uint64_t k, uint64_t mode)
{
    double log_limit = log_point(table, k) + log1p(1e-7);
    if (log_point(table, mode) <= log_limit)
        return 0;
    uint64_t above = first_rare_above(table, mode, log_limit), below = last_rare_below(table, mode, log_limit);
    double upper = above > table->last ? -INFINITY : log_outer_upper(table, above);
    double lower = below == mode ? -INFINITY : log_outer_lower(table, below);
    return fmin(0, log_add_exp(lower, upper));
}

double fisher_log_p(uint64_t k1, uint64_t n1, uint64_t k2, uint64_t n2, enum exact_alternative alternative)
{
    if (k1 > n1 || k2 > n2 || n1 > EXACT_REQUESTS || n2 > EXACT_REQUESTS)
        return NAN;
    struct table table = table_of(n1, n2, k1 + k2);
    if (table.first == table.last) /* the margins leave no choice */
        return 0;
    uint64_t mode = mode_of(&table);
    switch (alternative) {
    case EXACT_GREATER:
        return log_upper(&table, k1, mode);
    case EXACT_LESS:
        return log_lower(&table, k1, mode);
    case EXACT_TWO_SIDED:
        return log_two_sided(&table, k1, mode);
    }
    return NAN;
}

static bool is_binomial(uint64_t k, uint64_t n, double p)
{
    return k <= n && n <= EXACT_REQUESTS && p >= 0 && p <= 1;
}

double binomial_log_upper(uint64_t k, uint64_t n, double p)
{
    if (!is_binomial(k, n, p))
        return NAN;
    return k == 0 ? 0 : log_beta_lower((double)k, (double)(n - k) + 1, p);
}

double binomial_log_lower(uint64_t k, uint64_t n, double p)
{
    if (!is_binomial(k, n, p))
        return NAN;
    return k == n ? 0 : log_beta_upper((double)k + 1, (double)(n - k), p);
}

typedef double (*log_tail)(uint64_t k, uint64_t n, double p);

/* The p between low and high at which the tail, which rises or falls in p, passes the limit. */
static double end_of_interval(log_tail tail, uint64_t k, uint64_t n, double log_limit, bool rises, double low,
                              double high)
{
    for (;;) {
        double p = low + (high - low) / 2;
        if (p <= low || p >= high)
            return p;
        if ((tail(k, n, p) > log_limit) == rises)
            high = p;
        else
            low = p;
    }
}

bool clopper_pearson(uint64_t k, uint64_t n, double alpha, double *lower, double *upper)
{
    *lower = *upper = NAN;
    if (k > n || n > EXACT_REQUESTS || !(alpha > 0 && alpha < 1))
        return false;
    double seen = n == 0 ? 0 : (double)k / (double)n, log_limit = log(alpha) - M_LN2;
    *lower = k == 0 ? 0 : end_of_interval(binomial_log_upper, k, n, log_limit, true, 0, seen);
    *upper = k == n ? 1 : end_of_interval(binomial_log_lower, k, n, log_limit, false, seen, 1);
    return true;
}
