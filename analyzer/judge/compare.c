/*
 * One metric's comparisons: which events are compared is frozen once from stable alone, before anything is bet on; then
 * each look adds one e-value per comparison and purpose.
 *
 * Arm X is the one that has too many of the event when the canary does harm: the canary for failures and slow requests,
 * stable for fast ones.
 */
#include "analyzer/judge/state.h"

#include "base/memory.h"
#include "stats/flip.h"
#include "stats/logmath.h"
#include "stats/lr.h"
#include "stats/share.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where a boundary tells anything at all, and where it may bet for abort: docs/statistics.md, "Latency". */
static const double informative_low = 0.0005, informative_high = 0.98, fast_high = 0.95;
const double judge_rate_max = 0.1;
/*
 * The canary's requests among all, up to which FLIP and SHARE bet: half, a little more, and what the chance of a random
 * split adds in a look of few requests (four standard deviations).
 */
static const double share_most = 0.52, split_chance = 2;
static const double pods_apart = 1.25; /* traffic per instance of the arms, up to which instances are alike */

/* --- calibration --- */

static void add_counts(struct instance_counts *sum, const struct instance_counts *counts, size_t edges)
{
    sum->requests += counts->requests;
    sum->failed += counts->failed;
    for (size_t e = 0; e < edges; e++)
        sum->buckets[e] += counts->buckets[e];
}

static void begin_proof(const struct judge *judge, struct comparison *comparison)
{
    bool independent = judge->policy->exchangeable == EXCHANGEABLE_REQUESTS;
    mixture_init(&comparison->safe, independent ? LR_NI_BETS : FLIP_BETS, RESTART_NONE, 0);
}

static struct comparison *add_comparison(const struct judge *judge, struct metric_state *metric)
{
    metric->comparisons = mem_resize(metric->comparisons, metric->comparison_count + 1, sizeof *metric->comparisons);
    struct comparison *comparison = &metric->comparisons[metric->comparison_count++];
    *comparison = (struct comparison){.bets = true};
    mixture_init(&comparison->harm, FLIP_BETS, RESTART_TAIL, judge->planned_looks);
    mixture_init(&comparison->hold, LR_BETS, RESTART_TAIL, judge->planned_looks);
    mixture_init(&comparison->share, SHARE_BETS, RESTART_TAIL, judge->planned_looks);
    begin_proof(judge, comparison);
    return comparison;
}

static void freeze_errors(const struct judge *judge, struct metric_state *metric)
{
    const struct policy_metric *policy = metric->policy;
    struct comparison *comparison = add_comparison(judge, metric);
    comparison->gate = true;
    comparison->rate = ((double)metric->calibration.failed + 0.5) / ((double)metric->calibration.requests + 1);
    comparison->abort_ratio = policy->abort_ratio;
    comparison->abort_absolute = policy->abort_absolute;
    comparison->full = (struct margin){policy->promote_ratio, policy->promote_absolute};
}

static void add_boundary(const struct judge *judge, struct metric_state *metric, size_t i)
{
    const struct latency_shape *shape = &metric->shape;
    double slow = shape->slow[i];
    if (slow < informative_low || slow > informative_high)
        return;
    bool fast = slow > 0.5;
    double (*ratio)(const struct latency_shape *, size_t, double) = fast ? latency_fast_ratio : latency_slow_ratio;
    double abort_ratio = ratio(shape, i, metric->policy->abort_slower);
    double promote_ratio = ratio(shape, i, metric->policy->promote_slower);
    /* With fewer than two edges there is no curve to tell what "slower" does at one of them. */
    if (!isfinite(abort_ratio) || !isfinite(promote_ratio))
        return;
    struct comparison *comparison = add_comparison(judge, metric);
    comparison->edge = i;
    comparison->rate = slow;
    comparison->fast = fast;
    comparison->bets = slow <= fast_high;
    comparison->abort_ratio = abort_ratio;
    comparison->full = (struct margin){promote_ratio, 0};
}

static double logit(double p)
{
    return log(p / (1 - p));
}

