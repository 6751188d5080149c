/*
 * Planning as mathematics: growths against the reference vectors and against sums and simulations made here, and what a
 * user relies on: more harm, more traffic, a wider margin never make a forecast worse.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cjson/cJSON.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stats/flip.h"
#include "stats/mixture.h"
#include "stats/plan.h"
#include "tests/unit/samples.h"

static void assert_close(double got, double want, double relative, const char *what)
{
    if (!(fabs(got - want) <= fmax(1e-12, relative * fabs(want))))
        fail_msg("%s: got %.17g, the reference is %.17g", what, got, want);
}

/* --- the information bound --- */

static void information_is_the_reference(void **state)
{
    (void)state;
    const cJSON *row;
    cJSON_ArrayForEach(row, group("plan_lr"))
    {
        double w = number(row, "w"), p = number(row, "p"), r = number(row, "r"), rho = number(row, "rho");
        double growth = plan_lr_growth(w, 1 - w, r * p, p, rho, 0);
        assert_close(growth, number(row, "nats_per_request"), 1e-10, "nats a request");
        assert_close(log(20) / growth, number(row, "sprt_requests_alpha05"), 1e-10, "requests at 5 %");
    }
}

/* With an absolute margin there is no reference: the largest value on a fine grid of bets is never above it. */
static void information_is_the_best_of_all_bets(void **state)
{
    (void)state;
    static const double cases[][6] = {{75, 1425, 0.02, 0.005, 1.1, 0.001},
                                      {500, 500, 0.03, 0, 1.5, 0.01},
                                      {5, 10, 1, 0.2, 1, 0.1},
                                      {750, 750, 0.011, 0.01, 1, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const double *c = cases[i];
        double best = 0, s = c[4] * c[0] / c[1], most = 1 + 1 / s;
        for (int g = 1; g < 200000; g++) {
            double a = 1 + (most - 1) * g / 200000, b = 1 - s * (a - 1);
            best = fmax(best, c[0] * c[2] * log(a) + c[1] * c[3] * log(b) - c[0] * c[5] * (a - 1));
        }
        double growth = plan_lr_growth(c[0], c[1], c[2], c[3], c[4], c[5]);
        assert_true(growth >= best - 1e-12);
        /* Where the best bet is the largest one, the grid ends a little below it. */
        assert_true(growth <= best * (1 + 1e-4));
    }
    assert_true(plan_lr_growth(75, 1425, 0.011, 0.01, 1.1, 0.001) == 0);
    assert_true(plan_lr_growth(0, 1425, 1, 0.01, 1, 0) == 0);
    assert_true(isnan(plan_lr_growth(75, 1425, 2, 0.01, 1, 0)));
}

/* --- growth of FLIP --- */

static void growth_is_the_reference(void **state)
{
    (void)state;
    const cJSON *row;
    cJSON_ArrayForEach(row, group("plan_flip"))
    {
        bool ni = cJSON_IsTrue(cJSON_GetObjectItem(row, "ni"));
        struct plan_look look = {.n_x = (uint64_t)number(row, "nC"),
                                 .n_y = (uint64_t)number(row, "nS"),
                                 .p_x = number(row, "pC"),
                                 .p_y = number(row, "pS"),
                                 .null = {ni ? FLIP_NI : FLIP_ABORT, number(row, "rho"), number(row, "delta"), 0}};
        const cJSON *ell = cJSON_GetObjectItem(row, "ell"), *want = cJSON_GetObjectItem(row, "gamma_per_look");
        assert_int_equal(cJSON_GetArraySize(ell), FLIP_ELLS);
        assert_int_equal(cJSON_GetArraySize(want), FLIP_ELLS);
        double growth[FLIP_ELLS], best = -INFINITY;
        assert_true(plan_flip_growth_reference(&look, growth));
        for (int l = 0; l < FLIP_ELLS; l++) {
            assert_true(number_of(cJSON_GetArrayItem(ell, l)) == flip_ell[l]);
            assert_close(growth[l], number_of(cJSON_GetArrayItem(want, l)), 1e-8, "growth");
            best = fmax(best, growth[l]);
        }
        assert_close(best, number(row, "best"), 1e-8, "best growth");
    }
}

static const struct flip_null abort_null = {FLIP_ABORT, 1.1, 0, 0.1};
static const struct flip_null safe_null = {FLIP_NI, 1.5, 0.001, 0};

/* The lattice against the sum over every count. */
static void lattice_is_the_sum(void **state)
{
    (void)state;
    static const struct plan_look looks[] = {
        {375, 1125, 0.2, 0.1, {FLIP_ABORT, 1.1, 0, 0.1}, 1, false},
        {750, 750, 0.1, 0.1, {FLIP_NI, 1.5, 0.001, 0}, 1, false},
        {75, 1425, 0.3, 0.3, {FLIP_NI, 1.25, 0, 0}, 1, false},
    };
    for (size_t i = 0; i < sizeof looks / sizeof looks[0]; i++) {
        const struct plan_look *look = &looks[i];
        double growth[FLIP_BETS], sum[FLIP_BETS] = {0}, best = 0;
        assert_true(plan_flip_growth(look, growth));
        for (uint64_t x = 0; x <= look->n_x; x++) {
            for (uint64_t y = 0; y <= look->n_y; y++) {
                double weight = gsl_ran_binomial_pdf((unsigned)x, look->p_x, (unsigned)look->n_x) *
                                gsl_ran_binomial_pdf((unsigned)y, look->p_y, (unsigned)look->n_y);
                struct flip_counts counts = {x, look->n_x, y, look->n_y};
                double log_e[FLIP_BETS];
                if (weight < 1e-9)
                    continue;
                flip_log_e(&counts, &look->null, log_e);
                for (int l = 0; l < FLIP_BETS; l++)
                    sum[l] += weight * log_e[l];
            }
        }
        for (int l = 0; l < FLIP_BETS; l++)
            best = fmax(best, sum[l]);
        assert_true(best > 0);
        /* What counts is the bet that carries the evidence. */
        for (int l = 0; l < FLIP_BETS; l++)
            if (sum[l] > 0.5 * best && fabs(growth[l] - sum[l]) > 0.02 * sum[l])
                fail_msg("case %zu, bet %d: %g on the lattice, %g summed", i, l, growth[l], sum[l]);
    }
}

static uint64_t looks_to(const struct plan_look *look, enum restart restart, double needed)
{
    double growth[1][FLIP_BETS];
    assert_true(plan_flip_growth(look, growth[0]));
    struct plan_phase phase = {100000, (const double(*)[FLIP_BETS])growth};
    uint64_t looks = plan_looks(&phase, 1, 1, restart, 160, needed);
    return looks ? looks : UINT64_MAX;
}

static void more_harm_is_caught_no_later(void **state)
{
    (void)state;
    uint64_t before = UINT64_MAX;
    for (int r = 2; r <= 40; r++) {
        struct plan_look look = {75, 1425, 0.005 * r / 2, 0.005, abort_null, 1, false};
        uint64_t looks = looks_to(&look, RESTART_TAIL, log(40));
        assert_true(looks <= before);
        before = looks;
    }
    /* A look can at most double the evidence. */
    assert_true(before >= 6 && before <= 10);
}

static void more_traffic_decides_no_later(void **state)
{
    (void)state;
    uint64_t proof = UINT64_MAX, harm = UINT64_MAX;
    for (uint64_t n = 20; n <= 20480; n *= 2) {
        struct plan_look safe = {n, 19 * n, 0.005, 0.005, safe_null, 1, false};
        struct plan_look bad = {n, 19 * n, 0.01, 0.005, abort_null, 1, false};
        uint64_t proof_now = looks_to(&safe, RESTART_NONE, log(20)), harm_now = looks_to(&bad, RESTART_TAIL, log(40));
        assert_true(proof_now <= proof && harm_now <= harm);
        proof = proof_now;
        harm = harm_now;
    }
    assert_true(proof >= 5 && proof <= 8);
}

static void wider_margins_are_proven_no_later(void **state)
{
    (void)state;
    uint64_t before = UINT64_MAX;
    for (int i = 0; i <= 20; i++) {
        struct plan_look look = {375, 1125, 0.005, 0.005, {FLIP_NI, 1.5, 0.0005 * i, 0}, 1, false};
        uint64_t looks = looks_to(&look, RESTART_NONE, log(20));
        assert_true(looks <= before);
        before = looks;
    }
}

static void smaller_blocks_are_slower(void **state)
{
    (void)state;
    struct plan_look whole = {75, 75 * 6, 0.05, 0.05, safe_null, 1, false};
    struct plan_look blocks = {75, 75, 0.05, 0.05, safe_null, 6, false};
    assert_true(looks_to(&blocks, RESTART_NONE, log(20)) > looks_to(&whole, RESTART_NONE, log(20)));
    /* One block of the same size alone is slower still. */
    struct plan_look alone = {75, 75, 0.05, 0.05, safe_null, 1, false};
    assert_true(looks_to(&blocks, RESTART_NONE, log(20)) < looks_to(&alone, RESTART_NONE, log(20)));
}

static void what_is_out_of_range_is_refused(void **state)
{
    (void)state;
    double growth[FLIP_BETS];
    struct plan_look bad[] = {{75, 1425, 1.5, 0.1, abort_null, 1, false},
                              {75, 1425, 0.5, NAN, abort_null, 1, false},
                              {UINT64_C(1) << 32, 1425, 0.5, 0.5, abort_null, 1, false},
                              {75, 1425, 0.5, 0.5, {FLIP_ABORT, 0, 0, 0}, 1, false}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        growth[0] = 1;
        assert_false(plan_flip_growth(&bad[i], growth));
        assert_true(growth[0] == 0);
    }
    struct plan_look none = {0, 1425, 0.5, 0.5, abort_null, 1, false};
    assert_true(plan_flip_growth(&none, growth));
    for (int l = 0; l < FLIP_BETS; l++)
        assert_true(growth[l] == 0);
}

/* --- forecasts against simulated runs --- */

enum { RUNS = 600 };

/* Mean looks of simulated runs until the evidence is there. `healthy` looks come first and are not counted. */
static double simulate(gsl_rng *random, const struct plan_look *look, uint64_t healthy, enum restart restart,
                       double needed)
{
    double sum = 0;
    uint64_t blocks = look->blocks;
    for (int run = 0; run < RUNS; run++) {
        struct mixture mixture;
        mixture_init(&mixture, FLIP_BETS, restart, 160);
        uint64_t looks = 0;
        while (mixture_log_e(&mixture) < needed && looks < 20000) {
            double p_x = looks < healthy ? look->p_y : look->p_x, log_e[FLIP_BETS], mean[FLIP_BETS] = {0};
            uint64_t k_x = gsl_ran_binomial(random, p_x, (unsigned)look->n_x);
            for (uint64_t b = 0; b < blocks; b++) {
                uint64_t k_y = gsl_ran_binomial(random, look->p_y, (unsigned)look->n_y);
                struct flip_counts counts = {k_x, look->n_x, k_y, look->n_y};
                assert_true(flip_log_e(&counts, &look->null, log_e));
                for (int l = 0; l < FLIP_BETS; l++)
                    mean[l] += exp(log_e[l]) / (double)blocks;
            }
            for (int l = 0; l < FLIP_BETS; l++)
                log_e[l] = log(mean[l]);
            mixture_look(&mixture, log_e);
            looks++;
        }
        sum += (double)looks - (double)healthy;
    }
    return sum / RUNS;
}

static void assert_forecast(double forecast, double mean, double most, const char *what)
{
    printf("# %s: forecast %g looks, mean of %d runs %.1f\n", what, forecast, RUNS, mean);
    if (!(forecast >= 0.85 * mean && forecast <= most * mean))
        fail_msg("%s: forecast %g looks, simulated %g", what, forecast, mean);
}

static void promotion_takes_what_was_forecast(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        struct plan_look look;
    } cases[] = {
        {"100 rps, 5 %, errors", {75, 1425, 0.005, 0.005, {FLIP_NI, 1.5, 0.001, 0}, 1, false}},
        {"the same in two blocks", {75, 712, 0.005, 0.005, {FLIP_NI, 1.5, 0.001, 0}, 2, false}},
        {"100 rps, 50 %, two blocks", {750, 375, 0.005, 0.005, {FLIP_NI, 1.5, 0.001, 0}, 2, false}},
        {"1000 rps, 5 %", {750, 14250, 0.005, 0.005, {FLIP_NI, 1.5, 0.001, 0}, 1, false}},
        {"100 rps, 5 %, widened", {75, 712, 0.005, 0.005, {FLIP_NI, 2, 0.002, 0}, 2, false}},
        {"slow requests, p50", {75, 712, 0.4, 0.4, {FLIP_NI, 1.3, 0, 0}, 2, false}},
        {"slow requests, p99", {75, 712, 0.01, 0.01, {FLIP_NI, 2.5, 0, 0}, 2, false}},
        {"ten requests in five blocks", {30, 30, 0.1, 0.1, {FLIP_NI, 2, 0, 0}, 5, false}},
    };
    gsl_rng *random = gsl_rng_alloc(gsl_rng_mt19937);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_forecast((double)looks_to(&cases[i].look, RESTART_NONE, log(20)),
                        simulate(random, &cases[i].look, 0, RESTART_NONE, log(20)), 1.25, cases[i].what);
    gsl_rng_free(random);
}

