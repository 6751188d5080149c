/* What a person reads: every number says what it is, in few characters, and never as another number. */
#include "analyzer/model/format.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>

#define TEXT ((char[FORMAT_TEXT]){0})

static void counts_have_separators(void **state)
{
    (void)state;
    assert_string_equal(format_count(0, TEXT), "0");
    assert_string_equal(format_count(999, TEXT), "999");
    assert_string_equal(format_count(12480, TEXT), "12,480");
    assert_string_equal(format_count(1000000, TEXT), "1,000,000");
    assert_string_equal(format_count(UINT64_MAX, TEXT), "18,446,744,073,709,551,615");
}

static void shares_are_percent(void **state)
{
    (void)state;
    assert_string_equal(format_share(0.0052, TEXT), "0.52 %");
    assert_string_equal(format_share(0.05, TEXT), "5 %");
    assert_string_equal(format_share(0.01553, TEXT), "1.55 %");
    assert_string_equal(format_share(0.1234, TEXT), "12.3 %");
    assert_string_equal(format_share(0.000023, TEXT), "0.0023 %");
    assert_string_equal(format_share(0, TEXT), "0 %");
    assert_string_equal(format_share(1, TEXT), "100 %");
    assert_string_equal(format_share(-0.02, TEXT), "-2 %");
    assert_string_equal(format_share(NAN, TEXT), "–");
    assert_string_equal(format_share(INFINITY, TEXT), "–");
}

static void nearly_all_is_not_all(void **state)
{
    (void)state;
    assert_string_equal(format_share(0.99991, TEXT), "> 99.9 %");
    assert_string_equal(format_share(0.999, TEXT), "99.9 %");
}

static void weights_are_exact(void **state)
{
    (void)state;
    assert_string_equal(format_weight(0, TEXT), "0 %");
    assert_string_equal(format_weight(1, TEXT), "0.01 %");
    assert_string_equal(format_weight(525, TEXT), "5.25 %");
    assert_string_equal(format_weight(2500, TEXT), "25 %");
    assert_string_equal(format_weight(10000, TEXT), "100 %");
}

static void rates_have_their_unit(void **state)
{
    (void)state;
    assert_string_equal(format_rate(95.2, TEXT), "95/s");
    assert_string_equal(format_rate(12480, TEXT), "12,480/s");
    assert_string_equal(format_rate(0.42, TEXT), "0.42/s");
    assert_string_equal(format_rate(0, TEXT), "0/s");
    assert_string_equal(format_rate(1e-9, TEXT), "< 0.001/s");
    assert_string_equal(format_rate(NAN, TEXT), "–");
}

static void ratios_keep_two_digits(void **state)
{
    (void)state;
    assert_string_equal(format_ratio(3.14, TEXT), "3.1×");
    assert_string_equal(format_ratio(1.046, TEXT), "1.05×");
    assert_string_equal(format_ratio(1, TEXT), "1.0×");
    assert_string_equal(format_ratio(1.998, TEXT), "2.0×");
    assert_string_equal(format_ratio(9.97, TEXT), "10×");
    assert_string_equal(format_ratio(1234, TEXT), "1,234×");
    assert_string_equal(format_ratio(0.052, TEXT), "0.052×");
    assert_string_equal(format_ratio(0, TEXT), "0×");
    assert_string_equal(format_ratio(INFINITY, TEXT), "unbounded");
    assert_string_equal(format_ratio(NAN, TEXT), "–");
}

/* A margin is somebody's choice: showing 1.05 as 1.1 would be a lie about the policy. */
static void limits_are_not_rounded_away(void **state)
{
    (void)state;
    assert_string_equal(format_limit(1.05, TEXT), "1.05×");
    assert_string_equal(format_limit(1.1, TEXT), "1.1×");
    assert_string_equal(format_limit(2.25, TEXT), "2.25×");
    assert_string_equal(format_limit(2, TEXT), "2×");
    assert_string_equal(format_limit(0.002, TEXT), "0.002×");
}

