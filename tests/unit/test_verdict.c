/*
 * The verdict is read by scripts, kept in the store and shown in reports: its fields stand in one order, its numbers
 * come back to the last bit, equal verdicts are equal bytes, and a broken one is refused with its place.
 */
#include "analyzer/model/verdict.h"
#include "base/memory.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *read_page(void)
{
    const char *root = getenv("HALDANE_SOURCE");
    if (!root)
        fail_msg("HALDANE_SOURCE is not set; it must name the root of the source tree");
    char *path = mem_printf("%s/docs/verdict.md", root);
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("%s cannot be read", path);
    char *text = mem_alloc(1 << 17, 1);
    size_t length = fread(text, 1, (1 << 17) - 1, file);
    assert_true(length < (1 << 17) - 1);
    fclose(file);
    free(path);
    return text;
}

/* The example that the page shows. */
static char *read_example(void)
{
    char *page = read_page(), *text = strstr(page, "```json\n");
    assert_non_null(text);
    text += strlen("```json\n");
    char *end = strstr(text, "\n```"), *example = mem_strndup(text, (size_t)(end - text));
    free(page);
    return example;
}

static struct verdict *must_read(const char *text)
{
    struct error err = {0};
    struct verdict *verdict = verdict_from_json(text, strlen(text), &err);
    if (!verdict)
        fail_msg("refused: %s", err.text);
    return verdict;
}

/* --- a verdict with everything --- */

enum { BOUNDS = 4 };
static const double bounds[BOUNDS] = {0.1 + 0.2, 0.1 * 3 * 3, 2.5, INFINITY};

static void fill_arm(struct metric_verdict *metric, enum track track, uint64_t requests)
{
    struct arm_summary *arm = &metric->arms[track];
    arm->present = true;
    arm->requests = requests;
    if (metric->type == METRIC_ERRORS) {
        arm->failed = requests / 7;
        arm->rate = (double)arm->failed / (double)requests;
        return;
    }
    arm->buckets = mem_alloc(BOUNDS, sizeof *arm->buckets);
    arm->buckets[1] = requests;
    arm->quantiles[0] = 0.1 * 3;
    arm->quantiles[1] = NAN;
}

/* What the judge leaves in a gauge: zeros where there is nothing to say, which JSON must not pass on. */
static void fill_gauge(struct metric_verdict *metric, const char *name, const char *classification)
{
    *metric = (struct metric_verdict){.name = mem_strdup(name),
                                      .type = METRIC_GAUGE,
                                      .status = METRIC_UNDECIDED,
                                      .effect = {"shift", "hodges-lehmann", -0.1 * 3, -1e300, 0.1 + 0.2, 0.95, NAN},
                                      .evidence = {0.1 + 0.2, -1e-17, 0, 1.301, 1.301},
                                      .abort_ratio = classification ? 0 : 1.25,
                                      .abort_absolute = classification ? 0 : 0.1 + 0.2,
                                      .classification = classification,
                                      .deviation = classification ? 0.1 * 3 : NAN,
                                      .reason = mem_strdup("shop canary is at 130,023,424")};
    metric->arms[TRACK_STABLE] = (struct arm_summary){.present = true, .samples = 12, .median = 0.1 + 0.2};
    metric->arms[TRACK_CANARY] = (struct arm_summary){.present = true, .samples = 0, .median = NAN};
}

static void add_guardrails(struct verdict *v)
{
    static const struct guardrail_verdict all[] = {
        {NULL, GUARDRAIL_RATE, GUARDRAIL_OK, 0.1 * 3, 0.05, 1000003, 7, -1e-17, 2, NULL},
        {NULL, GUARDRAIL_VALUE, GUARDRAIL_NO_DATA, NAN, -1e300, 0, 0, NAN, NAN, NULL},
        {NULL, GUARDRAIL_CRASH, GUARDRAIL_OK, 0.1 + 0.2, 0.1, 20, 6, NAN, NAN, NULL},
    };
    static const char *const names[] = {"error budget", "queue", "crash"};
    v->guardrail_count = sizeof all / sizeof *all;
    v->guardrails = mem_alloc(v->guardrail_count, sizeof *v->guardrails);
    for (size_t g = 0; g < v->guardrail_count; g++) {
        v->guardrails[g] = all[g];
        v->guardrails[g].name = mem_strdup(names[g]);
        v->guardrails[g].reason = g == 1 ? NULL : mem_printf("%s \"quoted\"", names[g]);
    }
}

