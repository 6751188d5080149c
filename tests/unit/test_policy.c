/*
 * What a user may rely on when a policy is read: every mistake is found at its place with its mend, a good policy means
 * exactly what docs/policy.md says, and nothing in the file or in a setting can make it mean something else.
 *
 * The rules are one folder each in tests/cases/policy: a policy and the exact problems it must give.
 */
#include "base/memory.h"
#include "base/strbuf.h"
#include "policies/load.h"
#include "policies/selector.h"
#include "policies/suggest.h"
#include "policies/utf8.h"
#include "policies/values.h"

#include <dirent.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char *const environment[] = {"PORT=9090",
                                    "EVIL=x\nservice: evil",
                                    "BAD=a\xff",
                                    "ONE=1",
                                    "LOOK=5s",
                                    "EMPTY=",
                                    "PROMETHEUS_URL=http://127.0.0.1:19090/",
                                    "HAPROXY_SOCKET=127.0.0.1:19999",
                                    NULL};
static const struct policy_setting settings[] = {{"PORT", "9091"}};

static const char minimal[] = "version: 1\n"
                              "service: shop\n"
                              "prometheus: {url: http://127.0.0.1:9090/}\n"
                              "tracks: {stable: 'track=\"stable\"', canary: 'track=\"canary\"'}\n"
                              "traffic: {driver: none}\n"
                              "metrics:\n"
                              "  - {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}'}\n";

static char *source_path(const char *below)
{
    const char *root = getenv("HALDANE_SOURCE");
    if (!root)
        fail_msg("HALDANE_SOURCE is not set; it must name the root of the source tree");
    return mem_printf("%s/%s", root, below);
}

static struct policy *load(const char *path, struct policy_problems *problems, struct error *err)
{
    return policy_load_file(path, settings, 1, environment, problems, err);
}

static struct policy *must_load_text(const char *text)
{
    struct policy_problems problems;
    struct error err = {0};
    struct policy *policy = policy_load_text(text, strlen(text), "p.yaml", settings, 1, environment, &problems, &err);
    if (!policy)
        fail_msg("%s", err.text);
    assert_int_equal(problems.count, 0);
    policy_problems_free(&problems);
    return policy;
}

static struct policy *must_load(const char *below)
{
    char *path = source_path(below);
    struct policy_problems problems;
    struct error err = {0};
    struct policy *policy = load(path, &problems, &err);
    if (!policy)
        fail_msg("%s", err.text);
    policy_problems_free(&problems);
    free(path);
    return policy;
}

/* The first problem of a text that must not load. */
static void assert_problem(const char *text, size_t length, const char *part)
{
    struct policy_problems problems;
    struct error err = {0};
    assert_null(policy_load_text(text, length, "p.yaml", NULL, 0, NULL, &problems, &err));
    assert_int_equal(err.code, ERROR_DATA);
    assert_true(problems.count > 0);
    if (!strstr(problems.items[0].text, part))
        fail_msg("expected a problem with '%s', got: %s", part, problems.items[0].text);
    policy_problems_free(&problems);
}

/* --- the case folders ------------------------------------------------------------------------------------------- */

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("%s cannot be read", path);
    struct strbuf text = {0};
    char chunk[4096];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, file)) > 0)
        strbuf_add(&text, chunk, n);
    fclose(file);
    return strbuf_take(&text);
}

/* What a person sees of the result: `ok`, or one line per problem. */
static char *outcome(const char *path)
{
    struct policy_problems problems;
    struct error err = {0};
    struct policy *policy = load(path, &problems, &err);
    struct strbuf out = {0};
    for (size_t i = 0; i < problems.count; i++)
        strbuf_printf(&out, "%zu:%zu: %s\n", problems.items[i].line, problems.items[i].column, problems.items[i].text);
    if (policy) {
        strbuf_puts(&out, "ok\n");
    } else {
        assert_int_equal(err.code, ERROR_DATA);
        char *first = mem_printf("%s:%zu:%zu: %.900s", path, problems.items[0].line, problems.items[0].column,
                                 problems.items[0].text);
        assert_memory_equal(err.text, first, strlen(err.text));
        free(first);
    }
    policy_free(policy);
    policy_problems_free(&problems);
    return strbuf_take(&out);
}

static bool case_holds(const char *folder)
{
    char *policy = mem_printf("%s/policy.yaml", folder), *expect = mem_printf("%s/expect", folder);
    char *expected = read_file(expect), *got = outcome(policy);
    bool holds = strcmp(expected, got) == 0;
    if (!holds)
        print_error("%s: expected\n%sgot\n%s", folder, expected, got);
    free(policy);
    free(expect);
    free(expected);
    free(got);
    return holds;
}

static void every_case_gives_its_exact_problems(void **state)
{
    (void)state;
    char *folder = source_path("tests/cases/policy");
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    size_t cases = 0, failed = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        char *path = mem_printf("%s/%s", folder, entry->d_name);
        failed += !case_holds(path);
        cases++;
        free(path);
    }
    closedir(dir);
    free(folder);
    assert_int_equal(failed, 0);
    assert_true(cases >= 200);
}

/* --- what a good policy means ------------------------------------------------------------------------------------ */

static void assert_step(const struct policy_step *step, uint32_t weight_bp, int64_t min_ms, int64_t max_ms,
                        int64_t bake_ms, bool pause)
{
    assert_int_equal(step->weight_bp, weight_bp);
    assert_int_equal(step->min_ms, min_ms);
    assert_int_equal(step->max_ms, max_ms);
    assert_int_equal(step->bake_ms, bake_ms);
    assert_int_equal(step->pause, pause);
}

