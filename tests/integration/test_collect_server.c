/*
 * What a fetch makes of Prometheus's answers, from a server that says what each test needs: which looks there are is
 * for the counters to say, and a gauge or a guardrail that is not there takes no look away. Looks are of 15 s, from
 * 1000 s to 1060 s.
 */
#include "analyzer/collect/collect.h"
#include "base/memory.h"

#include <arpa/inet.h>
#include <math.h>
#include <microhttpd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FROM_MS = 1000000, UNTIL_MS = 1060000, LOOK_MS = 15000, FORM = 4000 };

/* The series that are given to a query which holds both words. */
struct canned {
    const char *name, *track, *series;
};

static struct MHD_Daemon *server;
static const struct canned *canned;
static size_t canned_count;

/* --- the server --- */

static const char *series_for(const char *form)
{
    for (size_t i = 0; i < canned_count; i++)
        if (strstr(form, canned[i].name) && strstr(form, canned[i].track))
            return canned[i].series;
    return "";
}

static enum MHD_Result answer(struct MHD_Connection *connection, const char *form)
{
    char *body =
        mem_printf("{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[%s]}}", series_for(form));
    struct MHD_Response *response = MHD_create_response_from_buffer(strlen(body), body, MHD_RESPMEM_MUST_FREE);
    enum MHD_Result result = MHD_queue_response(connection, 200, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result handle(void *user, struct MHD_Connection *connection, const char *path, const char *method,
                              const char *version, const char *upload, size_t *upload_size, void **request)
{
    (void)user, (void)path, (void)method, (void)version;
    char *form = *request;
    if (!form) {
        *request = mem_alloc(1, FORM);
        return MHD_YES;
    }
    if (*upload_size == 0)
        return answer(connection, form);
    size_t length = strlen(form);
    if (length + *upload_size >= FORM)
        return MHD_NO;
    memcpy(form + length, upload, *upload_size);
    *upload_size = 0;
    return MHD_YES;
}

static void completed(void *user, struct MHD_Connection *connection, void **request,
                      enum MHD_RequestTerminationCode why)
{
    (void)user, (void)connection, (void)why;
    free(*request);
}

/* --- the policy --- */

static struct policy_metric errors_and_memory[] = {
    {.name = (char *)"errors", .type = METRIC_ERRORS, .total = (char *)"all{$track}", .failed = (char *)"bad{$track}"},
    {.name = (char *)"memory", .type = METRIC_GAUGE, .query = (char *)"memory{$track}"},
};
static struct policy_guardrail guardrails[] = {
    {.name = (char *)"budget",
     .kind = GUARDRAIL_RATE,
     .failed = (char *)"bad{$canary}",
     .total = (char *)"all{$canary}"},
    {.name = (char *)"queue", .kind = GUARDRAIL_VALUE, .query = (char *)"queue{$canary}"},
};
static char url[60];
static struct policy policy = {
    .service = (char *)"shop",
    .prometheus = {.url = url, .timeout_ms = 5000},
    .matchers = {(char *)"t=\"stab\"", (char *)"t=\"cana\""},
    .look_ms = LOOK_MS,
    .traffic = {.unattended_ms = 60000},
    .guardrails = guardrails,
};

static int start(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    server = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, handle, NULL, MHD_OPTION_SOCK_ADDR,
                              &address, MHD_OPTION_NOTIFY_COMPLETED, completed, NULL, MHD_OPTION_END);
    if (!server)
        return -1;
    snprintf(url, sizeof url, "http://127.0.0.1:%u",
             (unsigned)MHD_get_daemon_info(server, MHD_DAEMON_INFO_BIND_PORT)->port);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    MHD_stop_daemon(server);
    return 0;
}

/* Asks for the looks from from_ms on. What is wrong is in `err`. */
static int64_t ask(const struct canned *answers, size_t count, int64_t from_ms, struct evidence *evidence,
                   struct error *err)
{
    canned = answers;
    canned_count = count;
    struct collector *collector = collector_new(&policy, err);
    assert_non_null(collector);
    int64_t last_ms = -1;
    *err = (struct error){0};
    collect(collector, from_ms, UNTIL_MS, LOOK_MS, evidence, &last_ms, err);
    collector_free(collector);
    return last_ms;
}

static void assert_values(const struct evidence_interval *interval, enum track track, size_t count,
                          const double *values)
{
    const struct track_counts *found = &interval->tracks[track];
    assert_int_equal(found->present, count > 0);
    assert_int_equal(found->count, count);
    for (size_t i = 0; i < count; i++) {
        assert_null(found->instances[i].instance);
        assert_true(found->instances[i].value == values[i]);
    }
}

static void assert_ends(const struct evidence_metric *metric, size_t count, const int64_t *at_ms)
{
    assert_int_equal(metric->count, count);
    for (size_t i = 0; i < count; i++)
        assert_true(metric->intervals[i].at_ms == at_ms[i]);
}

/* --- tests --- */

static void gauges_alone_have_looks(void **state)
{
    (void)state;
    static const struct canned answers[] = {
        {"memory", "stab",
         "{\"metric\":{\"pod\":\"b\"},\"values\":[[1005,\"2\"],[1020,\"4\"]]},"
         "{\"metric\":{\"pod\":\"a\"},\"values\":[[1005,\"1\"],[1020,\"3\"]]}"},
        {"memory", "cana", "{\"metric\":{},\"values\":[[1035,\"5\"]]}"},
    };
    policy.metrics = &errors_and_memory[1];
    policy.metric_count = 1;
    policy.guardrail_count = 0;
    struct evidence *evidence = evidence_new("shop", LOOK_MS);
    struct error err;
    assert_true(ask(answers, 2, FROM_MS, evidence, &err) == UNTIL_MS);
    assert_int_equal(evidence->metric_count, 1);
    const struct evidence_metric *memory = &evidence->metrics[0];
    assert_ends(memory, 4, (const int64_t[]){1015000, 1030000, 1045000, 1060000});
    assert_values(&memory->intervals[0], TRACK_STABLE, 2, (const double[]){1, 2});
    assert_values(&memory->intervals[1], TRACK_STABLE, 2, (const double[]){3, 4});
    assert_values(&memory->intervals[1], TRACK_CANARY, 0, NULL);
    assert_values(&memory->intervals[2], TRACK_CANARY, 1, (const double[]){5});
    assert_values(&memory->intervals[3], TRACK_STABLE, 0, NULL);
    evidence_free(evidence);
}

/* Stable's shop misses a scrape in the second look; the canary's memory and queue are missing in others. */
static void counters_decide_what_a_look_is(void **state)
{
    (void)state;
    static const struct canned answers[] = {
        {"all", "stab",
         "{\"metric\":{\"instance\":\"s\"},\"values\":[[995,\"10\"],[1010,\"20\"],[1040,\"50\"],[1055,\"60\"]]}"},
        {"all", "cana",
         "{\"metric\":{\"instance\":\"c\"},\"values\":[[995,\"1\"],[1010,\"2\"],[1025,\"4\"],[1040,\"8\"],"
         "[1055,\"16\"]]}"},
        {"bad", "cana",
         "{\"metric\":{\"instance\":\"c\"},\"values\":[[995,\"0\"],[1010,\"0\"],[1025,\"0\"],[1040,\"1\"],"
         "[1055,\"3\"]]}"},
        {"memory", "stab", "{\"metric\":{},\"values\":[[1005,\"1\"],[1020,\"2\"],[1035,\"3\"],[1050,\"NaN\"]]}"},
        {"memory", "cana", "{\"metric\":{},\"values\":[[1020,\"7\"]]}"},
        {"queue", "cana", "{\"metric\":{},\"values\":[[1050,\"9\"]]}"},
    };
    policy.metrics = errors_and_memory;
    policy.metric_count = 2;
    policy.guardrail_count = 2;
    struct evidence *evidence = evidence_new("shop", LOOK_MS);
    struct error err;
    assert_true(ask(answers, 6, FROM_MS, evidence, &err) == UNTIL_MS);
    assert_int_equal(evidence->metric_count, 4);
    for (size_t m = 0; m < 4; m++) {
        assert_ends(&evidence->metrics[m], 3, (const int64_t[]){1015000, 1045000, 1060000});
        assert_int_equal(evidence->metrics[m].guardrail, m >= 2);
    }
    const struct evidence_interval *memory = evidence->metrics[1].intervals, *budget = evidence->metrics[2].intervals,
                                   *queue = evidence->metrics[3].intervals;
    assert_values(&memory[0], TRACK_CANARY, 0, NULL);
    assert_values(&memory[1], TRACK_STABLE, 1, (const double[]){3});
    assert_values(&memory[1], TRACK_CANARY, 1, (const double[]){7});
    assert_true(memory[2].tracks[TRACK_STABLE].present && isnan(memory[2].tracks[TRACK_STABLE].instances[0].value));
    assert_false(budget[1].tracks[TRACK_STABLE].present);
    assert_int_equal(budget[1].tracks[TRACK_CANARY].instances[0].requests, 6);
    assert_int_equal(budget[1].tracks[TRACK_CANARY].instances[0].failed, 1);
    assert_int_equal(evidence->metrics[2].type, METRIC_ERRORS);
    assert_values(&queue[1], TRACK_CANARY, 0, NULL);
    assert_values(&queue[2], TRACK_CANARY, 1, (const double[]){9});
    evidence_free(evidence);
}

/* The looks before it are kept; from there on every fetch says so. */
static void a_guardrail_of_two_numbers_is_an_error(void **state)
{
    (void)state;
    static const struct canned answers[] = {
        {"queue", "cana",
         "{\"metric\":{\"pod\":\"a\"},\"values\":[[1005,\"1\"],[1020,\"1\"]]},"
         "{\"metric\":{\"pod\":\"b\"},\"values\":[[1020,\"1\"]]}"},
    };
    policy.metrics = errors_and_memory;
    policy.metric_count = 2;
    policy.guardrail_count = 2;
    struct evidence *evidence = evidence_new("shop", LOOK_MS);
    struct error err;
    assert_true(ask(answers, 1, FROM_MS, evidence, &err) == 1015000);
    assert_int_equal(err.code, ERROR_NONE);
    assert_true(ask(answers, 1, 1015000, evidence, &err) == 1015000);
    assert_int_equal(err.code, ERROR_DATA);
    assert_non_null(strstr(err.text, "guardrail queue: `queue{t=\"cana\"}` gives 2 series where one number is meant"));
    for (size_t m = 0; m < evidence->metric_count; m++)
        assert_int_equal(evidence->metrics[m].count, 1);
    evidence_free(evidence);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gauges_alone_have_looks),
        cmocka_unit_test(counters_decide_what_a_look_is),
        cmocka_unit_test(a_guardrail_of_two_numbers_is_an_error),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
