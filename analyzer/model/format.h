/*
 * Numbers as people read them: "0.52 %", "12,480", "3.1×", "48 ms". One place, so that a verdict's sentence, the live
 * display and a report say the same number in the same way.
 *
 * Each function writes into `text` and returns it. A number that does not exist (NAN) is "–". Output is ASCII but for
 * "×" and "–"; no locale is used.
 */
#ifndef HALDANE_MODEL_FORMAT_H
#define HALDANE_MODEL_FORMAT_H

#include <stddef.h>
#include <stdint.h>

enum { FORMAT_TEXT = 64 };

const char *format_count(uint64_t count, char text[FORMAT_TEXT]);         /* 12480 → "12,480" */
const char *format_share(double share, char text[FORMAT_TEXT]);           /* 0.0052 → "0.52 %" */
const char *format_weight(uint32_t basis_points, char text[FORMAT_TEXT]); /* 525 → "5.25 %", exact */
const char *format_rate(double per_second, char text[FORMAT_TEXT]);       /* 95.2 → "95/s" */

/* A measured ratio, to about two digits: 3.14 → "3.1×", 1.046 → "1.05×". Infinite: "unbounded". */
const char *format_ratio(double ratio, char text[FORMAT_TEXT]);
/* A ratio that somebody chose, to two places and no trailing zeros: 1.1 → "1.1×", 2.25 → "2.25×". */
const char *format_limit(double ratio, char text[FORMAT_TEXT]);
/* An interval of ratios: "2.2–4.4×", "2.2× or more", "up to 4.4×", "no bound yet". */
const char *format_interval(double lower, double upper, char text[FORMAT_TEXT]);

/* A number in a unit that is not known: 130023424.4 → "130,023,424", 0.0123456 → "0.01235"; whole from 1000 on. */
const char *format_number(double number, char text[FORMAT_TEXT]);

const char *format_latency(double seconds, char text[FORMAT_TEXT]); /* 0.048 → "48 ms", 1.2 → "1.2 s" */
const char *format_span(int64_t ms, char text[FORMAT_TEXT]);        /* 90000 → "1m30s"; to the second from 10 s on */
const char *format_time(int64_t unix_ms, char text[FORMAT_TEXT]);   /* "2026-03-01 02:14:30 UTC" */
/* How far away a time is, in whole seconds: "in 12 s", "5 s ago", "1m30s ago". */
const char *format_relative(int64_t unix_ms, int64_t now_ms, char text[FORMAT_TEXT]);
const char *format_evidence(double log10_e, char text[FORMAT_TEXT]); /* 1.6021 → "1.60", -101.3 → "-101" */

/*
 * Places for an axis's ticks, ascending, all within [low, high], about `want` of them and never more than FORMAT_TICKS;
 * returns how many. Linear ones are 1, 2 or 5 times a power of ten apart; logarithmic ones (low > 0) sit on round
 * numbers; those of time (Unix milliseconds) on round seconds, minutes, hours or days in UTC. 0 if the range is empty
 * or not finite.
 */
enum { FORMAT_TICKS = 16 };
size_t format_ticks(double low, double high, size_t want, double ticks[FORMAT_TICKS]);
size_t format_log_ticks(double low, double high, size_t want, double ticks[FORMAT_TICKS]);
size_t format_time_ticks(int64_t from_ms, int64_t to_ms, size_t want, double ticks[FORMAT_TICKS]);

#endif
