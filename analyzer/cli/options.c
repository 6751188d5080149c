/* getopt_long does the work; this file adds that a command refuses what it would not use, and says which values fit. */
#include "analyzer/cli/cli.h"

#include "base/memory.h"

#include <ctype.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int has_value;
    unsigned group;
} known[] = {
    {"db", required_argument, OPTION_DB},
    {"format", required_argument, OPTION_FORMAT},
    {"set", required_argument, OPTION_SET},
    {"live", no_argument, OPTION_LIVE},
    {"wait", no_argument, OPTION_WAIT},
    {"reason", required_argument, OPTION_REASON},
    {"since", required_argument, OPTION_WINDOW},
    {"until", required_argument, OPTION_WINDOW},
    {"from", required_argument, OPTION_SPAN | OPTION_CALIBRATE},
    {"to", required_argument, OPTION_SPAN | OPTION_CALIBRATE},
    {"every", required_argument, OPTION_SPAN},
    {"evidence", required_argument, OPTION_EVIDENCE},
    {"evidence", no_argument, OPTION_AS_EVIDENCE},
    {"weight", required_argument, OPTION_WEIGHT},
    {"output", required_argument, OPTION_OUTPUT},
    {"color", required_argument, OPTION_LOG},
    {"log-format", required_argument, OPTION_LOG},
    {"rps", required_argument, OPTION_LEVELS | OPTION_SIMULATE},
    {"error-rate", required_argument, OPTION_LEVELS | OPTION_SIMULATE},
    {"latency", required_argument, OPTION_LEVELS},
    {"scenario", required_argument, OPTION_SIMULATE},
    {"runs", required_argument, OPTION_SIMULATE | OPTION_CALIBRATE},
    {"seed", required_argument, OPTION_SIMULATE | OPTION_CALIBRATE},
    {"canaries", required_argument, OPTION_CALIBRATE},
    {"step", required_argument, OPTION_SIMULATE},
    {"supersede", no_argument, OPTION_BEGIN},
    {"advise", no_argument, OPTION_BEGIN},
    {"resume", no_argument, OPTION_RESUME},
    {"once", no_argument, OPTION_GUARD},
    {"detach", no_argument, OPTION_GUARD},
    {"timeout", required_argument, OPTION_TIMEOUT},
};
enum { KNOWN = sizeof known / sizeof known[0] };

static bool parse_format(const char *value, enum format *format, struct error *err)
{
    static const struct {
        const char *name;
        enum format format;
    } formats[] = {{"text", FORMAT_TEXT_OUT}, {"json", FORMAT_JSON}, {"html", FORMAT_HTML}, {"md", FORMAT_MARKDOWN}};
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (strcmp(value, formats[i].name) == 0) {
            *format = formats[i].format;
            return true;
        }
    }
    return error_set(err, ERROR_USAGE, "--format %s is not known; use text or json (reports also html or md)", value);
}

static bool add_setting(const char *value, struct options *options, struct error *err)
{
    const char *equals = strchr(value, '=');
    if (!equals || equals == value)
        return error_set(err, ERROR_USAGE, "--set %s: give NAME=VALUE", value);
    options->settings = mem_resize(options->settings, options->setting_count + 1, sizeof *options->settings);
    options->settings[options->setting_count++] =
        (struct policy_setting){mem_strndup(value, (size_t)(equals - value)), mem_strdup(equals + 1)};
    return true;
}

static bool add_scenario(const char *value, struct options *options)
{
    size_t count = options->scenario_count + 1;
    options->scenarios = mem_resize(options->scenarios, count, sizeof *options->scenarios);
    options->scenarios[options->scenario_count++] = value;
    return true;
}

static bool parse_color(const char *value, enum color *color, struct error *err)
{
    static const char *const names[] = {"auto", "never", "always"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(value, names[i]) == 0) {
            *color = (enum color)i;
            return true;
        }
    }
    return error_set(err, ERROR_USAGE, "--color %s is not known; use never, always or auto", value);
}

static bool parse_log_format(const char *value, bool *json, struct error *err)
{
    *json = strcmp(value, "json") == 0;
    if (*json || strcmp(value, "text") == 0)
        return true;
    return error_set(err, ERROR_USAGE, "--log-format %s is not known; use text or json", value);
}

