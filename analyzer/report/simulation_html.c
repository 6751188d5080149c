/*
 * Three questions, three kinds of pictures: is a healthy canary left alone (shares with their intervals, against the
 * limit of the policy), is a bad one caught (power against the size of the fault), and how long does either take
 * (median to 90 %). The tables below say the same in numbers; nothing is said by colour alone.
 */
#include "analyzer/report/chart.h"
#include "analyzer/report/escape.h"
#include "analyzer/report/page.h"
#include "analyzer/report/simulation.h"
#include "analyzer/report/story.h"
#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHART_ROWS = 12, CURVES = 4, CURVE_POINTS = 16 };

static const char own_style[] = ".dot.harm{fill:var(--harm)}\n"
                                ".dot.safe{fill:var(--safe)}\n"
                                "svg .row-name{font-size:9.5px;fill:var(--ink)}\n"
                                "td small,th small{display:block;color:var(--soft);font-weight:400}\n";

struct canvas {
    struct strbuf *out;
    const struct simulation *simulation;
    size_t drawn; /* numbers the pictures */
};

static void figure_open(struct canvas *canvas, const char *title, const char *keys)
{
    strbuf_puts(canvas->out, "<figure>\n<figcaption><b>");
    put_html(canvas->out, title);
    strbuf_printf(canvas->out, "</b>%s</figcaption>\n", keys);
}

static void figure_close(struct canvas *canvas)
{
    strbuf_puts(canvas->out, "</figure>\n");
}

/* --- rows: one scenario each, a point and how far it may be off --- */

struct row {
    const char *name, *class;
    double low, at, high; /* at NAN: no point */
    char words[2 * FORMAT_TEXT];
};

static void put_row(struct chart *chart, const struct row *row, double y)
{
    double x = chart_x(chart, chart->x.high) + 5;
    strbuf_printf(chart->out, "<text x=\"%.1f\" y=\"%.1f\" class=\"row-name\">", x, chart_y(chart, y) + 3.2);
    put_html(chart->out, row->name);
    strbuf_puts(chart->out, "</text>\n");
    if (isnan(row->at)) {
        strbuf_printf(chart->out, "<text x=\"%.1f\" y=\"%.1f\" class=\"small\">in fewer than half</text>\n",
                      chart_x(chart, chart->x.low) + 4, chart_y(chart, y) + 3);
        return;
    }
    chart_line(chart, (double[]){row->low, row->high}, (double[]){y, y}, 2, JOIN_STRAIGHT, row->class);
    chart_dot(chart, row->at, y, row->class, row->words);
}

static char *describe(const struct row *rows, size_t count)
{
    struct strbuf words = {0};
    for (size_t i = 0; i < count; i++)
        strbuf_printf(&words, "%s%s: %s", i ? "; " : "", rows[i].name, rows[i].words);
    return strbuf_take(&words);
}

/* Draws the rows into a chart whose x axis is set up and whose y axis is this. */
static void put_rows(struct chart *chart, const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put_row(chart, &rows[i], (double)(count - i) - 0.5);
}

/* --- false aborts --- */

static void put_limit(struct chart *chart, double limit)
{
    double x = chart_x(chart, limit);
    strbuf_printf(chart->out, "<path d=\"M%.1f %.1fV%.1f\" class=\"rule harm\"/>\n", x, chart->y.to, chart->y.from);
    strbuf_printf(chart->out, "<text x=\"%.1f\" y=\"%.1f\" class=\"mid\">limit %s</text>\n", x, chart->y.to - 5,
                  format_share(limit, TEXT));
}

static void draw_false_aborts(struct canvas *canvas, const struct row *rows, size_t count)
{
    double limit = canvas->simulation->false_abort_limit, most = limit, ticks[FORMAT_TICKS];
    for (size_t i = 0; i < count; i++)
        most = fmax(most, rows[i].high);
    const char *title = "Healthy canaries that were aborted";
    char *words = describe(rows, count);
    figure_open(canvas, title, " <span class=\"key canary\">share, 95 % interval</span>");
    struct chart chart;
    chart_open(&chart, canvas->out, ++canvas->drawn, title, words);
    chart.x.high = fmin(1, most * 1.15);
    chart.y.high = (double)count;
    chart_y_axis(&chart, NULL, 0, NULL, "");
    chart_x_axis(&chart, ticks, format_ticks(0, chart.x.high, 5, ticks), format_share, "share of rollouts");
    put_rows(&chart, rows, count);
    put_limit(&chart, limit);
    chart_close(&chart);
    figure_close(canvas);
    free(words);
}

