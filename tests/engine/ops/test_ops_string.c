/*
 * String instructions: random ones against the same instruction of the host on a copy of the
 * memory, then everything where they meet pages, segments, devices and interrupts.
 */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ARENA = 0x40000, ARENA_SIZE = 0x8000 };

/* --- the host's own --- */

struct native {
    uint64_t rsi, rdi, rcx, rax, flags;
};

#define NATIVE(text)                                                                               \
    __asm__ volatile("lea -128(%%rsp), %%rsp; pushq %[in]; popfq; " text                           \
                     "; pushfq; popq %[out]; cld; lea 128(%%rsp), %%rsp"                           \
                     : "+S"(n->rsi), "+D"(n->rdi), "+c"(n->rcx), "+a"(n->rax), [out] "=&r"(out)    \
                     : [in] "r"(n->flags)                                                          \
                     : "memory", "cc")

/* The stack moves out of the red zone first. Opcode A4-AF with element size 1, 2, 4, 8 and prefix
 * 0, F2, F3. */
static void run_native(struct native *n, uint8_t prefix, uint8_t opcode, unsigned size)
{
    uint64_t out = 0;
    unsigned form = (prefix == 0xf3 ? 2u : prefix == 0xf2 ? 1u : 0) << 4 | size;

    n->flags |= 0x202;
#define FORMS(b, w, l, q)                                                                          \
    switch (form) {                                                                                \
    case 1:                                                                                        \
        NATIVE(b);                                                                                 \
        break;                                                                                     \
    case 2:                                                                                        \
        NATIVE(w);                                                                                 \
        break;                                                                                     \
    case 4:                                                                                        \
        NATIVE(l);                                                                                 \
        break;                                                                                     \
    case 8:                                                                                        \
        NATIVE(q);                                                                                 \
        break;                                                                                     \
    case 0x11:                                                                                     \
        NATIVE(".byte 0xf2; " b);                                                                  \
        break;                                                                                     \
    case 0x12:                                                                                     \
        NATIVE(".byte 0xf2; " w);                                                                  \
        break;                                                                                     \
    case 0x14:                                                                                     \
        NATIVE(".byte 0xf2; " l);                                                                  \
        break;                                                                                     \
    case 0x18:                                                                                     \
        NATIVE(".byte 0xf2; " q);                                                                  \
        break;                                                                                     \
    case 0x21:                                                                                     \
        NATIVE("rep; " b);                                                                         \
        break;                                                                                     \
    case 0x22:                                                                                     \
        NATIVE("rep; " w);                                                                         \
        break;                                                                                     \
    case 0x24:                                                                                     \
        NATIVE("rep; " l);                                                                         \
        break;                                                                                     \
    default:                                                                                       \
        NATIVE("rep; " q);                                                                         \
        break;                                                                                     \
    }
    switch (opcode & 0xfe) {
    case 0xa4:
        FORMS("movsb", "movsw", "movsl", "movsq")
        break;
    case 0xa6:
        FORMS("cmpsb", "cmpsw", "cmpsl", "cmpsq")
        break;
    case 0xaa:
        FORMS("stosb", "stosw", "stosl", "stosq")
        break;
    case 0xac:
        FORMS("lodsb", "lodsw", "lodsl", "lodsq")
        break;
    default:
        FORMS("scasb", "scasw", "scasl", "scasq")
        break;
    }
    n->flags = out;
}

static uint64_t random_state;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint64_t random_below(uint64_t n)
{
    return random_next() % n;
}

/* Few different values, so that comparisons go on for a while. */
static void fill_arena(uint8_t *arena)
{
    uint64_t kind = random_below(3);

    for (unsigned i = 0; i < ARENA_SIZE; i++)
        arena[i] = kind == 0 ? 0 : kind == 1 ? (uint8_t)random_below(2) : (uint8_t)random_next();
    arena[random_below(ARENA_SIZE)] = 0xff;
}

