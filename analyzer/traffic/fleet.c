/*
 * What is said of a fleet must hold for each of its members, because a client meets one of them and not the average. So
 * the answers are the worst ones, and shares that differ are no share at all. Lowering goes on past a member that
 * fails, for every balancer that is back on stable is worth having. Raising stops there and is undone, for half of a
 * raised fleet is a share that nobody asked for and that no evidence is about. Looking and lowering ask all members at
 * the same time: one that hangs must not keep the others from going back.
 */
#include "analyzer/traffic/fleet.h"

#include "base/memory.h"
#include "base/strbuf.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *fleet_where(const struct policy_balancer *balancer)
{
    const char *name = balancer->socket  ? balancer->socket
                       : balancer->flags ? balancer->flags
                       : balancer->split ? balancer->split
                                         : NULL;
    if (name || balancer->command.count == 0)
        return mem_strdup(name ? name : "");
    struct strbuf text = {0};
    for (size_t i = 0; i < balancer->command.count; i++)
        strbuf_printf(&text, "%s%s", i ? " " : "", balancer->command.words[i]);
    return strbuf_take(&text);
}

/* ---- what the members say, and what that comes to ---- */

struct answer {
    enum driver_status status;
    struct driver_state state;
    struct error err;
};

static void name_member(const struct fleet *fleet, size_t i, struct error *err)
{
    error_prefix(err, "balancer %zu (%.120s)", i + 1, fleet->members[i].where);
}

/* The larger, the more there is to do about it. */
static int gravity(enum driver_status status)
{
    static const enum driver_status rising[] = {DRIVER_OK,          DRIVER_UNSUPPORTED, DRIVER_REFUSED,
                                                DRIVER_UNREACHABLE, DRIVER_TIMEOUT,     DRIVER_MISMATCH,
                                                DRIVER_UNHEALTHY,   DRIVER_FENCED};
    int found = 0;
    for (int i = 0; i < (int)(sizeof rising / sizeof *rising); i++)
        if (rising[i] == status)
            found = i;
    return found;
}

static enum driver_status gravest(const struct answer *answers, size_t count)
{
    enum driver_status worst = DRIVER_OK;
    for (size_t i = 0; i < count; i++)
        if (gravity(answers[i].status) > gravity(worst))
            worst = answers[i].status;
    return worst;
}

/*
 * A member that is fenced belongs to another rollout. On the way back this must not hide a member that may still have a
 * share: whoever is told that he is fenced goes, and nobody would be left to look after it.
 */
static enum driver_status gravest_to_stable(const struct answer *answers, size_t count)
{
    enum driver_status worst = DRIVER_OK;
    bool fenced = false;
    for (size_t i = 0; i < count; i++) {
        if (answers[i].status == DRIVER_FENCED)
            fenced = true;
        else if (gravity(answers[i].status) > gravity(worst))
            worst = answers[i].status;
    }
    return worst == DRIVER_OK && fenced ? DRIVER_FENCED : worst;
}

static enum driver_status fail_with(struct error *err, enum driver_status status, struct strbuf *text)
{
    driver_fail(err, status, "%s", text->text);
    strbuf_free(text);
    return status;
}

/* All of the failures in one text, under `status`; `after` (may be "") ends it. */
static enum driver_status fail_together(const struct answer *answers, size_t count, enum driver_status status,
                                        const char *after, struct error *err)
{
    struct strbuf text = {0};
    for (size_t i = 0; i < count; i++)
        if (answers[i].status != DRIVER_OK)
            strbuf_printf(&text, "%s%s", text.length ? "; " : "", answers[i].err.text);
    strbuf_puts(&text, after);
    return fail_with(err, status, &text);
}

static enum driver_status member_lacks(const struct fleet *fleet, size_t i, const char *what, struct error *err)
{
    enum driver_status status =
        driver_fail(err, DRIVER_UNSUPPORTED, "the driver %s cannot tell %s", fleet->members[i].ops->name, what);
    name_member(fleet, i, err);
    return status;
}

