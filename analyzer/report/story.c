/*
 * The outcome comes from the rollout's state where there is a rollout, because what was done counts more than what was
 * judged; from the last verdict otherwise. Advice is one table of states, so that it can be read and checked at once.
 */
#include "analyzer/report/story.h"
#include "analyzer/report/standing.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *text_or(const char *text, const char *otherwise)
{
    return text && *text ? text : otherwise;
}

const char *status_words(enum metric_status status)
{
    static const char *const words[] = {"harmed", "safe", "undecided", "no data", "expired", "ignored"};
    return words[status];
}

double evidence_fill(double value, double needed)
{
    if (isnan(value) || !(needed > 0) || value <= 0)
        return 0;
    return isinf(needed) ? 0 : value >= needed ? 1 : value / needed;
}

bool has_effect(const struct metric_verdict *metric)
{
    return !isnan(metric->effect.estimate) || isfinite(metric->effect.upper) || metric->effect.lower > 0;
}

const char *role_words(const struct metric_verdict *metric)
{
    if (metric->critical)
        return "critical";
    return metric_bets_on_harm(metric) ? "never aborts" : "in Kayenta's score";
}

const char *harm_goal(const struct metric_verdict *metric)
{
    return metric->critical ? "to abort" : "to show harm";
}

const char *effect_name(const struct metric_verdict *metric)
{
    return metric->type == METRIC_GAUGE ? "shift" : "ratio";
}

/* A number with its sign: a shift of 128 reads like a level. */
static const char *signed_number(double number, char text[FORMAT_TEXT])
{
    char plain[FORMAT_TEXT];
    snprintf(text, FORMAT_TEXT, "%s%.60s", number > 0 ? "+" : "", format_number(number, plain));
    return text;
}

/* The shift as a part of stable's median; NAN without one. */
static double shift_part(const struct metric_verdict *metric)
{
    const struct arm_summary *stable = &metric->arms[TRACK_STABLE];
    double part = stable->present ? metric->effect.estimate / fabs(stable->median) : NAN;
    return isfinite(part) ? part : NAN;
}

/* Three digits are enough beside the number itself. */
static const char *signed_percent(double part, char text[FORMAT_TEXT])
{
    double percent = 100 * part;
    char number[FORMAT_TEXT];
    if (fabs(percent) < 999.5 && fabs(percent) > 0)
        snprintf(text, FORMAT_TEXT, "%+.3g %%", percent);
    else
        snprintf(text, FORMAT_TEXT, "%.60s %%", signed_number(percent, number));
    return text;
}

const char *effect_brief(const struct metric_verdict *metric, char text[FORMAT_TEXT])
{
    if (metric->type != METRIC_GAUGE)
        return format_ratio(metric->effect.estimate, text);
    double part = shift_part(metric);
    return isnan(part) ? signed_number(metric->effect.estimate, text) : signed_percent(part, text);
}

/* "+120 to +135"; an end that is missing is one at infinity. */
static char *shift_interval(const struct effect *effect)
{
    bool below = isfinite(effect->lower), above = isfinite(effect->upper);
    if (below && above)
        return mem_printf("%s to %s", signed_number(effect->lower, TEXT), signed_number(effect->upper, TEXT));
    if (below)
        return mem_printf("%s or more", signed_number(effect->lower, TEXT));
    return above ? mem_printf("at most %s", signed_number(effect->upper, TEXT)) : mem_strdup("no bound yet");
}

static char *shift_text(const struct metric_verdict *metric)
{
    const struct effect *effect = &metric->effect;
    double part = shift_part(metric);
    char *of_stable = isnan(part) ? mem_strdup("") : mem_printf(", %s of stable", signed_percent(part, TEXT));
    char *interval = shift_interval(effect);
    char *text = mem_printf("%s%s (%s, %s at this look alone)", signed_number(effect->estimate, TEXT), of_stable,
                            interval, format_share(effect->confidence, TEXT));
    free(of_stable);
    free(interval);
    return text;
}

