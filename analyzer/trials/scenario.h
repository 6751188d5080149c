/*
 * Made-up services: a scenario says how the traffic, the failures and the latencies of a service with a canary come
 * about, and its draws are looks as a judge gets them. Simulations run a policy over them.
 *
 * The service has `pods` instances, of which the canary owns max(1, round(pods w)) at the share w, and each of an arm's
 * instances gets the same part of the arm's requests. In a look of L seconds an instance gets n ~ Poisson(rps L w_arm /
 * pods_arm) requests, of which k ~ Binomial(n, p) fail. For the canary
 *   p = (1 + (error_ratio - 1) g) p_S + error_added g,   g: 0 before `onset_ms`, rising to 1 over `grow_ms`,
 * and p_S = error_rate, times `incident_errors` during the incident. What makes failures alike:
 *   pod_rho, arm_rho   p is drawn afresh in each look from Beta(p (1-rho)/rho, (1-p) (1-rho)/rho), for each instance or
 *                      for each arm; rho is the correlation of two requests of one of them in one look
 *   arm_sd, arm_phi    p of each arm is multiplied by exp(z - sd^2/2); z is a Gaussian AR(1) over looks of its own
 *   bursts             Poisson(`bursts`) a look, each of geometric size with mean `burst_errors`, in an arm drawn by
 *                      its share of the traffic, in neighbouring instances of it
 *
 * Latency is log-normal with median `latency_s` and sigma `latency_sigma`, times exp of a load that both arms share (a
 * Gaussian AR(1) over looks: load_sd, load_phi), times exp of a Gaussian of each instance and look (pod_latency_sd).
 * All latencies of the canary are longer by `slower` g. Those above the 90 % quantile are stretched away from it, so
 * that the 99 % quantile is longer by `tail_slower` g. Prometheus's default buckets count them. Gauges get samples
 * around 100 that share the load, with 5 % of noise of each instance (a Gaussian AR(1) over looks: gauge_phi); no
 * scenario makes them worse.
 *
 * A restart of a canary instance, `restarts` a look on average, loses what it had counted in a part of the look.
 */
#ifndef HALDANE_TRIALS_SCENARIO_H
#define HALDANE_TRIALS_SCENARIO_H

#include "analyzer/model/evidence.h"
#include "analyzer/model/simulation.h"
#include "policies/policy.h"

#include <stdbool.h>
#include <stdint.h>

enum { SCENARIO_PODS = 64 }; /* at most so many instances */

struct scenario {
    const char *name, *summary; /* borrowed */
    double rps;                 /* requests a second of the whole service, > 0 */
    double error_rate;          /* stable's, 0..1 */
    unsigned pods;              /* 2..SCENARIO_PODS */

    double latency_s, latency_sigma;
    double load_sd, load_phi; /* phi: 0..1, below 1 */

    double error_ratio, error_added; /* 1 and 0: as stable */
    bool at_margin;                  /* instead of these two: each metric's own promote_below, exactly */
    double slower, tail_slower;      /* shares: 0.1 is 10 % slower */
    int64_t onset_ms, grow_ms;       /* from the first traffic on; grow_ms 0: at once */

    double pod_rho, arm_rho; /* 0..1, below 1 */
    double pod_latency_sd;
    double gauge_phi; /* 0..1, below 1 */
    double arm_sd, arm_phi;
    double bursts, burst_errors;
    int64_t incident_from_ms, incident_to_ms; /* from the first traffic on; equal: none */
    double incident_errors, incident_slower;  /* factors for both arms */
    double restarts;                          /* a look */

    /*
     * How traffic moves. 0: as the evidence says; a step is left when the judge promotes. Else each step with at most
     * half of the traffic lasts so long, whatever the evidence says, and all of them are gone through `rounds` times.
     */
    int64_t step_ms;
    unsigned rounds; /* >= 1 */
};

/*
 * The named scenarios. Traffic of `rps` requests a second, of which `error_rate` fail, but for those whose names say
 * another traffic. scenario_named() returns false if there is none of that name; scenario_count and scenario_name()
 * list them.
 */
extern const size_t scenario_count;
const char *scenario_name(size_t index);
const char *scenario_summary(size_t index);
bool scenario_named(const char *name, double rps, double error_rate, struct scenario *scenario);

/* Which fault the canary has. `size` (may be NULL): the ratio of errors, 2 for twice; or how much slower, 0.1. */
enum fault scenario_fault(const struct scenario *scenario, double *size);
bool scenario_is_healthy(const struct scenario *scenario);

/*
 * The draws of one scenario for the metrics of one policy. They hold the present look only, in memory that is allocated
 * once, so any number of runs may be made with one of them. The policy is borrowed, the scenario copied. Not for two
 * threads at a time.
 */
struct scenario_draws;
struct scenario_draws *scenario_open(const struct scenario *scenario, const struct policy *policy);
void scenario_close(struct scenario_draws *draws);
const struct scenario *scenario_of(const struct scenario_draws *draws);
const struct policy *scenario_policy(const struct scenario_draws *draws);

/*
 * Begins run `run` of `seed`: back to the time before the first traffic, with random numbers of its own. Two runs of
 * one seed never share them (below 2^32 runs); the same numbers give the same looks, whatever was drawn before.
 */
void scenario_begin(struct scenario_draws *draws, uint64_t seed, uint64_t run);

/* The canary's share from the end of the last look on, 0..10000. */
void scenario_weight(struct scenario_draws *draws, uint32_t weight_bp);

/* Draws the next look, as judge_observe() wants it together with scenario_evidence(). Lasts until the next one. */
const struct look *scenario_look(struct scenario_draws *draws);
const struct evidence *scenario_evidence(const struct scenario_draws *draws);

/* What is true of the last look, where a judge sees only samples. */
struct scenario_truth {
    int64_t since_traffic_ms;  /* the end of the look; 0 before the first traffic */
    uint64_t requests[TRACKS]; /* in this look */
    double error_rate[TRACKS]; /* without the noise; of the policy's first metric of failures */
    double harmed;             /* requests of the canary that fail beyond stable's rate, expected, >= 0 */
};
struct scenario_truth scenario_truth(const struct scenario_draws *draws);

#endif
