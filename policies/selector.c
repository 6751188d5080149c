/*
 * A reader of PromQL's vector selectors that builds nothing: it only has to find the mistakes that would let both
 * tracks be asked the same, or a query fail in the middle of the night. Numbers of bytes are of no interest, so it
 * walks a pointer.
 */
#include "policies/selector.h"

#include "base/memory.h"
#include "base/strbuf.h"
#include "policies/load.h"
#include "policies/problems.h"

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct scan {
    const char *at;
    bool in_selector; /* $track may stand here */
    bool track;       /* it did */
    char *problem;
};

static bool fail(struct scan *scan, char *problem)
{
    scan->problem = problem;
    return false;
}

static void skip_blanks(struct scan *scan)
{
    scan->at += strspn(scan->at, " \t\n");
}

static size_t word_length(const char *text)
{
    size_t length = 0;
    if (isalpha((unsigned char)*text) || *text == '_')
        while (isalnum((unsigned char)text[length]) || text[length] == '_')
            length++;
    return length;
}

static bool scan_variable(struct scan *scan)
{
    size_t length = word_length(scan->at + 1);
    char *word = mem_strndup(scan->at, length + 1);
    bool ok = scan->in_selector && strcmp(word, "$track") == 0;
    if (ok)
        scan->track = true;
    else if (!scan->in_selector)
        fail(scan, mem_printf("holds `%s`; it is what $track becomes, so it cannot hold one itself", shown(word).text));
    else if (strcmp(word, "$stable") == 0 || strcmp(word, "$canary") == 0)
        fail(scan, mem_printf("holds `%s`, so that both tracks would be asked the same; write $track", word));
    else
        fail(scan, mem_printf("holds `%s`, which is not known; the only word here is $track", shown(word).text));
    free(word);
    scan->at += length + 1;
    return ok;
}

/* `text` in one of PromQL's three quotes. */
static bool scan_string(struct scan *scan)
{
    char quote = *scan->at++;
    for (; *scan->at && *scan->at != quote; scan->at++) {
        if (*scan->at == '$' && word_length(scan->at + 1) > 0) {
            char *word = mem_strndup(scan->at, word_length(scan->at + 1) + 1);
            fail(scan,
                 mem_printf("holds `%s` inside quotes; $track stands for whole matchers: write {job=\"shop\",$track}",
                            shown(word).text));
            free(word);
            return false;
        }
        if (*scan->at == '\\' && quote != '`' && scan->at[1])
            scan->at++;
    }
    if (!*scan->at)
        return fail(scan, mem_printf("has a %c that is not closed; close it", quote));
    scan->at++;
    return true;
}

static bool is_quote(char c)
{
    return c == '"' || c == '\'' || c == '`';
}

/* label="value", or "a.quoted.name" alone */
static bool scan_matcher(struct scan *scan)
{
    const char *start = scan->at;
    bool quoted = is_quote(*scan->at);
    size_t length = word_length(scan->at);
    if (quoted) {
        if (!scan_string(scan))
            return false;
    } else if (length == 0) {
        return fail(scan, mem_printf("has `%s` where a matcher like job=\"shop\" must stand", shown(start).text));
    }
    scan->at += length;
    skip_blanks(scan);
    if (quoted && scan->in_selector && (*scan->at == ',' || *scan->at == '}'))
        return true;
    static const char *const operators[] = {"=~", "!~", "!=", "="};
    size_t o = 0;
    while (o < 4 && strncmp(scan->at, operators[o], strlen(operators[o])) != 0)
        o++;
    if (o == 4)
        return fail(scan, mem_printf("has `%s`, which is no matcher; write label=\"value\"", shown(start).text));
    scan->at += strlen(operators[o]);
    skip_blanks(scan);
    if (!is_quote(*scan->at))
        return fail(scan, mem_printf("has `%s`, a value without quotes; write label=\"value\"", shown(start).text));
    return scan_string(scan);
}

/* Matchers with commas between, and one may follow the last, up to `end`, which is not stepped over. */
static bool scan_matchers(struct scan *scan, char end)
{
    for (;;) {
        skip_blanks(scan);
        if (*scan->at == end)
            return true;
        if (!*scan->at)
            return fail(scan, mem_strdup("has a { that is not closed; close it with }"));
        if (!(*scan->at == '$' ? scan_variable(scan) : scan_matcher(scan)))
            return false;
        skip_blanks(scan);
        if (*scan->at == ',')
            scan->at++;
        else if (*scan->at && *scan->at != end)
            return fail(scan, mem_printf("has `%s` where a comma must stand", shown(scan->at).text));
    }
}

static bool scan_selector(struct scan *scan)
{
    static const char plain[] =
        "is no plain selector; write NAME{LABELS,$track}: haldane takes raw samples and needs no "
        "rate(), no sum() and no [5m]";
    skip_blanks(scan);
    if (isalpha((unsigned char)*scan->at) || *scan->at == '_' || *scan->at == ':')
        while (isalnum((unsigned char)*scan->at) || *scan->at == '_' || *scan->at == ':')
            scan->at++;
    skip_blanks(scan);
    if (*scan->at == '\0')
        return fail(scan, mem_strdup("lacks $track, so that both tracks would be asked the same; write NAME{$track}"));
    if (*scan->at != '{')
        return fail(scan, mem_strdup(plain));
    scan->at++;
    if (!scan_matchers(scan, '}'))
        return false;
    scan->at++;
    skip_blanks(scan);
    if (*scan->at)
        return fail(scan, mem_strdup(plain));
    if (!scan->track)
        return fail(scan, mem_strdup("lacks $track, so that both tracks would be asked the same; write it beside the "
                                     "other matchers: {job=\"shop\",$track}"));
    return true;
}

char *selector_problem(const char *text)
{
    struct scan scan = {.at = text, .in_selector = true};
    scan_selector(&scan);
    return scan.problem;
}

char *matchers_problem(const char *text)
{
    struct scan scan = {.at = text};
    skip_blanks(&scan);
    if (!*scan.at)
        return mem_strdup("is empty; write what tells this track from the other, like track=\"stable\"");
    scan_matchers(&scan, '\0');
    return scan.problem;
}

/* What the word of `length` letters behind a `$` stands for; NULL: nothing, it stays as it is. */
static const char *meaning(const struct policy *policy, const char *word, size_t length, enum track track)
{
    if (length == 5 && strncmp(word, "track", length) == 0)
        return policy->matchers[track];
    if (length == 6 && strncmp(word, "stable", length) == 0)
        return policy->matchers[TRACK_STABLE];
    if (length == 6 && strncmp(word, "canary", length) == 0)
        return policy->matchers[TRACK_CANARY];
    return NULL;
}

char *policy_expand(const struct policy *policy, const char *selector, enum track track)
{
    struct strbuf out = {0};
    for (const char *p = selector; *p;) {
        size_t length = *p == '$' ? word_length(p + 1) : 0;
        const char *matchers = length ? meaning(policy, p + 1, length, track) : NULL;
        if (matchers)
            strbuf_puts(&out, matchers);
        else
            strbuf_add(&out, p, length + 1);
        p += length + 1;
    }
    return strbuf_take(&out);
}
