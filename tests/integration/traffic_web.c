/*
 * The drivers of nginx and Caddy against the real servers, which run the example configurations of compose/examples
 * with two demo shops behind them: what a user may rely on when traffic is moved, when somebody else's hand is in the
 * folder, and when the server does not answer or does not take its configuration.
 *
 * Each test starts its own servers in a folder of its own, on ports that the kernel gives.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "analyzer/traffic/driver.h"
#include "base/memory.h"
#include "base/strbuf.h"
#include "tests/integration/ports.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum kind { NGINX_FLAGS, NGINX_SPLIT, CADDY };

struct lab {
    enum kind kind;
    char folder[64];
    char *flags, *config, *split, *probe;
    uint16_t front, ops, port[TRACKS];
    pid_t shop[TRACKS], server;
};

/* ---- small helpers ---- */

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static const char *setting(const char *name)
{
    const char *value = getenv(name);
    if (!value)
        fail_msg("%s is not set", name);
    return value;
}

static bool listens(uint16_t port)
{
    struct sockaddr_in where = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool up = connect(fd, (struct sockaddr *)&where, sizeof where) == 0;
    close(fd);
    return up;
}

static void wait_port(uint16_t port)
{
    for (int i = 0; i < 1000 && !listens(port); i++)
        pause_ms(10);
    assert_true(listens(port));
}

static char *read_whole(const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("%s: %s", path, strerror(errno));
    struct strbuf text = {0};
    char bytes[4096];
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, file)) > 0;)
        strbuf_add(&text, bytes, n);
    fclose(file);
    return strbuf_take(&text);
}

static void write_whole(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (!file)
        fail_msg("%s: %s", path, strerror(errno));
    fputs(text, file);
    fclose(file);
}

static pid_t start(const struct lab *lab, char *const *words)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    setpgid(pid, pid); /* the group is ended as a whole: nginx's workers outlive a killed master */
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* nothing outlives a test that is broken off */
    char *log = mem_printf("%s/out.log", lab->folder);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    execvp(words[0], words);
    _exit(127);
}

/* With all that it started. */
static void stop(pid_t *pid, int sig)
{
    if (*pid > 0) {
        kill(-*pid, sig);
        waitpid(*pid, NULL, 0);
    }
    *pid = 0;
}

/* ---- the servers ---- */

static void replace_all(char **text, const char *from, const char *to)
{
    struct strbuf out = {0};
    const char *rest = *text, *hit = strstr(rest, from);
    if (!hit)
        fail_msg("the example does not have: %s", from);
    for (; hit; hit = strstr(rest, from)) {
        strbuf_add(&out, rest, (size_t)(hit - rest));
        strbuf_puts(&out, to);
        rest = hit + strlen(from);
    }
    strbuf_puts(&out, rest);
    free(*text);
    *text = strbuf_take(&out);
}