char *effect_text(const struct metric_verdict *metric)
{
    const struct effect *effect = &metric->effect;
    if (!has_effect(metric))
        return mem_strdup("–");
    if (metric->type == METRIC_GAUGE)
        return shift_text(metric);
    const char *place = isfinite(effect->at_edge) ? ", read at " : "";
    bool robust = effect->method && strcmp(effect->method, "flip") == 0;
    return mem_printf("%s (%s, %s at all looks%s%s%s)", format_ratio(effect->estimate, TEXT),
                      format_interval(effect->lower, effect->upper, TEXT), format_share(effect->confidence, TEXT),
                      robust ? ", bursts included" : "", place, *place ? format_latency(effect->at_edge, TEXT) : "");
}

static char *errors_margin(const char *verb, double ratio, double absolute)
{
    if (!isfinite(ratio))
        return mem_strdup("–");
    if (absolute > 0)
        return mem_printf("%s %s stable + %s of requests", verb, format_limit(ratio, TEXT),
                          format_share(absolute, TEXT));
    return mem_printf("%s %s stable", verb, format_limit(ratio, TEXT));
}

static char *latency_margin(const char *verb, double slower)
{
    return isfinite(slower) ? mem_printf("%s %s slower", verb, format_share(slower, TEXT)) : mem_strdup("–");
}

/* Without the direction, which the policy knows: what is harm for one gauge is health for another. */
static char *gauge_margin(const struct metric_verdict *metric)
{
    double part = metric->abort_ratio - 1;
    const char *verb = metric->critical ? "aborts" : "harmed";
    if (!metric_bets_on_harm(metric))
        return mem_strdup("as Kayenta classifies it");
    char *absolute = metric->abort_absolute > 0
                         ? mem_printf("%s%s", part > 0 ? " + " : "", format_number(metric->abort_absolute, TEXT))
                         : mem_strdup("");
    char *text = part > 0
                     ? mem_printf("%s if shifted by more than %s of stable%s", verb, format_share(part, TEXT), absolute)
                 : *absolute ? mem_printf("%s if shifted by more than %s", verb, absolute)
                             : mem_printf("%s if shifted at all", verb);
    free(absolute);
    return text;
}

char *abort_text(const struct metric_verdict *metric)
{
    if (metric->type == METRIC_GAUGE)
        return gauge_margin(metric);
    if (metric->type == METRIC_LATENCY)
        return latency_margin("aborts if more than", metric->abort_slower);
    return errors_margin("aborts above", metric->abort_ratio, metric->abort_absolute);
}

char *promote_text(const struct metric_verdict *metric)
{
    if (metric->type == METRIC_LATENCY)
        return latency_margin("promotes if less than", metric->promote_slower);
    return errors_margin("promotes below", metric->promote_ratio, metric->promote_absolute);
}

char *margins_text(const struct metric_verdict *metric)
{
    char *harm = abort_text(metric);
    if (!metric_proves_safety(metric))
        return harm;
    char *safe = promote_text(metric), *both = mem_printf("%s; %s", harm, safe);
    free(harm);
    free(safe);
    return both;
}

static double as_ratio(double ratio, double absolute, double stable_rate)
{
    if (!(absolute > 0))
        return ratio;
    return stable_rate > 0 ? ratio + absolute / stable_rate : NAN;
}

double abort_margin(const struct metric_verdict *metric, double stable_rate)
{
    if (metric->type == METRIC_LATENCY)
        return 1 + metric->abort_slower;
    return as_ratio(metric->abort_ratio, metric->abort_absolute, stable_rate);
}

double promote_margin(const struct metric_verdict *metric, double stable_rate)
{
    if (metric->type == METRIC_LATENCY)
        return 1 + metric->promote_slower;
    return as_ratio(metric->promote_ratio, metric->promote_absolute, stable_rate);
}

const struct metric_verdict *same_metric(const struct verdict *verdict, const char *name, size_t hint)
{
    if (hint < verdict->metric_count && strcmp(verdict->metrics[hint].name, name) == 0)
        return &verdict->metrics[hint];
    for (size_t i = 0; i < verdict->metric_count; i++)
        if (strcmp(verdict->metrics[i].name, name) == 0)
            return &verdict->metrics[i];
    return NULL;
}

char *classification_text(const struct metric_verdict *metric)
{
    if (!metric->classification)
        return NULL;
    if (isnan(metric->deviation))
        return mem_strdup(metric->classification);
    return mem_printf("%s, effect size %s", metric->classification, format_number(metric->deviation, TEXT));
}

