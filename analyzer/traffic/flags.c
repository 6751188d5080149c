/*
 * A share without a reload. The server sorts each request into one of its buckets, by a configuration that never
 * changes, and looks whether a file of the bucket's name is there: if so, the request is the canary's. So a share is a
 * number of empty files, and a new share is a new folder of them that comes into force at once, by renaming the link
 * `current`. What is missing or broken reads as "no file", which is stable.
 *
 * The server tells nothing of itself. The folder is what it looks at, and so is what we read back; with a `probe` the
 * server also shows, by serving the folder's file `share`, that it is this folder which it looks at.
 */
#include "analyzer/traffic/durable.h"
#include "analyzer/traffic/ops.h"
#include "analyzer/traffic/probe.h"
#include "analyzer/traffic/weights.h"
#include "base/memory.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PROBE_PATIENCE_MS = 1000, PROBE_PAUSE_MS = 50, NAME_ROOM = 32 };

/* What the two servers sort requests into. */
struct dialect {
    const char *name;
    uint32_t buckets;
    bool hex; /* three hex digits, else two decimal ones */
};

struct flags {
    const struct dialect *dialect;
    char *folder, *probe;
};

/* What is in force: how many files of buckets `current` has, and what the page beside them says. */
struct view {
    uint32_t count;
    bool has_page;
    struct share_page page;
    char link[PATH_MAX]; /* where `current` points to; "" if it is no link */
};

/* ---- open ---- */

static void *flags_open(const struct dialect *dialect, const struct policy_balancer *balancer, struct error *err)
{
    if (!balancer->flags || !*balancer->flags) {
        error_set(err, ERROR_DATA, "traffic.flags is missing: the folder that the server looks for flag files in");
        return NULL;
    }
    struct flags *f = mem_alloc(1, sizeof *f);
    f->dialect = dialect;
    f->folder = mem_strdup(balancer->flags);
    f->probe = mem_strdup(balancer->probe);
    return f;
}

static void *open_nginx(const struct policy_balancer *balancer, struct error *err)
{
    static const struct dialect dialect = {"nginx", 100, false};
    return flags_open(&dialect, balancer, err);
}

static void *open_caddy(const struct policy_balancer *balancer, struct error *err)
{
    static const struct dialect dialect = {"Caddy", 4096, true};
    return flags_open(&dialect, balancer, err);
}

static void flags_close(void *self)
{
    struct flags *f = self;
    free(f->folder);
    free(f->probe);
    free(f);
}

/* ---- buckets ---- */

static const char *bucket_name(const struct dialect *dialect, uint32_t bucket, char name[NAME_ROOM])
{
    snprintf(name, NAME_ROOM, dialect->hex ? "%03x" : "%02u", bucket);
    return name;
}

static bool is_bucket(const struct dialect *dialect, const char *name)
{
    size_t length = dialect->hex ? 3 : 2;
    return strlen(name) == length && strspn(name, dialect->hex ? "0123456789abcdef" : "0123456789") == length;
}

static double share_of(const struct dialect *dialect, uint32_t count)
{
    return (double)count * BASIS_POINTS / dialect->buckets;
}

/* The number of buckets that comes nearest, but none only for 0 and all only for 10000. */
static uint32_t nearest_count(const struct dialect *dialect, uint32_t share_bp)
{
    if (share_bp == 0 || share_bp == BASIS_POINTS)
        return share_bp ? dialect->buckets : 0;
    uint32_t count = (uint32_t)lround((double)share_bp * dialect->buckets / BASIS_POINTS);
    return count < 1 ? 1 : count >= dialect->buckets ? dialect->buckets - 1 : count;
}

static enum driver_status count_for(const struct flags *f, uint32_t share_bp, uint32_t *count, struct error *err)
{
    *count = nearest_count(f->dialect, share_bp);
    double share = share_of(f->dialect, *count);
    if (fabs(share - share_bp) <= weights_tolerance(share_bp))
        return DRIVER_OK;
    return driver_fail(err, DRIVER_REFUSED,
                       "%s sorts requests into %u buckets, so %.4g %% is not possible; the nearest share is %.4g %%",
                       f->dialect->name, f->dialect->buckets, share_bp / 100.0, share / 100);
}

