/*
 * The record of a rollout: what is written comes back bit for bit, or a replay would give another verdict; what does
 * not count exactly is refused with the path of its place; looks are walked as they happened, whatever metric missed
 * what.
 *
 * The rules of reading are one folder each in tests/cases/evidence: a document and what must be said of it.
 */
#include "analyzer/model/evidence.h"
#include "base/memory.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- files --- */

static char *source_path(const char *below)
{
    const char *root = getenv("HALDANE_SOURCE");
    if (!root)
        fail_msg("HALDANE_SOURCE is not set; it must name the root of the source tree");
    return mem_printf("%s/%s", root, below);
}

static char *read_text(const char *below)
{
    char *path = source_path(below);
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("%s cannot be read", path);
    char *text = mem_alloc(1 << 20, 1);
    size_t length = fread(text, 1, (1 << 20) - 1, file);
    assert_true(length < (1 << 20) - 1);
    fclose(file);
    free(path);
    return text;
}

static struct evidence *must_read(const char *text)
{
    struct error err = {0};
    struct evidence *evidence = evidence_from_json(text, strlen(text), &err);
    if (!evidence)
        fail_msg("refused: %s", err.text);
    return evidence;
}

/* Written, read and written again: the same bytes. */
static void assert_comes_back(const struct evidence *evidence)
{
    char *first = evidence_to_json(evidence);
    struct evidence *again = must_read(first);
    char *second = evidence_to_json(again);
    assert_string_equal(first, second);
    evidence_free(again);
    free(first);
    free(second);
}

/* --- reading --- */

static void check_case(const char *name)
{
    char below[400];
    snprintf(below, sizeof below, "tests/cases/evidence/%s/evidence.json", name);
    char *text = read_text(below);
    snprintf(below, sizeof below, "tests/cases/evidence/%s/expect", name);
    char *expect = read_text(below);
    expect[strcspn(expect, "\n")] = '\0';
    struct error err = {0};
    struct evidence *evidence = evidence_from_json(text, strlen(text), &err);
    const char *said = evidence ? "accepted" : err.text;
    if (strcmp(said, expect) != 0)
        fail_msg("%s\n  expected: %s\n  said:     %s", name, expect, said);
    if (evidence)
        assert_comes_back(evidence);
    else
        assert_int_equal(err.code, ERROR_DATA);
    evidence_free(evidence);
    free(text);
    free(expect);
}

static void every_case_is_read_as_it_says(void **state)
{
    (void)state;
    char *path = source_path("tests/cases/evidence");
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort), checked = 0;
    assert_true(count > 0);
    for (int i = 0; i < count; i++) {
        if (entries[i]->d_name[0] != '.') {
            check_case(entries[i]->d_name);
            checked++;
        }
        free(entries[i]);
    }
    free(entries);
    free(path);
    assert_true(checked >= 100);
}

/* Any way to cut a document is an error that says so, never a shorter evidence. */
static void a_cut_document_is_refused(void **state)
{
    (void)state;
    char *text = read_text("tests/cases/evidence/contract_example/evidence.json");
    size_t whole = strlen(text);
    while (text[whole - 1] != '}')
        whole--;
    for (size_t length = 0; length < whole; length++) {
        struct error err = {0};
        assert_null(evidence_from_json(text, length, &err));
        assert_int_equal(err.code, ERROR_DATA);
        assert_true(strlen(err.text) > 0);
    }
    free(text);
}

static void the_page_shows_evidence_that_is_accepted(void **state)
{
    (void)state;
    char *page = read_text("docs/evidence.md");
    char *text = strstr(page, "```json\n");
    assert_non_null(text);
    text += strlen("```json\n");
    char *end = strstr(text, "\n```");
    assert_non_null(end);
    *end = '\0';
    struct evidence *evidence = must_read(text);
    assert_comes_back(evidence);
    /* Nothing in the example is a member that reading leaves out. */
    char *written = evidence_to_json(evidence);
    cJSON *shown = cJSON_Parse(text), *got = cJSON_Parse(written);
    assert_true(cJSON_Compare(shown, got, true));
    cJSON_Delete(shown);
    cJSON_Delete(got);
    free(written);
    evidence_free(evidence);
    free(page);
}

/* --- in memory --- */

static uint64_t random_below(uint64_t *seed, uint64_t limit)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*seed >> 11) % limit;
}

