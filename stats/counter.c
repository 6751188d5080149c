/* What was counted between the last sample and a restart is lost: the increment errs on the small side. */
#include "stats/counter.h"

void counter_increments(const uint64_t values[], const bool reset[], size_t n, uint64_t increments[])
{
    for (size_t i = 0; i + 1 < n; i++) {
        bool restarted = values[i + 1] < values[i] || (reset != NULL && reset[i]);
        increments[i] = restarted ? values[i + 1] : values[i + 1] - values[i];
    }
}
