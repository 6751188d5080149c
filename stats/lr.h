/*
 * LR: the likelihood ratio e-value of one look, conditional on the look's totals; exact when requests fail
 * independently. Fast, but not robust against bursts: it holds a rollout, it does not abort one.
 */
#ifndef HALDANE_STATS_LR_H
#define HALDANE_STATS_LR_H

#include <stdbool.h>
#include <stdint.h>

enum { LR_BETS = 13, LR_NI_BETS = 9 };
extern const double lr_ratios[LR_BETS];     /* the alternatives g, relative to rho */
extern const double lr_ni_bets[LR_NI_BETS]; /* the bets A of the non-inferiority form */

/* ln e of H0: p_C <= rho p_S + delta against p_C = g rho p_S, g > 1. 0 if either n is 0. */
double lr_log_e(uint64_t k_c, uint64_t n_c, uint64_t k_s, uint64_t n_s, double rho, double delta, double g);

/* ln e of H0': p_C >= rho p_S + delta with the bet A in (0, 1). 0 if either n is 0. */
double lr_ni_log_e(uint64_t k_c, uint64_t n_c, uint64_t k_s, uint64_t n_s, double rho, double delta, double a);

/* ln e of the absolute H0: p <= s (a service level), bet A > 1. */
double slo_log_e(uint64_t k, uint64_t n, double s, double a);

#endif
