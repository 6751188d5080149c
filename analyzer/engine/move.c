/*
 * Moving traffic: the intent is durable before the balancer is asked, and the record follows what was read back. Upward
 * a failure leaves everything as it is. Downward nothing stops it: not a store that cannot be written, not a canary
 * that is dead.
 *
 * A rollout that only advises asks for nothing: a change is made when somebody else has made it, and until then the
 * record says what to do.
 */
#include "analyzer/engine/private.h"

#include "analyzer/model/format.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { FOR_GOOD = -1 };

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
    engine->rollout.generation = engine->seen.generation;
    if (!store_begin(store, err))
        return false;
    if (record_weight(engine, now_ms, weight_bp, err) && store_clear_intent(store, engine->rollout.id, err) &&
        record_state(engine, event, detail, err) && store_commit(store, err))
        return true;
    store_rollback(store);
    return false;
}

bool move_follow(struct engine *engine, uint32_t found_bp, const char *event, const char *detail, struct error *err)
{
    if (settle(engine, found_bp, event, detail, err))
        return true;
    /* The record that there is stays the truth, and the intent in it is finished by the next pass. */
    record_reread(engine, err);
    return false;
}

/* The balancer answered, but the answer is no: nothing has moved, and there is nothing left to find out. */
static bool is_refusal(enum driver_status status)
{
    return status == DRIVER_REFUSED || status == DRIVER_UNHEALTHY || status == DRIVER_UNSUPPORTED;
}

/* Whether somebody has done what this rollout would do. Without a balancer that can be read it is believed. */
static enum driver_status look_for(struct engine *engine, uint32_t share_bp, struct error *err)
{
    enum driver_status status = driver_get(engine->driver, &engine->seen, err);
    if (status == DRIVER_UNSUPPORTED || (status == DRIVER_OK && driver_is_share(engine->seen.share_bp, share_bp)))
        return DRIVER_OK;
    if (status != DRIVER_OK)
        return status;
    char weight[FORMAT_TEXT];
    if (share_bp == 0)
        error_set(err, ERROR_UNAVAILABLE, "put all traffic on stable");
    else
        error_set(err, ERROR_UNAVAILABLE, "give the canary %s", format_weight(share_bp, weight));
    return DRIVER_REFUSED;
}

static enum driver_status ask(struct engine *engine, uint32_t share_bp, int64_t lease_ms, struct error *err)
{
    const struct rollout *rollout = &engine->rollout;
    if (rollout->advise)
        return look_for(engine, share_bp, err);
    struct driver_order order = {.share_bp = share_bp,
                                 .epoch = rollout->epoch,
                                 .claim = rollout->epoch && share_bp && engine->evidence->weight_count == 0,
                                 .lease_ms = share_bp && lease_ms != FOR_GOOD ? lease_ms : 0};
    return driver_set(engine->driver, &order, &engine->seen, err);
}

static void clear_intent(struct engine *engine)
{
    struct error ignored;
    store_clear_intent(engine->setup.store, engine->rollout.id, &ignored);
}

/* What somebody else is to do stands as the rollout's reason until it was done. */
static bool advise(struct engine *engine, const char *advice, struct error *err)
{
    *err = (struct error){0};
    char *reason = mem_printf("advice: %s", advice);
    record_reason(engine, reason);
    record_failure(engine, "advice", advice);
    free(reason);
    return true;
}

/* A change that did not come about. True if that is settled: traffic went back, or the advice was given. */
static bool not_moved(struct engine *engine, enum driver_status status, struct error *err)
{
    struct error why = *err;
    if (status == DRIVER_FENCED || status == DRIVER_MISMATCH) {
        *err = (struct error){0};
        return move_carry_out(engine, status == DRIVER_FENCED ? EVENT_FENCED : EVENT_SPLIT_UNPROVEN, why.text, err);
    }
    if (is_refusal(status))
        clear_intent(engine);
    if (engine->rollout.advise && status == DRIVER_REFUSED) {
        return advise(engine, why.text, err);
    }
    record_failure(engine, rollout_event_names[EVENT_REFUSED], why.text);
    return false;
}

bool move_to_step(struct engine *engine, size_t step, const char *reason, struct error *err)
{
    uint32_t weight_bp = engine->policy->steps[step].weight_bp;
    char weight[FORMAT_TEXT];
    format_weight(weight_bp, weight);
    if (!put_intent(engine, weight_bp, reason, err))
        return false;
    enum driver_status status = ask(engine, weight_bp, engine_lease_ms(engine), err);
    if (status != DRIVER_OK) {
        if (!engine->rollout.advise)
            error_prefix(err, "the canary could not be given %s", weight);
        return not_moved(engine, status, err);
    }
    bool first = engine->evidence->weight_count == 0;
    engine->rollout.step = step;
    engine->rollout.state = ROLLOUT_STEPPING;
    record_reason(engine, reason);
    char *detail = mem_printf("%s: %s", weight, reason);
    bool ok = move_follow(engine, weight_bp, first ? "begun" : "step", detail, err);
    free(detail);
    return ok;
}

