/*
 * What a user may rely on beyond the defaults: the other assumptions of `exchangeable`, gauges by each of their
 * methods, guardrails, the crash guardrail, and the checks whose findings a verdict tells.
 */
#include "tests/unit/service.h"

#include <stdlib.h>
#include <string.h>

#define PODS "exchangeable: pods\n"
#define REQUESTS "exchangeable: requests\n"
#define NO_MARGIN                                                                                                      \
    "  - {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}', abort_above: {ratio: 1}, "          \
    "promote_below: {ratio: 1.5, absolute: 0.5%}}\n"

static const struct evidence_values *values(const struct scene *scene, size_t m)
{
    return &scene->verdict->metrics[m].evidence;
}

static bool is_warned(const struct verdict *verdict, const char *text)
{
    for (size_t w = 0; w < verdict->warning_count; w++)
        if (strstr(verdict->warnings[w], text))
            return true;
    return false;
}

static void assert_told(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" does not say \"%s\"", text, part);
}

static int looks_until(struct scene *scene, enum decision decision, int most_looks)
{
    int count = 0;
    do
        count++;
    while (look(scene)->decision != decision && count < most_looks);
    return scene->verdict->decision == decision ? count : most_looks + 1;
}

/* --- exchangeable: pods --- */

/* What FLIP says is the verdict of `looks` on the same evidence, what SHARE says is what holds. */
static void pods_average_two_kinds_of_evidence(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = healthy;
    service.error[TRACK_CANARY] = 0.015;
    open_scene(&scene, STEPS PODS, ERRORS, &service, 1);
    struct policy *looks_policy = policy_of(STEPS, ERRORS);
    begin(&scene, 2500);
    double most_hold = 0;
    for (size_t i = 0; i < 12; i++) {
        look(&scene);
        struct verdict *flip = judged(looks_policy, scene.evidence, SIZE_MAX);
        double e = 0.5 * (pow(10, flip->metrics[0].evidence.harm) + pow(10, values(&scene, 0)->hold));
        assert_near(values(&scene, 0)->harm, log10(e), 1e-9);
        assert_near(flip->metrics[0].evidence.safe, values(&scene, 0)->safe, 1e-9);
        most_hold = fmax(most_hold, fabs(values(&scene, 0)->hold - flip->metrics[0].evidence.hold));
        verdict_free(flip);
    }
    assert_true(most_hold > 0.01); /* and that is not LR */
    policy_free(looks_policy);
    close_scene(&scene);
}

static int looks_to_abort(const char *top, const struct service *service, unsigned long seed)
{
    struct scene scene;
    char *steps = mem_printf("%s%s", STEPS, top);
    open_scene(&scene, steps, ERRORS, service, seed);
    begin(&scene, 2500);
    int count = looks_until(&scene, DECISION_ABORT, 40);
    assert_true(verdict_is_harm(scene.verdict));
    free(steps);
    close_scene(&scene);
    return count;
}

static void gross_faults_abort_sooner_with_pods(void **state)
{
    (void)state;
    struct service service = healthy;
    service.error[TRACK_CANARY] = 0.5;
    for (unsigned long seed = 1; seed <= 5; seed++)
        assert_true(looks_to_abort(PODS, &service, seed) < looks_to_abort("", &service, seed));
}

/* How many healthy canaries are aborted whose instances fail in clusters, at no margin. */
static int aborted_under_noise(const char *top, int runs)
{
    struct service service = healthy;
    service.noise = 0.05;
    int aborted = 0;
    char *steps = mem_printf("%s%s", STEPS, top);
    for (int seed = 1; seed <= runs; seed++) {
        struct scene scene;
        open_scene(&scene, steps, NO_MARGIN, &service, (unsigned long)seed);
        begin(&scene, 2500);
        aborted += looks_until(&scene, DECISION_ABORT, 40) <= 40;
        close_scene(&scene);
    }
    free(steps);
    return aborted;
}

static void noisy_pods_are_not_aborted(void **state)
{
    (void)state;
    assert_in_range(aborted_under_noise(PODS, 200), 0, most(0.05, 200));
    /* The test can fail: who asserts that requests fail independently is not protected. */
    assert_in_range(aborted_under_noise(REQUESTS, 20), 10, 20);
}

static void pods_with_unequal_traffic_are_not_compared_as_pods(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = healthy;
    service.error[TRACK_CANARY] = 0.2;
    open_scene(&scene, STEPS PODS, ERRORS, &service, 1);
    struct policy *looks_policy = policy_of(STEPS, ERRORS);
    begin(&scene, 500); /* one instance with 5 %, three with 95 % */
    for (int i = 0; i < 6; i++) {
        look(&scene);
        struct verdict *flip = judged(looks_policy, scene.evidence, SIZE_MAX);
        assert_near(values(&scene, 0)->hold, 0, 1e-12);
        assert_near(values(&scene, 0)->harm, log10(0.5 * (1 + pow(10, flip->metrics[0].evidence.harm))), 1e-9);
        assert_false(is_warned(flip, "different traffic"));
        verdict_free(flip);
    }
    assert_true(is_warned(scene.verdict, "instances of stable and canary get different traffic"));
    policy_free(looks_policy);
    close_scene(&scene);
    service.instances[TRACK_STABLE] = 19;
    open_scene(&scene, STEPS PODS, ERRORS, &service, 1);
    begin(&scene, 500);
    looks(&scene, 6);
    assert_true(values(&scene, 0)->hold > 1);
    assert_int_equal(scene.verdict->warning_count, 0);
    close_scene(&scene);
}

static void pods_without_names_are_not_compared_as_pods(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = healthy;
    service.error[TRACK_CANARY] = 0.2;
    service.unnamed = true;
    open_scene(&scene, STEPS PODS, ERRORS, &service, 1);
    begin(&scene, 2500);
    looks(&scene, 5);
    assert_near(values(&scene, 0)->hold, 0, 1e-12);
    assert_true(is_warned(scene.verdict, "`exchangeable: pods` needs counts per instance"));
    close_scene(&scene);
}

/* FLIP needs five looks for whatever harm, and the average waits for it; SHARE, which holds, does not. */
static void pods_hold_before_they_abort(void **state)
{
    (void)state;
    struct service service = healthy;
    service.error[TRACK_CANARY] = 0.1;
    int held = 0;
    for (unsigned long seed = 1; seed <= 10; seed++) {
        struct scene scene;
        open_scene(&scene, STEPS PODS, ERRORS, &service, seed);
        begin(&scene, 2500);
        while (look(&scene)->decision == DECISION_HOLD && scene.verdict->look < 30) {
            bool suspected = scene.verdict->hold >= scene.verdict->harm_needed;
            assert_int_equal(strncmp(scene.verdict->reason, "suspected harm, not yet proven: ", 32) == 0, suspected);
            held += suspected;
        }
        assert_int_equal(scene.verdict->decision, DECISION_ABORT);
        close_scene(&scene);
    }
    assert_true(held >= 5);
}

