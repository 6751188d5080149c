/*
 * One look of 20 metrics against a Prometheus, ours and curl's, by turns: the same forms, the same answers.
 *
 *   bench_look URL WORK_FOLDER LOOKS     prints one JSON object; look.sh starts the Prometheus
 *
 * Ours is what a rollout does at every look, on a collector that has been used before: all queries of the policy, the
 * parsed answers and the exact increments; the fold by the judge and its verdict are timed beside it. curl is measured
 * in two ways: one process per look (`curl --parallel`, its start included, as a script would do it), and one process
 * for many looks, the answers thrown away; there its start and its connections cost next to nothing.
 */
#include "analyzer/collect/collect.h"
#include "analyzer/judge/judge.h"
#include "base/memory.h"
#include "base/strbuf.h"
#include "policies/load.h"

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

enum { METRICS = 20, LOOK_MS = 1000, RANGE_S = 17, LOOKS_A_PROCESS = 10, MANY_EVERY = 5 };

static const char selector[] = "{job=\"self\",handler=\"/api/v1/query\",$track}";

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Half of the metrics count errors, half compare latencies; all of them see the queries of this very program. */
static struct policy *make_policy(const char *url)
{
    struct strbuf text = {0};
    strbuf_printf(&text,
                  "version: 1\nservice: bench\nprometheus: {url: '%s'}\n"
                  "tracks: {stable: 'track=\"stable\"', canary: 'track=\"canary\"'}\n"
                  "look: 1s\nsettle: 1s\nwarmup: 0s\ntraffic: {driver: none}\n"
                  "steps: [{weight: 50%%, min: 1s, max: 1h}]\nmetrics:\n",
                  url);
    for (int m = 0; m < METRICS; m++) {
        if (m % 2)
            strbuf_printf(
                &text, "- {name: m%d, type: latency, histogram: 'prometheus_http_request_duration_seconds_bucket%s'}\n",
                m, selector);
        else
            strbuf_printf(&text,
                          "- {name: m%d, type: errors, total: 'prometheus_http_requests_total%s', "
                          "failed: 'prometheus_http_requests_total{code=~\"5..\",%s'}\n",
                          m, selector, selector + 1);
    }
    struct policy_problems problems = {0};
    struct error err;
    struct policy *policy = policy_load_text(text.text, text.length, "bench", NULL, 0, NULL, &problems, &err);
    if (!policy) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    policy_problems_free(&problems);
    strbuf_free(&text);
    return policy;
}

static void write_query(FILE *file, bool first, const struct policy *policy, const char *text, enum track track,
                        int64_t at_ms)
{
    char *expanded = policy_expand(policy, text, track);
    char *query = mem_printf("%s[%ds]", expanded, RANGE_S);
    char *escaped = curl_easy_escape(NULL, query, 0);
    fprintf(file, "%surl = \"%s/api/v1/query\"\noutput = \"/dev/null\"\nsilent\nfail\n", first ? "" : "next\n",
            policy->prometheus.url);
    fprintf(file,
            "data = \"query=%s&time=%" PRId64 ".000&timeout=10.000&partial_response=false&dedup=true"
            "&max_source_resolution=0s\"\n",
            escaped, at_ms / 1000);
    curl_free(escaped);
    free(query);
    free(expanded);
}

/* curl's configuration: the same requests, `looks` times over. Returns how many queries a look has. */
static int write_config(const char *path, const struct policy *policy, int looks)
{
    FILE *file = fopen(path, "w");
    if (!file)
        exit(1);
    int count = 0;
    int64_t at_ms = wall_ms();
    for (int i = 0; i < looks; i++) {
        for (int t = 0; t < TRACKS; t++) {
            for (size_t m = 0; m < policy->metric_count; m++) {
                const struct policy_metric *metric = &policy->metrics[m];
                const char *texts[] = {metric->histogram, metric->total, metric->failed};
                for (int k = 0; k < 3; k++)
                    if (texts[k])
                        write_query(file, count++ == 0, policy, texts[k], (enum track)t, at_ms);
            }
        }
    }
    fclose(file);
    return count / looks;
}

