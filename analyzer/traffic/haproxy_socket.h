/*
 * One command to HAProxy's runtime API, one connection. The address is the path of a Unix socket (it contains a slash)
 * or HOST:PORT, an IPv6 host in brackets. Source: HAProxy's management guide, "Unix Socket commands".
 */
#ifndef HALDANE_TRAFFIC_HAPROXY_SOCKET_H
#define HALDANE_TRAFFIC_HAPROXY_SOCKET_H

#include "analyzer/traffic/driver.h"

#include <stdint.h>

enum { HAPROXY_ANSWER_MAX = 4 << 20 };

/* Whether `address`, the policy's traffic.KEY, can be one at all. Contacts nobody. */
bool haproxy_address_check(const char *key, const char *address, struct error *err);

/* Whether somebody listens there now. Waits for nobody. */
bool haproxy_listens(const char *address);

/*
 * Sends `command` (without a newline; several are parted by "; ") and reads the whole answer. The caller frees
 * `*answer`; the empty line that ends every answer is taken off, so the answer to a `set` that succeeded is "".
 * DRIVER_UNREACHABLE if nobody listens or the answer is cut off, empty or larger than HAPROXY_ANSWER_MAX;
 * DRIVER_TIMEOUT after `deadline_ms` of driver_clock_ms(). A socket that is not there, or that nobody listens on, is
 * tried three times more within 2 s, for a reload may be going on.
 *
 * `master` is the master process's socket, or NULL. It is asked, with the prefix `@1` for the worker of today, whenever
 * `address` is not there: a file that a cleaner has deleted comes back only with a restart.
 */
enum driver_status haproxy_ask(const char *address, const char *master, int64_t deadline_ms, const char *command,
                               char **answer, struct error *err);

#endif
