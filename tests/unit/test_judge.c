/*
 * What a user may rely on when haldane judges: a healthy canary is proven and not aborted, a bad one is aborted soon,
 * an incident of both arms is nobody's fault, silence is never health, and the same evidence is the same verdict to the
 * last byte.
 *
 * Traffic is made up: requests and failures of a few instances at fixed seeds, so that a failure comes back.
 */
#include "analyzer/judge/margins.h"
#include "tests/unit/service.h"

#include <stdlib.h>
#include <string.h>

/* --- decisions --- */

/* At no margin at all, where the bound is put to work. */
static void a_healthy_canary_is_not_aborted(void **state)
{
    (void)state;
    enum { RUNS = 200 };
    static const char *const metrics = "  - {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}', "
                                       "abort_above: {ratio: 1}, promote_below: {ratio: 1.5, absolute: 0.5%}}\n";
    int aborted = 0, promoted = 0;
    for (unsigned long seed = 1; seed <= RUNS; seed++) {
        struct scene scene;
        open_scene(&scene, STEPS, metrics, &healthy, seed);
        enum decision end = roll_out(&scene, 240);
        aborted += end == DECISION_ABORT;
        promoted += end == DECISION_PROMOTE;
        close_scene(&scene);
    }
    if (aborted > most(0.05, RUNS) || promoted < RUNS * 85 / 100)
        fail_msg("%d of %d healthy canaries were aborted, %d promoted", aborted, RUNS, promoted);
}

static void a_healthy_canary_is_proven_at_each_step(void **state)
{
    (void)state;
    for (unsigned long seed = 1; seed <= 6; seed++) {
        struct scene scene;
        struct service service = healthy;
        service.rps = 1000;
        open_scene(&scene, STEPS, ERRORS LATENCY, &service, seed);
        assert_int_equal(roll_out(&scene, 240), DECISION_PROMOTE);
        assert_int_equal(scene.evidence->weight_count, 4);
        assert_true(scene.verdict->score >= 75);
        assert_int_equal(scene.verdict->warning_count, 0);
        close_scene(&scene);
    }
}

static int looks_to_abort(const struct service *service, const char *metrics, unsigned long seed, const char *blamed)
{
    struct scene scene;
    open_scene(&scene, STEPS, metrics, service, seed);
    begin(&scene, 500);
    int count = 0;
    while (count < 60 && look(&scene)->decision != DECISION_ABORT)
        count++;
    assert_int_equal(scene.verdict->decision, DECISION_ABORT);
    assert_true(verdict_is_harm(scene.verdict));
    assert_true(scene.verdict->harm >= scene.verdict->harm_needed);
    assert_near(scene.verdict->false_abort_spent, scene.verdict->false_abort_limit, 0);
    for (size_t m = 0; m < scene.verdict->metric_count; m++)
        if (strcmp(scene.verdict->metrics[m].name, blamed) == 0) {
            assert_int_equal(scene.verdict->metrics[m].status, METRIC_HARMED);
            assert_string_equal(scene.verdict->reason, scene.verdict->metrics[m].reason);
            assert_non_null(strstr(scene.verdict->reason, "the policy accepts"));
        } else {
            assert_int_not_equal(scene.verdict->metrics[m].status, METRIC_HARMED);
        }
    close_scene(&scene);
    return count + 1;
}

static void five_times_the_errors_abort_soon(void **state)
{
    (void)state;
    struct service service = healthy;
    service.error[TRACK_CANARY] = 0.05;
    int sum = 0;
    for (unsigned long seed = 1; seed <= 20; seed++)
        sum += looks_to_abort(&service, ERRORS LATENCY, seed, "errors");
    assert_true(sum <= 12 * 20);
}

static void forty_per_cent_slower_aborts(void **state)
{
    (void)state;
    struct service service = healthy;
    service.slower[TRACK_CANARY] = 1.4;
    int sum = 0;
    for (unsigned long seed = 1; seed <= 6; seed++)
        sum += looks_to_abort(&service, ERRORS LATENCY, seed, "latency");
    assert_true(sum <= 14 * 6);
}

static void a_dead_canary_aborts(void **state)
{
    (void)state;
    struct service service = healthy;
    service.error[TRACK_CANARY] = 1;
    assert_true(looks_to_abort(&service, ERRORS, 1, "errors") <= 8);
}

/* Better is no harm, in no metric and at no boundary. */
static void a_better_canary_is_promoted(void **state)
{
    (void)state;
    struct service service = healthy;
    service.rps = 1000;
    service.error[TRACK_CANARY] = 0.002;
    service.slower[TRACK_CANARY] = 0.6;
    for (unsigned long seed = 1; seed <= 4; seed++) {
        struct scene scene;
        open_scene(&scene, STEPS, ERRORS LATENCY, &service, seed);
        assert_int_equal(roll_out(&scene, 120), DECISION_PROMOTE);
        assert_true(scene.verdict->harm <= 0 && scene.verdict->hold <= 0);
        assert_true(scene.verdict->metrics[1].effect.upper < 1);
        close_scene(&scene);
    }
}

/* How many of 200 canaries exactly at the margin are found safe within 40 looks. */
static int promoted_at_the_margin(const struct service *from, double absolute, const char *top, uint32_t weight_bp)
{
    char metrics[300];
    snprintf(metrics, sizeof metrics,
             "  - {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}', abort_above: {ratio: 1.4}, "
             "promote_below: {ratio: 1.5, absolute: %g%%}}\n",
             100 * absolute);
    struct service service = *from;
    service.error[TRACK_CANARY] = 1.5 * service.error[TRACK_STABLE] + absolute;
    int promoted = 0;
    for (unsigned long seed = 1; seed <= 200; seed++) {
        struct scene scene;
        open_scene(&scene, top, metrics, &service, seed);
        begin(&scene, weight_bp);
        bool safe = false;
        for (int i = 0; i < 40 && !safe; i++)
            safe = look(&scene)->metrics[0].evidence.safe >= scene.verdict->metrics[0].evidence.safe_needed;
        promoted += safe;
        close_scene(&scene);
    }
    return promoted;
}

static void a_canary_at_the_margin_is_seldom_promoted(void **state)
{
    (void)state;
    static const char *const top = "warmup: 0s\nsteps: [25%, 50%, 100%]";
    assert_in_range(promoted_at_the_margin(&healthy, 0, top, 2500), 0, most(0.05, 200));
    assert_in_range(promoted_at_the_margin(&healthy, 0.005, top, 2500), 0, most(0.05, 200));
}

