/*
 * Several balancers as one: each operation goes to all of them, and the answer is what holds for all. With one member
 * it is that member's own answer. Members are looked at and lowered at the same time, each with the deadline that it
 * would have alone, and raised one after the other. Errors name the balancer by its number in the policy, from 1, and
 * by what the policy calls it.
 */
#ifndef HALDANE_TRAFFIC_FLEET_H
#define HALDANE_TRAFFIC_FLEET_H

#include "analyzer/traffic/ops.h"

struct fleet_member {
    const struct driver_ops *ops;
    void *self;
    char *where; /* owned; its socket, folder or command, for errors */
};

struct fleet {
    struct fleet_member *members; /* at least one */
    size_t count;
};

/* What the policy calls a balancer: its socket, its folder or file, or its command. The caller frees it. */
char *fleet_where(const struct policy_balancer *balancer);

/* As driver_get() and its sisters in analyzer/traffic/driver.h; what is said here is for several members. */

/*
 * All must answer, and their shares must be one share: there is one that each is near enough to (driver_is_share()),
 * the middle of the lowest and the highest. Else DRIVER_MISMATCH, and the text has each one's share. The epoch is the
 * highest, the lease the shortest, `up` the fewest; a capability is there if all have it. The generation is another
 * number when any member's is, and the share is unsaved when any member's is. `detail` lists each.
 */
enum driver_status fleet_get(const struct fleet *fleet, struct driver_state *got, struct error *err);

/*
 * Looks at all of them first. Those that have as much as asked for, or more, are set before those that have less, and
 * every one of them is tried, whatever the others say. Those that have less are raised one by one, only if all is well
 * so far; when one fails, those raised before it get back what they had, if they let themselves be set, and the text
 * says whether they did. A member that cannot be looked at is tried too, unless another would have to be raised: then
 * nothing is raised. To return to stable (0) every member is tried in any case, and nobody is looked at first.
 *
 * The status is the gravest: fenced, then a side that is not up, a mismatch, a timeout, no answer, a refusal. But on
 * the way to stable fenced is the least grave: it says that somebody else looks after that member, and the caller ends
 * its own rollout. So a fleet that is sent to stable is fenced only if every other member is proven to be there, and
 * saved (DRIVER_REFUSED). The text names each member that is not proven to have what was asked for.
 */
enum driver_status fleet_set(const struct fleet *fleet, const struct driver_order *order, struct driver_state *got,
                             struct error *err);

/* DRIVER_REFUSED with the first member that cannot give this share. */
enum driver_status fleet_can_give(const struct fleet *fleet, uint32_t share_bp, struct error *err);

/* The sums; servers that two balancers know count twice. */
enum driver_status fleet_counters(const struct fleet *fleet, struct balancer_counters *got, struct error *err);

/* All are waited for within the one `deadline_ms`; `in_flight` is the sum. */
enum driver_status fleet_drain(const struct fleet *fleet, enum track track, int64_t deadline_ms, uint64_t *in_flight,
                               struct error *err);

/* Every member is looked at, also after one that fails; each finding begins with its balancer. */
enum driver_status fleet_check(const struct fleet *fleet, struct driver_report *report, struct error *err);

#endif
