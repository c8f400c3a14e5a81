#include "cli/watch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

static sigset_t watched_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    return set;
}

void watch_block_signals(void)
{
    sigset_t set = watched_signals();
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* The second signal means that stopping takes too long: let it act as if nobody had caught it. */
static void take_signal(struct watch *watch, unsigned *count)
{
    struct signalfd_siginfo info;
    if (read(watch->signal_fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (++*count == 1) {
        vd_vm_stop(watch->vm);
        return;
    }
    sigset_t set = watched_signals();
    raise((int)info.ssi_signo);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void *watch_thread(void *arg)
{
    struct watch *watch = arg;
    double deadline = watch->time_limit > 0 ? now_seconds() + watch->time_limit : 0;
    unsigned signals = 0;
    for (;;) {
        struct pollfd pollfds[2] = {{.fd = watch->end_fd, .events = POLLIN},
                                    {.fd = watch->signal_fd, .events = POLLIN}};
        int timeout = -1;
        if (deadline > 0) {
            double left = deadline - now_seconds();
            timeout = left <= 0 ? 0 : left > 1000 ? 1000000 : (int)(left * 1000) + 1;
        }
        int ready = poll(pollfds, 2, timeout);
        if (ready > 0 && pollfds[0].revents)
            return NULL;
        if (ready > 0 && pollfds[1].revents)
            take_signal(watch, &signals);
        if (deadline > 0 && now_seconds() >= deadline) {
            deadline = 0;
            atomic_store(&watch->timed_out, true);
            vd_vm_stop(watch->vm);
        }
    }
}

int watch_start(struct watch *watch, struct vd_vm *vm, double time_limit)
{
    sigset_t set = watched_signals();
    watch->vm = vm;
    watch->time_limit = time_limit;
    atomic_store(&watch->timed_out, false);
    watch->end_fd = eventfd(0, EFD_CLOEXEC);
    watch->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    int status = watch->end_fd < 0 || watch->signal_fd < 0 ? errno : 0;
    if (!status)
        status = pthread_create(&watch->thread, NULL, watch_thread, watch);
    if (!status)
        return 0;
    fprintf(stderr, "vedette: cannot watch for signals: %s\n", strerror(status));
    if (watch->end_fd >= 0)
        close(watch->end_fd);
    if (watch->signal_fd >= 0)
        close(watch->signal_fd);
    return -1;
}

void watch_end(struct watch *watch)
{
    uint64_t one = 1;
    if (write(watch->end_fd, &one, sizeof(one)) != sizeof(one))
        return;
    pthread_join(watch->thread, NULL);
    close(watch->end_fd);
    close(watch->signal_fd);
}
