/*
 * The laws of the two thinned counts come from stats/thin.h; here are the bets and their double sum.
 *
 * Both families rest on four lines. Let e(o, j) = 2 / (1 + exp(-2 b)) with b = b(o, j) antisymmetric, rising in o and
 * falling in j. Then e(o, j) + e(j, o) = 2, so a pair (O, J) whose law is symmetric has a mean of 1. Deeper inside the
 * null hypothesis O is smaller and J larger, so the mean is at most 1. Cells round both counts down by one fixed
 * function, which keeps the antisymmetry and the monotony.
 *   b = ell (o - j) / sqrt(max(1, s)), s = o + j: antisymmetric. While s < 1 there is only o = j = 0. For s >= 1
 *     db/do = ell (s - (o - j)/2) / s^1.5 = ell (o/2 + 3j/2) / s^1.5 >= 0, and db/dj = -db/do with o and j exchanged.
 *   b = ln g * (o - j), |o - j| cut off at RATE_REACH: an odd and rising function of o - j.
 *
 * Speed: on a diagonal o + j = s the first kind is a geometric sequence in o - j, so that one exp serves a diagonal and
 * not a pair; the second kind needs only the law of o - j, which the same walk adds up.
 */
#include "stats/flip.h"

#include <math.h>

#include "stats/cells.h"
#include "stats/thin.h"

const double flip_ell[FLIP_ELLS] = {0.1, 0.25, 0.5, 1, 2, 4};

/* ---- the default family: ell 1/4 and 3/4, g 2, 4 and 16 ---- */

/* Half of e at the reach is below 1e-19 or as near to 1; a rate bet has nothing to say beyond it. */
enum { RATE_REACH = 32, RATES = 3 };
static const int rate_log2[RATES] = {1, 2, 4}; /* log2 g */

/* Neighbouring cells of one width. `first` is the lowest count of the first of them. */
struct run {
    const double *mass;
    int64_t first, width;
    size_t count;
};

static size_t runs_of(const struct spread *spread, struct run runs[], size_t room)
{
    size_t count = 0;
    for (size_t i = 0; i < spread->count && count < room; i += runs[count - 1].count) {
        uint64_t first = cell_first(spread->grid, spread->first + i);
        size_t left = spread->count - i, same = cells_alike(spread->grid, spread->first + i);
        uint64_t width = cell_last(spread->grid, spread->first + i) - first + 1;
        runs[count++] = (struct run){spread->mass + i, (int64_t)first, (int64_t)width, left < same ? left : same};
    }
    return count;
}

static int64_t highest(const struct run *run)
{
    return run->first + (int64_t)(run->count - 1) * run->width;
}

/* What is summed over all pairs of counts, in halves of e. */
struct sums {
    double gentle, steep;                  /* ell 1/4, 3/4 */
    double difference[2 * RATE_REACH + 1]; /* the law of o - j, its ends cut off */
};

static int64_t within(int64_t x, int64_t limit)
{
    return x < -limit ? -limit : x > limit ? limit : x;
}

/*
 * All pairs with the sum of cells a of O and b of J, from there on upwards in o. x = exp(-u / 2) = exp(-2 ell u) for
 * ell 1/4, x^3 for 3/4. The start is kept where the product below is finite; so far out both bets have long been 0
 * or 2.
 */
static void add_diagonal(struct sums *sums, const struct run *o, const struct run *j, size_t a, size_t b)
{
    int64_t at_o = o->first + (int64_t)a * o->width, at_j = j->first + (int64_t)b * j->width;
    int64_t stride = o->width > j->width ? o->width : j->width, difference = at_o - at_j;
    size_t a_step = (size_t)(stride / o->width), b_step = (size_t)(stride / j->width);
    double scale = 0.5 / sqrt(fmax(1, (double)(at_o + at_j)));
    bool alone = o->count - a <= a_step || b < b_step;
    double x = exp(fmax(-170, fmin(170, -scale * (double)difference)));
    double ratio = alone ? 1 : exp(-2 * scale * (double)stride);
    double gentle = 0, steep = 0;
    for (;; a += a_step, b -= b_step, difference += 2 * stride, x *= ratio) {
        double mass = o->mass[a] * j->mass[b], under_gentle = 1 + x, under_steep = 1 + x * x * x;
        double share = mass / (under_gentle * under_steep);
        gentle += share * under_steep;
        steep += share * under_gentle;
        sums->difference[within(difference, RATE_REACH) + RATE_REACH] += mass;
        if (o->count - a <= a_step || b < b_step)
            break;
    }
    sums->gentle += gentle;
    sums->steep += steep;
}

/* Every pair is on one diagonal, and every diagonal begins where there is no pair before it. */
static void add_runs(struct sums *sums, const struct run *o, const struct run *j)
{
    size_t a_step = o->width < j->width ? (size_t)(j->width / o->width) : 1;
    size_t b_step = j->width < o->width ? (size_t)(o->width / j->width) : 1;
    for (size_t a = 0; a < o->count; a++) {
        bool first = a < a_step || j->count < b_step;
        for (size_t b = first ? 0 : j->count - b_step; b < j->count; b++)
            add_diagonal(sums, o, j, a, b);
    }
}

