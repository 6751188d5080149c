/*
 * What haldane remembers: rollouts, their evidence, verdicts and audit trail, and what it is about to do. SQLite in WAL
 * mode. Every function that writes is durable when it returns (synchronous=FULL), or part of the open transaction.
 *
 * Failures: ERROR_IO when the store cannot be written or read (full disk, permissions, damage), with the file and the
 * mend; ERROR_BUSY when somebody else holds what is asked for; ERROR_DATA when a stored text does not parse.
 */
#ifndef HALDANE_STORE_STORE_H
#define HALDANE_STORE_STORE_H

#include "analyzer/model/evidence.h"
#include "analyzer/model/rollout.h"
#include "base/error.h"
#include "policies/policy.h"

#include <sys/types.h>

struct store;

/*
 * Opens or creates `path` (0600), with its folders (0700) and tables; migrates an older schema, refuses a newer one.
 * Not to be carried over a fork(). Beside it: `path`-lock, and `path`-wal and `path`-shm of SQLite.
 */
struct store *store_open(const char *path, struct error *err);
void store_close(struct store *store);

/* False if there is certainly no such file yet: who only reads need not create it. */
bool store_exists(const char *path);

/*
 * One transaction: all writes between begin and commit happen or none. No nesting. After a write failed, the others
 * fail too and so does the commit, with the first failure; a commit that fails has rolled back.
 */
bool store_begin(struct store *store, struct error *err);
bool store_commit(struct store *store, struct error *err);
void store_rollback(struct store *store);

/*
 * Takes the rollout for this process until store_unlock() or the end of the process, however it ends (a lock of the
 * kernel, not a row). ERROR_BUSY with the holder's pid if another process has it, or another store of this one. Taking
 * twice what one has is no error; one store_unlock() gives it back.
 */
bool store_lock(struct store *store, const char *rollout_id, struct error *err);
void store_unlock(struct store *store, const char *rollout_id);

/*
 * The process that holds the rollout's lock, or 0 if there is none or it is not certain. Certain: the lock file names
 * the process, and the kernel shows (/proc/PID/fdinfo) that a file of that process holds this very lock. Not certain:
 * it belongs to another user, lives in another container, or /proc cannot be read. This process itself, if it has it.
 */
pid_t store_lock_holder(struct store *store, const char *rollout_id);

/*
 * Takes the rollout as store_lock() does, also from a process that hangs: its holder is killed (SIGKILL through a
 * pidfd, so never another process that came to have its number), and has ended when this returns true. At most 2 s.
 * ERROR_BUSY, with the pid and the mend, if the holder is not certain, is this process, may not be killed or does not
 * end. For a guard that has found the rollout's lease run out, and for nobody else: whoever is killed may be in the
 * middle of a move, which the intent then tells.
 */
bool store_break_lock(struct store *store, const char *rollout_id, struct error *err);

/*
 * At most one guard of all rollouts works on a store. As store_lock() and store_unlock(), but of the store as a whole;
 * it does not touch the rollouts' own locks.
 */
bool store_lock_guard(struct store *store, struct error *err);
void store_unlock_guard(struct store *store);

/*
 * Adds a rollout with the policy it runs under, and its retention. ERROR_BUSY, naming the other, if the service already
 * has a rollout that has not ended. If the id is taken, a suffix is put to `rollout->id`.
 */
bool store_add_rollout(struct store *store, struct rollout *rollout, const struct policy *policy, struct error *err);
/* Writes all of it but id, service and `pruned_ms`. */
bool store_save_rollout(struct store *store, const struct rollout *rollout, struct error *err);

/* Fills `rollout` (rollout_clear() it). ERROR_NO_INPUT if there is no such id; the text then lists the newest ids. */
bool store_load_rollout(struct store *store, const char *id, struct rollout *rollout, struct error *err);

/* The policy text and settings of a rollout; free `source` and each setting. */
struct stored_policy {
    char *source;
    struct policy_setting *settings;
    size_t setting_count;
};
bool store_load_policy(struct store *store, const char *id, struct stored_policy *policy, struct error *err);
void stored_policy_free(struct stored_policy *policy);

/* All rollouts, newest first; only those that have not ended if `live`. The caller clears each and frees the array. */
bool store_list_rollouts(struct store *store, bool live, struct rollout **rollouts, size_t *count, struct error *err);

/*
 * What is about to be done to the balancer, written before it is done and removed after the read-back was recorded.
 * At most one per rollout; a second put replaces it. `pending` is the answer of store_get_intent(): there is one.
 */
struct intent {
    bool pending;
    uint32_t weight_bp;
    int64_t at_ms;
    char *reason; /* owned */
};
bool store_put_intent(struct store *store, const char *id, const struct intent *intent, struct error *err);
bool store_get_intent(struct store *store, const char *id, struct intent *intent, struct error *err);
bool store_clear_intent(struct store *store, const char *id, struct error *err);
void intent_clear(struct intent *intent);

/*
 * The evidence log: look documents (evidence_look_to_json) by time, weights, decisions, and what the balancer counted
 * for itself (evidence_balancer_to_json). Appending a look's time twice fails. A second weight of the same millisecond
 * replaces the first: what was read back last is true. A balancer sample that is not later than the last one is left
 * out, as evidence_add_balancer() does: a replay sees what the judge saw.
 */
bool store_add_look(struct store *store, const char *id, int64_t at_ms, const char *json, struct error *err);
bool store_add_balancer(struct store *store, const char *id, int64_t at_ms, const char *json, struct error *err);
bool store_add_weight(struct store *store, const char *id, int64_t from_ms, uint32_t weight_bp, struct error *err);
bool store_add_decision(struct store *store, const char *id, const struct evidence_decision *decision,
                        struct error *err);

/* The whole evidence of a rollout, in order. `interval_ms` is what it was taken at. The caller frees it. */
struct evidence *store_load_evidence(struct store *store, const char *id, int64_t interval_ms, struct error *err);

/* Verdicts as JSON, one per look: a second one for a look replaces it. The newest only if `last_only`. The caller frees
 * each text and the array. */
bool store_add_verdict(struct store *store, const char *id, uint64_t look, int64_t at_ms, const char *json,
                       struct error *err);
bool store_load_verdicts(struct store *store, const char *id, bool last_only, char ***texts, size_t *count,
                         struct error *err);

bool store_add_audit(struct store *store, const char *id, const struct audit_entry *entry, struct error *err);
bool store_load_audit(struct store *store, const char *id, struct audit_entry **entries, size_t *count,
                      struct error *err);

/*
 * Removes the looks, verdicts, balancer samples, weights and decisions of rollouts that ended longer ago than their
 * policy's `retention`. The rollout, its policy and its audit trail stay; a line "pruned" is added to the trail and
 * `pruned_ms` is set. Done in small transactions with pauses, so that a writer never waits long; after a failure or a
 * crash the next call goes on. Not inside a transaction. The room is used again by what is written next; the file does
 * not shrink.
 *
 * At least one such piece is done; none is begun when `budget_ms` is over, and another process that is writing is
 * waited for no longer than that (ERROR_BUSY). INT64_MAX: to the end.
 */
struct pruning {
    size_t finished; /* rollouts of which nothing is left to remove */
    bool more;       /* something is left for the next call */
};
bool store_prune(struct store *store, int64_t now_ms, int64_t budget_ms, struct pruning *done, struct error *err);

#endif