static void look(const struct fleet *fleet, size_t i, struct answer *answer)
{
    const struct fleet_member *member = &fleet->members[i];
    *answer = (struct answer){.state.lease_left_ms = -1};
    if (!member->ops->get) {
        answer->status = member_lacks(fleet, i, "the share in force", &answer->err);
        return;
    }
    answer->status = member->ops->get(member->self, &answer->state, &answer->err);
    if (answer->status != DRIVER_OK)
        name_member(fleet, i, &answer->err);
}

static void change(const struct fleet *fleet, size_t i, const struct driver_order *order, struct answer *answer)
{
    const struct fleet_member *member = &fleet->members[i];
    *answer = (struct answer){.state.lease_left_ms = -1};
    answer->status = member->ops->set(member->self, order, &answer->state, &answer->err);
    if (answer->status != DRIVER_OK)
        name_member(fleet, i, &answer->err);
}

/* ---- all at the same time ---- */

/* What one member is asked: an order, or without one the share in force. */
struct job {
    const struct fleet *fleet;
    size_t member;
    const struct driver_order *order;
    struct answer *answer;
    pthread_t thread;
    bool asked; /* nobody is left out but by the caller */
    bool started;
};

static void *do_job(void *data)
{
    const struct job *job = data;
    if (job->order)
        change(job->fleet, job->member, job->order, job->answer);
    else
        look(job->fleet, job->member, job->answer);
    return NULL;
}

/* Signals are the main thread's. A thread that cannot be had costs time, and nothing else. */
static void do_jobs(struct job *jobs, size_t count)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (size_t i = 0; i < count; i++)
        jobs[i].started = jobs[i].asked && pthread_create(&jobs[i].thread, NULL, do_job, &jobs[i]) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    for (size_t i = 0; i < count; i++) {
        if (jobs[i].started)
            pthread_join(jobs[i].thread, NULL);
        else if (jobs[i].asked)
            do_job(&jobs[i]);
    }
}

static struct job *new_jobs(const struct fleet *fleet, const struct driver_order *order, struct answer *answers)
{
    struct job *jobs = mem_alloc(fleet->count, sizeof *jobs);
    for (size_t i = 0; i < fleet->count; i++)
        jobs[i] = (struct job){.fleet = fleet, .member = i, .order = order, .answer = &answers[i], .asked = true};
    return jobs;
}

static void look_at_all(const struct fleet *fleet, struct answer *answers)
{
    struct job *jobs = new_jobs(fleet, NULL, answers);
    do_jobs(jobs, fleet->count);
    free(jobs);
}

/* FNV-1a, 64 bits. Source: Fowler, Noll, Vo; draft-eastlake-fnv. */
static uint64_t hash_add(uint64_t hash, uint64_t value)
{
    for (int byte = 0; byte < 8; byte++)
        hash = (hash ^ (value >> (8 * byte) & 0xff)) * UINT64_C(1099511628211);
    return hash;
}

static const uint64_t hash_start = UINT64_C(14695981039346656037);

static void list_members(const struct answer *answers, size_t count, char *detail, size_t room)
{
    struct strbuf text = {0};
    for (size_t i = 0; i < count; i++)
        strbuf_printf(&text, "%s%zu: %s", i ? "; " : "", i + 1,
                      *answers[i].state.detail ? answers[i].state.detail : "no detail");
    char *list = strbuf_take(&text);
    snprintf(detail, room, "%s", list);
    free(list);
}

static void merge_member(const struct driver_state *one, struct driver_state *all)
{
    all->epoch = one->epoch > all->epoch ? one->epoch : all->epoch;
    all->lease_over |= one->lease_over;
    if (one->lease_left_ms >= 0 && (all->lease_left_ms < 0 || one->lease_left_ms < all->lease_left_ms))
        all->lease_left_ms = one->lease_left_ms;
    for (int t = 0; t < TRACKS; t++)
        all->up[t] = one->up[t] < all->up[t] ? one->up[t] : all->up[t];
    all->health_known &= one->health_known;
    all->unsaved |= one->unsaved;
    all->capabilities &= one->capabilities;
}

