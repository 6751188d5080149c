/*
 * flock() belongs to the open file, which a child shares with its parent: so the lock lives as long as the last of
 * them, and the kernel keeps count. Whom to kill is not taken from the file's text, which anybody may write, but from
 * /proc: the processes that have this very lock open where haldane put it. The text only tells what is being set.
 *
 * The file is removed by whoever holds the lock, so a lock counts only if its file is still the one of that name.
 */
#include "analyzer/traffic/exec_lock.h"

#include "analyzer/traffic/ops.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PAUSE_MS = 10, OPEN_TRIES = 10, NOTE = 80, PROC_PATH = 64 };

_Static_assert(EXEC_LOCK_LONGEST_MS == DRIVER_DEADLINE_MS + PROCESS_GRACE_MS, "as long as an operation may last");

static void pause_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
}

/* ---- the file ---- */

static const char *folder(void)
{
    static const char system_wide[] = "/run/lock";
    struct stat what;
    if (stat(system_wide, &what) == 0 && S_ISDIR(what.st_mode) && eaccess(system_wide, W_OK | X_OK) == 0)
        return system_wide;
    const char *own = getenv("TMPDIR");
    return own && *own ? own : "/tmp";
}

static uint64_t hash_word(uint64_t hash, const char *word)
{
    for (size_t i = 0; i <= strlen(word); i++)
        hash = (hash ^ (unsigned char)word[i]) * UINT64_C(1099511628211);
    return hash;
}

/* ./driver.sh is another program in another folder. */
static uint64_t hash_command(char *const *words)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    char *here = *words[0] != '/' && strchr(words[0], '/') ? getcwd(NULL, 0) : NULL;
    if (here)
        hash = hash_word(hash, here);
    free(here);
    for (size_t i = 0; words[i]; i++)
        hash = hash_word(hash, words[i]);
    return hash;
}

char *exec_lock_path(char *const *words)
{
    return mem_printf("%s/haldane-exec-%016" PRIx64, folder(), hash_command(words));
}

/*
 * Whoever makes it lets other users open it; one who comes in between is denied, and tries again. O_CREAT is not used
 * on a file that is there: in a folder for all, Linux denies that for a file of somebody else's.
 */
static int open_or_make(const char *path)
{
    const int flags = O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
    for (int tries = 1;; tries++) {
        int fd = open(path, flags);
        if (fd < 0 && errno == ENOENT) {
            fd = open(path, flags | O_CREAT | O_EXCL, 0666);
            if (fd >= 0)
                fchmod(fd, 0666);
        }
        if (fd >= 0 || tries == OPEN_TRIES || (errno != EEXIST && errno != EACCES))
            return fd;
        pause_a_little();
    }
}

/* Where the child's standard files go the lock would be lost. */
static int above_standard(int fd)
{
    if (fd < 0 || fd > STDERR_FILENO)
        return fd;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    close(fd);
    return high;
}

static enum driver_status cannot(const char *what, const char *path, int why, struct error *err)
{
    return driver_fail(err, DRIVER_REFUSED, "cannot %s the lock %s: %s", what, path,
                       why == ELOOP    ? "it is a symbolic link and not a file of haldane's; remove it"
                       : why == EISDIR ? "it is a folder and not a file of haldane's; remove it"
                                       : strerror(why));
}

/* With another name it could be any file, and we write to it. */
static enum driver_status open_lock(const char *path, int *fd, struct error *err)
{
    struct stat what;
    *fd = above_standard(open_or_make(path));
    if (*fd < 0)
        return cannot("open", path, errno, err);
    if (fstat(*fd, &what) == 0 && S_ISREG(what.st_mode) && what.st_nlink <= 1)
        return DRIVER_OK;
    close(*fd);
    return driver_fail(err, DRIVER_REFUSED,
                       "cannot use the lock %s: it is not a plain file of this one name; remove it", path);
}

