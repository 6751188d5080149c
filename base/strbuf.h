/* A growing string, for everything that is written out: reports, JSON, commands. Always ends in NUL. */
#ifndef HALDANE_BASE_STRBUF_H
#define HALDANE_BASE_STRBUF_H

#include <stddef.h>

struct strbuf {
    char *text; /* owned; NULL until something was added */
    size_t length;
    size_t room;
};

void strbuf_add(struct strbuf *buf, const char *bytes, size_t length);
void strbuf_puts(struct strbuf *buf, const char *text);
void strbuf_printf(struct strbuf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Gives the text to the caller, who frees it ("" if nothing was added), and leaves the buffer empty. */
char *strbuf_take(struct strbuf *buf) __attribute__((warn_unused_result));

void strbuf_free(struct strbuf *buf);

#endif
