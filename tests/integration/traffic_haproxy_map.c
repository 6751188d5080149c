/*
 * The map driver against the real HAProxy with the configuration that we hand out, compose/examples/haproxy-map.cfg:
 * only its addresses, paths and check intervals are changed here. What must hold: the share is real, no request is
 * lost, the lease ends by itself, a restart keeps what was set, and of several writers the newest epoch wins.
 */
#include "analyzer/traffic/haproxy_socket.h"
#include "tests/integration/lab.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { STABLE1, STABLE2, CANARY1, APPS };
static const char *const app_names[APPS] = {"stable1", "stable2", "canary1"};

struct lab {
    char folder[64];
    char *config, *socket, *master, *map, *address;
    const char *clock; /* what `faketime` gets; NULL: none */
    uint16_t front, ops, admin;
    pid_t pid, canary;
    struct app apps[APPS];
};

/* ---- the canary, which can be killed, and the balancer ---- */

static void canary_start(struct lab *lab)
{
    fflush(NULL);
    lab->canary = fork();
    assert_true(lab->canary >= 0);
    if (lab->canary == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        app_start(&lab->apps[CANARY1]);
        for (;;)
            pause();
    }
    wait_for_port(lab->apps[CANARY1].port);
}

static void canary_kill(struct lab *lab)
{
    if (lab->canary <= 0)
        return;
    kill(lab->canary, SIGKILL);
    waitpid(lab->canary, NULL, 0);
    lab->canary = 0;
}

/* A process group of its own: master and worker, and `faketime` before them. */
static void balancer_start(struct lab *lab)
{
    fflush(NULL);
    lab->pid = fork();
    assert_true(lab->pid >= 0);
    if (lab->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setpgid(0, 0);
        int null = open("/dev/null", O_RDWR);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        if (lab->clock)
            execlp("faketime", "faketime", "-f", lab->clock, "haproxy", "-W", "-db", "-S", lab->master, "-f",
                   lab->config, (char *)NULL);
        else
            execlp("haproxy", "haproxy", "-W", "-db", "-S", lab->master, "-f", lab->config, (char *)NULL);
        _exit(127);
    }
    setpgid(lab->pid, lab->pid);
    wait_for_port(lab->ops);
    /* The worker serves before the master listens. */
    for (int i = 0; i < 200 && !haproxy_listens(lab->master); i++)
        pause_ms(20);
}

static void balancer_stop(struct lab *lab)
{
    if (lab->pid <= 0)
        return;
    kill(-lab->pid, SIGKILL);
    waitpid(lab->pid, NULL, 0);
    lab->pid = 0;
    for (int i = 0; i < 500 && port_listens(lab->ops); i++)
        pause_ms(10);
    assert_false(port_listens(lab->ops));
}

static void balancer_restart(struct lab *lab)
{
    balancer_stop(lab);
    balancer_start(lab);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static char *read_text(const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("cannot open %s", path);
    struct strbuf text = {0};
    char chunk[4096];
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, file)) > 0;)
        strbuf_add(&text, chunk, n);
    fclose(file);
    return strbuf_take(&text);
}

/* Every `old` must be there, so that the example cannot drift away from its test. Frees `text`. */
static char *with(char *text, const char *old, const char *new)
{
    if (!strstr(text, old))
        fail_msg("the example no longer has: %s", old);
    struct strbuf out = {0};
    char *rest = text;
    for (char *at; (at = strstr(rest, old)); rest = at + strlen(old)) {
        strbuf_add(&out, rest, (size_t)(at - rest));
        strbuf_puts(&out, new);
    }
    strbuf_puts(&out, rest);
    free(text);
    return strbuf_take(&out);
}

static char *with_owned(char *text, const char *old, char *new)
{
    char *changed = with(text, old, new);
    free(new);
    return changed;
}

static void config_write(const struct lab *lab, bool sticky)
{
    const char *source = getenv("HALDANE_SOURCE");
    if (!source)
        fail_msg("HALDANE_SOURCE is not set");
    char *path = mem_printf("%s/compose/examples/haproxy-map.cfg", source);
    char *text = read_text(path);
    free(path);
    text = with(text, "/etc/haproxy/maps/share.map", lab->map);
    text = with_owned(text, "/run/haproxy/admin.sock mode 660 group haldane", mem_printf("%s mode 600", lab->socket));
    text = with_owned(text, "stats timeout 30s", mem_printf("stats socket ipv4@127.0.0.1:%u level admin", lab->admin));
    text = with_owned(text, "bind :80", mem_printf("bind 127.0.0.1:%u", lab->front));
    text = with_owned(text, "bind 127.0.0.1:8405", mem_printf("bind 127.0.0.1:%u", lab->ops));
    text = with_owned(text, "10.0.0.1:8080", mem_printf("127.0.0.1:%u", lab->apps[STABLE1].port));
    text = with_owned(text, "10.0.0.2:8080", mem_printf("127.0.0.1:%u", lab->apps[STABLE2].port));
    text = with_owned(text, "10.0.0.7:8080", mem_printf("127.0.0.1:%u", lab->apps[CANARY1].port));
    text = with(text, "inter 1s fastinter 200ms downinter 1s", "inter 100ms fastinter 50ms downinter 100ms");
    if (sticky) {
        text = with(text, "    acl drawn rand(10000)", "    #acl drawn rand(10000)");
        text = with(text, "    #acl drawn req.cook", "    acl drawn req.cook");
    }
    write_file(lab->config, text);
    free(text);
}

