/*
 * The client against the real Prometheus: one that scrapes itself below a path prefix, and one behind TLS with client
 * certificates and basic auth. Needs `prometheus` and `openssl` in the path.
 */
#include "base/memory.h"
#include "base/strbuf.h"
#include "promclient/client.h"
#include "promclient/increments.h"
#include "tests/integration/ports.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

struct server {
    pid_t pid;
    unsigned port;
    char url[64];
};

static char folder[] = "/tmp/promclient-XXXXXX";
static struct server plain, secure;

static int64_t unix_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A path in the test's folder; one of a few buffers, so that an initializer can hold several. */
static const char *in(const char *name)
{
    static char paths[8][64];
    static size_t next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void write_file(const char *name, const char *format, ...)
{
    FILE *file = fopen(in(name), "w");
    assert_non_null(file);
    va_list args;
    va_start(args, format);
    vfprintf(file, format, args);
    va_end(args);
    fclose(file);
}

/* ---- servers ---- */

static pid_t run_prometheus(const char *name, unsigned port, const char *extra)
{
    char *config = mem_printf("--config.file=%s/%s.yml", folder, name);
    char *data = mem_printf("--storage.tsdb.path=%s/%s.data", folder, name);
    char *listen = mem_printf("--web.listen-address=127.0.0.1:%u", port);
    char *log = mem_printf("%s/%s.log", folder, name);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (!freopen(log, "w", stdout) || !freopen(log, "a", stderr))
            _exit(127);
        execlp("prometheus", "prometheus", config, data, listen, extra, (char *)NULL);
        _exit(127);
    }
    free(config);
    free(data);
    free(listen);
    free(log);
    return pid;
}

static struct prom_config secure_config(void)
{
    static char url[64];
    snprintf(url, sizeof url, "https://127.0.0.1:%u", secure.port);
    return (struct prom_config){.url = url,
                                .timeout_ms = 5000,
                                .username = "haldane",
                                .password_file = in("password"),
                                .ca_file = in("ca.pem"),
                                .cert_file = in("client.pem"),
                                .key_file = in("client.key"),
                                .server_name = "prometheus.internal"};
}

static struct prom_config plain_config(void)
{
    return (struct prom_config){.url = plain.url, .timeout_ms = 5000};
}

/* The last question's client and batch, kept for the result that was handed out. */
static struct prom_client *asked;
static struct prom_batch *asked_batch;

static void forget(void)
{
    prom_batch_free(asked_batch);
    prom_client_free(asked);
    asked_batch = NULL;
    asked = NULL;
}

static struct prom_batch *ask_once(const struct prom_config *config, const char *text)
{
    struct error err = {0};
    forget();
    asked = prom_client_new(config, &err);
    if (!asked)
        fail_msg("%s", err.text);
    const struct prom_query query = {.text = text, .at_ms = unix_ms()};
    asked_batch = prom_query_all(asked, &query, 1);
    return asked_batch;
}

static bool ready(const struct prom_config *config, const char *query, size_t series)
{
    for (int i = 0; i < 150; i++) {
        const struct prom_result *result = prom_batch_result(ask_once(config, query), 0);
        if (result->answer && result->answer->series_count >= series)
            return true;
        usleep(200000);
    }
    return false;
}

static int start_plain(void)
{
    plain.port = free_port();
    snprintf(plain.url, sizeof plain.url, "http://127.0.0.1:%u/metrics/prom", plain.port);
    write_file("plain.yml",
               "global: {scrape_interval: 500ms}\nscrape_configs:\n- job_name: self\n  metrics_path: "
               "/metrics/prom/metrics\n  static_configs: [{targets: ['127.0.0.1:%u'], labels: {track: canary}}]\n",
               plain.port);
    char *prefix = mem_printf("--web.external-url=%s", plain.url);
    plain.pid = run_prometheus("plain", plain.port, prefix);
    free(prefix);
    struct prom_config config = plain_config();
    return plain.pid > 0 && ready(&config, "prometheus_http_requests_total{code=\"200\"}", 1) ? 0 : -1;
}

static int make_certificates(void)
{
    char *script = mem_printf(
        "cd %s && exec >openssl.log 2>&1 && set -e\n"
        "new() { openssl req -newkey rsa:2048 -nodes -keyout $1.key -subj /CN=$1 \"${@:2}\"; }\n"
        "new ca -x509 -days 2 -out ca.pem\n"
        "new other -x509 -days 2 -out other.pem\n"
        "printf 'subjectAltName=DNS:prometheus.internal\\nextendedKeyUsage=serverAuth\\n' >server.ext\n"
        "printf 'extendedKeyUsage=clientAuth\\n' >client.ext\n"
        "for name in server client; do\n"
        "  new $name -out $name.csr\n"
        "  openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile $name.ext -out "
        "$name.pem\n"
        "done\n",
        folder);
    write_file("make-certificates", "%s", script);
    free(script);
    char *command = mem_printf("bash %s/make-certificates", folder);
    int status = system(command);
    free(command);
    return status;
}