static void abort_takes_what_was_forecast(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        double rps, share, ratio;
        uint64_t healthy;
    } cases[] = {
        {"100 rps, 5 %, 2x", 100, 0.05, 2, 0},
        {"100 rps, 5 %, 5x", 100, 0.05, 5, 0},
        {"100 rps, 25 %, 1.5x", 100, 0.25, 1.5, 0},
        {"1000 rps, 5 %, 1.5x", 1000, 0.05, 1.5, 0},
        {"10 rps, 5 %, 5x", 10, 0.05, 5, 0},
        {"100 rps, 25 %, 2x after 40", 100, 0.25, 2, 40},
        {"100 rps, 25 %, 5x after 100", 100, 0.25, 5, 100},
    };
    gsl_rng *random = gsl_rng_alloc(gsl_rng_mt19937);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double all = cases[i].rps * 15, needed = log(20) - log(0.5);
        struct plan_look bad = {(uint64_t)llround(all * cases[i].share),
                                (uint64_t)llround(all * (1 - cases[i].share)),
                                0.005 * cases[i].ratio,
                                0.005,
                                abort_null,
                                1,
                                false},
                         good = bad;
        good.p_x = good.p_y;
        double healthy[1][FLIP_BETS], harmed[1][FLIP_BETS];
        assert_true(plan_flip_growth(&good, healthy[0]) && plan_flip_growth(&bad, harmed[0]));
        struct plan_phase phases[] = {{cases[i].healthy, (const double(*)[FLIP_BETS])healthy},
                                      {20000, (const double(*)[FLIP_BETS])harmed}};
        uint64_t looks = plan_looks(phases, 2, 1, RESTART_TAIL, 160, needed);
        assert_true(looks > cases[i].healthy);
        assert_forecast((double)(looks - cases[i].healthy),
                        simulate(random, &bad, cases[i].healthy, RESTART_TAIL, needed), 1.4, cases[i].what);
    }
    gsl_rng_free(random);
}

