#include "fixture.h"

#define LAR_EAX_CX 0x0f, 0x02, 0xc1
#define LSL_EAX_CX 0x0f, 0x03, 0xc1
#define VERR_CX    0x0f, 0x00, 0xe1
#define VERW_CX    0x0f, 0x00, 0xe9
#define LLDT_CX    0x0f, 0x00, 0xd1
#define LTR_CX     0x0f, 0x00, 0xd9
#define SLDT_EAX   0x0f, 0x00, 0xc0
#define STR_EAX    0x0f, 0x00, 0xc8
#define ARPL_CX_DX 0x63, 0xd1
#define SGDT_MEM   0x0f, 0x01, 0x03 /* [EBX], [RBX] */
#define SIDT_MEM   0x0f, 0x01, 0x0b
#define LGDT_MEM   0x0f, 0x01, 0x13
#define LIDT_MEM   0x0f, 0x01, 0x1b

static bool zf(const struct machine *m)
{
    return (m->cpu.aflags & X86_ZF) != 0;
}

static void lar(struct machine *m, uint16_t selector, bool valid, uint32_t rights)
{
    m->cpu.gpr[X86_RCX] = selector;
    m->cpu.gpr[X86_RAX] = 0x77777777;
    assert_int_equal(RUN(m, LAR_EAX_CX), OP_NEXT);
    assert_int_equal(zf(m), valid);
    assert_int_equal(m->cpu.gpr[X86_RAX], valid ? rights : 0x77777777);
}

static void lsl(struct machine *m, uint16_t selector, bool valid, uint32_t limit)
{
    m->cpu.gpr[X86_RCX] = selector;
    m->cpu.gpr[X86_RAX] = 0x77777777;
    assert_int_equal(RUN(m, LSL_EAX_CX), OP_NEXT);
    assert_int_equal(zf(m), valid);
    assert_int_equal(m->cpu.gpr[X86_RAX], valid ? limit : 0x77777777);
}

static void test_lar_lsl(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;
    static const uint8_t lar_types[] = {1, 2, 3, 4, 5, 9, 11, 12}, lsl_types[] = {1, 2, 3, 9, 11};

    lar(m, SEL_CODE0, true, 0xcf9a00);
    lar(m, SEL_DATA_NP, true, 0xcf1200); /* presence does not matter */
    lar(m, 0, false, 0);
    lar(m, SEL_BEYOND, false, 0);
    lar(m, SEL_DATA0 | 3, false, 0); /* RPL */
    lsl(m, SEL_CODE0, true, 0xffffffff);
    lsl(m, SEL_CODE16, true, 0xffff);
    lsl(m, 0, false, 0);
    lsl(m, SEL_DATA0 | 1, false, 0);
    for (unsigned type = 0; type < 16; type++) {
        bool lar_ok = false, lsl_ok = false;

        for (unsigned i = 0; i < sizeof(lar_types); i++)
            lar_ok |= lar_types[i] == type;
        for (unsigned i = 0; i < sizeof(lsl_types); i++)
            lsl_ok |= lsl_types[i] == type;
        set_gdt(m, SEL_FREE, make_descriptor(0, 0x1234, 0x80 | type, 0));
        lar(m, SEL_FREE, lar_ok, 0x8000 | type << 8);
        lsl(m, SEL_FREE, lsl_ok, 0x1234);
    }
    enter_user(m);
    lar(m, SEL_DATA0, false, 0);
    lar(m, SEL_CONF0 | 3, true, 0xcf9e00);
    cpu->gpr[X86_RCX] = SEL_DATA3;
    cpu->gpr[X86_RAX] = 0x77777777;
    assert_int_equal(RUN(m, 0x66, LAR_EAX_CX), OP_NEXT);
    assert_int_equal(cpu->gpr[X86_RAX], 0x7777f200);
    assert_int_equal(RUN(m, 0x66, LSL_EAX_CX), OP_NEXT);
    assert_int_equal(cpu->gpr[X86_RAX], 0x7777ffff);
}