static void fill_metric(struct metric_verdict *metric, const char *name, enum metric_type type)
{
    *metric = (struct metric_verdict){.name = mem_strdup(name),
                                      .type = type,
                                      .critical = type == METRIC_ERRORS,
                                      .status = METRIC_UNDECIDED,
                                      .budget = 1.0 / 3,
                                      .effect = {"ratio", "lr", 1.1, 0.1 + 0.7, INFINITY, 0.95, NAN},
                                      .evidence = {-1e-17, 0.1 + 0.2, -INFINITY, 1.602, 1.301},
                                      .abort_ratio = 1.1,
                                      .promote_ratio = 1.5,
                                      .promote_absolute = 0.001,
                                      .abort_slower = 0.05,
                                      .promote_slower = 0.25,
                                      .reason = mem_strdup("shop \"canary\" fails 3.1× as often\n")};
    if (type == METRIC_LATENCY) {
        metric->effect.kind = "slower";
        metric->effect.at_edge = bounds[0];
        metric->edges = mem_alloc(BOUNDS, sizeof *metric->edges);
        memcpy(metric->edges, bounds, sizeof bounds);
        metric->edge_count = BOUNDS;
        metric->quantiles[0] = 0.5;
        metric->quantiles[1] = 0.999;
        metric->quantile_count = 2;
    }
    fill_arm(metric, TRACK_STABLE, 1000003);
    if (type == METRIC_LATENCY)
        fill_arm(metric, TRACK_CANARY, (UINT64_C(1) << 53) - 1);
}

enum { METRICS = 4 };

static struct verdict *make_verdict(void)
{
    struct verdict *v = verdict_new();
    v->rollout = mem_strdup("shop-1");
    v->service = mem_strdup("shop");
    memset(v->policy_sha256, 'a', 64);
    v->look = 12345678901;
    v->at_ms = INT64_C(1772331300007);
    v->from_ms = INT64_C(1772331000000);
    v->step_index = 2;
    v->weight_bp = 2500;
    v->step_since_ms = INT64_C(1772331200000);
    v->decision = DECISION_HOLD;
    v->reason = mem_strdup("errors: not yet");
    v->score = 61.7;
    v->false_abort_limit = 0.05;
    v->false_abort_spent = 0.05 * (1.0 / 3);
    v->harm = 0.1 + 0.2;
    v->hold = -5e-324;
    v->harm_needed = log10(20);
    v->step_looks = 17;
    v->metrics = mem_alloc(METRICS, sizeof *v->metrics);
    v->metric_count = METRICS;
    fill_metric(&v->metrics[0], "errors", METRIC_ERRORS);
    fill_metric(&v->metrics[1], "p99 latency", METRIC_LATENCY);
    fill_gauge(&v->metrics[2], "memory", NULL);
    fill_gauge(&v->metrics[3], "cpu", "NodataFailMetric");
    add_guardrails(v);
    v->kayenta_score = 200.0 / 3;
    v->kayenta_pass = 75;
    v->kayenta_marginal = 50;
    v->traffic_expected = 0.25;
    v->traffic_observed = 1.0 / 3;
    v->traffic_balancer = 2.0 / 7;
    v->traffic_status = TRAFFIC_HIGH;
    verdict_warn(v, "%d looks were no evidence", 3);
    return v;
}

static void assert_same_number(double a, double b)
{
    if (!(isnan(a) && isnan(b)) && memcmp(&a, &b, sizeof a) != 0)
        fail_msg("%.17g came back as %.17g", a, b);
}

