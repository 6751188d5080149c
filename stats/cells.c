/*
 * Probabilities come from the ratio of neighbours, walked from the mode outwards, and are then scaled to the sum they
 * must have. No factorial is evaluated: lgamma loses seven digits at counts of 1e8, the ratios lose none.
 *
 * The walk ends some standard deviations out. On GRID_CELLS that is 7 sd + 12, beyond which every one of these laws has
 * less than 1e-11 of its mass (Bennett's inequality: all are sums of independent indicators, or limits of such). The
 * window is scaled to 1 - 1e-11, so no mass is ever invented; an e-value that misses some is smaller, which is safe. A
 * window that holds the whole support is scaled to 1.
 */
#include "stats/cells.h"

#include <assert.h>
#include <math.h>

/* Bands of width 2^i hold the counts from 4^(i + 3) on, 192 * 2^i cells each; band 0 begins at count 64, cell 64. */
enum { BAND_0 = 64, CELLS_PER_BAND = 192 };

static unsigned log2_floor(uint64_t x)
{
    return 63U - (unsigned)__builtin_clzll(x);
}

uint64_t cell_of(enum grid grid, uint64_t count)
{
    if (grid == GRID_UNIT || count < BAND_0)
        return count;
    unsigned i = log2_floor(count) / 2 - 3;
    uint64_t band = BAND_0 + CELLS_PER_BAND * ((UINT64_C(1) << i) - 1);
    return band + ((count - (UINT64_C(1) << (2 * i + 6))) >> i);
}

uint64_t cell_first(enum grid grid, uint64_t cell)
{
    if (grid == GRID_UNIT || cell < BAND_0)
        return cell;
    unsigned i = log2_floor((cell - BAND_0) / CELLS_PER_BAND + 1);
    uint64_t band = BAND_0 + CELLS_PER_BAND * ((UINT64_C(1) << i) - 1);
    return (UINT64_C(1) << (2 * i + 6)) + ((cell - band) << i);
}

uint64_t cell_last(enum grid grid, uint64_t cell)
{
    return cell_first(grid, cell + 1) - 1;
}

static uint64_t between(double x, uint64_t low, uint64_t high)
{
    if (!(x > (double)low))
        return low;
    return x < (double)high ? (uint64_t)x : high;
}

struct law law_hypergeometric(uint64_t n, uint64_t k, uint64_t m)
{
    uint64_t first = k > n - m ? k - (n - m) : 0, last = k < m ? k : m;
    double N = (double)n, K = (double)k, M = (double)m;
    double variance = n < 2 ? 0 : M * (K / N) * ((N - K) / N) * ((N - M) / (N - 1));
    return (struct law){.kind = LAW_HYPERGEOMETRIC,
                        .a = K,
                        .b = M,
                        .c = N - K - M,
                        .first = first,
                        .last = last,
                        .mode = between((M + 1) * (K + 1) / (N + 2), first, last),
                        .sd = sqrt(variance)};
}

struct law law_binomial(uint64_t n, double p)
{
    double N = (double)n;
    uint64_t first = p >= 1 ? n : 0, last = p <= 0 ? 0 : n;
    return (struct law){.kind = LAW_BINOMIAL,
                        .a = N,
                        .b = p / (1 - p),
                        .first = first,
                        .last = last,
                        .mode = between((N + 1) * p, first, last),
                        .sd = sqrt(N * p * (1 - p))};
}

struct law law_poisson(double mean)
{
    uint64_t last = mean > 0 ? UINT64_MAX / 2 : 0;
    return (struct law){
        .kind = LAW_POISSON, .a = mean, .first = 0, .last = last, .mode = between(mean, 0, last), .sd = sqrt(mean)};
}

/* P(c + 1) / P(c), for first <= c < last. */
static double ratio_up(const struct law *law, double c)
{
    switch (law->kind) {
    case LAW_HYPERGEOMETRIC:
        return (law->a - c) * (law->b - c) / ((c + 1) * (law->c + c + 1));
    case LAW_BINOMIAL:
        return (law->a - c) * law->b / (c + 1);
    case LAW_POISSON:
        return law->a / (c + 1);
    }
    return 0;
}

struct window {
    uint64_t first, last;
};

static struct window law_window(const struct law *law, enum grid grid)
{
    double sds = grid == GRID_UNIT ? 10 : 7;
    uint64_t reach = (uint64_t)ceil(sds * law->sd) + 13; /* 12, and 1 from the mode to the mean */
    return (struct window){law->mode - law->first > reach ? law->mode - reach : law->first,
                           law->last - law->mode > reach ? law->mode + reach : law->last};
}

