/*
 * One evidence document with one interval per metric is made when the draws are opened and filled anew for each look:
 * the judge never looks back, so nothing else has to be kept. The instances of both arms are there all the time; how
 * many of them count is what a look says.
 *
 * The order of the random numbers is part of the answer: a scenario without some noise draws none for it.
 */
#include "analyzer/trials/scenario.h"

#include "analyzer/trials/crew.h"
#include "base/memory.h"

#include <assert.h>
#include <gsl/gsl_cdf.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EDGES = 12 };
static const double edges[EDGES] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, INFINITY};
static const int64_t epoch_ms = INT64_C(1700000000000);
static const double gauge_level = 100, gauge_sd = 0.05;

struct scenario_draws {
    struct scenario scenario;
    const struct policy *policy;
    struct evidence *evidence;
    struct look look;
    gsl_rng *rng;
    int64_t at_ms, traffic_ms; /* end of the last look; first traffic, INT64_MIN before it */
    uint32_t weight_bp;
    int64_t weight_from_ms;
    unsigned pods[TRACKS];
    unsigned requests[TRACKS][SCENARIO_PODS];
    double load, arm_noise[TRACKS];               /* logarithms */
    double (*gauge_noise)[TRACKS][SCENARIO_PODS]; /* of each metric of the evidence; logarithms */
};

/* --- the numbers of a run --- */

static double next_ar(gsl_rng *rng, double last, double sd, double phi)
{
    return sd > 0 ? phi * last + sd * sqrt(1 - phi * phi) * gsl_ran_ugaussian(rng) : 0;
}

static double any_ar(gsl_rng *rng, double sd)
{
    return sd > 0 ? sd * gsl_ran_ugaussian(rng) : 0;
}

/* --- opening --- */

static void add_pods(const struct evidence_metric *metric, struct evidence_interval *interval, enum track track,
                     unsigned pods)
{
    char name[32];
    for (unsigned i = 0; i < pods; i++) {
        snprintf(name, sizeof name, "%s-%02u", track == TRACK_STABLE ? "stable" : "canary", i);
        evidence_add_instance(metric, interval, track, name);
    }
}

static void add_metric(struct evidence_metric *metric, unsigned pods)
{
    struct evidence_interval *interval = evidence_add_interval(metric, 0, 0);
    if (!metric->guardrail)
        add_pods(metric, interval, TRACK_STABLE, pods);
    add_pods(metric, interval, TRACK_CANARY, pods);
}

struct scenario_draws *scenario_open(const struct scenario *scenario, const struct policy *policy)
{
    assert(scenario->pods >= 2 && scenario->pods <= SCENARIO_PODS && scenario->rounds >= 1);
    struct scenario_draws *draws = mem_alloc(1, sizeof *draws);
    draws->scenario = *scenario;
    draws->policy = policy;
    draws->rng = gsl_rng_alloc(gsl_rng_mt19937);
    draws->evidence = evidence_new(policy->service, policy->look_ms);
    struct evidence *evidence = draws->evidence;
    for (size_t m = 0; m < policy->metric_count; m++) {
        bool latency = policy->metrics[m].type == METRIC_LATENCY;
        add_metric(evidence_metric(evidence, policy->metrics[m].name, policy->metrics[m].type, latency ? edges : NULL,
                                   latency ? EDGES : 0),
                   scenario->pods);
    }
    /* What a value is limited to says nothing of what it is: only rates can be made up. */
    for (size_t g = 0; g < policy->guardrail_count; g++)
        if (policy->guardrails[g].kind == GUARDRAIL_RATE)
            add_metric(evidence_guardrail(evidence, policy->guardrails[g].name, METRIC_ERRORS), scenario->pods);
    draws->gauge_noise = mem_alloc(evidence->metric_count, sizeof *draws->gauge_noise);
    draws->look.count = evidence->metric_count;
    draws->look.intervals = mem_alloc(evidence->metric_count, sizeof *draws->look.intervals);
    for (size_t m = 0; m < evidence->metric_count; m++)
        draws->look.intervals[m] = &evidence->metrics[m].intervals[0];
    scenario_begin(draws, 0, 0);
    return draws;
}

