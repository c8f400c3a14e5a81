#include "sched/timer.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

void timer_queue_init(struct timer_queue *queue, struct vclock *clock)
{
    memset(queue, 0, sizeof(*queue));
    queue->clock = clock;
}

void timer_queue_free(struct timer_queue *queue)
{
    for (size_t i = 0; i < queue->count; i++)
        queue->heap[i]->heap_index = 0;
    free(queue->heap);
    queue->heap = NULL;
    queue->count = queue->capacity = 0;
}

void timer_init(struct timer *timer, struct timer_queue *queue,
                void (*expired)(void *ctx, uint64_t now_ns), void *ctx)
{
    *timer = (struct timer){.queue = queue, .expired = expired, .ctx = ctx};
}

static void place(struct timer_queue *queue, size_t slot, struct timer *timer)
{
    queue->heap[slot] = timer;
    timer->heap_index = slot + 1;
}

/* Moves the timer, whose slot is free, towards the root or the leaves until the order holds. */
static void sift(struct timer_queue *queue, size_t slot, struct timer *timer)
{
    while (slot > 0 && queue->heap[(slot - 1) / 2]->deadline > timer->deadline) {
        place(queue, slot, queue->heap[(slot - 1) / 2]);
        slot = (slot - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * slot + 1;
        if (child >= queue->count)
            break;
        if (child + 1 < queue->count &&
            queue->heap[child + 1]->deadline < queue->heap[child]->deadline)
            child++;
        if (queue->heap[child]->deadline >= timer->deadline)
            break;
        place(queue, slot, queue->heap[child]);
        slot = child;
    }
    place(queue, slot, timer);
}

static bool reserve(struct timer_queue *queue)
{
    if (queue->count < queue->capacity)
        return true;
    size_t capacity = queue->capacity ? queue->capacity * 2 : 64;
    struct timer **heap = realloc(queue->heap, capacity * sizeof(*heap));
    if (!heap) {
        log_error("no memory for %zu timers: one is lost", capacity);
        return false;
    }
    queue->heap = heap;
    queue->capacity = capacity;
    return true;
}

void timer_set(struct timer *timer, uint64_t deadline_ns)
{
    struct timer_queue *queue = timer->queue;
    uint64_t before = timer_queue_next(queue);
    timer->deadline = deadline_ns;
    if (timer->heap_index) {
        sift(queue, timer->heap_index - 1, timer);
    } else {
        if (!reserve(queue))
            return;
        queue->count++;
        sift(queue, queue->count - 1, timer);
    }
    if (queue->rearm && !queue->running && timer_queue_next(queue) < before)
        queue->rearm(queue->rearm_ctx);
}

void timer_cancel(struct timer *timer)
{
    if (!timer->heap_index)
        return;
    struct timer_queue *queue = timer->queue;
    size_t slot = timer->heap_index - 1;
    struct timer *last = queue->heap[--queue->count];
    timer->heap_index = 0;
    if (last != timer)
        sift(queue, slot, last);
}

bool timer_armed(const struct timer *timer)
{
    return timer->heap_index != 0;
}

uint64_t timer_queue_next(const struct timer_queue *queue)
{
    return queue->count ? queue->heap[0]->deadline : UINT64_MAX;
}

uint64_t timer_queue_run(struct timer_queue *queue)
{
    if (!queue->count)
        return UINT64_MAX;
    uint64_t now = vclock_now(queue->clock);
    size_t budget = 64 + 4 * queue->count;
    queue->running = true;
    while (queue->count && queue->heap[0]->deadline <= now && budget-- > 0) {
        struct timer *timer = queue->heap[0];
        timer_cancel(timer);
        timer->expired(timer->ctx, now);
    }
    queue->running = false;
    return timer_queue_next(queue);
}
