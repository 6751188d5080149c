/*
 * nginx with a reload: the share is a line of a file that nginx's configuration includes. It can be any share, and
 * costs what a reload costs. The danger of it is a configuration that nginx does not take: the running one goes on, and
 * the next restart is an outage. So the file is tested before the reload, and goes back to what it was if anything
 * fails.
 *
 * A reload says nothing of its outcome. The file also defines the text of a page, with a number that grows with each
 * change; the change is done when nginx shows that number.
 *
 * Each reload loses requests and leaves old workers behind, and an order that cannot be proved is given again each
 * second. So a file beside the split's holds the page that nginx was last told to load, and its time says when: while
 * the probe is silent, an order that this page fulfils reloads nginx once a minute at most, whichever process asks.
 */
#include "analyzer/traffic/durable.h"
#include "analyzer/traffic/ops.h"
#include "analyzer/traffic/probe.h"
#include "analyzer/traffic/process.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Of the 10 s, so much to go forward; the rest is for the way back. */
enum { FORWARD_MS = 5000, LOCK_MS = 2000, ASK_MS = 1000, PAUSE_MS = 20, IN_A_ROW = 5 };

/* So long a silent probe is waited for before nginx is reloaded once more. */
enum { RELOAD_AGAIN_S = 60 };

static const char first_line[] = "# haldane's split of traffic: written by haldane, which needs this line.\n";
static const char page_mark[] = "$haldane_share { default '";

struct split {
    char *path, *lock, *loaded, *key, *probe;
    struct policy_command test, reload;
};

/* What a file says; `text` is NULL if there is none. */
struct file {
    char *text;
    bool has_page;
    struct share_page page;
};

/* What the running nginx says. */
struct shown {
    enum driver_status status;
    struct share_page page;
    struct error why;
};

/* ---- open ---- */

static struct policy_command copy_command(const struct policy_command *command)
{
    struct policy_command copy = {.words = mem_alloc(command->count + 1, sizeof(char *)), .count = command->count};
    for (size_t i = 0; i < command->count; i++)
        copy.words[i] = mem_strdup(command->words[i]);
    return copy;
}

static void free_command(struct policy_command *command)
{
    for (size_t i = 0; i < command->count; i++)
        free(command->words[i]);
    free(command->words);
}

static void *split_open(const struct policy_balancer *balancer, struct error *err)
{
    if (!balancer->split || !balancer->key || !balancer->probe || !balancer->test.count || !balancer->reload.count) {
        error_set(err, ERROR_DATA, "traffic: nginx with `split` needs `key`, `probe`, `test` and `reload` too");
        return NULL;
    }
    struct split *s = mem_alloc(1, sizeof *s);
    s->path = mem_strdup(balancer->split);
    s->lock = durable_beside(balancer->split, ".lock");
    s->loaded = durable_beside(balancer->split, ".loaded");
    s->key = mem_strdup(balancer->key);
    s->probe = mem_strdup(balancer->probe);
    s->test = copy_command(&balancer->test);
    s->reload = copy_command(&balancer->reload);
    return s;
}

static void split_close(void *self)
{
    struct split *s = self;
    free(s->path);
    free(s->lock);
    free(s->loaded);
    free(s->key);
    free(s->probe);
    free_command(&s->test);
    free_command(&s->reload);
    free(s);
}

/* ---- the file ---- */

/* `0%` is an error in nginx, so that share has no line. */
static char *file_text(const struct split *s, const struct share_page *page)
{
    struct strbuf text = {0};
    char *shown = share_page_text(page);
    strbuf_puts(&text, first_line);
    strbuf_printf(&text, "split_clients \"%s\" $haldane_track {\n", s->key);
    if (page->share_bp)
        strbuf_printf(&text, "    %u.%02u%% canary;\n", page->share_bp / 100, page->share_bp % 100);
    strbuf_printf(&text, "    * stable;\n}\nmap $host %s%s'; }\n", page_mark, shown);
    free(shown);
    return strbuf_take(&text);
}

