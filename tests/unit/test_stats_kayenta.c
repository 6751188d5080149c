/*
 * Kayenta's judge: its classifications and scores as Kayenta gives them, and the weaknesses of it that we state in
 * public.
 */
#include "tests/unit/samples.h"

#include "stats/kayenta.h"

static double scratch[1 << 14];

static struct kayenta_result judged(const double experiment[], size_t m, const double control[], size_t n,
                                    const struct kayenta_settings *settings)
{
    struct kayenta_result result;
    assert_true(kayenta_scratch(m, n) <= sizeof scratch / sizeof scratch[0]);
    kayenta_classify(experiment, m, control, n, settings, scratch, &result);
    return result;
}

/* ---- reference numbers ---- */

static enum kayenta_direction direction_of(const char *name)
{
    if (strcmp(name, "increase") == 0)
        return KAYENTA_INCREASE;
    if (strcmp(name, "decrease") == 0)
        return KAYENTA_DECREASE;
    assert_string_equal(name, "either");
    return KAYENTA_EITHER;
}

/* The reference has the ends without the residue of the search: our ranks must meet them, Kayenta's own to its 1e-4. */
static void check_interval(const cJSON *expect, const struct kayenta_result *got, const double x[], size_t m,
                           const double y[], size_t n)
{
    static double work[1 << 13];
    struct ranks ranks;
    struct hodges_lehmann shift;
    assert_true(ranks_scratch(m, n) <= sizeof work / sizeof work[0] && ranks_sort(&ranks, x, m, y, n, work));
    assert_true(ranks_hodges_lehmann(&ranks, 0.98, RANKS_NORMAL, &shift));
    assert_near(shift.lower, number(expect, "lower"), 1e-9);
    assert_near(shift.upper, number(expect, "upper"), 1e-9);
    assert_near(shift.estimate, number(expect, "estimate"), 1e-9);
    assert_near(got->interval.lower, number(expect, "lower"), 1.01e-4);
    assert_near(got->interval.upper, number(expect, "upper"), 1.01e-4);
    assert_near(got->deviation, number(expect, "mean_ratio"), 1e-10 * fabs(number(expect, "mean_ratio")));
}

static void test_kayenta_classify_vectors(void **state)
{
    (void)state;
    const cJSON *c;
    cJSON_ArrayForEach(c, group("kayenta_classify"))
    {
        double x[SAMPLE], y[SAMPLE];
        size_t m = read_sample(c, "experiment", x), n = read_sample(c, "control", y);
        assert_same(number(c, "conf"), 0.98);
        assert_same(number(c, "tolerance"), 0.25);
        struct kayenta_settings settings = kayenta_defaults(KAYENTA_MEAN_RATIO);
        settings.direction = direction_of(word(c, "direction"));
        const cJSON *expect = cJSON_GetObjectItemCaseSensitive(c, "expect");
        struct kayenta_result got = judged(x, m, y, n, &settings);
        if (strcmp(word(expect, "cls"), "noise") == 0) {
            assert_same(got.interval.lower, x[0] - y[0]);
            assert_same(got.interval.upper, x[0] - y[0]);
            assert_int_equal(got.class, x[0] > y[0] ? KAYENTA_HIGH : KAYENTA_LOW);
            continue;
        }
        assert_string_equal(kayenta_class_name(got.class), word(expect, "cls"));
        if (cJSON_GetObjectItemCaseSensitive(expect, "lower") != NULL)
            check_interval(expect, &got, x, m, y, n);
    }
}

/* Integers without apparent order, squared, in a unit: some tied, all exact. */
static void staircase(double values[], size_t n, unsigned step, double unit, unsigned from)
{
    for (size_t i = 0; i < n; i++) {
        double value = from + (double)(i * step % 64);
        values[i] = unit * value * value / 64;
    }
}