static void replace(char **text, const char *from, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void replace(char **text, const char *from, const char *format, ...)
{
    char to[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(to, sizeof to, format, args);
    va_end(args);
    replace_all(text, from, to);
}

static void configure_nginx(const struct lab *lab, char **text)
{
    const char *f = lab->folder;
    replace(text, "user www-data;\n", "%s", "");
    replace(text, "/run/nginx.pid", "%s/nginx.pid", f);
    replace(text, "/var/log/nginx/", "%s/", f);
    replace(text, "\nhttp {",
            "\nhttp {\n client_body_temp_path %s/t1; proxy_temp_path %s/t2; fastcgi_temp_path %s/t3;"
            " uwsgi_temp_path %s/t4; scgi_temp_path %s/t5;",
            f, f, f, f, f);
    replace(text, "listen 80;", "listen 127.0.0.1:%u;", lab->front);
}

static void configure(struct lab *lab)
{
    static const char *const examples[] = {
        [NGINX_FLAGS] = "nginx-flags.conf", [NGINX_SPLIT] = "nginx-split.conf", [CADDY] = "Caddyfile"};
    char *path = mem_printf("%s/compose/examples/%s", setting("HALDANE_SOURCE"), examples[lab->kind]);
    char *text = read_whole(path);
    replace(&text, "10.0.0.1:8080", "127.0.0.1:%u", lab->port[TRACK_STABLE]);
    replace(&text, "10.0.0.7:8080", "127.0.0.1:%u", lab->port[TRACK_CANARY]);
    replace(&text, "127.0.0.1:8405", "127.0.0.1:%u", lab->ops);
    if (lab->kind == NGINX_SPLIT)
        replace(&text, "/etc/nginx/haldane/", "%s/haldane/", lab->folder);
    else
        replace(&text, "/var/lib/haldane/flags", "%s", lab->flags);
    if (lab->kind == CADDY) {
        replace(&text, "http://:80 {", "http://127.0.0.1:%u {", lab->front);
        replace(&text, "admin localhost:2019", "admin off");
    } else
        configure_nginx(lab, &text);
    write_whole(lab->config, text);
    free(text);
    free(path);
}

/* The file to begin with, as the example gives it in its comment. */
static void write_first_split(const struct lab *lab)
{
    static const char text[] =
        "# haldane's split of traffic: written by haldane, which needs this line.\n"
        "split_clients \"$request_id\" $haldane_track {\n"
        "    * stable;\n"
        "}\n"
        "map $host $haldane_share { default '{\"share_bp\":0,\"epoch\":0,\"generation\":0}'; }\n";
    char *folder = mem_printf("%s/haldane", lab->folder);
    mkdir(folder, 0755);
    free(folder);
    write_whole(lab->split, text);
}

static void server_start(struct lab *lab)
{
    char *nginx[] = {"nginx", "-g", "daemon off;", "-c", lab->config, NULL};
    char *caddy[] = {"caddy", "run", "--config", lab->config, "--adapter", "caddyfile", NULL};
    setenv("HOME", lab->folder, 1);
    setenv("XDG_DATA_HOME", lab->folder, 1);
    setenv("XDG_CONFIG_HOME", lab->folder, 1);
    lab->server = start(lab, lab->kind == CADDY ? caddy : nginx);
    wait_port(lab->front);
    wait_port(lab->ops);
}

/* nginx's workers may live a moment longer than their master. */
static void server_stop(struct lab *lab, int sig)
{
    stop(&lab->server, sig);
    for (int i = 0; i < 1000 && (listens(lab->front) || listens(lab->ops)); i++)
        pause_ms(5);
    assert_false(listens(lab->front));
}

static void shop_start(struct lab *lab, enum track track)
{
    char *program = mem_printf("%s/compose/haldane-demo-shop", setting("HALDANE_BUILD"));
    char *where = mem_printf("127.0.0.1:%u", lab->port[track]);
    char *words[] = {program, "--listen", where, "--version", track == TRACK_CANARY ? "v2" : "v1", "--latency-median",
                     "1ms",   NULL};
    lab->shop[track] = start(lab, words);
    free(program);
    free(where);
    wait_port(lab->port[track]);
}

static struct lab *lab_new(void **state, enum kind kind)
{
    struct lab *lab = mem_alloc(1, sizeof *lab);
    *state = lab;
    lab->kind = kind;
    snprintf(lab->folder, sizeof lab->folder, "/tmp/haldane-web-XXXXXX");
    assert_non_null(mkdtemp(lab->folder));
    chmod(lab->folder, 0755);
    lab->flags = mem_printf("%s/flags", lab->folder);
    mkdir(lab->flags, 0755);
    lab->config = mem_printf("%s/config", lab->folder);
    lab->split = mem_printf("%s/haldane/split.conf", lab->folder);
    lab->front = free_port();
    lab->ops = free_port();
    lab->probe = mem_printf("http://127.0.0.1:%u/haldane/share", lab->ops);
    for (int track = 0; track < TRACKS; track++) {
        lab->port[track] = free_port();
        shop_start(lab, (enum track)track);
    }
    if (kind == NGINX_SPLIT)
        write_first_split(lab);
    configure(lab);
    server_start(lab);
    return lab;
}

static int nginx_setup(void **state)
{
    lab_new(state, NGINX_FLAGS);
    return 0;
}

static int split_setup(void **state)
{
    lab_new(state, NGINX_SPLIT);
    return 0;
}

static int caddy_setup(void **state)
{
    lab_new(state, CADDY);
    return 0;
}

static int remove_one(const char *path, const struct stat *what, int flag, struct FTW *walk)
{
    (void)what, (void)flag, (void)walk;
    return remove(path);
}

static int lab_teardown(void **state)
{
    struct lab *lab = *state;
    stop(&lab->server, SIGTERM);
    for (int track = 0; track < TRACKS; track++)
        stop(&lab->shop[track], SIGKILL);
    nftw(lab->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(lab->flags);
    free(lab->config);
    free(lab->split);
    free(lab->probe);
    free(lab);
    return 0;
}

/* ---- drivers ---- */

#define assert_status(got, wanted, err)                                                                                \
    do {                                                                                                               \
        enum driver_status status_ = (got);                                                                            \
        if (status_ != (wanted))                                                                                       \
            fail_msg("status %d, not %d: %s", status_, (wanted), (err).text);                                          \
    } while (0)

static struct driver *open_balancer(const struct lab *lab, struct policy_balancer *balancer)
{
    struct policy_traffic traffic = {
        .driver = lab->kind == CADDY ? DRIVER_CADDY : DRIVER_NGINX, .balancers = balancer, .balancer_count = 1};
    struct error err = {0};
    struct driver *driver = driver_open(&traffic, &err);
    if (!driver)
        fail_msg("%s", err.text);
    return driver;
}

static struct policy_balancer split_balancer(const struct lab *lab, char **test, char **reload)
{
    struct policy_balancer balancer = {.split = lab->split, .key = "$request_id", .probe = lab->probe};
    balancer.test.words = test;
    balancer.reload.words = reload;
    while (test[balancer.test.count])
        balancer.test.count++;
    while (reload[balancer.reload.count])
        balancer.reload.count++;
    return balancer;
}

static struct driver *open_lab(const struct lab *lab)
{
    char *test[] = {"nginx", "-t", "-q", "-c", lab->config, NULL};
    char *reload[] = {"nginx", "-s", "reload", "-c", lab->config, NULL};
    struct policy_balancer flags = {.flags = lab->flags, .probe = lab->probe};
    struct policy_balancer split = split_balancer(lab, test, reload);
    return open_balancer(lab, lab->kind == NGINX_SPLIT ? &split : &flags);
}

static enum driver_status set(struct driver *driver, struct driver_order order, struct driver_state *got,
                              struct error *err)
{
    *err = (struct error){0};
    return driver_set(driver, &order, got, err);
}

static void must_set(struct driver *driver, uint32_t share_bp)
{
    struct driver_state got;
    struct error err;
    assert_status(set(driver, (struct driver_order){.share_bp = share_bp}, &got, &err), DRIVER_OK, err);
    assert_true(driver_is_share(got.share_bp, share_bp));
}

static uint32_t share_in_force(struct driver *driver)
{
    struct driver_state got;
    struct error err = {0};
    assert_status(driver_get(driver, &got, &err), DRIVER_OK, err);
    return got.share_bp;
}

/* ---- clients ---- */

struct answers {
    int count, canary;
};

static size_t note_version(char *bytes, size_t size, size_t count, void *context)
{
    struct answers *answers = context;
    if (size * count > 13 && strncasecmp(bytes, "x-version: v", 12) == 0) {
        answers->count++;
        answers->canary += bytes[12] == '2';
    }
    return size * count;
}

static size_t drop(char *bytes, size_t size, size_t count, void *context)
{
    (void)bytes, (void)context;
    return size * count;
}

/* So many GETs over one connection; each must be answered with 200. Returns how many the canary answered. */
static int ask(const struct lab *lab, int requests, const char *cookie)
{
    struct answers answers = {0};
    char *url = mem_printf("http://127.0.0.1:%u/items", lab->front);
    CURL *easy = curl_easy_init();
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 5000L);
    curl_easy_setopt(easy, CURLOPT_COOKIE, cookie);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, note_version);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &answers);
    for (int i = 0; i < requests; i++) {
        long code = 0;
        assert_int_equal(curl_easy_perform(easy), CURLE_OK);
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &code);
        assert_int_equal(code, 200);
    }
    curl_easy_cleanup(easy);
    free(url);
    assert_int_equal(answers.count, requests);
    return answers.canary;
}

