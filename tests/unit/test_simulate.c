/*
 * What a user of `haldane simulate` may rely on: the same seed gives the same answer, however many threads; the made-up
 * services are what they say they are; a canary that is plainly bad is caught and a healthy one is left alone.
 */
#include "analyzer/model/json.h"
#include "analyzer/report/simulation.h"
#include "analyzer/trials/simulate.h"
#include "base/memory.h"
#include "policies/load.h"

#include <gsl/gsl_cdf.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char metrics_text[] = "  - {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}'}\n"
                                   "  - {name: latency, type: latency, histogram: 'seconds_bucket{$track}'}\n";

static struct policy *policy_of(const char *metrics)
{
    char *text = mem_printf("version: 1\n"
                            "service: shop\n"
                            "prometheus: {url: 'http://127.0.0.1:9090'}\n"
                            "tracks: {stable: 'track=\"stable\"', canary: 'track=\"canary\"'}\n"
                            "look: 15s\n"
                            "warmup: 0s\n"
                            "traffic: {driver: none, unattended: 2m}\n"
                            "steps: [5%%, 10%%, 25%%, 50%%, 100%%]\n"
                            "metrics:\n%s",
                            metrics);
    struct policy_problems problems = {0};
    struct error err = {0};
    struct policy *policy = policy_load_text(text, strlen(text), "policy", NULL, 0, NULL, &problems, &err);
    if (!policy)
        fail_msg("%s", err.text);
    policy_problems_free(&problems);
    free(text);
    return policy;
}

static struct scenario scenario_of_name(const char *name)
{
    struct scenario scenario;
    if (!scenario_named(name, 100, 0.005, &scenario))
        fail_msg("no scenario %s", name);
    return scenario;
}

static struct simulation *simulate_with(const struct policy *policy, const struct scenario *scenario, uint64_t runs,
                                        uint64_t seed, unsigned threads)
{
    struct simulate_setup setup = {
        .policy = policy, .scenarios = scenario, .scenario_count = 1, .runs = runs, .seed = seed, .threads = threads};
    return simulate(&setup);
}

/* --- the draws --- */

struct sums {
    double requests[TRACKS], failed[TRACKS], slow[TRACKS], very_slow[TRACKS];
    double variance; /* of the canary's failures in a look */
    uint64_t looks;
};

static const struct track_counts *track_of(const struct look *look, size_t metric, enum track track)
{
    return &look->intervals[metric]->tracks[track];
}

static void add_look(const struct look *look, struct sums *sums)
{
    double canary_failed = 0;
    for (int t = 0; t < TRACKS; t++) {
        const struct track_counts *errors = track_of(look, 0, (enum track)t);
        const struct track_counts *latency = track_of(look, 1, (enum track)t);
        assert_int_equal(errors->count, latency->count);
        for (size_t i = 0; i < errors->count; i++) {
            uint64_t all = 0;
            assert_true(errors->instances[i].failed <= errors->instances[i].requests);
            sums->requests[t] += (double)errors->instances[i].requests;
            sums->failed[t] += (double)errors->instances[i].failed;
            canary_failed += t == TRACK_CANARY ? (double)errors->instances[i].failed : 0;
            for (size_t e = 0; e < 12; e++) {
                all += latency->instances[i].buckets[e];
                sums->slow[t] += e >= 5 ? (double)latency->instances[i].buckets[e] : 0;      /* above 100 ms */
                sums->very_slow[t] += e >= 6 ? (double)latency->instances[i].buckets[e] : 0; /* above 250 ms */
            }
            assert_int_equal(all, latency->instances[i].requests);
        }
    }
    sums->variance += canary_failed * canary_failed;
    sums->looks++;
}