static void defaults_are_those_of_the_reference(void **state)
{
    (void)state;
    struct policy *p = must_load_text(minimal);
    assert_string_equal(p->service, "shop");
    assert_string_equal(p->prometheus.url, "http://127.0.0.1:9090");
    assert_int_equal(p->prometheus.timeout_ms, 10000);
    assert_int_equal(p->look_ms, 15000);
    assert_int_equal(p->settle_ms, 30000);
    assert_int_equal(p->warmup_ms, 60000);
    assert_int_equal(p->traffic.driver, DRIVER_NONE);
    assert_int_equal(p->traffic.unattended_ms, 120000);
    assert_int_equal(p->step_count, 5);
    assert_step(&p->steps[0], 500, 120000, 1800000, 0, false);
    assert_step(&p->steps[1], 1000, 300000, 1800000, 0, false);
    assert_step(&p->steps[2], 2500, 300000, 1800000, 0, false);
    assert_step(&p->steps[3], 5000, 300000, 1800000, 0, false);
    assert_step(&p->steps[4], 10000, 0, 0, 600000, false);
    assert_true(p->false_abort == 0.05 && p->false_promote == 0.05);
    assert_int_equal(p->exposure, EXPOSURE_SCALED);
    assert_int_equal(p->undecided, UNDECIDED_HOLD);
    assert_int_equal(p->deadline_ms, 4 * 3600000);
    assert_int_equal(p->retention_ms, 90 * 24 * INT64_C(3600000));
    assert_int_equal(p->metric_count, 1);
    const struct policy_metric *m = &p->metrics[0];
    assert_true(m->critical && m->budget == 1 && m->on_no_data == NO_DATA_HOLD);
    assert_true(m->abort_ratio == 1.1 && m->abort_absolute == 0);
    assert_true(m->promote_ratio == 1.5 && m->promote_absolute == 0.001);
    assert_int_equal(p->setting_count, 0);
    assert_string_equal(p->source, minimal);
    assert_int_equal(p->exchangeable, EXCHANGEABLE_LOOKS);
    assert_true(p->crash.rate == 0.1 && p->crash.times == 3 && p->crash.requests == 20);
    assert_int_equal(p->guardrail_count, 0);
    assert_int_equal(p->kayenta.group_count, 0);
    policy_free(p);
}

static void latency_has_its_defaults(void **state)
{
    (void)state;
    char *text = mem_printf("%s  - {name: latency, type: latency, histogram: 'x_bucket{$track}'}\n", minimal);
    struct policy *p = must_load_text(text);
    const struct policy_metric *m = &p->metrics[1];
    assert_int_equal(m->type, METRIC_LATENCY);
    assert_int_equal(m->quantile_count, 4);
    assert_true(m->quantiles[0] == 0.5 && m->quantiles[1] == 0.9 && m->quantiles[2] == 0.95 && m->quantiles[3] == 0.99);
    assert_true(m->abort_slower == 0.05 && m->promote_slower == 0.25);
    assert_true(p->metrics[0].budget == 0.5 && m->budget == 0.5);
    policy_free(p);
    free(text);
}

static void assert_all_keys_prometheus(const struct policy_prometheus *p)
{
    assert_string_equal(p->url, "https://prometheus.example.net/team");
    assert_int_equal(p->timeout_ms, 3000);
    assert_int_equal(p->header_count, 2);
    assert_string_equal(p->headers[0].name, "X-Scope-OrgID");
    assert_string_equal(p->headers[0].value, "team-a");
    assert_string_equal(p->headers[1].name, "X-Other");
    assert_string_equal(p->username, "haldane");
    assert_string_equal(p->password_file, "/etc/haldane/password");
    assert_null(p->bearer_token_file);
    assert_string_equal(p->ca_file, "/etc/ca.pem");
    assert_string_equal(p->cert_file, "/etc/c.pem");
    assert_string_equal(p->key_file, "/etc/k.pem");
    assert_string_equal(p->server_name, "prom");
}

static void assert_all_keys_traffic(const struct policy_traffic *t)
{
    assert_int_equal(t->driver, DRIVER_HAPROXY);
    assert_int_equal(t->balancer_count, 1);
    const struct policy_balancer *b = &t->balancers[0];
    assert_string_equal(b->socket, "127.0.0.1:9999");
    assert_string_equal(b->master, "/run/haproxy/master.sock");
    assert_string_equal(b->backend, "be_shop");
    assert_string_equal(b->state_file, "/var/lib/haproxy/state");
    assert_null(b->map);
    assert_int_equal(policy_servers(t, TRACK_STABLE), 2);
    assert_int_equal(policy_servers(t, TRACK_CANARY), 2);
    assert_string_equal(b->servers[TRACK_STABLE][1], "s2");
    assert_string_equal(b->servers[TRACK_CANARY][0], "c1");
    assert_int_equal(t->unattended_ms, 300000);
    assert_int_equal(t->drift, DRIFT_HOLD);
}

static void assert_all_keys_metrics(const struct policy *p)
{
    assert_int_equal(p->metric_count, 6);
    const struct policy_metric *logins = &p->metrics[0], *latency = &p->metrics[1], *search = &p->metrics[2];
    assert_string_equal(logins->name, "failed logins");
    assert_string_equal(logins->total, "logins_total{$track}");
    assert_string_equal(logins->failed, "logins_failed_total{$track}");
    assert_true(logins->abort_ratio == 1.2 && logins->abort_absolute == 0.0005);
    assert_true(logins->promote_ratio == 1.3 && logins->promote_absolute == 0.002);
    assert_true(logins->critical && logins->budget == 0.25 && logins->on_no_data == NO_DATA_ABORT);
    assert_string_equal(latency->histogram, "login_seconds_bucket{$track}");
    assert_int_equal(latency->quantile_count, 2);
    assert_true(latency->quantiles[0] == 0.75 && latency->quantiles[1] == 0.999);
    assert_true(latency->abort_slower == 0.1 && latency->promote_slower == 1.2);
    assert_true(latency->critical && latency->budget == 0.5 && latency->on_no_data == NO_DATA_IGNORE);
    assert_true(!search->critical && search->budget == 0);
}

static void assert_all_keys_gauge(const struct policy_metric *memory)
{
    assert_int_equal(memory->type, METRIC_GAUGE);
    assert_string_equal(memory->query, "process_resident_memory_bytes{$track}");
    assert_int_equal(memory->direction, DIRECTION_EITHER);
    assert_int_equal(memory->method, GAUGE_MANN_WHITNEY);
    assert_true(memory->abort_ratio == 1.5 && memory->abort_absolute == 1048576);
    assert_true(memory->critical && memory->budget == 0.25);
    assert_int_equal(memory->on_no_data, NO_DATA_IGNORE);
}

static void assert_all_keys_kayenta_metric(const struct policy_metric *hits)
{
    const struct policy_kayenta_metric *k = &hits->kayenta;
    assert_int_equal(hits->direction, DIRECTION_DECREASE);
    assert_int_equal(hits->method, GAUGE_KAYENTA);
    assert_int_equal(hits->on_no_data, NO_DATA_ABORT);
    assert_true(k->nan_replace && k->must_have_data && k->remove_outliers && k->cles);
    assert_true(k->outlier_factor == 2.5);
    assert_true(k->allowed_increase == 0.6 && k->allowed_decrease == 0.4);
    assert_true(k->critical_increase == 0.9 && k->critical_decrease == 0.1);
    assert_int_equal(k->group_count, 2);
    assert_string_equal(k->groups[0], "Cache");
    assert_string_equal(k->groups[1], "Saturation");
}

