/*
 * Families of bets against each other, in one table: how often a healthy canary is aborted, and how soon a bad one is.
 * From it the family of flip_log_e() and the restart weights of stats/mixture.c were chosen.
 *
 * Design: looks of 15 s, 5, 10, 25 and 50 % of the traffic for 40 looks each, errors only, stable fails .5 % of its
 * requests. Half of the weight sits idle at E = 1, so an abort needs E >= 2/alpha = 40; a promotion needs 20. The
 * balancer deals by weight, so both n are fixed in a step. "pods": 20 equal pods, each with a risk of its own in each
 * look, correlation .01 between its requests; "arm": the same with one risk for the whole arm.
 *
 * The first two families call the library. The others are summed here over the same thinned counts. Every family sees
 * the same draws. A change that comes late is counted from its look on, over the runs that were not aborted before.
 */
#include <errno.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "stats/flip.h"
#include "stats/mixture.h"
#include "stats/thin.h"

enum { STEPS = 4, STEP_LOOKS = 40, PLANNED = STEPS * STEP_LOOKS, LONGEST = 1200, PODS = 20, NEVER = 1 << 30 };
static const double shares[STEPS] = {0.05, 0.10, 0.25, 0.50};
static const double pod_correlation = 0.01;

/* ---- bets that are tried here ---- */

struct trial {
    enum { SIGNED_ROOT, RATE } kind;
    double strength; /* ell, or g */
    double kappa;    /* RATE: b = ln g * (o - j) / (1 + (o + j) / kappa) */
};

static const struct trial trials[] = {
    {RATE, 2, 10},          {RATE, 2, INFINITY},   {RATE, 3, 10},         {RATE, 3, INFINITY}, /* the grid first
                                                                                                  proposed */
    {RATE, 6, 10},          {RATE, 6, INFINITY},   {RATE, 20, 10},        {RATE, 20, INFINITY}, {RATE, 1.1, INFINITY},
    {RATE, 1.25, INFINITY}, {RATE, 1.5, INFINITY}, {RATE, 2, 100},        {RATE, 3, 100},       {RATE, 6, 100},
    {RATE, 20, 100},        {SIGNED_ROOT, 0.2, 0}, {SIGNED_ROOT, 0.6, 0},
};
enum {
    TRIALS = sizeof trials / sizeof trials[0],
    ELLS_AT = FLIP_BETS,
    TRIALS_AT = FLIP_BETS + FLIP_ELLS,
    COLUMNS = TRIALS_AT + TRIALS
};

/* Rises in o and falls in j: its derivative by o is ln g (1 + 2j/kappa) / (1 + (o + j)/kappa)^2 > 0. */
static double bet_of(const struct trial *trial, double o, double j)
{
    if (trial->kind == SIGNED_ROOT)
        return trial->strength * (o - j) / sqrt(fmax(1, o + j));
    return log(trial->strength) * (o - j) / (1 + (o + j) / trial->kappa);
}

static void sum_trials(const struct flip_counts *counts, const struct flip_null *null, double e[TRIALS])
{
    static struct thinned arms;
    memset(e, 0, TRIALS * sizeof *e);
    if (!thin_arms(&arms, GRID_CELLS, counts, null))
        return;
    double sign = null->form == FLIP_ABORT ? 1 : -1;
    for (size_t a = 0; a < arms.o.count; a++) {
        double o = (double)cell_first(GRID_CELLS, arms.o.first + a);
        for (size_t b = 0; b < arms.j.count; b++) {
            double mass = arms.o.mass[a] * arms.j.mass[b], j = (double)cell_first(GRID_CELLS, arms.j.first + b);
            for (size_t t = 0; t < TRIALS && mass > 1e-9; t++)
                e[t] += 2 * mass / (1 + exp(-2 * sign * bet_of(&trials[t], o, j)));
        }
    }
}

/* e of every bet there is: flip_log_e()'s, flip_log_e_ells()'s, the trials'. */
static void all_bets(const struct flip_counts *counts, const struct flip_null *null, double e[COLUMNS])
{
    flip_log_e(counts, null, e);
    flip_log_e_ells(counts, null, e + ELLS_AT);
    for (size_t i = 0; i < TRIALS_AT; i++)
        e[i] = exp(e[i]);
    sum_trials(counts, null, e + TRIALS_AT);
}

/* ---- families ---- */

