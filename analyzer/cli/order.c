/* haldane promote, hold, resume, abort: a person decides, with a reason that goes into the record. */
#include "analyzer/cli/cli.h"

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
    struct engine *engine = open_engine(options, store, &err);
    bool ok = engine && engine_order(engine, event, options->reason, &err);
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
