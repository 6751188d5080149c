/*
 * The sending loop: one thread around curl's multi_socket interface and epoll, so that its cost goes with the events
 * and not with the number of open connections.
 *
 * The schedule is fixed beforehand and never asks how the answers are doing. A request that finds no free connection
 * waits in a queue with the time at which it was due. Its patience and its latency count from there.
 *
 * Nothing is sent twice. When a kept-alive connection dies before the first byte of an answer, curl sends the request
 * again on another connection, POST included, and says nothing. Its pre-request callback runs before every sending, the
 * first and the repeated ones: from the second on it aborts, and the request counts as `empty`, for that is what the
 * server did. What curl may do, as any good client does, is to drop an idle connection that it finds closed before it
 * has sent anything, and not to use one again that was idle for half a minute, as balancers are about to close those.
 */
#include "base/memory.h"
#include "compose/load/load.h"

#include <curl/curl.h>
#include <errno.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_rng.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static const int64_t NS_PER_MS = 1000000;
static const int64_t NS_PER_S = 1000000000;
static const char post_body[] = "{\"item\":7,\"count\":1}";

/* One request as the schedule made it. */
struct arrival {
    int64_t due_ns;
    const char *path;
    enum load_method method;
    bool is_short;
};

/* A curl handle and the request that it carries. Handles are reused; the connections belong to the multi handle. */
struct slot {
    struct engine *engine;
    CURL *easy;
    struct arrival arrival;
    unsigned sends;
    bool resend_stopped;
    struct slot *next;
};

