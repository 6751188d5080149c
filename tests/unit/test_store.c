/*
 * What must hold for a user: what was written is there after a restart, whole or not at all; a service has one live
 * rollout; one process at a time moves it, and a dead one holds nothing; a store that cannot be used says so, with the
 * file and the mend, and is left as it was.
 */
#include "analyzer/store/store.h"
#include "base/memory.h"
#include "tests/unit/store_version_1.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* --- a folder for each test --- */

struct place {
    char folder[128];
    char path[160];
};

static int make_place(void **state)
{
    struct place *place = mem_alloc(1, sizeof *place);
    const char *tmp = getenv("TMPDIR");
    snprintf(place->folder, sizeof place->folder, "%.80s/haldane-store-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(place->folder))
        return -1;
    snprintf(place->path, sizeof place->path, "%s/haldane.db", place->folder);
    *state = place;
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int remove_place(void **state)
{
    struct place *place = *state;
    chmod(place->folder, 0700);
    int rc = nftw(place->folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    free(place);
    return rc;
}

/* --- short forms --- */

static const char first_id[] = "shop-1";

static struct store *open_good(const char *path)
{
    struct error err = {0};
    struct store *store = store_open(path, &err);
    if (!store)
        fail_msg("%s", err.text);
    return store;
}

static void assert_text(const struct error *err, const char *part)
{
    if (!strstr(err->text, part))
        fail_msg("\"%s\" does not say \"%s\"", err->text, part);
}

static struct policy example_policy(struct policy_setting settings[2])
{
    settings[0] = (struct policy_setting){(char *)"BACKEND", (char *)"shop"};
    settings[1] = (struct policy_setting){(char *)"PORT", (char *)""};
    struct policy policy = {
        .service = (char *)"shop", .source = (char *)"version: 1\n# ü\n", .settings = settings, .setting_count = 2};
    memset(policy.sha256, 'a', 64);
    return policy;
}

static struct rollout example_rollout(const char *id, const char *service)
{
    struct rollout rollout = {.service = (char *)service,
                              .state = ROLLOUT_STEPPING,
                              .step = 1,
                              .weight_bp = 500,
                              .begun_ms = 1767323045678,
                              .step_since_ms = 1767323046000,
                              .lease_until_ms = 1767323166000};
    snprintf(rollout.id, sizeof rollout.id, "%s", id);
    return rollout;
}

static bool try_add(struct store *store, struct rollout *rollout, struct error *err)
{
    struct policy_setting settings[2];
    struct policy policy = example_policy(settings);
    return store_add_rollout(store, rollout, &policy, err);
}

static void add(struct store *store, const char *id, const char *service)
{
    struct error err = {0};
    struct rollout rollout = example_rollout(id, service);
    if (!try_add(store, &rollout, &err))
        fail_msg("%s", err.text);
    assert_string_equal(rollout.id, id);
}

/* A store with one rollout. */
static struct store *open_with_rollout(const char *path)
{
    struct store *store = open_good(path);
    add(store, first_id, "shop");
    return store;
}

static size_t count_rollouts(struct store *store, bool live)
{
    struct rollout *rollouts;
    size_t count;
    struct error err = {0};
    assert_true(store_list_rollouts(store, live, &rollouts, &count, &err));
    for (size_t i = 0; i < count; i++)
        rollout_clear(&rollouts[i]);
    free(rollouts);
    return count;
}

static size_t count_verdicts(struct store *store)
{
    char **texts;
    size_t count;
    struct error err = {0};
    assert_true(store_load_verdicts(store, first_id, false, &texts, &count, &err));
    for (size_t i = 0; i < count; i++)
        free(texts[i]);
    free(texts);
    return count;
}

static size_t count_audit(struct store *store)
{
    struct audit_entry *entries;
    size_t count;
    struct error err = {0};
    assert_true(store_load_audit(store, first_id, &entries, &count, &err));
    audit_entries_free(entries, count);
    return count;
}

static bool add_line(struct store *store, const char *event, struct error *err)
{
    struct audit_entry entry = {1000, (char *)"haldane", (char *)event, NULL, 500};
    return store_add_audit(store, first_id, &entry, err);
}

/* Runs SQL on the file beside the store, as a person with the sqlite3 shell would. */
static void by_hand(const char *path, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    char *message = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
    sqlite3_close(db);
}

static void assert_not_opened(const char *path, enum error_code code, const char *part)
{
    struct error err = {0};
    struct store *store = store_open(path, &err);
    assert_null(store);
    if (err.code != code)
        fail_msg("code %d: %s", err.code, err.text);
    assert_text(&err, part);
}

static char *read_bytes(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *length = (size_t)ftell(file);
    rewind(file);
    char *bytes = mem_alloc(*length + 1, 1);
    assert_int_equal(fread(bytes, 1, *length, file), *length);
    fclose(file);
    return bytes;
}

static void write_bytes(const char *path, const char *bytes, size_t length)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    fclose(file);
}

static mode_t mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

/* --- opening --- */

static void creates_folders_and_files_for_the_owner_alone(void **state)
{
    struct place *place = *state;
    mode_t old = umask(022);
    char folder[200], path[240], side[256];
    snprintf(folder, sizeof folder, "%s/state/deep", place->folder);
    snprintf(path, sizeof path, "%s/haldane.db", folder);
    struct store *store = open_with_rollout(path);
    umask(old);
    assert_int_equal(mode_of(folder), 0700);
    assert_int_equal(mode_of(path), 0600);
    const char *const sides[] = {"lock", "wal", "shm"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(side, sizeof side, "%s-%s", path, sides[i]);
        assert_int_equal(mode_of(side), 0600);
    }
    store_close(store);
    store_close(NULL);
}

static void relative_and_special_names_are_files(void **state)
{
    struct place *place = *state;
    int here = open(".", O_RDONLY | O_DIRECTORY);
    assert_true(here >= 0);
    assert_int_equal(chdir(place->folder), 0);
    const char *const names[] = {":memory:", "file:x?mode=memory", "sub/haldane.db"};
    for (size_t i = 0; i < 3; i++) {
        store_close(open_with_rollout(names[i]));
        struct store *store = open_good(names[i]);
        assert_int_equal(count_rollouts(store, false), 1);
        store_close(store);
    }
    assert_not_opened("", ERROR_USAGE, "--db");
    assert_int_equal(fchdir(here), 0);
    close(here);
}

static void is_in_wal_mode_and_marked(void **state)
{
    struct place *place = *state;
    store_close(open_good(place->path));
    sqlite3 *db;
    assert_int_equal(sqlite3_open(place->path, &db), SQLITE_OK);
    sqlite3_stmt *stmt;
    const char *sql = "SELECT (SELECT journal_mode FROM pragma_journal_mode), (SELECT user_version FROM "
                      "pragma_user_version), (SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND type = "
                      "'table' AND name NOT LIKE 'sqlite%' AND NOT strict)";
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    assert_string_equal((const char *)sqlite3_column_text(stmt, 0), "wal");
    assert_int_equal(sqlite3_column_int(stmt, 1), 2);
    assert_int_equal(sqlite3_column_int(stmt, 2), 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
}

static void newer_schema_is_refused(void **state)
{
    struct place *place = *state;
    store_close(open_with_rollout(place->path));
    by_hand(place->path, "PRAGMA user_version = 3");
    assert_not_opened(place->path, ERROR_IO, "newer haldane (schema 3, this one knows 2)");
    by_hand(place->path, "PRAGMA user_version = -1");
    assert_not_opened(place->path, ERROR_IO, "damaged");
    by_hand(place->path, "PRAGMA user_version = 2");
    struct store *store = open_good(place->path);
    assert_int_equal(count_rollouts(store, false), 1);
    store_close(store);
}

static void a_file_that_is_not_ours_is_left_alone(void **state)
{
    struct place *place = *state;
    char lock[200];
    snprintf(lock, sizeof lock, "%s-lock", place->path);
    char text[4096];
    memset(text, 'x', sizeof text);
    write_bytes(place->path, text, sizeof text);
    assert_not_opened(place->path, ERROR_IO, "is not a database");
    size_t length;
    char *after = read_bytes(place->path, &length);
    assert_int_equal(length, sizeof text);
    assert_memory_equal(after, text, length);
    free(after);
    assert_int_equal(access(lock, F_OK), -1);
    remove(place->path);

    by_hand(place->path, "CREATE TABLE bookmarks(url TEXT); PRAGMA user_version = 1");
    char *before = read_bytes(place->path, &length);
    assert_not_opened(place->path, ERROR_IO, "of another program");
    size_t length_after;
    after = read_bytes(place->path, &length_after);
    assert_int_equal(length_after, length);
    assert_memory_equal(after, before, length);
    free(before);
    free(after);
    assert_int_equal(access(lock, F_OK), -1);
    remove(place->path);
    by_hand(place->path, "PRAGMA application_id = 77");
    assert_not_opened(place->path, ERROR_IO, "of another program");
}

static void a_folder_or_a_file_on_the_way_is_said(void **state)
{
    struct place *place = *state;
    assert_not_opened(place->folder, ERROR_IO, place->folder);
    write_bytes(place->path, "", 0);
    char below[200];
    snprintf(below, sizeof below, "%s/x/haldane.db", place->path);
    assert_not_opened(below, ERROR_IO, "Not a directory");
}

/* Runs `body` in a child that is not root, for whom permissions count; its exit code. */
static int as_plain_user(struct place *place, int (*body)(struct place *place))
{
    pid_t pid = fork();
    if (pid == 0) {
        if (geteuid() == 0 &&
            (setgroups(0, NULL) != 0 || setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0))
            _exit(99);
        _exit(body(place));
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int open_must_say_io(struct place *place)
{
    struct error err = {0};
    struct store *store = store_open(place->path, &err);
    if (store || err.code != ERROR_IO || !strstr(err.text, place->path) || !strstr(err.text, "--db")) {
        fprintf(stderr, "read-only: %s\n", store ? "opened" : err.text);
        return 1;
    }
    return 0;
}

static int sub_must_say_io(struct place *place)
{
    struct error err = {0};
    char path[200];
    snprintf(path, sizeof path, "%s/sub/haldane.db", place->folder);
    struct store *store = store_open(path, &err);
    if (store || err.code != ERROR_IO || !strstr(err.text, "cannot make the folder")) {
        fprintf(stderr, "read-only: %s\n", store ? "opened" : err.text);
        return 1;
    }
    return 0;
}

static void read_only_is_said_with_the_mend(void **state)
{
    struct place *place = *state;
    /* A folder in which nothing can be made. */
    assert_int_equal(chmod(place->folder, 0555), 0);
    int rc = as_plain_user(place, sub_must_say_io);
    assert_int_equal(rc, 0);
    assert_int_equal(chmod(place->folder, 0700), 0);
    /* A file that may be read and not written. */
    store_close(open_with_rollout(place->path));
    assert_int_equal(chmod(place->path, 0444), 0);
    assert_int_equal(chmod(place->folder, 0755), 0);
    rc = as_plain_user(place, open_must_say_io);
    assert_int_equal(rc, 0);
}

/* Eight processes meet a file that is not there yet: each must get a store, and there must be one schema. */
static void many_may_create_it_at_once(void **state)
{
    struct place *place = *state;
    enum { PROCESSES = 8 };
    int gate[2];
    assert_int_equal(pipe(gate), 0);
    pid_t pids[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            close(gate[1]);
            char byte;
            if (read(gate[0], &byte, 1) != 0)
                _exit(2);
            struct error err = {0};
            struct store *store = store_open(place->path, &err);
            if (!store)
                fprintf(stderr, "%s\n", err.text);
            store_close(store);
            _exit(store ? 0 : 1);
        }
    }
    close(gate[0]);
    close(gate[1]);
    int failed = 0;
    for (int i = 0; i < PROCESSES; i++) {
        int status = 0;
        waitpid(pids[i], &status, 0);
        failed += status != 0;
    }
    assert_int_equal(failed, 0);
}

/* --- an older store --- */

static void make_version_1(const char *path)
{
    by_hand(path, version_1);
    assert_int_equal(chmod(path, 0600), 0);
}

/* The one number that a query gives. */
static int64_t number_by_hand(const char *path, const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *stmt;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK || sqlite3_step(stmt) != SQLITE_ROW)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    int64_t number = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return number;
}

/* All that version 1 held is there, by the functions that the program uses. */
static void assert_version_1_is_kept(struct store *store)
{
    struct error err = {0};
    struct rollout got;
    struct stored_policy policy;
    struct intent intent;
    assert_int_equal(count_rollouts(store, false), 3);
    assert_int_equal(count_rollouts(store, true), 2);
    assert_true(store_load_rollout(store, "old-1", &got, &err));
    assert_int_equal(got.state, ROLLOUT_ABORTED);
    assert_int_equal(got.cause, CAUSE_HARMED);
    assert_int_equal(got.ended_ms, 50);
    assert_string_equal(got.reason, "errors rose");
    rollout_clear(&got);
    assert_true(store_load_rollout(store, first_id, &got, &err));
    assert_int_equal(got.state, ROLLOUT_STEPPING);
    assert_int_equal(got.step, 1);
    assert_int_equal(got.weight_bp, 500);
    assert_int_equal(got.lease_until_ms, 1300);
    assert_true(got.epoch == 0 && got.generation == 0 && !got.advise && got.pruned_ms == 0);
    rollout_clear(&got);
    assert_true(store_load_policy(store, first_id, &policy, &err));
    assert_string_equal(policy.source, "version: 1\n# ü\n");
    assert_int_equal(policy.setting_count, 1);
    stored_policy_free(&policy);
    assert_true(store_get_intent(store, first_id, &intent, &err));
    assert_true(intent.pending);
    assert_int_equal(intent.weight_bp, 2500);
    intent_clear(&intent);
    struct evidence *evidence = store_load_evidence(store, first_id, 15000, &err);
    if (!evidence)
        fail_msg("%s", err.text);
    assert_int_equal(evidence->metrics[0].count, 1);
    assert_int_equal(evidence->weight_count, 1);
    assert_int_equal(evidence->decision_count, 1);
    assert_int_equal(evidence->balancer_count, 0);
    evidence_free(evidence);
    assert_int_equal(count_verdicts(store), 1);
    assert_int_equal(count_audit(store), 2);
}

static void a_store_of_version_1_is_brought_up_to_date(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    make_version_1(place->path);
    struct store *store = open_good(place->path);
    assert_version_1_is_kept(store);
    /* What is new works on what is old. */
    struct rollout first = example_rollout(first_id, "shop"), second = example_rollout("shop-2", "shop");
    assert_false(try_add(store, &second, &err));
    assert_int_equal(err.code, ERROR_BUSY);
    first.state = ROLLOUT_SUPERSEDED;
    first.cause = CAUSE_SUPERSEDED;
    first.epoch = UINT64_MAX;
    assert_true(store_save_rollout(store, &first, &err));
    assert_true(try_add(store, &second, &err));
    store_close(store);
    assert_int_equal(number_by_hand(place->path, "PRAGMA user_version"), 2);
    assert_int_equal(number_by_hand(place->path, "SELECT min(retention_ms) FROM rollouts WHERE id <> 'shop-2'"),
                     90LL * 24 * 3600 * 1000);
    store = open_good(place->path);
    assert_int_equal(count_rollouts(store, true), 2); /* cart-1 and shop-2 */
    store_close(store);
}

static void killed_while_it_is_brought_up_to_date_it_is_old_or_new(void **state)
{
    struct place *place = *state;
    for (useconds_t after = 0; after < 12000; after += 700) {
        make_version_1(place->path);
        pid_t pid = fork();
        if (pid == 0) {
            store_open(place->path, NULL);
            pause();
        }
        usleep(after);
        kill(pid, SIGKILL);
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        int64_t version = number_by_hand(place->path, "PRAGMA user_version");
        const char *fresh = "SELECT count(*) FROM pragma_table_info('rollouts') WHERE name IN "
                            "('epoch', 'generation', 'advise', 'retention_ms', 'pruned_ms')";
        assert_true(version == 1 || version == 2);
        assert_int_equal(number_by_hand(place->path, fresh), version == 2 ? 5 : 0);
        assert_int_equal(number_by_hand(place->path, "SELECT count(*) FROM sqlite_schema WHERE name = 'balancer'"),
                         version == 2 ? 1 : 0);
        struct store *store = open_good(place->path);
        assert_version_1_is_kept(store);
        store_close(store);
        char lock[200];
        snprintf(lock, sizeof lock, "%s-lock", place->path);
        remove(place->path);
        remove(lock);
    }
}

/* --- rollouts --- */

static void a_rollout_comes_back_as_it_was_put(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_good(place->path);
    struct rollout put = example_rollout("shop-20260102", "shop");
    put.reason = (char *)"begun; it's \"quoted\" and ü";
    put.cause = CAUSE_DRIVER;
    put.last_look_ms = 1767323060000;
    put.ended_ms = 7;
    put.epoch = UINT64_MAX;
    put.generation = UINT64_MAX - 1;
    put.advise = true;
    put.pruned_ms = 9; /* only store_prune() sets it */
    assert_true(try_add(store, &put, &err));
    store_close(store);

    store = open_good(place->path);
    struct rollout got;
    assert_true(store_load_rollout(store, "shop-20260102", &got, &err));
    assert_string_equal(got.id, put.id);
    assert_string_equal(got.service, put.service);
    assert_string_equal(got.reason, put.reason);
    assert_int_equal(got.state, put.state);
    assert_int_equal(got.cause, put.cause);
    assert_int_equal(got.step, put.step);
    assert_int_equal(got.weight_bp, put.weight_bp);
    assert_int_equal(got.begun_ms, put.begun_ms);
    assert_int_equal(got.step_since_ms, put.step_since_ms);
    assert_int_equal(got.last_look_ms, put.last_look_ms);
    assert_int_equal(got.lease_until_ms, put.lease_until_ms);
    assert_int_equal(got.ended_ms, put.ended_ms);
    assert_true(got.epoch == UINT64_MAX);
    assert_true(got.generation == UINT64_MAX - 1);
    assert_true(got.advise);
    assert_int_equal(got.pruned_ms, 0);
    rollout_clear(&got);

    /* And as it was saved later. */
    put.epoch = (uint64_t)INT64_MAX + 1;
    put.generation = 0;
    put.advise = false;
    assert_true(store_save_rollout(store, &put, &err));
    assert_true(store_load_rollout(store, "shop-20260102", &got, &err));
    assert_true(got.epoch == (uint64_t)INT64_MAX + 1);
    assert_true(got.generation == 0);
    assert_false(got.advise);
    assert_int_equal(got.pruned_ms, 0);
    rollout_clear(&got);
    store_close(store);
}

static void every_state_and_cause_is_kept(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path);
    for (int s = 0; s < ROLLOUT_STATES; s++)
        for (int c = CAUSE_NONE; c <= CAUSE_SUPERSEDED; c++) {
            struct rollout put = example_rollout(first_id, "shop"), got;
            put.state = (enum rollout_state)s;
            put.cause = (enum rollout_cause)c;
            put.step = (size_t)(s + c);
            assert_true(store_save_rollout(store, &put, &err));
            assert_true(store_load_rollout(store, first_id, &got, &err));
            assert_int_equal(got.state, s);
            assert_int_equal(got.cause, c);
            assert_int_equal(got.step, s + c);
            assert_null(got.reason);
            assert_int_equal(count_rollouts(store, true), rollout_ended(&put) ? 0 : 1);
            rollout_clear(&got);
        }
    store_close(store);
}

/* Who is not certain that there is none must try, and be told why it cannot be read. */
static void a_store_that_is_not_there_is_told_and_not_made(void **state)
{
    struct place *place = *state;
    char *inside = mem_printf("%s/haldane.db", place->path);
    assert_false(store_exists(place->path));
    assert_false(store_exists(inside));
    store_close(open_good(place->path));
    assert_true(store_exists(place->path));
    assert_true(store_exists(inside)); /* a file where a folder should be */
    free(inside);
}

static void an_unknown_rollout_names_the_newest(void **state)
{
    struct place *place = *state;
    struct store *store = open_good(place->path);
    struct error err = {0};
    struct rollout got;
    assert_false(store_load_rollout(store, "nope", &got, &err));
    assert_int_equal(err.code, ERROR_NO_INPUT);
    assert_text(&err, "holds none");
    add(store, "a-1", "a");
    assert_false(store_load_rollout(store, "nope", &got, &err));
    assert_text(&err, "the newest is a-1");
    add(store, "b-1", "b");
    assert_false(store_load_rollout(store, "nope", &got, &err));
    assert_int_equal(err.code, ERROR_NO_INPUT);
    assert_text(&err, "no rollout nope");
    assert_text(&err, "the newest are b-1, a-1");

    struct rollout unknown = example_rollout("nope", "shop");
    struct stored_policy policy;
    struct intent intent = {0};
    struct audit_entry entry = {1, (char *)"me", (char *)"x", NULL, 0}, *entries;
    struct evidence_decision decision = {1, (char *)"hold", (char *)"me", (char *)"why"};
    char **texts;
    size_t count;
    const bool done[] = {store_save_rollout(store, &unknown, &err),
                         store_load_policy(store, "nope", &policy, &err),
                         store_put_intent(store, "nope", &intent, &err),
                         store_get_intent(store, "nope", &intent, &err),
                         store_clear_intent(store, "nope", &err),
                         store_add_look(store, "nope", 1, "{}", &err),
                         store_add_balancer(store, "nope", 1, "{}", &err),
                         store_add_weight(store, "nope", 1, 1, &err),
                         store_add_decision(store, "nope", &decision, &err),
                         store_load_evidence(store, "nope", 1000, &err) != NULL,
                         store_add_verdict(store, "nope", 1, 1, "{}", &err),
                         store_load_verdicts(store, "nope", false, &texts, &count, &err),
                         store_add_audit(store, "nope", &entry, &err),
                         store_load_audit(store, "nope", &entries, &count, &err),
                         store_lock(store, "nope", &err),
                         store_break_lock(store, "nope", &err)};
    for (size_t i = 0; i < sizeof done; i++)
        assert_false(done[i]);
    assert_int_equal(err.code, ERROR_NO_INPUT);
    assert_int_equal(store_lock_holder(store, "nope"), 0);
    assert_false(store_load_rollout(store, "nope", &got, NULL));
    store_close(store);
}

static void a_taken_id_gets_a_suffix(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path);
    const char *const expected[] = {"shop-1-2", "shop-1-3"};
    for (size_t i = 0; i < 2; i++) {
        struct rollout rollout = example_rollout(first_id, i ? "b" : "a");
        assert_true(try_add(store, &rollout, &err));
        assert_string_equal(rollout.id, expected[i]);
    }
    char longest[sizeof((struct rollout *)0)->id];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    add(store, longest, "c");
    struct rollout rollout = example_rollout(longest, "d"), got;
    assert_true(try_add(store, &rollout, &err));
    assert_int_equal(strlen(rollout.id), strlen(longest));
    assert_string_equal(rollout.id + strlen(longest) - 3, "x-2");
    assert_true(store_load_rollout(store, rollout.id, &got, &err));
    assert_string_equal(got.service, "d");
    rollout_clear(&got);
    store_close(store);
}

static void a_service_has_one_live_rollout(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path);
    struct rollout second = example_rollout("shop-2", "shop");
    assert_false(try_add(store, &second, &err));
    assert_int_equal(err.code, ERROR_BUSY);
    assert_text(&err, first_id);
    assert_text(&err, "stepping");
    assert_int_equal(count_rollouts(store, false), 1);

    /* Going back is not the end: stable is not proven yet. */
    struct rollout first = example_rollout(first_id, "shop");
    first.state = ROLLOUT_ROLLING_BACK;
    assert_true(store_save_rollout(store, &first, &err));
    assert_false(try_add(store, &second, &err));
    assert_int_equal(err.code, ERROR_BUSY);

    const enum rollout_state ended[] = {ROLLOUT_ABORTED, ROLLOUT_PROMOTED, ROLLOUT_EXPIRED, ROLLOUT_SUPERSEDED};
    for (size_t i = 0; i < sizeof ended / sizeof *ended; i++) {
        first.state = ended[i];
        assert_true(store_save_rollout(store, &first, &err));
        assert_int_equal(count_rollouts(store, true), 0);
        struct rollout next = example_rollout("shop-next", "shop");
        assert_true(try_add(store, &next, &err));
        /* And an ended one does not come back to life beside it. */
        first.state = ROLLOUT_HELD;
        assert_false(store_save_rollout(store, &first, &err));
        assert_int_equal(err.code, ERROR_BUSY);
        assert_text(&err, next.id);
        next.state = ROLLOUT_PROMOTED;
        assert_true(store_save_rollout(store, &next, &err));
    }
    store_close(store);
}