/* --- exchangeable: requests --- */

/* What only holds under `looks` aborts here: the same number at each look. */
static void requests_abort_as_fast_as_looks_hold(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = healthy;
    service.error[TRACK_CANARY] = 0.016;
    open_scene(&scene, STEPS, ERRORS, &service, 2);
    struct policy *requests = policy_of(STEPS REQUESTS, ERRORS);
    begin(&scene, 2500);
    bool was_held = false, first = true;
    for (int i = 0; i < 20; i++) {
        look(&scene);
        struct verdict *lr = judged(requests, scene.evidence, SIZE_MAX);
        assert_near(lr->metrics[0].evidence.harm, values(&scene, 0)->hold, 1e-9);
        was_held |= scene.verdict->hold >= scene.verdict->harm_needed;
        assert_int_equal(lr->decision == DECISION_ABORT, was_held);
        if (was_held && first)
            assert_int_not_equal(scene.verdict->decision, DECISION_ABORT);
        first = first && !was_held;
        verdict_free(lr);
    }
    assert_true(was_held);
    policy_free(requests);
    close_scene(&scene);
}

/* FLIP would take five looks. The arms are compared as wholes, and the risk is stated nevertheless. */
static void requests_prove_by_likelihood(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = healthy;
    service.rps = 100000;
    service.unnamed = true;
    open_scene(&scene, "warmup: 0s\n" REQUESTS "steps: [{weight: 25%, min: 0s}, {weight: 50%, min: 0s}, 100%]",
               ERRORS LATENCY, &service, 1);
    begin(&scene, 2500);
    assert_int_equal(looks_until(&scene, DECISION_PROMOTE, 10), 4);
    assert_told(scene.verdict->reason, "at most 5 % risk of error, 4 looks");
    assert_int_equal(scene.verdict->warning_count, 0);
    close_scene(&scene);
}

static void requests_at_the_margin_are_seldom_promoted(void **state)
{
    (void)state;
    enum { RUNS = 200 };
    struct service service = healthy;
    service.error[TRACK_CANARY] = 0.015 + 0.002;
    int promoted = 0;
    for (unsigned long seed = 1; seed <= RUNS; seed++) {
        struct scene scene;
        open_scene(&scene, "warmup: 0s\n" REQUESTS "steps: [25%, 50%, 100%]",
                   "  - {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}', abort_above: {ratio: "
                   "1.4}, promote_below: {ratio: 1.5, absolute: 0.1%}}\n",
                   &service, seed);
        begin(&scene, 2500); /* next to 50 %: a margin twice as wide, half of it above 1 */
        scene.service.error[TRACK_CANARY] = scene.policy->metrics[0].promote_ratio * 2 * 0.01 - 0.01 + 0.002;
        bool safe = false;
        for (int i = 0; i < 30 && !safe; i++)
            safe = look(&scene)->metrics[0].evidence.safe >= values(&scene, 0)->safe_needed;
        promoted += safe;
        close_scene(&scene);
    }
    assert_in_range(promoted, 0, most(0.05, RUNS));
}

/* Who may bet how much does not hang on the arms' size where requests are independent. */
static void restrictions_are_told_where_they_bite(void **state)
{
    (void)state;
    static const struct {
        const char *top;
        bool restricted;
    } cases[] = {{"exchangeable: looks\n", true}, {PODS, true}, {REQUESTS, false}};
    struct service service = healthy;
    service.error[TRACK_CANARY] = 1;
    for (size_t i = 0; i < 3; i++) {
        struct scene scene;
        char *top = mem_printf("%s%s", STEPS, cases[i].top);
        for (int much = 0; much < 2; much++) {
            service.instances[TRACK_STABLE] = 2;
            service.instances[TRACK_CANARY] = much ? 1 : 3;
            open_scene(&scene, top, ERRORS, &service, 1);
            begin(&scene, 5000);
            scene.weight_bp = much ? 6000 : 5000;
            looks(&scene, 10);
            assert_int_equal(scene.verdict->decision, cases[i].restricted ? DECISION_HOLD : DECISION_ABORT);
            assert_int_equal(is_warned(scene.verdict, "more instances than stable"), cases[i].restricted && !much);
            assert_int_equal(is_warned(scene.verdict, "more requests than stable"), cases[i].restricted && much);
            close_scene(&scene);
        }
        free(top);
    }
}

/* --- gauges: paired --- */

static const struct service with_memory = {.rps = 400,
                                           .instances = {3, 1},
                                           .error = {0.01, 0.01},
                                           .slower = {1, 1},
                                           .unit = 1,
                                           .level = {100, 100},
                                           .swing = 0.05};

static void open_gauge(struct scene *scene, const char *keys, const struct service *service, int history)
{
    char *metrics = mem_printf("%s  - {name: memory, type: gauge, query: 'm{$track}', %s}\n", ERRORS, keys);
    open_scene(scene, STEPS, metrics, service, 1);
    free(metrics);
    looks(scene, history);
    set_weight(scene, 500, 0);
}

static void the_harmful_way_is_what_the_policy_says(void **state)
{
    (void)state;
    static const char *const directions[] = {"increase", "decrease", "either"};
    static const bool harm_of_rise[] = {true, false, true}, harm_of_fall[] = {false, true, true};
    static const char *const accepted[] = {"accepts 25 % more than stable", "accepts 25 % less than stable",
                                           "accepts 25 % away from stable"};
    for (size_t d = 0; d < 3; d++)
        for (int fall = 0; fall < 2; fall++) {
            struct scene scene;
            char *keys = mem_printf("critical: true, direction: %s", directions[d]);
            struct service service = with_memory;
            service.level[TRACK_CANARY] = fall ? 50 : 200;
            open_gauge(&scene, keys, &service, 200);
            int count = looks_until(&scene, DECISION_ABORT, 80);
            if (fall ? harm_of_fall[d] : harm_of_rise[d]) {
                assert_true(count <= 60);
                assert_int_equal(scene.verdict->metrics[1].status, METRIC_HARMED);
                assert_true(verdict_is_harm(scene.verdict));
                assert_told(scene.verdict->reason, accepted[d]);
            } else {
                assert_true(values(&scene, 1)->harm < 0);
                assert_int_not_equal(scene.verdict->decision, DECISION_ABORT);
            }
            free(keys);
            close_scene(&scene);
        }
}