static void intervals_say_when_an_end_is_missing(void **state)
{
    (void)state;
    assert_string_equal(format_interval(2.2, 4.4, TEXT), "2.2–4.4×");
    assert_string_equal(format_interval(2.2, INFINITY, TEXT), "2.2× or more");
    assert_string_equal(format_interval(2.2, NAN, TEXT), "2.2× or more");
    assert_string_equal(format_interval(0, 4.4, TEXT), "up to 4.4×");
    assert_string_equal(format_interval(NAN, NAN, TEXT), "no bound yet");
    assert_string_equal(format_interval(0, INFINITY, TEXT), "no bound yet");
}

static void latencies_choose_their_unit(void **state)
{
    (void)state;
    assert_string_equal(format_latency(0.048, TEXT), "48 ms");
    assert_string_equal(format_latency(0.00085, TEXT), "0.85 ms");
    assert_string_equal(format_latency(0.0048, TEXT), "4.8 ms");
    assert_string_equal(format_latency(0.9996, TEXT), "1 s");
    assert_string_equal(format_latency(1.2, TEXT), "1.2 s");
    assert_string_equal(format_latency(45, TEXT), "45 s");
    assert_string_equal(format_latency(150, TEXT), "2m30s");
    assert_string_equal(format_latency(0, TEXT), "0 ms");
    assert_string_equal(format_latency(NAN, TEXT), "–");
    assert_string_equal(format_latency(INFINITY, TEXT), "–");
}

static void spans_drop_what_nobody_reads(void **state)
{
    (void)state;
    assert_string_equal(format_span(90000, TEXT), "1m30s");
    assert_string_equal(format_span(90499, TEXT), "1m30s");
    assert_string_equal(format_span(90500, TEXT), "1m31s");
    assert_string_equal(format_span(0, TEXT), "0s");
    assert_string_equal(format_span(-5, TEXT), "0s");
    assert_string_equal(format_span(250, TEXT), "250ms");
    assert_string_equal(format_span(2 * 86400000 + 31000, TEXT), "2d1m");
}

static void times_are_whole_seconds(void **state)
{
    (void)state;
    assert_string_equal(format_time(1772331270999, TEXT), "2026-03-01 02:14:30 UTC");
    assert_string_equal(format_time(0, TEXT), "1970-01-01 00:00:00 UTC");
    assert_string_equal(format_time(-1, TEXT), "1969-12-31 23:59:59 UTC");
}

static void how_far_away_is_in_whole_seconds(void **state)
{
    (void)state;
    assert_string_equal(format_relative(12300, 1000, TEXT), "in 12 s");
    assert_string_equal(format_relative(1001, 1000, TEXT), "in 1 s");
    assert_string_equal(format_relative(1000, 1000, TEXT), "0 s ago");
    assert_string_equal(format_relative(1000, 6999, TEXT), "5 s ago");
    assert_string_equal(format_relative(0, 60000, TEXT), "1m ago");
    assert_string_equal(format_relative(0, INT64_C(90061000), TEXT), "1d1h1m ago");
    assert_string_equal(format_relative(91000, 500, TEXT), "in 1m31s");
}

static void evidence_has_two_places(void **state)
{
    (void)state;
    assert_string_equal(format_evidence(1.6021, TEXT), "1.60");
    assert_string_equal(format_evidence(-0.001, TEXT), "0.00");
    assert_string_equal(format_evidence(-12.34, TEXT), "-12.3");
    assert_string_equal(format_evidence(-101.3, TEXT), "-101");
    assert_string_equal(format_evidence(-INFINITY, TEXT), "none");
    assert_string_equal(format_evidence(NAN, TEXT), "–");
}

static void extremes_fit(void **state)
{
    (void)state;
    static const double numbers[] = {1e-320, 1e-300, 1e-9, 1e9, 1e15, 1e16, 1e300, 1.7e308, -1e300, -1e-300};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        double x = numbers[i];
        assert_true(strlen(format_share(x, TEXT)) < FORMAT_TEXT);
        assert_true(strlen(format_rate(x, TEXT)) < FORMAT_TEXT);
        assert_true(strlen(format_ratio(x, TEXT)) < FORMAT_TEXT);
        assert_true(strlen(format_limit(x, TEXT)) < FORMAT_TEXT);
        assert_true(strlen(format_interval(x, x, TEXT)) < FORMAT_TEXT);
        assert_true(strlen(format_latency(x, TEXT)) < FORMAT_TEXT);
        assert_true(strlen(format_evidence(x, TEXT)) < FORMAT_TEXT);
    }
}

