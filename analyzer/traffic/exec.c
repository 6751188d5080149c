/*
 * Any balancer, by a program of the user's, run once for each operation. It is told what to do twice over, as one JSON
 * object on its standard input and in its environment, so that a shell script needs no JSON parser. It answers one JSON
 * object on its standard output, and its exit code is an enum driver_status. docs/traffic.md describes the protocol.
 *
 * The program is not trusted: what it read back is held against the order, and an answer that is not whole is a failure
 * that names the field. After `set` such a failure is a mismatch, because the share may have changed. What the program
 * can do is asked once, and before it is set; only an order to return to stable goes out first.
 *
 * A program may outlive a haldane that is killed, and would move traffic after somebody else has brought it back. So
 * `set` runs under a lock that the program inherits (exec_lock.h), and a share of 0 that was set without it is not
 * proven.
 */
#include "analyzer/traffic/exec_answer.h"
#include "analyzer/traffic/exec_lock.h"
#include "analyzer/traffic/ops.h"
#include "analyzer/traffic/process.h"

#include "analyzer/model/json.h"
#include "analyzer/model/verdict.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SHOWN = 120, WHERE = SHOWN + 40, VARIABLES = 7, DRAIN_PAUSE_MS = 500, DRAIN_LEAST_MS = 1000 };

struct exec {
    char **words;      /* ends with NULL */
    char shown[SHOWN]; /* the command, for messages */
    bool asked;        /* `capabilities` are known */
    uint32_t capabilities;
};

struct request {
    const char *op;
    const struct driver_order *order; /* of `set`; else NULL */
    struct exec_lock *lock;           /* of `set`, for the program to hold, and let go of at its end; else NULL */
    const char *track;                /* of `drain`; else NULL */
};

/* ---- what it is told ---- */

static int64_t wall_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A share of nothing needs no lease: it is where a lease leads. */
static int64_t lease_of(const struct driver_order *order)
{
    return order->share_bp > 0 ? order->lease_ms : 0;
}

/* The Unix second at which the order ends; always rounded down, so that it never lasts longer than asked. */
static int64_t expires_of(const struct driver_order *order, int64_t now_ms)
{
    if (order->share_bp == 0)
        return 0;
    return order->lease_ms ? (now_ms + order->lease_ms) / 1000 : EXEC_NEVER;
}

static char *request_json(const struct request *request, int64_t now_ms)
{
    cJSON *object = cJSON_CreateObject();
    json_add_number(object, "v", 1);
    cJSON_AddStringToObject(object, "op", request->op);
    if (request->track)
        cJSON_AddStringToObject(object, "track", request->track);
    if (request->order) {
        json_add_number(object, "share_bp", request->order->share_bp);
        json_add_whole(object, "epoch", request->order->epoch);
        cJSON_AddBoolToObject(object, "claim", request->order->claim);
        json_add_number(object, "expires", (double)expires_of(request->order, now_ms));
        json_add_number(object, "lease_s", (double)(lease_of(request->order) / 1000));
    }
    return json_print(object);
}

/* All of the variables are always there, empty where they mean nothing, so that `set -u` is of use in a script. */
static void request_environment(const struct request *request, int64_t now_ms, char *variables[VARIABLES + 1])
{
    const struct driver_order *order = request->order;
    size_t n = 0;
    variables[n++] = mem_printf("HALDANE_OP=%s", request->op);
    variables[n++] = mem_printf("HALDANE_TRACK=%s", request->track ? request->track : "");
    if (order) {
        variables[n++] = mem_printf("HALDANE_SHARE_BP=%" PRIu32, order->share_bp);
        variables[n++] = mem_printf("HALDANE_EPOCH=%" PRIu64, order->epoch);
        variables[n++] = mem_printf("HALDANE_CLAIM=%d", order->claim);
        variables[n++] = mem_printf("HALDANE_EXPIRES=%" PRId64, expires_of(order, now_ms));
        variables[n++] = mem_printf("HALDANE_LEASE_S=%" PRId64, lease_of(order) / 1000);
    } else {
        static const char *const empty[] = {
            "HALDANE_SHARE_BP=", "HALDANE_EPOCH=", "HALDANE_CLAIM=", "HALDANE_EXPIRES=", "HALDANE_LEASE_S="};
        for (size_t i = 0; i < sizeof empty / sizeof *empty; i++)
            variables[n++] = mem_strdup(empty[i]);
    }
    variables[n] = NULL;
}

