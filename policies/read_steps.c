/*
 * The list `steps`. A step of at most half of the traffic is compared with stable and has `min` and `max`; a larger one
 * leaves too little stable traffic to compare with (statistics: the canary must not have more traffic than stable), so
 * it is only baked.
 */
#include "policies/read.h"

#include "base/duration.h"
#include "base/memory.h"
#include "policies/values.h"

#include <stdlib.h>

enum { MOST_STEPS = 50, COMPARED_BP = BASIS_POINTS / 2 };

static const int64_t first_min_ms = 2 * 60000, later_min_ms = 5 * 60000, max_ms = 30 * 60000, bake_ms = 10 * 60000;

/* 0 if the weight is wrong; the problem is reported. */
static uint32_t read_weight(struct reader *reader, const struct tree_node *node)
{
    char *text = text_of(reader, node, "weight");
    uint32_t weight_bp = 0;
    const char *wrong = text ? value_weight(text, &weight_bp) : NULL;
    if (wrong)
        problem_add(reader->problems, node->mark, "`weight` is `%s`, %s", shown(text).text, wrong);
    free(text);
    return weight_bp;
}

static void read_compared(struct section *s, struct policy_step *step, bool first)
{
    step->min_ms = section_duration(s, "min", first ? first_min_ms : later_min_ms);
    step->max_ms = section_duration(s, "max", max_ms);
    section_refuse(s, "bake", "is for steps above 50%, which cannot be compared; write `min` and `max` here");
    if (step->min_ms < 0 || step->max_ms < 0 || (step->max_ms > 0 && step->max_ms >= step->min_ms))
        return;
    char min[DURATION_TEXT], max[DURATION_TEXT];
    problem_add(s->reader->problems, section_mark(s, section_has(s, "max") ? "max" : "min"),
                "`max` (%s) must be above 0s and at least `min` (%s); write a longer `max` or a shorter `min`",
                duration_format(step->max_ms, max), duration_format(step->min_ms, min));
}

static void read_baked(struct section *s, struct policy_step *step)
{
    static const char why[] = "is for steps of at most 50%, which are compared; write `bake` here";
    step->bake_ms = section_duration(s, "bake", bake_ms);
    section_refuse(s, "min", why);
    section_refuse(s, "max", why);
}

/* What a step is when only its weight is known. */
static struct policy_step step_of(uint32_t weight_bp, bool first)
{
    struct policy_step step = {.weight_bp = weight_bp};
    if (weight_bp > COMPARED_BP) {
        step.bake_ms = bake_ms;
    } else {
        step.min_ms = first ? first_min_ms : later_min_ms;
        step.max_ms = max_ms;
    }
    return step;
}

static struct policy_step read_step(struct reader *reader, const struct tree_node *node, bool first)
{
    if (node->kind == TREE_TEXT)
        return step_of(read_weight(reader, node), first);
    struct policy_step step = {0};
    struct section s;
    if (!section_open(&s, reader, node, "a step", node->mark))
        return step;
    const struct tree_node *weight = section_get(&s, "weight", "write the canary's share of traffic, like 5%");
    step.weight_bp = weight ? read_weight(reader, weight) : 0;
    step.pause = section_bool(&s, "pause", false);
    if (step.weight_bp == 0) {
        /* Which of them apply is not known without the weight. */
        section_get(&s, "min", NULL);
        section_get(&s, "max", NULL);
        section_get(&s, "bake", NULL);
        step.min_ms = -1;
    } else if (step.weight_bp > COMPARED_BP) {
        read_baked(&s, &step);
    } else {
        read_compared(&s, &step, first);
    }
    section_close(&s);
    return step;
}

static void use_default_steps(struct policy *policy)
{
    static const uint32_t weights[] = {500, 1000, 2500, 5000, 10000};
    policy->step_count = sizeof weights / sizeof weights[0];
    policy->steps = mem_alloc(policy->step_count, sizeof *policy->steps);
    for (size_t i = 0; i < policy->step_count; i++)
        policy->steps[i] = step_of(weights[i], i == 0);
}

static void check_weights(struct reader *reader, struct tree_node *const *items, const struct policy *policy)
{
    uint32_t highest = 0;
    for (size_t i = 0; i < policy->step_count; i++) {
        uint32_t weight = policy->steps[i].weight_bp;
        if (weight == 0)
            continue;
        if (weight <= highest)
            problem_add(reader->problems, items[i]->mark,
                        "this step's weight (%g%%) is not above the one before (%g%%); weights rise from step to step",
                        weight / 100.0, highest / 100.0);
        highest = weight;
    }
    const struct policy_step *first = &policy->steps[0];
    if (first->weight_bp > COMPARED_BP)
        problem_add(
            reader->problems, items[0]->mark,
            "no step is at most 50%%, so the canary would never be compared with stable; begin with a step like 5%%");
}

void read_steps(struct section *top, struct policy *policy)
{
    if (!section_get(top, "steps", NULL)) {
        use_default_steps(policy);
        return;
    }
    size_t count;
    struct tree_node **items = section_list(top, "steps", NULL, MOST_STEPS, &count);
    if (!items)
        return;
    policy->steps = mem_alloc(count, sizeof *policy->steps);
    policy->step_count = count;
    for (size_t i = 0; i < count; i++)
        policy->steps[i] = read_step(top->reader, items[i], i == 0);
    check_weights(top->reader, items, policy);
}
