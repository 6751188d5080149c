/* The table of drivers, and the checks that all of them need. */
#include "analyzer/traffic/driver.h"

#include "analyzer/traffic/ops.h"
#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct driver {
    const struct driver_ops *ops;
    void *self;
};

static const struct driver_ops *const drivers[] = {
    [DRIVER_NONE] = &none_ops,
    [DRIVER_HAPROXY] = &haproxy_ops,
};

enum driver_status driver_fail(struct error *err, enum driver_status status, const char *format, ...)
{
    char text[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    error_set(err, status == DRIVER_REFUSED ? ERROR_DATA : ERROR_UNAVAILABLE, "%s", text);
    return status;
}

/* Drivers may rely on an error to write to. */
static struct error *error_or(struct error *err, struct error *spare)
{
    return err ? err : spare;
}

struct driver *driver_open(const struct policy_traffic *traffic, struct error *err)
{
    size_t kind = (size_t)traffic->driver;
    if (kind >= sizeof drivers / sizeof drivers[0]) {
        error_set(err, ERROR_DATA, "traffic.driver: there is no driver of kind %zu", kind);
        return NULL;
    }
    struct error spare;
    void *self = drivers[kind]->open(traffic, error_or(err, &spare));
    if (!self)
        return NULL;
    struct driver *driver = mem_alloc(1, sizeof *driver);
    *driver = (struct driver){.ops = drivers[kind], .self = self};
    return driver;
}

void driver_close(struct driver *driver)
{
    if (!driver)
        return;
    driver->ops->close(driver->self);
    free(driver);
}

const char *driver_name(const struct driver *driver)
{
    return driver->ops->name;
}

static enum driver_status unsupported(const struct driver *driver, const char *what, struct error *err)
{
    return driver_fail(err, DRIVER_UNSUPPORTED, "the traffic driver %s cannot tell %s", driver->ops->name, what);
}

enum driver_status driver_get(struct driver *driver, struct driver_state *got, struct error *err)
{
    *got = (struct driver_state){0};
    if (!driver->ops->get)
        return unsupported(driver, "the share in force: the last one recorded is all that is known", err);
    struct error spare;
    return driver->ops->get(driver->self, got, error_or(err, &spare));
}

enum driver_status driver_set(struct driver *driver, uint32_t share_bp, struct driver_state *got, struct error *err)
{
    *got = (struct driver_state){0};
    if (share_bp > BASIS_POINTS)
        return driver_fail(err, DRIVER_REFUSED, "a share of %u basis points is more than all traffic (10000)",
                           share_bp);
    struct error spare;
    return driver->ops->set(driver->self, share_bp, got, error_or(err, &spare));
}

enum driver_status driver_counters(struct driver *driver, struct driver_counters *got, struct error *err)
{
    *got = (struct driver_counters){0};
    if (!driver->ops->counters)
        return unsupported(driver, "request counts", err);
    struct error spare;
    return driver->ops->counters(driver->self, got, error_or(err, &spare));
}
