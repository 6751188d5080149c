/*
 * Absolute limits. They look at the canary alone (the crash guardrail at stable too), stand beside false_abort, and
 * hold at 100 % as well. Once fired, a guardrail stays fired, with the numbers that it fired on: what it saw has
 * happened.
 */
#include "analyzer/judge/state.h"

#include "analyzer/model/format.h"
#include "base/memory.h"
#include "stats/lr.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const double slo_alpha = 0.01; /* of each guardrail on a rate, over the whole rollout */
static const double crash_ratio = 3;  /* the canary fails at least so many times as often as stable */

static double slo_needed(void)
{
    return log(1 / slo_alpha);
}

void guardrails_init(struct judge *judge)
{
    const struct policy *policy = judge->policy;
    judge->guardrails = mem_alloc(policy->guardrail_count, sizeof *judge->guardrails);
    for (size_t g = 0; g < policy->guardrail_count; g++) {
        judge->guardrails[g] = (struct guardrail_state){.policy = &policy->guardrails[g], .value = NAN};
        mixture_init(&judge->guardrails[g].evidence, SLO_BETS, RESTART_TAIL, judge->planned_looks);
    }
}

static void fire(struct judge *judge, size_t which)
{
    if (judge->aborted)
        return;
    judge->aborted = true;
    judge->abort_cause = BECAUSE_GUARDRAIL;
    judge->blamed = which;
    size_t suspect;
    judge->harm_at_abort = judge_harm(judge, &suspect);
}

/* --- a rate: the absolute e-value of stats/lr.h --- */

static void observe_rate(struct guardrail_state *guardrail, const struct track_counts *canary)
{
    struct instance_counts sum = {0};
    for (size_t i = 0; i < canary->count; i++) {
        sum.requests += canary->instances[i].requests;
        sum.failed += canary->instances[i].failed;
    }
    double log_e[SLO_BETS];
    for (int a = 0; a < SLO_BETS; a++)
        log_e[a] = slo_log_e(sum.failed, sum.requests, guardrail->policy->above, slo_bets[a]);
    mixture_look(&guardrail->evidence, log_e);
    guardrail->requests += sum.requests;
    guardrail->failed += sum.failed;
    guardrail->value = guardrail->requests ? (double)guardrail->failed / (double)guardrail->requests : NAN;
    guardrail->fired |= mixture_log_e(&guardrail->evidence) >= slo_needed();
}

/* --- a value: a plain threshold; of several, the largest --- */

static void observe_value(struct guardrail_state *guardrail, const struct evidence_interval *interval)
{
    const struct track_counts *canary = &interval->tracks[TRACK_CANARY];
    guardrail->value = NAN;
    for (size_t i = 0; i < canary->count; i++)
        guardrail->value = fmax(guardrail->value, canary->instances[i].value);
    if (!(guardrail->value > guardrail->policy->above)) {
        guardrail->is_above = false;
        return;
    }
    if (!guardrail->is_above)
        guardrail->above_since_ms = interval->at_ms;
    guardrail->is_above = true;
    guardrail->fired |= interval->at_ms - guardrail->above_since_ms >= guardrail->policy->for_ms;
}

static const struct evidence_interval *find_interval(const struct evidence *evidence, const struct look *look,
                                                     const struct policy_guardrail *policy)
{
    enum metric_type type = policy->kind == GUARDRAIL_RATE ? METRIC_ERRORS : METRIC_GAUGE;
    for (size_t m = 0; m < evidence->metric_count; m++) {
        const struct evidence_metric *metric = &evidence->metrics[m];
        if (metric->guardrail && metric->type == type && strcmp(metric->name, policy->name) == 0)
            return look->intervals[m];
    }
    return NULL;
}

/* Without traffic the canary is not watched: the time above a limit begins anew, and so does the crash window. */
void guards_restart_step(struct judge *judge)
{
    for (size_t g = 0; g < judge->policy->guardrail_count; g++)
        judge->guardrails[g].is_above &= judge->weight_bp > 0;
    for (size_t m = 0; m < judge->policy->metric_count; m++)
        memset(judge->metrics[m].crash.window, 0, sizeof judge->metrics[m].crash.window);
}

