/*
 * A lock of the kernel rather than a row: it is gone in the instant its holder is, also after kill -9, and nobody has
 * to guess whether a row is stale. The file FILE-lock beside the database has a record for each rollout, at its row
 * number; who has locked the record has the rollout. The record's text is the holder's pid, for the message only.
 *
 * The locks belong to the open file (F_OFD_SETLK), not to the process: two stores of one process exclude each other
 * too, and closing some other descriptor of the file releases nothing. The descriptor is closed on exec, so that a
 * program that haldane starts cannot outlive it with the lock.
 *
 * Who holds a lock that belongs to a file is not told by F_OFD_GETLK. The record's text says where to look, and the
 * kernel's list of the locks of that process's file (/proc/PID/fdinfo) is the proof: a text can be old, and a number of
 * a process can have been given out again. A process is only ever killed through a pidfd that was opened before the
 * proof, so that it is the proven one.
 */
#include "analyzer/store/private.h"
#include "base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { RECORD = 16, SETUP_RECORD = 0, RETRY_MS = 10, END_MS = 2000 };

/* Row numbers beyond this have no record in a file; only a damaged database holds one. */
static const int64_t last_record = INT64_MAX / RECORD - 2;

/*
 * The guard's lock is behind all rows. A lock may lie beyond the end of its file, a text may not: the guard's is in the
 * first record, whose lock is the setup's and which has no text of its own.
 */
static const int64_t guard_record = INT64_MAX / RECORD - 1;

static bool set_lock(int fd, int64_t record, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = record * RECORD, .l_len = RECORD};
    int rc;
    do
        rc = fcntl(fd, F_OFD_SETLK, &lock);
    while (rc != 0 && errno == EINTR);
    return rc == 0;
}

static bool is_held(int number)
{
    return number == EAGAIN || number == EACCES;
}

static bool lock_failed(const struct store *store, int number, struct error *err)
{
    if (number == ENOSPC || number == EDQUOT)
        return error_set(err, ERROR_IO, "the store %s cannot grow: its lock file %s-lock: %s; make room and try again",
                         store->path, store->path, strerror(number));
    return error_set(err, ERROR_IO,
                     "the store %s: its lock file %s-lock cannot be used: %s; check the rights on it and its folder",
                     store->path, store->path, strerror(number));
}

/* A store that root looked at must still open for the user it belongs to. */
static void give_to_owner(const char *database, int fd)
{
    struct stat st;
    if (geteuid() != 0 || stat(database, &st) != 0)
        return;
    int rc = fchown(fd, st.st_uid, st.st_gid);
    (void)rc; /* the owner's own open() reports it */
}

bool lock_file_open(struct store *store, struct error *err)
{
    /* SQLite's name has links resolved: whichever way a process came to the database, the lock is the same. */
    const char *database = sqlite3_db_filename(store->db, "main");
    char *name = mem_printf("%s-lock", database);
    store->lock_fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int number = errno;
    free(name);
    if (store->lock_fd < 0)
        return lock_failed(store, number, err);
    give_to_owner(database, store->lock_fd);
    return true;
}

void lock_file_close(struct store *store)
{
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    for (size_t i = 0; i < store->held_count; i++)
        free(store->held[i].id);
    free(store->held);
}

bool lock_setup(struct store *store, struct error *err)
{
    const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000L};
    for (int waited = 0; !set_lock(store->lock_fd, SETUP_RECORD, F_WRLCK); waited += RETRY_MS) {
        if (!is_held(errno))
            return lock_failed(store, errno, err);
        if (waited >= STORE_WAIT_MS)
            return store_fail(store, SQLITE_BUSY, err);
        nanosleep(&pause, NULL);
    }
    return true;
}

void unlock_setup(struct store *store)
{
    set_lock(store->lock_fd, SETUP_RECORD, F_UNLCK);
}

static off_t text_at(int64_t record)
{
    return record == guard_record ? 0 : record * RECORD;
}

static void write_holder(int fd, int64_t record)
{
    char text[RECORD + 1];
    snprintf(text, sizeof text, "%-*d\n", RECORD - 1, (int)getpid());
    ssize_t n = pwrite(fd, text, RECORD, text_at(record));
    (void)n; /* on a full disk the lock still holds; only the pid is missing from the other's message */
}

static pid_t read_holder(int fd, int64_t record)
{
    char text[RECORD + 1] = "";
    ssize_t n = pread(fd, text, RECORD, text_at(record));
    long pid = n > 0 ? strtol(text, NULL, 10) : 0;
    return pid > 0 && pid <= INT_MAX ? (pid_t)pid : 0;
}