struct engine {
    const struct load_options *options;
    struct tally *tally;
    CURLM *multi;
    int epoll_fd;
    int timer_fd;
    int signal_fd;
    gsl_rng *rng;
    struct slot *idle;
    struct slot *all; /* an array of connections_max, the first slot_count in use or idle */
    size_t slot_count;
    struct curl_slist *headers[LOAD_METHODS][2]; /* [method][short] */
    struct arrival *queue;                       /* from queue_first up to queue_end */
    size_t queue_first;
    size_t queue_end;
    size_t queue_room;
    bool sending;
    int64_t start_ns;
    int64_t end_ns;
    int64_t next_due_ns;
    uint64_t scheduled;
    int64_t curl_due_ns; /* when curl wants to be called; INT64_MAX: not */
    int64_t armed_ns;
    int64_t progress_ns;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static double ms_since(int64_t since_ns, int64_t now)
{
    return now > since_ns ? (double)(now - since_ns) / (double)NS_PER_MS : 0;
}

/* --- curl's callbacks --- */

static size_t on_body(char *bytes, size_t size, size_t count, void *unused)
{
    (void)bytes;
    (void)unused;
    return size * count;
}

static int before_sending(void *closure, char *ip, char *local_ip, int port, int local_port)
{
    struct slot *slot = closure;
    (void)ip;
    (void)local_ip;
    (void)port;
    (void)local_port;
    if (slot->sends > 0) {
        slot->resend_stopped = true;
        return CURL_PREREQFUNC_ABORT;
    }
    slot->sends++;
    return CURL_PREREQFUNC_OK;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *closure, void *known)
{
    struct engine *engine = closure;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(engine->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    struct epoll_event event = {.data.fd = fd};
    event.events = (what & CURL_POLL_IN ? EPOLLIN : 0U) | (what & CURL_POLL_OUT ? EPOLLOUT : 0U);
    epoll_ctl(engine->epoll_fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
    curl_multi_assign(engine->multi, fd, engine);
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *closure)
{
    struct engine *engine = closure;
    (void)multi;
    engine->curl_due_ns = ms < 0 ? INT64_MAX : now_ns() + ms * NS_PER_MS;
    return 0;
}

/* --- requests --- */

static struct slot *new_slot(struct engine *engine)
{
    struct slot *slot = &engine->all[engine->slot_count];
    slot->engine = engine;
    slot->easy = curl_easy_init();
    if (!slot->easy)
        return NULL;
    engine->slot_count++;
    curl_easy_setopt(slot->easy, CURLOPT_PRIVATE, slot);
    curl_easy_setopt(slot->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(slot->easy, CURLOPT_PREREQFUNCTION, before_sending);
    curl_easy_setopt(slot->easy, CURLOPT_PREREQDATA, slot);
    curl_easy_setopt(slot->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(slot->easy, CURLOPT_PROXY, "");
    curl_easy_setopt(slot->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(slot->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(slot->easy, CURLOPT_MAXAGE_CONN, 30L);
    curl_easy_setopt(slot->easy, CURLOPT_USERAGENT, "haldane-demo-load");
    return slot;
}

static struct slot *take_slot(struct engine *engine)
{
    struct slot *slot = engine->idle;
    if (slot)
        engine->idle = slot->next;
    else if (engine->slot_count < engine->options->connections_max)
        slot = new_slot(engine);
    return slot;
}

static void send_now(struct engine *engine, struct slot *slot, const struct arrival *arrival, int64_t now)
{
    slot->arrival = *arrival;
    slot->sends = 0;
    slot->resend_stopped = false;
    char url[BASE_URL_LENGTH + PATH_LENGTH + 1];
    snprintf(url, sizeof url, "%s%s", engine->options->url, arrival->path);
    int64_t left_ms = engine->options->timeout_ms - (now - arrival->due_ns) / NS_PER_MS;
    curl_easy_setopt(slot->easy, CURLOPT_URL, url);
    curl_easy_setopt(slot->easy, CURLOPT_TIMEOUT_MS, (long)(left_ms > 1 ? left_ms : 1));
    curl_easy_setopt(slot->easy, CURLOPT_FRESH_CONNECT, (long)arrival->is_short);
    curl_easy_setopt(slot->easy, CURLOPT_FORBID_REUSE, (long)arrival->is_short);
    curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, engine->headers[arrival->method][arrival->is_short]);
    if (arrival->method == LOAD_POST) {
        curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDS, post_body);
        curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDSIZE, (long)(sizeof post_body - 1));
    } else {
        curl_easy_setopt(slot->easy, CURLOPT_HTTPGET, 1L);
    }
    curl_multi_add_handle(engine->multi, slot->easy);
    struct tally *tally = engine->tally;
    tally->sent++;
    if (++tally->in_flight > tally->in_flight_max)
        tally->in_flight_max = tally->in_flight;
}

/* What went wrong, told by what had happened before: curl's code alone mixes them up. */
static enum failure failure_of(const struct slot *slot, CURLcode result)
{
    if (slot->sends == 0)
        return result == CURLE_URL_MALFORMAT ? FAIL_OTHER : FAIL_CONNECT;
    if (slot->resend_stopped || result == CURLE_GOT_NOTHING || result == CURLE_COULDNT_CONNECT)
        return FAIL_EMPTY; /* a connection that fails after a sending was curl's attempt to send again */
    if (result == CURLE_OPERATION_TIMEDOUT)
        return FAIL_TIMEOUT;
    if (result == CURLE_SEND_ERROR || result == CURLE_RECV_ERROR || result == CURLE_PARTIAL_FILE)
        return FAIL_RESET;
    return FAIL_OTHER;
}

static const char *header_of(CURL *easy, const char *name)
{
    struct curl_header *header = NULL;
    return curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK ? header->value : NULL;
}

static void finish(struct engine *engine, struct slot *slot, CURLcode result, int64_t now)
{
    struct tally *tally = engine->tally;
    long status = 0;
    long connects = 0;
    curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(slot->easy, CURLINFO_NUM_CONNECTS, &connects);
    tally->connections_opened += (uint64_t)(connects > 0 ? connects : 0);
    tally->in_flight--;
    if (result == CURLE_OK && status >= 100) {
        tally_answer(tally, slot->arrival.method, status, header_of(slot->easy, engine->options->track_header),
                     header_of(slot->easy, "X-Version"), ms_since(slot->arrival.due_ns, now));
    } else {
        enum failure kind = failure_of(slot, result);
        tally->resends_prevented += slot->resend_stopped || (slot->sends > 0 && result == CURLE_COULDNT_CONNECT);
        tally_failure(tally, kind);
    }
    curl_multi_remove_handle(engine->multi, slot->easy);
    slot->next = engine->idle;
    engine->idle = slot;
}

static void reap(struct engine *engine)
{
    int left = 0;
    for (CURLMsg *message; (message = curl_multi_info_read(engine->multi, &left));) {
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode result = message->data.result;
        char *slot = NULL;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &slot);
        finish(engine, (struct slot *)(void *)slot, result, now_ns());
    }
}

/* --- the queue for a connection --- */

static size_t queue_length(const struct engine *engine)
{
    return engine->queue_end - engine->queue_first;
}

static void queue_add(struct engine *engine, const struct arrival *arrival)
{
    if (engine->queue_first > 0 && engine->queue_end == engine->queue_room) {
        memmove(engine->queue, engine->queue + engine->queue_first, queue_length(engine) * sizeof *engine->queue);
        engine->queue_end -= engine->queue_first;
        engine->queue_first = 0;
    }
    engine->queue = mem_grow(engine->queue, engine->queue_end, &engine->queue_room, sizeof *engine->queue);
    engine->queue[engine->queue_end++] = *arrival;
    engine->tally->queued++;
    if (queue_length(engine) > engine->tally->queue_max)
        engine->tally->queue_max = queue_length(engine);
}

static int64_t patience_end(const struct engine *engine, const struct arrival *arrival)
{
    return arrival->due_ns + engine->options->timeout_ms * NS_PER_MS;
}

static void serve_queue(struct engine *engine, int64_t now)
{
    while (queue_length(engine) > 0) {
        const struct arrival *first = &engine->queue[engine->queue_first];
        bool gave_up = patience_end(engine, first) <= now;
        struct slot *slot = gave_up ? NULL : take_slot(engine);
        if (!gave_up && !slot)
            return;
        spread_add(&engine->tally->queueing, ms_since(first->due_ns, now));
        if (gave_up)
            tally_failure(engine->tally, FAIL_UNSENT);
        else
            send_now(engine, slot, first, now);
        engine->queue_first++;
    }
}

/* --- the schedule --- */

static void schedule_next(struct engine *engine)
{
    const struct load_options *o = engine->options;
    engine->scheduled++;
    if (o->poisson)
        engine->next_due_ns += (int64_t)(gsl_ran_exponential(engine->rng, 1 / o->rate) * (double)NS_PER_S);
    else
        engine->next_due_ns = engine->start_ns + (int64_t)((double)engine->scheduled / o->rate * (double)NS_PER_S);
    if (engine->next_due_ns >= engine->end_ns)
        engine->sending = false;
}

static struct arrival draw_arrival(struct engine *engine)
{
    const struct load_options *o = engine->options;
    struct arrival arrival = {.due_ns = engine->next_due_ns};
    arrival.method = gsl_rng_uniform(engine->rng) < o->post_share ? LOAD_POST : LOAD_GET;
    arrival.is_short = gsl_rng_uniform(engine->rng) < o->short_share;
    const struct text_list *paths = arrival.method == LOAD_POST ? &o->post_paths : &o->get_paths;
    arrival.path = paths->items[gsl_rng_uniform_int(engine->rng, paths->count)];
    return arrival;
}

static void start_due(struct engine *engine)
{
    for (int64_t now; engine->sending && (now = now_ns()) >= engine->next_due_ns;) {
        struct arrival arrival = draw_arrival(engine);
        engine->tally->due++;
        engine->tally->method_due[arrival.method]++;
        spread_add(&engine->tally->lateness, ms_since(arrival.due_ns, now));
        struct slot *slot = queue_length(engine) == 0 ? take_slot(engine) : NULL;
        if (slot)
            send_now(engine, slot, &arrival, now);
        else
            queue_add(engine, &arrival);
        schedule_next(engine);
    }
}

/* --- the loop --- */

static void show_progress(struct engine *engine, int64_t now)
{
    const struct tally *t = engine->tally;
    if (!engine->options->progress || now < engine->progress_ns)
        return;
    engine->progress_ns += NS_PER_S;
    fprintf(stderr, "%.0fs due %llu answered %llu failed %llu under way %llu p50 %.1f ms p99 %.1f ms\n",
            (double)(now - engine->start_ns) / (double)NS_PER_S, (unsigned long long)t->due,
            (unsigned long long)t->all.answered, (unsigned long long)t->failed,
            (unsigned long long)(t->in_flight + queue_length(engine)), spread_quantile(&t->all.latency, 0.5),
            spread_quantile(&t->all.latency, 0.99));
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void arm_timer(struct engine *engine)
{
    int64_t wake = engine->curl_due_ns;
    if (engine->sending)
        wake = earlier(wake, engine->next_due_ns);
    if (queue_length(engine) > 0)
        wake = earlier(wake, patience_end(engine, &engine->queue[engine->queue_first]));
    if (engine->options->progress)
        wake = earlier(wake, engine->progress_ns);
    if (wake == engine->armed_ns)
        return;
    engine->armed_ns = wake;
    if (wake == INT64_MAX)
        wake = 0; /* which disarms it */
    const struct itimerspec when = {.it_value = {.tv_sec = wake / NS_PER_S, .tv_nsec = wake % NS_PER_S}};
    timerfd_settime(engine->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void on_event(struct engine *engine, const struct epoll_event *event)
{
    int running = 0;
    int fd = event->data.fd;
    if (fd == engine->timer_fd) {
        uint64_t times;
        if (read(fd, &times, sizeof times) == sizeof times)
            engine->armed_ns = 0;
    } else if (fd == engine->signal_fd) {
        struct signalfd_siginfo info;
        if (read(fd, &info, sizeof info) == sizeof info && engine->sending) {
            engine->sending = false;
            engine->tally->interrupted = true;
            engine->end_ns = now_ns();
        }
    } else {
        int mask = (event->events & EPOLLIN ? CURL_CSELECT_IN : 0) | (event->events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                   (event->events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
        curl_multi_socket_action(engine->multi, fd, mask, &running);
    }
}

static bool work_left(const struct engine *engine)
{
    return engine->sending || engine->tally->in_flight > 0 || queue_length(engine) > 0;
}

static void loop(struct engine *engine)
{
    struct epoll_event events[128];
    for (;;) {
        start_due(engine);
        int running = 0;
        int64_t now = now_ns();
        if (engine->curl_due_ns <= now) {
            engine->curl_due_ns = INT64_MAX;
            curl_multi_socket_action(engine->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        }
        reap(engine);
        serve_queue(engine, now);
        show_progress(engine, now);
        if (!work_left(engine))
            return;
        arm_timer(engine);
        int count = epoll_wait(engine->epoll_fd, events, sizeof events / sizeof *events, -1);
        for (int i = 0; i < count; i++)
            on_event(engine, &events[i]);
        reap(engine);
    }
}

/* --- the start and the end --- */

static bool watch(struct engine *engine, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return fd >= 0 && epoll_ctl(engine->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static bool open_descriptors(struct engine *engine, struct error *err)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        if (limit.rlim_max < engine->options->connections_max + 64)
            return error_set(err, ERROR_USAGE, "this process may open %llu files only; lower --connections-max",
                             (unsigned long long)limit.rlim_max);
    }
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    engine->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    engine->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    engine->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (engine->epoll_fd < 0 || !watch(engine, engine->timer_fd) || !watch(engine, engine->signal_fd))
        return error_set(err, ERROR_SOFTWARE, "cannot wait for events: %s", strerror(errno));
    return true;
}

static void make_headers(struct engine *engine)
{
    for (int method = 0; method < LOAD_METHODS; method++)
        for (int is_short = 0; is_short < 2; is_short++) {
            struct curl_slist *list = NULL;
            for (size_t i = 0; i < engine->options->headers.count; i++)
                list = curl_slist_append(list, engine->options->headers.items[i]);
            if (method == LOAD_POST)
                list = curl_slist_append(list, "Content-Type: application/json");
            if (is_short)
                list = curl_slist_append(list, "Connection: close");
            engine->headers[method][is_short] = list;
        }
}

static bool open_engine(struct engine *engine, struct error *err)
{
    if (!open_descriptors(engine, err))
        return false;
    engine->multi = curl_multi_init();
    if (!engine->multi)
        return error_set(err, ERROR_SOFTWARE, "libcurl did not start");
    curl_multi_setopt(engine->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(engine->multi, CURLMOPT_SOCKETDATA, engine);
    curl_multi_setopt(engine->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(engine->multi, CURLMOPT_TIMERDATA, engine);
    curl_multi_setopt(engine->multi, CURLMOPT_MAXCONNECTS, (long)engine->options->connections_max);
    engine->all = mem_alloc((size_t)engine->options->connections_max, sizeof *engine->all);
    engine->rng = gsl_rng_alloc(gsl_rng_mt19937);
    gsl_rng_set(engine->rng, (unsigned long)engine->options->seed);
    make_headers(engine);
    return true;
}

static void close_engine(struct engine *engine)
{
    for (size_t i = 0; i < engine->slot_count; i++)
        curl_easy_cleanup(engine->all[i].easy);
    curl_multi_cleanup(engine->multi);
    for (int method = 0; method < LOAD_METHODS; method++)
        for (int is_short = 0; is_short < 2; is_short++)
            curl_slist_free_all(engine->headers[method][is_short]);
    gsl_rng_free(engine->rng);
    free(engine->all);
    free(engine->queue);
    const int fds[] = {engine->timer_fd, engine->signal_fd, engine->epoll_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

bool load_run(const struct load_options *options, struct tally *tally, struct error *err)
{
    struct engine engine = {.options = options,
                            .tally = tally,
                            .epoll_fd = -1,
                            .timer_fd = -1,
                            .signal_fd = -1,
                            .sending = true,
                            .curl_due_ns = INT64_MAX};
    bool good = open_engine(&engine, err);
    if (good) {
        engine.start_ns = engine.next_due_ns = now_ns();
        engine.end_ns = options->duration_ms > 0 ? engine.start_ns + options->duration_ms * NS_PER_MS : INT64_MAX;
        engine.progress_ns = engine.start_ns + NS_PER_S;
        loop(&engine);
        tally->sending_s = ms_since(engine.start_ns, engine.end_ns) / 1000;
        tally->elapsed_s = ms_since(engine.start_ns, now_ns()) / 1000;
    }
    close_engine(&engine);
    return good;
}
