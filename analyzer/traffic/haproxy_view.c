/*
 * A look is two tables for each backend (haproxy_parse.h), joined by the servers' names. A reload between the two is
 * noticed by the parser, and one between two counts by asking for the process before and after.
 */
#include "analyzer/traffic/haproxy_view.h"

#include "analyzer/model/verdict.h"
#include "analyzer/traffic/haproxy_socket.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LISTED_NAMES = 10, DRAIN_PAUSE_MS = 50 };

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

static size_t add_backend(struct haproxy *h, const char *name)
{
    for (size_t i = 0; i < h->backend_count; i++)
        if (strcmp(h->backends[i], name) == 0)
            return i;
    h->backends[h->backend_count] = mem_strdup(name);
    return h->backend_count++;
}

static bool named_twice(const struct haproxy *h)
{
    const struct haproxy_target *last = &h->targets[h->count - 1];
    for (size_t i = 0; i + 1 < h->count; i++)
        if (h->targets[i].backend == last->backend && strcmp(h->targets[i].name, last->name) == 0)
            return true;
    return false;
}

static bool add_server(struct haproxy *h, enum track track, const char *server, const char *backend, struct error *err)
{
    const char *slash = backend || !server ? NULL : strchr(server, '/');
    if (!backend && !slash)
        return error_set(err, ERROR_DATA, "traffic.%s: '%s' is no server with its backend; write BACKEND/SERVER",
                         track_names[track], server ? server : "");
    char *own = slash ? mem_strndup(server, (size_t)(slash - server)) : mem_strdup(backend);
    const char *name = slash ? slash + 1 : server;
    bool valid = valid_name(own) && valid_name(name);
    if (valid)
        h->targets[h->count++] =
            (struct haproxy_target){.name = mem_strdup(name), .track = track, .backend = add_backend(h, own)};
    free(own);
    if (!valid)
        return error_set(err, ERROR_DATA, "traffic.%s: '%s' cannot be the name of a server in HAProxy",
                         track_names[track], server ? server : "");
    return !named_twice(h) ||
           error_set(err, ERROR_DATA, "traffic: server %s is named twice; it can be of one track only", server);
}

static bool add_servers(struct haproxy *h, const struct policy_balancer *balancer, const char *backend,
                        struct error *err)
{
    size_t total = balancer->server_count[TRACK_STABLE] + balancer->server_count[TRACK_CANARY];
    h->targets = mem_alloc(total, sizeof *h->targets);
    h->backends = mem_alloc(total, sizeof *h->backends);
    for (size_t track = 0; track < TRACKS; track++) {
        if (balancer->server_count[track] == 0)
            return error_set(err, ERROR_DATA, "traffic.%s: name at least one server of the backend",
                             track_names[track]);
        for (size_t i = 0; i < balancer->server_count[track]; i++)
            if (!add_server(h, (enum track)track, balancer->servers[track][i], backend, err))
                return false;
    }
    return true;
}

bool haproxy_init(struct haproxy *h, const struct policy_balancer *balancer, const char *backend, struct error *err)
{
    *h = (struct haproxy){0};
    if (!balancer->socket || !*balancer->socket)
        return error_set(err, ERROR_DATA,
                         "traffic.socket is missing: the path of HAProxy's admin socket, or HOST:PORT");
    if (!haproxy_address_check("socket", balancer->socket, err) ||
        (balancer->master && !haproxy_address_check("master", balancer->master, err)))
        return false;
    if (backend && !valid_name(backend))
        return error_set(err, ERROR_DATA, "traffic.backend: '%s' cannot be the name of a backend in HAProxy", backend);
    h->tracks_apart = !backend;
    h->socket = mem_strdup(balancer->socket);
    h->master = mem_strdup(balancer->master);
    return add_servers(h, balancer, backend, err);
}

void haproxy_clear(struct haproxy *h)
{
    for (size_t i = 0; i < h->count; i++)
        free(h->targets[i].name);
    for (size_t i = 0; i < h->backend_count; i++)
        free(h->backends[i]);
    free(h->targets);
    free(h->backends);
    free(h->socket);
    free(h->master);
    *h = (struct haproxy){0};
}

