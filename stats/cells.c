/*
 * Probabilities come from the ratio of neighbours, walked from the mode outwards, and are then scaled to the sum they
 * must have. No factorial is evaluated: lgamma loses seven digits at counts of 1e8, the ratios lose none.
 *
 * The walk ends some standard deviations out. On GRID_CELLS that is 7 sd + 12, beyond which every one of these laws has
 * less than 1e-11 of its mass (Bennett's inequality: all are sums of independent indicators, or limits of such). The
 * window is scaled to 1 - 1e-11, so no mass is ever invented; an e-value that misses some is smaller, which is safe. A
 * window that holds the whole support is scaled to 1. Where every cell is one count, which is the usual look, the walk
 * also ends where the probability has fallen to 1e-18 of the mode's: what is left out then is less than rounding.
 *
 * A second step sums one law for every count of the first. Where cells are single counts the generating function of
 * the outcome is a polynomial in (1 - p + p z), and Horner's rule sums it with two products per pair and no division.
 */
#include "stats/cells.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* Bands of width 2^i hold the counts from 4^(i + 3) on, 192 * 2^i cells each; band 0 begins at count 64, cell 64. */
enum { BAND_0 = 64, CELLS_PER_BAND = 192, FIRST_WIDE = BAND_0 + CELLS_PER_BAND };

static const double negligible = 1e-18; /* of the mode's probability */

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

