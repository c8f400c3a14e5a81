/*
 * Near CALLs whose target is beyond the limit of the code segment or not canonical: the exception
 * is the CALL's, and nothing is on the stack (SDM vol. 2, CALL). Returns to such an address.
 */
#include "tables.h"

#include <string.h>

enum {
    HANDLERS = CODE + 0x8000,
    SCRATCH = DATA,
    PATTERN = 0x5a,
    TOP_TABLES = 0x204000, /* PDPT, PD and PT of the last canonical page of the lower half */
    TOP_PAGE = 0x207000,   /* its memory */
    PAGE = 4096,
};
#define TOP_END 0x800000000000ull

/* #GP stops, #DB goes on. */
GUEST_CODE(handlers32, 32, "hlt\n iret");
GUEST_CODE(handlers64, 64, "hlt\n iretq");

#define PROGRAM(name, bits, ...)                                                                   \
    extern const uint8_t name##_bad[];                                                             \
    GUEST_CODE(name, bits, __VA_ARGS__)

PROGRAM(reg64, 64, "mov $0x800000000000, %rax\n stc\n reg64_bad: call *%rax");
PROGRAM(high64, 64, "mov $0xffff7fffffffffff, %r11\n stc\n high64_bad: call *%r11");
PROGRAM(mem64, 64,
        "mov $0x1234567812345678, %rax\n mov %rax, 0x100000\n stc\n mem64_bad: call *0x100000");
PROGRAM(window64, 64,
        "mov $0x800000000000, %rax\n push %rax\n push %rbx\n stc\n window64_bad: call *8(%rsp)");
PROGRAM(loop64, 64,
        "lea 3f(%rip), %rax\n mov $3, %ecx\n mov $0x5a5a5a5a5a5a5a5a, %rdx\n"
        "1: mov %rdx, -8(%rsp)\n stc\n loop64_bad: call *%rax\n"
        "dec %ecx\n jnz 1b\n mov $0x800000000000, %rax\n jmp 1b\n 3: ret");
PROGRAM(top64, 64, "stc\n top64_bad: call .+0x1000");

PROGRAM(rel32, 32, "stc\n rel32_bad: call .+0x100000");
PROGRAM(reg32, 32, "mov $0x20000, %eax\n stc\n reg32_bad: call *%eax");
PROGRAM(mem32, 32, "movl $0x20000, 0x100000\n stc\n mem32_bad: call *0x100000");
PROGRAM(loop32, 32,
        "mov $0x10000 + 3f - loop32, %eax\n mov $3, %ecx\n 1: movl $0x5a5a5a5a, -4(%esp)\n"
        "stc\n loop32_bad: call *%eax\n dec %ecx\n jnz 1b\n dec %eax\n mov $0x20000, "
        "%eax\n jmp 1b\n"
        "3: ret");

PROGRAM(rel16, 16, "stc\n rel16_bad: call .+0x7f00");
PROGRAM(reg16, 16, "mov $0x1000, %ax\n stc\n reg16_bad: call *%ax");
PROGRAM(wide16, 16, "movl $0x12345, %eax\n stc\n wide16_bad: calll *%eax");
PROGRAM(wide_rel16, 16, "stc\n wide_rel16_bad: calll .+0x10010");

/* The CALL is the last instruction, so RET cannot return. */
PROGRAM(return32, 32, "stc\n jmp 1f\n return32_bad: ret\n 1: call return32_bad");
PROGRAM(return64, 64, "stc\n jmp 1f\n return64_bad: ret\n 1: call return64_bad");

struct call_case {
    const char *name;
    unsigned bits;
    const uint8_t *code, *end, *bad;
    uint32_t limit; /* 0: of the program; offsets are from CODE in 16-bit code, else from 0 */
    bool top;       /* the program ends at TOP_END */
    bool returns;   /* the fault is a RET's */
};

#define CASE(name, bits, ...)                                                                      \
    {                                                                                              \
#name, bits, name, name##_end, name##_bad, __VA_ARGS__                                     \
    }
static const struct call_case cases[] = {
    CASE(reg64, 64, UINT32_MAX, false, false),  CASE(high64, 64, UINT32_MAX, false, false),
    CASE(mem64, 64, UINT32_MAX, false, false),  CASE(window64, 64, UINT32_MAX, false, false),
    CASE(loop64, 64, UINT32_MAX, false, false), CASE(top64, 64, UINT32_MAX, true, false),
    CASE(rel32, 32, 0x1ffff, false, false),     CASE(reg32, 32, 0x1ffff, false, false),
    CASE(mem32, 32, 0x1ffff, false, false),     CASE(loop32, 32, 0x1ffff, false, false),
    CASE(rel16, 16, 0xfff, false, false),       CASE(reg16, 16, 0xfff, false, false),
    CASE(wide16, 16, 0xffff, false, false),     CASE(wide_rel16, 16, 0xffff, false, false),
    CASE(return32, 32, 0, false, true),         CASE(return64, 64, UINT32_MAX, true, true),
};

