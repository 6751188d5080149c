/*
 * Every formatter chooses a number of places from the size of the number, prints with that many, and cuts zeros that
 * say nothing. Rounding happens once, in snprintf.
 */
#include "analyzer/model/format.h"
#include "base/duration.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { NUMBER_TEXT = 28 };

static const char *missing(char text[FORMAT_TEXT])
{
    return strcpy(text, "–");
}

/* Cuts zeros at the end, but leaves `keep` places: "1.100" → "1.1". */
static void trim(char *number, size_t keep)
{
    char *point = strchr(number, '.');
    if (!point)
        return;
    char *end = number + strlen(number);
    while (end > point + 1 + keep && end[-1] == '0')
        end--;
    if (end == point + 1)
        end = point;
    *end = '\0';
}

/* How many places show `digits` significant ones of a number below 1. */
static int small_places(double x, int digits)
{
    int exponent = (int)floor(log10(x));
    int places = digits - 1 - exponent;
    return places < 0 ? 0 : places > 12 ? 12 : places;
}

/* Digits with a comma between thousands; at most 26 of them. */
static void group(uint64_t count, char number[NUMBER_TEXT])
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, count);
    size_t length = strlen(digits), out = 0;
    for (size_t i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            number[out++] = ',';
        number[out++] = digits[i];
    }
    number[out] = '\0';
}

const char *format_count(uint64_t count, char text[FORMAT_TEXT])
{
    group(count, text);
    return text;
}

const char *format_share(double share, char text[FORMAT_TEXT])
{
    if (!isfinite(share))
        return missing(text);
    double percent = fabs(share) * 100;
    const char *sign = share < 0 ? "-" : "";
    char number[NUMBER_TEXT] = "0";
    if (percent >= 1e9)
        snprintf(number, sizeof number, "%.2g", percent);
    else if (percent < 100 && percent >= 99.95)
        return strcpy(text, share < 0 ? "< -99.9 %" : "> 99.9 %");
    else if (percent > 0 && percent < 1e-9)
        sign = "";
    else if (percent > 0)
        snprintf(number, sizeof number, "%.*f",
                 percent >= 10    ? 1
                 : percent >= 0.1 ? 2
                                  : small_places(percent, 2),
                 percent);
    trim(number, 0);
    snprintf(text, FORMAT_TEXT, "%s%s %%", sign, number);
    return text;
}

const char *format_weight(uint32_t basis_points, char text[FORMAT_TEXT])
{
    char number[NUMBER_TEXT];
    snprintf(number, sizeof number, "%" PRIu32 ".%02" PRIu32, basis_points / 100, basis_points % 100);
    trim(number, 0);
    snprintf(text, FORMAT_TEXT, "%s %%", number);
    return text;
}

const char *format_rate(double per_second, char text[FORMAT_TEXT])
{
    if (!isfinite(per_second) || per_second < 0)
        return missing(text);
    if (per_second < 0.001)
        return strcpy(text, per_second > 0 ? "< 0.001/s" : "0/s");
    char number[NUMBER_TEXT];
    if (per_second >= 10 && per_second < 1e15)
        group((uint64_t)llround(per_second), number);
    else
        snprintf(number, sizeof number, "%.2g", per_second);
    snprintf(text, FORMAT_TEXT, "%s/s", number);
    return text;
}

const char *format_number(double number, char text[FORMAT_TEXT])
{
    if (!isfinite(number))
        return missing(text);
    double size = fabs(number);
    if (size < 999.95 || size >= 1e15) {
        snprintf(text, FORMAT_TEXT, "%.4g", number);
        return text;
    }
    char digits[NUMBER_TEXT];
    group((uint64_t)llround(size), digits);
    snprintf(text, FORMAT_TEXT, "%s%s", number < 0 ? "-" : "", digits);
    return text;
}

/* The number of a measured ratio, without its sign. */
static void ratio_number(double ratio, char number[NUMBER_TEXT])
{
    if (ratio <= 0 || ratio < 1e-6) {
        strcpy(number, "0");
    } else if (ratio >= 9.95 && ratio < 1e15) {
        group((uint64_t)llround(ratio), number);
    } else if (ratio >= 1e15) {
        snprintf(number, NUMBER_TEXT, "%.1e", ratio);
    } else {
        snprintf(number, NUMBER_TEXT, "%.*f", ratio >= 1.995 ? 1 : ratio >= 0.1 ? 2 : small_places(ratio, 2), ratio);
        trim(number, 1);
    }
}

