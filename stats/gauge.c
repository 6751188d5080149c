/* The past is kept sorted, so that its median is at hand; looks are few enough to make room for a new value by a shift.
 */
#include "stats/gauge.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "stats/logmath.h"

const double gauge_ell[GAUGE_BETS] = {0.1, 0.25, 0.5, 1, 2, 4};

enum { FIRST_BET = 4 };

double gauge_difference(double canary, double stable, double tau, double margin, enum gauge_direction direction)
{
    double worse = direction == GAUGE_INCREASE ? canary - stable : stable - canary;
    return worse - tau * fabs(stable) - margin;
}

double gauge_log_e(double d, double scale, double ell)
{
    if (!isfinite(d) || !(scale > 0) || !(ell > 0))
        return NAN;
    return M_LN2 - log1p_exp(-2 * ell * (d / scale));
}

void gauge_init(struct gauge_process *process, double past[], size_t room, uint32_t block)
{
    assert(room >= FIRST_BET && block >= 1);
    *process = (struct gauge_process){.past = past, .room = room, .block = block};
}

/* 0 if there is none */
static double scale_of(const struct gauge_process *process)
{
    size_t n = process->count;
    if (n == 0)
        return 0;
    double median = process->past[(n - 1) / 2] / 2 + process->past[n / 2] / 2;
    return median > 0 ? median : process->past[n - 1];
}

static void remember(struct gauge_process *process, double size)
{
    if (process->count == process->room)
        return;
    size_t low = 0, high = process->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (process->past[middle] < size)
            low = middle + 1;
        else
            high = middle;
    }
    memmove(&process->past[low + 1], &process->past[low], (process->count - low) * sizeof process->past[0]);
    process->past[low] = size;
    process->count++;
}

bool gauge_look(struct gauge_process *process, double d, double log_e[GAUGE_BETS])
{
    memset(log_e, 0, GAUGE_BETS * sizeof log_e[0]);
    if (!isfinite(d))
        return false;
    process->sum += d / process->block;
    if (++process->filled < process->block)
        return false;
    double mean = process->sum, scale = scale_of(process);
    bool bet = process->count + 1 >= FIRST_BET && scale > 0;
    for (int l = 0; bet && l < GAUGE_BETS; l++)
        log_e[l] = gauge_log_e(mean, scale, gauge_ell[l]);
    remember(process, fabs(mean));
    process->filled = 0;
    process->sum = 0;
    return bet;
}

/* ---- the length of a block ---- */

enum { LONGEST_BLOCK = 32, LEAST_HISTORY = 10, ENOUGH_BLOCKS = 100 };

/* A history seen as the means of blocks of `block` looks. */
struct series {
    const double *values;
    size_t n;
    size_t block;
};

/* The i-th block's mean; NAN if all of it is missing. */
static double mean_of_block(const struct series *series, size_t i)
{
    double sum = 0, present = 0;
    for (size_t j = i * series->block; j < (i + 1) * series->block; j++) {
        if (!isfinite(series->values[j]))
            continue;
        sum += series->values[j];
        present++;
    }
    return present > 0 ? sum / present : NAN;
}

struct moments {
    double present, mean, variance;
};

static struct moments moments_of(const struct series *series)
{
    struct moments moments = {0, 0, 0};
    double squares = 0;
    for (size_t i = 0; i < series->n / series->block; i++) {
        double x = mean_of_block(series, i);
        if (isnan(x))
            continue;
        moments.present++;
        double off = x - moments.mean;
        moments.mean += off / moments.present;
        squares += off * (x - moments.mean);
    }
    moments.variance = squares / moments.present;
    return moments;
}

/* r_lag; 0 if no two values are that far apart */
static double autocorrelation(const struct series *series, const struct moments *moments, size_t lag)
{
    double sum = 0, pairs = 0;
    for (size_t i = 0; i + lag < series->n / series->block; i++) {
        double product = (mean_of_block(series, i) - moments->mean) * (mean_of_block(series, i + lag) - moments->mean);
        if (isnan(product))
            continue;
        sum += product;
        pairs++;
    }
    return pairs > 0 ? sum / pairs / moments->variance : 0;
}

static double raised(double r, double m)
{
    double inside = fmin(fmax(r, -1), 1);
    return inside + (1 + 3 * inside) / m + sqrt((1 - inside * inside) / m);
}

/* The phi of the model, 0 <= phi < 1. */
static double slowest_decay(const struct series *series, const struct moments *moments)
{
    double first = autocorrelation(series, moments, 1), phi = raised(first, moments->present);
    for (size_t lag = 2; first > 0 && lag <= 8; lag *= 2) {
        double r = autocorrelation(series, moments, lag);
        if (r > 2 / sqrt(moments->present))
            phi = fmax(phi, pow(r, 1 / (double)lag));
    }
    return fmin(fmax(phi, 0), 0.999);
}

static double modelled(double phi, double block)
{
    double sum = (1 - pow(phi, block)) / (1 - phi);
    double variance = block * (1 + phi) / (1 - phi) - 2 * phi * sum / (1 - phi);
    return phi * sum * sum / variance;
}

struct gauge_blocks gauge_block(const double differences[], size_t n)
{
    struct series looks = {differences, n, 1};
    struct moments moments = moments_of(&looks);
    struct gauge_blocks choice = {LONGEST_BLOCK, GAUGE_UNKNOWN, NAN};
    if (moments.present < LEAST_HISTORY || !(moments.variance > 0))
        return choice;
    double phi = slowest_decay(&looks, &moments);
    for (uint32_t block = 1; block <= LONGEST_BLOCK; block *= 2) {
        struct series blocks = {differences, n, block};
        struct moments of_blocks = moments_of(&blocks);
        bool measured = of_blocks.present >= ENOUGH_BLOCKS && of_blocks.variance > 0;
        choice.looks = block;
        choice.source = measured ? GAUGE_MEASURED : GAUGE_MODELLED;
        choice.autocorrelation =
            measured ? raised(autocorrelation(&blocks, &of_blocks, 1), of_blocks.present) : modelled(phi, block);
        if (choice.autocorrelation < GAUGE_AUTOCORRELATION)
            break;
    }
    return choice;
}
