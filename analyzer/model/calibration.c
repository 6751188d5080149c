/* Rates are written with their errors beside the counts that they come from, so that a reader computes nothing twice.
 */
#include "analyzer/model/calibration.h"

#include "analyzer/model/json.h"
#include "base/memory.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void calibration_free(struct calibration *calibration)
{
    if (!calibration)
        return;
    for (size_t m = 0; m < calibration->metric_count; m++) {
        free(calibration->metrics[m].name);
        free(calibration->metrics[m].margins);
        free(calibration->metrics[m].rates);
    }
    for (size_t w = 0; w < calibration->warning_count; w++)
        free(calibration->warnings[w]);
    free(calibration->warnings);
    free(calibration->metrics);
    free(calibration->margins);
    free(calibration->looks);
    free(calibration->service);
    free(calibration);
}

void calibration_warn(struct calibration *calibration, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    calibration->warnings = mem_grow(calibration->warnings, calibration->warning_count, &calibration->warning_room,
                                     sizeof *calibration->warnings);
    calibration->warnings[calibration->warning_count++] = mem_strdup(text);
}

double calibration_share(const struct calibration_rate *rate)
{
    return rate->draws ? (double)rate->harm / (double)rate->draws : NAN;
}

double calibration_upper(const struct calibration_rate *rate)
{
    return fmin(1, calibration_share(rate) + 2 * rate->error);
}

bool calibration_keeps(const struct calibration_rate *rate, double limit)
{
    return calibration_upper(rate) <= limit;
}

bool calibration_policy_keeps(const struct calibration *calibration)
{
    return calibration_keeps(&calibration->policy, calibration->false_abort_limit);
}

static cJSON *rate_to_json(const struct calibration_rate *rate, double limit)
{
    cJSON *object = cJSON_CreateObject();
    json_add_number(object, "draws", (double)rate->draws);
    json_add_number(object, "false_aborts", (double)rate->harm);
    json_add_number(object, "share", calibration_share(rate));
    json_add_number(object, "standard_error", rate->error);
    json_add_number(object, "upper", calibration_upper(rate));
    json_add_number(object, "limit", limit);
    cJSON_AddBoolToObject(object, "keeps", calibration_keeps(rate, limit));
    json_add_number(object, "aborted_beside", (double)rate->beside);
    json_add_number(object, "ever_held", (double)rate->held);
    json_add_number(object, "undecided", (double)rate->undecided);
    return object;
}

static cJSON *looks_to_json(const struct calibration *calibration)
{
    cJSON *array = cJSON_CreateArray();
    for (size_t l = 0; l < calibration->look_count; l++) {
        const struct calibration_look *look = &calibration->looks[l];
        cJSON *object = cJSON_CreateObject();
        json_add_number(object, "look_s", (double)look->look_ms / 1000);
        json_add_number(object, "looks", (double)look->looks);
        json_add_number(object, "draws", (double)look->draws);
        json_add_number(object, "windows", (double)look->windows);
        cJSON_AddBoolToObject(object, "all", look->all);
        cJSON_AddItemToArray(array, object);
    }
    return array;
}

/* "ratio": 1.25, or "slower": 0.1. */
static void add_margin(cJSON *object, const struct calibration_metric *metric, size_t margin)
{
    json_add_number(object, metric->type == METRIC_LATENCY ? "slower" : "ratio", metric->margins[margin]);
}

static cJSON *metric_to_json(const struct calibration *calibration, const struct calibration_metric *metric)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "name", metric->name);
    json_add_number(object, "limit", metric->limit);
    cJSON *grid = cJSON_AddArrayToObject(object, "grid");
    for (size_t l = 0; l < calibration->look_count; l++) {
        for (size_t m = 0; m < metric->margin_count; m++) {
            cJSON *cell = rate_to_json(&metric->rates[l * metric->margin_count + m], metric->limit);
            json_add_number(cell, "look_s", (double)calibration->looks[l].look_ms / 1000);
            add_margin(cell, metric, m);
            cJSON_AddItemToArray(grid, cell);
        }
    }
    return object;
}

static cJSON *recommended_to_json(const struct calibration *calibration)
{
    if (!calibration->found)
        return cJSON_CreateNull();
    cJSON *object = rate_to_json(&calibration->joint, calibration->false_abort_limit);
    json_add_number(object, "look_s", (double)calibration->looks[calibration->look].look_ms / 1000);
    cJSON *margins = cJSON_AddArrayToObject(object, "abort_above");
    for (size_t m = 0; m < calibration->metric_count; m++) {
        cJSON *margin = cJSON_CreateObject();
        cJSON_AddStringToObject(margin, "name", calibration->metrics[m].name);
        add_margin(margin, &calibration->metrics[m], calibration->margins[m]);
        cJSON_AddItemToArray(margins, margin);
    }
    return object;
}

static void add_times(cJSON *root, const struct calibration *calibration)
{
    json_add_number(root, "from", (double)calibration->from_ms / 1000);
    json_add_number(root, "to", (double)calibration->to_ms / 1000);
    json_add_number(root, "planned_s", (double)calibration->planned_ms / 1000);
    json_add_number(root, "rollout_s", (double)calibration->rollout_ms / 1000);
    json_add_number(root, "history_looks", (double)calibration->history_looks);
}

char *calibration_to_json(const struct calibration *calibration)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "schema", "haldane.calibration/1");
    cJSON_AddStringToObject(root, "service", calibration->service);
    cJSON_AddStringToObject(root, "policy_sha256", calibration->policy_sha256);
    json_add_seed(root, calibration->seed);
    add_times(root, calibration);
    json_add_number(root, "stable_instances", (double)calibration->instances);
    json_add_number(root, "canary_instances", (double)calibration->canaries);
    cJSON_AddItemToObject(root, "looks", looks_to_json(calibration));
    cJSON_AddItemToObject(root, "policy", rate_to_json(&calibration->policy, calibration->false_abort_limit));
    cJSON *metrics = cJSON_AddArrayToObject(root, "metrics");
    for (size_t m = 0; m < calibration->metric_count; m++)
        cJSON_AddItemToArray(metrics, metric_to_json(calibration, &calibration->metrics[m]));
    cJSON_AddItemToObject(root, "recommended", recommended_to_json(calibration));
    cJSON *warnings = cJSON_AddArrayToObject(root, "warnings");
    for (size_t w = 0; w < calibration->warning_count; w++)
        cJSON_AddItemToArray(warnings, cJSON_CreateString(calibration->warnings[w]));
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    return text;
}
