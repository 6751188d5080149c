/*
 * The client against a server of our own that misbehaves on demand: the query's text says how. What must hold: no
 * failure of a server becomes an answer, none blocks the caller beyond its deadline, and one query's failure is not
 * another's.
 */
#include "base/memory.h"
#include "base/strbuf.h"
#include "promclient/client.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { HUGE_BODY = 2 << 20 };

static struct MHD_Daemon *daemon_;
static char url[64];
static atomic_int connections, hits, elsewhere;
static char folder[] = "/tmp/promclient-XXXXXX";

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- the server ---- */

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, const char *body)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(body), (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY);
    MHD_add_response_header(response, "Set-Cookie", "session=1");
    MHD_add_response_header(response, "Location", "/elsewhere");
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result reply_string(struct MHD_Connection *connection, const char *text)
{
    char *body = mem_printf("{\"status\":\"success\",\"data\":{\"resultType\":\"string\",\"result\":[1,\"%s\"]}}",
                            text ? text : "none");
    enum MHD_Result result = reply(connection, 200, body);
    free(body);
    return result;
}

/* `user` is how many bytes to send before the connection is cut. */
static ssize_t stream(void *user, uint64_t position, char *buffer, size_t room)
{
    size_t last = (size_t)(uintptr_t)user;
    if (position >= last)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t n = room < last - position ? room : last - (size_t)position;
    memset(buffer, ' ', n);
    return (ssize_t)n;
}

static enum MHD_Result reply_stream(struct MHD_Connection *connection, uint64_t promised, size_t sent)
{
    struct MHD_Response *response =
        MHD_create_response_from_callback(promised, 4096, stream, (void *)(uintptr_t)sent, NULL);
    enum MHD_Result result = MHD_queue_response(connection, 200, response);
    MHD_destroy_response(response);
    return result;
}

static bool asks(const char *form, const char *query)
{
    size_t length = strlen(query);
    return strncmp(form, "query=", 6) == 0 && strncmp(form + 6, query, length) == 0 && form[6 + length] == '&';
}

static enum MHD_Result respond(struct MHD_Connection *connection, const char *form)
{
    int hit = atomic_fetch_add(&hits, 1) + 1;
    if (asks(form, "slow"))
        usleep(700000);
    if (asks(form, "flaky") && hit < 3)
        return reply(connection, 503, "{\"status\":\"error\",\"errorType\":\"timeout\",\"error\":\"too busy\"}");
    if (asks(form, "down"))
        return reply(connection, 500, "<html>oops</html>");
    if (asks(form, "bad"))
        return reply(connection, 400, "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"no query\"}");
    if (asks(form, "moved"))
        return reply(connection, 302, "elsewhere");
    if (asks(form, "cut") || (asks(form, "cut_once") && hit == 1))
        return reply_stream(connection, 100000, 50000);
    if (asks(form, "cut_chunked"))
        return reply_stream(connection, MHD_SIZE_UNKNOWN, 50000);
    if (asks(form, "huge"))
        return reply_stream(connection, MHD_SIZE_UNKNOWN, HUGE_BODY);
    if (asks(form, "closed"))
        return MHD_NO;
    if (asks(form, "form"))
        return reply_string(connection, form);
    static const char *const headers[] = {"Authorization", "Cookie", "X-Scope-OrgID", "X-Empty", "Expect"};
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
        if (asks(form, headers[i]))
            return reply_string(connection, MHD_lookup_connection_value(connection, MHD_HEADER_KIND, headers[i]));
    return reply_string(connection, "ok");
}

static enum MHD_Result handle(void *user, struct MHD_Connection *connection, const char *path, const char *method,
                              const char *version, const char *bytes, size_t *length, void **request)
{
    (void)user;
    (void)version;
    if (strcmp(path, "/prefix/api/v1/query") != 0 || strcmp(method, "POST") != 0) {
        atomic_fetch_add(&elsewhere, 1);
        return reply(connection, 404, "404 page not found");
    }
    struct strbuf *form = *request;
    if (!form) {
        *request = mem_alloc(1, sizeof *form);
        return MHD_YES;
    }
    if (*length) {
        strbuf_add(form, bytes, *length);
        *length = 0;
        return MHD_YES;
    }
    return respond(connection, form->text ? form->text : "");
}

static void completed(void *user, struct MHD_Connection *connection, void **request,
                      enum MHD_RequestTerminationCode why)
{
    (void)user;
    (void)connection;
    (void)why;
    if (!*request)
        return;
    strbuf_free(*request);
    free(*request);
}

