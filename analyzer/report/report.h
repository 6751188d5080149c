/*
 * Reports: what happened and why, for a person. Pure functions from the model to text; no file is touched here.
 */
#ifndef HALDANE_REPORT_REPORT_H
#define HALDANE_REPORT_REPORT_H

#include "analyzer/model/rollout.h"
#include "analyzer/model/verdict.h"

/* Everything borrowed. At least one verdict; `rollout` and `audit` may be absent (a report on a single judgement). */
struct report {
    const struct rollout *rollout;         /* NULL: none */
    const struct verdict *const *verdicts; /* one per look, by time; the last one is the verdict */
    size_t verdict_count;
    const struct audit_entry *audit;
    size_t audit_count;
    const char *policy_source;   /* the policy's YAML; NULL: not shown */
    const struct policy *policy; /* what it says, for why a rollout's time ran out; NULL: not known */
};

/* The caller frees the text. */
char *report_text(const struct report *report);     /* for a terminal, at most 100 columns, no colour */
char *report_markdown(const struct report *report); /* for a pull request or a chat */
char *report_html(const struct report *report);     /* one file: inline CSS and SVG, no script, dark and light */
char *report_json(const struct report *report);     /* {"schema": "haldane.report/1", …} */

#endif
