/*
 * What a balancer counts for itself: requests that it sent, and what it does that clients never see. Plain data, filled
 * by a driver and kept in the evidence.
 */
#ifndef HALDANE_MODEL_BALANCER_H
#define HALDANE_MODEL_BALANCER_H

#include "policies/policy.h"

/* Over the servers of one track, since the balancer's process began. */
struct balancer_arm {
    uint64_t total;             /* requests that it sent to them */
    uint64_t failed;            /* of these, those that were answered with 5xx, or not at all */
    uint64_t connection_errors; /* a server did not take the connection */
    uint64_t retries;           /* sent again to the same server */
    uint64_t redispatches;      /* sent again to another server */
    uint64_t health_changes;    /* times that a server was seen to go down or to come up */
    uint64_t in_flight;         /* now */
    uint32_t up, servers;       /* now */
};

struct balancer_counters {
    int64_t at_ms;       /* when they were read; a driver leaves it 0 */
    uint64_t generation; /* another number after the balancer was restarted or reloaded: never subtract across it */
    struct balancer_arm arms[TRACKS];
};

/*
 * A sample of generation 0, with all counts 0, says that the balancer was asked and did not answer. Nothing is known of
 * that time, and the next sample is a new base. It is kept so that a replay finds the same gap as the judge did.
 */
static inline bool balancer_answered(const struct balancer_counters *counters)
{
    return counters->generation != 0;
}

#endif