static void test_lar_long(void **state)
{
    struct machine *m = *state;

    lar(m, SEL_TSS16, false, 0);
    lar(m, SEL_TSSB, true, 0x8900);
    lar(m, SEL_LDT, true, 0x8200);
    lsl(m, SEL_TSSB, true, 0x67);
    lsl(m, SEL_TSS16, false, 0);
    set_gdt(m, SEL_FREE, make_gate(SEL_CODE0, 0, 0x85, 0));
    lar(m, SEL_FREE, false, 0);
}

static void verify(struct machine *m, uint16_t selector, bool readable, bool writable)
{
    m->cpu.gpr[X86_RCX] = selector;
    assert_int_equal(RUN(m, VERR_CX), OP_NEXT);
    assert_int_equal(zf(m), readable);
    assert_int_equal(RUN(m, VERW_CX), OP_NEXT);
    assert_int_equal(zf(m), writable);
}

static void test_verify(void **state)
{
    struct machine *m = *state;

    verify(m, SEL_DATA0, true, true);
    verify(m, SEL_DATA0 | 3, false, false);
    verify(m, SEL_RODATA, true, false);
    verify(m, SEL_CODE0, true, false);
    verify(m, SEL_XONLY, false, false);
    verify(m, SEL_TSS, false, false);
    verify(m, 0, false, false);
    verify(m, 3, false, false);
    verify(m, SEL_BEYOND, false, false);
    enter_user(m);
    verify(m, SEL_DATA0, false, false);
    verify(m, SEL_DATA3, true, true);
    verify(m, SEL_CONF0, true, false);
}

static void test_arpl(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    cpu->gpr[X86_RCX] = 0x12345671;
    cpu->gpr[X86_RDX] = 3;
    assert_int_equal(RUN(m, ARPL_CX_DX), OP_NEXT);
    assert_true(zf(m));
    assert_int_equal(cpu->gpr[X86_RCX], 0x12345673);
    cpu->gpr[X86_RDX] = 2;
    assert_int_equal(RUN(m, ARPL_CX_DX), OP_NEXT);
    assert_false(zf(m));
    assert_int_equal(cpu->gpr[X86_RCX], 0x12345673);
}

static void test_not_in_real_mode(void **state)
{
    struct machine *m = *state;

    FAULTS(m, X86_UD, -1, LAR_EAX_CX);
    FAULTS(m, X86_UD, -1, LSL_EAX_CX);
    FAULTS(m, X86_UD, -1, VERR_CX);
    FAULTS(m, X86_UD, -1, VERW_CX);
    FAULTS(m, X86_UD, -1, LLDT_CX);
    FAULTS(m, X86_UD, -1, LTR_CX);
    FAULTS(m, X86_UD, -1, SLDT_EAX);
    FAULTS(m, X86_UD, -1, STR_EAX);
    FAULTS(m, X86_UD, -1, ARPL_CX_DX);
}

static void test_not_in_vm86(void **state)
{
    struct machine *m = *state;

    enter_vm86(m, 3);
    FAULTS(m, X86_UD, -1, LAR_EAX_CX);
    FAULTS(m, X86_UD, -1, VERR_CX);
    FAULTS(m, X86_UD, -1, LLDT_CX);
    FAULTS(m, X86_UD, -1, STR_EAX);
    FAULTS(m, X86_GP, 0, 0x0f, 0x01, 0x17); /* LGDT [BX] */
}

static void test_tables(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    cpu->gpr[X86_RBX] = AT_DATA;
    put(m, AT_DATA, 8, 0x0000fedcba983456);
    assert_int_equal(RUN(m, LIDT_MEM), OP_NEXT);
    assert_int_equal(cpu->idtr.limit, 0x3456);
    assert_int_equal(cpu->idtr.base, 0xfedcba98);
    assert_int_equal(RUN(m, 0x66, LIDT_MEM), OP_NEXT); /* 16 bits: 24-bit base */
    assert_int_equal(cpu->idtr.base, 0xdcba98);
    assert_int_equal(RUN(m, LGDT_MEM), OP_NEXT);
    assert_int_equal(cpu->gdtr.base, 0xfedcba98);
    put(m, AT_DATA, 8, ~0ull);
    assert_int_equal(RUN(m, SGDT_MEM), OP_NEXT);
    assert_int_equal(get(m, AT_DATA, 8), 0xfffffedcba983456);
    assert_int_equal(RUN(m, SIDT_MEM), OP_NEXT);
    assert_int_equal(get(m, AT_DATA, 8), 0xffff00dcba983456);
    enter_user(m);
    FAULTS(m, X86_GP, 0, LGDT_MEM);
    FAULTS(m, X86_GP, 0, LIDT_MEM);
    assert_int_equal(RUN(m, SGDT_MEM), OP_NEXT);
    cpu->cr4 |= X86_CR4_UMIP;
    FAULTS(m, X86_GP, 0, SGDT_MEM);
    FAULTS(m, X86_GP, 0, SIDT_MEM);
    FAULTS(m, X86_GP, 0, SLDT_EAX);
    FAULTS(m, X86_GP, 0, STR_EAX);
}

