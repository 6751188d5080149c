/* haldane advance: folds what is due and acts. What a canary script calls after each step. */
#include "analyzer/cli/cli.h"

static bool has_moved(const struct engine *engine, size_t step)
{
    const struct rollout *rollout = engine_rollout(engine);
    /* While a person is waited for, the rollout must be free for the order. */
    return rollout->state != ROLLOUT_STEPPING || rollout->step != step;
}

static int run(const struct options *options)
{
    struct error err = {0};
    struct store *store = open_store(options, &err);
    if (!store)
        return fail(&err);
    struct engine *engine = open_engine(options, store, 0, &err);
    bool ok = engine != NULL;
    size_t step = ok ? engine_rollout(engine)->step : 0;
    ok = ok && engine_advance(engine, &err);
    while (ok && options->wait && !has_moved(engine, step)) {
        engine_rest(engine);
        pause_for(engine_next_look_ms(engine) - wall_clock_ms());
        ok = engine_advance(engine, &err);
    }
    return conclude(options, engine, store, ok, &err);
}

const struct command command_advance = {
    .name = "advance",
    .summary = "folds what is due since the last call and acts: up, stay, or back",
    .page = "Usage: haldane advance ID [--wait] [--db FILE] [--format text|json]\n\n"
            "Folds every complete look since the last call, acts on it, and renews the lease: without a call for\n"
            "as long as the policy's `unattended`, the guard returns traffic to stable.\n"
            "  --wait  stays until the step ends, or a person is waited for\n\n"
            "The answer's `next_look_at` says when to call again.\n"
            "Exit codes: 0 promoted, 10 goes on, 20 rolled back, 69 something is out of reach (call again),\n"
            "75 another process holds the rollout (call again).\n",
    .options = OPTION_DB | OPTION_WAIT | OPTION_FORMAT,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