/* Of every size and sign, and now and then no number. */
static double random_value(uint64_t *seed)
{
    if (random_below(seed, 8) == 0)
        return NAN;
    double size = (double)random_below(seed, UINT64_C(1) << 53) * exp2((double)random_below(seed, 1900) - 1000);
    return random_below(seed, 2) ? size : -size;
}

static void add_counts(const struct evidence_metric *metric, struct evidence_interval *interval, enum track track,
                       const char *instance, uint64_t *seed)
{
    struct instance_counts *counts = evidence_add_instance(metric, interval, track, instance);
    if (metric->type == METRIC_GAUGE) {
        counts->value = random_value(seed);
        return;
    }
    counts->requests = metric->edge_count ? 0 : random_below(seed, UINT64_C(1) << random_below(seed, 53));
    counts->failed = metric->edge_count ? 0 : random_below(seed, counts->requests + 1);
    for (size_t e = 0; e < metric->edge_count; e++) {
        counts->buckets[e] = random_below(seed, UINT64_C(1) << random_below(seed, 45));
        counts->requests += counts->buckets[e];
    }
}

static void add_track(const struct evidence_metric *metric, struct evidence_interval *interval, enum track track,
                      uint64_t *seed)
{
    static const char *const names[] = {"10.0.0.9:80", "10.0.0.10:80", "a", "\"b\\\n", "ü", ""};
    uint64_t form = random_below(seed, 4);
    if (form == 0)
        return;
    if (form == 1) {
        add_counts(metric, interval, track, NULL, seed);
        return;
    }
    for (uint64_t i = 0, count = 1 + random_below(seed, 6); i < count; i++)
        add_counts(metric, interval, track, metric->type == METRIC_GAUGE ? NULL : names[i], seed);
}

static void add_intervals(struct evidence_metric *metric, uint64_t *seed)
{
    int64_t at_ms = INT64_C(1772331300000);
    for (uint64_t i = 0, count = random_below(seed, 6); i < count; i++) {
        int64_t from_ms = at_ms - (int64_t)random_below(seed, 2000);
        at_ms += 1 + (int64_t)random_below(seed, 100000);
        struct evidence_interval *interval = evidence_add_interval(metric, from_ms, at_ms);
        if (!metric->guardrail)
            add_track(metric, interval, TRACK_STABLE, seed);
        add_track(metric, interval, TRACK_CANARY, seed);
    }
}

/* Doubles that need all 17 digits, among them what a chain of multiplications makes of bucket bounds. */
static struct evidence *random_evidence(uint64_t *seed)
{
    struct evidence *evidence = evidence_new("shop", 1 + (int64_t)random_below(seed, 86400000));
    double edges[12];
    double edge = 0.1 + (double)random_below(seed, 1000) / 3e4;
    size_t edge_count = 2 + random_below(seed, 10);
    for (size_t e = 0; e + 1 < edge_count; e++, edge *= 1.1)
        edges[e] = edge;
    edges[edge_count - 1] = INFINITY;
    add_intervals(evidence_metric(evidence, "errors", METRIC_ERRORS, NULL, 0), seed);
    add_intervals(evidence_metric(evidence, "latency", METRIC_LATENCY, edges, edge_count), seed);
    add_intervals(evidence_metric(evidence, "memory", METRIC_GAUGE, NULL, 0), seed);
    /* The names of guardrails are their own. */
    add_intervals(evidence_guardrail(evidence, "errors", METRIC_GAUGE), seed);
    add_intervals(evidence_guardrail(evidence, "budget", METRIC_ERRORS), seed);
    add_intervals(evidence_metric(evidence, "other errors", METRIC_ERRORS, NULL, 0), seed);
    evidence_add_weight(evidence, 1 + (int64_t)random_below(seed, 1000000000), (uint32_t)random_below(seed, 10001));
    evidence_add_decision(evidence, 1000, "hold", "anna", "a \"reason\"\twith \xc3\xbc");
    return evidence;
}

static void assert_same_track(const struct evidence_metric *metric, const struct track_counts *a,
                              const struct track_counts *b)
{
    assert_int_equal(a->present, b->present);
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        const struct instance_counts *x = &a->instances[i], *y = &b->instances[i];
        assert_int_equal(x->instance == NULL, y->instance == NULL);
        if (x->instance)
            assert_string_equal(x->instance, y->instance);
        assert_true(x->requests == y->requests && x->failed == y->failed);
        assert_true(x->value == y->value || (isnan(x->value) && isnan(y->value)));
        if (metric->edge_count)
            assert_memory_equal(x->buckets, y->buckets, metric->edge_count * sizeof *x->buckets);
    }
}

