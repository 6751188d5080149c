/*
 * The policy: what the user asked for, checked and filled in, as plain data. Everything above reads it and nobody
 * changes it. policies/load.h makes one from YAML; docs/policy.md describes each key.
 *
 * Shares of traffic are basis points (1 bp = 0.01 %), probabilities and ratios are plain numbers (0.05 for 5 %), times
 * are milliseconds. All strings and arrays belong to the policy; policy_free() releases them.
 */
#ifndef HALDANE_POLICIES_POLICY_H
#define HALDANE_POLICIES_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BASIS_POINTS = 10000 };

/* The two sides of every comparison. */
enum track { TRACK_STABLE, TRACK_CANARY, TRACKS };

struct policy_header {
    char *name, *value;
};

struct policy_prometheus {
    char *url; /* without a slash at the end */
    int64_t timeout_ms;
    struct policy_header *headers;
    size_t header_count;
    char *username, *password_file; /* basic auth, both or none */
    char *bearer_token_file;
    char *ca_file, *cert_file, *key_file, *server_name;
};

enum driver_kind { DRIVER_NONE, DRIVER_HAPROXY, DRIVER_NGINX, DRIVER_CADDY, DRIVER_EXEC };

/* A program and its arguments, as given to execvp(). */
struct policy_command {
    char **words; /* with a NULL at the end; NULL: none */
    size_t count;
};

/* One balancer. Which strings are there depends on the driver; the others are NULL. */
struct policy_balancer {
    /* haproxy: either `backend`, whose servers' weights are moved, or `map` */
    char *socket;     /* "/run/haproxy/admin.sock" or "HOST:PORT" */
    char *master;     /* the master process's socket, asked when `socket` is gone; may be NULL */
    char *backend;    /* the backend that holds the servers of both tracks */
    char *state_file; /* with `backend`: HAProxy's server-state-file, rewritten after a change; may be NULL */
    char *map;        /* the map's file, by the name that HAProxy's configuration has for it */
    char **
        servers[TRACKS]; /* at least one a track; with `map` each is "BACKEND/SERVER", once with a `backup` elsewhere */
    size_t server_count[TRACKS];

    /* nginx: either `flags` or `split`; caddy: `flags` */
    char *flags;                        /* a folder: `current` in it is a link to the folder of flag files */
    char *split;                        /* nginx: the file that holds split_clients, and is included */
    char *key;                          /* with `split`: what nginx hashes, like "$request_id" */
    char *probe;                        /* URL at which the server shows its share; may be NULL with `flags` */
    struct policy_command test, reload; /* with `split` */

    struct policy_command command; /* exec */
};

/* What is done when somebody else changed the split. */
enum drift { DRIFT_HEAL, DRIFT_HOLD, DRIFT_ABORT };

struct policy_traffic {
    enum driver_kind driver;
    struct policy_balancer *balancers; /* at least one, but for DRIVER_NONE: none */
    size_t balancer_count;
    int64_t unattended_ms; /* the lease */
    enum drift drift;
};

/* How many servers a track has, as the policy lists them for the first balancer; 0 if it lists none. */
static inline size_t policy_servers(const struct policy_traffic *traffic, enum track track)
{
    return traffic->balancer_count ? traffic->balancers[0].server_count[track] : 0;
}

struct policy_step {
    uint32_t weight_bp;
    int64_t min_ms, max_ms; /* compared steps: earliest promotion, and when `undecided` applies */
    int64_t bake_ms;        /* steps with nothing to compare against (more than half of the traffic) */
    bool pause;             /* wait for a person before leaving the step upward */
};

enum undecided { UNDECIDED_HOLD, UNDECIDED_PROMOTE, UNDECIDED_ABORT };
enum exposure { EXPOSURE_SCALED, EXPOSURE_FIXED };
enum no_data { NO_DATA_HOLD, NO_DATA_ABORT, NO_DATA_IGNORE };

/* What may be swapped between the arms when nothing is wrong: which e-values decide. docs/statistics.md. */
enum exchangeable { EXCHANGEABLE_LOOKS, EXCHANGEABLE_PODS, EXCHANGEABLE_REQUESTS };

enum metric_type { METRIC_ERRORS, METRIC_LATENCY, METRIC_GAUGE };

