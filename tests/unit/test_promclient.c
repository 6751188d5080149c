/*
 * The client's pure parts: real answers of Prometheus 2.42 (HALDANE_VECTORS), bad ones (tests/cases/prometheus), and
 * the rules by which samples become increments.
 */
#include "base/memory.h"
#include "base/strbuf.h"
#include "promclient/increments.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct prom_source source = {"http_requests_total[1m]", "http://prometheus:9090"};
static const struct prom_expect any = {0}, counts = {PROM_MATRIX, true, false};

static char *read_file(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("%s cannot be read", path);
    struct strbuf text = {0};
    char part[4096];
    size_t n;
    while ((n = fread(part, 1, sizeof part, file)) > 0)
        strbuf_add(&text, part, n);
    fclose(file);
    *length = text.length;
    return strbuf_take(&text);
}

static const char *need(const char *variable)
{
    const char *value = getenv(variable);
    if (!value)
        fail_msg("set %s", variable);
    return value;
}

static struct prom_answer *parse(const char *body, const struct prom_expect *expect, struct error *err)
{
    return prom_answer_parse(&source, expect, NULL, 200, body, strlen(body), err);
}

static struct prom_answer *parse_vector_file(const char *name, long status, const struct prom_expect *expect,
                                             struct error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/prometheus/%s.json", need("HALDANE_VECTORS"), name);
    size_t length;
    char *body = read_file(path, &length);
    struct prom_answer *answer = prom_answer_parse(&source, expect, NULL, status, body, length, err);
    free(body);
    return answer;
}

static struct prom_answer *good_file(const char *name, const struct prom_expect *expect)
{
    struct error err = {0};
    struct prom_answer *answer = parse_vector_file(name, 200, expect, &err);
    if (!answer)
        fail_msg("%s: %s", name, err.text);
    return answer;
}

static void bad_file(const char *name, long status, const struct prom_expect *expect, enum error_code code,
                     const char *fragment)
{
    struct error err = {0};
    struct prom_answer *answer = parse_vector_file(name, status, expect, &err);
    assert_null(answer);
    if (err.code != code || !strstr(err.text, fragment) || !strstr(err.text, source.query) ||
        !strstr(err.text, source.server))
        fail_msg("%s: code %d, %s", name, (int)err.code, err.text);
}

/* ---- answers ---- */

static void test_real_vector(void **state)
{
    (void)state;
    struct prom_answer *answer = good_file("post_form", &(struct prom_expect){.types = PROM_VECTOR});
    assert_int_equal(answer->series_count, 3);
    const struct prom_series *stable = &answer->series[1];
    assert_string_equal(prom_label(stable, "track"), "stable");
    assert_null(prom_label(stable, "trac"));
    assert_int_equal(stable->samples[0].at_ms, 1795397266146);
    assert_true(stable->samples[0].value == 1);
    char *text = prom_series_text(stable);
    assert_string_equal(text, "up{instance=\"127.0.0.1:9001\", job=\"app\", track=\"stable\"}");
    free(text);
    prom_answer_free(answer);
}

static void test_real_matrix(void **state)
{
    (void)state;
    struct prom_answer *answer = good_file("query_raw_range_selector", &counts);
    assert_int_equal(answer->series_count, 4);
    assert_int_equal(answer->series[0].sample_count, 5);
    assert_int_equal(answer->series[0].samples[4].at_ms, 1795397264334);
    assert_true(answer->series[0].samples[4].value == 1834727);
    prom_answer_free(answer);
}

static void test_real_other_types(void **state)
{
    (void)state;
    struct prom_answer *answer = good_file("query_scalar", &any);
    assert_int_equal(answer->type, PROM_SCALAR);
    assert_true(answer->series[0].samples[0].value == 3);
    prom_answer_free(answer);
    answer = good_file("query_string", &any);
    assert_int_equal(answer->type, PROM_STRING);
    assert_string_equal(answer->string, "hello");
    prom_answer_free(answer);
    answer = good_file("query_nan_value", &any);
    assert_true(isnan(answer->series[0].samples[0].value));
    prom_answer_free(answer);
    answer = good_file("query_inf_value", &any);
    assert_true(isinf(answer->series[0].samples[0].value));
    prom_answer_free(answer);
}

/* Nothing matched: that is an answer, and for the caller a lack of data. */
static void test_real_empty(void **state)
{
    (void)state;
    static const char *const names[] = {"query_empty", "stale_instant", "query_nan_division"};
    for (size_t i = 0; i < 3; i++) {
        struct prom_answer *answer = good_file(names[i], &(struct prom_expect){PROM_VECTOR, false, true});
        assert_int_equal(answer->series_count, 0);
        prom_answer_free(answer);
    }
}