/*
 * Where the search stops is part of the verdict. Limits: wilcox.test(x, y, exact = FALSE, conf.int = TRUE, conf.level =
 * 0.98) of R 4.2.2, estimate: uniroot(tol = 1e-4) on its z with the correction for continuity. In the small units the
 * residue is visible in the second digit.
 */
static void test_interval_stops_where_that_of_r_stops(void **state)
{
    (void)state;
    static const struct {
        size_t m, n;
        double unit;
        unsigned from;
        double lower, upper, estimate;
    } cases[] = {
        {30, 25, 0x1p0, 0, -13.296821760542279, 10.124992671351158, -0.56247287938070922},
        {30, 25, 0x1p-10, 0, -0.012985037171848058, 0.0098494796915058781, -0.00053818858707367113},
        {30, 25, 0x1p-14, 0, -0.00082924686296343775, 0.00063301783016410265, -5.9604644775390625e-05},
        {30, 25, 0x1p-14, 20, 0.00037509694843394044, 0.0025143896973516895, 0.001284598833250934},
        {40, 40, 0x1p-16, 32, 0.00036772894876271715, 0.00093211269915886288, 0.00063993900034798213},
        {12, 50, 0x1p-4, 24, 0.54205278575643567, 3.5156452257442732, 1.8165893695225066},
    };
    static double work[1 << 16];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double x[SAMPLE], y[SAMPLE];
        staircase(x, cases[i].m, 27, cases[i].unit, cases[i].from);
        staircase(y, cases[i].n, 37, cases[i].unit, 0);
        struct ranks ranks;
        struct kayenta_interval got;
        assert_true(ranks_scratch(cases[i].m, cases[i].n) <= sizeof work / sizeof work[0]);
        assert_true(ranks_sort(&ranks, x, cases[i].m, y, cases[i].n, work));
        assert_true(kayenta_interval(&ranks, 0.98, &got));
        assert_near(got.lower, cases[i].lower, 1e-12 * fabs(cases[i].lower));
        assert_near(got.upper, cases[i].upper, 1e-12 * fabs(cases[i].upper));
        assert_near(got.estimate, cases[i].estimate, 1e-12 * fabs(cases[i].estimate));
    }
}

/* ---- one metric ---- */

enum { POINTS = 20 };

/* Latencies in milliseconds: 100 to 119.5 in some order, and the same with `more` on top. */
static void two_arms(double more, double experiment[POINTS], double control[POINTS])
{
    for (size_t i = 0; i < POINTS; i++) {
        control[i] = 100 + (double)(i * 7 % POINTS);
        experiment[i] = 100.5 + (double)(i * 3 % POINTS) + more;
    }
}

static void test_high_and_low_change_places_with_the_arms(void **state)
{
    (void)state;
    static const enum kayenta_class turned[] = {KAYENTA_PASS, KAYENTA_LOW, KAYENTA_HIGH};
    struct kayenta_settings settings = kayenta_defaults(KAYENTA_MEAN_RATIO);
    int seen[3] = {0};
    for (double more = -30; more <= 30; more += 1) {
        double x[POINTS], y[POINTS];
        two_arms(more, x, y);
        struct kayenta_result one = judged(x, POINTS, y, POINTS, &settings);
        struct kayenta_result other = judged(y, POINTS, x, POINTS, &settings);
        assert_true(one.class <= KAYENTA_LOW);
        assert_int_equal(other.class, turned[one.class]);
        assert_near(one.deviation * other.deviation, 1, 1e-14);
        seen[one.class]++;
    }
    assert_true(seen[KAYENTA_PASS] > 0 && seen[KAYENTA_HIGH] > 0 && seen[KAYENTA_LOW] > 0);
}

