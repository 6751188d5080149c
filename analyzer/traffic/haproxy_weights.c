/*
 * HAProxy by server weights, in a configuration that the user already has. Every operation looks at the balancer
 * afresh, as two tables (haproxy_view.h); nothing is remembered between two operations, because a reload brings the
 * configuration's weights back, and a colleague may have a hand in it.
 *
 * The share is what the weights intend. A canary that is down gets no traffic, and still keeps its share here: its
 * health is told in `up`, and the share must not seem to change each time a check fails.
 *
 * Raising is refused unless everything fits. Lowering goes on with what is there, for a rollback must not fail because
 * somebody has changed the configuration since the rollout began.
 */
#include "analyzer/traffic/durable.h"
#include "analyzer/traffic/haproxy_view.h"
#include "analyzer/traffic/weights.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SET_ATTEMPTS = 2 };

struct weights {
    struct haproxy haproxy; /* with one backend */
    char *state_file;       /* may be NULL */
};

/* What is to be done to the servers that are there. */
struct plan {
    struct weight_server *weights;
    const struct haproxy_server **servers;
    size_t count;
};

/* ---- opening ---- */

static void weights_close(void *self)
{
    struct weights *w = self;
    haproxy_clear(&w->haproxy);
    free(w->state_file);
    free(w);
}

static void *weights_open(const struct policy_balancer *balancer, struct error *err)
{
    struct weights *w = mem_alloc(1, sizeof *w);
    w->state_file = mem_strdup(balancer->state_file);
    if (haproxy_init(&w->haproxy, balancer, balancer->backend ? balancer->backend : "", err))
        return w;
    weights_close(w);
    return NULL;
}

static const char *backend_of(const struct weights *w)
{
    return w->haproxy.backends[0];
}

/* ---- judging what was seen ---- */

/*
 * Weights are shares under roundrobin and random only. The hashes and static-rr take 0 and 100 % at most, and leastconn
 * spreads idle servers evenly, whatever their weight: a canary meant to get 5 % gets half of a calm night's traffic.
 * HAProxy up to 2.6 says "unknown" for random.
 */
static void find_algorithm(const struct weights *w, const struct haproxy_view *view, struct driver_report *report)
{
    static const char *const fit[] = {"roundrobin", "random", "unknown"};
    const char *algorithm = view->backends[0].algorithm;
    for (size_t i = 0; i < sizeof fit / sizeof fit[0]; i++)
        if (strcmp(algorithm, fit[i]) == 0)
            return;
    if (!*algorithm)
        driver_find(report, true,
                    "HAProxy at %s does not say by which algorithm backend %s balances, because the socket has too few "
                    "rights: its `stats socket` line needs `level admin`",
                    w->haproxy.socket, backend_of(w));
    else
        driver_find(report, true,
                    "backend %s balances by `%.40s`, under which weights give no exact share; use `balance roundrobin` "
                    "(or `random`) in HAProxy's configuration",
                    backend_of(w), algorithm);
}

/* During a rollout the servers of a track share evenly; a machine that was meant to get less would be overrun. */
static void find_uneven(const struct weights *w, const struct haproxy_view *view, struct driver_report *report)
{
    const struct haproxy_server *first[TRACKS] = {NULL};
    for (size_t i = 0; i < w->haproxy.count; i++) {
        const struct haproxy_server *s = view->named[i];
        if (!s || !s->initial)
            continue;
        const struct haproxy_server **other = &first[w->haproxy.targets[i].track];
        if (!*other)
            *other = s;
        else if ((*other)->initial != s->initial)
            driver_find(report, true,
                        "the configuration of backend %s gives %s weight %u and %s weight %u; during a rollout all "
                        "servers of a track share evenly: give them the same weight",
                        backend_of(w), (*other)->name, (*other)->initial, s->name, s->initial);
    }
}

static enum driver_status check_fit(const struct weights *w, const struct haproxy_view *view, bool raise,
                                    struct error *err)
{
    struct driver_report report = {0};
    haproxy_find_misfits(&w->haproxy, view, &report);
    find_algorithm(w, view, &report);
    if (raise)
        find_uneven(w, view, &report);
    return haproxy_refuse(&report, err);
}

