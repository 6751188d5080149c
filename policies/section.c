/* Keys are found by walking the mapping: it has a dozen of them. */
#include "policies/section.h"

#include "base/memory.h"
#include "base/strbuf.h"
#include "policies/suggest.h"
#include "policies/values.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[] = {
    [TREE_TEXT] = "a single value", [TREE_LIST] = "a list", [TREE_MAP] = "a mapping of keys to values"};

bool section_open(struct section *s, struct reader *reader, const struct tree_node *node, const char *name,
                  struct mark at)
{
    *s = (struct section){.reader = reader, .mark = at};
    snprintf(s->name, sizeof s->name, "%s", name);
    if (!node)
        return true;
    if (node->kind != TREE_MAP) {
        problem_add(reader->problems, node->mark, "%s is %s; it must be a mapping of keys to values", name,
                    kind_names[node->kind]);
        return false;
    }
    s->map = node;
    return true;
}

static const struct tree_node *find(const struct section *s, const char *key)
{
    for (size_t i = 0; s->map && i < s->map->count; i += 2)
        if (s->map->items[i]->kind == TREE_TEXT && strcmp(s->map->items[i]->text, key) == 0)
            return s->map->items[i + 1];
    return NULL;
}

/* A missing key is better looked for at the name of its section than at the section's first key. */
static struct mark key_mark(const struct section *s, const char *key)
{
    for (size_t i = 0; s->map && i < s->map->count; i += 2)
        if (s->map->items[i]->kind == TREE_TEXT && strcmp(s->map->items[i]->text, key) == 0)
            return s->map->items[i]->mark;
    return s->mark;
}

bool section_open_key(struct section *s, struct section *parent, const char *key, const char *needed)
{
    const struct tree_node *node = section_get(parent, key, needed);
    char name[sizeof s->name];
    snprintf(name, sizeof name, "`%s`", key);
    return section_open(s, parent->reader, node, name, key_mark(parent, key));
}

static void know(struct section *s, const char *key, const char *needed, bool refused)
{
    for (size_t i = 0; i < s->known_count; i++)
        if (strcmp(s->known[i].name, key) == 0)
            return;
    assert(s->known_count < SECTION_KEYS);
    s->known[s->known_count++] = (struct known_key){key, find(s, key) ? NULL : needed, refused};
}

const struct tree_node *section_get(struct section *s, const char *key, const char *needed)
{
    know(s, key, needed, false);
    return find(s, key);
}

bool section_has(const struct section *s, const char *key)
{
    return find(s, key) != NULL;
}

struct mark section_mark(const struct section *s, const char *key)
{
    const struct tree_node *node = find(s, key);
    return node ? node->mark : s->mark;
}

void section_refuse(struct section *s, const char *key, const char *why)
{
    know(s, key, NULL, true);
    if (find(s, key))
        problem_add(s->reader->problems, key_mark(s, key), "`%s` %s", key, why);
}

void section_not_built(struct section *s, const char *key)
{
    section_refuse(s, key, "is not built yet; take it out: it would be ignored");
}

static const struct known_key *known_key(const struct section *s, const char *key)
{
    for (size_t i = 0; i < s->known_count; i++)
        if (strcmp(s->known[i].name, key) == 0)
            return &s->known[i];
    return NULL;
}

bool section_knows(const struct section *s, const char *key)
{
    return known_key(s, key) != NULL;
}

static void list_offered(const struct section *s, struct strbuf *out)
{
    const char *between = "";
    for (size_t i = 0; i < s->known_count; i++) {
        if (s->known[i].refused)
            continue;
        strbuf_printf(out, "%s%s", between, s->known[i].name);
        between = ", ";
    }
}

static void report_unknown(struct section *s, const struct tree_node *key)
{
    const char *names[SECTION_KEYS];
    for (size_t i = 0; i < s->known_count; i++)
        names[i] = s->known[i].name;
    const char *near = suggest(key->text, names, s->known_count);
    if (near) {
        problem_add(s->reader->problems, key->mark, "`%s` is not known in %s; did you mean `%s`?",
                    shown(key->text).text, s->name, near);
        for (size_t i = 0; i < s->known_count; i++)
            if (s->known[i].name == near)
                s->known[i].needed = NULL; /* one slip, one problem */
        return;
    }
    struct strbuf offered = {0};
    list_offered(s, &offered);
    problem_add(s->reader->problems, key->mark, "`%s` is not known in %s; known are: %s", shown(key->text).text,
                s->name, offered.text ? offered.text : "none");
    strbuf_free(&offered);
}

