/* The demo shop's command line. */
#include "base/memory.h"
#include "compose/args.h"
#include "compose/shop/database.h"
#include "compose/shop/shop.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static const char usage[] =
    "usage: haldane-demo-shop --listen ADDRESS:PORT --version NAME [options]\n"
    "\n"
    "A small shop over HTTP whose failures and latency are set by options, to try a canary analysis on.\n"
    "Routes: GET / /items /items/ID, POST /cart /order; /healthz, /readyz, /metrics.\n"
    "\n"
    "  --listen ADDRESS:PORT   numeric address; port 0 lets the kernel choose (the choice is printed on stderr)\n"
    "  --version NAME          what X-Version and the version label say, as v1\n"
    "  --failure-share P%      share of business requests answered 500 (default 0%)\n"
    "  --latency-median D      median latency, lognormal (default 40ms)\n"
    "  --latency-sigma X       sigma of the latency's logarithm (default 0.5)\n"
    "  --latency-factor X      all latencies times this (default 1)\n"
    "  --leak BYTES            memory lost with every business request (default 0)\n"
    "  --crash-after D         kill -9 of its own, this long after the start\n"
    "  --drain D               after SIGTERM: how long it goes on serving while /readyz says 503 (default 2s)\n"
    "  --seed N                the same failures and latencies in every run (default: random)\n"
    "\n"
    "  --database CONNINFO     the catalogue is in PostgreSQL and orders are kept there; libpq's connection string, "
    "as\n"
    "                          \"host=db user=shop dbname=shop\" (default: a made-up catalogue in memory)\n"
    "  --database-password-file FILE   its password\n"
    "  --database-connections N        how many connections are kept to it (default 4)\n"
    "  --database-deadline D   a query that takes longer is given up and answered 503 (default 2s)\n"
    "  --cache HOST:PORT       pages of the catalogue and carts are kept in Redis\n"
    "  --cache-password-file FILE      its password\n"
    "  --cache-deadline D      when the cache takes longer, the database is asked (default 100ms)\n"
    "  --cache-ttl D           how long a page of the catalogue stays in the cache (default 60s)\n"
    "  --patience D            how long /readyz says 503 while the database was not reached yet (default 10s)\n"
    "  --help                  this text\n"
    "\n"
    "Durations are written as 500ms, 2s, 1m30s; a bare number is seconds. Exit codes: 0 after SIGTERM or SIGINT,\n"
    "64 for wrong usage, 66 if a password file cannot be read, 69 if the address cannot be had.\n";

enum flag {
    OPT_LISTEN = 1,
    OPT_VERSION,
    OPT_FAILURE_SHARE,
    OPT_LATENCY_MEDIAN,
    OPT_LATENCY_SIGMA,
    OPT_LATENCY_FACTOR,
    OPT_LEAK,
    OPT_CRASH_AFTER,
    OPT_DRAIN,
    OPT_SEED,
    OPT_DATABASE,
    OPT_DATABASE_PASSWORD_FILE,
    OPT_DATABASE_CONNECTIONS,
    OPT_DATABASE_DEADLINE,
    OPT_CACHE,
    OPT_CACHE_PASSWORD_FILE,
    OPT_CACHE_DEADLINE,
    OPT_CACHE_TTL,
    OPT_PATIENCE,
    OPT_HELP
};

static const struct option long_options[] = {
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"version", required_argument, NULL, OPT_VERSION},
    {"failure-share", required_argument, NULL, OPT_FAILURE_SHARE},
    {"latency-median", required_argument, NULL, OPT_LATENCY_MEDIAN},
    {"latency-sigma", required_argument, NULL, OPT_LATENCY_SIGMA},
    {"latency-factor", required_argument, NULL, OPT_LATENCY_FACTOR},
    {"leak", required_argument, NULL, OPT_LEAK},
    {"crash-after", required_argument, NULL, OPT_CRASH_AFTER},
    {"drain", required_argument, NULL, OPT_DRAIN},
    {"seed", required_argument, NULL, OPT_SEED},
    {"database", required_argument, NULL, OPT_DATABASE},
    {"database-password-file", required_argument, NULL, OPT_DATABASE_PASSWORD_FILE},
    {"database-connections", required_argument, NULL, OPT_DATABASE_CONNECTIONS},
    {"database-deadline", required_argument, NULL, OPT_DATABASE_DEADLINE},
    {"cache", required_argument, NULL, OPT_CACHE},
    {"cache-password-file", required_argument, NULL, OPT_CACHE_PASSWORD_FILE},
    {"cache-deadline", required_argument, NULL, OPT_CACHE_DEADLINE},
    {"cache-ttl", required_argument, NULL, OPT_CACHE_TTL},
    {"patience", required_argument, NULL, OPT_PATIENCE},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static bool read_listen(const char *text, struct shop_options *options, struct error *err)
{
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || colon[1] == '\0')
        return error_set(err, ERROR_USAGE, "--listen takes an address and a port, as 127.0.0.1:8080, not \"%s\"", text);
    bool brackets = text[0] == '[' && colon[-1] == ']';
    const char *host = brackets ? text + 1 : text;
    free(options->host);
    free(options->port);
    options->host = mem_strndup(host, (size_t)(colon - host) - (brackets ? 1 : 0));
    options->port = mem_strdup(colon + 1);
    return true;
}

