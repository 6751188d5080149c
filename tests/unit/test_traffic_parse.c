/*
 * What HAProxy answers is understood, and what cannot be understood is never taken for a share. The answers in
 * tests/cases/haproxy/ are HAProxy's own; the crooked ones are made from them here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "analyzer/traffic/driver.h"
#include "analyzer/traffic/haproxy_parse.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An answer as haproxy_ask() hands it on: without the empty line at its end. */
static char *answer(const char *name)
{
    const char *source = getenv("HALDANE_SOURCE");
    if (!source)
        fail_msg("HALDANE_SOURCE is not set");
    char *path = mem_printf("%s/tests/cases/haproxy/%s", source, name);
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("cannot open %s", path);
    struct strbuf text = {0};
    char chunk[4096];
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, file)) > 0;)
        strbuf_add(&text, chunk, n);
    fclose(file);
    free(path);
    assert_true(text.length > 0 && text.text[text.length - 1] == '\n');
    text.text[--text.length] = '\0';
    return strbuf_take(&text);
}

static char *replaced(const char *text, const char *old, const char *with)
{
    const char *at = strstr(text, old);
    assert_non_null(at);
    return mem_printf("%.*s%s%s", (int)(at - text), text, with, at + strlen(old));
}

static void the_state_is_read(void **state)
{
    (void)state;
    static const char *const files[] = {"state_shop.txt", "state_all.txt"};
    for (size_t i = 0; i < 2; i++) {
        char *text = answer(files[i]);
        struct haproxy_backend b = {0};
        struct error err = {0};
        assert_true(haproxy_parse_state(text, "shop", &b, &err));
        assert_int_equal(b.count, 6);
        assert_int_equal(b.id, 3);
        assert_string_equal(b.servers[0].name, "stable1");
        assert_int_equal(b.servers[0].weight, 95);
        assert_int_equal(b.servers[0].initial, 100);
        assert_true(haproxy_server_up(&b.servers[0]));
        assert_true(b.servers[1].maintenance);
        assert_false(haproxy_server_up(&b.servers[1]));
        assert_true(b.servers[2].running && b.servers[2].draining && !b.servers[2].maintenance);
        assert_false(haproxy_server_up(&b.servers[2]));
        assert_false(b.servers[3].running || b.servers[3].maintenance || b.servers[3].draining);
        assert_int_equal(b.servers[4].weight, 0);
        haproxy_backend_free(&b);
        free(text);
    }
}

static void the_counts_are_read(void **state)
{
    (void)state;
    static const char *const files[] = {"stat_shop.txt", "stat_all.txt"};
    char *servers = answer("state_shop.txt");
    for (size_t i = 0; i < 2; i++) {
        char *text = answer(files[i]);
        struct haproxy_backend b = {0};
        struct error err = {0};
        assert_true(haproxy_parse_state(servers, "shop", &b, &err));
        assert_true(haproxy_parse_stat(text, "shop", &b, &err));
        assert_string_equal(b.algorithm, "roundrobin");
        assert_int_equal(b.servers[0].total, 96);
        assert_int_equal(b.servers[0].failed, 0);
        assert_int_equal(b.servers[1].total, 95);
        assert_int_equal(b.servers[1].failed, 95);
        assert_int_equal(b.servers[2].total, 10);
        assert_string_equal(b.servers[0].address, "127.0.0.1:18081");
        assert_int_equal(b.servers[0].health_changes, 0);
        assert_int_equal(b.servers[3].health_changes, 1); /* down, and still */
        assert_true(b.servers[0].checked && b.servers[0].http && !b.servers[0].backup);
        assert_true(b.servers[5].backup);
        haproxy_backend_free(&b);
        free(text);
    }
    free(servers);
}

static void unchecked_servers_and_random_are_seen(void **state)
{
    (void)state;
    char *servers = answer("state_all.txt");
    char *text = answer("stat_all.txt");
    struct haproxy_backend b = {0};
    struct error err = {0};
    assert_true(haproxy_parse_state(servers, "other", &b, &err));
    assert_true(haproxy_parse_stat(text, "other", &b, &err));
    assert_int_equal(b.count, 2);
    assert_string_equal(b.algorithm, "unknown"); /* what 2.6 calls random */
    assert_false(b.servers[0].checked);
    assert_true(b.servers[1].maintenance);
    haproxy_backend_free(&b);
    free(text);
    free(servers);
}

