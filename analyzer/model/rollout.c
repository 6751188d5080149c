/* Names and release of the rollout's plain data. */
#include "analyzer/model/rollout.h"

#include <stdlib.h>

const char *const rollout_state_names[ROLLOUT_STATES] = {"stepping",     "held",    "paused", "promoted",
                                                         "rolling_back", "aborted", "expired"};
const char *const rollout_cause_names[] = {"", "harmed", "expired", "person", "driver"};

bool rollout_ended(const struct rollout *rollout)
{
    return rollout->state == ROLLOUT_PROMOTED || rollout->state == ROLLOUT_ABORTED || rollout->state == ROLLOUT_EXPIRED;
}

void rollout_clear(struct rollout *rollout)
{
    free(rollout->service);
    free(rollout->reason);
    *rollout = (struct rollout){0};
}

void audit_entries_free(struct audit_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(entries[i].actor);
        free(entries[i].event);
        free(entries[i].detail);
    }
    free(entries);
}
