/* What is only ever appended: looks, balancer samples, weights, decisions, verdicts and the audit trail of a rollout.
 */
#include "analyzer/store/private.h"
#include "base/duration.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

bool store_add_look(struct store *store, const char *id, int64_t at_ms, const char *json, struct error *err)
{
    struct write write;
    if (!write_row(&write, store, id, "INSERT INTO looks(rollout, at_ms, json) VALUES(?, ?, ?)", err))
        return false;
    sql_int(&write.sql, at_ms);
    sql_text(&write.sql, json);
    return write_end(&write, err);
}

bool store_add_balancer(struct store *store, const char *id, int64_t at_ms, const char *json, struct error *err)
{
    struct write write;
    if (!write_row(&write, store, id,
                   "INSERT INTO balancer(rollout, at_ms, json) SELECT ?1, ?2, ?3 WHERE NOT EXISTS "
                   "(SELECT 1 FROM balancer WHERE rollout = ?1 AND at_ms >= ?2)",
                   err))
        return false;
    sql_int(&write.sql, at_ms);
    sql_text(&write.sql, json);
    return write_end(&write, err);
}

bool store_add_weight(struct store *store, const char *id, int64_t from_ms, uint32_t weight_bp, struct error *err)
{
    struct write write;
    if (!write_row(&write, store, id,
                   "INSERT INTO weights(rollout, from_ms, weight_bp) VALUES(?, ?, ?) ON CONFLICT(rollout, from_ms) DO "
                   "UPDATE SET weight_bp = excluded.weight_bp",
                   err))
        return false;
    sql_int(&write.sql, from_ms);
    sql_int(&write.sql, weight_bp);
    return write_end(&write, err);
}

bool store_add_decision(struct store *store, const char *id, const struct evidence_decision *decision,
                        struct error *err)
{
    struct write write;
    if (!write_row(&write, store, id, "INSERT INTO decisions(rollout, at_ms, action, by, reason) VALUES(?, ?, ?, ?, ?)",
                   err))
        return false;
    sql_int(&write.sql, decision->at_ms);
    sql_text(&write.sql, decision->action);
    sql_text(&write.sql, decision->by);
    sql_text(&write.sql, decision->reason);
    return write_end(&write, err);
}

/* --- evidence --- */

/* A table of JSON by time, and what puts one of them into the evidence. */
struct documents {
    const char *query, *what;
    bool (*append)(struct evidence *evidence, const char *text, size_t length, struct error *err);
};

static const struct documents looks = {"SELECT at_ms, json FROM looks WHERE rollout = ? ORDER BY at_ms", "look",
                                       evidence_append_json};
static const struct documents samples = {"SELECT at_ms, json FROM balancer WHERE rollout = ? ORDER BY at_ms",
                                         "balancer sample", evidence_append_balancer_json};

static bool append_document(const struct sql *sql, const struct documents *documents, struct evidence *evidence,
                            struct error *err)
{
    char *json = sql_string_at(sql, 1);
    bool ok = documents->append(evidence, json, strlen(json), err);
    free(json);
    if (ok)
        return true;
    char time[TIME_TEXT];
    error_prefix(err, "the store %s: the %s of rollout %s at %s is damaged", sql->store->path, documents->what,
                 evidence->rollout, time_format(sql_int_at(sql, 0), time));
    return false;
}

static bool load_documents(struct store *store, int64_t seq, const struct documents *documents,
                           struct evidence *evidence, struct error *err)
{
    struct sql sql = sql_open(store, documents->query);
    sql_int(&sql, seq);
    bool good = true;
    while (good && sql_row(&sql))
        good = append_document(&sql, documents, evidence, err);
    return sql_end(&sql, err) && good;
}

static bool load_weights(struct store *store, int64_t seq, struct evidence *evidence, struct error *err)
{
    struct sql sql = sql_open(store, "SELECT from_ms, weight_bp FROM weights WHERE rollout = ? ORDER BY from_ms");
    sql_int(&sql, seq);
    bool good = true;
    while (good && sql_row(&sql)) {
        uint32_t weight_bp;
        good = sql_weight_at(&sql, 1, &weight_bp) || store_damaged(store, "a weight", evidence->rollout, err);
        if (good)
            evidence_add_weight(evidence, sql_int_at(&sql, 0), weight_bp);
    }
    return sql_end(&sql, err) && good;
}

static bool load_decisions(struct store *store, int64_t seq, struct evidence *evidence, struct error *err)
{
    struct sql sql =
        sql_open(store, "SELECT at_ms, action, by, reason FROM decisions WHERE rollout = ? ORDER BY at_ms, seq");
    sql_int(&sql, seq);
    while (sql_row(&sql)) {
        char *action = sql_string_at(&sql, 1), *by = sql_string_at(&sql, 2), *reason = sql_string_at(&sql, 3);
        evidence_add_decision(evidence, sql_int_at(&sql, 0), action, by, reason);
        free(action);
        free(by);
        free(reason);
    }
    return sql_end(&sql, err);
}