static int lab_setup(void **state)
{
    struct lab *lab = mem_alloc(1, sizeof *lab);
    *state = lab;
    snprintf(lab->folder, sizeof lab->folder, "/tmp/haldane-map-XXXXXX");
    assert_non_null(mkdtemp(lab->folder));
    lab->config = mem_printf("%s/haproxy.cfg", lab->folder);
    lab->socket = mem_printf("%s/admin.sock", lab->folder);
    lab->master = mem_printf("%s/master.sock", lab->folder);
    lab->map = mem_printf("%s/share.map", lab->folder);
    lab->front = free_port();
    lab->ops = free_port();
    lab->admin = free_port();
    lab->address = mem_printf("127.0.0.1:%u", lab->admin);
    for (size_t i = 0; i < APPS; i++)
        lab->apps[i] = (struct app){.name = app_names[i], .port = free_port()};
    canary_start(lab);
    app_start(&lab->apps[STABLE1]);
    app_start(&lab->apps[STABLE2]);
    config_write(lab, false);
    write_file(lab->map, "canary 0\nepoch 0\nexpires 0\n");
    balancer_start(lab);
    return 0;
}

static int lab_teardown(void **state)
{
    struct lab *lab = *state;
    balancer_stop(lab);
    canary_kill(lab);
    app_stop(&lab->apps[STABLE1]);
    app_stop(&lab->apps[STABLE2]);
    char *command = mem_printf("rm -rf -- '%s'", lab->folder);
    assert_int_equal(system(command), 0);
    free(command);
    free(lab->config);
    free(lab->socket);
    free(lab->master);
    free(lab->map);
    free(lab->address);
    free(lab);
    return 0;
}

/* ---- haldane ---- */

static char *both_stable[] = {"be_stable/stable1", "be_stable/stable2"};
static char *one_canary[] = {"be_canary/canary1"};

static struct driver *open_at(const struct lab *lab, char *socket)
{
    struct policy_balancer balancer = {.socket = socket,
                                       .master = lab->master,
                                       .map = lab->map,
                                       .servers = {both_stable, one_canary},
                                       .server_count = {2, 1}};
    const struct policy_traffic policy = {.driver = DRIVER_HAPROXY, .balancers = &balancer, .balancer_count = 1};
    struct error err = {0};
    struct driver *driver = driver_open(&policy, &err);
    if (!driver)
        fail_msg("%s", err.text);
    return driver;
}

static struct driver *open_map(const struct lab *lab)
{
    return open_at(lab, lab->socket);
}

static struct driver_state must_order(struct driver *driver, struct driver_order order)
{
    struct driver_state got;
    struct error err = {0};
    assert_status(driver_set(driver, &order, &got, &err), DRIVER_OK, err);
    assert_int_equal(got.share_bp, order.share_bp);
    return got;
}

static void must_set(struct driver *driver, uint32_t share_bp)
{
    must_order(driver, (struct driver_order){.share_bp = share_bp});
}

static struct driver_state must_get(struct driver *driver)
{
    struct driver_state got;
    struct error err = {0};
    assert_status(driver_get(driver, &got, &err), DRIVER_OK, err);
    return got;
}

static void wait_up(struct driver *driver, uint32_t stable, uint32_t canary)
{
    struct driver_state got = {0};
    struct error err = {0};
    for (int i = 0; i < 500; i++) {
        driver_get(driver, &got, &err);
        if (got.up[TRACK_STABLE] == stable && got.up[TRACK_CANARY] == canary)
            return;
        pause_ms(10);
    }
    fail_msg("still %s", got.detail);
}

static int get(const struct lab *lab)
{
    return request(lab->front, "GET", "/", "", app_names, APPS);
}

static int post(const struct lab *lab)
{
    return request(lab->front, "POST", "/", "", app_names, APPS);
}

/* What the file and the running balancer say, without haldane. */
static void assert_agree(const struct lab *lab, uint32_t share_bp)
{
    char *line = mem_printf("canary %u\n", share_bp);
    char *file = read_text(lab->map);
    char *command = mem_printf("show map %s", lab->map);
    char *running = ask_by_hand(lab->socket, command);
    if (!strstr(file, line) || !strstr(running, line))
        fail_msg("not %s: the file says\n%s, HAProxy says\n%s", line, file, running);
    for (const char *const *key = (const char *const[]){"epoch ", "expires ", NULL}; *key; key++) {
        const char *a = strstr(file, *key);
        const char *b = strstr(running, *key);
        assert_true(a && b && strcspn(a, "\n") == strcspn(b, "\n") && strncmp(a, b, strcspn(a, "\n")) == 0);
    }
    free(line);
    free(file);
    free(command);
    free(running);
}

/* ---- shares ---- */

static int canary_answers(const struct lab *lab, int requests)
{
    int canary = 0;
    for (int i = 0; i < requests; i++) {
        int app = post(lab);
        assert_true(app >= 0);
        canary += app == CANARY1;
    }
    return canary;
}

static void every_share_is_read_back_and_real(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_map(lab);
    static const uint32_t steps[] = {500, 2500, 5000, 10000, 0};
    enum { REQUESTS = 600 };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        must_set(driver, steps[i]);
        must_set(driver, steps[i]);
        assert_agree(lab, steps[i]);
        double p = steps[i] / 10000.0;
        double off = canary_answers(lab, REQUESTS) - REQUESTS * p;
        if (off * off > 16 * REQUESTS * p * (1 - p))
            fail_msg("at %u bp the canary got %.0f of %d requests", steps[i], REQUESTS * p + off, REQUESTS);
    }
    must_set(driver, 1); /* a hundredth of a per cent */
    struct driver_state got = must_get(driver);
    assert_int_equal(got.share_bp, 1);
    assert_int_equal(got.lease_left_ms, -1);
    assert_true(got.health_known && got.up[TRACK_STABLE] == 2 && got.up[TRACK_CANARY] == 1);
    assert_int_equal(got.capabilities, DRIVER_READBACK | DRIVER_COUNTERS | DRIVER_LEASE | DRIVER_PERSIST | DRIVER_CAS |
                                           DRIVER_DRAIN | DRIVER_NO_RELOAD);
    assert_string_equal(got.detail, "0.01 % to the canary; be_stable/stable1, be_stable/stable2, be_canary/canary1");
    driver_close(driver);
}

