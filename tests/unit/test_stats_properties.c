/*
 * What the mathematics of stats/ promises to a user, checked without reference numbers: means of e-values by full
 * enumeration, monotony, symmetries, conservation of capital, inverses, units.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gsl/gsl_cdf.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <string.h>

#include "stats/cells.h"
#include "stats/confseq.h"
#include "stats/counter.h"
#include "stats/flip.h"
#include "stats/latency.h"
#include "stats/logmath.h"
#include "stats/lr.h"
#include "stats/mixture.h"
#include "stats/quantile.h"
#include "stats/thin.h"

static void assert_near(double got, double want, double tolerance)
{
    if (!(got == want || fabs(got - want) <= tolerance))
        fail_msg("got %.17g, expected %.17g within %g", got, want, tolerance);
}

/* ---- FLIP: the mean of e ---- */

enum { FAMILIES = 3, MOST_BETS = 6 };
struct family {
    bool (*log_e)(const struct flip_counts *counts, const struct flip_null *null, double log_e[]);
    int bets;
};
static const struct family bets_in_use = {flip_log_e, FLIP_BETS}, six_ells = {flip_log_e_ells, FLIP_ELLS},
                           exact_ells = {flip_log_e_exact, FLIP_ELLS};
static const struct family *const families[FAMILIES] = {&bets_in_use, &six_ells, &exact_ells};

struct arms {
    unsigned n_x, n_y;
    double p_x, p_y;
};

/* The counts that a binomial takes but for less than 1e-12 of its mass. */
static void binomial_range(unsigned n, double p, unsigned *first, unsigned *last)
{
    double reach = 7.2 * sqrt(n * p * (1 - p)) + 12;
    *first = n * p > reach ? (unsigned)(n * p - reach) : 0;
    *last = n * p + reach < n ? (unsigned)(n * p + reach) : n;
}

/* E[e_l] - 1 for independent requests, by enumeration of both counts. `smallest` may be NULL. */
static double excess_of_mean(const struct family *family, const struct flip_null *null, struct arms arms,
                             double *smallest)
{
    double mean[MOST_BETS] = {0}, log_e[MOST_BETS];
    unsigned x0, x1, y0, y1;
    binomial_range(arms.n_x, arms.p_x, &x0, &x1);
    binomial_range(arms.n_y, arms.p_y, &y0, &y1);
    for (unsigned x = x0; x <= x1; x++) {
        for (unsigned y = y0; y <= y1; y++) {
            assert_true(family->log_e(&(struct flip_counts){x, arms.n_x, y, arms.n_y}, null, log_e));
            double p = gsl_ran_binomial_pdf(x, arms.p_x, arms.n_x) * gsl_ran_binomial_pdf(y, arms.p_y, arms.n_y);
            for (int l = 0; l < family->bets; l++)
                mean[l] += p * exp(log_e[l]);
        }
    }
    double largest = -INFINITY, least = INFINITY;
    for (int l = 0; l < family->bets; l++) {
        largest = fmax(largest, mean[l] - 1);
        least = fmin(least, mean[l] - 1);
    }
    if (smallest != NULL)
        *smallest = least;
    return largest;
}

static const unsigned exposures[][2] = {{5, 5}, {4, 16}, {16, 4}, {10, 15}};
static const double risks[] = {0.01, 0.1, 0.3, 0.5};
static const double ratios[] = {0.5, 0.8, 1, 1.1, 1.5};
enum { EXPOSURES = 4, RISKS = 4, RATIOS = 5 };

/* gsl_ran_binomial_pdf() is good to some 1e-14, so are these means. */
static const double rounding = 2e-14;

static void test_abort_mean_is_one_at_the_boundary(void **state)
{
    (void)state;
    for (int f = 0; f < FAMILIES; f++)
        for (int e = 0; e < EXPOSURES; e++)
            for (int i = 0; i < RISKS; i++)
                for (int r = 0; r < RATIOS; r++) {
                    struct flip_null null = {FLIP_ABORT, ratios[r], 0, 0};
                    struct arms arms = {exposures[e][0], exposures[e][1], ratios[r] * risks[i], risks[i]};
                    double least, most = excess_of_mean(families[f], &null, arms, &least);
                    assert_true(most < rounding && least > -rounding);
                }
}

static void test_abort_mean_is_below_one_inside_the_null(void **state)
{
    (void)state;
    struct arms healthy = {10, 15, 0.1, 0.3};
    for (int f = 0; f < FAMILIES; f++)
        assert_true(excess_of_mean(families[f], &(struct flip_null){FLIP_ABORT, 1.1, 0, 0}, healthy, NULL) < -0.01);
}

static void test_abort_with_delta_is_conservative_up_to_p_max(void **state)
{
    (void)state;
    const double deltas[] = {0.01, 0.05, 0.2};
    for (int f = 0; f < FAMILIES; f++)
        for (int e = 0; e < EXPOSURES; e++)
            for (int d = 0; d < 3; d++)
                for (int r = 0; r < RATIOS; r++) {
                    struct flip_null null = {FLIP_ABORT, ratios[r], deltas[d], 0}; /* p_max 0.1 */
                    for (int i = 0; i < 2; i++) {
                        struct arms arms = {exposures[e][0], exposures[e][1], ratios[r] * risks[i] + deltas[d],
                                            risks[i]};
                        assert_true(excess_of_mean(families[f], &null, arms, NULL) < rounding);
                    }
                    null.p_max = 0.5;
                    struct arms arms = {exposures[e][0], exposures[e][1], ratios[r] * 0.5 + deltas[d], 0.5};
                    if (arms.p_x <= 1)
                        assert_true(excess_of_mean(families[f], &null, arms, NULL) < rounding);
                }
}

/* The bound p_max is needed: far above it the promise is void, and the documentation says by how much. */
static void test_abort_with_delta_breaks_above_p_max(void **state)
{
    (void)state;
    struct flip_null null = {FLIP_ABORT, 1, 0.2, 0.1};
    assert_true(excess_of_mean(&bets_in_use, &null, (struct arms){20, 20, 0.7, 0.5}, NULL) > 0.02);
}

static void test_ni_mean_is_at_most_one_up_to_0_8(void **state)
{
    (void)state;
    const double deltas[] = {0, 0.001, 0.1};
    for (int f = 0; f < FAMILIES; f++)
        for (int e = 0; e < EXPOSURES; e++)
            for (int i = 0; i < RISKS; i++)
                for (int d = 0; d < 3; d++)
                    for (int r = 2; r < RATIOS; r++) {
                        struct flip_null null = {FLIP_NI, ratios[r], deltas[d], 0};
                        struct arms arms = {exposures[e][0], exposures[e][1], ratios[r] * risks[i] + deltas[d],
                                            risks[i]};
                        if (arms.p_x <= 0.8)
                            assert_true(excess_of_mean(families[f], &null, arms, NULL) < rounding);
                    }
}

