#include "fixture.h"

#define W(x)                (uint8_t)(x), (uint8_t)((x) >> 8)
#define D(x)                W(x), W((uint32_t)(x) >> 16)
#define JMP(sel, offset)    0xea, D(offset), W(sel)
#define CALL(sel, offset)   0x9a, D(offset), W(sel)
#define JMP16(sel, offset)  0x66, 0xea, W(offset), W(sel)
#define CALL16(sel, offset) 0x66, 0x9a, W(offset), W(sel)
#define RETF                0xcb

static void user_descriptor(struct machine *m, uint16_t selector, unsigned dpl)
{
    uint64_t d = get(m, AT_GDT + (selector & ~7u), 8);

    set_gdt(m, selector, (d & ~(3ull << 45)) | (uint64_t)dpl << 45);
}

/* --- real mode --- */

static void test_real(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    assert_int_equal(RUN(m, 0xea, W(0x234), W(0x2000)), OP_JUMP);
    assert_int_equal(cpu->seg[X86_CS].base, 0x20000);
    assert_int_equal(cpu->rip, 0x234);
    assert_int_equal(RUN(m, 0x9a, W(0x500), W(0x3000)), OP_JUMP);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0 - 4);
    assert_int_equal(get(m, STACK0 - 2, 2), 0x2000);
    assert_int_equal(get(m, STACK0 - 4, 2), 0x239);
    assert_int_equal(RUN(m, 0xca, W(6)), OP_JUMP);
    assert_int_equal(cpu->rip, 0x239);
    assert_int_equal(cpu->seg[X86_CS].selector, 0x2000);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0 + 6);
    FAULTS(m, X86_GP, 0, 0x66, 0xea, D(0x10000), W(0x3000)); /* beyond the limit */
    cpu->gpr[X86_RSP] = 2;                                   /* the frame wraps around 64 KiB */
    assert_int_equal(RUN(m, 0x9a, W(0x500), W(0x3000)), OP_JUMP);
    assert_int_equal(cpu->gpr[X86_RSP], 0xfffe);
    assert_int_equal(get(m, 0, 2), 0x2000);
    assert_int_equal(get(m, 0xfffe, 2), 0x23e);
    cpu->gpr[X86_RSP] = 3; /* a word at FFFFH does not fit */
    FAULTS(m, X86_SS_FAULT, 0, 0x9a, W(0x500), W(0x3000));
    cpu->gpr[X86_RSP] = 0xffff;
    FAULTS(m, X86_SS_FAULT, 0, RETF);
    put(m, 0x7000, 4, 0x40000011);
    cpu->gpr[X86_RBX] = 0x7000;
    assert_int_equal(RUN(m, 0xff, 0x2f), OP_JUMP); /* JMP FAR [BX] */
    assert_int_equal(cpu->seg[X86_CS].selector, 0x4000);
    assert_int_equal(cpu->rip, 0x11);
}

/* --- JMP in protected mode --- */