/* Bytes or megabytes: the same evidence. */
static void the_unit_of_a_gauge_does_not_matter(void **state)
{
    (void)state;
    struct scene a, b;
    struct service big = with_memory, small = with_memory;
    big.level[TRACK_CANARY] = 1e6 * (small.level[TRACK_CANARY] = 130);
    big.level[TRACK_STABLE] = 1e6 * small.level[TRACK_STABLE];
    open_gauge(&a, "abort_above: {ratio: 1.1, absolute: 5}", &small, 60);
    open_gauge(&b, "abort_above: {ratio: 1.1, absolute: 5000000}", &big, 60);
    for (int i = 0; i < 60; i++) {
        look(&a);
        look(&b);
        assert_near(values(&a, 1)->harm, values(&b, 1)->harm, 1e-9);
        assert_near(1e6 * a.verdict->metrics[1].arms[TRACK_CANARY].median,
                    b.verdict->metrics[1].arms[TRACK_CANARY].median, 1e-3);
        assert_int_equal(a.verdict->decision, b.verdict->decision);
    }
    assert_true(values(&a, 1)->harm > 0.5);
    close_scene(&a);
    close_scene(&b);
}

static void a_leak_aborts_if_it_is_critical_and_else_holds(void **state)
{
    (void)state;
    for (int critical = 0; critical < 2; critical++) {
        struct scene scene;
        open_gauge(&scene, critical ? "critical: true" : "critical: false", &with_memory, 200);
        int i = 0;
        do
            scene.service.level[TRACK_CANARY] *= 1.03;
        while (look(&scene)->decision != DECISION_ABORT && ++i < 100);
        assert_int_equal(scene.verdict->decision, critical ? DECISION_ABORT : DECISION_HOLD);
        assert_int_equal(verdict_is_harm(scene.verdict), critical);
        assert_int_equal(scene.verdict->metrics[1].status, METRIC_HARMED);
        if (!critical)
            assert_told(scene.verdict->reason, "suspected harm of memory, which is not critical and only holds: shop");
        close_scene(&scene);
    }
}

/* At how many looks the evidence moved: bets are made at the ends of blocks. */
static int bets_in(struct scene *scene, int count)
{
    int bets = 0;
    double before = values(scene, 1)->harm;
    for (int i = 0; i < count; i++) {
        look(scene);
        bets += fabs(values(scene, 1)->harm - before) > 1e-9;
        before = values(scene, 1)->harm;
    }
    return bets;
}

static void noise_that_lasts_is_taken_in_longer_pieces(void **state)
{
    (void)state;
    static const struct {
        double lasting;
        int history, least, most;
        const char *warning;
    } cases[] = {{0, 1500, 64, 128, NULL},
                 {0.5, 1500, 8, 32, NULL},
                 {0.999, 1500, 1, 4, "noise may last longer than the 32 looks"},
                 {0, 8, 1, 4, "too short or never changes; 32 looks"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scene scene;
        struct service service = with_memory;
        service.lasting = cases[i].lasting;
        open_gauge(&scene, "critical: false", &service, cases[i].history);
        looks(&scene, 96); /* the first three blocks only give the scale */
        assert_in_range(bets_in(&scene, 128), cases[i].least, cases[i].most);
        assert_int_equal(is_warned(scene.verdict, "memory: "), cases[i].warning != NULL);
        assert_true(!cases[i].warning || is_warned(scene.verdict, cases[i].warning));
        close_scene(&scene);
    }
}

static void the_noise_of_a_gauge_seldom_aborts(void **state)
{
    (void)state;
    enum { RUNS = 100 };
    int aborted = 0;
    for (unsigned long seed = 1; seed <= RUNS; seed++) {
        struct scene scene;
        struct service service = with_memory;
        service.lasting = 0.7;
        service.error[TRACK_STABLE] = service.error[TRACK_CANARY] = 0;
        open_scene(&scene, "warmup: 0s\nsteps: [50%, 100%]",
                   "  - {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}', budget: 1%}\n"
                   "  - {name: memory, type: gauge, query: 'm{$track}', critical: true, direction: either, "
                   "abort_above: {ratio: 1}}\n",
                   &service, seed);
        looks(&scene, 100);
        set_weight(&scene, 5000, 0);
        aborted += looks_until(&scene, DECISION_ABORT, 100) <= 100;
        close_scene(&scene);
    }
    assert_in_range(aborted, 0, most(0.05, RUNS));
}

static void a_gauge_that_is_missing_is_no_evidence(void **state)
{
    (void)state;
    for (int nan = 0; nan < 2; nan++)
        for (int track = 0; track < TRACKS; track++) {
            struct scene scene;
            struct service service = with_memory;
            service.level[TRACK_CANARY] = 150;
            open_gauge(&scene, "critical: true", &service, 60);
            looks(&scene, 16);
            double before = values(&scene, 1)->harm;
            /* One number of three is enough to spoil a mean, and nothing tells which instance is absent. */
            if (nan)
                scene.service.gauges_nan[track] = 1;
            else
                scene.service.gauges_lost[track] = scene.service.instances[track];
            scene.service.level[TRACK_CANARY] = 1e6;
            for (int i = 1; i <= 20; i++) {
                look(&scene);
                assert_near(values(&scene, 1)->harm, before, 1e-12);
                assert_int_equal(scene.verdict->decision, DECISION_HOLD);
                assert_int_equal(scene.verdict->metrics[1].status == METRIC_NO_DATA, i > 2);
            }
            assert_told(scene.verdict->reason, "memory: no data for the last 20 looks");
            scene.service.gauges_nan[track] = scene.service.gauges_lost[track] = 0;
            assert_int_not_equal(look(&scene)->metrics[1].status, METRIC_NO_DATA);
            looks(&scene, 8);
            assert_true(values(&scene, 1)->harm > before);
            close_scene(&scene);
        }
}

static void the_order_of_gauges_does_not_matter(void **state)
{
    (void)state;
    struct scene a, b;
    struct service reversed = with_memory;
    reversed.reversed = true;
    open_gauge(&a, "direction: either", &with_memory, 80);
    open_gauge(&b, "direction: either", &reversed, 80);
    for (int i = 0; i < 40; i++) {
        look(&a);
        look(&b);
        assert_near(values(&a, 1)->harm, values(&b, 1)->harm, 1e-9);
    }
    assert_true(fabs(values(&a, 1)->harm) > 1e-3);
    close_scene(&a);
    close_scene(&b);
}

/* However well a gauge looks: what decides has no data, and so nothing is proven. */
static void a_gauge_never_promotes_by_itself(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS,
               "  - {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}', on_no_data: ignore}\n"
               "  - {name: memory, type: gauge, query: 'm{$track}', critical: true}\n",
               &with_memory, 1);
    looks(&scene, 40);
    set_weight(&scene, 5000, 0);
    scene.service.rps = 0;
    for (int i = 0; i < 130; i++) {
        assert_int_not_equal(look(&scene)->decision, DECISION_PROMOTE);
        assert_int_not_equal(scene.verdict->metrics[1].status, METRIC_SAFE);
    }
    close_scene(&scene);
}