/* ---- what it says ---- */

static enum driver_status told(const struct exec *exec, const struct request *request,
                               const struct process_result *result, struct error *err)
{
    static const char *const meanings[] = {
        [DRIVER_UNREACHABLE] = "the balancer gave no answer",
        [DRIVER_REFUSED] = "it was refused",
        [DRIVER_FENCED] = "another rollout with a newer epoch owns the split, so this one leaves it alone",
        [DRIVER_MISMATCH] = "something else was read back than was set",
        [DRIVER_UNHEALTHY] = "the side that would get the traffic is not up",
        [DRIVER_UNSUPPORTED] = "the program cannot do this",
        [DRIVER_TIMEOUT] = "the balancer did not answer in time",
    };
    char line[PROCESS_LINE];
    process_last_line(result, line);
    const char *said = *line ? "; it last said: " : "; it wrote nothing to standard error";
    int code = result->exit_code;
    if (code >= DRIVER_UNREACHABLE && code <= DRIVER_TIMEOUT)
        return driver_fail(err, (enum driver_status)code, "%s %s: %s (exit code %d)%s%s", exec->shown, request->op,
                           meanings[code], code, said, line);
    if (code > 128)
        return driver_fail(err, DRIVER_UNREACHABLE, "%s %s: ended by signal %d; what it did is not known%s%s",
                           exec->shown, request->op, code - 128, said, line);
    return driver_fail(err, DRIVER_UNREACHABLE,
                       "%s %s: exit code %d is none of the protocol's (0, 10 to 16); what it did is not known%s%s",
                       exec->shown, request->op, code, said, line);
}

/* One that was killed may have children that were not, and nobody knows what it had begun. */
static bool ended_by_itself(enum driver_status status, const struct process_result *result)
{
    return status == DRIVER_OK && result->exit_code <= 128;
}

static enum driver_status run(struct exec *exec, const struct request *request, char *const *variables,
                              const char *input, int64_t deadline_ms, struct process_result *result, struct error *err)
{
    const char *const *environment = (const char *const *)variables;
    if (!request->lock)
        return process_run(exec->words, environment, input, deadline_ms, result, err);
    struct process_hold hold = exec_lock_hold(request->lock);
    enum driver_status status = process_run_holding(exec->words, environment, input, deadline_ms, &hold, result, err);
    exec_lock_release(request->lock, ended_by_itself(status, result));
    return status;
}

/* Runs the program; on DRIVER_OK it ended with 0, and `result` holds its answer. The caller frees `result`. */
static enum driver_status ask(struct exec *exec, const struct request *request, int64_t deadline_ms,
                              struct process_result *result, struct error *err)
{
    char *variables[VARIABLES + 1];
    int64_t now_ms = wall_clock_ms();
    char *input = request_json(request, now_ms);
    request_environment(request, now_ms, variables);
    enum driver_status status = run(exec, request, variables, input, deadline_ms, result, err);
    if (status != DRIVER_OK)
        error_prefix(err, "%s", request->op);
    else if (result->exit_code != 0)
        status = told(exec, request, result, err);
    for (size_t i = 0; variables[i]; i++)
        free(variables[i]);
    free(input);
    return status;
}

static const char *answer_of(const struct exec *exec, const char *op, char where[WHERE])
{
    snprintf(where, WHERE, "%s %s: answer", exec->shown, op);
    return where;
}

static int64_t deadline(void)
{
    return driver_clock_ms() + DRIVER_DEADLINE_MS;
}

static enum driver_status learn(struct exec *exec, struct error *err)
{
    char where[WHERE];
    if (exec->asked)
        return DRIVER_OK;
    struct process_result result = {0};
    enum driver_status status = ask(exec, &(struct request){.op = "caps"}, deadline(), &result, err);
    if (status == DRIVER_OK) {
        exec->asked = exec_parse_caps(result.output, result.output_length, answer_of(exec, "caps", where),
                                      &exec->capabilities, err);
        status = exec->asked ? DRIVER_OK : DRIVER_REFUSED;
    }
    process_result_free(&result);
    return status;
}

