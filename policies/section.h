/*
 * One mapping of the policy while it is read. Every key that the reader asks for becomes a known key; closing the
 * section reports the keys that nobody asked for, those given twice and the required ones that are missing. So the list
 * of known keys cannot differ from what the code reads.
 *
 * What is wrong with a value is reported at once and a value that no cross check can stumble over is returned: NULL for
 * text, -1 for durations, NaN for numbers. A section may be empty (its key was not given): then every key is absent,
 * and nothing is missing.
 */
#ifndef HALDANE_POLICIES_SECTION_H
#define HALDANE_POLICIES_SECTION_H

#include "policies/problems.h"
#include "policies/settings.h"
#include "policies/tree.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct reader {
    struct policy_problems *problems;
    struct settings settings;
};

enum { SECTION_KEYS = 32 };

struct known_key {
    const char *name;
    const char *needed; /* not given, and why it must be; NULL: optional or given */
    bool refused;       /* understood, but not to be offered */
};

struct section {
    struct reader *reader;
    char name[40]; /* for messages: "`traffic`", "the policy" */
    const struct tree_node *map;
    struct mark mark;
    struct known_key known[SECTION_KEYS];
    size_t known_count;
};

/* `node` NULL: an empty section. False, with a problem, if it is no mapping. `at` is where missing keys are reported.
 */
bool section_open(struct section *s, struct reader *reader, const struct tree_node *node, const char *name,
                  struct mark at);
/* The mapping under `key`; `needed` says why it must be there (a mend), or is NULL. */
bool section_open_key(struct section *s, struct section *parent, const char *key, const char *needed);
void section_close(struct section *s);

/* The node under `key`, which becomes a known key; NULL if it is not given. `needed` as above. */
const struct tree_node *section_get(struct section *s, const char *key, const char *needed);
bool section_has(const struct section *s, const char *key);
/* Whether the key was asked for or refused already. */
bool section_knows(const struct section *s, const char *key);
/* The place of the value if given, else of the section. */
struct mark section_mark(const struct section *s, const char *key);

/* A key that is understood but not accepted here: `why` is the problem, with the mend. */
void section_refuse(struct section *s, const char *key, const char *why);
/* A key of the reference that is not built yet. */
void section_not_built(struct section *s, const char *key);

/* The text of one scalar, settings put in; NULL with a problem (`what` names it). The caller frees it. */
char *text_of(struct reader *reader, const struct tree_node *node, const char *what);

/* Text without control characters; NULL if absent or wrong. The caller frees it. */
char *section_text(struct section *s, const char *key, const char *needed);
int64_t section_duration(struct section *s, const char *key, int64_t otherwise);
bool section_bool(struct section *s, const char *key, bool otherwise);

enum { WORDS = 6 };

struct words {
    const char *built[WORDS]; /* NULL: fewer */
};

/* The index of the word among those built; `otherwise` if absent or wrong. */
int section_choice(struct section *s, const char *key, const char *needed, const struct words *words, int otherwise);

struct range {
    double least, most; /* `most` may be HUGE_VAL */
    bool above, below;  /* the end itself is outside */
    bool whole;         /* a share of a whole: 1 may stand for 100 % */
    bool integer;       /* no fractions */
    const char *why;    /* may be NULL */
};

double section_fraction(struct section *s, const char *key, double otherwise, const struct range *range);
double section_number(struct section *s, const char *key, double otherwise, const struct range *range);
/* One fraction of a list. */
double fraction_of(struct reader *reader, const struct tree_node *node, const char *what, const struct range *range);

enum { LIST_ITEMS = 100 };
/* The items of a list of 1 to `most` items, NULL with *count 0 if absent or wrong. */
struct tree_node **section_list(struct section *s, const char *key, const char *needed, size_t most, size_t *count);

#endif