static void test_ni_thinned_mean_is_at_most_one_everywhere(void **state)
{
    (void)state;
    const double deltas[] = {0, 0.001, 0.1}, all_risks[] = {0.01, 0.1, 0.5, 0.7, 0.9};
    for (int f = 0; f < FAMILIES; f++)
        for (int e = 0; e < EXPOSURES; e++)
            for (int i = 0; i < 5; i++)
                for (int d = 0; d < 3; d++)
                    for (int r = 2; r < RATIOS; r++) {
                        struct flip_null null = {FLIP_NI_THINNED, ratios[r], deltas[d], 0};
                        struct arms arms = {exposures[e][0], exposures[e][1], ratios[r] * all_risks[i] + deltas[d],
                                            all_risks[i]};
                        if (arms.p_x <= 1)
                            assert_true(excess_of_mean(families[f], &null, arms, NULL) < rounding);
                    }
}

/* Equal mean risks are not enough, symmetry is needed: one canary request in ten that always fails, against risk .1. */
static double mean_against_lopsided_risks(const struct family *family)
{
    double mean[MOST_BETS] = {0}, log_e[MOST_BETS], most = 0;
    for (unsigned k = 0; k <= 10; k++) {
        assert_true(
            family->log_e(&(struct flip_counts){1, 10, k, 10}, &(struct flip_null){FLIP_ABORT, 1, 0, 0}, log_e));
        for (int l = 0; l < family->bets; l++)
            mean[l] += gsl_ran_binomial_pdf(k, 0.1, 10) * exp(log_e[l]);
    }
    for (int l = 0; l < family->bets; l++)
        most = fmax(most, mean[l]);
    return most;
}

static void test_abort_mean_exceeds_one_for_lopsided_risks(void **state)
{
    (void)state;
    assert_near(mean_against_lopsided_risks(&six_ells), 1.11, 0.01);
    assert_near(mean_against_lopsided_risks(&bets_in_use), 1.096, 0.001);
}

/* Why there are two NI forms. */
static void test_plain_ni_breaks_above_0_8_and_thinned_does_not(void **state)
{
    (void)state;
    struct arms arms = {5, 10, 1, 1 / 1.2};
    struct flip_null null = {FLIP_NI, 1.2, 0, 0};
    assert_near(excess_of_mean(&six_ells, &null, arms, NULL), 0.043, 0.001);
    assert_true(excess_of_mean(&bets_in_use, &null, arms, NULL) > 0.04);
    null.form = FLIP_NI_THINNED;
    for (int f = 0; f < FAMILIES; f++)
        assert_true(excess_of_mean(families[f], &null, arms, NULL) < rounding);
}

/* Counts of 256 and more, where cells hold several counts. Without a second thinning the mean stays 1, but for what the
 * windows leave out; with one it is below 1, and by little. */
static void test_cells_keep_the_mean(void **state)
{
    (void)state;
    const struct {
        struct flip_null null;
        struct arms arms;
        double at_least;
    } cases[] = {
        {{FLIP_ABORT, 1, 0, 0}, {300, 900, 0.9, 0.9}, -1e-9},
        {{FLIP_ABORT, 1, 0, 0}, {900, 300, 0.9, 0.9}, -1e-9},
        {{FLIP_ABORT, 1, 0, 0}, {1400, 700, 0.8, 0.8}, -1e-9},
        {{FLIP_ABORT, 1.25, 0, 0}, {400, 700, 1, 0.8}, -1e-9},
        {{FLIP_ABORT, 1.05, 0, 0}, {900, 340, 0.9975, 0.95}, -0.2},
        {{FLIP_ABORT, 0.9, 0, 0}, {340, 900, 0.9, 1}, -0.2},
        {{FLIP_ABORT, 1, 0.05, 0.5}, {520, 900, 0.55, 0.5}, -0.2},
        {{FLIP_NI_THINNED, 1.05, 0, 0}, {900, 340, 0.9975, 0.95}, -0.2},
        {{FLIP_NI_THINNED, 1, 0.05, 0}, {520, 900, 0.55, 0.5}, -0.6},
        {{FLIP_NI, 1.2, 0, 0}, {500, 1000, 0.72, 0.6}, -0.3},
        {{FLIP_NI, 1.1, 0.02, 0}, {500, 1000, 0.68, 0.6}, -0.3},
    };
    for (int f = 0; f < 2; f++) /* the two on cells */
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            double least, most = excess_of_mean(families[f], &cases[i].null, cases[i].arms, &least);
            if (!(most < rounding && least > cases[i].at_least))
                fail_msg("family %d, case %zu: E[e] - 1 lies in [%g, %g]", f, i, least, most);
        }
}

/* ---- FLIP: shape ---- */

static void test_more_canary_events_never_speak_for_the_canary(void **state)
{
    (void)state;
    const struct flip_null nulls[] = {
        {FLIP_ABORT, 1, 0, 0},           {FLIP_ABORT, 1.1, 0, 0},
        {FLIP_ABORT, 0.8, 0, 0},         {FLIP_ABORT, 1.1, 0.01, 0},
        {FLIP_NI, 1.5, 0.01, 0},         {FLIP_NI, 1, 0, 0},
        {FLIP_NI_THINNED, 1.5, 0, 0},    {FLIP_NI, 1.2, 0, 0},
        {FLIP_ABORT, 1, 0.2, 0},         {FLIP_NI_THINNED, 1, 0, 0},
        {FLIP_NI_THINNED, 1.2, 0.01, 0},
    };
    const uint64_t stable[][2] = {{0, 300}, {40, 400}, {300, 1200}, {700, 2000}};
    for (size_t i = 0; i < sizeof nulls / sizeof nulls[0]; i++)
        for (size_t s = 0; s < 4; s++) {
            double before[FLIP_BETS], here[FLIP_BETS], sign = nulls[i].form == FLIP_ABORT ? 1 : -1;
            for (uint64_t k = 0; k <= 600; k += k < 20 ? 1 : 7) {
                assert_true(flip_log_e(&(struct flip_counts){k, 1000, stable[s][0], stable[s][1]}, &nulls[i], here));
                for (int l = 0; k > 0 && l < FLIP_BETS; l++)
                    assert_true(sign * (exp(here[l]) - exp(before[l])) >= -1e-10);
                memcpy(before, here, sizeof before);
            }
        }
}