/* ---- asking ---- */

enum driver_status haproxy_command(const struct haproxy *h, int64_t deadline_ms, const char *command, char **answer,
                                   struct error *err)
{
    *answer = NULL;
    enum driver_status status = haproxy_ask(h->socket, h->master, deadline_ms, command, answer, err);
    if (status != DRIVER_OK || strncmp(*answer + strspn(*answer, "\n"), "Permission denied", 17) != 0)
        return status;
    free(*answer);
    *answer = NULL;
    return driver_fail(err, DRIVER_REFUSED,
                       "HAProxy at %s does not permit `%s`: its `stats socket` line needs `level admin`", h->socket,
                       command);
}

/* HAProxy has no exit codes: an empty answer is its yes, and any text is its no. */
enum driver_status haproxy_order(const struct haproxy *h, int64_t deadline_ms, const char *command, struct error *err)
{
    char *answer = NULL;
    enum driver_status status = haproxy_command(h, deadline_ms, command, &answer, err);
    if (status == DRIVER_OK && *answer) {
        char line[HAPROXY_LINE];
        status = driver_fail(err, DRIVER_REFUSED, "HAProxy at %s refused `%s`: %s", h->socket, command,
                             haproxy_first_line(answer, line));
    }
    free(answer);
    return status;
}

enum driver_status haproxy_not_taken(const struct haproxy *h, const char *command, struct error *err)
{
    error_prefix(err, "HAProxy at %s, `%s`", h->socket, command);
    return err->code == ERROR_UNAVAILABLE ? DRIVER_UNREACHABLE : DRIVER_REFUSED;
}

