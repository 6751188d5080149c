/* The load generator's command line. */
#include "base/memory.h"
#include "compose/args.h"
#include "compose/load/load.h"

#include <curl/curl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

const char options_usage[] =
    "usage: haldane-demo-load --url URL --rate N [options]\n"
    "\n"
    "Sends HTTP requests at a given rate, whatever the answers do. Latency counts from the time a request was due, so\n"
    "a server that stalls is charged for all whom it kept waiting. Nothing is ever sent twice.\n"
    "\n"
    "  --url URL               scheme, host and port, as http://127.0.0.1:8080\n"
    "  --rate N                requests a second\n"
    "  --duration D            how long (default: until SIGINT or SIGTERM)\n"
    "  --arrivals KIND         uniform: evenly spaced (default); poisson: at random\n"
    "  --connections-max N     most connections at once; a request beyond waits, and its waiting counts (default 512)\n"
    "  --short-share P%        share of requests that use a connection of their own (default 10%)\n"
    "  --post-share P%         share of requests that are POST (default 30%)\n"
    "  --path PATH             what GET asks for; may be repeated (default / /items /items/7)\n"
    "  --post-path PATH        where POST goes; may be repeated (default /cart /order)\n"
    "  --header 'NAME: VALUE'  sent with every request; may be repeated\n"
    "  --timeout D             patience, from the time a request was due (default 5s)\n"
    "  --track-header NAME     the answer's header to count by (default X-LB-Track); X-Version is always counted\n"
    "  --seed N                the same requests in every run (default: random)\n"
    "  --json FILE             the result as JSON; - is standard output\n"
    "  --progress              a line a second on stderr\n"
    "  --fail-on-loss          exit 1 if any request got no HTTP answer\n"
    "  --help                  this text\n"
    "\n"
    "Durations are written as 500ms, 2s, 1m30s; a bare number is seconds. SIGINT and SIGTERM end the sending; the\n"
    "answers under way are awaited, and the result is written. Exit codes: 0 the run worked, whatever was answered;\n"
    "1 something was lost (--fail-on-loss); 64 wrong usage; 70 its own fault; 74 the result cannot be written.\n";

enum flag {
    OPT_URL = 1,
    OPT_RATE,
    OPT_DURATION,
    OPT_ARRIVALS,
    OPT_CONNECTIONS_MAX,
    OPT_SHORT_SHARE,
    OPT_POST_SHARE,
    OPT_PATH,
    OPT_POST_PATH,
    OPT_HEADER,
    OPT_TIMEOUT,
    OPT_TRACK_HEADER,
    OPT_SEED,
    OPT_JSON,
    OPT_PROGRESS,
    OPT_FAIL_ON_LOSS,
    OPT_HELP
};

static const struct option long_options[] = {
    {"url", required_argument, NULL, OPT_URL},
    {"rate", required_argument, NULL, OPT_RATE},
    {"duration", required_argument, NULL, OPT_DURATION},
    {"arrivals", required_argument, NULL, OPT_ARRIVALS},
    {"connections-max", required_argument, NULL, OPT_CONNECTIONS_MAX},
    {"short-share", required_argument, NULL, OPT_SHORT_SHARE},
    {"post-share", required_argument, NULL, OPT_POST_SHARE},
    {"path", required_argument, NULL, OPT_PATH},
    {"post-path", required_argument, NULL, OPT_POST_PATH},
    {"header", required_argument, NULL, OPT_HEADER},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"track-header", required_argument, NULL, OPT_TRACK_HEADER},
    {"seed", required_argument, NULL, OPT_SEED},
    {"json", required_argument, NULL, OPT_JSON},
    {"progress", no_argument, NULL, OPT_PROGRESS},
    {"fail-on-loss", no_argument, NULL, OPT_FAIL_ON_LOSS},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static void list_add(struct text_list *list, const char *text)
{
    list->items = mem_grow(list->items, list->count, &list->room, sizeof *list->items);
    list->items[list->count++] = mem_strdup(text);
}

static void list_free(struct text_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
}

static bool is_base_url(const char *text)
{
    CURLU *url = curl_url();
    char *scheme = NULL;
    char *path = NULL;
    bool good = url && curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK &&
                curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                curl_url_get(url, CURLUPART_PATH, &path, 0) == CURLUE_OK &&
                (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) && strcmp(path, "/") == 0 &&
                !strpbrk(text, "?#") && strlen(text) <= BASE_URL_LENGTH;
    curl_free(scheme);
    curl_free(path);
    curl_url_cleanup(url);
    return good;
}

static bool read_url(const char *text, struct load_options *options, struct error *err)
{
    if (!is_base_url(text))
        return error_set(err, ERROR_USAGE,
                         "--url takes scheme, host and port, as http://127.0.0.1:8080, not \"%s\"; "
                         "paths go to --path and --post-path",
                         text);
    size_t length = strlen(text);
    free(options->url);
    options->url = mem_strndup(text, text[length - 1] == '/' ? length - 1 : length);
    return true;
}

