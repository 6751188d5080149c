/* The demo shop's options, its waiting requests and its listening socket. */
#ifndef HALDANE_COMPOSE_SHOP_SHOP_H
#define HALDANE_COMPOSE_SHOP_SHOP_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shop_options {
    char *host;          /* numeric address */
    char *port;          /* "0": the kernel chooses */
    const char *version; /* 1..64 of [A-Za-z0-9._+-] */
    double failure_share;
    double latency_median_ms;
    double latency_sigma;
    double latency_factor;
    uint64_t leak_bytes;    /* per business request */
    int64_t crash_after_ms; /* negative: never */
    int64_t drain_ms;
    uint64_t seed;
    const char *database; /* libpq's connection string; NULL: the catalogue is in memory and orders are not kept */
    const char *database_password_file;
    uint64_t database_connections;
    int64_t database_deadline_ms;
    const char *cache; /* HOST:PORT; NULL: nothing is cached and carts are not kept */
    const char *cache_password_file;
    int64_t cache_deadline_ms;
    int64_t cache_ttl_ms;
    int64_t patience_ms; /* how long /readyz says "starting" while the database has not been reached */
};

/* Serves until SIGTERM or SIGINT and the drain is over. False only if it could not start. */
bool shop_serve(const struct shop_options *options, struct error *err);

/* --- delay.c: requests that wait for their time, earliest first. --- */

struct delayed {
    int64_t due_ns;
    void *request;
};

struct delay_queue {
    struct delayed *heap;
    size_t count;
    size_t room;
};

void delay_push(struct delay_queue *queue, int64_t due_ns, void *request);
int64_t delay_next(const struct delay_queue *queue);            /* INT64_MAX if nothing waits */
void *delay_pop_due(struct delay_queue *queue, int64_t now_ns); /* NULL if nothing is due */
void delay_free(struct delay_queue *queue);

/* --- socket.c --- */

/* A listening, non-blocking socket, or -1. `shown` gets the address it really has, as 127.0.0.1:8080. */
int socket_listen(const char *host, const char *port, char *shown, size_t size, struct error *err);

/* Lets no new handshake begin on a listening socket, while those that have begun still end in its queue. */
void socket_refuse_new(int fd);

#endif
