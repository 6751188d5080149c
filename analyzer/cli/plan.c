/* haldane plan: what a policy can do with the traffic that there is. */
#include "analyzer/cli/cli.h"

#include "analyzer/collect/collect.h"
#include "analyzer/judge/judge.h"
#include "analyzer/model/json.h"
#include "analyzer/trials/plan.h"
#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has_metric(const struct policy *policy, enum metric_type type)
{
    for (size_t m = 0; m < policy->metric_count; m++)
        if (policy->metrics[m].type == type)
            return true;
    return false;
}

/* --- from Prometheus --- */

/* The looks that a rollout which began now would know stable from. */
static bool ask_prometheus(const struct policy *policy, struct plan_traffic *traffic, struct error *err)
{
    struct collector *collector = collector_new(policy, err);
    if (!collector)
        return false;
    size_t count;
    struct probe *probes = collector_probe(collector, wall_clock_ms(), &count);
    bool ok = probes_check(policy, probes, count, err);
    probes_free(probes, count);
    struct evidence *evidence = evidence_new(policy->service, policy->look_ms);
    int64_t until_ms = wall_clock_ms() - policy->settle_ms, last_ms;
    ok = ok && collect(collector, until_ms - HISTORY_LOOKS * policy->look_ms, until_ms, policy->look_ms, evidence,
                       &last_ms, err);
    if (ok)
        plan_traffic_learn(traffic, policy, evidence);
    evidence_free(evidence);
    collector_free(collector);
    return ok;
}

/* --- from the command line --- */

bool parse_rps(const char *text, double *rps, struct error *err)
{
    char *end;
    *rps = strtod(text, &end);
    if (end != text && !*end && *rps > 0 && *rps <= 1e8)
        return true;
    return error_set(err, ERROR_USAGE, "--rps %s is no number of requests a second; give one such as 100 or 0.5", text);
}

bool parse_rate(const char *text, double *rate, struct error *err)
{
    char *end;
    *rate = strtod(text, &end);
    bool percent = *end == '%';
    *rate = percent ? *rate / 100 : *rate;
    if (end != text && !end[percent] && *rate >= 0 && (percent ? *rate <= 1 : *rate < 1))
        return true;
    return error_set(err, ERROR_USAGE, "--error-rate %s is no share of requests; give a percentage such as 0.5%%",
                     text);
}

/* {"le": […], "buckets": […]}: read as the evidence of one interval, which has the same two lists. */
static struct evidence *evidence_of_buckets(const cJSON *root, struct error *err)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, root)
    {
        if (strcmp(item->string, "le") != 0 && strcmp(item->string, "buckets") != 0) {
            error_set(err, ERROR_DATA, "%s: is not known; give \"le\" and \"buckets\", or an evidence file",
                      item->string);
            return NULL;
        }
    }
    const cJSON *le = json_array(root, "le", "the latency file", err);
    const cJSON *buckets = le ? json_array(root, "buckets", "the latency file", err) : NULL;
    if (!buckets)
        return NULL;
    char *bounds = cJSON_PrintUnformatted(le), *counts = cJSON_PrintUnformatted(buckets);
    char *text = mem_printf("{\"schema\":\"haldane.evidence/1\",\"service\":\"plan\",\"interval_s\":1,\"weights\":[],"
                            "\"metrics\":{\"latency\":{\"type\":\"latency\",\"le\":%s,\"intervals\":[{\"at\":1,"
                            "\"stable\":%s,\"canary\":null}]}}}",
                            bounds, counts);
    struct evidence *evidence = evidence_from_json(text, strlen(text), err);
    free(text);
    free(bounds);
    free(counts);
    return evidence;
}

static struct evidence *read_latency(const char *path, bool *plain, struct error *err)
{
    size_t length;
    char *text = read_file(path, &length, err);
    if (!text)
        return NULL;
    cJSON *root = json_parse_object(text, length, "the latency file", err);
    *plain = root && !cJSON_GetObjectItemCaseSensitive(root, "schema");
    struct evidence *evidence = !root    ? NULL
                                : *plain ? evidence_of_buckets(root, err)
                                         : evidence_from_json(text, length, err);
    cJSON_Delete(root);
    free(text);
    if (!evidence)
        error_prefix(err, "%s", path);
    return evidence;
}