/*
 * One canary instance among 13, and the requests of an instance fail together. The canary against all of stable would
 * be promoted in about a third of these runs; against groups of as many instances the promise holds.
 */
static void noise_of_instances_does_not_promote(void **state)
{
    (void)state;
    struct service service = healthy;
    service.noise = 0.05;
    service.instances[TRACK_STABLE] = 12;
    static const char *const top = "warmup: 0s\nsteps: [{weight: 8%, max: 30m}, 100%]";
    assert_in_range(promoted_at_the_margin(&service, 0, top, 800), 0, most(0.05, 200));
    service.unnamed = true;
    assert_in_range(promoted_at_the_margin(&service, 0, top, 800), 2 * most(0.05, 200), 200);
}

/* However lax the bound: a handful of requests or of looks is no proof. */
static void a_proof_takes_four_looks_and_thirty_requests(void **state)
{
    (void)state;
    static const char *const metrics = "  - {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}', "
                                       "promote_below: {ratio: 2, absolute: 50%}}\n";
    static const struct {
        uint64_t stable, canary;
        int looks;
    } cases[] = {{10000, 3000, 4}, {100, 10, 4}, {100, 5, 6}, {100, 4, 8}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scene scene;
        open_scene(&scene, "warmup: 0s\nfalse_promote: 50%\nsteps: [{weight: 5%, min: 0s}, 100%]", metrics, &healthy,
                   1);
        begin(&scene, 500);
        int count = 0;
        do {
            scene.now_ms += LOOK_MS;
            set_counts(scene.evidence, scene.now_ms, cases[i].stable, 0, cases[i].canary, 0);
            count++;
        } while (fold(&scene)->decision != DECISION_PROMOTE && count < 20);
        assert_int_equal(count, cases[i].looks);
        close_scene(&scene);
    }
}

/* --- what is no evidence --- */

static struct evidence_values values(const struct scene *scene)
{
    return scene->verdict->metrics[0].evidence;
}

static void assert_no_evidence_yet(const struct verdict *verdict)
{
    for (size_t m = 0; m < verdict->metric_count; m++) {
        assert_near(verdict->metrics[m].evidence.harm, 0, 1e-12);
        assert_near(verdict->metrics[m].evidence.hold, 0, 1e-12);
        assert_near(verdict->metrics[m].evidence.safe, 0, 1e-12);
    }
    assert_int_equal(verdict->decision, DECISION_HOLD);
    assert_int_equal(verdict->step_looks, 0);
}

/* The investing of what waited in reserve may move the last bits, nothing else may. */
static void assert_same_evidence(struct evidence_values a, struct evidence_values b)
{
    assert_near(a.harm, b.harm, 1e-12);
    assert_near(a.hold, b.hold, 1e-12);
    assert_near(a.safe, b.safe, 1e-12);
}

/* A canary in ruins, so that any bet would be seen. */
static const struct service ruined = {
    .rps = 400, .instances = {3, 1}, .error = {0.01, 1}, .slower = {1, 50}, .unit = 1};

static void the_warm_up_is_no_evidence(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, "warmup: 1m", ERRORS LATENCY, &ruined, 1);
    begin(&scene, 500);
    for (int i = 0; i < 4; i++)
        assert_no_evidence_yet(look(&scene));
    assert_true(look(&scene)->metrics[0].evidence.harm > 0.1);
    assert_true(values(&scene).hold > 1);
    close_scene(&scene);
}

static void a_look_that_teaches_the_normal_level_is_no_evidence(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = ruined;
    service.rps = 30; /* 430 requests of stable in a look: errors need one look, latency three */
    open_scene(&scene, "warmup: 0s", ERRORS LATENCY, &service, 1);
    set_weight(&scene, 500, 0);
    assert_no_evidence_yet(look(&scene));
    look(&scene);
    assert_true(values(&scene).hold > 0.1);
    assert_near(scene.verdict->metrics[1].evidence.hold, 0, 1e-12);
    assert_non_null(strstr(scene.verdict->metrics[1].reason, "learning"));
    look(&scene);
    assert_near(scene.verdict->metrics[1].evidence.hold, 0, 1e-12);
    look(&scene);
    assert_true(scene.verdict->metrics[1].evidence.hold > 0.1);
    close_scene(&scene);
}

static void looks_before_the_first_traffic_are_no_evidence(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, "warmup: 0s", ERRORS, &ruined, 1);
    const struct verdict *verdict = looks(&scene, 5);
    assert_int_equal(verdict->look, 0);
    assert_no_evidence_yet(verdict);
    assert_string_equal(verdict->reason, "no look yet");
    set_weight(&scene, 0, 0);
    assert_int_equal(look(&scene)->decision, DECISION_HOLD);
    set_weight(&scene, 500, 0);
    assert_true(look(&scene)->metrics[0].evidence.hold > 1);
    close_scene(&scene);
}

static void a_look_across_a_change_of_the_split_is_no_evidence(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS, ERRORS, &healthy, 1);
    begin(&scene, 500);
    looks(&scene, 6);
    struct evidence_values before = values(&scene);
    scene.service = ruined;
    set_weight(&scene, 2500, 1); /* a millisecond into the next look */
    look(&scene);
    assert_near(values(&scene).harm, before.harm, 1e-12);
    assert_near(values(&scene).hold, before.hold, 1e-12);
    assert_near(values(&scene).safe, 0, 1e-12);
    assert_int_equal(scene.verdict->warning_count, 1);
    look(&scene);
    assert_true(values(&scene).hold > before.hold + 1);
    close_scene(&scene);
}

static void a_look_across_a_change_of_the_instances_is_no_evidence(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS, ERRORS, &healthy, 1);
    begin(&scene, 500);
    looks(&scene, 6);
    struct evidence_values before = values(&scene);
    scene.service = ruined;
    scene.service.extra = "s9:80";
    look(&scene);
    assert_same_evidence(values(&scene), before);
    scene.service.extra = NULL;
    look(&scene);
    assert_same_evidence(values(&scene), before);
    scene.service.instances[TRACK_CANARY] = 2;
    look(&scene);
    assert_same_evidence(values(&scene), before);
    look(&scene);
    assert_true(values(&scene).hold > before.hold + 1);
    close_scene(&scene);
}

static void above_half_of_the_traffic_nothing_is_compared(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, "warmup: 0s\nsteps: [50%, 80%]", ERRORS, &healthy, 1);
    begin(&scene, 5000);
    looks(&scene, 5);
    struct evidence_values before = values(&scene);
    scene.service = ruined;
    set_weight(&scene, 8000, 0);
    look(&scene);
    assert_same_evidence(values(&scene), before);
    close_scene(&scene);
}

