/*
 * A rollout as it goes on. On a terminal a few lines are drawn over and over; elsewhere one line a change is logged, so
 * that a log tells the story and no more.
 */
#include "analyzer/cli/cli.h"

#include "analyzer/model/format.h"
#include "base/duration.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BAR = 20, REASON = 96 };

struct live {
    bool terminal, color, json;
    size_t drawn; /* lines to go back over */
    enum rollout_state state;
    uint32_t weight_bp;
    char *trouble;
    bool started;
};

struct live *live_new(const struct options *options)
{
    struct live *live = mem_alloc(1, sizeof *live);
    const char *plain = getenv("NO_COLOR"), *term = getenv("TERM");
    live->terminal = isatty(STDERR_FILENO) && !options->log_json && term && strcmp(term, "dumb") != 0;
    live->color =
        options->color == COLOR_ALWAYS || (options->color == COLOR_AUTO && live->terminal && !(plain && *plain));
    live->json = options->log_json;
    return live;
}

void live_free(struct live *live)
{
    free(live->trouble);
    free(live);
}

static const char *paint(const struct live *live, const char *code)
{
    return live->color ? code : "";
}

#define RED "\033[31m"
#define GREEN "\033[32m"
#define BLUE "\033[34m"
#define BOLD "\033[1m"
#define DIM "\033[2m"
#define PLAIN "\033[0m"

static void add_line(struct strbuf *out, size_t *lines)
{
    strbuf_puts(out, "\033[K\n");
    (*lines)++;
}

/* A bar that is full when the evidence decides. */
static void add_bar(const struct live *live, struct strbuf *out, double value, double needed, const char *color)
{
    double part = isnan(value) || !(needed > 0) ? 0 : fmax(0, fmin(1, value / needed));
    int full = (int)floor(part * BAR + 1e-9);
    strbuf_puts(out, paint(live, color));
    for (int i = 0; i < BAR; i++)
        strbuf_puts(out, i < full ? "█" : "░");
    strbuf_printf(out, "%s %3.0f %%", paint(live, PLAIN), floor(100 * part));
}

/* A sentence, cut at a width with whole characters. */
static void add_sentence(struct strbuf *out, const char *text)
{
    size_t width = 0, bytes = 0;
    for (; text[bytes] && width <= REASON; bytes++)
        width += ((unsigned char)text[bytes] & 0xc0) != 0x80;
    bool cut = text[bytes] != '\0';
    strbuf_add(out, text, cut ? bytes - 1 : bytes);
    strbuf_puts(out, cut ? "…" : "");
}

/* A gauge: nothing is proven about it, and in Kayenta's way of comparing there is not even a bet. */
static void add_gauge(const struct live *live, struct strbuf *out, const struct metric_verdict *metric, size_t *lines)
{
    char medians[TRACKS][FORMAT_TEXT];
    for (int t = 0; t < TRACKS; t++)
        format_number(metric->arms[t].present ? metric->arms[t].median : NAN, medians[t]);
    strbuf_printf(out, "  %-10.10s ", metric->name);
    if (metric_bets_on_harm(metric)) {
        strbuf_puts(out, "harm ");
        add_bar(live, out, metric->evidence.harm, metric->evidence.harm_needed, RED);
    } else {
        strbuf_printf(out, "by Kayenta: %s", metric->classification ? metric->classification : "not yet");
    }
    strbuf_printf(out, "   median %s, stable %s", medians[TRACK_CANARY], medians[TRACK_STABLE]);
    add_line(out, lines);
}

/* Guardrails speak up only when there is something to say. */
static void add_guardrails(const struct live *live, struct strbuf *out, const struct verdict *verdict, size_t *lines)
{
    for (size_t g = 0; g < verdict->guardrail_count; g++) {
        const struct guardrail_verdict *guardrail = &verdict->guardrails[g];
        if (guardrail->status == GUARDRAIL_OK)
            continue;
        bool fires = guardrail->status == GUARDRAIL_FIRING;
        char *text = mem_printf("guardrail %s %s: %s", guardrail->name, fires ? "FIRES" : "has no data",
                                guardrail->reason ? guardrail->reason : "");
        strbuf_printf(out, "  %s", paint(live, fires ? RED : DIM));
        add_sentence(out, text);
        strbuf_puts(out, paint(live, PLAIN));
        free(text);
        add_line(out, lines);
    }
}

static void add_metric(const struct live *live, struct strbuf *out, const struct metric_verdict *metric, size_t *lines)
{
    if (metric->type == METRIC_GAUGE) {
        add_gauge(live, out, metric, lines);
        return;
    }
    char ratio[FORMAT_TEXT], interval[FORMAT_TEXT];
    strbuf_printf(out, "  %-10.10s harm ", metric->name);
    add_bar(live, out, metric->evidence.harm, metric->evidence.harm_needed, RED);
    strbuf_puts(out, "   safe ");
    add_bar(live, out, metric->evidence.safe, metric->evidence.safe_needed, GREEN);
    strbuf_printf(out, "   %s (%s)", format_ratio(metric->effect.estimate, ratio),
                  format_interval(metric->effect.lower, metric->effect.upper, interval));
    add_line(out, lines);
}