char *kayenta_text(const struct verdict *verdict)
{
    double score = verdict->kayenta_score;
    if (isnan(score))
        return NULL;
    return mem_printf("%s of 100, a %s (below %s fails, from %s on passes)", format_number(score, TEXT),
                      score >= verdict->kayenta_pass       ? "pass"
                      : score >= verdict->kayenta_marginal ? "marginal pass"
                                                           : "fail",
                      format_number(verdict->kayenta_marginal, TEXT), format_number(verdict->kayenta_pass, TEXT));
}

const char *guardrail_words(enum guardrail_status status)
{
    static const char *const words[] = {"ok", "firing", "no data"};
    return words[status];
}

const char *guardrail_limit(const struct guardrail_verdict *guardrail, char text[FORMAT_TEXT])
{
    return guardrail->kind == GUARDRAIL_VALUE ? format_number(guardrail->limit, text)
                                              : format_share(guardrail->limit, text);
}

char *guardrail_text(const struct guardrail_verdict *guardrail)
{
    if (isnan(guardrail->value))
        return mem_strdup("–");
    switch (guardrail->kind) {
    case GUARDRAIL_VALUE:
        return mem_strdup(format_number(guardrail->value, TEXT));
    case GUARDRAIL_CRASH:
        return mem_printf("%s of its last requests failed", format_share(guardrail->value, TEXT));
    case GUARDRAIL_RATE:
        break;
    }
    /* The value is of the whole rollout; the evidence forgets what was good before it got bad. */
    bool lately = guardrail->status == GUARDRAIL_FIRING && guardrail->value <= guardrail->limit;
    return mem_printf("%s of %s requests failed%s", format_share(guardrail->value, TEXT),
                      format_count(guardrail->requests, TEXT), lately ? " (more of late)" : "");
}

bool guardrails_are_ok(const struct verdict *verdict)
{
    for (size_t g = 0; g < verdict->guardrail_count; g++)
        if (verdict->guardrails[g].status != GUARDRAIL_OK)
            return false;
    return true;
}

bool guardrail_speaks(const struct guardrail_verdict *guardrail)
{
    return guardrail->reason && (guardrail->status != GUARDRAIL_OK || guardrail->value > guardrail->limit);
}

static const struct guardrail_verdict *first_firing(const struct verdict *verdict)
{
    for (size_t g = 0; g < verdict->guardrail_count; g++)
        if (verdict->guardrails[g].status == GUARDRAIL_FIRING)
            return &verdict->guardrails[g];
    return NULL;
}

/* The one that adds most to the average which aborts (its share of the budget times its e-value). */
static const struct metric_verdict *worst_harmed(const struct verdict *verdict)
{
    const struct metric_verdict *worst = NULL;
    double most = -INFINITY;
    for (size_t i = 0; i < verdict->metric_count; i++) {
        const struct metric_verdict *m = &verdict->metrics[i];
        double weight = m->evidence.harm + (m->budget > 0 ? log10(m->budget) : -9);
        bool candidate = m->status == METRIC_HARMED && m->critical && !isnan(weight);
        if (!candidate || (worst && weight <= most))
            continue;
        worst = m;
        most = weight;
    }
    for (size_t i = 0; i < verdict->metric_count && !worst; i++)
        if (verdict->metrics[i].status == METRIC_HARMED && verdict->metrics[i].critical)
            worst = &verdict->metrics[i];
    return worst;
}

/* Whether a step can be left only on the metric's word: its proof, or its part in Kayenta's score. */
static bool is_waited_for(const struct metric_verdict *metric)
{
    return metric_proves_safety(metric) || !metric_bets_on_harm(metric);
}

