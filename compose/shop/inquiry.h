/*
 * What a page asks of the shop's data, and the answer that comes of it: from the cache, from the database, from memory
 * where the shop has no database, or that it cannot be had now. The one loop never waits for it.
 *
 * Each of the functions returns true if `answer` was there at once. Otherwise `answered` is called exactly once, later,
 * and until then the inquiry and what it points to must live.
 */
#ifndef HALDANE_COMPOSE_SHOP_INQUIRY_H
#define HALDANE_COMPOSE_SHOP_INQUIRY_H

#include "compose/shop/cache.h"
#include "compose/shop/database.h"

#include <stdbool.h>
#include <stddef.h>

/* Where the shop's data are. */
struct stock {
    struct database *database; /* NULL: the catalogue is in memory and orders are not kept */
    struct cache *cache;       /* NULL: nothing is cached and carts are not kept */
    unsigned ttl_s;            /* how long a page of the catalogue stays in the cache */
};

struct answer {
    unsigned status; /* HTTP's; 503 goes with Retry-After */
    char *json;      /* owned by whoever asked */
};

enum { CART_KEY = 65, INQUIRY_TEXT = 24 };

struct inquiry {
    /* by whoever asks */
    struct stock *stock;
    unsigned item;             /* of item_ask */
    const char *body;          /* of cart_keep and order_place; NULL where nothing is kept */
    size_t length;             /* of the body, also if it is NULL */
    char cart[CART_KEY];       /* of cart_keep: the cart's key; "": a new one is made */
    const char *only_once_key; /* of order_place: the same key, the same order; NULL: none */
    void (*answered)(struct inquiry *inquiry);
    void *asker;

    struct answer answer;

    /* for its way */
    struct database_query query;
    char texts[3][INQUIRY_TEXT];
};

/* catalogue.c. The page of the first items; one item. */
bool items_ask(struct inquiry *inquiry);
bool item_ask(struct inquiry *inquiry);

/* orders.c. A body is kept as the cart of its key; an order is written down. */
bool cart_keep(struct inquiry *inquiry);
bool order_place(struct inquiry *inquiry);

/* Whether a key of a cart that a client sends can be one: 1 to 64 of [A-Za-z0-9_-]. */
bool cart_key_valid(const char *key);

/* Sets the answer; `json` becomes its own. Returns true, as what is there at once does. */
bool inquiry_answer(struct inquiry *inquiry, unsigned status, char *json);

/* 503: what was asked needs the database. */
bool inquiry_unavailable(struct inquiry *inquiry);

#endif
