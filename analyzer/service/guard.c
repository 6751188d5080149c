/*
 * What the guard goes by is the record, read afresh every time, and how long it has shown the same lease on a clock
 * that nobody sets. It acts through the engine, as a person would who calls `haldane advance` after the lease has run
 * out; so there is one way back to stable, and one record of it. Where it watches many rollouts, each way back is a
 * process of its own: a balancer may take its time to be silent.
 *
 * Two guards may come to the same rollout. The lock lets one act, and the lease that this one renews on its way back
 * tells the other that somebody does.
 */
#include "analyzer/service/guard.h"

#include "analyzer/engine/engine.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* The longest that one try may take: a program that is waited for, and then its own time. */
enum { LOCK_PATIENCE_MS = 300, WAY_BACK_MS = 40000 };

struct guard_watch {
    char id[sizeof((struct rollout *)0)->id];
    int64_t lease_until_ms; /* by the clock of the one who wrote it */
    int64_t since_ms;       /* by ours: the record shows it so */
    int64_t due_ms;         /* by ours */
    pid_t helper;           /* the process that sees to it; 0: none */
    bool seen;              /* in the pass under way */
};

/*
 * How much of a lease is left. More than all of it is left only after the clock was set back; by how much is not known,
 * but it was given no later than now.
 */
static int64_t left_ms(const struct rollout *rollout, int64_t now_ms)
{
    int64_t since_ms = rollout->last_look_ms > rollout->begun_ms ? rollout->last_look_ms : rollout->begun_ms;
    int64_t span_ms = rollout->lease_until_ms - since_ms, left = rollout->lease_until_ms - now_ms;
    if (left < 0 || left > 2 * span_ms)
        return 0;
    return left < span_ms ? left : span_ms;
}

static struct guard_watch *watch_of(struct guard *guard, const struct rollout *rollout)
{
    for (size_t i = 0; i < guard->watch_count; i++)
        if (strcmp(guard->watches[i].id, rollout->id) == 0)
            return &guard->watches[i];
    guard->watches = mem_grow(guard->watches, guard->watch_count, &guard->watch_room, sizeof *guard->watches);
    struct guard_watch *watch = &guard->watches[guard->watch_count++];
    *watch = (struct guard_watch){.lease_until_ms = -1};
    memcpy(watch->id, rollout->id, sizeof watch->id);
    return watch;
}

/* Its time is over, or it is on its way to stable anyway: then whoever can have it goes on with that. */
static bool is_due(const struct guard *guard, const struct rollout *rollout)
{
    return guard->over_ms == rollout->lease_until_ms || rollout->state == ROLLOUT_ROLLING_BACK;
}

/* A lease that was renewed is timed anew. */
static struct guard_watch *time_lease(struct guard *guard, const struct rollout *rollout)
{
    struct guard_watch *watch = watch_of(guard, rollout);
    watch->seen = true;
    if (watch->lease_until_ms != rollout->lease_until_ms) {
        watch->lease_until_ms = rollout->lease_until_ms;
        watch->since_ms = guard->elapsed_ms();
        watch->due_ms = watch->since_ms + (is_due(guard, rollout) ? 0 : left_ms(rollout, guard->now_ms()));
    }
    return watch;
}

static void forget_ended(struct guard *guard)
{
    size_t kept = 0;
    for (size_t i = 0; i < guard->watch_count; i++)
        if (guard->watches[i].seen || guard->watches[i].helper)
            guard->watches[kept++] = guard->watches[i];
    guard->watch_count = kept;
    for (size_t i = 0; i < kept; i++)
        guard->watches[i].seen = false;
}

size_t guard_helpers(struct guard *guard)
{
    size_t count = 0;
    for (size_t i = 0; i < guard->watch_count; i++) {
        struct guard_watch *watch = &guard->watches[i];
        if (watch->helper && waitpid(watch->helper, NULL, WNOHANG) != 0)
            watch->helper = 0;
        count += watch->helper != 0;
    }
    return count;
}

void guard_clear(struct guard *guard)
{
    free(guard->watches);
    guard->watches = NULL;
    guard->watch_count = guard->watch_room = 0;
}

/* Whether somebody has looked, or begun the way back, since the rollout was read. */
static bool is_attended(const struct guard *guard, const struct rollout *before)
{
    struct rollout now = {0};
    bool ok = store_load_rollout(guard->store, before->id, &now, NULL);
    bool attended = ok && (rollout_ended(&now) || now.lease_until_ms != before->lease_until_ms);
    rollout_clear(&now);
    return attended;
}

static bool is_guard(pid_t pid)
{
    char path[64], line[64] = "";
    snprintf(path, sizeof path, "/proc/%ld/cmdline", (long)pid);
    FILE *file = fopen(path, "re");
    size_t n = file ? fread(line, 1, sizeof line - 1, file) : 0;
    if (file)
        fclose(file);
    size_t name = strlen(line) + 1;
    return name < n && strcmp(line + name, "guard") == 0;
}

