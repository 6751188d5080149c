/*
 * The verdict: what the judge says after a look, with the numbers behind it. JSON form: haldane.verdict/1
 * (docs/verdict.md). Field order is fixed and numbers round-trip, so that equal verdicts are equal bytes.
 *
 * Numbers that do not exist are NAN and become `null`. Times are Unix milliseconds. E-values are log10.
 */
#ifndef HALDANE_MODEL_VERDICT_H
#define HALDANE_MODEL_VERDICT_H

#include "base/error.h"
#include "policies/policy.h"

enum decision { DECISION_PROMOTE, DECISION_HOLD, DECISION_ABORT };
enum metric_status { METRIC_HARMED, METRIC_SAFE, METRIC_UNDECIDED, METRIC_NO_DATA, METRIC_EXPIRED, METRIC_IGNORED };
enum guardrail_status { GUARDRAIL_OK, GUARDRAIL_FIRING, GUARDRAIL_NO_DATA };
enum traffic_status { TRAFFIC_UNKNOWN, TRAFFIC_OK, TRAFFIC_LOW, TRAFFIC_HIGH };

extern const char *const decision_names[];      /* "promote", "hold", "abort" */
extern const char *const metric_status_names[]; /* "harmed", "safe", "undecided", "no_data", "expired", "ignored" */
extern const char *const traffic_status_names[];
extern const char *const guardrail_kind_names[];   /* "rate", "value", "crash" */
extern const char *const guardrail_status_names[]; /* "ok", "firing", "no_data" */
extern const char *const metric_type_names[];      /* "errors", "latency", "gauge" */
extern const char *const track_names[];            /* "stable", "canary" */

/* One arm, over all looks that were evidence. */
struct arm_summary {
    bool present;
    uint64_t requests;
    uint64_t failed;                    /* errors */
    double rate;                        /* errors: failed / requests */
    double quantiles[POLICY_QUANTILES]; /* latency: seconds, one per configured quantile */
    uint64_t *buckets;                  /* latency: owned, per bucket */
    uint64_t samples;                   /* gauge: looks with a number */
    double median;                      /* gauge: of the looks' means over instances; NAN without any */
};

/* How large the harm is: canary relative to stable, valid at all looks at once. */
struct effect {
    /* "ratio" (of error rates), "slower" (latency ratio at `at_edge`, 1.0 = as fast), "shift" (gauge: canary - stable)
     */
    const char *kind;
    const char *method; /* "lr" live, "flip" in reports; gauges: "hodges-lehmann" */
    double estimate, lower, upper, confidence;
    double at_edge; /* latency: the bucket boundary in seconds that the effect was read at; else NAN */
};

struct evidence_values {
    double harm, hold, safe;         /* log10 of the e-values */
    double harm_needed, safe_needed; /* log10 of what decides */
};

struct metric_verdict {
    char *name;
    enum metric_type type;
    bool critical;
    enum metric_status status;
    double budget;
    double quantiles[POLICY_QUANTILES]; /* latency: which ones the arms' quantiles are */
    size_t quantile_count;
    double *edges; /* latency: owned, the last one INFINITY */
    size_t edge_count;
    struct arm_summary arms[TRACKS];
    struct effect effect;
    struct evidence_values evidence;
    double abort_ratio, abort_absolute, promote_ratio, promote_absolute; /* errors; as widened at this step */
    double abort_slower, promote_slower;                                 /* latency; promote: the widest of the gates */
    const char
        *classification; /* method kayenta: "Pass", "High", "Low", "Nodata", "NodataFailMetric", "Error"; or NULL */
    double deviation;    /* method kayenta: the effect size that it computes; else NAN */
    char *reason;        /* a sentence */
};

struct guardrail_verdict {
    char *name; /* "crash" for the crash guardrail */
    enum guardrail_kind kind;
    enum guardrail_status status;
    double value, limit;              /* a rate, or a number in the query's unit; value NAN without data */
    uint64_t requests, failed;        /* rate and crash: what was counted so far */
    double evidence, evidence_needed; /* rate: log10 of the e-value and of what fires; else NAN */
    char *reason;                     /* a sentence */
};

struct verdict {
    char *rollout; /* NULL: none */
    char *service;
    char policy_sha256[65];
    uint64_t look; /* how many looks were folded, from 1; 0 before the first */
    int64_t at_ms, from_ms;
    int32_t step_index; /* -1: the weight is not a step of the policy */
    uint32_t weight_bp;
    int64_t step_since_ms;
    enum decision decision;
    char *reason;
    double score;
    double false_abort_limit;
    double false_abort_spent; /* of the limit: 0 without evidence of harm, the limit when it aborts */
    double harm, hold;        /* log10 of the averages over metrics; abort at harm_needed */
    double harm_needed;
    uint64_t step_looks; /* looks of this step that were evidence */
    struct metric_verdict *metrics;
    size_t metric_count;
    struct guardrail_verdict *guardrails; /* those of the policy in its order, and "crash" where there are errors */
    size_t guardrail_count;
    double kayenta_score, kayenta_pass,
        kayenta_marginal;                      /* 0..100 over the metrics with that method; NAN without any */
    double traffic_expected, traffic_observed; /* shares of the canary since the step began; NAN if unknown */
    double traffic_balancer;                   /* the observed share by the balancer's own counts; NAN if unknown */
    enum traffic_status traffic_status;
    char **warnings;
    size_t warning_count, warning_room;
};

struct verdict *verdict_new(void);
void verdict_free(struct verdict *verdict);
void verdict_warn(struct verdict *verdict, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether an abort is because harm was shown, and not because nothing was proved in time. */
bool verdict_is_harm(const struct verdict *verdict);

/*
 * What a metric's evidence is of. A gauge is never proven safe: its `safe` and `promote` numbers mean nothing. One that
 * is compared in Kayenta's way (abort_ratio below 1, or none) has no evidence at all. Both become `null`.
 */
bool metric_bets_on_harm(const struct metric_verdict *metric);
bool metric_proves_safety(const struct metric_verdict *metric);

/* One line of JSON without newline (caller frees), and back (ERROR_DATA with the path of the place). */
char *verdict_to_json(const struct verdict *verdict);
struct verdict *verdict_from_json(const char *text, size_t length, struct error *err);

#endif
