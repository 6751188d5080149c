/*
 * Several balancers as one. What a user may rely on: the share that is told holds for every balancer; half a raise is
 * undone and told; the way back to stable is tried at every balancer, whatever the others say, and is not over before
 * it is proven at each; and a failure names the balancer that it is about. Also which shares a policy's balancers can
 * give.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "analyzer/traffic/fleet.h"
#include "base/memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 3 };

/* A balancer that does what it is told, or fails as it is told. */
struct fake {
    struct driver_state state;
    enum driver_status get_fails, set_fails;
    bool fails_at_zero; /* `set_fails` also on the way back to stable */
    struct driver_order last;
    size_t sets;
    struct balancer_counters counters;
    enum driver_status drain_fails;
    uint64_t in_flight;
    const char *finding;
};

static enum driver_status fake_get(void *self, struct driver_state *got, struct error *err)
{
    struct fake *fake = self;
    if (fake->get_fails)
        return driver_fail(err, fake->get_fails, "it does not answer");
    *got = fake->state;
    return DRIVER_OK;
}

static enum driver_status fake_set(void *self, const struct driver_order *order, struct driver_state *got,
                                   struct error *err)
{
    struct fake *fake = self;
    fake->sets++;
    fake->last = *order;
    if (fake->set_fails && (order->share_bp > 0 || fake->fails_at_zero))
        return driver_fail(err, fake->set_fails, "it will not");
    if (driver_fence(order, fake->state.epoch, "it", err) != DRIVER_OK)
        return DRIVER_FENCED;
    fake->state.share_bp = order->share_bp;
    fake->state.epoch = driver_epoch_after(order, fake->state.epoch);
    fake->state.lease_left_ms = order->lease_ms ? order->lease_ms : -1;
    *got = fake->state;
    return DRIVER_OK;
}

static enum driver_status fake_counters(void *self, struct balancer_counters *got, struct error *err)
{
    struct fake *fake = self;
    if (fake->get_fails)
        return driver_fail(err, fake->get_fails, "it does not answer");
    *got = fake->counters;
    return DRIVER_OK;
}

static enum driver_status fake_drain(void *self, enum track track, int64_t deadline_ms, uint64_t *in_flight,
                                     struct error *err)
{
    struct fake *fake = self;
    (void)track;
    assert_true(deadline_ms >= 0);
    *in_flight = fake->in_flight;
    return fake->drain_fails ? driver_fail(err, fake->drain_fails, "it has %d left", (int)fake->in_flight) : DRIVER_OK;
}

static enum driver_status fake_check(void *self, struct driver_report *report, struct error *err)
{
    struct fake *fake = self;
    if (fake->finding)
        driver_find(report, true, "%s", fake->finding);
    return fake->get_fails ? driver_fail(err, fake->get_fails, "it does not answer") : DRIVER_OK;
}

static const struct driver_ops fake_ops = {.name = "fake",
                                           .get = fake_get,
                                           .set = fake_set,
                                           .counters = fake_counters,
                                           .drain = fake_drain,
                                           .check = fake_check};
static enum driver_status whole_per_cents(const void *self, uint32_t share_bp, struct error *err)
{
    (void)self;
    return share_bp % 100 ? driver_fail(err, DRIVER_REFUSED, "whole per cents only") : DRIVER_OK;
}

static const struct driver_ops coarse_ops = {.name = "coarse", .set = fake_set, .can_give = whole_per_cents};
static const struct driver_ops bare_ops = {.name = "bare", .set = fake_set};

static struct fake fakes[MOST];
static struct fleet_member members[MOST];
static char *const names[MOST] = {"/run/a.sock", "/run/b.sock", "/run/c.sock"};

/* So many balancers that are well, each with `share_bp`. */
static struct fleet fleet_of(size_t count, uint32_t share_bp)
{
    for (size_t i = 0; i < count; i++) {
        fakes[i] = (struct fake){.state = {.share_bp = share_bp,
                                           .lease_left_ms = -1,
                                           .generation = 7 + i,
                                           .up = {2, 1},
                                           .health_known = true,
                                           .capabilities = DRIVER_READBACK | DRIVER_LEASE}};
        members[i] = (struct fleet_member){&fake_ops, &fakes[i], names[i]};
    }
    return (struct fleet){members, count};
}