/* Weights are kept as they are written: what is left is shared among the groups without one when the score is made. */
static void assert_all_keys_kayenta(const struct policy_kayenta *k)
{
    assert_int_equal(k->group_count, 2);
    assert_string_equal(k->groups[0].name, "Cache");
    assert_true(k->groups[0].weight == 70);
    assert_string_equal(k->groups[1].name, "threads");
    assert_true(k->groups[1].weight == 12.5);
    assert_true(k->pass == 90 && k->marginal == 60);
}

static void assert_all_keys_guardrails(const struct policy *p)
{
    assert_int_equal(p->guardrail_count, 2);
    const struct policy_guardrail *rate = &p->guardrails[0], *value = &p->guardrails[1];
    assert_string_equal(rate->name, "error budget");
    assert_int_equal(rate->kind, GUARDRAIL_RATE);
    assert_string_equal(rate->failed, "logins_failed_total{$canary}");
    assert_string_equal(rate->total, "logins_total{$track}");
    assert_true(rate->above == 0.025 && rate->for_ms == 0 && !rate->query);
    assert_string_equal(value->name, "queue");
    assert_int_equal(value->kind, GUARDRAIL_VALUE);
    assert_string_equal(value->query, "max(queue_depth{$canary})");
    assert_true(value->above == 1000 && value->for_ms == 90000 && !value->failed && !value->total);
}

static void every_key_arrives(void **state)
{
    (void)state;
    struct policy *p = must_load("tests/cases/policy/good-all-keys/policy.yaml");
    assert_string_equal(p->service, "shop-eu.v2");
    assert_all_keys_prometheus(&p->prometheus);
    assert_string_equal(p->matchers[TRACK_STABLE], "track=\"stable\",zone=~\"a|b\"");
    assert_string_equal(p->matchers[TRACK_CANARY], "track=\"canary\"");
    assert_int_equal(p->look_ms, 30000);
    assert_int_equal(p->settle_ms, 10000);
    assert_int_equal(p->warmup_ms, 90000);
    assert_all_keys_traffic(&p->traffic);
    assert_int_equal(p->step_count, 3);
    assert_step(&p->steps[0], 1, 60000, 120000, 0, false);
    assert_step(&p->steps[1], 5000, 180000, 2400000, 0, true);
    assert_step(&p->steps[2], 7500, 0, 0, 60000, false);
    assert_true(p->false_abort == 0.01 && p->false_promote == 0.1);
    assert_int_equal(p->exposure, EXPOSURE_FIXED);
    assert_int_equal(p->undecided, UNDECIDED_ABORT);
    assert_int_equal(p->deadline_ms, 24 * 3600000);
    assert_int_equal(p->retention_ms, 30 * 24 * INT64_C(3600000));
    assert_all_keys_metrics(p);
    assert_all_keys_gauge(&p->metrics[3]);
    assert_all_keys_kayenta_metric(&p->metrics[4]);
    assert_all_keys_kayenta(&p->kayenta);
    assert_all_keys_guardrails(p);
    assert_int_equal(p->exchangeable, EXCHANGEABLE_REQUESTS);
    assert_true(p->crash.rate == 0.25 && p->crash.times == 5 && p->crash.requests == 100);
    policy_free(p);
}

/* `words` end with NULL. */
static void assert_command(const struct policy_command *command, const char *const *words)
{
    size_t count = 0;
    for (; words[count]; count++) {
        assert_true(count < command->count);
        assert_string_equal(command->words[count], words[count]);
    }
    assert_int_equal(command->count, count);
    assert_null(command->words[count]);
}

static struct policy *must_load_traffic(const char *traffic)
{
    static const char none[] = "traffic: {driver: none}\n";
    const char *at = strstr(minimal, none);
    char *text = mem_printf("%.*s%s\n%s", (int)(at - minimal), minimal, traffic, at + strlen(none));
    struct policy *policy = must_load_text(text);
    free(text);
    return policy;
}

/* What is run is exactly what the policy lists: no shell splits it, and the defaults are those of the reference. */
static void a_command_is_its_words(void **state)
{
    (void)state;
    struct policy *p = must_load_traffic("traffic: {driver: exec, command: [/bin/d, 'one two', '$(x);']}");
    assert_int_equal(p->traffic.driver, DRIVER_EXEC);
    assert_int_equal(p->traffic.drift, DRIFT_HEAL);
    assert_command(&p->traffic.balancers[0].command, (const char *const[]){"/bin/d", "one two", "$(x);", NULL});
    policy_free(p);
    p = must_load_traffic("traffic: {driver: nginx, split: /etc/s.conf, probe: 'http://127.0.0.1/share'}");
    const struct policy_balancer *b = &p->traffic.balancers[0];
    assert_string_equal(b->split, "/etc/s.conf");
    assert_string_equal(b->key, "$request_id");
    assert_string_equal(b->probe, "http://127.0.0.1/share");
    assert_command(&b->test, (const char *const[]){"nginx", "-t", "-q", NULL});
    assert_command(&b->reload, (const char *const[]){"nginx", "-s", "reload", NULL});
    assert_null(b->flags);
    policy_free(p);
}

static void a_folder_of_flags_needs_nothing_else(void **state)
{
    (void)state;
    struct policy *p = must_load_traffic("traffic: {driver: caddy, flags: /var/lib/flags, drift: abort}");
    assert_int_equal(p->traffic.driver, DRIVER_CADDY);
    assert_int_equal(p->traffic.drift, DRIFT_ABORT);
    assert_string_equal(p->traffic.balancers[0].flags, "/var/lib/flags");
    assert_null(p->traffic.balancers[0].probe);
    assert_int_equal(policy_servers(&p->traffic, TRACK_CANARY), 0);
    policy_free(p);
}

static void several_balancers_keep_their_order_and_their_own_keys(void **state)
{
    (void)state;
    struct policy *p = must_load("tests/cases/policy/good-balancers/policy.yaml");
    assert_int_equal(p->traffic.balancer_count, 2);
    const struct policy_balancer *one = &p->traffic.balancers[0], *two = &p->traffic.balancers[1];
    assert_string_equal(one->socket, "/run/haproxy/one.sock");
    assert_string_equal(one->backend, "shop");
    assert_null(one->map);
    assert_int_equal(one->server_count[TRACK_STABLE], 2);
    assert_string_equal(two->socket, "10.0.0.2:9999");
    assert_string_equal(two->map, "/etc/haproxy/maps/share.map");
    assert_null(two->backend);
    assert_string_equal(two->servers[TRACK_CANARY][0], "be_canary/c1");
    assert_int_equal(p->traffic.unattended_ms, 180000);
    policy_free(p);
}