static void a_critical_gauge_does_not_stop_a_good_canary(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = with_memory;
    service.rps = 2000;
    open_scene(&scene, STEPS, ERRORS "  - {name: memory, type: gauge, query: 'm{$track}', critical: true}\n", &service,
               1);
    looks(&scene, 40);
    set_weight(&scene, 2500, 0);
    assert_true(looks_until(&scene, DECISION_PROMOTE, 60) <= 60);
    /* The proof stands; a gauge that decides must not be silent in the last look. */
    scene.service.gauges_lost[TRACK_CANARY] = 1;
    assert_int_equal(look(&scene)->decision, DECISION_HOLD);
    assert_told(scene.verdict->reason, "the last look had no data");
    close_scene(&scene);
}

/* --- gauges: mann-whitney --- */

/* p integrated over the calibrators: the e-value of "each of four above each of four", in log10. */
static double log10_e_of(double p)
{
    return log10((1 - p + p * log(p)) / (p * log(p) * log(p)));
}

static void ranks_are_tested_once_a_step(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = with_memory;
    service.level[TRACK_CANARY] = 300;
    open_gauge(&scene, "method: mann-whitney", &service, 8);
    double one = log10_e_of(1.0 / 70);
    static const uint32_t weights[] = {0, 2500, 5000};
    for (int step = 0; step < 3; step++) {
        if (step > 0)
            set_weight(&scene, weights[step], 0);
        for (int i = 1; i <= 10; i++) {
            look(&scene);
            assert_near(values(&scene, 1)->harm, one * (i < 4 ? step : step + 1), 1e-9); /* `min` is four looks */
        }
    }
    close_scene(&scene);
}

static void ranks_abort_if_critical(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = with_memory;
    service.level[TRACK_CANARY] = 300;
    open_scene(&scene, "warmup: 0s\nsteps: [{weight: 5%, min: 3m, max: 30m}, 100%]",
               ERRORS "  - {name: memory, type: gauge, query: 'm{$track}', method: mann-whitney, critical: true}\n",
               &service, 1);
    begin(&scene, 500);
    assert_int_equal(looks_until(&scene, DECISION_ABORT, 20), 12);
    assert_int_equal(scene.verdict->metrics[1].status, METRIC_HARMED);
    assert_told(scene.verdict->reason, "accepts 25 % more than stable");
    close_scene(&scene);
}

/* The look at `min` may be no evidence, but the step can be left at it. */
static void ranks_are_tested_before_the_step_is_left(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = with_memory;
    service.level[TRACK_CANARY] = 300;
    open_scene(&scene, "warmup: 0s\nsteps: [{weight: 5%, min: 90s, max: 30m}, 100%]",
               ERRORS "  - {name: memory, type: gauge, query: 'm{$track}', method: mann-whitney}\n", &service, 1);
    begin(&scene, 500);
    looks(&scene, 5);
    assert_near(values(&scene, 1)->harm, 0, 1e-12);
    scene.service.extra = "s9:80";
    look(&scene);
    assert_true(is_warned(scene.verdict, "1 look was no evidence"));
    assert_near(values(&scene, 1)->harm, log10_e_of(1.0 / 252), 1e-9);
    close_scene(&scene);
}

/* Looks without a number do not use the test up. */
static void ranks_wait_for_four_numbers(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = with_memory;
    service.level[TRACK_CANARY] = 300;
    service.gauges_nan[TRACK_CANARY] = 1;
    open_gauge(&scene, "method: mann-whitney", &service, 8);
    looks(&scene, 8);
    scene.service.gauges_nan[TRACK_CANARY] = 0;
    looks(&scene, 3);
    assert_near(values(&scene, 1)->harm, 0, 1e-12);
    look(&scene);
    assert_near(values(&scene, 1)->harm, log10_e_of(1.0 / 70), 1e-9);
    close_scene(&scene);
}

/* --- gauges: kayenta --- */

#define SCORED(name, more) "  - {name: " name ", type: gauge, method: kayenta, query: '" name "{$track}', " more "}\n"
#define KAYENTA_STEPS "warmup: 0s\nsteps: [{weight: 25%, min: 2m, max: 30m}, {weight: 50%, min: 2m, max: 30m}, 100%]\n"

static void kayenta_passes_and_promotes(void **state)
{
    (void)state;
    for (int critical = 0; critical < 2; critical++) {
        struct scene scene;
        open_scene(&scene, KAYENTA_STEPS,
                   critical ? SCORED("memory", "critical: true") : SCORED("memory", "direction: either"), &with_memory,
                   4);
        begin(&scene, 2500);
        for (int i = 1; i < 8; i++) {
            assert_int_equal(look(&scene)->decision, DECISION_HOLD);
            assert_true(isnan(scene.verdict->kayenta_score));
            assert_null(scene.verdict->metrics[0].classification);
        }
        assert_int_equal(look(&scene)->decision, DECISION_PROMOTE);
        assert_near(scene.verdict->kayenta_score, 100, 0);
        assert_string_equal(scene.verdict->metrics[0].classification, "Pass");
        assert_int_equal(scene.verdict->metrics[0].status, METRIC_SAFE);
        assert_near(scene.verdict->metrics[0].deviation, 1, 0.1);
        assert_told(scene.verdict->reason, "Kayenta's score is 100, and the policy promotes from 75 on");
        assert_near(scene.verdict->score, 100, 0);
        assert_near(scene.verdict->harm, 0, 0); /* it bets nothing */
        assert_near(scene.verdict->hold, 0, 1e-12);
        set_weight(&scene, 5000, 0);
        assert_int_equal(look(&scene)->decision, DECISION_HOLD); /* each step has its own score */
        assert_true(isnan(scene.verdict->kayenta_score));
        close_scene(&scene);
    }
}

static void kayenta_aborts_below_marginal(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = with_memory;
    service.level[TRACK_CANARY] = 200;
    open_scene(&scene, KAYENTA_STEPS, ERRORS SCORED("memory", "direction: increase"), &service, 1);
    begin(&scene, 2500);
    assert_int_equal(looks_until(&scene, DECISION_ABORT, 20), 8);
    assert_string_equal(scene.verdict->metrics[1].classification, "High");
    assert_near(scene.verdict->kayenta_score, 0, 0);
    assert_told(scene.verdict->reason, "Kayenta's score is 0, and the policy aborts below 50");
    assert_true(verdict_is_harm(scene.verdict));
    assert_int_equal(judge_standing(scene.judge).cause, BECAUSE_KAYENTA);
    /* For good, whatever comes: the canary recovers, and another step begins. */
    scene.service = with_memory;
    for (int i = 0; i < 60; i++) {
        if (i == 40)
            set_weight(&scene, 5000, 0);
        assert_int_equal(look(&scene)->decision, DECISION_ABORT);
        assert_true(verdict_is_harm(scene.verdict));
        assert_told(scene.verdict->reason, "Kayenta's score is 0, and the policy aborts below 50");
    }
    close_scene(&scene);
}

