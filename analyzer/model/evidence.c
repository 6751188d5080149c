/*
 * Evidence in memory: arrays that only grow at their ends, because a log is only appended to. Walking by looks is a
 * search per metric, so that metrics may miss intervals independently.
 */
#include "analyzer/model/evidence.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct evidence *evidence_new(const char *service, int64_t interval_ms)
{
    struct evidence *evidence = mem_alloc(1, sizeof *evidence);
    evidence->service = mem_strdup(service);
    evidence->interval_ms = interval_ms;
    return evidence;
}

static void track_free(struct track_counts *track)
{
    for (size_t i = 0; i < track->count; i++) {
        free(track->instances[i].instance);
        free(track->instances[i].buckets);
    }
    free(track->instances);
}

void evidence_free(struct evidence *evidence)
{
    if (!evidence)
        return;
    for (size_t m = 0; m < evidence->metric_count; m++) {
        struct evidence_metric *metric = &evidence->metrics[m];
        for (size_t i = 0; i < metric->count; i++)
            for (int t = 0; t < TRACKS; t++)
                track_free(&metric->intervals[i].tracks[t]);
        free(metric->intervals);
        free(metric->name);
        free(metric->edges);
    }
    for (size_t d = 0; d < evidence->decision_count; d++) {
        free(evidence->decisions[d].action);
        free(evidence->decisions[d].by);
        free(evidence->decisions[d].reason);
    }
    free(evidence->metrics);
    free(evidence->weights);
    free(evidence->decisions);
    free(evidence->balancer);
    free(evidence->service);
    free(evidence->rollout);
    free(evidence);
}

/* Metrics and guardrails share the array, so that a look walks both, but not their names. */
static struct evidence_metric *find_or_add(struct evidence *evidence, const char *name, bool guardrail,
                                           enum metric_type type)
{
    for (size_t m = 0; m < evidence->metric_count; m++)
        if (evidence->metrics[m].guardrail == guardrail && strcmp(evidence->metrics[m].name, name) == 0)
            return &evidence->metrics[m];
    evidence->metrics =
        mem_grow(evidence->metrics, evidence->metric_count, &evidence->metric_room, sizeof *evidence->metrics);
    struct evidence_metric *metric = &evidence->metrics[evidence->metric_count++];
    *metric = (struct evidence_metric){.name = mem_strdup(name), .guardrail = guardrail, .type = type};
    return metric;
}

struct evidence_metric *evidence_metric(struct evidence *evidence, const char *name, enum metric_type type,
                                        const double *edges, size_t edge_count)
{
    size_t known = evidence->metric_count;
    struct evidence_metric *metric = find_or_add(evidence, name, false, type);
    if (evidence->metric_count > known && edge_count) {
        metric->edge_count = edge_count;
        metric->edges = mem_alloc(edge_count, sizeof *metric->edges);
        memcpy(metric->edges, edges, edge_count * sizeof *edges);
    }
    return metric;
}

struct evidence_metric *evidence_guardrail(struct evidence *evidence, const char *name, enum metric_type type)
{
    return find_or_add(evidence, name, true, type);
}

struct evidence_interval *evidence_add_interval(struct evidence_metric *metric, int64_t from_ms, int64_t at_ms)
{
    metric->intervals = mem_grow(metric->intervals, metric->count, &metric->room, sizeof *metric->intervals);
    struct evidence_interval *interval = &metric->intervals[metric->count++];
    *interval = (struct evidence_interval){.from_ms = from_ms, .at_ms = at_ms};
    return interval;
}

struct instance_counts *evidence_add_instance(const struct evidence_metric *metric, struct evidence_interval *interval,
                                              enum track track, const char *instance)
{
    struct track_counts *counts = &interval->tracks[track];
    counts->present = true;
    counts->instances = mem_resize(counts->instances, counts->count + 1, sizeof *counts->instances);
    size_t place = counts->count++;
    /* Kept sorted by name: blocks of instances must not depend on the order in which a server answers. */
    while (place > 0 && instance && counts->instances[place - 1].instance &&
           strcmp(counts->instances[place - 1].instance, instance) > 0) {
        counts->instances[place] = counts->instances[place - 1];
        place--;
    }
    struct instance_counts *added = &counts->instances[place];
    *added = (struct instance_counts){.instance = mem_strdup(instance)};
    if (metric->edge_count)
        added->buckets = mem_alloc(metric->edge_count, sizeof *added->buckets);
    return added;
}