static void assert_same_metric(const struct evidence_metric *a, const struct evidence_metric *b)
{
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->guardrail, b->guardrail);
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->edge_count, b->edge_count);
    if (a->edge_count)
        assert_memory_equal(a->edges, b->edges, a->edge_count * sizeof *a->edges);
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        assert_true(a->intervals[i].at_ms == b->intervals[i].at_ms);
        assert_true(a->intervals[i].from_ms == b->intervals[i].from_ms);
        for (int t = 0; t < TRACKS; t++)
            assert_same_track(a, &a->intervals[i].tracks[t], &b->intervals[i].tracks[t]);
    }
}

/* The document has metrics before guardrails; in each of the two the order is kept. */
static void assert_same_metrics(const struct evidence *a, const struct evidence *b)
{
    assert_int_equal(a->metric_count, b->metric_count);
    for (int guardrail = 0; guardrail < 2; guardrail++) {
        size_t n = 0;
        for (size_t m = 0; m < a->metric_count; m++) {
            if (a->metrics[m].guardrail != (bool)guardrail)
                continue;
            while (n < b->metric_count && b->metrics[n].guardrail != (bool)guardrail)
                n++;
            assert_true(n < b->metric_count);
            assert_same_metric(&a->metrics[m], &b->metrics[n++]);
        }
    }
}

static void assert_same(const struct evidence *a, const struct evidence *b)
{
    assert_string_equal(a->service, b->service);
    assert_true(a->interval_ms == b->interval_ms);
    assert_int_equal(a->weight_count, b->weight_count);
    for (size_t w = 0; w < a->weight_count; w++)
        assert_memory_equal(&a->weights[w], &b->weights[w], sizeof *a->weights);
    assert_same_metrics(a, b);
    assert_int_equal(a->decision_count, b->decision_count);
    for (size_t d = 0; d < a->decision_count; d++) {
        assert_true(a->decisions[d].at_ms == b->decisions[d].at_ms);
        assert_string_equal(a->decisions[d].action, b->decisions[d].action);
        assert_string_equal(a->decisions[d].by, b->decisions[d].by);
        assert_string_equal(a->decisions[d].reason, b->decisions[d].reason);
    }
}

static void what_is_written_comes_back(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < 500; i++) {
        struct evidence *evidence = random_evidence(&seed);
        char *text = evidence_to_json(evidence);
        struct evidence *again = must_read(text);
        assert_same(evidence, again);
        assert_comes_back(again);
        evidence_free(again);
        evidence_free(evidence);
        free(text);
    }
}

/* Go's exponential buckets have such a bound. Were it to come back as 0.3, the next look would have other buckets. */
static void a_bucket_bound_keeps_its_last_bit(void **state)
{
    (void)state;
    const double edges[] = {0.1 + 0.2, 0.1 * 3 * 3, 1e-300, INFINITY};
    const double sorted[] = {edges[2], edges[0], edges[1], edges[3]};
    struct evidence *evidence = evidence_new("shop", 15000);
    evidence_metric(evidence, "latency", METRIC_LATENCY, sorted, 4);
    char *text = evidence_to_json(evidence);
    struct evidence *again = must_read(text);
    assert_memory_equal(again->metrics[0].edges, sorted, sizeof sorted);
    free(text);
    evidence_free(again);
    evidence_free(evidence);
}

/* Look by look into the log and back is the same evidence. */
static void a_log_of_looks_is_the_evidence(void **state)
{
    (void)state;
    uint64_t seed = 3;
    for (int i = 0; i < 200; i++) {
        struct evidence *evidence = random_evidence(&seed), *log = evidence_new("shop", evidence->interval_ms);
        struct look look = {0};
        int64_t after_ms = INT64_MIN;
        while (evidence_next_look(evidence, &after_ms, &look)) {
            char *text = evidence_look_to_json(evidence, &look);
            struct error err = {0};
            if (!evidence_append_json(log, text, strlen(text), &err))
                fail_msg("%s in %s", err.text, text);
            free(text);
        }
        look_free(&look);
        for (size_t m = 0; m < evidence->metric_count; m++) {
            const struct evidence_metric *metric = &evidence->metrics[m];
            if (metric->count > 0)
                assert_same_metric(metric, metric->guardrail
                                               ? evidence_guardrail(log, metric->name, metric->type)
                                               : evidence_metric(log, metric->name, metric->type, NULL, 0));
        }
        evidence_free(log);
        evidence_free(evidence);
    }
}

