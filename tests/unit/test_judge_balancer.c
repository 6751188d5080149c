/*
 * What the balancer counts for itself, in the verdict: the canary's share by its own counts, and what it did that no
 * client saw. It warns, and takes the bets away from looks in which a server was ejected; it never subtracts across a
 * restart or a change of the weight; and a replay says the same, byte for byte.
 */
#include "service.h"

struct bench {
    struct scene scene;
    struct balancer_counters counters; /* as the balancer shows them now */
};

static void open_bench(struct bench *bench, const char *top)
{
    *bench = (struct bench){.counters = {.generation = UINT64_C(0xfedcba9876543210)}};
    bench->counters.arms[TRACK_STABLE] = (struct balancer_arm){.total = 1000000, .up = 3, .servers = 3};
    bench->counters.arms[TRACK_CANARY] = (struct balancer_arm){.total = 700, .up = 1, .servers = 1};
    open_scene(&bench->scene, top, ERRORS, &healthy, 1);
}

static void close_bench(struct bench *bench)
{
    close_scene(&bench->scene);
}

static void sample(struct bench *bench, int64_t at_ms)
{
    bench->counters.at_ms = at_ms;
    assert_true(evidence_add_balancer(bench->scene.evidence, &bench->counters));
}

/* A sample at the end of the coming look, after so many more requests, and the look. */
static const struct verdict *counted(struct bench *bench, uint64_t stable, uint64_t canary)
{
    bench->counters.arms[TRACK_STABLE].total += stable;
    bench->counters.arms[TRACK_CANARY].total += canary;
    sample(bench, bench->scene.now_ms + LOOK_MS);
    return look(&bench->scene);
}

/* The same, and a server of the track went down and came up meanwhile. */
static const struct verdict *ejected(struct bench *bench, enum track track, uint64_t stable, uint64_t canary)
{
    bench->counters.arms[track].health_changes += 2;
    return counted(bench, stable, canary);
}

/* The balancer is asked at the end of the coming look, and does not answer. */
static const struct verdict *unanswered(struct bench *bench)
{
    struct balancer_counters none = {.at_ms = bench->scene.now_ms + LOOK_MS};
    assert_true(evidence_add_balancer(bench->scene.evidence, &none));
    return look(&bench->scene);
}

static const struct verdict *counted_times(struct bench *bench, int times, uint64_t stable, uint64_t canary)
{
    for (int i = 0; i < times; i++)
        counted(bench, stable, canary);
    return bench->scene.verdict;
}

static const char *warning_with(const struct verdict *verdict, const char *words)
{
    for (size_t w = 0; w < verdict->warning_count; w++)
        if (strstr(verdict->warnings[w], words))
            return verdict->warnings[w];
    return NULL;
}

/* The verdict and a replay of the evidence, from its written form, are the same bytes. */
static void assert_replayed(const struct bench *bench)
{
    struct error err = {0};
    char *written = evidence_to_json(bench->scene.evidence), *live = verdict_to_json(bench->scene.verdict);
    struct evidence *again = evidence_from_json(written, strlen(written), &err);
    assert_non_null(again);
    char *replayed = folded(bench->scene.policy, again, SIZE_MAX);
    assert_string_equal(live, replayed);
    free(written);
    free(live);
    free(replayed);
    evidence_free(again);
}

/* --- the share --- */

static void a_share_that_is_met_is_shown_and_no_more(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, STEPS);
    begin(&bench.scene, 500);
    const struct verdict *verdict = counted(&bench, 5700, 300);
    assert_true(isnan(verdict->traffic_balancer)); /* one sample of the step is only a base */
    verdict = counted_times(&bench, 4, 5700, 300);
    assert_near(verdict->traffic_balancer, 0.05, 1e-12);
    assert_int_equal(verdict->traffic_status, TRAFFIC_OK);
    assert_int_equal(verdict->warning_count, 0);
    assert_replayed(&bench);
    close_bench(&bench);
}

