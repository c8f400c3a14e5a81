/* CLI, STI, PUSHF, POPF, HLT (SDM vol. 2, tables 3-7 and 4-16) and the port instructions. */
#include "fixture.h"

enum { FLAG_BITS = 0x3f7fd7, ARITH = X86_ARITH_FLAGS };

static void hlt(void **state)
{
    struct guest *g = *state;

    assert_int_equal(RUN(g, 0xf4), OP_HALT);
    assert_int_equal(g->cpu.halted, 1);
    g->cpu.halted = 0;
    g->cpu.cpl = 3;
    FAULTS_GP(g, 0xf4);
}

static void cli_sti_by_privilege(void **state)
{
    struct guest *g = *state;

    for (unsigned cpl = 0; cpl < 4; cpl++) {
        for (unsigned iopl = 0; iopl < 4; iopl++) {
            g->cpu.cpl = (uint8_t)cpl;
            set_iopl(g, iopl);
            g->cpu.iflag = 1;
            if (iopl >= cpl) {
                RUNS(g, 0xfa);
                assert_int_equal(g->cpu.iflag, 0);
                g->cpu.shadow = 0;
                RUNS(g, 0xfb);
                assert_int_equal(g->cpu.iflag, 1);
                assert_int_equal(g->cpu.shadow, X86_SHADOW_STI);
                g->cpu.shadow = 0;
                RUNS(g, 0xfb); /* already on: no shadow */
                assert_int_equal(g->cpu.shadow, 0);
            } else {
                FAULTS_GP(g, 0xfa);
                FAULTS_GP(g, 0xfb);
                assert_int_equal(g->cpu.iflag, 1);
            }
        }
    }
}

static void sti_opens_the_window(void **state)
{
    struct guest *g = *state;

    g->cpu.intr_wanted = 1;
    RUNS(g, 0xfb);
    assert_int_equal(g->cpu.exit_window, 1);
    g->cpu.exit_window = 0;
    RUNS(g, 0xfb);
    assert_int_equal(g->cpu.exit_window, 0);
}

static void protected_virtual_interrupts(void **state)
{
    struct guest *g = *state;

    g->cpu.cpl = 3;
    g->cpu.cr4 |= X86_CR4_PVI;
    g->cpu.iflag = 1;
    RUNS(g, 0xfb);
    assert_true(g->cpu.sflags & X86_VIF);
    RUNS(g, 0xfa);
    assert_false(g->cpu.sflags & X86_VIF);
    assert_int_equal(g->cpu.iflag, 1);
    g->cpu.sflags |= X86_VIP;
    FAULTS_GP(g, 0xfb);
    RUNS(g, 0xfa);
    g->cpu.cpl = 2; /* PVI is for CPL 3 only */
    FAULTS_GP(g, 0xfa);
}

static void vm86_interrupt_flag(void **state)
{
    struct guest *g = *state;

    enter_vm86(g, 3);
    RUNS(g, 0xfb);
    assert_int_equal(g->cpu.iflag, 1);
    set_iopl(g, 0);
    FAULTS_GP(g, 0xfa);
    FAULTS_GP(g, 0x9c);
    FAULTS_GP(g, 0x9d);
    g->cpu.cr4 |= X86_CR4_VME;
    RUNS(g, 0xfb);
    assert_true(g->cpu.sflags & X86_VIF);
    RUNS(g, 0xfa);
    assert_false(g->cpu.sflags & X86_VIF);
    g->cpu.sflags |= X86_VIP;
    FAULTS_GP(g, 0xfb);
}

static void pushf_images(void **state)
{
    struct guest *g = *state;

    x86_set_rflags(&g->cpu, FLAG_BITS & ~(X86_VM | X86_IOPL));
    RUNS(g, 0x9c);
    assert_int_equal(g->cpu.gpr[X86_RSP], AT_STACK - 4);
    assert_int_equal(get(g, AT_STACK - 4, 4), FLAG_BITS & ~(X86_VM | X86_RF | X86_IOPL));
    put(g, AT_STACK - 8, 4, 0);
    RUNS(g, 0x66, 0x9c);
    assert_int_equal(g->cpu.gpr[X86_RSP], AT_STACK - 6);
    assert_int_equal(get(g, AT_STACK - 8, 4), (FLAG_BITS & 0x4fd7) << 16);
    g->cpu.seg[X86_SS].limit = 0xfff;
    segment_update_bounds(&g->cpu.seg[X86_SS]);
    FAULTS(g, X86_SS_FAULT, 0, 0x9c);
}