static int ask_as(const struct lab *lab, int user)
{
    char cookie[64];
    snprintf(cookie, sizeof cookie, "Cookie: uid=user-%d\r\n", user);
    return request(lab->front, "GET", "/", cookie, app_names, APPS);
}

static void who_got_the_canary_at_5_percent_keeps_it_at_25(void **state)
{
    struct lab *lab = *state;
    enum { USERS = 600 };
    static bool had[USERS];
    config_write(lab, true);
    balancer_restart(lab);
    struct driver *driver = open_map(lab);
    int counts[2] = {0, 0};
    must_set(driver, 500);
    for (int i = 0; i < USERS; i++)
        counts[0] += had[i] = ask_as(lab, i) == CANARY1;
    must_set(driver, 2500);
    for (int i = 0; i < USERS; i++) {
        bool has = ask_as(lab, i) == CANARY1;
        assert_int_equal(ask_as(lab, i) == CANARY1, has);
        assert_true(has || !had[i]);
        counts[1] += has;
    }
    assert_in_range(counts[0], 10, 52); /* 30 of 600, 4 sd; the names are always the same */
    assert_in_range(counts[1], 107, 193);
    assert_in_range(get(lab), STABLE1, STABLE2); /* without the cookie */
    driver_close(driver);
}

/* ---- the lease ---- */

/* The lease ends by HAProxy's clock alone: at most a second early, never late, with nobody there to end it. */
static void lease_ends_in_time(struct lab *lab, int64_t lease_ms)
{
    enum { SLACK_MS = 50 }; /* HAProxy looks at its clock once for each round of its loop */
    struct driver *driver = open_map(lab);
    int64_t before = clock_ms();
    struct driver_state got =
        must_order(driver, (struct driver_order){.share_bp = 10000, .epoch = 1, .claim = true, .lease_ms = lease_ms});
    int64_t after = clock_ms();
    assert_in_range(got.lease_left_ms, lease_ms - 1000 - (after - before), lease_ms);
    assert_agree(lab, 10000);
    driver_close(driver);
    int64_t last = before;
    int64_t asked = clock_ms();
    while (get(lab) == CANARY1) {
        last = asked;
        asked = clock_ms();
        assert_true(asked - before < 2 * lease_ms);
    }
    assert_true(last - after <= lease_ms + SLACK_MS);
    assert_true(clock_ms() - before >= lease_ms - 1000 - SLACK_MS);
    driver = open_map(lab);
    got = must_get(driver);
    assert_true(got.lease_over);
    assert_int_equal(got.share_bp, 0);
    assert_int_equal(got.lease_left_ms, 0);
    assert_int_equal(got.epoch, 1);
    must_order(driver, (struct driver_order){.share_bp = 500, .epoch = 1, .lease_ms = 60000}); /* and it goes on */
    assert_false(must_get(driver).lease_over);
    driver_close(driver);
}

static void a_lease_ends_by_itself(void **state)
{
    lease_ends_in_time(*state, 2000);
}

/* What the operators' page says after "now=". The caller frees it. */
static char *page_now(const struct lab *lab)
{
    char *command = mem_printf("curl -s http://127.0.0.1:%u/haldane/share", lab->ops);
    FILE *pipe = popen(command, "r");
    char line[256] = "";
    assert_non_null(fgets(line, sizeof line, pipe));
    assert_int_equal(pclose(pipe), 0);
    free(command);
    assert_non_null(strstr(line, "share_bp=500 epoch=1 expires="));
    const char *now = strstr(line, "now=");
    assert_non_null(now);
    return mem_strdup(now + 4);
}

/* The clock of `show activity` stands still while the process does; that of the rules does not, and it is what counts.
 */
static void a_pause_of_the_balancer_shifts_no_lease(void **state)
{
    struct lab *lab = *state;
    kill(-lab->pid, SIGSTOP);
    pause_ms(1200);
    kill(-lab->pid, SIGCONT);
    struct driver *driver = open_map(lab);
    int64_t before = time(NULL);
    must_order(driver, (struct driver_order){.share_bp = 500, .lease_ms = 60000});
    char *file = read_text(lab->map);
    int64_t expires = strtoll(strstr(file, "expires ") + strlen("expires "), NULL, 10);
    assert_in_range(expires, before + 60, time(NULL) + 60);
    free(file);
    driver_close(driver);
}

static void another_clock(struct lab *lab, const char *offset)
{
    lab->clock = offset;
    balancer_restart(lab);
    lease_ends_in_time(lab, 1500);
    char *page = page_now(lab);
    long long off = strtoll(page, NULL, 10) - (long long)time(NULL);
    assert_in_range(off + 100, strtol(offset, NULL, 10) + 98, strtol(offset, NULL, 10) + 102);
    free(page);
}

static void a_clock_that_is_fast_ends_no_lease_early(void **state)
{
    another_clock(*state, "+60s");
}

static void a_clock_that_is_slow_ends_no_lease_late(void **state)
{
    another_clock(*state, "-60s");
}

static void a_renewed_lease_goes_on(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_map(lab);
    for (int i = 0; i < 6; i++) {
        must_order(driver, (struct driver_order){.share_bp = 10000, .epoch = 3, .lease_ms = 2000});
        pause_ms(400);
        assert_int_equal(get(lab), CANARY1);
    }
    must_set(driver, 10000); /* by hand: until the next order, and the epoch stays */
    assert_int_equal(must_get(driver).lease_left_ms, -1);
    assert_int_equal(must_get(driver).epoch, 3);
    driver_close(driver);
}

/* ---- restarts and damaged files ---- */

static void a_restart_keeps_the_share(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_map(lab);
    must_order(driver, (struct driver_order){.share_bp = 2500, .epoch = 7, .claim = true, .lease_ms = 60000});
    struct driver_state before = must_get(driver);
    balancer_restart(lab);
    struct driver_state after = must_get(driver);
    assert_int_equal(after.share_bp, 2500);
    assert_int_equal(after.epoch, 7);
    assert_in_range(after.lease_left_ms, 40000, before.lease_left_ms);
    assert_int_not_equal(after.generation, before.generation);
    driver_close(driver);
}