static void test_order_of_points_does_not_matter(void **state)
{
    (void)state;
    struct kayenta_settings settings = kayenta_defaults(KAYENTA_MEAN_RATIO);
    uint64_t random = 1;
    double x[POINTS], y[POINTS];
    two_arms(11, x, y);
    struct kayenta_result before = judged(x, POINTS, y, POINTS, &settings);
    for (int round = 0; round < 10; round++) {
        shuffle(x, POINTS, &random);
        shuffle(y, POINTS, &random);
        struct kayenta_result after = judged(x, POINTS, y, POINTS, &settings);
        assert_int_equal(after.class, before.class);
        assert_same(after.deviation, before.deviation);
        assert_same(after.interval.lower, before.interval.lower);
        assert_same(after.interval.upper, before.interval.upper);
        assert_same(after.interval.estimate, before.interval.estimate);
    }
}

/*
 * A canary that is half as slow again. In microseconds Kayenta calls it High. In seconds all values are below its root
 * finder's absolute 1e-4, and it passes. The interval by ranks is the same in both units.
 */
static void test_kayenta_depends_on_the_unit_and_ranks_do_not(void **state)
{
    (void)state;
    static double work[1 << 13];
    struct kayenta_settings settings = kayenta_defaults(KAYENTA_MEAN_RATIO);
    double x[POINTS], y[POINTS];
    struct hodges_lehmann shift[2];
    static const double unit[2] = {1e-6, 1};
    static const enum kayenta_class class[2] = {KAYENTA_PASS, KAYENTA_HIGH};
    for (int u = 0; u < 2; u++) {
        for (size_t i = 0; i < POINTS; i++) {
            y[i] = unit[u] * (10 + 0.5 * (double)i);
            x[i] = unit[u] * (17.3 + 0.5 * (double)i);
        }
        assert_int_equal(judged(x, POINTS, y, POINTS, &settings).class, class[u]);
        struct ranks ranks;
        assert_true(ranks_sort(&ranks, x, POINTS, y, POINTS, work));
        assert_true(ranks_hodges_lehmann(&ranks, 0.98, RANKS_NORMAL, &shift[u]));
        assert_true(shift[u].lower > 0.25 * shift[u].estimate);
    }
    assert_near(shift[0].lower * 1e6, shift[1].lower, 1e-9);
    assert_near(shift[0].upper * 1e6, shift[1].upper, 1e-9);
    assert_near(shift[0].estimate * 1e6, shift[1].estimate, 1e-9);
}

static void test_only_the_bad_direction_counts(void **state)
{
    (void)state;
    struct kayenta_settings settings = kayenta_defaults(KAYENTA_MEAN_RATIO);
    double x[POINTS], y[POINTS];
    two_arms(40, x, y);
    assert_int_equal(judged(x, POINTS, y, POINTS, &settings).class, KAYENTA_HIGH);
    settings.direction = KAYENTA_DECREASE;
    assert_int_equal(judged(x, POINTS, y, POINTS, &settings).class, KAYENTA_PASS);
    assert_int_equal(judged(y, POINTS, x, POINTS, &settings).class, KAYENTA_LOW);
    settings.direction = KAYENTA_INCREASE;
    assert_int_equal(judged(x, POINTS, y, POINTS, &settings).class, KAYENTA_HIGH);
    assert_int_equal(judged(y, POINTS, x, POINTS, &settings).class, KAYENTA_PASS);
}

static void test_missing_data(void **state)
{
    (void)state;
    const double points[] = {1, 2, 3}, nothing[] = {NAN, NAN};
    struct kayenta_settings settings = kayenta_defaults(KAYENTA_MEAN_RATIO);
    struct kayenta_result got = judged(nothing, 2, points, 3, &settings);
    assert_int_equal(got.class, KAYENTA_NODATA);
    assert_false(got.critical);
    assert_non_null(got.reason);
    assert_int_equal(judged(points, 3, nothing, 0, &settings).class, KAYENTA_NODATA);
    settings.must_have_data = true;
    assert_int_equal(judged(nothing, 2, points, 3, &settings).class, KAYENTA_NODATA_FAIL_METRIC);
    settings.critical = true;
    got = judged(nothing, 2, points, 3, &settings);
    assert_int_equal(got.class, KAYENTA_NODATA);
    assert_true(got.critical);
    settings.nan_strategy = KAYENTA_NAN_REPLACE;
    got = judged(nothing, 0, points, 3, &settings);
    assert_int_equal(got.class, KAYENTA_PASS);
    assert_false(got.critical);
}

