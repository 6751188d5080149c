/*
 * cJSON reads the text, this file distrusts what it read. Before parsing, a scan bounds the number of JSON values, so
 * that a small body cannot become a huge tree. Every check reports through fail(), which knows query and server.
 */
#include "promclient/answer.h"

#include "base/duration.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double count_max = 9007199254740992.0; /* 2^53 */
static const double time_max_s = 1e11;              /* the year 5138; more is no time but milliseconds by mistake */

enum { QUERY_SHOWN = 300, MESSAGE_SHOWN = 300, BODY_SHOWN = 60, SERIES_SHOWN = 200, VALUE_SHOWN = 40 };

struct parse {
    const struct prom_source *source;
    struct prom_expect expect;
    struct prom_limits limits;
    long http_status;
    struct prom_answer *answer;
    size_t samples; /* so far, over all series */
    struct error *err;
};

bool prom_is_count(double value)
{
    return value >= 0 && value <= count_max && value == floor(value);
}

const char *prom_label(const struct prom_series *series, const char *name)
{
    for (size_t i = 0; i < series->label_count; i++)
        if (strcmp(series->labels[i].name, name) == 0)
            return series->labels[i].value;
    return NULL;
}

/* Bytes of the UTF-8 character at `p`, 0 if it is not one. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
    if (p[0] < 0x80)
        return 1;
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    /* Overlong forms, UTF-16 surrogates, and what lies beyond U+10FFFF. */
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