static void test_warnings_are_handed_on(void **state)
{
    (void)state;
    struct prom_answer *answer = good_file("warnings_remote_read_range", &any);
    assert_int_equal(answer->warning_count, 1);
    assert_non_null(strstr(answer->warnings[0], "connection refused"));
    prom_answer_free(answer);
    struct error err;
    answer = parse("{\"status\":\"success\",\"isPartial\":true,\"infos\":[\"metric might not be a counter\"],"
                   "\"data\":{\"resultType\":\"vector\",\"result\":[]}}",
                   &any, &err);
    assert_non_null(answer);
    assert_int_equal(answer->warning_count, 1);
    assert_non_null(strstr(answer->warnings[0], "partial"));
    assert_int_equal(answer->info_count, 1);
    prom_answer_free(answer);
}

static void test_real_bad_answers(void **state)
{
    (void)state;
    bad_file("err400_parse", 400, &any, ERROR_DATA, "bad_data: invalid parameter \"query\": 1:10: parse error");
    bad_file("err400_missing_query", 400, &any, ERROR_DATA, "no expression found");
    bad_file("err422_exec_many_to_many", 422, &any, ERROR_DATA, "execution: found duplicate series");
    bad_file("err422_duplicate_labelset", 422, &any, ERROR_DATA, "same labelset");
    bad_file("err422_max_samples2", 422, &any, ERROR_DATA, "too many samples");
    bad_file("err503_timeout2", 503, &any, ERROR_UNAVAILABLE, "timeout: query timed out");
    bad_file("err404", 404, &any, ERROR_UNAVAILABLE, "wrong path prefix?");
    bad_file("err405", 405, &any, ERROR_UNAVAILABLE, "HTTP 405");
    bad_file("auth_no_basic", 401, &any, ERROR_DENIED, "credentials");
    bad_file("native_hist_instant", 200, &any, ERROR_DATA, "native histogram");
    bad_file("native_hist_raw", 200, &counts, ERROR_DATA, "native histogram");
    bad_file("query_instant_vector", 200, &counts, ERROR_DATA, "raw samples");
    bad_file("query_range_matrix", 200, &counts, ERROR_DATA, "is not a count");
    bad_file("query_nan_value", 200, &(struct prom_expect){PROM_VECTOR, true, true}, ERROR_DATA, "NaN is not a count");
    bad_file("metadata", 200, &any, ERROR_UNAVAILABLE, "resultType");
    bad_file("series_match", 200, &any, ERROR_UNAVAILABLE, "resultType");
}

static char *value_after(char *line, const char *key)
{
    size_t length = strlen(key);
    return strncmp(line, key, length) == 0 ? line + length : NULL;
}

/* tests/cases/prometheus/NAME: body, status, and what must come of them, one `key: value` a line. */
static void run_case(const char *folder, const char *name)
{
    char path[4096];
    size_t length, ignored;
    snprintf(path, sizeof path, "%s/%s/status", folder, name);
    char *status = read_file(path, &ignored);
    snprintf(path, sizeof path, "%s/%s/expect", folder, name);
    char *rules = read_file(path, &ignored);
    snprintf(path, sizeof path, "%s/%s/body", folder, name);
    char *body = read_file(path, &length);
    static const struct prom_limits small = {.bytes = 40000, .series = 2, .samples = 3};
    struct prom_expect expect = {0};
    struct error err = {0};
    size_t fragments = 0;
    struct prom_answer *answer = NULL;
    for (char *rest = rules, *line; (line = strsep(&rest, "\n")) != NULL;) {
        char *value;
        if ((value = value_after(line, "want: "))) {
            expect.types = strstr(value, "counts") ? PROM_MATRIX : strstr(value, "any") ? 0 : PROM_VECTOR | PROM_SCALAR;
            expect.counts = strstr(value, "counts") != NULL;
            expect.one = strstr(value, "one") != NULL;
            const struct prom_limits *limits = strstr(value, "limits") ? &small : NULL;
            answer = prom_answer_parse(&source, &expect, limits, atol(status), body, length, &err);
            if (answer)
                fail_msg("%s was taken for an answer", name);
        } else if ((value = value_after(line, "code: "))) {
            enum error_code code = strcmp(value, "data") == 0     ? ERROR_DATA
                                   : strcmp(value, "denied") == 0 ? ERROR_DENIED
                                                                  : ERROR_UNAVAILABLE;
            if (err.code != code)
                fail_msg("%s: code %d: %s", name, (int)err.code, err.text);
        } else if ((value = value_after(line, "text: "))) {
            fragments++;
            if (!strstr(err.text, value))
                fail_msg("%s: `%s` is missing: %s", name, value, err.text);
        }
    }
    if (fragments == 0 || !strstr(err.text, source.query) || !strstr(err.text, source.server) ||
        strpbrk(err.text, "\n\r\t"))
        fail_msg("%s: %s", name, err.text);
    free(status);
    free(rules);
    free(body);
}