static void without_counts_nothing_is_missed(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, STEPS);
    begin(&bench.scene, 500);
    const struct verdict *verdict = looks(&bench.scene, 5);
    assert_true(isnan(verdict->traffic_balancer));
    assert_int_equal(verdict->traffic_status, TRAFFIC_OK);
    assert_int_equal(verdict->warning_count, 0);
    close_bench(&bench);
}

/* One look may be chance, or a server that was slow to be seen; three are not. */
static void a_share_that_is_off_is_told_after_three_looks(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, STEPS);
    begin(&bench.scene, 500);
    counted_times(&bench, 3, 5800, 200);
    assert_int_equal(bench.scene.verdict->traffic_status, TRAFFIC_OK); /* the metrics' word */
    assert_int_equal(bench.scene.verdict->warning_count, 0);
    const struct verdict *verdict = counted(&bench, 5800, 200);
    assert_int_equal(verdict->traffic_status, TRAFFIC_LOW);
    assert_string_equal(warning_with(verdict, "sent"), "the balancer sent 600 of 18,000 requests to the canary, 3.33 % "
                                                       "and not the 5 % that it was given");
    assert_non_null(warning_with(verdict, "disagree on the canary's share"));
    assert_non_null(warning_with(verdict, "what it was given, the balancer's counts 3.33 %, too little"));
    assert_replayed(&bench);
    close_bench(&bench);
}

static void a_canary_that_gets_much_less_is_called_sick(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, STEPS);
    begin(&bench.scene, 2500);
    const struct verdict *verdict = counted_times(&bench, 4, 5900, 100);
    assert_non_null(warning_with(verdict, "a canary that gets so much less is sick"));
    verdict = counted_times(&bench, 40, 3000, 3000);
    assert_int_equal(verdict->traffic_status, TRAFFIC_HIGH);
    assert_null(warning_with(verdict, "sick"));
    assert_non_null(warning_with(verdict, "and not the 25 % that it was given"));
    close_bench(&bench);
}

/* The metrics see too little of the canary, the balancer gave it what it should: which of the two is said. */
static void the_one_that_is_off_is_named(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, STEPS);
    begin(&bench.scene, 2500);
    bench.scene.weight_bp = 500; /* what the service counts */
    const struct verdict *verdict = counted_times(&bench, 5, 4500, 1500);
    assert_int_equal(verdict->traffic_status, TRAFFIC_LOW);
    assert_near(verdict->traffic_balancer, 0.25, 1e-12);
    assert_non_null(warning_with(verdict, ", too little, the balancer's counts 25 %, what it was given"));
    assert_null(warning_with(verdict, "the balancer sent"));
    close_bench(&bench);
}