static void assert_share_is_real(const struct lab *lab, uint32_t share_bp)
{
    int requests = share_bp == 0 || share_bp == 10000 ? 60 : 400; /* there nothing is left to chance */
    double p = share_bp / 10000.0, slack = 4 * sqrt(requests * p * (1 - p));
    int canary = ask(lab, requests, NULL);
    if (fabs(canary - requests * p) > slack)
        fail_msg("%u bp: %d of %d requests reached the canary", share_bp, canary, requests);
}

static pid_t load_start(const struct lab *lab, const char *rate, const char *seconds, const char *posts)
{
    char *program = mem_printf("%s/compose/haldane-demo-load", setting("HALDANE_BUILD"));
    char *url = mem_printf("http://127.0.0.1:%u", lab->front), *json = mem_printf("%s/load.json", lab->folder);
    char *words[] = {program,
                     "--url",
                     url,
                     "--rate",
                     (char *)(uintptr_t)rate,
                     "--duration",
                     (char *)(uintptr_t)seconds,
                     "--post-share",
                     (char *)(uintptr_t)posts,
                     "--short-share",
                     "5%",
                     "--json",
                     json,
                     NULL};
    pid_t pid = start(lab, words);
    free(program);
    free(url);
    free(json);
    return pid;
}

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItem(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : -1;
}

/* Waits for the end of the load: everything that was due was answered, and well. */
static void assert_nothing_was_lost(const struct lab *lab, pid_t load)
{
    int status;
    assert_int_equal(waitpid(load, &status, 0), load);
    assert_int_equal(status, 0);
    char *path = mem_printf("%s/load.json", lab->folder), *text = read_whole(path);
    cJSON *result = cJSON_Parse(text);
    assert_non_null(result);
    double due = number(result, "due"), good = 0;
    assert_true(due > 500);
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(result, "status")) good +=
        *item->string == '2' ? item->valuedouble : 0;
    if (number(result, "failed") != 0 || good != due)
        fail_msg("something was lost: %.1500s", text);
    cJSON_Delete(result);
    free(text);
    free(path);
}

/* ---- flags: what must hold with both servers ---- */

static void every_share_is_set_read_back_and_real(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    assert_int_equal(share_in_force(driver), 0);
    assert_share_is_real(lab, 0);
    static const uint32_t shares[] = {500, 1000, 2500, 5000, 10000, 0};
    for (size_t i = lab->kind == NGINX_SPLIT ? 2 : 0; i < sizeof shares / sizeof shares[0]; i++) {
        must_set(driver, shares[i]);
        must_set(driver, shares[i]);
        assert_true(driver_is_share(share_in_force(driver), shares[i]));
        assert_share_is_real(lab, shares[i]);
    }
    struct driver_state got;
    struct error err = {0};
    assert_status(driver_get(driver, &got, &err), DRIVER_OK, err);
    uint32_t wanted = DRIVER_READBACK | DRIVER_PERSIST | DRIVER_CAS;
    assert_int_equal(got.capabilities, lab->kind == NGINX_SPLIT ? wanted : wanted | DRIVER_NO_RELOAD);
    assert_int_equal(got.lease_left_ms, -1);
    assert_false(got.health_known);
    driver_close(driver);
}

static void twenty_changes_lose_no_post(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    pid_t load = load_start(lab, "600", "2s", "100%");
    pause_ms(150);
    for (uint32_t i = 0; i < 20; i++) {
        must_set(driver, i % 2 ? 1000 : 5000);
        pause_ms(60);
    }
    assert_nothing_was_lost(lab, load);
    driver_close(driver);
}

static void a_canary_that_crashes_loses_no_get(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    must_set(driver, 5000);
    pid_t load = load_start(lab, "500", "1500ms", "0%");
    pause_ms(600);
    stop(&lab->shop[TRACK_CANARY], SIGKILL);
    assert_nothing_was_lost(lab, load);
    /* The way back is not blocked by it. */
    must_set(driver, 0);
    driver_close(driver);
}