static bool appends(struct evidence *evidence, const char *text, struct error *err)
{
    return evidence_append_json(evidence, text, strlen(text), err);
}

static void a_log_keeps_its_order_and_its_buckets(void **state)
{
    (void)state;
    struct evidence *log = evidence_new("shop", 15000);
    struct error err = {0};
    assert_true(appends(log,
                        "{\"metrics\":{\"l\":{\"type\":\"latency\",\"le\":[1,\"+Inf\"],\"intervals\":[{\"at\":30,"
                        "\"stable\":[1,2],\"canary\":null}]}}}",
                        &err));
    assert_false(appends(log,
                         "{\"metrics\":{\"l\":{\"type\":\"latency\",\"le\":[2,\"+Inf\"],\"intervals\":[{\"at\":45,"
                         "\"stable\":[1,2],\"canary\":null}]}}}",
                         &err));
    assert_string_equal(err.text, "metrics.l: type or bucket bounds changed; start a new rollout");
    assert_false(appends(log, "{\"metrics\":{\"l\":{\"type\":\"errors\",\"intervals\":[]}}}", &err));
    assert_false(appends(log,
                         "{\"metrics\":{\"l\":{\"type\":\"latency\",\"le\":[1,\"+Inf\"],\"intervals\":[{\"at\":30,"
                         "\"stable\":[1,2],\"canary\":null}]}}}",
                         &err));
    assert_non_null(strstr(err.text, "in the order"));
    assert_int_equal(log->metrics[0].count, 1);
    evidence_free(log);
}

/* What was stored before there were guardrails is read on; a guardrail of the same name as a metric is no metric. */
static void a_log_keeps_guardrails_apart(void **state)
{
    (void)state;
    struct evidence *log = evidence_new("shop", 15000);
    struct error err = {0};
    assert_true(appends(log, "{\"metrics\":{\"a\":{\"type\":\"gauge\",\"intervals\":[]}}}", &err));
    assert_true(appends(log,
                        "{\"metrics\":{},\"guardrails\":{\"a\":{\"type\":\"errors\",\"intervals\":[{\"at\":30,"
                        "\"canary\":{\"requests\":7,\"failed\":2}}]}}}",
                        &err));
    assert_false(appends(log, "{\"metrics\":{},\"guardrails\":{\"a\":{\"type\":\"gauge\",\"intervals\":[]}}}", &err));
    assert_string_equal(err.text, "guardrails.a: type or bucket bounds changed; start a new rollout");
    assert_int_equal(log->metric_count, 2);
    assert_ptr_equal(evidence_metric(log, "a", METRIC_GAUGE, NULL, 0), &log->metrics[0]);
    assert_ptr_equal(evidence_guardrail(log, "a", METRIC_ERRORS), &log->metrics[1]);
    assert_int_equal(log->metrics[1].intervals[0].tracks[TRACK_CANARY].instances[0].failed, 2);
    assert_false(log->metrics[1].intervals[0].tracks[TRACK_STABLE].present);
    evidence_free(log);
}

static void instances_are_sorted(void **state)
{
    (void)state;
    static const char *const orders[][3] = {{"a", "b", "c"}, {"c", "b", "a"}, {"b", "c", "a"}};
    for (size_t i = 0; i < 3; i++) {
        struct evidence *evidence = evidence_new("shop", 15000);
        struct evidence_metric *metric = evidence_metric(evidence, "errors", METRIC_ERRORS, NULL, 0);
        struct evidence_interval *interval = evidence_add_interval(metric, 0, 15000);
        for (size_t n = 0; n < 3; n++)
            evidence_add_instance(metric, interval, TRACK_STABLE, orders[i][n])->requests = (uint64_t)orders[i][n][0];
        for (size_t n = 0; n < 3; n++) {
            assert_string_equal(interval->tracks[TRACK_STABLE].instances[n].instance, orders[0][n]);
            assert_int_equal(interval->tracks[TRACK_STABLE].instances[n].requests, orders[0][n][0]);
        }
        assert_false(interval->tracks[TRACK_CANARY].present);
        evidence_free(evidence);
    }
}

