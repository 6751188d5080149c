/*
 * How much CPU time flip_log_e() takes. A table of looks with the microseconds of one call, and the limits that the
 * program promises: exit status 1 if one is missed. A judgement every 15 seconds would stand a thousandfold; trials of
 * a policy fold some hundred million comparisons.
 */
#include <stdio.h>
#include <time.h>

#include "stats/flip.h"

static const struct {
    const char *name;
    struct flip_null null;
} forms[] = {
    {"abort", {FLIP_ABORT, 1, 0, 0}},
    {"abort 1.1", {FLIP_ABORT, 1.1, 0, 0}},
    {"abort +.1pp", {FLIP_ABORT, 1.1, 0.001, 0}},
    {"promote", {FLIP_NI, 1.5, 0.001, 0}},
    {"thinned", {FLIP_NI_THINNED, 1.5, 0.001, 0}},
};
enum { FORMS = sizeof forms / sizeof forms[0] };

struct look {
    const char *what;
    double limit_us; /* of one call, in any form; 0: none of its own */
    struct flip_counts counts;
};

/* 50 comparisons in 5 ms are 100 us each. The events are the canary's; stable has as many more as it has requests. */
static const struct look looks[] = {
    {"100 rps, 5 %, .5 % errors", 0, {0, 75, 7, 1425}},
    {"100 rps, 5 %, an edge at .53", 0, {40, 75, 760, 1425}},
    {"1000 rps, 5 %, an edge at .5", 0, {375, 750, 7125, 14250}},
    {"100 events, 5 %", 100, {100, 2000, 1900, 38000}},
    {"100 events, 25 %", 100, {100, 2000, 300, 6000}},
    {"100 events, 50 %", 100, {100, 2000, 101, 2001}},
    {"100 events of 200, 5 %", 100, {100, 200, 1900, 3800}},
    {"10 000 events, 5 %", 5e3, {10000, 200000, 190000, 3800000}},
    {"10 000 events, 25 %", 5e3, {10000, 200000, 30000, 600000}},
    {"10 000 events, 50 %", 5e3, {10000, 200000, 10001, 200001}},
    {"10 000 events, fast, 5 %", 5e3, {190000, 380000, 10000, 20000}},
    {"1 000 000 events, 5 %", 20e3, {1000000, 20000000, 19000000, 380000000}},
    {"1 000 000 events, 25 %", 20e3, {1000000, 20000000, 3000000, 60000000}},
    {"1 000 000 events, 50 %", 20e3, {1000000, 20000000, 1000001, 20000001}},
    {"1 000 000 events, fast, 5 %", 20e3, {19000000, 38000000, 1000000, 2000000}},
};

static double cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* CPU time of one call: the mean over about 10 ms, and of three such means the least, for the machine is shared. */
static double microseconds(const struct flip_counts *counts, const struct flip_null *null)
{
    double best = 1e300, log_e[FLIP_BETS];
    for (int batch = 0; batch < 3; batch++) {
        double begin = cpu_us(), end = begin;
        int calls = 0;
        for (; end - begin < 10e3; end = cpu_us())
            for (int i = 0; i < 8; i++, calls++)
                if (!flip_log_e(counts, null, log_e))
                    return 1e300;
        double mean = (end - begin) / calls;
        best = mean < best ? mean : best;
    }
    return best;
}

int main(void)
{
    int missed = 0;
    printf("CPU time of one flip_log_e(), us\n%-30s", "look");
    for (int f = 0; f < FORMS; f++)
        printf(" %11s", forms[f].name);
    printf(" %11s\n", "limit");
    for (size_t i = 0; i < sizeof looks / sizeof looks[0]; i++) {
        double worst = 0;
        printf("%-30s", looks[i].what);
        for (int f = 0; f < FORMS; f++) {
            double us = microseconds(&looks[i].counts, &forms[f].null);
            worst = us > worst ? us : worst;
            printf(" %11.2f", us);
        }
        if (looks[i].limit_us <= 0) {
            printf(" %11s\n", "-");
            continue;
        }
        missed += worst > looks[i].limit_us;
        printf(" %11.0f%s\n", looks[i].limit_us, worst > looks[i].limit_us ? "  MISSED" : "");
    }
    printf("%s\n", missed ? "a limit was missed" : "all limits hold");
    return missed ? 1 : 0;
}
