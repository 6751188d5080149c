/*
 * One request's way: its header is classified; its body is read; a latency is drawn and waited for; then it fails by
 * lot, or its page is asked for; then it is answered. Whoever waits is suspended and costs neither a thread nor a
 * timer. libmicrohttpd calls routes_on_request again at each of these steps, and `struct visit` knows where it is.
 */
#include "base/memory.h"
#include "compose/shop/server.h"

#include <gsl/gsl_randist.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- what is asked for --- */

static enum route route_of(const char *path, unsigned *item)
{
    static const struct {
        const char *path;
        enum route route;
    } table[] = {
        {"/", ROUTE_HOME},           {"/items", ROUTE_ITEMS},   {"/cart", ROUTE_CART},       {"/order", ROUTE_ORDER},
        {"/healthz", ROUTE_HEALTHZ}, {"/readyz", ROUTE_READYZ}, {"/metrics", ROUTE_METRICS},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(path, table[i].path) == 0)
            return table[i].route;
    static const char prefix[] = "/items/";
    if (strncmp(path, prefix, sizeof prefix - 1) != 0)
        return ROUTE_UNKNOWN;
    const char *number = path + sizeof prefix - 1;
    size_t digits = strspn(number, "0123456789");
    if (digits == 0 || number[digits] != '\0')
        return ROUTE_UNKNOWN;
    *item = digits <= 9 ? (unsigned)strtoul(number, NULL, 10) : 0;
    return ROUTE_ITEM;
}

bool route_takes_post(enum route route)
{
    return route == ROUTE_CART || route == ROUTE_ORDER;
}

static void classify(struct visit *visit, const char *path, const char *method)
{
    visit->route = route_of(path, &visit->inquiry.item);
    if (strcmp(method, "POST") == 0) {
        visit->method = METHOD_POST;
        visit->allowed = route_takes_post(visit->route);
    } else if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0) {
        visit->method = method[0] == 'G' ? METHOD_GET : METHOD_HEAD;
        visit->allowed = !route_takes_post(visit->route);
    }
    visit->counted = visit->allowed && visit->route <= ROUTE_ORDER;
}

/* --- the inquiry --- */

static void on_answered(struct inquiry *inquiry)
{
    struct visit *visit = inquiry->asker;
    MHD_resume_connection(visit->connection);
}

static void prepare_inquiry(struct visit *visit)
{
    struct inquiry *inquiry = &visit->inquiry;
    const char *cart = MHD_lookup_connection_value(visit->connection, MHD_COOKIE_KIND, "cart");
    const char *key = MHD_lookup_connection_value(visit->connection, MHD_HEADER_KIND, "Idempotency-Key");
    inquiry->stock = &visit->shop->stock;
    inquiry->body = visit->body.text;
    inquiry->length = (size_t)visit->size;
    if (visit->route == ROUTE_CART && visit->shop->stock.cache && cart && cart_key_valid(cart))
        strcpy(inquiry->cart, cart);
    if (key && key[0] != '\0')
        inquiry->only_once_key = key;
    inquiry->answered = on_answered;
    inquiry->asker = visit;
}

/* True if the answer is there already. */
static bool inquire(struct visit *visit)
{
    prepare_inquiry(visit);
    switch (visit->route) {
    case ROUTE_ITEMS:
        return items_ask(&visit->inquiry);
    case ROUTE_ITEM:
        return item_ask(&visit->inquiry);
    case ROUTE_CART:
        return cart_keep(&visit->inquiry);
    default:
        return order_place(&visit->inquiry);
    }
}

static bool needs_inquiry(enum route route)
{
    return route > ROUTE_HOME && route <= ROUTE_ORDER;
}

/* --- the steps --- */

static void leak_some(struct shop *shop)
{
    if (shop->options->leak_bytes == 0)
        return;
    size_t size = (size_t)shop->options->leak_bytes;
    struct leak *leak = mem_alloc(1, size < sizeof *leak ? sizeof *leak : size);
    memset(leak, 1, size); /* touched, so that it really is resident */
    leak->next = shop->leaks;
    shop->leaks = leak;
}

