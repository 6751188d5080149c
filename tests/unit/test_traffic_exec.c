/*
 * What a program of the driver `exec` answers means what docs/traffic.md says, and what it does not say clearly is
 * refused by the name of the field.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "analyzer/traffic/exec_answer.h"
#include "analyzer/traffic/ops.h"

#include <stdio.h>
#include <string.h>

static const int64_t now_ms = 1795400000500; /* half a second past */
static const uint32_t all = DRIVER_READBACK | DRIVER_LEASE | DRIVER_CAS;

static struct driver_state must_parse(const char *text, uint32_t capabilities)
{
    struct driver_state got = {0};
    struct error err = {0};
    if (!exec_parse_state(text, strlen(text), "p get: answer", capabilities, now_ms, &got, &err))
        fail_msg("%s: %s", text, err.text);
    assert_int_equal(got.capabilities, capabilities);
    return got;
}

static void assert_refused(const char *text, uint32_t capabilities, const char *part)
{
    struct driver_state got = {.share_bp = 77};
    struct error err = {0};
    assert_false(exec_parse_state(text, strlen(text), "p get: answer", capabilities, now_ms, &got, &err));
    assert_int_equal(err.code, ERROR_DATA);
    assert_int_equal(got.share_bp, 77);
    if (strncmp(err.text, "p get: answer", 13) != 0 || !strstr(err.text, part))
        fail_msg("%s: expected '%s' in: %s", text, part, err.text);
}

static void the_shortest_answer_promises_nothing(void **state)
{
    (void)state;
    struct driver_state got = must_parse("{\"ok\":true,\"share_bp\":10000}", DRIVER_READBACK);
    assert_int_equal(got.share_bp, 10000);
    assert_int_equal(got.epoch, 0);
    assert_int_equal(got.generation, 0);
    assert_int_equal(got.lease_left_ms, -1);
    assert_false(got.lease_over || got.health_known);
    assert_string_equal(got.detail, "");
}

static void every_field_has_its_meaning(void **state)
{
    (void)state;
    struct driver_state got =
        must_parse("{\"ok\":true,\"share_bp\":500,\"epoch\":42,\"expires\":1795400060,\"generation\":"
                   "\"18446744073709551615\",\"stable_up\":2,\"canary_up\":0,\"detail\":\"a\\nb\",\"more\":[1]}",
                   all);
    assert_int_equal(got.share_bp, 500);
    assert_int_equal(got.epoch, 42);
    assert_true(got.generation == UINT64_MAX);
    assert_int_equal(got.lease_left_ms, 59500);
    assert_true(got.health_known);
    assert_int_equal(got.up[TRACK_STABLE], 2);
    assert_int_equal(got.up[TRACK_CANARY], 0);
    assert_string_equal(got.detail, "a b");
}

