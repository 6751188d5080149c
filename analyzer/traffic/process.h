/*
 * One command, run to its end: a program and its arguments, without a shell. For the drivers that move traffic by
 * running something: exec, and nginx's test and reload.
 */
#ifndef HALDANE_TRAFFIC_PROCESS_H
#define HALDANE_TRAFFIC_PROCESS_H

#include "analyzer/traffic/driver.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    PROCESS_OUTPUT_MAX = 64 << 10, /* bytes of standard output */
    PROCESS_ERRORS_MAX = 4 << 10,  /* bytes of standard error that are kept: the last ones */
    PROCESS_GRACE_MS = 2000,       /* between SIGTERM and SIGKILL */
    PROCESS_LINE = 240,
    PROCESS_HELD_FD = 3, /* where the program finds what it is to hold */
};

struct process_result {
    int exit_code; /* 0 to 255; 128 + N if signal N ended it */
    char *output;  /* owned; all of its standard output, and a NUL; never NULL after process_run() */
    size_t output_length;
    char errors[PROCESS_ERRORS_MAX + 1]; /* the end of its standard error, and a NUL */
};

/*
 * Runs `words[0]` (looked for in PATH if it has no slash) with the arguments `words`, which end with NULL. It gets our
 * environment with `extra_env` over it ("NAME=value", ends with NULL; NULL: nothing), `input` as its standard input
 * (NULL: empty) and no other open file of ours, and is a process group of its own, so that a Ctrl-C for haldane does
 * not break it off in the middle.
 *
 * DRIVER_OK: it ended by itself, whatever its exit code. What it leaves in the background goes on and is not waited
 * for.
 * DRIVER_REFUSED: it is not there or not executable, or wrote more than PROCESS_OUTPUT_MAX and was ended.
 * DRIVER_TIMEOUT: it had not ended at `deadline_ms` of driver_clock_ms(). Its group has got SIGTERM then, and SIGKILL
 * when it ended or PROCESS_GRACE_MS later: so long after the deadline this returns at the latest.
 * DRIVER_UNREACHABLE: the system has no room for a process.
 *
 * `result` holds what there was of output and errors in each case. The caller frees it with process_result_free(), also
 * on failure.
 */
enum driver_status process_run(char *const *words, const char *const *extra_env, const char *input, int64_t deadline_ms,
                               struct process_result *result, struct error *err);

/* An open file of ours, such as a lock, that the program is to hold as long as it or anything it has started lives. */
struct process_hold {
    int fd;                                   /* above 2 */
    void (*started)(void *self, pid_t group); /* called once the program runs, with its process group */
    void *self;
};

/* The same, with one open file more: `hold` as PROCESS_HELD_FD (NULL: none). It stays the caller's, who closes it. */
enum driver_status process_run_holding(char *const *words, const char *const *extra_env, const char *input,
                                       int64_t deadline_ms, const struct process_hold *hold,
                                       struct process_result *result, struct error *err);

void process_result_free(struct process_result *result);

/* The last line of standard error that is not blank, cut and printable, for an error's text; "" if there is none. */
const char *process_last_line(const struct process_result *result, char line[PROCESS_LINE]);

#endif
