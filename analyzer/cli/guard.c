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

enum { POLL_MS = 1000, PRUNE_MS = 3600 * 1000 };

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

/* The same trouble is told once, not every second. */
static void tell_changes(const char *rollout_id, bool grave, const char *text)
{
    static char *last;
    char *line = mem_printf("%s %s", rollout_id, text);
    if (!last || strcmp(last, line) != 0)
        tell(rollout_id, grave, text);
    free(last);
    last = line;
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

static void prune(struct store *store, int64_t *last_ms)
{
    struct error err = {0};
    size_t pruned;
    int64_t now_ms = wall_clock_ms();
    if (now_ms - *last_ms < PRUNE_MS && now_ms >= *last_ms)
        return;
    *last_ms = now_ms;
    if (!store_prune(store, now_ms, &pruned, &err))
        tell_changes("store", false, err.text);
}

/* Until there is nothing more to watch: the one rollout has ended, the store is gone, or somebody stops us. */
static bool watch(struct guard *guard, const char *path, bool once, struct error *err)
{
    struct file_id file = {0};
    int64_t pruned_ms = 0;
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
        if (!guard->only)
            prune(guard->store, &pruned_ms);
        supervisor_tell("WATCHDOG=1");
        /* One that could not be ended is tried again, but not at once. */
        pause_for(ok && wait_ms > 0 && wait_ms < POLL_MS ? wait_ms : POLL_MS);
    }
    if (guard->only)
        prune(guard->store, &pruned_ms);
    *err = (struct error){0};
    return true;
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

/* Takes the watch: of all rollouts for one process alone, of one rollout where nobody has that. */
static bool take_watch(struct store *store, const char *only, bool *needless, struct error *err)
{
    *needless = only && store_has_guard(store);
    return only || store_lock_guard(store, err);
}

/* Opens the store; `*only` is the rollout that the arguments name, or NULL. The caller frees it. */
static struct store *begin_watch(const struct options *options, char **only, bool *needless, struct error *err)
{
    const char *named = options->argument_count ? options->arguments[0] : NULL;
    struct store *store = open_store(options, err);
    *only = store && named ? rollout_id(store, named, err) : NULL;
    *needless = false;
    bool known = store && (*only || !named);
    if (known && (options->once || take_watch(store, *only, needless, err)))
        return store;
    store_close(store);
    return NULL;
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
    bool needless;
    struct store *store = begin_watch(options, &only, &needless, &err);
    int code = store ? 0 : fail(&err);
    if (ready >= 0)
        detach_ready(ready, code);
    if (!store || needless) {
        free(only);
        store_close(store);
        return code;
    }
    supervisor_tell("READY=1");
    char *path = store_path(options);
    struct guard guard = {
        .store = store, .now_ms = wall_clock_ms, .elapsed_ms = elapsed_ms, .only = only, .tell = tell_changes};
    if (!watch(&guard, path, options->once, &err))
        code = fail(&err);
    free(path);
    free(only);
    guard_clear(&guard);
    store_close(store);
    return code;
}

const struct command command_guard = {
    .name = "guard",
    .summary = "returns traffic to stable where nobody looks any more",
    .page = "Usage: haldane guard [ID] [--once] [--detach] [--db FILE]\n\n"
            "Watches the leases of all rollouts of the store, or of one. When nobody has looked for as long as the\n"
            "policy's `unattended` says, it puts all traffic on stable, and records it. A process that still holds\n"
            "the rollout and does nothing is killed first. `begin` and `rollout` start one for their rollout, unless\n"
            "one for all runs already.\n"
            "  --once    one look at each rollout, and no waiting\n"
            "  --detach  with ID: go on in the background, and write to syslog\n\n"
            "Exit codes: 0 nothing left to watch, or stopped; 66 no such rollout, 74 the store cannot be used,\n"
            "75 the store has a guard.\n",
    .options = OPTION_DB | OPTION_GUARD,
    .max_arguments = 1,
    .run = run,
};
