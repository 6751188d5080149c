/* What the shop needs and can be without for a while: whether it is there, since when, and when to try it again. */
#ifndef HALDANE_COMPOSE_SHOP_DEPENDENCY_H
#define HALDANE_COMPOSE_SHOP_DEPENDENCY_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct dependency {
    const char *name; /* "database", "cache" */
    bool up;
    bool was_up;      /* at least once */
    int64_t since_ms; /* Unix time of the last change; at first that of the start */
    char told[256];   /* what stderr was told last: the same is not said twice in a row */
};

/* Down at first. */
void dependency_init(struct dependency *dependency, const char *name);

void dependency_up(struct dependency *dependency);

/* `why` is a sentence of a library; its first line is told on stderr. */
void dependency_down(struct dependency *dependency, const char *why);

/* Tells a fault that does not mean that the dependency is down. */
void dependency_tell(struct dependency *dependency, const char *fault);

/*
 * How long to wait after so many failures in a row: 100 ms, doubled each time up to 2 s, of that the half to the whole
 * by lot, so that many shops do not come back in step.
 */
int64_t backoff_ns(unsigned failures);

/*
 * A password from a file: its first line. Read for each connection, so that it can be changed without a restart. The
 * caller frees it. NULL and ERROR_NO_INPUT if it cannot be read or is empty.
 */
char *secret_read(const char *path, struct error *err);

#endif
