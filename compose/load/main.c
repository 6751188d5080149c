/* The load generator: options, the run, the result. */
#include "base/memory.h"
#include "compose/load/load.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_LOST = 1 };

/* Opened before the run, so that a wrong path is found then and not after an hour. */
static FILE *open_output(const char *json, struct error *err)
{
    if (!json || strcmp(json, "-") == 0)
        return stdout;
    FILE *file = fopen(json, "we");
    if (!file)
        error_set(err, ERROR_IO, "cannot write %s: %s; choose another place with --json", json, strerror(errno));
    return file;
}

static bool write_result(FILE *file, const struct load_options *options, const struct tally *tally, struct error *err)
{
    if (options->json) {
        char *json = summary_json(options, tally);
        fprintf(file, "%s\n", json ? json : "");
        free(json);
    } else {
        struct strbuf text = {0};
        summary_text(tally, &text);
        fwrite(text.text, 1, text.length, file);
        strbuf_free(&text);
    }
    bool written = fflush(file) == 0 && !ferror(file);
    if (file != stdout)
        written = fclose(file) == 0 && written;
    return written || error_set(err, ERROR_IO, "the result could not be written: %s", strerror(errno));
}

static int run(const struct load_options *options, struct error *err)
{
    FILE *file = open_output(options->json, err);
    if (!file)
        return (int)err->code;
    struct tally tally = {0};
    bool good = load_run(options, &tally, err);
    if (good)
        good = write_result(file, options, &tally, err);
    else if (file != stdout)
        fclose(file);
    bool lost = options->fail_on_loss && tally.failed > 0;
    tally_free(&tally);
    if (!good)
        return (int)err->code;
    return lost ? EXIT_LOST : 0;
}

int main(int argc, char **argv)
{
    struct load_options options = {0};
    struct error err = {0};
    bool help = false;
    int code = 0;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    if (!options_read(argc, argv, &options, &help, &err))
        code = (int)err.code;
    else if (help)
        fputs(options_usage, stdout);
    else
        code = run(&options, &err);
    if (err.code != ERROR_NONE)
        fprintf(stderr, "haldane-demo-load: %s\n", err.text);
    options_free(&options);
    curl_global_cleanup();
    return code;
}