enum driver_status haproxy_generation(const struct haproxy *h, int64_t deadline_ms, uint64_t *generation,
                                      struct error *err)
{
    char *answer = NULL;
    enum driver_status status = haproxy_command(h, deadline_ms, "show info", &answer, err);
    if (status == DRIVER_OK && !haproxy_parse_info(answer, generation, err))
        status = haproxy_not_taken(h, "show info", err);
    free(answer);
    return status;
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

static enum driver_status no_backend(const struct haproxy *h, int64_t deadline_ms, const char *name, struct error *err)
{
    char *answer = NULL;
    struct strbuf list = {0};
    size_t listed = 0;
    if (haproxy_command(h, deadline_ms, "show backend", &answer, err) == DRIVER_OK) {
        char *rest = answer;
        for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n"))
            if (valid_name(line))
                add_name(&list, &listed, line);
        free(answer);
    }
    driver_fail(err, DRIVER_REFUSED, "HAProxy at %s has no backend %s; it has: %s", h->socket, name,
                listed ? list.text : "none");
    strbuf_free(&list);
    return DRIVER_REFUSED;
}

static enum driver_status look_state(const struct haproxy *h, int64_t deadline_ms, const char *name,
                                     struct haproxy_backend *backend, struct error *err)
{
    char *answer = NULL;
    char *command = mem_printf("show servers state %s", name);
    enum driver_status status = haproxy_command(h, deadline_ms, command, &answer, err);
    if (status == DRIVER_OK && strncmp(answer, "Can't find backend", 18) == 0)
        status = no_backend(h, deadline_ms, name, err);
    else if (status == DRIVER_OK && !haproxy_parse_state(answer, name, backend, err))
        status = haproxy_not_taken(h, command, err);
    free(command);
    free(answer);
    return status;
}

/* By number, since a frontend may have the backend's name, and names may begin with a digit. 6: backends and servers.
 */
static enum driver_status look_stat(const struct haproxy *h, int64_t deadline_ms, const char *name,
                                    struct haproxy_backend *backend, struct error *err)
{
    char *answer = NULL;
    char *command = mem_printf("show stat %u 6 -1", backend->id);
    enum driver_status status = haproxy_command(h, deadline_ms, command, &answer, err);
    if (status == DRIVER_OK && !haproxy_parse_stat(answer, name, backend, err))
        status = haproxy_not_taken(h, command, err);
    free(command);
    free(answer);
    return status;
}

void haproxy_view_free(struct haproxy_view *view)
{
    for (size_t i = 0; i < view->backend_count; i++)
        haproxy_backend_free(&view->backends[i]);
    free(view->backends);
    free(view->named);
    *view = (struct haproxy_view){0};
}

static const struct haproxy_server *find_server(const struct haproxy_backend *backend, const char *name)
{
    for (size_t i = 0; i < backend->count; i++)
        if (strcmp(backend->servers[i].name, name) == 0)
            return &backend->servers[i];
    return NULL;
}

enum driver_status haproxy_look(const struct haproxy *h, int64_t deadline_ms, struct haproxy_view *view,
                                struct error *err)
{
    *view = (struct haproxy_view){.backends = mem_alloc(h->backend_count, sizeof *view->backends),
                                  .named = mem_alloc(h->count, sizeof(const struct haproxy_server *)),
                                  .backend_count = h->backend_count};
    for (size_t i = 0; i < h->backend_count; i++) {
        enum driver_status status = look_state(h, deadline_ms, h->backends[i], &view->backends[i], err);
        if (status == DRIVER_OK)
            status = look_stat(h, deadline_ms, h->backends[i], &view->backends[i], err);
        if (status != DRIVER_OK)
            return status;
    }
    for (size_t i = 0; i < h->count; i++)
        view->named[i] = find_server(&view->backends[h->targets[i].backend], h->targets[i].name);
    return DRIVER_OK;
}

/* ---- what was seen ---- */

static bool is_idle(const struct haproxy *h, const struct haproxy_server *server)
{
    return h->tracks_apart && haproxy_server_up(server) && server->weight == 0;
}

size_t haproxy_count_up(const struct haproxy *h, const struct haproxy_view *view, enum track track)
{
    size_t up = 0;
    for (size_t i = 0; i < h->count; i++)
        up += h->targets[i].track == track && view->named[i] && haproxy_server_up(view->named[i]) &&
              !is_idle(h, view->named[i]);
    return up;
}

void haproxy_fill_health(const struct haproxy *h, const struct haproxy_view *view, struct driver_state *got)
{
    got->health_known = true;
    for (size_t i = 0; i < h->count; i++)
        if (view->named[i] && !view->named[i]->checked)
            got->health_known = false;
    for (size_t track = 0; track < TRACKS; track++)
        got->up[track] = got->health_known ? (uint32_t)haproxy_count_up(h, view, (enum track)track) : 0;
}

void haproxy_tell(struct driver_state *got, const char *text)
{
    size_t cut = sizeof got->detail - sizeof "...";
    char line[sizeof got->detail];
    snprintf(line, sizeof line, "%.*s%s", (int)cut, text, strlen(text) > cut ? "..." : "");
    memcpy(got->detail, line, sizeof line);
}

const char *haproxy_health_word(const struct haproxy_server *server)
{
    return server->maintenance ? " MAINT" : server->draining ? " DRAIN" : server->running ? "" : " DOWN";
}

char *haproxy_target_name(const struct haproxy *h, size_t target)
{
    return mem_printf("%s/%s", h->backends[h->targets[target].backend], h->targets[target].name);
}

char *haproxy_describe(const struct haproxy *h, const struct haproxy_view *view, enum track only)
{
    struct strbuf text = {0};
    for (size_t i = 0; i < h->count; i++) {
        if (only != TRACKS && h->targets[i].track != only)
            continue;
        const struct haproxy_target *target = &h->targets[i];
        strbuf_printf(&text, "%s%.60s/%.60s%s", text.length ? ", " : "", h->backends[target->backend], target->name,
                      !view->named[i]              ? " missing"
                      : is_idle(h, view->named[i]) ? " weight 0"
                                                   : haproxy_health_word(view->named[i]));
    }
    return strbuf_take(&text);
}

enum driver_status haproxy_may_raise(const struct haproxy *h, const struct haproxy_view *view, const char *text,
                                     struct error *err)
{
    for (size_t i = 0; i < h->count; i++)
        if (h->targets[i].track == TRACK_CANARY && view->named[i] &&
            (view->named[i]->maintenance || view->named[i]->draining))
            return driver_fail(err, DRIVER_UNHEALTHY,
                               "a canary server is out of service (%.400s), so the canary gets no more traffic; end it "
                               "with `set server %s/%s state ready` on HAProxy's socket",
                               text, h->backends[h->targets[i].backend], h->targets[i].name);
    if (haproxy_count_up(h, view, TRACK_CANARY) > 0)
        return DRIVER_OK;
    return driver_fail(err, DRIVER_UNHEALTHY,
                       "no canary server is up (%.400s), so the canary gets no more traffic; see why its health checks "
                       "fail%s",
                       text, h->tracks_apart ? ", and that its servers have a weight" : "");
}

enum driver_status haproxy_may_end(const struct haproxy *h, const struct haproxy_view *view, uint32_t share_bp,
                                   const char *text, struct error *err)
{
    if (share_bp == 0 || haproxy_count_up(h, view, TRACK_STABLE) > 0 || haproxy_count_up(h, view, TRACK_CANARY) == 0)
        return DRIVER_OK;
    return driver_fail(err, DRIVER_UNHEALTHY,
                       "WAKE SOMEBODY: no stable server is up (%.400s) and only the canary serves, so taking its "
                       "traffic would be an outage; the canary keeps %.4g %%. Bring stable back, then run `haldane "
                       "traffic stable POLICY`",
                       text, share_bp / 100.0);
}

/* ---- what does not fit ---- */

static void find_missing(const struct haproxy *h, const struct haproxy_view *view, size_t backend,
                         struct driver_report *report)
{
    struct strbuf missing = {0};
    struct strbuf there = {0};
    size_t missing_count = 0;
    size_t there_count = 0;
    for (size_t i = 0; i < h->count; i++)
        if (h->targets[i].backend == backend && !view->named[i])
            add_name(&missing, &missing_count, h->targets[i].name);
    for (size_t i = 0; i < view->backends[backend].count; i++)
        add_name(&there, &there_count, view->backends[backend].servers[i].name);
    if (missing_count)
        driver_find(report, true,
                    "backend %s has no server %s; it has: %s. Correct `stable` and `canary` in the policy's traffic "
                    "section, or the backend",
                    h->backends[backend], missing.text, there_count ? there.text : "none");
    strbuf_free(&missing);
    strbuf_free(&there);
}

/* HAProxy sends traffic to backup servers only when no other is left. */
static void find_backups(const struct haproxy *h, const struct haproxy_view *view, struct driver_report *report)
{
    for (size_t i = 0; i < h->count; i++)
        if (view->named[i] && view->named[i]->backup)
            driver_find(report, true,
                        "server %s of backend %s is a `backup` server, so it gets no share; take the word `backup` "
                        "from its line in HAProxy's configuration",
                        h->targets[i].name, h->backends[h->targets[i].backend]);
}

static bool is_named(const struct haproxy *h, const struct haproxy_view *view, const struct haproxy_server *server)
{
    for (size_t i = 0; i < h->count; i++)
        if (view->named[i] == server)
            return true;
    return false;
}

/* A server of neither track would take a part of the traffic that no share accounts for. */
static void find_strangers(const struct haproxy *h, const struct haproxy_view *view, size_t backend,
                           struct driver_report *report)
{
    for (size_t i = 0; i < view->backends[backend].count; i++) {
        const struct haproxy_server *s = &view->backends[backend].servers[i];
        if (!s->weight || s->backup || s->maintenance || s->draining || is_named(h, view, s))
            continue;
        driver_find(report, true,
                    "server %s of backend %s has weight %u and is of neither track, so it takes traffic that nobody "
                    "compares; add it to `stable` or `canary` in the policy, or give it weight 0",
                    s->name, h->backends[backend], s->weight);
    }
}

void haproxy_find_misfits(const struct haproxy *h, const struct haproxy_view *view, struct driver_report *report)
{
    for (size_t i = 0; i < h->backend_count; i++)
        find_missing(h, view, i, report);
    find_backups(h, view, report);
    for (size_t i = 0; i < h->backend_count; i++)
        find_strangers(h, view, i, report);
}

static void find_idle(const struct haproxy *h, const struct haproxy_view *view, enum track track,
                      struct driver_report *report)
{
    for (size_t i = 0; i < h->count; i++) {
        const struct haproxy_target *target = &h->targets[i];
        if (target->track == track && view->named[i] && is_idle(h, view->named[i]))
            driver_find(
                report, haproxy_count_up(h, view, track) == 0,
                "server %s of backend %s has weight 0 and gets nobody, whatever the share is; `set server %s/%s "
                "weight 1` on HAProxy's socket",
                target->name, h->backends[target->backend], h->backends[target->backend], target->name);
    }
}

void haproxy_find_down(const struct haproxy *h, const struct haproxy_view *view, struct driver_report *report)
{
    for (size_t t = 0; t < TRACKS; t++) {
        find_idle(h, view, (enum track)t, report);
        if (haproxy_count_up(h, view, (enum track)t) == 0)
            driver_find(report, t == TRACK_STABLE, "no %s server is up; a rollout cannot begin", track_names[t]);
    }
}

void haproxy_find_weaknesses(const struct haproxy *h, const struct haproxy_view *view, struct driver_report *report)
{
    for (size_t i = 0; i < h->count; i++)
        if (view->named[i] && !view->named[i]->checked)
            driver_find(report, false,
                        "server %s of backend %s has no health check, so HAProxy takes it for up whatever happens; add "
                        "`check` to its line",
                        h->targets[i].name, h->backends[h->targets[i].backend]);
    if (h->master && !haproxy_listens(h->socket))
        driver_find(report, false,
                    "nobody listens at %s, so HAProxy is asked by way of its master at %s; only a restart brings the "
                    "socket back",
                    h->socket, h->master);
    if (h->master && !haproxy_listens(h->master))
        driver_find(report, false,
                    "nobody listens at %s; start HAProxy with `-W -S %s`, or take `master` from the policy", h->master,
                    h->master);
}

void haproxy_find_file(const char *key, const char *path, struct driver_report *report)
{
    struct stat file;
    const char *slash = strrchr(path, '/');
    char *folder = mem_strndup(path, slash && slash > path ? (size_t)(slash - path) : 1);
    bool folder_fits = faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) == 0;
    int failure = errno;
    if (!folder_fits)
        driver_find(report, true,
                    "%s: haldane replaces %s as a whole, and may not write to its folder (%s); give its user the right "
                    "to, or mount the folder here",
                    key, path, strerror(failure));
    else if (stat(path, &file) == 0 && geteuid() != 0 && file.st_uid != geteuid() && !(file.st_mode & S_IROTH))
        driver_find(report, true,
                    "%s: %s belongs to another user and only that one may read it, so HAProxy could not once haldane "
                    "has replaced it; `chmod 644` it, or give it to haldane's user",
                    key, path);
    free(folder);
}