static void choose_gates(struct metric_state *metric)
{
    for (size_t q = 0; q < metric->policy->quantile_count; q++) {
        double target = logit(1 - metric->policy->quantiles[q]);
        struct comparison *nearest = NULL;
        for (size_t c = 0; c < metric->comparison_count; c++) {
            struct comparison *comparison = &metric->comparisons[c];
            if (!nearest || fabs(logit(comparison->rate) - target) < fabs(logit(nearest->rate) - target))
                nearest = comparison;
        }
        if (nearest)
            nearest->gate = true;
    }
}

static void freeze_latency(const struct judge *judge, struct metric_state *metric)
{
    if (!latency_shape_init(&metric->shape, metric->edges, metric->calibration.buckets, metric->edge_count))
        return;
    for (size_t i = 0; i < metric->shape.edges; i++)
        add_boundary(judge, metric, i);
    choose_gates(metric);
}

void metric_learn(struct metric_state *metric, const struct track_counts *stable)
{
    for (size_t i = 0; i < stable->count; i++)
        add_counts(&metric->calibration, &stable->instances[i], metric->edge_count);
}

void metric_freeze(const struct judge *judge, struct metric_state *metric)
{
    if (metric->frozen)
        return;
    if (metric->policy->type == METRIC_GAUGE) {
        gauge_freeze(judge, metric);
        return;
    }
    bool latency = metric->policy->type == METRIC_LATENCY;
    if (metric->calibration.requests < (latency ? CALIBRATION_LATENCY : CALIBRATION_ERRORS))
        return;
    if (latency)
        freeze_latency(judge, metric);
    else
        freeze_errors(judge, metric);
    metric->frozen = true;
}

void metric_widen(struct metric_state *metric, double scale)
{
    for (size_t c = 0; c < metric->comparison_count; c++) {
        struct comparison *comparison = &metric->comparisons[c];
        comparison->now = comparison->fast ? margins_widen_fast(comparison->full, scale)
                                           : margins_widen(comparison->full, scale, comparison->rate);
    }
}

void metric_restart_step(const struct judge *judge, struct metric_state *metric)
{
    for (size_t c = 0; c < metric->comparison_count; c++)
        begin_proof(judge, &metric->comparisons[c]);
    gauge_restart_step(metric);
    metric->step_looks = 0;
    metric->step_canary = 0;
    metric->step_unblocked = false;
}

/* --- bets --- */

struct events {
    uint64_t k, n;
};

static struct events count_events(const struct metric_state *metric, const struct comparison *comparison,
                                  const struct instance_counts *counts)
{
    if (metric->policy->type == METRIC_ERRORS)
        return (struct events){counts->failed, counts->requests};
    /* The shape leaves out boundaries at or below zero, so its index is found again by value. */
    double edge = metric->shape.edge[comparison->edge];
    uint64_t fast = 0;
    for (size_t e = 0; e < metric->edge_count && metric->edges[e] <= edge; e++)
        fast += counts->buckets[e];
    return (struct events){comparison->fast ? fast : counts->requests - fast, counts->requests};
}

static struct flip_counts flip_counts(const struct comparison *comparison, struct events canary, struct events stable)
{
    if (comparison->fast)
        return (struct flip_counts){stable.k, stable.n, canary.k, canary.n};
    return (struct flip_counts){canary.k, canary.n, stable.k, stable.n};
}

/*
 * Blocks of stable instances, as many in each as the canary has: comparing the canary with blocks of its own size keeps
 * the arms equally noisy. Averages over blocks stay e-values.
 */
static size_t block_count(const struct arms *arms)
{
    if (!arms->named || arms->tracks[TRACK_CANARY]->count == 0)
        return 0;
    return arms->tracks[TRACK_STABLE]->count / arms->tracks[TRACK_CANARY]->count;
}

static struct events block_events(const struct metric_state *metric, const struct comparison *comparison,
                                  const struct arms *arms, size_t block)
{
    size_t size = arms->tracks[TRACK_CANARY]->count;
    struct events sum = {0, 0};
    for (size_t i = block * size; i < (block + 1) * size; i++) {
        struct events one = count_events(metric, comparison, &arms->tracks[TRACK_STABLE]->instances[i]);
        sum.k += one.k;
        sum.n += one.n;
    }
    return sum;
}