static bool spread_clear(struct spread *spread, enum grid grid, struct window counts)
{
    uint64_t first = cell_of(grid, counts.first), last = cell_of(grid, counts.last);
    if (last - first >= SPREAD_ROOM)
        return false;
    spread->grid = grid;
    spread->first = first;
    spread->count = (size_t)(last - first) + 1;
    for (size_t i = 0; i < spread->count; i++)
        spread->mass[i] = 0;
    return true;
}

/* Sums the law by cells, in units of the mode's probability, from the mode up and from below the mode down. */
static void walk(struct spread *to, const struct law *law, struct window window, uint64_t shift)
{
    double p = 1;
    uint64_t cell = cell_of(to->grid, law->mode + shift), next = cell_first(to->grid, cell + 1);
    for (uint64_t c = law->mode;; c++) {
        if (c + shift == next)
            next = cell_first(to->grid, ++cell + 1);
        to->mass[cell - to->first] += p;
        if (c == window.last)
            break;
        p *= ratio_up(law, (double)c);
    }
    p = 1;
    cell = cell_of(to->grid, law->mode + shift);
    uint64_t lowest = cell_first(to->grid, cell);
    for (uint64_t c = law->mode; c > window.first; c--) {
        if (c + shift == lowest)
            lowest = cell_first(to->grid, --cell);
        p /= ratio_up(law, (double)(c - 1));
        to->mass[cell - to->first] += p;
    }
}

/* Adds weight * P(shift + law) to `to`, whose cells cover the law's window. */
static void spread_add(struct spread *to, const struct law *law, double weight, uint64_t shift)
{
    struct window window = law_window(law, to->grid);
    struct spread part;
    bool fits = spread_clear(&part, to->grid, (struct window){window.first + shift, window.last + shift});
    assert(fits && part.first >= to->first && part.first + part.count <= to->first + to->count);
    (void)fits;
    walk(&part, law, window, shift);
    double sum = 0;
    for (size_t i = 0; i < part.count; i++)
        sum += part.mass[i];
    bool whole = window.first == law->first && window.last == law->last;
    double scale = weight * (whole || to->grid == GRID_UNIT ? 1 : 1 - 1e-11) / sum;
    for (size_t i = 0; i < part.count; i++)
        to->mass[part.first - to->first + i] += scale * part.mass[i];
}

bool spread_law(struct spread *to, enum grid grid, const struct law *law)
{
    if (!spread_clear(to, grid, law_window(law, grid)))
        return false;
    spread_add(to, law, 1, 0);
    return true;
}

/* The law of the count after the step, given that it was h before: `*shift` plus the law that is returned. */
static struct law after(const struct step *step, uint64_t h, uint64_t *shift)
{
    switch (step->kind) {
    case STEP_THIN:
        *shift = 0;
        return law_binomial(h, step->p);
    case STEP_ADD_BINOMIAL:
        *shift = h;
        return law_binomial(step->m - h, step->p);
    case STEP_ADD_POISSON:
        *shift = h;
        return law_poisson(step->p);
    }
    return law_poisson(0);
}

static uint64_t representative(const struct spread *spread, size_t i, const struct step *step, enum rounding rounding)
{
    uint64_t cell = spread->first + i;
    if (rounding == ROUND_DOWN)
        return cell_first(spread->grid, cell);
    uint64_t high = cell_last(spread->grid, cell);
    return step->kind == STEP_ADD_BINOMIAL && high > step->m ? step->m : high;
}

bool spread_step(struct spread *to, const struct spread *from, const struct step *step, enum rounding rounding)
{
    struct window all = {UINT64_MAX, 0};
    for (size_t i = 0; i < from->count; i++) {
        uint64_t shift;
        struct law law = after(step, representative(from, i, step, rounding), &shift);
        struct window window = law_window(&law, from->grid);
        all.first = window.first + shift < all.first ? window.first + shift : all.first;
        all.last = window.last + shift > all.last ? window.last + shift : all.last;
    }
    if (!spread_clear(to, from->grid, all))
        return false;
    for (size_t i = 0; i < from->count; i++) {
        uint64_t shift;
        struct law law = after(step, representative(from, i, step, rounding), &shift);
        if (from->mass[i] > 0)
            spread_add(to, &law, from->mass[i], shift);
    }
    return true;
}
