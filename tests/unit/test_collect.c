/*
 * What a policy makes Prometheus be asked, and what its answer to a gauge says of a look: values of one instant, in an
 * order that does not depend on the server, and one number for a guardrail. Whole fetches, with a real Prometheus, are
 * in tests/integration/gauges.bats.
 */
#include "analyzer/collect/private.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- questions --- */

static struct policy_metric metrics[] = {
    {.name = (char *)"errors", .type = METRIC_ERRORS, .total = (char *)"all{$track}", .failed = (char *)"bad{$track}"},
    {.name = (char *)"latency", .type = METRIC_LATENCY, .histogram = (char *)"time_bucket{$track}"},
    {.name = (char *)"memory",
     .type = METRIC_GAUGE,
     .query = (char *)"max by (pod) (bytes{$track}) # of any container"},
};
static struct policy_guardrail guardrails[] = {
    {.name = (char *)"budget",
     .kind = GUARDRAIL_RATE,
     .failed = (char *)"bad{$canary}",
     .total = (char *)"all{$canary}",
     .above = 0.05},
    {.name = (char *)"queue", .kind = GUARDRAIL_VALUE, .query = (char *)"max(queue{$track})", .above = 1000},
};
static struct policy policy = {
    .service = (char *)"shop",
    .prometheus = {.url = (char *)"http://127.0.0.1:9", .timeout_ms = 1000},
    .matchers = {(char *)"t=\"s\"", (char *)"t=\"c\""},
    .look_ms = 15000,
    .settle_ms = 5000,
    .traffic = {.unattended_ms = 60000},
    .metrics = metrics,
    .metric_count = 3,
    .guardrails = guardrails,
    .guardrail_count = 2,
};

static struct collector *collector(void)
{
    struct error err = {0};
    struct collector *made = collector_new(&policy, &err);
    if (!made)
        fail_msg("%s", err.text);
    return made;
}

static void every_metric_is_asked_of_both_tracks_and_a_guardrail_of_the_canary(void **state)
{
    (void)state;
    static const struct {
        const char *name, *key;
        enum track track;
        const char *text;
        bool counts;
    } expected[] = {
        {"errors", "total", TRACK_STABLE, "all{t=\"s\"}[1m5s]", true},
        {"errors", "failed", TRACK_STABLE, "bad{t=\"s\"}[1m5s]", true},
        {"errors", "total", TRACK_CANARY, "all{t=\"c\"}[1m5s]", true},
        {"errors", "failed", TRACK_CANARY, "bad{t=\"c\"}[1m5s]", true},
        {"latency", "histogram", TRACK_STABLE, "time_bucket{t=\"s\"}[1m5s]", true},
        {"latency", "histogram", TRACK_CANARY, "time_bucket{t=\"c\"}[1m5s]", true},
        /* A comment in the query must not swallow what is written behind it. */
        {"memory", "query", TRACK_STABLE, "(max by (pod) (bytes{t=\"s\"}) # of any container\n)[1m5s:15s]", false},
        {"memory", "query", TRACK_CANARY, "(max by (pod) (bytes{t=\"c\"}) # of any container\n)[1m5s:15s]", false},
        {"budget", "total", TRACK_CANARY, "all{t=\"c\"}[1m5s]", true},
        {"budget", "failed", TRACK_CANARY, "bad{t=\"c\"}[1m5s]", true},
        {"queue", "query", TRACK_CANARY, "(max(queue{t=\"c\"})\n)[1m5s:15s]", false},
    };
    struct collector *made = collector();
    assert_int_equal(made->question_count, sizeof expected / sizeof *expected);
    for (size_t i = 0; i < made->question_count; i++) {
        const struct question *question = &made->questions[i];
        assert_string_equal(question->subject->name, expected[i].name);
        assert_string_equal(question->key, expected[i].key);
        assert_int_equal(question->track, expected[i].track);
        assert_int_equal(question->subject->guardrail, i >= 8);
        char *text = question_text(question, 65000, 15000);
        assert_string_equal(text, expected[i].text);
        free(text);
        assert_int_equal(question_expect(question).counts, expected[i].counts);
    }
    collector_free(made);
}

/* --- gauges --- */

static struct prom_answer *answer(const char *result)
{
    char body[2000];
    int length = snprintf(body, sizeof body,
                          "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[%s]}}", result);
    const struct prom_source source = {"q", "http://prometheus"};
    const struct prom_expect expect = {.types = PROM_MATRIX};
    struct error err = {0};
    struct prom_answer *made = prom_answer_parse(&source, &expect, NULL, 200, body, (size_t)length, &err);
    if (!made)
        fail_msg("%s", err.text);
    return made;
}

static void assert_look(struct gauge *gauge, int64_t from_ms, int64_t at_ms, size_t count, const double *values)
{
    assert_int_equal(gauge_read(gauge, from_ms, at_ms), count);
    for (size_t i = 0; i < count; i++)
        if (isnan(values[i]))
            assert_true(isnan(gauge->values[i]));
        else
            assert_true(gauge->values[i] == values[i]);
}

