/*
 * Ratios and evidence are drawn over time with the lines that decide, so that a reader sees how near a decision was.
 * Latency is drawn as the share of requests slower than a time, both axes logarithmic: there the whole tail is visible,
 * and a canary that is 40 % slower at p99 lies as far to the right as one that is 40 % slower at p50.
 */
#include "analyzer/report/plots.h"
#include "analyzer/report/chart.h"
#include "analyzer/report/escape.h"
#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUBDIVISIONS = 8, STANDS_APART = 30 };

void plots_begin(struct plots *plots, struct strbuf *out, const struct report *report, const struct story *story)
{
    *plots = (struct plots){.out = out, .report = report, .story = story};
    size_t first = 0;
    while (first < report->verdict_count && report->verdicts[first]->look == 0)
        first++;
    size_t looks = report->verdict_count - first;
    plots->count = looks < PLOT_POINTS ? looks : PLOT_POINTS;
    for (size_t i = 0; i < plots->count; i++)
        plots->index[i] = looks <= PLOT_POINTS ? first + i : first + i * (looks - 1) / (PLOT_POINTS - 1);
    if (plots->count == 0)
        return;
    plots->from_ms = report->verdicts[first]->at_ms;
    if (story->stay_count && story->stays[0].from_ms < plots->from_ms)
        plots->from_ms = story->stays[0].from_ms;
    plots->to_ms = story->last->at_ms;
    if (report->rollout && report->rollout->ended_ms > plots->to_ms)
        plots->to_ms = report->rollout->ended_ms;
    if (plots->to_ms - plots->from_ms < 2000) {
        plots->from_ms -= 30000;
        plots->to_ms += 30000;
    }
}

static const struct verdict *verdict_at(const struct plots *plots, size_t point)
{
    return plots->report->verdicts[plots->index[point]];
}

/* A key is a class and a word: {"stable", "stable"}. */
struct key {
    const char *class, *word;
};

static void figure_open(struct plots *plots, const char *title, const struct key *keys, size_t count)
{
    strbuf_puts(plots->out, "<figure>\n<figcaption><b>");
    put_html(plots->out, title);
    strbuf_puts(plots->out, "</b>");
    for (size_t i = 0; i < count; i++)
        strbuf_printf(plots->out, " <span class=\"key %s\">%s</span>", keys[i].class, keys[i].word);
    strbuf_puts(plots->out, "</figcaption>\n");
}

static void figure_close(struct plots *plots)
{
    strbuf_puts(plots->out, "</figure>\n");
}

static void figure_empty(struct plots *plots, const char *title, const char *why)
{
    figure_open(plots, title, NULL, 0);
    strbuf_puts(plots->out, "<p class=\"empty\">");
    put_html(plots->out, why);
    strbuf_puts(plots->out, "</p>\n");
    figure_close(plots);
}

static void time_scale(const struct plots *plots, struct chart *chart)
{
    chart->x.low = (double)plots->from_ms;
    chart->x.high = (double)plots->to_ms;
}

/* Where the canary's share changed, with the share where there is room for it. */
static void mark_steps(const struct plots *plots, struct chart *chart)
{
    const struct story *story = plots->story;
    if (story->stay_count > PLOT_POINTS / 8)
        return;
    double free_from = 0;
    for (size_t i = 0; i < story->stay_count; i++) {
        double x = chart_x(chart, (double)story->stays[i].from_ms);
        bool room = x >= free_from;
        if (room)
            free_from = x + STANDS_APART;
        chart_mark(chart, (double)story->stays[i].from_ms, room ? format_weight(story->stays[i].weight_bp, TEXT) : "");
    }
}

