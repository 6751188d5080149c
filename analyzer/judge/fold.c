/*
 * The fold. What may be bet on is decided here, from what was known before the look: its weight, its instances, whether
 * it is warm. Only then are its counts looked at.
 */
#include "analyzer/judge/state.h"

#include "analyzer/model/rollout.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A balancer rounds shares to whole weights. */
static const double traffic_tolerance = 0.05;

static uint32_t planned_looks(const struct policy *policy)
{
    int64_t time_ms = 0;
    for (size_t s = 0; s < policy->step_count; s++)
        if (policy->steps[s].weight_bp <= COMPARED_BP)
            time_ms += policy->steps[s].max_ms;
    int64_t looks = time_ms / policy->look_ms;
    return looks < 10 ? 10 : looks > 100000 ? 100000 : (uint32_t)looks;
}

struct judge *judge_new(const struct policy *policy)
{
    struct judge *judge = mem_alloc(1, sizeof *judge);
    judge->policy = policy;
    judge->service = mem_strdup(policy->service);
    judge->planned_looks = planned_looks(policy);
    judge->step = -1;
    judge->weight_from_ms = INT64_MIN;
    judge->step_since_ms = INT64_MIN;
    judge->first_traffic_ms = INT64_MIN;
    judge->visits = mem_alloc(policy->step_count, sizeof *judge->visits);
    judge->metrics = mem_alloc(policy->metric_count, sizeof *judge->metrics);
    for (size_t m = 0; m < policy->metric_count; m++) {
        judge->metrics[m].policy = &policy->metrics[m];
        judge->metrics[m].crash.rate = NAN;
    }
    judge->kayenta_score = NAN;
    guardrails_init(judge);
    return judge;
}

void judge_free(struct judge *judge)
{
    if (!judge)
        return;
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        struct metric_state *metric = &judge->metrics[m];
        for (size_t c = 0; c < metric->comparison_count; c++)
            free(metric->comparisons[c].looks);
        for (int t = 0; t < TRACKS; t++) {
            free(metric->totals[t].buckets);
            free(metric->instances[t]);
        }
        free(metric->calibration.buckets);
        free(metric->comparisons);
        free(metric->edges);
        gauge_free(metric);
    }
    free(judge->metrics);
    free(judge->guardrails);
    free(judge->visits);
    free(judge->service);
    free(judge);
}

/* Fixes the margins of the metrics of which enough is known. */
static void freeze(struct judge *judge)
{
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        struct metric_state *metric = &judge->metrics[m];
        if (metric->frozen)
            continue;
        metric_freeze(judge, metric);
        metric_widen(metric, margins_scale(judge->policy, judge->step));
    }
}

static void enter_step(struct judge *judge, uint32_t weight_bp, int32_t step)
{
    judge->weight_bp = weight_bp;
    judge->step = step;
    judge->step_since_ms = judge->weight_from_ms;
    if (step >= 0)
        judge->visits[step]++;
    guards_restart_step(judge);
    if (judge_compares(judge))
        traffic_share_init(&judge->traffic, weight_bp / (double)BASIS_POINTS, traffic_tolerance);
    /* Above half of the traffic nothing is proved any more: what the last compared step proved stays on view. */
    if (judge->weight_bp > COMPARED_BP)
        return;
    kayenta_restart_step(judge);
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        metric_restart_step(judge, &judge->metrics[m]);
        metric_widen(&judge->metrics[m], margins_scale(judge->policy, judge->step));
    }
}

static void enter_weight(struct judge *judge, const struct look *look)
{
    bool first = judge->weight_from_ms == INT64_MIN;
    int32_t step = rollout_step_of(judge->policy, look->weight_bp);
    uint32_t weight_bp = step >= 0 ? judge->policy->steps[step].weight_bp : look->weight_bp;
    judge->weight_from_ms = look->weight_from_ms;
    /* The same weight proven again, after somebody had moved it: the step goes on, and so do its proofs. */
    bool entered = first || weight_bp != judge->weight_bp;
    if (entered)
        enter_step(judge, weight_bp, step);
    if (entered || look->weight_bp != judge->balancer.weight_bp)
        balancer_restart_step(judge, look->weight_bp);
    if (weight_bp == 0 || judge->first_traffic_ms != INT64_MIN)
        return;
    judge->first_traffic_ms = look->weight_from_ms;
    freeze(judge);
}

/* The evidence's metric with the name and form of the policy's, or NULL. */
static const struct evidence_metric *find_metric(const struct evidence *evidence, const struct policy_metric *policy,
                                                 size_t *index)
{
    for (size_t m = 0; m < evidence->metric_count; m++) {
        const struct evidence_metric *metric = &evidence->metrics[m];
        if (!metric->guardrail && metric->type == policy->type && strcmp(metric->name, policy->name) == 0) {
            *index = m;
            return metric;
        }
    }
    return NULL;
}