static void assert_same_metric(const struct metric_verdict *a, const struct metric_verdict *b)
{
    assert_string_equal(a->name, b->name);
    assert_true(a->type == b->type && a->critical == b->critical && a->status == b->status);
    assert_same_number(a->budget, b->budget);
    assert_int_equal(a->edge_count, b->edge_count);
    assert_true(a->edge_count == 0 || memcmp(a->edges, b->edges, a->edge_count * sizeof *a->edges) == 0);
    assert_int_equal(a->quantile_count, b->quantile_count);
    for (size_t q = 0; q < a->quantile_count; q++)
        assert_same_number(a->quantiles[q], b->quantiles[q]);
    for (int t = 0; t < TRACKS; t++) {
        const struct arm_summary *x = &a->arms[t], *y = &b->arms[t];
        assert_true(x->present == y->present && x->requests == y->requests && x->failed == y->failed);
        assert_true(x->samples == y->samples);
        if (x->present && a->type == METRIC_GAUGE)
            assert_same_number(x->median, y->median);
        if (x->present && a->type == METRIC_ERRORS)
            assert_same_number(x->rate, y->rate);
        for (size_t q = 0; x->present && q < a->quantile_count; q++)
            assert_same_number(x->quantiles[q], y->quantiles[q]);
        assert_true(!x->present || !x->buckets ||
                    memcmp(x->buckets, y->buckets, a->edge_count * sizeof *x->buckets) == 0);
    }
    assert_string_equal(a->effect.kind, b->effect.kind);
    assert_string_equal(a->effect.method, b->effect.method);
    assert_same_number(a->effect.estimate, b->effect.estimate);
    assert_same_number(a->effect.lower, b->effect.lower);
    assert_same_number(a->effect.upper, b->effect.upper);
    assert_same_number(a->effect.at_edge, b->effect.at_edge);
    bool harm = metric_bets_on_harm(a), safe = metric_proves_safety(a);
    assert_int_equal(harm, metric_bets_on_harm(b));
    assert_same_number(harm ? a->evidence.harm : NAN, b->evidence.harm);
    assert_same_number(harm ? a->evidence.hold : NAN, b->evidence.hold);
    assert_same_number(harm ? a->evidence.harm_needed : NAN, b->evidence.harm_needed);
    assert_same_number(safe ? a->evidence.safe_needed : NAN, b->evidence.safe_needed);
    if (harm && a->type != METRIC_LATENCY) {
        assert_same_number(a->abort_ratio, b->abort_ratio);
        assert_same_number(a->abort_absolute, b->abort_absolute);
    }
    assert_string_equal(a->classification ? a->classification : "", b->classification ? b->classification : "");
    assert_same_number(a->classification ? a->deviation : NAN, b->deviation);
    assert_string_equal(a->reason, b->reason);
}

static void assert_same_guardrail(const struct guardrail_verdict *a, const struct guardrail_verdict *b)
{
    assert_string_equal(a->name, b->name);
    assert_true(a->kind == b->kind && a->status == b->status);
    assert_true(a->requests == b->requests && a->failed == b->failed);
    assert_same_number(a->value, b->value);
    assert_same_number(a->limit, b->limit);
    assert_same_number(a->evidence, b->evidence);
    assert_same_number(a->evidence_needed, b->evidence_needed);
    assert_string_equal(a->reason ? a->reason : "", b->reason ? b->reason : "");
}

static void what_is_written_comes_back(void **state)
{
    (void)state;
    struct verdict *a = make_verdict();
    char *text = verdict_to_json(a);
    struct verdict *b = must_read(text);
    assert_string_equal(a->rollout, b->rollout);
    assert_string_equal(a->service, b->service);
    assert_string_equal(a->policy_sha256, b->policy_sha256);
    assert_string_equal(a->reason, b->reason);
    assert_true(a->look == b->look && a->at_ms == b->at_ms && a->from_ms == b->from_ms);
    assert_true(a->step_index == b->step_index && a->weight_bp == b->weight_bp && a->decision == b->decision);
    assert_true(a->step_since_ms == b->step_since_ms && a->step_looks == b->step_looks);
    assert_same_number(a->score, b->score);
    assert_same_number(a->false_abort_limit, b->false_abort_limit);
    assert_same_number(a->false_abort_spent, b->false_abort_spent);
    assert_same_number(a->harm, b->harm);
    assert_same_number(a->hold, b->hold);
    assert_same_number(a->harm_needed, b->harm_needed);
    assert_same_number(a->traffic_expected, b->traffic_expected);
    assert_same_number(a->traffic_observed, b->traffic_observed);
    assert_same_number(a->traffic_balancer, b->traffic_balancer);
    assert_int_equal(a->traffic_status, b->traffic_status);
    assert_int_equal(b->warning_count, 1);
    assert_string_equal(b->warnings[0], "3 looks were no evidence");
    assert_int_equal(b->metric_count, METRICS);
    for (size_t m = 0; m < METRICS; m++)
        assert_same_metric(&a->metrics[m], &b->metrics[m]);
    assert_int_equal(b->guardrail_count, 3);
    for (size_t g = 0; g < 3; g++)
        assert_same_guardrail(&a->guardrails[g], &b->guardrails[g]);
    assert_same_number(a->kayenta_score, b->kayenta_score);
    assert_same_number(a->kayenta_pass, b->kayenta_pass);
    assert_same_number(a->kayenta_marginal, b->kayenta_marginal);
    char *again = verdict_to_json(b);
    assert_string_equal(text, again);
    free(text);
    free(again);
    verdict_free(a);
    verdict_free(b);
}