/* HAProxy starts with each of them, and does what the driver says that it does. */
static void a_damaged_file_is_read_as_haproxy_reads_it(void **state)
{
    struct lab *lab = *state;
    static const struct {
        const char *text;
        uint32_t share_bp;
    } cases[] = {
        {"", 0},
        {"canary 10000\nexpires 9999999999\n", 10000},
        {"canary 10000\n", 0},
        {"canary 10000\nexpires soon\n", 0},
        {"canary 10000\nexpires 1000\n", 0},
        {"canary abc\nexpires 9999999999\n", 0},
        {"canary -5\nexpires 9999999999\n", 0},
        {"canary +10000\nexpires 9999999999\n", 10000},
        {"canary +-10000\nexpires 9999999999\n", 0},
        {"canary --10000\nexpires 9999999999\n", 0},
        {"canary 0x2710\nexpires 9999999999\n", 0},
        {"canary 99999\nexpires 9999999999\n", 10000},
        {"canary 99999999999999999999999\nexpires 99999999999999999999999\n", 10000},
        {"canary 10000 percent\nexpires 9999999999.5\n", 10000},
        {"canary 10000\ncanary 0\nexpires 9999999999\n", 10000},
        {"canary 0\ncanary 10000\nexpires 9999999999\n", 0},
        {"Canary 10000\nexpires 9999999999\n", 0},
        {"\x01\x02\xff\xfe garbage\n\n\n", 0},
    };
    struct driver *driver = open_map(lab);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_file(lab->map, cases[i].text);
        balancer_restart(lab);
        struct driver_state got = must_get(driver);
        int canary = 0;
        for (int k = 0; k < 10; k++)
            canary += get(lab) == CANARY1;
        if (got.share_bp != cases[i].share_bp || canary != (int)cases[i].share_bp / 1000)
            fail_msg("%s: the driver says %u bp, and the canary had %d of 10", cases[i].text, got.share_bp, canary);
    }
    must_set(driver, 500); /* and the next order mends it */
    assert_agree(lab, 500);
    driver_close(driver);
}

static void without_its_socket_the_master_is_asked(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_map(lab);
    struct driver_report report;
    struct balancer_counters counters;
    struct error err = {0};
    must_set(driver, 2500);
    assert_int_equal(unlink(lab->socket), 0);
    int64_t start = clock_ms();
    must_set(driver, 5000);
    assert_int_equal(must_get(driver).share_bp, 5000);
    assert_true(clock_ms() - start < 1500);
    assert_status(driver_counters(driver, &counters, &err), DRIVER_OK, err);
    assert_status(driver_check(driver, &report, &err), DRIVER_OK, err);
    assert_true(finds(&report, false, "by way of its master"));
    driver_report_free(&report);
    driver_close(driver);
}

/* ---- epochs, and several writers ---- */

static void the_newest_epoch_owns_the_split(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_map(lab);
    struct driver_state got;
    struct error err = {0};
    must_order(driver, (struct driver_order){.share_bp = 500, .epoch = 5, .claim = true, .lease_ms = 60000});
    static const struct driver_order refused[] = {
        {.share_bp = 2500, .epoch = 4, .lease_ms = 60000},
        {.share_bp = 0, .epoch = 4},
        {.share_bp = 2500, .epoch = 5, .claim = true, .lease_ms = 60000},
        {.share_bp = 0, .epoch = 3, .claim = true},
    };
    char *before = read_text(lab->map);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_status(driver_set(driver, &refused[i], &got, &err), DRIVER_FENCED, err);
        assert_int_equal(err.code, ERROR_BUSY);
        assert_int_equal(got.share_bp, 500);
        assert_int_equal(got.epoch, 5);
        assert_agree(lab, 500);
    }
    char *after = read_text(lab->map);
    assert_string_equal(after, before);
    free(before);
    free(after);
    must_order(driver, (struct driver_order){.share_bp = 2500, .epoch = 5, .lease_ms = 60000});
    must_order(driver, (struct driver_order){.share_bp = 500, .epoch = 6, .claim = true, .lease_ms = 60000});
    assert_status(driver_set(driver, &(struct driver_order){.share_bp = 0, .epoch = 5}, &got, &err), DRIVER_FENCED,
                  err);
    driver_close(driver);
}

struct writer {
    const struct lab *lab;
    uint32_t share_bp;
    pthread_barrier_t *start;
    int failed;
};

enum { ROUNDS = 40 };

static void *keep_setting(void *arg)
{
    struct writer *writer = arg;
    struct driver *driver = open_map(writer->lab);
    for (int i = 0; i < ROUNDS; i++) {
        struct driver_state got;
        struct driver_order order = {.share_bp = writer->share_bp + (uint32_t)i, .lease_ms = 60000};
        pthread_barrier_wait(writer->start);
        writer->failed += driver_set(driver, &order, &got, NULL) != DRIVER_OK || got.share_bp != order.share_bp;
        pthread_barrier_wait(writer->start);
        pthread_barrier_wait(writer->start);
    }
    driver_close(driver);
    return NULL;
}

static void two_writers_leave_file_and_balancer_agreed(void **state)
{
    struct lab *lab = *state;
    pthread_barrier_t start;
    pthread_t threads[2];
    struct writer writers[2] = {{.lab = lab, .share_bp = 1000, .start = &start},
                                {.lab = lab, .share_bp = 7000, .start = &start}};
    assert_int_equal(pthread_barrier_init(&start, NULL, 3), 0);
    struct driver *driver = open_map(lab);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, keep_setting, &writers[i]), 0);
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&start);
        pthread_barrier_wait(&start);
        uint32_t share_bp = must_get(driver).share_bp;
        assert_true(share_bp == 1000 + (uint32_t)i || share_bp == 7000 + (uint32_t)i);
        assert_agree(lab, share_bp);
        pthread_barrier_wait(&start);
    }
    for (size_t i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(writers[i].failed, 0);
    }
    pthread_barrier_destroy(&start);
    driver_close(driver);
}

