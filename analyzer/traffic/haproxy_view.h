/*
 * What both HAProxy drivers do alike: ask the balancer, look at the servers of both tracks, count, drain, and find what
 * does not fit. Each operation looks afresh; nothing is remembered between two of them.
 */
#ifndef HALDANE_TRAFFIC_HAPROXY_VIEW_H
#define HALDANE_TRAFFIC_HAPROXY_VIEW_H

#include "analyzer/traffic/haproxy_parse.h"
#include "analyzer/traffic/ops.h"

struct haproxy_target {
    char *name; /* of the server, without its backend */
    enum track track;
    size_t backend; /* index */
};

/* What the policy says. */
struct haproxy {
    char *socket, *master; /* `master` may be NULL */
    char **backends;       /* those of the targets, each once */
    size_t backend_count;
    struct haproxy_target *targets; /* all stable servers, then all canary servers */
    size_t count;
    bool tracks_apart; /* each track has backends of its own: a server of weight 0 gets nobody, whatever the share is */
};

/* What HAProxy shows at one moment. */
struct haproxy_view {
    struct haproxy_backend *backends;    /* as many as the policy names */
    const struct haproxy_server **named; /* one for each target; NULL if the backend does not have it */
    size_t backend_count;
};

/*
 * Fills `haproxy` from the policy's keys `socket`, `master`, `stable` and `canary`. Servers are of `backend`, or, if
 * that is NULL, are written BACKEND/SERVER, and the tracks are taken to be apart. False with ERROR_DATA;
 * haproxy_clear() in either case.
 */
bool haproxy_init(struct haproxy *haproxy, const struct policy_balancer *balancer, const char *backend,
                  struct error *err);
void haproxy_clear(struct haproxy *haproxy);

/* One command. `*answer` is owned by the caller, and NULL on failure. DRIVER_REFUSED for want of rights. */
enum driver_status haproxy_command(const struct haproxy *haproxy, int64_t deadline_ms, const char *command,
                                   char **answer, struct error *err);

/* As haproxy_command(), for what changes something: DRIVER_REFUSED with HAProxy's own words if it did not say yes. */
enum driver_status haproxy_order(const struct haproxy *haproxy, int64_t deadline_ms, const char *command,
                                 struct error *err);

/* The status for an answer that a parser did not take: DRIVER_UNREACHABLE if asking again may help. */
enum driver_status haproxy_not_taken(const struct haproxy *haproxy, const char *command, struct error *err);

/* The caller calls haproxy_view_free() also on failure. DRIVER_REFUSED if there is no such backend. */
enum driver_status haproxy_look(const struct haproxy *haproxy, int64_t deadline_ms, struct haproxy_view *view,
                                struct error *err);
void haproxy_view_free(struct haproxy_view *view);

/* Another number after a restart or a reload. */
enum driver_status haproxy_generation(const struct haproxy *haproxy, int64_t deadline_ms, uint64_t *generation,
                                      struct error *err);

/* Those that can serve: up, and not taken out by weight 0 where a weight is not a share. */
size_t haproxy_count_up(const struct haproxy *haproxy, const struct haproxy_view *view, enum track track);

/* Fills `up` and `health_known`. */
void haproxy_fill_health(const struct haproxy *haproxy, const struct haproxy_view *view, struct driver_state *got);

/* Puts `text` into `got->detail`, with "..." at the end if it had to be cut. `text` may be made from it. */
void haproxy_tell(struct driver_state *got, const char *text);

/* " DOWN", " DRAIN", " MAINT" or "". */
const char *haproxy_health_word(const struct haproxy_server *server);

/* "be_stable/web1, be_canary/web2 DOWN", of tracks that are apart also "weight 0": the servers of `only`, or of all
 * (TRACKS). The caller frees it. */
char *haproxy_describe(const struct haproxy *haproxy, const struct haproxy_view *view, enum track only);

/* "BACKEND/SERVER". The caller frees it. */
char *haproxy_target_name(const struct haproxy *haproxy, size_t target);

/* DRIVER_UNHEALTHY unless a canary server is up and none is in drain or maintenance. `text` says how they are. */
enum driver_status haproxy_may_raise(const struct haproxy *haproxy, const struct haproxy_view *view, const char *text,
                                     struct error *err);

/* DRIVER_UNHEALTHY if the canary has `share_bp`, is up, and no stable server is: to take its share is an outage. */
enum driver_status haproxy_may_end(const struct haproxy *haproxy, const struct haproxy_view *view, uint32_t share_bp,
                                   const char *text, struct error *err);

/* What keeps traffic from being what the share says: servers missing or `backup`, and servers of neither track. */
void haproxy_find_misfits(const struct haproxy *haproxy, const struct haproxy_view *view, struct driver_report *report);

/* Tracks that no server serves, which is wrong of stable; and servers of weight 0 where that keeps them from serving.
 */
void haproxy_find_down(const struct haproxy *haproxy, const struct haproxy_view *view, struct driver_report *report);

/* What is weak but works: no health checks, an admin socket that is gone. */
void haproxy_find_weaknesses(const struct haproxy *haproxy, const struct haproxy_view *view,
                             struct driver_report *report);

/* A file that haldane rewrites: whether it may, and whether HAProxy could still read it then. */
void haproxy_find_file(const char *key, const char *path, struct driver_report *report);

/* DRIVER_REFUSED with the first thing in `report` that is wrong; DRIVER_OK if there is none. Frees the report. */
enum driver_status haproxy_refuse(struct driver_report *report, struct error *err);

/* DRIVER_REFUSED if a track still gets traffic while the canary has `share_bp`. */
enum driver_status haproxy_may_drain(enum track track, uint32_t share_bp, struct error *err);

/* driver_counters() and driver_drain(), without haproxy_may_drain(). */
enum driver_status haproxy_counters(const struct haproxy *haproxy, struct balancer_counters *got, struct error *err);
enum driver_status haproxy_drain(const struct haproxy *haproxy, enum track track, int64_t deadline_ms,
                                 uint64_t *in_flight, struct error *err);

#endif
