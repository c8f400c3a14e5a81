/* Character back ends over pipes, files and callbacks. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "hostio/chardev.h"
#include "support/scratch.h"

/* A receiver as a UART has it: takes at most room bytes, then wants chardev_accept_input. */
struct sink {
    pthread_mutex_t lock;
    uint8_t bytes[1 << 17];
    size_t count, room;
    bool overrun, unlocked;
};

static void sink_check_lock(struct sink *sink)
{
    if (pthread_mutex_trylock(&sink->lock) == 0) {
        sink->unlocked = true;
        pthread_mutex_unlock(&sink->lock);
    }
}

static size_t sink_can_receive(void *ctx)
{
    struct sink *sink = ctx;
    sink_check_lock(sink);
    return sink->room;
}

static void sink_receive(void *ctx, const uint8_t *data, size_t size)
{
    struct sink *sink = ctx;
    sink_check_lock(sink);
    if (size > sink->room || sink->count + size > sizeof(sink->bytes)) {
        sink->overrun = true;
        return;
    }
    memcpy(sink->bytes + sink->count, data, size);
    sink->count += size;
    sink->room -= size;
}

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static size_t sink_wait(struct sink *sink, size_t count)
{
    size_t now = 0;
    for (int i = 0; i < 3000; i++) {
        pthread_mutex_lock(&sink->lock);
        now = sink->count;
        pthread_mutex_unlock(&sink->lock);
        if (now >= count)
            break;
        sleep_ms(1);
    }
    return now;
}

/* Standard input and output replaced by the given descriptors for the life of one chardev. */
struct stdio_swap {
    int in, out;
};

static struct stdio_swap swap_stdio(int in, int out)
{
    struct stdio_swap swap = {dup(0), dup(1)};
    if (in >= 0)
        dup2(in, 0);
    else
        close(0);
    if (out >= 0)
        dup2(out, 1);
    else
        close(1);
    return swap;
}

static void restore_stdio(struct stdio_swap swap)
{
    dup2(swap.in, 0);
    dup2(swap.out, 1);
    close(swap.in);
    close(swap.out);
}

static const struct chardev_receiver *receiver_of(struct chardev_receiver *receiver,
                                                  struct sink *sink)
{
    memset(sink, 0, sizeof(*sink));
    pthread_mutex_init(&sink->lock, NULL);
    *receiver = (struct chardev_receiver){sink, sink_can_receive, sink_receive};
    return receiver;
}

static void test_specs(void **state)
{
    (void)state;
    struct chardev *chardev;
    struct vd_error err;
    assert_int_equal(chardev_open(&chardev, "telegraph", NULL, NULL, &err), -1);
    assert_non_null(strstr(err.text, "telegraph"));
    assert_int_equal(chardev_open(&chardev, "file:", NULL, NULL, &err), -1);
    assert_int_equal(chardev_open(&chardev, "file:/nonexistent/x", NULL, NULL, &err), -1);
    assert_non_null(strstr(err.text, "/nonexistent/x"));
    assert_non_null(strstr(err.text, "No such file"));
    assert_int_equal(chardev_open(&chardev, "file:/", NULL, NULL, &err), -1);
    assert_int_equal(chardev_open(&chardev, "none", NULL, NULL, &err), 0);
    chardev_write(chardev, (const uint8_t *)"x", 1);
    chardev_accept_input(chardev);
    chardev_close(chardev);
}

static void test_file_keeps_every_byte(void **state)
{
    (void)state;
    struct scratch scratch;
    char path[SCRATCH_PATH], spec[SCRATCH_PATH + 8];
    struct chardev *chardev;
    struct vd_error err;
    assert_int_equal(scratch_open(&scratch), 0);
    scratch_path(&scratch, "output", path);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(write(fd, "old content", 11) == 11);
    snprintf(spec, sizeof(spec), "file:%s", path);
    assert_int_equal(chardev_open(&chardev, spec, NULL, NULL, &err), 0);
    const size_t total = 1000003; /* several times the buffer */
    for (size_t i = 0; i < total;) {
        uint8_t chunk[977];
        size_t size = total - i < sizeof(chunk) ? total - i : sizeof(chunk);
        for (size_t j = 0; j < size; j++)
            chunk[j] = (uint8_t)((i + j) * 131 >> 3);
        chardev_write(chardev, chunk, size);
        i += size;
    }
    chardev_close(chardev);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, total);
    uint8_t *bytes = malloc(total);
    assert_true(pread(fd, bytes, total, 0) == (ssize_t)total);
    for (size_t i = 0; i < total; i++)
        if (bytes[i] != (uint8_t)(i * 131 >> 3))
            fail_msg("byte %zu differs", i);
    free(bytes);
    close(fd);
    assert_int_equal(scratch_close(&scratch), 0);
}