/* The name goes into a header and a label: what would need escaping there is refused here. */
static bool read_version(const char *text, struct shop_options *options, struct error *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-";
    size_t length = strlen(text);
    if (length == 0 || length > 64 || strspn(text, allowed) != length)
        return error_set(err, ERROR_USAGE, "--version takes 1 to 64 letters, digits or ._+-, not \"%s\"", text);
    options->version = text;
    return true;
}

static bool read_median(const char *text, struct shop_options *options, struct error *err)
{
    int64_t ms = 0;
    if (!args_duration("--latency-median", text, &ms, err))
        return false;
    options->latency_median_ms = (double)ms;
    return true;
}

/* A deadline or a lifetime of nothing would be no way to say "none". */
static bool read_some_time(const char *option, const char *text, int64_t *ms, struct error *err)
{
    return args_duration(option, text, ms, err) &&
           (*ms >= 10 || error_set(err, ERROR_USAGE, "%s takes 10ms or more, not \"%s\"", option, text));
}

/* What the shop's data come from. */
static bool read_data_option(int option, struct shop_options *options, struct error *err)
{
    switch (option) {
    case OPT_DATABASE:
        options->database = optarg;
        return true;
    case OPT_DATABASE_PASSWORD_FILE:
        options->database_password_file = optarg;
        return true;
    case OPT_DATABASE_CONNECTIONS:
        return args_count("--database-connections", optarg, 1, DATABASE_CONNECTIONS_MAX, &options->database_connections,
                          err);
    case OPT_DATABASE_DEADLINE:
        return read_some_time("--database-deadline", optarg, &options->database_deadline_ms, err);
    case OPT_CACHE:
        options->cache = optarg;
        return true;
    case OPT_CACHE_PASSWORD_FILE:
        options->cache_password_file = optarg;
        return true;
    case OPT_CACHE_DEADLINE:
        return read_some_time("--cache-deadline", optarg, &options->cache_deadline_ms, err);
    case OPT_CACHE_TTL:
        return read_some_time("--cache-ttl", optarg, &options->cache_ttl_ms, err);
    case OPT_PATIENCE:
        return args_duration("--patience", optarg, &options->patience_ms, err);
    default:
        return error_set(err, ERROR_USAGE, "see --help for the options there are");
    }
}

static bool read_option(int option, struct shop_options *options, struct error *err)
{
    switch (option) {
    case OPT_LISTEN:
        return read_listen(optarg, options, err);
    case OPT_VERSION:
        return read_version(optarg, options, err);
    case OPT_FAILURE_SHARE:
        return args_share("--failure-share", optarg, &options->failure_share, err);
    case OPT_LATENCY_MEDIAN:
        return read_median(optarg, options, err);
    case OPT_LATENCY_SIGMA:
        return args_number("--latency-sigma", optarg, 0, 5, &options->latency_sigma, err);
    case OPT_LATENCY_FACTOR:
        return args_number("--latency-factor", optarg, 0, 1000, &options->latency_factor, err);
    case OPT_LEAK:
        return args_count("--leak", optarg, 0, 1 << 30, &options->leak_bytes, err);
    case OPT_CRASH_AFTER:
        return args_duration("--crash-after", optarg, &options->crash_after_ms, err);
    case OPT_DRAIN:
        return args_duration("--drain", optarg, &options->drain_ms, err);
    case OPT_SEED:
        return args_count("--seed", optarg, 0, UINT32_MAX, &options->seed, err);
    default:
        return read_data_option(option, options, err);
    }
}

static bool read_command_line(int argc, char **argv, struct shop_options *options, bool *help, struct error *err)
{
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
    if (!options->host || !options->version)
        return error_set(err, ERROR_USAGE, "%s is required; see --help", options->host ? "--version" : "--listen");
    if ((options->database_password_file && !options->database) || (options->cache_password_file && !options->cache))
        return error_set(err, ERROR_USAGE, "a password file needs the --database or --cache that it is for");
    return true;
}

int main(int argc, char **argv)
{
    struct shop_options options = {.latency_median_ms = 40,
                                   .latency_sigma = 0.5,
                                   .latency_factor = 1,
                                   .crash_after_ms = -1,
                                   .drain_ms = 2000,
                                   .database_connections = 4,
                                   .database_deadline_ms = 2000,
                                   .cache_deadline_ms = 100,
                                   .cache_ttl_ms = 60000,
                                   .patience_ms = 10000};
    struct error err = {0};
    bool help = false;
    /* Two instances must not draw the same latencies in step, so the default differs by process. */
    uint32_t seed = 1;
    if (getrandom(&seed, sizeof seed, 0) == sizeof seed)
        options.seed = seed;
    bool good = read_command_line(argc, argv, &options, &help, &err);
    if (good && help)
        fputs(usage, stdout);
    else if (good)
        good = shop_serve(&options, &err);
    if (!good)
        fprintf(stderr, "haldane-demo-shop: %s\n", err.text);
    free(options.host);
    free(options.port);
    return good ? 0 : (int)err.code;
}
