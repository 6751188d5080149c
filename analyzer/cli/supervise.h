/* What keeps watch over a process of ours: a guard that it starts, and systemd if it runs under it. */
#ifndef HALDANE_CLI_SUPERVISE_H
#define HALDANE_CLI_SUPERVISE_H

#include "base/error.h"

#include <stdint.h>
#include <sys/types.h>

/*
 * Starts `haldane guard ID --detach` on the store that supervise_store() named, and returns when it watches. An
 * engine_setup.attend.
 */
bool attend_rollout(const char *rollout_id, struct error *err);

/*
 * Starts `haldane guard ID` on that store, to go back to stable at once unless the rollout has another lease than the
 * one that ends at `over_ms`. It has a session of its own, and writes to this process's stderr. With `once` it tries
 * once, else until the rollout has ended. Its pid, to be waited for; 0 with `err`.
 */
pid_t return_rollout(const char *rollout_id, int64_t over_ms, bool once, struct error *err);

/* In a process that return_rollout() started: its `over_ms`; else 0. */
int64_t returned_lease_ms(void);

/* `path` is that of a store that is open. */
void supervise_store(const char *path);

/*
 * Leaves the terminal, the parent and its descriptors, to live on alone. Returns in the process that lives on, with the
 * descriptor that detach_ready() takes; in the other one it waits for that and exits with the code given there.
 */
int detach(void);
void detach_ready(int fd, int exit_code);

/* Tells systemd, if it started us with Type=notify: "READY=1", "WATCHDOG=1", "STATUS=…". Source: sd_notify(3). */
void supervisor_tell(const char *state);

#endif
