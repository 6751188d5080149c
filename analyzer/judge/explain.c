/*
 * From state to verdict: the decision, and the sentences that say why. The order in decide() is the order of what
 * matters to users: harm, then doubt, then proof, then time.
 */
#include "analyzer/judge/state.h"

#include "analyzer/model/format.h"
#include "base/memory.h"
#include "stats/quantile.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MIN_STEP_LOOKS = 4, MIN_STEP_CANARY = 30, STALE_LOOKS = 2 };

static const double display_alpha = 0.05; /* of the intervals that are shown */

static double log10_of(double ln)
{
    return ln / log(10);
}

static double ln_needed(double bound)
{
    return log(1 / bound);
}

/* --- effects --- */

/* The gate of the highest quantile, so that a plot over time shows one thing; the worst boundary once harm is shown. */
static const struct comparison *shown_comparison(const struct judge *judge, const struct metric_state *metric)
{
    bool harmed = judge->aborted && &judge->metrics[judge->blamed] == metric;
    const struct comparison *shown = NULL;
    for (size_t c = 0; c < metric->comparison_count; c++) {
        const struct comparison *comparison = &metric->comparisons[c];
        if (harmed) {
            if (comparison->bets && (!shown || mixture_log_e(&comparison->harm) > mixture_log_e(&shown->harm)))
                shown = comparison;
        } else if (comparison->gate) {
            shown = comparison;
        }
    }
    return shown;
}

/* A ratio of event counts as a ratio of latencies; a fast event runs the other way. */
static double as_slower(const struct metric_state *metric, const struct comparison *comparison, double ratio)
{
    if (isnan(ratio))
        return NAN;
    if (comparison->fast)
        return ratio <= 0 ? INFINITY : 1 + latency_tau_of_fast_ratio(&metric->shape, comparison->edge, ratio);
    if (ratio <= 0)
        return 0;
    /* More than all requests cannot be slow: beyond that the ratio says nothing about how much slower. */
    if (ratio * comparison->rate >= 1)
        return INFINITY;
    return 1 + latency_tau_of_slow_ratio(&metric->shape, comparison->edge, ratio);
}

static struct effect effect_of(const struct judge *judge, const struct metric_state *metric, enum judge_effects effects)
{
    struct effect effect = {.kind = metric->policy->type == METRIC_ERRORS ? "ratio" : "slower",
                            .method = "lr",
                            .estimate = NAN,
                            .lower = NAN,
                            .upper = NAN,
                            .confidence = 1 - display_alpha,
                            .at_edge = NAN};
    const struct comparison *comparison = shown_comparison(judge, metric);
    if (!comparison || comparison->look_count == 0)
        return effect;
    struct confseq ratio;
    confseq_ratio_lr(comparison->looks, comparison->look_count, display_alpha, &ratio);
    if (effects == EFFECTS_ROBUST) {
        struct confseq robust;
        confseq_ratio_flip(comparison->looks, comparison->look_count, display_alpha, &robust);
        /* A few looks are too few for it to say anything. */
        if (robust.lower > 0 || isfinite(robust.upper)) {
            ratio = robust;
            effect.method = "flip";
        }
    }
    effect.estimate = ratio.estimate;
    effect.lower = ratio.lower;
    effect.upper = ratio.upper;
    if (metric->policy->type == METRIC_LATENCY) {
        effect.at_edge = metric->shape.edge[comparison->edge];
        effect.estimate = as_slower(metric, comparison, ratio.estimate);
        effect.lower = as_slower(metric, comparison, comparison->fast ? ratio.upper : ratio.lower);
        effect.upper = as_slower(metric, comparison, comparison->fast ? ratio.lower : ratio.upper);
    }
    return effect;
}

/* --- one metric --- */

static bool has_data(const struct metric_state *metric)
{
    return metric->looks_without <= STALE_LOOKS;
}

static bool is_proven(const struct judge *judge, const struct metric_state *metric)
{
    return metric_safe(metric) >= judge_safe_needed(judge) && metric->step_looks >= MIN_STEP_LOOKS &&
           metric->step_canary >= MIN_STEP_CANARY;
}

static bool is_gating(const struct metric_state *metric)
{
    if (!metric->policy->critical)
        return false;
    return metric->policy->on_no_data != NO_DATA_IGNORE || has_data(metric);
}

