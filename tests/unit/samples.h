/* What the tests of two samples share: reading reference vectors (see test_stats_vectors.c) and making numbers. */
#ifndef HALDANE_TESTS_SAMPLES_H
#define HALDANE_TESTS_SAMPLES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cJSON *vectors;

static inline int load_vectors(void **state)
{
    (void)state;
    const char *folder = getenv("HALDANE_VECTORS");
    if (folder == NULL) {
        fprintf(stderr, "HALDANE_VECTORS is not set: it must name the folder that holds statistics.json\n");
        return -1;
    }
    char path[4096];
    snprintf(path, sizeof path, "%s/statistics.json", folder);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fprintf(stderr, "%s: cannot be opened\n", path);
        return -1;
    }
    enum { ROOM = 1 << 20 };
    char *text = malloc(ROOM);
    size_t size = text == NULL ? 0 : fread(text, 1, ROOM, file);
    fclose(file);
    vectors = size == 0 || size == ROOM ? NULL : cJSON_ParseWithLength(text, size);
    free(text);
    if (vectors == NULL)
        fprintf(stderr, "%s: cannot be read as JSON\n", path);
    return vectors == NULL ? -1 : 0;
}

static inline int unload_vectors(void **state)
{
    (void)state;
    cJSON_Delete(vectors);
    return 0;
}

/* A group must be there and must not be empty, or its test would pass without having looked at anything. */
static inline const cJSON *group(const char *name)
{
    const cJSON *found = cJSON_GetObjectItem(cJSON_GetObjectItem(vectors, "groups"), name);
    if (!cJSON_IsArray(found) || cJSON_GetArraySize(found) == 0)
        fail_msg("the vectors have no cases in group %s", name);
    return found;
}

static inline double number_of(const cJSON *item)
{
    if (cJSON_IsNumber(item))
        return item->valuedouble;
    if (!cJSON_IsString(item))
        fail_msg("a case has something else where a number is due");
    char *end;
    double value = strtod(item->valuestring, &end);
    if (end == item->valuestring || *end != '\0')
        fail_msg("a case has \"%s\" where a number is due", item->valuestring);
    return value;
}

static inline double number(const cJSON *object, const char *name)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(object, name);
    if (found == NULL)
        fail_msg("a case has no field %s", name);
    return number_of(found);
}

static inline const char *word(const cJSON *object, const char *name)
{
    const char *found = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    if (found == NULL)
        fail_msg("a case has no word %s", name);
    return found;
}

enum { SAMPLE = 256 };

static inline size_t read_sample(const cJSON *object, const char *name, double out[SAMPLE])
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, name), *item;
    size_t n = 0;
    cJSON_ArrayForEach(item, list)
    {
        assert_true(n < SAMPLE);
        out[n++] = number_of(item);
    }
    assert_true(n > 0);
    return n;
}

static inline void assert_near(double got, double want, double tolerance)
{
    if (isnan(want) ? !isnan(got) : !(got == want || fabs(got - want) <= tolerance))
        fail_msg("got %.17g, expected %.17g within %g", got, want, tolerance);
}

static inline void assert_same(double got, double want)
{
    assert_near(got, want, 0);
}

/* splitmix64: a test needs numbers without pattern, the same in each run. */
static inline double uniform(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return ((double)((z ^ (z >> 31)) >> 11) + 0.5) * 0x1p-53;
}

static inline void shuffle(double values[], size_t n, uint64_t *state)
{
    for (size_t i = n; i > 1; i--) {
        size_t k = (size_t)(uniform(state) * (double)i);
        double held = values[i - 1];
        values[i - 1] = values[k];
        values[k] = held;
    }
}

#endif
