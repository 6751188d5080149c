/* Two tables, because a reader asks two questions: is a good canary left alone, and how soon is a bad one caught? */
#include "analyzer/report/escape.h"
#include "analyzer/report/simulation.h"
#include "analyzer/report/story.h"
#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 100, NAME = 16 };

const char *simulation_share_text(uint64_t count, uint64_t runs, char text[FORMAT_TEXT])
{
    double low, high;
    simulation_interval(count, runs, &low, &high);
    if (runs == 0)
        snprintf(text, FORMAT_TEXT, "–");
    else if (count == 0)
        snprintf(text, FORMAT_TEXT, "0 %% (< %.2g)", high * 100);
    else if (count == runs)
        snprintf(text, FORMAT_TEXT, "100 %% (> %.3g)", low * 100);
    else
        snprintf(text, FORMAT_TEXT, "%s ±%.2g", format_share(simulation_share(count, runs), TEXT),
                 simulation_error(count, runs) * 100);
    return text;
}

bool simulation_same_traffic(const struct simulation *simulation)
{
    for (size_t i = 1; i < simulation->count; i++)
        if (simulation->results[i].rps != simulation->results[0].rps ||
            simulation->results[i].error_rate != simulation->results[0].error_rate)
            return false;
    return simulation->count > 0;
}

const char *simulation_traffic_text(const struct simulation_result *result, char text[FORMAT_TEXT])
{
    char rate[FORMAT_TEXT], share[FORMAT_TEXT];
    snprintf(text, FORMAT_TEXT, "%.20s, %.12s of them fail on stable", format_rate(result->rps, rate),
             format_share(result->error_rate, share));
    return text;
}

static const char *time_text(double ms, char text[FORMAT_TEXT])
{
    return isfinite(ms) ? format_span((int64_t)llround(ms), text) : strcpy(text, "–");
}

const char *simulation_times_text(const struct simulation_spread *spread, char text[FORMAT_TEXT])
{
    char median[FORMAT_TEXT], p90[FORMAT_TEXT];
    if (!isfinite(spread->median))
        return strcpy(text, "–");
    snprintf(text, FORMAT_TEXT, "%.28s / %.28s", time_text(spread->median, median), time_text(spread->p90, p90));
    return text;
}

char *simulation_summary(const struct simulation *simulation, enum simulation_finding *finding)
{
    const struct simulation_result *worst = simulation_worst(simulation);
    *finding = SIMULATION_UNSURE;
    if (!worst)
        return mem_strdup("No scenario had a healthy canary, so nothing is said about false aborts.");
    double low, high;
    uint64_t aborted = simulation_aborted(worst);
    simulation_interval(aborted, worst->runs, &low, &high);
    *finding = low > simulation->false_abort_limit    ? SIMULATION_BROKEN
               : high > simulation->false_abort_limit ? SIMULATION_UNSURE
                                                      : SIMULATION_KEPT;
    char count[FORMAT_TEXT], runs[FORMAT_TEXT], limit[FORMAT_TEXT];
    format_count(aborted, count);
    format_count(worst->runs, runs);
    format_share(simulation->false_abort_limit, limit);
    static const char *const shown_of[] = {[SIMULATION_KEPT] = "",
                                           [SIMULATION_BROKEN] = ", and this noise breaks its promise",
                                           [SIMULATION_UNSURE] = "; these runs cannot tell whether that is kept"};
    const char *shown = shown_of[*finding];
    if (aborted == 0)
        return mem_printf("No healthy canary was aborted (below %s at 95 %%); the policy allows %s%s.",
                          format_share(high, TEXT), limit, shown);
    return mem_printf("A healthy canary was aborted in %s of %s runs at most (%s); the policy allows %s%s.", count,
                      runs, worst->scenario, limit, shown);
}

static void put_cell(struct strbuf *out, const char *text, size_t width)
{
    size_t columns = text_columns(text);
    strbuf_printf(out, "%*s%s", columns < width ? (int)(width - columns) : 1, "", text);
}

/* Widths of the columns after the name: two shares with their errors, two without, times, two counts. */
enum { SHARE = 15, BARE = 10, TIMES = 17, COUNT = 10 };

