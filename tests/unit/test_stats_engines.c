/*
 * The engines beside FLIP and LR: SHARE, gauges, the beta-binomial mixture with the traffic check, exact tests, the
 * service level's bets. First against reference vectors, then for what they promise: means of e-values by full
 * enumeration, also where a promise ends; monotony, symmetries, units, counts up to 10^9.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>

#include "stats/betabinomial.h"
#include "stats/exact.h"
#include "stats/gauge.h"
#include "stats/logmath.h"
#include "stats/lr.h"
#include "stats/mixture.h"
#include "stats/share.h"
#include "tests/unit/samples.h"

static uint64_t count(const cJSON *object, const char *name)
{
    return (uint64_t)number(object, name);
}

/* The file's default tolerance: 1e-10 relative, 1e-12 absolute near 0. */
static void assert_as_reference(double got, double want, const char *what, int at)
{
    if (!(got == want || fabs(got - want) <= fmax(1e-12, 1e-10 * fabs(want))))
        fail_msg("%s, case or look %d: got %.17g, the reference is %.17g", what, at, got, want);
}

static const uint64_t billion = 1000000000;

/* ---- reference vectors ---- */

static void test_share_vectors(void **state)
{
    (void)state;
    int at = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("share_loge"))
    {
        double got = share_log_e(count(c, "kC"), count(c, "nC"), count(c, "kS"), count(c, "nS"), number(c, "rho"),
                                 number(c, "g"), number(c, "kappa"));
        assert_true(number(c, "fmax") == 0.95);
        assert_as_reference(got, number(c, "loge"), "share_loge", at++);
    }
}

static void test_gauge_vectors(void **state)
{
    (void)state;
    int at = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("gauge_loge"))
    {
        double got = gauge_log_e(number(c, "d"), number(c, "scale"), number(c, "ell"));
        assert_as_reference(got, number(c, "loge"), "gauge_loge", at++);
    }
}

static void test_gauge_path_vectors(void **state)
{
    (void)state;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("gauge_flip_path"))
    {
        double past[SAMPLE], log_e[GAUGE_BETS];
        struct gauge_process process;
        struct mixture mixture;
        gauge_init(&process, past, SAMPLE, 1);
        mixture_init(&mixture, GAUGE_BETS, RESTART_PLANNED, (uint32_t)count(c, "T"));
        double differences[SAMPLE], want[SAMPLE];
        size_t looks = read_sample(c, "d", differences);
        assert_int_equal(read_sample(c, "logE", want), looks);
        for (size_t t = 0; t < looks; t++) {
            gauge_look(&process, differences[t], log_e);
            mixture_look(&mixture, log_e);
            assert_as_reference(mixture_log_e(&mixture), want[t], "gauge_flip_path", (int)t);
        }
    }
}

static void test_bb_mixture_vectors(void **state)
{
    (void)state;
    int at = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("bb_mixture"))
    {
        uint64_t s = count(c, "s"), n = count(c, "n");
        double p0 = number(c, "p0"), a = number(c, "a"), b = number(c, "b");
        assert_as_reference(bb_log_e(s, n, p0, a, b), number(c, "two_sided"), "bb_mixture", at);
        assert_as_reference(bb_log_e_upper(s, n, p0, a, b), number(c, "one_sided_upper"), "bb_mixture upper", at++);
    }
}

static void test_bb_cs_vectors(void **state)
{
    (void)state;
    int at = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("bb_cs"))
    {
        struct confseq got;
        bb_confseq(count(c, "s"), count(c, "n"), number(c, "a"), number(c, "b"), number(c, "alpha"), &got);
        assert_as_reference(got.lower, number(c, "lower"), "bb_cs lower", at);
        assert_as_reference(got.upper, number(c, "upper"), "bb_cs upper", at++);
    }
}

static enum exact_alternative alternative_of(const char *name)
{
    if (strcmp(name, "greater") == 0)
        return EXACT_GREATER;
    return strcmp(name, "less") == 0 ? EXACT_LESS : EXACT_TWO_SIDED;
}

static void test_fisher_vectors(void **state)
{
    (void)state;
    int at = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("fisher_exact"))
    {
        double got = fisher_log_p(count(c, "k1"), count(c, "n1"), count(c, "k2"), count(c, "n2"),
                                  alternative_of(word(c, "alternative")));
        assert_as_reference(exp(got), number(c, "p"), "fisher_exact", at++);
    }
}

static void test_binomial_vectors(void **state)
{
    (void)state;
    int at = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("binomial"))
    {
        uint64_t k = count(c, "k"), n = count(c, "n");
        double p0 = number(c, "p0"), lower, upper;
        assert_true(clopper_pearson(k, n, 0.05, &lower, &upper));
        assert_as_reference(exp(binomial_log_upper(k, n, p0)), number(c, "upper_tail"), "binomial upper tail", at);
        assert_as_reference(exp(binomial_log_lower(k, n, p0)), number(c, "lower_tail"), "binomial lower tail", at);
        assert_as_reference(lower, number(c, "cp_lower95"), "Clopper-Pearson lower", at);
        assert_as_reference(upper, number(c, "cp_upper95"), "Clopper-Pearson upper", at++);
    }
}

/* ---- SHARE ---- */

enum { PODS = 4 };

/* The mean of e for each bet over all ways to give `canary` of the pods to the canary: exchangeable pods. */
static void mean_over_labels(const uint64_t counts[PODS], int canary, double mean[SHARE_BETS])
{
    double ways = 0;
    memset(mean, 0, SHARE_BETS * sizeof mean[0]);
    for (unsigned subset = 0; subset < 1u << PODS; subset++) {
        if (__builtin_popcount(subset) != canary)
            continue;
        uint64_t k_x = 0, k_y = 0;
        for (int i = 0; i < PODS; i++)
            *(subset >> i & 1 ? &k_x : &k_y) += counts[i];
        double log_e[SHARE_BETS];
        uint64_t per_pod = 50;
        assert_true(
            share_log_e_all(k_x, per_pod * (uint64_t)canary, k_y, per_pod * (uint64_t)(PODS - canary), 1, log_e));
        for (int j = 0; j < SHARE_BETS; j++)
            mean[j] += exp(log_e[j]);
        ways++;
    }
    for (int j = 0; j < SHARE_BETS; j++)
        mean[j] /= ways;
}

