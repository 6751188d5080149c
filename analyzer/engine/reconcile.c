/*
 * The balancer's truth against the record. Three things make them differ: an earlier process died between an intent and
 * its record; the balancer was restarted and has forgotten; somebody else had a hand in it. The first is finished or
 * taken back, the second is healed, and the third is for the policy to say.
 */
#include "analyzer/engine/private.h"

#include "analyzer/model/format.h"
#include "base/memory.h"

#include <stdlib.h>

/* Whether the newest weight of the evidence is the rollout's. */
static bool is_recorded(const struct engine *engine)
{
    const struct evidence *evidence = engine->evidence;
    return evidence->weight_count > 0 &&
           evidence->weights[evidence->weight_count - 1].weight_bp == engine->rollout.weight_bp;
}

static bool canary_is_down(const struct engine *engine)
{
    return engine->seen.health_known && engine->seen.up[TRACK_CANARY] == 0;
}

/* An intent was written down, and its outcome was not: somebody died, or the balancer did not answer. It knows. */
static bool finish_intent(struct engine *engine, const struct intent *intent, struct error *err)
{
    const struct policy *policy = engine->policy;
    uint32_t share_bp = engine->seen.share_bp;
    struct rollout *rollout = &engine->rollout;
    if (driver_is_share(share_bp, rollout->weight_bp))
        return store_clear_intent(engine->setup.store, rollout->id, err);
    for (size_t s = 0; s < policy->step_count && driver_is_share(share_bp, intent->weight_bp); s++) {
        if (policy->steps[s].weight_bp != intent->weight_bp)
            continue;
        rollout->step = s;
        /* The pause was the last step's. A hold stays until the one who gave it lifts it. */
        if (rollout->state == ROLLOUT_PAUSED)
            rollout->state = ROLLOUT_STEPPING;
        return move_follow(engine, intent->weight_bp, engine->evidence->weight_count ? "step" : "begun",
                           "the balancer had taken the weight before that could be recorded", err);
    }
    return move_carry_out(engine, EVENT_RESTART_UNSURE, "a change was not finished, and the balancer has another split",
                          err);
}

/* Taking up what a process left that died. */
static bool take_up(struct engine *engine, const struct intent *intent, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    if (intent->pending && !finish_intent(engine, intent, err))
        return false;
    if (engine_is_over(engine))
        return true;
    if (canary_is_down(engine))
        return move_carry_out(engine, EVENT_RESTART_UNSURE,
                              "haldane was started again and found no canary server up in the balancer", err);
    if (!driver_is_share(engine->seen.share_bp, rollout->weight_bp))
        return move_carry_out(engine, EVENT_RESTART_UNSURE,
                              "haldane was started again and found another split in the balancer than it had left",
                              err);
    if (!move_carry_out(engine, EVENT_RESTART, "", err))
        return false;
    /* One that never had a weight does not go on: it begins now. */
    return engine->evidence->weight_count == 0 ||
           record_state(engine, "resumed", "haldane was started again; the split is as recorded", err);
}

/* It is what the balancer has that the rollout goes on with, held: a person must say what is next. */
static bool hold(struct engine *engine, const char *detail, struct error *err)
{
    engine->rollout.state = rollout_move(engine->rollout.state, EVENT_CHANGED_HOLD).next;
    record_reason(engine, detail);
    return move_follow(engine, engine->seen.share_bp, "held", detail, err);
}

/* The split is not the record's, and no process of ours was in the middle of changing it. */
static bool answer_drift(struct engine *engine, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    const struct driver_state *seen = &engine->seen;
    bool tells = seen->generation && rollout->generation, restarted = tells && seen->generation != rollout->generation;
    bool keeps = tells || seen->capabilities & DRIVER_PERSIST; /* no restart has put it on stable */
    enum rollout_event event =
        restarted ? EVENT_SPLIT_LOST : rollout_drift_event(engine->policy, keeps && seen->share_bp == 0);
    char found[FORMAT_TEXT], wanted[FORMAT_TEXT];
    format_weight(seen->share_bp, found);
    format_weight(rollout->weight_bp, wanted);
    bool holds = event == EVENT_CHANGED_HOLD;
    char *detail = mem_printf(restarted ? "the balancer was restarted or reloaded and had %s, not the %s of the record"
                              : holds   ? "somebody else gave the canary %s, the record says %s; so it stays until "
                                          "`haldane resume` or `haldane abort`"
                                        : "somebody else gave the canary %s, the record says %s",
                              found, wanted);
    bool ok = holds ? hold(engine, detail, err) : move_carry_out(engine, event, detail, err);
    free(detail);
    return ok;
}