static void assert_says(const struct error *err, const char *part)
{
    if (!strstr(err->text, part))
        fail_msg("expected '%s' in: %s", part, err->text);
}

static void assert_silent_on(const struct error *err, const char *part)
{
    if (strstr(err->text, part))
        fail_msg("did not expect '%s' in: %s", part, err->text);
}

/* --- get --------------------------------------------------------------------------------------------------------- */

static void the_answer_is_what_holds_for_all(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(3, 500);
    struct driver_state got = {.lease_left_ms = -1};
    struct error err = {0};
    fakes[0].state.epoch = 4;
    fakes[1].state.epoch = 9;
    fakes[1].state.lease_left_ms = 3000;
    fakes[2].state.lease_left_ms = 5000;
    fakes[1].state.lease_over = true;
    fakes[2].state.up[TRACK_CANARY] = 0;
    fakes[2].state.capabilities = DRIVER_READBACK | DRIVER_CAS;
    strcpy(fakes[0].state.detail, "one");
    strcpy(fakes[2].state.detail, "three");
    assert_int_equal(fleet_get(&fleet, &got, &err), DRIVER_OK);
    assert_int_equal(got.share_bp, 500);
    assert_int_equal(got.epoch, 9);
    assert_int_equal(got.lease_left_ms, 3000);
    assert_true(got.lease_over);
    assert_true(got.health_known);
    assert_int_equal(got.up[TRACK_STABLE], 2);
    assert_int_equal(got.up[TRACK_CANARY], 0);
    assert_int_equal(got.capabilities, DRIVER_READBACK);
    assert_string_equal(got.detail, "1: one; 2: no detail; 3: three");
    assert_false(got.unsaved);
    fakes[1].state.health_known = false;
    fakes[1].state.unsaved = true;
    assert_int_equal(fleet_get(&fleet, &got, &err), DRIVER_OK);
    assert_false(got.health_known);
    assert_true(got.unsaved);
}

static void a_restart_of_any_member_is_another_generation(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(3, 0);
    struct driver_state before = {0}, after = {0};
    struct error err = {0};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(fleet_get(&fleet, &before, &err), DRIVER_OK);
        assert_int_equal(fleet_get(&fleet, &after, &err), DRIVER_OK);
        assert_true(before.generation != 0 && before.generation == after.generation);
        fakes[i].state.generation += 100;
        assert_int_equal(fleet_get(&fleet, &after, &err), DRIVER_OK);
        assert_true(before.generation != after.generation);
    }
    /* Two that change places are a change too. */
    uint64_t other = fakes[0].state.generation;
    fakes[0].state.generation = fakes[1].state.generation;
    fakes[1].state.generation = other;
    assert_int_equal(fleet_get(&fleet, &before, &err), DRIVER_OK);
    assert_true(before.generation != after.generation);
    for (size_t i = 0; i < 3; i++)
        fakes[i].state.generation = 0;
    assert_int_equal(fleet_get(&fleet, &after, &err), DRIVER_OK);
    assert_int_equal(after.generation, 0);
}

static void shares_that_differ_are_no_share(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(2, 500);
    struct driver_state got;
    struct error err = {0};
    fakes[1].state.share_bp = 1000;
    assert_int_equal(fleet_get(&fleet, &got, &err), DRIVER_MISMATCH);
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    assert_says(&err, "1: 5 %, 2: 10 %");
    /* A member at nothing agrees with none that has a share, however small. */
    fakes[0].state.share_bp = 0;
    for (fakes[1].state.share_bp = 1; fakes[1].state.share_bp <= 20; fakes[1].state.share_bp++)
        assert_int_equal(fleet_get(&fleet, &got, &err), DRIVER_MISMATCH);
    /* Each may be as far from what was asked for as whole weights put it. */
    fakes[0].state.share_bp = 995;
    fakes[1].state.share_bp = 1005;
    assert_int_equal(fleet_get(&fleet, &got, &err), DRIVER_OK);
    assert_int_equal(got.share_bp, 1000);
}

