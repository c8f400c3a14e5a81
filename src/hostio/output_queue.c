#include "hostio/output_queue.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

enum { COALESCE_NS = 2000000, SLOW_POLL_MS = 50, IMPATIENT_TRIES = 20 };

static void cond_init_monotonic(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

/* Waits until the descriptor takes bytes again; false: give up. Called without the mutex. */
static bool wait_writable(struct output_queue *queue, unsigned *tries)
{
    struct pollfd pollfd = {.fd = queue->fd, .events = POLLOUT};
    poll(&pollfd, 1, SLOW_POLL_MS);
    pthread_mutex_lock(&queue->mutex);
    bool impatient = queue->impatient;
    pthread_mutex_unlock(&queue->mutex);
    return !impatient || ++*tries < IMPATIENT_TRIES;
}

/* Writes one contiguous piece. -1: the descriptor is broken, or the user does not want to wait. */
static int write_piece(struct output_queue *queue, const uint8_t *bytes, size_t size)
{
    unsigned tries = 0;
    while (size) {
        struct pollfd pollfd = {.fd = queue->fd, .events = POLLOUT};
        /* A blocking write could not be interrupted by a loss of patience: ask first, write what
         * fits. */
        if (poll(&pollfd, 1, 0) == 0) {
            if (!wait_writable(queue, &tries))
                return -1;
            continue;
        }
        /* POLLOUT on a pipe promises PIPE_BUF bytes, no more. */
        ssize_t done = write(queue->fd, bytes, size < 4096 ? size : 4096);
        if (done >= 0) {
            bytes += done;
            size -= (size_t)done;
            tries = 0;
        } else if (errno == EAGAIN) {
            if (!wait_writable(queue, &tries))
                return -1;
        } else if (errno != EINTR) {
            log_warn("%s: %s; further output is discarded", queue->name, strerror(errno));
            return -1;
        }
    }
    return 0;
}

static void coalesce(struct output_queue *queue)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += COALESCE_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    while (!queue->closing && queue->count < OUTPUT_QUEUE_SIZE / 2)
        if (pthread_cond_timedwait(&queue->wanted, &queue->mutex, &until))
            break;
}

static void *output_thread(void *arg)
{
    struct output_queue *queue = arg;
    pthread_mutex_lock(&queue->mutex);
    for (;;) {
        while (!queue->count && !queue->closing) {
            queue->idle = true;
            pthread_cond_wait(&queue->wanted, &queue->mutex);
            queue->idle = false;
        }
        if (!queue->count)
            break;
        size_t size = queue->count;
        if (size > OUTPUT_QUEUE_SIZE - queue->head)
            size = OUTPUT_QUEUE_SIZE - queue->head;
        bool broken = queue->broken;
        pthread_mutex_unlock(&queue->mutex);
        if (!broken)
            broken = write_piece(queue, queue->bytes + queue->head, size) < 0;
        pthread_mutex_lock(&queue->mutex);
        queue->broken = broken;
        queue->head = (queue->head + size) % OUTPUT_QUEUE_SIZE;
        queue->count -= size;
        pthread_cond_broadcast(&queue->room);
        if (!queue->closing)
            coalesce(queue);
    }
    pthread_mutex_unlock(&queue->mutex);
    return NULL;
}

int output_queue_start(struct output_queue *queue, int fd, const char *name, struct vd_error *err)
{
    sigset_t all, old;
    memset(queue, 0, sizeof(*queue));
    queue->fd = fd;
    snprintf(queue->name, sizeof(queue->name), "%s", name);
    queue->bytes = malloc(OUTPUT_QUEUE_SIZE);
    if (!queue->bytes)
        return error_set(err, "%s: out of memory", name);
    pthread_mutex_init(&queue->mutex, NULL);
    cond_init_monotonic(&queue->wanted);
    pthread_cond_init(&queue->room, NULL);
    /* SIGPIPE must become EPIPE, and signals that ask the process to stop belong elsewhere. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int status = pthread_create(&queue->thread, NULL, output_thread, queue);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (status) {
        pthread_cond_destroy(&queue->room);
        pthread_cond_destroy(&queue->wanted);
        pthread_mutex_destroy(&queue->mutex);
        free(queue->bytes);
        return error_set(err, "%s: cannot start a thread: %s", name, strerror(status));
    }
    return 0;
}

void output_queue_write(struct output_queue *queue, const uint8_t *data, size_t size)
{
    pthread_mutex_lock(&queue->mutex);
    while (size && !queue->broken) {
        size_t room = OUTPUT_QUEUE_SIZE - queue->count;
        if (!room) {
            if (queue->impatient)
                break;
            pthread_cond_wait(&queue->room, &queue->mutex);
            continue;
        }
        size_t tail = (queue->head + queue->count) % OUTPUT_QUEUE_SIZE;
        size_t piece = OUTPUT_QUEUE_SIZE - tail;
        if (piece > room)
            piece = room;
        if (piece > size)
            piece = size;
        memcpy(queue->bytes + tail, data, piece);
        queue->count += piece;
        data += piece;
        size -= piece;
        if (queue->idle || queue->count >= OUTPUT_QUEUE_SIZE / 2)
            pthread_cond_signal(&queue->wanted);
    }
    pthread_mutex_unlock(&queue->mutex);
}

void output_queue_set_patient(struct output_queue *queue, bool patient)
{
    pthread_mutex_lock(&queue->mutex);
    queue->impatient = !patient;
    pthread_cond_broadcast(&queue->room);
    pthread_mutex_unlock(&queue->mutex);
}

void output_queue_stop(struct output_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->closing = true;
    pthread_cond_signal(&queue->wanted);
    pthread_mutex_unlock(&queue->mutex);
    pthread_join(queue->thread, NULL);
    pthread_cond_destroy(&queue->room);
    pthread_cond_destroy(&queue->wanted);
    pthread_mutex_destroy(&queue->mutex);
    free(queue->bytes);
}
