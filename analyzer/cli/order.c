/* haldane promote, hold, resume, abort: a person decides, with a reason that goes into the record. */
#include "analyzer/cli/cli.h"

#include "analyzer/model/format.h"

#include <stdio.h>
#include <string.h>

/* A person waits for as long as a balancer may keep the pass that is under way. */
enum { ORDER_PATIENCE_MS = 15000 };

/* A second hold leaves no line in the record: it must not look as if it had. */
static void say_held(struct store *store, const struct rollout *rollout)
{
    struct error ignored;
    struct audit_entry *audit = NULL;
    size_t count = 0, i;
    char time[FORMAT_TEXT], distance[FORMAT_TEXT];
    store_load_audit(store, rollout->id, &audit, &count, &ignored);
    for (i = count; i > 0 && strcmp(audit[i - 1].event, "held") != 0; i--)
        ;
    if (i > 0)
        fprintf(stderr, "haldane: %s is already held since %s (%s) by %s; nothing has changed\n", rollout->id,
                format_time(audit[i - 1].at_ms, time), format_relative(audit[i - 1].at_ms, wall_clock_ms(), distance),
                audit[i - 1].actor);
    audit_entries_free(audit, count);
}

static int order(const struct options *options, enum rollout_event event)
{
    struct error err = {0};
    if (!options->reason || !*options->reason) {
        error_set(&err, ERROR_USAGE, "say why: --reason TEXT");
        return fail(&err);
    }
    struct store *store = open_store(options, &err);
    if (!store)
        return fail(&err);
    struct engine *engine = open_engine(options, store, ORDER_PATIENCE_MS, &err);
    bool held = engine && event == EVENT_HOLD && engine_rollout(engine)->state == ROLLOUT_HELD;
    bool ok = engine && engine_order(engine, event, options->reason, &err);
    if (ok && held && engine_rollout(engine)->state == ROLLOUT_HELD)
        say_held(store, engine_rollout(engine));
    int code = conclude(options, engine, store, ok, &err);
    return ok ? 0 : code;
}

static int run_promote(const struct options *options)
{
    return order(options, EVENT_PROMOTE);
}

static int run_hold(const struct options *options)
{
    return order(options, EVENT_HOLD);
}

static int run_resume(const struct options *options)
{
    return order(options, EVENT_RESUME);
}

static int run_abort(const struct options *options)
{
    return order(options, EVENT_ABORT);
}

#define ORDER(command_name, line, text, function)                                                                      \
    {                                                                                                                  \
        .name = command_name, .summary = line,                                                                         \
        .page =                                                                                                        \
            "Usage: haldane " command_name " ID --reason TEXT [--db FILE] [--format text|json]\n\n" text               \
            "\nThe reason and the user's name go into the record.\n"                                                   \
            "Exit codes: 0 done, 64 the rollout's state does not take it, 66 no such rollout, 69 the balancer is\n"    \
            "out of reach, 75 another process holds the rollout.\n",                                                   \
        .options = OPTION_DB | OPTION_REASON | OPTION_FORMAT, .min_arguments = 1, .max_arguments = 1, .run = function  \
    }

const struct command command_promote =
    ORDER("promote", "a person sends the rollout to its next step",
          "Goes to the next step without waiting for proof; on the last step it ends the rollout as promoted.\n"
          "The bound `false_promote` does not cover what a person promotes.\n",
          run_promote);
const struct command command_hold =
    ORDER("hold", "a person keeps the rollout where it is",
          "Evidence is gathered and harm still aborts, but nothing moves up until `haldane resume`.\n", run_hold);
const struct command command_resume = ORDER("resume", "a person lifts a hold", "Lifts `haldane hold`.\n", run_resume);
const struct command command_abort =
    ORDER("abort", "a person sends all traffic back to stable",
          "Puts all traffic on stable and reads it back from the balancer.\n", run_abort);
