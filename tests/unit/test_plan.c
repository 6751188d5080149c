/*
 * The plan of a policy: what a user is told before a rollout must be what the rollout then does. The policy is
 * policies/http-service.yaml, found through HALDANE_SOURCE.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cjson/cJSON.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analyzer/judge/judge.h"
#include "analyzer/report/escape.h"
#include "analyzer/trials/plan.h"
#include "base/memory.h"
#include "policies/load.h"

enum { ERRORS, LATENCY, EDGES = 8 };
static const double edges[EDGES] = {0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, INFINITY};
static const double shape[EDGES] = {0.026, 0.191, 0.428, 0.327, 0.0259, 0.0019, 0.0001, 0.0001}; /* shares */

static struct policy *service(void)
{
    const char *source = getenv("HALDANE_SOURCE");
    if (!source)
        fail_msg("HALDANE_SOURCE is not set: it must name the source tree");
    char *path = mem_printf("%s/policies/http-service.yaml", source), *no_environment[] = {NULL};
    struct policy_problems problems = {0};
    struct error err = {0};
    struct policy *policy = policy_load_file(path, NULL, 0, no_environment, &problems, &err);
    if (!policy)
        fail_msg("%s: %s", path, err.text);
    policy_problems_free(&problems);
    free(path);
    assert_int_equal(policy->metric_count, 2);
    assert_int_equal(policy->step_count, 4);
    return policy;
}

static struct plan_traffic traffic_of(const struct policy *policy, double rps, double error_rate)
{
    struct plan_traffic traffic = plan_traffic_new(policy);
    traffic.levels[ERRORS] = (struct plan_level){.rps = rps, .history = rps * 300};
    traffic.levels[ERRORS].at.requests = 1000000;
    traffic.levels[ERRORS].at.failed = (uint64_t)llround(1e6 * error_rate);
    struct plan_level *latency = &traffic.levels[LATENCY];
    *latency = (struct plan_level){.rps = rps, .history = rps * 300, .edge_count = EDGES};
    latency->edges = mem_alloc(EDGES, sizeof *latency->edges);
    latency->at.buckets = mem_alloc(EDGES, sizeof *latency->at.buckets);
    for (size_t e = 0; e < EDGES; e++) {
        latency->edges[e] = edges[e];
        latency->at.buckets[e] = (uint64_t)llround(1e6 * shape[e]);
        latency->at.requests += latency->at.buckets[e];
    }
    return traffic;
}

static struct plan *plan_at(const struct policy *policy, double rps, double error_rate)
{
    struct plan_traffic traffic = traffic_of(policy, rps, error_rate);
    struct plan *plan = plan_new(policy, &traffic);
    plan_traffic_free(&traffic);
    return plan;
}

static void assert_near(double got, double want, double within)
{
    if (!(fabs(got - want) <= within))
        fail_msg("%.17g is not %.17g", got, want);
}

static const char *warning_with(const struct plan *plan, const char *first, const char *second)
{
    for (size_t w = 0; w < plan->warning_count; w++)
        if (strstr(plan->warnings[w], first) && strstr(plan->warnings[w], second))
            return plan->warnings[w];
    return NULL;
}

static void one_request_a_second_never_decides(void **state)
{
    (void)state;
    struct policy *policy = service();
    struct plan *plan = plan_at(policy, 1, 0.005);
    static const char *const weights[] = {"at 5 %", "at 25 %", "at 50 %"};
    for (size_t s = 0; s < 3; s++) {
        assert_true(plan->steps[s].compared);
        assert_false(plan->steps[s].decides);
        assert_non_null(warning_with(plan, "errors: ", weights[s]));
    }
    assert_false(plan->steps[3].compared);
    assert_true(plan->steps[3].decides);
    assert_false(plan_decides(plan));
    /* 1.5 times one failure in 200, seen with at most 0.5 canary requests a second: no test can. */
    assert_non_null(warning_with(plan, "harm of 1.5×", "no test could"));
    assert_true(plan->metrics[ERRORS].whole[0].ms == -1);
    plan_free(plan);
    policy_free(policy);
}