const char *format_ratio(double ratio, char text[FORMAT_TEXT])
{
    if (isnan(ratio))
        return missing(text);
    if (isinf(ratio))
        return strcpy(text, "unbounded");
    char number[NUMBER_TEXT];
    ratio_number(ratio, number);
    snprintf(text, FORMAT_TEXT, "%s×", number);
    return text;
}

const char *format_limit(double ratio, char text[FORMAT_TEXT])
{
    if (!isfinite(ratio))
        return format_ratio(ratio, text);
    char number[NUMBER_TEXT];
    if (ratio > 0 && ratio < 0.01)
        snprintf(number, sizeof number, "%.*f", small_places(ratio, 1), ratio);
    else
        snprintf(number, sizeof number, fabs(ratio) < 1e6 ? "%.2f" : "%.1e", ratio);
    trim(number, 0);
    snprintf(text, FORMAT_TEXT, "%s×", number);
    return text;
}

const char *format_interval(double lower, double upper, char text[FORMAT_TEXT])
{
    bool below = isfinite(lower) && lower > 0, above = isfinite(upper);
    char low[NUMBER_TEXT] = "", high[NUMBER_TEXT] = "";
    if (below)
        ratio_number(lower, low);
    if (above)
        ratio_number(upper, high);
    if (below && above)
        snprintf(text, FORMAT_TEXT, "%s–%s×", low, high);
    else if (below)
        snprintf(text, FORMAT_TEXT, "%s× or more", low);
    else if (above)
        snprintf(text, FORMAT_TEXT, "up to %s×", high);
    else
        strcpy(text, "no bound yet");
    return text;
}

const char *format_latency(double seconds, char text[FORMAT_TEXT])
{
    if (!isfinite(seconds) || seconds < 0)
        return missing(text);
    if (seconds >= 119.5)
        return format_span(seconds < 1e12 ? llround(seconds) * 1000 : INT64_C(1000000000000000), text);
    bool whole = seconds >= 0.9995;
    double value = whole ? seconds : seconds * 1000;
    char number[NUMBER_TEXT] = "0";
    if (value >= 1e-9)
        snprintf(number, sizeof number, "%.*f", value >= 9.95 ? 0 : value >= 0.995 ? 1 : small_places(value, 2), value);
    trim(number, 0);
    snprintf(text, FORMAT_TEXT, "%s %s", number, whole ? "s" : "ms");
    return text;
}

const char *format_span(int64_t ms, char text[FORMAT_TEXT])
{
    int64_t unit = ms >= 86400000 ? 60000 : ms >= 10000 ? 1000 : ms >= 1000 ? 100 : 1;
    int64_t rounded = ms <= 0 ? 0 : ms - ms % unit + (ms % unit * 2 >= unit ? unit : 0);
    return duration_format(rounded, text);
}

const char *format_time(int64_t unix_ms, char text[FORMAT_TEXT])
{
    char iso[TIME_TEXT];
    int64_t odd = unix_ms % 1000;
    time_format(unix_ms - odd - (odd < 0 ? 1000 : 0), iso);
    char *t = strchr(iso, 'T'), *z = strrchr(iso, 'Z');
    if (t)
        *t = ' ';
    if (z)
        *z = '\0';
    snprintf(text, FORMAT_TEXT, "%s UTC", iso);
    return text;
}

const char *format_relative(int64_t unix_ms, int64_t now_ms, char text[FORMAT_TEXT])
{
    bool ahead = unix_ms > now_ms;
    int64_t seconds = ahead ? (unix_ms - now_ms + 999) / 1000 : (now_ms - unix_ms) / 1000;
    char span[FORMAT_TEXT];
    if (seconds < 60)
        snprintf(span, sizeof span, "%d s", (int)seconds);
    else
        format_span(seconds * 1000, span);
    snprintf(text, FORMAT_TEXT, ahead ? "in %.48s" : "%.48s ago", span);
    return text;
}