/* Another order and unknown columns change nothing. */
static void columns_go_by_name(void **state)
{
    (void)state;
    static const char text[] = "2\n"
                               "# srv_iweight new srv_uweight srv_name srv_admin_state be_name srv_op_state be_id\n"
                               "7 x 9 a 0 shop 2 41\n";
    static const char stat[] = "# type,algo,bck,status,svname,pxname,wredis,wretr,eresp,econ,hrsp_5xx,stot,qcur,scur,"
                               "chkdown,\n"
                               "1,roundrobin,,UP,BACKEND,shop,,,,,,,,,,\n"
                               "2,,0,\"UP, \"\"x\"\"\n1/2\",a,shop,1,2,3,4,5,6,7,8,9,\n";
    struct haproxy_backend b = {0};
    struct error err = {0};
    assert_true(haproxy_parse_state(text, "shop", &b, &err));
    assert_int_equal(b.id, 41);
    assert_int_equal(b.servers[0].initial, 7);
    assert_int_equal(b.servers[0].weight, 9);
    assert_true(haproxy_parse_stat(stat, "shop", &b, &err));
    assert_int_equal(b.servers[0].redispatches, 1);
    assert_int_equal(b.servers[0].retries, 2);
    assert_int_equal(b.servers[0].connection_errors, 4);
    assert_int_equal(b.servers[0].failed, 3 + 5);
    assert_int_equal(b.servers[0].health_changes, 18); /* nine times down, and up again */
    assert_string_equal(b.servers[0].address, "");
    assert_int_equal(b.servers[0].total, 6);
    assert_int_equal(b.servers[0].in_flight, 15);
    haproxy_backend_free(&b);
}

static void expect_bad_state(const char *text, const char *says)
{
    struct haproxy_backend b = {0};
    struct error err = {0};
    assert_false(haproxy_parse_state(text, "shop", &b, &err));
    assert_non_null(strstr(err.text, says));
    assert_null(strchr(err.text, '\n'));
    haproxy_backend_free(&b);
}

static void crooked_states_are_refused(void **state)
{
    (void)state;
    char *good = answer("state_shop.txt");
    char *no_column = replaced(good, "srv_uweight", "srv_other");
    char *heavy = replaced(good, " 95 100 ", " 257 100 ");
    char *negative = replaced(good, " 95 100 ", " -1 100 ");
    char *other = answer("state_no_backend.txt");
    expect_bad_state(no_column, "srv_uweight");
    expect_bad_state(heavy, "257");
    expect_bad_state(negative, "-1");
    expect_bad_state(other, "Can't find backend.");
    expect_bad_state("", "HAProxy answered");
    expect_bad_state("1\n", "HAProxy answered");
    expect_bad_state("# ", "header");
    expect_bad_state("1\n# be_id be_name srv_name srv_op_state srv_admin_state srv_uweight srv_iweight\n", "no server");
    expect_bad_state("1\n# be_id be_name srv_name srv_op_state srv_admin_state srv_uweight srv_iweight\n3 shop a\n",
                     "srv_op_state");
    expect_bad_state("HTTP/1.1 400 Bad request\r\n\x1b[2J\n", "HTTP/1.1 400");
    free(good);
    free(no_column);
    free(heavy);
    free(negative);
    free(other);
}

/* A share must not be read from two tables that belong to different configurations. */
static void tables_that_differ_are_refused(void **state)
{
    (void)state;
    char *servers = answer("state_shop.txt");
    char *good = answer("stat_shop.txt");
    char *missing = replaced(good, "shop,canary1,", "shop,canary9,");
    char *no_backend = replaced(good, "shop,BACKEND,", "shap,BACKEND,");
    char *words = replaced(good, ",96,8107,", ",many,8107,");
    char *none = answer("stat_no_proxy.txt");
    const struct {
        const char *text;
        enum error_code code;
    } cases[] = {
        {missing, ERROR_UNAVAILABLE}, {no_backend, ERROR_UNAVAILABLE}, {words, ERROR_DATA}, {none, ERROR_DATA}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct haproxy_backend b = {0};
        struct error err = {0};
        assert_true(haproxy_parse_state(servers, "shop", &b, &err));
        assert_false(haproxy_parse_stat(cases[i].text, "shop", &b, &err));
        assert_int_equal(err.code, cases[i].code);
        haproxy_backend_free(&b);
    }
    free(servers);
    free(good);
    free(missing);
    free(no_backend);
    free(words);
    free(none);
}

