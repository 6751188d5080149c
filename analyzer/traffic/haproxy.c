/*
 * HAProxy by server weights, in a configuration that the user already has. Every operation looks at the balancer
 * afresh, as two tables (haproxy_parse.h); nothing is remembered between two operations, because a reload brings the
 * configuration's weights back, and a colleague may have a hand in it.
 *
 * The share is what the weights intend. A canary that is down gets no traffic, and still keeps its share here: its
 * health is told in `up`, and the share must not seem to change each time a check fails.
 *
 * Raising is refused unless everything fits. Lowering goes on with what is there, for a rollback must not fail because
 * somebody has changed the configuration since the rollout began.
 */
#include "analyzer/traffic/haproxy_parse.h"
#include "analyzer/traffic/haproxy_socket.h"
#include "analyzer/traffic/ops.h"
#include "analyzer/traffic/weights.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LISTED_NAMES = 10, SET_ATTEMPTS = 2 };

struct haproxy {
    char *socket, *backend;
    char **names; /* the policy's servers of both tracks */
    enum track *tracks;
    size_t count;
};

/* What HAProxy shows at one moment. */
struct view {
    struct haproxy_backend backend;
    const struct haproxy_server **named; /* one for each of `names`; NULL if the backend does not have it */
};

/* What is to be done to the servers that are there. */
struct plan {
    struct weight_server *weights;
    const struct haproxy_server **servers;
    size_t count;
};

/* ---- opening ---- */

/* HAProxy's own rule for names. It also keeps anything out of our commands that could end one and begin another. */
static bool valid_name(const char *name)
{
    if (!name || !*name)
        return false;
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && !strchr("_-.:", *name))
            return false;
    return true;
}

static bool check_servers(const struct policy_traffic *traffic, struct error *err)
{
    static const char *const keys[TRACKS] = {[TRACK_STABLE] = "stable", [TRACK_CANARY] = "canary"};
    for (size_t track = 0; track < TRACKS; track++) {
        if (traffic->server_count[track] == 0)
            return error_set(err, ERROR_DATA, "traffic.%s: name at least one server of the backend", keys[track]);
        for (size_t i = 0; i < traffic->server_count[track]; i++)
            if (!valid_name(traffic->servers[track][i]))
                return error_set(err, ERROR_DATA, "traffic.%s: '%s' cannot be the name of a server in HAProxy",
                                 keys[track], traffic->servers[track][i] ? traffic->servers[track][i] : "");
    }
    return true;
}

static void haproxy_close(void *self)
{
    struct haproxy *h = self;
    for (size_t i = 0; i < h->count; i++)
        free(h->names[i]);
    free(h->names);
    free(h->tracks);
    free(h->socket);
    free(h->backend);
    free(h);
}

static bool add_servers(struct haproxy *h, const struct policy_traffic *traffic, struct error *err)
{
    size_t total = traffic->server_count[TRACK_STABLE] + traffic->server_count[TRACK_CANARY];
    h->names = mem_alloc(total, sizeof *h->names);
    h->tracks = mem_alloc(total, sizeof *h->tracks);
    for (size_t track = 0; track < TRACKS; track++)
        for (size_t i = 0; i < traffic->server_count[track]; i++) {
            const char *name = traffic->servers[track][i];
            for (size_t k = 0; k < h->count; k++)
                if (strcmp(h->names[k], name) == 0)
                    return error_set(err, ERROR_DATA, "traffic: server %s is named twice; it can be of one track only",
                                     name);
            h->tracks[h->count] = (enum track)track;
            h->names[h->count++] = mem_strdup(name);
        }
    return true;
}

