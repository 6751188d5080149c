/* Arithmetic only; each rule is one line of docs/statistics.md. */
#include "analyzer/judge/margins.h"

#include <math.h>

double margins_scale(const struct policy *policy, int32_t step)
{
    if (policy->exposure == EXPOSURE_FIXED || step < 0 || (size_t)step + 1 >= policy->step_count)
        return 1;
    uint32_t largest = 0;
    for (size_t s = 0; s < policy->step_count; s++)
        if (policy->steps[s].weight_bp <= COMPARED_BP)
            largest = policy->steps[s].weight_bp;
    uint32_t next = policy->steps[step + 1].weight_bp;
    return largest > next ? (double)largest / next : 1;
}

struct margin margins_widen(struct margin full, double scale, double rate)
{
    double room = rate + fmin(0.10, (1 - rate) / 2);
    double more_ratio = (full.ratio - 1) * (scale - 1);
    double more_absolute = full.absolute * (scale - 1);
    double base = full.ratio * rate + full.absolute;
    double more = more_ratio * rate + more_absolute;
    double factor = more <= 0 ? 0 : fmin(1, fmax(0, (room - base) / more));
    return (struct margin){full.ratio + factor * more_ratio, full.absolute + factor * more_absolute};
}

struct margin margins_widen_fast(struct margin full, double scale)
{
    double wide = 1 + (full.ratio - 1) * scale;
    return (struct margin){fmax(full.ratio, fmin(wide, 4)), full.absolute};
}
