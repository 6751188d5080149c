/*
 * Rollouts as haldane runs them: 5, 10, 25 and 50 % of the traffic, each left upward when the judge says so, at the
 * earliest after four looks, and two hours for all of it. To be promoted from 50 % is to have all of the traffic. The
 * peers are not in these tables: they advance by their schedule.
 *
 * Where a promotion alone is tested, nothing else may stop the rollout: the harm that aborts is as good as the margin
 * itself, and the threshold of abort and hold is out of reach.
 */
#include "tests/bench/sections.h"

#include "analyzer/trials/simulate.h"
#include "base/memory.h"
#include "policies/load.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>

#define STEPS                                                                                                          \
    "deadline: 2h\n"                                                                                                   \
    "steps: [{weight: 5%, min: 1m}, {weight: 10%, min: 1m}, {weight: 25%, min: 1m}, {weight: 50%, min: 1m}]\n"
#define USUAL METRIC_ERRORS_USUAL METRIC_LATENCY_USUAL
#define PROOF_ONLY                                                                                                     \
    "- {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}', "                                     \
    "abort_above: {ratio: 1.5, absolute: 0.0999%}, promote_below: {ratio: 1.5, absolute: 0.1%}}\n"

static const double false_promote = 0.05; /* the policies' default */

/* What differs from a named scenario; a ratio of 0 is none. */
static struct scenario scenario_with(const char *name, double rps, double error_ratio, double pod_rho)
{
    struct scenario scenario;
    bool known = scenario_named(name, rps, 0.005, &scenario);
    assert(known);
    scenario.error_ratio = error_ratio > 0 ? error_ratio : scenario.error_ratio;
    scenario.pod_rho = pod_rho;
    return scenario;
}

static struct simulation *run(const struct sheet *sheet, const struct policy *policy, const struct scenario *scenario,
                              uint64_t runs)
{
    return simulate(&(struct simulate_setup){.policy = policy,
                                             .scenarios = scenario,
                                             .scenario_count = 1,
                                             .runs = runs,
                                             .seed = sheet->seed,
                                             .threads = sheet->jobs});
}

static struct policy *proof_policy(const char *top)
{
    struct policy *policy = sheet_policy(top, PROOF_ONLY);
    policy->false_abort = DBL_MIN;
    policy->crash.times = 0;
    return policy;
}

static void add_header(struct table *table, const char *const names[], size_t count)
{
    table->columns = count;
    for (size_t i = 0; i < count; i++)
        table_add(table, mem_strdup(names[i]));
}

/* --- how rollouts end --- */

static const struct rollout_row {
    const char *name, *scenario;
    double error_ratio, pod_rho;
} rollout_rows[] = {
    {"healthy", "aa-iid", 0, 0},
    {"healthy, noisy instances", "aa-pods", 0, 0.01},
    {"x1.2", "err-1.2", 0, 0},
    {"x1.5", "err-1.5", 0, 0},
    {"at the margin", "margin", 0, 0},
    {"x2", "err-2", 0, 0},
    {"x5", "err-5", 0, 0},
    {"x100", "err-5", 100, 0},
    {"x2, noisy instances", "err-2-pods", 0, 0.01},
};

static void add_rollout(struct table *table, const char *name, const struct simulation_result *result)
{
    uint64_t runs = result->runs;
    table_add(table, mem_strdup(name));
    table_add(table, rate_text(result->promoted, runs));
    table_add(table, rate_text(simulation_aborted(result), runs));
    table_add(table, rate_text(result->undecided, runs));
    table_add(table, rate_text(result->held, runs));
    table_add(table, minutes_text(result->to_promote_ms.median));
    table_add(table, minutes_text(result->to_abort_ms.median));
    table_add(table, number_text(result->canary_requests.median));
    table_add(table, number_text(result->harmed.median));
}

