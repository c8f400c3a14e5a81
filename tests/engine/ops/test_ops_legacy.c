/* PUSHA, POPA, ENTER, BOUND, and decimal adjustment against the host processor. */
#include "fixture.h"

#include <string.h>
#include <sys/mman.h>

static void pusha_and_popa(void **state)
{
    struct guest *g = *state;

    for (unsigned i = 0; i < 8; i++)
        g->cpu.gpr[i] = 0x11111111u * (i + 1);
    g->cpu.gpr[X86_RSP] = AT_STACK;
    RUNS(g, 0x60);
    assert_int_equal(g->cpu.gpr[X86_RSP], AT_STACK - 32);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(get(g, AT_STACK - 4 - 4 * i, 4),
                         i == X86_RSP ? AT_STACK : 0x11111111u * (i + 1));
    for (unsigned i = 0; i < 8; i++) {
        if (i != X86_RSP)
            g->cpu.gpr[i] = 0;
    }
    put(g, AT_STACK - 4 - 4 * X86_RSP, 4, 0xdead); /* not loaded */
    RUNS(g, 0x61);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(g->cpu.gpr[i], i == X86_RSP ? AT_STACK : 0x11111111u * (i + 1));
    RUNS(g, 0x66, 0x60); /* 16-bit */
    assert_int_equal(g->cpu.gpr[X86_RSP], AT_STACK - 16);
    assert_int_equal(get(g, AT_STACK - 2, 2), 0x1111);
    g->cpu.gpr[X86_RAX] = 0xaaaaaaaa;
    RUNS(g, 0x66, 0x61);
    assert_int_equal(g->cpu.gpr[X86_RAX], 0xaaaa1111);
}

static void pusha_faults(void **state)
{
    struct guest *g = *state;

    enable_paging32(g);
    unmap_page(g, AT_STACK - 0x1000);
    g->cpu.gpr[X86_RSP] = AT_STACK + 16;
    expect_fault(g, RUN(g, 0x60), X86_PF, 2);
    assert_int_equal(g->cpu.fault.cr2, AT_STACK - 4);
    g->cpu.gpr[X86_RSP] = AT_STACK - 8;
    expect_fault(g, RUN(g, 0x61), X86_PF, 0);
    assert_int_equal(g->cpu.fault.cr2, AT_STACK - 8);
    g->cpu.gpr[X86_RSP] = AT_STACK;
    g->may_progress = true;
    g->cpu.seg[X86_SS].limit = AT_STACK + 0x10;
    segment_update_bounds(&g->cpu.seg[X86_SS]);
    FAULTS(g, X86_SS_FAULT, 0, 0x61 /* popa across the limit */);
}

/* It kept all registers as they were; processors load one after the other. */
static void popa_loads_what_it_popped(void **state)
{
    struct guest *g = *state;

    enable_paging32(g);
    unmap_page(g, AT_STACK);
    for (unsigned i = 0; i < 8; i++)
        g->cpu.gpr[i] = 0x11111111u * (i + 1);
    g->cpu.gpr[X86_RSP] = AT_STACK - 8;
    put(g, AT_STACK - 8, 4, 0x77);
    put(g, AT_STACK - 4, 4, 0x66);
    g->may_progress = true;
    expect_fault(g, RUN(g, 0x61), X86_PF, 0);
    assert_int_equal(g->cpu.fault.cr2, AT_STACK);
    assert_int_equal(g->cpu.gpr[X86_RDI], 0x77);
    assert_int_equal(g->cpu.gpr[X86_RSI], 0x66);
    assert_int_equal(g->cpu.gpr[X86_RBP], 0x66666666);
    assert_int_equal(g->cpu.gpr[X86_RAX], 0x11111111);
    assert_int_equal(g->cpu.gpr[X86_RSP], AT_STACK - 8);
}

static void pusha_wraps_16_bit_stack(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RSP] = 0xabcd0010;
    RUNS(g, 0x60);
    assert_int_equal(g->cpu.gpr[X86_RSP], 0xabcd0000);
    g->cpu.gpr[X86_RSP] = 0xabcd0001; /* the first push wraps within a word */
    FAULTS(g, X86_SS_FAULT, 0, 0x60);
}

