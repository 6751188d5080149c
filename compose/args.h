/*
 * Values of command-line options, for the demo shop and the load generator. Each function reads the whole of `text`,
 * checks its range, and on failure sets an ERROR_USAGE that names the option and says what it takes.
 */
#ifndef HALDANE_COMPOSE_ARGS_H
#define HALDANE_COMPOSE_ARGS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Milliseconds from `40ms`, `2s`, `1m30s`; a bare number is seconds. */
bool args_duration(const char *option, const char *text, int64_t *ms, struct error *err);

/* 0..1 from `0.5%`. The sign is required: a bare 1 could mean 1 % or everything. */
bool args_share(const char *option, const char *text, double *share, struct error *err);

bool args_number(const char *option, const char *text, double min, double max, double *value, struct error *err);

bool args_count(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *value, struct error *err);

#endif
