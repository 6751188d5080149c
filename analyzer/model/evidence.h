/*
 * Evidence: exact counts per metric, track and interval, and whatever else a verdict depends on. It is all that the
 * judge sees, and a replay needs nothing else. JSON form: haldane.evidence/1 (docs/evidence.md).
 *
 * Counts are exact integers. Times are Unix milliseconds. A track that gave nothing in an interval is absent, which is
 * not the same as zeros.
 */
#ifndef HALDANE_MODEL_EVIDENCE_H
#define HALDANE_MODEL_EVIDENCE_H

#include "analyzer/model/balancer.h"
#include "base/error.h"
#include "policies/policy.h"

struct cJSON;

/* What one instance gave over one interval: increments, or a gauge's sample at its end. */
struct instance_counts {
    char *instance;            /* owned; NULL: the sum over instances that were not told apart */
    uint64_t requests, failed; /* METRIC_ERRORS: failed <= requests. METRIC_LATENCY: requests is the sum of buckets */
    uint64_t *buckets;         /* METRIC_LATENCY: owned, one count per edge of the metric, not cumulative; else NULL */
    double value;              /* METRIC_GAUGE: in the query's unit; NAN where it gave NaN or an infinity */
};

struct track_counts {
    bool present;
    struct instance_counts *instances; /* owned; sorted by instance */
    size_t count;
};

struct evidence_interval {
    int64_t from_ms; /* time of the oldest sample that an increment starts at */
    int64_t at_ms;   /* the interval's end */
    struct track_counts tracks[TRACKS];
};

/* A guardrail's samples are kept like a metric's: METRIC_ERRORS or METRIC_GAUGE, of the canary alone. */
struct evidence_metric {
    char *name;
    bool guardrail;
    enum metric_type type;
    double *edges; /* METRIC_LATENCY: upper bounds `le` in seconds, ascending, the last one INFINITY */
    size_t edge_count;
    struct evidence_interval *intervals; /* by time */
    size_t count, room;
};

struct evidence_weight {
    int64_t from_ms; /* when the balancer was read back with this weight */
    uint32_t weight_bp;
};

/* What a person decided; the judge does not use it, a reader of the record does. */
struct evidence_decision {
    int64_t at_ms;
    char *action, *by, *reason;
};

struct evidence {
    char *rollout; /* id; NULL for evidence that belongs to none */
    char *service;
    int64_t interval_ms;
    struct evidence_weight *weights; /* by time */
    size_t weight_count, weight_room;
    struct evidence_metric *metrics;
    size_t metric_count, metric_room;
    struct evidence_decision *decisions; /* by time */
    size_t decision_count, decision_room;
    struct balancer_counters *balancer; /* by time; none where the balancer does not count */
    size_t balancer_count, balancer_room;
};

/* One look: what all metrics gave in the interval that ends at `at_ms`. Borrowed from the evidence. */
struct look {
    int64_t from_ms, at_ms;                     /* from: the oldest sample that any metric's increment starts at */
    int64_t weight_from_ms;                     /* since when weight_bp has been in force */
    uint32_t weight_bp;                         /* in force just before at_ms */
    const struct evidence_interval **intervals; /* one per metric of the evidence; NULL where a metric has none */
    size_t count;
};

struct evidence *evidence_new(const char *service, int64_t interval_ms);
void evidence_free(struct evidence *evidence);

/* Finds or adds a metric. `edges` are copied; for METRIC_ERRORS pass NULL, 0. The pointer lasts until the next call. */
struct evidence_metric *evidence_metric(struct evidence *evidence, const char *name, enum metric_type type,
                                        const double *edges, size_t edge_count);
/* The same for a guardrail: METRIC_ERRORS for a rate, METRIC_GAUGE for a value. */
struct evidence_metric *evidence_guardrail(struct evidence *evidence, const char *name, enum metric_type type);
/* Adds an empty interval at the end; fill its tracks with evidence_add_instance(). Lasts until the next call. */
struct evidence_interval *evidence_add_interval(struct evidence_metric *metric, int64_t from_ms, int64_t at_ms);
/* Adds zeroed counts for an instance (NULL: not told apart) and marks the track present. */
struct instance_counts *evidence_add_instance(const struct evidence_metric *metric, struct evidence_interval *interval,
                                              enum track track, const char *instance);
void evidence_add_weight(struct evidence *evidence, int64_t from_ms, uint32_t weight_bp);
void evidence_add_decision(struct evidence *evidence, int64_t at_ms, const char *action, const char *by,
                           const char *reason);
/*
 * Adds what the balancer counted; `at_ms` must be set. False, and nothing is added, if it is not later than the last
 * sample: a clock went back. A sample must be added before a look that ends at or after it is judged, and once there
 * are samples, one that ends later than the look does: of generation 0, if the balancer did not answer
 * (model/balancer.h). Else a replay would know more than the judge knew.
 */
bool evidence_add_balancer(struct evidence *evidence, const struct balancer_counters *counters);

/*
 * Walks the looks in order of time: start with *after_ms = INT64_MIN, call until it returns false. `look->intervals` is
 * allocated by the first call on a zeroed look, reused by the next ones and freed by look_free().
 */
bool evidence_next_look(const struct evidence *evidence, int64_t *after_ms, struct look *look);
void look_free(struct look *look);

/*
 * The same evidence in longer looks: intervals are added up over windows of `every_ms`, which must be a multiple of the
 * evidence's own. A track that is absent in one of a window's intervals, or whose instances change in it, is absent in
 * the window. An interval that is missing altogether is missing for both tracks alike: the window is made of the rest.
 * Counts are added up; gauges are averaged over the intervals that have a number.
 * NULL with ERROR_USAGE if every_ms does not fit. The caller frees it.
 */
struct evidence *evidence_coarsen(const struct evidence *evidence, int64_t every_ms, struct error *err);

/* The whole as JSON (caller frees), and back. A bad document gives ERROR_DATA with the path of the place. */
char *evidence_to_json(const struct evidence *evidence);
struct evidence *evidence_from_json(const char *text, size_t length, struct error *err);

/*
 * One look as a compact JSON document, which is what the store appends, and back into evidence. `look_append` adds the
 * intervals of the document to `evidence`.
 */
char *evidence_look_to_json(const struct evidence *evidence, const struct look *look);
bool evidence_append_json(struct evidence *evidence, const char *text, size_t length, struct error *err);

/*
 * One sample of the balancer's counts in the same way. Appending one that is not later than the last leaves it out, as
 * evidence_add_balancer() does.
 */
char *evidence_balancer_to_json(const struct balancer_counters *counters);
bool evidence_append_balancer_json(struct evidence *evidence, const char *text, size_t length, struct error *err);

#endif
