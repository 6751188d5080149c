/*
 * Two samples compared by ranks, at a horizon fixed in advance: the test of Mann and Whitney, and the shift between the
 * samples after Hodges and Lehmann with its interval. Nothing is assumed of the shape of the values. It is assumed that
 * the values are independent, which the points of one instance over time are not, and that one looks once: looking
 * again and again at these p-values raises the false alarms far above their level. For looks that go on, use the
 * e-processes (stats/mixture.h).
 *
 * m values x and n values y are sorted once, by ranks_sort(); the rest asks the sorted pair. Nothing is allocated: the
 * caller gives scratch memory, which must live as long as the pair.
 *
 * Ties: neighbours in the pooled order whose distance is at most RANKS_TIE of the larger one are tied, so that numbers
 * that differ by the rounding of a sum or a quotient are no evidence.
 *
 * Sources: Wilcoxon 1945 (Biometrics Bull. 1:80); Mann & Whitney 1947 (Ann. Math. Stat. 18:50); Hodges & Lehmann 1963
 * (Ann. Math. Stat. 34:598); intervals: Bauer 1972 (JASA 67:687), Hollander & Wolfe, Nonparametric Statistical Methods,
 * ch. 4. The numbers are those of R's wilcox.test().
 */
#ifndef HALDANE_STATS_RANKS_H
#define HALDANE_STATS_RANKS_H

#include <stdbool.h>
#include <stddef.h>

#define RANKS_POINTS ((size_t)1 << 24) /* the most values of a sample */
#define RANKS_TIE 1e-12
enum { RANKS_EXACT_POINTS = 50 }; /* exact laws are counted for samples with fewer values than this */

/* Plain data. x and y ascending and finite, 1 to RANKS_POINTS values each, and x - y finite for every pair. */
struct ranks {
    const double *x, *y;
    size_t m, n;
    double *work; /* scratch of the functions that say so */
};

/* How many doubles of scratch ranks_sort() wants; m + n of them for the sorted copies, the rest is work. */
size_t ranks_scratch(size_t m, size_t n);

/* Sorts copies of both samples into `scratch`. False if they are not as `struct ranks` says. O(N log N), N = m + n. */
bool ranks_sort(struct ranks *ranks, const double x[], size_t m, const double y[], size_t n, double scratch[]);

/* The samples' order after x was moved by -shift. */
struct ranks_count {
    double w;    /* W = #{x - shift > y} + #{x - shift = y} / 2, over all m n pairs: mid-ranks */
    double ties; /* the sum of t^3 - t over the groups of t tied values, 0 without ties */
};

/*
 * Counts by merging, O(m + n). `tie` is the relative distance of tied neighbours: RANKS_TIE, or 0 for equal values
 * only. `shift` is finite.
 */
struct ranks_count ranks_count(const struct ranks *ranks, double shift, double tie);

/* The standard deviation of W when both samples come from one law: sqrt(mn/12 ((N + 1) - ties/(N(N - 1)))). */
double ranks_sigma(size_t m, size_t n, double ties);

/* What the samples are suspected of. GREATER: x tends to be larger than y. */
enum ranks_alternative { RANKS_TWO_SIDED, RANKS_GREATER, RANKS_LESS };

enum ranks_method {
    RANKS_USUAL,            /* exact without ties and with both samples below RANKS_EXACT_POINTS, else normal */
    RANKS_EXACT,            /* refused (false) where that condition does not hold */
    RANKS_NORMAL,           /* normal, ties and continuity corrected */
    RANKS_NORMAL_UNSMOOTHED /* normal, ties corrected, without the correction for continuity */
};

struct mann_whitney {
    double w; /* see ranks_count; 0..mn, mn/2 if neither is larger; W/(mn) estimates P(x > y) + P(x = y)/2 */
    double p;
    bool exact;
};

/*
 * The test of "both samples come from one law".
 *   exact:   p from the law of W, counted by c(k, m, n) = c(k - n, m - 1, n) + c(k, m, n - 1); two-sided twice the
 *            smaller tail, at most 1. At most three million additions.
 *   normal:  z = (W - mn/2 - c) / ranks_sigma(); c = sign(W - mn/2)/2 two-sided, 1/2 greater, -1/2 less. All values
 *            tied: p = 1.
 * Uses `work`. False only for RANKS_EXACT where it does not apply.
 */
bool ranks_mann_whitney(const struct ranks *ranks, enum ranks_alternative alternative, enum ranks_method method,
                        struct mann_whitney *result);

struct hodges_lehmann {
    double estimate, lower, upper; /* of the shift x - y, in the unit of the samples; lower <= upper */
    double confidence;             /* reached: exact, at least what was asked, if that can be; normal, what was asked */
    bool exact;
};

/*
 * The median of all m n differences x_i - y_j, and a two-sided interval of the shift. `confidence` lies inside of (0,
 * 1). exact:   the differences of rank q and mn + 1 - q, q the smallest with P(W <= q) >= (1 - confidence)/2, at least
 * 1 normal:  where the corrected z of the shifted samples crosses +-z_{(1 + confidence)/2}. Between two neighbouring
 *            differences z is constant and its only ties are those inside of each sample, so the limits are
 *            differences, too; the smallest and the largest one where z does not get that far. With
 *            RANKS_NORMAL_UNSMOOTHED the same without the correction for continuity.
 * Differences are selected, not sorted: O(m + n) for each of the three, times a number of passes that is about ten and
 * never more than some 130. Uses `work`. False for a confidence outside of its domain and for RANKS_EXACT where it does
 * not apply.
 */
bool ranks_hodges_lehmann(const struct ranks *ranks, double confidence, enum ranks_method method,
                          struct hodges_lehmann *result);

#endif
