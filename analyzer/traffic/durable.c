/* Write beside, fsync, rename over, fsync the folder: the one order in which a crash leaves old or new, never neither.
 */
#include "analyzer/traffic/durable.h"

#include "analyzer/traffic/ops.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FILE_MAX = 1 << 20, LOCK_PAUSE_MS = 10 };

static enum driver_status refused(struct error *err, const char *what, const char *path)
{
    int why = errno;
    return driver_fail(err, DRIVER_REFUSED, "cannot %s %s: %s%s", what, path, strerror(why),
                       why == EACCES || why == EPERM    ? "; give haldane's user the right to"
                       : why == ENOSPC || why == EDQUOT ? "; make room"
                                                        : "");
}

enum driver_status durable_lock(const char *path, int64_t deadline_ms, int *fd, struct error *err)
{
    *fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (*fd < 0)
        return refused(err, "open the lock", path);
    while (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            enum driver_status status = refused(err, "lock", path);
            close(*fd);
            return status;
        }
        if (driver_clock_ms() >= deadline_ms) {
            close(*fd);
            return driver_fail(err, DRIVER_TIMEOUT,
                               "another process holds %s and did not let go of it in time; nothing was changed (fuser "
                               "%s tells which one)",
                               path, path);
        }
        nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_MS * 1000000L}, NULL);
    }
    return DRIVER_OK;
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return mem_strdup(".");
    return mem_strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

char *durable_beside(const char *path, const char *suffix)
{
    const char *slash = strrchr(path, '/');
    int length = slash ? (int)(slash + 1 - path) : 0;
    return mem_printf("%.*s.%s%s", length, path, path + length, suffix);
}

enum driver_status durable_names(const char *folder, struct error *err)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum driver_status status = fd >= 0 && fsync(fd) == 0 ? DRIVER_OK : refused(err, "make durable", folder);
    if (fd >= 0)
        close(fd);
    return status;
}

static bool write_all(int fd, const char *text)
{
    for (size_t left = strlen(text); left;) {
        ssize_t n = write(fd, text, left);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            text += n;
            left -= (size_t)n;
        }
    }
    return true;
}

/* The owner is kept if we may: only root can give files away, and the mode says who reads it. */
static bool fill(int fd, const char *text, const struct stat *old)
{
    if (old && fchown(fd, old->st_uid, old->st_gid) != 0 && errno != EPERM)
        return false;
    return fchmod(fd, old ? old->st_mode & 07777 : 0644) == 0 && write_all(fd, text) && fsync(fd) == 0;
}

static enum driver_status replace(const char *path, const char *part, const char *text, struct error *err)
{
    struct stat old;
    bool there = stat(path, &old) == 0;
    unlink(part);
    int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return refused(err, "write", part);
    bool ok = fill(fd, text, there ? &old : NULL) && rename(part, path) == 0;
    enum driver_status status = ok ? DRIVER_OK : refused(err, "write", path);
    close(fd);
    if (!ok)
        unlink(part);
    return status;
}

enum driver_status durable_write(const char *path, const char *text, struct error *err)
{
    char *whole = realpath(path, NULL);
    const char *target = whole ? whole : path;
    char *part = durable_beside(target, ".new");
    char *folder = folder_of(target);
    enum driver_status status = replace(target, part, text, err);
    if (status == DRIVER_OK)
        status = durable_names(folder, err);
    free(folder);
    free(part);
    free(whole);
    return status;
}

static bool write_padded(int fd, const char *text)
{
    struct stat old;
    if (fstat(fd, &old) != 0 || !write_all(fd, text))
        return false;
    for (off_t at = (off_t)strlen(text); at < old.st_size; at++)
        if (!write_all(fd, "\n"))
            return false;
    return fsync(fd) == 0;
}

enum driver_status durable_overwrite(const char *path, const char *text, struct error *err)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    enum driver_status status = fd >= 0 && write_padded(fd, text) ? DRIVER_OK : refused(err, "write", path);
    if (fd >= 0)
        close(fd);
    return status;
}

enum driver_status durable_remove(const char *path, struct error *err)
{
    if (unlink(path) != 0 && errno != ENOENT)
        return refused(err, "remove", path);
    char *folder = folder_of(path);
    enum driver_status status = durable_names(folder, err);
    free(folder);
    return status;
}

static enum driver_status read_open(int fd, const char *path, char **text, struct error *err)
{
    struct strbuf all = {0};
    char bytes[4096];
    ssize_t n;
    while ((n = read(fd, bytes, sizeof bytes)) > 0 && all.length <= FILE_MAX)
        strbuf_add(&all, bytes, (size_t)n);
    if (n == 0) {
        *text = strbuf_take(&all);
        return DRIVER_OK;
    }
    strbuf_free(&all);
    return n < 0 ? refused(err, "read", path) : driver_fail(err, DRIVER_REFUSED, "%s is larger than 1 MiB", path);
}

enum driver_status durable_read(const char *path, char **text, struct error *err)
{
    *text = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? DRIVER_OK : refused(err, "read", path);
    enum driver_status status = read_open(fd, path, text, err);
    close(fd);
    return status;
}
