#include "fixture.h"

#define W(x)      (uint8_t)(x), (uint8_t)((x) >> 8)
#define D(x)      W(x), W((uint32_t)(x) >> 16)
#define JMP(sel)  0xea, D(0), W(sel)
#define CALL(sel) 0x9a, D(0), W(sel)
#define IRETD     0xcf

enum { VECTOR = 0x20, NEW_EIP = 0x7654, NEW_ESP = STACK1 };

/* A 32-bit task at CPL 0. */
static void fill_tss32(struct machine *m, uint64_t at, uint16_t cs, uint16_t ss, uint16_t data)
{
    put(m, at + 0x1c, 4, AT_PD32);
    put(m, at + 0x20, 4, NEW_EIP);
    put(m, at + 0x24, 4, 2 | X86_CF | X86_IF);
    for (unsigned i = 0; i < 8; i++)
        put(m, at + 0x28 + 4 * i, 4, 0x11111111 * (i + 1));
    put(m, at + 0x38, 4, NEW_ESP);
    put(m, at + 0x48, 4, data);
    put(m, at + 0x4c, 4, cs);
    put(m, at + 0x50, 4, ss);
    for (unsigned i = 0; i < 3; i++)
        put(m, at + 0x54 + 4 * i, 4, data);
    put(m, at + 0x60, 4, 0);
    put(m, at + 0x64, 4, 0);
}

static unsigned tss_type(struct machine *m, uint16_t selector)
{
    return (unsigned)get(m, AT_GDT + selector + 5, 1) & 0xf;
}

static void check_new_task(struct machine *m)
{
    const struct x86_cpu *cpu = &m->cpu;

    assert_int_equal(cpu->seg[X86_TR].selector, SEL_TSSB);
    assert_int_equal(cpu->rip, NEW_EIP);
    assert_int_equal(cpu->gpr[X86_RAX], 0x11111111);
    assert_int_equal(cpu->gpr[X86_RDI], 0x88888888);
    assert_int_equal(cpu->gpr[X86_RSP], NEW_ESP);
    assert_true(cpu->cr0 & X86_CR0_TS);
    assert_int_equal(cpu->iflag, 1);
    assert_int_equal(tss_type(m, SEL_TSSB), 0xb);
    assert_true(cpu->dirty & X86_DIRTY_MODE);
}

static void test_jmp(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    fill_tss32(m, AT_TSSB, SEL_CODE0, SEL_DATA0, SEL_DATA0);
    cpu->gpr[X86_RBX] = 0xabcdef01;
    cpu->dr[7] = 0x7ff;
    assert_int_equal(RUN(m, JMP(SEL_TSSB)), OP_JUMP);
    check_new_task(m);
    assert_int_equal(tss_type(m, SEL_TSS), 9);
    assert_int_equal(get(m, AT_TSS + 0x20, 4), 0x1007);
    assert_int_equal(get(m, AT_TSS + 0x24, 4), 2);
    assert_int_equal(get(m, AT_TSS + 0x34, 4), 0xabcdef01);
    assert_int_equal(get(m, AT_TSS + 0x38, 4), STACK0);
    assert_int_equal(get(m, AT_TSS + 0x4c, 4), SEL_CODE0);
    assert_int_equal(get(m, AT_TSS + 0x5c, 4), SEL_DATA0);
    assert_int_equal(get(m, AT_TSSB, 2), 0); /* no back link */
    assert_false(cpu->sflags & X86_NT);
    assert_int_equal(cpu->dr[7], 0x7ff & ~0x155);
    /* And back again through a task gate. */
    set_gdt(m, SEL_FREE, make_gate(SEL_TSS, 0, 0x85, 0));
    assert_int_equal(RUN(m, JMP(SEL_FREE)), OP_JUMP);
    assert_int_equal(cpu->rip, 0x1007);
    assert_int_equal(cpu->gpr[X86_RBX], 0xabcdef01);
    assert_int_equal(tss_type(m, SEL_TSS), 0xb);
    assert_int_equal(tss_type(m, SEL_TSSB), 9);
}