static bool is_the_one(int fd, const char *path)
{
    struct stat held, named;
    return fstat(fd, &held) == 0 && lstat(path, &named) == 0 && held.st_dev == named.st_dev &&
           held.st_ino == named.st_ino;
}

/* ---- its text ---- */

/* Of one length, so that a new one covers the old one. That it cannot be written must keep no order back. */
static void write_note(const struct exec_lock *lock)
{
    char text[NOTE];
    int length = snprintf(text, sizeof text, "share_bp %5" PRIu32 " haldane %10d group %10d\n", lock->share_bp,
                          (int)getpid(), (int)lock->group);
    ssize_t n = pwrite(lock->fd, text, (size_t)length, 0);
    (void)n;
}

struct wait {
    const char *path;
    uint32_t share_bp; /* of the order that waits */
    int64_t begun_ms, since_ms /* the note is the same */, killed_ms /* 0: not yet */;
    char note[NOTE]; /* the holder's */
    uint32_t holder_bp;
    int haldane, group; /* 0: it does not say */
};

/* What cannot be read may be anything, so it is taken for a share. */
static void read_note(struct wait *wait, int fd, int64_t now_ms)
{
    char text[NOTE] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    if (wait->since_ms && strcmp(text, wait->note) == 0)
        return;
    memcpy(wait->note, text, sizeof text);
    wait->since_ms = now_ms;
    wait->killed_ms = 0;
    if (sscanf(text, "share_bp %5" SCNu32 " haldane %10d group %10d", &wait->holder_bp, &wait->haldane, &wait->group) ==
        3)
        return;
    wait->holder_bp = BASIS_POINTS;
    wait->haldane = wait->group = 0;
}

/* ---- who holds it ---- */

static bool is_open_at(const char *pid, const struct stat *file)
{
    char path[PROC_PATH];
    struct stat what;
    snprintf(path, sizeof path, "/proc/%.20s/fd/%d", pid, PROCESS_HELD_FD);
    return stat(path, &what) == 0 && what.st_dev == file->st_dev && what.st_ino == file->st_ino;
}

/* A haldane that waits has the file open, too, but not the lock; and haldane's own descriptors end at exec(). */
static bool is_inherited_lock(const char *pid)
{
    char path[PROC_PATH], line[200];
    unsigned flags = O_CLOEXEC;
    bool locked = false;
    snprintf(path, sizeof path, "/proc/%.20s/fdinfo/%d", pid, PROCESS_HELD_FD);
    FILE *info = fopen(path, "re");
    while (info && fgets(line, sizeof line, info)) {
        sscanf(line, "flags: %o", &flags);
        locked |= strncmp(line, "lock:", 5) == 0 && strstr(line, " FLOCK ");
    }
    if (info)
        fclose(info);
    return locked && !(flags & O_CLOEXEC);
}

/* For each process that has inherited the lock and that we may look at. */
static void each_holder(int fd, void (*visit)(pid_t pid, void *data), void *data)
{
    struct stat file;
    DIR *all = fstat(fd, &file) == 0 ? opendir("/proc") : NULL;
    for (struct dirent *entry; all && (entry = readdir(all));) {
        int pid = atoi(entry->d_name);
        if (pid > 1 && is_open_at(entry->d_name, &file) && is_inherited_lock(entry->d_name))
            visit(pid, data);
    }
    if (all)
        closedir(all);
}

/* What process_run() starts is a group in our session. One that leads a session has made itself a daemon. */
static void kill_group(pid_t pid, void *data)
{
    (void)data;
    pid_t group = getpgid(pid);
    if (group > 1 && group != getpgrp() && group != getsid(pid))
        kill(-group, SIGKILL);
}