static struct evidence *empty_evidence(struct store *store, int64_t seq, int64_t interval_ms, struct error *err)
{
    struct sql sql = sql_open(store, "SELECT id, service FROM rollouts WHERE seq = ?");
    sql_int(&sql, seq);
    char *id = NULL, *service = NULL;
    if (sql_row(&sql)) {
        id = sql_string_at(&sql, 0);
        service = sql_string_at(&sql, 1);
    }
    struct evidence *evidence = NULL;
    if (sql_end(&sql, err) && (id || store_damaged(store, "the row", "(unknown)", err))) {
        evidence = evidence_new(service, interval_ms);
        evidence->rollout = id;
        id = NULL;
    }
    free(id);
    free(service);
    return evidence;
}

struct evidence *store_load_evidence(struct store *store, const char *id, int64_t interval_ms, struct error *err)
{
    bool own;
    if (!read_enter(store, &own, err))
        return NULL;
    int64_t seq;
    struct evidence *evidence = rollout_seq(store, id, &seq, err) ? empty_evidence(store, seq, interval_ms, err) : NULL;
    if (evidence &&
        !(load_documents(store, seq, &looks, evidence, err) && load_documents(store, seq, &samples, evidence, err) &&
          load_weights(store, seq, evidence, err) && load_decisions(store, seq, evidence, err))) {
        evidence_free(evidence);
        evidence = NULL;
    }
    read_leave(store, own);
    return evidence;
}

/* --- verdicts --- */

bool store_add_verdict(struct store *store, const char *id, uint64_t look, int64_t at_ms, const char *json,
                       struct error *err)
{
    struct write write;
    if (!write_row(&write, store, id,
                   "INSERT INTO verdicts(rollout, look, at_ms, json) VALUES(?, ?, ?, ?) ON CONFLICT(rollout, look) DO "
                   "UPDATE SET at_ms = excluded.at_ms, json = excluded.json",
                   err))
        return false;
    sql_int(&write.sql, (int64_t)look);
    sql_int(&write.sql, at_ms);
    sql_text(&write.sql, json);
    return write_end(&write, err);
}

bool store_load_verdicts(struct store *store, const char *id, bool last_only, char ***texts, size_t *count,
                         struct error *err)
{
    *texts = NULL;
    *count = 0;
    int64_t seq;
    if (!rollout_seq(store, id, &seq, err))
        return false;
    size_t room = 0;
    struct sql sql =
        sql_open(store, last_only ? "SELECT json FROM verdicts WHERE rollout = ? ORDER BY look DESC LIMIT 1"
                                  : "SELECT json FROM verdicts WHERE rollout = ? ORDER BY look");
    sql_int(&sql, seq);
    while (sql_row(&sql)) {
        *texts = mem_grow(*texts, *count, &room, sizeof **texts);
        (*texts)[(*count)++] = sql_string_at(&sql, 0);
    }
    if (sql_end(&sql, err))
        return true;
    for (size_t i = 0; i < *count; i++)
        free((*texts)[i]);
    free(*texts);
    *texts = NULL;
    *count = 0;
    return false;
}

/* --- audit --- */

bool store_add_audit(struct store *store, const char *id, const struct audit_entry *entry, struct error *err)
{
    struct write write;
    if (!write_row(&write, store, id,
                   "INSERT INTO audit(rollout, at_ms, actor, event, detail, weight_bp) VALUES(?, ?, ?, ?, ?, ?)", err))
        return false;
    sql_int(&write.sql, entry->at_ms);
    sql_text(&write.sql, entry->actor);
    sql_text(&write.sql, entry->event);
    sql_text(&write.sql, entry->detail);
    sql_int(&write.sql, entry->weight_bp);
    return write_end(&write, err);
}

bool store_load_audit(struct store *store, const char *id, struct audit_entry **entries, size_t *count,
                      struct error *err)
{
    *entries = NULL;
    *count = 0;
    int64_t seq;
    if (!rollout_seq(store, id, &seq, err))
        return false;
    struct audit_entry *list = NULL;
    size_t used = 0, room = 0;
    bool good = true;
    /* In the order in which it was written: a clock that was set back must not reorder what happened. */
    struct sql sql =
        sql_open(store, "SELECT at_ms, actor, event, detail, weight_bp FROM audit WHERE rollout = ? ORDER BY seq");
    sql_int(&sql, seq);
    while (good && sql_row(&sql)) {
        list = mem_grow(list, used, &room, sizeof *list);
        struct audit_entry *entry = &list[used++];
        *entry = (struct audit_entry){.at_ms = sql_int_at(&sql, 0),
                                      .actor = sql_string_at(&sql, 1),
                                      .event = sql_string_at(&sql, 2),
                                      .detail = sql_text_at(&sql, 3)};
        good = sql_weight_at(&sql, 4, &entry->weight_bp) || store_damaged(store, "the audit trail", id, err);
    }
    if (sql_end(&sql, err) && good) {
        *entries = list;
        *count = used;
        return true;
    }
    audit_entries_free(list, used);
    return false;
}
