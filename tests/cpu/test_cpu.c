#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/cpu.h"

/* SDM vol. 3, table 10-1 (RESET column). */
static void reset_state(void **state)
{
    static struct x86_cpu cpu;

    (void)state;
    memset(&cpu, 0x5a, sizeof(cpu));
    assert_int_equal(cpuid_model_init(&cpu.cpuid, "pentium3", NULL), 0);
    x86_reset(&cpu);
    assert_int_equal(x86_get_rflags(&cpu), 2);
    assert_int_equal(cpu.rip, 0xfff0);
    assert_int_equal(cpu.cr0, 0x60000010);
    assert_int_equal(cpu.cr2 | cpu.cr3 | cpu.cr4 | cpu.efer, 0);
    assert_int_equal(cpu.seg[X86_CS].selector, 0xf000);
    assert_int_equal(cpu.seg[X86_CS].base, 0xffff0000);
    for (unsigned seg = 0; seg < X86_SEG_COUNT; seg++) {
        assert_int_equal(cpu.seg[seg].limit, 0xffff);
        assert_true(cpu.seg[seg].attr & X86_AR_P);
        if (seg != X86_CS) {
            assert_int_equal(cpu.seg[seg].selector, 0);
            assert_int_equal(cpu.seg[seg].base, 0);
        }
    }
    assert_int_equal(cpu.seg[X86_DS].read_end, 0x10000);
    assert_int_equal(cpu.seg[X86_DS].write_end, 0x10000);
    assert_int_equal(cpu.gdtr.base, 0);
    assert_int_equal(cpu.gdtr.limit, 0xffff);
    assert_int_equal(cpu.idtr.base, 0);
    assert_int_equal(cpu.idtr.limit, 0xffff);
    assert_int_equal(cpu.gpr[X86_RDX], 0x686); /* Pentium III, Coppermine */
    assert_int_equal(cpu.gpr[X86_RAX] | cpu.gpr[X86_RSP] | cpu.gpr[X86_R15], 0);
    assert_int_equal(cpu.dr[6], 0xffff0ff0);
    assert_int_equal(cpu.dr[7], 0x400);
    assert_int_equal(cpu.dr[0] | cpu.dr[3], 0);
    assert_int_equal(cpu.pat, 0x0007040600070406);
    assert_int_equal(cpu.xcr0, 1);
    assert_int_equal(cpu.mtrr_def_type, 0);
    assert_int_equal(cpu.cpl, 0);
    assert_int_equal(cpu.halted, 0);
    assert_int_equal(cpu.shutdown, 0);
    assert_true(cpu.dirty & X86_DIRTY_MODE);
    assert_true(cpu.dirty & X86_DIRTY_ADDRESS);
}

/* SDM vol. 3, table 10-1 (INIT column). */
static void init_state(void **state)
{
    static struct x86_cpu cpu, before;

    (void)state;
    assert_int_equal(cpuid_model_init(&cpu.cpuid, "pentium3", NULL), 0);
    x86_reset(&cpu);
    cpu.cr0 = 0x80010033;
    cpu.cr2 = cpu.cr3 = cpu.cr4 = cpu.efer = cpu.rip = cpu.gpr[X86_RBX] = 0x10;
    cpu.pat = 6;
    cpu.tsc_offset = cpu.tsc_adjust = cpu.sysenter_eip = cpu.lstar = cpu.xcr0 = 7;
    cpu.mtrr_def_type = 0xc06;
    cpu.mtrr_var[3] = cpu.mc_ctl[2] = 9;
    cpu.xsave[0] = 0x7f;
    cpu.xsave[160] = 0x33; /* XMM0 */
    before = cpu;
    x86_init(&cpu);
    assert_int_equal(cpu.cr0, 0x10);
    assert_int_equal(cpu.cr2 | cpu.cr3 | cpu.cr4 | cpu.efer | cpu.gpr[X86_RBX], 0);
    assert_int_equal(cpu.rip, 0xfff0);
    assert_int_equal(cpu.seg[X86_CS].base, 0xffff0000);
    assert_int_equal(cpu.gpr[X86_RDX], 0x686);
    assert_int_equal(cpu.pat, 6);
    assert_int_equal(cpu.tsc_offset + cpu.tsc_adjust + cpu.sysenter_eip + cpu.lstar + cpu.xcr0, 35);
    assert_int_equal(cpu.mtrr_def_type, 0xc06);
    assert_int_equal(cpu.mtrr_var[3] + cpu.mc_ctl[2], 18);
    assert_memory_equal(cpu.xsave, before.xsave, sizeof(cpu.xsave));
    cpu.cr0 = 0x60000011;
    x86_init(&cpu);
    assert_int_equal(cpu.cr0, 0x60000010);
}