enum direction { DIRECTION_INCREASE, DIRECTION_DECREASE, DIRECTION_EITHER }; /* which way is harm */
enum gauge_method { GAUGE_PAIRED, GAUGE_MANN_WHITNEY, GAUGE_KAYENTA };

/* Kayenta's settings of one metric, by its own names. */
struct policy_kayenta_metric {
    bool nan_replace;     /* nanStrategy: replace (by 0) instead of remove */
    bool must_have_data;  /* mustHaveData */
    bool remove_outliers; /* outliers: remove instead of keep */
    double outlier_factor;
    bool cles; /* measure: cles instead of meanRatio */
    double allowed_increase, allowed_decrease, critical_increase, critical_decrease;
    char **groups; /* at least one */
    size_t group_count;
};

enum { POLICY_QUANTILES = 8 }; /* at most so many per latency metric */

struct policy_metric {
    char *name;
    enum metric_type type;
    bool critical;
    /* w_m, this metric's share of false_abort: 0 unless it is critical, and with GAUGE_KAYENTA, which bets nothing.
     * Sums to 1 over the critical metrics that bet, if there are any. */
    double budget;
    enum no_data on_no_data;

    /* METRIC_ERRORS: two selectors of counters; harm is canary > ratio * stable + absolute. */
    char *total, *failed;
    double abort_ratio, abort_absolute;
    double promote_ratio, promote_absolute;

    /* METRIC_LATENCY: a selector of a classic histogram's buckets; harm is slower by more than this share. */
    char *histogram;
    double quantiles[POLICY_QUANTILES];
    size_t quantile_count;
    double abort_slower, promote_slower;

    /* METRIC_GAUGE: any PromQL; harm is canary > abort_ratio * stable + abort_absolute (in the query's unit). */
    char *query;
    enum direction direction;
    enum gauge_method method;
    struct policy_kayenta_metric kayenta; /* GAUGE_KAYENTA */
};

/* The whole of Kayenta's score; of use with GAUGE_KAYENTA only. */
struct policy_kayenta_group {
    char *name;
    double weight; /* 0..100 */
};
struct policy_kayenta {
    struct policy_kayenta_group *groups;
    size_t group_count;
    double pass, marginal; /* scores 0..100; marginal <= pass */
};

/* The canary fails by so much in so many windows in a row: aborted without statistics. */
struct policy_crash {
    double rate;       /* of the canary's requests, 0..1 */
    uint32_t times;    /* windows in a row; 0 turns it off */
    uint64_t requests; /* a window is as many looks as it takes to see so many canary requests */
};

enum guardrail_kind { GUARDRAIL_RATE, GUARDRAIL_VALUE, GUARDRAIL_CRASH }; /* the last one is `crash`, never listed */

/* An absolute limit of the canary, also when it has all the traffic. */
struct policy_guardrail {
    char *name; /* of no metric and no other guardrail */
    enum guardrail_kind kind;
    char *failed, *total; /* GUARDRAIL_RATE: counters; anytime-valid, false alarm 1 % */
    char *query;          /* GUARDRAIL_VALUE: any PromQL that gives one number */
    double above;         /* a rate 0..1, or a number in the query's unit */
    int64_t for_ms;       /* GUARDRAIL_VALUE: above it for so long */
};

struct policy_setting {
    char *name, *value; /* what ${NAME} became */
};

struct policy {
    char *service;
    struct policy_prometheus prometheus;
    char *matchers[TRACKS]; /* what $track becomes: track="stable" */
    int64_t look_ms, settle_ms, warmup_ms;
    struct policy_traffic traffic;
    struct policy_step *steps; /* weights rise strictly; the last is 10000 bp or less */
    size_t step_count;
    double false_abort, false_promote;
    enum exchangeable exchangeable;
    enum exposure exposure;
    enum undecided undecided;
    int64_t deadline_ms;
    struct policy_metric *metrics; /* at least one */
    size_t metric_count;
    struct policy_crash crash;
    struct policy_guardrail *guardrails;
    size_t guardrail_count;
    struct policy_kayenta kayenta;
    int64_t retention_ms; /* how long evidence and verdicts are kept after the rollout's end */

    char *source;                    /* the text it was read from, byte for byte */
    struct policy_setting *settings; /* the settings that the text uses, sorted by name */
    size_t setting_count;
    char sha256[65]; /* of source and settings: which policy a verdict was given under */
};

#endif
