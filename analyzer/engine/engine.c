/*
 * One pass of a rollout, from the balancer's truth over the evidence to the next move. Time comes from the setup's
 * clock, so that tests can turn it.
 */
#include "analyzer/engine/private.h"

#include "base/memory.h"
#include "policies/load.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    MAX_LOOKS = 500, /* folded in one pass; the next pass takes the rest */
};

struct engine *engine_new(const struct engine_setup *setup, struct policy *policy, struct error *err)
{
    struct engine *engine = mem_alloc(1, sizeof *engine);
    engine->setup = *setup;
    engine->actor = setup->actor;
    engine->policy = policy;
    engine->driver = driver_open(&policy->traffic, err);
    engine->collector = engine->driver ? collector_new(policy, err) : NULL;
    engine->judge = judge_new(policy);
    if (engine->collector)
        return engine;
    engine_close(engine);
    return NULL;
}

void engine_close(struct engine *engine)
{
    if (!engine)
        return;
    if (engine->locked)
        store_unlock(engine->setup.store, engine->rollout.id);
    judge_free(engine->judge);
    verdict_free(engine->verdict);
    evidence_free(engine->evidence);
    collector_free(engine->collector);
    if (engine->driver)
        driver_close(engine->driver);
    policy_free(engine->policy);
    rollout_clear(&engine->rollout);
    free(engine);
}

/* --- open --- */

struct policy *engine_stored_policy(struct store *store, const char *id, struct error *err)
{
    struct stored_policy stored;
    if (!store_load_policy(store, id, &stored, err))
        return NULL;
    struct policy_problems problems = {0};
    struct policy *policy = policy_load_text(stored.source, strlen(stored.source), id, stored.settings,
                                             stored.setting_count, NULL, &problems, err);
    policy_problems_free(&problems);
    stored_policy_free(&stored);
    return policy;
}

/* A pass of another process takes a moment: it is waited for, but not for one that hangs. */
static bool lock(struct engine *engine, const char *id, struct error *err)
{
    enum { PATIENCE_MS = 3000, PAUSE_MS = 50 };
    int64_t patience_ms = engine->setup.lock_patience_ms ? engine->setup.lock_patience_ms : PATIENCE_MS;
    for (int64_t waited_ms = 0; !engine->locked; waited_ms += PAUSE_MS) {
        engine->locked = store_lock(engine->setup.store, id, err);
        if (!engine->locked && (err->code != ERROR_BUSY || waited_ms >= patience_ms))
            return false;
        if (!engine->locked)
            nanosleep(&(struct timespec){0, PAUSE_MS * 1000000L}, NULL);
    }
    *err = (struct error){0};
    return true;
}

/* Before anything is done: the rollout must be this process's, and its record the newest. */
static bool take(struct engine *engine, struct error *err)
{
    if (engine->locked)
        return true;
    return lock(engine, engine->rollout.id, err) && record_refresh(engine, err);
}

void engine_rest(struct engine *engine)
{
    if (!engine->locked || engine->rollout.state == ROLLOUT_ROLLING_BACK)
        return;
    store_unlock(engine->setup.store, engine->rollout.id);
    engine->locked = false;
}

struct engine *engine_open(const struct engine_setup *setup, const char *id, struct error *err)
{
    struct policy *policy = engine_stored_policy(setup->store, id, err);
    struct engine *engine = policy ? engine_new(setup, policy, err) : NULL;
    if (!engine)
        return NULL;
    /* Locked before it is read: what another process has just written must be seen. */
    engine->fresh = true;
    if (lock(engine, id, err) && record_load(engine, id, err))
        return engine;
    if (engine->locked)
        store_unlock(setup->store, id);
    engine->locked = false;
    engine_close(engine);
    return NULL;
}

/* --- advance --- */

/*
 * A little less than the policy names: the way back takes time too, and traffic is to be on stable when the time is
 * over.
 */
int64_t engine_lease_of(const struct policy *policy)
{
    enum { WAY_BACK_MS = 2000, WAY_BACK_SHARE = 10 };
    int64_t unattended_ms = policy->traffic.unattended_ms, way_back_ms = unattended_ms / WAY_BACK_SHARE;
    return unattended_ms - (way_back_ms < WAY_BACK_MS ? way_back_ms : WAY_BACK_MS);
}

