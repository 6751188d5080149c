/*
 * Rollouts, the policies they run under, and what is about to be done for them. That a service has one live rollout is
 * not checked here but by the index rollouts_live: whichever way a second one would come to be, the database refuses.
 */
#include "analyzer/store/private.h"
#include "base/memory.h"
#include "base/strbuf.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIVE "state NOT IN ('promoted', 'aborted', 'expired', 'superseded')" /* as in the index rollouts_live */
#define COLUMNS                                                                                                        \
    "id, service, state, cause, step, weight_bp, begun_ms, step_since_ms, last_look_ms, lease_until_ms, ended_ms, "    \
    "reason, epoch, generation, advise"
#define STORED COLUMNS ", pruned_ms"

enum { NEWEST_IDS = 5, CAUSES = CAUSE_SUPERSEDED + 1 };

static bool no_rollout(struct store *store, const char *id, struct error *err)
{
    struct strbuf ids = {0};
    size_t count = 0;
    struct sql sql = sql_open(store, "SELECT id FROM rollouts ORDER BY begun_ms DESC, seq DESC LIMIT ?");
    sql_int(&sql, NEWEST_IDS);
    while (sql_row(&sql)) {
        char *known = sql_string_at(&sql, 0);
        strbuf_printf(&ids, "%s%s", count++ ? ", " : "", known);
        free(known);
    }
    bool ok = sql_end(&sql, err);
    if (ok && count)
        error_set(err, ERROR_NO_INPUT, "there is no rollout %s in the store %s; the newest %s %s", id, store->path,
                  count == 1 ? "is" : "are", ids.text);
    else if (ok)
        error_set(err, ERROR_NO_INPUT,
                  "there is no rollout %s in the store %s, which holds none; begin one, or name "
                  "another file with --db",
                  id, store->path);
    strbuf_free(&ids);
    return false;
}

bool rollout_seq(struct store *store, const char *id, int64_t *seq, struct error *err)
{
    struct sql sql = sql_open(store, "SELECT seq FROM rollouts WHERE id = ?");
    sql_text(&sql, id);
    bool found = sql_row(&sql);
    *seq = found ? sql_int_at(&sql, 0) : 0;
    if (!sql_end(&sql, err))
        return false;
    return found || no_rollout(store, id, err);
}

/* --- writing --- */

static bool id_taken(struct store *store, const char *id, bool *taken, struct error *err)
{
    struct sql sql = sql_open(store, "SELECT 1 FROM rollouts WHERE id = ?");
    sql_text(&sql, id);
    *taken = sql_row(&sql);
    return sql_end(&sql, err);
}

/* "shop-1", "shop-1-2", "shop-1-3": a long id gives up its end for the suffix. */
static bool free_id(struct store *store, struct rollout *rollout, struct error *err)
{
    char wanted[sizeof rollout->id];
    memcpy(wanted, rollout->id, sizeof wanted);
    for (unsigned n = 2;; n++) {
        bool taken;
        if (!id_taken(store, rollout->id, &taken, err))
            return false;
        if (!taken)
            return true;
        char suffix[16];
        int length = snprintf(suffix, sizeof suffix, "-%u", n);
        int room = (int)sizeof rollout->id - 1 - length;
        snprintf(rollout->id, sizeof rollout->id, "%.*s%s", room, wanted, suffix);
    }
}

/* Whether it was the index rollouts_live that refused. */
static bool second_live(const struct sql *sql)
{
    return sql->rc == SQLITE_CONSTRAINT_UNIQUE && strstr(sqlite3_errmsg(sql->store->db), "rollouts.service");
}

static bool refuse_second(struct store *store, const struct rollout *rollout, struct error *err)
{
    struct sql sql = sql_open(store, "SELECT id, state FROM rollouts WHERE service = ? AND id <> ? AND " LIVE);
    sql_text(&sql, rollout->service);
    sql_text(&sql, rollout->id);
    char *id = NULL, *state = NULL;
    if (sql_row(&sql)) {
        id = sql_string_at(&sql, 0);
        state = sql_string_at(&sql, 1);
    }
    if (sql_end(&sql, err))
        error_set(
            err, ERROR_BUSY,
            "the service %s already has the rollout %s (%s); wait for its end, or abort it with `haldane abort %s "
            "--reason TEXT`",
            rollout->service, id ? id : "?", state ? state : "?", id ? id : "ID");
    free(id);
    free(state);
    return false;
}

/* Values in the order of COLUMNS, without id and service. */
static void bind_state(struct sql *sql, const struct rollout *rollout)
{
    sql_text(sql, rollout_state_names[rollout->state]);
    sql_text(sql, rollout_cause_names[rollout->cause]);
    sql_int(sql, (int64_t)rollout->step);
    sql_int(sql, rollout->weight_bp);
    sql_int(sql, rollout->begun_ms);
    sql_int(sql, rollout->step_since_ms);
    sql_int(sql, rollout->last_look_ms);
    sql_int(sql, rollout->lease_until_ms);
    sql_int(sql, rollout->ended_ms);
    sql_text(sql, rollout->reason);
    sql_int(sql, (int64_t)rollout->epoch);
    sql_int(sql, (int64_t)rollout->generation);
    sql_int(sql, rollout->advise);
}