/* ---- the operations ---- */

static enum driver_status exec_get(void *self, struct driver_state *got, struct error *err)
{
    struct exec *exec = self;
    char where[WHERE];
    enum driver_status status = learn(exec, err);
    if (status != DRIVER_OK)
        return status;
    struct process_result result = {0};
    status = ask(exec, &(struct request){.op = "get"}, deadline(), &result, err);
    if (status == DRIVER_OK && !exec_parse_state(result.output, result.output_length, answer_of(exec, "get", where),
                                                 exec->capabilities, wall_clock_ms(), got, err))
        status = DRIVER_REFUSED;
    process_result_free(&result);
    return status;
}

/* Milliseconds by which a lease may seem too long: the program counts in whole seconds. */
enum { LEASE_SLACK_MS = 1000 };

static enum driver_status check_lease(const struct exec *exec, const struct driver_order *order,
                                      const struct driver_state *got, struct error *err)
{
    int64_t lease_ms = lease_of(order);
    if (!(got->capabilities & DRIVER_LEASE) || order->share_bp == 0)
        return DRIVER_OK;
    if (lease_ms == 0 && got->lease_left_ms >= 0)
        return driver_fail(err, DRIVER_MISMATCH,
                           "%s set: the share was to stay, but what was read back ends in %" PRId64 " s", exec->shown,
                           got->lease_left_ms / 1000);
    if (lease_ms && got->lease_left_ms < 0)
        return driver_fail(err, DRIVER_MISMATCH,
                           "%s set: the share was to end in %" PRId64 " s, but what was read back has no end",
                           exec->shown, lease_ms / 1000);
    if (lease_ms && got->lease_left_ms > lease_ms + LEASE_SLACK_MS)
        return driver_fail(err, DRIVER_MISMATCH,
                           "%s set: the share was to end in %" PRId64 " s, but what was read back ends in %" PRId64
                           " s; is the balancer's clock wrong?",
                           exec->shown, lease_ms / 1000, got->lease_left_ms / 1000);
    return DRIVER_OK;
}

static enum driver_status check_read_back(const struct exec *exec, const struct driver_order *order,
                                          const struct driver_state *got, struct error *err)
{
    bool fenced = (got->capabilities & DRIVER_CAS) && order->epoch;
    if (fenced && got->epoch > order->epoch)
        return driver_fence(order, got->epoch, exec->shown, err);
    if (!driver_is_share(got->share_bp, order->share_bp))
        return driver_fail(err, DRIVER_MISMATCH,
                           "%s set: %.4g %% was set, but %.4g %% was read back; does something else move this traffic?",
                           exec->shown, order->share_bp / 100.0, got->share_bp / 100.0);
    if (fenced && got->epoch != order->epoch)
        return driver_fail(err, DRIVER_MISMATCH,
                           "%s set: epoch %" PRIu64 " was set, but %" PRIu64 " was read back; the program must keep it",
                           exec->shown, order->epoch, got->epoch);
    return check_lease(exec, order, got, err);
}

/* After `set` an answer that is not whole leaves open what was changed. */
static enum driver_status unproven(struct error *err)
{
    char text[sizeof err->text];
    snprintf(text, sizeof text, "%s", err->text);
    return driver_fail(err, DRIVER_MISMATCH, "%s", text);
}

static enum driver_status set_and_check(struct exec *exec, const struct driver_order *order, struct exec_lock *lock,
                                        struct driver_state *got, struct error *err)
{
    char where[WHERE];
    struct process_result result = {0};
    const struct request request = {.op = "set", .order = order, .lock = lock};
    enum driver_status status = ask(exec, &request, deadline(), &result, err);
    bool too_much = status == DRIVER_REFUSED && result.output_length >= PROCESS_OUTPUT_MAX;
    if (too_much ||
        (status == DRIVER_OK && !exec_parse_state(result.output, result.output_length, answer_of(exec, "set", where),
                                                  exec->capabilities, wall_clock_ms(), got, err)))
        status = unproven(err);
    else if (status == DRIVER_OK)
        status = check_read_back(exec, order, got, err);
    process_result_free(&result);
    return status;
}

