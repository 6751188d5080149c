/*
 * The shop itself: one thread, one loop. libmicrohttpd hands its epoll descriptor over, so the loop waits at once for
 * sockets, for signals and for the next answer that is due. A request whose answer is to take 40 ms is suspended and
 * lies in a heap meanwhile; it costs no thread and no timer. With one thread there is nothing to lock, and a scrape of
 * /metrics is always consistent.
 *
 * The end, in three stages: on SIGTERM /readyz turns 503 and every answer says `Connection: close`, while all is still
 * served; after the drain the listening socket goes, with its queue emptied first; then what is in flight is finished.
 */
#include "base/memory.h"
#include "compose/shop/shop.h"

#include <errno.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <microhttpd.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BODY_MAX = 64 * 1024,
    CONNECTIONS_MAX = 4096,
    /* Longer than a load balancer keeps an idle connection (60 s), so that it is never the shop that closes one. */
    IDLE_TIMEOUT_S = 65,
    ITEMS = 1000,
    ITEMS_SHOWN = 10
};

static const int64_t NS_PER_MS = 1000000;
static const int64_t LINGER_NS = 200 * NS_PER_MS;   /* for a request already on its way on an idle connection */
static const int64_t FINISH_NS = 30000 * NS_PER_MS; /* the longest that the last answers may take */

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
    struct MHD_Connection *connection;
    enum route route;
    enum shop_method method;
    bool allowed;
    bool counted; /* a business request */
    bool waited;
    unsigned item;
    uint64_t body;
    int64_t started_ns;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 * NS_PER_MS + now.tv_nsec;
}

/* --- routes --- */

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

static bool takes_post(enum route route)
{
    return route == ROUTE_CART || route == ROUTE_ORDER;
}

static void classify(struct visit *visit, const char *path, const char *method)
{
    visit->route = route_of(path, &visit->item);
    if (strcmp(method, "POST") == 0) {
        visit->method = METHOD_POST;
        visit->allowed = takes_post(visit->route);
    } else if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0) {
        visit->method = method[0] == 'G' ? METHOD_GET : METHOD_HEAD;
        visit->allowed = !takes_post(visit->route);
    }
    visit->counted = visit->allowed && visit->route <= ROUTE_ORDER;
}

/* --- answers --- */

static enum MHD_Result reply(struct shop *shop, struct visit *visit, unsigned status, const char *type, char *body)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(strlen(body), body, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(body);
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "X-Version", shop->options->version);
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, "Allow", takes_post(visit->route) ? "POST" : "GET, HEAD");
    if (shop->stage != SERVING)
        MHD_add_response_header(response, "Connection", "close");
    enum MHD_Result queued = MHD_queue_response(visit->connection, status, response);
    MHD_destroy_response(response);
    if (queued == MHD_YES && visit->counted)
        metrics_count(&shop->metrics, visit->method, status, (double)(now_ns() - visit->started_ns) / 1e9);
    return queued;
}

static enum MHD_Result reply_text(struct shop *shop, struct visit *visit, unsigned status, const char *text)
{
    return reply(shop, visit, status, "text/plain; charset=utf-8", mem_strdup(text));
}

static enum MHD_Result reply_json(struct shop *shop, struct visit *visit, unsigned status, char *json)
{
    return reply(shop, visit, status, "application/json", json);
}

static enum MHD_Result reply_failure(struct shop *shop, struct visit *visit, unsigned status, const char *sentence)
{
    return reply_json(shop, visit, status, mem_printf("{\"error\":\"%s\"}\n", sentence));
}

static char *item_json(unsigned item)
{
    return mem_printf("{\"id\":%u,\"name\":\"item %u\",\"price_cents\":%u}", item, item, 100 + item * 7 % 9900);
}

static char *items_json(void)
{
    struct strbuf out = {0};
    strbuf_puts(&out, "{\"items\":[");
    for (unsigned item = 1; item <= ITEMS_SHOWN; item++) {
        char *one = item_json(item);
        strbuf_printf(&out, "%s%s", item > 1 ? "," : "", one);
        free(one);
    }
    strbuf_puts(&out, "]}\n");
    return strbuf_take(&out);
}

static enum MHD_Result reply_item(struct shop *shop, struct visit *visit)
{
    if (visit->item < 1 || visit->item > ITEMS)
        return reply_failure(shop, visit, MHD_HTTP_NOT_FOUND, "there is no such item");
    return reply_json(shop, visit, MHD_HTTP_OK, item_json(visit->item));
}

