/*
 * Nothing here can hang. The input is a file in memory and not a pipe, so that a program that does not read it blocks
 * nobody and raises no SIGPIPE. The two outputs are pipes that are read without blocking. The end is what the kernel
 * says of the process (a pidfd), not the end of its output: a program may leave somebody in the background who holds
 * the pipe for ever. posix_spawn() does the child's side, so this is safe in a program with threads.
 */
#include "analyzer/traffic/process.h"

#include "analyzer/traffic/ops.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* What is open while it runs; -1: not, or not any more. */
struct running {
    pid_t pid;
    int ended; /* a pidfd: readable when the process has ended */
    int input, output[2], errors[2];
    const struct process_hold *hold; /* NULL: nothing */
};

static void close_one(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void close_all(struct running *run)
{
    int *const all[] = {&run->ended, &run->input, &run->output[0], &run->output[1], &run->errors[0], &run->errors[1]};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        close_one(all[i]);
}

/* ---- before ---- */

static bool open_input(const char *input, int *fd)
{
    if (!input) {
        *fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        return *fd >= 0;
    }
    *fd = memfd_create("input", MFD_CLOEXEC);
    size_t length = strlen(input);
    return *fd >= 0 && write(*fd, input, length) == (ssize_t)length && lseek(*fd, 0, SEEK_SET) == 0;
}

static bool open_output(int ends[2])
{
    return pipe2(ends, O_CLOEXEC) == 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0;
}

static bool open_all(const char *input, struct running *run)
{
    return open_input(input, &run->input) && open_output(run->output) && open_output(run->errors);
}

static bool is_named(const char *entry, const char *const *names)
{
    for (; *names; names++) {
        size_t length = strcspn(*names, "=");
        if (strncmp(entry, *names, length) == 0 && entry[length] == '=')
            return true;
    }
    return false;
}

/* Our environment without what `extra` names, and then `extra`. The strings are borrowed. */
static char **make_environment(const char *const *extra)
{
    static const char *const nothing[] = {NULL};
    if (!extra)
        extra = nothing;
    size_t ours = 0, added = 0, used = 0;
    while (environ[ours])
        ours++;
    while (extra[added])
        added++;
    char **all = mem_alloc(ours + added + 1, sizeof *all);
    for (size_t i = 0; i < ours; i++)
        if (!is_named(environ[i], extra))
            all[used++] = environ[i];
    for (size_t i = 0; i < added; i++)
        all[used++] = (char *)(uintptr_t)extra[i];
    return all;
}

/* A group of its own, and no signal blocked or ignored because we do so. */
static void set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(attributes, &none);
    posix_spawnattr_setsigdefault(attributes, &all);
    posix_spawnattr_setpgroup(attributes, 0);
    posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

static int start(char *const *words, const char *const *extra_env, struct running *run)
{
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t files;
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_init(&files);
    set_attributes(&attributes);
    posix_spawn_file_actions_adddup2(&files, run->input, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, run->output[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, run->errors[1], STDERR_FILENO);
    if (run->hold)
        posix_spawn_file_actions_adddup2(&files, run->hold->fd, PROCESS_HELD_FD);
    posix_spawn_file_actions_addclosefrom_np(&files, run->hold ? PROCESS_HELD_FD + 1 : STDERR_FILENO + 1);
    char **environment = make_environment(extra_env);
    int failed = posix_spawnp(&run->pid, words[0], &files, &attributes, words, environment);
    free(environment);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return failed;
}

static enum driver_status not_started(const char *program, int why, struct error *err)
{
    if (why == ENOENT)
        return driver_fail(err, DRIVER_REFUSED,
                           "cannot run %s: it is not there (or the interpreter that its first line names is not); "
                           "install it, or write its full path",
                           program);
    if (why == EACCES)
        return driver_fail(err, DRIVER_REFUSED, "cannot run %s: it is not executable for this user; chmod +x it",
                           program);
    if (why == ENOEXEC)
        return driver_fail(err, DRIVER_REFUSED,
                           "cannot run %s: it is no program; a script begins with a line like #!/bin/sh", program);
    return driver_fail(
        err, why == EAGAIN || why == ENOMEM || why == EMFILE || why == ENFILE ? DRIVER_UNREACHABLE : DRIVER_REFUSED,
        "cannot run %s: %s", program, strerror(why));
}

/* ---- while it runs ---- */

/* What is there now. False when there will be no more. */
static bool read_some(int fd, char *bytes, size_t room, size_t *got)
{
    ssize_t n = read(fd, bytes, room);
    *got = n > 0 ? (size_t)n : 0;
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* False if it is too much. */
static bool take_output(struct running *run, struct strbuf *output)
{
    char bytes[4096];
    for (size_t got = 1; got && run->output[0] >= 0;) {
        if (!read_some(run->output[0], bytes, sizeof bytes, &got))
            close_one(&run->output[0]);
        if (output->length + got > PROCESS_OUTPUT_MAX)
            return false;
        strbuf_add(output, bytes, got);
    }
    return true;
}

/* Keeps the last PROCESS_ERRORS_MAX bytes of all that come. */
static void keep_errors(struct process_result *result, size_t *used, const char *bytes, size_t length)
{
    if (length > PROCESS_ERRORS_MAX) {
        bytes += length - PROCESS_ERRORS_MAX;
        length = PROCESS_ERRORS_MAX;
    }
    size_t over = *used + length > PROCESS_ERRORS_MAX ? *used + length - PROCESS_ERRORS_MAX : 0;
    memmove(result->errors, result->errors + over, *used - over);
    memcpy(result->errors + *used - over, bytes, length);
    *used += length - over;
}

/* At most so many bytes at a time: a program that shouts without end must not keep us from looking at the clock. */
static void take_errors(struct running *run, struct process_result *result, size_t *used)
{
    char bytes[4096];
    size_t got = 1;
    for (int i = 0; i < 32 && got && run->errors[0] >= 0; i++) {
        if (!read_some(run->errors[0], bytes, sizeof bytes, &got))
            close_one(&run->errors[0]);
        keep_errors(result, used, bytes, got);
    }
}

static bool wait_any(const struct running *run, int64_t deadline_ms)
{
    struct pollfd what[] = {{.fd = run->ended, .events = POLLIN},
                            {.fd = run->output[0], .events = POLLIN},
                            {.fd = run->errors[0], .events = POLLIN}};
    int64_t left = deadline_ms - driver_clock_ms();
    left = left < 0 ? 0 : left > 60000 ? 60000 : left;
    return poll(what, sizeof what / sizeof what[0], (int)left) > 0 && (what[0].revents & POLLIN);
}

enum ending { ENDED, TOO_LATE, TOO_MUCH, UNWATCHED };

static enum ending follow(struct running *run, int64_t deadline_ms, struct strbuf *output,
                          struct process_result *result)
{
    for (size_t errors_used = 0;;) {
        bool ended = wait_any(run, deadline_ms);
        take_errors(run, result, &errors_used);
        if (!take_output(run, output))
            return TOO_MUCH;
        if (ended)
            return ENDED;
        if (driver_clock_ms() >= deadline_ms)
            return TOO_LATE;
    }
}

/* ---- after ---- */

/* Its group, until the process itself is gone. It is not yet waited for, so its number belongs to nobody else. */
static void end_group(struct running *run)
{
    kill(-run->pid, SIGTERM);
    close_one(&run->output[0]);
    close_one(&run->errors[0]);
    int64_t patience = driver_clock_ms() + PROCESS_GRACE_MS;
    while (!wait_any(run, patience) && driver_clock_ms() < patience)
        ;
    kill(-run->pid, SIGKILL);
}

static int reap(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static enum driver_status tell(enum ending ending, const char *program, const struct process_result *result,
                               struct error *err)
{
    char line[PROCESS_LINE];
    if (ending == TOO_MUCH)
        return driver_fail(err, DRIVER_REFUSED,
                           "%s wrote more than %d KiB to its standard output and was ended; only its answer belongs "
                           "there, all else goes to its standard error",
                           program, PROCESS_OUTPUT_MAX >> 10);
    if (ending == UNWATCHED)
        return driver_fail(err, DRIVER_UNREACHABLE, "%s could not be watched and was ended: the kernel gave no pidfd",
                           program);
    if (ending == ENDED)
        return DRIVER_OK;
    process_last_line(result, line);
    return driver_fail(err, DRIVER_TIMEOUT, "%s had not ended in time and was ended%s%s", program,
                       *line ? "; it last said: " : "", line);
}

static enum driver_status run_open(char *const *words, const char *const *extra_env, int64_t deadline_ms,
                                   struct running *run, struct process_result *result, struct error *err)
{
    int failed = start(words, extra_env, run);
    if (failed)
        return not_started(words[0], failed, err);
    if (run->hold)
        run->hold->started(run->hold->self, run->pid);
    close_one(&run->input);
    close_one(&run->output[1]);
    close_one(&run->errors[1]);
    struct strbuf output = {0};
    run->ended = pidfd_open(run->pid, 0);
    enum ending ending = run->ended >= 0 ? follow(run, deadline_ms, &output, result) : UNWATCHED;
    if (ending != ENDED)
        end_group(run);
    result->exit_code = reap(run->pid);
    result->output_length = output.length;
    result->output = strbuf_take(&output);
    return tell(ending, words[0], result, err);
}

enum driver_status process_run_holding(char *const *words, const char *const *extra_env, const char *input,
                                       int64_t deadline_ms, const struct process_hold *hold,
                                       struct process_result *result, struct error *err)
{
    *result = (struct process_result){0};
    struct running run = {.ended = -1, .input = -1, .output = {-1, -1}, .errors = {-1, -1}, .hold = hold};
    enum driver_status status =
        open_all(input, &run) ? run_open(words, extra_env, deadline_ms, &run, result, err)
                              : driver_fail(err, DRIVER_UNREACHABLE, "cannot run %s: %s", words[0], strerror(errno));
    close_all(&run);
    if (!result->output)
        result->output = mem_strdup("");
    return status;
}

enum driver_status process_run(char *const *words, const char *const *extra_env, const char *input, int64_t deadline_ms,
                               struct process_result *result, struct error *err)
{
    return process_run_holding(words, extra_env, input, deadline_ms, NULL, result, err);
}

void process_result_free(struct process_result *result)
{
    free(result->output);
    *result = (struct process_result){0};
}

const char *process_last_line(const struct process_result *result, char line[PROCESS_LINE])
{
    size_t end = strlen(result->errors);
    while (end && isspace((unsigned char)result->errors[end - 1]))
        end--;
    size_t begin = end;
    while (begin && result->errors[begin - 1] != '\n')
        begin--;
    size_t length = end - begin < PROCESS_LINE - 1 ? end - begin : PROCESS_LINE - 1;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)result->errors[begin + i];
        line[i] = c < ' ' || c == 127 ? ' ' : (char)c;
    }
    line[length] = '\0';
    return line;
}
