/*
 * The state machine of a rollout: one table, event by state, that says what is done and what the next state is. Pure:
 * it decides, the engine acts. The same table stands in docs/rollout.md; a test compares the two.
 */
#ifndef HALDANE_ROLLOUT_MACHINE_H
#define HALDANE_ROLLOUT_MACHINE_H

#include "analyzer/model/rollout.h"
#include "analyzer/model/verdict.h"

enum rollout_event {
    /* looks */
    EVENT_WAITING,      /* a look decided nothing */
    EVENT_PROVEN,       /* the step may be left upward */
    EVENT_PROVEN_PAUSE, /* the same on a step with `pause: true` */
    EVENT_PROVEN_LAST,  /* the same on the last step */
    EVENT_HARM,         /* harm was shown */

    /* time and metrics */
    EVENT_OUT_OF_TIME, /* nothing was proved in time, the deadline passed, or nobody looked while the lease lived */
    EVENT_SILENT,      /* a metric with `on_no_data: abort` gave nothing for as long as the lease */
    EVENT_NO_METRICS,  /* Prometheus gave no answer: no look was possible */

    /* persons */
    EVENT_PROMOTE,      /* next step */
    EVENT_PROMOTE_LAST, /* the same on the last step */
    EVENT_HOLD,
    EVENT_RESUME,
    EVENT_ABORT,
    EVENT_SUPERSEDE, /* a newer rollout of the service was begun with `--supersede` */

    EVENT_BROKEN, /* haldane cannot go on: the record cannot be written */

    /* the balancer */
    EVENT_STABLE_PROVEN,  /* it was read back with all traffic on stable */
    EVENT_KEPT,           /* it was read back with the last step's weight, for good */
    EVENT_REFUSED,        /* it gave no answer, or refused a change: nothing has moved */
    EVENT_SPLIT_UNPROVEN, /* it took a change but shows something else; or several balancers differ */
    EVENT_SPLIT_LOST,     /* it was restarted or reloaded, and came back with another split */
    EVENT_CHANGED_HEAL,   /* somebody else changed the split; the policy says `drift: heal` */
    EVENT_CHANGED_HOLD,   /* the same, `drift: hold` */
    EVENT_CHANGED_ABORT,  /* the same, `drift: abort` */
    EVENT_LEASE_OVER,     /* it returned to stable by itself, since nobody renewed the lease */
    EVENT_FENCED,         /* another engine has taken the split: it holds a newer epoch */

    /* restarts: a process died, and another one takes the rollout up */
    EVENT_RESTART,        /* the split is as recorded or intended, and the canary is up */
    EVENT_RESTART_UNSURE, /* it is not */

    /* alerts */
    EVENT_ALERT_HOLD,
    EVENT_ALERT_ABORT,
    ROLLOUT_EVENTS
};

enum rollout_action {
    ACTION_NONE,
    ACTION_NEXT_STEP, /* set the next step's weight; the state becomes stepping when it was read back */
    ACTION_KEEP,      /* set the step's weight for good, without a lease; then EVENT_KEPT */
    ACTION_SET_AGAIN, /* set the recorded weight again */
    ACTION_TO_STABLE, /* put all traffic on stable; the state changes before that is tried */
    ACTION_REFUSE,    /* this cannot be asked for in this state */
};

struct rollout_move {
    enum rollout_action action;
    enum rollout_state next;
};

struct rollout_move rollout_move(enum rollout_state state, enum rollout_event event);

extern const char *const rollout_event_names[ROLLOUT_EVENTS];

/*
 * What a verdict (NULL: no look was possible) means for a rollout at a time: EVENT_HARM, the EVENT_PROVEN family,
 * EVENT_OUT_OF_TIME, EVENT_SILENT or EVENT_WAITING. Harm comes before time, time before proof.
 */
enum rollout_event rollout_event_of(const struct policy *policy, const struct rollout *rollout,
                                    const struct verdict *verdict, int64_t now_ms);

/* A person's promote on the step in force. */
enum rollout_event rollout_promote_event(const struct policy *policy, const struct rollout *rollout);

/*
 * What the policy says to a split that somebody else has changed. `withdrawn`: the canary was given nothing by a
 * balancer that was not restarted. Nobody's order to go back to stable is healed upward: it is held.
 */
enum rollout_event rollout_drift_event(const struct policy *policy, bool withdrawn);

/* The state that a rollback ends in: what ran out of time is expired, what made room superseded, all else aborted. */
enum rollout_state rollout_end_of(enum rollout_cause cause);

/* Why traffic goes back after an event: CAUSE_EXPIRED for time, CAUSE_HARMED for harm, and so on. */
enum rollout_cause rollout_cause_of(enum rollout_event event);

#endif
