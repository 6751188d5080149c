/*
 * The table. Every state answers every event, so that nothing can be forgotten; the compiler would not notice a missing
 * row, the test that counts them does.
 */
#include "analyzer/rollout/machine.h"

/* clang-format off */
#define STAY(state)  {ACTION_NONE, state}
#define REFUSE(state) {ACTION_REFUSE, state}
#define BACK         {ACTION_TO_STABLE, ROLLOUT_ROLLING_BACK}
#define ENDED(state) { \
    [EVENT_WAITING] = STAY(state), [EVENT_PROVEN] = STAY(state), [EVENT_PROVEN_PAUSE] = STAY(state), \
    [EVENT_PROVEN_LAST] = STAY(state), [EVENT_HARM] = STAY(state), [EVENT_OUT_OF_TIME] = STAY(state), \
    [EVENT_PROMOTE] = REFUSE(state), [EVENT_PROMOTE_LAST] = REFUSE(state), [EVENT_HOLD] = REFUSE(state), \
    [EVENT_RESUME] = REFUSE(state), [EVENT_ABORT] = REFUSE(state), [EVENT_STABLE_PROVEN] = STAY(state), \
    [EVENT_SPLIT_UNPROVEN] = STAY(state)}

const struct rollout_move rollout_table[ROLLOUT_STATES][ROLLOUT_EVENTS] = {
    [ROLLOUT_STEPPING] = {
        [EVENT_WAITING]        = STAY(ROLLOUT_STEPPING),
        [EVENT_PROVEN]         = {ACTION_NEXT_STEP, ROLLOUT_STEPPING},
        [EVENT_PROVEN_PAUSE]   = STAY(ROLLOUT_PAUSED),
        [EVENT_PROVEN_LAST]    = STAY(ROLLOUT_PROMOTED),
        [EVENT_HARM]           = BACK,
        [EVENT_OUT_OF_TIME]    = BACK,
        [EVENT_PROMOTE]        = {ACTION_NEXT_STEP, ROLLOUT_STEPPING},
        [EVENT_PROMOTE_LAST]   = STAY(ROLLOUT_PROMOTED),
        [EVENT_HOLD]           = STAY(ROLLOUT_HELD),
        [EVENT_RESUME]         = REFUSE(ROLLOUT_STEPPING),
        [EVENT_ABORT]          = BACK,
        [EVENT_STABLE_PROVEN]  = STAY(ROLLOUT_STEPPING),
        [EVENT_SPLIT_UNPROVEN] = BACK,
    },
    [ROLLOUT_HELD] = {
        [EVENT_WAITING]        = STAY(ROLLOUT_HELD),
        [EVENT_PROVEN]         = STAY(ROLLOUT_HELD),
        [EVENT_PROVEN_PAUSE]   = STAY(ROLLOUT_HELD),
        [EVENT_PROVEN_LAST]    = STAY(ROLLOUT_HELD),
        [EVENT_HARM]           = BACK,
        [EVENT_OUT_OF_TIME]    = BACK,
        [EVENT_PROMOTE]        = {ACTION_NEXT_STEP, ROLLOUT_STEPPING},
        [EVENT_PROMOTE_LAST]   = STAY(ROLLOUT_PROMOTED),
        [EVENT_HOLD]           = STAY(ROLLOUT_HELD),
        [EVENT_RESUME]         = STAY(ROLLOUT_STEPPING),
        [EVENT_ABORT]          = BACK,
        [EVENT_STABLE_PROVEN]  = STAY(ROLLOUT_HELD),
        [EVENT_SPLIT_UNPROVEN] = BACK,
    },
    [ROLLOUT_PAUSED] = {
        [EVENT_WAITING]        = STAY(ROLLOUT_PAUSED),
        [EVENT_PROVEN]         = STAY(ROLLOUT_PAUSED),
        [EVENT_PROVEN_PAUSE]   = STAY(ROLLOUT_PAUSED),
        [EVENT_PROVEN_LAST]    = STAY(ROLLOUT_PAUSED),
        [EVENT_HARM]           = BACK,
        [EVENT_OUT_OF_TIME]    = BACK,
        [EVENT_PROMOTE]        = {ACTION_NEXT_STEP, ROLLOUT_STEPPING},
        [EVENT_PROMOTE_LAST]   = STAY(ROLLOUT_PROMOTED),
        [EVENT_HOLD]           = STAY(ROLLOUT_HELD),
        [EVENT_RESUME]         = REFUSE(ROLLOUT_PAUSED),
        [EVENT_ABORT]          = BACK,
        [EVENT_STABLE_PROVEN]  = STAY(ROLLOUT_PAUSED),
        [EVENT_SPLIT_UNPROVEN] = BACK,
    },
    [ROLLOUT_ROLLING_BACK] = {
        [EVENT_WAITING]        = BACK,
        [EVENT_PROVEN]         = BACK,
        [EVENT_PROVEN_PAUSE]   = BACK,
        [EVENT_PROVEN_LAST]    = BACK,
        [EVENT_HARM]           = BACK,
        [EVENT_OUT_OF_TIME]    = BACK,
        [EVENT_PROMOTE]        = REFUSE(ROLLOUT_ROLLING_BACK),
        [EVENT_PROMOTE_LAST]   = REFUSE(ROLLOUT_ROLLING_BACK),
        [EVENT_HOLD]           = REFUSE(ROLLOUT_ROLLING_BACK),
        [EVENT_RESUME]         = REFUSE(ROLLOUT_ROLLING_BACK),
        [EVENT_ABORT]          = BACK,
        [EVENT_STABLE_PROVEN]  = STAY(ROLLOUT_ABORTED), /* or expired: rollout_end_of() */
        [EVENT_SPLIT_UNPROVEN] = BACK,
    },
    [ROLLOUT_PROMOTED] = ENDED(ROLLOUT_PROMOTED),
    [ROLLOUT_ABORTED]  = ENDED(ROLLOUT_ABORTED),
    [ROLLOUT_EXPIRED]  = ENDED(ROLLOUT_EXPIRED),
};
/* clang-format on */