static void a_hundred_and_a_thousand_decide(void **state)
{
    (void)state;
    struct policy *policy = service();
    for (double rps = 100; rps <= 1000; rps *= 10) {
        struct plan *plan = plan_at(policy, rps, 0.005);
        assert_true(plan_decides(plan));
        assert_null(warning_with(plan, "not proven", ""));
        for (size_t s = 0; s < 3; s++) {
            const struct plan_step *step = &plan->steps[s];
            assert_true(step->left.ms >= step->min_ms && step->left.ms <= step->max_ms);
            double share = (double)step->weight_bp / BASIS_POINTS;
            assert_near(step->canary_a_look, rps * 15 * share, 1e-6);
            assert_near(step->canary_until_max, rps * 1800 * share, 1e-6);
            assert_near(step->left.requests, rps * share * (double)step->left.ms / 1000, 1e-3);
        }
        plan_free(plan);
    }
    policy_free(policy);
}

/* Never counts as the longest time. */
static int64_t time_of(const struct plan_time *time)
{
    return time->ms < 0 ? INT64_MAX : time->ms;
}

static void more_traffic_and_more_harm_are_no_slower(void **state)
{
    (void)state;
    struct policy *policy = service();
    struct plan *less = plan_at(policy, 10, 0.005);
    for (double rps = 100; rps <= 1000; rps *= 10) {
        struct plan *more = plan_at(policy, rps, 0.005);
        for (size_t m = 0; m < 2; m++) {
            for (size_t s = 0; s < 3; s++) {
                const struct plan_metric_step *slow = &less->metrics[m].steps[s], *fast = &more->metrics[m].steps[s];
                assert_true(time_of(&fast->proven) <= time_of(&slow->proven));
                for (int i = 0; i < PLAN_SIZES; i++) {
                    assert_true(time_of(&fast->caught[i]) <= time_of(&slow->caught[i]));
                    assert_true(i == 0 || time_of(&fast->caught[i]) <= time_of(&fast->caught[i - 1]));
                }
            }
        }
        plan_free(less);
        less = more;
    }
    plan_free(less);
    policy_free(policy);
}

/* What the plan says would do, does. */
static void what_would_do_does(void **state)
{
    (void)state;
    struct policy *policy = service();
    struct plan *plan = plan_at(policy, 10, 0.005);
    const char *told = warning_with(plan, "errors: ", "at 5 %");
    assert_non_null(told);
    double weight, absolute;
    int minutes, hours;
    assert_non_null(strstr(told, "a weight of "));
    assert_int_equal(sscanf(strstr(told, "a weight of "), "a weight of %lf %%", &weight), 1);
    assert_non_null(strstr(told, "{absolute: "));
    assert_int_equal(sscanf(strstr(told, "{absolute: "), "{absolute: %lf%%}", &absolute), 1);
    assert_non_null(strstr(told, "a max of "));
    assert_int_equal(sscanf(strstr(told, "a max of "), "a max of %dh%dm", &hours, &minutes), 2);
    plan_free(plan);

    policy->steps[0].weight_bp = (uint32_t)llround(weight * 100);
    plan = plan_at(policy, 10, 0.005);
    assert_true(plan->steps[0].decides);
    plan_free(plan);
    policy->steps[0].weight_bp = 500;

    policy->metrics[ERRORS].promote_absolute = absolute / 100;
    plan = plan_at(policy, 10, 0.005);
    assert_true(plan->steps[0].decides);
    plan_free(plan);
    policy->metrics[ERRORS].promote_absolute = 0.001;

    policy->steps[0].max_ms = (hours * 60 + minutes) * 60000;
    plan = plan_at(policy, 10, 0.005);
    assert_true(plan->steps[0].decides);
    plan_free(plan);
    policy_free(policy);
}

/* --- the plan and the judge --- */