/*
 * Whoever holds it went back a moment ago, or tried to. On a full disk the record cannot say so; then another guard
 * that has come first is believed for as long.
 */
static bool goes_back(const struct guard *guard, const struct rollout *rollout, const struct guard_watch *watch)
{
    int64_t now_ms = guard->elapsed_ms();
    if (rollout->state == ROLLOUT_ROLLING_BACK)
        return now_ms - watch->since_ms < WAY_BACK_MS;
    return now_ms - watch->due_ms < WAY_BACK_MS && is_guard(store_lock_holder(guard->store, rollout->id));
}

static struct engine *open_unattended(const struct guard *guard, const char *id, struct error *err)
{
    static const char name[] = "haldane guard";
    struct engine_setup setup = {.store = guard->store,
                                 .actor = name,
                                 .decider = name,
                                 .now_ms = guard->now_ms,
                                 .lock_patience_ms = LOCK_PATIENCE_MS,
                                 .unattended = true};
    return engine_open(&setup, id, err);
}

/* The rollout from a process that hangs with it. */
static struct engine *take_by_force(const struct guard *guard, const char *id, struct error *err)
{
    pid_t holder = store_lock_holder(guard->store, id);
    if (!store_break_lock(guard->store, id, err))
        return NULL;
    struct error text;
    error_set(&text, ERROR_NONE, "process %ld held the rollout and did not look: it was killed", (long)holder);
    guard->tell(id, true, text.text);
    *err = (struct error){0};
    struct engine *engine = open_unattended(guard, id, err);
    if (!engine)
        store_unlock(guard->store, id);
    return engine;
}

/* The rollout for this process. NULL without `err`: somebody attends to it after all. */
static struct engine *take(const struct guard *guard, const struct rollout *rollout, const struct guard_watch *watch,
                           struct error *err)
{
    struct engine *engine = open_unattended(guard, rollout->id, err);
    if (!engine && err->code == ERROR_BUSY) {
        *err = (struct error){0};
        if (is_attended(guard, rollout) || goes_back(guard, rollout, watch))
            return NULL;
        engine = take_by_force(guard, rollout->id, err);
    }
    if (!engine || engine_rollout(engine)->lease_until_ms == rollout->lease_until_ms)
        return engine;
    engine_close(engine);
    return NULL;
}

/* True if the rollout needs no more watching. */
static bool return_to_stable(const struct guard *guard, const struct rollout *rollout, struct guard_watch *watch)
{
    struct error err = {0};
    struct engine *engine = take(guard, rollout, watch, &err);
    bool ok = engine && engine_advance(engine, &err);
    bool ended = ok && rollout_ended(engine_rollout(engine));
    if (!ok && err.code != ERROR_NONE)
        guard->tell(rollout->id, true, err.text);
    else if (ended)
        guard->tell(rollout->id, true, engine_rollout(engine)->reason);
    /* A way back that was not proven keeps others away for a lease. It is this guard's own, and is not waited for. */
    if (engine && engine_rollout(engine)->state == ROLLOUT_ROLLING_BACK)
        watch->lease_until_ms = engine_rollout(engine)->lease_until_ms;
    engine_close(engine);
    return ended;
}

/* True if another process does, so that this one need not. */
static bool is_delegated(const struct guard *guard, const struct rollout *rollout, struct guard_watch *watch)
{
    struct error err = {0};
    if (watch->helper || !guard->delegate)
        return watch->helper != 0;
    watch->helper = guard->delegate(rollout->id, rollout->lease_until_ms, &err);
    if (!watch->helper)
        guard->tell("guard", true, err.text);
    return watch->helper != 0;
}

/* True if the rollout goes on; `*wait_ms` is then how long it does not need this process. */
static bool look_at(struct guard *guard, const struct rollout *rollout, int64_t *wait_ms)
{
    struct guard_watch *watch = time_lease(guard, rollout);
    int64_t left = watch->due_ms - guard->elapsed_ms();
    *wait_ms = left > 0 ? left : 0;
    if (left > 0)
        return true;
    if (is_delegated(guard, rollout, watch))
        *wait_ms = INT64_MAX;
    else if (return_to_stable(guard, rollout, watch))
        return false;
    return true;
}

static bool is_watched(const struct guard *guard, const struct rollout *rollout)
{
    return !guard->only || strcmp(rollout->id, guard->only) == 0;
}

bool guard_pass(struct guard *guard, size_t *watched, int64_t *wait_ms, struct error *err)
{
    struct rollout *live = NULL;
    size_t count = 0;
    *watched = 0;
    *wait_ms = INT64_MAX;
    guard_helpers(guard);
    if (!store_list_rollouts(guard->store, true, &live, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        int64_t wait;
        if (is_watched(guard, &live[i]) && look_at(guard, &live[i], &wait)) {
            ++*watched;
            *wait_ms = wait < *wait_ms ? wait : *wait_ms;
        }
        rollout_clear(&live[i]);
    }
    free(live);
    forget_ended(guard);
    return true;
}