static void test_nan_is_removed_or_taken_for_zero(void **state)
{
    (void)state;
    double x[POINTS], y[POINTS], none[POINTS];
    struct kayenta_settings settings = kayenta_defaults(KAYENTA_MEAN_RATIO);
    two_arms(0, x, y);
    for (size_t i = 0; i < POINTS; i++)
        none[i] = NAN;
    memcpy(none, x, sizeof x / 4);
    struct kayenta_result got = judged(none, POINTS, y, POINTS, &settings);
    assert_int_equal(got.experiment, POINTS / 4);
    assert_int_equal(got.control, POINTS);
    assert_int_equal(got.class, KAYENTA_PASS);
    settings.nan_strategy = KAYENTA_NAN_REPLACE;
    got = judged(none, POINTS, y, POINTS, &settings);
    assert_int_equal(got.experiment, POINTS);
    assert_int_equal(got.class, KAYENTA_LOW);
}

/* Quartiles 24.75 and 74.25, percentiles 0.99 and 98.01: with factor 3 the fences are at -123.75 and 222.75. */
static void test_outliers_lie_beyond_both_fences(void **state)
{
    (void)state;
    enum { HUNDRED = 100 };
    double x[HUNDRED], y[HUNDRED];
    struct kayenta_settings settings = kayenta_defaults(KAYENTA_MEAN_RATIO);
    for (size_t i = 0; i < HUNDRED; i++) {
        x[i] = (double)i;
        y[i] = (double)i + 0.5;
    }
    x[99] = 222;
    assert_int_equal(judged(x, HUNDRED, y, HUNDRED, &settings).experiment, HUNDRED);
    settings.outliers = KAYENTA_OUTLIERS_REMOVE;
    struct kayenta_result got = judged(x, HUNDRED, y, HUNDRED, &settings);
    assert_int_equal(got.experiment, HUNDRED);
    assert_int_equal(got.control, HUNDRED);
    x[99] = 223;
    x[0] = -1000;
    assert_int_equal(judged(x, HUNDRED, y, HUNDRED, &settings).experiment, HUNDRED - 2);
    settings.outlier_factor = 30;
    assert_int_equal(judged(x, HUNDRED, y, HUNDRED, &settings).experiment, HUNDRED);
    settings.outlier_factor = 0.1;
    assert_int_equal(judged(x, HUNDRED, y, HUNDRED, &settings).experiment, HUNDRED - 2); /* the percentiles protect */
    settings.outliers = KAYENTA_OUTLIERS_KEEP;
    assert_int_equal(judged(x, HUNDRED, y, HUNDRED, &settings).experiment, HUNDRED);
}

static void test_equal_points_are_no_outliers(void **state)
{
    (void)state;
    double x[POINTS], y[POINTS];
    struct kayenta_settings settings = kayenta_defaults(KAYENTA_MEAN_RATIO);
    settings.outliers = KAYENTA_OUTLIERS_REMOVE;
    for (size_t i = 0; i < POINTS; i++) {
        x[i] = 0.1 + 0.2;
        y[i] = 1.1;
    }
    struct kayenta_result got = judged(x, POINTS, y, POINTS, &settings);
    assert_int_equal(got.experiment, POINTS);
    assert_int_equal(got.control, POINTS);
}

