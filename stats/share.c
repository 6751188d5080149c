/* The stake mu / (mu + c/K), with mu = pi_g/pi0 - 1 and c = 1/pi0 - 1 - mu, is x / (1 + x): no near numbers to
 * subtract. */
#include "stats/share.h"

#include <math.h>
#include <string.h>

const double share_ratios[SHARE_RATIOS] = {1.1, 1.2, 1.35, 1.5, 1.75, 2, 2.5, 3, 4, 6, 10, 20, 50};
const double share_caps[SHARE_CAPS] = {3, 30, INFINITY};

static const double largest_stake = 0.95;

static bool in_domain(uint64_t k_x, uint64_t n_x, uint64_t k_y, uint64_t n_y, double rho)
{
    return k_x <= n_x && k_y <= n_y && rho >= 1 && isfinite(rho);
}

double share_log_e(uint64_t k_x, uint64_t n_x, uint64_t k_y, uint64_t n_y, double rho, double g, double kappa)
{
    if (!in_domain(k_x, n_x, k_y, n_y, rho) || !(g > 1) || !isfinite(g) || !(kappa > 0))
        return NAN;
    double events = (double)k_x + (double)k_y;
    if (n_x == 0 || n_y == 0 || events <= 0)
        return 0;
    double exposed = rho * (double)n_x, allowed = exposed / (exposed + (double)n_y);
    double x = (g - 1) * allowed * fmin(events, kappa);
    double stake = fmin(x / (1 + x), largest_stake);
    return log1p(stake * ((double)k_x / events / allowed - 1));
}

bool share_log_e_all(uint64_t k_x, uint64_t n_x, uint64_t k_y, uint64_t n_y, double rho, double log_e[SHARE_BETS])
{
    memset(log_e, 0, SHARE_BETS * sizeof log_e[0]);
    if (!in_domain(k_x, n_x, k_y, n_y, rho))
        return false;
    for (int i = 0; i < SHARE_RATIOS; i++)
        for (int j = 0; j < SHARE_CAPS; j++)
            log_e[SHARE_CAPS * i + j] = share_log_e(k_x, n_x, k_y, n_y, rho, share_ratios[i], share_caps[j]);
    return true;
}
