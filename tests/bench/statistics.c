/*
 * Haldane and what others decide canaries by, on the same made-up looks: how often healthy canaries are aborted, how
 * soon bad ones are and at what cost to users, how rollouts end, how often a canary at the margin is promoted.
 *
 *   statistics [--runs N] [--seed N] [--jobs N] [--only NAME]... [--markdown] [--check]
 *
 * NAME is a section (false-aborts, gauges, power, rollouts, margin, exposure) or the row of one. --markdown prints the
 * tables as they stand in docs/statistics.md. --check ends with 1 if a limit was missed, and names its row; 2 is a name
 * or an option that there is not. The same runs and seed give the same tables, whatever --jobs is. ± is one standard
 * error.
 */
#include "tests/bench/sections.h"

#include "base/memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void (*const sections[])(struct sheet *sheet) = {section_false_aborts, section_gauges, section_power,
                                                        section_rollouts,     section_margin, section_exposure};

static bool read_number(const char *text, uint64_t least, uint64_t most, uint64_t *number)
{
    char *end;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && text[0] != '-' && *number >= least && *number <= most;
}

/* An option with a value; false if it is none, or the value is no good. */
static bool read_option(const char *name, char *value, struct sheet *sheet)
{
    uint64_t jobs;
    if (strcmp(name, "--runs") == 0)
        return read_number(value, 1, 1000000, &sheet->runs);
    if (strcmp(name, "--seed") == 0)
        return read_number(value, 0, UINT64_MAX, &sheet->seed);
    if (strcmp(name, "--jobs") == 0 && read_number(value, 1, 1024, &jobs)) {
        sheet->jobs = (unsigned)jobs;
        return true;
    }
    if (strcmp(name, "--only") != 0)
        return false;
    sheet->only[sheet->only_count++] = value;
    return true;
}

static bool read_options(int argc, char *argv[], struct sheet *sheet, bool *check)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--markdown") == 0)
            sheet->markdown = true;
        else if (strcmp(argv[i], "--check") == 0)
            *check = true;
        else if (i + 1 == argc || !read_option(argv[i], argv[i + 1], sheet))
            return false;
        else
            i++;
    }
    return true;
}

static unsigned processors(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : (unsigned)count;
}

static bool all_found(const struct sheet *sheet)
{
    bool all = true;
    for (size_t i = 0; i < sheet->only_count; i++) {
        if (!sheet->found[i])
            fprintf(stderr, "there is no section and no row `%s`\n", sheet->only[i]);
        all &= sheet->found[i];
    }
    return all;
}

/* Whether all limits were kept, and there were any. */
static bool tell_limits(const struct sheet *sheet)
{
    printf("%u limits kept, %u missed\n%s", sheet->kept, sheet->missed, sheet->misses ? sheet->misses : "");
    return sheet->kept > 0 && sheet->missed == 0;
}

int main(int argc, char *argv[])
{
    struct sheet sheet = {.runs = 2000, .seed = 1000, .jobs = processors()};
    bool check = false;
    sheet.only = mem_alloc((size_t)argc, sizeof *sheet.only);
    sheet.found = mem_alloc((size_t)argc, sizeof *sheet.found);
    if (!read_options(argc, argv, &sheet, &check)) {
        fprintf(stderr, "usage: %s [--runs N] [--seed N] [--jobs N] [--only NAME]... [--markdown] [--check]\n",
                argv[0]);
        return 2;
    }
    printf("%llu runs of each row; %llu where evidence moves the canary to all traffic, and of 1600 looks of a gauge; "
           "seed %llu\n\n",
           (unsigned long long)sheet.runs, (unsigned long long)sheet_fewer(&sheet), (unsigned long long)sheet.seed);
    for (size_t s = 0; s < sizeof sections / sizeof sections[0]; s++)
        sections[s](&sheet);
    bool good = !check || tell_limits(&sheet);
    free(sheet.misses);
    bool known = all_found(&sheet);
    free(sheet.found);
    free(sheet.only);
    return !known ? 2 : good ? 0 : 1;
}