static void older_rollouts_are_fenced(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    struct driver_state got;
    struct error err;
    assert_status(set(driver, (struct driver_order){.share_bp = 500, .epoch = 7, .claim = true}, &got, &err), DRIVER_OK,
                  err);
    assert_int_equal(got.epoch, 7);
    assert_status(set(driver, (struct driver_order){.share_bp = 1000, .epoch = 7, .claim = true}, &got, &err),
                  DRIVER_FENCED, err);
    assert_int_equal(err.code, ERROR_BUSY);
    assert_status(set(driver, (struct driver_order){.share_bp = 0, .epoch = 6}, &got, &err), DRIVER_FENCED, err);
    assert_int_equal(share_in_force(driver), 500);
    assert_status(set(driver, (struct driver_order){.share_bp = 1000, .epoch = 7}, &got, &err), DRIVER_OK, err);
    /* By hand nothing is fenced, and the epoch stays. */
    assert_status(set(driver, (struct driver_order){.share_bp = 2000}, &got, &err), DRIVER_OK, err);
    assert_int_equal(got.epoch, 7);
    assert_status(set(driver, (struct driver_order){.share_bp = 0, .epoch = 8, .claim = true}, &got, &err), DRIVER_OK,
                  err);
    assert_int_equal(got.epoch, 8);
    assert_int_equal(got.share_bp, 0);
    driver_close(driver);
}

static void the_share_survives_a_restart(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    must_set(driver, 10000);
    server_stop(lab, SIGKILL);
    server_start(lab);
    assert_int_equal(share_in_force(driver), 10000);
    assert_share_is_real(lab, 10000);
    driver_close(driver);
}

static void write_again_and_again(const struct lab *lab, uint32_t first, uint32_t second, int rounds)
{
    struct driver *driver = open_lab(lab);
    for (int i = 0; i < rounds; i++) {
        struct driver_state got;
        struct error err;
        uint32_t share = i % 2 ? first : second;
        if (set(driver, (struct driver_order){.share_bp = share}, &got, &err) != DRIVER_OK || got.share_bp != share) {
            fprintf(stderr, "%u bp: read back %u: %s\n", share, got.share_bp, err.text);
            _exit(1);
        }
    }
    driver_close(driver);
    _exit(0);
}

static void two_writers_never_leave_a_mixture(void **state)
{
    struct lab *lab = *state;
    int rounds = lab->kind == NGINX_SPLIT ? 4 : 20;
    pid_t writers[2];
    for (int i = 0; i < 2; i++) {
        fflush(NULL);
        writers[i] = fork();
        if (writers[i] == 0)
            write_again_and_again(lab, i ? 1000 : 3000, i ? 2000 : 4000, rounds);
    }
    for (int i = 0; i < 2; i++) {
        int status;
        assert_int_equal(waitpid(writers[i], &status, 0), writers[i]);
        assert_int_equal(status, 0);
    }
    /* The file, the page and the buckets agree, or this were no success. */
    struct driver *driver = open_lab(lab);
    uint32_t share = share_in_force(driver);
    assert_true(share == 1000 || share == 3000);
    driver_close(driver);
}

/* ---- flags: the folder ---- */

static char *in_flags(const struct lab *lab, const char *name)
{
    return mem_printf("%s/%s", lab->flags, name);
}

static int count_generations(const struct lab *lab)
{
    int count = 0;
    DIR *list = opendir(lab->flags);
    for (struct dirent *entry; (entry = readdir(list));)
        count += strncmp(entry->d_name, "gen-", 4) == 0;
    closedir(list);
    return count;
}

static void what_is_broken_is_stable_for_server_and_driver(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    char *current = in_flags(lab, "current");
    must_set(driver, 10000);
    assert_int_equal(unlink(current), 0);
    assert_int_equal(ask(lab, 20, NULL), 0);
    assert_int_equal(share_in_force(driver), 0);
    assert_int_equal(symlink("gone", current), 0);
    assert_int_equal(ask(lab, 20, NULL), 0);
    assert_int_equal(share_in_force(driver), 0);
    unlink(current);
    write_whole(current, "not a folder");
    assert_int_equal(ask(lab, 20, NULL), 0);
    assert_int_equal(share_in_force(driver), 0);
    /* And each of them is mended by the next order. */
    must_set(driver, 10000);
    assert_int_equal(ask(lab, 20, NULL), 20);
    free(current);
    driver_close(driver);
}

static void a_folder_made_by_hand_counts_for_both_and_is_kept(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    char *current = in_flags(lab, "current");
    assert_int_equal(mkdir(current, 0755), 0);
    char *first = in_flags(lab, lab->kind == CADDY ? "current/000" : "current/00");
    write_whole(first, "");
    for (int i = 1; i < (lab->kind == CADDY ? 4096 : 100); i++) {
        char *path = mem_printf(lab->kind == CADDY ? "%s/current/%03x" : "%s/current/%02d", lab->flags, i);
        assert_int_equal(link(first, path), 0);
        free(path);
    }
    free(first);
    assert_int_equal(share_in_force(driver), 10000);
    assert_int_equal(ask(lab, 20, NULL), 20);
    must_set(driver, 0);
    assert_int_equal(ask(lab, 20, NULL), 0);
    struct stat what;
    assert_int_equal(lstat(current, &what), 0);
    assert_true(S_ISLNK(what.st_mode));
    int kept = 0;
    DIR *list = opendir(lab->flags);
    for (struct dirent *entry; (entry = readdir(list));)
        kept += strncmp(entry->d_name, "found-", 6) == 0;
    closedir(list);
    assert_int_equal(kept, 1);
    free(current);
    driver_close(driver);
}

static void what_a_dead_writer_left_is_in_nobodys_way(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    must_set(driver, 500);
    char *left = in_flags(lab, "gen-2"), *link = in_flags(lab, ".current.new"), *file = in_flags(lab, "gen-2/00");
    assert_int_equal(mkdir(left, 0755), 0);
    write_whole(file, "");
    assert_int_equal(symlink("gen-2", link), 0);
    assert_int_equal(share_in_force(driver), 500);
    must_set(driver, 1000);
    must_set(driver, 2000);
    assert_int_equal(share_in_force(driver), 2000);
    assert_int_equal(count_generations(lab), 2);
    free(left);
    free(link);
    free(file);
    driver_close(driver);
}