static void set_pods(struct scenario_draws *draws, enum track track, unsigned pods)
{
    draws->pods[track] = pods;
    for (size_t m = 0; m < draws->evidence->metric_count; m++) {
        const struct evidence_metric *metric = &draws->evidence->metrics[m];
        struct track_counts *counts = &metric->intervals[0].tracks[track];
        counts->present = counts->instances && pods > 0;
        counts->count = counts->instances ? pods : 0;
    }
}

void scenario_close(struct scenario_draws *draws)
{
    if (!draws)
        return;
    for (int t = 0; t < TRACKS; t++)
        set_pods(draws, (enum track)t, draws->scenario.pods); /* so that all of them are freed */
    look_free(&draws->look);
    evidence_free(draws->evidence);
    gsl_rng_free(draws->rng);
    free(draws->gauge_noise);
    free(draws);
}

static void begin_gauges(struct scenario_draws *draws)
{
    for (size_t m = 0; m < draws->evidence->metric_count && draws->scenario.gauge_phi > 0; m++)
        for (int t = 0; t < TRACKS; t++)
            for (unsigned i = 0; i < draws->scenario.pods; i++)
                draws->gauge_noise[m][t][i] = any_ar(draws->rng, gauge_sd);
}

void scenario_begin(struct scenario_draws *draws, uint64_t seed, uint64_t run)
{
    const struct scenario *scenario = &draws->scenario;
    gsl_rng_set(draws->rng, crew_seed(seed, run));
    draws->at_ms = epoch_ms;
    draws->traffic_ms = INT64_MIN;
    draws->weight_bp = 0;
    draws->weight_from_ms = INT64_MIN;
    set_pods(draws, TRACK_STABLE, scenario->pods);
    set_pods(draws, TRACK_CANARY, 0);
    memset(draws->requests, 0, sizeof draws->requests);
    draws->load = any_ar(draws->rng, scenario->load_sd);
    for (int t = 0; t < TRACKS; t++)
        draws->arm_noise[t] = any_ar(draws->rng, scenario->arm_sd);
    begin_gauges(draws);
}

void scenario_weight(struct scenario_draws *draws, uint32_t weight_bp)
{
    assert(weight_bp <= BASIS_POINTS);
    unsigned pods = draws->scenario.pods;
    unsigned canary = (unsigned)lround(pods * (double)weight_bp / BASIS_POINTS);
    if (weight_bp > 0 && canary == 0)
        canary = 1;
    if (weight_bp < BASIS_POINTS && canary == pods)
        canary = pods - 1;
    set_pods(draws, TRACK_CANARY, canary);
    set_pods(draws, TRACK_STABLE, pods - canary);
    draws->weight_bp = weight_bp;
    draws->weight_from_ms = draws->at_ms;
    if (weight_bp > 0 && draws->traffic_ms == INT64_MIN)
        draws->traffic_ms = draws->at_ms;
}

const struct scenario *scenario_of(const struct scenario_draws *draws)
{
    return &draws->scenario;
}

const struct policy *scenario_policy(const struct scenario_draws *draws)
{
    return draws->policy;
}

const struct evidence *scenario_evidence(const struct scenario_draws *draws)
{
    return draws->evidence;
}

/* --- what is true --- */

/* Of the look that ends at at_ms, at its middle. INT64_MIN before the first traffic. */
static int64_t traffic_time(const struct scenario_draws *draws)
{
    if (draws->traffic_ms == INT64_MIN)
        return INT64_MIN;
    return draws->at_ms - draws->policy->look_ms / 2 - draws->traffic_ms;
}

/* How much of the fault there is by now, 0..1. */
static double grown(const struct scenario_draws *draws)
{
    const struct scenario *scenario = &draws->scenario;
    int64_t time_ms = traffic_time(draws);
    if (time_ms == INT64_MIN || time_ms < scenario->onset_ms)
        return 0;
    if (scenario->grow_ms == 0)
        return 1;
    return fmin(1, (double)(time_ms - scenario->onset_ms) / (double)scenario->grow_ms);
}

