/*
 * Weights are relative, so a share can be written in many ways: 19:1, 95:5 and 247:13 are all 5 %, and HAProxy spreads
 * all three equally well. Which one is taken matters for the way there. From 3:1 to 37:13 (25 % to 26 %) both sides
 * must grow, and whichever comes first throws the share far off; from 93:31 to 74:26 it needs two small changes. So the
 * multiple is chosen by what happens in between, and where a detour cannot be avoided it leads below the two shares,
 * never above them: the canary may get too little for a moment, never too much.
 */
#include "analyzer/traffic/weights.h"

#include <assert.h>
#include <math.h>

static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static double share_of(double stable_total, double canary_total)
{
    double total = stable_total + canary_total;
    return total > 0 ? BASIS_POINTS * canary_total / total : 0;
}

double weights_tolerance(uint32_t share_bp)
{
    double smaller_side = share_bp <= BASIS_POINTS / 2 ? share_bp : BASIS_POINTS - share_bp;
    return fmin(fmax(10, 0.005 * share_bp), 0.1 * smaller_side);
}

/* Sums grow with the canary's weight, and only a better pair replaces one: the smallest of equally good ones stays. */
static void nearest_pair(uint32_t share_bp, size_t stable_servers, size_t canary_servers, struct weight_pair *pair,
                         double *share)
{
    double best = INFINITY;
    uint64_t numerator = (uint64_t)(BASIS_POINTS - share_bp) * canary_servers;
    uint64_t denominator = (uint64_t)share_bp * stable_servers;
    for (uint32_t canary = 1; canary <= WEIGHT_MAX; canary++) {
        uint64_t below = canary * numerator / denominator;
        for (uint64_t stable = below ? below : 1; stable <= below + 1 && stable <= WEIGHT_MAX; stable++) {
            double got = share_of((double)(stable * stable_servers), (double)(canary * (uint64_t)canary_servers));
            if (fabs(got - share_bp) >= best)
                continue;
            best = fabs(got - share_bp);
            *share = got;
            *pair = (struct weight_pair){(uint32_t)stable, canary};
        }
    }
    if (isfinite(best))
        return;
    /* Even the smallest canary weight next to the largest stable weight is too much. */
    *pair = (struct weight_pair){WEIGHT_MAX, 1};
    *share = share_of((double)WEIGHT_MAX * (double)stable_servers, (double)canary_servers);
}

bool weights_pair(uint32_t share_bp, size_t stable_servers, size_t canary_servers, struct weight_pair *pair,
                  double *share)
{
    assert(share_bp > 0 && share_bp < BASIS_POINTS && stable_servers && canary_servers);
    uint64_t stable = (uint64_t)(BASIS_POINTS - share_bp) * canary_servers;
    uint64_t canary = (uint64_t)share_bp * stable_servers;
    uint64_t divisor = gcd(stable, canary);
    stable /= divisor;
    canary /= divisor;
    if (stable <= WEIGHT_MAX && canary <= WEIGHT_MAX) {
        *pair = (struct weight_pair){(uint32_t)stable, (uint32_t)canary};
        *share = share_bp;
        return true;
    }
    nearest_pair(share_bp, stable_servers, canary_servers, pair, share);
    return fabs(*share - share_bp) <= weights_tolerance(share_bp);
}

enum moment { BEFORE, LOWEST, AFTER };

/* The sum of a track's weights before, after, or at the lowest point between (see weights_order). */
static uint64_t track_total(const struct weight_server *servers, size_t count, enum track track, enum moment moment)
{
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        const struct weight_server *s = &servers[i];
        if (s->track != track)
            continue;
        bool from = moment == BEFORE || (moment == LOWEST && (track == TRACK_STABLE) == (s->from > s->to));
        total += from ? s->from : s->to;
    }
    return total;
}

static double share_at(const struct weight_server *servers, size_t count, enum moment moment)
{
    return share_of((double)track_total(servers, count, TRACK_STABLE, moment),
                    (double)track_total(servers, count, TRACK_CANARY, moment));
}

uint32_t weights_share(const struct weight_server *servers, size_t count)
{
    uint64_t stable = track_total(servers, count, TRACK_STABLE, BEFORE);
    uint64_t canary = track_total(servers, count, TRACK_CANARY, BEFORE);
    if (!canary)
        return 0;
    if (!stable)
        return BASIS_POINTS;
    uint64_t total = stable + canary;
    uint64_t share = (BASIS_POINTS * canary + total / 2) / total;
    return share == 0 ? 1 : share == BASIS_POINTS ? BASIS_POINTS - 1 : (uint32_t)share;
}

