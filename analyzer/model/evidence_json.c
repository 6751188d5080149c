/*
 * haldane.evidence/1. Reading is strict, because a miscounted interval would be a wrong verdict: every count is
 * checked, times must rise, and a message names the path of the place.
 */
#include "analyzer/model/evidence.h"
#include "analyzer/model/json.h"
#include "analyzer/model/verdict.h"
#include "base/memory.h"
#include "stats/latency.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char schema[] = "haldane.evidence/1";

/* Where metrics and guardrails stand, by evidence_metric.guardrail. */
static const char *const spaces[] = {"metrics", "guardrails"};

enum { PATH = 320 };

/* --- writing --- */

static double seconds(int64_t ms)
{
    return (double)ms / 1000.0;
}

static cJSON *counts_array(const uint64_t *counts, size_t n)
{
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; i < n; i++)
        cJSON_AddItemToArray(array, json_new_number((double)counts[i]));
    return array;
}

static cJSON *instance_json(const struct evidence_metric *metric, const struct instance_counts *counts)
{
    if (metric->type == METRIC_LATENCY && !counts->instance)
        return counts_array(counts->buckets, metric->edge_count);
    cJSON *object = cJSON_CreateObject();
    if (counts->instance)
        cJSON_AddStringToObject(object, "instance", counts->instance);
    if (metric->type == METRIC_LATENCY) {
        cJSON_AddItemToObject(object, "buckets", counts_array(counts->buckets, metric->edge_count));
    } else {
        json_add_number(object, "requests", (double)counts->requests);
        json_add_number(object, "failed", (double)counts->failed);
    }
    return object;
}

static cJSON *values_array(const struct track_counts *track)
{
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; i < track->count; i++)
        cJSON_AddItemToArray(array, json_new_number(track->instances[i].value));
    return array;
}

static cJSON *track_json(const struct evidence_metric *metric, const struct track_counts *track)
{
    if (!track->present)
        return cJSON_CreateNull();
    if (metric->type == METRIC_GAUGE)
        return values_array(track);
    if (track->count == 1 && !track->instances[0].instance)
        return instance_json(metric, &track->instances[0]);
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; i < track->count; i++)
        cJSON_AddItemToArray(array, instance_json(metric, &track->instances[i]));
    return array;
}

/* A guardrail has no arm to be compared with. */
static int first_track(const struct evidence_metric *metric)
{
    return metric->guardrail ? TRACK_CANARY : TRACK_STABLE;
}

static cJSON *interval_json(const struct evidence_metric *metric, const struct evidence_interval *interval)
{
    cJSON *object = cJSON_CreateObject();
    json_add_number(object, "at", seconds(interval->at_ms));
    json_add_number(object, "from", seconds(interval->from_ms));
    for (int t = first_track(metric); t < TRACKS; t++)
        cJSON_AddItemToObject(object, track_names[t], track_json(metric, &interval->tracks[t]));
    return object;
}

/* A metric with `count` of its intervals. */
static cJSON *metric_json(const struct evidence_metric *metric, const struct evidence_interval *intervals, size_t count)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "type", metric_type_names[metric->type]);
    if (metric->type == METRIC_LATENCY) {
        cJSON *le = cJSON_AddArrayToObject(object, "le");
        for (size_t e = 0; e < metric->edge_count; e++)
            cJSON_AddItemToArray(le, isinf(metric->edges[e]) ? cJSON_CreateString("+Inf")
                                                             : json_new_number(metric->edges[e]));
    }
    cJSON *list = cJSON_AddArrayToObject(object, "intervals");
    for (size_t i = 0; i < count; i++)
        cJSON_AddItemToArray(list, interval_json(metric, &intervals[i]));
    return object;
}

/* All intervals, or those of one look. A document without guardrails has no such key. */
static void add_metrics(cJSON *root, const struct evidence *evidence, const struct look *look)
{
    cJSON *objects[2] = {cJSON_AddObjectToObject(root, spaces[false]), NULL};
    for (size_t m = 0; m < evidence->metric_count; m++) {
        const struct evidence_metric *metric = &evidence->metrics[m];
        if (look && !look->intervals[m])
            continue;
        cJSON **space = &objects[metric->guardrail];
        if (!*space)
            *space = cJSON_AddObjectToObject(root, spaces[metric->guardrail]);
        cJSON_AddItemToObject(*space, metric->name,
                              look ? metric_json(metric, look->intervals[m], 1)
                                   : metric_json(metric, metric->intervals, metric->count));
    }
}

