/*
 * Moving traffic: the intent is durable before the balancer is asked, and the record follows what was read back. Upward
 * a failure leaves everything as it is. Downward nothing stops it: not a store that cannot be written, not a canary
 * that is dead.
 */
#include "analyzer/engine/private.h"

#include "analyzer/model/format.h"
#include "analyzer/traffic/weights.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A balancer's weights are whole numbers: what it shows may be as far from a step's share as the driver accepts. */
static bool is_share(uint32_t share_bp, uint32_t weight_bp)
{
    return fabs((double)share_bp - weight_bp) <= weights_tolerance(weight_bp);
}

static bool put_intent(struct engine *engine, uint32_t weight_bp, const char *reason, struct error *err)
{
    char *copy = mem_strdup(reason);
    struct intent intent = {true, weight_bp, engine->setup.now_ms(), copy};
    bool ok = store_put_intent(engine->setup.store, engine->rollout.id, &intent, err);
    free(copy);
    return ok;
}

/* Looks before a change belong to the old split and are not folded any more; the one that holds the change is
 * discarded. */
static void skip_looks(struct engine *engine, int64_t changed_ms)
{
    struct rollout *rollout = &engine->rollout;
    int64_t past_ms = changed_ms - rollout->last_look_ms;
    if (past_ms > 0)
        rollout->last_look_ms += past_ms - past_ms % engine->policy->look_ms;
}

/* Records a weight that was read back, as one transaction. */
static bool settle(struct engine *engine, uint32_t weight_bp, const char *event, const char *detail, struct error *err)
{
    struct store *store = engine->setup.store;
    int64_t now_ms = engine->setup.now_ms();
    skip_looks(engine, now_ms);
    engine->rollout.weight_bp = weight_bp;
    engine->rollout.step_since_ms = now_ms;
    if (!store_begin(store, err))
        return false;
    if (record_weight(engine, now_ms, weight_bp, err) && store_clear_intent(store, engine->rollout.id, err) &&
        record_state(engine, event, detail, err) && store_commit(store, err))
        return true;
    store_rollback(store);
    return false;
}

/* The same for a rollout that goes on: if it cannot be recorded, the record that there is stays the truth, and the
 * intent in it is finished by the next pass. */
static bool settle_on(struct engine *engine, uint32_t weight_bp, const char *event, const char *detail,
                      struct error *err)
{
    if (settle(engine, weight_bp, event, detail, err))
        return true;
    record_reread(engine, err);
    return false;
}

/* What fails is tried again every second for as long as it takes: the record gets a line when the reason is a new one.
 */
static void record_failure(struct engine *engine, const char *event, const char *text)
{
    struct error ignored;
    if (engine->failure && strcmp(engine->failure, text) == 0)
        return;
    free(engine->failure);
    engine->failure = mem_strdup(text);
    record_state(engine, event, text, &ignored);
}

/* The balancer answered, but the answer is no: nothing has moved, and there is nothing left to find out. */
static bool is_refusal(enum driver_status status)
{
    return status == DRIVER_REFUSED || status == DRIVER_UNHEALTHY || status == DRIVER_UNSUPPORTED;
}

bool move_to_step(struct engine *engine, size_t step, const char *reason, struct error *err)
{
    uint32_t weight_bp = engine->policy->steps[step].weight_bp;
    char weight[FORMAT_TEXT];
    format_weight(weight_bp, weight);
    if (!put_intent(engine, weight_bp, reason, err))
        return false;
    struct driver_state got;
    enum driver_status status = driver_set(engine->driver, weight_bp, &got, err);
    if (status == DRIVER_OK) {
        engine->rollout.step = step;
        engine->rollout.state = ROLLOUT_STEPPING;
        record_reason(engine, reason);
        char *detail = mem_printf("%s: %s", weight, reason);
        bool ok = settle_on(engine, weight_bp, step == 0 ? "begun" : "step", detail, err);
        free(detail);
        return ok;
    }
    error_prefix(err, "the canary could not be given %s", weight);
    if (status == DRIVER_MISMATCH)
        return move_to_stable(engine, CAUSE_DRIVER, err->text, err);
    if (is_refusal(status)) {
        struct error ignored;
        store_clear_intent(engine->setup.store, engine->rollout.id, &ignored);
    }
    record_failure(engine, "refused", err->text);
    return false;
}

/* Both or neither, so that no crash leaves an intent that nothing in the record explains. A store that cannot be
 * written does not keep traffic on the canary. */
static void write_down_rollback(struct engine *engine, const char *why, bool first)
{
    struct store *store = engine->setup.store;
    struct error ignored;
    if (!store_begin(store, &ignored))
        return;
    if (!put_intent(engine, 0, why, &ignored) || (first && !record_state(engine, "rolling back", why, &ignored)) ||
        !store_commit(store, &ignored))
        store_rollback(store);
}

