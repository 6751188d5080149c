/*
 * The shop's metrics. All is counted and written by one thread, so a scrape sees a request in all of its series or in
 * none. Series that can occur are there from the start at 0: the first failure is then an increment, not a new series.
 */
#include "compose/shop/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const unsigned codes[CODE_COUNT] = {200, 201, 404, 413, 500, 503};
static const char *const methods[METHOD_COUNT] = {"GET", "HEAD", "POST"};

static const bool occurs[METHOD_COUNT][CODE_COUNT] = {
    [METHOD_GET] = {true, false, true, false, true, true},
    [METHOD_HEAD] = {true, false, true, false, true, true},
    [METHOD_POST] = {true, true, true, true, true, true},
};

static const char *const outcomes[CACHE_OUTCOMES] = {"hit", "miss", "error"};

/* Each bound is about 1.35 times the one before, so that a latency of 1.4 times moves most requests by a bucket. */
static const struct {
    double seconds;
    const char *label;
} bounds[LATENCY_BUCKETS] = {
    {0.005, "0.005"}, {0.00675, "0.00675"}, {0.009, "0.009"}, {0.012, "0.012"}, {0.016, "0.016"}, {0.022, "0.022"},
    {0.03, "0.03"},   {0.04, "0.04"},       {0.054, "0.054"}, {0.073, "0.073"}, {0.1, "0.1"},     {0.135, "0.135"},
    {0.18, "0.18"},   {0.245, "0.245"},     {0.33, "0.33"},   {0.45, "0.45"},   {0.6, "0.6"},     {0.82, "0.82"},
    {1.1, "1.1"},     {1.5, "1.5"},         {2, "2"},         {2.5, "2.5"},
};

static const double database_bounds[DATABASE_BUCKETS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2};

void metrics_init(struct shop_metrics *metrics)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    *metrics = (struct shop_metrics){.started_at = (double)now.tv_sec + (double)now.tv_nsec / 1e9};
}

void metrics_count(struct shop_metrics *metrics, enum shop_method method, unsigned code, double seconds)
{
    size_t c = 0;
    while (c < CODE_COUNT - 1 && codes[c] != code)
        c++;
    metrics->requests[method][c]++;
    size_t b = 0;
    while (b < LATENCY_BUCKETS && seconds > bounds[b].seconds)
        b++;
    metrics->bucket[b]++;
    metrics->seconds_sum += seconds;
}

void metrics_database(struct shop_metrics *metrics, double seconds, bool answered)
{
    size_t b = 0;
    while (b < DATABASE_BUCKETS && seconds > database_bounds[b])
        b++;
    metrics->database_bucket[b]++;
    metrics->database_seconds_sum += seconds;
    if (!answered)
        metrics->database_errors++;
}

void metrics_database_refused(struct shop_metrics *metrics)
{
    metrics->database_errors++;
}

void metrics_cache(struct shop_metrics *metrics, enum cache_outcome outcome)
{
    metrics->cache_requests[outcome]++;
}

static void write_requests(const struct shop_metrics *metrics, const char *version, struct strbuf *out)
{
    strbuf_puts(out, "# HELP http_requests_total Business requests answered.\n# TYPE http_requests_total counter\n");
    for (size_t m = 0; m < METHOD_COUNT; m++)
        for (size_t c = 0; c < CODE_COUNT; c++)
            if (occurs[m][c])
                strbuf_printf(out, "http_requests_total{version=\"%s\",method=\"%s\",code=\"%u\"} %" PRIu64 "\n",
                              version, methods[m], codes[c], metrics->requests[m][c]);
}

static void write_latency(const struct shop_metrics *metrics, const char *version, struct strbuf *out)
{
    static const char name[] = "http_request_duration_seconds";
    strbuf_printf(out, "# HELP %s Time from a business request's header to its answer.\n# TYPE %s histogram\n", name,
                  name);
    uint64_t sum = 0;
    for (size_t b = 0; b <= LATENCY_BUCKETS; b++) {
        sum += metrics->bucket[b];
        strbuf_printf(out, "%s_bucket{version=\"%s\",le=\"%s\"} %" PRIu64 "\n", name, version,
                      b < LATENCY_BUCKETS ? bounds[b].label : "+Inf", sum);
    }
    strbuf_printf(out, "%s_sum{version=\"%s\"} %.17g\n", name, version, metrics->seconds_sum);
    strbuf_printf(out, "%s_count{version=\"%s\"} %" PRIu64 "\n", name, version, sum);
}