struct prior {
    double first, planned, tail; /* q_1, what is spread over looks 2..T, and over what follows */
};
static const struct prior even = {0.5, 0.25, 0.25}, early = {0.6, 0.25, 0.15}, at_once = {1, 0, 0};

struct family {
    const char *name;
    const struct prior *prior;
    size_t count;
    size_t bets[16];
};

#define T(i) (TRIALS_AT + (i))
static const struct family families[] = {
    {"flip_log_e(), the default", &early, 5, {0, 1, 2, 3, 4}},
    {"six ell, the first form", &even, 6, {5, 6, 7, 8, 9, 10}},
    {"six ell, q_1 = .6", &early, 6, {5, 6, 7, 8, 9, 10}},
    {"flip_log_e(), q_1 = .5", &even, 5, {0, 1, 2, 3, 4}},
    {"g 2 3 6 20, kappa 10 inf", &even, 8, {T(0), T(1), T(2), T(3), T(4), T(5), T(6), T(7)}},
    {"the same with kappa 100",
     &even,
     12,
     {T(0), T(1), T(2), T(3), T(4), T(5), T(6), T(7), T(11), T(12), T(13), T(14)}},
    {"g 1.1 .. 20, kappa inf", &early, 7, {T(8), T(9), T(10), T(1), T(3), T(5), T(7)}},
    {"ell .2 .6, g 2 6 20", &early, 5, {T(15), T(16), T(1), T(5), T(7)}},
};
#undef T
enum { FAMILIES = sizeof families / sizeof families[0] };

static double invested_at(const struct prior *prior, int t)
{
    if (t == 1)
        return prior->first;
    return t <= PLANNED ? prior->planned / (PLANNED - 1) : prior->tail * PLANNED / ((double)t * (t - 1));
}

/* The first look at which E reaches the threshold, or NEVER. As stats/mixture.h, without logarithms. */
static int looks_needed(const struct family *family, const struct prior *prior, double (*e)[COLUMNS], int looks,
                        double threshold)
{
    double capital[16] = {0}, reserve = 1;
    for (int t = 1; t <= looks; t++) {
        double entering = fmin(reserve, invested_at(prior, t)), sum = reserve - entering;
        reserve = sum;
        for (size_t i = 0; i < family->count; i++) {
            capital[i] = (capital[i] + entering / (double)family->count) * e[t - 1][family->bets[i]];
            sum += capital[i];
        }
        if (sum >= threshold)
            return t;
    }
    return NEVER;
}

/* ---- scenarios ---- */

enum noise { NONE, BY_POD, BY_ARM };
struct scenario {
    const char *name;
    enum block { HEALTHY, HARM, MARGIN, MORE, EDGES, PROMOTE, AT_MARGIN, BLOCKS } block;
    double rps, p, ratio;
    enum noise noise;
    int from, looks; /* the look after which the canary is `ratio` times as bad; all looks, 0: as planned */
    struct flip_null null;
    int step; /* of a promotion */
};

static const char *const block_names[BLOCKS] = {
    [HEALTHY] = "Healthy canary, 100 rps: false aborts in 160 looks and their standard error",
    [HARM] = "100 rps, margin 1.0: median looks to abort, and the share of runs aborted",
    [MARGIN] = "100 rps, margin 1.1",
    [MORE] = "1000 and 10 rps, margin 1.0 (1.1 where it says so)",
    [EDGES] = "Latency edges: share of slow requests, and how many times as many",
    [PROMOTE] = "Healthy canary, margin 1.5x + .1 pp: median looks to promote a step of that share, and runs promoted",
    [AT_MARGIN] = "Canary at that margin: false promotions in 400 looks and their standard error",
};

#define M10                                                                                                            \
    {                                                                                                                  \
        FLIP_ABORT, 1, 0, 0                                                                                            \
    }
#define M11                                                                                                            \
    {                                                                                                                  \
        FLIP_ABORT, 1.1, 0, 0                                                                                          \
    }
#define SAFE                                                                                                           \
    {                                                                                                                  \
        FLIP_NI, 1.5, 0.001, 0                                                                                         \
    }