static bool utf8_valid(const char *text, size_t length)
{
    const unsigned char *p = (const unsigned char *)text;
    for (size_t i = 0; i < length;) {
        size_t n = utf8_length(p + i, length - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

char *prom_one_line(const char *text, size_t length, size_t most)
{
    const unsigned char *p = (const unsigned char *)text;
    while (length && p[length - 1] <= ' ')
        length--;
    struct strbuf line = {0};
    for (size_t i = 0; i < length;) {
        size_t n = utf8_length(p + i, length - i);
        if (i + (n ? n : 1) > most) {
            strbuf_puts(&line, "...");
            break;
        }
        if (n == 0)
            strbuf_puts(&line, "?");
        else if (n == 1 && (p[i] < ' ' || p[i] == 0x7f))
            strbuf_puts(&line, " ");
        else
            strbuf_add(&line, text + i, n);
        i += n ? n : 1;
    }
    return strbuf_take(&line);
}

char *prom_series_text(const struct prom_series *series)
{
    struct strbuf text = {0};
    const char *name = prom_label(series, "__name__");
    strbuf_puts(&text, name ? name : "");
    const char *before = "{";
    for (size_t i = 0; i < series->label_count; i++) {
        if (strcmp(series->labels[i].name, "__name__") == 0)
            continue;
        strbuf_printf(&text, "%s%s=\"%s\"", before, series->labels[i].name, series->labels[i].value);
        before = ", ";
    }
    if (*before == ',' || !name)
        strbuf_puts(&text, *before == ',' ? "}" : "{}");
    char *line = prom_one_line(text.text, text.length, SERIES_SHOWN);
    strbuf_free(&text);
    return line;
}

static bool fail(const struct parse *p, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static bool fail(const struct parse *p, enum error_code code, const char *format, ...)
{
    char *query = prom_one_line(p->source->query, strlen(p->source->query), QUERY_SHOWN);
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    error_set(p->err, code, "query `%s` at %s: %s", query, p->source->server, n < 0 ? "bad answer" : text);
    if (n >= 0)
        free(text);
    free(query);
    return false;
}

static bool fail_malformed(const struct parse *p, const char *what)
{
    return fail(p, ERROR_UNAVAILABLE,
                "the answer (HTTP %ld) is not one of Prometheus's API: %s; check the URL and what stands before it",
                p->http_status, what);
}

static bool fail_series(const struct parse *p, const struct prom_series *series, enum error_code code, const char *what)
{
    char *name = prom_series_text(series);
    fail(p, code, "series %s: %s", name, what);
    free(name);
    return false;
}

static bool fail_sample(const struct parse *p, const struct prom_series *series, int64_t at_ms, enum error_code code,
                        const char *what)
{
    char time[TIME_TEXT];
    char *name = prom_series_text(series);
    fail(p, code, "series %s at %s: %s", name, time_format(at_ms, time), what);
    free(name);
    return false;
}

/* What a status means when the body does not say it in Prometheus's own words. */
static bool fail_status(const struct parse *p, const char *detail)
{
    long status = p->http_status;
    enum error_code code = ERROR_UNAVAILABLE;
    const char *mend = "look into the server's log";
    if (status == 401 || status == 403) {
        code = ERROR_DENIED;
        mend = "missing or wrong credentials? check basic_auth, bearer_token_file, headers and tls";
    } else if (status == 404 || status == 405) {
        mend = "wrong path prefix? the URL must be the one that /api/v1/query is below";
    } else if (status >= 300 && status < 400) {
        mend = "redirects are not followed; put the address that it redirects to in the URL";
    } else if (status == 429) {
        mend = "the server refuses so many queries; look less often or raise its limit";
    } else if (status >= 400 && status < 500) {
        mend = "does something stand between here and Prometheus? check the URL, headers and credentials";
    } else if (status < 300) {
        mend = "is the URL that of Prometheus? check its host, port and path prefix";
    }
    return fail(p, code, "HTTP %ld, %s; %s", status, detail, mend);
}

static bool fail_not_json(const struct parse *p, const char *body, size_t length)
{
    char *start = prom_one_line(body, length, BODY_SHOWN);
    char *detail = length == 0 ? mem_strdup("with an empty body")
                               : mem_printf("not JSON, or JSON that was cut off (%zu bytes: `%s`)", length, start);
    fail_status(p, detail);
    free(detail);
    free(start);
    return false;
}

static const cJSON *member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static const char *string_member(const cJSON *object, const char *name)
{
    const cJSON *item = member(object, name);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

/* Prometheus says itself what is wrong: {"status":"error","errorType":...,"error":...}. */
static bool fail_as_told(const struct parse *p, const cJSON *document)
{
    const char *type = string_member(document, "errorType"), *told = string_member(document, "error");
    type = type ? type : "no errorType";
    told = told ? told : "no message";
    char *type_line = prom_one_line(type, strlen(type), VALUE_SHOWN);
    char *told_line = prom_one_line(told, strlen(told), MESSAGE_SHOWN);
    enum error_code code = ERROR_UNAVAILABLE;
    const char *mend = "look into the server's log";
    if (p->http_status == 401 || p->http_status == 403) {
        code = ERROR_DENIED;
        mend = "check the credentials";
    } else if (p->http_status == 429) {
        mend = "look less often or raise the server's limit";
    } else if (strcmp(type, "timeout") == 0 || strcmp(type, "canceled") == 0) {
        mend = "ask for less, or raise the server's --query.timeout";
    } else if (p->http_status < 500) {
        code = ERROR_DATA;
        mend = "mend the query";
    }
    fail(p, code, "%s: %s (HTTP %ld); %s", type_line, told_line, p->http_status, mend);
    free(type_line);
    free(told_line);
    return false;
}

/* ---- samples ---- */

static bool whole_number(const char *text, double *value)
{
    uint64_t n = 0;
    size_t i = 0;
    for (; i < 15 && text[i] >= '0' && text[i] <= '9'; i++)
        n = n * 10 + (uint64_t)(text[i] - '0');
    *value = (double)n;
    return i > 0 && text[i] == '\0';
}

/* The forms that Prometheus writes. strtod alone would also take hexadecimal, blanks and "nan(1)". */
static bool parse_value(const char *text, double *value)
{
    if (whole_number(text, value))
        return true;
    if (strcmp(text, "NaN") == 0) {
        *value = NAN;
        return true;
    }
    if (strcmp(text, "+Inf") == 0 || strcmp(text, "Inf") == 0 || strcmp(text, "-Inf") == 0) {
        *value = *text == '-' ? -INFINITY : INFINITY;
        return true;
    }
    if (*text == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0')
        return false;
    char *end;
    *value = strtod(text, &end);
    return *end == '\0' && isfinite(*value);
}

/* `pair` is [seconds, "value"]. */
static bool parse_time(const struct parse *p, const struct prom_series *series, const cJSON *pair, int64_t *at_ms)
{
    if (!cJSON_IsArray(pair) || !pair->child || !pair->child->next || pair->child->next->next)
        return fail_series(p, series, ERROR_UNAVAILABLE, "a sample is not a pair of time and value");
    if (!cJSON_IsNumber(pair->child) || !(fabs(pair->child->valuedouble) <= time_max_s))
        return fail_series(p, series, ERROR_UNAVAILABLE, "a sample's time is not a finite number of Unix seconds");
    *at_ms = llround(pair->child->valuedouble * 1000);
    return true;
}

static bool parse_sample(struct parse *p, const struct prom_series *series, const cJSON *pair,
                         struct prom_sample *sample)
{
    if (!parse_time(p, series, pair, &sample->at_ms))
        return false;
    const cJSON *value = pair->child->next;
    if (!cJSON_IsString(value) || !parse_value(value->valuestring, &sample->value)) {
        const char *text = cJSON_IsString(value) ? value->valuestring : "no string";
        char *shown = prom_one_line(text, strlen(text), VALUE_SHOWN);
        char *what = mem_printf("the value is not a number: `%s`", shown);
        fail_sample(p, series, sample->at_ms, ERROR_UNAVAILABLE, what);
        free(what);
        free(shown);
        return false;
    }
    if (p->expect.counts && !prom_is_count(sample->value)) {
        char *what = mem_printf("%s is not a count; select a raw counter, without rate() or other functions",
                                value->valuestring);
        fail_sample(p, series, sample->at_ms, ERROR_DATA, what);
        free(what);
        return false;
    }
    return true;
}

static bool count_samples(struct parse *p, size_t more)
{
    p->samples += more;
    if (p->samples <= p->limits.samples)
        return true;
    return fail(p, ERROR_DATA, "more than %zu samples; narrow the selector or ask for less time", p->limits.samples);
}

static bool parse_values(struct parse *p, struct prom_series *series, const cJSON *values)
{
    int n = cJSON_GetArraySize(values);
    if (!cJSON_IsArray(values) || n < 1)
        return fail_series(p, series, ERROR_UNAVAILABLE, "it has no list of samples");
    if (!count_samples(p, (size_t)n))
        return false;
    series->samples = mem_alloc((size_t)n, sizeof *series->samples);
    const cJSON *pair;
    cJSON_ArrayForEach(pair, values)
    {
        struct prom_sample *sample = &series->samples[series->sample_count];
        if (!parse_sample(p, series, pair, sample))
            return false;
        if (series->sample_count && sample->at_ms <= sample[-1].at_ms)
            return fail_sample(p, series, sample->at_ms, ERROR_UNAVAILABLE,
                               sample->at_ms == sample[-1].at_ms ? "two samples at the same time"
                                                                 : "samples are not in order of time");
        series->sample_count++;
    }
    return true;
}

static bool parse_one_value(struct parse *p, struct prom_series *series, const cJSON *pair)
{
    if (!count_samples(p, 1))
        return false;
    series->samples = mem_alloc(1, sizeof *series->samples);
    if (!parse_sample(p, series, pair, series->samples))
        return false;
    series->sample_count = 1;
    return true;
}

/* ---- series ---- */

static int by_name(const void *a, const void *b)
{
    const struct prom_label *left = a, *right = b;
    return strcmp(left->name, right->name);
}

static bool parse_labels(struct parse *p, struct prom_series *series, const cJSON *metric)
{
    if (!cJSON_IsObject(metric))
        return fail_malformed(p, "a series has no labels");
    size_t room = 0;
    const cJSON *label;
    cJSON_ArrayForEach(label, metric)
    {
        if (!cJSON_IsString(label))
            return fail_malformed(p, "the value of a label is not a string");
        series->labels = mem_grow(series->labels, series->label_count, &room, sizeof *series->labels);
        series->labels[series->label_count++] =
            (struct prom_label){mem_strdup(label->string), mem_strdup(label->valuestring)};
    }
    if (series->label_count)
        qsort(series->labels, series->label_count, sizeof *series->labels, by_name);
    for (size_t i = 1; i < series->label_count; i++)
        if (by_name(&series->labels[i - 1], &series->labels[i]) == 0)
            return fail_series(p, series, ERROR_UNAVAILABLE, "a label occurs twice");
    return true;
}

static bool parse_series(struct parse *p, struct prom_series *series, const cJSON *item)
{
    if (!cJSON_IsObject(item))
        return fail_malformed(p, "a series is not an object");
    if (!parse_labels(p, series, member(item, "metric")))
        return false;
    if (member(item, "histogram") || member(item, "histograms"))
        return fail_series(p, series, ERROR_DATA,
                           "it is a native histogram; select the classic buckets (a metric named ..._bucket)");
    if (p->answer->type == PROM_MATRIX)
        return parse_values(p, series, member(item, "values"));
    return parse_one_value(p, series, member(item, "value"));
}

int prom_series_compare(const struct prom_series *a, const struct prom_series *b)
{
    size_t n = a->label_count < b->label_count ? a->label_count : b->label_count;
    for (size_t i = 0; i < n; i++) {
        int order = strcmp(a->labels[i].name, b->labels[i].name);
        if (order == 0)
            order = strcmp(a->labels[i].value, b->labels[i].value);
        if (order != 0)
            return order;
    }
    return a->label_count < b->label_count ? -1 : a->label_count > b->label_count;
}

static int by_labels(const void *a, const void *b)
{
    return prom_series_compare(*(const struct prom_series *const *)a, *(const struct prom_series *const *)b);
}

/* Counting a series twice would be worse than no answer. */
static bool check_distinct(struct parse *p)
{
    const struct prom_answer *answer = p->answer;
    if (answer->series_count < 2)
        return true;
    const struct prom_series **sorted = mem_alloc(answer->series_count, sizeof *sorted);
    for (size_t i = 0; i < answer->series_count; i++)
        sorted[i] = &answer->series[i];
    qsort(sorted, answer->series_count, sizeof *sorted, by_labels);
    bool ok = true;
    for (size_t i = 1; ok && i < answer->series_count; i++)
        if (prom_series_compare(sorted[i - 1], sorted[i]) == 0)
            ok = fail_series(p, sorted[i], ERROR_UNAVAILABLE, "it occurs twice in one answer");
    free(sorted);
    return ok;
}

static bool parse_all_series(struct parse *p, const cJSON *result)
{
    if (!cJSON_IsArray(result))
        return fail_malformed(p, "the result is not a list");
    size_t n = (size_t)cJSON_GetArraySize(result);
    if (n > p->limits.series)
        return fail(p, ERROR_DATA, "%zu series, more than the limit of %zu; narrow the selector", n, p->limits.series);
    if (p->expect.one && n > 1)
        return fail(p, ERROR_DATA, "%zu series where one is meant; narrow the selector or aggregate, as sum(...)", n);
    p->answer->series = mem_alloc(n, sizeof *p->answer->series);
    const cJSON *item;
    cJSON_ArrayForEach(item, result)
    {
        /* Counted before it is filled, so that a failure in its middle still frees it. */
        if (!parse_series(p, &p->answer->series[p->answer->series_count++], item))
            return false;
    }
    return check_distinct(p);
}

/* ---- the whole ---- */

static bool parse_scalar(struct parse *p, const cJSON *pair)
{
    p->answer->series = mem_alloc(1, sizeof *p->answer->series);
    p->answer->series_count = 1;
    return parse_one_value(p, p->answer->series, pair);
}

static bool parse_string(struct parse *p, const cJSON *pair)
{
    const struct prom_series none = {0};
    int64_t at_ms;
    if (!parse_time(p, &none, pair, &at_ms))
        return false;
    const cJSON *value = pair->child->next;
    if (!cJSON_IsString(value))
        return fail_malformed(p, "the string is missing");
    p->answer->string = mem_strdup(value->valuestring);
    return true;
}

static const struct {
    enum prom_type type;
    const char *name, *is;
} types[] = {{PROM_VECTOR, "vector", "an instant vector"},
             {PROM_MATRIX, "matrix", "a range of samples"},
             {PROM_SCALAR, "scalar", "a scalar"},
             {PROM_STRING, "string", "a string"}};
enum { TYPES = sizeof types / sizeof types[0] };

static bool fail_type(const struct parse *p, size_t got)
{
    const char *wanted = "another type", *mend = "mend the query";
    if (p->expect.types & PROM_MATRIX) {
        wanted = "raw samples";
        mend = "write a plain selector, without functions and operators";
    } else if (p->expect.types & (PROM_VECTOR | PROM_SCALAR)) {
        wanted = "one value per series";
        mend = "a range such as [5m] needs a function around it, as rate(...)";
    }
    return fail(p, ERROR_DATA, "it gives %s where %s must come; %s", types[got].is, wanted, mend);
}

static bool parse_data(struct parse *p, const cJSON *data)
{
    const char *name = string_member(data, "resultType");
    const cJSON *result = member(data, "result");
    if (!name || !result)
        return fail_malformed(p, "data without resultType and result");
    size_t t = 0;
    while (t < TYPES && strcmp(types[t].name, name) != 0)
        t++;
    if (t == TYPES)
        return fail_malformed(p, "its resultType is unknown");
    if (p->expect.types && !(p->expect.types & (unsigned)types[t].type))
        return fail_type(p, t);
    p->answer->type = types[t].type;
    if (types[t].type == PROM_SCALAR)
        return parse_scalar(p, result);
    if (types[t].type == PROM_STRING)
        return parse_string(p, result);
    return parse_all_series(p, result);
}

static void add_text(char ***list, size_t *count, const char *text)
{
    *list = mem_resize(*list, *count + 1, sizeof **list);
    (*list)[(*count)++] = prom_one_line(text, strlen(text), MESSAGE_SHOWN);
}

static bool parse_texts(struct parse *p, const cJSON *list, char ***texts, size_t *count)
{
    if (!list || cJSON_IsNull(list))
        return true;
    if (!cJSON_IsArray(list))
        return fail_malformed(p, "warnings or infos are not a list");
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsString(item))
            return fail_malformed(p, "a warning or info is not a string");
        add_text(texts, count, item->valuestring);
    }
    return true;
}

static bool parse_document(struct parse *p, const cJSON *document)
{
    const char *status = string_member(document, "status");
    if (!status)
        return p->http_status == 200 ? fail_malformed(p, "it has no status")
                                     : fail_status(p, "JSON that is not from Prometheus");
    if (strcmp(status, "error") == 0)
        return fail_as_told(p, document);
    if (strcmp(status, "success") != 0)
        return fail_malformed(p, "its status is neither success nor error");
    if (p->http_status != 200)
        return fail_status(p, "though the body speaks of success");
    struct prom_answer *answer = p->answer;
    if (!parse_texts(p, member(document, "warnings"), &answer->warnings, &answer->warning_count) ||
        !parse_texts(p, member(document, "infos"), &answer->infos, &answer->info_count))
        return false;
    /* VictoriaMetrics marks what Thanos would warn of. */
    if (cJSON_IsTrue(member(document, "isPartial")))
        add_text(&answer->warnings, &answer->warning_count, "the server marks this answer as partial (isPartial)");
    return parse_data(p, member(document, "data"));
}

/*
 * An upper bound of the JSON values in a body. cJSON spends about 80 bytes on each, so 64 MiB of "0,0,0" would take
 * gigabytes.
 */
static size_t bound_values(const char *body, size_t length)
{
    size_t values = 1;
    bool quoted = false;
    for (size_t i = 0; i < length; i++) {
        if (body[i] == '"')
            quoted = !quoted;
        else if (quoted && body[i] == '\\')
            i++;
        else if (!quoted && (body[i] == ',' || body[i] == '[' || body[i] == '{'))
            values++;
    }
    return values;
}

static bool within_limits(const struct parse *p, const char *body, size_t length)
{
    if (length > p->limits.bytes)
        return fail(p, ERROR_DATA, "the answer is larger than %zu bytes; narrow the selector or ask for less time",
                    p->limits.bytes);
    /* A sample is three values. A series of ours has some dozen labels; the rest is room for statistics and warnings.
     */
    size_t most = 4 * p->limits.samples + 64 * p->limits.series + 10000;
    if (bound_values(body, length) > most)
        return fail(p, ERROR_DATA, "the answer holds more than %zu values; narrow the selector or ask for less time",
                    most);
    return true;
}

static bool only_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p == end;
}

static bool parse_body(struct parse *p, const char *body, size_t length)
{
    if (!within_limits(p, body, length))
        return false;
    const char *end = NULL;
    cJSON *document = utf8_valid(body, length) ? cJSON_ParseWithLengthOpts(body, length, &end, false) : NULL;
    bool ok;
    if (!document || !cJSON_IsObject(document) || !only_blanks(end, body + length))
        ok = fail_not_json(p, body, length);
    else
        ok = parse_document(p, document);
    cJSON_Delete(document);
    return ok;
}

static struct prom_limits with_defaults(const struct prom_limits *limits)
{
    struct prom_limits full = limits ? *limits : (struct prom_limits){0};
    full.bytes = full.bytes ? full.bytes : (size_t)64 << 20;
    full.series = full.series ? full.series : 20000;
    full.samples = full.samples ? full.samples : 1000000;
    return full;
}

struct prom_answer *prom_answer_parse(const struct prom_source *source, const struct prom_expect *expect,
                                      const struct prom_limits *limits, long http_status, const char *body,
                                      size_t length, struct error *err)
{
    struct parse p = {.source = source,
                      .expect = *expect,
                      .limits = with_defaults(limits),
                      .http_status = http_status,
                      .answer = mem_alloc(1, sizeof(struct prom_answer)),
                      .err = err};
    if (parse_body(&p, body, length))
        return p.answer;
    prom_answer_free(p.answer);
    return NULL;
}

static void free_texts(char **texts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(texts[i]);
    free(texts);
}

static void free_series(struct prom_series *series)
{
    for (size_t i = 0; i < series->label_count; i++) {
        free(series->labels[i].name);
        free(series->labels[i].value);
    }
    free(series->labels);
    free(series->samples);
}

void prom_answer_free(struct prom_answer *answer)
{
    if (!answer)
        return;
    for (size_t i = 0; i < answer->series_count; i++)
        free_series(&answer->series[i]);
    free(answer->series);
    free(answer->string);
    free_texts(answer->warnings, answer->warning_count);
    free_texts(answer->infos, answer->info_count);
    free(answer);
}
