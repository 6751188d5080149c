/* For a terminal: 100 columns, no colour, bars of ASCII. What matters at night comes first. */
#include "analyzer/report/escape.h"
#include "analyzer/report/story.h"
#include "base/memory.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 100, LABEL = 12, VALUE = 18, BAR = 30 };

/* "  label     text", wrapped under itself. */
static void put_labelled(struct strbuf *out, const char *label, const char *text)
{
    strbuf_printf(out, "  %-*s", LABEL, label);
    put_wrapped(out, text, LABEL + 2, LABEL + 2, COLUMNS);
}

static void put_heading(struct strbuf *out, const struct report *report, const struct story *story)
{
    for (const char *p = story->outcome; *p; p++)
        strbuf_printf(out, "%c", toupper((unsigned char)*p));
    strbuf_puts(out, ": ");
    put_wrapped(out, text_or(story->last->service, "a service"), strlen(story->outcome) + 2, 0, COLUMNS);
    strbuf_puts(out, "\n");
    put_labelled(out, "Why", story->why);
    if (story->also)
        put_labelled(out, "Judge", story->also);
    put_labelled(out, "To blame", story->blame);
    put_labelled(out, "Traffic", story->traffic);
    put_labelled(out, "To do", story->next);
    bool looked = story->last->look > 0;
    char *when = mem_printf("%s%s%s", look_words(story, TEXT), looked ? ", " : "",
                            looked ? format_time(story->last->at_ms, TEXT) : "");
    put_labelled(out, "At", when);
    free(when);
    if (report->rollout)
        put_labelled(out, "Rollout", report->rollout->id);
    for (size_t i = 0; i < story->last->warning_count; i++)
        put_labelled(out, "Warning", story->last->warnings[i]);
}

/* Pads by columns, not bytes: "×" is two bytes and one column. */
static void put_cell(struct strbuf *out, const char *text)
{
    size_t columns = text_columns(text);
    strbuf_printf(out, "%*s%s", columns < VALUE ? (int)(VALUE - columns) : 1, "", text);
}

static void put_row(struct strbuf *out, const char *name, const char *stable, const char *canary)
{
    strbuf_printf(out, "    %-*s", LABEL, name);
    put_cell(out, stable);
    put_cell(out, canary);
    strbuf_puts(out, "\n");
}

static void put_comparison(struct strbuf *out, const struct metric_verdict *m)
{
    const struct arm_summary *stable = &m->arms[TRACK_STABLE], *canary = &m->arms[TRACK_CANARY];
    put_row(out, "", "stable", "canary");
    if (m->type == METRIC_GAUGE) {
        put_row(out, "looks", stable->present ? format_count(stable->samples, TEXT) : "no data",
                canary->present ? format_count(canary->samples, TEXT) : "no data");
        put_row(out, "median", stable->present ? format_number(stable->median, TEXT) : "–",
                canary->present ? format_number(canary->median, TEXT) : "–");
        return;
    }
    put_row(out, "requests", stable->present ? format_count(stable->requests, TEXT) : "no data",
            canary->present ? format_count(canary->requests, TEXT) : "no data");
    if (m->type == METRIC_ERRORS) {
        put_row(out, "failed", stable->present ? format_count(stable->failed, TEXT) : "–",
                canary->present ? format_count(canary->failed, TEXT) : "–");
        put_row(out, "rate", stable->present ? format_share(stable->rate, TEXT) : "–",
                canary->present ? format_share(canary->rate, TEXT) : "–");
        return;
    }
    for (size_t q = 0; q < m->quantile_count; q++) {
        char *name = mem_printf("p%.6g", m->quantiles[q] * 100);
        put_row(out, name, stable->present ? format_latency(stable->quantiles[q], TEXT) : "–",
                canary->present ? format_latency(canary->quantiles[q], TEXT) : "–");
        free(name);
    }
}

static void put_bar(struct strbuf *out, const char *name, double value, double needed, const char *what)
{
    int full = (int)(evidence_fill(value, needed) * BAR);
    char bar[BAR + 1];
    memset(bar, '#', (size_t)full);
    memset(bar + full, '.', (size_t)(BAR - full));
    bar[BAR] = '\0';
    strbuf_printf(out, "    %-*s[%s] %s of %s %s\n", LABEL, name, bar, format_evidence(value, TEXT),
                  format_evidence(needed, TEXT), what);
}

/* "    name        text", wrapped under itself. */
static void put_fact(struct strbuf *out, const char *name, const char *text)
{
    strbuf_printf(out, "    %-*s", LABEL, name);
    put_wrapped(out, text, LABEL + 4, LABEL + 4, COLUMNS);
}

static void put_measured(struct strbuf *out, const struct metric_verdict *m)
{
    char *effect = effect_text(m), *margins = margins_text(m), *classification = classification_text(m);
    put_fact(out, effect_name(m), effect);
    put_fact(out, "accepted", margins);
    if (classification)
        put_fact(out, "Kayenta", classification);
    free(effect);
    free(margins);
    free(classification);
    if (metric_bets_on_harm(m))
        put_bar(out, "harm", m->evidence.harm, m->evidence.harm_needed, harm_goal(m));
    if (metric_proves_safety(m))
        put_bar(out, "safety", m->evidence.safe, m->evidence.safe_needed, "to promote");
}

