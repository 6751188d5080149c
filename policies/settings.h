/*
 * ${NAME} in the values of a policy. It is replaced after the YAML was parsed, one scalar at a time, so that a value
 * cannot add keys to the policy.
 */
#ifndef HALDANE_POLICIES_SETTINGS_H
#define HALDANE_POLICIES_SETTINGS_H

#include "policies/policy.h"
#include "policies/problems.h"

#include <stddef.h>

struct settings {
    const struct policy_setting *given; /* asked first */
    size_t given_count;
    char *const *environment; /* NAME=VALUE, ends with NULL; may be NULL */
    struct policy_setting *used;
    size_t used_count, used_room;
};

/* `text` with every ${NAME} replaced; NULL with a problem at `at`. What was used is noted. The caller frees it. */
char *settings_expand(struct settings *settings, const char *text, struct mark at, struct policy_problems *problems);

/* The settings that were used, sorted by name, given to the policy. */
void settings_give(struct settings *settings, struct policy *policy);

#endif
