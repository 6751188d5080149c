/*
 * The beta-binomial mixture: an anytime-valid test of one probability that does not change, its confidence sequence,
 * and the check that the balancer gives the canary the share of the requests that it was told to.
 *
 * Of n trials so far s were hits. Against H0: p = p0 the alternatives p are mixed by Beta(a, b):
 *   E_n = B(a + s, b + n - s) / (B(a, b) p0^s (1 - p0)^(n - s))
 * which is the prior's density at p0 over the posterior's. If the trials are independent and hit with probability p0, E
 * is a nonnegative martingale that starts at 1, whatever a, b > 0 are, so P(E ever >= 1/alpha) <= alpha. It is a number
 * of the totals (s, n), not of one look: it is not folded by stats/mixture.h.
 *
 * All functions that return a double return ln E, NAN outside of their domain: s <= n, 0 < p0 < 1, a > 0, b > 0, all
 * finite. Good to 1e-10 of the larger of ln E and 1, up to n = 2^40. Nothing is allocated.
 *
 * Sources: Robbins 1970 (Ann. Math. Stat. 41:1397); Howard, Ramdas, McAuliffe & Sekhon 2021 (Ann. Stat. 49:1055);
 * traffic: Lindon & Malek 2022 (NeurIPS, arXiv 2011.03567); the least E over a composite null hypothesis: Wasserman,
 * Ramdas & Balakrishnan 2020 (PNAS 117:16880).
 */
#ifndef HALDANE_STATS_BETABINOMIAL_H
#define HALDANE_STATS_BETABINOMIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "stats/confseq.h"

/* H0: p = p0, against both sides. */
double bb_log_e(uint64_t s, uint64_t n, double p0, double a, double b);

/*
 * H0: p <= p0. The prior is Beta(a, b) cut to p > p0, so
 *   ln E = bb_log_e + ln P(posterior > p0) - ln P(prior > p0)
 * It is valid for every p <= p0. Both tails are formed as logarithms (stats/beta.h), so that the debt of many hits too
 * few is right as well.
 */
double bb_log_e_upper(uint64_t s, uint64_t n, double p0, double a, double b);

/*
 * { p : bb_log_e(s, n, p, a, b) < ln(1/alpha) }, right at all n at once with probability 1 - alpha. The estimate s/n is
 * always inside. n = 0: NAN in [0, 1]. The ends are found to the last bits. NAN for all three outside of the domain or
 * for alpha outside of (0, 1).
 */
void bb_confseq(uint64_t s, uint64_t n, double a, double b, double alpha, struct confseq *out);

/*
 * ---- the traffic check ----
 *
 * Does the canary get the share w of the requests? ("Sample ratio mismatch".) H0: each request goes to the canary
 * independently with one probability inside the band [w (1 - t), w (1 + t)]; t, e.g. 0.02, is there because a balancer
 * that rounds its weights is not wrong. E is the least of bb_log_e() over the band, so it is valid for each share in
 * it.
 *
 * What it assumes, and what to do with it: requests are routed one by one. A round robin spreads them more evenly than
 * chance would; then the check errs less often than alpha. Keep-alive connections, sticky sessions and retries bind
 * requests together; then the counts scatter more widely than a binomial and E grows without any fault. Count
 * connections or sessions instead where that is so. Restarts and ejected backends are deviations that this check is
 * meant to see, but it cannot tell them from a wrong weight. So it is a warning to a person that the comparison may not
 * be what it seems, and never a ground to abort, hold or promote.
 */
struct traffic_share {
    double low, high;     /* the band, inside (0, 1) */
    double a, b;          /* the prior */
    uint64_t canary, all; /* requests so far */
};

/*
 * Begins at a new weight: 0 < weight < 1, 0 <= tolerance < 1. At a new weight begin anew: each has
 * its own alpha. The prior is Beta(a, b) with mean w and standard deviation about half the smaller arm's share:
 *   a = k w, b = k (1 - w), k = 4 max(w, 1 - w) / min(w, 1 - w).
 * Returns false, and a band of all shares, if an argument is outside of its domain.
 */
bool traffic_share_init(struct traffic_share *share, double weight, double tolerance);

/* Folds the requests of one look. Looks in which the weight was changing are left out by the caller. */
void traffic_share_look(struct traffic_share *share, uint64_t n_canary, uint64_t n_stable);

/* ln E; 0 before the first look. A warning at >= ln(1/alpha). */
double traffic_share_log_e(const struct traffic_share *share);

/* The canary's share of the requests, as bb_confseq() with the prior above. The band is not used. */
void traffic_share_confseq(const struct traffic_share *share, double alpha, struct confseq *out);

#endif
