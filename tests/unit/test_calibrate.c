/*
 * What a user may rely on when a policy is calibrated: on instances that differ by chance alone it keeps its promise;
 * on instances whose noise lasts it does not, and what is recommended then does, also on draws and on a history that it
 * was not chosen by; and what the history cannot tell is refused.
 */
#include "analyzer/model/json.h"
#include "analyzer/report/calibration.h"
#include "analyzer/trials/calibrate.h"
#include "base/memory.h"
#include "policies/load.h"

#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LOOK_MS = 15000, EDGES = 4, MOST = 16 };
static const double edges[EDGES] = {0.05, 0.1, 0.2, INFINITY};
static const double shape[EDGES] = {0.4, 0.4, 0.15, 0.05};
static const int64_t start_ms = INT64_C(1772331300000);

/* --- a history --- */

struct service {
    unsigned instances;
    size_t looks;
    double rps;     /* of one instance */
    double sd, phi; /* each instance's errors are multiplied by exp of a Gaussian AR(1) */
    bool latency;
    bool unnamed;
    size_t replaced;             /* at this look all instances get other names; 0: never */
    size_t noisy_from, noisy_to; /* the noise is there in these looks alone; equal: in all */
};

static void add_look(const struct service *service, struct evidence *evidence, gsl_rng *rng, double *noise, size_t t)
{
    static const double rate = 0.01;
    int64_t at_ms = start_ms + (int64_t)(t + 1) * LOOK_MS;
    struct evidence_metric *errors = evidence_metric(evidence, "errors", METRIC_ERRORS, NULL, 0);
    struct evidence_interval *interval = evidence_add_interval(errors, at_ms - LOOK_MS, at_ms);
    unsigned requests[MOST];
    char name[32];
    for (unsigned i = 0; i < service->instances; i++) {
        noise[i] =
            service->phi * noise[i] + service->sd * sqrt(1 - service->phi * service->phi) * gsl_ran_ugaussian(rng);
        snprintf(name, sizeof name, "%s%02u", service->replaced && t >= service->replaced ? "new" : "pod", i);
        struct instance_counts *counts =
            evidence_add_instance(errors, interval, TRACK_STABLE, service->unnamed ? NULL : name);
        requests[i] = gsl_ran_poisson(rng, service->rps * LOOK_MS / 1000);
        counts->requests = requests[i];
        bool noisy = service->noisy_from == service->noisy_to || (t >= service->noisy_from && t < service->noisy_to);
        double factor = noisy ? exp(noise[i] - service->sd * service->sd / 2) : 1;
        counts->failed = gsl_ran_binomial(rng, rate * factor, requests[i]);
    }
    if (!service->latency)
        return;
    struct evidence_metric *latency = evidence_metric(evidence, "latency", METRIC_LATENCY, edges, EDGES);
    interval = evidence_add_interval(latency, at_ms - LOOK_MS, at_ms);
    for (unsigned i = 0; i < service->instances; i++) {
        snprintf(name, sizeof name, "pod%02u", i);
        struct instance_counts *counts = evidence_add_instance(latency, interval, TRACK_STABLE, name);
        unsigned drawn[EDGES];
        gsl_ran_multinomial(rng, EDGES, requests[i], shape, drawn);
        counts->requests = requests[i];
        for (size_t e = 0; e < EDGES; e++)
            counts->buckets[e] = drawn[e];
    }
}

static struct evidence *history_of(const struct service *service, unsigned long seed)
{
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_taus2);
    gsl_rng_set(rng, seed);
    struct evidence *evidence = evidence_new("shop", LOOK_MS);
    double noise[MOST] = {0};
    for (unsigned i = 0; i < service->instances; i++)
        noise[i] = service->sd * gsl_ran_ugaussian(rng);
    for (size_t t = 0; t < service->looks; t++)
        add_look(service, evidence, rng, noise, t);
    gsl_rng_free(rng);
    return evidence;
}

/* --- a policy: two steps of ten minutes --- */

static struct policy *policy_of(const char *look, const char *ratio, const char *more)
{
    char *text = mem_printf("version: 1\nservice: shop\nprometheus: {url: 'http://127.0.0.1:9090'}\n"
                            "tracks: {stable: 'track=\"stable\"', canary: 'track=\"canary\"'}\n"
                            "look: %s\nwarmup: 0s\ntraffic: {driver: none, unattended: 10m}\n"
                            "steps: [{weight: 10%%, min: 2m, max: 10m}, {weight: 25%%, min: 2m, max: 10m}]\n"
                            "metrics:\n"
                            "  - {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}',\n"
                            "     abort_above: {ratio: %s}, promote_below: {ratio: 3}}\n%s",
                            look, ratio, more);
    struct policy_problems problems = {0};
    struct error err = {0};
    struct policy *policy = policy_load_text(text, strlen(text), "policy", NULL, 0, NULL, &problems, &err);
    if (!policy)
        fail_msg("%s", err.text);
    policy_problems_free(&problems);
    free(text);
    return policy;
}

