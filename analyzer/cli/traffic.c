/* haldane traffic: the balancer by hand. One row of a table for each word; none of them needs the store. */
#include "analyzer/cli/cli.h"

#include "analyzer/model/format.h"
#include "analyzer/model/json.h"
#include "analyzer/model/verdict.h"
#include "analyzer/traffic/driver.h"
#include "base/duration.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DRAIN_MS = 30000 };

/* What is asked for, read from the command line. */
struct request {
    const struct word *word;
    const char *path;
    const struct policy *policy;
    uint32_t share_bp;
    enum track track;
    int64_t timeout_ms;
};

struct word {
    const char *name;
    const char *usage;
    int arguments;                                                              /* the word and the policy included */
    bool (*read)(const char *text, struct request *request, struct error *err); /* what stands between the two */
    int (*run)(const struct options *options, struct driver *driver, const struct request *request);
};

static void print_json(cJSON *object)
{
    char *text = json_print(object);
    puts(text);
    free(text);
}

/* ---- what the balancer shows ---- */

static void show_text(const struct driver_state *state)
{
    char text[FORMAT_TEXT], left[DURATION_TEXT];
    printf("canary %s", format_weight(state->share_bp, text));
    if (*state->detail)
        printf(" (%s)", state->detail);
    if (state->epoch)
        printf(", epoch %llu", (unsigned long long)state->epoch);
    if (state->lease_over)
        printf(", returned to stable by itself: nobody renewed the lease");
    else if (state->lease_left_ms >= 0)
        printf(", returns to stable in %s unless renewed", duration_format(state->lease_left_ms / 1000 * 1000, left));
    putchar('\n');
}

static void show_json(const struct driver_state *state)
{
    cJSON *object = cJSON_CreateObject();
    json_add_number(object, "weight", state->share_bp);
    if (state->health_known) {
        json_add_number(object, "stable_up", state->up[TRACK_STABLE]);
        json_add_number(object, "canary_up", state->up[TRACK_CANARY]);
    }
    json_add_whole(object, "epoch", state->epoch);
    if (state->lease_left_ms >= 0)
        json_add_number(object, "lease_left_s", (double)(state->lease_left_ms / 1000));
    cJSON_AddBoolToObject(object, "lease_over", state->lease_over);
    cJSON *list = cJSON_AddArrayToObject(object, "capabilities");
    for (unsigned bit = 0; bit < DRIVER_CAPABILITIES; bit++)
        if (state->capabilities & UINT32_C(1) << bit)
            cJSON_AddItemToArray(list, cJSON_CreateString(driver_capability_names[bit]));
    cJSON_AddStringToObject(object, "detail", state->detail);
    print_json(object);
}

static int conclude_state(const struct options *options, enum driver_status status, const struct driver_state *state,
                          const struct error *err)
{
    if (status != DRIVER_OK)
        return fail(err);
    if (options->format == FORMAT_JSON)
        show_json(state);
    else
        show_text(state);
    return 0;
}

/* ---- the words ---- */

static bool read_share(const char *text, struct request *request, struct error *err)
{
    int32_t share_bp;
    if (!parse_share(text, &share_bp, err))
        return false;
    request->share_bp = (uint32_t)share_bp;
    return true;
}

static bool read_track(const char *text, struct request *request, struct error *err)
{
    for (int t = 0; t < TRACKS; t++) {
        if (strcmp(text, track_names[t]) == 0) {
            request->track = (enum track)t;
            request->share_bp = t == TRACK_CANARY ? BASIS_POINTS : 0;
            return true;
        }
    }
    return error_set(err, ERROR_USAGE, "`%s` is no track; write stable or canary", text);
}

static int run_get(const struct options *options, struct driver *driver, const struct request *request)
{
    (void)request;
    struct error err = {0};
    struct driver_state state;
    enum driver_status status = driver_get(driver, &state, &err);
    return conclude_state(options, status, &state, &err);
}

/* By hand: of no rollout, so without an epoch, and until somebody sets it again. */
static int run_set(const struct options *options, struct driver *driver, const struct request *request)
{
    struct error err = {0};
    struct driver_state state;
    const struct driver_order order = {.share_bp = request->share_bp};
    enum driver_status status = driver_set(driver, &order, &state, &err);
    return conclude_state(options, status, &state, &err);
}

static int run_drain(const struct options *options, struct driver *driver, const struct request *request)
{
    struct error err = {0};
    uint64_t in_flight;
    const char *track = track_names[request->track];
    char text[FORMAT_TEXT], span[DURATION_TEXT];
    enum driver_status status = driver_drain(driver, request->track, request->timeout_ms, &in_flight, &err);
    bool left = status == DRIVER_TIMEOUT && in_flight > 0;
    if (options->format == FORMAT_JSON && (status == DRIVER_OK || left)) {
        cJSON *object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "track", track);
        json_add_whole(object, "in_flight", in_flight);
        print_json(object);
    } else if (status == DRIVER_OK) {
        printf("%s: nothing in flight\n", track);
    }
    if (left)
        error_set(&err, ERROR_UNAVAILABLE, "%s still has %s in flight after %s; wait on, or stop it and lose them",
                  track, format_count(in_flight, text), duration_format(request->timeout_ms, span));
    return status == DRIVER_OK ? 0 : fail(&err);
}

static size_t show_findings(const struct driver_report *report, bool wrong)
{
    size_t count = 0;
    for (size_t i = 0; i < report->count; i++)
        if (report->findings[i].wrong == wrong && ++count)
            printf("%s: %s\n", wrong ? "wrong" : "note", report->findings[i].text);
    return count;
}