static void assert_ticks(const double *ticks, size_t count, size_t expected_count, const double *expected)
{
    assert_int_equal(count, expected_count);
    for (size_t i = 0; i < count; i++)
        assert_true(fabs(ticks[i] - expected[i]) <= 1e-9 * fabs(expected[i]) + 1e-12);
}

static void ticks_are_round(void **state)
{
    (void)state;
    double ticks[FORMAT_TICKS];
    assert_ticks(ticks, format_ticks(0, 1, 5, ticks), 6, (double[]){0, 0.2, 0.4, 0.6, 0.8, 1});
    assert_ticks(ticks, format_ticks(-1.6, 1.9, 5, ticks), 3, (double[]){-1, 0, 1});
    assert_ticks(ticks, format_ticks(0, 113, 5, ticks), 3, (double[]){0, 50, 100});
    assert_ticks(ticks, format_log_ticks(0.001, 1, 6, ticks), 4, (double[]){0.001, 0.01, 0.1, 1});
    assert_ticks(ticks, format_log_ticks(0.5, 5, 6, ticks), 4, (double[]){0.5, 1, 2, 5});
    assert_ticks(ticks, format_time_ticks(0, 600000, 6, ticks), 6,
                 (double[]){0, 120000, 240000, 360000, 480000, 600000});
}

/* Whatever the range, ticks ascend, lie inside, are not too many, and a drawable range has some. */
static void ticks_hold_for_any_range(void **state)
{
    (void)state;
    double ticks[FORMAT_TICKS];
    for (double low = 1e-12; low < 1e12; low *= 7.3) {
        for (double factor = 1.02; factor < 1e12; factor *= 2.9) {
            for (size_t want = 2; want <= 8; want += 3) {
                double high = low * factor;
                for (int kind = 0; kind < 2; kind++) {
                    size_t count =
                        kind ? format_log_ticks(low, high, want, ticks) : format_ticks(low, high, want, ticks);
                    assert_true(count <= FORMAT_TICKS);
                    for (size_t i = 0; i < count; i++) {
                        double slack = 1e-6 * (kind ? low : high - low);
                        assert_true(ticks[i] >= low - slack && ticks[i] <= high * (1 + 1e-6));
                        assert_true(i == 0 || ticks[i] > ticks[i - 1]);
                    }
                }
            }
        }
    }
}

static void ticks_of_nothing_are_none(void **state)
{
    (void)state;
    double ticks[FORMAT_TICKS];
    assert_int_equal(format_ticks(1, 1, 5, ticks), 0);
    assert_int_equal(format_ticks(NAN, 1, 5, ticks), 0);
    assert_int_equal(format_ticks(0, INFINITY, 5, ticks), 0);
    assert_int_equal(format_log_ticks(0, 1, 5, ticks), 0);
    assert_int_equal(format_time_ticks(5, 5, 5, ticks), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_have_separators),
        cmocka_unit_test(shares_are_percent),
        cmocka_unit_test(nearly_all_is_not_all),
        cmocka_unit_test(weights_are_exact),
        cmocka_unit_test(rates_have_their_unit),
        cmocka_unit_test(ratios_keep_two_digits),
        cmocka_unit_test(limits_are_not_rounded_away),
        cmocka_unit_test(intervals_say_when_an_end_is_missing),
        cmocka_unit_test(latencies_choose_their_unit),
        cmocka_unit_test(spans_drop_what_nobody_reads),
        cmocka_unit_test(times_are_whole_seconds),
        cmocka_unit_test(how_far_away_is_in_whole_seconds),
        cmocka_unit_test(evidence_has_two_places),
        cmocka_unit_test(extremes_fit),
        cmocka_unit_test(ticks_are_round),
        cmocka_unit_test(ticks_hold_for_any_range),
        cmocka_unit_test(ticks_of_nothing_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