/* The weight as steps: what each stay had, then what the balancer shows at the end. */
static size_t weight_steps(const struct plots *plots, double *x, double *y)
{
    const struct story *story = plots->story;
    size_t stays = story->stay_count, kept = stays < PLOT_POINTS ? stays : PLOT_POINTS, n = 0;
    for (size_t i = 0; i < kept; i++) {
        const struct stay *stay = &story->stays[kept == stays ? i : i * (stays - 1) / (kept - 1)];
        x[n] = (double)stay->from_ms;
        y[n++] = stay->weight_bp / (double)BASIS_POINTS;
    }
    const struct rollout *rollout = plots->report->rollout;
    x[n] = (double)story->last->at_ms;
    y[n] = rollout ? rollout->weight_bp / (double)BASIS_POINTS : y[n ? n - 1 : 0];
    n++;
    if (rollout && rollout->ended_ms > story->last->at_ms) {
        x[n] = (double)rollout->ended_ms;
        y[n] = y[n - 1];
        n++;
    }
    return n;
}

static void linear_from_zero(struct chart *chart, double most, format_fn *format, const char *title)
{
    double ticks[FORMAT_TICKS];
    chart->y.low = 0;
    chart->y.high = most > 0 ? most * 1.08 : 1;
    chart_y_axis(chart, ticks, format_ticks(0, chart->y.high, 5, ticks), format, title);
}

void plot_weight(struct plots *plots)
{
    const char *title = "The canary's share of traffic";
    if (plots->count == 0 || plots->story->stay_count == 0) {
        figure_empty(plots, title, "No look has been taken yet.");
        return;
    }
    double x[PLOT_POINTS + 2], y[PLOT_POINTS + 2], most = 0;
    size_t n = weight_steps(plots, x, y);
    for (size_t i = 0; i < n; i++)
        most = fmax(most, y[i]);
    char *words = mem_printf("Steps from %s to %s over time; at most %s.", format_share(y[0], TEXT),
                             format_share(y[n - 1], TEXT), format_share(most, TEXT));
    figure_open(plots, title, (struct key[]){{"canary", "canary"}}, 1);
    struct chart chart;
    chart_open(&chart, plots->out, ++plots->drawn, title, words);
    time_scale(plots, &chart);
    linear_from_zero(&chart, most > 0.5 ? 1 / 1.08 : most, format_share, "share of requests");
    chart_time_axis(&chart);
    mark_steps(plots, &chart);
    chart_line(&chart, x, y, n, JOIN_STEPS, "canary");
    chart_label(&chart, y[n - 1], format_share(y[n - 1], TEXT));
    chart_close(&chart);
    figure_close(plots);
    free(words);
}

/* The metric whose requests stand for the service's: the first that counts errors, else the first that counts any. */
static const struct metric_verdict *volume_metric(const struct verdict *last)
{
    for (size_t i = 0; i < last->metric_count; i++)
        if (last->metrics[i].type == METRIC_ERRORS)
            return &last->metrics[i];
    for (size_t i = 0; i < last->metric_count; i++)
        if (last->metrics[i].type == METRIC_LATENCY)
            return &last->metrics[i];
    return NULL;
}

struct growth {
    uint64_t requests[TRACKS];
    bool known;
    int64_t at_ms;
};

static struct growth counted(const struct verdict *verdict, const char *name)
{
    const struct metric_verdict *metric = same_metric(verdict, name, 0);
    struct growth now = {.known = metric != NULL, .at_ms = verdict->at_ms};
    for (int t = 0; metric && t < TRACKS; t++)
        now.requests[t] = metric->arms[t].present ? metric->arms[t].requests : 0;
    return now;
}

/*
 * Requests per second between drawn looks. Only intervals in which something was counted take part: a look that was no
 * evidence is a hole, not a standstill.
 */
