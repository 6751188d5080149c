/*
 * HAProxy by a map: the configuration has a backend for each track, and a rule that sends a request to the canary when
 * a random number is below the share in the map. The map also holds the epoch of the rollout and the second at which
 * the share ends, so that the balancer itself fences and returns to stable.
 *
 * One order is one transaction. All three entries are written to a new version of the map and put in force by one
 * commit, so that no request sees a half. The version is taken before the map is read: a commit that came in between
 * makes ours fail ("out of range"), and we look again. On this machine a lock on a file keeps two haldanes apart before
 * it comes to that.
 *
 * HAProxy never writes the map to its file, and reads the file when it starts. So the file is made durable first. If
 * the running balancer then does not follow, the file gets back what it held, unless that would be more for the canary:
 * between two accounts of the share, a restart must find the smaller one.
 *
 * Lowering goes on without lock, file or a look at the servers, if it has to: then a restart may bring the old share
 * back, and the answer is `unsaved` and leaves DRIVER_PERSIST out. Every order writes the file, also one that the
 * balancer has already, so that the same order given again saves it in the end.
 */
#include "analyzer/traffic/durable.h"
#include "analyzer/traffic/haproxy_socket.h"
#include "analyzer/traffic/haproxy_view.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FOREVER INT64_C(9999999999)

enum { SET_ATTEMPTS = 2, LOCK_WAIT_MS = 4000, RULES_THAT_READ = 2 };

struct map {
    struct haproxy haproxy;
    char *file;
    bool local; /* the file is on this machine */
};

/* What HAProxy shows at one moment. */
struct sight {
    struct haproxy_split split;
    int64_t now_ms; /* by its clock */
    uint64_t generation;
    struct haproxy_view view; /* empty unless `seen` is DRIVER_OK */
    enum driver_status seen;
    struct error why; /* why it is not */
};

/* One `set`, with what it needs on the way. */
struct turn {
    const struct map *map;
    const struct driver_order *order;
    int64_t deadline_ms;
    int lock;              /* -1: none */
    struct error unlocked; /* why there is none */
    struct error unsaved;  /* why the file does not hold the share; no code: it does */
};

/* ---- opening ---- */

static void map_close(void *self)
{
    struct map *m = self;
    haproxy_clear(&m->haproxy);
    free(m->file);
    free(m);
}

static bool tracks_apart(const struct haproxy *h, struct error *err)
{
    for (size_t i = 0; i < h->count; i++)
        for (size_t k = 0; k < i; k++)
            if (h->targets[i].track != h->targets[k].track && h->targets[i].backend == h->targets[k].backend)
                return error_set(err, ERROR_DATA,
                                 "traffic: backend %s is named for both tracks, and a map chooses between backends; "
                                 "give each track its own, or write `backend` in place of `map`",
                                 h->backends[h->targets[i].backend]);
    return true;
}

static void *map_open(const struct policy_balancer *balancer, struct error *err)
{
    struct map *m = mem_alloc(1, sizeof *m);
    m->file = mem_strdup(balancer->map);
    if (strpbrk(m->file, " \t\n;\\"))
        error_set(err, ERROR_DATA, "traffic.map: a path with blanks, ; or \\ cannot be said to HAProxy: %s", m->file);
    else if (haproxy_init(&m->haproxy, balancer, NULL, err) && tracks_apart(&m->haproxy, err)) {
        m->local = strchr(m->haproxy.socket, '/') != NULL;
        return m;
    }
    map_close(m);
    return NULL;
}

/* ---- looking ---- */

static enum driver_status look_clock(const struct map *m, int64_t deadline_ms, int64_t *now_ms, struct error *err)
{
    char *answer = NULL;
    enum driver_status status = haproxy_command(&m->haproxy, deadline_ms, HAPROXY_ASK_CLOCK, &answer, err);
    if (status == DRIVER_OK && !haproxy_parse_clock(answer, now_ms, err))
        status = haproxy_not_taken(&m->haproxy, "set var", err);
    free(answer);
    return status;
}

static enum driver_status no_map(const struct map *m, struct error *err)
{
    return driver_fail(
        err, DRIVER_REFUSED,
        "HAProxy at %s has no map %s; write the path as HAProxy's configuration has it, letter by letter "
        "(compose/examples/haproxy-map.cfg shows a whole one)",
        m->haproxy.socket, m->file);
}

