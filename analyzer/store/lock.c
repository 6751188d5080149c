/*
 * A lock of the kernel rather than a row: it is gone in the instant its holder is, also after kill -9, and nobody has
 * to guess whether a row is stale. The file FILE-lock beside the database has a record for each rollout, at its row
 * number; who has locked the record has the rollout. The record's text is the holder's pid, for the message only.
 *
 * The locks belong to the open file (F_OFD_SETLK), not to the process: two stores of one process exclude each other
 * too, and closing some other descriptor of the file releases nothing. The descriptor is closed on exec, so that a
 * program that haldane starts cannot outlive it with the lock.
 */
#include "analyzer/store/private.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { RECORD = 16, SETUP_RECORD = 0, RETRY_MS = 10 };

/* Row numbers beyond this have no record in a file; only a damaged database holds one. */
static const int64_t last_record = INT64_MAX / RECORD - 1;

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

static void write_holder(int fd, int64_t record)
{
    char text[RECORD + 1];
    snprintf(text, sizeof text, "%-*d\n", RECORD - 1, (int)getpid());
    ssize_t n = pwrite(fd, text, RECORD, record * RECORD);
    (void)n; /* on a full disk the lock still holds; only the pid is missing from the other's message */
}

static int read_holder(int fd, int64_t record)
{
    char text[RECORD + 1] = "";
    ssize_t n = pread(fd, text, RECORD, record * RECORD);
    return n > 0 ? (int)strtol(text, NULL, 10) : 0;
}

static bool report_holder(const struct store *store, const char *id, int64_t seq, struct error *err)
{
    int pid = read_holder(store->lock_fd, seq);
    char holder[32] = "another process";
    if (pid > 0)
        snprintf(holder, sizeof holder, "process %d", pid);
    return error_set(err, ERROR_BUSY, "rollout %s is held by %s (store %s); wait until it is done, or stop it", id,
                     holder, store->path);
}

static struct held_lock *find_held(const struct store *store, const char *id)
{
    for (size_t i = 0; i < store->held_count; i++)
        if (strcmp(store->held[i].id, id) == 0)
            return &store->held[i];
    return NULL;
}

bool store_lock(struct store *store, const char *rollout_id, struct error *err)
{
    if (find_held(store, rollout_id))
        return true;
    int64_t seq;
    if (!rollout_seq(store, rollout_id, &seq, err))
        return false;
    if (seq <= SETUP_RECORD || seq > last_record)
        return store_damaged(store, "the row number", rollout_id, err);
    if (!set_lock(store->lock_fd, seq, F_WRLCK))
        return is_held(errno) ? report_holder(store, rollout_id, seq, err) : lock_failed(store, errno, err);
    write_holder(store->lock_fd, seq);
    store->held = mem_grow(store->held, store->held_count, &store->held_room, sizeof *store->held);
    store->held[store->held_count++] = (struct held_lock){.seq = seq, .id = mem_strdup(rollout_id)};
    return true;
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
