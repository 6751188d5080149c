/*
 * A/A replay: the judge that decides live rollouts, run over rollouts in which nothing is wrong. The history of
 * stable's own instances is divided at random into a canary and a stable, many times; every abort is a false one. What
 * the noise of this service does to this policy is counted, whatever that noise is like.
 */
#ifndef HALDANE_TRIALS_CALIBRATE_H
#define HALDANE_TRIALS_CALIBRATE_H

#include "analyzer/model/calibration.h"
#include "analyzer/model/evidence.h"
#include "base/error.h"

struct calibrate_setup {
    const struct policy *policy;     /* everything borrowed */
    const struct evidence *evidence; /* what stable gave, by instance, in looks that the policy's are a multiple of */
    unsigned canaries;               /* instances that play the canary; 0: as many as the policy's balancer has */
    uint64_t runs, seed;             /* draws for each look and margin; >= 1 */
    unsigned threads;                /* >= 1 */
    void (*progress)(uint64_t done, uint64_t all, void *context); /* in the caller's thread after draws; may be NULL */
    void *context;
};

/*
 * A draw is a choice of instances and of a beginning. The policy's compared steps follow each other at their `max`, as
 * far as the history reaches; judged is what they gave, thinned to each step's share of the traffic.
 *
 * Draws share the history, so they are not independent. The standard error of a rate p of n draws whose beginnings fall
 * into G windows of a rollout's length is
 *   sqrt(G/(G-1) (sum S_g^2 + 2 max(0, sum S_g S_{g+1}))) / n,   S_g = sum over window g of (aborted - p),
 * with the neighbours because their rollouts overlap, at least sqrt(p (1-p)/n), and with one window sqrt(p (1-p)): all
 * draws may then be the same. Source: the cluster-robust variance (Liang & Zeger 1986, Biometrika 73:13).
 *
 * The looks of the grid are 1, 2, 4 and 8 of the policy's, as far as the history holds a rollout of the same length
 * with them. A metric keeps within its limit if its rate and two standard errors do. The recommendation takes the
 * smallest look and then each metric's smallest margin, checked together on more draws from the same history; if that
 * fails, the margin of the metric with the highest rate for its limit is widened.
 *
 * The numbers do not depend on `threads`. NULL with ERROR_DATA where the history has fewer than two instances of stable
 * or is too short. The caller frees it.
 */
struct calibration *calibrate(const struct calibrate_setup *setup, struct error *err);

#endif