/* Many looks at one share of the traffic. */
static struct sums draw(const struct scenario *scenario, uint32_t weight_bp, unsigned looks)
{
    struct policy *policy = policy_of(metrics_text);
    struct scenario_draws *draws = scenario_open(scenario, policy);
    struct sums sums = {0};
    for (unsigned run = 0; sums.looks < looks; run++) {
        scenario_begin(draws, 7, run);
        scenario_weight(draws, weight_bp);
        for (unsigned i = 0; i < 40; i++)
            add_look(scenario_look(draws), &sums);
    }
    double mean = sums.failed[TRACK_CANARY] / (double)sums.looks;
    sums.variance = sums.variance / (double)sums.looks - mean * mean;
    scenario_close(draws);
    policy_free(policy);
    return sums;
}

static void assert_near(double value, double expected, double allowed)
{
    if (!(fabs(value - expected) <= allowed))
        fail_msg("%.6g is not within %.3g of %.6g", value, allowed, expected);
}

/* Within five standard errors of a share of n. */
static void assert_share(double count, double n, double share)
{
    assert_near(count / n, share, 5 * sqrt(share * (1 - share) / n));
}

static void test_rates_are_what_they_say(void **state)
{
    (void)state;
    struct scenario scenario = scenario_of_name("err-3");
    struct sums sums = draw(&scenario, 2500, 4000);
    double all = sums.requests[0] + sums.requests[1];
    assert_near(all / (double)sums.looks, 1500, 5 * sqrt(1500 / (double)sums.looks));
    assert_share(sums.requests[TRACK_CANARY], all, 0.25);
    assert_share(sums.failed[TRACK_STABLE], sums.requests[TRACK_STABLE], 0.005);
    assert_share(sums.failed[TRACK_CANARY], sums.requests[TRACK_CANARY], 0.015);
}

static void test_latencies_are_what_they_say(void **state)
{
    (void)state;
    struct scenario scenario = scenario_of_name("lat-50");
    scenario.load_sd = 0;
    struct sums sums = draw(&scenario, 5000, 400);
    double stable = gsl_cdf_lognormal_Q(0.1, log(0.08), 0.6), canary = gsl_cdf_lognormal_Q(0.1, log(0.12), 0.6);
    assert_share(sums.slow[TRACK_STABLE], sums.requests[TRACK_STABLE], stable);
    assert_share(sums.slow[TRACK_CANARY], sums.requests[TRACK_CANARY], canary);
    /* A fault of the tail leaves what is faster than 90 % alone: its 99 % quantile is where half as fast was. */
    scenario = scenario_of_name("p99-50");
    scenario.load_sd = 0;
    scenario.latency_s = 0.25 / 1.5 / exp(0.6 * gsl_cdf_ugaussian_Pinv(0.99));
    sums = draw(&scenario, 5000, 400);
    double below = gsl_cdf_lognormal_Q(0.1, log(scenario.latency_s), 0.6);
    assert_share(sums.slow[TRACK_STABLE], sums.requests[TRACK_STABLE], below);
    assert_share(sums.very_slow[TRACK_CANARY], sums.requests[TRACK_CANARY], 0.01);
}

static void test_noise_makes_failures_alike(void **state)
{
    (void)state;
    /* 75 requests a look on one canary instance: variance n p q (1 + (n - 1) rho), and n's own n p^2. */
    struct scenario scenario = scenario_of_name("aa-pods");
    scenario.error_rate = 0.02;
    double n = 75, p = 0.02, rho = 0.01;
    struct sums sums = draw(&scenario, 500, 20000);
    assert_near(sums.variance, n * p * (1 - p) * (1 + (n - 1) * rho) + n * p * p, 0.2);
    scenario.pod_rho = 0;
    sums = draw(&scenario, 500, 20000);
    assert_near(sums.variance, n * p, 0.1);
    assert_share(sums.failed[TRACK_CANARY], sums.requests[TRACK_CANARY], p);
    /* At half of the traffic ten instances share what one has as an arm. */
    scenario.arm_rho = rho;
    n = 750;
    sums = draw(&scenario, 5000, 20000);
    double expected = n * p * (1 - p) * (1 + (n - 1) * rho) + n * p * p;
    assert_near(sums.variance, expected, 0.1 * expected);
    /* Two bursts of 50 in a hundred looks add one failure a look. */
    scenario = scenario_of_name("aa-bursts");
    sums = draw(&scenario, 5000, 20000);
    double failed = sums.failed[0] + sums.failed[1];
    assert_near(failed / (double)sums.looks, 1500 * 0.005 + 1, 0.3);
}