static int64_t draw_latency_ns(struct shop *shop)
{
    const struct shop_options *o = shop->options;
    if (o->latency_median_ms <= 0 || o->latency_factor <= 0)
        return 0;
    double ms = gsl_ran_lognormal(shop->latency_rng, log(o->latency_median_ms), o->latency_sigma) * o->latency_factor;
    return (int64_t)(fmin(ms, 3.6e6) * (double)NS_PER_MS);
}

/* Once the latency is over. */
static enum MHD_Result answer(struct visit *visit)
{
    struct shop *shop = visit->shop;
    if (visit->asked)
        return answer_inquiry(visit);
    if (visit->size > BODY_MAX)
        return answer_failure(visit, MHD_HTTP_CONTENT_TOO_LARGE, "a body may have 65536 bytes");
    if (!visit->allowed && visit->route != ROUTE_UNKNOWN)
        return answer_failure(visit, MHD_HTTP_METHOD_NOT_ALLOWED, "this page does not take that method");
    if (visit->counted && gsl_ran_bernoulli(shop->failure_rng, shop->options->failure_share))
        return answer_failure(visit, MHD_HTTP_INTERNAL_SERVER_ERROR, "something went wrong");
    if (!needs_inquiry(visit->route))
        return answer_route(visit);
    visit->asked = true;
    if (inquire(visit))
        return answer_inquiry(visit);
    MHD_suspend_connection(visit->connection);
    return MHD_YES;
}

static enum MHD_Result wait_or_answer(struct visit *visit)
{
    struct shop *shop = visit->shop;
    if (visit->counted && !visit->waited) {
        visit->waited = true;
        leak_some(shop);
        int64_t latency = draw_latency_ns(shop);
        if (latency > 0) {
            delay_push(&shop->waiting, visit->started_ns + latency, visit);
            MHD_suspend_connection(visit->connection);
            return MHD_YES;
        }
    }
    return answer(visit);
}

static enum MHD_Result begin(struct visit *visit)
{
    const char *length = MHD_lookup_connection_value(visit->connection, MHD_HEADER_KIND, "Content-Length");
    visit->started_ns = loop_now_ns();
    if (visit->counted)
        visit->shop->metrics.in_flight++;
    if (!length || strtoull(length, NULL, 10) <= BODY_MAX)
        return MHD_YES;
    visit->size = BODY_MAX + 1; /* answered before the body is read; libmicrohttpd then closes the connection */
    return answer(visit);
}

static void read_body(struct visit *visit, const char *bytes, size_t size)
{
    const struct stock *stock = &visit->shop->stock;
    visit->size += size;
    bool kept = (visit->route == ROUTE_CART && stock->cache) || (visit->route == ROUTE_ORDER && stock->database);
    if (kept && visit->allowed && visit->size <= BODY_MAX)
        strbuf_add(&visit->body, bytes, size);
}

enum MHD_Result routes_on_request(void *closure, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *upload, size_t *upload_size,
                                  void **request)
{
    struct visit *visit = *request;
    (void)version;
    if (!visit) {
        *request = visit = mem_alloc(1, sizeof *visit);
        visit->shop = closure;
        visit->connection = connection;
        classify(visit, path, method);
        return begin(visit);
    }
    if (*upload_size > 0) {
        read_body(visit, upload, *upload_size);
        *upload_size = 0;
        return MHD_YES;
    }
    return wait_or_answer(visit);
}

void routes_on_completed(void *closure, struct MHD_Connection *connection, void **request,
                         enum MHD_RequestTerminationCode why)
{
    struct shop *shop = closure;
    struct visit *visit = *request;
    (void)connection;
    (void)why;
    *request = NULL;
    if (!visit)
        return;
    if (visit->counted)
        shop->metrics.in_flight--;
    strbuf_free(&visit->body);
    free(visit->inquiry.answer.json);
    free(visit);
}

void routes_resume_due(struct shop *shop, int64_t until_ns)
{
    for (struct visit *visit; (visit = delay_pop_due(&shop->waiting, until_ns));)
        MHD_resume_connection(visit->connection);
}