static void test_tables_long(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    cpu->gpr[X86_RBX] = AT_DATA;
    put(m, AT_DATA, 2, 0x1ff);
    put(m, AT_DATA + 2, 8, 0xffffffff80001000);
    assert_int_equal(RUN(m, LGDT_MEM), OP_NEXT);
    assert_int_equal(cpu->gdtr.base, 0xffffffff80001000);
    put(m, AT_DATA, 8, 0);
    put(m, AT_DATA + 2, 8, 0);
    assert_int_equal(RUN(m, SGDT_MEM), OP_NEXT);
    assert_int_equal(get(m, AT_DATA + 2, 8), 0xffffffff80001000);
    put(m, AT_DATA + 2, 8, 1ull << 47);
    FAULTS(m, X86_GP, 0, LIDT_MEM);
    cpu->gpr[X86_RCX] = SEL_DATA0; /* the GDT is still readable, now through the upper half */
    assert_int_equal(RUN(m, VERW_CX), OP_NEXT);
    assert_true(zf(m));
}

static void test_lldt_ltr(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;
    static const struct {
        uint16_t selector;
        enum x86_vector lldt, ltr;
        uint16_t error;
    } cases[] = {
        {SEL_BEYOND, X86_GP, X86_GP, SEL_BEYOND},
        {SEL_TSSB | 4, X86_GP, X86_GP, SEL_TSSB | 4},
        {SEL_DATA0, X86_GP, X86_GP, SEL_DATA0},
        {SEL_TSS, X86_GP, X86_GP, SEL_TSS}, /* busy */
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cpu->gpr[X86_RCX] = cases[i].selector;
        FAULTS(m, cases[i].lldt, cases[i].error, LLDT_CX);
        FAULTS(m, cases[i].ltr, cases[i].error, LTR_CX);
    }
    cpu->gpr[X86_RCX] = SEL_TSSB;
    FAULTS(m, X86_GP, SEL_TSSB, LLDT_CX);
    assert_int_equal(RUN(m, LTR_CX), OP_NEXT);
    assert_int_equal(cpu->seg[X86_TR].base, AT_TSSB);
    assert_int_equal(cpu->seg[X86_TR].attr & 0xf, 0xb);
    assert_int_equal(get(m, AT_GDT + SEL_TSSB + 5, 1), 0x8b);
    FAULTS(m, X86_GP, SEL_TSSB, LTR_CX); /* now busy */
    cpu->gpr[X86_RCX] = SEL_TSS16;
    assert_int_equal(RUN(m, LTR_CX), OP_NEXT);
    cpu->gpr[X86_RCX] = 3;
    FAULTS(m, X86_GP, 0, LTR_CX);
    assert_int_equal(RUN(m, LLDT_CX), OP_NEXT); /* null: no LDT */
    assert_true(cpu->seg[X86_LDTR].attr & X86_AR_UNUSABLE);
    cpu->gpr[X86_RCX] = SEL_LDT;
    assert_int_equal(RUN(m, LLDT_CX), OP_NEXT);
    assert_int_equal(cpu->seg[X86_LDTR].limit, 0x1f);
    FAULTS(m, X86_GP, SEL_LDT, LTR_CX);
    set_gdt(m, SEL_LDT, make_descriptor(AT_LDT, 0x1f, 0x02, 0));
    FAULTS(m, X86_NP, SEL_LDT, LLDT_CX);
    set_gdt(m, SEL_TSSB, make_descriptor(AT_TSSB, 0x67, 0x09, 0));
    cpu->gpr[X86_RCX] = SEL_TSSB;
    FAULTS(m, X86_NP, SEL_TSSB, LTR_CX);
    cpu->gpr[X86_RAX] = ~0u;
    assert_int_equal(RUN(m, STR_EAX), OP_NEXT);
    assert_int_equal(cpu->gpr[X86_RAX], SEL_TSS16);
    cpu->gpr[X86_RAX] = ~0u;
    assert_int_equal(RUN(m, 0x66, SLDT_EAX), OP_NEXT);
    assert_int_equal(cpu->gpr[X86_RAX], 0xffff0000u | SEL_LDT);
    enter_user(m);
    FAULTS(m, X86_GP, 0, LLDT_CX);
    FAULTS(m, X86_GP, 0, LTR_CX);
}

