/* Increments of a counter from its raw samples. A value below the one before it is a restart: it counts from 0. */
#ifndef HALDANE_STATS_COUNTER_H
#define HALDANE_STATS_COUNTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* increments[i] = increase from values[i] to values[i+1], for n values n-1 of them. `reset[i]` (may be NULL) forces a
 * restart between i and i+1: another series of the same target fell there. */
void counter_increments(const uint64_t values[], const bool reset[], size_t n, uint64_t increments[]);

#endif
