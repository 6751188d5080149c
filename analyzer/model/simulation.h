/*
 * What simulated rollouts of a policy came to: for each scenario how they ended, how soon, and at what cost to users.
 * Plain data; JSON form: haldane.simulation/1 (docs/commands/simulate.md). The same policy, seed and runs give the same
 * numbers on every machine, however many threads drew them.
 */
#ifndef HALDANE_MODEL_SIMULATION_H
#define HALDANE_MODEL_SIMULATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is wrong with the canary of a scenario. Scenarios that differ only in its size are one curve. */
enum fault { FAULT_NONE, FAULT_ERRORS, FAULT_SLOWER, FAULT_TAIL };

extern const char *const fault_names[]; /* "none", "errors", "slower", "tail" */

/* Over all runs; a run in which it never came to that counts as infinitely late. NAN: the quantile is not reached. */
struct simulation_spread {
    uint64_t runs; /* in which it came to that */
    double median, p90;
};

struct simulation_result {
    char *scenario, *summary; /* owned */
    enum fault fault;
    double size;              /* errors: the ratio, 2 for twice as often; else a share, 0.1 for 10 % slower */
    double rps, error_rate;   /* the simulated traffic */
    int64_t step_ms;          /* 0: the evidence moved the traffic; else every step lasted so long */
    uint64_t runs;            /* = harm + guardrail + promoted + undecided */
    uint64_t harm, guardrail; /* aborted because harm was shown; because a guardrail fired */
    uint64_t promoted;        /* through the last step */
    uint64_t undecided;       /* neither, by the end of the schedule, the deadline or a step */
    uint64_t held;            /* of all: were held for suspected harm at any look */
    struct simulation_spread to_abort_ms;     /* from the onset of the fault (the first traffic if there is none) */
    struct simulation_spread to_promote_ms;   /* from the first traffic */
    struct simulation_spread canary_requests; /* that the canary had until it was aborted */
    struct simulation_spread harmed;          /* that failed until then and would not have on stable, expected */
};

struct simulation {
    char *service; /* owned */
    char policy_sha256[65];
    uint64_t seed, runs; /* runs of each scenario */
    int64_t look_ms;
    double false_abort_limit, false_promote_limit; /* of the policy */
    struct simulation_result *results;             /* owned */
    size_t count;
};

void simulation_free(struct simulation *simulation);

/* count / runs, and the standard error of it, sqrt(p (1 - p) / runs). NAN without runs. */
double simulation_share(uint64_t count, uint64_t runs);
double simulation_error(uint64_t count, uint64_t runs);

/* The Clopper-Pearson interval of count / runs at 95 %; also right where the count is 0 or all. 0 to 1 without runs. */
void simulation_interval(uint64_t count, uint64_t runs, double *low, double *high);

/* Aborts, for whatever reason shown: harm + guardrail. Of a healthy canary they are false. */
uint64_t simulation_aborted(const struct simulation_result *result);

/* The scenario without a fault that was aborted most often; the first of equals. NULL: there is none without a fault.
 */
const struct simulation_result *simulation_worst(const struct simulation *simulation);

/* One line of JSON with its newline; the caller frees it. */
char *simulation_to_json(const struct simulation *simulation);

#endif
