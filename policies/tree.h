/* YAML text as a tree that remembers where each node stood. */
#ifndef HALDANE_POLICIES_TREE_H
#define HALDANE_POLICIES_TREE_H

#include "policies/problems.h"

#include <stdbool.h>
#include <stddef.h>

enum tree_kind { TREE_TEXT, TREE_LIST, TREE_MAP };

struct tree_node {
    enum tree_kind kind;
    struct mark mark;
    char *text;               /* TREE_TEXT: without quotes, escapes resolved; holds no NUL */
    bool plain;               /* TREE_TEXT: written without quotes, so that it can be a number or true */
    struct tree_node **items; /* TREE_LIST: the items; TREE_MAP: key, value, key, value… */
    size_t count, room;       /* of items */
};

/* Owns the nodes. An alias is a second pointer to the node of its anchor, so that it costs nothing. */
struct tree {
    struct tree_node *root;
    struct tree_node **nodes;
    size_t count, room;
};

/*
 * Reads one YAML document. False with problems added if the text is not UTF-8, not YAML, empty, more than one document
 * or beyond any sensible policy (depth, nodes, anchors). Either way the caller calls tree_free().
 */
bool tree_parse(struct tree *tree, const char *text, size_t length, struct policy_problems *problems);

void tree_free(struct tree *tree);

#endif