/* Less is no harm where more is, and an effect below the allowed one is none. */
static void kayenta_settings_are_heeded(void **state)
{
    (void)state;
    static const struct {
        double canary;
        const char *metric, *class;
    } cases[] = {{50, SCORED("memory", "direction: increase"), "Pass"},
                 {50, SCORED("memory", "direction: decrease"), "Low"},
                 {200, SCORED("memory", "direction: increase, kayenta: {allowedIncrease: 3}"), "Pass"},
                 {200, SCORED("memory", "direction: increase, kayenta: {allowedIncrease: 1.5}"), "High"},
                 {200, SCORED("memory", "direction: either, kayenta: {measure: cles}"), "High"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scene scene;
        struct service service = with_memory;
        service.level[TRACK_CANARY] = cases[i].canary;
        open_scene(&scene, KAYENTA_STEPS, cases[i].metric, &service, 1);
        begin(&scene, 2500);
        looks(&scene, 8);
        assert_string_equal(scene.verdict->metrics[0].classification, cases[i].class);
        close_scene(&scene);
    }
}

/* Two metrics that fail and two that pass, in groups whose weights make the score. */
static double grouped_score(const char *weights, bool critical, enum decision decision)
{
    struct scene scene;
    char *metrics =
        mem_printf("%s%s%s%s%s%s%s", SCORED("up", "kayenta: {groups: [a]}"), /* its level is like stable's */
                   "  - {name: fails, type: gauge, method: kayenta, query: 'f{$track}', direction: ",
                   "increase, critical: ", critical ? "true" : "false", ", kayenta: {groups: [b], ",
                   "allowedIncrease: 1.2, criticalIncrease: 1.2}}\n", weights);
    struct service service = with_memory;
    open_scene(&scene, KAYENTA_STEPS, metrics, &service, 4);
    begin(&scene, 2500);
    for (int i = 0; i < 8; i++) {
        scene.now_ms += LOOK_MS;
        append_interval(&scene);
        struct evidence_metric *fails = &scene.evidence->metrics[1];
        fails->intervals[fails->count - 1].tracks[TRACK_CANARY].instances[0].value += 100;
        fold(&scene);
    }
    assert_string_equal(scene.verdict->metrics[0].classification, "Pass");
    assert_string_equal(scene.verdict->metrics[1].classification, "High");
    assert_int_equal(scene.verdict->decision, decision);
    double score = scene.verdict->kayenta_score;
    free(metrics);
    close_scene(&scene);
    return score;
}

static void kayenta_weighs_groups(void **state)
{
    (void)state;
    assert_near(grouped_score("", false, DECISION_HOLD), 50, 0);
    assert_near(grouped_score("kayenta: {groupWeights: {a: 60, b: 40}}\n", false, DECISION_HOLD), 60, 0);
    assert_near(grouped_score("kayenta: {groupWeights: {a: 80, b: 20}}\n", false, DECISION_PROMOTE), 80, 0);
    assert_near(grouped_score("kayenta: {groupWeights: {a: 40, b: 60}}\n", false, DECISION_ABORT), 40, 0);
    assert_near(grouped_score("kayenta: {groupWeights: {a: 40, b: 60}, marginal: 30}\n", false, DECISION_HOLD), 40, 0);
    assert_near(grouped_score("kayenta: {groupWeights: {a: 80, b: 20}}\n", true, DECISION_ABORT), 0, 0);
}

/* Between marginal and pass it waits, and is scored again at each further `min`, over all of the step. */
static void kayenta_waits_for_pass(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = with_memory;
    service.rps = 2000;
    open_scene(&scene, KAYENTA_STEPS,
               ERRORS SCORED("memory", "direction: increase") "kayenta: {pass: 75, marginal: 0}\n", &service, 1);
    begin(&scene, 2500);
    scene.service.level[TRACK_CANARY] = 112;
    looks(&scene, 8);
    assert_near(scene.verdict->kayenta_score, 0, 0);
    assert_int_equal(scene.verdict->decision, DECISION_HOLD);
    assert_told(scene.verdict->reason, "by Kayenta's rules: High");
    scene.service.level[TRACK_CANARY] = 95;
    for (int i = 9; i < 16; i++) {
        look(&scene);
        assert_near(scene.verdict->kayenta_score, 0, 0);
    }
    looks(&scene, 49);
    assert_near(scene.verdict->kayenta_score, 100, 0);
    assert_int_equal(scene.verdict->decision, DECISION_PROMOTE);
    assert_told(scene.verdict->reason, "; Kayenta's score is 100");
    close_scene(&scene);
}

/* Silence is no failure: neither before the warm-up is over nor when Prometheus loses the metric. */
static void kayenta_does_not_abort_on_silence(void **state)
{
    (void)state;
    for (int critical = 0; critical < 2; critical++) {
        struct scene scene;
        const char *metric = critical ? SCORED("memory", "critical: true") : SCORED("memory", "direction: either");
        open_scene(&scene, "warmup: 5m\nsteps: [{weight: 25%, min: 1m, max: 30m}, 100%]\n", metric, &with_memory, 4);
        begin(&scene, 2500);
        for (int i = 0; i < 20; i++)
            assert_int_equal(look(&scene)->decision, DECISION_HOLD);
        scene.service.gauges_lost[TRACK_CANARY] = 1;
        for (int i = 0; i < 20; i++) {
            assert_int_equal(look(&scene)->decision, DECISION_HOLD);
            assert_true(isnan(scene.verdict->kayenta_score));
        }
        scene.service.gauges_lost[TRACK_CANARY] = 0;
        assert_int_equal(looks_until(&scene, DECISION_PROMOTE, 20), 4);
        close_scene(&scene);
    }
}

/* Not even at the end, where nothing is scored any more. */
static void kayenta_does_not_promote_silence(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, "warmup: 0s\nsteps: [{weight: 50%, min: 1m, max: 30m}, {weight: 100%, bake: 1m}]\n",
               SCORED("memory", "direction: either"), &with_memory, 4);
    begin(&scene, 5000);
    assert_int_equal(looks_until(&scene, DECISION_PROMOTE, 10), 4);
    scene.service.gauges_lost[TRACK_CANARY] = 1;
    assert_int_equal(look(&scene)->decision, DECISION_HOLD);
    set_weight(&scene, 10000, 0);
    assert_int_equal(looks(&scene, 20)->decision, DECISION_HOLD);
    assert_near(scene.verdict->kayenta_score, 100, 0); /* what was proven stays on view */
    scene.service.gauges_lost[TRACK_CANARY] = 0;
    assert_int_equal(look(&scene)->decision, DECISION_PROMOTE);
    close_scene(&scene);
}