static void more_canary_instances_than_stable_ones_never_abort(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = ruined;
    service.instances[TRACK_STABLE] = 2;
    service.instances[TRACK_CANARY] = 3;
    open_scene(&scene, STEPS, ERRORS, &service, 1);
    begin(&scene, 500);
    looks(&scene, 30);
    assert_near(values(&scene).harm, 0, 1e-12);
    assert_int_equal(scene.verdict->decision, DECISION_HOLD);
    assert_int_equal(scene.verdict->warning_count, 1);
    assert_non_null(strstr(scene.verdict->warnings[0], "more instances than stable"));
    close_scene(&scene);
}

/* The weight says 50 %, the requests say 60 %: then the arm that is bet against is the smoother one. */
static void more_canary_requests_than_stable_ones_never_abort(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS, ERRORS, &ruined, 1);
    begin(&scene, 5000);
    scene.weight_bp = 6000;
    looks(&scene, 10);
    assert_near(values(&scene).harm, 0, 1e-12);
    assert_int_equal(scene.verdict->traffic_status, TRAFFIC_HIGH);
    close_scene(&scene);
}

static void an_absolute_margin_is_not_bet_on_where_it_is_not_exact(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = ruined;
    service.error[TRACK_STABLE] = 0.1;
    open_scene(&scene, STEPS,
               "  - {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}', abort_above: {ratio: "
               "1.1, absolute: 0.1%}, promote_below: {ratio: 1.5, absolute: 1%}}\n",
               &service, 1);
    begin(&scene, 500);
    looks(&scene, 10);
    assert_near(values(&scene).harm, 0, 1e-12);
    assert_non_null(strstr(scene.verdict->warnings[0], "absolute"));
    close_scene(&scene);
}

/* --- incidents of both arms --- */

static void a_shared_incident_is_nobodys_fault(void **state)
{
    (void)state;
    for (unsigned long seed = 1; seed <= 20; seed++) {
        struct scene scene;
        open_scene(&scene, STEPS, ERRORS, &healthy, seed);
        begin(&scene, 500);
        looks(&scene, 10);
        scene.service.error[TRACK_STABLE] = scene.service.error[TRACK_CANARY] = 0.1;
        assert_int_not_equal(looks(&scene, 10)->decision, DECISION_ABORT);
        scene.service = healthy;
        assert_int_not_equal(looks(&scene, 10)->decision, DECISION_ABORT);
        close_scene(&scene);
    }
}

/* The look that holds both the step up and the beginning of the incident is the worst that an old sum could meet: half
 * of it at 5 % and one error in 100, half at 50 % and ten. */
static void an_incident_at_a_step_up_is_nobodys_fault(void **state)
{
    (void)state;
    for (unsigned long seed = 1; seed <= 20; seed++) {
        struct scene scene;
        open_scene(&scene, STEPS, ERRORS, &healthy, seed);
        begin(&scene, 500);
        looks(&scene, 10);
        double before = values(&scene).harm;
        set_weight(&scene, 5000, LOOK_MS / 2);
        scene.weight_bp = 2750;
        scene.service.error[TRACK_STABLE] = (0.95 * 0.01 + 0.5 * 0.1) / 1.45;
        scene.service.error[TRACK_CANARY] = (0.05 * 0.01 + 0.5 * 0.1) / 0.55;
        look(&scene);
        assert_near(values(&scene).harm, before, 1e-12);
        scene.weight_bp = 5000;
        scene.service.error[TRACK_STABLE] = scene.service.error[TRACK_CANARY] = 0.1;
        assert_int_not_equal(looks(&scene, 12)->decision, DECISION_ABORT);
        assert_true(scene.verdict->harm < scene.verdict->harm_needed);
        close_scene(&scene);
    }
}

/* --- proof --- */

static void proof_is_of_one_step(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS, ERRORS, &healthy, 1);
    begin(&scene, 2500);
    looks(&scene, 6);
    struct evidence_values before = values(&scene);
    assert_true(before.safe > 0.3);
    scene.service.instances[TRACK_CANARY] = 0; /* no data */
    look(&scene);
    assert_same_evidence(values(&scene), before);
    looks(&scene, 4);
    assert_same_evidence(values(&scene), before);
    scene.service.instances[TRACK_CANARY] = 1;
    look(&scene);
    assert_true(fabs(values(&scene).safe - before.safe) > 1e-6);
    set_weight(&scene, 5000, 1);
    look(&scene);
    assert_near(values(&scene).safe, 0, 1e-12);
    assert_int_equal(scene.verdict->step_looks, 0);
    close_scene(&scene);
}

/* Somebody moved the weight and haldane set it right: the mixed look is lost, the step and its proof are not. */
static void a_weight_set_right_again_keeps_the_proof(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS, ERRORS, &healthy, 1);
    begin(&scene, 2500);
    looks(&scene, 6);
    struct evidence_values before = values(&scene);
    int64_t since_ms = scene.verdict->step_since_ms;
    scene.service = ruined;
    set_weight(&scene, 9000, 1);
    set_weight(&scene, 2500, 7000);
    look(&scene);
    assert_same_evidence(values(&scene), before);
    assert_true(scene.verdict->step_since_ms == since_ms);
    assert_int_equal(scene.verdict->step_looks, 6);
    assert_near(values(&scene).safe_needed, log10(20), 1e-12);
    look(&scene);
    assert_true(values(&scene).hold > before.hold + 1);
    close_scene(&scene);
}

static void each_visit_of_a_step_has_less_of_the_bound(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS, ERRORS, &healthy, 1);
    begin(&scene, 500);
    static const double pi = 3.14159265358979323846;
    for (int visit = 1; visit <= 4; visit++) {
        set_weight(&scene, 500, 0);
        double part = visit == 1 ? 1 : 6 / (pi * pi * visit * visit);
        assert_near(look(&scene)->metrics[0].evidence.safe_needed, -log10(0.05 * part), 1e-12);
        set_weight(&scene, 2500, 0);
        look(&scene);
    }
    close_scene(&scene);
}

static void a_step_lasts_its_least_time(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = healthy;
    service.rps = 2000;
    open_scene(&scene, "warmup: 0s\nsteps: [{weight: 25%, min: 10m, max: 30m}, {weight: 50%, min: 1m, max: 30m}]",
               ERRORS, &service, 1);
    begin(&scene, 2500);
    for (int i = 0; i < 39; i++)
        assert_int_equal(look(&scene)->decision, DECISION_HOLD);
    assert_int_equal(scene.verdict->metrics[0].status, METRIC_SAFE);
    assert_non_null(strstr(scene.verdict->reason, "at least 10m"));
    assert_int_equal(look(&scene)->decision, DECISION_PROMOTE);
    close_scene(&scene);
}

