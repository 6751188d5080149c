/*
 * The time of one comparison by ranks, from two unsorted samples to the p-value and the interval. With a folder: writes
 * its samples there as x and y, one number a line, so that another program can be timed on the same numbers.
 *
 * usage: bench_ranks [FOLDER]
 * Prints JSON: points a side, microseconds (the median of many runs), and what was found.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "stats/ranks.h"

/* A day of minutes. */
enum { POINTS = 1440, RUNS = 501 };

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* Latencies: log-normal by the sum of twelve uniforms. */
static double latency(unsigned long *state)
{
    double sum = -6;
    for (int i = 0; i < 12; i++) {
        *state = *state * 6364136223846793005UL + 1442695040888963407UL;
        sum += (double)(*state >> 11) * 0x1p-53;
    }
    return exp(sum / 2);
}

static bool write_sample(const char *folder, const char *name, const double values[])
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return false;
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return false;
    for (size_t i = 0; i < POINTS; i++)
        fprintf(file, "%.17g\n", values[i]);
    return fclose(file) == 0;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static double x[POINTS], y[POINTS], time_us[RUNS];
    unsigned long state = 1;
    for (size_t i = 0; i < POINTS; i++) {
        x[i] = 1.05 * latency(&state);
        y[i] = latency(&state);
    }
    if (argc > 1 && !(write_sample(argv[1], "x", x) && write_sample(argv[1], "y", y))) {
        fprintf(stderr, "bench_ranks: cannot write to %s\n", argv[1]);
        return 1;
    }
    double *scratch = malloc(ranks_scratch(POINTS, POINTS) * sizeof *scratch);
    if (scratch == NULL)
        return 1;
    struct mann_whitney test = {0};
    struct hodges_lehmann shift = {0};
    for (int run = 0; run < RUNS; run++) {
        struct ranks ranks;
        double begin = now_us();
        if (!ranks_sort(&ranks, x, POINTS, y, POINTS, scratch) ||
            !ranks_mann_whitney(&ranks, RANKS_TWO_SIDED, RANKS_USUAL, &test) ||
            !ranks_hodges_lehmann(&ranks, 0.95, RANKS_USUAL, &shift))
            return 1;
        time_us[run] = now_us() - begin;
    }
    qsort(time_us, RUNS, sizeof time_us[0], ascending);
    printf("{\"points\": %d, \"us\": %.1f, \"w\": %.17g, \"p\": %.17g, \"lower\": %.17g, \"upper\": %.17g}\n", POINTS,
           time_us[RUNS / 2], test.w, test.p, shift.lower, shift.upper);
    free(scratch);
    return 0;
}
