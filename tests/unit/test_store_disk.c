/*
 * What must hold for a user whose disk is full: it is said with the file and the mend, nothing that was committed is
 * lost, nothing is half there, and once there is room the same store goes on. At the begin of a transaction, at its
 * commit, when the write-ahead log is moved to the database, and while a store is opened.
 *
 * The disk is a file system of a few megabytes in memory, which only this process sees. Where that may not be mounted
 * the limit of a file's size stands in for it.
 */
#include "analyzer/store/store.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmocka.h>

/* --- the small disk --- */

enum { DISK_BYTES = 12 << 20 };

static char folder[128], path[160], filler[160];
static bool mounted;

static bool write_line(const char *name, const char *line)
{
    int fd = open(name, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, line, strlen(line)) == (ssize_t)strlen(line);
    if (fd >= 0)
        close(fd);
    return ok;
}

/* File systems that only this process sees. Who is not root is, among these, the user that he was. */
static bool enter_own_view(void)
{
    char user[64], group[64];
    snprintf(user, sizeof user, "%u %u 1", (unsigned)geteuid(), (unsigned)geteuid());
    snprintf(group, sizeof group, "%u %u 1", (unsigned)getegid(), (unsigned)getegid());
    if (geteuid() == 0)
        return unshare(CLONE_NEWNS) == 0;
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write_line("/proc/self/setgroups", "deny") &&
           write_line("/proc/self/uid_map", user) && write_line("/proc/self/gid_map", group);
}

static int make_disk(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.80s/haldane-disk-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(folder))
        return -1;
    char options[32];
    snprintf(options, sizeof options, "size=%d", DISK_BYTES);
    mounted = enter_own_view() && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
              mount("haldane", folder, "tmpfs", MS_NOSUID | MS_NODEV, options) == 0;
    snprintf(path, sizeof path, "%s/haldane.db", folder);
    snprintf(filler, sizeof filler, "%s/filler", folder);
    signal(SIGXFSZ, SIG_IGN);
    return 0;
}

static int remove_entry(const char *name, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    return ftw->level > 0 ? remove(name) : 0;
}

