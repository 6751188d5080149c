/* Any bytes, as an answer of any status to any question: an answer that keeps its promises, or an error. */
#include "promclient/answer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct prom_answer *answer, const struct prom_expect *expect)
{
    for (size_t i = 0; i < answer->series_count; i++) {
        const struct prom_series *series = &answer->series[i];
        if (series->sample_count == 0 || (answer->type != PROM_MATRIX && series->sample_count != 1))
            abort();
        for (size_t s = 0; s < series->sample_count; s++)
            if ((expect->counts && !prom_is_count(series->samples[s].value)) ||
                (s > 0 && series->samples[s].at_ms <= series->samples[s - 1].at_ms))
                abort();
        char *text = prom_series_text(series);
        if (strpbrk(text, "\n\r"))
            abort();
        free(text);
    }
    if ((expect->types && !(expect->types & (unsigned)answer->type)) || (expect->one && answer->series_count > 1))
        abort();
}

/* The first byte chooses status and expectation; the rest is the body. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const long statuses[] = {200, 200, 200, 400, 401, 404, 503, 302};
    static const struct prom_source source = {"up", "http://prometheus:9090"};
    static const struct prom_limits limits = {.bytes = 1 << 20, .series = 100, .samples = 1000};
    if (size == 0)
        return 0;
    const struct prom_expect expect = {
        .types = data[0] & 8 ? PROM_MATRIX : 0, .counts = (data[0] & 16) != 0, .one = (data[0] & 32) != 0};
    struct error err = {0};
    struct prom_answer *answer =
        prom_answer_parse(&source, &expect, &limits, statuses[data[0] & 7], (const char *)data + 1, size - 1, &err);
    if (answer)
        check(answer, &expect);
    if ((answer != NULL) != (err.code == ERROR_NONE) || (!answer && (!err.text[0] || strpbrk(err.text, "\n\r"))))
        abort();
    prom_answer_free(answer);
    return 0;
}
