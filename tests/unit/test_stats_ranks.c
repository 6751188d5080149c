/*
 * Ranks: the test of Mann and Whitney and the shift of Hodges and Lehmann, against R's numbers, against enumeration and
 * against what a user may rely on: that neither the order of the points nor their unit nor who is called x matters.
 */
#include "tests/unit/samples.h"

#include <gsl/gsl_cdf.h>

#include "stats/ranks.h"

enum { ALTERNATIVES = 3 };

static double scratch[1 << 17];

static struct ranks sorted(const double x[], size_t m, const double y[], size_t n)
{
    struct ranks ranks;
    assert_true(ranks_scratch(m, n) <= sizeof scratch / sizeof scratch[0]);
    assert_true(ranks_sort(&ranks, x, m, y, n, scratch));
    return ranks;
}

static struct mann_whitney tested(const double x[], size_t m, const double y[], size_t n,
                                  enum ranks_alternative alternative, enum ranks_method method)
{
    struct ranks ranks = sorted(x, m, y, n);
    struct mann_whitney result;
    assert_true(ranks_mann_whitney(&ranks, alternative, method, &result));
    return result;
}

static struct hodges_lehmann shifted(const double x[], size_t m, const double y[], size_t n, double confidence,
                                     enum ranks_method method)
{
    struct ranks ranks = sorted(x, m, y, n);
    struct hodges_lehmann result;
    assert_true(ranks_hodges_lehmann(&ranks, confidence, method, &result));
    return result;
}

/* ---- reference numbers ---- */

static enum ranks_alternative alternative_of(const char *name)
{
    if (strcmp(name, "two.sided") == 0)
        return RANKS_TWO_SIDED;
    if (strcmp(name, "greater") == 0)
        return RANKS_GREATER;
    assert_string_equal(name, "less");
    return RANKS_LESS;
}

static enum ranks_method method_of(const char *name)
{
    if (strcmp(name, "exact") == 0)
        return RANKS_EXACT;
    if (strcmp(name, "normal") == 0)
        return RANKS_NORMAL;
    assert_string_equal(name, "normal_nocc");
    return RANKS_NORMAL_UNSMOOTHED;
}

static void test_mann_whitney_vectors(void **state)
{
    (void)state;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("mann_whitney"))
    {
        double x[SAMPLE], y[SAMPLE];
        size_t m = read_sample(c, "x", x), n = read_sample(c, "y", y);
        enum ranks_method method = method_of(word(c, "method"));
        struct mann_whitney got = tested(x, m, y, n, alternative_of(word(c, "alternative")), method);
        assert_same(got.w, number(c, "W"));
        assert_near(got.p, number(c, "p"), fmax(1e-12, 1e-10 * number(c, "p")));
        assert_int_equal(got.exact, method == RANKS_EXACT);
    }
}

static void test_hodges_lehmann_vectors(void **state)
{
    (void)state;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("hodges_lehmann"))
    {
        double x[SAMPLE], y[SAMPLE];
        size_t m = read_sample(c, "x", x), n = read_sample(c, "y", y);
        enum ranks_method method = method_of(word(c, "method"));
        struct hodges_lehmann got = shifted(x, m, y, n, number(c, "conf"), method);
        assert_near(got.estimate, number(c, "estimate"), 1e-9);
        assert_near(got.lower, number(c, "lower"), 1e-9);
        assert_near(got.upper, number(c, "upper"), 1e-9);
        assert_near(got.lower, number(c, "R_lower"), 1e-9);
        assert_near(got.upper, number(c, "R_upper"), 1e-9);
        if (method == RANKS_EXACT)
            assert_near(got.confidence, number(c, "achieved_conf"), 1e-10);
    }
}

/* ---- enumeration ---- */

enum { MOST = 9 };

/* Splits the values 0..all-1 into x (the bits that are set) and y. */
static size_t deal(unsigned bits, unsigned all, double x[MOST], double y[MOST])
{
    size_t m = 0, n = 0;
    for (unsigned value = 0; value < all; value++) {
        if (bits >> value & 1)
            x[m++] = value;
        else
            y[n++] = value;
    }
    return m;
}