static void a_folder_that_is_not_there_is_refused_with_the_mend(void **state)
{
    struct lab *lab = *state;
    struct policy_balancer nowhere = {.flags = "/nowhere/flags"};
    struct driver *driver = open_balancer(lab, &nowhere);
    struct driver_state got;
    struct error err = {0};
    assert_status(driver_get(driver, &got, &err), DRIVER_REFUSED, err);
    assert_non_null(strstr(err.text, "mkdir -p /nowhere/flags"));
    assert_int_equal(got.capabilities, 0);
    assert_status(set(driver, (struct driver_order){.share_bp = 500}, &got, &err), DRIVER_REFUSED, err);
    driver_close(driver);
}

static void a_share_between_two_buckets_is_refused(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    struct driver_state got;
    struct error err;
    must_set(driver, 300);
    assert_status(set(driver, (struct driver_order){.share_bp = 250}, &got, &err), DRIVER_REFUSED, err);
    assert_non_null(strstr(err.text, "2.5 %"));
    assert_status(set(driver, (struct driver_order){.share_bp = 10}, &got, &err), DRIVER_REFUSED, err);
    assert_non_null(strstr(err.text, "nearest share is 1 %"));
    assert_int_equal(share_in_force(driver), 300);
    driver_close(driver);
}

static void a_full_disk_blocks_raising_only(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    struct driver_state got;
    struct error err;
    assert_status(set(driver, (struct driver_order){.share_bp = 500, .epoch = 7, .claim = true}, &got, &err), DRIVER_OK,
                  err);
    /* No file may get any content, which is as good as no room. */
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    none = (struct rlimit){0, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &none);
    enum driver_status raised = set(driver, (struct driver_order){.share_bp = 1000, .epoch = 7}, &got, &err);
    uint32_t after_raise = got.share_bp;
    enum driver_status lowered = set(driver, (struct driver_order){.share_bp = 0, .epoch = 7}, &got, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(raised, DRIVER_REFUSED);
    assert_int_equal(after_raise, 500);
    assert_status(lowered, DRIVER_OK, err);
    assert_int_equal(got.share_bp, 0);
    assert_int_equal(got.epoch, 7);
    assert_int_equal(ask(lab, 40, NULL), 0);
    must_set(driver, 500);
    assert_int_equal(share_in_force(driver), 500);
    driver_close(driver);
}

static void a_lock_that_is_held_is_waited_for_but_not_for_ever(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    must_set(driver, 500);
    fflush(NULL);
    pid_t holder = fork();
    if (holder == 0) {
        execlp("flock", "flock", lab->flags, "true", (char *)NULL); /* another lock: in nobody's way */
        _exit(127);
    }
    int status;
    waitpid(holder, &status, 0);
    assert_int_equal(status, 0);
    char *lock = in_flags(lab, "lock");
    holder = fork();
    if (holder == 0) {
        execlp("flock", "flock", "--no-fork", lock, "sleep", "0.5", (char *)NULL);
        _exit(127);
    }
    pause_ms(150);
    struct timespec begun, ended;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    must_set(driver, 1000);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    double waited = (double)(ended.tv_sec - begun.tv_sec) + (double)(ended.tv_nsec - begun.tv_nsec) / 1e9;
    assert_true(waited > 0.1 && waited < 5);
    waitpid(holder, NULL, 0);
    free(lock);
    driver_close(driver);
}

static ino_t fails_at; /* the folder that the disk cannot make durable; 0: none */

/* The driver's too, which is linked into this program. */
int fsync(int fd)
{
    struct stat what;
    if (!fails_at || fstat(fd, &what) != 0 || what.st_ino != fails_at)
        return (int)syscall(SYS_fsync, fd);
    errno = EIO;
    return -1;
}

static void what_a_power_cut_may_undo_is_told_and_no_raise(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    struct driver_state raised, lowered, again, saved;
    struct error refused, err;
    must_set(driver, 500);
    struct stat flags;
    assert_int_equal(stat(lab->flags, &flags), 0);
    fails_at = flags.st_ino;
    enum driver_status up = set(driver, (struct driver_order){.share_bp = 1000}, &raised, &refused);
    enum driver_status down = set(driver, (struct driver_order){.share_bp = 0}, &lowered, &err);
    enum driver_status repeated = set(driver, (struct driver_order){.share_bp = 0}, &again, &err);
    fails_at = 0;
    assert_status(up, DRIVER_REFUSED, refused);
    assert_non_null(strstr(refused.text, "put back"));
    assert_int_equal(raised.share_bp, 500);
    assert_status(down, DRIVER_OK, err);
    assert_status(repeated, DRIVER_OK, err);
    assert_int_equal(lowered.share_bp, 0);
    assert_true(lowered.unsaved && again.unsaved);
    assert_false(again.capabilities & DRIVER_PERSIST);
    assert_non_null(strstr(again.detail, "power cut"));
    assert_status(set(driver, (struct driver_order){.share_bp = 0}, &saved, &err), DRIVER_OK, err);
    assert_false(saved.unsaved);
    assert_int_equal(ask(lab, 20, NULL), 0);
    driver_close(driver);
}

/* ---- flags: the probe ---- */

static void a_server_that_does_not_answer_blocks_raising_only(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    struct driver_state got;
    struct error err;
    must_set(driver, 1000);
    server_stop(lab, SIGKILL);
    assert_status(set(driver, (struct driver_order){.share_bp = 2000}, &got, &err), DRIVER_UNREACHABLE, err);
    assert_non_null(strstr(err.text, "put back"));
    assert_int_equal(got.share_bp, 1000);
    assert_status(driver_get(driver, &got, &err), DRIVER_UNREACHABLE, err);
    assert_int_equal(got.share_bp, 1000); /* what the folder says, which it will start with */
    assert_int_not_equal(got.capabilities, 0);
    assert_status(set(driver, (struct driver_order){.share_bp = 0}, &got, &err), DRIVER_OK, err);
    assert_int_equal(got.share_bp, 0);
    assert_non_null(strstr(got.detail, "did not answer"));
    server_start(lab);
    assert_int_equal(share_in_force(driver), 0);
    assert_int_equal(ask(lab, 20, NULL), 0);
    driver_close(driver);
}

static void a_server_that_looks_elsewhere_is_a_mismatch(void **state)
{
    struct lab *lab = *state;
    char *other = mem_printf("%s/other", lab->folder);
    assert_int_equal(mkdir(other, 0755), 0);
    struct policy_balancer balancer = {.flags = other, .probe = lab->probe};
    struct driver *driver = open_balancer(lab, &balancer), *right = open_lab(lab);
    struct driver_state got;
    struct error err;
    assert_status(set(driver, (struct driver_order){.share_bp = 500}, &got, &err), DRIVER_MISMATCH, err);
    assert_non_null(strstr(err.text, "stable has all traffic again"));
    assert_int_equal(got.share_bp, 0);
    must_set(right, 2500);
    assert_status(driver_get(driver, &got, &err), DRIVER_MISMATCH, err);
    driver_close(right);
    driver_close(driver);
    free(other);
}

static bool finds(const struct driver_report *report, bool wrong, const char *words)
{
    for (size_t i = 0; i < report->count; i++)
        if (report->findings[i].wrong == wrong && strstr(report->findings[i].text, words))
            return true;
    return false;
}

static size_t count_wrong(const struct driver_report *report)
{
    size_t count = 0;
    for (size_t i = 0; i < report->count; i++)
        count += report->findings[i].wrong;
    return count;
}

static void check_finds_what_is_wrong(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    struct driver_report report;
    struct error err = {0};
    assert_status(driver_check(driver, &report, &err), DRIVER_OK, err);
    assert_int_equal(count_wrong(&report), 0);
    assert_true(finds(&report, false, "spare"));
    driver_report_free(&report);

    must_set(driver, 500);
    char *extra = in_flags(lab, lab->kind == CADDY ? "current/fff" : "current/99");
    write_whole(extra, "");
    assert_status(driver_check(driver, &report, &err), DRIVER_OK, err);
    assert_true(finds(&report, true, "by hand"));
    driver_report_free(&report);
    free(extra);

    must_set(driver, 0);
    server_stop(lab, SIGKILL);
    assert_status(driver_check(driver, &report, &err), DRIVER_OK, err);
    assert_true(finds(&report, true, "did not answer"));
    driver_report_free(&report);
    driver_close(driver);

    struct policy_balancer blind = {.flags = lab->flags};
    driver = open_balancer(lab, &blind);
    assert_status(driver_check(driver, &report, &err), DRIVER_OK, err);
    assert_int_equal(count_wrong(&report), 0);
    assert_true(finds(&report, false, "without `probe`"));
    driver_report_free(&report);
    driver_close(driver);
}

static void a_user_with_the_cookie_stays_on_his_side(void **state)
{
    struct lab *lab = *state;
    char *text = read_whole(lab->config);
    replace(&text, "split_clients \"$request_id\"", "split_clients \"$haldane_key\"");
    write_whole(lab->config, text);
    free(text);
    server_stop(lab, SIGTERM);
    server_start(lab);
    struct driver *driver = open_lab(lab);
    enum { USERS = 100, REQUESTS = 4 };
    bool was_in[USERS] = {false};
    int in = 0;
    static const uint32_t shares[] = {1000, 3000};
    for (size_t k = 0; k < 2; k++) {
        must_set(driver, shares[k]);
        in = 0;
        for (int user = 0; user < USERS; user++) {
            char cookie[32];
            snprintf(cookie, sizeof cookie, "uid=user-%d", user);
            int canary = ask(lab, REQUESTS, cookie);
            assert_true(canary == 0 || canary == REQUESTS);
            assert_true(canary || !was_in[user]);
            was_in[user] = canary > 0;
            in += was_in[user];
        }
    }
    assert_in_range(in, 12, 48); /* 30 by lot, sd 4.6 */
    driver_close(driver);
}

/* ---- split ---- */

static void any_hundredth_of_a_per_cent_can_be_set(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    static const uint32_t shares[] = {1, 3333, 9999};
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        must_set(driver, shares[i]);
        assert_int_equal(share_in_force(driver), shares[i]);
    }
    driver_close(driver);
}