static void check_key(struct section *s, size_t at)
{
    const struct tree_node *key = s->map->items[at];
    if (key->kind != TREE_TEXT) {
        problem_add(s->reader->problems, key->mark, "a key must be a word, not %s", kind_names[key->kind]);
        return;
    }
    for (size_t i = 0; i < at; i += 2) {
        const struct tree_node *earlier = s->map->items[i];
        if (earlier->kind != TREE_TEXT || strcmp(earlier->text, key->text) != 0)
            continue;
        problem_add(s->reader->problems, key->mark, "`%s` is given twice, first in line %zu; keep one of them",
                    shown(key->text).text, earlier->mark.line);
        return;
    }
    if (strcmp(key->text, "<<") == 0)
        problem_add(s->reader->problems, key->mark, "`<<` (merging mappings) is not read; write the keys out");
    else if (!known_key(s, key->text))
        report_unknown(s, key);
}

void section_close(struct section *s)
{
    if (!s->map)
        return;
    /* Every further key is a problem once the known ones are through, so that the walk is short on any file. */
    for (size_t i = 0; i < s->map->count && !problems_full(s->reader->problems); i += 2)
        check_key(s, i);
    for (size_t i = 0; i < s->known_count; i++)
        if (s->known[i].needed)
            problem_add(s->reader->problems, s->mark, "%s has no `%s`; %s", s->name, s->known[i].name,
                        s->known[i].needed);
}

static bool is_null(const struct tree_node *node, const char *text)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    for (size_t i = 0; node->plain && i < sizeof words / sizeof words[0]; i++)
        if (strcmp(text, words[i]) == 0)
            return true;
    return false;
}

static bool has_control(const char *text, const char *allowed)
{
    for (const char *p = text; *p; p++)
        if (((unsigned char)*p < 0x20 && !strchr(allowed, *p)) || *p == 0x7F)
            return true;
    return false;
}

char *text_of(struct reader *reader, const struct tree_node *node, const char *what)
{
    if (node->kind != TREE_TEXT) {
        problem_add(reader->problems, node->mark, "`%s` is %s; it must be a single value", what,
                    kind_names[node->kind]);
        return NULL;
    }
    char *text = settings_expand(&reader->settings, node->text, node->mark, reader->problems);
    if (!text)
        return NULL;
    if (is_null(node, text))
        problem_add(reader->problems, node->mark, "`%s` has no value; write one, or take the key out", what);
    else if (has_control(text, "\n\t"))
        problem_add(reader->problems, node->mark, "`%s` holds a control character; take it out", what);
    else
        return text;
    free(text);
    return NULL;
}

char *section_text(struct section *s, const char *key, const char *needed)
{
    const struct tree_node *node = section_get(s, key, needed);
    char *text = node ? text_of(s->reader, node, key) : NULL;
    if (!text)
        return NULL;
    if (*text && !has_control(text, ""))
        return text;
    problem_add(s->reader->problems, node->mark, "`%s` %s", key,
                *text ? "must be on one line, without tabs" : "is empty; write a value, or take the key out");
    free(text);
    return NULL;
}

/* Reports `wrong` (NULL: nothing is) about `text`, frees it, and says whether all was well. */
static bool settle_value(struct reader *reader, const struct tree_node *node, const char *what, char *text,
                         const char *wrong)
{
    if (wrong)
        problem_add(reader->problems, node->mark, "`%s` is `%s`, %s", what, shown(text).text, wrong);
    free(text);
    return !wrong;
}

/* Numbers and truth values: a word in quotes is text for every YAML reader, so it is no number for us. */
static const char *quoted(const struct tree_node *node)
{
    return node->plain ? NULL : "which is text because of its quotes; take them off";
}

int64_t section_duration(struct section *s, const char *key, int64_t otherwise)
{
    const struct tree_node *node = section_get(s, key, NULL);
    if (!node)
        return otherwise;
    char *text = text_of(s->reader, node, key);
    int64_t ms = -1;
    if (!text)
        return -1;
    const char *wrong = value_duration(text, &ms);
    return settle_value(s->reader, node, key, text, wrong) ? ms : -1;
}