static void count_connection(void *user, struct MHD_Connection *connection, void **context,
                             enum MHD_ConnectionNotificationCode code)
{
    (void)user;
    (void)connection;
    (void)context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        atomic_fetch_add(&connections, 1);
}

static int start_server(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    daemon_ = MHD_start_daemon(MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, handle,
                               NULL, MHD_OPTION_SOCK_ADDR, &address, MHD_OPTION_NOTIFY_COMPLETED, completed, NULL,
                               MHD_OPTION_NOTIFY_CONNECTION, count_connection, NULL, MHD_OPTION_END);
    if (!daemon_ || !mkdtemp(folder))
        return -1;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_BIND_PORT);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/prefix/", (unsigned)info->port);
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    MHD_stop_daemon(daemon_);
    return rmdir(folder);
}

static int reset_counts(void **state)
{
    (void)state;
    connections = hits = elsewhere = 0;
    return 0;
}

/* ---- asking ---- */

static struct prom_config quick(void)
{
    return (struct prom_config){.url = url, .timeout_ms = 2000, .retry_pause_ms = 10};
}

static struct prom_client *client_of(const struct prom_config *config)
{
    struct error err = {0};
    struct prom_client *client = prom_client_new(config, &err);
    if (!client)
        fail_msg("%s", err.text);
    return client;
}

static struct prom_batch *ask(struct prom_client *client, const char *text)
{
    const struct prom_query query = {.text = text, .at_ms = 1500};
    return prom_query_all(client, &query, 1);
}

/* One query of one client ends in this error. */
static void must_fail(const struct prom_config *config, const char *text, enum error_code code, const char *fragment)
{
    struct prom_client *client = client_of(config);
    struct prom_batch *batch = ask(client, text);
    const struct prom_result *result = prom_batch_result(batch, 0);
    assert_null(result->answer);
    char *place = mem_printf("query `%s` at %.*s:", text, (int)strlen(url) - 1, url);
    if (result->error.code != code || !strstr(result->error.text, fragment) || !strstr(result->error.text, place))
        fail_msg("code %d: %s", (int)result->error.code, result->error.text);
    free(place);
    prom_batch_free(batch);
    prom_client_free(client);
}

static void must_say(struct prom_client *client, const char *text, const char *expected)
{
    struct prom_batch *batch = ask(client, text);
    const struct prom_result *result = prom_batch_result(batch, 0);
    if (!result->answer)
        fail_msg("%s", result->error.text);
    assert_string_equal(result->answer->string, expected);
    prom_batch_free(batch);
}