static void random_case(struct guest *g, uint8_t *mine, uint8_t *theirs)
{
    static const uint8_t opcodes[] = {0xa4, 0xa6, 0xaa, 0xac, 0xae};
    static const uint8_t prefixes[] = {0, 0xf2, 0xf3};
    uint8_t opcode = opcodes[random_below(5)], prefix = prefixes[random_below(3)];
    unsigned size = 1u << random_below(4), length = 0;
    bool down = random_below(2);
    uint64_t count = random_below(random_below(4) ? 64 : 1200);
    uint64_t room = ARENA_SIZE - 2 * (count + 1) * size, half = (count + 1) * size;
    uint64_t from = half + random_below(room), to = half + random_below(room);
    uint8_t code[4];
    struct native n;

    if (random_below(4) == 0) /* close together: overlapping */
        to = from + random_below(17) - 8;
    to = to < half ? half : to > ARENA_SIZE - half ? ARENA_SIZE - half : to;
    fill_arena(theirs);
    as_write(g->as, ARENA, theirs, ARENA_SIZE);
    if (prefix)
        code[length++] = prefix;
    if (size == 2)
        code[length++] = 0x66;
    if (size == 8)
        code[length++] = 0x48;
    code[length++] = size == 1 ? opcode : opcode | 1;

    n = (struct native){.rsi = (uintptr_t)theirs + from,
                        .rdi = (uintptr_t)theirs + to,
                        .rcx = count,
                        .rax = random_next() & 0x0101010101010101,
                        .flags = (random_next() & X86_ARITH_FLAGS) | (down ? X86_DF_FLAG : 0u)};
    g->cpu.gpr[X86_RSI] = ARENA + from;
    g->cpu.gpr[X86_RDI] = ARENA + to;
    g->cpu.gpr[X86_RCX] = count;
    g->cpu.gpr[X86_RAX] = n.rax;
    g->cpu.aflags = (uint32_t)n.flags;

    run_native(&n, prefix, opcode, size);
    assert_int_equal(execute(g, code, length), OP_NEXT);

    assert_int_equal(g->cpu.gpr[X86_RSI] - ARENA, n.rsi - (uintptr_t)theirs);
    assert_int_equal(g->cpu.gpr[X86_RDI] - ARENA, n.rdi - (uintptr_t)theirs);
    assert_int_equal(g->cpu.gpr[X86_RCX], n.rcx);
    assert_true(g->cpu.gpr[X86_RAX] == n.rax);
    assert_int_equal(g->cpu.aflags, n.flags & X86_NATIVE_FLAGS);
    as_read(g->as, ARENA, mine, ARENA_SIZE);
    assert_memory_equal(mine, theirs, ARENA_SIZE);
}

static void random_against_the_host(void **state)
{
    struct guest *g = *state;
    uint8_t *mine = malloc(ARENA_SIZE), *theirs = aligned_alloc(4096, ARENA_SIZE);
    const char *seed = getenv("SEED");

    assert_non_null(mine);
    assert_non_null(theirs);
    random_state = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + 1;
    print_message("SEED=%llu\n", (unsigned long long)random_state);
    for (unsigned i = 0; i < 4000; i++)
        random_case(g, mine, theirs);
    free(mine);
    free(theirs);
}

/* --- pages --- */