static void test_jmp_code(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    assert_int_equal(RUN(m, JMP(SEL_CODE0, 0x12345678)), OP_JUMP);
    assert_int_equal(cpu->rip, 0x12345678);
    assert_int_equal(cpu->dirty, 0);
    assert_int_equal(RUN(m, JMP16(SEL_CODE16, 0xfffe)), OP_JUMP);
    assert_int_equal(cpu->seg[X86_CS].base, 0x20000);
    assert_int_equal(x86_code_bits(cpu), 16);
    assert_int_equal(get(m, AT_GDT + SEL_CODE16 + 5, 1), 0x9b);
    assert_int_equal(cpu->dirty, X86_DIRTY_MODE);
    assert_int_equal(RUN(m, 0xea, W(0), W(SEL_CONF0)), OP_JUMP);
    assert_int_equal(x86_code_bits(cpu), 32);
    assert_int_equal(RUN(m, JMP(SEL_CODE0, 0)), OP_JUMP);

    FAULTS(m, X86_GP, 0, JMP(0, 0));
    FAULTS(m, X86_GP, 0, JMP(3, 0));
    FAULTS(m, X86_GP, SEL_BEYOND, JMP(SEL_BEYOND, 0));
    FAULTS(m, X86_GP, SEL_DATA0, JMP(SEL_DATA0, 0));
    FAULTS(m, X86_GP, SEL_CODE3 & ~3, JMP(SEL_CODE3, 0)); /* DPL != CPL */
    FAULTS(m, X86_GP, SEL_CODE0, JMP(SEL_CODE0 | 1, 0));  /* RPL > CPL */
    FAULTS(m, X86_GP, SEL_CONF3 & ~3, JMP(SEL_CONF3, 0)); /* conforming, DPL > CPL */
    FAULTS(m, X86_NP, SEL_CODE_NP, JMP(SEL_CODE_NP, 0));
    FAULTS(m, X86_GP, 0, JMP(SEL_CODE16, 0x10000));
    FAULTS(m, X86_GP, SEL_LDT, JMP(SEL_LDT, 0));
    FAULTS(m, X86_GP, SEL_FREE, JMP(SEL_FREE, 0)); /* type 0 */
    enter_user(m);
    assert_int_equal(RUN(m, JMP(SEL_CONF0, 0x10)), OP_JUMP); /* CPL stays 3 */
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->seg[X86_CS].selector, SEL_CONF0 | 3);
    FAULTS(m, X86_GP, SEL_CODE0, JMP(SEL_CODE0, 0));
}

static void test_jmp_call_gate(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    set_gdt(m, SEL_FREE, make_gate(SEL_CODE0, 0x12345, 0x8c, 0));
    assert_int_equal(RUN(m, JMP(SEL_FREE, 0xdead)), OP_JUMP);
    assert_int_equal(cpu->rip, 0x12345);
    set_gdt(m, SEL_FREE, make_gate(SEL_CODE0, 0x12345, 0x84, 0)); /* 16-bit gate: IP only */
    assert_int_equal(RUN(m, JMP(SEL_FREE, 0xdead)), OP_JUMP);
    assert_int_equal(cpu->rip, 0x2345);
    FAULTS(m, X86_GP, SEL_FREE, JMP(SEL_FREE | 3, 0)); /* DPL < RPL */
    set_gdt(m, SEL_FREE, make_gate(SEL_CODE0, 0, 0x0c, 0));
    FAULTS(m, X86_NP, SEL_FREE, JMP(SEL_FREE, 0));
    set_gdt(m, SEL_FREE, make_gate(0, 0, 0x8c, 0));
    FAULTS(m, X86_GP, 0, JMP(SEL_FREE, 0));
    set_gdt(m, SEL_FREE, make_gate(SEL_BEYOND, 0, 0x8c, 0));
    FAULTS(m, X86_GP, SEL_BEYOND, JMP(SEL_FREE, 0));
    set_gdt(m, SEL_FREE, make_gate(SEL_DATA0, 0, 0x8c, 0));
    FAULTS(m, X86_GP, SEL_DATA0, JMP(SEL_FREE, 0));
    set_gdt(m, SEL_FREE, make_gate(SEL_CODE_NP, 0, 0x8c, 0));
    FAULTS(m, X86_NP, SEL_CODE_NP, JMP(SEL_FREE, 0));
    set_gdt(m, SEL_FREE, make_gate(SEL_CODE16, 0x10000, 0x8c, 0));
    FAULTS(m, X86_GP, 0, JMP(SEL_FREE, 0));
    enter_user(m);
    set_gdt(m, SEL_FREE, make_gate(SEL_CODE0, 0, 0x8c, 0));
    FAULTS(m, X86_GP, SEL_FREE, JMP(SEL_FREE, 0)); /* gate DPL < CPL */
    set_gdt(m, SEL_FREE, make_gate(SEL_CODE0, 0, 0xec, 0));
    FAULTS(m, X86_GP, SEL_CODE0, JMP(SEL_FREE, 0)); /* JMP cannot go inwards */
    set_gdt(m, SEL_FREE, make_gate(SEL_CONF0, 0x77, 0xec, 0));
    assert_int_equal(RUN(m, JMP(SEL_FREE, 0)), OP_JUMP);
    assert_int_equal(cpu->cpl, 3);
}

