/*
 * haldane.verdict/1. Written field by field in a fixed order, numbers with the fewest digits that read back as the same
 * double, so that equal verdicts are equal bytes.
 */
#include "analyzer/model/verdict.h"

#include "analyzer/model/json.h"
#include "base/duration.h"
#include "base/memory.h"
#include "stats/latency.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const decision_names[] = {"promote", "hold", "abort", NULL};
const char *const metric_status_names[] = {"harmed", "safe", "undecided", "no_data", "expired", "ignored", NULL};
const char *const traffic_status_names[] = {"unknown", "ok", "low", "high", NULL};
const char *const guardrail_kind_names[] = {"rate", "value", "crash", NULL};
const char *const guardrail_status_names[] = {"ok", "firing", "no_data", NULL};
const char *const metric_type_names[] = {"errors", "latency", "gauge", NULL};
const char *const track_names[] = {"stable", "canary", NULL};
static const char *const effect_kinds[] = {"ratio", "slower", "shift", NULL};
static const char *const effect_methods[] = {"lr", "flip", "hodges-lehmann", NULL};
static const char *const classifications[] = {"Pass", "High", "Low", "Nodata", "NodataFailMetric", "Error", NULL};

static const int64_t year_10000_ms = INT64_C(253402300800000); /* RFC 3339 has four digits for a year */
static const char schema[] = "haldane.verdict/1";

struct verdict *verdict_new(void)
{
    struct verdict *verdict = mem_alloc(1, sizeof *verdict);
    verdict->traffic_expected = NAN;
    verdict->traffic_observed = NAN;
    verdict->traffic_balancer = NAN;
    verdict->kayenta_score = verdict->kayenta_pass = verdict->kayenta_marginal = NAN;
    return verdict;
}

void verdict_free(struct verdict *verdict)
{
    if (!verdict)
        return;
    for (size_t m = 0; m < verdict->metric_count; m++) {
        struct metric_verdict *metric = &verdict->metrics[m];
        for (int t = 0; t < TRACKS; t++)
            free(metric->arms[t].buckets);
        free(metric->name);
        free(metric->edges);
        free(metric->reason);
    }
    for (size_t g = 0; g < verdict->guardrail_count; g++) {
        free(verdict->guardrails[g].name);
        free(verdict->guardrails[g].reason);
    }
    for (size_t w = 0; w < verdict->warning_count; w++)
        free(verdict->warnings[w]);
    free(verdict->metrics);
    free(verdict->guardrails);
    free(verdict->warnings);
    free(verdict->rollout);
    free(verdict->service);
    free(verdict->reason);
    free(verdict);
}

void verdict_warn(struct verdict *verdict, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char text[512];
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (size_t w = 0; w < verdict->warning_count; w++)
        if (strcmp(verdict->warnings[w], text) == 0)
            return;
    verdict->warnings =
        mem_grow(verdict->warnings, verdict->warning_count, &verdict->warning_room, sizeof *verdict->warnings);
    verdict->warnings[verdict->warning_count++] = mem_strdup(text);
}

bool verdict_is_harm(const struct verdict *verdict)
{
    if (verdict->decision != DECISION_ABORT)
        return false;
    for (size_t m = 0; m < verdict->metric_count; m++)
        if (verdict->metrics[m].critical && verdict->metrics[m].status == METRIC_HARMED)
            return true;
    for (size_t g = 0; g < verdict->guardrail_count; g++)
        if (verdict->guardrails[g].status == GUARDRAIL_FIRING)
            return true;
    return verdict->kayenta_score < verdict->kayenta_marginal;
}

bool metric_bets_on_harm(const struct metric_verdict *metric)
{
    return metric->type != METRIC_GAUGE || metric->abort_ratio >= 1;
}

bool metric_proves_safety(const struct metric_verdict *metric)
{
    return metric->type != METRIC_GAUGE;
}

/* --- writing --- */

static void add_string(cJSON *object, const char *name, const char *text)
{
    if (text)
        cJSON_AddStringToObject(object, name, text);
    else
        cJSON_AddNullToObject(object, name);
}

static void add_time(cJSON *object, const char *name, int64_t ms)
{
    char text[TIME_TEXT];
    add_string(object, name, ms > 0 ? time_format(ms, text) : NULL);
}