/* A double has 17 digits; with fewer, a replay that is equal would look different. */
static void every_number_comes_back_to_its_last_bit(void **state)
{
    (void)state;
    struct verdict *verdict = make_verdict();
    uint64_t seed = 1;
    for (int i = 0; i < 20000; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        double number;
        memcpy(&number, &seed, sizeof number);
        number = i % 2 && isfinite(number) ? number : (double)(seed >> 40) / 1000;
        if (!isfinite(number))
            continue;
        verdict->harm = number;
        char *text = verdict_to_json(verdict);
        struct verdict *again = must_read(text);
        assert_same_number(again->harm, number);
        verdict_free(again);
        free(text);
    }
    verdict_free(verdict);
}

/* --- the form --- */

static void assert_keys(const cJSON *object, const char *const *keys)
{
    const cJSON *item = object ? object->child : NULL;
    for (; *keys; keys++, item = item->next) {
        if (!item)
            fail_msg("\"%s\" is missing", *keys);
        assert_string_equal(item->string, *keys);
    }
    if (item)
        fail_msg("\"%s\" is one too many", item->string);
}

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

#define KEYS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void assert_nulls(const cJSON *object, const char *const *keys)
{
    for (; *keys; keys++)
        if (!cJSON_IsNull(member(object, *keys)))
            fail_msg("\"%s\" is not null", *keys);
}

/* Nothing is proven about a gauge, and by Kayenta's method nothing is bet: no number may pretend that. */
static void assert_gauge_fields(const cJSON *paired, const cJSON *kayenta)
{
    assert_keys(paired, KEYS("name", "type", "critical", "status", "budget", "stable", "canary", "effect", "evidence",
                             "abort_above", "promote_below", "reason"));
    assert_keys(kayenta, KEYS("name", "type", "critical", "status", "budget", "stable", "canary", "effect", "evidence",
                              "abort_above", "promote_below", "reason", "classification", "deviation"));
    assert_keys(member(paired, "stable"), KEYS("n", "median"));
    assert_nulls(member(paired, "canary"), KEYS("median"));
    assert_keys(member(paired, "effect"), KEYS("kind", "method", "estimate", "lower", "upper", "confidence"));
    assert_keys(member(paired, "abort_above"), KEYS("ratio", "absolute"));
    assert_nulls(paired, KEYS("promote_below"));
    assert_nulls(member(paired, "evidence"), KEYS("safe", "safe_needed"));
    assert_nulls(kayenta, KEYS("abort_above", "promote_below"));
    assert_nulls(member(kayenta, "evidence"), KEYS("harm", "hold", "safe", "harm_needed", "safe_needed"));
}

static void assert_guardrail_fields(const cJSON *guardrails)
{
    const cJSON *guardrail;
    cJSON_ArrayForEach(guardrail, guardrails)
    {
        assert_keys(guardrail, KEYS("name", "kind", "status", "value", "limit", "requests", "failed", "evidence",
                                    "evidence_needed", "reason"));
    }
    assert_nulls(cJSON_GetArrayItem(guardrails, 1),
                 KEYS("value", "requests", "failed", "evidence", "evidence_needed", "reason"));
    assert_nulls(cJSON_GetArrayItem(guardrails, 2), KEYS("evidence", "evidence_needed"));
    assert_true(cJSON_IsNumber(member(cJSON_GetArrayItem(guardrails, 2), "requests")));
}