static void a_silent_member_is_named(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(3, 500);
    struct driver_state got = {0};
    struct error err = {0};
    fakes[0].get_fails = DRIVER_UNREACHABLE;
    fakes[2].get_fails = DRIVER_TIMEOUT;
    assert_int_equal(fleet_get(&fleet, &got, &err), DRIVER_TIMEOUT);
    assert_says(&err, "balancer 1 (/run/a.sock): it does not answer; balancer 3 (/run/c.sock): it does not answer");
    assert_silent_on(&err, "balancer 2");
    assert_int_equal(got.capabilities, 0);
}

/* --- set --------------------------------------------------------------------------------------------------------- */

static enum driver_status set(const struct fleet *fleet, uint32_t share_bp, struct error *err)
{
    struct driver_state got = {.lease_left_ms = -1};
    const struct driver_order order = {.share_bp = share_bp, .epoch = 5, .lease_ms = 60000};
    enum driver_status status = fleet_set(fleet, &order, &got, err);
    if (status == DRIVER_OK)
        assert_int_equal(got.share_bp, share_bp);
    return status;
}

static void all_are_raised_and_read_back(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(3, 500);
    struct error err = {0};
    assert_int_equal(set(&fleet, 1000, &err), DRIVER_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(fakes[i].state.share_bp, 1000);
        assert_int_equal(fakes[i].last.epoch, 5);
        assert_int_equal(fakes[i].last.lease_ms, 60000);
        assert_int_equal(fakes[i].sets, 1);
    }
}

static void half_a_raise_is_undone(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(3, 500);
    struct error err = {0};
    fakes[1].set_fails = DRIVER_UNHEALTHY;
    fakes[0].state.lease_left_ms = 20000;
    assert_int_equal(set(&fleet, 1000, &err), DRIVER_UNHEALTHY);
    assert_says(&err, "balancer 2 (/run/b.sock): it will not; balancer 1 was put back to 5 %");
    assert_int_equal(fakes[0].state.share_bp, 500);
    assert_int_equal(fakes[0].last.lease_ms, 60000); /* it had one, and is renewed */
    assert_int_equal(fakes[0].last.epoch, 5);
    assert_int_equal(fakes[2].sets, 0);
    assert_int_equal(fakes[2].state.share_bp, 500);
}

static void what_had_nothing_gets_nothing_back_and_no_lease(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(2, 0);
    struct error err = {0};
    fakes[1].set_fails = DRIVER_TIMEOUT;
    assert_int_equal(set(&fleet, 500, &err), DRIVER_TIMEOUT);
    assert_int_equal(fakes[0].sets, 2);
    assert_int_equal(fakes[0].state.share_bp, 0);
    assert_int_equal(fakes[0].last.lease_ms, 0);
}

/* Refuses what goes down: the put-back itself fails. */
static enum driver_status stubborn_set(void *self, const struct driver_order *order, struct driver_state *got,
                                       struct error *err)
{
    struct fake *fake = self;
    if (order->share_bp < fake->state.share_bp)
        return driver_fail(err, DRIVER_TIMEOUT, "it fell silent");
    return fake_set(self, order, got, err);
}

static void a_put_back_that_fails_is_told(void **state)
{
    (void)state;
    static const struct driver_ops stubborn_ops = {.name = "stubborn", .get = fake_get, .set = stubborn_set};
    struct fleet fleet = fleet_of(2, 500);
    struct error err = {0};
    members[0].ops = &stubborn_ops;
    fakes[1].set_fails = DRIVER_UNREACHABLE;
    assert_int_equal(set(&fleet, 1000, &err), DRIVER_UNREACHABLE);
    assert_says(&err, "balancer 1 could not be put back to 5 %");
    assert_int_equal(fakes[0].state.share_bp, 1000);
}

