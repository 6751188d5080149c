/*
 * Durations in Prometheus's notation (`1m30s`, `500ms`, `2h`; units y w d h m s ms, largest first, each at most once)
 * and points in time (RFC 3339, Unix seconds). Source: prometheus/common model.ParseDuration.
 */
#ifndef HALDANE_BASE_DURATION_H
#define HALDANE_BASE_DURATION_H

#include <stdbool.h>
#include <stdint.h>

/* Parses the whole of `text`; false if it is not a duration or is longer than 292 years. `0` needs no unit. */
bool duration_parse(const char *text, int64_t *ms);

enum { DURATION_TEXT = 48, TIME_TEXT = 40 };

/* Writes the shortest form that parses back to the same value: 90000 → "1m30s", 0 → "0s". `ms` >= 0. */
const char *duration_format(int64_t ms, char text[DURATION_TEXT]);

/*
 * Unix milliseconds from RFC 3339 (`2026-01-02T03:04:05.678Z`, offsets as `+02:00`), Unix seconds (`1767323045.5`), or
 * a duration back from `now_ms` (`15m`). False if `text` is none of them.
 */
bool time_parse(const char *text, int64_t now_ms, int64_t *unix_ms);

/* RFC 3339 in UTC: seconds, with milliseconds only if there are any. */
const char *time_format(int64_t unix_ms, char text[TIME_TEXT]);

#endif