int64_t engine_lease_ms(const struct engine *engine)
{
    return engine_lease_of(engine->policy);
}

bool engine_is_over(const struct engine *engine)
{
    return rollout_ended(&engine->rollout) || engine->rollout.state == ROLLOUT_ROLLING_BACK;
}

/* Times of the record that lie too far ahead say nothing about how long nobody has looked. */
static bool clock_was_set_back(const struct engine *engine, int64_t now_ms)
{
    return engine->rollout.lease_until_ms - now_ms > 2 * engine->policy->traffic.unattended_ms;
}

/* The caller frees it. */
static char *out_of_time_reason(const struct engine *engine)
{
    int64_t now_ms = engine->setup.now_ms();
    if (engine->verdict && engine->verdict->decision == DECISION_ABORT)
        return mem_strdup(engine->verdict->reason);
    if (now_ms - engine->rollout.begun_ms >= engine->policy->deadline_ms)
        return mem_strdup("the rollout's deadline has passed");
    if (clock_was_set_back(engine, now_ms))
        return mem_strdup("the clock was set back by more than the lease: how long nobody has looked is not known");
    char *trouble = record_trouble(engine);
    char *reason = mem_printf("the lease has run out: there was no look for too long%s%s",
                              trouble ? "; the last try: " : "", trouble ? trouble : "");
    free(trouble);
    return reason;
}

/*
 * What the record says by itself: harm that was shown, time that has run out. It is acted upon before anybody is asked
 * for anything, and before a split is healed that is to be given up.
 */
static enum rollout_event event_of_record(const struct engine *engine)
{
    int64_t now_ms = engine->setup.now_ms();
    const struct verdict *harm = engine->verdict && verdict_is_harm(engine->verdict) ? engine->verdict : NULL;
    enum rollout_event event = rollout_event_of(engine->policy, &engine->rollout, harm, now_ms);
    bool lease_over = engine->setup.unattended || clock_was_set_back(engine, now_ms);
    return event == EVENT_WAITING && lease_over ? EVENT_OUT_OF_TIME : event;
}

/* What the last look says. */
static enum rollout_event event_of_look(const struct engine *engine)
{
    const struct rollout *rollout = &engine->rollout;
    const struct verdict *verdict = engine->verdict;
    enum rollout_event event = rollout_event_of(engine->policy, rollout, verdict, engine->setup.now_ms());
    /* What the last step proved is not proof for this one. */
    bool of_this_step = verdict && verdict->step_index == (int32_t)rollout->step &&
                        verdict->weight_bp == rollout->weight_bp && verdict->at_ms > rollout->step_since_ms;
    bool is_proof = event == EVENT_PROVEN || event == EVENT_PROVEN_PAUSE || event == EVENT_PROVEN_LAST;
    return is_proof && !of_this_step ? EVENT_WAITING : event;
}

static bool act(struct engine *engine, enum rollout_event event, struct error *err)
{
    char *reason = event == EVENT_OUT_OF_TIME ? out_of_time_reason(engine)
                                              : mem_strdup(engine->verdict ? engine->verdict->reason : "");
    bool ok = move_carry_out(engine, event, reason, err);
    free(reason);
    return ok;
}

static bool record_pass(struct engine *engine, struct error *err)
{
    struct store *store = engine->setup.store;
    if (!store_begin(store, err))
        return false;
    engine->rollout.lease_until_ms = engine->setup.now_ms() + engine_lease_ms(engine);
    if (record_sample(engine, err) && record_looks(engine, err) && store_save_rollout(store, &engine->rollout, err) &&
        store_commit(store, err))
        return true;
    store_rollback(store);
    return false;
}

/* Waits for Prometheus, unless somebody wants to be attended to first. */
static bool wait_for_answer(const struct engine *engine, const struct fetch *fetch, struct error *err)
{
    while (!fetch_done(fetch)) {
        fetch_step(engine->collector, 500);
        if (engine->setup.interrupted && engine->setup.interrupted())
            return error_set(err, ERROR_UNAVAILABLE,
                             "the look was given up: interrupted while Prometheus was waited for");
    }
    return true;
}

