/*
 * Where a rollout stands beyond its state, by its record alone: what fails, what somebody else did, and whether anybody
 * still looks. Nobody is asked, and whether a guard is there cannot be told from this.
 */
#ifndef HALDANE_REPORT_STANDING_H
#define HALDANE_REPORT_STANDING_H

#include "analyzer/model/rollout.h"
#include "analyzer/model/verdict.h"

enum trouble {
    TROUBLE_NONE,
    TROUBLE_NO_LOOK,    /* every try since `tried_ms` failed */
    TROUBLE_NOT_MOVED,  /* looks are taken, but the step that they prove cannot be taken */
    TROUBLE_NOT_STABLE, /* on its way to stable, which is not proven; without a `failure` no try has failed yet */
    TROUBLE_NOT_SAVED,  /* on stable, but a restart of the balancer would undo that */
};

struct standing {
    enum trouble trouble;
    const struct audit_entry *failure; /* what failed; `at_ms` is when it did for the first time; NULL: nothing */
    const struct audit_entry *drift;   /* since the last look somebody else's split was set right; NULL: none */
    int64_t tried_ms;                  /* the last look or, on the way to stable, the last try */
    bool overdue;                      /* the lease has run out and the record does not go on */
};

/*
 * From the whole audit trail, in order, and the newest verdict (NULL: none). `lease_ms` is by how much a look puts off
 * the lease; 0: not known, then `tried_ms` is the end of the last look. What is returned points into `audit`. A rollout
 * that has ended has no trouble.
 */
struct standing standing_of(const struct rollout *rollout, const struct audit_entry *audit, size_t count,
                            const struct verdict *verdict, int64_t lease_ms, int64_t now_ms);

#endif
