/*
 * A thread that reads bytes from a descriptor and hands them on when somebody wants them.
 *
 * From a terminal it also recognises the escape key Ctrl-A, even while nobody takes input. Bytes
 * from a pipe or file pass unchanged, and reading pauses while the buffer is full. End of file only
 * ends input.
 */
#ifndef VD_HOSTIO_INPUT_PUMP_H
#define VD_HOSTIO_INPUT_PUMP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { INPUT_PUMP_SIZE = 4096 };

struct input_pump_handler {
    void *ctx;
    size_t (*deliver)(void *ctx, const uint8_t *data, size_t size); /* returns how many it took */
    void (*command)(void *ctx, char key);                           /* Ctrl-A key (not Ctrl-A) */
};

struct input_pump {
    struct input_pump_handler handler;
    pthread_t thread;
    int fd, wake_fd;
    bool terminal;
    bool ended;  /* end of file or a read error */
    bool escape; /* Ctrl-A seen */
    atomic_bool closing;
    uint8_t bytes[INPUT_PUMP_SIZE]; /* from 0, in order */
    size_t count;
};

/* fd stays the caller's. */
int input_pump_start(struct input_pump *pump, int fd, bool terminal,
                     const struct input_pump_handler *handler, struct vd_error *err);
/* Tries to deliver again, soon, on the pump's thread. Any thread. */
void input_pump_wake(struct input_pump *pump);
void input_pump_stop(struct input_pump *pump);

#endif
