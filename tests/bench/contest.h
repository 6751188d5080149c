/*
 * Haldane and its peers on the same made-up looks: a schedule that does not wait for anybody's verdict, so that each
 * rule sees the whole of it until it aborts.
 */
#ifndef HALDANE_BENCH_CONTEST_H
#define HALDANE_BENCH_CONTEST_H

#include "analyzer/trials/scenario.h"
#include "tests/bench/peers.h"

/* The rules, in the order of the columns. Haldane comes with the policy's margins, and with none. */
enum rule { RULE_HALDANE, RULE_HALDANE_ZERO, RULE_PEERS, RULES = RULE_PEERS + PEERS };

struct contest {
    const struct scenario *scenario;    /* step_ms > 0; borrowed */
    const struct policy *policy, *zero; /* the same metrics in both, with and without margins; borrowed */
    bool asked[RULES];
    double ratio; /* what PEER_SPRT knows; 1: nothing */
    uint64_t runs, seed;
    unsigned jobs; /* threads, >= 1 */
};

/*
 * What one rule came to. A run that was aborted before the onset of the fault says nothing of the fault and is left
 * out. A run without an abort counts as infinitely late; NAN: less than half of the runs were aborted.
 */
struct contest_result {
    uint64_t runs, aborts;  /* runs: without those that are left out */
    double delay_ms;        /* median, from the onset of the fault */
    double canary_requests; /* median, until the abort */
    double harmed;          /* median, until the abort, as scenario_truth() */
};

/* The numbers do not depend on `jobs`. */
void contest_run(const struct contest *contest, struct contest_result results[RULES]);

#endif