/* |observed - p| <= 4 sqrt(p (1 - p) / n) + 1 / n + half a basis point, from 400 requests on. */
static void chance_is_allowed_for(void **state)
{
    (void)state;
    static const struct {
        uint64_t stable, canary;
        bool off;
    } cases[] = {
        {399, 0, false},                                 /* too few to say anything */
        {9999 * 9 + 1, 9999, false},                     /* 10 % but for a request */
        {90000 - 4 * 95 + 9, 10000 + 4 * 95 - 9, false}, /* 371 off where 379 + 1 + 5 are allowed */
        {90000 - 400, 10000 + 400, true},                /* 400 off */
        {90000 + 400, 10000 - 400, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench bench;
        open_bench(&bench, "warmup: 0s\nsteps: [{weight: 10%, min: 1m, max: 30m}, {weight: 100%, bake: 1m}]\n");
        begin(&bench.scene, 1000);
        counted(&bench, 0, 0);
        counted(&bench, cases[i].stable, cases[i].canary);
        counted_times(&bench, 2, 0, 0);
        const char *warning = warning_with(bench.scene.verdict, "the balancer sent");
        if (cases[i].off != (warning != NULL))
            fail_msg("case %zu: %s", i, warning ? warning : "no warning");
        close_bench(&bench);
    }
}

/* What was counted at another weight, before it or in the warm-up, is not of this step. */
static void the_counts_are_those_of_the_step(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, "warmup: 1m\nsteps: [{weight: 5%, min: 1m, max: 30m}, {weight: 25%, min: 1m, max: 30m}, "
                       "{weight: 100%, bake: 1m}]\n");
    begin(&bench.scene, 500);
    counted_times(&bench, 4, 100, 900); /* the fifth sample is the first that is warm */
    counted_times(&bench, 1, 100, 900);
    counted_times(&bench, 4, 5700, 300);
    assert_near(bench.scene.verdict->traffic_balancer, 0.05, 1e-12);
    set_weight(&bench.scene, 2500, 0);
    counted(&bench, 3000, 3000);
    assert_true(isnan(bench.scene.verdict->traffic_balancer));
    counted_times(&bench, 4, 4500, 1500);
    assert_near(bench.scene.verdict->traffic_balancer, 0.25, 1e-12);
    /* The same weight proven again goes on with its counts, without those of the time between. */
    set_weight(&bench.scene, 2500, 0);
    counted(&bench, 3000, 3000);
    counted(&bench, 4500, 1500);
    assert_near(bench.scene.verdict->traffic_balancer, 0.25, 1e-12);
    assert_replayed(&bench);
    close_bench(&bench);
}

static void a_restart_is_a_new_base(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, STEPS);
    begin(&bench.scene, 500);
    counted_times(&bench, 3, 5700, 300);
    /* Restarted: all from 0, and by now more than before in the one arm. */
    bench.counters.generation++;
    bench.counters.arms[TRACK_STABLE].total = 2000000;
    bench.counters.arms[TRACK_CANARY].total = 0;
    counted(&bench, 0, 0);
    assert_near(bench.scene.verdict->traffic_balancer, 0.05, 1e-12);
    counted_times(&bench, 3, 5700, 300);
    /* Its counts set to 0 by hand, in the same process. */
    bench.counters.arms[TRACK_STABLE].total = 0;
    bench.counters.arms[TRACK_CANARY].total = 900000;
    counted(&bench, 0, 0);
    counted(&bench, 5700, 300);
    assert_near(bench.scene.verdict->traffic_balancer, 0.05, 1e-12);
    assert_int_equal(bench.scene.verdict->warning_count, 0);
    assert_replayed(&bench);
    close_bench(&bench);
}

/* Asked later than the look ends: the next look knows it, this one does not. */
static void a_look_knows_no_later_sample(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, STEPS);
    begin(&bench.scene, 500);
    counted(&bench, 5700, 300);
    bench.counters.arms[TRACK_CANARY].total += 1000;
    bench.counters.at_ms = bench.scene.now_ms + LOOK_MS + 1;
    assert_true(evidence_add_balancer(bench.scene.evidence, &bench.counters));
    assert_true(isnan(look(&bench.scene)->traffic_balancer));
    assert_near(look(&bench.scene)->traffic_balancer, 1, 1e-12);
    assert_replayed(&bench);
    close_bench(&bench);
}

/* --- what no client saw --- */

static void what_was_sent_again_is_told_with_its_direction(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, STEPS);
    begin(&bench.scene, 500);
    bench.counters.arms[TRACK_CANARY].redispatches = 5000; /* of another day */
    counted(&bench, 5700, 300);
    bench.counters.arms[TRACK_CANARY].redispatches += 37;
    bench.counters.arms[TRACK_CANARY].retries += 12;
    bench.counters.arms[TRACK_CANARY].connection_errors += 3;
    bench.counters.arms[TRACK_STABLE].retries += 1;
    const struct verdict *verdict = counted_times(&bench, 4, 5700, 301);
    assert_string_equal(warning_with(verdict, "requests to the canary"),
                        "of 1,204 requests to the canary in this step the balancer counted 37 sent again to another "
                        "server, 12 sent again to the same one, 3 not connected: clients saw fewer failures than the "
                        "canary made, and the canary looks better than it is");
    assert_string_equal(warning_with(verdict, "requests to stable"),
                        "of 22,800 requests to stable in this step the balancer counted 1 sent again to the same one: "
                        "clients saw fewer failures than stable made, and stable looks better than it is, and the "
                        "canary worse beside it");
    assert_int_equal(verdict->warning_count, 2);
    assert_replayed(&bench);
    close_bench(&bench);
}