static void add_steps(const struct live *live, struct strbuf *out, const struct engine *engine)
{
    const struct policy *policy = engine_policy(engine);
    const struct rollout *rollout = engine_rollout(engine);
    char weight[FORMAT_TEXT];
    for (size_t s = 0; s < policy->step_count; s++) {
        bool here = s == rollout->step && !rollout_ended(rollout);
        strbuf_printf(out, "%s%s%s%s", s ? " > " : "", paint(live, here ? BOLD : DIM),
                      format_weight(policy->steps[s].weight_bp, weight), paint(live, PLAIN));
        if (here)
            strbuf_puts(out, " <");
    }
}

static void add_counts(struct strbuf *out, const struct engine *engine, const struct verdict *verdict)
{
    const struct policy *policy = engine_policy(engine);
    const struct rollout *rollout = engine_rollout(engine);
    char stable[FORMAT_TEXT], canary[FORMAT_TEXT], left[FORMAT_TEXT];
    const struct policy_step *step = &policy->steps[rollout->step];
    int64_t limit_ms = step->weight_bp <= BASIS_POINTS / 2 ? step->max_ms : step->bake_ms;
    int64_t left_ms = limit_ms - (wall_clock_ms() - rollout->step_since_ms);
    uint64_t seen[TRACKS] = {0, 0};
    for (size_t m = 0; verdict && m < verdict->metric_count && seen[TRACK_STABLE] + seen[TRACK_CANARY] == 0; m++)
        for (int t = 0; t < TRACKS; t++)
            seen[t] = verdict->metrics[m].arms[t].requests;
    strbuf_printf(out, "look %-4llu requests seen: stable %s, canary %s",
                  (unsigned long long)(verdict ? verdict->look : 0), format_count(seen[TRACK_STABLE], stable),
                  format_count(seen[TRACK_CANARY], canary));
    if (!rollout_ended(rollout))
        strbuf_printf(out, "   this step: at most %s more", format_span(left_ms > 0 ? left_ms : 0, left));
}

static void draw(struct live *live, const struct engine *engine, const struct error *trouble)
{
    const struct rollout *rollout = engine_rollout(engine);
    const struct verdict *verdict = engine_verdict(engine);
    struct strbuf out = {0};
    char weight[FORMAT_TEXT];
    size_t lines = 0;
    if (live->drawn)
        strbuf_printf(&out, "\033[%zuA\r", live->drawn);
    strbuf_printf(&out, "%s%s%s  %s%s at %s%s   ", paint(live, BOLD), rollout->id, paint(live, PLAIN),
                  paint(live, BLUE), rollout_state_names[rollout->state], format_weight(rollout->weight_bp, weight),
                  paint(live, PLAIN));
    add_steps(live, &out, engine);
    add_line(&out, &lines);
    strbuf_puts(&out, "  ");
    add_counts(&out, engine, verdict);
    add_line(&out, &lines);
    for (size_t m = 0; verdict && m < verdict->metric_count; m++)
        add_metric(live, &out, &verdict->metrics[m], &lines);
    if (verdict)
        add_guardrails(live, &out, verdict, &lines);
    strbuf_puts(&out, "  ");
    add_sentence(&out, trouble && trouble->code ? trouble->text
                       : rollout_ended(rollout) ? rollout->reason
                       : verdict                ? verdict->reason
                                                : "waiting for the first look");
    add_line(&out, &lines);
    strbuf_puts(&out, "\033[J");
    live->drawn = lines;
    fwrite(out.text, 1, out.length, stderr);
    strbuf_free(&out);
}

static void log_line(const struct live *live, const struct rollout *rollout, const char *event, const char *text)
{
    char time[TIME_TEXT], weight[FORMAT_TEXT];
    time_format(wall_clock_ms(), time);
    if (!live->json) {
        fprintf(stderr, "%s %s %s at %s: %s\n", time, rollout->id, event, format_weight(rollout->weight_bp, weight),
                text);
        return;
    }
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "time", time);
    cJSON_AddStringToObject(object, "rollout", rollout->id);
    cJSON_AddStringToObject(object, "event", event);
    cJSON_AddNumberToObject(object, "weight", rollout->weight_bp);
    cJSON_AddStringToObject(object, "text", text);
    char *line = cJSON_PrintUnformatted(object);
    fprintf(stderr, "%s\n", line);
    cJSON_free(line);
    cJSON_Delete(object);
}

/* The same trouble tells of other times and ranges at every look. */
static bool is_new_trouble(const char *text, const char *before)
{
    static const char digits[] = "0123456789";
    for (;;) {
        text += strspn(text, digits);
        before += strspn(before, digits);
        if (*text != *before)
            return true;
        if (!*text)
            return false;
        text++;
        before++;
    }
}

static void log_changes(struct live *live, const struct engine *engine, const struct error *trouble)
{
    const struct rollout *rollout = engine_rollout(engine);
    const char *text = trouble && trouble->code ? trouble->text : "";
    if (!live->started || rollout->state != live->state || rollout->weight_bp != live->weight_bp)
        log_line(live, rollout, rollout_state_names[rollout->state], rollout->reason ? rollout->reason : "");
    if (*text && is_new_trouble(text, live->trouble ? live->trouble : ""))
        log_line(live, rollout, "trouble", text);
    free(live->trouble);
    live->trouble = mem_strdup(text);
    live->started = true;
    live->state = rollout->state;
    live->weight_bp = rollout->weight_bp;
}

void live_update(struct live *live, const struct engine *engine, const struct error *trouble)
{
    if (live->terminal)
        draw(live, engine, trouble);
    else
        log_changes(live, engine, trouble);
}