static void the_database_itself_refuses_a_second_one(void **state)
{
    struct place *place = *state;
    store_close(open_with_rollout(place->path));
    sqlite3 *db;
    assert_int_equal(sqlite3_open(place->path, &db), SQLITE_OK);
    int rc = sqlite3_exec(db,
                          "INSERT INTO rollouts(id, service, state, cause, step, weight_bp, begun_ms, step_since_ms, "
                          "last_look_ms, lease_until_ms, ended_ms) SELECT 'other', service, 'paused', cause, step, "
                          "weight_bp, begun_ms, step_since_ms, last_look_ms, lease_until_ms, ended_ms FROM rollouts",
                          NULL, NULL, NULL);
    assert_int_equal(rc, SQLITE_CONSTRAINT);
    sqlite3_close(db);
}

static void lists_newest_first(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_good(place->path);
    struct rollout *list;
    size_t count;
    assert_true(store_list_rollouts(store, false, &list, &count, &err));
    assert_int_equal(count, 0);
    free(list);
    const int64_t begun[] = {2000, 3000, 1000, 3000};
    const char *const names[] = {"a", "b", "c", "d"};
    for (size_t i = 0; i < 4; i++) {
        struct rollout rollout = example_rollout(names[i], names[i]);
        rollout.begun_ms = begun[i];
        if (i == 1)
            rollout.state = ROLLOUT_PROMOTED;
        assert_true(try_add(store, &rollout, &err));
    }
    const char *const all[] = {"d", "b", "a", "c"}, *const live[] = {"d", "a", "c"};
    for (int l = 0; l < 2; l++) {
        assert_true(store_list_rollouts(store, l == 1, &list, &count, &err));
        assert_int_equal(count, l ? 3 : 4);
        for (size_t i = 0; i < count; i++) {
            assert_string_equal(list[i].id, l ? live[i] : all[i]);
            rollout_clear(&list[i]);
        }
        free(list);
    }
    store_close(store);
}

