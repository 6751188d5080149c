/*
 * No balancer: haldane judges, and a person or another tool moves the traffic. There is nothing to read back, so `get`
 * is left out and the caller's own record of the last `set` stands; memory of this process would be wrong as soon as
 * the next `haldane advance` is another process.
 */
#include "analyzer/traffic/ops.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>

static void *none_open(const struct policy_balancer *balancer, struct error *err)
{
    (void)balancer;
    (void)err;
    return mem_alloc(1, 1);
}

static enum driver_status none_set(void *self, const struct driver_order *order, struct driver_state *got,
                                   struct error *err)
{
    (void)self;
    (void)err;
    got->share_bp = order->share_bp;
    snprintf(got->detail, sizeof got->detail, "no balancer: move traffic by hand, %.4g %% to the canary",
             order->share_bp / 100.0);
    return DRIVER_OK;
}

const struct driver_ops none_ops = {.name = "none", .open = none_open, .close = free, .set = none_set};
