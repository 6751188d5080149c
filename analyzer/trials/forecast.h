/* One metric at one step, in looks: what the plan is made of. Private to this folder. */
#ifndef HALDANE_TRIALS_FORECAST_H
#define HALDANE_TRIALS_FORECAST_H

#include "analyzer/trials/plan.h"
#include "stats/flip.h"

struct judge;

/*
 * A judge that stands at the first look of a step, with what it would compare there and its margins. The caller frees
 * it. The policy is borrowed.
 */
struct judge *forecast_judge(const struct policy *policy, const struct plan_traffic *traffic, size_t step);

/* Whether the judge has something to compare for this metric. */
bool forecast_known(const struct judge *judge, size_t metric);

/* Requests of a look at a step. */
struct forecast_look {
    double requests[TRACKS];
    size_t instances[TRACKS];
};
struct forecast_look forecast_look(const struct policy *policy, const struct plan_traffic *traffic, size_t metric,
                                   size_t step);

/* Looks that are lost at the beginning of a step: mixed with the weight before, warm-up, and what stable is not known
 * from. */
uint64_t forecast_lost(const struct policy *policy, const struct plan_traffic *traffic, size_t metric, size_t step);

/* Looks that count until the metric is proven with a healthy canary; 0: never. */
uint64_t forecast_proof(const struct judge *judge, size_t metric, const struct forecast_look *look);

/* How many of the metric's comparisons bet on harm, and their growth, one row each. `size` as in plan_times_as_often
 * and plan_slower; 1 and 0 are a healthy canary. The caller frees the rows. */
size_t forecast_bets(const struct judge *judge, size_t metric);
double (*forecast_growth(const struct judge *judge, size_t metric, const struct forecast_look *look,
                         double size))[FLIP_BETS];

#endif