static void enter_level_0(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RBP] = 0x12345678;
    RUNS(g, 0xc8, 0x20, 0x00, 0x00); /* enter 32, 0 */
    assert_int_equal(get(g, AT_STACK - 4, 4), 0x12345678);
    assert_int_equal(g->cpu.gpr[X86_RBP], AT_STACK - 4);
    assert_int_equal(g->cpu.gpr[X86_RSP], AT_STACK - 4 - 32);
}

static void enter_nested(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RBP] = AT_DATA + 0x100; /* display: the pointers below it */
    put(g, AT_DATA + 0x100 - 4, 4, 0xaaaaaaaa);
    put(g, AT_DATA + 0x100 - 8, 4, 0xbbbbbbbb);
    RUNS(g, 0xc8, 0x10, 0x00, 0x23); /* enter 16, 35: level 3 */
    assert_int_equal(get(g, AT_STACK - 4, 4), AT_DATA + 0x100);
    assert_int_equal(get(g, AT_STACK - 8, 4), 0xaaaaaaaa);
    assert_int_equal(get(g, AT_STACK - 12, 4), 0xbbbbbbbb);
    assert_int_equal(get(g, AT_STACK - 16, 4), AT_STACK - 4); /* its own frame */
    assert_int_equal(g->cpu.gpr[X86_RBP], AT_STACK - 4);
    assert_int_equal(g->cpu.gpr[X86_RSP], AT_STACK - 16 - 16);
    g->cpu.gpr[X86_RSP] = AT_STACK;
    g->cpu.gpr[X86_RBP] = 0xffff1234;
    RUNS(g, 0x66, 0xc8, 0x00, 0x00, 0x01); /* 16-bit operand: BP only */
    assert_int_equal(get(g, AT_STACK - 2, 2), 0x1234);
    assert_int_equal(get(g, AT_STACK - 4, 2), (AT_STACK - 2) & 0xffff);
    assert_int_equal(g->cpu.gpr[X86_RBP], 0xffff0000 | ((AT_STACK - 2) & 0xffff));
    assert_int_equal(g->cpu.gpr[X86_RSP], AT_STACK - 4);
}

static void enter_faults(void **state)
{
    struct guest *g = *state;

    enable_paging32(g);
    unmap_page(g, AT_STACK - 0x2000);
    /* the pushes are fine, a write at the final ESP would not be */
    expect_fault(g, RUN(g, 0xc8, 0x00, 0x10, 0x00), X86_PF, 2);
    g->cpu.seg[X86_SS].attr |= X86_AR_EC; /* expand-down from AT_STACK - 16 */
    g->cpu.seg[X86_SS].limit = AT_STACK - 17;
    segment_update_bounds(&g->cpu.seg[X86_SS]);
    RUNS(g, 0xc8, 0x0c, 0x00, 0x00);
    g->cpu.gpr[X86_RSP] = AT_STACK;
    FAULTS(g, X86_SS_FAULT, 0, 0xc8, 0x0d, 0x00, 0x00);
}

/* The item that must be writable at the final stack pointer is as wide as the operands. */
static void enter_checks_a_whole_item(void **state)
{
    struct guest *g = *state;
    struct x86_segment *ss = &g->cpu.seg[X86_SS];

    g->cpu.gpr[X86_RSP] = 0x8000;
    ss->limit = 0x80ff;
    ss->attr &= ~(uint32_t)X86_AR_DB; /* SP: an allocation may wrap to above the frame */
    segment_update_bounds(ss);
    /* SP = 8000h - 2 - FEFFh = 80FFh in 16 bits: one byte is left */
    expect_fault(g, RUN(g, 0x66, 0xc8, 0xff, 0xfe, 0x00), X86_SS_FAULT, 0);
    RUNS(g, 0x66, 0xc8, 0x00, 0xff, 0x00); /* two */
    assert_int_equal(g->cpu.gpr[X86_RSP], 0x80fe);
}

static void enter_64(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RBP] = 0x123456789abcdef0;
    RUNS(g, 0xc8, 0x08, 0x00, 0x01);
    assert_true(get(g, AT_STACK - 8, 8) == 0x123456789abcdef0);
    assert_int_equal(get(g, AT_STACK - 16, 8), AT_STACK - 8);
    assert_int_equal(g->cpu.gpr[X86_RBP], AT_STACK - 8);
    assert_int_equal(g->cpu.gpr[X86_RSP], AT_STACK - 24);
}

