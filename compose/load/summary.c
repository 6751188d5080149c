/* The result: JSON for scripts, some lines for people. All times are milliseconds unless the name says otherwise. */
#include "compose/load/load.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <sys/resource.h>

static void add_number(cJSON *object, const char *name, double value)
{
    cJSON_AddNumberToObject(object, name, round(value * 1000) / 1000);
}

static void add_count(cJSON *object, const char *name, uint64_t count)
{
    cJSON_AddNumberToObject(object, name, (double)count);
}

static void add_spread(cJSON *parent, const char *name, const struct spread *spread)
{
    cJSON *object = cJSON_AddObjectToObject(parent, name);
    add_number(object, "p50", spread_quantile(spread, 0.5));
    add_number(object, "p90", spread_quantile(spread, 0.9));
    add_number(object, "p99", spread_quantile(spread, 0.99));
    add_number(object, "p99.9", spread_quantile(spread, 0.999));
    add_number(object, "max", spread->max);
}

static void add_status(cJSON *parent, const struct group *group)
{
    cJSON *object = cJSON_AddObjectToObject(parent, "status");
    for (int status = 0; status < STATUS_LIMIT; status++) {
        char name[16];
        snprintf(name, sizeof name, "%d", status);
        if (group->status[status] > 0)
            add_count(object, name, group->status[status]);
    }
}

static void add_groups(cJSON *parent, const char *name, const struct group_set *set)
{
    cJSON *object = cJSON_AddObjectToObject(parent, name);
    for (size_t i = 0; i < set->count; i++) {
        cJSON *group = cJSON_AddObjectToObject(object, set->groups[i].name);
        add_count(group, "answered", set->groups[i].answered);
        add_status(group, &set->groups[i]);
        add_spread(group, "latency_ms", &set->groups[i].latency);
    }
}

static void add_methods(cJSON *parent, const struct tally *tally)
{
    static const char *const names[LOAD_METHODS] = {[LOAD_GET] = "GET", [LOAD_POST] = "POST"};
    cJSON *object = cJSON_AddObjectToObject(parent, "methods");
    for (int m = 0; m < LOAD_METHODS; m++) {
        cJSON *method = cJSON_AddObjectToObject(object, names[m]);
        add_count(method, "due", tally->method_due[m]);
        add_count(method, "answered", tally->method_answered[m]);
        add_count(method, "failed", tally->method_due[m] - tally->method_answered[m]);
    }
}

static void add_failures(cJSON *parent, const struct tally *tally)
{
    cJSON *object = cJSON_AddObjectToObject(parent, "failures");
    for (int kind = 0; kind < FAILURES; kind++)
        add_count(object, failure_names[kind], tally->failures[kind]);
}

static double cpu_seconds(void)
{
    struct rusage use = {0};
    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static double achieved_rate(const struct tally *tally)
{
    return tally->sending_s > 0 ? (double)tally->sent / tally->sending_s : 0;
}

static void add_generator(cJSON *parent, const struct tally *tally)
{
    cJSON *object = cJSON_AddObjectToObject(parent, "generator");
    add_spread(object, "lateness_ms", &tally->lateness);
    add_number(object, "cpu_s", cpu_seconds());
    add_count(object, "in_flight_max", tally->in_flight_max);
    add_count(object, "connections_opened", tally->connections_opened);
    add_count(object, "resends_prevented", tally->resends_prevented);
    cJSON *queue = cJSON_AddObjectToObject(object, "queue");
    add_count(queue, "requests", tally->queued);
    add_count(queue, "longest", tally->queue_max);
    add_spread(queue, "wait_ms", &tally->queueing);
}

char *summary_json(const struct load_options *options, const struct tally *tally)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "schema", "haldane.load/1");
    cJSON_AddStringToObject(root, "url", options->url);
    add_number(root, "rate", options->rate);
    cJSON_AddStringToObject(root, "arrivals", options->poisson ? "poisson" : "uniform");
    add_count(root, "seed", options->seed);
    add_number(root, "sending_s", tally->sending_s);
    add_number(root, "elapsed_s", tally->elapsed_s);
    cJSON_AddBoolToObject(root, "interrupted", tally->interrupted);
    add_count(root, "due", tally->due);
    add_count(root, "sent", tally->sent);
    add_count(root, "answered", tally->all.answered);
    add_count(root, "failed", tally->failed);
    add_number(root, "achieved_rate", achieved_rate(tally));
    add_failures(root, tally);
    add_status(root, &tally->all);
    add_methods(root, tally);
    add_spread(root, "latency_ms", &tally->all.latency);
    add_groups(root, "tracks", &tally->tracks);
    add_groups(root, "versions", &tally->versions);
    add_generator(root, tally);
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    return text;
}

void summary_text(const struct tally *tally, struct strbuf *out)
{
    const struct spread *latency = &tally->all.latency;
    strbuf_printf(out, "due %llu, sent %llu (%.1f/s), answered %llu, failed %llu\n", (unsigned long long)tally->due,
                  (unsigned long long)tally->sent, achieved_rate(tally), (unsigned long long)tally->all.answered,
                  (unsigned long long)tally->failed);
    for (int kind = 0; kind < FAILURES; kind++)
        if (tally->failures[kind] > 0)
            strbuf_printf(out, "  failed, %s: %llu\n", failure_names[kind], (unsigned long long)tally->failures[kind]);
    for (int status = 0; status < STATUS_LIMIT; status++)
        if (tally->all.status[status] > 0)
            strbuf_printf(out, "  status %d: %llu\n", status, (unsigned long long)tally->all.status[status]);
    for (size_t i = 0; i < tally->tracks.count; i++)
        strbuf_printf(out, "  track %s: %llu\n", tally->tracks.groups[i].name,
                      (unsigned long long)tally->tracks.groups[i].answered);
    strbuf_printf(out, "latency ms: p50 %.1f, p90 %.1f, p99 %.1f, p99.9 %.1f, max %.1f\n",
                  spread_quantile(latency, 0.5), spread_quantile(latency, 0.9), spread_quantile(latency, 0.99),
                  spread_quantile(latency, 0.999), latency->max);
    strbuf_printf(out, "generator: late p99 %.2f ms, processor %.2f s of %.1f s\n",
                  spread_quantile(&tally->lateness, 0.99), cpu_seconds(), tally->elapsed_s);
}
