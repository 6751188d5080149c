/* A window of the past, from an evidence file or from Prometheus, folded by the same judge as a live rollout. */
#include "analyzer/cli/cli.h"

#include "analyzer/collect/collect.h"
#include "analyzer/judge/judge.h"
#include "base/duration.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_LOOKS = 240 };

static bool read_evidence(const struct options *options, struct window *window, struct error *err)
{
    size_t length;
    char *text = read_file(options->evidence, &length, err);
    if (!text)
        return false;
    window->evidence = evidence_from_json(text, length, err);
    free(text);
    if (!window->evidence) {
        error_prefix(err, "%s", options->evidence);
        return false;
    }
    if (strcmp(window->evidence->service, window->policy->service) != 0)
        return error_set(err, ERROR_DATA, "%s is evidence of the service %s, but the policy is for %s",
                         options->evidence, window->evidence->service, window->policy->service);
    return true;
}

static bool parse_every(const struct options *options, int64_t *every_ms, struct error *err)
{
    if (!options->every || (duration_parse(options->every, every_ms) && *every_ms > 0))
        return true;
    return error_set(err, ERROR_USAGE, "--every %s is not a duration; give one such as 30s", options->every);
}

static bool coarsen(const struct options *options, struct window *window, struct error *err)
{
    int64_t every_ms = window->evidence->interval_ms;
    if (!parse_every(options, &every_ms, err))
        return false;
    if (every_ms == window->evidence->interval_ms)
        return true;
    struct evidence *coarse = evidence_coarsen(window->evidence, every_ms, err);
    if (!coarse)
        return false;
    evidence_free(window->evidence);
    window->evidence = coarse;
    return true;
}

/* In chunks, so that a long window does not meet Prometheus's limit of samples. */
static bool ask_prometheus(const struct policy *policy, int64_t from_ms, int64_t until_ms, int64_t look_ms,
                           struct evidence *evidence, struct error *err)
{
    struct collector *collector = collector_new(policy, err);
    if (!collector)
        return false;
    bool ok = true;
    while (ok && until_ms - from_ms >= look_ms) {
        int64_t end_ms = from_ms + CHUNK_LOOKS * look_ms < until_ms ? from_ms + CHUNK_LOOKS * look_ms : until_ms;
        int64_t last_ms;
        ok = collect(collector, from_ms, end_ms, look_ms, evidence, &last_ms, err);
        /* Without a complete look in a whole chunk there is nothing to wait for. */
        from_ms = last_ms > from_ms ? last_ms : end_ms;
    }
    collector_free(collector);
    return ok;
}

static bool parse_time(const char *name, const char *text, int64_t now_ms, int64_t *ms, struct error *err)
{
    if (time_parse(text, now_ms, ms))
        return true;
    return error_set(err, ERROR_USAGE,
                     "%s %s is not a time; give RFC 3339, Unix seconds, or a duration back from now such as 15m", name,
                     text);
}

static bool collect_window(const struct options *options, struct window *window, struct error *err)
{
    const char *from = options->since ? options->since : options->from;
    const char *to = options->until ? options->until : options->to;
    const struct policy *policy = window->policy;
    int64_t now_ms = wall_clock_ms(), until_ms = now_ms - policy->settle_ms, look_ms = policy->look_ms;
    if (!parse_time(options->since ? "--since" : "--from", from, now_ms, &window->start_ms, err) ||
        (to && !parse_time(options->until ? "--until" : "--to", to, now_ms, &until_ms, err)) ||
        !parse_every(options, &look_ms, err))
        return false;
    if (until_ms - window->start_ms < look_ms)
        return error_set(err, ERROR_USAGE, "the window holds no whole look; give an earlier beginning");
    window->evidence = evidence_new(policy->service, look_ms);
    return ask_prometheus(policy, window->start_ms - HISTORY_LOOKS * look_ms, until_ms, look_ms, window->evidence, err);
}