static void bound(void **state)
{
    struct guest *g = *state;

    put(g, AT_DATA, 8, 0x0000000500000000 | (uint32_t)-3);
    g->cpu.gpr[X86_RBX] = AT_DATA;
    for (int i = -5; i < 8; i++) {
        g->cpu.gpr[X86_RCX] = (uint32_t)i;
        if (i >= -3 && i <= 5)
            RUNS(g, 0x62, 0x0b); /* bound ecx, [ebx] */
        else
            FAULTS(g, X86_BR, -1, 0x62, 0x0b);
    }
    put(g, AT_DATA, 4, 0x0005fffd);
    g->cpu.gpr[X86_RCX] = 0x1234fffd;
    RUNS(g, 0x66, 0x62, 0x0b);
    g->cpu.gpr[X86_RCX] = 0x1234fffc;
    FAULTS(g, X86_BR, -1, 0x66, 0x62, 0x0b);
    g->cpu.seg[X86_DS].limit = AT_DATA + 6;
    segment_update_bounds(&g->cpu.seg[X86_DS]);
    FAULTS_GP(g, 0x62, 0x0b);
}

/* --- decimal adjustment --- */

/*
 * 64-bit programs can run 32-bit code: this far-calls a stub below 4 GiB through the kernel's
 * 32-bit user code segment. Copied below 4 GiB itself, because the stub returns to it by a 32-bit
 * far return. Arguments: stack top, far pointer, flags, eax, where to put the flags.
 */
extern const uint8_t compat_call[], compat_call_end[];
__asm__("compat_call:\n\t"
        "push %r12\n\tpush %rbx\n\tmov %rsp, %r12\n\t"
        "mov %rdi, %rsp\n\tmov %rcx, %rax\n\t"
        "push %rdx\n\tpopfq\n\t"
        "lcall *(%rsi)\n\t"
        "pushfq\n\tpop %rdx\n\t"
        "mov %r12, %rsp\n\tpop %rbx\n\tpop %r12\n\t"
        "mov %rdx, (%r8)\n\tmov %eax, %eax\n\tret\n"
        "compat_call_end:");

typedef uint64_t compat_fn(void *stack, const void *pointer, uint64_t flags, uint64_t eax,
                           uint64_t *flags_out);

enum { COMPAT_SIZE = 8192, COMPAT_STUB = 1024, COMPAT_POINTER = 512, USER32_CS = 0x23 };