/* The risk is named only where it is bounded. */
static void the_risk_is_stated_only_for_groups_of_equal_size(void **state)
{
    (void)state;
    for (int unnamed = 0; unnamed < 2; unnamed++) {
        struct scene scene;
        struct service service = healthy;
        service.rps = 2000;
        service.unnamed = unnamed == 1;
        open_scene(&scene, STEPS, ERRORS, &service, 1);
        begin(&scene, 2500);
        int count = 0;
        while (look(&scene)->decision != DECISION_PROMOTE && count < 60)
            count++;
        assert_int_equal(scene.verdict->decision, DECISION_PROMOTE);
        assert_int_equal(strstr(scene.verdict->reason, "at most 5 % risk of error") != NULL, !service.unnamed);
        assert_int_equal(scene.verdict->warning_count, service.unnamed ? 1 : 0);
        close_scene(&scene);
    }
}

static void a_step_above_half_is_baked(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS, ERRORS, &healthy, 1);
    begin(&scene, 5000);
    looks(&scene, 3);
    set_weight(&scene, 10000, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(look(&scene)->decision, DECISION_HOLD);
    scene.service.instances[TRACK_STABLE] = 0; /* stable is not needed any more */
    assert_int_equal(look(&scene)->decision, DECISION_PROMOTE);
    scene.service.instances[TRACK_STABLE] = 3;
    scene.service.instances[TRACK_CANARY] = 0; /* the canary is */
    assert_int_equal(look(&scene)->decision, DECISION_HOLD);
    assert_non_null(strstr(scene.verdict->reason, "no data of the canary"));
    close_scene(&scene);
}

/* Nothing bakes without a time to bake, and a canary without traffic least of all. */
static void a_weight_that_is_no_step_is_never_promoted(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS, ERRORS, &healthy, 1);
    begin(&scene, 5000);
    looks(&scene, 3);
    set_weight(&scene, 7500, 0);
    assert_int_equal(looks(&scene, 30)->decision, DECISION_HOLD);
    assert_int_equal(scene.verdict->step_index, -1);
    set_weight(&scene, 0, 0);
    assert_int_equal(looks(&scene, 30)->decision, DECISION_HOLD);
    assert_string_equal(scene.verdict->reason, "the canary has no traffic");
    close_scene(&scene);
}

/* --- time and silence --- */

static void silence_is_a_hold(void **state)
{
    (void)state;
    for (int track = 0; track < TRACKS; track++) {
        struct scene scene;
        struct service service = healthy;
        service.rps = 2000;
        open_scene(&scene, STEPS, ERRORS, &service, 1);
        begin(&scene, 5000);
        looks(&scene, 3);
        scene.service.instances[track] = 0;
        looks(&scene, 2);
        assert_int_not_equal(scene.verdict->metrics[0].status, METRIC_NO_DATA);
        for (int i = 0; i < 100; i++) {
            look(&scene);
            assert_int_equal(scene.verdict->metrics[0].status, METRIC_NO_DATA);
            assert_int_equal(scene.verdict->decision, DECISION_HOLD);
            assert_non_null(strstr(scene.verdict->reason, "errors: no data for the last"));
        }
        scene.service.instances[track] = healthy.instances[track];
        look(&scene);
        assert_int_not_equal(scene.verdict->metrics[0].status, METRIC_NO_DATA);
        close_scene(&scene);
    }
}

/* Two silent looks are not yet `no_data`, but what was proven before them is no licence. */
static void who_falls_silent_after_the_proof_is_not_promoted(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = healthy;
    service.rps = 2000;
    open_scene(&scene, STEPS, ERRORS, &service, 1);
    begin(&scene, 5000);
    int count = 0;
    while (look(&scene)->decision != DECISION_PROMOTE && count < 60)
        count++;
    assert_int_equal(scene.verdict->decision, DECISION_PROMOTE);
    scene.service.instances[TRACK_CANARY] = 0;
    for (int i = 0; i < 5; i++)
        assert_int_equal(look(&scene)->decision, DECISION_HOLD);
    scene.service.instances[TRACK_CANARY] = healthy.instances[TRACK_CANARY];
    assert_int_equal(look(&scene)->decision, DECISION_PROMOTE);
    close_scene(&scene);
}

static void silence_may_abort(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS,
               "  - {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}', on_no_data: abort}\n",
               &healthy, 1);
    begin(&scene, 500);
    looks(&scene, 3);
    scene.service.instances[TRACK_CANARY] = 0;
    for (int i = 1; i <= 7; i++)
        assert_int_equal(look(&scene)->decision, DECISION_HOLD);
    assert_int_equal(look(&scene)->decision, DECISION_ABORT); /* two minutes, the lease */
    assert_false(verdict_is_harm(scene.verdict));
    close_scene(&scene);
}

static void a_metric_may_be_decided_without(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = healthy;
    service.rps = 2000;
    open_scene(&scene, STEPS,
               ERRORS "  - {name: others, type: errors, total: 'n{$track}', failed: 'k{$track}', on_no_data: ignore}\n",
               &service, 1);
    begin(&scene, 2500);
    for (int i = 0; i < 60 && (!scene.verdict || scene.verdict->decision != DECISION_PROMOTE); i++) {
        scene.now_ms += LOOK_MS;
        append_interval(&scene);
        struct evidence_metric *others = evidence_metric(scene.evidence, "others", METRIC_ERRORS, NULL, 0);
        for (int t = 0; t < TRACKS; t++) {
            struct track_counts *track = &others->intervals[others->count - 1].tracks[t];
            for (size_t n = 0; n < track->count; n++)
                free(track->instances[n].instance);
            free(track->instances);
            *track = (struct track_counts){0};
        }
        fold(&scene);
    }
    assert_int_equal(scene.verdict->decision, DECISION_PROMOTE);
    assert_int_equal(scene.verdict->metrics[1].status, METRIC_IGNORED);
    close_scene(&scene);
}

/* Were silence of the only metric ignored, a canary that shows nothing would be promoted. */
static void something_must_be_proven(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS,
               "  - {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}', on_no_data: ignore}\n",
               &healthy, 1);
    begin(&scene, 2500);
    scene.service.instances[TRACK_CANARY] = 0;
    for (int i = 0; i < 130; i++)
        assert_int_equal(look(&scene)->decision, DECISION_HOLD);
    close_scene(&scene);
}

