/*
 * Any samples, as counters of some targets: an error, or increments that add up and do not depend on the order in which
 * the matrices were added.
 */
#include "base/memory.h"
#include "promclient/increments.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SERIES = 8, SAMPLES = 16, ROLES = 3 };

/* Plain data on the stack of one run; the set copies. */
struct input {
    struct prom_answer answers[ROLES];
    struct prom_series series[ROLES][SERIES];
    struct prom_label labels[ROLES][SERIES][3];
    struct prom_sample samples[ROLES][SERIES][SAMPLES];
};

static void add_sample(struct prom_series *series, uint8_t gap, uint8_t value)
{
    if (series->sample_count == SAMPLES)
        return;
    int64_t before = series->sample_count ? series->samples[series->sample_count - 1].at_ms : 0;
    series->samples[series->sample_count++] = (struct prom_sample){before + 1 + gap % 4, value};
}

/* Three bytes a sample: which series, how long after the one before, its value. Other labels say it in another order.
 */
static void read_input(struct input *in, const uint8_t *data, size_t size)
{
    static char *const instances[] = {(char *)"a", (char *)"b"}, *const codes[] = {(char *)"1", (char *)"2"},
                       *const edges[] = {(char *)"0.5", (char *)"+Inf"};
    for (size_t r = 0; r < ROLES; r++) {
        in->answers[r] = (struct prom_answer){.type = PROM_MATRIX, .series = in->series[r], .series_count = SERIES};
        for (size_t s = 0; s < SERIES; s++) {
            in->labels[r][s][0] = (struct prom_label){(char *)"code", codes[s / 2 % 2]};
            in->labels[r][s][1] = (struct prom_label){(char *)"instance", instances[s / 4]};
            in->labels[r][s][2] = r == COUNTER_BUCKET ? (struct prom_label){(char *)"le", edges[s % 2]}
                                                      : (struct prom_label){(char *)"path", edges[s % 2]};
            in->series[r][s] = (struct prom_series){in->labels[r][s], 3, in->samples[r][s], 0};
        }
    }
    for (size_t i = 0; i + 2 < size; i += 3)
        add_sample(&in->series[data[i] % ROLES][data[i] / ROLES % SERIES], data[i + 1], data[i + 2]);
}

static struct counter_set *build(const struct input *in, int64_t since, bool backwards)
{
    static const char *const metrics[ROLES] = {"errors", "errors", "latency"};
    struct counter_set *set = counter_set_new(since);
    for (size_t i = 0; i < ROLES; i++) {
        size_t r = backwards ? ROLES - 1 - i : i;
        if (!counter_set_add(set, metrics[r], (enum counter_role)r, &in->answers[r], NULL))
            abort();
    }
    return set;
}

static uint64_t sum(struct counter_set *set, const char *metric, int64_t from, int64_t at, bool *ok)
{
    struct counter_interval out;
    struct error err = {0};
    *ok = counter_set_interval(set, metric, from, at, &out, &err);
    if (!*ok) {
        if (err.code == ERROR_NONE)
            abort();
        return 0;
    }
    uint64_t total = 0;
    for (size_t t = 0; t < out.count; t++) {
        uint64_t buckets = 0;
        for (size_t e = 0; out.targets[t].buckets && e < out.edge_count; e++)
            buckets += out.targets[t].buckets[e];
        if (out.targets[t].failed > out.targets[t].requests || (out.edge_count && buckets != out.targets[t].requests))
            abort();
        total += out.targets[t].requests;
    }
    counter_interval_free(&out);
    return total;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const metrics[] = {"errors", "latency"};
    if (size < 3)
        return 0;
    struct input *in = mem_alloc(1, sizeof *in);
    read_input(in, data + 3, size - 3);
    int64_t since = data[0] % 8 - 1, middle = data[1] % 64, end = middle + 1 + data[2] % 64;
    struct counter_set *set = build(in, since, false), *other = build(in, since, true);
    for (size_t m = 0; m < 2; m++) {
        bool ok[4];
        uint64_t first = sum(set, metrics[m], -1, middle, &ok[0]), second = sum(set, metrics[m], middle, end, &ok[1]);
        uint64_t whole = sum(set, metrics[m], -1, end, &ok[2]), again = sum(other, metrics[m], -1, end, &ok[3]);
        if ((ok[0] && ok[1] && (!ok[2] || first + second != whole)) || ok[2] != ok[3] || whole != again)
            abort();
    }
    counter_set_free(set);
    counter_set_free(other);
    free(in);
    return 0;
}
