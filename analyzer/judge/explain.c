/* From state to verdict: the numbers, and the sentences that say why. What is decided is in decide.c. */
#include "analyzer/judge/state.h"

#include "analyzer/model/format.h"
#include "base/memory.h"
#include "stats/quantile.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double traffic_alpha = 0.001; /* of a false warning in a step */

static double log10_of(double ln)
{
    return ln / log(10);
}

/* --- one metric --- */

static enum metric_status status_of(const struct judge *judge, size_t m)
{
    const struct metric_state *metric = &judge->metrics[m];
    double own = metric->policy->critical ? metric->policy->budget : 1;
    if (judge->aborted && judge->abort_cause == BECAUSE_HARM && judge->blamed == m)
        return METRIC_HARMED;
    if (own > 0 && metric_harm(judge, metric) + log(own) >= judge_harm_needed(judge))
        return METRIC_HARMED;
    bool classified = gauge_is_scored(metric->policy) && metric->gauge.classified;
    if (classified && (metric->gauge.classification == KAYENTA_HIGH || metric->gauge.classification == KAYENTA_LOW))
        return METRIC_HARMED;
    if (!metric_has_data(metric))
        return metric->policy->on_no_data == NO_DATA_IGNORE ? METRIC_IGNORED : METRIC_NO_DATA;
    if (judge->weight_bp > 0 && metric_can_prove(metric) && metric_is_proven(judge, metric))
        return METRIC_SAFE;
    return judge_step_is_over(judge) ? METRIC_EXPIRED : METRIC_UNDECIDED;
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
    /* Slower than the last bucket's boundary: how much is not known, but how much at least. */
    bool beyond = isinf(effect->estimate);
    return mem_printf("%s canary takes %s%s as long as stable (%s at %s, read at %s, %s canary requests)",
                      judge->service, beyond ? "at least " : "",
                      format_ratio(beyond ? effect->lower : effect->estimate, ratio), interval, share,
                      format_latency(effect->at_edge, edge), count);
}

/* Why a metric has nothing to say yet, or NULL if it has. */
static char *silence_text(const struct judge *judge, const struct metric_state *metric)
{
    uint64_t ejected = judge->balancer.ejected_looks;
    char text[FORMAT_TEXT], want[FORMAT_TEXT];
    if (!metric_has_data(metric))
        return mem_printf("no data for the last %" PRIu64 " looks: is the canary up, and does Prometheus scrape it?",
                          metric->looks_without);
    if (!metric->frozen)
        return mem_printf(
            "learning stable's normal level: %s requests so far, %s needed",
            format_count(metric->calibration.requests, text),
            format_count(metric->policy->type == METRIC_LATENCY ? CALIBRATION_LATENCY : CALIBRATION_ERRORS, want));
    if (metric->comparison_count == 0)
        return mem_strdup("no bucket boundary lies where stable's requests are: give the histogram buckets between the "
                          "fastest and the slowest 0.1 % of requests");
    if (metric->totals[TRACK_CANARY].requests == 0 && ejected > 0)
        return mem_printf("no comparison yet: in %s %s the balancer took a server out of traffic or let one in again",
                          format_count(ejected, text), ejected == 1 ? "look" : "looks");
    if (metric->totals[TRACK_CANARY].requests == 0)
        return mem_printf("no comparison yet: warm-up is %s", format_span(judge->policy->warmup_ms, text));
    return NULL;
}