static enum MHD_Result reply_metrics(struct shop *shop, struct visit *visit)
{
    struct strbuf out = {0};
    metrics_write(&shop->metrics, shop->options->version, &out);
    return reply(shop, visit, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", strbuf_take(&out));
}

static enum MHD_Result reply_route(struct shop *shop, struct visit *visit)
{
    switch (visit->route) {
    case ROUTE_HOME:
        return reply_json(shop, visit, MHD_HTTP_OK, mem_printf("{\"shop\":\"%s\"}\n", shop->options->version));
    case ROUTE_ITEMS:
        return reply_json(shop, visit, MHD_HTTP_OK, items_json());
    case ROUTE_ITEM:
        return reply_item(shop, visit);
    case ROUTE_CART:
        return reply_json(shop, visit, MHD_HTTP_OK,
                          mem_printf("{\"cart_bytes\":%llu}\n", (unsigned long long)visit->body));
    case ROUTE_ORDER:
        return reply_json(shop, visit, MHD_HTTP_CREATED,
                          mem_printf("{\"order_bytes\":%llu}\n", (unsigned long long)visit->body));
    case ROUTE_HEALTHZ:
        return reply_text(shop, visit, MHD_HTTP_OK, "alive\n");
    case ROUTE_READYZ:
        return shop->stage == SERVING ? reply_text(shop, visit, MHD_HTTP_OK, "ready\n")
                                      : reply_text(shop, visit, MHD_HTTP_SERVICE_UNAVAILABLE, "draining\n");
    case ROUTE_METRICS:
        return reply_metrics(shop, visit);
    case ROUTE_UNKNOWN:
        break;
    }
    return reply_failure(shop, visit, MHD_HTTP_NOT_FOUND, "there is no such page");
}

static enum MHD_Result reply_now(struct shop *shop, struct visit *visit)
{
    if (visit->body > BODY_MAX)
        return reply_failure(shop, visit, MHD_HTTP_CONTENT_TOO_LARGE, "a body may have 65536 bytes");
    if (!visit->allowed && visit->route != ROUTE_UNKNOWN)
        return reply_failure(shop, visit, MHD_HTTP_METHOD_NOT_ALLOWED, "this page does not take that method");
    if (visit->counted && gsl_ran_bernoulli(shop->failure_rng, shop->options->failure_share))
        return reply_failure(shop, visit, MHD_HTTP_INTERNAL_SERVER_ERROR, "something went wrong");
    return reply_route(shop, visit);
}

/* --- one request's way --- */

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

static enum MHD_Result begin(struct shop *shop, struct visit *visit)
{
    const char *length = MHD_lookup_connection_value(visit->connection, MHD_HEADER_KIND, "Content-Length");
    visit->started_ns = now_ns();
    if (visit->counted)
        shop->metrics.in_flight++;
    if (!length || strtoull(length, NULL, 10) <= BODY_MAX)
        return MHD_YES;
    visit->body = BODY_MAX + 1; /* answered before the body is read; libmicrohttpd then closes the connection */
    return reply_now(shop, visit);
}

static enum MHD_Result wait_or_answer(struct shop *shop, struct visit *visit)
{
    if (visit->counted && !visit->waited) {
        leak_some(shop);
        int64_t latency = draw_latency_ns(shop);
        if (latency > 0) {
            delay_push(&shop->waiting, visit->started_ns + latency, visit);
            MHD_suspend_connection(visit->connection);
            return MHD_YES;
        }
    }
    return reply_now(shop, visit);
}

static enum MHD_Result on_request(void *closure, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *upload, size_t *upload_size,
                                  void **request)
{
    struct shop *shop = closure;
    struct visit *visit = *request;
    (void)version;
    (void)upload;
    if (!visit) {
        *request = visit = mem_alloc(1, sizeof *visit);
        visit->connection = connection;
        classify(visit, path, method);
        return begin(shop, visit);
    }
    if (*upload_size > 0) {
        visit->body += *upload_size;
        *upload_size = 0;
        return MHD_YES;
    }
    return wait_or_answer(shop, visit);
}

static void on_completed(void *closure, struct MHD_Connection *connection, void **request,
                         enum MHD_RequestTerminationCode why)
{
    struct shop *shop = closure;
    struct visit *visit = *request;
    (void)connection;
    (void)why;
    if (visit && visit->counted)
        shop->metrics.in_flight--;
    free(visit);
    *request = NULL;
}

static void resume_due(struct shop *shop, int64_t until_ns)
{
    for (struct visit *visit; (visit = delay_pop_due(&shop->waiting, until_ns));) {
        visit->waited = true;
        MHD_resume_connection(visit->connection);
    }
}

/* --- the end --- */

static void enter(struct shop *shop, enum stage stage)
{
    shop->stage = stage;
    shop->stage_since_ns = now_ns();
}

static void on_stop_signal(struct shop *shop)
{
    if (shop->stage == SERVING) {
        enter(shop, DRAINING);
        shop->drain_until_ns = shop->stage_since_ns + shop->options->drain_ms * NS_PER_MS;
    } else {
        shop->drain_until_ns = now_ns(); /* asked twice: no more draining, but what is in flight is still finished */
    }
}

static void stop_accepting(struct shop *shop)
{
    int listener = MHD_quiesce_daemon(shop->daemon);
    enter(shop, FINISHING);
    if (listener < 0)
        return;
    socket_refuse_new(listener);
    for (;;) {
        struct sockaddr_storage peer = {0};
        socklen_t length = sizeof peer;
        int fd = accept4(listener, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            MHD_add_connection(shop->daemon, fd, (struct sockaddr *)&peer, length);
        else if (errno != EINTR && errno != ECONNABORTED)
            break;
    }
    close(listener);
}

static bool finished(const struct shop *shop, int64_t now)
{
    if (shop->stage != FINISHING)
        return false;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(shop->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    bool idle = shop->metrics.in_flight == 0 && shop->waiting.count == 0;
    if (info && info->num_connections == 0)
        return true;
    return (idle && now >= shop->stage_since_ns + LINGER_NS) || now >= shop->stage_since_ns + FINISH_NS;
}

/* --- the loop --- */

static int64_t next_wake(const struct shop *shop, int64_t now, int64_t crash_at)
{
    int64_t wake = delay_next(&shop->waiting);
    MHD_UNSIGNED_LONG_LONG library_ms = 0;
    if (MHD_get_timeout(shop->daemon, &library_ms) == MHD_YES && library_ms < 60000)
        wake = now + (int64_t)library_ms * NS_PER_MS < wake ? now + (int64_t)library_ms * NS_PER_MS : wake;
    if (shop->stage == DRAINING && shop->drain_until_ns < wake)
        wake = shop->drain_until_ns;
    if (shop->stage == FINISHING && now + 10 * NS_PER_MS < wake)
        wake = now + 10 * NS_PER_MS;
    return crash_at < wake ? crash_at : wake;
}

static void wait_for_work(int library_fd, int signal_fd, int64_t wake, int64_t now, bool *signalled)
{
    struct pollfd fds[] = {{.fd = library_fd, .events = POLLIN}, {.fd = signal_fd, .events = POLLIN}};
    int64_t left = wake > now ? wake - now : 0;
    struct timespec timeout = {.tv_sec = left / (1000 * NS_PER_MS), .tv_nsec = left % (1000 * NS_PER_MS)};
    if (ppoll(fds, 2, wake == INT64_MAX ? NULL : &timeout, NULL) > 0 && fds[1].revents) {
        struct signalfd_siginfo info;
        *signalled = read(signal_fd, &info, sizeof info) == sizeof info;
    }
}

static void loop(struct shop *shop, int signal_fd)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(shop->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    int library_fd = info->epoll_fd;
    int64_t now = now_ns();
    int64_t crash_at = shop->options->crash_after_ms < 0 ? INT64_MAX : now + shop->options->crash_after_ms * NS_PER_MS;
    while (!finished(shop, now)) {
        bool signalled = false;
        wait_for_work(library_fd, signal_fd, next_wake(shop, now, crash_at), now, &signalled);
        now = now_ns();
        if (now >= crash_at)
            raise(SIGKILL);
        if (signalled)
            on_stop_signal(shop);
        if (shop->stage == DRAINING && now >= shop->drain_until_ns)
            stop_accepting(shop);
        resume_due(shop, now);
        MHD_run(shop->daemon);
        now = now_ns();
    }
}

/* --- the start --- */

static int block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static struct MHD_Daemon *start_daemon(struct shop *shop, int listener)
{
    return MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request,
                            shop, MHD_OPTION_LISTEN_SOCKET, listener, MHD_OPTION_CONNECTION_LIMIT,
                            (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_TIMEOUT_S,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)(16 * 1024), MHD_OPTION_NOTIFY_COMPLETED,
                            on_completed, shop, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
}

static void release(struct shop *shop)
{
    if (shop->daemon) {
        resume_due(shop, INT64_MAX - 1); /* the library cannot stop while it holds a suspended connection */
        MHD_run(shop->daemon);
        MHD_stop_daemon(shop->daemon);
    }
    gsl_rng_free(shop->latency_rng);
    gsl_rng_free(shop->failure_rng);
    delay_free(&shop->waiting);
    for (struct leak *leak = shop->leaks; leak;) {
        struct leak *next = leak->next;
        free(leak);
        leak = next;
    }
}

bool shop_serve(const struct shop_options *options, struct error *err)
{
    char shown[128];
    int listener = socket_listen(options->host, options->port, shown, sizeof shown, err);
    if (listener < 0)
        return false;
    struct shop shop = {.options = options,
                        .latency_rng = gsl_rng_alloc(gsl_rng_mt19937),
                        .failure_rng = gsl_rng_alloc(gsl_rng_mt19937)};
    gsl_rng_set(shop.latency_rng, (unsigned long)options->seed);
    gsl_rng_set(shop.failure_rng, (unsigned long)(options->seed ^ 0x9e3779b9U));
    metrics_init(&shop.metrics);
    int signal_fd = block_signals();
    shop.daemon = signal_fd < 0 ? NULL : start_daemon(&shop, listener);
    bool good = shop.daemon != NULL;
    if (good) {
        fprintf(stderr, "haldane-demo-shop %s listens on %s\n", options->version, shown);
        loop(&shop, signal_fd);
    } else {
        close(listener);
        error_set(err, ERROR_SOFTWARE, "the HTTP library did not start: %s", strerror(errno));
    }
    release(&shop);
    if (signal_fd >= 0)
        close(signal_fd);
    return good;
}
