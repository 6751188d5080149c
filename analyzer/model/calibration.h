/*
 * What a calibration found: how often a policy aborts a rollout in which both sides are stable, on the service's own
 * history, and which look and margins would keep that within `false_abort`. Plain data; JSON form:
 * haldane.calibration/1 (docs/commands/calibrate.md).
 */
#ifndef HALDANE_MODEL_CALIBRATION_H
#define HALDANE_MODEL_CALIBRATION_H

#include "policies/policy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How often it came to what. A draw is one rollout that is laid over the history. */
struct calibration_rate {
    uint64_t draws;
    uint64_t harm;      /* aborted because harm was shown: what false_abort bounds */
    uint64_t beside;    /* aborted by the crash guardrail or by Kayenta's score, which stand beside false_abort */
    uint64_t held;      /* held for suspected harm at any look */
    uint64_t undecided; /* a step was over without its proof */
    double error;       /* standard error of harm / draws, by the windows that the draws share */
};

double calibration_share(const struct calibration_rate *rate); /* harm / draws; NAN without draws */
double calibration_upper(const struct calibration_rate *rate); /* two standard errors above it */
bool calibration_keeps(const struct calibration_rate *rate, double limit);

/* One length of a look: how the history is cut with it. */
struct calibration_look {
    int64_t look_ms;
    uint64_t looks;   /* in the history */
    uint64_t draws;   /* rollouts that were laid over it */
    uint64_t windows; /* rollouts that it holds without an overlap */
    bool all;         /* the draws are all that differ in their instances or in their beginning */
};

/* One metric alone, with its part of the budget: every look and margin of the grid. */
struct calibration_metric {
    char *name; /* owned */
    enum metric_type type;
    double limit;    /* its part of false_abort */
    double *margins; /* owned, ascending, the first one the policy's: a ratio, or of latency a share slower */
    size_t margin_count;
    struct calibration_rate *rates; /* owned: look l and margin m at l * margin_count + m */
    size_t narrowest;               /* the first margin that is wide enough for the policy's look; margin_count: none */
};

struct calibration {
    char *service; /* owned */
    char policy_sha256[65];
    uint64_t seed;
    int64_t from_ms, to_ms;         /* the history */
    uint64_t instances, canaries;   /* of stable; how many of them were drawn as the canary */
    int64_t planned_ms, rollout_ms; /* the policy's compared steps at their `max`; what was laid over the history */
    uint64_t history_looks;         /* that come before it and fix the margins */
    double false_abort_limit;       /* the policy's */
    struct calibration_look *looks; /* owned; the first is the policy's */
    size_t look_count;
    struct calibration_metric *metrics; /* owned; those that can abort */
    size_t metric_count;
    struct calibration_rate policy; /* as it is */
    bool found;                     /* a look and margins that keep within false_abort together */
    size_t look;                    /* the smallest of such looks */
    size_t *margins;                /* owned; with the smallest margins, one index for each of `metrics` */
    struct calibration_rate joint;  /* what they come to together, on draws of their own */
    char **warnings;                /* owned sentences */
    size_t warning_count, warning_room;
};

void calibration_free(struct calibration *calibration);
void calibration_warn(struct calibration *calibration, const char *format, ...) __attribute__((format(printf, 2, 3)));

bool calibration_policy_keeps(const struct calibration *calibration);
char *calibration_to_json(const struct calibration *calibration); /* the caller frees it */

#endif
