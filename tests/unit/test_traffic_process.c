/* A command that is run for a driver: what it gets, what comes back, and that it can never hold us up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "analyzer/traffic/ops.h"
#include "analyzer/traffic/process.h"
#include "base/memory.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SOON = 5000 };

static enum driver_status shell(const char *script, const char *const *env, const char *input, int64_t patience_ms,
                                struct process_result *result, struct error *err)
{
    char *const words[] = {"sh", "-c", (char *)(uintptr_t)script, NULL};
    *err = (struct error){0};
    return process_run(words, env, input, driver_clock_ms() + patience_ms, result, err);
}

static void input_and_environment_go_in_and_all_that_it_says_comes_out(void **state)
{
    (void)state;
    struct process_result result;
    struct error err;
    setenv("HALDANE_TEST_OLD", "before", 1);
    static const char *const env[] = {"HALDANE_TEST_OLD=after", "HALDANE_TEST_NEW=x y", NULL};
    assert_int_equal(shell("cat; echo \"$HALDANE_TEST_OLD,$HALDANE_TEST_NEW\"; echo bad >&2; printf '\\n' >&2; exit 12",
                           env, "in\n", SOON, &result, &err),
                     DRIVER_OK);
    assert_int_equal(result.exit_code, 12);
    assert_string_equal(result.output, "in\nafter,x y\n");
    assert_int_equal(result.output_length, strlen(result.output));
    char line[PROCESS_LINE];
    assert_string_equal(process_last_line(&result, line), "bad");
    process_result_free(&result);
    unsetenv("HALDANE_TEST_OLD");
    assert_int_equal(shell("cat", NULL, NULL, SOON, &result, &err), DRIVER_OK);
    assert_string_equal(result.output, "");
    process_result_free(&result);
}

static void input_that_nobody_reads_harms_nobody(void **state)
{
    (void)state;
    struct process_result result;
    struct error err;
    char *much = mem_alloc(1 << 20, 1);
    memset(much, 'x', (1 << 20) - 1);
    assert_int_equal(shell("exit 0", NULL, much, SOON, &result, &err), DRIVER_OK);
    assert_int_equal(result.exit_code, 0);
    process_result_free(&result);
    free(much);
}

static void it_gets_no_file_of_ours_and_no_signal_blocked(void **state)
{
    (void)state;
    struct process_result result;
    struct error err;
    int leak = open("/dev/null", O_RDONLY); /* without O_CLOEXEC, as a library might */
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(shell("ls /proc/$$/fd; kill -PIPE $$; echo deaf", NULL, "x", SOON, &result, &err), DRIVER_OK);
    signal(SIGPIPE, SIG_DFL);
    close(leak);
    assert_string_equal(result.output, "0\n1\n2\n"); /* no pipe in the shell: it would be among them */
    assert_int_equal(result.exit_code, 128 + SIGPIPE);
    process_result_free(&result);
}

static void remember_group(void *self, pid_t group)
{
    *(pid_t *)self = group;
}

static void one_file_is_held_where_the_program_expects_it_and_no_other(void **state)
{
    (void)state;
    struct process_result result;
    struct error err = {0};
    char path[] = "/tmp/haldane-process-XXXXXX", expected[64];
    char *const words[] = {"sh", "-c", "ls /proc/$$/fd; echo $$; readlink /proc/$$/fd/3", NULL};
    int leak = open("/dev/null", O_RDONLY), held = mkostemp(path, O_CLOEXEC);
    assert_true(leak > 2 && held > 2);
    for (int i = 0; i < 2; i++) { /* at another number, and at the very one */
        if (i == 1)
            assert_int_equal(dup3(held, PROCESS_HELD_FD, O_CLOEXEC), PROCESS_HELD_FD);
        pid_t group = 0;
        const struct process_hold hold = {i ? PROCESS_HELD_FD : held, remember_group, &group};
        assert_int_equal(process_run_holding(words, NULL, NULL, driver_clock_ms() + SOON, &hold, &result, &err),
                         DRIVER_OK);
        snprintf(expected, sizeof expected, "0\n1\n2\n3\n%d\n%s\n", (int)group, path);
        assert_string_equal(result.output, expected);
        process_result_free(&result);
    }
    close(held);
    if (leak != PROCESS_HELD_FD)
        close(leak);
    close(PROCESS_HELD_FD);
    unlink(path);
}

static void a_program_that_hangs_is_ended_with_all_its_children(void **state)
{
    (void)state;
    struct process_result result;
    struct error err;
    int64_t begun = driver_clock_ms();
    assert_int_equal(shell("echo waiting >&2; sleep 60 & echo $!; wait", NULL, NULL, 200, &result, &err),
                     DRIVER_TIMEOUT);
    assert_in_range(driver_clock_ms() - begun, 190, 1500);
    assert_non_null(strstr(err.text, "waiting"));
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    int child = atoi(result.output);
    assert_true(child > 1);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", child);
    bool gone = false;
    for (int i = 0; i < 100 && !gone; i++, usleep(10000)) {
        FILE *file = fopen(path, "r");
        char status = 'Z';
        gone = !file || (fscanf(file, "%*d %*s %c", &status) == 1 && status == 'Z');
        if (file)
            fclose(file);
    }
    assert_true(gone);
    process_result_free(&result);
}