static int start_secure(void)
{
    secure.port = free_port();
    if (make_certificates() != 0)
        return -1;
    write_file("password", "s3cret\n");
    write_file("wrong-password", "secret\n");
    write_file("secure.yml", "global: {scrape_interval: 1m}\n");
    /* The password above, as bcrypt. */
    write_file("web.yml",
               "tls_server_config: {cert_file: server.pem, key_file: server.key, client_ca_file: ca.pem, "
               "client_auth_type: RequireAndVerifyClientCert}\n"
               "basic_auth_users: {haldane: '$2b$04$abcdefghijklmnopqrstuuLZYjhNQAOdpbzt4WxWlUHjv1wsyH5DG'}\n");
    char *web = mem_printf("--web.config.file=%s/web.yml", folder);
    secure.pid = run_prometheus("secure", secure.port, web);
    free(web);
    struct prom_config config = secure_config();
    return secure.pid > 0 && ready(&config, "vector(1)", 1) ? 0 : -1;
}

static int start_servers(void **state)
{
    (void)state;
    return !mkdtemp(folder) || start_plain() != 0 || start_secure() != 0 ? -1 : 0;
}

static void stop(const struct server *server)
{
    if (server->pid <= 0)
        return;
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
}

static int stop_servers(void **state)
{
    (void)state;
    forget();
    stop(&plain);
    stop(&secure);
    char *command = mem_printf("rm -rf %s", folder);
    int status = system(command);
    free(command);
    return status;
}

/* ---- what must hold ---- */

static void must_fail(const struct prom_config *config, const char *text, enum error_code code, const char *fragment)
{
    const struct prom_result *result = prom_batch_result(ask_once(config, text), 0);
    assert_null(result->answer);
    if (result->error.code != code || !strstr(result->error.text, fragment))
        fail_msg("code %d: %s", (int)result->error.code, result->error.text);
}

static void must_answer(const struct prom_config *config, const char *text)
{
    const struct prom_result *result = prom_batch_result(ask_once(config, text), 0);
    if (!result->answer)
        fail_msg("%s", result->error.text);
}

/* One look as the collector takes it: raw counters and buckets, all at one time, into exact increments. */
static void test_a_look(void **state)
{
    (void)state;
    struct error err = {0};
    struct prom_config config = plain_config();
    assert_true(ready(&config, "count_over_time(prometheus_http_requests_total{code=\"200\"}[1m]) >= 6", 1));
    struct prom_client *client = prom_client_new(&config, &err);
    const struct prom_expect counts = {PROM_MATRIX, true, false};
    int64_t at = unix_ms();
    const struct prom_query queries[] = {
        {"prometheus_http_requests_total{track=\"canary\"}[1m]", at, counts},
        {"prometheus_http_requests_total{track=\"canary\",code=~\"5..\"}[1m]", at, counts},
        {"prometheus_http_request_duration_seconds_bucket{track=\"canary\"}[1m]", at, counts},
        {"sum(increase(prometheus_http_requests_total[1m]))", at, {PROM_VECTOR | PROM_SCALAR, false, true}},
    };
    struct prom_batch *batch = prom_query_all(client, queries, 4);
    for (size_t i = 0; i < 4; i++)
        if (!prom_batch_result(batch, i)->answer)
            fail_msg("%s", prom_batch_result(batch, i)->error.text);
    struct counter_set *set = counter_set_new(at - 60000);
    assert_true(counter_set_add(set, "errors", COUNTER_TOTAL, prom_batch_result(batch, 0)->answer, &err));
    assert_true(counter_set_add(set, "errors", COUNTER_FAILED, prom_batch_result(batch, 1)->answer, &err));
    assert_true(counter_set_add(set, "latency", COUNTER_BUCKET, prom_batch_result(batch, 2)->answer, &err));
    struct counter_interval errors, latency;
    if (!counter_set_interval(set, "errors", at - 59000, at, &errors, &err) ||
        !counter_set_interval(set, "latency", at - 59000, at, &latency, &err))
        fail_msg("%s", err.text);
    assert_int_equal(errors.count, 1);
    /* Prometheus counts a request in both metrics at once: the two ways must agree, and there were some. */
    assert_true(errors.targets[0].requests >= 5);
    assert_int_equal(errors.targets[0].requests, latency.targets[0].requests);
    assert_int_equal(errors.targets[0].failed, 0);
    assert_true(at - errors.targets[0].newest_ms < 5000);
    counter_interval_free(&errors);
    counter_interval_free(&latency);
    counter_set_free(set);
    prom_batch_free(batch);
    prom_client_free(client);
}

static void test_real_refusals(void **state)
{
    (void)state;
    struct prom_config config = plain_config();
    must_fail(&config, "sum(up", ERROR_DATA, "bad_data: invalid parameter \"query\"");
    must_fail(&config, "", ERROR_DATA, "HTTP 400");
    must_fail(&config, "up * on() group_left up[1m]", ERROR_DATA, "HTTP 400");
    char *url = mem_printf("http://127.0.0.1:%u", plain.port);
    config.url = url; /* without the prefix */
    must_fail(&config, "up", ERROR_UNAVAILABLE, "HTTP 404");
    free(url);
}