static void test_bad_answer_cases(void **state)
{
    (void)state;
    char folder[2048];
    snprintf(folder, sizeof folder, "%s/tests/cases/prometheus", need("HALDANE_SOURCE"));
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    size_t cases = 0;
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] != '.') {
            run_case(folder, entry->d_name);
            cases++;
        }
    closedir(dir);
    assert_true(cases >= 60);
}

/* A good answer cut at any byte is never taken for a whole one. */
static void test_cut_anywhere(void **state)
{
    (void)state;
    const char *body =
        "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[{\"metric\":{\"a\":\"b\"},"
        "\"values\":[[1.5,\"1\"],[2.5,\"2\"]]}]}}";
    for (size_t length = 0; length <= strlen(body); length++) {
        char *part = mem_strndup(body, length);
        struct error err = {0};
        struct prom_answer *answer = prom_answer_parse(&source, &counts, NULL, 200, part, length, &err);
        assert_int_equal(answer != NULL, length == strlen(body));
        assert_int_equal(err.code != ERROR_NONE, length < strlen(body));
        prom_answer_free(answer);
        free(part);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } good[] = {{"0", 0},
                {"-0", -0.0},
                {"007", 7},
                {"9007199254740992", 9007199254740992.0},
                {"1e+06", 1e6},
                {"-1.5e-3", -1.5e-3},
                {"999999999999999", 999999999999999.0},
                {"0.1", 0.1},
                {"12345678901234567890", 12345678901234567890.0}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char body[256];
        snprintf(body, sizeof body,
                 "{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":[1.0625,\"%s\"]}}",
                 good[i].text);
        struct error err = {0};
        struct prom_answer *answer = parse(body, &any, &err);
        assert_non_null(answer);
        assert_true(memcmp(&answer->series[0].samples[0].value, &good[i].value, sizeof(double)) == 0);
        assert_int_equal(answer->series[0].samples[0].at_ms, 1063);
        prom_answer_free(answer);
    }
}

static void test_counts(void **state)
{
    (void)state;
    assert_true(prom_is_count(0));
    assert_true(prom_is_count(9007199254740992.0));
    assert_false(prom_is_count(9007199254740994.0));
    assert_false(prom_is_count(-1));
    assert_false(prom_is_count(0.5));
    assert_false(prom_is_count(NAN));
    assert_false(prom_is_count(INFINITY));
}

static void test_one_line(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t most;
        const char *line;
    } lines[] = {{"a\nb\tc\x01", 80, "a b c"},
                 {"", 80, ""},
                 {"abcdef", 3, "abc..."},
                 {"gr\xc3\xbc\xc3\x9f"
                  "e",
                  3, "gr..."},
                 {"\xff\xc3", 80, "??"},
                 {"\xed\xa0\x80", 80, "???"},
                 {"\xf0\x9f\x90\xa4", 80, "\xf0\x9f\x90\xa4"}};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char *line = prom_one_line(lines[i].text, strlen(lines[i].text), lines[i].most);
        assert_string_equal(line, lines[i].line);
        free(line);
    }
}

/* ---- increments ---- */

/* One matrix, written as PromQL's tests do: `labels` then "time:value time:value" in seconds, one pair of strings a
 * series, ended by NULL. */
static struct prom_answer *matrix(const char *labels, ...)
{
    struct strbuf body = {0};
    strbuf_puts(&body, "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[");
    va_list args;
    va_start(args, labels);
    const char *comma = "";
    for (; labels; labels = va_arg(args, const char *)) {
        strbuf_printf(&body, "%s{\"metric\":{", comma);
        char *copy = mem_strdup(labels);
        const char *between = "";
        for (char *rest = copy, *label; (label = strsep(&rest, " ")) != NULL; between = ",") {
            char *value = strchr(label, '=');
            *value++ = '\0';
            strbuf_printf(&body, "%s\"%s\":\"%s\"", between, label, value);
        }
        free(copy);
        strbuf_puts(&body, "},\"values\":[");
        copy = mem_strdup(va_arg(args, const char *));
        between = "";
        for (char *rest = copy, *pair; (pair = strsep(&rest, " ")) != NULL; between = ",") {
            char *value = strchr(pair, ':');
            *value++ = '\0';
            strbuf_printf(&body, "%s[%s,\"%s\"]", between, pair, value);
        }
        free(copy);
        strbuf_puts(&body, "]}");
        comma = ",";
    }
    va_end(args);
    strbuf_puts(&body, "]}}");
    struct error err = {0};
    struct prom_answer *answer = parse(body.text, &(struct prom_expect){.types = PROM_MATRIX}, &err);
    if (!answer)
        fail_msg("%s", err.text);
    strbuf_free(&body);
    return answer;
}

