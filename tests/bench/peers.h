/*
 * The rules by which others judge a canary, folded over the same looks as haldane's judge: the benchmark's other
 * columns. Looks are 15 s; an arm is the sum over its instances. What is compared: each errors metric as a rate in
 * percent, each latency metric as its p99 in milliseconds, each gauge as the mean over its instances.
 *
 *   PEER_KAYENTA_STEPS    stats/kayenta.h with its defaults, more is worse: confidence .98, tolerance .25, one point a
 *                         look, over the step that has just ended. Any metric that is High aborts. Percent and
 *                         milliseconds, because Kayenta finds the ends of its interval to an absolute 1e-4.
 *   PEER_KAYENTA_LOOKS    the same at each look, over the present step, from 4 points on
 *   PEER_RANKS_STEPS      the one-sided test of Mann and Whitney at 5 %, on the same points, at the step's end
 *   PEER_RANKS_LOOKS      the same at each look
 *   PEER_THRESHOLD        as Flagger and Argo Rollouts are set up: each minute, the canary's errors above 1 % or its
 * p99 (as histogram_quantile() gives it) above 500 ms is a failed check; the fifth one aborts. Failed checks are never
 * forgotten. A minute without requests is no check. PEER_FISHER_ERRORS    Fisher's exact one-sided test at 5 %, at each
 * look, on the sums since the first traffic PEER_FISHER_BOTH      the same on errors and on requests slower than 250
 * ms: either aborts PEER_SPRT             Wald's test of the true ratio of the error rates against 1, at threshold 20:
 * the limit, which nobody can use, because nobody knows the ratio. Without a ratio above 1 it never aborts.
 */
#ifndef HALDANE_BENCH_PEERS_H
#define HALDANE_BENCH_PEERS_H

#include "analyzer/model/evidence.h"

enum peer {
    PEER_KAYENTA_STEPS,
    PEER_KAYENTA_LOOKS,
    PEER_RANKS_STEPS,
    PEER_RANKS_LOOKS,
    PEER_THRESHOLD,
    PEER_FISHER_ERRORS,
    PEER_FISHER_BOTH,
    PEER_SPRT,
    PEERS
};

/* Of one rollout at a time; memory is allocated once. `asked` says which of them judge at all. */
struct peers;
struct peers *peers_new(const bool asked[PEERS]);
void peers_free(struct peers *peers);

/* A new rollout. `ratio` is what PEER_SPRT knows; 1 if there is nothing to know. */
void peers_begin(struct peers *peers, double ratio);

/* Folds a look in which both arms had traffic; `ends_step`: the split changes after it, or the schedule is over. */
void peers_look(struct peers *peers, const struct evidence *evidence, const struct look *look, bool ends_step);

bool peers_abort(const struct peers *peers, enum peer peer);
bool peers_all_abort(const struct peers *peers); /* all that were asked: the rest of the rollout changes nothing */

#endif
