/*
 * How traffic is moved. One vtable per balancer, registered in one table (driver.c). Shares are basis points of the
 * traffic that the canary gets. A policy with several balancers gets one driver for all of them (fleet.c).
 *
 * Rules: `set` is idempotent and returns what it read back from the balancer, never what it asked for. Growing one side
 * comes before shrinking the other, so that there is no moment without a server. Where the balancer keeps a file, the
 * file is durable before the running balancer is changed. Raising the canary needs a canary that is up; lowering it is
 * never blocked but by a newer epoch, with one exception: when no stable server is up and the canary is, 0 would be an
 * outage, and the share stays (DRIVER_UNHEALTHY).
 *
 * Fencing. Each rollout has an epoch, one more than the balancer showed when it began. An order is refused
 * (DRIVER_FENCED) when the balancer holds a newer one, so that an engine that was thought dead cannot undo what came
 * after it. The first order of a rollout *claims* the split: it is refused also when the balancer holds this very
 * epoch, so that of two engines that begin at once only one does. An order by hand carries no epoch and leaves the
 * balancer's.
 *
 * Lease. An order may end by itself: after `lease_ms` the balancer gives all traffic to stable, whoever lives then. The
 * time is the balancer's own, asked for with every order, so that its clock need not agree with ours. It never ends
 * later than asked, and at most a second earlier. DRIVER_LEASE says whether the balancer can do this.
 *
 * Saved. Where the balancer keeps its share in a file that cannot be written, a driver may refuse a raise. What comes
 * into force all the same is DRIVER_OK with `unsaved`. The same order again tries to write the file again, and
 * `unsaved` is false once that worked. Where there is no file to write, nothing is `unsaved`.
 *
 * none moves nothing and knows nothing: `set` is DRIVER_OK with the share that was asked for and a `detail` that asks a
 * person to move the traffic; `get` and `counters` are DRIVER_UNSUPPORTED, and the caller's record of the last `set` is
 * the truth, also for another process. Its `capabilities` are 0.
 */
#ifndef HALDANE_TRAFFIC_DRIVER_H
#define HALDANE_TRAFFIC_DRIVER_H

#include "analyzer/model/balancer.h"
#include "base/error.h"
#include "policies/policy.h"

enum driver_status {
    DRIVER_OK = 0,
    DRIVER_UNREACHABLE = 10, /* no answer from the balancer: the share is unknown, not changed */
    DRIVER_REFUSED = 11,     /* the balancer says no, or the configuration does not fit */
    DRIVER_FENCED = 12,      /* somebody with a newer epoch owns the split; nothing was changed */
    DRIVER_MISMATCH = 13,    /* read back something else than was set, or the balancers of a fleet differ */
    DRIVER_UNHEALTHY = 14,   /* the side that would get the traffic is not up */
    DRIVER_UNSUPPORTED = 15,
    DRIVER_TIMEOUT = 16, /* no answer within the deadline: the share is unknown */
};

enum driver_capability {
    DRIVER_READBACK = 1 << 0,
    DRIVER_COUNTERS = 1 << 1,
    DRIVER_LEASE = 1 << 2,   /* the balancer returns to stable by itself when the lease runs out */
    DRIVER_PERSIST = 1 << 3, /* the share survives a restart of the balancer */
    DRIVER_CAS = 1 << 4,     /* the balancer holds the epoch: engines on other machines are fenced too */
    DRIVER_DRAIN = 1 << 5,
    DRIVER_NO_RELOAD = 1 << 6,
};

/* By bit: "readback", "counters", "lease", "persist", "cas", "drain", "no_reload". */
enum { DRIVER_CAPABILITIES = 7 };
extern const char *const driver_capability_names[DRIVER_CAPABILITIES];

struct driver_order {
    uint32_t share_bp;
    uint64_t epoch;   /* of the rollout; 0: by hand */
    bool claim;       /* the first order of a rollout; needs an epoch */
    int64_t lease_ms; /* 0: stays until the next order */
};

struct driver_state {
    uint32_t share_bp;     /* of the canary, in force: 0 also after the lease has run out */
    uint64_t epoch;        /* the newest that the balancer has seen; 0 where it cannot hold one */
    uint64_t generation;   /* another number after the balancer was restarted or reloaded; 0: it does not tell */
    bool lease_over;       /* the balancer has returned to stable by itself */
    int64_t lease_left_ms; /* by the balancer's clock; -1: no lease */
    uint32_t up[TRACKS];   /* servers that are up; 0 also where it is not known (see `health_known`) */
    bool health_known;     /* every server of both tracks has a health check, and the balancer tells */
    bool unsaved; /* in force, but a restart or reload of the balancer would bring another share: see `detail` */
    uint32_t capabilities;
    char detail[256]; /* for a person: "stable1 95, canary1 5" */
};

/* One thing that `traffic check` found in the balancer's configuration. */
struct driver_finding {
    bool wrong; /* a rollout is refused, or its traffic would be lost; else a weakness worth knowing */
    char *text; /* owned; what, where and the mend */
};

struct driver_report {
    struct driver_finding *findings;
    size_t count, room;
};

struct driver; /* one open balancer, or several */

/* The balancers that the policy names. NULL with `err` if its keys do not fit. Contacts nobody. */
struct driver *driver_open(const struct policy_traffic *traffic, struct error *err);
void driver_close(struct driver *driver);
const char *driver_name(const struct driver *driver);

/*
 * All of them ask the balancer itself, never a cache, with a deadline of 10 s (of several balancers: fleet.h). On
 * anything but DRIVER_OK `err` says what, where and the mend (code ERROR_UNAVAILABLE; ERROR_DATA for DRIVER_REFUSED;
 * ERROR_BUSY for DRIVER_FENCED). `got` is zero then, or, if the balancer could be looked at (`capabilities` is not 0),
 * what was seen last.
 */
enum driver_status driver_get(struct driver *driver, struct driver_state *got, struct error *err);
enum driver_status driver_set(struct driver *driver, const struct driver_order *order, struct driver_state *got,
                              struct error *err);
enum driver_status driver_counters(struct driver *driver, struct balancer_counters *got, struct error *err);

/*
 * Waits until no request is in flight at the servers of a track that has no share, so that they can be stopped; at most
 * `deadline_ms`. `in_flight` is how many are left: DRIVER_TIMEOUT if there are any. DRIVER_REFUSED if the track still
 * has traffic coming.
 */
enum driver_status driver_drain(struct driver *driver, enum track track, int64_t deadline_ms, uint64_t *in_flight,
                                struct error *err);

/*
 * Looks through the balancer's configuration, as far as the balancer shows it, for what would refuse a rollout or lose
 * requests. DRIVER_OK if that could be done, whatever was found. The caller frees the report, also on failure.
 */
enum driver_status driver_check(struct driver *driver, struct driver_report *report, struct error *err);
void driver_report_free(struct driver_report *report);

/* Adds a finding. */
void driver_find(struct driver_report *report, bool wrong, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * DRIVER_OK if the balancer's granularity allows a share, as far as the policy alone tells; else DRIVER_REFUSED, and
 * `err` names the nearest share that it can give. Contacts nobody: `set` may still be refused for another reason.
 */
enum driver_status driver_can_give(const struct driver *driver, uint32_t share_bp, struct error *err);

/* Whether a share that was read back is near enough to one that was asked for to be it (weights_tolerance()). */
bool driver_is_share(uint32_t got_bp, uint32_t asked_bp);

#endif
