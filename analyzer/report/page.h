/* The frame of an HTML page: one file, no script, nothing from outside, well-formed XML, dark and light. */
#ifndef HALDANE_REPORT_PAGE_H
#define HALDANE_REPORT_PAGE_H

#include "base/strbuf.h"

/* Up to the opened <main>. `title` is escaped; `style` is added to the common stylesheet as it is (NULL: nothing). */
void page_open(struct strbuf *out, const char *title, const char *style);

/* Closes <main>; `foot` stands after haldane's name and version, escaped (NULL: nothing). */
void page_close(struct strbuf *out, const char *foot);

#endif
