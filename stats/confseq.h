/*
 * Confidence sequences: intervals that are right at all looks at once with probability 1 - alpha, for display. Each is
 * the set of values that an e-process (stats/lr.h, stats/flip.h) has not refuted so far.
 *
 * A look where either n is 0 or a k exceeds its n is left out. alpha outside of (0, 1) gives NAN for all three numbers.
 * The ends are found to about 1e-12 of ln r (ratios) or of 1 (differences). Nothing is allocated.
 *
 * Sources: Robbins 1970 (Ann. Math. Stat. 41:1397); Howard et al. 2021 (Ann. Stat. 49:1055); the roots by Chandrupatla
 * 1997 (Adv. Eng. Softw. 28:145).
 */
#ifndef HALDANE_STATS_CONFSEQ_H
#define HALDANE_STATS_CONFSEQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One look: canary and stable, k events among n requests, k <= n. */
struct look_counts {
    uint64_t k_c, n_c, k_s, n_s;
};

/* A ratio's upper end may be INFINITY, its lower end 0; so may its estimate, NAN if there is none. */
struct confseq {
    double estimate, lower, upper;
};

/*
 * Relative risk r = p_C / p_S, stratified by look, exact for independent requests. With pi(r) = r nC / (r nC + nS),
 *   l(r) = sum over looks of kC ln pi(r) + kS ln(1 - pi(r)),
 *   m = ln of the mean of exp l(r_j) over the 49 points r_j = exp(-ln 64 + j ln 64 / 24),
 *   interval = { r : m - l(r) < ln(1/alpha) }.
 * The estimate is where l is largest; it is always inside. Without any event: NAN in [0, INFINITY]. O(looks) per
 * evaluation, about 100 of them.
 */
void confseq_ratio_lr(const struct look_counts looks[], size_t n, double alpha, struct confseq *out);

/*
 * Risk difference D = p_C - p_S, exact for independent requests.
 *   E(D; A) = exp(sum over looks of kC ln A' + kS ln B - nC D (A' - 1)), A' = min(A, 1 + 0.999 nS/nC),
 *   B = 1 - (nC/nS) (A' - 1);
 * the mean over A in 1.05..6 refutes what is too small, the mean over lr_ni_bets what is too large, each at 2/alpha.
 * The estimate is sum nC (kC/nC - kS/nS) / sum nC, the difference for the canary's requests; it is always inside. NAN
 * in [-1, 1] without a look.
 */
void confseq_difference_lr(const struct look_counts looks[], size_t n, double alpha, struct confseq *out);

/*
 * Relative risk by FLIP: valid under bursts too. Lower end: the least rho that "p_C <= rho p_S" is not refuted at
 * 2/alpha; upper end: the same with the arms swapped and 1/rho; both by the mean over the six ell of the product over
 * looks, no restarts. The estimate is the rho at which the two have equal evidence, that is, at which the looks' signs
 * balance; one burst hardly moves it, so it may differ from confseq_ratio_lr()'s. The upper end assumes arms that are
 * equally noisy (docs/statistics.md).
 *
 * Ends are sought in 0.01..100; beyond it they are 0 and INFINITY, or that limit itself if it is refuted. If no value
 * is left, which the guarantee allows with probability alpha, all three are the estimate. Some 50 evaluations of
 * flip_log_e_ells() per look: for reports. Up to 255 events per look and arm these are the exact form (stats/cells.h).
 */
void confseq_ratio_flip(const struct look_counts looks[], size_t n, double alpha, struct confseq *out);

#endif