static enum driver_status differ(const struct answer *answers, size_t count, struct error *err)
{
    struct strbuf text = {0};
    strbuf_puts(&text, "the balancers do not give the canary the same share:");
    for (size_t i = 0; i < count; i++)
        strbuf_printf(&text, "%s %zu: %.4g %%", i ? "," : "", i + 1, answers[i].state.share_bp / 100.0);
    strbuf_puts(&text, "; set it again to make them agree");
    return fail_with(err, DRIVER_MISMATCH, &text);
}

/* All members have answered. */
static enum driver_status merge(const struct answer *answers, size_t count, struct driver_state *got, struct error *err)
{
    uint32_t least = answers[0].state.share_bp, most = least;
    uint64_t hash = hash_start;
    bool tells = false;
    struct driver_state all = answers[0].state;
    for (size_t i = 0; i < count; i++) {
        const struct driver_state *one = &answers[i].state;
        least = one->share_bp < least ? one->share_bp : least;
        most = one->share_bp > most ? one->share_bp : most;
        hash = hash_add(hash, one->generation);
        tells |= one->generation != 0;
        merge_member(one, &all);
    }
    all.share_bp = least + (most - least) / 2;
    all.generation = tells ? hash : 0;
    list_members(answers, count, all.detail, sizeof all.detail);
    *got = all;
    /* The lowest is no further from the middle, which is rounded down. */
    if (driver_is_share(most, all.share_bp))
        return DRIVER_OK;
    return differ(answers, count, err);
}

enum driver_status fleet_get(const struct fleet *fleet, struct driver_state *got, struct error *err)
{
    if (fleet->count == 1)
        return fleet->members[0].ops->get(fleet->members[0].self, got, err);
    struct answer *answers = mem_alloc(fleet->count, sizeof *answers);
    look_at_all(fleet, answers);
    enum driver_status status = gravest(answers, fleet->count);
    if (status == DRIVER_OK)
        status = merge(answers, fleet->count, got, err);
    else
        fail_together(answers, fleet->count, status, "", err);
    free(answers);
    return status;
}

/* ---- set ---- */

/* Whether the order is more than the member is known to have. */
static bool is_raise(const struct answer *before, const struct driver_order *order)
{
    return before->status == DRIVER_OK && before->state.share_bp < order->share_bp &&
           !driver_is_share(before->state.share_bp, order->share_bp);
}

/* Whether nobody may be raised: somebody would have to be, or may have to be, and not all are known. */
static bool is_blind_raise(const struct answer *before, size_t count, const struct driver_order *order)
{
    size_t known = 0, raises = 0;
    for (size_t i = 0; i < count; i++) {
        known += before[i].status == DRIVER_OK;
        raises += is_raise(&before[i], order);
    }
    return known < count && (raises || !known);
}

static void lower_all(const struct fleet *fleet, const struct driver_order *order, const struct answer *before,
                      bool blind, struct answer *after)
{
    struct job *jobs = new_jobs(fleet, order, after);
    for (size_t i = 0; i < fleet->count; i++) {
        bool left_alone = before[i].status != DRIVER_OK && blind;
        if (left_alone)
            after[i] = before[i];
        jobs[i].asked = !left_alone && !is_raise(&before[i], order);
    }
    do_jobs(jobs, fleet->count);
    free(jobs);
}

/* Back to what it had. Its lease, if it had one, is that of the order: whoever gave it goes on renewing it. */
static bool put_back(const struct fleet *fleet, size_t i, const struct driver_order *order,
                     const struct driver_state *before)
{
    struct answer answer;
    const struct driver_order back = {.share_bp = before->share_bp,
                                      .epoch = order->epoch,
                                      .lease_ms = before->lease_left_ms >= 0 ? order->lease_ms : 0};
    change(fleet, i, &back, &answer);
    return answer.status == DRIVER_OK;
}

