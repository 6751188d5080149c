/*
 * One counter set per track takes all answers of a window, so that a restart seen in one metric is a restart in all.
 * Looks are then cut from both sets together: an interval is a look only when every live instance of both tracks has
 * its sample, else it is stretched by one more, so that what both arms share stays shared. Gauges have no say in that:
 * they are read at the looks that the counters have cut.
 */
#include "analyzer/collect/private.h"

#include "analyzer/model/verdict.h"
#include "base/memory.h"
#include "stats/latency.h"

#include <stdlib.h>
#include <string.h>

enum { GONE_LOOKS = 3 }; /* an instance without a sample for so long has stopped */

/* A question of the collector, and for a gauge its answer. */
struct part {
    const struct question *question;
    char *text;
    struct gauge gauge;
};

struct fetch {
    struct collector *collector;
    int64_t from_ms, until_ms, look_ms, since_ms;
    struct part *parts; /* one per question */
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
    questions_make(collector);
    return collector;
}

void collector_free(struct collector *collector)
{
    if (!collector)
        return;
    prom_client_free(collector->client);
    questions_free(collector);
    free(collector);
}

/* --- asking --- */

/* Counters need a base before the window, and what comes late tells a late sample from none. A gauge needs neither. */
static struct prom_query ask(const struct fetch *fetch, struct part *part)
{
    int64_t at_ms = fetch->until_ms, since_ms = fetch->from_ms;
    if (part->question->subject->type != METRIC_GAUGE) {
        at_ms += fetch->collector->policy->settle_ms;
        since_ms = fetch->since_ms;
    }
    part->text = question_text(part->question, at_ms - since_ms, fetch->look_ms);
    return (struct prom_query){part->text, at_ms, question_expect(part->question)};
}

struct fetch *fetch_start(struct collector *collector, int64_t from_ms, int64_t until_ms, int64_t look_ms)
{
    struct fetch *fetch = mem_alloc(1, sizeof *fetch);
    fetch->collector = collector;
    fetch->from_ms = from_ms;
    fetch->until_ms = until_ms;
    fetch->look_ms = look_ms;
    int64_t back_ms = GONE_LOOKS * look_ms > 15000 ? GONE_LOOKS * look_ms : 15000;
    fetch->since_ms = from_ms - back_ms;
    fetch->part_count = collector->question_count;
    fetch->parts = mem_alloc(fetch->part_count, sizeof *fetch->parts);
    struct prom_query *queries = mem_alloc(fetch->part_count, sizeof *queries);
    for (size_t i = 0; i < fetch->part_count; i++) {
        fetch->parts[i].question = &collector->questions[i];
        queries[i] = ask(fetch, &fetch->parts[i]);
    }
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
    for (size_t i = 0; i < fetch->part_count; i++) {
        gauge_close(&fetch->parts[i].gauge);
        free(fetch->parts[i].text);
    }
    free(fetch->parts);
    prom_batch_free(fetch->batch);
    free(fetch);
}

/* --- reading --- */

static bool take_answer(const struct fetch *fetch, struct part *part, const struct prom_result *result,
                        struct counter_set *sets[TRACKS], struct error *err)
{
    if (!result->answer) {
        *err = result->error;
        return false;
    }
    if (result->answer->warning_count)
        return error_set(err, ERROR_UNAVAILABLE,
                         "%s warns that its answer to `%s` may be incomplete: %s; such an answer is not used, mend "
                         "the source of the warning",
                         fetch->collector->policy->prometheus.url, part->text, result->answer->warnings[0]);
    const struct question *question = part->question;
    const struct subject *subject = question->subject;
    if (subject->type == METRIC_GAUGE) {
        gauge_open(&part->gauge, result->answer);
        return true;
    }
    if (counter_set_add(sets[question->track], subject->name, question->role, result->answer, err))
        return true;
    error_prefix(err, "%s %s of %s", subject_kind(subject), subject->name, track_names[question->track]);
    return false;
}

static bool take_answers(struct fetch *fetch, struct counter_set *sets[TRACKS], struct error *err)
{
    for (size_t i = 0; i < fetch->part_count; i++)
        if (!take_answer(fetch, &fetch->parts[i], prom_batch_result(fetch->batch, i), sets, err))
            return false;
    return true;
}

/* The increments of all subjects over one interval. */
struct cut {
    struct counter_interval (*intervals)[TRACKS]; /* one pair per subject; empty where nothing is counted */
    size_t count;
};

static void cut_free(struct cut *cut)
{
    for (size_t i = 0; i < cut->count; i++)
        for (int t = 0; t < TRACKS; t++)
            counter_interval_free(&cut->intervals[i][t]);
    free(cut->intervals);
}