enum driver_status haproxy_refuse(struct driver_report *report, struct error *err)
{
    enum driver_status status = DRIVER_OK;
    for (size_t i = 0; i < report->count && status == DRIVER_OK; i++)
        if (report->findings[i].wrong)
            status = driver_fail(err, DRIVER_REFUSED, "%s", report->findings[i].text);
    driver_report_free(report);
    return status;
}

/* ---- counting ---- */

static void add_up(const struct haproxy *h, const struct haproxy_view *view, struct balancer_counters *got)
{
    for (size_t i = 0; i < h->count; i++) {
        const struct haproxy_server *s = view->named[i];
        struct balancer_arm *arm = &got->arms[h->targets[i].track];
        arm->total += s->total;
        arm->failed += s->failed;
        arm->connection_errors += s->connection_errors;
        arm->retries += s->retries;
        arm->redispatches += s->redispatches;
        arm->health_changes += s->health_changes;
        arm->in_flight += s->in_flight;
        arm->up += haproxy_server_up(s);
        arm->servers++;
    }
}

static enum driver_status may_count(const struct haproxy *h, const struct haproxy_view *view, struct error *err)
{
    struct driver_report report = {0};
    for (size_t i = 0; i < h->backend_count; i++)
        find_missing(h, view, i, &report);
    enum driver_status status = haproxy_refuse(&report, err);
    for (size_t i = 0; i < h->count && status == DRIVER_OK; i++)
        if (!view->named[i]->http)
            status = driver_fail(err, DRIVER_UNSUPPORTED,
                                 "backend %s is in TCP mode, where HAProxy counts no failed responses",
                                 h->backends[h->targets[i].backend]);
    return status;
}

