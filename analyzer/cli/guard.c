/* haldane guard: returns traffic to stable where nobody looks any more. */
#include "analyzer/cli/cli.h"

#include "analyzer/cli/supervise.h"
#include "analyzer/service/guard.h"
#include "base/duration.h"
#include "base/memory.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

enum { POLL_MS = 1000, STOP_MS = 10000, PRUNE_EVERY_MS = 3600 * 1000, PRUNE_MS = 100, PRUNE_ROOM_MS = 1000 };

static volatile sig_atomic_t stopped;
static bool to_syslog;

static void on_signal(int number)
{
    stopped = number;
}

static void tell(const char *rollout_id, bool grave, const char *text)
{
    if (to_syslog) {
        syslog(grave ? LOG_CRIT : LOG_NOTICE, "%s: %s", rollout_id, text);
        return;
    }
    char time[TIME_TEXT];
    fprintf(stderr, "%s %s %s: %s\n", time_format(wall_clock_ms(), time), rollout_id, grave ? "GUARD" : "guard", text);
}

/* The same trouble of a rollout is told once, not every second. */
static void tell_changes(const char *rollout_id, bool grave, const char *text)
{
    static struct told {
        char *id, *text;
    } * all;
    static size_t count, room;
    size_t i = 0;
    while (i < count && strcmp(all[i].id, rollout_id) != 0)
        i++;
    if (i == count) {
        all = mem_grow(all, count, &room, sizeof *all);
        all[count++] = (struct told){.id = mem_strdup(rollout_id)};
    }
    if (all[i].text && strcmp(all[i].text, text) == 0)
        return;
    tell(rollout_id, grave, text);
    free(all[i].text);
    all[i].text = mem_strdup(text);
}

static int64_t elapsed_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now); /* goes on while the machine sleeps */
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct file_id {
    dev_t device;
    ino_t inode;
};

/* A store that was removed has no rollouts to guard. */
static bool same_file(const char *path, struct file_id *known)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return false;
    if (known->inode == 0)
        *known = (struct file_id){st.st_dev, st.st_ino};
    return known->device == st.st_dev && known->inode == st.st_ino;
}

/* A little of what is due: once an hour, and then until nothing is left. True if something is. */
static bool prune(struct store *store, int64_t *next_ms)
{
    struct error err = {0};
    struct pruning done;
    int64_t now_ms = elapsed_ms();
    if (now_ms < *next_ms)
        return false;
    supervisor_tell("WATCHDOG=1");
    bool ok = store_prune(store, wall_clock_ms(), PRUNE_MS, &done, &err);
    /* A store that others write to is left to them. */
    bool more = ok ? done.more : err.code == ERROR_BUSY;
    if (!ok && !more)
        tell_changes("store", false, err.text);
    *next_ms = more ? now_ms : now_ms + PRUNE_EVERY_MS;
    return more;
}

/* Until there is nothing more to watch: the one rollout has ended, the store is gone, or somebody stops us. */
static bool watch(struct guard *guard, const char *path, bool once, struct error *err)
{
    struct file_id file = {0};
    int64_t prune_ms = 0;
    while (!stopped && same_file(path, &file)) {
        size_t watched;
        int64_t wait_ms;
        *err = (struct error){0};
        bool ok = guard_pass(guard, &watched, &wait_ms, err);
        if (once)
            return ok;
        if (!ok)
            tell_changes("store", true, err->text);
        if (ok && guard->only && watched == 0)
            break;
        /* One that could not be ended is tried again, but not at once. */
        int64_t next_ms = elapsed_ms() + (ok && wait_ms > 0 && wait_ms < POLL_MS ? wait_ms : POLL_MS);
        if (ok && !guard->only && wait_ms >= PRUNE_ROOM_MS)
            prune(guard->store, &prune_ms);
        supervisor_tell("WATCHDOG=1");
        pause_for(next_ms - elapsed_ms());
    }
    *err = (struct error){0};
    return true;
}

