/*
 * The state machine of a rollout: one table, state by event, that says what is done and what the next state is. Pure:
 * it decides, the engine acts. The same table stands in docs/rollout.md; a test compares the two.
 */
#ifndef HALDANE_ROLLOUT_MACHINE_H
#define HALDANE_ROLLOUT_MACHINE_H

#include "analyzer/model/rollout.h"
#include "analyzer/model/verdict.h"

enum rollout_event {
    EVENT_WAITING,        /* a look decided nothing */
    EVENT_PROVEN,         /* the step may be left upward */
    EVENT_PROVEN_PAUSE,   /* the same on a step with `pause: true` */
    EVENT_PROVEN_LAST,    /* the same on the last step */
    EVENT_HARM,           /* harm was shown */
    EVENT_OUT_OF_TIME,    /* nothing was proved in time, the deadline passed, or nobody looked while the lease lived */
    EVENT_PROMOTE,        /* a person: next step */
    EVENT_PROMOTE_LAST,   /* a person, on the last step */
    EVENT_HOLD,           /* a person */
    EVENT_RESUME,         /* a person */
    EVENT_ABORT,          /* a person */
    EVENT_STABLE_PROVEN,  /* the balancer was read back with all traffic on stable */
    EVENT_SPLIT_UNPROVEN, /* the balancer took a change but shows something else */
    ROLLOUT_EVENTS
};

enum rollout_action {
    ACTION_NONE,
    ACTION_NEXT_STEP, /* set the next step's weight; the state changes when it was read back */
    ACTION_TO_STABLE, /* put all traffic on stable; the state changes before that is tried */
    ACTION_REFUSE,    /* this cannot be asked for in this state */
};

struct rollout_move {
    enum rollout_action action;
    enum rollout_state next;
};

extern const struct rollout_move rollout_table[ROLLOUT_STATES][ROLLOUT_EVENTS];
extern const char *const rollout_event_names[ROLLOUT_EVENTS];
extern const char *const rollout_action_names[];

/*
 * What a verdict (NULL: no look was possible) means for a rollout at a time: EVENT_HARM, the EVENT_PROVEN family,
 * EVENT_OUT_OF_TIME or EVENT_WAITING. Harm comes before time, time before proof.
 */
enum rollout_event rollout_event_of(const struct policy *policy, const struct rollout *rollout,
                                    const struct verdict *verdict, int64_t now_ms);

/* A person's promote on the step in force. */
enum rollout_event rollout_promote_event(const struct policy *policy, const struct rollout *rollout);

/* The state that a rollback ends in: what a person or harm caused is aborted, what ran out of time expired. */
enum rollout_state rollout_end_of(enum rollout_cause cause);

#endif