/* Too few requests to prove anything by the step's end. */
static void undecided_steps_end_as_the_policy_says(void **state)
{
    (void)state;
    static const struct {
        const char *top;
        enum decision decision;
        const char *reason;
    } cases[] = {{"undecided: hold", DECISION_HOLD, "a person may promote or abort"},
                 {"undecided: promote", DECISION_PROMOTE, "promoted as the policy says"},
                 {"undecided: abort", DECISION_ABORT, "nothing was proved within 5m"}};
    for (size_t i = 0; i < 3; i++) {
        struct scene scene;
        struct service service = healthy;
        service.rps = 20;
        char *top = mem_printf("warmup: 0s\nsteps: [{weight: 5%%, min: 1m, max: 5m}, 100%%]\n%s", cases[i].top);
        open_scene(&scene, top, ERRORS, &service, 1);
        begin(&scene, 500);
        for (int n = 0; n < 19; n++)
            assert_int_equal(look(&scene)->decision, DECISION_HOLD);
        assert_int_equal(scene.verdict->metrics[0].status, METRIC_UNDECIDED);
        assert_int_equal(look(&scene)->decision, cases[i].decision);
        assert_int_equal(scene.verdict->metrics[0].status, METRIC_EXPIRED);
        assert_non_null(strstr(scene.verdict->reason, cases[i].reason));
        assert_false(verdict_is_harm(scene.verdict));
        assert_int_equal(scene.verdict->warning_count, cases[i].decision == DECISION_PROMOTE ? 1 : 0);
        close_scene(&scene);
        free(top);
    }
}

static void not_even_undecided_promotes_a_silent_or_suspect_canary(void **state)
{
    (void)state;
    for (int suspect = 0; suspect < 2; suspect++) {
        struct scene scene;
        open_scene(&scene,
                   "warmup: 0s\nfalse_abort: 0.1%\nundecided: promote\n"
                   "steps: [{weight: 5%, min: 1m, max: 2m}, 100%]",
                   ERRORS, &healthy, 1);
        begin(&scene, 500);
        if (suspect)
            scene.service.error[TRACK_CANARY] = 0.05;
        else
            scene.service.instances[TRACK_CANARY] = 0;
        looks(&scene, 8);
        assert_int_equal(scene.verdict->decision, DECISION_HOLD);
        assert_non_null(strstr(scene.verdict->reason, suspect ? "suspected harm" : "no data"));
        close_scene(&scene);
    }
}

/* --- several metrics --- */

static void an_abort_is_for_good(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = healthy;
    service.error[TRACK_CANARY] = 0.2;
    open_scene(&scene, STEPS, LATENCY ERRORS, &service, 1);
    begin(&scene, 500);
    int count = 0;
    while (look(&scene)->decision != DECISION_ABORT && count < 30)
        count++;
    double harm = scene.verdict->harm;
    scene.service = healthy;
    for (int i = 0; i < 60; i++) {
        if (i == 20)
            set_weight(&scene, 10000, 0);
        if (i == 40)
            set_weight(&scene, 0, 0);
        look(&scene);
        assert_int_equal(scene.verdict->decision, DECISION_ABORT);
        assert_true(verdict_is_harm(scene.verdict));
        assert_int_equal(scene.verdict->metrics[1].status, METRIC_HARMED);
        assert_int_not_equal(scene.verdict->metrics[0].status, METRIC_HARMED);
        assert_non_null(strstr(scene.verdict->reason, "fails"));
        assert_near(scene.verdict->harm, harm, 0);
        assert_near(scene.verdict->score, 0, 0);
    }
    close_scene(&scene);
}

static void a_metric_that_is_not_critical_holds_but_never_aborts(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = healthy;
    service.slower[TRACK_CANARY] = 3;
    open_scene(&scene, STEPS, ERRORS "  - {name: latency, type: latency, histogram: 'h{$track}', critical: false}\n",
               &service, 1);
    begin(&scene, 2500);
    for (int i = 0; i < 40; i++)
        assert_int_equal(look(&scene)->decision, DECISION_HOLD);
    assert_int_equal(scene.verdict->metrics[1].status, METRIC_HARMED);
    assert_true(scene.verdict->metrics[1].evidence.harm > 10);
    assert_true(scene.verdict->harm < scene.verdict->harm_needed);
    assert_false(verdict_is_harm(scene.verdict));
    /* The sentence names what is suspected, not the metric with most evidence among those that may abort. */
    assert_non_null(strstr(scene.verdict->reason, "suspected harm"));
    assert_non_null(strstr(scene.verdict->reason, "as long as stable"));
    close_scene(&scene);
}

static void what_no_bucket_can_tell_is_at_least_so_much(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = healthy;
    service.slower[TRACK_CANARY] = 30;
    open_scene(&scene, STEPS, ERRORS "  - {name: latency, type: latency, histogram: 'h{$track}'}\n", &service, 1);
    begin(&scene, 2500);
    const struct verdict *verdict = look(&scene);
    for (int i = 0; i < 40 && verdict->decision != DECISION_ABORT; i++)
        verdict = look(&scene);
    assert_int_equal(verdict->decision, DECISION_ABORT);
    assert_true(isinf(verdict->metrics[1].effect.estimate));
    assert_null(strstr(verdict->reason, "takes unbounded"));
    assert_non_null(strstr(verdict->reason, "takes at least "));
    close_scene(&scene);
}

static void evidence_is_averaged_by_budget(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = healthy;
    service.error[TRACK_CANARY] = 0.013;
    open_scene(&scene, STEPS,
               "  - {name: errors, type: errors, total: 'a{$track}', failed: 'b{$track}', budget: 70%}\n"
               "  - {name: others, type: errors, total: 'c{$track}', failed: 'd{$track}', budget: 25%}\n"
               "  - {name: rest, type: errors, total: 'e{$track}', failed: 'f{$track}'}\n"
               "  - {name: seen, type: errors, total: 'g{$track}', failed: 'h{$track}', critical: false}\n",
               &service, 1);
    begin(&scene, 500);
    static const double shares[] = {0.7, 0.25, 0.05, 0}, held[] = {0.525, 0.1875, 0.0375, 0.25};
    for (int i = 0; i < 10; i++) {
        const struct verdict *verdict = look(&scene);
        double harm = 0, hold = 0;
        for (size_t m = 0; m < 4; m++) {
            assert_near(verdict->metrics[m].budget, shares[m], 1e-12);
            harm += shares[m] * pow(10, verdict->metrics[m].evidence.harm);
            hold += held[m] * pow(10, verdict->metrics[m].evidence.hold);
            if (m < 3)
                assert_near(verdict->metrics[m].evidence.harm_needed, log10(20 / shares[m]), 1e-12);
        }
        assert_near(verdict->harm, log10(harm), 1e-9);
        assert_near(verdict->hold, log10(hold), 1e-9);
        assert_near(verdict->harm_needed, log10(20), 1e-12);
    }
    close_scene(&scene);
}

