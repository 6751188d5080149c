/*
 * The shop itself: one thread, one loop. libmicrohttpd hands its epoll descriptor over, so the loop waits at once for
 * sockets, for signals, for the database and the cache, and for the next answer that is due. A request whose answer is
 * to take 40 ms is suspended and lies in a heap meanwhile; it costs no thread and no timer. With one thread there is
 * nothing to lock, and a scrape of /metrics is always consistent.
 *
 * The end, in three stages: on SIGTERM /readyz turns 503 and every answer says `Connection: close`, while all is still
 * served; after the drain the listening socket goes, with its queue emptied first; then what is in flight is finished.
 */
#include "compose/shop/server.h"

#include <errno.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CONNECTIONS_MAX = 4096,
    /* Longer than a load balancer keeps an idle connection (60 s), so that it is never the shop that closes one. */
    IDLE_TIMEOUT_S = 65
};

static const int64_t LINGER_NS = 200 * NS_PER_MS;   /* for a request already on its way on an idle connection */
static const int64_t FINISH_NS = 30000 * NS_PER_MS; /* the longest that the last answers may take */

/* --- the end --- */

static void enter(struct shop *shop, enum stage stage)
{
    shop->stage = stage;
    shop->stage_since_ns = loop_now_ns();
}

static void on_stop_signal(struct shop *shop)
{
    if (shop->stage == SERVING) {
        enter(shop, DRAINING);
        shop->drain_until_ns = shop->stage_since_ns + shop->options->drain_ms * NS_PER_MS;
    } else {
        shop->drain_until_ns =
            loop_now_ns(); /* asked twice: no more draining, but what is in flight is still finished */
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

static int64_t earlier(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

static int64_t next_wake(const struct shop *shop, int64_t now, int64_t crash_at)
{
    int64_t wake = earlier(delay_next(&shop->waiting), crash_at);
    MHD_UNSIGNED_LONG_LONG library_ms = 0;
    if (MHD_get_timeout(shop->daemon, &library_ms) == MHD_YES && library_ms < 60000)
        wake = earlier(wake, now + (int64_t)library_ms * NS_PER_MS);
    if (shop->stage == DRAINING)
        wake = earlier(wake, shop->drain_until_ns);
    if (shop->stage == FINISHING)
        wake = earlier(wake, now + 10 * NS_PER_MS);
    if (shop->stock.database)
        wake = earlier(wake, database_wake(shop->stock.database));
    if (shop->stock.cache)
        wake = earlier(wake, cache_wake(shop->stock.cache));
    return wake;
}

/* The wait comes after the watching: a query that cannot be sent is answered there, and its request goes on at once. */
static void wait_for_work(struct shop *shop, struct loop_set *set, int64_t crash_at)
{
    if (shop->stock.database)
        database_watch(shop->stock.database, set);
    if (shop->stock.cache)
        cache_watch(shop->stock.cache, set);
    int64_t now = loop_now_ns();
    loop_wait(set, now, next_wake(shop, now, crash_at));
    if (shop->stock.database)
        database_run(shop->stock.database, set);
    if (shop->stock.cache)
        cache_run(shop->stock.cache, set);
}

static void loop(struct shop *shop, int signal_fd)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(shop->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    int library_fd = info->epoll_fd;
    int64_t now = loop_now_ns();
    int64_t crash_at = shop->options->crash_after_ms < 0 ? INT64_MAX : now + shop->options->crash_after_ms * NS_PER_MS;
    while (!finished(shop, now)) {
        struct loop_set set = {.count = 0};
        struct signalfd_siginfo signalled;
        loop_add(&set, library_fd, POLLIN);
        size_t signal_place = loop_add(&set, signal_fd, POLLIN);
        wait_for_work(shop, &set, crash_at);
        now = loop_now_ns();
        if (now >= crash_at)
            raise(SIGKILL);
        if (loop_seen(&set, signal_place) && read(signal_fd, &signalled, sizeof signalled) == sizeof signalled)
            on_stop_signal(shop);
        if (shop->stage == DRAINING && now >= shop->drain_until_ns)
            stop_accepting(shop);
        routes_resume_due(shop, now);
        MHD_run(shop->daemon);
        now = loop_now_ns();
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
    return MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
                            routes_on_request, shop, MHD_OPTION_LISTEN_SOCKET, listener, MHD_OPTION_CONNECTION_LIMIT,
                            (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_TIMEOUT_S,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)(16 * 1024), MHD_OPTION_NOTIFY_COMPLETED,
                            routes_on_completed, shop, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
}

/* What still waits is answered first: the library cannot stop while it holds a suspended connection. */
static void stop_daemon(struct shop *shop)
{
    if (!shop->daemon)
        return;
    if (shop->stock.cache)
        cache_close(shop->stock.cache);
    if (shop->stock.database)
        database_close(shop->stock.database);
    do {
        routes_resume_due(shop, INT64_MAX - 1);
        MHD_run(shop->daemon);
    } while (shop->waiting.count > 0);
    MHD_stop_daemon(shop->daemon);
}

static void release(struct shop *shop)
{
    stop_daemon(shop);
    cache_free(shop->stock.cache);
    database_free(shop->stock.database);
    gsl_rng_free(shop->latency_rng);
    gsl_rng_free(shop->failure_rng);
    delay_free(&shop->waiting);
    for (struct leak *leak = shop->leaks; leak;) {
        struct leak *next = leak->next;
        free(leak);
        leak = next;
    }
}

static bool open_database(struct shop *shop, struct error *err)
{
    const struct shop_options *o = shop->options;
    const struct database_options options = {.conninfo = o->database,
                                             .password_file = o->database_password_file,
                                             .connections = (unsigned)o->database_connections,
                                             .deadline_ms = o->database_deadline_ms};
    if (!o->database)
        return true;
    shop->stock.database = database_new(&options, "haldane-demo-shop", &shop->metrics, err);
    if (shop->stock.database)
        shop->metrics.database = database_state(shop->stock.database);
    return shop->stock.database != NULL;
}

static bool open_cache(struct shop *shop, struct error *err)
{
    const struct shop_options *o = shop->options;
    const struct cache_options options = {
        .address = o->cache, .password_file = o->cache_password_file, .deadline_ms = o->cache_deadline_ms};
    shop->stock.ttl_s = (unsigned)((o->cache_ttl_ms + 999) / 1000);
    if (!o->cache)
        return true;
    shop->stock.cache = cache_new(&options, &shop->metrics, err);
    if (shop->stock.cache)
        shop->metrics.cache = cache_state(shop->stock.cache);
    return shop->stock.cache != NULL;
}

static bool serve(struct shop *shop, struct error *err)
{
    char shown[128];
    if (!open_database(shop, err) || !open_cache(shop, err))
        return false;
    int listener = socket_listen(shop->options->host, shop->options->port, shown, sizeof shown, err);
    if (listener < 0)
        return false;
    int signal_fd = block_signals();
    shop->daemon = signal_fd < 0 ? NULL : start_daemon(shop, listener);
    if (shop->daemon) {
        fprintf(stderr, "haldane-demo-shop %s listens on %s\n", shop->options->version, shown);
        loop(shop, signal_fd);
    } else {
        error_set(err, ERROR_SOFTWARE, "the HTTP library did not start: %s", strerror(errno));
        close(listener);
    }
    if (signal_fd >= 0)
        close(signal_fd);
    return shop->daemon != NULL;
}

bool shop_serve(const struct shop_options *options, struct error *err)
{
    struct shop shop = {.options = options,
                        .latency_rng = gsl_rng_alloc(gsl_rng_mt19937),
                        .failure_rng = gsl_rng_alloc(gsl_rng_mt19937)};
    gsl_rng_set(shop.latency_rng, (unsigned long)options->seed);
    gsl_rng_set(shop.failure_rng, (unsigned long)(options->seed ^ 0x9e3779b9U));
    metrics_init(&shop.metrics);
    enter(&shop, SERVING);
    bool good = serve(&shop, err);
    release(&shop);
    return good;
}
