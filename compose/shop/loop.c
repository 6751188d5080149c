/* poll and not epoll: a few dozen descriptors at most, since libmicrohttpd's own are behind one. */
#include "compose/shop/loop.h"

#include <assert.h>
#include <time.h>

int64_t loop_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 * NS_PER_MS + now.tv_nsec;
}

size_t loop_add(struct loop_set *set, int fd, short events)
{
    if (fd < 0)
        return LOOP_NOWHERE;
    assert(set->count < LOOP_SET_ROOM);
    set->fds[set->count] = (struct pollfd){.fd = fd, .events = events};
    return set->count++;
}

void loop_wait(struct loop_set *set, int64_t now_ns, int64_t until_ns)
{
    int64_t left = until_ns > now_ns ? until_ns - now_ns : 0;
    struct timespec timeout = {.tv_sec = left / (1000 * NS_PER_MS), .tv_nsec = left % (1000 * NS_PER_MS)};
    if (ppoll(set->fds, set->count, until_ns == INT64_MAX ? NULL : &timeout, NULL) > 0)
        return;
    for (size_t i = 0; i < set->count; i++) /* interrupted: what poll left there means nothing */
        set->fds[i].revents = 0;
}

short loop_seen(const struct loop_set *set, size_t place)
{
    return place < set->count ? set->fds[place].revents : 0;
}
