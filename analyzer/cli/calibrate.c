/* haldane calibrate: how often a policy would abort a rollout in which nothing is wrong. */
#include "analyzer/cli/cli.h"

#include "analyzer/report/calibration.h"
#include "analyzer/trials/calibrate.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST_CANARIES = 10000 };

static bool parse_canaries(const struct options *options, unsigned *canaries, struct error *err)
{
    uint64_t count = 0;
    if (options->canaries && !parse_whole(options->canaries, 1, MOST_CANARIES, &count))
        return error_set(err, ERROR_USAGE, "--canaries %s: give a whole number of instances from 1 on",
                         options->canaries);
    *canaries = (unsigned)count;
    return true;
}

static void show(const struct options *options, const struct calibration *calibration)
{
    char *text = options->format == FORMAT_JSON ? calibration_to_json(calibration) : calibration_text(calibration);
    fputs(text, stdout);
    if (options->format == FORMAT_JSON)
        putchar('\n');
    free(text);
}

static struct calibration *work(const struct options *options, const struct window *window, struct error *err)
{
    int shown = -1;
    struct calibrate_setup setup = {.policy = window->policy,
                                    .evidence = window->evidence,
                                    .threads = processors(),
                                    .progress = progress_bar(),
                                    .context = &shown};
    if (!parse_draws(options, &setup.runs, &setup.seed, err) || !parse_canaries(options, &setup.canaries, err))
        return NULL;
    return calibrate(&setup, err);
}

static int run(const struct options *options)
{
    struct window window;
    struct error err = {0};
    if (options->format == FORMAT_HTML || options->format == FORMAT_MARKDOWN) {
        error_set(&err, ERROR_USAGE, "`haldane calibrate` writes text or json; use --format with one of them");
        return fail(&err);
    }
    if (!window_open(options, &window, &err))
        return fail(&err);
    struct calibration *calibration = work(options, &window, &err);
    window_close(&window);
    if (!calibration)
        return fail(&err);
    show(options, calibration);
    int code = calibration_policy_keeps(calibration) ? EXIT_PROMOTE : EXIT_HOLD;
    calibration_free(calibration);
    return code;
}

const struct command command_calibrate = {
    .name = "calibrate",
    .summary = "how often a policy would abort although nothing is wrong, from stable's history",
    .page = "Usage: haldane calibrate POLICY (--from T --to T | --evidence FILE) [--canaries N] [--runs N]\n"
            "                         [--seed N] [--format text|json] [--set NAME=VALUE…]\n\n"
            "Divides the history of stable's own instances at random into a canary and a stable, many times, and\n"
            "runs the policy's judge over them: every abort is a false one. Says which look and margins would\n"
            "keep the rate within false_abort. Moves nothing.\n"
            "  --from T, --to T    RFC 3339, Unix seconds, or a duration back from now (1d)\n"
            "  --evidence FILE     evidence instead of Prometheus; - is standard input\n"
            "  --canaries N        instances that play the canary; default: the policy's canary servers\n"
            "  --runs N            draws for each look and margin; default: 1000\n"
            "  --seed N            the same seed gives the same answer; default: 1\n"
            "  --format text|json  default: text\n"
            "  --set NAME=VALUE    what ${NAME} in the policy becomes; else the environment's\n\n"
            "Exit codes: 0 the policy keeps within false_abort, 10 it does not, 64 usage, 65 invalid policy or\n"
            "too little history, 66 unreadable file, 69 Prometheus out of reach.\n",
    .options = OPTION_CALIBRATE | OPTION_EVIDENCE | OPTION_FORMAT | OPTION_SET,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