/* e(X, Y) + e(Y, X) = 2: what one direction gains the other loses. */
static void test_swapping_the_arms_mirrors_e(void **state)
{
    (void)state;
    const struct flip_counts looks[] = {
        {3, 75, 10, 1425}, {0, 75, 10, 1425}, {37, 750, 14, 750}, {20, 60, 7, 30}, {400, 2000, 3000, 9000}};
    const double rhos[] = {1, 1.1, 2};
    for (int f = 0; f < FAMILIES; f++)
        for (size_t i = 0; i < 5; i++)
            for (int r = 0; r < 3; r++) {
                if (i == 4 && (f < 2 || r > 0)) /* wide cells round: two mirrored thinnings to two sides */
                    continue;
                struct flip_counts swapped = {looks[i].k_y, looks[i].n_y, looks[i].k_x, looks[i].n_x};
                double there[MOST_BETS], back[MOST_BETS], thinned[MOST_BETS];
                families[f]->log_e(&looks[i], &(struct flip_null){FLIP_ABORT, rhos[r], 0, 0}, there);
                families[f]->log_e(&swapped, &(struct flip_null){FLIP_ABORT, 1 / rhos[r], 0, 0}, back);
                families[f]->log_e(&looks[i], &(struct flip_null){FLIP_NI_THINNED, rhos[r], 0, 0}, thinned);
                for (int l = 0; l < families[f]->bets; l++) {
                    assert_near(exp(there[l]) + exp(back[l]), 2, 1e-10);
                    assert_near(exp(there[l]) + exp(thinned[l]), 2, 1e-10);
                }
            }
}

static void test_no_look_gains_more_than_ln_2(void **state)
{
    (void)state;
    double log_e[FLIP_BETS];
    assert_true(flip_log_e(&(struct flip_counts){1000000, 1000000, 0, 1000000},
                           &(struct flip_null){FLIP_ABORT, 1, 0, 0}, log_e));
    for (int l = 0; l < FLIP_BETS; l++)
        assert_true(log_e[l] > 0.69 && log_e[l] <= log(2) + 1e-12);
}

/* The cell form gives away a few hundredths of a nat at most, and nothing where cells hold one count. */
static void test_cells_stay_near_the_exact_form(void **state)
{
    (void)state;
    const struct {
        struct flip_counts counts;
        double near;
    } looks[] = {
        {{3, 75, 10, 1425}, 1e-9},         {{90, 2000, 150, 4000}, 1e-9},        {{300, 3000, 1000, 9000}, 0.05},
        {{700, 5000, 1200, 9000}, 0.05},   {{1000, 20000, 19000, 380000}, 0.05}, {{1100, 20000, 19000, 380000}, 0.05},
        {{4000, 9000, 9000, 20000}, 0.05}, {{19000, 380000, 1000, 20000}, 0.05},
    };
    const struct flip_null nulls[] = {{FLIP_ABORT, 1, 0, 0},    {FLIP_ABORT, 1.1, 0, 0},
                                      {FLIP_ABORT, 0.9, 0, 0},  {FLIP_ABORT, 1, 0.001, 0},
                                      {FLIP_NI, 1.2, 0.001, 0}, {FLIP_NI_THINNED, 1.2, 0.001, 0}};
    for (size_t i = 0; i < sizeof looks / sizeof looks[0]; i++)
        for (size_t h = 0; h < sizeof nulls / sizeof nulls[0]; h++) {
            double cells[FLIP_ELLS], exact[FLIP_ELLS];
            assert_true(flip_log_e_ells(&looks[i].counts, &nulls[h], cells));
            assert_true(flip_log_e_exact(&looks[i].counts, &nulls[h], exact));
            for (int l = 0; l < 4; l++) /* the gentle bets; the steep ones lose hundreds of nats, in both forms */
                if (exact[l] > -3 && fabs(cells[l] - exact[l]) > looks[i].near * fmax(1, -exact[l]))
                    fail_msg("look %zu, null %zu, bet %d: %g on cells, %g exact", i, h, l, cells[l], exact[l]);
        }
}

/*
 * Looks whose whole sums are written out here: with m = n on both sides nothing is thinned at ratio 1, and there is one
 * pair of counts. Small and large, so that a sum runs over single counts and over wide cells.
 */
static void test_the_bets_are_the_ones_of_the_header(void **state)
{
    (void)state;
    const uint64_t pairs[][2] = {{0, 0}, {1, 0}, {7, 3}, {3, 7}, {90, 60}, {0, 40}, {400, 350}, {250, 3000}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct flip_counts look = {pairs[i][0], 5000, pairs[i][1], 5000};
        double o = (double)look.k_x, j = (double)look.k_y, u = (o - j) / sqrt(fmax(1, o + j)), log_e[FLIP_BETS];
        double d = fmax(-32, fmin(32, o - j));
        double b[FLIP_BETS] = {u / 4, u * 3 / 4, log(2) * d, log(4) * d, log(16) * d};
        for (int ni = 0; ni < 2; ni++) {
            assert_true(flip_log_e(&look, &(struct flip_null){ni ? FLIP_NI : FLIP_ABORT, 1, 0, 0}, log_e));
            double near = j < 256 ? 1e-11 : 0.1; /* 3000 stands in a cell of four */
            for (int l = 0; l < FLIP_BETS; l++)
                assert_near(log_e[l], log(2) - log1p_exp(ni ? 2 * b[l] : -2 * b[l]), near);
        }
    }
}

/* The walk along diagonals, over cells of one and of several widths, against a plain double sum. */
static void test_diagonals_cover_every_pair_once(void **state)
{
    (void)state;
    const struct flip_counts looks[] = {{30, 400, 70, 1000},    {250, 3000, 900, 9000},      {250, 3000, 300, 3300},
                                        {9, 1000, 4000, 90000}, {60000, 90000, 1500, 20000}, {40, 75, 760, 1425}};
    const struct flip_null nulls[] = {
        {FLIP_ABORT, 1.1, 0, 0}, {FLIP_ABORT, 1, 0.001, 0}, {FLIP_NI, 1.3, 0.001, 0}, {FLIP_NI_THINNED, 1.2, 0, 0}};
    static struct thinned arms;
    for (size_t i = 0; i < sizeof looks / sizeof looks[0]; i++)
        for (size_t h = 0; h < sizeof nulls / sizeof nulls[0]; h++) {
            double want[FLIP_BETS] = {0}, log_e[FLIP_BETS], sign = nulls[h].form == FLIP_ABORT ? 1 : -1;
            assert_true(thin_arms(&arms, GRID_CELLS, &looks[i], &nulls[h]));
            for (size_t a = 0; a < arms.o.count; a++)
                for (size_t b = 0; b < arms.j.count; b++) {
                    double o = (double)cell_first(GRID_CELLS, arms.o.first + a);
                    double j = (double)cell_first(GRID_CELLS, arms.j.first + b);
                    double u = sign * (o - j) / sqrt(fmax(1, o + j)), d = sign * fmax(-32, fmin(32, o - j));
                    double bet[FLIP_BETS] = {u / 4, u * 3 / 4, log(2) * d, log(4) * d, log(16) * d};
                    for (int l = 0; l < FLIP_BETS; l++)
                        want[l] += arms.o.mass[a] * arms.j.mass[b] * 2 / (1 + exp(-2 * bet[l]));
                }
            assert_true(flip_log_e(&looks[i], &nulls[h], log_e));
            for (int l = 0; l < FLIP_BETS; l++)
                assert_near(log_e[l], log(want[l]), 1e-12 * fmax(1, -log(want[l])));
        }
}

