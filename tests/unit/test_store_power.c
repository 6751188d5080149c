/*
 * What must hold for a user when the power goes: after it comes back the store shows exactly what had been committed,
 * never a part of a transaction, and what was about to be done to the balancer stands there whenever it was done.
 *
 * The disk is a file system of SQLite's (VFS) in memory. What was written and not yet synced is kept apart. When the
 * power is cut, a random part of it is lost, torn at sectors of 512 bytes; so are the ends and the removal of files.
 * Power is cut at a random write, in a life of a rollout that is always the same.
 */
#include "analyzer/store/store.h"
#include "base/memory.h"
#include "tests/unit/store_version_1.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* --- a disk that can lose its power --- */

enum { SECTOR = 512, FILES = 6, REGIONS = 64, SYNCS = 256 };

enum loss { LOSE_ALL, LOSE_NOTHING, LOSE_SOME, LOSSES };

/* A write that was not synced; `bytes` NULL: a new end of the file, at `offset`. */
struct pending {
    uint8_t *bytes;
    size_t offset, length;
};

struct content {
    uint8_t *bytes;
    size_t length, room;
    bool exists;
};

struct disk_file {
    char *name;
    struct content safe, seen; /* what a power cut leaves, and what is read while there is power */
    bool replaced;             /* the safe one was removed, but its folder not yet synced */
    struct pending *pending;
    size_t pending_count, pending_room;
};

static struct {
    struct disk_file files[FILES];
    void *regions[REGIONS]; /* the shared memory of the one connection */
    uint64_t random;
    long calls, cut_at; /* writing calls so far, and the one that the power goes at; -1: never */
    long syncs[SYNCS];  /* which of the calls were syncs */
    size_t sync_count;
    enum loss loss;
    bool off, lies; /* lies: says that it synced, and did not */
} disk;

static uint64_t draw(void)
{
    disk.random ^= disk.random << 13;
    disk.random ^= disk.random >> 7;
    disk.random ^= disk.random << 17;
    return disk.random;
}

static void seed(uint64_t number)
{
    disk.random = (number + 1) * 0x9E3779B97F4A7C15u;
    for (int i = 0; i < 8; i++)
        draw();
}

static void content_resize(struct content *content, size_t length)
{
    if (length > content->room) {
        content->room = length * 2;
        content->bytes = mem_resize(content->bytes, content->room, 1);
    }
    if (length > content->length)
        memset(content->bytes + content->length, 0, length - content->length);
    content->length = length;
}

static void content_write(struct content *content, size_t offset, const uint8_t *bytes, size_t length)
{
    if (offset + length > content->length)
        content_resize(content, offset + length);
    memcpy(content->bytes + offset, bytes, length);
}

static void content_copy(struct content *to, const struct content *from)
{
    content_resize(to, from->length);
    if (from->length)
        memcpy(to->bytes, from->bytes, from->length);
    to->exists = from->exists;
}

static void drop_pending(struct disk_file *file)
{
    for (size_t i = 0; i < file->pending_count; i++)
        free(file->pending[i].bytes);
    file->pending_count = 0;
}

static void add_pending(struct disk_file *file, const uint8_t *bytes, size_t offset, size_t length)
{
    file->pending = mem_grow(file->pending, file->pending_count, &file->pending_room, sizeof *file->pending);
    struct pending *added = &file->pending[file->pending_count++];
    *added = (struct pending){.offset = offset, .length = length};
    if (bytes) {
        added->bytes = mem_alloc(length, 1);
        memcpy(added->bytes, bytes, length);
    }
}

static struct disk_file *find_file(const char *name)
{
    struct disk_file *empty = NULL;
    for (size_t i = 0; i < FILES; i++) {
        if (disk.files[i].name && strcmp(disk.files[i].name, name) == 0)
            return &disk.files[i];
        if (!disk.files[i].name && !empty)
            empty = &disk.files[i];
    }
    assert_non_null(empty);
    empty->name = mem_strdup(name);
    return empty;
}

