/*
 * FIP, FDP, FOP and their selectors as guests read them: those of the guest's instruction and
 * operand, whatever runs in between, and never an address of the host.
 */
#include "guest.h"
#include "tables.h"

#include <string.h>

enum { CONTROL = 0x5000, ZERO = 0x5010, ENV = 0x5100, IMAGE = 0x5200, CROSSING = 0x5ffe };
enum { UNMASKED = 0x37b, FDIV_M32 = 0x035, CR0_NE = 0x20 };

/* A program: fld1, what is before, the instruction that divides by 0, what reads the pointers. */
#define PROGRAM(name, bits, before, insn, after)                                                   \
    extern const uint8_t name##_at[];                                                              \
    GUEST_CODE(name, bits,                                                                         \
               "fninit\n fldcw 0x5000\n fld1\n" before "\n" #name "_at: " insn "\n" after          \
               "\n hlt")

struct program {
    const char *name;
    unsigned bits;
    const uint8_t *code, *end, *at;
    uint16_t fop, fds;
    uint32_t fdp;
};
#define ROW(name, bits, fop, fdp, fds)                                                             \
    {                                                                                              \
#name, bits, name, name##_end, name##_at, fop, fds, fdp                                    \
    }

static void put(struct guest *g, uint32_t at, uint32_t value, unsigned size)
{
    memcpy(g->ram + at, &value, size);
}

static uint32_t get(const struct guest *g, uint32_t at, unsigned size)
{
    uint32_t value = 0;
    memcpy(&value, g->ram + at, size);
    return value;
}

static void create(struct guest *g, unsigned bits)
{
    guest_create(g, bits);
    guest_make_tables(g, bits);
    put(g, CONTROL, UNMASKED, 2);
    g->state.cr0 |= CR0_NE;
    g->state.seg[X86_FS].base = 0x4000;
    if (bits == 16)
        segment_load_real(&g->state.seg[X86_FS], 0x400);
    segment_update_bounds(&g->state.seg[X86_FS]);
}

/* The pointers that FNSTENV left at ENV, real mode's as linear addresses. */
static struct x87_pointers environment(const struct guest *g, unsigned bits)
{
    struct x87_pointers p = {0};
    if (bits == 16) {
        p.fip = get(g, ENV + 6, 2) | (get(g, ENV + 8, 2) & 0xf000) << 4;
        p.fdp = get(g, ENV + 10, 2) | (get(g, ENV + 12, 2) & 0xf000) << 4;
        p.fop = get(g, ENV + 8, 2) & 0x7ff;
    } else {
        p.fip = get(g, ENV + 12, 4);
        p.fcs = (uint16_t)get(g, ENV + 16, 2);
        p.fop = (uint16_t)get(g, ENV + 18, 2);
        p.fdp = get(g, ENV + 20, 4);
        p.fds = (uint16_t)get(g, ENV + 24, 2);
    }
    return p;
}

static void expect_pointers(const struct guest *g, const struct program *program)
{
    struct x87_pointers p = environment(g, program->bits);
    uint32_t fip = CODE + (uint32_t)(program->at - program->code);
    if (p.fip != fip || p.fop != program->fop || p.fdp != program->fdp || p.fds != program->fds ||
        p.fcs != (program->bits == 16 ? 0 : KERNEL_CS))
        fail_msg("%s: %04x:%08x %03x %04x:%08x instead of %08x %03x %04x:%08x", program->name,
                 p.fcs, (unsigned)p.fip, p.fop, p.fds, (unsigned)p.fdp, fip, program->fop,
                 program->fds, program->fdp);
}

/* --- stored by FNSTENV while an exception is pending --- */

