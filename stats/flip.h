/*
 * FLIP: the e-value of one look for "arm X is worse than arm Y by more than allowed", from counts alone. See
 * docs/statistics.md; idea: thin both arms to the same exposure so that at the boundary of the null hypothesis swapping
 * their labels changes nothing in law; then the sign of the difference is a fair coin, whatever the correlation inside
 * the look.
 *
 * Everything is a natural logarithm. Nothing is allocated.
 */
#ifndef HALDANE_STATS_FLIP_H
#define HALDANE_STATS_FLIP_H

#include <stdbool.h>
#include <stdint.h>

enum { FLIP_BETS = 6 };
extern const double flip_ell[FLIP_BETS]; /* 0.1 0.25 0.5 1 2 4 */

enum flip_form {
    FLIP_ABORT, /* H0: p_X <= rho p_Y + delta; large e says X is worse */
    FLIP_NI, /* H0: p_X >= rho p_Y + delta (rho >= 1); large e says X is not worse. Valid for rho p_Y + delta <= 0.8 */
    FLIP_NI_THINNED, /* the same with event thinning; valid for every p. Use it above 0.8 */
};

/* One look: k events among n requests, k <= n. */
struct flip_counts {
    uint64_t k_x, n_x, k_y, n_y;
};

struct flip_null {
    enum flip_form form;
    double rho;   /* > 0; >= 1 for the NI forms */
    double delta; /* >= 0 */
    double p_max; /* FLIP_ABORT with delta > 0: the frozen upper bound of p_Y * t_Y, < 1; 0.1 is the default of 0 */
};

/*
 * ln e for each of the six bets, evaluated on cells (counts of 64 and more are rounded down to cells of about an eighth
 * of a standard deviation; exact validity is kept, see docs/statistics.md). n_x = 0 or n_y = 0 gives zeros. Returns
 * false, and zeros, if the arguments are outside of their domain.
 */
bool flip_log_e(const struct flip_counts *counts, const struct flip_null *null, double log_e[FLIP_BETS]);

/* The same without cells: the form that the reference vectors are for. Cost grows with the counts. */
bool flip_log_e_exact(const struct flip_counts *counts, const struct flip_null *null, double log_e[FLIP_BETS]);

#endif