static void disk_wipe(void)
{
    for (size_t i = 0; i < FILES; i++) {
        struct disk_file *file = &disk.files[i];
        drop_pending(file);
        free(file->pending);
        free(file->name);
        free(file->safe.bytes);
        free(file->seen.bytes);
        *file = (struct disk_file){0};
    }
    disk.off = disk.lies = false;
    disk.cut_at = -1;
    disk.calls = 0;
    disk.sync_count = 0;
}

/* False if the power is off, or goes now. */
static bool powered(void)
{
    if (!disk.off && disk.cut_at >= 0 && disk.calls == disk.cut_at)
        disk.off = true;
    disk.calls++;
    return !disk.off;
}

static void arrive_whole(struct content *content, const struct pending *write)
{
    if (write->bytes)
        content_write(content, write->offset, write->bytes, write->length);
    else
        content_resize(content, write->offset);
}

/* A part of a write arrives: whole sectors of it, each or not. */
static void arrive_torn(struct content *content, const struct pending *write)
{
    for (size_t done = 0; done < write->length;) {
        size_t end = ((write->offset + done) / SECTOR + 1) * SECTOR - write->offset;
        size_t length = (end < write->length ? end : write->length) - done;
        if (draw() % 2)
            content_write(content, write->offset + done, write->bytes + done, length);
        done += length;
    }
}

/* None, all or a part of it. */
static void arrive_perhaps(struct content *content, const struct pending *write)
{
    uint64_t fate = draw() % 4;
    if (fate == 0 && write->bytes)
        arrive_torn(content, write);
    else if (fate == 1)
        arrive_whole(content, write);
}

static void lose(struct disk_file *file)
{
    bool kept = disk.loss == LOSE_NOTHING || (disk.loss == LOSE_SOME && draw() % 2);
    if (file->replaced && kept)
        content_resize(&file->safe, 0);
    if (file->replaced || !file->safe.exists)
        file->safe.exists = kept ? file->seen.exists : file->safe.exists;
    bool same = !file->replaced || kept; /* otherwise the new file of that name is gone, and its writes with it */
    for (size_t i = 0; same && file->safe.exists && i < file->pending_count; i++) {
        if (disk.loss == LOSE_NOTHING)
            arrive_whole(&file->safe, &file->pending[i]);
        else if (disk.loss == LOSE_SOME)
            arrive_perhaps(&file->safe, &file->pending[i]);
    }
}

/* The power comes back: what the disk has kept is all there is. */
static void power_returns(void)
{
    for (size_t i = 0; i < FILES; i++) {
        struct disk_file *file = &disk.files[i];
        if (!file->name)
            continue;
        lose(file);
        drop_pending(file);
        file->replaced = false;
        content_copy(&file->seen, &file->safe);
    }
    disk.off = false;
    disk.cut_at = -1;
}

/* What the disk holds, put aside and brought back: looking at it must not change it. */
static void disk_save(struct content copies[FILES])
{
    for (size_t i = 0; i < FILES; i++) {
        copies[i] = (struct content){0};
        content_copy(&copies[i], &disk.files[i].seen);
    }
}

static void disk_bring_back(const struct content copies[FILES])
{
    for (size_t i = 0; i < FILES; i++) {
        struct disk_file *file = &disk.files[i];
        drop_pending(file);
        file->replaced = false;
        content_copy(&file->seen, &copies[i]);
        content_copy(&file->safe, &copies[i]);
    }
}

static void free_contents(struct content copies[FILES])
{
    for (size_t i = 0; i < FILES; i++)
        free(copies[i].bytes);
}

/* --- as SQLite sees it --- */

struct handle {
    sqlite3_file base;
    struct disk_file *file;
    bool folder; /* its next sync is one of the folder, too: a log or journal that was opened to be created */
};

static int on_close(sqlite3_file *base)
{
    (void)base;
    return SQLITE_OK;
}

static int on_read(sqlite3_file *base, void *bytes, int wanted, sqlite3_int64 offset)
{
    const struct content *seen = &((struct handle *)base)->file->seen;
    if (disk.off)
        return SQLITE_IOERR_READ;
    size_t from = (size_t)offset, length = (size_t)wanted;
    size_t there = from < seen->length ? seen->length - from : 0;
    if (there >= length) {
        memcpy(bytes, seen->bytes + from, length);
        return SQLITE_OK;
    }
    memset(bytes, 0, length);
    if (there)
        memcpy(bytes, seen->bytes + from, there);
    return SQLITE_IOERR_SHORT_READ;
}

