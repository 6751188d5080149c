/*
 * Monte Carlo: the judge that decides live rollouts, run over many made-up ones. What a policy does to a healthy canary
 * and to bad ones is counted, not computed, so it holds whatever the judge is made of.
 *
 * The judge sees the looks at once; a live rollout sees each one the policy's `settle` later. A step with `pause` is
 * left as if somebody agreed at once.
 */
#ifndef HALDANE_TRIALS_SIMULATE_H
#define HALDANE_TRIALS_SIMULATE_H

#include "analyzer/model/simulation.h"
#include "analyzer/trials/scenario.h"

/* How one simulated rollout ended. */
enum trial_end {
    TRIAL_HARM,      /* aborted: harm was shown */
    TRIAL_GUARDRAIL, /* aborted beside false_abort: a guardrail fired, or Kayenta's score was too low */
    TRIAL_PROMOTED,
    TRIAL_UNDECIDED, /* the schedule, the deadline or, as the policy says, a step was over */
};

struct trial {
    enum trial_end end;
    bool held;                /* for suspected harm, at any look */
    int64_t ended_ms;         /* from the first traffic */
    uint64_t canary_requests; /* until the end */
    double harmed;            /* until the end, as scenario_truth() */
};

/*
 * One rollout: run `run` of `seed` of the draws' scenario under their policy. O(looks) time; the memory of one judge.
 * Safe in several threads with draws of their own.
 */
struct trial trial_run(struct scenario_draws *draws, uint64_t seed, uint64_t run);

struct simulate_setup {
    const struct policy *policy; /* everything borrowed */
    const struct scenario *scenarios;
    size_t scenario_count;
    uint64_t runs, seed;                                          /* runs of each scenario, >= 1 */
    unsigned threads;                                             /* >= 1 */
    void (*progress)(uint64_t done, uint64_t all, void *context); /* in the caller's thread after runs; may be NULL */
    void *context;
};

/* All runs of all scenarios. The numbers do not depend on `threads`. The caller frees them. */
struct simulation *simulate(const struct simulate_setup *setup);

#endif