static void a_server_that_is_out_is_told(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, STEPS);
    begin(&bench.scene, 500);
    counted(&bench, 5700, 300);
    bench.counters.arms[TRACK_STABLE].up = 2;
    const struct verdict *verdict = counted(&bench, 5700, 300);
    assert_string_equal(warning_with(verdict, "servers"),
                        "the health of stable's servers changed 0 times in this step, and 1 of 3 are down now: what a "
                        "server would have failed while it was out is counted nowhere, and stable looks better than "
                        "it is, and the canary worse beside it");
    bench.counters.arms[TRACK_STABLE].up = 3;
    bench.counters.arms[TRACK_STABLE].health_changes = 2;
    verdict = counted(&bench, 5700, 300);
    assert_non_null(warning_with(verdict, "stable's servers changed 2 times in this step, and 0 of 3 are down now"));
    assert_null(warning_with(verdict, "the canary's servers"));
    close_bench(&bench);
}

/* Where it ejects nobody, it is the comparison that decides, whatever else the balancer says. */
static void it_never_decides(void **state)
{
    (void)state;
    struct bench with, without;
    open_bench(&with, STEPS);
    open_bench(&without, STEPS);
    begin(&with.scene, 500);
    begin(&without.scene, 500);
    for (int i = 0; i < 30; i++) {
        with.counters.arms[TRACK_CANARY].redispatches += 300;
        with.counters.arms[TRACK_CANARY].up = 0;
        counted(&with, 6000, 10);
        look(&without.scene);
        assert_int_equal(with.scene.verdict->decision, without.scene.verdict->decision);
        assert_true(with.scene.verdict->harm == without.scene.verdict->harm);
        assert_string_equal(with.scene.verdict->reason, without.scene.verdict->reason);
    }
    close_bench(&with);
    close_bench(&without);
}

/* --- looks in which a server was ejected --- */

static const struct service crashing = {
    .rps = 400, .instances = {3, 1}, .error = {0.01, 0.5}, .slower = {1, 1}, .unit = 1};

static const char one_step[] = "warmup: 0s\nsteps: [{weight: 25%, min: 1m, max: 5m}, {weight: 50%, min: 1m, max: 5m}, "
                               "{weight: 100%, bake: 1m}]\n";

static const char guards[] = "guardrails:\n"
                             "  - {name: budget, failed: 'bad{$canary}', total: 'all{$canary}', above: 5%}\n"
                             "  - {name: queue, query: 'max(queue{$canary})', above: 1000, for: 45s}\n";

/* What the next verdict must leave as it was. */
static void assert_no_bet(const struct verdict *verdict, const struct evidence_values *before, uint64_t step_looks)
{
    const struct evidence_values *now = &verdict->metrics[0].evidence;
    assert_int_equal(verdict->step_looks, step_looks);
    assert_near(now->safe, before->safe, 1e-12);
    assert_near(now->hold, before->hold, 1e-12);
    assert_near(now->harm, before->harm, 1e-12);
}

