/*
 * Names to addresses without keeping the loop waiting. A name server that does not answer costs seconds, and both
 * client libraries would ask it while connecting.
 */
#ifndef HALDANE_COMPOSE_SHOP_RESOLVE_H
#define HALDANE_COMPOSE_SHOP_RESOLVE_H

#include "base/error.h"

#include <netinet/in.h>

struct resolve;

enum { RESOLVE_ADDRESS = INET6_ADDRSTRLEN };

/* Begins to look a name up; a numeric address is ready at once. */
struct resolve *resolve_begin(const char *host);

/* Readable when the answer is there. */
int resolve_fd(const struct resolve *resolve);

/*
 * Takes the answer and frees `resolve`. A name with several addresses gives another one at each `attempt` (0, 1, ...).
 * False and ERROR_UNAVAILABLE if there is none.
 */
bool resolve_end(struct resolve *resolve, unsigned attempt, char address[RESOLVE_ADDRESS], struct error *err);

/* Frees it without waiting for the answer. NULL is allowed. */
void resolve_abandon(struct resolve *resolve);

#endif