/* Whatever fell on the pods, and however it was tied: if they are exchangeable the mean is 1. 50 is one pod's burst. */
static void test_share_mean_is_one_for_exchangeable_pods(void **state)
{
    (void)state;
    const uint64_t seen[] = {0, 1, 7, 50};
    for (int code = 0; code < 256; code++) {
        uint64_t counts[PODS] = {seen[code & 3], seen[code >> 2 & 3], seen[code >> 4 & 3], seen[code >> 6]};
        for (int canary = 1; canary < PODS; canary++) {
            double mean[SHARE_BETS];
            mean_over_labels(counts, canary, mean);
            for (int j = 0; j < SHARE_BETS; j++)
                assert_near(mean[j], 1, 1e-13);
        }
    }
}

struct rates {
    double x, y; /* expected events of an arm */
    uint64_t n_x, n_y;
};

static double largest_of(const double mean[SHARE_BETS])
{
    double largest = 0;
    for (int j = 0; j < SHARE_BETS; j++) {
        assert_true(mean[j] >= 0);
        largest = fmax(largest, mean[j]);
    }
    return largest;
}

/* GSL's gives NAN for a mean of 0. */
static double poisson(unsigned k, double mean)
{
    return mean > 0 ? gsl_ran_poisson_pdf(k, mean) : k == 0;
}

/* Adds weight times the mean of e of each bet, Poisson counts; the largest sum so far. */
static double poisson_mean(struct rates rates, double rho, double mean[SHARE_BETS], double weight)
{
    const unsigned far = 80;
    for (unsigned x = 0; x < far; x++)
        for (unsigned y = 0; y < far; y++) {
            double log_e[SHARE_BETS], p = poisson(x, rates.x) * poisson(y, rates.y);
            assert_true(share_log_e_all(x, rates.n_x, y, rates.n_y, rho, log_e));
            for (int j = 0; j < SHARE_BETS; j++)
                mean[j] += weight * p * exp(log_e[j]);
        }
    return largest_of(mean);
}

/* Two pods of equal traffic, of which one may be the worse; the canary is either of them, and rho times as bad. */
static void test_share_mean_is_at_most_one_for_poisson_pods_and_a_margin(void **state)
{
    (void)state;
    const double ratios[] = {1, 1.1, 1.5, 3}, risks[][2] = {{1, 1}, {0.2, 0.2}, {4, 0.1}, {10, 0}, {0.3, 0}};
    for (int r = 0; r < 4; r++)
        for (int i = 0; i < 5; i++) {
            double rho = ratios[r], mean[SHARE_BETS] = {0};
            poisson_mean((struct rates){rho * risks[i][0], risks[i][1], 100, 100}, rho, mean, 0.5);
            double largest = poisson_mean((struct rates){rho * risks[i][1], risks[i][0], 100, 100}, rho, mean, 0.5);
            assert_true(largest < 1 + 1e-12);
        }
}

/* Each arm has noise of its own: SHARE is not for that, and its page says so. Arms of 1:19 and 0, 1 or 2 times a rate.
 */
static void test_share_breaks_under_noise_of_whole_arms(void **state)
{
    (void)state;
    double mean[SHARE_BETS] = {0}, largest = 0;
    for (int x = 0; x <= 2; x++)
        for (int y = 0; y <= 2; y++)
            largest = poisson_mean((struct rates){1 * x, 19 * y, 100, 1900}, 1, mean, 1.0 / 9);
    assert_true(largest > 1.2);
}

static double bernoulli_excess(unsigned n_x, unsigned n_y, double p_y, double rho)
{
    double mean[SHARE_BETS] = {0};
    for (unsigned x = 0; x <= n_x; x++)
        for (unsigned y = 0; y <= n_y; y++) {
            double log_e[SHARE_BETS];
            double p = gsl_ran_binomial_pdf(x, rho * p_y, n_x) * gsl_ran_binomial_pdf(y, p_y, n_y);
            assert_true(share_log_e_all(x, n_x, y, n_y, rho, log_e));
            for (int j = 0; j < SHARE_BETS; j++)
                mean[j] += p * exp(log_e[j]);
        }
    return largest_of(mean) - 1;
}

static void test_share_excess_for_frequent_events_is_bounded(void **state)
{
    (void)state;
    const unsigned exposures[][2] = {{5, 5}, {4, 16}, {16, 4}, {10, 40}};
    const double risks[] = {0.001, 0.01, 0.1, 0.3, 0.5}, ratios[] = {1, 1.1, 1.5, 2};
    double largest = 0;
    for (int e = 0; e < 4; e++)
        for (int i = 0; i < 5; i++)
            for (int r = 0; r < 4; r++) {
                double excess = bernoulli_excess(exposures[e][0], exposures[e][1], risks[i], ratios[r]);
                assert_true(excess < 0.95 * (ratios[r] - 1) / (exposures[e][1] + 1) + 1e-13);
                largest = fmax(largest, excess);
            }
    assert_true(largest > 1e-4); /* the bound is not there for nothing */
}

static void test_share_rises_with_harm(void **state)
{
    (void)state;
    double here[SHARE_BETS], worse[SHARE_BETS], better[SHARE_BETS];
    for (uint64_t x = 0; x < 60; x++)
        for (uint64_t y = 0; y < 60; y++) {
            share_log_e_all(x, 60, y, 140, 1.1, here);
            share_log_e_all(x + 1, 60, y, 140, 1.1, worse);
            share_log_e_all(x, 60, y + 1, 140, 1.1, better);
            for (int j = 0; j < SHARE_BETS; j++)
                assert_true(worse[j] > here[j] - 1e-15 && better[j] < here[j] + 1e-15 && here[j] > log(0.0499));
        }
}