static void a_configuration_that_nginx_does_not_take_is_never_left(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    struct driver_state got;
    struct error err;
    must_set(driver, 1000);
    char *before = read_whole(lab->split), *good = read_whole(lab->config), *bad = mem_strdup(good);
    replace(&bad, "access_log off;", "access_lok off;");
    write_whole(lab->config, bad);
    assert_status(set(driver, (struct driver_order){.share_bp = 2000}, &got, &err), DRIVER_REFUSED, err);
    assert_non_null(strstr(err.text, "access_lok"));
    char *after = read_whole(lab->split);
    assert_string_equal(after, before);
    assert_int_equal(share_in_force(driver), 1000);
    struct driver_report report;
    assert_status(driver_check(driver, &report, &err), DRIVER_OK, err);
    assert_true(finds(&report, true, "access_lok"));
    driver_report_free(&report);

    /* 0 % cannot come into force either, and that is said; but it is what the mended nginx starts with. */
    assert_status(set(driver, (struct driver_order){.share_bp = 0}, &got, &err), DRIVER_REFUSED, err);
    assert_non_null(strstr(err.text, "OLD SHARE STAYS IN FORCE"));
    assert_int_equal(share_in_force(driver), 1000);
    write_whole(lab->config, good);
    server_stop(lab, SIGTERM);
    server_start(lab);
    assert_int_equal(share_in_force(driver), 0);
    free(before);
    free(after);
    free(good);
    free(bad);
    driver_close(driver);
}

