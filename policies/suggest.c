/* The edit distance with swaps of neighbours (optimal string alignment), three rows at a time. */
#include "policies/suggest.h"

#include <ctype.h>
#include <string.h>

enum { LONGEST = 63 }; /* no key or name is longer; a longer word is not a slip of the keyboard */

static char folded(char c)
{
    return c == '-' ? '_' : (char)tolower((unsigned char)c);
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t rows[3][LONGEST + 1];
    size_t *before = rows[0], *above = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b_length; j++)
        above[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            char x = folded(a[i - 1]), y = folded(b[j - 1]);
            row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + (x != y));
            if (i > 1 && j > 1 && x == folded(b[j - 2]) && folded(a[i - 2]) == y)
                row[j] = least(row[j], before[j - 2] + 1);
        }
        size_t *oldest = before;
        before = above;
        above = row;
        row = oldest;
    }
    return above[b_length];
}

const char *suggest(const char *word, const char *const *known, size_t count)
{
    size_t length = strlen(word);
    if (length == 0 || length > LONGEST)
        return NULL;
    const char *nearest = NULL;
    size_t nearest_distance = length < 6 ? 1 : length / 3;
    for (size_t i = 0; i < count; i++) {
        size_t known_length = strlen(known[i]);
        if (known_length > LONGEST)
            continue;
        size_t d = distance(word, length, known[i], known_length);
        if (d < nearest_distance || (d == nearest_distance && !nearest)) {
            nearest = known[i];
            nearest_distance = d;
        }
    }
    return nearest;
}
