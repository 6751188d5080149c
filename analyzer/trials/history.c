/*
 * Nothing is copied but the counts that are thinned: a look of a split points to the names and buckets of the history.
 *
 * Thinning takes each request of the canary with the same probability, failed or not, fast or slow, which is what a
 * balancer does that sends fewer of them. The probability follows from the look's requests, never from what became of
 * them.
 */
#include "analyzer/trials/history.h"

#include "base/memory.h"

#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double nearly_all = 0.9;

/* --- who may play the canary --- */

static const struct evidence_metric *find_metric(const struct evidence *evidence, const struct policy_metric *policy)
{
    for (size_t m = 0; m < evidence->metric_count; m++) {
        const struct evidence_metric *metric = &evidence->metrics[m];
        if (!metric->guardrail && metric->type == policy->type && strcmp(metric->name, policy->name) == 0)
            return metric;
    }
    return NULL;
}

/* The first metric that counts requests: it tells the instances. NULL: there is none. */
static const struct evidence_metric *first_counter(const struct evidence *evidence, const struct policy *policy)
{
    for (size_t m = 0; m < policy->metric_count; m++) {
        const struct evidence_metric *metric = find_metric(evidence, &policy->metrics[m]);
        if (metric && metric->type != METRIC_GAUGE && metric->count > 0)
            return metric;
    }
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static size_t place_of(const struct pool *pool, const char *name)
{
    const char **found =
        name ? bsearch(&name, pool->names, pool->count, sizeof *pool->names, by_name) : (const char **)NULL;
    return found ? (size_t)(found - pool->names) : SIZE_MAX;
}

/* All names of stable's instances, each as often as it occurs, sorted. */
static const char **all_names(const struct evidence_metric *metric, size_t *count)
{
    const char **names = NULL;
    size_t room = 0;
    *count = 0;
    for (size_t i = 0; i < metric->count; i++) {
        const struct track_counts *stable = &metric->intervals[i].tracks[TRACK_STABLE];
        for (size_t n = 0; n < stable->count; n++) {
            if (!stable->instances[n].instance)
                continue;
            names = mem_grow(names, *count, &room, sizeof *names);
            names[(*count)++] = stable->instances[n].instance;
        }
    }
    if (names)
        qsort(names, *count, sizeof *names, by_name);
    return names;
}

/* In how many intervals there is anything of stable: a service that began later has no history before. */
static size_t count_present(const struct evidence_metric *metric)
{
    size_t present = 0;
    for (size_t i = 0; i < metric->count; i++)
        present += metric->intervals[i].tracks[TRACK_STABLE].present;
    return present;
}

bool pool_find(struct pool *pool, const struct evidence *evidence, const struct policy *policy, struct error *err)
{
    *pool = (struct pool){0};
    const struct evidence_metric *counter = first_counter(evidence, policy);
    if (!counter)
        return error_set(err, ERROR_DATA, "there is no history of a metric that counts requests of %s",
                         policy->service);
    size_t count, seen = 0;
    double least = nearly_all * (double)count_present(counter);
    const char **names = all_names(counter, &count);
    pool->names = mem_alloc(count, sizeof *pool->names);
    for (size_t i = 0, n; i < count; i += n, seen++) {
        n = 1;
        while (i + n < count && strcmp(names[i], names[i + n]) == 0)
            n++;
        if ((double)n >= least)
            pool->names[pool->count++] = names[i];
    }
    free(names);
    if (pool->count >= 2)
        return true;
    size_t lasting = pool->count;
    pool_free(pool);
    return error_set(err, ERROR_DATA,
                     "the metric %s tells %zu instances of stable apart, and %zu of them gave counts in nine of ten "
                     "looks; two are needed, to compare one with the other: choose a time in which they were not "
                     "replaced",
                     counter->name, seen, lasting);
}

void pool_free(struct pool *pool)
{
    free(pool->names);
    *pool = (struct pool){0};
}

static const struct evidence_interval *interval_at(const struct evidence_metric *metric, int64_t at_ms)
{
    size_t low = 0, high = metric->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (metric->intervals[middle].at_ms < at_ms)
            low = middle + 1;
        else
            high = middle;
    }
    return low < metric->count && metric->intervals[low].at_ms == at_ms ? &metric->intervals[low] : NULL;
}

static bool has_names(const struct track_counts *stable)
{
    for (size_t i = 0; i < stable->count; i++)
        if (!stable->instances[i].instance)
            return false;
    return stable->count > 0;
}

bool history_divides(const struct evidence *evidence, const struct policy *policy, size_t metric)
{
    const struct evidence_metric *found = find_metric(evidence, &policy->metrics[metric]);
    const struct evidence_metric *counter = first_counter(evidence, policy);
    size_t good = 0, present = found ? count_present(found) : 0;
    for (size_t i = 0; found && counter && i < found->count; i++) {
        const struct track_counts *stable = &found->intervals[i].tracks[TRACK_STABLE];
        const struct evidence_interval *beside = interval_at(counter, found->intervals[i].at_ms);
        if (found->type != METRIC_GAUGE)
            good += has_names(stable);
        else
            good += beside && stable->count > 1 && stable->count == beside->tracks[TRACK_STABLE].count;
    }
    return good > 0 && (double)good >= nearly_all * (double)present;
}