/* Names of the metrics that are not proven safe: "errors, latency and 3 more". NULL: all are. */
static char *unproven(const struct verdict *verdict, bool no_data_only)
{
    enum { SHOWN = 3 };
    struct strbuf names = {0};
    size_t count = 0;
    for (size_t i = 0; i < verdict->metric_count; i++) {
        const struct metric_verdict *m = &verdict->metrics[i];
        if (m->status == METRIC_SAFE || m->status == METRIC_IGNORED)
            continue;
        if (no_data_only ? m->status != METRIC_NO_DATA : !is_waited_for(m))
            continue;
        if (count++ < SHOWN)
            strbuf_printf(&names, "%s%s", count > 1 ? ", " : "", m->name);
    }
    if (count > SHOWN)
        strbuf_printf(&names, " and %zu more", count - SHOWN);
    if (count == 0) {
        strbuf_free(&names);
        return NULL;
    }
    return strbuf_take(&names);
}

static void add_blamed_metric(struct strbuf *line, const struct metric_verdict *culprit)
{
    char *effect = effect_text(culprit);
    strbuf_printf(line, "%s: %s", culprit->name, has_effect(culprit) ? effect : "harm was shown");
    free(effect);
}

static void add_blamed_guardrails(struct strbuf *line, const struct verdict *verdict)
{
    for (size_t g = 0; g < verdict->guardrail_count; g++) {
        const struct guardrail_verdict *guardrail = &verdict->guardrails[g];
        if (guardrail->status != GUARDRAIL_FIRING)
            continue;
        char *measured = guardrail_text(guardrail);
        strbuf_printf(line, "%sguardrail %s: %s, the limit is %s", line->length ? "; " : "", guardrail->name, measured,
                      guardrail_limit(guardrail, TEXT));
        free(measured);
    }
}

/* What Kayenta found, metric by metric: "Kayenta's score: 40 of 100 …: memory High". */
static void add_blamed_score(struct strbuf *line, const struct verdict *verdict)
{
    char *score = kayenta_text(verdict);
    strbuf_printf(line, "Kayenta's score: %s", score);
    free(score);
    const char *between = ": ";
    for (size_t m = 0; m < verdict->metric_count; m++) {
        const struct metric_verdict *metric = &verdict->metrics[m];
        if (!metric->classification || strcmp(metric->classification, "Pass") == 0)
            continue;
        strbuf_printf(line, "%s%s %s", between, metric->name, metric->classification);
        between = ", ";
    }
}

static char *accusation(const struct verdict *verdict, const struct metric_verdict *culprit)
{
    struct strbuf line = {0};
    if (culprit)
        add_blamed_metric(&line, culprit);
    add_blamed_guardrails(&line, verdict);
    if (line.length == 0 && verdict->kayenta_score < verdict->kayenta_marginal)
        add_blamed_score(&line, verdict);
    if (line.length == 0)
        strbuf_puts(&line, "Harm was shown.");
    return strbuf_take(&line);
}

static bool any_waited_for(const struct verdict *verdict)
{
    for (size_t m = 0; m < verdict->metric_count; m++)
        if (is_waited_for(&verdict->metrics[m]))
            return true;
    return false;
}

static char *blame_line(const struct story *story)
{
    const struct verdict *verdict = story->last;
    if (story->harmed)
        return accusation(verdict, story->culprit);
    char *open = unproven(verdict, false);
    if (!open)
        return mem_strdup(any_waited_for(verdict) ? "No metric: all are proven safe at this step."
                          : verdict->metric_count ? "No metric: none shows harm."
                                                  : "No metric: none was judged.");
    char *line = mem_printf("No metric. Not proven safe yet: %s.", open);
    free(open);
    return line;
}

/* What each state is called, and how it feels. */
static const struct {
    const char *outcome;
    enum mood mood;
} by_state[ROLLOUT_STATES] =
    {
        [ROLLOUT_STEPPING] = {"Hold", MOOD_WAIT},
        [ROLLOUT_HELD] = {"Held by a person", MOOD_WAIT},
        [ROLLOUT_PAUSED] = {"Waiting for a person", MOOD_WAIT},
        [ROLLOUT_PROMOTED] = {"Promoted", MOOD_GOOD},
        [ROLLOUT_ROLLING_BACK] = {"Rolling back", MOOD_BAD},
        [ROLLOUT_ABORTED] = {"Aborted", MOOD_BAD},
        [ROLLOUT_EXPIRED] = {"Expired", MOOD_WAIT},
        [ROLLOUT_SUPERSEDED] = {"Superseded", MOOD_WAIT},
},
  by_decision[] = {
      [DECISION_PROMOTE] = {"Promote", MOOD_GOOD},
      [DECISION_HOLD] = {"Hold", MOOD_WAIT},
      [DECISION_ABORT] = {"Abort", MOOD_BAD},
};