static char *metric_reason(const struct judge *judge, const struct metric_state *state,
                           const struct metric_verdict *metric)
{
    if (metric->type == METRIC_GAUGE)
        return gauge_text(judge, state, metric);
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
    bool gauge = policy->type == METRIC_GAUGE;
    *metric = (struct metric_verdict){.deviation = NAN,
                                      .name = mem_strdup(policy->name),
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
    for (int t = 0; t < TRACKS && !gauge; t++)
        summarize_arm(state, (enum track)t, metric);
    summarize_margins(state, metric);
    if (gauge)
        gauge_summarize(state, metric);
    else
        metric->effect = effect_of(judge, state, effects);
    double own = policy->critical && policy->budget > 0 ? policy->budget : 1;
    metric->evidence = (struct evidence_values){
        .harm = log10_of(metric_harm(judge, state)),
        .hold = log10_of(metric_hold(judge, state)),
        .safe = state->comparison_count ? log10_of(metric_safe(state)) : 0,
        .harm_needed = log10_of(judge_harm_needed(judge) - log(own)),
        .safe_needed = log10_of(judge_safe_needed(judge)),
    };
    metric->status = status_of(judge, m);
    metric->reason = metric_reason(judge, state, metric);
}

/* --- the whole --- */

/* 50 without evidence, 100 with a proof. */
static double safety_score(const struct judge *judge, const struct metric_state *metric)
{
    if (gauge_is_scored(metric->policy))
        return isnan(judge->kayenta_score) ? 50 : judge->kayenta_score;
    double safe = metric->comparison_count ? metric_safe(metric) / judge_safe_needed(judge) : 0;
    return 50 + 50 * fmax(0, fmin(1, safe));
}

/* The mean over the metrics that can prove safety, less what the others show of harm. */
static double score(const struct judge *judge)
{
    if (judge->aborted)
        return 0;
    double sum = 0, proving = 0, penalty = 0;
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        const struct metric_state *metric = &judge->metrics[m];
        double weight = judge_weight(judge, m);
        double harm = 50 * fmax(0, fmin(1, metric_harm(judge, metric) / judge_harm_needed(judge)));
        if (metric_can_prove(metric)) {
            sum += weight * (safety_score(judge, metric) - harm);
            proving += weight;
        } else {
            penalty += weight * harm;
        }
    }
    double score = (proving > 0 ? sum / proving : 50) - penalty;
    return round(10 * fmax(0, score)) / 10;
}

/* The risk is stated only where the arms were compared in blocks of equal size: docs/statistics.md, "Promotion". */
static char *proven_text(const struct judge *judge)
{
    char bound[FORMAT_TEXT], count[FORMAT_TEXT];
    uint64_t looks = UINT64_MAX;
    bool unblocked = false;
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        const struct metric_state *metric = &judge->metrics[m];
        if (!metric_is_gating(metric) || metric->policy->type == METRIC_GAUGE)
            continue;
        looks = metric->step_looks < looks ? metric->step_looks : looks;
        unblocked |= metric->step_unblocked;
    }
    if (looks == UINT64_MAX)
        return mem_printf("Kayenta's score is %s, and the policy promotes from %s on",
                          format_number(judge->kayenta_score, bound),
                          format_number(judge->policy->kayenta.pass, count));
    format_count(looks, count);
    char *scored = isnan(judge->kayenta_score)
                       ? mem_strdup("")
                       : mem_printf("; Kayenta's score is %s", format_number(judge->kayenta_score, bound));
    char *text =
        unblocked ? mem_printf("every metric is shown to be within its margin (%s looks; no risk of error is stated, "
                               "because the arms were not compared in groups of as many instances)%s",
                               count, scored)
                  : mem_printf("every metric is shown to be within its margin (each with at most %s risk of error, "
                               "%s looks)%s",
                               format_share(exp(-judge_safe_needed(judge)), bound), count, scored);
    free(scored);
    return text;
}

static char *expired_text(const struct judge *judge, enum decision decision, const struct metric_verdict *metric)
{
    char time[FORMAT_TEXT];
    format_span(judge->policy->steps[judge->step].max_ms, time);
    switch (decision) {
    case DECISION_ABORT:
        return mem_printf("nothing was proved within %s: %s: %s", time, metric->name, metric->reason);
    case DECISION_PROMOTE:
        return mem_printf("not proven within %s, promoted as the policy says: %s: %s", time, metric->name,
                          metric->reason);
    case DECISION_HOLD:
        break;
    }
    return mem_printf("not proven within %s; evidence goes on, a person may promote or abort: %s: %s", time,
                      metric->name, metric->reason);
}

