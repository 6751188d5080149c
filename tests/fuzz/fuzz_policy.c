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

static void check_asks(const struct policy *policy, const char *text, enum track track)
{
    char *expanded = policy_expand(policy, text, track);
    assert(strstr(expanded, policy->matchers[track]));
    free(expanded);
}

static void check_kayenta_metric(const struct policy_kayenta_metric *k)
{
    assert(k->outlier_factor > 0 && k->group_count > 0);
    for (size_t i = 0; i < k->group_count; i++)
        assert(*k->groups[i]);
    if (k->cles)
        assert(k->allowed_increase >= 0 && k->allowed_increase <= 1 && k->critical_decrease >= 0);
    else
        assert(k->allowed_increase >= 1 && k->critical_increase >= 1 && k->allowed_decrease > 0);
    assert(k->allowed_decrease <= 1 && k->critical_decrease <= 1);
}

static void check_gauge(const struct policy *policy, const struct policy_metric *metric)
{
    check_asks(policy, metric->query, TRACK_STABLE);
    check_asks(policy, metric->query, TRACK_CANARY);
    if (metric->method == GAUGE_KAYENTA)
        check_kayenta_metric(&metric->kayenta);
    else
        assert(metric->abort_ratio >= 1 && metric->abort_absolute >= 0 && !metric->kayenta.groups);
}

static void check_metric(const struct policy *policy, const struct policy_metric *metric)
{
    switch (metric->type) {
    case METRIC_ERRORS:
        check_asks(policy, metric->total, TRACK_CANARY);
        assert(metric->failed && metric->abort_ratio >= 1 && metric->promote_ratio >= metric->abort_ratio);
        assert(policy->exchangeable != EXCHANGEABLE_PODS || metric->abort_absolute == 0);
        break;
    case METRIC_LATENCY:
        assert(metric->histogram && metric->quantile_count > 0 && metric->promote_slower > metric->abort_slower);
        break;
    case METRIC_GAUGE:
        check_gauge(policy, metric);
        break;
    }
}

/* Each metric that bets has a share of the risk, all of it is given away, and something can let a step be left. */
static void check_metrics(const struct policy *policy)
{
    double budgets = 0;
    size_t betting = 0, proving = 0;
    assert(policy->metric_count > 0);
    for (size_t i = 0; i < policy->metric_count; i++) {
        const struct policy_metric *metric = &policy->metrics[i];
        bool scored = metric->type == METRIC_GAUGE && metric->method == GAUGE_KAYENTA;
        bool bets = metric->critical && !scored;
        assert(bets ? metric->budget > 0 : metric->budget == 0);
        budgets += metric->budget;
        betting += bets;
        proving += scored || (bets && metric->type != METRIC_GAUGE);
        check_metric(policy, metric);
    }
    assert(proving > 0);
    assert(betting == 0 || fabs(budgets - 1) < 1e-6);
}

static void check_kayenta(const struct policy_kayenta *k)
{
    double sum = 0;
    assert(k->marginal >= 0 && k->marginal <= k->pass && k->pass <= 100);
    for (size_t i = 0; i < k->group_count; i++) {
        assert(*k->groups[i].name && k->groups[i].weight >= 0);
        sum += k->groups[i].weight;
    }
    assert(sum < 100 + 1e-6);
}

static void check_guardrails(const struct policy *policy)
{
    const struct policy_crash *crash = &policy->crash;
    assert(crash->rate > 0 && crash->rate <= 1 && crash->requests > 0);
    for (size_t i = 0; i < policy->guardrail_count; i++) {
        const struct policy_guardrail *g = &policy->guardrails[i];
        assert(strcmp(g->name, "crash") != 0);
        for (size_t m = 0; m < policy->metric_count; m++)
            assert(strcmp(g->name, policy->metrics[m].name) != 0);
        assert(g->kind == GUARDRAIL_VALUE || (g->above > 0 && g->above < 1));
        if (g->kind == GUARDRAIL_RATE)
            check_asks(policy, g->failed, TRACK_CANARY);
        else
            assert(g->kind == GUARDRAIL_VALUE && *g->query && isfinite(g->above) && g->for_ms >= 0);
    }
}

static void check_policy(const struct policy *policy)
{
    assert(*policy->service && *policy->prometheus.url && policy->prometheus.timeout_ms > 0);
    assert(policy->look_ms >= 1000 && policy->settle_ms >= 0 && policy->warmup_ms >= 0 && policy->deadline_ms > 0);
    assert(policy->traffic.unattended_ms >= 2 * policy->look_ms + policy->settle_ms);
    assert(policy->false_abort > 0 && policy->false_abort < 1 && strlen(policy->sha256) == 64);
    check_steps(policy);
    check_metrics(policy);
    check_kayenta(&policy->kayenta);
    check_guardrails(policy);
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