static void test_instances_follow_the_split(void **state)
{
    (void)state;
    struct policy *policy = policy_of(metrics_text);
    struct scenario scenario = scenario_of_name("aa-iid");
    struct scenario_draws *draws = scenario_open(&scenario, policy);
    scenario_begin(draws, 1, 1);
    const struct look *look = scenario_look(draws);
    assert_int_equal(look->weight_bp, 0);
    assert_false(track_of(look, 0, TRACK_CANARY)->present);
    assert_int_equal(track_of(look, 0, TRACK_STABLE)->count, 20);
    static const struct {
        uint32_t weight_bp;
        size_t canary;
    } cases[] = {{100, 1}, {500, 1}, {1000, 2}, {2500, 5}, {5000, 10}, {9900, 19}, {10000, 20}, {0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t before_ms = look->at_ms;
        scenario_weight(draws, cases[i].weight_bp);
        look = scenario_look(draws);
        assert_int_equal(look->from_ms, before_ms);
        assert_int_equal(look->at_ms, before_ms + 15000);
        assert_int_equal(look->weight_from_ms, before_ms);
        assert_int_equal(look->weight_bp, cases[i].weight_bp);
        assert_int_equal(track_of(look, 0, TRACK_CANARY)->count, cases[i].canary);
        assert_int_equal(track_of(look, 0, TRACK_STABLE)->count, 20 - cases[i].canary);
        assert_int_equal(track_of(look, 0, TRACK_STABLE)->present, cases[i].canary < 20);
    }
    scenario_close(draws);
    policy_free(policy);
}

static void test_faults_begin_and_grow(void **state)
{
    (void)state;
    struct policy *policy = policy_of(metrics_text);
    struct scenario scenario = scenario_of_name("leak");
    struct scenario_draws *draws = scenario_open(&scenario, policy);
    scenario_begin(draws, 1, 1);
    scenario_look(draws);
    scenario_weight(draws, 500);
    for (int i = 0; i < 20; i++) {
        scenario_look(draws);
        assert_near(scenario_truth(draws).error_rate[TRACK_CANARY], 0.005, 1e-12);
        assert_near(scenario_truth(draws).harmed, 0, 0);
    }
    for (int i = 20; i < 160; i++)
        scenario_look(draws);
    struct scenario_truth truth = scenario_truth(draws);
    assert_int_equal(truth.since_traffic_ms, 40 * 60000);
    assert_near(truth.error_rate[TRACK_CANARY], 0.025, 0.0002);
    assert_near(truth.error_rate[TRACK_STABLE], 0.005, 1e-12);
    assert_near(truth.harmed, 0.02 * (double)truth.requests[TRACK_CANARY], 0.02);
    scenario_close(draws);
    /* Exactly at the margin means at this policy's. */
    scenario = scenario_of_name("margin");
    draws = scenario_open(&scenario, policy);
    scenario_weight(draws, 500);
    scenario_look(draws);
    assert_near(scenario_truth(draws).error_rate[TRACK_CANARY], 1.5 * 0.005 + 0.001, 1e-12);
    scenario_close(draws);
    policy_free(policy);
}

static void test_restarts_lose_counts(void **state)
{
    (void)state;
    struct scenario scenario = scenario_of_name("aa-iid");
    scenario.restarts = 1;
    struct sums sums = draw(&scenario, 500, 4000);
    /* One instance; a Poisson number of restarts a look, each leaves half on average: exp(-1/2) is left. */
    double all = 75 * (double)sums.looks;
    assert_near(sums.requests[TRACK_CANARY] / all, exp(-0.5), 0.03);
    assert_near(sums.requests[TRACK_STABLE] / (1425 * (double)sums.looks), 1, 0.01);
    assert_share(sums.failed[TRACK_CANARY], sums.requests[TRACK_CANARY], 0.005);
}

static void test_every_named_scenario_draws(void **state)
{
    (void)state;
    struct policy *policy = policy_of(metrics_text);
    struct scenario scenario;
    assert_false(scenario_named("nothing", 100, 0.005, &scenario));
    for (size_t i = 0; i < scenario_count; i++) {
        assert_true(scenario_named(scenario_name(i), 50, 0.01, &scenario));
        assert_true(strlen(scenario_summary(i)) > 0);
        assert_int_equal(scenario_is_healthy(&scenario), strncmp(scenario.name, "aa-", 3) == 0);
        bool own = strstr(scenario.name, "rps") != NULL;
        assert_near(scenario.rps,
                    own ? (strstr(scenario.name, "1000rps") ? 1000
                           : strstr(scenario.name, "10rps") ? 10
                                                            : 1)
                        : 50,
                    0);
        assert_near(scenario.error_rate, 0.01, 0);
        struct scenario_draws *draws = scenario_open(&scenario, policy);
        scenario_weight(draws, 2500);
        for (int l = 0; l < 200; l++) {
            struct sums sums = {0};
            add_look(scenario_look(draws), &sums);
        }
        scenario_close(draws);
    }
    policy_free(policy);
}

/* --- the answer --- */

static void assert_same_answer(const struct policy *policy, const struct scenario *scenario, unsigned threads)
{
    struct simulation *one = simulate_with(policy, scenario, 12, 3, 1);
    struct simulation *again = simulate_with(policy, scenario, 12, 3, threads);
    char *a = simulation_to_json(one), *b = simulation_to_json(again);
    assert_string_equal(a, b);
    free(a);
    free(b);
    simulation_free(one);
    simulation_free(again);
}

static void test_same_seed_same_answer(void **state)
{
    (void)state;
    struct policy *policy = policy_of(metrics_text);
    struct scenario scenario = scenario_of_name("err-2-pods");
    assert_same_answer(policy, &scenario, 1);
    assert_same_answer(policy, &scenario, 2);
    assert_same_answer(policy, &scenario, 5);
    struct simulation *one = simulate_with(policy, &scenario, 12, 3, 2);
    struct simulation *other = simulate_with(policy, &scenario, 12, 4, 2);
    assert_true(one->results[0].canary_requests.median != other->results[0].canary_requests.median);
    simulation_free(one);
    simulation_free(other);
    policy_free(policy);
}

static void test_a_run_does_not_depend_on_the_ones_before(void **state)
{
    (void)state;
    struct policy *policy = policy_of(metrics_text);
    struct scenario scenario = scenario_of_name("aa-drift-0.8");
    struct scenario_draws *draws = scenario_open(&scenario, policy);
    struct trial first = trial_run(draws, 9, 5);
    trial_run(draws, 9, 6);
    struct trial again = trial_run(draws, 9, 5);
    assert_int_equal(first.canary_requests, again.canary_requests);
    assert_int_equal(first.ended_ms, again.ended_ms);
    assert_int_equal(first.end, again.end);
    scenario_close(draws);
    policy_free(policy);
}

static void test_a_gross_fault_is_always_caught(void **state)
{
    (void)state;
    struct policy *policy = policy_of(metrics_text);
    struct scenario scenario = scenario_of_name("err-5");
    scenario.error_ratio = 20;
    struct simulation *simulation = simulate_with(policy, &scenario, 60, 1, 2);
    const struct simulation_result *result = &simulation->results[0];
    assert_int_equal(simulation_aborted(result), 60);
    assert_int_equal(result->promoted, 0);
    assert_true(result->to_abort_ms.p90 <= 5 * 60000);
    assert_true(result->canary_requests.median > 0 && result->harmed.median > 0);
    assert_true(result->harmed.median < result->canary_requests.median);
    simulation_free(simulation);
    policy_free(policy);
}

static void test_a_healthy_canary_is_left_alone(void **state)
{
    (void)state;
    struct policy *policy = policy_of(metrics_text);
    struct scenario scenario = scenario_of_name("aa-iid");
    struct simulation *simulation = simulate_with(policy, &scenario, 60, 1, 2);
    const struct simulation_result *result = &simulation->results[0];
    double low, high;
    simulation_interval(simulation_aborted(result), result->runs, &low, &high);
    assert_true(low <= policy->false_abort);
    assert_true(result->promoted >= 54);
    assert_int_equal(result->harm + result->guardrail + result->promoted + result->undecided, 60);
    assert_true(isnan(result->to_abort_ms.median));
    assert_true(result->to_promote_ms.median > 10 * 60000);
    simulation_free(simulation);
    policy_free(policy);
}

static void test_a_fixed_schedule_takes_its_time(void **state)
{
    (void)state;
    struct policy *policy = policy_of(metrics_text);
    struct scenario scenario = scenario_of_name("aa-iid");
    scenario.step_ms = 10 * 60000;
    struct scenario_draws *draws = scenario_open(&scenario, policy);
    struct trial trial = trial_run(draws, 1, 0);
    assert_int_equal(trial.end, TRIAL_UNDECIDED);
    assert_int_equal(trial.ended_ms, 4 * 10 * 60000);
    /* 5, 10, 25 and 50 % of 100 a second for ten minutes each. */
    assert_near((double)trial.canary_requests, 54000, 5 * sqrt(54000));
    scenario_close(draws);
    scenario = scenario_of_name("aa-split");
    draws = scenario_open(&scenario, policy);
    trial = trial_run(draws, 1, 0);
    assert_int_equal(trial.end, TRIAL_UNDECIDED);
    assert_int_equal(trial.ended_ms, 4 * 4 * 150000);
    scenario_close(draws);
    policy_free(policy);
}

static void count_progress(uint64_t done, uint64_t all, void *context)
{
    uint64_t *last = context;
    assert_true(done > *last && done <= all);
    *last = done;
}

static void test_progress_reaches_the_end(void **state)
{
    (void)state;
    struct policy *policy = policy_of(metrics_text);
    struct scenario scenarios[2] = {scenario_of_name("err-5"), scenario_of_name("lat-50")};
    uint64_t last = 0;
    struct simulate_setup setup = {.policy = policy,
                                   .scenarios = scenarios,
                                   .scenario_count = 2,
                                   .runs = 5,
                                   .threads = 2,
                                   .progress = count_progress,
                                   .context = &last};
    struct simulation *simulation = simulate(&setup);
    assert_int_equal(last, 10);
    assert_int_equal(simulation->count, 2);
    assert_string_equal(simulation->results[1].scenario, "lat-50");
    simulation_free(simulation);
    policy_free(policy);
}

/* A policy with metrics of every kind can be simulated. */
static void test_gauges_and_guardrails(void **state)
{
    (void)state;
    struct policy *policy = policy_of("  - {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}'}\n"
                                      "  - {name: heat, type: gauge, query: 'avg(heat{$track})'}\n"
                                      "guardrails:\n"
                                      "  - {name: slo, failed: 'bad{$canary}', total: 'all{$canary}', above: 2%}\n");
    struct scenario scenario = scenario_of_name("err-5");
    scenario.error_ratio = 40;
    struct simulation *simulation = simulate_with(policy, &scenario, 10, 1, 2);
    assert_int_equal(simulation_aborted(&simulation->results[0]), 10);
    simulation_free(simulation);
    scenario = scenario_of_name("aa-iid");
    simulation = simulate_with(policy, &scenario, 10, 1, 2);
    assert_int_equal(simulation_aborted(&simulation->results[0]), 0);
    simulation_free(simulation);
    policy_free(policy);
}

/* --- its forms --- */

static struct simulation *made_up(void)
{
    struct simulation *simulation = mem_alloc(1, sizeof *simulation);
    *simulation = (struct simulation){.service = mem_strdup("<shop>"),
                                      .seed = UINT64_MAX,
                                      .runs = 200,
                                      .look_ms = 15000,
                                      .false_abort_limit = 0.05,
                                      .false_promote_limit = 0.05,
                                      .count = 2};
    simulation->results = mem_alloc(2, sizeof *simulation->results);
    struct simulation_spread never = {0, NAN, NAN};
    simulation->results[0] = (struct simulation_result){.scenario = mem_strdup("aa-iid"),
                                                        .summary = mem_strdup("as good"),
                                                        .rps = 100,
                                                        .error_rate = 0.005,
                                                        .runs = 200,
                                                        .harm = 30,
                                                        .promoted = 170,
                                                        .to_abort_ms = never,
                                                        .canary_requests = never,
                                                        .harmed = never,
                                                        .to_promote_ms = {170, 1800000, NAN}};
    simulation->results[1] = (struct simulation_result){.scenario = mem_strdup("err-2"),
                                                        .summary = mem_strdup("fails twice as often"),
                                                        .fault = FAULT_ERRORS,
                                                        .size = 2,
                                                        .rps = 100,
                                                        .error_rate = 0.005,
                                                        .runs = 200,
                                                        .harm = 190,
                                                        .guardrail = 10,
                                                        .to_abort_ms = {200, 720000, 1200000},
                                                        .canary_requests = {200, 3600, 6000},
                                                        .harmed = {200, 18, 30},
                                                        .to_promote_ms = never};
    return simulation;
}

static void test_forms(void **state)
{
    (void)state;
    struct simulation *simulation = made_up();
    enum simulation_finding finding;
    char *summary = simulation_summary(simulation, &finding);
    assert_int_equal(finding, SIMULATION_BROKEN); /* 30 of 200 is plainly above 5 % */
    assert_non_null(strstr(summary, "30 of 200"));
    free(summary);
    char *text = simulation_text(simulation);
    assert_non_null(strstr(text, "15 % ±2.5"));
    assert_non_null(strstr(text, "30m / –"));
    assert_non_null(strstr(text, "12m / 20m"));
    assert_non_null(strstr(text, "3,600"));
    free(text);
    text = simulation_html(simulation);
    assert_non_null(strstr(text, "&lt;shop&gt;"));
    assert_null(strstr(text, "<shop>"));
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf"));
    free(text);
    text = simulation_to_json(simulation);
    cJSON *root = cJSON_Parse(text);
    assert_non_null(root);
    assert_string_equal(cJSON_GetObjectItem(root, "schema")->valuestring, "haldane.simulation/1");
    assert_string_equal(cJSON_GetObjectItem(root, "seed")->valuestring, "18446744073709551615");
    const cJSON *first = cJSON_GetArrayItem(cJSON_GetObjectItem(root, "scenarios"), 0);
    const cJSON *aborted = cJSON_GetObjectItem(first, "aborted");
    assert_near(cJSON_GetObjectItem(aborted, "share")->valuedouble, 0.15, 1e-12);
    assert_near(cJSON_GetObjectItem(aborted, "standard_error")->valuedouble, sqrt(0.15 * 0.85 / 200), 1e-12);
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(cJSON_GetObjectItem(first, "seconds_to_abort"), "median")));
    cJSON_Delete(root);
    free(text);
    simulation_free(simulation);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rates_are_what_they_say),
        cmocka_unit_test(test_latencies_are_what_they_say),
        cmocka_unit_test(test_noise_makes_failures_alike),
        cmocka_unit_test(test_instances_follow_the_split),
        cmocka_unit_test(test_faults_begin_and_grow),
        cmocka_unit_test(test_restarts_lose_counts),
        cmocka_unit_test(test_every_named_scenario_draws),
        cmocka_unit_test(test_same_seed_same_answer),
        cmocka_unit_test(test_a_run_does_not_depend_on_the_ones_before),
        cmocka_unit_test(test_a_gross_fault_is_always_caught),
        cmocka_unit_test(test_a_healthy_canary_is_left_alone),
        cmocka_unit_test(test_a_fixed_schedule_takes_its_time),
        cmocka_unit_test(test_progress_reaches_the_end),
        cmocka_unit_test(test_gauges_and_guardrails),
        cmocka_unit_test(test_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