static void add(struct counter_set *set, const char *metric, enum counter_role role, struct prom_answer *answer)
{
    struct error err = {0};
    if (!counter_set_add(set, metric, role, answer, &err))
        fail_msg("%s", err.text);
    prom_answer_free(answer);
}

static void refused(struct counter_set *set, const char *metric, enum counter_role role, struct prom_answer *answer,
                    const char *fragment)
{
    struct error err = {0};
    assert_false(counter_set_add(set, metric, role, answer, &err));
    prom_answer_free(answer);
    assert_int_equal(err.code, ERROR_DATA);
    if (!strstr(err.text, fragment))
        fail_msg("%s", err.text);
}

static struct counter_interval interval(struct counter_set *set, const char *metric, int64_t from_s, int64_t at_s)
{
    struct counter_interval out;
    struct error err = {0};
    if (!counter_set_interval(set, metric, from_s * 1000, at_s * 1000, &out, &err))
        fail_msg("%s", err.text);
    return out;
}

static void no_interval(struct counter_set *set, const char *metric, int64_t from_s, int64_t at_s, enum error_code code,
                        const char *fragment)
{
    struct counter_interval out;
    struct error err = {0};
    assert_false(counter_set_interval(set, metric, from_s * 1000, at_s * 1000, &out, &err));
    if (err.code != code || !strstr(err.text, fragment))
        fail_msg("code %d: %s", (int)err.code, err.text);
}

/* Requests and failures of the set's only target. */
static void expect_counts(struct counter_set *set, int64_t from_s, int64_t at_s, uint64_t requests, uint64_t failed)
{
    struct counter_interval out = interval(set, "errors", from_s, at_s);
    assert_int_equal(out.count, 1);
    assert_int_equal(out.targets[0].requests, requests);
    assert_int_equal(out.targets[0].failed, failed);
    counter_interval_free(&out);
}

static void test_plain_increments(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "errors", COUNTER_TOTAL,
        matrix("instance=a code=200", "10:100 20:150 30:190", "instance=a code=500", "10:5 20:6 30:9", NULL));
    add(set, "errors", COUNTER_FAILED, matrix("instance=a code=500", "10:5 20:6 30:9", NULL));
    expect_counts(set, 10, 30, 94, 4);
    expect_counts(set, 10, 20, 51, 1);
    expect_counts(set, 20, 30, 43, 3);
    expect_counts(set, 19, 29, 51, 1); /* the interval holds the sample at 20 only */
    expect_counts(set, 0, 20, 51, 1);  /* the first sample is a base */
    expect_counts(set, 30, 40, 0, 0);
    counter_set_free(set);
}

static void test_real_reset(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "errors", COUNTER_TOTAL, good_file("counter_reset_raw", &counts));
    add(set, "errors", COUNTER_FAILED, good_file("counter_reset_503_series", &counts));
    struct counter_interval out;
    struct error err = {0};
    /* ... 210275, 210381, 8, 113: the last scrape before the restart, and what came after it. */
    assert_true(counter_set_interval(set, "errors", 1795397295871, 1795397301871, &out, &err));
    assert_int_equal(out.targets[0].requests, 210381 - 210275 + 113);
    assert_int_equal(out.targets[0].failed, 2 + 0);
    assert_string_equal(out.targets[0].instance, "127.0.0.1:9002");
    assert_true(out.targets[0].reset);
    assert_int_equal(out.targets[0].presence, COUNTER_SAMPLED);
    assert_int_equal(out.targets[0].base_ms, 1795397295871);
    assert_int_equal(out.targets[0].last_ms, 1795397301871);
    assert_int_equal(out.targets[0].newest_ms, 1795397311871);
    counter_interval_free(&out);
    /* The whole: 210381 - 209563 before, 729 after. */
    assert_true(counter_set_interval(set, "errors", 1795397283871, 1795397311871, &out, &err));
    assert_int_equal(out.targets[0].requests, 818 + 729);
    assert_int_equal(out.targets[0].failed, (27 - 24) + (52 - 40)); /* the selector also gave the series code="422" */
    counter_interval_free(&out);
    counter_set_free(set);
}

