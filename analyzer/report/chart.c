/*
 * The picture is 400 units wide, about what a telephone shows, so that its writing stays legible there; on a wide
 * screen two of them stand side by side. The right margin holds the names of lines across.
 */
#include "analyzer/report/chart.h"
#include "analyzer/report/escape.h"
#include "base/duration.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WIDTH = 400, HEIGHT = 226, LEFT = 46, RIGHT = 314, TOP = 30, BOTTOM = 184 };

static double place(const struct scale *scale, double value)
{
    double low = scale->low, high = scale->high;
    if (scale->logarithmic) {
        value = value > 0 ? log10(value) : -INFINITY;
        low = log10(low);
        high = log10(high);
    }
    double t = (value - low) / (high - low);
    if (!(t > 0)) /* also what is no number: callers leave those out, and a picture must never break */
        t = 0;
    return scale->from + (t > 1 ? 1 : t) * (scale->to - scale->from);
}

double chart_x(const struct chart *chart, double value)
{
    return place(&chart->x, value);
}

double chart_y(const struct chart *chart, double value)
{
    return place(&chart->y, value);
}

bool chart_inside(const struct scale *scale, double value)
{
    return value >= scale->low && value <= scale->high;
}

void chart_open(struct chart *chart, struct strbuf *out, size_t number, const char *title, const char *description)
{
    *chart = (struct chart){.out = out, .x = {.from = LEFT, .to = RIGHT}, .y = {.from = BOTTOM, .to = TOP}};
    strbuf_printf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"c%zu-t c%zu-d\">\n", WIDTH, HEIGHT,
                  number, number);
    strbuf_printf(out, "<title id=\"c%zu-t\">", number);
    put_html(out, title);
    strbuf_printf(out, "</title>\n<desc id=\"c%zu-d\">", number);
    put_html(out, description);
    strbuf_puts(out, "</desc>\n");
}

static void put_text(struct strbuf *out, double x, double y, const char *class, const char *text)
{
    strbuf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
    put_html(out, text);
    strbuf_puts(out, "</text>\n");
}

static void put_segment(struct strbuf *out, double x1, double y1, double x2, double y2, const char *class)
{
    strbuf_printf(out, "<path d=\"M%.1f %.1fL%.1f %.1f\" class=\"%s\"/>\n", x1, y1, x2, y2, class);
}

void chart_y_axis(struct chart *chart, const double *ticks, size_t count, format_fn *format, const char *title)
{
    for (size_t i = 0; i < count; i++) {
        double y = chart_y(chart, ticks[i]);
        put_segment(chart->out, LEFT, y, RIGHT, y, "grid");
        put_text(chart->out, LEFT - 5, y + 3.5, "end", format(ticks[i], (char[FORMAT_TEXT]){0}));
    }
    put_text(chart->out, 2, 11, "axis", title);
}

/* A label wider than its place is left out rather than written over its neighbour. */
static void put_x_ticks(struct chart *chart, const double *ticks, const char (*labels)[FORMAT_TEXT], size_t count)
{
    double free_from = 0;
    for (size_t i = 0; i < count; i++) {
        double x = chart_x(chart, ticks[i]);
        put_segment(chart->out, x, BOTTOM, x, BOTTOM + 4, "tick");
        double half = (double)text_columns(labels[i]) * 3.1;
        if (x - half < free_from)
            continue;
        put_text(chart->out, x, BOTTOM + 16, "mid", labels[i]);
        free_from = x + half + 5;
    }
    put_segment(chart->out, LEFT, BOTTOM, RIGHT, BOTTOM, "base");
}

void chart_x_axis(struct chart *chart, const double *ticks, size_t count, format_fn *format, const char *title)
{
    char labels[FORMAT_TICKS][FORMAT_TEXT];
    for (size_t i = 0; i < count; i++)
        format(ticks[i], labels[i]);
    put_x_ticks(chart, ticks, (const char(*)[FORMAT_TEXT])labels, count);
    put_text(chart->out, (LEFT + RIGHT) / 2.0, HEIGHT - 7, "mid axis", title);
}

void chart_time_axis(struct chart *chart)
{
    enum { MINUTE = 60000, DAY = 86400000 };
    double ticks[FORMAT_TICKS];
    size_t count = format_time_ticks((int64_t)chart->x.low, (int64_t)chart->x.high, 6, ticks);
    bool days = chart->x.high - chart->x.low > 3.0 * DAY;
    bool seconds = count > 1 && ticks[1] - ticks[0] < MINUTE;
    char labels[FORMAT_TICKS][FORMAT_TEXT], iso[TIME_TEXT];
    for (size_t i = 0; i < count; i++) {
        time_format((int64_t)ticks[i], iso); /* 2026-03-01T02:14:30Z */
        snprintf(labels[i], FORMAT_TEXT, "%.*s", days ? 5 : seconds ? 8 : 5, iso + (days ? 5 : 11));
    }
    put_x_ticks(chart, ticks, (const char(*)[FORMAT_TEXT])labels, count);
    time_format((int64_t)chart->x.low, iso);
    char title[FORMAT_TEXT];
    snprintf(title, sizeof title, days ? "UTC, %.4s" : "UTC, %.10s", iso);
    put_text(chart->out, (LEFT + RIGHT) / 2.0, HEIGHT - 7, "mid axis", title);
}