static void fault_in_the_middle(void **state)
{
    struct guest *g = *state;

    enable_paging32(g);
    unmap_page(g, AT_DATA + 0x2000);
    g->may_progress = true;
    g->cpu.gpr[X86_RSI] = AT_DATA + 0x10;
    g->cpu.gpr[X86_RDI] = AT_DATA + 0x4000;
    g->cpu.gpr[X86_RCX] = 0x3000;
    expect_fault(g, RUN(g, 0xf3, 0xa4), X86_PF, 0);
    assert_int_equal(g->cpu.fault.cr2, AT_DATA + 0x2000);
    assert_int_equal(g->cpu.gpr[X86_RSI], AT_DATA + 0x2000);
    assert_int_equal(g->cpu.gpr[X86_RDI], AT_DATA + 0x4000 + 0x1ff0);
    assert_int_equal(g->cpu.gpr[X86_RCX], 0x3000 - 0x1ff0);

    /* an element across both pages faults before anything of it is written */
    g->cpu.gpr[X86_RDI] = AT_DATA + 0x1ffe;
    g->cpu.gpr[X86_RAX] = 0x12345678;
    g->cpu.gpr[X86_RCX] = 1;
    put(g, AT_DATA + 0x1ffe, 2, 0);
    expect_fault(g, RUN(g, 0xf3, 0xab), X86_PF, 2);
    assert_int_equal(g->cpu.fault.cr2, AT_DATA + 0x2000);
    assert_int_equal(get(g, AT_DATA + 0x1ffe, 2), 0);
    assert_int_equal(g->cpu.gpr[X86_RCX], 1);

    /* downwards into the hole from above */
    g->cpu.aflags |= X86_DF_FLAG;
    g->cpu.gpr[X86_RDI] = AT_DATA + 0x3004;
    g->cpu.gpr[X86_RCX] = 5;
    expect_fault(g, RUN(g, 0xf3, 0xab), X86_PF, 0 | 2);
    assert_int_equal(g->cpu.fault.cr2, AT_DATA + 0x2ffc);
    assert_int_equal(g->cpu.gpr[X86_RDI], AT_DATA + 0x2ffc);
    assert_int_equal(g->cpu.gpr[X86_RCX], 3);
}

static void source_faults_first(void **state)
{
    struct guest *g = *state;

    enable_paging32(g);
    unmap_page(g, AT_DATA);
    unmap_page(g, AT_DATA + 0x1000);
    g->cpu.gpr[X86_RSI] = AT_DATA;
    g->cpu.gpr[X86_RDI] = AT_DATA + 0x1000;
    expect_fault(g, RUN(g, 0xa4), X86_PF, 0);
    assert_int_equal(g->cpu.fault.cr2, AT_DATA);
    expect_fault(g, RUN(g, 0xa6), X86_PF, 0); /* but for a single CMPS */
    assert_int_equal(g->cpu.fault.cr2, AT_DATA + 0x1000);
    g->cpu.gpr[X86_RCX] = 2;
    expect_fault(g, RUN(g, 0xf3, 0xa6), X86_PF, 0);
    assert_int_equal(g->cpu.fault.cr2, AT_DATA);
    g->cpu.gpr[X86_RSI] = AT_DATA + 0x2000;
    expect_fault(g, RUN(g, 0xa4), X86_PF, 2);
    assert_int_equal(g->cpu.fault.cr2, AT_DATA + 0x1000);
    flat_segments(g, 32, 3);
    expect_fault(g, RUN(g, 0xae), X86_PF, 4);
    expect_fault(g, RUN(g, 0xaa), X86_PF, 6);
}

/* Only a single CMPS looked at ES first; all do, but for REPE CMPSB. */
static void compare_faults_in_es_first(void **state)
{
    static const uint8_t codes[][2] = {{0xf2, 0xa6}, {0xf2, 0xa7}, {0xf3, 0xa7}};
    struct guest *g = *state;

    enable_paging32(g);
    unmap_page(g, AT_DATA);
    unmap_page(g, AT_DATA + 0x1000);
    g->cpu.gpr[X86_RSI] = AT_DATA;
    g->cpu.gpr[X86_RDI] = AT_DATA + 0x1000;
    g->cpu.gpr[X86_RCX] = 2;
    for (unsigned i = 0; i < 3; i++) {
        expect_fault(g, RUN(g, codes[i][0], codes[i][1]), X86_PF, 0);
        assert_int_equal(g->cpu.fault.cr2, AT_DATA + 0x1000);
    }
    expect_fault(g, RUN(g, 0xf3, 0xa6), X86_PF, 0);
    assert_int_equal(g->cpu.fault.cr2, AT_DATA);
}