/* ---- between haldane and HAProxy ---- */

/* Hands commands on to the admin socket, and does something of its own before one of them. */
struct between {
    const struct lab *lab;
    char *path;
    int listener;
    pthread_t thread;
    const char *before; /* the command's first words */
    void (*act)(struct between *between);
    pid_t victim;
    int times, acted; /* how often at most, and how often it did */
    bool swallow;     /* the command is not handed on, and gets no answer */
};

static void hand_on(struct between *between, int fd)
{
    char command[512] = "";
    ssize_t n = recv(fd, command, sizeof command - 1, 0);
    if (n <= 0)
        return;
    command[strcspn(command, "\n")] = '\0';
    if (between->acted < between->times && strncmp(command, between->before, strlen(between->before)) == 0) {
        between->acted++;
        between->act(between);
        if (between->swallow)
            return;
    }
    char *answer = ask_by_hand(between->lab->socket, command);
    send(fd, answer, strlen(answer), MSG_NOSIGNAL);
    free(answer);
}

static void *between_run(void *arg)
{
    struct between *between = arg;
    for (int fd; (fd = accept4(between->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0; close(fd))
        hand_on(between, fd);
    return NULL;
}

static void between_start(struct between *between)
{
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    between->path = mem_printf("%s/between.sock", between->lab->folder);
    snprintf(where.sun_path, sizeof where.sun_path, "%s", between->path);
    between->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(between->listener, (struct sockaddr *)&where, sizeof where), 0);
    assert_int_equal(listen(between->listener, 16), 0);
    assert_int_equal(pthread_create(&between->thread, NULL, between_run, between), 0);
}

static void between_stop(struct between *between)
{
    shutdown(between->listener, SHUT_RDWR);
    pthread_join(between->thread, NULL);
    close(between->listener);
    free(between->path);
}

/* Somebody on another machine, who knows no lock of ours. */
static void commit_another(struct between *between)
{
    static const char *const entries[] = {"canary 4000", "epoch 9", "expires 9999999999"};
    const char *map = between->lab->map;
    char *command = mem_printf("prepare map %s", map);
    char *answer = ask_by_hand(between->lab->socket, command);
    unsigned version = 0;
    assert_int_equal(sscanf(answer, "New version created: %u", &version), 1);
    free(command);
    free(answer);
    for (size_t i = 0; i < 3; i++) {
        command = mem_printf("add map @%u %s %s", version, map, entries[i]);
        order_by_hand(between->lab->socket, command);
        free(command);
    }
    command = mem_printf("commit map @%u %s", version, map);
    order_by_hand(between->lab->socket, command);
    free(command);
}

static void a_commit_that_comes_late_is_refused(void **state)
{
    struct lab *lab = *state;
    struct between between = {.lab = lab, .before = "commit map", .act = commit_another, .times = 1};
    struct driver_state got;
    struct error err = {0};
    between_start(&between);
    struct driver *driver = open_at(lab, between.path);

    /* Refused at first, tried again over what is there now, and fenced by the epoch that has come. */
    struct driver_order order = {.share_bp = 500, .epoch = 8, .claim = true, .lease_ms = 60000};
    assert_status(driver_set(driver, &order, &got, &err), DRIVER_FENCED, err);
    assert_int_equal(between.acted, 1);
    assert_int_equal(got.share_bp, 4000);
    char *file = read_text(lab->map);
    assert_string_equal(file, "canary 0\nepoch 0\nexpires 0\n");
    free(file);

    between.times = 2; /* once more, but nobody is newer */
    order.epoch = 10;
    must_order(driver, order);
    assert_int_equal(between.acted, 2);
    assert_agree(lab, 500);

    between.times = 100; /* whenever we come */
    order = (struct driver_order){.share_bp = 6000, .lease_ms = 60000};
    assert_status(driver_set(driver, &order, &got, &err), DRIVER_MISMATCH, err);
    assert_non_null(strstr(err.text, "Somebody else"));
    driver_close(driver);
    between_stop(&between);
}

static void kill_victim(struct between *between)
{
    kill(between->victim, SIGKILL);
}

/* kill -9 between the file and the balancer: nothing is half, and whoever comes next is not kept out. */
static void a_haldane_that_is_killed_leaves_no_lock_and_no_half_file(void **state)
{
    struct lab *lab = *state;
    struct between between = {.lab = lab, .before = "commit map", .act = kill_victim, .swallow = true};
    struct driver *driver = open_map(lab);
    must_order(driver, (struct driver_order){.share_bp = 500, .epoch = 1, .claim = true, .lease_ms = 60000});
    between_start(&between);
    fflush(NULL);
    between.victim = fork();
    assert_true(between.victim >= 0);
    if (between.victim == 0) {
        struct driver *own = open_at(lab, between.path);
        struct driver_state got;
        for (;;) { /* until the other side knows whom to kill */
            driver_set(own, &(struct driver_order){.share_bp = 500, .epoch = 1, .lease_ms = 60000}, &got, NULL);
            driver_set(own, &(struct driver_order){.share_bp = 2500, .epoch = 1, .lease_ms = 3000}, &got, NULL);
        }
    }
    pause_ms(100);
    between.times = 1;
    int status;
    assert_int_equal(waitpid(between.victim, &status, 0), between.victim);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    uint32_t share_bp = must_get(driver).share_bp;
    assert_true(share_bp == 500 || share_bp == 2500);
    balancer_restart(lab); /* the file is whole, and its share still has a lease */
    struct driver_state got = must_get(driver);
    assert_true(got.share_bp == 500 || got.share_bp == 2500);
    assert_int_equal(got.epoch, 1);
    assert_true(got.lease_left_ms > 0);
    must_order(driver, (struct driver_order){.share_bp = 0, .epoch = 1});
    assert_agree(lab, 0);
    driver_close(driver);
    between_stop(&between);
}

static void say_nothing(struct between *between)
{
    (void)between;
}

/* The file goes first, and comes back if the balancer does not follow; 0 % stays in it. */
static void a_balancer_that_does_not_follow_leaves_the_smaller_share_in_the_file(void **state)
{
    struct lab *lab = *state;
    struct between between = {.lab = lab, .before = "add map", .act = say_nothing, .times = 100, .swallow = true};
    struct driver_state got;
    struct error err = {0};
    struct driver *driver = open_map(lab);
    must_set(driver, 500);
    between_start(&between);
    struct driver *cut = open_at(lab, between.path);
    char *before = read_text(lab->map);
    struct driver_order order = {.share_bp = 2500};
    assert_status(driver_set(cut, &order, &got, &err), DRIVER_UNREACHABLE, err);
    assert_agree(lab, 500);
    char *after = read_text(lab->map);
    assert_string_equal(after, before);
    free(before);
    free(after);
    order.share_bp = 0;
    assert_status(driver_set(cut, &order, &got, &err), DRIVER_UNREACHABLE, err);
    after = read_text(lab->map);
    assert_non_null(strstr(after, "canary 0\n"));
    free(after);
    assert_int_equal(must_get(driver).share_bp, 500);
    driver_close(cut);
    driver_close(driver);
    between_stop(&between);
}

/* ---- no request is lost ---- */

struct crowd {
    const struct lab *lab;
    const char *method;
    atomic_bool stop;
    atomic_int requests, failed;
};

static void *keep_asking(void *arg)
{
    struct crowd *crowd = arg;
    while (!atomic_load(&crowd->stop)) {
        int app = request(crowd->lab->front, crowd->method, "/", "", app_names, APPS);
        atomic_fetch_add(&crowd->failed, app < 0);
        atomic_fetch_add(&crowd->requests, 1);
    }
    return NULL;
}

enum { CROWD = 3 };

static void crowd_start(struct crowd *crowd, pthread_t *threads)
{
    for (size_t i = 0; i < CROWD; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, keep_asking, crowd), 0);
}

