/*
 * Writing down: the record in memory and the one in the store change together, in one transaction per event, so that a
 * crash leaves both at the same point.
 */
#include "analyzer/engine/private.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

void record_reason(struct engine *engine, const char *reason)
{
    char *copy = mem_strdup(reason);
    free(engine->rollout.reason);
    engine->rollout.reason = copy;
}

bool record_state(struct engine *engine, const char *event, const char *detail, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    char *actor = mem_strdup(engine->actor), *name = mem_strdup(event), *text = mem_strdup(detail);
    struct audit_entry entry = {engine->setup.now_ms(), actor, name, text, rollout->weight_bp};
    bool ok = store_save_rollout(engine->setup.store, rollout, err) &&
              store_add_audit(engine->setup.store, rollout->id, &entry, err);
    free(actor);
    free(name);
    free(text);
    return ok;
}

bool record_weight(struct engine *engine, int64_t from_ms, uint32_t weight_bp, struct error *err)
{
    const struct evidence *evidence = engine->evidence;
    /* Times of weights rise strictly: two changes within one millisecond are a millisecond apart in the record. */
    if (evidence->weight_count && evidence->weights[evidence->weight_count - 1].from_ms >= from_ms)
        from_ms = evidence->weights[evidence->weight_count - 1].from_ms + 1;
    evidence_add_weight(engine->evidence, from_ms, weight_bp);
    return store_add_weight(engine->setup.store, engine->rollout.id, from_ms, weight_bp, err);
}

static bool record_look(struct engine *engine, const struct look *look, struct error *err)
{
    struct store *store = engine->setup.store;
    char *json = evidence_look_to_json(engine->evidence, look);
    bool ok = store_add_look(store, engine->rollout.id, look->at_ms, json, err);
    free(json);
    if (!ok)
        return false;
    judge_observe(engine->judge, engine->evidence, look);
    if (look->weight_bp == 0)
        return true;
    verdict_free(engine->verdict);
    engine->verdict = judge_verdict(engine->judge, engine->rollout.id, EFFECTS_LIVE);
    json = verdict_to_json(engine->verdict);
    ok = store_add_verdict(store, engine->rollout.id, engine->verdict->look, look->at_ms, json, err);
    free(json);
    return ok;
}

bool record_looks(struct engine *engine, struct error *err)
{
    struct look look = {0};
    int64_t after_ms = engine->rollout.last_look_ms;
    bool ok = true, harm = false;
    while (ok && !harm && evidence_next_look(engine->evidence, &after_ms, &look)) {
        ok = record_look(engine, &look, err);
        harm = ok && engine->verdict && verdict_is_harm(engine->verdict);
        engine->rollout.last_look_ms = after_ms;
    }
    look_free(&look);
    return ok;
}

static void fold(struct engine *engine)
{
    struct look look = {0};
    int64_t after_ms = INT64_MIN;
    judge_free(engine->judge);
    engine->judge = judge_new(engine->policy);
    while (evidence_next_look(engine->evidence, &after_ms, &look))
        judge_observe(engine->judge, engine->evidence, &look);
    look_free(&look);
    verdict_free(engine->verdict);
    engine->verdict = judge_verdict(engine->judge, engine->rollout.id, EFFECTS_LIVE);
    if (engine->verdict->look > 0)
        return;
    verdict_free(engine->verdict);
    engine->verdict = NULL;
}

bool record_load(struct engine *engine, const char *id, struct error *err)
{
    struct rollout rollout = {0};
    if (!store_load_rollout(engine->setup.store, id, &rollout, err))
        return false;
    struct evidence *evidence = store_load_evidence(engine->setup.store, id, engine->policy->look_ms, err);
    if (!evidence) {
        rollout_clear(&rollout);
        return false;
    }
    rollout_clear(&engine->rollout);
    engine->rollout = rollout;
    evidence_free(engine->evidence);
    engine->evidence = evidence;
    fold(engine);
    return true;
}

bool record_refresh(struct engine *engine, struct error *err)
{
    struct rollout *known = &engine->rollout, now = {0};
    if (!store_load_rollout(engine->setup.store, known->id, &now, err))
        return false;
    if (now.state == known->state && now.step == known->step && now.weight_bp == known->weight_bp &&
        now.step_since_ms == known->step_since_ms && now.last_look_ms == known->last_look_ms) {
        rollout_clear(known);
        *known = now;
        return true;
    }
    bool ok = record_load(engine, now.id, err);
    rollout_clear(&now);
    return ok;
}

void record_reread(struct engine *engine, struct error *err)
{
    struct error ignored;
    char id[sizeof engine->rollout.id];
    memcpy(id, engine->rollout.id, sizeof id);
    if (!record_load(engine, id, &ignored))
        err->code = ERROR_IO;
}

/* The newest line of the trail, which the caller clears. False if there is none. */
static bool newest_line(const struct engine *engine, struct audit_entry *line)
{
    struct error ignored;
    struct audit_entry *trail = NULL;
    size_t count = 0;
    bool any = store_load_audit(engine->setup.store, engine->rollout.id, &trail, &count, &ignored) && count > 0;
    if (any) {
        *line = trail[count - 1];
        trail[count - 1] = (struct audit_entry){0};
    }
    audit_entries_free(trail, count);
    return any;
}

void record_failure(struct engine *engine, const char *event, const char *text)
{
    struct error ignored;
    struct audit_entry last = {0};
    bool known = newest_line(engine, &last) && strcmp(last.event, event) == 0 && strcmp(last.detail, text) == 0;
    audit_entry_clear(&last);
    if (!known)
        record_state(engine, event, text, &ignored);
}

char *record_trouble(const struct engine *engine)
{
    struct audit_entry last = {0};
    int64_t attended_ms = engine->rollout.lease_until_ms - engine_lease_ms(engine);
    bool fails = newest_line(engine, &last) && audit_failure(&last, 1) && last.at_ms >= attended_ms;
    char *text = fails ? mem_strdup(last.detail) : NULL;
    audit_entry_clear(&last);
    return text;
}

void record_no_look(struct engine *engine, const char *event, const char *text)
{
    struct error ignored;
    char *known = record_trouble(engine);
    if (!known || strcmp(known, text) != 0)
        record_state(engine, event, text, &ignored);
    free(known);
}

bool record_sample(struct engine *engine, struct error *err)
{
    struct error ignored;
    struct balancer_counters counters;
    bool counts = engine->seen.capabilities & DRIVER_COUNTERS;
    if (!counts && engine->evidence->balancer_count == 0)
        return true;
    /* No answer is kept too: a replay must not take a later sample for one that was there. */
    if (!counts || driver_counters(engine->driver, &counters, &ignored) != DRIVER_OK)
        counters = (struct balancer_counters){0};
    counters.at_ms = engine->setup.now_ms();
    if (!evidence_add_balancer(engine->evidence, &counters))
        return true;
    char *json = evidence_balancer_to_json(&counters);
    bool ok = store_add_balancer(engine->setup.store, engine->rollout.id, counters.at_ms, json, err);
    free(json);
    return ok;
}