static double wins(const double x[], size_t m, const double y[], size_t n)
{
    double count = 0;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            count += x[i] > y[j] ? 1 : x[i] == y[j] ? 0.5 : 0;
    return count;
}

/* How many of all deals of m values have W at least w, or at most w, as a share. */
static void enumerate(unsigned all, size_t m, double w, double *at_least, double *at_most)
{
    double x[MOST], y[MOST], above = 0, below = 0, deals = 0;
    for (unsigned bits = 0; bits < 1u << all; bits++) {
        if (deal(bits, all, x, y) != m)
            continue;
        double here = wins(x, m, y, all - m);
        deals++;
        above += here >= w;
        below += here <= w;
    }
    *at_least = above / deals;
    *at_most = below / deals;
}

static void test_exact_p_is_that_of_enumeration(void **state)
{
    (void)state;
    for (unsigned all = 2; all <= MOST; all++) {
        for (unsigned bits = 1; bits + 1 < 1u << all; bits += all < 7 ? 1 : 13) {
            double x[MOST], y[MOST], at_least, at_most;
            size_t m = deal(bits, all, x, y), n = all - m;
            enumerate(all, m, wins(x, m, y, n), &at_least, &at_most);
            struct mann_whitney got = tested(x, m, y, n, RANKS_GREATER, RANKS_USUAL);
            assert_true(got.exact);
            assert_same(got.w, wins(x, m, y, n));
            assert_near(got.p, at_least, 1e-14);
            assert_near(tested(x, m, y, n, RANKS_LESS, RANKS_EXACT).p, at_most, 1e-14);
            double both = fmin(1, 2 * fmin(at_least, at_most));
            assert_near(tested(x, m, y, n, RANKS_TWO_SIDED, RANKS_EXACT).p, both, 1e-14);
        }
    }
}

/*
 * The promise of an exact interval: over all deals of one law, the shift 0 is inside at least as often as was asked,
 * and as often as it says itself.
 */
static void test_exact_interval_covers(void **state)
{
    (void)state;
    const double asked[] = {0.5, 0.8, 0.9, 0.95};
    for (size_t a = 0; a < sizeof asked / sizeof asked[0]; a++) {
        double deals = 0, covered = 0, said = 0;
        for (unsigned bits = 0; bits < 1u << MOST; bits++) {
            double x[MOST], y[MOST];
            if (deal(bits, MOST, x, y) != 4)
                continue;
            struct hodges_lehmann got = shifted(x, 4, y, 5, asked[a], RANKS_EXACT);
            deals++;
            covered += got.lower < 0 && got.upper > 0;
            said = got.confidence;
        }
        assert_true(said >= asked[a]);
        assert_near(covered / deals, said, 1e-12);
    }
}

/* ---- against the definition ---- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double ties_of(const double values[], size_t n)
{
    double ties = 0;
    for (size_t i = 0; i < n; i++) {
        double equal = 0;
        for (size_t k = 0; k < n; k++)
            equal += values[k] == values[i];
        ties += equal * equal - 1; /* summed over its t members: t^3 - t */
    }
    return ties;
}

/* The normal interval by its definition: all differences, sorted, and z just right of each. */
static struct hodges_lehmann by_definition(const double x[], size_t m, const double y[], size_t n, double confidence)
{
    size_t pairs = m * n, k = 0;
    double *differences = malloc(pairs * sizeof *differences);
    assert_non_null(differences);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            differences[k++] = x[i] - y[j];
    qsort(differences, pairs, sizeof *differences, ascending);
    double quantile = gsl_cdf_ugaussian_Pinv((1 + confidence) / 2);
    double sigma = ranks_sigma(m, n, ties_of(x, m) + ties_of(y, n));
    struct hodges_lehmann result = {.lower = NAN, .upper = NAN};
    for (size_t i = 0; i < pairs; i++) {
        if (i + 1 < pairs && differences[i + 1] == differences[i])
            continue;
        double centred = (double)(pairs - 1 - i) - (double)pairs / 2;
        double z = (centred - 0.5 * ((centred > 0) - (centred < 0))) / sigma;
        if (isnan(result.lower) && z <= quantile)
            result.lower = differences[i];
        if (isnan(result.upper) && z <= -quantile)
            result.upper = differences[i];
    }
    if (isnan(result.upper))
        result.upper = differences[pairs - 1];
    result.estimate = (differences[(pairs - 1) / 2] + differences[pairs / 2]) / 2;
    free(differences);
    return result;
}