static void test_call_and_iret(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    fill_tss32(m, AT_TSSB, SEL_CODE0, SEL_DATA0, SEL_DATA0);
    assert_int_equal(RUN(m, CALL(SEL_TSSB)), OP_JUMP);
    check_new_task(m);
    assert_true(cpu->sflags & X86_NT);
    assert_int_equal(tss_type(m, SEL_TSS), 0xb); /* stays busy */
    assert_int_equal(get(m, AT_TSSB, 2), SEL_TSS);
    cpu->nmi_blocked = 1;
    cpu->gpr[X86_RAX] = 0x99;
    assert_int_equal(RUN(m, IRETD), OP_JUMP);
    assert_int_equal(cpu->nmi_blocked, 0);
    assert_int_equal(cpu->seg[X86_TR].selector, SEL_TSS);
    assert_int_equal(cpu->rip, 0x1007);
    assert_int_equal(tss_type(m, SEL_TSS), 0xb);
    assert_int_equal(tss_type(m, SEL_TSSB), 9);
    assert_int_equal(get(m, AT_TSSB + 0x24, 4) & X86_NT, 0);
    assert_int_equal(get(m, AT_TSSB + 0x28, 4), 0x99);
    assert_int_equal(get(m, AT_TSSB + 0x20, 4), NEW_EIP + 1);
    assert_false(cpu->sflags & X86_NT);
}

static void test_iret_link_faults(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    cpu->sflags |= X86_NT;
    put(m, AT_TSS, 2, SEL_BEYOND);
    FAULTS(m, X86_TS, SEL_BEYOND, IRETD);
    put(m, AT_TSS, 2, SEL_TSSB); /* not busy */
    FAULTS(m, X86_TS, SEL_TSSB, IRETD);
    put(m, AT_TSS, 2, SEL_TSSB | 4);
    FAULTS(m, X86_TS, SEL_TSSB | 4, IRETD);
    put(m, AT_TSS, 2, SEL_TSSB);
    set_gdt(m, SEL_TSSB, make_descriptor(AT_TSSB, 0x67, 0x0b, 0));
    FAULTS(m, X86_NP, SEL_TSSB, IRETD);
    set_gdt(m, SEL_TSSB, make_descriptor(AT_TSSB, 0x66, 0x8b, 0));
    FAULTS(m, X86_TS, SEL_TSSB, IRETD);
}

static void test_old_task_faults(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    FAULTS(m, X86_GP, SEL_TSS, JMP(SEL_TSS));       /* busy */
    FAULTS(m, X86_GP, SEL_TSSB, JMP(SEL_TSSB | 1)); /* RPL > DPL */
    set_gdt(m, SEL_TSSB, make_descriptor(AT_TSSB, 0x67, 0x09, 0));
    FAULTS(m, X86_NP, SEL_TSSB, CALL(SEL_TSSB));
    set_gdt(m, SEL_TSSB, make_descriptor(AT_TSSB, 0x66, 0x89, 0));
    FAULTS(m, X86_TS, SEL_TSSB, JMP(SEL_TSSB));
    set_gdt(m, SEL_TSSB, make_descriptor(AT_TSSB, 0x67, 0x89, 0));
    set_gdt(m, SEL_TSS16, make_descriptor(AT_TSS16, 0x2a, 0x81, 0));
    FAULTS(m, X86_TS, SEL_TSS16, JMP(SEL_TSS16));
    cpu->seg[X86_TR].limit = 0x5e; /* no room to save the state */
    set_gdt(m, SEL_TSS16, make_descriptor(AT_TSS16, 0x2b, 0x81, 0));
    FAULTS(m, X86_TS, SEL_TSS, JMP(SEL_TSS16));
    cpu->seg[X86_TR].limit = 0xfff;
    set_gdt(m, SEL_FREE, make_gate(SEL_TSSB, 0, 0x05, 0));
    FAULTS(m, X86_NP, SEL_FREE, JMP(SEL_FREE));
    set_gdt(m, SEL_FREE, make_gate(SEL_DATA0, 0, 0x85, 0));
    FAULTS(m, X86_GP, SEL_DATA0, JMP(SEL_FREE));
    enter_user(m);
    FAULTS(m, X86_GP, SEL_FREE, JMP(SEL_FREE)); /* gate DPL */
    FAULTS(m, X86_GP, SEL_TSSB, JMP(SEL_TSSB));
    enable_paging32(m);
    unmap_page(m, AT_TSSB);
    set_gdt(m, SEL_FREE, make_gate(SEL_TSSB, 0, 0xe5, 0));
    FAULTS(m, X86_PF, 0, CALL(SEL_FREE)); /* nothing was saved, no busy bit changed */
    assert_int_equal(cpu->fault.cr2, AT_TSSB);
    assert_int_equal(get(m, AT_TSS + 0x20, 4), 0);
    assert_int_equal(tss_type(m, SEL_TSSB), 9);
}

