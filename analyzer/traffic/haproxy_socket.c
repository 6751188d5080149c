/*
 * Sockets never block here: every wait is a poll() that ends at the operation's deadline, so that a balancer that
 * stops in the middle of a word costs 10 s and not a rollout. Connecting is the only way in: nothing is ever created at
 * the socket's path. HAProxy closes after the answer, and ends it with an empty line; without that line the answer was
 * cut off, and nobody knows what it would have said.
 */
#include "analyzer/traffic/haproxy_socket.h"

#include "analyzer/traffic/haproxy_parse.h"
#include "analyzer/traffic/ops.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { HOST_MAX = 256, PORT_MAX = 8, LISTENS_MS = 1000 };

static int remaining_ms(int64_t deadline_ms)
{
    int64_t left = deadline_ms - driver_clock_ms();
    return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

static bool is_path(const char *address)
{
    return strchr(address, '/') != NULL;
}

/* HOST:PORT or [IPV6]:PORT */
static bool split_host(const char *address, char host[HOST_MAX], char port[PORT_MAX])
{
    const char *colon = strrchr(address, ':');
    if (!colon || colon == address)
        return false;
    const char *end = colon;
    bool bracket = *address == '[';
    if (bracket && (end[-1] != ']' || end - address < 3))
        return false;
    address += bracket;
    end -= bracket;
    size_t length = (size_t)(end - address);
    size_t digits = strspn(colon + 1, "0123456789");
    if (length >= HOST_MAX || (!bracket && memchr(address, ':', length)) || colon[1 + digits] || digits < 1 ||
        digits > 5)
        return false;
    memcpy(host, address, length);
    host[length] = '\0';
    memcpy(port, colon + 1, digits + 1);
    long value = strtol(port, NULL, 10);
    return value >= 1 && value <= 65535;
}

bool haproxy_address_check(const char *key, const char *address, struct error *err)
{
    char host[HOST_MAX];
    char port[PORT_MAX];
    if (is_path(address)) {
        size_t limit = sizeof((struct sockaddr_un *)NULL)->sun_path;
        return strlen(address) < limit ||
               error_set(err, ERROR_DATA, "traffic.%s: the path is longer than the %zu bytes a socket may have: %s",
                         key, limit - 1, address);
    }
    return split_host(address, host, port) ||
           error_set(err, ERROR_DATA,
                     "traffic.%s: '%s' is neither the path of a socket (/run/haproxy/admin.sock) nor HOST:PORT", key,
                     address);
}

/* 1 when `events` came, 0 at the deadline, -1 with errno. */
static int wait_for(int fd, short events, int64_t deadline_ms)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = events};
        int n = poll(&p, 1, remaining_ms(deadline_ms));
        if (n >= 0 || errno != EINTR)
            return n;
    }
}

/* A connected socket, or -1 with errno (ETIMEDOUT at the deadline). */
static int connect_to(const struct sockaddr *where, socklen_t length, int64_t deadline_ms)
{
    int fd = socket(where->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int failure = connect(fd, where, length) == 0 ? 0 : errno;
    if (failure == EINPROGRESS || failure == EINTR) {
        socklen_t size = sizeof failure;
        int n = wait_for(fd, POLLOUT, deadline_ms);
        if (n == 0)
            failure = ETIMEDOUT;
        else if (n < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) < 0)
            failure = errno;
    }
    if (failure == 0)
        return fd;
    close(fd);
    errno = failure;
    return -1;
}

static int connect_path(const char *path, int64_t deadline_ms)
{
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    memcpy(where.sun_path, path, strlen(path) + 1);
    return connect_to((const struct sockaddr *)&where, sizeof where, deadline_ms);
}

/* A name that is being looked up; on the heap, for the C library may go on with it after our deadline. */
struct lookup {
    struct gaicb request;
    struct addrinfo hints;
    char host[HOST_MAX], port[PORT_MAX];
};

/*
 * getaddrinfo() knows no deadline, and a dead name server holds it for longer than ours. So the C library asks in a
 * thread of its own; a look-up that is late and cannot be called back stays its property.
 */