static void request_rates(const struct plots *plots, const char *name, double *x, double rates[TRACKS][PLOT_POINTS])
{
    struct growth before = {0};
    uint64_t sum[TRACKS] = {0};
    int64_t span_ms = 0;
    size_t point = 0;
    for (size_t i = plots->index[0]; i <= plots->index[plots->count - 1]; i++) {
        const struct verdict *verdict = plots->report->verdicts[i];
        struct growth now = counted(verdict, name);
        int64_t from = i == plots->index[0] || verdict->from_ms > before.at_ms ? verdict->from_ms : before.at_ms;
        bool whole =
            i > plots->index[0] || verdict->look == 1; /* a first look that is not the first holds older ones */
        bool grew = whole && now.known && now.requests[TRACK_STABLE] >= before.requests[TRACK_STABLE] &&
                    now.requests[TRACK_CANARY] >= before.requests[TRACK_CANARY] &&
                    now.requests[TRACK_STABLE] + now.requests[TRACK_CANARY] >
                        before.requests[TRACK_STABLE] + before.requests[TRACK_CANARY];
        if (grew && now.at_ms > from) {
            span_ms += now.at_ms - from;
            for (int t = 0; t < TRACKS; t++)
                sum[t] += now.requests[t] - before.requests[t];
        }
        before = now;
        if (i != plots->index[point])
            continue;
        x[point] = (double)now.at_ms;
        for (int t = 0; t < TRACKS; t++) {
            rates[t][point] = span_ms > 0 ? (double)sum[t] * 1000 / (double)span_ms : NAN;
            sum[t] = 0;
        }
        span_ms = 0;
        point++;
    }
}

static double last_number(const double *values, size_t count)
{
    while (count > 0 && isnan(values[count - 1]))
        count--;
    return count ? values[count - 1] : NAN;
}

void plot_requests(struct plots *plots)
{
    const char *title = "Requests per second";
    const struct metric_verdict *volume = volume_metric(plots->story->last);
    double x[PLOT_POINTS], rates[TRACKS][PLOT_POINTS], most = 0;
    if (plots->count && volume)
        request_rates(plots, volume->name, x, rates);
    for (size_t i = 0; i < plots->count && volume; i++)
        most = fmax(most, fmax(rates[TRACK_STABLE][i], rates[TRACK_CANARY][i]));
    if (!(most > 0)) {
        figure_empty(plots, title,
                     plots->count == 1 ? "One look alone shows no rate." : "No requests have been counted yet.");
        return;
    }
    double last[TRACKS];
    for (int t = 0; t < TRACKS; t++)
        last[t] = last_number(rates[t], plots->count);
    char *words = mem_printf("Over time; at the end stable %s, canary %s.", format_rate(last[TRACK_STABLE], TEXT),
                             format_rate(last[TRACK_CANARY], TEXT));
    figure_open(plots, title, (struct key[]){{"stable", "stable"}, {"canary", "canary"}}, 2);
    struct chart chart;
    chart_open(&chart, plots->out, ++plots->drawn, title, words);
    time_scale(plots, &chart);
    linear_from_zero(&chart, most, format_rate, "requests per second");
    chart_time_axis(&chart);
    mark_steps(plots, &chart);
    chart_line(&chart, x, rates[TRACK_STABLE], plots->count, JOIN_STRAIGHT, "stable");
    chart_line(&chart, x, rates[TRACK_CANARY], plots->count, JOIN_STRAIGHT, "canary");
    for (int t = 0; t < TRACKS; t++)
        chart_label(&chart, last[t], format_rate(last[t], TEXT));
    chart_close(&chart);
    figure_close(plots);
    free(words);
}

/* One metric's history, thinned. */
struct history {
    double at[PLOT_POINTS], estimate[PLOT_POINTS], lower[PLOT_POINTS], upper[PLOT_POINTS];
    double harm[PLOT_POINTS], safe[PLOT_POINTS], abort[PLOT_POINTS], promote[PLOT_POINTS];
};

static double finite_or_none(double value)
{
    return isfinite(value) ? value : NAN;
}