static void stable_is_tried_everywhere(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(3, 5000);
    struct error err = {0};
    fakes[0].get_fails = DRIVER_UNREACHABLE; /* it cannot be looked at, and can be set all the same */
    fakes[2].state.epoch = 6;                /* a newer rollout has this one */
    assert_int_equal(set(&fleet, 0, &err), DRIVER_FENCED);
    assert_int_equal(fakes[0].state.share_bp, 0);
    assert_int_equal(fakes[1].state.share_bp, 0);
    assert_int_equal(fakes[2].sets, 1);
    assert_int_equal(fakes[2].state.share_bp, 5000);
    assert_says(&err, "balancer 3 (/run/c.sock)");
    assert_silent_on(&err, "balancer 1");
    assert_silent_on(&err, "balancer 2");
}

/* Who is told that he is fenced goes. So nobody is told so while a member may still have a share. */
static void on_the_way_back_fenced_hides_nothing(void **state)
{
    (void)state;
    static const enum driver_status others[] = {DRIVER_UNSUPPORTED, DRIVER_REFUSED,  DRIVER_UNREACHABLE,
                                                DRIVER_TIMEOUT,     DRIVER_MISMATCH, DRIVER_UNHEALTHY};
    struct error err = {0};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        for (size_t fenced = 0; fenced < 2; fenced++) {
            struct fleet fleet = fleet_of(2, 2500);
            fakes[fenced].state.epoch = 6;
            fakes[1 - fenced].set_fails = others[i];
            fakes[1 - fenced].fails_at_zero = true;
            assert_int_equal(set(&fleet, 0, &err), others[i]);
            assert_int_not_equal(err.code, ERROR_BUSY);
            assert_says(&err, "balancer 1 (/run/a.sock)");
            assert_says(&err, "balancer 2 (/run/b.sock)");
            /* Once the other one is back, the fleet belongs to somebody else. */
            fakes[1 - fenced].set_fails = DRIVER_OK;
            assert_int_equal(set(&fleet, 0, &err), DRIVER_FENCED);
            assert_int_equal(err.code, ERROR_BUSY);
            assert_int_equal(fakes[1 - fenced].state.share_bp, 0);
        }
}

/* The same for one that is back, and that a restart would give its old share again. */
static void on_the_way_back_fenced_hides_nothing_unsaved(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(3, 2500);
    struct error err = {0};
    fakes[0].state.epoch = 6;
    fakes[2].state.unsaved = true;
    strcpy(fakes[2].state.detail, "no room for the file");
    assert_int_equal(set(&fleet, 0, &err), DRIVER_REFUSED);
    assert_says(&err, "balancer 1 (/run/a.sock)");
    assert_says(&err, "balancer 3 (/run/c.sock): no room for the file");
    assert_silent_on(&err, "balancer 2");
    fakes[2].state.unsaved = false;
    assert_int_equal(set(&fleet, 0, &err), DRIVER_FENCED);
}

static void what_one_member_has_not_saved_is_told(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(2, 2500);
    struct driver_state got = {0};
    const struct driver_order order = {.epoch = 5};
    struct error err = {0};
    fakes[1].state.unsaved = true;
    assert_int_equal(fleet_set(&fleet, &order, &got, &err), DRIVER_OK);
    assert_true(got.unsaved);
    fakes[1].state.unsaved = false;
    assert_int_equal(fleet_set(&fleet, &order, &got, &err), DRIVER_OK);
    assert_false(got.unsaved);
}

/* --- a member that hangs --- */

static pthread_mutex_t door = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static size_t inside;

/* Answers when all others are being asked too, and not at all if that does not happen. */
static bool meet_the_others(size_t others)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    int failed = 0;
    pthread_mutex_lock(&door);
    inside++;
    pthread_cond_broadcast(&opened);
    while (inside < others && failed == 0)
        failed = pthread_cond_timedwait(&opened, &door, &until);
    pthread_mutex_unlock(&door);
    return failed == 0;
}

static enum driver_status slow_get(void *self, struct driver_state *got, struct error *err)
{
    return meet_the_others(MOST) ? fake_get(self, got, err) : driver_fail(err, DRIVER_TIMEOUT, "it was alone");
}

static enum driver_status slow_set(void *self, const struct driver_order *order, struct driver_state *got,
                                   struct error *err)
{
    return meet_the_others(MOST) ? fake_set(self, order, got, err) : driver_fail(err, DRIVER_TIMEOUT, "it was alone");
}

