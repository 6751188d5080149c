/*
 * haldane rollout: begin, then advance on the clock to the end. However it is stopped, traffic goes back to stable
 * first: a rollout that nobody attends must not go on.
 */
#include "analyzer/cli/cli.h"

#include "analyzer/cli/supervise.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    stopped = number;
}

/* The order to go back is not kept waiting for a Prometheus that hangs. */
static bool is_interrupted(void)
{
    return stopped != 0;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

static bool going_back(const struct engine *engine)
{
    return engine_rollout(engine)->state == ROLLOUT_ROLLING_BACK;
}

/* What cannot be mended by trying again: going on would be without a record. A balancer or a Prometheus that answers
 * nonsense may come to itself; until then the lease is not renewed. */
static bool is_fatal(const struct error *err)
{
    return err->code != ERROR_UNAVAILABLE && err->code != ERROR_BUSY && err->code != ERROR_DATA;
}

static bool order_abort(struct engine *engine, const char *reason, struct error *err)
{
    *err = (struct error){0};
    return rollout_ended(engine_rollout(engine)) || engine_order(engine, EVENT_ABORT, reason, err);
}

/* Sleeps to the next look, at most a second: a signal just before the sleep is seen after it, and so is a split that
 * somebody changed. */
static void wait_for_look(struct engine *engine)
{
    enum { MOST_MS = 1000 };
    int64_t left_ms = engine_next_look_ms(engine) - wall_clock_ms();
    engine_rest(engine);
    pause_for(left_ms < MOST_MS ? left_ms : MOST_MS);
}

/* To the end. What made it impossible to go on is the answer, once traffic is on stable. */
static bool go_on(struct engine *engine, struct live *live, struct error *err)
{
    struct error fatal = {0};
    while (!rollout_ended(engine_rollout(engine))) {
        if (stopped && !going_back(engine)) {
            if (!order_abort(engine, "interrupted", err))
                pause_for(0);
            live_update(live, engine, err);
            continue;
        }
        wait_for_look(engine);
        if (stopped && !going_back(engine))
            continue;
        *err = (struct error){0};
        bool ok = engine_advance(engine, err);
        supervisor_tell("WATCHDOG=1");
        live_update(live, engine, err);
        if (ok || !is_fatal(err))
            continue;
        if (going_back(engine))
            return false;
        fatal = *err;
        *err = (struct error){0};
        engine_give_up(engine, fatal.text, err);
        live_update(live, engine, err);
    }
    *err = fatal;
    return fatal.code == ERROR_NONE;
}

/* Begins under a policy, or goes on with a rollout whose process died. */
static struct engine *open_or_begin(const struct options *options, struct store *store, struct policy *policy,
                                    struct error *err)
{
    struct engine_setup setup = setup_to_begin(options, store);
    setup.interrupted = is_interrupted;
    if (policy)
        return engine_begin(&setup, policy, err);
    setup.restart = true;
    char *id = rollout_id(store, options->arguments[0], err);
    struct engine *engine = id && attend_rollout(id, err) ? engine_open(&setup, id, err) : NULL;
    free(id);
    return engine;
}

static int run(const struct options *options)
{
    struct error err = {0};
    if (options->resume && (options->supersede || options->advise || options->setting_count)) {
        error_set(&err, ERROR_USAGE,
                  "--resume takes up what has begun: it goes with none of --supersede, --advise, --set");
        return fail(&err);
    }
    struct policy *policy = options->resume ? NULL : load_policy(options, options->arguments[0], &err);
    struct store *store = policy || options->resume ? open_store(options, &err) : NULL;
    if (!store) {
        policy_free(policy);
        return fail(&err);
    }
    catch_signals();
    struct engine *engine = open_or_begin(options, store, policy, &err);
    if (!engine) {
        store_close(store);
        return fail(&err);
    }
    supervisor_tell("READY=1");
    struct live *live = live_new(options);
    live_update(live, engine, NULL);
    bool ok = go_on(engine, live, &err);
    live_free(live);
    return conclude(options, engine, store, ok, &err);
}

const struct command command_rollout = {
    .name = "rollout",
    .summary = "begin, then advance on the clock until promoted or rolled back",
    .page = "Usage: haldane rollout POLICY [--supersede] [--advise] [--set NAME=VALUE…]\n"
            "       haldane rollout --resume ID\n"
            "       [--db FILE] [--format text|json] [--color never|always|auto] [--log-format text|json]\n\n"
            "The whole rollout in one process, with a live display on a terminal and one line a change in a log.\n"
            "SIGINT, SIGTERM and SIGHUP put all traffic back on stable before it ends.\n"
            "  --resume     goes on with a rollout whose process died, if the lease still holds, the split is as\n"
            "               recorded and the canary is up; else traffic returns to stable\n"
            "  --supersede  a rollout of the service that is under way goes back to stable first\n"
            "  --advise     judge, and say what to do; somebody else moves the traffic\n\n"
            "Exit codes: 0 promoted, 20 rolled back; others as `haldane begin`.\n",
    .options = OPTION_DB | OPTION_SET | OPTION_FORMAT | OPTION_LOG | OPTION_BEGIN | OPTION_RESUME,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
