/*
 * How long one flip_log_e() takes, and how much faster it is than the exact form, for looks of a few sizes. Prints a
 * table; asserts nothing, because a machine's speed is no property of the program.
 */
#include <stdio.h>
#include <time.h>

#include "stats/flip.h"

struct look {
    const char *what;
    struct flip_counts counts;
    struct flip_null null;
};

static const struct look looks[] = {
    {"1 rps", {1, 15, 0, 285}, {FLIP_ABORT, 1.1, 0, 0}},
    {"100 rps, 5 %, 1 % errors", {1, 75, 14, 1425}, {FLIP_ABORT, 1.1, 0, 0}},
    {"the same, promotion", {1, 75, 14, 1425}, {FLIP_NI, 1.5, 0.001, 0}},
    {"1000 rps, 50 %", {75, 7500, 75, 7500}, {FLIP_ABORT, 1.1, 0, 0}},
    {"k 1000 of 20000, both arms", {1000, 20000, 1000, 20000}, {FLIP_ABORT, 1.1, 0, 0}},
    {"k 1000 of 20000, 5 %", {1000, 20000, 19000, 380000}, {FLIP_ABORT, 1.1, 0, 0}},
    {"the same with delta", {1000, 20000, 19000, 380000}, {FLIP_ABORT, 1.1, 0.001, 0}},
    {"the same, promotion", {1000, 20000, 19000, 380000}, {FLIP_NI, 1.5, 0.001, 0}},
    {"the same, thinned", {1000, 20000, 19000, 380000}, {FLIP_NI_THINNED, 1.5, 0.001, 0}},
    {"swapped arms, fast events", {190000, 380000, 10000, 20000}, {FLIP_ABORT, 1.2, 0, 0}},
    {"k 1e5 of 1e7, 5 %", {100000, 10000000, 1900000, 190000000}, {FLIP_ABORT, 1.1, 0, 0}},
    {"k 1e6 of 1e8, both arms", {1000000, 100000000, 1000000, 100000000}, {FLIP_ABORT, 1.1, 0.0001, 0}},
    {"k 1e6 of 1e8, 5 %, thinned", {1000000, 100000000, 19000000, 1900000000}, {FLIP_NI_THINNED, 1.5, 0.0001, 0}},
};

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

typedef bool (*form)(const struct flip_counts *, const struct flip_null *, double[FLIP_BETS]);

/* Mean time of one call, over about 50 ms; negative if the form refuses the look. */
static double microseconds(form log_e_of, const struct look *look)
{
    double log_e[FLIP_BETS];
    double begin = now_us(), end = begin;
    int calls = 0;
    while (end - begin < 50e3) {
        if (!log_e_of(&look->counts, &look->null, log_e))
            return -1;
        calls++;
        end = now_us();
    }
    return (end - begin) / calls;
}

int main(void)
{
    printf("%-28s %12s %12s %8s\n", "look", "cells, us", "exact, us", "ratio");
    for (size_t i = 0; i < sizeof looks / sizeof looks[0]; i++) {
        double cells = microseconds(flip_log_e, &looks[i]), exact = microseconds(flip_log_e_exact, &looks[i]);
        if (exact < 0)
            printf("%-28s %12.1f %12s %8s\n", looks[i].what, cells, "too large", "-");
        else
            printf("%-28s %12.1f %12.1f %8.3f\n", looks[i].what, cells, exact, cells / exact);
    }
    return 0;
}