static const struct scenario scenarios[] = {
    {"iid", HEALTHY, 100, .005, 1, NONE, 0, 0, M10, 0},
    {"pods", HEALTHY, 100, .005, 1, BY_POD, 0, 0, M10, 0},
    {"arm", HEALTHY, 100, .005, 1, BY_ARM, 0, 0, M10, 0},
    {"iid, 1.1", HEALTHY, 100, .005, 1, NONE, 0, 0, M11, 0},
    {"pods, 1.1", HEALTHY, 100, .005, 1, BY_POD, 0, 0, M11, 0},
    {"arm, 1.1", HEALTHY, 100, .005, 1, BY_ARM, 0, 0, M11, 0},
    {"1.2x", HARM, 100, .005, 1.2, NONE, 0, 0, M10, 0},
    {"1.5x", HARM, 100, .005, 1.5, NONE, 0, 0, M10, 0},
    {"2x", HARM, 100, .005, 2, NONE, 0, 0, M10, 0},
    {"3x", HARM, 100, .005, 3, NONE, 0, 0, M10, 0},
    {"5x", HARM, 100, .005, 5, NONE, 0, 0, M10, 0},
    {"20x", HARM, 100, .005, 20, NONE, 0, 0, M10, 0},
    {"2x pods", HARM, 100, .005, 2, BY_POD, 0, 0, M10, 0},
    {"2x at 80", HARM, 100, .005, 2, NONE, 80, 0, M10, 0},
    {"5x at 60", HARM, 100, .005, 5, NONE, 60, 0, M10, 0},
    {"2x at 300", HARM, 100, .005, 2, NONE, 300, 500, M10, 0},
    {"1.2x", MARGIN, 100, .005, 1.2, NONE, 0, 0, M11, 0},
    {"1.5x", MARGIN, 100, .005, 1.5, NONE, 0, 0, M11, 0},
    {"2x", MARGIN, 100, .005, 2, NONE, 0, 0, M11, 0},
    {"3x", MARGIN, 100, .005, 3, NONE, 0, 0, M11, 0},
    {"5x", MARGIN, 100, .005, 5, NONE, 0, 0, M11, 0},
    {"20x", MARGIN, 100, .005, 20, NONE, 0, 0, M11, 0},
    {"2x pods", MARGIN, 100, .005, 2, BY_POD, 0, 0, M11, 0},
    {"2x at 80", MARGIN, 100, .005, 2, NONE, 80, 0, M11, 0},
    {"1k 1.5x", MORE, 1000, .005, 1.5, NONE, 0, 0, M10, 0},
    {"1k 2x", MORE, 1000, .005, 2, NONE, 0, 0, M10, 0},
    {"1k 2x 1.1", MORE, 1000, .005, 2, NONE, 0, 0, M11, 0},
    {"1k 2x pods", MORE, 1000, .005, 2, BY_POD, 0, 0, M10, 0},
    {"10 2x", MORE, 10, .005, 2, NONE, 0, 0, M10, 0},
    {"10 5x", MORE, 10, .005, 5, NONE, 0, 0, M10, 0},
    {"10 5x 1.1", MORE, 10, .005, 5, NONE, 0, 0, M11, 0},
    {".5 1.1x", EDGES, 100, .5, 1.1, NONE, 0, 0, M10, 0},
    {".05 1.2x", EDGES, 100, .05, 1.2, NONE, 0, 0, M10, 0},
    {".05 1.5 po", EDGES, 100, .05, 1.5, BY_POD, 0, 0, M10, 0},
    {"1k .05 1.1", EDGES, 1000, .05, 1.1, NONE, 0, 0, M10, 0},
    {"1k .05 pod", EDGES, 1000, .05, 1.3, BY_POD, 0, 0, M10, 0},
    {"100, 5 %", PROMOTE, 100, .005, 1, NONE, 0, 400, SAFE, 0},
    {"100, 10 %", PROMOTE, 100, .005, 1, NONE, 0, 400, SAFE, 1},
    {"100, 25 %", PROMOTE, 100, .005, 1, NONE, 0, 400, SAFE, 2},
    {"100, 50 %", PROMOTE, 100, .005, 1, NONE, 0, 400, SAFE, 3},
    {"1k, 5 %", PROMOTE, 1000, .005, 1, NONE, 0, 100, SAFE, 0},
    {"1k, 10 %", PROMOTE, 1000, .005, 1, NONE, 0, 100, SAFE, 1},
    {"1k, 25 %", PROMOTE, 1000, .005, 1, NONE, 0, 100, SAFE, 2},
    {"1k, 50 %", PROMOTE, 1000, .005, 1, NONE, 0, 100, SAFE, 3},
    {"10, 5 %", PROMOTE, 10, .005, 1, NONE, 0, LONGEST, SAFE, 0},
    {"10, 50 %", PROMOTE, 10, .005, 1, NONE, 0, LONGEST, SAFE, 3},
    {"100, 5 %", AT_MARGIN, 100, .005, 1.7, NONE, 0, 400, SAFE, 0},
    {"100, 25 %", AT_MARGIN, 100, .005, 1.7, NONE, 0, 400, SAFE, 2},
    {"100, 50 %", AT_MARGIN, 100, .005, 1.7, NONE, 0, 400, SAFE, 3},
    {"1k, 5 %", AT_MARGIN, 1000, .005, 1.7, NONE, 0, 400, SAFE, 0},
    {"1k, 50 %", AT_MARGIN, 1000, .005, 1.7, NONE, 0, 400, SAFE, 3},
};
enum { SCENARIOS = sizeof scenarios / sizeof scenarios[0] };

