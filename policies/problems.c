/* A plain growing list. It is sorted once at the end, because cross checks find their problems late. */
#include "policies/problems.h"

#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void problem_add(struct policy_problems *problems, struct mark at, const char *format, ...)
{
    /* One past PROBLEMS is kept: it tells problems_finish() that there are more. */
    if (problems->count > PROBLEMS)
        return;
    va_list args;
    va_start(args, format);
    char text[1024];
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    problems->items = mem_grow(problems->items, problems->count, &problems->room, sizeof *problems->items);
    problems->items[problems->count++] = (struct policy_problem){at.line, at.column, mem_strdup(text)};
}

bool problems_full(const struct policy_problems *problems)
{
    return problems->count > PROBLEMS;
}

static bool comes_before(const struct policy_problem *a, const struct policy_problem *b)
{
    return a->line != b->line ? a->line < b->line : a->column < b->column;
}

/* Insertion sort: stable, and the list is short and nearly sorted. */
static void sort(struct policy_problems *problems)
{
    for (size_t i = 1; i < problems->count; i++) {
        struct policy_problem item = problems->items[i];
        size_t at = i;
        for (; at > 0 && comes_before(&item, &problems->items[at - 1]); at--)
            problems->items[at] = problems->items[at - 1];
        problems->items[at] = item;
    }
}

static bool already_there(const struct policy_problems *problems, size_t kept, const struct policy_problem *item)
{
    for (size_t i = 0; i < kept; i++) {
        const struct policy_problem *other = &problems->items[i];
        if (other->line == item->line && other->column == item->column && strcmp(other->text, item->text) == 0)
            return true;
    }
    return false;
}

void problems_finish(struct policy_problems *problems)
{
    bool more = problems_full(problems);
    if (more)
        free(problems->items[--problems->count].text);
    sort(problems);
    /* A node behind an alias is read once per alias; its problems are told once. */
    size_t kept = 0;
    for (size_t i = 0; i < problems->count; i++) {
        if (already_there(problems, kept, &problems->items[i]))
            free(problems->items[i].text);
        else
            problems->items[kept++] = problems->items[i];
    }
    problems->count = kept;
    if (more) {
        struct mark last = {problems->items[kept - 1].line, problems->items[kept - 1].column};
        problem_add(problems, last, "there are more problems than these; mend these first");
    }
}

void policy_problems_free(struct policy_problems *problems)
{
    if (!problems)
        return;
    for (size_t i = 0; i < problems->count; i++)
        free(problems->items[i].text);
    free(problems->items);
    *problems = (struct policy_problems){0};
}

struct shown shown(const char *text)
{
    enum { MOST = 60 };
    struct shown result = {{0}};
    size_t length = strlen(text);
    size_t cut = length < MOST ? length : MOST;
    if (cut < length)
        while (cut > 0 && ((unsigned char)text[cut] & 0xC0) == 0x80)
            cut--;
    for (size_t i = 0; i < cut; i++) {
        unsigned char c = (unsigned char)text[i];
        result.text[i] = c < 0x20 || c == 0x7F ? ' ' : text[i];
    }
    if (cut < length)
        memcpy(result.text + cut, "…", sizeof "…");
    return result;
}
