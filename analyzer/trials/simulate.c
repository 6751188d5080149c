/*
 * Each run writes into a place of its own, and what is summed up at the end is summed in the order of the runs. So the
 * number of threads decides how long it takes and nothing else.
 */
#include "analyzer/trials/simulate.h"

#include "analyzer/judge/judge.h"
#include "analyzer/judge/margins.h"
#include "analyzer/trials/crew.h"
#include "base/memory.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- one rollout --- */

/* Where a rollout stands in its steps. */
struct course {
    const struct policy *policy;
    const struct scenario *scenario;
    size_t step;
    unsigned round;
    int64_t step_since_ms; /* from the first traffic */
};

/* The next step of a fixed schedule; false: it is over. */
static bool next_fixed(struct course *course)
{
    const struct policy *policy = course->policy;
    course->step++;
    if (course->step < policy->step_count && policy->steps[course->step].weight_bp <= COMPARED_BP)
        return true;
    course->step = 0;
    return ++course->round < course->scenario->rounds;
}

static bool may_leave_step(const struct course *course, enum decision decision, int64_t now_ms)
{
    if (course->scenario->step_ms == 0)
        return decision == DECISION_PROMOTE;
    return now_ms - course->step_since_ms >= course->scenario->step_ms;
}

static enum trial_end end_of_abort(enum judge_cause cause)
{
    if (cause == BECAUSE_GUARDRAIL || cause == BECAUSE_KAYENTA)
        return TRIAL_GUARDRAIL;
    return cause == BECAUSE_HARM ? TRIAL_HARM : TRIAL_UNDECIDED;
}

/* Whether the rollout has ended; else the canary has the share of the step that is in force from now on. */
static bool advance(struct course *course, struct scenario_draws *draws, struct judge_standing standing,
                    struct trial *trial)
{
    bool fixed = course->scenario->step_ms > 0;
    if (standing.decision == DECISION_ABORT && (!fixed || end_of_abort(standing.cause) != TRIAL_UNDECIDED)) {
        trial->end = end_of_abort(standing.cause);
        return true;
    }
    if (may_leave_step(course, standing.decision, trial->ended_ms)) {
        if (fixed ? !next_fixed(course) : ++course->step == course->policy->step_count) {
            trial->end = fixed ? TRIAL_UNDECIDED : TRIAL_PROMOTED;
            return true;
        }
        course->step_since_ms = trial->ended_ms;
        scenario_weight(draws, course->policy->steps[course->step].weight_bp);
    }
    trial->end = TRIAL_UNDECIDED;
    return !fixed && trial->ended_ms >= course->policy->deadline_ms;
}

struct trial trial_run(struct scenario_draws *draws, uint64_t seed, uint64_t run)
{
    const struct policy *policy = scenario_policy(draws);
    struct course course = {.policy = policy, .scenario = scenario_of(draws)};
    struct judge *judge = judge_new(policy);
    struct trial trial = {.end = TRIAL_UNDECIDED};
    bool ended = false;
    scenario_begin(draws, seed, run);
    for (int h = 0; h < HISTORY_LOOKS; h++)
        judge_observe(judge, scenario_evidence(draws), scenario_look(draws));
    scenario_weight(draws, policy->steps[0].weight_bp);
    while (!ended) {
        judge_observe(judge, scenario_evidence(draws), scenario_look(draws));
        struct judge_standing standing = judge_standing(judge);
        struct scenario_truth truth = scenario_truth(draws);
        trial.ended_ms = truth.since_traffic_ms;
        trial.canary_requests += truth.requests[TRACK_CANARY];
        trial.harmed += truth.harmed;
        trial.held |= standing.cause == BECAUSE_SUSPECTED;
        ended = advance(&course, draws, standing, &trial);
    }
    judge_free(judge);
    return trial;
}

/* --- many --- */

struct work {
    const struct simulate_setup *setup;
    struct trial *trials; /* of scenario s and run r at s * runs + r */
};

/* One thread's draws: of the scenario that it met last. */
struct desk {
    struct scenario_draws *draws;
    size_t scenario;
};

static void *open_desk(void *context)
{
    (void)context;
    return mem_alloc(1, sizeof(struct desk));
}

static void close_desk(void *tools)
{
    struct desk *desk = tools;
    scenario_close(desk->draws);
    free(desk);
}

static void run_trial(uint64_t task, void *tools, void *context)
{
    struct desk *desk = tools;
    const struct work *work = context;
    const struct simulate_setup *setup = work->setup;
    size_t scenario = (size_t)(task / setup->runs);
    if (!desk->draws || scenario != desk->scenario) {
        scenario_close(desk->draws);
        desk->draws = scenario_open(&setup->scenarios[scenario], setup->policy);
        desk->scenario = scenario;
    }
    work->trials[task] = trial_run(desk->draws, setup->seed, task % setup->runs);
}

