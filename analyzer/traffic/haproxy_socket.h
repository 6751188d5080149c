/*
 * One command to HAProxy's runtime API, one connection. The address is the path of a Unix socket (it contains a slash)
 * or HOST:PORT, an IPv6 host in brackets. Source: HAProxy's management guide, "Unix Socket commands".
 */
#ifndef HALDANE_TRAFFIC_HAPROXY_SOCKET_H
#define HALDANE_TRAFFIC_HAPROXY_SOCKET_H

#include "analyzer/traffic/driver.h"

#include <stdint.h>

enum { HAPROXY_ANSWER_MAX = 4 << 20 };

/* Whether `address` can be one at all. Contacts nobody. */
bool haproxy_address_check(const char *address, struct error *err);

/* Monotonic milliseconds, the clock of `deadline_ms` below. */
int64_t haproxy_clock_ms(void);

/*
 * Sends `command` (without a newline) and reads the whole answer. The caller frees `*answer`; the empty line that ends
 * every answer is taken off, so the answer to a `set` that succeeded is "". DRIVER_UNREACHABLE if nobody listens or the
 * answer is cut off, empty or larger than HAPROXY_ANSWER_MAX; DRIVER_TIMEOUT after `deadline_ms`. A socket that is not
 * there, or that nobody listens on, is tried three times more within 2 s, for a reload may be going on.
 */
enum driver_status haproxy_ask(const char *address, int64_t deadline_ms, const char *command, char **answer,
                               struct error *err);

#endif