/* --- walking --- */

static void add_interval(struct evidence *evidence, const char *name, int64_t from_ms, int64_t at_ms, uint64_t requests)
{
    struct evidence_metric *metric = evidence_metric(evidence, name, METRIC_ERRORS, NULL, 0);
    struct evidence_interval *interval = evidence_add_interval(metric, from_ms, at_ms);
    evidence_add_instance(metric, interval, TRACK_STABLE, "s")->requests = requests;
    evidence_add_instance(metric, interval, TRACK_CANARY, "c")->requests = requests / 2;
}

/* Metrics miss looks independently of each other; every interval is seen once, in the order of time. */
static void looks_are_walked_in_the_order_of_time(void **state)
{
    (void)state;
    struct evidence *evidence = evidence_new("shop", 15000);
    evidence_metric(evidence, "empty", METRIC_ERRORS, NULL, 0);
    add_interval(evidence, "a", 0, 15000, 1);
    add_interval(evidence, "a", 30000, 45000, 3);
    add_interval(evidence, "b", 0, 30000, 2);
    add_interval(evidence, "b", 29000, 45000, 3);
    add_interval(evidence, "b", 45000, 60000, 4);
    static const struct {
        int64_t from_ms, at_ms;
        bool a, b;
    } expected[] = {
        {0, 15000, true, false}, {0, 30000, false, true}, {29000, 45000, true, true}, {45000, 60000, false, true}};
    struct look look = {0};
    int64_t after_ms = INT64_MIN;
    for (size_t i = 0; i < 4; i++) {
        assert_true(evidence_next_look(evidence, &after_ms, &look));
        assert_true(look.from_ms == expected[i].from_ms && look.at_ms == expected[i].at_ms);
        assert_true(after_ms == look.at_ms);
        assert_null(look.intervals[0]);
        assert_int_equal(look.intervals[1] != NULL, expected[i].a);
        assert_int_equal(look.intervals[2] != NULL, expected[i].b);
    }
    assert_false(evidence_next_look(evidence, &after_ms, &look));
    /* What is appended later is met by the next call, as a live rollout does it. */
    add_interval(evidence, "a", 60000, 75000, 5);
    assert_true(evidence_next_look(evidence, &after_ms, &look));
    assert_true(look.at_ms == 75000);
    look_free(&look);
    evidence_free(evidence);
}

static void weights_hold_from_when_they_were_proven(void **state)
{
    (void)state;
    struct evidence *evidence = evidence_new("shop", 15000);
    for (int64_t at_ms = 15000; at_ms <= 90000; at_ms += 15000)
        add_interval(evidence, "a", at_ms - 15000, at_ms, 1);
    evidence_add_weight(evidence, 30000, 500);
    evidence_add_weight(evidence, 50000, 2500);
    evidence_add_weight(evidence, 55000, 5000);
    static const struct {
        uint32_t weight_bp;
        int64_t from_ms;
    } expected[] = {{0, INT64_MIN}, {0, INT64_MIN}, {500, 30000}, {5000, 55000}, {5000, 55000}, {5000, 55000}};
    struct look look = {0};
    int64_t after_ms = INT64_MIN;
    for (size_t i = 0; i < 6; i++) {
        assert_true(evidence_next_look(evidence, &after_ms, &look));
        assert_int_equal(look.weight_bp, expected[i].weight_bp);
        assert_true(look.weight_from_ms == expected[i].from_ms);
    }
    look_free(&look);
    evidence_free(evidence);
}

static void no_evidence_has_no_look(void **state)
{
    (void)state;
    struct evidence *evidence = evidence_new("shop", 15000);
    struct look look = {0};
    int64_t after_ms = INT64_MIN;
    assert_false(evidence_next_look(evidence, &after_ms, &look));
    look_free(&look);
    evidence_free(evidence);
    evidence_free(NULL);
}

/* --- longer looks --- */