/* Behind the commit point the fault is the new task's. */
static void test_new_task_faults(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;
    static const struct {
        uint16_t cs, ss, data, ldt;
        enum x86_vector vector;
        uint16_t error;
    } cases[] = {
        {SEL_CODE0, SEL_DATA0, 0, SEL_DATA0, X86_TS, SEL_DATA0},
        {SEL_CODE0, SEL_DATA0, 0, SEL_LDT | 4, X86_TS, SEL_LDT | 4},
        {SEL_CODE0, SEL_DATA0, 0, SEL_BEYOND, X86_TS, SEL_BEYOND},
        {0, SEL_DATA0, 0, 0, X86_TS, 0},
        {SEL_DATA0, SEL_DATA0, 0, 0, X86_TS, SEL_DATA0},
        {SEL_CODE0 | 3, SEL_DATA3, 0, 0, X86_TS, SEL_CODE0},
        {SEL_CONF3, SEL_DATA0, 0, 0, X86_TS, SEL_CONF3},
        {SEL_CODE_NP, SEL_DATA0, 0, 0, X86_NP, SEL_CODE_NP},
        {SEL_CODE0, 0, 0, 0, X86_TS, 0},
        {SEL_CODE0, SEL_DATA3, 0, 0, X86_TS, SEL_DATA3 & ~3},
        {SEL_CODE0, SEL_RODATA, 0, 0, X86_TS, SEL_RODATA},
        {SEL_CODE0, SEL_DATA_NP, 0, 0, X86_SS_FAULT, SEL_DATA_NP},
        {SEL_CODE0, SEL_DATA0, SEL_XONLY, 0, X86_TS, SEL_XONLY},
        {SEL_CODE0, SEL_DATA0, SEL_DATA_NP, 0, X86_NP, SEL_DATA_NP},
        {SEL_CODE3, SEL_DATA3, SEL_DATA0, 0, X86_TS, SEL_DATA0},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        force_segment(m, X86_TR, SEL_TSS);
        force_segment(m, X86_CS, SEL_CODE0);
        cpu->cpl = 0;
        set_gdt(m, SEL_TSSB, make_descriptor(AT_TSSB, 0x67, 0x89, 0));
        fill_tss32(m, AT_TSSB, cases[i].cs, cases[i].ss, cases[i].data);
        put(m, AT_TSSB + 0x60, 2, cases[i].ldt);
        FAULTS(m, cases[i].vector, cases[i].error, JMP(SEL_TSSB));
        assert_int_equal(cpu->seg[X86_TR].selector, SEL_TSSB);
        assert_int_equal(cpu->rip, NEW_EIP);
        assert_int_equal(cpu->seg[X86_CS].selector, cases[i].cs);
    }
    force_segment(m, X86_TR, SEL_TSS);
    force_segment(m, X86_CS, SEL_CODE0);
    cpu->cpl = 0;
    set_gdt(m, SEL_TSSB, make_descriptor(AT_TSSB, 0x67, 0x89, 0));
    fill_tss32(m, AT_TSSB, SEL_CODE16, SEL_DATA0, 0);
    put(m, AT_TSSB + 0x20, 4, 0x10000);
    FAULTS(m, X86_GP, 0, JMP(SEL_TSSB));
    assert_int_equal(cpu->rip, 0x10000);
}

static void test_trap_bit(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    fill_tss32(m, AT_TSSB, SEL_CODE0, SEL_DATA0, SEL_DATA0);
    put(m, AT_TSSB + 0x64, 2, 1);
    FAULTS(m, X86_DB, -1, JMP(SEL_TSSB));
    assert_int_equal(cpu->fault.dr6, 1 << 15);
    assert_true(cpu->fault.trap);
    set_idt(m, 1, make_gate(SEL_CODE0, 0x99, 0x8e, 0));
    assert_int_equal(fault_deliver(cpu), 0);
    assert_int_equal(cpu->rip, 0x99);
    assert_int_equal(get(m, NEW_ESP - 12, 4), NEW_EIP);
    assert_true(cpu->dr[6] & 1 << 15);
}

static void test_user_and_vm86_task(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    fill_tss32(m, AT_TSSB, SEL_CODE3, SEL_DATA3, SEL_DATA3);
    set_gdt(m, SEL_FREE, make_gate(SEL_TSSB, 0, 0x85, 0));
    assert_int_equal(RUN(m, CALL(SEL_FREE)), OP_JUMP);
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->seg[X86_SS].selector, SEL_DATA3);
    assert_int_equal(RUN(m, IRETD), OP_JUMP);
    assert_int_equal(cpu->cpl, 0);

    fill_tss32(m, AT_TSSB, 0x1000, 0xa00, 5);
    put(m, AT_TSSB + 0x24, 4, X86_VM | 2);
    assert_int_equal(RUN(m, JMP(SEL_TSSB)), OP_JUMP);
    assert_true(x86_vm86(cpu));
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->seg[X86_CS].base, 0x10000);
    assert_int_equal(cpu->seg[X86_DS].base, 0x50);
}