static void tell_outcome(struct story *story, const struct rollout *rollout)
{
    enum decision decision = story->last->decision;
    bool judged = !rollout || rollout->state == ROLLOUT_STEPPING;
    story->outcome = judged ? by_decision[decision].outcome : by_state[rollout->state].outcome;
    story->mood = judged ? by_decision[decision].mood : by_state[rollout->state].mood;

    const char *judge = text_or(story->last->reason, "No reason was recorded.");
    const char *last_word = judged ? judge : text_or(rollout->reason, judge);
    story->why = mem_strdup(last_word);
    if (strcmp(last_word, judge) != 0)
        story->also = mem_strdup(judge);
    story->harmed = judged ? verdict_is_harm(story->last) : rollout->cause == CAUSE_HARMED;
    story->culprit = story->harmed ? worst_harmed(story->last) : NULL;
}

static char *traffic_line(const struct verdict *last, const struct rollout *rollout)
{
    if (!rollout) {
        if (last->look == 0)
            return mem_strdup("No look has been taken; nothing is known about traffic.");
        return mem_printf("The canary had %s of traffic at the last look.", format_weight(last->weight_bp, TEXT));
    }
    const char *weight = format_weight(rollout->weight_bp, TEXT);
    if (rollout->state == ROLLOUT_ROLLING_BACK)
        return mem_printf("Stable is being restored; when last read, the balancer gave the canary %s.", weight);
    if (rollout->state == ROLLOUT_SUPERSEDED)
        return mem_printf("The split is not this rollout's any more; when last read, the balancer gave the canary %s.",
                          weight);
    if (rollout->weight_bp == 0)
        return mem_strdup("All traffic goes to stable; the canary has 0 %.");
    if (rollout->weight_bp == BASIS_POINTS)
        return mem_strdup("All traffic goes to the new version (100 %).");
    return mem_printf("The canary has %s of traffic, stable the rest.", weight);
}

static char *advice_waiting(const struct verdict *last, const char *id)
{
    char *silent = unproven(last, true);
    if (!silent) {
        if (last->decision == DECISION_PROMOTE)
            return mem_strdup("Nothing: haldane takes the next step by itself.");
        return id ? mem_printf("Nothing yet: haldane goes on looking. To stop it: haldane abort %s --reason TEXT", id)
                  : mem_strdup("Nothing yet: gather more evidence.");
    }
    char *line = mem_printf("Find out why there is no data for %s: haldane check POLICY --live", silent);
    free(silent);
    return line;
}

/* What ran out when a rollout expired; without one, when its judge gave up. */
enum expiry { EXPIRY_UNPROVEN, EXPIRY_SILENT, EXPIRY_DEADLINE, EXPIRY_LEASE, EXPIRY_UNKNOWN };

/* Where the way back begins in the audit trail; its end, if there is none. */
static size_t way_back(const struct report *report)
{
    size_t i = 0;
    while (i < report->audit_count && strcmp(report->audit[i].event, "rolling back") != 0)
        i++;
    return i;
}

static bool any_expired(const struct verdict *verdict)
{
    for (size_t m = 0; m < verdict->metric_count; m++)
        if (verdict->metrics[m].status == METRIC_EXPIRED)
            return true;
    return false;
}

/* In the order in which the engine asks: the judge's word, the deadline, the lease. */
static enum expiry expiry_of(const struct report *report, const struct verdict *last)
{
    const struct rollout *rollout = report->rollout;
    if (last->decision == DECISION_ABORT || !rollout) {
        char *silent = any_expired(last) ? NULL : unproven(last, true);
        enum expiry expiry = silent ? EXPIRY_SILENT : EXPIRY_UNPROVEN;
        free(silent);
        return expiry;
    }
    if (!report->policy || rollout->pruned_ms)
        return EXPIRY_UNKNOWN;
    size_t back = way_back(report);
    int64_t back_ms = back < report->audit_count ? report->audit[back].at_ms : rollout->ended_ms;
    return back_ms - rollout->begun_ms >= report->policy->deadline_ms ? EXPIRY_DEADLINE : EXPIRY_LEASE;
}