/* The counts of one arm of the balancer, in the order of the document. */
static const struct {
    const char *name;
    size_t offset;
} arm_counts[] = {
    {"total", offsetof(struct balancer_arm, total)},
    {"failed", offsetof(struct balancer_arm, failed)},
    {"connection_errors", offsetof(struct balancer_arm, connection_errors)},
    {"retries", offsetof(struct balancer_arm, retries)},
    {"redispatches", offsetof(struct balancer_arm, redispatches)},
    {"health_changes", offsetof(struct balancer_arm, health_changes)},
    {"in_flight", offsetof(struct balancer_arm, in_flight)},
};
enum { ARM_COUNTS = sizeof arm_counts / sizeof *arm_counts };

static uint64_t *arm_count(struct balancer_arm *arm, size_t i)
{
    return (uint64_t *)((char *)arm + arm_counts[i].offset);
}

static cJSON *balancer_json(const struct balancer_counters *counters)
{
    char generation[24];
    snprintf(generation, sizeof generation, "%" PRIu64, counters->generation);
    cJSON *object = cJSON_CreateObject();
    json_add_number(object, "at", seconds(counters->at_ms));
    /* A hash and no count: always text. */
    cJSON_AddStringToObject(object, "generation", generation);
    for (int t = 0; t < TRACKS; t++) {
        struct balancer_arm arm = counters->arms[t];
        cJSON *to = cJSON_AddObjectToObject(object, track_names[t]);
        for (size_t i = 0; i < ARM_COUNTS; i++)
            json_add_whole(to, arm_counts[i].name, *arm_count(&arm, i));
        json_add_whole(to, "up", arm.up);
        json_add_whole(to, "servers", arm.servers);
    }
    return object;
}

char *evidence_balancer_to_json(const struct balancer_counters *counters)
{
    return json_print(balancer_json(counters));
}

static void add_balancer(cJSON *root, const struct evidence *evidence)
{
    if (!evidence->balancer_count)
        return;
    cJSON *list = cJSON_AddArrayToObject(root, "balancer");
    for (size_t b = 0; b < evidence->balancer_count; b++)
        cJSON_AddItemToArray(list, balancer_json(&evidence->balancer[b]));
}

char *evidence_to_json(const struct evidence *evidence)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "schema", schema);
    if (evidence->rollout)
        cJSON_AddStringToObject(root, "rollout", evidence->rollout);
    cJSON_AddStringToObject(root, "service", evidence->service);
    json_add_number(root, "interval_s", seconds(evidence->interval_ms));
    cJSON *weights = cJSON_AddArrayToObject(root, "weights");
    for (size_t w = 0; w < evidence->weight_count; w++) {
        cJSON *weight = cJSON_CreateObject();
        json_add_number(weight, "from", seconds(evidence->weights[w].from_ms));
        json_add_number(weight, "basis_points", evidence->weights[w].weight_bp);
        cJSON_AddItemToArray(weights, weight);
    }
    add_metrics(root, evidence, NULL);
    add_balancer(root, evidence);
    if (evidence->decision_count) {
        cJSON *decisions = cJSON_AddArrayToObject(root, "decisions");
        for (size_t d = 0; d < evidence->decision_count; d++) {
            const struct evidence_decision *decision = &evidence->decisions[d];
            cJSON *object = cJSON_CreateObject();
            json_add_number(object, "at", seconds(decision->at_ms));
            cJSON_AddStringToObject(object, "action", decision->action);
            cJSON_AddStringToObject(object, "by", decision->by);
            cJSON_AddStringToObject(object, "reason", decision->reason);
            cJSON_AddItemToArray(decisions, object);
        }
    }
    return json_print(root);
}

char *evidence_look_to_json(const struct evidence *evidence, const struct look *look)
{
    cJSON *root = cJSON_CreateObject();
    add_metrics(root, evidence, look);
    return json_print(root);
}

/* --- reading --- */

static bool read_time(const cJSON *object, const char *name, const char *where, int64_t *ms, struct error *err)
{
    double value;
    if (!json_number(object, name, where, &value, err))
        return false;
    if (!(value >= 0 && value < 1e11))
        return error_set(err, ERROR_DATA, "%s.%s: must be Unix seconds", where, name);
    *ms = llround(value * 1000.0);
    return true;
}

