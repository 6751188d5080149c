/* The selectors and matchers of a policy: as much of PromQL as a policy may hold. */
#ifndef HALDANE_POLICIES_SELECTOR_H
#define HALDANE_POLICIES_SELECTOR_H

/*
 * Both return NULL, or what is wrong and the mend as the end of a sentence that begins with the key's name. The caller
 * frees it.
 *
 * A selector is `NAME{MATCHERS}` (NAME may be left out) with `$track` as one of the matchers. Functions, ranges and
 * offsets are refused: haldane takes raw samples and counts itself.
 */
char *selector_problem(const char *text);

/* `label="value"` and the like, with commas between. */
char *matchers_problem(const char *text);

#endif