bool move_to_stable(struct engine *engine, enum rollout_cause cause, const char *reason, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    char *why = mem_strdup(reason); /* may be err's own text, or the rollout's */
    bool first = rollout->state != ROLLOUT_ROLLING_BACK;
    if (first) {
        rollout->state = ROLLOUT_ROLLING_BACK;
        rollout->cause = cause;
        record_reason(engine, why);
    }
    write_down_rollback(engine, why, first);
    free(why);
    struct driver_state got;
    enum driver_status status = driver_set(engine->driver, 0, &got, err);
    if (status != DRIVER_OK || got.share_bp != 0) {
        error_prefix(err, "traffic is NOT proven to be on stable, and this is tried again by `haldane advance`");
        record_failure(engine, "rollback failed", err->text);
        return false;
    }
    rollout->state = rollout_end_of(rollout->cause);
    rollout->ended_ms = engine->setup.now_ms();
    if (settle(engine, 0, rollout_state_names[rollout->state], "all traffic is proven to be on stable", err))
        return true;
    rollout->state = ROLLOUT_ROLLING_BACK;
    rollout->ended_ms = 0;
    error_prefix(err,
                 "traffic is on stable, but this could not be recorded; mend the store and run `haldane abort %s "
                 "--reason TEXT`, or the next `haldane advance` takes the record for the truth",
                 rollout->id);
    return false;
}

bool move_carry_out(struct engine *engine, enum rollout_event event, enum rollout_cause cause, const char *reason,
                    struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    struct rollout_move move = rollout_table[rollout->state][event];
    switch (move.action) {
    case ACTION_REFUSE:
        return error_set(err, ERROR_USAGE, "rollout %s is %s and does not take `%s`; see `haldane status %s`",
                         rollout->id, rollout_state_names[rollout->state], rollout_event_names[event], rollout->id);
    case ACTION_NEXT_STEP:
        return move_to_step(engine, rollout->step + 1, reason, err);
    case ACTION_TO_STABLE:
        return move_to_stable(engine, cause, reason, err);
    case ACTION_NONE:
        break;
    }
    if (move.next == rollout->state)
        return true;
    rollout->state = move.next;
    record_reason(engine, reason);
    if (rollout_ended(rollout))
        rollout->ended_ms = engine->setup.now_ms();
    return record_state(engine, rollout_state_names[move.next], reason, err);
}

/* An earlier process wrote down an intent and did not come to record the outcome: the balancer knows it. */
static bool finish_intent(struct engine *engine, const struct intent *intent, uint32_t share_bp, struct error *err)
{
    const struct policy *policy = engine->policy;
    if (is_share(share_bp, engine->rollout.weight_bp))
        return store_clear_intent(engine->setup.store, engine->rollout.id, err);
    for (size_t s = 0; s < policy->step_count && is_share(share_bp, intent->weight_bp); s++) {
        if (policy->steps[s].weight_bp != intent->weight_bp)
            continue;
        engine->rollout.step = s;
        /* The pause was the last step's. A hold stays until the one who gave it lifts it. */
        if (engine->rollout.state == ROLLOUT_PAUSED)
            engine->rollout.state = ROLLOUT_STEPPING;
        return settle_on(engine, intent->weight_bp, "step", "the balancer had taken the weight before haldane stopped",
                         err);
    }
    return move_to_stable(engine, CAUSE_DRIVER,
                          "haldane stopped in the middle of a change, and the balancer has another split", err);
}

/* Somebody or something else changed the split. What was seen since the last check was under an unknown one. */
static bool heal(struct engine *engine, uint32_t share_bp, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    char found[FORMAT_TEXT], wanted[FORMAT_TEXT];
    format_weight(share_bp, found);
    format_weight(rollout->weight_bp, wanted);
    if (!record_weight(engine, rollout->last_look_ms + 1, share_bp, err))
        return false;
    char *detail = mem_printf("the balancer had %s, not the %s of the record: set again", found, wanted);
    struct driver_state got;
    enum driver_status status = driver_set(engine->driver, rollout->weight_bp, &got, err);
    bool ok = status == DRIVER_OK && settle_on(engine, rollout->weight_bp, "drift", detail, err);
    free(detail);
    return ok;
}

/* Whether the newest weight of the evidence is the rollout's. */
static bool is_recorded(const struct engine *engine)
{
    const struct evidence *evidence = engine->evidence;
    return evidence->weight_count > 0 &&
           evidence->weights[evidence->weight_count - 1].weight_bp == engine->rollout.weight_bp;
}

static bool reconcile(struct engine *engine, const struct intent *intent, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    struct driver_state got;
    enum driver_status status = driver_get(engine->driver, &got, err);
    if (status == DRIVER_UNSUPPORTED) /* no balancer: the record is the truth */
        got.share_bp = intent->pending ? intent->weight_bp : rollout->weight_bp;
    else if (status != DRIVER_OK)
        return false;
    if (intent->pending ? !finish_intent(engine, intent, got.share_bp, err)
                        : !is_share(got.share_bp, rollout->weight_bp) && !heal(engine, got.share_bp, err))
        return false;
    /* A split that was healed, but could not be recorded so: without this the judge would go on under the wrong one. */
    if (!rollout_ended(rollout) && rollout->weight_bp > 0 && !is_recorded(engine))
        return settle_on(engine, rollout->weight_bp, "drift", "the record's split was found again", err);
    /* Whoever began it may not have come to its first weight. */
    return rollout_ended(rollout) || rollout->weight_bp > 0 || move_to_step(engine, rollout->step, "first step", err);
}

bool move_reconcile(struct engine *engine, struct error *err)
{
    struct intent intent = {0};
    if (!store_get_intent(engine->setup.store, engine->rollout.id, &intent, err))
        return false;
    bool ok = reconcile(engine, &intent, err);
    intent_clear(&intent);
    return ok;
}