static void the_policy_comes_back_byte_for_byte(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    store_close(open_with_rollout(place->path));
    struct store *store = open_good(place->path);
    struct stored_policy policy;
    assert_true(store_load_policy(store, first_id, &policy, &err));
    assert_string_equal(policy.source, "version: 1\n# ü\n");
    assert_int_equal(policy.setting_count, 2);
    assert_string_equal(policy.settings[0].name, "BACKEND");
    assert_string_equal(policy.settings[0].value, "shop");
    assert_string_equal(policy.settings[1].name, "PORT");
    assert_string_equal(policy.settings[1].value, "");
    stored_policy_free(&policy);
    assert_null(policy.source);
    store_close(store);
}

/* --- intents --- */

static void an_intent_outlives_the_process_until_cleared(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path);
    struct intent got;
    assert_true(store_get_intent(store, first_id, &got, &err));
    assert_false(got.pending);
    struct intent put = {true, 500, 1000, (char *)"step 1"};
    assert_true(store_put_intent(store, first_id, &put, &err));
    put = (struct intent){true, 0, 2000, NULL};
    assert_true(store_put_intent(store, first_id, &put, &err));
    store_close(store);
    store = open_good(place->path);
    assert_true(store_get_intent(store, first_id, &got, &err));
    assert_true(got.pending);
    assert_int_equal(got.weight_bp, 0);
    assert_int_equal(got.at_ms, 2000);
    assert_null(got.reason);
    put.reason = (char *)"harm was shown";
    assert_true(store_put_intent(store, first_id, &put, &err));
    assert_true(store_get_intent(store, first_id, &got, &err));
    assert_string_equal(got.reason, "harm was shown");
    intent_clear(&got);
    assert_true(store_clear_intent(store, first_id, &err));
    assert_true(store_clear_intent(store, first_id, &err));
    assert_true(store_get_intent(store, first_id, &got, &err));
    assert_false(got.pending);
    store_close(store);
}

