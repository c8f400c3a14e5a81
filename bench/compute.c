/*
 * Compute loops, timed by themselves: prints "name nanoseconds-per-iteration checksum" lines. The
 * same static binary runs on the host, in the guest under Vedette and in the guest under QEMU, so
 * the ratio of two runs is the cost of the virtual machine and nothing else.
 *
 *   compute [SECONDS per kernel, default 0.3] [NAME...]
 *
 * Each kernel runs in growing batches until one batch takes the given time; the fastest of three
 * batches counts. The checksum is that of a fixed number of iterations and must agree everywhere.
 */
#include <emmintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t kernel_fn(unsigned iterations);

static uint32_t next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

/* ---- integer ---- */

static int compare_words(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* A quicksort of our own: the library's would differ between 32 and 64 bits. */
static void sort_words(uint32_t *first, uint32_t *last)
{
    while (last - first > 12) {
        uint32_t pivot = first[(last - first) / 2], *i = first, *j = last;

        while (i <= j) {
            while (*i < pivot)
                i++;
            while (*j > pivot)
                j--;
            if (i <= j) {
                uint32_t t = *i;

                *i++ = *j;
                *j-- = t;
            }
        }
        sort_words(first, j);
        first = i;
    }
    for (uint32_t *i = first + 1; i <= last; i++)
        for (uint32_t *j = i; j > first && compare_words(j - 1, j) > 0; j--) {
            uint32_t t = j[-1];

            j[-1] = j[0];
            j[0] = t;
        }
}

static uint64_t kernel_sort(unsigned iterations)
{
    static uint32_t words[2048];
    uint32_t seed = 1;
    uint64_t sum = 0;

    while (iterations--) {
        for (unsigned i = 0; i < 2048; i++)
            words[i] = next_random(&seed);
        sort_words(words, words + 2047);
        sum += words[1024];
    }
    return sum;
}

struct node {
    struct node *child[2];
    uint32_t key;
};

static uint64_t kernel_tree(unsigned iterations)
{
    enum { NODES = 20000 };
    static struct node nodes[NODES];
    static struct node *root;
    uint32_t seed = 7;
    uint64_t found = 0;

    if (!root) {
        for (unsigned i = 0; i < NODES; i++) {
            struct node **at = &root;

            nodes[i].key = next_random(&seed);
            while (*at)
                at = &(*at)->child[nodes[i].key > (*at)->key];
            *at = &nodes[i];
        }
    }
    seed = 7;
    while (iterations--)
        for (unsigned i = 0; i < 200; i++) {
            uint32_t key = next_random(&seed) ^ (i & 1);
            const struct node *at = root;

            while (at && at->key != key)
                at = at->child[key > at->key];
            found += at != NULL;
        }
    return found;
}

static uint64_t kernel_vm(unsigned iterations)
{
    enum { LOAD, ADD, MUL, XOR, SHIFT, JUMP_LESS, STORE, MOVE, END };
    static const uint8_t program[] = {LOAD,  0, 1, MOVE,      1, 0, ADD,   0, 1,
                                      MUL,   2, 0, XOR,       2, 1, SHIFT, 2, 3,
                                      STORE, 3, 2, JUMP_LESS, 4, 3, END};
    static uint32_t memory[256];
    uint32_t r[8] = {1, 3, 5, 0, 0, 0, 0, 0};
    uint64_t sum = 0;

    while (iterations--) {
        unsigned pc = 0;

        r[4] = 0;
        for (;;) {
            unsigned a = program[pc + 1], b = program[pc + 2];

            switch (program[pc]) {
            case LOAD:
                r[a] = memory[r[b] & 255];
                break;
            case MOVE:
                r[a] += r[b] + 1;
                break;
            case ADD:
                r[a] += r[b];
                break;
            case MUL:
                r[a] *= r[b] | 1;
                break;
            case XOR:
                r[a] ^= r[b];
                break;
            case SHIFT:
                r[a] = r[a] >> b | r[a] << (32 - b);
                break;
            case STORE:
                memory[r[b] & 255] = r[a]++;
                break;
            case JUMP_LESS:
                if (++r[a] < 64)
                    pc = (unsigned)-3;
                break;
            default:
                goto done;
            }
            pc += 3;
        }
    done:
        sum += r[2];
    }
    return sum;
}

static uint64_t kernel_match(unsigned iterations)
{
    enum { SIZE = 16384 };
    static uint8_t text[SIZE + 64];
    static uint16_t head[4096], chain[SIZE];
    uint32_t seed = 3;
    uint64_t sum = 0;

    for (unsigned i = 0; i < SIZE; i++)
        text[i] =
            (uint8_t)(next_random(&seed) & 7 ? (uint8_t) "etaoin shrdlu"[next_random(&seed) % 13]
                                             : next_random(&seed));
    while (iterations--) {
        memset(head, 0, sizeof(head));
        for (unsigned at = 1; at < SIZE - 64; at++) {
            unsigned h = (text[at] * 2654435761u ^ text[at + 1] * 40503u ^ text[at + 2]) & 4095;
            unsigned candidate = head[h], best = 2;

            for (unsigned tries = 0; candidate && tries < 8; tries++) {
                unsigned n = 0;

                while (n < 32 && text[candidate + n] == text[at + n])
                    n++;
                if (n > best)
                    best = n;
                candidate = chain[candidate];
            }
            chain[at] = head[h];
            head[h] = (uint16_t)at;
            sum += best;
        }
    }
    return sum;
}

static uint64_t kernel_hash(unsigned iterations)
{
    static uint8_t data[4096];
    uint32_t a = 0x67452301, b = 0xefcdab89, c = 0x98badcfe, d = 0x10325476;

    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7);
    while (iterations--)
        for (unsigned i = 0; i < sizeof(data); i += 4) {
            uint32_t w, t;

            memcpy(&w, data + i, 4);
            t = a + ((b & c) | (~b & d)) + w + 0x5a827999;
            a = d;
            d = c;
            c = b;
            b += t << 7 | t >> 25;
        }
    return (uint64_t)a << 32 | (b ^ c ^ d);
}