static void longer_looks_add_up(void **state)
{
    (void)state;
    struct evidence *evidence = evidence_new("shop", 15000);
    for (int64_t i = 1; i <= 8; i++)
        add_interval(evidence, "a", (i - 1) * 15000 - 500, i * 15000, (uint64_t)(100 * i));
    evidence_add_weight(evidence, 5000, 500);
    evidence_add_decision(evidence, 6000, "hold", "anna", "lunch");
    struct error err = {0};
    struct evidence *coarse = evidence_coarsen(evidence, 60000, &err);
    assert_non_null(coarse);
    assert_true(coarse->interval_ms == 60000);
    const struct evidence_metric *metric = &coarse->metrics[0];
    assert_int_equal(metric->count, 2);
    assert_true(metric->intervals[0].from_ms == -500 && metric->intervals[0].at_ms == 60000);
    assert_true(metric->intervals[1].from_ms == 59500 && metric->intervals[1].at_ms == 120000);
    assert_int_equal(metric->intervals[0].tracks[TRACK_STABLE].instances[0].requests, 1000);
    assert_int_equal(metric->intervals[1].tracks[TRACK_STABLE].instances[0].requests, 2600);
    assert_int_equal(metric->intervals[1].tracks[TRACK_CANARY].instances[0].requests, 1300);
    assert_int_equal(coarse->weight_count, 1);
    assert_int_equal(coarse->decision_count, 1);
    assert_string_equal(coarse->decisions[0].by, "anna");
    evidence_free(coarse);
    coarse = evidence_coarsen(evidence, 15000, &err);
    assert_same(evidence, coarse);
    evidence_free(coarse);
    evidence_free(evidence);
}

/* In a longer look as in a short one, an arm of which a part is missing would be compared with a whole one. */
static void a_longer_look_with_a_hole_has_no_such_track(void **state)
{
    (void)state;
    struct evidence *evidence = evidence_new("shop", 15000);
    struct evidence_metric *metric = evidence_metric(evidence, "a", METRIC_ERRORS, NULL, 0);
    for (int64_t i = 1; i <= 8; i++) {
        struct evidence_interval *interval = evidence_add_interval(metric, (i - 1) * 15000, i * 15000);
        evidence_add_instance(metric, interval, TRACK_STABLE, i == 7 ? "new" : "s")->requests = 10;
        if (i != 2)
            evidence_add_instance(metric, interval, TRACK_CANARY, "c")->requests = 5;
    }
    struct error err = {0};
    struct evidence *coarse = evidence_coarsen(evidence, 60000, &err);
    const struct evidence_interval *intervals = coarse->metrics[0].intervals;
    assert_true(intervals[0].tracks[TRACK_STABLE].present);
    assert_int_equal(intervals[0].tracks[TRACK_STABLE].instances[0].requests, 40);
    assert_false(intervals[0].tracks[TRACK_CANARY].present);
    assert_false(intervals[1].tracks[TRACK_STABLE].present);
    assert_true(intervals[1].tracks[TRACK_CANARY].present);
    evidence_free(coarse);
    evidence_free(evidence);
}

static void add_values(struct evidence_metric *metric, int64_t i, const double *values, size_t count)
{
    struct evidence_interval *interval = evidence_add_interval(metric, (i - 1) * 15000, i * 15000);
    for (size_t n = 0; n < count; n++)
        evidence_add_instance(metric, interval, TRACK_CANARY, NULL)->value = values[n];
}

/* A level is not a count: a look of a minute has the level of that minute, not four times it. */
static void longer_looks_average_gauges(void **state)
{
    (void)state;
    struct evidence *evidence = evidence_new("shop", 15000);
    struct evidence_metric *metric = evidence_metric(evidence, "memory", METRIC_GAUGE, NULL, 0);
    static const double values[][2] = {{1, NAN},     {NAN, NAN},   {2, NAN},     {6, NAN}, /* one is never a number */
                                       {5, 1},       {5, 1},       {5, 1},       {5, 1},   /* one goes on the way */
                                       {5, 1},       {5, 1},       {5, 1},       {5, 1},   /* none in between */
                                       {1e308, 0.1}, {1e308, 0.1}, {1e308, 0.1}, {-1e308, 0.1}};
    for (int64_t i = 1; i <= 16; i++)
        add_values(metric, i, values[i - 1], i == 7 ? 1 : i == 10 ? 0 : 2);
    struct error err = {0};
    struct evidence *coarse = evidence_coarsen(evidence, 60000, &err);
    assert_int_equal(coarse->metrics[0].type, METRIC_GAUGE);
    const struct evidence_interval *intervals = coarse->metrics[0].intervals;
    assert_int_equal(coarse->metrics[0].count, 4);
    assert_int_equal(intervals[0].tracks[TRACK_CANARY].count, 2);
    assert_true(intervals[0].tracks[TRACK_CANARY].instances[0].value == 3);
    assert_true(isnan(intervals[0].tracks[TRACK_CANARY].instances[1].value));
    assert_false(intervals[0].tracks[TRACK_STABLE].present);
    assert_false(intervals[1].tracks[TRACK_CANARY].present);
    assert_false(intervals[2].tracks[TRACK_CANARY].present);
    double mean = intervals[3].tracks[TRACK_CANARY].instances[0].value;
    assert_true(fabs(mean - 5e307) < 1e293);
    assert_true(intervals[3].tracks[TRACK_CANARY].instances[1].value == 0.1);
    evidence_free(coarse);
    evidence_free(evidence);
}