/* Of many kinds: smooth, heavily tied, spread over hundreds of decades, one value far away from all others. */
static void draw(double values[], size_t n, unsigned kind, uint64_t *random)
{
    for (size_t i = 0; i < n; i++) {
        double u = uniform(random);
        switch (kind % 5) {
        case 0:
            values[i] = u;
            break;
        case 1:
            values[i] = floor(4 * u * u);
            break;
        case 2:
            values[i] = exp(600 * (u - 0.5));
            break;
        case 3:
            values[i] = i == 0 ? 1e12 : floor(1000 * u) / 8;
            break;
        default:
            values[i] = u < 0.9 ? 0 : -log(u);
            break;
        }
    }
}

static void test_shift_is_that_of_the_definition(void **state)
{
    (void)state;
    static const double levels[] = {0.5, 0.9, 0.98, 0.99999};
    uint64_t random = 1;
    for (unsigned round = 0; round < 400; round++) {
        double x[SAMPLE], y[SAMPLE];
        size_t m = 1 + (size_t)(uniform(&random) * 60), n = 1 + (size_t)(uniform(&random) * 200);
        draw(x, m, round, &random);
        draw(y, n, round, &random);
        double confidence = levels[round % 4];
        struct hodges_lehmann want = by_definition(x, m, y, n, confidence);
        struct hodges_lehmann got = shifted(x, m, y, n, confidence, RANKS_NORMAL);
        assert_same(got.lower, want.lower);
        assert_same(got.upper, want.upper);
        assert_near(got.estimate, want.estimate, 1e-15 * fabs(want.estimate));
    }
}

/* ---- what does not matter ---- */

enum { M = 37, N = 23 };

static void test_swapping_the_samples_turns_all_signs(void **state)
{
    (void)state;
    static const enum ranks_alternative turned[ALTERNATIVES] = {RANKS_TWO_SIDED, RANKS_LESS, RANKS_GREATER};
    uint64_t random = 2;
    for (unsigned round = 0; round < 50; round++) {
        double x[M], y[N];
        draw(x, M, round, &random);
        draw(y, N, round, &random);
        for (int a = 0; a < ALTERNATIVES; a++) {
            struct mann_whitney one = tested(x, M, y, N, (enum ranks_alternative)a, RANKS_USUAL);
            struct mann_whitney other = tested(y, N, x, M, turned[a], RANKS_USUAL);
            assert_same(one.w + other.w, M * N);
            assert_near(one.p, other.p, 1e-14);
        }
        struct hodges_lehmann one = shifted(x, M, y, N, 0.95, RANKS_USUAL);
        struct hodges_lehmann other = shifted(y, N, x, M, 0.95, RANKS_USUAL);
        assert_near(one.estimate, -other.estimate, 1e-15 * fabs(one.estimate));
        assert_same(one.lower, -other.upper);
        assert_same(one.upper, -other.lower);
    }
}

static void test_order_of_points_does_not_matter(void **state)
{
    (void)state;
    uint64_t random = 3;
    for (unsigned round = 0; round < 20; round++) {
        double x[M], y[N];
        draw(x, M, round, &random);
        draw(y, N, round, &random);
        struct mann_whitney p = tested(x, M, y, N, RANKS_TWO_SIDED, RANKS_USUAL);
        struct hodges_lehmann shift = shifted(x, M, y, N, 0.98, RANKS_USUAL);
        shuffle(x, M, &random);
        shuffle(y, N, &random);
        struct mann_whitney q = tested(x, M, y, N, RANKS_TWO_SIDED, RANKS_USUAL);
        struct hodges_lehmann again = shifted(x, M, y, N, 0.98, RANKS_USUAL);
        assert_memory_equal(&p.p, &q.p, sizeof p.p);
        assert_same(again.estimate, shift.estimate);
        assert_same(again.lower, shift.lower);
        assert_same(again.upper, shift.upper);
    }
}