static void another_process_is_another_generation(void **state)
{
    (void)state;
    char *text = answer("info.txt");
    const char *pid = strstr(text, "\nPid: ");
    char *other_pid = replaced(text, "\nPid: ", "\nPid: 1");
    char *other_start = replaced(text, "Start_time_sec: 1", "Start_time_sec: 2");
    char *older_uptime = replaced(text, "\nUptime_sec: ", "\nUptime_sec: 9");
    uint64_t generation[4] = {0};
    struct error err = {0};
    assert_non_null(pid);
    assert_true(haproxy_parse_info(text, &generation[0], &err));
    assert_true(haproxy_parse_info(other_pid, &generation[1], &err));
    assert_true(haproxy_parse_info(other_start, &generation[2], &err));
    assert_true(haproxy_parse_info(older_uptime, &generation[3], &err));
    assert_int_not_equal(generation[0], generation[1]);
    assert_int_not_equal(generation[0], generation[2]);
    assert_int_equal(generation[0], generation[3]);
    assert_true(haproxy_parse_info("Pid: 5\n", &generation[0], &err)); /* 2.4: no start time */
    assert_false(haproxy_parse_info("Unknown command\n", &generation[0], &err));
    assert_non_null(strstr(err.text, "Unknown command"));
    assert_false(haproxy_parse_info("Pid: x\n", &generation[0], &err));
    free(text);
    free(other_pid);
    free(other_start);
    free(older_uptime);
}

static void the_map_is_read(void **state)
{
    (void)state;
    char *text = answer("map.txt");
    struct haproxy_split split;
    struct error err = {0};
    assert_true(haproxy_parse_split(text, &split, &err));
    assert_int_equal(split.share_bp, 500);
    assert_int_equal(split.epoch, 3);
    assert_int_equal(split.expires, 1795425283);
    assert_true(split.whole);
    free(text);
    text = answer("map_unknown.txt");
    assert_false(haproxy_parse_split(text, &split, &err));
    assert_non_null(strstr(err.text, "Unknown map identifier"));
    free(text);
}

/* tests/integration/traffic_haproxy_map.c holds the same texts against the real HAProxy. */
static void a_damaged_map_is_read_as_haproxy_reads_it(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t share_bp;
        bool whole;
    } cases[] = {
        {"0x1 canary 500\n0x1 epoch 3\n0x1 expires 9\n", 500, true},
        {"0x1 canary abc\n0x1 epoch 3\n0x1 expires 9\n", 0, true},
        {"0x1 canary \n", 0, false},
        {"0x1 canary\n", 0, false},
        {"0x1 canary -5\n", 0, false},
        {"0x1 canary 5.5\n", 5, false},
        {"0x1 canary 2500x\n", 2500, false},
        {"0x1 canary 0x10\n", 0, false},
        {"0x1 canary +500\n", 500, false},
        {"0x1 canary +-500\n", 0, false},
        {"0x1 canary 99999\n", 10000, false},
        {"0x1 canary 99999999999999999999999999\n", 10000, false},
        {"0x1 canary 500\n0x1 canary 600\n0x1 epoch 3\n0x1 expires 9\n", 500, false},
        {"0x1 Canary 500\n0x1 epoch 3\n0x1 expires 9\n", 0, false},
        {"0x1 canary 500\n0x1 epoch 3\n0x1 expires 9\n0x1 other 1\n", 500, false},
        {"", 0, false},
        {"\n", 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct haproxy_split split;
        struct error err = {0};
        assert_true(haproxy_parse_split(cases[i].text, &split, &err));
        assert_int_equal(split.share_bp, cases[i].share_bp);
        assert_int_equal(split.whole, cases[i].whole);
    }
    static const char *const none[] = {"canary 500\n", "0x1\n", "<html>\n"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        struct haproxy_split split;
        struct error err = {0};
        assert_false(haproxy_parse_split(none[i], &split, &err));
        assert_int_equal(err.code, ERROR_DATA);
    }
}

