/*
 * The guard is this program again, as a process of its own: it shares neither the terminal nor the session of the one
 * that it guards, so that what ends the one does not end the other. It says when it watches, since traffic must not
 * move before.
 */
#include "analyzer/cli/supervise.h"

#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* All that a detached process has open besides the three, until it has said that it is ready. */
enum { ALONE_FD = STDERR_FILENO + 1 };

static char store_file[PATH_MAX];

/* Whatever $HALDANE_DB or a folder becomes later: the guard's store is this one. */
void supervise_store(const char *path)
{
    if (!realpath(path, store_file))
        *store_file = '\0';
}

/* The child's own business is not this process's answer. */
static void become_guard(const char *rollout_id)
{
    int null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
        _exit(ERROR_SOFTWARE);
    char *const words[] = {"haldane", "guard", (char *)rollout_id, "--detach", "--db", store_file, NULL};
    execv("/proc/self/exe", words);
    _exit(ERROR_SOFTWARE);
}

bool attend_rollout(const char *rollout_id, struct error *err)
{
    if (!*store_file)
        return error_set(err, ERROR_SOFTWARE, "no guard could be started for the rollout: the store has no full path");
    pid_t pid = fork();
    if (pid == 0)
        become_guard(rollout_id);
    int status = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    return error_set(err, ERROR_SOFTWARE,
                     "no guard could be started for the rollout, so nobody would bring traffic back if this process "
                     "died: %s",
                     pid < 0 ? strerror(errno) : "see what it said above, or `haldane guard --help`");
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
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_PID");
    unsetenv("WATCHDOG_USEC");
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
