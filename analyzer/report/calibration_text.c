/* First the answer, then what it rests on, then the grid that it was chosen from. */
#include "analyzer/report/calibration.h"

#include "analyzer/model/format.h"
#include "analyzer/report/escape.h"
#include "analyzer/report/story.h"
#include "base/memory.h"
#include "stats/exact.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { COLUMNS = 100, NAME = 24, CELL = 17 };

static void put_cell(struct strbuf *out, const char *text, size_t width)
{
    size_t columns = text_columns(text);
    strbuf_printf(out, "%*s%s", columns < width ? (int)(width - columns) : 1, "", text);
}

static void put_sentence(struct strbuf *out, char *text)
{
    put_wrapped(out, text, 0, 0, COLUMNS);
    free(text);
}

/* "4.1 % ±0.9". */
static const char *rate_text(const struct calibration_rate *rate, char text[FORMAT_TEXT])
{
    if (rate->harm == 0)
        return format_share(0, text);
    snprintf(text, FORMAT_TEXT, "%s ±%.2g", format_share(calibration_share(rate), TEXT), rate->error * 100);
    return text;
}

static const char *margin_text(const struct calibration_metric *metric, size_t margin, char text[FORMAT_TEXT])
{
    if (metric->type == METRIC_LATENCY)
        return format_share(metric->margins[margin], text);
    return format_limit(metric->margins[margin], text);
}

/* --- the answer --- */

/* None in so few windows tells little: the bound of that, each window taken for one draw. */
static char *none_text(const struct calibration *c)
{
    double low, high;
    clopper_pearson(0, c->looks[0].windows, 0.05, &low, &high);
    return mem_printf("No rollout was aborted; the policy allows %s. The history holds %s rollout%s without an "
                      "overlap: that alone shows that the rate is below %s (95 %%).",
                      format_share(c->false_abort_limit, TEXT), format_count(c->looks[0].windows, TEXT),
                      c->looks[0].windows == 1 ? "" : "s", format_share(high, TEXT));
}

static char *answer_text(const struct calibration *c)
{
    if (c->policy.harm == 0)
        return none_text(c);
    return mem_printf(
        "Of %s rollouts in which nothing was wrong, %s were aborted: %s. With two standard errors %s; the "
        "policy allows %s%s",
        format_count(c->policy.draws, TEXT), format_count(c->policy.harm, TEXT), rate_text(&c->policy, TEXT),
        format_share(calibration_upper(&c->policy), TEXT), format_share(c->false_abort_limit, TEXT),
        calibration_policy_keeps(c) ? ", and keeps it." : ": it does not keep its promise here.");
}

static void put_recommendation(struct strbuf *out, const struct calibration *c)
{
    if (calibration_policy_keeps(c))
        return;
    if (!c->found) {
        put_wrapped(out,
                    "No look and margins of the grid keep it. The instances differ from one another for longer and by "
                    "more than that: look for the reason, or do not let these metrics abort.",
                    0, 0, COLUMNS);
        return;
    }
    strbuf_printf(out, "The smallest look and margins that keep it:\n  look: %s\n",
                  format_span(c->looks[c->look].look_ms, TEXT));
    for (size_t m = 0; m < c->metric_count; m++) {
        strbuf_puts(out, "  ");
        put_plain(out, c->metrics[m].name);
        bool latency = c->metrics[m].type == METRIC_LATENCY;
        double margin = c->metrics[m].margins[c->margins[m]];
        strbuf_printf(out, latency ? ": abort_above: {slower: %g%%}\n" : ": abort_above: {ratio: %g}\n",
                      latency ? margin * 100 : margin);
    }
    put_sentence(
        out, mem_printf("Together: %s of %s more draws from the same history. What is within abort_above is no harm: "
                        "promote_below must stay wider than it.",
                        rate_text(&c->joint, TEXT), format_count(c->joint.draws, TEXT)));
}