/* "stable1 95, stable2 95 DOWN, canary1 5"; of all tracks or of one. The caller frees it. */
static char *describe(const struct weights *w, const struct haproxy_view *view, enum track only)
{
    struct strbuf text = {0};
    for (size_t i = 0; i < w->haproxy.count; i++) {
        if (only != TRACKS && w->haproxy.targets[i].track != only)
            continue;
        const struct haproxy_server *s = view->named[i];
        strbuf_printf(&text, "%s%.60s ", text.length ? ", " : "", w->haproxy.targets[i].name);
        if (s)
            strbuf_printf(&text, "%u%s", s->weight, haproxy_health_word(s));
        else
            strbuf_puts(&text, "missing");
    }
    return strbuf_take(&text);
}

static struct plan plan_new(const struct weights *w, const struct haproxy_view *view)
{
    size_t count = w->haproxy.count;
    struct plan plan = {.weights = mem_alloc(count, sizeof *plan.weights),
                        .servers = mem_alloc(count, sizeof(const struct haproxy_server *))};
    for (size_t i = 0; i < count; i++) {
        const struct haproxy_server *s = view->named[i];
        if (!s)
            continue;
        plan.servers[plan.count] = s;
        plan.weights[plan.count++] = (struct weight_server){
            .track = w->haproxy.targets[i].track, .initial = s->initial, .from = s->weight, .to = s->weight};
    }
    return plan;
}

static void plan_free(struct plan *plan)
{
    free(plan->weights);
    free(plan->servers);
}

static uint32_t share_of(const struct weights *w, const struct haproxy_view *view)
{
    struct plan plan = plan_new(w, view);
    uint32_t share_bp = weights_share(plan.weights, plan.count);
    plan_free(&plan);
    return share_bp;
}

static void fill_state(const struct weights *w, const struct haproxy_view *view, uint64_t generation,
                       struct driver_state *got)
{
    *got = (struct driver_state){
        .share_bp = share_of(w, view),
        .generation = generation,
        .lease_left_ms = -1,
        .capabilities = DRIVER_READBACK | DRIVER_COUNTERS | DRIVER_DRAIN | DRIVER_NO_RELOAD,
    };
    if (w->state_file)
        got->capabilities |= DRIVER_PERSIST;
    haproxy_fill_health(&w->haproxy, view, got);
    char *text = describe(w, view, TRACKS);
    haproxy_tell(got, text);
    free(text);
}

/* Looks, and fills `got` if that could be done. The caller frees the view, also on failure. */
static enum driver_status look(const struct weights *w, int64_t deadline_ms, struct haproxy_view *view,
                               struct driver_state *got, struct error *err)
{
    uint64_t generation = 0;
    *view = (struct haproxy_view){0};
    enum driver_status status = haproxy_generation(&w->haproxy, deadline_ms, &generation, err);
    if (status == DRIVER_OK)
        status = haproxy_look(&w->haproxy, deadline_ms, view, err);
    if (status == DRIVER_OK)
        fill_state(w, view, generation, got);
    return status;
}

/* ---- setting ---- */

static bool has_track(const struct plan *plan, enum track track)
{
    for (size_t i = 0; i < plan->count; i++)
        if (plan->weights[i].track == track)
            return true;
    return false;
}

/* A rollback needs one server of each track that it can still find. */
static enum driver_status check_tracks(const struct weights *w, const struct haproxy_view *view,
                                       const struct plan *plan, struct error *err)
{
    if (has_track(plan, TRACK_STABLE) && has_track(plan, TRACK_CANARY))
        return DRIVER_OK;
    struct driver_report report = {0};
    haproxy_find_misfits(&w->haproxy, view, &report);
    return haproxy_refuse(&report, err);
}