const char *const rollout_event_names[ROLLOUT_EVENTS] = {
    "waiting",       "proven",      "proven, pause", "proven, last step",
    "harm",          "out of time", "promote",       "promote, last step",
    "hold",          "resume",      "abort",         "stable proven",
    "split unproven"};
const char *const rollout_action_names[] = {"", "next step", "to stable", "refuse"};

static bool is_last(const struct policy *policy, const struct rollout *rollout)
{
    return rollout->step + 1 >= policy->step_count;
}

enum rollout_event rollout_event_of(const struct policy *policy, const struct rollout *rollout,
                                    const struct verdict *verdict, int64_t now_ms)
{
    if (verdict && verdict->decision == DECISION_ABORT)
        return verdict_is_harm(verdict) ? EVENT_HARM : EVENT_OUT_OF_TIME;
    if (now_ms - rollout->begun_ms >= policy->deadline_ms || now_ms >= rollout->lease_until_ms)
        return EVENT_OUT_OF_TIME;
    if (!verdict || verdict->decision != DECISION_PROMOTE)
        return EVENT_WAITING;
    if (policy->steps[rollout->step].pause)
        return EVENT_PROVEN_PAUSE;
    return is_last(policy, rollout) ? EVENT_PROVEN_LAST : EVENT_PROVEN;
}

enum rollout_event rollout_promote_event(const struct policy *policy, const struct rollout *rollout)
{
    return is_last(policy, rollout) ? EVENT_PROMOTE_LAST : EVENT_PROMOTE;
}

enum rollout_state rollout_end_of(enum rollout_cause cause)
{
    return cause == CAUSE_EXPIRED ? ROLLOUT_EXPIRED : ROLLOUT_ABORTED;
}
