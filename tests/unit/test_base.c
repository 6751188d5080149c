/*
 * What everything stands on: a duration or a time means what Prometheus and RFC 3339 say or is refused, an error's text
 * is never overrun however long its parts are, and a growing string holds what was put into it.
 */
#include "base/duration.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NUMBERS = 20000 };
static const int64_t now_ms = INT64_C(1772331300000);

/* --- durations --- */

static void durations_mean_what_they_say(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {{"0", 0},
                 {"0s", 0},
                 {"1ms", 1},
                 {"500ms", 500},
                 {"15s", 15000},
                 {"1m30s", 90000},
                 {"90s", 90000},
                 {"2h", 7200000},
                 {"1d12h", 129600000},
                 {"1w", 604800000},
                 {"1y", INT64_C(31536000000)},
                 {"1y2w3d4h5m6s7ms", INT64_C(31536000000) + 1209600000 + 259200000 + 14400000 + 300000 + 6000 + 7},
                 {"007s", 7000},
                 {"292y", 292 * INT64_C(31536000000)}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t ms = -1;
        if (!duration_parse(cases[i].text, &ms) || ms != cases[i].ms)
            fail_msg("%s was read as %lld ms", cases[i].text, (long long)ms);
    }
}

static void what_is_no_duration_is_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"",
                                        " ",
                                        "5",
                                        "s",
                                        "-1s",
                                        "+1s",
                                        "1.5s",
                                        "1 s",
                                        "1s ",
                                        " 1s",
                                        "1S",
                                        "1sec",
                                        "1s1s",
                                        "30s1m",
                                        "1m1h",
                                        "1ms1s",
                                        "00",
                                        "1m30",
                                        "m30s",
                                        "1µs",
                                        "293y",
                                        "0x1s",
                                        "1e3s",
                                        "1s\n",
                                        "now",
                                        "1mo",
                                        "NaN",
                                        "99999999999999999999s",
                                        "9223372036854775807s",
                                        "9223372036854775807ms",
                                        "9223372036854775808ms",
                                        "292y365d1y"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t ms = 42;
        if (duration_parse(cases[i], &ms))
            fail_msg("\"%s\" was read as %lld ms", cases[i], (long long)ms);
        assert_int_equal(ms, 42);
    }
}

static void assert_round_trip(int64_t ms)
{
    char text[DURATION_TEXT];
    int64_t again = -1;
    if (!duration_parse(duration_format(ms, text), &again) || again != ms)
        fail_msg("%lld ms was written as %s and read as %lld ms", (long long)ms, text, (long long)again);
}

/* A fixed sequence, so that a failure comes back. */
static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed >> 11;
}

static void durations_come_back(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < NUMBERS; i++)
        assert_round_trip((int64_t)(next_random(&seed) % (UINT64_C(1) << (i % 43))));
    for (int64_t unit = 1; unit < INT64_C(9000000000000); unit *= 10)
        assert_round_trip(unit);
    assert_round_trip(INT64_MAX / 1000000);
}

static void durations_are_written_short(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {{0, "0s"},          {1, "1ms"},          {1500, "1s500ms"},      {60000, "1m"},
                 {90000, "1m30s"},   {86400000, "1d"},    {864000000, "10d"},     {1209600000, "2w"},
                 {7200001, "2h1ms"}, {31536000000, "1y"}, {31536001000, "365d1s"}};
    char text[DURATION_TEXT];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(duration_format(cases[i].ms, text), cases[i].text);
    assert_true(strlen(duration_format(INT64_MAX, text)) < DURATION_TEXT);
}

/* --- times --- */