/* Who was asked hung on who had failed: nothing is won or lost on such a look, whichever track it is. */
static void an_ejected_look_is_no_bet(void **state)
{
    (void)state;
    for (int t = 0; t < TRACKS; t++) {
        struct bench bench;
        open_bench(&bench, STEPS);
        begin(&bench.scene, 2500);
        counted_times(&bench, 5, 4500, 1500);
        assert_int_equal(bench.scene.verdict->step_looks, 5);
        bench.scene.service.error[TRACK_CANARY] = 0.5;
        for (int i = 1; i <= 3; i++) {
            struct evidence_values before = bench.scene.verdict->metrics[0].evidence;
            uint64_t requests = bench.scene.verdict->metrics[0].arms[TRACK_CANARY].requests;
            assert_no_bet(ejected(&bench, (enum track)t, 4500, 1500), &before, 5);
            assert_int_equal(bench.scene.verdict->metrics[0].arms[TRACK_CANARY].requests, requests);
            assert_int_equal(bench.scene.verdict->look, 5 + i);
        }
        assert_string_equal(warning_with(bench.scene.verdict, "no evidence"),
                            "3 looks of this step were no evidence: the balancer took a server out of traffic or let "
                            "one in again");
        double harm = bench.scene.verdict->harm;
        counted(&bench, 4500, 1500);
        assert_int_equal(bench.scene.verdict->step_looks, 6);
        assert_true(bench.scene.verdict->harm > harm);
        assert_replayed(&bench);
        close_bench(&bench);
    }
}

/* To the last bit what a look is in which somebody moved the split, or one of the instances came or went. */
static void an_ejected_look_is_as_one_across_a_change_of_the_split(void **state)
{
    (void)state;
    struct bench one;
    struct scene other;
    open_bench(&one, STEPS);
    open_scene(&other, STEPS, ERRORS, &healthy, 1);
    begin(&one.scene, 2500);
    begin(&other, 2500);
    for (int i = 0; i < 20; i++) {
        bool lost = i % 3 == 1;
        one.scene.service.error[TRACK_CANARY] = other.service.error[TRACK_CANARY] = i < 10 ? 0.01 : 0.02;
        if (lost)
            set_weight(&other, 2500, 1000);
        if (lost)
            ejected(&one, TRACK_CANARY, 4500, 1500);
        else
            counted(&one, 4500, 1500);
        look(&other);
        assert_int_equal(one.scene.verdict->step_looks, other.verdict->step_looks);
        assert_memory_equal(&one.scene.verdict->metrics[0].evidence, &other.verdict->metrics[0].evidence,
                            sizeof other.verdict->metrics[0].evidence);
        assert_string_equal(one.scene.verdict->reason, other.verdict->reason);
    }
    close_bench(&one);
    close_scene(&other);
}

static void ejected_looks_are_counted_by_step(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, STEPS);
    begin(&bench.scene, 500);
    counted(&bench, 5700, 300);
    ejected(&bench, TRACK_CANARY, 5700, 300);
    assert_string_equal(warning_with(bench.scene.verdict, "no evidence"),
                        "1 look of this step was no evidence: the balancer took a server out of traffic or let one in "
                        "again");
    set_weight(&bench.scene, 2500, 0);
    counted(&bench, 4500, 1500);
    assert_null(warning_with(bench.scene.verdict, "no evidence"));
    /* Above half of the traffic nothing is bet on, and so nothing is lost. */
    set_weight(&bench.scene, 10000, 0);
    counted(&bench, 0, 6000);
    ejected(&bench, TRACK_CANARY, 0, 6000);
    assert_null(warning_with(bench.scene.verdict, "no evidence"));
    assert_replayed(&bench);
    close_bench(&bench);
}

/* A look that is lost for two reasons is told once. */
static void a_mixed_look_is_not_counted_twice(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, STEPS);
    begin(&bench.scene, 500);
    counted(&bench, 5700, 300);
    set_weight(&bench.scene, 2500, 1000);
    ejected(&bench, TRACK_CANARY, 4500, 1500);
    assert_null(warning_with(bench.scene.verdict, "took a server out"));
    assert_non_null(warning_with(bench.scene.verdict, "1 look was no evidence: the split or the instances changed"));
    close_bench(&bench);
}