static void a_lease_is_told_in_either_way(void **state)
{
    (void)state;
    static const struct {
        const char *fields;
        int64_t left_ms;
        bool over;
    } cases[] = {
        {"\"share_bp\":500,\"expires\":0", -1, false},
        {"\"share_bp\":500,\"expires\":9999999999", -1, false},
        {"\"share_bp\":500,\"expires\":99999999990", -1, false},
        {"\"share_bp\":500,\"lease_left_s\":null", -1, false},
        {"\"share_bp\":500,\"lease_left_s\":12.5", 12500, false},
        /* The balancer's own count of seconds goes before a clock that may be another. */
        {"\"share_bp\":500,\"lease_left_s\":12,\"expires\":1", 12000, false},
        {"\"share_bp\":500,\"expires\":1795400000", 0, false},
        {"\"share_bp\":0,\"expires\":1795400000", 0, true},
        {"\"share_bp\":0,\"lease_left_s\":0", 0, true},
        {"\"share_bp\":0,\"lease_left_s\":0,\"lease_over\":false", 0, false},
        {"\"share_bp\":0,\"lease_left_s\":null,\"lease_over\":true", -1, true},
        {"\"share_bp\":0,\"expires\":0", -1, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[200];
        snprintf(text, sizeof text, "{\"ok\":true,\"epoch\":1,%s}", cases[i].fields);
        struct driver_state got = must_parse(text, all);
        if (got.lease_left_ms != cases[i].left_ms || got.lease_over != cases[i].over)
            fail_msg("%s: %d ms left, over %d", cases[i].fields, (int)got.lease_left_ms, got.lease_over);
    }
}

static void what_is_not_clear_is_refused_by_its_name(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "is not JSON"},
        {"{\"ok\":true,\"share_bp\":5", "is not JSON"},
        {"{\"ok\":true,\"share_bp\":5} x", "goes on after its end"},
        {"[{\"ok\":true}]", "is not a JSON object"},
        {"{\"share_bp\":5}", "\"ok\" is missing"},
        {"{\"ok\":false,\"share_bp\":5}", ".ok: must be true"},
        {"{\"ok\":1,\"share_bp\":5}", ".ok: must be true"},
        {"{\"ok\":true}", "\"share_bp\" is missing"},
        {"{\"ok\":true,\"share_bp\":10001}", ".share_bp: must be at most 10000"},
        {"{\"ok\":true,\"share_bp\":-1}", ".share_bp"},
        {"{\"ok\":true,\"share_bp\":0.5}", ".share_bp"},
        {"{\"ok\":true,\"share_bp\":1e300}", ".share_bp"},
        {"{\"ok\":true,\"share_bp\":null}", ".share_bp"},
        {"{\"ok\":true,\"share_bp\":5,\"expires\":0}", "\"epoch\" is missing"},
        {"{\"ok\":true,\"share_bp\":5,\"epoch\":\"x\",\"expires\":0}", ".epoch"},
        {"{\"ok\":true,\"share_bp\":5,\"epoch\":1}", "\"expires\" is missing"},
        {"{\"ok\":true,\"share_bp\":5,\"epoch\":1,\"expires\":-1}", ".expires"},
        {"{\"ok\":true,\"share_bp\":5,\"epoch\":1,\"expires\":1.5}", ".expires"},
        {"{\"ok\":true,\"share_bp\":5,\"epoch\":1,\"lease_left_s\":-1}", ".lease_left_s"},
        {"{\"ok\":true,\"share_bp\":5,\"epoch\":1,\"lease_left_s\":1e12}", ".lease_left_s"},
        {"{\"ok\":true,\"share_bp\":5,\"epoch\":1,\"lease_left_s\":\"1\"}", ".lease_left_s"},
        {"{\"ok\":true,\"share_bp\":5,\"epoch\":1,\"expires\":0,\"lease_over\":0}", ".lease_over"},
        {"{\"ok\":true,\"share_bp\":5,\"epoch\":1,\"expires\":0,\"stable_up\":1}", "\"canary_up\" is missing"},
        {"{\"ok\":true,\"share_bp\":5,\"epoch\":1,\"expires\":0,\"generation\":-1}", ".generation"},
        {"{\"ok\":true,\"share_bp\":5,\"epoch\":1,\"expires\":0,\"detail\":5}", ".detail"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i].text, all, cases[i].part);
}

static void a_long_detail_is_cut_between_characters(void **state)
{
    (void)state;
    char text[700], many[600] = "";
    for (int i = 0; i < 150; i++)
        strcat(many, "€");
    snprintf(text, sizeof text, "{\"ok\":true,\"share_bp\":5,\"detail\":\"%s\"}", many);
    struct driver_state got = must_parse(text, 0);
    assert_int_equal(strlen(got.detail), 255);
    assert_memory_equal(got.detail, many, 255);
}

