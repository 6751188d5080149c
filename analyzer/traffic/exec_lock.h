/*
 * One `set` of an exec program at a time, and none that outlives the haldane that began it unseen. The lock is a file
 * for each command, and the program inherits it: as long as it, or anything it has started, can still move traffic, the
 * lock is held, also when haldane was killed in the middle. Whoever comes next waits, and then ends what is left.
 */
#ifndef HALDANE_TRAFFIC_EXEC_LOCK_H
#define HALDANE_TRAFFIC_EXEC_LOCK_H

#include "analyzer/traffic/driver.h"
#include "analyzer/traffic/process.h"

#include <stdint.h>
#include <sys/types.h>

enum {
    EXEC_LOCK_LONGEST_MS = 12000, /* an operation's deadline and PROCESS_GRACE_MS: nobody may hold the lock longer */
    EXEC_LOCK_STABLE_MS = 2000,   /* what an order for stable waits for one that gives the canary a share */
    EXEC_LOCK_KILLED_MS = 2000,   /* until what was killed has let go */
    EXEC_LOCK_MOST_MS = 2 * EXEC_LOCK_LONGEST_MS,
};

struct exec_lock {
    int fd;
    char *path; /* owned */
    uint32_t share_bp;
    pid_t group; /* of the program that holds it, too; 0: none was started */
};

/*
 * The file's path, which the caller frees: FOLDER/haldane-exec-HASH. FOLDER is /run/lock if that is a folder we may
 * write to, else $TMPDIR or /tmp. HASH is FNV-1a (64 bits, 16 hex digits; Source: Fowler, Noll, Vo; draft-eastlake-fnv)
 * over the words, each with its NUL; a program that is named relative to the working folder has that folder before it.
 */
char *exec_lock_path(char *const *words);

/*
 * Takes the lock to run `words` for a share of `share_bp`. Blocks for at most EXEC_LOCK_MOST_MS.
 *
 * A holder is waited for until it has had EXEC_LOCK_LONGEST_MS; an order for stable waits EXEC_LOCK_STABLE_MS for one
 * that is not. Then each process group is sent SIGKILL that has a process with the lock as PROCESS_HELD_FD, but no
 * group that has made itself a session of its own: that is a daemon, perhaps the balancer.
 *
 * DRIVER_OK: `lock` is held, and the caller gives it back with exec_lock_release().
 * DRIVER_TIMEOUT: somebody still has it; `err` says who, and what to do.
 * DRIVER_REFUSED: the file cannot be made, or is none of haldane's: a symbolic link, a folder, with another name.
 */
enum driver_status exec_lock_take(char *const *words, uint32_t share_bp, struct exec_lock *lock, struct error *err);

/* How the program is to inherit it. Borrows `lock`. */
struct process_hold exec_lock_hold(struct exec_lock *lock);

/*
 * `ended`: the program ended by itself, and what it left in the background is no matter of ours: the lock is free, and
 * the file is gone. Else it stays held by whoever has inherited it and is still there; by nobody if none was started.
 */
void exec_lock_release(struct exec_lock *lock, bool ended);

#endif
