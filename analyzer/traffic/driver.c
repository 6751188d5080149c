/* The table of drivers, the checks that all of them need, and what they share. */
#include "analyzer/traffic/driver.h"

#include "analyzer/traffic/fleet.h"
#include "analyzer/traffic/ops.h"
#include "analyzer/traffic/weights.h"
#include "base/memory.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct driver {
    struct fleet fleet;
};

const char *const driver_capability_names[DRIVER_CAPABILITIES] = {"readback", "counters", "lease",    "persist",
                                                                  "cas",      "drain",    "no_reload"};

static const struct driver_ops *ops_for(enum driver_kind kind, const struct policy_balancer *balancer)
{
    switch (kind) {
    case DRIVER_NONE:
        return &none_ops;
    case DRIVER_HAPROXY:
        return balancer->map ? &haproxy_map_ops : &haproxy_weights_ops;
    case DRIVER_NGINX:
        return balancer->split ? &nginx_split_ops : &flags_nginx_ops;
    case DRIVER_CADDY:
        return &flags_caddy_ops;
    case DRIVER_EXEC:
        return &exec_ops;
    }
    return NULL;
}

int64_t driver_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

enum driver_status driver_fail(struct error *err, enum driver_status status, const char *format, ...)
{
    char text[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    error_set(err,
              status == DRIVER_REFUSED  ? ERROR_DATA
              : status == DRIVER_FENCED ? ERROR_BUSY
                                        : ERROR_UNAVAILABLE,
              "%s", text);
    return status;
}

enum driver_status driver_fence(const struct driver_order *order, uint64_t held, const char *where, struct error *err)
{
    if (order->epoch == 0 || order->epoch > held || (order->epoch == held && !order->claim))
        return DRIVER_OK;
    return driver_fail(err, DRIVER_FENCED,
                       "%s belongs to another rollout: it holds epoch %llu, and this one has %llu; another haldane "
                       "began there, so this one leaves the split alone",
                       where, (unsigned long long)held, (unsigned long long)order->epoch);
}

uint64_t driver_epoch_after(const struct driver_order *order, uint64_t held)
{
    return order->epoch > held ? order->epoch : held;
}

void driver_find(struct driver_report *report, bool wrong, const char *format, ...)
{
    struct error text;
    va_list args;
    va_start(args, format);
    vsnprintf(text.text, sizeof text.text, format, args);
    va_end(args);
    report->findings = mem_grow(report->findings, report->count, &report->room, sizeof *report->findings);
    report->findings[report->count++] = (struct driver_finding){wrong, mem_strdup(text.text)};
}

void driver_report_free(struct driver_report *report)
{
    for (size_t i = 0; i < report->count; i++)
        free(report->findings[i].text);
    free(report->findings);
    *report = (struct driver_report){0};
}

bool driver_is_share(uint32_t got_bp, uint32_t asked_bp)
{
    return fabs((double)got_bp - asked_bp) <= weights_tolerance(asked_bp);
}

/* Drivers may rely on an error to write to. */
static struct error *error_or(struct error *err, struct error *spare)
{
    return err ? err : spare;
}

/* `none` has no balancer, and is one. */
static size_t member_count(const struct policy_traffic *traffic)
{
    return traffic->driver == DRIVER_NONE ? 1 : traffic->balancer_count;
}

struct driver *driver_open(const struct policy_traffic *traffic, struct error *err)
{
    static const struct policy_balancer nothing = {0};
    struct error spare;
    struct driver *driver = mem_alloc(1, sizeof *driver);
    driver->fleet.members = mem_alloc(member_count(traffic), sizeof *driver->fleet.members);
    for (size_t i = 0; i < member_count(traffic); i++) {
        const struct policy_balancer *balancer = traffic->driver == DRIVER_NONE ? &nothing : &traffic->balancers[i];
        const struct driver_ops *ops = ops_for(traffic->driver, balancer);
        void *self = ops->open(balancer, error_or(err, &spare));
        if (!self) {
            driver_close(driver);
            return NULL;
        }
        driver->fleet.members[driver->fleet.count++] = (struct fleet_member){ops, self, fleet_where(balancer)};
    }
    return driver;
}

void driver_close(struct driver *driver)
{
    if (!driver)
        return;
    for (size_t i = 0; i < driver->fleet.count; i++) {
        driver->fleet.members[i].ops->close(driver->fleet.members[i].self);
        free(driver->fleet.members[i].where);
    }
    free(driver->fleet.members);
    free(driver);
}

const char *driver_name(const struct driver *driver)
{
    return driver->fleet.members[0].ops->name;
}

static enum driver_status unsupported(const struct driver *driver, const char *what, struct error *err)
{
    return driver_fail(err, DRIVER_UNSUPPORTED, "the traffic driver %s cannot tell %s", driver_name(driver), what);
}

static const struct driver_ops *first_ops(const struct driver *driver)
{
    return driver->fleet.members[0].ops;
}

static const struct driver_state unknown = {.lease_left_ms = -1};

enum driver_status driver_get(struct driver *driver, struct driver_state *got, struct error *err)
{
    *got = unknown;
    if (!first_ops(driver)->get)
        return unsupported(driver, "the share in force: the last one recorded is all that is known", err);
    struct error spare;
    return fleet_get(&driver->fleet, got, error_or(err, &spare));
}

static enum driver_status too_much(uint32_t share_bp, struct error *err)
{
    return driver_fail(err, DRIVER_REFUSED, "a share of %u basis points is more than all traffic (10000)", share_bp);
}

enum driver_status driver_set(struct driver *driver, const struct driver_order *order, struct driver_state *got,
                              struct error *err)
{
    *got = unknown;
    if (order->share_bp > BASIS_POINTS)
        return too_much(order->share_bp, err);
    struct error spare;
    return fleet_set(&driver->fleet, order, got, error_or(err, &spare));
}

enum driver_status driver_can_give(const struct driver *driver, uint32_t share_bp, struct error *err)
{
    if (share_bp > BASIS_POINTS)
        return too_much(share_bp, err);
    struct error spare;
    return fleet_can_give(&driver->fleet, share_bp, error_or(err, &spare));
}

enum driver_status driver_counters(struct driver *driver, struct balancer_counters *got, struct error *err)
{
    *got = (struct balancer_counters){0};
    if (!first_ops(driver)->counters)
        return unsupported(driver, "request counts", err);
    struct error spare;
    return fleet_counters(&driver->fleet, got, error_or(err, &spare));
}

enum driver_status driver_drain(struct driver *driver, enum track track, int64_t deadline_ms, uint64_t *in_flight,
                                struct error *err)
{
    *in_flight = 0;
    if (!first_ops(driver)->drain)
        return unsupported(driver, "which requests are in flight", err);
    struct error spare;
    return fleet_drain(&driver->fleet, track, deadline_ms, in_flight, error_or(err, &spare));
}

enum driver_status driver_check(struct driver *driver, struct driver_report *report, struct error *err)
{
    *report = (struct driver_report){0};
    if (!first_ops(driver)->check)
        return unsupported(driver, "how it is configured", err);
    struct error spare;
    return fleet_check(&driver->fleet, report, error_or(err, &spare));
}