static char *write_secret(const char *name, const char *text)
{
    char *path = mem_printf("%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    fputs(text, file);
    fclose(file);
    return path;
}

static void remove_secret(char *path)
{
    unlink(path);
    free(path);
}

/* ---- what must hold ---- */

static void test_form(void **state)
{
    (void)state;
    struct prom_client *client = client_of(&(struct prom_config){.url = url});
    must_say(client, "form",
             "query=form&time=1.500&timeout=10.000&partial_response=false&dedup=true&max_source_resolution=0s");
    prom_client_free(client);
}

static void test_each_query_has_its_own_end(void **state)
{
    (void)state;
    struct prom_config config = quick();
    struct prom_client *client = client_of(&config);
    static const char *const texts[] = {"ok", "bad", "cut_chunked", "ok", "closed", "down", "ok"};
    struct prom_query queries[7] = {0};
    for (size_t i = 0; i < 7; i++)
        queries[i].text = texts[i];
    struct prom_batch *batch = prom_query_all(client, queries, 7);
    for (size_t i = 0; i < 7; i++) {
        const struct prom_result *result = prom_batch_result(batch, i);
        assert_int_equal(result->answer != NULL, strcmp(texts[i], "ok") == 0);
        assert_int_equal(result->error.code != ERROR_NONE, strcmp(texts[i], "ok") != 0);
        if (!result->answer && !strstr(result->error.text, texts[i]))
            fail_msg("%s: %s", texts[i], result->error.text);
    }
    prom_batch_free(batch);
    prom_client_free(client);
}

static void test_connections_are_reused(void **state)
{
    (void)state;
    struct prom_config config = quick();
    config.parallel = 4;
    struct prom_client *client = client_of(&config);
    struct prom_query queries[20] = {0};
    for (size_t i = 0; i < 20; i++)
        queries[i].text = "ok";
    for (int look = 0; look < 10; look++) {
        struct prom_batch *batch = prom_query_all(client, queries, 20);
        for (size_t i = 0; i < 20; i++)
            assert_non_null(prom_batch_result(batch, i)->answer);
        prom_batch_free(batch);
    }
    assert_int_equal(hits, 200);
    assert_in_range(connections, 1, 4);
    prom_client_free(client);
}

static void test_5xx_is_tried_again(void **state)
{
    (void)state;
    struct prom_config config = quick();
    struct prom_client *client = client_of(&config);
    must_say(client, "flaky", "ok");
    assert_int_equal(hits, 3);
    prom_client_free(client);
    hits = 0;
    must_fail(&config, "down", ERROR_UNAVAILABLE, "after 3 tries");
    assert_int_equal(hits, 3);
    hits = 0;
    config.tries = 2;
    must_fail(&config, "flaky", ERROR_UNAVAILABLE, "timeout: too busy (HTTP 503)");
    assert_int_equal(hits, 2);
}

static void test_4xx_is_not(void **state)
{
    (void)state;
    struct prom_config config = quick();
    must_fail(&config, "bad", ERROR_DATA, "bad_data: no query (HTTP 400)");
    assert_int_equal(hits, 1);
}

static void test_pauses_grow(void **state)
{
    (void)state;
    struct prom_config config = quick();
    config.retry_pause_ms = 100;
    int64_t before = now_ms();
    must_fail(&config, "down", ERROR_UNAVAILABLE, "HTTP 500");
    int64_t took = now_ms() - before;
    assert_in_range(took, 50 + 100, 100 + 200 + 400); /* half to whole of 100 and of 200, and a slow machine */
}

static void test_broken_connections_are_tried_again(void **state)
{
    (void)state;
    struct prom_config config = quick();
    struct prom_client *client = client_of(&config);
    must_say(client, "cut_once", "ok");
    assert_int_equal(hits, 2);
    prom_client_free(client);
    must_fail(&config, "cut", ERROR_UNAVAILABLE, "after 3 tries");
    must_fail(&config, "cut_chunked", ERROR_UNAVAILABLE, "after 3 tries");
    must_fail(&config, "closed", ERROR_UNAVAILABLE, "after 3 tries");
}

static void test_time_outs(void **state)
{
    (void)state;
    struct prom_config config = quick();
    config.timeout_ms = 200;
    config.deadline_ms = 500;
    int64_t before = now_ms();
    must_fail(&config, "slow", ERROR_UNAVAILABLE, "raise prometheus.timeout");
    int64_t took = now_ms() - before;
    assert_in_range(took, 200, 650);
}

/* Six queries of 0.7 s, one at a time, in 1 s: the first is answered, the others end when the time is over. */
static void test_deadline_holds_for_those_who_wait(void **state)
{
    (void)state;
    struct prom_config config = quick();
    config.parallel = 1;
    config.deadline_ms = 1000;
    struct prom_client *client = client_of(&config);
    struct prom_query queries[6] = {0};
    for (size_t i = 0; i < 6; i++)
        queries[i].text = "slow";
    int64_t before = now_ms();
    struct prom_batch *batch = prom_query_all(client, queries, 6);
    assert_in_range(now_ms() - before, 900, 1300);
    assert_non_null(prom_batch_result(batch, 0)->answer);
    assert_null(prom_batch_result(batch, 1)->answer);
    assert_non_null(strstr(prom_batch_result(batch, 5)->error.text, "no time was left"));
    prom_batch_free(batch);
    prom_client_free(client);
}

static void test_stepping_does_not_block(void **state)
{
    (void)state;
    struct prom_config config = quick();
    struct prom_client *client = client_of(&config);
    const struct prom_query slow = {.text = "slow"}, ok = {.text = "ok"};
    assert_false(prom_step(client, 1000)); /* nothing to do: no waiting */
    struct prom_batch *first = prom_start(client, &slow, 1), *second = prom_start(client, &ok, 1);
    int64_t before = now_ms(), longest = 0;
    int steps = 0;
    bool overtaken = false;
    while (!prom_batch_done(first)) {
        int64_t begun = now_ms();
        bool more = prom_step(client, 20);
        assert_int_equal(more, !prom_batch_done(first) || !prom_batch_done(second));
        longest = now_ms() - begun > longest ? now_ms() - begun : longest;
        overtaken = overtaken || (prom_batch_done(second) && !prom_batch_done(first));
        steps++;
    }
    assert_in_range(now_ms() - before, 600, 1200);
    assert_in_range(longest, 0, 200);
    assert_true(steps >= 20);
    assert_true(overtaken);
    assert_non_null(prom_batch_result(first, 0)->answer);
    prom_batch_free(first);
    prom_batch_free(second);
    prom_client_free(client);
}

static void test_given_up_batch(void **state)
{
    (void)state;
    struct prom_config config = quick();
    struct prom_client *client = client_of(&config);
    const struct prom_query slow = {.text = "slow"};
    struct prom_batch *batch = prom_start(client, &slow, 1);
    prom_step(client, 50);
    assert_false(prom_batch_done(batch));
    prom_batch_free(batch);
    must_say(client, "ok", "ok");
    batch = prom_start(client, NULL, 0);
    assert_true(prom_batch_done(batch));
    prom_batch_free(batch);
    prom_client_free(client);
}

static void test_huge_answer(void **state)
{
    (void)state;
    struct prom_config config = quick();
    config.limits.bytes = 1 << 20;
    must_fail(&config, "huge", ERROR_DATA, "larger than 1048576 bytes");
    assert_int_equal(hits, 1);
    config.limits.bytes = HUGE_BODY + 1; /* large enough, and then cut off */
    must_fail(&config, "huge", ERROR_UNAVAILABLE, "after 3 tries");
}

static void test_redirects_and_cookies(void **state)
{
    (void)state;
    char *token = write_secret("token", "t0ken");
    struct prom_config config = quick();
    config.bearer_token_file = token;
    must_fail(&config, "moved", ERROR_UNAVAILABLE, "redirects are not followed");
    assert_int_equal(elsewhere, 0);
    struct prom_client *client = client_of(&config);
    must_say(client, "ok", "ok");
    must_say(client, "Cookie", "none");
    must_say(client, "Expect", "none");
    prom_client_free(client);
    remove_secret(token);
}

static void test_credentials(void **state)
{
    (void)state;
    char *secret = write_secret("secret", "pass:word\n");
    struct prom_config config = quick();
    config.username = "user";
    config.password_file = secret;
    struct prom_client *client = client_of(&config);
    must_say(client, "Authorization", "Basic dXNlcjpwYXNzOndvcmQ="); /* user:pass:word */
    free(write_secret("secret", "new\r\n"));
    must_say(client, "Authorization", "Basic dXNlcjpuZXc="); /* read anew for each batch */
    prom_client_free(client);

    config = quick();
    config.bearer_token_file = secret;
    client = client_of(&config);
    must_say(client, "Authorization", "Bearer new");
    prom_client_free(client);

    config = quick();
    const struct prom_header headers[] = {{"X-Scope-OrgID", "team-a|team-b"}, {"X-Empty", ""}};
    config.headers = headers;
    config.header_count = 2;
    client = client_of(&config);
    must_say(client, "X-Scope-OrgID", "team-a|team-b");
    must_say(client, "X-Empty", "");
    must_say(client, "Authorization", "none");
    prom_client_free(client);
    remove_secret(secret);
}

static void bad_secret(const char *text, enum error_code code, const char *fragment)
{
    char *path = text ? write_secret("bad", text) : mem_strdup("/nowhere/secret");
    struct prom_config config = quick();
    config.bearer_token_file = path;
    struct prom_client *client = client_of(&config);
    struct prom_batch *batch = ask(client, "ok");
    const struct prom_result *result = prom_batch_result(batch, 0);
    assert_null(result->answer);
    if (result->error.code != code || !strstr(result->error.text, fragment) || !strstr(result->error.text, path))
        fail_msg("code %d: %s", (int)result->error.code, result->error.text);
    prom_batch_free(batch);
    prom_client_free(client);
    remove_secret(path);
}

static void test_bad_secrets(void **state)
{
    (void)state;
    bad_secret(NULL, ERROR_NO_INPUT, "cannot be read");
    bad_secret("", ERROR_DATA, "empty");
    bad_secret("\n", ERROR_DATA, "empty");
    bad_secret("a\nb\n", ERROR_DATA, "one line");
    assert_int_equal(hits, 0); /* nothing is asked without the credentials */
}

static void test_nobody_there(void **state)
{
    (void)state;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0); /* bound, and not listening */
    getsockname(fd, (struct sockaddr *)&address, &length);
    char kept[sizeof url];
    memcpy(kept, url, sizeof url);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", (unsigned)ntohs(address.sin_port));
    struct prom_config config = quick();
    must_fail(&config, "ok", ERROR_UNAVAILABLE, "is Prometheus running");
    memcpy(url, kept, sizeof url);
    close(fd);
}

