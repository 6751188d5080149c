/*
 * Gauges: the e-value of one pair of measurements, canary and stable, of anything that has no counts (memory, queue
 * length, a business number). Only the sign and the relative size of the difference count, as in stats/flip.h:
 *   e_l = 2 / (1 + exp(-2 ell_l d / scale)),   l = 1..6
 * where d is the difference beyond what is allowed, and scale is the median of what |d| was so far.
 *
 * The mean of e is at most 1 if, given the past, d is symmetric about a value <= 0. Any scale, any tails, any change of
 * level that both arms share. What breaks it is noise of one arm that lasts: a canary that happens to stand 1 above
 * stable for an hour differs, and no method can know why. Two devices against it: a margin (tau, margin), and one bet
 * for each block of B looks, on the block's mean, with B so long that neighbouring blocks hardly know of each other
 * (gauge_block()). False alarms of private noise, no margin, 160 looks, threshold 20, 4000 runs: independent .03; AR(1)
 * with .5: .40, by blocks of 8 .03; with .9: .94, by blocks of 16 .03. A pod that is constantly off cannot be repaired
 * by blocks; that takes a margin. So do skew values where the canary is the mean of fewer instances than stable is: the
 * mean of many is seldom far from its own mean, one value of a skew law is mostly below it (docs/statistics.md).
 *
 * The price: no block can multiply E by more than 2, and the first three only give the scale, so E = 20 takes at least
 * eight blocks (RESTART_TAIL), however gross the harm. Within 160 looks blocks of 32 refute nothing.
 *
 * With B > 1, E is to be read when a block is complete. In mid-block it stands still; a stop decided just then by
 * something that already knows the block's first looks is outside of the proof.
 *
 * Nothing depends on the unit of the gauge, but for `margin`, which is in that unit.
 *
 * Sources: symmetric self-normalised sums: Efron 1969 (JASA 64:1278), de la Pena 1999 (Ann. Prob. 27:537); betting:
 * Waudby-Smith & Ramdas 2024 (JRSS B 86:1).
 */
#ifndef HALDANE_STATS_GAUGE_H
#define HALDANE_STATS_GAUGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GAUGE_BETS = 6 };
extern const double gauge_ell[GAUGE_BETS]; /* 0.1 0.25 0.5 1 2 4 */

enum gauge_direction {
    GAUGE_INCREASE, /* more is worse */
    GAUGE_DECREASE, /* less is worse */
};

/*
 * The difference beyond the allowance: canary - stable - tau |stable| - margin, or, for GAUGE_DECREASE, stable - canary
 * - tau |stable| - margin. tau >= 0 is relative to stable, margin >= 0 in the gauge's unit. Where either direction is
 * bad, run both, each with its own process and mixture, and average the two E (log_weighted_average()).
 */
double gauge_difference(double canary, double stable, double tau, double margin, enum gauge_direction direction);

/* ln e of one bet: ln 2 - ln(1 + exp(-2 ell d / scale)). Domain: d finite, scale > 0, ell > 0; NAN outside of it. */
double gauge_log_e(double d, double scale, double ell);

/*
 * The bets of one gauge in one direction. Plain data; only the functions below write to it. The array is the caller's
 * and must outlive the process.
 */
struct gauge_process {
    double *past; /* |d| of each bet so far, ascending; `room` entries of which `count` are used */
    size_t room;  /* >= 4. When it is full the scale stays as it is, which is as valid */
    size_t count;
    uint32_t block;  /* B, looks per bet */
    uint32_t filled; /* looks in the present block */
    double sum;      /* of their d */
};

/* The state before the first look; block >= 1. Room for each look is enough: 8 bytes each. */
void gauge_init(struct gauge_process *process, double past[], size_t room, uint32_t block);

/*
 * Folds the difference of one look and gives log_e, one entry per gauge_ell, for mixture_look(). At a block's last look
 * the bet is on the mean d of the block, with the scale from the blocks before; all other looks give zeros. There is no
 * bet before the fourth block. The scale is the median of past |d|, the largest one if the median is 0; while all are 0
 * there is no scale, and no bet. Returns whether a bet was made.
 *
 * A d that is not finite is a look without data: zeros, and it is not counted into the block. Whether data are missing
 * must not hang on what they would have been. One bet costs a search and a shift of at most `count` numbers.
 */
bool gauge_look(struct gauge_process *process, double d, double log_e[GAUGE_BETS]);

/*
 * ---- the length of a block ----
 */

#define GAUGE_AUTOCORRELATION 0.1 /* what neighbouring blocks may have */

struct gauge_blocks {
    uint32_t looks; /* B: 1, 2, 4, 8, 16 or 32 */
    enum {
        GAUGE_MEASURED, /* on at least 100 blocks of that length */
        GAUGE_MODELLED, /* by the model below */
        GAUGE_UNKNOWN,  /* fewer than 10 differences, or no variation at all: B = 32, the most cautious choice */
    } source;
    double autocorrelation; /* what B leaves, an upper estimate; NAN if unknown. Not below 0.1: no B is long enough */
};

/*
 * The smallest B whose block means have a lag-1 autocorrelation below GAUGE_AUTOCORRELATION in the history: differences
 * of consecutive looks before the rollout, from pods that all run the same (two groups of stable's pods, say). NAN is a
 * missing look. If no B of up to 32 does it, 32, and `autocorrelation` says what is left: then looks should be longer,
 * or the gauge should not stop anything.
 *
 * Every estimate r from m values is raised by its bias and one standard error, so that a short history leads to longer
 * blocks, not to braver ones:  r + (1 + 3r)/m + sqrt((1 - r^2)/m).
 * From 100 blocks on the block means themselves are measured. With fewer an AR(1) process with coefficient phi stands
 * for the history; its block means have
 *   C = phi ((1 - phi^B) / (1 - phi))^2,  V = B (1 + phi)/(1 - phi) - 2 phi (1 - phi^B)/(1 - phi)^2,  C / V.
 * phi is the raised r_1, or, if larger, r_k^(1/k) for those lags k = 2, 4, 8 at which r_k is above 2/sqrt(m): fast
 * noise on top of a slow drift must not hide the drift.
 *
 * One history cannot show what lasts longer than itself. O(n) per B.
 *
 * Sources: bias: Kendall 1954 (Biometrika 41:403), Marriott & Pope 1954 (Biometrika 41:390); standard error: Bartlett
 * 1946 (JRSS Suppl. 8:27).
 */
struct gauge_blocks gauge_block(const double differences[], size_t n);

#endif