/* Whether the record is where it was, and its time is not over: else what was fetched is not for it any more. */
static bool still_wanted(const struct engine *engine, const struct rollout *asked)
{
    const struct rollout *now = &engine->rollout;
    return now->state == asked->state && now->weight_bp == asked->weight_bp &&
           now->step_since_ms == asked->step_since_ms && now->last_look_ms == asked->last_look_ms &&
           event_of_record(engine) == EVENT_WAITING;
}

/* Fetches so many looks. `*wanted` is false if others have moved the rollout on meanwhile: nothing was appended then.
 */
static bool fetch_looks(struct engine *engine, int64_t looks, bool *wanted, struct error *err)
{
    const struct rollout asked = engine->rollout; /* numbers only */
    int64_t look_ms = engine->policy->look_ms, last_ms;
    struct fetch *fetch =
        fetch_start(engine->collector, asked.last_look_ms, asked.last_look_ms + looks * look_ms, look_ms);
    engine_rest(engine);
    struct error why = {0};
    bool answered = wait_for_answer(engine, fetch, &why), taken = take(engine, err);
    *wanted = taken && still_wanted(engine, &asked);
    if (answered && *wanted)
        return fetch_finish(fetch, engine->evidence, &last_ms, err);
    fetch_abandon(fetch);
    if (taken && !answered)
        *err = why;
    return taken && answered;
}

enum looks { LOOKS_FAILED, LOOKS_NOT_DUE, LOOKS_DROPPED, LOOKS_FOLDED };

/* Appends what is due to the evidence and folds it. */
static enum looks take_looks(struct engine *engine, struct error *err)
{
    const struct policy *policy = engine->policy;
    int64_t looks = (engine->setup.now_ms() - policy->settle_ms - engine->rollout.last_look_ms) / policy->look_ms;
    bool wanted;
    if (looks <= 0)
        return LOOKS_NOT_DUE;
    if (!fetch_looks(engine, looks < MAX_LOOKS ? looks : MAX_LOOKS, &wanted, err)) {
        if (wanted && rollout_move(engine->rollout.state, EVENT_NO_METRICS).action == ACTION_NONE)
            record_no_look(engine, "no metrics", err->text);
        return LOOKS_FAILED;
    }
    if (!wanted)
        return LOOKS_DROPPED;
    if (record_pass(engine, err))
        return LOOKS_FOLDED;
    record_reread(engine, err);
    return LOOKS_FAILED;
}

/* Who decides now: nobody has given an order. */
static void decide_alone(struct engine *engine)
{
    engine->actor = engine->setup.decider ? engine->setup.decider : "haldane";
}

/* One that has ended stays so; one on its way back goes on with that. */
static bool finish(struct engine *engine, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    return rollout_ended(rollout) || move_to_stable(engine, rollout->cause, rollout->reason, err);
}

/* What the record says by itself is done before anybody is asked for anything. */
static bool act_on_record(struct engine *engine, struct error *err)
{
    enum rollout_event event = event_of_record(engine);
    decide_alone(engine);
    return event == EVENT_WAITING || act(engine, event, err);
}

bool engine_advance(struct engine *engine, struct error *err)
{
    if (!take(engine, err))
        return false;
    decide_alone(engine);
    if (engine_is_over(engine))
        return finish(engine, err);
    if (!act_on_record(engine, err))
        return false;
    if (engine_is_over(engine))
        return true;
    /* While the split cannot be read, no look is folded: what it was meanwhile is only known afterwards. */
    if (!reconcile(engine, err))
        return rollout_ended(&engine->rollout);
    if (engine_is_over(engine))
        return true;
    enum looks looks = take_looks(engine, err);
    if (looks == LOOKS_FAILED)
        return rollout_ended(&engine->rollout);
    /* While Prometheus was waited for, anybody may have had a hand in the split. */
    if (looks != LOOKS_NOT_DUE && !engine_is_over(engine) && !reconcile(engine, err))
        return rollout_ended(&engine->rollout);
    if (looks == LOOKS_FOLDED && !engine_is_over(engine) && !move_renew(engine, err))
        return rollout_ended(&engine->rollout);
    if (engine_is_over(engine))
        return finish(engine, err);
    enum rollout_event event = event_of_record(engine);
    return act(engine, event == EVENT_WAITING ? event_of_look(engine) : event, err);
}