static bool cut_interval(const struct fetch *fetch, struct counter_set *sets[TRACKS], int64_t from_ms, int64_t at_ms,
                         struct cut *cut, struct error *err)
{
    const struct collector *collector = fetch->collector;
    *cut = (struct cut){.intervals = mem_alloc(collector->subject_count, sizeof *cut->intervals),
                        .count = collector->subject_count};
    for (size_t i = 0; i < cut->count; i++) {
        const struct subject *subject = &collector->subjects[i];
        for (int t = subject_first_track(subject); t < TRACKS && subject->type != METRIC_GAUGE; t++) {
            if (!counter_set_interval(sets[t], subject->name, from_ms, at_ms, &cut->intervals[i][t], err)) {
                error_prefix(err, "%s %s of %s", subject_kind(subject), subject->name, track_names[t]);
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
    for (size_t i = 0; i < cut->count; i++) {
        for (int t = 0; t < TRACKS; t++) {
            const struct counter_interval *interval = &cut->intervals[i][t];
            for (size_t n = 0; n < interval->count; n++) {
                const struct counter_increment *target = &interval->targets[n];
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

/*
 * Whether an instance gives counts in this interval. One that has just appeared counts from its first sample on: it is
 * listed so that the judge sees the set of instances change in this look, and not in the next one.
 */
static bool gives_counts(const struct counter_increment *target)
{
    return target->carries && (target->presence == COUNTER_SAMPLED || target->presence == COUNTER_NEW);
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
static bool find_edges(const struct subject *subject, const struct counter_interval intervals[TRACKS],
                       const struct evidence *evidence, const double **edges, size_t *count, struct error *err)
{
    *edges = NULL;
    *count = 0;
    for (size_t m = 0; m < evidence->metric_count; m++) {
        if (!evidence->metrics[m].guardrail && strcmp(evidence->metrics[m].name, subject->name) == 0) {
            *edges = evidence->metrics[m].edges;
            *count = evidence->metrics[m].edge_count;
        }
    }
    for (int t = 0; t < TRACKS; t++) {
        if (!intervals[t].edge_count)
            continue;
        if (intervals[t].edge_count > LATENCY_EDGES)
            return error_set(err, ERROR_DATA, "metric %s of %s has more than %d buckets; use fewer", subject->name,
                             track_names[t], LATENCY_EDGES);
        if (*edges && !same_edges(&intervals[t], *edges, *count))
            return error_set(err, ERROR_DATA,
                             "metric %s of %s has other bucket bounds than before or than the other track; give both "
                             "versions the same buckets and begin again",
                             subject->name, track_names[t]);
        *edges = intervals[t].edges;
        *count = intervals[t].edge_count;
    }
    return true;
}

/* A gauge was asked for every track that it is of. */
static struct part *find_gauge(const struct fetch *fetch, const struct subject *subject, int track)
{
    struct part *part = fetch->parts;
    while (part->question->subject != subject || part->question->track != (enum track)track)
        part++;
    return part;
}

static void append_values(const struct evidence_metric *metric, struct evidence_interval *added, struct part *part)
{
    size_t count = gauge_read(&part->gauge, added->from_ms, added->at_ms);
    for (size_t i = 0; i < count; i++)
        evidence_add_instance(metric, added, part->question->track, NULL)->value = part->gauge.values[i];
}

/* What the evidence could not hold, found before anything is appended. */
static bool check_look(const struct fetch *fetch, const struct cut *cut, int64_t from_ms, int64_t at_ms,
                       const struct evidence *evidence, struct error *err)
{
    const double *edges;
    size_t count;
    for (size_t i = 0; i < cut->count; i++)
        if (!find_edges(&fetch->collector->subjects[i], cut->intervals[i], evidence, &edges, &count, err))
            return false;
    for (size_t i = 0; i < fetch->part_count; i++) {
        struct part *part = &fetch->parts[i];
        if (!gauge_check_count(part->question, gauge_read(&part->gauge, from_ms, at_ms), err))
            return false;
    }
    return true;
}

static void append_subject(const struct fetch *fetch, const struct subject *subject,
                           const struct counter_interval intervals[TRACKS], int64_t from_ms, int64_t at_ms,
                           struct evidence *evidence)
{
    const double *edges;
    size_t count;
    find_edges(subject, intervals, evidence, &edges, &count, NULL);
    if (subject->type == METRIC_LATENCY && !edges)
        return;
    struct evidence_metric *metric = subject->guardrail
                                         ? evidence_guardrail(evidence, subject->name, subject->type)
                                         : evidence_metric(evidence, subject->name, subject->type, edges, count);
    struct evidence_interval *added = evidence_add_interval(metric, from_ms, at_ms);
    for (int t = subject_first_track(subject); t < TRACKS; t++) {
        if (subject->type == METRIC_GAUGE)
            append_values(metric, added, find_gauge(fetch, subject, t));
        else
            append_track(metric, added, (enum track)t, &intervals[t]);
    }
}

/* The next look, if it is complete; then *last_ms is its end. */
static bool cut_look(const struct fetch *fetch, struct counter_set *sets[TRACKS], int64_t at_ms,
                     struct evidence *evidence, int64_t *last_ms, struct error *err)
{
    int64_t from_ms = *last_ms;
    struct cut cut;
    if (!cut_interval(fetch, sets, from_ms, at_ms, &cut, err))
        return false;
    bool complete = is_complete(fetch, &cut, at_ms);
    bool ok = !complete || check_look(fetch, &cut, from_ms, at_ms, evidence, err);
    for (size_t i = 0; i < cut.count && complete && ok; i++)
        append_subject(fetch, &fetch->collector->subjects[i], cut.intervals[i], from_ms, at_ms, evidence);
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
    bool ok = take_answers(fetch, sets, err) && cut_looks(fetch, sets, evidence, last_ms, err);
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