static void one_that_hangs_keeps_no_other_from_going_back(void **state)
{
    (void)state;
    static const struct driver_ops slow_ops = {.name = "slow", .get = slow_get, .set = slow_set};
    struct fleet fleet = fleet_of(MOST, 5000);
    struct driver_state got = {0};
    struct error err = {0};
    for (size_t i = 0; i < MOST; i++)
        members[i].ops = &slow_ops;
    inside = 0;
    assert_int_equal(fleet_get(&fleet, &got, &err), DRIVER_OK);
    inside = 0;
    assert_int_equal(set(&fleet, 0, &err), DRIVER_OK);
    /* Nobody was looked at first. */
    assert_int_equal(inside, MOST);
}

static void stable_is_tried_also_where_nobody_can_be_looked_at(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(2, 5000);
    struct error err = {0};
    fakes[0].get_fails = fakes[1].get_fails = DRIVER_UNREACHABLE;
    assert_int_equal(set(&fleet, 0, &err), DRIVER_OK);
    assert_int_equal(fakes[0].state.share_bp + fakes[1].state.share_bp, 0);
}

static void the_gravest_failure_is_told(void **state)
{
    (void)state;
    static const enum driver_status rising[] = {DRIVER_UNSUPPORTED, DRIVER_REFUSED,  DRIVER_UNREACHABLE,
                                                DRIVER_TIMEOUT,     DRIVER_MISMATCH, DRIVER_UNHEALTHY,
                                                DRIVER_FENCED};
    enum { STATUSES = sizeof rising / sizeof *rising };
    struct error err = {0};
    for (size_t a = 0; a < STATUSES; a++)
        for (size_t b = 0; b < STATUSES; b++) {
            struct fleet fleet = fleet_of(2, 5000);
            fakes[0].set_fails = rising[a];
            fakes[1].set_fails = rising[b];
            assert_int_equal(set(&fleet, 500, &err), rising[a > b ? a : b]);
            assert_int_equal(fakes[0].sets + fakes[1].sets, 2);
        }
}

static void lowering_comes_before_raising(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(3, 0);
    struct error err = {0};
    fakes[2].state.share_bp = 5000;
    fakes[2].set_fails = DRIVER_TIMEOUT;
    assert_int_equal(set(&fleet, 500, &err), DRIVER_TIMEOUT);
    assert_int_equal(fakes[2].sets, 1);
    assert_int_equal(fakes[0].sets + fakes[1].sets, 0);
    fakes[2].set_fails = DRIVER_OK;
    assert_int_equal(set(&fleet, 500, &err), DRIVER_OK);
    /* When the raise then fails, what was lowered stays low. */
    fakes[0].state.share_bp = 100;
    fakes[2].state.share_bp = 5000;
    fakes[0].set_fails = DRIVER_UNHEALTHY;
    assert_int_equal(set(&fleet, 500, &err), DRIVER_UNHEALTHY);
    assert_int_equal(fakes[2].state.share_bp, 500);
    assert_silent_on(&err, "put back");
}

static void nobody_is_raised_beside_one_that_is_silent(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(3, 500);
    struct error err = {0};
    fakes[1].get_fails = DRIVER_UNREACHABLE;
    assert_int_equal(set(&fleet, 1000, &err), DRIVER_UNREACHABLE);
    assert_says(&err, "balancer 2 (/run/b.sock): it does not answer; nothing was raised");
    assert_int_equal(fakes[0].sets + fakes[1].sets + fakes[2].sets, 0);
    for (size_t i = 0; i < 3; i++)
        fakes[i].get_fails = DRIVER_UNREACHABLE;
    assert_int_equal(set(&fleet, 1000, &err), DRIVER_UNREACHABLE);
    assert_int_equal(fakes[0].sets + fakes[1].sets + fakes[2].sets, 0);
}

/* A lease that is renewed is no raise: the others are renewed although one is silent. */
static void a_renewal_goes_on_beside_one_that_is_silent(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(3, 500);
    struct error err = {0};
    fakes[0].state.share_bp = 498; /* whole weights */
    fakes[1].get_fails = DRIVER_UNREACHABLE;
    fakes[1].set_fails = DRIVER_UNREACHABLE;
    assert_int_equal(set(&fleet, 500, &err), DRIVER_UNREACHABLE);
    assert_int_equal(fakes[0].state.lease_left_ms, 60000);
    assert_int_equal(fakes[2].state.lease_left_ms, 60000);
}