static void write_up(const struct shop_metrics *metrics, struct strbuf *out)
{
    const struct dependency *const dependencies[] = {metrics->database, metrics->cache};
    if (!metrics->database && !metrics->cache)
        return;
    strbuf_puts(out, "# HELP shop_dependency_up Whether a dependency can be used.\n# TYPE shop_dependency_up gauge\n");
    for (size_t d = 0; d < sizeof dependencies / sizeof *dependencies; d++)
        if (dependencies[d])
            strbuf_printf(out, "shop_dependency_up{dependency=\"%s\"} %d\n", dependencies[d]->name,
                          dependencies[d]->up);
}

static void write_database(const struct shop_metrics *metrics, struct strbuf *out)
{
    static const char name[] = "shop_database_seconds";
    if (!metrics->database)
        return;
    strbuf_printf(out, "# HELP %s Time of a query, the wait for a connection included.\n# TYPE %s histogram\n", name,
                  name);
    uint64_t sum = 0;
    for (size_t b = 0; b < DATABASE_BUCKETS; b++) {
        sum += metrics->database_bucket[b];
        strbuf_printf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, database_bounds[b], sum);
    }
    sum += metrics->database_bucket[DATABASE_BUCKETS];
    strbuf_printf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, sum);
    strbuf_printf(out, "%s_sum %.17g\n%s_count %" PRIu64 "\n", name, metrics->database_seconds_sum, name, sum);
    strbuf_puts(out, "# HELP shop_database_errors_total Queries without an answer.\n"
                     "# TYPE shop_database_errors_total counter\n");
    strbuf_printf(out, "shop_database_errors_total %" PRIu64 "\n", metrics->database_errors);
}

static void write_cache(const struct shop_metrics *metrics, struct strbuf *out)
{
    if (!metrics->cache)
        return;
    strbuf_puts(out, "# HELP shop_cache_requests_total Look-ups in the cache.\n"
                     "# TYPE shop_cache_requests_total counter\n");
    for (size_t o = 0; o < CACHE_OUTCOMES; o++)
        strbuf_printf(out, "shop_cache_requests_total{result=\"%s\"} %" PRIu64 "\n", outcomes[o],
                      metrics->cache_requests[o]);
}

static uint64_t resident_bytes(void)
{
    uint64_t total = 0;
    uint64_t resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file) {
        if (fscanf(file, "%" SCNu64 " %" SCNu64, &total, &resident) != 2)
            resident = 0;
        fclose(file);
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static double cpu_seconds(void)
{
    struct rusage use = {0};
    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static void write_process(const struct shop_metrics *metrics, const char *version, struct strbuf *out)
{
    strbuf_puts(out, "# HELP http_requests_in_flight Business requests not answered yet.\n"
                     "# TYPE http_requests_in_flight gauge\n");
    strbuf_printf(out, "http_requests_in_flight %" PRIu64 "\n", metrics->in_flight);
    strbuf_puts(out, "# HELP shop_build_info Which version runs.\n# TYPE shop_build_info gauge\n");
    strbuf_printf(out, "shop_build_info{version=\"%s\"} 1\n", version);
    strbuf_puts(out, "# HELP process_start_time_seconds Start of the process since the Unix epoch.\n"
                     "# TYPE process_start_time_seconds gauge\n");
    strbuf_printf(out, "process_start_time_seconds %.3f\n", metrics->started_at);
    strbuf_puts(out, "# HELP process_resident_memory_bytes Memory in use.\n"
                     "# TYPE process_resident_memory_bytes gauge\n");
    strbuf_printf(out, "process_resident_memory_bytes %" PRIu64 "\n", resident_bytes());
    strbuf_puts(out, "# HELP process_cpu_seconds_total Processor time used.\n"
                     "# TYPE process_cpu_seconds_total counter\n");
    strbuf_printf(out, "process_cpu_seconds_total %.6f\n", cpu_seconds());
}

void metrics_write(const struct shop_metrics *metrics, const char *version, struct strbuf *out)
{
    write_requests(metrics, version, out);
    write_latency(metrics, version, out);
    write_up(metrics, out);
    write_database(metrics, out);
    write_cache(metrics, out);
    write_process(metrics, version, out);
}
