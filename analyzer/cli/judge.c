/* haldane judge: a verdict on a window of the past; nothing is moved. */
#include "analyzer/cli/cli.h"

static int run(const struct options *options)
{
    struct window window;
    struct error err = {0};
    if (!window_open(options, &window, &err))
        return fail(&err);
    struct verdict *verdict = window_fold(&window, NULL, NULL);
    show_verdict(options, verdict);
    int code = exit_of_decision(verdict->decision);
    verdict_free(verdict);
    window_close(&window);
    return code;
}

const struct command command_judge = {
    .name = "judge",
    .summary = "a verdict on a window of the past; moves nothing",
    .page = "Usage: haldane judge POLICY (--since T [--until T] | --evidence FILE) [--weight P]\n"
            "                     [--format text|json] [--set NAME=VALUE…]\n\n"
            "Folds the looks of a window, from Prometheus or from an evidence file (- is standard input),\n"
            "and prints the verdict. Harm that was shown on the way is final.\n"
            "  --since T, --until T  RFC 3339, Unix seconds, or a duration back from now (15m)\n"
            "  --weight P            the canary's share in the window, such as 5%; without it the step of the\n"
            "                        policy that is nearest to the share of requests that was seen\n\n"
            "Exit codes: 0 promote, 10 hold, 20 abort.\n",
    .options = OPTION_WINDOW | OPTION_EVIDENCE | OPTION_WEIGHT | OPTION_FORMAT | OPTION_SET,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