/*
 * Looks are judged when their samples have settled, the balancer is asked at that time. What changed between the last
 * sample before the look and the first one after it may have changed in the look.
 */
static void a_look_is_as_wide_as_its_samples(void **state)
{
    (void)state;
    enum { SETTLE_MS = 2 * LOOK_MS + LOOK_MS / 2 };
    struct bench bench;
    open_bench(&bench, STEPS);
    begin(&bench.scene, 2500);
    for (int i = 1; i <= 12; i++) {
        bench.counters.arms[TRACK_CANARY].health_changes = i < 7 ? 3 : 4;
        sample(&bench, bench.scene.now_ms + LOOK_MS + SETTLE_MS);
        look(&bench.scene);
    }
    /* Changed between the samples of looks 6 and 7, at the middle of looks 9 and 10: these two. */
    assert_int_equal(bench.scene.verdict->step_looks, 10);
    assert_non_null(warning_with(bench.scene.verdict, "2 looks of this step"));
    assert_replayed(&bench);
    char *at_8 = folded(bench.scene.policy, bench.scene.evidence, HISTORY + 8);
    assert_null(strstr(at_8, "no evidence"));
    free(at_8);
    char *at_9 = folded(bench.scene.policy, bench.scene.evidence, HISTORY + 9);
    assert_non_null(strstr(at_9, "1 look of this step was no evidence"));
    free(at_9);
    close_bench(&bench);
}

/* A sample at the very begin and the very end of a look is enough, and no more than that is asked for. */
static void the_window_ends_at_the_looks_ends(void **state)
{
    (void)state;
    static const struct {
        int64_t begin, end; /* of the two samples, after the look's begin */
        bool lost;
    } cases[] = {{0, LOOK_MS, true}, {1, LOOK_MS, false}, {0, LOOK_MS - 1, false}, {-1, LOOK_MS + 1, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench bench;
        open_bench(&bench, STEPS);
        begin(&bench.scene, 2500);
        looks(&bench.scene, 2);
        int64_t begin_ms = bench.scene.now_ms;
        sample(&bench, begin_ms + cases[i].begin);
        bench.counters.arms[TRACK_STABLE].health_changes++;
        sample(&bench, begin_ms + cases[i].end);
        look(&bench.scene);
        assert_int_equal(bench.scene.verdict->step_looks, cases[i].lost ? 2 : 3);
        close_bench(&bench);
    }
}

/* Nothing is known across a silence, a restart, or counts that were set to 0: the look counts, as without samples. */
static void what_is_not_known_is_bet_on(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, STEPS);
    begin(&bench.scene, 2500);
    counted(&bench, 4500, 1500);
    unanswered(&bench);
    unanswered(&bench);
    assert_int_equal(bench.scene.verdict->step_looks, 3);
    ejected(&bench, TRACK_CANARY, 9000, 3000);
    assert_int_equal(bench.scene.verdict->step_looks, 4);
    bench.counters.generation++;
    ejected(&bench, TRACK_CANARY, 4500, 1500);
    assert_int_equal(bench.scene.verdict->step_looks, 5);
    bench.counters.arms[TRACK_STABLE].total = 0;
    bench.counters.arms[TRACK_CANARY] = (struct balancer_arm){.up = 1, .servers = 1};
    counted(&bench, 0, 0);
    assert_int_equal(bench.scene.verdict->step_looks, 6);
    assert_null(warning_with(bench.scene.verdict, "no evidence"));
    ejected(&bench, TRACK_CANARY, 4500, 1500);
    assert_int_equal(bench.scene.verdict->step_looks, 6);
    assert_replayed(&bench);
    close_bench(&bench);
}

