/*
 * The share page: what a web server shows of the split that it has in force, and the same text in the file that the
 * split comes from. One object, as in {"share_bp":500,"epoch":42,"generation":7}.
 */
#ifndef HALDANE_TRAFFIC_PROBE_H
#define HALDANE_TRAFFIC_PROBE_H

#include "analyzer/traffic/driver.h"

#include <stddef.h>
#include <stdint.h>

struct share_page {
    uint32_t share_bp;
    uint64_t epoch;      /* 0: no rollout yet */
    uint64_t generation; /* one more with each change */
};

/* Without a newline; the caller frees it. */
char *share_page_text(const struct share_page *page);

/* The whole of `text` must be one, but for white space around it and members that we do not know. */
bool share_page_parse(const char *text, size_t length, const char *what, struct share_page *page, struct error *err);

bool share_page_equal(const struct share_page *a, const struct share_page *b);

/*
 * Asks for the page at `url` over HTTP or HTTPS, on a new connection, without a proxy and without following to another
 * page. `*there` is false if the server answered 404: there is no such file. DRIVER_TIMEOUT after `deadline_ms` of
 * driver_clock_ms(), DRIVER_UNREACHABLE if there is no answer or one of 5xx, DRIVER_REFUSED if the answer is no such
 * page.
 */
enum driver_status probe_ask(const char *url, int64_t deadline_ms, struct share_page *page, bool *there,
                             struct error *err);

#endif