static void test_prepare_touches_nothing(void **state)
{
    (void)state;
    struct scratch scratch;
    char path[SCRATCH_PATH], spec[SCRATCH_PATH + 8], text[32];
    struct chardev *chardev;
    struct vd_error err;
    assert_int_equal(scratch_open(&scratch), 0);
    scratch_path(&scratch, "output", path);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(write(fd, "precious", 8) == 8);
    snprintf(spec, sizeof(spec), "file:%s", path);
    assert_int_equal(chardev_prepare(&chardev, spec, NULL, NULL, &err), 0);
    chardev_write(chardev, (const uint8_t *)"early ", 6);
    chardev_set_patient(chardev, false);
    assert_int_equal(pread(fd, text, sizeof(text), 0), 8);
    chardev_close(chardev);
    assert_int_equal(pread(fd, text, sizeof(text), 0), 8);

    assert_int_equal(chardev_prepare(&chardev, spec, NULL, NULL, &err), 0);
    chardev_write(chardev, (const uint8_t *)"early ", 6);
    assert_int_equal(chardev_start(chardev, &err), 0);
    chardev_write(chardev, (const uint8_t *)"late", 4);
    chardev_close(chardev);
    assert_int_equal(pread(fd, text, sizeof(text), 0), 10);
    assert_memory_equal(text, "early late", 10);
    close(fd);
    unlink(path);
    assert_int_equal(chardev_prepare(&chardev, spec, NULL, NULL, &err), 0);
    chardev_close(chardev);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(scratch_close(&scratch), 0);
}

/* Somebody wants out while the reader is stuck: neither writing nor closing may hang. */
static void test_impatience(void **state)
{
    (void)state;
    int out[2];
    struct chardev *chardev;
    static uint8_t chunk[100000];
    assert_int_equal(pipe(out), 0);
    int null = open("/dev/null", O_RDONLY);
    struct stdio_swap swap = swap_stdio(null, out[1]);
    int status = chardev_open(&chardev, "stdio", NULL, NULL, NULL);
    if (!status) {
        chardev_set_patient(chardev, false);
        for (int i = 0; i < 20; i++)
            chardev_write(chardev, chunk, sizeof(chunk));
        chardev_close(chardev);
    }
    restore_stdio(swap);
    close(out[0]);
    close(out[1]);
    close(null);
    assert_int_equal(status, 0);
}

struct text {
    char bytes[64];
    size_t count;
};

static void text_output(void *ctx, const uint8_t *data, size_t size)
{
    struct text *text = ctx;
    memcpy(text->bytes + text->count, data, size);
    text->count += size;
}

static void test_callback(void **state)
{
    (void)state;
    struct chardev *chardev;
    struct chardev_receiver receiver;
    static struct sink sink;
    struct text text = {.count = 0};
    assert_int_equal(chardev_open_callback(&chardev, text_output, &text, NULL), 0);
    assert_int_equal(chardev_inject(chardev, (const uint8_t *)"early", 5), 0);
    chardev_connect(chardev, receiver_of(&receiver, &sink), &sink.lock);
    sink.room = 3;
    assert_int_equal(chardev_inject(chardev, (const uint8_t *)"abcdef", 6), 3);
    assert_memory_equal(sink.bytes, "abc", 3);
    assert_false(sink.unlocked);
    chardev_write(chardev, (const uint8_t *)"hello", 5);
    assert_int_equal(text.count, 5);
    assert_memory_equal(text.bytes, "hello", 5);
    chardev_close(chardev);
}

