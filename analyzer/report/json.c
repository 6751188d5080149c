/*
 * Written straight into a string: a history of thousands of looks would be a tree of a million nodes. The last verdict
 * is embedded as verdict_to_json() gives it, so that its schema stays in one place.
 */
#include "analyzer/report/escape.h"
#include "analyzer/report/story.h"
#include "base/duration.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static void put_time(struct strbuf *out, const char *name, int64_t unix_ms)
{
    char text[TIME_TEXT];
    if (unix_ms == 0)
        strbuf_printf(out, "\"%s\":null", name);
    else
        strbuf_printf(out, "\"%s\":\"%s\"", name, time_format(unix_ms, text));
}

static void put_number(struct strbuf *out, const char *name, double number)
{
    strbuf_printf(out, ",\"%s\":", name);
    put_json_number(out, number);
}

static void put_rollout(struct strbuf *out, const struct rollout *rollout)
{
    if (!rollout) {
        strbuf_puts(out, "null");
        return;
    }
    strbuf_puts(out, "{\"id\":");
    put_json(out, rollout->id);
    strbuf_puts(out, ",\"service\":");
    put_json(out, rollout->service);
    strbuf_printf(out, ",\"state\":\"%s\",\"cause\":\"%s\",\"step\":%zu,\"weight\":%" PRIu32 ",",
                  rollout_state_names[rollout->state], rollout_cause_names[rollout->cause], rollout->step,
                  rollout->weight_bp);
    put_time(out, "begun", rollout->begun_ms);
    strbuf_puts(out, ",");
    put_time(out, "step_since", rollout->step_since_ms);
    strbuf_puts(out, ",");
    put_time(out, "last_look", rollout->last_look_ms);
    strbuf_puts(out, ",");
    put_time(out, "lease_until", rollout->lease_until_ms);
    strbuf_puts(out, ",");
    put_time(out, "ended", rollout->ended_ms);
    strbuf_puts(out, ",\"reason\":");
    put_json(out, rollout->reason);
    strbuf_puts(out, "}");
}

static void put_look(struct strbuf *out, const struct verdict *verdict)
{
    strbuf_printf(out, "{\"look\":%" PRIu64 ",", verdict->look);
    put_time(out, "at", verdict->at_ms);
    strbuf_printf(out, ",\"step\":%" PRId32 ",\"weight\":%" PRIu32 ",\"decision\":\"%s\",\"metrics\":[",
                  verdict->step_index, verdict->weight_bp, decision_names[verdict->decision]);
    for (size_t i = 0; i < verdict->metric_count; i++) {
        const struct metric_verdict *m = &verdict->metrics[i];
        strbuf_puts(out, i ? ",{\"name\":" : "{\"name\":");
        put_json(out, m->name);
        put_number(out, "estimate", m->effect.estimate);
        put_number(out, "lower", m->effect.lower);
        put_number(out, "upper", m->effect.upper);
        put_number(out, "harm", m->evidence.harm);
        put_number(out, "safe", m->evidence.safe);
        for (int t = 0; t < TRACKS && m->type == METRIC_GAUGE; t++)
            put_number(out, track_names[t], m->arms[t].present ? m->arms[t].median : NAN);
        strbuf_puts(out, "}");
    }
    strbuf_puts(out, "]}");
}

static void put_entry(struct strbuf *out, const struct audit_entry *entry)
{
    strbuf_puts(out, "{");
    put_time(out, "at", entry->at_ms);
    strbuf_puts(out, ",\"actor\":");
    put_json(out, entry->actor);
    strbuf_puts(out, ",\"event\":");
    put_json(out, entry->event);
    strbuf_puts(out, ",\"detail\":");
    put_json(out, entry->detail);
    strbuf_printf(out, ",\"weight\":%" PRIu32 "}", entry->weight_bp);
}

char *report_json(const struct report *report)
{
    struct strbuf out = {0};
    struct story *story = story_tell(report);
    strbuf_puts(&out, "{\"schema\":\"haldane.report/1\",\"generator\":\"haldane " HALDANE_VERSION "\",\"rollout\":");
    put_rollout(&out, report->rollout);
    char *verdict = verdict_to_json(story->last);
    strbuf_puts(&out, ",\"verdict\":");
    put_plain(&out, verdict); /* changes nothing but bytes that are not UTF-8 or that a terminal obeys */
    free(verdict);
    strbuf_puts(&out, ",\"history\":[");
    for (size_t i = 0; i < report->verdict_count; i++) {
        strbuf_puts(&out, i ? ",\n" : "\n");
        put_look(&out, report->verdicts[i]);
    }
    strbuf_puts(&out, "],\"audit\":[");
    for (size_t i = 0; i < report->audit_count; i++) {
        strbuf_puts(&out, i ? ",\n" : "\n");
        put_entry(&out, &report->audit[i]);
    }
    strbuf_puts(&out, "],\"policy_source\":");
    put_json(&out, report->policy_source);
    strbuf_puts(&out, "}\n");
    story_free(story);
    return strbuf_take(&out);
}