static void add_findings(const struct driver_report *report, bool wrong, cJSON *list)
{
    for (size_t i = 0; i < report->count; i++) {
        if (report->findings[i].wrong != wrong)
            continue;
        cJSON *finding = cJSON_CreateObject();
        cJSON_AddBoolToObject(finding, "wrong", wrong);
        cJSON_AddStringToObject(finding, "text", report->findings[i].text);
        cJSON_AddItemToArray(list, finding);
    }
}

static bool any_wrong(const struct driver_report *report)
{
    for (size_t i = 0; i < report->count; i++)
        if (report->findings[i].wrong)
            return true;
    return false;
}

static void show_report(const struct options *options, const struct driver_report *report, bool whole)
{
    if (options->format != FORMAT_JSON) {
        if (show_findings(report, true) + show_findings(report, false) == 0 && whole)
            puts("the balancer is ready for a rollout");
        return;
    }
    cJSON *object = cJSON_CreateObject();
    cJSON_AddBoolToObject(object, "ready", whole && !any_wrong(report));
    cJSON *list = cJSON_AddArrayToObject(object, "findings");
    add_findings(report, true, list);
    add_findings(report, false, list);
    print_json(object);
}

/* A step that the balancer cannot give would end a rollout in the middle of its way. */
static void check_steps(const struct driver *driver, const struct policy *policy, struct driver_report *report)
{
    for (size_t i = 0; i < policy->step_count; i++) {
        struct error err = {0};
        if (driver_can_give(driver, policy->steps[i].weight_bp, &err) != DRIVER_OK)
            driver_find(report, true, "step %zu of the policy: %s", i + 1, err.text);
    }
}

/* What was found before the balancer fell silent is shown too. */
static int run_check(const struct options *options, struct driver *driver, const struct request *request)
{
    struct error err = {0};
    struct driver_report report;
    enum driver_status status = driver_check(driver, &report, &err);
    check_steps(driver, request->policy, &report);
    show_report(options, &report, status == DRIVER_OK);
    int code = status != DRIVER_OK ? fail(&err) : any_wrong(&report) ? ERROR_DATA : 0;
    driver_report_free(&report);
    return code;
}

static const struct word words[] = {
    {"get", "get POLICY", 2, NULL, run_get},
    {"set", "set P POLICY", 3, read_share, run_set},
    {"stable", "stable POLICY", 2, NULL, run_set},
    {"switch", "switch stable|canary POLICY", 3, read_track, run_set},
    {"drain", "drain stable|canary POLICY", 3, read_track, run_drain},
    {"check", "check POLICY", 2, NULL, run_check},
};

/* ---- the command ---- */

static const struct word *find_word(const char *name, struct error *err)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(name, words[i].name) == 0)
            return &words[i];
    error_set(err, ERROR_USAGE, "`%s` is not known; use get, set, stable, switch, drain or check", name);
    return NULL;
}

static bool read_timeout(const struct options *options, struct request *request, struct error *err)
{
    request->timeout_ms = DRAIN_MS;
    if (!options->timeout)
        return true;
    if (request->word->run != run_drain)
        return error_set(err, ERROR_USAGE, "--timeout belongs to drain; `%s` does not wait", request->word->name);
    return duration_parse(options->timeout, &request->timeout_ms) ||
           error_set(err, ERROR_USAGE, "--timeout %s: give a duration such as 30s or 2m", options->timeout);
}

static bool read_request(const struct options *options, struct request *request, struct error *err)
{
    request->word = find_word(options->arguments[0], err);
    if (!request->word)
        return false;
    if (options->argument_count != request->word->arguments)
        return error_set(err, ERROR_USAGE, "write `haldane traffic %s`", request->word->usage);
    request->path = options->arguments[options->argument_count - 1];
    return (!request->word->read || request->word->read(options->arguments[1], request, err)) &&
           read_timeout(options, request, err);
}

static int run(const struct options *options)
{
    struct error err = {0};
    struct request request = {0};
    if (!read_request(options, &request, &err))
        return fail(&err);
    struct policy *policy = load_policy(options, request.path, &err);
    request.policy = policy;
    struct driver *driver = policy ? driver_open(&policy->traffic, &err) : NULL;
    int code = driver ? request.word->run(options, driver, &request) : fail(&err);
    driver_close(driver);
    policy_free(policy);
    return code;
}

const struct command command_traffic = {
    .name = "traffic",
    .summary = "the balancer by hand: get, set, stable, switch, drain, check",
    .page =
        "Usage: haldane traffic get POLICY\n"
        "       haldane traffic set P POLICY\n"
        "       haldane traffic stable POLICY\n"
        "       haldane traffic switch stable|canary POLICY\n"
        "       haldane traffic drain stable|canary POLICY [--timeout DURATION]\n"
        "       haldane traffic check POLICY\n"
        "       [--set NAME=VALUE…] [--format text|json]\n\n"
        "get reads the canary's share from the balancer. set gives it a share (5%), stable puts all traffic on\n"
        "stable, switch on either side at once; what is printed was read back, and it stays. drain waits until\n"
        "a side that gets no traffic has no request in flight, for 30s unless --timeout says otherwise. check\n"
        "looks through the balancer's configuration and the policy's steps for what a rollout would stumble\n"
        "over.\n\n"
        "A rollout that is under way does what its policy says of drift when somebody else moves the split;\n"
        "use `haldane abort` to end it.\n\n"
        "Exit codes: 0 done; 65 the balancer's configuration does not fit the policy; 69 out of reach, or requests\n"
        "are still in flight.\n",
    .options = OPTION_SET | OPTION_FORMAT | OPTION_TIMEOUT,
    .min_arguments = 2,
    .max_arguments = 3,
    .run = run,
};
