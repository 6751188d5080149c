/*
 * What the program of the driver `exec` answers, as data: one JSON object for each operation. docs/traffic.md describes
 * the fields. A field of the wrong kind or out of range is an error that names it, as is a needed one that is missing;
 * fields that are not known are passed over, so that a program may tell more than haldane asks. Pure.
 *
 * `where` begins the error's text: which program, and what it was asked. Errors are ERROR_DATA, one line.
 */
#ifndef HALDANE_TRAFFIC_EXEC_ANSWER_H
#define HALDANE_TRAFFIC_EXEC_ANSWER_H

#include "analyzer/traffic/driver.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From this Unix second on `expires` means that there is no end. */
#define EXEC_NEVER INT64_C(9999999999)

/*
 * The answer to `get` and `set`. `capabilities` are the program's: with DRIVER_CAS there must be an `epoch`, with
 * DRIVER_LEASE `lease_left_s` or `expires`. `now_ms` is the wall clock, against which `expires` is held;
 * `lease_left_s`, by the balancer's clock, goes before it. `got` is untouched on failure.
 */
bool exec_parse_state(const char *text, size_t length, const char *where, uint32_t capabilities, int64_t now_ms,
                      struct driver_state *got, struct error *err);

/* The answer to `caps`: a list of names, as bits of enum driver_capability. */
bool exec_parse_caps(const char *text, size_t length, const char *where, uint32_t *capabilities, struct error *err);

/* The answer to `counters`; `got->at_ms` stays as it is. */
bool exec_parse_counters(const char *text, size_t length, const char *where, struct balancer_counters *got,
                         struct error *err);

/* The answer to `drain`: how many requests are in flight now. */
bool exec_parse_drain(const char *text, size_t length, const char *where, uint64_t *in_flight, struct error *err);

#endif
