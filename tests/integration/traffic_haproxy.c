/*
 * The driver against the real HAProxy, with real servers behind it: what a user may rely on when traffic is moved, when
 * something is down, and when the thing at the socket is not what it should be.
 *
 * Each test starts its own HAProxy in a directory of its own, on ports that the kernel gives.
 */
#include "tests/integration/lab.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* ---- the balancer ---- */

enum { STABLE1, STABLE2, CANARY1, APPS };
static const char *const app_names[APPS] = {"stable1", "stable2", "canary1"};

struct lab {
    char folder[64];
    char *config, *socket, *address;
    uint16_t front, admin;
    pid_t pid;
    struct app apps[APPS];
};

/* HAProxy fills in what it finds in its environment. */
static const char config_text[] =
    "global\n"
    "    nbthread 1\n" /* so that one answer shows all servers in one moment */
    "    server-state-file \"${LAB_SOCKET}.state\"\n"
    "    stats socket \"${LAB_SOCKET}\" mode 600 level admin\n"
    "    stats socket \"${LAB_SOCKET}.user\" mode 600 level user\n"
    "    stats socket \"${LAB_SOCKET}.operator\" mode 600 level operator\n"
    "    stats socket \"ipv4@127.0.0.1:${LAB_ADMIN}\" level admin\n"
    "defaults\n"
    "    mode http\n"
    "    timeout connect 1s\n"
    "    timeout client 5s\n"
    "    timeout server 5s\n"
    "    default-server check inter 50ms fall 1 rise 1\n"
    "frontend shop\n" /* the backend's name too: HAProxy allows it, and a question by name would find this one */
    "    bind \"127.0.0.1:${LAB_FRONT}\"\n"
    "    default_backend shop\n"
    "backend shop\n"
    "    load-server-state-from-file global\n"
    "    balance roundrobin\n"
    "    option redispatch 1\n"
    "    server stable1 \"127.0.0.1:${LAB_STABLE1}\" weight 100\n"
    "    server stable2 \"127.0.0.1:${LAB_STABLE2}\" weight 100\n"
    "    server canary1 \"127.0.0.1:${LAB_CANARY1}\" weight 0\n"
    "    server slot \"127.0.0.1:${LAB_CANARY1}\" weight 100 disabled\n"
    "backend static\n"
    "    balance static-rr\n"
    "    server stable1 \"127.0.0.1:${LAB_STABLE1}\" weight 100\n"
    "    server canary1 \"127.0.0.1:${LAB_CANARY1}\" weight 0\n"
    "backend calm\n"
    "    balance leastconn\n"
    "    server stable1 \"127.0.0.1:${LAB_STABLE1}\" weight 100\n"
    "    server canary1 \"127.0.0.1:${LAB_CANARY1}\" weight 0\n"
    "backend hashed\n"
    "    balance uri\n"
    "    hash-type consistent\n"
    "    server stable1 \"127.0.0.1:${LAB_STABLE1}\" weight 100\n"
    "    server canary1 \"127.0.0.1:${LAB_CANARY1}\" weight 0\n"
    "backend dice\n"
    "    balance random\n"
    "    server stable1 \"127.0.0.1:${LAB_STABLE1}\"\n"
    "    server canary1 \"127.0.0.1:${LAB_CANARY1}\" weight 0\n"
    "backend crowd\n"
    "    server stable1 \"127.0.0.1:${LAB_STABLE1}\" weight 100\n"
    "    server canary1 \"127.0.0.1:${LAB_CANARY1}\" weight 0\n"
    "    server stranger \"127.0.0.1:${LAB_STABLE2}\" weight 3\n"
    "backend uneven\n"
    "    server stable1 \"127.0.0.1:${LAB_STABLE1}\" weight 100\n"
    "    server stable2 \"127.0.0.1:${LAB_STABLE2}\" weight 50\n"
    "    server canary1 \"127.0.0.1:${LAB_CANARY1}\" weight 0\n"
    "backend spare\n"
    "    server stable1 \"127.0.0.1:${LAB_STABLE1}\" weight 100\n"
    "    server canary1 \"127.0.0.1:${LAB_CANARY1}\" weight 0 backup\n"
    "backend blind\n"
    "    server stable1 \"127.0.0.1:${LAB_STABLE1}\" weight 100 no-check\n"
    "    server canary1 \"127.0.0.1:${LAB_CANARY1}\" weight 0 no-check\n"
    "backend heavy\n"
    "    server stable1 \"127.0.0.1:${LAB_STABLE1}\" weight 100\n"
    "    server canary1 \"127.0.0.1:${LAB_CANARY1}\" weight 100\n"
    "backend 1st\n"
    "    mode tcp\n"
    "    server stable1 \"127.0.0.1:${LAB_STABLE1}\" weight 100\n"
    "    server canary1 \"127.0.0.1:${LAB_CANARY1}\" weight 0\n";

