/*
 * A program that outlives its haldane does not undo what came after it: the next order waits for it or ends it, and
 * says so if neither can be done. The programs are real ones, and the haldane that is killed is a process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "analyzer/traffic/exec_lock.h"
#include "analyzer/traffic/ops.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * The balancer is the file `share`. A share above 0 takes as long as `delay` says; `do` is run by the shell before it,
 * and each order leaves a line in `log` at its begin and its end.
 */
static const char program[] = "#!/bin/sh\n"
                              "cd \"${0%/*}\" || exit 11\n"
                              "case $HALDANE_OP in\n"
                              "caps) echo '{\"ok\":true,\"caps\":[\"readback\"]}'; exit ;;\n"
                              "set) delay=$(cat delay)\n"
                              "    echo \"begin $HALDANE_SHARE_BP\" >>log\n"
                              "    [ \"$HALDANE_SHARE_BP\" = 0 ] || { . ./do; sleep \"$delay\"; }\n"
                              "    echo \"$HALDANE_SHARE_BP\" >share\n"
                              "    echo \"end $HALDANE_SHARE_BP\" >>log ;;\n"
                              "esac\n"
                              "echo \"{\\\"ok\\\":true,\\\"share_bp\\\":$(cat share)}\"\n";

struct scene {
    char folder[64], program[96], *lock;
    char *words[2];
};

static void path_of(const struct scene *scene, const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s", scene->folder, name);
}

