/*
 * Moving traffic: the intent is durable before the balancer is asked, and the record follows what was read back. Upward
 * a failure leaves everything as it is. Downward nothing stops it: not a store that cannot be written, not a canary
 * that is dead.
 */
#include "analyzer/engine/private.h"

#include "analyzer/model/format.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

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
        bool ok = settle(engine, got.share_bp, step == 0 ? "begun" : "step", detail, err);
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
    struct error ignored;
    record_state(engine, "refused", err->text, &ignored);
    return false;
}

bool move_to_stable(struct engine *engine, enum rollout_cause cause, const char *reason, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    char *why = mem_strdup(reason); /* may be err's own text */
    struct error store_error = {0};
    bool first = rollout->state != ROLLOUT_ROLLING_BACK;
    if (first) {
        rollout->state = ROLLOUT_ROLLING_BACK;
        rollout->cause = cause;
        record_reason(engine, why);
    }
    bool recorded =
        put_intent(engine, 0, why, &store_error) && (!first || record_state(engine, "rolling back", why, &store_error));
    struct driver_state got;
    enum driver_status status = driver_set(engine->driver, 0, &got, err);
    bool ok = status == DRIVER_OK && got.share_bp == 0;
    if (ok) {
        rollout->state = rollout_end_of(rollout->cause);
        rollout->ended_ms = engine->setup.now_ms();
        const char *state = rollout_state_names[rollout->state];
        ok = settle(engine, 0, state, "all traffic is proven to be on stable", err);
        if (!ok)
            error_prefix(err, "traffic is on stable, but this could not be recorded");
    } else {
        error_prefix(err, "traffic is NOT proven to be on stable, and this is tried again by `haldane advance`");
        struct error ignored;
        record_state(engine, "rollback failed", err->text, &ignored);
    }
    if (ok && !recorded)
        ok = error_set(err, store_error.code, "%s", store_error.text);
    free(why);
    return ok;
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
    if (share_bp == engine->rollout.weight_bp)
        return store_clear_intent(engine->setup.store, engine->rollout.id, err);
    for (size_t s = 0; s < policy->step_count && share_bp == intent->weight_bp; s++) {
        if (policy->steps[s].weight_bp != share_bp)
            continue;
        engine->rollout.step = s;
        return settle(engine, share_bp, "step", "the balancer had taken the weight before haldane stopped", err);
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
    int64_t since_ms = rollout->step_since_ms;
    enum driver_status status = driver_set(engine->driver, rollout->weight_bp, &got, err);
    bool ok = status == DRIVER_OK && settle(engine, got.share_bp, "drift", detail, err);
    rollout->step_since_ms = ok ? rollout->step_since_ms : since_ms;
    free(detail);
    return ok;
}

bool move_reconcile(struct engine *engine, struct error *err)
{
    struct intent intent = {0};
    if (!store_get_intent(engine->setup.store, engine->rollout.id, &intent, err))
        return false;
    struct driver_state got;
    enum driver_status status = driver_get(engine->driver, &got, err);
    bool ok = true;
    if (engine->rollout.state == ROLLOUT_ROLLING_BACK)
        ok = move_to_stable(engine, engine->rollout.cause, engine->rollout.reason, err);
    else if (status == DRIVER_UNSUPPORTED) /* no balancer: the record is the truth */
        ok = !intent.pending || finish_intent(engine, &intent, intent.weight_bp, err);
    else if (status != DRIVER_OK)
        ok = false;
    else if (intent.pending)
        ok = finish_intent(engine, &intent, got.share_bp, err);
    else if (got.share_bp != engine->rollout.weight_bp)
        ok = heal(engine, got.share_bp, err);
    intent_clear(&intent);
    return ok;
}
