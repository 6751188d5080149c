/* Shares are written beside the counts that they come from, so that a reader of the JSON computes nothing twice. */
#include "analyzer/model/simulation.h"

#include "analyzer/model/json.h"
#include "base/memory.h"
#include "stats/exact.h"

#include <math.h>
#include <stdlib.h>

const char *const fault_names[] = {"none", "errors", "slower", "tail"};

void simulation_free(struct simulation *simulation)
{
    if (!simulation)
        return;
    for (size_t i = 0; i < simulation->count; i++) {
        free(simulation->results[i].scenario);
        free(simulation->results[i].summary);
    }
    free(simulation->results);
    free(simulation->service);
    free(simulation);
}

double simulation_share(uint64_t count, uint64_t runs)
{
    return runs ? (double)count / (double)runs : NAN;
}

double simulation_error(uint64_t count, uint64_t runs)
{
    double share = simulation_share(count, runs);
    return sqrt(share * (1 - share) / (double)runs);
}

void simulation_interval(uint64_t count, uint64_t runs, double *low, double *high)
{
    if (clopper_pearson(count, runs, 0.05, low, high))
        return;
    *low = 0;
    *high = 1;
}

uint64_t simulation_aborted(const struct simulation_result *result)
{
    return result->harm + result->guardrail;
}

const struct simulation_result *simulation_worst(const struct simulation *simulation)
{
    const struct simulation_result *worst = NULL;
    for (size_t i = 0; i < simulation->count; i++) {
        const struct simulation_result *result = &simulation->results[i];
        if (result->fault != FAULT_NONE)
            continue;
        if (!worst || simulation_aborted(result) * worst->runs > simulation_aborted(worst) * result->runs)
            worst = result;
    }
    return worst;
}

static void add_outcome(cJSON *object, const char *name, uint64_t count, uint64_t runs)
{
    cJSON *outcome = cJSON_AddObjectToObject(object, name);
    json_add_number(outcome, "runs", (double)count);
    json_add_number(outcome, "share", simulation_share(count, runs));
    json_add_number(outcome, "standard_error", simulation_error(count, runs));
    double low, high;
    simulation_interval(count, runs, &low, &high);
    json_add_number(outcome, "low95", low);
    json_add_number(outcome, "high95", high);
}

static void add_spread(cJSON *object, const char *name, const struct simulation_spread *spread, double unit)
{
    cJSON *inner = cJSON_AddObjectToObject(object, name);
    json_add_number(inner, "runs", (double)spread->runs);
    json_add_number(inner, "median", spread->median / unit);
    json_add_number(inner, "p90", spread->p90 / unit);
}

static cJSON *result_to_json(const struct simulation_result *result, int64_t look_ms)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "scenario", result->scenario);
    cJSON_AddStringToObject(object, "summary", result->summary);
    cJSON_AddStringToObject(object, "fault", fault_names[result->fault]);
    json_add_number(object, "fault_size", result->size);
    json_add_number(object, "requests_per_second", result->rps);
    json_add_number(object, "error_rate", result->error_rate);
    json_add_number(object, "step_seconds", result->step_ms ? (double)result->step_ms / 1000 : NAN);
    json_add_number(object, "runs", (double)result->runs);
    add_outcome(object, "aborted", simulation_aborted(result), result->runs);
    add_outcome(object, "aborted_by_harm", result->harm, result->runs);
    add_outcome(object, "aborted_by_guardrail", result->guardrail, result->runs);
    add_outcome(object, "promoted", result->promoted, result->runs);
    add_outcome(object, "undecided", result->undecided, result->runs);
    add_outcome(object, "ever_held", result->held, result->runs);
    add_spread(object, "seconds_to_abort", &result->to_abort_ms, 1000);
    add_spread(object, "looks_to_abort", &result->to_abort_ms, (double)look_ms);
    add_spread(object, "seconds_to_promote", &result->to_promote_ms, 1000);
    add_spread(object, "canary_requests_to_abort", &result->canary_requests, 1);
    add_spread(object, "harmed_to_abort", &result->harmed, 1);
    return object;
}

char *simulation_to_json(const struct simulation *simulation)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "schema", "haldane.simulation/1");
    cJSON_AddStringToObject(root, "service", simulation->service);
    cJSON_AddStringToObject(root, "policy_sha256", simulation->policy_sha256);
    json_add_seed(root, simulation->seed);
    json_add_number(root, "runs", (double)simulation->runs);
    json_add_number(root, "look_seconds", (double)simulation->look_ms / 1000);
    json_add_number(root, "false_abort_limit", simulation->false_abort_limit);
    json_add_number(root, "false_promote_limit", simulation->false_promote_limit);
    cJSON *results = cJSON_AddArrayToObject(root, "scenarios");
    for (size_t i = 0; i < simulation->count; i++)
        cJSON_AddItemToArray(results, result_to_json(&simulation->results[i], simulation->look_ms));
    char *json = json_print(root);
    char *line = mem_printf("%s\n", json);
    free(json);
    return line;
}
