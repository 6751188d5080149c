/*
 * Increments of a counter from its raw samples. A counter only grows; a value below the one before it is a restart,
 * after which it counted from 0 (the rule of Prometheus's rate(), without its extrapolation).
 */
#ifndef HALDANE_STATS_COUNTER_H
#define HALDANE_STATS_COUNTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * increments[i], i < n - 1: the increase from values[i] to values[i + 1], which is values[i + 1] itself after a restart
 * and the difference else. Nothing is written for n < 2.
 *
 * `reset[i]` (reset may be NULL; n - 1 entries) forces a restart between i and i + 1. Pass it when another series of
 * the same target fell there: one bucket may pass its old value although the process restarted.
 */
void counter_increments(const uint64_t values[], const bool reset[], size_t n, uint64_t increments[]);

#endif