static cJSON *arm_json(const struct metric_verdict *metric, const struct arm_summary *arm)
{
    if (!arm->present)
        return cJSON_CreateNull();
    cJSON *object = cJSON_CreateObject();
    if (metric->type == METRIC_GAUGE) {
        json_add_number(object, "n", (double)arm->samples);
        json_add_number(object, "median", arm->median);
        return object;
    }
    json_add_number(object, "requests", (double)arm->requests);
    if (metric->type == METRIC_ERRORS) {
        json_add_number(object, "failed", (double)arm->failed);
        json_add_number(object, "rate", arm->rate);
        return object;
    }
    cJSON *quantiles = cJSON_AddObjectToObject(object, "quantiles");
    for (size_t q = 0; q < metric->quantile_count; q++) {
        char name[32];
        snprintf(name, sizeof name, "%.10g", metric->quantiles[q]);
        json_add_number(quantiles, name, arm->quantiles[q]);
    }
    cJSON *buckets = cJSON_AddArrayToObject(object, "buckets");
    for (size_t e = 0; e < metric->edge_count; e++)
        cJSON_AddItemToArray(buckets, json_new_number((double)arm->buckets[e]));
    return object;
}

static cJSON *margin_json(double ratio, double absolute)
{
    cJSON *object = cJSON_CreateObject();
    json_add_number(object, "ratio", ratio);
    json_add_number(object, "absolute", absolute);
    return object;
}

static cJSON *slower_json(double slower)
{
    cJSON *object = cJSON_CreateObject();
    json_add_number(object, "slower", slower);
    return object;
}

static cJSON *abort_json(const struct metric_verdict *metric)
{
    if (metric->type == METRIC_LATENCY)
        return slower_json(metric->abort_slower);
    if (!metric_bets_on_harm(metric))
        return cJSON_CreateNull();
    return margin_json(metric->abort_ratio, metric->abort_absolute);
}

static cJSON *promote_json(const struct metric_verdict *metric)
{
    switch (metric->type) {
    case METRIC_ERRORS:
        return margin_json(metric->promote_ratio, metric->promote_absolute);
    case METRIC_LATENCY:
        return slower_json(metric->promote_slower);
    case METRIC_GAUGE:
        break;
    }
    return cJSON_CreateNull();
}

static cJSON *effect_json(const struct effect *effect)
{
    cJSON *object = cJSON_CreateObject();
    add_string(object, "kind", effect->kind);
    add_string(object, "method", effect->method);
    json_add_number(object, "estimate", effect->estimate);
    json_add_number(object, "lower", effect->lower);
    json_add_number(object, "upper", effect->upper);
    json_add_number(object, "confidence", effect->confidence);
    if (isfinite(effect->at_edge))
        json_add_number(object, "at_edge", effect->at_edge);
    return object;
}

static cJSON *evidence_json(const struct metric_verdict *metric)
{
    const struct evidence_values *values = &metric->evidence;
    bool harm = metric_bets_on_harm(metric), safe = metric_proves_safety(metric);
    cJSON *object = cJSON_CreateObject();
    json_add_number(object, "harm", harm ? values->harm : NAN);
    json_add_number(object, "hold", harm ? values->hold : NAN);
    json_add_number(object, "safe", safe ? values->safe : NAN);
    json_add_number(object, "harm_needed", harm ? values->harm_needed : NAN);
    json_add_number(object, "safe_needed", safe ? values->safe_needed : NAN);
    return object;
}