static enum driver_status look_split(const struct map *m, int64_t deadline_ms, struct haproxy_split *split,
                                     struct error *err)
{
    char *answer = NULL;
    char *command = mem_printf("show map %s", m->file);
    enum driver_status status = haproxy_command(&m->haproxy, deadline_ms, command, &answer, err);
    if (status == DRIVER_OK && strncmp(answer, "Unknown map", 11) == 0)
        status = no_map(m, err);
    else if (status == DRIVER_OK && !haproxy_parse_split(answer, split, err))
        status = haproxy_not_taken(&m->haproxy, command, err);
    free(command);
    free(answer);
    return status;
}

/*
 * Fails if the share cannot be seen. That the servers cannot is told in `seen`: it refuses a raise, and must not stop a
 * rollback. The caller frees the sight, also on failure.
 */
static enum driver_status look(const struct map *m, int64_t deadline_ms, struct sight *sight, struct error *err)
{
    *sight = (struct sight){.seen = DRIVER_UNREACHABLE};
    enum driver_status status = haproxy_generation(&m->haproxy, deadline_ms, &sight->generation, err);
    if (status == DRIVER_OK)
        status = look_clock(m, deadline_ms, &sight->now_ms, err);
    if (status == DRIVER_OK)
        status = look_split(m, deadline_ms, &sight->split, err);
    if (status != DRIVER_OK)
        return status;
    sight->seen = haproxy_look(&m->haproxy, deadline_ms, &sight->view, &sight->why);
    if (sight->seen != DRIVER_OK)
        haproxy_view_free(&sight->view);
    return DRIVER_OK;
}

static void sight_free(struct sight *sight)
{
    haproxy_view_free(&sight->view);
}

/* HAProxy compares whole seconds: the share holds as long as its clock shows less than `expires`. */
static bool lease_over(const struct sight *sight)
{
    return sight->split.share_bp > 0 && sight->now_ms / 1000 >= sight->split.expires;
}

static uint32_t in_force(const struct sight *sight)
{
    return lease_over(sight) ? 0 : sight->split.share_bp;
}

static int64_t lease_left_ms(const struct sight *sight)
{
    if (sight->split.share_bp == 0 || sight->split.expires >= FOREVER)
        return -1;
    return lease_over(sight) ? 0 : sight->split.expires * 1000 - sight->now_ms;
}

/* "25 % to the canary; be_stable/web1, be_canary/web2 DOWN" */
static void describe(const struct map *m, const struct sight *sight, struct driver_state *got)
{
    char *servers =
        sight->seen == DRIVER_OK ? haproxy_describe(&m->haproxy, &sight->view, TRACKS) : mem_strdup(sight->why.text);
    char *text = mem_printf("%.4g %% to the canary%s; %s", got->share_bp / 100.0,
                            got->lease_over ? ", for the lease has run out" : "", servers);
    haproxy_tell(got, text);
    free(text);
    free(servers);
}

static void fill_state(const struct map *m, const struct sight *sight, struct driver_state *got)
{
    *got = (struct driver_state){
        .share_bp = in_force(sight),
        .epoch = sight->split.epoch,
        .generation = sight->generation,
        .lease_over = lease_over(sight),
        .lease_left_ms = lease_left_ms(sight),
        .capabilities = DRIVER_READBACK | DRIVER_COUNTERS | DRIVER_LEASE | DRIVER_CAS | DRIVER_DRAIN | DRIVER_NO_RELOAD,
    };
    if (m->local)
        got->capabilities |= DRIVER_PERSIST;
    if (sight->seen == DRIVER_OK)
        haproxy_fill_health(&m->haproxy, &sight->view, got);
    describe(m, sight, got);
}

/* ---- may it be set? ---- */

static enum driver_status check_fit(const struct map *m, const struct sight *sight, struct error *err)
{
    if (sight->seen != DRIVER_OK) {
        if (err)
            *err = sight->why;
        return sight->seen;
    }
    struct driver_report report = {0};
    haproxy_find_misfits(&m->haproxy, &sight->view, &report);
    return haproxy_refuse(&report, err);
}

