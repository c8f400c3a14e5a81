/*
 * A program that writes and runs its own code, in the ways that real ones do:
 *
 *   rwx      rewrites a function in a read-write-execute mapping and calls it at once
 *   alias    writes through one mapping of a shared file and runs another (W^X)
 *   protect  mprotect back and forth between writable and executable
 *   next     an instruction that changes the one behind it (immediate, same block)
 *   loop     a loop that patches its own body on every turn
 *   mixed    code and data that changes all the time on one page
 *   remap    another file page mapped at the same address
 *   cross    a patched instruction that lies on a page boundary
 *   thread   one thread writes new functions, another calls them (hand-over with a lock)
 *
 * Prints one line per way; exit status 1 when a stale instruction ran.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef uint32_t (*function)(void);
enum { PAGE = 4096 };

static int failures;

static void check(const char *way, unsigned turn, uint32_t got, uint32_t wanted)
{
    if (got == wanted)
        return;
    if (failures++ < 10)
        printf("jit %s turn %u: ran %#x instead of %#x\n", way, turn, got, wanted);
}

/* mov eax, value; ret */
static void emit_constant(uint8_t *code, uint32_t value)
{
    code[0] = 0xb8;
    memcpy(code + 1, &value, 4);
    code[5] = 0xc3;
}

/* A chain of additions that gives the value; uses several blocks' worth of code. */
static void emit_chain(uint8_t *code, uint32_t value, unsigned length)
{
    uint32_t sum = 0;

    *code++ = 0x31; /* xor eax, eax */
    *code++ = 0xc0;
    for (unsigned i = 0; i < length; i++) {
        uint32_t part = i + 1 == length ? value - sum : value * (i + 3) ^ i;

        *code++ = 0x05; /* add eax, imm32 */
        memcpy(code, &part, 4);
        code += 4;
        sum += part;
        if (i % 5 == 4) { /* jmp over one int3 */
            *code++ = 0xeb;
            *code++ = 0x01;
            *code++ = 0xcc;
        }
    }
    *code = 0xc3;
}