static void flip_blocks(const struct metric_state *metric, const struct comparison *comparison, const struct arms *arms,
                        const struct flip_null *null, double log_e[FLIP_BETS])
{
    size_t blocks = block_count(arms);
    struct events canary = count_events(metric, comparison, &arms->sum[TRACK_CANARY]);
    for (int l = 0; l < FLIP_BETS; l++)
        log_e[l] = -INFINITY;
    for (size_t b = 0; b < blocks; b++) {
        struct flip_counts counts = flip_counts(comparison, canary, block_events(metric, comparison, arms, b));
        double one[FLIP_BETS];
        flip_log_e(&counts, null, one);
        for (int l = 0; l < FLIP_BETS; l++)
            log_e[l] = log_add_exp(log_e[l], one[l] - log((double)blocks));
    }
}

/* The canary must be the smaller arm: a larger one is the less noisy, and then bursts look like harm. */
static bool canary_is_smaller(struct judge *judge, const struct arms *arms)
{
    if (arms->named && arms->tracks[TRACK_CANARY]->count > arms->tracks[TRACK_STABLE]->count) {
        judge->too_many_canaries = true;
        return false;
    }
    double canary = (double)arms->sum[TRACK_CANARY].requests;
    double all = canary + (double)arms->sum[TRACK_STABLE].requests;
    bool smaller = canary <= share_most * all + split_chance * sqrt(all);
    judge->too_much_canary |= !smaller;
    return smaller;
}

bool comparison_is_exact(const struct comparison *comparison)
{
    return !(comparison->abort_absolute > 0 && comparison->rate > judge_rate_max / 2);
}

static bool may_bet_on_harm(struct judge *judge, const struct comparison *comparison, const struct arms *arms)
{
    if (!comparison->bets || (comparison->fast && block_count(arms) == 0) || !canary_is_smaller(judge, arms))
        return false;
    judge->rate_too_high |= !comparison_is_exact(comparison);
    return comparison_is_exact(comparison);
}

static void bet_harm(struct judge *judge, const struct metric_state *metric, struct comparison *comparison,
                     const struct arms *arms, struct events canary, struct events stable)
{
    if (!may_bet_on_harm(judge, comparison, arms)) {
        mixture_look(&comparison->harm, NULL);
        return;
    }
    struct flip_null null = {FLIP_ABORT, comparison->abort_ratio, comparison->abort_absolute, judge_rate_max};
    double log_e[FLIP_BETS];
    if (comparison->fast) {
        flip_blocks(metric, comparison, arms, &null, log_e);
    } else {
        struct flip_counts counts = flip_counts(comparison, canary, stable);
        flip_log_e(&counts, &null, log_e);
    }
    mixture_look(&comparison->harm, log_e);
}

/* SHARE takes an instance's bursts to be as likely as another's; that needs instances with about the same traffic. */
static bool pods_are_equal(struct judge *judge, const struct arms *arms)
{
    const struct track_counts *const *tracks = arms->tracks;
    if (!arms->named || tracks[TRACK_CANARY]->count == 0 || tracks[TRACK_STABLE]->count == 0)
        return false;
    double canary = (double)arms->sum[TRACK_CANARY].requests / (double)tracks[TRACK_CANARY]->count;
    double stable = (double)arms->sum[TRACK_STABLE].requests / (double)tracks[TRACK_STABLE]->count;
    bool equal = canary <= pods_apart * stable && stable <= pods_apart * canary;
    judge->unequal_pods |= !equal;
    return equal;
}

static void bet_share(struct judge *judge, struct comparison *comparison, const struct arms *arms, struct events canary,
                      struct events stable)
{
    bool may = comparison->bets && comparison->abort_absolute <= 0 && canary_is_smaller(judge, arms) &&
               pods_are_equal(judge, arms);
    if (!may) {
        mixture_look(&comparison->share, NULL);
        return;
    }
    struct flip_counts c = flip_counts(comparison, canary, stable);
    double log_e[SHARE_BETS];
    share_log_e_all(c.k_x, c.n_x, c.k_y, c.n_y, comparison->abort_ratio, log_e);
    mixture_look(&comparison->share, log_e);
}

static void bet_hold(struct comparison *comparison, struct events canary, struct events stable)
{
    struct flip_counts c = flip_counts(comparison, canary, stable);
    double log_e[LR_BETS];
    for (int g = 0; g < LR_BETS; g++)
        log_e[g] =
            lr_log_e(c.k_x, c.n_x, c.k_y, c.n_y, comparison->abort_ratio, comparison->abort_absolute, lr_ratios[g]);
    mixture_look(&comparison->hold, log_e);
}