static void test_huge_looks_are_answered(void **state)
{
    (void)state;
    const enum flip_form forms[] = {FLIP_ABORT, FLIP_NI, FLIP_NI_THINNED};
    for (int f = 0; f < 3; f++) {
        double log_e[FLIP_BETS];
        struct flip_null null = {forms[f], 1.1, 0.0001, 0};
        assert_true(flip_log_e(&(struct flip_counts){3000000, 40000000, 60000000, 800000000}, &null, log_e));
        for (int l = 0; l < FLIP_BETS; l++)
            assert_true(isfinite(log_e[l]) && log_e[l] <= log(2));
    }
    double log_e[FLIP_BETS];
    struct flip_null null = {FLIP_ABORT, 1, 0, 0};
    const uint64_t half = FLIP_REQUESTS / 2;
    assert_true(flip_log_e(&(struct flip_counts){half + half / 2, FLIP_REQUESTS, half, FLIP_REQUESTS}, &null, log_e));
    assert_true(log_e[FLIP_BETS - 1] > 0.69);
    double exact[FLIP_ELLS] = {9};
    assert_false(flip_log_e_exact(&(struct flip_counts){50000000, 100000000, 1, 50000000}, &null, exact));
    assert_true(exact[0] == 0);
}

static void test_no_events_are_evidence_where_an_absolute_margin_is_given(void **state)
{
    (void)state;
    struct flip_counts quiet = {0, 500, 0, 9500};
    double log_e[FLIP_BETS];
    assert_true(flip_log_e(&quiet, &(struct flip_null){FLIP_ABORT, 1.1, 0, 0}, log_e));
    for (int l = 0; l < FLIP_BETS; l++)
        assert_near(log_e[l], 0, 1e-12);
    assert_true(flip_log_e(&quiet, &(struct flip_null){FLIP_ABORT, 1.1, 0.001, 0}, log_e));
    for (int l = 0; l < FLIP_BETS; l++)
        assert_true(log_e[l] < -1e-3);
    assert_true(flip_log_e(&quiet, &(struct flip_null){FLIP_NI, 1.5, 0.001, 0}, log_e));
    for (int l = 0; l < FLIP_BETS; l++)
        assert_true(log_e[l] > 1e-3);
}

static void test_flip_refuses_what_is_outside_of_its_domain(void **state)
{
    (void)state;
    const struct flip_counts fine = {1, 10, 2, 20};
    const struct flip_null null = {FLIP_ABORT, 1.1, 0, 0};
    const struct flip_counts bad_counts[] = {{11, 10, 2, 20}, {1, 10, 21, 20}, {1, FLIP_REQUESTS + 1, 2, 20}};
    const struct flip_null bad_nulls[] = {
        {FLIP_ABORT, 0, 0, 0},        {FLIP_ABORT, NAN, 0, 0},      {FLIP_ABORT, INFINITY, 0, 0},
        {FLIP_NI, 0.9, 0, 0},         {FLIP_NI_THINNED, 0.9, 0, 0}, {FLIP_ABORT, 1, -0.1, 0},
        {FLIP_ABORT, 1, 1.1, 0},      {FLIP_ABORT, 1, NAN, 0},      {FLIP_ABORT, 1, 0.1, 1},
        {FLIP_ABORT, 1, 0.1, -0.001},
    };
    double log_e[MOST_BETS] = {9};
    for (int f = 0; f < FAMILIES; f++) {
        for (size_t i = 0; i < sizeof bad_counts / sizeof bad_counts[0]; i++)
            assert_false(families[f]->log_e(&bad_counts[i], &null, log_e) || log_e[0] != 0);
        for (size_t i = 0; i < sizeof bad_nulls / sizeof bad_nulls[0]; i++)
            assert_false(families[f]->log_e(&fine, &bad_nulls[i], log_e) || log_e[0] != 0);
        log_e[0] = 9;
        assert_true(families[f]->log_e(&(struct flip_counts){0, 0, 2, 20}, &null, log_e) && log_e[0] == 0);
        log_e[0] = 9;
        assert_true(families[f]->log_e(&(struct flip_counts){1, 10, 0, 0}, &null, log_e) && log_e[0] == 0);
    }
}

/* ---- LR ---- */

static double lr_mean(unsigned n_c, unsigned n_s, double p_s, double rho, double delta, double bet, bool ni)
{
    double mean = 0, p_c = rho * p_s + delta;
    for (unsigned c = 0; c <= n_c; c++)
        for (unsigned s = 0; s <= n_s; s++)
            mean += gsl_ran_binomial_pdf(c, p_c, n_c) * gsl_ran_binomial_pdf(s, p_s, n_s) *
                    exp(ni ? lr_ni_log_e(c, n_c, s, n_s, rho, delta, bet) : lr_log_e(c, n_c, s, n_s, rho, delta, bet));
    return mean;
}

static void test_lr_mean_is_at_most_one(void **state)
{
    (void)state;
    for (int e = 0; e < EXPOSURES; e++)
        for (int i = 0; i < RISKS; i++)
            for (int r = 2; r < RATIOS; r++) {
                for (int j = 0; j < LR_BETS; j++)
                    assert_true(lr_mean(exposures[e][0], exposures[e][1], risks[i], ratios[r], 0.01, lr_ratios[j],
                                        false) < 1 + rounding);
                for (int j = 0; j < LR_NI_BETS; j++)
                    assert_true(lr_mean(exposures[e][0], exposures[e][1], risks[i], ratios[r], 0.01, lr_ni_bets[j],
                                        true) < 1 + rounding);
            }
    double mean = 0;
    for (unsigned k = 0; k <= 50; k++)
        mean += gsl_ran_binomial_pdf(k, 0.01, 50) * exp(slo_log_e(k, 50, 0.01, 5));
    assert_true(mean < 1 && mean > 0.9);
}

