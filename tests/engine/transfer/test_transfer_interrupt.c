#include "fixture.h"

enum { VECTOR = 0x20, HANDLER = 0x4321 };
enum { INT_GATE32 = 0x8e, TRAP_GATE32 = 0x8f, INT_GATE16 = 0x86, TASK_GATE = 0x85 };
#define INT_VECTOR 0xcd, VECTOR
#define IRETD      0xcf

static int deliver(struct machine *m, enum event_kind kind, unsigned vector)
{
    return event_deliver(&m->cpu, kind, (uint8_t)vector, false, 0, m->cpu.rip);
}

/* --- real mode --- */

static void test_real(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    put(m, VECTOR * 4, 4, 0x2000 << 16 | HANDLER);
    x86_set_rflags(cpu, X86_IF | X86_TF | X86_AC_FLAG | X86_CF | X86_NT | 2);
    assert_int_equal(RUN(m, INT_VECTOR), OP_JUMP);
    assert_int_equal(cpu->rip, HANDLER);
    assert_int_equal(cpu->seg[X86_CS].base, 0x20000);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0 - 6);
    assert_int_equal(get(m, STACK0 - 6, 2), 0x1002);
    assert_int_equal(get(m, STACK0 - 4, 2), 0x1000);
    assert_int_equal(get(m, STACK0 - 2, 2), X86_IF | X86_TF | X86_CF | X86_NT | 2);
    assert_int_equal(x86_get_rflags(cpu), X86_CF | X86_NT | 2);
    cpu->nmi_blocked = 1;
    assert_int_equal(RUN(m, IRETD), OP_JUMP);
    assert_int_equal(cpu->nmi_blocked, 0);
    assert_int_equal(cpu->rip, 0x1002);
    assert_int_equal(x86_get_rflags(cpu), X86_IF | X86_TF | X86_CF | X86_NT | 2);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0);
    /* 32-bit IRET: beyond the limit of CS. */
    put(m, STACK0, 4, 0x10000);
    FAULTS(m, X86_GP, 0, 0x66, IRETD);
    cpu->idtr.limit = VECTOR * 4 + 2;
    assert_int_equal(RUN(m, INT_VECTOR), OP_FAULT);
    assert_int_equal(cpu->fault.vector, X86_GP);
    cpu->idtr.limit = 0x3ff;
    cpu->gpr[X86_RSP] = 5; /* the last word would lie at FFFFH */
    assert_int_equal(RUN(m, INT_VECTOR), OP_FAULT);
    assert_int_equal(cpu->fault.vector, X86_SS_FAULT);
}

static void test_into(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    put(m, 4 * 4, 4, HANDLER);
    assert_int_equal(RUN(m, 0xce), OP_NEXT);
    cpu->aflags |= X86_OF_FLAG;
    assert_int_equal(RUN(m, 0xce), OP_JUMP);
    assert_int_equal(get(m, STACK0 - 6, 2), 0x1002);
}

/* --- protected mode, same level --- */