static bool take(const char *name, const char *value, struct options *options, struct error *err)
{
    struct {
        const char *name;
        const char **text;
    } texts[] = {{"db", &options->db},
                 {"reason", &options->reason},
                 {"since", &options->since},
                 {"until", &options->until},
                 {"from", &options->from},
                 {"to", &options->to},
                 {"every", &options->every},
                 {"output", &options->output},
                 {"rps", &options->rps},
                 {"error-rate", &options->error_rate},
                 {"latency", &options->latency},
                 {"runs", &options->runs},
                 {"seed", &options->seed},
                 {"step", &options->step},
                 {"canaries", &options->canaries},
                 {"timeout", &options->timeout}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(name, texts[i].name) == 0) {
            *texts[i].text = value;
            return true;
        }
    }
    if (strcmp(name, "scenario") == 0)
        return add_scenario(value, options);
    if (strcmp(name, "evidence") == 0) {
        options->evidence = value;
        options->as_evidence = !value;
        return true;
    }
    struct {
        const char *name;
        bool *flag;
    } flags[] = {{"live", &options->live},     {"wait", &options->wait},     {"supersede", &options->supersede},
                 {"advise", &options->advise}, {"resume", &options->resume}, {"once", &options->once},
                 {"detach", &options->detach}};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (strcmp(name, flags[i].name) == 0)
            return *flags[i].flag = true;
    if (strcmp(name, "format") == 0)
        return parse_format(value, &options->format, err);
    if (strcmp(name, "color") == 0)
        return parse_color(value, &options->color, err);
    if (strcmp(name, "log-format") == 0)
        return parse_log_format(value, &options->log_json, err);
    if (strcmp(name, "weight") == 0)
        return parse_share(value, &options->weight_bp, err);
    return add_setting(value, options, err);
}

/* No option is a number: `-5%` is a share, and a wrong one. */
static bool is_number(const char *text)
{
    return text[0] == '-' && strchr("0123456789.", text[1]) && text[1];
}

/* What getopt_long stumbled over: of letters that stand together only one. */
static const char *culprit(char **argv, char text[3])
{
    if (!isgraph(optopt))
        return argv[optind - 1];
    snprintf(text, 3, "-%c", optopt);
    return text;
}

static bool take_option(const struct command *command, int letter, const struct option *option, char **argv,
                        struct options *options, struct error *err)
{
    char text[3];
    if (letter == ':')
        return error_set(err, ERROR_USAGE, "%s needs a value; see `haldane help %s`", argv[optind - 1], command->name);
    if (letter == '?')
        return error_set(err, ERROR_USAGE, "`haldane %s` does not take %s; see `haldane help %s`", command->name,
                         culprit(argv, text), command->name);
    return take(letter == 'o' ? "output" : option->name, optarg, options, err);
}

/* A command's arguments and options may be mixed, as GNU's do: what is no option is put aside. */
static bool parse_all(const struct command *command, int argc, char **argv, struct options *options, struct error *err)
{
    struct option list[KNOWN + 1];
    int count = 0;
    for (size_t i = 0; i < KNOWN; i++)
        if (command->options & known[i].group)
            list[count++] = (struct option){known[i].name, known[i].has_value, NULL, 1};
    list[count] = (struct option){0};
    const char *letters = command->options & OPTION_OUTPUT ? "+:o:" : "+:";
    optind = 1;
    opterr = 0;
    options->arguments = mem_alloc((size_t)argc + 1, sizeof *options->arguments);
    while (optind < argc) {
        int index = 0, letter = is_number(argv[optind]) ? -1 : getopt_long(argc, argv, letters, list, &index);
        if (letter != -1) {
            if (!take_option(command, letter, &list[index], argv, options, err))
                return false;
            continue;
        }
        if (optind >= argc)
            break;
        bool rest = optind > 1 && strcmp(argv[optind - 1], "--") == 0;
        do
            options->arguments[options->argument_count++] = argv[optind++];
        while (rest && optind < argc);
    }
    return true;
}

/* The usage of a command ends where its first option begins: "Usage: haldane begin POLICY [--supersede]…". */
static bool too_few(const struct command *command, struct error *err)
{
    const char *usage = command->page + strlen("Usage: "), *line = strchr(usage, '\n');
    size_t length = line ? (size_t)(line - usage) : strlen(usage);
    for (size_t i = 0; i < length; i++)
        if (strncmp(usage + i, " [", 2) == 0 || strncmp(usage + i, " (", 2) == 0 || strncmp(usage + i, " --", 3) == 0)
            length = i;
    const char *what = usage + strlen("haldane ") + strlen(command->name) + 1;
    bool placeholder = isupper((unsigned char)*what);
    return error_set(err, ERROR_USAGE, "%s%s%.*s%swrite `%.*s`; `haldane help %s` says more",
                     placeholder ? "name " : "", placeholder ? strchr("AEIOU", *what) ? "an " : "a " : "",
                     placeholder ? (int)(usage + length - what) : 0, what, placeholder ? ": " : "", (int)length, usage,
                     command->name);
}

bool options_parse(const struct command *command, int argc, char **argv, struct options *options, struct error *err)
{
    *options = (struct options){.weight_bp = -1};
    if (!parse_all(command, argc, argv, options, err))
        return false;
    if (options->argument_count < command->min_arguments)
        return too_few(command, err);
    if (options->argument_count > command->max_arguments)
        return error_set(err, ERROR_USAGE, "`haldane %s` does not know what to do with `%s`; see `haldane help %s`",
                         command->name, options->arguments[command->max_arguments], command->name);
    return true;
}

void options_free(struct options *options)
{
    for (size_t s = 0; s < options->setting_count; s++) {
        free(options->settings[s].name);
        free(options->settings[s].value);
    }
    free(options->settings);
    free(options->scenarios);
    free(options->arguments);
}