static bool compares(const struct judge *judge)
{
    return judge->weight_bp > 0 && judge->weight_bp <= COMPARED_BP;
}

static bool step_is_over(const struct judge *judge)
{
    return compares(judge) && judge->step >= 0 &&
           judge->at_ms - judge->step_since_ms >= judge->policy->steps[judge->step].max_ms;
}

static enum metric_status status_of(const struct judge *judge, size_t m)
{
    const struct metric_state *metric = &judge->metrics[m];
    double own = metric->policy->critical ? metric->policy->budget : 1;
    if (judge->aborted && judge->blamed == m)
        return METRIC_HARMED;
    if (own > 0 && metric_harm(metric) + log(own) >= ln_needed(judge->policy->false_abort))
        return METRIC_HARMED;
    if (!has_data(metric))
        return metric->policy->on_no_data == NO_DATA_IGNORE ? METRIC_IGNORED : METRIC_NO_DATA;
    if (judge->weight_bp > 0 && is_proven(judge, metric))
        return METRIC_SAFE;
    return step_is_over(judge) ? METRIC_EXPIRED : METRIC_UNDECIDED;
}

static char *margin_text(const struct metric_verdict *metric, bool abort)
{
    char a[FORMAT_TEXT], b[FORMAT_TEXT];
    double ratio = abort ? metric->abort_ratio : metric->promote_ratio;
    double absolute = abort ? metric->abort_absolute : metric->promote_absolute;
    if (metric->type == METRIC_LATENCY)
        return mem_strdup(format_share(abort ? metric->abort_slower : metric->promote_slower, a));
    if (absolute > 0)
        return mem_printf("%s + %s", format_limit(ratio, a), format_share(absolute, b));
    return mem_strdup(format_limit(ratio, a));
}

static char *effect_text(const struct judge *judge, const struct metric_verdict *metric)
{
    char ratio[FORMAT_TEXT], interval[FORMAT_TEXT], count[FORMAT_TEXT], edge[FORMAT_TEXT], share[FORMAT_TEXT];
    const struct effect *effect = &metric->effect;
    format_interval(effect->lower, effect->upper, interval);
    format_share(effect->confidence, share);
    format_count(metric->arms[TRACK_CANARY].requests, count);
    if (metric->type == METRIC_ERRORS && metric->arms[TRACK_STABLE].failed == 0)
        return mem_printf("%s canary had %" PRIu64 " of %s requests fail, stable none of %s", judge->service,
                          metric->arms[TRACK_CANARY].failed, count,
                          format_count(metric->arms[TRACK_STABLE].requests, ratio));
    if (metric->type == METRIC_ERRORS)
        return mem_printf("%s canary fails %s as often as stable (%s at %s, %s canary requests)", judge->service,
                          format_ratio(effect->estimate, ratio), interval, share, count);
    return mem_printf("%s canary takes %s as long as stable (%s at %s, read at %s, %s canary requests)", judge->service,
                      format_ratio(effect->estimate, ratio), interval, share, format_latency(effect->at_edge, edge),
                      count);
}

/* Why a metric has nothing to say yet, or NULL if it has. */
static char *silence_text(const struct judge *judge, const struct metric_state *metric)
{
    char text[FORMAT_TEXT], want[FORMAT_TEXT];
    if (!has_data(metric))
        return mem_printf("no data for the last %" PRIu64 " looks: is the canary up, and does Prometheus scrape it?",
                          metric->looks_without);
    if (!metric->frozen)
        return mem_printf("learning stable's normal level: %s requests so far, %s needed",
                          format_count(metric->calibration.requests, text),
                          format_count(metric->policy->type == METRIC_LATENCY ? 1000 : 100, want));
    if (metric->comparison_count == 0)
        return mem_strdup("no bucket boundary lies where stable's requests are: give the histogram buckets between the "
                          "fastest and the slowest 0.1 % of requests");
    if (metric->totals[TRACK_CANARY].requests == 0)
        return mem_printf("no comparison yet: warm-up is %s", format_span(judge->policy->warmup_ms, text));
    return NULL;
}