static double draw_risk(const gsl_rng *rng, double p)
{
    double size = 1 / pod_correlation - 1;
    return gsl_ran_beta(rng, p * size, (1 - p) * size);
}

static uint64_t draw_events(const gsl_rng *rng, unsigned n, double p, unsigned pods, enum noise noise)
{
    if (noise == NONE)
        return gsl_ran_binomial(rng, p, n);
    if (noise == BY_ARM)
        return gsl_ran_binomial(rng, draw_risk(rng, p), n);
    unsigned events = 0;
    for (unsigned left = pods; left > 0; left--) {
        unsigned mine = n / left;
        events += gsl_ran_binomial(rng, draw_risk(rng, p), mine);
        n -= mine;
    }
    return events;
}

static struct flip_counts draw_look(const gsl_rng *rng, const struct scenario *scenario, int step, int look)
{
    unsigned all = (unsigned)lround(scenario->rps * 15), n_c = (unsigned)lround(all * shares[step]);
    unsigned pods = (unsigned)lround(PODS * shares[step]);
    double p_c = fmin(1, scenario->p * (look >= scenario->from ? scenario->ratio : 1));
    uint64_t k_c = draw_events(rng, n_c, p_c, pods, scenario->noise);
    uint64_t k_s = draw_events(rng, all - n_c, scenario->p, PODS - pods, scenario->noise);
    return (struct flip_counts){k_c, n_c, k_s, all - n_c};
}

/* ---- runs ---- */

/* The same counts come again and again; a place for each hash remembers the last that had it. */
enum { PLACES = 1 << 15 };
struct place {
    struct flip_counts counts;
    double e[COLUMNS];
};

static const double *remembered(struct place places[PLACES], const struct flip_counts *counts,
                                const struct flip_null *null)
{
    uint64_t key = (counts->k_x << 40 ^ counts->k_y << 20 ^ counts->n_x) * UINT64_C(0x9E3779B97F4A7C15);
    struct place *place = &places[key >> 49];
    if (memcmp(&place->counts, counts, sizeof *counts) != 0) {
        all_bets(counts, null, place->e);
        place->counts = *counts;
    }
    return place->e;
}

static bool promotes(const struct scenario *scenario)
{
    return scenario->null.form != FLIP_ABORT;
}

/* needed[run * FAMILIES + f]: the look that decides, or NEVER. */
static void simulate(const struct scenario *scenario, unsigned long seed, int runs, int needed[])
{
    static double e[LONGEST][COLUMNS];
    struct place *places = mem_alloc(PLACES, sizeof *places);
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    gsl_rng_set(rng, seed);
    int looks = scenario->looks > 0 ? scenario->looks : PLANNED;
    for (int run = 0; run < runs; run++) {
        for (int t = 0; t < looks; t++) {
            int step = promotes(scenario) ? scenario->step : t / STEP_LOOKS < STEPS ? t / STEP_LOOKS : STEPS - 1;
            struct flip_counts counts = draw_look(rng, scenario, step, t);
            memcpy(e[t], remembered(places, &counts, &scenario->null), sizeof e[t]);
        }
        for (size_t f = 0; f < FAMILIES; f++)
            needed[(size_t)run * FAMILIES + f] =
                looks_needed(&families[f], promotes(scenario) ? &at_once : families[f].prior, e, looks,
                             promotes(scenario) ? 20 : 40);
    }
    gsl_rng_free(rng);
    free(places);
}

