/* Values of command-line options: strtod and strtoull with the checks that they leave to the caller. */
#include "compose/args.h"

#include "base/duration.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A finite number that begins with a digit; `rest` is what follows it. Signs, blanks, hex and "nan" are refused. */
static bool read_number(const char *text, double *value, const char **rest)
{
    if ((!isdigit((unsigned char)text[0]) && text[0] != '.') || strpbrk(text, "xXpP"))
        return false;
    char *end = NULL;
    *value = strtod(text, &end);
    *rest = end;
    return end != text && isfinite(*value);
}

bool args_duration(const char *option, const char *text, int64_t *ms, struct error *err)
{
    const double longest_s = 366.0 * 24 * 3600;
    const char *rest = NULL;
    double seconds = 0;
    if (read_number(text, &seconds, &rest) && *rest == '\0' && seconds <= longest_s) {
        *ms = llrint(seconds * 1000);
        return true;
    }
    if (duration_parse(text, ms) && *ms <= (int64_t)(longest_s * 1000))
        return true;
    return error_set(err, ERROR_USAGE, "%s takes a duration of at most a year, as 500ms, 2s or 1m30s, not \"%s\"",
                     option, text);
}

bool args_share(const char *option, const char *text, double *share, struct error *err)
{
    const char *rest = NULL;
    double percent = 0;
    if (!read_number(text, &percent, &rest) || strcmp(rest, "%") != 0 || percent > 100)
        return error_set(err, ERROR_USAGE, "%s takes a share from 0%% to 100%%, as 0.5%%, not \"%s\"", option, text);
    *share = percent / 100;
    return true;
}

bool args_number(const char *option, const char *text, double min, double max, double *value, struct error *err)
{
    const char *rest = NULL;
    if (!read_number(text, value, &rest) || *rest != '\0' || *value < min || *value > max)
        return error_set(err, ERROR_USAGE, "%s takes a number from %g to %g, not \"%s\"", option, min, max, text);
    return true;
}

bool args_count(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *value, struct error *err)
{
    char *end = NULL;
    errno = 0;
    unsigned long long parsed = isdigit((unsigned char)text[0]) ? strtoull(text, &end, 10) : 0;
    if (!end || *end != '\0' || errno == ERANGE || parsed < min || parsed > max)
        return error_set(err, ERROR_USAGE, "%s takes a whole number from %llu to %llu, not \"%s\"", option,
                         (unsigned long long)min, (unsigned long long)max, text);
    *value = parsed;
    return true;
}
