/*
 * One counter set per track takes all answers of a window, so that a restart seen in one metric is a restart in all.
 * Looks are then cut from both sets together: an interval is a look only when every live instance of both tracks has
 * its sample, else it is stretched by one more, so that what both arms share stays shared.
 */
#include "analyzer/collect/collect.h"

#include "analyzer/model/verdict.h"
#include "base/duration.h"
#include "base/memory.h"
#include "policies/load.h"
#include "promclient/client.h"
#include "promclient/increments.h"
#include "stats/latency.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GONE_LOOKS = 3 }; /* an instance without a sample for so long has stopped */

struct collector {
    const struct policy *policy;
    struct prom_client *client;
};

/* One query of a fetch: which role of which metric it fills. */
struct part {
    const struct policy_metric *metric;
    enum counter_role role;
    enum track track;
    char *text;
};

struct fetch {
    struct collector *collector;
    int64_t from_ms, until_ms, look_ms, since_ms;
    struct part *parts;
    size_t part_count;
    struct prom_batch *batch;
};

struct collector *collector_new(const struct policy *policy, struct error *err)
{
    const struct policy_prometheus *p = &policy->prometheus;
    struct prom_header *headers = mem_alloc(p->header_count, sizeof *headers);
    for (size_t h = 0; h < p->header_count; h++)
        headers[h] = (struct prom_header){p->headers[h].name, p->headers[h].value};
    /* Half of the lease at most: a Prometheus that hangs must leave time to act before the lease runs out. */
    int64_t deadline_ms = policy->traffic.unattended_ms / 2;
    struct prom_config config = {.url = p->url,
                                 .timeout_ms = p->timeout_ms,
                                 .deadline_ms = deadline_ms < 4 * p->timeout_ms ? deadline_ms : 4 * p->timeout_ms,
                                 .headers = headers,
                                 .header_count = p->header_count,
                                 .username = p->username,
                                 .password_file = p->password_file,
                                 .bearer_token_file = p->bearer_token_file,
                                 .ca_file = p->ca_file,
                                 .cert_file = p->cert_file,
                                 .key_file = p->key_file,
                                 .server_name = p->server_name};
    struct prom_client *client = prom_client_new(&config, err);
    free(headers);
    if (!client)
        return NULL;
    struct collector *collector = mem_alloc(1, sizeof *collector);
    collector->policy = policy;
    collector->client = client;
    return collector;
}

void collector_free(struct collector *collector)
{
    if (!collector)
        return;
    prom_client_free(collector->client);
    free(collector);
}

/* --- asking --- */

static void add_part(struct fetch *fetch, const struct policy_metric *metric, enum counter_role role,
                     const char *selector, enum track track, const char *range)
{
    char *expanded = policy_expand(fetch->collector->policy, selector, track);
    fetch->parts = mem_resize(fetch->parts, fetch->part_count + 1, sizeof *fetch->parts);
    fetch->parts[fetch->part_count++] = (struct part){metric, role, track, mem_printf("%s[%s]", expanded, range)};
    free(expanded);
}

struct fetch *fetch_start(struct collector *collector, int64_t from_ms, int64_t until_ms, int64_t look_ms)
{
    const struct policy *policy = collector->policy;
    struct fetch *fetch = mem_alloc(1, sizeof *fetch);
    fetch->collector = collector;
    fetch->from_ms = from_ms;
    fetch->until_ms = until_ms;
    fetch->look_ms = look_ms;
    int64_t back_ms = GONE_LOOKS * look_ms > 15000 ? GONE_LOOKS * look_ms : 15000;
    fetch->since_ms = from_ms - back_ms;
    int64_t at_ms = until_ms + policy->settle_ms;
    char range[DURATION_TEXT];
    duration_format(at_ms - fetch->since_ms, range);
    for (int t = 0; t < TRACKS; t++) {
        for (size_t m = 0; m < policy->metric_count; m++) {
            const struct policy_metric *metric = &policy->metrics[m];
            if (metric->type == METRIC_LATENCY) {
                add_part(fetch, metric, COUNTER_BUCKET, metric->histogram, (enum track)t, range);
            } else {
                add_part(fetch, metric, COUNTER_TOTAL, metric->total, (enum track)t, range);
                add_part(fetch, metric, COUNTER_FAILED, metric->failed, (enum track)t, range);
            }
        }
    }
    struct prom_query *queries = mem_alloc(fetch->part_count, sizeof *queries);
    for (size_t i = 0; i < fetch->part_count; i++)
        queries[i] = (struct prom_query){fetch->parts[i].text, at_ms, {.types = PROM_MATRIX, .counts = true}};
    fetch->batch = prom_start(collector->client, queries, fetch->part_count);
    free(queries);
    return fetch;
}