/* --- the log --- */

static struct evidence *example_evidence(void)
{
    struct evidence *evidence = evidence_new("shop", 15000);
    evidence->rollout = mem_strdup(first_id);
    struct evidence_metric *metric = evidence_metric(evidence, "errors", METRIC_ERRORS, NULL, 0);
    for (int64_t at = 1015000; at <= 1060000; at += 15000) {
        struct evidence_interval *interval = evidence_add_interval(metric, at - 15000, at);
        for (int t = 0; t < TRACKS; t++) {
            struct instance_counts *counts = evidence_add_instance(metric, interval, (enum track)t, t ? "c1" : "s1");
            counts->requests = (uint64_t)(at / 1000);
            counts->failed = (uint64_t)t;
        }
    }
    const double edges[] = {0.1, (double)INFINITY};
    metric = evidence_metric(evidence, "latency", METRIC_LATENCY, edges, 2);
    struct evidence_interval *interval = evidence_add_interval(metric, 1015000, 1030000);
    struct instance_counts *counts = evidence_add_instance(metric, interval, TRACK_CANARY, "c1");
    counts->buckets[0] = 5;
    counts->buckets[1] = 2;
    counts->requests = 7;
    metric = evidence_metric(evidence, "memory", METRIC_GAUGE, NULL, 0);
    interval = evidence_add_interval(metric, 1015000, 1030000);
    evidence_add_instance(metric, interval, TRACK_STABLE, NULL)->value = 0.1;
    evidence_add_instance(metric, interval, TRACK_STABLE, NULL)->value = (double)NAN;
    metric = evidence_guardrail(evidence, "errors", METRIC_ERRORS);
    interval = evidence_add_interval(metric, 1015000, 1030000);
    evidence_add_instance(metric, interval, TRACK_CANARY, "c1")->requests = 9;
    evidence_add_weight(evidence, 1000000, 500);
    evidence_add_weight(evidence, 1031000, 2500);
    evidence_add_decision(evidence, 1020000, "hold", "anna", "lunch");
    evidence_add_decision(evidence, 1020000, "resume", "anna", "back");
    struct balancer_counters sample = {.at_ms = 1015000, .generation = UINT64_MAX};
    sample.arms[TRACK_CANARY] = (struct balancer_arm){.total = UINT32_MAX, .retries = 3, .up = 2, .servers = 2};
    assert_true(evidence_add_balancer(evidence, &sample));
    sample.at_ms = 1030000;
    sample.arms[TRACK_CANARY].redispatches = 1;
    assert_true(evidence_add_balancer(evidence, &sample));
    return evidence;
}

/* Writes the evidence as the engine does, but the looks last to first: the order of arrival must not matter. */
static void store_all(struct store *store, const struct evidence *evidence)
{
    struct error err = {0};
    int64_t after = INT64_MIN, times[8];
    char *texts[8];
    size_t count = 0;
    struct look look = {0};
    while (evidence_next_look(evidence, &after, &look)) {
        times[count] = look.at_ms;
        texts[count++] = evidence_look_to_json(evidence, &look);
    }
    look_free(&look);
    assert_int_equal(count, 4);
    while (count-- > 0) {
        assert_true(store_add_look(store, first_id, times[count], texts[count], &err));
        free(texts[count]);
    }
    for (size_t w = evidence->weight_count; w-- > 0;)
        assert_true(
            store_add_weight(store, first_id, evidence->weights[w].from_ms, evidence->weights[w].weight_bp, &err));
    for (size_t d = 0; d < evidence->decision_count; d++)
        assert_true(store_add_decision(store, first_id, &evidence->decisions[d], &err));
    for (size_t b = 0; b < evidence->balancer_count; b++) {
        char *text = evidence_balancer_to_json(&evidence->balancer[b]);
        assert_true(store_add_balancer(store, first_id, evidence->balancer[b].at_ms, text, &err));
        free(text);
    }
}

static void evidence_comes_back_bit_for_bit(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path);
    struct evidence *put = example_evidence();
    store_all(store, put);
    store_close(store);
    store = open_good(place->path);
    struct evidence *got = store_load_evidence(store, first_id, 15000, &err);
    assert_non_null(got);
    char *before = evidence_to_json(put), *after = evidence_to_json(got);
    assert_string_equal(after, before);
    /* What was stored must be readable as a document, too. */
    struct evidence *again = evidence_from_json(after, strlen(after), &err);
    if (!again)
        fail_msg("%s", err.text);
    evidence_free(again);
    free(before);
    free(after);
    evidence_free(put);
    evidence_free(got);

    /* Inside a transaction one sees what one has written. */
    assert_true(store_begin(store, &err));
    assert_true(store_add_weight(store, first_id, 1040000, 0, &err));
    got = store_load_evidence(store, first_id, 15000, &err);
    assert_non_null(got);
    assert_int_equal(got->weight_count, 3);
    evidence_free(got);
    assert_true(store_commit(store, &err));
    store_close(store);
}

static void empty_evidence_is_no_failure(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path);
    struct evidence *evidence = store_load_evidence(store, first_id, 15000, &err);
    assert_non_null(evidence);
    assert_string_equal(evidence->service, "shop");
    assert_string_equal(evidence->rollout, first_id);
    assert_int_equal(evidence->interval_ms, 15000);
    assert_int_equal(evidence->metric_count + evidence->weight_count + evidence->decision_count, 0);
    evidence_free(evidence);
    store_close(store);
}

static void a_balancer_sample_that_comes_late_is_left_out(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path);
    const int64_t times[] = {2000, 2000, 1000, 3000};
    struct evidence *live = evidence_new("shop", 15000);
    for (size_t i = 0; i < 4; i++) {
        struct balancer_counters sample = {.at_ms = times[i], .generation = i + 1};
        evidence_add_balancer(live, &sample);
        char *text = evidence_balancer_to_json(&sample);
        assert_true(store_add_balancer(store, first_id, times[i], text, &err));
        free(text);
    }
    /* A replay has what the judge had while it was live. */
    struct evidence *got = store_load_evidence(store, first_id, 15000, &err);
    assert_non_null(got);
    assert_int_equal(got->balancer_count, live->balancer_count);
    for (size_t i = 0; i < got->balancer_count; i++)
        assert_true(got->balancer[i].at_ms == live->balancer[i].at_ms &&
                    got->balancer[i].generation == live->balancer[i].generation);
    evidence_free(got);
    evidence_free(live);
    assert_true(store_add_balancer(store, first_id, 4000, "{", &err));
    assert_null(store_load_evidence(store, first_id, 15000, &err));
    assert_int_equal(err.code, ERROR_DATA);
    assert_text(&err, "the balancer sample of rollout shop-1");
    store_close(store);
}

static void a_look_is_counted_once(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path);
    assert_true(store_add_look(store, first_id, 1000, "{\"metrics\":{}}", &err));
    assert_false(store_add_look(store, first_id, 1000, "{\"metrics\":{}}", &err));
    assert_int_equal(err.code, ERROR_SOFTWARE);
    assert_text(&err, "looks.at_ms");
    add(store, "cart-1", "cart");
    assert_true(store_add_look(store, "cart-1", 1000, "{\"metrics\":{}}", &err));
    /* Of two weights of one millisecond the last that was read back is true. */
    assert_true(store_add_weight(store, first_id, 1000, 500, &err));
    assert_true(store_add_weight(store, first_id, 1000, 0, &err));
    struct evidence *evidence = store_load_evidence(store, first_id, 15000, &err);
    assert_non_null(evidence);
    assert_int_equal(evidence->weight_count, 1);
    assert_int_equal(evidence->weights[0].weight_bp, 0);
    evidence_free(evidence);
    store_close(store);
}

static void a_look_that_does_not_parse_is_named(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path);
    assert_true(store_add_look(store, first_id, 1767323045000, "{\"metrics\":", &err));
    assert_null(store_load_evidence(store, first_id, 15000, &err));
    assert_int_equal(err.code, ERROR_DATA);
    assert_text(&err, "2026-01-02T03:04:05Z");
    assert_text(&err, first_id);
    assert_text(&err, place->path);
    store_close(store);
}

