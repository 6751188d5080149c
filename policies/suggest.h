/* The known word that somebody probably meant. */
#ifndef HALDANE_POLICIES_SUGGEST_H
#define HALDANE_POLICIES_SUGGEST_H

#include <stddef.h>

/*
 * The word of `known` that is nearest to `word`, or NULL if none is near enough to be what was meant: at most a third
 * of the letters may be missing, added, changed or swapped with the neighbour; upper case and `-` for `_` cost nothing.
 * Words of more than 63 bytes are near to nothing.
 */
const char *suggest(const char *word, const char *const *known, size_t count);

#endif
