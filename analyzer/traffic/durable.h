/*
 * Files that must be there after the power has failed, and that only one writer at a time may change. For the drivers
 * whose balancer keeps its share in files.
 */
#ifndef HALDANE_TRAFFIC_DURABLE_H
#define HALDANE_TRAFFIC_DURABLE_H

#include "analyzer/traffic/driver.h"

#include <stdint.h>

/*
 * Takes the lock on the file `path`, which is made if it is not there and stays. `*fd` holds it until it is closed; the
 * kernel takes it from a process that dies. DRIVER_TIMEOUT if somebody else still has it at `deadline_ms` of
 * driver_clock_ms(), DRIVER_REFUSED if the file cannot be made or opened.
 */
enum driver_status durable_lock(const char *path, int64_t deadline_ms, int *fd, struct error *err);

/*
 * Puts `text` in place of the file `path`, or makes it: whoever reads it sees the old text or the new one, also after a
 * crash. Mode and, if we may, owner stay what they were (0644 for a new one). A symbolic link is followed. Callers hold
 * a lock: the new text is first written to a file whose name is `path`'s with a dot before and ".new" after.
 * DRIVER_REFUSED if the system does not allow it or has no room; the old text is there then.
 */
enum driver_status durable_write(const char *path, const char *text, struct error *err);

/*
 * Writes `text` into the file that is there, with newlines after it up to the old length: needs no new file and, for a
 * text that is not longer, no room. For when durable_write() failed and the old text must not stay. A crash in the
 * middle can leave a mixture of both.
 */
enum driver_status durable_overwrite(const char *path, const char *text, struct error *err);

/* The same for taking it away. It is no failure that it is not there. */
enum driver_status durable_remove(const char *path, struct error *err);

/* Makes the names in a folder durable that were added, renamed or removed. */
enum driver_status durable_names(const char *folder, struct error *err);

/* The whole file, which the caller frees; NULL if there is none. DRIVER_REFUSED if it cannot be read or is > 1 MiB. */
enum driver_status durable_read(const char *path, char **text, struct error *err);

/* FOLDER/.NAMEsuffix for FOLDER/NAME; the caller frees it. A leading dot keeps it out of patterns such as conf.d/x*. */
char *durable_beside(const char *path, const char *suffix);

#endif
