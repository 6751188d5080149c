/*
 * The canary gets the share that was asked for or the change is refused, and on the way from any share to any other it
 * never gets more than the larger of the two.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "analyzer/traffic/weights.h"

#include <math.h>
#include <stdlib.h>

enum { MOST = 8 };

static double exact_share(double stable_total, double canary_total)
{
    return stable_total + canary_total > 0 ? 10000 * canary_total / (stable_total + canary_total) : 0;
}

/* By trying every pair of weights: how near can one come at all? */
static double nearest_distance(uint32_t share_bp, size_t ns, size_t nc)
{
    double best = INFINITY;
    for (uint32_t ws = 1; ws <= 256; ws++)
        for (uint32_t wc = 1; wc <= 256; wc++)
            best = fmin(best, fabs(exact_share((double)(ws * ns), (double)(wc * nc)) - share_bp));
    return best;
}

static void every_share_is_met_or_refused(void **state)
{
    (void)state;
    for (size_t ns = 1; ns <= MOST; ns++)
        for (size_t nc = 1; nc <= MOST; nc++)
            for (uint32_t bp = 1; bp < 10000; bp++) {
                struct weight_pair pair = {0};
                double said = -1;
                bool had = weights_pair(bp, ns, nc, &pair, &said);
                assert_in_range(pair.stable, 1, 256);
                assert_in_range(pair.canary, 1, 256);
                double got = exact_share((double)(pair.stable * ns), (double)(pair.canary * nc));
                assert_true(fabs(got - said) < 1e-9);
                assert_int_equal(had, fabs(got - bp) <= weights_tolerance(bp) + 1e-9);
            }
}

static void nothing_nearer_exists(void **state)
{
    (void)state;
    static const uint32_t shares[] = {1, 7, 38, 39, 40, 123, 333, 499, 777, 2501, 4999, 7777, 9876, 9961, 9999};
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++)
        for (size_t ns = 1; ns <= MOST; ns += 3)
            for (size_t nc = 1; nc <= MOST; nc += 3) {
                struct weight_pair pair;
                double said;
                weights_pair(shares[i], ns, nc, &pair, &said);
                assert_true(fabs(said - shares[i]) <= nearest_distance(shares[i], ns, nc) + 1e-9);
            }
}

static void usual_steps_are_exact(void **state)
{
    (void)state;
    static const uint32_t steps[] = {100, 200, 500, 1000, 2500, 5000, 7500};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        for (size_t n = 1; n <= MOST; n++) {
            struct weight_pair pair;
            double said;
            assert_true(weights_pair(steps[i], n, n, &pair, &said));
            assert_true(said == steps[i]);
            assert_int_equal(pair.canary * (10000 - steps[i]), pair.stable * steps[i]);
        }
    struct weight_pair pair;
    double said;
    assert_true(weights_pair(500, 10, 1, &pair, &said));
    assert_int_equal(pair.stable, 19);
    assert_int_equal(pair.canary, 10);
}

static void tiny_shares_are_not_rounded_up(void **state)
{
    (void)state;
    struct weight_pair pair;
    double said;
    assert_false(weights_pair(10, 1, 1, &pair, &said)); /* 0.1 %: the least of 1 + 1 servers is 0.39 % */
    assert_true(fabs(said - 10000.0 / 257) < 1e-9);
    assert_true(weights_pair(39, 1, 1, &pair, &said));
    assert_false(weights_pair(9990, 1, 1, &pair, &said));
    assert_true(weights_pair(10, 8, 1, &pair, &said));
    assert_true(fabs(said - 10) <= 1);
}

/* Two tracks of `ns` and `nc` servers with the weights given. */
static size_t tracks(struct weight_server *s, size_t ns, uint32_t ws, size_t nc, uint32_t wc)
{
    for (size_t i = 0; i < ns + nc; i++)
        s[i] = (struct weight_server){
            .track = i < ns ? TRACK_STABLE : TRACK_CANARY, .initial = i < ns ? 100 : 0, .from = i < ns ? ws : wc};
    return ns + nc;
}

static double share_now(const struct weight_server *s, size_t n)
{
    double total[TRACKS] = {0};
    for (size_t i = 0; i < n; i++)
        total[s[i].track] += s[i].from;
    return exact_share(total[TRACK_STABLE], total[TRACK_CANARY]);
}

static bool has_weight(const struct weight_server *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i].from)
            return true;
    return false;
}

/* Goes to `share_bp` command by command; checks every moment; returns the deepest dip below both ends. */
static double walk(struct weight_server *s, size_t n, uint32_t share_bp)
{
    double wanted;
    assert_true(weights_choose(s, n, share_bp, &wanted));
    double before = share_now(s, n);
    size_t order[2 * MOST];
    size_t changes = weights_order(s, n, order);
    double dip = 0;
    for (size_t i = 0; i < changes; i++) {
        s[order[i]].from = s[order[i]].to;
        assert_true(has_weight(s, n));
        assert_true(share_now(s, n) <= fmax(before, wanted) + 1e-6);
        dip = fmax(dip, fmin(before, wanted) - share_now(s, n));
    }
    for (size_t i = 0; i < n; i++)
        assert_int_equal(s[i].from, s[i].to);
    assert_true(fabs(share_now(s, n) - wanted) < 1e-6);
    return dip;
}