/* --- which shares can be given ----------------------------------------------------------------------------------- */

static void a_share_must_be_possible_at_every_member(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(3, 0);
    struct error err = {0};
    assert_int_equal(fleet_can_give(&fleet, 1250, &err), DRIVER_OK);
    members[1].ops = members[2].ops = &coarse_ops;
    assert_int_equal(fleet_can_give(&fleet, 1200, &err), DRIVER_OK);
    assert_int_equal(fleet_can_give(&fleet, 1250, &err), DRIVER_REFUSED);
    assert_string_equal(err.text, "balancer 2 (/run/b.sock): whole per cents only");
    assert_int_equal(err.code, ERROR_DATA);
    /* One alone needs no number. */
    struct fleet alone = {&members[1], 1};
    assert_int_equal(fleet_can_give(&alone, 1250, &err), DRIVER_REFUSED);
    assert_string_equal(err.text, "whole per cents only");
    assert_int_equal(fakes[0].sets + fakes[1].sets + fakes[2].sets, 0);
}

/* What a policy's balancer can give, asked of the driver without any balancer there. */
static enum driver_status can_give(enum driver_kind kind, struct policy_balancer *balancer, uint32_t share_bp,
                                   struct error *err)
{
    struct policy_traffic traffic = {.driver = kind, .balancers = balancer, .balancer_count = 1};
    struct driver *driver = driver_open(&traffic, err);
    assert_non_null(driver);
    enum driver_status status = driver_can_give(driver, share_bp, err);
    driver_close(driver);
    return status;
}

static void buckets_give_whole_ones_only(void **state)
{
    (void)state;
    struct policy_balancer flags = {.flags = "/nowhere"};
    struct error err = {0};
    for (uint32_t share_bp = 0; share_bp <= 10000; share_bp += 100)
        assert_int_equal(can_give(DRIVER_NGINX, &flags, share_bp, &err), DRIVER_OK);
    assert_int_equal(can_give(DRIVER_NGINX, &flags, 1250, &err), DRIVER_REFUSED);
    assert_says(&err, "12.5 % is not possible; the nearest share is 13 %");
    assert_int_equal(can_give(DRIVER_NGINX, &flags, 10001, &err), DRIVER_REFUSED);
    assert_int_equal(can_give(DRIVER_CADDY, &flags, 1250, &err), DRIVER_OK);
    assert_int_equal(can_give(DRIVER_CADDY, &flags, 3, &err), DRIVER_REFUSED);
    assert_says(&err, "the nearest share is 0.02441 %");
}

static void weights_give_what_whole_numbers_give(void **state)
{
    (void)state;
    char *stable[] = {"s1"}, *canary[] = {"c1"};
    struct policy_balancer weights = {
        .socket = "/nowhere", .backend = "shop", .servers = {stable, canary}, .server_count = {1, 1}};
    struct error err = {0};
    static const uint32_t can[] = {0, 40, 100, 1250, 3333, 5000, 9900, 10000}, cannot[] = {1, 10, 9990, 9999};
    for (size_t i = 0; i < sizeof can / sizeof *can; i++)
        assert_int_equal(can_give(DRIVER_HAPROXY, &weights, can[i], &err), DRIVER_OK);
    for (size_t i = 0; i < sizeof cannot / sizeof *cannot; i++)
        assert_int_equal(can_give(DRIVER_HAPROXY, &weights, cannot[i], &err), DRIVER_REFUSED);
    assert_int_equal(can_give(DRIVER_HAPROXY, &weights, 10, &err), DRIVER_REFUSED);
    assert_says(&err, "0.1 % cannot be had with 2 servers in backend shop");
    assert_says(&err, "the nearest share is 0.3891 %");
}