static enum driver_status may_raise(const struct weights *w, const struct haproxy_view *view, struct error *err)
{
    enum driver_status status = check_fit(w, view, true, err);
    if (status != DRIVER_OK)
        return status;
    char *text = describe(w, view, TRACK_CANARY);
    status = haproxy_may_raise(&w->haproxy, view, text, err);
    free(text);
    return status;
}

static enum driver_status may_end(const struct weights *w, const struct haproxy_view *view, struct error *err)
{
    char *text = describe(w, view, TRACKS);
    enum driver_status status = haproxy_may_end(&w->haproxy, view, share_of(w, view), text, err);
    free(text);
    return status;
}

static enum driver_status cannot_give(const struct weights *w, size_t servers, uint32_t share_bp, double nearest,
                                      struct error *err)
{
    return driver_fail(err, DRIVER_REFUSED,
                       "%.4g %% cannot be had with %zu servers in backend %s: HAProxy's weights are whole numbers "
                       "up to %d, and the nearest share is %.4g %%; use that, or another step",
                       share_bp / 100.0, servers, backend_of(w), WEIGHT_MAX, nearest / 100);
}

/* Chooses the weights, and says whether they may be set. */
static enum driver_status prepare(const struct weights *w, const struct haproxy_view *view, uint32_t share_bp,
                                  struct plan *plan, struct error *err)
{
    enum driver_status status = check_tracks(w, view, plan, err);
    if (status != DRIVER_OK)
        return status;
    double nearest = 0;
    if (!weights_choose(plan->weights, plan->count, share_bp, &nearest))
        return cannot_give(w, plan->count, share_bp, nearest, err);
    if (weights_raise(plan->weights, plan->count))
        return may_raise(w, view, err);
    return share_bp ? DRIVER_OK : may_end(w, view, err);
}

/* Asks HAProxy for the weight of one server, to prove a change before the next one. */
static enum driver_status prove_weight(const struct weights *w, int64_t deadline_ms, const char *server,
                                       uint32_t expected, struct error *err)
{
    char *answer = NULL;
    char *command = mem_printf("get weight %s/%s", backend_of(w), server);
    enum driver_status status = haproxy_command(&w->haproxy, deadline_ms, command, &answer, err);
    uint32_t weight = 0;
    if (status == DRIVER_OK && !haproxy_parse_weight(answer, &weight, err))
        status = haproxy_not_taken(&w->haproxy, command, err);
    if (status == DRIVER_OK && weight != expected)
        status = driver_fail(err, DRIVER_MISMATCH,
                             "HAProxy took weight %u for %s/%s and then showed %u; does somebody else set it too, "
                             "another haldane or an `agent-check`?",
                             expected, backend_of(w), server, weight);
    free(command);
    free(answer);
    return status;
}

static enum driver_status set_weight(const struct weights *w, int64_t deadline_ms, const char *server, uint32_t weight,
                                     struct error *err)
{
    char *command = mem_printf("set server %s/%s weight %u", backend_of(w), server, weight);
    enum driver_status status = haproxy_order(&w->haproxy, deadline_ms, command, err);
    free(command);
    return status == DRIVER_OK ? prove_weight(w, deadline_ms, server, weight, err) : status;
}

static enum driver_status carry_out(const struct weights *w, int64_t deadline_ms, const struct plan *plan,
                                    struct error *err)
{
    size_t *order = mem_alloc(plan->count, sizeof *order);
    size_t changes = weights_order(plan->weights, plan->count, order);
    enum driver_status status = DRIVER_OK;
    for (size_t i = 0; i < changes && status == DRIVER_OK; i++) {
        status = set_weight(w, deadline_ms, plan->servers[order[i]]->name, plan->weights[order[i]].to, err);
        if (status != DRIVER_OK && i > 0)
            error_prefix(err, "after %zu of %zu changes of weight", i, changes);
    }
    free(order);
    return status;
}

