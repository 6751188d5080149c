/* What the files of this folder share. */
#ifndef HALDANE_COLLECT_PRIVATE_H
#define HALDANE_COLLECT_PRIVATE_H

#include "analyzer/collect/collect.h"
#include "promclient/client.h"
#include "promclient/increments.h"

/* What the evidence keeps under one name: a metric of both tracks, or a guardrail of the canary alone. */
struct subject {
    const char *name; /* borrowed from the policy; no two subjects have the same */
    bool guardrail;
    enum metric_type type;
};

/* One query of the policy for one track. */
struct question {
    const struct subject *subject;
    const char *key; /* in the policy: "total", "failed", "histogram", "query" */
    enum track track;
    enum counter_role role; /* unless the subject is a gauge */
    char *query;            /* owned; as Prometheus is asked, without a range */
};

struct collector {
    const struct policy *policy;
    struct prom_client *client;
    struct subject *subjects; /* the policy's metrics, then its guardrails, in its order */
    size_t subject_count;
    struct question *questions; /* subject by subject, in each of them stable before the canary */
    size_t question_count;
};

/* question.c */
void questions_make(struct collector *collector);
void questions_free(struct collector *collector);
int subject_first_track(const struct subject *subject);
const char *subject_kind(const struct subject *subject); /* "metric" or "guardrail" */
/* The samples of the range_ms before the time of evaluation: raw for a counter, one every step_ms for a gauge. The
 * caller frees it. */
char *question_text(const struct question *question, int64_t range_ms, int64_t step_ms);
struct prom_expect question_expect(const struct question *question);

/* gauge.c: the answer to a gauge's question, borrowed, read look by look. */
struct gauge {
    const struct prom_series **series; /* by their labels */
    size_t count;
    double *values; /* room for one per series */
};
void gauge_open(struct gauge *gauge, const struct prom_answer *answer);
void gauge_close(struct gauge *gauge);
/* Puts the values at the newest instant in (from_ms, at_ms] into gauge->values; NAN for an infinity too. How many. */
size_t gauge_read(struct gauge *gauge, int64_t from_ms, int64_t at_ms);
/* A guardrail is one number: ERROR_DATA for more. */
bool gauge_check_count(const struct question *question, size_t count, struct error *err);

#endif
