/*
 * Looks are drawn once and shown to every rule that has not aborted yet; a rollout ends when all of them have, or with
 * the schedule. Thread t makes runs t, t + jobs, ...; each run has a place of its own to write to.
 */
#include "tests/bench/contest.h"

#include "analyzer/judge/judge.h"
#include "analyzer/judge/margins.h"
#include "base/memory.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { JUDGES = RULE_PEERS };

struct stop {
    double delay_ms, canary_requests, harmed; /* INFINITY: none; a delay of 0 or less: before there was a fault */
};

/* --- one rollout --- */

struct course {
    const struct contest *contest;
    struct scenario_draws *draws;
    struct judge *judges[JUDGES];
    struct peers *peers;
    double canary_requests, harmed;
    struct stop *stops; /* RULES of them */
};

static bool is_over(const struct course *course)
{
    for (int r = 0; r < RULES; r++)
        if (course->contest->asked[r] && isinf(course->stops[r].delay_ms))
            return false;
    return true;
}

static void note_stop(struct course *course, int rule)
{
    const struct scenario *scenario = course->contest->scenario;
    double onset_ms = scenario_is_healthy(scenario) ? 0 : (double)scenario->onset_ms;
    double now_ms = (double)scenario_truth(course->draws).since_traffic_ms;
    course->stops[rule] = (struct stop){now_ms - onset_ms, course->canary_requests, course->harmed};
}

static void show_judges(struct course *course, const struct look *look)
{
    for (int j = 0; j < JUDGES; j++) {
        if (!course->contest->asked[j] || !isinf(course->stops[j].delay_ms))
            continue;
        judge_observe(course->judges[j], scenario_evidence(course->draws), look);
        if (judge_standing(course->judges[j]).decision == DECISION_ABORT)
            note_stop(course, j);
    }
}

static void show_peers(struct course *course, const struct look *look, bool ends_step)
{
    peers_look(course->peers, scenario_evidence(course->draws), look, ends_step);
    for (int p = 0; p < PEERS; p++)
        if (isinf(course->stops[RULE_PEERS + p].delay_ms) && peers_abort(course->peers, (enum peer)p))
            note_stop(course, RULE_PEERS + p);
}

static void run_step(struct course *course, uint32_t weight_bp)
{
    const struct contest *contest = course->contest;
    int64_t looks = contest->scenario->step_ms / contest->policy->look_ms;
    scenario_weight(course->draws, weight_bp);
    for (int64_t l = 1; l <= looks && !is_over(course); l++) {
        const struct look *look = scenario_look(course->draws);
        struct scenario_truth truth = scenario_truth(course->draws);
        course->canary_requests += (double)truth.requests[TRACK_CANARY];
        course->harmed += truth.harmed;
        show_judges(course, look);
        show_peers(course, look, l == looks);
    }
}

static void begin(struct course *course, uint64_t run)
{
    const struct contest *contest = course->contest;
    course->judges[RULE_HALDANE] = judge_new(contest->policy);
    course->judges[RULE_HALDANE_ZERO] = judge_new(contest->zero);
    peers_begin(course->peers, contest->ratio);
    course->canary_requests = course->harmed = 0;
    for (int r = 0; r < RULES; r++)
        course->stops[r] = (struct stop){INFINITY, INFINITY, INFINITY};
    scenario_begin(course->draws, contest->seed, run);
    for (int h = 0; h < HISTORY_LOOKS; h++)
        show_judges(course, scenario_look(course->draws));
}

static void run_once(struct course *course, uint64_t run)
{
    const struct policy *policy = course->contest->policy;
    begin(course, run);
    for (unsigned round = 0; round < course->contest->scenario->rounds; round++)
        for (size_t s = 0; s < policy->step_count && policy->steps[s].weight_bp <= COMPARED_BP; s++)
            run_step(course, policy->steps[s].weight_bp);
    for (int j = 0; j < JUDGES; j++)
        judge_free(course->judges[j]);
}

/* --- all of them --- */

struct worker {
    const struct contest *contest;
    struct stop (*stops)[RULES];
    unsigned first;
};

static void *work(void *context)
{
    const struct worker *worker = context;
    const struct contest *contest = worker->contest;
    struct course course = {.contest = contest};
    course.draws = scenario_open(contest->scenario, contest->policy);
    course.peers = peers_new(contest->asked + RULE_PEERS);
    for (uint64_t run = worker->first; run < contest->runs; run += contest->jobs) {
        course.stops = worker->stops[run];
        run_once(&course, run);
    }
    peers_free(course.peers);
    scenario_close(course.draws);
    return NULL;
}

/* The first worker is this thread, and so is every one that the system has no thread for. */
static void run_all(const struct contest *contest, struct stop (*stops)[RULES])
{
    struct worker *workers = mem_alloc(contest->jobs, sizeof *workers);
    pthread_t *threads = mem_alloc(contest->jobs, sizeof *threads);
    bool *started = mem_alloc(contest->jobs, sizeof *started);
    for (unsigned j = 0; j < contest->jobs; j++) {
        workers[j] = (struct worker){contest, stops, j};
        started[j] = j > 0 && pthread_create(&threads[j], NULL, work, &workers[j]) == 0;
    }
    for (unsigned j = 0; j < contest->jobs; j++) {
        if (started[j])
            pthread_join(threads[j], NULL);
        else
            work(&workers[j]);
    }
    free(started);
    free(threads);
    free(workers);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double values[], uint64_t count)
{
    if (count == 0)
        return NAN;
    qsort(values, count, sizeof *values, by_size);
    double middle = values[(count - 1) / 2];
    return isinf(middle) ? NAN : middle;
}

static struct contest_result sum_up(struct stop (*stops)[RULES], int rule, uint64_t runs)
{
    struct contest_result result = {0};
    double *values = mem_alloc(3 * runs, sizeof *values);
    double *delays = values, *requests = values + runs, *harmed = values + 2 * runs;
    for (uint64_t r = 0; r < runs; r++) {
        const struct stop *stop = &stops[r][rule];
        if (stop->delay_ms <= 0)
            continue;
        result.aborts += !isinf(stop->delay_ms);
        delays[result.runs] = stop->delay_ms;
        requests[result.runs] = stop->canary_requests;
        harmed[result.runs++] = stop->harmed;
    }
    result.delay_ms = median(delays, result.runs);
    result.canary_requests = median(requests, result.runs);
    result.harmed = median(harmed, result.runs);
    free(values);
    return result;
}

void contest_run(const struct contest *contest, struct contest_result results[RULES])
{
    assert(contest->runs >= 1 && contest->jobs >= 1 && contest->scenario->step_ms > 0);
    struct stop(*stops)[RULES] = mem_alloc(contest->runs, sizeof *stops);
    run_all(contest, stops);
    for (int r = 0; r < RULES; r++)
        results[r] = sum_up(stops, r, contest->runs);
    free(stops);
}
