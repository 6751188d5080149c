/*
 * The listening socket is ours rather than the library's, so that closing it loses nothing. A connection that the
 * kernel has accepted but the program has not is reset when the socket closes. A filter therefore drops the first
 * packet of every new handshake; then the queue is emptied; then the socket is closed. Whoever comes in between
 * repeats the handshake and is refused in the ordinary way.
 */
#include "compose/shop/shop.h"

#include <errno.h>
#include <linux/filter.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool bind_and_listen(int fd, const struct addrinfo *address)
{
    const int on = 1;
    return setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
           bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, 1024) == 0;
}

static void show_address(int fd, char *shown, size_t size)
{
    struct sockaddr_storage own = {0};
    socklen_t length = sizeof own;
    char host[64] = "?";
    char port[16] = "?";
    if (getsockname(fd, (struct sockaddr *)&own, &length) == 0)
        getnameinfo((struct sockaddr *)&own, length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(shown, size, own.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

int socket_listen(const char *host, const char *port, char *shown, size_t size, struct error *err)
{
    const struct addrinfo hints = {
        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *address = NULL;
    int failed = getaddrinfo(host, port, &hints, &address);
    if (failed) {
        error_set(err, ERROR_USAGE, "--listen takes a numeric address and a port, as 127.0.0.1:8080, not \"%s:%s\": %s",
                  host, port, gai_strerror(failed));
        return -1;
    }
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || !bind_and_listen(fd, address)) {
        error_set(err, ERROR_UNAVAILABLE, "cannot listen on %s port %s: %s; choose another with --listen", host, port,
                  strerror(errno));
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    freeaddrinfo(address);
    if (fd >= 0)
        show_address(fd, shown, size);
    return fd;
}

void socket_refuse_new(int fd)
{
    const uint32_t flags_byte = 13; /* of the TCP header, where the kernel's filter begins on a TCP socket */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, flags_byte),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, TH_SYN | TH_ACK),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TH_SYN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    /* A kernel that refuses the filter leaves a gap of microseconds, which is no reason to stay up. */
    (void)setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}