static int on_write(sqlite3_file *base, const void *bytes, int length, sqlite3_int64 offset)
{
    struct disk_file *file = ((struct handle *)base)->file;
    bool was_off = disk.off, on = powered();
    if (!was_off)
        add_pending(file, bytes, (size_t)offset, (size_t)length);
    if (!on)
        return SQLITE_IOERR_WRITE;
    content_write(&file->seen, (size_t)offset, bytes, (size_t)length);
    return SQLITE_OK;
}

static int on_truncate(sqlite3_file *base, sqlite3_int64 length)
{
    struct disk_file *file = ((struct handle *)base)->file;
    bool was_off = disk.off, on = powered();
    if (!was_off)
        add_pending(file, NULL, (size_t)length, 0);
    if (!on)
        return SQLITE_IOERR_TRUNCATE;
    content_resize(&file->seen, (size_t)length);
    return SQLITE_OK;
}

/* Which files there are is now on the disk. What is in them is not. */
static void sync_folder(void)
{
    for (size_t i = 0; i < FILES; i++) {
        if (disk.files[i].replaced)
            content_resize(&disk.files[i].safe, 0);
        disk.files[i].replaced = false;
        disk.files[i].safe.exists = disk.files[i].seen.exists;
    }
}

static int on_sync(sqlite3_file *base, int flags)
{
    struct handle *handle = (struct handle *)base;
    (void)flags;
    if (disk.sync_count < SYNCS)
        disk.syncs[disk.sync_count++] = disk.calls;
    if (!powered())
        return SQLITE_IOERR_FSYNC;
    if (disk.lies)
        return SQLITE_OK;
    if (handle->folder)
        sync_folder();
    handle->folder = false;
    assert_false(handle->file->replaced);
    for (size_t i = 0; i < handle->file->pending_count; i++)
        arrive_whole(&handle->file->safe, &handle->file->pending[i]);
    assert_int_equal(handle->file->safe.length, handle->file->seen.length);
    drop_pending(handle->file);
    return SQLITE_OK;
}

static int on_size(sqlite3_file *base, sqlite3_int64 *length)
{
    *length = (sqlite3_int64)((struct handle *)base)->file->seen.length;
    return SQLITE_OK;
}

static int on_lock(sqlite3_file *base, int lock)
{
    (void)base;
    (void)lock;
    return SQLITE_OK; /* there is one connection at a time */
}

static int on_reserved(sqlite3_file *base, int *reserved)
{
    (void)base;
    *reserved = 0;
    return SQLITE_OK;
}

static int on_control(sqlite3_file *base, int what, void *argument)
{
    (void)base;
    (void)what;
    (void)argument;
    return SQLITE_NOTFOUND;
}

static int on_sector_size(sqlite3_file *base)
{
    (void)base;
    return 4096; /* as the file system of Linux says */
}

static int on_characteristics(sqlite3_file *base)
{
    (void)base;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE; /* as the file system of Linux says */
}

static int on_region(sqlite3_file *base, int number, int size, int extend, void volatile **region)
{
    (void)base;
    assert_true(number < REGIONS);
    if (!disk.regions[number] && extend)
        disk.regions[number] = mem_alloc((size_t)size, 1);
    *region = disk.regions[number];
    return SQLITE_OK;
}

static int on_region_lock(sqlite3_file *base, int offset, int count, int flags)
{
    (void)base;
    (void)offset;
    (void)count;
    (void)flags;
    return SQLITE_OK;
}

static void on_barrier(sqlite3_file *base)
{
    (void)base;
}

static int on_unmap(sqlite3_file *base, int remove)
{
    (void)base;
    (void)remove;
    for (size_t i = 0; i < REGIONS; i++) {
        free(disk.regions[i]);
        disk.regions[i] = NULL;
    }
    return SQLITE_OK;
}