/* The process is asked for before and after, so that counts of two processes are never told as those of one. */
enum driver_status haproxy_counters(const struct haproxy *h, struct balancer_counters *got, struct error *err)
{
    int64_t deadline_ms = driver_clock_ms() + DRIVER_DEADLINE_MS;
    uint64_t after = 0;
    struct haproxy_view view = {0};
    enum driver_status status = haproxy_generation(h, deadline_ms, &got->generation, err);
    if (status == DRIVER_OK)
        status = haproxy_look(h, deadline_ms, &view, err);
    if (status == DRIVER_OK)
        status = may_count(h, &view, err);
    if (status == DRIVER_OK)
        add_up(h, &view, got);
    haproxy_view_free(&view);
    if (status == DRIVER_OK)
        status = haproxy_generation(h, deadline_ms, &after, err);
    if (status == DRIVER_OK && after != got->generation)
        status = driver_fail(err, DRIVER_UNREACHABLE,
                             "HAProxy at %s was reloaded while it was asked for its counts; ask again", h->socket);
    if (status != DRIVER_OK)
        *got = (struct balancer_counters){0};
    return status;
}

/* ---- draining ---- */

/* One process may stand in several backends, as the other track's `backup` too: it is known by its address. */
static bool serves_track(const struct haproxy *h, const struct haproxy_view *view, const struct haproxy_server *server,
                         enum track track)
{
    for (size_t i = 0; i < h->count; i++) {
        const struct haproxy_server *s = view->named[i];
        if (h->targets[i].track == track && s &&
            (s == server || (*s->address && strcmp(s->address, server->address) == 0)))
            return true;
    }
    return false;
}

