/*
 * The section `traffic`: who moves it, how long it may go unattended, and what is done when somebody else moves it. It
 * is one balancer itself (read_balancer.c), or holds the list of several.
 */
#include "policies/read.h"

#include "base/memory.h"

enum { BALANCERS = 20 };

static const char foreign[] = "belongs to another driver; take it out";

static void read_list(struct section *s, enum driver_kind driver, struct policy_traffic *traffic)
{
    size_t count;
    refuse_balancer_keys(s, "belongs to each item of `balancers`; write it there");
    struct tree_node **items = section_list(s, "balancers", NULL, BALANCERS, &count);
    if (!items)
        return;
    traffic->balancers = mem_alloc(count, sizeof *traffic->balancers);
    for (size_t i = 0; i < count; i++) {
        struct section item;
        traffic->balancer_count++;
        if (!section_open(&item, s->reader, items[i], "a balancer", items[i]->mark))
            continue;
        read_balancer(&item, driver, &traffic->balancers[i]);
        refuse_foreign_keys(&item, foreign);
        section_close(&item);
    }
}

static void read_one(struct section *s, enum driver_kind driver, struct policy_traffic *traffic)
{
    section_get(s, "balancers", NULL);
    traffic->balancers = mem_alloc(1, sizeof *traffic->balancers);
    traffic->balancer_count = 1;
    read_balancer(s, driver, &traffic->balancers[0]);
    refuse_foreign_keys(s, foreign);
}

static void read_balancers(struct section *s, int driver, struct policy_traffic *traffic)
{
    static const char idle[] = "has no meaning with `driver: none`; name a driver, or take it out";
    if (driver == DRIVER_NONE) {
        refuse_balancer_keys(s, idle);
        section_refuse(s, "balancers", idle);
    } else if (driver < 0) {
        /* The driver is not known, so that nothing can be said about its keys. */
        pass_balancer_keys(s);
        section_get(s, "balancers", NULL);
    } else if (section_has(s, "balancers")) {
        read_list(s, (enum driver_kind)driver, traffic);
    } else {
        read_one(s, (enum driver_kind)driver, traffic);
    }
}

struct mark read_traffic(struct section *top, struct policy_traffic *traffic)
{
    static const struct words drivers = {.built = {[DRIVER_NONE] = "none",
                                                   [DRIVER_HAPROXY] = "haproxy",
                                                   [DRIVER_NGINX] = "nginx",
                                                   [DRIVER_CADDY] = "caddy",
                                                   [DRIVER_EXEC] = "exec"}};
    static const struct words drifts = {
        .built = {[DRIFT_HEAL] = "heal", [DRIFT_HOLD] = "hold", [DRIFT_ABORT] = "abort"}};
    struct section s;
    traffic->unattended_ms = -1;
    if (!section_open_key(&s, top, "traffic", "write who moves it; `traffic: {driver: none}` if haldane shall not") ||
        !s.map)
        return top->mark;
    int driver = section_choice(&s, "driver", "write haproxy, nginx, caddy, exec, or none", &drivers, -1);
    traffic->driver = driver < 0 ? DRIVER_NONE : (enum driver_kind)driver;
    traffic->unattended_ms = section_duration(&s, "unattended", 120000);
    if (driver == DRIVER_NONE)
        section_refuse(&s, "drift", "has no meaning with `driver: none`, which cannot see the split; take it out");
    else
        traffic->drift = (enum drift)section_choice(&s, "drift", NULL, &drifts, DRIFT_HEAL);
    struct mark lease_at = section_mark(&s, "unattended");
    read_balancers(&s, driver, traffic);
    section_close(&s);
    return lease_at;
}
