/*
 * How no wake-up is lost. Whoever wants the thread's attention sets `wake` first. The thread clears
 * it at the top of its loop, does the work, and before it enters vcpu_run (with `in_run` set) or
 * sleeps it looks at `wake` again: the sleep is a futex wait on `wake` itself, so the kernel checks
 * it atomically. The signal handler runs on the same thread and follows the same rule; it kicks the
 * vCPU only inside vcpu_run, where nothing else would be noticed.
 */
#include "sched/runner.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { ALT_STACK_SIZE = 64 * 1024 };

struct runner {
    struct runner_config config;
    pthread_t thread;
    _Atomic uintptr_t self; /* pthread_self() of the thread, for "is it me" */

    _Atomic uint32_t wake;   /* futex word: somebody wants attention */
    _Atomic uint32_t asleep; /* in (or about to enter) the futex wait */
    _Atomic bool in_run;     /* inside vcpu_run */
    _Atomic bool fired;      /* the POSIX timer went off */
    _Atomic bool stop, service;

    timer_t host_timer;
    uint64_t armed; /* virtual deadline in host_timer, UINT64_MAX: none; machine lock held */

    pthread_mutex_t state_lock; /* the fields below */
    pthread_cond_t state_changed;
    unsigned pauses;
    bool parked;      /* the thread waits because of a pause */
    bool ended;       /* the thread's loop is over */
    int start_result; /* 1: not known yet, then 0 or -1 */
    struct vd_error start_error;
    void *alt_stack;
};

static int wake_signal(void)
{
    return SIGRTMIN + 3;
}

/* Runs on the vCPU's thread, possibly in the middle of translated code, on the alternate stack. */
static void on_wake_signal(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    if (info->si_code != SI_TIMER)
        return;
    int saved_errno = errno;
    struct runner *runner = info->si_value.sival_ptr;
    atomic_store(&runner->fired, true);
    atomic_store(&runner->wake, 1);
    if (atomic_load(&runner->in_run))
        runner->config.ops->vcpu_kick(runner->config.vcpu);
    errno = saved_errno;
}

static bool on_own_thread(struct runner *runner)
{
    return atomic_load(&runner->self) == (uintptr_t)pthread_self();
}

