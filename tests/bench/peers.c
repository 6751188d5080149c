/*
 * Every rule sees sums over an arm. They are gathered once a look; points of the present step are kept for the rules
 * that compare points, sums since the first traffic for those that compare counts. A rule that has decided is not asked
 * again.
 */
#include "tests/bench/peers.h"

#include "base/memory.h"
#include "stats/exact.h"
#include "stats/kayenta.h"
#include "stats/latency.h"
#include "stats/lr.h"
#include "stats/quantile.h"
#include "stats/ranks.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SERIES = 4, POINTS = 256, LEAST_POINTS = 4, MINUTE_LOOKS = 4, CHECKS = 5 };
static const double level = 0.05, error_limit = 0.01, latency_limit_s = 0.5, slow_s = 0.25, sprt_threshold = 20;

/* The sums of one metric over an arm. */
struct sums {
    uint64_t requests, failed, slow;
    uint64_t buckets[LATENCY_EDGES];
};

struct series {
    double points[TRACKS][POINTS]; /* of the present step; NAN: no requests */
    struct sums all[TRACKS];       /* since the first traffic */
    struct sums minute;            /* of the canary */
};

struct peers {
    bool asked[PEERS], abort[PEERS];
    struct series series[SERIES];
    size_t series_count, points;
    unsigned minute_looks, failed_checks;
    double ratio, log_sprt;
    double *scratch;
};

struct peers *peers_new(const bool asked[PEERS])
{
    struct peers *peers = mem_alloc(1, sizeof *peers);
    memcpy(peers->asked, asked, sizeof peers->asked);
    /* The exact law of small samples wants more than large samples do. */
    size_t small = ranks_scratch(RANKS_EXACT_POINTS - 1, RANKS_EXACT_POINTS - 1);
    size_t large = ranks_scratch(POINTS, POINTS) + kayenta_scratch(POINTS, POINTS);
    peers->scratch = mem_alloc(2 * POINTS + small + large, sizeof *peers->scratch);
    return peers;
}

void peers_free(struct peers *peers)
{
    if (!peers)
        return;
    free(peers->scratch);
    free(peers);
}

void peers_begin(struct peers *peers, double ratio)
{
    memset(peers->abort, 0, sizeof peers->abort);
    memset(peers->series, 0, sizeof peers->series);
    peers->points = 0;
    peers->minute_looks = 0;
    peers->failed_checks = 0;
    peers->ratio = ratio;
    peers->log_sprt = 0;
}

bool peers_abort(const struct peers *peers, enum peer peer)
{
    return peers->abort[peer];
}

bool peers_all_abort(const struct peers *peers)
{
    for (int p = 0; p < PEERS; p++)
        if (peers->asked[p] && !peers->abort[p])
            return false;
    return true;
}

static bool is_open(const struct peers *peers, enum peer peer)
{
    return peers->asked[peer] && !peers->abort[peer];
}

/* --- what a look adds --- */

static struct sums sums_of(const struct evidence_metric *metric, const struct track_counts *track)
{
    struct sums sums = {0};
    for (size_t i = 0; i < track->count; i++) {
        const struct instance_counts *one = &track->instances[i];
        sums.requests += one->requests;
        sums.failed += one->failed;
        for (size_t e = 0; e < metric->edge_count; e++) {
            sums.buckets[e] += one->buckets[e];
            sums.slow += metric->edges[e] > slow_s ? one->buckets[e] : 0;
        }
    }
    return sums;
}

static void add(struct sums *to, const struct sums *sums, size_t edges)
{
    to->requests += sums->requests;
    to->failed += sums->failed;
    to->slow += sums->slow;
    for (size_t e = 0; e < edges; e++)
        to->buckets[e] += sums->buckets[e];
}

static double p99_s(const struct evidence_metric *metric, const struct sums *sums)
{
    return bucket_quantile(0.99, metric->edges, sums->buckets, metric->edge_count);
}

static double mean_of(const struct track_counts *track)
{
    double sum = 0;
    for (size_t i = 0; i < track->count; i++)
        sum += track->instances[i].value;
    return sum / (double)track->count;
}

static double point_of(const struct evidence_metric *metric, const struct track_counts *track, const struct sums *sums)
{
    if (metric->type == METRIC_GAUGE)
        return mean_of(track);
    if (sums->requests == 0)
        return NAN;
    return metric->type == METRIC_LATENCY ? 1000 * p99_s(metric, sums)
                                          : 100 * (double)sums->failed / (double)sums->requests;
}

/* --- points: Kayenta, and the test of ranks --- */

static bool kayenta_is_high(const struct peers *peers, const struct series *series)
{
    struct kayenta_settings settings = kayenta_defaults(KAYENTA_MEAN_RATIO);
    settings.direction = KAYENTA_INCREASE;
    struct kayenta_result result;
    kayenta_classify(series->points[TRACK_CANARY], peers->points, series->points[TRACK_STABLE], peers->points,
                     &settings, peers->scratch, &result);
    return result.class == KAYENTA_HIGH;
}

static size_t present(const double points[], size_t count, double kept[])
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (!isnan(points[i]))
            kept[n++] = points[i];
    return n;
}