static void gauges_have_their_defaults(void **state)
{
    (void)state;
    char *text =
        mem_printf("%s"
                   "  - {name: memory, type: gauge, query: 'x{$track}'}\n"
                   "  - {name: threads, type: gauge, query: 'y{$track}', method: kayenta}\n"
                   "  - {name: c, type: gauge, query: 'z{$track}', method: kayenta, kayenta: {measure: cles}}\n",
                   minimal);
    struct policy *p = must_load_text(text);
    const struct policy_metric *memory = &p->metrics[1];
    assert_int_equal(memory->direction, DIRECTION_INCREASE);
    assert_int_equal(memory->method, GAUGE_PAIRED);
    assert_true(memory->abort_ratio == 1.25 && memory->abort_absolute == 0);
    assert_true(!memory->critical && memory->budget == 0 && memory->on_no_data == NO_DATA_HOLD);
    const struct policy_kayenta_metric *k = &p->metrics[2].kayenta;
    assert_true(!k->nan_replace && !k->must_have_data && !k->remove_outliers && !k->cles && k->outlier_factor == 3);
    assert_true(k->allowed_increase == 1 && k->allowed_decrease == 1);
    assert_true(k->critical_increase == 1 && k->critical_decrease == 1);
    const struct policy_kayenta_metric *cles = &p->metrics[3].kayenta;
    assert_true(cles->cles && cles->allowed_increase == 0.5 && cles->allowed_decrease == 0.5);
    assert_true(cles->critical_increase == 0.5 && cles->critical_decrease == 0.5);
    assert_int_equal(k->group_count, 1);
    assert_string_equal(k->groups[0], "threads");
    assert_int_equal(p->kayenta.group_count, 0);
    assert_true(p->kayenta.pass == 75 && p->kayenta.marginal == 50);
    policy_free(p);
    free(text);
}

/* Kayenta's score needs no proof and no share of the risk: a policy may consist of it. */
static void kayenta_takes_nothing_of_the_risk(void **state)
{
    (void)state;
    char *text = mem_printf("%s"
                            "  - {name: memory, type: gauge, query: 'x{$track}', critical: true}\n"
                            "  - {name: threads, type: gauge, query: 'y{$track}', method: kayenta, critical: true}\n",
                            minimal);
    struct policy *p = must_load_text(text);
    assert_true(p->metrics[0].budget == 0.5 && p->metrics[1].budget == 0.5);
    assert_true(p->metrics[2].critical && p->metrics[2].budget == 0);
    policy_free(p);
    free(text);
    p = must_load("tests/cases/policy/good-kayenta-alone/policy.yaml");
    assert_int_equal(p->metric_count, 1);
    assert_true(!p->metrics[0].critical && p->metrics[0].budget == 0);
    policy_free(p);
}

static void budgets_of_critical_metrics_sum_to_one(void **state)
{
    (void)state;
    char *text = mem_printf("%s"
                            "  - {name: b, type: errors, total: 'c{$track}', failed: 'd{$track}', budget: 0.4}\n"
                            "  - {name: c, type: errors, total: 'c{$track}', failed: 'e{$track}', critical: false}\n"
                            "  - {name: d, type: errors, total: 'c{$track}', failed: 'f{$track}'}\n",
                            minimal);
    struct policy *p = must_load_text(text);
    assert_true(p->metrics[0].budget == 0.3);
    assert_true(p->metrics[1].budget == 0.4);
    assert_true(p->metrics[2].budget == 0);
    assert_true(p->metrics[3].budget == 0.3);
    policy_free(p);
    free(text);
}

/* --- the bundled policies ---------------------------------------------------------------------------------------- */

static void assert_same_prometheus(const struct policy_prometheus *a, const struct policy_prometheus *b)
{
    assert_int_equal(a->timeout_ms, b->timeout_ms);
    assert_int_equal(a->header_count + b->header_count, 0);
    assert_true(!a->username && !b->username && !a->password_file && !b->password_file);
    assert_true(!a->bearer_token_file && !b->bearer_token_file && !a->ca_file && !b->ca_file);
    assert_true(!a->cert_file && !b->cert_file && !a->key_file && !b->key_file && !a->server_name && !b->server_name);
}

static void assert_same_balancer(const struct policy_balancer *a, const struct policy_balancer *b)
{
    assert_string_equal(a->backend, b->backend);
    for (int track = 0; track < TRACKS; track++) {
        assert_int_equal(a->server_count[track], b->server_count[track]);
        for (size_t i = 0; i < a->server_count[track]; i++)
            assert_string_equal(a->servers[track][i], b->servers[track][i]);
    }
}

static void assert_same_traffic(const struct policy_traffic *a, const struct policy_traffic *b)
{
    assert_int_equal(a->driver, b->driver);
    assert_int_equal(a->drift, b->drift);
    assert_int_equal(a->balancer_count, 1);
    assert_int_equal(b->balancer_count, 1);
    assert_same_balancer(&a->balancers[0], &b->balancers[0]);
}

static void assert_same_text(const char *a, const char *b)
{
    if (a && b)
        assert_string_equal(a, b);
    else
        assert_true(a == b);
}

static void assert_same_metric(const struct policy_metric *a, const struct policy_metric *b)
{
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->critical, b->critical);
    assert_true(a->budget == b->budget);
    assert_int_equal(a->on_no_data, b->on_no_data);
    assert_same_text(a->total, b->total);
    assert_same_text(a->failed, b->failed);
    assert_same_text(a->histogram, b->histogram);
    assert_true(a->abort_ratio == b->abort_ratio && a->abort_absolute == b->abort_absolute);
    assert_true(a->abort_slower == b->abort_slower);
    assert_int_equal(a->quantile_count, b->quantile_count);
    for (size_t i = 0; i < a->quantile_count; i++)
        assert_true(a->quantiles[i] == b->quantiles[i]);
}