static cJSON *metric_json(const struct metric_verdict *metric)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "name", metric->name);
    cJSON_AddStringToObject(object, "type", metric_type_names[metric->type]);
    cJSON_AddBoolToObject(object, "critical", metric->critical);
    cJSON_AddStringToObject(object, "status", metric_status_names[metric->status]);
    json_add_number(object, "budget", metric->budget);
    if (metric->type == METRIC_LATENCY) {
        cJSON *le = cJSON_AddArrayToObject(object, "le");
        for (size_t e = 0; e < metric->edge_count; e++)
            cJSON_AddItemToArray(le, isinf(metric->edges[e]) ? cJSON_CreateString("+Inf")
                                                             : json_new_number(metric->edges[e]));
    }
    for (int t = 0; t < TRACKS; t++)
        cJSON_AddItemToObject(object, track_names[t], arm_json(metric, &metric->arms[t]));
    cJSON_AddItemToObject(object, "effect", effect_json(&metric->effect));
    cJSON_AddItemToObject(object, "evidence", evidence_json(metric));
    cJSON_AddItemToObject(object, "abort_above", abort_json(metric));
    cJSON_AddItemToObject(object, "promote_below", promote_json(metric));
    add_string(object, "reason", metric->reason);
    if (metric->classification) {
        cJSON_AddStringToObject(object, "classification", metric->classification);
        json_add_number(object, "deviation", metric->deviation);
    }
    return object;
}

static cJSON *guardrail_json(const struct guardrail_verdict *guardrail)
{
    bool counts = guardrail->kind != GUARDRAIL_VALUE, proves = guardrail->kind == GUARDRAIL_RATE;
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "name", guardrail->name);
    cJSON_AddStringToObject(object, "kind", guardrail_kind_names[guardrail->kind]);
    cJSON_AddStringToObject(object, "status", guardrail_status_names[guardrail->status]);
    json_add_number(object, "value", guardrail->value);
    json_add_number(object, "limit", guardrail->limit);
    json_add_number(object, "requests", counts ? (double)guardrail->requests : NAN);
    json_add_number(object, "failed", counts ? (double)guardrail->failed : NAN);
    json_add_number(object, "evidence", proves ? guardrail->evidence : NAN);
    json_add_number(object, "evidence_needed", proves ? guardrail->evidence_needed : NAN);
    add_string(object, "reason", guardrail->reason);
    return object;
}

static void add_kayenta(cJSON *root, const struct verdict *verdict)
{
    if (isnan(verdict->kayenta_score))
        return;
    cJSON *kayenta = cJSON_AddObjectToObject(root, "kayenta");
    json_add_number(kayenta, "score", verdict->kayenta_score);
    json_add_number(kayenta, "pass", verdict->kayenta_pass);
    json_add_number(kayenta, "marginal", verdict->kayenta_marginal);
}

char *verdict_to_json(const struct verdict *verdict)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "schema", schema);
    add_string(root, "rollout", verdict->rollout);
    add_string(root, "service", verdict->service);
    cJSON_AddStringToObject(root, "policy_sha256", verdict->policy_sha256);
    json_add_number(root, "look", (double)verdict->look);
    add_time(root, "at", verdict->at_ms);
    cJSON *window = cJSON_AddObjectToObject(root, "window");
    add_time(window, "from", verdict->from_ms);
    add_time(window, "to", verdict->at_ms);
    cJSON *step = cJSON_AddObjectToObject(root, "step");
    json_add_number(step, "index", verdict->step_index);
    json_add_number(step, "weight", verdict->weight_bp);
    add_time(step, "since", verdict->step_since_ms);
    json_add_number(step, "looks", (double)verdict->step_looks);
    cJSON_AddStringToObject(root, "decision", decision_names[verdict->decision]);
    add_string(root, "reason", verdict->reason);
    json_add_number(root, "score", verdict->score);
    cJSON *budget = cJSON_AddObjectToObject(root, "false_abort");
    json_add_number(budget, "limit", verdict->false_abort_limit);
    json_add_number(budget, "spent", verdict->false_abort_spent);
    cJSON *evidence = cJSON_AddObjectToObject(root, "evidence");
    json_add_number(evidence, "harm", verdict->harm);
    json_add_number(evidence, "hold", verdict->hold);
    json_add_number(evidence, "harm_needed", verdict->harm_needed);
    cJSON *metrics = cJSON_AddArrayToObject(root, "metrics");
    for (size_t m = 0; m < verdict->metric_count; m++)
        cJSON_AddItemToArray(metrics, metric_json(&verdict->metrics[m]));
    cJSON *guardrails = cJSON_AddArrayToObject(root, "guardrails");
    for (size_t g = 0; g < verdict->guardrail_count; g++)
        cJSON_AddItemToArray(guardrails, guardrail_json(&verdict->guardrails[g]));
    add_kayenta(root, verdict);
    cJSON *traffic = cJSON_AddObjectToObject(root, "traffic");
    json_add_number(traffic, "expected", verdict->traffic_expected);
    json_add_number(traffic, "observed", verdict->traffic_observed);
    json_add_number(traffic, "balancer", verdict->traffic_balancer);
    cJSON_AddStringToObject(traffic, "status", traffic_status_names[verdict->traffic_status]);
    cJSON *warnings = cJSON_AddArrayToObject(root, "warnings");
    for (size_t w = 0; w < verdict->warning_count; w++)
        cJSON_AddItemToArray(warnings, cJSON_CreateString(verdict->warnings[w]));
    return json_print(root);
}