static void test_pipe_input_backpressure(void **state)
{
    (void)state;
    int in[2], out[2];
    struct chardev *chardev;
    struct chardev_receiver receiver;
    static struct sink sink;
    struct vd_error err;
    const size_t total = 40000;
    assert_int_equal(pipe(in) | pipe(out), 0);
    struct stdio_swap swap = swap_stdio(in[0], out[1]);
    int status = chardev_open(&chardev, "stdio", NULL, NULL, &err);
    assert_int_equal(status, 0);
    /* Ctrl-A is data in a pipe; everything before the connection is kept. */
    for (size_t i = 0; i < total; i++) {
        uint8_t byte = (uint8_t)(i % 251);
        assert_true(write(in[1], &byte, 1) == 1);
    }
    chardev_connect(chardev, receiver_of(&receiver, &sink), &sink.lock);
    sleep_ms(20);
    assert_int_equal(sink_wait(&sink, 0), 0); /* no room: nothing arrives */
    while (sink.count < total) {
        pthread_mutex_lock(&sink.lock);
        sink.room = 16;
        size_t want = sink.count + 16 < total ? sink.count + 16 : total;
        chardev_accept_input(chardev);
        pthread_mutex_unlock(&sink.lock);
        if (sink_wait(&sink, want) < want)
            break;
    }
    close(in[1]); /* end of file: no busy loop, output goes on */
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    sleep_ms(200);
    getrusage(RUSAGE_SELF, &after);
    chardev_write(chardev, (const uint8_t *)"done", 4);
    chardev_close(chardev);
    restore_stdio(swap);
    assert_int_equal(sink.count, total);
    assert_false(sink.overrun);
    assert_false(sink.unlocked);
    for (size_t i = 0; i < total; i++)
        assert_int_equal(sink.bytes[i], i % 251);
    long busy_us = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 +
                   (after.ru_utime.tv_usec - before.ru_utime.tv_usec) +
                   (after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000 +
                   (after.ru_stime.tv_usec - before.ru_stime.tv_usec);
    assert_true(busy_us < 50000);
    char text[8];
    assert_int_equal(read(out[0], text, sizeof(text)), 4);
    close(in[0]);
    close(out[0]);
    close(out[1]);
}

struct reader {
    int fd;
    size_t total;
    bool wrong;
};

static void *slow_reader(void *arg)
{
    struct reader *reader = arg;
    uint8_t bytes[3000];
    ssize_t size;
    sleep_ms(100);
    while ((size = read(reader->fd, bytes, sizeof(bytes))) > 0)
        for (ssize_t i = 0; i < size; i++)
            if (bytes[i] != (uint8_t)(reader->total++ % 253))
                reader->wrong = true;
    return NULL;
}

/* A non-blocking pipe whose reader is slow: EAGAIN must not lose bytes. */
static void test_pipe_output_is_complete(void **state)
{
    (void)state;
    int out[2];
    struct chardev *chardev;
    struct vd_error err;
    pthread_t thread;
    const size_t total = 1500000;
    assert_int_equal(pipe2(out, O_NONBLOCK), 0);
    fcntl(out[0], F_SETFL, 0);
    int null = open("/dev/null", O_RDONLY);
    struct stdio_swap swap = swap_stdio(null, out[1]);
    close(out[1]);
    struct reader reader = {.fd = out[0]};
    pthread_create(&thread, NULL, slow_reader, &reader);
    int status = chardev_open(&chardev, "stdio", NULL, NULL, &err);
    for (size_t i = 0; i < total && !status; i += 500) {
        uint8_t chunk[500];
        for (size_t j = 0; j < sizeof(chunk); j++)
            chunk[j] = (uint8_t)((i + j) % 253);
        chardev_write(chardev, chunk, sizeof(chunk));
    }
    if (!status)
        chardev_close(chardev);
    restore_stdio(swap);
    pthread_join(thread, NULL);
    close(out[0]);
    close(null);
    assert_int_equal(status, 0);
    assert_int_equal(reader.total, total);
    assert_false(reader.wrong);
}

/* The reader goes away: no SIGPIPE, no endless wait. */
static void test_broken_pipe(void **state)
{
    (void)state;
    int out[2];
    struct chardev *chardev;
    struct vd_error err;
    static uint8_t chunk[100000];
    assert_int_equal(pipe(out), 0);
    struct stdio_swap swap = swap_stdio(-1, out[1]); /* standard input is closed as well */
    close(out[1]);
    close(out[0]);
    int status = chardev_open(&chardev, "stdio", NULL, NULL, &err);
    if (!status) {
        for (int i = 0; i < 20; i++)
            chardev_write(chardev, chunk, sizeof(chunk));
        chardev_close(chardev);
    }
    restore_stdio(swap);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_specs),
        cmocka_unit_test(test_file_keeps_every_byte),
        cmocka_unit_test(test_prepare_touches_nothing),
        cmocka_unit_test(test_impatience),
        cmocka_unit_test(test_callback),
        cmocka_unit_test(test_pipe_input_backpressure),
        cmocka_unit_test(test_pipe_output_is_complete),
        cmocka_unit_test(test_broken_pipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
