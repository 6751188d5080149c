/*
 * A small chart in SVG: one frame, two axes, and what is drawn inside. Everything is clipped to the frame by clamping,
 * and a number that does not exist interrupts a line; so no coordinate is ever anything but a finite number.
 *
 * Colours, widths and dashes are CSS classes of the page. Titles and descriptions are escaped here.
 */
#ifndef HALDANE_REPORT_CHART_H
#define HALDANE_REPORT_CHART_H

#include "analyzer/model/format.h"
#include "base/strbuf.h"

#include <stdbool.h>

struct scale {
    bool logarithmic;
    double low, high; /* of the data; low < high */
    double from, to;  /* where they lie in the picture */
};

enum { CHART_LABELS = 8 };

struct chart_label {
    double y;
    char text[FORMAT_TEXT];
};

struct chart {
    struct strbuf *out;
    struct scale x, y;
    struct chart_label labels[CHART_LABELS]; /* at the right edge, moved apart when the chart is closed */
    size_t label_count;
};

/* `number` tells the charts of a page apart. Opens the picture; set the scales' low, high and kind before the axes. */
void chart_open(struct chart *chart, struct strbuf *out, size_t number, const char *title, const char *description);
void chart_close(struct chart *chart);

typedef const char *format_fn(double value, char text[FORMAT_TEXT]);
void chart_y_axis(struct chart *chart, const double *ticks, size_t count, format_fn *format, const char *title);
void chart_x_axis(struct chart *chart, const double *ticks, size_t count, format_fn *format, const char *title);
void chart_time_axis(struct chart *chart); /* x is Unix milliseconds, written as clock times in UTC */

enum chart_join { JOIN_STRAIGHT, JOIN_STEPS }; /* steps: a value holds until the next one's place */
void chart_line(struct chart *chart, const double *x, const double *y, size_t count, enum chart_join join,
                const char *class);
/* The area between two lines; an infinite end reaches the frame, and an arrow says that it goes on. */
void chart_band(struct chart *chart, const double *x, const double *low, const double *high, size_t count,
                const char *class);
/* A line across at `y`, named at the right edge. Nothing if `y` is not a number or outside. */
void chart_rule(struct chart *chart, double y, const char *class, const char *label);
void chart_label(struct chart *chart, double y, const char *label);
void chart_mark(struct chart *chart, double x, const char *label); /* a line from top to bottom with a word above it */
void chart_dot(struct chart *chart, double x, double y, const char *class, const char *tooltip);

double chart_x(const struct chart *chart, double value);
double chart_y(const struct chart *chart, double value);
bool chart_inside(const struct scale *scale, double value);

#endif