/* What the policy's `exchangeable` says may be swapped decides which e-values there are. */
static void bet_against(struct judge *judge, const struct metric_state *metric, struct comparison *comparison,
                        const struct arms *arms, struct events canary, struct events stable)
{
    switch (judge->policy->exchangeable) {
    case EXCHANGEABLE_LOOKS:
        bet_harm(judge, metric, comparison, arms, canary, stable);
        bet_hold(comparison, canary, stable);
        return;
    case EXCHANGEABLE_PODS:
        bet_harm(judge, metric, comparison, arms, canary, stable);
        bet_share(judge, comparison, arms, canary, stable);
        return;
    case EXCHANGEABLE_REQUESTS:
        bet_hold(comparison, canary, stable);
    }
}

static void bet_safe_independent(struct comparison *comparison, const struct flip_counts *c)
{
    double log_e[LR_NI_BETS];
    for (int a = 0; a < LR_NI_BETS; a++)
        log_e[a] =
            lr_ni_log_e(c->k_x, c->n_x, c->k_y, c->n_y, comparison->now.ratio, comparison->now.absolute, lr_ni_bets[a]);
    mixture_look(&comparison->safe, log_e);
}

static void bet_safe(const struct judge *judge, const struct metric_state *metric, struct comparison *comparison,
                     const struct arms *arms, struct events canary, struct events stable)
{
    struct flip_counts counts = flip_counts(comparison, canary, stable);
    if (judge->policy->exchangeable == EXCHANGEABLE_REQUESTS) {
        bet_safe_independent(comparison, &counts);
        return;
    }
    struct flip_null null = {FLIP_NI, comparison->now.ratio, comparison->now.absolute, judge_rate_max};
    double rate = comparison->fast ? 1 - comparison->rate : comparison->rate;
    if (null.rho * rate + null.delta > 0.8)
        null.form = FLIP_NI_THINNED;
    double log_e[FLIP_BETS];
    if (block_count(arms) > 0)
        flip_blocks(metric, comparison, arms, &null, log_e);
    else
        flip_log_e(&counts, &null, log_e);
    mixture_look(&comparison->safe, log_e);
}

static void remember(struct comparison *comparison, struct events canary, struct events stable)
{
    comparison->looks =
        mem_grow(comparison->looks, comparison->look_count, &comparison->look_room, sizeof *comparison->looks);
    comparison->looks[comparison->look_count++] = (struct look_counts){canary.k, canary.n, stable.k, stable.n};
}

void metric_bet(struct judge *judge, struct metric_state *metric, const struct arms *arms)
{
    if (metric->policy->type == METRIC_GAUGE) {
        gauge_bet(metric, arms);
        return;
    }
    for (size_t c = 0; c < metric->comparison_count; c++) {
        struct comparison *comparison = &metric->comparisons[c];
        struct events canary = count_events(metric, comparison, &arms->sum[TRACK_CANARY]);
        struct events stable = count_events(metric, comparison, &arms->sum[TRACK_STABLE]);
        bet_against(judge, metric, comparison, arms, canary, stable);
        if (comparison->gate)
            bet_safe(judge, metric, comparison, arms, canary, stable);
        remember(comparison, canary, stable);
    }
    for (int t = 0; t < TRACKS; t++)
        add_counts(&metric->totals[t], &arms->sum[t], metric->edge_count);
    if (arms->sum[TRACK_CANARY].requests && arms->sum[TRACK_STABLE].requests) {
        metric->step_looks++;
        metric->step_canary += arms->sum[TRACK_CANARY].requests;
        metric->step_unblocked |= block_count(arms) == 0 && judge->policy->exchangeable != EXCHANGEABLE_REQUESTS;
    }
    judge->no_names |= !arms->named && judge->policy->exchangeable != EXCHANGEABLE_REQUESTS;
}

void metric_no_bet(struct metric_state *metric)
{
    for (size_t c = 0; c < metric->comparison_count; c++) {
        mixture_look(&metric->comparisons[c].harm, NULL);
        mixture_look(&metric->comparisons[c].hold, NULL);
        mixture_look(&metric->comparisons[c].share, NULL);
        mixture_look(&metric->comparisons[c].safe, NULL);
    }
    if (metric->policy->type == METRIC_GAUGE)
        gauge_no_bet(metric);
}