bool weights_raise(const struct weight_server *servers, size_t count)
{
    return share_at(servers, count, AFTER) > share_at(servers, count, BEFORE);
}

static void assign(struct weight_server *servers, size_t count, enum track track, uint32_t weight)
{
    for (size_t i = 0; i < count; i++)
        if (servers[i].track == track)
            servers[i].to = weight;
}

/* What a track gets that carries all the traffic. */
static uint32_t full_weight(const struct weight_server *servers, size_t count, enum track track)
{
    uint32_t weight = 0;
    for (size_t i = 0; i < count; i++)
        if (servers[i].track == track && servers[i].initial > weight)
            weight = servers[i].initial;
    return weight ? weight : WEIGHT_DEFAULT;
}

static void choose_all_stable(struct weight_server *servers, size_t count)
{
    assign(servers, count, TRACK_CANARY, 0);
    assign(servers, count, TRACK_STABLE, full_weight(servers, count, TRACK_STABLE));
    for (size_t i = 0; i < count; i++)
        if (servers[i].track == TRACK_STABLE && servers[i].initial)
            servers[i].to = servers[i].initial;
}

/* Never below a weight in force: stable still has its own until the end, and the share would dip. */
static void choose_all_canary(struct weight_server *servers, size_t count)
{
    uint32_t weight = full_weight(servers, count, TRACK_CANARY);
    for (size_t i = 0; i < count; i++)
        if (servers[i].track == TRACK_CANARY && servers[i].from > weight)
            weight = servers[i].from;
    assign(servers, count, TRACK_STABLE, 0);
    assign(servers, count, TRACK_CANARY, weight);
}

/* How far the share falls below both its ends on the way to `k` times the pair. */
static double dip_of(struct weight_server *servers, size_t count, struct weight_pair pair, uint32_t k)
{
    assign(servers, count, TRACK_STABLE, k * pair.stable);
    assign(servers, count, TRACK_CANARY, k * pair.canary);
    double ends = fmin(share_at(servers, count, BEFORE), share_at(servers, count, AFTER));
    return fmax(0, ends - share_at(servers, count, LOWEST));
}

/* Of equally good multiples the one near 100: room above and below for the way to the next share, and easy to read. */
static void choose_multiple(struct weight_server *servers, size_t count, struct weight_pair pair)
{
    uint32_t larger = pair.stable > pair.canary ? pair.stable : pair.canary;
    uint32_t chosen = 1;
    double smallest_dip = INFINITY;
    double smallest_distance = INFINITY;
    for (uint32_t k = 1; k <= WEIGHT_MAX / larger; k++) {
        double dip = dip_of(servers, count, pair, k);
        double distance = fabs((double)(k * larger) - WEIGHT_DEFAULT);
        if (dip > smallest_dip || (dip == smallest_dip && distance >= smallest_distance))
            continue;
        smallest_dip = dip;
        smallest_distance = distance;
        chosen = k;
    }
    assign(servers, count, TRACK_STABLE, chosen * pair.stable);
    assign(servers, count, TRACK_CANARY, chosen * pair.canary);
}

static size_t track_size(const struct weight_server *servers, size_t count, enum track track)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += servers[i].track == track;
    return size;
}

bool weights_choose(struct weight_server *servers, size_t count, uint32_t share_bp, double *share)
{
    assert(share_bp <= BASIS_POINTS);
    *share = share_bp;
    if (share_bp == 0) {
        choose_all_stable(servers, count);
        return true;
    }
    if (share_bp == BASIS_POINTS) {
        choose_all_canary(servers, count);
        return true;
    }
    struct weight_pair pair;
    if (!weights_pair(share_bp, track_size(servers, count, TRACK_STABLE), track_size(servers, count, TRACK_CANARY),
                      &pair, share))
        return false;
    choose_multiple(servers, count, pair);
    return true;
}

size_t weights_order(const struct weight_server *servers, size_t count, size_t *order)
{
    static const struct {
        enum track track;
        bool raise;
    } phases[] = {{TRACK_STABLE, true}, {TRACK_CANARY, false}, {TRACK_CANARY, true}, {TRACK_STABLE, false}};

    size_t n = 0;
    for (size_t phase = 0; phase < sizeof phases / sizeof phases[0]; phase++)
        for (size_t i = 0; i < count; i++) {
            const struct weight_server *s = &servers[i];
            if (s->from != s->to && s->track == phases[phase].track && (s->to > s->from) == phases[phase].raise)
                order[n++] = i;
        }
    return n;
}
