/*
 * A thread for each name that is looked up, since getaddrinfo can do nothing but wait. It shares only `struct resolve`
 * with the loop, and the last of the two frees it: the loop may have given up long before the name server answers.
 */
#include "compose/shop/resolve.h"

#include "base/memory.h"

#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct resolve {
    char *host;
    int ready; /* an eventfd */
    int failed;
    struct addrinfo *found;
    atomic_int holders;
};

static void let_go(struct resolve *resolve)
{
    if (atomic_fetch_sub(&resolve->holders, 1) > 1)
        return;
    if (resolve->found)
        freeaddrinfo(resolve->found);
    if (resolve->ready >= 0)
        close(resolve->ready);
    free(resolve->host);
    free(resolve);
}

static void look_up(struct resolve *resolve, int flags)
{
    const struct addrinfo hints = {.ai_flags = flags, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    resolve->failed = getaddrinfo(resolve->host, NULL, &hints, &resolve->found);
}

static void announce(struct resolve *resolve)
{
    const uint64_t one = 1;
    /* Without a descriptor the answer is never seen, and whoever waits for it gives up at his deadline. */
    if (resolve->ready >= 0 && write(resolve->ready, &one, sizeof one) != sizeof one)
        abort(); /* a counter that is written once cannot be full */
}

static void *in_thread(void *argument)
{
    struct resolve *resolve = argument;
    look_up(resolve, AI_ADDRCONFIG);
    announce(resolve);
    let_go(resolve);
    return NULL;
}

static bool start_thread(struct resolve *resolve)
{
    pthread_attr_t attributes;
    pthread_t thread;
    atomic_store(&resolve->holders, 2);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    bool started = pthread_create(&thread, &attributes, in_thread, resolve) == 0;
    pthread_attr_destroy(&attributes);
    if (!started)
        atomic_store(&resolve->holders, 1);
    return started;
}

struct resolve *resolve_begin(const char *host)
{
    struct resolve *resolve = mem_alloc(1, sizeof *resolve);
    resolve->host = mem_strdup(host);
    resolve->ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atomic_init(&resolve->holders, 1);
    look_up(resolve, AI_NUMERICHOST);
    if (resolve->failed == 0)
        announce(resolve);
    else if (!start_thread(resolve)) {
        resolve->failed = EAI_AGAIN;
        announce(resolve);
    }
    return resolve;
}

int resolve_fd(const struct resolve *resolve)
{
    return resolve->ready;
}

static const struct addrinfo *nth(const struct addrinfo *found, unsigned attempt)
{
    unsigned count = 0;
    for (const struct addrinfo *one = found; one; one = one->ai_next)
        count++;
    for (unsigned left = count > 0 ? attempt % count : 0; found && left > 0; left--)
        found = found->ai_next;
    return found;
}

bool resolve_end(struct resolve *resolve, unsigned attempt, char address[RESOLVE_ADDRESS], struct error *err)
{
    uint64_t written = 0;
    if (read(resolve->ready, &written, sizeof written) != sizeof written) {
        resolve_abandon(resolve);
        return error_set(err, ERROR_SOFTWARE, "a name's address was asked for before it was there");
    }
    const struct addrinfo *one = resolve->failed ? NULL : nth(resolve->found, attempt);
    bool good =
        one && getnameinfo(one->ai_addr, one->ai_addrlen, address, RESOLVE_ADDRESS, NULL, 0, NI_NUMERICHOST) == 0;
    if (!good)
        error_set(err, ERROR_UNAVAILABLE, "the name \"%s\" has no address: %s", resolve->host,
                  resolve->failed ? gai_strerror(resolve->failed) : "none was found");
    let_go(resolve);
    return good;
}

void resolve_abandon(struct resolve *resolve)
{
    if (resolve)
        let_go(resolve);
}