/* --- the path --- */

static void the_path_knows_phases(void **state)
{
    (void)state;
    double up[1][FLIP_BETS], down[1][FLIP_BETS];
    for (int l = 0; l < FLIP_BETS; l++) {
        up[0][l] = 0.5;
        down[0][l] = -0.5;
    }
    const double(*rising)[FLIP_BETS] = (const double(*)[FLIP_BETS])up;
    const double(*falling)[FLIP_BETS] = (const double(*)[FLIP_BETS])down;
    struct plan_phase one[] = {{100, rising}};
    assert_int_equal(plan_looks(one, 1, 1, RESTART_NONE, 0, 2.9), 6);
    /* Looks without evidence only take time; so do looks of health, thanks to the restarts, and little more. */
    struct plan_phase late[] = {{3, NULL}, {100, rising}};
    assert_int_equal(plan_looks(late, 2, 1, RESTART_NONE, 0, 2.9), 9);
    struct plan_phase after[] = {{1000, falling}, {100, rising}};
    uint64_t looks = plan_looks(after, 2, 1, RESTART_TAIL, 1000, 2.9);
    assert_true(looks > 1006 && looks < 1030);
    /* Never, and not within the phases. */
    struct plan_phase never[] = {{10, rising}, {1000000000, falling}};
    assert_int_equal(plan_looks(never, 2, 1, RESTART_TAIL, 1000, 20), 0);
    struct plan_phase brief[] = {{5, rising}};
    assert_int_equal(plan_looks(brief, 1, 1, RESTART_NONE, 0, 2.9), 0);
    assert_int_equal(plan_looks(NULL, 0, 1, RESTART_NONE, 0, 2.9), 0);
}

