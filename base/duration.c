/* Hand-written because no library here reads Prometheus's durations; dates go through timegm. */
#include "base/duration.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
    const char *name;
    int64_t ms;
} units[] = {
    {"y", 365 * INT64_C(86400000)}, {"w", 7 * INT64_C(86400000)}, {"d", INT64_C(86400000)}, {"h", INT64_C(3600000)},
    {"m", INT64_C(60000)},          {"s", INT64_C(1000)},         {"ms", INT64_C(1)},
};
enum { UNITS = sizeof units / sizeof units[0] };

bool duration_parse(const char *text, int64_t *ms)
{
    if (strcmp(text, "0") == 0) {
        *ms = 0;
        return true;
    }
    int64_t total = 0;
    size_t next = 0;
    const char *p = text;
    while (*p) {
        if (!isdigit((unsigned char)*p))
            return false;
        int64_t n = 0;
        for (; isdigit((unsigned char)*p); p++)
            if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *p - '0', &n))
                return false;
        size_t length = strspn(p, "abcdefghijklmnopqrstuvwxyz");
        size_t u = next;
        while (u < UNITS && (strlen(units[u].name) != length || strncmp(units[u].name, p, length) != 0))
            u++;
        if (u == UNITS || __builtin_mul_overflow(n, units[u].ms, &n) || __builtin_add_overflow(total, n, &total))
            return false;
        next = u + 1;
        p += length;
    }
    if (p == text || total > INT64_MAX / 1000000)
        return false;
    *ms = total;
    return true;
}

const char *duration_format(int64_t ms, char text[DURATION_TEXT])
{
    if (ms == 0)
        return strcpy(text, "0s");
    size_t used = 0;
    for (size_t u = 0; u < UNITS; u++) {
        /* A year or a week only when nothing is left over: 10 days read better as 10d than as 1w3d. */
        if (u < 2 && ms % units[u].ms != 0)
            continue;
        int64_t n = ms / units[u].ms;
        if (n == 0)
            continue;
        ms -= n * units[u].ms;
        int written = snprintf(text + used, DURATION_TEXT - used, "%" PRId64 "%s", n, units[u].name);
        used += written > 0 ? (size_t)written : 0;
    }
    return text;
}

static bool digits(const char **p, int count, int *value)
{
    *value = 0;
    for (int i = 0; i < count; i++, (*p)++) {
        if (!isdigit((unsigned char)**p))
            return false;
        *value = *value * 10 + (**p - '0');
    }
    return true;
}

static bool parse_rfc3339(const char *p, int64_t *unix_ms)
{
    struct tm tm = {0};
    int year, month;
    if (!digits(&p, 4, &year) || *p++ != '-' || !digits(&p, 2, &month) || *p++ != '-' || !digits(&p, 2, &tm.tm_mday))
        return false;
    if (*p != 'T' && *p != 't' && *p != ' ')
        return false;
    p++;
    if (!digits(&p, 2, &tm.tm_hour) || *p++ != ':' || !digits(&p, 2, &tm.tm_min) || *p++ != ':' ||
        !digits(&p, 2, &tm.tm_sec))
        return false;
    int ms = 0;
    if (*p == '.') {
        int place = 100;
        if (!isdigit((unsigned char)*++p))
            return false;
        for (; isdigit((unsigned char)*p); p++, place /= 10)
            ms += (*p - '0') * place;
    }
    int offset = 0;
    if (*p == '+' || *p == '-') {
        int sign = *p++ == '-' ? -1 : 1, hours, minutes;
        if (!digits(&p, 2, &hours) || *p++ != ':' || !digits(&p, 2, &minutes) || hours > 23 || minutes > 59)
            return false;
        offset = sign * (hours * 3600 + minutes * 60);
    } else if (*p == 'Z' || *p == 'z') {
        p++;
    } else {
        return false;
    }
    if (*p || month < 1 || month > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 || tm.tm_min > 59 ||
        tm.tm_sec > 59)
        return false;
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    int day = tm.tm_mday;
    time_t seconds = timegm(&tm);
    if (tm.tm_mday != day) /* 31 February became a day in March */
        return false;
    *unix_ms = ((int64_t)seconds - offset) * 1000 + ms;
    return true;
}

bool time_parse(const char *text, int64_t now_ms, int64_t *unix_ms)
{
    if (parse_rfc3339(text, unix_ms))
        return true;
    int64_t back;
    if (strcmp(text, "0") != 0 && duration_parse(text, &back)) {
        *unix_ms = now_ms - back;
        return true;
    }
    if (strcmp(text, "now") == 0) {
        *unix_ms = now_ms;
        return true;
    }
    /* strtod alone would take 0x10 and 1e9, which nobody means by a time. */
    size_t whole = strspn(text, "0123456789"), part = text[whole] == '.' ? strspn(text + whole + 1, "0123456789") : 0;
    if (whole == 0 || text[whole + (part ? part + 1 : 0)])
        return false;
    double seconds = strtod(text, NULL);
    if (!(seconds < 1e12))
        return false;
    *unix_ms = llround(seconds * 1000);
    return true;
}

const char *time_format(int64_t unix_ms, char text[TIME_TEXT])
{
    int64_t ms = unix_ms % 1000;
    time_t seconds = (time_t)((unix_ms - ms) / 1000);
    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t used = strftime(text, TIME_TEXT, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + used, TIME_TEXT - used, ms ? ".%03dZ" : "Z", (int)ms);
    return text;
}
