/*
 * The load generator's parts: options (options.c), the sending loop (engine.c), the counting (tally.c) and what is
 * written at the end (summary.c).
 *
 * Words: a request is *due* when the schedule says so; *sent* once curl has it; *answered* with a complete HTTP answer
 * of whatever status; *failed* without one. Due = answered + failed, always.
 */
#ifndef HALDANE_COMPOSE_LOAD_LOAD_H
#define HALDANE_COMPOSE_LOAD_LOAD_H

#include "base/error.h"
#include "base/strbuf.h"

#include <gsl/gsl_histogram.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- options.c --- */

enum { BASE_URL_LENGTH = 512, PATH_LENGTH = 1024 };

struct text_list {
    char **items; /* owned */
    size_t count;
    size_t room;
};

struct load_options {
    char *url; /* scheme, host and port, no slash at the end */
    double rate;
    int64_t duration_ms; /* 0: until a signal */
    int64_t timeout_ms;  /* from the time a request was due */
    uint64_t connections_max;
    double short_share;
    double post_share;
    bool poisson;
    struct text_list get_paths;
    struct text_list post_paths;
    struct text_list headers;
    const char *track_header;
    const char *json; /* a file, "-", or NULL: a summary for people */
    uint64_t seed;
    bool progress;
    bool fail_on_loss;
};

/* `help` is set if --help was given; the other options are then not checked. */
bool options_read(int argc, char **argv, struct load_options *options, bool *help, struct error *err);
void options_free(struct load_options *options);
extern const char options_usage[];

/* --- tally.c --- */

enum load_method { LOAD_GET, LOAD_POST, LOAD_METHODS };

enum failure {
    FAIL_CONNECT, /* no connection: nothing was sent */
    FAIL_RESET,   /* the connection broke while sending or within the answer */
    FAIL_EMPTY,   /* the connection was closed before the first byte of an answer */
    FAIL_TIMEOUT,
    FAIL_UNSENT, /* timed out while it waited for one of --connections-max */
    FAIL_OTHER,
    FAILURES
};

extern const char *const failure_names[FAILURES];

/* Durations in milliseconds; quantiles are within 0.5 % (and above the truth), the maximum is exact. */
struct spread {
    gsl_histogram *histogram;
    uint64_t count;
    double max;
};

void spread_add(struct spread *spread, double ms);
double spread_quantile(const struct spread *spread, double q); /* 0 if nothing was added */

enum { STATUS_LIMIT = 600, GROUP_NAME = 64, GROUPS_MAX = 32 };

struct group {
    char name[GROUP_NAME];
    uint64_t answered;
    uint64_t status[STATUS_LIMIT];
    struct spread latency;
};

struct group_set {
    struct group *groups; /* the last of GROUPS_MAX is "(others)" */
    size_t count;
};

struct tally {
    uint64_t due;
    uint64_t sent;
    uint64_t failed;
    uint64_t failures[FAILURES];
    uint64_t resends_prevented;
    uint64_t connections_opened;
    uint64_t in_flight;
    uint64_t in_flight_max;
    uint64_t method_due[LOAD_METHODS];
    uint64_t method_answered[LOAD_METHODS];
    uint64_t queued;
    uint64_t queue_max;
    struct group all;
    struct group_set tracks;
    struct group_set versions;
    struct spread lateness; /* of the generator: from due until the loop took the request up */
    struct spread queueing; /* of those that had to wait for a connection */
    double sending_s;       /* how long requests were made due */
    double elapsed_s;       /* with the wait for the last answers */
    bool interrupted;
};

/* `track` and `version` may be NULL: the answer did not say. */
void tally_answer(struct tally *tally, enum load_method method, long status, const char *track, const char *version,
                  double ms);
void tally_failure(struct tally *tally, enum failure kind);
void tally_free(struct tally *tally);

/* --- engine.c --- */

bool load_run(const struct load_options *options, struct tally *tally, struct error *err);

/* --- summary.c --- */

char *summary_json(const struct load_options *options, const struct tally *tally); /* owned by the caller */
void summary_text(const struct tally *tally, struct strbuf *out);

#endif
