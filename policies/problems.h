/*
 * What is wrong with a policy, collected while it is read. Only policies/ uses this; its callers see the finished list
 * (policies/load.h).
 */
#ifndef HALDANE_POLICIES_PROBLEMS_H
#define HALDANE_POLICIES_PROBLEMS_H

#include "policies/load.h"

#include <stdbool.h>
#include <stddef.h>

/* A place in the text, from 1; columns count characters, as editors do. */
struct mark {
    size_t line, column;
};

enum { PROBLEMS = 100 }; /* nobody mends more in one go; it also bounds the work on a hostile file */

/* Adds `what, and the mend` (printf style, one line). Problems past PROBLEMS are dropped. */
void problem_add(struct policy_problems *problems, struct mark at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

bool problems_full(const struct policy_problems *problems);

/* Puts them in the order of the file, drops what was found twice, and says so if there are more than PROBLEMS. */
void problems_finish(struct policy_problems *problems);

struct shown {
    char text[72];
};

/* `text` as a message can quote it: one line, cut to a readable length between characters. */
struct shown shown(const char *text);

#endif