/* One look that ended a moment ago; the time of its collection, and that of its fold and verdict. */
static double ours(struct collector *collector, struct evidence *evidence, struct judge *judge, double *fold_ms)
{
    static int64_t last_ms;
    int64_t end_ms = (wall_ms() - LOOK_MS) / LOOK_MS * LOOK_MS, got_ms;
    int64_t from_ms = end_ms - LOOK_MS;
    struct error err;
    struct evidence *look_evidence = evidence_new("bench", LOOK_MS);
    double begun = now_ms();
    if (!collect(collector, from_ms, end_ms, LOOK_MS, look_evidence, &got_ms, &err)) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    double took = now_ms() - begun;
    *fold_ms = 0;
    if (end_ms > last_ms) {
        char *json = evidence_to_json(look_evidence);
        begun = now_ms();
        if (evidence_append_json(evidence, json, strlen(json), &err)) {
            struct look look = {0};
            int64_t after_ms = last_ms ? last_ms : INT64_MIN;
            while (evidence_next_look(evidence, &after_ms, &look))
                judge_observe(judge, evidence, &look);
            look_free(&look);
            verdict_free(judge_verdict(judge, NULL, EFFECTS_LIVE));
        }
        *fold_ms = now_ms() - begun;
        free(json);
        last_ms = end_ms;
    }
    evidence_free(look_evidence);
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
        fprintf(stderr, "usage: bench_look URL WORK_FOLDER LOOKS\n");
        return 64;
    }
    size_t looks = (size_t)atoi(argv[3]), blocks = 0, folds = 0;
    char *one = mem_printf("%s/curl-one.conf", argv[2]), *many = mem_printf("%s/curl-many.conf", argv[2]);
    struct policy *policy = make_policy(argv[1]);
    int queries = write_config(one, policy, 1);
    write_config(many, policy, LOOKS_A_PROCESS);
    struct error err;
    struct collector *collector = collector_new(policy, &err);
    if (!collector) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    struct evidence *evidence = evidence_new("bench", LOOK_MS);
    evidence_add_weight(evidence, 1, 5000);
    struct judge *judge = judge_new(policy);
    double *our = mem_alloc(looks, sizeof *our), *single = mem_alloc(looks, sizeof *single),
           *kept = mem_alloc(looks, sizeof *kept), *fold = mem_alloc(looks, sizeof *fold), fold_ms;
    ours(collector, evidence, judge, &fold_ms);
    for (size_t i = 0; i < looks; i++) {
        our[i] = ours(collector, evidence, judge, &fold_ms);
        if (fold_ms > 0)
            fold[folds++] = fold_ms;
        single[i] = curls(one);
        if (i % MANY_EVERY == 0)
            kept[blocks++] = curls(many) / LOOKS_A_PROCESS;
    }
    double our_ms = median(our, looks), single_ms = median(single, looks), kept_ms = median(kept, blocks);
    printf("{\"metrics\": %d, \"queries\": %d, \"looks\": %zu, \"ours_ms\": %.3f, \"fold_ms\": %.3f, "
           "\"curl_process_per_look_ms\": %.3f, \"curl_one_process_ms\": %.3f, \"ratio_process_per_look\": %.3f, "
           "\"ratio_one_process\": %.3f}\n",
           METRICS, queries, looks, our_ms, folds ? median(fold, folds) : 0, single_ms, kept_ms, our_ms / single_ms,
           our_ms / kept_ms);
    judge_free(judge);
    evidence_free(evidence);
    collector_free(collector);
    policy_free(policy);
    free(our);
    free(single);
    free(kept);
    free(fold);
    free(one);
    free(many);
    return 0;
}
