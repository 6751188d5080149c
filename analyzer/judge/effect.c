/* How large the harm is, with an interval that is right at all looks at once. */
#include "analyzer/judge/state.h"

#include <math.h>

static const double display_alpha = 0.05; /* of the intervals that are shown */

/* The gate of the highest quantile, so that a plot over time shows one thing; the worst boundary once harm is shown. */
static const struct comparison *shown_comparison(const struct judge *judge, const struct metric_state *metric)
{
    bool harmed = judge->aborted && judge->abort_cause == BECAUSE_HARM && &judge->metrics[judge->blamed] == metric;
    const struct comparison *shown = NULL;
    for (size_t c = 0; c < metric->comparison_count; c++) {
        const struct comparison *comparison = &metric->comparisons[c];
        if (harmed) {
            if (comparison->bets && (!shown || comparison_harm(judge, comparison) > comparison_harm(judge, shown)))
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

struct effect effect_of(const struct judge *judge, const struct metric_state *metric, enum judge_effects effects)
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
