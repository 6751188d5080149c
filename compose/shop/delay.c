/* A binary heap: at 1,500 requests a second some 60 wait at any time, and only the earliest matters. */
#include "compose/shop/shop.h"

#include "base/memory.h"

#include <stdlib.h>

void delay_push(struct delay_queue *queue, int64_t due_ns, void *request)
{
    queue->heap = mem_grow(queue->heap, queue->count, &queue->room, sizeof *queue->heap);
    size_t hole = queue->count++;
    while (hole > 0) {
        size_t parent = (hole - 1) / 2;
        if (queue->heap[parent].due_ns <= due_ns)
            break;
        queue->heap[hole] = queue->heap[parent];
        hole = parent;
    }
    queue->heap[hole] = (struct delayed){due_ns, request};
}

int64_t delay_next(const struct delay_queue *queue)
{
    return queue->count > 0 ? queue->heap[0].due_ns : INT64_MAX;
}

void *delay_pop_due(struct delay_queue *queue, int64_t now_ns)
{
    if (delay_next(queue) > now_ns || queue->count == 0)
        return NULL;
    void *request = queue->heap[0].request;
    struct delayed moved = queue->heap[--queue->count];
    size_t hole = 0;
    for (;;) {
        size_t child = 2 * hole + 1;
        if (child >= queue->count)
            break;
        if (child + 1 < queue->count && queue->heap[child + 1].due_ns < queue->heap[child].due_ns)
            child++;
        if (moved.due_ns <= queue->heap[child].due_ns)
            break;
        queue->heap[hole] = queue->heap[child];
        hole = child;
    }
    queue->heap[hole] = moved;
    return request;
}

void delay_free(struct delay_queue *queue)
{
    free(queue->heap);
    *queue = (struct delay_queue){0};
}
