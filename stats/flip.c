/*
 * Three parts: the thinned law of each arm (stats/cells.h), the family of bets, and their double sum. The family enters
 * only through `struct bets`: another one needs as many functions of (o, j) that are antisymmetric about 1, rising in o
 * and falling in j.
 *
 * Cells keep the guarantee, because rounding down by one fixed function leaves e(o, j) + e(j, o) = 2 and the monotony.
 * Where a law is thinned once more, its cells stand for the end that makes e smaller: O low and J high for an abort,
 * the reverse for non-inferiority.
 */
#include "stats/flip.h"

#include <math.h>

#include "stats/cells.h"

const double flip_ell[FLIP_BETS] = {0.1, 0.25, 0.5, 1, 2, 4};

/*
 * The largest exposure that is compared. Any m that does not look at the events is valid; this one bounds the time of a
 * look, and 67 million requests of each arm are more than a look needs.
 */
static const uint64_t most_exposed = UINT64_C(1) << 26;

struct arms {
    struct spread o, j;
};

/* Half of e at one pair of counts is 1 / (1 + odds). */
struct bets {
    double odds[FLIP_BETS];
};

/*
 * exp(-2 ell u) for all ell are integer powers of x = exp(-u / 10): 2, 5, 10, 20, 40, 80. `sign` is 1 or, for the NI
 * forms, -1. |u| is kept below 85, where x^80 is still far from overflow.
 */
static struct bets bets_at(double o, double j, double sign)
{
    double u = (o - j) / sqrt(fmax(1, o + j));
    double x = exp(-0.1 * sign * fmax(-85, fmin(85, u)));
    double x2 = x * x, x4 = x2 * x2, x5 = x4 * x, x10 = x5 * x5, x20 = x10 * x10, x40 = x20 * x20;
    return (struct bets){{x2, x5, x10, x20, x40, x40 * x40}};
}

static void sum_bets(const struct arms *arms, double sign, double log_e[FLIP_BETS])
{
    double sum[FLIP_BETS] = {0};
    for (size_t a = 0; a < arms->o.count; a++) {
        double o = (double)cell_first(arms->o.grid, arms->o.first + a);
        double row[FLIP_BETS] = {0};
        for (size_t b = 0; b < arms->j.count; b++) {
            double j = (double)cell_first(arms->j.grid, arms->j.first + b);
            struct bets bets = bets_at(o, j, sign);
            for (int l = 0; l < FLIP_BETS; l++)
                row[l] += arms->j.mass[b] / (1 + bets.odds[l]);
        }
        for (int l = 0; l < FLIP_BETS; l++)
            sum[l] += arms->o.mass[a] * row[l];
    }
    for (int l = 0; l < FLIP_BETS; l++)
        log_e[l] = log(2 * sum[l]);
}

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
static bool arms_by_event(struct arms *arms, enum grid grid, const struct flip_counts *counts,
                          const struct flip_null *null)
{
    bool abort_form = null->form == FLIP_ABORT;
    enum rounding o_side = abort_form ? ROUND_DOWN : ROUND_UP, j_side = abort_form ? ROUND_UP : ROUND_DOWN;
    uint64_t m = least_of(most_exposed, least_of(counts->n_x, counts->n_y));
    double t_x = null->rho >= 1 ? 1 / null->rho : 1, t_y = null->rho >= 1 ? 1 : null->rho;
    if (!thinned_arm(&arms->o, grid, counts->n_x, counts->k_x, m, t_x, o_side))
        return false;
    if (null->delta <= 0)
        return thinned_arm(&arms->j, grid, counts->n_y, counts->k_y, m, t_y, j_side);
    double p_max = null->p_max > 0 ? null->p_max : 0.1;
    double added = null->delta * t_x / (abort_form ? 1 - p_max : 1);
    struct step add = {.kind = STEP_ADD_BINOMIAL, .p = fmin(1, added), .m = m};
    struct spread before;
    return thinned_arm(&before, grid, counts->n_y, counts->k_y, m, t_y, j_side) &&
           spread_step(&arms->j, &before, &add, j_side);
}

static uint64_t floor_at_most(double x, uint64_t most)
{
    return x < (double)most ? (uint64_t)x : most;
}

/* FLIP_NI: exposures in the ratio 1 : rho instead of thinned events. */
static bool arms_by_request(struct arms *arms, enum grid grid, const struct flip_counts *counts,
                            const struct flip_null *null)
{
    uint64_t m_x = floor_at_most((double)counts->n_y / null->rho, least_of(most_exposed, counts->n_x));
    m_x = m_x > 0 ? m_x : 1;
    uint64_t m_y = floor_at_most(null->rho * (double)m_x + 1e-9, counts->n_y);
    struct law o = law_hypergeometric(counts->n_x, counts->k_x, m_x);
    struct law j = law_hypergeometric(counts->n_y, counts->k_y, m_y);
    if (!spread_law(&arms->o, grid, &o))
        return false;
    if (null->delta <= 0)
        return spread_law(&arms->j, grid, &j);
    struct step add = {.kind = STEP_ADD_POISSON, .p = null->delta * (double)m_x};
    struct spread before;
    return spread_law(&before, grid, &j) && spread_step(&arms->j, &before, &add, ROUND_DOWN);
}

static bool in_domain(const struct flip_counts *counts, const struct flip_null *null)
{
    return counts->k_x <= counts->n_x && counts->k_y <= counts->n_y && counts->n_x <= FLIP_REQUESTS &&
           counts->n_y <= FLIP_REQUESTS && isfinite(null->rho) && null->rho > 0 &&
           (null->form == FLIP_ABORT || null->rho >= 1) && null->delta >= 0 && null->delta <= 1 && null->p_max >= 0 &&
           null->p_max < 1;
}

static bool log_e_on(enum grid grid, const struct flip_counts *counts, const struct flip_null *null,
                     double log_e[FLIP_BETS])
{
    for (int l = 0; l < FLIP_BETS; l++)
        log_e[l] = 0;
    if (!in_domain(counts, null))
        return false;
    if (counts->n_x == 0 || counts->n_y == 0)
        return true;
    struct arms arms;
    bool by_request = null->form == FLIP_NI;
    if (by_request ? !arms_by_request(&arms, grid, counts, null) : !arms_by_event(&arms, grid, counts, null))
        return false;
    sum_bets(&arms, null->form == FLIP_ABORT ? 1 : -1, log_e);
    return true;
}

bool flip_log_e(const struct flip_counts *counts, const struct flip_null *null, double log_e[FLIP_BETS])
{
    return log_e_on(GRID_CELLS, counts, null, log_e);
}

bool flip_log_e_exact(const struct flip_counts *counts, const struct flip_null *null, double log_e[FLIP_BETS])
{
    return log_e_on(GRID_UNIT, counts, null, log_e);
}