static char *metric_reason(const struct judge *judge, const struct metric_state *state,
                           const struct metric_verdict *metric)
{
    char *silence = metric->status == METRIC_HARMED ? NULL : silence_text(judge, state);
    if (silence)
        return silence;
    if (judge->weight_bp > COMPARED_BP && metric->status != METRIC_HARMED)
        return mem_strdup(metric->status == METRIC_SAFE
                              ? "shown to be within its margin; stable has too little traffic left to compare with"
                              : "not compared: stable has too little of the traffic");
    char *effect = effect_text(judge, metric);
    char *accepted = margin_text(metric, true), *promoted = margin_text(metric, false);
    const char *more = metric->type == METRIC_LATENCY ? " more" : "";
    char *text;
    switch (metric->status) {
    case METRIC_HARMED:
        text = mem_printf("%s; the policy accepts %s%s", effect, accepted, more);
        break;
    case METRIC_SAFE:
        text = mem_printf("%s; any harm is shown to be below %s%s", effect, promoted, more);
        break;
    default: {
        double part = fmax(0, fmin(1, metric->evidence.safe / metric->evidence.safe_needed));
        text = mem_printf("%s; %.0f %% of the proof that it is below %s%s", effect, floor(100 * part), promoted, more);
    }
    }
    free(effect);
    free(accepted);
    free(promoted);
    return text;
}

static void summarize_arm(const struct metric_state *state, enum track track, struct metric_verdict *metric)
{
    const struct instance_counts *total = &state->totals[track];
    struct arm_summary *arm = &metric->arms[track];
    arm->present = total->requests > 0;
    if (!arm->present)
        return;
    arm->requests = total->requests;
    arm->failed = total->failed;
    arm->rate = (double)total->failed / (double)total->requests;
    if (metric->type != METRIC_LATENCY)
        return;
    arm->buckets = mem_alloc(state->edge_count, sizeof *arm->buckets);
    memcpy(arm->buckets, total->buckets, state->edge_count * sizeof *arm->buckets);
    for (size_t q = 0; q < metric->quantile_count; q++)
        arm->quantiles[q] = bucket_quantile(metric->quantiles[q], state->edges, arm->buckets, state->edge_count);
}

/* What the gates of a latency metric really rule out at this step: the widest of their margins, as "slower". */
static double widened_slower(const struct metric_state *state)
{
    double widest = state->policy->promote_slower;
    for (size_t c = 0; c < state->comparison_count; c++) {
        const struct comparison *gate = &state->comparisons[c];
        if (!gate->gate || !(gate->now.ratio > gate->full.ratio))
            continue;
        double slower = gate->fast ? latency_tau_of_fast_ratio(&state->shape, gate->edge, 1 / gate->now.ratio)
                                   : latency_tau_of_slow_ratio(&state->shape, gate->edge, gate->now.ratio);
        widest = fmax(widest, slower);
    }
    return widest;
}

static void summarize_margins(const struct metric_state *state, struct metric_verdict *metric)
{
    const struct policy_metric *policy = state->policy;
    metric->abort_ratio = policy->abort_ratio;
    metric->abort_absolute = policy->abort_absolute;
    metric->abort_slower = policy->abort_slower;
    metric->promote_slower = metric->type == METRIC_LATENCY ? widened_slower(state) : policy->promote_slower;
    metric->promote_ratio = policy->promote_ratio;
    metric->promote_absolute = policy->promote_absolute;
    if (metric->type == METRIC_ERRORS && state->comparison_count) {
        metric->promote_ratio = state->comparisons[0].now.ratio;
        metric->promote_absolute = state->comparisons[0].now.absolute;
    }
}