static void read_only_target(void **state)
{
    struct guest *g = *state;

    enable_paging32(g);
    read_only_page(g, AT_DATA);
    g->cpu.gpr[X86_RDI] = AT_DATA;
    g->cpu.gpr[X86_RCX] = 8;
    RUNS(g, 0xf2, 0xae); /* reading is fine, and fills the TLB */
    g->cpu.gpr[X86_RDI] = AT_DATA;
    expect_fault(g, RUN(g, 0xaa), X86_PF, 3);
    g->cpu.cr0 &= ~(uint64_t)X86_CR0_WP;
    mmu_flush_all(&g->cpu);
    RUNS(g, 0xaa);
}

/* --- segments and address sizes --- */

static void overrides_and_limits(void **state)
{
    struct guest *g = *state;

    put(g, AT_DATA, 4, 0x11);
    put(g, AT_DATA + 0x100, 4, 0x22);
    g->cpu.seg[X86_FS].base = 0x100;
    g->cpu.gpr[X86_RSI] = AT_DATA;
    RUNS(g, 0xac);
    assert_int_equal(g->cpu.gpr[X86_RAX] & 0xff, 0x11);
    g->cpu.gpr[X86_RSI] = AT_DATA;
    RUNS(g, 0x64, 0xac);
    assert_int_equal(g->cpu.gpr[X86_RAX] & 0xff, 0x22);
    g->cpu.seg[X86_ES].base = 0x100;
    g->cpu.gpr[X86_RDI] = AT_DATA;
    RUNS(g, 0x64, 0xae); /* SCAS ignores the override: ES */
    assert_true(g->cpu.aflags & X86_ZF);

    g->cpu.seg[X86_ES].base = 0;
    g->cpu.seg[X86_ES].limit = AT_DATA + 5;
    segment_update_bounds(&g->cpu.seg[X86_ES]);
    g->may_progress = true;
    g->cpu.gpr[X86_RDI] = AT_DATA;
    g->cpu.gpr[X86_RCX] = 2;
    FAULTS_GP(g, 0xf3, 0xab); /* the second dword ends behind the limit */
    assert_int_equal(g->cpu.gpr[X86_RCX], 1);
    assert_int_equal(g->cpu.gpr[X86_RDI], AT_DATA + 4);
    g->cpu.gpr[X86_RSI] = AT_DATA;
    g->cpu.seg[X86_SS].limit = 0;
    segment_update_bounds(&g->cpu.seg[X86_SS]);
    FAULTS(g, X86_SS_FAULT, 0, 0x36, 0xad);
    g->cpu.seg[X86_ES].limit = 0xffffffff;
    g->cpu.seg[X86_ES].attr &= ~(uint32_t)X86_AR_WR; /* read-only segment */
    segment_update_bounds(&g->cpu.seg[X86_ES]);
    FAULTS_GP(g, 0xaa);
    RUNS(g, 0xae);
}

static void expand_down_segment(void **state)
{
    struct guest *g = *state;

    g->cpu.seg[X86_ES].attr |= X86_AR_EC;
    g->cpu.seg[X86_ES].limit = AT_DATA - 1;
    segment_update_bounds(&g->cpu.seg[X86_ES]);
    g->cpu.gpr[X86_RDI] = AT_DATA;
    g->cpu.gpr[X86_RAX] = 0x5a5a5a5a;
    g->cpu.gpr[X86_RCX] = 3;
    RUNS(g, 0xf3, 0xab);
    assert_int_equal(get(g, AT_DATA + 8, 4), 0x5a5a5a5a);
    g->cpu.gpr[X86_RDI] = AT_DATA - 1;
    FAULTS_GP(g, 0xaa);
}