/* --- CALL and RET in protected mode --- */

static void test_call_same_level(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    assert_int_equal(RUN(m, CALL(SEL_CONF0, 0x4444)), OP_JUMP);
    assert_int_equal(cpu->rip, 0x4444);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0 - 8);
    assert_int_equal(get(m, STACK0 - 4, 4), SEL_CODE0);
    assert_int_equal(get(m, STACK0 - 8, 4), 0x1007);
    assert_int_equal(RUN(m, 0xca, W(8)), OP_JUMP);
    assert_int_equal(cpu->rip, 0x1007);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0 + 8);
    cpu->gpr[X86_RSP] = STACK0;
    assert_int_equal(RUN(m, CALL16(SEL_CODE16, 0x55)), OP_JUMP);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0 - 4);
    assert_int_equal(get(m, STACK0 - 4, 4), SEL_CODE0 << 16 | 0x100d);
    assert_int_equal(RUN(m, RETF), OP_JUMP); /* 16-bit code: 16-bit operands */
    assert_int_equal(cpu->rip, 0x100d);
    assert_int_equal(x86_code_bits(cpu), 32);

    FAULTS(m, X86_GP, 0, CALL(0, 0));
    FAULTS(m, X86_GP, SEL_CODE3 & ~3, CALL(SEL_CODE3, 0));
    FAULTS(m, X86_NP, SEL_CODE_NP, CALL(SEL_CODE_NP, 0));
    FAULTS(m, X86_GP, 0, CALL(SEL_CODE16, 0x10000));
    force_segment(m, X86_SS, SEL_DATA16);
    cpu->seg[X86_SS].limit = 0x7fff;
    segment_update_bounds(&cpu->seg[X86_SS]);
    FAULTS(m, X86_SS_FAULT, 0, CALL(SEL_CODE0, 0));
    cpu->gpr[X86_RSP] = 0x7ffd;
    FAULTS(m, X86_SS_FAULT, 0, RETF);
}

static void test_expand_down_stack(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    force_segment(m, X86_SS, SEL_DOWN); /* valid from 10000H upwards */
    cpu->gpr[X86_RSP] = 0x10008;
    assert_int_equal(RUN(m, CALL(SEL_CODE0, 0)), OP_JUMP);
    cpu->gpr[X86_RSP] = 0x10007;
    FAULTS(m, X86_SS_FAULT, 0, CALL(SEL_CODE0, 0));
}

static void test_call_gate_inner(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    enter_user(m);
    set_gdt(m, SEL_FREE, make_gate(SEL_CODE0, 0x23456, 0xec, 2));
    put(m, STACK3, 4, 0xaaaa0001);
    put(m, STACK3 + 4, 4, 0xaaaa0002);
    assert_int_equal(RUN(m, CALL(SEL_FREE, 0xdead)), OP_JUMP);
    assert_int_equal(cpu->cpl, 0);
    assert_int_equal(cpu->seg[X86_CS].selector, SEL_CODE0);
    assert_int_equal(cpu->seg[X86_SS].selector, SEL_DATA0);
    assert_int_equal(cpu->rip, 0x23456);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0 - 0x100 - 24);
    assert_int_equal(get(m, cpu->gpr[X86_RSP], 4), 0x1007);
    assert_int_equal(get(m, cpu->gpr[X86_RSP] + 4, 4), SEL_CODE3);
    assert_int_equal(get(m, cpu->gpr[X86_RSP] + 8, 4), 0xaaaa0001);
    assert_int_equal(get(m, cpu->gpr[X86_RSP] + 12, 4), 0xaaaa0002);
    assert_int_equal(get(m, cpu->gpr[X86_RSP] + 16, 4), STACK3);
    assert_int_equal(get(m, cpu->gpr[X86_RSP] + 20, 4), SEL_DATA3);
    assert_true(cpu->dirty & X86_DIRTY_MODE);
    assert_int_equal(cpu->seg[X86_DS].selector, SEL_DATA3); /* data segments stay */

    force_segment(m, X86_DS, SEL_DATA0); /* the return must hide this, but not code or DPL 3 */
    force_segment(m, X86_FS, SEL_CONF0);
    assert_int_equal(RUN(m, 0xca, W(8)), OP_JUMP);
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->rip, 0x1007);
    assert_int_equal(cpu->gpr[X86_RSP], STACK3 + 8);
    assert_int_equal(cpu->seg[X86_SS].selector, SEL_DATA3);
    assert_int_equal(cpu->seg[X86_DS].selector, 0);
    assert_true(cpu->seg[X86_DS].attr & X86_AR_UNUSABLE);
    assert_int_equal(cpu->seg[X86_ES].selector, SEL_DATA3);
    assert_int_equal(cpu->seg[X86_FS].selector, SEL_CONF0);
}