static void pushf_vme(void **state)
{
    struct guest *g = *state;

    enter_vm86(g, 0);
    g->cpu.cr4 |= X86_CR4_VME;
    g->cpu.sflags |= X86_VIF;
    RUNS(g, 0x9c);
    assert_int_equal(get(g, 0xfefe, 2), X86_IOPL | X86_IF | 2); /* IF shows VIF, IOPL is 3 */
    g->cpu.sflags &= ~(uint32_t)X86_VIF;
    g->cpu.iflag = 1;
    RUNS(g, 0x9c);
    assert_int_equal(get(g, 0xfefc, 2), X86_IOPL | 2);
    FAULTS_GP(g, 0x66, 0x9c); /* 32-bit */
}

/* Pops image with the given operand size and returns RFLAGS after it. */
static uint64_t popf(struct guest *g, unsigned size, uint64_t image, uint64_t before)
{
    x86_set_rflags(&g->cpu, before);
    g->cpu.gpr[X86_RSP] = AT_STACK - 8;
    put(g, AT_STACK - 8, 8, image);
    if (size == 2)
        RUNS(g, 0x66, 0x9d);
    else
        RUNS(g, 0x9d);
    assert_int_equal(g->cpu.gpr[X86_RSP], AT_STACK - 8 + size);
    return x86_get_rflags(&g->cpu);
}

static void popf_by_privilege(void **state)
{
    /* bits that POPF can change, 32-bit operand; table 4-16 */
    const uint64_t always = ARITH | X86_DF_FLAG | X86_TF | X86_NT;
    struct guest *g = *state;

    for (unsigned cpl = 0; cpl < 4; cpl++) {
        for (unsigned iopl = 0; iopl < 4; iopl++) {
            uint64_t writable = always, keep = 2 | iopl << X86_IOPL_SHIFT;

            if (cpl == 0)
                writable |= X86_IOPL;
            if (cpl <= iopl)
                writable |= X86_IF;
            g->cpu.cpl = (uint8_t)cpl;
            assert_int_equal(popf(g, 2, UINT64_MAX, keep), keep | writable);
            assert_int_equal(popf(g, 4, UINT64_MAX, keep), keep | writable | X86_AC_FLAG | X86_ID);
            keep |= FLAG_BITS & ~(X86_VM | X86_IOPL);
            assert_int_equal(popf(g, 4, 0, keep),
                             keep & ~(writable | X86_AC_FLAG | X86_ID | X86_RF));
            assert_int_equal(popf(g, 2, 0, keep), keep & ~(writable | X86_RF));
        }
    }
}

static void popf_marks(void **state)
{
    struct guest *g = *state;

    g->cpu.dirty = 0;
    popf(g, 4, X86_TF, 2);
    assert_true(g->cpu.dirty & X86_DIRTY_MODE);
    g->cpu.intr_wanted = 1;
    popf(g, 4, X86_IF, 2);
    assert_int_equal(g->cpu.exit_window, 1);
    assert_int_equal(g->cpu.shadow, 0); /* unlike STI */
    g->cpu.gpr[X86_RSP] = 0;
    g->cpu.seg[X86_SS].limit = 2;
    segment_update_bounds(&g->cpu.seg[X86_SS]);
    FAULTS(g, X86_SS_FAULT, 0, 0x9d);
}

static void popf_vm86(void **state)
{
    struct guest *g = *state;

    enter_vm86(g, 3);
    g->cpu.gpr[X86_RSP] = 0x100;
    put(g, 0x100, 4, X86_IF | X86_CF); /* tries to set IOPL to 0 */
    RUNS(g, 0x9d);
    assert_int_equal(x86_get_rflags(&g->cpu), X86_VM | X86_IOPL | X86_IF | X86_CF | 2);

    set_iopl(g, 1);
    g->cpu.iflag = 0;
    g->cpu.cr4 |= X86_CR4_VME;
    g->cpu.gpr[X86_RSP] = 0x100;
    RUNS(g, 0x9d); /* IF goes to VIF */
    assert_int_equal(x86_get_rflags(&g->cpu), X86_VM | X86_VIF | 1 << X86_IOPL_SHIFT | X86_CF | 2);
    g->cpu.gpr[X86_RSP] = 0x100;
    FAULTS_GP(g, 0x66, 0x9d); /* 32-bit */
    g->cpu.sflags |= X86_VIP;
    FAULTS_GP(g, 0x9d); /* a virtual interrupt is pending */
    put(g, 0x100, 4, X86_TF);
    FAULTS_GP(g, 0x9d);
    put(g, 0x100, 4, 0);
    RUNS(g, 0x9d);
    assert_false(g->cpu.sflags & X86_VIF);
}