static void test_lr_domain(void **state)
{
    (void)state;
    assert_true(lr_log_e(0, 0, 3, 10, 1, 0, 2) == 0 && lr_log_e(3, 10, 0, 0, 1, 0, 2) == 0);
    assert_true(lr_ni_log_e(0, 0, 3, 10, 1, 0, 0.5) == 0 && slo_log_e(0, 0, 0.1, 2) == 0);
    assert_true(isnan(lr_log_e(4, 3, 0, 10, 1, 0, 2)) && isnan(lr_log_e(0, 3, 0, 10, 0, 0, 2)));
    assert_true(isnan(lr_log_e(0, 3, 0, 10, 1, -1, 2)) && isnan(lr_log_e(0, 3, 0, 10, 1, 0, 0)));
    assert_true(isnan(lr_ni_log_e(0, 3, 0, 10, 1, 0, 1)) && isnan(slo_log_e(0, 3, 1.5, 2)));
    assert_true(isnan(slo_log_e(0, 3, 0.5, 1)) && isnan(slo_log_e(4, 3, 0.5, 2)));
    assert_true(lr_log_e(0, 100, 0, 100, 1, 0.01, 2) < 0);      /* no events count against a regression */
    assert_true(lr_ni_log_e(0, 100, 0, 100, 1, 0.01, 0.5) > 0); /* and for the canary */
}

/* ---- mixture ---- */

static void test_capital_is_conserved_without_evidence(void **state)
{
    (void)state;
    const uint32_t planned[] = {2, 3, 160, 1000};
    for (int restart = RESTART_NONE; restart <= RESTART_PLANNED; restart++)
        for (int i = 0; i < 4; i++) {
            const double none[FLIP_BETS] = {0};
            struct mixture mixture;
            mixture_init(&mixture, FLIP_BETS, (enum restart)restart, planned[i]);
            assert_near(mixture_log_e(&mixture), 0, 1e-15);
            for (int t = 0; t < 5000; t++) {
                mixture_look(&mixture, t % 3 == 0 ? NULL : none);
                assert_near(mixture_log_e(&mixture), 0, 1e-11);
            }
            assert_int_equal(mixture.looks, 5000);
        }
}

/* What is lost at once shows what had been invested: the reserve after t looks is 1 less the weights so far. */
static void test_restart_weights_sum_to_one(void **state)
{
    (void)state;
    const uint32_t planned[] = {2, 3, 160, 1000};
    for (int i = 0; i < 4; i++) {
        double T = planned[i];
        struct mixture tail, fixed;
        mixture_init(&tail, 1, RESTART_TAIL, planned[i]);
        mixture_init(&fixed, 1, RESTART_PLANNED, planned[i]);
        for (uint32_t t = 1; t <= 100000; t++) {
            mixture_look(&tail, (double[]){-INFINITY});
            mixture_look(&fixed, (double[]){-INFINITY});
            if (t == 1)
                assert_near(exp(mixture_log_e(&fixed)), 0.5 - 1 / (2 * T), 1e-12);
            if (t >= planned[i]) {
                assert_near(exp(mixture_log_e(&tail)), 0.15 * T / t, 1e-11); /* the tail still to come */
                assert_near(exp(mixture_log_e(&fixed)), 0, 1e-11);
            }
            if (t == 1)
                assert_near(exp(mixture_log_e(&tail)), 0.4, 1e-12);
        }
    }
}

static void test_a_late_crash_is_seen_however_late(void **state)
{
    (void)state;
    double healthy[FLIP_BETS], crashed[FLIP_BETS];
    struct flip_null null = {FLIP_ABORT, 1.1, 0, 0};
    assert_true(flip_log_e(&(struct flip_counts){0, 75, 14, 1425}, &null, healthy));
    assert_true(flip_log_e(&(struct flip_counts){40, 75, 14, 1425}, &null, crashed));
    const enum restart kinds[] = {RESTART_TAIL, RESTART_PLANNED, RESTART_NONE};
    int needed[3];
    for (int i = 0; i < 3; i++) {
        struct mixture mixture;
        mixture_init(&mixture, FLIP_BETS, kinds[i], 160);
        for (int t = 0; t < 600; t++)
            mixture_look(&mixture, healthy);
        for (needed[i] = 0; needed[i] < 100 && mixture_log_e(&mixture) < log(20); needed[i]++)
            mixture_look(&mixture, crashed);
    }
    assert_true(needed[0] <= 17); /* ln 20 + ln(1/q_600), 12.6 nats, less what is shared by neighbouring restarts */
    assert_true(needed[1] >= 4 * needed[0]); /* first has to win back what 600 healthy looks cost */
    assert_true(needed[2] >= needed[1]);
}

/*
 * The promise to a user: whatever is looked at and how often, a healthy canary is aborted with probability <= alpha. On
 * noise that is alike in both arms FLIP keeps it; LR does not and therefore only holds. Fixed seed.
 */
static void test_false_alarms_under_noisy_arms(void **state)
{
    (void)state;
    enum { RUNS = 400, ROUNDS = 160 };
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    gsl_rng_set(rng, 20240229);
    int flip_alarms = 0, lr_alarms = 0;
    for (int run = 0; run < RUNS; run++) {
        struct mixture flip, lr;
        mixture_init(&flip, FLIP_BETS, RESTART_TAIL, ROUNDS);
        mixture_init(&lr, LR_BETS, RESTART_TAIL, ROUNDS);
        bool flip_alarm = false, lr_alarm = false;
        for (int t = 0; t < ROUNDS; t++) {
            const double p = 0.01, scale = 1 / 0.01 - 1; /* correlation 0.01 between requests of an arm and look */
            unsigned k_c = gsl_ran_binomial(rng, gsl_ran_beta(rng, p * scale, (1 - p) * scale), 75);
            unsigned k_s = gsl_ran_binomial(rng, gsl_ran_beta(rng, p * scale, (1 - p) * scale), 1425);
            double log_e[MIXTURE_BETS];
            flip_log_e(&(struct flip_counts){k_c, 75, k_s, 1425}, &(struct flip_null){FLIP_ABORT, 1, 0, 0}, log_e);
            mixture_look(&flip, log_e);
            for (int j = 0; j < LR_BETS; j++)
                log_e[j] = lr_log_e(k_c, 75, k_s, 1425, 1, 0, lr_ratios[j]);
            mixture_look(&lr, log_e);
            flip_alarm |= mixture_log_e(&flip) >= log(20);
            lr_alarm |= mixture_log_e(&lr) >= log(20);
        }
        flip_alarms += flip_alarm;
        lr_alarms += lr_alarm;
    }
    gsl_rng_free(rng);
    assert_true(flip_alarms <= 0.05 * RUNS + 2 * sqrt(0.05 * 0.95 * RUNS));
    assert_true(lr_alarms > RUNS / 2);
}