static void test_share_takes_all_counts_and_only_its_domain(void **state)
{
    (void)state;
    double log_e[SHARE_BETS];
    assert_true((int)SHARE_BETS <= (int)MIXTURE_BETS);
    assert_true(share_log_e_all(billion, billion, 0, 19 * billion, 1, log_e));
    for (int i = 0; i < SHARE_RATIOS; i++)
        for (int j = 0; j < SHARE_CAPS; j++)
            assert_true(log_e[SHARE_CAPS * i + j] ==
                        share_log_e(billion, billion, 0, 19 * billion, 1, share_ratios[i], share_caps[j]));
    assert_near(log_e[SHARE_BETS - 1], log(20 * 0.95 + 0.05), 1e-12);
    assert_true(share_caps[0] == 3 && share_caps[1] == 30 && isinf(share_caps[2]));
    assert_true(share_ratios[0] == 1.1 && share_ratios[SHARE_RATIOS - 1] == 50);
    assert_true(share_log_e(3, 75, 10, 1425, 1.1, 2, 30) == share_log_e(3, 75000, 10, 1425000, 1.1, 2, 30));
    assert_true(share_log_e(0, 0, 3, 5, 1, 2, 3) == 0 && share_log_e(3, 5, 0, 0, 1, 2, 3) == 0);
    assert_true(share_log_e(0, 5, 0, 5, 1, 2, 3) == 0);
    assert_true(isnan(share_log_e(6, 5, 0, 5, 1, 2, 3)) && isnan(share_log_e(1, 5, 1, 5, 0.9, 2, 3)));
    assert_true(isnan(share_log_e(1, 5, 1, 5, 1, 1, 3)) && isnan(share_log_e(1, 5, 1, 5, 1, 2, 0)));
    assert_false(share_log_e_all(6, 5, 0, 5, 1, log_e));
    assert_true(log_e[0] == 0 && log_e[SHARE_BETS - 1] == 0);
}

/* ---- service level ---- */

static double slo_mean(unsigned n, double p, double s, double bet)
{
    double mean = 0;
    for (unsigned k = 0; k <= n; k++)
        mean += gsl_ran_binomial_pdf(k, p, n) * exp(slo_log_e(k, n, s, bet));
    return mean;
}

static void test_slo_bets(void **state)
{
    (void)state;
    const double levels[] = {0.001, 0.01, 0.1, 0.5};
    for (int j = 0; j < SLO_BETS; j++) {
        assert_true(slo_bets[j] > (j == 0 ? 1 : slo_bets[j - 1]));
        for (int i = 0; i < 4; i++)
            for (unsigned n = 0; n <= 60; n += 12) {
                assert_true(slo_mean(n, levels[i], levels[i], slo_bets[j]) < 1 + 1e-12);
                assert_true(slo_mean(n, levels[i] / 3, levels[i], slo_bets[j]) < 1 + 1e-12);
            }
        assert_true(slo_mean(60, 0.2, 0.01, slo_bets[j]) > 2);
    }
    assert_true(isfinite(slo_log_e(billion, billion, 1e-9, 20)) && slo_log_e(0, billion, 1, 20) < -1e9);
}

/* ---- gauges ---- */

/* The mean of E after the last look over all signs of the differences, whose sizes are given: symmetric noise. */
static double mean_over_signs(const double sizes[], int looks, uint32_t block, double below)
{
    double mean = 0;
    for (unsigned signs = 0; signs < 1u << looks; signs++) {
        double past[16], log_e[GAUGE_BETS];
        struct gauge_process process;
        struct mixture mixture;
        gauge_init(&process, past, 16, block);
        mixture_init(&mixture, GAUGE_BETS, RESTART_TAIL, 6);
        for (int t = 0; t < looks; t++) {
            gauge_look(&process, (signs >> t & 1 ? -sizes[t] : sizes[t]) - below, log_e);
            mixture_look(&mixture, log_e);
        }
        mean += exp(mixture_log_e(&mixture)) / (double)(1u << looks);
    }
    return mean;
}