/* A bound that is missing while the other is there is one at infinity: JSON has no word for that. */
static struct history *history_of(const struct plots *plots, size_t metric)
{
    struct history *h = mem_alloc(1, sizeof *h);
    const struct metric_verdict *last = &plots->story->last->metrics[metric];
    double stable_rate = last->arms[TRACK_STABLE].rate;
    for (size_t i = 0; i < plots->count; i++) {
        const struct verdict *verdict = verdict_at(plots, i);
        const struct metric_verdict *m = same_metric(verdict, last->name, metric);
        h->at[i] = (double)verdict->at_ms;
        h->estimate[i] = h->lower[i] = h->upper[i] = h->harm[i] = h->safe[i] = h->abort[i] = h->promote[i] = NAN;
        if (!m)
            continue;
        h->harm[i] = m->evidence.harm;
        h->safe[i] = m->evidence.safe;
        h->abort[i] = finite_or_none(abort_margin(m, stable_rate));
        h->promote[i] = finite_or_none(promote_margin(m, stable_rate));
        h->estimate[i] = m->effect.estimate;
        if (!has_effect(m))
            continue;
        /* A report's last interval is by the robust method, which is wider; in the plot it would look like news. */
        if (i > 0 && m->effect.method && strcmp(m->effect.method, "flip") == 0)
            continue;
        h->lower[i] = m->effect.lower > 0 ? m->effect.lower : 0;
        h->upper[i] = isnan(m->effect.upper) ? INFINITY : m->effect.upper;
    }
    return h;
}

static void widen(struct scale *scale, double value, double least, double most)
{
    if (!isfinite(value)) /* what is unbounded leaves the plot whatever its range */
        return;
    value = value < least ? least : value > most ? most : value;
    scale->low = fmin(scale->low, value);
    scale->high = fmax(scale->high, value);
}

/* Wide enough for 1, the margins, the end of the story and most of its way; early looks may leave it. */
static void ratio_scale(struct scale *scale, const struct history *h, size_t count)
{
    enum { FARTHEST = 50 };
    *scale = (struct scale){.logarithmic = true, .low = 0.8, .high = 1.25, .from = scale->from, .to = scale->to};
    for (size_t i = 0; i < count; i++) {
        widen(scale, h->abort[i], 1.0 / FARTHEST, FARTHEST);
        widen(scale, h->promote[i], 1.0 / FARTHEST, FARTHEST);
        if (i >= count / 3)
            widen(scale, h->estimate[i], 1.0 / FARTHEST, FARTHEST);
    }
    widen(scale, h->estimate[count - 1], 1e-3, 1e3);
    widen(scale, h->lower[count - 1], 0.25, 1e3);
    widen(scale, h->lower[count - 1] * 2, 1e-3, 1e3); /* room to see where an unbounded interval begins */
    if (isfinite(h->estimate[count - 1]))
        widen(scale, h->upper[count - 1], 1e-3, fmax(4, 4 * h->estimate[count - 1]));
    scale->low /= 1.12;
    scale->high *= 1.12;
}

static void plot_ratio_inside(const struct plots *plots, struct chart *chart, const struct history *h)
{
    size_t n = plots->count;
    double ticks[FORMAT_TICKS];
    ratio_scale(&chart->y, h, n);
    chart_y_axis(chart, ticks, format_log_ticks(chart->y.low, chart->y.high, 6, ticks), format_limit,
                 "canary / stable, log scale");
    chart_time_axis(chart);
    mark_steps(plots, chart);
    chart_band(chart, h->at, h->lower, h->upper, n, "canary");
    chart_rule(chart, 1, "rule even", "equal");
    chart_line(chart, h->at, h->promote, n, JOIN_STEPS, "margin safe");
    chart_line(chart, h->at, h->abort, n, JOIN_STEPS, "margin harm");
    chart_line(chart, h->at, h->estimate, n, JOIN_STRAIGHT, "canary");
    char text[FORMAT_TEXT];
    if (!isnan(h->promote[n - 1])) {
        snprintf(text, sizeof text, "safe < %s", format_limit(h->promote[n - 1], TEXT));
        chart_label(chart, h->promote[n - 1], text);
    }
    if (!isnan(h->abort[n - 1])) {
        snprintf(text, sizeof text, "harm > %s", format_limit(h->abort[n - 1], TEXT));
        chart_label(chart, h->abort[n - 1], text);
    }
    if (!isnan(h->estimate[n - 1]))
        chart_label(chart, h->estimate[n - 1], format_ratio(h->estimate[n - 1], TEXT));
}