static void test_small_effects_are_allowed(void **state)
{
    (void)state;
    double x[POINTS], y[POINTS];
    struct kayenta_settings settings = kayenta_defaults(KAYENTA_MEAN_RATIO);
    two_arms(40, x, y);
    double ratio = judged(x, POINTS, y, POINTS, &settings).deviation;
    assert_near(ratio, 150.0 / 109.5, 1e-12);
    settings.allowed_increase = ratio;
    assert_int_equal(judged(x, POINTS, y, POINTS, &settings).class, KAYENTA_HIGH);
    settings.allowed_increase = ratio * 1.001;
    assert_int_equal(judged(x, POINTS, y, POINTS, &settings).class, KAYENTA_PASS);
    settings.allowed_decrease = 109.5 / 150.0 / 1.001;
    assert_int_equal(judged(y, POINTS, x, POINTS, &settings).class, KAYENTA_PASS);
    settings.allowed_decrease = 0.8;
    assert_int_equal(judged(y, POINTS, x, POINTS, &settings).class, KAYENTA_LOW);
}

static void test_common_language_effect(void **state)
{
    (void)state;
    const double x[] = {3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, y[] = {0, 0, 1, 1, 2, 2, 3, 3, 3.5, 4};
    struct kayenta_settings settings = kayenta_defaults(KAYENTA_CLES);
    struct kayenta_result got = judged(x, 10, y, 10, &settings);
    assert_int_equal(got.class, KAYENTA_HIGH);
    assert_near(got.effect, 0.965, 1e-15); /* 95 pairs above and 3 equal, of 100 */
    assert_near(got.deviation, 75 / 19.5, 1e-14);
    settings.allowed_increase = 0.97;
    assert_int_equal(judged(x, 10, y, 10, &settings).class, KAYENTA_PASS);
    assert_near(judged(y, 10, x, 10, &settings).effect, 0.035, 1e-15);
    assert_int_equal(judged(y, 10, x, 10, &settings).class, KAYENTA_LOW);
    settings.allowed_decrease = 0.03;
    assert_int_equal(judged(y, 10, x, 10, &settings).class, KAYENTA_PASS);
}

static void test_an_effect_that_is_unknown_excuses_nothing(void **state)
{
    (void)state;
    const double x[] = {54, 55, 56, 57, 58, 59}, zeros[6] = {0};
    struct kayenta_settings settings = kayenta_defaults(KAYENTA_MEAN_RATIO);
    settings.allowed_increase = settings.critical_increase = 2;
    settings.allowed_decrease = settings.critical_decrease = 0.1;
    settings.critical = true;
    struct kayenta_result got = judged(x, 6, zeros, 6, &settings);
    assert_int_equal(got.class, KAYENTA_HIGH);
    assert_true(got.critical && isnan(got.deviation));
    got = judged(zeros, 6, x, 6, &settings);
    assert_int_equal(got.class, KAYENTA_LOW);
    assert_true(got.critical && isnan(got.deviation));
}

static void test_critical_needs_a_critical_effect(void **state)
{
    (void)state;
    double x[POINTS], y[POINTS];
    struct kayenta_settings settings = kayenta_defaults(KAYENTA_MEAN_RATIO);
    two_arms(40, x, y);
    assert_false(judged(x, POINTS, y, POINTS, &settings).critical);
    settings.critical = true;
    assert_true(judged(x, POINTS, y, POINTS, &settings).critical);
    settings.critical_increase = 1.5;
    struct kayenta_result got = judged(x, POINTS, y, POINTS, &settings);
    assert_int_equal(got.class, KAYENTA_HIGH);
    assert_false(got.critical);
    settings.critical_decrease = 0.5;
    got = judged(y, POINTS, x, POINTS, &settings);
    assert_int_equal(got.class, KAYENTA_LOW);
    assert_false(got.critical);
}

static void test_constant_arms_give_the_same_verdict_in_each_run(void **state)
{
    (void)state;
    const double tens[] = {10, 10, 10, 10}, zeros[] = {0, 0, 0}, one[] = {10}, other[] = {3};
    struct kayenta_settings settings = kayenta_defaults(KAYENTA_MEAN_RATIO);
    struct kayenta_result got = judged(tens, 4, zeros, 3, &settings);
    assert_int_equal(got.class, KAYENTA_HIGH);
    assert_same(got.interval.lower, 10);
    assert_same(got.interval.upper, 10);
    assert_int_equal(judged(tens, 4, tens, 3, &settings).class, KAYENTA_PASS);
    settings.critical = true;
    got = judged(one, 1, other, 1, &settings);
    assert_int_equal(got.class, KAYENTA_ERROR);
    assert_false(got.critical);
    assert_int_equal(judged(one, 1, one, 1, &settings).class, KAYENTA_PASS);
}

static void test_an_infinite_point_is_an_error(void **state)
{
    (void)state;
    const double x[] = {1, 2, INFINITY, 4}, y[] = {1, 2, 3, 4};
    struct kayenta_settings settings = kayenta_defaults(KAYENTA_MEAN_RATIO);
    assert_int_equal(judged(x, 4, y, 4, &settings).class, KAYENTA_ERROR);
    assert_int_equal(judged(y, 4, x, 4, &settings).class, KAYENTA_ERROR);
    assert_int_equal(judged(x, 4, x, 4, &settings).class, KAYENTA_PASS);
}

/* ---- the score ---- */

static const char *const latency[] = {"latency"}, *const errors[] = {"errors"}, *const both[] = {"latency", "errors"};
static const char *const memory[] = {"memory"};

static double score_of(const struct kayenta_metric metrics[], size_t n, const struct kayenta_weight weights[],
                       size_t n_weights, enum kayenta_verdict verdict)
{
    struct kayenta_score score = kayenta_score(metrics, n, weights, n_weights);
    assert_int_equal(score.verdict, verdict);
    return score.score;
}

static void test_score_of_one_group(void **state)
{
    (void)state;
    const struct kayenta_metric metrics[] = {
        {latency, 1, KAYENTA_PASS, false},   {latency, 1, KAYENTA_HIGH, false},
        {latency, 1, KAYENTA_LOW, false},    {latency, 1, KAYENTA_NODATA_FAIL_METRIC, false},
        {latency, 1, KAYENTA_NODATA, false}, {latency, 1, KAYENTA_ERROR, false},
    };
    assert_same(score_of(metrics, 1, NULL, 0, KAYENTA_SCORED), 100);
    assert_same(score_of(metrics, 2, NULL, 0, KAYENTA_SCORED), 50);
    assert_same(score_of(metrics, 3, NULL, 0, KAYENTA_SCORED), 33.33);
    assert_same(score_of(metrics, 4, NULL, 0, KAYENTA_SCORED), 25);
    assert_same(score_of(metrics, 6, NULL, 0, KAYENTA_SCORED), 25); /* nothing is known of the last two */
    assert_near(kayenta_group_score("latency", metrics, 3), 100.0 / 3, 1e-12);
    assert_true(isnan(kayenta_group_score("errors", metrics, 6)));
    assert_same(score_of(NULL, 0, NULL, 0, KAYENTA_SCORED), 0);
}

static void test_score_of_weighted_groups(void **state)
{
    (void)state;
    const struct kayenta_metric metrics[] = {
        {latency, 1, KAYENTA_PASS, false},
        {errors, 1, KAYENTA_HIGH, false},
        {memory, 1, KAYENTA_PASS, false},
    };
    const struct kayenta_weight weights[] = {{"latency", 75}, {"errors", 25}, {"unused", 10}};
    assert_same(score_of(metrics, 2, weights, 2, KAYENTA_SCORED), 75);
    assert_same(score_of(metrics, 3, weights, 1, KAYENTA_SCORED), 87.5); /* errors and memory share 25 */
    assert_same(score_of(metrics, 3, NULL, 0, KAYENTA_SCORED), 66.67);
    assert_same(score_of(metrics, 3, weights + 2, 1, KAYENTA_SCORED), 60); /* what is left of 100 after the unused 10 */
    const struct kayenta_weight halves[] = {{"latency", 12.345}, {"errors", 87.655}};
    assert_same(score_of(metrics, 2, halves, 2, KAYENTA_SCORED), 12.35);
}

static void test_a_metric_of_two_groups_counts_in_both(void **state)
{
    (void)state;
    const struct kayenta_metric metrics[] = {
        {both, 2, KAYENTA_HIGH, false},
        {latency, 1, KAYENTA_PASS, false},
    };
    const struct kayenta_weight weights[] = {{"latency", 60}, {"errors", 40}};
    assert_same(score_of(metrics, 2, weights, 2, KAYENTA_SCORED), 30);
}

static void test_a_critical_failure_fails_everything(void **state)
{
    (void)state;
    struct kayenta_metric metrics[] = {
        {latency, 1, KAYENTA_PASS, false},
        {latency, 1, KAYENTA_PASS, true},
        {latency, 1, KAYENTA_PASS, true},
        {latency, 1, KAYENTA_PASS, false},
    };
    assert_same(score_of(metrics, 4, NULL, 0, KAYENTA_SCORED), 100);
    static const enum kayenta_class bad[] = {KAYENTA_HIGH, KAYENTA_LOW, KAYENTA_NODATA, KAYENTA_ERROR};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        metrics[1].class = metrics[2].class = bad[i];
        struct kayenta_score score = kayenta_score(metrics, 4, NULL, 0);
        assert_same(score.score, 0);
        assert_int_equal(score.verdict, KAYENTA_CRITICAL_FAILURE);
        assert_int_equal(score.culprit, 1);
    }
}