static void test_gates(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    x86_set_rflags(cpu, X86_IF | X86_TF | X86_NT | X86_RF | X86_AC_FLAG | 2);
    set_idt(m, VECTOR, make_gate(SEL_CODE0, 0x12340000 | HANDLER, INT_GATE32, 0));
    assert_int_equal(RUN(m, INT_VECTOR), OP_JUMP);
    assert_int_equal(cpu->rip, 0x12340000 | HANDLER);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0 - 12);
    assert_int_equal(get(m, STACK0 - 12, 4), 0x1002);
    assert_int_equal(get(m, STACK0 - 8, 4), SEL_CODE0);
    assert_int_equal(get(m, STACK0 - 4, 4), X86_IF | X86_TF | X86_NT | X86_AC_FLAG | 2);
    assert_int_equal(x86_get_rflags(cpu), X86_AC_FLAG | 2);
    assert_true(cpu->dirty & X86_DIRTY_MODE); /* TF */
    cpu->nmi_blocked = 1;
    assert_int_equal(RUN(m, IRETD), OP_JUMP);
    assert_int_equal(cpu->nmi_blocked, 0);
    assert_int_equal(cpu->rip, 0x1002);
    assert_int_equal(x86_get_rflags(cpu), X86_IF | X86_TF | X86_NT | X86_AC_FLAG | 2);

    x86_set_rflags(cpu, X86_IF | 2);
    set_idt(m, VECTOR, make_gate(SEL_CODE0, HANDLER, TRAP_GATE32, 0));
    assert_int_equal(RUN(m, INT_VECTOR), OP_JUMP);
    assert_int_equal(cpu->iflag, 1);
    cpu->gpr[X86_RSP] = STACK0;
    set_idt(m, VECTOR, make_gate(SEL_CODE0, 0x12340000 | HANDLER, INT_GATE16, 0));
    cpu->rip = 0x1000;
    assert_int_equal(RUN(m, INT_VECTOR), OP_JUMP);
    assert_int_equal(cpu->rip, HANDLER);
    assert_int_equal(get(m, STACK0 - 6, 2), 0x1002);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0 - 6);
    assert_int_equal(RUN(m, 0x66, IRETD), OP_JUMP);
    assert_int_equal(cpu->iflag, 1);
    assert_int_equal(cpu->rip, 0x1002);

    /* With error code; EVENT_NMI blocks further ones. */
    set_idt(m, VECTOR, make_gate(SEL_CODE0, HANDLER, INT_GATE32, 0));
    assert_int_equal(event_deliver(cpu, EVENT_EXCEPTION, VECTOR, true, 0xabc0, 0x77), 0);
    assert_int_equal(get(m, STACK0 - 16, 4), 0xabc0);
    assert_int_equal(get(m, STACK0 - 12, 4), 0x77);
    set_idt(m, 2, make_gate(SEL_CODE0, HANDLER, INT_GATE32, 0));
    assert_int_equal(deliver(m, EVENT_NMI, 2), 0);
    assert_int_equal(cpu->nmi_blocked, 1);
}

static void test_gate_faults(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;
    static const struct {
        uint16_t selector;
        uint32_t offset;
        unsigned access;
        enum x86_vector vector;
        uint32_t error;
    } cases[] = {
        {SEL_CODE0, 0, 0x8c, X86_GP, VECTOR * 8 + 2}, /* a call gate is none here */
        {SEL_CODE0, 0, 0x9e, X86_GP, VECTOR * 8 + 2}, /* S = 1 */
        {SEL_CODE0, 0, 0x0e, X86_NP, VECTOR * 8 + 2},
        {0, 0, INT_GATE32, X86_GP, 0},
        {SEL_BEYOND, 0, INT_GATE32, X86_GP, SEL_BEYOND},
        {SEL_DATA0, 0, INT_GATE32, X86_GP, SEL_DATA0},
        {SEL_CODE3, 0, INT_GATE32, X86_GP, SEL_CODE3 & ~3}, /* DPL > CPL */
        {SEL_CODE_NP, 0, INT_GATE32, X86_NP, SEL_CODE_NP},
        {SEL_CODE16, 0x10000, INT_GATE32, X86_GP, 0},
        {SEL_BEYOND, 0, TASK_GATE, X86_GP, SEL_BEYOND},
        {SEL_TSSB | 4, 0, TASK_GATE, X86_GP, SEL_TSSB | 4}, /* in the LDT */
        {SEL_TSS, 0, TASK_GATE, X86_GP, SEL_TSS},           /* busy */
        {SEL_DATA0, 0, TASK_GATE, X86_GP, SEL_DATA0},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        set_idt(m, VECTOR, make_gate(cases[i].selector, cases[i].offset, cases[i].access, 0));
        FAULTS(m, cases[i].vector, cases[i].error, INT_VECTOR);
        /* Not caused by an instruction: EXT. */
        assert_int_equal(deliver(m, EVENT_EXTERNAL, VECTOR), -1);
        assert_int_equal(cpu->fault.vector, cases[i].vector);
        assert_int_equal(cpu->fault.error, cases[i].error | 1);
    }
    cpu->idtr.limit = VECTOR * 8 + 6;
    FAULTS(m, X86_GP, VECTOR * 8 + 2, INT_VECTOR);
    cpu->idtr.limit = 0xfff;
    set_gdt(m, SEL_TSSB, make_descriptor(AT_TSSB, 0x67, 0x09, 0));
    set_idt(m, VECTOR, make_gate(SEL_TSSB, 0, TASK_GATE, 0));
    FAULTS(m, X86_NP, SEL_TSSB, INT_VECTOR);
    /* The gate's DPL guards INT n, INT3 and INTO, but not INT1 and hardware. */
    enter_user(m);
    set_idt(m, VECTOR, make_gate(SEL_CODE0, HANDLER, INT_GATE32, 0));
    set_idt(m, 1, make_gate(SEL_CODE0, HANDLER, INT_GATE32, 0));
    set_idt(m, 3, make_gate(SEL_CODE0, HANDLER, INT_GATE32, 0));
    FAULTS(m, X86_GP, VECTOR * 8 + 2, INT_VECTOR);
    FAULTS(m, X86_GP, 3 * 8 + 2, 0xcc);
    assert_int_equal(deliver(m, EVENT_EXTERNAL, VECTOR), 0);
    enter_user(m);
    assert_int_equal(RUN(m, 0xf1), OP_JUMP);
    assert_int_equal(cpu->cpl, 0);
}

