/* The section `prometheus`. Secrets are named by file only, so that a policy can be shown, kept and sent. */
#include "policies/read.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HEADERS = 20 };

/* Why `url` is none that haldane can ask; NULL: it is one. */
static const char *url_problem(const char *url)
{
    const char *host = NULL;
    if (strncmp(url, "http://", 7) == 0)
        host = url + 7;
    else if (strncmp(url, "https://", 8) == 0)
        host = url + 8;
    if (!host)
        return "which is neither http:// nor https://; write it like http://127.0.0.1:9090";
    size_t host_length = strcspn(host, "/?#");
    if (host_length == 0)
        return "which names no host; write it like http://127.0.0.1:9090";
    if (strpbrk(url, "?#"))
        return "which has a ? or #; write only where the API begins, like http://127.0.0.1:9090/prefix";
    if (strpbrk(url, " \"<>\\^`{|}"))
        return "which holds a character that no URL can; write it as %XX";
    return NULL;
}

static void read_url(struct section *s, struct policy_prometheus *p)
{
    p->url = section_text(s, "url", "write where its API is, like http://127.0.0.1:9090");
    const char *problem = p->url ? url_problem(p->url) : NULL;
    if (p->url && strchr(p->url, '@')) /* not shown: what stands before the @ may be a password */
        problem_add(s->reader->problems, section_mark(s, "url"),
                    "`url` holds an @; write user and password as `basic_auth: {username: NAME, password_file: PATH}`");
    else if (problem)
        problem_add(s->reader->problems, section_mark(s, "url"), "`url` is `%s`, %s", shown(p->url).text, problem);
    for (size_t length = p->url ? strlen(p->url) : 0; length > 0 && p->url[length - 1] == '/'; length--)
        p->url[length - 1] = '\0';
}

/* The problem of one header, NULL if it can be sent. Names are tokens of RFC 9110. */
static const char *header_problem(const char *name, const char *value)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    if (!*name || strspn(name, token) != strlen(name))
        return "is no name of a header; write letters, digits and -";
    if (strcasecmp(name, "Authorization") == 0)
        return "is a secret; write `basic_auth` with `password_file`, or `bearer_token_file`";
    if (strpbrk(value, "\n\t"))
        return "must be on one line, without tabs";
    return NULL;
}

static void read_header(struct reader *reader, const struct tree_node *key, const struct tree_node *node,
                        struct policy_prometheus *p)
{
    if (key->kind != TREE_TEXT) {
        problem_add(reader->problems, key->mark, "a key must be a word; write the name of a header");
        return;
    }
    char *value = text_of(reader, node, shown(key->text).text);
    if (!value)
        return;
    const char *problem = header_problem(key->text, value);
    for (size_t i = 0; i < p->header_count && !problem; i++)
        if (strcasecmp(p->headers[i].name, key->text) == 0)
            problem = "is given twice; keep one of them";
    if (problem)
        problem_add(reader->problems, key->mark, "`%s` %s", shown(key->text).text, problem);
    p->headers[p->header_count++] = (struct policy_header){mem_strdup(key->text), value};
}

static void read_headers(struct section *s, struct policy_prometheus *p)
{
    const struct tree_node *map = section_get(s, "headers", NULL);
    if (!map)
        return;
    if (map->kind != TREE_MAP || map->count > 2 * HEADERS) {
        problem_add(s->reader->problems, map->mark, "`headers` must be a mapping of at most %d names to values",
                    HEADERS);
        return;
    }
    p->headers = mem_alloc(map->count / 2, sizeof *p->headers);
    for (size_t i = 0; i < map->count; i += 2)
        read_header(s->reader, map->items[i], map->items[i + 1], p);
}

static void read_basic_auth(struct section *prometheus, struct policy_prometheus *p)
{
    struct section s;
    if (!section_open_key(&s, prometheus, "basic_auth", NULL))
        return;
    p->username = section_text(&s, "username", "write the user's name");
    p->password_file = section_text(&s, "password_file", "write the path of a file that holds the password");
    section_refuse(&s, "password", "is a secret in the open; put it into a file and write `password_file: PATH`");
    section_close(&s);
}

static void read_tls(struct section *prometheus, struct policy_prometheus *p)
{
    struct section s;
    if (!section_open_key(&s, prometheus, "tls", NULL))
        return;
    p->ca_file = section_text(&s, "ca_file", NULL);
    p->cert_file = section_text(&s, "cert_file", NULL);
    p->key_file = section_text(&s, "key_file", NULL);
    p->server_name = section_text(&s, "server_name", NULL);
    if (section_has(&s, "cert_file") != section_has(&s, "key_file"))
        problem_add(s.reader->problems, s.mark, "`cert_file` and `key_file` go together; write both or none");
    if (s.map && p->url && strncmp(p->url, "http://", 7) == 0)
        problem_add(s.reader->problems, s.mark,
                    "`tls` has no meaning for a URL with http://; write https://, or take it out");
    section_close(&s);
}

void read_prometheus(struct section *top, struct policy_prometheus *p)
{
    struct section s;
    if (!section_open_key(&s, top, "prometheus", "write `prometheus: {url: http://127.0.0.1:9090}`"))
        return;
    read_url(&s, p);
    p->timeout_ms = section_duration(&s, "timeout", 10000);
    if (p->timeout_ms == 0)
        problem_add(s.reader->problems, section_mark(&s, "timeout"), "`timeout` must be above 0s; write 10s");
    read_headers(&s, p);
    read_basic_auth(&s, p);
    p->bearer_token_file = section_text(&s, "bearer_token_file", NULL);
    if (section_has(&s, "bearer_token_file") && section_has(&s, "basic_auth"))
        problem_add(s.reader->problems, section_mark(&s, "bearer_token_file"),
                    "`basic_auth` and `bearer_token_file` exclude each other; keep one of them");
    section_refuse(&s, "bearer_token",
                   "is a secret in the open; put it into a file and write `bearer_token_file: PATH`");
    read_tls(&s, p);
    section_close(&s);
}