static void *haproxy_open(const struct policy_traffic *traffic, struct error *err)
{
    if (!traffic->socket || !*traffic->socket) {
        error_set(err, ERROR_DATA, "traffic.socket is missing: the path of HAProxy's admin socket, or HOST:PORT");
        return NULL;
    }
    if (!haproxy_address_check(traffic->socket, err))
        return NULL;
    if (!valid_name(traffic->backend)) {
        error_set(err, ERROR_DATA, "traffic.backend: '%s' cannot be the name of a backend in HAProxy",
                  traffic->backend ? traffic->backend : "");
        return NULL;
    }
    if (!check_servers(traffic, err))
        return NULL;
    struct haproxy *h = mem_alloc(1, sizeof *h);
    h->socket = mem_strdup(traffic->socket);
    h->backend = mem_strdup(traffic->backend);
    if (add_servers(h, traffic, err))
        return h;
    haproxy_close(h);
    return NULL;
}

/* ---- looking ---- */

static void add_name(struct strbuf *list, size_t *listed, const char *name)
{
    if (++*listed > LISTED_NAMES + 1)
        return;
    if (*listed > 1)
        strbuf_puts(list, ", ");
    if (*listed > LISTED_NAMES)
        strbuf_puts(list, "...");
    else
        strbuf_printf(list, "%.60s", name);
}

/* Asks; a refusal for want of rights is told with its mend. */
static enum driver_status ask(const struct haproxy *h, int64_t deadline_ms, const char *command, char **answer,
                              struct error *err)
{
    enum driver_status status = haproxy_ask(h->socket, deadline_ms, command, answer, err);
    if (status != DRIVER_OK || strncmp(*answer, "Permission denied", 17) != 0)
        return status;
    free(*answer);
    *answer = NULL;
    return driver_fail(err, DRIVER_REFUSED,
                       "HAProxy at %s does not permit `%s`: its `stats socket` line needs `level admin`", h->socket,
                       command);
}

/* The status for an answer that the parser did not take. */
static enum driver_status not_taken(const struct haproxy *h, const char *command, struct error *err)
{
    error_prefix(err, "HAProxy at %s, `%s`", h->socket, command);
    return err->code == ERROR_UNAVAILABLE ? DRIVER_UNREACHABLE : DRIVER_REFUSED;
}

static enum driver_status no_backend(const struct haproxy *h, int64_t deadline_ms, struct error *err)
{
    char *answer = NULL;
    struct strbuf list = {0};
    size_t listed = 0;
    if (ask(h, deadline_ms, "show backend", &answer, err) == DRIVER_OK) {
        char *rest = answer;
        for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n"))
            if (valid_name(line))
                add_name(&list, &listed, line);
        free(answer);
    }
    driver_fail(err, DRIVER_REFUSED, "HAProxy at %s has no backend %s; it has: %s", h->socket, h->backend,
                listed ? list.text : "none");
    strbuf_free(&list);
    return DRIVER_REFUSED;
}

static enum driver_status look_state(const struct haproxy *h, int64_t deadline_ms, struct view *view, struct error *err)
{
    char *answer = NULL;
    char *command = mem_printf("show servers state %s", h->backend);
    enum driver_status status = ask(h, deadline_ms, command, &answer, err);
    if (status == DRIVER_OK && strncmp(answer, "Can't find backend", 18) == 0)
        status = no_backend(h, deadline_ms, err);
    else if (status == DRIVER_OK && !haproxy_parse_state(answer, h->backend, &view->backend, err))
        status = not_taken(h, command, err);
    free(command);
    free(answer);
    return status;
}

/* By number, since a frontend may have the backend's name, and names may begin with a digit. 6: backends and servers.
 */
static enum driver_status look_stat(const struct haproxy *h, int64_t deadline_ms, struct view *view, struct error *err)
{
    char *answer = NULL;
    char *command = mem_printf("show stat %u 6 -1", view->backend.id);
    enum driver_status status = ask(h, deadline_ms, command, &answer, err);
    if (status == DRIVER_OK && !haproxy_parse_stat(answer, h->backend, &view->backend, err))
        status = not_taken(h, command, err);
    free(command);
    free(answer);
    return status;
}