/* 2 P(o - j) / (1 + g^(-2 (o - j))), summed; powers of two are exact. */
static double mean_of_rate(const double difference[], int first, int last, int log2_g)
{
    double sum = 0, odds = ldexp(1, -2 * log2_g * first), step = ldexp(1, -2 * log2_g);
    for (int d = first; d <= last; d++, odds *= step)
        sum += difference[d + RATE_REACH] / (1 + odds);
    return 2 * sum;
}

static void mean_bets(const struct thinned *arms, double sign, double log_e[FLIP_BETS])
{
    /* e of the NI forms at (o, j) is e of the abort form at (j, o). */
    const struct spread *up = sign > 0 ? &arms->o : &arms->j, *down = sign > 0 ? &arms->j : &arms->o;
    struct run o[CELL_WIDTHS], j[CELL_WIDTHS];
    size_t o_runs = runs_of(up, o, CELL_WIDTHS), j_runs = runs_of(down, j, CELL_WIDTHS);
    const struct run *o_last = &o[o_runs - 1], *j_last = &j[j_runs - 1];
    int first = (int)within(o->first - highest(j_last), RATE_REACH);
    int last = (int)within(highest(o_last) - j->first, RATE_REACH);
    struct sums sums; /* cleared only where it is used: most looks have few events */
    sums.gentle = sums.steep = 0;
    for (int d = first; d <= last; d++)
        sums.difference[d + RATE_REACH] = 0;
    for (size_t a = 0; a < o_runs; a++)
        for (size_t b = 0; b < j_runs; b++)
            add_runs(&sums, &o[a], &j[b]);
    log_e[0] = log(2 * sums.gentle);
    log_e[1] = log(2 * sums.steep);
    for (int r = 0; r < RATES; r++)
        log_e[2 + r] = log(mean_of_rate(sums.difference, first, last, rate_log2[r]));
}

/* ---- the first family: six ell ---- */

/*
 * exp(-2 ell u) for all ell are integer powers of x = exp(-u / 10): 2, 5, 10, 20, 40, 80. `sign` is 1 or, for the NI
 * forms, -1. |u| is kept below 85, where x^80 is still far from overflow.
 */
struct odds {
    double of[FLIP_ELLS];
};

static struct odds odds_at(double o, double j, double sign)
{
    double u = (o - j) / sqrt(fmax(1, o + j));
    double x = exp(-0.1 * sign * fmax(-85, fmin(85, u)));
    double x2 = x * x, x4 = x2 * x2, x5 = x4 * x, x10 = x5 * x5, x20 = x10 * x10, x40 = x20 * x20;
    return (struct odds){{x2, x5, x10, x20, x40, x40 * x40}};
}

static void mean_ells(const struct thinned *arms, double sign, double log_e[FLIP_ELLS])
{
    double sum[FLIP_ELLS] = {0};
    for (size_t a = 0; a < arms->o.count; a++) {
        double o = (double)cell_first(arms->o.grid, arms->o.first + a);
        double row[FLIP_ELLS] = {0};
        for (size_t b = 0; b < arms->j.count; b++) {
            double j = (double)cell_first(arms->j.grid, arms->j.first + b);
            struct odds odds = odds_at(o, j, sign);
            for (int l = 0; l < FLIP_ELLS; l++)
                row[l] += arms->j.mass[b] / (1 + odds.of[l]);
        }
        for (int l = 0; l < FLIP_ELLS; l++)
            sum[l] += arms->o.mass[a] * row[l];
    }
    for (int l = 0; l < FLIP_ELLS; l++)
        log_e[l] = log(2 * sum[l]);
}

/* ---- */

static bool in_domain(const struct flip_counts *counts, const struct flip_null *null)
{
    return counts->k_x <= counts->n_x && counts->k_y <= counts->n_y && counts->n_x <= FLIP_REQUESTS &&
           counts->n_y <= FLIP_REQUESTS && isfinite(null->rho) && null->rho > 0 &&
           (null->form == FLIP_ABORT || null->rho >= 1) && null->delta >= 0 && null->delta <= 1 && null->p_max >= 0 &&
           null->p_max < 1;
}

typedef void (*family)(const struct thinned *arms, double sign, double log_e[]);

static bool log_e_of(family means, size_t bets, enum grid grid, const struct flip_counts *counts,
                     const struct flip_null *null, double log_e[])
{
    for (size_t l = 0; l < bets; l++)
        log_e[l] = 0;
    if (!in_domain(counts, null))
        return false;
    if (counts->n_x == 0 || counts->n_y == 0)
        return true;
    struct thinned arms;
    if (!thin_arms(&arms, grid, counts, null))
        return false;
    means(&arms, null->form == FLIP_ABORT ? 1 : -1, log_e);
    return true;
}

bool flip_log_e(const struct flip_counts *counts, const struct flip_null *null, double log_e[FLIP_BETS])
{
    return log_e_of(mean_bets, FLIP_BETS, GRID_CELLS, counts, null, log_e);
}

bool flip_log_e_ells(const struct flip_counts *counts, const struct flip_null *null, double log_e[FLIP_ELLS])
{
    return log_e_of(mean_ells, FLIP_ELLS, GRID_CELLS, counts, null, log_e);
}

bool flip_log_e_exact(const struct flip_counts *counts, const struct flip_null *null, double log_e[FLIP_ELLS])
{
    return log_e_of(mean_ells, FLIP_ELLS, GRID_UNIT, counts, null, log_e);
}
