/*
 * What a report says, before any format: the outcome, why, who is to blame, where traffic is, what to do next, and the
 * pieces of evidence in words. All four formats tell the same story because they take it from here.
 */
#ifndef HALDANE_REPORT_STORY_H
#define HALDANE_REPORT_STORY_H

#include "analyzer/model/format.h"
#include "analyzer/report/report.h"

/* Room for a formatted number that lasts to the end of the enclosing block. */
#define TEXT ((char[FORMAT_TEXT]){0})

enum mood { MOOD_GOOD, MOOD_WAIT, MOOD_BAD };

/* How long the canary stayed at one step. */
struct stay {
    int32_t step; /* -1: not a step of the policy */
    uint32_t weight_bp;
    int64_t from_ms, to_ms;
    uint64_t looks;  /* that were evidence */
    const char *end; /* "promoted", "still there", ... */
};

struct story {
    const struct verdict *last;
    enum mood mood;
    const char *outcome;                  /* "Promoted", "Aborted", "Hold", ... */
    char *why, *also;                     /* sentences; also: the judge's, where somebody else had the last word */
    bool harmed;                          /* it ended, or would end, because harm was shown */
    const struct metric_verdict *culprit; /* NULL: none, or not a metric */
    char *blame;                          /* the metric and the guardrails to blame, or what is still unproven */
    char *traffic, *next;
    struct stay *stays;
    size_t stay_count;
};

struct story *story_tell(const struct report *report);
void story_free(struct story *story);

/* "look 12"; there may be none yet, or none any more. */
const char *look_words(const struct story *story, char text[FORMAT_TEXT]);

/* How full a bar of evidence is: 0 to 1. Nothing, less than nothing, or nothing to reach: 0. */
double evidence_fill(double value, double needed);

/*
 * "3.1× (2.2–4.4×, 95 % at all looks)", of a gauge "+128, +25 % of stable (+120 to +135, 95 % at this look alone)"; "–"
 * if there is no number. The caller frees them.
 */
char *effect_text(const struct metric_verdict *metric);
const char *effect_brief(const struct metric_verdict *metric, char text[FORMAT_TEXT]); /* "3.1×", "+25 %", "–" */
const char *effect_name(const struct metric_verdict *metric);                          /* "ratio" or "shift" */
/* "aborts above 1.1× stable" and "promotes below 1.5× stable + 0.1 % of requests". The caller frees them. */
char *abort_text(const struct metric_verdict *metric);
char *promote_text(const struct metric_verdict *metric);
char *margins_text(const struct metric_verdict *metric); /* both of them, where there are two */

/* What weight a metric has: "critical", "never aborts", "in Kayenta's score". */
const char *role_words(const struct metric_verdict *metric);
/* What the evidence of harm is needed for: "to abort"; of a metric that never aborts "to show harm". */
const char *harm_goal(const struct metric_verdict *metric);

/* How Kayenta would say it: "High, effect size 1.32". NULL: it was not asked. The caller frees it. */
char *classification_text(const struct metric_verdict *metric);
/* "42 of 100, a fail (below 50 fails, from 75 on passes)"; NULL if there is no score. The caller frees it. */
char *kayenta_text(const struct verdict *verdict);

/* Guardrails: what was measured ("8.1 % of 1,204 requests failed", "812") and the limit; a status as a word. */
char *guardrail_text(const struct guardrail_verdict *guardrail); /* the caller frees it */
const char *guardrail_limit(const struct guardrail_verdict *guardrail, char text[FORMAT_TEXT]);
const char *guardrail_words(enum guardrail_status status);
bool guardrails_are_ok(const struct verdict *verdict);
/* Whether its sentence is worth reading: it is not ok, or it is only because the limit is not broken for long. */
bool guardrail_speaks(const struct guardrail_verdict *guardrail);

/*
 * The margin as a ratio to stable, for drawing: an absolute part is turned into one by stable's rate. NAN if it
 * cannot be drawn.
 */
double abort_margin(const struct metric_verdict *metric, double stable_rate);
double promote_margin(const struct metric_verdict *metric, double stable_rate);

bool has_effect(const struct metric_verdict *metric);

/* The metric of the same name in another verdict; NULL if it is not there. `hint` is where it probably is. */
const struct metric_verdict *same_metric(const struct verdict *verdict, const char *name, size_t hint);

/* A status or a state as words: "no_data" → "no data". Borrowed names are never NULL. */
const char *status_words(enum metric_status status);

const char *text_or(const char *text, const char *otherwise); /* for NULL and "" */

#endif
