/* What the tests of src/memory share: cmocka, a processor with memory, random numbers. */
#ifndef VD_TESTS_MEMORY_FIXTURE_H
#define VD_TESTS_MEMORY_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "memory/address_space.h"
#include "memory/mmu.h"

enum { MIB = 1 << 20, RAM_SIZE = 32 * MIB };

struct machine {
    struct address_space *as;
    struct x86_cpu cpu;
    struct mmu mmu;
    uint8_t *ram;
    unsigned layout_changes, flushes;
    struct {
        unsigned count;
        uint64_t page;
        unsigned offset, size;
        uint8_t before; /* the byte at that place when the write was reported */
    } traced;
};

static inline void machine_layout_changed(void *ctx)
{
    ((struct machine *)ctx)->layout_changes++;
}

static inline void machine_flushed(void *ctx, enum mmu_flush kind, uint64_t linear)
{
    (void)kind;
    (void)linear;
    ((struct machine *)ctx)->flushes++;
}

static inline void machine_traced(void *ctx, uint64_t page, unsigned offset, unsigned size)
{
    struct machine *m = ctx;
    m->traced.count++;
    m->traced.page = page;
    m->traced.offset = offset;
    m->traced.size = size;
    m->traced.before = as_page_host(m->as, page)[offset];
}

static inline struct machine *machine_new(void)
{
    struct vd_error err = {""};
    struct machine *m = NULL;
    assert_int_equal(posix_memalign((void **)&m, 64, sizeof(*m)), 0);
    memset(m, 0, sizeof(*m));
    assert_int_equal(as_create(&m->as, RAM_SIZE, 0xC0000000, &err), 0);
    struct as_listener listener = {
        .ctx = m, .layout_changed = machine_layout_changed, .traced_write = machine_traced};
    as_set_listener(m->as, &listener);
    m->ram = as_page_host(m->as, 0);
    mmu_init(&m->mmu, m->as);
    m->mmu.flushed = machine_flushed;
    m->mmu.flushed_ctx = m;
    m->cpu.mmu = &m->mmu;
    m->cpu.cpuid.phys_bits = 40;
    m->cpu.cpuid.features[FEAT_PSE36 / 64] |= 1ULL << (FEAT_PSE36 % 64);
    m->cpu.cpuid.features[FEAT_PDPE1GB / 64] |= 1ULL << (FEAT_PDPE1GB % 64);
    x86_reset(&m->cpu);
    return m;
}

static inline void machine_free(struct machine *m)
{
    as_destroy(m->as);
    free(m);
}

static inline void poke32(struct machine *m, uint64_t gpa, uint32_t value)
{
    memcpy(m->ram + gpa, &value, 4);
}

static inline void poke64(struct machine *m, uint64_t gpa, uint64_t value)
{
    memcpy(m->ram + gpa, &value, 8);
}

static inline uint64_t peek(const struct machine *m, uint64_t gpa, unsigned size)
{
    uint64_t value = 0;
    memcpy(&value, m->ram + gpa, size);
    return value;
}

/* xorshift64*; the seed is printed so that a failure can be repeated with TEST_SEED. */
struct random {
    uint64_t state;
};

static inline struct random random_new(const char *what)
{
    const char *text = getenv("TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL);
    print_message("%s: TEST_SEED=%llu\n", what, (unsigned long long)seed);
    return (struct random){seed * 0x9E3779B97F4A7C15ULL | 1};
}

static inline uint64_t random_next(struct random *r)
{
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return r->state * 0x2545F4914F6CDD1DULL;
}

static inline uint64_t random_below(struct random *r, uint64_t limit)
{
    return (random_next(r) >> 11) % limit;
}

#endif
