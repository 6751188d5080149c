/* cJSON is lenient by design; these getters are where haldane is not. */
#include "analyzer/model/json.h"

#include "base/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t whole_limit = UINT64_C(1) << 53; /* from here on a double does not tell neighbours apart */

cJSON *json_parse_object(const char *text, size_t length, const char *what, struct error *err)
{
    const char *end = NULL;
    cJSON *tree = cJSON_ParseWithLengthOpts(text, length, &end, false);
    if (!tree) {
        size_t at = end && end >= text && end <= text + length ? (size_t)(end - text) : 0;
        error_set(err, ERROR_DATA, "%s is not JSON: reading stopped at byte %zu of %zu; is the file whole?", what, at,
                  length);
        return NULL;
    }
    for (; end < text + length; end++) {
        if (*end != ' ' && *end != '\n' && *end != '\r' && *end != '\t') {
            cJSON_Delete(tree);
            error_set(err, ERROR_DATA, "%s goes on after its end at byte %zu; give one document", what,
                      (size_t)(end - text));
            return NULL;
        }
    }
    if (!cJSON_IsObject(tree)) {
        cJSON_Delete(tree);
        error_set(err, ERROR_DATA, "%s is not a JSON object", what);
        return NULL;
    }
    return tree;
}

char *json_print(cJSON *tree)
{
    char *text = cJSON_PrintUnformatted(tree);
    cJSON_Delete(tree);
    char *copy = mem_strdup(text ? text : "");
    cJSON_free(text);
    return copy;
}

cJSON *json_new_number(double value)
{
    if (!isfinite(value))
        return cJSON_CreateNull();
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    return cJSON_CreateRaw(text);
}

void json_add_number(cJSON *object, const char *name, double value)
{
    cJSON_AddItemToObject(object, name, json_new_number(value));
}

void json_add_seed(cJSON *object, uint64_t seed)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)seed);
    cJSON_AddStringToObject(object, "seed", text);
}

void json_add_whole(cJSON *object, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    if (value < whole_limit)
        cJSON_AddRawToObject(object, name, text);
    else
        cJSON_AddStringToObject(object, name, text);
}

static const cJSON *member(const cJSON *object, const char *name, const char *where, const char *type,
                           cJSON_bool (*is)(const cJSON *), struct error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!item) {
        error_set(err, ERROR_DATA, "%s: \"%s\" is missing; it must be %s", where, name, type);
        return NULL;
    }
    if (!is(item)) {
        error_set(err, ERROR_DATA, "%s.%s: must be %s", where, name, type);
        return NULL;
    }
    return item;
}

const cJSON *json_object(const cJSON *object, const char *name, const char *where, struct error *err)
{
    return member(object, name, where, "an object", cJSON_IsObject, err);
}

const cJSON *json_array(const cJSON *object, const char *name, const char *where, struct error *err)
{
    return member(object, name, where, "a list", cJSON_IsArray, err);
}

const char *json_string(const cJSON *object, const char *name, const char *where, struct error *err)
{
    const cJSON *item = member(object, name, where, "a string", cJSON_IsString, err);
    return item ? item->valuestring : NULL;
}

bool json_number(const cJSON *object, const char *name, const char *where, double *value, struct error *err)
{
    const cJSON *item = member(object, name, where, "a number", cJSON_IsNumber, err);
    if (!item)
        return false;
    if (!isfinite(item->valuedouble))
        return error_set(err, ERROR_DATA, "%s.%s: the number is too large", where, name);
    *value = item->valuedouble;
    return true;
}

bool json_count_item(const cJSON *item, const char *where, uint64_t *value, struct error *err)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble < (double)whole_limit) ||
        item->valuedouble != floor(item->valuedouble))
        return error_set(err, ERROR_DATA, "%s: must be a count, a whole number from 0 to 2^53 - 1", where);
    *value = (uint64_t)item->valuedouble;
    return true;
}

bool json_count(const cJSON *object, const char *name, const char *where, uint64_t *value, struct error *err)
{
    const cJSON *item = member(object, name, where, "a count", cJSON_IsNumber, err);
    if (!item)
        return false;
    char path[400];
    snprintf(path, sizeof path, "%s.%s", where, name);
    return json_count_item(item, path, value, err);
}

static bool read_digits(const char *text, uint64_t *value)
{
    if (!*text || strspn(text, "0123456789") != strlen(text))
        return false;
    errno = 0;
    *value = strtoull(text, NULL, 10);
    return errno == 0;
}

bool json_whole(const cJSON *object, const char *name, const char *where, uint64_t *value, struct error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!cJSON_IsString(item))
        return json_count(object, name, where, value, err);
    return read_digits(item->valuestring, value) ||
           error_set(err, ERROR_DATA, "%s.%s: must be a whole number of 64 bits", where, name);
}

double json_number_or(const cJSON *object, const char *name, double absent)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) && isfinite(item->valuedouble) ? item->valuedouble : absent;
}
