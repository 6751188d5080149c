/*
 * Laws of counts on a grid of cells: what FLIP computes with. Internal to stats/.
 *
 * A cell is a run of neighbouring counts that is treated as its lowest count. On GRID_CELLS a count c below 256 is a
 * cell of its own; further up the width is the power of two with sqrt(c)/16 < width <= sqrt(c)/8, about an eighth of
 * the standard deviation of a Poisson count, so that a law of any size takes a few hundred cells. The grid is fixed
 * once and for all. It must not depend on the data: the proof of FLIP lets one nondecreasing function act on both arms.
 */
#ifndef HALDANE_STATS_CELLS_H
#define HALDANE_STATS_CELLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum grid {
    GRID_UNIT,  /* every count its own cell: the exact form */
    GRID_CELLS, /* as above */
};

uint64_t cell_of(enum grid grid, uint64_t count);   /* the number of the cell that holds the count */
uint64_t cell_first(enum grid grid, uint64_t cell); /* its lowest count */
uint64_t cell_last(enum grid grid, uint64_t cell);  /* its highest count */
size_t cells_alike(enum grid grid, uint64_t cell);  /* how many cells from this one on have its width */

/* No spread has cells of more widths: of the counts up to 2^41, the largest that occur, one width per factor of 4. */
enum { CELL_WIDTHS = 24 };

/* A unimodal law on the integers first..last, given by the ratios of neighbouring probabilities. */
struct law {
    enum { LAW_HYPERGEOMETRIC, LAW_BINOMIAL, LAW_POISSON } kind;
    double a, b, c; /* parameters of the ratio */
    uint64_t first, last, mode;
    double sd;
};

struct law law_hypergeometric(uint64_t n, uint64_t k, uint64_t m); /* k of n marked, m <= n drawn: the marked ones */
struct law law_binomial(uint64_t n, double p);                     /* 0 <= p <= 1 */
struct law law_poisson(double mean);                               /* finite, >= 0 */

/*
 * Probability by cells: mass[i] belongs to cell first + i. The sum may be short of 1 by what lies far out in the tails,
 * never above 1 by more than rounding.
 */
enum { SPREAD_ROOM = 4096 };
struct spread {
    enum grid grid;
    uint64_t first;
    size_t count;
    double mass[SPREAD_ROOM];
};

/* The law by itself. False if it needs more than SPREAD_ROOM cells. */
bool spread_law(struct spread *to, enum grid grid, const struct law *law);

/* What happens to a count h next. */
struct step {
    enum { STEP_THIN, STEP_ADD_BINOMIAL, STEP_ADD_POISSON } kind;
    double p;   /* THIN: h -> Bin(h, p). ADD_BINOMIAL: h + Bin(m - h, p). ADD_POISSON: h + Poisson(p) */
    uint64_t m; /* ADD_BINOMIAL: h is at most m */
};

/* Cells stand for their lowest or highest count, so that the outcome errs to a side that is known. */
enum rounding { ROUND_DOWN, ROUND_UP };

/* The law after the step. `to` and `from` differ. False as above. */
bool spread_step(struct spread *to, const struct spread *from, const struct step *step, enum rounding rounding);

#endif
