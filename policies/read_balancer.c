/*
 * The keys of one balancer: those of the section `traffic` itself, or of one item of its list `balancers`. Each driver
 * has its own; the keys of another driver are refused and not ignored. Names and paths are checked closely: they become
 * part of commands to the balancer, and a blank or a semicolon in them would be a second command.
 */
#include "policies/read.h"

#include "base/memory.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_LENGTH = 63, SOCKET_PATH = 107, SERVERS = 100, WORDS_OF_A_COMMAND = 50 };

static const char name_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.:";

/* HAProxy's own rule for the names of backends and servers. */
static bool is_name(const char *text, size_t length)
{
    return length > 0 && length <= NAME_LENGTH && strspn(text, name_letters) >= length;
}

/* BACKEND/SERVER */
static bool is_server_path(const char *text)
{
    const char *slash = strchr(text, '/');
    return slash && is_name(text, (size_t)(slash - text)) && is_name(slash + 1, strlen(slash + 1));
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

static char *read_socket(struct section *s, const char *key, const char *needed)
{
    char *text = section_text(s, key, needed);
    if (!text || is_address(text))
        return text;
    if (*text != '/')
        problem_add(s->reader->problems, section_mark(s, key),
                    "`%s` is `%s`; write a path that begins with /, or HOST:PORT", key, shown(text).text);
    else if (strlen(text) > SOCKET_PATH)
        problem_add(s->reader->problems, section_mark(s, key),
                    "`%s` is longer than the %d bytes that a socket's path can have; write a shorter one", key,
                    SOCKET_PATH);
    return text;
}

static char *read_path(struct section *s, const char *key, const char *needed)
{
    char *text = section_text(s, key, needed);
    if (text && (*text != '/' || strpbrk(text, " \t;\\\"'#$<>|&")))
        problem_add(s->reader->problems, section_mark(s, key),
                    "`%s` is `%s`; write a path that begins with / and has no blanks, quotes or ;\\#$<>|& in it", key,
                    shown(text).text);
    return text;
}

static void read_backend(struct section *s, struct policy_balancer *balancer)
{
    balancer->backend = section_text(s, "backend", "write the name of HAProxy's backend that holds both tracks");
    if (balancer->backend && !is_name(balancer->backend, strlen(balancer->backend)))
        problem_add(s->reader->problems, section_mark(s, "backend"),
                    "`backend` is `%s`; write a name of letters, digits and _-.: as HAProxy has it",
                    shown(balancer->backend).text);
}

static bool has_server(const struct policy_balancer *balancer, int track, const char *name)
{
    for (size_t i = 0; i < balancer->server_count[track]; i++)
        if (strcmp(balancer->servers[track][i], name) == 0)
            return true;
    return false;
}

static const char *name_problem(const struct policy_balancer *balancer, const char *name)
{
    if (balancer->map)
        return is_server_path(name) ? NULL : "is no server with its backend; with `map` write BACKEND/SERVER";
    return is_name(name, strlen(name)) ? NULL : "is no server's name; write letters, digits and _-.: as HAProxy has it";
}

static void read_server(struct reader *reader, const struct tree_node *node, struct policy_balancer *balancer,
                        int track, const char *key)
{
    char *name = text_of(reader, node, key);
    if (!name)
        return;
    const char *problem = name_problem(balancer, name);
    if (problem)
        problem_add(reader->problems, node->mark, "`%s` %s", shown(name).text, problem);
    else if (has_server(balancer, track, name))
        problem_add(reader->problems, node->mark, "server `%s` is listed twice; keep one", name);
    else if (track == TRACK_CANARY && has_server(balancer, TRACK_STABLE, name))
        problem_add(reader->problems, node->mark,
                    "server `%s` is in both tracks, so they could not be told apart; take it out of one", name);
    balancer->servers[track][balancer->server_count[track]++] = name;
}

static void read_servers(struct section *s, struct policy_balancer *balancer, int track)
{
    static const char *const keys[TRACKS] = {[TRACK_STABLE] = "stable", [TRACK_CANARY] = "canary"};
    size_t count;
    const char *needed = balancer->map ? "list its servers, like [be_stable/web1]"
                                       : "list the names of its servers in the backend, like [web1, web2]";
    struct tree_node **items = section_list(s, keys[track], needed, SERVERS, &count);
    if (!items)
        return;
    balancer->servers[track] = mem_alloc(count, sizeof(char *));
    for (size_t i = 0; i < count; i++)
        read_server(s->reader, items[i], balancer, track, keys[track]);
}

static void read_haproxy(struct section *s, struct policy_balancer *balancer)
{
    balancer->socket = read_socket(s, "socket", "write HAProxy's `stats socket` with `level admin`");
    balancer->master = read_socket(s, "master", NULL);
    if (section_has(s, "map")) {
        static const char why[] = "moves the weights of servers, and `map` does not; take one of the two out";
        balancer->map = read_path(s, "map", NULL);
        section_refuse(s, "backend", why);
        section_refuse(s, "state_file", why);
    } else {
        section_get(s, "map", NULL);
        read_backend(s, balancer);
        balancer->state_file = read_path(s, "state_file", NULL);
    }
    read_servers(s, balancer, TRACK_STABLE);
    read_servers(s, balancer, TRACK_CANARY);
}

static void command_add(struct policy_command *command, char *word)
{
    command->words = mem_resize(command->words, command->count + 2, sizeof *command->words);
    command->words[command->count++] = word;
    command->words[command->count] = NULL;
}

/* A program and its arguments as a list; no shell reads it. `otherwise` ends with NULL. */
static void read_command(struct section *s, const char *key, const char *needed, const char *const *otherwise,
                         struct policy_command *command)
{
    if (!needed && !section_has(s, key)) {
        section_get(s, key, NULL);
        for (; *otherwise; otherwise++)
            command_add(command, mem_strdup(*otherwise));
        return;
    }
    size_t count;
    struct tree_node **items = section_list(s, key, needed, WORDS_OF_A_COMMAND, &count);
    for (size_t i = 0; items && i < count; i++) {
        char *word = text_of(s->reader, items[i], key);
        if (word)
            command_add(command, word);
    }
    if (command->count && !*command->words[0])
        problem_add(s->reader->problems, section_mark(s, key), "`%s` begins with an empty word; name a program", key);
}

static char *read_probe(struct section *s, const char *needed)
{
    char *text = section_text(s, "probe", needed);
    if (text && strncmp(text, "http://", 7) != 0 && strncmp(text, "https://", 8) != 0)
        problem_add(s->reader->problems, section_mark(s, "probe"),
                    "`probe` is `%s`; write a URL that begins with http:// or https://", shown(text).text);
    return text;
}

static char *read_key(struct section *s)
{
    static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-${}";
    char *text = section_text(s, "key", NULL);
    if (!text)
        return mem_strdup("$request_id");
    if (!strchr(text, '$') || strspn(text, good) != strlen(text))
        problem_add(s->reader->problems, section_mark(s, "key"),
                    "`key` is `%s`; write nginx's variables, like $request_id or $cookie_uid", shown(text).text);
    return text;
}

static void read_flags(struct section *s, struct policy_balancer *balancer)
{
    balancer->flags = read_path(s, "flags", "write the folder that the server's configuration looks for flag files in");
    balancer->probe = read_probe(s, NULL);
}

static void read_split(struct section *s, struct policy_balancer *balancer)
{
    static const char *const test[] = {"nginx", "-t", "-q", NULL}, *const reload[] = {"nginx", "-s", "reload", NULL};
    balancer->split = read_path(s, "split", NULL);
    balancer->key = read_key(s);
    balancer->probe =
        read_probe(s, "a reload says nothing of its outcome: write the URL at which nginx shows its share");
    read_command(s, "test", NULL, test, &balancer->test);
    read_command(s, "reload", NULL, reload, &balancer->reload);
    section_refuse(s, "flags", "needs no reload, and `split` does; take one of the two out");
}

static void read_nginx(struct section *s, struct policy_balancer *balancer)
{
    static const char *const of_split[] = {"key", "test", "reload"};
    if (section_has(s, "split")) {
        read_split(s, balancer);
        return;
    }
    section_get(s, "split", NULL);
    for (size_t i = 0; i < sizeof of_split / sizeof of_split[0]; i++)
        section_refuse(s, of_split[i], "belongs to `split`; take it out, or write `split` in place of `flags`");
    read_flags(s, balancer);
}

void read_balancer(struct section *s, enum driver_kind driver, struct policy_balancer *balancer)
{
    if (driver == DRIVER_HAPROXY)
        read_haproxy(s, balancer);
    else if (driver == DRIVER_NGINX)
        read_nginx(s, balancer);
    else if (driver == DRIVER_CADDY)
        read_flags(s, balancer);
    else if (driver == DRIVER_EXEC)
        read_command(s, "command", "write the program that moves traffic, as a list: [/etc/haldane/driver.sh]", NULL,
                     &balancer->command);
}

static const char *const balancer_keys[] = {"socket", "master", "backend", "state_file", "map",  "stable", "canary",
                                            "flags",  "split",  "key",     "probe",      "test", "reload", "command"};
enum { BALANCER_KEYS = sizeof balancer_keys / sizeof balancer_keys[0] };

void refuse_balancer_keys(struct section *s, const char *why)
{
    for (size_t i = 0; i < BALANCER_KEYS; i++)
        section_refuse(s, balancer_keys[i], why);
}

void refuse_foreign_keys(struct section *s, const char *why)
{
    for (size_t i = 0; i < BALANCER_KEYS; i++)
        if (!section_knows(s, balancer_keys[i]))
            section_refuse(s, balancer_keys[i], why);
}

void pass_balancer_keys(struct section *s)
{
    for (size_t i = 0; i < BALANCER_KEYS; i++)
        section_get(s, balancer_keys[i], NULL);
}