/* Runs the statement that writes a row of rollouts. */
static bool run_rollout(struct sql *sql, const struct rollout *rollout, struct error *err)
{
    while (sql_row(sql))
        ;
    bool second = second_live(sql);
    bool ok = sql_end(sql, err);
    return second ? refuse_second(sql->store, rollout, err) : ok;
}

static bool insert_rollout(struct store *store, const struct rollout *rollout, int64_t retention_ms, struct error *err)
{
    struct sql sql = sql_open(store, "INSERT INTO rollouts(" COLUMNS ", retention_ms) "
                                     "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    sql_text(&sql, rollout->id);
    sql_text(&sql, rollout->service);
    bind_state(&sql, rollout);
    sql_int(&sql, retention_ms);
    return run_rollout(&sql, rollout, err);
}

static bool insert_policy(struct store *store, int64_t seq, const struct policy *policy, struct error *err)
{
    struct sql sql = sql_open(store, "INSERT INTO policies(rollout, sha256, source) VALUES(?, ?, ?)");
    sql_int(&sql, seq);
    sql_text(&sql, policy->sha256);
    sql_text(&sql, policy->source);
    bool ok = sql_run(&sql, err);
    for (size_t i = 0; ok && i < policy->setting_count; i++) {
        sql = sql_open(store, "INSERT INTO settings(rollout, name, value) VALUES(?, ?, ?)");
        sql_int(&sql, seq);
        sql_text(&sql, policy->settings[i].name);
        sql_text(&sql, policy->settings[i].value);
        ok = sql_run(&sql, err);
    }
    return ok;
}

bool store_add_rollout(struct store *store, struct rollout *rollout, const struct policy *policy, struct error *err)
{
    assert(rollout->id[0] && rollout->service);
    struct rollout row = *rollout; /* borrows its texts; only the id may change */
    bool own;
    if (!write_enter(store, &own, err))
        return false;
    bool ok = free_id(store, &row, err) && insert_rollout(store, &row, policy->retention_ms, err) &&
              insert_policy(store, sqlite3_last_insert_rowid(store->db), policy, err);
    if (!write_leave(store, own, ok, err))
        return false;
    memcpy(rollout->id, row.id, sizeof row.id);
    return true;
}

bool store_save_rollout(struct store *store, const struct rollout *rollout, struct error *err)
{
    struct write write;
    if (!write_row(
            &write, store, rollout->id,
            "UPDATE rollouts SET (state, cause, step, weight_bp, begun_ms, step_since_ms, last_look_ms, "
            "lease_until_ms, ended_ms, reason, epoch, generation, advise) = (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, "
            "?11, ?12, ?13, ?14) WHERE seq = ?1",
            err))
        return false;
    bind_state(&write.sql, rollout);
    bool ok = run_rollout(&write.sql, rollout, err);
    return write_leave(store, write.own, ok, err);
}

/* --- reading --- */

static int find_name(const struct sql *sql, int column, const char *const *names, int count)
{
    char *text = sql_string_at(sql, column);
    int found = -1;
    for (int i = 0; i < count && found < 0; i++)
        if (strcmp(names[i], text) == 0)
            found = i;
    free(text);
    return found;
}

/* Fills `rollout` from a row of STORED; what is filled is the caller's also when it fails. */
static bool read_rollout(const struct sql *sql, struct rollout *rollout, struct error *err)
{
    *rollout = (struct rollout){.service = sql_string_at(sql, 1), .reason = sql_text_at(sql, 11)};
    char *id = sql_string_at(sql, 0);
    size_t length = strlen(id);
    memcpy(rollout->id, id, length < sizeof rollout->id ? length : sizeof rollout->id - 1);
    free(id);
    int state = find_name(sql, 2, rollout_state_names, ROLLOUT_STATES);
    int cause = find_name(sql, 3, rollout_cause_names, CAUSES);
    int64_t step = sql_int_at(sql, 4);
    if (!length || length >= sizeof rollout->id || state < 0 || cause < 0 || step < 0 ||
        !sql_weight_at(sql, 5, &rollout->weight_bp))
        return store_damaged(sql->store, "the state", rollout->id, err);
    rollout->state = (enum rollout_state)state;
    rollout->cause = (enum rollout_cause)cause;
    rollout->step = (size_t)step;
    rollout->begun_ms = sql_int_at(sql, 6);
    rollout->step_since_ms = sql_int_at(sql, 7);
    rollout->last_look_ms = sql_int_at(sql, 8);
    rollout->lease_until_ms = sql_int_at(sql, 9);
    rollout->ended_ms = sql_int_at(sql, 10);
    rollout->epoch = (uint64_t)sql_int_at(sql, 12);
    rollout->generation = (uint64_t)sql_int_at(sql, 13);
    rollout->advise = sql_int_at(sql, 14) != 0;
    rollout->pruned_ms = sql_int_at(sql, 15);
    return true;
}

bool store_load_rollout(struct store *store, const char *id, struct rollout *rollout, struct error *err)
{
    *rollout = (struct rollout){0};
    struct sql sql = sql_open(store, "SELECT " STORED " FROM rollouts WHERE id = ?");
    sql_text(&sql, id);
    bool found = sql_row(&sql);
    bool good = !found || read_rollout(&sql, rollout, err);
    if (!sql_end(&sql, err) || !good) {
        rollout_clear(rollout);
        return false;
    }
    return found || no_rollout(store, id, err);
}

static void free_rollouts(struct rollout *rollouts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        rollout_clear(&rollouts[i]);
    free(rollouts);
}

bool store_list_rollouts(struct store *store, bool live, struct rollout **rollouts, size_t *count, struct error *err)
{
    *rollouts = NULL;
    *count = 0;
    struct sql sql =
        sql_open(store, live ? "SELECT " STORED " FROM rollouts WHERE " LIVE " ORDER BY begun_ms DESC, seq DESC"
                             : "SELECT " STORED " FROM rollouts ORDER BY begun_ms DESC, seq DESC");
    struct rollout *list = NULL;
    size_t used = 0, room = 0;
    bool good = true;
    while (good && sql_row(&sql)) {
        list = mem_grow(list, used, &room, sizeof *list);
        good = read_rollout(&sql, &list[used++], err);
    }
    if (!sql_end(&sql, err) || !good) {
        free_rollouts(list, used);
        return false;
    }
    *rollouts = list;
    *count = used;
    return true;
}

static bool read_source(struct store *store, const char *id, int64_t seq, char **source, struct error *err)
{
    struct sql sql = sql_open(store, "SELECT source FROM policies WHERE rollout = ?");
    sql_int(&sql, seq);
    if (sql_row(&sql))
        *source = sql_string_at(&sql, 0);
    if (!sql_end(&sql, err))
        return false;
    return *source || store_damaged(store, "the policy", id, err);
}

static bool read_settings(struct store *store, int64_t seq, struct stored_policy *policy, struct error *err)
{
    size_t room = 0;
    struct sql sql = sql_open(store, "SELECT name, value FROM settings WHERE rollout = ? ORDER BY name");
    sql_int(&sql, seq);
    while (sql_row(&sql)) {
        policy->settings = mem_grow(policy->settings, policy->setting_count, &room, sizeof *policy->settings);
        policy->settings[policy->setting_count++] =
            (struct policy_setting){.name = sql_string_at(&sql, 0), .value = sql_string_at(&sql, 1)};
    }
    return sql_end(&sql, err);
}

bool store_load_policy(struct store *store, const char *id, struct stored_policy *policy, struct error *err)
{
    *policy = (struct stored_policy){0};
    int64_t seq;
    if (rollout_seq(store, id, &seq, err) && read_source(store, id, seq, &policy->source, err) &&
        read_settings(store, seq, policy, err))
        return true;
    stored_policy_free(policy);
    return false;
}

void stored_policy_free(struct stored_policy *policy)
{
    for (size_t i = 0; i < policy->setting_count; i++) {
        free(policy->settings[i].name);
        free(policy->settings[i].value);
    }
    free(policy->settings);
    free(policy->source);
    *policy = (struct stored_policy){0};
}

/* --- intents --- */

bool store_put_intent(struct store *store, const char *id, const struct intent *intent, struct error *err)
{
    struct write write;
    if (!write_row(&write, store, id,
                   "INSERT INTO intents(rollout, weight_bp, at_ms, reason) VALUES(?, ?, ?, ?) ON CONFLICT(rollout) DO "
                   "UPDATE SET weight_bp = excluded.weight_bp, at_ms = excluded.at_ms, reason = excluded.reason",
                   err))
        return false;
    sql_int(&write.sql, intent->weight_bp);
    sql_int(&write.sql, intent->at_ms);
    sql_text(&write.sql, intent->reason);
    return write_end(&write, err);
}

bool store_get_intent(struct store *store, const char *id, struct intent *intent, struct error *err)
{
    *intent = (struct intent){0};
    int64_t seq;
    if (!rollout_seq(store, id, &seq, err))
        return false;
    struct sql sql = sql_open(store, "SELECT weight_bp, at_ms, reason FROM intents WHERE rollout = ?");
    sql_int(&sql, seq);
    bool good = true;
    if (sql_row(&sql)) {
        good = sql_weight_at(&sql, 0, &intent->weight_bp) || store_damaged(store, "the intent", id, err);
        intent->pending = true;
        intent->at_ms = sql_int_at(&sql, 1);
        intent->reason = sql_text_at(&sql, 2);
    }
    if (sql_end(&sql, err) && good)
        return true;
    intent_clear(intent);
    return false;
}

bool store_clear_intent(struct store *store, const char *id, struct error *err)
{
    struct write write;
    return write_row(&write, store, id, "DELETE FROM intents WHERE rollout = ?", err) && write_end(&write, err);
}

void intent_clear(struct intent *intent)
{
    free(intent->reason);
    *intent = (struct intent){0};
}
