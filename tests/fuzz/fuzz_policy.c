/*
 * Any bytes as a policy: never a crash, always either a policy that keeps its promises or problems with places. The
 * seeds in corpus/fuzz_policy are policies that load and near misses.
 */
#include "policies/load.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_steps(const struct policy *policy)
{
    uint32_t weight = 0;
    assert(policy->step_count > 0 && policy->steps[0].weight_bp <= BASIS_POINTS / 2);
    for (size_t i = 0; i < policy->step_count; i++) {
        const struct policy_step *step = &policy->steps[i];
        assert(step->weight_bp > weight && step->weight_bp <= BASIS_POINTS);
        assert(step->min_ms >= 0 && step->max_ms >= step->min_ms && step->bake_ms >= 0);
        weight = step->weight_bp;
    }
}

static void check_metrics(const struct policy *policy)
{
    double budgets = 0;
    assert(policy->metric_count > 0);
    for (size_t i = 0; i < policy->metric_count; i++) {
        const struct policy_metric *metric = &policy->metrics[i];
        assert(metric->critical ? metric->budget > 0 : metric->budget == 0);
        budgets += metric->budget;
        if (metric->type == METRIC_ERRORS) {
            char *selector = policy_expand(policy, metric->total, TRACK_CANARY);
            assert(strstr(selector, policy->matchers[TRACK_CANARY]));
            free(selector);
            assert(metric->failed && metric->abort_ratio >= 1 && metric->promote_ratio >= metric->abort_ratio);
        } else {
            assert(metric->histogram && metric->quantile_count > 0 && metric->promote_slower > metric->abort_slower);
        }
    }
    assert(fabs(budgets - 1) < 1e-6);
}

static void check_policy(const struct policy *policy)
{
    assert(*policy->service && *policy->prometheus.url && policy->prometheus.timeout_ms > 0);
    assert(policy->look_ms >= 1000 && policy->settle_ms >= 0 && policy->warmup_ms >= 0 && policy->deadline_ms > 0);
    assert(policy->traffic.unattended_ms >= 2 * policy->look_ms + policy->settle_ms);
    assert(policy->false_abort > 0 && policy->false_abort < 1 && strlen(policy->sha256) == 64);
    check_steps(policy);
    check_metrics(policy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char *const environment[] = {"A=5%", "B=1", "PROMETHEUS_URL=http://h", "HAPROXY_SOCKET=h:1", "E=", NULL};
    struct policy_problems problems;
    struct error err = {0};
    struct policy *policy = policy_load_text((const char *)data, size, "fuzz", NULL, 0, environment, &problems, &err);
    if (policy) {
        assert(problems.count == 0);
        check_policy(policy);
    } else {
        assert(err.code == ERROR_DATA && problems.count > 0);
        for (size_t i = 0; i < problems.count; i++)
            assert(problems.items[i].line > 0 && problems.items[i].column > 0 && *problems.items[i].text);
    }
    policy_problems_free(&problems);
    policy_free(policy);
    return 0;
}