static void add_requests(const struct evidence_interval *interval, double requests[TRACKS])
{
    for (int t = 0; t < TRACKS; t++)
        for (size_t n = 0; n < interval->tracks[t].count; n++)
            requests[t] += (double)interval->tracks[t].instances[n].requests;
}

/* The canary's share of the requests in the window; the looks before it only calibrate. */
static double observed_share(const struct window *window)
{
    double requests[TRACKS] = {0, 0};
    const struct evidence *evidence = window->evidence;
    for (size_t m = 0; m < evidence->metric_count && requests[0] + requests[1] <= 0; m++)
        for (size_t i = 0; i < evidence->metrics[m].count && !evidence->metrics[m].guardrail; i++)
            if (evidence->metrics[m].intervals[i].from_ms >= window->start_ms)
                add_requests(&evidence->metrics[m].intervals[i], requests);
    double all = requests[TRACK_STABLE] + requests[TRACK_CANARY];
    return all > 0 ? requests[TRACK_CANARY] / all : 0;
}

/* Without a record of the weights: the one that was given, or else the policy's step that is nearest to what was seen.
 */
static void assume_weight(const struct options *options, struct window *window)
{
    const struct policy *policy = window->policy;
    uint32_t weight_bp = policy->steps[0].weight_bp;
    double share = observed_share(window) * BASIS_POINTS;
    for (size_t s = 1; s < policy->step_count; s++)
        if (fabs(policy->steps[s].weight_bp - share) < fabs(weight_bp - share))
            weight_bp = policy->steps[s].weight_bp;
    if (options->weight_bp >= 0)
        weight_bp = (uint32_t)options->weight_bp;
    evidence_add_weight(window->evidence, window->start_ms, weight_bp);
}

static int64_t first_time(const struct evidence *evidence)
{
    int64_t first_ms = INT64_MAX;
    for (size_t m = 0; m < evidence->metric_count; m++)
        if (evidence->metrics[m].count && evidence->metrics[m].intervals[0].from_ms < first_ms)
            first_ms = evidence->metrics[m].intervals[0].from_ms;
    return first_ms == INT64_MAX ? 0 : first_ms;
}

static bool fill_window(const struct options *options, struct window *window, struct error *err)
{
    if (options->evidence) {
        if (!read_evidence(options, window, err) || !coarsen(options, window, err))
            return false;
        window->start_ms = first_time(window->evidence);
    } else if (!collect_window(options, window, err)) {
        return false;
    }
    if (window->evidence->weight_count == 0)
        assume_weight(options, window);
    else if (options->weight_bp >= 0)
        return error_set(err, ERROR_USAGE, "%s has its own weights; leave --weight out", options->evidence);
    return true;
}

bool window_open(const struct options *options, struct window *window, struct error *err)
{
    *window = (struct window){0};
    bool times = options->since || options->from;
    if (times == (options->evidence != NULL))
        return error_set(err, ERROR_USAGE, "give either a window of time or --evidence FILE");
    window->policy = load_policy(options, options->arguments[0], err);
    if (window->policy && fill_window(options, window, err))
        return true;
    window_close(window);
    return false;
}

void window_close(struct window *window)
{
    evidence_free(window->evidence);
    policy_free(window->policy);
    *window = (struct window){0};
}

struct verdict *window_fold(const struct window *window, void (*each)(const struct verdict *, void *), void *context)
{
    struct judge *judge = judge_new(window->policy);
    struct look look = {0};
    struct verdict *verdict = NULL;
    int64_t after_ms = INT64_MIN;
    bool aborted = false;
    while (!aborted && evidence_next_look(window->evidence, &after_ms, &look)) {
        judge_observe(judge, window->evidence, &look);
        if (look.weight_bp == 0)
            continue;
        verdict_free(verdict);
        verdict = judge_verdict(judge, window->evidence->rollout, EFFECTS_LIVE);
        if (each)
            each(verdict, context);
        aborted = verdict->decision == DECISION_ABORT;
    }
    look_free(&look);
    if (!verdict)
        verdict = judge_verdict(judge, window->evidence->rollout, EFFECTS_LIVE);
    judge_free(judge);
    return verdict;
}