/* The bucket bounds of a metric are known when its first evidence arrives, and never change after it. */
static void learn_edges(struct metric_state *metric, const struct evidence_metric *evidence)
{
    if (metric->policy->type != METRIC_LATENCY || metric->edges)
        return;
    assert(evidence->edge_count <= LATENCY_EDGES);
    metric->edge_count = evidence->edge_count;
    metric->edges = mem_alloc(evidence->edge_count, sizeof *metric->edges);
    memcpy(metric->edges, evidence->edges, evidence->edge_count * sizeof *metric->edges);
    metric->calibration.buckets = mem_alloc(evidence->edge_count, sizeof(uint64_t));
    for (int t = 0; t < TRACKS; t++)
        metric->totals[t].buckets = mem_alloc(evidence->edge_count, sizeof(uint64_t));
}

static void gather(const struct evidence_metric *evidence, const struct evidence_interval *interval, struct arms *arms)
{
    *arms = (struct arms){.named = true};
    for (int t = 0; t < TRACKS; t++) {
        const struct track_counts *track = &interval->tracks[t];
        arms->tracks[t] = track;
        arms->sum[t].buckets = arms->scratch[t];
        for (size_t i = 0; i < track->count; i++) {
            arms->named &= track->instances[i].instance != NULL;
            arms->mean[t] += track->instances[i].value / (double)track->count;
            arms->sum[t].requests += track->instances[i].requests;
            arms->sum[t].failed += track->instances[i].failed;
            for (size_t e = 0; e < evidence->edge_count; e++)
                arms->sum[t].buckets[e] += track->instances[i].buckets[e];
        }
    }
}

/* Whether the set of a track's instances is another one than in the look before. Remembers it. */
static bool instances_changed(struct metric_state *metric, const struct evidence_interval *interval)
{
    bool changed = false;
    for (int t = 0; t < TRACKS; t++) {
        const struct track_counts *track = &interval->tracks[t];
        if (!track->present)
            continue;
        struct strbuf names = {0};
        for (size_t i = 0; i < track->count; i++)
            strbuf_printf(&names, "%s\n", track->instances[i].instance ? track->instances[i].instance : "");
        char *now = strbuf_take(&names);
        changed |= metric->instances[t] && strcmp(metric->instances[t], now) != 0;
        free(metric->instances[t]);
        metric->instances[t] = now;
    }
    return changed;
}

static void learn(struct judge *judge, const struct evidence *evidence, const struct look *look)
{
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        struct metric_state *metric = &judge->metrics[m];
        size_t index;
        const struct evidence_metric *found = find_metric(evidence, metric->policy, &index);
        if (!found || !look->intervals[index] || metric->frozen)
            continue;
        if (metric->policy->type == METRIC_GAUGE) {
            gauge_learn(metric, &look->intervals[index]->tracks[TRACK_STABLE]);
            continue;
        }
        learn_edges(metric, found);
        metric_learn(metric, &look->intervals[index]->tracks[TRACK_STABLE]);
    }
}

static bool is_mixed(const struct judge *judge, const struct look *look)
{
    return look->from_ms < judge->weight_from_ms;
}

/*
 * A look across a change of the split or of the instances compares unequal things: a shared incident would look like
 * harm. Gauges do not tell which instances there were.
 */
static bool is_discarded(struct judge *judge, const struct evidence *evidence, const struct look *look)
{
    bool changed = is_mixed(judge, look);
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        size_t index;
        bool counts = judge->metrics[m].policy->type != METRIC_GAUGE;
        if (counts && find_metric(evidence, judge->metrics[m].policy, &index) && look->intervals[index])
            changed |= instances_changed(&judge->metrics[m], look->intervals[index]);
    }
    return changed;
}

static bool has_both_arms(const struct evidence_interval *interval)
{
    return interval && interval->tracks[TRACK_STABLE].present && interval->tracks[TRACK_CANARY].present;
}

static void bet(struct judge *judge, const struct evidence *evidence, const struct look *look)
{
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        struct metric_state *metric = &judge->metrics[m];
        size_t index;
        const struct evidence_metric *found = find_metric(evidence, metric->policy, &index);
        if (!metric->frozen)
            continue;
        if (!found || !has_both_arms(look->intervals[index])) {
            metric_no_bet(metric);
            continue;
        }
        struct arms arms;
        gather(found, look->intervals[index], &arms);
        metric_bet(judge, metric, &arms);
    }
}

