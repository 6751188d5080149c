/*
 * The two thinned counts that FLIP bets on: the laws of O and J of stats/flip.h, as they follow from a look's counts.
 * Internal to stats/ and to the comparison of bets in tests/bench.
 */
#ifndef HALDANE_STATS_THIN_H
#define HALDANE_STATS_THIN_H

#include <stdbool.h>

#include "stats/cells.h"
#include "stats/flip.h"

struct thinned {
    struct spread o, j;
};

/*
 * Where a law on wide cells is thinned once more, its cells stand for the end that makes e smaller: O low and J high
 * for an abort, the reverse for non-inferiority. Both n above 0, the arguments in flip_log_e()'s domain. False if a law
 * needs more room than a spread has, which only GRID_UNIT can.
 */
bool thin_arms(struct thinned *to, enum grid grid, const struct flip_counts *counts, const struct flip_null *null);

#endif
