/*
 * Which integer weights give the canary its share, and in which order they are changed. Pure arithmetic: no balancer,
 * no text.
 *
 * HAProxy's weights are whole numbers from 0 to 256, and all servers of a track get the same one. With n servers a
 * track and weights w, the canary's share is n_c*w_c / (n_c*w_c + n_s*w_s).
 */
#ifndef HALDANE_TRAFFIC_WEIGHTS_H
#define HALDANE_TRAFFIC_WEIGHTS_H

#include "policies/policy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEIGHT_MAX = 256, WEIGHT_DEFAULT = 100 };

struct weight_pair {
    uint32_t stable, canary; /* of each server of the track */
};

/*
 * The smallest weights that give exactly `share_bp`, 0 < share_bp < 10000; if there are none up to 256, those that come
 * nearest. `share` (basis points, a fraction is possible) is what they give. False if that is further away than
 * weights_tolerance(). Both counts at least 1.
 */
bool weights_pair(uint32_t share_bp, size_t stable_servers, size_t canary_servers, struct weight_pair *pair,
                  double *share);

/*
 * How far the share may be from what was asked, in basis points: 10 bp or 0.5 % of the share, whichever is larger, but
 * never more than a tenth of the smaller side, so that "0.1 %" does not become 0.2 %.
 */
double weights_tolerance(uint32_t share_bp);

struct weight_server {
    enum track track;
    uint32_t initial; /* of the balancer's configuration */
    uint32_t from;    /* in force now */
    uint32_t to;      /* set by weights_choose() */
};

/* The share of the weights in force (`from`), rounded; 0 and 10000 only if one side has no weight at all. */
uint32_t weights_share(const struct weight_server *servers, size_t count);

/*
 * Fills in `to` for every server. Between 0 and 100 %: the multiple of weights_pair() that can be reached with the
 * smallest dip of the canary's share on the way (weights_order); of several, the one whose larger weight is nearest
 * 100. At 0 every stable server gets its initial weight (another's, or 100, if that is 0); at 100 % every canary server
 * the largest of the track's initial weights (or 100) and the weights in force. False if the share cannot be had;
 * `share` then is the nearest one. Each track has at least one server.
 */
bool weights_choose(struct weight_server *servers, size_t count, uint32_t share_bp, double *share);

/* True if going from `from` to `to` gives the canary more than it has. */
bool weights_raise(const struct weight_server *servers, size_t count);

/*
 * The changes, one server each, in an order in which some server always has weight and the canary's share never exceeds
 * the larger of the old and the new one: raise stable, lower canary, raise canary, lower stable. Writes the indexes of
 * the servers to change, at most `count`, and returns how many there are.
 */
size_t weights_order(const struct weight_server *servers, size_t count, size_t *order);

#endif