static const sqlite3_io_methods methods = {.iVersion = 2,
                                           .xClose = on_close,
                                           .xRead = on_read,
                                           .xWrite = on_write,
                                           .xTruncate = on_truncate,
                                           .xSync = on_sync,
                                           .xFileSize = on_size,
                                           .xLock = on_lock,
                                           .xUnlock = on_lock,
                                           .xCheckReservedLock = on_reserved,
                                           .xFileControl = on_control,
                                           .xSectorSize = on_sector_size,
                                           .xDeviceCharacteristics = on_characteristics,
                                           .xShmMap = on_region,
                                           .xShmLock = on_region_lock,
                                           .xShmBarrier = on_barrier,
                                           .xShmUnmap = on_unmap};

static int on_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags, int *got)
{
    (void)vfs;
    struct handle *handle = (struct handle *)base;
    handle->base.pMethods = NULL;
    if (disk.off)
        return SQLITE_IOERR;
    handle->file = find_file(name ? name : "(temporary)");
    if (!name)
        content_resize(&handle->file->seen, 0);
    if (!handle->file->seen.exists && (flags & SQLITE_OPEN_MAIN_DB) == 0 && (flags & SQLITE_OPEN_CREATE) == 0)
        return SQLITE_CANTOPEN;
    handle->file->seen.exists = true;
    handle->folder = (flags & SQLITE_OPEN_CREATE) && (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL));
    handle->base.pMethods = &methods;
    if (got)
        *got = flags;
    return SQLITE_OK;
}

static int on_delete(sqlite3_vfs *vfs, const char *name, int folder_too)
{
    (void)vfs;
    struct disk_file *file = find_file(name);
    if (!powered())
        return SQLITE_IOERR_DELETE;
    if (!file->seen.exists)
        return SQLITE_IOERR_DELETE_NOENT;
    drop_pending(file);
    content_resize(&file->seen, 0);
    file->seen.exists = false;
    file->replaced = true;
    if (folder_too && !disk.lies)
        sync_folder();
    return SQLITE_OK;
}

static int on_access(sqlite3_vfs *vfs, const char *name, int flags, int *yes)
{
    (void)vfs;
    *yes = find_file(name)->seen.exists && (flags != SQLITE_ACCESS_EXISTS || find_file(name)->seen.length > 0);
    return SQLITE_OK;
}

static sqlite3_vfs vfs;

static void register_disk(void)
{
    vfs = *sqlite3_vfs_find(NULL);
    vfs.zName = "power";
    vfs.szOsFile = sizeof(struct handle);
    vfs.xOpen = on_open;
    vfs.xDelete = on_delete;
    vfs.xAccess = on_access;
    assert_int_equal(sqlite3_vfs_register(&vfs, 1), SQLITE_OK);
}

/* --- a folder for the lock file, which is the kernel's --- */

static char folder[128], path[160];

static int make_folder(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.80s/haldane-power-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/haldane.db", folder);
    register_disk();
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char lock[200];
    snprintf(lock, sizeof lock, "%s-lock", path);
    disk_wipe();
    remove(path);
    remove(lock);
    return rmdir(folder);
}

/* --- the life of a rollout --- */

static const char id[] = "shop-1";

enum { MOVES = 3, LOOKS = 8, PER_MOVE = 2 + LOOKS, UNITS = 1 + MOVES * PER_MOVE + 1, LOOK_BYTES = 40000 };

/* One look is so large that SQLite moves its log to the database (a checkpoint) while the process lives. */
enum { LARGE_UNIT = 14, LARGE_BYTES = 4300000 };

/* The balancer, which has its own power. */
struct world {
    uint32_t weight_bp;
    int done; /* transactions that were committed */
};

static bool unit_begin(struct store *store)
{
    struct policy_setting setting = {(char *)"PORT", (char *)"80"};
    struct policy policy = {.source = (char *)"version: 1\n", .settings = &setting, .setting_count = 1};
    struct rollout rollout = {.service = (char *)"shop", .begun_ms = 1};
    memcpy(rollout.id, id, sizeof id);
    return store_add_rollout(store, &rollout, &policy, NULL);
}

