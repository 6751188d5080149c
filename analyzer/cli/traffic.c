/* haldane traffic: the balancer by hand. */
#include "analyzer/cli/cli.h"

#include "analyzer/model/format.h"
#include "analyzer/traffic/driver.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void show_state(const struct options *options, const struct driver_state *state)
{
    char share[FORMAT_TEXT];
    if (options->format != FORMAT_JSON) {
        printf("canary %s (%s)\n", format_weight(state->share_bp, share), state->detail);
        return;
    }
    cJSON *object = cJSON_CreateObject();
    cJSON_AddNumberToObject(object, "weight", state->share_bp);
    if (state->health_known) {
        cJSON_AddNumberToObject(object, "stable_up", state->up[TRACK_STABLE]);
        cJSON_AddNumberToObject(object, "canary_up", state->up[TRACK_CANARY]);
    }
    cJSON_AddStringToObject(object, "detail", state->detail);
    char *text = cJSON_PrintUnformatted(object);
    puts(text);
    cJSON_free(text);
    cJSON_Delete(object);
}

/* What is asked for: a share to set, or -1 to read. */
static bool parse_request(const struct options *options, int64_t *share, const char **policy, struct error *err)
{
    const char *what = options->arguments[0];
    *policy = options->arguments[options->argument_count - 1];
    bool set = strcmp(what, "set") == 0;
    if (options->argument_count != (set ? 3 : 2))
        return error_set(err, ERROR_USAGE, "give `get POLICY`, `set P POLICY` or `stable POLICY`");
    int32_t share_bp = 0;
    if (set && !parse_share(options->arguments[1], &share_bp, err))
        return false;
    *share = share_bp;
    if (strcmp(what, "get") == 0)
        *share = -1;
    else if (!set && strcmp(what, "stable") != 0)
        return error_set(err, ERROR_USAGE, "`%s` is not known; use get, set P or stable", what);
    return true;
}

static int run(const struct options *options)
{
    struct error err = {0};
    int64_t share;
    const char *path;
    struct policy *policy = NULL;
    struct driver *driver = NULL;
    int code;
    if (parse_request(options, &share, &path, &err))
        policy = load_policy(options, path, &err);
    if (policy)
        driver = driver_open(&policy->traffic, &err);
    if (driver) {
        struct driver_state state = {0};
        enum driver_status status =
            share < 0 ? driver_get(driver, &state, &err) : driver_set(driver, (uint32_t)share, &state, &err);
        code = status == DRIVER_OK ? 0 : fail(&err);
        if (status == DRIVER_OK)
            show_state(options, &state);
        driver_close(driver);
    } else {
        code = fail(&err);
    }
    policy_free(policy);
    return code;
}

const struct command command_traffic = {
    .name = "traffic",
    .summary = "the balancer by hand: get, set P, stable",
    .page = "Usage: haldane traffic get POLICY\n"
            "       haldane traffic set P POLICY\n"
            "       haldane traffic stable POLICY\n"
            "       [--set NAME=VALUE…] [--format text|json]\n\n"
            "Reads the canary's share from the balancer, sets it (5%), or puts all traffic on stable; what is\n"
            "printed was read back. A rollout that is under way sets its own share again at its next look: use\n"
            "`haldane abort` to end it.\n\n"
            "Exit codes: 0 done, 65 the balancer's configuration does not fit the policy, 69 out of reach.\n",
    .options = OPTION_SET | OPTION_FORMAT,
    .min_arguments = 2,
    .max_arguments = 3,
    .run = run,
};