static uint64_t kernel_sieve(unsigned iterations)
{
    static uint8_t composite[32768];
    uint64_t primes = 0;

    while (iterations--) {
        memset(composite, 0, sizeof(composite));
        for (unsigned i = 2; i < sizeof(composite); i++) {
            if (composite[i])
                continue;
            primes++;
            for (unsigned j = i * 2; j < sizeof(composite); j += i)
                composite[j] = 1;
        }
    }
    return primes;
}

/* Three arrays as far apart as a power of two: they compete in tables that addresses index. */
static uint64_t kernel_arrays(unsigned iterations)
{
    enum { WORDS = 4096, DISTANCE = 4 << 20 };
    static uint32_t *a;
    uint64_t sum = 0;

    if (!a)
        a = mmap(NULL, 3 * DISTANCE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t *b = a + DISTANCE / sizeof(*a), *c = b + DISTANCE / sizeof(*a);

    while (iterations--) {
        for (unsigned i = 0; i < WORDS; i++)
            a[i] = 3 * b[i] + c[i] + i;
        b[sum % WORDS]++;
        sum += a[sum % WORDS];
    }
    return sum;
}

/* Data in one page with the code that uses them, as in small programs and boot loaders. */
extern uint8_t beside_page[];
extern uint32_t beside_sum, beside_count;
void beside_run(void);
__asm__(".pushsection .text\n .balign 4096\n beside_page:\n"
        "beside_run: incl beside_sum\n decl beside_count\n jnz beside_run\n ret\n"
        ".balign 2048\n beside_sum: .long 0\n beside_count: .long 0\n .balign 4096\n .popsection");

static uint64_t kernel_beside(unsigned iterations)
{
    if (mprotect(beside_page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
        return 0;
    beside_sum = 0;
    while (iterations--) {
        beside_count = 1000;
        beside_run();
    }
    return beside_sum;
}

static uint64_t kernel_alu(unsigned iterations)
{
    uint32_t a = 1, b = 2, c = 3;

    while (iterations--)
        for (unsigned i = 0; i < 10000; i++) {
            a = (a + b) ^ (c << 5);
            b = (b << 3 | b >> 29) - a;
            c = c * 5 + (a >> 7);
        }
    return a ^ b ^ c;
}

/* ---- floating point and vectors ---- */

static uint64_t kernel_sse(unsigned iterations)
{
    double x[3] = {0, 1, 2}, v[3] = {0.1, 0.2, 0.3};

    while (iterations--)
        for (unsigned i = 0; i < 2000; i++) {
            double dx = x[0] - x[1] + 0.01, dy = x[1] - x[2], dz = x[2] - x[0];
            double r = dx * dx + dy * dy + dz * dz + 0.5;
            double f = 0.001 / (r * r);

            v[0] -= dx * f;
            v[1] += dy * f;
            v[2] -= dz * f;
            for (unsigned k = 0; k < 3; k++)
                x[k] = x[k] * 0.999 + v[k] * 0.01;
        }
    uint64_t bits;

    memcpy(&bits, &x[1], 8);
    return bits;
}

static uint64_t kernel_vector(unsigned iterations)
{
    static int16_t a[4096] __attribute__((aligned(16))), b[4096] __attribute__((aligned(16)));
    __m128i sum = _mm_setzero_si128();

    for (int i = 0; i < 4096; i++) {
        a[i] = (int16_t)(i * 31);
        b[i] = (int16_t)(i * 17 + 5);
    }
    while (iterations--)
        for (int i = 0; i < 4096; i += 8) {
            __m128i x = _mm_load_si128((const __m128i *)(const void *)(a + i));
            __m128i y = _mm_load_si128((const __m128i *)(const void *)(b + i));

            sum = _mm_add_epi32(sum, _mm_madd_epi16(x, y));
            _mm_store_si128((__m128i *)(void *)(b + i), _mm_adds_epi16(y, _mm_srai_epi16(x, 3)));
        }
    uint64_t bits[2];

    memcpy(bits, &sum, 16);
    return bits[0] ^ bits[1];
}

/* ---- control flow ---- */

__attribute__((noinline)) static unsigned fib(unsigned n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t kernel_recursion(unsigned iterations)
{
    uint64_t sum = 0;

    while (iterations--)
        sum += fib(20);
    return sum;
}

__attribute__((noinline)) static uint32_t target_add(uint32_t x)
{
    return x + 3;
}
__attribute__((noinline)) static uint32_t target_xor(uint32_t x)
{
    return x ^ 0x55;
}
__attribute__((noinline)) static uint32_t target_turn(uint32_t x)
{
    return x << 1 | x >> 31;
}
__attribute__((noinline)) static uint32_t target_mul(uint32_t x)
{
    return x * 7;
}

static uint64_t kernel_indirect(unsigned iterations)
{
    static uint32_t (*volatile const targets[])(uint32_t) = {target_add, target_xor, target_turn,
                                                             target_mul};
    uint32_t x = 1;

    while (iterations--)
        for (unsigned i = 0; i < 2000; i++)
            x = targets[i & 3](x);
    return x;
}

/* ---- memory ---- */

static uint64_t kernel_memcpy(unsigned iterations)
{
    static uint8_t from[65536], to[65536];

    while (iterations--) {
        from[iterations & 1023]++;
        memcpy(to, from, sizeof(to));
        __asm__ volatile("" : : "r"(to) : "memory");
    }
    return to[17];
}

static uint64_t kernel_memset(unsigned iterations)
{
    static uint8_t to[65536];

    while (iterations--) {
        memset(to, (int)iterations, sizeof(to));
        __asm__ volatile("" : : "r"(to) : "memory");
    }
    return to[17];
}

static uint64_t kernel_repmovs(unsigned iterations)
{
    static uint8_t from[65536], to[65536];

    while (iterations--) {
        const void *source = from;
        void *target = to;
        size_t count = sizeof(to);

        __asm__ volatile("rep movsb" : "+S"(source), "+D"(target), "+c"(count) : : "memory");
    }
    return to[17];
}

/* ---- operating system ---- */

static uint64_t kernel_syscall(unsigned iterations)
{
    uint64_t good = 1;

    while (iterations--)
        good &= syscall(SYS_getppid) >= 0;
    return good;
}

static uint64_t kernel_pipe(unsigned iterations)
{
    int to[2], from[2], status;
    char byte = 'x';

    if (pipe(to) != 0 || pipe(from) != 0)
        return 0;
    pid_t pid = fork();

    if (pid == 0) {
        close(to[1]);
        while (read(to[0], &byte, 1) == 1)
            if (write(from[1], &byte, 1) != 1)
                break;
        _exit(0);
    }
    uint64_t good = 1;

    while (iterations--)
        good &= write(to[1], &byte, 1) == 1 && read(from[0], &byte, 1) == 1;
    close(to[0]);
    close(to[1]);
    close(from[0]);
    close(from[1]);
    waitpid(pid, &status, 0);
    return good;
}

static uint64_t kernel_fork(unsigned iterations)
{
    uint64_t good = 1;
    int status;

    while (iterations--) {
        pid_t pid = fork();

        if (pid == 0)
            _exit(3);
        good &= waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3;
    }
    return good;
}

static uint64_t kernel_exec(unsigned iterations)
{
    uint64_t good = 1;
    int status;

    while (iterations--) {
        pid_t pid = fork();

        if (pid == 0) {
            execl("/proc/self/exe", "compute", "--exit", (char *)NULL);
            _exit(1);
        }
        good &= waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 0;
    }
    return good;
}

static uint64_t kernel_touch(unsigned iterations)
{
    enum { PAGES = 64 };
    uint64_t sum = 0;

    while (iterations--) {
        uint8_t *p =
            mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        for (unsigned i = 0; i < PAGES; i++)
            p[i * 4096] = 1;
        sum += p[5 * 4096];
        munmap(p, PAGES * 4096);
    }
    return sum != 0;
}

static const struct kernel {
    const char *name;
    kernel_fn *run;
    unsigned check; /* iterations of the checksum run */
    unsigned unit;  /* operations per iteration */
} kernels[] = {
    {"sort", kernel_sort, 3, 1},         {"tree", kernel_tree, 20, 200},
    {"bytecode", kernel_vm, 20, 1},      {"match", kernel_match, 1, 1},
    {"hash", kernel_hash, 5, 1},         {"sieve", kernel_sieve, 2, 1},
    {"arrays", kernel_arrays, 5, 1},     {"beside", kernel_beside, 5, 1},
    {"alu", kernel_alu, 5, 1},           {"sse", kernel_sse, 3, 1},
    {"vector", kernel_vector, 3, 1},     {"recursion", kernel_recursion, 1, 1},
    {"indirect", kernel_indirect, 5, 1}, {"memcpy", kernel_memcpy, 5, 1},
    {"memset", kernel_memset, 5, 1},     {"repmovs", kernel_repmovs, 5, 1},
    {"syscall", kernel_syscall, 10, 1},  {"pipe", kernel_pipe, 10, 1},
    {"fork", kernel_fork, 1, 1},         {"exec", kernel_exec, 1, 1},
    {"touch", kernel_touch, 2, 64},
};

static double now_seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static double time_batch(const struct kernel *k, unsigned iterations)
{
    double start = now_seconds();
    volatile uint64_t result = k->run(iterations);

    (void)result;
    return now_seconds() - start;
}

static void measure(const struct kernel *k, double seconds)
{
    uint64_t checksum = k->run(k->check);
    unsigned iterations = 1;
    double best = time_batch(k, iterations);

    while (best < seconds / 4 && iterations < 1u << 30) {
        double factor = best > 0 ? seconds / 2 / best : 16;

        iterations = (unsigned)(iterations * (factor < 1.5 ? 1.5 : factor > 16 ? 16 : factor) + 1);
        best = time_batch(k, iterations);
    }
    for (int i = 0; i < 2; i++) {
        double took = time_batch(k, iterations);

        if (took < best)
            best = took;
    }
    printf("compute %-10s %14.2f ns %016llx\n", k->name, best * 1e9 / iterations / k->unit,
           (unsigned long long)checksum);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 0.3;

    if (argc > 1 && strcmp(argv[1], "--exit") == 0)
        return 0;
    for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
        int wanted = argc < 3;

        for (int j = 2; j < argc; j++)
            wanted |= strcmp(argv[j], kernels[i].name) == 0;
        if (wanted)
            measure(&kernels[i], seconds);
    }
    return 0;
}