static bool read_edges(const cJSON *metric, const char *where, double *edges, size_t *count, struct error *err)
{
    const cJSON *le = json_array(metric, "le", where, err);
    if (!le)
        return false;
    *count = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, le)
    {
        if (*count == LATENCY_EDGES)
            return error_set(err, ERROR_DATA, "%s.le: more than %d buckets", where, LATENCY_EDGES);
        double edge;
        if (cJSON_IsString(item) && strcmp(item->valuestring, "+Inf") == 0)
            edge = INFINITY;
        else if (cJSON_IsNumber(item) && isfinite(item->valuedouble))
            edge = item->valuedouble;
        else
            return error_set(err, ERROR_DATA, "%s.le[%zu]: must be a number of seconds or \"+Inf\"", where, *count);
        if (*count && !(edge > edges[*count - 1]))
            return error_set(err, ERROR_DATA, "%s.le[%zu]: bounds must rise", where, *count);
        edges[(*count)++] = edge;
    }
    if (*count < 2 || !isinf(edges[*count - 1]))
        return error_set(err, ERROR_DATA, "%s.le: must have two or more bounds and end in \"+Inf\"", where);
    return true;
}

static bool read_buckets(const cJSON *array, const struct evidence_metric *metric, const char *where,
                         struct instance_counts *counts, struct error *err)
{
    if (!cJSON_IsArray(array) || (size_t)cJSON_GetArraySize(array) != metric->edge_count)
        return error_set(err, ERROR_DATA, "%s: must be a list of %zu counts, one per bound of \"le\"", where,
                         metric->edge_count);
    size_t i = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, array)
    {
        char place[PATH + 24];
        snprintf(place, sizeof place, "%.*s[%zu]", PATH, where, i);
        if (!json_count_item(item, place, &counts->buckets[i], err))
            return false;
        counts->requests += counts->buckets[i++];
    }
    return true;
}

static bool read_errors(const cJSON *object, const char *where, struct instance_counts *counts, struct error *err)
{
    if (!json_count(object, "requests", where, &counts->requests, err) ||
        !json_count(object, "failed", where, &counts->failed, err))
        return false;
    if (counts->failed > counts->requests)
        return error_set(err, ERROR_DATA, "%s.failed: more than the requests", where);
    return true;
}

static bool read_instance(const cJSON *item, const struct evidence_metric *metric, struct evidence_interval *interval,
                          enum track track, const char *where, struct error *err)
{
    const char *name = json_string(item, "instance", where, err);
    if (!name)
        return false;
    const struct track_counts *known = &interval->tracks[track];
    for (size_t i = 0; i < known->count; i++)
        if (strcmp(known->instances[i].instance, name) == 0)
            return error_set(err, ERROR_DATA, "%s: instance \"%.80s\" is there twice", where, name);
    struct instance_counts *counts = evidence_add_instance(metric, interval, track, name);
    if (metric->type != METRIC_LATENCY)
        return read_errors(item, where, counts, err);
    char place[PATH + 24];
    snprintf(place, sizeof place, "%s.buckets", where);
    return read_buckets(cJSON_GetObjectItemCaseSensitive(item, "buckets"), metric, place, counts, err);
}

static bool read_instances(const cJSON *list, const struct evidence_metric *metric, struct evidence_interval *interval,
                           enum track track, const char *where, struct error *err)
{
    size_t i = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        char place[PATH];
        snprintf(place, sizeof place, "%.296s[%zu]", where, i++);
        if (!read_instance(item, metric, interval, track, place, err))
            return false;
    }
    return true;
}

/* Gauges are not told apart by name: a query may take the label away. Their order says which is which. */
static bool read_values(const cJSON *list, const struct evidence_metric *metric, struct evidence_interval *interval,
                        enum track track, const char *where, struct error *err)
{
    if (!cJSON_IsArray(list) || !list->child)
        return error_set(err, ERROR_DATA, "%s: must be a list of numbers, one per instance, or null", where);
    size_t i = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        bool number = cJSON_IsNumber(item) && isfinite(item->valuedouble);
        if (!number && !cJSON_IsNull(item))
            return error_set(err, ERROR_DATA, "%s[%zu]: must be a finite number, or null", where, i);
        evidence_add_instance(metric, interval, track, NULL)->value = number ? item->valuedouble : NAN;
        i++;
    }
    return true;
}

