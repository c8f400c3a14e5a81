/*
 * Timers of one VM on its virtual clock. All calls are made with the machine lock held (callbacks
 * run with it held too, on the thread that calls timer_queue_run: the vCPU's).
 */
#ifndef VD_SCHED_TIMER_H
#define VD_SCHED_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sched/clock.h"

struct timer_queue;

struct timer { /* embedded in its owner; initialise with timer_init */
    struct timer_queue *queue;
    void (*expired)(void *ctx, uint64_t now_ns);
    void *ctx;
    uint64_t deadline; /* virtual ns */
    size_t heap_index; /* position + 1; 0: not armed */
};

struct timer_queue {
    struct vclock *clock;
    struct timer **heap;
    size_t count, capacity;
    bool running; /* inside timer_queue_run: its caller arms the wake-up, no rearm needed */
    /* Called when the earliest deadline moved earlier: wake or re-arm whoever waits for it. */
    void (*rearm)(void *ctx);
    void *rearm_ctx;
};

void timer_queue_init(struct timer_queue *queue, struct vclock *clock);
void timer_queue_free(struct timer_queue *queue);
void timer_init(struct timer *timer, struct timer_queue *queue,
                void (*expired)(void *ctx, uint64_t now_ns), void *ctx);
void timer_set(struct timer *timer,
               uint64_t deadline_ns); /* (re)arms; a past deadline fires at the next run */
void timer_cancel(struct timer *timer);
bool timer_armed(const struct timer *timer);
/*
 * Runs everything that is due, in order of deadline. Returns the next deadline, UINT64_MAX: none.
 * Timers that keep re-arming in the past cannot hold the caller for ever: after a bounded number of
 * callbacks it returns with a deadline that has passed already, and the guest runs in between.
 */
uint64_t timer_queue_run(struct timer_queue *queue);
uint64_t timer_queue_next(const struct timer_queue *queue);

#endif
