/*
 * How a rollout begins: everything that could keep it from its end is asked for first, and nothing moves before the
 * record, the lock and whoever watches the lease are there.
 */
#include "analyzer/engine/private.h"

#include "analyzer/model/format.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The other rollout goes back to stable, proven, before this one begins. */
static bool supersede(const struct engine *engine, const char *id, struct error *err)
{
    struct engine *other = engine_open(&engine->setup, id, err);
    if (!other)
        return false;
    bool ok = engine_order(other, EVENT_SUPERSEDE, "a newer rollout was begun", err);
    engine_close(other);
    return ok;
}

static bool make_room(const struct engine *engine, const struct rollout *other, struct error *err)
{
    if (engine->setup.supersede)
        return supersede(engine, other->id, err);
    return error_set(err, ERROR_BUSY,
                     "the service %s already has the rollout %s (%s); wait for its end, abort it with `haldane abort "
                     "%s --reason TEXT`, or begin with --supersede",
                     other->service, other->id, rollout_state_names[other->state], other->id);
}

/* Before anything else: whoever begins twice must hear of the first rollout, not of the traffic that it moved. */
static bool check_service(const struct engine *engine, struct error *err)
{
    struct rollout *live = NULL;
    size_t count = 0;
    if (!store_list_rollouts(engine->setup.store, true, &live, &count, err))
        return false;
    bool is_free = true;
    for (size_t i = 0; i < count; i++) {
        if (is_free && strcmp(live[i].service, engine->policy->service) == 0)
            is_free = make_room(engine, &live[i], err);
        rollout_clear(&live[i]);
    }
    free(live);
    return is_free;
}

/* A step that the balancer cannot give would be found out when the one before it was proven. */
static bool check_steps(const struct engine *engine, struct error *err)
{
    const struct policy *policy = engine->policy;
    for (size_t s = 0; s < policy->step_count; s++)
        if (driver_can_give(engine->driver, policy->steps[s].weight_bp, err) != DRIVER_OK) {
            error_prefix(err, "step %zu", s + 1);
            return false;
        }
    return true;
}

static bool check_balancer(struct engine *engine, struct error *err)
{
    struct driver_state *state = &engine->seen;
    struct rollout *rollout = &engine->rollout;
    rollout->advise = engine->setup.advise;
    enum driver_status status = driver_get(engine->driver, state, err);
    if (status == DRIVER_UNSUPPORTED) {
        *err = (struct error){0};
        return true;
    }
    if (status != DRIVER_OK)
        return false;
    char share[FORMAT_TEXT];
    if (state->share_bp != 0 && !rollout->advise)
        return error_set(err, ERROR_BUSY,
                         "the canary already has %s of the traffic (%s); put it on stable first: haldane traffic "
                         "stable POLICY",
                         format_weight(state->share_bp, share), state->detail);
    for (int t = 0; t < TRACKS && state->health_known; t++)
        if (state->up[t] == 0)
            return error_set(err, ERROR_UNAVAILABLE,
                             "no %s server is up in the balancer (%s); start the %s and wait for its health check",
                             track_names[t], state->detail, track_names[t]);
    rollout->generation = state->generation;
    rollout->epoch = state->capabilities & DRIVER_CAS ? state->epoch + 1 : 0;
    return true;
}

static bool check_metrics(struct engine *engine, struct error *err)
{
    size_t count;
    struct probe *probes = collector_probe(engine->collector, engine->setup.now_ms(), &count);
    bool ok = probes_check(engine->policy, probes, count, err);
    probes_free(probes, count);
    return ok;
}

static bool fetch_history(struct engine *engine, struct error *err)
{
    const struct policy *policy = engine->policy;
    int64_t until_ms = engine->setup.now_ms() - policy->settle_ms, last_ms;
    return collect(engine->collector, until_ms - HISTORY_LOOKS * policy->look_ms, until_ms, policy->look_ms,
                   engine->evidence, &last_ms, err);
}

static void name_rollout(struct engine *engine)
{
    time_t now = (time_t)(engine->setup.now_ms() / 1000);
    struct tm tm;
    gmtime_r(&now, &tm);
    char stamp[32];
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &tm);
    snprintf(engine->rollout.id, sizeof engine->rollout.id, "%.63s-%s", engine->policy->service, stamp);
    engine->rollout.service = mem_strdup(engine->policy->service);
}

/* Adds the rollout and takes it, with the evidence of before; nothing has moved yet. */
static bool register_rollout(struct engine *engine, struct error *err)
{
    struct store *store = engine->setup.store;
    struct rollout *rollout = &engine->rollout;
    int64_t now_ms = engine->setup.now_ms();
    name_rollout(engine);
    rollout->begun_ms = now_ms;
    rollout->step_since_ms = now_ms;
    rollout->lease_until_ms = now_ms + engine_lease_ms(engine);
    if (!store_begin(store, err))
        return false;
    bool ok = store_add_rollout(store, rollout, engine->policy, err) && record_looks(engine, err);
    /* The first look begins with the first weight. */
    rollout->last_look_ms = now_ms;
    ok = ok && store_save_rollout(store, rollout, err) && store_commit(store, err);
    if (!ok) {
        store_rollback(store);
        return false;
    }
    engine->evidence->rollout = mem_strdup(rollout->id);
    engine->locked = store_lock(store, rollout->id, err);
    return engine->locked;
}

/* Who attends is there before there is anything to attend to. */
static bool set_first_weight(struct engine *engine, struct error *err)
{
    const struct engine_setup *setup = &engine->setup;
    if (setup->attend && !engine->rollout.advise && !setup->attend(engine->rollout.id, err))
        return false;
    if (!engine->rollout.advise)
        return move_to_step(engine, 0, "first step", err);
    return reconcile(engine, err);
}

/* The first weight could not be set: the rollout ends before it began, with the traffic proven to be on stable. */
static void give_up(struct engine *engine, struct error *err)
{
    struct error why = *err, back = {0};
    if (rollout_ended(&engine->rollout))
        return;
    if (!move_to_stable(engine, CAUSE_DRIVER, why.text, &back))
        error_set(err, back.code, "%.500s; then: %.500s", why.text, back.text);
}

struct engine *engine_begin(const struct engine_setup *setup, struct policy *policy, struct error *err)
{
    struct engine *engine = engine_new(setup, policy, err);
    if (!engine)
        return NULL;
    engine->evidence = evidence_new(policy->service, policy->look_ms);
    if (!check_steps(engine, err) || !check_service(engine, err) || !check_balancer(engine, err) ||
        !check_metrics(engine, err) || !fetch_history(engine, err) || !register_rollout(engine, err)) {
        engine_close(engine);
        return NULL;
    }
    if (set_first_weight(engine, err)) {
        if (!rollout_ended(&engine->rollout))
            return engine;
        bool fenced = engine->rollout.state == ROLLOUT_SUPERSEDED;
        error_set(err, fenced ? ERROR_BUSY : ERROR_UNAVAILABLE, "the rollout ended as it began%s: %s",
                  fenced ? "" : ", with all traffic on stable", engine->rollout.reason);
    }
    give_up(engine, err);
    engine_close(engine);
    return NULL;
}
