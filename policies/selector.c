/*
 * A reader of PromQL's vector selectors that builds nothing: it only has to find the mistakes that would let both
 * tracks be asked the same, or a query fail in the middle of the night. Numbers of bytes are of no interest, so it
 * walks a pointer. Of a whole query it reads the selectors in the same way, and steps over what is between them.
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

/* What is read, and so which words may stand for matchers in it. */
enum scan_kind {
    SCAN_MATCHERS, /* none */
    SCAN_SELECTOR, /* $track */
    SCAN_CANARY,   /* $track, $canary: a selector that only the canary is asked */
    SCAN_QUERY,    /* $track, $stable, $canary */
};

struct scan {
    const char *at;
    enum scan_kind kind;
    bool track; /* a word that tells the tracks apart was there */
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

static bool is_track_word(const char *word)
{
    return strcmp(word, "$track") == 0 || strcmp(word, "$stable") == 0 || strcmp(word, "$canary") == 0;
}

/* What is wrong with `word`, which stands where a matcher can; NULL: nothing. */
static char *word_problem(enum scan_kind kind, const char *word)
{
    static const char *const offered[] = {
        [SCAN_SELECTOR] = "the only word here is $track",
        [SCAN_CANARY] = "the words here are $canary and $track",
        [SCAN_QUERY] = "the words here are $track, $stable and $canary",
    };
    if (kind == SCAN_MATCHERS)
        return mem_printf("holds `%s`; it is what $track becomes, so it cannot hold one itself", shown(word).text);
    if (!is_track_word(word))
        return mem_printf("holds `%s`, which is not known; %s", shown(word).text, offered[kind]);
    if (kind == SCAN_SELECTOR && strcmp(word, "$track") != 0)
        return mem_printf("holds `%s`, so that both tracks would be asked the same; write $track", word);
    if (kind == SCAN_CANARY && strcmp(word, "$stable") == 0)
        return mem_strdup("holds `$stable`, but a guardrail is a limit of the canary; write $canary");
    return NULL;
}

static bool scan_variable(struct scan *scan)
{
    size_t length = word_length(scan->at + 1);
    char *word = mem_strndup(scan->at, length + 1);
    char *problem = word_problem(scan->kind, word);
    scan->track |= !problem && (scan->kind == SCAN_CANARY || strcmp(word, "$track") == 0);
    free(word);
    scan->at += length + 1;
    return problem ? fail(scan, problem) : true;
}

/* `$NAME` in quotes at `at`. A query may hold other names than ours there: label_replace() knows `$name`. */
static bool check_quoted_word(struct scan *scan)
{
    char *word = mem_strndup(scan->at, word_length(scan->at + 1) + 1);
    bool ok = scan->kind == SCAN_QUERY && !is_track_word(word);
    if (!ok)
        fail(scan, mem_printf("holds `%s` inside quotes; $track stands for whole matchers: write {job=\"shop\",$track}",
                              shown(word).text));
    free(word);
    return ok;
}

/* `text` in one of PromQL's three quotes. */
static bool scan_string(struct scan *scan)
{
    char quote = *scan->at++;
    for (; *scan->at && *scan->at != quote; scan->at++) {
        if (*scan->at == '$' && word_length(scan->at + 1) > 0 && !check_quoted_word(scan))
            return false;
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
    if (quoted && scan->kind != SCAN_MATCHERS && (*scan->at == ',' || *scan->at == '}'))
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

/* $track, or what stands for it, is missing. */
static bool fail_without_track(struct scan *scan, bool has_braces)
{
    const char *word = scan->kind == SCAN_CANARY ? "$canary" : "$track";
    const char *why =
        scan->kind == SCAN_CANARY ? "stable would be counted as well" : "both tracks would be asked the same";
    if (has_braces)
        return fail(scan, mem_printf("lacks %s, so that %s; write it beside the other matchers: {job=\"shop\",%s}",
                                     word, why, word));
    return fail(scan, mem_printf("lacks %s, so that %s; write NAME{%s}", word, why, word));
}

static bool fail_not_plain(struct scan *scan)
{
    return fail(scan, mem_printf("is no plain selector; write NAME{LABELS,%s}: haldane takes raw samples and needs no "
                                 "rate(), no sum() and no [5m]",
                                 scan->kind == SCAN_CANARY ? "$canary" : "$track"));
}

static bool scan_selector(struct scan *scan)
{
    skip_blanks(scan);
    if (isalpha((unsigned char)*scan->at) || *scan->at == '_' || *scan->at == ':')
        while (isalnum((unsigned char)*scan->at) || *scan->at == '_' || *scan->at == ':')
            scan->at++;
    skip_blanks(scan);
    if (*scan->at == '\0')
        return fail_without_track(scan, false);
    if (*scan->at != '{')
        return fail_not_plain(scan);
    scan->at++;
    if (!scan_matchers(scan, '}'))
        return false;
    scan->at++;
    skip_blanks(scan);
    if (*scan->at)
        return fail_not_plain(scan);
    return scan->track ? true : fail_without_track(scan, true);
}

/* The brackets of a query that are open, innermost last. */
struct nesting {
    char closing[64];
    size_t depth;
};

static bool scan_bracket(struct scan *scan, struct nesting *open)
{
    char c = *scan->at++;
    if (c == '(' || c == '[') {
        if (open->depth == sizeof open->closing)
            return fail(scan, mem_printf("has more than %zu brackets in each other; write it simpler", open->depth));
        open->closing[open->depth++] = c == '(' ? ')' : ']';
        return true;
    }
    if (open->depth == 0)
        return fail(scan, mem_printf("has a %c that nothing opens; take it out", c));
    char expected = open->closing[--open->depth];
    return c == expected ? true : fail(scan, mem_printf("has a %c where a %c must stand", c, expected));
}

static bool fail_outside_braces(struct scan *scan)
{
    char *word = mem_strndup(scan->at, word_length(scan->at + 1) + 1);
    fail(scan,
         mem_printf("holds `%s` outside of braces; it stands for matchers: write NAME{$track}", shown(word).text));
    free(word);
    return false;
}

/* One piece of a query: a string, the matchers of a selector, a comment, a bracket, or a character between. */
static bool scan_piece(struct scan *scan, struct nesting *open)
{
    char c = *scan->at;
    if (is_quote(c))
        return scan_string(scan);
    if (c == '$')
        return fail_outside_braces(scan);
    if (c == '#') {
        scan->at += strcspn(scan->at, "\n");
        return true;
    }
    if (c && strchr("()[]", c))
        return scan_bracket(scan, open);
    scan->at++;
    if (c != '{')
        return true;
    if (!scan_matchers(scan, '}'))
        return false;
    scan->at++;
    return true;
}

static bool scan_query(struct scan *scan)
{
    struct nesting open = {.depth = 0};
    char last = '\0';
    for (skip_blanks(scan); *scan->at; skip_blanks(scan)) {
        last = *scan->at == '#' ? last : *scan->at;
        if (!scan_piece(scan, &open))
            return false;
    }
    if (!last)
        return fail(scan, mem_strdup("is empty; write what Prometheus is to be asked"));
    if (open.depth > 0)
        return fail(scan, mem_printf("lacks a %c at its end; close what is open", open.closing[open.depth - 1]));
    if (last == ']')
        return fail(scan, mem_strdup("ends with a range, which is no number; put a function around it, like "
                                     "max_over_time(NAME{$track}[5m])"));
    return true;
}

char *selector_problem(const char *text)
{
    struct scan scan = {.at = text, .kind = SCAN_SELECTOR};
    scan_selector(&scan);
    return scan.problem;
}

char *canary_selector_problem(const char *text)
{
    struct scan scan = {.at = text, .kind = SCAN_CANARY};
    scan_selector(&scan);
    return scan.problem;
}

char *query_problem(const char *text)
{
    struct scan scan = {.at = text, .kind = SCAN_QUERY};
    if (scan_query(&scan) && !scan.track)
        fail_without_track(&scan, strchr(text, '{') != NULL);
    return scan.problem;
}

char *canary_query_problem(const char *text)
{
    struct scan scan = {.at = text, .kind = SCAN_QUERY};
    scan_query(&scan);
    return scan.problem;
}

char *matchers_problem(const char *text)
{
    struct scan scan = {.at = text, .kind = SCAN_MATCHERS};
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
