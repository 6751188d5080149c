/*
 * Any bytes as evidence: refused with a sentence, or read, and then what is written comes back as the same bytes and is
 * judged alike. Names that the policy knows ("errors", "latency", "seen") are bet on. The seeds in corpus/fuzz_evidence
 * are rollouts and near misses.
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
static struct policy_metric metrics[] = {
    {.name = (char *)"errors",
     .type = METRIC_ERRORS,
     .critical = true,
     .budget = 0.5,
     .abort_ratio = 1.1,
     .abort_absolute = 0.001,
     .promote_ratio = 1.5,
     .promote_absolute = 0.01},
    {.name = (char *)"latency",
     .type = METRIC_LATENCY,
     .critical = true,
     .budget = 0.5,
     .on_no_data = NO_DATA_ABORT,
     .quantiles = {0.5, 0.99},
     .quantile_count = 2,
     .abort_slower = 0.05,
     .promote_slower = 0.25},
    {.name = (char *)"seen", .type = METRIC_ERRORS, .on_no_data = NO_DATA_IGNORE, .abort_ratio = 1, .promote_ratio = 2},
};
static const struct policy policy = {.service = (char *)"shop",
                                     .look_ms = 15000,
                                     .traffic = {.unattended_ms = 2 * MINUTE_MS},
                                     .steps = steps,
                                     .step_count = 4,
                                     .false_abort = 0.05,
                                     .false_promote = 0.05,
                                     .deadline_ms = 60 * MINUTE_MS,
                                     .metrics = metrics,
                                     .metric_count = 3};

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
        verdict_free(verdict);
    }
    struct verdict *verdict = judge_verdict(judge, "shop-1", EFFECTS_LIVE);
    char *text = verdict_to_json(verdict);
    verdict_free(verdict);
    look_free(&look);
    judge_free(judge);
    return text;
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