static char *suspected_text(const struct judge *judge, const struct metric_verdict *metric)
{
    if (!metric->critical)
        return mem_printf("suspected harm of %s, which is not critical and only holds: %s", metric->name,
                          metric->reason);
    bool bursts = judge->policy->exchangeable == EXCHANGEABLE_LOOKS && metric->type != METRIC_GAUGE;
    return mem_printf("suspected harm, not yet proven%s: %s", bursts ? " under bursts" : "", metric->reason);
}

static char *kayenta_text(const struct judge *judge)
{
    char score[FORMAT_TEXT], marginal[FORMAT_TEXT];
    return mem_printf("Kayenta's score is %s, and the policy aborts below %s",
                      format_number(judge->kayenta_score, score),
                      format_number(judge->policy->kayenta.marginal, marginal));
}

/* Why a rollout stands where it does; the caller frees it. */
static char *standing_text(const struct judge *judge, const struct verdict *verdict, struct judge_standing standing)
{
    char time[FORMAT_TEXT], weight[FORMAT_TEXT];
    const struct policy_step *step = judge->step >= 0 ? &judge->policy->steps[judge->step] : NULL;
    const struct metric_verdict *metric =
        standing.which < verdict->metric_count ? &verdict->metrics[standing.which] : NULL;
    switch (standing.cause) {
    case BECAUSE_NO_LOOK:
        return mem_strdup("no look yet");
    case BECAUSE_HARM:
        return mem_strdup(metric->reason);
    case BECAUSE_GUARDRAIL:
        return mem_printf("guardrail %s: %s", verdict->guardrails[standing.which].name,
                          verdict->guardrails[standing.which].reason);
    case BECAUSE_KAYENTA:
        return kayenta_text(judge);
    case BECAUSE_SILENT:
    case BECAUSE_UNPROVEN:
        return mem_printf("%s: %s", metric->name, metric->reason);
    case BECAUSE_SUSPECTED:
        return suspected_text(judge, metric);
    case BECAUSE_EXPIRED:
        return expired_text(judge, standing.decision, metric);
    case BECAUSE_NO_GATE:
        return mem_strdup("no metric that decides has data, so that nothing can be proved");
    case BECAUSE_NOT_FRESH:
        if (!judge_compares(judge))
            return mem_strdup("no data of the canary: is it up, and does Prometheus scrape it?");
        return mem_strdup(metric ? "the last look had no data of both sides; silence is not promoted"
                                 : "every metric is within its margin, but the last look had no data of both sides");
    case BECAUSE_TOO_EARLY:
        return mem_printf("every metric is within its margin; the step lasts at least %s",
                          format_span(step->min_ms, time));
    case BECAUSE_PROVEN:
        return proven_text(judge);
    case BECAUSE_NO_TRAFFIC:
        return mem_strdup("the canary has no traffic");
    case BECAUSE_NO_STEP:
        return mem_printf("%s is no step of the policy: there is no time to bake at it",
                          format_weight(judge->weight_bp, weight));
    case BECAUSE_BAKING:
    case BECAUSE_BAKED:
        return mem_printf("%s at %s for %s", standing.cause == BECAUSE_BAKED ? "baked" : "baking",
                          format_weight(judge->weight_bp, weight), format_span(step->bake_ms, time));
    }
    return mem_strdup("");
}

static void explain_standing(const struct judge *judge, struct verdict *verdict)
{
    struct judge_standing standing = judge_standing(judge);
    char time[FORMAT_TEXT];
    verdict->decision = standing.decision;
    verdict->reason = standing_text(judge, verdict, standing);
    if (standing.cause == BECAUSE_EXPIRED && standing.decision == DECISION_PROMOTE)
        verdict_warn(verdict, "promoted without proof: the policy says `undecided: promote` after %s",
                     format_span(judge->policy->steps[judge->step].max_ms, time));
}

