/* Names and release of the rollout's plain data. */
#include "analyzer/model/rollout.h"

#include <stdlib.h>
#include <string.h>

const char *const rollout_state_names[ROLLOUT_STATES] = {"stepping",     "held",    "paused",  "promoted",
                                                         "rolling_back", "aborted", "expired", "superseded"};
const char *const rollout_cause_names[] = {"", "harmed", "expired", "person", "driver", "alert", "superseded"};

int32_t rollout_step_of(const struct policy *policy, uint32_t weight_bp)
{
    enum { SLACK_BP = 15, SLACK_SHARE = 100 };
    int32_t nearest = -1;
    int64_t best = INT64_MAX;
    for (size_t s = 0; s < policy->step_count; s++) {
        int64_t off = (int64_t)policy->steps[s].weight_bp - weight_bp;
        off = off < 0 ? -off : off;
        int64_t slack = policy->steps[s].weight_bp / SLACK_SHARE;
        if (off < best && off <= (slack > SLACK_BP ? slack : SLACK_BP)) {
            best = off;
            nearest = (int32_t)s;
        }
    }
    return weight_bp == 0 ? -1 : nearest;
}

bool rollout_ended(const struct rollout *rollout)
{
    return rollout->state == ROLLOUT_PROMOTED || rollout->state >= ROLLOUT_ABORTED;
}

void rollout_clear(struct rollout *rollout)
{
    free(rollout->service);
    free(rollout->reason);
    *rollout = (struct rollout){0};
}

const struct audit_entry *audit_failure(const struct audit_entry *audit, size_t count)
{
    static const char *const failures[] = {"no metrics", "no balancer", "refused", "rollback failed", "not saved"};
    const struct audit_entry *newest = count ? &audit[count - 1] : NULL;
    for (size_t i = 0; newest && i < sizeof failures / sizeof *failures; i++)
        if (strcmp(newest->event, failures[i]) == 0)
            return newest;
    return NULL;
}

void audit_entry_clear(struct audit_entry *entry)
{
    free(entry->actor);
    free(entry->event);
    free(entry->detail);
    *entry = (struct audit_entry){0};
}

void audit_entries_free(struct audit_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++)
        audit_entry_clear(&entries[i]);
    free(entries);
}
