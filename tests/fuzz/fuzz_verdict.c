/*
 * Any bytes as a verdict: refused with a sentence, or read, and then what is written comes back as the same bytes, and
 * all four reports can be made of it. The seeds in corpus/fuzz_verdict are verdicts of all kinds and near misses.
 */
#include "analyzer/report/report.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
