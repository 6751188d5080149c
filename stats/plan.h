/*
 * Planning: how fast evidence is expected to grow under a given harm, and so after how many looks it will decide,
 * before any data are seen. These are forecasts of a typical run, not guarantees: what is guaranteed is in stats/flip.h
 * and stats/mixture.h and does not depend on them.
 *
 * The growth of an e-value is the mean of its logarithm over one look, in nats. Evidence that grows by gamma a look
 * needs about needed / gamma looks. Arms are called as in stats/flip.h: X is the one that is suspected.
 *
 * Sources: growth as the measure of a bet: Kelly 1956 (Bell Syst. Tech. J. 35:917); Gruenwald, de Heide & Koolen 2024
 * (JRSS B 86:1091). Looks from growth: Wald 1945 (Ann. Math. Stat. 16:117).
 */
#ifndef HALDANE_STATS_PLAN_H
#define HALDANE_STATS_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stats/flip.h"
#include "stats/mixture.h"

/*
 * The largest growth that any likelihood ratio of one look's counts can have (stats/lr.h), for H0: p_X <= rho p_Y +
 * delta and independent requests:
 *   max over A >= 1 of  nX pX ln A + nY pY ln B - nX delta (A - 1),   B = 1 - (nX/nY) rho (A - 1).
 * The maximum is the smaller root of delta s A^2 - (pX s + pY rho + delta (1 + s)) A + pX (1 + s) = 0, s = rho nX/nY.
 * For delta = 0, of N requests of which X has the share w, and pX = r pY:
 *   N pY (w r ln(r/rho) - (w r + 1 - w) ln((1 - w + w r) / (1 - w + w rho))).
 * No test that sees only the arms' shares of the events needs fewer than ln(1/alpha) / growth looks on average.
 * n may be fractions (requests in expectation). 0 if there is no harm (pX <= rho pY + delta) or an n is 0; NAN outside
 * of n >= 0, 0 <= p <= 1, rho > 0, delta >= 0.
 */
double plan_lr_growth(double n_x, double n_y, double p_x, double p_y, double rho, double delta);

/* One look as it is expected. */
struct plan_look {
    uint64_t n_x, n_y; /* requests, at most 2^32 - 1; of the arm that comes in blocks: of one block */
    double p_x, p_y;   /* the true shares of the event, 0..1 */
    struct flip_null null;
    uint64_t blocks; /* the e-value is the mean over so many blocks of one arm; 0 is 1 */
    bool x_in_blocks;
};

/*
 * growth[l] = E ln e_l of flip_log_e(), k_X ~ Bin(nX, pX) and k_Y ~ Bin(nY, pY), independent.
 *
 * The law of each count is summed on a lattice of about half a standard deviation, weighted by its own probabilities:
 * every count up to about 20 events, some 300 evaluations of flip_log_e() for any size. For a smooth function a sum of
 * equal steps converges faster than any power of the step; here it is good to about 1 %.
 *
 * With B blocks the mean of ln((e_1 + ... + e_B) / B) lies between E ln e (B = 1) and ln E e (B large), given the other
 * arm; the distance shrinks as 1/B, and that is how it is interpolated.
 *
 * False, and zeros, outside of the domain of flip_log_e() or of the above.
 */
bool plan_flip_growth(const struct plan_look *look, double growth[FLIP_BETS]);

/*
 * The same for the six ell of the reference vectors (flip_log_e_exact), with k_X ~ Poisson(nX pX), k_Y ~ Poisson(nY
 * pY), both capped at n, each count summed: to 1e-10 for means up to some 16 events. For comparison with published
 * numbers.
 */
bool plan_flip_growth_reference(const struct plan_look *look, double growth[FLIP_ELLS]);

/* Looks that are alike. */
struct plan_phase {
    uint64_t looks;
    const double (*growth)[FLIP_BETS]; /* one row per comparison; NULL: looks that are no evidence */
};

/*
 * After how many looks the mean over `comparisons` (1 or more) e-processes is expected to reach e^needed, needed > 0:
 * the first look at which it does so if every look gives exactly its growth, with the bets, restarts and phases that
 * the process really has. 0 if it does not within the phases.
 *
 * That path is the whole forecast; no constant is fitted. Against the mean of simulated runs (10 to 1000 requests a
 * second, rates 0.2 to 2 %, harm 1.3 to 5 times, early and late, and proofs; 300 settings) it was right to 5 % in half
 * of them and 0.91 to 1.42 times as long in all. It errs to the long side where two bets are equally good and evidence
 * is slow: a run then has the better of the two, and the path the mean. Medians are shorter than means, by up to a
 * third for slow proofs. Complexity O(looks * comparisons * bets).
 */
uint64_t plan_looks(const struct plan_phase phases[], size_t phase_count, size_t comparisons, enum restart restart,
                    uint32_t planned, double needed);

#endif