static void a_usual_rollout_never_leaves_the_way(void **state)
{
    (void)state;
    static const uint32_t path[] = {0,   500,  1000, 2500, 5000, 10000, 0,    500, 0,
                                    500, 2500, 0,    5000, 500,  10000, 5000, 0};
    for (size_t ns = 1; ns <= MOST; ns++)
        for (size_t nc = 1; nc <= MOST; nc++) {
            struct weight_server s[2 * MOST];
            size_t n = tracks(s, ns, 100, nc, 0);
            for (size_t i = 0; i < sizeof path / sizeof path[0]; i++)
                assert_true(walk(s, n, path[i]) == 0);
        }
}

static void from_any_weights_to_any_share(void **state)
{
    (void)state;
    static const uint32_t weights[] = {0, 1, 3, 100, 255, 256};
    static const uint32_t shares[] = {0, 100, 500, 2600, 5000, 9900, 10000};
    enum { WEIGHTS = sizeof weights / sizeof weights[0], SHARES = sizeof shares / sizeof shares[0] };
    for (size_t a = 0; a < WEIGHTS; a++)
        for (size_t b = 0; b < WEIGHTS; b++)
            for (size_t i = 0; i < SHARES; i++) {
                struct weight_server s[5];
                size_t n = tracks(s, 3, weights[a], 2, weights[b]);
                s[1].from = weights[b]; /* somebody set one by hand */
                walk(s, n, shares[i]);
                double again;
                size_t order[5];
                assert_true(weights_choose(s, n, shares[i], &again));
                assert_int_equal(weights_order(s, n, order), 0); /* asked twice, changed once */
                assert_int_equal(weights_share(s, n), shares[i]);
            }
}

static void both_sides_growing_dips_instead_of_overshooting(void **state)
{
    (void)state;
    struct weight_server s[2];
    size_t n = tracks(s, 1, 3, 1, 1);
    assert_true(walk(s, n, 2600) > 0); /* 3:1 to 37:13; canary first would have been 81 % for a moment */
}

static void rollback_restores_the_configured_weights(void **state)
{
    (void)state;
    struct weight_server s[3];
    size_t n = tracks(s, 2, 7, 1, 3);
    s[0].initial = 40;
    s[1].initial = 80;
    walk(s, n, 0);
    assert_int_equal(s[0].to, 40);
    assert_int_equal(s[1].to, 80);
    assert_int_equal(s[2].to, 0);
    n = tracks(s, 2, 0, 1, 3);
    s[0].initial = s[1].initial = 0; /* stable was the canary of the last rollout */
    walk(s, n, 0);
    assert_int_equal(s[0].to, 100);
    assert_int_equal(s[1].to, 100);
}

static void the_order_raises_first(void **state)
{
    (void)state;
    struct weight_server s[2];
    size_t order[2];
    double share;
    size_t n = tracks(s, 1, 100, 1, 0);
    assert_true(weights_choose(s, n, 10000, &share));
    assert_true(weights_raise(s, n));
    assert_int_equal(weights_order(s, n, order), 2);
    assert_int_equal(s[order[0]].track, TRACK_CANARY);
    n = tracks(s, 1, 0, 1, 100);
    assert_true(weights_choose(s, n, 0, &share));
    assert_false(weights_raise(s, n));
    assert_int_equal(weights_order(s, n, order), 2);
    assert_int_equal(s[order[0]].track, TRACK_STABLE);
}

static void zero_and_all_are_only_said_when_true(void **state)
{
    (void)state;
    struct weight_server s[16];
    size_t n = tracks(s, 15, 256, 1, 1);
    for (size_t i = 0; i < 15; i++)
        s[i].from = 2000000; /* no balancer has such weights; a share of 0.0003 bp must still not read as 0 */
    assert_int_equal(weights_share(s, n), 1);
    n = tracks(s, 1, 1, 15, 2000000);
    assert_int_equal(weights_share(s, n), 9999);
    n = tracks(s, 2, 0, 2, 0);
    assert_int_equal(weights_share(s, n), 0);
    n = tracks(s, 2, 0, 2, 5);
    assert_int_equal(weights_share(s, n), 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_share_is_met_or_refused),
        cmocka_unit_test(nothing_nearer_exists),
        cmocka_unit_test(usual_steps_are_exact),
        cmocka_unit_test(tiny_shares_are_not_rounded_up),
        cmocka_unit_test(a_usual_rollout_never_leaves_the_way),
        cmocka_unit_test(from_any_weights_to_any_share),
        cmocka_unit_test(both_sides_growing_dips_instead_of_overshooting),
        cmocka_unit_test(rollback_restores_the_configured_weights),
        cmocka_unit_test(the_order_raises_first),
        cmocka_unit_test(zero_and_all_are_only_said_when_true),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