/* Who says that a metric may be ignored is not kept waiting for it. */
static void kayenta_ignores_what_may_be_ignored(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, KAYENTA_STEPS,
               SCORED("memory", "direction: either") SCORED("threads", "on_no_data: ignore, critical: true"),
               &with_memory, 4);
    begin(&scene, 2500);
    for (int i = 1; i <= 8; i++) {
        scene.now_ms += LOOK_MS;
        append_interval(&scene);
        struct evidence_metric *threads = &scene.evidence->metrics[1];
        for (int t = 0; t < TRACKS && i > 2; t++) {
            struct track_counts *track = &threads->intervals[threads->count - 1].tracks[t];
            free(track->instances);
            *track = (struct track_counts){0};
        }
        assert_int_equal(fold(&scene)->decision, i < 8 ? DECISION_HOLD : DECISION_PROMOTE);
    }
    assert_null(scene.verdict->metrics[1].classification);
    assert_int_equal(scene.verdict->metrics[1].status, METRIC_IGNORED);
    close_scene(&scene);
}

static void kayenta_must_have_data_fails_without(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, "warmup: 5m\nsteps: [{weight: 25%, min: 1m, max: 30m}, 100%]\n",
               SCORED("memory", "kayenta: {mustHaveData: true}"), &with_memory, 4);
    begin(&scene, 2500);
    scene.service.gauges_lost[TRACK_CANARY] = 1;
    for (int i = 1; i < 20; i++)
        assert_int_equal(look(&scene)->decision, DECISION_HOLD);
    assert_int_equal(look(&scene)->decision, DECISION_ABORT);
    assert_string_equal(scene.verdict->metrics[0].classification, "NodataFailMetric");
    close_scene(&scene);
}

/* --- guardrails --- */

#define QUEUE "guardrails: [{name: queue, query: 'max(queue{$canary})', above: 1000, for: 45s}]\n"
#define RATE "guardrails: [{name: budget, failed: 'bad{$canary}', total: 'all{$canary}', above: 5%}]\n"

static const struct guardrail_verdict *first_guardrail(const struct scene *scene)
{
    return &scene->verdict->guardrails[0];
}

static void a_rate_fires_also_with_all_the_traffic(void **state)
{
    (void)state;
    static const uint32_t weights[] = {500, 5000, 10000};
    for (size_t w = 0; w < 3; w++) {
        struct scene scene;
        open_scene(&scene, "warmup: 0s\nsteps: [5%, 50%, {weight: 100%, bake: 1h}]", ERRORS RATE, &healthy, 1);
        begin(&scene, weights[w]);
        looks(&scene, 10);
        assert_int_equal(first_guardrail(&scene)->status, GUARDRAIL_OK);
        assert_true(first_guardrail(&scene)->evidence < 0);
        if (weights[w] == 10000)
            scene.service.instances[TRACK_STABLE] = 0;
        scene.service.error[TRACK_CANARY] = scene.service.error[TRACK_STABLE] = 0.2; /* a shared incident counts, too */
        assert_true(looks_until(&scene, DECISION_ABORT, 10) <= 3);
        assert_told(scene.verdict->reason,
                    "guardrail budget: shop canary failed more than the limit of 5 %, shown with "
                    "at most 1 % risk of error");
        assert_int_equal(first_guardrail(&scene)->status, GUARDRAIL_FIRING);
        assert_true(first_guardrail(&scene)->evidence >= first_guardrail(&scene)->evidence_needed);
        assert_true(verdict_is_harm(scene.verdict));
        assert_int_equal(judge_standing(scene.judge).cause, BECAUSE_GUARDRAIL);
        /* For good, and with the numbers that it fired on. */
        char *reason = mem_strdup(scene.verdict->reason);
        scene.service = healthy;
        set_weight(&scene, 500, 0);
        looks(&scene, 30);
        assert_int_equal(scene.verdict->decision, DECISION_ABORT);
        assert_true(verdict_is_harm(scene.verdict));
        assert_string_equal(scene.verdict->reason, reason);
        free(reason);
        close_scene(&scene);
    }
}

static void a_canary_at_the_limit_seldom_fires_a_rate(void **state)
{
    (void)state;
    enum { RUNS = 300 };
    int fired = 0;
    struct service service = healthy;
    service.rps = 20;
    service.error[TRACK_STABLE] = service.error[TRACK_CANARY] = 0.05;
    for (unsigned long seed = 1; seed <= RUNS; seed++) {
        struct scene scene;
        open_scene(&scene, "warmup: 0s\nsteps: [50%, 100%]", ERRORS RATE, &service, seed);
        begin(&scene, 5000);
        looks(&scene, 60);
        fired += first_guardrail(&scene)->status == GUARDRAIL_FIRING;
        close_scene(&scene);
    }
    assert_in_range(fired, 0, most(0.01, RUNS));
}

static void a_value_fires_when_it_lasts(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = healthy;
    service.queue = 10;
    open_scene(&scene, STEPS, ERRORS QUEUE, &service, 1);
    begin(&scene, 500);
    looks(&scene, 3);
    assert_int_equal(first_guardrail(&scene)->status, GUARDRAIL_OK);
    assert_near(first_guardrail(&scene)->value, 10, 0);
    /* What breaks the time above: a value at the limit, NaN, no data, and a weight of 0. */
    for (int interruption = 0; interruption < 4; interruption++) {
        scene.service.queue = 2000;
        for (int i = 0; i < 3; i++)
            assert_int_not_equal(look(&scene)->decision, DECISION_ABORT);
        scene.service.queue = interruption == 1 ? NAN : 1000;
        scene.service.unguarded = interruption == 2;
        if (interruption == 3)
            set_weight(&scene, 0, 0);
        look(&scene);
        if (interruption == 1 || interruption == 2)
            assert_int_equal(first_guardrail(&scene)->status, GUARDRAIL_NO_DATA);
        scene.service.unguarded = false;
    }
    set_weight(&scene, 500, 0);
    scene.service.queue = 2000;
    looks(&scene, 3);
    assert_int_not_equal(scene.verdict->decision, DECISION_ABORT);
    assert_int_equal(look(&scene)->decision, DECISION_ABORT); /* 45 s after the first one above */
    assert_string_equal(scene.verdict->reason, "guardrail queue: 2,000; the limit is 1,000 for 45s");
    assert_true(verdict_is_harm(scene.verdict));
    scene.service.queue = 0;
    assert_int_equal(looks(&scene, 10)->decision, DECISION_ABORT);
    assert_string_equal(scene.verdict->reason, "guardrail queue: 2,000; the limit is 1,000 for 45s");
    close_scene(&scene);
}

