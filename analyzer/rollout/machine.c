/*
 * The table. Every event is answered by every state, so that nothing can be forgotten: a row has a cell for stepping,
 * held, paused and rolling_back, and one for all that have ended.
 */
#include "analyzer/rollout/machine.h"

#define SAME ROLLOUT_STATES /* as the next state: the one that it is in */

/* clang-format off */
#define STAY      {ACTION_NONE, SAME}
#define REFUSE    {ACTION_REFUSE, SAME}
#define STEP_UP   {ACTION_NEXT_STEP, ROLLOUT_STEPPING}
#define KEEP      {ACTION_KEEP, SAME}
#define AGAIN     {ACTION_SET_AGAIN, SAME}
#define BACK      {ACTION_TO_STABLE, ROLLOUT_ROLLING_BACK}
#define TO(state) {ACTION_NONE, state}

#define ROW(stepping, held, paused, rolling_back, ended)                                                               \
    {                                                                                                                  \
        [ROLLOUT_STEPPING] = stepping, [ROLLOUT_HELD] = held, [ROLLOUT_PAUSED] = paused,                               \
        [ROLLOUT_ROLLING_BACK] = rolling_back, [ROLLOUT_PROMOTED] = ended, [ROLLOUT_ABORTED] = ended,                  \
        [ROLLOUT_EXPIRED] = ended, [ROLLOUT_SUPERSEDED] = ended                                                        \
    }

static const struct rollout_move table[ROLLOUT_EVENTS][ROLLOUT_STATES] = {
    /*                            stepping              held                  paused                rolling_back */
    [EVENT_WAITING]        = ROW(STAY,                 STAY,                 STAY,                 BACK,   STAY),
    [EVENT_PROVEN]         = ROW(STEP_UP,              STAY,                 STAY,                 BACK,   STAY),
    [EVENT_PROVEN_PAUSE]   = ROW(TO(ROLLOUT_PAUSED),   STAY,                 STAY,                 BACK,   STAY),
    [EVENT_PROVEN_LAST]    = ROW(KEEP,                 STAY,                 STAY,                 BACK,   STAY),
    [EVENT_HARM]           = ROW(BACK,                 BACK,                 BACK,                 BACK,   STAY),

    [EVENT_OUT_OF_TIME]    = ROW(BACK,                 BACK,                 BACK,                 BACK,   STAY),
    [EVENT_SILENT]         = ROW(BACK,                 BACK,                 BACK,                 BACK,   STAY),
    [EVENT_NO_METRICS]     = ROW(STAY,                 STAY,                 STAY,                 BACK,   STAY),

    [EVENT_PROMOTE]        = ROW(STEP_UP,              STEP_UP,              STEP_UP,              REFUSE, REFUSE),
    [EVENT_PROMOTE_LAST]   = ROW(KEEP,                 KEEP,                 KEEP,                 REFUSE, REFUSE),
    [EVENT_HOLD]           = ROW(TO(ROLLOUT_HELD),     STAY,                 TO(ROLLOUT_HELD),     REFUSE, REFUSE),
    [EVENT_RESUME]         = ROW(REFUSE,               TO(ROLLOUT_STEPPING), REFUSE,               REFUSE, REFUSE),
    [EVENT_ABORT]          = ROW(BACK,                 BACK,                 BACK,                 BACK,   REFUSE),
    [EVENT_SUPERSEDE]      = ROW(BACK,                 BACK,                 BACK,                 BACK,   REFUSE),
    [EVENT_BROKEN]         = ROW(BACK,                 BACK,                 BACK,                 BACK,   STAY),

    /* A proof of stable ends as rollout_end_of() says. */
    [EVENT_STABLE_PROVEN]  = ROW(STAY,                 STAY,                 STAY,        TO(ROLLOUT_ABORTED), STAY),
    [EVENT_KEPT]           = ROW(TO(ROLLOUT_PROMOTED), TO(ROLLOUT_PROMOTED), TO(ROLLOUT_PROMOTED), BACK,   STAY),
    [EVENT_REFUSED]        = ROW(STAY,                 STAY,                 STAY,                 BACK,   STAY),
    [EVENT_SPLIT_UNPROVEN] = ROW(BACK,                 BACK,                 BACK,                 BACK,   STAY),
    [EVENT_SPLIT_LOST]     = ROW(AGAIN,                AGAIN,                AGAIN,                BACK,   STAY),
    [EVENT_CHANGED_HEAL]   = ROW(AGAIN,                AGAIN,                AGAIN,                BACK,   STAY),
    [EVENT_CHANGED_HOLD]   = ROW(TO(ROLLOUT_HELD),     STAY,                 TO(ROLLOUT_HELD),     BACK,   STAY),
    [EVENT_CHANGED_ABORT]  = ROW(BACK,                 BACK,                 BACK,                 BACK,   STAY),
    [EVENT_LEASE_OVER]     = ROW(BACK,                 BACK,                 BACK,                 BACK,   STAY),
    [EVENT_FENCED]         = ROW(TO(ROLLOUT_SUPERSEDED), TO(ROLLOUT_SUPERSEDED), TO(ROLLOUT_SUPERSEDED),
                                 TO(ROLLOUT_SUPERSEDED), STAY),

    [EVENT_RESTART]        = ROW(STAY,                 STAY,                 STAY,                 BACK,   STAY),
    [EVENT_RESTART_UNSURE] = ROW(BACK,                 BACK,                 BACK,                 BACK,   STAY),

    [EVENT_ALERT_HOLD]     = ROW(TO(ROLLOUT_HELD),     STAY,                 TO(ROLLOUT_HELD),     BACK,   STAY),
    [EVENT_ALERT_ABORT]    = ROW(BACK,                 BACK,                 BACK,                 BACK,   STAY),
};
/* clang-format on */