#define READ "fnstenv 0x5100"
#define IN_ALL_MODES(name, before, insn, after)                                                    \
    PROGRAM(name##16, 16, before, insn, after);                                                    \
    PROGRAM(name##32, 32, before, insn, after);                                                    \
    PROGRAM(name##64, 64, before, insn, after)
#define ROWS(name, fop, fdp, fds)                                                                  \
    ROW(name##16, 16, fop, fdp, 0), ROW(name##32, 32, fop, fdp, fds),                              \
        ROW(name##64, 64, fop, fdp, fds)

IN_ALL_MODES(absolute, "", "fdivs 0x5010", READ);
IN_ALL_MODES(crossing, "", "fdivs 0x5ffe", READ);
IN_ALL_MODES(in_register, "fldz", "fdivrp %st, %st(1)", READ);
IN_ALL_MODES(after_operand, "flds 0x5010", "fdivrp %st, %st(1)", READ);
IN_ALL_MODES(after_crossing, "flds 0x5ffe", "fdivrp %st, %st(1)", READ);
IN_ALL_MODES(other_block, "jmp 1f\n 1:", "fdivs 0x5010", "jmp 1f\n 1: " READ);
IN_ALL_MODES(twice, "fdivs 0x5ffe", "fdivs 0x5010", READ);
IN_ALL_MODES(no_wait, "", "fdivs 0x5010", "fnstsw 0x5020\n fnstcw 0x5ffe\n fnstsw %ax\n" READ);
IN_ALL_MODES(callouts, "", "fdivs 0x5010", "xor %eax, %eax\n cpuid\n out %al, $1\n" READ);
IN_ALL_MODES(override, "", "fdivs %fs:0x1010", READ);
IN_ALL_MODES(cleared, "", "fdivs 0x5010", "fnclex\n" READ);
IN_ALL_MODES(again, "", "fdivs 0x5010", "fnstenv 0x5180\n" READ);
IN_ALL_MODES(saved, "", "fdivs 0x5010", "fnsave 0x5180\n frstor 0x5180\n" READ);
PROGRAM(based32, 32, "mov $0x5000, %esi", "fdivs 0x10(%esi)", "xor %esi, %esi\n" READ);
PROGRAM(based64, 64, "mov $0x5000, %r9d", "fdivs 0x10(%r9)", "xor %r9d, %r9d\n" READ);
PROGRAM(stack32, 32, "push $0\n", "fdivs (%esp)", "pop %eax\n" READ);
PROGRAM(relative64, 64, "", "fdivs 0x5010 - 0x10000 + relative64(%rip)", READ);
PROGRAM(vectors32, 32, "", "fdivs 0x5010",
        "xor %eax, %eax\n cpuid\n xorps %xmm0, %xmm0\n out %al, $1\n xorps %xmm0, %xmm0\n" READ);

static const struct program pending[] = {
    ROWS(absolute, FDIV_M32, ZERO, KERNEL_DS),
    ROWS(crossing, FDIV_M32, CROSSING, KERNEL_DS),
    ROWS(in_register, 0x6f9, 0, 0),
    ROWS(after_operand, 0x6f9, ZERO, KERNEL_DS),
    ROWS(after_crossing, 0x6f9, CROSSING, KERNEL_DS),
    ROWS(other_block, FDIV_M32, ZERO, KERNEL_DS),
    ROWS(no_wait, FDIV_M32, ZERO, KERNEL_DS),
    ROWS(callouts, FDIV_M32, ZERO, KERNEL_DS),
    ROW(override16, 16, FDIV_M32, ZERO, 0),
    ROW(override32, 32, FDIV_M32, 0x1010, KERNEL_DS),
    ROW(override64, 64, FDIV_M32, 0x1010, KERNEL_DS),
    ROWS(cleared, FDIV_M32, ZERO, KERNEL_DS),
    ROWS(again, FDIV_M32, ZERO, KERNEL_DS),
    ROWS(saved, FDIV_M32, ZERO, KERNEL_DS),
    ROW(based32, 32, 0x076, ZERO, KERNEL_DS),
    ROW(based64, 64, 0x071, ZERO, KERNEL_DS),
    ROW(relative64, 64, FDIV_M32, ZERO, KERNEL_DS),
    ROW(stack32, 32, 0x034, STACK - 4, KERNEL_DS),
    ROW(vectors32, 32, FDIV_M32, ZERO, KERNEL_DS),
};

/* What the assembler makes of an absolute address: ModRM 36 in 16-bit, 34 and SIB in 64-bit code.
 */
static uint16_t encoded_fop(const struct program *program)
{
    if (program->fop != FDIV_M32 || strstr(program->name, "relative"))
        return program->fop;
    return program->bits == 16 ? 0x036 : program->bits == 64 ? 0x034 : FDIV_M32;
}

static void run_rows(const struct program *rows, unsigned count, unsigned runs)
{
    for (unsigned i = 0; i < count; i++) {
        struct guest g;
        struct program program = rows[i];
        program.fop = encoded_fop(&program);
        create(&g, program.bits);
        struct x86_cpu start = g.state;
        for (unsigned run = 0; run < runs; run++) { /* later ones find translations and TLB */
            g.state = start;
            memset(g.ram + ENV, 0xcc, 28);
            guest_place(&g, program.code, program.end);
            assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
            expect_pointers(&g, &program);
        }
        guest_destroy(&g);
    }
}

static void pending_exception_names_its_instruction(void **state)
{
    (void)state;
    run_rows(pending, sizeof(pending) / sizeof(pending[0]), 2);
}

/* --- read by the handler of #MF --- */

#define HANDLED(name, bits, between)                                                               \
    extern const uint8_t name##_handler[];                                                         \
    PROGRAM(name, bits, "", "fdivs 0x5010", between "\n fwait\n hlt\n" #name "_handler: " READ)
HANDLED(wait16, 16, "");
HANDLED(wait32, 32, "");
HANDLED(wait64, 64, "");
HANDLED(between16, 16, "fnstsw %ax\n xor %eax, %eax\n cpuid");
HANDLED(between32, 32, "fnstcw 0x5020\n xorps %xmm0, %xmm0\n cpuid");
HANDLED(between64, 64, "fnstcw 0x5ffe\n xorps %xmm0, %xmm0\n cpuid");

static void handler_finds_the_instruction(void **state)
{
    (void)state;
    static const struct {
        struct program program;
        const uint8_t *handler;
    } rows[] = {
        {ROW(wait16, 16, FDIV_M32, ZERO, 0), wait16_handler},
        {ROW(wait32, 32, FDIV_M32, ZERO, KERNEL_DS), wait32_handler},
        {ROW(wait64, 64, FDIV_M32, ZERO, KERNEL_DS), wait64_handler},
        {ROW(between16, 16, FDIV_M32, ZERO, 0), between16_handler},
        {ROW(between32, 32, FDIV_M32, ZERO, KERNEL_DS), between32_handler},
        {ROW(between64, 64, FDIV_M32, ZERO, KERNEL_DS), between64_handler},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct guest g;
        struct program program = rows[i].program;
        program.fop = encoded_fop(&program);
        create(&g, program.bits);
        GUEST_GATE(&g, program.bits, X86_MF, program.code, rows[i].handler);
        guest_place(&g, program.code, program.end);
        assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
        expect_pointers(&g, &program);
        guest_destroy(&g);
    }
}

/* The operand was looked for in the handler's code segment, not in the one with the instruction. */
extern const uint8_t inner32_at[], inner32_zero[], inner32_handler[];
GUEST_CODE(
    inner32, 32,
    "fninit\n fldcw 0x5000\n fld1\n inner32_at: fdivs %cs:inner32_zero - inner32\n int $0x40\n"
    "inner32_zero: .long 0\n inner32_handler: " READ "\n hlt");

static void operand_in_code_segment_that_int_left(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 32);
    GUEST_GATE(&g, 32, 0x40, inner32, inner32_handler);
    guest_place(&g, inner32, inner32_end);
    guest_enter_user(&g, 32);
    g.state.seg[X86_CS].base = CODE;
    segment_update_bounds(&g.state.seg[X86_CS]);
    g.state.rip = 0;
    assert_int_equal(guest_run(&g), VCPU_EXIT_HALT);
    struct x87_pointers p = environment(&g, 32);
    assert_int_equal(p.fip, inner32_at - inner32);
    assert_int_equal(p.fdp, inner32_zero - inner32);
    assert_int_equal(p.fcs, USER_CS);
    assert_int_equal(p.fds, USER_CS);
    guest_destroy(&g);
}

/* --- without an exception --- */

/* Programs find out where they are by this; translation of the code must not come in between. */
IN_ALL_MODES(where, "", "fldz", READ);
IN_ALL_MODES(where_later, "flds 0x5ffe", "fldz", "jmp 1f\n 1: " READ);
static const struct program quiet[] = {
    ROWS(where, 0x1ee, 0, 0),
    ROWS(where_later, 0x1ee, CROSSING, KERNEL_DS),
};

static void fnstenv_names_the_last_instruction(void **state)
{
    (void)state;
    run_rows(quiet, sizeof(quiet) / sizeof(quiet[0]), 2);
}

GUEST_CODE(initialized, 32,
           "fldcw 0x5000\n fld1\n fdivs 0x5010\n fnclex\n" READ "\n fld1\n fninit\n" READ "\n hlt");

static void fninit_clears_pointers(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 32);
    guest_exec(&g, initialized);
    for (unsigned at = 12; at < 26; at++)
        assert_int_equal(g.ram[ENV + at], 0);
    guest_destroy(&g);
}

/* --- loaded by the guest --- */

GUEST_CODE(reload64, 64,
           "fxrstor64 0x5400\n fnstsw %ax\n fxsave64 0x5200\n movaps %xmm0, %xmm1\n "
           "out %al, $1\n fnstsw %ax\n fxsave64 0x5600\n fnclex\n" READ "\n hlt");

/* Whatever the guest loads is what it reads, even what the engine or the host uses itself. */
static void loaded_pointers_come_back(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 64);
    uint64_t values[] = {
        0, 1, 2, 0x10000, 0x7fffffffffff, (uint64_t)(uintptr_t)g.ram, (uint64_t)(uintptr_t)g.vcpu};
    struct x86_cpu start = g.state;
    for (unsigned i = 0; i < 49; i++) {
        uint64_t fip = values[i % 7], fdp = values[i / 7];
        memset(g.ram + 0x5400, 0, 512);
        put(&g, 0x5400, UNMASKED, 2);
        put(&g, 0x5402, 4, 2); /* ZE: pending */
        put(&g, 0x5406, 0x123, 2);
        memcpy(g.ram + 0x5408, &fip, 8);
        memcpy(g.ram + 0x5410, &fdp, 8);
        put(&g, 0x5418, 0x1f80, 4);
        g.state = start;
        guest_exec(&g, reload64);
        assert_memory_equal(g.ram + 0x5206, g.ram + 0x5406, 18);
        assert_memory_equal(g.ram + 0x5606, g.ram + 0x5406, 18);
        struct x87_pointers p = environment(&g, 64);
        assert_true(p.fip == (uint32_t)fip && p.fdp == (uint32_t)fdp && p.fop == 0x123);
    }
    guest_destroy(&g);
}

/* --- what is not known is 0 --- */

GUEST_CODE(forgotten, 32,
           "fldcw 0x5000\n fld1\n fadds 0x5010\n out %al, $1\n" READ "\n fxsave 0x5200\n hlt");
PROGRAM(wide64, 64, "", "fdivs 0x5010", "fxsave64 0x5200\n fxsave 0x5600\n fnclex\n fxsave 0x5400");

static void no_host_address_is_seen(void **state)
{
    (void)state;
    struct guest g;
    create(&g, 32);
    guest_exec(&g, forgotten);
    struct x87_pointers p = environment(&g, 32);
    bool known = p.fip == CODE + 8 && p.fcs == KERNEL_CS && p.fdp == ZERO && p.fds == KERNEL_DS;
    assert_true(known || (!p.fip && !p.fcs && !p.fdp && !p.fds));
    for (unsigned at = 6; at < 24; at++)
        assert_int_equal(g.ram[IMAGE + at], 0); /* AMD's processors: no exception is pending */
    guest_destroy(&g);
}

static void images_have_wide_and_narrow_pointers(void **state)
{
    (void)state;
    struct guest g;
    uint32_t fip = CODE + (uint32_t)(wide64_at - wide64);
    create(&g, 64);
    guest_exec(&g, wide64);
    for (unsigned image = 0x5200; image <= 0x5600; image += 0x400) {
        bool wide = image == 0x5200;
        assert_int_equal(get(&g, image + 6, 2), 0x034);
        assert_int_equal(get(&g, image + 8, 4), fip);
        assert_int_equal(get(&g, image + 12, 4), wide ? 0 : KERNEL_CS);
        assert_int_equal(get(&g, image + 16, 4), ZERO);
        assert_int_equal(get(&g, image + 20, 4), wide ? 0 : KERNEL_DS);
    }
    for (unsigned at = 6; at < 24; at++)
        assert_int_equal(g.ram[0x5400 + at], 0);
    guest_destroy(&g);
}

/* The code is gone, translated or not, and the TLB is empty when the next program looks. */
PROGRAM(left32, 32, "", "fdivs 0x5010", "");
GUEST_CODE(read32, 32, READ "\n hlt");

static void pointers_outlive_code_and_translation(void **state)
{
    (void)state;
    struct guest g;
    struct program program = ROW(left32, 32, FDIV_M32, ZERO, KERNEL_DS);
    create(&g, 32);
    guest_exec(&g, left32);
    as_set_a20(g.as, true);
    as_set_a20(g.as, false);
    as_set_a20(g.as, true);
    guest_exec(&g, read32);
    expect_pointers(&g, &program);
    guest_destroy(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pending_exception_names_its_instruction),
        cmocka_unit_test(handler_finds_the_instruction),
        cmocka_unit_test(operand_in_code_segment_that_int_left),
        cmocka_unit_test(fnstenv_names_the_last_instruction),
        cmocka_unit_test(fninit_clears_pointers),
        cmocka_unit_test(loaded_pointers_come_back),
        cmocka_unit_test(no_host_address_is_seen),
        cmocka_unit_test(images_have_wide_and_narrow_pointers),
        cmocka_unit_test(pointers_outlive_code_and_translation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