static bool in_incident(const struct scenario_draws *draws)
{
    int64_t time_ms = traffic_time(draws);
    return time_ms != INT64_MIN && time_ms >= draws->scenario.incident_from_ms &&
           time_ms < draws->scenario.incident_to_ms;
}

/* `metric` may be NULL: then there is no margin to be at. */
static double error_rate(const struct scenario_draws *draws, const struct policy_metric *metric, enum track track)
{
    const struct scenario *scenario = &draws->scenario;
    double rate = fmin(1, scenario->error_rate * (in_incident(draws) ? scenario->incident_errors : 1));
    if (track == TRACK_STABLE)
        return rate;
    double ratio = scenario->error_ratio, added = scenario->error_added, share = grown(draws);
    if (scenario->at_margin && metric) {
        ratio = metric->promote_ratio;
        added = metric->promote_absolute;
    }
    return fmin(1, (1 + (ratio - 1) * share) * rate + added * share);
}

static const struct policy_metric *first_errors(const struct policy *policy)
{
    for (size_t m = 0; m < policy->metric_count; m++)
        if (policy->metrics[m].type == METRIC_ERRORS)
            return &policy->metrics[m];
    return NULL;
}

struct scenario_truth scenario_truth(const struct scenario_draws *draws)
{
    struct scenario_truth truth = {0};
    if (draws->traffic_ms != INT64_MIN)
        truth.since_traffic_ms = draws->at_ms - draws->traffic_ms;
    const struct policy_metric *metric = first_errors(draws->policy);
    for (int t = 0; t < TRACKS; t++) {
        truth.error_rate[t] = error_rate(draws, metric, (enum track)t);
        for (unsigned i = 0; i < draws->pods[t]; i++)
            truth.requests[t] += draws->requests[t][i];
    }
    double beyond = truth.error_rate[TRACK_CANARY] - truth.error_rate[TRACK_STABLE];
    truth.harmed = fmax(0, beyond) * (double)truth.requests[TRACK_CANARY];
    return truth;
}

/* --- drawing --- */

static void draw_requests(struct scenario_draws *draws)
{
    double all = draws->scenario.rps * (double)draws->policy->look_ms / 1000;
    double share = draws->weight_bp / (double)BASIS_POINTS;
    double arm[TRACKS] = {[TRACK_STABLE] = all * (1 - share), [TRACK_CANARY] = all * share};
    for (int t = 0; t < TRACKS; t++)
        for (unsigned i = 0; i < draws->pods[t]; i++)
            draws->requests[t][i] = gsl_ran_poisson(draws->rng, arm[t] / draws->pods[t]);
}

static double beta_of(gsl_rng *rng, double p, double rho)
{
    if (!(rho > 0) || !(p > 0) || p >= 1)
        return p;
    double size = (1 - rho) / rho;
    return gsl_ran_beta(rng, p * size, (1 - p) * size);
}

static void draw_failures(struct scenario_draws *draws, struct track_counts *counts, enum track track, double rate)
{
    const struct scenario *scenario = &draws->scenario;
    double sd = scenario->arm_sd;
    double arm = sd > 0 ? fmin(1, rate * exp(draws->arm_noise[track] - sd * sd / 2)) : rate;
    arm = beta_of(draws->rng, arm, scenario->arm_rho);
    for (size_t i = 0; i < counts->count; i++) {
        unsigned n = draws->requests[track][i];
        counts->instances[i].requests = n;
        counts->instances[i].failed = gsl_ran_binomial(draws->rng, beta_of(draws->rng, arm, scenario->pod_rho), n);
    }
}

/* Fails requests that had gone well, beginning at some instance; what finds none any more is gone. */
static void put_burst(struct track_counts *counts, size_t first, uint64_t errors)
{
    for (size_t i = 0; i < counts->count && errors > 0; i++) {
        struct instance_counts *one = &counts->instances[(first + i) % counts->count];
        uint64_t room = one->requests - one->failed;
        uint64_t put = errors < room ? errors : room;
        one->failed += put;
        errors -= put;
    }
}