/* --- the same evidence is the same verdict --- */

static void folding_again_gives_the_same_bytes(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = healthy;
    service.error[TRACK_CANARY] = 0.02;
    open_scene(&scene, "warmup: 30s", ERRORS LATENCY, &service, 1);
    size_t count = 0;
    for (int i = 0; i < 24; i++) {
        if (i == 4)
            set_weight(&scene, 500, 0);
        if (i == 12)
            set_weight(&scene, 2500, 4000);
        scene.service.instances[TRACK_CANARY] = i == 15 ? 0 : 1;
        look(&scene);
        count++;
        char *live = verdict_to_json(scene.verdict), *again = folded(scene.policy, scene.evidence, count);
        assert_string_equal(live, again);
        free(live);
        free(again);
    }
    close_scene(&scene);
}

/* A restart half way: what is left of the rollout is its evidence as JSON. */
static void a_restart_gives_the_same_bytes(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, "warmup: 30s", ERRORS LATENCY, &healthy, 7);
    begin(&scene, 500);
    looks(&scene, 10);
    char *record = evidence_to_json(scene.evidence);
    struct error err = {0};
    struct evidence *restored = evidence_from_json(record, strlen(record), &err);
    assert_non_null(restored);
    struct judge *judge = judge_new(scene.policy);
    struct look one = {0};
    int64_t after_ms = INT64_MIN;
    while (evidence_next_look(restored, &after_ms, &one))
        judge_observe(judge, restored, &one);
    for (int i = 0; i < 10; i++) {
        look(&scene);
        judge_observe(judge, scene.evidence, &scene.look);
        struct verdict *verdict = judge_verdict(judge, "shop-1", EFFECTS_LIVE);
        char *live = verdict_to_json(scene.verdict), *again = verdict_to_json(verdict);
        assert_string_equal(live, again);
        free(live);
        free(again);
        verdict_free(verdict);
    }
    judge_free(judge);
    look_free(&one);
    evidence_free(restored);
    free(record);
    close_scene(&scene);
}

static char *json_after(const struct service *service, int count)
{
    struct scene scene;
    open_scene(&scene, STEPS, ERRORS LATENCY, service, 3);
    begin(&scene, 2500);
    looks(&scene, count);
    /* As it would come from a server: through the JSON form, where the instances stand in that order. */
    char *record = evidence_to_json(scene.evidence);
    struct error err = {0};
    struct evidence *read = evidence_from_json(record, strlen(record), &err);
    assert_non_null(read);
    char *text = folded(scene.policy, read, SIZE_MAX);
    evidence_free(read);
    free(record);
    close_scene(&scene);
    return text;
}

static void the_order_of_instances_does_not_matter(void **state)
{
    (void)state;
    struct service service = healthy;
    service.slower[TRACK_CANARY] = 1.1;
    service.instances[TRACK_CANARY] = 2; /* so that groups are made of some of three instances */
    char *one = json_after(&service, 8);
    service.reversed = true;
    char *other = json_after(&service, 8);
    assert_string_equal(one, other);
    free(one);
    free(other);
}

static void the_unit_of_latency_does_not_matter(void **state)
{
    (void)state;
    struct service in_seconds = healthy, in_ms = healthy;
    in_seconds.slower[TRACK_CANARY] = in_ms.slower[TRACK_CANARY] = 1.15;
    in_ms.unit = 1000;
    struct scene a, b;
    open_scene(&a, STEPS, ERRORS LATENCY, &in_seconds, 5);
    open_scene(&b, STEPS, ERRORS LATENCY, &in_ms, 5);
    begin(&a, 2500);
    begin(&b, 2500);
    for (int i = 0; i < 12; i++) {
        const struct metric_verdict *x = &look(&a)->metrics[1], *y = &look(&b)->metrics[1];
        assert_int_equal(a.verdict->decision, b.verdict->decision);
        assert_int_equal(x->status, y->status);
        assert_near(x->evidence.harm, y->evidence.harm, 1e-9);
        assert_near(x->evidence.hold, y->evidence.hold, 1e-9);
        assert_near(x->evidence.safe, y->evidence.safe, 1e-9);
        assert_near(x->effect.estimate, y->effect.estimate, 1e-9);
        assert_near(1000 * x->effect.at_edge, y->effect.at_edge, 1e-9);
        assert_near(1000 * x->arms[TRACK_CANARY].quantiles[3], y->arms[TRACK_CANARY].quantiles[3], 1e-6);
    }
    close_scene(&a);
    close_scene(&b);
}

/* --- extremes --- */

static void any_counts_are_fine(void **state)
{
    (void)state;
    static const uint64_t counts[] = {0, 1, 2, 1000, 1000000000, UINT64_C(1) << 40, (UINT64_C(1) << 53) - 1};
    enum { COUNTS = sizeof counts / sizeof *counts };
    struct scene scene;
    open_scene(&scene, STEPS, ERRORS, &healthy, 1);
    begin(&scene, 500);
    for (size_t i = 0; i < COUNTS * COUNTS * 3; i++) {
        uint64_t s = counts[i % COUNTS], c = counts[i / COUNTS % COUNTS];
        size_t kind = i / (COUNTS * COUNTS);
        scene.now_ms += LOOK_MS;
        set_counts(scene.evidence, scene.now_ms, s, kind == 0 ? 0 : s / 100, c, kind == 2 ? c : c / 100);
        fold(&scene);
        const struct evidence_values e = values(&scene);
        assert_false(isnan(e.harm) || isnan(e.hold) || isnan(e.safe) || isnan(scene.verdict->score));
        assert_true(scene.verdict->score >= 0 && scene.verdict->score <= 100);
        assert_true(strlen(scene.verdict->reason) > 0);
    }
    close_scene(&scene);
}