static void put(const struct scene *scene, const char *name, const char *text)
{
    char path[128];
    path_of(scene, name, path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* One of the two is overwritten by the next call but one. */
static const char *text_of(const struct scene *scene, const char *name)
{
    static char texts[2][1024];
    static int turn;
    char path[128], *text = texts[turn ^= 1];
    path_of(scene, name, path);
    FILE *file = fopen(path, "r");
    text[file ? fread(text, 1, sizeof texts[0] - 1, file) : 0] = '\0';
    if (file)
        fclose(file);
    return text;
}

static int scene_setup(void **state)
{
    struct scene *scene = mem_alloc(1, sizeof *scene);
    snprintf(scene->folder, sizeof scene->folder, "/tmp/haldane-exec-lock-XXXXXX");
    if (!mkdtemp(scene->folder))
        return -1;
    snprintf(scene->program, sizeof scene->program, "%s/program", scene->folder);
    put(scene, "program", program);
    put(scene, "share", "500\n");
    put(scene, "delay", "0\n");
    put(scene, "do", "");
    scene->words[0] = scene->program;
    scene->lock = exec_lock_path(scene->words);
    *state = scene;
    return chmod(scene->program, 0700);
}

static int remove_one(const char *path, const struct stat *what, int flag, struct FTW *walk)
{
    (void)what, (void)flag, (void)walk;
    return remove(path);
}

static int scene_teardown(void **state)
{
    struct scene *scene = *state;
    remove(scene->lock);
    nftw(scene->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(scene->lock);
    free(scene);
    return 0;
}

static enum driver_status set(const struct scene *scene, uint32_t share_bp, struct error *err)
{
    const struct policy_balancer balancer = {.command = {(char **)(uintptr_t)scene->words, 1}};
    struct driver_state got = {.lease_left_ms = -1};
    *err = (struct error){0};
    void *exec = exec_ops.open(&balancer, err);
    const struct driver_order order = {.share_bp = share_bp};
    enum driver_status status = exec_ops.set(exec, &order, &got, err);
    exec_ops.close(exec);
    return status;
}

static void must_set(const struct scene *scene, uint32_t share_bp)
{
    struct error err;
    if (set(scene, share_bp, &err) != DRIVER_OK)
        fail_msg("%s", err.text);
}

static void wait_for(const struct scene *scene, const char *name, const char *part)
{
    for (int i = 0; i < 500 && !strstr(text_of(scene, name), part); i++)
        usleep(10000);
    assert_non_null(strstr(text_of(scene, name), part));
}

/* A haldane that is killed in the middle of `set 25 %`. */
static void leave_an_orphan(const struct scene *scene)
{
    struct error err;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit((int)set(scene, 2500, &err));
    wait_for(scene, "log", "begin 2500");
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* ---- the file ---- */

static void the_name_is_of_the_command_and_for_all_users_of_it(void **state)
{
    struct scene *scene = *state;
    char *const words[] = {"/etc/haldane/driver.sh", "one", NULL},
                *const joined[] = {"/etc/haldane/driver.shone", NULL}, *const found[] = {"driver", NULL},
                *const here[] = {"./driver", NULL};
    char *path = exec_lock_path(words), *other = exec_lock_path(joined), *by_path = exec_lock_path(found),
         *relative = exec_lock_path(here);
    assert_non_null(strstr(path, "/haldane-exec-3f4d0ff50a10b770"));
    assert_non_null(strstr(by_path, "/haldane-exec-16a36a334f530d4d"));
    assert_string_not_equal(path, other);
    char before[256];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(scene->folder), 0);
    char *elsewhere = exec_lock_path(here), *the_same = exec_lock_path(words);
    assert_int_equal(chdir(before), 0);
    assert_string_not_equal(relative, elsewhere);
    assert_string_equal(path, the_same);
    free(path), free(other), free(by_path), free(relative), free(elsewhere), free(the_same);
}

static void another_user_may_open_it_and_nothing_is_left_of_it(void **state)
{
    struct scene *scene = *state;
    struct exec_lock lock;
    struct error err;
    struct stat what;
    mode_t before = umask(077);
    assert_int_equal(exec_lock_take(scene->words, 2500, &lock, &err), DRIVER_OK);
    umask(before);
    assert_int_equal(stat(scene->lock, &what), 0);
    assert_int_equal(what.st_mode & 07777, 0666);
    exec_lock_release(&lock, true);
    assert_int_equal(stat(scene->lock, &what), -1);
    must_set(scene, 100);
    assert_int_equal(stat(scene->lock, &what), -1);
    remove(scene->program);
    assert_int_equal(set(scene, 100, &err), DRIVER_REFUSED);
    assert_int_equal(stat(scene->lock, &what), -1);
}

static void assert_not_used(const struct scene *scene, const char *part)
{
    struct error err;
    put(scene, "share", "500\n");
    put(scene, "log", "");
    assert_int_equal(set(scene, 2500, &err), DRIVER_REFUSED);
    if (!strstr(err.text, part) || !strstr(err.text, scene->lock) || !strstr(err.text, "nothing was changed"))
        fail_msg("expected '%s' in: %s", part, err.text);
    assert_string_equal(text_of(scene, "log"), "");
    /* The way back is never blocked, and never taken for sure. */
    assert_int_equal(set(scene, 0, &err), DRIVER_REFUSED);
    if (!strstr(err.text, part) || !strstr(err.text, "not sure to stay"))
        fail_msg("expected '%s' in: %s", part, err.text);
    assert_string_equal(text_of(scene, "share"), "0\n");
    assert_int_equal(remove(scene->lock), 0);
}

static void what_is_none_of_haldanes_files_is_refused_and_not_written(void **state)
{
    struct scene *scene = *state;
    char victim[128];
    put(scene, "victim", "mine\n");
    path_of(scene, "victim", victim);
    assert_int_equal(symlink(victim, scene->lock), 0);
    assert_not_used(scene, "symbolic link");
    assert_int_equal(symlink("/nowhere/at/all", scene->lock), 0);
    assert_not_used(scene, "symbolic link");
    assert_int_equal(mkdir(scene->lock, 0777), 0);
    assert_not_used(scene, "folder");
    assert_int_equal(mkfifo(scene->lock, 0666), 0);
    assert_not_used(scene, "not a plain file");
    if (link(victim, scene->lock) == 0) /* else they are on two disks */
        assert_not_used(scene, "not a plain file");
    assert_string_equal(text_of(scene, "victim"), "mine\n");
    must_set(scene, 100);
}

static void a_file_that_was_left_is_used_whatever_it_says(void **state)
{
    struct scene *scene = *state;
    char group[80];
    snprintf(group, sizeof group, "share_bp  2500 haldane %10d group %10d\n", 1, (int)getpgrp());
    FILE *file = fopen(scene->lock, "w");
    assert_non_null(file);
    fputs(group, file);
    fclose(file);
    must_set(scene, 2500);
    assert_string_equal(text_of(scene, "share"), "2500\n");
}

/* ---- in turn ---- */

enum { THREADS = 4, TURNS = 6 };

static void *set_often(void *scene)
{
    struct error err;
    for (int i = 0; i < TURNS; i++)
        if (set(scene, 1000, &err) != DRIVER_OK)
            return "failed";
    return NULL;
}

static void those_at_the_same_time_come_one_after_the_other(void **state)
{
    struct scene *scene = *state;
    pthread_t threads[THREADS];
    put(scene, "delay", "0.02\n");
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, set_often, scene), 0);
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    const char *log = text_of(scene, "log"), one[] = "begin 1000\nend 1000\n";
    assert_int_equal(strlen(log), THREADS * TURNS * (sizeof one - 1));
    for (; *log; log += sizeof one - 1)
        assert_memory_equal(log, one, sizeof one - 1);
}

static void asking_waits_for_nobody(void **state)
{
    struct scene *scene = *state;
    struct exec_lock lock;
    struct error err;
    const struct policy_balancer balancer = {.command = {scene->words, 1}};
    struct driver_state got = {.lease_left_ms = -1};
    assert_int_equal(exec_lock_take(scene->words, 2500, &lock, &err), DRIVER_OK);
    void *exec = exec_ops.open(&balancer, &err);
    int64_t begun = driver_clock_ms();
    assert_int_equal(exec_ops.get(exec, &got, &err), DRIVER_OK);
    assert_in_range(driver_clock_ms() - begun, 0, 1500);
    assert_int_equal(got.share_bp, 500);
    exec_ops.close(exec);
    exec_lock_release(&lock, true);
}

/* ---- a haldane that was killed ---- */

static void an_order_for_stable_ends_what_a_killed_haldane_left(void **state)
{
    struct scene *scene = *state;
    put(scene, "delay", "3\n");
    leave_an_orphan(scene);
    int64_t begun = driver_clock_ms();
    must_set(scene, 0);
    assert_in_range(driver_clock_ms() - begun, EXEC_LOCK_STABLE_MS, EXEC_LOCK_STABLE_MS + 1500);
    while (driver_clock_ms() < begun + 3500) {
        assert_string_equal(text_of(scene, "share"), "0\n");
        usleep(20000);
    }
    assert_string_equal(text_of(scene, "log"), "begin 2500\nbegin 0\nend 0\n");
}

static void an_order_for_a_share_lets_it_finish(void **state)
{
    struct scene *scene = *state;
    put(scene, "delay", "2.5\n");
    leave_an_orphan(scene);
    put(scene, "delay", "0\n");
    must_set(scene, 1000);
    assert_string_equal(text_of(scene, "log"), "begin 2500\nend 2500\nbegin 1000\nend 1000\n");
    assert_string_equal(text_of(scene, "share"), "1000\n");
}

static void an_orphan_that_ended_is_waited_for_by_nobody(void **state)
{
    struct scene *scene = *state;
    put(scene, "delay", "0.3\n");
    leave_an_orphan(scene);
    wait_for(scene, "log", "end 2500");
    int64_t begun = driver_clock_ms();
    must_set(scene, 0);
    assert_in_range(driver_clock_ms() - begun, 0, 1500);
}

/* A daemon of a program that nobody followed to its end: it may be the balancer, and it may be at work on the share. */
static void a_daemon_that_keeps_the_lock_is_named_and_left_alone(void **state)
{
    struct scene *scene = *state;
    struct error err;
    put(scene, "do", "setsid sh -c 'echo $$ >daemon; exec sleep 30' >/dev/null 2>&1 &\n");
    put(scene, "delay", "1\n");
    leave_an_orphan(scene);
    wait_for(scene, "daemon", "\n");
    pid_t daemon = atoi(text_of(scene, "daemon"));
    assert_true(daemon > 1);
    int64_t begun = driver_clock_ms();
    assert_int_equal(set(scene, 0, &err), DRIVER_TIMEOUT);
    assert_in_range(driver_clock_ms() - begun, 0, EXEC_LOCK_STABLE_MS + EXEC_LOCK_KILLED_MS + 1500);
    char name[64];
    snprintf(name, sizeof name, "sleep (process %d)", (int)daemon);
    if (!strstr(err.text, name) || !strstr(err.text, "not sure to stay") || !strstr(err.text, scene->lock))
        fail_msg("expected '%s' in: %s", name, err.text);
    assert_string_equal(text_of(scene, "share"), "0\n");
    assert_int_equal(kill(daemon, 0), 0);
    /* Both ways out that the text names. */
    assert_int_equal(remove(scene->lock), 0);
    must_set(scene, 0);
    assert_int_equal(kill(daemon, SIGKILL), 0);
    must_set(scene, 0);
}

static void a_daemon_of_a_program_that_ended_holds_nothing(void **state)
{
    struct scene *scene = *state;
    put(scene, "do", "setsid sh -c 'echo $$ >daemon; exec sleep 30' >/dev/null 2>&1 &\n");
    must_set(scene, 2500);
    wait_for(scene, "daemon", "\n");
    int64_t begun = driver_clock_ms();
    must_set(scene, 0);
    assert_in_range(driver_clock_ms() - begun, 0, 1500);
    assert_int_equal(kill(atoi(text_of(scene, "daemon")), SIGKILL), 0);
}

/* A haldane that lives and holds it is never killed, nor is one that waits. */
static void a_haldane_is_named_and_left_alone(void **state)
{
    struct scene *scene = *state;
    struct error err;
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct exec_lock lock;
        setpgid(0, 0);
        alarm(20); /* a test that fails leaves nobody */
        if (exec_lock_take(scene->words, 2500, &lock, &err) == DRIVER_OK && write(ready[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    assert_int_equal(set(scene, 0, &err), DRIVER_TIMEOUT);
    char name[64];
    snprintf(name, sizeof name, "haldane (process %d)", (int)pid);
    if (!strstr(err.text, name))
        fail_msg("expected '%s' in: %s", name, err.text);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    must_set(scene, 0);
}

#define with_scene(test) cmocka_unit_test_setup_teardown(test, scene_setup, scene_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_scene(the_name_is_of_the_command_and_for_all_users_of_it),
        with_scene(another_user_may_open_it_and_nothing_is_left_of_it),
        with_scene(what_is_none_of_haldanes_files_is_refused_and_not_written),
        with_scene(a_file_that_was_left_is_used_whatever_it_says),
        with_scene(those_at_the_same_time_come_one_after_the_other),
        with_scene(asking_waits_for_nobody),
        with_scene(an_order_for_stable_ends_what_a_killed_haldane_left),
        with_scene(an_order_for_a_share_lets_it_finish),
        with_scene(an_orphan_that_ended_is_waited_for_by_nobody),
        with_scene(a_daemon_that_keeps_the_lock_is_named_and_left_alone),
        with_scene(a_daemon_of_a_program_that_ended_holds_nothing),
        with_scene(a_haldane_is_named_and_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
