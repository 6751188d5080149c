/* One walk over the code points does the repair for all formats; a format only says what a code point becomes. */
#include "analyzer/report/escape.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPLACEMENT = 0xFFFD };

/* The code point at `p` and its length; a bad sequence gives REPLACEMENT and one byte. */
static size_t decode(const unsigned char *p, uint32_t *code)
{
    size_t length = *p < 0x80                 ? 1
                    : *p >= 0xC2 && *p < 0xE0 ? 2
                    : *p >= 0xE0 && *p < 0xF0 ? 3
                    : *p >= 0xF0 && *p < 0xF5 ? 4
                                              : 0;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    static const unsigned masks[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    *code = REPLACEMENT;
    if (length == 0)
        return 1;
    uint32_t value = *p & masks[length];
    for (size_t i = 1; i < length; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 1;
        value = value << 6 | (p[i] & 0x3F);
    }
    if (value < least[length] || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000))
        return 1;
    *code = value;
    return length;
}

static bool harmful(uint32_t c)
{
    if (c == '\n' || c == '\t' || c == '\r')
        return false;
    return c < 0x20 || (c >= 0x7F && c < 0xA0) ||                  /* control characters */
           c == 0x61C || c == 0x200E || c == 0x200F ||             /* direction marks */
           (c >= 0x2028 && c <= 0x202E) ||                         /* separators, embeddings and overrides */
           (c >= 0x2066 && c <= 0x2069) ||                         /* isolates */
           (c >= 0xFDD0 && c <= 0xFDEF) || (c & 0xFFFE) == 0xFFFE; /* not characters */
}

/* What a code point becomes in a format, given the byte after it; NULL: itself. */
typedef const char *escape_fn(uint32_t code, unsigned char next);

static void walk(struct strbuf *out, const char *text, bool lines, escape_fn *escape)
{
    const unsigned char *p = (const unsigned char *)text;
    while (p && *p) {
        uint32_t code;
        size_t length = decode(p, &code);
        bool broken = code == REPLACEMENT || harmful(code);
        const char *instead = broken ? "\xEF\xBF\xBD" : escape ? escape(code, p[length]) : NULL;
        if (!instead && !lines && (code == '\n' || code == '\t' || code == '\r'))
            instead = " ";
        else if (code == '\r' && lines && !instead)
            instead = ""; /* half of a line break */
        if (instead)
            strbuf_puts(out, instead);
        else
            strbuf_add(out, (const char *)p, length);
        p += length;
    }
}

static const char *escape_html(uint32_t code, unsigned char next)
{
    switch (code) {
    case ' ':
        return next == '%' ? "&#160;" : NULL; /* "5 %" stays on one line */
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

static const char *escape_markdown(uint32_t code, unsigned char next)
{
    static const char marks[] = "\\`*_[]#|~$";
    static const char *const escaped[] = {"\\\\", "\\`", "\\*", "\\_", "\\[", "\\]", "\\#", "\\|", "\\~", "\\$"};
    _Static_assert(sizeof marks - 1 == sizeof escaped / sizeof escaped[0], "one escape per mark");
    if (code == '@')
        return "@\xE2\x81\xA0"; /* a word joiner after it: "@team" calls nobody */
    if (code == ' ' || code == '"' || code == '\'')
        return NULL;
    const char *mark = code > 0 && code < 0x80 ? strchr(marks, (int)code) : NULL;
    return mark ? escaped[mark - marks] : escape_html(code, next);
}

static const char *escape_json(uint32_t code, unsigned char next)
{
    (void)next;
    switch (code) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\t':
        return "\\t";
    case '\r':
        return "\\r";
    default:
        return NULL;
    }
}

void put_plain(struct strbuf *out, const char *text)
{
    walk(out, text, false, NULL);
}

void put_html(struct strbuf *out, const char *text)
{
    walk(out, text, false, escape_html);
}

void put_html_lines(struct strbuf *out, const char *text)
{
    walk(out, text, true, escape_html);
}

void put_markdown(struct strbuf *out, const char *text)
{
    walk(out, text, false, escape_markdown);
}

void put_json(struct strbuf *out, const char *text)
{
    if (!text) {
        strbuf_puts(out, "null");
        return;
    }
    strbuf_puts(out, "\"");
    walk(out, text, true, escape_json);
    strbuf_puts(out, "\"");
}

void put_json_number(struct strbuf *out, double number)
{
    if (!isfinite(number)) {
        strbuf_puts(out, "null");
        return;
    }
    char text[40];
    snprintf(text, sizeof text, "%.15g", number);
    if (strtod(text, NULL) != number)
        snprintf(text, sizeof text, "%.17g", number);
    strbuf_puts(out, text);
}

static size_t code_columns(uint32_t code)
{
    static const struct {
        uint32_t from, to;
    } wide[] = {{0x1100, 0x115F}, {0x2E80, 0xA4CF}, {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},  {0xFE30, 0xFE6F},
                {0xFF00, 0xFF60}, {0xFFE0, 0xFFE6}, {0x1F300, 0x1FAFF}, {0x20000, 0x3FFFD}};
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++)
        if (code >= wide[i].from && code <= wide[i].to)
            return 2;
    return 1;
}

/* Length in bytes of what fits into `columns`, and how many of them it takes. */
static size_t fitting(const char *text, size_t length, size_t columns, size_t *taken)
{
    size_t bytes = 0;
    *taken = 0;
    while (bytes < length) {
        uint32_t code;
        size_t step = decode((const unsigned char *)text + bytes, &code);
        size_t width = code_columns(code);
        if (*taken + width > columns)
            break;
        *taken += width;
        bytes += step;
    }
    return bytes;
}

size_t text_columns(const char *text)
{
    size_t columns;
    fitting(text, strlen(text), SIZE_MAX, &columns);
    return columns;
}

/* A place on the line being written. */
struct line {
    struct strbuf *out;
    size_t used, indent, columns;
};

static void line_break(struct line *line)
{
    strbuf_printf(line->out, "\n%*s", (int)line->indent, "");
    line->used = line->indent;
}

static void put_word(struct line *line, const char *word, size_t length, bool first)
{
    size_t width;
    fitting(word, length, SIZE_MAX, &width);
    size_t gap = first ? 0 : 1;
    if (line->used + gap + width <= line->columns) {
        strbuf_puts(line->out, gap ? " " : "");
        line->used += gap;
    } else if (line->used > line->indent) {
        line_break(line);
    }
    for (;;) {
        size_t bytes = fitting(word, length, line->columns - line->used, &width);
        strbuf_add(line->out, word, bytes);
        line->used += width;
        word += bytes;
        length -= bytes;
        if (length == 0)
            return;
        line_break(line);
    }
}

void put_wrapped(struct strbuf *out, const char *text, size_t used, size_t indent, size_t columns)
{
    struct strbuf repaired = {0};
    put_plain(&repaired, text);
    char *plain = strbuf_take(&repaired);
    struct line line = {out, used, indent, columns};
    const char *p = plain;
    for (bool first = true; *(p += strspn(p, " ")); first = false) {
        size_t length = strcspn(p, " ");
        if (strncmp(p + length, " %", 2) == 0) /* a number keeps its sign */
            length += 2 + strcspn(p + length + 2, " ");
        put_word(&line, p, length, first);
        p += length;
    }
    strbuf_puts(out, "\n");
    free(plain);
}