const char *const rollout_event_names[ROLLOUT_EVENTS] = {
    [EVENT_WAITING] = "waiting",
    [EVENT_PROVEN] = "proven",
    [EVENT_PROVEN_PAUSE] = "proven, pause",
    [EVENT_PROVEN_LAST] = "proven, last step",
    [EVENT_HARM] = "harm",
    [EVENT_OUT_OF_TIME] = "out of time",
    [EVENT_SILENT] = "silent",
    [EVENT_NO_METRICS] = "no metrics",
    [EVENT_PROMOTE] = "promote",
    [EVENT_PROMOTE_LAST] = "promote, last step",
    [EVENT_HOLD] = "hold",
    [EVENT_RESUME] = "resume",
    [EVENT_ABORT] = "abort",
    [EVENT_SUPERSEDE] = "supersede",
    [EVENT_BROKEN] = "broken",
    [EVENT_STABLE_PROVEN] = "stable proven",
    [EVENT_KEPT] = "kept",
    [EVENT_REFUSED] = "refused",
    [EVENT_SPLIT_UNPROVEN] = "split unproven",
    [EVENT_SPLIT_LOST] = "split lost",
    [EVENT_CHANGED_HEAL] = "changed, heal",
    [EVENT_CHANGED_HOLD] = "changed, hold",
    [EVENT_CHANGED_ABORT] = "changed, abort",
    [EVENT_LEASE_OVER] = "lease over",
    [EVENT_FENCED] = "fenced",
    [EVENT_RESTART] = "restart",
    [EVENT_RESTART_UNSURE] = "restart, unsure",
    [EVENT_ALERT_HOLD] = "alert, hold",
    [EVENT_ALERT_ABORT] = "alert, abort",
};

struct rollout_move rollout_move(enum rollout_state state, enum rollout_event event)
{
    struct rollout_move move = table[event][state];
    if (move.next == SAME)
        move.next = state;
    return move;
}

static bool is_last(const struct policy *policy, const struct rollout *rollout)
{
    return rollout->step + 1 >= policy->step_count;
}

static enum rollout_event event_of_abort(const struct verdict *verdict)
{
    if (verdict_is_harm(verdict))
        return EVENT_HARM;
    for (size_t m = 0; m < verdict->metric_count; m++)
        if (verdict->metrics[m].status == METRIC_EXPIRED)
            return EVENT_OUT_OF_TIME;
    return EVENT_SILENT;
}

enum rollout_event rollout_event_of(const struct policy *policy, const struct rollout *rollout,
                                    const struct verdict *verdict, int64_t now_ms)
{
    if (verdict && verdict->decision == DECISION_ABORT)
        return event_of_abort(verdict);
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

enum rollout_event rollout_drift_event(const struct policy *policy, bool withdrawn)
{
    static const enum rollout_event events[] = {
        [DRIFT_HEAL] = EVENT_CHANGED_HEAL, [DRIFT_HOLD] = EVENT_CHANGED_HOLD, [DRIFT_ABORT] = EVENT_CHANGED_ABORT};
    enum rollout_event event = events[policy->traffic.drift];
    return withdrawn && event == EVENT_CHANGED_HEAL ? EVENT_CHANGED_HOLD : event;
}

enum rollout_state rollout_end_of(enum rollout_cause cause)
{
    return cause == CAUSE_EXPIRED ? ROLLOUT_EXPIRED : cause == CAUSE_SUPERSEDED ? ROLLOUT_SUPERSEDED : ROLLOUT_ABORTED;
}

enum rollout_cause rollout_cause_of(enum rollout_event event)
{
    switch (event) {
    case EVENT_HARM:
        return CAUSE_HARMED;
    case EVENT_OUT_OF_TIME:
    case EVENT_SILENT:
    case EVENT_LEASE_OVER:
        return CAUSE_EXPIRED;
    case EVENT_ALERT_HOLD:
    case EVENT_ALERT_ABORT:
        return CAUSE_ALERT;
    case EVENT_SUPERSEDE:
    case EVENT_FENCED:
        return CAUSE_SUPERSEDED;
    case EVENT_PROMOTE:
    case EVENT_PROMOTE_LAST:
    case EVENT_HOLD:
    case EVENT_RESUME:
    case EVENT_ABORT:
        return CAUSE_PERSON;
    default:
        return CAUSE_DRIVER;
    }
}