/* "process 4711", as far as the record tells. */
enum { HOLDER_TEXT = 32 };
static const char *name_holder(pid_t pid, char text[HOLDER_TEXT])
{
    if (pid > 0)
        snprintf(text, HOLDER_TEXT, "process %d", (int)pid);
    else
        snprintf(text, HOLDER_TEXT, "another process");
    return text;
}

static bool report_holder(const struct store *store, const char *id, int64_t seq, struct error *err)
{
    char holder[HOLDER_TEXT];
    return error_set(err, ERROR_BUSY, "rollout %s is held by %s (store %s); wait until it is done, or stop it", id,
                     name_holder(read_holder(store->lock_fd, seq), holder), store->path);
}

static struct held_lock *find_held(const struct store *store, const char *id)
{
    for (size_t i = 0; i < store->held_count; i++)
        if (strcmp(store->held[i].id, id) == 0)
            return &store->held[i];
    return NULL;
}

static bool find_record(struct store *store, const char *id, int64_t *seq, struct error *err)
{
    if (!rollout_seq(store, id, seq, err))
        return false;
    return (*seq > SETUP_RECORD && *seq <= last_record) || store_damaged(store, "the row number", id, err);
}

/* The lock if it is free. What fails is in errno. */
static bool try_lock(struct store *store, const char *id, int64_t seq)
{
    if (!set_lock(store->lock_fd, seq, F_WRLCK))
        return false;
    write_holder(store->lock_fd, seq);
    store->held = mem_grow(store->held, store->held_count, &store->held_room, sizeof *store->held);
    store->held[store->held_count++] = (struct held_lock){.seq = seq, .id = mem_strdup(id)};
    return true;
}

bool store_lock(struct store *store, const char *rollout_id, struct error *err)
{
    if (find_held(store, rollout_id))
        return true;
    int64_t seq;
    if (!find_record(store, rollout_id, &seq, err))
        return false;
    if (try_lock(store, rollout_id, seq))
        return true;
    return is_held(errno) ? report_holder(store, rollout_id, seq, err) : lock_failed(store, errno, err);
}

void store_unlock(struct store *store, const char *rollout_id)
{
    struct held_lock *held = find_held(store, rollout_id);
    if (!held)
        return;
    set_lock(store->lock_fd, held->seq, F_UNLCK);
    free(held->id);
    *held = store->held[--store->held_count];
}

/* --- who holds it --- */

/* Whether a line of fdinfo is "lock:\t1: OFDLCK ADVISORY  WRITE -1 fe:00:10953000 48 63" of this record. */
static bool names_record(const char *line, int64_t record)
{
    char kind[16], advisory[16], access[16];
    long long from, to;
    return sscanf(line, "lock: %*d: %15s %15s %15s %*d %*s %lld %lld", kind, advisory, access, &from, &to) == 5 &&
           strcmp(kind, "OFDLCK") == 0 && strcmp(access, "WRITE") == 0 && from == record * RECORD &&
           to == from + RECORD - 1;
}

static bool file_has_lock(int process, const char *number, int64_t record)
{
    char name[64];
    snprintf(name, sizeof name, "fdinfo/%.16s", number);
    int fd = openat(process, name, O_RDONLY | O_CLOEXEC);
    FILE *info = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (!info) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    char line[256];
    bool found = false;
    while (!found && fgets(line, sizeof line, info))
        found = names_record(line, record);
    fclose(info);
    return found;
}

static bool is_file(int process, const char *number, const struct stat *file)
{
    char name[64];
    struct stat st;
    snprintf(name, sizeof name, "fd/%.16s", number);
    return fstatat(process, name, &st, 0) == 0 && st.st_dev == file->st_dev && st.st_ino == file->st_ino;
}

/* Walks the open files of a process: `process` is its folder in /proc. */
static bool process_has_lock(int process, const struct stat *file, int64_t record)
{
    int fd = openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *files = fd >= 0 ? fdopendir(fd) : NULL;
    if (!files) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool found = false;
    for (const struct dirent *entry; !found && (entry = readdir(files));)
        found = is_file(process, entry->d_name, file) && file_has_lock(process, entry->d_name, record);
    closedir(files);
    return found;
}

