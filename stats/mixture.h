/*
 * The e-process of one comparison: the product over looks of per-look e-values, mixed over several bets and, so that a
 * canary that was healthy for long is not given credit for it, over restart times.
 */
#ifndef HALDANE_STATS_MIXTURE_H
#define HALDANE_STATS_MIXTURE_H

#include <stdint.h>

enum { MIXTURE_BETS = 16 };

enum restart {
    RESTART_NONE,    /* all capital at look 1: the fresh per-step proofs */
    RESTART_TAIL,    /* q_1 = 1/2, q_t = 1/(4(T-1)) up to T, then T/(4t(t-1)): never blind, sums to 1. The judge's */
    RESTART_PLANNED, /* q_1 = 1/2 + 1/(2T), q_t = 1/(2T) up to T, then 0: the reference vectors' */
};

struct mixture {
    uint32_t bets; /* 1..MIXTURE_BETS, equal prior weights */
    enum restart restart;
    uint32_t planned;           /* T, the planned number of looks, >= 2 unless RESTART_NONE */
    uint64_t looks;             /* seen so far */
    double log_w[MIXTURE_BETS]; /* ln of the capital in each bet; -INFINITY at first */
    double reserve;             /* capital not yet invested; 1 at first */
};

void mixture_init(struct mixture *mixture, uint32_t bets, enum restart restart, uint32_t planned);

/* Folds one look. `log_e` has one entry per bet; NULL is a look that is no evidence (all zeros; it still counts as a
 * look). */
void mixture_look(struct mixture *mixture, const double log_e[]);

/* ln E; 0 before the first look. */
double mixture_log_e(const struct mixture *mixture);

#endif
