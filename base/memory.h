/*
 * Allocation that cannot be refused: out of memory ends the process with a line on stderr and exit code 70. The lease
 * then returns traffic to stable (docs/architecture.md), which is safer than going on with half a rollout in memory.
 */
#ifndef HALDANE_BASE_MEMORY_H
#define HALDANE_BASE_MEMORY_H

#include <stddef.h>

void *mem_alloc(size_t count, size_t size) __attribute__((malloc, warn_unused_result)); /* zeroed; overflow checked */
void *mem_resize(void *old, size_t count, size_t size) __attribute__((warn_unused_result));
char *mem_strdup(const char *text) __attribute__((warn_unused_result)); /* NULL stays NULL */
char *mem_strndup(const char *text, size_t length) __attribute__((warn_unused_result));
char *mem_printf(const char *format, ...) __attribute__((format(printf, 1, 2), warn_unused_result));

/*
 * Room for one more element in a growing array: `array = mem_grow(array, used, &room, sizeof *array)`. Doubles `*room`
 * when `used == *room`; new elements are not cleared.
 */
void *mem_grow(void *array, size_t used, size_t *room, size_t size) __attribute__((warn_unused_result));

#endif
