/*
 * The guard: watches the leases of rollouts that somebody else advances. When nobody renews one, because a process was
 * killed, a machine was frozen or a script was interrupted, it takes the rollout and returns traffic to stable, as a
 * router does with a change that nobody confirms. Whoever still holds the rollout and does nothing is killed first, so
 * that it cannot wake up and move traffic again.
 *
 * It needs the store and the balancer, and no Prometheus. Where the balancer ends the lease by itself, it only records
 * it.
 */
#ifndef HALDANE_SERVICE_GUARD_H
#define HALDANE_SERVICE_GUARD_H

#include "analyzer/store/store.h"
#include "base/error.h"

#include <sys/types.h>

struct guard_watch; /* one rollout, as it was last seen */

struct guard {
    struct store *store;         /* borrowed */
    int64_t (*now_ms)(void);     /* Unix milliseconds */
    int64_t (*elapsed_ms)(void); /* a clock that nobody sets */
    const char *only;            /* the rollout to watch; NULL: all of the store */
    int64_t over_ms;             /* a lease that was seen to run out before this guard came: its end by the record */

    /*
     * Has another process see to a rollout whose lease has run out, so that a balancer that hangs keeps no other
     * rollout waiting: a guard of this rollout alone, with that `over_ms`. Its pid, a child of this process; 0 with
     * `err`. NULL, or 0: the guard sees to it itself.
     */
    pid_t (*delegate)(const char *rollout_id, int64_t over_ms, struct error *err);

    /* Says what was done or could not be done, one sentence at a time: of a rollout, or of "guard" itself. `grave`:
     * somebody must look. */
    void (*tell)(const char *rollout_id, bool grave, const char *text);

    struct guard_watch *watches; /* the guard's own; zero at first, guard_clear() frees them */
    size_t watch_count, watch_room;
};

/*
 * One look at every rollout under way. `*watched` is how many there are, `*wait_ms` how long until the first of their
 * leases runs out; INT64_MAX without any that this process has to see to, 0 for one that has run out and could not be
 * ended. False with `err` if the store cannot be read; what fails for one rollout is told and keeps no other one
 * waiting.
 */
bool guard_pass(struct guard *guard, size_t *watched, int64_t *wait_ms, struct error *err);

/* How many of the processes that `delegate` started have not ended yet. */
size_t guard_helpers(struct guard *guard);
/* Frees the watches. What `delegate` started goes on. */
void guard_clear(struct guard *guard);

#endif
