/*
 * The engine: the only place that acts. It holds one rollout at a time: gathers its evidence, lets the judge and the
 * state machine decide, writes down what it is about to do, moves the balancer, and records what it read back.
 *
 * Whatever fails on the way up leaves the traffic as it is; whatever fails on the way down is tried again until the
 * balancer proves that stable has everything.
 */
#ifndef HALDANE_ENGINE_ENGINE_H
#define HALDANE_ENGINE_ENGINE_H

#include "analyzer/model/evidence.h"
#include "analyzer/model/rollout.h"
#include "analyzer/model/verdict.h"
#include "analyzer/rollout/machine.h"
#include "analyzer/store/store.h"
#include "base/error.h"
#include "policies/policy.h"

struct engine;

struct engine_setup {
    struct store *store;       /* borrowed */
    const char *actor;         /* who gives the orders; borrowed */
    const char *decider;       /* who does what nobody ordered; borrowed; NULL: haldane */
    int64_t (*now_ms)(void);   /* the clock, Unix milliseconds */
    bool (*interrupted)(void); /* asked while a look is waited for, to give it up; NULL: never */

    /* Starts who watches the lease while nobody looks; asked before the first weight is set. NULL: nobody. */
    bool (*attend)(const char *rollout_id, struct error *err);

    int64_t lock_patience_ms; /* how long another process is waited for that has the rollout; 0: three seconds */

    bool supersede;  /* engine_begin(): a rollout of the service that is under way makes room, with traffic on stable */
    bool advise;     /* engine_begin(): judge and say what to do, and move no traffic */
    bool restart;    /* engine_open(): a process that held the rollout died */
    bool unattended; /* engine_advance(): the lease has run out by a clock that nobody sets: back to stable */
};

/*
 * Opens a rollout under `policy`, which the engine then owns (also on failure): checks that Prometheus answers, that
 * stable's metrics are there, that the balancer can be read, has no canary traffic yet and a canary that is up; takes
 * the service; sets the first weight and reads it back. NULL with `err` if any of it fails; no traffic has moved then,
 * or it is proven back on stable.
 */
struct engine *engine_begin(const struct engine_setup *setup, struct policy *policy, struct error *err);

/* The policy that a rollout in the store was begun under; the caller frees it. */
struct policy *engine_stored_policy(struct store *store, const char *id, struct error *err);

/*
 * Takes a rollout that is in the store, for this process alone (ERROR_BUSY if another one has it). Its evidence is
 * folded again, which gives the judge's state.
 */
struct engine *engine_open(const struct engine_setup *setup, const char *id, struct error *err);
void engine_close(struct engine *engine);

/*
 * Folds every complete look since the last call and acts: at the first look that shows harm; upward if the step is
 * still proven after the last look. Renews the lease. What the record says by itself (harm, time that has run out) is
 * done first, without asking anybody. While Prometheus is waited for the rollout is anybody's: an order need not wait,
 * and a look that came too late for it is dropped. False with `err` if something could not be reached or written; the
 * rollout is then where it was, or on its way to stable.
 */
bool engine_advance(struct engine *engine, struct error *err);

/*
 * This process cannot go on (its record cannot be written, say): all traffic back to stable, as what haldane decided
 * and nobody ordered. `reason` is why. As engine_order().
 */
bool engine_give_up(struct engine *engine, const char *reason, struct error *err);

/*
 * An order from outside: EVENT_PROMOTE, EVENT_HOLD, EVENT_RESUME, EVENT_ABORT of a person, EVENT_SUPERSEDE, or one of
 * the alert events. ERROR_USAGE if the state does not take it.
 */
bool engine_order(struct engine *engine, enum rollout_event order, const char *reason, struct error *err);

/*
 * Lets other processes at the rollout while this one sleeps: a person must be able to give an order at any time. The
 * next call takes it again and reads what has changed meanwhile. Keeps a rollout that is on its way to stable.
 */
void engine_rest(struct engine *engine);

const struct rollout *engine_rollout(const struct engine *engine);
const struct policy *engine_policy(const struct engine *engine);
const struct evidence *engine_evidence(const struct engine *engine);
const struct verdict *engine_verdict(const struct engine *engine); /* of the last look; NULL before the first */

/* How long a look, or a try to go back, lets a rollout under this policy go unattended: `lease_until_ms` is so much
 * later than it. */
int64_t engine_lease_of(const struct policy *policy);

/* When the next look can be folded. */
int64_t engine_next_look_ms(const struct engine *engine);

#endif
