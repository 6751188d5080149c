/* What most commands need: files, the store's place, the clock, and how an error is told. */
#include "analyzer/cli/cli.h"

#include "analyzer/model/format.h"
#include "base/memory.h"
#include "base/strbuf.h"
#include "policies/values.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

int fail(const struct error *err)
{
    fprintf(stderr, "haldane: %s\n", err->text);
    return err->code ? (int)err->code : ERROR_SOFTWARE;
}

int64_t wall_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Who is at the keyboard, also behind sudo. */
const char *user_name(void)
{
    const char *sudo = getenv("SUDO_USER");
    if (sudo && *sudo)
        return sudo;
    struct passwd *entry = getpwuid(getuid());
    return entry ? entry->pw_name : "unknown";
}

struct policy *load_policy(const struct options *options, const char *path, struct error *err)
{
    struct policy_problems problems = {0};
    struct policy *policy = policy_load_file(path, options->settings, options->setting_count, environ, &problems, err);
    /* All of them at once: mending one after the other is what makes people angry. err has the first. */
    for (size_t i = 1; !policy && i < problems.count; i++)
        fprintf(stderr, "haldane: %s:%zu:%zu: %s\n", path, problems.items[i].line, problems.items[i].column,
                problems.items[i].text);
    policy_problems_free(&problems);
    return policy;
}

char *store_path(const struct options *options)
{
    const char *named = options->db ? options->db : getenv("HALDANE_DB");
    if (named && *named)
        return mem_strdup(named);
    const char *folder = getenv("STATE_DIRECTORY");
    if (folder && *folder)
        return mem_printf("%s/haldane.db", folder);
    folder = getenv("XDG_STATE_HOME");
    if (folder && *folder)
        return mem_printf("%s/haldane/haldane.db", folder);
    const char *home = getenv("HOME");
    return mem_printf("%s/.local/state/haldane/haldane.db", home && *home ? home : "");
}

struct store *open_store(const struct options *options, struct error *err)
{
    char *path = store_path(options);
    struct store *store = store_open(path, err);
    free(path);
    return store;
}

struct store *open_store_to_read(const struct options *options, struct error *err)
{
    char *path = store_path(options);
    struct store *store = NULL;
    if (store_exists(path))
        store = store_open(path, err);
    else
        error_set(err, ERROR_NO_INPUT, "there is no store %s yet; begin a rollout, or name another file with --db",
                  path);
    free(path);
    return store;
}

/* The newest rollout of a service, one that is under way before all others. False: none, or it cannot be read. */
static bool newest_of(struct store *store, const char *service, struct rollout *newest)
{
    struct rollout *all = NULL;
    size_t count = 0;
    if (!store_list_rollouts(store, false, &all, &count, NULL))
        return false;
    size_t best = count;
    for (size_t i = 0; i < count; i++)
        if (strcmp(all[i].service, service) == 0 &&
            (best == count || (rollout_ended(&all[best]) && !rollout_ended(&all[i]))))
            best = i;
    bool found = best < count;
    if (found) {
        *newest = all[best];
        all[best] = (struct rollout){0};
    }
    for (size_t i = 0; i < count; i++)
        rollout_clear(&all[i]);
    free(all);
    return found;
}

static char *find_id(struct store *store, const char *text, bool or_last, struct error *err)
{
    struct rollout rollout = {0};
    char time[FORMAT_TEXT];
    bool found = store_load_rollout(store, text, &rollout, err);
    if (!found && err->code == ERROR_NO_INPUT && newest_of(store, text, &rollout)) {
        found = or_last || !rollout_ended(&rollout);
        if (!found)
            error_set(err, ERROR_NO_INPUT, "service %s has no rollout under way; its last, %s, ended %s at %s", text,
                      rollout.id, rollout_state_names[rollout.state], format_time(rollout.ended_ms, time));
    }
    char *id = found ? mem_strdup(rollout.id) : NULL;
    rollout_clear(&rollout);
    if (id)
        *err = (struct error){0};
    return id;
}

