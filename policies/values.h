/*
 * The scalars of a policy: text in, number out. Each returns NULL, or what is wrong and the mend as the end of a
 * sentence that begins "`key` is `text`, ".
 */
#ifndef HALDANE_POLICIES_VALUES_H
#define HALDANE_POLICIES_VALUES_H

#include <stdbool.h>
#include <stdint.h>

/* `2m30s` in milliseconds. */
const char *value_duration(const char *text, int64_t *ms);

/* A decimal number: `1.5`, `2e-3`. */
const char *value_number(const char *text, double *value);

/*
 * `5%` or `0.05`. A number of 1 or more needs the sign, because 5 may mean 5 % as well as 500 %; only where a share of
 * a whole is asked for (`whole`), 1 can mean one thing only.
 */
const char *value_fraction(const char *text, bool whole, double *value);

/* `12.5%` as 1250 basis points, 1 to 10000, exactly: what is finer than 0.01 % is refused, not rounded. */
const char *value_weight(const char *text, uint32_t *basis_points);

/* The same, and 0 % too: what a balancer may be asked for. */
const char *value_share(const char *text, uint32_t *basis_points);

/* YAML 1.1's words: true, yes, on, false, no, off. */
const char *value_bool(const char *text, bool *value);

#endif