static enum driver_status may_raise(const struct turn *turn, const struct sight *sight, struct error *err)
{
    const struct map *m = turn->map;
    enum driver_status status = check_fit(m, sight, err);
    if (status == DRIVER_OK && m->local && turn->lock < 0)
        status = driver_fail(err, turn->unlocked.code == ERROR_DATA ? DRIVER_REFUSED : DRIVER_TIMEOUT, "%s",
                             turn->unlocked.text);
    if (status != DRIVER_OK)
        return status;
    char *text = haproxy_describe(&m->haproxy, &sight->view, TRACK_CANARY);
    status = haproxy_may_raise(&m->haproxy, &sight->view, text, err);
    free(text);
    return status;
}

static enum driver_status may_end(const struct map *m, const struct sight *sight, struct error *err)
{
    if (sight->seen != DRIVER_OK)
        return DRIVER_OK;
    char *text = haproxy_describe(&m->haproxy, &sight->view, TRACKS);
    enum driver_status status = haproxy_may_end(&m->haproxy, &sight->view, in_force(sight), text, err);
    free(text);
    return status;
}

static enum driver_status allowed(const struct turn *turn, const struct sight *sight, struct error *err)
{
    const struct driver_order *order = turn->order;
    char *where = mem_printf("the map %s of HAProxy at %s", turn->map->file, turn->map->haproxy.socket);
    enum driver_status status = driver_fence(order, sight->split.epoch, where, err);
    free(where);
    if (status != DRIVER_OK)
        return status;
    if (order->share_bp > in_force(sight))
        return may_raise(turn, sight, err);
    return order->share_bp == 0 ? may_end(turn->map, sight, err) : DRIVER_OK;
}

/* ---- setting ---- */

static struct haproxy_split wanted(const struct turn *turn, const struct sight *sight)
{
    const struct driver_order *order = turn->order;
    return (struct haproxy_split){
        .share_bp = order->share_bp,
        .epoch = driver_epoch_after(order, sight->split.epoch),
        .expires = order->share_bp == 0 ? 0
                   : order->lease_ms    ? (sight->now_ms + order->lease_ms) / 1000
                                        : FOREVER,
        .whole = true,
    };
}

static bool is_split(const struct haproxy_split *got, const struct haproxy_split *want)
{
    return got->share_bp == want->share_bp && got->epoch == want->epoch && got->expires == want->expires && got->whole;
}

static enum driver_status save(const struct map *m, const struct haproxy_split *split, struct error *err)
{
    char *text = mem_printf("# haldane writes this file, and HAProxy reads it when it starts.\n"
                            "canary %u\nepoch %llu\nexpires %lld\n",
                            split->share_bp, (unsigned long long)split->epoch, (long long)split->expires);
    enum driver_status status = durable_write(m->file, text, err);
    free(text);
    return status;
}

/* The file first; `*old` is what it held, or NULL. A file that cannot be written stops only a raise. */
static enum driver_status save_first(struct turn *turn, const struct haproxy_split *want, bool raise, char **old,
                                     struct error *err)
{
    turn->unsaved = (struct error){0};
    enum driver_status status = DRIVER_OK;
    if (turn->lock < 0)
        turn->unsaved = turn->unlocked;
    else
        status = durable_read(turn->map->file, old, &turn->unsaved);
    if (turn->lock >= 0 && status == DRIVER_OK)
        status = save(turn->map, want, &turn->unsaved);
    if (status == DRIVER_OK || !raise)
        return DRIVER_OK;
    return driver_fail(err, DRIVER_REFUSED,
                       "%.900s; without it a restart of HAProxy would not know the share, so nothing was changed",
                       turn->unsaved.text);
}

/* The running balancer did not follow: a restart must not find more for the canary than it has. */
static void put_back(const struct turn *turn, const char *old, struct error *err)
{
    struct error why = {0};
    if (!old || durable_write(turn->map->file, old, &why) == DRIVER_OK)
        return;
    struct error first = *err;
    driver_fail(err, DRIVER_REFUSED, "%.500s; and its file could not be put back: %.400s", first.text, why.text);
    err->code = first.code;
}

static enum driver_status begin_version(const struct turn *turn, uint64_t *version, struct error *err)
{
    const struct map *m = turn->map;
    char *answer = NULL;
    char *command = mem_printf("prepare map %s", m->file);
    enum driver_status status = haproxy_command(&m->haproxy, turn->deadline_ms, command, &answer, err);
    if (status == DRIVER_OK && strncmp(answer, "Unknown map", 11) == 0)
        status = no_map(m, err);
    else if (status == DRIVER_OK && !haproxy_parse_version(answer, version, err))
        status = haproxy_not_taken(&m->haproxy, command, err);
    free(command);
    free(answer);
    return status;
}

