/*
 * Bytes on their way to a file descriptor. Writers append to a buffer; one thread writes it out.
 *
 * Waking a thread costs the waker microseconds and UARTs send one byte at a time, so the thread is
 * woken only from idle; while it is active it looks again every 2 ms. Nothing is dropped: a writer
 * that finds the buffer full waits for room. The exceptions are a broken descriptor (reported
 * once) and output_queue_set_patient.
 */
#ifndef VD_HOSTIO_OUTPUT_QUEUE_H
#define VD_HOSTIO_OUTPUT_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { OUTPUT_QUEUE_SIZE = 1 << 18 };

struct output_queue {
    int fd;
    char name[256]; /* for messages */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wanted, room;
    uint8_t *bytes; /* ring of OUTPUT_QUEUE_SIZE */
    size_t head, count;
    bool idle;      /* the thread sleeps until it is woken */
    bool closing;   /* write what is left, then end */
    bool impatient; /* do not wait for a slow reader */
    bool broken;    /* writing failed for good: swallow everything */
};

/* Starts the thread; fd stays the caller's and must live until output_queue_stop. */
int output_queue_start(struct output_queue *queue, int fd, const char *name, struct vd_error *err);
void output_queue_write(struct output_queue *queue, const uint8_t *data, size_t size);
/*
 * Without patience a full buffer drops bytes, and stop waits only while the reader keeps reading (a
 * second without progress is the end): somebody wants out.
 */
void output_queue_set_patient(struct output_queue *queue, bool patient);
/* Writes out the rest and ends the thread. */
void output_queue_stop(struct output_queue *queue);

#endif