static void crowd_stop(struct crowd *crowd, const pthread_t *threads, int at_least)
{
    atomic_store(&crowd->stop, true);
    for (size_t i = 0; i < CROWD; i++)
        pthread_join(threads[i], NULL);
    print_message("# %d requests, %d failed\n", atomic_load(&crowd->requests), atomic_load(&crowd->failed));
    assert_true(atomic_load(&crowd->requests) > at_least);
    assert_int_equal(atomic_load(&crowd->failed), 0);
}

static void sixty_changes_lose_no_post(void **state)
{
    static const uint32_t steps[] = {500, 2500, 10000, 0, 5000, 0};
    struct lab *lab = *state;
    struct driver *driver = open_map(lab);
    struct crowd crowd = {.lab = lab, .method = "POST"};
    pthread_t threads[CROWD];
    crowd_start(&crowd, threads);
    for (size_t i = 0; i < 60; i++) {
        must_set(driver, steps[i % 6]);
        pause_ms(5);
    }
    crowd_stop(&crowd, threads, 200);
    driver_close(driver);
}

static void a_crash_of_the_canary_loses_no_get_and_is_counted(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_map(lab);
    struct balancer_counters before, after;
    struct error err = {0};
    struct crowd crowd = {.lab = lab, .method = "GET"};
    pthread_t threads[CROWD];
    must_set(driver, 2500);
    assert_status(driver_counters(driver, &before, &err), DRIVER_OK, err);
    crowd_start(&crowd, threads);
    for (int i = 0; i < 2; i++) {
        pause_ms(150);
        canary_kill(lab);
        wait_up(driver, 2, 0);
        pause_ms(100);
        canary_start(lab);
        wait_up(driver, 2, 1);
    }
    crowd_stop(&crowd, threads, 500);
    assert_status(driver_counters(driver, &after, &err), DRIVER_OK, err);
    const struct balancer_arm *a = &before.arms[TRACK_CANARY], *b = &after.arms[TRACK_CANARY];
    assert_int_equal(before.generation, after.generation);
    assert_int_equal(b->health_changes - a->health_changes, 4);
    assert_int_equal(after.arms[TRACK_STABLE].health_changes, before.arms[TRACK_STABLE].health_changes);
    assert_true(b->total > a->total && b->failed <= b->total);
    assert_true(b->servers == 1 && b->up == 1 && after.arms[TRACK_STABLE].servers == 2);
    assert_true(after.arms[TRACK_STABLE].total - before.arms[TRACK_STABLE].total > b->total - a->total);
    driver_close(driver);
}

static void health_decides_what_may_be_set(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_map(lab);
    struct driver_state got;
    struct error err = {0};
    struct driver_order order = {.share_bp = 2500};
    must_set(driver, 500);
    canary_kill(lab);
    wait_up(driver, 2, 0);
    assert_status(driver_set(driver, &order, &got, &err), DRIVER_UNHEALTHY, err);
    assert_non_null(strstr(err.text, "be_canary/canary1 DOWN"));
    assert_agree(lab, 500);
    must_set(driver, 500); /* a lease must be renewable */
    must_set(driver, 100);
    must_set(driver, 0);
    canary_start(lab);
    wait_up(driver, 2, 1);
    order_by_hand(lab->socket, "set server be_canary/canary1 state drain");
    assert_status(driver_set(driver, &order, &got, &err), DRIVER_UNHEALTHY, err);
    assert_non_null(strstr(err.text, "state ready"));
    order_by_hand(lab->socket, "set server be_canary/canary1 state ready");
    must_set(driver, 2500);

    app_stop(&lab->apps[STABLE1]);
    app_stop(&lab->apps[STABLE2]);
    wait_up(driver, 0, 1);
    order.share_bp = 0;
    assert_status(driver_set(driver, &order, &got, &err), DRIVER_UNHEALTHY, err);
    assert_non_null(strstr(err.text, "WAKE SOMEBODY"));
    assert_agree(lab, 2500);
    assert_int_equal(get(lab), CANARY1); /* as stable's backup, too */
    driver_close(driver);
}

