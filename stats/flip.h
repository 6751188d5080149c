/*
 * FLIP: the e-value of one look for "arm X is worse than arm Y by more than allowed", from counts alone. See
 * docs/statistics.md; idea: thin both arms to the same exposure so that at the boundary of the null hypothesis swapping
 * their labels changes nothing in law; then the sign of the difference is a fair coin, whatever the correlation inside
 * the look.
 *
 * With O and J the thinned counts of X and Y, and b(o, j) a bet that is antisymmetric, rising in o and falling in j,
 *   e = mean over the thinning of 2 / (1 + exp(-2 b(O, J)))   (abort; +2 b in the NI forms)
 * so that e(o, j) + e(j, o) = 2, and e rises in o and falls in j (the reverse in the NI forms). No look can gain more
 * than ln 2. There are two families of bets, with u = (o - j) / sqrt(max(1, o + j)):
 *   flip_log_e()       b = ell u, ell 1/4, 3/4, and b = ln g * (o - j), g 2, 4, 16, where |o - j| counts up to 32. What
 *                      the judge uses. A rate bet is the likelihood ratio against p_X / p_Y = g^2 rho; it is the better
 *                      one for small counts. A bet on u has the same force at every count, and is the better one for
 *                      large counts and noisy arms.
 *   flip_log_e_ells()  b = ell u for the six of flip_ell. The first form: that of the reference vectors and of the
 *                      confidence sequence. tests/bench/bets.c compares the two, and others.
 *   FLIP_ABORT       m = min(nX, nY). O: a random m-subset of X's requests, each event kept with probability tX; J: of
 *                    Y's, with tY. rho >= 1: tX = 1/rho, tY = 1; else tX = 1, tY = rho. Then, for delta > 0,
 *                    J += Binomial(m - J, min(1, delta tX / (1 - p_max)))
 *   FLIP_NI          mX = min(nX, max(1, floor(nY/rho))), mY = min(nY, floor(rho mX)), subsets of these sizes, nothing
 *                    thinned; J += Poisson(mX delta)
 *   FLIP_NI_THINNED  as FLIP_ABORT, but J += Binomial(m - J, min(1, delta tX))
 * m and mX are also kept at or below 2^26, which bounds the time of a look; a smaller m is as valid.
 *
 * What is guaranteed: the mean of e is at most 1 if, given the past and both n, (O, J) and (J, O) have the same law at
 * the boundary. That holds for independent requests of one risk per arm, for risks that are dealt to the arms at
 * random, and for any correlation inside the look that is alike in both arms. It does not follow from equal means
 * alone.
 *
 * Everything is a natural logarithm. Nothing is allocated; a call takes about 300 kB of stack.
 *
 * Sources: the construction is haldane's own (docs/statistics.md has the proof). Signs and self-normalised sums: Efron
 * 1969 (JASA 64:1278), de la Pena 1999 (Ann. Prob. 27:537). Betting: Waudby-Smith & Ramdas 2024 (JRSS B 86:1).
 */
#ifndef HALDANE_STATS_FLIP_H
#define HALDANE_STATS_FLIP_H

#include <stdbool.h>
#include <stdint.h>

enum { FLIP_BETS = 5, FLIP_ELLS = 6 };
extern const double flip_ell[FLIP_ELLS]; /* 0.1 0.25 0.5 1 2 4 */

enum flip_form {
    FLIP_ABORT, /* H0: p_X <= rho p_Y + delta; large e says X is worse */
    FLIP_NI, /* H0: p_X >= rho p_Y + delta (rho >= 1); large e says X is not worse. Valid for rho p_Y + delta <= 0.8 */
    FLIP_NI_THINNED, /* the same with event thinning; valid for every p. Use it above 0.8 */
};

/* One look: k events among n requests, k <= n <= FLIP_REQUESTS. X is the arm that is suspected. */
#define FLIP_REQUESTS (UINT64_C(1) << 40)
struct flip_counts {
    uint64_t k_x, n_x, k_y, n_y;
};

struct flip_null {
    enum flip_form form;
    double rho;   /* > 0, finite; >= 1 for the NI forms */
    double delta; /* 0..1, a probability */
    double p_max; /* FLIP_ABORT with delta > 0: the frozen upper bound of p_Y * t_Y, < 1; 0.1 is the default of 0 */
};

/*
 * ln e for each bet, in the order above, evaluated on cells (counts of 256 and more are rounded down to cells of about
 * an eighth of a standard deviation; exact validity is kept, see docs/statistics.md). Below that e differs from the
 * exact mean by less than 1e-10. n_x = 0 or n_y = 0 gives zeros. k = 0 is ordinary evidence. Returns false, and zeros,
 * if the arguments are outside of their domain.
 *
 * Time: a microsecond for some ten events, some ten for some hundred, below a millisecond for ten thousand and a few
 * for a million (tests/bench/bench_flip.c). Pairs of at most a few hundred cells per arm and, where a thinning has to
 * be summed on wide cells, of the order of sqrt(m) steps for each of them.
 */
bool flip_log_e(const struct flip_counts *counts, const struct flip_null *null, double log_e[FLIP_BETS]);

/* The same for the six ell. */
bool flip_log_e_ells(const struct flip_counts *counts, const struct flip_null *null, double log_e[FLIP_ELLS]);

/*
 * The six ell without cells: what the reference vectors are for. Cost grows with the counts, as the product of both
 * arms' standard deviations. Also false if an arm's law spans more than 4096 counts (some 30 000 events).
 */
bool flip_log_e_exact(const struct flip_counts *counts, const struct flip_null *null, double log_e[FLIP_ELLS]);

#endif