size_t cells_alike(enum grid grid, uint64_t cell)
{
    if (grid == GRID_UNIT)
        return SIZE_MAX;
    uint64_t band = BAND_0;
    for (uint64_t cells = CELLS_PER_BAND; band <= cell; cells *= 2)
        band += cells;
    return (size_t)(band - cell + (cell < BAND_0 ? CELLS_PER_BAND : 0));
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

/* P(c + 1) / P(c) is above / below, for first <= c < last. */
struct ratio {
    double above, below;
};

static inline struct ratio ratio_at(const struct law *law, double c)
{
    switch (law->kind) {
    case LAW_HYPERGEOMETRIC:
        return (struct ratio){(law->a - c) * (law->b - c), (c + 1) * (law->c + c + 1)};
    case LAW_BINOMIAL:
        return (struct ratio){(law->a - c) * law->b, c + 1};
    case LAW_POISSON:
        return (struct ratio){law->a, c + 1};
    }
    return (struct ratio){0, 1};
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

static bool single_counts(enum grid grid, uint64_t last)
{
    return grid == GRID_UNIT || last < FIRST_WIDE;
}

/* The law on single counts, scaled to `sum`; the cells that stay empty at the ends are cut off. */
static void walk_counts(struct spread *to, const struct law *law, struct window window, double total)
{
    double least = to->grid == GRID_UNIT ? 0 : negligible, p = 1, sum = 1;
    size_t mode = (size_t)(law->mode - window.first), first = mode, last = mode;
    size_t end = (size_t)(window.last - window.first);
    to->mass[mode] = 1;
    for (double c = (double)law->mode; last < end; c++) {
        struct ratio r = ratio_at(law, c);
        p *= r.above / r.below;
        if (p < least)
            break;
        to->mass[++last] = p;
        sum += p;
    }
    p = 1;
    for (double c = (double)law->mode - 1; first > 0; c--) {
        struct ratio r = ratio_at(law, c);
        p *= r.below / r.above;
        if (p < least)
            break;
        to->mass[--first] = p;
        sum += p;
    }
    to->first = window.first + first;
    to->count = last - first + 1;
    for (size_t i = 0; i < to->count; i++)
        to->mass[i] = to->mass[first + i] * (total / sum);
}

/* Sums the law by cells, in units of the mode's probability, from the mode up and from below the mode down. */
static void walk_cells(struct spread *to, const struct law *law, struct window window, uint64_t shift)
{
    double p = 1;
    uint64_t cell = cell_of(to->grid, law->mode + shift), next = cell_first(to->grid, cell + 1);
    for (uint64_t c = law->mode;; c++) {
        if (c + shift == next)
            next = cell_first(to->grid, ++cell + 1);
        to->mass[cell - to->first] += p;
        if (c == window.last)
            break;
        struct ratio r = ratio_at(law, (double)c);
        p *= r.above / r.below;
    }
    p = 1;
    cell = cell_of(to->grid, law->mode + shift);
    uint64_t lowest = cell_first(to->grid, cell);
    for (uint64_t c = law->mode; c > window.first; c--) {
        if (c + shift == lowest)
            lowest = cell_first(to->grid, --cell);
        struct ratio r = ratio_at(law, (double)(c - 1));
        p *= r.below / r.above;
        to->mass[cell - to->first] += p;
    }
}

/* What the window is scaled to. */
static double window_mass(const struct law *law, struct window window, enum grid grid)
{
    bool whole = window.first == law->first && window.last == law->last;
    return whole || grid == GRID_UNIT ? 1 : 1 - 1e-11;
}

/* Adds weight * P(shift + law) to `to`, whose cells cover the law's window. */
static void spread_add(struct spread *to, const struct law *law, double weight, uint64_t shift)
{
    struct window window = law_window(law, to->grid);
    struct spread part;
    bool fits = spread_clear(&part, to->grid, (struct window){window.first + shift, window.last + shift});
    assert(fits && part.first >= to->first && part.first + part.count <= to->first + to->count);
    (void)fits;
    walk_cells(&part, law, window, shift);
    double sum = 0;
    for (size_t i = 0; i < part.count; i++)
        sum += part.mass[i];
    double scale = weight * window_mass(law, window, to->grid) / sum;
    for (size_t i = 0; i < part.count; i++)
        to->mass[part.first - to->first + i] += scale * part.mass[i];
}

bool spread_law(struct spread *to, enum grid grid, const struct law *law)
{
    struct window window = law_window(law, grid);
    if (!single_counts(grid, window.last)) {
        if (!spread_clear(to, grid, window))
            return false;
        spread_add(to, law, 1, 0);
        return true;
    }
    if (window.last - window.first >= SPREAD_ROOM)
        return false;
    to->grid = grid;
    walk_counts(to, law, window, window_mass(law, window, grid));
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

/* mass *= stay + move * z, where mass[i] is the coefficient of z^i; it grows by one. */
static void multiply(double mass[], size_t count, double stay, double move)
{
    mass[count] = move * mass[count - 1];
    for (size_t i = count - 1; i > 0; i--)
        mass[i] = stay * mass[i] + move * mass[i - 1];
    mass[0] *= stay;
}

/*
 * With f_i the mass of the count first + i and B = 1 - p + p z, the outcome's generating function is
 *   THIN          B^first sum f_i B^i
 *   ADD_BINOMIAL  z^first B^(m - last) sum f_i z^i B^(last - first - i)
 *   ADD_POISSON   z^first exp(p (z - 1)) sum f_i z^i
 * `inner` gets the sum's coefficients. What stands before it is a shift and one law, the return value.
 */
static struct law outcome_factors(const struct spread *from, const struct step *step, double inner[], uint64_t *shift)
{
    size_t n = from->count;
    uint64_t last = from->first + n - 1;
    *shift = step->kind == STEP_THIN ? 0 : from->first;
    if (step->kind == STEP_ADD_POISSON) {
        memcpy(inner, from->mass, n * sizeof *inner);
        return law_poisson(step->p);
    }
    bool thin = step->kind == STEP_THIN;
    inner[0] = from->mass[thin ? n - 1 : 0];
    for (size_t i = 1; i < n; i++) {
        multiply(inner, i, 1 - step->p, step->p);
        inner[thin ? 0 : i] += from->mass[thin ? n - 1 - i : i];
    }
    return law_binomial(thin ? from->first : step->m - last, step->p);
}

/* The step on single counts. False if the outcome needs wide cells or more room. */
static bool step_counts(struct spread *to, const struct spread *from, const struct step *step)
{
    double inner[SPREAD_ROOM];
    struct spread outer;
    uint64_t shift;
    if (!single_counts(from->grid, from->first + from->count - 1))
        return false;
    struct law law = outcome_factors(from, step, inner, &shift);
    struct window window = law_window(&law, from->grid);
    uint64_t last = window.last + shift + from->count - 1;
    if (!single_counts(from->grid, last) || last - (window.first + shift) >= SPREAD_ROOM ||
        !spread_law(&outer, from->grid, &law))
        return false;
    to->grid = from->grid;
    to->first = shift + outer.first;
    to->count = outer.count + from->count - 1;
    memset(to->mass, 0, to->count * sizeof to->mass[0]);
    for (size_t a = 0; a < from->count; a++)
        for (size_t b = 0; b < outer.count; b++)
            to->mass[a + b] += inner[a] * outer.mass[b];
    return true;
}

bool spread_step(struct spread *to, const struct spread *from, const struct step *step, enum rounding rounding)
{
    if (step_counts(to, from, step))
        return true;
    struct window all = {UINT64_MAX, 0};
    for (size_t i = 0; i < from->count; i++) {
        uint64_t shift = 0;
        struct law law = after(step, representative(from, i, step, rounding), &shift);
        struct window window = law_window(&law, from->grid);
        all.first = window.first + shift < all.first ? window.first + shift : all.first;
        all.last = window.last + shift > all.last ? window.last + shift : all.last;
    }
    if (!spread_clear(to, from->grid, all))
        return false;
    for (size_t i = 0; i < from->count; i++) {
        uint64_t shift = 0;
        struct law law = after(step, representative(from, i, step, rounding), &shift);
        if (from->mass[i] > 0)
            spread_add(to, &law, from->mass[i], shift);
    }
    return true;
}