bool fetch_step(struct collector *collector, int max_wait_ms)
{
    return prom_step(collector->client, max_wait_ms);
}

bool fetch_done(const struct fetch *fetch)
{
    return prom_batch_done(fetch->batch);
}

void fetch_abandon(struct fetch *fetch)
{
    for (size_t i = 0; i < fetch->part_count; i++)
        free(fetch->parts[i].text);
    free(fetch->parts);
    prom_batch_free(fetch->batch);
    free(fetch);
}

/* --- reading --- */

static bool fill_sets(const struct fetch *fetch, struct counter_set *sets[TRACKS], struct error *err)
{
    for (size_t i = 0; i < fetch->part_count; i++) {
        const struct part *part = &fetch->parts[i];
        const struct prom_result *result = prom_batch_result(fetch->batch, i);
        if (!result->answer) {
            *err = result->error;
            return false;
        }
        if (result->answer->warning_count)
            return error_set(err, ERROR_UNAVAILABLE,
                             "%s warns that its answer to `%s` may be incomplete: %s; such an answer is not used, mend "
                             "the source of the warning",
                             fetch->collector->policy->prometheus.url, part->text, result->answer->warnings[0]);
        if (!counter_set_add(sets[part->track], part->metric->name, part->role, result->answer, err)) {
            error_prefix(err, "metric %s of %s", part->metric->name, track_names[part->track]);
            return false;
        }
    }
    return true;
}

/* The increments of all metrics of both tracks over one interval. */
struct cut {
    struct counter_interval (*intervals)[TRACKS]; /* one pair per metric */
    size_t count;
};

static void cut_free(struct cut *cut)
{
    for (size_t m = 0; m < cut->count; m++)
        for (int t = 0; t < TRACKS; t++)
            counter_interval_free(&cut->intervals[m][t]);
    free(cut->intervals);
}

static bool cut_interval(const struct fetch *fetch, struct counter_set *sets[TRACKS], int64_t from_ms, int64_t at_ms,
                         struct cut *cut, struct error *err)
{
    const struct policy *policy = fetch->collector->policy;
    *cut = (struct cut){.intervals = mem_alloc(policy->metric_count, sizeof *cut->intervals),
                        .count = policy->metric_count};
    for (size_t m = 0; m < policy->metric_count; m++) {
        for (int t = 0; t < TRACKS; t++) {
            if (!counter_set_interval(sets[t], policy->metrics[m].name, from_ms, at_ms, &cut->intervals[m][t], err)) {
                error_prefix(err, "metric %s of %s", policy->metrics[m].name, track_names[t]);
                cut_free(cut);
                return false;
            }
        }
    }
    return true;
}

static bool is_gone(const struct fetch *fetch, const struct counter_increment *target, int64_t at_ms)
{
    return target->presence == COUNTER_SILENT && at_ms - target->last_ms > GONE_LOOKS * fetch->look_ms;
}

static bool is_complete(const struct fetch *fetch, const struct cut *cut, int64_t at_ms)
{
    for (size_t m = 0; m < cut->count; m++) {
        for (int t = 0; t < TRACKS; t++) {
            const struct counter_interval *interval = &cut->intervals[m][t];
            for (size_t i = 0; i < interval->count; i++) {
                const struct counter_increment *target = &interval->targets[i];
                bool lacks = target->presence == COUNTER_MISSED || target->presence == COUNTER_SILENT;
                if (lacks && !is_gone(fetch, target, at_ms))
                    return false;
            }
        }
    }
    return true;
}

