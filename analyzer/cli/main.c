/* The table of commands, in the order in which a rollout needs them. */
#include "analyzer/cli/cli.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <gsl/gsl_errno.h>
#include <gsl/gsl_version.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

static const struct command *const commands[] = {
    &command_check,   &command_plan,  &command_simulate, &command_judge,  &command_begin,     &command_advance,
    &command_rollout, &command_guard, &command_status,   &command_list,   &command_promote,   &command_hold,
    &command_resume,  &command_abort, &command_report,   &command_replay, &command_calibrate, &command_traffic,
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static int print_commands(FILE *out)
{
    fputs("haldane watches a canary: it compares it with stable and steps traffic up, or back.\n\n"
          "Usage: haldane COMMAND [ARGUMENT…] [--OPTION…]\n\nCommands, in the order of a rollout:\n",
          out);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
    fputs("\n`haldane help COMMAND` says more. Exit codes: 0 promoted or done, 10 hold, 20 aborted,\n"
          "64 usage, 65 invalid input, 66 unreadable input, 69 Prometheus or balancer out of reach, 70 fault,\n"
          "74 store not writable, 75 busy, 77 not allowed.\n",
          out);
    return 0;
}

static int print_version(void)
{
    printf("haldane %s\nGSL %s, libcurl %s, cJSON %s, libyaml %s, SQLite %s\n", HALDANE_VERSION, gsl_version,
           curl_version_info(CURLVERSION_NOW)->version, cJSON_Version(), yaml_get_version_string(),
           sqlite3_libversion());
    return 0;
}

static int unknown(const char *name)
{
    struct error err = {0};
    if (*name == '-')
        error_set(&err, ERROR_USAGE, "`%s` stands before the command; options come after it: haldane COMMAND %s …",
                  name, name);
    else
        error_set(&err, ERROR_USAGE, "there is no command `%s`; `haldane --help` lists them", name);
    return fail(&err);
}

static int run(const struct command *command, int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(command->page, stdout);
            return 0;
        }
    }
    struct options options;
    struct error err = {0};
    int code = options_parse(command, argc, argv, &options, &err) ? command->run(&options) : fail(&err);
    options_free(&options);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        error_set(&err, ERROR_IO, "the answer could not be written to standard output");
        return fail(&err);
    }
    return code;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is a failure to tell, not a way to die */
    gsl_set_error_handler_off();
    curl_global_init(CURL_GLOBAL_DEFAULT);
    if (argc < 2) {
        print_commands(stderr);
        return ERROR_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0)
        return print_version();
    bool help = strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0;
    if (help && argc < 3)
        return print_commands(stdout);
    const struct command *command = find(help ? argv[2] : name);
    if (!command)
        return unknown(help ? argv[2] : name);
    if (help)
        return fputs(command->page, stdout) < 0;
    return run(command, argc - 1, argv + 1);
}