static void view_free(struct view *view)
{
    haproxy_backend_free(&view->backend);
    free(view->named);
    view->named = NULL;
}

/* The caller frees the view, also on failure. */
static enum driver_status look(const struct haproxy *h, int64_t deadline_ms, struct view *view, struct error *err)
{
    *view = (struct view){0};
    enum driver_status status = look_state(h, deadline_ms, view, err);
    if (status == DRIVER_OK)
        status = look_stat(h, deadline_ms, view, err);
    if (status != DRIVER_OK)
        return status;
    view->named = mem_alloc(h->count, sizeof(const struct haproxy_server *));
    for (size_t i = 0; i < h->count; i++)
        for (size_t k = 0; k < view->backend.count && !view->named[i]; k++)
            if (strcmp(view->backend.servers[k].name, h->names[i]) == 0)
                view->named[i] = &view->backend.servers[k];
    return DRIVER_OK;
}

/* ---- judging what was seen ---- */

static enum driver_status check_names(const struct haproxy *h, const struct view *view, struct error *err)
{
    struct strbuf missing = {0};
    struct strbuf there = {0};
    size_t missing_count = 0;
    size_t there_count = 0;
    for (size_t i = 0; i < h->count; i++)
        if (!view->named[i])
            add_name(&missing, &missing_count, h->names[i]);
    for (size_t i = 0; i < view->backend.count; i++)
        add_name(&there, &there_count, view->backend.servers[i].name);
    if (missing_count)
        driver_fail(err, DRIVER_REFUSED,
                    "backend %s has no server %s; it has: %s. Correct `stable` and `canary` in the policy's traffic "
                    "section, or the backend",
                    h->backend, missing.text, there_count ? there.text : "none");
    strbuf_free(&missing);
    strbuf_free(&there);
    return missing_count ? DRIVER_REFUSED : DRIVER_OK;
}

static bool is_named(const struct haproxy *h, const struct view *view, const struct haproxy_server *server)
{
    for (size_t i = 0; i < h->count; i++)
        if (view->named[i] == server)
            return true;
    return false;
}

/* A server of neither track would take a part of the traffic that no share accounts for. */
static enum driver_status check_strangers(const struct haproxy *h, const struct view *view, struct error *err)
{
    for (size_t i = 0; i < view->backend.count; i++) {
        const struct haproxy_server *s = &view->backend.servers[i];
        if (!s->weight || s->backup || s->maintenance || s->draining || is_named(h, view, s))
            continue;
        return driver_fail(err, DRIVER_REFUSED,
                           "server %s of backend %s has weight %u and is of neither track, so it takes traffic that "
                           "nobody compares; add it to `stable` or `canary` in the policy, or give it weight 0",
                           s->name, h->backend, s->weight);
    }
    return DRIVER_OK;
}

/* HAProxy sends traffic to backup servers only when no other is left, whatever their weight. */
static enum driver_status check_backups(const struct haproxy *h, const struct view *view, struct error *err)
{
    for (size_t i = 0; i < h->count; i++)
        if (view->named[i] && view->named[i]->backup)
            return driver_fail(err, DRIVER_REFUSED,
                               "server %s of backend %s is a `backup` server, so its weight gives it no share; take "
                               "the word `backup` from its line in HAProxy's configuration",
                               h->names[i], h->backend);
    return DRIVER_OK;
}

/*
 * Weights are shares under roundrobin and random only. The hashes and static-rr take 0 and 100 % at most, and leastconn
 * spreads idle servers evenly, whatever their weight: a canary meant to get 5 % gets half of a calm night's traffic.
 * HAProxy up to 2.6 says "unknown" for random.
 */
