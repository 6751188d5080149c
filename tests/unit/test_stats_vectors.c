/*
 * The mathematics of stats/ against reference vectors: statistics.json in the folder that HALDANE_VECTORS names, made
 * with 40-digit arithmetic and without any of this code. Tolerances are the file's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stats/confseq.h"
#include "stats/counter.h"
#include "stats/flip.h"
#include "stats/latency.h"
#include "stats/logmath.h"
#include "stats/lr.h"
#include "stats/mixture.h"
#include "stats/quantile.h"
#include "tests/unit/samples.h"

enum { LOOKS = 64 };

static const cJSON *field(const cJSON *object, const char *name)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(object, name);
    if (found == NULL)
        fail_msg("a case has no field %s", name);
    return found;
}

static uint64_t count_of(const cJSON *item)
{
    return (uint64_t)number_of(item);
}

static uint64_t count(const cJSON *object, const char *name)
{
    return count_of(field(object, name));
}

static const cJSON *list(const cJSON *object, const char *name)
{
    const cJSON *found = field(object, name);
    if (!cJSON_IsArray(found) || cJSON_GetArraySize(found) == 0)
        fail_msg("the list %s of a case is empty", name);
    return found;
}

/* The file's default: 1e-10 relative, 1e-12 absolute near 0. */
static void assert_close(double got, double want, double relative, const char *what, int at)
{
    if (isnan(want) ? isnan(got) : got == want)
        return;
    if (isinf(want) || !(fabs(got - want) <= fmax(1e-12, relative * fabs(want))))
        fail_msg("%s, case or look %d: got %.17g, the reference is %.17g", what, at, got, want);
}

static const double usual = 1e-10;

static size_t read_looks(const cJSON *data, struct look_counts looks[LOOKS])
{
    size_t n = 0;
    const cJSON *row;
    cJSON_ArrayForEach(row, data)
    {
        assert_true(n < LOOKS && cJSON_GetArraySize(row) == 4);
        looks[n].k_c = count_of(cJSON_GetArrayItem(row, 0));
        looks[n].n_c = count_of(cJSON_GetArrayItem(row, 1));
        looks[n].k_s = count_of(cJSON_GetArrayItem(row, 2));
        looks[n].n_s = count_of(cJSON_GetArrayItem(row, 3));
        n++;
    }
    return n;
}

static size_t standard_looks(const cJSON *test_case, struct look_counts looks[LOOKS])
{
    size_t n = read_looks(list(cJSON_GetArrayItem(group("lr_mixture_path"), 0), "data"), looks);
    size_t first = count(test_case, "t");
    assert_true(first >= 1 && first <= n);
    return first;
}

static void test_lr_loge(void **state)
{
    (void)state;
    int at = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("lr_loge"))
    {
        double got = lr_log_e(count(c, "kC"), count(c, "nC"), count(c, "kS"), count(c, "nS"), number(c, "rho"),
                              number(c, "delta"), number(c, "g"));
        assert_close(got, number(c, "loge"), usual, "lr_loge", at++);
    }
}

static void test_slo_loge(void **state)
{
    (void)state;
    int at = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("slo_loge"))
    {
        double got = slo_log_e(count(c, "k"), count(c, "n"), number(c, "slo"), number(c, "A"));
        assert_close(got, number(c, "loge"), usual, "slo_loge", at++);
    }
}

typedef void (*log_e_of_look)(const struct look_counts *look, double rho, double delta, double log_e[]);

static void lr_bets(const struct look_counts *look, double rho, double delta, double log_e[])
{
    for (int j = 0; j < LR_BETS; j++)
        log_e[j] = lr_log_e(look->k_c, look->n_c, look->k_s, look->n_s, rho, delta, lr_ratios[j]);
}

static void lr_ni_bets_of(const struct look_counts *look, double rho, double delta, double log_e[])
{
    for (int j = 0; j < LR_NI_BETS; j++)
        log_e[j] = lr_ni_log_e(look->k_c, look->n_c, look->k_s, look->n_s, rho, delta, lr_ni_bets[j]);
}

