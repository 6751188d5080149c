/*
 * Any bytes, as the answer of an exec driver: no crash, nothing out of range, no error without a text. The first byte
 * chooses the operation and what the program says that it can do.
 */
#include "analyzer/traffic/exec_answer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
    if (!holds)
        abort();
}

static void check_error(const struct error *err)
{
    expect(err->code == ERROR_DATA && *err->text && !strpbrk(err->text, "\n\r"));
}

static bool fuzz_state(const char *text, size_t length, uint32_t capabilities, struct error *err)
{
    struct driver_state got = {0};
    if (!exec_parse_state(text, length, "p", capabilities, 1795400000000, &got, err))
        return false;
    expect(got.share_bp <= BASIS_POINTS && got.lease_left_ms >= -1 && got.capabilities == capabilities);
    expect(memchr(got.detail, '\0', sizeof got.detail) && !strpbrk(got.detail, "\n\r\x7f"));
    expect(got.health_known || (got.up[TRACK_STABLE] == 0 && got.up[TRACK_CANARY] == 0));
    return true;
}

static bool fuzz_counters(const char *text, size_t length, struct error *err)
{
    struct balancer_counters got = {0};
    if (!exec_parse_counters(text, length, "p", &got, err))
        return false;
    for (int t = 0; t < TRACKS; t++)
        expect(got.arms[t].failed <= got.arms[t].total && got.arms[t].up <= got.arms[t].servers);
    return true;
}

static bool fuzz_caps(const char *text, size_t length, struct error *err)
{
    uint32_t capabilities;
    if (!exec_parse_caps(text, length, "p", &capabilities, err))
        return false;
    expect(capabilities >> DRIVER_CAPABILITIES == 0);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const char *text = (const char *)data + 1;
    struct error err = {0};
    uint64_t in_flight;
    bool done = data[0] % 4 == 0   ? fuzz_caps(text, size - 1, &err)
                : data[0] % 4 == 1 ? fuzz_counters(text, size - 1, &err)
                : data[0] % 4 == 2 ? exec_parse_drain(text, size - 1, "p", &in_flight, &err)
                                   : fuzz_state(text, size - 1, data[0] >> 2 & 0x1fU, &err);
    if (!done)
        check_error(&err);
    return 0;
}