static enum driver_status check_algorithm(const struct haproxy *h, const struct view *view, struct error *err)
{
    static const char *const fit[] = {"roundrobin", "random", "unknown"};
    for (size_t i = 0; i < sizeof fit / sizeof fit[0]; i++)
        if (strcmp(view->backend.algorithm, fit[i]) == 0)
            return DRIVER_OK;
    if (!*view->backend.algorithm)
        return driver_fail(err, DRIVER_REFUSED,
                           "HAProxy at %s does not say by which algorithm backend %s balances, because the socket has "
                           "too few rights: its `stats socket` line needs `level admin`",
                           h->socket, h->backend);
    return driver_fail(err, DRIVER_REFUSED,
                       "backend %s balances by `%.40s`, under which weights give no exact share; use `balance "
                       "roundrobin` (or `random`) in HAProxy's configuration",
                       h->backend, view->backend.algorithm);
}

static enum driver_status check_fit(const struct haproxy *h, const struct view *view, struct error *err)
{
    enum driver_status status = check_names(h, view, err);
    if (status == DRIVER_OK)
        status = check_backups(h, view, err);
    if (status == DRIVER_OK)
        status = check_strangers(h, view, err);
    if (status == DRIVER_OK)
        status = check_algorithm(h, view, err);
    return status;
}

/* During a rollout the servers of a track share evenly; a machine that was meant to get less would be overrun. */
static enum driver_status check_even(const struct haproxy *h, const struct view *view, struct error *err)
{
    const struct haproxy_server *first[TRACKS] = {NULL};
    for (size_t i = 0; i < h->count; i++) {
        const struct haproxy_server *s = view->named[i];
        if (!s || !s->initial)
            continue;
        const struct haproxy_server **other = &first[h->tracks[i]];
        if (!*other)
            *other = s;
        else if ((*other)->initial != s->initial)
            return driver_fail(err, DRIVER_REFUSED,
                               "the configuration of backend %s gives %s weight %u and %s weight %u; during a rollout "
                               "all servers of a track share evenly: give them the same weight",
                               h->backend, (*other)->name, (*other)->initial, s->name, s->initial);
    }
    return DRIVER_OK;
}

static const char *health_word(const struct haproxy_server *server)
{
    return server->maintenance ? " MAINT" : server->draining ? " DRAIN" : server->running ? "" : " DOWN";
}

static size_t count_up(const struct haproxy *h, const struct view *view, enum track track)
{
    size_t up = 0;
    for (size_t i = 0; i < h->count; i++)
        up += h->tracks[i] == track && view->named[i] && haproxy_server_up(view->named[i]);
    return up;
}

/* "stable1 95, stable2 95 DOWN, canary1 5"; of all tracks or of one. The caller frees it. */
static char *describe(const struct haproxy *h, const struct view *view, enum track only)
{
    struct strbuf text = {0};
    for (size_t i = 0; i < h->count; i++) {
        if (only != TRACKS && h->tracks[i] != only)
            continue;
        const struct haproxy_server *s = view->named[i];
        strbuf_printf(&text, "%s%.60s ", text.length ? ", " : "", h->names[i]);
        if (s)
            strbuf_printf(&text, "%u%s", s->weight, health_word(s));
        else
            strbuf_puts(&text, "missing");
    }
    return strbuf_take(&text);
}

static struct plan plan_new(const struct haproxy *h, const struct view *view)
{
    struct plan plan = {.weights = mem_alloc(h->count, sizeof *plan.weights),
                        .servers = mem_alloc(h->count, sizeof(const struct haproxy_server *))};
    for (size_t i = 0; i < h->count; i++) {
        const struct haproxy_server *s = view->named[i];
        if (!s)
            continue;
        plan.servers[plan.count] = s;
        plan.weights[plan.count++] =
            (struct weight_server){.track = h->tracks[i], .initial = s->initial, .from = s->weight, .to = s->weight};
    }
    return plan;
}

static void plan_free(struct plan *plan)
{
    free(plan->weights);
    free(plan->servers);
}