/* Of four comparisons one tells: an average of the four needs ln 4 more. */
static void comparisons_that_are_idle_cost_their_share(void **state)
{
    (void)state;
    double growth[4][FLIP_BETS] = {{0}};
    for (int l = 0; l < FLIP_BETS; l++)
        growth[2][l] = 0.1;
    struct plan_phase phase = {1000, (const double(*)[FLIP_BETS])growth};
    uint64_t of_four = plan_looks(&phase, 1, 4, RESTART_NONE, 0, 5);
    uint64_t of_one =
        plan_looks(&(struct plan_phase){1000, (const double(*)[FLIP_BETS]) & growth[2]}, 1, 1, RESTART_NONE, 0, 5);
    assert_int_equal(of_one, 50);
    assert_true(of_four == of_one + 13 || of_four == of_one + 14);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(information_is_the_reference),
        cmocka_unit_test(information_is_the_best_of_all_bets),
        cmocka_unit_test(growth_is_the_reference),
        cmocka_unit_test(lattice_is_the_sum),
        cmocka_unit_test(more_harm_is_caught_no_later),
        cmocka_unit_test(more_traffic_decides_no_later),
        cmocka_unit_test(wider_margins_are_proven_no_later),
        cmocka_unit_test(smaller_blocks_are_slower),
        cmocka_unit_test(what_is_out_of_range_is_refused),
        cmocka_unit_test(promotion_takes_what_was_forecast),
        cmocka_unit_test(abort_takes_what_was_forecast),
        cmocka_unit_test(the_path_knows_phases),
        cmocka_unit_test(comparisons_that_are_idle_cost_their_share),
    };
    return cmocka_run_group_tests(tests, load_vectors, unload_vectors);
}