static void test_ltr_long(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    set_gdt(m, SEL_FREE, make_descriptor(AT_TSS16, 0x2b, 0x81, 0)); /* no 16-bit TSS */
    cpu->gpr[X86_RCX] = SEL_FREE;
    FAULTS(m, X86_GP, SEL_FREE, LTR_CX);
    set_gdt(m, SEL_FREE, make_descriptor(0x12345678, 0x67, 0x89, 0));
    set_gdt(m, SEL_FREE + 8, 0xffff8880);
    cpu->gpr[X86_RCX] = SEL_FREE;
    assert_int_equal(RUN(m, LTR_CX), OP_NEXT);
    assert_int_equal(cpu->seg[X86_TR].base, 0xffff888012345678);
    set_gdt(m, SEL_FREE, make_descriptor(0, 0x67, 0x89, 0));
    set_gdt(m, SEL_FREE + 8, 0x8000); /* base not canonical */
    FAULTS(m, X86_GP, SEL_FREE, LTR_CX);
    set_gdt(m, SEL_FREE + 8, 0x0900ull << 32); /* type in the upper half */
    FAULTS(m, X86_GP, SEL_FREE, LTR_CX);
    set_gdt(m, SEL_FREE + 8, make_descriptor(0, 0x67, 0x89, 0)); /* half of it is outside */
    cpu->gpr[X86_RCX] = SEL_FREE + 8;
    FAULTS(m, X86_GP, SEL_FREE + 8, LTR_CX);
}

static void test_io_check(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    assert_int_equal(io_check(cpu, 0x3f8, 1), 0); /* CPL 0 */
    enter_user(m);
    cpu->sflags = X86_IOPL;
    assert_int_equal(io_check(cpu, 0x3f8, 1), 0);
    cpu->sflags = 0;
    put(m, AT_TSS + 102, 2, 0x200);
    put(m, AT_TSS + 0x200 + 0x3f8 / 8, 2, 0x0100); /* port 400H is forbidden */
    assert_int_equal(io_check(cpu, 0x3ff, 1), 0);
    assert_int_equal(io_check(cpu, 0x3fc, 4), 0);
    assert_int_equal(io_check(cpu, 0x3fd, 4), -1); /* reaches 400H */
    assert_int_equal(cpu->fault.vector, X86_GP);
    assert_int_equal(cpu->fault.error, 0);
    assert_int_equal(io_check(cpu, 0x400, 1), -1);
    assert_int_equal(io_check(cpu, 0x401, 2), 0);
    cpu->seg[X86_TR].limit = 0x200 + 0x3f8 / 8;
    assert_int_equal(io_check(cpu, 0x3f0, 1), 0);
    assert_int_equal(io_check(cpu, 0x3f8, 1), -1); /* the second byte is outside */
    enter_vm86(m, 3);                              /* IOPL does not help there */
    assert_int_equal(io_check(cpu, 0x3f0, 1), 0);
    assert_int_equal(io_check(cpu, 0x3f8, 1), -1);
    cpu->seg[X86_TR].limit = 102;
    assert_int_equal(io_check(cpu, 0, 1), -1);
    force_segment(m, X86_TR, SEL_TSS16);
    assert_int_equal(io_check(cpu, 0, 1), -1);
}

