/*
 * The thread that runs one vCPU: timers, wake-ups, halting, pausing.
 *
 * While guest code runs, the next deadline of the timer queue is armed in a POSIX timer that
 * signals the vCPU's own thread; the handler only kicks the vCPU. No helper thread is involved,
 * because waking a thread on another core takes far longer than a signal. A halted vCPU sleeps in
 * the kernel and takes no host CPU time.
 *
 * Locks: the runner never holds the machine lock while the vCPU runs or sleeps. runner_pause and
 * runner_join wait for the thread, so their callers must not hold the machine lock.
 */
#ifndef VD_SCHED_RUNNER_H
#define VD_SCHED_RUNNER_H

#include <pthread.h>
#include <stdbool.h>

#include "base/error.h"
#include "engine/engine.h"
#include "sched/clock.h"
#include "sched/timer.h"

struct runner;

struct runner_config {
    const struct engine_ops *ops;
    struct vcpu *vcpu;
    pthread_mutex_t *lock;      /* the machine lock */
    struct timer_queue *timers; /* NULL: another vCPU's runner runs the machine's timers */
    struct vclock *clock;
    void *ctx;
    /* After runner_request_service: on the vCPU's thread, vCPU not running, lock held. */
    void (*service)(void *ctx);
    /*
     * The vCPU reported SHUTDOWN or ERROR (err then holds the text). On the vCPU's thread, lock not
     * held. True: run on (the vCPU was reset); false or NULL function: the thread ends.
     */
    bool (*stopped)(void *ctx, enum vcpu_exit reason, const struct vd_error *err);
    bool paused; /* starts as after runner_pause: the owner can note where its runner is */
};

/* Copies config and starts the thread. -1: host failure. Ends with runner_join. */
int runner_start(struct runner **runner, const struct runner_config *config, struct vd_error *err);
/* Asks the thread to end; any thread, the vCPU's included. Does not wait. */
void runner_stop(struct runner *runner);
/* Waits until the thread has ended (see runner_stop) and frees the runner. */
void runner_join(struct runner *runner);

/*
 * Waits until the vCPU is outside vcpu_run and stays there. Not on the vCPU's own thread. Pauses
 * nest; the virtual clock is shared by all vCPUs and is the caller's to pause.
 */
void runner_pause(struct runner *runner);
void runner_resume(struct runner *runner);

/* Leaves vcpu_run or the halt soon and goes around the loop; any thread. */
void runner_wake(struct runner *runner);
/*
 * The vCPU's INTR may have changed: tells the engine and ends a halt, without leaving vcpu_run. Any
 * thread; cheap on the vCPU's own.
 */
void runner_interrupt(struct runner *runner);
/* Has config.service called soon (a device asks for a reset from inside vcpu_run); any thread. */
void runner_request_service(struct runner *runner);

#endif