static void read_page(struct file *file)
{
    const char *begin = strstr(file->text, page_mark);
    if (!begin)
        return;
    begin += sizeof page_mark - 1;
    file->has_page = share_page_parse(begin, strcspn(begin, "'"), "share", &file->page, NULL);
}

/* A file that is somebody else's is never overwritten: a wrong path in the policy must not cost a configuration. */
static enum driver_status read_file(const struct split *s, struct file *file, struct error *err)
{
    *file = (struct file){0};
    enum driver_status status = durable_read(s->path, &file->text, err);
    if (status != DRIVER_OK || !file->text)
        return status;
    if (*file->text && strncmp(file->text, first_line, sizeof first_line - 1) != 0) {
        free(file->text);
        *file = (struct file){0};
        return driver_fail(err, DRIVER_REFUSED,
                           "%s is not a file of haldane's and is left alone; name another one, or empty it if nginx "
                           "needs nothing of it",
                           s->path);
    }
    read_page(file);
    return DRIVER_OK;
}

/* Byte for byte as it was. */
static enum driver_status restore(const struct split *s, const struct file *old, struct error *err)
{
    return old->text ? durable_write(s->path, old->text, err) : durable_remove(s->path, err);
}

/* ---- the running nginx ---- */

static void ask_once(const struct split *s, int64_t deadline_ms, struct shown *shown)
{
    bool there;
    shown->why = (struct error){0};
    shown->status = probe_ask(s->probe, deadline_ms, &shown->page, &there, &shown->why);
    if (shown->status == DRIVER_OK && !there)
        shown->status =
            driver_fail(&shown->why, DRIVER_REFUSED,
                        "the probe %s answered 404; add a location there with: return 200 $haldane_share;", s->probe);
    if (shown->status != DRIVER_OK)
        shown->page = (struct share_page){0};
}

static void take_a_pause(void)
{
    nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
}

static bool agree(const struct file *file, const struct shown *shown)
{
    return shown->status == DRIVER_OK && file->has_page && share_page_equal(&file->page, &shown->page);
}

/*
 * More than once if there is no answer, for it may be starting; and if nginx and its file do not agree, for an old
 * worker takes connections for a moment after a reload.
 */
static void ask_nginx(const struct split *s, const struct file *file, struct shown *shown)
{
    int64_t patience = driver_clock_ms() + ASK_MS;
    ask_once(s, patience, shown);
    while (!agree(file, shown) && (shown->status == DRIVER_OK || shown->status == DRIVER_UNREACHABLE) &&
           driver_clock_ms() < patience) {
        take_a_pause();
        ask_once(s, patience + PAUSE_MS, shown);
    }
}

static void tell_state(const struct shown *shown, const struct file *file, struct driver_state *got)
{
    got->share_bp = shown->page.share_bp;
    got->epoch = shown->page.epoch;
    got->capabilities = DRIVER_READBACK | DRIVER_PERSIST | DRIVER_CAS;
    if (agree(file, shown))
        snprintf(got->detail, sizeof got->detail, "split_clients, generation %llu",
                 (unsigned long long)shown->page.generation);
    else
        snprintf(got->detail, sizeof got->detail, "the file says something else (%u bp): it comes with the next reload",
                 file->has_page ? file->page.share_bp : 0);
    got->unsaved = (file->has_page ? file->page.share_bp : 0) != shown->page.share_bp;
}

static enum driver_status split_get(void *self, struct driver_state *got, struct error *err)
{
    struct split *s = self;
    struct shown shown;
    struct file file;
    enum driver_status status = read_file(s, &file, err);
    if (status != DRIVER_OK)
        return status;
    ask_nginx(s, &file, &shown);
    if (shown.status == DRIVER_OK)
        tell_state(&shown, &file, got);
    else
        *err = shown.why;
    free(file.text);
    return shown.status;
}

/* The line that says why: nginx's last one only says that there was a reason. */
static const char *reason(const struct process_result *result, char line[PROCESS_LINE])
{
    const char *why = strstr(result->errors, "[emerg] ");
    if (!why)
        return process_last_line(result, line);
    snprintf(line, PROCESS_LINE, "%.*s", (int)strcspn(why, "\n"), why);
    return line;
}