static uint8_t *map(size_t size, int protection, int fd)
{
    void *p =
        mmap(NULL, size, protection, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);

    if (p == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return p;
}

static function callable(uint8_t *code)
{
    function f;

    memcpy(&f, &code, sizeof(f));
    return f;
}

static void way_rwx(unsigned turns)
{
    uint8_t *code = map(2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, -1);

    for (unsigned i = 0; i < turns; i++) {
        uint8_t *at = code + i * 37 % PAGE;

        if (i & 1)
            emit_constant(at, i * 2654435761u);
        else
            emit_chain(at, i * 2654435761u, i % 60 + 1);
        check("rwx", i, callable(at)(), i * 2654435761u);
        check("rwx again", i, callable(at)(), i * 2654435761u);
    }
    munmap(code, 2 * PAGE);
}

static void way_alias(unsigned turns)
{
    int fd = memfd_create("jit", 0);

    if (fd < 0 || ftruncate(fd, PAGE) != 0) {
        perror("memfd");
        exit(1);
    }
    uint8_t *writable = map(PAGE, PROT_READ | PROT_WRITE, fd);
    uint8_t *runnable = map(PAGE, PROT_READ | PROT_EXEC, fd);

    for (unsigned i = 0; i < turns; i++) {
        emit_chain(writable + i % 7, i ^ 0x5a5a5a5a, i % 40 + 1);
        check("alias", i, callable(runnable + i % 7)(), i ^ 0x5a5a5a5a);
    }
    munmap(writable, PAGE);
    munmap(runnable, PAGE);
    close(fd);
}

static void way_protect(unsigned turns)
{
    uint8_t *code = map(PAGE, PROT_READ | PROT_WRITE, -1);

    for (unsigned i = 0; i < turns; i++) {
        emit_constant(code, ~i);
        mprotect(code, PAGE, PROT_READ | PROT_EXEC);
        check("protect", i, callable(code)(), ~i);
        mprotect(code, PAGE, PROT_READ | PROT_WRITE);
    }
    munmap(code, PAGE);
}

/*
 * mov byte [next+1], value; next: mov eax, 0 -> the store hits the immediate behind it. The same
 * bytes mean the same in 32-bit and 64-bit code except for the address: C6 05 disp32 is relative
 * to the next instruction in 64-bit code and absolute in 32-bit code.
 */
static void way_next(unsigned turns)
{
    uint8_t *code = map(PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, -1);

    for (unsigned i = 0; i < turns; i++) {
        uint8_t *at = code;
        uint32_t target = sizeof(void *) == 8 ? 1 : (uint32_t)(uintptr_t)(code + 8);

        *at++ = 0xc6;
        *at++ = 0x05;
        memcpy(at, &target, 4);
        at += 4;
        *at++ = (uint8_t)i;
        emit_constant(at, 0xffffff00 | (uint8_t)~i);
        check("next", i, callable(code)(), 0xffffff00 | (uint8_t)i);
    }
    munmap(code, PAGE);
}

/* ecx counts down; every turn the added immediate grows by one: the sum shows each was seen. */
static void way_loop(unsigned turns)
{
    uint8_t *code = map(PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, -1);
    uint8_t *at = code;
    uint32_t target, sum = 0;

    *at++ = 0x31; /* xor eax, eax */
    *at++ = 0xc0;
    *at++ = 0xb9; /* mov ecx, turns */
    memcpy(at, &turns, 4);
    at += 4;
    uint8_t *top = at;

    *at++ = 0x05; /* add eax, 1 (immediate is patched) */
    target = 1;
    memcpy(at, &target, 4);
    uint8_t *immediate = at;

    at += 4;
    *at++ = 0xff; /* inc dword [immediate] */
    *at++ = 0x05;
    target =
        sizeof(void *) == 8 ? (uint32_t)(immediate - (at + 4)) : (uint32_t)(uintptr_t)immediate;
    memcpy(at, &target, 4);
    at += 4;
    *at++ = 0x83; /* sub ecx, 1 */
    *at++ = 0xe9;
    *at++ = 0x01;
    *at = 0x75; /* jnz top */
    at[1] = (uint8_t)(top - (at + 2));
    at[2] = 0xc3;
    for (uint32_t i = 1; i <= turns; i++)
        sum += i;
    check("loop", turns, callable(code)(), sum);
    munmap(code, PAGE);
}

static void way_mixed(unsigned turns)
{
    uint8_t *code = map(PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, -1);
    volatile uint32_t *data = (volatile uint32_t *)(void *)(code + 2048);

    emit_constant(code, 77);
    for (unsigned i = 0; i < turns; i++) {
        data[i % 512] = i;
        check("mixed", i, callable(code)(), 77);
        check("mixed data", i, data[i % 512], i);
    }
    emit_constant(code, 78);
    check("mixed end", turns, callable(code)(), 78);
    munmap(code, PAGE);
}

static void way_remap(unsigned turns)
{
    int fd = memfd_create("jit", 0);

    if (fd < 0 || ftruncate(fd, 2 * PAGE) != 0) {
        perror("memfd");
        exit(1);
    }
    uint8_t *pages = map(2 * PAGE, PROT_READ | PROT_WRITE, fd);
    uint8_t *code = map(PAGE, PROT_READ | PROT_EXEC, fd);

    emit_constant(pages, 1000);
    emit_constant(pages + PAGE, 2000);
    for (unsigned i = 0; i < turns; i++) {
        if (mmap(code, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, (i & 1) * PAGE) ==
            MAP_FAILED) {
            perror("mmap");
            exit(1);
        }
        check("remap", i, callable(code)(), i & 1 ? 2000 : 1000);
    }
    munmap(pages, 2 * PAGE);
    munmap(code, PAGE);
    close(fd);
}

static void way_cross(unsigned turns)
{
    uint8_t *code = map(2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, -1);

    for (unsigned i = 0; i < turns; i++) {
        uint8_t *at = code + PAGE - 1 - i % 5;

        emit_constant(at, i * 12345);
        check("cross", i, callable(at)(), i * 12345);
        code[PAGE + 2] ^= 0; /* a write that changes nothing */
        check("cross again", i, callable(at)(), i * 12345);
    }
    munmap(code, 2 * PAGE);
}

struct handover {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint8_t *code;
    unsigned turn; /* even: the writer's, odd: the caller's */
    unsigned turns;
};

static void *handover_writer(void *context)
{
    struct handover *h = context;

    for (unsigned i = 0; i < h->turns; i++) {
        pthread_mutex_lock(&h->lock);
        while (h->turn != 2 * i)
            pthread_cond_wait(&h->changed, &h->lock);
        emit_chain(h->code, i * 31 + 7, i % 30 + 1);
        h->turn++;
        pthread_cond_signal(&h->changed);
        pthread_mutex_unlock(&h->lock);
    }
    return NULL;
}

static void way_thread(unsigned turns)
{
    struct handover h = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, 0, turns};
    pthread_t writer;

    h.code = map(PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, -1);
    pthread_create(&writer, NULL, handover_writer, &h);
    for (unsigned i = 0; i < turns; i++) {
        pthread_mutex_lock(&h.lock);
        while (h.turn != 2 * i + 1)
            pthread_cond_wait(&h.changed, &h.lock);
        check("thread", i, callable(h.code)(), i * 31 + 7);
        h.turn++;
        pthread_cond_signal(&h.changed);
        pthread_mutex_unlock(&h.lock);
    }
    pthread_join(writer, NULL);
    munmap(h.code, PAGE);
}

int main(int argc, char **argv)
{
    unsigned turns = argc > 1 ? (unsigned)atoi(argv[1]) : 2000;
    static const struct {
        const char *name;
        void (*run)(unsigned turns);
    } ways[] = {{"rwx", way_rwx},     {"alias", way_alias}, {"protect", way_protect},
                {"next", way_next},   {"loop", way_loop},   {"mixed", way_mixed},
                {"remap", way_remap}, {"cross", way_cross}, {"thread", way_thread}};

    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        int before = failures;

        ways[i].run(turns);
        printf("jit %s %s\n", ways[i].name, failures == before ? "ok" : "FAILED");
    }
    return failures != 0;
}
