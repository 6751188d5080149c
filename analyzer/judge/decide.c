/*
 * The decision, from the state alone. The order is the order of what matters to users: harm, then doubt, then proof,
 * then time. What harm was shown stays shown: `aborted` is set by the fold and never cleared.
 */
#include "analyzer/judge/state.h"

#include <math.h>

enum { STALE_LOOKS = 2 };

double judge_harm_needed(const struct judge *judge)
{
    return log(1 / judge->policy->false_abort);
}

bool metric_is_stale(uint64_t looks_without)
{
    return looks_without > STALE_LOOKS;
}

bool metric_has_data(const struct metric_state *metric)
{
    return !metric_is_stale(metric->looks_without);
}

bool metric_is_proven(const struct judge *judge, const struct metric_state *metric)
{
    if (metric->policy->type == METRIC_GAUGE)
        return gauge_is_proven(judge, metric);
    return metric_safe(metric) >= judge_safe_needed(judge) && metric->step_looks >= MIN_STEP_LOOKS &&
           metric->step_canary >= MIN_STEP_CANARY;
}

/* A gauge proves nothing by itself. */
bool metric_can_prove(const struct metric_state *metric)
{
    return metric->policy->type != METRIC_GAUGE || gauge_is_scored(metric->policy);
}

/* A gauge proves nothing, but where it decides it must not be silent. */
bool metric_is_gating(const struct metric_state *metric)
{
    if (!metric->policy->critical && !gauge_is_scored(metric->policy))
        return false;
    return metric->policy->on_no_data != NO_DATA_IGNORE || metric_has_data(metric);
}

bool judge_compares(const struct judge *judge)
{
    return judge->weight_bp > 0 && judge->weight_bp <= COMPARED_BP;
}

bool judge_step_is_over(const struct judge *judge)
{
    return judge_compares(judge) && judge->step >= 0 &&
           judge->at_ms - judge->step_since_ms >= judge->policy->steps[judge->step].max_ms;
}

/* The first gating metric that lacks its proof, or the number of metrics if none does. */
static size_t first_unproven(const struct judge *judge)
{
    size_t m = 0;
    while (m < judge->policy->metric_count &&
           (!metric_is_gating(&judge->metrics[m]) || metric_is_proven(judge, &judge->metrics[m])))
        m++;
    return m;
}

static bool any_gating(const struct judge *judge)
{
    for (size_t m = 0; m < judge->policy->metric_count; m++)
        if (metric_is_gating(&judge->metrics[m]) && metric_can_prove(&judge->metrics[m]))
            return true;
    return false;
}

static size_t first_without_data(const struct judge *judge)
{
    size_t m = 0;
    while (m < judge->policy->metric_count &&
           (!metric_is_gating(&judge->metrics[m]) || metric_has_data(&judge->metrics[m])))
        m++;
    return m;
}

static struct judge_standing stand(enum decision decision, enum judge_cause cause, size_t which)
{
    return (struct judge_standing){decision, cause, which};
}

static struct judge_standing decide_unproven(const struct judge *judge, size_t waiting)
{
    if (!judge_step_is_over(judge))
        return stand(DECISION_HOLD, BECAUSE_UNPROVEN, waiting);
    switch (judge->policy->undecided) {
    case UNDECIDED_ABORT:
        return stand(DECISION_ABORT, BECAUSE_EXPIRED, waiting);
    case UNDECIDED_PROMOTE:
        return judge->fresh ? stand(DECISION_PROMOTE, BECAUSE_EXPIRED, waiting)
                            : stand(DECISION_HOLD, BECAUSE_NOT_FRESH, waiting);
    case UNDECIDED_HOLD:
        break;
    }
    return stand(DECISION_HOLD, BECAUSE_EXPIRED, waiting);
}

/* A metric that decides lacks data: then nothing is promoted. */
static struct judge_standing decide_silent(const struct judge *judge, size_t missing)
{
    const struct metric_state *metric = &judge->metrics[missing];
    int64_t silent_ms = (int64_t)metric->looks_without * judge->policy->look_ms;
    if (metric->policy->on_no_data == NO_DATA_ABORT && silent_ms >= judge->policy->traffic.unattended_ms)
        return stand(DECISION_ABORT, BECAUSE_SILENT, missing);
    /* Silence is no health: not even `undecided: promote` moves traffic to a canary without data. */
    if (judge_step_is_over(judge) && judge->policy->undecided != UNDECIDED_PROMOTE)
        return decide_unproven(judge, missing);
    return stand(DECISION_HOLD, BECAUSE_SILENT, missing);
}

/* What `undecided` says at the step's end where promotion is out of the question. */
static enum decision hold_or_abort(const struct judge *judge)
{
    return judge_step_is_over(judge) && judge->policy->undecided == UNDECIDED_ABORT ? DECISION_ABORT : DECISION_HOLD;
}

static struct judge_standing decide_proven(const struct judge *judge)
{
    int64_t min_ms = judge->step >= 0 ? judge->policy->steps[judge->step].min_ms : 0;
    size_t none = judge->policy->metric_count;
    /* A canary that proved itself and then fell silent may have died. */
    if (!judge->fresh)
        return stand(DECISION_HOLD, BECAUSE_NOT_FRESH, none);
    if (judge->at_ms - judge->step_since_ms < min_ms)
        return stand(DECISION_HOLD, BECAUSE_TOO_EARLY, none);
    return stand(DECISION_PROMOTE, BECAUSE_PROVEN, none);
}

static struct judge_standing decide_compared(const struct judge *judge)
{
    size_t all = judge->policy->metric_count, missing = first_without_data(judge), suspect;
    if (missing < all)
        return decide_silent(judge, missing);
    if (judge_hold(judge, &suspect) >= judge_harm_needed(judge))
        return stand(hold_or_abort(judge), BECAUSE_SUSPECTED, suspect);
    size_t waiting = first_unproven(judge);
    if (waiting < all)
        return decide_unproven(judge, waiting);
    if (!any_gating(judge))
        return stand(hold_or_abort(judge), BECAUSE_NO_GATE, all);
    return decide_proven(judge);
}

static struct judge_standing decide_baking(const struct judge *judge)
{
    size_t none = judge->policy->metric_count;
    if (judge->weight_bp == 0)
        return stand(DECISION_HOLD, BECAUSE_NO_TRAFFIC, none);
    if (judge->step < 0)
        return stand(DECISION_HOLD, BECAUSE_NO_STEP, none);
    if (!judge->fresh)
        return stand(DECISION_HOLD, BECAUSE_NOT_FRESH, none);
    if (judge->at_ms - judge->step_since_ms < judge->policy->steps[judge->step].bake_ms)
        return stand(DECISION_HOLD, BECAUSE_BAKING, none);
    return stand(DECISION_PROMOTE, BECAUSE_BAKED, none);
}

struct judge_standing judge_standing(const struct judge *judge)
{
    if (judge->aborted)
        return stand(DECISION_ABORT, judge->abort_cause, judge->blamed);
    if (judge->looks == 0)
        return stand(DECISION_HOLD, BECAUSE_NO_LOOK, judge->policy->metric_count);
    return judge_compares(judge) ? decide_compared(judge) : decide_baking(judge);
}