static void add_instance(gsl_rng *random, struct evidence *evidence, enum track track, const char *name,
                         double requests)
{
    uint64_t n = (uint64_t)llround(requests);
    for (size_t m = 0; m < evidence->metric_count; m++) {
        struct evidence_metric *metric = &evidence->metrics[m];
        struct instance_counts *counts =
            evidence_add_instance(metric, &metric->intervals[metric->count - 1], track, name);
        counts->requests = n;
        unsigned buckets[EDGES];
        if (metric->type == METRIC_ERRORS) {
            counts->failed = gsl_ran_binomial(random, 0.005, (unsigned)n);
            continue;
        }
        gsl_ran_multinomial(random, EDGES, (unsigned)n, shape, buckets);
        for (size_t e = 0; e < EDGES; e++)
            counts->buckets[e] = buckets[e];
    }
}

/* Looks of 15 s in the manner of a rollout: a history, then the first step, until the judge lets it go. */
static int looks_until_promoted(gsl_rng *random, const struct policy *policy, double rps, double share)
{
    struct evidence *evidence = evidence_new(policy->service, policy->look_ms);
    evidence_metric(evidence, "errors", METRIC_ERRORS, NULL, 0);
    evidence_metric(evidence, "latency", METRIC_LATENCY, edges, EDGES);
    int64_t begin_ms = 20 * policy->look_ms, after_ms = INT64_MIN;
    evidence_add_weight(evidence, 0, 0);
    evidence_add_weight(evidence, begin_ms, policy->steps[0].weight_bp);
    struct judge *judge = judge_new(policy);
    struct look look = {0};
    int looks = 0;
    for (int i = 1; i < 400 && looks == 0; i++) {
        bool rolling = i > 20;
        /* A look's oldest sample is a little older than the look. */
        for (size_t m = 0; m < 2; m++)
            evidence_add_interval(&evidence->metrics[m], (i - 1) * policy->look_ms - 1000, i * policy->look_ms);
        double all = rps * 15, canary = rolling ? all * share : 0;
        add_instance(random, evidence, TRACK_STABLE, "s1:80", (all - canary) / 2);
        add_instance(random, evidence, TRACK_STABLE, "s2:80", (all - canary) / 2);
        add_instance(random, evidence, TRACK_CANARY, "c1:80", canary);
        while (evidence_next_look(evidence, &after_ms, &look))
            judge_observe(judge, evidence, &look);
        struct verdict *verdict = rolling ? judge_verdict(judge, NULL, EFFECTS_LIVE) : NULL;
        looks = verdict && verdict->decision == DECISION_PROMOTE ? i - 20 : 0;
        verdict_free(verdict);
    }
    look_free(&look);
    judge_free(judge);
    evidence_free(evidence);
    return looks;
}

static void the_judge_takes_as_long_as_planned(void **state)
{
    (void)state;
    struct policy *policy = service();
    policy->steps[0].min_ms = 0;
    gsl_rng *random = gsl_rng_alloc(gsl_rng_mt19937);
    for (double rps = 100; rps <= 10000; rps *= 10) {
        enum { RUNS = 40 };
        double sum = 0;
        for (int run = 0; run < RUNS; run++) {
            int looks = looks_until_promoted(random, policy, rps, 0.05);
            assert_true(looks > 0);
            sum += looks;
        }
        struct plan *plan = plan_at(policy, rps, 0.005);
        double planned = (double)(plan->steps[0].left.ms / policy->look_ms), mean = sum / RUNS;
        printf("# %g rps: planned %g looks, mean of %d runs %.1f\n", rps, planned, RUNS, mean);
        /* With much traffic nothing is left to luck: the looks that are lost and that are needed are the judge's. */
        assert_true(rps < 10000 ? fabs(planned - mean) <= 0.25 * mean : fabs(planned - mean) < 1);
        plan_free(plan);
    }
    gsl_rng_free(random);
    policy_free(policy);
}

/* --- restrictions --- */