static void the_clock_and_the_version_are_read(void **state)
{
    (void)state;
    int64_t now_ms = 0;
    uint64_t version = 0;
    struct error err = {0};
    char *text = answer("clock.txt");
    assert_true(haproxy_parse_clock(text, &now_ms, &err));
    assert_true(now_ms == 1795426862964);
    free(text);
    static const char *const clocks[] = {"",
                                         "\n\n",
                                         "This command is restricted to experimental mode only.\n",
                                         "proc.haldane_now: undefined\n",
                                         "proc.haldane_now: type=sint value=<>\n",
                                         "proc.haldane_now: type=sint value=<-1>\n",
                                         "proc.haldane_now: type=sint value=<17\n",
                                         "proc.haldane_now: type=sint value=<99999999999999999999>\n"};
    for (size_t i = 0; i < sizeof clocks / sizeof clocks[0]; i++)
        assert_false(haproxy_parse_clock(clocks[i], &now_ms, &err));
    text = answer("map_prepared.txt");
    assert_true(haproxy_parse_version(text, &version, &err));
    assert_int_equal(version, 7);
    free(text);
    static const char *const versions[] = {"", "New version created: ", "New version created: x",
                                           "New version created: 7;", "New version created: 99999999999"};
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++)
        assert_false(haproxy_parse_version(versions[i], &version, &err));
}

static void rules_that_read_the_map_are_counted(void **state)
{
    (void)state;
    char *text = answer("maps.txt");
    assert_int_equal(haproxy_count_uses(text, "/etc/haproxy/maps/share.map"), 3);
    assert_int_equal(haproxy_count_uses(text, "/etc/haproxy/maps/one.map"), 1);
    assert_int_equal(haproxy_count_uses(text, "/etc/haproxy/maps"), 0);
    assert_int_equal(haproxy_count_uses("", "/etc/haproxy/maps"), 0);
    free(text);
}

static void a_weight_is_read_and_text_is_not(void **state)
{
    (void)state;
    char *text = answer("weight.txt");
    uint32_t weight = 0;
    struct error err = {0};
    assert_true(haproxy_parse_weight(text, &weight, &err));
    assert_int_equal(weight, 10);
    free(text);
    static const char *const bad[] = {"",
                                      "\n",
                                      "10",
                                      "10 ",
                                      "257 (initial 0)",
                                      "-1 (initial 0)",
                                      "0x10 (initial 0)",
                                      " (initial 0)",
                                      "99999999999999999999 (initial 0)"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(haproxy_parse_weight(bad[i], &weight, &err));
    text = answer("weight_no_server.txt");
    assert_false(haproxy_parse_weight(text, &weight, &err));
    assert_non_null(strstr(err.text, "No such server."));
    free(text);
}

/* The driver takes exactly an empty answer for a yes; HAProxy's own answers must keep that true. */
static void refusals_are_not_empty(void **state)
{
    (void)state;
    static const char *const refusals[] = {"set_out_of_range.txt", "set_no_right.txt", "unknown_command.txt",
                                           "map_overtaken.txt"};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        char *text = answer(refusals[i]);
        char line[HAPROXY_LINE];
        assert_true(strlen(haproxy_first_line(text, line)) > 10);
        free(text);
    }
    char *text = answer("set_ok.txt");
    assert_string_equal(text, "");
    free(text);
}

static struct driver *open_haproxy(struct policy_balancer *balancer, struct error *err)
{
    const struct policy_traffic policy = {.driver = DRIVER_HAPROXY, .balancers = balancer, .balancer_count = 1};
    return driver_open(&policy, err);
}

static void a_policy_that_does_not_fit_is_not_opened(void **state)
{
    (void)state;
    char *stable[] = {"s1", "s2"};
    char *canary[] = {"c1"};
    char *twice[] = {"s2"};
    char *inject[] = {"c1 weight 5; disable frontend in"};
    const struct policy_balancer good = {
        .socket = "/run/haproxy/admin.sock", .backend = "shop", .servers = {stable, canary}, .server_count = {2, 1}};
    struct policy_balancer bad[12];
    size_t n = 0;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        bad[i] = good;
    bad[n++].socket = NULL;
    bad[n++].socket = "admin.sock";
    bad[n++].socket = "localhost:0";
    bad[n++].socket = "localhost:70000";
    bad[n++].socket = "::1:9999";
    bad[n++].socket = "[]:9999";
    bad[n++].socket = "/a/path/that/is/longer/than/what/the/kernel/takes/for/the/address/of/a/socket/in/the/file/"
                      "system/which/is/107/bytes";
    bad[n++].backend = NULL;
    bad[n++].backend = "shop;x";
    bad[n++].server_count[TRACK_CANARY] = 0;
    bad[n++].servers[TRACK_CANARY] = twice;
    bad[n++].servers[TRACK_CANARY] = inject;
    assert_int_equal(n, sizeof bad / sizeof bad[0]);
    for (size_t i = 0; i < n; i++) {
        struct error err = {0};
        assert_null(open_haproxy(&bad[i], &err));
        assert_int_equal(err.code, ERROR_DATA);
        assert_non_null(strstr(err.text, "traffic"));
    }
    static char *const sockets[] = {"/run/haproxy/admin.sock", "localhost:9999", "127.0.0.1:1", "[::1]:65535"};
    for (size_t i = 0; i < sizeof sockets / sizeof sockets[0]; i++) {
        struct policy_balancer balancer = good;
        balancer.socket = sockets[i];
        struct error err = {0};
        struct driver *driver = open_haproxy(&balancer, &err);
        assert_non_null(driver);
        assert_string_equal(driver_name(driver), "haproxy");
        driver_close(driver);
    }
}