/* The total falls; the failures have already passed their old value, and the other metric did too. */
static void test_reset_of_one_is_a_reset_of_all(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "errors", COUNTER_TOTAL, matrix("instance=a", "10:100 20:30 30:40", "instance=b", "10:1 20:2 30:4", NULL));
    add(set, "errors", COUNTER_FAILED, matrix("instance=a", "10:2 20:7 30:8", "instance=b", "10:0 20:0 30:1", NULL));
    add(set, "latency", COUNTER_BUCKET,
        matrix("instance=a le=1", "10:3 20:4 30:5", "instance=a le=+Inf", "10:5 20:6 30:7", NULL));
    struct counter_interval out = interval(set, "errors", 10, 20);
    assert_int_equal(out.count, 2);
    assert_int_equal(out.targets[0].requests, 30);
    assert_int_equal(out.targets[0].failed, 7);
    assert_int_equal(out.targets[1].requests, 1); /* another instance is not touched */
    assert_false(out.targets[1].reset);
    counter_interval_free(&out);
    out = interval(set, "latency", 10, 20);
    assert_int_equal(out.targets[0].buckets[0], 4);
    assert_int_equal(out.targets[0].buckets[1], 2);
    assert_int_equal(out.targets[0].requests, 6);
    counter_interval_free(&out);
    out = interval(set, "latency", 20, 30);
    assert_int_equal(out.targets[0].requests, 1);
    assert_false(out.targets[0].reset);
    counter_interval_free(&out);
    counter_set_free(set);
}

/* Restarted twice between two scrapes, and busy since: every series is above its old value, but the buckets cannot have
 * grown so. What was counted is not known; it must neither be an error nor a whole life's count. */
static void test_a_restart_that_no_series_shows(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "errors", COUNTER_TOTAL, matrix("instance=a", "10:4 20:9 30:12", "instance=b", "10:1 20:2 30:4", NULL));
    add(set, "errors", COUNTER_FAILED, matrix("instance=a", "10:0 20:2 30:3", "instance=b", "10:0 20:0 30:1", NULL));
    add(set, "latency", COUNTER_BUCKET,
        matrix("instance=a le=1", "10:1 20:5 30:6", "instance=a le=2", "10:3 20:6 30:8", "instance=a le=+Inf",
               "10:4 20:9 30:12", NULL));
    struct counter_interval out = interval(set, "latency", 10, 20);
    assert_int_equal(out.targets[0].requests, 0);
    assert_true(out.targets[0].reset);
    counter_interval_free(&out);
    out = interval(set, "errors", 10, 20);
    assert_int_equal(out.targets[0].requests, 0);
    assert_int_equal(out.targets[0].failed, 0);
    assert_int_equal(out.targets[1].requests, 1); /* another instance is not touched */
    assert_false(out.targets[1].reset);
    counter_interval_free(&out);
    out = interval(set, "latency", 20, 30);
    assert_int_equal(out.targets[0].requests, 3);
    assert_int_equal(out.targets[0].buckets[0], 1);
    assert_false(out.targets[0].reset);
    counter_interval_free(&out);
    counter_set_free(set);
}

/* A bucket fell: that is an ordinary restart, whatever the others look like beside each other. */
static void test_a_restart_that_a_bucket_shows(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "latency", COUNTER_BUCKET,
        matrix("instance=a le=1", "10:1 20:5", "instance=a le=2", "10:3 20:6", "instance=a le=+Inf", "10:9 20:8",
               NULL));
    struct counter_interval out = interval(set, "latency", 10, 20);
    assert_int_equal(out.targets[0].requests, 8);
    assert_int_equal(out.targets[0].buckets[0], 5);
    counter_interval_free(&out);
    counter_set_free(set);
}

/* The restart shows at 20, where this series has no sample; it returns at 30 above its old value. */
static void test_reset_while_a_series_was_away(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "errors", COUNTER_TOTAL,
        matrix("instance=a code=200", "10:100 20:10 30:20", "instance=a code=500", "10:1 30:3", NULL));
    add(set, "errors", COUNTER_FAILED, matrix("instance=a code=500", "10:1 30:3", NULL));
    expect_counts(set, 10, 30, 20 + 3, 3);
    expect_counts(set, 10, 20, 10, 0);
    expect_counts(set, 20, 30, 10 + 3, 3);
    counter_set_free(set);
}

static void test_first_error_counts(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "errors", COUNTER_TOTAL,
        matrix("instance=a code=200", "10:100 20:110", "instance=a code=500", "20:4", NULL));
    add(set, "errors", COUNTER_FAILED, matrix("instance=a code=500", "20:4", NULL));
    expect_counts(set, 10, 20, 14, 4);
    counter_set_free(set);
}

/* A new version on the same address: every label set is new, and the target was scraped before. */
static void test_restart_under_new_labels_counts(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "errors", COUNTER_TOTAL,
        matrix("instance=a version=1", "10:100 20:110", "instance=a version=2", "40:7 50:9", NULL));
    add(set, "errors", COUNTER_FAILED, matrix(NULL));
    expect_counts(set, 20, 50, 9, 0);
    expect_counts(set, 30, 40, 7, 0);
    counter_set_free(set);
}