static void rows_that_cannot_be_are_named(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    store_close(open_with_rollout(place->path));
    const char *const bad[] = {"UPDATE rollouts SET state = 'flying'",
                               "UPDATE rollouts SET state = 'held', cause = 'x'",
                               "UPDATE rollouts SET cause = '', step = -1",
                               "UPDATE rollouts SET step = 1, weight_bp = 10001", "UPDATE rollouts SET weight_bp = -1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        by_hand(place->path, bad[i]);
        struct store *store = open_good(place->path);
        struct rollout got, *list;
        size_t count;
        assert_false(store_load_rollout(store, first_id, &got, &err));
        assert_int_equal(err.code, ERROR_DATA);
        assert_text(&err, first_id);
        assert_false(store_list_rollouts(store, false, &list, &count, &err));
        assert_int_equal(err.code, ERROR_DATA);
        store_close(store);
    }
    by_hand(place->path, "INSERT INTO intents VALUES(1, 20000, 1, NULL); INSERT INTO weights VALUES(1, 1, 20000);"
                         "INSERT INTO audit VALUES(NULL, 1, 1, 'a', 'b', NULL, 20000); DELETE FROM policies");
    struct store *store = open_good(place->path);
    struct intent intent;
    struct audit_entry *entries;
    struct stored_policy policy;
    size_t count;
    assert_false(store_get_intent(store, first_id, &intent, &err));
    assert_null(store_load_evidence(store, first_id, 15000, &err));
    assert_text(&err, "weight");
    assert_false(store_load_audit(store, first_id, &entries, &count, &err));
    assert_text(&err, "audit");
    assert_false(store_load_policy(store, first_id, &policy, &err));
    assert_text(&err, "policy");
    assert_int_equal(err.code, ERROR_DATA);
    store_close(store);
}

static void verdicts_come_in_the_order_of_looks(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path);
    char **texts;
    size_t count;
    assert_true(store_load_verdicts(store, first_id, true, &texts, &count, &err));
    assert_int_equal(count, 0);
    free(texts);
    assert_true(store_add_verdict(store, first_id, 2, 2000, "{\"look\":2}", &err));
    assert_true(store_add_verdict(store, first_id, 10, 9000, "{\"look\":9}", &err));
    assert_true(store_add_verdict(store, first_id, 1, 1000, "{\"look\":1}", &err));
    assert_true(store_add_verdict(store, first_id, 10, 10000, "{\"look\":10}", &err));
    assert_true(store_load_verdicts(store, first_id, false, &texts, &count, &err));
    assert_int_equal(count, 3);
    const char *const expected[] = {"{\"look\":1}", "{\"look\":2}", "{\"look\":10}"};
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(texts[i], expected[i]);
        free(texts[i]);
    }
    free(texts);
    assert_true(store_load_verdicts(store, first_id, true, &texts, &count, &err));
    assert_int_equal(count, 1);
    assert_string_equal(texts[0], "{\"look\":10}");
    free(texts[0]);
    free(texts);
    store_close(store);
}

static void the_audit_trail_keeps_the_order_of_events(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path);
    struct audit_entry put[] = {{5000, (char *)"haldane", (char *)"begun", (char *)"5 %", 500},
                                {4000, (char *)"anna", (char *)"held", NULL, 500}}; /* the clock was set back */
    for (size_t i = 0; i < 2; i++)
        assert_true(store_add_audit(store, first_id, &put[i], &err));
    struct audit_entry *got;
    size_t count;
    assert_true(store_load_audit(store, first_id, &got, &count, &err));
    assert_int_equal(count, 2);
    assert_int_equal(got[0].at_ms, 5000);
    assert_string_equal(got[0].actor, "haldane");
    assert_string_equal(got[0].event, "begun");
    assert_string_equal(got[0].detail, "5 %");
    assert_int_equal(got[0].weight_bp, 500);
    assert_string_equal(got[1].actor, "anna");
    assert_null(got[1].detail);
    audit_entries_free(got, count);

    put[0].actor = NULL;
    assert_false(store_add_audit(store, first_id, &put[0], &err));
    assert_int_equal(err.code, ERROR_SOFTWARE);
    store_close(store);
}

/* --- transactions --- */

static void a_transaction_happens_or_does_not(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path);
    assert_true(store_begin(store, &err));
    assert_true(add_line(store, "one", &err));
    struct rollout second = example_rollout("cart-1", "cart");
    assert_true(try_add(store, &second, &err));
    assert_int_equal(count_rollouts(store, true), 2);
    store_rollback(store);
    assert_int_equal(count_audit(store), 0);
    assert_int_equal(count_rollouts(store, true), 1);

    assert_true(store_begin(store, &err));
    assert_true(add_line(store, "one", &err));
    assert_true(try_add(store, &second, &err));
    assert_true(store_commit(store, &err));
    assert_int_equal(count_audit(store), 1);
    assert_int_equal(count_rollouts(store, true), 2);

    /* What is not committed when the store is closed did not happen. */
    assert_true(store_begin(store, &err));
    assert_true(add_line(store, "two", &err));
    store_close(store);
    store = open_good(place->path);
    assert_int_equal(count_audit(store), 1);
    store_close(store);
}

static void one_failed_write_fails_the_whole_transaction(void **state)
{
    struct place *place = *state;
    struct error err = {0}, later = {0};
    struct store *store = open_with_rollout(place->path);
    assert_true(store_add_look(store, first_id, 1000, "{\"metrics\":{}}", &err));
    for (int silent = 0; silent < 2; silent++) {
        assert_true(store_begin(store, &err));
        assert_true(add_line(store, "before", &err));
        assert_false(store_add_look(store, first_id, 1000, "{\"metrics\":{}}", silent ? NULL : &err));
        assert_false(add_line(store, "after", &later));
        if (!silent)
            assert_string_equal(later.text, err.text);
        assert_false(store_commit(store, &later));
        assert_int_not_equal(later.code, ERROR_NONE);
        assert_int_equal(count_audit(store), 0);
    }
    /* A second live rollout in a transaction, too, leaves nothing of it. */
    assert_true(store_begin(store, &err));
    struct rollout second = example_rollout("shop-2", "shop");
    assert_true(add_line(store, "before", &err));
    assert_false(try_add(store, &second, &err));
    assert_false(store_commit(store, &later));
    assert_int_equal(later.code, ERROR_BUSY);
    assert_int_equal(count_audit(store), 0);
    assert_true(add_line(store, "a new one works", &err));
    assert_int_equal(count_audit(store), 1);
    store_close(store);
}

static void who_waits_too_long_for_a_writer_is_told(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path), *other = open_good(place->path);
    assert_true(store_begin(store, &err));
    assert_true(add_line(store, "mine", &err));
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    assert_false(add_line(other, "theirs", &err));
    clock_gettime(CLOCK_MONOTONIC, &to);
    assert_int_equal(err.code, ERROR_BUSY);
    assert_text(&err, "try again");
    assert_true(to.tv_sec - from.tv_sec >= 4);
    /* Reading never waits for a writer. */
    assert_int_equal(count_audit(other), 0);
    assert_true(store_commit(store, &err));
    assert_true(add_line(other, "theirs", &err));
    assert_int_equal(count_audit(store), 2);
    store_close(other);
    store_close(store);
}

/* --- the lock --- */

/* A child that takes the lock, says so, and stays until it is killed or `go` is closed. */
static pid_t start_holder(struct place *place, int go[2])
{
    int said[2];
    assert_int_equal(pipe(said), 0);
    assert_int_equal(pipe(go), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(go[1]);
        struct store *store = store_open(place->path, NULL);
        char byte = store && store_lock(store, first_id, NULL) ? 'y' : 'n';
        if (write(said[1], &byte, 1) != 1 || read(go[0], &byte, 1) != 0)
            _exit(2);
        _exit(0); /* without unlocking */
    }
    close(said[1]);
    close(go[0]);
    char byte = 0;
    assert_int_equal(read(said[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    close(said[0]);
    return pid;
}

static void one_process_has_a_rollout_and_a_dead_one_has_none(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path);
    add(store, "cart-1", "cart");
    store_close(store); /* not over a fork */
    for (int killed = 0; killed < 2; killed++) {
        int go[2];
        pid_t pid = start_holder(place, go);
        store = open_good(place->path);
        assert_false(store_lock(store, first_id, &err));
        assert_int_equal(err.code, ERROR_BUSY);
        char holder[40];
        snprintf(holder, sizeof holder, "process %d ", (int)pid);
        assert_text(&err, holder);
        assert_text(&err, first_id);
        assert_true(store_lock(store, "cart-1", &err));
        if (killed)
            kill(pid, SIGKILL);
        close(go[1]);
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(killed ? WIFSIGNALED(status) : WIFEXITED(status));
        assert_true(store_lock(store, first_id, &err));
        store_close(store);
    }
}

static void a_lock_is_given_back(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path), *other = open_good(place->path);
    assert_true(store_lock(store, first_id, &err));
    assert_true(store_lock(store, first_id, &err));
    assert_false(store_lock(other, first_id, &err));
    assert_int_equal(err.code, ERROR_BUSY);
    store_unlock(other, first_id); /* not the other's to give */
    assert_false(store_lock(other, first_id, &err));
    store_unlock(store, first_id);
    store_unlock(store, first_id);
    assert_true(store_lock(other, first_id, &err));
    assert_false(store_lock(store, first_id, &err));
    store_close(other);
    assert_true(store_lock(store, first_id, &err));
    store_close(store);
}

static void a_link_leads_to_the_same_lock(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    char link[200];
    snprintf(link, sizeof link, "%s/link.db", place->folder);
    struct store *store = open_with_rollout(place->path);
    assert_int_equal(symlink(place->path, link), 0);
    struct store *other = open_good(link);
    assert_true(store_lock(store, first_id, &err));
    assert_false(store_lock(other, first_id, &err));
    assert_int_equal(err.code, ERROR_BUSY);
    store_close(other);
    store_close(store);
}

static void a_program_that_is_started_does_not_inherit_the_lock(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path);
    assert_true(store_lock(store, first_id, &err));
    int hold[2];
    assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(hold[0], 0);
        execlp("cat", "cat", (char *)NULL);
        _exit(127);
    }
    store_close(store);
    store = open_good(place->path);
    bool taken = false;
    for (int i = 0; i < 200 && !taken; i++) { /* until the child has come to its exec */
        taken = store_lock(store, first_id, &err);
        if (!taken)
            usleep(10000);
    }
    close(hold[1]);
    int status = 0;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    assert_true(taken);
    store_close(store);
}

