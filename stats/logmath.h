/*
 * Sums of numbers that are kept as natural logarithms. -INFINITY is ln 0. Each function scales by the largest term, so
 * that nothing overflows and only terms below 1e-16 of the sum are lost (the "log-sum-exp" device, e.g. Blanchard,
 * Higham & Higham 2021, IMA J. Numer. Anal. 41:2311). No errors; a NAN among the arguments gives NAN.
 */
#ifndef HALDANE_STATS_LOGMATH_H
#define HALDANE_STATS_LOGMATH_H

#include <stddef.h>

/* ln(e^a + e^b), for a and b in [-INFINITY, INFINITY]. */
double log_add_exp(double a, double b);

/* ln(1 + e^x), for every x, accurate at both ends: e^x for x far below 0, x for x far above. */
double log1p_exp(double x);

/* ln of the sum of e^values[i], i < n; -INFINITY for n = 0. */
double log_sum_exp(const double values[], size_t n);

/*
 * ln of the sum of weights[i] e^log_e[i], i < n; weights >= 0. With weights that sum to 1 this is the logarithm of an
 * average of e-values, which is again an e-value whatever ties them together (Vovk & Wang 2021, Ann. Stat. 49:1736). An
 * entry of weight 0 does not count, even where its log_e is INFINITY.
 */
double log_weighted_average(const double log_e[], const double weights[], size_t n);

#endif