static enum driver_status add_entry(const struct turn *turn, uint64_t version, const char *key, int64_t value,
                                    struct error *err)
{
    char *command =
        mem_printf("add map @%llu %s %s %lld", (unsigned long long)version, turn->map->file, key, (long long)value);
    enum driver_status status = haproxy_order(&turn->map->haproxy, turn->deadline_ms, command, err);
    free(command);
    return status;
}

/* DRIVER_MISMATCH if somebody else has committed a version since ours was begun, or HAProxy was restarted. */
static enum driver_status commit(const struct turn *turn, uint64_t version, struct error *err)
{
    const struct map *m = turn->map;
    char *answer = NULL;
    char *command = mem_printf("commit map @%llu %s", (unsigned long long)version, m->file);
    enum driver_status status = haproxy_command(&m->haproxy, turn->deadline_ms, command, &answer, err);
    if (status == DRIVER_OK && *answer) {
        char line[HAPROXY_LINE];
        bool overtaken = strncmp(answer, "Version number", 14) == 0;
        status = driver_fail(err, overtaken ? DRIVER_MISMATCH : DRIVER_REFUSED, "HAProxy at %s refused `%s`: %s%s",
                             m->haproxy.socket, command, haproxy_first_line(answer, line),
                             overtaken ? " Somebody else sets this map at the same time" : "");
    }
    free(command);
    free(answer);
    return status;
}

static enum driver_status put_in_force(const struct turn *turn, uint64_t version, const struct haproxy_split *want,
                                       struct error *err)
{
    enum driver_status status = add_entry(turn, version, "canary", want->share_bp, err);
    if (status == DRIVER_OK)
        status = add_entry(turn, version, "epoch", (int64_t)want->epoch, err);
    if (status == DRIVER_OK)
        status = add_entry(turn, version, "expires", want->expires, err);
    return status == DRIVER_OK ? commit(turn, version, err) : status;
}

/* What `set` returns is what this sees, not what was asked for. */
static enum driver_status read_back(const struct turn *turn, const struct haproxy_split *want, struct driver_state *got,
                                    struct error *err)
{
    struct sight sight;
    enum driver_status status = look(turn->map, turn->deadline_ms, &sight, err);
    if (status == DRIVER_OK)
        fill_state(turn->map, &sight, got);
    if (status == DRIVER_OK && !is_split(&sight.split, want))
        status =
            driver_fail(err, DRIVER_MISMATCH,
                        "HAProxy at %s took canary %u, epoch %llu, expires %lld for %s, and then showed canary %u, "
                        "epoch %llu, expires %lld; does somebody else set it too, or was HAProxy restarted?",
                        turn->map->haproxy.socket, want->share_bp, (unsigned long long)want->epoch,
                        (long long)want->expires, turn->map->file, sight.split.share_bp,
                        (unsigned long long)sight.split.epoch, (long long)sight.split.expires);
    sight_free(&sight);
    return status;
}

static enum driver_status carry_out(struct turn *turn, uint64_t version, const struct sight *sight,
                                    struct driver_state *got, struct error *err)
{
    struct haproxy_split want = wanted(turn, sight);
    bool raise = want.share_bp > in_force(sight);
    bool lower = want.share_bp < in_force(sight) || want.share_bp == 0;
    char *old = NULL;
    enum driver_status status = turn->map->local ? save_first(turn, &want, raise, &old, err) : DRIVER_OK;
    if (status == DRIVER_OK) {
        status = put_in_force(turn, version, &want, err);
        if (status == DRIVER_OK)
            status = read_back(turn, &want, got, err);
        if (status != DRIVER_OK && !lower)
            put_back(turn, old, err);
    }
    free(old);
    return status;
}

static enum driver_status try_set(struct turn *turn, struct driver_state *got, struct error *err)
{
    uint64_t version = 0;
    enum driver_status status = begin_version(turn, &version, err);
    if (status != DRIVER_OK)
        return status;
    struct sight sight;
    status = look(turn->map, turn->deadline_ms, &sight, err);
    if (status == DRIVER_OK) {
        fill_state(turn->map, &sight, got);
        status = allowed(turn, &sight, err);
    }
    if (status == DRIVER_OK)
        status = carry_out(turn, version, &sight, got, err);
    sight_free(&sight);
    return status;
}