/* --- the looks --- */

struct history {
    const struct pool *pool;
    struct evidence *shape; /* the metrics without their intervals: what a judge needs to read a look */
    size_t metrics, counter;
    struct moment {
        int64_t from_ms, at_ms;
    } * moments;
    const struct evidence_interval **intervals; /* of look l and metric m at l * metrics + m; NULL: none */
    size_t looks, widest;                       /* the most instances that any of them has */
};

static void add_shape(struct history *history, const struct evidence *evidence, const struct policy *policy)
{
    const struct evidence_metric *counter = first_counter(evidence, policy);
    history->shape = evidence_new(policy->service, policy->look_ms);
    for (size_t m = 0; m < policy->metric_count; m++) {
        const struct evidence_metric *metric = find_metric(evidence, &policy->metrics[m]);
        evidence_metric(history->shape, metric->name, metric->type, metric->edges, metric->edge_count);
        history->counter = metric == counter ? m : history->counter;
    }
    history->metrics = policy->metric_count;
}

static size_t count_looks(const struct evidence *evidence)
{
    struct look look = {0};
    int64_t after_ms = INT64_MIN;
    size_t looks = 0;
    while (evidence_next_look(evidence, &after_ms, &look))
        looks++;
    look_free(&look);
    return looks;
}

static bool has_stable(const struct history *history, size_t look)
{
    const struct evidence_interval *const *intervals = history->intervals + look * history->metrics;
    for (size_t m = 0; m < history->metrics; m++)
        if (intervals[m] && intervals[m]->tracks[TRACK_STABLE].present)
            return true;
    return false;
}

/* The history begins and ends with a look that has something of stable. */
static void add_look(struct history *history, const struct evidence *evidence, const struct policy *policy,
                     int64_t at_ms)
{
    struct moment moment = {at_ms, at_ms};
    for (size_t m = 0; m < history->metrics; m++) {
        const struct evidence_interval *interval = interval_at(find_metric(evidence, &policy->metrics[m]), at_ms);
        history->intervals[history->looks * history->metrics + m] = interval;
        if (!interval)
            continue;
        moment.from_ms = interval->from_ms < moment.from_ms ? interval->from_ms : moment.from_ms;
        size_t width = interval->tracks[TRACK_STABLE].count;
        history->widest = width > history->widest ? width : history->widest;
    }
    if (history->looks == 0 && !has_stable(history, 0))
        return;
    history->moments[history->looks++] = moment;
}

struct history *history_new(const struct evidence *evidence, const struct policy *policy, const struct pool *pool)
{
    struct history *history = mem_alloc(1, sizeof *history);
    history->pool = pool;
    add_shape(history, evidence, policy);
    size_t looks = count_looks(evidence);
    history->moments = mem_alloc(looks, sizeof *history->moments);
    history->intervals = mem_alloc(looks * history->metrics, sizeof *history->intervals);
    struct look look = {0};
    int64_t after_ms = INT64_MIN;
    while (evidence_next_look(evidence, &after_ms, &look))
        add_look(history, evidence, policy, look.at_ms);
    look_free(&look);
    while (history->looks > 0 && !has_stable(history, history->looks - 1))
        history->looks--;
    return history;
}

void history_free(struct history *history)
{
    if (!history)
        return;
    evidence_free(history->shape);
    free(history->moments);
    free(history->intervals);
    free(history);
}

size_t history_looks(const struct history *history)
{
    return history->looks;
}

int64_t history_at(const struct history *history, size_t look)
{
    return history->moments[look].at_ms;
}

const struct evidence *history_evidence(const struct history *history)
{
    return history->shape;
}

/* --- a rollout over them --- */

struct split {
    const struct history *history;
    gsl_rng *rng;
    bool *is_canary;                     /* by the place in the pool */
    struct evidence_interval *intervals; /* one per metric */
    uint64_t **buckets;                  /* one per metric: of the canary's instances, after thinning */
    struct look look;
};

struct split *split_open(const struct history *history)
{
    struct split *split = mem_alloc(1, sizeof *split);
    split->history = history;
    split->rng = gsl_rng_alloc(gsl_rng_mt19937);
    split->is_canary = mem_alloc(history->pool->count, sizeof *split->is_canary);
    split->intervals = mem_alloc(history->metrics, sizeof *split->intervals);
    split->buckets = mem_alloc(history->metrics, sizeof *split->buckets);
    split->look.intervals = mem_alloc(history->metrics, sizeof *split->look.intervals);
    split->look.count = history->metrics;
    for (size_t m = 0; m < history->metrics; m++) {
        split->buckets[m] = mem_alloc(history->widest * history->shape->metrics[m].edge_count, sizeof(uint64_t));
        for (int t = 0; t < TRACKS; t++)
            split->intervals[m].tracks[t].instances = mem_alloc(history->widest, sizeof(struct instance_counts));
    }
    return split;
}