/* Undoes what was raised before `failed`; says how that went. */
static char *undo(const struct fleet *fleet, const struct driver_order *order, const struct answer *before,
                  size_t failed)
{
    struct strbuf text = {0};
    for (size_t i = 0; i < failed; i++) {
        if (!is_raise(&before[i], order))
            continue;
        bool back = put_back(fleet, i, order, &before[i].state);
        strbuf_printf(&text, "; balancer %zu %s %.4g %%", i + 1, back ? "was put back to" : "could not be put back to",
                      before[i].state.share_bp / 100.0);
    }
    return strbuf_take(&text);
}

/* The text about the undoing, which the caller frees; NULL if all went well. */
static char *raise_all(const struct fleet *fleet, const struct driver_order *order, const struct answer *before,
                       struct answer *after)
{
    for (size_t i = 0; i < fleet->count; i++) {
        if (!is_raise(&before[i], order))
            continue;
        change(fleet, i, order, &after[i]);
        if (after[i].status != DRIVER_OK)
            return undo(fleet, order, before, i);
    }
    return NULL;
}

/* What is back and not saved is not proven to stay back. Beside one that is fenced this is told as a failure. */
static void doubt_unsaved(const struct fleet *fleet, struct answer *after)
{
    for (size_t i = 0; i < fleet->count; i++) {
        struct answer *one = &after[i];
        if (one->status != DRIVER_OK || !one->state.unsaved)
            continue;
        one->status = driver_fail(&one->err, DRIVER_REFUSED, "%s", one->state.detail);
        name_member(fleet, i, &one->err);
    }
}

/* Nobody is looked at first: one that does not answer would only keep the others. */
static enum driver_status set_all_to_stable(const struct fleet *fleet, const struct driver_order *order,
                                            struct answer *after, struct driver_state *got, struct error *err)
{
    struct job *jobs = new_jobs(fleet, order, after);
    do_jobs(jobs, fleet->count);
    free(jobs);
    enum driver_status status = gravest_to_stable(after, fleet->count);
    if (status == DRIVER_OK)
        return merge(after, fleet->count, got, err);
    if (status == DRIVER_FENCED) {
        doubt_unsaved(fleet, after);
        status = gravest_to_stable(after, fleet->count);
    }
    return fail_together(after, fleet->count, status, "", err);
}

static enum driver_status set_all(const struct fleet *fleet, const struct driver_order *order, struct answer *before,
                                  struct answer *after, struct driver_state *got, struct error *err)
{
    look_at_all(fleet, before);
    bool blind = is_blind_raise(before, fleet->count, order);
    lower_all(fleet, order, before, blind, after);
    enum driver_status status = gravest(after, fleet->count);
    if (blind || status != DRIVER_OK)
        return fail_together(after, fleet->count, status, blind ? "; nothing was raised" : "", err);
    char *undone = raise_all(fleet, order, before, after);
    if (undone)
        status = fail_together(after, fleet->count, gravest(after, fleet->count), undone, err);
    else
        status = merge(after, fleet->count, got, err);
    free(undone);
    return status;
}

enum driver_status fleet_set(const struct fleet *fleet, const struct driver_order *order, struct driver_state *got,
                             struct error *err)
{
    if (fleet->count == 1)
        return fleet->members[0].ops->set(fleet->members[0].self, order, got, err);
    struct answer *before = mem_alloc(fleet->count, sizeof *before), *after = mem_alloc(fleet->count, sizeof *after);
    enum driver_status status = order->share_bp == 0 ? set_all_to_stable(fleet, order, after, got, err)
                                                     : set_all(fleet, order, before, after, got, err);
    free(before);
    free(after);
    return status;
}

/* ---- the others ---- */

enum driver_status fleet_can_give(const struct fleet *fleet, uint32_t share_bp, struct error *err)
{
    for (size_t i = 0; i < fleet->count; i++) {
        const struct fleet_member *member = &fleet->members[i];
        enum driver_status status =
            member->ops->can_give ? member->ops->can_give(member->self, share_bp, err) : DRIVER_OK;
        if (status == DRIVER_OK)
            continue;
        if (fleet->count > 1)
            name_member(fleet, i, err);
        return status;
    }
    return DRIVER_OK;
}