/* What kept haldane from looking until the lease was over; NULL: nobody tried. A look is folded `settle` after its end,
 * so what failed before that was tried again and went well. */
static const struct audit_entry *obstacle(const struct report *report, const struct verdict *last)
{
    const struct audit_entry *failure = audit_failure(report->audit, way_back(report));
    return failure && failure->at_ms >= last->at_ms + report->policy->settle_ms ? failure : NULL;
}

static char *advice_expired(const struct story *story, const struct report *report)
{
    char *line, *silent;
    const struct audit_entry *failure;
    switch (expiry_of(report, story->last)) {
    case EXPIRY_SILENT:
        silent = unproven(story->last, true);
        line = mem_printf("Harm was not shown. Find out why there was no data for %s: haldane check POLICY --live",
                          silent);
        free(silent);
        return line;
    case EXPIRY_DEADLINE:
        return mem_strdup("Harm was not shown, but the deadline came before the proof. Give it more traffic, wider "
                          "margins or a longer deadline; haldane plan POLICY says how much.");
    case EXPIRY_LEASE:
        failure = obstacle(report, story->last);
        if (failure)
            return mem_printf("Find out why no look was possible, then begin again: %s",
                              text_or(failure->detail, failure->event));
        return mem_strdup("Find out why nobody looked: was `haldane rollout`, or what calls `haldane advance`, killed, "
                          "or does it call more seldom than the policy's `unattended` asks? Then begin again.");
    case EXPIRY_UNKNOWN:
        return mem_strdup("Harm was not shown, but safety neither; the reason says what ran out. If it was the proof, "
                          "haldane plan POLICY says how much traffic it takes.");
    case EXPIRY_UNPROVEN:
        break;
    }
    return mem_printf("Harm was not shown%s. Give it more traffic or wider margins; haldane plan POLICY says how much.",
                      report->rollout ? ", but safety neither" : "");
}

static char *advice_aborted(const struct story *story, const struct report *report)
{
    const struct rollout *rollout = report->rollout;
    enum rollout_cause cause = rollout ? rollout->cause : verdict_is_harm(story->last) ? CAUSE_HARMED : CAUSE_EXPIRED;
    switch (cause) {
    case CAUSE_PERSON:
        return mem_strdup("Nothing: a person went back. Begin a new rollout when they agree.");
    case CAUSE_DRIVER:
        return mem_strdup(
            "Find out why the load balancer did not obey (haldane traffic get POLICY), then begin again.");
    case CAUSE_ALERT:
        return mem_strdup("An alert of your own ended it. Find out what it saw before the new version is tried again.");
    case CAUSE_SUPERSEDED:
        return mem_strdup("Nothing: another rollout took its place. Look at that one: haldane list");
    case CAUSE_EXPIRED:
        return advice_expired(story, report);
    case CAUSE_NONE:
    case CAUSE_HARMED:
        break;
    }
    if (!rollout)
        return mem_strdup("Take the canary out of traffic and keep the new version back.");
    const struct guardrail_verdict *fired = first_firing(story->last);
    return mem_printf(
        "Keep the new version back. Look at the canary's logs of %s to %s%s%s%s, mend it, then begin a new rollout.",
        format_time(story->stay_count ? story->stays[0].from_ms : story->last->from_ms, TEXT),
        format_time(story->last->at_ms, TEXT),
        story->culprit ? " for what moved "
        : fired        ? " for what made guardrail "
                       : "",
        story->culprit ? story->culprit->name
        : fired        ? fired->name
                       : "",
        !story->culprit && fired ? " fire" : "");
}