static void end_sleep(struct runner *runner)
{
    atomic_store(&runner->wake, 1);
    if (atomic_load(&runner->asleep))
        syscall(SYS_futex, &runner->wake, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void runner_wake(struct runner *runner)
{
    end_sleep(runner);
    runner->config.ops->vcpu_kick(runner->config.vcpu);
}

void runner_interrupt(struct runner *runner)
{
    runner->config.ops->vcpu_interrupt(runner->config.vcpu);
    /* On its own thread the vCPU is awake and looks at INTR before it halts. */
    if (!on_own_thread(runner))
        end_sleep(runner);
}

void runner_request_service(struct runner *runner)
{
    atomic_store(&runner->service, true);
    runner_wake(runner);
}

void runner_stop(struct runner *runner)
{
    atomic_store(&runner->stop, true);
    runner_wake(runner);
    pthread_mutex_lock(&runner->state_lock);
    pthread_cond_broadcast(&runner->state_changed);
    pthread_mutex_unlock(&runner->state_lock);
}

/* With the machine lock held. One system call, and none if the timer is right already. */
static void arm(struct runner *runner, uint64_t deadline)
{
    if (deadline == runner->armed || deadline == UINT64_MAX)
        return; /* a left-over earlier deadline costs one needless turn of the loop */
    uint64_t mono = vclock_to_monotonic(runner->config.clock, deadline);
    struct itimerspec spec = {0};
    spec.it_value.tv_sec = (time_t)(mono / 1000000000);
    spec.it_value.tv_nsec = (long)(mono % 1000000000);
    if (mono == 0)
        spec.it_value.tv_nsec = 1; /* all zero would disarm */
    if (timer_settime(runner->host_timer, TIMER_ABSTIME, &spec, NULL) == 0)
        runner->armed = deadline;
}

/* The timer queue's earliest deadline moved earlier; machine lock held, any thread. */
static void on_rearm(void *ctx)
{
    struct runner *runner = ctx;
    arm(runner, timer_queue_next(runner->config.timers));
}

static void turn_timers(struct runner *runner)
{
    /*
     * It may have fired a little before the virtual deadline (the two clocks differ by parts per
     * million); forget it, so that the rest of the wait is armed again.
     */
    if (atomic_exchange(&runner->fired, false))
        runner->armed = UINT64_MAX;
    arm(runner, timer_queue_run(runner->config.timers));
}

/* Until the POSIX timer's signal, an interrupt or a kick: all of them set `wake`. */
static void sleep_halted(struct runner *runner)
{
    atomic_store(&runner->asleep, 1);
    while (!atomic_load(&runner->wake)) {
        long rc = syscall(SYS_futex, &runner->wake, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
        if (rc < 0 && errno != EINTR && errno != EAGAIN)
            break;
    }
    atomic_store(&runner->asleep, 0);
}

static void wait_while_paused(struct runner *runner)
{
    pthread_mutex_lock(&runner->state_lock);
    bool was_parked = runner->pauses != 0;
    while (runner->pauses && !atomic_load(&runner->stop)) {
        runner->parked = true;
        pthread_cond_broadcast(&runner->state_changed);
        pthread_cond_wait(&runner->state_changed, &runner->state_lock);
    }
    runner->parked = false;
    pthread_mutex_unlock(&runner->state_lock);
    /* The virtual clock may have stood still meanwhile: the armed host time is void. */
    if (was_parked && runner->config.timers) {
        pthread_mutex_lock(runner->config.lock);
        runner->armed = UINT64_MAX;
        pthread_mutex_unlock(runner->config.lock);
    }
}

/* Returns false when the thread shall end. */
static bool run_once(struct runner *runner)
{
    const struct runner_config *config = &runner->config;
    struct vd_error err = {0};
    enum vcpu_exit reason = VCPU_EXIT_KICK;

    atomic_store(&runner->wake, 0);
    wait_while_paused(runner);
    if (atomic_load(&runner->stop))
        return false;
    bool service = atomic_exchange(&runner->service, false) && config->service;
    if (service || config->timers) {
        pthread_mutex_lock(config->lock);
        if (service)
            config->service(config->ctx);
        if (config->timers)
            turn_timers(runner);
        pthread_mutex_unlock(config->lock);
    }
    atomic_store(&runner->in_run, true);
    if (!atomic_load(&runner->wake))
        reason = config->ops->vcpu_run(config->vcpu, &err);
    atomic_store(&runner->in_run, false);

    switch (reason) {
    case VCPU_EXIT_HALT:
        sleep_halted(runner);
        return true;
    case VCPU_EXIT_SHUTDOWN:
    case VCPU_EXIT_ERROR:
        return config->stopped && config->stopped(config->ctx, reason, &err);
    case VCPU_EXIT_KICK:
        break;
    }
    return true;
}

static int install_handler(struct vd_error *err)
{
    /* Process-wide and the same for every VM: the runner comes with the signal. */
    struct sigaction action = {.sa_sigaction = on_wake_signal,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    sigfillset(&action.sa_mask);
    /* The engine answers for a misaligned access here: the guest's EFLAGS.AC may be in force. */
    sigdelset(&action.sa_mask, SIGBUS);
    if (sigaction(wake_signal(), &action, NULL) < 0)
        return error_set(err, "vCPU wake-up signal: %s", strerror(errno));
    return 0;
}

static int create_host_timer(struct runner *runner, struct vd_error *err)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = wake_signal()};
    event.sigev_value.sival_ptr = runner;
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    if (timer_create(CLOCK_MONOTONIC, &event, &runner->host_timer) < 0)
        return error_set(err, "vCPU wake-up timer: %s", strerror(errno));
    return 0;
}

/* Signals meant for the program go to its other threads; ours and the faults stay. */
static void set_signal_mask(void)
{
    static const int elsewhere[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGPIPE, SIGALRM,
                                    SIGCHLD, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++)
        sigaddset(&set, elsewhere[i]);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, wake_signal());
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* Engines with a stack of their own under guest code need one; a thread that has one keeps it. */
static int set_alt_stack(struct runner *runner, struct vd_error *err)
{
    stack_t old;
    if (sigaltstack(NULL, &old) == 0 && !(old.ss_flags & SS_DISABLE))
        return 0;
    runner->alt_stack = malloc(ALT_STACK_SIZE);
    if (!runner->alt_stack)
        return error_set(err, "vCPU signal stack: no memory");
    stack_t stack = {.ss_sp = runner->alt_stack, .ss_size = ALT_STACK_SIZE};
    if (sigaltstack(&stack, NULL) < 0)
        return error_set(err, "vCPU signal stack: %s", strerror(errno));
    return 0;
}

static void drop_alt_stack(struct runner *runner)
{
    stack_t old, disabled = {.ss_flags = SS_DISABLE};
    if (sigaltstack(NULL, &old) == 0 && old.ss_sp == runner->alt_stack)
        sigaltstack(&disabled, NULL);
    free(runner->alt_stack);
}

static void set_timer_hook(struct runner *runner, bool connect)
{
    struct timer_queue *timers = runner->config.timers;
    if (!timers)
        return;
    pthread_mutex_lock(runner->config.lock);
    timers->rearm = connect ? on_rearm : NULL;
    timers->rearm_ctx = connect ? runner : NULL;
    pthread_mutex_unlock(runner->config.lock);
}

static void report_start(struct runner *runner, int result)
{
    pthread_mutex_lock(&runner->state_lock);
    runner->start_result = result;
    pthread_cond_broadcast(&runner->state_changed);
    pthread_mutex_unlock(&runner->state_lock);
}

static void *thread_main(void *arg)
{
    struct runner *runner = arg;
    atomic_store(&runner->self, (uintptr_t)pthread_self());
    set_signal_mask();
    /* The default slack of 50 µs would be added to every sleep. */
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    if (set_alt_stack(runner, &runner->start_error) < 0 ||
        create_host_timer(runner, &runner->start_error) < 0) {
        drop_alt_stack(runner);
        report_start(runner, -1);
        return NULL;
    }
    set_timer_hook(runner, true);
    report_start(runner, 0);

    while (run_once(runner))
        ;

    set_timer_hook(runner, false);
    /* A signal still queued must not find the runner freed: it dies with the blocked thread. */
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, wake_signal());
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    timer_delete(runner->host_timer);
    drop_alt_stack(runner);
    pthread_mutex_lock(&runner->state_lock);
    runner->ended = true;
    pthread_cond_broadcast(&runner->state_changed);
    pthread_mutex_unlock(&runner->state_lock);
    return NULL;
}

static void runner_free(struct runner *runner)
{
    pthread_cond_destroy(&runner->state_changed);
    pthread_mutex_destroy(&runner->state_lock);
    free(runner);
}

int runner_start(struct runner **result, const struct runner_config *config, struct vd_error *err)
{
    if (install_handler(err) < 0)
        return -1;
    struct runner *runner = calloc(1, sizeof(*runner));
    if (!runner)
        return error_set(err, "vCPU thread: no memory");
    runner->config = *config;
    runner->armed = UINT64_MAX;
    runner->start_result = 1;
    runner->pauses = config->paused;
    pthread_mutex_init(&runner->state_lock, NULL);
    pthread_cond_init(&runner->state_changed, NULL);
    int rc = pthread_create(&runner->thread, NULL, thread_main, runner);
    if (rc) {
        runner_free(runner);
        return error_set(err, "vCPU thread: %s", strerror(rc));
    }
    *result = runner;
    pthread_mutex_lock(&runner->state_lock);
    while (runner->start_result > 0)
        pthread_cond_wait(&runner->state_changed, &runner->state_lock);
    pthread_mutex_unlock(&runner->state_lock);
    if (runner->start_result < 0) {
        error_set(err, "%s", runner->start_error.text);
        *result = NULL;
        pthread_join(runner->thread, NULL);
        runner_free(runner);
        return -1;
    }
    return 0;
}

void runner_join(struct runner *runner)
{
    pthread_join(runner->thread, NULL);
    runner_free(runner);
}

void runner_pause(struct runner *runner)
{
    pthread_mutex_lock(&runner->state_lock);
    runner->pauses++;
    runner_wake(runner);
    while (!runner->parked && !runner->ended)
        pthread_cond_wait(&runner->state_changed, &runner->state_lock);
    pthread_mutex_unlock(&runner->state_lock);
}

void runner_resume(struct runner *runner)
{
    pthread_mutex_lock(&runner->state_lock);
    if (runner->pauses)
        runner->pauses--;
    pthread_cond_broadcast(&runner->state_changed);
    pthread_mutex_unlock(&runner->state_lock);
}