static void times_mean_what_they_say(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {{"1970-01-01T00:00:00Z", 0},
                 {"2026-01-02T03:04:05Z", INT64_C(1767323045000)},
                 {"2026-01-02t03:04:05z", INT64_C(1767323045000)},
                 {"2026-01-02 03:04:05Z", INT64_C(1767323045000)},
                 {"2026-01-02T03:04:05.6Z", INT64_C(1767323045600)},
                 {"2026-01-02T03:04:05.678Z", INT64_C(1767323045678)},
                 {"2026-01-02T03:04:05.678999999Z", INT64_C(1767323045678)},
                 {"2026-01-02T05:04:05+02:00", INT64_C(1767323045000)},
                 {"2026-01-01T21:34:05-05:30", INT64_C(1767323045000)},
                 {"2026-01-02T03:04:05-00:00", INT64_C(1767323045000)},
                 {"2024-02-29T00:00:00Z", INT64_C(1709164800000)},
                 {"2000-02-29T12:00:00Z", INT64_C(951825600000)},
                 {"1969-12-31T23:59:59.999Z", -1},
                 {"1767323045", INT64_C(1767323045000)},
                 {"1767323045.5", INT64_C(1767323045500)},
                 {"0", 0},
                 {"15m", INT64_C(1772331300000) - 900000},
                 {"0s", INT64_C(1772331300000)},
                 {"now", INT64_C(1772331300000)}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t ms = 42;
        if (!time_parse(cases[i].text, now_ms, &ms) || ms != cases[i].ms)
            fail_msg("%s was read as %lld", cases[i].text, (long long)ms);
    }
}

static void what_is_no_time_is_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"",
                                        "yesterday",
                                        "2026-02-31T00:00:00Z",
                                        "2023-02-29T00:00:00Z",
                                        "1900-02-29T00:00:00Z",
                                        "2026-04-31T00:00:00Z",
                                        "2026-13-01T00:00:00Z",
                                        "2026-00-01T00:00:00Z",
                                        "2026-01-00T00:00:00Z",
                                        "2026-01-32T00:00:00Z",
                                        "2026-01-02T24:00:00Z",
                                        "2026-01-02T03:60:00Z",
                                        "2026-01-02T03:04:61Z",
                                        "2026-01-02T03:04:05",
                                        "2026-01-02T03:04:05.Z",
                                        "2026-01-02T03:04:05+0200",
                                        "2026-01-02T03:04:05+24:00",
                                        "2026-01-02T03:04:05+02:60",
                                        "2026-01-02T03:04:05Zx",
                                        "2026-01-02",
                                        "2026-1-2T03:04:05Z",
                                        "26-01-02T03:04:05Z",
                                        "2026-01-02T03:04Z",
                                        "-5",
                                        "+5",
                                        "5.",
                                        ".5",
                                        "5.5.5",
                                        "1e9",
                                        "0x10",
                                        "1767323045 ",
                                        "1000000000000",
                                        "inf",
                                        "nan"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t ms = 42;
        if (time_parse(cases[i], now_ms, &ms))
            fail_msg("\"%s\" was read as %lld", cases[i], (long long)ms);
        assert_int_equal(ms, 42);
    }
}

static void times_come_back(void **state)
{
    (void)state;
    uint64_t seed = 2;
    char text[TIME_TEXT];
    for (int i = 0; i < NUMBERS; i++) {
        int64_t ms = (int64_t)(next_random(&seed) % UINT64_C(253402300800000)), again = -1;
        ms -= i % 4 == 0 ? ms % 1000 : 0;
        if (!time_parse(time_format(ms, text), 0, &again) || again != ms)
            fail_msg("%lld was written as %s and read as %lld", (long long)ms, text, (long long)again);
    }
    assert_string_equal(time_format(INT64_C(1767323045000), text), "2026-01-02T03:04:05Z");
    assert_string_equal(time_format(INT64_C(1767323045007), text), "2026-01-02T03:04:05.007Z");
    assert_string_equal(time_format(-1, text), "1969-12-31T23:59:59.999Z");
    assert_true(strlen(time_format(INT64_MAX, text)) < TIME_TEXT);
    assert_true(strlen(time_format(INT64_MIN + 1000, text)) < TIME_TEXT);
}

/* --- errors --- */

static char *repeat(char letter, size_t length)
{
    char *text = mem_alloc(length + 1, 1);
    memset(text, letter, length);
    return text;
}

static void an_error_says_false_and_what(void **state)
{
    (void)state;
    struct error err = {0};
    assert_false(error_set(&err, ERROR_DATA, "%s:%d: wrong", "shop.yaml", 3));
    assert_int_equal(err.code, ERROR_DATA);
    assert_string_equal(err.text, "shop.yaml:3: wrong");
    error_prefix(&err, "rollout %s", "shop-1");
    assert_int_equal(err.code, ERROR_DATA);
    assert_string_equal(err.text, "rollout shop-1: shop.yaml:3: wrong");
    error_prefix(&err, "%s", "");
    assert_string_equal(err.text, ": rollout shop-1: shop.yaml:3: wrong");
    assert_false(error_set(NULL, ERROR_IO, "nobody listens"));
    error_prefix(NULL, "nobody listens");
}