/* Nothing blocks the way back to stable. But what still holds the lock could undo it, so it is a failure all the same.
 */
static enum driver_status set_in_turn(struct exec *exec, const struct driver_order *order, struct driver_state *got,
                                      struct error *err)
{
    struct exec_lock lock;
    struct error why = {0};
    enum driver_status turn = exec_lock_take(exec->words, order->share_bp, &lock, &why);
    if (turn != DRIVER_OK && order->share_bp > 0)
        return driver_fail(err, turn, "%s set: nothing was changed: %s", exec->shown, why.text);
    enum driver_status status = set_and_check(exec, order, turn == DRIVER_OK ? &lock : NULL, got, err);
    if (turn == DRIVER_OK || status != DRIVER_OK)
        return status;
    return driver_fail(err, turn, "%s set: 0 %% was set and read back, but this is not sure to stay: %s", exec->shown,
                       why.text);
}

/* The way back to stable waits for no question: what the program can do is asked afterwards then. */
static enum driver_status exec_set(void *self, const struct driver_order *order, struct driver_state *got,
                                   struct error *err)
{
    struct exec *exec = self;
    enum driver_status status = DRIVER_OK;
    if (lease_of(order) > 0 && lease_of(order) < 1000)
        return driver_fail(err, DRIVER_REFUSED,
                           "%s set: a lease of %" PRId64 " ms cannot be given; it takes whole seconds", exec->shown,
                           order->lease_ms);
    if (order->share_bp > 0)
        status = learn(exec, err);
    if (status == DRIVER_OK)
        status = set_in_turn(exec, order, got, err);
    if (status != DRIVER_OK || exec->asked)
        return status;
    struct error unknown;
    got->capabilities = learn(exec, &unknown) == DRIVER_OK ? exec->capabilities : DRIVER_READBACK;
    return check_read_back(exec, order, got, err);
}

static enum driver_status lacks(const struct exec *exec, const char *capability, struct error *err)
{
    return driver_fail(err, DRIVER_UNSUPPORTED, "%s does not name %s among its caps, so it was not asked", exec->shown,
                       capability);
}

static enum driver_status exec_counters(void *self, struct balancer_counters *got, struct error *err)
{
    struct exec *exec = self;
    char where[WHERE];
    enum driver_status status = learn(exec, err);
    if (status != DRIVER_OK)
        return status;
    if (!(exec->capabilities & DRIVER_COUNTERS))
        return lacks(exec, "counters", err);
    struct process_result result = {0};
    status = ask(exec, &(struct request){.op = "counters"}, deadline(), &result, err);
    if (status == DRIVER_OK &&
        !exec_parse_counters(result.output, result.output_length, answer_of(exec, "counters", where), got, err))
        status = DRIVER_REFUSED;
    process_result_free(&result);
    return status;
}

static enum driver_status drain_once(struct exec *exec, const char *track, int64_t deadline_ms, uint64_t *in_flight,
                                     struct error *err)
{
    char where[WHERE];
    struct process_result result = {0};
    enum driver_status status = ask(exec, &(struct request){.op = "drain", .track = track}, deadline_ms, &result, err);
    if (status == DRIVER_OK &&
        !exec_parse_drain(result.output, result.output_length, answer_of(exec, "drain", where), in_flight, err))
        status = DRIVER_REFUSED;
    process_result_free(&result);
    return status;
}

static int64_t between(int64_t least, int64_t value, int64_t most)
{
    return value < least ? least : value > most ? most : value;
}

