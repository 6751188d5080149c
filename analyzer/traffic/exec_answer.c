/*
 * The getters of analyzer/model/json.h do the checking; this file says which fields there are. What a program leaves
 * out must be harmless to leave out: whatever a rollout is led by is needed, and the rest has a value that promises
 * nothing.
 */
#include "analyzer/traffic/exec_answer.h"

#include "analyzer/model/json.h"
#include "analyzer/model/verdict.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static cJSON *parse(const char *text, size_t length, const char *where, struct error *err)
{
    cJSON *answer = json_parse_object(text, length, where, err);
    if (!answer)
        return NULL;
    const cJSON *ok = cJSON_GetObjectItemCaseSensitive(answer, "ok");
    if (cJSON_IsTrue(ok))
        return answer;
    if (ok)
        error_set(err, ERROR_DATA,
                  "%s.ok: must be true, for it ended with exit code 0; a failure is told by exit codes 10 to 16",
                  where);
    else
        error_set(err, ERROR_DATA, "%s: \"ok\" is missing; it must be true", where);
    cJSON_Delete(answer);
    return NULL;
}

static const cJSON *member(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNull(item) ? NULL : item;
}

/* A whole number that may be left out. */
static bool whole_or(const cJSON *object, const char *name, const char *where, uint64_t most, uint64_t absent,
                     uint64_t *value, struct error *err)
{
    *value = absent;
    if (!member(object, name))
        return true;
    if (!json_whole(object, name, where, value, err))
        return false;
    return *value <= most ||
           error_set(err, ERROR_DATA, "%s.%s: must be at most %llu", where, name, (unsigned long long)most);
}

static bool needed_whole(const cJSON *object, const char *name, const char *where, uint64_t most, uint64_t *value,
                         struct error *err)
{
    if (!json_whole(object, name, where, value, err))
        return false;
    return *value <= most ||
           error_set(err, ERROR_DATA, "%s.%s: must be at most %llu", where, name, (unsigned long long)most);
}

static bool read_share(const cJSON *answer, const char *where, struct driver_state *state, struct error *err)
{
    uint64_t share;
    if (!needed_whole(answer, "share_bp", where, BASIS_POINTS, &share, err))
        return false;
    state->share_bp = (uint32_t)share;
    return true;
}

static bool read_epoch(const cJSON *answer, const char *where, uint32_t capabilities, struct driver_state *state,
                       struct error *err)
{
    if (capabilities & DRIVER_CAS)
        return json_whole(answer, "epoch", where, &state->epoch, err);
    return whole_or(answer, "epoch", where, UINT64_MAX, 0, &state->epoch, err);
}

/* Seconds that are left, or -1. */
static bool read_seconds_left(const cJSON *answer, const char *where, int64_t now_ms, double *left, struct error *err)
{
    uint64_t expires;
    if (member(answer, "lease_left_s")) {
        if (!json_number(answer, "lease_left_s", where, left, err))
            return false;
        return (*left >= 0 && *left < (double)EXEC_NEVER) ||
               error_set(err, ERROR_DATA, "%s.lease_left_s: must be seconds, 0 or more, or null for no lease", where);
    }
    if (!whole_or(answer, "expires", where, INT64_MAX / 1000, 0, &expires, err))
        return false;
    *left = expires == 0 || expires >= (uint64_t)EXEC_NEVER ? -1 : fmax(0, (double)expires - (double)now_ms / 1000);
    return true;
}

static bool read_lease(const cJSON *answer, const char *where, uint32_t capabilities, int64_t now_ms,
                       struct driver_state *state, struct error *err)
{
    double left;
    const cJSON *over = member(answer, "lease_over");
    if ((capabilities & DRIVER_LEASE) && !cJSON_GetObjectItemCaseSensitive(answer, "lease_left_s") &&
        !cJSON_GetObjectItemCaseSensitive(answer, "expires"))
        return error_set(
            err, ERROR_DATA,
            "%s: \"expires\" is missing, and \"lease_left_s\" too; the program says that it has leases, so "
            "it must tell of this one",
            where);
    if (!read_seconds_left(answer, where, now_ms, &left, err))
        return false;
    if (over && !cJSON_IsBool(over))
        return error_set(err, ERROR_DATA, "%s.lease_over: must be true or false", where);
    state->lease_left_ms = left < 0 ? -1 : (int64_t)(left * 1000);
    state->lease_over = over ? cJSON_IsTrue(over) : left == 0 && state->share_bp == 0;
    return true;
}

/* Both tracks or none. */
static bool read_health(const cJSON *answer, const char *where, struct driver_state *state, struct error *err)
{
    uint64_t up[TRACKS];
    if (!member(answer, "stable_up") && !member(answer, "canary_up"))
        return true;
    if (!needed_whole(answer, "stable_up", where, UINT32_MAX, &up[TRACK_STABLE], err) ||
        !needed_whole(answer, "canary_up", where, UINT32_MAX, &up[TRACK_CANARY], err))
        return false;
    state->health_known = true;
    for (int t = 0; t < TRACKS; t++)
        state->up[t] = (uint32_t)up[t];
    return true;
}

