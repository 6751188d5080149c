/* Columns are padded in Markdown too, so that a diff of docs/statistics.md can be read. */
#include "tests/bench/sheet.h"

#include "analyzer/model/simulation.h"
#include "base/memory.h"
#include "base/strbuf.h"
#include "policies/load.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool sheet_wants(const struct sheet *sheet, const char *section, const char *row)
{
    bool wanted = sheet->only_count == 0;
    for (size_t i = 0; i < sheet->only_count; i++) {
        bool named = strcmp(sheet->only[i], section) == 0 || strcmp(sheet->only[i], row) == 0;
        sheet->found[i] |= named;
        wanted |= named;
    }
    return wanted;
}

uint64_t sheet_fewer(const struct sheet *sheet)
{
    return (sheet->runs + 3) / 4;
}

void sheet_progress(const char *section, const char *row)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%s%s%s", section, *row ? ": " : "", row);
}

/* --- tables --- */

void table_add(struct table *table, char *text)
{
    table->cells = mem_grow(table->cells, table->count, &table->room, sizeof *table->cells);
    table->cells[table->count++] = text;
}

/* Characters, not bytes, of UTF-8 text. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += (*text & 0xc0) != 0x80;
    return width;
}

static size_t column_width(const struct table *table, size_t column)
{
    size_t widest = 3;
    for (size_t c = column; c < table->count; c += table->columns) {
        size_t width = width_of(table->cells[c]);
        widest = width > widest ? width : widest;
    }
    return widest;
}

static void print_row(const struct table *table, const struct sheet *sheet, size_t row)
{
    for (size_t c = 0; c < table->columns; c++) {
        const char *text = table->cells[row * table->columns + c];
        int padding = (int)(column_width(table, c) - width_of(text));
        bool last = c + 1 == table->columns;
        printf("%s%s%*s%s", sheet->markdown ? "| " : "", text, last && !sheet->markdown ? 0 : padding, "",
               last              ? ""
               : sheet->markdown ? " "
                                 : "  ");
    }
    puts(sheet->markdown ? " |" : "");
}

static void print_rule(const struct table *table)
{
    for (size_t c = 0; c < table->columns; c++) {
        printf("|");
        for (size_t i = column_width(table, c) + 2; i > 0; i--)
            printf("-");
    }
    puts("|");
}

void table_print(struct table *table, const struct sheet *sheet)
{
    size_t rows = table->count / table->columns;
    if (rows > 1)
        printf("%s\n\n", table->caption);
    for (size_t r = 0; r < rows && rows > 1; r++) {
        print_row(table, sheet, r);
        if (r == 0 && sheet->markdown)
            print_rule(table);
    }
    if (rows > 1)
        puts("");
    fflush(stdout);
    for (size_t c = 0; c < table->count; c++)
        free(table->cells[c]);
    free(table->cells);
    *table = (struct table){.caption = table->caption, .columns = table->columns};
}

char *rate_text(uint64_t count, uint64_t runs)
{
    double low, high;
    simulation_interval(count, runs, &low, &high);
    if (count == 0)
        return mem_printf("0 (< %.4f)", high);
    if (count == runs)
        return mem_printf("1 (> %.4f)", low);
    return mem_printf("%.3f ± %.3f", simulation_share(count, runs), simulation_error(count, runs));
}

char *minutes_text(double ms)
{
    return isnan(ms) ? mem_strdup("–") : mem_printf("%.1f", ms / 60000);
}

char *number_text(double value)
{
    return isnan(value) ? mem_strdup("–") : mem_printf("%.0f", value);
}

/* --- limits --- */

static void note_limit(struct sheet *sheet, bool kept, char *miss)
{
    sheet->kept += kept;
    sheet->missed += !kept;
    if (!kept) {
        char *longer = mem_printf("%s%s\n", sheet->misses ? sheet->misses : "", miss);
        free(sheet->misses);
        sheet->misses = longer;
    }
    free(miss);
}

void limit_rate(struct sheet *sheet, const char *row, uint64_t count, uint64_t runs, double limit)
{
    double share = simulation_share(count, runs), room = 3 * sqrt(limit * (1 - limit) / (double)runs);
    note_limit(sheet, share <= limit + room,
               mem_printf("%s: %.4f of %llu runs, limit %g + %.4f", row, share, (unsigned long long)runs, limit, room));
}

void limit_most(struct sheet *sheet, const char *row, const char *what, double found, double limit)
{
    note_limit(sheet, found <= limit, mem_printf("%s: %s %.4g, at most %.4g is allowed", row, what, found, limit));
}

void limit_least(struct sheet *sheet, const char *row, const char *what, double found, double limit)
{
    note_limit(sheet, found >= limit, mem_printf("%s: %s %.4g, at least %.4g is needed", row, what, found, limit));
}

/* --- policies --- */

struct policy *sheet_policy(const char *top, const char *metrics)
{
    char *text = mem_printf("version: 1\n"
                            "service: bench\n"
                            "prometheus: {url: 'http://127.0.0.1:9090'}\n"
                            "tracks: {stable: 'track=\"stable\"', canary: 'track=\"canary\"'}\n"
                            "look: 15s\n"
                            "warmup: 0s\n"
                            "traffic: {driver: none}\n"
                            "%s"
                            "metrics:\n%s",
                            top, metrics);
    struct policy_problems problems = {0};
    struct error err = {0};
    struct policy *policy = policy_load_text(text, strlen(text), "policy", NULL, 0, NULL, &problems, &err);
    if (!policy) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    policy_problems_free(&problems);
    free(text);
    return policy;
}