/* Values of few binary digits, so that shifting and scaling by powers of two is exact and no tie comes or goes. */
static void test_unit_and_origin_do_not_matter(void **state)
{
    (void)state;
    static const double units[] = {0x1p-20, 0x1p-3, 0x1p30};
    uint64_t random = 4;
    for (unsigned round = 0; round < 30; round++) {
        double x[M], y[N], moved_x[M], moved_y[N], unit = units[round % 3], origin = round % 2 == 0 ? -3 : 1000;
        for (size_t i = 0; i < M; i++)
            moved_x[i] = unit * ((x[i] = floor(uniform(&random) * 40) / 4 + 1) + origin);
        for (size_t j = 0; j < N; j++)
            moved_y[j] = unit * ((y[j] = floor(uniform(&random) * 40) / 4) + origin);
        struct mann_whitney p = tested(x, M, y, N, RANKS_GREATER, RANKS_USUAL);
        struct mann_whitney q = tested(moved_x, M, moved_y, N, RANKS_GREATER, RANKS_USUAL);
        assert_same(q.w, p.w);
        assert_same(q.p, p.p);
        struct hodges_lehmann shift = shifted(x, M, y, N, 0.9, RANKS_USUAL);
        struct hodges_lehmann moved = shifted(moved_x, M, moved_y, N, 0.9, RANKS_USUAL);
        assert_same(moved.estimate, unit * shift.estimate);
        assert_same(moved.lower, unit * shift.lower);
        assert_same(moved.upper, unit * shift.upper);
    }
}

static void test_any_rising_map_leaves_the_test_alone(void **state)
{
    (void)state;
    uint64_t random = 5;
    double x[M], y[N], mapped_x[M], mapped_y[N];
    for (unsigned round = 0; round < 30; round++) {
        for (size_t i = 0; i < M; i++)
            mapped_x[i] = exp(x[i] = floor(uniform(&random) * 30) - 4);
        for (size_t j = 0; j < N; j++)
            mapped_y[j] = exp(y[j] = floor(uniform(&random) * 30) - 6);
        for (int a = 0; a < ALTERNATIVES; a++) {
            struct mann_whitney plain = tested(x, M, y, N, (enum ranks_alternative)a, RANKS_USUAL);
            struct mann_whitney mapped = tested(mapped_x, M, mapped_y, N, (enum ranks_alternative)a, RANKS_USUAL);
            assert_same(mapped.w, plain.w);
            assert_same(mapped.p, plain.p);
        }
    }
}

/* ---- what does ---- */

static void test_worse_values_are_seen_as_worse(void **state)
{
    (void)state;
    uint64_t random = 6;
    double x[M], y[N], higher[M];
    for (size_t i = 0; i < M; i++)
        x[i] = floor(uniform(&random) * 64) / 4;
    for (size_t j = 0; j < N; j++)
        y[j] = floor(uniform(&random) * 64) / 4;
    struct hodges_lehmann start = shifted(x, M, y, N, 0.98, RANKS_NORMAL);
    double before = 1, w_before = 0;
    for (double by = -20; by <= 20; by += 0.25) {
        for (size_t i = 0; i < M; i++)
            higher[i] = x[i] + by;
        struct mann_whitney got = tested(higher, M, y, N, RANKS_GREATER, RANKS_NORMAL);
        assert_true(got.w >= w_before && got.p <= before + 1e-9);
        w_before = got.w;
        before = got.p;
        struct hodges_lehmann moved = shifted(higher, M, y, N, 0.98, RANKS_NORMAL);
        assert_same(moved.estimate, start.estimate + by);
        assert_same(moved.lower, start.lower + by);
        assert_same(moved.upper, start.upper + by);
    }
    assert_true(before < 1e-9);
}