/* A demonstration that ran under other rules than those users copy would show nothing. */
static void demo_differs_only_in_addresses_times_and_promotion_margins(void **state)
{
    (void)state;
    struct policy *real = must_load("policies/http-service.yaml"), *demo = must_load("policies/demo.yaml");
    assert_string_equal(real->service, demo->service);
    assert_same_prometheus(&real->prometheus, &demo->prometheus);
    assert_same_traffic(&real->traffic, &demo->traffic);
    for (int track = 0; track < TRACKS; track++)
        assert_string_equal(real->matchers[track], demo->matchers[track]);
    assert_int_equal(real->step_count, demo->step_count);
    for (size_t i = 0; i < real->step_count; i++) {
        assert_int_equal(real->steps[i].weight_bp, demo->steps[i].weight_bp);
        assert_int_equal(real->steps[i].pause, demo->steps[i].pause);
        assert_int_equal(real->steps[i].bake_ms > 0, demo->steps[i].bake_ms > 0);
    }
    assert_true(real->false_abort == demo->false_abort && real->false_promote == demo->false_promote);
    assert_int_equal(real->exposure, demo->exposure);
    assert_int_equal(real->undecided, demo->undecided);
    assert_int_equal(real->exchangeable, demo->exchangeable);
    assert_true(real->crash.rate == demo->crash.rate && real->crash.times == demo->crash.times);
    assert_true(real->crash.requests == demo->crash.requests);
    assert_int_equal(real->guardrail_count, demo->guardrail_count);
    assert_int_equal(real->metric_count, demo->metric_count);
    for (size_t i = 0; i < real->metric_count; i++)
        assert_same_metric(&real->metrics[i], &demo->metrics[i]);
    policy_free(real);
    policy_free(demo);
}

static void bundled_policies_are_what_the_guides_say(void **state)
{
    (void)state;
    struct policy *real = must_load("policies/http-service.yaml"), *demo = must_load("policies/demo.yaml");
    assert_string_equal(real->prometheus.url, "http://127.0.0.1:9090");
    assert_string_equal(real->traffic.balancers[0].socket, "/run/haproxy/admin.sock");
    assert_int_equal(real->setting_count, 0);
    assert_int_equal(real->look_ms, 15000);
    assert_true(real->metrics[0].promote_ratio == 1.5 && real->metrics[0].promote_absolute == 0.001);
    assert_true(real->metrics[1].promote_slower == 0.25);
    assert_string_equal(demo->prometheus.url, "http://127.0.0.1:19090");
    assert_string_equal(demo->traffic.balancers[0].socket, "127.0.0.1:19999");
    assert_int_equal(demo->look_ms, 1000);
    assert_int_equal(demo->settle_ms, 1000);
    assert_int_equal(demo->warmup_ms, 3000);
    assert_int_equal(demo->traffic.unattended_ms, 20000);
    assert_int_equal(demo->deadline_ms, 300000);
    assert_int_equal(demo->step_count, 4);
    assert_step(&demo->steps[0], 500, 3000, 120000, 0, false);
    assert_step(&demo->steps[1], 2500, 3000, 120000, 0, false);
    assert_step(&demo->steps[2], 5000, 3000, 120000, 0, false);
    assert_step(&demo->steps[3], 10000, 0, 0, 3000, false);
    assert_true(demo->metrics[0].promote_ratio == 2 && demo->metrics[0].promote_absolute == 0.01);
    assert_true(demo->metrics[1].promote_slower == 0.5);
    policy_free(real);
    policy_free(demo);
}

/* Code in comments has its blanks: `#  - name`; a sentence has one: `# A gauge`. */
static char *uncommented(const char *text)
{
    struct strbuf out = {0};
    for (const char *line = text; *line;) {
        size_t length = strcspn(line, "\n") + 1;
        bool code = line[0] == '#' && line[1] != '\n' && (line[1] != ' ' || line[2] == ' ');
        strbuf_add(&out, line + code, length - code);
        line += length;
    }
    return strbuf_take(&out);
}

/* Who takes the # away must not meet a problem. */
static void the_examples_in_the_bundled_policy_hold(void **state)
{
    (void)state;
    char *path = source_path("policies/http-service.yaml");
    char *text = read_file(path), *with_examples = uncommented(text);
    struct policy *plain = must_load_text(text), *p = must_load_text(with_examples);
    assert_int_equal(p->metric_count, plain->metric_count + 1);
    const struct policy_metric *memory = &p->metrics[p->metric_count - 1];
    assert_int_equal(memory->type, METRIC_GAUGE);
    assert_false(memory->critical);
    assert_int_equal(plain->guardrail_count, 0);
    assert_int_equal(p->guardrail_count, 2);
    policy_free(plain);
    policy_free(p);
    free(text);
    free(with_examples);
    free(path);
}

static void the_example_in_the_haproxy_policy_holds(void **state)
{
    (void)state;
    char *path = source_path("policies/haproxy-service.yaml");
    char *text = read_file(path), *with_example = uncommented(text);
    struct policy *plain = must_load_text(text), *p = must_load_text(with_example);
    assert_int_equal(p->metric_count, plain->metric_count + 1);
    assert_int_equal(p->metrics[p->metric_count - 1].type, METRIC_GAUGE);
    assert_int_equal(p->guardrail_count, plain->guardrail_count);
    policy_free(plain);
    policy_free(p);
    free(text);
    free(with_example);
    free(path);
}

/* What holds for the one holds for the other; only what HAProxy sees is added. */
static void the_haproxy_policy_is_the_service_policy_and_more(void **state)
{
    (void)state;
    struct policy *http = must_load("policies/http-service.yaml"), *p = must_load("policies/haproxy-service.yaml");
    assert_same_prometheus(&http->prometheus, &p->prometheus);
    assert_same_traffic(&http->traffic, &p->traffic);
    assert_int_equal(http->look_ms, p->look_ms);
    assert_int_equal(http->step_count, p->step_count);
    for (size_t i = 0; i < http->step_count; i++)
        assert_memory_equal(&http->steps[i], &p->steps[i], sizeof p->steps[i]);
    assert_int_equal(p->metric_count, http->metric_count + 1);
    for (size_t i = 0; i < http->metric_count; i++) {
        assert_true(p->metrics[i].budget == 1.0 / 3); /* of which there are three now */
        http->metrics[i].budget = p->metrics[i].budget;
        assert_same_metric(&http->metrics[i], &p->metrics[i]);
    }
    assert_int_equal(p->metrics[http->metric_count].type, METRIC_ERRORS);
    assert_true(p->metrics[http->metric_count].critical);
    assert_int_equal(p->guardrail_count, 1);
    assert_int_equal(p->guardrails[0].kind, GUARDRAIL_VALUE);
    policy_free(http);
    policy_free(p);
}