/* By the first metric that counts: a bet or not, a canary without its share is told. */
static void check_share(struct judge *judge, const struct evidence *evidence, const struct look *look)
{
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        const struct metric_state *metric = &judge->metrics[m];
        size_t index;
        const struct evidence_metric *found = find_metric(evidence, metric->policy, &index);
        if (!metric->frozen || metric->policy->type == METRIC_GAUGE || !found || !has_both_arms(look->intervals[index]))
            continue;
        struct arms arms;
        gather(found, look->intervals[index], &arms);
        traffic_share_look(&judge->traffic, arms.sum[TRACK_CANARY].requests, arms.sum[TRACK_STABLE].requests);
        return;
    }
}

static void no_bets(struct judge *judge)
{
    for (size_t m = 0; m < judge->policy->metric_count; m++)
        if (judge->metrics[m].frozen)
            metric_no_bet(&judge->metrics[m]);
}

/* What an ejected server would have got or failed is not in the counts: no bet, but the share is checked. */
static void compare(struct judge *judge, const struct evidence *evidence, const struct look *look)
{
    check_share(judge, evidence, look);
    if (!balancer_ejected(evidence, look)) {
        bet(judge, evidence, look);
        return;
    }
    judge->balancer.ejected_looks++;
    no_bets(judge);
}

/* Whether an interval gives a metric what it needs: the canary, and stable as long as the two are compared. */
static bool gives_data(const struct judge *judge, const struct policy_metric *policy,
                       const struct evidence_interval *interval)
{
    if (!interval || !interval->tracks[TRACK_CANARY].present)
        return false;
    bool zero_for_nan = gauge_is_scored(policy) && policy->kayenta.nan_replace;
    for (int t = 0; t < TRACKS; t++) {
        const struct track_counts *track = &interval->tracks[t];
        if (t == TRACK_STABLE && judge->weight_bp > COMPARED_BP)
            continue;
        if (!track->present)
            return false;
        for (size_t i = 0; i < track->count && policy->type == METRIC_GAUGE && !zero_for_nan; i++)
            if (!isfinite(track->instances[i].value))
                return false;
    }
    return true;
}

static void note_presence(struct judge *judge, const struct evidence *evidence, const struct look *look)
{
    judge->fresh = true;
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        struct metric_state *metric = &judge->metrics[m];
        size_t index;
        const struct evidence_interval *interval =
            find_metric(evidence, metric->policy, &index) ? look->intervals[index] : NULL;
        bool there = gives_data(judge, metric->policy, interval);
        metric->looks_without = there ? 0 : metric->looks_without + 1;
        bool decides = metric->policy->critical || gauge_is_scored(metric->policy);
        if (!there && decides && metric->policy->on_no_data != NO_DATA_IGNORE)
            judge->fresh = false;
    }
}

/* At every weight: a canary that has all the traffic may crash, too. */
static void watch_crashes(struct judge *judge, const struct evidence *evidence, const struct look *look)
{
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        struct metric_state *metric = &judge->metrics[m];
        size_t index;
        const struct evidence_metric *found = find_metric(evidence, metric->policy, &index);
        if (!crash_watches(judge, metric) || !found || !gives_data(judge, metric->policy, look->intervals[index]))
            continue;
        struct arms arms;
        gather(found, look->intervals[index], &arms);
        crash_observe(judge, metric, &arms);
    }
}

static void check_harm(struct judge *judge)
{
    size_t blamed;
    double harm = judge_harm(judge, &blamed);
    if (judge->aborted || harm < judge_harm_needed(judge))
        return;
    judge->aborted = true;
    judge->abort_cause = BECAUSE_HARM;
    judge->blamed = blamed;
    judge->harm_at_abort = harm;
}

void judge_observe(struct judge *judge, const struct evidence *evidence, const struct look *look)
{
    if (look->weight_from_ms != judge->weight_from_ms)
        enter_weight(judge, look);
    if (look->weight_bp == 0) {
        if (judge->first_traffic_ms == INT64_MIN)
            learn(judge, evidence, look);
        return;
    }
    judge->looks++;
    judge->from_ms = judge->looks == 1 ? look->from_ms : judge->from_ms;
    judge->at_ms = look->at_ms;
    bool discarded = is_discarded(judge, evidence, look);
    bool warm = look->from_ms >= judge->first_traffic_ms + judge->policy->warmup_ms;
    note_presence(judge, evidence, look);
    judge->discarded += discarded ? 1 : 0;
    if (judge->weight_bp <= COMPARED_BP && warm && !discarded)
        compare(judge, evidence, look);
    else
        no_bets(judge);
    /* After the bets: a look that froze the margins is never bet on itself. */
    learn(judge, evidence, look);
    freeze(judge);
    gauges_test(judge);
    check_harm(judge);
    if (warm)
        guardrails_observe(judge, evidence, look);
    /* An instance that comes and goes is how a canary crashes. */
    if (warm && !is_mixed(judge, look))
        watch_crashes(judge, evidence, look);
    gauges_score(judge);
    balancer_observe(judge, evidence, look);
}
