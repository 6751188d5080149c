/*
 * The plan: what a policy can do with the traffic that there is, told before the rollout begins. For each step, how
 * long until it may be left upward, and how long until a regression is caught; where that is never, what would help.
 *
 * The judge itself says what it would compare and with which margins; stats/plan.h says how fast that grows. Figures
 * are what is expected of a typical run, with a healthy canary or with the harm that is named, and requests that fail
 * independently; bursts make proofs slower. Times are of the data: a decision comes `settle` later.
 *
 * Pure. JSON form: haldane.plan/1 (docs/commands/plan.md).
 */
#ifndef HALDANE_TRIALS_PLAN_H
#define HALDANE_TRIALS_PLAN_H

#include "analyzer/model/evidence.h"
#include "policies/policy.h"

/* What one metric of the policy is like at present. All zero: nothing is known. */
struct plan_level {
    double rps;                /* requests a second, both tracks together */
    struct instance_counts at; /* stable's counts, of any length of time; `buckets` owned */
    double *edges;             /* latency: owned, the last one INFINITY */
    size_t edge_count;
    double history; /* stable's requests that the judge will know before the first traffic */
};

struct plan_traffic {
    struct plan_level *levels; /* owned, one per metric of the policy, in its order */
    size_t level_count;
    size_t instances[TRACKS]; /* 0: not known; then the arms are compared as wholes */
};

/* Every metric unknown, and the instances that the policy names to the balancer. */
struct plan_traffic plan_traffic_new(const struct policy *policy);

/*
 * Fills in what evidence tells of the time that it spans: requests a second, stable's counts, the instances of the last
 * interval. A metric that the evidence does not have, or has no request of, stays as it was.
 */
void plan_traffic_learn(struct plan_traffic *traffic, const struct policy *policy, const struct evidence *evidence);
void plan_traffic_free(struct plan_traffic *traffic);

/* How long something takes. */
struct plan_time {
    int64_t ms;      /* -1: never, as far as was looked: some days for a proof, the deadline for harm */
    double requests; /* of the canary until then; NAN if never */
    bool in_time;    /* within the step's `max`; of `whole`: within the deadline */
};

enum { PLAN_SIZES = 3 };
extern const double plan_times_as_often[PLAN_SIZES]; /* errors: 1.5, 2, 5 times stable's rate */
extern const double plan_slower[PLAN_SIZES];         /* latency: slower by 10, 20, 50 % */

struct plan_metric_step {
    struct plan_time proven;             /* since the step began; of a metric that decides */
    struct plan_time caught[PLAN_SIZES]; /* harm that begins with the step, since then */
};

struct plan_metric {
    char *name;
    enum metric_type type;
    bool critical;
    bool known;                         /* else nothing below is */
    double rate;                        /* errors: of stable */
    uint64_t boundaries;                /* latency: how many are compared */
    struct plan_metric_step *steps;     /* one per step of the policy; of use at the compared ones */
    struct plan_time whole[PLAN_SIZES]; /* harm from the first request on, each compared step lasting its `max` */
};

struct plan_step {
    uint32_t weight_bp;
    bool compared; /* else the canary is only baked */
    bool pause;
    int64_t min_ms, max_ms, bake_ms;
    double rps, canary_a_look, canary_until_max;
    struct plan_time left; /* when it may be left upward */
    int32_t slowest;       /* the metric that is proven last; -1: `min` decides, or nothing is known */
    bool decides;
};

struct plan {
    char *service;
    int64_t look_ms, settle_ms;
    double rps;
    size_t instances[TRACKS];
    int64_t compared_ms; /* how long `whole` is */
    struct plan_step *steps;
    size_t step_count;
    struct plan_metric *metrics;
    size_t metric_count;
    char **warnings; /* sentences */
    size_t warning_count, warning_room;
};

/* The caller frees it. `traffic` has as many levels as the policy has metrics. Seconds of work at the most. */
struct plan *plan_new(const struct policy *policy, const struct plan_traffic *traffic);
void plan_free(struct plan *plan);

bool plan_decides(const struct plan *plan);  /* whether every step does within its `max` */
char *plan_to_json(const struct plan *plan); /* one line; the caller frees it */
char *plan_to_text(const struct plan *plan); /* for a terminal of 80 columns; the caller frees it */

#endif