static struct row abort_row(const struct simulation_result *result)
{
    uint64_t aborted = simulation_aborted(result);
    struct row row = {.name = result->scenario, .class = "canary", .at = simulation_share(aborted, result->runs)};
    simulation_interval(aborted, result->runs, &row.low, &row.high);
    snprintf(row.words, sizeof row.words, "%s", simulation_share_text(aborted, result->runs, TEXT));
    return row;
}

/* --- times --- */

static const char *minutes_text(double minutes, char text[FORMAT_TEXT])
{
    snprintf(text, FORMAT_TEXT, "%.3g", minutes);
    return text;
}

static size_t minute_ticks(double low, double high, double ticks[FORMAT_TICKS])
{
    static const double round[] = {0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 240, 480, 1440, 2880, 10080};
    size_t count = 0;
    for (size_t i = 0; i < sizeof round / sizeof round[0]; i++)
        if (round[i] >= low && round[i] <= high)
            ticks[count++] = round[i];
    return count;
}

static void draw_times(struct canvas *canvas, const struct row *rows, size_t count)
{
    double low = INFINITY, high = 0, ticks[FORMAT_TICKS];
    for (size_t i = 0; i < count; i++) {
        if (isnan(rows[i].at))
            continue;
        low = fmin(low, rows[i].at);
        high = fmax(high, isfinite(rows[i].high) ? rows[i].high : 2 * rows[i].at);
    }
    if (!(high > 0))
        return;
    const char *title = "Time to the decision";
    char *words = describe(rows, count);
    figure_open(canvas, title,
                " <span class=\"key harm\">caught</span> <span class=\"key safe\">promoted</span>"
                " <span class=\"soft\">(median, line to 90 %)</span>");
    struct chart chart;
    chart_open(&chart, canvas->out, ++canvas->drawn, title, words);
    chart.x.logarithmic = true;
    chart.x.low = fmax(low / 1.5, 0.01);
    chart.x.high = fmax(high * 1.2, chart.x.low * 4);
    chart.y.high = (double)count;
    chart_y_axis(&chart, NULL, 0, NULL, "");
    chart_x_axis(&chart, ticks, minute_ticks(chart.x.low, chart.x.high, ticks), minutes_text, "minutes");
    put_rows(&chart, rows, count);
    chart_close(&chart);
    figure_close(canvas);
    free(words);
}

static struct row time_row(const struct simulation_result *result)
{
    bool healthy = result->fault == FAULT_NONE;
    const struct simulation_spread *spread = healthy ? &result->to_promote_ms : &result->to_abort_ms;
    struct row row = {.name = result->scenario, .class = healthy ? "safe" : "harm"};
    row.at = row.low = spread->median / 60000;
    row.high = isnan(spread->p90) ? INFINITY : spread->p90 / 60000;
    snprintf(row.words, sizeof row.words, "%s %s", healthy ? "promoted after" : "caught after",
             simulation_times_text(spread, TEXT));
    return row;
}

/* --- power --- */

struct curve {
    char *family; /* the scenarios' name without the size */
    const char *class;
    char label[FORMAT_TEXT];
    double size[CURVE_POINTS], share[CURVE_POINTS], low[CURVE_POINTS], high[CURVE_POINTS];
    size_t count;
};

/* "err-1.5" is of the family "err", "err-2-pods" of none: only the size may differ within one. The caller frees it. */
static char *family_of(const struct simulation_result *result)
{
    const char *dash = strrchr(result->scenario, '-');
    char *end = NULL;
    if (!dash || (strtod(dash + 1, &end), end == dash + 1) || *end)
        return NULL;
    return mem_strndup(result->scenario, (size_t)(dash - result->scenario));
}

