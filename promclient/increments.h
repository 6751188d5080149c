/*
 * Exact increments from raw counter samples, per instance and interval. Pure: no clock, no network.
 *
 * A counter_set takes the matrices (raw range selectors such as `http_requests_total{...}[1m]`) of one track, of all
 * its metrics, and is then asked for intervals. All matrices of a set must come from the same evaluation time: they
 * then see the same scrapes. Samples at or before the set's start are left out, so that a longer range of one query
 * does not make the series of another look new.
 *
 * A target is what Prometheus scrapes: labels `instance` and `job`. Its rules:
 *
 *  - The increment over (from, at] is the last sample at or before `at` minus the last one at or before `from`. So the
 *    increments of neighbouring intervals add up to that of their union, whatever happens in them.
 *  - A value below the one before it is a restart of the target. At that time ALL its series, of all metrics, count
 *    from 0: another one may have passed its old value already.
 *  - Where no series fell, but a bucket grew by less than the one below it, all have passed their old values since a
 *    restart, or the target adds to its buckets one by one. What was counted is not known: the target's increments up
 *    to that sample are 0, and `reset` says so.
 *  - The first sample of a target is only a base. A series that appears later, on a target that was scraped before,
 *    counts from 0: the first error of an instance is an error. Only when the target's other series go on without a
 *    sample at that time (merged replicas, scraped at different moments) it is a base too.
 *  - Values must be counts (prom_is_count), cumulative buckets must not fall with `le`, failed must not exceed total.
 *    What breaks this is an error that names the series and the time, and never a number.
 */
#ifndef HALDANE_PROMCLIENT_INCREMENTS_H
#define HALDANE_PROMCLIENT_INCREMENTS_H

#include "promclient/answer.h"

enum counter_role {
    COUNTER_TOTAL,  /* all requests: series of a target are summed */
    COUNTER_FAILED, /* the failed ones among them */
    COUNTER_BUCKET, /* classic histogram, cumulative by label `le`; series that differ in other labels are summed */
};

/* Opaque. `since_ms`: samples at or before it are left out. INT64_MIN takes all. */
struct counter_set *counter_set_new(int64_t since_ms) __attribute__((warn_unused_result));
void counter_set_free(struct counter_set *set);

/*
 * Adds an answer to the role of a metric (its name is free; it groups the roles). The answer is copied from and may be
 * empty, which still says that the role was asked for: a metric is either COUNTER_BUCKET or both COUNTER_TOTAL and
 * COUNTER_FAILED. False with ERROR_DATA if the answer is not a matrix of counts with instance labels; the metric then
 * stays unusable in this set, and the others are not touched.
 */
bool counter_set_add(struct counter_set *set, const char *metric, enum counter_role role,
                     const struct prom_answer *answer, struct error *err);

/* How a target's samples, of whatever metric, lie to an interval (from, at]. */
enum counter_presence {
    COUNTER_SAMPLED, /* sampled at or before `from`, and in the interval */
    COUNTER_NEW,     /* first sampled in the interval: counted from that sample on */
    COUNTER_MISSED,  /* before and after, but not in the interval: merge it with the next one */
    COUNTER_SILENT,  /* sampled at or before `from` and not since: stopped, or late. `up` tells which */
    COUNTER_LATER,   /* first sampled after `at` */
};

struct counter_increment {
    const char *instance; /* "job/instance" if the same instance occurs under two jobs of the set */
    enum counter_presence presence;
    bool reset;              /* restarted in the interval: what was served before its last scrape is lost */
    bool carries;            /* has series of this metric at all */
    int64_t base_ms;         /* time of the sample that is subtracted; COUNTER_NEW: of the first one. LATER: 0 */
    int64_t last_ms;         /* time of the last sample at or before `at`. LATER: 0 */
    int64_t newest_ms;       /* time of the newest sample in the set */
    uint64_t requests;       /* total; for a histogram the sum of its buckets. At most 2^53 */
    uint64_t failed;         /* at most `requests`; 0 for a histogram */
    const uint64_t *buckets; /* one count per edge, not cumulative; NULL unless the metric is a histogram */
};

struct counter_interval {
    struct counter_increment *targets; /* all targets of the set, by job and instance */
    size_t count;
    size_t missed, silent; /* targets of that presence; with missed > 0 the interval is incomplete */
    const double *edges;   /* histogram: `le` ascending, the last one INFINITY; borrowed from the set. Else NULL */
    size_t edge_count;
    uint64_t *storage; /* of the buckets */
};

/*
 * The increments of one metric over (from_ms, at_ms]. False with `err` set if the metric's data are not usable
 * (ERROR_DATA) or it was not added whole (ERROR_SOFTWARE). On success `interval` is to be released with
 * counter_interval_free() before the set; its texts and edges are the set's and last until the next counter_set_add().
 */
bool counter_set_interval(struct counter_set *set, const char *metric, int64_t from_ms, int64_t at_ms,
                          struct counter_interval *interval, struct error *err);
void counter_interval_free(struct counter_interval *interval);

#endif