static bool save(struct store *store, int unit, uint32_t weight_bp, enum rollout_state state)
{
    struct rollout rollout = {.service = (char *)"shop", .state = state, .weight_bp = weight_bp, .begun_ms = 1};
    struct audit_entry entry = {unit, (char *)"haldane", (char *)"unit", NULL, weight_bp};
    memcpy(rollout.id, id, sizeof id);
    rollout.last_look_ms = unit;
    rollout.epoch = UINT64_MAX - (uint64_t)unit;
    rollout.ended_ms = state == ROLLOUT_PROMOTED ? unit : 0;
    return store_save_rollout(store, &rollout, NULL) && store_add_audit(store, id, &entry, NULL);
}

static bool unit_look(struct store *store, int unit, uint32_t weight_bp)
{
    size_t length = unit == LARGE_UNIT ? LARGE_BYTES : LOOK_BYTES;
    char *look = mem_alloc(length + 1, 1);
    memset(look, 'a' + unit % 26, length);
    bool ok = store_add_look(store, id, unit, look, NULL) &&
              store_add_verdict(store, id, (uint64_t)unit, unit, "{}", NULL) &&
              store_add_balancer(store, id, unit, "{}", NULL) && save(store, unit, weight_bp, ROLLOUT_STEPPING);
    free(look);
    return ok;
}

static bool unit_moved(struct store *store, int unit, uint32_t weight_bp)
{
    return store_add_weight(store, id, unit, weight_bp, NULL) && store_clear_intent(store, id, NULL) &&
           save(store, unit, weight_bp, ROLLOUT_STEPPING);
}

static uint32_t weight_of(int unit)
{
    static const uint32_t weights[MOVES] = {500, 2500, 10000};
    return weights[(unit - 1) / PER_MOVE];
}

/* One transaction of the life. */
static bool write_unit(struct store *store, int unit)
{
    if (unit == 0)
        return unit_begin(store);
    if (unit == UNITS - 1)
        return store_begin(store, NULL) && (save(store, unit, 10000, ROLLOUT_PROMOTED), store_commit(store, NULL));
    struct intent intent = {true, weight_of(unit), unit, (char *)"step"};
    int place = (unit - 1) % PER_MOVE;
    if (place == 0)
        return store_put_intent(store, id, &intent, NULL);
    if (!store_begin(store, NULL))
        return false;
    if (place == 1)
        unit_moved(store, unit, weight_of(unit));
    else
        unit_look(store, unit, weight_of(unit));
    return store_commit(store, NULL); /* it fails if one of them failed */
}

/* Goes on from `world->done`; false when the power went. In the middle of each step the process ends and starts. */
static bool live(struct world *world)
{
    struct store *store = store_open(path, NULL);
    /* Power that went in the close after the last transaction is a cut like any other. */
    while (store && world->done < UNITS) {
        int unit = world->done;
        if (unit > 0 && unit < UNITS - 1 && (unit - 1) % PER_MOVE == 1)
            world->weight_bp = weight_of(unit); /* the intent is written: now the driver is called */
        if (!write_unit(store, unit))
            break;
        world->done++;
        if (unit % PER_MOVE == 6) {
            store_close(store);
            store = store_open(path, NULL);
        }
    }
    store_close(store);
    return world->done == UNITS && !disk.off;
}

/* --- looking at what is there --- */

static void hash_add(uint64_t *hash, const void *bytes, size_t length)
{
    const uint8_t *at = bytes;
    while (length > 0) {
        uint64_t word = length;
        size_t part = length < sizeof word ? length : sizeof word;
        memcpy(&word, at, part);
        *hash = (*hash ^ word) * 0x9E3779B97F4A7C15u;
        *hash ^= *hash >> 29;
        at += part;
        length -= part;
    }
}

/* All rows of a query into the hash; false if it fails. */
static bool hash_rows(sqlite3 *db, const char *sql, uint64_t *hash)
{
    sqlite3_stmt *stmt;
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
        return false;
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW)
        for (int c = 0; c < sqlite3_column_count(stmt); c++) {
            const char *text = (const char *)sqlite3_column_text(stmt, c);
            hash_add(hash, text ? text : "\1", strlen(text ? text : "\1") + 1);
        }
    sqlite3_finalize(stmt);
    return rc == SQLITE_DONE;
}