/* --- who has it, and taking it from one that hangs --- */

static void freeze(pid_t pid)
{
    assert_int_equal(kill(pid, SIGSTOP), 0);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
}

static bool lives(pid_t pid)
{
    int status;
    return waitpid(pid, &status, WNOHANG) == 0;
}

static void kill_and_reap(pid_t pid, int go)
{
    kill(pid, SIGKILL);
    close(go);
    waitpid(pid, NULL, 0);
}

/* Writes a pid where the lock file says who has the rollout of row number 1. */
static void claim(struct place *place, pid_t pid)
{
    char lock[200], text[17];
    snprintf(lock, sizeof lock, "%s-lock", place->path);
    snprintf(text, sizeof text, "%-15d\n", (int)pid);
    int fd = open(lock, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, text, 16, 16), 16);
    close(fd);
}

static void the_holder_is_named_while_it_holds(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    store_close(open_with_rollout(place->path));
    int go[2];
    pid_t pid = start_holder(place, go);
    struct store *store = open_good(place->path);
    assert_int_equal(store_lock_holder(store, first_id), pid);
    kill_and_reap(pid, go[1]);
    assert_int_equal(store_lock_holder(store, first_id), 0); /* its number still stands in the file */
    assert_true(store_lock(store, first_id, &err));
    assert_int_equal(store_lock_holder(store, first_id), getpid());
    store_unlock(store, first_id);
    /* This process is alive, has the lock file open, and stands in it: but it holds nothing. */
    assert_int_equal(store_lock_holder(store, first_id), 0);
    store_close(store);
}

static void a_frozen_holder_is_ended_and_its_rollout_taken(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    store_close(open_with_rollout(place->path));
    int go[2];
    pid_t pid = start_holder(place, go);
    freeze(pid);
    struct store *store = open_good(place->path);
    assert_false(store_lock(store, first_id, &err));
    assert_int_equal(store_lock_holder(store, first_id), pid);
    if (!store_break_lock(store, first_id, &err))
        fail_msg("%s", err.text);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, WNOHANG), pid); /* it has ended when the lock is ours */
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(store_lock_holder(store, first_id), getpid());
    assert_true(store_break_lock(store, first_id, &err)); /* what one has, one keeps */
    struct store *other = open_good(place->path);
    assert_false(store_lock(other, first_id, &err));
    /* Nobody ends himself. */
    assert_false(store_break_lock(other, first_id, &err));
    assert_int_equal(err.code, ERROR_BUSY);
    store_unlock(store, first_id);
    assert_true(store_break_lock(other, first_id, &err)); /* a free one is taken */
    store_close(other);
    store_close(store);
    close(go[1]);
}

/* A process that stands in the lock file, has it open and even holds another rollout's lock is not the holder. */
static void who_is_not_the_holder_is_never_killed(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path);
    add(store, "cart-1", "cart");
    store_close(store);
    int go[2], other_go[2], said[2];
    pid_t holder = start_holder(place, go);
    assert_int_equal(pipe(said), 0);
    assert_int_equal(pipe(other_go), 0);
    pid_t other = fork();
    if (other == 0) {
        close(other_go[1]);
        struct store *mine = store_open(place->path, NULL);
        char byte = mine && store_lock(mine, "cart-1", NULL) ? 'y' : 'n';
        if (write(said[1], &byte, 1) != 1 || read(other_go[0], &byte, 1) != 0)
            _exit(2);
        _exit(0);
    }
    char byte = 0;
    assert_int_equal(read(said[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    store = open_good(place->path);
    const pid_t wrong[] = {other, 0, -1, INT32_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        claim(place, wrong[i]);
        assert_int_equal(store_lock_holder(store, first_id), 0);
        assert_false(store_break_lock(store, first_id, &err));
        assert_int_equal(err.code, ERROR_BUSY);
        assert_text(&err, first_id);
        assert_text(&err, "fuser");
        assert_true(lives(other) && lives(holder));
    }
    claim(place, holder);
    assert_int_equal(store_lock_holder(store, first_id), holder);
    assert_true(store_break_lock(store, first_id, &err));
    assert_true(lives(other));
    kill_and_reap(holder, go[1]);
    kill_and_reap(other, other_go[1]);
    store_close(store);
}

static int break_must_be_refused(struct place *place)
{
    struct error err = {0};
    struct store *store = store_open(place->path, &err);
    bool refused = store && store_lock_holder(store, first_id) == 0 && !store_break_lock(store, first_id, &err) &&
                   err.code == ERROR_BUSY && strstr(err.text, "as its user or root");
    if (!refused)
        fprintf(stderr, "%s\n", err.text);
    return refused ? 0 : 1;
}

static void a_process_of_another_user_is_not_ended(void **state)
{
    struct place *place = *state;
    if (geteuid() != 0)
        return; /* only root can have a process of another user at hand */
    store_close(open_with_rollout(place->path));
    int go[2];
    pid_t pid = start_holder(place, go);
    char lock[200];
    snprintf(lock, sizeof lock, "%s-lock", place->path);
    assert_int_equal(chown(place->folder, 65534, 65534), 0);
    const char *const ends[] = {"", "-lock", "-wal", "-shm"};
    for (size_t i = 0; i < 4; i++) {
        char name[200];
        snprintf(name, sizeof name, "%s%s", place->path, ends[i]);
        assert_int_equal(chown(name, 65534, 65534), 0);
    }
    assert_int_equal(as_plain_user(place, break_must_be_refused), 0);
    assert_true(lives(pid));
    kill_and_reap(pid, go[1]);
}

static void a_store_has_one_guard(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path), *other = open_good(place->path);
    assert_true(store_lock_guard(store, &err));
    assert_true(store_lock_guard(store, &err));
    assert_false(store_lock_guard(other, &err));
    assert_int_equal(err.code, ERROR_BUSY);
    char holder[40];
    snprintf(holder, sizeof holder, "process %d", (int)getpid());
    assert_text(&err, holder);
    /* Nobody else is in its way, and it is in nobody's. */
    assert_true(store_lock(other, first_id, &err));
    store_close(open_good(place->path));
    store_unlock_guard(other); /* not the other's to give */
    assert_false(store_lock_guard(other, &err));
    store_unlock_guard(store);
    assert_true(store_lock_guard(other, &err));
    store_close(other);
    assert_true(store_lock_guard(store, &err));
    store_close(store);
    /* The lock lies far behind the end of the lock file, which stays small. */
    char lock[200];
    struct stat st;
    snprintf(lock, sizeof lock, "%s-lock", place->path);
    assert_int_equal(stat(lock, &st), 0);
    assert_true(st.st_size <= 32);
}

/* --- retention --- */

enum { DAY_MS = 24 * 3600 * 1000 };

static void fill(struct store *store, const char *id, int looks, const char *look)
{
    struct error err = {0};
    struct evidence_decision decision = {1, (char *)"hold", (char *)"anna", (char *)"lunch"};
    struct audit_entry entry = {1, (char *)"anna", (char *)"hold", (char *)"lunch", 500};
    assert_true(store_begin(store, &err));
    for (int64_t at = 1; at <= looks; at++) {
        assert_true(store_add_look(store, id, at, look, &err));
        assert_true(store_add_verdict(store, id, (uint64_t)at, at, "{}", &err));
        assert_true(store_add_weight(store, id, at, 500, &err));
        assert_true(store_add_balancer(store, id, at, "{}", &err));
    }
    assert_true(store_add_decision(store, id, &decision, &err));
    assert_true(store_add_audit(store, id, &entry, &err));
    if (!store_commit(store, &err))
        fail_msg("%s", err.text);
}

/* A rollout with evidence that ended at `ended_ms`; 0: it is alive. */
static void add_ended(struct store *store, const char *id, enum rollout_state end, int64_t ended_ms, int64_t kept_ms,
                      int looks)
{
    struct error err = {0};
    struct policy_setting settings[2];
    struct policy policy = example_policy(settings);
    policy.retention_ms = kept_ms;
    struct rollout rollout = example_rollout(id, id);
    rollout.state = end;
    rollout.ended_ms = ended_ms;
    if (!store_add_rollout(store, &rollout, &policy, &err))
        fail_msg("%s", err.text);
    fill(store, id, looks, "{\"metrics\":{}}");
}

static int64_t rows_of(struct place *place, const char *id)
{
    char sql[600];
    snprintf(sql, sizeof sql,
             "WITH r AS (SELECT seq FROM rollouts WHERE id = '%s') SELECT "
             "(SELECT count(*) FROM looks WHERE rollout IN r) + (SELECT count(*) FROM verdicts WHERE rollout IN r) + "
             "(SELECT count(*) FROM weights WHERE rollout IN r) + (SELECT count(*) FROM balancer WHERE rollout IN r) + "
             "(SELECT count(*) FROM decisions WHERE rollout IN r)",
             id);
    return number_by_hand(place->path, sql);
}

static void assert_pruned(struct store *store, const char *id, int64_t when)
{
    struct error err = {0};
    struct rollout rollout;
    struct stored_policy policy;
    struct audit_entry *entries;
    size_t count;
    assert_true(store_load_rollout(store, id, &rollout, &err));
    assert_int_equal(rollout.pruned_ms, when);
    /* Saving what was loaded before does not undo it. */
    rollout.pruned_ms = 0;
    assert_true(store_save_rollout(store, &rollout, &err));
    rollout_clear(&rollout);
    assert_true(store_load_rollout(store, id, &rollout, &err));
    assert_int_equal(rollout.pruned_ms, when);
    rollout_clear(&rollout);
    assert_true(store_load_policy(store, id, &policy, &err));
    assert_string_equal(policy.source, "version: 1\n# ü\n");
    stored_policy_free(&policy);
    assert_true(store_load_audit(store, id, &entries, &count, &err));
    assert_int_equal(count, 2);
    assert_string_equal(entries[0].event, "hold");
    assert_string_equal(entries[1].event, "pruned");
    assert_int_equal(entries[1].at_ms, when);
    assert_int_equal(entries[1].weight_bp, 500);
    assert_non_null(strstr(entries[1].detail, "30d"));
    audit_entries_free(entries, count);
    struct evidence *evidence = store_load_evidence(store, id, 15000, &err);
    assert_non_null(evidence);
    assert_int_equal(evidence->weight_count + evidence->decision_count + evidence->metric_count, 0);
    evidence_free(evidence);
}

static void evidence_is_removed_after_its_retention_and_the_record_stays(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_good(place->path);
    const int64_t now = 1000LL * DAY_MS, kept = 30LL * DAY_MS;
    const enum rollout_state ends[] = {ROLLOUT_PROMOTED, ROLLOUT_ABORTED, ROLLOUT_EXPIRED, ROLLOUT_SUPERSEDED};
    const char *const old[] = {"promoted", "aborted", "expired", "superseded"};
    for (size_t i = 0; i < 4; i++)
        add_ended(store, old[i], ends[i], now - kept - 1, kept, i == 0 ? 200 : 3);
    add_ended(store, "just", ROLLOUT_PROMOTED, now - kept, kept, 3);
    add_ended(store, "longer", ROLLOUT_PROMOTED, now - 2 * kept, 3 * kept, 3);
    add_ended(store, "forever", ROLLOUT_PROMOTED, 1, INT64_MAX, 3);
    add_ended(store, "alive", ROLLOUT_HELD, 0, kept, 3);
    add_ended(store, "going-back", ROLLOUT_ROLLING_BACK, 1, kept, 3);
    struct pruning done;
    assert_true(store_prune(store, now, INT64_MAX, &done, &err));
    assert_int_equal(done.finished, 4);
    assert_false(done.more);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(rows_of(place, old[i]), 0);
        assert_pruned(store, old[i], now);
    }
    const char *const kept_ids[] = {"just", "longer", "forever", "alive", "going-back"};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(rows_of(place, kept_ids[i]), 4 * 3 + 1);
    assert_true(store_prune(store, now + 1, INT64_MAX, &done, &err));
    assert_int_equal(done.finished, 1);
    assert_true(store_prune(store, now + 1, INT64_MAX, &done, &err));
    assert_int_equal(done.finished, 0);
    assert_int_equal(count_rollouts(store, false), 9);
    store_close(store);
}

