/*
 * A made-up service, for the tests of the judge: requests, failures, latencies and gauges of a few instances at fixed
 * seeds, so that a failure comes back, and the scene that judges them look by look.
 */
#ifndef HALDANE_TESTS_SERVICE_H
#define HALDANE_TESTS_SERVICE_H

#include "analyzer/judge/judge.h"
#include "base/memory.h"
#include "policies/load.h"

#include <gsl/gsl_cdf.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LOOK_MS = 15000, EDGES = 12, HISTORY = 8, INSTANCES = 32 };
static const double edges[EDGES] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, INFINITY};
static const int64_t start_ms = INT64_C(1772331300000);

struct service {
    double rps;
    unsigned instances[TRACKS];
    double error[TRACKS];  /* probability that a request fails */
    double slower[TRACKS]; /* factor on every latency */
    double noise;          /* how alike the requests of one instance fail in one look: correlation, 0 for none */
    bool unnamed;          /* only sums over the instances are known */
    bool reversed;         /* instances come in the other order */
    double unit;           /* of latencies and bucket bounds: 1 for seconds */
    const char *extra;     /* one more instance of stable */
    /* Gauges: each value is its level times (1 + swing z), z normal, tied to the instance's last one by `lasting`. */
    double level[TRACKS];
    double swing, lasting;
    unsigned gauges_lost[TRACKS]; /* so many instances give no value; all of them: the track is absent */
    unsigned gauges_nan[TRACKS];  /* so many give NaN */
    double queue;                 /* the guardrails on a value read this; NAN for NaN */
    bool unguarded;               /* the guardrails get no data */
};

struct scene {
    struct policy *policy;
    struct evidence *evidence;
    struct judge *judge;
    struct verdict *verdict; /* after the last look */
    struct look look;
    gsl_rng *rng;
    int64_t now_ms, after_ms;
    uint32_t weight_bp;
    double z[TRACKS][INSTANCES];
    struct service service;
};

static const struct service healthy = {
    .rps = 400, .instances = {3, 1}, .error = {0.01, 0.01}, .slower = {1, 1}, .unit = 1};

static inline struct policy *policy_of(const char *top, const char *metrics)
{
    char *text = mem_printf("version: 1\n"
                            "service: shop\n"
                            "prometheus: {url: 'http://127.0.0.1:9090'}\n"
                            "tracks: {stable: 'track=\"stable\"', canary: 'track=\"canary\"'}\n"
                            "look: 15s\n"
                            "traffic: {driver: none, unattended: 2m}\n"
                            "%s%s\n"
                            "metrics:\n%s",
                            strstr(top, "crash:") ? "" : "crash: {times: 0}\n", top, metrics);
    struct policy_problems problems = {0};
    struct error err = {0};
    struct policy *policy = policy_load_text(text, strlen(text), "policy", NULL, 0, NULL, &problems, &err);
    if (!policy)
        fail_msg("%s", err.text);
    policy_problems_free(&problems);
    free(text);
    return policy;
}

#define STEPS                                                                                                          \
    "warmup: 0s\nsteps: [{weight: 5%, min: 1m, max: 30m}, {weight: 25%, min: 1m, max: 30m}, "                          \
    "{weight: 50%, min: 1m, max: 30m}, {weight: 100%, bake: 1m}]\n"
#define ERRORS "  - {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}'}\n"
#define LATENCY "  - {name: latency, type: latency, histogram: 'seconds_bucket{$track}'}\n"

static inline void open_scene(struct scene *scene, const char *top, const char *metrics, const struct service *service,
                              unsigned long seed)
{
    *scene = (struct scene){.policy = policy_of(top, metrics),
                            .evidence = evidence_new("shop", LOOK_MS),
                            .rng = gsl_rng_alloc(gsl_rng_taus2),
                            .now_ms = start_ms,
                            .after_ms = INT64_MIN,
                            .service = *service};
    scene->judge = judge_new(scene->policy);
    gsl_rng_set(scene->rng, seed);
}

static inline void close_scene(struct scene *scene)
{
    verdict_free(scene->verdict);
    judge_free(scene->judge);
    evidence_free(scene->evidence);
    policy_free(scene->policy);
    look_free(&scene->look);
    gsl_rng_free(scene->rng);
}

static inline unsigned failures(struct scene *scene, double p, unsigned n)
{
    double noise = scene->service.noise;
    if (noise > 0 && p > 0 && p < 1)
        p = gsl_ran_beta(scene->rng, p * (1 - noise) / noise, (1 - p) * (1 - noise) / noise);
    return gsl_ran_binomial(scene->rng, p, n);
}

