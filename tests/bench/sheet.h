/*
 * What a run of the benchmark was asked for and what it has found: which rows, how many runs, tables as text or
 * Markdown, and the limits that were kept or missed.
 */
#ifndef HALDANE_BENCH_SHEET_H
#define HALDANE_BENCH_SHEET_H

#include "policies/policy.h"

struct sheet {
    uint64_t runs, seed; /* of most rows; see sheet_fewer() */
    unsigned jobs;
    bool markdown;
    char **only; /* names of sections or rows; borrowed */
    bool *found; /* which of them there are; borrowed, as many */
    size_t only_count;
    unsigned kept, missed; /* limits */
    char *misses;          /* a line each; owned */
};

/* Whether the row was asked for: by its name or its section's, or because nothing was. Notes the name as found. */
bool sheet_wants(const struct sheet *sheet, const char *section, const char *row);

/* Runs for a row that takes long and whose shares are far from 0: a quarter tells them well enough. >= 1. */
uint64_t sheet_fewer(const struct sheet *sheet);

/* Says on a terminal what is being computed. An empty row wipes the line. */
void sheet_progress(const char *section, const char *row);

/* --- tables: cells from left to right, the header first. Texts become the table's. --- */

struct table {
    const char *caption; /* borrowed */
    size_t columns;
    char **cells;
    size_t count, room;
};

void table_add(struct table *table, char *text);
/* Prints the table unless it has no row but the header, and empties it. */
void table_print(struct table *table, const struct sheet *sheet);

/*
 * count / runs with its standard error, "0.021 ± 0.003". Where that error says nothing, at 0 and at all, the end of the
 * interval of Clopper and Pearson at 95 %: "0 (< 0.002)".
 */
char *rate_text(uint64_t count, uint64_t runs);
char *minutes_text(double ms);   /* "11.5", or "–" for NAN */
char *number_text(double value); /* "3970", or "–" */

/* --- limits. Each one is counted, and a miss is remembered with its row. --- */

/* count / runs <= limit + 3 sqrt(limit (1 - limit) / runs): no more than chance makes of a rate at the limit. */
void limit_rate(struct sheet *sheet, const char *row, uint64_t count, uint64_t runs, double limit);
/* found <= limit, or, for limit_least, >=. NAN misses. */
void limit_most(struct sheet *sheet, const char *row, const char *what, double found, double limit);
void limit_least(struct sheet *sheet, const char *row, const char *what, double found, double limit);

/* --- policies, as a user would write them --- */

#define METRIC_ERRORS_USUAL "- {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}'}\n"
#define METRIC_LATENCY_USUAL "- {name: latency, type: latency, histogram: 'seconds_bucket{$track}'}\n"

/* `top` and `metrics` are YAML. Looks of 15 s, no warm-up. The caller frees it with policy_free(). */
struct policy *sheet_policy(const char *top, const char *metrics);

#endif
