/* The selectors, queries and matchers of a policy: as much of PromQL as must be understood before it is asked. */
#ifndef HALDANE_POLICIES_SELECTOR_H
#define HALDANE_POLICIES_SELECTOR_H

/*
 * All return NULL, or what is wrong and the mend as the end of a sentence that begins with the key's name. The caller
 * frees it.
 *
 * A selector is `NAME{MATCHERS}` (NAME may be left out) with `$track` as one of the matchers. Functions, ranges and
 * offsets are refused: haldane takes raw samples and counts itself.
 */
char *selector_problem(const char *text);

/* The same of a guardrail, which asks the canary alone: `$canary` may stand for `$track`. */
char *canary_selector_problem(const char *text);

/*
 * A query is any PromQL with `$track` in the braces of a selector; `$stable` and `$canary` may stand beside it. Only
 * what would make both tracks equal is looked for, what is left open, and a range `[5m]` at the end, which is no
 * number. The rest is Prometheus's to judge.
 */
char *query_problem(const char *text);

/* The same of a guardrail: it need not hold any of the words, because nothing is compared. */
char *canary_query_problem(const char *text);

/* `label="value"` and the like, with commas between. */
char *matchers_problem(const char *text);

#endif