static void a_map_wants_backends_of_their_own(void **state)
{
    (void)state;
    char *stable[] = {"be_stable/s1"};
    char *canary[] = {"be_canary/s1"};
    char *shared[] = {"be_stable/c1"};
    char *bare[] = {"s1"};
    char *odd[] = {"be_canary/c1 weight 5"};
    const struct policy_balancer good = {.socket = "localhost:9999",
                                         .map = "/etc/haproxy/share.map",
                                         .servers = {stable, canary},
                                         .server_count = {1, 1}};
    struct policy_balancer bad[5] = {good, good, good, good, good};
    bad[0].servers[TRACK_CANARY] = shared;
    bad[1].servers[TRACK_CANARY] = bare;
    bad[2].servers[TRACK_CANARY] = odd;
    bad[3].master = "here";
    bad[4].map = "/etc/share.map; show info";
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct error err = {0};
        assert_null(open_haproxy(&bad[i], &err));
        assert_int_equal(err.code, ERROR_DATA);
        assert_non_null(strstr(err.text, "traffic"));
    }
    struct policy_balancer balancer = good;
    struct error err = {0};
    struct driver *driver = open_haproxy(&balancer, &err);
    assert_non_null(driver);
    driver_close(driver);
}

/* Several processes take part in one rollout: what `none` set is known from the store, never from a driver. */
static void none_moves_nothing_and_says_so(void **state)
{
    (void)state;
    const struct policy_traffic policy = {.driver = DRIVER_NONE};
    struct error err = {0};
    struct driver_state got;
    struct balancer_counters counters;
    struct driver *driver = driver_open(&policy, &err);
    assert_non_null(driver);
    assert_int_equal(driver_set(driver, &(struct driver_order){.share_bp = 500}, &got, &err), DRIVER_OK);
    assert_int_equal(got.share_bp, 500);
    assert_int_equal(got.capabilities, 0);
    assert_non_null(strstr(got.detail, "by hand"));
    assert_int_equal(driver_get(driver, &got, &err), DRIVER_UNSUPPORTED);
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    assert_int_equal(driver_counters(driver, &counters, NULL), DRIVER_UNSUPPORTED);
    assert_int_equal(driver_set(driver, &(struct driver_order){.share_bp = 10001}, &got, &err), DRIVER_REFUSED);
    assert_int_equal(err.code, ERROR_DATA);
    driver_close(driver);
    driver_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_state_is_read),
        cmocka_unit_test(the_counts_are_read),
        cmocka_unit_test(unchecked_servers_and_random_are_seen),
        cmocka_unit_test(columns_go_by_name),
        cmocka_unit_test(crooked_states_are_refused),
        cmocka_unit_test(tables_that_differ_are_refused),
        cmocka_unit_test(another_process_is_another_generation),
        cmocka_unit_test(the_map_is_read),
        cmocka_unit_test(a_damaged_map_is_read_as_haproxy_reads_it),
        cmocka_unit_test(the_clock_and_the_version_are_read),
        cmocka_unit_test(rules_that_read_the_map_are_counted),
        cmocka_unit_test(a_weight_is_read_and_text_is_not),
        cmocka_unit_test(refusals_are_not_empty),
        cmocka_unit_test(a_policy_that_does_not_fit_is_not_opened),
        cmocka_unit_test(a_map_wants_backends_of_their_own),
        cmocka_unit_test(none_moves_nothing_and_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
