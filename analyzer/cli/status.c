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
    show_rollout(options, store, rollout, policy, verdict, next_ms);
    verdict_free(verdict);
    policy_free(policy);
}

/* Names the store: whoever expects a rollout may look at the wrong one. */
static void say_none(const struct options *options, bool live, bool exists)
{
    if (options->format == FORMAT_JSON)
        return;
    char *path = store_path(options);
    printf("%s in the store %s%s\n", live ? "no rollout is under way" : "no rollouts yet", path,
           exists ? "" : " (there is no such file yet)");
    free(path);
}

static int show_all(const struct options *options, bool live)
{
    struct error err = {0};
    struct store *store = open_store_to_read(options, &err);
    struct rollout *rollouts = NULL;
    size_t count = 0;
    bool exists = store || err.code != ERROR_NO_INPUT;
    bool ok = !exists || (store && store_list_rollouts(store, live, &rollouts, &count, &err));
    if (ok && count == 0)
        say_none(options, live, exists);
    for (size_t i = 0; i < count; i++) {
        show(options, store, &rollouts[i]);
        rollout_clear(&rollouts[i]);
    }
    free(rollouts);
    store_close(store);
    return ok ? 0 : fail(&err);
}

static int show_one(const struct options *options, const char *name)
{
    struct error err = {0};
    struct rollout rollout = {0};
    struct store *store = open_store_to_read(options, &err);
    if (!store && err.code == ERROR_NO_INPUT)
        error_prefix(&err, "there is no rollout %s", name);
    char *id = store ? rollout_id_or_last(store, name, &err) : NULL;
    bool ok = id && store_load_rollout(store, id, &rollout, &err);
    if (ok)
        show(options, store, &rollout);
    int code = ok ? exit_of_state(rollout.state) : fail(&err);
    rollout_clear(&rollout);
    free(id);
    store_close(store);
    return code;
}

static int run_list(const struct options *options)
{
    return show_all(options, false);
}

static int run_status(const struct options *options)
{
    return options->argument_count ? show_one(options, options->arguments[0]) : show_all(options, true);
}

const struct command command_status = {
    .name = "status",
    .summary = "where a rollout stands, or all that are under way",
    .page = "Usage: haldane status [ID] [--db FILE] [--format text|json]\n\n"
            "From the record alone; asks neither Prometheus nor the balancer. With --format json one object a\n"
            "line. ID may also be a service's name: its rollout that is under way, or else its last one.\n\n"
            "Exit codes with an ID: 0 promoted, 10 under way, 20 rolled back; 66 no such rollout.\n",
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