/* A log-normal latency with a median of 80 ms. */
static inline void latencies(struct scene *scene, double slower, unsigned n, uint64_t buckets[EDGES])
{
    double share[EDGES], below = 0;
    unsigned counts[EDGES];
    for (size_t e = 0; e < EDGES; e++) {
        double to = isinf(edges[e]) ? 1 : gsl_cdf_lognormal_P(edges[e], log(0.08 * slower), 0.6);
        share[e] = to - below;
        below = to;
    }
    gsl_ran_multinomial(scene->rng, EDGES, n, share, counts);
    for (size_t e = 0; e < EDGES; e++)
        buckets[e] = counts[e];
}

static inline void fill_instance(struct scene *scene, const struct evidence_metric *metric,
                                 struct evidence_interval *interval, enum track track, const char *name, unsigned n)
{
    const struct service *service = &scene->service;
    bool first = !service->unnamed || !interval->tracks[track].present;
    struct instance_counts *counts =
        first ? evidence_add_instance(metric, interval, track, service->unnamed ? NULL : name)
              : &interval->tracks[track].instances[0];
    counts->requests += n;
    if (metric->type == METRIC_ERRORS) {
        counts->failed += failures(scene, service->error[track], n);
        return;
    }
    uint64_t buckets[EDGES];
    latencies(scene, service->slower[track], n, buckets);
    for (size_t e = 0; e < EDGES; e++)
        counts->buckets[e] += buckets[e];
}

/* Draws do not depend on the order in which the instances are added. */
static inline void fill_track(struct scene *scene, const struct evidence_metric *metric,
                              struct evidence_interval *interval, enum track track)
{
    const struct service *service = &scene->service;
    double share = scene->weight_bp / (double)BASIS_POINTS;
    double mean = service->rps * LOOK_MS / 1000 * (track == TRACK_CANARY ? share : 1 - share);
    unsigned count = service->instances[track];
    for (unsigned i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "%c%02u:80", track == TRACK_CANARY ? 'c' : 's', i + 1);
        fill_instance(scene, metric, interval, track, name, gsl_ran_poisson(scene->rng, mean / count));
    }
    if (track == TRACK_STABLE && service->extra)
        fill_instance(scene, metric, interval, track, service->extra, 100);
    struct track_counts *filled = &interval->tracks[track];
    for (size_t i = 0; service->reversed && !service->unnamed && i < filled->count / 2; i++) {
        struct instance_counts swap = filled->instances[i];
        filled->instances[i] = filled->instances[filled->count - 1 - i];
        filled->instances[filled->count - 1 - i] = swap;
    }
}

/* A gauge is there before the canary has traffic, but only stable's is asked for then. */
static inline void fill_gauge(struct scene *scene, const struct evidence_metric *metric,
                              struct evidence_interval *interval, enum track track)
{
    const struct service *service = &scene->service;
    double values[INSTANCES];
    unsigned count = service->instances[track];
    for (unsigned i = 0; i < count; i++) {
        double *z = &scene->z[track][i], lasting = service->lasting;
        *z = lasting * *z + sqrt(1 - lasting * lasting) * gsl_ran_gaussian(scene->rng, 1);
        values[i] = i < service->gauges_nan[track] ? NAN : service->level[track] * (1 + service->swing * *z);
    }
    for (unsigned i = service->gauges_lost[track]; i < count; i++)
        evidence_add_instance(metric, interval, track, NULL)->value = values[service->reversed ? count - 1 - i : i];
}

static inline void append_guardrails(struct scene *scene)
{
    const struct service *service = &scene->service;
    for (size_t g = 0; g < scene->policy->guardrail_count && !service->unguarded; g++) {
        const struct policy_guardrail *policy = &scene->policy->guardrails[g];
        bool rate = policy->kind == GUARDRAIL_RATE;
        struct evidence_metric *metric =
            evidence_guardrail(scene->evidence, policy->name, rate ? METRIC_ERRORS : METRIC_GAUGE);
        struct evidence_interval *interval = evidence_add_interval(metric, scene->now_ms - LOOK_MS, scene->now_ms);
        if (scene->weight_bp == 0)
            continue;
        if (rate)
            fill_track(scene, metric, interval, TRACK_CANARY);
        else
            evidence_add_instance(metric, interval, TRACK_CANARY, NULL)->value = service->queue;
    }
}

static inline void append_interval(struct scene *scene)
{
    double scaled[EDGES];
    for (size_t e = 0; e < EDGES; e++)
        scaled[e] = edges[e] * scene->service.unit;
    for (size_t m = 0; m < scene->policy->metric_count; m++) {
        const struct policy_metric *policy = &scene->policy->metrics[m];
        bool latency = policy->type == METRIC_LATENCY;
        struct evidence_metric *metric =
            evidence_metric(scene->evidence, policy->name, policy->type, latency ? scaled : NULL, latency ? EDGES : 0);
        struct evidence_interval *interval = evidence_add_interval(metric, scene->now_ms - LOOK_MS, scene->now_ms);
        for (int t = 0; t < TRACKS; t++)
            if (scene->service.instances[t] == 0 || (t == TRACK_CANARY && scene->weight_bp == 0))
                continue;
            else if (policy->type == METRIC_GAUGE)
                fill_gauge(scene, metric, interval, (enum track)t);
            else
                fill_track(scene, metric, interval, (enum track)t);
    }
    append_guardrails(scene);
}