static void take_lock(struct turn *turn)
{
    turn->lock = -1;
    if (!turn->map->local)
        return;
    char *path = mem_printf("%s.lock", turn->map->file);
    if (durable_lock(path, driver_clock_ms() + LOCK_WAIT_MS, &turn->lock, &turn->unlocked) != DRIVER_OK)
        turn->lock = -1;
    free(path);
}

static void tell_unsaved(const struct turn *turn, struct driver_state *got)
{
    got->unsaved = true;
    got->capabilities &= ~(uint32_t)DRIVER_PERSIST;
    char *text =
        mem_printf("a restart of HAProxy may bring an older share back: %.140s; %s", turn->unsaved.text, got->detail);
    haproxy_tell(got, text);
    free(text);
}

static enum driver_status map_set(void *self, const struct driver_order *order, struct driver_state *got,
                                  struct error *err)
{
    struct turn turn = {.map = self, .order = order, .deadline_ms = driver_clock_ms() + DRIVER_DEADLINE_MS};
    take_lock(&turn);
    enum driver_status status = DRIVER_MISMATCH;
    for (int attempt = 0; attempt < SET_ATTEMPTS && status == DRIVER_MISMATCH; attempt++)
        status = try_set(&turn, got, err);
    if (status == DRIVER_OK && turn.unsaved.code != ERROR_NONE)
        tell_unsaved(&turn, got);
    if (turn.lock >= 0)
        close(turn.lock);
    return status;
}

/* ---- asking ---- */

static enum driver_status map_get(void *self, struct driver_state *got, struct error *err)
{
    const struct map *m = self;
    struct sight sight;
    enum driver_status status = look(m, driver_clock_ms() + DRIVER_DEADLINE_MS, &sight, err);
    if (status == DRIVER_OK) {
        fill_state(m, &sight, got);
        status = check_fit(m, &sight, err);
    }
    sight_free(&sight);
    return status;
}

static enum driver_status map_counters(void *self, struct balancer_counters *got, struct error *err)
{
    const struct map *m = self;
    return haproxy_counters(&m->haproxy, got, err);
}

static enum driver_status map_drain(void *self, enum track track, int64_t deadline_ms, uint64_t *in_flight,
                                    struct error *err)
{
    const struct map *m = self;
    struct sight sight;
    enum driver_status status = look(m, driver_clock_ms() + DRIVER_DEADLINE_MS, &sight, err);
    if (status == DRIVER_OK)
        status = haproxy_may_drain(track, in_force(&sight), err);
    sight_free(&sight);
    return status == DRIVER_OK ? haproxy_drain(&m->haproxy, track, deadline_ms, in_flight, err) : status;
}

/* ---- checking ---- */

/* Without a rule that reads `expires` a lease would be promised and never end. HAProxy tells how many rules look. */
static enum driver_status find_uses(const struct map *m, int64_t deadline_ms, struct driver_report *report,
                                    struct error *err)
{
    char *answer = NULL;
    enum driver_status status = haproxy_command(&m->haproxy, deadline_ms, "show map", &answer, err);
    if (status == DRIVER_OK && haproxy_count_uses(answer, m->file) < RULES_THAT_READ)
        driver_find(report, true,
                    "only one line of HAProxy's configuration reads %s, so it cannot look at both `canary` and "
                    "`expires`, and a share would not end by itself; take the rules from "
                    "compose/examples/haproxy-map.cfg",
                    m->file);
    free(answer);
    return status;
}

static void find_entries(const struct map *m, const struct sight *sight, struct driver_report *report)
{
    if (!sight->split.whole)
        driver_find(report, false,
                    "%s does not hold just one entry each of `canary`, `epoch` and `expires`; what is missing counts "
                    "as 0, and the first change writes these three and drops all others",
                    m->file);
}

/* A file by the rules of HAProxy's maps, in the form of the answer to `show map`. */
static char *as_answer(const char *file)
{
    struct strbuf text = {0};
    char *copy = mem_strdup(file);
    char *rest = copy;
    for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n")) {
        line += strspn(line, " \t\r");
        size_t key = strcspn(line, " \t\r");
        if (*line == '#' || key == 0)
            continue;
        char *value = line + key + strspn(line + key, " \t\r");
        strbuf_printf(&text, "0x0 %.*s %s\n", (int)key, line, value);
    }
    free(copy);
    return strbuf_take(&text);
}

