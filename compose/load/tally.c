/*
 * Counting. Durations go into a histogram with logarithmic bins, so that a run of a day needs no more memory than one
 * of a second.
 */
#include "compose/load/load.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const failure_names[FAILURES] = {
    [FAIL_CONNECT] = "connect", [FAIL_RESET] = "reset",   [FAIL_EMPTY] = "empty",
    [FAIL_TIMEOUT] = "timeout", [FAIL_UNSENT] = "unsent", [FAIL_OTHER] = "other",
};

static const double SHORTEST_MS = 0.001;
static const double LONGEST_MS = 1e7;
static const double BIN_RATIO = 1.005;

static gsl_histogram *new_histogram(void)
{
    size_t bins = (size_t)ceil(log(LONGEST_MS / SHORTEST_MS) / log(BIN_RATIO));
    double *edges = mem_alloc(bins + 1, sizeof *edges);
    for (size_t i = 0; i <= bins; i++)
        edges[i] = SHORTEST_MS * pow(BIN_RATIO, (double)i);
    gsl_histogram *histogram = gsl_histogram_alloc(bins);
    gsl_histogram_set_ranges(histogram, edges, bins + 1);
    free(edges);
    return histogram;
}

void spread_add(struct spread *spread, double ms)
{
    if (!spread->histogram)
        spread->histogram = new_histogram();
    spread->count++;
    spread->max = fmax(spread->max, ms);
    gsl_histogram_increment(spread->histogram, fmin(fmax(ms, SHORTEST_MS), LONGEST_MS));
}

double spread_quantile(const struct spread *spread, double q)
{
    if (spread->count == 0)
        return 0;
    double rank = ceil(q * (double)spread->count);
    double below = 0;
    for (size_t bin = 0; bin < spread->histogram->n; bin++) {
        below += gsl_histogram_get(spread->histogram, bin);
        if (below >= rank)
            return fmin(spread->histogram->range[bin + 1], spread->max);
    }
    return spread->max;
}

static void group_add(struct group *group, long status, double ms)
{
    group->answered++;
    group->status[status >= 0 && status < STATUS_LIMIT ? status : 0]++;
    spread_add(&group->latency, ms);
}

/* A server that invents a new name for every answer must not make the generator grow. */
static struct group *group_named(struct group_set *set, const char *name)
{
    if (!set->groups)
        set->groups = mem_alloc(GROUPS_MAX, sizeof *set->groups);
    for (size_t i = 0; i < set->count; i++)
        if (strncmp(set->groups[i].name, name, GROUP_NAME - 1) == 0)
            return &set->groups[i];
    if (set->count == GROUPS_MAX)
        return &set->groups[GROUPS_MAX - 1];
    struct group *group = &set->groups[set->count++];
    strncpy(group->name, set->count == GROUPS_MAX ? "(others)" : name, GROUP_NAME - 1);
    return group;
}

void tally_answer(struct tally *tally, enum load_method method, long status, const char *track, const char *version,
                  double ms)
{
    tally->method_answered[method]++;
    group_add(&tally->all, status, ms);
    group_add(group_named(&tally->tracks, track ? track : "(none)"), status, ms);
    group_add(group_named(&tally->versions, version ? version : "(none)"), status, ms);
}

void tally_failure(struct tally *tally, enum failure kind)
{
    tally->failed++;
    tally->failures[kind]++;
}

static void spread_free(struct spread *spread)
{
    if (spread->histogram)
        gsl_histogram_free(spread->histogram);
    spread->histogram = NULL;
}

static void group_set_free(struct group_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        spread_free(&set->groups[i].latency);
    free(set->groups);
    set->groups = NULL;
}

void tally_free(struct tally *tally)
{
    spread_free(&tally->all.latency);
    spread_free(&tally->lateness);
    spread_free(&tally->queueing);
    group_set_free(&tally->tracks);
    group_set_free(&tally->versions);
}