static bool same_edges(const struct counter_interval *interval, const double *edges, size_t count)
{
    return interval->edge_count == count && memcmp(interval->edges, edges, count * sizeof *edges) == 0;
}

/* Whether an instance gives counts in this interval: one that has just appeared gives only its base. */
static bool gives_counts(const struct counter_increment *target)
{
    return target->carries && target->presence == COUNTER_SAMPLED;
}

static void append_track(const struct evidence_metric *metric, struct evidence_interval *added, enum track track,
                         const struct counter_interval *interval)
{
    for (size_t i = 0; i < interval->count; i++) {
        const struct counter_increment *target = &interval->targets[i];
        if (!gives_counts(target))
            continue;
        struct instance_counts *counts = evidence_add_instance(metric, added, track, target->instance);
        counts->requests = target->requests;
        counts->failed = target->failed;
        if (metric->edge_count)
            memcpy(counts->buckets, target->buckets, metric->edge_count * sizeof *counts->buckets);
        if (target->base_ms < added->from_ms)
            added->from_ms = target->base_ms;
    }
}

/* The bucket bounds of an interval, which both tracks and all looks must share; none if neither track has the series.
 */
static bool find_edges(const struct policy_metric *policy, const struct counter_interval intervals[TRACKS],
                       const struct evidence *evidence, const double **edges, size_t *count, struct error *err)
{
    *edges = NULL;
    *count = 0;
    for (size_t m = 0; m < evidence->metric_count; m++) {
        if (strcmp(evidence->metrics[m].name, policy->name) == 0) {
            *edges = evidence->metrics[m].edges;
            *count = evidence->metrics[m].edge_count;
        }
    }
    for (int t = 0; t < TRACKS; t++) {
        if (!intervals[t].edge_count)
            continue;
        if (intervals[t].edge_count > LATENCY_EDGES)
            return error_set(err, ERROR_DATA, "metric %s of %s has more than %d buckets; use fewer", policy->name,
                             track_names[t], LATENCY_EDGES);
        if (*edges && !same_edges(&intervals[t], *edges, *count))
            return error_set(err, ERROR_DATA,
                             "metric %s of %s has other bucket bounds than before or than the other track; give both "
                             "versions the same buckets and begin again",
                             policy->name, track_names[t]);
        *edges = intervals[t].edges;
        *count = intervals[t].edge_count;
    }
    return true;
}

static bool append_look(const struct policy *policy, const struct cut *cut, int64_t from_ms, int64_t at_ms,
                        struct evidence *evidence, struct error *err)
{
    const double *edges;
    size_t count;
    for (size_t m = 0; m < cut->count; m++)
        if (!find_edges(&policy->metrics[m], cut->intervals[m], evidence, &edges, &count, err))
            return false;
    for (size_t m = 0; m < cut->count; m++) {
        const struct policy_metric *metric = &policy->metrics[m];
        find_edges(metric, cut->intervals[m], evidence, &edges, &count, NULL);
        if (metric->type == METRIC_LATENCY && !edges)
            continue;
        struct evidence_metric *found = evidence_metric(evidence, metric->name, metric->type, edges, count);
        struct evidence_interval *added = evidence_add_interval(found, from_ms, at_ms);
        for (int t = 0; t < TRACKS; t++)
            append_track(found, added, (enum track)t, &cut->intervals[m][t]);
    }
    return true;
}

/* The next look, if it is complete; then *last_ms is its end. */
static bool cut_look(const struct fetch *fetch, struct counter_set *sets[TRACKS], int64_t at_ms,
                     struct evidence *evidence, int64_t *last_ms, struct error *err)
{
    struct cut cut;
    if (!cut_interval(fetch, sets, *last_ms, at_ms, &cut, err))
        return false;
    bool complete = is_complete(fetch, &cut, at_ms);
    bool ok = !complete || append_look(fetch->collector->policy, &cut, *last_ms, at_ms, evidence, err);
    cut_free(&cut);
    if (ok && complete)
        *last_ms = at_ms;
    return ok;
}