/* Does the canary get what it was given? Only a warning: a wrong share makes the comparison slower, not wrong. */
static void check_traffic(const struct judge *judge, struct verdict *verdict)
{
    const struct traffic_share *traffic = &judge->traffic;
    verdict->traffic_status = TRAFFIC_UNKNOWN;
    if (!judge_compares(judge))
        return;
    verdict->traffic_expected = judge->weight_bp / (double)BASIS_POINTS;
    if (traffic->all == 0)
        return;
    verdict->traffic_observed = (double)traffic->canary / (double)traffic->all;
    verdict->traffic_status = TRAFFIC_OK;
    if (traffic_share_log_e(traffic) < log(1 / traffic_alpha))
        return;
    bool low = verdict->traffic_observed < verdict->traffic_expected;
    char got[FORMAT_TEXT], given[FORMAT_TEXT];
    verdict->traffic_status = low ? TRAFFIC_LOW : TRAFFIC_HIGH;
    verdict_warn(verdict, "the canary gets %s of the requests, not the %s that it was given",
                 format_share(verdict->traffic_observed, got), format_weight(judge->weight_bp, given));
}

static void add_gauge_warnings(const struct judge *judge, struct verdict *verdict)
{
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        const struct metric_state *metric = &judge->metrics[m];
        if (metric->gauge.block_unsure)
            verdict_warn(verdict,
                         "%s: stable's history does not tell how long its noise lasts, because it is too short or "
                         "never changes; %" PRIu32 " looks are taken together for one piece of evidence",
                         metric->policy->name, metric->gauge.block);
        if (metric->gauge.noise_lasts)
            verdict_warn(verdict,
                         "%s: stable's noise may last longer than the %" PRIu32
                         " looks that are taken together for one "
                         "piece of evidence; its evidence of harm may be noise, use longer looks or `critical: false`",
                         metric->policy->name, metric->gauge.block);
    }
}

static void add_warnings(const struct judge *judge, struct verdict *verdict)
{
    if (judge->no_names)
        verdict_warn(verdict, "no counts per instance: the bound false_promote holds only if canary and stable are "
                              "equally noisy, and boundaries of fast requests do not bet for abort");
    if (judge->too_many_canaries)
        verdict_warn(verdict, "the canary has more instances than stable: no abort from comparison in these looks");
    if (judge->too_much_canary)
        verdict_warn(verdict, "the canary had more requests than stable: no abort from comparison in these looks");
    if (judge->unequal_pods)
        verdict_warn(verdict,
                     "instances of stable and canary get different traffic, so that they are not exchangeable: in "
                     "these looks `exchangeable: pods` adds nothing to the evidence, and nothing is held on suspicion");
    if (judge->no_names && judge->policy->exchangeable == EXCHANGEABLE_PODS)
        verdict_warn(verdict, "`exchangeable: pods` needs counts per instance: without them it adds nothing to the "
                              "evidence, and nothing is held on suspicion");
    add_gauge_warnings(judge, verdict);
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
    for (size_t m = 0; m < policy->metric_count && judge_compares(judge); m++)
        if (judge->metrics[m].step_looks > verdict->step_looks)
            verdict->step_looks = judge->metrics[m].step_looks;
    verdict->metrics = mem_alloc(policy->metric_count, sizeof *verdict->metrics);
    verdict->metric_count = policy->metric_count;
    for (size_t m = 0; m < policy->metric_count; m++)
        summarize_metric(judge, m, effects, &verdict->metrics[m]);
    size_t blamed, suspect;
    double harm = judge->aborted ? judge->harm_at_abort : judge_harm(judge, &blamed);
    double needed = judge_harm_needed(judge);
    verdict->harm = log10_of(harm);
    verdict->hold = log10_of(judge_hold(judge, &suspect));
    verdict->harm_needed = log10_of(needed);
    verdict->false_abort_limit = policy->false_abort;
    verdict->false_abort_spent = policy->false_abort * fmax(0, fmin(1, harm / needed));
    verdict->score = score(judge);
    verdict->kayenta_score = judge->kayenta_score;
    verdict->kayenta_pass = policy->kayenta.pass;
    verdict->kayenta_marginal = policy->kayenta.marginal;
    guardrails_summarize(judge, verdict);
    explain_standing(judge, verdict);
    check_traffic(judge, verdict);
    balancer_summarize(judge, verdict);
    add_warnings(judge, verdict);
    return verdict;
}