static bool ranks_are_higher(const struct peers *peers, const struct series *series)
{
    double *x = peers->scratch, *y = x + POINTS;
    size_t m = present(series->points[TRACK_CANARY], peers->points, x);
    size_t n = present(series->points[TRACK_STABLE], peers->points, y);
    struct ranks ranks;
    struct mann_whitney test;
    return m >= LEAST_POINTS && n >= LEAST_POINTS && ranks_sort(&ranks, x, m, y, n, y + POINTS) &&
           ranks_mann_whitney(&ranks, RANKS_GREATER, RANKS_USUAL, &test) && test.p < level;
}

static void judge_points(struct peers *peers, enum peer peer,
                         bool (*is_high)(const struct peers *, const struct series *))
{
    for (size_t s = 0; s < peers->series_count && is_open(peers, peer); s++)
        peers->abort[peer] = is_high(peers, &peers->series[s]);
}

static void compare_points(struct peers *peers, bool ends_step)
{
    if (peers->points >= LEAST_POINTS) {
        judge_points(peers, PEER_KAYENTA_LOOKS, kayenta_is_high);
        judge_points(peers, PEER_RANKS_LOOKS, ranks_are_higher);
    }
    if (!ends_step)
        return;
    judge_points(peers, PEER_KAYENTA_STEPS, kayenta_is_high);
    judge_points(peers, PEER_RANKS_STEPS, ranks_are_higher);
    peers->points = 0;
}

/* --- counts: thresholds, Fisher's test, Wald's --- */

static bool minute_fails(const struct evidence_metric *metric, const struct sums *minute)
{
    if (metric->type == METRIC_GAUGE || minute->requests == 0)
        return false;
    if (metric->type == METRIC_LATENCY)
        return p99_s(metric, minute) > latency_limit_s;
    return (double)minute->failed > error_limit * (double)minute->requests;
}

static void check_minute(struct peers *peers, const struct evidence *evidence)
{
    if (++peers->minute_looks < MINUTE_LOOKS)
        return;
    bool fails = false;
    for (size_t s = 0; s < peers->series_count; s++) {
        fails |= minute_fails(&evidence->metrics[s], &peers->series[s].minute);
        peers->series[s].minute = (struct sums){0};
    }
    peers->minute_looks = 0;
    peers->failed_checks += fails;
    peers->abort[PEER_THRESHOLD] |= peers->asked[PEER_THRESHOLD] && peers->failed_checks >= CHECKS;
}

static bool fisher_is_sure(uint64_t k_c, uint64_t n_c, uint64_t k_s, uint64_t n_s)
{
    return fisher_log_p(k_c, n_c, k_s, n_s, EXACT_GREATER) < log(level);
}

static void test_counts(struct peers *peers, const struct evidence_metric *metric, const struct series *series)
{
    const struct sums *c = &series->all[TRACK_CANARY], *s = &series->all[TRACK_STABLE];
    bool errors = metric->type == METRIC_ERRORS;
    bool wanted = is_open(peers, PEER_FISHER_BOTH) || (errors && is_open(peers, PEER_FISHER_ERRORS));
    if (metric->type == METRIC_GAUGE || !wanted)
        return;
    bool sure = errors ? fisher_is_sure(c->failed, c->requests, s->failed, s->requests)
                       : fisher_is_sure(c->slow, c->requests, s->slow, s->requests);
    peers->abort[PEER_FISHER_BOTH] |= peers->asked[PEER_FISHER_BOTH] && sure;
    peers->abort[PEER_FISHER_ERRORS] |= peers->asked[PEER_FISHER_ERRORS] && errors && sure;
}

static void test_ratio(struct peers *peers, const struct sums *canary, const struct sums *stable)
{
    if (!is_open(peers, PEER_SPRT) || !(peers->ratio > 1))
        return;
    peers->log_sprt += lr_log_e(canary->failed, canary->requests, stable->failed, stable->requests, 1, 0, peers->ratio);
    peers->abort[PEER_SPRT] = peers->log_sprt >= log(sprt_threshold);
}

static void fold_metric(struct peers *peers, const struct evidence_metric *metric,
                        const struct evidence_interval *interval, struct series *series)
{
    struct sums sums[TRACKS];
    for (int t = 0; t < TRACKS; t++) {
        sums[t] = sums_of(metric, &interval->tracks[t]);
        series->points[t][peers->points] = point_of(metric, &interval->tracks[t], &sums[t]);
        add(&series->all[t], &sums[t], metric->edge_count);
    }
    add(&series->minute, &sums[TRACK_CANARY], metric->edge_count);
    test_counts(peers, metric, series);
    if (metric->type == METRIC_ERRORS)
        test_ratio(peers, &sums[TRACK_CANARY], &sums[TRACK_STABLE]);
}

void peers_look(struct peers *peers, const struct evidence *evidence, const struct look *look, bool ends_step)
{
    assert(look->count <= SERIES && peers->points < POINTS);
    peers->series_count = look->count;
    for (size_t m = 0; m < look->count; m++)
        fold_metric(peers, &evidence->metrics[m], look->intervals[m], &peers->series[m]);
    peers->points++;
    check_minute(peers, evidence);
    compare_points(peers, ends_step);
}