static bool any_number(const double *values, size_t count)
{
    return !isnan(last_number(values, count));
}

void plot_ratio(struct plots *plots, size_t metric)
{
    const struct metric_verdict *last = &plots->story->last->metrics[metric];
    bool latency = last->type == METRIC_LATENCY;
    const char *title = latency ? "How slow, relative to stable" : "How often it fails, relative to stable";
    struct history *h = history_of(plots, metric);
    if (!any_number(h->estimate, plots->count) && !any_number(h->upper, plots->count)) {
        bool compared = last->arms[TRACK_STABLE].present && last->arms[TRACK_CANARY].present;
        figure_empty(plots, title,
                     compared && !latency ? "No request of either side has failed: there is no ratio to draw."
                                          : "No comparison has been possible yet.");
        free(h);
        return;
    }
    char *effect = effect_text(last);
    char *words = mem_printf("Ratio of %s in canary and stable over time with its confidence sequence; at the end %s.",
                             last->name, effect);
    figure_open(plots, title, (struct key[]){{"canary", "estimate"}, {"canary area", "its interval, at all looks"}}, 2);
    struct chart chart;
    chart_open(&chart, plots->out, ++plots->drawn, title, words);
    time_scale(plots, &chart);
    plot_ratio_inside(plots, &chart, h);
    chart_close(&chart);
    figure_close(plots);
    free(words);
    free(effect);
    free(h);
}

/* A power of a thousand that leaves at most four digits before the point. */
struct magnitude {
    double size;
    const char *words;
};

static struct magnitude magnitude_of(double most)
{
    static const struct magnitude known[] = {
        {1e12, "in trillions"},   {1e9, "in billions"},    {1e6, "in millions"},   {1e3, "in thousands"}, {1, ""},
        {1e-3, "in thousandths"}, {1e-6, "in millionths"}, {1e-9, "in billionths"}};
    enum { COUNT = sizeof known / sizeof known[0] };
    if (!(most > 0) || most >= known[0].size * 1e4 || most < known[COUNT - 1].size)
        return (struct magnitude){1, ""};
    if (most >= 0.1 && most < 1e5)
        return (struct magnitude){1, ""};
    size_t i = 0;
    while (i + 1 < COUNT && most < known[i].size)
        i++;
    return known[i];
}

struct medians {
    double at[PLOT_POINTS], of[TRACKS][PLOT_POINTS];
    double low, high;
    struct magnitude unit;
};

/* All of them in the unit of the axis, so that its labels stay short; a flat gauge is drawn flat. */
static struct medians *medians_of(const struct plots *plots, size_t metric)
{
    const double least_span = 0.01; /* of the size: less would blow up differences that nobody minds */
    struct medians *medians = mem_alloc(1, sizeof *medians);
    const char *name = plots->story->last->metrics[metric].name;
    medians->low = INFINITY;
    medians->high = -INFINITY;
    for (size_t i = 0; i < plots->count; i++) {
        const struct verdict *verdict = verdict_at(plots, i);
        const struct metric_verdict *m = same_metric(verdict, name, metric);
        medians->at[i] = (double)verdict->at_ms;
        for (int t = 0; t < TRACKS; t++) {
            double value = m && m->arms[t].present ? finite_or_none(m->arms[t].median) : NAN;
            medians->of[t][i] = value;
            medians->low = fmin(medians->low, value);
            medians->high = fmax(medians->high, value);
        }
    }
    double most = fmax(fabs(medians->low), fabs(medians->high));
    medians->unit = magnitude_of(most);
    double room = fmax(0.08 * (medians->high - medians->low), least_span / 2 * (most > 0 ? most : 1));
    medians->low = (medians->low - room) / medians->unit.size;
    medians->high = (medians->high + room) / medians->unit.size;
    for (int t = 0; t < TRACKS; t++)
        for (size_t i = 0; i < plots->count; i++)
            medians->of[t][i] /= medians->unit.size;
    return medians;
}

