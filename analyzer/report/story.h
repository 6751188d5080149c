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
    const struct metric_verdict *culprit; /* NULL: none */
    char *blame;                          /* a line about the metric to blame, or what is still unproven */
    char *traffic, *next;
    struct stay *stays;
    size_t stay_count;
};

struct story *story_tell(const struct report *report);
void story_free(struct story *story);

/* How full a bar of evidence is: 0 to 1. Nothing, less than nothing, or nothing to reach: 0. */
double evidence_fill(double value, double needed);

/* "3.1× (2.2–4.4×, 95 % at all looks)"; "–" if there is no number. The caller frees them. */
char *effect_text(const struct metric_verdict *metric);
/* "aborts above 1.1× stable" and "promotes below 1.5× stable + 0.1 % of requests". The caller frees them. */
char *abort_text(const struct metric_verdict *metric);
char *promote_text(const struct metric_verdict *metric);

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