/* Two replicas of Prometheus merged: a series of the other one is not new, it is only seen for the first time. */
static void test_other_scraper_is_no_first_appearance(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "errors", COUNTER_TOTAL,
        matrix("instance=a code=200", "10:100 20:110 30:120", "instance=a code=500", "15:4000 25:4002", NULL));
    add(set, "errors", COUNTER_FAILED, matrix("instance=a code=500", "15:4000 25:4002", NULL));
    expect_counts(set, 10, 30, 22, 2);
    counter_set_free(set);
}

/* A longer range of one query must not make the other query's series look new. */
static void test_since_cuts_all_alike(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(15000);
    add(set, "errors", COUNTER_TOTAL, matrix("instance=a", "10:100 20:110 30:120", NULL));
    add(set, "errors", COUNTER_FAILED, matrix("instance=a", "20:50 30:51", NULL));
    expect_counts(set, 15, 30, 10, 1);
    counter_set_free(set);
}

static void test_new_target_is_only_a_base(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "errors", COUNTER_TOTAL, matrix("instance=a", "10:1 20:2", "instance=b", "20:500 30:501", NULL));
    add(set, "errors", COUNTER_FAILED, matrix(NULL));
    struct counter_interval out = interval(set, "errors", 10, 20);
    assert_int_equal(out.targets[1].presence, COUNTER_NEW);
    assert_int_equal(out.targets[1].requests, 0);
    assert_int_equal(out.targets[1].base_ms, 20000);
    counter_interval_free(&out);
    counter_set_free(set);
}

static void test_presence(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "errors", COUNTER_TOTAL,
        matrix("instance=gap", "10:1 30:3", "instance=late", "30:1", "instance=new", "20:1 30:2", "instance=ok",
               "10:1 20:2 30:3", "instance=stopped", "5:1 10:1", NULL));
    add(set, "errors", COUNTER_FAILED, matrix(NULL));
    struct counter_interval out = interval(set, "errors", 10, 20);
    static const enum counter_presence expected[] = {COUNTER_MISSED, COUNTER_LATER, COUNTER_NEW, COUNTER_SAMPLED,
                                                     COUNTER_SILENT};
    assert_int_equal(out.count, 5);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(out.targets[i].presence, expected[i]);
    assert_int_equal(out.missed, 1);
    assert_int_equal(out.silent, 1);
    assert_int_equal(out.targets[0].base_ms, 10000);
    assert_int_equal(out.targets[0].last_ms, 10000);
    assert_int_equal(out.targets[0].newest_ms, 30000);
    counter_interval_free(&out);
    out = interval(set, "errors", 10, 30); /* merged with the next one, nothing is missed or lost */
    assert_int_equal(out.missed, 0);
    assert_int_equal(out.targets[0].requests, 2);
    counter_interval_free(&out);
    counter_set_free(set);
}

static void test_names(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "errors", COUNTER_TOTAL,
        matrix("instance=a job=x", "10:1 20:2", "instance=a job=y", "10:1 20:4", "instance=b job=y", "10:0 20:1",
               NULL));
    add(set, "errors", COUNTER_FAILED, matrix(NULL));
    struct counter_interval out = interval(set, "errors", 10, 20);
    assert_int_equal(out.count, 3);
    assert_string_equal(out.targets[0].instance, "x/a");
    assert_string_equal(out.targets[1].instance, "y/a");
    assert_string_equal(out.targets[2].instance, "b");
    assert_int_equal(out.targets[1].requests, 3);
    counter_interval_free(&out);
    counter_set_free(set);
}

/* A target that only another metric knows is listed, and says that it carries nothing of this one. */
static void test_carries(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "errors", COUNTER_TOTAL, matrix("instance=a", "10:1 20:2", NULL));
    add(set, "errors", COUNTER_FAILED, matrix(NULL));
    add(set, "other", COUNTER_TOTAL, matrix("instance=b", "10:1 20:2", NULL));
    add(set, "other", COUNTER_FAILED, matrix(NULL));
    struct counter_interval out = interval(set, "errors", 10, 20);
    assert_int_equal(out.count, 2);
    assert_true(out.targets[0].carries);
    assert_false(out.targets[1].carries);
    assert_int_equal(out.targets[1].presence, COUNTER_SAMPLED);
    counter_interval_free(&out);
    counter_set_free(set);
}

