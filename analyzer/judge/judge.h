/*
 * The judge: a fold over looks. judge_observe() folds one look into the state, judge_verdict() says what the state
 * means. Pure: no clock, no I/O, no global. The same fold serves a live rollout, a replay and a simulation, and folding
 * the evidence log again gives the same state, bit for bit.
 *
 * What is promised and why: docs/statistics.md.
 */
#ifndef HALDANE_JUDGE_JUDGE_H
#define HALDANE_JUDGE_JUDGE_H

#include "analyzer/model/evidence.h"
#include "analyzer/model/verdict.h"
#include "policies/policy.h"

struct judge;

/* `policy` is borrowed and must outlive the judge. */
struct judge *judge_new(const struct policy *policy);
void judge_free(struct judge *judge);

/*
 * Folds the next look of `evidence` (evidence_next_look). Looks must come in the order of time. A look before the first
 * traffic, in warm-up, across a change of the split or of the instances is no evidence. Stable's counts before the
 * first traffic fix the margins; if they are too few, so do those of the first looks after it, which are not bet on.
 */
void judge_observe(struct judge *judge, const struct evidence *evidence, const struct look *look);

/* How the effect's interval is computed: fast, for every look; or robust against bursts, for the final report. */
enum judge_effects { EFFECTS_LIVE, EFFECTS_ROBUST };

/* The verdict after the last look; the caller frees it. `rollout` is the id to print, or NULL. */
struct verdict *judge_verdict(const struct judge *judge, const char *rollout, enum judge_effects effects);

#endif
