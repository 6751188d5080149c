/* Evidence summed up: how much traffic there is, and what stable is like. */
#include "analyzer/trials/plan.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

struct plan_traffic plan_traffic_new(const struct policy *policy)
{
    struct plan_traffic traffic = {.levels = mem_alloc(policy->metric_count, sizeof(struct plan_level)),
                                   .level_count = policy->metric_count};
    for (int t = 0; t < TRACKS; t++)
        traffic.instances[t] = policy_servers(&policy->traffic, (enum track)t);
    return traffic;
}

void plan_traffic_free(struct plan_traffic *traffic)
{
    for (size_t m = 0; m < traffic->level_count; m++) {
        free(traffic->levels[m].at.buckets);
        free(traffic->levels[m].edges);
    }
    free(traffic->levels);
    *traffic = (struct plan_traffic){0};
}

static const struct evidence_metric *find_metric(const struct evidence *evidence, const struct policy_metric *policy)
{
    for (size_t m = 0; m < evidence->metric_count; m++)
        if (strcmp(evidence->metrics[m].name, policy->name) == 0 && evidence->metrics[m].type == policy->type)
            return &evidence->metrics[m];
    return NULL;
}

static double count_requests(const struct track_counts *track)
{
    double requests = 0;
    for (size_t i = 0; i < track->count; i++)
        requests += (double)track->instances[i].requests;
    return requests;
}

static void add_track(struct instance_counts *sum, const struct track_counts *track, size_t edges)
{
    for (size_t i = 0; i < track->count; i++) {
        sum->requests += track->instances[i].requests;
        sum->failed += track->instances[i].failed;
        for (size_t e = 0; e < edges; e++)
            sum->buckets[e] += track->instances[i].buckets[e];
    }
}

static void learn_level(struct plan_level *level, const struct evidence_metric *metric, int64_t interval_ms)
{
    double requests = 0;
    free(level->at.buckets);
    free(level->edges);
    *level = (struct plan_level){.edge_count = metric->edge_count,
                                 .edges = mem_alloc(metric->edge_count + 1, sizeof *level->edges),
                                 .at.buckets = mem_alloc(metric->edge_count + 1, sizeof *level->at.buckets)};
    if (metric->edge_count)
        memcpy(level->edges, metric->edges, metric->edge_count * sizeof *level->edges);
    for (size_t i = 0; i < metric->count; i++) {
        const struct track_counts *tracks = metric->intervals[i].tracks;
        add_track(&level->at, &tracks[TRACK_STABLE], metric->edge_count);
        requests += count_requests(&tracks[TRACK_STABLE]) + count_requests(&tracks[TRACK_CANARY]);
    }
    int64_t span_ms = metric->intervals[metric->count - 1].at_ms - metric->intervals[0].at_ms + interval_ms;
    level->rps = requests / ((double)span_ms / 1000);
    level->history = (double)level->at.requests;
}

/* As for the judge, an instance is told apart only if it has a name. */
static void count_instances(const struct evidence_metric *metric, size_t instances[TRACKS])
{
    const struct track_counts *tracks = metric->intervals[metric->count - 1].tracks;
    for (int t = 0; t < TRACKS; t++)
        if (tracks[t].count && tracks[t].instances[0].instance)
            instances[t] = tracks[t].count;
}

void plan_traffic_learn(struct plan_traffic *traffic, const struct policy *policy, const struct evidence *evidence)
{
    for (size_t m = 0; m < policy->metric_count; m++) {
        const struct evidence_metric *metric = find_metric(evidence, &policy->metrics[m]);
        if (!metric || metric->count == 0)
            continue;
        learn_level(&traffic->levels[m], metric, evidence->interval_ms);
        count_instances(metric, traffic->instances);
    }
}
