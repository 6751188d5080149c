/* One function per form of the null hypothesis; each is the definition in stats/flip.h, law by law. */
#include "stats/thin.h"

#include <math.h>

/*
 * The largest exposure that is compared. Any m that does not look at the events is valid; this one bounds the time of a
 * look, and 67 million requests of each arm are more than a look needs.
 */
static const uint64_t most_exposed = UINT64_C(1) << 26;

static uint64_t least_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* An m-subset of the arm, each event kept with probability t. */
static bool thinned_arm(struct spread *to, enum grid grid, uint64_t n, uint64_t k, uint64_t m, double t,
                        enum rounding rounding)
{
    struct law subset = law_hypergeometric(n, k, m);
    if (t >= 1)
        return spread_law(to, grid, &subset);
    struct spread before;
    struct step thin = {.kind = STEP_THIN, .p = t};
    return spread_law(&before, grid, &subset) && spread_step(to, &before, &thin, rounding);
}

/* FLIP_ABORT and FLIP_NI_THINNED. */
static bool arms_by_event(struct thinned *to, enum grid grid, const struct flip_counts *counts,
                          const struct flip_null *null)
{
    bool abort_form = null->form == FLIP_ABORT;
    enum rounding o_side = abort_form ? ROUND_DOWN : ROUND_UP, j_side = abort_form ? ROUND_UP : ROUND_DOWN;
    uint64_t m = least_of(most_exposed, least_of(counts->n_x, counts->n_y));
    double t_x = null->rho >= 1 ? 1 / null->rho : 1, t_y = null->rho >= 1 ? 1 : null->rho;
    if (!thinned_arm(&to->o, grid, counts->n_x, counts->k_x, m, t_x, o_side))
        return false;
    if (null->delta <= 0)
        return thinned_arm(&to->j, grid, counts->n_y, counts->k_y, m, t_y, j_side);
    double p_max = null->p_max > 0 ? null->p_max : 0.1;
    double added = null->delta * t_x / (abort_form ? 1 - p_max : 1);
    struct step add = {.kind = STEP_ADD_BINOMIAL, .p = fmin(1, added), .m = m};
    struct spread before;
    return thinned_arm(&before, grid, counts->n_y, counts->k_y, m, t_y, j_side) &&
           spread_step(&to->j, &before, &add, j_side);
}

static uint64_t floor_at_most(double x, uint64_t most)
{
    return x < (double)most ? (uint64_t)x : most;
}

/* FLIP_NI: exposures in the ratio 1 : rho instead of thinned events. */
static bool arms_by_request(struct thinned *to, enum grid grid, const struct flip_counts *counts,
                            const struct flip_null *null)
{
    uint64_t m_x = floor_at_most((double)counts->n_y / null->rho, least_of(most_exposed, counts->n_x));
    m_x = m_x > 0 ? m_x : 1;
    uint64_t m_y = floor_at_most(null->rho * (double)m_x + 1e-9, counts->n_y);
    struct law o = law_hypergeometric(counts->n_x, counts->k_x, m_x);
    struct law j = law_hypergeometric(counts->n_y, counts->k_y, m_y);
    if (!spread_law(&to->o, grid, &o))
        return false;
    if (null->delta <= 0)
        return spread_law(&to->j, grid, &j);
    struct step add = {.kind = STEP_ADD_POISSON, .p = null->delta * (double)m_x};
    struct spread before;
    return spread_law(&before, grid, &j) && spread_step(&to->j, &before, &add, ROUND_DOWN);
}

bool thin_arms(struct thinned *to, enum grid grid, const struct flip_counts *counts, const struct flip_null *null)
{
    if (null->form == FLIP_NI)
        return arms_by_request(to, grid, counts, null);
    return arms_by_event(to, grid, counts, null);
}