/* The regular expression of a selector that has one for its name. */
static void compile_name(const char *selector, regex_t *name)
{
    const char *start = strstr(selector, "__name__=~\"");
    assert_non_null(start);
    start += strlen("__name__=~\"");
    char *pattern = mem_printf("^%.*s\\{", (int)strcspn(start, "\""), start);
    assert_int_equal(regcomp(name, pattern, REG_EXTENDED | REG_NOSUB), 0);
    free(pattern);
}

/* In a real answer of the exporter: each family that is named is there, and what failed is part of the total. */
static void the_haproxy_policy_asks_for_what_haproxy_exports(void **state)
{
    (void)state;
    const char *vectors = getenv("HALDANE_VECTORS");
    if (!vectors)
        fail_msg("HALDANE_VECTORS is not set; it must name the folder of the reference data");
    char *path = mem_printf("%s/prometheus/haproxy_exporter_full.txt", vectors), *text = read_file(path);
    struct policy *p = must_load("policies/haproxy-service.yaml");
    const struct policy_metric *metric = &p->metrics[p->metric_count - 1];
    regex_t total, failed;
    compile_name(metric->total, &total);
    compile_name(metric->failed, &failed);
    size_t answers = 0, failures = 0;
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
        if (!strstr(line, "server=\"c1\"") || !strstr(line, "proxy=\"be_canary\""))
            continue;
        bool is_failed = regexec(&failed, line, 0, NULL, 0) == 0;
        if (regexec(&total, line, 0, NULL, 0) != 0)
            assert_false(is_failed);
        else if (is_failed)
            failures++;
        else
            answers++;
    }
    assert_int_equal(answers, 6); /* 1xx to 5xx, and other */
    assert_int_equal(failures, 4);
    regfree(&total);
    regfree(&failed);
    policy_free(p);
    free(text);
    free(path);
}

/* --- settings and the digest ------------------------------------------------------------------------------------- */

static void settings_win_over_the_environment_and_are_noted(void **state)
{
    (void)state;
    static const char text[] = "version: ${ONE}\n"
                               "service: shop\n"
                               "prometheus:\n"
                               "  url: http://h${ONE}:${PORT}/${ONE}\n"
                               "tracks: {stable: 'track=\"stable\"', canary: 'track=\"canary\"'}\n"
                               "traffic: {driver: none}\n"
                               "look: ${LOOK}\n"
                               "metrics:\n"
                               "  - {name: errors, type: errors, total: 'all{$track}', failed: 'bad{$track}'}\n";
    struct policy *p = must_load_text(text);
    assert_string_equal(p->prometheus.url, "http://h1:9091/1");
    assert_int_equal(p->look_ms, 5000);
    assert_int_equal(p->setting_count, 3);
    assert_string_equal(p->settings[0].name, "LOOK");
    assert_string_equal(p->settings[0].value, "5s");
    assert_string_equal(p->settings[1].name, "ONE");
    assert_string_equal(p->settings[2].name, "PORT");
    assert_string_equal(p->settings[2].value, "9091");
    assert_string_equal(p->source, text);
    policy_free(p);
}

/* The digests were computed by another implementation (Python's hashlib) over the same bytes. */
static void the_digest_covers_text_and_settings(void **state)
{
    (void)state;
    struct policy *p = must_load_text(minimal);
    assert_string_equal(p->sha256, "a4af849320148c2bfff8474550111214bc800987ba597b2762e1dee4ed41cd60");
    policy_free(p);
    char *text = mem_printf("%slook: ${LOOK}\nsettle: ${ONE}s\n", minimal);
    p = must_load_text(text);
    assert_string_equal(p->sha256, "74d397b8d606e7e42932ceb775c8bb633609a4b76c3b95feeb7b480bdb3ae1d5");
    policy_free(p);
    free(text);
}

static void a_setting_cannot_add_keys_or_variables(void **state)
{
    (void)state;
    static const struct policy_setting evil[] = {{"M", "1m, false_abort: 50%"}, {"N", "${M}"}};
    char *text = mem_printf("%slook: ${M}\nsettle: ${N}\n", minimal);
    struct policy_problems problems;
    struct error err = {0};
    assert_null(policy_load_text(text, strlen(text), "p.yaml", evil, 2, NULL, &problems, &err));
    assert_int_equal(problems.count, 2);
    assert_string_equal(
        problems.items[0].text,
        "`look` is `1m, false_abort: 50%`, which is no duration; write it like 500ms, 15s, 2m or 1h30m");
    assert_string_equal(problems.items[1].text,
                        "`settle` is `${M}`, which is no duration; write it like 500ms, 15s, 2m or 1h30m");
    policy_problems_free(&problems);
    free(text);
}

