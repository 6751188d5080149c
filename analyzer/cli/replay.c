/* haldane replay: what the policy would have decided over history, look by look. */
#include "analyzer/cli/cli.h"

#include "analyzer/model/format.h"

#include <stdio.h>
#include <stdlib.h>

static void print_line(const struct verdict *verdict, void *context)
{
    const struct options *options = context;
    if (options->format == FORMAT_JSON) {
        show_verdict(options, verdict);
        return;
    }
    char time[FORMAT_TEXT], weight[FORMAT_TEXT];
    printf("%s  look %-4llu %-7s %-7s %s\n", format_time(verdict->at_ms, time), (unsigned long long)verdict->look,
           format_weight(verdict->weight_bp, weight), decision_names[verdict->decision], verdict->reason);
}

static int run(const struct options *options)
{
    struct window window;
    struct error err = {0};
    if (!window_open(options, &window, &err))
        return fail(&err);
    struct options copy = *options;
    struct verdict *verdict = window_fold(&window, print_line, &copy);
    int code = exit_of_decision(verdict->decision);
    verdict_free(verdict);
    window_close(&window);
    return code;
}

const struct command command_replay = {
    .name = "replay",
    .summary = "what the policy would have decided over history, look by look",
    .page = "Usage: haldane replay POLICY (--from T --to T | --evidence FILE) [--every D] [--weight P]\n"
            "                      [--format text|json] [--set NAME=VALUE…]\n\n"
            "One line a look; with --format json one verdict a line (JSON Lines). Ends at the first abort.\n"
            "  --from T, --to T  RFC 3339, Unix seconds, or a duration back from now (1h)\n"
            "  --every D         looks of this length instead of the policy's\n"
            "  --weight P        the canary's share in the window, such as 5%\n\n"
            "Exit codes: 0 promote, 10 hold, 20 abort, as the last verdict.\n",
    .options = OPTION_SPAN | OPTION_EVIDENCE | OPTION_WEIGHT | OPTION_FORMAT | OPTION_SET,
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
