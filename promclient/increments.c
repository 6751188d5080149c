/*
 * Each sample gets its `delta`: what was counted since the sample before it, restarts and first appearances included.
 * An interval is then the sum of the deltas of the samples in it, and neighbouring intervals add up by construction.
 *
 * The deltas need the whole set (a restart shows in any series of the target), so they are made when the first interval
 * is asked for after an addition. Series are sorted by metric, target, role, group and `le`: the buckets of one
 * histogram then lie side by side.
 */
#include "promclient/increments.h"

#include "base/duration.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <inttypes.h>
#include <math.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t count_max = UINT64_C(1) << 53;

struct point {
    int64_t at_ms;
    uint64_t value, delta;
};

struct times {
    int64_t *at_ms; /* sorted once the set is prepared */
    size_t count, room;
};

struct target {
    char *key; /* first, for by_key() */
    char *job, *instance, *name;
    size_t index; /* in set->targets, once prepared */
    struct times samples, resets;
    struct times puzzles;       /* when buckets grew as no process can have counted; see find_puzzles() */
    struct times continued;     /* when a series was sampled that had been sampled before */
    struct times firsts, lasts; /* of each series; these keep equal times */
};

struct series {
    char *key; /* first, for by_key() */
    char *text;
    char *group; /* the labels without `le` */
    size_t metric;
    enum counter_role role;
    double le;
    struct target *target;
    struct point *points;
    size_t count, room;
};

struct metric {
    char *name;
    bool added[COUNTER_BUCKET + 1];
    struct error refused;  /* by counter_set_add: stays */
    struct error unusable; /* found when the set was prepared */
    size_t first, count;   /* its series in set->series, once prepared */
    double *edges;
    size_t edge_count;
};

struct counter_set {
    int64_t since_ms;
    struct metric *metrics;
    size_t metric_count, metric_room;
    struct target **targets;
    size_t target_count, target_room;
    struct series **series;
    size_t series_count, series_room;
    void *target_tree, *series_tree; /* by key; of <search.h> */
    bool prepared;
};

/* ---- adding ---- */