static void test_call_gate16_inner(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    enter_user(m);
    set_gdt(m, SEL_FREE, make_gate(SEL_CODE1 & ~3, 0x3456, 0xe4, 1));
    put(m, STACK3, 2, 0xbeef);
    assert_int_equal(RUN(m, CALL(SEL_FREE, 0)), OP_JUMP);
    assert_int_equal(cpu->cpl, 1);
    assert_int_equal(cpu->seg[X86_CS].selector, SEL_CODE1);
    assert_int_equal(cpu->gpr[X86_RSP], STACK1 - 10);
    assert_int_equal(get(m, STACK1 - 10, 2), 0x1007);
    assert_int_equal(get(m, STACK1 - 8, 2), SEL_CODE3);
    assert_int_equal(get(m, STACK1 - 6, 2), 0xbeef);
    assert_int_equal(get(m, STACK1 - 4, 2), STACK3);
    assert_int_equal(get(m, STACK1 - 2, 2), SEL_DATA3);
    assert_int_equal(RUN(m, 0x66, 0xca, W(2)), OP_JUMP);
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->gpr[X86_RSP], STACK3 + 2);
}

static void test_call_gate_faults(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    enter_user(m);
    set_gdt(m, SEL_FREE, make_gate(SEL_CODE0, 0x10, 0xec, 0));
    put(m, AT_TSS + 8, 2, 0);
    FAULTS(m, X86_TS, 0, CALL(SEL_FREE, 0));
    put(m, AT_TSS + 8, 2, SEL_BEYOND);
    FAULTS(m, X86_TS, SEL_BEYOND, CALL(SEL_FREE, 0));
    put(m, AT_TSS + 8, 2, SEL_DATA0 | 3); /* RPL != DPL of the code */
    FAULTS(m, X86_TS, SEL_DATA0, CALL(SEL_FREE, 0));
    put(m, AT_TSS + 8, 2, SEL_DATA1 & ~3); /* DPL of the stack */
    FAULTS(m, X86_TS, SEL_DATA1 & ~3, CALL(SEL_FREE, 0));
    put(m, AT_TSS + 8, 2, SEL_RODATA);
    FAULTS(m, X86_TS, SEL_RODATA, CALL(SEL_FREE, 0));
    put(m, AT_TSS + 8, 2, SEL_DATA_NP);
    FAULTS(m, X86_SS_FAULT, SEL_DATA_NP, CALL(SEL_FREE, 0));
    set_gdt(m, SEL_FREE + 8, make_descriptor(0, 15, ACC_DATA, FLAG_D)); /* room for 16 bytes */
    put(m, AT_TSS + 8, 2, SEL_FREE + 8);
    put(m, AT_TSS + 4, 4, 20);
    FAULTS(m, X86_SS_FAULT, SEL_FREE + 8, CALL(SEL_FREE, 0));
    put(m, AT_TSS + 4, 4, 16);
    assert_int_equal(RUN(m, CALL(SEL_FREE, 0)), OP_JUMP);
    enter_user(m);
    cpu->seg[X86_TR].limit = 8;
    FAULTS(m, X86_TS, SEL_TSS, CALL(SEL_FREE, 0));
    cpu->seg[X86_TR].limit = 9;
    assert_int_equal(RUN(m, CALL(SEL_FREE, 0)), OP_JUMP);
    /* From CPL 0, the code segment must not be an outer one. */
    set_gdt(m, SEL_FREE, make_gate(SEL_CODE3, 0x10, 0xec, 0));
    FAULTS(m, X86_GP, SEL_CODE3 & ~3, CALL(SEL_FREE, 0));
}

