/* What the parts of the running shop share: its state and one request's. Private to server, routes and answers. */
#ifndef HALDANE_COMPOSE_SHOP_SERVER_H
#define HALDANE_COMPOSE_SHOP_SERVER_H

#include "base/strbuf.h"
#include "compose/shop/inquiry.h"
#include "compose/shop/metrics.h"
#include "compose/shop/shop.h"

#include <gsl/gsl_rng.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

enum stage { SERVING, DRAINING, FINISHING };

struct leak {
    struct leak *next;
};

struct shop {
    const struct shop_options *options;
    struct MHD_Daemon *daemon;
    gsl_rng *latency_rng; /* two generators: changing the failure share leaves the latencies as they were */
    gsl_rng *failure_rng;
    struct shop_metrics metrics;
    struct delay_queue waiting;
    struct stock stock;
    struct leak *leaks;
    enum stage stage;
    int64_t stage_since_ns;
    int64_t drain_until_ns;
};

enum route {
    ROUTE_HOME,
    ROUTE_ITEMS,
    ROUTE_ITEM,
    ROUTE_CART,
    ROUTE_ORDER,
    ROUTE_HEALTHZ,
    ROUTE_READYZ,
    ROUTE_METRICS,
    ROUTE_UNKNOWN
};

struct visit {
    struct shop *shop;
    struct MHD_Connection *connection;
    enum route route;
    enum shop_method method;
    bool allowed;
    bool counted;  /* a business request */
    bool waited;   /* the latency that was drawn is over */
    bool asked;    /* the inquiry is under way or answered */
    uint64_t size; /* of the body */
    struct strbuf body;
    int64_t started_ns;
    struct inquiry inquiry;
};

enum { BODY_MAX = 64 * 1024 };

/* --- routes.c: one request's way, for libmicrohttpd --- */

enum MHD_Result routes_on_request(void *shop, struct MHD_Connection *connection, const char *path, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **request);
void routes_on_completed(void *shop, struct MHD_Connection *connection, void **request,
                         enum MHD_RequestTerminationCode why);

/* Goes on with the requests whose latency is over. */
void routes_resume_due(struct shop *shop, int64_t until_ns);

bool route_takes_post(enum route route);

/* --- answers.c: what is sent. Each takes over what it is given, and counts a business request once. --- */

/* `sentence` has nothing that JSON would have to escape. */
enum MHD_Result answer_failure(struct visit *visit, unsigned status, const char *sentence);

/* What needs no inquiry: home, health, readiness, metrics, and pages that there are not. */
enum MHD_Result answer_route(struct visit *visit);

/* What the inquiry found. */
enum MHD_Result answer_inquiry(struct visit *visit);

#endif