static void a_program_that_ignores_SIGTERM_is_killed(void **state)
{
    (void)state;
    struct process_result result;
    struct error err;
    int64_t begun = driver_clock_ms();
    assert_int_equal(shell("trap '' TERM; while :; do sleep 0.05; done", NULL, NULL, 100, &result, &err),
                     DRIVER_TIMEOUT);
    assert_in_range(driver_clock_ms() - begun, 100 + PROCESS_GRACE_MS - 50, 100 + PROCESS_GRACE_MS + 1000);
    assert_int_equal(result.exit_code, 128 + SIGKILL);
    process_result_free(&result);
}

static void somebody_in_the_background_who_holds_the_output_is_not_waited_for(void **state)
{
    (void)state;
    struct process_result result;
    struct error err;
    int64_t begun = driver_clock_ms();
    assert_int_equal(shell("sleep 5 & echo $!", NULL, NULL, SOON, &result, &err), DRIVER_OK);
    assert_in_range(driver_clock_ms() - begun, 0, 2000);
    int left = atoi(result.output);
    assert_true(left > 1);
    assert_int_equal(kill(left, SIGKILL), 0);
    process_result_free(&result);
}

static void too_much_is_refused_and_of_the_errors_the_end_is_kept(void **state)
{
    (void)state;
    struct process_result result;
    struct error err;
    assert_int_equal(shell("yes", NULL, NULL, SOON, &result, &err), DRIVER_REFUSED);
    assert_non_null(strstr(err.text, "64 KiB"));
    process_result_free(&result);
    assert_int_equal(shell("head -c 65536 /dev/zero | tr '\\0' a; seq 1 50000 >&2", NULL, NULL, SOON, &result, &err),
                     DRIVER_OK);
    assert_int_equal(result.output_length, PROCESS_OUTPUT_MAX);
    assert_int_equal(strlen(result.errors), PROCESS_ERRORS_MAX);
    char line[PROCESS_LINE];
    assert_string_equal(process_last_line(&result, line), "50000");
    process_result_free(&result);
    assert_int_equal(shell("yes >&2", NULL, NULL, 200, &result, &err), DRIVER_TIMEOUT);
    process_result_free(&result);
}

static void what_cannot_be_run_is_refused_with_the_mend(void **state)
{
    (void)state;
    struct process_result result;
    struct error err = {0};
    char *const missing[] = {"/nowhere/driver", NULL}, *const unknown[] = {"haldane-no-such-program", NULL};
    assert_int_equal(process_run(missing, NULL, NULL, driver_clock_ms() + SOON, &result, &err), DRIVER_REFUSED);
    assert_int_equal(err.code, ERROR_DATA);
    assert_non_null(strstr(err.text, "/nowhere/driver"));
    process_result_free(&result);
    assert_int_equal(process_run(unknown, NULL, NULL, driver_clock_ms() + SOON, &result, &err), DRIVER_REFUSED);
    assert_non_null(strstr(err.text, "full path"));
    process_result_free(&result);

    char path[] = "/tmp/haldane-process-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "exit 0\n", 7), 7);
    close(fd);
    char *const script[] = {path, NULL};
    assert_int_equal(process_run(script, NULL, NULL, driver_clock_ms() + SOON, &result, &err), DRIVER_REFUSED);
    assert_non_null(strstr(err.text, "chmod +x"));
    process_result_free(&result);
    assert_int_equal(chmod(path, 0700), 0);
    assert_int_equal(process_run(script, NULL, NULL, driver_clock_ms() + SOON, &result, &err), DRIVER_REFUSED);
    assert_non_null(strstr(err.text, "#!/bin/sh"));
    process_result_free(&result);
    unlink(path);
}

static void a_signal_shows_in_the_exit_code(void **state)
{
    (void)state;
    struct process_result result;
    struct error err;
    assert_int_equal(shell("kill -SEGV $$", NULL, NULL, SOON, &result, &err), DRIVER_OK);
    assert_int_equal(result.exit_code, 128 + SIGSEGV);
    process_result_free(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(input_and_environment_go_in_and_all_that_it_says_comes_out),
        cmocka_unit_test(input_that_nobody_reads_harms_nobody),
        cmocka_unit_test(it_gets_no_file_of_ours_and_no_signal_blocked),
        cmocka_unit_test(one_file_is_held_where_the_program_expects_it_and_no_other),
        cmocka_unit_test(a_program_that_hangs_is_ended_with_all_its_children),
        cmocka_unit_test(a_program_that_ignores_SIGTERM_is_killed),
        cmocka_unit_test(somebody_in_the_background_who_holds_the_output_is_not_waited_for),
        cmocka_unit_test(too_much_is_refused_and_of_the_errors_the_end_is_kept),
        cmocka_unit_test(what_cannot_be_run_is_refused_with_the_mend),
        cmocka_unit_test(a_signal_shows_in_the_exit_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