static enum driver_status run(const struct policy_command *command, int64_t deadline_ms, struct error *err)
{
    struct process_result result;
    char line[PROCESS_LINE];
    enum driver_status status = process_run(command->words, NULL, NULL, deadline_ms, &result, err);
    if (status == DRIVER_OK && result.exit_code != 0)
        status = driver_fail(err, DRIVER_REFUSED, "%s failed with exit code %d: %s", command->words[0],
                             result.exit_code, reason(&result, line));
    process_result_free(&result);
    return status;
}

/* Until nginx shows this generation IN_A_ROW times: in between an old worker may still answer. */
static enum driver_status wait_for(const struct split *s, const struct share_page *page, int64_t deadline_ms,
                                   struct shown *shown, struct error *err)
{
    for (int seen = 0;;) {
        ask_once(s, driver_clock_ms() + ASK_MS, shown);
        seen = shown->status == DRIVER_OK && share_page_equal(&shown->page, page) ? seen + 1 : 0;
        if (seen == IN_A_ROW)
            return DRIVER_OK;
        if (driver_clock_ms() >= deadline_ms)
            break;
        take_a_pause();
    }
    if (shown->status != DRIVER_OK) {
        *err = shown->why;
        return shown->status;
    }
    return driver_fail(err, DRIVER_MISMATCH,
                       "nginx was reloaded and still shows %u bp (generation %llu) at %s, not %u bp (generation %llu): "
                       "does its configuration include %s, and is this the nginx that `reload` reloads?",
                       shown->page.share_bp, (unsigned long long)shown->page.generation, s->probe, page->share_bp,
                       (unsigned long long)page->generation, s->path);
}

/* ---- which page nginx was told to load, and when ---- */

/* Without a note the next order reloads again. On a full disk there is still the room of the note before. */
static void note_reload(const struct split *s, const struct share_page *page)
{
    struct error ignored;
    char *text = share_page_text(page);
    if (durable_write(s->loaded, text, &ignored) != DRIVER_OK)
        durable_overwrite(s->loaded, text, &ignored);
    free(text);
}

/* Within the last minute; a time that is far ahead is none, for the clock was set since. */
static bool was_reloaded_lately(const struct split *s, const struct share_page *page)
{
    struct error ignored;
    struct share_page loaded;
    struct stat what;
    char *text = NULL;
    if (durable_read(s->loaded, &text, &ignored) != DRIVER_OK || !text)
        return false;
    bool same = share_page_parse(text, strlen(text), "loaded", &loaded, NULL) && share_page_equal(&loaded, page);
    free(text);
    return same && stat(s->loaded, &what) == 0 && llabs((long long)time(NULL) - what.st_mtim.tv_sec) < RELOAD_AGAIN_S;
}

/* ---- setting ---- */

struct change {
    const struct split *split;
    int64_t forward_ms, back_ms; /* deadlines */
    struct file old;
    struct shown before;
    struct share_page page;
    char *text;
    bool written; /* the file had it before; only 0 % comes to that */
};

static const char zero_stays[] = "the file says 0 % and stays so: nginx has it from its next start or reload on";

static void add_to(struct error *err, const char *what)
{
    struct error why = *err;
    error_set(err, why.code, "%.700s; %s", why.text, what);
}

/* The file of before, and nginx with it if it may have seen the new one. */
static void go_back(const struct change *change, bool reloaded, struct error *err)
{
    const struct split *s = change->split;
    struct error more = {0};
    bool ok = restore(s, &change->old, &more) == DRIVER_OK;
    if (ok && reloaded)
        ok = run(&s->test, change->back_ms, &more) == DRIVER_OK && run(&s->reload, change->back_ms, &more) == DRIVER_OK;
    if (ok)
        add_to(err, "the file of before was put back");
    else {
        add_to(err, "going back FAILED too");
        add_to(err, more.text);
    }
}

