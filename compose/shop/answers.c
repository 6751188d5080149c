/*
 * What the shop sends. Liveness and readiness are two questions: a shop without its database is alive, since a restart
 * would not help it, and still ready, since much can be had from it. Only one that starts or ends is not.
 */
#include "base/duration.h"
#include "base/memory.h"
#include "compose/shop/server.h"

#include <stdlib.h>
#include <string.h>

static enum MHD_Result reply(struct visit *visit, unsigned status, const char *type, char *body)
{
    struct shop *shop = visit->shop;
    struct MHD_Response *response = MHD_create_response_from_buffer(strlen(body), body, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(body);
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "X-Version", shop->options->version);
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, "Allow", route_takes_post(visit->route) ? "POST" : "GET, HEAD");
    if (status == MHD_HTTP_SERVICE_UNAVAILABLE)
        MHD_add_response_header(response, "Retry-After", "1");
    if (visit->inquiry.cart[0] != '\0') {
        char *cookie = mem_printf("cart=%s; Path=/; HttpOnly; SameSite=Lax", visit->inquiry.cart);
        MHD_add_response_header(response, "Set-Cookie", cookie);
        free(cookie);
    }
    if (shop->stage != SERVING)
        MHD_add_response_header(response, "Connection", "close");
    enum MHD_Result queued = MHD_queue_response(visit->connection, status, response);
    MHD_destroy_response(response);
    if (queued == MHD_YES && visit->counted)
        metrics_count(&shop->metrics, visit->method, status, (double)(loop_now_ns() - visit->started_ns) / 1e9);
    return queued;
}

static enum MHD_Result reply_json(struct visit *visit, unsigned status, char *json)
{
    return reply(visit, status, "application/json", json);
}

enum MHD_Result answer_failure(struct visit *visit, unsigned status, const char *sentence)
{
    return reply_json(visit, status, mem_printf("{\"error\":\"%s\"}\n", sentence));
}

enum MHD_Result answer_inquiry(struct visit *visit)
{
    char *json = visit->inquiry.answer.json;
    visit->inquiry.answer.json = NULL;
    return reply_json(visit, visit->inquiry.answer.status, json);
}

static void write_dependency(const char *name, const struct dependency *dependency, struct strbuf *out)
{
    char since[TIME_TEXT];
    if (dependency)
        strbuf_printf(out, "\"%s\":{\"status\":\"%s\",\"since\":\"%s\"}", name, dependency->up ? "up" : "down",
                      time_format(dependency->since_ms, since));
    else
        strbuf_printf(out, "\"%s\":{\"status\":\"none\"}", name);
}

static const char *readiness(const struct shop *shop)
{
    const struct shop_metrics *m = &shop->metrics;
    if (shop->stage != SERVING)
        return "draining";
    int64_t patience_ns = shop->options->patience_ms * NS_PER_MS;
    if (m->database && !m->database->was_up && loop_now_ns() < shop->stage_since_ns + patience_ns)
        return "starting";
    return (m->database && !m->database->up) || (m->cache && !m->cache->up) ? "degraded" : "ready";
}

static enum MHD_Result reply_readiness(struct visit *visit)
{
    const struct shop *shop = visit->shop;
    const char *status = readiness(shop);
    bool takes_requests = status[0] == 'r' || strcmp(status, "degraded") == 0;
    struct strbuf out = {0};
    strbuf_printf(&out, "{\"status\":\"%s\",\"version\":\"%s\",\"dependencies\":{", status, shop->options->version);
    write_dependency("database", shop->metrics.database, &out);
    strbuf_puts(&out, ",");
    write_dependency("cache", shop->metrics.cache, &out);
    strbuf_puts(&out, "}}\n");
    return reply_json(visit, takes_requests ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, strbuf_take(&out));
}

static enum MHD_Result reply_metrics(struct visit *visit)
{
    struct strbuf out = {0};
    metrics_write(&visit->shop->metrics, visit->shop->options->version, &out);
    return reply(visit, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", strbuf_take(&out));
}

enum MHD_Result answer_route(struct visit *visit)
{
    switch (visit->route) {
    case ROUTE_HOME:
        return reply_json(visit, MHD_HTTP_OK, mem_printf("{\"shop\":\"%s\"}\n", visit->shop->options->version));
    case ROUTE_HEALTHZ:
        return reply_json(visit, MHD_HTTP_OK, mem_strdup("{\"status\":\"alive\"}\n"));
    case ROUTE_READYZ:
        return reply_readiness(visit);
    case ROUTE_METRICS:
        return reply_metrics(visit);
    default:
        return answer_failure(visit, MHD_HTTP_NOT_FOUND, "there is no such page");
    }
}
