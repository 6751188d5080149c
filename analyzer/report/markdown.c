/* For a pull request or a chat: short, tables that forges render, and nothing in it that calls anybody. */
#include "analyzer/report/escape.h"
#include "analyzer/report/story.h"

#include <math.h>
#include <stdlib.h>

static void put_labelled(struct strbuf *out, const char *label, const char *text)
{
    strbuf_printf(out, "- **%s**: ", label);
    put_markdown(out, text);
    strbuf_puts(out, "\n");
}

static void put_heading(struct strbuf *out, const struct report *report, const struct story *story)
{
    strbuf_printf(out, "## %s: ", story->outcome);
    put_markdown(out, text_or(story->last->service, "a service"));
    strbuf_puts(out, "\n\n");
    put_labelled(out, "Why", story->why);
    if (story->also)
        put_labelled(out, "The judge", story->also);
    put_labelled(out, "To blame", story->blame);
    put_labelled(out, "Traffic now", story->traffic);
    put_labelled(out, "What to do", story->next);
    strbuf_printf(out, "- **At**: %s", look_words(story, TEXT));
    if (story->last->look > 0)
        strbuf_printf(out, ", %s", format_time(story->last->at_ms, TEXT));
    if (report->rollout) {
        strbuf_puts(out, ", rollout ");
        put_markdown(out, report->rollout->id);
    }
    strbuf_puts(out, "\n");
    char *score = kayenta_text(story->last);
    if (score)
        put_labelled(out, "Kayenta's score", score);
    free(score);
    for (size_t i = 0; i < story->last->warning_count; i++)
        put_labelled(out, "Warning", story->last->warnings[i]);
}

static void put_arm(struct strbuf *out, const struct metric_verdict *m, enum track track)
{
    const struct arm_summary *arm = &m->arms[track];
    if (!arm->present) {
        strbuf_puts(out, "no data");
        return;
    }
    if (m->type == METRIC_GAUGE) {
        strbuf_printf(out, "%s (%s looks)", format_number(arm->median, TEXT), format_count(arm->samples, TEXT));
        return;
    }
    if (m->type == METRIC_ERRORS) {
        strbuf_printf(out, "%s (%s of %s)", format_share(arm->rate, TEXT), format_count(arm->failed, TEXT),
                      format_count(arm->requests, TEXT));
        return;
    }
    for (size_t q = 0; q < m->quantile_count; q++)
        strbuf_printf(out, "%sp%.6g %s", q ? ", " : "", m->quantiles[q] * 100, format_latency(arm->quantiles[q], TEXT));
    strbuf_printf(out, " (%s)", format_count(arm->requests, TEXT));
}

static void put_evidence(struct strbuf *out, bool there, double value, double needed)
{
    if (there)
        strbuf_printf(out, " | %s of %s", format_evidence(value, TEXT), format_evidence(needed, TEXT));
    else
        strbuf_puts(out, " | –");
}

static void put_row(struct strbuf *out, const struct metric_verdict *m)
{
    strbuf_puts(out, "| ");
    put_markdown(out, m->name);
    strbuf_printf(out, " | **%s** | ", status_words(m->status));
    put_arm(out, m, TRACK_STABLE);
    strbuf_puts(out, " | ");
    put_arm(out, m, TRACK_CANARY);
    strbuf_printf(out, " | %s", effect_brief(m, TEXT));
    if (has_effect(m) && m->type != METRIC_GAUGE)
        strbuf_printf(out, " (%s)", format_interval(m->effect.lower, m->effect.upper, TEXT));
    put_evidence(out, metric_bets_on_harm(m), m->evidence.harm, m->evidence.harm_needed);
    put_evidence(out, metric_proves_safety(m), m->evidence.safe, m->evidence.safe_needed);
    strbuf_puts(out, " |\n");
}

static void put_sentence(struct strbuf *out, const struct metric_verdict *m)
{
    char *margins = margins_text(m), *classification = classification_text(m);
    strbuf_puts(out, "- **");
    put_markdown(out, m->name);
    strbuf_puts(out, "**: ");
    put_markdown(out, text_or(m->reason, "no reason was recorded"));
    strbuf_printf(out, " *(%s%s%s)*\n", margins, classification ? "; Kayenta: " : "",
                  classification ? classification : "");
    free(margins);
    free(classification);
}

