/* Ports of the loopback for the servers that a test starts. */
#ifndef HALDANE_TESTS_PORTS_H
#define HALDANE_TESTS_PORTS_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static inline struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static inline bool port_is_free(uint16_t port)
{
    struct sockaddr_in where = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    bool is_free = bind(fd, (struct sockaddr *)&where, sizeof where) == 0;
    close(fd);
    return is_free;
}

/* As tests/free_ports: at random, and below those that the kernel gives to connections. */
static inline uint16_t free_port(void)
{
    enum { FIRST = 10000, LAST = 32000 };
    static unsigned seed;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (seed == 0)
        seed = (unsigned)now.tv_nsec ^ (unsigned)getpid();
    uint16_t port;
    do
        port = (uint16_t)(FIRST + rand_r(&seed) % (LAST - FIRST));
    while (!port_is_free(port));
    return port;
}

#endif