static void flip_ells(const struct look_counts *look, double rho, double delta, double log_e[])
{
    struct flip_counts counts = {look->k_c, look->n_c, look->k_s, look->n_s};
    assert_true(flip_log_e_exact(&counts, &(struct flip_null){FLIP_ABORT, rho, delta, 0}, log_e));
}

static void flip_ni_ells(const struct look_counts *look, double rho, double delta, double log_e[])
{
    struct flip_counts counts = {look->k_c, look->n_c, look->k_s, look->n_s};
    assert_true(flip_log_e_exact(&counts, &(struct flip_null){FLIP_NI, rho, delta, 0}, log_e));
}

/* Folds the looks of each case and compares E after every look. */
static void check_paths(const char *name, log_e_of_look log_e_of, uint32_t bets, enum restart restart)
{
    const cJSON *c;
    cJSON_ArrayForEach(c, group(name))
    {
        struct look_counts looks[LOOKS];
        size_t n = read_looks(list(c, "data"), looks);
        const cJSON *want = list(c, "logE");
        assert_int_equal(cJSON_GetArraySize(want), n);
        struct mixture mixture;
        mixture_init(&mixture, bets, restart, restart == RESTART_NONE ? 0 : (uint32_t)count(c, "T"));
        for (size_t i = 0; i < n; i++) {
            double log_e[MIXTURE_BETS];
            log_e_of(&looks[i], number(c, "rho"), number(c, "delta"), log_e);
            mixture_look(&mixture, log_e);
            assert_close(mixture_log_e(&mixture), number_of(cJSON_GetArrayItem(want, (int)i)), usual, name, (int)i);
        }
    }
}

static void test_lr_mixture_path(void **state)
{
    (void)state;
    const cJSON *grid = list(cJSON_GetArrayItem(group("lr_mixture_path"), 0), "grid");
    assert_int_equal(cJSON_GetArraySize(grid), LR_BETS);
    for (int j = 0; j < LR_BETS; j++)
        assert_true(number_of(cJSON_GetArrayItem(grid, j)) == lr_ratios[j]);
    check_paths("lr_mixture_path", lr_bets, LR_BETS, RESTART_PLANNED);
}

static void test_lr_mixture_path_norestart(void **state)
{
    (void)state;
    check_paths("lr_mixture_path_norestart", lr_bets, LR_BETS, RESTART_NONE);
}

static void test_lr_ni_path(void **state)
{
    (void)state;
    check_paths("lr_ni_path", lr_ni_bets_of, LR_NI_BETS, RESTART_NONE);
}

static void test_flip_mixture_path(void **state)
{
    (void)state;
    check_paths("flip_mixture_path", flip_ells, FLIP_ELLS, RESTART_PLANNED);
}

static void test_flip_ni_path(void **state)
{
    (void)state;
    check_paths("flip_ni_path", flip_ni_ells, FLIP_ELLS, RESTART_NONE);
}

static void test_flip_loge(void **state)
{
    (void)state;
    int at = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("flip_loge"))
    {
        struct flip_counts counts = {count(c, "kX"), count(c, "nX"), count(c, "kY"), count(c, "nY")};
        struct flip_null null = {.form = cJSON_IsTrue(field(c, "ni")) ? FLIP_NI : FLIP_ABORT,
                                 .rho = number(c, "rho"),
                                 .delta = number(c, "delta")};
        double log_e[FLIP_ELLS];
        assert_true(flip_log_e_exact(&counts, &null, log_e));
        assert_int_equal(cJSON_GetArraySize(list(c, "loge")), FLIP_ELLS);
        for (int l = 0; l < FLIP_ELLS; l++) {
            assert_true(number_of(cJSON_GetArrayItem(list(c, "ell"), l)) == flip_ell[l]);
            assert_close(log_e[l], number_of(cJSON_GetArrayItem(list(c, "loge"), l)), usual, "flip_loge", at);
        }
        at++;
    }
}

static void test_cs_rr_lr(void **state)
{
    (void)state;
    int at = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("cs_rr_lr"))
    {
        struct look_counts looks[LOOKS];
        struct confseq got;
        confseq_ratio_lr(looks, standard_looks(c, looks), number(c, "alpha"), &got);
        assert_close(got.estimate, number(c, "mle"), usual, "cs_rr_lr mle", at);
        assert_close(got.lower, number(c, "lower"), usual, "cs_rr_lr lower", at);
        assert_close(got.upper, number(c, "upper"), usual, "cs_rr_lr upper", at++);
    }
}