static void add_point(struct curve *curve, const struct simulation_result *result)
{
    if (curve->count == CURVE_POINTS)
        return;
    size_t i = curve->count++;
    uint64_t aborted = simulation_aborted(result);
    double low, high;
    simulation_interval(aborted, result->runs, &low, &high);
    while (i > 0 && curve->size[i - 1] > result->size) {
        curve->size[i] = curve->size[i - 1];
        curve->share[i] = curve->share[i - 1];
        curve->low[i] = curve->low[i - 1];
        curve->high[i] = curve->high[i - 1];
        i--;
    }
    curve->size[i] = result->size;
    curve->share[i] = simulation_share(aborted, result->runs);
    curve->low[i] = low;
    curve->high[i] = high;
}

static struct curve *find_curve(struct curve *curves, size_t *count, char *family,
                                const struct simulation_result *result)
{
    static const char *const classes[CURVES] = {"canary", "stable", "harm", "safe"};
    for (size_t c = 0; c < *count; c++)
        if (strcmp(curves[c].family, family) == 0)
            return &curves[c];
    if (*count == CURVES)
        return NULL;
    struct curve *curve = &curves[*count];
    *curve = (struct curve){.family = mem_strdup(family), .class = classes[*count]};
    if (result->fault == FAULT_ERRORS)
        format_rate(result->rps, curve->label);
    else
        snprintf(curve->label, sizeof curve->label, "%s", result->fault == FAULT_TAIL ? "slowest 10 %" : "all");
    ++*count;
    return curve;
}

static size_t collect_curves(const struct simulation *simulation, bool errors, struct curve curves[CURVES])
{
    size_t count = 0;
    for (size_t i = 0; i < simulation->count; i++) {
        const struct simulation_result *result = &simulation->results[i];
        if (result->fault == FAULT_NONE || (result->fault == FAULT_ERRORS) != errors)
            continue;
        char *family = family_of(result);
        struct curve *curve = family ? find_curve(curves, &count, family, result) : NULL;
        if (curve)
            add_point(curve, result);
        free(family);
    }
    return count;
}

static void put_curve(struct chart *chart, const struct curve *curve)
{
    chart_line(chart, curve->size, curve->share, curve->count, JOIN_STRAIGHT, curve->class);
    for (size_t i = 0; i < curve->count; i++) {
        chart_line(chart, (double[]){curve->size[i], curve->size[i]}, (double[]){curve->low[i], curve->high[i]}, 2,
                   JOIN_STRAIGHT, curve->class);
        char words[3 * FORMAT_TEXT];
        snprintf(words, sizeof words, "%s: %s caught, %s to %s at 95 %%", curve->label,
                 format_share(curve->share[i], TEXT), format_share(curve->low[i], TEXT),
                 format_share(curve->high[i], TEXT));
        chart_dot(chart, curve->size[i], curve->share[i], curve->class, words);
    }
}

static char *describe_curves(const struct curve *curves, size_t count, format_fn *format)
{
    struct strbuf words = {0};
    for (size_t c = 0; c < count; c++)
        for (size_t i = 0; i < curves[c].count; i++)
            strbuf_printf(&words, "%s, %s: %s. ", curves[c].label, format(curves[c].size[i], TEXT),
                          format_share(curves[c].share[i], TEXT));
    return strbuf_take(&words);
}

