/*
 * A character back end: bytes between a guest device (UART, debug console) and a host terminal,
 * file or socket. Output never blocks the guest for long: it is buffered by the back end. Input
 * arrives on the back end's own thread, which takes the machine lock around the receiver.
 */
#ifndef VD_HOSTIO_CHARDEV_H
#define VD_HOSTIO_CHARDEV_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct chardev;

struct chardev_receiver {
    void *ctx;
    size_t (*can_receive)(void *ctx);                             /* bytes it would take now */
    void (*receive)(void *ctx, const uint8_t *data, size_t size); /* size <= can_receive */
};

/*
 * spec: "stdio" (raw terminal if stdin is one; Ctrl-A x calls quit), "file:PATH" (output only,
 * truncated), "none". -1: unknown spec, or the file cannot be opened.
 *
 * chardev_prepare checks the spec and makes the back end, but touches neither terminal nor file:
 * what is written waits, up to a bound, for chardev_start. So a configuration can be checked as a
 * whole first.
 */
int chardev_prepare(struct chardev **chardev, const char *spec, void (*quit)(void *ctx),
                    void *quit_ctx, struct vd_error *err);
/* Opens what chardev_prepare has named. After -1 only chardev_close is allowed. */
int chardev_start(struct chardev *chardev, struct vd_error *err);
/* Both at once. */
int chardev_open(struct chardev **chardev, const char *spec, void (*quit)(void *ctx),
                 void *quit_ctx, struct vd_error *err);
/* An in-memory one for tests and embedding: output goes to a callback, input through
 * chardev_inject. */
int chardev_open_callback(struct chardev **chardev,
                          void (*output)(void *ctx, const uint8_t *data, size_t size), void *ctx,
                          struct vd_error *err);
size_t chardev_inject(struct chardev *chardev, const uint8_t *data, size_t size);
/* Connects the guest side; lock is the machine lock, taken around the receiver's functions. */
void chardev_connect(struct chardev *chardev, const struct chardev_receiver *receiver,
                     pthread_mutex_t *lock);
void chardev_write(struct chardev *chardev, const uint8_t *data, size_t size);
/*
 * Not patient: output to a slow reader is dropped once the buffer is full, so that nobody waits for
 * a terminal or pipe that is stuck while the machine is to be stopped. Back ends start patient. Any
 * thread, without the machine lock.
 */
void chardev_set_patient(struct chardev *chardev, bool patient);
/* The receiver has room again (called with the lock held). */
void chardev_accept_input(struct chardev *chardev);
/* Flushes output, restores the terminal, frees. */
void chardev_close(struct chardev *chardev);

#endif