static void the_others_give_any_share(void **state)
{
    (void)state;
    char *stable[] = {"be_stable/s1"}, *canary[] = {"be_canary/c1"}, *program[] = {"/bin/true", NULL};
    struct policy_balancer map = {
        .socket = "/nowhere", .map = "/nowhere.map", .servers = {stable, canary}, .server_count = {1, 1}};
    struct policy_balancer split = {.split = "/nowhere.conf",
                                    .key = "$request_id",
                                    .probe = "http://127.0.0.1:1/share",
                                    .test = {program, 1},
                                    .reload = {program, 1}};
    struct policy_balancer nothing = {0};
    struct error err = {0};
    static const uint32_t shares[] = {0, 1, 1234, 9999, 10000};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        assert_int_equal(can_give(DRIVER_HAPROXY, &map, shares[i], &err), DRIVER_OK);
        assert_int_equal(can_give(DRIVER_NGINX, &split, shares[i], &err), DRIVER_OK);
        assert_int_equal(can_give(DRIVER_NONE, &nothing, shares[i], &err), DRIVER_OK);
    }
}

/* --- the others -------------------------------------------------------------------------------------------------- */

static void counts_are_added_up(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(2, 500);
    struct balancer_counters got = {0}, again = {0};
    struct error err = {0};
    fakes[0].counters = (struct balancer_counters){.generation = 3, .arms[TRACK_CANARY] = {1, 2, 3, 4, 5, 6, 7, 1, 1}};
    fakes[1].counters =
        (struct balancer_counters){.generation = 4, .arms[TRACK_CANARY] = {10, 20, 30, 40, 50, 60, 70, 0, 1}};
    assert_int_equal(fleet_counters(&fleet, &got, &err), DRIVER_OK);
    const struct balancer_arm *arm = &got.arms[TRACK_CANARY];
    assert_int_equal(arm->total, 11);
    assert_int_equal(arm->failed, 22);
    assert_int_equal(arm->connection_errors, 33);
    assert_int_equal(arm->retries, 44);
    assert_int_equal(arm->redispatches, 55);
    assert_int_equal(arm->health_changes, 66);
    assert_int_equal(arm->in_flight, 77);
    assert_int_equal(arm->up, 1);
    assert_int_equal(arm->servers, 2);
    fakes[1].counters.generation = 5;
    assert_int_equal(fleet_counters(&fleet, &again, &err), DRIVER_OK);
    assert_true(got.generation != again.generation);
    fakes[1].get_fails = DRIVER_TIMEOUT;
    assert_int_equal(fleet_counters(&fleet, &again, &err), DRIVER_TIMEOUT);
    assert_says(&err, "balancer 2 (/run/b.sock)");
}

static void all_are_drained(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(3, 0);
    uint64_t in_flight = 0;
    struct error err = {0};
    assert_int_equal(fleet_drain(&fleet, TRACK_CANARY, 1000, &in_flight, &err), DRIVER_OK);
    assert_int_equal(in_flight, 0);
    fakes[0].drain_fails = fakes[2].drain_fails = DRIVER_TIMEOUT;
    fakes[0].in_flight = 2;
    fakes[2].in_flight = 3;
    assert_int_equal(fleet_drain(&fleet, TRACK_CANARY, 0, &in_flight, &err), DRIVER_TIMEOUT);
    assert_int_equal(in_flight, 5);
    assert_says(&err, "balancer 1 (/run/a.sock): it has 2 left; balancer 3 (/run/c.sock): it has 3 left");
}

static void all_are_checked_and_findings_have_their_balancer(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(3, 0);
    struct driver_report report = {0};
    struct error err = {0};
    fakes[0].finding = "no lease";
    fakes[1].get_fails = DRIVER_UNREACHABLE;
    fakes[2].finding = "no health check";
    assert_int_equal(fleet_check(&fleet, &report, &err), DRIVER_UNREACHABLE);
    assert_says(&err, "balancer 2 (/run/b.sock): it does not answer");
    assert_int_equal(report.count, 2);
    assert_string_equal(report.findings[0].text, "balancer 1 (/run/a.sock): no lease");
    assert_string_equal(report.findings[1].text, "balancer 3 (/run/c.sock): no health check");
    assert_true(report.findings[1].wrong);
    driver_report_free(&report);
}