static void sixteen_bit_addresses(void **state)
{
    struct guest *g = *state;

    /* 16-bit mode: SI and DI wrap at 64 KiB, the upper halves stay */
    segment_load_real(&g->cpu.seg[X86_DS], 0x2000);
    segment_load_real(&g->cpu.seg[X86_ES], 0x3000);
    put(g, 0x2fffe, 2, 0xb1a1);
    put(g, 0x20000, 2, 0xd1c1);
    g->cpu.gpr[X86_RSI] = 0xaaaafffe;
    g->cpu.gpr[X86_RDI] = 0xbbbbffff;
    g->cpu.gpr[X86_RCX] = 0xcccc0004;
    RUNS(g, 0xf3, 0xa4);
    assert_int_equal(get(g, 0x3ffff, 1), 0xa1);
    assert_int_equal(get(g, 0x30000, 2), 0xc1b1);
    assert_int_equal(get(g, 0x30002, 1), 0xd1);
    assert_int_equal(g->cpu.gpr[X86_RSI], 0xaaaa0002);
    assert_int_equal(g->cpu.gpr[X86_RDI], 0xbbbb0003);
    assert_int_equal(g->cpu.gpr[X86_RCX], 0xcccc0000);
    g->cpu.gpr[X86_RDI] = 0xffff;
    FAULTS_GP(g, 0xab);            /* a word at FFFFH is outside of the limit */
    g->cpu.gpr[X86_RDI] = 0x12345; /* 32-bit address beyond the limit */
    FAULTS_GP(g, 0x67, 0xaa);
    /* downwards across 0 */
    g->cpu.aflags |= X86_DF_FLAG;
    g->cpu.gpr[X86_RDI] = 1;
    g->cpu.gpr[X86_RCX] = 3;
    g->cpu.gpr[X86_RAX] = 0x77;
    RUNS(g, 0xf3, 0xaa);
    assert_int_equal(get(g, 0x30000, 2), 0x7777);
    assert_int_equal(get(g, 0x3ffff, 1), 0x77);
    assert_int_equal(g->cpu.gpr[X86_RDI], 0xfffe);
}

/* A 16-bit address does not leave 64 KiB even where the limit would allow it. */
static void sixteen_bit_addresses_in_a_large_segment(void **state)
{
    struct guest *g = *state;

    put(g, 0x10000, 4, 0);
    g->cpu.gpr[X86_RDI] = 0xfffc;
    g->cpu.gpr[X86_RCX] = 8;
    g->cpu.gpr[X86_RAX] = 0xee;
    RUNS(g, 0x67, 0xf3, 0xaa);
    assert_int_equal(get(g, 0xfffc, 4), 0xeeeeeeee);
    assert_int_equal(get(g, 0x10000, 4), 0);
    assert_int_equal(get(g, 0, 4), 0xeeeeeeee);
    assert_int_equal(g->cpu.gpr[X86_RDI], 4);
}

static void long_mode_addresses(void **state)
{
    struct guest *g = *state;

    put(g, AT_DATA, 8, 0x1122334455667788);
    g->cpu.gpr[X86_RSI] = AT_DATA;
    g->cpu.seg[X86_DS].base = 0x1000; /* ignored */
    RUNS(g, 0x48, 0xad);
    assert_true(g->cpu.gpr[X86_RAX] == 0x1122334455667788);
    g->cpu.seg[X86_GS].base = 0xffffff8000000000; /* the same memory again at the top */
    g->cpu.gpr[X86_RSI] = AT_DATA;
    RUNS(g, 0x65, 0xad);
    assert_int_equal(g->cpu.gpr[X86_RAX], 0x55667788);
    g->cpu.gpr[X86_RSI] = 0x800000000000;
    FAULTS_GP(g, 0xac);
    FAULTS(g, X86_GP, 0, 0x36, 0xac); /* SS override is ignored: no #SS */
    /* 67H: ESI, zero-extended */
    g->cpu.gpr[X86_RSI] = 0xdead00000000 + AT_DATA;
    g->cpu.gpr[X86_RCX] = 0xdead00000002;
    RUNS(g, 0xf3, 0x67, 0xac);
    assert_int_equal(g->cpu.gpr[X86_RSI], AT_DATA + 2);
    assert_int_equal(g->cpu.gpr[X86_RCX], 0);
    assert_int_equal(g->cpu.gpr[X86_RAX] & 0xff, 0x77);
}