static void a_guardrail_without_data_says_so(void **state)
{
    (void)state;
    for (int value = 0; value < 2; value++) {
        struct scene scene;
        struct service service = healthy;
        service.unguarded = true;
        open_scene(&scene, STEPS, value ? ERRORS QUEUE : ERRORS RATE, &service, 1);
        begin(&scene, 500);
        looks(&scene, 5);
        assert_int_equal(first_guardrail(&scene)->status, GUARDRAIL_NO_DATA);
        assert_told(first_guardrail(&scene)->reason, "no data for the last 5 looks");
        assert_int_not_equal(scene.verdict->decision, DECISION_ABORT);
        scene.service.unguarded = false;
        scene.service.queue = 3;
        assert_int_equal((look(&scene), first_guardrail(&scene)->status), GUARDRAIL_OK);
        scene.service.unguarded = true;
        looks(&scene, 3);
        assert_int_equal(first_guardrail(&scene)->status, GUARDRAIL_NO_DATA);
        close_scene(&scene);
    }
}

/* Evidence of another kind under the guardrail's name is not its evidence. */
static void a_guardrail_reads_only_its_own_kind(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS, ERRORS QUEUE, &healthy, 1);
    evidence_guardrail(scene.evidence, "queue", METRIC_ERRORS);
    begin(&scene, 500);
    scene.service.unguarded = true;
    looks(&scene, 3);
    assert_int_equal(first_guardrail(&scene)->status, GUARDRAIL_NO_DATA);
    close_scene(&scene);
}

/* --- the crash guardrail --- */

#define NEVER "false_abort: 0.0001%\n" /* so that nothing else aborts first */

static const struct guardrail_verdict *crash(const struct scene *scene)
{
    return &scene->verdict->guardrails[scene->verdict->guardrail_count - 1];
}

static void a_crash_aborts_in_three_windows(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS NEVER "crash: {rate: 10%, times: 3, requests: 20}\n", ERRORS, &healthy, 1);
    begin(&scene, 500);
    looks(&scene, 5);
    assert_int_equal(crash(&scene)->status, GUARDRAIL_OK);
    uint64_t before = crash(&scene)->requests;
    assert_true(before > 1000);
    scene.service.error[TRACK_CANARY] = 0.5;
    assert_int_equal(looks_until(&scene, DECISION_ABORT, 10), 3);
    assert_told(scene.verdict->reason, "guardrail crash: errors: shop canary failed");
    assert_told(scene.verdict->reason, "3 of 3 windows in a row");
    assert_string_equal(crash(&scene)->name, "crash");
    assert_int_equal(crash(&scene)->status, GUARDRAIL_FIRING);
    assert_true(verdict_is_harm(scene.verdict));
    char *reason = mem_strdup(scene.verdict->reason);
    scene.service = healthy;
    assert_int_equal(looks(&scene, 10)->decision, DECISION_ABORT);
    assert_string_equal(scene.verdict->reason, reason);
    free(reason);
    close_scene(&scene);
}

static void a_crash_window_takes_as_many_looks_as_it_needs(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS NEVER "crash: {rate: 10%, times: 3, requests: 20}\n", ERRORS, &healthy, 1);
    begin(&scene, 500);
    int count = 0;
    do {
        scene.now_ms += LOOK_MS;
        set_counts(scene.evidence, scene.now_ms, 95, 1, 5, 5);
        count++;
        if (count == 3)
            assert_told((fold(&scene), crash(&scene)->reason), "no window of 20 canary requests yet");
        else
            fold(&scene);
    } while (scene.verdict->decision != DECISION_ABORT && count < 30);
    assert_int_equal(count, 12);
    close_scene(&scene);
}

static void a_shared_incident_is_no_crash(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS NEVER "crash: {rate: 10%, times: 3, requests: 20}\n", ERRORS, &healthy, 1);
    begin(&scene, 500);
    looks(&scene, 5);
    scene.service.error[TRACK_STABLE] = scene.service.error[TRACK_CANARY] = 0.5;
    assert_int_not_equal(looks(&scene, 20)->decision, DECISION_ABORT);
    assert_int_equal(crash(&scene)->status, GUARDRAIL_OK);
    /* Prometheus loses stable in the incident: one arm alone is no comparison. */
    scene.service.instances[TRACK_STABLE] = 0;
    assert_int_not_equal(looks(&scene, 20)->decision, DECISION_ABORT);
    close_scene(&scene);
}

static void a_crash_guardrail_may_be_turned_off(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = healthy;
    open_scene(&scene, STEPS NEVER "crash: {times: 0}\n", ERRORS, &service, 1);
    begin(&scene, 500);
    scene.service.error[TRACK_CANARY] = 1;
    assert_int_not_equal(looks(&scene, 8)->decision, DECISION_ABORT);
    assert_int_equal(scene.verdict->guardrail_count, 0);
    close_scene(&scene);
}

/* With all the traffic the canary is compared with what was normal for stable. */
static void a_crash_is_seen_with_all_the_traffic(void **state)
{
    (void)state;
    static const struct {
        double normal, now;
        bool fires;
    } cases[] = {{0.01, 0.5, true}, {0.2, 0.5, false}, {0.01, 0.05, false}};
    for (int stable = 0; stable < 2; stable++)
        for (size_t i = 0; i < 3; i++) {
            struct scene scene;
            struct service service = healthy;
            service.error[TRACK_STABLE] = service.error[TRACK_CANARY] = cases[i].normal;
            open_scene(&scene, "warmup: 0s\nsteps: [50%, {weight: 100%, bake: 1h}]\ncrash: {times: 3}\n", ERRORS,
                       &service, 1);
            begin(&scene, 5000);
            looks(&scene, 3);
            set_weight(&scene, 10000, 0);
            scene.service.instances[TRACK_STABLE] = stable ? 3 : 0;
            looks(&scene, 3);
            scene.service.error[TRACK_CANARY] = cases[i].now;
            /* The few requests that stable still gets, probes say, may all fail: they are not what was normal. */
            scene.weight_bp = 9990;
            scene.service.error[TRACK_STABLE] = 1;
            int count = looks_until(&scene, DECISION_ABORT, 12);
            if (stable)
                assert_true(count >= 3); /* the set of instances is the same */
            assert_int_equal(count <= 12, cases[i].fires);
            if (cases[i].fires)
                assert_told(scene.verdict->reason, "guardrail crash");
            close_scene(&scene);
        }
}

/* --- traffic --- */