/* A look with these counts, one instance each. */
static inline void set_counts(struct evidence *evidence, int64_t at_ms, uint64_t stable, uint64_t stable_failed,
                              uint64_t canary, uint64_t canary_failed)
{
    struct evidence_metric *metric = evidence_metric(evidence, "errors", METRIC_ERRORS, NULL, 0);
    struct evidence_interval *interval = evidence_add_interval(metric, at_ms - LOOK_MS, at_ms);
    struct instance_counts *s = evidence_add_instance(metric, interval, TRACK_STABLE, "s");
    s->requests = stable;
    s->failed = stable_failed;
    struct instance_counts *c = evidence_add_instance(metric, interval, TRACK_CANARY, "c");
    c->requests = canary;
    c->failed = canary_failed;
}

static inline const struct verdict *fold(struct scene *scene)
{
    assert_true(evidence_next_look(scene->evidence, &scene->after_ms, &scene->look));
    judge_observe(scene->judge, scene->evidence, &scene->look);
    verdict_free(scene->verdict);
    scene->verdict = judge_verdict(scene->judge, "shop-1", EFFECTS_LIVE);
    assert_int_equal(judge_standing(scene->judge).decision, scene->verdict->decision);
    return scene->verdict;
}

/* One look of what the service does now. */
static inline const struct verdict *look(struct scene *scene)
{
    scene->now_ms += LOOK_MS;
    append_interval(scene);
    return fold(scene);
}

static inline const struct verdict *looks(struct scene *scene, int count)
{
    for (int i = 0; i < count; i++)
        look(scene);
    return scene->verdict;
}

/* `late_ms` after the end of the last look. */
static inline void set_weight(struct scene *scene, uint32_t weight_bp, int64_t late_ms)
{
    evidence_add_weight(scene->evidence, scene->now_ms + late_ms, weight_bp);
    scene->weight_bp = weight_bp;
}

static inline void begin(struct scene *scene, uint32_t weight_bp)
{
    looks(scene, HISTORY);
    set_weight(scene, weight_bp, 0);
}

/* A whole rollout by the book; the decision that ended it, DECISION_HOLD if nothing did. */
static inline enum decision roll_out(struct scene *scene, int max_looks)
{
    size_t step = 0;
    begin(scene, scene->policy->steps[0].weight_bp);
    for (int i = 0; i < max_looks; i++) {
        const struct verdict *verdict = look(scene);
        if (verdict->decision == DECISION_ABORT)
            return DECISION_ABORT;
        if (verdict->decision == DECISION_PROMOTE && ++step == scene->policy->step_count)
            return DECISION_PROMOTE;
        if (verdict->decision == DECISION_PROMOTE)
            set_weight(scene, scene->policy->steps[step].weight_bp, 0);
    }
    return DECISION_HOLD;
}

static inline void assert_near(double got, double want, double slack)
{
    if (!(fabs(got - want) <= slack))
        fail_msg("%.17g is not within %g of %.17g", got, slack, want);
}

/* How often something may be seen that has at most this probability: four standard deviations of grace. */
static inline int most(double probability, int runs)
{
    return (int)(runs * probability + 4 * sqrt(runs * probability * (1 - probability)));
}

/* The same evidence judged anew under a policy, which need not be the scene's; the caller frees it. */
static inline struct verdict *judged(const struct policy *policy, const struct evidence *evidence, size_t most_looks)
{
    struct judge *judge = judge_new(policy);
    struct look one = {0};
    int64_t after_ms = INT64_MIN;
    for (size_t i = 0; i < most_looks && evidence_next_look(evidence, &after_ms, &one); i++)
        judge_observe(judge, evidence, &one);
    struct verdict *verdict = judge_verdict(judge, "shop-1", EFFECTS_LIVE);
    assert_int_equal(judge_standing(judge).decision, verdict->decision);
    judge_free(judge);
    look_free(&one);
    return verdict;
}

/* As bytes; the caller frees them. */
static inline char *folded(const struct policy *policy, const struct evidence *evidence, size_t most_looks)
{
    struct verdict *verdict = judged(policy, evidence, most_looks);
    char *text = verdict_to_json(verdict);
    verdict_free(verdict);
    return text;
}

#endif