static void fields_stand_in_their_order(void **state)
{
    (void)state;
    struct verdict *verdict = make_verdict();
    char *text = verdict_to_json(verdict);
    assert_null(strchr(text, '\n'));
    cJSON *root = cJSON_Parse(text);
    assert_keys(root, KEYS("schema", "rollout", "service", "policy_sha256", "look", "at", "window", "step", "decision",
                           "reason", "score", "false_abort", "evidence", "metrics", "guardrails", "kayenta", "traffic",
                           "warnings"));
    assert_string_equal(member(root, "schema")->valuestring, "haldane.verdict/1");
    assert_string_equal(member(root, "at")->valuestring, "2026-03-01T02:15:00.007Z");
    assert_keys(member(root, "window"), KEYS("from", "to"));
    assert_keys(member(root, "step"), KEYS("index", "weight", "since", "looks"));
    assert_keys(member(root, "false_abort"), KEYS("limit", "spent"));
    assert_keys(member(root, "evidence"), KEYS("harm", "hold", "harm_needed"));
    assert_keys(member(root, "traffic"), KEYS("expected", "observed", "balancer", "status"));
    const cJSON *errors = cJSON_GetArrayItem(member(root, "metrics"), 0),
                *latency = cJSON_GetArrayItem(member(root, "metrics"), 1);
    assert_keys(errors, KEYS("name", "type", "critical", "status", "budget", "stable", "canary", "effect", "evidence",
                             "abort_above", "promote_below", "reason"));
    assert_keys(latency, KEYS("name", "type", "critical", "status", "budget", "le", "stable", "canary", "effect",
                              "evidence", "abort_above", "promote_below", "reason"));
    assert_keys(member(errors, "stable"), KEYS("requests", "failed", "rate"));
    assert_true(cJSON_IsNull(member(errors, "canary")));
    assert_keys(member(latency, "canary"), KEYS("requests", "quantiles", "buckets"));
    assert_keys(member(member(latency, "canary"), "quantiles"), KEYS("0.5", "0.999"));
    assert_keys(member(errors, "effect"), KEYS("kind", "method", "estimate", "lower", "upper", "confidence"));
    assert_keys(member(latency, "effect"),
                KEYS("kind", "method", "estimate", "lower", "upper", "confidence", "at_edge"));
    assert_keys(member(errors, "evidence"), KEYS("harm", "hold", "safe", "harm_needed", "safe_needed"));
    assert_keys(member(errors, "abort_above"), KEYS("ratio", "absolute"));
    assert_keys(member(errors, "promote_below"), KEYS("ratio", "absolute"));
    assert_keys(member(latency, "abort_above"), KEYS("slower"));
    assert_keys(member(latency, "promote_below"), KEYS("slower"));
    assert_gauge_fields(cJSON_GetArrayItem(member(root, "metrics"), 2), cJSON_GetArrayItem(member(root, "metrics"), 3));
    assert_guardrail_fields(member(root, "guardrails"));
    assert_keys(member(root, "kayenta"), KEYS("score", "pass", "marginal"));
    cJSON_Delete(root);
    free(text);
    verdict_free(verdict);
}

static void what_does_not_exist_is_null(void **state)
{
    (void)state;
    struct verdict *verdict = verdict_new();
    verdict->service = mem_strdup("shop");
    verdict->step_index = -1;
    verdict->score = NAN;
    verdict->harm = -INFINITY;
    char *text = verdict_to_json(verdict);
    cJSON *root = cJSON_Parse(text);
    static const char *const nulls[] = {"rollout", "at", "reason", "score"};
    for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++)
        assert_true(cJSON_IsNull(member(root, nulls[i])));
    assert_true(cJSON_IsNull(member(member(root, "window"), "from")));
    assert_true(cJSON_IsNull(member(member(root, "step"), "since")));
    assert_true(cJSON_IsNull(member(member(root, "evidence"), "harm")));
    assert_true(cJSON_IsNull(member(member(root, "traffic"), "expected")));
    assert_true(cJSON_IsNull(member(member(root, "traffic"), "balancer")));
    struct verdict *again = must_read(text);
    assert_null(again->rollout);
    assert_true(again->at_ms == 0 && again->step_index == -1 && isnan(again->score) && isnan(again->harm));
    cJSON_Delete(root);
    free(text);
    verdict_free(again);
    verdict_free(verdict);
}

