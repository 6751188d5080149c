/*
 * A failure stays the newest line of the trail after it is over, because a look that goes well adds none. So its time
 * is held against the last look's, which the lease tells: each look puts it off by the same span.
 */
#include "analyzer/report/standing.h"

#include <string.h>

static const struct audit_entry *drift_since(const struct audit_entry *audit, size_t count, int64_t since_ms)
{
    for (size_t i = count; i > 0 && audit[i - 1].at_ms >= since_ms; i--)
        if (strcmp(audit[i - 1].event, "drift") == 0)
            return &audit[i - 1];
    return NULL;
}

/* A step that is proven and still not left: the balancer did not take it. */
static bool waits_to_move(const struct rollout *rollout, const struct verdict *verdict)
{
    return rollout->state == ROLLOUT_STEPPING && verdict && verdict->decision == DECISION_PROMOTE &&
           verdict->at_ms > rollout->step_since_ms;
}

static enum trouble trouble_of(const struct rollout *rollout, const struct verdict *verdict,
                               const struct audit_entry *failure, int64_t tried_ms)
{
    if (rollout_ended(rollout))
        return TROUBLE_NONE;
    if (rollout->state == ROLLOUT_ROLLING_BACK)
        return failure && strcmp(failure->event, "not saved") == 0 ? TROUBLE_NOT_SAVED : TROUBLE_NOT_STABLE;
    if (!failure)
        return TROUBLE_NONE;
    bool goes_on = failure->at_ms >= tried_ms;
    if (strcmp(failure->event, "refused") == 0)
        return goes_on || waits_to_move(rollout, verdict) ? TROUBLE_NOT_MOVED : TROUBLE_NONE;
    return goes_on ? TROUBLE_NO_LOOK : TROUBLE_NONE;
}

struct standing standing_of(const struct rollout *rollout, const struct audit_entry *audit, size_t count,
                            const struct verdict *verdict, int64_t lease_ms, int64_t now_ms)
{
    bool ended = rollout_ended(rollout);
    const struct audit_entry *failure = audit_failure(audit, count);
    struct standing standing = {
        .tried_ms = lease_ms ? rollout->lease_until_ms - lease_ms : rollout->last_look_ms,
        .overdue = !ended && now_ms >= rollout->lease_until_ms,
        .drift = ended ? NULL : drift_since(audit, count, rollout->last_look_ms),
    };
    standing.trouble = trouble_of(rollout, verdict, failure, standing.tried_ms);
    standing.failure = standing.trouble ? failure : NULL;
    return standing;
}
