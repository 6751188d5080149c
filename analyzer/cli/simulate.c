/* haldane simulate: what a policy would do to good and bad canaries, counted over made-up rollouts. */
#include "analyzer/cli/cli.h"

#include "analyzer/report/simulation.h"
#include "analyzer/trials/simulate.h"
#include "base/duration.h"
#include "base/memory.h"
#include "base/strbuf.h"
#include "policies/suggest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A few of each kind, so that a first look takes a minute. */
static const char *const usual[] = {"aa-iid", "aa-pods", "aa-bursts", "err-1.5", "err-2",
                                    "err-5",  "lat-10",  "lat-20",    "p99-50",  "crash"};
enum { USUAL = sizeof usual / sizeof usual[0] };

/* --- what was asked for --- */

struct request {
    double rps, error_rate;
    uint64_t runs, seed;
    int64_t step_ms; /* 0: the evidence moves the traffic */
    struct scenario *scenarios;
    size_t count;
};

static bool parse_step(const char *text, int64_t look_ms, int64_t *step_ms, struct error *err)
{
    if (!duration_parse(text, step_ms) || *step_ms <= 0)
        return error_set(err, ERROR_USAGE, "--step %s is no duration; give one such as 10m", text);
    if (*step_ms < look_ms)
        return error_set(err, ERROR_USAGE, "--step %s is shorter than the policy's look", text);
    return true;
}

static bool parse_numbers(const struct options *options, const struct policy *policy, struct request *request,
                          struct error *err)
{
    if (options->rps && !parse_rps(options->rps, &request->rps, err))
        return false;
    if (options->error_rate && !parse_rate(options->error_rate, &request->error_rate, err))
        return false;
    if (options->step && !parse_step(options->step, policy->look_ms, &request->step_ms, err))
        return false;
    return parse_draws(options, &request->runs, &request->seed, err);
}

static bool unknown_scenario(const char *name, struct error *err)
{
    struct strbuf list = {0};
    const char **names = mem_alloc(scenario_count, sizeof *names);
    for (size_t i = 0; i < scenario_count; i++) {
        names[i] = scenario_name(i);
        strbuf_printf(&list, "%s%s", i ? ", " : "", names[i]);
    }
    const char *near = suggest(name, names, scenario_count);
    char *known = strbuf_take(&list);
    if (near)
        error_set(err, ERROR_USAGE, "there is no scenario `%s`; did you mean `%s`? There are: %s", name, near, known);
    else
        error_set(err, ERROR_USAGE, "there is no scenario `%s`; there are: %s, or all", name, known);
    free(known);
    free(names);
    return false;
}

static bool add_scenario(struct request *request, const char *name, struct error *err)
{
    struct scenario scenario;
    if (!scenario_named(name, request->rps, request->error_rate, &scenario))
        return unknown_scenario(name, err);
    if (request->step_ms && !scenario.step_ms)
        scenario.step_ms = request->step_ms;
    request->scenarios = mem_resize(request->scenarios, request->count + 1, sizeof *request->scenarios);
    request->scenarios[request->count++] = scenario;
    return true;
}

static bool choose_scenarios(const struct options *options, struct request *request, struct error *err)
{
    bool ok = true;
    for (size_t i = 0; i < USUAL && options->scenario_count == 0; i++)
        ok = ok && add_scenario(request, usual[i], err);
    for (size_t i = 0; ok && i < options->scenario_count; i++) {
        bool all = strcmp(options->scenarios[i], "all") == 0;
        for (size_t s = 0; ok && all && s < scenario_count; s++)
            ok = add_scenario(request, scenario_name(s), err);
        ok = ok && (all || add_scenario(request, options->scenarios[i], err));
    }
    return ok;
}

/* --- the answer --- */

static char *render(const struct options *options, const struct simulation *simulation)
{
    switch (options->format) {
    case FORMAT_JSON:
        return simulation_to_json(simulation);
    case FORMAT_HTML:
        return simulation_html(simulation);
    default:
        return simulation_text(simulation);
    }
}

static bool answer(const struct options *options, const struct policy *policy, struct request *request,
                   struct error *err)
{
    if (!parse_numbers(options, policy, request, err) || !choose_scenarios(options, request, err))
        return false;
    int shown = -1;
    struct simulate_setup setup = {.policy = policy,
                                   .scenarios = request->scenarios,
                                   .scenario_count = request->count,
                                   .runs = request->runs,
                                   .seed = request->seed,
                                   .threads = processors(),
                                   .progress = progress_bar(),
                                   .context = &shown};
    struct simulation *simulation = simulate(&setup);
    char *text = render(options, simulation);
    simulation_free(simulation);
    bool ok = write_output(options->output, text, err);
    free(text);
    return ok;
}

static int run(const struct options *options)
{
    struct error err = {0};
    if (options->format == FORMAT_MARKDOWN) {
        error_set(&err, ERROR_USAGE, "`haldane simulate` writes no md; use --format text, json or html");
        return fail(&err);
    }
    struct policy *policy = load_policy(options, options->arguments[0], &err);
    if (!policy)
        return fail(&err);
    struct request request = {.rps = 100, .error_rate = 0.005};
    bool ok = answer(options, policy, &request, &err);
    free(request.scenarios);
    policy_free(policy);
    return ok ? 0 : fail(&err);
}

const struct command command_simulate = {
    .name = "simulate",
    .summary = "what a policy does to good and bad canaries, counted over made-up rollouts",
    .page = "Usage: haldane simulate POLICY [--scenario NAME…] [--runs N] [--seed N] [--rps N] [--error-rate P]\n"
            "                        [--step D] [--format text|json|html] [-o FILE] [--set NAME=VALUE…]\n\n"
            "Runs the policy's judge over made-up rollouts and counts: how often a healthy canary is aborted, how\n"
            "often and how soon a bad one is caught, and what that costs users. Moves nothing, asks nobody.\n"
            "  --scenario NAME           what is made up; may be given several times; `all` for all of them\n"
            "  --runs N                  rollouts of each scenario; default: 1000\n"
            "  --seed N                  the same seed gives the same answer; default: 1\n"
            "  --rps N                   requests a second, both tracks together; default: 100\n"
            "  --error-rate P            stable's share of failed requests; default: 0.5%\n"
            "  --step D                  each compared step lasts so long, whatever the data prove\n"
            "  --format text|json|html   default: text\n"
            "  -o, --output FILE         written at once or not at all; without it to standard output\n"
            "  --set NAME=VALUE          what ${NAME} in the policy becomes; else the environment's\n\n"
            "Exit codes: 0 done, 64 usage, 65 invalid policy, 66 unreadable file, 74 not writable.\n",
    .options = OPTION_SIMULATE | OPTION_FORMAT | OPTION_OUTPUT | OPTION_SET,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