/* The program answers at once how many there are; it is asked until there are none. */
static enum driver_status exec_drain(void *self, enum track track, int64_t deadline_ms, uint64_t *in_flight,
                                     struct error *err)
{
    struct exec *exec = self;
    int64_t end_ms = driver_clock_ms() + deadline_ms;
    enum driver_status status = learn(exec, err);
    if (status != DRIVER_OK)
        return status;
    if (!(exec->capabilities & DRIVER_DRAIN))
        return lacks(exec, "drain", err);
    for (;;) {
        int64_t now_ms = driver_clock_ms();
        int64_t patience_ms = between(DRAIN_LEAST_MS, end_ms - now_ms, DRIVER_DEADLINE_MS);
        status = drain_once(exec, track_names[track], now_ms + patience_ms, in_flight, err);
        if (status != DRIVER_OK || *in_flight == 0)
            return status;
        int64_t left_ms = end_ms - driver_clock_ms();
        if (left_ms <= 0)
            return driver_fail(err, DRIVER_TIMEOUT, "%s drain: %" PRIu64 " requests are still in flight at %s",
                               exec->shown, *in_flight, track_names[track]);
        left_ms = between(0, left_ms, DRAIN_PAUSE_MS);
        nanosleep(&(struct timespec){0, (long)left_ms * 1000000}, NULL);
    }
}

static void find_lacks(const struct exec *exec, const struct driver_state *state, struct driver_report *report)
{
    if (!(state->capabilities & DRIVER_READBACK))
        driver_find(
            report, true,
            "%s does not name readback among its caps: what it answers proves nothing; read the share back from "
            "the balancer",
            exec->shown);
    if (!(state->capabilities & DRIVER_LEASE))
        driver_find(report, false,
                    "%s has no lease: when haldane dies, nothing returns the traffic to stable but a guard beside it",
                    exec->shown);
    if (!(state->capabilities & DRIVER_CAS))
        driver_find(report, false, "%s keeps no epoch: haldane on another machine would not be fenced", exec->shown);
    if (!(state->capabilities & DRIVER_PERSIST))
        driver_find(report, false, "%s does not say that the share survives a restart of the balancer", exec->shown);
    if (!(state->capabilities & DRIVER_COUNTERS))
        driver_find(report, false, "%s counts no requests: what the balancer retries is not seen", exec->shown);
    if (!state->health_known)
        driver_find(report, false, "%s tells no stable_up and canary_up: whether a side is up is not seen",
                    exec->shown);
}

static enum driver_status exec_check(void *self, struct driver_report *report, struct error *err)
{
    struct exec *exec = self;
    struct driver_state state = {.lease_left_ms = -1};
    enum driver_status status = exec_get(exec, &state, err);
    if (status == DRIVER_OK)
        find_lacks(exec, &state, report);
    return status;
}

/* ---- open and close ---- */

/* The command as a person would write it, one line, cut. */
static void show_command(char **words, char shown[SHOWN])
{
    struct strbuf text = {0};
    for (size_t i = 0; words[i]; i++)
        strbuf_printf(&text, "%s%s", i ? " " : "", words[i]);
    size_t length = text.length < SHOWN ? text.length : SHOWN - 1;
    for (size_t i = 0; i < length; i++)
        shown[i] = (unsigned char)text.text[i] < ' ' || text.text[i] == 127 ? '?' : text.text[i];
    shown[length] = '\0';
    strbuf_free(&text);
}

static void *exec_open(const struct policy_balancer *balancer, struct error *err)
{
    const struct policy_command *command = &balancer->command;
    if (command->count == 0) {
        error_set(err, ERROR_DATA, "the driver exec has no command; write the program that moves traffic");
        return NULL;
    }
    struct exec *exec = mem_alloc(1, sizeof *exec);
    exec->words = mem_alloc(command->count + 1, sizeof *exec->words);
    for (size_t i = 0; i < command->count; i++)
        exec->words[i] = mem_strdup(command->words[i]);
    show_command(exec->words, exec->shown);
    return exec;
}

static void exec_close(void *self)
{
    struct exec *exec = self;
    for (size_t i = 0; exec->words[i]; i++)
        free(exec->words[i]);
    free(exec->words);
    free(exec);
}

const struct driver_ops exec_ops = {
    .name = "exec",
    .open = exec_open,
    .close = exec_close,
    .get = exec_get,
    .set = exec_set,
    .counters = exec_counters,
    .drain = exec_drain,
    .check = exec_check,
};
