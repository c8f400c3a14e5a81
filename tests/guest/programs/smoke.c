/*
 * System calls that every program relies on: pipes, poll, mmap and mprotect, files, signals
 * between processes, threads with locks and thread-local storage, timers, sockets, shared memory
 * with atomics, 64-bit arithmetic helpers, large stacks. Prints one line per part.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int part_pipe(void)
{
    int to[2], from[2], status, bad = 0;
    char byte = 0;

    if (pipe(to) != 0 || pipe(from) != 0)
        return 1;
    pid_t pid = fork();

    if (pid == 0) {
        while (read(to[0], &byte, 1) == 1 && byte != 'q')
            if (write(from[1], &byte, 1) != 1)
                _exit(1);
        _exit(7);
    }
    for (int i = 0; i < 2000; i++) {
        char sent = (char)('a' + i % 16);

        bad |= write(to[1], &sent, 1) != 1 || read(from[0], &byte, 1) != 1 || byte != sent;
    }
    byte = 'q';
    bad |= write(to[1], &byte, 1) != 1;
    waitpid(pid, &status, 0);
    struct pollfd p = {.fd = from[0], .events = POLLIN};

    bad |= poll(&p, 1, 0) != 0;
    for (int i = 0; i < 2; i++) {
        close(to[i]);
        close(from[i]);
    }
    return bad | (WEXITSTATUS(status) != 7);
}

static int part_memory(void)
{
    enum { SIZE = 16 << 20 };
    uint8_t *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int bad = 0, status;

    if (p == MAP_FAILED)
        return 1;
    for (unsigned i = 0; i < SIZE; i += 4096) {
        bad |= p[i] != 0;
        memcpy(p + i, &i, 4);
    }
    pid_t pid = fork(); /* copy on write: the child's changes stay its own */

    if (pid == 0) {
        for (unsigned i = 0; i < SIZE; i += 4096)
            p[i + 8] = 0xee;
        _exit(0);
    }
    waitpid(pid, &status, 0);
    for (unsigned i = 0; i < SIZE; i += 4096)
        bad |= p[i + 8] != 0 || memcmp(p + i, &i, 4) != 0;
    uint8_t *moved = mremap(p, SIZE, 2 * SIZE, MREMAP_MAYMOVE);

    if (moved == MAP_FAILED)
        return 1;
    unsigned last = SIZE - 4096;

    bad |= memcmp(moved + last, &last, 4) != 0 || moved[SIZE] != 0;
    madvise(moved, SIZE, MADV_DONTNEED);
    bad |= moved[last] != 0;
    munmap(moved, 2 * SIZE);
    return bad | status;
}

static int part_files(void)
{
    char buffer[10000], back[10000];
    struct stat st;
    int fd = open("/tmp/smoke", O_RDWR | O_CREAT | O_TRUNC, 0600), bad = 0;

    if (fd < 0)
        return 1;
    for (size_t i = 0; i < sizeof(buffer); i++)
        buffer[i] = (char)(i * 31);
    for (int i = 0; i < 50; i++)
        bad |= write(fd, buffer, sizeof(buffer)) != sizeof(buffer);
    bad |= fstat(fd, &st) != 0 || st.st_size != 50 * (off_t)sizeof(buffer);
    bad |= pread(fd, back, sizeof(back), 20 * (off_t)sizeof(buffer)) != sizeof(back);
    bad |= memcmp(buffer, back, sizeof(back)) != 0;
    char *mapped = mmap(NULL, 500000, PROT_READ, MAP_SHARED, fd, 0);

    bad |= mapped == MAP_FAILED || memcmp(mapped + 490000, buffer, 10000) != 0;
    bad |= open("/tmp/missing", O_RDONLY) != -1 || errno != ENOENT;
    close(fd);
    return bad | unlink("/tmp/smoke");
}

struct counters {
    pthread_mutex_t lock;
    long locked;
    atomic_long atomic;
};

static _Thread_local long own;

static void *count(void *context)
{
    struct counters *c = context;

    for (int i = 0; i < 20000; i++) {
        own++;
        atomic_fetch_add(&c->atomic, 3);
        pthread_mutex_lock(&c->lock);
        c->locked++;
        pthread_mutex_unlock(&c->lock);
    }
    return (void *)own;
}

static int part_threads(void)
{
    struct counters c = {.lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t threads[4];
    int bad = 0;

    for (int i = 0; i < 4; i++)
        bad |= pthread_create(&threads[i], NULL, count, &c);
    for (int i = 0; i < 4; i++) {
        void *result;

        bad |= pthread_join(threads[i], &result) | ((long)result != 20000);
    }
    return bad | (c.locked != 80000) | (c.atomic != 240000) | (own != 0);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int signal_number)
{
    (void)signal_number;
    alarms = alarms + 1;
}

static int part_timers(void)
{
    struct itimerval every = {{0, 10000}, {0, 10000}}, off = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = on_alarm};

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
    for (time_t end = time(NULL) + 20; alarms < 20 && time(NULL) < end;)
        if (alarms & 1)
            pause();
    setitimer(ITIMER_REAL, &off, NULL);
    return alarms < 20;
}

static int part_sockets(void)
{
    int pair[2], bad = 0;
    char text[32] = {0};

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return 1;
    bad |= write(pair[0], "through a socket", 16) != 16;
    bad |= read(pair[1], text, sizeof(text)) != 16 || strcmp(text, "through a socket") != 0;
    close(pair[0]);
    bad |= read(pair[1], text, 1) != 0;
    close(pair[1]);
    return bad;
}

static int part_shared(void)
{
    atomic_uint *shared =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;

    if (shared == MAP_FAILED)
        return 1;
    for (int i = 0; i < 4; i++)
        if (fork() == 0) {
            for (int j = 0; j < 50000; j++)
                atomic_fetch_add(shared, 1);
            _exit(0);
        }
    while (wait(&status) > 0) {
    }
    return *shared != 200000;
}

static int recurse(int depth)
{
    volatile char room[1000];

    room[0] = (char)depth;
    return depth == 0 ? 0 : recurse(depth - 1) + room[0] - (char)depth + 1;
}

static int part_stack(void)
{
    return recurse(5000) != 5000;
}

static int part_arithmetic(void)
{
    volatile uint64_t a = 0xfedcba9876543210u, b = 0x12345;
    volatile int64_t c = -0x123456789abcdef, d = 0x1234567;

    return a / b != 0xe0004fa01c4du || a % b != 0x10a4f || a * b != 0x999999999999ae50u ||
           c / d != -4294967417 || c % d != -64 || (c >> 7) != -0x2468acf13579c;
}

int main(void)
{
    static const struct {
        const char *name;
        int (*run)(void);
    } parts[] = {
        {"pipe", part_pipe},       {"memory", part_memory}, {"files", part_files},
        {"threads", part_threads}, {"timers", part_timers}, {"sockets", part_sockets},
        {"shared", part_shared},   {"stack", part_stack},   {"arithmetic", part_arithmetic}};
    int bad = 0;

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        int result = parts[i].run();

        printf("smoke %s %s\n", parts[i].name, result ? "FAILED" : "ok");
        bad |= result;
    }
    return bad;
}