static void test_intervals_hold_the_estimate_and_are_nested(void **state)
{
    (void)state;
    static const enum ranks_method methods[] = {RANKS_USUAL, RANKS_NORMAL, RANKS_NORMAL_UNSMOOTHED};
    uint64_t random = 7;
    for (unsigned round = 0; round < 60; round++) {
        double x[M], y[N];
        size_t m = round % 6 == 0 ? 1 : M, n = round % 7 == 0 ? 2 : N;
        draw(x, m, round, &random);
        draw(y, n, round, &random);
        struct hodges_lehmann inner = {.lower = INFINITY, .upper = -INFINITY};
        for (double confidence = 0.1; confidence < 0.999; confidence += 0.05) {
            struct hodges_lehmann outer = shifted(x, m, y, n, confidence, methods[round % 3]);
            assert_true(outer.lower <= outer.estimate && outer.estimate <= outer.upper);
            assert_true(outer.lower <= inner.lower && outer.upper >= inner.upper);
            inner = outer;
        }
    }
}

/* The interval and the test say the same: a shift that the test rejects is outside. */
static void test_interval_agrees_with_the_test(void **state)
{
    (void)state;
    uint64_t random = 8;
    for (unsigned round = 0; round < 40; round++) {
        double x[M], y[N], back[M];
        draw(x, M, 0, &random);
        draw(y, N, 0, &random);
        struct hodges_lehmann shift = shifted(x, M, y, N, 0.95, RANKS_USUAL);
        assert_true(shift.exact);
        for (double at = -0.6; at <= 0.6; at += 0.05) {
            for (size_t i = 0; i < M; i++)
                back[i] = x[i] - at;
            double p = tested(back, M, y, N, RANKS_TWO_SIDED, RANKS_EXACT).p;
            assert_int_equal(p > 1 - shift.confidence, at > shift.lower && at < shift.upper);
        }
    }
}

/* ---- edges ---- */

static void test_rounding_is_no_evidence(void **state)
{
    (void)state;
    const double sums[] = {0.1 + 0.2, 0.1 + 0.7, 1.1 + 2.2}, same[] = {0.3, 0.8, 3.3};
    assert_true(sums[0] != same[0]);
    struct mann_whitney got = tested(sums, 3, same, 3, RANKS_TWO_SIDED, RANKS_USUAL);
    assert_false(got.exact); /* there are ties */
    assert_same(got.w, 4.5);
    assert_same(got.p, 1);
}

/* Also not inside of a sample: ties that rounding has torn apart narrow or widen no interval. */
static void test_torn_ties_are_ties(void **state)
{
    (void)state;
    uint64_t random = 10;
    for (unsigned round = 0; round < 40; round++) {
        double x[M], y[N], torn_x[M], torn_y[N];
        for (size_t i = 0; i < M; i++)
            torn_x[i] = (x[i] = 1 + floor(5 * uniform(&random)) / 7) * (1 + 4e-15 * uniform(&random));
        for (size_t j = 0; j < N; j++)
            torn_y[j] = (y[j] = 1 + floor(5 * uniform(&random)) / 11) * (1 + 4e-15 * uniform(&random));
        struct mann_whitney p = tested(x, M, y, N, RANKS_TWO_SIDED, RANKS_USUAL);
        struct mann_whitney q = tested(torn_x, M, torn_y, N, RANKS_TWO_SIDED, RANKS_USUAL);
        assert_same(q.p, p.p);
        for (double confidence = 0.8; confidence < 0.99; confidence += 0.02) {
            struct hodges_lehmann whole = shifted(x, M, y, N, confidence, RANKS_NORMAL);
            struct hodges_lehmann torn = shifted(torn_x, M, torn_y, N, confidence, RANKS_NORMAL);
            assert_near(torn.lower, whole.lower, 1e-13);
            assert_near(torn.upper, whole.upper, 1e-13);
        }
    }
}

static void test_nothing_but_ties(void **state)
{
    (void)state;
    const double fives[] = {5, 5, 5, 5}, sevens[] = {7, 7, 7};
    for (int a = 0; a < ALTERNATIVES; a++)
        assert_same(tested(fives, 4, fives, 3, (enum ranks_alternative)a, RANKS_USUAL).p, 1);
    struct hodges_lehmann shift = shifted(fives, 4, sevens, 3, 0.95, RANKS_USUAL);
    assert_same(shift.estimate, -2);
    assert_same(shift.lower, -2);
    assert_same(shift.upper, -2);
}