static void draw_power(struct canvas *canvas, bool errors)
{
    struct curve curves[CURVES];
    size_t count = collect_curves(canvas->simulation, errors, curves);
    if (count == 0)
        return;
    double least = INFINITY, most = 0, ticks[FORMAT_TICKS];
    for (size_t c = 0; c < count; c++) {
        least = fmin(least, curves[c].size[0]);
        most = fmax(most, curves[c].size[curves[c].count - 1]);
    }
    const char *title = errors ? "Canaries that fail more often, caught" : "Canaries that are slower, caught";
    format_fn *format = errors ? format_limit : format_share;
    char *words = describe_curves(curves, count, format);
    struct strbuf keys = {0};
    for (size_t c = 0; c < count; c++)
        strbuf_printf(&keys, " <span class=\"key %s\">%s</span>", curves[c].class, curves[c].label);
    char *key_text = strbuf_take(&keys);
    figure_open(canvas, title, key_text);
    free(key_text);
    struct chart chart;
    chart_open(&chart, canvas->out, ++canvas->drawn, title, words);
    chart.x.logarithmic = errors;
    chart.x.low = errors ? 1 : 0;
    chart.x.high = errors ? fmax(most * 1.15, 1.5) : most * 1.1;
    chart.y.high = 1;
    chart_y_axis(&chart, ticks, format_ticks(0, 1, 5, ticks), format_share, "share of rollouts");
    size_t n = errors ? format_log_ticks(chart.x.low, chart.x.high, 6, ticks) : format_ticks(0, chart.x.high, 5, ticks);
    chart_x_axis(&chart, ticks, n, format, errors ? "errors, canary over stable" : "how much slower");
    for (size_t c = 0; c < count; c++)
        put_curve(&chart, &curves[c]);
    chart_close(&chart);
    figure_close(canvas);
    free(words);
    for (size_t c = 0; c < count; c++)
        free(curves[c].family);
}

/* --- the pictures in their places --- */

enum which { HEALTHY, FAULTY, ANY };

static bool is_wanted(const struct simulation_result *result, enum which which)
{
    return which == ANY || (result->fault == FAULT_NONE) == (which == HEALTHY);
}

static size_t count_wanted(const struct simulation *simulation, enum which which)
{
    size_t count = 0;
    for (size_t i = 0; i < simulation->count; i++)
        count += is_wanted(&simulation->results[i], which);
    return count;
}

/* As many pictures as it takes for legible names, with about as many rows in each. */
static void draw_rows(struct canvas *canvas, enum which which, struct row (*row_of)(const struct simulation_result *),
                      void (*draw)(struct canvas *, const struct row *, size_t))
{
    struct row rows[CHART_ROWS];
    size_t left = count_wanted(canvas->simulation, which), count = 0;
    size_t pictures = (left + CHART_ROWS - 1) / CHART_ROWS;
    for (size_t i = 0; i < canvas->simulation->count; i++) {
        if (!is_wanted(&canvas->simulation->results[i], which))
            continue;
        rows[count++] = row_of(&canvas->simulation->results[i]);
        if (count * pictures < left)
            continue;
        draw(canvas, rows, count);
        left -= count;
        count = 0;
        pictures--;
    }
}

static void put_pictures(struct canvas *canvas)
{
    strbuf_puts(canvas->out, "<section class=\"card\">\n<div class=\"two\">\n");
    draw_rows(canvas, HEALTHY, abort_row, draw_false_aborts);
    draw_power(canvas, true);
    draw_power(canvas, false);
    draw_rows(canvas, ANY, time_row, draw_times);
    strbuf_puts(canvas->out, "</div>\n</section>\n");
}

/* --- tables --- */

static void put_number(struct strbuf *out, const char *text)
{
    strbuf_puts(out, "<td class=\"n\">");
    put_html(out, text);
    strbuf_puts(out, "</td>");
}

static void put_count(struct strbuf *out, double count)
{
    put_number(out, isfinite(count) ? format_count((uint64_t)llround(count), TEXT) : "–");
}

static void put_result(struct strbuf *out, const struct simulation_result *r, bool with_traffic)
{
    bool healthy = r->fault == FAULT_NONE;
    strbuf_puts(out, "<tr><th scope=\"row\">");
    put_html(out, r->scenario);
    strbuf_puts(out, "<small>");
    put_html(out, r->summary);
    if (with_traffic)
        strbuf_printf(out, "; %s", simulation_traffic_text(r, TEXT));
    strbuf_puts(out, "</small></th>");
    put_number(out, simulation_share_text(simulation_aborted(r), r->runs, TEXT));
    put_number(out, simulation_share_text(r->promoted, r->runs, TEXT));
    put_number(out, simulation_share_text(r->undecided, r->runs, TEXT));
    put_number(out, simulation_share_text(r->held, r->runs, TEXT));
    put_number(out, simulation_times_text(healthy ? &r->to_promote_ms : &r->to_abort_ms, TEXT));
    if (!healthy) {
        put_count(out, r->canary_requests.median);
        put_count(out, r->harmed.median);
    }
    strbuf_puts(out, "</tr>\n");
}

