/*
 * Any bytes as evidence: refused with a sentence, or read, and then what is written comes back as the same bytes and is
 * judged alike. Names that the policy knows ("errors", "latency", "memory", "budget" and so on) are bet on. The seeds
 * in corpus/fuzz_evidence are rollouts and near misses.
 */
#include "analyzer/judge/judge.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MINUTE_MS = 60000, MOST_LOOKS = 64 };

static struct policy_step steps[] = {{500, 0, 5 * MINUTE_MS, 0, false},
                                     {2500, MINUTE_MS, 5 * MINUTE_MS, 0, false},
                                     {5000, MINUTE_MS, 5 * MINUTE_MS, 0, true},
                                     {10000, 0, 0, MINUTE_MS, false}};
static char *groups[] = {(char *)"saturation"};
static struct policy_kayenta_group weights[] = {{(char *)"saturation", 100}};
static struct policy_metric metrics[] = {
    {.name = (char *)"errors",
     .type = METRIC_ERRORS,
     .critical = true,
     .budget = 0.4,
     .abort_ratio = 1.1,
     .promote_ratio = 1.5,
     .promote_absolute = 0.01},
    {.name = (char *)"latency",
     .type = METRIC_LATENCY,
     .critical = true,
     .budget = 0.4,
     .on_no_data = NO_DATA_ABORT,
     .quantiles = {0.5, 0.99},
     .quantile_count = 2,
     .abort_slower = 0.05,
     .promote_slower = 0.25},
    {.name = (char *)"seen", .type = METRIC_ERRORS, .on_no_data = NO_DATA_IGNORE, .abort_ratio = 1, .promote_ratio = 2},
    {.name = (char *)"memory",
     .type = METRIC_GAUGE,
     .critical = true,
     .budget = 0.1,
     .abort_ratio = 1.25,
     .abort_absolute = 1},
    {.name = (char *)"load",
     .type = METRIC_GAUGE,
     .critical = true,
     .budget = 0.1,
     .abort_ratio = 1,
     .direction = DIRECTION_EITHER,
     .method = GAUGE_MANN_WHITNEY},
    {.name = (char *)"free",
     .type = METRIC_GAUGE,
     .direction = DIRECTION_DECREASE,
     .method = GAUGE_KAYENTA,
     .kayenta = {.outlier_factor = 3,
                 .allowed_increase = 1,
                 .allowed_decrease = 1,
                 .critical_increase = 1,
                 .critical_decrease = 1,
                 .groups = groups,
                 .group_count = 1}},
    {.name = (char *)"threads",
     .type = METRIC_GAUGE,
     .critical = true,
     .direction = DIRECTION_EITHER,
     .method = GAUGE_KAYENTA,
     .on_no_data = NO_DATA_IGNORE,
     .kayenta = {.nan_replace = true,
                 .remove_outliers = true,
                 .outlier_factor = 3,
                 .cles = true,
                 .allowed_increase = 0.5,
                 .allowed_decrease = 0.5,
                 .critical_increase = 0.5,
                 .critical_decrease = 0.5,
                 .groups = groups,
                 .group_count = 1}},
};
static struct policy_guardrail guardrails[] = {
    {.name = (char *)"budget", .kind = GUARDRAIL_RATE, .above = 0.05},
    {.name = (char *)"queue", .kind = GUARDRAIL_VALUE, .above = 1000, .for_ms = MINUTE_MS},
};
static struct policy policy = {.service = (char *)"shop",
                               .look_ms = 15000,
                               .traffic = {.unattended_ms = 2 * MINUTE_MS},
                               .steps = steps,
                               .step_count = 4,
                               .false_abort = 0.05,
                               .false_promote = 0.05,
                               .deadline_ms = 60 * MINUTE_MS,
                               .metrics = metrics,
                               .metric_count = sizeof metrics / sizeof *metrics,
                               .crash = {0.1, 3, 20},
                               .guardrails = guardrails,
                               .guardrail_count = 2,
                               .kayenta = {weights, 1, 75, 50}};

static void check_verdict(const struct verdict *verdict)
{
    assert(verdict->reason && *verdict->reason);
    assert(verdict->score >= 0 && verdict->score <= 100);
    assert(verdict->false_abort_spent >= 0 && verdict->false_abort_spent <= verdict->false_abort_limit);
    for (size_t m = 0; m < verdict->metric_count; m++) {
        const struct evidence_values *values = &verdict->metrics[m].evidence;
        assert(!isnan(values->harm) && !isnan(values->hold) && !isnan(values->safe));
        assert(verdict->metrics[m].reason && *verdict->metrics[m].reason);
    }
    for (size_t g = 0; g < verdict->guardrail_count; g++)
        assert(verdict->guardrails[g].reason && *verdict->guardrails[g].reason);
}

static char *fold(const struct evidence *evidence)
{
    struct judge *judge = judge_new(&policy);
    struct look look = {0};
    int64_t after_ms = INT64_MIN;
    bool aborted = false;
    for (int i = 0; i < MOST_LOOKS && evidence_next_look(evidence, &after_ms, &look); i++) {
        judge_observe(judge, evidence, &look);
        struct verdict *verdict = judge_verdict(judge, NULL, EFFECTS_LIVE);
        check_verdict(verdict);
        assert(!aborted || verdict_is_harm(verdict));
        aborted = verdict_is_harm(verdict);
        assert(judge_standing(judge).decision == verdict->decision);
        verdict_free(verdict);
    }
    struct verdict *verdict = judge_verdict(judge, "shop-1", EFFECTS_LIVE);
    char *text = verdict_to_json(verdict);
    verdict_free(verdict);
    look_free(&look);
    judge_free(judge);
    return text;
}

/* Each assumption of `exchangeable` in its turn; an absolute margin is not for pods. */
static void choose_policy(size_t size)
{
    policy.exchangeable = (enum exchangeable)(size % 3);
    metrics[0].abort_absolute = policy.exchangeable == EXCHANGEABLE_PODS ? 0 : 0.001;
}

static void check_coarse(const struct evidence *evidence)
{
    struct error err = {0};
    struct evidence *coarse = evidence_coarsen(evidence, 2 * evidence->interval_ms, &err);
    assert(coarse);
    free(evidence_to_json(coarse));
    evidence_free(coarse);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct evidence *evidence = evidence_from_json((const char *)data, size, &err);
    if (!evidence) {
        assert(err.code == ERROR_DATA && *err.text);
        return 0;
    }
    char *first = evidence_to_json(evidence);
    struct evidence *again = evidence_from_json(first, strlen(first), &err);
    choose_policy(size);
    assert(again);
    char *second = evidence_to_json(again), *live = fold(evidence), *replayed = fold(again);
    assert(strcmp(first, second) == 0);
    assert(strcmp(live, replayed) == 0);
    check_coarse(evidence);
    free(first);
    free(second);
    free(live);
    free(replayed);
    evidence_free(evidence);
    evidence_free(again);
    return 0;
}
