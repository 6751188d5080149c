/*
 * hiredis' asynchronous interface on our loop. The library tells by hooks whether it wants to read or write; the loop
 * asks for that and calls it back. It frees its context by itself when the connection breaks, and says so by the hook
 * `cleanup`: from then on ours is NULL, also for the callbacks of the commands that were under way.
 *
 * Redis answers in the order of the questions, so the oldest command is the next to be late. The connection counts as
 * up when the first command, a PING after the password, is answered: a server that was stopped still takes connections.
 */
#include "compose/shop/cache.h"

#include "base/memory.h"
#include "compose/shop/resolve.h"

#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECT_MS = 1000 };

enum cache_stage { RESTING, RESOLVING, GREETING, UP };

/* A command under way. */
struct command {
    struct cache *cache;
    struct command *next;
    int64_t asked_ns;
    cache_got *got;
    cache_kept *kept;
    void *asker;
};

struct cache {
    char *host;
    int port;
    char *password_file;
    int64_t deadline_ns;
    enum cache_stage stage;
    struct resolve *resolve;
    redisAsyncContext *context;
    bool reading; /* what hiredis wants */
    bool writing;
    struct command *first; /* oldest first */
    struct command *last;
    int64_t due_ns; /* RESTING: begin again; RESOLVING, GREETING: give up */
    unsigned failures;
    bool refused; /* a reply said that this connection is of no use */
    bool closed;
    size_t place; /* in the loop's set */
    char why[256];
    struct dependency state;
    struct shop_metrics *metrics;
};

/* --- hiredis' hooks --- */

static void want_read(void *data)
{
    ((struct cache *)data)->reading = true;
}

static void want_no_read(void *data)
{
    ((struct cache *)data)->reading = false;
}

static void want_write(void *data)
{
    ((struct cache *)data)->writing = true;
}

static void want_no_write(void *data)
{
    ((struct cache *)data)->writing = false;
}

/* The connection is gone: the next attempt comes after a while. */
static void lose(struct cache *cache, const char *why)
{
    if (cache->stage == RESTING)
        return;
    cache->stage = RESTING;
    cache->place = LOOP_NOWHERE;
    cache->due_ns = loop_now_ns() + backoff_ns(cache->failures++);
    dependency_down(&cache->state, why);
}

static const char *why_lost(const redisAsyncContext *context)
{
    return context->errstr && context->errstr[0] ? context->errstr : "the connection was closed";
}

static void on_cleanup(void *data)
{
    struct cache *cache = data;
    redisAsyncContext *context = cache->context;
    cache->context = NULL;
    if (context)
        lose(cache, why_lost(context));
}

/* Ends the connection from our side. */
static void drop(struct cache *cache, const char *why)
{
    redisAsyncContext *context = cache->context;
    resolve_abandon(cache->resolve);
    cache->resolve = NULL;
    cache->context = NULL;
    lose(cache, why);
    if (context)
        redisAsyncFree(context);
}

/* --- commands --- */

static void append(struct cache *cache, struct command *command)
{
    if (cache->last)
        cache->last->next = command;
    else
        cache->first = command;
    cache->last = command;
}

/* Replies come in order, so what is answered is the oldest one. */
static void remove_first(struct cache *cache)
{
    cache->first = cache->first->next;
    if (!cache->first)
        cache->last = NULL;
}

static void greeted(struct cache *cache, const redisReply *reply)
{
    if (cache->refused)
        return; /* the first refusal says why */
    if (reply->type == REDIS_REPLY_ERROR) {
        snprintf(cache->why, sizeof cache->why, "%s", reply->str);
        cache->refused = true;
    } else if (cache->stage == GREETING && !cache->first) {
        cache->stage = UP;
        cache->due_ns = INT64_MAX;
        cache->failures = 0;
        dependency_up(&cache->state);
    }
}

static void tell_got(struct cache *cache, const struct command *command, const redisReply *reply)
{
    enum cache_outcome outcome = CACHE_ERROR;
    if (reply && reply->type == REDIS_REPLY_STRING)
        outcome = CACHE_HIT;
    else if (reply && reply->type == REDIS_REPLY_NIL)
        outcome = CACHE_MISS;
    metrics_cache(cache->metrics, outcome);
    command->got(command->asker, outcome, outcome == CACHE_HIT ? reply->str : NULL,
                 outcome == CACHE_HIT ? (size_t)reply->len : 0);
}