static void fill_state(const struct haproxy *h, const struct view *view, struct driver_state *got)
{
    struct plan plan = plan_new(h, view);
    *got = (struct driver_state){.share_bp = weights_share(plan.weights, plan.count),
                                 .health_known = true,
                                 .capabilities = DRIVER_READBACK | DRIVER_COUNTERS | DRIVER_NO_RELOAD};
    plan_free(&plan);
    for (size_t i = 0; i < h->count; i++)
        if (view->named[i] && !view->named[i]->checked)
            got->health_known = false;
    for (size_t track = 0; got->health_known && track < TRACKS; track++)
        got->up[track] = (uint32_t)count_up(h, view, (enum track)track);
    char *text = describe(h, view, TRACKS);
    size_t cut = sizeof got->detail - sizeof "...";
    snprintf(got->detail, sizeof got->detail, "%.*s%s", (int)cut, text, strlen(text) > cut ? "..." : "");
    free(text);
}

/* ---- setting ---- */

static enum driver_status check_canary_up(const struct haproxy *h, const struct view *view, struct error *err)
{
    bool out = false;
    for (size_t i = 0; i < h->count; i++)
        if (h->tracks[i] == TRACK_CANARY && (view->named[i]->maintenance || view->named[i]->draining))
            out = true;
    if (!out && count_up(h, view, TRACK_CANARY) > 0)
        return DRIVER_OK;
    char *text = describe(h, view, TRACK_CANARY);
    driver_fail(
        err, DRIVER_UNHEALTHY,
        out ? "a canary server of backend %s is out of service (%s), so the canary gets no more traffic; end it "
              "with `set server %s/NAME state ready` on HAProxy's socket"
            : "no canary server of backend %s is up (%s), so the canary gets no more traffic; see why the "
              "health checks of backend %s fail",
        h->backend, text, h->backend);
    free(text);
    return DRIVER_UNHEALTHY;
}

/* The one thing that keeps a canary's traffic: without it nobody would serve. */
static enum driver_status check_stable_up(const struct haproxy *h, const struct view *view, uint32_t share_now,
                                          struct error *err)
{
    if (share_now == 0 || count_up(h, view, TRACK_STABLE) > 0 || count_up(h, view, TRACK_CANARY) == 0)
        return DRIVER_OK;
    char *text = describe(h, view, TRACKS);
    driver_fail(
        err, DRIVER_UNHEALTHY,
        "WAKE SOMEBODY: no stable server of backend %s is up (%.400s) and only the canary serves, so taking its "
        "traffic would be an outage; the canary keeps %.4g %%. Bring stable back, then run `haldane traffic "
        "stable POLICY`",
        h->backend, text, share_now / 100.0);
    free(text);
    return DRIVER_UNHEALTHY;
}

static bool has_track(const struct plan *plan, enum track track)
{
    for (size_t i = 0; i < plan->count; i++)
        if (plan->weights[i].track == track)
            return true;
    return false;
}

/* Chooses the weights, and says whether they may be set. */
static enum driver_status prepare(const struct haproxy *h, const struct view *view, uint32_t share_bp,
                                  struct plan *plan, struct error *err)
{
    if (!has_track(plan, TRACK_STABLE) || !has_track(plan, TRACK_CANARY))
        return check_names(h, view, err);
    double nearest = 0;
    if (!weights_choose(plan->weights, plan->count, share_bp, &nearest))
        return driver_fail(err, DRIVER_REFUSED,
                           "%.4g %% cannot be had with %zu servers in backend %s: HAProxy's weights are whole numbers "
                           "up to %d, and the nearest share is %.4g %%; use that, or another step",
                           share_bp / 100.0, plan->count, h->backend, WEIGHT_MAX, nearest / 100);
    if (!weights_raise(plan->weights, plan->count))
        return share_bp ? DRIVER_OK : check_stable_up(h, view, weights_share(plan->weights, plan->count), err);
    enum driver_status status = check_fit(h, view, err);
    if (status == DRIVER_OK)
        status = check_even(h, view, err);
    if (status == DRIVER_OK)
        status = check_canary_up(h, view, err);
    return status;
}