/* --- interruption --- */

static void exit_request_between_chunks(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RDI] = AT_DATA + 0x800;
    g->cpu.gpr[X86_RCX] = 0x4000;
    g->cpu.exit_async = 1;
    assert_int_equal(RUN(g, 0xf3, 0xaa), OP_REPEAT);
    assert_int_equal(g->cpu.gpr[X86_RDI], AT_DATA + 0x1000);
    assert_int_equal(g->cpu.gpr[X86_RCX], 0x4000 - 0x800);
    g->cpu.exit_async = 0;
    RUNS(g, 0xf3, 0xaa);
    assert_int_equal(g->cpu.gpr[X86_RCX], 0);
    g->cpu.exit_async = 1;
    g->cpu.gpr[X86_RCX] = 3;
    g->cpu.gpr[X86_RDI] = AT_DATA;
    RUNS(g, 0xf3, 0xaa); /* done: nothing to repeat */
    g->cpu.gpr[X86_RCX] = 0;
    RUNS(g, 0xf3, 0xaa);
}

static void single_step_stops_after_each_iteration(void **state)
{
    struct guest *g = *state;

    g->cpu.sflags |= X86_TF;
    g->cpu.gpr[X86_RDI] = AT_DATA;
    g->cpu.gpr[X86_RCX] = 2;
    assert_int_equal(RUN(g, 0xf3, 0xaa), OP_REPEAT);
    assert_int_equal(g->cpu.gpr[X86_RCX], 1);
    assert_int_equal(RUN(g, 0xf3, 0xaa), OP_NEXT);
    assert_int_equal(g->cpu.gpr[X86_RCX], 0);
}

static void count_zero_changes_nothing(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RCX] = 0;
    g->cpu.gpr[X86_RSI] = g->cpu.gpr[X86_RDI] = 0xfffffff0; /* would fault */
    g->cpu.seg[X86_DS].limit = 0;
    segment_update_bounds(&g->cpu.seg[X86_DS]);
    g->cpu.aflags = 0x45;
    RUNS(g, 0xf3, 0xa6);
    RUNS(g, 0xf2, 0xa6);
    RUNS(g, 0xf3, 0xa4);
    assert_int_equal(g->cpu.aflags, 0x45);
    assert_int_equal(g->cpu.gpr[X86_RSI], 0xfffffff0);
}

/* --- devices and traced pages --- */

struct device {
    unsigned reads, writes;
    uint64_t last;
};

static uint64_t device_read(void *ctx, uint64_t offset, unsigned size)
{
    struct device *d = ctx;

    (void)size;
    d->reads++;
    return 0x40 + offset;
}

static void device_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct device *d = ctx;

    (void)offset;
    (void)size;
    d->writes++;
    d->last = value;
}