/*
 * nginx does not take its configuration with the share 0 in it. Is it our file, or would it not take the one of before
 * either? Then 0 is the better file to find it with once it is mended.
 */
static void leave_zero_if_blameless(const struct change *change, struct error *err)
{
    const struct split *s = change->split;
    struct error more = {0};
    bool restored = restore(s, &change->old, &more) == DRIVER_OK;
    if (restored && run(&s->test, change->back_ms, &more) == DRIVER_OK) {
        add_to(err, "the file of before was put back, and nginx takes that one: the old share stays in force");
        return;
    }
    bool zero = !restored || durable_write(s->path, change->text, &more) == DRIVER_OK;
    add_to(err, zero ? "the OLD SHARE STAYS IN FORCE until nginx's configuration is mended and reloaded; its file says "
                       "0 % already"
                     : "the OLD SHARE STAYS IN FORCE until nginx's configuration is mended, and then set 0 % again");
}

static enum driver_status test_file(const struct change *change, struct error *err)
{
    enum driver_status status = run(&change->split->test, change->forward_ms, err);
    if (status == DRIVER_OK)
        return status;
    error_prefix(err, "nginx cannot be reloaded");
    if (change->written)
        add_to(err, zero_stays);
    else if (change->page.share_bp == 0 && status == DRIVER_REFUSED)
        leave_zero_if_blameless(change, err);
    else
        go_back(change, false, err);
    return status;
}

/* At 0 % the file stays whatever comes: no nginx that starts with it does harm. */
static enum driver_status reload_and_prove(const struct change *change, struct shown *shown, struct error *err)
{
    const struct split *s = change->split;
    enum driver_status status = run(&s->reload, change->forward_ms, err);
    if (status == DRIVER_OK)
        note_reload(s, &change->page);
    if (status == DRIVER_OK)
        status = wait_for(s, &change->page, change->forward_ms, shown, err);
    if (status == DRIVER_OK)
        return status;
    if (change->page.share_bp == 0)
        add_to(err, zero_stays);
    else
        go_back(change, true, err);
    return status;
}

/* 0 % needs no room: on a full disk it is written over the text that is there. */
static enum driver_status write_change(const struct change *change, struct error *err)
{
    const struct split *s = change->split;
    enum driver_status status = durable_write(s->path, change->text, err);
    if (status == DRIVER_OK || change->page.share_bp > 0 || !change->old.text)
        return status;
    struct error more;
    if (durable_overwrite(s->path, change->text, &more) != DRIVER_OK)
        return status;
    *err = (struct error){0};
    return DRIVER_OK;
}