static void test_gauge_mean_is_one_for_symmetric_noise(void **state)
{
    (void)state;
    const double sizes[][12] = {{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
                                {3, 0.1, 800, 2, 0, 5e4, 1, 1, 0.01, 9, 2, 7},
                                {0, 0, 0, 0, 0, 4, 0, 0, 2, 2, 1, 1e9}};
    for (int i = 0; i < 3; i++) {
        assert_near(mean_over_signs(sizes[i], 12, 1, 0), 1, 1e-12);
        assert_near(mean_over_signs(sizes[i], 12, 2, 0), 1, 1e-12);
        assert_true(mean_over_signs(sizes[i], 12, 1, 0.4) < 0.999);
    }
    assert_true(mean_over_signs(sizes[0], 12, 1, -0.4) > 1.5);
}

static double log_e_after(const double differences[], int looks, uint32_t block, double factor)
{
    double past[64], log_e[GAUGE_BETS];
    struct gauge_process process;
    struct mixture mixture;
    gauge_init(&process, past, 64, block);
    mixture_init(&mixture, GAUGE_BETS, RESTART_TAIL, 160);
    for (int t = 0; t < looks; t++) {
        gauge_look(&process, factor * differences[t], log_e);
        mixture_look(&mixture, log_e);
    }
    return mixture_log_e(&mixture);
}

/* Bytes or gibibytes: the same verdict. Also where nothing moved for a while, so that there is no scale yet. */
static void test_gauge_does_not_know_its_unit(void **state)
{
    (void)state;
    const double noisy[] = {1, -2, 0.5, 3, -1, 4, 2, 5, -0.5, 3}, still[] = {0, 0, 0, 0, 0, 7, 7, -1, 7, 7};
    for (uint32_t block = 1; block <= 2; block++) {
        assert_true(log_e_after(noisy, 10, block, 0x1p-40) == log_e_after(noisy, 10, block, 1));
        assert_near(log_e_after(noisy, 10, block, 1e-9), log_e_after(noisy, 10, block, 1), 1e-12);
        assert_near(log_e_after(still, 10, block, 1e9), log_e_after(still, 10, block, 1e-9), 1e-12);
    }
    assert_true(log_e_after(still, 10, 1, 1) > 0.5);
}

static void test_gauge_bets_from_the_fourth_look_whatever_the_order_before(void **state)
{
    (void)state;
    const double orders[][5] = {{1, -2, 3, 9, 4}, {9, 3, -2, 1, 4}, {-2, 9, 1, 3, 4}};
    double first[GAUGE_BETS], log_e[GAUGE_BETS], past[8];
    for (int i = 0; i < 3; i++) {
        struct gauge_process process;
        gauge_init(&process, past, 8, 1);
        for (int t = 0; t < 5; t++)
            assert_true(gauge_look(&process, orders[i][t], log_e) == (t >= 3));
        for (int l = 0; l < GAUGE_BETS; l++) /* the median of 1 2 3 9 */
            assert_true(log_e[l] == gauge_log_e(4, 2.5, gauge_ell[l]));
        if (i == 0)
            memcpy(first, log_e, sizeof first);
        assert_memory_equal(first, log_e, sizeof first);
    }
}

static void test_gauge_blocks_bet_on_their_mean(void **state)
{
    (void)state;
    double log_e[GAUGE_BETS], past[8];
    struct gauge_process process;
    gauge_init(&process, past, 8, 2);
    for (int t = 1; t <= 6; t++) /* means 1, 1, 1 */
        assert_false(gauge_look(&process, t % 2 ? 3 : -1, log_e));
    assert_false(gauge_look(&process, 5, log_e));
    assert_false(gauge_look(&process, NAN, log_e)); /* no data: the block waits */
    assert_true(log_e[0] == 0 && log_e[GAUGE_BETS - 1] == 0);
    assert_true(gauge_look(&process, 1, log_e));
    for (int l = 0; l < GAUGE_BETS; l++)
        assert_true(log_e[l] == gauge_log_e(3, 1, gauge_ell[l]));
}

static void test_gauge_goes_on_when_its_room_is_full(void **state)
{
    (void)state;
    double log_e[GAUGE_BETS], past[5] = {0, 0, 0, 0, -1};
    struct gauge_process process;
    gauge_init(&process, past, 4, 1);
    for (int t = 0; t < 50; t++)
        gauge_look(&process, t < 4 ? 2 : 1000, log_e);
    assert_true(past[4] == -1 && log_e[0] == gauge_log_e(1000, 2, gauge_ell[0]));
}

static void test_gauge_is_antisymmetric_and_rises(void **state)
{
    (void)state;
    for (int l = 0; l < GAUGE_BETS; l++)
        for (double d = -30; d < 30; d += 0.7) {
            double e = exp(gauge_log_e(d, 2, gauge_ell[l])), mirrored = exp(gauge_log_e(-d, 2, gauge_ell[l]));
            assert_near(e + mirrored, 2, 1e-14);
            assert_true(gauge_log_e(d + 0.7, 2, gauge_ell[l]) >= gauge_log_e(d, 2, gauge_ell[l]));
        }
    assert_near(gauge_log_e(1e308, 1e-308, 4), log(2), 1e-15);
    assert_true(gauge_log_e(0, 1, 1) == 0 && isnan(gauge_log_e(1, 0, 1)) && isnan(gauge_log_e(NAN, 1, 1)));
}

static void test_gauge_difference_counts_what_is_not_allowed(void **state)
{
    (void)state;
    assert_near(gauge_difference(130, 100, 0.25, 0, GAUGE_INCREASE), 5, 1e-12);
    assert_near(gauge_difference(130, 100, 0.25, 10, GAUGE_INCREASE), -5, 1e-12);
    assert_near(gauge_difference(70, 100, 0.25, 0, GAUGE_DECREASE), 5, 1e-12);
    assert_near(gauge_difference(-70, -100, 0.25, 0, GAUGE_INCREASE), 5, 1e-12);
}

/* AR(1) with coefficient phi. */
static void autoregressive(gsl_rng *rng, double phi, double values[], int n)
{
    double x = gsl_ran_gaussian(rng, 1 / sqrt(1 - phi * phi));
    for (int t = 0; t < n; t++) {
        values[t] = x;
        x = phi * x + gsl_ran_gaussian(rng, 1);
    }
}

static void test_gauge_block_grows_with_the_memory_of_the_noise(void **state)
{
    (void)state;
    enum { RUNS = 100, LOOKS = 400, LEVELS = 4 };
    const double phis[LEVELS] = {0, 0.3, 0.5, 0.9};
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    gsl_rng_set(rng, 1);
    double values[LOOKS], sum[LEVELS] = {0};
    for (int i = 0; i < LEVELS; i++)
        for (int run = 0; run < RUNS; run++) {
            autoregressive(rng, phis[i], values, LOOKS);
            struct gauge_blocks blocks = gauge_block(values, LOOKS);
            assert_true(blocks.source != GAUGE_UNKNOWN);
            assert_true(blocks.looks == 32 || blocks.autocorrelation < GAUGE_AUTOCORRELATION);
            sum[i] += log2(blocks.looks) / RUNS;
        }
    gsl_rng_free(rng);
    assert_true(sum[0] < 1);                   /* 1 or 2 looks where there is no memory */
    assert_true(sum[1] > 1.5 && sum[1] < 3.5); /* AR(.3): 4 is what is needed */
    assert_true(sum[2] > 2.8 && sum[2] < 4.5); /* AR(.5): 8 */
    assert_near(sum[3], 5, 1e-9);              /* AR(.9): not even 32 */
}

/* The less is known, the longer the blocks: here there is no memory at all. */
static void test_gauge_block_is_cautious_with_a_short_history(void **state)
{
    (void)state;
    enum { RUNS = 200, LOOKS = 400 };
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    gsl_rng_set(rng, 5);
    double values[LOOKS], brief = 0, full = 0;
    for (int run = 0; run < RUNS; run++) {
        autoregressive(rng, 0, values, LOOKS);
        brief += log2(gauge_block(values, 20).looks) / RUNS;
        full += log2(gauge_block(values, LOOKS).looks) / RUNS;
    }
    gsl_rng_free(rng);
    assert_true(full < 0.5 && brief > 1.2 && brief < 2.5);
}

/* A little slow drift under much fast noise: lag 1 alone would call for short blocks. */
static void test_gauge_block_sees_a_drift_under_noise(void **state)
{
    (void)state;
    enum { LOOKS = 400 };
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    gsl_rng_set(rng, 7);
    double slow[LOOKS];
    autoregressive(rng, 0.98, slow, LOOKS);
    for (int t = 0; t < LOOKS; t++)
        slow[t] += gsl_ran_gaussian(rng, 5);
    gsl_rng_free(rng);
    assert_int_equal(gauge_block(slow, LOOKS).looks, 32);
}

static void test_gauge_block_says_when_it_cannot_tell(void **state)
{
    (void)state;
    double few[] = {1, -2, 3, -1, 2, 4, -3, 0, 1}, constant[200], alternating[200], scaled[200];
    for (int t = 0; t < 200; t++) {
        constant[t] = 3;
        alternating[t] = t % 2 ? 1 : -1;
        scaled[t] = t % 2 ? 0x1p40 : -0x1p40;
    }
    const struct gauge_blocks unknown[] = {gauge_block(NULL, 0), gauge_block(few, 9), gauge_block(constant, 200)};
    for (int i = 0; i < 3; i++)
        assert_true(unknown[i].looks == 32 && unknown[i].source == GAUGE_UNKNOWN && isnan(unknown[i].autocorrelation));
    struct gauge_blocks blocks = gauge_block(alternating, 200), same = gauge_block(scaled, 200);
    assert_true(blocks.looks == 1 && blocks.source == GAUGE_MEASURED && blocks.autocorrelation < -0.9);
    assert_true(same.looks == 1 && same.autocorrelation == blocks.autocorrelation);
    struct gauge_blocks brief = gauge_block(alternating, 20);
    assert_true(brief.looks == 1 && brief.source == GAUGE_MODELLED);
    for (int t = 0; t < 200; t += 3)
        constant[t] = NAN;
    assert_true(gauge_block(constant, 200).source == GAUGE_UNKNOWN);
}

/* What B is for: private noise with memory, no margin. One bet a look is often wrong, one a block is not. */
static void test_gauge_false_alarms_under_noise_with_memory(void **state)
{
    (void)state;
    enum { RUNS = 400, HISTORY = 240, LOOKS = 160 };
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    gsl_rng_set(rng, 3);
    int alarms[2] = {0, 0};
    for (int run = 0; run < RUNS; run++) {
        double values[HISTORY + LOOKS], past[LOOKS], log_e[GAUGE_BETS];
        autoregressive(rng, 0.5, values, HISTORY);
        uint32_t chosen = gauge_block(values, HISTORY).looks;
        autoregressive(rng, 0.5, values, LOOKS);
        for (int i = 0; i < 2; i++) {
            struct gauge_process process;
            struct mixture mixture;
            gauge_init(&process, past, LOOKS, i == 0 ? 1 : chosen);
            mixture_init(&mixture, GAUGE_BETS, RESTART_TAIL, LOOKS);
            bool alarm = false;
            for (int t = 0; t < LOOKS; t++) {
                gauge_look(&process, values[t], log_e);
                mixture_look(&mixture, log_e);
                alarm |= mixture_log_e(&mixture) >= log(20);
            }
            alarms[i] += alarm;
        }
    }
    gsl_rng_free(rng);
    assert_true(alarms[0] > RUNS / 4);
    assert_true(alarms[1] <= 0.05 * RUNS + 2 * sqrt(0.05 * 0.95 * RUNS));
}

/* ---- beta-binomial ---- */

static void test_bb_is_a_martingale(void **state)
{
    (void)state;
    const double p0s[] = {0.001, 0.05, 0.5, 0.9}, priors[][2] = {{1, 1}, {1, 19}, {0.5, 0.5}, {200, 3}};
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            for (uint64_t n = 0; n < 40; n++)
                for (uint64_t s = 0; s <= n; s++) {
                    double p0 = p0s[i], a = priors[j][0], b = priors[j][1];
                    double hit = exp(bb_log_e(s + 1, n + 1, p0, a, b) - bb_log_e(s, n, p0, a, b));
                    double miss = exp(bb_log_e(s, n + 1, p0, a, b) - bb_log_e(s, n, p0, a, b));
                    assert_near(p0 * hit + (1 - p0) * miss, 1, 1e-11);
                    double from = bb_log_e_upper(s, n, p0, a, b);
                    hit = exp(bb_log_e_upper(s + 1, n + 1, p0, a, b) - from);
                    miss = exp(bb_log_e_upper(s, n + 1, p0, a, b) - from);
                    assert_near(p0 * hit + (1 - p0) * miss, 1, 1e-11);
                    assert_true(p0 / 3 * hit + (1 - p0 / 3) * miss < 1); /* and falls inside H0 */
                }
}

/* All paths of 500 trials at once: the probability that E ever reaches 20 is at most 1/20, looked at after each trial.
 */
static void test_bb_keeps_its_level_at_every_stopping_time(void **state)
{
    (void)state;
    enum { TRIALS = 500 };
    const double p0 = 0.05;
    static double alive[TRIALS + 2];
    memset(alive, 0, sizeof alive);
    alive[0] = 1;
    double refuted = 0;
    for (uint64_t n = 1; n <= TRIALS; n++)
        for (uint64_t s = n + 1; s-- > 0;) {
            alive[s] = alive[s] * (1 - p0) + (s > 0 ? alive[s - 1] * p0 : 0);
            if (bb_log_e(s, n, p0, 1, 19) >= log(20)) {
                refuted += alive[s];
                alive[s] = 0;
            }
        }
    assert_true(refuted > 0.002 && refuted <= 0.05);
}

static void test_bb_confseq_ends_where_e_refutes(void **state)
{
    (void)state;
    const uint64_t cases[][2] = {{1, 10}, {3, 100}, {50, 100}, {1000, 20000}, {10000000, 1000000000}};
    for (int i = 0; i < 5; i++) {
        uint64_t s = cases[i][0], n = cases[i][1];
        struct confseq cs, mirrored, wider;
        bb_confseq(s, n, 2, 5, 0.05, &cs);
        bb_confseq(n - s, n, 5, 2, 0.05, &mirrored);
        bb_confseq(s, n, 2, 5, 0.01, &wider);
        assert_near(bb_log_e(s, n, cs.lower, 2, 5), log(20), 1e-5);
        assert_near(bb_log_e(s, n, cs.upper, 2, 5), log(20), 1e-5);
        assert_true(cs.lower < cs.estimate && cs.estimate < cs.upper);
        assert_true(wider.lower < cs.lower && wider.upper > cs.upper);
        assert_near(mirrored.lower, 1 - cs.upper, 1e-12);
        assert_near(mirrored.upper, 1 - cs.lower, 1e-12);
    }
    struct confseq none;
    bb_confseq(0, 0, 1, 1, 0.05, &none);
    assert_true(isnan(none.estimate) && none.lower == 0 && none.upper == 1);
    bb_confseq(3, 2, 1, 1, 0.05, &none);
    assert_true(isnan(none.lower) && isnan(none.upper));
}

/* By 40-digit arithmetic. */
static void test_bb_keeps_its_digits_for_a_billion(void **state)
{
    (void)state;
    assert_near(bb_log_e(10000000, billion, 0.01, 1, 99), -8.1401177513637038, 1e-9);
    assert_near(bb_log_e(10100000, billion, 0.01, 1, 99), 495.24719952439605, 1e-8);
    assert_near(bb_log_e(0, billion, 0.01, 1, 99), 10050319.725355356, 1e-3);
    assert_true(isfinite(bb_log_e_upper(0, billion, 0.01, 1, 99)) && bb_log_e_upper(0, billion, 0.01, 1, 99) < -15);
    assert_true(isfinite(bb_log_e_upper(billion, billion, 0.01, 1, 99)));
    assert_true(isnan(bb_log_e(2, 1, 0.5, 1, 1)) && isnan(bb_log_e(1, 2, 0, 1, 1)) && isnan(bb_log_e(1, 2, 1, 1, 1)));
    assert_true(isnan(bb_log_e(1, 2, 0.5, 0, 1)) && isnan(bb_log_e_upper(1, 2, 0.5, 1, -1)));
}

/* ---- traffic ---- */

static double traffic_log_e(double weight, double tolerance, uint64_t canary, uint64_t stable)
{
    struct traffic_share share;
    assert_true(traffic_share_init(&share, weight, tolerance));
    traffic_share_look(&share, canary, stable);
    return traffic_share_log_e(&share);
}

static void test_traffic_that_fits_never_warns(void **state)
{
    (void)state;
    const double weights[] = {0.001, 0.05, 0.5, 0.95};
    for (int i = 0; i < 4; i++)
        for (uint64_t n = 1000; n <= billion; n *= 10)
            for (int side = -1; side <= 1; side++) { /* in the middle and at both edges of the band */
                uint64_t canary = (uint64_t)round((double)n * weights[i] * (1 + 0.02 * side));
                assert_true(traffic_log_e(weights[i], 0.021, canary, n - canary) < 0);
            }
    assert_true(traffic_log_e(0.05, 0.02, 0, 0) == 0);
}

static void test_traffic_that_does_not_fit_warns(void **state)
{
    (void)state;
    assert_true(traffic_log_e(0.05, 0.02, 100, 900) > log(1000));    /* twice the share, after 1000 requests */
    assert_true(traffic_log_e(0.05, 0.02, 0, 400) > log(1000));      /* nothing arrives */
    assert_true(traffic_log_e(0.5, 0.02, 5400, 4600) > log(100));    /* 54 instead of 50 % */
    assert_true(traffic_log_e(0.01, 0.02, 11000, 989000) > 10);      /* 1.1 instead of 1 %, in a million */
    assert_true(traffic_log_e(0.05, 0, 50500000, 949500000) > 1000); /* and no tolerance in a billion */
    assert_true(traffic_log_e(0.95, 0.1, 1000, 0) <= 1e-12);         /* the band ends at 1 */
}

/* E over a band is never above E of any share in it: so it is valid for each. Looks add up in any order. */
static void test_traffic_e_is_the_least_over_its_band(void **state)
{
    (void)state;
    for (uint64_t canary = 0; canary <= 200; canary++) {
        struct traffic_share share;
        assert_true(traffic_share_init(&share, 0.2, 0.25));
        traffic_share_look(&share, canary / 3, 100);
        traffic_share_look(&share, canary - canary / 3, 200);
        double least = INFINITY;
        for (int i = 0; i <= 1000; i++) {
            double p = share.low + (share.high - share.low) * i / 1000;
            least = fmin(least, bb_log_e(canary, canary + 300, p, share.a, share.b));
        }
        assert_true(traffic_share_log_e(&share) <= least + 1e-12);
        assert_near(traffic_share_log_e(&share), least, 1e-3);
        assert_true(traffic_share_log_e(&share) == traffic_log_e(0.2, 0.25, canary, 300));
    }
}

static void test_traffic_shows_the_share(void **state)
{
    (void)state;
    struct traffic_share share;
    struct confseq cs;
    assert_true(traffic_share_init(&share, 0.05, 0.02));
    traffic_share_look(&share, 1000, 9000);
    traffic_share_confseq(&share, 0.05, &cs);
    assert_true(cs.estimate == 0.1 && cs.lower > 0.08 && cs.upper < 0.12);
    const double wrong[][2] = {{0, 0}, {1, 0}, {-0.1, 0}, {0.5, 1}, {0.5, -0.1}, {NAN, 0}, {0.5, NAN}};
    for (int i = 0; i < 7; i++) {
        assert_false(traffic_share_init(&share, wrong[i][0], wrong[i][1]));
        traffic_share_look(&share, 1000000, 0);
        assert_true(traffic_share_log_e(&share) <= 1e-9);
    }
}

/* ---- exact tests ---- */

static void test_fisher_by_enumeration(void **state)
{
    (void)state;
    const unsigned arms[][2] = {{1, 1}, {5, 5}, {4, 16}, {13, 7}, {30, 60}};
    for (int i = 0; i < 5; i++)
        for (unsigned k1 = 0; k1 <= arms[i][0]; k1++)
            for (unsigned k2 = 0; k2 <= arms[i][1]; k2++) {
                unsigned n1 = arms[i][0], n2 = arms[i][1], events = k1 + k2;
                double greater = 0, less = 0, both = 0, seen = gsl_ran_hypergeometric_pdf(k1, n1, n2, events);
                for (unsigned k = 0; k <= n1; k++) {
                    double p = gsl_ran_hypergeometric_pdf(k, n1, n2, events);
                    greater += k >= k1 ? p : 0;
                    less += k <= k1 ? p : 0;
                    both += p <= seen * (1 + 1e-7) ? p : 0;
                }
                assert_near(exp(fisher_log_p(k1, n1, k2, n2, EXACT_GREATER)) / greater, 1, 1e-11);
                assert_near(exp(fisher_log_p(k1, n1, k2, n2, EXACT_LESS)) / less, 1, 1e-11);
                assert_near(exp(fisher_log_p(k1, n1, k2, n2, EXACT_TWO_SIDED)) / both, 1, 1e-11);
            }
}

static void test_fisher_symmetries_and_monotony(void **state)
{
    (void)state;
    for (uint64_t k1 = 0; k1 <= 40; k1++) {
        double greater = fisher_log_p(k1, 40, 9, 70, EXACT_GREATER);
        assert_near(greater, fisher_log_p(9, 70, k1, 40, EXACT_LESS), 1e-12);
        assert_near(greater, fisher_log_p(40 - k1, 40, 61, 70, EXACT_LESS), 1e-12);
        assert_near(fisher_log_p(k1, 40, 9, 70, EXACT_TWO_SIDED), fisher_log_p(9, 70, k1, 40, EXACT_TWO_SIDED), 1e-12);
        if (k1 > 0)
            assert_true(greater <= fisher_log_p(k1 - 1, 40, 9, 70, EXACT_GREATER) + 1e-15);
    }
}

/* By 40-digit arithmetic. */
static void test_fisher_keeps_its_digits_for_a_billion(void **state)
{
    (void)state;
    assert_near(fisher_log_p(10100, 100000000, 99000, 900000000, EXACT_LESS), -37.167958502913641, 1e-9);
    assert_near(fisher_log_p(500100, billion, 500000, billion, EXACT_GREATER), -0.77530937343555292, 1e-9);
    assert_near(fisher_log_p(510000000, billion, 509000000, billion, EXACT_GREATER), -1005.0793651671153, 1e-7);
    assert_near(fisher_log_p(510000000, billion, 509000000, billion, EXACT_TWO_SIDED), -1005.0793651671153 + log(2),
                1e-7);
    assert_near(fisher_log_p(0, billion, 30, billion, EXACT_LESS), -20.794415634298362, 1e-9);
    assert_true(fisher_log_p(0, billion, billion, billion, EXACT_LESS) < -1e9);
    assert_true(fisher_log_p(0, billion, 0, billion, EXACT_TWO_SIDED) == 0);
    assert_true(fisher_log_p(billion, billion, billion, billion, EXACT_GREATER) == 0);
    assert_true(fisher_log_p(0, 0, 5, 9, EXACT_GREATER) == 0);
    assert_true(isnan(fisher_log_p(2, 1, 0, 1, EXACT_LESS)) &&
                isnan(fisher_log_p(0, EXACT_REQUESTS + 1, 0, 1, EXACT_LESS)));
}

static void test_binomial_tails_by_enumeration(void **state)
{
    (void)state;
    const double risks[] = {0, 1e-6, 0.02, 0.3, 0.5, 0.97, 1};
    for (unsigned n = 0; n <= 60; n += 15)
        for (int i = 0; i < 7; i++)
            for (unsigned k = 0; k <= n; k++) {
                double upper = 0, lower = 0;
                for (unsigned j = 0; j <= n; j++)
                    *(j < k ? &lower : &upper) += gsl_ran_binomial_pdf(j, risks[i], n);
                lower += gsl_ran_binomial_pdf(k, risks[i], n);
                assert_near(exp(binomial_log_upper(k, n, risks[i])), upper, 1e-11 * upper);
                assert_near(exp(binomial_log_lower(k, n, risks[i])), lower, 1e-11 * lower);
            }
    assert_true(isnan(binomial_log_upper(3, 2, 0.5)) && isnan(binomial_log_lower(1, 2, 1.5)));
}

/* A law of a billion trials by its ratios alone, without any special function: it sums to 1. */
static void test_binomial_keeps_its_digits_for_a_billion(void **state)
{
    (void)state;
    const double p = 0.01;
    const int64_t mode = 10000000, reach = 130000, from = 2000; /* 41 and 0.6 standard deviations */
    double all = 1, tail = 0;
    for (int direction = -1; direction <= 1; direction += 2) {
        double term = 1;
        for (int64_t k = mode; k != mode + direction * reach; k += direction) {
            double above = (double)(direction > 0 ? k : k - 1); /* P(above + 1) / P(above) */
            double ratio = ((double)billion - above) / (above + 1) * p / (1 - p);
            term *= direction > 0 ? ratio : 1 / ratio;
            all += term;
            tail += direction > 0 && k + 1 >= mode + from ? term : 0;
        }
    }
    uint64_t k = (uint64_t)(mode + from);
    assert_near(binomial_log_upper(k, billion, p), log(tail / all), 1e-9);
    assert_near(binomial_log_lower(k - 1, billion, p), log1p(-tail / all), 1e-9);
    assert_near(binomial_log_upper(billion, billion, p), (double)billion * log(p), 1e-3);
    assert_near(binomial_log_lower(0, billion, p), (double)billion * log1p(-p), 1e-3);
}

static void test_clopper_pearson_covers(void **state)
{
    (void)state;
    enum { N = 30 };
    for (double p = 0.003; p < 1; p += 0.01) {
        double covered = 0;
        for (unsigned k = 0; k <= N; k++) {
            double lower, upper;
            assert_true(clopper_pearson(k, N, 0.05, &lower, &upper));
            assert_true(lower <= k / (double)N && k / (double)N <= upper);
            covered += lower <= p && p <= upper ? gsl_ran_binomial_pdf(k, p, N) : 0;
        }
        assert_true(covered >= 0.95);
    }
}

static void test_clopper_pearson_ends(void **state)
{
    (void)state;
    double lower, upper, mirrored_lower, mirrored_upper;
    assert_true(clopper_pearson(10000000, billion, 0.05, &lower, &upper));
    assert_true(clopper_pearson(billion - 10000000, billion, 0.05, &mirrored_lower, &mirrored_upper));
    assert_near(binomial_log_upper(10000000, billion, lower), log(0.025), 1e-6);
    assert_near(binomial_log_lower(10000000, billion, upper), log(0.025), 1e-6);
    assert_near(mirrored_lower, 1 - upper, 1e-13);
    assert_near(mirrored_upper, 1 - lower, 1e-13);
    assert_true(clopper_pearson(0, billion, 0.05, &lower, &upper));
    assert_true(lower == 0);
    assert_near(upper, -expm1(log(0.025) / 1e9), 1e-18);
    assert_true(clopper_pearson(0, 0, 0.05, &lower, &upper) && lower == 0 && upper == 1);
    assert_false(clopper_pearson(2, 1, 0.05, &lower, &upper));
    assert_true(isnan(lower) && isnan(upper));
    assert_false(clopper_pearson(1, 2, 0, &lower, &upper));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share_vectors),
        cmocka_unit_test(test_gauge_vectors),
        cmocka_unit_test(test_gauge_path_vectors),
        cmocka_unit_test(test_bb_mixture_vectors),
        cmocka_unit_test(test_bb_cs_vectors),
        cmocka_unit_test(test_fisher_vectors),
        cmocka_unit_test(test_binomial_vectors),
        cmocka_unit_test(test_share_mean_is_one_for_exchangeable_pods),
        cmocka_unit_test(test_share_mean_is_at_most_one_for_poisson_pods_and_a_margin),
        cmocka_unit_test(test_share_breaks_under_noise_of_whole_arms),
        cmocka_unit_test(test_share_excess_for_frequent_events_is_bounded),
        cmocka_unit_test(test_share_rises_with_harm),
        cmocka_unit_test(test_share_takes_all_counts_and_only_its_domain),
        cmocka_unit_test(test_slo_bets),
        cmocka_unit_test(test_gauge_mean_is_one_for_symmetric_noise),
        cmocka_unit_test(test_gauge_does_not_know_its_unit),
        cmocka_unit_test(test_gauge_bets_from_the_fourth_look_whatever_the_order_before),
        cmocka_unit_test(test_gauge_blocks_bet_on_their_mean),
        cmocka_unit_test(test_gauge_goes_on_when_its_room_is_full),
        cmocka_unit_test(test_gauge_is_antisymmetric_and_rises),
        cmocka_unit_test(test_gauge_difference_counts_what_is_not_allowed),
        cmocka_unit_test(test_gauge_block_grows_with_the_memory_of_the_noise),
        cmocka_unit_test(test_gauge_block_is_cautious_with_a_short_history),
        cmocka_unit_test(test_gauge_block_sees_a_drift_under_noise),
        cmocka_unit_test(test_gauge_block_says_when_it_cannot_tell),
        cmocka_unit_test(test_gauge_false_alarms_under_noise_with_memory),
        cmocka_unit_test(test_bb_is_a_martingale),
        cmocka_unit_test(test_bb_keeps_its_level_at_every_stopping_time),
        cmocka_unit_test(test_bb_confseq_ends_where_e_refutes),
        cmocka_unit_test(test_bb_keeps_its_digits_for_a_billion),
        cmocka_unit_test(test_traffic_that_fits_never_warns),
        cmocka_unit_test(test_traffic_that_does_not_fit_warns),
        cmocka_unit_test(test_traffic_e_is_the_least_over_its_band),
        cmocka_unit_test(test_traffic_shows_the_share),
        cmocka_unit_test(test_fisher_by_enumeration),
        cmocka_unit_test(test_fisher_symmetries_and_monotony),
        cmocka_unit_test(test_fisher_keeps_its_digits_for_a_billion),
        cmocka_unit_test(test_binomial_tails_by_enumeration),
        cmocka_unit_test(test_binomial_keeps_its_digits_for_a_billion),
        cmocka_unit_test(test_clopper_pearson_covers),
        cmocka_unit_test(test_clopper_pearson_ends),
    };
    return cmocka_run_group_tests(tests, load_vectors, unload_vectors);
}
