/*
 * HAProxy's answers, whatever they hold: no crash, no share out of range, no error without a text. The first byte
 * chooses the parser; a form feed in the answer parts `show servers state` from `show stat`.
 */
#include "analyzer/traffic/haproxy_parse.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_error(const struct error *err)
{
    if (err->code == ERROR_NONE || !*err->text || strchr(err->text, '\n'))
        abort();
}

static void fuzz_tables(const char *state, const char *stat)
{
    struct error err = {0};
    struct haproxy_backend backend = {0};
    bool done = haproxy_parse_state(state, "shop", &backend, &err);
    if (done && backend.count == 0)
        abort();
    for (size_t i = 0; i < backend.count; i++)
        if (backend.servers[i].weight > 256 || backend.servers[i].initial > 256)
            abort();
    if (done)
        done = haproxy_parse_stat(stat, "shop", &backend, &err);
    if (done && !backend.algorithm)
        abort();
    if (!done)
        check_error(&err);
    haproxy_backend_free(&backend);
}

static void fuzz_split(const char *text)
{
    struct error err = {0};
    struct haproxy_split split;
    if (!haproxy_parse_split(text, &split, &err))
        check_error(&err);
    else if (split.share_bp > 10000 || split.epoch > INT64_MAX)
        abort();
}

static void fuzz_numbers(const char *text)
{
    struct error err = {0};
    int64_t now_ms = 0;
    uint64_t number = 0;
    if (!haproxy_parse_clock(text, &now_ms, &err))
        check_error(&err);
    if (!haproxy_parse_version(text, &number, &err))
        check_error(&err);
    if (!haproxy_parse_info(text, &number, &err))
        check_error(&err);
    if (now_ms < 0 || haproxy_count_uses(text, "m") > strlen(text))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    char *text = mem_strndup((const char *)data + 1, size - 1);
    struct error err = {0};
    uint32_t weight = 0;
    if (data[0] % 8 == 0) {
        fuzz_numbers(text);
    } else if (data[0] % 8 == 1) {
        if (!haproxy_parse_weight(text, &weight, &err))
            check_error(&err);
        if (weight > 256)
            abort();
    } else if (data[0] % 8 == 4) {
        fuzz_split(text);
    } else {
        char *stat = text;
        char *state = strsep(&stat, "\f");
        fuzz_tables(state, stat ? stat : "");
    }
    free(text);
    return 0;
}