/* Somebody moves the traffic of a rollout that only advises: the record goes after it. */
static bool go_after(struct engine *engine, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    uint32_t share_bp = engine->seen.share_bp;
    char found[FORMAT_TEXT];
    int32_t step = rollout_step_of(engine->policy, share_bp);
    if (step >= 0)
        rollout->step = (size_t)step;
    char *detail = mem_printf("the balancer gives the canary %s", format_weight(share_bp, found));
    record_reason(engine, detail);
    bool ok = move_follow(engine, share_bp, engine->evidence->weight_count ? "step" : "begun", detail, err);
    free(detail);
    return ok;
}

/* A balancer that came back with the same split is worth a line. */
static bool note_generation(struct engine *engine, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    uint64_t before = rollout->generation, now = engine->seen.generation;
    if (now == 0 || now == before)
        return true;
    rollout->generation = now;
    return before == 0
               ? store_save_rollout(engine->setup.store, rollout, err)
               : record_state(engine, "balancer", "it was restarted or reloaded; the split is as recorded", err);
}

/* A weight that the rollout's state does not call for: it was never set, or a hold kept somebody else's. */
static bool catch_up(struct engine *engine, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    uint32_t wanted_bp = engine->policy->steps[rollout->step].weight_bp;
    if (rollout->state == ROLLOUT_HELD && engine->evidence->weight_count > 0)
        return true;
    if (rollout->weight_bp > 0 && (rollout->advise || driver_is_share(rollout->weight_bp, wanted_bp)))
        return true;
    return move_to_step(engine, rollout->step, rollout->weight_bp ? "the step's weight again" : "first step", err);
}

static bool compare(struct engine *engine, const struct intent *intent, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    bool ok = true;
    if (rollout->advise && !driver_is_share(engine->seen.share_bp, rollout->weight_bp))
        ok = go_after(engine, err);
    else if (engine->setup.restart || (intent->pending && engine->fresh))
        ok = take_up(engine, intent, err);
    else if (intent->pending)
        ok = finish_intent(engine, intent, err);
    else if (!driver_is_share(engine->seen.share_bp, rollout->weight_bp))
        ok = answer_drift(engine, err);
    engine->setup.restart = engine->fresh = false;
    if (!ok || engine_is_over(engine))
        return ok;
    /* A split that was healed, but could not be recorded so: without this the judge would go on under the wrong one. */
    if (rollout->weight_bp > 0 && !is_recorded(engine))
        return move_follow(engine, rollout->weight_bp, "drift", "the record's split was found again", err);
    return note_generation(engine, err) && catch_up(engine, err);
}

static bool look_at_balancer(struct engine *engine, const struct intent *intent, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    enum driver_status status = driver_get(engine->driver, &engine->seen, err);
    struct error why = *err;
    if (status == DRIVER_OK || status == DRIVER_UNSUPPORTED || status == DRIVER_MISMATCH)
        *err = (struct error){0};
    if (status == DRIVER_MISMATCH)
        return move_carry_out(engine, EVENT_SPLIT_UNPROVEN, why.text, err);
    if (status == DRIVER_UNSUPPORTED) { /* no balancer: the record is the truth */
        engine->seen.share_bp = intent->pending ? intent->weight_bp : rollout->weight_bp;
    } else if (status != DRIVER_OK) {
        record_no_look(engine, "no balancer", err->text);
        return false;
    }
    bool newer = rollout->epoch && engine->seen.epoch > rollout->epoch;
    if (newer && engine->seen.share_bp == 0)
        return move_carry_out(engine, EVENT_RESTART_UNSURE,
                              "the balancer has all traffic on stable, by a newer order than the record knows: haldane "
                              "could not write down its way back, or another rollout began and ended",
                              err);
    if (newer)
        return move_carry_out(engine, EVENT_FENCED, "the balancer holds a newer epoch: another rollout has the split",
                              err);
    if (engine->seen.lease_over && rollout->weight_bp > 0)
        return move_carry_out(engine, EVENT_LEASE_OVER,
                              "the balancer returned all traffic to stable by itself: nobody had renewed its lease",
                              err);
    return compare(engine, intent, err);
}

bool reconcile(struct engine *engine, struct error *err)
{
    struct intent intent = {0};
    if (!store_get_intent(engine->setup.store, engine->rollout.id, &intent, err))
        return false;
    bool ok = look_at_balancer(engine, &intent, err);
    intent_clear(&intent);
    return ok;
}