static void a_reload_that_does_nothing_is_seen_and_undone(void **state)
{
    struct lab *lab = *state;
    char *test[] = {"nginx", "-t", "-q", "-c", lab->config, NULL}, *nothing[] = {"true", NULL},
         *fails[] = {"false", NULL};
    struct policy_balancer idle = split_balancer(lab, test, nothing), broken = split_balancer(lab, test, fails);
    struct driver *driver = open_balancer(lab, &idle);
    struct driver_state got;
    struct error err;
    char *before = read_whole(lab->split);
    assert_status(set(driver, (struct driver_order){.share_bp = 2000}, &got, &err), DRIVER_MISMATCH, err);
    assert_non_null(strstr(err.text, "put back"));
    char *after = read_whole(lab->split);
    assert_string_equal(after, before);
    driver_close(driver);
    free(after);
    driver = open_balancer(lab, &broken);
    assert_status(set(driver, (struct driver_order){.share_bp = 2000}, &got, &err), DRIVER_REFUSED, err);
    after = read_whole(lab->split);
    assert_string_equal(after, before);
    driver_close(driver);
    free(before);
    free(after);
}

static void without_nginx_only_zero_is_written(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    struct driver_state got;
    struct error err;
    must_set(driver, 5000);
    char *before = read_whole(lab->split);
    server_stop(lab, SIGKILL);
    assert_status(set(driver, (struct driver_order){.share_bp = 6000}, &got, &err), DRIVER_UNREACHABLE, err);
    char *after = read_whole(lab->split);
    assert_string_equal(after, before);
    assert_int_not_equal(set(driver, (struct driver_order){.share_bp = 0}, &got, &err), DRIVER_OK);
    assert_non_null(strstr(err.text, "the file says 0 %"));
    server_start(lab);
    assert_int_equal(share_in_force(driver), 0);
    assert_int_equal(ask(lab, 20, NULL), 0);
    free(before);
    free(after);
    driver_close(driver);
}

static size_t count_reloads(const struct lab *lab)
{
    char *path = mem_printf("%s/error.log", lab->folder), *text = read_whole(path);
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, ", reconfiguring")); at++)
        count++;
    free(text);
    free(path);
    return count;
}

/* Another haldane each time: a rollout, its guard and `haldane advance` are as many processes. */
static enum driver_status order_zero(const struct lab *lab, struct driver_state *got, struct error *err)
{
    struct driver *driver = open_lab(lab);
    enum driver_status status = set(driver, (struct driver_order){.share_bp = 0, .epoch = 7}, got, err);
    driver_close(driver);
    return status;
}

static void move_probe(const struct lab *lab, uint16_t from, uint16_t to)
{
    char *text = read_whole(lab->config), *old = mem_printf("listen 127.0.0.1:%u;", from);
    replace(&text, old, "listen 127.0.0.1:%u;", to);
    write_whole(lab->config, text);
    free(text);
    free(old);
}

static void a_silent_probe_costs_one_reload_a_minute(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    struct driver_state got;
    struct error err;
    char *log = read_whole(lab->config);
    replace(&log, "/error.log;", "/error.log notice;");
    write_whole(lab->config, log);
    free(log);
    assert_status(set(driver, (struct driver_order){.share_bp = 2500, .epoch = 7, .claim = true}, &got, &err),
                  DRIVER_OK, err);
    driver_close(driver);
    size_t before = count_reloads(lab);
    uint16_t elsewhere = free_port();
    move_probe(lab, lab->ops, elsewhere);

    /* 0 % comes into force with the first of them, and none of them can prove it. */
    assert_status(order_zero(lab, &got, &err), DRIVER_UNREACHABLE, err);
    assert_int_equal(ask(lab, 20, NULL), 0);
    char *first = read_whole(lab->split);
    for (int times = 0; times < 4; times++) {
        assert_status(order_zero(lab, &got, &err), DRIVER_UNREACHABLE, err);
        assert_non_null(strstr(err.text, "only the probe can show"));
    }
    assert_int_equal(count_reloads(lab), before + 1);

    /* After a minute one more. */
    char *note = mem_printf("%s/haldane/.split.conf.loaded", lab->folder);
    const struct timespec then[2] = {{.tv_sec = time(NULL) - 61}, {.tv_sec = time(NULL) - 61}};
    assert_int_equal(utimensat(AT_FDCWD, note, then, 0), 0);
    assert_status(order_zero(lab, &got, &err), DRIVER_UNREACHABLE, err);
    assert_status(order_zero(lab, &got, &err), DRIVER_UNREACHABLE, err);
    assert_int_equal(count_reloads(lab), before + 2);

    /* A haldane that died before it reloaded left no note, and another one does it. */
    assert_int_equal(unlink(note), 0);
    move_probe(lab, elsewhere, lab->ops);
    assert_status(order_zero(lab, &got, &err), DRIVER_OK, err);
    assert_status(order_zero(lab, &got, &err), DRIVER_OK, err);
    assert_int_equal(count_reloads(lab), before + 3);
    assert_int_equal(got.share_bp, 0);
    char *last = read_whole(lab->split);
    assert_string_equal(last, first);
    free(last);
    free(first);
    free(note);
}