/* Across a silence nothing is added up, and no look is told off by old counts. */
static void a_silence_is_a_new_base(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, STEPS);
    begin(&bench.scene, 2500);
    counted_times(&bench, 3, 4800, 1200); /* off in two looks */
    for (int i = 0; i < 4; i++)
        unanswered(&bench);
    assert_null(warning_with(bench.scene.verdict, "the balancer sent"));
    assert_near(bench.scene.verdict->traffic_balancer, 0.2, 1e-12);
    counted(&bench, 900000, 0); /* of the time that nothing is known of */
    counted_times(&bench, 2, 4500, 1500);
    assert_near(bench.scene.verdict->traffic_balancer, (2 * 1200 + 2 * 1500) / 24000.0, 1e-12);
    bench.counters.arms[TRACK_CANARY].up = 0;
    counted(&bench, 4500, 1500);
    assert_non_null(warning_with(bench.scene.verdict, "changed 0 times in this step, and 1 of 1 are down now: "));
    ejected(&bench, TRACK_STABLE, 4500, 1500);
    unanswered(&bench);
    assert_non_null(warning_with(bench.scene.verdict,
                                 "stable's servers changed 2 times in this step; the balancer does "
                                 "not answer now: what a server"));
    assert_null(warning_with(bench.scene.verdict, "the canary's servers"));
    assert_replayed(&bench);
    close_bench(&bench);
}

/* Generation 0 is no generation: without one, a restart could not be seen. */
static void counts_without_a_generation_say_nothing(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, STEPS);
    bench.counters.generation = 0;
    begin(&bench.scene, 2500);
    counted_times(&bench, 3, 5900, 100);
    ejected(&bench, TRACK_CANARY, 5900, 100);
    assert_int_equal(bench.scene.verdict->step_looks, 4);
    assert_true(isnan(bench.scene.verdict->traffic_balancer));
    assert_int_equal(bench.scene.verdict->warning_count, 0);
    close_bench(&bench);
}

/* The sample that says so is what makes a replay not take the next one for it. */
static void a_silence_is_replayed_look_by_look(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, STEPS);
    begin(&bench.scene, 2500);
    counted_times(&bench, 3, 4500, 1500);
    unanswered(&bench);
    char *live = verdict_to_json(bench.scene.verdict);
    ejected(&bench, TRACK_CANARY, 4500, 1500);
    char *replayed = folded(bench.scene.policy, bench.scene.evidence, HISTORY + 4);
    assert_string_equal(live, replayed);
    free(live);
    free(replayed);
    close_bench(&bench);
}

/* No bet, no proof: it waits until the step's time is over, and then the policy has its say. */
static void a_canary_that_flaps_is_not_promoted_by_silence(void **state)
{
    (void)state;
    static const struct {
        const char *top;
        enum decision decision;
    } cases[] = {{"undecided: hold\n", DECISION_HOLD}, {"undecided: abort\n", DECISION_ABORT}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench bench;
        char *top = mem_printf("%s%s", one_step, cases[i].top);
        open_bench(&bench, top);
        sample(&bench, bench.scene.now_ms);
        begin(&bench.scene, 2500);
        for (int n = 1; n < 20; n++)
            assert_int_equal(ejected(&bench, TRACK_CANARY, 4500, 1500)->decision, DECISION_HOLD);
        assert_string_equal(bench.scene.verdict->metrics[0].reason,
                            "no comparison yet: in 19 looks the balancer took a server out of traffic or let one in "
                            "again");
        assert_int_equal(bench.scene.verdict->metrics[0].status, METRIC_UNDECIDED);
        assert_int_equal(ejected(&bench, TRACK_CANARY, 4500, 1500)->decision, cases[i].decision);
        assert_int_equal(bench.scene.verdict->metrics[0].status, METRIC_EXPIRED);
        assert_int_equal(bench.scene.verdict->step_looks, 0);
        assert_non_null(warning_with(bench.scene.verdict, "20 looks of this step were no evidence"));
        assert_replayed(&bench);
        free(top);
        close_bench(&bench);
    }
}