/* The shape is the file's; how many requests there are is --rps's. */
static bool learn_latency(const struct policy *policy, const char *path, struct plan_traffic *traffic,
                          struct error *err)
{
    bool plain;
    struct evidence *evidence = read_latency(path, &plain, err);
    if (!evidence)
        return false;
    for (size_t m = 0; m < policy->metric_count && plain; m++) {
        if (policy->metrics[m].type != METRIC_LATENCY)
            continue;
        free(evidence->metrics[0].name);
        evidence->metrics[0].name = mem_strdup(policy->metrics[m].name);
        plan_traffic_learn(traffic, policy, evidence);
    }
    if (!plain)
        plan_traffic_learn(traffic, policy, evidence);
    evidence_free(evidence);
    for (size_t m = 0; m < policy->metric_count; m++)
        if (policy->metrics[m].type == METRIC_LATENCY && traffic->levels[m].at.requests == 0)
            return error_set(err, ERROR_DATA, "%s has no request for the metric %s", path, policy->metrics[m].name);
    return true;
}

static bool take_numbers(const struct options *options, const struct policy *policy, struct plan_traffic *traffic,
                         struct error *err)
{
    static const double many = 1e12;
    double rps, rate = 0;
    if (!parse_rps(options->rps, &rps, err) || (options->error_rate && !parse_rate(options->error_rate, &rate, err)))
        return false;
    if (has_metric(policy, METRIC_ERRORS) != (options->error_rate != NULL))
        return error_set(err, ERROR_USAGE,
                         options->error_rate ? "the policy has no metric of errors; leave --error-rate out"
                                             : "the policy compares errors; give --error-rate too");
    if (has_metric(policy, METRIC_LATENCY) != (options->latency != NULL))
        return error_set(err, ERROR_USAGE,
                         options->latency ? "the policy has no metric of latency; leave --latency out"
                                          : "the policy compares latency; give --latency FILE too");
    if (options->latency && !learn_latency(policy, options->latency, traffic, err))
        return false;
    for (size_t m = 0; m < policy->metric_count; m++) {
        struct plan_level *level = &traffic->levels[m];
        level->rps = rps;
        level->history = HISTORY_LOOKS * rps * (double)policy->look_ms / 1000;
        if (policy->metrics[m].type == METRIC_ERRORS)
            level->at = (struct instance_counts){.requests = (uint64_t)many, .failed = (uint64_t)llround(rate * many)};
    }
    return true;
}

/* --- the command --- */

static bool find_traffic(const struct options *options, const struct policy *policy, struct plan_traffic *traffic,
                         struct error *err)
{
    if (options->live == (options->rps != NULL) || (options->live && (options->error_rate || options->latency)))
        return error_set(err, ERROR_USAGE,
                         "give either --live, or --rps with --error-rate and --latency; see `haldane help plan`");
    return options->live ? ask_prometheus(policy, traffic, err) : take_numbers(options, policy, traffic, err);
}

static int show(const struct options *options, const struct plan *plan)
{
    char *text = options->format == FORMAT_JSON ? plan_to_json(plan) : plan_to_text(plan);
    fputs(text, stdout);
    if (options->format == FORMAT_JSON)
        putchar('\n');
    free(text);
    return plan_decides(plan) ? EXIT_PROMOTE : EXIT_HOLD;
}

static int run(const struct options *options)
{
    struct error err = {0};
    struct policy *policy = load_policy(options, options->arguments[0], &err);
    if (!policy)
        return fail(&err);
    struct plan_traffic traffic = plan_traffic_new(policy);
    struct plan *plan = find_traffic(options, policy, &traffic, &err) ? plan_new(policy, &traffic) : NULL;
    int code = plan ? show(options, plan) : fail(&err);
    plan_free(plan);
    plan_traffic_free(&traffic);
    policy_free(policy);
    return code;
}

const struct command command_plan = {
    .name = "plan",
    .summary = "how long each step takes, and how soon harm is caught, with your traffic",
    .page = "Usage: haldane plan POLICY (--live | --rps N [--error-rate P] [--latency FILE])\n"
            "                    [--format text|json] [--set NAME=VALUE…]\n\n"
            "Says for each step how long it takes to prove a healthy canary, how soon harm of a few sizes is\n"
            "caught, and what would help where a step can never decide. Moves nothing.\n"
            "  --live              takes the traffic from Prometheus: the last looks of stable\n"
            "  --rps N             or: requests a second, both tracks together\n"
            "  --error-rate P      stable's share of failed requests, such as 0.5%\n"
            "  --latency FILE      stable's latencies: {\"le\": […], \"buckets\": […]}, or an evidence file\n"
            "  --format text|json  default: text\n"
            "  --set NAME=VALUE    what ${NAME} in the policy becomes; else the environment's\n\n"
            "Exit codes: 0 every step can decide, 10 one cannot within its max, 64 usage, 65 invalid policy,\n"
            "queries or latencies, 66 unreadable file, 69 Prometheus out of reach.\n",
    .options = OPTION_LIVE | OPTION_LEVELS | OPTION_FORMAT | OPTION_SET,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