static void plot_gauge_inside(const struct plots *plots, struct chart *chart, const struct medians *medians)
{
    double ticks[FORMAT_TICKS];
    char title[FORMAT_TEXT];
    snprintf(title, sizeof title, "median so far%s%s", *medians->unit.words ? ", " : "", medians->unit.words);
    chart->y.low = medians->low;
    chart->y.high = medians->high;
    chart_y_axis(chart, ticks, format_ticks(medians->low, medians->high, 5, ticks), format_number, title);
    chart_time_axis(chart);
    mark_steps(plots, chart);
    for (int t = 0; t < TRACKS; t++)
        chart_line(chart, medians->at, medians->of[t], plots->count, JOIN_STRAIGHT, track_names[t]);
    for (int t = 0; t < TRACKS; t++) {
        char text[FORMAT_TEXT];
        double last = last_number(medians->of[t], plots->count);
        snprintf(text, sizeof text, "%s %.40s", track_names[t], format_number(last, TEXT));
        chart_label(chart, last, text);
    }
}

void plot_gauge(struct plots *plots, size_t metric)
{
    const char *title = "Medians of both sides";
    const struct metric_verdict *last = &plots->story->last->metrics[metric];
    struct medians *medians = medians_of(plots, metric);
    if (!(medians->low < medians->high) || !isfinite(medians->high - medians->low)) {
        figure_empty(plots, title, "No number has been seen yet.");
        free(medians);
        return;
    }
    char *words =
        mem_printf("Median of each side's looks so far, over time; at the end stable %s, canary %s.",
                   format_number(last->arms[TRACK_STABLE].present ? last->arms[TRACK_STABLE].median : NAN, TEXT),
                   format_number(last->arms[TRACK_CANARY].present ? last->arms[TRACK_CANARY].median : NAN, TEXT));
    figure_open(plots, title, (struct key[]){{"stable", "stable"}, {"canary", "canary"}}, 2);
    struct chart chart;
    chart_open(&chart, plots->out, ++plots->drawn, title, words);
    time_scale(plots, &chart);
    plot_gauge_inside(plots, &chart, medians);
    chart_close(&chart);
    figure_close(plots);
    free(words);
    free(medians);
}

static void evidence_scale(struct scale *scale, const struct history *h, size_t count,
                           const struct evidence_values *needed)
{
    double high = 1;
    if (isfinite(needed->harm_needed))
        high = fmax(high, needed->harm_needed);
    if (isfinite(needed->safe_needed))
        high = fmax(high, needed->safe_needed);
    *scale = (struct scale){.low = -high, .high = high * 1.2, .from = scale->from, .to = scale->to};
    for (size_t i = 0; i < count; i++) {
        widen(scale, h->harm[i], scale->low, high * 3);
        widen(scale, h->safe[i], scale->low, high * 3);
    }
}

static const char *plain_number(double value, char text[FORMAT_TEXT])
{
    snprintf(text, FORMAT_TEXT, "%.4g", value);
    return text;
}

static void needed_rule(struct chart *chart, const char *what, double needed, const char *class)
{
    char text[FORMAT_TEXT];
    snprintf(text, sizeof text, "%s %s", what, format_evidence(needed, TEXT));
    chart_rule(chart, needed, class, text);
}

static char *evidence_words(const struct metric_verdict *metric)
{
    const struct evidence_values *e = &metric->evidence;
    char *safe = metric_proves_safety(metric)
                     ? mem_printf(", toward safety %s of %s needed", format_evidence(e->safe, TEXT),
                                  format_evidence(e->safe_needed, TEXT))
                     : mem_strdup("");
    char *words = mem_printf("Over time, as log10 of the e-value. At the end toward harm %s of %s needed%s.",
                             format_evidence(e->harm, TEXT), format_evidence(e->harm_needed, TEXT), safe);
    free(safe);
    return words;
}