/* The place in the list is all that tells a gauge's instances apart. */
static void values_stand_in_the_order_of_labels(void **state)
{
    (void)state;
    static const char *const orders[] = {
        "{\"metric\":{\"pod\":\"b\"},\"values\":[[15,\"2\"]]},{\"metric\":{\"pod\":\"a\"},\"values\":[[15,\"1\"]]},"
        "{\"metric\":{\"pod\":\"a\",\"zone\":\"x\"},\"values\":[[15,\"-3.5\"]]}",
        "{\"metric\":{\"zone\":\"x\",\"pod\":\"a\"},\"values\":[[15,\"-3.5\"]]},"
        "{\"metric\":{\"pod\":\"a\"},\"values\":[[15,\"1\"]]},{\"metric\":{\"pod\":\"b\"},\"values\":[[15,\"2\"]]}"};
    for (size_t i = 0; i < 2; i++) {
        struct prom_answer *made = answer(orders[i]);
        struct gauge gauge;
        gauge_open(&gauge, made);
        assert_look(&gauge, 0, 15000, 3, (const double[]){1, -3.5, 2});
        gauge_close(&gauge);
        prom_answer_free(made);
    }
}

static void a_look_takes_the_newest_instant_in_it(void **state)
{
    (void)state;
    struct prom_answer *made = answer("{\"metric\":{\"pod\":\"a\"},\"values\":[[15,\"1\"],[30,\"2\"],[45,\"3\"]]},"
                                      "{\"metric\":{\"pod\":\"b\"},\"values\":[[60,\"7\"],[75,\"NaN\"],[90,\"+Inf\"]]},"
                                      "{\"metric\":{\"pod\":\"c\"},\"values\":[[15,\"4\"],[75,\"5\"]]}");
    struct gauge gauge;
    gauge_open(&gauge, made);
    assert_look(&gauge, 0, 15000, 2, (const double[]){1, 4});
    /* A sample at the look's beginning belongs to the look before. */
    assert_look(&gauge, 15000, 30000, 1, (const double[]){2});
    assert_look(&gauge, 0, 14999, 0, NULL);
    assert_look(&gauge, 30001, 44999, 0, NULL);
    assert_look(&gauge, 90000, 105000, 0, NULL);
    /* A stretched look is one of its end: an instance that was replaced on the way does not stand beside its heir. */
    assert_look(&gauge, 30000, 60000, 1, (const double[]){7});
    assert_look(&gauge, 60000, 80000, 2, (const double[]){NAN, 5});
    assert_look(&gauge, 75000, 90000, 1, (const double[]){NAN});
    gauge_close(&gauge);
    prom_answer_free(made);
}

static void no_series_is_no_value(void **state)
{
    (void)state;
    struct prom_answer *made = answer("");
    struct gauge gauge;
    gauge_open(&gauge, made);
    assert_int_equal(gauge_read(&gauge, INT64_MIN, INT64_MAX), 0);
    gauge_close(&gauge);
    prom_answer_free(made);
}

static void a_guardrail_is_one_number(void **state)
{
    (void)state;
    struct collector *made = collector();
    const struct question *memory = &made->questions[7], *queue = &made->questions[10];
    struct error err = {0};
    assert_true(gauge_check_count(memory, 2, &err));
    assert_true(gauge_check_count(queue, 0, &err));
    assert_true(gauge_check_count(queue, 1, &err));
    assert_false(gauge_check_count(queue, 2, &err));
    assert_int_equal(err.code, ERROR_DATA);
    assert_string_equal(err.text, "guardrail queue: `max(queue{t=\"c\"})` gives 2 series where one number is meant; "
                                  "aggregate them, as max(...)");
    collector_free(made);
}

/* --- probes --- */

/* Before the first traffic the canary, and with it every guardrail, may be silent; stable may not. */
static void what_stable_lacks_is_a_problem_before_the_rollout(void **state)
{
    (void)state;
    struct probe probes[] = {
        {.name = "errors", .key = "total", .track = TRACK_STABLE, .query = (char *)"q", .series = 2},
        {.name = "errors", .key = "failed", .track = TRACK_STABLE, .query = (char *)"q"},
        {.name = "memory",
         .type = METRIC_GAUGE,
         .key = "query",
         .track = TRACK_STABLE,
         .query = (char *)"q",
         .series = 1},
        {.name = "memory", .type = METRIC_GAUGE, .key = "query", .track = TRACK_CANARY, .query = (char *)"q"},
        {.name = "budget", .guardrail = true, .key = "total", .track = TRACK_CANARY, .query = (char *)"q"},
        {.name = "queue", .guardrail = true, .type = METRIC_GAUGE, .key = "query", .track = TRACK_CANARY},
    };
    enum { COUNT = sizeof probes / sizeof *probes };
    struct error err = {0};
    assert_true(probes_check(&policy, probes, COUNT, &err));
    probes[2].series = 0;
    assert_false(probes_check(&policy, probes, COUNT, &err));
    assert_int_equal(err.code, ERROR_DATA);
    assert_string_equal(err.text, "metric memory: `q` finds nothing at http://127.0.0.1:9; correct `query` or "
                                  "`tracks`, and try it with `haldane check --live`");
    probes[2].series = 1;
    error_set(&probes[5].error, ERROR_DATA, "two series");
    assert_false(probes_check(&policy, probes, COUNT, &err));
    assert_string_equal(err.text, "two series");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_metric_is_asked_of_both_tracks_and_a_guardrail_of_the_canary),
        cmocka_unit_test(values_stand_in_the_order_of_labels),
        cmocka_unit_test(a_look_takes_the_newest_instant_in_it),
        cmocka_unit_test(no_series_is_no_value),
        cmocka_unit_test(a_guardrail_is_one_number),
        cmocka_unit_test(what_stable_lacks_is_a_problem_before_the_rollout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
