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

/*
 * Looks of stable before the first traffic that the judge is to be shown, to know stable's normal level from, and how
 * long a gauge's noise lasts: the same live, in a replay and in a simulation.
 */
enum { HISTORY_LOOKS = 100 };

struct judge;

/* `policy` is borrowed and must outlive the judge. */
struct judge *judge_new(const struct policy *policy);
void judge_free(struct judge *judge);

/*
 * Folds the next look of `evidence` (evidence_next_look). Looks must come in the order of time. A look before the first
 * traffic, in warm-up, across a change of the split or of the instances, or in which the balancer took a server out of
 * traffic or let it in again, is no evidence. Stable's counts before the
 * first traffic fix the margins; if they are too few, so do those of the first looks after it, which are not bet on.
 */
void judge_observe(struct judge *judge, const struct evidence *evidence, const struct look *look);

/* Why the decision is what it is. `which` is the metric or guardrail that it is about. */
enum judge_cause {
    BECAUSE_NO_LOOK,    /* hold: nothing seen yet */
    BECAUSE_HARM,       /* abort: harm of metric `which` is shown, with risk false_abort over the whole rollout */
    BECAUSE_GUARDRAIL,  /* abort: guardrail `which` of the policy fired; one past the last is the crash guardrail */
    BECAUSE_KAYENTA,    /* abort: Kayenta's score is below its marginal limit */
    BECAUSE_SILENT,     /* metric `which` has no data: hold, or abort after long as its `on_no_data` says */
    BECAUSE_SUSPECTED,  /* hold: harm of metric `which` is likely, but not shown, or it may not abort */
    BECAUSE_UNPROVEN,   /* hold: the proof that metric `which` is within its margin is not complete */
    BECAUSE_EXPIRED,    /* the step is over without that proof: as `undecided` says */
    BECAUSE_NO_GATE,    /* hold: no metric that decides has data */
    BECAUSE_NOT_FRESH,  /* hold: proven, but the last look had no data of both sides */
    BECAUSE_TOO_EARLY,  /* hold: proven, but the step lasts longer */
    BECAUSE_PROVEN,     /* promote */
    BECAUSE_NO_TRAFFIC, /* hold: the canary has none */
    BECAUSE_NO_STEP,    /* hold: the weight is above half of the traffic and no step of the policy */
    BECAUSE_BAKING,     /* hold: above half of the traffic, until the time is over */
    BECAUSE_BAKED,      /* promote */
};

struct judge_standing {
    enum decision decision;
    enum judge_cause cause;
    size_t which;
};

/* The decision after the last look without its sentences: what the verdict says, at a small part of the cost. */
struct judge_standing judge_standing(const struct judge *judge);

/* How the effect's interval is computed: fast, for every look; or robust against bursts, for the final report. */
enum judge_effects { EFFECTS_LIVE, EFFECTS_ROBUST };

/* The verdict after the last look; the caller frees it. `rollout` is the id to print, or NULL. */
struct verdict *judge_verdict(const struct judge *judge, const char *rollout, enum judge_effects effects);

#endif
