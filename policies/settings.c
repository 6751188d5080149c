/* One pass from left to right: what was put in is not looked at again. */
#include "policies/settings.h"

#include "base/memory.h"
#include "base/strbuf.h"
#include "policies/utf8.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_VALUE = 65536 };

static const char *find(const struct settings *s, const char *name)
{
    for (size_t i = 0; i < s->given_count; i++)
        if (strcmp(s->given[i].name, name) == 0)
            return s->given[i].value;
    size_t length = strlen(name);
    for (char *const *e = s->environment; e && *e; e++)
        if (strncmp(*e, name, length) == 0 && (*e)[length] == '=')
            return *e + length + 1;
    return NULL;
}

static void note(struct settings *s, const char *name, const char *value)
{
    size_t at = 0;
    while (at < s->used_count && strcmp(s->used[at].name, name) < 0)
        at++;
    if (at < s->used_count && strcmp(s->used[at].name, name) == 0)
        return;
    s->used = mem_grow(s->used, s->used_count, &s->used_room, sizeof *s->used);
    memmove(s->used + at + 1, s->used + at, (s->used_count - at) * sizeof *s->used);
    s->used[at] = (struct policy_setting){mem_strdup(name), mem_strdup(value)};
    s->used_count++;
}

/* The length of NAME in `${NAME}`; 0 if `text`, which begins with `${`, is not of that form. */
static size_t name_length(const char *text)
{
    const char *p = text + 2;
    if (!isalpha((unsigned char)*p) && *p != '_')
        return 0;
    while (isalnum((unsigned char)*p) || *p == '_')
        p++;
    return *p == '}' ? (size_t)(p - text) - 2 : 0;
}

static void report_unset(const char *name, struct mark at, struct policy_problems *problems)
{
    if (strcmp(name, "track") == 0 || strcmp(name, "stable") == 0 || strcmp(name, "canary") == 0)
        problem_add(problems, at, "`${%s}` is a setting and not set; the matchers of a track are written $%s", name,
                    name);
    else
        problem_add(problems, at, "`${%s}` is not set; give it with --set %s=VALUE or in the environment",
                    shown(name).text, shown(name).text);
}

static bool put_in(struct settings *s, struct strbuf *out, const char *name, struct mark at,
                   struct policy_problems *problems)
{
    const char *value = find(s, name);
    if (!value) {
        report_unset(name, at, problems);
        return false;
    }
    if (utf8_valid(value, strlen(value)) < strlen(value)) {
        problem_add(problems, at, "the value of `${%s}` is not UTF-8; set it anew", shown(name).text);
        return false;
    }
    note(s, name, value);
    strbuf_puts(out, value);
    return true;
}

/* Replaces the `${NAME}` that `*text` begins with and steps over it. */
static bool replace_one(struct settings *s, struct strbuf *out, const char **text, struct mark at,
                        struct policy_problems *problems)
{
    size_t length = name_length(*text);
    if (length == 0) {
        problem_add(problems, at, "`%s` is no setting; write ${NAME}, a name of letters, digits and _",
                    shown(*text).text);
        *text += 2;
        return false;
    }
    char *name = mem_strndup(*text + 2, length);
    bool ok = put_in(s, out, name, at, problems);
    free(name);
    *text += length + 3;
    return ok;
}

char *settings_expand(struct settings *s, const char *text, struct mark at, struct policy_problems *problems)
{
    struct strbuf out = {0};
    bool ok = true;
    for (;;) {
        const char *next = strstr(text, "${");
        strbuf_add(&out, text, next ? (size_t)(next - text) : strlen(text));
        if (!next || problems_full(problems))
            break;
        text = next;
        ok = replace_one(s, &out, &text, at, problems) && ok;
        if (out.length > LONGEST_VALUE) {
            problem_add(problems, at, "the value is longer than %d bytes once its settings are put in; shorten them",
                        LONGEST_VALUE);
            ok = false;
            break;
        }
    }
    char *result = strbuf_take(&out);
    if (ok)
        return result;
    free(result);
    return NULL;
}

void settings_give(struct settings *s, struct policy *policy)
{
    policy->settings = s->used;
    policy->setting_count = s->used_count;
    s->used = NULL;
    s->used_count = s->used_room = 0;
}