/* What one look counts in a track; more could not be told apart, and sums over instances could run over. */
static bool check_track(const struct track_counts *track, const char *where, struct error *err)
{
    uint64_t requests = 0;
    for (size_t i = 0; i < track->count; i++) {
        if (track->instances[i].requests >= UINT64_C(1) << 53)
            return error_set(err, ERROR_DATA, "%s: more than 2^53 - 1 requests", where);
        requests += track->instances[i].requests;
        if (requests >= UINT64_C(1) << 53)
            return error_set(err, ERROR_DATA, "%s: more than 2^53 - 1 requests", where);
    }
    return true;
}

static bool read_counts(const cJSON *value, const struct evidence_metric *metric, struct evidence_interval *interval,
                        enum track track, const char *where, struct error *err)
{
    if (metric->type == METRIC_GAUGE)
        return read_values(value, metric, interval, track, where, err);
    if (cJSON_IsArray(value) && cJSON_IsObject(value->child))
        return read_instances(value, metric, interval, track, where, err);
    struct instance_counts *counts = evidence_add_instance(metric, interval, track, NULL);
    if (metric->type == METRIC_LATENCY)
        return read_buckets(value, metric, where, counts, err);
    if (!cJSON_IsObject(value))
        return error_set(err, ERROR_DATA, "%s: must be {\"requests\", \"failed\"}, a list of instances, or null",
                         where);
    return read_errors(value, where, counts, err);
}

static bool read_track(const cJSON *object, const struct evidence_metric *metric, struct evidence_interval *interval,
                       enum track track, const char *above, struct error *err)
{
    char where[PATH];
    snprintf(where, sizeof where, "%.290s.%s", above, track_names[track]);
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, track_names[track]);
    if (!value)
        return error_set(err, ERROR_DATA, "%s is missing; a track that gave nothing is null", where);
    if (cJSON_IsNull(value))
        return true;
    return read_counts(value, metric, interval, track, where, err) && check_track(&interval->tracks[track], where, err);
}

static bool read_interval(struct evidence *evidence, struct evidence_metric *metric, const cJSON *object,
                          const char *where, struct error *err)
{
    int64_t at_ms = 0;
    if (!read_time(object, "at", where, &at_ms, err))
        return false;
    int64_t from_ms = at_ms > evidence->interval_ms ? at_ms - evidence->interval_ms : 0;
    if (cJSON_HasObjectItem(object, "from") && !read_time(object, "from", where, &from_ms, err))
        return false;
    if (from_ms >= at_ms)
        return error_set(err, ERROR_DATA, "%s.from: must be before \"at\"", where);
    if (metric->count && metric->intervals[metric->count - 1].at_ms >= at_ms)
        return error_set(err, ERROR_DATA, "%s.at: intervals must be in the order of their \"at\"", where);
    struct evidence_interval *interval = evidence_add_interval(metric, from_ms, at_ms);
    for (int t = first_track(metric); t < TRACKS; t++)
        if (!read_track(object, metric, interval, (enum track)t, where, err))
            return false;
    return true;
}

static bool same_edges(const struct evidence_metric *metric, const double *edges, size_t count)
{
    return metric->edge_count == count && (!count || memcmp(metric->edges, edges, count * sizeof *edges) == 0);
}

static bool read_type(const cJSON *object, bool guardrail, const char *where, enum metric_type *type, struct error *err)
{
    const char *name = json_string(object, "type", where, err);
    if (!name)
        return false;
    for (int t = 0; metric_type_names[t]; t++) {
        if (strcmp(name, metric_type_names[t]) == 0 && !(guardrail && t == METRIC_LATENCY)) {
            *type = (enum metric_type)t;
            return true;
        }
    }
    return error_set(err, ERROR_DATA, "%s.type: \"%.40s\" is not known; use %s", where, name,
                     guardrail ? "errors or gauge" : "errors, latency or gauge");
}

/* Finds the metric or guardrail that an object is about, or adds it. */
static struct evidence_metric *read_head(struct evidence *evidence, bool guardrail, const cJSON *object,
                                         const char *where, struct error *err)
{
    enum metric_type type = METRIC_ERRORS;
    double edges[LATENCY_EDGES];
    size_t edge_count = 0;
    if (!read_type(object, guardrail, where, &type, err) ||
        (type == METRIC_LATENCY && !read_edges(object, where, edges, &edge_count, err)))
        return NULL;
    struct evidence_metric *metric = guardrail ? evidence_guardrail(evidence, object->string, type)
                                               : evidence_metric(evidence, object->string, type, edges, edge_count);
    if (metric->type == type && same_edges(metric, edges, edge_count))
        return metric;
    error_set(err, ERROR_DATA, "%s: type or bucket bounds changed; start a new rollout", where);
    return NULL;
}