static void an_absolute_margin_at_a_high_rate_is_told(void **state)
{
    (void)state;
    struct policy *policy = service();
    policy->metrics[ERRORS].abort_absolute = 0.01;
    struct plan *plan = plan_at(policy, 100, 0.06);
    assert_non_null(warning_with(plan, "absolute part", "6 %"));
    assert_true(plan->metrics[ERRORS].whole[2].ms == -1);
    plan_free(plan);
    plan = plan_at(policy, 100, 0.04);
    assert_null(warning_with(plan, "absolute part", ""));
    assert_true(plan->metrics[ERRORS].whole[2].ms > 0);
    plan_free(plan);
    policy_free(policy);
}

static void more_canaries_than_stable_are_told(void **state)
{
    (void)state;
    struct policy *policy = service();
    struct plan_traffic traffic = traffic_of(policy, 100, 0.005);
    traffic.instances[TRACK_CANARY] = 3;
    struct plan *plan = plan_new(policy, &traffic);
    assert_non_null(warning_with(plan, "more instances than stable", "3 and 2"));
    assert_true(plan->metrics[ERRORS].whole[2].ms == -1);
    plan_free(plan);
    plan_traffic_free(&traffic);
    policy_free(policy);
}

static void a_metric_without_data_blocks_unless_it_may_be_ignored(void **state)
{
    (void)state;
    struct policy *policy = service();
    struct plan_traffic traffic = traffic_of(policy, 100, 0.005);
    traffic.levels[LATENCY].at.requests = 0;
    struct plan *plan = plan_new(policy, &traffic);
    assert_false(plan->metrics[LATENCY].known);
    assert_false(plan_decides(plan));
    assert_non_null(warning_with(plan, "latency: ", "no request"));
    plan_free(plan);
    policy->metrics[LATENCY].on_no_data = NO_DATA_IGNORE;
    plan = plan_new(policy, &traffic);
    assert_true(plan_decides(plan));
    plan_free(plan);
    plan_traffic_free(&traffic);
    policy_free(policy);
}

/* Little known of stable: the judge waits for a thousand requests before it compares latencies. */
static void what_stable_is_not_known_from_is_waited_for(void **state)
{
    (void)state;
    struct policy *policy = service();
    struct plan_traffic traffic = traffic_of(policy, 100, 0.005);
    struct plan *known = plan_new(policy, &traffic);
    traffic.levels[LATENCY].history = 0;
    struct plan *unknown = plan_new(policy, &traffic);
    /* The warm-up is longer than that at a hundred a second, and not at one. */
    assert_true(unknown->metrics[LATENCY].steps[0].proven.ms == known->metrics[LATENCY].steps[0].proven.ms);
    plan_free(known);
    plan_free(unknown);
    traffic.levels[LATENCY].rps = 2;
    unknown = plan_new(policy, &traffic);
    traffic.levels[LATENCY].history = 1000;
    known = plan_new(policy, &traffic);
    int64_t wait_ms = unknown->metrics[LATENCY].steps[0].caught[2].ms - known->metrics[LATENCY].steps[0].caught[2].ms;
    assert_true(wait_ms > 400000 && wait_ms < 540000);
    plan_free(known);
    plan_free(unknown);
    plan_traffic_free(&traffic);
    policy_free(policy);
}

/* --- evidence --- */