static void put_titles(struct strbuf *out, bool healthy)
{
    strbuf_printf(out, "%-*s", NAME, healthy ? "HEALTHY CANARY" : "BAD CANARY");
    put_cell(out, healthy ? "aborted" : "caught", SHARE);
    put_cell(out, "promoted", SHARE);
    put_cell(out, "undecided", BARE);
    put_cell(out, "held", BARE);
    put_cell(out, healthy ? "promoted after" : "caught after", TIMES);
    if (!healthy) {
        put_cell(out, "requests", COUNT);
        put_cell(out, "harmed", COUNT - 3);
    }
    strbuf_puts(out, "\n");
}

static void put_count(struct strbuf *out, double count, size_t width)
{
    put_cell(out, isfinite(count) ? format_count((uint64_t)llround(count), TEXT) : "–", width);
}

static void put_result(struct strbuf *out, const struct simulation_result *r)
{
    bool healthy = r->fault == FAULT_NONE;
    strbuf_printf(out, "  %-*s", NAME - 2, r->scenario);
    put_cell(out, simulation_share_text(simulation_aborted(r), r->runs, TEXT), SHARE);
    put_cell(out, simulation_share_text(r->promoted, r->runs, TEXT), SHARE);
    put_cell(out, format_share(simulation_share(r->undecided, r->runs), TEXT), BARE);
    put_cell(out, format_share(simulation_share(r->held, r->runs), TEXT), BARE);
    put_cell(out, simulation_times_text(healthy ? &r->to_promote_ms : &r->to_abort_ms, TEXT), TIMES);
    if (!healthy) {
        put_count(out, r->canary_requests.median, COUNT);
        put_count(out, r->harmed.median, COUNT - 3);
    }
    strbuf_puts(out, "\n");
}

static void put_table(struct strbuf *out, const struct simulation *simulation, bool healthy)
{
    bool any = false;
    for (size_t i = 0; i < simulation->count; i++) {
        const struct simulation_result *result = &simulation->results[i];
        if ((result->fault == FAULT_NONE) != healthy)
            continue;
        if (!any)
            put_titles(out, healthy);
        any = true;
        put_result(out, result);
    }
    if (any)
        strbuf_puts(out, "\n");
}

static void put_scenario(struct strbuf *out, const struct simulation_result *r, bool with_traffic)
{
    struct strbuf words = {0};
    strbuf_puts(&words, r->summary);
    if (with_traffic)
        strbuf_printf(&words, "; %s", simulation_traffic_text(r, TEXT));
    if (r->step_ms)
        strbuf_printf(&words, "; each step lasts %s, whatever is found", format_span(r->step_ms, TEXT));
    char *text = strbuf_take(&words);
    strbuf_printf(out, "  %-*s", NAME - 2, r->scenario);
    put_wrapped(out, text, NAME, NAME, COLUMNS);
    free(text);
}

char *simulation_text(const struct simulation *simulation)
{
    struct strbuf out = {0};
    enum simulation_finding finding;
    char *summary = simulation_summary(simulation, &finding);
    strbuf_puts(&out, "Simulated rollouts of ");
    put_plain(&out, simulation->service);
    strbuf_printf(&out, ": %s of each scenario, seed %llu, looks of %s\n", format_count(simulation->runs, TEXT),
                  (unsigned long long)simulation->seed, format_span(simulation->look_ms, TEXT));
    bool same = simulation_same_traffic(simulation);
    if (same)
        strbuf_printf(&out, "Requests: %s\n", simulation_traffic_text(&simulation->results[0], TEXT));
    strbuf_puts(&out, "\n");
    put_wrapped(&out, summary, 0, 0, COLUMNS);
    strbuf_puts(&out, "\n");
    put_table(&out, simulation, true);
    put_table(&out, simulation, false);
    for (size_t i = 0; i < simulation->count; i++)
        put_scenario(&out, &simulation->results[i], !same);
    strbuf_puts(&out, "\n");
    put_wrapped(&out,
                "Times are the median and 90 % of all runs, from the first traffic to promotion or from the fault's "
                "onset to the abort; – where fewer came to that. Requests: what the canary had until the abort, "
                "median; harmed: of these, failed and would not have on stable. ±: standard error of the simulation, "
                "in percentage points; (<, >): 95 % bound. A live rollout sees each look the policy's `settle` later.",
                0, 0, COLUMNS);
    free(summary);
    return strbuf_take(&out);
}