static void device_memory(void **state)
{
    static const struct io_ops ops = {device_read, device_write, 1, 4};
    struct guest *g = *state;
    struct device device = {0};
    struct vd_error err;

    assert_non_null(as_map_mmio(g->as, 0xd0000000, 0x1000, &ops, &device, "test", &err));
    g->cpu.gpr[X86_RSI] = 0xd0000000;
    g->cpu.gpr[X86_RDI] = AT_DATA;
    g->cpu.gpr[X86_RCX] = 4;
    RUNS(g, 0xf3, 0xa5);
    assert_int_equal(device.reads, 4); /* one per element, of its size */
    assert_int_equal(get(g, AT_DATA + 4, 4), 0x44);
    g->cpu.gpr[X86_RSI] = AT_DATA;
    g->cpu.gpr[X86_RDI] = 0xd0000ffc;
    g->cpu.gpr[X86_RCX] = 2;
    put(g, AT_DATA, 2, 0x2211);
    RUNS(g, 0xf3, 0xa4);
    assert_int_equal(device.writes, 2);
    assert_int_equal(device.last, 0x22);
    g->cpu.gpr[X86_RAX] = 0x99;
    RUNS(g, 0xaa);
    assert_int_equal(device.last, 0x99);
    g->cpu.gpr[X86_RDI] = 0xd0000010;
    g->cpu.gpr[X86_RAX] = 0x53;
    g->cpu.gpr[X86_RCX] = 0x100;
    device.reads = 0;
    RUNS(g, 0xf2, 0xae);
    assert_int_equal(device.reads, 4);
    assert_int_equal(g->cpu.gpr[X86_RDI], 0xd0000014);
    assert_true(g->cpu.aflags & X86_ZF);
}

/* The device is not read when the destination of the element faults. */
static void device_is_not_read_in_vain(void **state)
{
    static const struct io_ops ops = {device_read, device_write, 1, 4};
    struct guest *g = *state;
    struct device device = {0};
    struct vd_error err;

    assert_non_null(as_map_mmio(g->as, 0xd0000000, 0x1000, &ops, &device, "test", &err));
    g->cpu.seg[X86_ES].limit = 0xff;
    segment_update_bounds(&g->cpu.seg[X86_ES]);
    g->cpu.gpr[X86_RSI] = 0xd0000000;
    g->cpu.gpr[X86_RDI] = 0x100;
    FAULTS_GP(g, 0xa4);
    FAULTS_GP(g, 0xa6);
    assert_int_equal(device.reads, 0);
}

static unsigned traced;

static void traced_write(void *ctx, uint64_t page, unsigned offset, unsigned size)
{
    (void)ctx;
    assert_int_equal(page, AT_DATA >> 12);
    assert_true(offset + size <= 4096);
    traced++;
}

static void traced_page(void **state)
{
    struct guest *g = *state;
    struct as_listener listener = {.ctx = g, .traced_write = traced_write};

    as_set_listener(g->as, &listener);
    as_page_flags(g->as)[AT_DATA >> 12] |= RAM_PAGE_CODE;
    mmu_flush_all(&g->cpu);
    traced = 0;
    g->cpu.gpr[X86_RDI] = AT_DATA + 0xff0;
    g->cpu.gpr[X86_RCX] = 0x20;
    RUNS(g, 0xf3, 0xaa);
    assert_int_equal(traced, 0x10);
    as_page_flags(g->as)[AT_DATA >> 12] &= (uint8_t)~RAM_PAGE_CODE;
}

int main(void)
{
#define PROTECTED(test) cmocka_unit_test_setup_teardown(test, setup_protected, teardown)
#define LONG(test)      cmocka_unit_test_setup_teardown(test, setup_long, teardown)
    const struct CMUnitTest tests[] = {
        LONG(random_against_the_host),
        PROTECTED(fault_in_the_middle),
        PROTECTED(source_faults_first),
        PROTECTED(compare_faults_in_es_first),
        PROTECTED(read_only_target),
        PROTECTED(overrides_and_limits),
        PROTECTED(expand_down_segment),
        cmocka_unit_test_setup_teardown(sixteen_bit_addresses, setup_real, teardown),
        PROTECTED(sixteen_bit_addresses_in_a_large_segment),
        LONG(long_mode_addresses),
        PROTECTED(exit_request_between_chunks),
        PROTECTED(single_step_stops_after_each_iteration),
        PROTECTED(count_zero_changes_nothing),
        PROTECTED(device_memory),
        PROTECTED(device_is_not_read_in_vain),
        PROTECTED(traced_page),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