/* With a map a weight is no share: weight 0 takes a server out, and a side without servers gets nobody. */
static void a_server_of_weight_0_serves_nobody(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_map(lab);
    struct driver_report report;
    struct driver_state got;
    struct error err = {0};
    must_set(driver, 500);
    order_by_hand(lab->socket, "set server be_stable/stable1 weight 0");
    order_by_hand(lab->socket, "set server be_stable/stable2 weight 0");
    got = must_get(driver);
    assert_int_equal(got.up[TRACK_STABLE], 0);
    assert_non_null(strstr(got.detail, "be_stable/stable1 weight 0"));
    assert_status(driver_set(driver, &(struct driver_order){.share_bp = 0}, &got, &err), DRIVER_UNHEALTHY, err);
    assert_non_null(strstr(err.text, "WAKE SOMEBODY"));
    assert_status(driver_check(driver, &report, &err), DRIVER_OK, err);
    assert_true(finds(&report, true, "stable1 of backend be_stable has weight 0"));
    assert_true(finds(&report, true, "no stable server is up"));
    driver_report_free(&report);

    order_by_hand(lab->socket, "set server be_stable/stable1 weight 1");
    assert_status(driver_check(driver, &report, &err), DRIVER_OK, err);
    assert_true(finds(&report, false, "stable2 of backend be_stable has weight 0"));
    driver_report_free(&report);
    must_set(driver, 0);

    order_by_hand(lab->socket, "set server be_canary/canary1 weight 0");
    assert_status(driver_set(driver, &(struct driver_order){.share_bp = 500}, &got, &err), DRIVER_UNHEALTHY, err);
    assert_non_null(strstr(err.text, "be_canary/canary1 weight 0"));
    driver_close(driver);
}

/* ---- files and configurations that do not fit ---- */

static void a_file_that_cannot_be_written_stops_a_raise_and_no_rollback(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_map(lab);
    struct driver_state got;
    struct error err = {0};
    must_set(driver, 500);
    char *in_the_way = mem_printf("%s/.share.map.new", lab->folder); /* root may write everywhere, but not over this */
    assert_int_equal(mkdir(in_the_way, 0755), 0);
    struct driver_order order = {.share_bp = 2500};
    assert_status(driver_set(driver, &order, &got, &err), DRIVER_REFUSED, err);
    assert_non_null(strstr(err.text, "nothing was changed"));
    assert_agree(lab, 500);
    for (int times = 0; times < 2; times++) {
        got = must_order(driver, (struct driver_order){.share_bp = 0});
        assert_true(got.unsaved);
        assert_false(got.capabilities & DRIVER_PERSIST);
        assert_non_null(strstr(got.detail, "restart"));
    }
    char *file = read_text(lab->map);
    assert_non_null(strstr(file, "canary 500\n"));
    for (int i = 0; i < 20; i++)
        assert_int_not_equal(get(lab), CANARY1);
    /* The order that is in force already is saved as soon as that can be done. */
    assert_int_equal(rmdir(in_the_way), 0);
    got = must_order(driver, (struct driver_order){.share_bp = 0});
    assert_false(got.unsaved);
    assert_true(got.capabilities & DRIVER_PERSIST);
    assert_agree(lab, 0);
    free(file);
    free(in_the_way);
    driver_close(driver);
}

static void over_tcp_the_file_is_another_machines(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_at(lab, lab->address);
    struct driver_report report;
    struct error err = {0};
    struct driver_state got = must_order(driver, (struct driver_order){.share_bp = 2500, .lease_ms = 60000});
    assert_false(got.capabilities & DRIVER_PERSIST);
    assert_false(got.unsaved); /* there is nothing that it could save */
    assert_true(got.capabilities & DRIVER_LEASE && got.capabilities & DRIVER_CAS);
    char *file = read_text(lab->map);
    assert_string_equal(file, "canary 0\nepoch 0\nexpires 0\n");
    free(file);
    assert_status(driver_check(driver, &report, &err), DRIVER_OK, err);
    assert_true(finds(&report, false, "on its machine"));
    driver_report_free(&report);
    driver_close(driver);
}