/* Guarded on both sides: a byte too many is seen. */
static void an_error_is_never_overrun(void **state)
{
    (void)state;
    struct {
        char before[16];
        struct error err;
        char after[16];
    } place;
    static const size_t lengths[] = {0, 1, 100, 1018, 1019, 1020, 1021, 1022, 1023, 1024, 1025, 5000};
    enum { LENGTHS = sizeof lengths / sizeof *lengths };
    for (size_t i = 0; i < LENGTHS * LENGTHS; i++) {
        memset(&place, 'g', sizeof place);
        char *text = repeat('t', lengths[i % LENGTHS]), *prefix = repeat('p', lengths[i / LENGTHS]);
        error_set(&place.err, ERROR_IO, "%s", text);
        error_prefix(&place.err, "%s", prefix);
        size_t length = strnlen(place.err.text, sizeof place.err.text), want = strlen(text) + strlen(prefix) + 2;
        assert_true(length < sizeof place.err.text);
        assert_true(length == want || length >= sizeof place.err.text - 3);
        assert_memory_equal(place.err.text, prefix, strlen(prefix) < 1021 ? strlen(prefix) : 1021);
        for (size_t g = 0; g < sizeof place.before; g++)
            assert_true(place.before[g] == 'g' && place.after[g] == 'g');
        free(text);
        free(prefix);
    }
}

/* --- strings --- */

static void a_string_holds_what_was_put_in(void **state)
{
    (void)state;
    struct strbuf buf = {0};
    char *whole = mem_alloc(NUMBERS * 12, 1);
    size_t length = 0;
    for (int i = 0; i < NUMBERS; i++) {
        length += (size_t)sprintf(whole + length, "%d;", i * 7919);
        if (i % 3 == 0)
            strbuf_printf(&buf, "%d;", i * 7919);
        else if (i % 3 == 1)
            strbuf_add(&buf, whole + buf.length, length - buf.length);
        else
            strbuf_puts(&buf, whole + buf.length);
        assert_int_equal(buf.length, length);
        assert_int_equal(buf.text[buf.length], '\0');
    }
    char *text = strbuf_take(&buf);
    assert_string_equal(text, whole);
    assert_null(buf.text);
    assert_int_equal(buf.length, 0);
    free(text);
    free(whole);
}

static void an_empty_string_is_a_string(void **state)
{
    (void)state;
    struct strbuf buf = {0};
    strbuf_printf(&buf, "%s", "");
    char *text = strbuf_take(&buf);
    assert_string_equal(text, "");
    free(text);
    strbuf_add(&buf, "a\0b", 3);
    assert_int_equal(buf.length, 3);
    assert_memory_equal(buf.text, "a\0b", 4);
    strbuf_free(&buf);
    strbuf_free(&buf);
    assert_null(buf.text);
}

static void a_long_line_is_not_cut(void **state)
{
    (void)state;
    struct strbuf buf = {0};
    char *part = repeat('x', 100000);
    strbuf_puts(&buf, "a");
    strbuf_printf(&buf, "%s%s", part, part);
    assert_int_equal(buf.length, 200001);
    assert_int_equal(strspn(buf.text + 1, "x"), 200000);
    strbuf_free(&buf);
    free(part);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_mean_what_they_say),
        cmocka_unit_test(what_is_no_duration_is_refused),
        cmocka_unit_test(durations_come_back),
        cmocka_unit_test(durations_are_written_short),
        cmocka_unit_test(times_mean_what_they_say),
        cmocka_unit_test(what_is_no_time_is_refused),
        cmocka_unit_test(times_come_back),
        cmocka_unit_test(an_error_says_false_and_what),
        cmocka_unit_test(an_error_is_never_overrun),
        cmocka_unit_test(a_string_holds_what_was_put_in),
        cmocka_unit_test(an_empty_string_is_a_string),
        cmocka_unit_test(a_long_line_is_not_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
