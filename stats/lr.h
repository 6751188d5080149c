/*
 * LR: the likelihood ratio e-value of one look, conditional on the look's totals; exact when requests fail
 * independently. Fast, but not robust against bursts: it holds a rollout, it does not abort one.
 *
 * An e-value is a number >= 0 whose mean is at most 1 under the null hypothesis; all functions return its natural
 * logarithm, per look. Counts: k events among n requests, k <= n. Arms: C canary, S stable. Every function gives 0 (no
 * evidence) if an n that it takes is 0, and NAN outside of its domain. k = 0 is ordinary evidence.
 *
 * Why the mean is at most 1: for independent requests with risks p_i,
 *   E[A^kC B^kS] = prod(1 + p_i (A - 1)) prod(1 + p_j (B - 1)) <= exp(nC pC (A - 1) + nS pS (B - 1)),
 * where pC and pS are the mean risks, and B is chosen so that rho nC (A - 1) + nS (B - 1) = 0. No approximation for
 * rare events enters, and risks may differ between requests.
 *
 * Sources: Wald 1945 (Ann. Math. Stat. 16:117); Lindon & Malek 2022 (NeurIPS, arXiv 2011.03567); Turner, Ly & Gruenwald
 * 2021 (arXiv 2106.02693).
 */
#ifndef HALDANE_STATS_LR_H
#define HALDANE_STATS_LR_H

#include <stdbool.h>
#include <stdint.h>

enum { LR_BETS = 13, LR_NI_BETS = 9, SLO_BETS = 6 };
extern const double lr_ratios[LR_BETS];     /* the alternatives g, relative to rho: 1.1 to 50 */
extern const double lr_ni_bets[LR_NI_BETS]; /* the bets A of the non-inferiority form: 0.02 to 0.9 */
extern const double slo_bets[SLO_BETS];     /* the bets A against a service level: 1.5 2 3 5 10 20 */

/*
 * ln e of H0: p_C <= rho p_S + delta against p_C = g rho p_S, g > 1.
 *   B = (rho nC + nS) / (g rho nC + nS), A = g B;  ln e = kC ln A + kS ln B - nC delta (A - 1)
 * With delta = 0 it is the ratio of two binomial likelihoods of kC given kC + kS. With g < 1 the same formula tests
 * the reverse, H0': p_C >= rho p_S + delta.
 * Domain: rho > 0, delta >= 0, g > 0.
 */
double lr_log_e(uint64_t k_c, uint64_t n_c, uint64_t k_s, uint64_t n_s, double rho, double delta, double g);

/*
 * ln e of H0': p_C >= rho p_S + delta (non-inferiority) with the bet A in (0, 1).
 *   B = 1 + (nC/nS) rho (1 - A);  ln e = kC ln A + kS ln B + nC delta (1 - A)
 * Domain: rho > 0, delta >= 0, 0 < A < 1.
 */
double lr_ni_log_e(uint64_t k_c, uint64_t n_c, uint64_t k_s, uint64_t n_s, double rho, double delta, double a);

/*
 * ln e of the absolute H0: p <= s, a service level, with the bet A > 1.
 *   ln e = k ln A - n s (A - 1)
 * The best bet against a true risk p is A = p / s; guardrails mix all of slo_bets (stats/mixture.h). There need be no
 * stable arm; requests fail independently.
 * Domain: 0 <= s <= 1, A > 1.
 */
double slo_log_e(uint64_t k, uint64_t n, double s, double a);

#endif