static void test_operands(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;
    struct insn insn = {.addrsize = 8, .len = 7, .encoding = ENC_LEGACY};

    cpu->rip = 0x1000;
    insn.mem = (struct insn_mem){
        .present = 1, .base = GPR_NONE, .index = GPR_NONE, .rip_relative = 1, .disp = -0x10};
    assert_int_equal(op_offset(cpu, &insn), 0xff7);
    insn.mem.rip_relative = 0;
    insn.mem.base = X86_RBX;
    insn.mem.index = X86_R12;
    insn.mem.scale = 3;
    cpu->gpr[X86_RBX] = 0xffffffff00000010;
    cpu->gpr[X86_R12] = 0x20000000;
    assert_int_equal(op_offset(cpu, &insn), 0);
    insn.addrsize = 4;
    cpu->gpr[X86_RBX] = 0x10;
    assert_int_equal(op_offset(cpu, &insn), 0);
    insn.addrsize = 2;
    insn.mem.index = GPR_NONE;
    cpu->gpr[X86_RBX] = 0x12340008;
    assert_int_equal(op_offset(cpu, &insn), 0xfff8);

    cpu->gpr[X86_RAX] = 0x1122334455667788;
    assert_int_equal(op_get_gpr(cpu, &insn, 4, 1), 0x77); /* AH */
    op_set_gpr(cpu, &insn, 4, 1, 0xaa);
    assert_int_equal(cpu->gpr[X86_RAX], 0x112233445566aa88);
    insn.rex = 0x40;
    cpu->gpr[X86_RSP] = 0x99;
    assert_int_equal(op_get_gpr(cpu, &insn, 4, 1), 0x99); /* SPL */
    op_set_gpr(cpu, &insn, 0, 2, 0xbbbb);
    assert_int_equal(cpu->gpr[X86_RAX], 0x112233445566bbbb);
    op_set_gpr(cpu, &insn, 0, 4, 0xcccccccc);
    assert_int_equal(cpu->gpr[X86_RAX], 0xcccccccc);
}

static void test_stack_helpers(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;
    struct op_stack stack;
    uint64_t value;

    force_segment(m, X86_SS, SEL_DATA16);
    cpu->gpr[X86_RSP] = 0x12340002;
    op_stack_begin(&stack, cpu);
    assert_int_equal(op_push(&stack, 2, 0x1111), 0);
    assert_int_equal(op_push(&stack, 2, 0x2222), 0); /* wraps to FFFEH */
    assert_int_equal(cpu->gpr[X86_RSP], 0x12340002); /* not yet */
    op_stack_commit(&stack);
    assert_int_equal(cpu->gpr[X86_RSP], 0x1234fffe);
    assert_int_equal(get(m, 0xfffe, 2), 0x2222);
    assert_int_equal(op_pop(&stack, 2, &value), 0);
    assert_int_equal(value, 0x2222);
    assert_int_equal(op_pop(&stack, 2, &value), 0);
    assert_int_equal(value, 0x1111);
    op_stack_commit(&stack);
    assert_int_equal(cpu->gpr[X86_RSP], 0x12340002);
    cpu->gpr[X86_RSP] = 3;
    op_stack_begin(&stack, cpu);
    assert_int_equal(op_push(&stack, 4, 0), -1); /* FFFFH, four bytes */
    assert_int_equal(cpu->fault.vector, X86_SS_FAULT);
    assert_int_equal(cpu->fault.error, 0);
}

#define IN(mode, test) cmocka_unit_test_setup_teardown(test, setup_##mode, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN(protected, test_lar_lsl),       IN(long, test_lar_long),
        IN(protected, test_verify),        IN(protected, test_arpl),
        IN(real, test_not_in_real_mode),   IN(protected, test_not_in_vm86),
        IN(protected, test_tables),        IN(long, test_tables_long),
        IN(protected, test_lldt_ltr),      IN(long, test_ltr_long),
        IN(protected, test_io_check),      IN(long, test_operands),
        IN(protected, test_stack_helpers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