/* --- reading --- */

static bool read_name(const cJSON *object, const char *name, const char *where, const char *const *names, int *value,
                      struct error *err)
{
    const char *text = json_string(object, name, where, err);
    if (!text)
        return false;
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], text) == 0) {
            *value = i;
            return true;
        }
    }
    return error_set(err, ERROR_DATA, "%s.%s: \"%.40s\" is not known", where, name, text);
}

static char *read_text(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? mem_strdup(item->valuestring) : NULL;
}

static int64_t read_time(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    int64_t ms;
    if (!cJSON_IsString(item) || !time_parse(item->valuestring, 0, &ms))
        return 0;
    return ms > 0 && ms < year_10000_ms ? ms : 0;
}

static bool read_edges(const cJSON *object, const char *where, struct metric_verdict *metric, struct error *err)
{
    const cJSON *le = json_array(object, "le", where, err);
    if (!le)
        return false;
    size_t count = (size_t)cJSON_GetArraySize(le);
    if (count > LATENCY_EDGES)
        return error_set(err, ERROR_DATA, "%s.le: more than %d buckets", where, LATENCY_EDGES);
    metric->edges = mem_alloc(count, sizeof *metric->edges);
    const cJSON *item;
    cJSON_ArrayForEach(item, le)
    {
        bool last = metric->edge_count + 1 == count;
        if (last ? !cJSON_IsString(item) : !(cJSON_IsNumber(item) && isfinite(item->valuedouble)))
            return error_set(err, ERROR_DATA, "%s.le: must be numbers that end in \"+Inf\"", where);
        double edge = last ? INFINITY : item->valuedouble;
        if (metric->edge_count && !(edge > metric->edges[metric->edge_count - 1]))
            return error_set(err, ERROR_DATA, "%s.le: bounds must rise", where);
        metric->edges[metric->edge_count++] = edge;
    }
    return true;
}

/* Both arms have the same quantiles; the arm that is read first says which. */
static bool read_quantiles(const cJSON *object, const char *where, struct metric_verdict *metric,
                           struct arm_summary *arm, struct error *err)
{
    const double least = 1e-9; /* what the ten digits of a name tell from 0 and from 1 */
    const cJSON *quantiles = json_object(object, "quantiles", where, err);
    if (!quantiles)
        return false;
    bool first = metric->quantile_count == 0;
    size_t q = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, quantiles)
    {
        char *end;
        double share = strtod(item->string, &end);
        if (q == POLICY_QUANTILES || *end || !(share >= least && share <= 1 - least))
            return error_set(err, ERROR_DATA, "%s.quantiles: at most %d, named by shares between 0 and 1", where,
                             POLICY_QUANTILES);
        if (!first && (q >= metric->quantile_count || metric->quantiles[q] < share || metric->quantiles[q] > share))
            return error_set(err, ERROR_DATA, "%s.quantiles: must be those of the other track", where);
        metric->quantiles[q] = share;
        arm->quantiles[q++] = cJSON_IsNumber(item) && isfinite(item->valuedouble) ? item->valuedouble : NAN;
    }
    if (!first && q < metric->quantile_count)
        return error_set(err, ERROR_DATA, "%s.quantiles: must be those of the other track", where);
    metric->quantile_count = q;
    return true;
}

