/*
 * What a balancer's driver brings. Its `open` copies what it needs of the policy. The operations mean what
 * analyzer/traffic/driver.h says of driver_get() and its sisters, with these given: `got` is zeroed, `err` is there,
 * `share_bp` is at most 10000. A driver without an operation leaves it NULL: DRIVER_UNSUPPORTED.
 */
#ifndef HALDANE_TRAFFIC_OPS_H
#define HALDANE_TRAFFIC_OPS_H

#include "analyzer/traffic/driver.h"

enum { DRIVER_DEADLINE_MS = 10000 };

struct driver_ops {
    const char *name;
    void *(*open)(const struct policy_traffic *traffic, struct error *err);
    void (*close)(void *self);
    enum driver_status (*get)(void *self, struct driver_state *got, struct error *err);
    enum driver_status (*set)(void *self, uint32_t share_bp, struct driver_state *got, struct error *err);
    enum driver_status (*counters)(void *self, struct driver_counters *got, struct error *err);
};

extern const struct driver_ops haproxy_ops;
extern const struct driver_ops none_ops;

/* Sets `err` with the code that belongs to `status`, and returns `status`. */
enum driver_status driver_fail(struct error *err, enum driver_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
