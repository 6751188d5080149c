/* Sums in log space. All natural logarithms. */
#ifndef HALDANE_STATS_LOGMATH_H
#define HALDANE_STATS_LOGMATH_H

#include <stddef.h>

double log_add_exp(double a, double b);              /* ln(e^a + e^b); -INFINITY is ln 0 */
double log1p_exp(double x);                          /* ln(1 + e^x) without overflow */
double log_sum_exp(const double values[], size_t n); /* ln of the sum; -INFINITY for n = 0 */
double log_weighted_average(const double log_e[], const double weights[], size_t n); /* ln sum w_i e^(log_e_i) */

#endif
