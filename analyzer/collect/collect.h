/*
 * From Prometheus to evidence. Raw samples of counters are asked for, and increments computed here, so that counts are
 * exact. A gauge, which may be any PromQL, is asked for at one instant of each look.
 *
 * A fetch is started, moved on and finished, so that one loop can serve many rollouts; collect() does all three.
 */
#ifndef HALDANE_COLLECT_COLLECT_H
#define HALDANE_COLLECT_COLLECT_H

#include "analyzer/model/evidence.h"
#include "base/error.h"
#include "policies/policy.h"

struct collector; /* a connection to the policy's Prometheus; kept between looks */
struct fetch;     /* one window, under way */

/* `policy` is borrowed and must outlive the collector. NULL with ERROR_DATA if the connection's settings do not fit. */
struct collector *collector_new(const struct policy *policy, struct error *err);
void collector_free(struct collector *collector);

/*
 * Asks for the looks that end in (from_ms, until_ms], one every look_ms, counted from from_ms. The samples up to
 * until_ms + settle are read, to tell a late sample from one that will not come.
 *
 * What the policy's guardrails ask of the canary is asked with it. Gauges, and guardrails of one number, are evaluated
 * by Prometheus at the multiples of look_ms; a look takes the newest of them in it. Each series gives one value, in the
 * order of the series' labels.
 */
struct fetch *fetch_start(struct collector *collector, int64_t from_ms, int64_t until_ms, int64_t look_ms);
bool fetch_step(struct collector *collector, int max_wait_ms); /* true while anything is under way */
bool fetch_done(const struct fetch *fetch);

/*
 * Ends a fetch that is done and frees it. On success its looks are appended to `evidence` and *last_ms is the end of
 * the last one (from_ms if there is none): start the next fetch there. A look in which a live instance lacks its sample
 * is merged with the next one, for both tracks; a gauge without a value is only absent. On failure nothing is appended:
 * ERROR_UNAVAILABLE, also when Prometheus warns that its answer may be incomplete; ERROR_DATA when the data do not fit
 * the policy, also when the query of a guardrail gives several numbers.
 */
bool fetch_finish(struct fetch *fetch, struct evidence *evidence, int64_t *last_ms, struct error *err);

/* Ends a fetch that need not be done, and frees it. */
void fetch_abandon(struct fetch *fetch);

bool collect(struct collector *collector, int64_t from_ms, int64_t until_ms, int64_t look_ms, struct evidence *evidence,
             int64_t *last_ms, struct error *err);

/* What one query of the policy finds now. */
struct probe {
    const char *name; /* of the metric or guardrail; borrowed from the policy */
    bool guardrail;
    enum metric_type type; /* METRIC_GAUGE: any PromQL; else a counter */
    const char *key;       /* in the policy: "total", "failed", "histogram", "query" */
    enum track track;
    char *query;
    struct error error; /* ERROR_NONE: it was answered */
    size_t series;
    double age_s; /* counter: of the newest sample; NAN without any */
    double value; /* counter: of the newest sample; gauge: of the first series. NAN without any */
};

/*
 * Runs every query once for the tracks that it is for, as an instant query that looks five minutes back. The caller
 * frees with probes_free().
 */
struct probe *collector_probe(struct collector *collector, int64_t now_ms, size_t *count);
void probes_free(struct probe *probes, size_t count);

/*
 * The first thing that makes a rollout impossible: a query that failed or gives several numbers to a guardrail, or one
 * that finds nothing of stable where something must be. False with `err` set.
 */
bool probes_check(const struct policy *policy, const struct probe *probes, size_t count, struct error *err);

#endif