static enum driver_status flags_can_give(const void *self, uint32_t share_bp, struct error *err)
{
    uint32_t count;
    return count_for(self, share_bp, &count, err);
}

/* ---- looking ---- */

static enum driver_status open_folder(const struct flags *f, int *folder, struct error *err)
{
    *folder = open(f->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*folder >= 0)
        return DRIVER_OK;
    if (errno == ENOENT)
        return driver_fail(err, DRIVER_REFUSED,
                           "the folder of flags %s is not there; make it (mkdir -p %s), give it to haldane's user, and "
                           "let %s's user enter it",
                           f->folder, f->folder, f->dialect->name);
    return driver_fail(err, DRIVER_REFUSED, "cannot look into the folder of flags %s: %s", f->folder, strerror(errno));
}

/* A regular file, or a link to one: what nginx's -f and Caddy's matcher `file` take for one. */
static bool is_file(int folder, const struct dirent *entry)
{
    struct stat what;
    return entry->d_type == DT_REG || (fstatat(folder, entry->d_name, &what, 0) == 0 && S_ISREG(what.st_mode));
}

static bool count_buckets(const struct dialect *dialect, int current, uint32_t *count)
{
    int again = openat(current, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = again >= 0 ? fdopendir(again) : NULL;
    if (!list) {
        if (again >= 0)
            close(again);
        return false;
    }
    *count = 0;
    for (struct dirent *entry; (entry = readdir(list));)
        *count += is_bucket(dialect, entry->d_name) && is_file(current, entry);
    closedir(list);
    return true;
}

/* No page, or one that is not ours, is no failure: the buckets are what counts, and there is no epoch then. */
static void read_page(int current, struct view *view)
{
    char text[1024];
    int fd = openat(current, "share", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return;
    ssize_t length = read(fd, text, sizeof text);
    view->has_page = length > 0 && share_page_parse(text, (size_t)length, "share", &view->page, NULL);
    close(fd);
}

static void read_link(int folder, struct view *view)
{
    ssize_t length = readlinkat(folder, "current", view->link, sizeof view->link - 1);
    view->link[length > 0 ? length : 0] = '\0';
}

static enum driver_status look_at(const struct flags *f, int folder, struct view *view, struct error *err)
{
    *view = (struct view){0};
    read_link(folder, view);
    int current = openat(folder, "current", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (current < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
        return DRIVER_OK; /* no file of a bucket can be there */
    if (current < 0 || !count_buckets(f->dialect, current, &view->count)) {
        enum driver_status status =
            driver_fail(err, DRIVER_REFUSED, "cannot look into %s/current: %s", f->folder, strerror(errno));
        if (current >= 0)
            close(current);
        return status;
    }
    read_page(current, view);
    close(current);
    return DRIVER_OK;
}

static enum driver_status look(const struct flags *f, struct view *view, struct error *err)
{
    int folder;
    enum driver_status status = open_folder(f, &folder, err);
    if (status != DRIVER_OK)
        return status;
    status = look_at(f, folder, view, err);
    close(folder);
    return status;
}

/* Whether the server shows the page that is in the folder; asked once. */
static enum driver_status ask_server(const struct flags *f, const struct view *view, int64_t deadline_ms,
                                     struct error *err)
{
    struct share_page shown;
    bool there;
    enum driver_status status = probe_ask(f->probe, deadline_ms, &shown, &there, err);
    if (status != DRIVER_OK)
        return status;
    if (there == view->has_page && (!there || share_page_equal(&shown, &view->page)))
        return DRIVER_OK;
    if (!there)
        return driver_fail(err, DRIVER_MISMATCH,
                           "%s has a page of the share, and the probe %s finds none: let the server look into this "
                           "folder, and its user enter it",
                           f->folder, f->probe);
    return driver_fail(
        err, DRIVER_MISMATCH,
        "%s has a share of %u bp (epoch %llu), and the probe %s shows %u bp (epoch %llu): let the server "
        "look into this folder, and turn open_file_cache off",
        f->folder, view->page.share_bp, (unsigned long long)view->page.epoch, f->probe, shown.share_bp,
        (unsigned long long)shown.epoch);
}

/*
 * What is in force, and whether the server shows it. Both are looked at again for a while, since somebody may change
 * the share between the one and the other, and since a server may be starting. `seen`: `view` holds what the folder
 * has.
 */
static enum driver_status look_and_ask(const struct flags *f, struct view *view, bool *seen, struct error *err)
{
    int64_t patience = driver_clock_ms() + PROBE_PATIENCE_MS;
    for (;;) {
        enum driver_status status = look(f, view, err);
        *seen = status == DRIVER_OK;
        if (status != DRIVER_OK || !f->probe)
            return status;
        status = ask_server(f, view, patience + PROBE_PATIENCE_MS, err);
        if (status == DRIVER_OK || driver_clock_ms() >= patience)
            return status;
        nanosleep(&(struct timespec){.tv_nsec = PROBE_PAUSE_MS * 1000000L}, NULL);
    }
}

static void tell_state(const struct flags *f, const struct view *view, struct driver_state *got)
{
    got->share_bp = (uint32_t)lround(share_of(f->dialect, view->count));
    got->epoch = view->has_page ? view->page.epoch : 0;
    got->capabilities = DRIVER_READBACK | DRIVER_PERSIST | DRIVER_CAS | DRIVER_NO_RELOAD;
    snprintf(got->detail, sizeof got->detail, "%u of %u buckets", view->count, f->dialect->buckets);
}

static enum driver_status flags_get(void *self, struct driver_state *got, struct error *err)
{
    struct flags *f = self;
    struct view view;
    bool seen;
    enum driver_status status = look_and_ask(f, &view, &seen, err);
    if (seen)
        tell_state(f, &view, got);
    return status;
}

/* ---- generations ---- */

/* The number of gen-N; 0 for all else. */
static uint64_t generation_number(const char *name)
{
    size_t digits = strncmp(name, "gen-", 4) == 0 ? strspn(name + 4, "0123456789") : 0;
    return digits > 0 && digits < 19 && !name[4 + digits] ? strtoull(name + 4, NULL, 10) : 0;
}

static DIR *list_folder(int folder)
{
    int again = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = again >= 0 ? fdopendir(again) : NULL;
    if (!list && again >= 0)
        close(again);
    return list;
}

/* Larger than that of any folder there, also of one that a writer left when it died. */
static uint64_t next_generation(int folder, const struct view *before)
{
    uint64_t largest = before->has_page && before->page.generation < UINT64_MAX >> 1 ? before->page.generation : 0;
    DIR *list = list_folder(folder);
    if (!list)
        return largest + 1;
    for (struct dirent *entry; (entry = readdir(list));) {
        uint64_t number = generation_number(entry->d_name);
        largest = number > largest ? number : largest;
    }
    closedir(list);
    return largest + 1;
}

static void remove_generation(int folder, const char *name)
{
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *list = fd >= 0 ? fdopendir(fd) : NULL;
    if (!list) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(list));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(fd, entry->d_name, 0);
    closedir(list);
    unlinkat(folder, name, AT_REMOVEDIR);
}

/* All but the one in force and the one before it, which a server may be looking at this moment. */
static void remove_old_generations(int folder, const char *now, const char *before)
{
    DIR *list = list_folder(folder);
    if (!list)
        return;
    for (struct dirent *entry; (entry = readdir(list));)
        if (generation_number(entry->d_name) && strcmp(entry->d_name, now) != 0 && strcmp(entry->d_name, before) != 0)
            remove_generation(folder, entry->d_name);
    closedir(list);
}

/* Readable for everybody whatever our umask: the server runs as another user. */
static bool make_file(int folder, const char *name, const char *text)
{
    int fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return false;
    size_t length = strlen(text);
    bool ok = fchmod(fd, 0644) == 0 && write(fd, text, length) == (ssize_t)length && (!length || fsync(fd) == 0);
    close(fd);
    return ok;
}

/* One empty file under many names: ten times quicker than as many files. Not every file system has hard links. */
static bool make_buckets(const struct dialect *dialect, int fd, uint32_t count)
{
    char first[NAME_ROOM], name[NAME_ROOM];
    if (count > 0 && !make_file(fd, bucket_name(dialect, 0, first), ""))
        return false;
    for (uint32_t i = 1; i < count; i++) {
        bucket_name(dialect, i, name);
        if (linkat(fd, first, fd, name, 0) != 0 && !make_file(fd, name, ""))
            return false;
    }
    return true;
}

static bool fill_generation(const struct dialect *dialect, int fd, uint32_t count, const struct share_page *page)
{
    if (!make_buckets(dialect, fd, count))
        return false;
    char *text = share_page_text(page);
    bool ok = make_file(fd, "share", text) && fchmod(fd, 0755) == 0 && fsync(fd) == 0;
    free(text);
    return ok;
}

static enum driver_status build_generation(const struct flags *f, int folder, const char *name, uint32_t count,
                                           const struct share_page *page, struct error *err)
{
    int fd = -1;
    if (mkdirat(folder, name, 0755) == 0)
        fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && fill_generation(f->dialect, fd, count, page)) {
        close(fd);
        return DRIVER_OK;
    }
    driver_fail(err, DRIVER_REFUSED, "cannot write %s/%s: %s; nothing was changed", f->folder, name, strerror(errno));
    if (fd >= 0)
        close(fd);
    remove_generation(folder, name);
    return DRIVER_REFUSED;
}

/* ---- the link ---- */

/*
 * A folder or a file where the link belongs was put there by somebody, and is kept under another name. Between the two
 * renames there is no `current`, so that all traffic is stable's.
 */
static bool put_aside(int folder)
{
    char name[NAME_ROOM * 2];
    snprintf(name, sizeof name, "found-%lld", (long long)time(NULL));
    return renameat(folder, "current", folder, name) == 0;
}

/* Lets `current` point to `target`. */
static bool point_to(int folder, const char *target)
{
    unlinkat(folder, ".current.new", 0);
    if (symlinkat(target, folder, ".current.new") != 0)
        return false;
    bool ok = renameat(folder, ".current.new", folder, "current") == 0;
    if (!ok && (errno == EISDIR || errno == ENOTEMPTY || errno == EEXIST))
        ok = put_aside(folder) && renameat(folder, ".current.new", folder, "current") == 0;
    return ok;
}

/* Undoes a raise that cannot be proven. The folder of before is still there; if there was none, stable had it all. */
static void put_back(const struct flags *f, int folder, const struct view *before, struct error *err)
{
    bool ok = *before->link ? point_to(folder, before->link) : unlinkat(folder, "current", 0) == 0;
    bool lasting = fsync(folder) == 0;
    struct error why = *err;
    if (!ok)
        error_set(err, why.code, "%s; the share of before could NOT be put back: take %s/current away", why.text,
                  f->folder);
    else
        error_set(err, why.code, "%s; %s%s", why.text,
                  *before->link ? "the share of before was put back" : "stable has all traffic again",
                  lasting ? "" : ", but a power cut may undo that");
}

/* ---- setting ---- */

struct change {
    uint32_t count;
    struct share_page page;
    char name[NAME_ROOM];
    bool emptied; /* there was no room for the page */
    int unsaved;  /* errno: why a power cut may undo it; 0: it may not */
};

static bool is_done(const struct view *view, const struct change *change)
{
    if (view->count != change->count || change->emptied)
        return view->count == change->count;
    return view->has_page && view->page.share_bp == change->page.share_bp && view->page.epoch == change->page.epoch;
}

static enum driver_status prove(const struct flags *f, const struct change *change, struct view *view, bool *seen,
                                struct error *err)
{
    enum driver_status status = look_and_ask(f, view, seen, err);
    if (!*seen || is_done(view, change))
        return status;
    return driver_fail(err, DRIVER_MISMATCH,
                       "%s/current was to have %u buckets of epoch %llu and has %u of epoch %llu: something else "
                       "changes it too",
                       f->folder, change->count, (unsigned long long)change->page.epoch, view->count,
                       (unsigned long long)view->page.epoch);
}

/* A server that does not answer cannot hinder a smaller share: the folder is in force as soon as it is back. */
static enum driver_status excuse(enum driver_status status, struct driver_state *got, struct error *err)
{
    if (status != DRIVER_UNREACHABLE && status != DRIVER_TIMEOUT)
        return status;
    size_t used = strlen(got->detail);
    snprintf(got->detail + used, sizeof got->detail - used, "; %s", err->text);
    *err = (struct error){0};
    return DRIVER_OK;
}

static void tell_unsaved(const struct flags *f, const struct change *change, struct driver_state *got)
{
    size_t used = strlen(got->detail);
    got->unsaved = true;
    got->capabilities &= ~(uint32_t)DRIVER_PERSIST;
    snprintf(got->detail + used, sizeof got->detail - used,
             "; a power cut may bring the share of before back: cannot make %s durable: %s", f->folder,
             strerror(change->unsaved));
}

static enum driver_status finish(const struct flags *f, int folder, const struct view *before,
                                 const struct change *change, struct driver_state *got, struct error *err)
{
    struct view view;
    bool seen, raises = change->count > before->count;
    enum driver_status status = prove(f, change, &view, &seen, err);
    if (status == DRIVER_OK && raises && change->unsaved)
        status = driver_fail(err, DRIVER_REFUSED, "cannot make %s durable: %s", f->folder, strerror(change->unsaved));
    if (status != DRIVER_OK && raises) {
        put_back(f, folder, before, err);
        seen = look_at(f, folder, &view, NULL) == DRIVER_OK;
    }
    if (seen)
        tell_state(f, &view, got);
    if (change->unsaved && !raises)
        tell_unsaved(f, change, got);
    return status == DRIVER_OK || raises ? status : excuse(status, got, err);
}

static enum driver_status change_share(const struct flags *f, int folder, const struct view *before,
                                       struct change *change, struct error *err)
{
    change->page.generation = next_generation(folder, before);
    snprintf(change->name, sizeof change->name, "gen-%llu", (unsigned long long)change->page.generation);
    enum driver_status status = build_generation(f, folder, change->name, change->count, &change->page, err);
    if (status != DRIVER_OK)
        return status;
    if (!point_to(folder, change->name))
        return driver_fail(err, DRIVER_REFUSED, "cannot change %s/current: %s", f->folder, strerror(errno));
    remove_old_generations(folder, change->name, before->link);
    return DRIVER_OK;
}

/*
 * The way to 0 when nothing can be written, on a full disk above all: the buckets are taken out of the folder in force.
 * Its page stays, and with it the epoch of before.
 */
static enum driver_status empty_current(const struct flags *f, int folder, struct change *change, struct error *err)
{
    char name[NAME_ROOM];
    int current = openat(folder, "current", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (current < 0)
        return DRIVER_REFUSED;
    bool ok = true;
    for (uint32_t i = 0; i < f->dialect->buckets; i++)
        ok &= unlinkat(current, bucket_name(f->dialect, i, name), 0) == 0 || errno == ENOENT;
    change->unsaved = fsync(current) == 0 ? 0 : errno;
    close(current);
    if (!ok)
        return DRIVER_REFUSED;
    change->emptied = true;
    *err = (struct error){0};
    return DRIVER_OK;
}

static enum driver_status set_locked(const struct flags *f, int folder, const struct driver_order *order,
                                     struct driver_state *got, struct error *err)
{
    struct view before;
    struct change change = {.page = {.share_bp = order->share_bp}};
    enum driver_status status = look_at(f, folder, &before, err);
    if (status != DRIVER_OK)
        return status;
    tell_state(f, &before, got);
    uint64_t held = before.has_page ? before.page.epoch : 0;
    change.page.epoch = driver_epoch_after(order, held);
    status = driver_fence(order, held, f->folder, err);
    if (status == DRIVER_OK)
        status = count_for(f, order->share_bp, &change.count, err);
    if (status == DRIVER_OK && !is_done(&before, &change))
        status = change_share(f, folder, &before, &change, err);
    if (status == DRIVER_REFUSED && order->share_bp == 0)
        status = empty_current(f, folder, &change, err);
    if (status != DRIVER_OK)
        return status;
    /* Also when there was nothing to do: whoever did it may have died before this. */
    if (fsync(folder) != 0)
        change.unsaved = errno;
    return finish(f, folder, &before, &change, got, err);
}

static enum driver_status flags_set(void *self, const struct driver_order *order, struct driver_state *got,
                                    struct error *err)
{
    struct flags *f = self;
    int folder, lock;
    int64_t deadline = driver_clock_ms() + DRIVER_DEADLINE_MS - 2 * PROBE_PATIENCE_MS;
    enum driver_status status = open_folder(f, &folder, err);
    if (status != DRIVER_OK)
        return status;
    char *path = mem_printf("%s/lock", f->folder);
    status = durable_lock(path, deadline, &lock, err);
    if (status == DRIVER_OK) {
        status = set_locked(f, folder, order, got, err);
        close(lock);
    }
    free(path);
    close(folder);
    return status;
}

/* ---- checking ---- */

static void check_folder(const struct flags *f, int folder, struct driver_report *report)
{
    struct stat what;
    if (faccessat(folder, ".", W_OK | X_OK, AT_EACCESS) != 0)
        driver_find(report, true, "%s cannot be written by haldane's user: give it to that user", f->folder);
    if (fstat(folder, &what) == 0 && !(what.st_mode & S_IXOTH))
        driver_find(report, false,
                    "%s can be entered by its owner%s only: see that %s's user is one of them, or all traffic is "
                    "stable's whatever is set (chmod o+x)",
                    f->folder, what.st_mode & S_IXGRP ? " and group" : "", f->dialect->name);
}

static void check_current(const struct flags *f, int folder, const struct view *view, struct driver_report *report)
{
    struct stat what;
    bool there = fstatat(folder, "current", &what, AT_SYMLINK_NOFOLLOW) == 0;
    if (there && !S_ISLNK(what.st_mode))
        driver_find(report, false, "%s/current is no symbolic link; the next change keeps it as %s/found-...",
                    f->folder, f->folder);
    else if (there && fstatat(folder, "current", &what, 0) != 0)
        driver_find(report, false,
                    "%s/current points to %.200s, which is not there; all traffic is stable's until the next change",
                    f->folder, view->link);
    if (view->has_page ? view->page.share_bp != 0 && view->count != nearest_count(f->dialect, view->page.share_bp)
                       : view->count > 0)
        driver_find(
            report, true,
            "%s/current has %u buckets, and its file `share` says something else or is not there: it was changed "
            "by hand, or the disk was full; set the share once (haldane traffic stable)",
            f->folder, view->count);
}

static void check_generations(const struct flags *f, int folder, struct driver_report *report)
{
    size_t count = 0;
    DIR *list = list_folder(folder);
    for (struct dirent *entry; list && (entry = readdir(list));)
        count += generation_number(entry->d_name) > 0;
    if (list)
        closedir(list);
    if (count > 2)
        driver_find(report, false, "%s holds %zu folders gen-N; the next change removes all but two", f->folder, count);
}

static void check_server(const struct flags *f, struct driver_report *report)
{
    struct error err = {0};
    struct view view;
    bool seen;
    if (!f->probe)
        driver_find(report, false,
                    "without `probe` nobody sees whether %s looks into %s at all; let it serve %s/current/share and "
                    "name the URL",
                    f->dialect->name, f->folder, f->folder);
    else if (look_and_ask(f, &view, &seen, &err) != DRIVER_OK && seen)
        driver_find(report, true, "%s", err.text);
}

static enum driver_status flags_check(void *self, struct driver_report *report, struct error *err)
{
    struct flags *f = self;
    int folder;
    struct view view;
    enum driver_status status = open_folder(f, &folder, err);
    if (status != DRIVER_OK)
        return status;
    status = look_at(f, folder, &view, err);
    if (status == DRIVER_OK) {
        check_folder(f, folder, report);
        check_current(f, folder, &view, report);
        check_generations(f, folder, report);
        check_server(f, report);
        driver_find(report, false,
                    "%s does not show its configuration: see for yourself that each upstream has the other track as a "
                    "spare, so that a crash loses nothing%s",
                    f->dialect->name, f->dialect->hex ? "" : ", and that open_file_cache is off");
    }
    close(folder);
    return status;
}

const struct driver_ops flags_nginx_ops = {.name = "nginx",
                                           .open = open_nginx,
                                           .close = flags_close,
                                           .get = flags_get,
                                           .set = flags_set,
                                           .check = flags_check,
                                           .can_give = flags_can_give};
const struct driver_ops flags_caddy_ops = {.name = "caddy",
                                           .open = open_caddy,
                                           .close = flags_close,
                                           .get = flags_get,
                                           .set = flags_set,
                                           .check = flags_check,
                                           .can_give = flags_can_give};
