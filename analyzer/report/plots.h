/* The pictures of the HTML report: each writes one <figure>, or a line that says why there is none. */
#ifndef HALDANE_REPORT_PLOTS_H
#define HALDANE_REPORT_PLOTS_H

#include "analyzer/report/story.h"
#include "base/strbuf.h"

enum { PLOT_POINTS = 400 }; /* at most so many a line; longer histories are thinned evenly */

struct plots {
    struct strbuf *out;
    const struct report *report;
    const struct story *story;
    size_t drawn;              /* numbers the pictures */
    size_t index[PLOT_POINTS]; /* the verdicts that are drawn: the first, the last, evenly between */
    size_t count;              /* 0: no look yet */
    int64_t from_ms, to_ms;    /* of the time axis; from < to */
};

void plots_begin(struct plots *plots, struct strbuf *out, const struct report *report, const struct story *story);

void plot_weight(struct plots *plots);
void plot_requests(struct plots *plots);
void plot_ratio(struct plots *plots, size_t metric);    /* with its confidence sequence, over time */
void plot_gauge(struct plots *plots, size_t metric);    /* the medians of both arms so far, over time */
void plot_evidence(struct plots *plots, size_t metric); /* toward harm and toward safety, over time */
void plot_latency(struct plots *plots, size_t metric);  /* how large a share is slower than each time, both arms */

#endif