/* The split is right, but would not stay: users lose nothing by another try. */
static bool not_kept(struct engine *engine, enum driver_status status, struct error *err)
{
    const struct driver_state *seen = &engine->seen;
    if (status == DRIVER_OK)
        error_set(err, ERROR_UNAVAILABLE, "%s", seen->detail);
    error_prefix(err, "the promotion could not be made lasting: a step that is proven tries again at each look, a "
                      "person gives the order again");
    bool share_holds = seen->capabilities && driver_is_share(seen->share_bp, engine->rollout.weight_bp);
    if (status != DRIVER_OK && !(status == DRIVER_MISMATCH && share_holds))
        return not_moved(engine, status, err);
    clear_intent(engine);
    record_failure(engine, rollout_event_names[EVENT_REFUSED], err->text);
    return false;
}

/* The last step was passed: its weight stays, also when haldane is gone. Until the balancer has shown that, the rollout
 * stays where it is, and its users with it. */
static bool keep(struct engine *engine, const char *reason, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    struct store *store = engine->setup.store;
    uint32_t weight_bp = engine->policy->steps[rollout->step].weight_bp;
    if (!put_intent(engine, weight_bp, reason, err))
        return false;
    enum driver_status status = ask(engine, weight_bp, FOR_GOOD, err);
    if (status != DRIVER_OK || engine->seen.unsaved)
        return not_kept(engine, status, err);
    rollout->state = rollout_move(rollout->state, EVENT_KEPT).next;
    rollout->ended_ms = engine->setup.now_ms();
    rollout->weight_bp = weight_bp;
    record_reason(engine, reason);
    if (store_begin(store, err)) {
        if (store_clear_intent(store, rollout->id, err) &&
            record_state(engine, rollout_state_names[rollout->state], reason, err) && store_commit(store, err))
            return true;
        store_rollback(store);
    }
    record_reread(engine, err);
    return false;
}

/* Both or neither, so that no crash leaves an intent that nothing in the record explains. A store that cannot be
 * written does not keep traffic on the canary. */
static bool write_down_rollback(struct engine *engine, const char *why, bool first)
{
    struct store *store = engine->setup.store;
    struct error ignored;
    if (!store_begin(store, &ignored))
        return false;
    if (put_intent(engine, 0, why, &ignored) && (!first || record_state(engine, "rolling back", why, &ignored)) &&
        store_commit(store, &ignored))
        return true;
    store_rollback(store);
    return false;
}

/* Somebody attends to it: a guard has no reason to step in. */
static void stay_attended(struct engine *engine)
{
    struct error ignored;
    engine->rollout.lease_until_ms = engine->setup.now_ms() + engine_lease_ms(engine);
    store_save_rollout(engine->setup.store, &engine->rollout, &ignored);
}

static bool end_on_stable(struct engine *engine, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    rollout->state = rollout_end_of(rollout->cause);
    rollout->ended_ms = engine->setup.now_ms();
    if (settle(engine, 0, rollout_state_names[rollout->state], "all traffic is proven to be on stable", err))
        return true;
    rollout->state = ROLLOUT_ROLLING_BACK;
    rollout->ended_ms = 0;
    error_prefix(err,
                 "traffic is on stable, but this could not be recorded; mend the store, and `haldane abort %s --reason "
                 "TEXT` closes the rollout",
                 rollout->id);
    return false;
}

/* Whoever has taken the split has put it on stable. It may have been this rollout, when it could not write that down.
 */
static bool is_withdrawn(struct engine *engine)
{
    struct error ignored;
    return driver_get(engine->driver, &engine->seen, &ignored) == DRIVER_OK && engine->seen.share_bp == 0;
}

static bool not_stable(struct engine *engine, enum driver_status status, struct error *err)
{
    struct error why = *err;
    if (status == DRIVER_FENCED) {
        *err = (struct error){0};
        return is_withdrawn(engine) ? end_on_stable(engine, err) : move_carry_out(engine, EVENT_FENCED, why.text, err);
    }
    if (engine->rollout.advise && status == DRIVER_REFUSED) {
        *err = (struct error){0};
        record_failure(engine, "advice", why.text);
        return true;
    }
    error_prefix(err, "traffic is NOT proven to be on stable, and this is tried again by `haldane advance`");
    record_failure(engine, "rollback failed", err->text);
    stay_attended(engine);
    return false;
}