static bool read_metric(struct evidence *evidence, bool guardrail, const cJSON *object, struct error *err)
{
    char where[PATH];
    snprintf(where, sizeof where, "%s.%.100s", spaces[guardrail], object->string);
    if (!cJSON_IsObject(object))
        return error_set(err, ERROR_DATA, "%s: must be an object", where);
    struct evidence_metric *metric = read_head(evidence, guardrail, object, where, err);
    const cJSON *intervals = metric ? json_array(object, "intervals", where, err) : NULL;
    if (!intervals)
        return false;
    size_t i = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, intervals)
    {
        char place[PATH];
        snprintf(place, sizeof place, "%.240s.intervals[%zu]", where, i++);
        if (!cJSON_IsObject(item))
            return error_set(err, ERROR_DATA, "%s: must be an object", place);
        if (!read_interval(evidence, metric, item, place, err))
            return false;
    }
    return true;
}

static bool is_repeated(const cJSON *metrics, const cJSON *item)
{
    return cJSON_GetObjectItemCaseSensitive(metrics, item->string) != item;
}

static bool read_space(struct evidence *evidence, bool guardrail, const cJSON *root, struct error *err)
{
    const cJSON *space = json_object(root, spaces[guardrail], "evidence", err);
    if (!space)
        return false;
    const cJSON *item;
    cJSON_ArrayForEach(item, space)
    {
        if (is_repeated(space, item))
            return error_set(err, ERROR_DATA, "%s.%.100s: is there twice", spaces[guardrail], item->string);
        if (!read_metric(evidence, guardrail, item, err))
            return false;
    }
    return true;
}

static bool read_metrics(struct evidence *evidence, const cJSON *root, struct error *err)
{
    if (!read_space(evidence, false, root, err))
        return false;
    return !cJSON_GetObjectItemCaseSensitive(root, spaces[true]) || read_space(evidence, true, root, err);
}

static bool read_weights(struct evidence *evidence, const cJSON *root, struct error *err)
{
    const cJSON *weights = cJSON_GetObjectItemCaseSensitive(root, "weights");
    if (!weights)
        return true;
    if (!cJSON_IsArray(weights))
        return error_set(err, ERROR_DATA, "weights: must be a list");
    const cJSON *item;
    cJSON_ArrayForEach(item, weights)
    {
        char where[PATH];
        snprintf(where, sizeof where, "weights[%zu]", evidence->weight_count);
        int64_t from_ms = 0;
        uint64_t weight;
        if (!read_time(item, "from", where, &from_ms, err) || !json_count(item, "basis_points", where, &weight, err))
            return false;
        if (weight > BASIS_POINTS)
            return error_set(err, ERROR_DATA, "%s.basis_points: must be from 0 to 10000", where);
        if (evidence->weight_count && evidence->weights[evidence->weight_count - 1].from_ms >= from_ms)
            return error_set(err, ERROR_DATA, "%s.from: times must rise", where);
        evidence_add_weight(evidence, from_ms, (uint32_t)weight);
    }
    return true;
}

static bool read_decisions(struct evidence *evidence, const cJSON *root, struct error *err)
{
    const cJSON *decisions = cJSON_GetObjectItemCaseSensitive(root, "decisions");
    if (decisions && !cJSON_IsArray(decisions))
        return error_set(err, ERROR_DATA, "decisions: must be a list");
    const cJSON *item;
    cJSON_ArrayForEach(item, decisions)
    {
        char where[PATH];
        snprintf(where, sizeof where, "decisions[%zu]", evidence->decision_count);
        int64_t at_ms = 0;
        if (!read_time(item, "at", where, &at_ms, err))
            return false;
        const char *action = json_string(item, "action", where, err);
        const char *by = action ? json_string(item, "by", where, err) : NULL;
        const char *reason = by ? json_string(item, "reason", where, err) : NULL;
        if (!reason)
            return false;
        evidence_add_decision(evidence, at_ms, action, by, reason);
    }
    return true;
}