static void summarize_metric(const struct judge *judge, size_t m, enum judge_effects effects,
                             struct metric_verdict *metric)
{
    const struct metric_state *state = &judge->metrics[m];
    const struct policy_metric *policy = state->policy;
    *metric = (struct metric_verdict){.name = mem_strdup(policy->name),
                                      .type = policy->type,
                                      .critical = policy->critical,
                                      .budget = policy->budget,
                                      .edge_count = state->edge_count};
    if (policy->type == METRIC_LATENCY) {
        metric->quantile_count = policy->quantile_count;
        memcpy(metric->quantiles, policy->quantiles, sizeof metric->quantiles);
        metric->edges = mem_alloc(state->edge_count, sizeof *metric->edges);
        if (state->edge_count)
            memcpy(metric->edges, state->edges, state->edge_count * sizeof *metric->edges);
    }
    for (int t = 0; t < TRACKS; t++)
        summarize_arm(state, (enum track)t, metric);
    summarize_margins(state, metric);
    metric->effect = effect_of(judge, state, effects);
    double own = policy->critical && policy->budget > 0 ? policy->budget : 1;
    metric->evidence = (struct evidence_values){
        .harm = log10_of(metric_harm(state)),
        .hold = log10_of(metric_hold(state)),
        .safe = state->comparison_count ? log10_of(metric_safe(state)) : 0,
        .harm_needed = log10_of(ln_needed(judge->policy->false_abort) - log(own)),
        .safe_needed = log10_of(judge_safe_needed(judge)),
    };
    metric->status = status_of(judge, m);
    metric->reason = metric_reason(judge, state, metric);
}

/* --- the whole --- */

static double score(const struct judge *judge)
{
    if (judge->aborted)
        return 0;
    double sum = 0;
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        const struct metric_state *metric = &judge->metrics[m];
        double safe = metric->comparison_count ? metric_safe(metric) / judge_safe_needed(judge) : 0;
        double harm = metric_harm(metric) / ln_needed(judge->policy->false_abort);
        double own = 50 + 50 * fmax(0, fmin(1, safe)) - 50 * fmax(0, fmin(1, harm));
        sum += judge_weight(judge, m) * own;
    }
    return round(10 * sum) / 10;
}

/* The first gating metric that lacks its proof, or the number of metrics if none does. */
static size_t first_unproven(const struct judge *judge)
{
    size_t m = 0;
    while (m < judge->policy->metric_count && (!is_gating(&judge->metrics[m]) || is_proven(judge, &judge->metrics[m])))
        m++;
    return m;
}

static bool any_gating(const struct judge *judge)
{
    for (size_t m = 0; m < judge->policy->metric_count; m++)
        if (is_gating(&judge->metrics[m]))
            return true;
    return false;
}

static size_t first_without_data(const struct judge *judge)
{
    size_t m = 0;
    while (m < judge->policy->metric_count && (!is_gating(&judge->metrics[m]) || has_data(&judge->metrics[m])))
        m++;
    return m;
}

/* The risk is stated only where the arms were compared in blocks of equal size: docs/statistics.md, "Promotion". */
static char *proven_text(const struct judge *judge)
{
    char bound[FORMAT_TEXT], count[FORMAT_TEXT];
    uint64_t looks = UINT64_MAX;
    bool unblocked = false;
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        const struct metric_state *metric = &judge->metrics[m];
        if (!is_gating(metric))
            continue;
        looks = metric->step_looks < looks ? metric->step_looks : looks;
        unblocked |= metric->step_unblocked;
    }
    format_count(looks, count);
    if (unblocked)
        return mem_printf(
            "every metric is shown to be within its margin (%s looks; no risk of error is stated, because "
            "the arms were not compared in groups of as many instances)",
            count);
    return mem_printf("every metric is shown to be within its margin (each with at most %s risk of error, %s looks)",
                      format_share(exp(-judge_safe_needed(judge)), bound), count);
}

static void decide_unproven(const struct judge *judge, struct verdict *verdict, size_t waiting)
{
    const struct metric_verdict *metric = &verdict->metrics[waiting];
    if (!step_is_over(judge)) {
        verdict->reason = mem_printf("%s: %s", metric->name, metric->reason);
        return;
    }
    char time[FORMAT_TEXT];
    format_span(judge->policy->steps[judge->step].max_ms, time);
    switch (judge->policy->undecided) {
    case UNDECIDED_ABORT:
        verdict->decision = DECISION_ABORT;
        verdict->reason = mem_printf("nothing was proved within %s: %s: %s", time, metric->name, metric->reason);
        return;
    case UNDECIDED_PROMOTE:
        if (!judge->fresh) {
            verdict->reason = mem_strdup("the last look had no data of both sides; silence is not promoted");
            return;
        }
        verdict->decision = DECISION_PROMOTE;
        verdict_warn(verdict, "promoted without proof: the policy says `undecided: promote` after %s", time);
        verdict->reason =
            mem_printf("not proven within %s, promoted as the policy says: %s: %s", time, metric->name, metric->reason);
        return;
    case UNDECIDED_HOLD:
        verdict->reason = mem_printf("not proven within %s; evidence goes on, a person may promote or abort: %s: %s",
                                     time, metric->name, metric->reason);
    }
}