/* What `set` returns is what this sees, not what was asked for. */
static enum driver_status read_back(const struct weights *w, int64_t deadline_ms, const struct plan *plan,
                                    struct driver_state *got, struct error *err)
{
    struct haproxy_view view;
    enum driver_status status = look(w, deadline_ms, &view, got, err);
    for (size_t i = 0; i < plan->count && status == DRIVER_OK; i++)
        for (size_t k = 0; k < view.backends[0].count; k++) {
            const struct haproxy_server *s = &view.backends[0].servers[k];
            if (strcmp(s->name, plan->servers[i]->name) != 0 || s->weight == plan->weights[i].to)
                continue;
            status = driver_fail(err, DRIVER_MISMATCH,
                                 "%s/%s was given weight %u and shows %u; does somebody else set it too, another "
                                 "haldane or an `agent-check`, or was HAProxy reloaded?",
                                 backend_of(w), s->name, plan->weights[i].to, s->weight);
            break;
        }
    haproxy_view_free(&view);
    return status;
}

/* HAProxy loads this file when it is reloaded: its own account of its servers. */
static enum driver_status write_state(const struct weights *w, int64_t deadline_ms, struct error *err)
{
    char *answer = NULL;
    enum driver_status status = haproxy_command(&w->haproxy, deadline_ms, "show servers state", &answer, err);
    if (status == DRIVER_OK)
        status = durable_write(w->state_file, answer, err);
    free(answer);
    return status;
}

/* A canary gets no more where the way back could not be kept over a reload. Nothing has changed then. */
static enum driver_status may_be_saved(const struct weights *w, int64_t deadline_ms, struct error *err)
{
    enum driver_status status = write_state(w, deadline_ms, err);
    if (status != DRIVER_OK)
        error_prefix(err, "the share is not raised, for it could not be kept over a reload");
    return status;
}

static enum driver_status try_set(const struct weights *w, int64_t deadline_ms, uint32_t share_bp,
                                  struct driver_state *got, struct error *err)
{
    struct haproxy_view view;
    enum driver_status status = look(w, deadline_ms, &view, got, err);
    if (status == DRIVER_OK && w->state_file && share_bp > got->share_bp)
        status = may_be_saved(w, deadline_ms, err);
    if (status == DRIVER_OK) {
        struct plan plan = plan_new(w, &view);
        status = prepare(w, &view, share_bp, &plan, err);
        if (status == DRIVER_OK)
            status = carry_out(w, deadline_ms, &plan, err);
        if (status == DRIVER_OK)
            status = read_back(w, deadline_ms, &plan, got, err);
        plan_free(&plan);
    }
    haproxy_view_free(&view);
    return status;
}

/*
 * Written after the change, for it is HAProxy's account of it; the change has been made and proved then, and stands
 * whether the file can be written or not. The same order given again changes nothing, and writes the file.
 */
static void save_state(const struct weights *w, int64_t deadline_ms, struct driver_state *got)
{
    struct error why = {0};
    if (write_state(w, deadline_ms, &why) == DRIVER_OK)
        return;
    got->unsaved = true;
    got->capabilities &= ~(uint32_t)DRIVER_PERSIST;
    char *text = mem_printf("a reload of HAProxy would bring an older share back: %.140s; %s", why.text, got->detail);
    haproxy_tell(got, text);
    free(text);
}

static enum driver_status weights_set(void *self, const struct driver_order *order, struct driver_state *got,
                                      struct error *err)
{
    const struct weights *w = self;
    int64_t deadline_ms = driver_clock_ms() + DRIVER_DEADLINE_MS;
    enum driver_status status = DRIVER_MISMATCH;
    for (int attempt = 0; attempt < SET_ATTEMPTS && status == DRIVER_MISMATCH; attempt++)
        status = try_set(w, deadline_ms, order->share_bp, got, err);
    if (status == DRIVER_OK && w->state_file)
        save_state(w, deadline_ms, got);
    return status;
}

/* ---- asking ---- */

static enum driver_status weights_get(void *self, struct driver_state *got, struct error *err)
{
    const struct weights *w = self;
    struct haproxy_view view;
    enum driver_status status = look(w, driver_clock_ms() + DRIVER_DEADLINE_MS, &view, got, err);
    if (status == DRIVER_OK)
        status = check_fit(w, &view, false, err);
    haproxy_view_free(&view);
    return status;
}