/* A store holds verdicts of all versions: those from before there were guardrails have an empty list or none. */
static void a_verdict_of_an_older_version_is_read(void **state)
{
    (void)state;
    struct verdict *verdict = make_verdict();
    char *text = verdict_to_json(verdict);
    cJSON *root = cJSON_Parse(text);
    cJSON_DeleteItemFromObjectCaseSensitive(root, "kayenta");
    cJSON_DeleteItemFromObjectCaseSensitive(root, "guardrails");
    cJSON_DeleteItemFromArray(cJSON_GetObjectItemCaseSensitive(root, "metrics"), 3);
    cJSON_DeleteItemFromArray(cJSON_GetObjectItemCaseSensitive(root, "metrics"), 2);
    char *old = cJSON_PrintUnformatted(root);
    struct verdict *again = must_read(old);
    assert_true(again->guardrail_count == 0 && again->metric_count == 2 && isnan(again->kayenta_score));
    assert_null(again->metrics[0].classification);
    char *written = verdict_to_json(again);
    assert_non_null(strstr(written, "\"guardrails\":[],\"traffic\""));
    assert_null(strstr(written, "kayenta"));
    assert_null(strstr(written, "classification"));
    cJSON_free(old);
    cJSON_Delete(root);
    free(written);
    free(text);
    verdict_free(again);
    verdict_free(verdict);
}

/* An interval that has a lower end and no upper one is open; one that has neither is none. */
static void an_open_interval_stays_open(void **state)
{
    (void)state;
    struct verdict *verdict = make_verdict();
    verdict->metrics[1].effect.lower = verdict->metrics[1].effect.upper = NAN;
    char *text = verdict_to_json(verdict);
    struct verdict *again = must_read(text);
    assert_true(isinf(again->metrics[0].effect.upper));
    assert_true(isnan(again->metrics[1].effect.lower) && isnan(again->metrics[1].effect.upper));
    free(text);
    verdict_free(again);
    verdict_free(verdict);
}

/* --- the page --- */

static void the_page_shows_a_verdict_that_is_accepted(void **state)
{
    (void)state;
    char *example = read_example();
    struct verdict *verdict = must_read(example);
    char *written = verdict_to_json(verdict);
    cJSON *shown = cJSON_Parse(example), *got = cJSON_Parse(written);
    assert_true(cJSON_Compare(shown, got, true));
    assert_true(verdict->metric_count == 3 && verdict->guardrail_count == 3);
    cJSON_Delete(shown);
    cJSON_Delete(got);
    free(written);
    verdict_free(verdict);
    free(example);
}

static void check_explained(const char *page, const cJSON *object)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, object)
    {
        char code[80];
        snprintf(code, sizeof code, "`%s`", item->string ? item->string : "");
        if (item->string && !(item->string[0] >= '0' && item->string[0] <= '9') && !strstr(page, code))
            fail_msg("docs/verdict.md does not explain %s", code);
        check_explained(page, item);
    }
}

static void the_page_explains_every_field_and_word(void **state)
{
    (void)state;
    char *page = read_page(), *tables = strstr(page, "## The whole");
    assert_non_null(tables);
    struct verdict *verdict = make_verdict();
    char *text = verdict_to_json(verdict);
    cJSON *root = cJSON_Parse(text);
    check_explained(tables, root);
    static const char *const classes[] = {"Pass", "High", "Low", "Nodata", "NodataFailMetric", "Error", NULL};
    const char *const *const lists[] = {decision_names,
                                        metric_status_names,
                                        traffic_status_names,
                                        metric_type_names,
                                        guardrail_status_names,
                                        guardrail_kind_names,
                                        classes};
    for (size_t l = 0; l < sizeof lists / sizeof *lists; l++)
        for (const char *const *name = lists[l]; *name; name++) {
            char code[80];
            snprintf(code, sizeof code, "`%s`", *name);
            if (!strstr(tables, code))
                fail_msg("docs/verdict.md does not explain %s", code);
        }
    cJSON_Delete(root);
    free(text);
    verdict_free(verdict);
    free(page);
}

/* --- refusals --- */

/* The page's example with one member replaced; `json` NULL takes it out. */
static void assert_refused(const char *path, const char *json, const char *expected)
{
    char *example = read_example(), names[100];
    cJSON *root = cJSON_Parse(example), *at = root;
    snprintf(names, sizeof names, "%s", path);
    char *last = NULL;
    for (char *rest = NULL, *name = strtok_r(names, ".", &rest); name; name = strtok_r(NULL, ".", &rest)) {
        if (last)
            at = cJSON_IsArray(at) ? cJSON_GetArrayItem(at, atoi(last)) : cJSON_GetObjectItemCaseSensitive(at, last);
        assert_non_null(at);
        last = name;
    }
    if (cJSON_IsArray(at))
        cJSON_ReplaceItemInArray(at, atoi(last), cJSON_CreateRaw(json));
    else if (json)
        cJSON_ReplaceItemInObjectCaseSensitive(at, last, cJSON_CreateRaw(json));
    else
        cJSON_DeleteItemFromObjectCaseSensitive(at, last);
    char *text = cJSON_PrintUnformatted(root);
    struct error err = {0};
    struct verdict *verdict = verdict_from_json(text, strlen(text), &err);
    if (verdict)
        fail_msg("%s = %s was accepted", path, json ? json : "nothing");
    assert_int_equal(err.code, ERROR_DATA);
    assert_string_equal(err.text, expected);
    cJSON_free(text);
    cJSON_Delete(root);
    free(example);
}