/* What fails after some looks were cut is met again by the next fetch, which starts there. */
static bool cut_looks(const struct fetch *fetch, struct counter_set *sets[TRACKS], struct evidence *evidence,
                      int64_t *last_ms, struct error *err)
{
    struct error why = {0};
    for (int64_t at_ms = fetch->from_ms + fetch->look_ms; at_ms <= fetch->until_ms; at_ms += fetch->look_ms) {
        if (cut_look(fetch, sets, at_ms, evidence, last_ms, &why))
            continue;
        return *last_ms > fetch->from_ms || error_set(err, why.code, "%s", why.text);
    }
    return true;
}

bool fetch_finish(struct fetch *fetch, struct evidence *evidence, int64_t *last_ms, struct error *err)
{
    struct counter_set *sets[TRACKS];
    for (int t = 0; t < TRACKS; t++)
        sets[t] = counter_set_new(fetch->since_ms);
    *last_ms = fetch->from_ms;
    bool ok = fill_sets(fetch, sets, err) && cut_looks(fetch, sets, evidence, last_ms, err);
    for (int t = 0; t < TRACKS; t++)
        counter_set_free(sets[t]);
    fetch_abandon(fetch);
    return ok;
}

bool collect(struct collector *collector, int64_t from_ms, int64_t until_ms, int64_t look_ms, struct evidence *evidence,
             int64_t *last_ms, struct error *err)
{
    struct fetch *fetch = fetch_start(collector, from_ms, until_ms, look_ms);
    while (!fetch_done(fetch))
        fetch_step(collector, 1000);
    return fetch_finish(fetch, evidence, last_ms, err);
}

/* --- probing --- */

static void add_probe(const struct policy *policy, struct probe **probes, size_t *count, const char *metric,
                      const char *key, const char *selector, enum track track)
{
    *probes = mem_resize(*probes, *count + 1, sizeof **probes);
    (*probes)[(*count)++] = (struct probe){.metric = metric,
                                           .key = key,
                                           .track = track,
                                           .query = policy_expand(policy, selector, track),
                                           .age_s = NAN,
                                           .value = NAN};
}

/* Five minutes back is what an instant query of Prometheus itself looks at. */
static void read_probe(struct probe *probe, const struct prom_result *result, int64_t now_ms)
{
    if (!result->answer) {
        probe->error = result->error;
        return;
    }
    probe->series = result->answer->series_count;
    for (size_t s = 0; s < result->answer->series_count; s++) {
        const struct prom_series *series = &result->answer->series[s];
        const struct prom_sample *newest = &series->samples[series->sample_count - 1];
        double age_s = (double)(now_ms - newest->at_ms) / 1000;
        if (isnan(probe->age_s) || age_s < probe->age_s) {
            probe->age_s = age_s;
            probe->value = newest->value;
        }
    }
}

struct probe *collector_probe(struct collector *collector, int64_t now_ms, size_t *count)
{
    const struct policy *policy = collector->policy;
    struct probe *probes = NULL;
    *count = 0;
    for (size_t m = 0; m < policy->metric_count; m++) {
        const struct policy_metric *metric = &policy->metrics[m];
        for (int t = 0; t < TRACKS; t++) {
            if (metric->type == METRIC_LATENCY) {
                add_probe(policy, &probes, count, metric->name, "histogram", metric->histogram, (enum track)t);
            } else {
                add_probe(policy, &probes, count, metric->name, "total", metric->total, (enum track)t);
                add_probe(policy, &probes, count, metric->name, "failed", metric->failed, (enum track)t);
            }
        }
    }
    struct prom_query *queries = mem_alloc(*count, sizeof *queries);
    char **texts = mem_alloc(*count, sizeof *texts);
    for (size_t i = 0; i < *count; i++) {
        texts[i] = mem_printf("%s[5m]", probes[i].query);
        queries[i] = (struct prom_query){texts[i], now_ms, {.types = PROM_MATRIX, .counts = true}};
    }
    struct prom_batch *batch = prom_query_all(collector->client, queries, *count);
    for (size_t i = 0; i < *count; i++) {
        read_probe(&probes[i], prom_batch_result(batch, i), now_ms);
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
                             probe->metric, probe->query, policy->prometheus.url, probe->key);
    }
    return true;
}