static void test_half_without_data_fails(void **state)
{
    (void)state;
    const struct kayenta_metric metrics[] = {
        {latency, 1, KAYENTA_NODATA, false},
        {errors, 1, KAYENTA_PASS, false},
        {errors, 1, KAYENTA_PASS, false},
    };
    assert_same(score_of(metrics, 1, NULL, 0, KAYENTA_TOO_MANY_NODATA), 0);
    assert_same(score_of(metrics, 2, NULL, 0, KAYENTA_TOO_MANY_NODATA), 0);
    assert_same(score_of(metrics, 3, NULL, 0, KAYENTA_SCORED), 100); /* a group without data counts in full */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kayenta_classify_vectors),
        cmocka_unit_test(test_interval_stops_where_that_of_r_stops),
        cmocka_unit_test(test_high_and_low_change_places_with_the_arms),
        cmocka_unit_test(test_order_of_points_does_not_matter),
        cmocka_unit_test(test_kayenta_depends_on_the_unit_and_ranks_do_not),
        cmocka_unit_test(test_only_the_bad_direction_counts),
        cmocka_unit_test(test_missing_data),
        cmocka_unit_test(test_nan_is_removed_or_taken_for_zero),
        cmocka_unit_test(test_outliers_lie_beyond_both_fences),
        cmocka_unit_test(test_equal_points_are_no_outliers),
        cmocka_unit_test(test_small_effects_are_allowed),
        cmocka_unit_test(test_common_language_effect),
        cmocka_unit_test(test_an_effect_that_is_unknown_excuses_nothing),
        cmocka_unit_test(test_critical_needs_a_critical_effect),
        cmocka_unit_test(test_constant_arms_give_the_same_verdict_in_each_run),
        cmocka_unit_test(test_an_infinite_point_is_an_error),
        cmocka_unit_test(test_score_of_one_group),
        cmocka_unit_test(test_score_of_weighted_groups),
        cmocka_unit_test(test_a_metric_of_two_groups_counts_in_both),
        cmocka_unit_test(test_a_critical_failure_fails_everything),
        cmocka_unit_test(test_half_without_data_fails),
    };
    return cmocka_run_group_tests(tests, load_vectors, unload_vectors);
}
