/*
 * Fixed-horizon tests of counts: Fisher's exact test, binomial tails, Clopper-Pearson intervals. They are right for one
 * look that was fixed beforehand. Asked at every look they err far more often than they say; what decides a rollout is
 * in stats/flip.h, stats/lr.h and stats/share.h. These are for reports, comparisons and questions asked once.
 *
 * Requests fail independently of each other, or the numbers are too small. All results are natural logarithms of
 * probabilities, so that none is too small to be told from 0; they are good to 1e-10 of themselves, or to 1e-10 near ln
 * 1. The largest n allowed is EXACT_REQUESTS. NAN outside of the domain. Nothing is allocated.
 */
#ifndef HALDANE_STATS_EXACT_H
#define HALDANE_STATS_EXACT_H

#include <stdbool.h>
#include <stdint.h>

#define EXACT_REQUESTS (UINT64_C(1) << 40)

enum exact_alternative {
    EXACT_GREATER,   /* arm 1 has the higher risk */
    EXACT_LESS,      /* arm 1 has the lower risk */
    EXACT_TWO_SIDED, /* the sum over all tables that are no more probable than the one seen */
};

/*
 * ln p of Fisher's exact test of equal risks: k1 events among n1 requests against k2 among n2, given all four margins.
 * Under the null hypothesis k1 is hypergeometric:
 *   P(k) = C(n1, k) C(n2, K - k) / C(n1 + n2, K),  K = k1 + k2
 * "No more probable" allows a relative 1e-7, as R's fisher.test() does, so that tables that tie are not parted by
 * rounding. The two-sided p is not twice a one-sided one, and is not monotone in k1 where the law is skew.
 * Domain: k1 <= n1, k2 <= n2. Without events or without requests of an arm: ln 1 = 0. The time is of the order of the
 * standard deviation of k1: below 1 ms at 10^9 requests.
 *
 * Source: Fisher 1935 (JRSS 98:39); the point probability in Loader's form (stats/beta.h).
 */
double fisher_log_p(uint64_t k1, uint64_t n1, uint64_t k2, uint64_t n2, enum exact_alternative alternative);

/* ln P(X >= k) and ln P(X <= k), X of law Binomial(n, p). Domain: k <= n, 0 <= p <= 1. */
double binomial_log_upper(uint64_t k, uint64_t n, double p);
double binomial_log_lower(uint64_t k, uint64_t n, double p);

/*
 * The Clopper-Pearson interval for p from k events among n: those p that neither tail refutes at alpha/2. It covers the
 * true p with probability >= 1 - alpha at one look. Lower end 0 for k = 0, upper end 1 for k = n; [0, 1] for n = 0. The
 * ends are found to the last bits. Returns false, and NAN, for k > n, n > EXACT_REQUESTS or alpha outside of (0, 1).
 *
 * Source: Clopper & Pearson 1934 (Biometrika 26:404).
 */
bool clopper_pearson(uint64_t k, uint64_t n, double alpha, double *lower, double *upper);

#endif
