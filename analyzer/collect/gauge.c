/*
 * A gauge's look is a snapshot: all its values are of one instant, the newest in the look. In a look that was stretched
 * until a stopped instance was taken for gone, that instance and the one in its place then do not stand side by side.
 */
#include "analyzer/collect/private.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

static int by_labels(const void *a, const void *b)
{
    return prom_series_compare(*(const struct prom_series *const *)a, *(const struct prom_series *const *)b);
}

void gauge_open(struct gauge *gauge, const struct prom_answer *answer)
{
    gauge->count = answer->series_count;
    gauge->series = mem_alloc(gauge->count, sizeof *gauge->series);
    gauge->values = mem_alloc(gauge->count, sizeof *gauge->values);
    for (size_t s = 0; s < gauge->count; s++)
        gauge->series[s] = &answer->series[s];
    /* A server may answer in any order, and the place in the list is all that tells a gauge's instances apart. */
    if (gauge->count)
        qsort(gauge->series, gauge->count, sizeof *gauge->series, by_labels);
}

void gauge_close(struct gauge *gauge)
{
    free(gauge->series);
    free(gauge->values);
    *gauge = (struct gauge){0};
}

/* The last sample at or before a time, or NULL. */
static const struct prom_sample *sample_until(const struct prom_series *series, int64_t at_ms)
{
    size_t low = 0, high = series->sample_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (series->samples[middle].at_ms <= at_ms)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? &series->samples[low - 1] : NULL;
}

size_t gauge_read(struct gauge *gauge, int64_t from_ms, int64_t at_ms)
{
    int64_t instant_ms = from_ms;
    size_t count = 0;
    for (size_t s = 0; s < gauge->count; s++) {
        const struct prom_sample *sample = sample_until(gauge->series[s], at_ms);
        if (!sample || sample->at_ms <= from_ms || sample->at_ms < instant_ms)
            continue;
        if (sample->at_ms > instant_ms)
            count = 0;
        instant_ms = sample->at_ms;
        gauge->values[count++] = isfinite(sample->value) ? sample->value : NAN;
    }
    return count;
}

bool gauge_check_count(const struct question *question, size_t count, struct error *err)
{
    if (!question->subject->guardrail || count <= 1)
        return true;
    return error_set(err, ERROR_DATA,
                     "guardrail %s: `%s` gives %zu series where one number is meant; aggregate them, as max(...)",
                     question->subject->name, question->query, count);
}