/* Reading parameters is an access of the caller; the inner stack is the supervisor's. */
static void test_call_gate_page_faults(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    enable_paging32(m);
    enter_user(m);
    set_gdt(m, SEL_FREE, make_gate(SEL_CODE0, 0x10, 0xec, 1));
    unmap_page(m, STACK3);
    FAULTS(m, X86_PF, 4, CALL(SEL_FREE, 0));
    assert_int_equal(cpu->fault.cr2, STACK3);
    cpu->gpr[X86_RSP] = STACK3 - 16;
    put(m, AT_PT32 + ((STACK0 - 0x200) >> 12) * 4, 4, (STACK0 & ~0xfff) - 0x1000 + 1);
    cpu->cr0 |= X86_CR0_WP;
    mmu_flush_all(cpu);
    FAULTS(m, X86_PF, 3, CALL(SEL_FREE, 0));
    assert_int_equal(cpu->fault.cr2 & ~0xfffull, (STACK0 - 0x200) & ~0xfff);
}

/* A frame that crosses into an absent page leaves the present page untouched. */
static void test_no_partial_frame(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    enable_paging32(m);
    unmap_page(m, STACK0 - 0x2000);
    cpu->gpr[X86_RSP] = STACK0 - 0x1000 + 4;
    put(m, STACK0 - 0x1000, 4, 0x5a5a5a5a);
    FAULTS(m, X86_PF, 2, CALL(SEL_CODE0, 0));
    assert_int_equal(cpu->fault.cr2 & ~0xfffull, STACK0 - 0x2000);
    assert_int_equal(get(m, STACK0 - 0x1000, 4), 0x5a5a5a5a);
}

static void push_return(struct machine *m, uint32_t rip, uint16_t cs, uint32_t esp, uint16_t ss)
{
    put(m, STACK0 - 16, 4, rip);
    put(m, STACK0 - 12, 4, cs);
    put(m, STACK0 - 8, 4, esp);
    put(m, STACK0 - 4, 4, ss);
    m->cpu.gpr[X86_RSP] = STACK0 - 16;
}

static void test_retf_faults(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;
    static const struct {
        uint16_t cs, ss;
        uint32_t rip;
        enum x86_vector vector;
        uint16_t error;
    } cases[] = {
        {0, SEL_DATA3, 0, X86_GP, 0},
        {SEL_BEYOND, SEL_DATA3, 0, X86_GP, SEL_BEYOND},
        {SEL_DATA0, SEL_DATA3, 0, X86_GP, SEL_DATA0},
        {SEL_CODE0 | 3, SEL_DATA3, 0, X86_GP, SEL_CODE0}, /* nonconforming, DPL != RPL */
        {SEL_CONF3, SEL_DATA3, 0, X86_GP, SEL_CONF3},     /* conforming, DPL > RPL */
        {SEL_CODE_NP, SEL_DATA3, 0, X86_NP, SEL_CODE_NP},
        {SEL_CODE3, 0, 0, X86_GP, 0},
        {SEL_CODE3, SEL_BEYOND | 3, 0, X86_GP, SEL_BEYOND},
        {SEL_CODE3, SEL_DATA3 & ~3, 0, X86_GP, SEL_DATA3 & ~3}, /* RPL */
        {SEL_CODE3, SEL_DATA0 | 3, 0, X86_GP, SEL_DATA0},       /* DPL */
        {SEL_CODE3, SEL_CODE3, 0, X86_GP, SEL_CODE3 & ~3},      /* not data */
        {SEL_CODE16, SEL_DATA0, 0x10000, X86_GP, 0},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        push_return(m, cases[i].rip, cases[i].cs, STACK3, cases[i].ss);
        FAULTS(m, cases[i].vector, cases[i].error, RETF);
    }
    user_descriptor(m, SEL_DATA_NP, 3);
    push_return(m, 0, SEL_CODE3, STACK3, SEL_DATA_NP | 3);
    FAULTS(m, X86_SS_FAULT, SEL_DATA_NP, RETF);
    enter_user(m);
    put(m, STACK3, 4, 0);
    put(m, STACK3 + 4, 4, SEL_CODE0); /* RPL < CPL */
    FAULTS(m, X86_GP, SEL_CODE0, RETF);
    put(m, STACK3 + 4, 4, SEL_CONF0 | 3); /* conforming with DPL < RPL is fine */
    assert_int_equal(RUN(m, RETF), OP_JUMP);
    assert_int_equal(cpu->cpl, 3);
}