static void name_holder(pid_t pid, void *data)
{
    struct strbuf *names = data;
    char path[PROC_PATH], name[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    FILE *file = fopen(path, "re");
    if (file && fgets(name, sizeof name, file))
        name[strcspn(name, "\n")] = '\0';
    if (file)
        fclose(file);
    strbuf_printf(names, "%s%s (process %d)", names->length ? ", " : "", name, (int)pid);
}

static enum driver_status still_held(const struct wait *wait, int fd, struct error *err)
{
    struct strbuf who = {0};
    each_holder(fd, name_holder, &who);
    if (who.length == 0 && wait->group)
        strbuf_printf(&who, "process group %d, begun by haldane (process %d),", wait->group, wait->haldane);
    else if (who.length == 0 && wait->haldane)
        strbuf_printf(&who, "haldane (process %d)", wait->haldane);
    else if (who.length == 0)
        strbuf_puts(&who, "a process that this user may not look at");
    char *names = strbuf_take(&who);
    driver_fail(err, DRIVER_TIMEOUT,
                "%.300s still holds the lock %s of an earlier `set`, and may yet move this traffic; end it, or, if it "
                "is a server that was left running, remove that file",
                names, wait->path);
    free(names);
    return DRIVER_TIMEOUT;
}

/* ---- taking it ---- */

static bool is_late(const struct wait *wait, int64_t now_ms)
{
    bool users_wait = wait->share_bp == 0 && wait->holder_bp > 0;
    return users_wait ? now_ms >= wait->begun_ms + EXEC_LOCK_STABLE_MS
                      : now_ms >= wait->since_ms + EXEC_LOCK_LONGEST_MS;
}

static enum driver_status wait_open(struct wait *wait, int fd, struct error *err)
{
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return cannot("take", wait->path, errno, err);
        int64_t now_ms = driver_clock_ms();
        read_note(wait, fd, now_ms);
        bool killed = wait->killed_ms != 0;
        if (now_ms >= wait->begun_ms + EXEC_LOCK_MOST_MS || (killed && now_ms >= wait->killed_ms + EXEC_LOCK_KILLED_MS))
            return still_held(wait, fd, err);
        if (!killed && is_late(wait, now_ms)) {
            each_holder(fd, kill_group, NULL);
            wait->killed_ms = now_ms;
        }
        pause_a_little();
    }
    return DRIVER_OK;
}

static enum driver_status take(struct wait *wait, int *fd, struct error *err)
{
    for (;;) {
        enum driver_status status = open_lock(wait->path, fd, err);
        if (status != DRIVER_OK)
            return status;
        status = wait_open(wait, *fd, err);
        if (status == DRIVER_OK && is_the_one(*fd, wait->path))
            return DRIVER_OK;
        if (status == DRIVER_OK && driver_clock_ms() >= wait->begun_ms + EXEC_LOCK_MOST_MS)
            status = driver_fail(err, DRIVER_TIMEOUT, "the lock %s is removed again and again", wait->path);
        close(*fd);
        if (status != DRIVER_OK)
            return status;
    }
}

enum driver_status exec_lock_take(char *const *words, uint32_t share_bp, struct exec_lock *lock, struct error *err)
{
    *lock = (struct exec_lock){.fd = -1, .path = exec_lock_path(words), .share_bp = share_bp};
    struct wait wait = {.path = lock->path, .share_bp = share_bp, .begun_ms = driver_clock_ms()};
    enum driver_status status = take(&wait, &lock->fd, err);
    if (status == DRIVER_OK) {
        write_note(lock);
        return DRIVER_OK;
    }
    free(lock->path);
    *lock = (struct exec_lock){.fd = -1};
    return status;
}

static void note_group(void *self, pid_t group)
{
    struct exec_lock *lock = self;
    lock->group = group;
    write_note(lock);
}

struct process_hold exec_lock_hold(struct exec_lock *lock)
{
    return (struct process_hold){lock->fd, note_group, lock};
}

/* Removed before it is free: nobody else can have it then. */
void exec_lock_release(struct exec_lock *lock, bool ended)
{
    if (ended || lock->group == 0) {
        unlink(lock->path);
        flock(lock->fd, LOCK_UN);
    }
    close(lock->fd);
    free(lock->path);
    *lock = (struct exec_lock){.fd = -1};
}