static bool read_arm(const cJSON *above, enum track track, const char *above_where, struct balancer_arm *arm,
                     struct error *err)
{
    const cJSON *object = json_object(above, track_names[track], above_where, err);
    if (!object)
        return false;
    char where[PATH];
    snprintf(where, sizeof where, "%.60s.%s", above_where, track_names[track]);
    for (size_t i = 0; i < ARM_COUNTS; i++)
        if (!json_whole(object, arm_counts[i].name, where, arm_count(arm, i), err))
            return false;
    uint64_t up = 0, servers = 0;
    if (!json_whole(object, "up", where, &up, err) || !json_whole(object, "servers", where, &servers, err))
        return false;
    if (up > servers || servers > UINT32_MAX)
        return error_set(err, ERROR_DATA, "%s.up: more servers than there are", where);
    arm->up = (uint32_t)up;
    arm->servers = (uint32_t)servers;
    return true;
}

static bool read_counters(const cJSON *object, const char *where, struct balancer_counters *counters, struct error *err)
{
    *counters = (struct balancer_counters){0};
    if (!cJSON_IsObject(object))
        return error_set(err, ERROR_DATA, "%s: must be an object", where);
    return read_time(object, "at", where, &counters->at_ms, err) &&
           json_whole(object, "generation", where, &counters->generation, err) &&
           read_arm(object, TRACK_STABLE, where, &counters->arms[TRACK_STABLE], err) &&
           read_arm(object, TRACK_CANARY, where, &counters->arms[TRACK_CANARY], err);
}

static bool read_balancer(struct evidence *evidence, const cJSON *root, struct error *err)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "balancer");
    if (list && !cJSON_IsArray(list))
        return error_set(err, ERROR_DATA, "balancer: must be a list");
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        char where[PATH];
        struct balancer_counters counters;
        snprintf(where, sizeof where, "balancer[%zu]", evidence->balancer_count);
        if (!read_counters(item, where, &counters, err))
            return false;
        if (!evidence_add_balancer(evidence, &counters))
            return error_set(err, ERROR_DATA, "%s.at: times must rise", where);
    }
    return true;
}

static struct evidence *read_evidence(const cJSON *root, struct error *err)
{
    const char *found = json_string(root, "schema", "evidence", err);
    if (!found)
        return NULL;
    if (strcmp(found, schema) != 0) {
        error_set(err, ERROR_DATA,
                  "schema is \"%.60s\", not \"%s\"; give evidence, as `haldane report --evidence` writes it", found,
                  schema);
        return NULL;
    }
    const char *service = json_string(root, "service", "evidence", err);
    double interval;
    if (!service || !json_number(root, "interval_s", "evidence", &interval, err))
        return NULL;
    if (!(interval >= 0.001 && interval <= 86400)) {
        error_set(err, ERROR_DATA, "interval_s: must be seconds, from 0.001 to 86400");
        return NULL;
    }
    struct evidence *evidence = evidence_new(service, llround(interval * 1000.0));
    const cJSON *rollout = cJSON_GetObjectItemCaseSensitive(root, "rollout");
    if (rollout)
        evidence->rollout = mem_strdup(json_string(root, "rollout", "evidence", err));
    if (rollout && !evidence->rollout) {
        evidence_free(evidence);
        return NULL;
    }
    if (read_weights(evidence, root, err) && read_metrics(evidence, root, err) && read_balancer(evidence, root, err) &&
        read_decisions(evidence, root, err))
        return evidence;
    evidence_free(evidence);
    return NULL;
}

struct evidence *evidence_from_json(const char *text, size_t length, struct error *err)
{
    cJSON *root = json_parse_object(text, length, "the evidence", err);
    if (!root)
        return NULL;
    struct evidence *evidence = read_evidence(root, err);
    cJSON_Delete(root);
    return evidence;
}

bool evidence_append_json(struct evidence *evidence, const char *text, size_t length, struct error *err)
{
    cJSON *root = json_parse_object(text, length, "the look", err);
    if (!root)
        return false;
    bool ok = read_metrics(evidence, root, err);
    cJSON_Delete(root);
    return ok;
}

bool evidence_append_balancer_json(struct evidence *evidence, const char *text, size_t length, struct error *err)
{
    cJSON *root = json_parse_object(text, length, "the balancer's counts", err);
    if (!root)
        return false;
    struct balancer_counters counters;
    bool ok = read_counters(root, "balancer", &counters, err);
    if (ok)
        evidence_add_balancer(evidence, &counters);
    cJSON_Delete(root);
    return ok;
}