static enum driver_status weights_counters(void *self, struct balancer_counters *got, struct error *err)
{
    const struct weights *w = self;
    return haproxy_counters(&w->haproxy, got, err);
}

static enum driver_status weights_drain(void *self, enum track track, int64_t deadline_ms, uint64_t *in_flight,
                                        struct error *err)
{
    const struct weights *w = self;
    struct driver_state got;
    struct haproxy_view view;
    enum driver_status status = look(w, driver_clock_ms() + DRIVER_DEADLINE_MS, &view, &got, err);
    haproxy_view_free(&view);
    if (status == DRIVER_OK)
        status = haproxy_may_drain(track, got.share_bp, err);
    return status == DRIVER_OK ? haproxy_drain(&w->haproxy, track, deadline_ms, in_flight, err) : status;
}

/* ---- checking ---- */

/* Restarted with such a file, HAProxy would give the canary traffic that nobody compares; but what its state file says
 * comes first. Two colours that take turns are such a case: the one that has weight in the file may be the new one. */
static void find_initial(const struct weights *w, const struct haproxy_view *view, struct driver_report *report)
{
    for (size_t i = 0; i < w->haproxy.count; i++) {
        const struct haproxy_server *s = view->named[i];
        if (!s || w->haproxy.targets[i].track != TRACK_CANARY || !s->initial)
            continue;
        if (w->state_file)
            driver_find(report, false,
                        "the configuration of backend %s gives %s weight %u; only %s keeps a reload or restart of "
                        "HAProxy from bringing that back",
                        backend_of(w), s->name, s->initial, w->state_file);
        else
            driver_find(report, true,
                        "the configuration of backend %s gives %s weight %u, and a reload or restart of HAProxy brings "
                        "that back; write `weight 0` there",
                        backend_of(w), s->name, s->initial);
    }
}

static void find_state_file(const struct weights *w, struct driver_report *report)
{
    if (!w->state_file)
        return;
    haproxy_find_file("state_file", w->state_file, report);
    if (access(w->state_file, R_OK) < 0)
        driver_find(report, false,
                    "state_file: %s is written with the first change; HAProxy needs `server-state-file %s` and "
                    "`load-server-state-from-file global` to read it",
                    w->state_file, w->state_file);
}

static enum driver_status weights_check(void *self, struct driver_report *report, struct error *err)
{
    const struct weights *w = self;
    struct driver_state got;
    struct haproxy_view view;
    enum driver_status status = look(w, driver_clock_ms() + DRIVER_DEADLINE_MS, &view, &got, err);
    if (status == DRIVER_OK) {
        haproxy_find_misfits(&w->haproxy, &view, report);
        find_algorithm(w, &view, report);
        find_uneven(w, &view, report);
        find_initial(w, &view, report);
        find_state_file(w, report);
        haproxy_find_down(&w->haproxy, &view, report);
        haproxy_find_weaknesses(&w->haproxy, &view, report);
    }
    haproxy_view_free(&view);
    return status;
}

/* With all the servers that the policy names. */
static enum driver_status weights_can_give(const void *self, uint32_t share_bp, struct error *err)
{
    const struct weights *w = self;
    size_t servers[TRACKS] = {0};
    struct weight_pair pair;
    double nearest = 0;
    for (size_t i = 0; i < w->haproxy.count; i++)
        servers[w->haproxy.targets[i].track]++;
    if (share_bp == 0 || share_bp == BASIS_POINTS ||
        weights_pair(share_bp, servers[TRACK_STABLE], servers[TRACK_CANARY], &pair, &nearest))
        return DRIVER_OK;
    return cannot_give(w, w->haproxy.count, share_bp, nearest, err);
}

const struct driver_ops haproxy_weights_ops = {
    .name = "haproxy",
    .open = weights_open,
    .close = weights_close,
    .get = weights_get,
    .set = weights_set,
    .counters = weights_counters,
    .drain = weights_drain,
    .check = weights_check,
    .can_give = weights_can_give,
};
