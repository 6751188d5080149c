/*
 * Everything is asked of two sorted arrays. The m n differences x_i - y_j are never formed: with both samples sorted
 * they are a matrix whose rows rise and whose columns fall (also after rounding, which is monotone), so one walk along
 * the staircase between "at most v" and "above v" counts them. A difference of given rank is found by narrowing a range
 * of values with such walks, until so few are left that they can be written down. This is the idea of Johnson &
 * Mizoguchi 1978 (SIAM J. Comput. 7:147), with interpolation in place of weighted medians: the counts are smooth where
 * there is much to count. Bisection over the order of the doubles themselves bounds the number of walks by that of
 * their bits, whatever the data.
 */
#include "stats/ranks.h"

#include <assert.h>
#include <float.h>
#include <gsl/gsl_cdf.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

static bool small(size_t m, size_t n)
{
    return m < RANKS_EXACT_POINTS && n < RANKS_EXACT_POINTS;
}

/* The law of W is symmetric: counts up to mn/2 are enough. */
static size_t table_size(size_t m, size_t n)
{
    return ((m < n ? m : n) + 1) * (m * n / 2 + 1);
}

size_t ranks_scratch(size_t m, size_t n)
{
    size_t selection = m + n;
    size_t table = small(m, n) ? table_size(m, n) : 0;
    return m + n + (table > selection ? table : selection);
}

static const uint64_t sign_bit = UINT64_C(1) << 63;

/* The doubles in their order, as integers; for sorting and for bisection. */
static uint64_t place_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & sign_bit ? ~bits : bits | sign_bit;
}

