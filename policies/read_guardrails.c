/*
 * The limits of the canary alone: `crash`, which is always there, and the list `guardrails`. Both forms of a guardrail
 * are told apart by their keys: `failed` and `total` are counted, a `query` is asked.
 */
#include "policies/read.h"

#include "base/memory.h"
#include "policies/selector.h"

#include <math.h>
#include <string.h>

enum { MOST_GUARDRAILS = 50 };

/* --- crash --- */

static bool has_critical_errors(const struct policy *policy)
{
    for (size_t i = 0; i < policy->metric_count; i++)
        if (policy->metrics[i].critical && policy->metrics[i].type == METRIC_ERRORS)
            return true;
    return false;
}

/* Turned off, it has nothing to set; and without failures to count it would promise what is not done. */
static void check_crash(struct section *s, const struct policy *policy, bool off)
{
    static const char *const keys[] = {"rate", "requests"};
    for (size_t i = 0; off && i < sizeof keys / sizeof keys[0]; i++)
        section_refuse(s, keys[i], "has no meaning with `times: 0`, which turns `crash` off; take it out");
    if (!off && s->map && policy->metric_count > 0 && !has_critical_errors(policy))
        problem_add(s->reader->problems, s->mark,
                    "`crash` counts failures, and no critical metric has `type: errors`; add one, or take it out");
}

void read_crash(struct section *top, struct policy *policy)
{
    static const struct range rates = {.most = 1, .above = true, .whole = true};
    static const struct range counts = {.most = 1000, .integer = true};
    static const struct range windows = {.least = 1, .most = 100000, .integer = true};
    struct section s;
    if (!section_open_key(&s, top, "crash", NULL))
        return;
    policy->crash.rate = section_fraction(&s, "rate", 0.1, &rates);
    double times = section_number(&s, "times", 3, &counts);
    double requests = section_number(&s, "requests", 20, &windows);
    policy->crash.times = isnan(times) ? 0 : (uint32_t)times;
    policy->crash.requests = isnan(requests) ? 0 : (uint64_t)requests;
    check_crash(&s, policy, times == 0);
    section_close(&s);
}

/* --- guardrails --- */

static void check_name(const struct section *s, const struct policy *policy, const char *name)
{
    const char *other = NULL;
    if (!name)
        return;
    if (strcmp(name, "crash") == 0)
        other = "the crash guardrail, which is always there";
    for (size_t i = 0; i < policy->metric_count; i++)
        if (policy->metrics[i].name && strcmp(policy->metrics[i].name, name) == 0)
            other = "a metric";
    for (size_t i = 0; i < policy->guardrail_count; i++)
        if (policy->guardrails[i].name && strcmp(policy->guardrails[i].name, name) == 0)
            other = "an earlier guardrail";
    if (other)
        problem_add(s->reader->problems, section_mark(s, "name"), "`%s` is the name of %s; give each its own",
                    shown(name).text, other);
}

static void read_rate(struct section *s, struct policy_guardrail *g)
{
    static const struct range rates = {.most = 1, .above = true, .below = true, .why = "it is a share of the requests"};
    g->kind = GUARDRAIL_RATE;
    g->failed = read_promql(s, "failed", "write the counter of failed requests: NAME{code=~\"5..\",$canary}",
                            canary_selector_problem);
    g->total = read_promql(s, "total", "write the counter of all requests: NAME{$canary}", canary_selector_problem);
    section_get(s, "above", "write the share of failed requests that is too much, like 5%");
    g->above = section_fraction(s, "above", NAN, &rates);
    section_refuse(s, "for", "is for a `query`; a rate counts as soon as the evidence is strong enough: take it out");
    section_get(s, "query", NULL);
    if (g->failed && g->total && strcmp(g->failed, g->total) == 0)
        problem_add(
            s->reader->problems, section_mark(s, "failed"),
            "`failed` asks the same as `total`, so that every request would be a failure; select the failed ones");
}

static void read_value(struct section *s, struct policy_guardrail *g)
{
    static const char other_form[] = "is the other form of a guardrail; keep `failed` and `total`, or `query`";
    static const struct range numbers = {.least = -HUGE_VAL, .most = HUGE_VAL};
    g->kind = GUARDRAIL_VALUE;
    g->query = read_promql(s, "query", NULL, canary_query_problem);
    section_get(s, "above", "write the number that is too much");
    g->above = section_number(s, "above", NAN, &numbers);
    g->for_ms = section_duration(s, "for", 0);
    section_refuse(s, "failed", other_form);
    section_refuse(s, "total", other_form);
}

/* The form is not known, so that nothing can be said about the keys. */
static void pass_forms(struct section *s)
{
    static const char *const keys[] = {"query", "failed", "total", "above", "for"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        section_get(s, keys[i], NULL);
    problem_add(s->reader->problems, s->mark,
                "a guardrail has neither `failed` and `total` nor `query`; write one form");
}

static void read_guardrail(struct reader *reader, const struct tree_node *node, struct policy *policy)
{
    struct policy_guardrail *g = &policy->guardrails[policy->guardrail_count];
    struct section s;
    if (!section_open(&s, reader, node, "a guardrail", node->mark))
        return;
    g->name = read_name(&s, "name it, like `name: error budget`");
    check_name(&s, policy, g->name);
    if (section_has(&s, "query"))
        read_value(&s, g);
    else if (section_has(&s, "failed") || section_has(&s, "total"))
        read_rate(&s, g);
    else
        pass_forms(&s);
    section_close(&s);
}

void read_guardrails(struct section *top, struct policy *policy)
{
    size_t count;
    struct tree_node **items = section_list(top, "guardrails", NULL, MOST_GUARDRAILS, &count);
    policy->guardrails = mem_alloc(count, sizeof *policy->guardrails);
    for (size_t i = 0; i < count; i++) {
        read_guardrail(top->reader, items[i], policy);
        policy->guardrail_count++;
    }
}