static bool read_arm(const cJSON *above, struct metric_verdict *metric, enum track track, const char *above_where,
                     struct error *err)
{
    struct arm_summary *arm = &metric->arms[track];
    const cJSON *object = cJSON_GetObjectItemCaseSensitive(above, track_names[track]);
    if (!object || cJSON_IsNull(object))
        return true;
    char where[96];
    snprintf(where, sizeof where, "%s.%s", above_where, track_names[track]);
    if (!cJSON_IsObject(object))
        return error_set(err, ERROR_DATA, "%s: must be an object or null", where);
    arm->present = true;
    if (metric->type == METRIC_GAUGE) {
        arm->median = json_number_or(object, "median", NAN);
        return json_count(object, "n", where, &arm->samples, err);
    }
    if (!json_count(object, "requests", where, &arm->requests, err))
        return false;
    if (metric->type == METRIC_ERRORS) {
        arm->rate = json_number_or(object, "rate", NAN);
        return json_count(object, "failed", where, &arm->failed, err);
    }
    const cJSON *buckets = json_array(object, "buckets", where, err);
    if (!buckets || !read_quantiles(object, where, metric, arm, err))
        return false;
    if ((size_t)cJSON_GetArraySize(buckets) != metric->edge_count)
        return error_set(err, ERROR_DATA, "%s.buckets: must have one count per bound of \"le\"", where);
    arm->buckets = mem_alloc(metric->edge_count, sizeof *arm->buckets);
    size_t i = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, buckets)
    {
        char place[128];
        snprintf(place, sizeof place, "%s.buckets[%zu]", where, i);
        if (!json_count_item(item, place, &arm->buckets[i++], err))
            return false;
    }
    return true;
}

static const char *known_name(const cJSON *object, const char *name, const char *const *names)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    for (; cJSON_IsString(item) && *names; names++)
        if (strcmp(*names, item->valuestring) == 0)
            return *names;
    return NULL;
}

static void read_effect(const cJSON *above, struct effect *effect)
{
    const cJSON *object = cJSON_GetObjectItemCaseSensitive(above, "effect");
    effect->kind = known_name(object, "kind", effect_kinds);
    effect->method = known_name(object, "method", effect_methods);
    effect->estimate = json_number_or(object, "estimate", NAN);
    effect->lower = json_number_or(object, "lower", NAN);
    /* An upper end that is null beside a lower one is an interval without an end. */
    effect->upper = json_number_or(object, "upper", isnan(effect->lower) ? NAN : INFINITY);
    effect->confidence = json_number_or(object, "confidence", NAN);
    effect->at_edge = json_number_or(object, "at_edge", NAN);
}

/* Either margin must be an object, but a gauge may lack one or both. */
static bool read_margins(const cJSON *object, const char *where, struct metric_verdict *metric, struct error *err)
{
    static const char *const names[] = {"abort_above", "promote_below"};
    const cJSON *margins[2] = {NULL, NULL};
    for (size_t i = 0; i < 2; i++) {
        bool none = cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(object, names[i]));
        if (none && metric->type == METRIC_GAUGE)
            continue;
        margins[i] = json_object(object, names[i], where, err);
        if (!margins[i])
            return false;
    }
    metric->abort_ratio = json_number_or(margins[0], "ratio", NAN);
    metric->abort_absolute = json_number_or(margins[0], "absolute", NAN);
    metric->abort_slower = json_number_or(margins[0], "slower", NAN);
    metric->promote_ratio = json_number_or(margins[1], "ratio", NAN);
    metric->promote_absolute = json_number_or(margins[1], "absolute", NAN);
    metric->promote_slower = json_number_or(margins[1], "slower", NAN);
    return true;
}

static bool read_classification(const cJSON *object, const char *where, struct metric_verdict *metric,
                                struct error *err)
{
    metric->deviation = NAN;
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, "classification");
    if (!item || cJSON_IsNull(item))
        return true;
    int class = 0;
    if (!read_name(object, "classification", where, classifications, &class, err))
        return false;
    metric->classification = classifications[class];
    metric->deviation = json_number_or(object, "deviation", NAN);
    return true;
}

