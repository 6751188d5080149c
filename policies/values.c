/* Numbers are checked letter by letter first: strtod also reads `inf`, `0x10` and leading blanks. */
#include "policies/values.h"

#include "base/duration.h"
#include "policies/policy.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { LONGEST_NUMBER = 32 };

static const int64_t longest_ms = INT64_C(365) * 24 * 3600 * 1000;

const char *value_duration(const char *text, int64_t *ms)
{
    int64_t parsed;
    if (*text && text[strspn(text, "0123456789")] == '\0' && strcmp(text, "0") != 0)
        return "which has no unit; write seconds as 15s, minutes as 2m";
    if (!duration_parse(text, &parsed))
        return "which is no duration; write it like 500ms, 15s, 2m or 1h30m";
    if (parsed > longest_ms)
        return "which is more than a year; write a shorter time";
    *ms = parsed;
    return NULL;
}

static const char *skip_digits(const char *p)
{
    while (isdigit((unsigned char)*p))
        p++;
    return p;
}

/* Whether the first `length` bytes are a decimal number. */
static bool is_number(const char *text, size_t length, bool exponent_allowed)
{
    const char *p = text, *end = text + length;
    if (length == 0 || length > LONGEST_NUMBER)
        return false;
    if (*p == '-' || *p == '+')
        p++;
    const char *digits = p;
    p = skip_digits(p);
    size_t count = (size_t)(p - digits);
    if (*p == '.') {
        const char *places = ++p;
        p = skip_digits(p);
        count += (size_t)(p - places);
    }
    if (count > 0 && exponent_allowed && (*p == 'e' || *p == 'E')) {
        p++;
        if (*p == '-' || *p == '+')
            p++;
        const char *power = p;
        p = skip_digits(p);
        if (p == power)
            return false;
    }
    return count > 0 && p == end;
}

const char *value_number(const char *text, double *value)
{
    if (!is_number(text, strlen(text), true))
        return "which is no number; write it like 1.5";
    double parsed = strtod(text, NULL);
    if (!isfinite(parsed))
        return "which is too large a number";
    *value = parsed;
    return NULL;
}

const char *value_fraction(const char *text, bool whole, double *value)
{
    static const char *const mend = "which is no percentage; write it like 5% or 0.1%";
    size_t length = strlen(text);
    if (length > 0 && text[length - 1] == '%') {
        if (!is_number(text, length - 1, false))
            return mend;
        /* 0.1e-2 is rounded once, 0.1 / 100 twice: the policy must mean the nearest number there is. */
        char scaled[LONGEST_NUMBER + sizeof "e-2"];
        snprintf(scaled, sizeof scaled, "%.*se-2", (int)(length - 1), text);
        *value = strtod(scaled, NULL);
        return NULL;
    }
    if (!is_number(text, length, true))
        return mend;
    double parsed = strtod(text, NULL);
    if (whole ? parsed > 1 : parsed >= 1)
        return "which leaves open whether percent are meant; write it with the sign, like 5%";
    *value = parsed;
    return NULL;
}

/* A percentage of whole basis points, of any size. */
static const char *read_percent(const char *text, double *percent)
{
    size_t length = strlen(text);
    if (length == 0 || text[length - 1] != '%' || !is_number(text, length - 1, false))
        return "which is no percentage; write a weight like 5% or 12.5%";
    const char *dot = strchr(text, '.');
    size_t places = dot ? (size_t)(text + length - 1 - dot) - 1 : 0;
    while (places > 2 && dot[places] == '0')
        places--;
    if (places > 2)
        return "which is too fine; weights are whole steps of 0.01%";
    *percent = strtod(text, NULL);
    return NULL;
}

/* At most two places and at most 100: the product is within 1e-9 of the whole number that is meant. */
static uint32_t points_of(double percent)
{
    return (uint32_t)lround(percent * 100);
}

const char *value_weight(const char *text, uint32_t *basis_points)
{
    double percent = 0;
    const char *wrong = read_percent(text, &percent);
    if (wrong)
        return wrong;
    if (!(percent > 0 && percent <= 100))
        return "which is no share of traffic; write more than 0% and at most 100%";
    *basis_points = points_of(percent);
    return NULL;
}

const char *value_share(const char *text, uint32_t *basis_points)
{
    double percent = 0;
    const char *wrong = read_percent(text, &percent);
    if (wrong)
        return wrong;
    if (!(percent >= 0 && percent <= 100))
        return "which is no share of traffic; write at least 0% and at most 100%";
    *basis_points = points_of(percent);
    return NULL;
}

const char *value_bool(const char *text, bool *value)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = {{"true", true}, {"yes", true}, {"on", true}, {"false", false}, {"no", false}, {"off", false}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(text, words[i].word) == 0) {
            *value = words[i].value;
            return NULL;
        }
    }
    return "which is neither true nor false; write one of the two";
}