static void expand_replaces_whole_words_only(void **state)
{
    (void)state;
    struct policy *p = must_load_text(minimal);
    static const struct {
        const char *selector;
        enum track track;
        const char *expanded;
    } cases[] = {
        {"x{$track}", TRACK_STABLE, "x{track=\"stable\"}"},
        {"x{a=\"b\",$track}", TRACK_CANARY, "x{a=\"b\",track=\"canary\"}"},
        {"x{$stable} / y{$canary}", TRACK_CANARY, "x{track=\"stable\"} / y{track=\"canary\"}"},
        {"$track$track", TRACK_CANARY, "track=\"canary\"track=\"canary\""},
        {"x{a=~\"5..$\"} $tracks $stable_1 $", TRACK_CANARY, "x{a=~\"5..$\"} $tracks $stable_1 $"},
        {"", TRACK_STABLE, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *expanded = policy_expand(p, cases[i].selector, cases[i].track);
        assert_string_equal(expanded, cases[i].expanded);
        free(expanded);
    }
    policy_free(p);
}

/* --- files and hostile input ------------------------------------------------------------------------------------- */

static void a_file_that_cannot_be_read_is_no_bad_policy(void **state)
{
    (void)state;
    char *folder = source_path("policies"), *missing = source_path("policies/no-such-policy.yaml");
    const char *const paths[] = {folder, missing};
    for (size_t i = 0; i < 2; i++) {
        struct policy_problems problems;
        struct error err = {0};
        assert_null(load(paths[i], &problems, &err));
        assert_int_equal(err.code, ERROR_NO_INPUT);
        assert_int_equal(problems.count, 0);
        assert_memory_equal(err.text, paths[i], strlen(paths[i]));
    }
    free(folder);
    free(missing);
}

static void a_dash_is_standard_input(void **state)
{
    (void)state;
    char *path = source_path("policies/http-service.yaml");
    assert_non_null(freopen(path, "r", stdin));
    struct error err = {0};
    struct policy *policy = policy_load_file("-", NULL, 0, NULL, NULL, &err);
    assert_non_null(policy);
    assert_string_equal(policy->service, "shop");
    policy_free(policy);
    assert_null(policy_load_file("-", NULL, 0, NULL, NULL, &err)); /* read to its end: empty now */
    assert_string_equal(err.text, "standard input:1:1: the policy is empty; begin with a copy of http-service.yaml");
    free(path);
}

static char *repeated(const char *before, const char *piece, size_t times, const char *after)
{
    struct strbuf text = {0};
    strbuf_puts(&text, before);
    for (size_t i = 0; i < times; i++)
        strbuf_puts(&text, piece);
    strbuf_puts(&text, after);
    return strbuf_take(&text);
}

static void a_policy_has_at_most_a_mebibyte(void **state)
{
    (void)state;
    struct strbuf text = {0};
    strbuf_puts(&text, minimal);
    while (text.length < 1 << 20)
        strbuf_puts(&text, "#");
    struct policy *policy = must_load_text(text.text);
    policy_free(policy);
    strbuf_puts(&text, "#");
    assert_problem(text.text, text.length, "larger than 1 MiB");
    strbuf_free(&text);
}

static void hostile_text_is_refused_quickly(void **state)
{
    (void)state;
    char *deep = repeated("a: ", "[", 500000, ""), *many = repeated("a: [", "1,", 400000, "1]"),
         *anchors = repeated("a:\n", "  - &a 1\n", 100000, ""), *keys = repeated("", "[]: 1\n", 100000, ""),
         *laughs = mem_strdup("a: &a [x,x,x,x,x,x,x,x,x]\n"
                              "b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
                              "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
                              "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
                              "steps: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n");
    assert_problem(deep, strlen(deep), "deep");
    assert_problem(many, strlen(many), "values");
    assert_problem(anchors, strlen(anchors), "anchors");
    assert_problem(keys, strlen(keys), "");
    assert_problem(laughs, strlen(laughs), "");
    assert_problem("a: b\0c", 6, "control characters");
    assert_problem("\xff\xfe\0a", 4, "UTF-8");
    free(deep);
    free(many);
    free(anchors);
    free(keys);
    free(laughs);
}

static void a_setting_cannot_fill_the_memory(void **state)
{
    (void)state;
    char *large = repeated("", "0123456789", 5000, "");
    const struct policy_setting setting = {"A", large};
    char *text = repeated("service: \"", "${A}", 200000, "\"\n");
    struct error err = {0};
    struct policy_problems problems;
    assert_null(policy_load_text(text, strlen(text), "p.yaml", &setting, 1, NULL, &problems, &err));
    bool told = false;
    for (size_t i = 0; i < problems.count; i++)
        told = told || strstr(problems.items[i].text, "longer than 65536 bytes");
    assert_true(told);
    policy_problems_free(&problems);
    free(large);
    free(text);
}

/* --- the reference ----------------------------------------------------------------------------------------------- */

/* `list` is what an unknown key is answered with: the keys that the reader asked for, so that none can be left out. */
static void assert_documented(const char *reference, char *list)
{
    size_t keys = 0;
    for (char *rest = NULL, *key = strtok_r(list, ", ", &rest); key; key = strtok_r(NULL, ", ", &rest), keys++) {
        char *quoted = mem_printf("`%s`", key);
        if (!strstr(reference, quoted))
            fail_msg("docs/policy.md does not describe %s", quoted);
        free(quoted);
    }
    assert_true(keys > 0);
}

/* How many sections of the text answered an unknown key. */
static size_t documented_sections(const char *reference, const char *text)
{
    struct policy_problems problems;
    struct error err = {0};
    assert_null(policy_load_text(text, strlen(text), "p.yaml", NULL, 0, NULL, &problems, &err));
    size_t sections = 0;
    for (size_t i = 0; i < problems.count; i++) {
        char *list = strstr(problems.items[i].text, "known are: ");
        if (!list)
            continue;
        assert_documented(reference, list + strlen("known are: "));
        sections++;
    }
    policy_problems_free(&problems);
    return sections;
}

static void every_key_is_in_the_reference(void **state)
{
    (void)state;
    static const char text[] = "unheard_of: 1\n"
                               "prometheus: {unheard_of: 1, basic_auth: {unheard_of: 1}, tls: {unheard_of: 1}}\n"
                               "tracks: {unheard_of: 1}\n"
                               "traffic: {driver: haproxy, unheard_of: 1}\n"
                               "steps: [{weight: 5%, unheard_of: 1}, {weight: 60%, unheard_of: 1}]\n"
                               "metrics:\n"
                               "  - {type: errors, unheard_of: 1, abort_above: {unheard_of: 1}}\n"
                               "  - {type: latency, unheard_of: 1, abort_above: {unheard_of: 1}}\n"
                               "  - {type: gauge, unheard_of: 1, abort_above: {unheard_of: 1}}\n"
                               "  - {name: k, type: gauge, method: kayenta, unheard_of: 1, kayenta: {unheard_of: 1}}\n"
                               "crash: {unheard_of: 1}\n"
                               "guardrails: [{query: x, unheard_of: 1}, {total: x, unheard_of: 1}]\n"
                               "kayenta: {unheard_of: 1}\n";
    char *path = source_path("docs/policy.md");
    char *reference = read_file(path);
    assert_int_equal(documented_sections(reference, text), 20);
    static const char *const balancers[] = {
        "traffic: {driver: haproxy, map: /m, unheard_of: 1}",
        "traffic: {driver: nginx, flags: /f, unheard_of: 1}",
        "traffic: {driver: nginx, split: /s, unheard_of: 1}",
        "traffic: {driver: caddy, unheard_of: 1}",
        "traffic: {driver: exec, unheard_of: 1}",
        "traffic: {driver: exec, balancers: [{unheard_of: 1}]}",
    };
    for (size_t i = 0; i < sizeof balancers / sizeof balancers[0]; i++)
        assert_int_equal(documented_sections(reference, balancers[i]), 1);
    free(reference);
    free(path);
}

/* --- the small parts --------------------------------------------------------------------------------------------- */

static void every_basis_point_is_exact(void **state)
{
    (void)state;
    for (uint32_t bp = 1; bp <= 10000; bp++) {
        char text[16];
        uint32_t parsed = 0;
        snprintf(text, sizeof text, "%u.%02u%%", bp / 100, bp % 100);
        assert_null(value_weight(text, &parsed));
        assert_int_equal(parsed, bp);
    }
    static const char *const wrong[] = {
        "",       "%",    "5",    "0%",      "100.01%", "-1%",  "0.001%",
        "5.001%", "1e1%", "5 %",  " 5%",     "nan%",    "inf%", ".%",
        "5%%",    "0x5%", "5,5%", "0.0000%", "1.2.3%",  "+%",   "1000000000000000000000000000000000%"};
    uint32_t untouched = 7;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_non_null(value_weight(wrong[i], &untouched));
    assert_int_equal(untouched, 7);
}

/* What a balancer is asked for is read as a policy's weight is; only nothing at all is a share, too. */
static void a_share_is_a_weight_or_nothing(void **state)
{
    (void)state;
    uint32_t parsed = 7;
    assert_null(value_share("0%", &parsed));
    assert_int_equal(parsed, 0);
    assert_null(value_share("12.5%", &parsed));
    assert_int_equal(parsed, 1250);
    assert_null(value_share("100%", &parsed));
    assert_int_equal(parsed, 10000);
    static const char *const wrong[] = {"5", "0.05", "0", "-5%", "101%", "5.005%", "5 %", "%", ""};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_non_null(value_share(wrong[i], &parsed));
    assert_int_equal(parsed, 10000);
}

static void a_percentage_is_the_nearest_number(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } good[] = {{"5%", 0.05},   {"0.1%", 0.001}, {"0.01%", 0.0001}, {"99.9%", 0.999}, {"120%", 1.2}, {"0%", 0},
                {"0.05", 0.05}, {"1e-3", 0.001}, {"29%", 0.29},     {".5%", 0.005},   {"57%", 0.57}, {"-5%", -0.05}};
    double value;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_null(value_fraction(good[i].text, false, &value));
        assert_true(value == good[i].value);
    }
    static const char *const wrong[] = {"", "%", "5", "1", "five", "0x1p-1", "nan", "inf", "1e-2%", "5%x", "1e999"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_non_null(value_fraction(wrong[i], false, &value));
    assert_null(value_fraction("1", true, &value));
    assert_true(value == 1);
    assert_non_null(value_number("1e999", &value));
    assert_non_null(value_number("1_000", &value));
}

