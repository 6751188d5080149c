/* The content policy forbids what the page does not have: scripts, and anything from another place. */
#include "analyzer/report/page.h"

#include "analyzer/report/escape.h"
#include "analyzer/report/style.h"

void page_open(struct strbuf *out, const char *title, const char *style)
{
    strbuf_puts(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
                     "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
                     "'unsafe-inline'\"/>\n"
                     "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
                     "<meta name=\"referrer\" content=\"no-referrer\"/>\n<title>");
    put_html(out, title);
    strbuf_puts(out, "</title>\n<style>\n");
    for (const char *const *line = report_style; *line; line++)
        strbuf_puts(out, *line);
    if (style)
        strbuf_puts(out, style);
    strbuf_puts(out, "</style>\n</head>\n<body>\n<main>\n");
}

void page_close(struct strbuf *out, const char *foot)
{
    strbuf_puts(out, "</main>\n<footer>\n<p>haldane " HALDANE_VERSION);
    if (foot) {
        strbuf_puts(out, " · ");
        put_html(out, foot);
    }
    strbuf_puts(out, "</p>\n</footer>\n</body>\n</html>\n");
}
