/* The plan for a terminal and for programs. */
#include "analyzer/trials/plan.h"

#include "analyzer/model/format.h"
#include "analyzer/model/json.h"
#include "analyzer/model/verdict.h"
#include "analyzer/report/escape.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { COLUMNS = 80 };

/* --- text --- */

/* Right-aligned by columns, not bytes: "×" is two bytes and one column. */
static void put_cell(struct strbuf *out, size_t width, const char *text)
{
    size_t columns = text_columns(text);
    strbuf_printf(out, "%*s%s", columns < width ? (int)(width - columns) : 1, "", text);
}

static void put_requests(struct strbuf *out, size_t width, double requests)
{
    char text[FORMAT_TEXT];
    if (requests > 0 && requests < 9.95)
        snprintf(text, sizeof text, "%.1f", requests);
    else
        format_count((uint64_t)llround(requests), text);
    put_cell(out, width, text);
}

static void put_row(struct strbuf *out, const struct plan *plan, const struct plan_step *step)
{
    char text[FORMAT_TEXT];
    put_cell(out, 8, format_weight(step->weight_bp, text));
    put_requests(out, 10, step->canary_a_look);
    if (!step->compared) {
        put_cell(out, 12, "–");
        put_cell(out, 16, format_span(step->bake_ms, text));
        put_cell(out, 10, "–");
        put_cell(out, 9, "–");
        strbuf_puts(out, step->pause ? "  baked, then a person\n" : "  baked\n");
        return;
    }
    put_requests(out, 12, step->canary_until_max);
    char left[FORMAT_TEXT + 1];
    snprintf(left, sizeof left, "%s%s", step->left.ms < 0 ? "never" : format_span(step->left.ms, text),
             step->decides ? "" : "!");
    put_cell(out, 16, left);
    put_cell(out, 10, format_span(step->min_ms, text));
    put_cell(out, 9, format_span(step->max_ms, text));
    strbuf_printf(out, "  %s%s\n", step->slowest < 0 ? "min" : plan->metrics[step->slowest].name,
                  step->pause ? ", a person" : "");
}

static void put_steps(struct strbuf *out, const struct plan *plan)
{
    strbuf_puts(out, "\n    step    canary requests       left upward  earliest  longest  waits for\n"
                     "            a look   until max    after about     (min)    (max)\n");
    for (size_t s = 0; s < plan->step_count; s++)
        put_row(out, plan, &plan->steps[s]);
}

static void put_caught(struct strbuf *out, const struct plan_time *caught)
{
    char text[FORMAT_TEXT], cell[3 * FORMAT_TEXT], requests[FORMAT_TEXT];
    if (caught->ms < 0)
        snprintf(cell, sizeof cell, "never");
    else
        snprintf(cell, sizeof cell, "%s%s (%s)", format_span(caught->ms, text), caught->in_time ? "" : "!",
                 format_count((uint64_t)llround(caught->requests), requests));
    put_cell(out, 22, cell);
}

static void put_sizes(struct strbuf *out, const struct plan_metric *metric)
{
    for (int i = 0; i < PLAN_SIZES; i++) {
        char text[FORMAT_TEXT];
        if (metric->type == METRIC_ERRORS)
            snprintf(text, sizeof text, "%g× stable's", plan_times_as_often[i]);
        else
            snprintf(text, sizeof text, "%g %% slower", plan_slower[i] * 100);
        put_cell(out, 22, text);
    }
    strbuf_puts(out, "\n");
}

static void put_metric(struct strbuf *out, const struct plan *plan, const struct plan_metric *metric)
{
    char text[FORMAT_TEXT];
    strbuf_printf(out, "\n  %s", metric->name);
    if (metric->type == METRIC_ERRORS)
        strbuf_printf(out, ": stable fails %s of requests", format_share(metric->rate, text));
    else
        strbuf_printf(out, ": compared at %zu bucket boundaries", (size_t)metric->boundaries);
    strbuf_puts(out, metric->critical ? "\n" : "; not critical, so it never aborts\n");
    if (!metric->critical)
        return;
    put_cell(out, 8, "");
    put_sizes(out, metric);
    for (size_t s = 0; s < plan->step_count; s++) {
        if (!plan->steps[s].compared)
            continue;
        put_cell(out, 8, format_weight(plan->steps[s].weight_bp, text));
        for (int i = 0; i < PLAN_SIZES; i++)
            put_caught(out, &metric->steps[s].caught[i]);
        strbuf_puts(out, "\n");
    }
    put_cell(out, 8, "all");
    for (int i = 0; i < PLAN_SIZES; i++)
        put_caught(out, &metric->whole[i]);
    strbuf_puts(out, "\n");
}

static void put_legend(struct strbuf *out, const struct plan *plan)
{
    char settle[FORMAT_TEXT];
    char text[512];
    snprintf(text, sizeof text,
             "What a run is expected to take on average, in the data's time; a decision comes %s (settle) later. ! is "
             "beyond the step's max. all: harm from the first request on, each step lasting its max.",
             format_span(plan->settle_ms, settle));
    strbuf_puts(out, "\n  ");
    put_wrapped(out, text, 2, 2, COLUMNS);
}