/* ---- log space ---- */

static void test_log_sums(void **state)
{
    (void)state;
    assert_near(log_add_exp(log(2), log(3)), log(5), 1e-15);
    assert_true(log_add_exp(-INFINITY, -INFINITY) == -INFINITY && log_add_exp(-INFINITY, 3) == 3);
    assert_near(log_add_exp(1e6, 1e6), 1e6 + log(2), 1e-9);
    assert_near(log1p_exp(-800), 0, 0);
    assert_near(log1p_exp(-30), exp(-30), 1e-26);
    assert_near(log1p_exp(35.9), log1p(exp(35.9)), 1e-14);
    assert_near(log1p_exp(1e300), 1e300, 0);
    assert_true(log_sum_exp(NULL, 0) == -INFINITY);
    assert_near(log_sum_exp((double[]){-5000, -5000, -INFINITY}, 3), -5000 + log(2), 1e-11);
    assert_near(log_weighted_average((double[]){800, 3}, (double[]){0.5, 0.5}, 2), 800 - log(2), 1e-12);
    assert_near(log_weighted_average((double[]){INFINITY, 3}, (double[]){0, 1}, 2), 3, 1e-15);
    assert_true(isnan(log_sum_exp((double[]){1, NAN}, 2)) && isnan(log_add_exp(NAN, 1)));
}

/* ---- latency ---- */

static const double default_edges[] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, INFINITY};
enum { DEFAULT_EDGES = 12 };

/* A log-normal service with median 80 ms, sigma 0.6, in Prometheus's default buckets. `unit` 1000: milliseconds. */
static struct latency_shape lognormal_shape(double requests, double unit)
{
    double le[DEFAULT_EDGES], below = 0;
    uint64_t buckets[DEFAULT_EDGES];
    for (int i = 0; i < DEFAULT_EDGES; i++) {
        double cumulative = isinf(default_edges[i]) ? 1 : gsl_cdf_lognormal_P(default_edges[i], log(0.08), 0.6);
        buckets[i] = (uint64_t)llround(requests * (cumulative - below));
        below = cumulative;
        le[i] = default_edges[i] * unit;
    }
    struct latency_shape shape;
    assert_true(latency_shape_init(&shape, le, buckets, DEFAULT_EDGES));
    return shape;
}

static void test_shape_takes_buckets_apart(void **state)
{
    (void)state;
    struct latency_shape shape;
    const double le[] = {-1, 0, 0.1, 0.5, INFINITY};
    assert_true(latency_shape_init(&shape, le, (uint64_t[]){1, 1, 2, 4, 2}, 5));
    assert_int_equal(shape.edges, 2);
    assert_int_equal(shape.requests, 10);
    assert_true(shape.edge[0] == 0.1 && shape.edge[1] == 0.5);
    assert_near(shape.slow[0], 0.6, 1e-15);
    assert_near(shape.slow[1], 0.2, 1e-15);
    assert_near(latency_slow_share(&shape, 0.1), 0.6, 1e-14);
    assert_near(latency_slow_share(&shape, 0.5), 0.2, 1e-14);
    const uint64_t any[LATENCY_EDGES + 1] = {0};
    double many[LATENCY_EDGES + 1];
    for (int i = 0; i < LATENCY_EDGES; i++)
        many[i] = i + 1;
    many[LATENCY_EDGES] = INFINITY;
    assert_false(latency_shape_init(&shape, many, any, LATENCY_EDGES + 1));
    assert_true(latency_shape_init(&shape, many + 1, any, LATENCY_EDGES));
    assert_false(latency_shape_init(&shape, many, any, LATENCY_EDGES));             /* no +Inf */
    assert_false(latency_shape_init(&shape, (double[]){1, 1, INFINITY}, any, 3));   /* twice the same */
    assert_false(latency_shape_init(&shape, (double[]){2, 1, INFINITY}, any, 3));   /* falls */
    assert_false(latency_shape_init(&shape, (double[]){1, NAN, INFINITY}, any, 3)); /* no number */
    assert_false(latency_shape_init(&shape, (double[]){1, INFINITY, INFINITY}, any, 3) || shape.edges > 0);
    assert_false(latency_shape_init(&shape, many, any, 0));
}

static void test_shapes_without_a_curve_give_nan(void **state)
{
    (void)state;
    struct latency_shape shape;
    const double le[] = {0.1, 0.5, INFINITY};
    const uint64_t empty[] = {0, 0, 0}, flat[] = {3, 0, 3}, one[] = {3, 3};
    const double one_edge[] = {0.1, INFINITY};
    for (int i = 0; i < 3; i++) {
        assert_true(i == 2 ? latency_shape_init(&shape, one_edge, one, 2)
                           : latency_shape_init(&shape, le, i == 0 ? empty : flat, 3));
        assert_true(isnan(latency_at_share(&shape, 0.5)) && isnan(latency_slow_ratio(&shape, 0, 0.1)));
        assert_true(isnan(latency_slow_share(&shape, 0.2)) && isnan(latency_fast_ratio(&shape, 0, 0.1)));
        assert_true(isnan(latency_tau_of_slow_ratio(&shape, 0, 2)));
    }
    shape = lognormal_shape(1e6, 1);
    assert_true(isnan(latency_slow_share(&shape, 0)) && isnan(latency_at_share(&shape, 0)));
    assert_true(isnan(latency_at_share(&shape, 1)) && isnan(latency_slow_ratio(&shape, shape.edges, 0.1)));
    assert_true(isnan(latency_slow_ratio(&shape, 0, -1)) && isnan(latency_tau_of_fast_ratio(&shape, 0, -1)));
}

static void test_share_and_its_inverse_agree(void **state)
{
    (void)state;
    const double requests[] = {40, 1000, 1e9};
    for (int r = 0; r < 3; r++) {
        struct latency_shape shape = lognormal_shape(requests[r], 1);
        double before = 1;
        for (double x = 0.001; x < 100; x *= 1.07) {
            double s = latency_slow_share(&shape, x);
            assert_true(s > 0 && s < 1 && s <= before);
            assert_near(latency_slow_share(&shape, latency_at_share(&shape, s)), s, 1e-12);
            before = s;
        }
    }
    struct latency_shape shape = lognormal_shape(1e9, 1);
    assert_near(latency_at_share(&shape, 0.5), 0.08, 0.004);
    assert_near(latency_at_share(&shape, latency_slow_share(&shape, 0.07)), 0.07, 1e-12);
}

