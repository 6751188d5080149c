/* The judge's state; private to this folder. */
#ifndef HALDANE_JUDGE_STATE_H
#define HALDANE_JUDGE_STATE_H

#include "analyzer/judge/judge.h"
#include "analyzer/judge/margins.h"
#include "stats/confseq.h"
#include "stats/latency.h"
#include "stats/mixture.h"

/* One event that is compared between the arms: a failure, or a request slower (or faster) than one bucket boundary. */
struct comparison {
    size_t edge; /* latency: the boundary's index */
    bool fast;   /* the event is "fast": stable is arm X, canary arm Y */
    bool bets;   /* may bet for abort */
    bool gate;   /* must be proven before promotion */
    double rate; /* stable's share of the event (slow, for both forms of latency), frozen */
    double abort_ratio, abort_absolute;
    struct margin full;        /* the promotion margin before widening */
    struct margin now;         /* as widened at this step */
    struct mixture harm;       /* FLIP, over the whole rollout */
    struct mixture hold;       /* LR, over the whole rollout */
    struct mixture safe;       /* FLIP non-inferiority, since the step began */
    struct look_counts *looks; /* what was bet on, for the effect; k counts the event in each arm */
    size_t look_count, look_room;
};

struct metric_state {
    const struct policy_metric *policy;
    double *edges; /* latency */
    size_t edge_count;
    bool frozen;                        /* margins are calibrated; from the next look on there are bets */
    struct instance_counts calibration; /* stable before that */
    struct latency_shape shape;
    struct comparison *comparisons;
    size_t comparison_count;
    struct instance_counts totals[TRACKS]; /* over the looks that were evidence */
    char *instances[TRACKS];               /* the names in the last look that had any */
    uint64_t looks_without;                /* in a row, without data of the canary or of stable */
    uint64_t step_looks, step_canary;      /* evidence since the step began */
    bool step_unblocked;                   /* some of it compared the arms as wholes: false_promote is not promised */
};

struct judge {
    const struct policy *policy;
    char *service;
    struct metric_state *metrics; /* one per metric of the policy */
    uint32_t planned_looks;
    uint64_t looks, discarded;
    int64_t from_ms, at_ms;
    int64_t first_traffic_ms; /* INT64_MIN: none yet */
    int64_t weight_from_ms;   /* when the balancer last proved the weight; looks that reach back further are mixed */
    int64_t step_since_ms;    /* when this weight began; proving it again does not begin it again */
    uint32_t weight_bp;
    int32_t step;     /* -1: the weight is not a step of the policy */
    uint32_t *visits; /* of each step, the present one included */
    bool fresh;       /* the last look had data of both arms for every gating metric */
    uint64_t step_requests[TRACKS];
    bool aborted; /* harm was shown; for good */
    size_t blamed;
    double harm_at_abort;                            /* ln E */
    bool no_names, too_many_canaries, rate_too_high; /* restrictions that took bets away */
};

/* Both arms of one metric in one look. */
struct arms {
    struct instance_counts sum[TRACKS]; /* buckets borrowed from `scratch` */
    const struct track_counts *tracks[TRACKS];
    uint64_t scratch[TRACKS][LATENCY_EDGES];
    bool named; /* every instance is told apart */
};

/* compare.c */
void metric_learn(struct metric_state *metric, const struct track_counts *stable);
void metric_freeze(struct metric_state *metric, uint32_t planned_looks); /* if enough is known */
void metric_widen(struct metric_state *metric, double scale);
void metric_restart_step(struct metric_state *metric);
void metric_bet(struct judge *judge, struct metric_state *metric, const struct arms *arms);
void metric_no_bet(struct metric_state *metric);

/* evidence of a metric, natural logarithms; 0 where there is none */
double metric_harm(const struct metric_state *metric);
double metric_hold(const struct metric_state *metric);
double metric_safe(const struct metric_state *metric); /* the weakest gate; -INFINITY without a gate */
double judge_harm(const struct judge *judge, size_t *blamed);
double judge_hold(const struct judge *judge, size_t *suspect);
double judge_weight(const struct judge *judge, size_t m); /* a metric's share in judge_hold() and in the score; sum 1 */
double judge_safe_needed(const struct judge *judge);      /* natural logarithm */

#endif