/* `reply` is NULL if the connection broke. Whoever is told then must find the cache down. */
static void on_reply(redisAsyncContext *context, void *reply_data, void *command_data)
{
    const redisReply *reply = reply_data;
    struct command *command = command_data;
    struct cache *cache = command->cache;
    remove_first(cache);
    if (!reply)
        lose(cache, why_lost(context));
    bool error = reply && reply->type == REDIS_REPLY_ERROR;
    if (error && cache->stage == UP)
        dependency_tell(&cache->state, reply->str);
    if (command->got)
        tell_got(cache, command, reply);
    else if (command->kept)
        command->kept(command->asker, reply && !error);
    else if (cache->stage == GREETING)
        greeted(cache, reply);
    free(command);
}

static struct command *send_command(struct cache *cache, int count, const char **words, const size_t *lengths,
                                    void *asker)
{
    struct command *command = mem_alloc(1, sizeof *command);
    *command = (struct command){.cache = cache, .asked_ns = loop_now_ns(), .asker = asker};
    if (redisAsyncCommandArgv(cache->context, on_reply, command, count, words, lengths) != REDIS_OK) {
        free(command);
        return NULL;
    }
    append(cache, command);
    return command;
}

bool cache_get(struct cache *cache, const char *key, cache_got *got, void *asker)
{
    const char *words[] = {"GET", key};
    const size_t lengths[] = {3, strlen(key)};
    struct command *command = cache->stage == UP ? send_command(cache, 2, words, lengths, asker) : NULL;
    if (command)
        command->got = got;
    else
        metrics_cache(cache->metrics, CACHE_ERROR);
    return command != NULL;
}

bool cache_set(struct cache *cache, const char *key, const char *value, size_t length, unsigned ttl_s, cache_kept *done,
               void *asker)
{
    char ttl[16];
    snprintf(ttl, sizeof ttl, "%u", ttl_s);
    const char *words[] = {"SETEX", key, ttl, value};
    const size_t lengths[] = {5, strlen(key), strlen(ttl), length};
    struct command *command = cache->stage == UP ? send_command(cache, 4, words, lengths, asker) : NULL;
    if (command)
        command->kept = done;
    return command != NULL;
}

/* --- the connection --- */

static bool greet(struct cache *cache, struct error *err)
{
    if (cache->password_file) {
        char *password = secret_read(cache->password_file, err);
        if (!password)
            return false;
        const char *auth[] = {"AUTH", password};
        const size_t lengths[] = {4, strlen(password)};
        bool sent = send_command(cache, 2, auth, lengths, NULL) != NULL;
        explicit_bzero(password, strlen(password));
        free(password);
        if (!sent)
            return error_set(err, ERROR_SOFTWARE, "the password could not be sent");
    }
    const char *ping[] = {"PING"};
    const size_t lengths[] = {4};
    return send_command(cache, 1, ping, lengths, NULL) || error_set(err, ERROR_SOFTWARE, "PING could not be sent");
}

static void hook_up(struct cache *cache)
{
    cache->reading = cache->writing = cache->refused = false;
    cache->context->ev.data = cache;
    cache->context->ev.addRead = want_read;
    cache->context->ev.delRead = want_no_read;
    cache->context->ev.addWrite = want_write;
    cache->context->ev.delWrite = want_no_write;
    cache->context->ev.cleanup = on_cleanup;
}

static void connect_to(struct cache *cache, const char *address)
{
    struct error err = {0};
    cache->stage = GREETING;
    cache->context = redisAsyncConnect(address, cache->port);
    if (!cache->context) {
        drop(cache, "out of memory");
        return;
    }
    if (cache->context->err) {
        char why[256];
        snprintf(why, sizeof why, "%s", cache->context->errstr);
        drop(cache, why);
        return;
    }
    hook_up(cache);
    if (!greet(cache, &err))
        drop(cache, err.text);
}

static void begin(struct cache *cache)
{
    cache->due_ns = loop_now_ns() + CONNECT_MS * NS_PER_MS;
    cache->resolve = resolve_begin(cache->host);
    cache->stage = RESOLVING;
}