static void popf_real_and_64(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RSP] = AT_STACK - 8;
    put(g, AT_STACK - 8, 8, X86_ID | X86_CF);
    RUNS(g, 0x9d);
    assert_int_equal(g->cpu.gpr[X86_RSP], AT_STACK);
    assert_int_equal(x86_get_rflags(&g->cpu), X86_ID | X86_CF | 2);
    RUNS(g, 0x9c);
    assert_int_equal(get(g, AT_STACK - 8, 8), X86_ID | X86_CF | 2);
}

/* --- ports --- */

static void expect_port(const struct guest *g, unsigned i, bool write, uint16_t port, unsigned size,
                        uint64_t value)
{
    assert_true(i < g->port_count);
    assert_int_equal(g->ports[i].write, write);
    assert_int_equal(g->ports[i].port, port);
    assert_int_equal(g->ports[i].size, size);
    assert_int_equal(g->ports[i].value, value);
}

static void in_and_out(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RAX] = 0x1122334455667788;
    g->cpu.gpr[X86_RDX] = 0xffff03f8;
    RUNS(g, 0xe6, 0x80); /* out 80h, al */
    expect_port(g, 0, true, 0x80, 1, 0x88);
    RUNS(g, 0x66, 0xe7, 0xfe); /* out FEh, ax */
    expect_port(g, 1, true, 0xfe, 2, 0x7788);
    RUNS(g, 0xef); /* out dx, eax */
    expect_port(g, 2, true, 0x3f8, 4, 0x55667788);
    g->port_value = 0xa5a5a5a5a5a5;
    RUNS(g, 0xe4, 0x60); /* in al, 60h */
    assert_true(g->cpu.gpr[X86_RAX] == 0x11223344556677a5);
    RUNS(g, 0x66, 0xed); /* in ax, dx */
    assert_true(g->cpu.gpr[X86_RAX] == 0x112233445566a5a6);
    RUNS(g, 0xed); /* in eax, dx */
    assert_int_equal(g->cpu.gpr[X86_RAX], 0xa5a5a5a7);
    g->cpu.gpr[X86_RAX] = UINT64_MAX;
    RUNS(g, 0xec); /* in al, dx */
    assert_true(g->cpu.gpr[X86_RAX] == 0xffffffffffffffa8);
}

static void port_permission(void **state)
{
    struct guest *g = *state;

    flat_segments(g, 32, 3);
    FAULTS_GP(g, 0xe4, 0x60);
    FAULTS_GP(g, 0xe6, 0x60);
    g->cpu.gpr[X86_RDI] = AT_DATA;
    g->cpu.gpr[X86_RSI] = AT_DATA;
    FAULTS_GP(g, 0x6c);
    FAULTS_GP(g, 0x6e);
    assert_int_equal(g->port_count, 0);
    set_iopl(g, 3);
    RUNS(g, 0xe4, 0x60);
    assert_int_equal(g->port_count, 1);
}

static void string_input(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RDX] = 0x1f0;
    g->cpu.gpr[X86_RDI] = AT_DATA;
    g->cpu.gpr[X86_RCX] = 4;
    g->port_value = 0x101;
    RUNS(g, 0xf3, 0x66, 0x6d); /* rep insw */
    assert_true(get(g, AT_DATA, 8) == 0x0104010301020101);
    assert_int_equal(g->cpu.gpr[X86_RDI], AT_DATA + 8);
    assert_int_equal(g->cpu.gpr[X86_RCX], 0);
    assert_int_equal(g->port_count, 4);
    RUNS(g, 0xf3, 0x6d); /* count 0: nothing */
    assert_int_equal(g->port_count, 4);
    g->cpu.aflags |= X86_DF_FLAG;
    RUNS(g, 0x6c); /* insb, no prefix: ECX does not matter */
    assert_int_equal(get(g, AT_DATA + 8, 1), 0x05);
    assert_int_equal(g->cpu.gpr[X86_RDI], AT_DATA + 7);
    g->cpu.exit_async = 1;
    g->cpu.gpr[X86_RCX] = 3;
    assert_int_equal(RUN(g, 0xf3, 0x6c), OP_REPEAT);
    assert_int_equal(g->cpu.gpr[X86_RCX], 2);
}