static void test_large_samples(void **state)
{
    (void)state;
    enum { LARGE = 20000 };
    double *x = malloc(LARGE * sizeof *x), *y = malloc(LARGE * sizeof *y);
    assert_true(x != NULL && y != NULL && ranks_scratch(LARGE, LARGE) <= sizeof scratch / sizeof scratch[0]);
    uint64_t random = 9;
    for (size_t i = 0; i < LARGE; i++) {
        x[i] = uniform(&random) + 0.03;
        y[i] = uniform(&random);
    }
    struct hodges_lehmann shift = shifted(x, LARGE, y, LARGE, 0.98, RANKS_USUAL);
    assert_false(shift.exact);
    assert_true(shift.lower > 0.02 && shift.lower < 0.03 && shift.upper > 0.03 && shift.upper < 0.04);
    free(x);
    free(y);
}

static void test_what_is_refused(void **state)
{
    (void)state;
    double good[] = {1, 2, 3}, tied[] = {1, 2, 2}, bad[] = {1, NAN, 3}, far[] = {-1e308, 0, 1e308};
    double many[RANKS_EXACT_POINTS];
    struct ranks ranks;
    struct mann_whitney p;
    struct hodges_lehmann shift;
    for (size_t i = 0; i < RANKS_EXACT_POINTS; i++)
        many[i] = 10 + (double)i;
    assert_false(ranks_sort(&ranks, good, 0, good, 3, scratch));
    assert_false(ranks_sort(&ranks, good, 3, good, 0, scratch));
    assert_false(ranks_sort(&ranks, bad, 3, good, 3, scratch));
    assert_false(ranks_sort(&ranks, good, 3, bad, 3, scratch));
    bad[1] = -INFINITY;
    assert_false(ranks_sort(&ranks, good, 3, bad, 3, scratch));
    assert_false(ranks_sort(&ranks, far, 3, far, 3, scratch)); /* a difference is infinite */
    ranks = sorted(good, 3, tied, 3);
    assert_false(ranks_mann_whitney(&ranks, RANKS_TWO_SIDED, RANKS_EXACT, &p));
    assert_false(ranks_hodges_lehmann(&ranks, 0.95, RANKS_EXACT, &shift));
    assert_false(ranks_hodges_lehmann(&ranks, 0, RANKS_USUAL, &shift));
    assert_false(ranks_hodges_lehmann(&ranks, 1, RANKS_USUAL, &shift));
    assert_false(ranks_hodges_lehmann(&ranks, NAN, RANKS_USUAL, &shift));
    ranks = sorted(many, RANKS_EXACT_POINTS, good, 3);
    assert_false(ranks_mann_whitney(&ranks, RANKS_TWO_SIDED, RANKS_EXACT, &p));
    ranks = sorted(many, RANKS_EXACT_POINTS - 1, good, 3);
    assert_true(ranks_mann_whitney(&ranks, RANKS_TWO_SIDED, RANKS_EXACT, &p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mann_whitney_vectors),
        cmocka_unit_test(test_hodges_lehmann_vectors),
        cmocka_unit_test(test_exact_p_is_that_of_enumeration),
        cmocka_unit_test(test_exact_interval_covers),
        cmocka_unit_test(test_shift_is_that_of_the_definition),
        cmocka_unit_test(test_swapping_the_samples_turns_all_signs),
        cmocka_unit_test(test_order_of_points_does_not_matter),
        cmocka_unit_test(test_unit_and_origin_do_not_matter),
        cmocka_unit_test(test_any_rising_map_leaves_the_test_alone),
        cmocka_unit_test(test_worse_values_are_seen_as_worse),
        cmocka_unit_test(test_intervals_hold_the_estimate_and_are_nested),
        cmocka_unit_test(test_interval_agrees_with_the_test),
        cmocka_unit_test(test_rounding_is_no_evidence),
        cmocka_unit_test(test_torn_ties_are_ties),
        cmocka_unit_test(test_nothing_but_ties),
        cmocka_unit_test(test_large_samples),
        cmocka_unit_test(test_what_is_refused),
    };
    return cmocka_run_group_tests(tests, load_vectors, unload_vectors);
}
