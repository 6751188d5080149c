/*
 * The section `traffic`. Names and the socket are checked closely: they become part of commands to the load balancer,
 * and a blank or a semicolon in them would be a second command.
 */
#include "policies/read.h"

#include "base/memory.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_LENGTH = 63, SOCKET_PATH = 107, SERVERS = 100 };

/* HAProxy's own rule for the names of backends and servers. */
static bool is_name(const char *text)
{
    size_t length = strlen(text);
    size_t good = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.:");
    return length > 0 && length <= NAME_LENGTH && good == length;
}

static bool is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return digits > 0 && digits <= 5 && !text[digits] && atoi(text) >= 1 && atoi(text) <= 65535;
}

/* HOST:PORT; an IPv6 address stands in brackets. */
static bool is_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || !is_port(colon + 1))
        return false;
    size_t length = (size_t)(colon - text);
    if (*text == '[')
        return length > 2 && strspn(text + 1, "0123456789abcdefABCDEF:.") == length - 2 && text[length - 1] == ']';
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)text[i]) && text[i] != '-' && text[i] != '.')
            return false;
    return true;
}

static void read_socket(struct section *s, struct policy_traffic *traffic)
{
    traffic->socket = section_text(s, "socket", "write HAProxy's `stats socket` with `level admin`");
    const char *text = traffic->socket;
    if (!text || is_address(text))
        return;
    if (*text != '/')
        problem_add(s->reader->problems, section_mark(s, "socket"),
                    "`socket` is `%s`; write a path that begins with /, or HOST:PORT", shown(text).text);
    else if (strlen(text) > SOCKET_PATH)
        problem_add(s->reader->problems, section_mark(s, "socket"),
                    "`socket` is longer than the %d bytes that a socket's path can have; write a shorter one",
                    SOCKET_PATH);
}

static void read_backend(struct section *s, struct policy_traffic *traffic)
{
    traffic->backend = section_text(s, "backend", "write the name of HAProxy's backend that holds both tracks");
    if (traffic->backend && !is_name(traffic->backend))
        problem_add(s->reader->problems, section_mark(s, "backend"),
                    "`backend` is `%s`; write a name of letters, digits and _-.: as HAProxy has it",
                    shown(traffic->backend).text);
}

static bool has_server(const struct policy_traffic *traffic, int track, const char *name)
{
    for (size_t i = 0; i < traffic->server_count[track]; i++)
        if (strcmp(traffic->servers[track][i], name) == 0)
            return true;
    return false;
}

static void read_server(struct reader *reader, const struct tree_node *node, struct policy_traffic *traffic, int track,
                        const char *key)
{
    char *name = text_of(reader, node, key);
    if (!name)
        return;
    if (!is_name(name))
        problem_add(reader->problems, node->mark,
                    "`%s` is no server's name; write letters, digits and _-.: as HAProxy has it", shown(name).text);
    else if (has_server(traffic, track, name))
        problem_add(reader->problems, node->mark, "server `%s` is listed twice; keep one", name);
    else if (track == TRACK_CANARY && has_server(traffic, TRACK_STABLE, name))
        problem_add(reader->problems, node->mark,
                    "server `%s` is in both tracks, so they could not be told apart; take it out of one", name);
    traffic->servers[track][traffic->server_count[track]++] = name;
}

static void read_servers(struct section *s, struct policy_traffic *traffic, int track)
{
    static const char *const keys[TRACKS] = {[TRACK_STABLE] = "stable", [TRACK_CANARY] = "canary"};
    size_t count;
    struct tree_node **items = section_list(
        s, keys[track], "list the names of its servers in the backend, like [web1, web2]", SERVERS, &count);
    if (!items)
        return;
    traffic->servers[track] = mem_alloc(count, sizeof(char *));
    for (size_t i = 0; i < count; i++)
        read_server(s->reader, items[i], traffic, track, keys[track]);
}

static const char *const haproxy_keys[] = {"socket", "backend", "stable", "canary"};
enum { HAPROXY_KEYS = sizeof haproxy_keys / sizeof haproxy_keys[0] };

static void read_haproxy(struct section *s, struct policy_traffic *traffic)
{
    traffic->driver = DRIVER_HAPROXY;
    read_socket(s, traffic);
    read_backend(s, traffic);
    read_servers(s, traffic, TRACK_STABLE);
    read_servers(s, traffic, TRACK_CANARY);
}

/* No driver moves traffic, so that these would be ignored. */
static void refuse_haproxy_keys(struct section *s)
{
    for (size_t i = 0; i < HAPROXY_KEYS; i++)
        section_refuse(s, haproxy_keys[i],
                       "has no meaning with `driver: none`; write `driver: haproxy`, or take it out");
}

/* The driver is not known, so that nothing can be said about its keys. */
static void pass_haproxy_keys(struct section *s)
{
    for (size_t i = 0; i < HAPROXY_KEYS; i++)
        section_get(s, haproxy_keys[i], NULL);
}

struct mark read_traffic(struct section *top, struct policy_traffic *traffic)
{
    static const struct words drivers = {.built = {[DRIVER_NONE] = "none", [DRIVER_HAPROXY] = "haproxy"},
                                         .later = {"nginx", "caddy", "exec"}};
    static const char *const unbuilt[] = {"map", "balancers", "drift"};
    struct section s;
    traffic->unattended_ms = -1;
    if (!section_open_key(&s, top, "traffic", "write who moves it; `traffic: {driver: none}` if haldane shall not") ||
        !s.map)
        return top->mark;
    int driver = section_choice(&s, "driver", "write haproxy, or none", &drivers, -1);
    traffic->unattended_ms = section_duration(&s, "unattended", 120000);
    for (size_t i = 0; i < sizeof unbuilt / sizeof unbuilt[0]; i++)
        section_not_built(&s, unbuilt[i]);
    struct mark lease_at = section_mark(&s, "unattended");
    if (driver == DRIVER_NONE)
        refuse_haproxy_keys(&s);
    else if (driver == DRIVER_HAPROXY)
        read_haproxy(&s, traffic);
    else
        pass_haproxy_keys(&s);
    /* The keys of a driver that is not built are not known, and that it is not built was said already. */
    if (driver >= 0 || !section_has(&s, "driver"))
        section_close(&s);
    return lease_at;
}
