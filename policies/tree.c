/*
 * Built from libyaml's events, not from its document: the loader of a document compares every anchor with every other
 * one, which a hostile file of a megabyte turns into minutes, and it lets an alias point at its own parent. Here an
 * anchor is known only once its node is complete, so the tree has no cycles, and depth, nodes and anchors are bounded.
 */
#include "policies/tree.h"

#include "base/memory.h"
#include "policies/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { DEEPEST = 32, MOST_NODES = 20000, MOST_ANCHORS = 100 };

struct anchor {
    char *name;
    struct tree_node *node;
};

struct builder {
    struct tree *tree;
    struct policy_problems *problems;
    const char *text;
    size_t length;
    yaml_parser_t parser;
    struct anchor anchors[MOST_ANCHORS];
    size_t anchor_count;
};

static struct mark mark_of(const yaml_mark_t *mark)
{
    return (struct mark){mark->line + 1, mark->column + 1};
}

static struct mark mark_at_byte(const char *text, size_t offset)
{
    struct mark at = {1, 1};
    for (size_t i = 0; i < offset; i++) {
        if (text[i] == '\n')
            at = (struct mark){at.line + 1, 1};
        else if (((unsigned char)text[i] & 0xC0) != 0x80)
            at.column++;
    }
    return at;
}

/* In {…} and […] the brace of an unquoted ${NAME} ends nothing and begins a mapping: easy to do, hard to see. */
static bool line_has_setting(const struct builder *b, size_t line)
{
    const char *at = b->text, *end = b->text + b->length;
    for (size_t n = 1; n < line && at < end; n++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        at = newline ? newline + 1 : end;
    }
    const char *newline = memchr(at, '\n', (size_t)(end - at));
    return memmem(at, (size_t)((newline ? newline : end) - at), "${", 2) != NULL;
}

static void report_syntax(struct builder *b)
{
    const yaml_parser_t *p = &b->parser;
    const char *problem = p->problem ? p->problem : "cannot be read";
    if (p->error == YAML_READER_ERROR) {
        size_t offset = p->problem_offset < b->length ? p->problem_offset : b->length;
        problem_add(b->problems, mark_at_byte(b->text, offset), "%s; take the byte out", problem);
        return;
    }
    struct mark at = mark_of(&p->problem_mark);
    char begun[80] = "";
    if (p->context && p->context_mark.line != p->problem_mark.line)
        snprintf(begun, sizeof begun, " (%s from line %zu on)", p->context, p->context_mark.line + 1);
    problem_add(b->problems, at, "YAML: %s%s; %s", problem, begun,
                line_has_setting(b, at.line) ? "put the value that holds ${…} in quotes"
                                             : "check indentation, brackets and quotes there and in the lines before; "
                                               "YAML takes no tabs");
}

static bool next_event(struct builder *b, yaml_event_t *event)
{
    if (yaml_parser_parse(&b->parser, event))
        return true;
    report_syntax(b);
    return false;
}

static const yaml_char_t *anchor_of(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return event->data.scalar.anchor;
    case YAML_SEQUENCE_START_EVENT:
        return event->data.sequence_start.anchor;
    case YAML_MAPPING_START_EVENT:
        return event->data.mapping_start.anchor;
    default:
        return NULL;
    }
}

static const yaml_char_t *tag_of(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return event->data.scalar.tag;
    case YAML_SEQUENCE_START_EVENT:
        return event->data.sequence_start.tag;
    case YAML_MAPPING_START_EVENT:
        return event->data.mapping_start.tag;
    default:
        return NULL;
    }
}

static struct tree_node *resolve_alias(struct builder *b, const yaml_event_t *event)
{
    const char *name = (const char *)event->data.alias.anchor;
    /* From the end: a name that is given again means its last node. */
    for (size_t i = b->anchor_count; i-- > 0;)
        if (strcmp(b->anchors[i].name, name) == 0)
            return b->anchors[i].node;
    problem_add(b->problems, mark_of(&event->start_mark),
                "`*%s` repeats something that was not given before; put `&%s` in front of it", shown(name).text,
                shown(name).text);
    return NULL;
}

static bool remember_anchor(struct builder *b, const yaml_event_t *event, struct tree_node *node)
{
    const char *name = (const char *)anchor_of(event);
    if (!name)
        return true;
    if (b->anchor_count == MOST_ANCHORS) {
        problem_add(b->problems, node->mark, "more than %d anchors; write the values out", MOST_ANCHORS);
        return false;
    }
    b->anchors[b->anchor_count++] = (struct anchor){mem_strdup(name), node};
    return true;
}

static struct tree_node *new_node(struct builder *b, enum tree_kind kind, const yaml_event_t *event)
{
    struct tree *tree = b->tree;
    struct mark at = mark_of(&event->start_mark);
    if (tree->count == MOST_NODES) {
        problem_add(b->problems, at, "more than %d values; is this the right file?", MOST_NODES);
        return NULL;
    }
    struct tree_node *node = mem_alloc(1, sizeof *node);
    node->kind = kind;
    node->mark = at;
    tree->nodes = mem_grow(tree->nodes, tree->count, &tree->room, sizeof(struct tree_node *));
    tree->nodes[tree->count++] = node;
    return node;
}

