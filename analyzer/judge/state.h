/* The judge's state; private to this folder and to trials/forecast.c, which plans with the margins that it freezes. */
#ifndef HALDANE_JUDGE_STATE_H
#define HALDANE_JUDGE_STATE_H

#include "analyzer/judge/judge.h"
#include "analyzer/judge/margins.h"
#include "stats/betabinomial.h"
#include "stats/confseq.h"
#include "stats/gauge.h"
#include "stats/kayenta.h"
#include "stats/latency.h"
#include "stats/mixture.h"

/* What a metric's step needs before it is left, and how many requests of stable before a normal level is frozen. */
enum { MIN_STEP_LOOKS = 4, MIN_STEP_CANARY = 30, CALIBRATION_ERRORS = 100, CALIBRATION_LATENCY = 1000 };

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
    struct mixture share;      /* SHARE, over the whole rollout; `exchangeable: pods` */
    struct mixture safe;       /* FLIP non-inferiority, since the step began */
    struct look_counts *looks; /* what was bet on, for the effect; k counts the event in each arm */
    size_t look_count, look_room;
};

/* A gauge: judge/gauge.c. One value a look and arm, the mean over its instances. */
enum { GAUGE_SIDES = 2 }; /* GAUGE_INCREASE and GAUGE_DECREASE; `direction: either` bets on both */
struct gauge_side {
    struct gauge_process process;
    double *past; /* the process's */
    struct mixture harm;
};
struct gauge_state {
    /* paired */
    struct gauge_side sides[GAUGE_SIDES];
    uint32_t block;    /* looks that one bet is made of */
    bool block_unsure; /* stable's history does not tell how long its noise lasts */
    bool noise_lasts;  /* it tells: longer than any block */
    double *history;   /* stable's instances before the first traffic, `history_width` values a look */
    size_t history_count, history_room, history_width;
    /* mann-whitney */
    double log_rank_e; /* ln of the product of the steps' e-values */
    bool step_tested;  /* the present step was */
    /* kayenta */
    bool classified;
    enum kayenta_class classification;
    double deviation;

    double *values[TRACKS]; /* of the looks that were evidence */
    size_t count, room;
    size_t step_from; /* the first of the present step */
};

struct crash_state {
    struct instance_counts window[TRACKS];
    uint64_t requests, failed; /* of the canary, in all windows */
    uint32_t in_a_row;
    double rate; /* of the last whole window; NAN before */
    bool fired;
};

struct guardrail_state {
    const struct policy_guardrail *policy;
    struct mixture evidence; /* a rate's */
    uint64_t requests, failed, looks_without;
    double value;
    bool is_above, fired;
    int64_t above_since_ms;
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
    struct gauge_state gauge;
    struct crash_state crash;
};

/* The balancer's own counts in the present step: judge/balancer.c. */
struct balancer_state {
    bool seen, counted;               /* a sample was; two of this step were */
    struct balancer_counters last;    /* the newest sample */
    struct balancer_arm step[TRACKS]; /* what was counted between the samples of this step; nothing of "now" */
    uint32_t weight_bp;               /* as it was read back, which a step's own weight need not be */
    uint32_t off_looks;               /* in a row, with a share that is not this weight's */
    uint64_t ejected_looks;           /* of this step, that were no evidence for balancer_ejected() alone */
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
    bool fresh;       /* the last look had the data of every metric that decides */
    struct guardrail_state *guardrails;
    struct balancer_state balancer;
    struct traffic_share traffic; /* does the canary get what it was given in this step? */
    double kayenta_score;         /* of the present step; NAN before it was told */
    int64_t kayenta_told;         /* at which multiple of the present step's `min` */
    bool aborted;                 /* for good */
    enum judge_cause abort_cause;
    size_t blamed;
    double harm_at_abort; /* ln E */
    /* restrictions that took bets away */
    bool no_names, too_many_canaries, too_much_canary, rate_too_high, unequal_pods;
};

/* Both arms of one metric in one look. */
struct arms {
    struct instance_counts sum[TRACKS]; /* buckets borrowed from `scratch` */
    const struct track_counts *tracks[TRACKS];
    uint64_t scratch[TRACKS][LATENCY_EDGES];
    double mean[TRACKS]; /* gauges: over the instances; NAN if one has no number */
    bool named;          /* every instance is told apart */
};

