/*
 * The command line: one file per command, one table in main.c. What is shared by the commands is here. Answers go to
 * stdout, everything else to stderr; exit codes are those of base/error.h and 0, 10, 20 for verdicts.
 */
#ifndef HALDANE_CLI_CLI_H
#define HALDANE_CLI_CLI_H

#include "analyzer/engine/engine.h"
#include "base/error.h"
#include "policies/load.h"

enum { EXIT_PROMOTE = 0, EXIT_HOLD = 10, EXIT_ABORT = 20 };

enum format { FORMAT_DEFAULT, FORMAT_TEXT_OUT, FORMAT_JSON, FORMAT_HTML, FORMAT_MARKDOWN };

/* What a command may be given; a command names the ones it takes. */
enum option_group {
    OPTION_DB = 1 << 0,
    OPTION_FORMAT = 1 << 1,
    OPTION_SET = 1 << 2,
    OPTION_LIVE = 1 << 3,
    OPTION_WAIT = 1 << 4,
    OPTION_REASON = 1 << 5,
    OPTION_WINDOW = 1 << 6,   /* --since, --until */
    OPTION_SPAN = 1 << 7,     /* --from, --to, --every */
    OPTION_EVIDENCE = 1 << 8, /* --evidence FILE */
    OPTION_WEIGHT = 1 << 9,
    OPTION_OUTPUT = 1 << 10,      /* -o, --output FILE */
    OPTION_AS_EVIDENCE = 1 << 11, /* --evidence without a value: report's */
    OPTION_LOG = 1 << 12,         /* --color, --log-format */
    OPTION_LEVELS = 1 << 13,      /* --rps, --error-rate, --latency */
    OPTION_SIMULATE = 1 << 14,    /* --scenario, --runs, --seed, --step, --rps, --error-rate */
    OPTION_CALIBRATE = 1 << 15,   /* --from, --to, --canaries, --runs, --seed */
    OPTION_BEGIN = 1 << 16,       /* --supersede, --advise */
    OPTION_RESUME = 1 << 17,      /* --resume */
    OPTION_GUARD = 1 << 18,       /* --once, --detach */
    OPTION_TIMEOUT = 1 << 19,
};

enum color { COLOR_AUTO, COLOR_NEVER, COLOR_ALWAYS };

struct options {
    const char *db;
    enum format format;
    bool live, wait, as_evidence, log_json;
    bool supersede, advise, resume, once, detach;
    enum color color;
    const char *reason, *evidence, *output;
    const char *since, *until, *from, *to, *every;
    const char *rps, *error_rate, *latency;
    const char *runs, *seed, *step, *canaries;
    const char *timeout;
    const char **scenarios; /* borrowed from argv; the array is owned */
    size_t scenario_count;
    int32_t weight_bp; /* -1: not given */
    struct policy_setting *settings;
    size_t setting_count;
    char **arguments; /* what is left, borrowed from argv */
    int argument_count;
};

struct command {
    const char *name, *summary;
    const char *page; /* what `haldane help NAME` prints */
    unsigned options;
    int min_arguments, max_arguments;
    int (*run)(const struct options *options);
};

extern const struct command command_check, command_plan, command_simulate, command_judge, command_begin,
    command_advance, command_rollout, command_guard, command_status, command_list, command_promote, command_hold,
    command_resume, command_abort, command_report, command_replay, command_calibrate, command_traffic;

/* options.c: fills `options` from what follows the command's name; false with ERROR_USAGE. */
bool options_parse(const struct command *command, int argc, char **argv, struct options *options, struct error *err);
void options_free(struct options *options);

/* common.c */
int fail(const struct error *err); /* prints `haldane: text` on stderr and returns the exit code */
int64_t wall_clock_ms(void);
const char *user_name(void);
struct policy *load_policy(const struct options *options, const char *path, struct error *err);
char *store_path(const struct options *options); /* absolute, unless no directory is known; the caller frees it */
struct store *open_store(const struct options *options, struct error *err);
/* The same, but creates nothing: ERROR_NO_INPUT if there is no such file yet. */
struct store *open_store_to_read(const struct options *options, struct error *err);
/* The id of the rollout that `text` names: itself, or the rollout under way of the service of this name. The caller
 * frees it. */
char *rollout_id(struct store *store, const char *text, struct error *err);
/* For who only reads: if none of the service is under way, its last one. */
char *rollout_id_or_last(struct store *store, const char *text, struct error *err);
char *read_file(const char *path, size_t *length, struct error *err);         /* "-": standard input; at most 256 MiB */
bool write_output(const char *path, const char *text, struct error *err);     /* NULL or "-": stdout; else by rename */
bool parse_share(const char *text, int32_t *basis_points, struct error *err); /* 5%, 0%: as in a policy, or none */
void pause_for(int64_t ms); /* or until a signal; at least 50 ms, so that nothing spins */
int exit_of_decision(enum decision decision);
int exit_of_state(enum rollout_state state);

/* common.c: the engine of the rollout that the first argument names; NULL with `err`. Another process that has the
 * rollout is waited for; 0: as engine_open() waits. */
struct engine *open_engine(const struct options *options, struct store *store, int64_t patience_ms, struct error *err);

/* begin.c: what begins a rollout, and has it guarded */
struct engine_setup setup_to_begin(const struct options *options, struct store *store);

/* plan.c: the traffic that there is */
bool parse_rps(const char *text, double *rps, struct error *err);
bool parse_rate(const char *text, double *rate, struct error *err); /* 0.5%, 0.005 */

/* draws.c: what the commands that draw at random share */
typedef void show_progress(uint64_t done, uint64_t all, void *context);
bool parse_whole(const char *text, uint64_t least, uint64_t most, uint64_t *value);
bool parse_draws(const struct options *options, uint64_t *runs, uint64_t *seed, struct error *err); /* or defaults */
show_progress *progress_bar(void); /* its context is an int that is -1; NULL where nobody watches */
unsigned processors(void);

/* show.c: rollouts and verdicts for people and for programs */
void show_rollout(const struct options *options, struct store *store, const struct rollout *rollout,
                  const struct policy *policy, const struct verdict *verdict, int64_t next_look_ms);
/* Shows where the rollout stands (engine NULL: nowhere), closes both, and returns the state's exit code or the error's.
 */
int conclude(const struct options *options, struct engine *engine, struct store *store, bool ok,
             const struct error *err);
void show_verdict(const struct options *options, const struct verdict *verdict);

/* window.c: evidence from a file or from Prometheus, folded */
struct window {
    struct policy *policy;
    struct evidence *evidence;
    int64_t start_ms; /* looks that end before it only calibrate */
};
bool window_open(const struct options *options, struct window *window, struct error *err);
void window_close(struct window *window);
/* Folds the window; `each` (may be NULL) sees every verdict. Returns the last one; the caller frees it. */
struct verdict *window_fold(const struct window *window, void (*each)(const struct verdict *, void *), void *context);

/* live.c: a rollout as it goes on */
struct live;
struct live *live_new(const struct options *options);
void live_update(struct live *live, const struct engine *engine, const struct error *trouble);
void live_free(struct live *live);

#endif