static struct tree_node *build_text(struct builder *b, const yaml_event_t *event)
{
    struct tree_node *node = new_node(b, TREE_TEXT, event);
    if (!node)
        return NULL;
    const char *value = (const char *)event->data.scalar.value;
    size_t length = event->data.scalar.length;
    node->text = mem_strndup(value, length);
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (memchr(value, '\0', length)) {
        problem_add(b->problems, node->mark, "the text holds a zero byte (`\\0`); take it out");
        return NULL;
    }
    return node;
}

static struct tree_node *build(struct builder *b, const yaml_event_t *event, int depth);

static bool build_items(struct builder *b, struct tree_node *node, yaml_event_type_t end, int depth)
{
    for (;;) {
        yaml_event_t event;
        if (!next_event(b, &event))
            return false;
        bool ended = event.type == end;
        struct tree_node *item = ended ? NULL : build(b, &event, depth);
        yaml_event_delete(&event);
        if (!item)
            return ended;
        node->items = mem_grow(node->items, node->count, &node->room, sizeof(struct tree_node *));
        node->items[node->count++] = item;
    }
}

static struct tree_node *build_nest(struct builder *b, const yaml_event_t *event, int depth)
{
    bool is_map = event->type == YAML_MAPPING_START_EVENT;
    struct tree_node *node = new_node(b, is_map ? TREE_MAP : TREE_LIST, event);
    if (!node)
        return NULL;
    if (depth == DEEPEST) {
        problem_add(b->problems, node->mark, "nested more than %d deep; a policy needs five", DEEPEST);
        return NULL;
    }
    return build_items(b, node, is_map ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT, depth + 1) ? node : NULL;
}

static void report_tag(struct builder *b, const yaml_event_t *event)
{
    static const char standard[] = "tag:yaml.org,2002:"; /* what libyaml makes of `!!` */
    const char *tag = (const char *)tag_of(event);
    bool is_standard = strncmp(tag, standard, sizeof standard - 1) == 0;
    problem_add(b->problems, mark_of(&event->start_mark), "the tag `%s%s` is not used in policies; take it out",
                is_standard ? "!!" : "", shown(is_standard ? tag + sizeof standard - 1 : tag).text);
}

/* The node that begins with `event`; NULL with a problem added. */
static struct tree_node *build(struct builder *b, const yaml_event_t *event, int depth)
{
    if (event->type == YAML_ALIAS_EVENT)
        return resolve_alias(b, event);
    if (tag_of(event)) {
        report_tag(b, event);
        return NULL;
    }
    struct tree_node *node = event->type == YAML_SCALAR_EVENT ? build_text(b, event) : build_nest(b, event, depth);
    return node && remember_anchor(b, event, node) ? node : NULL;
}

static void report_empty(struct builder *b)
{
    problem_add(b->problems, (struct mark){1, 1}, "the policy is empty; begin with a copy of http-service.yaml");
}

/* The stream must be: start, document start, a node, document end, end. */
static bool build_document(struct builder *b)
{
    yaml_event_t event;
    for (;;) {
        if (!next_event(b, &event))
            return false;
        yaml_event_type_t type = event.type;
        bool ok = true;
        if (type == YAML_DOCUMENT_START_EVENT && b->tree->root) {
            problem_add(b->problems, mark_of(&event.start_mark),
                        "a second document begins here; a policy is one document: take out this `---` or what follows");
            ok = false;
        } else if (type == YAML_STREAM_END_EVENT && !b->tree->root) {
            report_empty(b);
            ok = false;
        } else if (type != YAML_STREAM_START_EVENT && type != YAML_STREAM_END_EVENT &&
                   type != YAML_DOCUMENT_START_EVENT && type != YAML_DOCUMENT_END_EVENT) {
            b->tree->root = build(b, &event, 0);
            ok = b->tree->root != NULL;
        }
        yaml_event_delete(&event);
        if (!ok || type == YAML_STREAM_END_EVENT)
            return ok;
    }
}

bool tree_parse(struct tree *tree, const char *text, size_t length, struct policy_problems *problems)
{
    size_t valid = utf8_valid(text, length);
    if (valid < length) {
        problem_add(problems, mark_at_byte(text, valid), "this is not UTF-8; save the file as UTF-8");
        return false;
    }
    static const char byte_order_mark[] =
        "\xEF\xBB\xBF"; /* libyaml takes it for content when it is told the encoding */
    if (length >= 3 && memcmp(text, byte_order_mark, 3) == 0) {
        text += 3;
        length -= 3;
    }
    struct builder b = {.tree = tree, .problems = problems, .text = text, .length = length};
    if (!yaml_parser_initialize(&b.parser)) {
        problem_add(problems, (struct mark){1, 1}, "libyaml has no memory to read the policy");
        return false;
    }
    yaml_parser_set_input_string(&b.parser, (const unsigned char *)text, length);
    yaml_parser_set_encoding(&b.parser, YAML_UTF8_ENCODING);
    bool ok = build_document(&b);
    yaml_parser_delete(&b.parser);
    for (size_t i = 0; i < b.anchor_count; i++)
        free(b.anchors[i].name);
    return ok;
}

void tree_free(struct tree *tree)
{
    for (size_t i = 0; i < tree->count; i++) {
        free(tree->nodes[i]->text);
        free(tree->nodes[i]->items);
        free(tree->nodes[i]);
    }
    free(tree->nodes);
    *tree = (struct tree){0};
}