static void test_buckets(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "latency", COUNTER_BUCKET,
        matrix("instance=a le=+Inf handler=x", "10:10 20:20", "instance=a le=0.1 handler=x", "10:1 20:4",
               "instance=a le=5e-1 handler=x", "10:5 20:14", "instance=a le=1e-1 handler=y", "10:0 20:1",
               "instance=a le=0.5 handler=y", "10:0 20:1", "instance=a le=+Inf handler=y", "10:0 20:1", NULL));
    struct counter_interval out = interval(set, "latency", 10, 20);
    assert_int_equal(out.edge_count, 3);
    assert_true(out.edges[0] == 0.1 && out.edges[1] == 0.5 && isinf(out.edges[2]));
    assert_int_equal(out.targets[0].buckets[0], 3 + 1);
    assert_int_equal(out.targets[0].buckets[1], 6);
    assert_int_equal(out.targets[0].buckets[2], 1);
    assert_int_equal(out.targets[0].requests, 11);
    counter_interval_free(&out);
    counter_set_free(set);
}

/* An upgrade of the server spells le="1" as "1.0" from one scrape to the next: still one bucket. */
static void test_bucket_spelled_anew(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "latency", COUNTER_BUCKET,
        matrix("instance=a le=1", "10:1 20:2", "instance=a le=1.0", "30:5", "instance=a le=+Inf", "10:1 20:2 30:6",
               NULL));
    struct counter_interval out = interval(set, "latency", 10, 30);
    assert_int_equal(out.edge_count, 2);
    assert_int_equal(out.targets[0].buckets[0], 4);
    assert_int_equal(out.targets[0].buckets[1], 1);
    counter_interval_free(&out);
    counter_set_free(set);
}

static void bad_buckets(struct prom_answer *answer, const char *fragment)
{
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "latency", COUNTER_BUCKET, answer);
    add(set, "errors", COUNTER_TOTAL, matrix("instance=a", "10:1 20:2", NULL));
    add(set, "errors", COUNTER_FAILED, matrix(NULL));
    no_interval(set, "latency", 10, 20, ERROR_DATA, fragment);
    expect_counts(set, 10, 20, 1, 0); /* the other metric is not touched */
    counter_set_free(set);
}

static void test_bad_buckets(void **state)
{
    (void)state;
    bad_buckets(matrix("instance=a le=1", "10:1 20:7", "instance=a le=+Inf", "10:1 20:6", NULL),
                "le=\"+Inf\"} at 1970-01-01T00:00:20Z: it counts less than the bucket below");
    bad_buckets(matrix("instance=a le=1", "10:1 20:5", NULL), "no bucket with le=\"+Inf\"");
    bad_buckets(matrix("instance=a le=1", "10:1 20:5", "instance=a le=+Inf", "10:3 21:6", NULL), "sampled together");
    bad_buckets(matrix("instance=a le=1", "10:1 20:5", "instance=a le=+Inf", "10:3", NULL), "sampled together");
    bad_buckets(matrix("instance=a le=1", "10:1 20:5", "instance=a le=1.0", "10:1 20:5", "instance=a le=+Inf",
                       "10:3 20:8", NULL),
                "two samples at one time");
    bad_buckets(matrix("instance=a code=x le=1", "10:1 20:5", "instance=a code=x le=+Inf", "10:3 20:8",
                       "instance=a code=y le=2", "10:1 20:5", "instance=a code=y le=+Inf", "10:3 20:8", NULL),
                "not those of the other series");
}

static void test_refused_series(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    refused(set, "m", COUNTER_TOTAL, matrix("job=x", "10:1", NULL), "no label `instance`");
    refused(set, "m", COUNTER_BUCKET, matrix("instance=a", "10:1", NULL), "no label `le`");
    refused(set, "m", COUNTER_BUCKET, matrix("instance=a le=high", "10:1", NULL), "neither a number nor +Inf");
    refused(set, "m", COUNTER_TOTAL, matrix("instance=a le=1", "10:1", NULL), "..._count");
    refused(set, "m", COUNTER_TOTAL, matrix("instance=a", "10:1.5", NULL), "1.5 at 1970-01-01T00:00:10Z");
    refused(set, "m", COUNTER_TOTAL, matrix("instance=a", "10:NaN", NULL), "is not a count");
    refused(set, "m", COUNTER_TOTAL, good_file("query_instant_vector", &any), "raw samples are needed");
    /* What was refused stays refused: half of the data is no data. */
    add(set, "m", COUNTER_TOTAL, matrix("instance=a", "10:1 20:2", NULL));
    add(set, "m", COUNTER_FAILED, matrix(NULL));
    no_interval(set, "m", 10, 20, ERROR_DATA, "raw samples are needed");
    counter_set_free(set);
}

static void test_failed_beyond_total(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "errors", COUNTER_TOTAL, matrix("instance=a", "10:1 20:2 30:9", NULL));
    add(set, "errors", COUNTER_FAILED, matrix("instance=a", "10:0 20:3 30:3", NULL));
    no_interval(set, "errors", 10, 20, ERROR_DATA, "3 failed of 1 requests");
    expect_counts(set, 10, 30, 8, 3);
    counter_set_free(set);
}

