/*
 * What is compared, and with which margins, is asked of the judge: it is shown a history with stable's counts and then
 * the first look of the step, and is read. Only the growth of what it would bet is computed here.
 */
#include "analyzer/trials/forecast.h"

#include "analyzer/judge/state.h"
#include "base/memory.h"
#include "stats/plan.h"

#include <math.h>
#include <stdlib.h>

enum { HORIZON_LOOKS = 100000, FEW_REQUESTS = 10 };

/* --- the judge at a step --- */

/* Few counts are taken as many of the same kind: the judge will wait for them, and the wait is counted elsewhere. */
static void add_history(struct evidence *evidence, const struct policy_metric *policy, const struct plan_level *level,
                        int64_t look_ms)
{
    struct evidence_metric *metric =
        evidence_metric(evidence, policy->name, policy->type, level->edges, level->edge_count);
    struct evidence_interval *interval = evidence_add_interval(metric, 0, look_ms);
    struct instance_counts *counts = evidence_add_instance(metric, interval, TRACK_STABLE, NULL);
    uint64_t times = level->at.requests < CALIBRATION_LATENCY ? CALIBRATION_LATENCY / level->at.requests + 1 : 1;
    counts->requests = level->at.requests * times;
    counts->failed = level->at.failed * times;
    for (size_t e = 0; e < level->edge_count; e++)
        counts->buckets[e] = level->at.buckets[e] * times;
    evidence_add_interval(metric, look_ms, 2 * look_ms);
}

struct judge *forecast_judge(const struct policy *policy, const struct plan_traffic *traffic, size_t step)
{
    struct evidence *evidence = evidence_new(policy->service, policy->look_ms);
    evidence_add_weight(evidence, 0, 0);
    evidence_add_weight(evidence, policy->look_ms, policy->steps[step].weight_bp);
    for (size_t m = 0; m < policy->metric_count; m++)
        if (traffic->levels[m].at.requests > 0)
            add_history(evidence, &policy->metrics[m], &traffic->levels[m], policy->look_ms);
    struct judge *judge = judge_new(policy);
    struct look look = {0};
    int64_t after_ms = INT64_MIN;
    while (evidence_next_look(evidence, &after_ms, &look))
        judge_observe(judge, evidence, &look);
    look_free(&look);
    evidence_free(evidence);
    return judge;
}

bool forecast_known(const struct judge *judge, size_t metric)
{
    return judge->metrics[metric].comparison_count > 0;
}

/* --- looks --- */

struct forecast_look forecast_look(const struct policy *policy, const struct plan_traffic *traffic, size_t metric,
                                   size_t step)
{
    double all = traffic->levels[metric].rps * (double)policy->look_ms / 1000;
    double share = (double)policy->steps[step].weight_bp / BASIS_POINTS;
    struct forecast_look look = {.requests = {[TRACK_STABLE] = all * (1 - share), [TRACK_CANARY] = all * share}};
    for (int t = 0; t < TRACKS; t++)
        look.instances[t] = traffic->instances[t];
    return look;
}

uint64_t forecast_lost(const struct policy *policy, const struct plan_traffic *traffic, size_t metric, size_t step)
{
    uint64_t mixed = 1;
    if (step > 0)
        return mixed;
    uint64_t warm = (uint64_t)((policy->warmup_ms + policy->look_ms - 1) / policy->look_ms);
    double needed = policy->metrics[metric].type == METRIC_LATENCY ? CALIBRATION_LATENCY : CALIBRATION_ERRORS;
    double missing = needed - traffic->levels[metric].history;
    double stable = forecast_look(policy, traffic, metric, step).requests[TRACK_STABLE];
    uint64_t unknown = missing > 0 && stable > 0 ? (uint64_t)ceil(missing / stable) : 0;
    return mixed + (warm > unknown ? warm : unknown);
}

/* --- growth --- */

/* The canary's share of the event, when it is worse by `size`. */
static double harmed_share(const struct metric_state *metric, const struct comparison *comparison, double size)
{
    if (metric->policy->type == METRIC_ERRORS)
        return fmin(1, comparison->rate * size);
    if (comparison->fast)
        return (1 - comparison->rate) / latency_fast_ratio(&metric->shape, comparison->edge, size);
    return fmin(1, comparison->rate * latency_slow_ratio(&metric->shape, comparison->edge, size));
}

/* How many requests an arm has in one look, and how probable that is. */
enum { LOOK_SIZES = 32 };
struct look_sizes {
    size_t count;
    uint64_t n[LOOK_SIZES];
    double weight[LOOK_SIZES];
};

/* A few requests come as chance has it, which matters to what they can tell; many are as many as expected. */
static struct look_sizes spread_size(double expected)
{
    struct look_sizes sizes = {0};
    if (expected >= FEW_REQUESTS)
        return (struct look_sizes){1, {(uint64_t)llround(expected)}, {1}};
    double sum = 0, probability = exp(-expected);
    for (uint64_t n = 0; n < LOOK_SIZES; n++) {
        if (probability > 1e-3) {
            sizes.n[sizes.count] = n;
            sizes.weight[sizes.count++] = probability;
            sum += probability;
        }
        probability *= expected / (double)(n + 1);
    }
    for (size_t i = 0; i < sizes.count; i++)
        sizes.weight[i] /= sum;
    return sizes;
}