static void test_ratios_rise_with_tau_and_invert(void **state)
{
    (void)state;
    struct latency_shape shape = lognormal_shape(1e6, 1);
    for (size_t i = 0; i < shape.edges; i++) {
        assert_near(latency_slow_ratio(&shape, i, 0), 1, 1e-14);
        assert_near(latency_fast_ratio(&shape, i, 0), 1, 1e-14);
        double slow = 0, fast = 0;
        for (double tau = -0.9; tau < 5; tau += 0.1) {
            double s = latency_slow_ratio(&shape, i, tau), f = latency_fast_ratio(&shape, i, tau);
            assert_true(s >= slow && f >= fast);
            slow = s;
            fast = f;
        }
        for (double tau = -0.3; tau < 1; tau += 0.05) {
            double s = latency_slow_ratio(&shape, i, tau), f = latency_fast_ratio(&shape, i, tau);
            if (shape.slow[i] < 0.98)
                assert_near(latency_tau_of_slow_ratio(&shape, i, s), tau, 1e-9);
            if (shape.slow[i] > 0.02)
                assert_near(latency_tau_of_fast_ratio(&shape, i, 1 / f), tau, 1e-9);
        }
        assert_true(latency_tau_of_slow_ratio(&shape, i, 0) == -0.999);
        assert_true(latency_tau_of_slow_ratio(&shape, i, INFINITY) == 1e6);
        assert_true(latency_tau_of_fast_ratio(&shape, i, 0) == 1e6);
        assert_true(latency_tau_of_fast_ratio(&shape, i, INFINITY) == -0.999);
    }
    assert_near(latency_slow_ratio(&shape, 5, 0.05), 1.16, 0.01); /* at 0.25 s; the truth is 1.20 */
}

static void test_the_unit_of_latency_does_not_matter(void **state)
{
    (void)state;
    struct latency_shape seconds = lognormal_shape(12345, 1), milliseconds = lognormal_shape(12345, 1000);
    for (size_t i = 0; i < seconds.edges; i++) {
        double s = latency_slow_ratio(&seconds, i, 0.2), f = latency_fast_ratio(&seconds, i, 0.2);
        assert_near(latency_slow_ratio(&milliseconds, i, 0.2) / s, 1, 1e-11);
        assert_near(latency_fast_ratio(&milliseconds, i, 0.2) / f, 1, 1e-11);
    }
    assert_near(latency_at_share(&milliseconds, 0.01) / latency_at_share(&seconds, 0.01), 1000, 1e-8);
}

/* Ten empty buckets above the slowest request say nothing: p99.9 must not be drawn towards them. */
static void test_empty_buckets_at_the_ends_change_nothing(void **state)
{
    (void)state;
    struct latency_shape narrow, wide;
    const double le[] = {0.05, 0.1, 0.2, 0.4, INFINITY};
    const double wide_le[] = {0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 1, 10, 100, INFINITY};
    assert_true(latency_shape_init(&narrow, le, (uint64_t[]){0, 50, 40, 10, 0}, 5));
    assert_true(latency_shape_init(&wide, wide_le, (uint64_t[]){0, 0, 0, 50, 40, 10, 0, 0, 0, 0}, 10));
    for (double share = 0.0001; share < 1; share += 0.0499)
        assert_near(latency_at_share(&wide, share), latency_at_share(&narrow, share), 1e-12);
}

static void test_bucket_quantile_is_histogram_quantile(void **state)
{
    (void)state;
    const double le[] = {0.1, 0.25, 0.5, 1, INFINITY};
    const uint64_t counts[] = {10, 50, 30, 8, 2};
    assert_near(bucket_quantile(0.5, le, counts, 5), 0.22, 1e-12);
    assert_near(bucket_quantile(0.95, le, counts, 5), 0.8125, 1e-12);
    double before = 0;
    for (double q = 0.01; q <= 1; q += 0.01) {
        assert_true(bucket_quantile(q, le, counts, 5) >= before);
        before = bucket_quantile(q, le, counts, 5);
    }
    assert_true(isnan(bucket_quantile(0.5, le, counts, LATENCY_EDGES + 1)));
    assert_true(isnan(bucket_quantile(0.5, le, counts, 0)));
}

static void test_a_restart_of_the_target_resets_each_series(void **state)
{
    (void)state;
    uint64_t got[3] = {9, 9, 9};
    counter_increments((uint64_t[]){5, 7, 7, 9}, (bool[]){false, true, false}, 4, got);
    assert_true(got[0] == 2 && got[1] == 7 && got[2] == 2);
    counter_increments((uint64_t[]){5}, NULL, 1, got);
    counter_increments(NULL, NULL, 0, got);
    assert_true(got[0] == 2);
}

/* ---- confidence sequences ---- */

typedef void (*confseq_function)(const struct look_counts[], size_t, double, struct confseq *);
static const confseq_function confseqs[] = {confseq_ratio_lr, confseq_ratio_flip, confseq_difference_lr};
enum { CONFSEQS = 3, RUN = 40 };

static void draw_looks(gsl_rng *rng, struct look_counts looks[], size_t n, double p_c, double p_s, unsigned scale)
{
    for (size_t i = 0; i < n; i++) {
        unsigned n_c = scale * (i < n / 2 ? 75 : 375), n_s = scale * (i < n / 2 ? 1425 : 1125);
        looks[i] = (struct look_counts){gsl_ran_binomial(rng, p_c, n_c), n_c, gsl_ran_binomial(rng, p_s, n_s), n_s};
    }
}

static void test_intervals_hold_their_estimate_and_the_truth(void **state)
{
    (void)state;
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    gsl_rng_set(rng, 7);
    const double truths[][2] = {{0.01, 0.01}, {0.03, 0.01}, {0.005, 0.02}, {0.3, 0.3}};
    const unsigned scales[] = {1, 20}; /* up to some 2000 and 8000 events a look: cells in use */
    for (int i = 0; i < 4; i++)
        for (int s = 0; s < 2; s++) {
            struct look_counts looks[RUN];
            draw_looks(rng, looks, RUN, truths[i][0], truths[i][1], scales[s]);
            for (int f = 0; f < CONFSEQS; f++) {
                struct confseq all, early, sure;
                double truth = f == 2 ? truths[i][0] - truths[i][1] : truths[i][0] / truths[i][1];
                confseqs[f](looks, RUN, 0.05, &all);
                confseqs[f](looks, RUN / 8, 0.05, &early);
                confseqs[f](looks, RUN, 0.001, &sure);
                assert_true(all.lower <= all.estimate && all.estimate <= all.upper);
                assert_true(sure.lower <= truth && truth <= sure.upper);
                assert_true(all.upper - all.lower < early.upper - early.lower);
                assert_true(sure.lower < all.lower && sure.upper > all.upper);
            }
        }
    gsl_rng_free(rng);
}

