/* haldane check: is the policy right, and does Prometheus find what it asks for? */
#include "analyzer/cli/cli.h"

#include "analyzer/collect/collect.h"
#include "analyzer/model/format.h"
#include "analyzer/model/verdict.h"
#include "analyzer/traffic/driver.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

extern char **environ;

static void print_found(const struct probe *probe)
{
    char age[FORMAT_TEXT];
    if (probe->type != METRIC_GAUGE)
        printf("%zu series, counter, newest sample %s old, value %.15g\n", probe->series,
               format_span((int64_t)(probe->age_s * 1000), age), probe->value);
    else if (isnan(probe->value))
        printf("%zu series, gauge, value is not a number\n", probe->series);
    else
        printf("%zu series, gauge, value %.15g\n", probe->series, probe->value);
}

static void print_probe(const struct probe *probe)
{
    printf("%s%s %s of %s: `%s`\n    ", probe->guardrail ? "guardrail " : "", probe->name, probe->key,
           track_names[probe->track], probe->query);
    if (probe->error.code != ERROR_NONE)
        printf("failed: %s\n", probe->error.text);
    else if (probe->series == 0)
        printf("finds nothing\n");
    else
        print_found(probe);
}

static int check_live(const struct policy *policy)
{
    struct error err = {0};
    struct collector *collector = collector_new(policy, &err);
    if (!collector)
        return fail(&err);
    size_t count;
    struct probe *probes = collector_probe(collector, wall_clock_ms(), &count);
    for (size_t i = 0; i < count; i++)
        print_probe(&probes[i]);
    bool ok = probes_check(policy, probes, count, &err);
    probes_free(probes, count);
    collector_free(collector);
    struct driver *driver = ok ? driver_open(&policy->traffic, &err) : NULL;
    struct driver_state state;
    enum driver_status status = driver ? driver_get(driver, &state, &err) : DRIVER_OK;
    if (driver && status == DRIVER_OK)
        printf("balancer: %s\n", state.detail);
    if (driver)
        driver_close(driver);
    return ok && (status == DRIVER_OK || status == DRIVER_UNSUPPORTED) ? 0 : fail(&err);
}

static int run(const struct options *options)
{
    struct policy_problems problems = {0};
    struct error err = {0};
    const char *path = options->arguments[0];
    struct policy *policy = policy_load_file(path, options->settings, options->setting_count, environ, &problems, &err);
    for (size_t i = 0; i < problems.count; i++)
        printf("%s:%zu:%zu: %s\n", path, problems.items[i].line, problems.items[i].column, problems.items[i].text);
    bool told = problems.count > 0;
    policy_problems_free(&problems);
    if (!policy)
        return told ? (int)err.code : fail(&err);
    printf("%s: ok: service %s, %zu metrics, %zu steps\n", path, policy->service, policy->metric_count,
           policy->step_count);
    int code = options->live ? check_live(policy) : 0;
    policy_free(policy);
    return code;
}

const struct command command_check = {
    .name = "check",
    .summary = "is the policy right, and does Prometheus find what it asks for?",
    .page = "Usage: haldane check POLICY [--live] [--set NAME=VALUE…]\n\n"
            "Reads the policy and prints every problem as FILE:LINE:COLUMN: what, and the mend.\n"
            "  --live            also runs each query once and asks the balancer; changes nothing\n"
            "  --set NAME=VALUE  what ${NAME} in the policy becomes; else the environment's\n\n"
            "Exit codes: 0 all is well, 65 a problem, 66 the file cannot be read, 69 Prometheus or the\n"
            "balancer cannot be reached.\n",
    .options = OPTION_LIVE | OPTION_SET,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