/* Whether a metric that decides lacks data: then nothing is promoted. */
static bool decide_missing(const struct judge *judge, struct verdict *verdict)
{
    size_t missing = first_without_data(judge);
    if (missing == judge->policy->metric_count)
        return false;
    const struct metric_state *metric = &judge->metrics[missing];
    int64_t silent_ms = (int64_t)metric->looks_without * judge->policy->look_ms;
    bool abort = metric->policy->on_no_data == NO_DATA_ABORT && silent_ms >= judge->policy->traffic.unattended_ms;
    /* Silence is no health: not even `undecided: promote` moves traffic to a canary without data. */
    if (!abort && step_is_over(judge) && judge->policy->undecided != UNDECIDED_PROMOTE) {
        decide_unproven(judge, verdict, missing);
        return true;
    }
    verdict->decision = abort ? DECISION_ABORT : DECISION_HOLD;
    verdict->reason = mem_printf("%s: %s", metric->policy->name, verdict->metrics[missing].reason);
    return true;
}

/* What `undecided` says at the step's end where promotion is out of the question. */
static enum decision hold_or_abort(const struct judge *judge)
{
    return step_is_over(judge) && judge->policy->undecided == UNDECIDED_ABORT ? DECISION_ABORT : DECISION_HOLD;
}

static void decide_proven(const struct judge *judge, struct verdict *verdict)
{
    int64_t min_ms = judge->step >= 0 ? judge->policy->steps[judge->step].min_ms : 0;
    char time[FORMAT_TEXT];
    /* A canary that proved itself and then fell silent may have died. */
    if (!judge->fresh) {
        verdict->reason = mem_strdup("every metric is within its margin, but the last look had no data of both sides");
        return;
    }
    if (judge->at_ms - judge->step_since_ms < min_ms) {
        verdict->reason =
            mem_printf("every metric is within its margin; the step lasts at least %s", format_span(min_ms, time));
        return;
    }
    verdict->decision = DECISION_PROMOTE;
    verdict->reason = proven_text(judge);
}

static void decide_compared(const struct judge *judge, struct verdict *verdict)
{
    size_t waiting = first_unproven(judge), suspect;
    if (decide_missing(judge, verdict))
        return;
    if (judge_hold(judge, &suspect) >= ln_needed(judge->policy->false_abort)) {
        verdict->decision = hold_or_abort(judge);
        verdict->reason =
            mem_printf("suspected harm, not yet proven under bursts: %s", verdict->metrics[suspect].reason);
    } else if (waiting < judge->policy->metric_count) {
        decide_unproven(judge, verdict, waiting);
    } else if (!any_gating(judge)) {
        verdict->decision = hold_or_abort(judge);
        verdict->reason = mem_strdup("no metric that decides has data, so that nothing can be proved");
    } else {
        decide_proven(judge, verdict);
    }
}

static void decide_baking(const struct judge *judge, struct verdict *verdict)
{
    char time[FORMAT_TEXT], weight[FORMAT_TEXT];
    int64_t bake_ms = judge->step >= 0 ? judge->policy->steps[judge->step].bake_ms : 0;
    format_weight(judge->weight_bp, weight);
    if (judge->weight_bp == 0) {
        verdict->reason = mem_strdup("the canary has no traffic");
    } else if (judge->step < 0) {
        verdict->reason = mem_printf("%s is no step of the policy: there is no time to bake at it", weight);
    } else if (!judge->fresh) {
        verdict->reason = mem_strdup("no data of the canary: is it up, and does Prometheus scrape it?");
    } else if (judge->at_ms - judge->step_since_ms < bake_ms) {
        verdict->reason = mem_printf("baking at %s for %s", weight, format_span(bake_ms, time));
    } else {
        verdict->decision = DECISION_PROMOTE;
        verdict->reason = mem_printf("baked at %s for %s", weight, format_span(bake_ms, time));
    }
}