#define LATENCY "  - {name: latency, type: latency, histogram: 'seconds_bucket{$track}'}\n"

static struct calibration *run(const struct policy *policy, const struct evidence *evidence, uint64_t runs,
                               uint64_t seed, unsigned threads)
{
    struct error err = {0};
    struct calibrate_setup setup = {
        .policy = policy, .evidence = evidence, .runs = runs, .seed = seed, .threads = threads};
    struct calibration *calibration = calibrate(&setup, &err);
    if (!calibration)
        fail_msg("%s", err.text);
    return calibration;
}

static void refused(const struct service *service, unsigned canaries, const char *why)
{
    struct policy *policy = policy_of("15s", "1.1", "");
    struct evidence *evidence = history_of(service, 1);
    struct error err = {0};
    struct calibrate_setup setup = {
        .policy = policy, .evidence = evidence, .canaries = canaries, .runs = 10, .seed = 1, .threads = 1};
    assert_null(calibrate(&setup, &err));
    assert_int_equal(err.code, ERROR_DATA);
    if (!strstr(err.text, why))
        fail_msg("`%s` does not say `%s`", err.text, why);
    evidence_free(evidence);
    policy_free(policy);
}

static const struct calibration_rate *cell(const struct calibration *calibration, size_t metric, size_t l, size_t m)
{
    return &calibration->metrics[metric].rates[l * calibration->metrics[metric].margin_count + m];
}

static void assert_near(double got, double want, double within)
{
    if (!(fabs(got - want) <= within))
        fail_msg("%.17g is not %.17g", got, want);
}

/* --- what must hold --- */

static void chance_alone_keeps_the_promise(void **state)
{
    (void)state;
    struct service service = {.instances = 6, .looks = 1000, .rps = 20, .latency = true};
    struct policy *policy = policy_of("15s", "1", LATENCY);
    struct evidence *evidence = history_of(&service, 11);
    struct calibration *calibration = run(policy, evidence, 120, 1, 2);
    assert_int_equal(calibration->instances, 6);
    assert_int_equal(calibration->canaries, 1);
    assert_int_equal(calibration->rollout_ms, 20 * 60000);
    assert_int_equal(calibration->looks[0].windows, 980 / 80);
    assert_int_equal(calibration->look_count, 4);
    assert_int_equal(calibration->policy.draws, 120);
    assert_true(calibration_policy_keeps(calibration));
    assert_true(calibration_upper(&calibration->policy) <= 0.05);
    assert_true(calibration->found && calibration->look == 0);
    assert_int_equal(calibration->metric_count, 2);
    assert_near(calibration->metrics[0].limit, 0.025, 1e-12);
    assert_near(calibration->metrics[0].margins[0], 1, 0);
    assert_near(calibration->metrics[0].margins[1], 1.1, 0);
    assert_near(calibration->metrics[1].margins[0], 0.05, 0);
    assert_near(calibration->metrics[1].margins[1], 0.1, 0);
    calibration_free(calibration);
    evidence_free(evidence);
    policy_free(policy);
}

/* The policy that was recommended, on a history of the same service that nobody has seen. */
static double rate_elsewhere(const struct service *service, const struct calibration *found, unsigned long seed)
{
    char look[32], ratio[32];
    snprintf(look, sizeof look, "%llds", (long long)found->looks[found->look].look_ms / 1000);
    snprintf(ratio, sizeof ratio, "%g", found->metrics[0].margins[found->margins[0]]);
    struct policy *policy = policy_of(look, ratio, "");
    struct evidence *evidence = history_of(service, seed);
    struct calibration *again = run(policy, evidence, 150, 77, 2);
    double share = calibration_share(&again->policy);
    calibration_free(again);
    evidence_free(evidence);
    policy_free(policy);
    return share;
}

static void noise_that_lasts_breaks_it_and_what_is_recommended_does_not(void **state)
{
    (void)state;
    struct service service = {.instances = 6, .looks = 4000, .rps = 50, .sd = 0.3, .phi = 0.95};
    struct policy *policy = policy_of("15s", "1", "");
    struct evidence *evidence = history_of(&service, 12);
    struct calibration *calibration = run(policy, evidence, 200, 1, 2);
    assert_false(calibration_policy_keeps(calibration));
    assert_true(calibration_share(&calibration->policy) > 0.15);
    assert_true(calibration->found);
    assert_true(calibration_upper(&calibration->joint) <= 0.05);
    /* It was chosen as little as could be: with the same look nothing narrower was enough, alone or together. */
    assert_true(calibration->margins[0] >= calibration->metrics[0].narrowest);
    for (size_t m = 0; m < calibration->metrics[0].narrowest; m++)
        assert_false(calibration_keeps(cell(calibration, 0, 0, m), 0.05));
    /* Longer looks and wider margins both help. */
    assert_true(cell(calibration, 0, 3, 0)->harm < cell(calibration, 0, 0, 0)->harm);
    assert_true(cell(calibration, 0, 0, 2)->harm < cell(calibration, 0, 0, 0)->harm);
    assert_true(rate_elsewhere(&service, calibration, 13) <= 0.05);
    calibration_free(calibration);
    evidence_free(evidence);
    policy_free(policy);
}

