/* One number per bet carries all restart times at once: capital that entered at different looks is multiplied alike. */
#include "stats/mixture.h"

#include <assert.h>
#include <math.h>

#include "stats/logmath.h"

void mixture_init(struct mixture *mixture, uint32_t bets, enum restart restart, uint32_t planned)
{
    assert(bets >= 1 && bets <= MIXTURE_BETS);
    assert(restart == RESTART_NONE || planned >= 2);
    *mixture = (struct mixture){.bets = bets, .restart = restart, .planned = planned, .reserve = 1};
    for (uint32_t j = 0; j < MIXTURE_BETS; j++)
        mixture->log_w[j] = -INFINITY;
}

/* q_t, the share of the capital that begins at look t = 1, 2, ... */
static double invested_at(const struct mixture *mixture, uint64_t t)
{
    double T = mixture->planned, look = (double)t;
    switch (mixture->restart) {
    case RESTART_NONE:
        return t == 1 ? 1 : 0;
    case RESTART_PLANNED:
        return (t == 1 ? 0.5 : 0) + (t <= mixture->planned ? 1 / (2 * T) : 0);
    case RESTART_TAIL:
        if (t == 1)
            return 0.6;
        return t <= mixture->planned ? 0.25 / (T - 1) : 0.15 * T / (look * (look - 1));
    }
    return 0;
}

void mixture_look(struct mixture *mixture, const double log_e[])
{
    mixture->looks++;
    double q = fmin(invested_at(mixture, mixture->looks), mixture->reserve);
    mixture->reserve -= q;
    double entering = log(q / mixture->bets); /* ln 0 = -INFINITY adds nothing */
    for (uint32_t j = 0; j < mixture->bets; j++) {
        assert(log_e == NULL || !isnan(log_e[j]));
        mixture->log_w[j] = log_add_exp(mixture->log_w[j], entering) + (log_e == NULL ? 0 : log_e[j]);
    }
}

double mixture_log_e(const struct mixture *mixture)
{
    return log_add_exp(log_sum_exp(mixture->log_w, mixture->bets), log(mixture->reserve));
}