static uint64_t count_in_flight(const struct haproxy *h, const struct haproxy_view *view, enum track track)
{
    uint64_t in_flight = 0;
    for (size_t i = 0; i < view->backend_count; i++)
        for (size_t k = 0; k < view->backends[i].count; k++)
            if (serves_track(h, view, &view->backends[i].servers[k], track))
                in_flight += view->backends[i].servers[k].in_flight;
    return in_flight;
}

enum driver_status haproxy_may_drain(enum track track, uint32_t share_bp, struct error *err)
{
    if (share_bp == (track == TRACK_CANARY ? 0 : BASIS_POINTS))
        return DRIVER_OK;
    return driver_fail(err, DRIVER_REFUSED,
                       "%s still gets traffic, for the canary has %.4g %%; move all of it to the other side first",
                       track == TRACK_CANARY ? "the canary" : "stable", share_bp / 100.0);
}

enum driver_status haproxy_drain(const struct haproxy *h, enum track track, int64_t deadline_ms, uint64_t *in_flight,
                                 struct error *err)
{
    int64_t until_ms = driver_clock_ms() + deadline_ms;
    for (;;) {
        struct haproxy_view view;
        enum driver_status status = haproxy_look(h, driver_clock_ms() + DRIVER_DEADLINE_MS, &view, err);
        *in_flight = status == DRIVER_OK ? count_in_flight(h, &view, track) : 0;
        haproxy_view_free(&view);
        if (status != DRIVER_OK || *in_flight == 0)
            return status;
        if (driver_clock_ms() >= until_ms)
            return driver_fail(err, DRIVER_TIMEOUT,
                               "%llu requests are still in flight at the servers of %s; wait longer, or cut them off "
                               "with `shutdown sessions server BACKEND/SERVER` on HAProxy's socket",
                               (unsigned long long)*in_flight, track == TRACK_CANARY ? "the canary" : "stable");
        poll(NULL, 0, DRAIN_PAUSE_MS);
    }
}