static void evidence_gives_rate_counts_and_instances(void **state)
{
    (void)state;
    struct policy *policy = service();
    struct evidence *evidence = evidence_new("shop", 15000);
    evidence_metric(evidence, "errors", METRIC_ERRORS, NULL, 0);
    evidence_metric(evidence, "latency", METRIC_LATENCY, edges, EDGES);
    gsl_rng *random = gsl_rng_alloc(gsl_rng_mt19937);
    for (int i = 1; i <= 20; i++) {
        for (size_t m = 0; m < 2; m++)
            evidence_add_interval(&evidence->metrics[m], i * 15000 - 16000, i * 15000);
        add_instance(random, evidence, TRACK_STABLE, "s1:80", 700);
        add_instance(random, evidence, TRACK_STABLE, "s2:80", 700);
        add_instance(random, evidence, TRACK_STABLE, "s3:80", 100);
    }
    struct plan_traffic traffic = plan_traffic_new(policy);
    assert_int_equal(traffic.instances[TRACK_STABLE], 2);
    plan_traffic_learn(&traffic, policy, evidence);
    evidence_free(evidence);
    for (size_t m = 0; m < 2; m++) {
        assert_near(traffic.levels[m].rps, 100, 1e-9);
        assert_int_equal(traffic.levels[m].at.requests, 30000);
        assert_near(traffic.levels[m].history, 30000, 1e-9);
    }
    assert_int_equal(traffic.levels[LATENCY].edge_count, EDGES);
    assert_int_equal(traffic.instances[TRACK_STABLE], 3);
    assert_int_equal(traffic.instances[TRACK_CANARY], 1);
    gsl_rng_free(random);
    plan_traffic_free(&traffic);
    policy_free(policy);
}

/* --- forms --- */

static void the_text_fits_a_terminal(void **state)
{
    (void)state;
    struct policy *policy = service();
    for (double rps = 1; rps <= 100000; rps *= 10) {
        struct plan *plan = plan_at(policy, rps, 0.005);
        char *text = plan_to_text(plan), *rest = text, *line;
        assert_non_null(strstr(text, "PLAN: shop at "));
        while ((line = strsep(&rest, "\n")))
            if (text_columns(line) > 80)
                fail_msg("%zu columns: %s", text_columns(line), line);
        free(text);
        plan_free(plan);
    }
    policy_free(policy);
}

static void the_json_says_the_same(void **state)
{
    (void)state;
    struct policy *policy = service();
    struct plan *plan = plan_at(policy, 10, 0.005);
    char *text = plan_to_json(plan);
    assert_null(strchr(text, '\n'));
    cJSON *root = cJSON_Parse(text);
    assert_non_null(root);
    assert_string_equal(cJSON_GetObjectItem(root, "schema")->valuestring, "haldane.plan/1");
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(root, "decides")));
    cJSON *steps = cJSON_GetObjectItem(root, "steps"), *metrics = cJSON_GetObjectItem(root, "metrics");
    assert_int_equal(cJSON_GetArraySize(steps), 4);
    assert_int_equal(cJSON_GetArraySize(metrics), 2);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(root, "warnings")), plan->warning_count);
    cJSON *left = cJSON_GetObjectItem(cJSON_GetArrayItem(steps, 0), "left");
    assert_near(cJSON_GetObjectItem(left, "after_s")->valuedouble, (double)plan->steps[0].left.ms / 1000, 1e-9);
    cJSON *whole = cJSON_GetObjectItem(cJSON_GetArrayItem(metrics, ERRORS), "whole");
    cJSON *never = cJSON_GetObjectItem(cJSON_GetObjectItem(cJSON_GetArrayItem(whole, 0), "caught"), "after_s");
    assert_true(plan->metrics[ERRORS].whole[0].ms == -1 && cJSON_IsNull(never));
    cJSON_Delete(root);
    free(text);
    plan_free(plan);
    policy_free(policy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_request_a_second_never_decides),
        cmocka_unit_test(a_hundred_and_a_thousand_decide),
        cmocka_unit_test(more_traffic_and_more_harm_are_no_slower),
        cmocka_unit_test(what_would_do_does),
        cmocka_unit_test(the_judge_takes_as_long_as_planned),
        cmocka_unit_test(an_absolute_margin_at_a_high_rate_is_told),
        cmocka_unit_test(more_canaries_than_stable_are_told),
        cmocka_unit_test(a_metric_without_data_blocks_unless_it_may_be_ignored),
        cmocka_unit_test(what_stable_is_not_known_from_is_waited_for),
        cmocka_unit_test(evidence_gives_rate_counts_and_instances),
        cmocka_unit_test(the_text_fits_a_terminal),
        cmocka_unit_test(the_json_says_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
