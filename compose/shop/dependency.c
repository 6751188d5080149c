/* Changes are told on stderr, one line each: an outage of an hour is two lines there, not thousands. */
#include "compose/shop/dependency.h"

#include "base/memory.h"
#include "compose/shop/loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static int64_t unix_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / NS_PER_MS;
}

void dependency_init(struct dependency *dependency, const char *name)
{
    *dependency = (struct dependency){.name = name, .since_ms = unix_ms()};
}

void dependency_tell(struct dependency *dependency, const char *fault)
{
    char line[sizeof dependency->told];
    snprintf(line, sizeof line, "%.*s", (int)strcspn(fault, "\n"), fault);
    if (strcmp(line, dependency->told) == 0)
        return;
    snprintf(dependency->told, sizeof dependency->told, "%s", line);
    fprintf(stderr, "haldane-demo-shop: %s: %s\n", dependency->name, line);
}

static void change(struct dependency *dependency, bool up)
{
    if (dependency->up == up)
        return;
    dependency->up = up;
    dependency->since_ms = unix_ms();
}

void dependency_up(struct dependency *dependency)
{
    change(dependency, true);
    dependency->was_up = true;
    dependency_tell(dependency, "up");
}

void dependency_down(struct dependency *dependency, const char *why)
{
    char line[sizeof dependency->told];
    change(dependency, false);
    snprintf(line, sizeof line, "down: %s", why);
    dependency_tell(dependency, line);
}

int64_t backoff_ns(unsigned failures)
{
    const int64_t first = 100 * NS_PER_MS;
    const int64_t longest = 2000 * NS_PER_MS;
    int64_t whole = failures < 5 ? first << failures : longest;
    uint16_t lot = 0;
    if (getrandom(&lot, sizeof lot, GRND_NONBLOCK) != sizeof lot)
        lot = UINT16_MAX / 2;
    if (whole > longest)
        whole = longest;
    return whole / 2 + whole / 2 * lot / UINT16_MAX;
}

char *secret_read(const char *path, struct error *err)
{
    char line[1024] = "";
    FILE *file = fopen(path, "re");
    if (!file) {
        error_set(err, ERROR_NO_INPUT, "the password file %s cannot be read: %s", path, strerror(errno));
        return NULL;
    }
    bool read = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    line[strcspn(line, "\r\n")] = '\0';
    if (!read || line[0] == '\0') {
        error_set(err, ERROR_NO_INPUT, "the password file %s is empty", path);
        return NULL;
    }
    char *secret = mem_strdup(line);
    explicit_bzero(line, sizeof line);
    return secret;
}