/* --- inner levels --- */

static void test_inner(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;
    uint64_t top = STACK0 - 0x100;

    enter_user(m);
    x86_set_rflags(cpu, X86_IF | 2);
    set_idt(m, VECTOR, make_gate(SEL_CODE0, HANDLER, INT_GATE32 | ACC_DPL3, 0));
    assert_int_equal(RUN(m, INT_VECTOR), OP_JUMP);
    assert_int_equal(cpu->cpl, 0);
    assert_int_equal(cpu->iflag, 0);
    assert_int_equal(cpu->gpr[X86_RSP], top - 20);
    assert_int_equal(get(m, top - 4, 4), SEL_DATA3);
    assert_int_equal(get(m, top - 8, 4), STACK3);
    assert_int_equal(get(m, top - 12, 4), X86_IF | 2);
    assert_int_equal(get(m, top - 16, 4), SEL_CODE3);
    assert_int_equal(get(m, top - 20, 4), 0x1002);
    assert_int_equal(cpu->seg[X86_SS].selector, SEL_DATA0);
    assert_int_equal(cpu->seg[X86_DS].selector, SEL_DATA3);
    cpu->intr_wanted = 1;
    force_segment(m, X86_ES, SEL_DATA0);
    assert_int_equal(RUN(m, IRETD), OP_JUMP);
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->iflag, 1);
    assert_int_equal(cpu->exit_window, 1);
    assert_int_equal(cpu->gpr[X86_RSP], STACK3);
    assert_int_equal(cpu->seg[X86_ES].selector, 0);
    assert_int_equal(cpu->seg[X86_DS].selector, SEL_DATA3);

    /* Conforming handler: no change of level. */
    set_idt(m, VECTOR, make_gate(SEL_CONF0, HANDLER, INT_GATE32 | ACC_DPL3, 0));
    assert_int_equal(RUN(m, INT_VECTOR), OP_JUMP);
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->gpr[X86_RSP], STACK3 - 12);
}

static void test_inner_faults(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    enter_user(m);
    set_idt(m, VECTOR, make_gate(SEL_CODE0, HANDLER, INT_GATE32 | ACC_DPL3, 0));
    put(m, AT_TSS + 8, 2, 0);
    FAULTS(m, X86_TS, 0, INT_VECTOR);
    assert_int_equal(deliver(m, EVENT_EXTERNAL, VECTOR), -1);
    assert_int_equal(cpu->fault.error, 1);
    put(m, AT_TSS + 8, 2, SEL_DATA3);
    FAULTS(m, X86_TS, SEL_DATA3 & ~3, INT_VECTOR);
    put(m, AT_TSS + 8, 2, SEL_DATA_NP);
    FAULTS(m, X86_SS_FAULT, SEL_DATA_NP, INT_VECTOR);
    set_gdt(m, SEL_FREE, make_descriptor(0, 19, ACC_DATA, FLAG_D));
    put(m, AT_TSS + 4, 4, 20);
    put(m, AT_TSS + 8, 2, SEL_FREE);
    assert_int_equal(RUN(m, INT_VECTOR), OP_JUMP); /* exactly 20 bytes */
    enter_user(m);
    assert_int_equal(event_deliver(cpu, EVENT_EXCEPTION, VECTOR, true, 0, 0), -1); /* 24 */
    assert_int_equal(cpu->fault.vector, X86_SS_FAULT);
    assert_int_equal(cpu->fault.error, SEL_FREE | 1);
    cpu->seg[X86_TR].limit = 7;
    FAULTS(m, X86_TS, SEL_TSS, INT_VECTOR);
    /* A 16-bit TSS: SP and SS are words. */
    force_segment(m, X86_TR, SEL_TSS16);
    put(m, AT_TSS16 + 2, 4, SEL_DATA0 << 16 | 0x8800);
    assert_int_equal(RUN(m, INT_VECTOR), OP_JUMP);
    assert_int_equal(cpu->gpr[X86_RSP], 0x8800 - 20);
}