char *plan_to_text(const struct plan *plan)
{
    struct strbuf out = {0};
    char rate[FORMAT_TEXT], look[FORMAT_TEXT];
    strbuf_printf(&out, "PLAN: %s at %s, looks of %s", plan->service, format_rate(plan->rps, rate),
                  format_span(plan->look_ms, look));
    if (plan->instances[TRACK_STABLE] && plan->instances[TRACK_CANARY])
        strbuf_printf(&out, ", %zu stable and %zu canary instances", plan->instances[TRACK_STABLE],
                      plan->instances[TRACK_CANARY]);
    strbuf_puts(&out, "\n");
    put_steps(&out, plan);
    strbuf_puts(&out, "\n  Harm that begins with a step is aborted after about (canary requests by then):\n");
    for (size_t m = 0; m < plan->metric_count; m++)
        if (plan->metrics[m].known)
            put_metric(&out, plan, &plan->metrics[m]);
    put_legend(&out, plan);
    for (size_t w = 0; w < plan->warning_count; w++) {
        strbuf_puts(&out, w == 0 ? "\n  ! " : "  ! ");
        put_wrapped(&out, plan->warnings[w], 4, 4, COLUMNS);
    }
    return strbuf_take(&out);
}

/* --- JSON --- */

static void add_span(cJSON *object, const char *name, int64_t ms)
{
    json_add_number(object, name, ms < 0 ? NAN : (double)ms / 1000);
}

static void add_time(cJSON *object, const char *name, const struct plan_time *time)
{
    cJSON *item = cJSON_AddObjectToObject(object, name);
    add_span(item, "after_s", time->ms);
    json_add_number(item, "canary_requests", time->requests);
    cJSON_AddBoolToObject(item, "in_time", time->in_time);
}

static void add_step(cJSON *steps, const struct plan *plan, const struct plan_step *step)
{
    cJSON *item = cJSON_CreateObject();
    cJSON_AddItemToArray(steps, item);
    json_add_number(item, "weight", step->weight_bp);
    cJSON_AddBoolToObject(item, "compared", step->compared);
    cJSON_AddBoolToObject(item, "pause", step->pause);
    add_span(item, "min_s", step->compared ? step->min_ms : -1);
    add_span(item, "max_s", step->compared ? step->max_ms : -1);
    add_span(item, "bake_s", step->compared ? -1 : step->bake_ms);
    json_add_number(item, "canary_requests_a_look", step->canary_a_look);
    json_add_number(item, "canary_requests_until_max", step->compared ? step->canary_until_max : NAN);
    add_time(item, "left", &step->left);
    if (step->slowest < 0)
        cJSON_AddNullToObject(item, "waits_for");
    else
        cJSON_AddStringToObject(item, "waits_for", plan->metrics[step->slowest].name);
    cJSON_AddBoolToObject(item, "decides", step->decides);
}

static void add_caught(cJSON *object, const char *name, enum metric_type type,
                       const struct plan_time caught[PLAN_SIZES])
{
    cJSON *list = cJSON_AddArrayToObject(object, name);
    for (int i = 0; i < PLAN_SIZES; i++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddItemToArray(list, item);
        json_add_number(item, "harm", type == METRIC_ERRORS ? plan_times_as_often[i] : 1 + plan_slower[i]);
        add_time(item, "caught", &caught[i]);
    }
}

static void add_metric(cJSON *metrics, const struct plan *plan, const struct plan_metric *metric)
{
    cJSON *item = cJSON_CreateObject();
    cJSON_AddItemToArray(metrics, item);
    cJSON_AddStringToObject(item, "name", metric->name);
    cJSON_AddStringToObject(item, "type", metric_type_names[metric->type]);
    cJSON_AddBoolToObject(item, "critical", metric->critical);
    cJSON_AddBoolToObject(item, "known", metric->known);
    json_add_number(item, "rate", metric->rate);
    cJSON *steps = cJSON_AddArrayToObject(item, "steps");
    for (size_t s = 0; s < plan->step_count && metric->known; s++) {
        if (!plan->steps[s].compared)
            continue;
        cJSON *step = cJSON_CreateObject();
        cJSON_AddItemToArray(steps, step);
        json_add_number(step, "weight", plan->steps[s].weight_bp);
        add_time(step, "proven", &metric->steps[s].proven);
        add_caught(step, "harm", metric->type, metric->steps[s].caught);
    }
    add_caught(item, "whole", metric->type, metric->whole);
}

char *plan_to_json(const struct plan *plan)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "schema", "haldane.plan/1");
    cJSON_AddStringToObject(root, "service", plan->service);
    add_span(root, "look_s", plan->look_ms);
    add_span(root, "settle_s", plan->settle_ms);
    json_add_number(root, "requests_per_s", plan->rps);
    json_add_number(root, "stable_instances", (double)plan->instances[TRACK_STABLE]);
    json_add_number(root, "canary_instances", (double)plan->instances[TRACK_CANARY]);
    cJSON_AddBoolToObject(root, "decides", plan_decides(plan));
    cJSON *steps = cJSON_AddArrayToObject(root, "steps");
    for (size_t s = 0; s < plan->step_count; s++)
        add_step(steps, plan, &plan->steps[s]);
    cJSON *metrics = cJSON_AddArrayToObject(root, "metrics");
    for (size_t m = 0; m < plan->metric_count; m++)
        add_metric(metrics, plan, &plan->metrics[m]);
    cJSON *warnings = cJSON_AddArrayToObject(root, "warnings");
    for (size_t w = 0; w < plan->warning_count; w++)
        cJSON_AddItemToArray(warnings, cJSON_CreateString(plan->warnings[w]));
    return json_print(root);
}
