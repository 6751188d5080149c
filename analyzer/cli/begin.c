/* haldane begin: opens a rollout and sets its first weight. */
#include "analyzer/cli/cli.h"

#include "analyzer/cli/supervise.h"

#include <stdio.h>
#include <stdlib.h>

struct engine_setup setup_to_begin(const struct options *options, struct store *store)
{
    char *path = store_path(options);
    supervise_store(path);
    free(path);
    return (struct engine_setup){.store = store,
                                 .actor = user_name(),
                                 .now_ms = wall_clock_ms,
                                 .attend = attend_rollout,
                                 .supersede = options->supersede,
                                 .advise = options->advise};
}

static int run(const struct options *options)
{
    struct error err = {0};
    struct policy *policy = load_policy(options, options->arguments[0], &err);
    if (!policy)
        return fail(&err);
    struct store *store = open_store(options, &err);
    if (!store) {
        policy_free(policy);
        return fail(&err);
    }
    struct engine_setup setup = setup_to_begin(options, store);
    struct engine *engine = engine_begin(&setup, policy, &err);
    int code = 0;
    if (!engine)
        code = fail(&err);
    else if (options->format == FORMAT_JSON)
        show_rollout(options, store, engine_rollout(engine), engine_policy(engine), NULL, engine_next_look_ms(engine));
    else
        printf("%s\n", engine_rollout(engine)->id);
    engine_close(engine);
    store_close(store);
    return code;
}

const struct command command_begin = {
    .name = "begin",
    .summary = "opens a rollout: takes the service, sets the first weight; prints its id",
    .page = "Usage: haldane begin POLICY [--supersede] [--advise] [--set NAME=VALUE…] [--db FILE]\n"
            "                     [--format text|json]\n\n"
            "Checks that Prometheus answers, that stable's metrics are there, and that the balancer has a canary\n"
            "that is up and has no traffic yet. Then takes the service, sets the first step's weight, reads it\n"
            "back, and prints the rollout's id. From then on call `haldane advance ID` at least as often as the\n"
            "policy's `unattended` says; a guard that begin starts brings traffic back to stable otherwise.\n"
            "  --supersede  a rollout of the service that is under way goes back to stable first\n"
            "  --advise     judge, and say what to do; somebody else moves the traffic\n\n"
            "Exit codes: 0 begun, 65 the policy or its queries are wrong, 69 Prometheus or the balancer is out of\n"
            "reach, 75 the service already has a rollout. Anything but 0 has moved no traffic.\n",
    .options = OPTION_DB | OPTION_SET | OPTION_FORMAT | OPTION_BEGIN,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