void plot_evidence(struct plots *plots, size_t metric)
{
    const char *title = "Evidence";
    const struct metric_verdict *last = &plots->story->last->metrics[metric];
    struct history *h = history_of(plots, metric);
    if (!any_number(h->harm, plots->count) && !any_number(h->safe, plots->count)) {
        figure_empty(plots, title, "There is no evidence yet.");
        free(h);
        return;
    }
    const struct evidence_values *e = &last->evidence;
    char *words = evidence_words(last);
    figure_open(plots, title, (struct key[]){{"harm", "of harm"}, {"safe", "of safety, anew at each step"}},
                metric_proves_safety(last) ? 2 : 1);
    struct chart chart;
    double ticks[FORMAT_TICKS];
    chart_open(&chart, plots->out, ++plots->drawn, title, words);
    time_scale(plots, &chart);
    evidence_scale(&chart.y, h, plots->count, e);
    chart_y_axis(&chart, ticks, format_ticks(chart.y.low, chart.y.high, 5, ticks), plain_number,
                 "log10 of the e-value");
    chart_time_axis(&chart);
    mark_steps(plots, &chart);
    chart_rule(&chart, 0, "rule even", "nothing");
    needed_rule(&chart, last->critical ? "abort" : "harm", e->harm_needed, "rule harm");
    needed_rule(&chart, "promote", e->safe_needed, "rule safe");
    chart_line(&chart, h->at, h->safe, plots->count, JOIN_STRAIGHT, "safe");
    chart_line(&chart, h->at, h->harm, plots->count, JOIN_STRAIGHT, "harm");
    chart_close(&chart);
    figure_close(plots);
    free(words);
    free(h);
}

/* Share of an arm's requests that are slower than each finite edge. */
static bool tail_shares(const struct metric_verdict *metric, enum track track, double *shares)
{
    const struct arm_summary *arm = &metric->arms[track];
    if (!arm->present || !arm->buckets || arm->requests == 0 || metric->edge_count < 2)
        return false;
    uint64_t slower = 0;
    for (size_t i = metric->edge_count - 1; i > 0; i--) {
        slower += arm->buckets[i];
        shares[i - 1] = (double)slower / (double)arm->requests;
    }
    return true;
}

/* From the last edge that nearly all requests exceed to the first that nearly none do, in both arms. */
static void tail_scale(struct chart *chart, const struct metric_verdict *metric, double *const shares[TRACKS])
{
    enum { DEEPEST = -4, SHALLOWEST = -3 };
    size_t edges = metric->edge_count - 1, first = 0, last = 0;
    double least = 1;
    for (size_t i = 0; i < edges; i++)
        for (int t = 0; t < TRACKS; t++) {
            if (!shares[t])
                continue;
            if (shares[t][i] > 0) {
                least = fmin(least, shares[t][i]);
                if (log10(shares[t][i]) > DEEPEST)
                    last = i + 1 < edges ? i + 1 : i;
            }
        }
    while (first + 1 < last && (!shares[TRACK_STABLE] || shares[TRACK_STABLE][first + 1] > 0.98) &&
           (!shares[TRACK_CANARY] || shares[TRACK_CANARY][first + 1] > 0.98))
        first++;
    double decade = floor(log10(least) + 1e-9);
    chart->y.low = pow(10, decade < DEEPEST ? DEEPEST : decade > SHALLOWEST ? SHALLOWEST : decade);
    chart->y.high = 1;
    double low = metric->edges[first], high = metric->edges[last];
    if (!(low > 0)) /* a first edge of 0 or below has no place on a logarithmic axis */
        low = high > 0 ? high / 100 : 1e-3;
    if (first == 0 && shares[TRACK_STABLE] && shares[TRACK_STABLE][0] < 0.98)
        low /= 4;
    chart->x.low = low;
    chart->x.high = high > low ? high : low * 10;
    chart->x.logarithmic = chart->y.logarithmic = true;
}

