/*
 * Retention: evidence and verdicts of rollouts that ended long ago are removed, a few rows at a time. Between two such
 * pieces the store is free for a while, so that a look in progress of another rollout waits for one piece at most.
 *
 * There is no list of what is left to do: what still has rows is not done. The first piece marks the rollout and adds
 * the line to its audit trail, so that nobody takes what is left of its evidence for the whole. Two processes may prune
 * at the same time; the mark is one's.
 */
#include "analyzer/store/private.h"
#include "base/duration.h"
#include "base/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

#define ROWS_OF(table) "EXISTS (SELECT 1 FROM " table " WHERE rollout = r.seq)"

enum { PIECE_ROWS = 64, PAUSE_MS = 20 };

/* Bound: the rollout, the most rows to remove. */
static const char *const removals[] = {
    "DELETE FROM looks WHERE rowid IN (SELECT rowid FROM looks WHERE rollout = ? LIMIT ?)",
    "DELETE FROM verdicts WHERE rowid IN (SELECT rowid FROM verdicts WHERE rollout = ? LIMIT ?)",
    "DELETE FROM balancer WHERE rowid IN (SELECT rowid FROM balancer WHERE rollout = ? LIMIT ?)",
    "DELETE FROM decisions WHERE seq IN (SELECT seq FROM decisions WHERE rollout = ? LIMIT ?)",
    "DELETE FROM weights WHERE (rollout, from_ms) IN (SELECT rollout, from_ms FROM weights WHERE rollout = ? LIMIT ?)",
};

enum { REMOVALS = sizeof removals / sizeof *removals };

struct old_rollout {
    int64_t seq, retention_ms, pruned_ms;
};

/* The next one after `after_seq` that is past its retention and still has something to remove; seq 0: none is left. */
static bool find_old(struct store *store, int64_t now_ms, int64_t after_seq, struct old_rollout *old, struct error *err)
{
    *old = (struct old_rollout){0};
    struct sql sql =
        sql_open(store, "SELECT seq, retention_ms, pruned_ms FROM rollouts r "
                        "WHERE seq > ? AND state IN ('promoted', 'aborted', 'expired', 'superseded') "
                        "AND ended_ms > 0 AND retention_ms >= 0 AND ended_ms < ? - retention_ms "
                        "AND (" ROWS_OF("looks") " OR " ROWS_OF("verdicts") " OR " ROWS_OF("balancer") " OR " ROWS_OF(
                            "weights") " OR " ROWS_OF("decisions") ") ORDER BY seq LIMIT 1");
    sql_int(&sql, after_seq);
    sql_int(&sql, now_ms);
    if (sql_row(&sql))
        *old = (struct old_rollout){
            .seq = sql_int_at(&sql, 0), .retention_ms = sql_int_at(&sql, 1), .pruned_ms = sql_int_at(&sql, 2)};
    return sql_end(&sql, err);
}

/* Once, whoever comes first. */
static bool mark(struct store *store, int64_t now_ms, const struct old_rollout *old, struct error *err)
{
    if (old->pruned_ms)
        return true;
    char kept[DURATION_TEXT];
    char *detail = mem_printf("evidence and verdicts removed, %s after the end of the rollout; policy and audit trail "
                              "stay",
                              duration_format(old->retention_ms, kept));
    struct sql sql = sql_open(store, "INSERT INTO audit(rollout, at_ms, actor, event, detail, weight_bp) "
                                     "SELECT seq, ?2, 'haldane', 'pruned', ?3, weight_bp FROM rollouts "
                                     "WHERE seq = ?1 AND pruned_ms = 0");
    sql_int(&sql, old->seq);
    sql_int(&sql, now_ms);
    sql_text(&sql, detail);
    bool ok = sql_run(&sql, err);
    free(detail);
    if (!ok)
        return false;
    sql = sql_open(store, "UPDATE rollouts SET pruned_ms = ?2 WHERE seq = ?1 AND pruned_ms = 0");
    sql_int(&sql, old->seq);
    sql_int(&sql, now_ms);
    return sql_run(&sql, err);
}

/* At most one piece of rows, from whichever tables still have some. */
static bool remove_rows(struct store *store, int64_t seq, int *removed, struct error *err)
{
    *removed = 0;
    for (size_t i = 0; i < REMOVALS && *removed < PIECE_ROWS; i++) {
        struct sql sql = sql_open(store, removals[i]);
        sql_int(&sql, seq);
        sql_int(&sql, PIECE_ROWS - *removed);
        if (!sql_run(&sql, err))
            return false;
        *removed += sqlite3_changes(store->db);
    }
    return true;
}

static bool remove_piece(struct store *store, int64_t now_ms, const struct old_rollout *old, int *removed,
                         struct error *err)
{
    bool own;
    if (!write_enter(store, &own, err))
        return false;
    bool ok = mark(store, now_ms, old, err) && remove_rows(store, old->seq, removed, err);
    return write_leave(store, own, ok, err);
}

static int64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Piece by piece, over all rollouts: many small ones in a row keep a writer waiting as a large one does. */
static bool prune(struct store *store, int64_t now_ms, int64_t budget_ms, struct pruning *done, struct error *err)
{
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
    struct old_rollout old = {0};
    int removed = 0;
    bool begun = false;
    for (int64_t from_ms = clock_ms();;) {
        if (removed < PIECE_ROWS && !find_old(store, now_ms, old.seq, &old, err))
            return false;
        done->more = old.seq != 0;
        if (!done->more || (begun && clock_ms() - from_ms >= budget_ms))
            return true;
        if (begun)
            nanosleep(&pause, NULL);
        begun = true;
        if (!remove_piece(store, now_ms, &old, &removed, err))
            return false;
        old.pruned_ms = now_ms;
        done->finished += removed < PIECE_ROWS;
    }
}

bool store_prune(struct store *store, int64_t now_ms, int64_t budget_ms, struct pruning *done, struct error *err)
{
    assert(!store->in_transaction);
    *done = (struct pruning){.more = true};
    sqlite3_busy_timeout(store->db, budget_ms < STORE_WAIT_MS ? (int)budget_ms : STORE_WAIT_MS);
    bool ok = prune(store, now_ms, budget_ms, done, err);
    sqlite3_busy_timeout(store->db, STORE_WAIT_MS);
    return ok;
}