static void find_map_file(const struct map *m, const struct sight *sight, struct driver_report *report)
{
    struct error why = {0};
    char *text = NULL;
    if (!m->local) {
        driver_find(report, false,
                    "map: HAProxy is asked at %s, so %s on its machine is not written: a restart there brings back "
                    "whatever that file holds; keep it at `canary 0`",
                    m->haproxy.socket, m->file);
        return;
    }
    haproxy_find_file("map", m->file, report);
    enum driver_status status = durable_read(m->file, &text, &why);
    if (status != DRIVER_OK) {
        driver_find(report, true, "map: %s", why.text);
        return;
    }
    if (!text) {
        driver_find(report, true, "map: %s is not there; HAProxy will not start without", m->file);
        return;
    }
    char *answer = as_answer(text);
    struct haproxy_split split = {0};
    haproxy_parse_split(answer, &split, &why);
    if (split.share_bp != sight->split.share_bp || split.epoch != sight->split.epoch ||
        split.expires != sight->split.expires)
        driver_find(report, split.share_bp > sight->split.share_bp,
                    "%s holds %.4g %% (epoch %llu), and HAProxy goes by %.4g %% (epoch %llu): a restart would change "
                    "the share; `haldane traffic set` writes both",
                    m->file, split.share_bp / 100.0, (unsigned long long)split.epoch, sight->split.share_bp / 100.0,
                    (unsigned long long)sight->split.epoch);
    free(answer);
    free(text);
}

static bool has_address(const struct haproxy *h, const struct haproxy_view *view, enum track track, const char *address)
{
    for (size_t i = 0; i < h->count; i++)
        if (h->targets[i].track == track && view->named[i] && strcmp(view->named[i]->address, address) == 0)
            return true;
    return false;
}

/* Two backends know nothing of each other: without this net the crash of a track's servers loses its requests. */
static void find_net(const struct haproxy *h, const struct haproxy_view *view, size_t backend,
                     struct driver_report *report)
{
    enum track own = TRACK_STABLE;
    for (size_t i = 0; i < h->count; i++)
        if (h->targets[i].backend == backend)
            own = h->targets[i].track;
    enum track other = own == TRACK_STABLE ? TRACK_CANARY : TRACK_STABLE;
    for (size_t i = 0; i < view->backends[backend].count; i++) {
        const struct haproxy_server *s = &view->backends[backend].servers[i];
        if (s->backup && has_address(h, view, other, s->address))
            return;
    }
    driver_find(report, false,
                "backend %s has no `backup` server that is a server of %s, so its requests are lost while its own are "
                "down; add one",
                h->backends[backend], other == TRACK_STABLE ? "stable" : "the canary");
}

static enum driver_status map_check(void *self, struct driver_report *report, struct error *err)
{
    const struct map *m = self;
    int64_t deadline_ms = driver_clock_ms() + DRIVER_DEADLINE_MS;
    struct sight sight;
    enum driver_status status = look(m, deadline_ms, &sight, err);
    if (status == DRIVER_OK)
        status = find_uses(m, deadline_ms, report, err);
    if (status == DRIVER_OK && sight.seen == DRIVER_OK) {
        haproxy_find_misfits(&m->haproxy, &sight.view, report);
        haproxy_find_down(&m->haproxy, &sight.view, report);
        haproxy_find_weaknesses(&m->haproxy, &sight.view, report);
        for (size_t i = 0; i < m->haproxy.backend_count; i++)
            find_net(&m->haproxy, &sight.view, i, report);
    } else if (status == DRIVER_OK) {
        driver_find(report, true, "%s", sight.why.text);
    }
    if (status == DRIVER_OK) {
        find_entries(m, &sight, report);
        find_map_file(m, &sight, report);
    }
    sight_free(&sight);
    return status;
}

const struct driver_ops haproxy_map_ops = {
    .name = "haproxy",
    .open = map_open,
    .close = map_close,
    .get = map_get,
    .set = map_set,
    .counters = map_counters,
    .drain = map_drain,
    .check = map_check,
};