/* What is a limit of its own, and what is only shown, sees every look. */
static void the_guardrails_see_ejected_looks(void **state)
{
    (void)state;
    static const struct {
        const char *top;
        double queue;
        const char *reason;
    } cases[] = {
        {"crash: {rate: 10%, times: 3, requests: 20}\n", 0, "guardrail crash: "},
        {guards, 0, "guardrail budget: "},
        {guards, 2000, "guardrail queue: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench bench;
        char *top = mem_printf("%s%s", one_step, cases[i].top);
        struct service service = cases[i].queue > 0 ? healthy : crashing;
        service.queue = cases[i].queue;
        open_bench(&bench, top);
        bench.scene.service = service;
        sample(&bench, bench.scene.now_ms);
        begin(&bench.scene, 2500);
        for (int n = 0; n < 10 && bench.scene.verdict->decision != DECISION_ABORT; n++)
            ejected(&bench, TRACK_CANARY, 4500, 1500);
        assert_int_equal(bench.scene.verdict->decision, DECISION_ABORT);
        assert_int_equal(bench.scene.verdict->step_looks, 0);
        assert_memory_equal(bench.scene.verdict->reason, cases[i].reason, strlen(cases[i].reason));
        assert_replayed(&bench);
        free(top);
        close_bench(&bench);
    }
}

static void the_share_is_checked_in_ejected_looks(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, STEPS);
    sample(&bench, bench.scene.now_ms);
    begin(&bench.scene, 2500);
    bench.scene.weight_bp = 500; /* what the service counts */
    for (int i = 0; i < 5; i++)
        ejected(&bench, TRACK_CANARY, 5700, 300);
    assert_int_equal(bench.scene.verdict->step_looks, 0);
    assert_int_equal(bench.scene.verdict->traffic_status, TRAFFIC_LOW);
    assert_near(bench.scene.verdict->traffic_observed, 0.05, 0.01);
    assert_near(bench.scene.verdict->traffic_balancer, 0.05, 1e-12);
    assert_non_null(warning_with(bench.scene.verdict, "the canary gets"));
    assert_non_null(warning_with(bench.scene.verdict, "the balancer sent"));
    assert_replayed(&bench);
    close_bench(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_share_that_is_met_is_shown_and_no_more),
        cmocka_unit_test(without_counts_nothing_is_missed),
        cmocka_unit_test(a_share_that_is_off_is_told_after_three_looks),
        cmocka_unit_test(a_canary_that_gets_much_less_is_called_sick),
        cmocka_unit_test(the_one_that_is_off_is_named),
        cmocka_unit_test(chance_is_allowed_for),
        cmocka_unit_test(the_counts_are_those_of_the_step),
        cmocka_unit_test(a_restart_is_a_new_base),
        cmocka_unit_test(a_look_knows_no_later_sample),
        cmocka_unit_test(what_was_sent_again_is_told_with_its_direction),
        cmocka_unit_test(a_server_that_is_out_is_told),
        cmocka_unit_test(it_never_decides),
        cmocka_unit_test(an_ejected_look_is_no_bet),
        cmocka_unit_test(an_ejected_look_is_as_one_across_a_change_of_the_split),
        cmocka_unit_test(ejected_looks_are_counted_by_step),
        cmocka_unit_test(a_mixed_look_is_not_counted_twice),
        cmocka_unit_test(a_look_is_as_wide_as_its_samples),
        cmocka_unit_test(the_window_ends_at_the_looks_ends),
        cmocka_unit_test(what_is_not_known_is_bet_on),
        cmocka_unit_test(a_silence_is_a_new_base),
        cmocka_unit_test(counts_without_a_generation_say_nothing),
        cmocka_unit_test(a_silence_is_replayed_look_by_look),
        cmocka_unit_test(a_canary_that_flaps_is_not_promoted_by_silence),
        cmocka_unit_test(the_guardrails_see_ejected_looks),
        cmocka_unit_test(the_share_is_checked_in_ejected_looks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
