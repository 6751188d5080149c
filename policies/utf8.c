/*
 * Ours because libyaml tells only the offset of a bad byte, and because a setting's value never passes through libyaml.
 * The table is that of well-formed sequences in the Unicode standard (table 3-7): it leaves out overlong forms,
 * surrogates and what lies past U+10FFFF by narrowing the second byte.
 */
#include "policies/utf8.h"

#include <stdint.h>

static const struct {
    uint8_t first_low, first_high;   /* of the first byte */
    uint8_t second_low, second_high; /* of the second; all later ones are 80..BF */
    uint8_t length;
} forms[] = {
    {0x00, 0x7F, 0, 0, 1},       {0xC2, 0xDF, 0x80, 0xBF, 2}, {0xE0, 0xE0, 0xA0, 0xBF, 3},
    {0xE1, 0xEC, 0x80, 0xBF, 3}, {0xED, 0xED, 0x80, 0x9F, 3}, {0xEE, 0xEF, 0x80, 0xBF, 3},
    {0xF0, 0xF0, 0x90, 0xBF, 4}, {0xF1, 0xF3, 0x80, 0xBF, 4}, {0xF4, 0xF4, 0x80, 0x8F, 4},
};

/* The length of the character that begins here; 0 if none does. */
static size_t character(const uint8_t *at, size_t left)
{
    for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++) {
        if (at[0] < forms[f].first_low || at[0] > forms[f].first_high)
            continue;
        if (forms[f].length > left)
            return 0;
        if (forms[f].length > 1 && (at[1] < forms[f].second_low || at[1] > forms[f].second_high))
            return 0;
        for (size_t i = 2; i < forms[f].length; i++)
            if (at[i] < 0x80 || at[i] > 0xBF)
                return 0;
        return forms[f].length;
    }
    return 0;
}

size_t utf8_valid(const char *text, size_t length)
{
    const uint8_t *bytes = (const uint8_t *)text;
    size_t at = 0;
    while (at < length) {
        size_t step = character(bytes + at, length - at);
        if (step == 0)
            break;
        at += step;
    }
    return at;
}
