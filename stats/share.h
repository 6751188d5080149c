/*
 * SHARE: the e-value of one look from the share of the events that fell on arm X, S = kX / K, K = kX + kY. Faster than
 * FLIP (stats/flip.h) for gross harm, as one look may multiply by up to 1/pi0, and as robust against bursts and noisy
 * pods, provided that all pods are alike. For `exchangeable: pods`, in an average with FLIP.
 *
 * H0: p_X <= rho p_Y, rho >= 1; there is no additive margin. With pi0 = rho nX / (rho nX + nY), the share that X may
 * have, and a bet (g, kappa), g > 1,
 *   x = (g - 1) pi0 min(K, kappa),  f = min(x / (1 + x), 0.95),  ln e = ln(1 + f (S / pi0 - 1)),  0 for K = 0
 * so f is the stake of a bet on S; kappa bounds what K events in one look may count, for K events in one burst are
 * hardly more than one. e rises in kX and falls in kY (f/K falls in K). It is never below 0.05.
 *
 * When the mean of e is at most 1, given the past and both n:
 *   - rho = 1: whenever E[S | K] <= nX / (nX + nY). That holds if the pods are exchangeable and each gets the same
 *     traffic, whatever the law of the events and however they are tied inside a pod or between pods; and if each burst
 *     falls on an arm in proportion to its traffic. No independence, no rare events.
 *   - rho > 1: if, given risks that are exchangeable between pods, the counts are Poisson. For independent requests
 *     of one risk per arm, however frequent the events, the mean is at most 1 + 0.95 (rho - 1) / (nY + 1); so over T
 *     looks at 1500 stable requests and rho = 1.1 the chance of a false alarm grows by at most e^(T/15800).
 *
 * When it is not:
 *   - the pods get unequal traffic, or the canary's pods are of another size;
 *   - each arm as a whole has noise of its own, of the same relative size in both (a cache or a node per arm): then the
 *     smaller arm's share is above pi0 on average;
 *   - noise that lasts from look to look, as for every engine;
 *   - rho < 1: the same arguments give means above 1. It is outside of the domain.
 *
 * Sources: the construction is haldane's own. Betting on a bounded mean: Waudby-Smith & Ramdas 2024 (JRSS B 86:1).
 */
#ifndef HALDANE_STATS_SHARE_H
#define HALDANE_STATS_SHARE_H

#include <stdbool.h>
#include <stdint.h>

enum { SHARE_RATIOS = 13, SHARE_CAPS = 3, SHARE_BETS = SHARE_RATIOS * SHARE_CAPS };
extern const double share_ratios[SHARE_RATIOS]; /* g: 1.1 to 50 */
extern const double share_caps[SHARE_CAPS];     /* kappa: 3, 30, INFINITY */

/*
 * ln e of one look for one bet; kX events among nX requests, kY among nY. 0 if an n is 0 or there is no event. Domain:
 * k <= n, rho >= 1 and finite, g > 1 and finite, kappa > 0 (INFINITY allowed); NAN outside of it.
 */
double share_log_e(uint64_t k_x, uint64_t n_x, uint64_t k_y, uint64_t n_y, double rho, double g, double kappa);

/*
 * The same for all bets, as mixture_look() takes them: log_e[SHARE_CAPS * i + j] is share_ratios[i] with share_caps[j].
 * Returns false, and zeros, if the arguments are outside of their domain. O(SHARE_BETS).
 */
bool share_log_e_all(uint64_t k_x, uint64_t n_x, uint64_t k_y, uint64_t n_y, double rho, double log_e[SHARE_BETS]);

#endif