/* `blocks` 0: the arms as wholes. `share` is the canary's of the event. */
static void grow(const struct comparison *comparison, const struct flip_null *null, const struct forecast_look *look,
                 uint64_t blocks, double share, double growth[FLIP_BETS])
{
    double part = blocks ? (double)look->instances[TRACK_CANARY] / (double)look->instances[TRACK_STABLE] : 1;
    double rate = comparison->fast ? 1 - comparison->rate : comparison->rate;
    struct look_sizes canary = spread_size(look->requests[TRACK_CANARY]);
    struct look_sizes stable = spread_size(look->requests[TRACK_STABLE] * part);
    for (int l = 0; l < FLIP_BETS; l++)
        growth[l] = 0;
    for (size_t c = 0; c < canary.count; c++) {
        for (size_t s = 0; s < stable.count; s++) {
            struct plan_look at = {canary.n[c], stable.n[s], share, rate, *null, blocks, false};
            if (comparison->fast)
                at = (struct plan_look){stable.n[s], canary.n[c], rate, share, *null, blocks, true};
            double one[FLIP_BETS];
            plan_flip_growth(&at, one);
            for (int l = 0; l < FLIP_BETS; l++)
                growth[l] += canary.weight[c] * stable.weight[s] * one[l];
        }
    }
}

/* As the judge makes blocks: as many stable instances in each as the canary has. 0: the arms as wholes. */
static uint64_t block_count(const struct forecast_look *look)
{
    return look->instances[TRACK_CANARY] ? look->instances[TRACK_STABLE] / look->instances[TRACK_CANARY] : 0;
}

static uint64_t prove(const struct judge *judge, const struct metric_state *metric, const struct comparison *comparison,
                      const struct forecast_look *look)
{
    struct flip_null null = {FLIP_NI, comparison->now.ratio, comparison->now.absolute, 0};
    double rate = comparison->fast ? 1 - comparison->rate : comparison->rate;
    if (null.rho * rate + null.delta > 0.8)
        null.form = FLIP_NI_THINNED;
    double growth[1][FLIP_BETS];
    grow(comparison, &null, look, block_count(look),
         harmed_share(metric, comparison, metric->policy->type == METRIC_ERRORS ? 1 : 0), growth[0]);
    struct plan_phase phase = {HORIZON_LOOKS, (const double(*)[FLIP_BETS])growth};
    return plan_looks(&phase, 1, 1, RESTART_NONE, 0, -log(judge->policy->false_promote));
}

uint64_t forecast_proof(const struct judge *judge, size_t m, const struct forecast_look *look)
{
    const struct metric_state *metric = &judge->metrics[m];
    uint64_t slowest = 0;
    for (size_t c = 0; c < metric->comparison_count; c++) {
        if (!metric->comparisons[c].gate)
            continue;
        uint64_t looks = prove(judge, metric, &metric->comparisons[c], look);
        if (looks == 0)
            return 0;
        slowest = looks > slowest ? looks : slowest;
    }
    if (slowest == 0)
        return 0;
    uint64_t least = (uint64_t)ceil(MIN_STEP_CANARY / look->requests[TRACK_CANARY]);
    least = least > MIN_STEP_LOOKS ? least : MIN_STEP_LOOKS;
    return slowest > least ? slowest : least;
}

static bool may_bet(const struct comparison *comparison, const struct forecast_look *look)
{
    const size_t *instances = look->instances;
    if (instances[TRACK_CANARY] > 0 && instances[TRACK_CANARY] > instances[TRACK_STABLE])
        return false;
    return comparison_is_exact(comparison);
}

size_t forecast_bets(const struct judge *judge, size_t m)
{
    size_t bets = 0;
    for (size_t c = 0; c < judge->metrics[m].comparison_count; c++)
        bets += judge->metrics[m].comparisons[c].bets ? 1 : 0;
    return bets;
}

double (*forecast_growth(const struct judge *judge, size_t m, const struct forecast_look *look, double size))[FLIP_BETS]
{
    const struct metric_state *metric = &judge->metrics[m];
    double(*rows)[FLIP_BETS] = mem_alloc(metric->comparison_count + 1, sizeof *rows);
    size_t row = 0;
    for (size_t c = 0; c < metric->comparison_count; c++) {
        const struct comparison *comparison = &metric->comparisons[c];
        if (!comparison->bets)
            continue;
        struct flip_null null = {FLIP_ABORT, comparison->abort_ratio, comparison->abort_absolute, judge_rate_max};
        if (may_bet(comparison, look))
            grow(comparison, &null, look, comparison->fast ? block_count(look) : 0,
                 harmed_share(metric, comparison, size), rows[row]);
        row++;
    }
    return rows;
}
