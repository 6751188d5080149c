/* A - 1 and B - 1 are formed without a difference of near numbers, so that log1p keeps all digits of a bet near 1. */
#include "stats/lr.h"

#include <math.h>

const double lr_ratios[LR_BETS] = {1.1, 1.2, 1.35, 1.5, 1.75, 2, 2.5, 3, 4, 6, 10, 20, 50};
const double lr_ni_bets[LR_NI_BETS] = {0.02, 0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9};
const double slo_bets[SLO_BETS] = {1.5, 2, 3, 5, 10, 20};

static bool in_domain(uint64_t k_c, uint64_t n_c, uint64_t k_s, uint64_t n_s, double rho, double delta)
{
    return k_c <= n_c && k_s <= n_s && rho > 0 && isfinite(rho) && delta >= 0 && isfinite(delta);
}

double lr_log_e(uint64_t k_c, uint64_t n_c, uint64_t k_s, uint64_t n_s, double rho, double delta, double g)
{
    if (!in_domain(k_c, n_c, k_s, n_s, rho, delta) || !(g > 0) || !isfinite(g))
        return NAN;
    if (n_c == 0 || n_s == 0)
        return 0;
    double exposed_c = rho * (double)n_c, exposed_s = (double)n_s;
    double total = g * exposed_c + exposed_s;
    double a_less_1 = (g - 1) * exposed_s / total;
    double b_less_1 = -(g - 1) * exposed_c / total;
    return (double)k_c * log1p(a_less_1) + (double)k_s * log1p(b_less_1) - (double)n_c * delta * a_less_1;
}

double lr_ni_log_e(uint64_t k_c, uint64_t n_c, uint64_t k_s, uint64_t n_s, double rho, double delta, double a)
{
    if (!in_domain(k_c, n_c, k_s, n_s, rho, delta) || !(a > 0 && a < 1))
        return NAN;
    if (n_c == 0 || n_s == 0)
        return 0;
    double b_less_1 = (double)n_c / (double)n_s * rho * (1 - a);
    return (double)k_c * log(a) + (double)k_s * log1p(b_less_1) + (double)n_c * delta * (1 - a);
}

double slo_log_e(uint64_t k, uint64_t n, double s, double a)
{
    if (k > n || !(s >= 0 && s <= 1) || !(a > 1) || !isfinite(a))
        return NAN;
    return (double)k * log(a) - (double)n * s * (a - 1);
}
