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
    bool locked;
    const char *actor; /* who does what is done now: the setup's, or haldane itself */
    char *failure;     /* why the last move failed, as recorded; NULL: none did */
};

/* move.c: what changes traffic. */
bool move_to_step(struct engine *engine, size_t step, const char *reason, struct error *err);
bool move_to_stable(struct engine *engine, enum rollout_cause cause, const char *reason, struct error *err);
bool move_carry_out(struct engine *engine, enum rollout_event event, enum rollout_cause cause, const char *reason,
                    struct error *err);

/*
 * Compares the balancer with the record of a rollout that goes on: finishes what an earlier process had begun, heals
 * what was changed meanwhile.
 */
bool move_reconcile(struct engine *engine, struct error *err);

/* record.c: what is written down. */
bool record_state(struct engine *engine, const char *event, const char *detail, struct error *err);
bool record_weight(struct engine *engine, int64_t from_ms, uint32_t weight_bp, struct error *err);
bool record_looks(struct engine *engine, struct error *err);
void record_reason(struct engine *engine, const char *reason);

/* Reads the record and folds its evidence, in place of what is in memory; nothing changes if that fails. */
bool record_load(struct engine *engine, const char *id, struct error *err);

/* The same, if another process has changed the record since it was read; else only the lease is taken over. */
bool record_refresh(struct engine *engine, struct error *err);

/* The same after a write failed with `err`: what the store has is what was. If it cannot be read either, `err` becomes
 * ERROR_IO. */
void record_reread(struct engine *engine, struct error *err);

#endif
