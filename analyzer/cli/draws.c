/* What the commands that draw at random share: how many draws, the seed, and a bar while they run. */
#include "analyzer/cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_RUNS = 1000, MOST_RUNS = 1000000, DEFAULT_SEED = 1, BAR = 40 };

bool parse_whole(const char *text, uint64_t least, uint64_t most, uint64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return errno == 0 && end != text && !*end && strspn(text, "0123456789") == strlen(text) && *value >= least &&
           *value <= most;
}

bool parse_draws(const struct options *options, uint64_t *runs, uint64_t *seed, struct error *err)
{
    *runs = DEFAULT_RUNS;
    *seed = DEFAULT_SEED;
    if (options->runs && !parse_whole(options->runs, 1, MOST_RUNS, runs))
        return error_set(err, ERROR_USAGE, "--runs %s: give a whole number from 1 to %d", options->runs, MOST_RUNS);
    if (options->seed && !parse_whole(options->seed, 0, UINT64_MAX, seed))
        return error_set(err, ERROR_USAGE, "--seed %s: give a whole number from 0 to 2^64 - 1", options->seed);
    return true;
}

static void draw_bar(uint64_t done, uint64_t all, void *context)
{
    int *shown = context;
    int percent = (int)(100 * done / all);
    if (percent == *shown)
        return;
    *shown = percent;
    int full = percent * BAR / 100;
    fprintf(stderr, "\r[%.*s%.*s] %3d %%", full, "########################################", BAR - full,
            "........................................", percent);
    if (done == all)
        fprintf(stderr, "\r%*s\r", BAR + 8, "");
    fflush(stderr);
}

show_progress *progress_bar(void)
{
    return isatty(STDERR_FILENO) ? draw_bar : NULL;
}

unsigned processors(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : (unsigned)count;
}
