/*
 * Stable's own history as rollouts of nobody: some instances play the canary, the others stable, for a while. Private
 * to this folder.
 */
#ifndef HALDANE_TRIALS_HISTORY_H
#define HALDANE_TRIALS_HISTORY_H

#include "analyzer/model/evidence.h"
#include "base/error.h"
#include "policies/policy.h"

/*
 * The instances of stable that gave counts in nine of ten looks in which there was any, sorted: those that may play the
 * canary. Names are borrowed from the evidence. False with ERROR_DATA if they are fewer than two.
 */
struct pool {
    const char **names; /* owned */
    size_t count;
};
bool pool_find(struct pool *pool, const struct evidence *evidence, const struct policy *policy, struct error *err);
void pool_free(struct pool *pool);

/*
 * Whether a metric can be divided among the instances: a counter that tells them apart, or a gauge that has as many
 * values as there are instances, in their order.
 */
bool history_divides(const struct evidence *evidence, const struct policy *policy, size_t metric);

/*
 * The looks of the evidence from the first to the last that has something of stable. Evidence, policy and pool are
 * borrowed; every metric of the policy is in the evidence.
 */
struct history;
struct history *history_new(const struct evidence *evidence, const struct policy *policy, const struct pool *pool);
void history_free(struct history *history);
size_t history_looks(const struct history *history);
int64_t history_at(const struct history *history, size_t look); /* the end of a look */

/*
 * One rollout at a time over a history. For each thread its own; the history may be shared.
 */
struct split;
struct split *split_open(const struct history *history);
void split_close(struct split *split);

/* Which instances play the canary, as `count` ascending places in the pool, and the seed of what is drawn. */
void split_begin(struct split *split, const size_t *canaries, size_t count, uint32_t seed);

/*
 * Look `look` of the history, with the canary at a weight that is in force since weight_from_ms. At weight 0 there is
 * no canary. Else each of its requests is kept with the probability that gives it the weight's share of the look's
 * requests, or 1 where the instances did not serve so many. Lasts until the next call.
 */
const struct look *split_look(struct split *split, size_t look, uint32_t weight_bp, int64_t weight_from_ms);

/* What judge_observe() wants beside the look. */
const struct evidence *history_evidence(const struct history *history);

#endif