static void resolved(struct cache *cache)
{
    struct error err = {0};
    char address[RESOLVE_ADDRESS];
    bool found = resolve_end(cache->resolve, cache->failures, address, &err);
    cache->resolve = NULL;
    if (found)
        connect_to(cache, address);
    else
        drop(cache, err.text);
}

/* --- the loop --- */

void cache_watch(struct cache *cache, struct loop_set *set)
{
    cache->place = LOOP_NOWHERE;
    if (cache->stage == RESOLVING)
        cache->place = loop_add(set, resolve_fd(cache->resolve), POLLIN);
    else if (cache->context)
        cache->place = loop_add(set, cache->context->c.fd,
                                (short)((cache->reading ? POLLIN : 0) | (cache->writing ? POLLOUT : 0)));
}

static int64_t deadline_of_first(const struct cache *cache)
{
    return cache->stage == UP && cache->first ? cache->first->asked_ns + cache->deadline_ns : INT64_MAX;
}

int64_t cache_wake(const struct cache *cache)
{
    int64_t deadline = deadline_of_first(cache);
    return deadline < cache->due_ns ? deadline : cache->due_ns;
}

/* Either call may free the context. */
static void handle(struct cache *cache, short seen)
{
    if (cache->context && cache->writing && (seen & (POLLOUT | POLLERR | POLLHUP)))
        redisAsyncHandleWrite(cache->context);
    if (cache->context && cache->reading && (seen & (POLLIN | POLLERR | POLLHUP)))
        redisAsyncHandleRead(cache->context);
    if (cache->context && cache->refused)
        drop(cache, cache->why);
}

void cache_run(struct cache *cache, const struct loop_set *set)
{
    if (cache->closed)
        return;
    short seen = loop_seen(set, cache->place);
    if (seen && cache->stage == RESOLVING)
        resolved(cache);
    else if (seen && cache->context)
        handle(cache, seen);
    int64_t now = loop_now_ns();
    if (now >= deadline_of_first(cache))
        drop(cache, "a command was not answered in time");
    else if (now >= cache->due_ns && cache->stage == RESTING)
        begin(cache);
    else if (now >= cache->due_ns)
        drop(cache, cache->stage == RESOLVING ? "the name server did not answer in time"
                                              : "the server did not answer in time");
}

/* --- begin and end --- */

static bool read_address(struct cache *cache, const char *text, struct error *err)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    long port = colon && colon != text ? strtol(colon + 1, &end, 10) : 0;
    if (port < 1 || port > 65535 || *end != '\0')
        return error_set(err, ERROR_USAGE, "--cache takes a host and a port, as redis:6379, not \"%s\"", text);
    bool brackets = text[0] == '[' && colon[-1] == ']';
    const char *host = brackets ? text + 1 : text;
    cache->host = mem_strndup(host, (size_t)(colon - host) - (brackets ? 1 : 0));
    cache->port = (int)port;
    return true;
}

struct cache *cache_new(const struct cache_options *options, struct shop_metrics *metrics, struct error *err)
{
    struct cache *cache = mem_alloc(1, sizeof *cache);
    char *password = NULL;
    if (!read_address(cache, options->address, err) ||
        (options->password_file && !(password = secret_read(options->password_file, err)))) {
        cache_free(cache);
        return NULL;
    }
    if (password)
        explicit_bzero(password, strlen(password));
    free(password);
    cache->password_file = mem_strdup(options->password_file);
    cache->deadline_ns = options->deadline_ms * NS_PER_MS;
    cache->due_ns = loop_now_ns();
    cache->place = LOOP_NOWHERE;
    cache->metrics = metrics;
    dependency_init(&cache->state, "cache");
    return cache;
}

const struct dependency *cache_state(const struct cache *cache)
{
    return &cache->state;
}

void cache_close(struct cache *cache)
{
    redisAsyncContext *context = cache->context;
    cache->closed = true;
    cache->stage = RESTING; /* an end of our own is no outage to tell */
    cache->context = NULL;
    resolve_abandon(cache->resolve);
    cache->resolve = NULL;
    if (context)
        redisAsyncFree(context);
}

void cache_free(struct cache *cache)
{
    if (!cache)
        return;
    cache_close(cache);
    free(cache->host);
    free(cache->password_file);
    free(cache);
}