static bool read_metric(const cJSON *object, struct metric_verdict *metric, const char *where, struct error *err)
{
    int type = 0, status = 0;
    const char *name = json_string(object, "name", where, err);
    if (!name || !read_name(object, "type", where, metric_type_names, &type, err) ||
        !read_name(object, "status", where, metric_status_names, &status, err))
        return false;
    metric->name = mem_strdup(name);
    metric->type = (enum metric_type)type;
    metric->status = (enum metric_status)status;
    metric->critical = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, "critical"));
    metric->budget = json_number_or(object, "budget", 0);
    if (metric->type == METRIC_LATENCY && !read_edges(object, where, metric, err))
        return false;
    for (int t = 0; t < TRACKS; t++)
        if (!read_arm(object, metric, (enum track)t, where, err))
            return false;
    read_effect(object, &metric->effect);
    const cJSON *evidence = json_object(object, "evidence", where, err);
    if (!evidence || !read_margins(object, where, metric, err))
        return false;
    metric->evidence =
        (struct evidence_values){json_number_or(evidence, "harm", NAN), json_number_or(evidence, "hold", NAN),
                                 json_number_or(evidence, "safe", NAN), json_number_or(evidence, "harm_needed", NAN),
                                 json_number_or(evidence, "safe_needed", NAN)};
    metric->reason = read_text(object, "reason");
    return read_classification(object, where, metric, err);
}

static bool read_metrics(struct verdict *verdict, const cJSON *root, struct error *err)
{
    const cJSON *metrics = json_array(root, "metrics", "verdict", err);
    if (!metrics)
        return false;
    verdict->metrics = mem_alloc((size_t)cJSON_GetArraySize(metrics), sizeof *verdict->metrics);
    const cJSON *item;
    cJSON_ArrayForEach(item, metrics)
    {
        char where[64];
        snprintf(where, sizeof where, "metrics[%zu]", verdict->metric_count);
        if (!cJSON_IsObject(item))
            return error_set(err, ERROR_DATA, "%s: must be an object", where);
        if (!read_metric(item, &verdict->metrics[verdict->metric_count++], where, err))
            return false;
    }
    return true;
}

static bool read_guardrail(const cJSON *object, struct guardrail_verdict *guardrail, const char *where,
                           struct error *err)
{
    int kind = 0, status = 0;
    const char *name = json_string(object, "name", where, err);
    if (!name || !read_name(object, "kind", where, guardrail_kind_names, &kind, err) ||
        !read_name(object, "status", where, guardrail_status_names, &status, err) ||
        !json_number(object, "limit", where, &guardrail->limit, err))
        return false;
    guardrail->name = mem_strdup(name);
    guardrail->kind = (enum guardrail_kind)kind;
    guardrail->status = (enum guardrail_status)status;
    guardrail->value = json_number_or(object, "value", NAN);
    guardrail->evidence = json_number_or(object, "evidence", NAN);
    guardrail->evidence_needed = json_number_or(object, "evidence_needed", NAN);
    guardrail->reason = read_text(object, "reason");
    return guardrail->kind == GUARDRAIL_VALUE || (json_count(object, "requests", where, &guardrail->requests, err) &&
                                                  json_count(object, "failed", where, &guardrail->failed, err));
}

/* Verdicts of older versions have an empty list or none. */
static bool read_guardrails(struct verdict *verdict, const cJSON *root, struct error *err)
{
    if (!cJSON_GetObjectItemCaseSensitive(root, "guardrails"))
        return true;
    const cJSON *guardrails = json_array(root, "guardrails", "verdict", err);
    if (!guardrails)
        return false;
    verdict->guardrails = mem_alloc((size_t)cJSON_GetArraySize(guardrails), sizeof *verdict->guardrails);
    const cJSON *item;
    cJSON_ArrayForEach(item, guardrails)
    {
        char where[64];
        snprintf(where, sizeof where, "guardrails[%zu]", verdict->guardrail_count);
        if (!cJSON_IsObject(item))
            return error_set(err, ERROR_DATA, "%s: must be an object", where);
        if (!read_guardrail(item, &verdict->guardrails[verdict->guardrail_count++], where, err))
            return false;
    }
    return true;
}