enum { NOT_CREATED = 0 };

/* Everything that is in the store, as one number; NOT_CREATED if it has no tables. False if it cannot be read. */
static bool fingerprint(uint64_t *hash)
{
    static const char *const tables[] = {"rollouts", "policies",  "settings", "intents", "looks",
                                         "weights",  "decisions", "verdicts", "audit"};
    sqlite3 *db;
    uint64_t tables_hash = 0, ok_hash = 0, expected_ok = 0;
    *hash = 0xCBF29CE484222325u;
    bool ok = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK;
    ok = ok && hash_rows(db, "PRAGMA integrity_check", &ok_hash);
    hash_add(&expected_ok, "ok", 3);
    ok = ok && ok_hash == expected_ok;
    ok = ok && hash_rows(db, "SELECT name FROM sqlite_schema", &tables_hash) &&
         hash_rows(db, "SELECT type, name, sql FROM sqlite_schema ORDER BY name", hash) &&
         hash_rows(db, "PRAGMA user_version", hash) && hash_rows(db, "PRAGMA application_id", hash);
    for (size_t i = 0; ok && tables_hash && i < sizeof tables / sizeof *tables; i++) {
        char sql[64];
        snprintf(sql, sizeof sql, "SELECT * FROM %s", tables[i]);
        ok = hash_rows(db, sql, hash);
    }
    ok = ok && (!tables_hash || hash_rows(db, "SELECT name FROM sqlite_schema WHERE name = 'balancer'", hash));
    if (ok && !tables_hash)
        *hash = NOT_CREATED;
    sqlite3_close(db);
    return ok;
}

/* From a life without a power cut: the fingerprints after each number of transactions, and what was written when. */
static uint64_t expected[UNITS + 1];
static long calls_of_life, syncs_of_life[SYNCS];
static size_t sync_count_of_life;

static void look_at(uint64_t *hash)
{
    struct content copies[FILES];
    disk_save(copies);
    assert_true(fingerprint(hash));
    disk_bring_back(copies);
    free_contents(copies);
}

static void live_in_peace(void)
{
    disk_wipe();
    struct store *store = store_open(path, NULL);
    assert_non_null(store);
    store_close(store);
    look_at(&expected[0]);
    for (int unit = 0; unit < UNITS; unit++) {
        store = store_open(path, NULL);
        assert_true(store && write_unit(store, unit));
        store_close(store);
        look_at(&expected[unit + 1]);
        assert_true(expected[unit + 1] != expected[unit]);
    }
    disk_wipe();
    struct world world = {0};
    assert_true(live(&world));
    calls_of_life = disk.calls;
    sync_count_of_life = disk.sync_count;
    memcpy(syncs_of_life, disk.syncs, sizeof syncs_of_life);
    assert_true(sync_count_of_life > 0 && sync_count_of_life < SYNCS);
    uint64_t hash;
    look_at(&hash);
    assert_true(hash == expected[UNITS]);
}

/* What the balancer has is in the record, or is what the intent says. */
static bool intent_is_there(const struct world *world)
{
    struct store *store = store_open(path, NULL);
    struct rollout rollout = {0};
    struct intent intent = {0};
    bool ok = store && (world->done == 0 ||
                        (store_load_rollout(store, id, &rollout, NULL) && store_get_intent(store, id, &intent, NULL)));
    ok = ok && (rollout.weight_bp == world->weight_bp || (intent.pending && intent.weight_bp == world->weight_bp));
    rollout_clear(&rollout);
    intent_clear(&intent);
    store_close(store);
    return ok;
}