/* --- evidence --- */

double comparison_harm(const struct judge *judge, const struct comparison *comparison)
{
    switch (judge->policy->exchangeable) {
    case EXCHANGEABLE_LOOKS:
        break;
    case EXCHANGEABLE_PODS: /* ROB: the average of two e-processes is one again */
        return log_add_exp(mixture_log_e(&comparison->harm), mixture_log_e(&comparison->share)) - M_LN2;
    case EXCHANGEABLE_REQUESTS:
        return mixture_log_e(&comparison->hold);
    }
    return mixture_log_e(&comparison->harm);
}

static double comparison_hold(const struct judge *judge, const struct comparison *comparison)
{
    bool pods = judge->policy->exchangeable == EXCHANGEABLE_PODS;
    return mixture_log_e(pods ? &comparison->share : &comparison->hold);
}

double metric_harm(const struct judge *judge, const struct metric_state *metric)
{
    if (metric->policy->type == METRIC_GAUGE)
        return gauge_harm(metric);
    double sum = -INFINITY;
    size_t bets = 0;
    for (size_t c = 0; c < metric->comparison_count; c++) {
        if (!metric->comparisons[c].bets)
            continue;
        sum = log_add_exp(sum, comparison_harm(judge, &metric->comparisons[c]));
        bets++;
    }
    return bets ? sum - log((double)bets) : 0;
}

double metric_hold(const struct judge *judge, const struct metric_state *metric)
{
    if (metric->policy->type == METRIC_GAUGE)
        return gauge_harm(metric);
    double sum = -INFINITY;
    for (size_t c = 0; c < metric->comparison_count; c++)
        sum = log_add_exp(sum, comparison_hold(judge, &metric->comparisons[c]));
    return metric->comparison_count ? sum - log((double)metric->comparison_count) : 0;
}

double metric_safe(const struct metric_state *metric)
{
    double weakest = INFINITY;
    for (size_t c = 0; c < metric->comparison_count; c++)
        if (metric->comparisons[c].gate)
            weakest = fmin(weakest, mixture_log_e(&metric->comparisons[c].safe));
    return isinf(weakest) ? -INFINITY : weakest;
}

double judge_harm(const struct judge *judge, size_t *blamed)
{
    double sum = -INFINITY, worst = -INFINITY;
    *blamed = 0;
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        double budget = judge->policy->metrics[m].budget;
        bool gauge = judge->policy->metrics[m].type == METRIC_GAUGE;
        /* Between bets a gauge counts for nothing, not even for what it had: docs/statistics.md, "Gauges". */
        if (!(budget > 0) || (gauge && !gauge_is_settled(&judge->metrics[m])))
            continue;
        double share = log(budget) + metric_harm(judge, &judge->metrics[m]);
        sum = log_add_exp(sum, share);
        if (share > worst) {
            worst = share;
            *blamed = m;
        }
    }
    return isinf(sum) ? 0 : sum;
}

double judge_weight(const struct judge *judge, size_t m)
{
    const struct policy *policy = judge->policy;
    double with_budget = 0, all = (double)policy->metric_count;
    for (size_t i = 0; i < policy->metric_count; i++)
        with_budget += policy->metrics[i].budget > 0 ? 1 : 0;
    /* Metrics without a budget have an even share each, and the others divide the rest as the budget. */
    return policy->metrics[m].budget > 0 ? policy->metrics[m].budget * with_budget / all : 1 / all;
}

double judge_hold(const struct judge *judge, size_t *suspect)
{
    double sum = -INFINITY, worst = -INFINITY;
    *suspect = 0;
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        double share = log(judge_weight(judge, m)) + metric_hold(judge, &judge->metrics[m]);
        sum = log_add_exp(sum, share);
        if (share > worst) {
            worst = share;
            *suspect = m;
        }
    }
    return sum;
}

/* The i-th visit of a step has false_promote * 6 / (pi^2 i^2) from the second on, so that all visits sum to a bound. */
double judge_safe_needed(const struct judge *judge)
{
    double visit = judge->step < 0 ? 1 : judge->visits[judge->step];
    double needed = -log(judge->policy->false_promote);
    return visit > 1 ? needed + log(M_PI * M_PI * visit * visit / 6) : needed;
}