const char *format_evidence(double log10_e, char text[FORMAT_TEXT])
{
    if (isnan(log10_e))
        return missing(text);
    if (isinf(log10_e))
        return strcpy(text, log10_e > 0 ? "unbounded" : "none");
    int places = fabs(log10_e) < 99.5 ? fabs(log10_e) < 9.995 ? 2 : 1 : 0;
    if (fabs(log10_e) < 0.005)
        log10_e = 0; /* "-0.00" reads as a sign of something */
    snprintf(text, FORMAT_TEXT, fabs(log10_e) < 1e9 ? "%.*f" : "%.*e", places, log10_e);
    return text;
}

/* Multiples of `step` within the range. */
static size_t multiples(double low, double high, double step, double ticks[FORMAT_TICKS])
{
    size_t count = 0;
    double first = ceil(low / step - 1e-9);
    for (; count < FORMAT_TICKS && (first + (double)count) * step <= high + step * 1e-9; count++)
        ticks[count] = (first + (double)count) * step;
    return count;
}

static bool drawable(double low, double high)
{
    return isfinite(low) && isfinite(high) && low < high;
}

size_t format_ticks(double low, double high, size_t want, double ticks[FORMAT_TICKS])
{
    if (!drawable(low, high) || want == 0)
        return 0;
    double power = pow(10, floor(log10((high - low) / (double)want)));
    static const double rounds[] = {1, 2, 5, 10};
    for (size_t i = 0; i < sizeof rounds / sizeof rounds[0]; i++)
        if ((high - low) / (rounds[i] * power) <= (double)want + 1e-9)
            return multiples(low, high, rounds[i] * power, ticks);
    return multiples(low, high, 20 * power, ticks);
}

/* All mantissas × powers of ten within the range; counts on past the room, so that the caller sees it is too many. */
static size_t log_candidates(double low, double high, const double *mantissas, size_t count, int stride,
                             double ticks[FORMAT_TICKS])
{
    size_t found = 0;
    for (int e = (int)floor(log10(low)); e <= (int)ceil(log10(high)); e++) {
        if (e % stride != 0)
            continue;
        for (size_t i = 0; i < count; i++) {
            double tick = e < 0 ? mantissas[i] / pow(10, -e) : mantissas[i] * pow(10, e);
            if (tick < low * (1 - 1e-9) || tick > high * (1 + 1e-9))
                continue;
            if (found < FORMAT_TICKS)
                ticks[found] = tick;
            found++;
        }
    }
    return found;
}

size_t format_log_ticks(double low, double high, size_t want, double ticks[FORMAT_TICKS])
{
    if (!drawable(low, high) || low <= 0 || want == 0)
        return 0;
    static const double fine[] = {1, 1.5, 2, 3, 5, 7}, middle[] = {1, 2, 5}, coarse[] = {1};
    static const struct {
        const double *mantissas;
        size_t count;
    } sets[] = {{fine, 6}, {middle, 3}, {coarse, 1}};
    if (want > FORMAT_TICKS)
        want = FORMAT_TICKS;
    for (size_t s = 0; s < sizeof sets / sizeof sets[0]; s++) {
        size_t found = log_candidates(low, high, sets[s].mantissas, sets[s].count, 1, ticks);
        if (found > want)
            continue;
        return found >= 3 || s > 0 ? found : format_ticks(low, high, want, ticks);
    }
    for (int stride = 2; stride < 700; stride++) {
        size_t found = log_candidates(low, high, coarse, 1, stride, ticks);
        if (found <= want)
            return found;
    }
    return 0;
}

size_t format_time_ticks(int64_t from_ms, int64_t to_ms, size_t want, double ticks[FORMAT_TICKS])
{
    static const int64_t steps_s[] = {1,     2,     5,      10,     15,     30,      60,     120,
                                      300,   600,   900,    1800,   3600,   7200,    10800,  21600,
                                      43200, 86400, 172800, 432000, 864000, 2592000, 8640000};
    if (from_ms >= to_ms || want == 0)
        return 0;
    for (size_t i = 0; i < sizeof steps_s / sizeof steps_s[0]; i++)
        if ((to_ms - from_ms) / (steps_s[i] * 1000) < (int64_t)want)
            return multiples((double)from_ms, (double)to_ms, (double)steps_s[i] * 1000, ticks);
    return format_ticks((double)from_ms, (double)to_ms, want, ticks);
}
