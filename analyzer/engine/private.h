/* The engine's parts, for this folder only. */
#ifndef HALDANE_ENGINE_PRIVATE_H
#define HALDANE_ENGINE_PRIVATE_H

#include "analyzer/collect/collect.h"
#include "analyzer/engine/engine.h"
#include "analyzer/judge/judge.h"
#include "analyzer/traffic/driver.h"

struct engine {
    struct engine_setup setup;
    struct policy *policy;
    struct driver *driver;
    struct collector *collector;
    struct evidence *evidence;
    struct judge *judge;
    struct verdict *verdict;
    struct rollout rollout;
    struct driver_state seen; /* the balancer, as it was last read; `capabilities` is 0 before */
    bool locked;
    bool fresh;        /* just read from the store: what is pending was left by another process */
    const char *actor; /* who does what is done now: the setup's actor or its decider */
};

/* With its parts, and no rollout yet. Owns `policy`, also on failure. */
struct engine *engine_new(const struct engine_setup *setup, struct policy *policy, struct error *err);

/* How long the balancer and the record let a canary go unattended. */
int64_t engine_lease_ms(const struct engine *engine);

/* It has ended, or is on its way back to stable. */
bool engine_is_over(const struct engine *engine);

/* move.c: what changes traffic. */
bool move_to_step(struct engine *engine, size_t step, const char *reason, struct error *err);
bool move_to_stable(struct engine *engine, enum rollout_cause cause, const char *reason, struct error *err);

/* Does what the table says to an event. */
bool move_carry_out(struct engine *engine, enum rollout_event event, const char *reason, struct error *err);

/* Asks the balancer for the lease again, at the weight of the record. */
bool move_renew(struct engine *engine, struct error *err);

/* reconcile.c: compares the balancer with the record of a rollout that goes on: finishes what an earlier process had
 * begun, and answers to a split that is not the recorded one as the policy says. */
bool reconcile(struct engine *engine, struct error *err);

/* The weight that was found becomes the record's, under this event of the audit trail. */
bool move_follow(struct engine *engine, uint32_t found_bp, const char *event, const char *detail, struct error *err);

/* record.c: what is written down. */
bool record_state(struct engine *engine, const char *event, const char *detail, struct error *err);
bool record_weight(struct engine *engine, int64_t from_ms, uint32_t weight_bp, struct error *err);
bool record_looks(struct engine *engine, struct error *err);
void record_reason(struct engine *engine, const char *reason);

/* What the balancer counted until now, if it tells. A balancer that does not answer this is no reason to stop. */
bool record_sample(struct engine *engine, struct error *err);

/* What fails is tried again for as long as it takes: the record gets a line when the last one does not say so already.
 */
void record_failure(struct engine *engine, const char *event, const char *text);

/* The same of what keeps a look from being taken: said anew if a look has gone well since it was said. */
void record_no_look(struct engine *engine, const char *event, const char *text);

/* What keeps looks from being taken, or the way back from being proven, since somebody last attended; else NULL. The
 * caller frees it. */
char *record_trouble(const struct engine *engine);

/* Reads the record and folds its evidence, in place of what is in memory; nothing changes if that fails. */
bool record_load(struct engine *engine, const char *id, struct error *err);

/* The same, if another process has changed the record since it was read; else only the lease is taken over. */
bool record_refresh(struct engine *engine, struct error *err);

/* The same after a write failed with `err`: what the store has is what was. If it cannot be read either, `err` becomes
 * ERROR_IO. */
void record_reread(struct engine *engine, struct error *err);

#endif
