/*
 * Reads a policy from YAML 1.1 (libyaml), checks it and fills in the defaults. All problems of a file are found in one
 * go, each with line, column, what is wrong and the mend; a key that is not known is met with the nearest known one.
 */
#ifndef HALDANE_POLICIES_LOAD_H
#define HALDANE_POLICIES_LOAD_H

#include "base/error.h"
#include "policies/policy.h"

struct policy_problem {
    size_t line, column; /* from 1 */
    char *text;          /* what, and the mend */
};

struct policy_problems {
    struct policy_problem *items; /* in the order of the file */
    size_t count, room;
};

void policy_problems_free(struct policy_problems *problems);

/*
 * Both return a policy that the caller frees, or NULL with either `problems` (ERROR_DATA; err->text is the first of
 * them as `NAME:LINE:COLUMN: text`) or only `err` set (ERROR_NO_INPUT: the file cannot be read). `settings` are the
 * values of
 * ${NAME}; what is not among them is taken from `environment` (NULL-terminated NAME=VALUE list, may be NULL). `name` is
 * what messages call the text. `path` "-" reads standard input.
 */
struct policy *policy_load_file(const char *path, const struct policy_setting *settings, size_t setting_count,
                                char *const *environment, struct policy_problems *problems, struct error *err);
struct policy *policy_load_text(const char *text, size_t length, const char *name,
                                const struct policy_setting *settings, size_t setting_count, char *const *environment,
                                struct policy_problems *problems, struct error *err);

void policy_free(struct policy *policy);

/*
 * A selector as Prometheus is asked: $track becomes the matchers of `track`, $stable and $canary those of that track.
 * The caller frees it.
 */
char *policy_expand(const struct policy *policy, const char *selector, enum track track);

#endif