/* Asks HAProxy for the weight of one server, to prove a change before the next one. */
static enum driver_status prove_weight(const struct haproxy *h, int64_t deadline_ms, const char *server,
                                       uint32_t expected, struct error *err)
{
    char *answer = NULL;
    char *command = mem_printf("get weight %s/%s", h->backend, server);
    enum driver_status status = ask(h, deadline_ms, command, &answer, err);
    uint32_t weight = 0;
    if (status == DRIVER_OK && !haproxy_parse_weight(answer, &weight, err))
        status = not_taken(h, command, err);
    if (status == DRIVER_OK && weight != expected)
        status = driver_fail(err, DRIVER_MISMATCH,
                             "HAProxy took weight %u for %s/%s and then showed %u; does somebody else set it too, "
                             "another haldane or an `agent-check`?",
                             expected, h->backend, server, weight);
    free(command);
    free(answer);
    return status;
}

/* HAProxy has no exit codes: an empty answer is its yes, and any text is its no. */
static enum driver_status set_weight(const struct haproxy *h, int64_t deadline_ms, const char *server, uint32_t weight,
                                     struct error *err)
{
    char *answer = NULL;
    char *command = mem_printf("set server %s/%s weight %u", h->backend, server, weight);
    enum driver_status status = ask(h, deadline_ms, command, &answer, err);
    if (status == DRIVER_OK && *answer) {
        char line[HAPROXY_LINE];
        status = driver_fail(err, DRIVER_REFUSED, "HAProxy at %s refused `%s`: %s", h->socket, command,
                             haproxy_first_line(answer, line));
    }
    free(command);
    free(answer);
    return status == DRIVER_OK ? prove_weight(h, deadline_ms, server, weight, err) : status;
}

static enum driver_status carry_out(const struct haproxy *h, int64_t deadline_ms, const struct plan *plan,
                                    struct error *err)
{
    size_t *order = mem_alloc(plan->count, sizeof *order);
    size_t changes = weights_order(plan->weights, plan->count, order);
    enum driver_status status = DRIVER_OK;
    for (size_t i = 0; i < changes && status == DRIVER_OK; i++) {
        status = set_weight(h, deadline_ms, plan->servers[order[i]]->name, plan->weights[order[i]].to, err);
        if (status != DRIVER_OK && i > 0)
            error_prefix(err, "after %zu of %zu changes of weight", i, changes);
    }
    free(order);
    return status;
}

/* What `set` returns is what this sees, not what was asked for. */
static enum driver_status read_back(const struct haproxy *h, int64_t deadline_ms, const struct plan *plan,
                                    struct driver_state *got, struct error *err)
{
    struct view view;
    enum driver_status status = look(h, deadline_ms, &view, err);
    if (status == DRIVER_OK) {
        fill_state(h, &view, got);
        for (size_t i = 0; i < plan->count && status == DRIVER_OK; i++)
            for (size_t k = 0; k < view.backend.count; k++) {
                const struct haproxy_server *s = &view.backend.servers[k];
                if (strcmp(s->name, plan->servers[i]->name) != 0 || s->weight == plan->weights[i].to)
                    continue;
                status = driver_fail(err, DRIVER_MISMATCH,
                                     "%s/%s was given weight %u and shows %u; does somebody else set it too, another "
                                     "haldane or an `agent-check`, or was HAProxy reloaded?",
                                     h->backend, s->name, plan->weights[i].to, s->weight);
                break;
            }
    }
    view_free(&view);
    return status;
}