static void test_cs_rd_lr(void **state)
{
    (void)state;
    int at = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("cs_rd_lr"))
    {
        struct look_counts looks[LOOKS];
        struct confseq got;
        confseq_difference_lr(looks, standard_looks(c, looks), number(c, "alpha"), &got);
        assert_close(got.lower, number(c, "lower"), usual, "cs_rd_lr lower", at);
        assert_close(got.upper, number(c, "upper"), usual, "cs_rd_lr upper", at++);
    }
}

static void test_cs_rr_flip(void **state)
{
    (void)state;
    int at = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("cs_rr_flip"))
    {
        struct look_counts looks[LOOKS];
        struct confseq got;
        confseq_ratio_flip(looks, standard_looks(c, looks), number(c, "alpha"), &got);
        assert_close(got.lower, number(c, "lower"), 1e-8, "cs_rr_flip lower", at);
        assert_close(got.upper, number(c, "upper"), 1e-8, "cs_rr_flip upper", at++);
    }
}

static void test_e_average(void **state)
{
    (void)state;
    int at = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("e_average"))
    {
        enum { ROOM = 16 };
        double log_e[ROOM], weights[ROOM];
        int n = cJSON_GetArraySize(list(c, "logE"));
        assert_true(n <= ROOM && cJSON_GetArraySize(list(c, "w")) == n);
        for (int i = 0; i < n; i++) {
            log_e[i] = number_of(cJSON_GetArrayItem(list(c, "logE"), i));
            weights[i] = number_of(cJSON_GetArrayItem(list(c, "w"), i));
        }
        assert_close(log_weighted_average(log_e, weights, (size_t)n), number(c, "log_avg"), usual, "e_average", at++);
    }
}

static void test_histogram_quantile(void **state)
{
    (void)state;
    int at = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("histogram_quantile"))
    {
        struct quantile_bucket buckets[LATENCY_EDGES];
        size_t n = 0;
        const cJSON *pair;
        cJSON_ArrayForEach(pair, list(c, "buckets"))
        {
            assert_true(n < LATENCY_EDGES);
            buckets[n].le = number_of(cJSON_GetArrayItem(pair, 0));
            buckets[n++].cumulative = number_of(cJSON_GetArrayItem(pair, 1));
        }
        double got = histogram_quantile(number(c, "q"), buckets, n);
        assert_close(got, number(c, "value"), usual, "histogram_quantile", at++);
    }
}

static void test_counter_increments(void **state)
{
    (void)state;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("counter_increments"))
    {
        enum { ROOM = 32 };
        uint64_t values[ROOM], got[ROOM];
        int n = cJSON_GetArraySize(list(c, "values"));
        assert_true(n <= ROOM && cJSON_GetArraySize(list(c, "increments")) == n - 1);
        for (int i = 0; i < n; i++)
            values[i] = count_of(cJSON_GetArrayItem(list(c, "values"), i));
        counter_increments(values, NULL, (size_t)n, got);
        for (int i = 0; i + 1 < n; i++)
            assert_int_equal(got[i], count_of(cJSON_GetArrayItem(list(c, "increments"), i)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lr_loge),
        cmocka_unit_test(test_slo_loge),
        cmocka_unit_test(test_lr_mixture_path),
        cmocka_unit_test(test_lr_mixture_path_norestart),
        cmocka_unit_test(test_lr_ni_path),
        cmocka_unit_test(test_flip_loge),
        cmocka_unit_test(test_flip_mixture_path),
        cmocka_unit_test(test_flip_ni_path),
        cmocka_unit_test(test_cs_rr_lr),
        cmocka_unit_test(test_cs_rd_lr),
        cmocka_unit_test(test_cs_rr_flip),
        cmocka_unit_test(test_e_average),
        cmocka_unit_test(test_histogram_quantile),
        cmocka_unit_test(test_counter_increments),
    };
    return cmocka_run_group_tests(tests, load_vectors, unload_vectors);
}