/* The proof: the kernel says that the process holds the lock of this record, now. */
static bool proven(const struct store *store, pid_t pid, int64_t record)
{
    char name[32];
    struct stat file;
    snprintf(name, sizeof name, "/proc/%d", (int)pid);
    int process = pid > 0 && fstat(store->lock_fd, &file) == 0 ? open(name, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (process < 0)
        return false;
    bool found = process_has_lock(process, &file, record);
    close(process);
    return found;
}

pid_t store_lock_holder(struct store *store, const char *rollout_id)
{
    int64_t seq;
    if (find_held(store, rollout_id))
        return getpid();
    if (!find_record(store, rollout_id, &seq, NULL))
        return 0;
    pid_t pid = read_holder(store->lock_fd, seq);
    return proven(store, pid, seq) ? pid : 0;
}

/* --- taking it from a process that hangs --- */

static bool not_certain(const struct store *store, const char *id, pid_t pid, struct error *err)
{
    char holder[HOLDER_TEXT];
    return error_set(err, ERROR_BUSY,
                     "rollout %s is held by a process that cannot be made out for certain (store %s; its lock file "
                     "says %s); find it with `fuser %s-lock` as its user or root, in its container, and stop it",
                     id, store->path, name_holder(pid, holder), store->path);
}

/* Kills the process of `pidfd` and waits for its end. */
static bool end_process(const struct store *store, const char *id, pid_t pid, int pidfd, struct error *err)
{
    if (pidfd_send_signal(pidfd, SIGKILL, NULL, 0) != 0 && errno != ESRCH)
        return error_set(err, ERROR_BUSY,
                         "rollout %s is held by process %d, which this user may not end: %s (store %s); as its user or "
                         "root: kill -9 %d",
                         id, (int)pid, strerror(errno), store->path, (int)pid);
    struct pollfd end = {.fd = pidfd, .events = POLLIN};
    int rc;
    do
        rc = poll(&end, 1, END_MS);
    while (rc < 0 && errno == EINTR);
    return rc > 0 || error_set(err, ERROR_BUSY,
                               "rollout %s is held by process %d, which was killed and has not ended in %d s (store "
                               "%s); it waits in the kernel, mostly for a disk: look at `ps -o stat,wchan %d`",
                               id, (int)pid, END_MS / 1000, store->path, (int)pid);
}

/* The pidfd comes first: while it names a process that has not ended, /proc/PID is that process. */
static bool end_holder(struct store *store, const char *id, int64_t seq, struct error *err)
{
    pid_t pid = read_holder(store->lock_fd, seq);
    int pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
    if (pidfd < 0)
        return not_certain(store, id, pid, err);
    bool ok = proven(store, pid, seq) ? end_process(store, id, pid, pidfd, err) : not_certain(store, id, pid, err);
    close(pidfd);
    return ok;
}

/* A program that the holder was just starting shares the lock until its exec. */
static bool lock_when_free(struct store *store, const char *id, int64_t seq, struct error *err)
{
    const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000L};
    for (int waited = 0; waited < END_MS; waited += RETRY_MS) {
        if (try_lock(store, id, seq))
            return true;
        if (!is_held(errno))
            return lock_failed(store, errno, err);
        nanosleep(&pause, NULL);
    }
    return report_holder(store, id, seq, err);
}

bool store_break_lock(struct store *store, const char *rollout_id, struct error *err)
{
    int64_t seq;
    if (find_held(store, rollout_id))
        return true;
    if (!find_record(store, rollout_id, &seq, err))
        return false;
    if (try_lock(store, rollout_id, seq))
        return true;
    if (!is_held(errno))
        return lock_failed(store, errno, err);
    if (read_holder(store->lock_fd, seq) == getpid())
        return report_holder(store, rollout_id, seq, err);
    return end_holder(store, rollout_id, seq, err) && lock_when_free(store, rollout_id, seq, err);
}

/* --- the guard --- */

bool store_lock_guard(struct store *store, struct error *err)
{
    if (store->guard)
        return true;
    char holder[HOLDER_TEXT];
    if (!set_lock(store->lock_fd, guard_record, F_WRLCK)) {
        if (!is_held(errno))
            return lock_failed(store, errno, err);
        return error_set(err, ERROR_BUSY, "the store %s already has a guard, %s; one is enough, or stop it first",
                         store->path, name_holder(read_holder(store->lock_fd, guard_record), holder));
    }
    write_holder(store->lock_fd, guard_record);
    store->guard = true;
    return true;
}

void store_unlock_guard(struct store *store)
{
    if (!store->guard)
        return;
    set_lock(store->lock_fd, guard_record, F_UNLCK);
    store->guard = false;
}