char *rollout_id(struct store *store, const char *text, struct error *err)
{
    return find_id(store, text, false, err);
}

char *rollout_id_or_last(struct store *store, const char *text, struct error *err)
{
    return find_id(store, text, true, err);
}

struct engine *open_engine(const struct options *options, struct store *store, int64_t patience_ms, struct error *err)
{
    struct engine_setup setup = {
        .store = store, .actor = user_name(), .now_ms = wall_clock_ms, .lock_patience_ms = patience_ms};
    char *id = rollout_id(store, options->arguments[0], err);
    struct engine *engine = id ? engine_open(&setup, id, err) : NULL;
    free(id);
    return engine;
}

char *read_file(const char *path, size_t *length, struct error *err)
{
    enum { MOST = 256 << 20 };
    bool standard = strcmp(path, "-") == 0;
    FILE *file = standard ? stdin : fopen(path, "rb");
    if (!file) {
        error_set(err, ERROR_NO_INPUT, "%s cannot be read: %s", path, strerror(errno));
        return NULL;
    }
    struct strbuf text = {0};
    char block[65536];
    size_t n;
    while ((n = fread(block, 1, sizeof block, file)) > 0 && text.length <= MOST)
        strbuf_add(&text, block, n);
    bool broken = ferror(file);
    if (!standard)
        fclose(file);
    if (broken || text.length > MOST) {
        strbuf_free(&text);
        error_set(err, ERROR_NO_INPUT, broken ? "%s cannot be read" : "%s is larger than 256 MiB", path);
        return NULL;
    }
    *length = text.length;
    return strbuf_take(&text);
}

static bool write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");
    bool ok = file && fputs(text, file) >= 0;
    return file && fclose(file) == 0 && ok;
}

/* By rename, so that nobody ever sees half a report. */
static bool replace_file(const char *path, const char *text)
{
    char *part = mem_printf("%s.part", path);
    bool ok = write_file(part, text) && rename(part, path) == 0;
    int number = errno;
    if (!ok)
        unlink(part);
    free(part);
    errno = number;
    return ok;
}

bool write_output(const char *path, const char *text, struct error *err)
{
    if (!path || strcmp(path, "-") == 0)
        return fputs(text, stdout) >= 0 || error_set(err, ERROR_IO, "standard output cannot be written");
    /* A device, a pipe or a link such as /dev/stdout is written to; a rename would put a file in its place. */
    struct stat st;
    bool is_new = lstat(path, &st) != 0;
    if (is_new || S_ISREG(st.st_mode) ? replace_file(path, text) : write_file(path, text))
        return true;
    return error_set(err, ERROR_IO, "%s cannot be written: %s", path, strerror(errno));
}

bool parse_share(const char *text, int32_t *basis_points, struct error *err)
{
    uint32_t share_bp = 0;
    const char *wrong = value_share(text, &share_bp);
    if (wrong)
        return error_set(err, ERROR_USAGE, "the share is `%s`, %s", text, wrong);
    *basis_points = (int32_t)share_bp;
    return true;
}

void pause_for(int64_t ms)
{
    enum { LEAST_MS = 50 };
    ms = ms < LEAST_MS ? LEAST_MS : ms;
    struct timespec time = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

int exit_of_decision(enum decision decision)
{
    return decision == DECISION_PROMOTE ? EXIT_PROMOTE : decision == DECISION_ABORT ? EXIT_ABORT : EXIT_HOLD;
}

int exit_of_state(enum rollout_state state)
{
    switch (state) {
    case ROLLOUT_PROMOTED:
        return EXIT_PROMOTE;
    case ROLLOUT_ABORTED:
    case ROLLOUT_EXPIRED:
    case ROLLOUT_SUPERSEDED:
        return EXIT_ABORT;
    default:
        return EXIT_HOLD;
    }
}
