/* What the shop's one loop is made of: its clock, and the set of descriptors that it waits for. */
#ifndef HALDANE_COMPOSE_SHOP_LOOP_H
#define HALDANE_COMPOSE_SHOP_LOOP_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NS_PER_MS INT64_C(1000000)

/* Nanoseconds that only grow. INT64_MAX stands for never. */
int64_t loop_now_ns(void);

enum { LOOP_SET_ROOM = 72, LOOP_NOWHERE = LOOP_SET_ROOM };

/* Filled anew for every wait: nothing is registered, so nothing can be forgotten when a connection ends. */
struct loop_set {
    struct pollfd fds[LOOP_SET_ROOM];
    size_t count;
};

/* Adds a descriptor (negative: none) with poll's events; returns its place, for loop_seen. */
size_t loop_add(struct loop_set *set, int fd, short events);

/* Waits until something happens, but not longer than `until_ns`. */
void loop_wait(struct loop_set *set, int64_t now_ns, int64_t until_ns);

/* What was seen at a place: poll's events, 0 for nothing and for LOOP_NOWHERE. */
short loop_seen(const struct loop_set *set, size_t place);

#endif