/* A reload that nobody has done yet brings what the file says. */
static void a_file_that_is_ahead_of_nginx_is_told(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    struct driver_state got;
    struct error err = {0};
    must_set(driver, 500);
    char *text = read_whole(lab->split);
    must_set(driver, 1000);
    assert_status(driver_get(driver, &got, &err), DRIVER_OK, err);
    assert_false(got.unsaved);
    write_whole(lab->split, text);
    assert_status(driver_get(driver, &got, &err), DRIVER_OK, err);
    assert_int_equal(got.share_bp, 1000);
    assert_true(got.unsaved);
    assert_status(set(driver, (struct driver_order){.share_bp = 1000}, &got, &err), DRIVER_OK, err);
    assert_false(got.unsaved);
    free(text);
    driver_close(driver);
}

static void zero_needs_no_new_file(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    struct driver_state got;
    struct error err;
    must_set(driver, 1000);
    /* A folder where the new file would be written first: no file can be made there, as on a full disk. */
    char *in_the_way = mem_printf("%s/haldane/.split.conf.new", lab->folder);
    assert_int_equal(mkdir(in_the_way, 0755), 0);
    assert_status(set(driver, (struct driver_order){.share_bp = 2000}, &got, &err), DRIVER_REFUSED, err);
    assert_int_equal(share_in_force(driver), 1000);
    must_set(driver, 0);
    assert_int_equal(share_in_force(driver), 0);
    assert_int_equal(ask(lab, 40, NULL), 0);
    free(in_the_way);
    driver_close(driver);
}

static void a_file_of_somebody_else_is_left_alone(void **state)
{
    struct lab *lab = *state;
    char *test[] = {"true", NULL}, *reload[] = {"true", NULL};
    struct policy_balancer wrong = split_balancer(lab, test, reload);
    wrong.split = lab->config;
    struct driver *driver = open_balancer(lab, &wrong);
    struct driver_state got;
    struct error err;
    char *before = read_whole(lab->config);
    assert_status(set(driver, (struct driver_order){.share_bp = 0}, &got, &err), DRIVER_REFUSED, err);
    char *after = read_whole(lab->config);
    assert_string_equal(after, before);
    free(before);
    free(after);
    driver_close(driver);
}

static void mode_and_owner_of_the_file_stay(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_lab(lab);
    struct stat what;
    assert_int_equal(chmod(lab->split, 0640), 0);
    must_set(driver, 500);
    assert_int_equal(stat(lab->split, &what), 0);
    assert_int_equal(what.st_mode & 07777, 0640);
    driver_close(driver);
}

#define with_nginx(test)                                                                                               \
    {                                                                                                                  \
        "nginx: " #test, test, nginx_setup, lab_teardown, NULL                                                         \
    }
#define with_caddy(test)                                                                                               \
    {                                                                                                                  \
        "Caddy: " #test, test, caddy_setup, lab_teardown, NULL                                                         \
    }
#define with_split(test)                                                                                               \
    {                                                                                                                  \
        "nginx split: " #test, test, split_setup, lab_teardown, NULL                                                   \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_nginx(every_share_is_set_read_back_and_real),
        with_caddy(every_share_is_set_read_back_and_real),
        with_split(every_share_is_set_read_back_and_real),
        with_nginx(twenty_changes_lose_no_post),
        with_caddy(twenty_changes_lose_no_post),
        with_nginx(a_canary_that_crashes_loses_no_get),
        with_caddy(a_canary_that_crashes_loses_no_get),
        with_nginx(older_rollouts_are_fenced),
        with_split(older_rollouts_are_fenced),
        with_nginx(the_share_survives_a_restart),
        with_caddy(the_share_survives_a_restart),
        with_split(the_share_survives_a_restart),
        with_nginx(two_writers_never_leave_a_mixture),
        with_split(two_writers_never_leave_a_mixture),
        with_nginx(what_is_broken_is_stable_for_server_and_driver),
        with_caddy(what_is_broken_is_stable_for_server_and_driver),
        with_nginx(a_folder_made_by_hand_counts_for_both_and_is_kept),
        with_caddy(a_folder_made_by_hand_counts_for_both_and_is_kept),
        with_nginx(what_a_dead_writer_left_is_in_nobodys_way),
        with_nginx(a_folder_that_is_not_there_is_refused_with_the_mend),
        with_nginx(a_share_between_two_buckets_is_refused),
        with_nginx(a_full_disk_blocks_raising_only),
        with_nginx(what_a_power_cut_may_undo_is_told_and_no_raise),
        with_nginx(a_lock_that_is_held_is_waited_for_but_not_for_ever),
        with_nginx(a_server_that_does_not_answer_blocks_raising_only),
        with_nginx(a_server_that_looks_elsewhere_is_a_mismatch),
        with_nginx(check_finds_what_is_wrong),
        with_nginx(a_user_with_the_cookie_stays_on_his_side),
        with_split(any_hundredth_of_a_per_cent_can_be_set),
        with_split(a_configuration_that_nginx_does_not_take_is_never_left),
        with_split(a_reload_that_does_nothing_is_seen_and_undone),
        with_split(without_nginx_only_zero_is_written),
        with_split(a_silent_probe_costs_one_reload_a_minute),
        with_split(a_file_that_is_ahead_of_nginx_is_told),
        with_split(zero_needs_no_new_file),
        with_split(a_file_of_somebody_else_is_left_alone),
        with_split(mode_and_owner_of_the_file_stay),
    };
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    curl_global_cleanup();
    return failed;
}