/* All traffic is on stable, and would not be after the balancer's next restart, when nobody watches any more. */
static bool not_saved(struct engine *engine, struct error *err)
{
    error_set(
        err, ERROR_UNAVAILABLE,
        "all traffic is on stable, but a restart of the balancer would undo that (%s); mend it, `haldane advance` "
        "tries again",
        engine->seen.detail);
    record_failure(engine, "not saved", err->text);
    stay_attended(engine);
    return false;
}

bool move_to_stable(struct engine *engine, enum rollout_cause cause, const char *reason, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    char *why = mem_strdup(reason); /* may be err's own text, or the rollout's */
    bool first = rollout->state != ROLLOUT_ROLLING_BACK;
    if (first) {
        rollout->state = ROLLOUT_ROLLING_BACK;
        rollout->cause = cause;
        /* Written down with the intent: whoever watches the lease sees that it is being attended to. */
        rollout->lease_until_ms = engine->setup.now_ms() + engine_lease_ms(engine);
        record_reason(engine, why);
    }
    /* A record that still says that the canary has traffic must not be believed by whoever reads it later: where the
     * balancer holds an epoch, one more than the record's fences it. */
    if (!write_down_rollback(engine, why, first) && rollout->epoch)
        rollout->epoch++;
    free(why);
    enum driver_status status = ask(engine, 0, 0, err);
    if (status == DRIVER_OK && engine->seen.share_bp != 0) {
        status = DRIVER_MISMATCH;
        error_set(err, ERROR_UNAVAILABLE, "the balancer still shows a canary with traffic (%s)", engine->seen.detail);
    }
    if (status == DRIVER_OK && engine->seen.unsaved)
        return not_saved(engine, err);
    return status == DRIVER_OK ? end_on_stable(engine, err) : not_stable(engine, status, err);
}

bool move_renew(struct engine *engine, struct error *err)
{
    if (!(engine->seen.capabilities & DRIVER_LEASE) || engine->rollout.advise || engine->rollout.weight_bp == 0)
        return true;
    enum driver_status status = ask(engine, engine->rollout.weight_bp, engine_lease_ms(engine), err);
    if (status == DRIVER_OK)
        return true;
    error_prefix(err, "the balancer's lease could not be renewed");
    return not_moved(engine, status, err);
}

/* What was seen since the last check was under another split than the record's. */
static bool set_again(struct engine *engine, const char *reason, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    if (!record_weight(engine, rollout->last_look_ms + 1, engine->seen.share_bp, err))
        return false;
    enum driver_status status = ask(engine, rollout->weight_bp, engine_lease_ms(engine), err);
    if (status != DRIVER_OK)
        return not_moved(engine, status, err);
    return move_follow(engine, rollout->weight_bp, "drift", reason, err);
}

static bool change_state(struct engine *engine, enum rollout_event event, enum rollout_state next, const char *reason,
                         struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    char *why = mem_strdup(reason); /* may be err's own text */
    rollout->state = next;
    record_reason(engine, why);
    if (rollout_ended(rollout)) {
        rollout->ended_ms = engine->setup.now_ms();
        rollout->cause = rollout_cause_of(event);
    }
    struct store *store = engine->setup.store;
    bool ok = store_begin(store, err);
    if (ok && (!rollout_ended(rollout) || store_clear_intent(store, rollout->id, err)) &&
        record_state(engine, rollout_state_names[next], why, err))
        ok = store_commit(store, err);
    else if (ok) {
        store_rollback(store);
        ok = false;
    }
    free(why);
    return ok;
}

bool move_carry_out(struct engine *engine, enum rollout_event event, const char *reason, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    struct rollout_move move = rollout_move(rollout->state, event);
    switch (move.action) {
    case ACTION_REFUSE:
        return error_set(err, ERROR_USAGE, "rollout %s is %s and does not take `%s`; see `haldane status %s`",
                         rollout->id, rollout_state_names[rollout->state], rollout_event_names[event], rollout->id);
    case ACTION_NEXT_STEP:
        return move_to_step(engine, rollout->step + 1, reason, err);
    case ACTION_KEEP:
        return keep(engine, reason, err);
    case ACTION_SET_AGAIN:
        return set_again(engine, reason, err);
    case ACTION_TO_STABLE:
        return move_to_stable(engine, rollout_cause_of(event), reason, err);
    case ACTION_NONE:
        break;
    }
    return move.next == rollout->state || change_state(engine, event, move.next, reason, err);
}
