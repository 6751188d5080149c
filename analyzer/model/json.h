/* Strict reading of JSON: each getter either gives a checked value or an error that names the place. */
#ifndef HALDANE_MODEL_JSON_H
#define HALDANE_MODEL_JSON_H

#include "base/error.h"

#include <cjson/cJSON.h>
#include <stdint.h>

/* Parses a whole document that must be an object. NULL with ERROR_DATA and the byte where reading stopped. */
cJSON *json_parse_object(const char *text, size_t length, const char *what, struct error *err);

/* Prints without white space; the caller frees it. Deletes the tree. */
char *json_print(cJSON *tree);

/*
 * A number with the fewest digits that read back as the very same double; null if it is not finite. cJSON's own
 * printing is content with a neighbour, so that the bucket bound 0.30000000000000004 would come back as 0.3.
 */
cJSON *json_new_number(double value);
void json_add_number(cJSON *object, const char *name, double value);
/* As text: a seed may be larger than what a double tells from its neighbour. */
void json_add_seed(cJSON *object, uint64_t seed);

/* A whole number, exactly: as text from 2^53 on. */
void json_add_whole(cJSON *object, const char *name, uint64_t value);

/* The member, checked for its type; `where` is the path of `object` for the message. */
const cJSON *json_object(const cJSON *object, const char *name, const char *where, struct error *err);
const cJSON *json_array(const cJSON *object, const char *name, const char *where, struct error *err);
const char *json_string(const cJSON *object, const char *name, const char *where, struct error *err);
bool json_number(const cJSON *object, const char *name, const char *where, double *value, struct error *err);

/* A whole number from 0 to 2^53 - 1: from 2^53 on a double no longer tells neighbours apart. */
bool json_count(const cJSON *object, const char *name, const char *where, uint64_t *value, struct error *err);
bool json_count_item(const cJSON *item, const char *where, uint64_t *value, struct error *err);

/* A whole number of 64 bits, as a number below 2^53 or as decimal text. */
bool json_whole(const cJSON *object, const char *name, const char *where, uint64_t *value, struct error *err);

/* A number that may be missing, null or too large: then `absent`. */
double json_number_or(const cJSON *object, const char *name, double absent);

#endif
