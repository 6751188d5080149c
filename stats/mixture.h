/*
 * The e-process of one comparison: the product over looks of per-look e-values, mixed over several bets and, so that a
 * canary that was healthy for long is not given credit for it, over restart times.
 *
 * Capital 1 waits in a reserve. At look t the share q_t of it is put into every bet j equally, and then
 *   W_j = (W_j + q_t / J) e_j(t),   E = sum of W_j + reserve.
 * E is >= 0, starts at 1, and its mean never grows under the null hypothesis, because the sum of q_t is at most 1. So
 * P(E ever >= 1/alpha) <= alpha (Ville 1939). A change at look t costs at most ln(1/q_t) nats against a process that
 * had begun there.
 *
 * Sources: Ville 1939, Etude critique de la notion de collectif; Robbins 1970 (Ann. Math. Stat. 41:1397); Howard,
 * Ramdas, McAuliffe & Sekhon 2021 (Ann. Stat. 49:1055); restarts: Shin, Ramdas & Rinaldo (arXiv 2203.03532).
 */
#ifndef HALDANE_STATS_MIXTURE_H
#define HALDANE_STATS_MIXTURE_H

#include <stdint.h>

enum { MIXTURE_BETS = 40 }; /* room for the largest family of bets (SHARE_BETS of stats/share.h) */

enum restart {
    RESTART_NONE,    /* q_1 = 1: all capital at look 1: the fresh per-step proofs */
    RESTART_TAIL,    /* q_1 = .6, q_t = .25/(T-1) up to T, then .15 T/(t(t-1)): never blind, sums to 1. The judge's */
    RESTART_PLANNED, /* q_1 = 1/2 + 1/(2T), q_t = 1/(2T) up to T, then 0: the reference vectors' */
};

/* Plain data: may be copied, stored and restored. Only the functions below write to it. */
struct mixture {
    uint32_t bets; /* 1..MIXTURE_BETS, equal prior weights */
    enum restart restart;
    uint32_t planned;           /* T, the planned number of looks, >= 2 unless RESTART_NONE */
    uint64_t looks;             /* seen so far */
    double log_w[MIXTURE_BETS]; /* ln of the capital in each bet; -INFINITY at first */
    double reserve;             /* capital not yet invested; 1 at first */
};

/* The state before the first look. Arguments outside of the ranges above are a mistake of the program (assert). */
void mixture_init(struct mixture *mixture, uint32_t bets, enum restart restart, uint32_t planned);

/*
 * Folds one look. `log_e` has one entry per bet, each fixed before the look's data were seen; -INFINITY is allowed, NAN
 * is not. NULL is a look that is no evidence (all zeros; it still counts as a look, or the weights q_t would depend on
 * the data).
 */
void mixture_look(struct mixture *mixture, const double log_e[]);

/* ln E; 0 before the first look. */
double mixture_log_e(const struct mixture *mixture);

#endif