static void the_nearest_word_is_suggested(void **state)
{
    (void)state;
    static const char *const words[] = {"look", "settle", "warmup", "false_abort", "false_promote", "min", "max"};
    static const struct {
        const char *word, *meant;
    } cases[] = {{"loook", "look"},
                 {"lok", "look"},
                 {"olok", "look"},
                 {"setle", "settle"},
                 {"FALSE-ABORT", "false_abort"},
                 {"mix", "min"},
                 {"colour", NULL},
                 {"", NULL},
                 {"false_promotion", "false_promote"},
                 {"x", NULL},
                 {"warm_up", "warmup"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *near = suggest(cases[i].word, words, sizeof words / sizeof words[0]);
        if (cases[i].meant)
            assert_string_equal(near, cases[i].meant);
        else
            assert_null(near);
    }
    char *long_word = repeated("", "x", 100000, "");
    assert_null(suggest(long_word, words, 7));
    /* The names of groups are the user's: they may be long. */
    const char *const names[] = {long_word, "a name of exactly sixty-three letters, digits, blanks and dots."};
    assert_int_equal(strlen(names[1]), 63);
    assert_string_equal(suggest("a name of exactly sixty three letters, digits, blanks and dots", names, 2), names[1]);
    free(long_word);
}

static void utf8_is_told_from_what_only_looks_like_it(void **state)
{
    (void)state;
    static const char *const good[] = {"", "abc", "é", "€", "😀", "\xED\x9F\xBF", "\xEE\x80\x80", "\xF4\x8F\xBF\xBF"};
    static const char *const bad[] = {"\x80",         "\xC0\xAF",         "\xC1\xBF",         "\xE0\x9F\xBF",
                                      "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
                                      "\xC3",         "\xE2\x82",         "\xE2\x82\x28",     "\xFF"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(utf8_valid(good[i], strlen(good[i])), strlen(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *text = mem_printf("ab%s", bad[i]);
        assert_int_equal(utf8_valid(text, strlen(text)), 2);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_gives_its_exact_problems),
        cmocka_unit_test(defaults_are_those_of_the_reference),
        cmocka_unit_test(latency_has_its_defaults),
        cmocka_unit_test(a_command_is_its_words),
        cmocka_unit_test(a_folder_of_flags_needs_nothing_else),
        cmocka_unit_test(several_balancers_keep_their_order_and_their_own_keys),
        cmocka_unit_test(gauges_have_their_defaults),
        cmocka_unit_test(kayenta_takes_nothing_of_the_risk),
        cmocka_unit_test(every_key_arrives),
        cmocka_unit_test(budgets_of_critical_metrics_sum_to_one),
        cmocka_unit_test(demo_differs_only_in_addresses_times_and_promotion_margins),
        cmocka_unit_test(bundled_policies_are_what_the_guides_say),
        cmocka_unit_test(the_examples_in_the_bundled_policy_hold),
        cmocka_unit_test(the_example_in_the_haproxy_policy_holds),
        cmocka_unit_test(the_haproxy_policy_is_the_service_policy_and_more),
        cmocka_unit_test(the_haproxy_policy_asks_for_what_haproxy_exports),
        cmocka_unit_test(settings_win_over_the_environment_and_are_noted),
        cmocka_unit_test(the_digest_covers_text_and_settings),
        cmocka_unit_test(a_setting_cannot_add_keys_or_variables),
        cmocka_unit_test(expand_replaces_whole_words_only),
        cmocka_unit_test(a_file_that_cannot_be_read_is_no_bad_policy),
        cmocka_unit_test(a_dash_is_standard_input),
        cmocka_unit_test(a_policy_has_at_most_a_mebibyte),
        cmocka_unit_test(hostile_text_is_refused_quickly),
        cmocka_unit_test(a_setting_cannot_fill_the_memory),
        cmocka_unit_test(every_key_is_in_the_reference),
        cmocka_unit_test(every_basis_point_is_exact),
        cmocka_unit_test(a_share_is_a_weight_or_nothing),
        cmocka_unit_test(a_percentage_is_the_nearest_number),
        cmocka_unit_test(the_nearest_word_is_suggested),
        cmocka_unit_test(utf8_is_told_from_what_only_looks_like_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
