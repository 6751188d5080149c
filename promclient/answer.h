/*
 * An answer of Prometheus's HTTP API, from bytes to plain data. Pure: no network, no clock.
 *
 * An answer is used whole or not at all. Whatever is wrong with it ends in an error that names the query and the
 * server; it never ends in a number. Broken answers give ERROR_UNAVAILABLE, answers that do not fit the question give
 * ERROR_DATA (the query is to be mended), refused credentials give ERROR_DENIED.
 *
 * Source: https://prometheus.io/docs/prometheus/latest/querying/api/ (instant queries, expression query results).
 */
#ifndef HALDANE_PROMCLIENT_ANSWER_H
#define HALDANE_PROMCLIENT_ANSWER_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum prom_type {
    PROM_VECTOR = 1, /* one sample per series */
    PROM_MATRIX = 2, /* one sample or more per series: what a raw range selector gives */
    PROM_SCALAR = 4, /* one series without labels */
    PROM_STRING = 8, /* no series, only `string` */
};

struct prom_label {
    char *name, *value;
};

struct prom_sample {
    int64_t at_ms; /* Unix milliseconds */
    double value;
};

struct prom_series {
    struct prom_label *labels; /* sorted by name; no name twice */
    size_t label_count;
    struct prom_sample *samples; /* at least one; times rise strictly */
    size_t sample_count;
};

struct prom_answer {
    enum prom_type type;
    struct prom_series *series; /* no label set twice; none at all is a valid answer: nothing matched */
    size_t series_count;
    char *string;    /* PROM_STRING; else NULL */
    char **warnings; /* the data may be incomplete; also set when the server marks its answer as partial */
    size_t warning_count;
    char **infos; /* the query is doubtful, the data are whole */
    size_t info_count;
};

/* Where an answer comes from; only for error texts. */
struct prom_source {
    const char *query;
    const char *server; /* URL without credentials */
};

/* What was asked for. All zero: any type, any values. */
struct prom_expect {
    unsigned types; /* one or more of enum prom_type; 0: any */
    bool counts;    /* every value is a count: see prom_is_count() */
    bool one;       /* more than one series is an error */
};

/* Limits of an answer. 0 takes the default. */
struct prom_limits {
    size_t bytes;   /* 64 MiB */
    size_t series;  /* 20,000 */
    size_t samples; /* 1,000,000 over all series */
};

/*
 * Parses the body of an answer that came with `http_status`. Returns an answer to be freed with prom_answer_free(), or
 * NULL with `err` set. `limits` may be NULL.
 */
struct prom_answer *prom_answer_parse(const struct prom_source *source, const struct prom_expect *expect,
                                      const struct prom_limits *limits, long http_status, const char *body,
                                      size_t length, struct error *err) __attribute__((warn_unused_result));
void prom_answer_free(struct prom_answer *answer);

/* A count is a whole number from 0 to 2^53: the range in which a double is exact. */
bool prom_is_count(double value);

/* The value of a label, borrowed; NULL if the series does not have it. */
const char *prom_label(const struct prom_series *series, const char *name);

/* Orders series by their labels, as strcmp() orders texts; 0 only for the same labels. */
int prom_series_compare(const struct prom_series *a, const struct prom_series *b);

/* The series as PromQL writes it, e.g. `up{instance="a:80", job="shop"}`, on one line. The caller frees it. */
char *prom_series_text(const struct prom_series *series) __attribute__((warn_unused_result));

/*
 * `text` made fit for an error sentence: on one line, valid UTF-8, at most `most` bytes and then "...". The caller
 * frees it.
 */
char *prom_one_line(const char *text, size_t length, size_t most) __attribute__((warn_unused_result));

#endif