/* The port is not read when the destination faults. */
static void string_input_fault(void **state)
{
    struct guest *g = *state;

    enable_paging32(g);
    read_only_page(g, AT_DATA + 0x1000);
    g->cpu.gpr[X86_RDI] = AT_DATA + 0xffc;
    g->cpu.gpr[X86_RCX] = 3;
    g->may_progress = true;
    expect_fault(g, RUN(g, 0xf3, 0x6d), X86_PF, 3);
    assert_int_equal(g->cpu.fault.cr2, AT_DATA + 0x1000);
    assert_int_equal(g->port_count, 1);
    assert_int_equal(g->cpu.gpr[X86_RCX], 2);
    assert_int_equal(g->cpu.gpr[X86_RDI], AT_DATA + 0x1000);
}

static void string_output(void **state)
{
    struct guest *g = *state;

    put(g, AT_DATA, 8, 0x8877665544332211);
    g->cpu.gpr[X86_RDX] = 0x3f8;
    g->cpu.gpr[X86_RSI] = AT_DATA;
    g->cpu.gpr[X86_RCX] = 2;
    RUNS(g, 0xf3, 0x6f); /* rep outsd */
    expect_port(g, 0, true, 0x3f8, 4, 0x44332211);
    expect_port(g, 1, true, 0x3f8, 4, 0x88776655);
    g->cpu.seg[X86_FS].base = 1;
    g->cpu.gpr[X86_RSI] = AT_DATA;
    RUNS(g, 0x64, 0x6e); /* fs: outsb */
    expect_port(g, 2, true, 0x3f8, 1, 0x22);
    g->cpu.gpr[X86_RCX] = 100;
    g->request_exit_after = g->port_count + 5;
    assert_int_equal(RUN(g, 0xf3, 0x6e), OP_REPEAT);
    assert_int_equal(g->cpu.gpr[X86_RCX], 95);
    g->cpu.seg[X86_DS].limit = 0xff;
    segment_update_bounds(&g->cpu.seg[X86_DS]);
    FAULTS_GP(g, 0x6e);
}

static void string_ports_64(void **state)
{
    struct guest *g = *state;

    put(g, AT_DATA, 8, 0x8877665544332211);
    g->cpu.gpr[X86_RSI] = AT_DATA;
    g->cpu.gpr[X86_RDX] = 0;
    RUNS(g, 0x48, 0x6f); /* REX.W: still 4 bytes */
    expect_port(g, 0, true, 0, 4, 0x44332211);
    assert_int_equal(g->cpu.gpr[X86_RSI], AT_DATA + 4);
    g->cpu.gpr[X86_RDI] = 1ull << 48;
    FAULTS_GP(g, 0x6c);
    g->cpu.gpr[X86_RDI] = 0xffffffff00000000 + AT_DATA;
    g->port_value = 0x5a;
    RUNS(g, 0x67, 0x6c); /* 32-bit address */
    assert_int_equal(get(g, AT_DATA, 1), 0x5a);
    assert_int_equal(g->cpu.gpr[X86_RDI], AT_DATA + 1);
}

int main(void)
{
#define PROTECTED(test) cmocka_unit_test_setup_teardown(test, setup_protected, teardown)
#define LONG(test)      cmocka_unit_test_setup_teardown(test, setup_long, teardown)
    const struct CMUnitTest tests[] = {
        PROTECTED(hlt),
        PROTECTED(cli_sti_by_privilege),
        PROTECTED(sti_opens_the_window),
        PROTECTED(protected_virtual_interrupts),
        PROTECTED(vm86_interrupt_flag),
        PROTECTED(pushf_images),
        PROTECTED(pushf_vme),
        PROTECTED(popf_by_privilege),
        PROTECTED(popf_marks),
        PROTECTED(popf_vm86),
        LONG(popf_real_and_64),
        PROTECTED(in_and_out),
        PROTECTED(port_permission),
        PROTECTED(string_input),
        PROTECTED(string_input_fault),
        PROTECTED(string_output),
        LONG(string_ports_64),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