static int empty_disk(void **state)
{
    (void)state;
    return nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static int remove_disk(void **state)
{
    (void)state;
    if (mounted)
        umount2(folder, MNT_DETACH);
    return rmdir(folder);
}

static off_t size_of(const char *end)
{
    char name[200];
    struct stat st;
    snprintf(name, sizeof name, "%s%s", path, end);
    return stat(name, &st) == 0 ? st.st_size : 0;
}

static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes == RLIM_INFINITY ? limit.rlim_max : bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void make_room(void)
{
    limit_files(RLIM_INFINITY);
    unlink(filler);
}

/* Nothing more fits but `bytes`. */
static void leave_room(off_t bytes)
{
    make_room();
    if (!mounted) {
        off_t largest = size_of("") > size_of("-wal") ? size_of("") : size_of("-wal");
        limit_files((rlim_t)(largest + bytes));
        return;
    }
    struct statvfs disk;
    assert_int_equal(statvfs(folder, &disk), 0);
    off_t room = (off_t)(disk.f_bavail * disk.f_frsize);
    int fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    if (room > bytes)
        assert_int_equal(posix_fallocate(fd, 0, room - bytes), 0);
    close(fd);
}

/* --- the store --- */

static const char id[] = "shop-1";

static struct store *open_good(void)
{
    struct error err = {0};
    struct store *store = store_open(path, &err);
    if (!store)
        fail_msg("%s", err.text);
    return store;
}

static struct store *open_with_rollout(void)
{
    struct error err = {0};
    struct store *store = open_good();
    struct policy policy = {.source = (char *)"version: 1\n"};
    struct rollout rollout = {.service = (char *)"shop"};
    memcpy(rollout.id, id, sizeof id);
    assert_true(store_add_rollout(store, &rollout, &policy, &err));
    return store;
}

/* One look as the engine writes it: several rows in one transaction. */
static bool write_look(struct store *store, int64_t number, size_t length, struct error *err)
{
    struct audit_entry entry = {number, (char *)"haldane", (char *)"look", NULL, 500};
    char *look = mem_alloc(length + 1, 1);
    memset(look, ' ', length);
    bool ok = store_begin(store, err);
    if (ok) {
        store_add_look(store, id, number, look, NULL);
        store_add_verdict(store, id, (uint64_t)number, number, "{}", NULL);
        store_add_audit(store, id, &entry, NULL);
        ok = store_commit(store, err);
    }
    free(look);
    return ok;
}

static void assert_full(const struct error *err)
{
    if (err->code != ERROR_IO || !strstr(err->text, path) || !strstr(err->text, "cannot grow") ||
        !strstr(err->text, "make room"))
        fail_msg("%d: %s", err->code, err->text);
}

/* Exactly `count` looks, each with its verdict and its line; the file is whole. Needs room. */
static void assert_looks(int64_t count)
{
    sqlite3 *db;
    sqlite3_stmt *stmt;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    const char *sql = "SELECT (SELECT integrity_check FROM pragma_integrity_check), (SELECT count(*) FROM looks), "
                      "(SELECT count(*) FROM verdicts), (SELECT count(*) FROM audit)";
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    assert_string_equal((const char *)sqlite3_column_text(stmt, 0), "ok");
    for (int column = 1; column < 4; column++)
        assert_int_equal(sqlite3_column_int64(stmt, column), count);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
}

static void full_at_the_first_write_and_at_the_commit(void **state)
{
    (void)state;
    struct store *store = open_with_rollout();
    int64_t looks = 0;
    int refused = 0;
    /* From no room at all to room for all of it: the failure comes at every place of the transaction. */
    for (off_t room = 0; room <= 160000; room += 8192) {
        struct error err = {0};
        leave_room(room);
        bool ok = write_look(store, looks + 1, 100000, &err);
        make_room();
        if (!ok)
            assert_full(&err);
        refused += !ok;
        looks += ok;
        assert_looks(looks);
    }
    assert_true(refused >= 5);
    assert_true(looks >= 1);
    struct error err = {0};
    assert_true(write_look(store, looks + 1, 100000, &err)); /* the same handle goes on */
    store_close(store);
    assert_looks(looks + 1);
}

static void full_when_the_log_is_moved_to_the_database(void **state)
{
    (void)state;
    struct store *store = open_with_rollout();
    struct error err = {0};
    int64_t looks = 0;
    /* The log grows to just below the 1000 pages at which SQLite moves it. */
    while (size_of("-wal") < 3900000)
        assert_true(write_look(store, ++looks, 90000, &err));
    assert_true(size_of("") < 1000000);
    leave_room(300000);
    /* These fit into the log, but the database has no room for what is in the log. */
    for (int i = 0; i < 2; i++) {
        bool ok = write_look(store, looks + 1, 90000, &err);
        if (!ok)
            fail_msg("%s", err.text);
        looks++;
    }
    store_close(store); /* nothing is lost if it cannot be moved now, either */
    make_room();
    if (mounted)
        assert_true(size_of("-wal") > 3900000);
    assert_looks(looks);
    store = open_good();
    assert_true(write_look(store, ++looks, 90000, &err));
    store_close(store);
    assert_looks(looks);
    assert_int_equal(size_of("-wal"), 0);
}

static void full_while_a_store_is_opened(void **state)
{
    (void)state;
    store_close(open_with_rollout());
    struct error err = {0};
    for (off_t room = 0; room < 60000; room += 4096) {
        leave_room(room);
        struct store *store = store_open(path, &err);
        bool ok = store && write_look(store, 1, 600000, &err);
        store_close(store);
        make_room();
        assert_false(ok);
        assert_full(&err);
        assert_looks(0);
    }
    /* And one that is not there yet. */
    assert_int_equal(empty_disk(NULL), 0);
    for (off_t room = 0; room < 60000; room += 4096) {
        leave_room(room);
        struct store *store = store_open(path, &err);
        store_close(store);
        make_room();
        if (!store)
            assert_full(&err);
    }
    store_close(open_with_rollout());
    assert_looks(0);
}

static void the_lock_is_taken_on_a_full_disk(void **state)
{
    (void)state;
    struct store *store = open_with_rollout();
    struct error err = {0};
    leave_room(0);
    bool locked = store_lock(store, id, &err), guard = store_lock_guard(store, &err);
    make_room();
    assert_true(locked && guard);
    store_close(store);
}

static void pruning_on_a_full_disk_is_said_and_done_later(void **state)
{
    (void)state;
    struct store *store = open_with_rollout();
    struct error err = {0};
    struct rollout rollout;
    assert_true(write_look(store, 1, 100000, &err));
    assert_true(store_load_rollout(store, id, &rollout, &err));
    rollout.state = ROLLOUT_ABORTED;
    rollout.ended_ms = 1;
    assert_true(store_save_rollout(store, &rollout, &err));
    rollout_clear(&rollout);
    leave_room(0);
    struct pruning done = {.finished = 7};
    bool ok = store_prune(store, INT64_MAX / 2, INT64_MAX, &done, &err);
    make_room();
    assert_false(ok);
    assert_full(&err);
    assert_int_equal(done.finished, 0);
    assert_true(done.more);
    assert_looks(1);
    assert_true(store_prune(store, INT64_MAX / 2, INT64_MAX, &done, &err));
    assert_int_equal(done.finished, 1);
    store_close(store);
}

#define TEST(f) cmocka_unit_test_teardown(f, empty_disk)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(full_at_the_first_write_and_at_the_commit),
        TEST(full_when_the_log_is_moved_to_the_database),
        TEST(full_while_a_store_is_opened),
        TEST(the_lock_is_taken_on_a_full_disk),
        TEST(pruning_on_a_full_disk_is_said_and_done_later),
    };
    return cmocka_run_group_tests_name("store on a full disk", tests, make_disk, remove_disk);
}
