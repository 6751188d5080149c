/*
 * The catalogue: the cache is asked first, then the database, and what the database said goes into the cache, that
 * there is no such item, too. A value in the cache is the finished page; an empty one stands for "no such item".
 *
 * The pages are the same to the byte whether they come from memory or from the database, whose JSON PostgreSQL makes.
 */
#include "compose/shop/inquiry.h"

#include "base/memory.h"
#include "base/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ITEMS = 1000, ITEMS_SHOWN = 10 };

static const char items_sql[] = "SELECT row_to_json(shown) FROM (SELECT id, name, price_cents FROM items"
                                " ORDER BY id LIMIT 10) AS shown ORDER BY id";
static const char item_sql[] = "SELECT row_to_json(shown) FROM (SELECT id, name, price_cents FROM items"
                               " WHERE id = $1) AS shown";

bool inquiry_answer(struct inquiry *inquiry, unsigned status, char *json)
{
    inquiry->answer = (struct answer){.status = status, .json = json};
    return true;
}

bool inquiry_unavailable(struct inquiry *inquiry)
{
    return inquiry_answer(inquiry, 503, mem_strdup("{\"error\":\"this cannot be had now; please come again\"}\n"));
}

static bool no_such_item(struct inquiry *inquiry)
{
    return inquiry_answer(inquiry, 404, mem_strdup("{\"error\":\"there is no such item\"}\n"));
}

/* --- in memory --- */

static char *item_json(unsigned item)
{
    return mem_printf("{\"id\":%u,\"name\":\"item %u\",\"price_cents\":%u}", item, item, 100 + item * 7 % 9900);
}

static char *items_json(void)
{
    struct strbuf out = {0};
    strbuf_puts(&out, "{\"items\":[");
    for (unsigned item = 1; item <= ITEMS_SHOWN; item++) {
        char *one = item_json(item);
        strbuf_printf(&out, "%s%s", item > 1 ? "," : "", one);
        free(one);
    }
    strbuf_puts(&out, "]}\n");
    return strbuf_take(&out);
}

/* --- cache and database --- */

static void cache_key(const struct inquiry *inquiry, char key[INQUIRY_TEXT])
{
    if (inquiry->item == 0)
        snprintf(key, INQUIRY_TEXT, "items");
    else
        snprintf(key, INQUIRY_TEXT, "item:%u", inquiry->item);
}

static void remember(const struct inquiry *inquiry)
{
    char key[INQUIRY_TEXT];
    const char *page = inquiry->answer.status == 200 ? inquiry->answer.json : "";
    if (!inquiry->stock->cache)
        return;
    cache_key(inquiry, key);
    cache_set(inquiry->stock->cache, key, page, strlen(page), inquiry->stock->ttl_s, NULL, NULL);
}

static char *items_of_rows(const PGresult *rows)
{
    struct strbuf out = {0};
    strbuf_puts(&out, "{\"items\":[");
    for (int row = 0; row < PQntuples(rows); row++)
        strbuf_printf(&out, "%s%s", row > 0 ? "," : "", PQgetvalue(rows, row, 0));
    strbuf_puts(&out, "]}\n");
    return strbuf_take(&out);
}

static void on_rows(struct database_query *query, const PGresult *rows)
{
    struct inquiry *inquiry = (struct inquiry *)((char *)query - offsetof(struct inquiry, query));
    if (!rows)
        inquiry_unavailable(inquiry);
    else if (inquiry->item == 0)
        inquiry_answer(inquiry, 200, items_of_rows(rows));
    else if (PQntuples(rows) == 0)
        no_such_item(inquiry);
    else
        inquiry_answer(inquiry, 200, mem_strdup(PQgetvalue(rows, 0, 0)));
    if (rows)
        remember(inquiry);
    inquiry->answered(inquiry);
}

/* True if it cannot be asked. */
static bool ask_database(struct inquiry *inquiry)
{
    struct database_query *query = &inquiry->query;
    *query = (struct database_query){.sql = items_sql, .done = on_rows};
    if (inquiry->item > 0) {
        snprintf(inquiry->texts[0], INQUIRY_TEXT, "%u", inquiry->item);
        query->sql = item_sql;
        query->count = 1;
        query->values[0] = inquiry->texts[0];
    }
    return !database_ask(inquiry->stock->database, query) && inquiry_unavailable(inquiry);
}

static void on_cached(void *asker, enum cache_outcome outcome, const char *value, size_t length)
{
    struct inquiry *inquiry = asker;
    bool there = true;
    if (outcome != CACHE_HIT)
        there = ask_database(inquiry);
    else if (length == 0)
        no_such_item(inquiry);
    else
        inquiry_answer(inquiry, 200, mem_strndup(value, length));
    if (there)
        inquiry->answered(inquiry);
}

static bool ask(struct inquiry *inquiry)
{
    char key[INQUIRY_TEXT];
    cache_key(inquiry, key);
    if (inquiry->stock->cache && cache_get(inquiry->stock->cache, key, on_cached, inquiry))
        return false;
    return ask_database(inquiry);
}

bool items_ask(struct inquiry *inquiry)
{
    inquiry->item = 0;
    return inquiry->stock->database ? ask(inquiry) : inquiry_answer(inquiry, 200, items_json());
}

bool item_ask(struct inquiry *inquiry)
{
    if (inquiry->item < 1 || (!inquiry->stock->database && inquiry->item > ITEMS))
        return no_such_item(inquiry);
    return inquiry->stock->database ? ask(inquiry) : inquiry_answer(inquiry, 200, item_json(inquiry->item));
}
