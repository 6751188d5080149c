/*
 * Any bytes as a verdict: refused with a sentence, or read, and then what is written comes back as the same bytes, and
 * all four reports can be made of it. The seeds in corpus/fuzz_verdict are verdicts of all kinds and near misses.
 */
#include "analyzer/report/report.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the reader promises to everything above it. */
static void check_promises(const struct verdict *verdict)
{
    for (size_t m = 0; m < verdict->metric_count; m++) {
        const struct metric_verdict *metric = &verdict->metrics[m];
        assert(metric->name && (metric->type != METRIC_GAUGE || metric->edge_count == 0));
        assert(metric->classification || isnan(metric->deviation));
    }
    for (size_t g = 0; g < verdict->guardrail_count; g++) {
        const struct guardrail_verdict *guardrail = &verdict->guardrails[g];
        assert(guardrail->name && isfinite(guardrail->limit) && !isinf(guardrail->value));
        assert(guardrail->kind <= GUARDRAIL_CRASH && guardrail->status <= GUARDRAIL_NO_DATA);
    }
    bool scored = !isnan(verdict->kayenta_score);
    assert(scored == !isnan(verdict->kayenta_pass) && scored == !isnan(verdict->kayenta_marginal));
}

static void check_reports(const struct verdict *verdict)
{
    const struct verdict *const verdicts[] = {verdict, verdict};
    struct report report = {.verdicts = verdicts, .verdict_count = 2};
    char *(*const forms[])(const struct report *) = {report_text, report_markdown, report_html, report_json};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        char *text = forms[i](&report);
        assert(text && *text);
        free(text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct verdict *verdict = verdict_from_json((const char *)data, size, &err);
    if (!verdict) {
        assert(err.code == ERROR_DATA && *err.text);
        return 0;
    }
    check_promises(verdict);
    char *first = verdict_to_json(verdict);
    struct verdict *again = verdict_from_json(first, strlen(first), &err);
    assert(again);
    char *second = verdict_to_json(again);
    assert(strcmp(first, second) == 0);
    check_reports(verdict);
    check_reports(again);
    free(first);
    free(second);
    verdict_free(verdict);
    verdict_free(again);
    return 0;
}