/* An arm without a request is no evidence, whatever the other one does, and no look of the step. */
static void an_arm_without_requests_is_no_evidence(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS, ERRORS, &healthy, 1);
    begin(&scene, 500);
    for (int i = 0; i < 10; i++) {
        scene.now_ms += LOOK_MS;
        set_counts(scene.evidence, scene.now_ms, i % 2 ? 0 : 1000, 0, i % 2 ? 1000 : 0, 0);
        assert_no_evidence_yet(fold(&scene));
    }
    close_scene(&scene);
}

/* A billion requests each, twice the errors: found within the fewest looks that a bet of ln 2 a look allows. */
static void huge_counts_are_compared(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS, ERRORS, &healthy, 1);
    begin(&scene, 5000);
    int count = 0;
    do {
        scene.now_ms += LOOK_MS;
        set_counts(scene.evidence, scene.now_ms, 1000000000, 10000000, 1000000000, 20000000);
        count++;
    } while (fold(&scene)->decision != DECISION_ABORT && count < 20);
    assert_in_range(count, 5, 9);
    close_scene(&scene);
}

/* A look doubles a proof at the most, and on each step it begins with all of its stake: 2, 4, 8, 16, 32. */
static void a_clear_proof_takes_five_looks(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS, ERRORS, &healthy, 1);
    begin(&scene, 2500);
    scene.now_ms += LOOK_MS;
    set_counts(scene.evidence, scene.now_ms, 1000000000, 10000000, 1000000000, 10000000);
    fold(&scene);
    set_weight(&scene, 5000, 0);
    int count = 0;
    do {
        scene.now_ms += LOOK_MS;
        set_counts(scene.evidence, scene.now_ms, 1000000000, 10000000, 1000000000, 10000000);
        count++;
    } while (fold(&scene)->decision != DECISION_PROMOTE && count < 20);
    assert_int_equal(count, 5);
    close_scene(&scene);
}

static void a_histogram_that_tells_nothing_proves_nothing(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = healthy;
    service.slower[TRACK_STABLE] = service.slower[TRACK_CANARY] = 1e6; /* all beyond the last bound */
    open_scene(&scene, STEPS, ERRORS LATENCY, &service, 1);
    begin(&scene, 2500);
    for (int i = 0; i < 20; i++)
        assert_int_equal(look(&scene)->decision, DECISION_HOLD);
    assert_non_null(strstr(scene.verdict->metrics[1].reason, "no bucket boundary"));
    close_scene(&scene);
}

/* --- margins by exposure --- */

static void margins_grow_as_exposure_falls(void **state)
{
    (void)state;
    struct policy *policy = policy_of("steps: [1%, 5%, 10%, 25%, 50%, 75%, 100%]", ERRORS);
    static const double scales[] = {10, 5, 2, 1, 1, 1, 1};
    for (int32_t s = 0; s < 7; s++)
        assert_near(margins_scale(policy, s), scales[s], 1e-12);
    assert_near(margins_scale(policy, -1), 1, 0);
    policy_free(policy);
    policy = policy_of("exposure: fixed\nsteps: [1%, 50%, 100%]", ERRORS);
    assert_near(margins_scale(policy, 0), 1, 0);
    policy_free(policy);
    policy = policy_of("steps: [5%, 20%, 100%]", ERRORS); /* compared up to 20 % only */
    assert_near(margins_scale(policy, 0), 1, 0);
    assert_near(margins_scale(policy, 1), 1, 0);
    policy_free(policy);
}

static void widened_margins_keep_their_cap(void **state)
{
    (void)state;
    struct margin full = {1.5, 0.001}, wide = margins_widen(full, 10, 0.001);
    assert_near(wide.ratio, 6, 1e-12); /* far below the cap: both by the whole factor */
    assert_near(wide.absolute, 0.01, 1e-15);
    static const double rates[] = {0, 1e-5, 0.001, 0.01, 0.02, 0.05, 0.2, 0.5, 0.9, 1};
    static const double scales[] = {1, 1.0001, 2, 5, 10, 1000};
    for (size_t r = 0; r < 10; r++)
        for (size_t s = 0; s < 6; s++) {
            wide = margins_widen(full, scales[s], rates[r]);
            double room = rates[r] + fmin(0.1, (1 - rates[r]) / 2);
            assert_true(wide.ratio >= full.ratio && wide.absolute >= full.absolute);
            assert_true(wide.ratio <= 1 + 0.5 * scales[s] + 1e-12);
            double allowed = wide.ratio * rates[r] + wide.absolute;
            assert_true(allowed <= fmax(room, full.ratio * rates[r] + full.absolute) + 1e-12);
            /* Both widenings shrink by one factor. */
            assert_near((wide.ratio - full.ratio) * full.absolute, (wide.absolute - full.absolute) * 0.5, 1e-12);
        }
    wide = margins_widen((struct margin){1, 0.001}, 10, 0.01);
    assert_near(wide.ratio, 1, 0);
    assert_near(wide.absolute, 0.01, 1e-15);
}

/* Stable fails 20 %, the first of the steps is a tenth: without the cap a canary that fails always would be promoted.
 */
static void a_wide_margin_does_not_allow_everything(void **state)
{
    (void)state;
    struct margin wide = margins_widen((struct margin){1.4, 0.001}, 10, 0.2);
    assert_near(wide.ratio * 0.2 + wide.absolute, 0.3, 1e-12);
    struct scene scene;
    struct service service = healthy;
    service.error[TRACK_STABLE] = 0.2;
    service.error[TRACK_CANARY] = 1;
    open_scene(&scene, "warmup: 0s\nsteps: [1%, 5%, 50%, 100%]", ERRORS, &service, 1);
    begin(&scene, 100);
    for (int i = 0; i < 20; i++) {
        assert_int_not_equal(look(&scene)->decision, DECISION_PROMOTE);
        assert_true(values(&scene).safe <= 0);
    }
    assert_int_equal(scene.verdict->decision, DECISION_ABORT);
    close_scene(&scene);
}

static void fast_margins_keep_their_cap(void **state)
{
    (void)state;
    assert_near(margins_widen_fast((struct margin){1.1, 0}, 5).ratio, 1.5, 1e-12);
    assert_near(margins_widen_fast((struct margin){1.1, 0}, 1).ratio, 1.1, 1e-12);
    assert_near(margins_widen_fast((struct margin){2, 0}, 10).ratio, 4, 0);
    assert_near(margins_widen_fast((struct margin){6, 0}, 10).ratio, 6, 0);
}

/* --- small things that a reader sees --- */

