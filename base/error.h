/*
 * Errors are values. A function that can fail takes a `struct error *` and returns false (or NULL); the caller
 * decides who is told. Nothing below the command line prints.
 *
 * The code is the class of the failure and at the same time the exit code of the program (docs/exit-codes.md):
 * a failure never looks like a verdict (0, 10, 20), and a verdict never like a failure.
 */
#ifndef HALDANE_BASE_ERROR_H
#define HALDANE_BASE_ERROR_H

#include <stdbool.h>

enum error_code {
    ERROR_NONE = 0,
    ERROR_USAGE = 64,       /* wrong usage of a command */
    ERROR_DATA = 65,        /* the policy or another input is invalid */
    ERROR_NO_INPUT = 66,    /* an input file cannot be read */
    ERROR_UNAVAILABLE = 69, /* Prometheus, the load balancer or the service cannot be reached */
    ERROR_SOFTWARE = 70,    /* a fault of haldane's own */
    ERROR_IO = 74,          /* the store or another output cannot be written */
    ERROR_BUSY = 75,        /* not now: somebody else holds it */
    ERROR_DENIED = 77,      /* not allowed */
};

struct error {
    enum error_code code;
    char text[1024]; /* what, where and the mend; one line, no newline at the end */
};

/*
 * Sets code and text (printf style; cut at the size of the text, never overrun) and returns false, so that a failing
 * function can say `return error_set(err, ERROR_DATA, "...")`. `err` may be NULL: then only false is returned.
 */
bool error_set(struct error *err, enum error_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts `prefix: ` (printf style) before the text that is there. Keeps the code. */
void error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