void chart_line(struct chart *chart, const double *x, const double *y, size_t count, enum chart_join join,
                const char *class)
{
    struct strbuf *out = chart->out;
    bool drawing = false, any = false;
    for (size_t i = 0; i < count; i++) {
        if (isnan(x[i]) || isnan(y[i])) {
            drawing = false;
            continue;
        }
        double px = chart_x(chart, x[i]), py = chart_y(chart, y[i]);
        if (!any)
            strbuf_puts(out, "<path d=\"");
        any = true;
        if (!drawing) /* a line of no length still shows a lone point, as a dot */
            strbuf_printf(out, "M%.1f %.1fh0", px, py);
        else if (join == JOIN_STEPS)
            strbuf_printf(out, "H%.1fV%.1f", px, py);
        else
            strbuf_printf(out, "L%.1f %.1f", px, py);
        drawing = true;
    }
    if (any)
        strbuf_printf(out, "\" class=\"line %s\"/>\n", class);
}

/* Points where the band is left off at an end, one arrow in the middle of each run of them. */
static void put_arrows(struct chart *chart, const double *x, const double *values, size_t count, bool up,
                       const char *class)
{
    double edge = up ? TOP : BOTTOM, tip = up ? -6 : 6;
    size_t drawn = 0;
    for (size_t i = 0; i < count && drawn < 6; i++) {
        size_t run = i;
        while (run < count && !isnan(values[run]) && (up ? values[run] > chart->y.high : values[run] < chart->y.low))
            run++;
        if (run == i)
            continue;
        double px = chart_x(chart, x[run == count ? count - 1 : (i + run) / 2]);
        strbuf_printf(chart->out, "<path d=\"M%.1f %.1fl5 0l-5 %.1fl-5 %.1fz\" class=\"arrow %s\"/>\n", px, edge, tip,
                      -tip, class);
        drawn++;
        i = run;
    }
}

void chart_band(struct chart *chart, const double *x, const double *low, const double *high, size_t count,
                const char *class)
{
    struct strbuf *out = chart->out;
    for (size_t i = 0; i < count; i++) {
        size_t run = i;
        while (run < count && !isnan(low[run]) && !isnan(high[run]))
            run++;
        if (run == i)
            continue;
        strbuf_puts(out, "<path d=\"");
        for (size_t k = i; k < run; k++)
            strbuf_printf(out, "%c%.1f %.1f", k == i ? 'M' : 'L', chart_x(chart, x[k]), chart_y(chart, high[k]));
        for (size_t k = run; k-- > i;)
            strbuf_printf(out, "L%.1f %.1f", chart_x(chart, x[k]), chart_y(chart, low[k]));
        strbuf_printf(out, "z\" class=\"band %s\"/>\n", class);
        i = run;
    }
    put_arrows(chart, x, high, count, true, class);
    put_arrows(chart, x, low, count, false, class);
}

void chart_label(struct chart *chart, double y, const char *label)
{
    if (isnan(y) || chart->label_count == CHART_LABELS)
        return;
    struct chart_label *new = &chart->labels[chart->label_count++];
    new->y = chart_y(chart, y);
    snprintf(new->text, sizeof new->text, "%s", label);
}

void chart_rule(struct chart *chart, double y, const char *class, const char *label)
{
    if (!chart_inside(&chart->y, y))
        return;
    put_segment(chart->out, LEFT, chart_y(chart, y), RIGHT, chart_y(chart, y), class);
    chart_label(chart, y, label);
}

void chart_mark(struct chart *chart, double x, const char *label)
{
    if (!chart_inside(&chart->x, x))
        return;
    put_segment(chart->out, chart_x(chart, x), TOP - 4, chart_x(chart, x), BOTTOM, "mark");
    if (*label)
        put_text(chart->out, chart_x(chart, x) + 2, TOP - 6, "small", label);
}

void chart_dot(struct chart *chart, double x, double y, const char *class, const char *tooltip)
{
    if (!chart_inside(&chart->x, x) || !chart_inside(&chart->y, y))
        return;
    strbuf_printf(chart->out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.6\" class=\"dot %s\"><title>", chart_x(chart, x),
                  chart_y(chart, y), class);
    put_html(chart->out, tooltip);
    strbuf_puts(chart->out, "</title></circle>\n");
}

static void sort_labels(struct chart *chart)
{
    for (size_t i = 1; i < chart->label_count; i++)
        for (size_t k = i; k > 0 && chart->labels[k].y < chart->labels[k - 1].y; k--) {
            struct chart_label swap = chart->labels[k];
            chart->labels[k] = chart->labels[k - 1];
            chart->labels[k - 1] = swap;
        }
}

/* Pushes names apart, downwards first, then back up from the bottom edge. */
static void spread_labels(struct chart *chart)
{
    enum { APART = 12 };
    for (size_t i = 1; i < chart->label_count; i++)
        if (chart->labels[i].y < chart->labels[i - 1].y + APART)
            chart->labels[i].y = chart->labels[i - 1].y + APART;
    double limit = BOTTOM + 4;
    for (size_t i = chart->label_count; i-- > 0; limit -= APART)
        if (chart->labels[i].y > limit)
            chart->labels[i].y = limit;
}

void chart_close(struct chart *chart)
{
    sort_labels(chart);
    spread_labels(chart);
    for (size_t i = 0; i < chart->label_count; i++)
        put_text(chart->out, RIGHT + 5, chart->labels[i].y + 3.5, "rule-name", chart->labels[i].text);
    strbuf_puts(chart->out, "</svg>\n");
}