static enum driver_status try_set(const struct haproxy *h, int64_t deadline_ms, uint32_t share_bp,
                                  struct driver_state *got, struct error *err)
{
    struct view view;
    enum driver_status status = look(h, deadline_ms, &view, err);
    if (status == DRIVER_OK) {
        fill_state(h, &view, got);
        struct plan plan = plan_new(h, &view);
        status = prepare(h, &view, share_bp, &plan, err);
        if (status == DRIVER_OK)
            status = carry_out(h, deadline_ms, &plan, err);
        if (status == DRIVER_OK)
            status = read_back(h, deadline_ms, &plan, got, err);
        plan_free(&plan);
    }
    view_free(&view);
    return status;
}

static enum driver_status haproxy_set(void *self, uint32_t share_bp, struct driver_state *got, struct error *err)
{
    int64_t deadline_ms = haproxy_clock_ms() + DRIVER_DEADLINE_MS;
    enum driver_status status = DRIVER_MISMATCH;
    for (int attempt = 0; attempt < SET_ATTEMPTS && status == DRIVER_MISMATCH; attempt++)
        status = try_set(self, deadline_ms, share_bp, got, err);
    return status;
}

/* ---- asking ---- */

static enum driver_status haproxy_get(void *self, struct driver_state *got, struct error *err)
{
    const struct haproxy *h = self;
    struct view view;
    enum driver_status status = look(h, haproxy_clock_ms() + DRIVER_DEADLINE_MS, &view, err);
    if (status == DRIVER_OK) {
        fill_state(h, &view, got);
        status = check_fit(h, &view, err);
    }
    view_free(&view);
    return status;
}

static enum driver_status ask_generation(const struct haproxy *h, int64_t deadline_ms, uint64_t *generation,
                                         struct error *err)
{
    char *answer = NULL;
    enum driver_status status = ask(h, deadline_ms, "show info", &answer, err);
    if (status == DRIVER_OK && !haproxy_parse_info(answer, generation, err))
        status = not_taken(h, "show info", err);
    free(answer);
    return status;
}

static enum driver_status add_up(const struct haproxy *h, const struct view *view, struct driver_counters *got,
                                 struct error *err)
{
    enum driver_status status = check_names(h, view, err);
    for (size_t i = 0; i < h->count && status == DRIVER_OK; i++) {
        const struct haproxy_server *s = view->named[i];
        if (!s->http)
            status = driver_fail(err, DRIVER_UNSUPPORTED,
                                 "backend %s is in TCP mode, where HAProxy counts no failed responses", h->backend);
        got->total[h->tracks[i]] += s->total;
        got->failed[h->tracks[i]] += s->failed;
        if (h->tracks[i] != TRACK_CANARY)
            continue;
        got->connection_errors += s->connection_errors;
        got->retries += s->retries;
        got->in_flight += s->in_flight;
    }
    return status;
}

/* The process is asked for before and after, so that counts of two processes are never told as those of one. */
static enum driver_status haproxy_counters(void *self, struct driver_counters *got, struct error *err)
{
    const struct haproxy *h = self;
    int64_t deadline_ms = haproxy_clock_ms() + DRIVER_DEADLINE_MS;
    uint64_t after = 0;
    struct view view = {0};
    enum driver_status status = ask_generation(h, deadline_ms, &got->generation, err);
    if (status == DRIVER_OK)
        status = look(h, deadline_ms, &view, err);
    if (status == DRIVER_OK)
        status = add_up(h, &view, got, err);
    view_free(&view);
    if (status == DRIVER_OK)
        status = ask_generation(h, deadline_ms, &after, err);
    if (status == DRIVER_OK && after != got->generation)
        status = driver_fail(err, DRIVER_UNREACHABLE,
                             "HAProxy at %s was reloaded while it was asked for its counts; "
                             "ask again",
                             h->socket);
    if (status != DRIVER_OK)
        *got = (struct driver_counters){0};
    return status;
}

const struct driver_ops haproxy_ops = {
    .name = "haproxy",
    .open = haproxy_open,
    .close = haproxy_close,
    .get = haproxy_get,
    .set = haproxy_set,
    .counters = haproxy_counters,
};