static void what_one_cannot_do_the_fleet_cannot(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(2, 0);
    struct driver_state got;
    struct balancer_counters counters;
    struct driver_report report = {0};
    struct error err = {0};
    uint64_t in_flight = 0;
    members[1].ops = &bare_ops;
    assert_int_equal(fleet_get(&fleet, &got, &err), DRIVER_UNSUPPORTED);
    assert_says(&err, "balancer 2 (/run/b.sock)");
    assert_int_equal(fleet_counters(&fleet, &counters, &err), DRIVER_UNSUPPORTED);
    assert_int_equal(fleet_drain(&fleet, TRACK_STABLE, 10, &in_flight, &err), DRIVER_UNSUPPORTED);
    assert_int_equal(fleet_check(&fleet, &report, &err), DRIVER_UNSUPPORTED);
    driver_report_free(&report);
}

static void one_balancer_speaks_for_itself(void **state)
{
    (void)state;
    struct fleet fleet = fleet_of(1, 500);
    struct driver_state got = {0};
    struct error err = {0};
    assert_int_equal(fleet_get(&fleet, &got, &err), DRIVER_OK);
    assert_int_equal(got.generation, 7);
    assert_string_equal(got.detail, "");
    fakes[0].set_fails = DRIVER_REFUSED;
    assert_int_equal(set(&fleet, 1000, &err), DRIVER_REFUSED);
    assert_string_equal(err.text, "it will not");
}

static void a_balancer_is_called_what_the_policy_calls_it(void **state)
{
    (void)state;
    char *words[] = {"/etc/driver.sh", "east", NULL};
    const struct {
        struct policy_balancer balancer;
        const char *where;
    } cases[] = {
        {{.socket = "/run/h.sock", .backend = "shop"}, "/run/h.sock"},
        {{.flags = "/var/lib/flags"}, "/var/lib/flags"},
        {{.split = "/etc/split.conf"}, "/etc/split.conf"},
        {{.command = {words, 2}}, "/etc/driver.sh east"},
        {{0}, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *where = fleet_where(&cases[i].balancer);
        assert_string_equal(where, cases[i].where);
        free(where);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_is_what_holds_for_all),
        cmocka_unit_test(a_restart_of_any_member_is_another_generation),
        cmocka_unit_test(shares_that_differ_are_no_share),
        cmocka_unit_test(a_silent_member_is_named),
        cmocka_unit_test(all_are_raised_and_read_back),
        cmocka_unit_test(half_a_raise_is_undone),
        cmocka_unit_test(what_had_nothing_gets_nothing_back_and_no_lease),
        cmocka_unit_test(a_put_back_that_fails_is_told),
        cmocka_unit_test(stable_is_tried_everywhere),
        cmocka_unit_test(on_the_way_back_fenced_hides_nothing),
        cmocka_unit_test(on_the_way_back_fenced_hides_nothing_unsaved),
        cmocka_unit_test(what_one_member_has_not_saved_is_told),
        cmocka_unit_test(one_that_hangs_keeps_no_other_from_going_back),
        cmocka_unit_test(stable_is_tried_also_where_nobody_can_be_looked_at),
        cmocka_unit_test(the_gravest_failure_is_told),
        cmocka_unit_test(lowering_comes_before_raising),
        cmocka_unit_test(nobody_is_raised_beside_one_that_is_silent),
        cmocka_unit_test(a_renewal_goes_on_beside_one_that_is_silent),
        cmocka_unit_test(a_share_must_be_possible_at_every_member),
        cmocka_unit_test(buckets_give_whole_ones_only),
        cmocka_unit_test(weights_give_what_whole_numbers_give),
        cmocka_unit_test(the_others_give_any_share),
        cmocka_unit_test(counts_are_added_up),
        cmocka_unit_test(all_are_drained),
        cmocka_unit_test(all_are_checked_and_findings_have_their_balancer),
        cmocka_unit_test(what_one_cannot_do_the_fleet_cannot),
        cmocka_unit_test(one_balancer_speaks_for_itself),
        cmocka_unit_test(a_balancer_is_called_what_the_policy_calls_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