void guardrails_observe(struct judge *judge, const struct evidence *evidence, const struct look *look)
{
    for (size_t g = 0; g < judge->policy->guardrail_count; g++) {
        struct guardrail_state *guardrail = &judge->guardrails[g];
        if (guardrail->fired)
            continue;
        const struct evidence_interval *interval = find_interval(evidence, look, guardrail->policy);
        bool there = interval && interval->tracks[TRACK_CANARY].present;
        guardrail->looks_without = there ? 0 : guardrail->looks_without + 1;
        if (!there) {
            guardrail->value = guardrail->policy->kind == GUARDRAIL_VALUE ? NAN : guardrail->value;
            guardrail->is_above = false;
            mixture_look(&guardrail->evidence, NULL);
        } else if (guardrail->policy->kind == GUARDRAIL_RATE) {
            observe_rate(guardrail, &interval->tracks[TRACK_CANARY]);
        } else {
            observe_value(guardrail, interval);
        }
        if (guardrail->fired)
            fire(judge, g);
    }
}

/* --- the crash guardrail --- */

bool crash_watches(const struct judge *judge, const struct metric_state *metric)
{
    return judge->policy->crash.times > 0 && metric->policy->type == METRIC_ERRORS && metric->policy->critical;
}

/* Stable's rate in the window, or its normal one where it has no traffic left; 1/2 if nothing is known of it. */
static double stable_rate(const struct judge *judge, const struct metric_state *metric)
{
    const struct instance_counts *stable = &metric->crash.window[TRACK_STABLE], *normal = &metric->calibration;
    if (stable->requests > 0 && judge->weight_bp < BASIS_POINTS)
        return (double)stable->failed / (double)stable->requests;
    return ((double)normal->failed + 0.5) / ((double)normal->requests + 1);
}

void crash_observe(struct judge *judge, struct metric_state *metric, const struct arms *arms)
{
    const struct policy_crash *crash = &judge->policy->crash;
    if (metric->crash.fired)
        return;
    metric->crash.requests += arms->sum[TRACK_CANARY].requests;
    metric->crash.failed += arms->sum[TRACK_CANARY].failed;
    struct instance_counts *window = metric->crash.window;
    for (int t = 0; t < TRACKS; t++) {
        window[t].requests += arms->sum[t].requests;
        window[t].failed += arms->sum[t].failed;
    }
    if (window[TRACK_CANARY].requests < crash->requests || window[TRACK_CANARY].requests == 0)
        return;
    metric->crash.rate = (double)window[TRACK_CANARY].failed / (double)window[TRACK_CANARY].requests;
    bool bad = metric->crash.rate >= crash->rate && metric->crash.rate >= crash_ratio * stable_rate(judge, metric);
    metric->crash.in_a_row = bad ? metric->crash.in_a_row + 1 : 0;
    memset(window, 0, TRACKS * sizeof *window);
    if (metric->crash.in_a_row < crash->times)
        return;
    metric->crash.fired = true;
    fire(judge, judge->policy->guardrail_count);
}

/* --- what they say --- */

static char *silence_text(const struct guardrail_state *guardrail)
{
    return mem_printf("no data for the last %" PRIu64 " looks; try the query with `haldane check --live`",
                      guardrail->looks_without);
}

/* A rate may be above the limit for some looks and below it over all: the sum is told apart from what was shown. */
static char *rate_text(const struct judge *judge, const struct guardrail_state *guardrail)
{
    char rate[FORMAT_TEXT], limit[FORMAT_TEXT], count[FORMAT_TEXT], risk[FORMAT_TEXT];
    if (guardrail->requests == 0)
        return mem_strdup("no requests of the canary yet");
    format_share(guardrail->value, rate);
    format_share(guardrail->policy->above, limit);
    format_count(guardrail->requests, count);
    if (guardrail->fired)
        return mem_printf("%s canary failed more than the limit of %s, shown with at most %s risk of error; over all "
                          "its looks it failed %s of %s requests",
                          judge->service, limit, format_share(slo_alpha, risk), rate, count);
    return mem_printf("%s canary fails %s of %s requests; the limit is %s", judge->service, rate, count, limit);
}