static void traffic_that_is_not_what_was_given_is_seen(void **state)
{
    (void)state;
    struct scene scene;
    open_scene(&scene, STEPS, ERRORS, &healthy, 1);
    begin(&scene, 2500);
    look(&scene);
    assert_int_equal(scene.verdict->traffic_status, TRAFFIC_OK);
    assert_near(scene.verdict->traffic_expected, 0.25, 0);
    scene.weight_bp = 500;
    looks(&scene, 3);
    assert_int_equal(scene.verdict->traffic_status, TRAFFIC_LOW);
    assert_int_equal(scene.verdict->warning_count, 1);
    close_scene(&scene);
}

static void robust_effects_hold_the_estimate(void **state)
{
    (void)state;
    struct scene scene;
    struct service service = healthy;
    service.error[TRACK_CANARY] = 0.03;
    open_scene(&scene, STEPS, ERRORS, &service, 1);
    begin(&scene, 2500);
    looks(&scene, 12);
    struct verdict *robust = judge_verdict(scene.judge, NULL, EFFECTS_ROBUST);
    const struct effect *effect = &robust->metrics[0].effect;
    assert_string_equal(effect->method, "flip");
    assert_true(effect->lower <= effect->estimate && effect->estimate <= effect->upper);
    assert_true(effect->lower > 1.1 && effect->lower <= 3);
    assert_string_equal(scene.verdict->metrics[0].effect.method, "lr");
    assert_null(robust->rollout);
    verdict_free(robust);
    close_scene(&scene);
}

static void the_files_that_users_copy_judge(void **state)
{
    (void)state;
    const char *root = getenv("HALDANE_SOURCE");
    if (!root)
        fail_msg("HALDANE_SOURCE is not set; it must name the root of the source tree");
    char *path = mem_printf("%s/policies/http-service.yaml", root);
    struct scene scene;
    open_scene(&scene, STEPS, ERRORS LATENCY, &healthy, 1);
    judge_free(scene.judge);
    policy_free(scene.policy);
    struct policy_problems problems = {0};
    struct error err = {0};
    scene.policy = policy_load_file(path, NULL, 0, NULL, &problems, &err);
    if (!scene.policy)
        fail_msg("%s", err.text);
    policy_problems_free(&problems);
    scene.judge = judge_new(scene.policy);
    begin(&scene, 500);
    for (int i = 0; i < 4; i++)
        assert_no_evidence_yet(look(&scene)); /* the warm-up of a minute */
    looks(&scene, 4);
    assert_int_equal(scene.verdict->step_looks, 4);
    assert_string_equal(scene.verdict->policy_sha256, scene.policy->sha256);
    assert_int_equal(scene.verdict->decision, DECISION_HOLD);
    free(path);
    close_scene(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_healthy_canary_is_not_aborted),
        cmocka_unit_test(a_healthy_canary_is_proven_at_each_step),
        cmocka_unit_test(five_times_the_errors_abort_soon),
        cmocka_unit_test(forty_per_cent_slower_aborts),
        cmocka_unit_test(a_dead_canary_aborts),
        cmocka_unit_test(a_better_canary_is_promoted),
        cmocka_unit_test(a_canary_at_the_margin_is_seldom_promoted),
        cmocka_unit_test(noise_of_instances_does_not_promote),
        cmocka_unit_test(a_proof_takes_four_looks_and_thirty_requests),
        cmocka_unit_test(the_warm_up_is_no_evidence),
        cmocka_unit_test(a_look_that_teaches_the_normal_level_is_no_evidence),
        cmocka_unit_test(looks_before_the_first_traffic_are_no_evidence),
        cmocka_unit_test(a_look_across_a_change_of_the_split_is_no_evidence),
        cmocka_unit_test(a_look_across_a_change_of_the_instances_is_no_evidence),
        cmocka_unit_test(above_half_of_the_traffic_nothing_is_compared),
        cmocka_unit_test(more_canary_instances_than_stable_ones_never_abort),
        cmocka_unit_test(more_canary_requests_than_stable_ones_never_abort),
        cmocka_unit_test(an_absolute_margin_is_not_bet_on_where_it_is_not_exact),
        cmocka_unit_test(a_shared_incident_is_nobodys_fault),
        cmocka_unit_test(an_incident_at_a_step_up_is_nobodys_fault),
        cmocka_unit_test(proof_is_of_one_step),
        cmocka_unit_test(a_weight_set_right_again_keeps_the_proof),
        cmocka_unit_test(each_visit_of_a_step_has_less_of_the_bound),
        cmocka_unit_test(a_step_lasts_its_least_time),
        cmocka_unit_test(the_risk_is_stated_only_for_groups_of_equal_size),
        cmocka_unit_test(a_step_above_half_is_baked),
        cmocka_unit_test(a_weight_that_is_no_step_is_never_promoted),
        cmocka_unit_test(silence_is_a_hold),
        cmocka_unit_test(who_falls_silent_after_the_proof_is_not_promoted),
        cmocka_unit_test(silence_may_abort),
        cmocka_unit_test(a_metric_may_be_decided_without),
        cmocka_unit_test(something_must_be_proven),
        cmocka_unit_test(undecided_steps_end_as_the_policy_says),
        cmocka_unit_test(not_even_undecided_promotes_a_silent_or_suspect_canary),
        cmocka_unit_test(an_abort_is_for_good),
        cmocka_unit_test(a_metric_that_is_not_critical_holds_but_never_aborts),
        cmocka_unit_test(what_no_bucket_can_tell_is_at_least_so_much),
        cmocka_unit_test(evidence_is_averaged_by_budget),
        cmocka_unit_test(folding_again_gives_the_same_bytes),
        cmocka_unit_test(a_restart_gives_the_same_bytes),
        cmocka_unit_test(the_order_of_instances_does_not_matter),
        cmocka_unit_test(the_unit_of_latency_does_not_matter),
        cmocka_unit_test(any_counts_are_fine),
        cmocka_unit_test(an_arm_without_requests_is_no_evidence),
        cmocka_unit_test(huge_counts_are_compared),
        cmocka_unit_test(a_clear_proof_takes_five_looks),
        cmocka_unit_test(a_histogram_that_tells_nothing_proves_nothing),
        cmocka_unit_test(margins_grow_as_exposure_falls),
        cmocka_unit_test(widened_margins_keep_their_cap),
        cmocka_unit_test(a_wide_margin_does_not_allow_everything),
        cmocka_unit_test(fast_margins_keep_their_cap),
        cmocka_unit_test(traffic_that_is_not_what_was_given_is_seen),
        cmocka_unit_test(robust_effects_hold_the_estimate),
        cmocka_unit_test(the_files_that_users_copy_judge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