void evidence_add_weight(struct evidence *evidence, int64_t from_ms, uint32_t weight_bp)
{
    evidence->weights =
        mem_grow(evidence->weights, evidence->weight_count, &evidence->weight_room, sizeof *evidence->weights);
    evidence->weights[evidence->weight_count++] = (struct evidence_weight){from_ms, weight_bp};
}

void evidence_add_decision(struct evidence *evidence, int64_t at_ms, const char *action, const char *by,
                           const char *reason)
{
    evidence->decisions =
        mem_grow(evidence->decisions, evidence->decision_count, &evidence->decision_room, sizeof *evidence->decisions);
    evidence->decisions[evidence->decision_count++] =
        (struct evidence_decision){at_ms, mem_strdup(action), mem_strdup(by), mem_strdup(reason)};
}

bool evidence_add_balancer(struct evidence *evidence, const struct balancer_counters *counters)
{
    size_t count = evidence->balancer_count;
    if (count && evidence->balancer[count - 1].at_ms >= counters->at_ms)
        return false;
    evidence->balancer = mem_grow(evidence->balancer, count, &evidence->balancer_room, sizeof *evidence->balancer);
    evidence->balancer[evidence->balancer_count++] = *counters;
    return true;
}

/* The first interval that ends after `after_ms`. */
static const struct evidence_interval *interval_after(const struct evidence_metric *metric, int64_t after_ms)
{
    size_t low = 0, high = metric->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (metric->intervals[middle].at_ms > after_ms)
            high = middle;
        else
            low = middle + 1;
    }
    return low < metric->count ? &metric->intervals[low] : NULL;
}

/* A look that ends as a weight begins is of the weight before: it may have been folded before anybody chose the new
 * one. */
static void weight_at(const struct evidence *evidence, struct look *look)
{
    look->weight_bp = 0;
    look->weight_from_ms = INT64_MIN;
    for (size_t w = 0; w < evidence->weight_count && evidence->weights[w].from_ms < look->at_ms; w++) {
        look->weight_bp = evidence->weights[w].weight_bp;
        look->weight_from_ms = evidence->weights[w].from_ms;
    }
}

bool evidence_next_look(const struct evidence *evidence, int64_t *after_ms, struct look *look)
{
    if (look->count < evidence->metric_count) {
        look->intervals = mem_resize(look->intervals, evidence->metric_count, sizeof *look->intervals);
        look->count = evidence->metric_count;
    }
    int64_t at_ms = INT64_MAX;
    for (size_t m = 0; m < evidence->metric_count; m++) {
        look->intervals[m] = interval_after(&evidence->metrics[m], *after_ms);
        if (look->intervals[m] && look->intervals[m]->at_ms < at_ms)
            at_ms = look->intervals[m]->at_ms;
    }
    if (at_ms == INT64_MAX)
        return false;
    look->at_ms = at_ms;
    look->from_ms = at_ms;
    for (size_t m = 0; m < evidence->metric_count; m++) {
        if (look->intervals[m] && look->intervals[m]->at_ms != at_ms)
            look->intervals[m] = NULL;
        if (look->intervals[m] && look->intervals[m]->from_ms < look->from_ms)
            look->from_ms = look->intervals[m]->from_ms;
    }
    weight_at(evidence, look);
    *after_ms = at_ms;
    return true;
}

void look_free(struct look *look)
{
    free(look->intervals);
    *look = (struct look){0};
}

/* --- longer looks --- */

static bool same_instances(const struct track_counts *a, const struct track_counts *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const char *x = a->instances[i].instance, *y = b->instances[i].instance;
        if (!x != !y || (x && strcmp(x, y) != 0))
            return false;
    }
    return true;
}