static void the_share_of_the_traffic_is_checked(void **state)
{
    (void)state;
    static const struct {
        uint64_t canary, stable;
        enum traffic_status status;
    } cases[] = {{50, 950, TRAFFIC_OK}, /* a round robin to the last request */
                 {51, 949, TRAFFIC_OK}, /* and rounded to a whole weight */
                 {25, 975, TRAFFIC_LOW},
                 {100, 900, TRAFFIC_HIGH},
                 {0, 1000, TRAFFIC_LOW}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scene scene;
        open_scene(&scene, STEPS, ERRORS, &healthy, 1);
        set_weight(&scene, 500, 0);
        for (int n = 0; n < 60; n++) {
            scene.now_ms += LOOK_MS;
            set_counts(scene.evidence, scene.now_ms, cases[i].stable, 9, cases[i].canary, 0);
            fold(&scene);
        }
        assert_int_equal(scene.verdict->traffic_status, cases[i].status);
        assert_near(scene.verdict->traffic_expected, 0.05, 1e-12);
        assert_near(scene.verdict->traffic_observed, (double)cases[i].canary / 1000, 1e-12);
        assert_int_equal(is_warned(scene.verdict, "the canary gets"), cases[i].status != TRAFFIC_OK);
        assert_int_not_equal(scene.verdict->decision, DECISION_ABORT); /* only a warning */
        close_scene(&scene);
    }
}

/* --- the same evidence is the same verdict --- */

#define EVERYTHING                                                                                                     \
    ERRORS LATENCY "  - {name: memory, type: gauge, query: 'a{$track}', critical: true}\n"                             \
                   "  - {name: load, type: gauge, query: 'b{$track}', method: mann-whitney, direction: either}\n"      \
                   "  - {name: threads, type: gauge, query: 'c{$track}', method: kayenta}\n"                           \
                   "guardrails:\n"                                                                                     \
                   "  - {name: queue, query: 'max(queue{$canary})', above: 1000, for: 45s}\n"                          \
                   "  - {name: budget, failed: 'bad{$canary}', total: 'all{$canary}', above: 5%}\n"

static void go_through_trouble(struct scene *scene, int i)
{
    if (i == 20)
        set_weight(scene, 500, 0);
    if (i == 40)
        set_weight(scene, 2500, 4000);
    if (i == 60)
        set_weight(scene, 10000, 0);
    scene->service.gauges_lost[TRACK_CANARY] = i % 11 == 3 ? 1 : 0;
    scene->service.gauges_nan[TRACK_STABLE] = i % 7 == 4 ? 2 : 0;
    scene->service.queue = i % 5 == 0 ? NAN : 1100;
    scene->service.unguarded = i % 13 == 5;
    scene->service.instances[TRACK_CANARY] = i == 35 ? 0 : 1;
}

static void a_replay_gives_the_same_bytes(void **state)
{
    (void)state;
    static const char *const modes[] = {"exchangeable: looks\n", PODS, REQUESTS};
    for (size_t mode = 0; mode < 3; mode++) {
        struct scene scene;
        char *top = mem_printf("%scrash: {times: 3}\n%s", STEPS, modes[mode]);
        open_scene(&scene, top, EVERYTHING, &with_memory, 3);
        for (int i = 0; i < 70; i++) {
            go_through_trouble(&scene, i);
            look(&scene);
            char *record = evidence_to_json(scene.evidence);
            struct error err = {0};
            struct evidence *read = evidence_from_json(record, strlen(record), &err);
            if (!read)
                fail_msg("%s", err.text);
            char *live = verdict_to_json(scene.verdict), *again = folded(scene.policy, read, SIZE_MAX);
            assert_string_equal(live, again);
            evidence_free(read);
            free(live);
            free(again);
            free(record);
        }
        assert_int_equal(scene.verdict->metric_count, 5);
        assert_int_equal(scene.verdict->guardrail_count, 3);
        free(top);
        close_scene(&scene);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pods_average_two_kinds_of_evidence),
        cmocka_unit_test(gross_faults_abort_sooner_with_pods),
        cmocka_unit_test(noisy_pods_are_not_aborted),
        cmocka_unit_test(pods_with_unequal_traffic_are_not_compared_as_pods),
        cmocka_unit_test(pods_without_names_are_not_compared_as_pods),
        cmocka_unit_test(pods_hold_before_they_abort),
        cmocka_unit_test(requests_abort_as_fast_as_looks_hold),
        cmocka_unit_test(requests_prove_by_likelihood),
        cmocka_unit_test(requests_at_the_margin_are_seldom_promoted),
        cmocka_unit_test(restrictions_are_told_where_they_bite),
        cmocka_unit_test(the_harmful_way_is_what_the_policy_says),
        cmocka_unit_test(the_unit_of_a_gauge_does_not_matter),
        cmocka_unit_test(a_leak_aborts_if_it_is_critical_and_else_holds),
        cmocka_unit_test(noise_that_lasts_is_taken_in_longer_pieces),
        cmocka_unit_test(the_noise_of_a_gauge_seldom_aborts),
        cmocka_unit_test(a_gauge_that_is_missing_is_no_evidence),
        cmocka_unit_test(the_order_of_gauges_does_not_matter),
        cmocka_unit_test(a_gauge_never_promotes_by_itself),
        cmocka_unit_test(a_critical_gauge_does_not_stop_a_good_canary),
        cmocka_unit_test(ranks_are_tested_once_a_step),
        cmocka_unit_test(ranks_abort_if_critical),
        cmocka_unit_test(ranks_are_tested_before_the_step_is_left),
        cmocka_unit_test(ranks_wait_for_four_numbers),
        cmocka_unit_test(kayenta_passes_and_promotes),
        cmocka_unit_test(kayenta_aborts_below_marginal),
        cmocka_unit_test(kayenta_settings_are_heeded),
        cmocka_unit_test(kayenta_weighs_groups),
        cmocka_unit_test(kayenta_waits_for_pass),
        cmocka_unit_test(kayenta_does_not_abort_on_silence),
        cmocka_unit_test(kayenta_does_not_promote_silence),
        cmocka_unit_test(kayenta_ignores_what_may_be_ignored),
        cmocka_unit_test(kayenta_must_have_data_fails_without),
        cmocka_unit_test(a_rate_fires_also_with_all_the_traffic),
        cmocka_unit_test(a_canary_at_the_limit_seldom_fires_a_rate),
        cmocka_unit_test(a_value_fires_when_it_lasts),
        cmocka_unit_test(a_guardrail_without_data_says_so),
        cmocka_unit_test(a_guardrail_reads_only_its_own_kind),
        cmocka_unit_test(a_crash_aborts_in_three_windows),
        cmocka_unit_test(a_crash_window_takes_as_many_looks_as_it_needs),
        cmocka_unit_test(a_shared_incident_is_no_crash),
        cmocka_unit_test(a_crash_guardrail_may_be_turned_off),
        cmocka_unit_test(a_crash_is_seen_with_all_the_traffic),
        cmocka_unit_test(the_share_of_the_traffic_is_checked),
        cmocka_unit_test(a_replay_gives_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