static void test_inner_page_fault(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    enable_paging32(m);
    enter_user(m);
    set_idt(m, VECTOR, make_gate(SEL_CODE0, HANDLER, INT_GATE32 | ACC_DPL3, 0));
    unmap_page(m, STACK0 - 0x200);
    FAULTS(m, X86_PF, 2, INT_VECTOR); /* write, supervisor, although CPL is 3 */
    unmap_page(m, AT_IDT);
    FAULTS(m, X86_PF, 0, INT_VECTOR);
    assert_int_equal(cpu->fault.cr2, AT_IDT + VECTOR * 8);
}

/* --- IRET in protected mode --- */

static void push_frame(struct machine *m, uint32_t rip, uint16_t cs, uint32_t flags, uint32_t esp,
                       uint16_t ss)
{
    const uint32_t items[] = {rip, cs, flags, esp, ss};

    m->cpu.gpr[X86_RSP] = STACK0 - 20;
    for (unsigned i = 0; i < 5; i++)
        put(m, STACK0 - 20 + 4 * i, 4, items[i]);
}

static void test_iret_faults(void **state)
{
    struct machine *m = *state;
    static const struct {
        uint32_t rip;
        uint16_t cs, ss;
        enum x86_vector vector;
        uint16_t error;
    } cases[] = {
        {0, 0, SEL_DATA3, X86_GP, 0},
        {0, SEL_BEYOND, SEL_DATA3, X86_GP, SEL_BEYOND},
        {0, SEL_DATA0, SEL_DATA3, X86_GP, SEL_DATA0},
        {0, SEL_CODE0 | 3, SEL_DATA3, X86_GP, SEL_CODE0},
        {0, SEL_CONF3, SEL_DATA3, X86_GP, SEL_CONF3},
        {0, SEL_CODE_NP, SEL_DATA3, X86_NP, SEL_CODE_NP},
        {0x10000, SEL_CODE16, SEL_DATA3, X86_GP, 0},
        {0, SEL_CODE3, 0, X86_GP, 0},
        {0, SEL_CODE3, 3, X86_GP, 0},
        {0, SEL_CODE3, SEL_BEYOND, X86_GP, SEL_BEYOND},
        {0, SEL_CODE3, SEL_DATA3 & ~3, X86_GP, SEL_DATA3 & ~3},
        {0, SEL_CODE3, SEL_RODATA | 3, X86_GP, SEL_RODATA},
        {0, SEL_CODE3, SEL_DATA0 | 3, X86_GP, SEL_DATA0},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        push_frame(m, cases[i].rip, cases[i].cs, 2, STACK3, cases[i].ss);
        m->cpu.nmi_blocked = 1;
        FAULTS(m, cases[i].vector, cases[i].error, IRETD);
        assert_int_equal(m->cpu.nmi_blocked, 0); /* SDM vol. 3, 6.7.1 */
    }
    set_gdt(m, SEL_DATA_NP, make_descriptor(0, 0xfffff, 0x72, FLAG_G | FLAG_D));
    push_frame(m, 0, SEL_CODE3, 2, STACK3, SEL_DATA_NP | 3);
    FAULTS(m, X86_SS_FAULT, SEL_DATA_NP, IRETD);
}

static void test_iret_flags(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;
    const uint32_t all = 0x3f7fd7 & ~(uint32_t)X86_VM;

    push_frame(m, 0, SEL_CODE0, all | X86_VM << 1, 0, 0);
    assert_int_equal(RUN(m, IRETD), OP_JUMP); /* CPL 0 may set everything */
    assert_int_equal(x86_get_rflags(cpu), all);
    x86_set_rflags(cpu, 2 | 1 << X86_IOPL_SHIFT);
    enter_user(m); /* CPL 3 > IOPL 1: neither IF, IOPL, VIF nor VIP */
    push_frame(m, 0, SEL_CODE3, all | X86_VM, 0, 0);
    assert_int_equal(RUN(m, IRETD), OP_JUMP);
    assert_int_equal(x86_get_rflags(cpu),
                     (all & ~(uint32_t)(X86_IF | X86_IOPL | X86_VIF | X86_VIP)) | 1 << 12);
    x86_set_rflags(cpu, 2 | X86_IOPL | X86_ID);
    push_frame(m, 0, SEL_CODE3, X86_IF | 2, 0, 0);
    assert_int_equal(RUN(m, IRETD), OP_JUMP);
    assert_int_equal(x86_get_rflags(cpu), 2 | X86_IOPL | X86_IF);
    x86_set_rflags(cpu, 2 | X86_ID);
    put(m, STACK0, 2, 0x10);
    put(m, STACK0 + 2, 2, SEL_CODE3);
    put(m, STACK0 + 4, 2, X86_NT | X86_CF);
    cpu->gpr[X86_RSP] = STACK0;
    assert_int_equal(RUN(m, 0x66, IRETD), OP_JUMP); /* 16 bits: the upper flags stay */
    assert_int_equal(x86_get_rflags(cpu), 2 | X86_ID | X86_NT | X86_CF);
}