static enum driver_status carry_out(struct change *change, struct driver_state *got, struct error *err)
{
    const struct split *s = change->split;
    struct file now = {.has_page = true, .page = change->page};
    struct shown shown = change->before;
    change->text = file_text(s, &change->page);
    enum driver_status status = change->written ? DRIVER_OK : write_change(change, err);
    if (status == DRIVER_OK)
        status = test_file(change, err);
    if (status == DRIVER_OK)
        status = reload_and_prove(change, &shown, err);
    free(change->text);
    if (status == DRIVER_OK)
        tell_state(&shown, &now, got);
    return status;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Nothing to do: no reload for nothing. */
static bool is_in_force(const struct change *change)
{
    return agree(&change->old, &change->before) && change->old.page.share_bp == change->page.share_bp &&
           change->old.page.epoch == change->page.epoch;
}

/* The file has the order already, word for word, and nginx does not say whether it has it too. */
static bool is_written(const struct change *change)
{
    const struct file *old = &change->old;
    if (change->before.status == DRIVER_OK || !old->has_page || old->page.share_bp != change->page.share_bp ||
        old->page.epoch != change->page.epoch)
        return false;
    char *text = file_text(change->split, &old->page);
    size_t length = strlen(text);
    bool same = strncmp(old->text, text, length) == 0 && !old->text[length + strspn(old->text + length, "\n")];
    free(text);
    return same;
}

/* What is written is not written again. Nor is nginx reloaded again, unless it has been silent for a minute. */
static enum driver_status carry_on(struct change *change, struct driver_state *got, struct error *err)
{
    change->page = change->old.page;
    change->written = true;
    if (!was_reloaded_lately(change->split, &change->page))
        return carry_out(change, got, err);
    *err = change->before.why;
    add_to(err, "the file says 0 % and nginx was told to load it; only the probe can show that it has");
    return change->before.status;
}

static enum driver_status set_locked(struct change *change, const struct driver_order *order, struct driver_state *got,
                                     struct error *err)
{
    const struct split *s = change->split;
    enum driver_status status = read_file(s, &change->old, err);
    if (status != DRIVER_OK)
        return status;
    ask_nginx(s, &change->old, &change->before);
    const struct share_page *shown = &change->before.page, *file = &change->old.page;
    if (change->before.status == DRIVER_OK)
        tell_state(&change->before, &change->old, got);
    uint64_t held = larger(shown->epoch, file->epoch);
    status = driver_fence(order, held, s->path, err);
    if (status != DRIVER_OK)
        return status;
    if (change->before.status != DRIVER_OK && order->share_bp > 0) {
        *err = change->before.why;
        add_to(err, "nothing was changed");
        return change->before.status;
    }
    change->page = (struct share_page){order->share_bp, driver_epoch_after(order, held),
                                       larger(shown->generation, file->generation) + 1};
    if (is_in_force(change))
        return DRIVER_OK;
    return is_written(change) ? carry_on(change, got, err) : carry_out(change, got, err);
}

static enum driver_status split_set(void *self, const struct driver_order *order, struct driver_state *got,
                                    struct error *err)
{
    struct split *s = self;
    int64_t begun = driver_clock_ms();
    struct change change = {.split = s};
    int lock;
    enum driver_status status = durable_lock(s->lock, begun + LOCK_MS, &lock, err);
    if (status != DRIVER_OK)
        return status;
    change.forward_ms = begun + FORWARD_MS;
    change.back_ms = begun + DRIVER_DEADLINE_MS;
    status = set_locked(&change, order, got, err);
    free(change.old.text);
    close(lock);
    return status;
}

/* ---- checking ---- */

static void check_file(const struct split *s, const struct file *file, struct driver_report *report)
{
    struct error err = {0};
    struct shown shown;
    ask_nginx(s, file, &shown);
    if (!file->text)
        driver_find(report, true, "%s is not there; make it empty, include it in nginx's http block, and set 0 %% once",
                    s->path);
    else if (!file->has_page)
        driver_find(report, false, "%s holds no share yet; set 0 %% once (haldane traffic stable)", s->path);
    if (shown.status != DRIVER_OK)
        driver_find(report, true, "%s", shown.why.text);
    else if (file->has_page && !share_page_equal(&file->page, &shown.page))
        driver_find(report, true,
                    "%s says %u bp and nginx shows %u bp: the next reload changes the share; set it once, so that the "
                    "two agree",
                    s->path, file->page.share_bp, shown.page.share_bp);
    if (run(&s->test, driver_clock_ms() + FORWARD_MS, &err) != DRIVER_OK)
        driver_find(report, true, "nginx would not take its configuration at a reload: %s", err.text);
}

static enum driver_status split_check(void *self, struct driver_report *report, struct error *err)
{
    struct split *s = self;
    struct file file;
    enum driver_status status = read_file(s, &file, err);
    if (status != DRIVER_OK)
        return status;
    check_file(s, &file, report);
    driver_find(report, false,
                "each change reloads nginx, which closes idle connections: a client that does not send a POST again "
                "loses some; `flags` in place of `split` needs no reload");
    driver_find(report, false,
                "nginx does not show its configuration: see for yourself that worker_shutdown_timeout is set (old "
                "workers keep the old share) and that each upstream has the other track as `backup`");
    free(file.text);
    return DRIVER_OK;
}

const struct driver_ops nginx_split_ops = {.name = "nginx",
                                           .open = split_open,
                                           .close = split_close,
                                           .get = split_get,
                                           .set = split_set,
                                           .check = split_check};
