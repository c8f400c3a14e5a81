/* Stops a machine on SIGINT, SIGTERM and SIGHUP, or when its time is up. */
#ifndef VD_CLI_WATCH_H
#define VD_CLI_WATCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "vedette/vedette.h"

struct watch {
    struct vd_vm *vm;
    double time_limit; /* seconds, 0: none */
    pthread_t thread;
    int signal_fd, end_fd;
    atomic_bool timed_out;
};

/*
 * Blocks the signals in the calling thread and all it creates. Before vd_vm_create, so that no
 * thread of the machine is ever interrupted by them.
 */
void watch_block_signals(void);
/* -1 with a message printed. */
int watch_start(struct watch *watch, struct vd_vm *vm, double time_limit);
void watch_end(struct watch *watch);

#endif