static struct addrinfo *look_up(const char *host, const char *port, int64_t deadline_ms, int *failure)
{
    struct lookup *lookup = mem_alloc(1, sizeof *lookup);
    snprintf(lookup->host, sizeof lookup->host, "%s", host);
    snprintf(lookup->port, sizeof lookup->port, "%s", port);
    lookup->hints = (struct addrinfo){.ai_socktype = SOCK_STREAM};
    lookup->request = (struct gaicb){.ar_name = lookup->host, .ar_service = lookup->port, .ar_request = &lookup->hints};
    struct gaicb *list[] = {&lookup->request};
    *failure = getaddrinfo_a(GAI_NOWAIT, list, 1, NULL);
    while (*failure == 0 && gai_error(&lookup->request) == EAI_INPROGRESS && remaining_ms(deadline_ms) > 0) {
        int left = remaining_ms(deadline_ms);
        struct timespec timeout = {.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000L};
        gai_suspend((const struct gaicb *const *)list, 1, &timeout);
    }
    if (*failure == 0) {
        *failure = gai_error(&lookup->request);
        if (*failure == EAI_INPROGRESS && gai_cancel(&lookup->request) == EAI_NOTCANCELED)
            return NULL;
        *failure = gai_error(&lookup->request);
    }
    struct addrinfo *found = *failure == 0 ? lookup->request.ar_result : NULL;
    free(lookup);
    return found;
}