/* --- virtual-8086 mode --- */

static void test_vm86_round_trip(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;
    uint64_t top = STACK0 - 0x100;
    static const uint32_t frame[] = {4, 3, 2, 1, 0xa00, 0x1000}; /* GS FS DS ES SS ESP */

    enter_vm86(m, 0);
    cpu->iflag = 1;
    set_idt(m, VECTOR, make_gate(SEL_CODE0, HANDLER, INT_GATE32, 0));
    assert_int_equal(deliver(m, EVENT_EXTERNAL, VECTOR), 0);
    assert_int_equal(cpu->cpl, 0);
    assert_false(x86_vm86(cpu));
    assert_int_equal(cpu->gpr[X86_RSP], top - 36);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(get(m, top - 4 - 4 * i, 4), frame[i]);
    assert_int_equal(get(m, top - 28, 4), X86_VM | X86_IF | 2);
    assert_int_equal(get(m, top - 32, 4), 0x1000);
    assert_int_equal(get(m, top - 36, 4), 0x1000);
    for (unsigned seg = X86_DS; seg <= X86_GS; seg++) {
        assert_int_equal(cpu->seg[seg].selector, 0);
        assert_true(cpu->seg[seg].attr & X86_AR_UNUSABLE);
    }
    assert_true(cpu->seg[X86_ES].attr & X86_AR_UNUSABLE);
    assert_true(cpu->dirty & X86_DIRTY_MODE);

    assert_int_equal(RUN(m, IRETD), OP_JUMP);
    assert_true(x86_vm86(cpu));
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->iflag, 1);
    assert_int_equal(cpu->seg[X86_CS].base, 0x10000);
    assert_int_equal(cpu->seg[X86_SS].base, 0xa000);
    assert_int_equal(cpu->seg[X86_GS].base, 0x40);
    assert_int_equal(cpu->seg[X86_ES].base, 0x10);
    assert_int_equal(cpu->gpr[X86_RSP], 0x1000);
    assert_int_equal(cpu->rip, 0x1000);

    /* The handler must run at level 0. */
    set_idt(m, VECTOR, make_gate(SEL_CODE1 & ~3, HANDLER, INT_GATE32, 0));
    assert_int_equal(deliver(m, EVENT_EXTERNAL, VECTOR), -1);
    assert_int_equal(cpu->fault.vector, X86_GP);
    assert_int_equal(cpu->fault.error, (SEL_CODE1 & ~3) | 1);
    set_idt(m, VECTOR, make_gate(SEL_CONF0, HANDLER, INT_GATE32, 0));
    assert_int_equal(deliver(m, EVENT_EXTERNAL, VECTOR), -1);
    assert_int_equal(cpu->fault.error, SEL_CONF0 | 1);
}

static void test_vm86_iret_checks(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    push_frame(m, 0x10000, 0x1000, X86_VM | 2, 0x1000, 0xa00);
    FAULTS(m, X86_GP, 0, IRETD);
    /* At CPL 3 the VM bit of the image is ignored. */
    enter_user(m);
    push_frame(m, 0x10, SEL_CODE3, X86_VM | 2, 0, 0);
    assert_int_equal(RUN(m, IRETD), OP_JUMP);
    assert_false(x86_vm86(cpu));
}