static void longer_looks_keep_guardrails(void **state)
{
    (void)state;
    struct evidence *evidence = evidence_new("shop", 15000);
    add_interval(evidence, "errors", 0, 15000, 8);
    struct evidence_metric *rate = evidence_guardrail(evidence, "errors", METRIC_ERRORS);
    for (int64_t i = 1; i <= 4; i++) {
        struct evidence_interval *interval = evidence_add_interval(rate, (i - 1) * 15000, i * 15000);
        struct instance_counts *counts = evidence_add_instance(rate, interval, TRACK_CANARY, "c");
        counts->requests = 100;
        counts->failed = (uint64_t)i;
    }
    struct error err = {0};
    struct evidence *coarse = evidence_coarsen(evidence, 60000, &err);
    assert_int_equal(coarse->metric_count, 2);
    assert_false(coarse->metrics[0].guardrail);
    assert_true(coarse->metrics[1].guardrail);
    const struct track_counts *canary = &coarse->metrics[1].intervals[0].tracks[TRACK_CANARY];
    assert_int_equal(canary->instances[0].requests, 400);
    assert_int_equal(canary->instances[0].failed, 10);
    evidence_free(coarse);
    evidence_free(evidence);
}

static void looks_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct evidence *evidence = evidence_new("shop", 15000);
    static const int64_t wrong[] = {1, 14999, 20000, 15001, 0, -15000};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct error err = {0};
        assert_null(evidence_coarsen(evidence, wrong[i], &err));
        assert_int_equal(err.code, ERROR_USAGE);
        assert_non_null(strstr(err.text, "multiple"));
    }
    evidence_free(evidence);
}

/* --- the balancer's counts --- */

/* Every field another number, the largest among them. */
static struct balancer_counters some_counters(int64_t at_ms)
{
    struct balancer_counters counters = {.at_ms = at_ms, .generation = UINT64_MAX - 1};
    for (int t = 0; t < TRACKS; t++)
        counters.arms[t] = (struct balancer_arm){
            .total = UINT64_MAX - (uint64_t)t,
            .failed = (UINT64_C(1) << 53) + 1,
            .connection_errors = (UINT64_C(1) << 53) - 1,
            .retries = 4,
            .redispatches = 5,
            .health_changes = 6,
            .in_flight = 7,
            .up = UINT32_MAX - 1,
            .servers = UINT32_MAX,
        };
    return counters;
}

static void assert_same_counters(const struct balancer_counters *a, const struct balancer_counters *b)
{
    assert_true(a->at_ms == b->at_ms && a->generation == b->generation);
    for (int t = 0; t < TRACKS; t++)
        assert_memory_equal(&a->arms[t], &b->arms[t], sizeof a->arms[t]);
}