static void capabilities_are_read_by_name(void **state)
{
    (void)state;
    static const char good[] = "{\"ok\":true,\"caps\":[\"lease\",\"no_reload\",\"readback\"]}", none[] = "{\"ok\":true,"
                                                                                                         "\"caps\":[]}";
    uint32_t got = 99;
    struct error err = {0};
    assert_true(exec_parse_caps(good, sizeof good - 1, "p", &got, &err));
    assert_int_equal(got, DRIVER_LEASE | DRIVER_NO_RELOAD | DRIVER_READBACK);
    assert_true(exec_parse_caps(none, sizeof none - 1, "p", &got, &err));
    assert_int_equal(got, 0);
    static const struct {
        const char *text, *part;
    } wrong[] = {{"{\"ok\":true}", "\"caps\" is missing"},
                 {"{\"ok\":true,\"caps\":\"lease\"}", "p.caps"},
                 {"{\"ok\":true,\"caps\":[1]}", "must be a list of names"},
                 {"{\"ok\":true,\"caps\":[\"lease\",\"Lease\\n\"]}", "\"Lease?\" is not known"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_false(exec_parse_caps(wrong[i].text, strlen(wrong[i].text), "p", &got, &err));
        if (!strstr(err.text, wrong[i].part))
            fail_msg("expected '%s' in: %s", wrong[i].part, err.text);
    }
}

static void counts_are_whole_and_agree(void **state)
{
    (void)state;
    static const char good[] =
        "{\"ok\":true,\"generation\":9,\"stable\":{\"total\":100,\"failed\":1},\"canary\":{\"total\":10,\"failed\":2,"
        "\"connection_errors\":3,\"retries\":4,\"redispatches\":5,\"health_changes\":6,\"in_flight\":7,\"up\":1,"
        "\"servers\":2}}";
    struct balancer_counters got = {.at_ms = 5};
    struct error err = {0};
    assert_true(exec_parse_counters(good, sizeof good - 1, "p", &got, &err));
    assert_int_equal(got.at_ms, 5);
    assert_int_equal(got.generation, 9);
    assert_int_equal(got.arms[TRACK_STABLE].total, 100);
    assert_int_equal(got.arms[TRACK_STABLE].retries, 0);
    const struct balancer_arm *arm = &got.arms[TRACK_CANARY];
    assert_true(arm->total == 10 && arm->failed == 2 && arm->connection_errors == 3 && arm->retries == 4);
    assert_true(arm->redispatches == 5 && arm->health_changes == 6 && arm->in_flight == 7);
    assert_true(arm->up == 1 && arm->servers == 2);
    static const struct {
        const char *text, *part;
    } wrong[] = {
        {"{\"ok\":true,\"stable\":{\"total\":1,\"failed\":0}}", "\"generation\" is missing"},
        {"{\"ok\":true,\"generation\":1,\"stable\":{\"total\":1,\"failed\":0}}", "\"canary\" is missing"},
        {"{\"ok\":true,\"generation\":1,\"stable\":{\"total\":1}}", "p.stable: \"failed\" is missing"},
        {"{\"ok\":true,\"generation\":1,\"stable\":{\"total\":1,\"failed\":2}}", "p.stable.failed: is more than total"},
        {"{\"ok\":true,\"generation\":1,\"stable\":{\"total\":1,\"failed\":0,\"up\":1}}", "p.stable.up: is more than"},
        {"{\"ok\":true,\"generation\":1,\"stable\":{\"total\":1,\"failed\":0,\"servers\":4294967296}}", "at most"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_false(exec_parse_counters(wrong[i].text, strlen(wrong[i].text), "p", &got, &err));
        if (!strstr(err.text, wrong[i].part))
            fail_msg("expected '%s' in: %s", wrong[i].part, err.text);
        assert_int_equal(got.generation, 9);
    }
}

static void what_is_in_flight_is_a_count(void **state)
{
    (void)state;
    static const char good[] = "{\"ok\":true,\"in_flight\":3}", wrong[] = "{\"ok\":true,\"in_flight\":\"three\"}";
    uint64_t got = 0;
    struct error err = {0};
    assert_true(exec_parse_drain(good, sizeof good - 1, "p", &got, &err));
    assert_int_equal(got, 3);
    assert_false(exec_parse_drain(wrong, sizeof wrong - 1, "p", &got, &err));
    assert_non_null(strstr(err.text, "p.in_flight"));
}

static void a_lease_that_cannot_be_kept_is_not_given(void **state)
{
    (void)state;
    char *words[] = {"/nowhere/driver", NULL};
    const struct policy_balancer balancer = {.command = {words, 1}};
    struct driver_state got = {.lease_left_ms = -1};
    struct error err = {0};
    void *self = exec_ops.open(&balancer, &err);
    assert_non_null(self);
    const struct driver_order order = {.share_bp = 500, .lease_ms = 999};
    assert_int_equal(exec_ops.set(self, &order, &got, &err), DRIVER_REFUSED);
    assert_non_null(strstr(err.text, "a lease of 999 ms"));
    exec_ops.close(self);
    assert_null(exec_ops.open(&(struct policy_balancer){0}, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shortest_answer_promises_nothing),
        cmocka_unit_test(every_field_has_its_meaning),
        cmocka_unit_test(a_lease_is_told_in_either_way),
        cmocka_unit_test(what_is_not_clear_is_refused_by_its_name),
        cmocka_unit_test(a_long_detail_is_cut_between_characters),
        cmocka_unit_test(capabilities_are_read_by_name),
        cmocka_unit_test(counts_are_whole_and_agree),
        cmocka_unit_test(what_is_in_flight_is_a_count),
        cmocka_unit_test(a_lease_that_cannot_be_kept_is_not_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
