/*
 * A growth is a double sum over what the two arms may count. The forecast then plays the mean path through the very
 * mixture that the judge folds, so that bets, restarts and late changes are in it by construction and another family or
 * another prior changes the forecast with the judge.
 */
#include "stats/plan.h"

#include <assert.h>
#include <gsl/gsl_randist.h>
#include <math.h>

#include "stats/latency.h"
#include "stats/logmath.h"

/* --- the information bound --- */

double plan_lr_growth(double n_x, double n_y, double p_x, double p_y, double rho, double delta)
{
    if (!(n_x >= 0 && n_y >= 0 && p_x >= 0 && p_x <= 1 && p_y >= 0 && p_y <= 1 && rho > 0 && delta >= 0))
        return NAN;
    if (n_x <= 0 || n_y <= 0 || p_x <= rho * p_y + delta)
        return 0;
    double s = rho * n_x / n_y;
    double square = delta * s, linear = p_x * s + p_y * rho + delta * (1 + s), constant = p_x * (1 + s);
    double a = 2 * constant / (linear + sqrt(fmax(0, linear * linear - 4 * square * constant)));
    double growth = n_x * p_x * log(a) - n_x * delta * (a - 1);
    /* Without events of stable B may come down to 0, and nothing is lost by it. */
    return p_y > 0 ? growth + n_y * p_y * log1p(-s * (a - 1)) : growth;
}

/* --- growth of FLIP --- */

enum law { BINOMIAL, POISSON };

struct node {
    uint64_t k;
    double weight;
};

enum { NODES = 256 };
struct nodes {
    struct node at[NODES];
    size_t count;
};

/* Which e-value is averaged, over which law, and how far out into the tails. */
struct family {
    bool (*log_e)(const struct flip_counts *counts, const struct flip_null *null, double log_e[]);
    size_t bets;
    enum law law;
    double width;  /* standard deviations */
    double ignore; /* pairs of counts that are less probable than this */
};

static double probability(enum law law, uint64_t n, double p, uint64_t k)
{
    return law == BINOMIAL ? gsl_ran_binomial_pdf((unsigned)k, p, (unsigned)n)
                           : gsl_ran_poisson_pdf((unsigned)k, (double)n * p);
}

/* A lattice through the mean; its probabilities are made to sum to 1. */
static void lay_nodes(struct nodes *nodes, const struct family *family, uint64_t n, double p)
{
    double mean = (double)n * p, sd = sqrt(family->law == BINOMIAL ? mean * (1 - p) : mean);
    double reach = family->width * sd + family->width;
    uint64_t step = sd < 4.5 ? 1 : (uint64_t)(sd / 2);
    uint64_t first = mean > reach ? (uint64_t)(mean - reach) : 0, last = (uint64_t)(mean + reach);
    first += ((uint64_t)mean - first) % step;
    double sum = 0;
    nodes->count = 0;
    /* Beyond n there is only the Poisson law's tail: it is counted as n. */
    for (uint64_t k = first; k <= last && nodes->count < NODES; k += step) {
        double weight = probability(family->law, n, p, k);
        nodes->at[nodes->count++] = (struct node){k < n ? k : n, weight};
        sum += weight;
    }
    for (size_t i = 0; i < nodes->count; i++)
        nodes->at[i].weight /= sum;
}

/* The mean over blocks of the logarithm of the mean over them, for one count of the arm that is not in blocks. */
static bool add_given(const struct plan_look *look, const struct family *family, const struct node *alone,
                      const struct nodes *block, double growth[])
{
    double mean_log[MIXTURE_BETS] = {0}, mean[MIXTURE_BETS] = {0}, sum = 0;
    for (size_t b = 0; b < block->count; b++) {
        if (alone->weight * block->at[b].weight < family->ignore)
            continue;
        uint64_t k_x = look->x_in_blocks ? block->at[b].k : alone->k;
        uint64_t k_y = look->x_in_blocks ? alone->k : block->at[b].k;
        struct flip_counts counts = {k_x, look->n_x, k_y, look->n_y};
        double log_e[MIXTURE_BETS];
        if (!family->log_e(&counts, &look->null, log_e))
            return false;
        for (size_t l = 0; l < family->bets; l++) {
            mean_log[l] += block->at[b].weight * log_e[l];
            mean[l] += block->at[b].weight * exp(log_e[l]);
        }
        sum += block->at[b].weight;
    }
    double others = look->blocks > 1 ? 1 - 1 / (double)look->blocks : 0;
    for (size_t l = 0; l < family->bets && sum > 0; l++)
        growth[l] += alone->weight * (mean_log[l] / sum + others * (log(mean[l] / sum) - mean_log[l] / sum));
    return true;
}

static bool mean_growth(const struct plan_look *look, const struct family *family, double growth[])
{
    for (size_t l = 0; l < family->bets; l++)
        growth[l] = 0;
    if (!(look->p_x >= 0 && look->p_x <= 1 && look->p_y >= 0 && look->p_y <= 1) || look->n_x > UINT32_MAX ||
        look->n_y > UINT32_MAX)
        return false;
    struct nodes x, y;
    lay_nodes(&x, family, look->n_x, look->p_x);
    lay_nodes(&y, family, look->n_y, look->p_y);
    const struct nodes *alone = look->x_in_blocks ? &y : &x, *block = look->x_in_blocks ? &x : &y;
    bool ok = true;
    for (size_t a = 0; a < alone->count && ok; a++)
        ok = add_given(look, family, &alone->at[a], block, growth);
    for (size_t l = 0; l < family->bets && !ok; l++)
        growth[l] = 0;
    return ok;
}

bool plan_flip_growth(const struct plan_look *look, double growth[FLIP_BETS])
{
    static const struct family family = {flip_log_e, FLIP_BETS, BINOMIAL, 5, 1e-6};
    return mean_growth(look, &family, growth);
}

bool plan_flip_growth_reference(const struct plan_look *look, double growth[FLIP_ELLS])
{
    static const struct family family = {flip_log_e_exact, FLIP_ELLS, POISSON, 8, 1e-14};
    return mean_growth(look, &family, growth);
}

/* --- from growth to looks --- */

static bool ever_grows(const struct plan_phase *phase, size_t comparisons)
{
    for (size_t c = 0; c < comparisons && phase->growth; c++)
        for (size_t l = 0; l < FLIP_BETS; l++)
            if (phase->growth[c][l] > 0)
                return true;
    return false;
}

static double fold(struct mixture mixtures[], size_t comparisons, const struct plan_phase *phase)
{
    double sum = -INFINITY;
    for (size_t c = 0; c < comparisons; c++) {
        mixture_look(&mixtures[c], phase->growth ? phase->growth[c] : NULL);
        sum = log_add_exp(sum, mixture_log_e(&mixtures[c]));
    }
    return sum - log((double)comparisons);
}

uint64_t plan_looks(const struct plan_phase phases[], size_t phase_count, size_t comparisons, enum restart restart,
                    uint32_t planned, double needed)
{
    struct mixture mixtures[LATENCY_EDGES];
    assert(comparisons >= 1 && comparisons <= LATENCY_EDGES);
    for (size_t c = 0; c < comparisons; c++)
        mixture_init(&mixtures[c], FLIP_BETS, restart, planned);
    while (phase_count > 0 && !ever_grows(&phases[phase_count - 1], comparisons))
        phase_count--;
    uint64_t look = 0;
    for (size_t p = 0; p < phase_count; p++) {
        for (uint64_t i = 0; i < phases[p].looks; i++) {
            look++;
            if (fold(mixtures, comparisons, &phases[p]) >= needed)
                return look;
        }
    }
    return 0;
}
