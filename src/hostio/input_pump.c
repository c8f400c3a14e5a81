#include "hostio/input_pump.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hostio/terminal.h"

enum { CTRL_A = 1, BACKGROUND_POLL_MS = 200, CHUNK = 256 };

static void append(struct input_pump *pump, uint8_t byte)
{
    /* Only a terminal gets here with a full buffer; like a tty driver, it loses type-ahead. */
    if (pump->count < INPUT_PUMP_SIZE)
        pump->bytes[pump->count++] = byte;
}

static void accept_byte(struct input_pump *pump, uint8_t byte)
{
    if (!pump->terminal) {
        append(pump, byte);
    } else if (pump->escape) {
        pump->escape = false;
        if (byte == CTRL_A)
            append(pump, byte);
        else
            pump->handler.command(pump->handler.ctx, (char)byte);
    } else if (byte == CTRL_A) {
        pump->escape = true;
    } else {
        append(pump, byte);
    }
}

/* Reads once. Returns how long to leave the descriptor alone, in ms. */
static int read_some(struct input_pump *pump)
{
    uint8_t chunk[CHUNK];
    size_t room = pump->terminal ? CHUNK : INPUT_PUMP_SIZE - pump->count;
    ssize_t size = read(pump->fd, chunk, room < CHUNK ? room : CHUNK);
    if (size > 0) {
        for (ssize_t i = 0; i < size; i++)
            accept_byte(pump, chunk[i]);
    } else if (size < 0 && (errno == EINTR || errno == EAGAIN)) {
        return errno == EAGAIN ? 1 : 0;
    } else if (size < 0 && errno == EIO && terminal_in_background(pump->fd)) {
        return BACKGROUND_POLL_MS; /* readable, but not by a background job: ask again later */
    } else {
        pump->ended = true;
    }
    return 0;
}

static void *input_thread(void *arg)
{
    struct input_pump *pump = arg;
    int pause = 0;
    while (!atomic_load(&pump->closing)) {
        bool want = !pump->ended && (pump->terminal || pump->count < INPUT_PUMP_SIZE);
        struct pollfd pollfds[2] = {
            {.fd = pump->wake_fd, .events = POLLIN},
            {.fd = want && !pause ? pump->fd : -1, .events = POLLIN},
        };
        if (poll(pollfds, 2, pause ? pause : -1) < 0 && errno != EINTR)
            break;
        pause = 0;
        if (pollfds[0].revents) {
            uint64_t wakes;
            if (read(pump->wake_fd, &wakes, sizeof(wakes)) < 0 && errno != EAGAIN && errno != EINTR)
                break;
        }
        if (pollfds[1].revents)
            pause = read_some(pump);
        if (pump->count) {
            size_t taken = pump->handler.deliver(pump->handler.ctx, pump->bytes, pump->count);
            pump->count -= taken;
            memmove(pump->bytes, pump->bytes + taken, pump->count);
        }
    }
    return NULL;
}

int input_pump_start(struct input_pump *pump, int fd, bool terminal,
                     const struct input_pump_handler *handler, struct vd_error *err)
{
    sigset_t all, old;
    memset(pump, 0, sizeof(*pump));
    pump->handler = *handler;
    pump->fd = fd;
    pump->terminal = terminal;
    pump->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pump->wake_fd < 0)
        return error_set(err, "cannot create an eventfd: %s", strerror(errno));
    /* With SIGTTIN blocked a read in the background fails instead of stopping the machine. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int status = pthread_create(&pump->thread, NULL, input_thread, pump);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (status) {
        close(pump->wake_fd);
        return error_set(err, "cannot start a thread: %s", strerror(status));
    }
    return 0;
}

void input_pump_wake(struct input_pump *pump)
{
    uint64_t one = 1;
    /* EAGAIN means the counter is full of wakes already. */
    if (write(pump->wake_fd, &one, sizeof(one)) < 0)
        return;
}

void input_pump_stop(struct input_pump *pump)
{
    atomic_store(&pump->closing, true);
    input_pump_wake(pump);
    pthread_join(pump->thread, NULL);
    close(pump->wake_fd);
}