static void decide(const struct judge *judge, struct verdict *verdict)
{
    verdict->decision = DECISION_HOLD;
    if (judge->aborted) {
        verdict->decision = DECISION_ABORT;
        verdict->reason = mem_strdup(verdict->metrics[judge->blamed].reason);
    } else if (judge->looks == 0) {
        verdict->reason = mem_strdup("no look yet");
    } else if (compares(judge)) {
        decide_compared(judge, verdict);
    } else {
        decide_baking(judge, verdict);
    }
}

/* Does the canary get what it was given? Four standard deviations and a request of grace. */
static void check_traffic(const struct judge *judge, struct verdict *verdict)
{
    double canary = (double)judge->step_requests[TRACK_CANARY];
    double n = canary + (double)judge->step_requests[TRACK_STABLE];
    verdict->traffic_status = TRAFFIC_UNKNOWN;
    if (!compares(judge))
        return;
    double expected = judge->weight_bp / (double)BASIS_POINTS;
    verdict->traffic_expected = expected;
    if (n < 1)
        return;
    verdict->traffic_observed = canary / n;
    if (n < 400)
        return;
    double off = canary / n - expected, slack = 4 * sqrt(expected * (1 - expected) / n) + 1 / n;
    verdict->traffic_status = fabs(off) <= slack ? TRAFFIC_OK : off < 0 ? TRAFFIC_LOW : TRAFFIC_HIGH;
    char got[FORMAT_TEXT], given[FORMAT_TEXT];
    if (verdict->traffic_status != TRAFFIC_OK)
        verdict_warn(verdict, "the canary gets %s of the requests, not the %s that it was given",
                     format_share(canary / n, got), format_weight(judge->weight_bp, given));
}

static void add_warnings(const struct judge *judge, struct verdict *verdict)
{
    if (judge->no_names)
        verdict_warn(verdict, "no counts per instance: the bound false_promote holds only if canary and stable are "
                              "equally noisy, and boundaries of fast requests do not bet for abort");
    if (judge->too_many_canaries)
        verdict_warn(verdict, "the canary has more instances than stable: no abort from comparison in these looks");
    if (judge->rate_too_high)
        verdict_warn(verdict,
                     "stable fails more than 5 %% of its requests: an absolute abort margin is not exact there "
                     "and is not bet on; use `abort_above: {absolute: 0%%}`");
    if (judge->discarded)
        verdict_warn(verdict, "%" PRIu64 " %s no evidence: the split or the instances changed meanwhile",
                     judge->discarded, judge->discarded == 1 ? "look was" : "looks were");
}

struct verdict *judge_verdict(const struct judge *judge, const char *rollout, enum judge_effects effects)
{
    const struct policy *policy = judge->policy;
    struct verdict *verdict = verdict_new();
    verdict->rollout = mem_strdup(rollout);
    verdict->service = mem_strdup(judge->service);
    memcpy(verdict->policy_sha256, policy->sha256, sizeof verdict->policy_sha256);
    verdict->look = judge->looks;
    verdict->from_ms = judge->from_ms;
    verdict->at_ms = judge->at_ms;
    verdict->step_index = judge->step;
    verdict->weight_bp = judge->weight_bp;
    verdict->step_since_ms = judge->step_since_ms == INT64_MIN ? 0 : judge->step_since_ms;
    for (size_t m = 0; m < policy->metric_count && compares(judge); m++)
        if (judge->metrics[m].step_looks > verdict->step_looks)
            verdict->step_looks = judge->metrics[m].step_looks;
    verdict->metrics = mem_alloc(policy->metric_count, sizeof *verdict->metrics);
    verdict->metric_count = policy->metric_count;
    for (size_t m = 0; m < policy->metric_count; m++)
        summarize_metric(judge, m, effects, &verdict->metrics[m]);
    size_t blamed, suspect;
    double harm = judge->aborted ? judge->harm_at_abort : judge_harm(judge, &blamed);
    double needed = ln_needed(policy->false_abort);
    verdict->harm = log10_of(harm);
    verdict->hold = log10_of(judge_hold(judge, &suspect));
    verdict->harm_needed = log10_of(needed);
    verdict->false_abort_limit = policy->false_abort;
    verdict->false_abort_spent = policy->false_abort * fmax(0, fmin(1, harm / needed));
    verdict->score = score(judge);
    decide(judge, verdict);
    check_traffic(judge, verdict);
    add_warnings(judge, verdict);
    return verdict;
}