static void put_metric(struct strbuf *out, const struct metric_verdict *m)
{
    char *title =
        mem_printf("%s: %s (%s, %s)", m->name, status_words(m->status), metric_type_names[m->type], role_words(m));
    strbuf_puts(out, "\n  ");
    put_wrapped(out, title, 2, 4, COLUMNS);
    free(title);
    if (m->reason && *m->reason) {
        strbuf_puts(out, "    ");
        put_wrapped(out, m->reason, 4, 4, COLUMNS);
    }
    put_comparison(out, m);
    put_measured(out, m);
}

/* A quiet one shows its number; any other says what is wrong. */
static void put_guardrail(struct strbuf *out, const struct guardrail_verdict *guardrail)
{
    bool told = guardrail_speaks(guardrail);
    char *measured = guardrail_text(guardrail);
    char *line = told ? mem_printf("%s: %s: %s", guardrail->name, guardrail_words(guardrail->status), guardrail->reason)
                      : mem_printf("%s: %s (%s; the limit is %s)", guardrail->name, guardrail_words(guardrail->status),
                                   measured, guardrail_limit(guardrail, TEXT));
    strbuf_puts(out, "  ");
    put_wrapped(out, line, 2, 4, COLUMNS);
    free(line);
    free(measured);
    if (told && guardrail->kind == GUARDRAIL_RATE)
        put_bar(out, "harm", guardrail->evidence, guardrail->evidence_needed, "to abort");
}

/* All of them as soon as one is not ok; a quiet line else. */
static void put_guardrails(struct strbuf *out, const struct verdict *verdict)
{
    if (verdict->guardrail_count == 0)
        return;
    if (guardrails_are_ok(verdict)) {
        strbuf_printf(out, "\nGuardrails: %zu, all ok\n", verdict->guardrail_count);
        return;
    }
    strbuf_puts(out, "\nGuardrails\n");
    for (size_t g = 0; g < verdict->guardrail_count; g++)
        put_guardrail(out, &verdict->guardrails[g]);
}

static void put_kayenta(struct strbuf *out, const struct verdict *verdict)
{
    char *score = kayenta_text(verdict);
    if (score)
        strbuf_printf(out, "\nKayenta's score: %s\n", score);
    free(score);
}

static void put_stays(struct strbuf *out, const struct story *story)
{
    if (story->stay_count == 0)
        return;
    strbuf_puts(out, "\nSteps\n");
    for (size_t i = 0; i < story->stay_count; i++) {
        const struct stay *stay = &story->stays[i];
        strbuf_printf(out, "  %-9s %s  for %-8s  %s look%s, %s\n", format_weight(stay->weight_bp, TEXT),
                      format_time(stay->from_ms, TEXT), format_span(stay->to_ms - stay->from_ms, TEXT),
                      format_count(stay->looks, TEXT), stay->looks == 1 ? "" : "s", stay->end);
    }
}

static void put_audit(struct strbuf *out, const struct report *report)
{
    if (report->audit_count == 0)
        return;
    strbuf_puts(out, "\nWhat happened\n");
    for (size_t i = 0; i < report->audit_count; i++) {
        const struct audit_entry *entry = &report->audit[i];
        char *line =
            mem_printf("%s  %s, %s: %s (canary %s)", format_time(entry->at_ms, TEXT), text_or(entry->actor, "?"),
                       text_or(entry->event, "?"), text_or(entry->detail, ""), format_weight(entry->weight_bp, TEXT));
        strbuf_puts(out, "  ");
        put_wrapped(out, line, 2, 27, COLUMNS);
        free(line);
    }
}

static void put_foot(struct strbuf *out, const struct verdict *v)
{
    strbuf_puts(out, "\n");
    if (!isnan(v->false_abort_limit))
        strbuf_printf(out, "False alarms: limit %s over the whole rollout; used so far: %s.\n",
                      format_share(v->false_abort_limit, TEXT), format_share(v->false_abort_spent, TEXT));
    if (v->policy_sha256[0])
        strbuf_printf(out, "Policy sha256 %s\n", v->policy_sha256);
    strbuf_puts(out, "haldane " HALDANE_VERSION "\n");
}

char *report_text(const struct report *report)
{
    struct strbuf out = {0};
    struct story *story = story_tell(report);
    put_heading(&out, report, story);
    put_guardrails(&out, story->last);
    put_kayenta(&out, story->last);
    strbuf_puts(&out, "\nMetrics\n");
    if (story->last->metric_count == 0)
        strbuf_puts(&out, "  No metric was judged.\n");
    for (size_t i = 0; i < story->last->metric_count; i++)
        put_metric(&out, &story->last->metrics[i]);
    put_stays(&out, story);
    put_audit(&out, report);
    put_foot(&out, story->last);
    story_free(story);
    return strbuf_take(&out);
}