static void put_metrics(struct strbuf *out, const struct verdict *verdict)
{
    if (verdict->metric_count == 0)
        return;
    strbuf_puts(out, "\n| metric | status | stable | canary | effect | toward harm | toward safety |\n"
                     "| --- | --- | ---: | ---: | ---: | ---: | ---: |\n");
    for (size_t i = 0; i < verdict->metric_count; i++)
        put_row(out, &verdict->metrics[i]);
    strbuf_puts(out, "\n");
    for (size_t i = 0; i < verdict->metric_count; i++)
        put_sentence(out, &verdict->metrics[i]);
}

static void put_guardrail(struct strbuf *out, const struct guardrail_verdict *guardrail)
{
    static const char *const signs[] = {"✓", "✕", "?"};
    char *measured = guardrail_text(guardrail);
    strbuf_puts(out, "| ");
    put_markdown(out, guardrail->name);
    strbuf_printf(out, " | %s **%s** | %s | %s | ", signs[guardrail->status], guardrail_words(guardrail->status),
                  measured, guardrail_limit(guardrail, TEXT));
    put_markdown(out, guardrail->reason);
    strbuf_puts(out, " |\n");
    free(measured);
}

static void put_guardrails(struct strbuf *out, const struct verdict *verdict)
{
    if (verdict->guardrail_count == 0)
        return;
    strbuf_puts(out, "\n| guardrail | status | measured | limit | |\n| --- | --- | --- | ---: | --- |\n");
    for (size_t g = 0; g < verdict->guardrail_count; g++)
        put_guardrail(out, &verdict->guardrails[g]);
}

static void put_stays(struct strbuf *out, const struct story *story)
{
    if (story->stay_count == 0)
        return;
    strbuf_puts(out, "\n| canary's share | from | for | looks | end |\n| ---: | --- | ---: | ---: | --- |\n");
    for (size_t i = 0; i < story->stay_count; i++) {
        const struct stay *stay = &story->stays[i];
        strbuf_printf(out, "| %s | %s | %s | %s | %s |\n", format_weight(stay->weight_bp, TEXT),
                      format_time(stay->from_ms, TEXT), format_span(stay->to_ms - stay->from_ms, TEXT),
                      format_count(stay->looks, TEXT), stay->end);
    }
}

static void put_audit(struct strbuf *out, const struct report *report)
{
    if (report->audit_count == 0)
        return;
    strbuf_puts(out, "\n| time | who | what | canary's share |\n| --- | --- | --- | ---: |\n");
    for (size_t i = 0; i < report->audit_count; i++) {
        const struct audit_entry *entry = &report->audit[i];
        strbuf_printf(out, "| %s | ", format_time(entry->at_ms, TEXT));
        put_markdown(out, entry->actor);
        strbuf_puts(out, " | **");
        put_markdown(out, text_or(entry->event, "?"));
        strbuf_puts(out, "** ");
        put_markdown(out, entry->detail);
        strbuf_printf(out, " | %s |\n", format_weight(entry->weight_bp, TEXT));
    }
}

static void put_foot(struct strbuf *out, const struct verdict *v)
{
    strbuf_puts(out, "\n<sub>");
    if (!isnan(v->false_abort_limit))
        strbuf_printf(out, "False alarms: limit %s over the whole rollout; used so far: %s. ",
                      format_share(v->false_abort_limit, TEXT), format_share(v->false_abort_spent, TEXT));
    strbuf_puts(out, "Evidence is log10 of the e-value. haldane " HALDANE_VERSION);
    if (v->policy_sha256[0]) {
        strbuf_puts(out, ", policy sha256 ");
        put_markdown(out, v->policy_sha256);
    }
    strbuf_puts(out, ".</sub>\n");
}

char *report_markdown(const struct report *report)
{
    struct strbuf out = {0};
    struct story *story = story_tell(report);
    put_heading(&out, report, story);
    put_guardrails(&out, story->last);
    put_metrics(&out, story->last);
    put_stays(&out, story);
    put_audit(&out, report);
    put_foot(&out, story->last);
    story_free(story);
    return strbuf_take(&out);
}