static void killed_while_it_prunes_the_next_one_goes_on(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_good(place->path);
    add_ended(store, "old", ROLLOUT_ABORTED, 1, 30LL * DAY_MS, 600);
    store_close(store);
    int64_t rows = rows_of(place, "old");
    pid_t pid = fork();
    if (pid == 0) {
        struct pruning done;
        store_prune(store_open(place->path, NULL), 1000LL * DAY_MS, INT64_MAX, &done, NULL);
        _exit(0);
    }
    while (rows_of(place, "old") == rows)
        usleep(5000);
    kill(pid, SIGKILL);
    int status = 0;
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status));
    assert_true(rows_of(place, "old") > 0);
    store = open_good(place->path);
    struct rollout rollout;
    assert_true(store_load_rollout(store, "old", &rollout, &err));
    assert_int_equal(rollout.pruned_ms, 1000LL * DAY_MS); /* nobody takes the rest for the whole */
    rollout_clear(&rollout);
    struct pruning done;
    assert_true(store_prune(store, 1001LL * DAY_MS, INT64_MAX, &done, &err));
    assert_int_equal(done.finished, 1);
    assert_int_equal(rows_of(place, "old"), 0);
    assert_pruned(store, "old", 1000LL * DAY_MS);
    store_close(store);
}

static double seconds_since(const struct timespec *from)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - from->tv_sec) + (double)(now.tv_nsec - from->tv_nsec) * 1e-9;
}

static void pruning_stops_when_its_time_is_over_and_the_next_one_goes_on(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_good(place->path);
    struct pruning done = {.more = true};
    add_ended(store, "old", ROLLOUT_ABORTED, 1, 30LL * DAY_MS, 300);
    add_ended(store, "older", ROLLOUT_ABORTED, 1, 30LL * DAY_MS, 1);
    size_t finished = 0;
    int64_t left = rows_of(place, "old") + rows_of(place, "older");
    int calls = 0;
    for (; done.more; calls++) {
        assert_true(store_prune(store, 1000LL * DAY_MS + calls, 0, &done, &err));
        int64_t now_left = rows_of(place, "old") + rows_of(place, "older");
        /* One piece: something, and not much. */
        assert_in_range(left - now_left, 1, 100);
        left = now_left;
        finished += done.finished;
    }
    assert_int_equal(left, 0);
    assert_int_equal(finished, 2);
    assert_true(calls > 10);
    assert_pruned(store, "old", 1000LL * DAY_MS);
    /* Who writes is waited for no longer either. */
    add_ended(store, "third", ROLLOUT_ABORTED, 1, 30LL * DAY_MS, 1);
    struct store *writer = open_good(place->path);
    assert_true(store_begin(writer, &err));
    struct timespec from;
    clock_gettime(CLOCK_MONOTONIC, &from);
    assert_false(store_prune(store, 1001LL * DAY_MS, 100, &done, &err));
    assert_true(seconds_since(&from) < 2);
    assert_int_equal(err.code, ERROR_BUSY);
    assert_true(done.more);
    store_rollback(writer);
    store_close(writer);
    assert_true(store_prune(store, 1001LL * DAY_MS, INT64_MAX, &done, &err));
    assert_int_equal(done.finished, 1);
    store_close(store);
}

