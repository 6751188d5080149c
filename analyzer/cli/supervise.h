/* What keeps watch over a process of ours: a guard that it starts, and systemd if it runs under it. */
#ifndef HALDANE_CLI_SUPERVISE_H
#define HALDANE_CLI_SUPERVISE_H

#include "base/error.h"

/*
 * Starts `haldane guard ID --detach` on the store that supervise_store() named, and returns when it watches, or when
 * the store has a guard of all rollouts already. An engine_setup.attend.
 */
bool attend_rollout(const char *rollout_id, struct error *err);

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