static void run_rollout(struct sheet *sheet, const struct policy *policy, double rps, const struct rollout_row *row,
                        struct table *table)
{
    char *name = mem_printf("%g rps, %s", rps, row->name);
    if (sheet_wants(sheet, "rollouts", name)) {
        sheet_progress("rollouts", name);
        struct scenario scenario = scenario_with(row->scenario, rps, row->error_ratio, row->pod_rho);
        struct simulation *simulation = run(sheet, policy, &scenario, sheet_fewer(sheet));
        const struct simulation_result *result = &simulation->results[0];
        add_rollout(table, name, result);
        if (scenario_is_healthy(&scenario))
            limit_rate(sheet, name, simulation_aborted(result), result->runs, 0.01);
        if (scenario.at_margin)
            limit_rate(sheet, name, result->promoted, result->runs, false_promote);
        simulation_free(simulation);
    }
    free(name);
}

void section_rollouts(struct sheet *sheet)
{
    static const char *const names[] = {"canary",           "promoted",        "aborted",
                                        "undecided",        "ever held",       "minutes to promote",
                                        "minutes to abort", "canary requests", "users harmed"};
    static const double traffic[] = {10, 100, 1000};
    struct table table = {.caption = "Rollouts that the evidence moves, two hours at most; times and costs are medians "
                                     "over all runs, – if less than half come to that"};
    struct policy *policy = sheet_policy(STEPS, USUAL);
    add_header(&table, names, sizeof names / sizeof names[0]);
    for (size_t t = 0; t < sizeof traffic / sizeof traffic[0]; t++)
        for (size_t r = 0; r < sizeof rollout_rows / sizeof rollout_rows[0]; r++)
            run_rollout(sheet, policy, traffic[t], &rollout_rows[r], &table);
    sheet_progress("", "");
    table_print(&table, sheet);
    policy_free(policy);
}

/* --- false promotion, one step --- */

static const double pod_noise[] = {0, 0.001, 0.01};
enum { NOISES = sizeof pod_noise / sizeof pod_noise[0] };

/* And that it was the proof alone which stood in the way. */
static void hold_proof(struct sheet *sheet, const char *name, const struct simulation_result *result)
{
    limit_rate(sheet, name, result->promoted, result->runs, false_promote);
    limit_most(sheet, name, "runs aborted or held", (double)(simulation_aborted(result) + result->held), 0);
}

static void run_margin(struct sheet *sheet, double rps, unsigned share, struct table *table)
{
    char *top = mem_printf("undecided: abort\nsteps: [{weight: %u%%, min: 1m, max: 40m}]\n", share);
    char *row = mem_printf("margin %g rps %u %%", rps, share);
    struct policy *policy = proof_policy(top);
    if (sheet_wants(sheet, "margin", row)) {
        table_add(table, mem_printf("%g rps, %u %%", rps, share));
        for (size_t n = 0; n < NOISES; n++) {
            sheet_progress("margin", row);
            struct scenario scenario = scenario_with("margin", rps, 0, pod_noise[n]);
            struct simulation *simulation = run(sheet, policy, &scenario, sheet->runs);
            char *name = mem_printf("%s, pod noise %g", row, pod_noise[n]);
            table_add(table, rate_text(simulation->results[0].promoted, sheet->runs));
            hold_proof(sheet, name, &simulation->results[0]);
            free(name);
            simulation_free(simulation);
        }
    }
    policy_free(policy);
    free(row);
    free(top);
}

void section_margin(struct sheet *sheet)
{
    static const char *const names[] = {"step", "independent requests", "instance noise 0.001", "instance noise 0.01"};
    struct table table = {.caption = "False promotion: a canary exactly at the margin of promotion, 40 minutes in one "
                                     "step, nothing aborts it"};
    add_header(&table, names, sizeof names / sizeof names[0]);
    for (double rps = 100; rps <= 1000; rps *= 10) {
        run_margin(sheet, rps, 5, &table);
        run_margin(sheet, rps, 50, &table);
    }
    sheet_progress("", "");
    table_print(&table, sheet);
}

/* --- what wider margins at small shares save, and what they risk --- */