static void a_writer_hardly_waits_for_pruning_and_the_room_is_used_again(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_good(place->path);
    char *big = mem_alloc(40001, 1);
    memset(big, ' ', 40000);
    memcpy(big, "{\"metrics\":{}}", 14);
    add_ended(store, "old", ROLLOUT_ABORTED, 1, 0, 0);
    fill(store, "old", 300, big);
    add(store, first_id, "shop");
    int64_t pages = number_by_hand(place->path, "PRAGMA page_count");
    store_close(store);
    pid_t pid = fork();
    if (pid == 0) {
        struct pruning done;
        struct store *own = store_open(place->path, NULL);
        _exit(store_prune(own, 1000LL * DAY_MS, INT64_MAX, &done, NULL) && done.finished == 1 ? 0 : 1);
    }
    store = open_good(place->path);
    double longest = 0;
    int lines = 0, status = 0;
    for (; waitpid(pid, &status, WNOHANG) == 0; lines++) {
        struct timespec from;
        clock_gettime(CLOCK_MONOTONIC, &from);
        assert_true(add_line(store, "look", &err));
        double took = seconds_since(&from);
        longest = took > longest ? took : longest;
        usleep(1000);
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(lines >= 5);
    if (longest > 1.5)
        fail_msg("one line waited %g s", longest);
    assert_int_equal(number_by_hand(place->path, "SELECT count(*) FROM looks"), 0);
    fill(store, first_id, 300, big);
    int64_t after = number_by_hand(place->path, "PRAGMA page_count");
    if (after > pages + 40)
        fail_msg("%lld pages after %lld", (long long)after, (long long)pages);
    store_close(store);
    free(big);
}

/* --- crashes --- */

/* Writes transactions of three rows each until it is killed; `inside`: stays in the first one. */
static _Noreturn void write_forever(struct place *place, int said, bool inside)
{
    struct store *store = store_open(place->path, NULL);
    if (!store)
        _exit(1);
    for (int64_t n = 1;; n++) {
        if (!store_begin(store, NULL) || !store_add_look(store, first_id, n, "{\"metrics\":{}}", NULL) ||
            !store_add_verdict(store, first_id, (uint64_t)n, n, "{}", NULL) || !add_line(store, "look", NULL))
            _exit(1);
        if ((inside || n == 3) && write(said, "x", 1) != 1)
            _exit(1);
        if (inside)
            pause();
        if (!store_commit(store, NULL))
            _exit(1);
    }
}

static void kill_a_writer(struct place *place, bool inside, useconds_t after)
{
    int said[2];
    assert_int_equal(pipe(said), 0);
    pid_t pid = fork();
    if (pid == 0)
        write_forever(place, said[1], inside);
    close(said[1]);
    char byte;
    assert_int_equal(read(said[0], &byte, 1), 1);
    close(said[0]);
    usleep(after);
    kill(pid, SIGKILL);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

static void killed_in_a_transaction_leaves_nothing_of_it(void **state)
{
    struct place *place = *state;
    store_close(open_with_rollout(place->path));
    kill_a_writer(place, true, 0);
    struct store *store = open_good(place->path);
    assert_int_equal(count_verdicts(store), 0);
    assert_int_equal(count_audit(store), 0);
    struct error err = {0};
    assert_true(store_add_look(store, first_id, 1, "{\"metrics\":{}}", &err));
    store_close(store);
}

static void killed_at_any_time_leaves_whole_transactions(void **state)
{
    struct place *place = *state;
    for (useconds_t after = 100; after < 30000; after = after * 2 + 700) {
        store_close(open_with_rollout(place->path));
        kill_a_writer(place, false, after);
        struct store *store = open_good(place->path);
        size_t verdicts = count_verdicts(store);
        assert_true(verdicts >= 2); /* two were committed before it said so */
        assert_int_equal(count_audit(store), verdicts);
        /* The looks are those of the transactions, and no more: the next one is free, the last is taken. */
        struct error err = {0};
        assert_false(store_add_look(store, first_id, (int64_t)verdicts, "{\"metrics\":{}}", &err));
        assert_true(store_add_look(store, first_id, (int64_t)verdicts + 1, "{\"metrics\":{}}", &err));
        store_close(store);
        by_hand(place->path, "PRAGMA foreign_keys = OFF; DELETE FROM looks; DELETE FROM verdicts; DELETE FROM audit;"
                             "DELETE FROM settings; DELETE FROM policies; DELETE FROM rollouts");
    }
}

/* --- a disk that is full --- */

/* Files of this process may not grow beyond `bytes`; RLIM_INFINITY lifts it. A write past it fails with EFBIG. */
static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes == RLIM_INFINITY ? limit.rlim_max : bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_full_disk_is_said_and_nothing_is_half_done(void **state)
{
    struct place *place = *state;
    struct error err = {0}, commit = {0};
    signal(SIGXFSZ, SIG_IGN);
    struct store *store = open_with_rollout(place->path);
    char *big = mem_alloc(600001, 1);
    memset(big, ' ', 600000);
    memcpy(big, "{\"metrics\":{}}", 14);

    limit_files(300000);
    bool alone = store_add_look(store, first_id, 1, big, &err);
    bool begun = store_begin(store, &commit);
    bool line = add_line(store, "before", &commit);
    bool verdict = store_add_verdict(store, first_id, 1, 1, big, &commit);
    bool committed = store_commit(store, &commit);
    limit_files(RLIM_INFINITY);

    assert_false(alone);
    assert_int_equal(err.code, ERROR_IO);
    assert_text(&err, place->path);
    assert_text(&err, "make room");
    assert_true(begun && line);
    assert_false(verdict && committed);
    assert_false(committed);
    assert_int_equal(commit.code, ERROR_IO);
    assert_int_equal(count_verdicts(store), 0);
    assert_int_equal(count_audit(store), 0);
    /* Room again: the same handle goes on. */
    assert_true(store_add_look(store, first_id, 1, big, &err));
    store_close(store);
    free(big);
    by_hand(place->path, "PRAGMA integrity_check");
    store = open_good(place->path);
    struct evidence *evidence = store_load_evidence(store, first_id, 15000, &err);
    assert_non_null(evidence);
    evidence_free(evidence);
    store_close(store);
}

static void a_store_that_cannot_be_created_can_be_later(void **state)
{
    struct place *place = *state;
    signal(SIGXFSZ, SIG_IGN);
    const rlim_t sizes[] = {0, 1000, 5000, 20000, 40000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct error err = {0};
        limit_files(sizes[i]);
        struct store *store = store_open(place->path, &err);
        limit_files(RLIM_INFINITY);
        assert_null(store);
        if (err.code != ERROR_IO)
            fail_msg("%d: %s", err.code, err.text);
        assert_text(&err, place->path);
    }
    store_close(open_with_rollout(place->path));
}

/* --- damage --- */

static void damage_is_said_and_never_a_crash(void **state)
{
    struct place *place = *state;
    struct error err = {0};
    struct store *store = open_with_rollout(place->path);
    struct evidence *evidence = example_evidence();
    store_all(store, evidence);
    evidence_free(evidence);
    store_close(store);
    size_t length;
    char *bytes = read_bytes(place->path, &length);
    assert_true(length > 2 * 4096);

    /* The header is whole, all pages behind it are not. */
    char *copy = mem_alloc(length, 1);
    memcpy(copy, bytes, length);
    memset(copy + 4096, 0xA5, length - 4096);
    write_bytes(place->path, copy, length);
    store = store_open(place->path, &err);
    struct rollout *list;
    size_t count;
    if (store)
        assert_false(store_list_rollouts(store, false, &list, &count, &err));
    store_close(store);
    assert_int_equal(err.code, ERROR_IO);
    assert_text(&err, "is damaged");
    assert_text(&err, "restore a backup");

    /* Cut in the middle, as by a copy that was interrupted. */
    write_bytes(place->path, bytes, length / 2);
    err = (struct error){0};
    store = store_open(place->path, &err);
    struct evidence *got = store ? store_load_evidence(store, first_id, 15000, &err) : NULL;
    assert_null(got);
    assert_int_equal(err.code, ERROR_IO);
    store_close(store);

    /* A table is gone. */
    write_bytes(place->path, bytes, length);
    by_hand(place->path, "DROP TABLE audit");
    store = open_good(place->path);
    assert_false(add_line(store, "x", &err));
    assert_int_equal(err.code, ERROR_IO);
    assert_text(&err, "no such table: audit");
    store_close(store);
    free(copy);
    free(bytes);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(creates_folders_and_files_for_the_owner_alone),
        TEST(relative_and_special_names_are_files),
        TEST(is_in_wal_mode_and_marked),
        TEST(newer_schema_is_refused),
        TEST(a_file_that_is_not_ours_is_left_alone),
        TEST(a_folder_or_a_file_on_the_way_is_said),
        TEST(read_only_is_said_with_the_mend),
        TEST(many_may_create_it_at_once),
        TEST(a_store_of_version_1_is_brought_up_to_date),
        TEST(killed_while_it_is_brought_up_to_date_it_is_old_or_new),
        TEST(a_rollout_comes_back_as_it_was_put),
        TEST(every_state_and_cause_is_kept),
        TEST(a_store_that_is_not_there_is_told_and_not_made),
        TEST(an_unknown_rollout_names_the_newest),
        TEST(a_taken_id_gets_a_suffix),
        TEST(a_service_has_one_live_rollout),
        TEST(the_database_itself_refuses_a_second_one),
        TEST(lists_newest_first),
        TEST(the_policy_comes_back_byte_for_byte),
        TEST(an_intent_outlives_the_process_until_cleared),
        TEST(evidence_comes_back_bit_for_bit),
        TEST(empty_evidence_is_no_failure),
        TEST(a_balancer_sample_that_comes_late_is_left_out),
        TEST(a_look_is_counted_once),
        TEST(a_look_that_does_not_parse_is_named),
        TEST(rows_that_cannot_be_are_named),
        TEST(verdicts_come_in_the_order_of_looks),
        TEST(the_audit_trail_keeps_the_order_of_events),
        TEST(a_transaction_happens_or_does_not),
        TEST(one_failed_write_fails_the_whole_transaction),
        TEST(who_waits_too_long_for_a_writer_is_told),
        TEST(one_process_has_a_rollout_and_a_dead_one_has_none),
        TEST(a_lock_is_given_back),
        TEST(a_link_leads_to_the_same_lock),
        TEST(a_program_that_is_started_does_not_inherit_the_lock),
        TEST(the_holder_is_named_while_it_holds),
        TEST(a_frozen_holder_is_ended_and_its_rollout_taken),
        TEST(who_is_not_the_holder_is_never_killed),
        TEST(a_process_of_another_user_is_not_ended),
        TEST(a_store_has_one_guard),
        TEST(evidence_is_removed_after_its_retention_and_the_record_stays),
        TEST(killed_while_it_prunes_the_next_one_goes_on),
        TEST(pruning_stops_when_its_time_is_over_and_the_next_one_goes_on),
        TEST(a_writer_hardly_waits_for_pruning_and_the_room_is_used_again),
        TEST(killed_in_a_transaction_leaves_nothing_of_it),
        TEST(killed_at_any_time_leaves_whole_transactions),
        TEST(a_full_disk_is_said_and_nothing_is_half_done),
        TEST(a_store_that_cannot_be_created_can_be_later),
        TEST(damage_is_said_and_never_a_crash),
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