static void put_table(struct strbuf *out, const struct simulation *simulation, enum which which)
{
    if (count_wanted(simulation, which) == 0)
        return;
    bool healthy = which == HEALTHY;
    const char *title = healthy ? "Healthy canaries" : "Bad canaries";
    strbuf_printf(out,
                  "<h2>%s</h2>\n<section class=\"card\">\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
                  "aria-label=\"%s\"><table>\n<thead><tr><th scope=\"col\">scenario</th>",
                  title, title);
    strbuf_printf(out,
                  "<th scope=\"col\">%s</th><th scope=\"col\">promoted</th><th scope=\"col\">undecided</th>"
                  "<th scope=\"col\">held</th><th scope=\"col\">%s</th>",
                  healthy ? "aborted" : "caught", healthy ? "promoted after" : "caught after");
    if (!healthy)
        strbuf_puts(out, "<th scope=\"col\">requests</th><th scope=\"col\">harmed</th>");
    strbuf_puts(out, "</tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < simulation->count; i++)
        if (is_wanted(&simulation->results[i], which))
            put_result(out, &simulation->results[i], !simulation_same_traffic(simulation));
    strbuf_puts(out, "</tbody>\n</table></div>\n</section>\n");
}

static void put_head(struct strbuf *out, const struct simulation *simulation)
{
    static const char *const classes[] = {
        [SIMULATION_KEPT] = "good", [SIMULATION_BROKEN] = "bad", [SIMULATION_UNSURE] = "wait"};
    static const char *const marks[] = {[SIMULATION_KEPT] = "✓", [SIMULATION_BROKEN] = "✕", [SIMULATION_UNSURE] = "?"};
    enum simulation_finding finding;
    char *summary = simulation_summary(simulation, &finding);
    strbuf_printf(out, "<header class=\"head %s\">\n<h1><span aria-hidden=\"true\">%s</span> Simulated rollouts of ",
                  classes[finding], marks[finding]);
    put_html(out, simulation->service);
    strbuf_puts(out, "</h1>\n<p class=\"why\">");
    put_html(out, summary);
    strbuf_printf(out, "</p>\n<p class=\"soft\">%s rollouts of each scenario, seed %llu, looks of %s",
                  format_count(simulation->runs, TEXT), (unsigned long long)simulation->seed,
                  format_span(simulation->look_ms, TEXT));
    if (simulation_same_traffic(simulation))
        strbuf_printf(out, "; requests: %s", simulation_traffic_text(&simulation->results[0], TEXT));
    strbuf_puts(out, "</p>\n</header>\n");
    free(summary);
}

static void put_notes(struct strbuf *out)
{
    strbuf_puts(out, "<h2>How to read this</h2>\n<section class=\"card\">\n"
                     "<p>Each rollout is made up at random and judged as a live one is. A canary is caught when it is "
                     "aborted; of a healthy one that is a false abort. It is held when harm was suspected at any "
                     "look. Undecided: neither promoted nor aborted by the deadline or the end of the schedule.</p>\n"
                     "<p>Times are the median and 90 % of all rollouts, from the first traffic to promotion or from "
                     "the fault’s onset to the abort; “–” where fewer came to that. Requests: what the canary had "
                     "until the abort, median. Harmed: of these, failed and would not have on stable. ± is the "
                     "standard error of the simulation in percentage points, &lt; and &gt; a bound at 95 %. A live "
                     "rollout sees each look the policy’s <code>settle</code> later.</p>\n</section>\n");
}

char *simulation_html(const struct simulation *simulation)
{
    struct strbuf out = {0};
    struct canvas canvas = {.out = &out, .simulation = simulation};
    char *title = mem_printf("Simulated rollouts of %s", simulation->service);
    page_open(&out, title, own_style);
    put_head(&out, simulation);
    put_pictures(&canvas);
    put_table(&out, simulation, HEALTHY);
    put_table(&out, simulation, FAULTY);
    put_notes(&out);
    char *foot = mem_printf("policy %s", simulation->policy_sha256);
    page_close(&out, foot);
    free(foot);
    free(title);
    return strbuf_take(&out);
}