static void test_a_clear_regression_leaves_the_interval(void **state)
{
    (void)state;
    struct look_counts looks[RUN];
    for (size_t i = 0; i < RUN; i++)
        looks[i] = (struct look_counts){10, 100, 20, 1900};
    for (int f = 0; f < CONFSEQS; f++) {
        struct confseq got;
        confseqs[f](looks, RUN, 0.05, &got);
        assert_true(got.lower > (f == 2 ? 0.04 : 5));
        assert_near(got.estimate, f == 2 ? 0.1 - 20.0 / 1900 : 9.5, f == 1 ? 1 : 1e-9);
    }
}

/* Who is called the canary must not matter for a ratio. */
static void test_swapping_the_arms_inverts_the_ratio(void **state)
{
    (void)state;
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    gsl_rng_set(rng, 11);
    struct look_counts looks[RUN], swapped[RUN];
    draw_looks(rng, looks, RUN, 0.03, 0.01, 1);
    gsl_rng_free(rng);
    for (size_t i = 0; i < RUN; i++)
        swapped[i] = (struct look_counts){looks[i].k_s, looks[i].n_s, looks[i].k_c, looks[i].n_c};
    for (int f = 0; f < 2; f++) {
        struct confseq there, back;
        confseqs[f](looks, RUN, 0.05, &there);
        confseqs[f](swapped, RUN, 0.05, &back);
        assert_near(back.lower * there.upper, 1, 1e-8);
        assert_near(back.upper * there.lower, 1, 1e-8);
        assert_near(back.estimate * there.estimate, 1, 1e-8);
    }
}

static void test_intervals_without_data_say_so(void **state)
{
    (void)state;
    struct confseq got;
    const struct look_counts quiet[] = {{0, 100, 0, 100}, {0, 0, 5, 100}, {3, 50, 0, 0}};
    for (int f = 0; f < 2; f++) {
        confseqs[f](quiet, 3, 0.05, &got);
        assert_true(isnan(got.estimate) && got.lower == 0 && got.upper == INFINITY);
        confseqs[f](NULL, 0, 0.05, &got);
        assert_true(isnan(got.estimate) && got.lower == 0 && got.upper == INFINITY);
    }
    confseq_difference_lr(NULL, 0, 0.05, &got);
    assert_true(isnan(got.estimate) && got.lower == -1 && got.upper == 1);
    for (int f = 0; f < CONFSEQS; f++) {
        confseqs[f](quiet, 3, 1, &got);
        assert_true(isnan(got.estimate) && isnan(got.lower) && isnan(got.upper));
    }
}

static void test_events_in_one_arm_only(void **state)
{
    (void)state;
    struct look_counts canary[RUN], stable[RUN];
    for (size_t i = 0; i < RUN; i++) {
        canary[i] = (struct look_counts){8, 100, 0, 100};
        stable[i] = (struct look_counts){0, 100, 8, 100};
    }
    for (int f = 0; f < 2; f++) {
        struct confseq got;
        confseqs[f](canary, RUN, 0.05, &got);
        assert_true(got.estimate >= 10 && got.lower > 2 && got.upper == INFINITY);
        confseqs[f](stable, RUN, 0.05, &got);
        assert_true(got.estimate <= 0.1 && got.lower == 0 && got.upper < 0.5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_abort_mean_is_one_at_the_boundary),
        cmocka_unit_test(test_abort_mean_is_below_one_inside_the_null),
        cmocka_unit_test(test_abort_with_delta_is_conservative_up_to_p_max),
        cmocka_unit_test(test_abort_with_delta_breaks_above_p_max),
        cmocka_unit_test(test_abort_mean_exceeds_one_for_lopsided_risks),
        cmocka_unit_test(test_ni_mean_is_at_most_one_up_to_0_8),
        cmocka_unit_test(test_ni_thinned_mean_is_at_most_one_everywhere),
        cmocka_unit_test(test_plain_ni_breaks_above_0_8_and_thinned_does_not),
        cmocka_unit_test(test_cells_keep_the_mean),
        cmocka_unit_test(test_more_canary_events_never_speak_for_the_canary),
        cmocka_unit_test(test_swapping_the_arms_mirrors_e),
        cmocka_unit_test(test_no_look_gains_more_than_ln_2),
        cmocka_unit_test(test_cells_stay_near_the_exact_form),
        cmocka_unit_test(test_the_bets_are_the_ones_of_the_header),
        cmocka_unit_test(test_diagonals_cover_every_pair_once),
        cmocka_unit_test(test_huge_looks_are_answered),
        cmocka_unit_test(test_no_events_are_evidence_where_an_absolute_margin_is_given),
        cmocka_unit_test(test_flip_refuses_what_is_outside_of_its_domain),
        cmocka_unit_test(test_lr_mean_is_at_most_one),
        cmocka_unit_test(test_lr_domain),
        cmocka_unit_test(test_capital_is_conserved_without_evidence),
        cmocka_unit_test(test_restart_weights_sum_to_one),
        cmocka_unit_test(test_a_late_crash_is_seen_however_late),
        cmocka_unit_test(test_false_alarms_under_noisy_arms),
        cmocka_unit_test(test_log_sums),
        cmocka_unit_test(test_shape_takes_buckets_apart),
        cmocka_unit_test(test_shapes_without_a_curve_give_nan),
        cmocka_unit_test(test_share_and_its_inverse_agree),
        cmocka_unit_test(test_ratios_rise_with_tau_and_invert),
        cmocka_unit_test(test_the_unit_of_latency_does_not_matter),
        cmocka_unit_test(test_empty_buckets_at_the_ends_change_nothing),
        cmocka_unit_test(test_bucket_quantile_is_histogram_quantile),
        cmocka_unit_test(test_a_restart_of_the_target_resets_each_series),
        cmocka_unit_test(test_intervals_hold_their_estimate_and_the_truth),
        cmocka_unit_test(test_a_clear_regression_leaves_the_interval),
        cmocka_unit_test(test_swapping_the_arms_inverts_the_ratio),
        cmocka_unit_test(test_intervals_without_data_say_so),
        cmocka_unit_test(test_events_in_one_arm_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