/* --- what it came to --- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The smallest value that at least a share `q` of the runs does not exceed; `values` are those that there are. */
static double quantile(const double *values, uint64_t count, uint64_t runs, double q)
{
    uint64_t rank = (uint64_t)ceil(q * (double)runs);
    rank = rank < 1 ? 1 : rank;
    return rank <= count ? values[rank - 1] : NAN;
}

static struct simulation_spread spread_of(double *values, uint64_t count, uint64_t runs)
{
    qsort(values, count, sizeof *values, by_value);
    return (struct simulation_spread){count, quantile(values, count, runs, 0.5), quantile(values, count, runs, 0.9)};
}

static bool is_abort(const struct trial *trial)
{
    return trial->end == TRIAL_HARM || trial->end == TRIAL_GUARDRAIL;
}

static void count_ends(const struct trial *trials, struct simulation_result *result)
{
    uint64_t ends[TRIAL_UNDECIDED + 1] = {0};
    for (uint64_t r = 0; r < result->runs; r++) {
        ends[trials[r].end]++;
        result->held += trials[r].held;
    }
    result->harm = ends[TRIAL_HARM];
    result->guardrail = ends[TRIAL_GUARDRAIL];
    result->promoted = ends[TRIAL_PROMOTED];
    result->undecided = ends[TRIAL_UNDECIDED];
}

static void measure(const struct trial *trials, const struct scenario *scenario, struct simulation_result *result)
{
    uint64_t runs = result->runs, aborts = 0, promotions = 0;
    double *values = mem_alloc(4 * runs, sizeof *values);
    double *to_abort = values, *requests = values + runs, *harmed = values + 2 * runs, *to_promote = values + 3 * runs;
    int64_t onset_ms = result->fault == FAULT_NONE ? 0 : scenario->onset_ms;
    for (uint64_t r = 0; r < runs; r++) {
        if (trials[r].end == TRIAL_PROMOTED)
            to_promote[promotions++] = (double)trials[r].ended_ms;
        /* An abort before the fault was there did not catch it. */
        if (!is_abort(&trials[r]) || trials[r].ended_ms < onset_ms)
            continue;
        to_abort[aborts] = (double)(trials[r].ended_ms - onset_ms);
        requests[aborts] = (double)trials[r].canary_requests;
        harmed[aborts++] = trials[r].harmed;
    }
    result->to_abort_ms = spread_of(to_abort, aborts, runs);
    result->canary_requests = spread_of(requests, aborts, runs);
    result->harmed = spread_of(harmed, aborts, runs);
    result->to_promote_ms = spread_of(to_promote, promotions, runs);
    free(values);
}

static struct simulation_result sum_up(const struct trial *trials, const struct scenario *scenario, uint64_t runs)
{
    struct simulation_result result = {.scenario = mem_strdup(scenario->name),
                                       .summary = mem_strdup(scenario->summary),
                                       .rps = scenario->rps,
                                       .error_rate = scenario->error_rate,
                                       .step_ms = scenario->step_ms,
                                       .runs = runs};
    result.fault = scenario_fault(scenario, &result.size);
    count_ends(trials, &result);
    measure(trials, scenario, &result);
    return result;
}

struct simulation *simulate(const struct simulate_setup *setup)
{
    assert(setup->runs >= 1 && setup->threads >= 1);
    uint64_t all = setup->runs * setup->scenario_count;
    struct work work = {setup, mem_alloc(all, sizeof(struct trial))};
    crew_run(&(struct crew){.tasks = all,
                            .threads = setup->threads,
                            .start = open_desk,
                            .run = run_trial,
                            .finish = close_desk,
                            .context = &work,
                            .progress = setup->progress,
                            .progress_context = setup->context});
    struct simulation *simulation = mem_alloc(1, sizeof *simulation);
    simulation->service = mem_strdup(setup->policy->service);
    memcpy(simulation->policy_sha256, setup->policy->sha256, sizeof simulation->policy_sha256);
    simulation->seed = setup->seed;
    simulation->runs = setup->runs;
    simulation->look_ms = setup->policy->look_ms;
    simulation->false_abort_limit = setup->policy->false_abort;
    simulation->false_promote_limit = setup->policy->false_promote;
    simulation->results = mem_alloc(setup->scenario_count, sizeof *simulation->results);
    simulation->count = setup->scenario_count;
    for (size_t s = 0; s < setup->scenario_count; s++)
        simulation->results[s] = sum_up(work.trials + s * setup->runs, &setup->scenarios[s], setup->runs);
    free(work.trials);
    return simulation;
}
