/*
 * What a balancer's driver brings. Its `open` copies what it needs of the policy. The operations mean what
 * analyzer/traffic/driver.h says of driver_get() and its sisters, with these given: `got` is zeroed (`lease_left_ms`
 * is -1), `err` is there, the order's share is at most 10000, its lease not negative, and a claim has an epoch. A
 * driver without an operation leaves it NULL: DRIVER_UNSUPPORTED. Without `can_give` it can give any share.
 */
#ifndef HALDANE_TRAFFIC_OPS_H
#define HALDANE_TRAFFIC_OPS_H

#include "analyzer/traffic/driver.h"

enum { DRIVER_DEADLINE_MS = 10000 };

struct driver_ops {
    const char *name;
    void *(*open)(const struct policy_balancer *balancer, struct error *err);
    void (*close)(void *self);
    enum driver_status (*get)(void *self, struct driver_state *got, struct error *err);
    enum driver_status (*set)(void *self, const struct driver_order *order, struct driver_state *got,
                              struct error *err);
    enum driver_status (*counters)(void *self, struct balancer_counters *got, struct error *err);
    enum driver_status (*drain)(void *self, enum track track, int64_t deadline_ms, uint64_t *in_flight,
                                struct error *err);
    enum driver_status (*check)(void *self, struct driver_report *report, struct error *err);
    enum driver_status (*can_give)(const void *self, uint32_t share_bp, struct error *err);
};

extern const struct driver_ops haproxy_weights_ops, haproxy_map_ops;
extern const struct driver_ops flags_nginx_ops, flags_caddy_ops, nginx_split_ops;
extern const struct driver_ops exec_ops;
extern const struct driver_ops none_ops;

/* Sets `err` with the code that belongs to `status`, and returns `status`. */
enum driver_status driver_fail(struct error *err, enum driver_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* DRIVER_OK if `order` may be carried out over a balancer that holds the epoch `held`; else DRIVER_FENCED. */
enum driver_status driver_fence(const struct driver_order *order, uint64_t held, const char *where, struct error *err);

/* The epoch that the balancer holds after `order`. */
uint64_t driver_epoch_after(const struct driver_order *order, uint64_t held);

/* Monotonic milliseconds, for deadlines. */
int64_t driver_clock_ms(void);

#endif