/* The upper half of ESP keeps the inner stack's bits when the outer SS is a 16-bit one. */
static void test_retf_to_16bit_stack(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    user_descriptor(m, SEL_DATA16, 3);
    push_return(m, 0x10, SEL_CODE3, 0x55551234, SEL_DATA16 | 3);
    for (unsigned i = 0; i < 4; i++)
        put(m, 0x109000 + 4 * i, 4, get(m, STACK0 - 16 + 4 * i, 4));
    cpu->gpr[X86_RSP] = 0x109000;
    assert_int_equal(RUN(m, RETF), OP_JUMP);
    assert_int_equal(cpu->gpr[X86_RSP], 0x101234);
}

/* --- vm86 --- */

static void test_vm86(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    enter_vm86(m, 0);
    assert_int_equal(RUN(m, 0x9a, W(0x10), W(0x2000)), OP_JUMP);
    assert_int_equal(cpu->seg[X86_CS].base, 0x20000);
    assert_int_equal(cpu->seg[X86_CS].attr, 0xf3);
    assert_int_equal(get(m, 0xa000 + 0xffc, 4), 0x1000 << 16 | 0x1005);
    assert_int_equal(RUN(m, RETF), OP_JUMP);
    assert_int_equal(cpu->seg[X86_CS].selector, 0x1000);
    assert_int_equal(cpu->rip, 0x1005);
    FAULTS(m, X86_GP, 0, 0x66, 0xea, D(0x10000), W(0x2000));
}

/* --- long mode --- */

static void far_memory(struct machine *m, uint64_t offset, uint16_t selector)
{
    put(m, AT_DATA, 8, offset);
    put(m, AT_DATA + 8, 2, selector);
    m->cpu.gpr[X86_RBX] = AT_DATA;
}
#define JMP_M64  0x48, 0xff, 0x2b /* JMP FAR [RBX], REX.W */
#define CALL_M64 0x48, 0xff, 0x1b

static void test_long_jmp(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    far_memory(m, 0xffffffff80001234, SEL_CODE0);
    assert_int_equal(RUN(m, JMP_M64), OP_JUMP);
    assert_int_equal(cpu->rip, 0xffffffff80001234);
    far_memory(m, 0x800000000000, SEL_CODE0);
    FAULTS(m, X86_GP, 0, JMP_M64);
    far_memory(m, 0, SEL_LD);
    FAULTS(m, X86_GP, SEL_LD, JMP_M64);
    far_memory(m, 0, SEL_TSS16); /* no task switches */
    FAULTS(m, X86_GP, SEL_TSS16, JMP_M64);
    set_gdt(m, SEL_FREE, make_gate(SEL_TSSB, 0, 0x85, 0));
    far_memory(m, 0, SEL_FREE);
    FAULTS(m, X86_GP, SEL_FREE, JMP_M64);
    set_gdt(m, SEL_FREE, make_gate(SEL_CODE0, 0, 0x84, 0)); /* no 16-bit gates */
    FAULTS(m, X86_GP, SEL_FREE, JMP_M64);
    /* To compatibility mode: CODE16 has neither L nor D. */
    far_memory(m, 0x10, SEL_CODE16);
    assert_int_equal(RUN(m, JMP_M64), OP_JUMP);
    assert_int_equal(x86_code_bits(cpu), 16);
    assert_int_equal(cpu->seg[X86_CS].base, 0x20000);
    far_memory(m, 0, SEL_CODE0);
    cpu->gpr[X86_RBX] = AT_DATA;
    put(m, AT_DATA + 2, 2, SEL_CODE0);
    assert_int_equal(RUN(m, 0xff, 0x2f), OP_JUMP); /* JMP FAR [BX] */
    assert_int_equal(x86_code_bits(cpu), 64);
}