static void export_port(const char *name, uint16_t port)
{
    char text[8];
    snprintf(text, sizeof text, "%u", port);
    setenv(name, text, 1);
}

static void balancer_start(struct lab *lab)
{
    fflush(NULL);
    lab->pid = fork();
    assert_true(lab->pid >= 0);
    if (lab->pid == 0) {
        setenv("LAB_SOCKET", lab->socket, 1);
        export_port("LAB_ADMIN", lab->admin);
        export_port("LAB_FRONT", lab->front);
        export_port("LAB_STABLE1", lab->apps[STABLE1].port);
        export_port("LAB_STABLE2", lab->apps[STABLE2].port);
        export_port("LAB_CANARY1", lab->apps[CANARY1].port);
        int null = open("/dev/null", O_RDWR);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        execlp("haproxy", "haproxy", "-db", "-f", lab->config, (char *)NULL);
        _exit(127);
    }
}

static void balancer_stop(struct lab *lab)
{
    if (lab->pid <= 0)
        return;
    kill(lab->pid, SIGKILL);
    waitpid(lab->pid, NULL, 0);
    lab->pid = 0;
}

static void balancer_wait(const struct lab *lab)
{
    wait_for_port(lab->admin);
}

static int lab_setup(void **state)
{
    struct lab *lab = mem_alloc(1, sizeof *lab);
    *state = lab;
    snprintf(lab->folder, sizeof lab->folder, "/tmp/haldane-traffic-XXXXXX");
    assert_non_null(mkdtemp(lab->folder));
    lab->config = mem_printf("%s/haproxy.cfg", lab->folder);
    lab->socket = mem_printf("%s/admin.sock", lab->folder);
    lab->front = free_port();
    lab->admin = free_port();
    lab->address = mem_printf("localhost:%u", lab->admin);
    for (size_t i = 0; i < APPS; i++) {
        lab->apps[i] = (struct app){.name = app_names[i], .port = free_port()};
        app_start(&lab->apps[i]);
    }
    FILE *file = fopen(lab->config, "w");
    assert_non_null(file);
    assert_true(fputs(config_text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    balancer_start(lab);
    balancer_wait(lab);
    return 0;
}

static int lab_teardown(void **state)
{
    struct lab *lab = *state;
    balancer_stop(lab);
    for (size_t i = 0; i < APPS; i++)
        app_stop(&lab->apps[i]);
    static const char *const sockets[] = {"", ".user", ".operator", ".state"};
    for (size_t i = 0; i < sizeof sockets / sizeof sockets[0]; i++) {
        char *path = mem_printf("%s%s", lab->socket, sockets[i]);
        unlink(path);
        free(path);
    }
    unlink(lab->config);
    rmdir(lab->folder);
    free(lab->config);
    free(lab->socket);
    free(lab->address);
    free(lab);
    return 0;
}

static char *both_stable[] = {"stable1", "stable2"};
static char *one_canary[] = {"canary1"};

static struct driver *open_driver(const char *socket, const char *backend, char **stable, size_t stable_count)
{
    struct policy_balancer balancer = {.socket = (char *)(uintptr_t)socket,
                                       .backend = (char *)(uintptr_t)backend,
                                       .servers = {stable, one_canary},
                                       .server_count = {stable_count, 1}};
    const struct policy_traffic policy = {.driver = DRIVER_HAPROXY, .balancers = &balancer, .balancer_count = 1};
    struct error err = {0};
    struct driver *driver = driver_open(&policy, &err);
    if (!driver)
        fail_msg("%s", err.text);
    return driver;
}

/* What a policy with a `state_file` would give. */
static struct driver *open_saved_backend(const struct lab *lab, char *backend, size_t stable_count, char *state_file)
{
    struct policy_balancer balancer = {.socket = lab->socket,
                                       .backend = backend,
                                       .state_file = state_file,
                                       .servers = {both_stable, one_canary},
                                       .server_count = {stable_count, 1}};
    const struct policy_traffic policy = {.driver = DRIVER_HAPROXY, .balancers = &balancer, .balancer_count = 1};
    struct error err = {0};
    struct driver *driver = driver_open(&policy, &err);
    if (!driver)
        fail_msg("%s", err.text);
    return driver;
}

static struct driver *open_saved(const struct lab *lab, char *state_file)
{
    return open_saved_backend(lab, "shop", 2, state_file);
}

static struct driver *open_shop(const struct lab *lab)
{
    return open_driver(lab->socket, "shop", both_stable, 2);
}

static enum driver_status set_share(struct driver *driver, uint32_t share_bp, struct driver_state *got,
                                    struct error *err)
{
    return driver_set(driver, &(struct driver_order){.share_bp = share_bp}, got, err);
}

static void must_set(struct driver *driver, uint32_t share_bp)
{
    struct driver_state got;
    struct error err = {0};
    assert_status(set_share(driver, share_bp, &got, &err), DRIVER_OK, err);
    assert_int_equal(got.share_bp, share_bp);
}

static uint32_t share_in_force(struct driver *driver)
{
    struct driver_state got;
    struct error err = {0};
    assert_status(driver_get(driver, &got, &err), DRIVER_OK, err);
    return got.share_bp;
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

static char *by_hand(const struct lab *lab, const char *command)
{
    return ask_by_hand(lab->socket, command);
}

static void order(const struct lab *lab, const char *command)
{
    order_by_hand(lab->socket, command);
}

/* The index of the app that answered, or -1. */
static int post(const struct lab *lab)
{
    return request(lab->front, "POST", "/", "", app_names, APPS);
}

/* ---- what must hold ---- */

static void every_step_is_set_read_back_and_real(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_shop(lab);
    wait_up(driver, 2, 1);
    assert_int_equal(share_in_force(driver), 0);
    static const uint32_t steps[] = {500, 2500, 5000, 10000, 0, 500, 0};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        must_set(driver, steps[i]);
        must_set(driver, steps[i]);
        assert_int_equal(share_in_force(driver), steps[i]);
        int canary = 0;
        for (int k = 0; k < 400; k++) {
            int app = post(lab);
            assert_true(app >= 0);
            canary += app == CANARY1;
        }
        assert_in_range(canary, steps[i] / 25 - (steps[i] ? 2 : 0), steps[i] / 25 + (steps[i] ? 2 : 0));
    }
    struct driver_state got;
    struct error err = {0};
    assert_status(driver_get(driver, &got, &err), DRIVER_OK, err);
    assert_string_equal(got.detail, "stable1 100, stable2 100, canary1 0");
    assert_true(got.health_known);
    assert_int_equal(got.capabilities, DRIVER_READBACK | DRIVER_COUNTERS | DRIVER_DRAIN | DRIVER_NO_RELOAD);
    driver_close(driver);
}

static void it_works_over_tcp_and_by_name(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_driver(lab->address, "shop", both_stable, 2);
    wait_up(driver, 2, 1);
    must_set(driver, 2500);
    driver_close(driver);
    char *numeric = mem_printf("127.0.0.1:%u", lab->admin);
    driver = open_driver(numeric, "shop", both_stable, 2);
    assert_int_equal(share_in_force(driver), 2500);
    driver_close(driver);
    free(numeric);
    driver = open_driver("no-such-host.invalid:9999", "shop", both_stable, 2);
    struct driver_state got;
    struct error err = {0};
    assert_status(driver_get(driver, &got, &err), DRIVER_UNREACHABLE, err);
    driver_close(driver);
}

static void what_does_not_fit_is_named_with_its_mend(void **state)
{
    struct lab *lab = *state;
    static char *typo[] = {"stable1", "stabel2"};
    static const struct {
        const char *backend;
        char **stable;
        size_t count;
        const char *says[2];
    } cases[] = {
        {"shpo", both_stable, 1, {"no backend shpo", "shop, static, calm"}},
        {"shop", typo, 2, {"no server stabel2", "stable1, stable2, canary1, slot"}},
        {"static", both_stable, 1, {"static-rr", "roundrobin"}},
        {"calm", both_stable, 1, {"leastconn", "roundrobin"}},
        {"hashed", both_stable, 1, {"uri", "roundrobin"}},
        {"crowd", both_stable, 1, {"stranger", "weight 3"}},
        {"spare", both_stable, 1, {"backup", "canary1"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct driver *driver = open_driver(lab->socket, cases[i].backend, cases[i].stable, cases[i].count);
        struct driver_state got;
        for (int set = 0; set < 2; set++) {
            struct error err = {0};
            assert_status(set ? set_share(driver, 500, &got, &err) : driver_get(driver, &got, &err), DRIVER_REFUSED,
                          err);
            assert_int_equal(err.code, ERROR_DATA);
            if (!strstr(err.text, cases[i].says[0]) || !strstr(err.text, cases[i].says[1]))
                fail_msg("%s", err.text);
        }
        driver_close(driver);
    }
    char *state_now = by_hand(lab, "show servers state");
    assert_null(strstr(state_now, " 19 "));
    free(state_now);
}

static void more_that_is_refused_or_taken(void **state)
{
    struct lab *lab = *state;
    struct driver_state got;
    struct error err = {0};
    struct driver *driver = open_driver(lab->socket, "uneven", both_stable, 2);
    wait_up(driver, 2, 1);
    assert_status(set_share(driver, 500, &got, &err), DRIVER_REFUSED, err);
    assert_non_null(strstr(err.text, "stable2 weight 50"));
    assert_status(set_share(driver, 0, &got, &err), DRIVER_OK, err);
    assert_string_equal(got.detail, "stable1 100, stable2 50, canary1 0");
    driver_close(driver);

    driver = open_driver(lab->socket, "dice", both_stable, 1);
    wait_up(driver, 1, 1);
    must_set(driver, 1000);
    assert_status(set_share(driver, 10, &got, &err), DRIVER_REFUSED, err);
    assert_non_null(strstr(err.text, "nearest"));
    must_set(driver, 0);
    driver_close(driver);

    driver = open_driver(lab->socket, "blind", both_stable, 1);
    assert_status(set_share(driver, 500, &got, &err), DRIVER_OK, err);
    assert_false(got.health_known);
    driver_close(driver);

    driver = open_driver(lab->socket, "1st", both_stable, 1);
    wait_up(driver, 1, 1);
    must_set(driver, 500);
    struct balancer_counters counters;
    assert_status(driver_counters(driver, &counters, &err), DRIVER_UNSUPPORTED, err);
    driver_close(driver);
}

static void a_socket_without_rights_says_what_to_change(void **state)
{
    struct lab *lab = *state;
    static const char *const levels[] = {"user", "operator"};
    for (size_t i = 0; i < 2; i++) {
        char *path = mem_printf("%s.%s", lab->socket, levels[i]);
        struct driver *driver = open_driver(path, "shop", both_stable, 2);
        wait_up(driver, 2, 1);
        struct driver_state got;
        struct error err = {0};
        assert_status(set_share(driver, 500, &got, &err), DRIVER_REFUSED, err);
        assert_non_null(strstr(err.text, "level admin"));
        assert_int_equal(got.share_bp, 0);
        driver_close(driver);
        free(path);
    }
}

static void a_canary_that_is_down_gets_no_more_but_can_be_rolled_back(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_shop(lab);
    struct driver_state got;
    struct error err = {0};
    wait_up(driver, 2, 1);
    must_set(driver, 2500);
    app_stop(&lab->apps[CANARY1]);
    wait_up(driver, 2, 0);
    assert_status(set_share(driver, 5000, &got, &err), DRIVER_UNHEALTHY, err);
    assert_non_null(strstr(err.text, "canary1 66 DOWN"));
    assert_int_equal(got.share_bp, 2500);
    assert_int_equal(share_in_force(driver), 2500); /* the intent stands */
    must_set(driver, 500);
    must_set(driver, 0);
    app_start(&lab->apps[CANARY1]);
    wait_up(driver, 2, 1);
    order(lab, "set server shop/canary1 state drain");
    assert_status(set_share(driver, 500, &got, &err), DRIVER_UNHEALTHY, err);
    assert_non_null(strstr(err.text, "DRAIN"));
    order(lab, "set server shop/canary1 state maint");
    assert_status(set_share(driver, 500, &got, &err), DRIVER_UNHEALTHY, err);
    assert_non_null(strstr(err.text, "MAINT"));
    order(lab, "set server shop/canary1 state ready");
    wait_up(driver, 2, 1);
    must_set(driver, 500);
    driver_close(driver);
}

static void zero_is_refused_when_only_the_canary_serves(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_shop(lab);
    struct driver_state got;
    struct error err = {0};
    wait_up(driver, 2, 1);
    must_set(driver, 5000);
    app_stop(&lab->apps[STABLE1]);
    app_stop(&lab->apps[STABLE2]);
    wait_up(driver, 0, 1);
    assert_status(set_share(driver, 0, &got, &err), DRIVER_UNHEALTHY, err);
    assert_non_null(strstr(err.text, "WAKE SOMEBODY"));
    assert_int_equal(got.share_bp, 5000);
    assert_int_equal(post(lab), CANARY1);
    must_set(driver, 500); /* less, but not nothing, is no outage */
    assert_int_equal(post(lab), CANARY1);
    app_stop(&lab->apps[CANARY1]);
    wait_up(driver, 0, 0);
    must_set(driver, 0); /* nobody serves either way: back to stable */
    driver_close(driver);
}

static void one_stable_server_is_enough_to_come_back(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_shop(lab);
    wait_up(driver, 2, 1);
    must_set(driver, 10000);
    app_stop(&lab->apps[STABLE2]);
    wait_up(driver, 1, 1);
    must_set(driver, 0);
    assert_int_equal(post(lab), STABLE1);
    driver_close(driver);
}

static void what_somebody_else_set_is_seen_and_healed(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_shop(lab);
    wait_up(driver, 2, 1);
    must_set(driver, 500);
    order(lab, "set server shop/canary1 weight 200");
    order(lab, "set server shop/stable1 weight 100");
    order(lab, "set server shop/stable2 weight 100");
    assert_int_equal(share_in_force(driver), 5000);
    must_set(driver, 500);
    order(lab, "set server shop/stable1 weight 0");
    order(lab, "set server shop/stable2 weight 0");
    order(lab, "set server shop/canary1 weight 0");
    assert_int_equal(post(lab), -1);
    must_set(driver, 0);
    assert_in_range(post(lab), STABLE1, STABLE2);
    driver_close(driver);
}

static void a_rollback_does_not_stumble_over_a_changed_configuration(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_shop(lab);
    wait_up(driver, 2, 1);
    must_set(driver, 2500);
    driver_close(driver);
    static char *more[] = {"stable1", "stable2", "stable3"};
    driver = open_driver(lab->socket, "shop", more, 3); /* as if stable3 had been taken out meanwhile */
    order(lab, "set server shop/slot state ready");     /* and a stranger had come */
    struct driver_state got;
    struct error err = {0};
    assert_status(driver_get(driver, &got, &err), DRIVER_REFUSED, err);
    assert_status(set_share(driver, 5000, &got, &err), DRIVER_REFUSED, err);
    must_set(driver, 0);
    driver_close(driver);
}

/* ---- no request is lost, and the order is right ---- */

struct crowd {
    const struct lab *lab;
    atomic_bool stop;
    atomic_int requests, failed, looks, all_zero;
};

static void *keep_posting(void *arg)
{
    struct crowd *crowd = arg;
    while (!atomic_load(&crowd->stop)) {
        atomic_fetch_add(&crowd->failed, post(crowd->lab) < 0);
        atomic_fetch_add(&crowd->requests, 1);
    }
    return NULL;
}

/* Counts the moments in which no server of the backend has weight. `slot` is in maintenance and does not count. */
static void *keep_watching(void *arg)
{
    struct crowd *crowd = arg;
    while (!atomic_load(&crowd->stop)) {
        char *answer = by_hand(crowd->lab, "show servers state shop");
        unsigned sum = 0;
        int servers = 0;
        for (const char *line = strchr(answer, '\n'); line; line = strchr(line + 1, '\n')) {
            char name[32];
            unsigned weight;
            if (sscanf(line, "\n%*d shop %*d %31s %*s %*d %*d %u", name, &weight) == 2 && strcmp(name, "slot") != 0) {
                sum += weight;
                servers++;
            }
        }
        free(answer);
        atomic_fetch_add(&crowd->all_zero, servers == 3 && sum == 0);
        atomic_fetch_add(&crowd->looks, servers == 3);
    }
    return NULL;
}

static void a_hundred_flips_lose_nothing(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_shop(lab);
    wait_up(driver, 2, 1);
    struct crowd crowd = {.lab = lab};
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, i < 2 ? keep_posting : keep_watching, &crowd), 0);
    for (int i = 0; i < 100; i++) {
        must_set(driver, i % 2 ? 0 : 10000);
        pause_ms(5);
    }
    atomic_store(&crowd.stop, true);
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    print_message("# %d requests, %d looks\n", atomic_load(&crowd.requests), atomic_load(&crowd.looks));
    assert_true(atomic_load(&crowd.requests) > 200);
    assert_true(atomic_load(&crowd.looks) > 200);
    assert_int_equal(atomic_load(&crowd.failed), 0);
    assert_int_equal(atomic_load(&crowd.all_zero), 0);
    driver_close(driver);
}

static void counts_belong_to_one_process(void **state)
{
    struct lab *lab = *state;
    struct driver *driver = open_shop(lab);
    struct balancer_counters before, after, restarted;
    struct error err = {0};
    wait_up(driver, 2, 1);
    must_set(driver, 2500);
    assert_status(driver_counters(driver, &before, &err), DRIVER_OK, err);
    for (int i = 0; i < 80; i++)
        assert_true(post(lab) >= 0);
    assert_status(driver_counters(driver, &after, &err), DRIVER_OK, err);
    assert_int_equal(before.generation, after.generation);
    uint64_t stable = after.arms[TRACK_STABLE].total - before.arms[TRACK_STABLE].total;
    uint64_t canary = after.arms[TRACK_CANARY].total - before.arms[TRACK_CANARY].total;
    assert_int_equal(stable + canary, 80);
    assert_in_range(canary, 18, 22);
    assert_int_equal(after.arms[TRACK_CANARY].failed, 0);
    balancer_stop(lab);
    balancer_start(lab);
    balancer_wait(lab);
    assert_status(driver_counters(driver, &restarted, &err), DRIVER_OK, err);
    assert_int_not_equal(restarted.generation, after.generation);
    assert_int_equal(share_in_force(driver), 0); /* weights do not outlive the process */
    driver_close(driver);
}

static void a_state_file_brings_the_share_over_a_restart(void **state)
{
    struct lab *lab = *state;
    char *path = mem_printf("%s.state", lab->socket);
    struct driver *driver = open_saved(lab, path);
    struct driver_state got, after;
    struct error err = {0};
    wait_up(driver, 2, 1);
    assert_status(set_share(driver, 2500, &got, &err), DRIVER_OK, err);
    assert_true(got.capabilities & DRIVER_PERSIST);
    assert_false(got.unsaved);
    balancer_stop(lab);
    balancer_start(lab);
    balancer_wait(lab);
    assert_status(driver_get(driver, &after, &err), DRIVER_OK, err);
    assert_int_equal(after.share_bp, 2500);
    assert_int_not_equal(after.generation, got.generation);
    driver_close(driver);
    free(path);
}

static void what_a_state_file_does_not_hold_is_told_and_saved_later(void **state)
{
    struct lab *lab = *state;
    char *folder = mem_printf("%s.d", lab->socket), *path = mem_printf("%s/state", folder);
    struct driver *driver = open_saved(lab, path);
    struct driver_state got;
    struct error err = {0};
    wait_up(driver, 2, 1);
    /* Without a way back that would last nothing is raised. */
    assert_status(set_share(driver, 500, &got, &err), DRIVER_REFUSED, err);
    assert_non_null(strstr(err.text, "not raised"));
    assert_status(driver_get(driver, &got, &err), DRIVER_OK, err);
    assert_int_equal(got.share_bp, 0);
    assert_int_equal(mkdir(folder, 0755), 0);
    assert_status(set_share(driver, 500, &got, &err), DRIVER_OK, err);
    assert_false(got.unsaved);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    for (size_t i = 0; i < 2; i++) {
        assert_status(set_share(driver, 0, &got, &err), DRIVER_OK, err);
        assert_int_equal(got.share_bp, 0);
        assert_true(got.unsaved);
        assert_false(got.capabilities & DRIVER_PERSIST);
        assert_non_null(strstr(got.detail, folder));
    }
    /* The order that is in force already is saved as soon as that can be done. */
    assert_int_equal(mkdir(folder, 0755), 0);
    assert_status(set_share(driver, 0, &got, &err), DRIVER_OK, err);
    assert_false(got.unsaved);
    assert_true(got.capabilities & DRIVER_PERSIST);
    assert_int_equal(access(path, R_OK), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    driver_close(driver);
    free(folder);
    free(path);
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
    struct driver *driver = open_shop(lab);
    struct slow slow = {.lab = lab};
    struct error err = {0};
    uint64_t in_flight = 0;
    pthread_t thread;
    wait_up(driver, 2, 1);
    must_set(driver, 10000);
    assert_status(driver_drain(driver, TRACK_CANARY, 100, &in_flight, &err), DRIVER_REFUSED, err);
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

static void a_check_names_what_is_wrong_and_what_is_weak(void **state)
{
    struct lab *lab = *state;
    static const struct {
        const char *backend, *says;
        bool wrong;
    } cases[] = {{"shop", NULL, false},         {"calm", "leastconn", true}, {"crowd", "stranger", true},
                 {"uneven", "weight 50", true}, {"spare", "`backup`", true}, {"blind", "no health check", false},
                 {"heavy", "`weight 0`", true}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool two = strcmp(cases[i].backend, "uneven") == 0 || strcmp(cases[i].backend, "shop") == 0;
        struct driver *driver = open_driver(lab->socket, cases[i].backend, both_stable, two ? 2 : 1);
        struct driver_report report;
        struct error err = {0};
        assert_status(driver_check(driver, &report, &err), DRIVER_OK, err);
        if (cases[i].says ? !finds(&report, cases[i].wrong, cases[i].says) : report.count > 0)
            fail_msg("%s: %s", cases[i].backend, report.count ? report.findings[0].text : "nothing found");
        driver_report_free(&report);
        driver_close(driver);
    }
}

static void with_a_state_file_a_canary_s_weight_in_the_configuration_is_only_weak(void **state)
{
    struct lab *lab = *state;
    char *saved = mem_printf("%s.saved", lab->socket);
    struct driver *driver = open_saved_backend(lab, "heavy", 1, saved);
    struct driver_report report;
    struct error err = {0};
    assert_status(driver_check(driver, &report, &err), DRIVER_OK, err);
    assert_true(finds(&report, false, saved));
    assert_false(finds(&report, true, "weight"));
    driver_report_free(&report);
    driver_close(driver);
    free(saved);
}

/* ---- a balancer that is not there, or comes late ---- */

static void a_missing_socket_is_unreachable_and_stays_missing(void **state)
{
    struct lab *lab = *state;
    balancer_stop(lab);
    struct driver *driver = open_shop(lab);
    struct driver_state got;
    struct balancer_counters counters;
    struct error err = {0};
    int64_t start = clock_ms();
    assert_status(set_share(driver, 0, &got, &err), DRIVER_UNREACHABLE, err); /* the file is left, nobody listens */
    assert_in_range(clock_ms() - start, 1500, 6000);
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    unlink(lab->socket);
    assert_status(driver_get(driver, &got, &err), DRIVER_UNREACHABLE, err);
    assert_non_null(strstr(err.text, lab->socket));
    assert_int_equal(got.capabilities, 0);
    assert_status(driver_counters(driver, &counters, &err), DRIVER_UNREACHABLE, err);
    struct stat info;
    assert_int_equal(stat(lab->socket, &info), -1);
    assert_int_equal(errno, ENOENT);
    driver_close(driver);
}

static void *start_late(void *arg)
{
    pause_ms(500);
    balancer_start(arg);
    return NULL;
}

static void a_restart_is_waited_for(void **state)
{
    struct lab *lab = *state;
    balancer_stop(lab);
    struct driver *driver = open_shop(lab);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, start_late, lab), 0);
    struct driver_state got;
    struct error err = {0};
    enum driver_status status = driver_get(driver, &got, &err);
    pthread_join(thread, NULL);
    assert_status(status, DRIVER_OK, err);
    driver_close(driver);
}

/* ---- something else at the socket ---- */

enum trick { HUGE_ANSWER, SLOW_ANSWER, SILENT, CUT_OFF, EMPTY, NOISE, LIAR, HANGS_UP };

struct fake {
    enum trick trick;
    int listener;
    uint16_t port;
    pthread_t thread;
    atomic_int sets;
};

static void say(int fd, const char *text)
{
    send(fd, text, strlen(text), MSG_NOSIGNAL);
}

static bool say_slowly(int fd, const char *text)
{
    return send(fd, text, strlen(text), MSG_NOSIGNAL) > 0 && (pause_ms(100), true);
}

static const char liar_state[] =
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight\n"
    "3 shop 1 stable1 127.0.0.1 2 0 100 100\n3 shop 2 canary1 127.0.0.1 2 0 0 0\n\n";
static const char liar_stat[] =
    "# pxname,svname,type,status,bck,algo,scur,qcur,stot,hrsp_5xx,econ,eresp,wretr,wredis,chkdown,\n"
    "shop,stable1,2,UP,0,,0,0,0,0,0,0,0,0,0,\nshop,canary1,2,UP,0,,0,0,0,0,0,0,0,0,0,\n"
    "shop,BACKEND,1,UP,0,roundrobin,0,0,0,0,0,0,0,0,0,\n\n";

/* Says yes to everything, and changes nothing. */
static void lie(struct fake *fake, int fd, const char *command)
{
    if (strncmp(command, "show servers state", 18) == 0)
        say(fd, liar_state);
    else if (strncmp(command, "show stat", 9) == 0)
        say(fd, liar_stat);
    else if (strncmp(command, "get weight", 10) == 0)
        say(fd, "0 (initial 0)\n\n");
    else if (strncmp(command, "show info", 9) == 0)
        say(fd, "Pid: 1\nStart_time_sec: 1\n\n");
    else {
        atomic_fetch_add(&fake->sets, 1);
        say(fd, "\n");
    }
}

static void play(struct fake *fake, int fd)
{
    char command[256] = "";
    static const char block[] = "1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n1\n";
    if (fake->trick == HANGS_UP || recv(fd, command, sizeof command - 1, 0) <= 0)
        return;
    switch (fake->trick) {
    case HUGE_ANSWER:
        while (send(fd, block, sizeof block - 1, MSG_NOSIGNAL) > 0)
            continue;
        break;
    case SLOW_ANSWER:
        while (say_slowly(fd, "1"))
            continue;
        break;
    case SILENT:
        recv(fd, command, sizeof command - 1, 0);
        break;
    case CUT_OFF:
        send(fd, liar_state, sizeof liar_state - 2, MSG_NOSIGNAL);
        break;
    case NOISE:
        say(fd, "<html>\x1b[2J nothing here\n\n");
        break;
    case LIAR:
        lie(fake, fd, command);
        break;
    case EMPTY:
    case HANGS_UP:
        break;
    }
}

static void *fake_run(void *arg)
{
    struct fake *fake = arg;
    for (int fd; (fd = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;) {
        play(fake, fd);
        close(fd);
    }
    return NULL;
}

static struct driver *fake_start(struct fake *fake, enum trick trick)
{
    *fake = (struct fake){.trick = trick};
    fake->listener = listen_on_free_port(&fake->port);
    assert_int_equal(pthread_create(&fake->thread, NULL, fake_run, fake), 0);
    char *address = mem_printf("127.0.0.1:%u", fake->port);
    struct driver *driver = open_driver(address, "shop", both_stable, 1);
    free(address);
    return driver;
}

static void fake_stop(struct fake *fake)
{
    shutdown(fake->listener, SHUT_RDWR);
    pthread_join(fake->thread, NULL);
    close(fake->listener);
}

static void garbage_is_never_taken_for_a_share(void **state)
{
    (void)state;
    static const struct {
        enum trick trick;
        enum driver_status status;
    } cases[] = {{HUGE_ANSWER, DRIVER_UNREACHABLE},
                 {CUT_OFF, DRIVER_UNREACHABLE},
                 {EMPTY, DRIVER_UNREACHABLE},
                 {HANGS_UP, DRIVER_UNREACHABLE},
                 {NOISE, DRIVER_REFUSED}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fake fake;
        struct driver *driver = fake_start(&fake, cases[i].trick);
        struct driver_state got;
        struct error err = {0};
        assert_status(driver_get(driver, &got, &err), cases[i].status, err);
        assert_status(set_share(driver, 0, &got, &err), cases[i].status, err);
        assert_null(strchr(err.text, '\x1b'));
        assert_int_equal(got.capabilities, 0);
        driver_close(driver);
        fake_stop(&fake);
    }
}

static void a_yes_without_effect_is_a_mismatch(void **state)
{
    (void)state;
    struct fake fake;
    struct driver *driver = fake_start(&fake, LIAR);
    struct driver_state got;
    struct error err = {0};
    assert_status(set_share(driver, 500, &got, &err), DRIVER_MISMATCH, err);
    assert_int_equal(got.share_bp, 0);
    assert_int_equal(atomic_load(&fake.sets), 2); /* tried twice, stopped at the first change each time */
    driver_close(driver);
    fake_stop(&fake);
}

struct waiting {
    struct driver *driver;
    enum driver_status status;
    int64_t took_ms;
};

static void *wait_for_answer(void *arg)
{
    struct waiting *waiting = arg;
    struct driver_state got;
    int64_t start = clock_ms();
    waiting->status = set_share(waiting->driver, 0, &got, NULL);
    waiting->took_ms = clock_ms() - start;
    return NULL;
}

static void nobody_waits_beyond_the_deadline(void **state)
{
    (void)state;
    static const enum trick tricks[] = {SLOW_ANSWER, SILENT};
    struct fake fakes[2];
    struct waiting waiting[2];
    pthread_t threads[2];
    for (size_t i = 0; i < 2; i++) {
        waiting[i] = (struct waiting){.driver = fake_start(&fakes[i], tricks[i])};
        assert_int_equal(pthread_create(&threads[i], NULL, wait_for_answer, &waiting[i]), 0);
    }
    for (size_t i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(waiting[i].status, DRIVER_TIMEOUT);
        assert_in_range(waiting[i].took_ms, 9900, 11500);
        driver_close(waiting[i].driver);
        fake_stop(&fakes[i]);
    }
}

#define lab_test(f) cmocka_unit_test_setup_teardown(f, lab_setup, lab_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        lab_test(every_step_is_set_read_back_and_real),
        lab_test(it_works_over_tcp_and_by_name),
        lab_test(what_does_not_fit_is_named_with_its_mend),
        lab_test(more_that_is_refused_or_taken),
        lab_test(a_socket_without_rights_says_what_to_change),
        lab_test(a_canary_that_is_down_gets_no_more_but_can_be_rolled_back),
        lab_test(zero_is_refused_when_only_the_canary_serves),
        lab_test(one_stable_server_is_enough_to_come_back),
        lab_test(what_somebody_else_set_is_seen_and_healed),
        lab_test(a_rollback_does_not_stumble_over_a_changed_configuration),
        lab_test(a_hundred_flips_lose_nothing),
        lab_test(counts_belong_to_one_process),
        lab_test(a_state_file_brings_the_share_over_a_restart),
        lab_test(what_a_state_file_does_not_hold_is_told_and_saved_later),
        lab_test(what_is_in_flight_is_waited_for),
        lab_test(a_check_names_what_is_wrong_and_what_is_weak),
        lab_test(with_a_state_file_a_canary_s_weight_in_the_configuration_is_only_weak),
        lab_test(a_missing_socket_is_unreachable_and_stays_missing),
        lab_test(a_restart_is_waited_for),
        cmocka_unit_test(garbage_is_never_taken_for_a_share),
        cmocka_unit_test(a_yes_without_effect_is_a_mismatch),
        cmocka_unit_test(nobody_waits_beyond_the_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