static void test_half_a_metric_is_no_metric(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "errors", COUNTER_TOTAL, matrix("instance=a", "10:1 20:2", NULL));
    no_interval(set, "errors", 10, 20, ERROR_SOFTWARE, "both total and failed");
    no_interval(set, "other", 10, 20, ERROR_SOFTWARE, "was not added");
    add(set, "errors", COUNTER_FAILED, matrix(NULL));
    no_interval(set, "errors", 20, 20, ERROR_SOFTWARE, "must end after");
    expect_counts(set, 10, 20, 1, 0);
    counter_set_free(set);
}

static void test_empty_set(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "errors", COUNTER_TOTAL, matrix(NULL));
    add(set, "errors", COUNTER_FAILED, matrix(NULL));
    add(set, "latency", COUNTER_BUCKET, matrix(NULL));
    struct counter_interval out = interval(set, "errors", 10, 20);
    assert_int_equal(out.count, 0);
    counter_interval_free(&out);
    out = interval(set, "latency", 10, 20);
    assert_int_equal(out.edge_count, 0);
    counter_interval_free(&out);
    counter_set_free(set);
}

static void test_sum_beyond_2_53(void **state)
{
    (void)state;
    struct counter_set *set = counter_set_new(INT64_MIN);
    add(set, "errors", COUNTER_TOTAL,
        matrix("instance=a code=1", "10:0 20:9007199254740992", "instance=a code=2", "10:0 20:1", NULL));
    add(set, "errors", COUNTER_FAILED, matrix(NULL));
    no_interval(set, "errors", 10, 20, ERROR_DATA, "beyond 2^53");
    counter_set_free(set);
}

/* Whatever happens in them, the increments of neighbours add up to those of their union. Fixed pseudo-random series
 * with restarts, gaps and late series. */
static void test_intervals_add_up(void **state)
{
    (void)state;
    uint32_t dice = 1;
    for (int round = 0; round < 200; round++) {
        struct strbuf total = {0}, failed = {0};
        unsigned n = 0, k = 0;
        for (int t = 10; t <= 200; t += 10) {
            dice = dice * 1664525u + 1013904223u;
            if ((dice >> 28) == 0)
                n = k = 0;
            n += (dice >> 8) % 50 + 5;
            k += (dice >> 16) % 3;
            if ((dice >> 24) % 7 == 0)
                continue;
            strbuf_printf(&total, "%s%d:%u", total.length ? " " : "", t, n);
            if (t > 60 || failed.length)
                strbuf_printf(&failed, "%s%d:%u", failed.length ? " " : "", t, k);
        }
        struct counter_set *set = counter_set_new(INT64_MIN);
        add(set, "errors", COUNTER_TOTAL, matrix("instance=a", total.text, NULL));
        add(set, "errors", COUNTER_FAILED, matrix("instance=a", failed.text, NULL));
        uint64_t requests = 0, failures = 0;
        for (int t = 0; t < 200; t += 25) {
            struct counter_interval part = interval(set, "errors", t, t + 25);
            requests += part.targets[0].requests;
            failures += part.targets[0].failed;
            counter_interval_free(&part);
        }
        expect_counts(set, 0, 200, requests, failures);
        counter_set_free(set);
        strbuf_free(&total);
        strbuf_free(&failed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_vector),
        cmocka_unit_test(test_real_matrix),
        cmocka_unit_test(test_real_other_types),
        cmocka_unit_test(test_real_empty),
        cmocka_unit_test(test_warnings_are_handed_on),
        cmocka_unit_test(test_real_bad_answers),
        cmocka_unit_test(test_bad_answer_cases),
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_one_line),
        cmocka_unit_test(test_plain_increments),
        cmocka_unit_test(test_real_reset),
        cmocka_unit_test(test_reset_of_one_is_a_reset_of_all),
        cmocka_unit_test(test_a_restart_that_no_series_shows),
        cmocka_unit_test(test_a_restart_that_a_bucket_shows),
        cmocka_unit_test(test_reset_while_a_series_was_away),
        cmocka_unit_test(test_first_error_counts),
        cmocka_unit_test(test_restart_under_new_labels_counts),
        cmocka_unit_test(test_other_scraper_is_no_first_appearance),
        cmocka_unit_test(test_since_cuts_all_alike),
        cmocka_unit_test(test_new_target_is_only_a_base),
        cmocka_unit_test(test_presence),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_carries),
        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_bucket_spelled_anew),
        cmocka_unit_test(test_bad_buckets),
        cmocka_unit_test(test_refused_series),
        cmocka_unit_test(test_failed_beyond_total),
        cmocka_unit_test(test_half_a_metric_is_no_metric),
        cmocka_unit_test(test_empty_set),
        cmocka_unit_test(test_sum_beyond_2_53),
        cmocka_unit_test(test_intervals_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
