/*
 * The guard is this program again, as a process of its own: it shares neither the terminal nor the session of the one
 * that it guards, so that what ends the one does not end the other. It says when it watches, since traffic must not
 * move before. One that is to act now is told which lease is over: its own clock may say that there is time.
 */
#include "analyzer/cli/supervise.h"

#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* All that a detached process has open besides the three, until it has said that it is ready. */
enum { ALONE_FD = STDERR_FILENO + 1 };

/* What a process that return_rollout() starts is told, as NAME=MILLISECONDS in its environment. */
#define LEASE_OVER "HALDANE_LEASE_OVER"

/* What systemd tells a process of itself, and no child of it. */
static const char *const supervisor_names[] = {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"};
enum { SUPERVISOR_NAMES = sizeof supervisor_names / sizeof *supervisor_names };

static char store_file[PATH_MAX];

/* Whatever $HALDANE_DB or a folder becomes later: the guard's store is this one. */
void supervise_store(const char *path)
{
    if (!realpath(path, store_file))
        *store_file = '\0';
}

/*
 * This program again, in a session of its own, with nothing to read and nobody to answer: the child's own business is
 * not this process's answer. Its pid, or 0 with errno.
 */
static pid_t start_guard(char *const *words, char *const *environment)
{
    pid_t pid = 0;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t files;
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&files, STDIN_FILENO, STDOUT_FILENO);
    int failed = posix_spawn(&pid, "/proc/self/exe", &files, &attributes, words, environment);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    errno = failed;
    return failed ? 0 : pid;
}

static bool has_store(struct error *err)
{
    return *store_file ||
           error_set(err, ERROR_SOFTWARE, "no guard could be started for the rollout: the store has no full path");
}

bool attend_rollout(const char *rollout_id, struct error *err)
{
    if (!has_store(err))
        return false;
    char *const words[] = {"haldane", "guard", (char *)(uintptr_t)rollout_id, "--detach", "--db", store_file, NULL};
    pid_t pid = start_guard(words, environ);
    int number = errno, status = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    return error_set(err, ERROR_SOFTWARE,
                     "no guard could be started for the rollout, so nobody would bring traffic back if this process "
                     "died: %s",
                     pid == 0 ? strerror(number) : "see what it said above, or `haldane guard --help`");
}

static bool is_named(const char *variable, const char *name)
{
    size_t length = strlen(name);
    return strncmp(variable, name, length) == 0 && variable[length] == '=';
}

static bool is_inherited(const char *variable)
{
    for (size_t i = 0; i < SUPERVISOR_NAMES; i++)
        if (is_named(variable, supervisor_names[i]))
            return false;
    return !is_named(variable, LEASE_OVER);
}

/* Ours, but for what is ours alone, and with `own`. The strings are borrowed; free the array. */
static char **environment_with(char *own)
{
    size_t count = 0, used = 0;
    while (environ[count])
        count++;
    char **all = mem_alloc(count + 2, sizeof *all);
    for (size_t i = 0; i < count; i++)
        if (is_inherited(environ[i]))
            all[used++] = environ[i];
    all[used] = own;
    return all;
}

pid_t return_rollout(const char *rollout_id, int64_t over_ms, bool once, struct error *err)
{
    if (!has_store(err))
        return 0;
    char own[sizeof LEASE_OVER + 24];
    snprintf(own, sizeof own, LEASE_OVER "=%" PRId64, over_ms);
    char **environment = environment_with(own);
    char *id = (char *)(uintptr_t)rollout_id;
    char *const words[] = {"haldane", "guard", id, "--db", store_file, once ? "--once" : NULL, NULL};
    pid_t pid = start_guard(words, environment);
    int number = errno;
    free(environment);
    if (pid == 0)
        error_set(err, ERROR_SOFTWARE, "no process could be started to bring traffic back: %s", strerror(number));
    return pid;
}

int64_t returned_lease_ms(void)
{
    const char *text = getenv(LEASE_OVER);
    return text ? strtoll(text, NULL, 10) : 0;
}

/*
 * Nothing of the parent stays open: not the pipe that a script reads its output from, and not a connection. The
 * parent's supervisor is not this process's: its watchdog would be fed for a parent that hangs. The folder stays, since
 * a policy may name a program relative to it.
 */
static void become_alone(int ready)
{
    setsid();
    if (dup2(ready, ALONE_FD) < 0 || fcntl(ALONE_FD, F_SETFD, FD_CLOEXEC) < 0)
        _exit(ERROR_SOFTWARE);
    close_range(ALONE_FD + 1, ~0U, 0);
    for (size_t i = 0; i < SUPERVISOR_NAMES; i++)
        unsetenv(supervisor_names[i]);
}

int detach(void)
{
    int ready[2];
    pid_t pid = pipe2(ready, O_CLOEXEC) == 0 ? fork() : -1;
    if (pid < 0)
        _exit(ERROR_SOFTWARE);
    if (pid == 0) {
        become_alone(ready[1]);
        return ALONE_FD;
    }
    close(ready[1]);
    unsigned char code;
    ssize_t n;
    do
        n = read(ready[0], &code, 1);
    while (n < 0 && errno == EINTR);
    _exit(n == 1 ? code : ERROR_SOFTWARE);
}

void detach_ready(int fd, int exit_code)
{
    unsigned char code = (unsigned char)exit_code;
    ssize_t n = write(fd, &code, 1);
    (void)n;
    close(fd);
    int null = open("/dev/null", O_RDWR);
    if (null < 0)
        return;
    for (int i = 0; i <= STDERR_FILENO; i++)
        dup2(null, i);
    if (null > STDERR_FILENO)
        close(null);
}

void supervisor_tell(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof address.sun_path)
        return;
    memcpy(address.sun_path, path, strlen(path));
    if (*path == '@') /* the abstract namespace */
        address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    ssize_t n = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address, length);
    (void)n; /* nobody listens: nothing to be done about it */
    close(fd);
}