/* decide.c */
bool metric_is_stale(uint64_t looks_without);        /* silent for too long to be an accident */
double judge_harm_needed(const struct judge *judge); /* natural logarithm */
bool metric_has_data(const struct metric_state *metric);
bool metric_can_prove(const struct metric_state *metric); /* whether a step may be left on its word */
bool metric_is_proven(const struct judge *judge, const struct metric_state *metric);
bool metric_is_gating(const struct metric_state *metric);
bool judge_compares(const struct judge *judge);
bool judge_step_is_over(const struct judge *judge);

/* guard.c */
void guardrails_init(struct judge *judge);
void guardrails_observe(struct judge *judge, const struct evidence *evidence, const struct look *look);
void guardrails_summarize(const struct judge *judge, struct verdict *verdict);
bool crash_watches(const struct judge *judge, const struct metric_state *metric);
void crash_observe(struct judge *judge, struct metric_state *metric, const struct arms *arms);
void guards_restart_step(struct judge *judge);

/* balancer.c */
void balancer_restart_step(struct judge *judge, uint32_t weight_bp);
void balancer_observe(struct judge *judge, const struct evidence *evidence, const struct look *look);
bool balancer_ejected(const struct evidence *evidence, const struct look *look); /* as far as the samples tell */
void balancer_summarize(const struct judge *judge, struct verdict *verdict);

/* effect.c */
struct effect effect_of(const struct judge *judge, const struct metric_state *metric, enum judge_effects effects);

/* gauge.c */
void gauge_learn(struct metric_state *metric, const struct track_counts *stable);
void gauge_freeze(const struct judge *judge, struct metric_state *metric);
void gauge_bet(struct metric_state *metric, const struct arms *arms);
void gauge_no_bet(struct metric_state *metric);
void gauge_restart_step(struct metric_state *metric);
double gauge_harm(const struct metric_state *metric); /* natural logarithm */
bool gauge_is_settled(const struct metric_state *metric);
bool gauge_is_scored(const struct policy_metric *policy); /* by Kayenta's rules */
bool gauge_is_proven(const struct judge *judge, const struct metric_state *metric);
void gauges_test(struct judge *judge); /* after a look: the step's rank tests, once its `min` is over */
void kayenta_restart_step(struct judge *judge);
void gauges_score(struct judge *judge); /* after a look: Kayenta's classifications and score */
void gauge_summarize(const struct metric_state *state, struct metric_verdict *metric);
void gauge_free(struct metric_state *metric);
char *gauge_text(const struct judge *judge, const struct metric_state *state, const struct metric_verdict *metric);

/* compare.c */
void metric_learn(struct metric_state *metric, const struct track_counts *stable);
void metric_freeze(const struct judge *judge, struct metric_state *metric); /* if enough is known */
void metric_widen(struct metric_state *metric, double scale);
void metric_restart_step(const struct judge *judge, struct metric_state *metric);
void metric_bet(struct judge *judge, struct metric_state *metric, const struct arms *arms);
void metric_no_bet(struct metric_state *metric);

/* evidence of a metric, natural logarithms; 0 where there is none */
extern const double judge_rate_max; /* p_max of FLIP's absolute margin */
bool comparison_is_exact(
    const struct comparison *comparison); /* an absolute abort margin is, at stable's frozen rate */
double comparison_harm(const struct judge *judge, const struct comparison *comparison);
double metric_harm(const struct judge *judge, const struct metric_state *metric);
double metric_hold(const struct judge *judge, const struct metric_state *metric);
double metric_safe(const struct metric_state *metric); /* the weakest gate; -INFINITY without a gate */
double judge_harm(const struct judge *judge, size_t *blamed);
double judge_hold(const struct judge *judge, size_t *suspect);
double judge_weight(const struct judge *judge, size_t m); /* a metric's share in judge_hold() and in the score; sum 1 */
double judge_safe_needed(const struct judge *judge);      /* natural logarithm */

#endif