/* Where no guard of all rollouts does it, each removes what is due when it has nothing more to watch. */
static void prune_at_end(struct store *store, const char *path)
{
    struct file_id file = {0};
    int64_t prune_ms = 0;
    while (!stopped && same_file(path, &file) && prune(store, &prune_ms))
        pause_for(0);
}

static pid_t delegate(const char *rollout_id, int64_t over_ms, struct error *err)
{
    return return_rollout(rollout_id, over_ms, false, err);
}

static pid_t delegate_once(const char *rollout_id, int64_t over_ms, struct error *err)
{
    return return_rollout(rollout_id, over_ms, true, err);
}

/* What was begun is finished: all of it with --once, else what does not take long. The rest goes on alone. */
static void wait_for_helpers(struct guard *guard, bool once)
{
    int64_t until_ms = elapsed_ms() + STOP_MS;
    while (guard_helpers(guard) > 0 && (once ? !stopped : elapsed_ms() < until_ms))
        pause_for(0);
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (!to_syslog)
        return;
    signal(SIGHUP, SIG_IGN);
    openlog("haldane-guard", LOG_PID, LOG_DAEMON);
}

/* Opens the store; `*only` is the rollout that the arguments name, or NULL. The caller frees it. */
static struct store *begin_watch(const struct options *options, char **only, struct error *err)
{
    const char *named = options->argument_count ? options->arguments[0] : NULL;
    struct store *store = open_store(options, err);
    *only = store && named ? rollout_id(store, named, err) : NULL;
    bool known = store && (*only || !named);
    /* All rollouts are watched by one process alone. */
    if (known && (options->once || *only || store_lock_guard(store, err)))
        return store;
    store_close(store);
    return NULL;
}

static bool guard_rollouts(const struct options *options, struct store *store, const char *only, struct error *err)
{
    char *path = store_path(options);
    supervise_store(path);
    struct guard guard = {.store = store,
                          .now_ms = wall_clock_ms,
                          .elapsed_ms = elapsed_ms,
                          .only = only,
                          .over_ms = only ? returned_lease_ms() : 0,
                          .tell = tell_changes};
    if (!only)
        guard.delegate = options->once ? delegate_once : delegate;
    bool ok = watch(&guard, path, options->once, err);
    wait_for_helpers(&guard, options->once);
    if (only && !options->once && guard.over_ms == 0)
        prune_at_end(store, path);
    guard_clear(&guard);
    free(path);
    return ok;
}

static int run(const struct options *options)
{
    struct error err = {0};
    char *only = NULL;
    int ready = -1;
    if (options->detach && options->argument_count == 0) {
        error_set(&err, ERROR_USAGE, "--detach is for the guard of one rollout: give its ID");
        return fail(&err);
    }
    to_syslog = options->detach;
    if (options->detach)
        ready = detach();
    catch_signals();
    struct store *store = begin_watch(options, &only, &err);
    int code = store ? 0 : fail(&err);
    if (ready >= 0)
        detach_ready(ready, code);
    if (!store)
        return code;
    supervisor_tell("READY=1");
    if (!guard_rollouts(options, store, only, &err))
        code = fail(&err);
    free(only);
    store_close(store);
    return code;
}

const struct command command_guard = {
    .name = "guard",
    .summary = "returns traffic to stable where nobody looks any more",
    .page = "Usage: haldane guard [ID] [--once] [--detach] [--db FILE]\n\n"
            "Watches the leases of all rollouts of the store, or of one. When nobody has looked for as long as the\n"
            "policy's `unattended` says, it puts all traffic on stable, and records it. A process that still holds\n"
            "the rollout and does nothing is killed first. `begin` and `rollout` start one for their rollout.\n"
            "  --once    one look at each rollout, and no waiting\n"
            "  --detach  with ID: go on in the background, and write to syslog\n\n"
            "Exit codes: 0 nothing left to watch, or stopped; 66 no such rollout, 74 the store cannot be used,\n"
            "75 the store has a guard.\n",
    .options = OPTION_DB | OPTION_GUARD,
    .max_arguments = 1,
    .run = run,
};
