/* The same questions as a rollout's, once and now: a query that finds nothing is to be met before the first traffic. */
#include "analyzer/collect/private.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const int64_t back_ms = 300000; /* what an instant query of Prometheus itself looks back */

/* A gauge is evaluated once in each look, so that a look must fit in. */
static int64_t probe_range(const struct question *question, const struct policy *policy)
{
    bool longer = question->subject->type == METRIC_GAUGE && policy->look_ms > back_ms;
    return longer ? policy->look_ms : back_ms;
}

static void read_counter(struct probe *probe, const struct prom_answer *answer, int64_t now_ms)
{
    probe->series = answer->series_count;
    for (size_t s = 0; s < answer->series_count; s++) {
        const struct prom_series *series = &answer->series[s];
        const struct prom_sample *newest = &series->samples[series->sample_count - 1];
        double age_s = (double)(now_ms - newest->at_ms) / 1000;
        if (isnan(probe->age_s) || age_s < probe->age_s) {
            probe->age_s = age_s;
            probe->value = newest->value;
        }
    }
}

static void read_gauge(struct probe *probe, const struct question *question, const struct prom_answer *answer,
                       int64_t now_ms)
{
    struct gauge gauge;
    gauge_open(&gauge, answer);
    probe->series = gauge_read(&gauge, INT64_MIN, now_ms);
    if (probe->series)
        probe->value = gauge.values[0];
    gauge_close(&gauge);
    gauge_check_count(question, probe->series, &probe->error);
}

static void read_probe(struct probe *probe, const struct question *question, const struct prom_result *result,
                       int64_t now_ms)
{
    *probe = (struct probe){.name = question->subject->name,
                            .guardrail = question->subject->guardrail,
                            .type = question->subject->type,
                            .key = question->key,
                            .track = question->track,
                            .query = mem_strdup(question->query),
                            .age_s = NAN,
                            .value = NAN};
    if (!result->answer)
        probe->error = result->error;
    else if (probe->type == METRIC_GAUGE)
        read_gauge(probe, question, result->answer, now_ms);
    else
        read_counter(probe, result->answer, now_ms);
}

struct probe *collector_probe(struct collector *collector, int64_t now_ms, size_t *count)
{
    const struct policy *policy = collector->policy;
    *count = collector->question_count;
    struct prom_query *queries = mem_alloc(*count, sizeof *queries);
    char **texts = mem_alloc(*count, sizeof *texts);
    for (size_t i = 0; i < *count; i++) {
        const struct question *question = &collector->questions[i];
        texts[i] = question_text(question, probe_range(question, policy), policy->look_ms);
        queries[i] = (struct prom_query){texts[i], now_ms, question_expect(question)};
    }
    struct prom_batch *batch = prom_query_all(collector->client, queries, *count);
    struct probe *probes = mem_alloc(*count, sizeof *probes);
    for (size_t i = 0; i < *count; i++) {
        read_probe(&probes[i], &collector->questions[i], prom_batch_result(batch, i), now_ms);
        free(texts[i]);
    }
    prom_batch_free(batch);
    free(texts);
    free(queries);
    return probes;
}

void probes_free(struct probe *probes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(probes[i].query);
    free(probes);
}

bool probes_check(const struct policy *policy, const struct probe *probes, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct probe *probe = &probes[i];
        if (probe->error.code != ERROR_NONE) {
            if (err)
                *err = probe->error;
            return false;
        }
        /* Without a failure yet there may be no series of failures; without traffic yet none of the canary. */
        if (probe->track == TRACK_STABLE && probe->series == 0 && strcmp(probe->key, "failed") != 0)
            return error_set(err, ERROR_DATA,
                             "metric %s: `%s` finds nothing at %s; correct `%s` or `tracks`, and try it with `haldane "
                             "check --live`",
                             probe->name, probe->query, policy->prometheus.url, probe->key);
    }
    return true;
}