static bool read_kayenta(struct verdict *verdict, const cJSON *root, struct error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, "kayenta");
    if (!item || cJSON_IsNull(item))
        return true;
    const cJSON *kayenta = json_object(root, "kayenta", "verdict", err);
    return kayenta && json_number(kayenta, "score", "kayenta", &verdict->kayenta_score, err) &&
           json_number(kayenta, "pass", "kayenta", &verdict->kayenta_pass, err) &&
           json_number(kayenta, "marginal", "kayenta", &verdict->kayenta_marginal, err);
}

static bool read_step(struct verdict *verdict, const cJSON *root, struct error *err)
{
    const cJSON *step = json_object(root, "step", "verdict", err);
    uint64_t weight;
    if (!step || !json_count(step, "weight", "step", &weight, err))
        return false;
    double index = json_number_or(step, "index", -1);
    if (weight > BASIS_POINTS || !(index >= -1 && index < 10000))
        return error_set(err, ERROR_DATA, "step: weight must be from 0 to 10000 and index from -1");
    verdict->step_index = (int32_t)index;
    verdict->weight_bp = (uint32_t)weight;
    verdict->step_since_ms = read_time(step, "since");
    double looks = json_number_or(step, "looks", 0);
    verdict->step_looks = looks >= 0 && looks < 1e15 ? (uint64_t)looks : 0;
    return true;
}

static bool read_verdict(struct verdict *verdict, const cJSON *root, struct error *err)
{
    const char *found = json_string(root, "schema", "verdict", err);
    if (!found)
        return false;
    if (strcmp(found, schema) != 0)
        return error_set(err, ERROR_DATA,
                         "schema is \"%.60s\", not \"%s\"; give a verdict, as `haldane judge` writes it", found,
                         schema);
    int decision = 0;
    const char *service = json_string(root, "service", "verdict", err);
    if (!service || !read_name(root, "decision", "verdict", decision_names, &decision, err) ||
        !json_count(root, "look", "verdict", &verdict->look, err) || !read_step(verdict, root, err))
        return false;
    verdict->service = mem_strdup(service);
    verdict->decision = (enum decision)decision;
    verdict->rollout = read_text(root, "rollout");
    verdict->reason = read_text(root, "reason");
    char *sha = read_text(root, "policy_sha256");
    snprintf(verdict->policy_sha256, sizeof verdict->policy_sha256, "%s", sha ? sha : "");
    free(sha);
    verdict->at_ms = read_time(root, "at");
    verdict->from_ms = read_time(cJSON_GetObjectItemCaseSensitive(root, "window"), "from");
    verdict->score = json_number_or(root, "score", NAN);
    const cJSON *budget = cJSON_GetObjectItemCaseSensitive(root, "false_abort");
    verdict->false_abort_limit = json_number_or(budget, "limit", NAN);
    verdict->false_abort_spent = json_number_or(budget, "spent", NAN);
    const cJSON *evidence = cJSON_GetObjectItemCaseSensitive(root, "evidence");
    verdict->harm = json_number_or(evidence, "harm", NAN);
    verdict->hold = json_number_or(evidence, "hold", NAN);
    verdict->harm_needed = json_number_or(evidence, "harm_needed", NAN);
    const cJSON *traffic = cJSON_GetObjectItemCaseSensitive(root, "traffic");
    verdict->traffic_expected = json_number_or(traffic, "expected", NAN);
    verdict->traffic_observed = json_number_or(traffic, "observed", NAN);
    verdict->traffic_balancer = json_number_or(traffic, "balancer", NAN);
    int status = TRAFFIC_UNKNOWN;
    if (traffic && !read_name(traffic, "status", "traffic", traffic_status_names, &status, err))
        return false;
    verdict->traffic_status = (enum traffic_status)status;
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(root, "warnings"))
    {
        if (cJSON_IsString(item))
            verdict_warn(verdict, "%s", item->valuestring);
    }
    return read_metrics(verdict, root, err) && read_guardrails(verdict, root, err) && read_kayenta(verdict, root, err);
}

struct verdict *verdict_from_json(const char *text, size_t length, struct error *err)
{
    cJSON *root = json_parse_object(text, length, "the verdict", err);
    if (!root)
        return NULL;
    struct verdict *verdict = verdict_new();
    bool ok = read_verdict(verdict, root, err);
    cJSON_Delete(root);
    if (ok)
        return verdict;
    verdict_free(verdict);
    return NULL;
}