static void test_cr3_and_ldt(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    fill_tss32(m, AT_TSSB, SEL_CODE0, SEL_DATA0, SEL_DATA0);
    put(m, AT_TSSB + 0x60, 2, SEL_LDT);
    assert_int_equal(RUN(m, JMP(SEL_TSSB)), OP_JUMP);
    assert_int_equal(cpu->cr3, 0); /* no paging: not loaded */
    assert_int_equal(cpu->seg[X86_LDTR].base, AT_LDT);
    assert_int_equal(RUN(m, JMP(SEL_TSS)), OP_JUMP);
    assert_true(cpu->seg[X86_LDTR].attr & X86_AR_UNUSABLE);
    enable_paging32(m);
    put(m, AT_TSSB + 0x1c, 4, AT_PD32 + 8); /* PWT */
    cpu->dirty = 0;
    assert_int_equal(RUN(m, JMP(SEL_TSSB)), OP_JUMP);
    assert_int_equal(cpu->cr3, AT_PD32 + 8);
    assert_true(cpu->dirty & X86_DIRTY_ADDRESS);
}

static void test_tss16(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    put(m, AT_TSS16 + 0x0e, 2, 0x1111);
    put(m, AT_TSS16 + 0x10, 2, 2 | X86_ZF);
    for (unsigned i = 0; i < 8; i++)
        put(m, AT_TSS16 + 0x12 + 2 * i, 2, 0x2220 + i);
    put(m, AT_TSS16 + 0x22, 2, SEL_DATA16);
    put(m, AT_TSS16 + 0x24, 2, SEL_CODE16);
    put(m, AT_TSS16 + 0x26, 2, SEL_DATA16);
    put(m, AT_TSS16 + 0x28, 2, SEL_DATA16);
    assert_int_equal(RUN(m, CALL(SEL_TSS16)), OP_JUMP);
    assert_int_equal(cpu->rip, 0x1111);
    assert_int_equal(cpu->gpr[X86_RSP] & 0xffff, 0x2224);
    assert_int_equal(x86_code_bits(cpu), 16);
    assert_int_equal(cpu->seg[X86_FS].selector, 0);
    assert_int_equal(tss_type(m, SEL_TSS16), 3);
    assert_int_equal(get(m, AT_TSS16, 2), SEL_TSS);
    cpu->gpr[X86_RBX] = 0x3333;
    assert_int_equal(RUN(m, IRETD), OP_JUMP);
    assert_int_equal(get(m, AT_TSS16 + 0x0e, 2), 0x1112);
    assert_int_equal(get(m, AT_TSS16 + 0x18, 2), 0x3333);
    assert_int_equal(cpu->rip, 0x1007);
    assert_int_equal(tss_type(m, SEL_TSS16), 1);
}

static void test_exception_task_gate(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    fill_tss32(m, AT_TSSB, SEL_CODE0, SEL_DATA0, SEL_DATA0);
    set_idt(m, X86_GP, make_gate(SEL_TSSB, 0, 0x85, 0));
    x86_raise_error(cpu, X86_GP, 0x1234);
    assert_int_equal(fault_deliver(cpu), 0);
    assert_int_equal(cpu->rip, NEW_EIP);
    assert_int_equal(cpu->gpr[X86_RSP], NEW_ESP - 4);
    assert_int_equal(get(m, NEW_ESP - 4, 4), 0x1234);
    assert_true(cpu->sflags & X86_NT);
    assert_int_equal(get(m, AT_TSS + 0x20, 4), 0x1000);
    assert_int_equal(get(m, AT_TSS + 0x24, 4), X86_RF | 2);
}

#define IN(mode, test) cmocka_unit_test_setup_teardown(test, setup_##mode, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN(protected, test_jmp),
        IN(protected, test_call_and_iret),
        IN(protected, test_iret_link_faults),
        IN(protected, test_old_task_faults),
        IN(protected, test_new_task_faults),
        IN(protected, test_trap_bit),
        IN(protected, test_user_and_vm86_task),
        IN(protected, test_cr3_and_ldt),
        IN(protected, test_tss16),
        IN(protected, test_exception_task_gate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
