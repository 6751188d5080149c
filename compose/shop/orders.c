/*
 * Carts and orders. A cart may be lost: it lives in the cache alone, and a shopper is answered without it. An order may
 * not: it is answered when the database has it, or not at all.
 *
 * The body of an order is {"item":N,"quantity":N}, the quantity 1 if it is left out. Any other body is taken as well,
 * as that many bytes: a load generator need not know what the shop sells.
 */
#include "compose/shop/inquiry.h"

#include "base/memory.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { CART_TTL_S = 15 * 60 };

/*
 * An order with a key that is there already changes nothing and gives the order that is there; xmax is 0 only in a row
 * that this statement made. The key goes in as its digest: whatever bytes and however long, it fits the index.
 */
static const char order_sql[] =
    "INSERT INTO orders (only_once, item, quantity, body_bytes) VALUES (sha256($1::bytea), $2, $3, $4)"
    " ON CONFLICT (only_once) DO UPDATE SET only_once = excluded.only_once RETURNING id, xmax = 0";

/* --- the cart --- */

bool cart_key_valid(const char *key)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t length = strlen(key);
    return length > 0 && length < CART_KEY && strspn(key, allowed) == length;
}

/* Who has the key has the cart, so it must not be guessed. */
static bool make_cart_key(char key[CART_KEY])
{
    uint64_t lots[2];
    if (getrandom(lots, sizeof lots, 0) != sizeof lots)
        return false;
    snprintf(key, CART_KEY, "%016" PRIx64 "%016" PRIx64, lots[0], lots[1]);
    return true;
}

static bool answer_cart(struct inquiry *inquiry, bool kept)
{
    return inquiry_answer(inquiry, 200,
                          mem_printf("{\"cart_bytes\":%zu,\"kept\":%s}\n", inquiry->length, kept ? "true" : "false"));
}

static void on_kept(void *asker, bool kept)
{
    struct inquiry *inquiry = asker;
    answer_cart(inquiry, kept);
    inquiry->answered(inquiry);
}

bool cart_keep(struct inquiry *inquiry)
{
    char key[CART_KEY + 8];
    if (!inquiry->stock->cache)
        return inquiry_answer(inquiry, 200, mem_printf("{\"cart_bytes\":%zu}\n", inquiry->length));
    if (inquiry->cart[0] == '\0' && !make_cart_key(inquiry->cart))
        return answer_cart(inquiry, false);
    snprintf(key, sizeof key, "cart:%s", inquiry->cart);
    const char *body = inquiry->body ? inquiry->body : "";
    if (cache_set(inquiry->stock->cache, key, body, inquiry->length, CART_TTL_S, on_kept, inquiry))
        return false;
    return answer_cart(inquiry, false);
}

/* --- the order --- */

/* A whole number from 1 to `max` as text; false for anything else. */
static bool read_whole(const cJSON *number, double max, char text[INQUIRY_TEXT])
{
    if (!cJSON_IsNumber(number) || number->valuedouble != floor(number->valuedouble) || number->valuedouble < 1 ||
        number->valuedouble > max)
        return false;
    snprintf(text, INQUIRY_TEXT, "%.0f", number->valuedouble);
    return true;
}

static bool read_order(struct inquiry *inquiry)
{
    cJSON *body = cJSON_ParseWithLength(inquiry->body ? inquiry->body : "", inquiry->length);
    const cJSON *quantity = cJSON_GetObjectItemCaseSensitive(body, "quantity");
    bool good = cJSON_IsObject(body) &&
                read_whole(cJSON_GetObjectItemCaseSensitive(body, "item"), INT32_MAX, inquiry->texts[0]);
    if (good && quantity)
        good = read_whole(quantity, 1000, inquiry->texts[1]);
    else if (good)
        snprintf(inquiry->texts[1], INQUIRY_TEXT, "1");
    cJSON_Delete(body);
    return good;
}

static void on_ordered(struct database_query *query, const PGresult *result)
{
    struct inquiry *inquiry = (struct inquiry *)((char *)query - offsetof(struct inquiry, query));
    if (!result)
        inquiry_unavailable(inquiry);
    else if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1)
        inquiry_answer(inquiry, 404, mem_strdup("{\"error\":\"there is no such item\"}\n"));
    else
        inquiry_answer(inquiry, PQgetvalue(result, 0, 1)[0] == 't' ? 201 : 200,
                       mem_printf("{\"order\":%s}\n", PQgetvalue(result, 0, 0)));
    inquiry->answered(inquiry);
}

bool order_place(struct inquiry *inquiry)
{
    struct database_query *query = &inquiry->query;
    if (!inquiry->stock->database)
        return inquiry_answer(inquiry, 201, mem_printf("{\"order_bytes\":%zu}\n", inquiry->length));
    bool known = read_order(inquiry);
    snprintf(inquiry->texts[2], INQUIRY_TEXT, "%zu", inquiry->length);
    *query = (struct database_query){
        .sql = order_sql,
        .count = 4,
        .values = {inquiry->only_once_key, known ? inquiry->texts[0] : NULL, known ? inquiry->texts[1] : NULL,
                   inquiry->texts[2]},
        .lengths = {inquiry->only_once_key ? (int)strlen(inquiry->only_once_key) : 0},
        .formats = {1},
        .done = on_ordered,
    };
    return !database_ask(inquiry->stock->database, query) && inquiry_unavailable(inquiry);
}