static double at_place(uint64_t place)
{
    uint64_t bits = place & sign_bit ? place & ~sign_bit : ~place;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/*
 * Sorts by the bytes of the places, the lowest first. Sorting by comparisons, branches that no processor foresees,
 * would take half of the time of everything here.
 */
static void sort(double values[], size_t n, double buffer[])
{
    enum { DIGITS = 8, BASE = 256 };
    uint32_t count[DIGITS][BASE] = {{0}};
    for (size_t i = 0; i < n; i++) {
        uint64_t place = place_of(values[i]);
        for (int digit = 0; digit < DIGITS; digit++)
            count[digit][place >> 8 * digit & 255]++;
    }
    double *from = values, *to = buffer;
    for (int digit = 0; digit < DIGITS; digit++) {
        if (count[digit][place_of(values[0]) >> 8 * digit & 255] == n)
            continue; /* all have this byte in common */
        uint32_t start = 0;
        for (int byte = 0; byte < BASE; byte++) {
            uint32_t here = count[digit][byte];
            count[digit][byte] = start;
            start += here;
        }
        for (size_t i = 0; i < n; i++)
            to[count[digit][place_of(from[i]) >> 8 * digit & 255]++] = from[i];
        double *swap = from;
        from = to;
        to = swap;
    }
    if (from != values)
        memcpy(values, from, n * sizeof *values);
}

bool ranks_sort(struct ranks *ranks, const double x[], size_t m, const double y[], size_t n, double scratch[])
{
    if (m == 0 || n == 0 || m > RANKS_POINTS || n > RANKS_POINTS)
        return false;
    for (size_t i = 0; i < m; i++)
        if (!isfinite(x[i]))
            return false;
    for (size_t j = 0; j < n; j++)
        if (!isfinite(y[j]))
            return false;
    memcpy(scratch, x, m * sizeof *x);
    memcpy(scratch + m, y, n * sizeof *y);
    sort(scratch, m, scratch + m + n);
    sort(scratch + m, n, scratch + m + n);
    *ranks = (struct ranks){.x = scratch, .y = scratch + m, .m = m, .n = n, .work = scratch + m + n};
    return isfinite(ranks->x[m - 1] - ranks->y[0]) && isfinite(ranks->x[0] - ranks->y[n - 1]);
}

struct ranks_count ranks_count(const struct ranks *ranks, double shift, double tie)
{
    const double *x = ranks->x, *y = ranks->y;
    struct ranks_count count = {0, 0};
    double last = NAN, xs = 0, ys = 0, ys_before = 0; /* xs and ys: how many of each are in the group that is open */
    for (size_t i = 0, j = 0; i < ranks->m || j < ranks->n;) {
        bool is_x = j == ranks->n || (i < ranks->m && x[i] - shift <= y[j]);
        double value = is_x ? x[i++] - shift : y[j++];
        if (!(value - last <= tie * fmax(fabs(value), fabs(last)))) {
            double t = xs + ys;
            count.w += xs * (ys_before + ys / 2);
            count.ties += t * t * t - t;
            ys_before += ys;
            xs = ys = 0;
        }
        xs += is_x;
        ys += !is_x;
        last = value;
    }
    double t = xs + ys;
    count.w += xs * (ys_before + ys / 2);
    count.ties += t * t * t - t;
    return count;
}

double ranks_sigma(size_t m, size_t n, double ties)
{
    double pairs = (double)m * (double)n, all = (double)m + (double)n;
    return sqrt(fmax(0, pairs / 12 * ((all + 1) - ties / (all * (all - 1)))));
}

/* --- the exact law --- */

/*
 * How many of the orders of m and n values have W = k, for k = 0..last. All terms are positive, so nothing cancels. The
 * pooled order's last value is an x, which is above all n of y, or a y.
 */
static const double *orders(size_t m, size_t n, size_t last, double table[])
{
    size_t few = m < n ? m : n, many = m < n ? n : m, width = last + 1;
    memset(table, 0, (few + 1) * width * sizeof *table);
    for (size_t i = 0; i <= few; i++)
        table[i * width] = 1;
    for (size_t j = 1; j <= many; j++) {
        for (size_t i = 1; i <= few; i++) {
            double *row = table + i * width;
            const double *fewer = row - width;
            for (size_t k = j; k <= last; k++)
                row[k] += fewer[k - j];
        }
    }
    return table + few * width;
}

static double all_orders(size_t m, size_t n)
{
    double product = 1;
    for (size_t i = 1; i <= m; i++)
        product *= (double)(n + i) / (double)i;
    return product;
}

/* P(W <= k); k may be negative. */
static double exact_at_most(const struct ranks *ranks, double k)
{
    double pairs = (double)ranks->m * (double)ranks->n;
    if (k < 0)
        return 0;
    if (k >= pairs)
        return 1;
    if (2 * k >= pairs)
        return 1 - exact_at_most(ranks, pairs - k - 1);
    size_t last = (size_t)k;
    const double *count = orders(ranks->m, ranks->n, last, ranks->work);
    double sum = 0;
    for (size_t i = 0; i <= last; i++)
        sum += count[i];
    return sum / all_orders(ranks->m, ranks->n);
}

enum law { LAW_REFUSED, LAW_EXACT, LAW_NORMAL };

static enum law law_of(const struct ranks *ranks, double ties, enum ranks_method method)
{
    bool countable = small(ranks->m, ranks->n) && ties == 0;
    if (method == RANKS_EXACT)
        return countable ? LAW_EXACT : LAW_REFUSED;
    return countable && method == RANKS_USUAL ? LAW_EXACT : LAW_NORMAL;
}

static double exact_p(const struct ranks *ranks, double w, enum ranks_alternative alternative)
{
    double mirrored = (double)ranks->m * (double)ranks->n - w;
    switch (alternative) {
    case RANKS_GREATER:
        return exact_at_most(ranks, mirrored);
    case RANKS_LESS:
        return exact_at_most(ranks, w);
    case RANKS_TWO_SIDED:
        break;
    }
    return fmin(1, 2 * exact_at_most(ranks, fmin(w, mirrored)));
}

static double continuity(double excess, enum ranks_alternative alternative)
{
    switch (alternative) {
    case RANKS_GREATER:
        return 0.5;
    case RANKS_LESS:
        return -0.5;
    case RANKS_TWO_SIDED:
        break;
    }
    return 0.5 * ((excess > 0) - (excess < 0));
}

static double normal_p(double excess, double sigma, enum ranks_alternative alternative, bool smooth)
{
    if (sigma == 0)
        return 1;
    double z = (excess - (smooth ? continuity(excess, alternative) : 0)) / sigma;
    switch (alternative) {
    case RANKS_GREATER:
        return gsl_cdf_ugaussian_Q(z);
    case RANKS_LESS:
        return gsl_cdf_ugaussian_P(z);
    case RANKS_TWO_SIDED:
        break;
    }
    return 2 * gsl_cdf_ugaussian_Q(fabs(z));
}

bool ranks_mann_whitney(const struct ranks *ranks, enum ranks_alternative alternative, enum ranks_method method,
                        struct mann_whitney *result)
{
    struct ranks_count count = ranks_count(ranks, 0, RANKS_TIE);
    enum law law = law_of(ranks, count.ties, method);
    if (law == LAW_REFUSED)
        return false;
    double p;
    if (law == LAW_EXACT) {
        p = exact_p(ranks, count.w, alternative);
    } else {
        double excess = count.w - (double)ranks->m * (double)ranks->n / 2;
        double sigma = ranks_sigma(ranks->m, ranks->n, count.ties);
        p = normal_p(excess, sigma, alternative, method != RANKS_NORMAL_UNSMOOTHED);
    }
    *result = (struct mann_whitney){.w = count.w, .p = p, .exact = law == LAW_EXACT};
    return true;
}

/* --- a difference of given rank --- */

struct split {
    uint64_t at_most;    /* how many differences are at most v */
    double below, above; /* the largest of them, and the smallest of the others */
};

static struct split split_at(const struct ranks *ranks, double v)
{
    const double *x = ranks->x, *y = ranks->y;
    struct split split = {0, -INFINITY, INFINITY};
    size_t j = 0; /* the first y for which x_i - y_j is at most v */
    for (size_t i = 0; i < ranks->m; i++) {
        for (; j < ranks->n && x[i] - y[j] > v; j++)
            split.above = x[i] - y[j] < split.above ? x[i] - y[j] : split.above;
        if (j == ranks->n) /* so it is for all further x, which are larger still */
            return split;
        split.at_most += ranks->n - j;
        split.below = x[i] - y[j] > split.below ? x[i] - y[j] : split.below;
    }
    return split;
}

/* Writes down the differences from `first` to `last`; they must fit. */
static size_t write_down(const struct ranks *ranks, double first, double last, double out[])
{
    const double *x = ranks->x, *y = ranks->y;
    size_t found = 0;
    for (size_t i = 0, from = 0; i < ranks->m; i++) {
        while (from < ranks->n && x[i] - y[from] > last)
            from++;
        for (size_t j = from; j < ranks->n && x[i] - y[j] >= first; j++)
            out[found++] = x[i] - y[j];
    }
    return found;
}

/* The values from `first` to `last` still hold the one that is sought: the `rank`-th of `left` (from 1). */
struct search {
    double first, last; /* both are differences */
    uint64_t rank, left;
};

/* A value in [first, last) to split at. Such a one leaves differences on both sides. */
static double guess(const struct search *search, bool bisect)
{
    double v;
    if (bisect) {
        uint64_t from = place_of(search->first);
        v = at_place(from + (place_of(search->last) - from) / 2);
    } else {
        double share = ((double)search->rank - 0.5) / (double)search->left;
        v = search->first * (1 - share) + search->last * share;
    }
    return v >= search->first && v < search->last ? v : search->first;
}

/* The rank-th smallest difference, 1 <= rank <= mn. */
static double difference(const struct ranks *ranks, uint64_t rank)
{
    struct search search = {.first = ranks->x[0] - ranks->y[ranks->n - 1],
                            .last = ranks->x[ranks->m - 1] - ranks->y[0],
                            .rank = rank,
                            .left = (uint64_t)ranks->m * ranks->n};
    uint64_t room = ranks->m + ranks->n, before = 0;
    assert(rank >= 1 && rank <= search.left);
    bool bisect = false;
    while (search.first < search.last && search.left > room) {
        uint64_t left = search.left;
        struct split split = split_at(ranks, guess(&search, bisect));
        uint64_t lower_part = split.at_most - before;
        if (search.rank <= lower_part) {
            search.last = split.below;
            search.left = lower_part;
        } else {
            search.first = split.above;
            search.rank -= lower_part;
            search.left -= lower_part;
            before = split.at_most;
        }
        bisect = !bisect && search.left > left / 2;
    }
    if (search.first >= search.last)
        return search.first;
    size_t found = write_down(ranks, search.first, search.last, ranks->work);
    assert(found == search.left);
    return gsl_stats_select(ranks->work, 1, found, search.rank - 1);
}

/* --- the shift --- */

static double median_difference(const struct ranks *ranks)
{
    uint64_t pairs = (uint64_t)ranks->m * ranks->n;
    double lower = difference(ranks, (pairs + 1) / 2);
    if (pairs % 2 == 1)
        return lower;
    struct split split = split_at(ranks, lower);
    return split.at_most > pairs / 2 ? lower : lower + (split.above - lower) / 2;
}

/* The rank of the lower limit, and the confidence that the interval has. */
static uint64_t exact_limit(const struct ranks *ranks, double confidence, double *reached)
{
    size_t last = ranks->m * ranks->n / 2, q = 0;
    const double *count = orders(ranks->m, ranks->n, last, ranks->work);
    /* A tail that equals its share but for rounding counts as equal. */
    double all = all_orders(ranks->m, ranks->n), share = (1 - confidence) / 2 * (1 - 10 * DBL_EPSILON);
    double below = 0, at_most = count[0] / all;
    while (q < last && at_most < share) {
        below = at_most;
        at_most += count[++q] / all;
    }
    if (q == 0) {
        q = 1;
        below = at_most;
    }
    *reached = 1 - 2 * below;
    return q;
}

static double ties_inside(const double sorted[], size_t n)
{
    double ties = 0, t = 1;
    for (size_t i = 1; i < n; i++) {
        if (sorted[i] - sorted[i - 1] <= RANKS_TIE * fmax(fabs(sorted[i]), fabs(sorted[i - 1]))) {
            t++;
            continue;
        }
        ties += t * t * t - t;
        t = 1;
    }
    return ties + t * t * t - t;
}

static uint64_t rank_within(double rank, double pairs)
{
    return (uint64_t)fmin(fmax(rank, 1), pairs);
}

/*
 * Just right of the difference of rank r, mn - r differences are larger: W = mn - r there. The lower limit is the first
 * with W - mn/2 - c <= z sigma, the upper one the first with W - mn/2 + c <= -z sigma.
 */
static void normal_limits(const struct ranks *ranks, double confidence, double correction, uint64_t *lower,
                          uint64_t *upper)
{
    double ties = ties_inside(ranks->x, ranks->m) + ties_inside(ranks->y, ranks->n);
    double width = gsl_cdf_ugaussian_Qinv((1 - confidence) / 2) * ranks_sigma(ranks->m, ranks->n, ties) + correction;
    double pairs = (double)ranks->m * (double)ranks->n;
    *lower = rank_within(ceil(pairs / 2 - width), pairs);
    *upper = rank_within(ceil(pairs / 2 + width), pairs);
}

bool ranks_hodges_lehmann(const struct ranks *ranks, double confidence, enum ranks_method method,
                          struct hodges_lehmann *result)
{
    if (!(confidence > 0 && confidence < 1))
        return false;
    enum law law = law_of(ranks, ranks_count(ranks, 0, RANKS_TIE).ties, method);
    if (law == LAW_REFUSED)
        return false;
    uint64_t lower, upper;
    double reached = confidence;
    if (law == LAW_EXACT) {
        lower = exact_limit(ranks, confidence, &reached);
        upper = (uint64_t)ranks->m * ranks->n + 1 - lower;
    } else {
        normal_limits(ranks, confidence, method == RANKS_NORMAL_UNSMOOTHED ? 0 : 0.5, &lower, &upper);
    }
    *result = (struct hodges_lehmann){.estimate = median_difference(ranks),
                                      .lower = difference(ranks, lower),
                                      .upper = difference(ranks, upper),
                                      .confidence = reached,
                                      .exact = law == LAW_EXACT};
    return true;
}
