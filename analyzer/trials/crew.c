/*
 * Tasks are handed out one by one by a counter, and each writes into a place of its own. So the number of threads
 * decides how long it takes and nothing else.
 */
#include "analyzer/trials/crew.h"

#include "base/memory.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

struct shift {
    const struct crew *crew;
    pthread_mutex_t mutex;
    pthread_cond_t done_some;
    uint64_t next, done; /* under the mutex */
};

/* The number of the next task; crew->tasks: there is none left. */
static uint64_t take_task(struct shift *shift)
{
    pthread_mutex_lock(&shift->mutex);
    uint64_t taken = shift->next < shift->crew->tasks ? shift->next++ : shift->crew->tasks;
    pthread_mutex_unlock(&shift->mutex);
    return taken;
}

static void note_done(struct shift *shift)
{
    pthread_mutex_lock(&shift->mutex);
    shift->done++;
    pthread_cond_signal(&shift->done_some);
    pthread_mutex_unlock(&shift->mutex);
}

static void *work(void *context)
{
    struct shift *shift = context;
    const struct crew *crew = shift->crew;
    void *tools = crew->start(crew->context);
    for (uint64_t t = take_task(shift); t < crew->tasks; t = take_task(shift)) {
        crew->run(t, tools, crew->context);
        note_done(shift);
    }
    crew->finish(tools);
    return NULL;
}

static void watch(struct shift *shift)
{
    const struct crew *crew = shift->crew;
    uint64_t seen = 0;
    while (seen < crew->tasks) {
        pthread_mutex_lock(&shift->mutex);
        while (shift->done == seen)
            pthread_cond_wait(&shift->done_some, &shift->mutex);
        seen = shift->done;
        pthread_mutex_unlock(&shift->mutex);
        if (crew->progress)
            crew->progress(seen, crew->tasks, crew->progress_context);
    }
}

void crew_run(const struct crew *crew)
{
    assert(crew->threads >= 1);
    struct shift shift = {.crew = crew, .mutex = PTHREAD_MUTEX_INITIALIZER, .done_some = PTHREAD_COND_INITIALIZER};
    pthread_t *threads = mem_alloc(crew->threads, sizeof *threads);
    unsigned started = 0;
    while (started < crew->threads && pthread_create(&threads[started], NULL, work, &shift) == 0)
        started++;
    if (started == 0)
        work(&shift); /* a system without threads to give is slower, no more */
    watch(&shift);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    free(threads);
}

/* The finalizer of MurmurHash3 (Appleby 2011): a one-to-one map of 32 bits onto themselves that spreads neighbours. */
static uint32_t scatter(uint32_t x)
{
    x = (x ^ (x >> 16)) * UINT32_C(0x85ebca6b);
    x = (x ^ (x >> 13)) * UINT32_C(0xc2b2ae35);
    return x ^ (x >> 16);
}

/* GSL's generators take 32 bits of seed. For one seed the runs' are all different, because scatter() is one-to-one. */
uint32_t crew_seed(uint64_t seed, uint64_t run)
{
    uint32_t key = scatter((uint32_t)seed) ^ scatter((uint32_t)(seed >> 32) + UINT32_C(0x9e3779b9));
    return scatter((uint32_t)run ^ key);
}
