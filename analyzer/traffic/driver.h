/*
 * How traffic is moved. One vtable per balancer, registered in one table (driver.c). Shares are basis points of the
 * traffic that the canary gets.
 *
 * Rules: `set` is idempotent and returns what it read back from the balancer, never what it asked for. Growing one side
 * comes before shrinking the other, so that there is no moment without a server. Raising the canary needs a canary that
 * is up; lowering it is never blocked, with one exception: when no stable server is up and the canary is, 0 would be an
 * outage, and the share stays (DRIVER_UNHEALTHY).
 *
 * haproxy moves server weights over the runtime API (docs/traffic.md). The share is the one that the weights intend,
 * whether or not the servers are up; `up` tells their health. A share whose weights are not exact is taken if it is
 * near enough (weights_tolerance() in weights.h), and `got` then holds the one that is in force.
 *
 * none moves nothing and knows nothing: `set` is DRIVER_OK with the share that was asked for and a `detail` that asks a
 * person to move the traffic; `get` and `counters` are DRIVER_UNSUPPORTED, and the caller's record of the last `set` is
 * the truth, also for another process. Its `capabilities` are 0.
 */
#ifndef HALDANE_TRAFFIC_DRIVER_H
#define HALDANE_TRAFFIC_DRIVER_H

#include "base/error.h"
#include "policies/policy.h"

enum driver_status {
    DRIVER_OK = 0,
    DRIVER_UNREACHABLE = 10, /* no answer from the balancer: the share is unknown, not changed */
    DRIVER_REFUSED = 11,     /* the balancer says no, or the configuration does not fit */
    DRIVER_FENCED = 12,      /* somebody with a newer epoch owns the split */
    DRIVER_MISMATCH = 13,    /* read back something else than was set */
    DRIVER_UNHEALTHY = 14,   /* the side that would get the traffic is not up */
    DRIVER_UNSUPPORTED = 15,
    DRIVER_TIMEOUT = 16, /* no answer within the deadline: the share is unknown */
};

enum driver_capability {
    DRIVER_READBACK = 1 << 0,
    DRIVER_COUNTERS = 1 << 1,
    DRIVER_LEASE = 1 << 2, /* the balancer returns to stable by itself when `expires` passes */
    DRIVER_PERSIST = 1 << 3,
    DRIVER_CAS = 1 << 4,
    DRIVER_DRAIN = 1 << 5,
    DRIVER_NO_RELOAD = 1 << 6,
};

struct driver_state {
    uint32_t share_bp;   /* of the canary, from the weights in force */
    uint64_t epoch;      /* fencing; 0 where the balancer cannot hold one */
    int64_t expires;     /* Unix seconds; 0 where the balancer cannot hold it */
    uint32_t up[TRACKS]; /* servers that are up; 0 also where it is not known (see `health_known`) */
    bool health_known;   /* haproxy: every server of both tracks has a health check */
    uint32_t capabilities;
    char detail[256]; /* for a person: "stable1 95, canary1 5" */
};

struct driver_counters {
    uint64_t generation; /* changes when the balancer restarted: never subtract across it */
    uint64_t total[TRACKS], failed[TRACKS];
    uint64_t connection_errors, retries, in_flight; /* of the canary */
};

struct driver; /* one open balancer */

/* The balancer that the policy names. NULL with `err` if its keys do not fit. Contacts nobody. */
struct driver *driver_open(const struct policy_traffic *traffic, struct error *err);
void driver_close(struct driver *driver);
const char *driver_name(const struct driver *driver);

/*
 * All of them ask the balancer itself, never a cache, with a deadline of 10 s in all. On anything but DRIVER_OK `err`
 * says what, where and the mend (code ERROR_UNAVAILABLE, or ERROR_DATA for DRIVER_REFUSED). `got` is zero then, or, if
 * the balancer could be looked at (`capabilities` is not 0), what was seen last.
 */
enum driver_status driver_get(struct driver *driver, struct driver_state *got, struct error *err);
enum driver_status driver_set(struct driver *driver, uint32_t share_bp, struct driver_state *got, struct error *err);
enum driver_status driver_counters(struct driver *driver, struct driver_counters *got, struct error *err);

#endif
