/*
 * What the tests of the traffic drivers need around the real balancer: free ports, small applications behind it, one
 * request at a time, and a hand at its admin socket.
 */
#ifndef HALDANE_TESTS_LAB_H
#define HALDANE_TESTS_LAB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "analyzer/traffic/driver.h"
#include "base/memory.h"
#include "base/strbuf.h"
#include "tests/integration/ports.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static inline int64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static inline int listen_on_free_port(uint16_t *port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    struct sockaddr_in where = loopback(0);
    socklen_t length = sizeof where;
    assert_int_equal(bind(fd, (struct sockaddr *)&where, length), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&where, &length), 0);
    *port = ntohs(where.sin_port);
    return fd;
}

static inline bool port_listens(uint16_t port)
{
    struct sockaddr_in where = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool up = connect(fd, (struct sockaddr *)&where, sizeof where) == 0;
    close(fd);
    return up;
}

static inline void wait_for_port(uint16_t port)
{
    for (int i = 0; i < 500 && !port_listens(port); i++)
        pause_ms(10);
    assert_true(port_listens(port));
}

/* ---- the application: answers every request with its name, /slow after a while ---- */

enum { SLOW_MS = 700 };

struct app {
    const char *name;
    uint16_t port;
    struct MHD_Daemon *daemon;
};

static inline enum MHD_Result serve(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                                    const char *version, const char *upload, size_t *upload_size, void **context)
{
    (void)method, (void)version, (void)upload;
    struct app *app = cls;
    if (!*context || *upload_size) {
        *context = app;
        *upload_size = 0;
        return MHD_YES;
    }
    if (strcmp(url, "/slow") == 0)
        pause_ms(SLOW_MS);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(app->name), (void *)(uintptr_t)app->name, MHD_RESPMEM_PERSISTENT);
    enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

static inline void app_start(struct app *app)
{
    struct sockaddr_in where = loopback(app->port);
    app->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION, app->port, NULL,
                                   NULL, serve, app, MHD_OPTION_SOCK_ADDR, &where, MHD_OPTION_END);
    assert_non_null(app->daemon);
}

static inline void app_stop(struct app *app)
{
    if (app->daemon)
        MHD_stop_daemon(app->daemon);
    app->daemon = NULL;
}

/*
 * One request on a connection of its own; `headers` end with \r\n each. The index in `names` of the app that answered
 * with 200, or -1.
 */
static inline int request(uint16_t port, const char *method, const char *path, const char *headers,
                          const char *const *names, int name_count)
{
    struct sockaddr_in where = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    char text[512];
    bool body = strcmp(method, "POST") == 0;
    int length = snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n%s%s\r\n%s", method,
                          path, headers, body ? "Content-Length: 1\r\n" : "", body ? "x" : "");
    char answer[2048];
    size_t used = 0;
    if (connect(fd, (struct sockaddr *)&where, sizeof where) == 0 &&
        send(fd, text, (size_t)length, MSG_NOSIGNAL) == (ssize_t)length)
        for (ssize_t n; used < sizeof answer - 1 && (n = recv(fd, answer + used, sizeof answer - 1 - used, 0)) > 0;)
            used += (size_t)n;
    close(fd);
    answer[used] = '\0';
    if (strncmp(answer, "HTTP/1.1 200", 12) != 0)
        return -1;
    for (int i = 0; i < name_count; i++)
        if (strstr(answer, names[i]))
            return i;
    return -1;
}

/* What another program at the admin socket would do. The caller frees the answer. */
static inline char *ask_by_hand(const char *path, const char *command)
{
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    snprintf(where.sun_path, sizeof where.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&where, sizeof where), 0);
    assert_true(dprintf(fd, "%s\n", command) > 0);
    struct strbuf text = {0};
    char chunk[4096];
    for (ssize_t n; (n = read(fd, chunk, sizeof chunk)) > 0;)
        strbuf_add(&text, chunk, (size_t)n);
    close(fd);
    return strbuf_take(&text);
}

static inline void order_by_hand(const char *path, const char *command)
{
    char *answer = ask_by_hand(path, command);
    assert_string_equal(answer, "\n");
    free(answer);
}

#define assert_status(call, expected, err)                                                                             \
    do {                                                                                                               \
        enum driver_status status_ = (call);                                                                           \
        if (status_ != (expected))                                                                                     \
            fail_msg("status %d, not %d: %s", status_, expected, status_ ? (err).text : "");                           \
    } while (0)

/* Whether the report has a finding that is `wrong` (or not) and holds `text`. */
static inline bool finds(const struct driver_report *report, bool wrong, const char *text)
{
    for (size_t i = 0; i < report->count; i++)
        if (report->findings[i].wrong == wrong && strstr(report->findings[i].text, text))
            return true;
    return false;
}

#endif