bool engine_give_up(struct engine *engine, const char *reason, struct error *err)
{
    if (!take(engine, err) && err->code == ERROR_BUSY)
        return false;
    decide_alone(engine);
    return engine_is_over(engine) ? finish(engine, err) : move_carry_out(engine, EVENT_BROKEN, reason, err);
}

/* --- orders --- */

/* A promotion is not recorded over a split that nobody has read, and not given to a rollout that has just been held. */
static bool is_as_known(struct engine *engine, struct error *err)
{
    const struct rollout *rollout = &engine->rollout;
    enum rollout_state state = rollout->state;
    uint32_t weight_bp = rollout->weight_bp;
    if (!reconcile(engine, err))
        return false;
    if (rollout->state == state && rollout->weight_bp == weight_bp)
        return true;
    return error_set(err, ERROR_BUSY,
                     "rollout %s has just become %s: %s; nothing was promoted, say what is to be done now", rollout->id,
                     rollout_state_names[rollout->state], rollout->reason ? rollout->reason : "");
}

bool engine_order(struct engine *engine, enum rollout_event order, const char *reason, struct error *err)
{
    struct rollout *rollout = &engine->rollout;
    /* Back to stable it goes even when the record cannot be read; what this process knows must do. */
    if (!take(engine, err) && (order != EVENT_ABORT || err->code == ERROR_BUSY))
        return false;
    /* No order holds what is over: harm that was shown, time that has run out. */
    if (order != EVENT_ABORT && order != EVENT_SUPERSEDE && !engine_is_over(engine) && !act_on_record(engine, err))
        return false;
    engine->actor = engine->setup.actor;
    if (order == EVENT_PROMOTE && !engine_is_over(engine) && !is_as_known(engine, err))
        return false;
    enum rollout_event event = order == EVENT_PROMOTE ? rollout_promote_event(engine->policy, rollout) : order;
    enum rollout_action action = rollout_move(rollout->state, event).action;
    if (action == ACTION_REFUSE)
        return move_carry_out(engine, event, reason, err);
    int64_t now_ms = engine->setup.now_ms();
    evidence_add_decision(engine->evidence, now_ms, rollout_event_names[order], engine->setup.actor, reason);
    const struct evidence_decision *decision = &engine->evidence->decisions[engine->evidence->decision_count - 1];
    struct error store_error;
    bool recorded = store_add_decision(engine->setup.store, rollout->id, decision, &store_error);
    /* An order to go back is obeyed even when it cannot be written down. */
    if (!recorded && action != ACTION_TO_STABLE) {
        *err = store_error;
        return false;
    }
    char *why = mem_printf("%s (%s by %s)", reason, rollout_event_names[order], engine->setup.actor);
    bool ok = move_carry_out(engine, event, why, err);
    free(why);
    return ok;
}

const struct rollout *engine_rollout(const struct engine *engine)
{
    return &engine->rollout;
}

const struct policy *engine_policy(const struct engine *engine)
{
    return engine->policy;
}

const struct evidence *engine_evidence(const struct engine *engine)
{
    return engine->evidence;
}

const struct verdict *engine_verdict(const struct engine *engine)
{
    return engine->verdict;
}

int64_t engine_next_look_ms(const struct engine *engine)
{
    enum { SLACK_MS = 20 };
    int64_t look_ms = engine->policy->look_ms, now_ms = engine->setup.now_ms();
    int64_t next_ms = engine->rollout.last_look_ms + look_ms + engine->policy->settle_ms + SLACK_MS;
    /* A look that could not be closed yet is tried again when the one after it is due. */
    return next_ms > now_ms ? next_ms : next_ms + ((now_ms - next_ms) / look_ms + 1) * look_ms;
}