/* Whether the track is there in all of a window's `n` intervals, with the same instances. */
static bool is_whole(const struct evidence_interval *intervals, size_t n, enum track track)
{
    const struct track_counts *first = &intervals[0].tracks[track];
    for (size_t i = 0; i < n; i++)
        if (!intervals[i].tracks[track].present || !same_instances(first, &intervals[i].tracks[track]))
            return false;
    return true;
}

/* The mean of what is a number; NAN without any. The quotients cannot run over where a sum could. */
static double mean_value(const struct evidence_interval *intervals, size_t n, enum track track, size_t instance)
{
    double mean = 0, count = 0;
    for (size_t i = 0; i < n; i++) {
        double value = intervals[i].tracks[track].instances[instance].value;
        if (isnan(value))
            continue;
        count++;
        mean += value / count - mean / count;
    }
    return count > 0 ? mean : NAN;
}

static void merge_track(const struct evidence_metric *metric, const struct evidence_interval *intervals, size_t n,
                        enum track track, struct evidence_interval *to)
{
    if (!is_whole(intervals, n, track))
        return;
    const struct track_counts *first = &intervals[0].tracks[track];
    for (size_t instance = 0; instance < first->count; instance++) {
        struct instance_counts *sum = evidence_add_instance(metric, to, track, first->instances[instance].instance);
        for (size_t i = 0; i < n; i++) {
            const struct instance_counts *counts = &intervals[i].tracks[track].instances[instance];
            sum->requests += counts->requests;
            sum->failed += counts->failed;
            for (size_t e = 0; e < metric->edge_count; e++)
                sum->buckets[e] += counts->buckets[e];
        }
        if (metric->type == METRIC_GAUGE)
            sum->value = mean_value(intervals, n, track, instance);
    }
}

static void coarsen_metric(const struct evidence_metric *from, struct evidence_metric *to, int64_t start_ms,
                           int64_t every_ms)
{
    for (size_t i = 0, n; i < from->count; i += n) {
        const struct evidence_interval *intervals = &from->intervals[i];
        int64_t window = (intervals[0].at_ms - start_ms - 1) / every_ms;
        n = 1;
        while (i + n < from->count && (intervals[n].at_ms - start_ms - 1) / every_ms == window)
            n++;
        struct evidence_interval *added =
            evidence_add_interval(to, intervals[0].from_ms, start_ms + (window + 1) * every_ms);
        for (int t = 0; t < TRACKS; t++)
            merge_track(to, intervals, n, (enum track)t, added);
    }
}

struct evidence *evidence_coarsen(const struct evidence *evidence, int64_t every_ms, struct error *err)
{
    if (every_ms < evidence->interval_ms || every_ms % evidence->interval_ms != 0) {
        error_set(err, ERROR_USAGE, "looks of %lld ms do not fit evidence of %lld ms; use a multiple of it",
                  (long long)every_ms, (long long)evidence->interval_ms);
        return NULL;
    }
    struct evidence *coarse = evidence_new(evidence->service, every_ms);
    coarse->rollout = mem_strdup(evidence->rollout);
    for (size_t w = 0; w < evidence->weight_count; w++)
        evidence_add_weight(coarse, evidence->weights[w].from_ms, evidence->weights[w].weight_bp);
    for (size_t d = 0; d < evidence->decision_count; d++) {
        const struct evidence_decision *decision = &evidence->decisions[d];
        evidence_add_decision(coarse, decision->at_ms, decision->action, decision->by, decision->reason);
    }
    for (size_t b = 0; b < evidence->balancer_count; b++)
        evidence_add_balancer(coarse, &evidence->balancer[b]);
    int64_t start_ms = INT64_MAX;
    for (size_t m = 0; m < evidence->metric_count; m++)
        if (evidence->metrics[m].count && evidence->metrics[m].intervals[0].at_ms < start_ms)
            start_ms = evidence->metrics[m].intervals[0].at_ms;
    for (size_t m = 0; m < evidence->metric_count; m++) {
        const struct evidence_metric *from = &evidence->metrics[m];
        struct evidence_metric *to =
            from->guardrail ? evidence_guardrail(coarse, from->name, from->type)
                            : evidence_metric(coarse, from->name, from->type, from->edges, from->edge_count);
        coarsen_metric(from, to, start_ms - evidence->interval_ms, every_ms);
    }
    return coarse;
}
