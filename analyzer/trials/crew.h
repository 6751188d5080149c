/* Numbered tasks, done by several threads. Private to this folder. */
#ifndef HALDANE_TRIALS_CREW_H
#define HALDANE_TRIALS_CREW_H

#include <stdint.h>

struct crew {
    uint64_t tasks;
    unsigned threads;                                       /* >= 1 */
    void *(*start)(void *context);                          /* what one thread works with */
    void (*run)(uint64_t task, void *tools, void *context); /* tasks come in any order, several at a time */
    void (*finish)(void *tools);
    void *context;
    void (*progress)(uint64_t done, uint64_t all, void *context); /* in the caller's thread; may be NULL */
    void *progress_context;
};

/* Returns when all tasks are done. */
void crew_run(const struct crew *crew);

/* The seed of GSL's generators for run `run` of `seed`. For one seed no two runs below 2^32 share it. */
uint32_t crew_seed(uint64_t seed, uint64_t run);

#endif