static char *value_text(const struct guardrail_state *guardrail)
{
    char value[FORMAT_TEXT], limit[FORMAT_TEXT], span[FORMAT_TEXT];
    if (isnan(guardrail->value))
        return mem_strdup("the query gives no number; try it with `haldane check --live`");
    format_number(guardrail->value, value);
    format_number(guardrail->policy->above, limit);
    if (guardrail->policy->for_ms == 0)
        return mem_printf("%s; the limit is %s", value, limit);
    return mem_printf("%s; the limit is %s for %s", value, limit, format_span(guardrail->policy->for_ms, span));
}

static void summarize_guardrail(const struct judge *judge, size_t g, struct guardrail_verdict *to)
{
    const struct guardrail_state *guardrail = &judge->guardrails[g];
    bool rate = guardrail->policy->kind == GUARDRAIL_RATE;
    bool stale = metric_is_stale(guardrail->looks_without);
    *to = (struct guardrail_verdict){
        .name = mem_strdup(guardrail->policy->name),
        .kind = guardrail->policy->kind,
        .status = guardrail->fired                   ? GUARDRAIL_FIRING
                  : stale || isnan(guardrail->value) ? GUARDRAIL_NO_DATA
                                                     : GUARDRAIL_OK,
        .value = guardrail->value,
        .limit = guardrail->policy->above,
        .requests = guardrail->requests,
        .failed = guardrail->failed,
        .evidence = rate ? mixture_log_e(&guardrail->evidence) / log(10) : NAN,
        .evidence_needed = rate ? slo_needed() / log(10) : NAN,
        .reason = stale  ? silence_text(guardrail)
                  : rate ? rate_text(judge, guardrail)
                         : value_text(guardrail),
    };
}

/* The metric whose canary is worst. */
static const struct metric_state *worst_crash(const struct judge *judge)
{
    const struct metric_state *worst = NULL;
    for (size_t m = 0; m < judge->policy->metric_count; m++) {
        const struct metric_state *metric = &judge->metrics[m];
        if (!crash_watches(judge, metric))
            continue;
        bool worse =
            worst && (metric->crash.in_a_row > worst->crash.in_a_row || (metric->crash.fired && !worst->crash.fired));
        worst = !worst || worse ? metric : worst;
    }
    return worst;
}

static bool summarize_crash(const struct judge *judge, struct guardrail_verdict *to)
{
    const struct policy_crash *crash = &judge->policy->crash;
    const struct metric_state *worst = worst_crash(judge);
    if (!worst)
        return false;
    char rate[FORMAT_TEXT], limit[FORMAT_TEXT];
    format_share(worst->crash.rate, rate);
    format_share(crash->rate, limit);
    *to = (struct guardrail_verdict){
        .name = mem_strdup("crash"),
        .kind = GUARDRAIL_CRASH,
        .status = worst->crash.fired         ? GUARDRAIL_FIRING
                  : isnan(worst->crash.rate) ? GUARDRAIL_NO_DATA
                                             : GUARDRAIL_OK,
        .value = worst->crash.rate,
        .limit = crash->rate,
        .requests = worst->crash.requests,
        .failed = worst->crash.failed,
        .evidence = NAN,
        .evidence_needed = NAN,
        .reason =
            isnan(worst->crash.rate)
                ? mem_printf("no window of %llu canary requests yet", (unsigned long long)crash->requests)
                : mem_printf("%s: %s canary failed %s of its last requests, %u of %u windows in a row at or above "
                             "%s and three times stable's rate",
                             worst->policy->name, judge->service, rate, worst->crash.in_a_row, crash->times, limit),
    };
    return true;
}

void guardrails_summarize(const struct judge *judge, struct verdict *verdict)
{
    size_t listed = judge->policy->guardrail_count;
    verdict->guardrails = mem_alloc(listed + 1, sizeof *verdict->guardrails);
    for (size_t g = 0; g < listed; g++)
        summarize_guardrail(judge, g, &verdict->guardrails[g]);
    verdict->guardrail_count = listed + (summarize_crash(judge, &verdict->guardrails[listed]) ? 1 : 0);
}