/* --- what it rests on --- */

static void put_basis(struct strbuf *out, const struct calibration *c)
{
    const struct calibration_look *look = &c->looks[0];
    strbuf_puts(out, "A/A replay of ");
    put_plain(out, c->service);
    strbuf_printf(out, ", seed %llu\n", (unsigned long long)c->seed);
    put_sentence(out,
                 mem_printf("History: %s to %s, %s looks of %s; %s instances of stable, of which %s play%s the "
                            "canary.",
                            format_time(c->from_ms, TEXT), format_time(c->to_ms, TEXT), format_count(look->looks, TEXT),
                            format_span(look->look_ms, TEXT), format_count(c->instances, TEXT),
                            format_count(c->canaries, TEXT), c->canaries == 1 ? "s" : ""));
    put_sentence(out,
                 mem_printf("Each rollout takes %s of it, after %s looks that fix the margins; it holds %s without "
                            "an overlap.%s",
                            format_span(c->rollout_ms, TEXT), format_count(c->history_looks, TEXT),
                            format_count(look->windows, TEXT),
                            look->all ? " These are all rollouts that differ in their instances or beginning." : ""));
}

static void put_policy(struct strbuf *out, const struct calibration *c)
{
    double draws = (double)c->policy.draws;
    put_sentence(out, mem_printf("Held for suspected harm: %s; a step was over without its proof: %s; aborted by what "
                                 "stands beside false_abort (crash, Kayenta): %s.",
                                 format_share((double)c->policy.held / draws, TEXT),
                                 format_share((double)c->policy.undecided / draws, TEXT),
                                 format_share((double)c->policy.beside / draws, TEXT)));
}

/* --- the grid --- */

static void put_metric(struct strbuf *out, const struct calibration *c, const struct calibration_metric *metric)
{
    char name[FORMAT_TEXT], *title = mem_printf("%s (%s)", metric->name, format_share(metric->limit, name));
    put_plain(out, title);
    size_t used = text_columns(title);
    free(title);
    for (size_t m = 0; m < metric->margin_count; m++) {
        put_cell(out, margin_text(metric, m, TEXT), (m == 0 && used < NAME ? NAME - used : 0) + CELL);
        used = NAME;
    }
    strbuf_puts(out, "\n");
    for (size_t l = 0; l < c->look_count; l++) {
        strbuf_printf(out, "  %-*s", NAME - 2, format_span(c->looks[l].look_ms, TEXT));
        for (size_t m = 0; m < metric->margin_count; m++) {
            const struct calibration_rate *rate = &metric->rates[l * metric->margin_count + m];
            char *text =
                mem_printf("%s%s", rate_text(rate, TEXT), calibration_keeps(rate, metric->limit) ? " *" : "  ");
            put_cell(out, text, CELL);
            free(text);
        }
        strbuf_puts(out, "\n");
    }
    strbuf_puts(out, "\n");
}

char *calibration_text(const struct calibration *c)
{
    struct strbuf out = {0};
    put_sentence(&out, answer_text(c));
    put_recommendation(&out, c);
    strbuf_puts(&out, "\n");
    put_basis(&out, c);
    put_policy(&out, c);
    for (size_t w = 0; w < c->warning_count; w++)
        put_sentence(&out, mem_printf("Warning: %s.", c->warnings[w]));
    strbuf_puts(&out, "\nFalse aborts of each metric alone, by look and abort_above; in brackets its part of "
                      "false_abort\n\n");
    for (size_t m = 0; m < c->metric_count; m++)
        put_metric(&out, c, &c->metrics[m]);
    put_wrapped(&out,
                "*: keeps within its part, two standard errors included. ±: standard error in percentage points. Draws "
                "that overlap in time are not independent; the error is that of the windows which they fall into. The "
                "history is of stable alone: a canary whose release is worse is not in it.",
                0, 0, COLUMNS);
    return strbuf_take(&out);
}