static int connect_host(const char *address, int64_t deadline_ms)
{
    char host[HOST_MAX];
    char port[PORT_MAX];
    if (!split_host(address, host, port)) {
        errno = EINVAL;
        return -1;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int failure = 0;
    if (getaddrinfo(host, port, &hints, &found) != 0)
        found = look_up(host, port, deadline_ms, &failure);
    if (!found) {
        errno = remaining_ms(deadline_ms) == 0 ? ETIMEDOUT : EHOSTUNREACH;
        return -1;
    }
    int fd = -1;
    for (const struct addrinfo *at = found; at && fd < 0; at = at->ai_next)
        fd = connect_to(at->ai_addr, at->ai_addrlen, deadline_ms);
    int kept = errno;
    freeaddrinfo(found);
    errno = kept;
    return fd;
}

/* What a reload may cause for a moment. */
static bool is_passing(int failure)
{
    return failure == ENOENT || failure == ECONNREFUSED || failure == EAGAIN;
}

static int connect_any(const char *address, int64_t deadline_ms)
{
    return is_path(address) ? connect_path(address, deadline_ms) : connect_host(address, deadline_ms);
}

bool haproxy_listens(const char *address)
{
    int fd = connect_any(address, driver_clock_ms() + LISTENS_MS);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* A connection to `address`, or to `master` where only that one is there; errno is that of `address`. */
static int connect_patiently(const char *address, const char *master, int64_t deadline_ms, bool *to_master)
{
    static const int pauses_ms[] = {300, 700, 1000};
    enum { PAUSES = sizeof pauses_ms / sizeof pauses_ms[0] };
    for (size_t i = 0;; i++) {
        *to_master = false;
        int fd = connect_any(address, deadline_ms);
        int failure = errno;
        if (fd < 0 && is_passing(failure) && master) {
            *to_master = true;
            fd = connect_any(master, deadline_ms);
            errno = failure;
        }
        if (fd >= 0 || !is_passing(failure) || i == PAUSES || remaining_ms(deadline_ms) <= pauses_ms[i])
            return fd;
        wait_for(-1, 0, driver_clock_ms() + pauses_ms[i]);
    }
}

static enum driver_status late(const char *address, struct error *err)
{
    return driver_fail(err, DRIVER_TIMEOUT,
                       "HAProxy at %s gave no answer within %d s: the share is unknown; look at its load and at the "
                       "admin socket, then ask again with `haldane traffic get`",
                       address, DRIVER_DEADLINE_MS / 1000);
}

static enum driver_status not_connected(const char *address, int failure, struct error *err)
{
    if (failure == ETIMEDOUT)
        return late(address, err);
    const char *mend = "is HAProxy running, and is this the address in its `stats socket` line?";
    if (failure == EACCES)
        mend = "let the user that runs haldane into the socket's group (`mode 660 group …` in the `stats socket` line)";
    else if (failure == ENOENT)
        mend =
            "is HAProxy running? If somebody deleted the file, only a restart of HAProxy brings it back; `master` in "
            "the policy's traffic section is a second way in";
    else if (failure == EHOSTUNREACH)
        mend = "check the name and the route";
    return driver_fail(err, DRIVER_UNREACHABLE, "HAProxy at %s cannot be reached (%s): %s", address, strerror(failure),
                       mend);
}

static enum driver_status cut_off(const char *address, const char *how, struct error *err)
{
    return driver_fail(err, DRIVER_UNREACHABLE,
                       "HAProxy at %s %s: what it did is unknown; is this its admin socket, and not another service's?",
                       address, how);
}

static enum driver_status send_all(int fd, const char *address, const char *text, int64_t deadline_ms,
                                   struct error *err)
{
    size_t length = strlen(text);
    while (length > 0) {
        int ready = wait_for(fd, POLLOUT, deadline_ms);
        if (ready <= 0)
            return ready == 0 ? late(address, err) : cut_off(address, "cannot be waited for", err);
        ssize_t n = send(fd, text, length, MSG_NOSIGNAL);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return cut_off(address, "closed the connection before the command was sent", err);
        text += n;
        length -= (size_t)n;
    }
    return DRIVER_OK;
}

static enum driver_status receive_all(int fd, const char *address, int64_t deadline_ms, struct strbuf *answer,
                                      struct error *err)
{
    char chunk[16384];
    for (;;) {
        int ready = wait_for(fd, POLLIN, deadline_ms);
        if (ready <= 0)
            return ready == 0 ? late(address, err) : cut_off(address, "cannot be waited for", err);
        ssize_t n = recv(fd, chunk, sizeof chunk, 0);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return cut_off(address, "broke the connection off", err);
        if (n == 0)
            return DRIVER_OK;
        if (answer->length + (size_t)n > HAPROXY_ANSWER_MAX)
            return cut_off(address, "answered more than 4 MiB", err);
        strbuf_add(answer, chunk, (size_t)n);
        if (remaining_ms(deadline_ms) == 0)
            return late(address, err);
    }
}

/* Takes the empty line off the end. */
static enum driver_status complete(const char *address, struct strbuf *answer, struct error *err)
{
    size_t length = answer->length;
    if (length == 0)
        return cut_off(address, "closed the connection without an answer", err);
    bool ended = answer->text[length - 1] == '\n' && (length == 1 || answer->text[length - 2] == '\n');
    if (!ended || memchr(answer->text, '\0', length)) {
        char line[HAPROXY_LINE];
        haproxy_first_line(answer->text, line);
        driver_fail(err, DRIVER_UNREACHABLE,
                    "HAProxy at %s gave an answer that is cut off or not HAProxy's (it begins: %.80s): what it did is "
                    "unknown; is this its admin socket, and not another service's?",
                    address, line);
        return DRIVER_UNREACHABLE;
    }
    answer->text[--answer->length] = '\0';
    return DRIVER_OK;
}

/* The worker of today is `@1`, before each command; only the mode is switched on in the master, which hands it on. */
static char *line_for_master(const char *command)
{
    struct strbuf line = {0};
    char *copy = mem_strdup(command);
    char *rest = copy;
    for (char *one = strsep(&rest, ";"); one; one = strsep(&rest, ";")) {
        one += strspn(one, " ");
        bool mode = strcmp(one, "experimental-mode on") == 0;
        strbuf_printf(&line, "%s%s%s", line.length ? "; " : "", mode ? "" : "@1 ", one);
    }
    strbuf_puts(&line, "\n");
    free(copy);
    return strbuf_take(&line);
}

/* What the master says when it has no worker, which is not what the worker would say. */
static enum driver_status check_worker(const char *master, const struct strbuf *answer, struct error *err)
{
    if (answer->length == 0 || strncmp(answer->text, "Can't find the target", 21) != 0)
        return DRIVER_OK;
    return driver_fail(err, DRIVER_UNREACHABLE, "HAProxy's master at %s has no worker now; ask again", master);
}

enum driver_status haproxy_ask(const char *address, const char *master, int64_t deadline_ms, const char *command,
                               char **answer, struct error *err)
{
    bool to_master;
    int fd = connect_patiently(address, master, deadline_ms, &to_master);
    if (fd < 0)
        return not_connected(address, errno, err);
    const char *where = to_master ? master : address;
    struct strbuf buf = {0};
    char *line = to_master ? line_for_master(command) : mem_printf("%s\n", command);
    enum driver_status status = send_all(fd, where, line, deadline_ms, err);
    if (status == DRIVER_OK && to_master)
        shutdown(fd, SHUT_WR); /* the master closes only after a client that does */
    if (status == DRIVER_OK)
        status = receive_all(fd, where, deadline_ms, &buf, err);
    if (status == DRIVER_OK && to_master)
        status = check_worker(where, &buf, err);
    if (status == DRIVER_OK)
        status = complete(where, &buf, err);
    if (status == DRIVER_OK)
        *answer = strbuf_take(&buf);
    strbuf_free(&buf);
    free(line);
    close(fd);
    return status;
}