static void draw_bursts(struct scenario_draws *draws, struct evidence_interval *interval)
{
    if (!(draws->scenario.bursts > 0))
        return;
    unsigned bursts = gsl_ran_poisson(draws->rng, draws->scenario.bursts);
    for (unsigned b = 0; b < bursts; b++) {
        bool canary = gsl_rng_uniform(draws->rng) * BASIS_POINTS < draws->weight_bp;
        struct track_counts *counts = &interval->tracks[canary ? TRACK_CANARY : TRACK_STABLE];
        unsigned errors = gsl_ran_geometric(draws->rng, 1 / draws->scenario.burst_errors);
        if (counts->count > 0)
            put_burst(counts, gsl_rng_uniform_int(draws->rng, counts->count), errors);
    }
}

static void draw_errors(struct scenario_draws *draws, const struct policy_metric *metric,
                        struct evidence_interval *interval)
{
    for (int t = 0; t < TRACKS; t++)
        draw_failures(draws, &interval->tracks[t], (enum track)t, error_rate(draws, metric, (enum track)t));
    draw_bursts(draws, interval);
}

/* A log-normal law whose part above the 90 % quantile is stretched away from it. */
struct latency_law {
    double log_median, sigma, stretch;
};

static double quantile_of(const struct latency_law *law, double share)
{
    return exp(law->log_median + law->sigma * gsl_cdf_ugaussian_Pinv(share));
}

/* The stretch that makes the 99 % quantile longer by `tail`. */
static double stretch_of(const struct latency_law *law, double tail)
{
    double p90 = quantile_of(law, 0.9), p99 = quantile_of(law, 0.99);
    return tail > 0 ? 1 + tail * p99 / (p99 - p90) : 1;
}

/* P(latency <= x), x > 0. */
static double share_below(const struct latency_law *law, double x)
{
    double p90 = law->stretch > 1 ? quantile_of(law, 0.9) : INFINITY;
    double unstretched = x > p90 ? p90 + (x - p90) / law->stretch : x;
    return gsl_cdf_ugaussian_P((log(unstretched) - law->log_median) / law->sigma);
}

static void bucket_shares(const struct latency_law *law, double shares[EDGES])
{
    double below = 0;
    for (size_t e = 0; e < EDGES; e++) {
        double to = isinf(edges[e]) ? 1 : share_below(law, edges[e]);
        shares[e] = to - below;
        below = to;
    }
}

static void draw_buckets(gsl_rng *rng, unsigned n, const double shares[EDGES], struct instance_counts *counts)
{
    unsigned drawn[EDGES];
    gsl_ran_multinomial(rng, EDGES, n, shares, drawn);
    counts->requests = n;
    for (size_t e = 0; e < EDGES; e++)
        counts->buckets[e] = drawn[e];
}

/* Of all instances of an arm alike. */
static struct latency_law law_of(const struct scenario_draws *draws, enum track track)
{
    const struct scenario *scenario = &draws->scenario;
    struct latency_law law = {log(scenario->latency_s) + draws->load, scenario->latency_sigma, 1};
    if (in_incident(draws))
        law.log_median += log(scenario->incident_slower);
    if (track == TRACK_STABLE)
        return law;
    law.log_median += log1p(scenario->slower * grown(draws));
    law.stretch = stretch_of(&law, scenario->tail_slower * grown(draws));
    return law;
}

static void draw_latencies(struct scenario_draws *draws, struct track_counts *counts, enum track track)
{
    const struct latency_law law = law_of(draws, track);
    double shares[EDGES];
    bucket_shares(&law, shares);
    for (size_t i = 0; i < counts->count; i++) {
        if (draws->scenario.pod_latency_sd > 0) {
            struct latency_law own = law;
            own.log_median += draws->scenario.pod_latency_sd * gsl_ran_ugaussian(draws->rng);
            bucket_shares(&own, shares);
        }
        draw_buckets(draws->rng, draws->requests[track][i], shares, &counts->instances[i]);
    }
}