static int by_size(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

/* One cell of the table: share of runs decided with its error, or the median delay with the share. */
static void cell_text(const struct scenario *scenario, const int needed[], size_t family, int runs, char text[32])
{
    int *delays = mem_alloc((size_t)runs, sizeof *delays), count = 0, decided = 0;
    for (int run = 0; run < runs; run++) {
        int at = needed[(size_t)run * FAMILIES + family];
        if (at <= scenario->from)
            continue;
        decided += at < NEVER;
        delays[count++] = at < NEVER ? at - scenario->from : NEVER;
    }
    double share = count ? (double)decided / count : 0, error = count ? sqrt(share * (1 - share) / count) : 0;
    qsort(delays, (size_t)count, sizeof *delays, by_size);
    if (scenario->block == HEALTHY || scenario->block == AT_MARGIN)
        snprintf(text, 32, "%.3f+-%.3f", share, error);
    else if (count == 0 || delays[count / 2] == NEVER)
        snprintf(text, 32, "- %.2f", share);
    else
        snprintf(text, 32, "%d %.2f", delays[count / 2], share);
    free(delays);
}

static void print_block(enum block block, unsigned long seed, int runs)
{
    char(*cells)[FAMILIES][32] = mem_alloc(SCENARIOS, sizeof *cells);
    int *needed = mem_alloc((size_t)runs * FAMILIES, sizeof *needed);
    printf("\n%s\n%-27s", block_names[block], "");
    for (size_t s = 0; s < SCENARIOS; s++) {
        if (scenarios[s].block != block)
            continue;
        simulate(&scenarios[s], seed + s, runs, needed);
        for (size_t f = 0; f < FAMILIES; f++)
            cell_text(&scenarios[s], needed, f, runs, cells[s][f]);
        printf(" %12s", scenarios[s].name);
    }
    printf("\n");
    for (size_t f = 0; f < FAMILIES; f++) {
        printf("%-27s", families[f].name);
        for (size_t s = 0; s < SCENARIOS; s++)
            if (scenarios[s].block == block)
                printf(" %12s", cells[s][f]);
        printf("\n");
    }
    fflush(stdout);
    free(needed);
    free(cells);
}

/* The fold above must be the judge's. */
static bool fold_is_the_judges(void)
{
    static double e[PLANNED][COLUMNS];
    double log_e[FLIP_BETS];
    struct flip_counts counts = {2, 75, 7, 1425};
    struct flip_null null = M11;
    struct mixture mixture;
    mixture_init(&mixture, FLIP_BETS, RESTART_TAIL, PLANNED);
    flip_log_e(&counts, &null, log_e);
    for (int t = 1; t <= PLANNED; t++) {
        all_bets(&counts, &null, e[t - 1]);
        mixture_look(&mixture, log_e);
        double reached = exp(mixture_log_e(&mixture));
        if (looks_needed(&families[0], families[0].prior, e, t, reached * (1 - 1e-9)) > t ||
            looks_needed(&families[0], families[0].prior, e, t, reached * (1 + 1e-9)) <= t)
            return false;
    }
    return true;
}

static bool read_number(const char *text, unsigned long *number)
{
    char *end;
    errno = 0;
    *number = strtoul(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && text[0] != '-' && *number <= 1000000;
}

int main(int argc, char *argv[])
{
    unsigned long runs = 2000, seed = 1000; /* about a minute */
    for (int i = 1; i < argc; i += 2) {
        unsigned long *to = strcmp(argv[i], "--runs") == 0 ? &runs : strcmp(argv[i], "--seed") == 0 ? &seed : NULL;
        if (to == NULL || i + 1 == argc || !read_number(argv[i + 1], to) || runs == 0) {
            fprintf(stderr, "usage: %s [--runs N] [--seed N]\n", argv[0]);
            return 2;
        }
    }
    if (!fold_is_the_judges()) {
        fprintf(stderr, "%s: the fold here and stats/mixture.c differ\n", argv[0]);
        return 1;
    }
    printf("%lu runs of each scenario, seed %lu\n", runs, seed);
    for (int block = 0; block < BLOCKS; block++)
        print_block((enum block)block, seed, (int)runs);
    return 0;
}