void split_close(struct split *split)
{
    if (!split)
        return;
    for (size_t m = 0; m < split->history->metrics; m++) {
        free(split->buckets[m]);
        for (int t = 0; t < TRACKS; t++)
            free(split->intervals[m].tracks[t].instances);
    }
    gsl_rng_free(split->rng);
    look_free(&split->look);
    free(split->is_canary);
    free(split->intervals);
    free(split->buckets);
    free(split);
}

void split_begin(struct split *split, const size_t *canaries, size_t count, uint32_t seed)
{
    memset(split->is_canary, 0, split->history->pool->count * sizeof *split->is_canary);
    for (size_t c = 0; c < count; c++)
        split->is_canary[canaries[c]] = true;
    gsl_rng_set(split->rng, seed);
}

static bool plays_canary(const struct split *split, const char *name)
{
    size_t place = place_of(split->history->pool, name);
    return place != SIZE_MAX && split->is_canary[place];
}

static double requests_of(const struct track_counts *track)
{
    double sum = 0;
    for (size_t i = 0; i < track->count; i++)
        sum += (double)track->instances[i].requests;
    return sum;
}

/* GSL's counts have 32 bits. */
static uint64_t keep_some(gsl_rng *rng, uint64_t count, double keep)
{
    enum { PART = 1 << 30 };
    uint64_t kept = 0;
    for (; count > PART; count -= PART)
        kept += gsl_ran_binomial(rng, keep, PART);
    return kept + gsl_ran_binomial(rng, keep, (unsigned)count);
}

static void thin(struct split *split, size_t m, double keep)
{
    const struct evidence_metric *metric = &split->history->shape->metrics[m];
    struct track_counts *canary = &split->intervals[m].tracks[TRACK_CANARY];
    for (size_t i = 0; i < canary->count; i++) {
        struct instance_counts *counts = &canary->instances[i];
        if (metric->type == METRIC_ERRORS) {
            uint64_t good = keep_some(split->rng, counts->requests - counts->failed, keep);
            counts->failed = keep_some(split->rng, counts->failed, keep);
            counts->requests = good + counts->failed;
            continue;
        }
        const uint64_t *all = counts->buckets;
        counts->buckets = split->buckets[m] + i * metric->edge_count;
        counts->requests = 0;
        for (size_t e = 0; e < metric->edge_count; e++) {
            counts->buckets[e] = keep_some(split->rng, all[e], keep);
            counts->requests += counts->buckets[e];
        }
    }
}

/* Deals the instances to the tracks. A gauge's values have no names: they go with the counter's instances. */
static void deal(struct split *split, size_t m, const struct evidence_interval *from,
                 const struct evidence_interval *names, bool with_canary)
{
    struct evidence_interval *to = &split->intervals[m];
    for (int t = 0; t < TRACKS; t++)
        to->tracks[t].count = 0;
    const struct track_counts *all = &from->tracks[TRACK_STABLE];
    bool told = names && names->tracks[TRACK_STABLE].count == all->count;
    for (size_t i = 0; told && i < all->count; i++) {
        bool canary = plays_canary(split, names->tracks[TRACK_STABLE].instances[i].instance);
        if (canary && !with_canary)
            continue;
        struct track_counts *track = &to->tracks[canary ? TRACK_CANARY : TRACK_STABLE];
        track->instances[track->count++] = all->instances[i];
    }
    for (int t = 0; t < TRACKS; t++)
        to->tracks[t].present = to->tracks[t].count > 0;
}

static void split_interval(struct split *split, size_t m, const struct evidence_interval *from,
                           const struct evidence_interval *counter, uint32_t weight_bp)
{
    struct evidence_interval *to = &split->intervals[m];
    bool gauge = split->history->shape->metrics[m].type == METRIC_GAUGE;
    to->from_ms = from->from_ms;
    to->at_ms = from->at_ms;
    deal(split, m, from, gauge ? counter : from, weight_bp > 0);
    if (gauge)
        return;
    double share = (double)weight_bp / BASIS_POINTS;
    double canary = requests_of(&to->tracks[TRACK_CANARY]), stable = requests_of(&to->tracks[TRACK_STABLE]);
    double wanted = stable * share / (1 - share);
    if (canary > wanted)
        thin(split, m, wanted / canary);
}

const struct look *split_look(struct split *split, size_t look, uint32_t weight_bp, int64_t weight_from_ms)
{
    const struct history *history = split->history;
    const struct evidence_interval *const *from = history->intervals + look * history->metrics;
    split->look.from_ms = history->moments[look].from_ms;
    split->look.at_ms = history->moments[look].at_ms;
    split->look.weight_bp = weight_bp;
    split->look.weight_from_ms = weight_from_ms;
    for (size_t m = 0; m < history->metrics; m++) {
        split->look.intervals[m] = from[m] ? &split->intervals[m] : NULL;
        if (from[m])
            split_interval(split, m, from[m], from[history->counter], weight_bp);
    }
    return &split->look;
}
