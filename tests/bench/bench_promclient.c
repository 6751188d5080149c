/*
 * One look of 20 queries against a Prometheus, ours and curl's, by turns: the same forms, the same answers.
 *
 *   bench_promclient URL WORK_FOLDER LOOKS     prints one JSON object; promclient.sh starts the Prometheus
 *
 * Ours is a batch on a client that has been used before, as in a rollout, up to the parsed answers. curl is measured in
 * two ways: one process per look (`curl --parallel`, its start included, as a script would do it), and one process for
 * many looks, the answers thrown away; there its start and its connections cost next to nothing.
 */
#include "base/memory.h"
#include "promclient/client.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { QUERIES = 20, LOOKS_A_PROCESS = 25, MANY_EVERY = 5 };

static const char *const selectors[] = {
    "prometheus_http_requests_total[30s]",
    "prometheus_http_requests_total{code=~\"5..\"}[30s]",
    "prometheus_http_request_duration_seconds_bucket[30s]",
    "prometheus_http_response_size_bytes_bucket[30s]",
    "prometheus_target_interval_length_seconds_count[30s]",
    "prometheus_tsdb_head_samples_appended_total[30s]",
    "net_conntrack_dialer_conn_attempted_total[30s]",
    "go_memstats_mallocs_total[30s]",
    "process_resident_memory_bytes",
    "sum(rate(prometheus_http_requests_total[30s]))",
};

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void fill(struct prom_query queries[QUERIES])
{
    int64_t at_ms = (int64_t)time(NULL) * 1000;
    for (size_t i = 0; i < QUERIES; i++)
        queries[i] =
            (struct prom_query){.text = selectors[i % (sizeof selectors / sizeof selectors[0])], .at_ms = at_ms};
}

/* curl's configuration: the same requests, `looks` times over. */
static void write_config(const char *path, const char *url, const struct prom_query queries[QUERIES], int looks)
{
    FILE *file = fopen(path, "w");
    if (!file)
        exit(1);
    for (int i = 0; i < looks * QUERIES; i++) {
        const struct prom_query *query = &queries[i % QUERIES];
        char *escaped = curl_easy_escape(NULL, query->text, 0);
        fprintf(file, "%surl = \"%s/api/v1/query\"\noutput = \"/dev/null\"\nsilent\nfail\n", i ? "next\n" : "", url);
        fprintf(file,
                "data = \"query=%s&time=%" PRId64 ".000&timeout=10.000&partial_response=false&dedup=true"
                "&max_source_resolution=0s\"\n",
                escaped, query->at_ms / 1000);
        curl_free(escaped);
    }
    fclose(file);
}

static double ours(struct prom_client *client, const struct prom_query queries[QUERIES], size_t *samples)
{
    double begun = now_ms();
    struct prom_batch *batch = prom_query_all(client, queries, QUERIES);
    double took = now_ms() - begun;
    *samples = 0;
    for (size_t i = 0; i < QUERIES; i++) {
        const struct prom_result *result = prom_batch_result(batch, i);
        if (!result->answer) {
            fprintf(stderr, "%s\n", result->error.text);
            exit(1);
        }
        for (size_t s = 0; s < result->answer->series_count; s++)
            *samples += result->answer->series[s].sample_count;
    }
    prom_batch_free(batch);
    return took;
}

static double curls(const char *config)
{
    char *arguments[] = {(char *)"curl",
                         (char *)"--parallel",
                         (char *)"--parallel-max",
                         (char *)"16",
                         (char *)"--config",
                         (char *)(uintptr_t)config,
                         NULL};
    pid_t pid;
    int status;
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0); /* the progress meter */
    double begun = now_ms();
    if (posix_spawnp(&pid, "curl", &files, NULL, arguments, environ) != 0 || waitpid(pid, &status, 0) != pid ||
        status) {
        fprintf(stderr, "curl failed\n");
        exit(1);
    }
    posix_spawn_file_actions_destroy(&files);
    return now_ms() - begun;
}

static int by_size(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(double *times, size_t n)
{
    qsort(times, n, sizeof *times, by_size);
    return n % 2 ? times[n / 2] : (times[n / 2 - 1] + times[n / 2]) / 2;
}

int main(int argc, char **argv)
{
    if (argc != 4 || atoi(argv[3]) < 1) {
        fprintf(stderr, "usage: bench_promclient URL WORK_FOLDER LOOKS\n");
        return 64;
    }
    const char *url = argv[1];
    size_t looks = (size_t)atoi(argv[3]), samples;
    char *one = mem_printf("%s/curl-one.conf", argv[2]), *many = mem_printf("%s/curl-many.conf", argv[2]);
    struct prom_query queries[QUERIES];
    fill(queries);
    write_config(one, url, queries, 1);
    write_config(many, url, queries, LOOKS_A_PROCESS);
    struct error err;
    struct prom_client *client = prom_client_new(&(struct prom_config){.url = url}, &err);
    if (!client) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    double *our = mem_alloc(looks, sizeof *our), *single = mem_alloc(looks, sizeof *single),
           *kept = mem_alloc(looks, sizeof *kept);
    size_t blocks = 0;
    ours(client, queries, &samples);
    for (size_t i = 0; i < looks; i++) {
        our[i] = ours(client, queries, &samples);
        single[i] = curls(one);
        if (i % MANY_EVERY == 0)
            kept[blocks++] = curls(many) / LOOKS_A_PROCESS;
    }
    double our_ms = median(our, looks), single_ms = median(single, looks), kept_ms = median(kept, blocks);
    printf("{\"queries\": %d, \"samples\": %zu, \"looks\": %zu, \"ours_ms\": %.3f, \"curl_process_per_look_ms\": %.3f, "
           "\"curl_one_process_ms\": %.3f, \"ratio_process_per_look\": %.3f, \"ratio_one_process\": %.3f}\n",
           QUERIES, samples, looks, our_ms, single_ms, kept_ms, our_ms / single_ms, our_ms / kept_ms);
    prom_client_free(client);
    free(our);
    free(single);
    free(kept);
    free(one);
    free(many);
    return 0;
}