static void test_long_call_gate(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;
    uint64_t top = STACK0 - 0x100;

    enter_user(m);
    set_gdt(m, SEL_FREE, make_gate(SEL_CODE0, 0x80002222, 0xec, 3));
    put(m, AT_GDT + SEL_FREE + 8, 8, 0xffffffff);
    far_memory(m, 0xdead, SEL_FREE);
    assert_int_equal(RUN(m, CALL_M64), OP_JUMP); /* the count is ignored */
    assert_int_equal(cpu->cpl, 0);
    assert_int_equal(cpu->rip, 0xffffffff80002222);
    assert_int_equal(cpu->seg[X86_SS].selector, 0);
    assert_int_equal(cpu->gpr[X86_RSP], top - 32);
    assert_int_equal(get(m, top - 8, 8), SEL_DATA3);
    assert_int_equal(get(m, top - 16, 8), STACK3);
    assert_int_equal(get(m, top - 24, 8), SEL_CODE64_3);
    assert_int_equal(get(m, top - 32, 8), 0x1003);
    assert_int_equal(RUN(m, 0x48, RETF), OP_JUMP);
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->rip, 0x1003);
    assert_int_equal(cpu->gpr[X86_RSP], STACK3);
    assert_int_equal(cpu->seg[X86_SS].selector, SEL_DATA3);

    put(m, AT_TSS + 4, 8, 0x800000000000);
    FAULTS(m, X86_SS_FAULT, 0, CALL_M64);
    put(m, AT_GDT + SEL_FREE + 8, 8, 0x00008000); /* target not canonical */
    put(m, AT_TSS + 4, 8, top);
    FAULTS(m, X86_GP, 0, CALL_M64);
    put(m, AT_GDT + SEL_FREE + 8, 8, 0x0c0000000000); /* type field of the upper half */
    FAULTS(m, X86_GP, SEL_FREE, CALL_M64);
    set_gdt(m, SEL_FREE, make_gate(SEL_CODE3, 0, 0xec, 0)); /* must lead to 64-bit code */
    put(m, AT_GDT + SEL_FREE + 8, 8, 0);
    FAULTS(m, X86_GP, SEL_CODE3 & ~3, CALL_M64);
}

static void test_long_retf(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    far_memory(m, 0x3333, SEL_CONF0);
    assert_int_equal(RUN(m, CALL_M64), OP_JUMP);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0 - 16);
    assert_int_equal(RUN(m, 0x48, RETF), OP_JUMP);
    assert_int_equal(cpu->rip, 0x1003);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0);
    push_return(m, 0x44, SEL_CODE3, 0x12345678, SEL_DATA3); /* 32 bits without REX.W */
    assert_int_equal(RUN(m, RETF), OP_JUMP);
    assert_int_equal(x86_code_bits(cpu), 32);
    assert_int_equal(cpu->gpr[X86_RSP], 0x12345678);
    assert_int_equal(cpu->cpl, 3);
}

#define IN(mode, test) cmocka_unit_test_setup_teardown(test, setup_##mode, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN(real, test_real),
        IN(protected, test_jmp_code),
        IN(protected, test_jmp_call_gate),
        IN(protected, test_call_same_level),
        IN(protected, test_expand_down_stack),
        IN(protected, test_call_gate_inner),
        IN(protected, test_call_gate16_inner),
        IN(protected, test_call_gate_faults),
        IN(protected, test_call_gate_page_faults),
        IN(protected, test_no_partial_frame),
        IN(protected, test_retf_faults),
        IN(protected, test_retf_to_16bit_stack),
        IN(protected, test_vm86),
        IN(long, test_long_jmp),
        IN(long, test_long_call_gate),
        IN(long, test_long_retf),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
