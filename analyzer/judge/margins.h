/*
 * Promotion margins by exposure: a step that still hides little of the traffic may be left on a weaker proof, so that
 * the harm to all users which a step can hide is about the same at every step. The full margin must be passed before
 * the canary gets more than half of the traffic. Source: docs/statistics.md, "Margins by exposure".
 */
#ifndef HALDANE_JUDGE_MARGINS_H
#define HALDANE_JUDGE_MARGINS_H

#include "policies/policy.h"

enum { COMPARED_BP = 5000 }; /* up to this weight the arms are compared */

/* How much wider than the full margin: max(1, V/v), V the largest compared weight, v the next step's weight. >= 1. */
double margins_scale(const struct policy *policy, int32_t step);

struct margin {
    double ratio, absolute;
};

/*
 * ratio - 1 and absolute times `scale`, cut so that ratio * rate + absolute <= rate + min(0.10, (1 - rate)/2), `rate`
 * being stable's frozen rate; never below the full margin.
 */
struct margin margins_widen(struct margin full, double scale, double rate);

/* The same for the event "fast", stable over canary: rate / ratio >= rate / 4. */
struct margin margins_widen_fast(struct margin full, double scale);

#endif