static void add_arm(const struct balancer_arm *one, struct balancer_arm *all)
{
    all->total += one->total;
    all->failed += one->failed;
    all->connection_errors += one->connection_errors;
    all->retries += one->retries;
    all->redispatches += one->redispatches;
    all->health_changes += one->health_changes;
    all->in_flight += one->in_flight;
    all->up += one->up;
    all->servers += one->servers;
}

enum driver_status fleet_counters(const struct fleet *fleet, struct balancer_counters *got, struct error *err)
{
    if (fleet->count == 1)
        return fleet->members[0].ops->counters(fleet->members[0].self, got, err);
    struct balancer_counters all = {.generation = hash_start};
    for (size_t i = 0; i < fleet->count; i++) {
        const struct fleet_member *member = &fleet->members[i];
        struct balancer_counters one = {0};
        if (!member->ops->counters)
            return member_lacks(fleet, i, "request counts", err);
        enum driver_status status = member->ops->counters(member->self, &one, err);
        if (status != DRIVER_OK) {
            name_member(fleet, i, err);
            return status;
        }
        all.generation = hash_add(all.generation, one.generation);
        for (int t = 0; t < TRACKS; t++)
            add_arm(&one.arms[t], &all.arms[t]);
    }
    *got = all;
    return DRIVER_OK;
}

enum driver_status fleet_drain(const struct fleet *fleet, enum track track, int64_t deadline_ms, uint64_t *in_flight,
                               struct error *err)
{
    if (fleet->count == 1)
        return fleet->members[0].ops->drain(fleet->members[0].self, track, deadline_ms, in_flight, err);
    struct answer *answers = mem_alloc(fleet->count, sizeof *answers);
    int64_t end_ms = driver_clock_ms() + deadline_ms;
    for (size_t i = 0; i < fleet->count; i++) {
        const struct fleet_member *member = &fleet->members[i];
        int64_t left_ms = end_ms - driver_clock_ms();
        uint64_t one = 0;
        answers[i].status =
            member->ops->drain
                ? member->ops->drain(member->self, track, left_ms > 0 ? left_ms : 0, &one, &answers[i].err)
                : member_lacks(fleet, i, "which requests are in flight", &answers[i].err);
        if (answers[i].status != DRIVER_OK && member->ops->drain)
            name_member(fleet, i, &answers[i].err);
        *in_flight += one;
    }
    enum driver_status status = gravest(answers, fleet->count);
    if (status != DRIVER_OK)
        fail_together(answers, fleet->count, status, "", err);
    free(answers);
    return status;
}

static enum driver_status check_member(const struct fleet *fleet, size_t i, struct driver_report *report,
                                       struct error *err)
{
    const struct fleet_member *member = &fleet->members[i];
    struct driver_report one = {0};
    if (!member->ops->check)
        return member_lacks(fleet, i, "how it is configured", err);
    enum driver_status status = member->ops->check(member->self, &one, err);
    for (size_t f = 0; f < one.count; f++)
        driver_find(report, one.findings[f].wrong, "balancer %zu (%.120s): %s", i + 1, member->where,
                    one.findings[f].text);
    driver_report_free(&one);
    if (status != DRIVER_OK)
        name_member(fleet, i, err);
    return status;
}

enum driver_status fleet_check(const struct fleet *fleet, struct driver_report *report, struct error *err)
{
    if (fleet->count == 1)
        return fleet->members[0].ops->check(fleet->members[0].self, report, err);
    struct answer *answers = mem_alloc(fleet->count, sizeof *answers);
    for (size_t i = 0; i < fleet->count; i++)
        answers[i].status = check_member(fleet, i, report, &answers[i].err);
    enum driver_status status = gravest(answers, fleet->count);
    if (status != DRIVER_OK)
        fail_together(answers, fleet->count, status, "", err);
    free(answers);
    return status;
}