static void a_broken_verdict_is_refused_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *path, *json, *text;
    } cases[] = {
        {"schema", NULL, "verdict: \"schema\" is missing; it must be a string"},
        {"schema", "\"haldane.evidence/1\"",
         "schema is \"haldane.evidence/1\", not \"haldane.verdict/1\"; give a verdict, as `haldane judge` writes it"},
        {"service", "null", "verdict.service: must be a string"},
        {"decision", "\"stay\"", "verdict.decision: \"stay\" is not known"},
        {"look", "-1", "verdict.look: must be a count, a whole number from 0 to 2^53 - 1"},
        {"step", NULL, "verdict: \"step\" is missing; it must be an object"},
        {"step.weight", "10001", "step: weight must be from 0 to 10000 and index from -1"},
        {"step.index", "-2", "step: weight must be from 0 to 10000 and index from -1"},
        {"traffic.status", "\"odd\"", "traffic.status: \"odd\" is not known"},
        {"metrics", "{}", "verdict.metrics: must be a list"},
        {"metrics.1", "5", "metrics[1]: must be an object"},
        {"metrics.0.name", NULL, "metrics[0]: \"name\" is missing; it must be a string"},
        {"metrics.0.type", "\"gauges\"", "metrics[0].type: \"gauges\" is not known"},
        {"metrics.0.status", "\"fine\"", "metrics[0].status: \"fine\" is not known"},
        {"metrics.0.evidence", NULL, "metrics[0]: \"evidence\" is missing; it must be an object"},
        {"metrics.0.abort_above", "1", "metrics[0].abort_above: must be an object"},
        {"metrics.0.promote_below", NULL, "metrics[0]: \"promote_below\" is missing; it must be an object"},
        {"metrics.0.stable", "[]", "metrics[0].stable: must be an object or null"},
        {"metrics.0.stable.requests", "1.5",
         "metrics[0].stable.requests: must be a count, a whole number from 0 to 2^53 - 1"},
        {"metrics.0.canary.failed", NULL, "metrics[0].canary: \"failed\" is missing; it must be a count"},
        {"metrics.1.le", NULL, "metrics[1]: \"le\" is missing; it must be a list"},
        {"metrics.1.le.1", "0.05", "metrics[1].le: bounds must rise"},
        {"metrics.1.le.4", "9", "metrics[1].le: must be numbers that end in \"+Inf\""},
        {"metrics.1.le.0", "1e999", "metrics[1].le: must be numbers that end in \"+Inf\""},
        {"metrics.1.stable.quantiles", "{\"2\":1}",
         "metrics[1].stable.quantiles: at most 8, named by shares between 0 and 1"},
        {"metrics.1.canary.quantiles", "{\"0.5\":1}", "metrics[1].canary.quantiles: must be those of the other track"},
        {"metrics.1.canary.quantiles", "{\"0.5\":1,\"0.9\":1}",
         "metrics[1].canary.quantiles: must be those of the other track"},
        {"metrics.1.stable.buckets", "[1]", "metrics[1].stable.buckets: must have one count per bound of \"le\""},
        {"metrics.1.stable.buckets.2", "-1",
         "metrics[1].stable.buckets[2]: must be a count, a whole number from 0 to 2^53 - 1"},
        {"metrics.0.abort_above", "null", "metrics[0].abort_above: must be an object"},
        {"metrics.2.stable.n", NULL, "metrics[2].stable: \"n\" is missing; it must be a count"},
        {"metrics.2.stable.n", "0.5", "metrics[2].stable.n: must be a count, a whole number from 0 to 2^53 - 1"},
        {"metrics.2.abort_above", NULL, "metrics[2]: \"abort_above\" is missing; it must be an object"},
        {"metrics.2.promote_below", "5", "metrics[2].promote_below: must be an object"},
        {"metrics.2.reason", "null, \"classification\": \"high\"", "metrics[2].classification: \"high\" is not known"},
        {"metrics.2.reason", "null, \"classification\": 1", "metrics[2].classification: must be a string"},
        {"guardrails", "{}", "verdict.guardrails: must be a list"},
        {"guardrails", "null", "verdict.guardrails: must be a list"},
        {"guardrails.0", "5", "guardrails[0]: must be an object"},
        {"guardrails.1.name", NULL, "guardrails[1]: \"name\" is missing; it must be a string"},
        {"guardrails.0.kind", "\"slo\"", "guardrails[0].kind: \"slo\" is not known"},
        {"guardrails.0.status", "\"harmed\"", "guardrails[0].status: \"harmed\" is not known"},
        {"guardrails.0.limit", "null", "guardrails[0].limit: must be a number"},
        {"guardrails.0.requests", "null", "guardrails[0].requests: must be a count"},
        {"guardrails.2.failed", "-1", "guardrails[2].failed: must be a count, a whole number from 0 to 2^53 - 1"},
        {"warnings", "[], \"kayenta\": 5", "verdict.kayenta: must be an object"},
        {"warnings", "[], \"kayenta\": {\"score\": 5, \"pass\": 75}",
         "kayenta: \"marginal\" is missing; it must be a number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i].path, cases[i].json, cases[i].text);
}

static void harm_is_told_from_time(void **state)
{
    (void)state;
    struct verdict *verdict = make_verdict();
    static const struct {
        enum decision decision;
        enum metric_status critical, other;
        bool harm;
    } cases[] = {{DECISION_ABORT, METRIC_HARMED, METRIC_SAFE, true},
                 {DECISION_ABORT, METRIC_EXPIRED, METRIC_HARMED, false},
                 {DECISION_ABORT, METRIC_NO_DATA, METRIC_UNDECIDED, false},
                 {DECISION_HOLD, METRIC_HARMED, METRIC_SAFE, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        verdict->decision = cases[i].decision;
        verdict->metrics[0].status = cases[i].critical;
        verdict->metrics[1].status = cases[i].other;
        assert_int_equal(verdict_is_harm(verdict), cases[i].harm);
    }
    verdict_free(verdict);
}

/* Limits of the policy that stand beside the statistics: an abort for them is no abort for time. */
static void a_limit_that_is_broken_is_harm(void **state)
{
    (void)state;
    struct verdict *verdict = make_verdict();
    verdict->decision = DECISION_ABORT;
    assert_false(verdict_is_harm(verdict));
    verdict->guardrails[1].status = GUARDRAIL_FIRING;
    assert_true(verdict_is_harm(verdict));
    verdict->decision = DECISION_HOLD;
    assert_false(verdict_is_harm(verdict));
    verdict->decision = DECISION_ABORT;
    verdict->guardrails[1].status = GUARDRAIL_OK;
    verdict->kayenta_score = verdict->kayenta_marginal;
    assert_false(verdict_is_harm(verdict));
    verdict->kayenta_score = 49.9;
    assert_true(verdict_is_harm(verdict));
    verdict->kayenta_score = NAN;
    assert_false(verdict_is_harm(verdict));
    verdict_free(verdict);
}

static void a_warning_is_given_once(void **state)
{
    (void)state;
    struct verdict *verdict = verdict_new();
    for (int i = 0; i < 30; i++)
        verdict_warn(verdict, "number %d", i % 3);
    assert_int_equal(verdict->warning_count, 3);
    verdict_free(verdict);
    verdict_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_comes_back),
        cmocka_unit_test(every_number_comes_back_to_its_last_bit),
        cmocka_unit_test(fields_stand_in_their_order),
        cmocka_unit_test(what_does_not_exist_is_null),
        cmocka_unit_test(a_verdict_of_an_older_version_is_read),
        cmocka_unit_test(an_open_interval_stays_open),
        cmocka_unit_test(the_page_shows_a_verdict_that_is_accepted),
        cmocka_unit_test(the_page_explains_every_field_and_word),
        cmocka_unit_test(a_broken_verdict_is_refused_with_its_place),
        cmocka_unit_test(harm_is_told_from_time),
        cmocka_unit_test(a_limit_that_is_broken_is_harm),
        cmocka_unit_test(a_warning_is_given_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