/* Between edges the share falls evenly, which is how quantiles are read from buckets: their dots lie on the line. */
static void tail_line(struct chart *chart, const struct metric_verdict *metric, const double *shares, const char *class)
{
    size_t edges = metric->edge_count - 1, n = 0;
    double *x = mem_alloc(edges * SUBDIVISIONS + 1, sizeof *x), *y = mem_alloc(edges * SUBDIVISIONS + 1, sizeof *y);
    double from = 0, share = 1;
    for (size_t i = 0; i < edges; i++) {
        for (int s = 1; s <= SUBDIVISIONS; s++) {
            double part = (double)s / SUBDIVISIONS;
            double at = from + (metric->edges[i] - from) * part;
            if (at < chart->x.low * (1 - 1e-9) || at > chart->x.high * (1 + 1e-9))
                continue;
            x[n] = at;
            y[n++] = share + (shares[i] - share) * part;
        }
        from = metric->edges[i];
        share = shares[i];
    }
    chart_line(chart, x, y, n, JOIN_STRAIGHT, class);
    free(x);
    free(y);
}

static void mark_quantiles(struct chart *chart, const struct metric_verdict *metric)
{
    for (size_t q = 0; q < metric->quantile_count; q++) {
        double share = 1 - metric->quantiles[q];
        double stable = metric->arms[TRACK_STABLE].quantiles[q], canary = metric->arms[TRACK_CANARY].quantiles[q];
        char text[FORMAT_TEXT], tip[3 * FORMAT_TEXT];
        bool both = stable > 0 && isfinite(canary);
        snprintf(text, sizeof text, "p%.6g%s%s", metric->quantiles[q] * 100, both ? "  " : "",
                 both ? format_ratio(canary / stable, TEXT) : "");
        chart_rule(chart, share, "rule quantile", text);
        snprintf(tip, sizeof tip, "stable p%.6g: %s", metric->quantiles[q] * 100, format_latency(stable, TEXT));
        chart_dot(chart, stable, share, "stable", tip);
        snprintf(tip, sizeof tip, "canary p%.6g: %s", metric->quantiles[q] * 100, format_latency(canary, TEXT));
        chart_dot(chart, canary, share, "canary", tip);
    }
}

static char *tail_words(const struct metric_verdict *metric)
{
    struct strbuf words = {0};
    strbuf_puts(&words, "Share of requests slower than a time, both axes logarithmic.");
    for (size_t q = 0; q < metric->quantile_count; q++)
        strbuf_printf(&words, " p%.6g: stable %s, canary %s.", metric->quantiles[q] * 100,
                      format_latency(metric->arms[TRACK_STABLE].quantiles[q], TEXT),
                      format_latency(metric->arms[TRACK_CANARY].quantiles[q], TEXT));
    return strbuf_take(&words);
}

void plot_latency(struct plots *plots, size_t metric)
{
    const char *title = "Share of requests slower than";
    const struct metric_verdict *last = &plots->story->last->metrics[metric];
    double *shares[TRACKS] = {0};
    for (int t = 0; t < TRACKS; t++) {
        shares[t] = mem_alloc(last->edge_count, sizeof *shares[t]);
        if (!tail_shares(last, (enum track)t, shares[t])) {
            free(shares[t]);
            shares[t] = NULL;
        }
    }
    if (!shares[TRACK_STABLE] && !shares[TRACK_CANARY]) {
        figure_empty(plots, title, "No latencies have been counted yet.");
        return;
    }
    char *words = tail_words(last);
    figure_open(plots, title, (struct key[]){{"stable", "stable"}, {"canary", "canary"}}, 2);
    struct chart chart;
    double ticks[FORMAT_TICKS];
    chart_open(&chart, plots->out, ++plots->drawn, title, words);
    tail_scale(&chart, last, shares);
    chart_y_axis(&chart, ticks, format_log_ticks(chart.y.low, chart.y.high, 6, ticks), format_share,
                 "slower, log scale");
    chart_x_axis(&chart, ticks, format_log_ticks(chart.x.low, chart.x.high, 8, ticks), format_latency,
                 "latency, log scale");
    for (int t = 0; t < TRACKS; t++)
        if (shares[t])
            tail_line(&chart, last, shares[t], track_names[t]);
    mark_quantiles(&chart, last);
    chart_close(&chart);
    figure_close(plots);
    free(words);
    for (int t = 0; t < TRACKS; t++)
        free(shares[t]);
}