static void draw_samples(struct scenario_draws *draws, struct track_counts *counts, double noise[SCENARIO_PODS])
{
    for (size_t i = 0; i < counts->count; i++) {
        noise[i] = next_ar(draws->rng, noise[i], gauge_sd, draws->scenario.gauge_phi);
        counts->instances[i].value = gauge_level * exp(draws->load + noise[i]);
    }
}

/* A restarted instance shows what it counted since: each of the look's requests is left with probability `kept`. */
static void lose_counts(gsl_rng *rng, const struct evidence_metric *metric, struct instance_counts *counts, double kept)
{
    if (metric->type == METRIC_ERRORS) {
        unsigned failed = gsl_ran_binomial(rng, kept, (unsigned)counts->failed);
        unsigned good = gsl_ran_binomial(rng, kept, (unsigned)(counts->requests - counts->failed));
        counts->failed = failed;
        counts->requests = failed + good;
    } else if (metric->type == METRIC_LATENCY) {
        counts->requests = 0;
        for (size_t e = 0; e < metric->edge_count; e++) {
            counts->buckets[e] = gsl_ran_binomial(rng, kept, (unsigned)counts->buckets[e]);
            counts->requests += counts->buckets[e];
        }
    }
}

static void draw_restarts(struct scenario_draws *draws)
{
    if (!(draws->scenario.restarts > 0) || draws->pods[TRACK_CANARY] == 0)
        return;
    unsigned restarts = gsl_ran_poisson(draws->rng, draws->scenario.restarts);
    for (unsigned r = 0; r < restarts; r++) {
        size_t pod = gsl_rng_uniform_int(draws->rng, draws->pods[TRACK_CANARY]);
        double kept = gsl_rng_uniform(draws->rng);
        for (size_t m = 0; m < draws->evidence->metric_count; m++) {
            const struct evidence_metric *metric = &draws->evidence->metrics[m];
            lose_counts(draws->rng, metric, &metric->intervals[0].tracks[TRACK_CANARY].instances[pod], kept);
        }
    }
}

static void draw_metric(struct scenario_draws *draws, size_t m)
{
    const struct evidence_metric *metric = &draws->evidence->metrics[m];
    struct evidence_interval *interval = &metric->intervals[0];
    bool guardrail = m >= draws->policy->metric_count;
    interval->from_ms = draws->at_ms - draws->policy->look_ms;
    interval->at_ms = draws->at_ms;
    if (metric->type == METRIC_ERRORS) {
        draw_errors(draws, guardrail ? first_errors(draws->policy) : &draws->policy->metrics[m], interval);
        return;
    }
    for (int t = 0; t < TRACKS; t++) {
        if (metric->type == METRIC_LATENCY)
            draw_latencies(draws, &interval->tracks[t], (enum track)t);
        else
            draw_samples(draws, &interval->tracks[t], draws->gauge_noise[m][t]);
    }
}

const struct look *scenario_look(struct scenario_draws *draws)
{
    const struct scenario *scenario = &draws->scenario;
    draws->at_ms += draws->policy->look_ms;
    draws->load = next_ar(draws->rng, draws->load, scenario->load_sd, scenario->load_phi);
    for (int t = 0; t < TRACKS; t++)
        draws->arm_noise[t] = next_ar(draws->rng, draws->arm_noise[t], scenario->arm_sd, scenario->arm_phi);
    draw_requests(draws);
    for (size_t m = 0; m < draws->evidence->metric_count; m++)
        draw_metric(draws, m);
    draw_restarts(draws);
    draws->look.from_ms = draws->at_ms - draws->policy->look_ms;
    draws->look.at_ms = draws->at_ms;
    draws->look.weight_bp = draws->weight_bp;
    draws->look.weight_from_ms = draws->weight_from_ms;
    return &draws->look;
}
