/*
 * What the balancer counted, which the service's own metrics may not show. Two questions only warn: does the canary get
 * its share by the balancer's counts too, and did the balancer hide from the clients what a track did wrong? A third
 * takes bets away: in which looks did it eject a server, so that who was asked hung on who had failed? What decides is
 * the comparison of the metrics; this says how far its counts can be trusted.
 *
 * The counts of a step are the differences of its samples. A pair of samples across a restart of the balancer, or
 * across a change of the weight, gives none; nor does one in which the balancer did not answer.
 */
#include "analyzer/judge/state.h"

#include "analyzer/model/format.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { LEAST_REQUESTS = 400, OFF_LOOKS = 3 };

static const double share_sds = 4;            /* of a false warning by chance: less than 1 in 10,000 */
static const double weight_rounding = 0.5e-4; /* a weight is read back in whole basis points */

/* --- folding --- */

/* The first sample later than `after_ms`; balancer_count: there is none. */
static size_t sample_after(const struct evidence *evidence, int64_t after_ms)
{
    size_t low = 0, high = evidence->balancer_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (evidence->balancer[middle].at_ms > after_ms)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static bool arm_goes_on(const struct balancer_arm *from, const struct balancer_arm *to)
{
    return from->total <= to->total && from->failed <= to->failed && from->connection_errors <= to->connection_errors &&
           from->retries <= to->retries && from->redispatches <= to->redispatches &&
           from->health_changes <= to->health_changes;
}

/* A person can set HAProxy's counts to 0 without a restart. */
static bool goes_on(const struct balancer_counters *from, const struct balancer_counters *to)
{
    return balancer_answered(from) && from->generation == to->generation &&
           arm_goes_on(&from->arms[TRACK_STABLE], &to->arms[TRACK_STABLE]) &&
           arm_goes_on(&from->arms[TRACK_CANARY], &to->arms[TRACK_CANARY]);
}

static void add_difference(struct balancer_arm *sum, const struct balancer_arm *from, const struct balancer_arm *to)
{
    sum->total += to->total - from->total;
    sum->failed += to->failed - from->failed;
    sum->connection_errors += to->connection_errors - from->connection_errors;
    sum->retries += to->retries - from->retries;
    sum->redispatches += to->redispatches - from->redispatches;
    sum->health_changes += to->health_changes - from->health_changes;
}

/*
 * From the newest sample that is not later than the look's begin to the first that is not earlier than its end. The
 * engine adds a sample before it folds a look, so that the same one is found live and in a replay. Both tracks count:
 * which looks are left out must not favor one of them.
 */
bool balancer_ejected(const struct evidence *evidence, const struct look *look)
{
    size_t after_begin = sample_after(evidence, look->from_ms), end = sample_after(evidence, look->at_ms - 1);
    if (after_begin == 0 || end == evidence->balancer_count)
        return false;
    const struct balancer_counters *from = &evidence->balancer[after_begin - 1], *to = &evidence->balancer[end];
    if (!goes_on(from, to))
        return false;
    return from->arms[TRACK_STABLE].health_changes != to->arms[TRACK_STABLE].health_changes ||
           from->arms[TRACK_CANARY].health_changes != to->arms[TRACK_CANARY].health_changes;
}

/* When the step's samples begin: what was counted earlier is of another weight, or of the warm-up. */
static int64_t samples_begin(const struct judge *judge)
{
    int64_t warm_ms = judge->first_traffic_ms + judge->policy->warmup_ms;
    return judge->weight_from_ms > warm_ms ? judge->weight_from_ms : warm_ms;
}

static void fold_sample(struct judge *judge, const struct balancer_counters *sample)
{
    struct balancer_state *state = &judge->balancer;
    bool of_step = state->seen && state->last.at_ms > samples_begin(judge);
    if (of_step && goes_on(&state->last, sample)) {
        for (int t = 0; t < TRACKS; t++)
            add_difference(&state->step[t], &state->last.arms[t], &sample->arms[t]);
        state->counted = true;
    }
    state->last = *sample;
    state->seen = true;
}

static double all_requests(const struct balancer_state *state)
{
    return (double)state->step[TRACK_CANARY].total + (double)state->step[TRACK_STABLE].total;
}

/* NAN before any request. */
static double observed_share(const struct balancer_state *state)
{
    return (double)state->step[TRACK_CANARY].total / all_requests(state);
}

/*
 * What its counts say of the share. Server weights are met exactly, a map or a random number by chance: 4 standard
 * deviations, a request for what is under way, and what reading a weight rounds away.
 */
static enum traffic_status share_now(const struct judge *judge)
{
    const struct balancer_state *state = &judge->balancer;
    double n = all_requests(state), p = state->weight_bp / (double)BASIS_POINTS;
    if (!judge_compares(judge) || !(n >= LEAST_REQUESTS))
        return TRAFFIC_UNKNOWN;
    double off = observed_share(state) - p;
    if (fabs(off) <= share_sds * sqrt(p * (1 - p) / n) + 1 / n + weight_rounding)
        return TRAFFIC_OK;
    return off < 0 ? TRAFFIC_LOW : TRAFFIC_HIGH;
}

void balancer_restart_step(struct judge *judge, uint32_t weight_bp)
{
    struct balancer_state *state = &judge->balancer;
    *state = (struct balancer_state){.seen = state->seen, .last = state->last, .weight_bp = weight_bp};
}

void balancer_observe(struct judge *judge, const struct evidence *evidence, const struct look *look)
{
    struct balancer_state *state = &judge->balancer;
    size_t next = sample_after(evidence, state->seen ? state->last.at_ms : INT64_MIN);
    bool any = false;
    for (; next < evidence->balancer_count && evidence->balancer[next].at_ms <= look->at_ms; next++) {
        fold_sample(judge, &evidence->balancer[next]);
        any |= balancer_answered(&evidence->balancer[next]);
    }
    if (!any)
        return;
    enum traffic_status now = share_now(judge);
    bool off = now == TRAFFIC_LOW || now == TRAFFIC_HIGH;
    state->off_looks = off ? state->off_looks + 1 : 0;
}

/* --- what it says --- */

static const char *const owner[TRACKS] = {"stable", "the canary"};

static void warn_share(const struct judge *judge, struct verdict *verdict, enum traffic_status status)
{
    const struct balancer_state *state = &judge->balancer;
    const struct balancer_arm *arms = state->step;
    char got[FORMAT_TEXT], given[FORMAT_TEXT], canary[FORMAT_TEXT], all[FORMAT_TEXT];
    bool sick = status == TRAFFIC_LOW && verdict->traffic_balancer < 0.5 * state->weight_bp / BASIS_POINTS;
    verdict_warn(verdict, "the balancer sent %s of %s requests to the canary, %s and not the %s that it was given%s",
                 format_count(arms[TRACK_CANARY].total, canary),
                 format_count(arms[TRACK_CANARY].total + arms[TRACK_STABLE].total, all),
                 format_share(verdict->traffic_balancer, got), format_weight(state->weight_bp, given),
                 sick ? "; a canary that gets so much less is sick: the balancer takes it out of traffic" : "");
}

/* Both have enough to say something, and it is not the same. */
static void warn_disagreement(struct verdict *verdict, enum traffic_status metrics, enum traffic_status balancer)
{
    char a[FORMAT_TEXT], b[FORMAT_TEXT];
    static const char *const fits[] = {
        [TRAFFIC_OK] = "what it was given", [TRAFFIC_LOW] = "too little", [TRAFFIC_HIGH] = "too much"};
    verdict_warn(verdict,
                 "the service's metrics and the balancer disagree on the canary's share: the metrics say %s, %s, the "
                 "balancer's counts %s, %s; are all requests in the metrics, and do all come through this balancer?",
                 format_share(verdict->traffic_observed, a), fits[metrics], format_share(verdict->traffic_balancer, b),
                 fits[balancer]);
}

static void summarize_share(const struct judge *judge, struct verdict *verdict)
{
    const struct balancer_state *state = &judge->balancer;
    if (!judge_compares(judge) || !(all_requests(state) > 0))
        return;
    verdict->traffic_balancer = observed_share(state);
    enum traffic_status metrics = verdict->traffic_status, balancer = share_now(judge);
    if (balancer != TRAFFIC_UNKNOWN && balancer != TRAFFIC_OK && state->off_looks < OFF_LOOKS)
        balancer = TRAFFIC_UNKNOWN;
    if (balancer == TRAFFIC_UNKNOWN)
        return;
    if (balancer != TRAFFIC_OK)
        warn_share(judge, verdict, balancer);
    if (metrics != TRAFFIC_UNKNOWN && metrics != balancer)
        warn_disagreement(verdict, metrics, balancer);
    if (metrics == TRAFFIC_UNKNOWN || metrics == TRAFFIC_OK)
        verdict->traffic_status = balancer;
}

static const char *comma(const struct strbuf *text)
{
    return text->length ? ", " : "";
}

/* "37 sent again to another server, 12 sent again to the same one, 3 not connected", or NULL. */
static char *hidden_text(const struct balancer_arm *arm)
{
    char n[FORMAT_TEXT];
    struct strbuf text = {0};
    if (arm->redispatches)
        strbuf_printf(&text, "%s sent again to another server", format_count(arm->redispatches, n));
    if (arm->retries)
        strbuf_printf(&text, "%s%s sent again to the same one", comma(&text), format_count(arm->retries, n));
    if (arm->connection_errors)
        strbuf_printf(&text, "%s%s not connected", comma(&text), format_count(arm->connection_errors, n));
    return text.length ? strbuf_take(&text) : NULL;
}

/* Which way it bends the comparison. */
static const char *const bends[TRACKS] = {
    [TRACK_STABLE] = "stable looks better than it is, and the canary worse beside it",
    [TRACK_CANARY] = "the canary looks better than it is",
};

static void warn_hidden(const struct balancer_state *state, enum track track, struct verdict *verdict)
{
    const struct balancer_arm *arm = &state->step[track];
    char total[FORMAT_TEXT];
    char *hidden = hidden_text(arm);
    if (!hidden)
        return;
    verdict_warn(verdict,
                 "of %s requests to %s in this step the balancer counted %s: clients saw fewer failures than "
                 "%s made, and %s",
                 format_count(arm->total, total), owner[track], hidden, owner[track], bends[track]);
    free(hidden);
}

static void warn_ejected(const struct balancer_state *state, enum track track, struct verdict *verdict)
{
    const struct balancer_arm *now = &state->last.arms[track];
    uint64_t changes = state->step[track].health_changes;
    char times[FORMAT_TEXT];
    if (changes == 0 && now->up >= now->servers)
        return;
    char *down = balancer_answered(&state->last)
                     ? mem_printf(", and %" PRIu32 " of %" PRIu32 " are down now", now->servers - now->up, now->servers)
                     : mem_strdup("; the balancer does not answer now");
    verdict_warn(verdict,
                 "the health of %s's servers changed %s %s in this step%s: what a server would have failed while it "
                 "was out is counted nowhere, and %s",
                 owner[track], format_count(changes, times), changes == 1 ? "time" : "times", down, bends[track]);
    free(down);
}

static void warn_no_bets(const struct balancer_state *state, struct verdict *verdict)
{
    char count[FORMAT_TEXT];
    if (state->ejected_looks == 0)
        return;
    verdict_warn(verdict,
                 "%s %s of this step %s no evidence: the balancer took a server out of traffic or let one in again",
                 format_count(state->ejected_looks, count), state->ejected_looks == 1 ? "look" : "looks",
                 state->ejected_looks == 1 ? "was" : "were");
}

void balancer_summarize(const struct judge *judge, struct verdict *verdict)
{
    const struct balancer_state *state = &judge->balancer;
    summarize_share(judge, verdict);
    for (int t = 0; t < TRACKS && state->counted && judge->weight_bp > 0; t++) {
        warn_hidden(state, (enum track)t, verdict);
        warn_ejected(state, (enum track)t, verdict);
    }
    warn_no_bets(state, verdict);
}
