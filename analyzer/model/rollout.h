/*
 * The state of one attempt to replace stable, as the store keeps it and the state machine (analyzer/rollout) moves it.
 */
#ifndef HALDANE_MODEL_ROLLOUT_H
#define HALDANE_MODEL_ROLLOUT_H

#include "policies/policy.h"

enum rollout_state {
    ROLLOUT_STEPPING,     /* a canary has the weight of a step and is compared */
    ROLLOUT_HELD,         /* a person holds it: evidence is gathered, nothing moves up */
    ROLLOUT_PAUSED,       /* the step is proven and waits for a person (`pause: true`) */
    ROLLOUT_PROMOTED,     /* ended: the canary has the last step's weight */
    ROLLOUT_ROLLING_BACK, /* stable is being restored; stays here until the balancer proves it */
    ROLLOUT_ABORTED,      /* ended: harm was shown, or a person said so; stable proven */
    ROLLOUT_EXPIRED,      /* ended: nothing was proved in time; stable proven */
    ROLLOUT_SUPERSEDED,   /* ended: another rollout took its place, or took the split from it */
    ROLLOUT_STATES
};

extern const char *const rollout_state_names[ROLLOUT_STATES];

enum rollout_cause {
    CAUSE_NONE,
    CAUSE_HARMED,
    CAUSE_EXPIRED,
    CAUSE_PERSON,
    CAUSE_DRIVER,
    CAUSE_ALERT,
    CAUSE_SUPERSEDED
};
/* "", "harmed", "expired", "person", "driver", "alert", "superseded" */
extern const char *const rollout_cause_names[];

struct rollout {
    char id[96];
    char *service;
    enum rollout_state state;
    enum rollout_cause cause; /* why it is going or went back */
    size_t step;              /* index of the step in force */
    uint32_t weight_bp;       /* what was last read back from the balancer */
    int64_t begun_ms, step_since_ms, last_look_ms, lease_until_ms, ended_ms; /* 0: not yet */
    char *reason;                                                            /* of the last transition; owned */
    uint64_t epoch;      /* of its orders to the balancer (analyzer/traffic/driver.h); 0: the balancer holds none */
    uint64_t generation; /* the balancer's process that was last seen; 0: not known */
    bool advise;         /* judges and says what to do; moves no traffic */
    int64_t pruned_ms;   /* when its evidence was removed, after its retention; 0: it is there. The store's to set */
};

/* One line of the record of what happened. */
struct audit_entry {
    int64_t at_ms;
    char *actor;  /* "haldane", "haldane guard" or the user's name */
    char *event;  /* "begun", "step", "held", ... */
    char *detail; /* a sentence */
    uint32_t weight_bp;
};

/*
 * The step of the policy that a weight read back from a balancer stands for: the nearest one, if it is no further off
 * than a balancer's whole numbers may put it (15 basis points or 1 %). -1 if there is none.
 */
int32_t rollout_step_of(const struct policy *policy, uint32_t weight_bp);

bool rollout_ended(const struct rollout *rollout);
void rollout_clear(struct rollout *rollout);
void audit_entry_clear(struct audit_entry *entry);
void audit_entries_free(struct audit_entry *entries, size_t count);

/* The newest line, if it is a failure ("no metrics", "no balancer", "refused", "rollback failed", "not saved"): nothing
 * was recorded since. A look that goes well records no line. Else NULL. */
const struct audit_entry *audit_failure(const struct audit_entry *audit, size_t count);

#endif