struct counter_set *counter_set_new(int64_t since_ms)
{
    struct counter_set *set = mem_alloc(1, sizeof *set);
    set->since_ms = since_ms;
    return set;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t find_metric(const struct counter_set *set, const char *name)
{
    size_t m = 0;
    while (m < set->metric_count && strcmp(set->metrics[m].name, name) != 0)
        m++;
    return m;
}

static size_t find_or_add_metric(struct counter_set *set, const char *name)
{
    size_t m = find_metric(set, name);
    if (m < set->metric_count)
        return m;
    set->metrics = mem_grow(set->metrics, m, &set->metric_room, sizeof *set->metrics);
    set->metrics[set->metric_count++] = (struct metric){.name = mem_strdup(name)};
    return m;
}

static bool fail_series(const struct prom_series *series, struct error *err, const char *what)
{
    char *text = prom_series_text(series);
    error_set(err, ERROR_DATA, "series %s: %s", text, what);
    free(text);
    return false;
}

static bool parse_le(const char *text, double *le)
{
    if (strcmp(text, "+Inf") == 0) {
        *le = INFINITY;
        return true;
    }
    if (*text == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0')
        return false;
    char *end;
    *le = strtod(text, &end) + 0.0; /* -0 becomes 0 */
    return *end == '\0' && isfinite(*le);
}

static bool check_labels(const struct prom_series *series, enum counter_role role, struct error *err)
{
    const char *le = prom_label(series, "le");
    double value;
    if (!prom_label(series, "instance"))
        return fail_series(series, err,
                           "it has no label `instance`; select the raw counter, without sum() or recording rules");
    if (role == COUNTER_BUCKET && !le)
        return fail_series(series, err, "it has no label `le`; select the buckets of a histogram (..._bucket)");
    if (role == COUNTER_BUCKET && !parse_le(le, &value))
        return fail_series(series, err, "its label `le` is neither a number nor +Inf");
    if (role != COUNTER_BUCKET && le)
        return fail_series(series, err, "it is a bucket of a histogram; to count requests select ..._count");
    return true;
}

static bool check_answer(const struct prom_answer *answer, enum counter_role role, struct error *err)
{
    if (answer->type != PROM_MATRIX)
        return error_set(err, ERROR_DATA, "raw samples are needed; select a counter with a range, without functions");
    for (size_t i = 0; i < answer->series_count; i++) {
        const struct prom_series *series = &answer->series[i];
        if (!check_labels(series, role, err))
            return false;
        for (size_t s = 0; s < series->sample_count; s++) {
            if (prom_is_count(series->samples[s].value))
                continue;
            char time[TIME_TEXT], what[TIME_TEXT + 80];
            snprintf(what, sizeof what, "%.17g at %s is not a count; is it a counter?", series->samples[s].value,
                     time_format(series->samples[s].at_ms, time));
            return fail_series(series, err, what);
        }
    }
    return true;
}

/* With its length before it a text cannot be confused with its neighbour. */
static void add_field(struct strbuf *key, const char *text)
{
    strbuf_printf(key, "%zu:%s", strlen(text), text);
}

static struct target *find_or_add_target(struct counter_set *set, const struct prom_series *series)
{
    const char *job = prom_label(series, "job"), *instance = prom_label(series, "instance");
    job = job ? job : "";
    struct strbuf key = {0};
    add_field(&key, job);
    add_field(&key, instance);
    char *text = strbuf_take(&key);
    void *found = tfind(&text, &set->target_tree, by_key);
    if (found) {
        free(text);
        return *(struct target **)found;
    }
    struct target *target = mem_alloc(1, sizeof *target);
    target->key = text;
    target->job = mem_strdup(job);
    target->instance = mem_strdup(instance);
    set->targets = mem_grow(set->targets, set->target_count, &set->target_room, sizeof(struct target *));
    set->targets[set->target_count++] = target;
    tsearch(target, &set->target_tree, by_key);
    return target;
}

static char *group_of(const struct prom_series *series, enum counter_role role)
{
    struct strbuf group = {0};
    for (size_t i = 0; i < series->label_count; i++) {
        if (role == COUNTER_BUCKET && strcmp(series->labels[i].name, "le") == 0)
            continue;
        add_field(&group, series->labels[i].name);
        add_field(&group, series->labels[i].value);
    }
    return strbuf_take(&group);
}

/* Two spellings of `le` are one series: an upgrade of the server may change "1" to "1.0" on the way. */
static struct series *find_or_add_series(struct counter_set *set, size_t metric, enum counter_role role,
                                         const struct prom_series *from)
{
    double le = 0;
    if (role == COUNTER_BUCKET)
        parse_le(prom_label(from, "le"), &le);
    char *group = group_of(from, role);
    char *key = mem_printf("%zu %d %.17g %s", metric, (int)role, le, group);
    void *found = tfind(&key, &set->series_tree, by_key);
    if (found) {
        free(key);
        free(group);
        return *(struct series **)found;
    }
    struct series *series = mem_alloc(1, sizeof *series);
    *series = (struct series){.key = key,
                              .text = prom_series_text(from),
                              .group = group,
                              .metric = metric,
                              .role = role,
                              .le = le,
                              .target = find_or_add_target(set, from)};
    set->series = mem_grow(set->series, set->series_count, &set->series_room, sizeof(struct series *));
    set->series[set->series_count++] = series;
    tsearch(series, &set->series_tree, by_key);
    return series;
}

static void add_samples(struct counter_set *set, size_t metric, enum counter_role role, const struct prom_series *from)
{
    size_t first = 0;
    while (first < from->sample_count && from->samples[first].at_ms <= set->since_ms)
        first++;
    if (first == from->sample_count)
        return;
    struct series *series = find_or_add_series(set, metric, role, from);
    for (size_t i = first; i < from->sample_count; i++) {
        series->points = mem_grow(series->points, series->count, &series->room, sizeof *series->points);
        series->points[series->count++] =
            (struct point){.at_ms = from->samples[i].at_ms, .value = (uint64_t)from->samples[i].value};
    }
}

bool counter_set_add(struct counter_set *set, const char *metric, enum counter_role role,
                     const struct prom_answer *answer, struct error *err)
{
    size_t m = find_or_add_metric(set, metric);
    struct error refused = {0};
    if (!check_answer(answer, role, &refused)) {
        error_prefix(&refused, "metric %s", metric);
        set->metrics[m].refused = refused;
        return error_set(err, refused.code, "%s", refused.text);
    }
    set->prepared = false;
    set->metrics[m].added[role] = true;
    for (size_t i = 0; i < answer->series_count; i++)
        add_samples(set, m, role, &answer->series[i]);
    return true;
}

/* ---- preparing: order ---- */

static bool unusable(struct metric *metric, const struct series *series, int64_t at_ms, const char *what)
{
    char time[TIME_TEXT];
    if (metric->unusable.code == ERROR_NONE)
        error_set(&metric->unusable, ERROR_DATA, "metric %s: series %s at %s: %s", metric->name, series->text,
                  time_format(at_ms, time), what);
    return false;
}

static int by_time(const void *a, const void *b)
{
    int64_t left = ((const struct point *)a)->at_ms, right = ((const struct point *)b)->at_ms;
    return (left > right) - (left < right);
}

static int by_moment(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static void add_time(struct times *times, int64_t at_ms)
{
    times->at_ms = mem_grow(times->at_ms, times->count, &times->room, sizeof *times->at_ms);
    times->at_ms[times->count++] = at_ms;
}

static void sort_times(struct times *times)
{
    if (times->count)
        qsort(times->at_ms, times->count, sizeof *times->at_ms, by_moment);
}

static void sort_distinct(struct times *times)
{
    sort_times(times);
    size_t kept = times->count ? 1 : 0;
    for (size_t i = 1; i < times->count; i++)
        if (times->at_ms[i] != times->at_ms[kept - 1])
            times->at_ms[kept++] = times->at_ms[i];
    times->count = kept;
}

/* The number of times at or before `at_ms`. */
static size_t times_until(const struct times *times, int64_t at_ms)
{
    size_t low = 0, high = times->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (times->at_ms[middle] <= at_ms)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool any_time_in(const struct times *times, int64_t from_ms, int64_t at_ms)
{
    return times_until(times, at_ms) > times_until(times, from_ms);
}

static int compare_targets(const struct target *left, const struct target *right)
{
    int order = strcmp(left->job, right->job);
    return order ? order : strcmp(left->instance, right->instance);
}

static int by_target(const void *a, const void *b)
{
    return compare_targets(*(struct target *const *)a, *(struct target *const *)b);
}

static int by_place(const void *a, const void *b)
{
    const struct series *left = *(struct series *const *)a, *right = *(struct series *const *)b;
    if (left->metric != right->metric)
        return left->metric < right->metric ? -1 : 1;
    if (left->target != right->target)
        return compare_targets(left->target, right->target);
    if (left->role != right->role)
        return left->role < right->role ? -1 : 1;
    int order = strcmp(left->group, right->group);
    return order ? order : (left->le > right->le) - (left->le < right->le);
}

static bool instance_is_shared(const struct counter_set *set, const struct target *target)
{
    for (size_t i = 0; i < set->target_count; i++)
        if (set->targets[i] != target && strcmp(set->targets[i]->instance, target->instance) == 0)
            return true;
    return false;
}

static void order_set(struct counter_set *set)
{
    if (set->target_count)
        qsort(set->targets, set->target_count, sizeof(struct target *), by_target);
    for (size_t i = 0; i < set->target_count; i++) {
        struct target *target = set->targets[i];
        target->index = i;
        target->samples.count = target->resets.count = target->puzzles.count = target->continued.count = 0;
        target->firsts.count = target->lasts.count = 0;
        free(target->name);
        target->name = instance_is_shared(set, target) ? mem_printf("%s/%s", target->job, target->instance)
                                                       : mem_strdup(target->instance);
    }
    if (set->series_count)
        qsort(set->series, set->series_count, sizeof(struct series *), by_place);
    for (size_t m = 0; m < set->metric_count; m++)
        set->metrics[m].count = 0;
    for (size_t i = 0; i < set->series_count; i++) {
        struct metric *metric = &set->metrics[set->series[i]->metric];
        if (metric->count++ == 0)
            metric->first = i;
    }
}

/* ---- preparing: deltas ---- */

static bool order_points(struct metric *metric, struct series *series)
{
    qsort(series->points, series->count, sizeof *series->points, by_time);
    for (size_t i = 1; i < series->count; i++)
        if (series->points[i].at_ms == series->points[i - 1].at_ms)
            return unusable(metric, series, series->points[i].at_ms, "two samples at one time; do selectors overlap?");
    return true;
}

static void note_times(const struct series *series)
{
    struct target *target = series->target;
    for (size_t i = 0; i < series->count; i++) {
        add_time(&target->samples, series->points[i].at_ms);
        if (i > 0)
            add_time(&target->continued, series->points[i].at_ms);
        if (i > 0 && series->points[i].value < series->points[i - 1].value)
            add_time(&target->resets, series->points[i].at_ms);
    }
    add_time(&target->firsts, series->points[0].at_ms);
    add_time(&target->lasts, series->points[series->count - 1].at_ms);
}

/*
 * Whether a series whose first sample is at `at_ms` began after the scrape before: the target had been scraped, and
 * either a series that goes on was in the same scrape, or none goes on (a restart under new labels). Series that go on
 * at other times come from another scraper, as when two replicas of Prometheus are merged; then the first value may be
 * a whole life's count and is only a base.
 */
static bool began_in_sight(const struct target *target, int64_t at_ms)
{
    if (target->samples.at_ms[0] == at_ms)
        return false;
    return any_time_in(&target->continued, at_ms - 1, at_ms) ||
           times_until(&target->firsts, at_ms - 1) == times_until(&target->lasts, at_ms - 1);
}

static void make_deltas(struct series *series)
{
    const struct target *target = series->target;
    for (size_t i = 0; i < series->count; i++) {
        struct point *point = &series->points[i];
        if (i == 0)
            point->delta = began_in_sight(target, point->at_ms) ? point->value : 0;
        else if (any_time_in(&target->resets, point[-1].at_ms, point->at_ms))
            point->delta = point->value;
        else if (any_time_in(&target->puzzles, point[-1].at_ms, point->at_ms))
            point->delta = 0;
        else
            point->delta = point->value - point[-1].value;
    }
}

/* ---- preparing: histograms ---- */

static bool check_edges(struct metric *metric, struct series *const buckets[], size_t count)
{
    const struct series *last = buckets[count - 1];
    if (!isinf(last->le))
        return unusable(metric, last, last->points[0].at_ms, "the histogram has no bucket with le=\"+Inf\"");
    if (!metric->edges) {
        metric->edges = mem_alloc(count, sizeof *metric->edges);
        metric->edge_count = count;
        for (size_t i = 0; i < count; i++)
            metric->edges[i] = buckets[i]->le;
    }
    bool same = metric->edge_count == count;
    for (size_t i = 0; same && i < count; i++)
        same = metric->edges[i] >= buckets[i]->le && metric->edges[i] <= buckets[i]->le;
    if (!same)
        return unusable(metric, last, last->points[0].at_ms,
                        "its buckets (`le`) are not those of the other series; they cannot be added");
    return true;
}

/* `lower` is the bucket below `upper` in the same histogram. */
static bool check_pair(struct metric *metric, const struct series *lower, const struct series *upper)
{
    for (size_t i = 0; i < upper->count && i < lower->count; i++) {
        const struct point *low = &lower->points[i], *up = &upper->points[i];
        if (low->at_ms != up->at_ms)
            return unusable(metric, upper, low->at_ms < up->at_ms ? low->at_ms : up->at_ms,
                            "the buckets of the histogram were not sampled together");
        if (low->value > up->value)
            return unusable(metric, upper, up->at_ms, "it counts less than the bucket below it");
    }
    if (lower->count != upper->count) {
        const struct series *longer = lower->count > upper->count ? lower : upper;
        size_t shared = lower->count > upper->count ? upper->count : lower->count;
        return unusable(metric, longer, longer->points[shared].at_ms,
                        "the buckets of the histogram were not sampled together");
    }
    return true;
}

static bool check_histogram(struct metric *metric, struct series *const buckets[], size_t count)
{
    if (!check_edges(metric, buckets, count))
        return false;
    for (size_t i = 1; i < count; i++)
        if (!check_pair(metric, buckets[i - 1], buckets[i]))
            return false;
    return true;
}

static bool same_histogram(const struct series *left, const struct series *right)
{
    return left->target == right->target && left->role == right->role && strcmp(left->group, right->group) == 0;
}

/*
 * A bucket that grew by less than the one below it, while no series of the target fell: a restart in which all of them
 * have passed their old values, or a library that adds to its buckets one by one. Nothing tells the two apart, and only
 * the first would count from 0, so the target's increments at that time are left out.
 */
static void find_puzzles(const struct counter_set *set, const struct metric *metric)
{
    for (size_t i = 1; i < metric->count; i++) {
        const struct series *lower = set->series[metric->first + i - 1], *upper = set->series[metric->first + i];
        struct target *target = upper->target;
        if (upper->role != COUNTER_BUCKET || !same_histogram(lower, upper))
            continue;
        for (size_t k = 1; k < lower->count && k < upper->count; k++) {
            const struct point *low = &lower->points[k], *up = &upper->points[k];
            bool together = low->at_ms == up->at_ms && low[-1].at_ms == up[-1].at_ms && low->value <= up->value;
            if (together && low->value + up[-1].value > up->value + low[-1].value &&
                !any_time_in(&target->resets, up[-1].at_ms, up->at_ms))
                add_time(&target->puzzles, up->at_ms);
        }
    }
}

static void check_histograms(const struct counter_set *set, struct metric *metric)
{
    if (metric->unusable.code != ERROR_NONE)
        return;
    for (size_t i = 0; i < metric->count;) {
        struct series *const *buckets = set->series + metric->first + i;
        size_t n = 1;
        while (i + n < metric->count && same_histogram(buckets[0], buckets[n]))
            n++;
        if (buckets[0]->role == COUNTER_BUCKET && !check_histogram(metric, buckets, n))
            return;
        i += n;
    }
}

static void prepare(struct counter_set *set)
{
    for (size_t m = 0; m < set->metric_count; m++) {
        struct metric *metric = &set->metrics[m];
        metric->unusable = (struct error){0};
        free(metric->edges);
        metric->edges = NULL;
        metric->edge_count = 0;
    }
    order_set(set);
    /* Series with two values at one time tell nothing about restarts. Their metric is unusable, the others are not. */
    for (size_t i = 0; i < set->series_count; i++)
        if (order_points(&set->metrics[set->series[i]->metric], set->series[i]))
            note_times(set->series[i]);
    for (size_t t = 0; t < set->target_count; t++) {
        sort_distinct(&set->targets[t]->samples);
        sort_distinct(&set->targets[t]->resets);
        sort_distinct(&set->targets[t]->continued);
        sort_times(&set->targets[t]->firsts);
        sort_times(&set->targets[t]->lasts);
    }
    for (size_t m = 0; m < set->metric_count; m++)
        if (set->metrics[m].unusable.code == ERROR_NONE)
            find_puzzles(set, &set->metrics[m]);
    for (size_t t = 0; t < set->target_count; t++)
        sort_distinct(&set->targets[t]->puzzles);
    for (size_t i = 0; i < set->series_count; i++)
        if (set->metrics[set->series[i]->metric].unusable.code == ERROR_NONE)
            make_deltas(set->series[i]);
    for (size_t m = 0; m < set->metric_count; m++)
        check_histograms(set, &set->metrics[m]);
    set->prepared = true;
}

/* ---- intervals ---- */

static bool check_metric(const struct counter_set *set, const char *name, struct error *err)
{
    size_t m = find_metric(set, name);
    if (m == set->metric_count)
        return error_set(err, ERROR_SOFTWARE, "metric %s was not added to the counters", name);
    const struct metric *metric = &set->metrics[m];
    const struct error *bad = metric->refused.code != ERROR_NONE ? &metric->refused : &metric->unusable;
    if (bad->code != ERROR_NONE)
        return error_set(err, bad->code, "%s", bad->text);
    const bool *added = metric->added;
    if (added[COUNTER_BUCKET] ? added[COUNTER_TOTAL] || added[COUNTER_FAILED]
                              : !added[COUNTER_TOTAL] || !added[COUNTER_FAILED])
        return error_set(err, ERROR_SOFTWARE, "metric %s needs either buckets, or both total and failed", name);
    return true;
}

static enum counter_presence presence(size_t before, size_t until, size_t all)
{
    if (before == 0)
        return until == 0 ? COUNTER_LATER : COUNTER_NEW;
    if (until > before)
        return COUNTER_SAMPLED;
    return all > until ? COUNTER_MISSED : COUNTER_SILENT;
}

static void place_target(const struct target *target, int64_t from_ms, int64_t at_ms, struct counter_interval *interval)
{
    const struct times *times = &target->samples;
    size_t before = times_until(times, from_ms), until = times_until(times, at_ms);
    struct counter_increment *out = &interval->targets[target->index];
    out->instance = target->name;
    out->presence = presence(before, until, times->count);
    out->reset = any_time_in(&target->resets, from_ms, at_ms) || any_time_in(&target->puzzles, from_ms, at_ms);
    if (until > 0) {
        out->base_ms = times->at_ms[before > 0 ? before - 1 : 0];
        out->last_ms = times->at_ms[until - 1];
    }
    if (times->count > 0)
        out->newest_ms = times->at_ms[times->count - 1];
    interval->missed += out->presence == COUNTER_MISSED;
    interval->silent += out->presence == COUNTER_SILENT;
}

static bool add_count(uint64_t *sum, uint64_t more, const struct series *series, struct error *err)
{
    *sum += more; /* both are at most 2^53 */
    if (*sum <= count_max)
        return true;
    return error_set(err, ERROR_DATA, "series %s: the sum of its target's counts is beyond 2^53", series->text);
}

static bool sum_series(const struct series *series, int64_t from_ms, int64_t at_ms, uint64_t *sum, struct error *err)
{
    *sum = 0;
    for (size_t i = 0; i < series->count; i++)
        if (series->points[i].at_ms > from_ms && series->points[i].at_ms <= at_ms &&
            !add_count(sum, series->points[i].delta, series, err))
            return false;
    return true;
}

struct window {
    int64_t from_ms, at_ms;
    uint64_t below; /* the sum of the bucket before, in the same histogram */
    size_t edge;    /* of the bucket to come */
};

static bool take_series(const struct series *series, const struct metric *metric, struct window *window,
                        struct counter_interval *interval, struct error *err)
{
    struct counter_increment *out = &interval->targets[series->target->index];
    out->carries = true;
    uint64_t sum;
    if (!sum_series(series, window->from_ms, window->at_ms, &sum, err))
        return false;
    if (series->role != COUNTER_BUCKET)
        return add_count(series->role == COUNTER_TOTAL ? &out->requests : &out->failed, sum, series, err);
    /* check_pair() has seen to it that no bucket grows by less than the one below it. */
    uint64_t own = sum - window->below;
    window->below = sum;
    uint64_t *bucket = interval->storage + series->target->index * metric->edge_count + window->edge;
    window->edge++;
    if (window->edge == metric->edge_count) {
        window->edge = 0;
        window->below = 0;
    }
    return add_count(bucket, own, series, err) && add_count(&out->requests, own, series, err);
}

static bool check_failed(const struct counter_interval *interval, int64_t at_ms, struct error *err)
{
    for (size_t i = 0; i < interval->count; i++) {
        const struct counter_increment *target = &interval->targets[i];
        if (target->failed <= target->requests)
            continue;
        char time[TIME_TEXT];
        return error_set(err, ERROR_DATA,
                         "instance %s until %s: %" PRIu64 " failed of %" PRIu64
                         " requests; the selector of `failed` must select a part of `total`",
                         target->instance, time_format(at_ms, time), target->failed, target->requests);
    }
    return true;
}

static bool fill(const struct counter_set *set, const struct metric *metric, int64_t from_ms, int64_t at_ms,
                 struct counter_interval *interval, struct error *err)
{
    for (size_t t = 0; t < set->target_count; t++) {
        place_target(set->targets[t], from_ms, at_ms, interval);
        if (metric->added[COUNTER_BUCKET] && metric->edge_count)
            interval->targets[t].buckets = interval->storage + t * metric->edge_count;
    }
    struct window window = {.from_ms = from_ms, .at_ms = at_ms};
    for (size_t i = 0; i < metric->count; i++)
        if (!take_series(set->series[metric->first + i], metric, &window, interval, err))
            return false;
    return metric->added[COUNTER_BUCKET] || check_failed(interval, at_ms, err);
}

bool counter_set_interval(struct counter_set *set, const char *metric_name, int64_t from_ms, int64_t at_ms,
                          struct counter_interval *interval, struct error *err)
{
    *interval = (struct counter_interval){0};
    if (!set->prepared)
        prepare(set);
    if (!check_metric(set, metric_name, err))
        return false;
    if (from_ms >= at_ms)
        return error_set(err, ERROR_SOFTWARE, "metric %s: an interval must end after it begins", metric_name);
    const struct metric *metric = &set->metrics[find_metric(set, metric_name)];
    interval->targets = mem_alloc(set->target_count, sizeof *interval->targets);
    interval->count = set->target_count;
    interval->edges = metric->edges;
    interval->edge_count = metric->edge_count;
    interval->storage = mem_alloc(set->target_count * metric->edge_count, sizeof *interval->storage);
    if (fill(set, metric, from_ms, at_ms, interval, err))
        return true;
    error_prefix(err, "metric %s", metric_name);
    counter_interval_free(interval);
    return false;
}

void counter_interval_free(struct counter_interval *interval)
{
    free(interval->targets);
    free(interval->storage);
    *interval = (struct counter_interval){0};
}

/* ---- end ---- */

static void keep_node(void *node)
{
    (void)node; /* the arrays own what the trees only find */
}

static void free_target(struct target *target)
{
    free(target->key);
    free(target->job);
    free(target->instance);
    free(target->name);
    free(target->samples.at_ms);
    free(target->resets.at_ms);
    free(target->puzzles.at_ms);
    free(target->continued.at_ms);
    free(target->firsts.at_ms);
    free(target->lasts.at_ms);
    free(target);
}

static void free_series(struct series *series)
{
    free(series->key);
    free(series->text);
    free(series->group);
    free(series->points);
    free(series);
}

void counter_set_free(struct counter_set *set)
{
    if (!set)
        return;
    tdestroy(set->target_tree, keep_node);
    tdestroy(set->series_tree, keep_node);
    for (size_t i = 0; i < set->target_count; i++)
        free_target(set->targets[i]);
    for (size_t i = 0; i < set->series_count; i++)
        free_series(set->series[i]);
    for (size_t i = 0; i < set->metric_count; i++) {
        free(set->metrics[i].name);
        free(set->metrics[i].edges);
    }
    free(set->targets);
    free(set->series);
    free(set->metrics);
    free(set);
}
