/*
 * The shop's way to Redis: one connection on the one loop, for what is dear to compute and may be lost at any time. A
 * cache that is slow is worse than none: a command that is not answered by its deadline ends the connection, and until
 * it is there again every call returns at once. Nothing here ever waits.
 *
 * A turn of the loop: cache_watch, the wait, cache_run. cache_wake says how long the wait may be at most.
 */
#ifndef HALDANE_COMPOSE_SHOP_CACHE_H
#define HALDANE_COMPOSE_SHOP_CACHE_H

#include "base/error.h"
#include "compose/shop/dependency.h"
#include "compose/shop/loop.h"
#include "compose/shop/metrics.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cache;

struct cache_options {
    const char *address;       /* HOST:PORT or [ADDRESS]:PORT */
    const char *password_file; /* NULL: none */
    int64_t deadline_ms;       /* of a command */
};

/* NULL and ERROR_USAGE for an address that is none, ERROR_NO_INPUT for the password file. */
struct cache *cache_new(const struct cache_options *options, struct shop_metrics *metrics, struct error *err);

const struct dependency *cache_state(const struct cache *cache);

/* Called exactly once. `value` lives as long as the call and is not NULL for CACHE_HIT only. */
typedef void cache_got(void *asker, enum cache_outcome outcome, const char *value, size_t length);

/* False if the cache is down: then `got` is not called. Hits, misses and errors are counted here. */
bool cache_get(struct cache *cache, const char *key, cache_got *got, void *asker);

/* Called exactly once; `kept`: the cache said that it has it. */
typedef void cache_kept(void *asker, bool kept);

/* Keeps a value for so many seconds. False if the cache is down: then `done` is not called. `done` may be NULL. */
bool cache_set(struct cache *cache, const char *key, const char *value, size_t length, unsigned ttl_s, cache_kept *done,
               void *asker);

void cache_watch(struct cache *cache, struct loop_set *set);
int64_t cache_wake(const struct cache *cache);
void cache_run(struct cache *cache, const struct loop_set *set);

/* Ends the connection; every command under way ends as an error, and every later one is refused. */
void cache_close(struct cache *cache);
void cache_free(struct cache *cache); /* NULL is allowed */

#endif