static char *advice_line(const struct story *story, const struct report *report)
{
    const struct rollout *rollout = report->rollout;
    if (!rollout)
        return story->last->decision == DECISION_ABORT     ? advice_aborted(story, report)
               : story->last->decision == DECISION_PROMOTE ? mem_strdup("The canary may have the next step's traffic.")
                                                           : advice_waiting(story->last, NULL);
    switch (rollout->state) {
    case ROLLOUT_PROMOTED:
        return mem_strdup("Nothing. The rollout is over.");
    case ROLLOUT_ABORTED:
        return advice_aborted(story, report);
    case ROLLOUT_EXPIRED:
        return advice_expired(story, report);
    case ROLLOUT_SUPERSEDED:
        return mem_strdup("Nothing here: another rollout took its place, or took the split from it. "
                          "Look at that one: haldane list");
    case ROLLOUT_ROLLING_BACK:
        return mem_strdup("Watch it: haldane traffic get POLICY. If the canary's share does not reach 0 %, run "
                          "haldane traffic stable POLICY or take the canary out of the balancer by hand.");
    case ROLLOUT_HELD:
        return mem_printf("To go on: haldane resume %s --reason TEXT. To go back: haldane abort %s --reason TEXT",
                          rollout->id, rollout->id);
    case ROLLOUT_PAUSED:
        return mem_printf("To go on: haldane promote %s --reason TEXT. To go back: haldane abort %s --reason TEXT",
                          rollout->id, rollout->id);
    case ROLLOUT_STEPPING:
    case ROLLOUT_STATES:
        break;
    }
    return advice_waiting(story->last, rollout->id);
}

static const char *stay_end(const struct stay *stay, const struct stay *next, const struct story *story,
                            const struct rollout *rollout)
{
    if (next)
        return next->weight_bp >= stay->weight_bp ? "promoted" : "went back";
    if (!rollout || rollout->state == ROLLOUT_STEPPING || rollout->state == ROLLOUT_HELD ||
        rollout->state == ROLLOUT_PAUSED)
        return verdict_is_harm(story->last)                ? "aborted"
               : story->last->decision == DECISION_ABORT   ? "out of time"
               : story->last->decision == DECISION_PROMOTE ? "proven"
                                                           : "still there";
    return rollout->state == ROLLOUT_PROMOTED     ? "promoted"
           : rollout->state == ROLLOUT_EXPIRED    ? "expired"
           : rollout->state == ROLLOUT_SUPERSEDED ? "superseded"
           : rollout->cause == CAUSE_PERSON       ? "a person went back"
                                                  : "went back";
}

static void tell_stays(struct story *story, const struct report *report)
{
    size_t room = 0;
    for (size_t i = 0; i < report->verdict_count; i++) {
        const struct verdict *v = report->verdicts[i];
        if (v->look == 0)
            continue;
        struct stay *now = story->stay_count ? &story->stays[story->stay_count - 1] : NULL;
        if (!now || now->step != v->step_index || now->weight_bp != v->weight_bp) {
            int64_t from = v->step_since_ms > 0 && v->step_since_ms <= v->at_ms ? v->step_since_ms : v->at_ms;
            if (now && from < now->to_ms)
                from = now->to_ms;
            story->stays = mem_grow(story->stays, story->stay_count, &room, sizeof *story->stays);
            now = &story->stays[story->stay_count++];
            *now = (struct stay){.step = v->step_index, .weight_bp = v->weight_bp, .from_ms = from};
        }
        now->to_ms = v->at_ms;
        now->looks = v->step_looks;
    }
    for (size_t i = 0; i < story->stay_count; i++) {
        const struct stay *next = i + 1 < story->stay_count ? &story->stays[i + 1] : NULL;
        story->stays[i].end = stay_end(&story->stays[i], next, story, report->rollout);
    }
}

struct story *story_tell(const struct report *report)
{
    assert(report->verdict_count > 0);
    struct story *story = mem_alloc(1, sizeof *story);
    story->last = report->verdicts[report->verdict_count - 1];
    tell_stays(story, report);
    tell_outcome(story, report->rollout);
    story->blame = blame_line(story);
    story->traffic = traffic_line(story->last, report->rollout);
    story->next = advice_line(story, report);
    return story;
}

const char *look_words(const struct story *story, char text[FORMAT_TEXT])
{
    if (story->last->look == 0)
        return "no look on record";
    snprintf(text, FORMAT_TEXT, "look %s", format_count(story->last->look, TEXT));
    return text;
}

void story_free(struct story *story)
{
    if (!story)
        return;
    free(story->why);
    free(story->also);
    free(story->blame);
    free(story->traffic);
    free(story->next);
    free(story->stays);
    free(story);
}