/* The host loads the image of a processor after RESET and finds FCW 0040H and MXCSR 1F80H. */
static void reset_image_is_loadable(void **state)
{
    static struct x86_cpu cpu;
    static uint8_t saved[4096] __attribute__((aligned(64)));
    uint16_t fcw;
    uint32_t mxcsr;

    (void)state;
    if (!__builtin_cpu_supports("avx"))
        skip();
    x86_reset(&cpu);
    __asm__ volatile("xsave64 %[saved]\n\t"
                     "xrstor64 %[image]\n\t"
                     "fnstcw %[fcw]\n\t"
                     "stmxcsr %[mxcsr]\n\t"
                     "xrstor64 %[saved]"
                     : [saved] "+m"(saved), [fcw] "=m"(fcw), [mxcsr] "=m"(mxcsr)
                     : [image] "m"(cpu.xsave), "a"(7), "d"(0)
                     : "memory");
    assert_int_equal(fcw, 0x40);
    assert_int_equal(mxcsr, 0x1f80);
    assert_int_equal(cpu.xsave[4], 0xff); /* tag word 5555H: zero, not empty */
}

static void flags_split_and_join(void **state)
{
    static struct x86_cpu cpu;
    const uint64_t all = 0x3f7fd7;

    (void)state;
    x86_reset(&cpu);
    cpu.dirty = 0;
    x86_set_rflags(&cpu, all);
    assert_int_equal(x86_get_rflags(&cpu), all);
    assert_int_equal(cpu.aflags, 0xcd5);
    assert_int_equal(cpu.iflag, 1);
    assert_true(cpu.dirty & X86_DIRTY_MODE); /* TF and VM went on */
    cpu.dirty = 0;
    x86_set_rflags(&cpu, all & ~(uint64_t)X86_CF & ~(uint64_t)X86_IF);
    assert_int_equal(cpu.dirty, 0);
    assert_int_equal(cpu.iflag, 0);
    x86_set_rflags(&cpu, ~0ull); /* reserved bits do not exist */
    assert_int_equal(x86_get_rflags(&cpu), all);
}

static void opening_the_interrupt_window(void **state)
{
    static struct x86_cpu cpu;

    (void)state;
    x86_reset(&cpu);
    x86_set_iflag(&cpu, true);
    assert_int_equal(cpu.exit_request, 0);
    x86_set_iflag(&cpu, false);
    cpu.intr_wanted = 1;
    x86_set_rflags(&cpu, 2);
    assert_int_equal(cpu.exit_window, 0);
    x86_set_rflags(&cpu, 2 | X86_IF);
    assert_int_equal(cpu.exit_window, 1);
    assert_true(cpu.exit_request != 0);
}

static void segment_bounds(void **state)
{
    static const struct {
        uint32_t attr, limit;
        uint64_t read_end, write_end;
    } rows[] = {
        {0x93, 0xffff, 0x10000, 0x10000},                     /* data, writable */
        {0x91, 0xffff, 0x10000, 0},                           /* data, read-only */
        {0xc093, 0xffffffff, 0x100000000, 0x100000000},       /* 4 GiB */
        {0x97, 0xfff, 0, 0},                                  /* expand-down */
        {0x9b, 0xffff, 0x10000, 0},                           /* code, readable */
        {0x99, 0xffff, 0, 0},                                 /* code, execute-only */
        {0x13, 0xffff, 0, 0},                                 /* not present */
        {0x82, 0xffff, 0, 0},                                 /* LDT */
        {0x93 | (uint32_t)X86_AR_UNUSABLE, 0xffffffff, 0, 0}, /* null selector */
        {0x93, 0, 1, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct x86_segment seg = {
            .attr = rows[i].attr, .limit = rows[i].limit, .read_end = 7, .write_end = 7};

        segment_update_bounds(&seg);
        assert_int_equal(seg.read_end, rows[i].read_end);
        assert_int_equal(seg.write_end, rows[i].write_end);
    }
}

static void real_mode_segment(void **state)
{
    struct x86_segment seg = {.base = 0x12345678, .limit = 0xffffffff, .attr = 0xc093};

    (void)state;
    segment_load_real(&seg, 0xf123);
    assert_int_equal(seg.selector, 0xf123);
    assert_int_equal(seg.base, 0xf1230);
    assert_int_equal(seg.limit, 0xffffffff); /* what protected mode left: "unreal" mode */
    assert_int_equal(seg.read_end, 0x100000000);
}

static void faults_are_data(void **state)
{
    static struct x86_cpu cpu;

    (void)state;
    cpu.fault.trap = true;
    assert_int_equal(x86_raise(&cpu, X86_UD), -1);
    assert_int_equal(cpu.fault.vector, 6);
    assert_false(cpu.fault.has_error);
    assert_false(cpu.fault.trap);
    assert_int_equal(x86_raise_error(&cpu, X86_GP, 0x18), -1);
    assert_int_equal(cpu.fault.vector, 13);
    assert_true(cpu.fault.has_error);
    assert_int_equal(cpu.fault.error, 0x18);
    assert_int_equal(x86_raise_page_fault(&cpu, 0x123456789a, 7), -1);
    assert_int_equal(cpu.fault.vector, 14);
    assert_int_equal(cpu.fault.error, 7);
    assert_true(cpu.fault.cr2 == 0x123456789a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_state),
        cmocka_unit_test(reset_state),
        cmocka_unit_test(reset_image_is_loadable),
        cmocka_unit_test(flags_split_and_join),
        cmocka_unit_test(opening_the_interrupt_window),
        cmocka_unit_test(segment_bounds),
        cmocka_unit_test(real_mode_segment),
        cmocka_unit_test(faults_are_data),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