static void test_vm86_iopl(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    set_idt(m, VECTOR, make_gate(SEL_CODE0, HANDLER, INT_GATE32 | ACC_DPL3, 0));
    set_idt(m, 3, make_gate(SEL_CODE0, HANDLER, INT_GATE32 | ACC_DPL3, 0));
    enter_vm86(m, 2);
    FAULTS(m, X86_GP, 0, INT_VECTOR);
    FAULTS(m, X86_GP, 0, IRETD);
    assert_int_equal(RUN(m, 0xcc), OP_JUMP); /* INT3 is not sensitive */
    assert_int_equal(cpu->cpl, 0);
    enter_vm86(m, 3);
    assert_int_equal(RUN(m, INT_VECTOR), OP_JUMP);
    assert_int_equal(cpu->cpl, 0);
    /* IRET with IOPL 3 works inside; IOPL, VM, VIF and VIP stay. */
    enter_vm86(m, 3);
    put(m, 0xa000 + 0xffa, 2, 0x55);
    put(m, 0xa000 + 0xffc, 2, 0x2000);
    put(m, 0xa000 + 0xffe, 2, X86_IF | X86_CF);
    cpu->gpr[X86_RSP] = 0xffa;
    assert_int_equal(RUN(m, IRETD), OP_JUMP);
    assert_int_equal(x86_get_rflags(cpu), X86_VM | X86_IOPL | X86_IF | X86_CF | 2);
    assert_int_equal(cpu->seg[X86_CS].base, 0x20000);
    assert_int_equal(cpu->rip, 0x55);
}

static void test_vme(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    cpu->cr4 |= X86_CR4_VME;
    put(m, AT_TSS + 102, 2, 0x200);               /* I/O map; redirection map at 1E0H */
    put(m, VECTOR * 4, 4, 0x3000 << 16 | 0x1234); /* the 8086 program's table */
    enter_vm86(m, 0);
    cpu->sflags |= X86_VIF;
    assert_int_equal(RUN(m, INT_VECTOR), OP_JUMP);
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->seg[X86_CS].base, 0x30000);
    assert_int_equal(cpu->rip, 0x1234);
    assert_false(cpu->sflags & X86_VIF);
    assert_int_equal(get(m, 0xa000 + 0xffa, 2), 0x1002);
    assert_int_equal(get(m, 0xa000 + 0xffc, 2), 0x1000);
    assert_int_equal(get(m, 0xa000 + 0xffe, 2), X86_IOPL | X86_IF | 2);
    assert_int_equal(RUN(m, IRETD), OP_JUMP); /* VIF back from the image, IOPL unchanged */
    assert_int_equal(x86_get_rflags(cpu), X86_VM | X86_VIF | 2);
    assert_int_equal(cpu->rip, 0x1002);

    put(m, 0xa000 + 0xffa, 2, 0);
    put(m, 0xa000 + 0xffe, 2, X86_TF);
    cpu->gpr[X86_RSP] = 0xffa;
    FAULTS(m, X86_GP, 0, IRETD);
    put(m, 0xa000 + 0xffe, 2, X86_IF);
    FAULTS(m, X86_GP, 0, 0x66, IRETD); /* no 32-bit form */
    cpu->sflags |= X86_VIP;
    FAULTS(m, X86_GP, 0, IRETD); /* an interrupt is pending for the monitor */

    /* Map bit set: to the monitor. */
    put(m, AT_TSS + 0x1e0 + VECTOR / 8, 1, 1 << VECTOR % 8);
    enter_vm86(m, 0);
    FAULTS(m, X86_GP, 0, INT_VECTOR);
    set_idt(m, VECTOR, make_gate(SEL_CODE0, HANDLER, INT_GATE32 | ACC_DPL3, 0));
    enter_vm86(m, 3);
    assert_int_equal(RUN(m, INT_VECTOR), OP_JUMP);
    assert_int_equal(cpu->cpl, 0);

    /* IOPL 3, map bit clear: the real IF is cleared. */
    put(m, AT_TSS + 0x1e0 + VECTOR / 8, 1, 0);
    enter_vm86(m, 3);
    cpu->iflag = 1;
    assert_int_equal(RUN(m, INT_VECTOR), OP_JUMP);
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->iflag, 0);
    assert_int_equal(get(m, 0xa000 + 0xffe, 2), X86_IOPL | X86_IF | 2);
    cpu->seg[X86_TR].limit = 0x1e0;
    FAULTS(m, X86_GP, 0, INT_VECTOR);
}

#define IN(mode, test) cmocka_unit_test_setup_teardown(test, setup_##mode, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN(real, test_real),
        IN(real, test_into),
        IN(protected, test_gates),
        IN(protected, test_gate_faults),
        IN(protected, test_inner),
        IN(protected, test_inner_faults),
        IN(protected, test_inner_page_fault),
        IN(protected, test_iret_faults),
        IN(protected, test_iret_flags),
        IN(protected, test_vm86_round_trip),
        IN(protected, test_vm86_iret_checks),
        IN(protected, test_vm86_iopl),
        IN(protected, test_vme),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
