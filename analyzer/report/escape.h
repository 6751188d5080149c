/*
 * Putting foreign text (service names, reasons, audit details, a policy) into a document. Nothing that comes from
 * outside reaches a report by another way. All of them repair the text first: bytes that are not UTF-8, control
 * characters (a terminal obeys them) and marks that turn the direction of writing around become U+FFFD; line breaks
 * and tabs become spaces.
 *
 * NULL is written as nothing, except in JSON, where it is null.
 */
#ifndef HALDANE_REPORT_ESCAPE_H
#define HALDANE_REPORT_ESCAPE_H

#include "base/strbuf.h"

void put_plain(struct strbuf *out, const char *text);
void put_html(struct strbuf *out, const char *text);       /* element text and quoted attribute values */
void put_html_lines(struct strbuf *out, const char *text); /* for <pre>: keeps line breaks and tabs */
void put_markdown(struct strbuf *out, const char *text);   /* inline text, also in a table's cell; mentions nobody */
void put_json(struct strbuf *out, const char *text);       /* with its quotes; line breaks kept as \n */
void put_json_number(struct strbuf *out, double number);   /* round-trips; not finite: null */

/* Columns that the (repaired) text takes on a terminal: wide East Asian characters take two. */
size_t text_columns(const char *text);

/*
 * Adds the text broken into lines of at most `columns`, each with `indent` spaces before it but for the first, where
 * `used` columns are taken already. Ends with a newline. Words longer than a line are cut.
 */
void put_wrapped(struct strbuf *out, const char *text, size_t used, size_t indent, size_t columns);

#endif