static void the_file_keeps_its_owner_and_mode(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_map(lab);
    struct stat info;
    assert_int_equal(chmod(lab->map, 0640), 0);
    if (geteuid() == 0)
        assert_int_equal(chown(lab->map, 1, 2), 0);
    must_set(driver, 500);
    assert_int_equal(stat(lab->map, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
    assert_int_equal(info.st_uid, geteuid() == 0 ? 1 : geteuid());
    driver_close(driver);
}

struct slow {
    const struct lab *lab;
    int answered;
};

static void *ask_slowly(void *arg)
{
    struct slow *slow = arg;
    slow->answered = request(slow->lab->front, "GET", "/slow", "", app_names, APPS);
    return NULL;
}

static void what_is_in_flight_is_waited_for(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_map(lab);
    struct slow slow = {.lab = lab};
    struct error err = {0};
    uint64_t in_flight = 0;
    pthread_t thread;
    must_set(driver, 10000);
    assert_status(driver_drain(driver, TRACK_CANARY, 100, &in_flight, &err), DRIVER_REFUSED, err);
    assert_status(driver_drain(driver, TRACK_STABLE, 1000, &in_flight, &err), DRIVER_OK, err);
    assert_int_equal(pthread_create(&thread, NULL, ask_slowly, &slow), 0);
    pause_ms(200);
    must_set(driver, 0);
    assert_status(driver_drain(driver, TRACK_CANARY, 100, &in_flight, &err), DRIVER_TIMEOUT, err);
    assert_int_equal(in_flight, 1);
    assert_status(driver_drain(driver, TRACK_CANARY, 3000, &in_flight, &err), DRIVER_OK, err);
    assert_int_equal(in_flight, 0);
    pthread_join(thread, NULL);
    assert_int_equal(slow.answered, CANARY1);
    driver_close(driver);
}

static void the_example_gives_a_check_nothing_to_find(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_map(lab);
    struct driver_report report;
    struct error err = {0};
    wait_up(driver, 2, 1);
    for (int i = 0; i < 2; i++) {
        assert_status(driver_check(driver, &report, &err), DRIVER_OK, err);
        if (report.count)
            fail_msg("%s", report.findings[0].text);
        driver_report_free(&report);
        must_set(driver, 500);
    }
    write_file(lab->map, "canary 10000\nepoch 1\nexpires 9999999999\n");
    assert_status(driver_check(driver, &report, &err), DRIVER_OK, err);
    assert_true(finds(&report, true, "a restart would change"));
    driver_report_free(&report);
    assert_int_equal(unlink(lab->map), 0);
    assert_status(driver_check(driver, &report, &err), DRIVER_OK, err);
    assert_true(finds(&report, true, "not there"));
    driver_report_free(&report);
    driver_close(driver);
}

/* What one would write in a hurry: each line of the example that is missing is missed. */
static void config_in_a_hurry(const struct lab *lab)
{
    char *text = mem_printf("global\n    stats socket %s mode 600 level admin\n"
                            "defaults\n    mode http\n    timeout connect 1s\n    timeout client 5s\n"
                            "    timeout server 5s\n"
                            "frontend web\n    bind 127.0.0.1:%u\n    bind 127.0.0.1:%u\n"
                            "    http-request set-var(txn.share) str(canary),map(%s,0)\n"
                            "    use_backend be_canary if { rand(10000),sub(txn.share) lt 0 }\n"
                            "    default_backend be_stable\n"
                            "backend be_stable\n    server stable1 127.0.0.1:%u\n    server stable3 127.0.0.1:%u\n"
                            "backend be_canary\n    server canary1 127.0.0.1:%u check inter 100ms backup\n",
                            lab->socket, lab->front, lab->ops, lab->map, lab->apps[STABLE1].port,
                            lab->apps[STABLE2].port, lab->apps[CANARY1].port);
    write_file(lab->config, text);
    free(text);
    write_file(lab->map, "canary 0\nextra 1\n");
}

static void a_check_names_what_is_wrong_and_what_is_weak(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_map(lab);
    struct driver_report report;
    struct driver_state got;
    struct error err = {0};
    config_in_a_hurry(lab);
    balancer_restart(lab);
    assert_status(driver_check(driver, &report, &err), DRIVER_OK, err);
    assert_true(finds(&report, true, "only one line"));
    assert_true(finds(&report, true, "no server stable2"));
    assert_true(finds(&report, true, "server stable3 of backend be_stable"));
    assert_true(finds(&report, true, "`backup` server"));
    assert_true(finds(&report, false, "server stable1 of backend be_stable has no health check"));
    assert_true(finds(&report, false, "backend be_stable has no `backup`"));
    assert_true(finds(&report, false, "just one entry each"));
    driver_report_free(&report);
    assert_status(driver_get(driver, &got, &err), DRIVER_REFUSED, err);
    assert_status(driver_set(driver, &(struct driver_order){.share_bp = 500}, &got, &err), DRIVER_REFUSED, err);
    must_set(driver, 0);
    driver_close(driver);

    struct lab other = *lab;
    other.map = "/etc/haproxy/another.map";
    driver = open_map(&other);
    assert_status(driver_get(driver, &got, &err), DRIVER_REFUSED, err);
    assert_non_null(strstr(err.text, "letter by letter"));
    assert_status(driver_set(driver, &(struct driver_order){.share_bp = 0}, &got, &err), DRIVER_REFUSED, err);
    assert_status(driver_check(driver, &report, &err), DRIVER_REFUSED, err);
    driver_report_free(&report);
    driver_close(driver);
}

#define lab_test(f) cmocka_unit_test_setup_teardown(f, lab_setup, lab_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        lab_test(every_share_is_read_back_and_real),
        lab_test(who_got_the_canary_at_5_percent_keeps_it_at_25),
        lab_test(a_lease_ends_by_itself),
        lab_test(a_clock_that_is_fast_ends_no_lease_early),
        lab_test(a_clock_that_is_slow_ends_no_lease_late),
        lab_test(a_pause_of_the_balancer_shifts_no_lease),
        lab_test(a_renewed_lease_goes_on),
        lab_test(a_restart_keeps_the_share),
        lab_test(a_damaged_file_is_read_as_haproxy_reads_it),
        lab_test(without_its_socket_the_master_is_asked),
        lab_test(the_newest_epoch_owns_the_split),
        lab_test(two_writers_leave_file_and_balancer_agreed),
        lab_test(a_commit_that_comes_late_is_refused),
        lab_test(a_haldane_that_is_killed_leaves_no_lock_and_no_half_file),
        lab_test(a_balancer_that_does_not_follow_leaves_the_smaller_share_in_the_file),
        lab_test(sixty_changes_lose_no_post),
        lab_test(a_crash_of_the_canary_loses_no_get_and_is_counted),
        lab_test(health_decides_what_may_be_set),
        lab_test(a_server_of_weight_0_serves_nobody),
        lab_test(a_file_that_cannot_be_written_stops_a_raise_and_no_rollback),
        lab_test(over_tcp_the_file_is_another_machines),
        lab_test(the_file_keeps_its_owner_and_mode),
        lab_test(what_is_in_flight_is_waited_for),
        lab_test(the_example_gives_a_check_nothing_to_find),
        lab_test(a_check_names_what_is_wrong_and_what_is_weak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