static void test_wrong_prefix(void **state)
{
    (void)state;
    char kept[sizeof url];
    memcpy(kept, url, sizeof url);
    memcpy(strstr(url, "prefix"), "prefax", 6);
    struct prom_config config = quick();
    must_fail(&config, "ok", ERROR_UNAVAILABLE, "wrong path prefix?");
    assert_int_equal(elsewhere, 1);
    memcpy(url, kept, sizeof url);
}

static void bad_config(struct prom_config config, const char *fragment)
{
    struct error err = {0};
    assert_null(prom_client_new(&config, &err));
    if (err.code != ERROR_DATA || !strstr(err.text, fragment))
        fail_msg("code %d: %s", (int)err.code, err.text);
    assert_null(strstr(err.text, "hunter2"));
}

static void test_bad_configurations(void **state)
{
    (void)state;
    const struct prom_header control = {"X-A", "a\r\nX-B: b"}, name = {"X A", "a"}, host = {"host", "a"},
                             authorization = {"authorization", "Bearer x"};
    bad_config((struct prom_config){0}, "missing");
    bad_config((struct prom_config){.url = "prometheus:9090"}, "URL");
    bad_config((struct prom_config){.url = "file:///etc/passwd"}, "http://");
    bad_config((struct prom_config){.url = "http://u:hunter2@a:9090"}, "password_file");
    bad_config((struct prom_config){.url = "http://u:hunter2@a:90900"}, "not a URL");
    bad_config((struct prom_config){.url = "http://a/?x=1"}, "`?`");
    bad_config((struct prom_config){.url = "http://a", .ca_file = "ca"}, "https://");
    bad_config((struct prom_config){.url = "http://a", .username = "u"}, "password_file");
    bad_config((struct prom_config){.url = "http://a", .username = "u:v", .password_file = "f"}, "colon");
    bad_config((struct prom_config){.url = "http://a", .username = "u", .password_file = "f", .bearer_token_file = "f"},
               "exclude");
    bad_config((struct prom_config){.url = "https://a", .cert_file = "f"}, "key_file");
    bad_config((struct prom_config){.url = "https://a", .server_name = "a b"}, "server_name");
    bad_config((struct prom_config){.url = "http://a", .timeout_ms = -1}, "negative");
    bad_config((struct prom_config){.url = "http://a", .headers = &control, .header_count = 1}, "control character");
    bad_config((struct prom_config){.url = "http://a", .headers = &name, .header_count = 1}, "X A");
    bad_config((struct prom_config){.url = "http://a", .headers = &host, .header_count = 1}, "host");
    bad_config(
        (struct prom_config){.url = "http://a", .headers = &authorization, .header_count = 1, .bearer_token_file = "f"},
        "exclude");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_form, reset_counts),
        cmocka_unit_test_setup(test_each_query_has_its_own_end, reset_counts),
        cmocka_unit_test_setup(test_connections_are_reused, reset_counts),
        cmocka_unit_test_setup(test_5xx_is_tried_again, reset_counts),
        cmocka_unit_test_setup(test_4xx_is_not, reset_counts),
        cmocka_unit_test_setup(test_pauses_grow, reset_counts),
        cmocka_unit_test_setup(test_broken_connections_are_tried_again, reset_counts),
        cmocka_unit_test_setup(test_time_outs, reset_counts),
        cmocka_unit_test_setup(test_deadline_holds_for_those_who_wait, reset_counts),
        cmocka_unit_test_setup(test_stepping_does_not_block, reset_counts),
        cmocka_unit_test_setup(test_given_up_batch, reset_counts),
        cmocka_unit_test_setup(test_huge_answer, reset_counts),
        cmocka_unit_test_setup(test_redirects_and_cookies, reset_counts),
        cmocka_unit_test_setup(test_credentials, reset_counts),
        cmocka_unit_test_setup(test_bad_secrets, reset_counts),
        cmocka_unit_test_setup(test_nobody_there, reset_counts),
        cmocka_unit_test_setup(test_wrong_prefix, reset_counts),
        cmocka_unit_test_setup(test_bad_configurations, reset_counts),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