/* After the power came back: NULL if all is as it was promised. Sets `world->done` to what is there. */
static const char *complaint(struct world *world)
{
    struct content copies[FILES];
    uint64_t hash = 0;
    disk_save(copies);
    bool readable = fingerprint(&hash);
    disk_bring_back(copies);
    bool intent = readable && intent_is_there(world);
    disk_bring_back(copies);
    free_contents(copies);
    if (!readable)
        return "it cannot be read, or is damaged";
    if (hash == NOT_CREATED)
        return world->done == 0 ? NULL : "it is gone";
    bool same = hash == expected[world->done];
    bool one_more = world->done < UNITS && hash == expected[world->done + 1];
    if (!same && !one_more)
        return "it is neither what was committed, nor that and the whole of the transaction in progress";
    if (!intent)
        return "the balancer was moved, and nothing says so";
    world->done += one_more;
    return NULL;
}

/* Any writing call, or one around a sync, where what is promised changes. */
static long draw_cut(void)
{
    if (draw() % 2)
        return (long)(draw() % (uint64_t)calls_of_life);
    long cut = syncs_of_life[draw() % sync_count_of_life] + (long)(draw() % 5) - 2;
    return cut < 0 ? 0 : cut;
}

static void what_was_committed_is_there_and_nothing_by_halves(void **state)
{
    (void)state;
    live_in_peace();
    int cuts = 0;
    for (uint64_t number = 0; number < 150; number++) {
        disk_wipe();
        seed(number);
        struct world world = {0};
        for (int times = 0; times < 2; times++) {
            disk.loss = (enum loss)(draw() % LOSSES);
            disk.calls = 0;
            disk.cut_at = draw_cut();
            if (live(&world))
                break;
            assert_true(disk.off);
            cuts++;
            power_returns();
            const char *what = complaint(&world);
            if (what)
                fail_msg("number %d, cut %d at call %ld, after %d transactions: %s", (int)number, times, disk.calls,
                         world.done, what);
        }
        /* And it goes on from there to the end. */
        disk.cut_at = -1;
        assert_true(live(&world));
        uint64_t hash;
        look_at(&hash);
        assert_true(hash == expected[UNITS]);
    }
    print_message("# %d power cuts in lives of %ld writing calls\n", cuts, calls_of_life);
    assert_true(cuts >= 200);
}

/* Otherwise the test above might see nothing because there is nothing to be seen. */
static void a_disk_that_lies_about_syncing_is_found_out(void **state)
{
    (void)state;
    int found = 0;
    for (uint64_t number = 0; number < 30; number++) {
        disk_wipe();
        seed(number);
        struct world world = {0};
        disk.lies = true;
        disk.loss = number % 2 ? LOSE_ALL : LOSE_SOME;
        disk.cut_at = calls_of_life / 4 + (long)(draw() % (uint64_t)(calls_of_life / 2));
        assert_false(live(&world));
        disk.lies = false;
        power_returns();
        found += complaint(&world) != NULL;
    }
    assert_true(found >= 15);
}

/* Power is cut at every write of the migration, with each kind of loss. */
static void an_older_store_is_old_or_new_after_a_cut(void **state)
{
    (void)state;
    disk_wipe();
    sqlite3 *db;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, version_1, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    struct content old[FILES];
    disk_save(old);
    uint64_t before, after, hash;
    assert_true(fingerprint(&before));
    store_close(store_open(path, NULL));
    assert_true(fingerprint(&after));
    assert_true(before != after);
    int were_old = 0, were_new = 0;
    for (int loss = 0; loss < LOSSES; loss++) {
        bool through = false;
        for (long cut = 0; !through; cut++) {
            disk_bring_back(old);
            seed((uint64_t)cut);
            disk.loss = (enum loss)loss;
            disk.calls = 0;
            disk.cut_at = cut;
            struct store *store = store_open(path, NULL);
            store_close(store);
            through = !disk.off;
            power_returns();
            assert_true(fingerprint(&hash));
            assert_true(hash == before || hash == after);
            assert_true(!store || hash == after);
            were_old += hash == before;
            were_new += hash == after;
        }
    }
    assert_true(were_old > 0 && were_new > LOSSES);
    free_contents(old);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_committed_is_there_and_nothing_by_halves),
        cmocka_unit_test(a_disk_that_lies_about_syncing_is_found_out),
        cmocka_unit_test(an_older_store_is_old_or_new_after_a_cut),
    };
    return cmocka_run_group_tests_name("store and power", tests, make_folder, remove_folder);
}
