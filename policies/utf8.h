/* Whether text is UTF-8. */
#ifndef HALDANE_POLICIES_UTF8_H
#define HALDANE_POLICIES_UTF8_H

#include <stddef.h>

/* How many of the bytes, from the first, are whole well-formed characters: `length` if the text is UTF-8. */
size_t utf8_valid(const char *text, size_t length);

#endif
