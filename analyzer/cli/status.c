/* haldane status and haldane list: where the rollouts stand, from the store alone. */
#include "analyzer/cli/cli.h"

#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct verdict *last_verdict(struct store *store, const char *id)
{
    char **texts = NULL;
    size_t count = 0;
    struct verdict *verdict = NULL;
    if (store_load_verdicts(store, id, true, &texts, &count, NULL) && count)
        verdict = verdict_from_json(texts[0], strlen(texts[0]), NULL);
    for (size_t i = 0; i < count; i++)
        free(texts[i]);
    free(texts);
    return verdict;
}

static void show(const struct options *options, struct store *store, const struct rollout *rollout)
{
    struct policy *policy = engine_stored_policy(store, rollout->id, NULL);
    struct verdict *verdict = last_verdict(store, rollout->id);
    int64_t next_ms = policy ? rollout->last_look_ms + policy->look_ms + policy->settle_ms : 0;
    show_rollout(options, rollout, policy, verdict, next_ms);
    verdict_free(verdict);
    policy_free(policy);
}

static int show_all(const struct options *options, struct store *store, bool live)
{
    struct error err = {0};
    struct rollout *rollouts = NULL;
    size_t count = 0;
    if (!store_list_rollouts(store, live, &rollouts, &count, &err))
        return fail(&err);
    if (count == 0 && options->format != FORMAT_JSON)
        puts(live ? "no rollout is under way" : "no rollouts yet");
    for (size_t i = 0; i < count; i++) {
        show(options, store, &rollouts[i]);
        rollout_clear(&rollouts[i]);
    }
    free(rollouts);
    return 0;
}

static int run_list(const struct options *options)
{
    struct error err = {0};
    struct store *store = open_store(options, &err);
    if (!store)
        return fail(&err);
    int code = show_all(options, store, false);
    store_close(store);
    return code;
}

static int run_status(const struct options *options)
{
    struct error err = {0};
    struct store *store = open_store(options, &err);
    if (!store)
        return fail(&err);
    int code;
    struct rollout rollout = {0};
    char *id = options->argument_count ? rollout_id(store, options->arguments[0], &err) : NULL;
    if (options->argument_count == 0) {
        code = show_all(options, store, true);
    } else if (id && store_load_rollout(store, id, &rollout, &err)) {
        show(options, store, &rollout);
        code = exit_of_state(rollout.state);
    } else {
        code = fail(&err);
    }
    rollout_clear(&rollout);
    free(id);
    store_close(store);
    return code;
}

const struct command command_status = {
    .name = "status",
    .summary = "where a rollout stands, or all that are under way",
    .page = "Usage: haldane status [ID] [--db FILE] [--format text|json]\n\n"
            "From the record alone; asks neither Prometheus nor the balancer. With --format json one object a\n"
            "line. Exit codes with an ID: 0 promoted, 10 under way, 20 rolled back; 66 no such rollout.\n",
    .options = OPTION_DB | OPTION_FORMAT,
    .max_arguments = 1,
    .run = run_status,
};

const struct command command_list = {
    .name = "list",
    .summary = "all rollouts, newest first",
    .page = "Usage: haldane list [--db FILE] [--format text|json]\n\n"
            "All rollouts of the store, newest first; with --format json one object a line.\n",
    .options = OPTION_DB | OPTION_FORMAT,
    .run = run_list,
};