struct exposures {
    struct policy *scaled, *fixed;
};

static struct exposures exposures_open(struct policy *(*make)(const char *top))
{
    return (struct exposures){make(STEPS "exposure: scaled\n"), make(STEPS "exposure: fixed\n")};
}

static void exposures_close(struct exposures *exposures)
{
    policy_free(exposures->scaled);
    policy_free(exposures->fixed);
}

static struct policy *usual_policy(const char *top)
{
    return sheet_policy(top, USUAL);
}

/* The saving, for a healthy canary. */
static void run_saving(struct sheet *sheet, const struct exposures *exposures, double rps, double pod_rho,
                       struct table *table)
{
    char *name = mem_printf("exposure %g rps%s", rps, pod_rho > 0 ? ", noisy instances" : "");
    if (sheet_wants(sheet, "exposure", name)) {
        sheet_progress("exposure", name);
        struct scenario scenario = scenario_with(pod_rho > 0 ? "aa-pods" : "aa-iid", rps, 0, pod_rho);
        const struct policy *policies[] = {exposures->scaled, exposures->fixed};
        table_add(table, mem_printf("%g rps%s", rps, pod_rho > 0 ? ", noisy instances" : ""));
        for (int p = 0; p < 2; p++) {
            struct simulation *simulation = run(sheet, policies[p], &scenario, sheet_fewer(sheet));
            const struct simulation_result *result = &simulation->results[0];
            table_add(table, rate_text(result->promoted, result->runs));
            table_add(table, minutes_text(result->to_promote_ms.median));
            simulation_free(simulation);
        }
    }
    free(name);
}

/* The risk: a canary at the final margin, which nothing aborts. */
static void run_risk(struct sheet *sheet, const struct exposures *exposures, double rps, double pod_rho,
                     struct table *table)
{
    char *name = mem_printf("exposure %g rps at the margin, instance noise %g", rps, pod_rho);
    if (sheet_wants(sheet, "exposure", name)) {
        sheet_progress("exposure", name);
        struct scenario scenario = scenario_with("margin", rps, 0, pod_rho);
        const struct policy *policies[] = {exposures->scaled, exposures->fixed};
        table_add(table, mem_printf("%g rps, instance noise %g", rps, pod_rho));
        for (int p = 0; p < 2; p++) {
            struct simulation *simulation = run(sheet, policies[p], &scenario, sheet->runs);
            table_add(table, rate_text(simulation->results[0].promoted, sheet->runs));
            hold_proof(sheet, name, &simulation->results[0]);
            simulation_free(simulation);
        }
    }
    free(name);
}

void section_exposure(struct sheet *sheet)
{
    static const char *const saving_names[] = {"healthy canary", "scaled: promoted", "scaled: minutes",
                                               "fixed: promoted", "fixed: minutes"};
    static const char *const risk_names[] = {"canary at the margin", "scaled: promoted", "fixed: promoted"};
    struct table savings = {.caption =
                                "Exposure: a healthy canary that has all of the traffic within two hours, and the "
                                "median time over all runs"};
    struct table risks = {.caption =
                              "Exposure: a canary at the final margin, which nothing aborts, and which has all of "
                              "the traffic within two hours"};
    struct exposures usual = exposures_open(usual_policy), proof = exposures_open(proof_policy);
    add_header(&savings, saving_names, sizeof saving_names / sizeof saving_names[0]);
    add_header(&risks, risk_names, sizeof risk_names / sizeof risk_names[0]);
    for (double rps = 10; rps <= 1000; rps *= 10) {
        run_saving(sheet, &usual, rps, 0, &savings);
        run_saving(sheet, &usual, rps, 0.01, &savings);
        run_risk(sheet, &proof, rps, 0, &risks);
        run_risk(sheet, &proof, rps, 0.01, &risks);
    }
    sheet_progress("", "");
    table_print(&savings, sheet);
    table_print(&risks, sheet);
    exposures_close(&usual);
    exposures_close(&proof);
}