/* One bad hour in five: most of its draws are aborted, and that is one event, not hundreds. */
static void draws_of_one_window_are_one_event(void **state)
{
    (void)state;
    struct service service = {
        .instances = 6, .looks = 420, .rps = 50, .sd = 1, .phi = 0.99, .noisy_from = 180, .noisy_to = 260};
    struct policy *policy = policy_of("15s", "1", "");
    struct evidence *evidence = history_of(&service, 14);
    struct calibration *few = run(policy, evidence, 100, 1, 2), *many = run(policy, evidence, 500, 1, 2);
    assert_int_equal(many->looks[0].windows, 5);
    double share = calibration_share(&many->policy);
    assert_true(share > 0.05 && share < 0.8);
    double binomial = sqrt(share * (1 - share) / (double)many->policy.draws);
    assert_true(many->policy.error > 4 * binomial);
    assert_near(many->policy.error / few->policy.error, 1, 0.5);
    calibration_free(few);
    calibration_free(many);
    evidence_free(evidence);
    policy_free(policy);
}

/* Two instances, and a history of one rollout's length: each is the canary once, and that is all there is. */
static void a_short_history_is_used_whole(void **state)
{
    (void)state;
    struct service service = {.instances = 2, .looks = 60, .rps = 50};
    struct policy *policy = policy_of("15s", "1", "");
    struct evidence *evidence = history_of(&service, 15);
    struct calibration *calibration = run(policy, evidence, 1000, 1, 1);
    assert_int_equal(calibration->policy.draws, 2);
    assert_true(calibration->looks[0].all);
    assert_int_equal(calibration->looks[0].windows, 1);
    assert_int_equal(calibration->look_count, 1);
    assert_int_equal(calibration->rollout_ms, 40 * LOOK_MS);
    char *text = calibration_text(calibration);
    assert_non_null(strstr(text, "the history is enough for 10m"));
    assert_non_null(strstr(text, "1 rollout without an overlap"));
    assert_non_null(strstr(text, "looks of 30s are left out"));
    free(text);
    calibration_free(calibration);
    evidence_free(evidence);
    policy_free(policy);
}

static void what_cannot_be_divided_is_refused(void **state)
{
    (void)state;
    refused(&(struct service){.instances = 1, .looks = 200, .rps = 20}, 0, "tells 1 instances of stable apart");
    refused(&(struct service){.instances = 4, .looks = 200, .rps = 20, .unnamed = true}, 0,
            "tells 0 instances of stable apart");
    refused(&(struct service){.instances = 4, .looks = 200, .rps = 20, .replaced = 100}, 0, "were not replaced");
    refused(&(struct service){.instances = 4, .looks = 29, .rps = 20}, 0, "at least 30 are needed");
    refused(&(struct service){.instances = 4, .looks = 200, .rps = 20}, 3, "more than half");
    refused(&(struct service){.instances = 4}, 0, "no history");
}

static void the_same_seed_is_the_same_answer_on_any_number_of_threads(void **state)
{
    (void)state;
    struct service service = {.instances = 5, .looks = 300, .rps = 20, .sd = 0.3, .phi = 0.9, .latency = true};
    struct policy *policy = policy_of("15s", "1", LATENCY);
    struct evidence *evidence = history_of(&service, 16);
    struct calibration *first = run(policy, evidence, 40, 9, 1), *second = run(policy, evidence, 40, 9, 3);
    struct calibration *other = run(policy, evidence, 40, 10, 1);
    char *a = calibration_to_json(first), *b = calibration_to_json(second), *c = calibration_to_json(other);
    assert_string_equal(a, b);
    assert_string_not_equal(strstr(a, "\"looks\""), strstr(c, "\"looks\""));
    struct error err = {0};
    cJSON *root = json_parse_object(a, strlen(a), "the calibration", &err);
    assert_non_null(root);
    assert_string_equal(cJSON_GetObjectItem(root, "schema")->valuestring, "haldane.calibration/1");
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(root, "metrics")), 2);
    cJSON_Delete(root);
    free(a);
    free(b);
    free(c);
    calibration_free(first);
    calibration_free(second);
    calibration_free(other);
    evidence_free(evidence);
    policy_free(policy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chance_alone_keeps_the_promise),
        cmocka_unit_test(noise_that_lasts_breaks_it_and_what_is_recommended_does_not),
        cmocka_unit_test(draws_of_one_window_are_one_event),
        cmocka_unit_test(a_short_history_is_used_whole),
        cmocka_unit_test(what_cannot_be_divided_is_refused),
        cmocka_unit_test(the_same_seed_is_the_same_answer_on_any_number_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
