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

enum driver_kind { DRIVER_NONE, DRIVER_HAPROXY };

struct policy_traffic {
    enum driver_kind driver;
    char *socket;           /* haproxy: "/run/haproxy/admin.sock" or "HOST:PORT" */
    char *backend;          /* haproxy: the backend that holds the servers of both tracks */
    char **servers[TRACKS]; /* haproxy: server names, at least one a track */
    size_t server_count[TRACKS];
    int64_t unattended_ms; /* the lease */
};

struct policy_step {
    uint32_t weight_bp;
    int64_t min_ms, max_ms; /* compared steps: earliest promotion, and when `undecided` applies */
    int64_t bake_ms;        /* steps with nothing to compare against (more than half of the traffic) */
    bool pause;             /* wait for a person before leaving the step upward */
};

enum undecided { UNDECIDED_HOLD, UNDECIDED_PROMOTE, UNDECIDED_ABORT };
enum exposure { EXPOSURE_SCALED, EXPOSURE_FIXED };
enum no_data { NO_DATA_HOLD, NO_DATA_ABORT, NO_DATA_IGNORE };

enum metric_type { METRIC_ERRORS, METRIC_LATENCY };

enum { POLICY_QUANTILES = 8 }; /* at most so many per latency metric */

struct policy_metric {
    char *name;
    enum metric_type type;
    bool critical;
    double budget; /* w_m, this metric's share of false_abort; 0 unless critical; sums to 1 over the critical ones */
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
    enum exposure exposure;
    enum undecided undecided;
    int64_t deadline_ms;
    struct policy_metric *metrics; /* at least one */
    size_t metric_count;

    char *source;                    /* the text it was read from, byte for byte */
    struct policy_setting *settings; /* the settings that the text uses, sorted by name */
    size_t setting_count;
    char sha256[65]; /* of source and settings: which policy a verdict was given under */
};

#endif