bool section_bool(struct section *s, const char *key, bool otherwise)
{
    const struct tree_node *node = section_get(s, key, NULL);
    char *text = node ? text_of(s->reader, node, key) : NULL;
    if (!text)
        return otherwise;
    bool value = otherwise;
    const char *wrong = quoted(node);
    settle_value(s->reader, node, key, text, wrong ? wrong : value_bool(text, &value));
    return value;
}

static int index_of(const char *const list[WORDS], const char *text)
{
    for (int i = 0; i < WORDS && list[i]; i++)
        if (strcmp(list[i], text) == 0)
            return i;
    return -1;
}

static void list_words(struct strbuf *out, const char *const list[WORDS])
{
    for (size_t i = 0; i < WORDS && list[i]; i++)
        strbuf_printf(out, "%s%s", i == 0 ? "" : i + 1 < WORDS && list[i + 1] ? ", " : " or ", list[i]);
}

int section_choice(struct section *s, const char *key, const char *needed, const struct words *words, int otherwise)
{
    const struct tree_node *node = section_get(s, key, needed);
    char *text = node ? text_of(s->reader, node, key) : NULL;
    if (!text)
        return otherwise;
    int choice = index_of(words->built, text);
    if (choice < 0) {
        struct strbuf built = {0};
        list_words(&built, words->built);
        problem_add(s->reader->problems, node->mark, "`%s` is `%s`, which is not known; write %s", key,
                    shown(text).text, built.text);
        strbuf_free(&built);
        choice = otherwise;
    }
    free(text);
    return choice;
}

static bool inside(double value, const struct range *range)
{
    return (range->above ? value > range->least : value >= range->least) &&
           (range->below ? value < range->most : value <= range->most);
}

static double check_range(struct reader *reader, const struct tree_node *node, const char *what, double value,
                          const struct range *range, bool percent)
{
    bool whole_number = !range->integer || value == floor(value);
    if (isnan(value) || (inside(value, range) && whole_number))
        return value;
    double scale = percent ? 100 : 1;
    const char *sign = percent ? "%" : "";
    struct strbuf must = {0};
    strbuf_printf(&must, "%s%s %g%s", whole_number ? "" : "a whole number, ", range->above ? "above" : "at least",
                  range->least * scale, sign);
    if (range->most < HUGE_VAL)
        strbuf_printf(&must, " and %s %g%s", range->below ? "below" : "at most", range->most * scale, sign);
    problem_add(reader->problems, node->mark, "`%s` is %g%s; it must be %s%s%s", what, value * scale, sign, must.text,
                range->why ? ": " : "", range->why ? range->why : "");
    strbuf_free(&must);
    return NAN;
}

double fraction_of(struct reader *reader, const struct tree_node *node, const char *what, const struct range *range)
{
    char *text = text_of(reader, node, what);
    if (!text)
        return NAN;
    double value = NAN;
    const char *wrong = value_fraction(text, range->whole, &value);
    if (!settle_value(reader, node, what, text, wrong))
        return NAN;
    return check_range(reader, node, what, value, range, true);
}

double section_fraction(struct section *s, const char *key, double otherwise, const struct range *range)
{
    const struct tree_node *node = section_get(s, key, NULL);
    return node ? fraction_of(s->reader, node, key, range) : otherwise;
}

double section_number(struct section *s, const char *key, double otherwise, const struct range *range)
{
    const struct tree_node *node = section_get(s, key, NULL);
    if (!node)
        return otherwise;
    char *text = text_of(s->reader, node, key);
    if (!text)
        return NAN;
    double value = NAN;
    const char *wrong = quoted(node);
    if (!wrong)
        wrong = value_number(text, &value);
    if (!settle_value(s->reader, node, key, text, wrong))
        return NAN;
    return check_range(s->reader, node, key, value, range, false);
}

struct tree_node **section_list(struct section *s, const char *key, const char *needed, size_t most, size_t *count)
{
    *count = 0;
    const struct tree_node *node = section_get(s, key, needed);
    if (!node)
        return NULL;
    if (node->kind != TREE_LIST) {
        problem_add(s->reader->problems, node->mark, "`%s` is %s; it must be a list, like [a, b]", key,
                    kind_names[node->kind]);
        return NULL;
    }
    if (node->count == 0 || node->count > most) {
        problem_add(s->reader->problems, node->mark, "`%s` has %zu items; it must have 1 to %zu", key, node->count,
                    most);
        return NULL;
    }
    *count = node->count;
    return node->items;
}