static void the_balancers_counts_come_back_to_the_last_digit(void **state)
{
    (void)state;
    struct evidence *evidence = evidence_new("shop", 15000), *log = evidence_new("shop", 15000);
    for (int64_t i = 1; i <= 3; i++) {
        struct balancer_counters counters = some_counters(INT64_C(1772331315250) + i);
        struct error err = {0};
        assert_true(evidence_add_balancer(evidence, &counters));
        char *line = evidence_balancer_to_json(&counters);
        assert_null(strchr(line, '\n'));
        assert_true(evidence_append_balancer_json(log, line, strlen(line), &err));
        free(line);
    }
    char *whole = evidence_to_json(evidence), *logged = evidence_to_json(log);
    assert_string_equal(whole, logged);
    struct evidence *again = must_read(whole);
    assert_int_equal(again->balancer_count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_same_counters(&again->balancer[i], &evidence->balancer[i]);
    free(whole);
    free(logged);
    evidence_free(again);
    evidence_free(evidence);
    evidence_free(log);
}

/* Asked, and no answer: kept between the samples that were answered, in the document and in the log. */
static void a_balancer_that_did_not_answer_is_kept(void **state)
{
    (void)state;
    struct evidence *evidence = evidence_new("shop", 15000), *log = evidence_new("shop", 15000);
    struct balancer_counters samples[] = {some_counters(5000), {.at_ms = 20000}, some_counters(35000)};
    struct error err = {0};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(balancer_answered(&samples[i]), i != 1);
        assert_true(evidence_add_balancer(evidence, &samples[i]));
        char *line = evidence_balancer_to_json(&samples[i]);
        assert_true(evidence_append_balancer_json(log, line, strlen(line), &err));
        free(line);
    }
    assert_comes_back(evidence);
    assert_int_equal(log->balancer_count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_same_counters(&log->balancer[i], &samples[i]);
    struct evidence *coarse = evidence_coarsen(evidence, 60000, &err);
    assert_int_equal(coarse->balancer_count, 3);
    evidence_free(coarse);
    evidence_free(evidence);
    evidence_free(log);
}

/* A clock that goes back must not make a record that cannot be read any more. */
static void a_sample_of_an_earlier_time_is_left_out(void **state)
{
    (void)state;
    struct evidence *evidence = evidence_new("shop", 15000);
    struct balancer_counters late = some_counters(5000), same = some_counters(5000), early = some_counters(4999);
    struct error err = {0};
    assert_true(evidence_add_balancer(evidence, &late));
    assert_false(evidence_add_balancer(evidence, &same));
    char *line = evidence_balancer_to_json(&early);
    assert_true(evidence_append_balancer_json(evidence, line, strlen(line), &err));
    assert_int_equal(evidence->balancer_count, 1);
    assert_comes_back(evidence);
    assert_false(evidence_append_balancer_json(evidence, line, strlen(line) - 1, &err));
    assert_int_equal(err.code, ERROR_DATA);
    assert_false(evidence_append_balancer_json(evidence, "{\"at\":7}", 8, &err));
    assert_string_equal(err.text, "balancer: \"generation\" is missing; it must be a count");
    free(line);
    evidence_free(evidence);
}

static void longer_looks_keep_the_balancers_counts(void **state)
{
    (void)state;
    struct evidence *evidence = evidence_new("shop", 15000);
    struct balancer_counters counters = some_counters(20000);
    struct error err = {0};
    evidence_add_balancer(evidence, &counters);
    struct evidence *coarse = evidence_coarsen(evidence, 60000, &err);
    assert_non_null(coarse);
    assert_int_equal(coarse->balancer_count, 1);
    assert_same_counters(&coarse->balancer[0], &counters);
    evidence_free(coarse);
    evidence_free(evidence);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_is_read_as_it_says),
        cmocka_unit_test(a_cut_document_is_refused),
        cmocka_unit_test(the_page_shows_evidence_that_is_accepted),
        cmocka_unit_test(what_is_written_comes_back),
        cmocka_unit_test(a_bucket_bound_keeps_its_last_bit),
        cmocka_unit_test(a_log_of_looks_is_the_evidence),
        cmocka_unit_test(a_log_keeps_its_order_and_its_buckets),
        cmocka_unit_test(a_log_keeps_guardrails_apart),
        cmocka_unit_test(instances_are_sorted),
        cmocka_unit_test(looks_are_walked_in_the_order_of_time),
        cmocka_unit_test(weights_hold_from_when_they_were_proven),
        cmocka_unit_test(no_evidence_has_no_look),
        cmocka_unit_test(longer_looks_add_up),
        cmocka_unit_test(a_longer_look_with_a_hole_has_no_such_track),
        cmocka_unit_test(longer_looks_average_gauges),
        cmocka_unit_test(longer_looks_keep_guardrails),
        cmocka_unit_test(looks_that_do_not_fit_are_refused),
        cmocka_unit_test(the_balancers_counts_come_back_to_the_last_digit),
        cmocka_unit_test(a_balancer_that_did_not_answer_is_kept),
        cmocka_unit_test(a_sample_of_an_earlier_time_is_left_out),
        cmocka_unit_test(longer_looks_keep_the_balancers_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