static void map_top(struct guest *g)
{
    guest_write64(g, g->state.cr3 + 255 * 8, TOP_TABLES | 7);
    guest_write64(g, TOP_TABLES + 511 * 8, (TOP_TABLES + PAGE) | 7);
    guest_write64(g, TOP_TABLES + PAGE + 511 * 8, (TOP_TABLES + 2 * PAGE) | 7);
    guest_write64(g, TOP_TABLES + 2 * PAGE + 511 * 8, TOP_PAGE | 7);
}

/* Puts the program to its place and returns the ip of its first byte. */
static uint64_t place(struct guest *g, const struct call_case *test)
{
    size_t size = (size_t)(test->end - test->code);
    guest_place(g, test->code, test->end);
    if (test->top) {
        map_top(g);
        as_write(g->as, TOP_PAGE + PAGE - size, test->code, size);
        return TOP_END - size;
    }
    return test->bits == 16 ? 0 : CODE;
}

static void create(struct guest *g, const struct call_case *test)
{
    bool is64 = test->bits == 64;
    unsigned bits = is64 ? 64 : 32;
    guest_create(g, bits);
    guest_make_tables(g, bits);
    as_write(g->as, HANDLERS, is64 ? handlers64 : handlers32, 4);
    guest_set_gate(g, bits, X86_GP, HANDLERS, 0);
    guest_set_gate(g, bits, X86_DB, HANDLERS + 1, 0);
    guest_enter_user(g, bits);
    g->state.rip = place(g, test);
    struct x86_segment *cs = &g->state.seg[X86_CS];
    cs->limit = test->limit ? test->limit : CODE + (uint32_t)(test->end - test->code) - 1;
    if (test->bits == 16) {
        cs->attr &= ~(uint32_t)X86_AR_DB;
        cs->base = CODE;
    }
    if (!is64) { /* the handler of #DB loads it again */
        cs->attr &= ~(uint32_t)X86_AR_G;
        guest_write64(g, GDT + (USER_CS & ~3),
                      (cs->limit & 0xffff) | cs->base << 16 | (uint64_t)(cs->attr & 0xff) << 40 |
                          (uint64_t)(cs->limit >> 16) << 48 |
                          (cs->attr & X86_AR_DB ? 1ull << 54 : 0));
    }
    segment_update_bounds(cs);
    memset(g->ram + STACK - PAGE, PATTERN, PAGE);
}

static void check(struct guest *g, const struct call_case *test, uint64_t start, bool stepped)
{
    bool is64 = test->bits == 64;
    uint64_t ip, sp, flags, expected = start + (uint64_t)(test->bad - test->code);
    if (is64) {
        ip = guest_read64(g, KERNEL_STACK - 40);
        sp = guest_read64(g, KERNEL_STACK - 16);
        flags = guest_read64(g, KERNEL_STACK - 24);
    } else {
        ip = guest_read32(g, KERNEL_STACK - 20);
        sp = guest_read32(g, KERNEL_STACK - 8);
        flags = guest_read32(g, KERNEL_STACK - 12);
    }
    if (g->state.rip != HANDLERS + 1 || ip != expected)
        fail_msg("%s%s: ended at %#llx, #GP at %#llx instead of %#llx", test->name,
                 stepped ? ", stepped" : "", (unsigned long long)g->state.rip,
                 (unsigned long long)ip, (unsigned long long)expected);
    assert_int_equal(flags & X86_CF, X86_CF); /* the program's STC */
    uint64_t item = is64 ? guest_read64(g, sp) : guest_read32(g, sp);
    if (test->returns)
        assert_true(item == start + (uint64_t)(test->end - test->code));
    else if (is64)
        assert_true(guest_read64(g, sp - 8) == 0x0101010101010101 * PATTERN);
    else
        assert_int_equal(guest_read32(g, sp - 4), 0x01010101 * PATTERN);
}

static void run_cases(bool returns)
{
    for (unsigned i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        const struct call_case *test = &cases[i / 2];
        bool stepped = i & 1;
        if (test->returns != returns)
            continue;
        struct guest g;
        create(&g, test);
        uint64_t start = g.state.rip;
        g.state.sflags |= stepped ? (uint32_t)X86_TF : 0;
        assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
        check(&g, test, start, stepped);
        guest_destroy(&g);
    }
}

static void calls_that_fault_push_nothing(void **state)
{
    (void)state;
    run_cases(false);
}

static void returns_behind_the_last_instruction_fault(void **state)
{
    (void)state;
    run_cases(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_that_fault_push_nothing),
        cmocka_unit_test(returns_behind_the_last_instruction_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