static uint8_t *compat_create(void)
{
    uint8_t *page = mmap(NULL, COMPAT_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    uint32_t stub;
    uint16_t selector = USER32_CS;

    if (page == MAP_FAILED)
        return NULL;
    stub = (uint32_t)(uintptr_t)(page + COMPAT_STUB);
    memcpy(page, compat_call, (size_t)(compat_call_end - compat_call));
    memcpy(page + COMPAT_POINTER, &stub, 4);
    memcpy(page + COMPAT_POINTER + 4, &selector, 2);
    return page;
}

/* Runs one instruction natively in 32-bit mode. */
static uint32_t run_native(uint8_t *page, const uint8_t *code, size_t len, uint32_t eax,
                           uint32_t *flags)
{
    compat_fn *call;
    uint64_t after;
    uint32_t result;

    memcpy(page + COMPAT_STUB, code, len);
    page[COMPAT_STUB + len] = 0xcb; /* retf */
    memcpy(&call, &page, sizeof(call));
    result =
        (uint32_t)call(page + COMPAT_SIZE - 64, page + COMPAT_POINTER, *flags | 2u, eax, &after);
    *flags = (uint32_t)after & X86_ARITH_FLAGS;
    return result;
}

/*
 * All values of AX (in steps where they are many) and CF, AF, compared with the host. The flags
 * that the SDM leaves undefined are compared too: processors do the same with them.
 */
static void decimal_adjustment_like_the_host(void **state)
{
    enum { RESULT = X86_SF | X86_ZF | X86_PF_FLAG };
    static const struct {
        uint8_t code[2], len;
        uint32_t defined; /* flags */
    } rows[] = {
        {{0x37}, 1, X86_CF | X86_AF},
        {{0x3f}, 1, X86_CF | X86_AF},
        {{0x27}, 1, X86_CF | X86_AF | RESULT},
        {{0x2f}, 1, X86_CF | X86_AF | RESULT},
        {{0xd6}, 1, X86_ARITH_FLAGS}, /* SALC: unchanged */
        {{0xd4, 10}, 2, RESULT},
        {{0xd5, 10}, 2, RESULT},
        {{0xd4, 16}, 2, RESULT},
        {{0xd5, 16}, 2, RESULT},
        {{0xd4, 1}, 2, RESULT},
        {{0xd5, 255}, 2, RESULT},
        {{0xd4, 0x80}, 2, RESULT},
    };
    struct guest *g = *state;
    uint8_t *page = compat_create();

    bool all = __builtin_cpu_is("amd");

    if (!page)
        skip();
    for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
        for (uint32_t ax = 0; ax < 0x10000; ax += ax < 0x300 ? 1 : 13) {
            for (uint32_t in = 0; in < 4; in++) {
                uint32_t flags = (in & 1) | (in >> 1) << 4 | (ax & 8 ? 0x8c4 : 0);
                uint32_t expected_flags = flags, expected;

                expected = run_native(page, rows[row].code, rows[row].len, 0xabcd0000 | ax,
                                      &expected_flags);
                g->cpu.gpr[X86_RAX] = 0xabcd0000 | ax;
                g->cpu.aflags = flags | X86_DF_FLAG;
                assert_int_equal(execute(g, rows[row].code, rows[row].len), OP_NEXT);
                if (g->cpu.gpr[X86_RAX] != expected ||
                    ((g->cpu.aflags ^ (expected_flags | X86_DF_FLAG)) &
                     (all ? UINT32_MAX : rows[row].defined)))
                    fail_msg("%02x %02x, eax %x flags %x: %llx %x instead of %x %x",
                             rows[row].code[0], rows[row].code[1], ax, flags,
                             (unsigned long long)g->cpu.gpr[X86_RAX], g->cpu.aflags, expected,
                             expected_flags);
            }
        }
    }
    munmap(page, COMPAT_SIZE);
}

/* Values printed in the SDM's instruction pages and in the 8086 manual. */
static void decimal_adjustment_examples(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RAX] = 0xae; /* 79H + 35H packed: 114 */
    g->cpu.aflags = 0;
    RUNS(g, 0x27);
    assert_int_equal(g->cpu.gpr[X86_RAX], 0x14);
    assert_true(g->cpu.aflags & X86_CF);
    g->cpu.gpr[X86_RAX] = 0xee; /* 35H - 47H with borrow: 88 */
    g->cpu.aflags = X86_CF | X86_AF;
    RUNS(g, 0x2f);
    assert_int_equal(g->cpu.gpr[X86_RAX], 0x88);
    assert_true(g->cpu.aflags & X86_CF);
    g->cpu.gpr[X86_RAX] = 63;
    RUNS(g, 0xd4, 10);
    assert_int_equal(g->cpu.gpr[X86_RAX], 0x0603);
    RUNS(g, 0xd5, 10);
    assert_int_equal(g->cpu.gpr[X86_RAX], 63);
    FAULTS(g, X86_DE, -1, 0xd4, 0);
}

int main(void)
{
#define PROTECTED(test) cmocka_unit_test_setup_teardown(test, setup_protected, teardown)
    const struct CMUnitTest tests[] = {
        PROTECTED(pusha_and_popa),
        PROTECTED(popa_loads_what_it_popped),
        PROTECTED(pusha_faults),
        cmocka_unit_test_setup_teardown(pusha_wraps_16_bit_stack, setup_real, teardown),
        PROTECTED(enter_level_0),
        PROTECTED(enter_nested),
        PROTECTED(enter_faults),
        PROTECTED(enter_checks_a_whole_item),
        cmocka_unit_test_setup_teardown(enter_64, setup_long, teardown),
        PROTECTED(bound),
        PROTECTED(decimal_adjustment_like_the_host),
        PROTECTED(decimal_adjustment_examples),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