static bool read_path(const char *option, const char *text, struct text_list *list, struct error *err)
{
    if (text[0] != '/' || strpbrk(text, " \t\r\n") || strlen(text) > PATH_LENGTH)
        return error_set(err, ERROR_USAGE,
                         "%s takes a path that begins with /, has no blanks and at most %d bytes, "
                         "not \"%s\"",
                         option, PATH_LENGTH, text);
    list_add(list, text);
    return true;
}

static bool read_header(const char *text, struct text_list *list, struct error *err)
{
    const char *colon = strchr(text, ':');
    if (!colon || colon == text || strpbrk(text, "\r\n"))
        return error_set(err, ERROR_USAGE, "--header takes a name and a value, as 'X-Canary: always', not \"%s\"",
                         text);
    list_add(list, text);
    return true;
}

static bool read_arrivals(const char *text, struct load_options *options, struct error *err)
{
    options->poisson = strcmp(text, "poisson") == 0;
    if (!options->poisson && strcmp(text, "uniform") != 0)
        return error_set(err, ERROR_USAGE, "--arrivals takes uniform or poisson, not \"%s\"", text);
    return true;
}

static bool read_timeout(const char *text, struct load_options *options, struct error *err)
{
    if (!args_duration("--timeout", text, &options->timeout_ms, err))
        return false;
    if (options->timeout_ms == 0)
        return error_set(err, ERROR_USAGE, "--timeout must be longer than 0");
    return true;
}

static bool read_option(int option, struct load_options *options, struct error *err)
{
    switch (option) {
    case OPT_URL:
        return read_url(optarg, options, err);
    case OPT_RATE:
        return args_number("--rate", optarg, 0.01, 1e6, &options->rate, err);
    case OPT_DURATION:
        return args_duration("--duration", optarg, &options->duration_ms, err);
    case OPT_ARRIVALS:
        return read_arrivals(optarg, options, err);
    case OPT_CONNECTIONS_MAX:
        return args_count("--connections-max", optarg, 1, 50000, &options->connections_max, err);
    case OPT_SHORT_SHARE:
        return args_share("--short-share", optarg, &options->short_share, err);
    case OPT_POST_SHARE:
        return args_share("--post-share", optarg, &options->post_share, err);
    case OPT_PATH:
        return read_path("--path", optarg, &options->get_paths, err);
    case OPT_POST_PATH:
        return read_path("--post-path", optarg, &options->post_paths, err);
    case OPT_HEADER:
        return read_header(optarg, &options->headers, err);
    case OPT_TIMEOUT:
        return read_timeout(optarg, options, err);
    case OPT_TRACK_HEADER:
        options->track_header = optarg;
        return true;
    case OPT_SEED:
        return args_count("--seed", optarg, 0, UINT32_MAX, &options->seed, err);
    case OPT_JSON:
        options->json = optarg;
        return true;
    case OPT_PROGRESS:
        options->progress = true;
        return true;
    case OPT_FAIL_ON_LOSS:
        options->fail_on_loss = true;
        return true;
    default:
        return error_set(err, ERROR_USAGE, "see --help for the options there are");
    }
}

static void set_defaults(struct load_options *options)
{
    uint32_t seed = 1;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        seed = 1;
    *options = (struct load_options){.timeout_ms = 5000,
                                     .connections_max = 512,
                                     .short_share = 0.10,
                                     .post_share = 0.30,
                                     .track_header = "X-LB-Track",
                                     .seed = seed};
}

static void add_default_paths(struct load_options *options)
{
    if (options->get_paths.count == 0) {
        list_add(&options->get_paths, "/");
        list_add(&options->get_paths, "/items");
        list_add(&options->get_paths, "/items/7");
    }
    if (options->post_paths.count == 0) {
        list_add(&options->post_paths, "/cart");
        list_add(&options->post_paths, "/order");
    }
}

bool options_read(int argc, char **argv, struct load_options *options, bool *help, struct error *err)
{
    set_defaults(options);
    for (int option; (option = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        if (option == OPT_HELP) {
            *help = true;
            return true;
        }
        if (!read_option(option, options, err))
            return false;
    }
    if (optind < argc)
        return error_set(err, ERROR_USAGE, "\"%s\" is not an option; see --help", argv[optind]);
    if (!options->url || options->rate <= 0)
        return error_set(err, ERROR_USAGE, "%s is required; see --help", options->url ? "--rate" : "--url");
    add_default_paths(options);
    return true;
}

void options_free(struct load_options *options)
{
    free(options->url);
    list_free(&options->get_paths);
    list_free(&options->post_paths);
    list_free(&options->headers);
}