static void test_long_query(void **state)
{
    (void)state;
    struct strbuf text = {0};
    strbuf_puts(&text, "up{job=\"self\", x!=\"");
    while (text.length < 200000)
        strbuf_puts(&text, "&=+% \xc3\xa4");
    strbuf_puts(&text, "\"}");
    struct prom_config config = plain_config();
    const struct prom_result *result = prom_batch_result(ask_once(&config, text.text), 0);
    strbuf_free(&text);
    if (!result->answer)
        fail_msg("%s", result->error.text);
    assert_int_equal(result->answer->series_count, 1);
}

static void test_tls_with_everything(void **state)
{
    (void)state;
    struct prom_config config = secure_config();
    must_answer(&config, "vector(1)");
}

static void test_tls_many_at_once(void **state)
{
    (void)state;
    struct error err = {0};
    struct prom_config config = secure_config();
    struct prom_client *client = prom_client_new(&config, &err);
    struct prom_query queries[100] = {0};
    for (size_t i = 0; i < 100; i++)
        queries[i] = (struct prom_query){.text = "vector(time())", .at_ms = (int64_t)i * 1000};
    for (int look = 0; look < 3; look++) {
        struct prom_batch *batch = prom_query_all(client, queries, 100);
        for (size_t i = 0; i < 100; i++) {
            const struct prom_result *result = prom_batch_result(batch, i);
            if (!result->answer)
                fail_msg("%s", result->error.text);
            assert_true((size_t)result->answer->series[0].samples[0].value == i); /* each its own */
        }
        prom_batch_free(batch);
    }
    prom_client_free(client);
}

static void test_tls_refusals(void **state)
{
    (void)state;
    struct prom_config config = secure_config();
    config.password_file = in("wrong-password");
    must_fail(&config, "vector(1)", ERROR_DENIED, "HTTP 401");
    config = secure_config();
    config.username = config.password_file = NULL;
    must_fail(&config, "vector(1)", ERROR_DENIED, "HTTP 401");
    config = secure_config();
    config.server_name = NULL; /* the certificate is for a name, not for 127.0.0.1 */
    must_fail(&config, "vector(1)", ERROR_UNAVAILABLE, "server_name");
    config = secure_config();
    config.server_name = "other.internal";
    must_fail(&config, "vector(1)", ERROR_UNAVAILABLE, "server_name");
    config = secure_config();
    config.ca_file = in("other.pem");
    must_fail(&config, "vector(1)", ERROR_UNAVAILABLE, "ca_file");
    config = secure_config();
    config.ca_file = in("missing.pem");
    must_fail(&config, "vector(1)", ERROR_NO_INPUT, "ca_file");
    config = secure_config();
    config.key_file = in("server.key"); /* not the certificate's own */
    must_fail(&config, "vector(1)", ERROR_NO_INPUT, "key_file");
    config = secure_config();
    config.cert_file = config.key_file = NULL;
    must_fail(&config, "vector(1)", ERROR_UNAVAILABLE, "client certificate");
}

static void test_http_where_https_is_spoken(void **state)
{
    (void)state;
    char *url = mem_printf("http://127.0.0.1:%u", secure.port);
    struct prom_config config = {.url = url, .timeout_ms = 5000};
    must_fail(&config, "vector(1)", ERROR_UNAVAILABLE, "HTTP 400");
    free(url);
    url = mem_printf("https://127.0.0.1:%u", plain.port);
    config.url = url;
    must_fail(&config, "vector(1)", ERROR_UNAVAILABLE, "speak TLS");
    free(url);
}

/* The server goes away between two looks, and comes back: an error, and then answers on new connections. */
static void test_server_restarts(void **state)
{
    (void)state;
    struct error err = {0};
    struct prom_config config = secure_config();
    config.retry_pause_ms = 10;
    struct prom_client *client = prom_client_new(&config, &err);
    const struct prom_query query = {.text = "vector(1)"};
    struct prom_batch *batch = prom_query_all(client, &query, 1);
    assert_non_null(prom_batch_result(batch, 0)->answer);
    prom_batch_free(batch);
    stop(&secure);
    batch = prom_query_all(client, &query, 1);
    assert_null(prom_batch_result(batch, 0)->answer);
    assert_int_equal(prom_batch_result(batch, 0)->error.code, ERROR_UNAVAILABLE);
    prom_batch_free(batch);
    char *web = mem_printf("--web.config.file=%s/web.yml", folder);
    secure.pid = run_prometheus("secure", secure.port, web);
    free(web);
    bool answered = false;
    for (int i = 0; i < 100 && !answered; i++) {
        usleep(100000);
        batch = prom_query_all(client, &query, 1);
        answered = prom_batch_result(batch, 0)->answer != NULL;
        prom_batch_free(batch);
    }
    assert_true(answered);
    prom_client_free(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_look),
        cmocka_unit_test(test_real_refusals),
        cmocka_unit_test(test_long_query),
        cmocka_unit_test(test_tls_with_everything),
        cmocka_unit_test(test_tls_many_at_once),
        cmocka_unit_test(test_tls_refusals),
        cmocka_unit_test(test_http_where_https_is_spoken),
        cmocka_unit_test(test_server_restarts),
    };
    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}
