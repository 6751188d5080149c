/*
 * The policy as a list of questions, made once: what a rollout asks at each look and what `check --live` tries are then
 * the same by construction.
 */
#include "analyzer/collect/private.h"

#include "base/duration.h"
#include "base/memory.h"
#include "policies/load.h"

#include <stdlib.h>

int subject_first_track(const struct subject *subject)
{
    return subject->guardrail ? TRACK_CANARY : TRACK_STABLE;
}

const char *subject_kind(const struct subject *subject)
{
    return subject->guardrail ? "guardrail" : "metric";
}

static void add_question(struct collector *collector, const struct subject *subject, enum track track, const char *key,
                         enum counter_role role, const char *query)
{
    collector->questions =
        mem_resize(collector->questions, collector->question_count + 1, sizeof *collector->questions);
    collector->questions[collector->question_count++] =
        (struct question){subject, key, track, role, policy_expand(collector->policy, query, track)};
}

static void ask_metric(struct collector *collector, const struct subject *subject, const struct policy_metric *metric,
                       enum track track)
{
    switch (metric->type) {
    case METRIC_ERRORS:
        add_question(collector, subject, track, "total", COUNTER_TOTAL, metric->total);
        add_question(collector, subject, track, "failed", COUNTER_FAILED, metric->failed);
        break;
    case METRIC_LATENCY:
        add_question(collector, subject, track, "histogram", COUNTER_BUCKET, metric->histogram);
        break;
    case METRIC_GAUGE:
        add_question(collector, subject, track, "query", COUNTER_TOTAL, metric->query);
        break;
    }
}

static void ask_guardrail(struct collector *collector, const struct subject *subject,
                          const struct policy_guardrail *guardrail)
{
    if (subject->type == METRIC_GAUGE) {
        add_question(collector, subject, TRACK_CANARY, "query", COUNTER_TOTAL, guardrail->query);
        return;
    }
    add_question(collector, subject, TRACK_CANARY, "total", COUNTER_TOTAL, guardrail->total);
    add_question(collector, subject, TRACK_CANARY, "failed", COUNTER_FAILED, guardrail->failed);
}

void questions_make(struct collector *collector)
{
    const struct policy *policy = collector->policy;
    collector->subject_count = policy->metric_count + policy->guardrail_count;
    collector->subjects = mem_alloc(collector->subject_count, sizeof *collector->subjects);
    for (size_t m = 0; m < policy->metric_count; m++) {
        struct subject *subject = &collector->subjects[m];
        *subject = (struct subject){policy->metrics[m].name, false, policy->metrics[m].type};
        for (int t = 0; t < TRACKS; t++)
            ask_metric(collector, subject, &policy->metrics[m], (enum track)t);
    }
    for (size_t g = 0; g < policy->guardrail_count; g++) {
        const struct policy_guardrail *guardrail = &policy->guardrails[g];
        struct subject *subject = &collector->subjects[policy->metric_count + g];
        *subject =
            (struct subject){guardrail->name, true, guardrail->kind == GUARDRAIL_VALUE ? METRIC_GAUGE : METRIC_ERRORS};
        ask_guardrail(collector, subject, guardrail);
    }
}

void questions_free(struct collector *collector)
{
    for (size_t i = 0; i < collector->question_count; i++)
        free(collector->questions[i].query);
    free(collector->questions);
    free(collector->subjects);
}

/* A gauge's query may be any PromQL, so it is asked for by a subquery, which Prometheus evaluates at multiples of its
 * step: any two fetches see the same instants. The query may end in a comment, hence the new line. */
char *question_text(const struct question *question, int64_t range_ms, int64_t step_ms)
{
    char range[DURATION_TEXT], step[DURATION_TEXT];
    duration_format(range_ms, range);
    if (question->subject->type != METRIC_GAUGE)
        return mem_printf("%s[%s]", question->query, range);
    return mem_printf("(%s\n)[%s:%s]", question->query, range, duration_format(step_ms, step));
}

struct prom_expect question_expect(const struct question *question)
{
    return (struct prom_expect){.types = PROM_MATRIX, .counts = question->subject->type != METRIC_GAUGE};
}