/* Printable, cut to its room between characters. */
static bool read_detail(const cJSON *answer, const char *where, struct driver_state *state, struct error *err)
{
    if (!member(answer, "detail"))
        return true;
    const char *text = json_string(answer, "detail", where, err);
    if (!text)
        return false;
    size_t length = strlen(text);
    if (length >= sizeof state->detail)
        for (length = sizeof state->detail - 1; length && ((unsigned char)text[length] & 0xc0) == 0x80;)
            length--;
    for (size_t i = 0; i < length; i++)
        state->detail[i] = (unsigned char)text[i] < ' ' || text[i] == 127 ? ' ' : text[i];
    state->detail[length] = '\0';
    return true;
}

bool exec_parse_state(const char *text, size_t length, const char *where, uint32_t capabilities, int64_t now_ms,
                      struct driver_state *got, struct error *err)
{
    struct driver_state state = {.capabilities = capabilities, .lease_left_ms = -1};
    cJSON *answer = parse(text, length, where, err);
    bool done =
        answer && read_share(answer, where, &state, err) && read_epoch(answer, where, capabilities, &state, err) &&
        read_lease(answer, where, capabilities, now_ms, &state, err) && read_health(answer, where, &state, err) &&
        whole_or(answer, "generation", where, UINT64_MAX, 0, &state.generation, err) &&
        read_detail(answer, where, &state, err);
    cJSON_Delete(answer);
    if (done)
        *got = state;
    return done;
}

static bool read_capability(const cJSON *item, const char *where, uint32_t *capabilities, struct error *err)
{
    if (!cJSON_IsString(item))
        return error_set(err, ERROR_DATA, "%s.caps: must be a list of names", where);
    for (unsigned bit = 0; bit < DRIVER_CAPABILITIES; bit++) {
        if (strcmp(item->valuestring, driver_capability_names[bit]) == 0) {
            *capabilities |= UINT32_C(1) << bit;
            return true;
        }
    }
    char shown[40];
    size_t length = 0;
    for (const char *c = item->valuestring; *c && length < sizeof shown - 1; c++)
        shown[length++] = *c < ' ' || *c == 127 ? '?' : *c;
    shown[length] = '\0';
    return error_set(err, ERROR_DATA,
                     "%s.caps: \"%s\" is not known; known are readback, counters, lease, persist, cas, drain and "
                     "no_reload",
                     where, shown);
}

bool exec_parse_caps(const char *text, size_t length, const char *where, uint32_t *capabilities, struct error *err)
{
    *capabilities = 0;
    cJSON *answer = parse(text, length, where, err);
    const cJSON *list = answer ? json_array(answer, "caps", where, err) : NULL, *item;
    bool done = list != NULL;
    cJSON_ArrayForEach(item, list)
    {
        done = done && read_capability(item, where, capabilities, err);
    }
    cJSON_Delete(answer);
    return done;
}

static bool read_arm(const cJSON *answer, enum track track, const char *where, struct balancer_arm *arm,
                     struct error *err)
{
    char path[300];
    uint64_t up, servers;
    const cJSON *from = json_object(answer, track_names[track], where, err);
    if (!from)
        return false;
    snprintf(path, sizeof path, "%s.%s", where, track_names[track]);
    bool done = json_whole(from, "total", path, &arm->total, err) &&
                json_whole(from, "failed", path, &arm->failed, err) &&
                whole_or(from, "connection_errors", path, UINT64_MAX, 0, &arm->connection_errors, err) &&
                whole_or(from, "retries", path, UINT64_MAX, 0, &arm->retries, err) &&
                whole_or(from, "redispatches", path, UINT64_MAX, 0, &arm->redispatches, err) &&
                whole_or(from, "health_changes", path, UINT64_MAX, 0, &arm->health_changes, err) &&
                whole_or(from, "in_flight", path, UINT64_MAX, 0, &arm->in_flight, err) &&
                whole_or(from, "up", path, UINT32_MAX, 0, &up, err) &&
                whole_or(from, "servers", path, UINT32_MAX, 0, &servers, err);
    if (!done)
        return false;
    arm->up = (uint32_t)up;
    arm->servers = (uint32_t)servers;
    if (arm->failed > arm->total)
        return error_set(err, ERROR_DATA, "%s.failed: is more than total; it must be a part of it", path);
    return up <= servers || error_set(err, ERROR_DATA, "%s.up: is more than servers", path);
}

bool exec_parse_counters(const char *text, size_t length, const char *where, struct balancer_counters *got,
                         struct error *err)
{
    struct balancer_counters counters = {.at_ms = got->at_ms};
    cJSON *answer = parse(text, length, where, err);
    bool done = answer && json_whole(answer, "generation", where, &counters.generation, err) &&
                read_arm(answer, TRACK_STABLE, where, &counters.arms[TRACK_STABLE], err) &&
                read_arm(answer, TRACK_CANARY, where, &counters.arms[TRACK_CANARY], err);
    cJSON_Delete(answer);
    if (done)
        *got = counters;
    return done;
}

bool exec_parse_drain(const char *text, size_t length, const char *where, uint64_t *in_flight, struct error *err)
{
    cJSON *answer = parse(text, length, where, err);
    bool done = answer && json_whole(answer, "in_flight", where, in_flight, err);
    cJSON_Delete(answer);
    return done;
}
