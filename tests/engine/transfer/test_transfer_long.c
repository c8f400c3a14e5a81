#include "fixture.h"

enum { VECTOR = 0x20 };
#define HANDLER    0xffffffff80004321
#define INT_VECTOR 0xcd, VECTOR
#define IRETQ      0x48, 0xcf
#define IRETD      0xcf
#define SYSCALL    0x0f, 0x05
#define SYSRET     0x0f, 0x07
#define SYSRETQ    0x48, 0x0f, 0x07
#define SYSENTER   0x0f, 0x34
#define SYSEXIT    0x0f, 0x35
#define SYSEXITQ   0x48, 0x0f, 0x35

enum { NOT_CANONICAL_SHIFT = 47 };
#define NOT_CANONICAL (1ull << NOT_CANONICAL_SHIFT)

/* --- delivery --- */

static void check_frame(struct machine *m, uint64_t top, uint64_t rip, uint64_t cs, uint64_t flags,
                        uint64_t rsp, uint64_t ss)
{
    assert_int_equal(get(m, top - 8, 8), ss);
    assert_int_equal(get(m, top - 16, 8), rsp);
    assert_int_equal(get(m, top - 24, 8), flags);
    assert_int_equal(get(m, top - 32, 8), cs);
    assert_int_equal(get(m, top - 40, 8), rip);
}

static void test_same_level(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    set_idt64(m, VECTOR, SEL_CODE0, HANDLER, 0x8e, 0);
    x86_set_rflags(cpu, X86_IF | X86_TF | X86_NT | 2);
    cpu->gpr[X86_RSP] = STACK0 - 3; /* aligned down to 16 before the push */
    assert_int_equal(RUN(m, INT_VECTOR), OP_JUMP);
    assert_int_equal(cpu->rip, HANDLER);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0 - 16 - 40);
    check_frame(m, STACK0 - 16, 0x1002, SEL_CODE0, X86_IF | X86_TF | X86_NT | 2, STACK0 - 3,
                SEL_DATA0);
    assert_int_equal(x86_get_rflags(cpu), 2);
    assert_int_equal(cpu->seg[X86_SS].selector, SEL_DATA0);    /* no change of level */
    FAULTS(m, X86_GP, (VECTOR + 1) * 8 + 2, 0xcd, VECTOR + 1); /* an empty gate */
}

static void test_user_to_kernel(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;
    uint64_t top = STACK0 - 0x100;

    enter_user(m);
    cpu->iflag = 1;
    set_idt64(m, VECTOR, SEL_CODE0, HANDLER, 0x8e, 0);
    assert_int_equal(event_deliver(cpu, EVENT_EXCEPTION, VECTOR, true, 0x15, 0x401000), 0);
    assert_int_equal(cpu->cpl, 0);
    assert_int_equal(cpu->iflag, 0);
    assert_int_equal(cpu->gpr[X86_RSP], top - 48);
    check_frame(m, top, 0x401000, SEL_CODE64_3, X86_IF | 2, STACK3, SEL_DATA3);
    assert_int_equal(get(m, top - 48, 8), 0x15);
    assert_int_equal(cpu->seg[X86_SS].selector, 0);
    assert_true(cpu->seg[X86_SS].attr & X86_AR_UNUSABLE);
    assert_true(cpu->dirty & X86_DIRTY_MODE);
    cpu->gpr[X86_RSP] += 8;
    assert_int_equal(RUN(m, IRETQ), OP_JUMP);
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(cpu->rip, 0x401000);
    assert_int_equal(cpu->gpr[X86_RSP], STACK3);
    assert_int_equal(cpu->iflag, 1);
    assert_int_equal(cpu->seg[X86_SS].selector, SEL_DATA3);
    assert_int_equal(x86_code_bits(cpu), 64);
}

static void test_ist(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    set_idt64(m, 2, SEL_CODE0, HANDLER, 0x8e, 1);
    assert_int_equal(event_deliver(cpu, EVENT_NMI, 2, false, 0, cpu->rip), 0);
    assert_int_equal(cpu->nmi_blocked, 1);
    assert_int_equal(cpu->gpr[X86_RSP], STACK_IST - 40); /* switched at the same level, aligned */
    check_frame(m, STACK_IST, 0x1000, SEL_CODE0, 2, STACK0, SEL_DATA0);
    assert_int_equal(cpu->seg[X86_SS].selector, SEL_DATA0);
    assert_int_equal(RUN(m, IRETQ), OP_JUMP);
    assert_int_equal(cpu->nmi_blocked, 0);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0);
    enter_user(m);
    assert_int_equal(event_deliver(cpu, EVENT_NMI, 2, false, 0, cpu->rip), 0);
    assert_int_equal(cpu->gpr[X86_RSP], STACK_IST - 40);
    assert_int_equal(cpu->seg[X86_SS].selector, 0);
}

static void test_gate_faults(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;
    static const struct {
        uint16_t selector;
        unsigned access;
        enum x86_vector vector;
        uint32_t error;
    } cases[] = {
        {SEL_CODE0, 0x86, X86_GP, VECTOR * 8 + 2}, /* 16-bit gate */
        {SEL_CODE0, 0x85, X86_GP, VECTOR * 8 + 2}, /* task gate */
        {SEL_CODE0, 0x8c, X86_GP, VECTOR * 8 + 2},
        {SEL_CODE0, 0x0e, X86_NP, VECTOR * 8 + 2},
        {0, 0x8e, X86_GP, 0},
        {SEL_BEYOND, 0x8e, X86_GP, SEL_BEYOND},
        {SEL_DATA0, 0x8e, X86_GP, SEL_DATA0},
        {SEL_CODE64_3, 0x8e, X86_GP, SEL_CODE64_3 & ~3}, /* outer level */
        {SEL_CODE16, 0x8e, X86_GP, SEL_CODE16},          /* not 64-bit */
        {SEL_LD, 0x8e, X86_GP, SEL_LD},
        {SEL_CODE_NP, 0x8e, X86_NP, SEL_CODE_NP},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        set_idt64(m, VECTOR, cases[i].selector, HANDLER, cases[i].access, 0);
        FAULTS(m, cases[i].vector, cases[i].error, INT_VECTOR);
        assert_int_equal(event_deliver(cpu, EVENT_EXTERNAL, VECTOR, false, 0, 0), -1);
        assert_int_equal(cpu->fault.error, cases[i].error | 1);
    }
    set_idt64(m, VECTOR, SEL_CODE0, NOT_CANONICAL, 0x8e, 0);
    FAULTS(m, X86_GP, 0, INT_VECTOR);
    set_idt64(m, VECTOR, SEL_CODE0, HANDLER, 0x8e, 7);
    put(m, AT_TSS + 36 + 6 * 8, 8, NOT_CANONICAL);
    FAULTS(m, X86_SS_FAULT, 0, INT_VECTOR);
    cpu->seg[X86_TR].limit = 36 + 7 * 8 - 2;
    FAULTS(m, X86_TS, SEL_TSS, INT_VECTOR);
    cpu->idtr.limit = VECTOR * 16 + 14;
    FAULTS(m, X86_GP, VECTOR * 8 + 2, INT_VECTOR);
    cpu->idtr.limit = 0xfff;
    enter_user(m);
    FAULTS(m, X86_GP, VECTOR * 8 + 2, INT_VECTOR); /* gate DPL 0 */
    set_idt64(m, VECTOR, SEL_CODE0, HANDLER, 0xee, 0);
    unmap_page(m, STACK0 - 0x200);
    FAULTS(m, X86_PF, 2, INT_VECTOR);
    put(m, AT_TSS + 4, 8, NOT_CANONICAL);
    FAULTS(m, X86_SS_FAULT, 0, INT_VECTOR);
}

static void test_from_compatibility(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;
    uint64_t top = STACK0 - 0x100;

    enter_user(m);
    force_segment(m, X86_CS, SEL_CODE3);
    set_idt64(m, VECTOR, SEL_CODE0, HANDLER, 0xee, 0);
    assert_int_equal(RUN(m, INT_VECTOR), OP_JUMP);
    assert_int_equal(x86_code_bits(cpu), 64);
    check_frame(m, top, 0x1002, SEL_CODE3, 2, STACK3, SEL_DATA3);
    assert_int_equal(RUN(m, IRETQ), OP_JUMP);
    assert_int_equal(x86_code_bits(cpu), 32);
    assert_int_equal(cpu->gpr[X86_RSP], STACK3);
}

/* --- IRET --- */

static void push_frame(struct machine *m, uint64_t rip, uint16_t cs, uint64_t flags, uint64_t rsp,
                       uint16_t ss)
{
    const uint64_t items[] = {rip, cs, flags, rsp, ss};

    m->cpu.gpr[X86_RSP] = STACK0 - 40;
    for (unsigned i = 0; i < 5; i++)
        put(m, STACK0 - 40 + 8 * i, 8, items[i]);
}

static void test_iretq(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    push_frame(m, 0x1234, SEL_CODE0, 2, 0x8888, 0); /* same level: SS:RSP too, null SS is fine */
    assert_int_equal(RUN(m, IRETQ), OP_JUMP);
    assert_int_equal(cpu->gpr[X86_RSP], 0x8888);
    assert_true(cpu->seg[X86_SS].attr & X86_AR_UNUSABLE);
    push_frame(m, 0x1234, SEL_CODE0, 2 | X86_VM, 0x8888, SEL_DATA0);
    assert_int_equal(RUN(m, IRETQ), OP_JUMP); /* VM is ignored in long mode */
    assert_false(x86_vm86(cpu));
    cpu->sflags |= X86_NT;
    FAULTS(m, X86_GP, 0, IRETQ);
    cpu->sflags = 0;
    push_frame(m, NOT_CANONICAL, SEL_CODE0, 2, 0x8888, 0);
    FAULTS(m, X86_GP, 0, IRETQ);
    push_frame(m, NOT_CANONICAL, SEL_CODE64_3, 2, STACK3, SEL_DATA3);
    FAULTS(m, X86_GP, 0, IRETQ);
    push_frame(m, 0, SEL_LD, 2, 0x8888, SEL_DATA0);
    FAULTS(m, X86_GP, SEL_LD, IRETQ);
    push_frame(m, 0, SEL_CODE0, 2, 0x8888, 3); /* null, but RPL != CPL */
    FAULTS(m, X86_GP, 0, IRETQ);
    push_frame(m, 0, SEL_CODE64_3, 2, STACK3, 3); /* null at level 3 */
    FAULTS(m, X86_GP, 0, IRETQ);
    push_frame(m, 0, SEL_CODE3, 2, STACK3, 0); /* null for compatibility mode */
    FAULTS(m, X86_GP, 0, IRETQ);
    push_frame(m, 0, SEL_CODE64_3, 2, STACK3, SEL_DATA0 | 3);
    FAULTS(m, X86_GP, SEL_DATA0, IRETQ);
    push_frame(m, 0x100000000, SEL_CODE3, 2, STACK3, SEL_DATA3); /* beyond 4 GiB limit */
    FAULTS(m, X86_GP, 0, IRETQ);
    cpu->gpr[X86_RSP] = NOT_CANONICAL - 8;
    FAULTS(m, X86_SS_FAULT, 0, IRETQ);
    /* Segments of an inner level go away, bases behind null selectors stay. */
    push_frame(m, 0x10, SEL_CODE64_3, 2, NOT_CANONICAL, SEL_DATA3);
    force_segment(m, X86_DS, SEL_DATA0);
    cpu->seg[X86_FS] = (struct x86_segment){.base = 0x7fff12345000, .attr = X86_AR_UNUSABLE};
    assert_int_equal(RUN(m, IRETQ), OP_JUMP);
    assert_true(cpu->seg[X86_DS].attr & X86_AR_UNUSABLE);
    assert_int_equal(cpu->seg[X86_FS].base, 0x7fff12345000);
    assert_int_equal(cpu->gpr[X86_RSP], NOT_CANONICAL); /* not checked here */
}

/* A 16-bit stack gets SP only. */
static void test_iretq_to_16bit_stack(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    set_gdt(m, SEL_FREE, make_descriptor(0, 0xffff, ACC_DATA | ACC_DPL3, 0));
    push_frame(m, 0x10, SEL_CODE3, 2, 0x5551234, SEL_FREE | 3);
    cpu->gpr[X86_RSP] |= 0xffffff8000000000; /* the upper half maps the same memory */
    assert_int_equal(RUN(m, IRETQ), OP_JUMP);
    assert_int_equal(cpu->gpr[X86_RSP], 0xffffff8000000000 | 0x1234);
}

/* Compatibility mode at CPL 0: no SS:ESP without a change of level. */
static void test_iret_compatibility(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    set_gdt(m, SEL_FREE, make_descriptor(0, 0xfffff, ACC_CODE, FLAG_G | FLAG_D));
    force_segment(m, X86_CS, SEL_FREE);
    put(m, STACK0, 4, 0x2222);
    put(m, STACK0 + 4, 4, SEL_FREE);
    put(m, STACK0 + 8, 4, 2);
    assert_int_equal(RUN(m, IRETD), OP_JUMP);
    assert_int_equal(cpu->rip, 0x2222);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0 + 12);
}

/* --- SYSCALL, SYSRET --- */

static void set_star(struct machine *m)
{
    m->cpu.star = (uint64_t)0x1b << 48 | (uint64_t)SEL_CODE0 << 32 | 0x12345678;
    m->cpu.lstar = HANDLER;
    m->cpu.cstar = HANDLER + 0x100;
    m->cpu.fmask = X86_IF | X86_TF | X86_DF_FLAG | X86_AC_FLAG | X86_NT;
}

static void test_syscall(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    set_star(m);
    enter_user(m);
    x86_set_rflags(cpu, X86_IF | X86_CF | X86_DF_FLAG | X86_RF | X86_AC_FLAG | 2);
    assert_int_equal(RUN(m, SYSCALL), OP_JUMP);
    assert_int_equal(cpu->rip, HANDLER);
    assert_int_equal(cpu->gpr[X86_RCX], 0x1002);
    assert_int_equal(cpu->gpr[X86_R11], X86_IF | X86_CF | X86_DF_FLAG | X86_AC_FLAG | 2);
    assert_int_equal(x86_get_rflags(cpu), X86_CF | 2);
    assert_int_equal(cpu->cpl, 0);
    assert_int_equal(cpu->seg[X86_CS].selector, SEL_CODE0);
    assert_int_equal(cpu->seg[X86_CS].attr,
                     0x9b | X86_AR_L | X86_AR_G); /* execute/read, accessed */
    assert_int_equal(cpu->seg[X86_SS].selector, SEL_CODE0 + 8);
    assert_int_equal(cpu->seg[X86_SS].attr, 0x93 | X86_AR_DB | X86_AR_G);
    assert_int_equal(cpu->seg[X86_SS].limit, 0xffffffff);
    assert_int_equal(cpu->gpr[X86_RSP], STACK3);

    cpu->intr_wanted = 1;
    cpu->gpr[X86_R11] = 0xffffffffffffffff;
    assert_int_equal(RUN(m, SYSRETQ), OP_JUMP);
    assert_int_equal(cpu->rip, 0x1002);
    assert_int_equal(cpu->cpl, 3);
    assert_int_equal(x86_get_rflags(cpu), 0x3c7fd7);
    assert_int_equal(cpu->seg[X86_CS].selector, 0x2b);
    assert_int_equal(cpu->seg[X86_CS].attr, 0xfb | X86_AR_L | X86_AR_G);
    assert_int_equal(cpu->seg[X86_SS].selector, 0x23);
    assert_int_equal(cpu->seg[X86_SS].attr, 0xf3 | X86_AR_DB | X86_AR_G);
    assert_int_equal(cpu->exit_window, 1);
}

static void test_syscall_faults(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    set_star(m);
    cpu->gpr[X86_RCX] = NOT_CANONICAL;
    FAULTS(m, X86_GP, 0, SYSRETQ);
    cpu->efer &= ~(uint64_t)X86_EFER_SCE;
    FAULTS(m, X86_UD, -1, SYSCALL);
    FAULTS(m, X86_UD, -1, SYSRETQ);
    cpu->efer |= X86_EFER_SCE;
    enter_user(m);
    FAULTS(m, X86_GP, 0, SYSRETQ);
    force_segment(m, X86_CS, SEL_CODE3); /* Intel: not in compatibility mode */
    FAULTS(m, X86_UD, -1, SYSCALL);
    cpu->cpl = 0;
    FAULTS(m, X86_UD, -1, SYSRET);
}

static void test_sysret32(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    set_star(m);
    cpu->star = (uint64_t)(0x1b & ~3) << 48; /* RPL 3 is forced */
    cpu->gpr[X86_RCX] = NOT_CANONICAL | 0x12345678;
    cpu->gpr[X86_R11] = X86_IF | X86_RF | X86_VM;
    assert_int_equal(RUN(m, SYSRET), OP_JUMP);
    assert_int_equal(cpu->rip, 0x12345678);
    assert_int_equal(cpu->seg[X86_CS].selector, 0x1b);
    assert_int_equal(cpu->seg[X86_SS].selector, 0x23);
    assert_int_equal(x86_code_bits(cpu), 32);
    assert_int_equal(x86_get_rflags(cpu), X86_IF | 2);
}

/* --- SYSENTER, SYSEXIT, SWAPGS --- */

static void test_sysenter_long(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    enter_user(m);
    force_segment(m, X86_CS, SEL_CODE3);
    x86_set_rflags(cpu, X86_IF | X86_CF | 2);
    cpu->sysenter_esp = 0xffffffff80009000;
    cpu->sysenter_eip = HANDLER;
    cpu->sysenter_cs = 3; /* a null selector */
    FAULTS(m, X86_GP, 0, SYSENTER);
    cpu->sysenter_cs = SEL_CODE0 | 3;
    assert_int_equal(RUN(m, SYSENTER), OP_JUMP);
    assert_int_equal(cpu->rip, HANDLER);
    assert_int_equal(cpu->gpr[X86_RSP], 0xffffffff80009000);
    assert_int_equal(x86_code_bits(cpu), 64);
    assert_int_equal(cpu->seg[X86_CS].selector, SEL_CODE0);
    assert_int_equal(cpu->seg[X86_SS].selector, SEL_CODE0 + 8);
    assert_int_equal(x86_get_rflags(cpu), X86_CF | 2);

    cpu->gpr[X86_RDX] = 0x401000;
    cpu->gpr[X86_RCX] = NOT_CANONICAL;
    FAULTS(m, X86_GP, 0, SYSEXITQ);
    cpu->gpr[X86_RCX] = 0x123456789000;
    cpu->gpr[X86_RDX] = NOT_CANONICAL;
    FAULTS(m, X86_GP, 0, SYSEXITQ);
    cpu->gpr[X86_RDX] = 0x401000;
    assert_int_equal(RUN(m, SYSEXITQ), OP_JUMP);
    assert_int_equal(cpu->rip, 0x401000);
    assert_int_equal(cpu->gpr[X86_RSP], 0x123456789000);
    assert_int_equal(cpu->seg[X86_CS].selector, SEL_CODE0 + 32 + 3);
    assert_int_equal(cpu->seg[X86_SS].selector, SEL_CODE0 + 40 + 3);
    assert_int_equal(x86_code_bits(cpu), 64);
    assert_int_equal(cpu->cpl, 3);
    FAULTS(m, X86_GP, 0, SYSEXIT); /* CPL 3 */
}

static void test_sysenter_legacy(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    enter_vm86(m, 3);
    cpu->sysenter_cs = SEL_CODE0;
    cpu->sysenter_esp = STACK0;
    cpu->sysenter_eip = 0x55555;
    assert_int_equal(RUN(m, SYSENTER), OP_JUMP);
    assert_false(x86_vm86(cpu));
    assert_int_equal(cpu->cpl, 0);
    assert_int_equal(cpu->rip, 0x55555);
    assert_int_equal(x86_code_bits(cpu), 32);
    cpu->gpr[X86_RDX] = 0x401000;
    cpu->gpr[X86_RCX] = STACK3;
    assert_int_equal(RUN(m, SYSEXIT), OP_JUMP);
    assert_int_equal(cpu->seg[X86_CS].selector, SEL_CODE0 + 16 + 3);
    assert_int_equal(cpu->seg[X86_SS].selector, SEL_CODE0 + 24 + 3);
    assert_int_equal(cpu->seg[X86_CS].attr, 0xfb | X86_AR_DB | X86_AR_G);
    cpu->cr0 &= ~(uint64_t)X86_CR0_PE;
    FAULTS(m, X86_GP, 0, SYSENTER);
    FAULTS(m, X86_GP, 0, SYSEXIT);
}

static void test_swapgs(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    cpu->seg[X86_GS].base = 0x1111;
    cpu->kernel_gs_base = 0xffff888000002222;
    assert_int_equal(RUN(m, 0x0f, 0x01, 0xf8), OP_NEXT);
    assert_int_equal(cpu->seg[X86_GS].base, 0xffff888000002222);
    assert_int_equal(cpu->kernel_gs_base, 0x1111);
    enter_user(m);
    FAULTS(m, X86_GP, 0, 0x0f, 0x01, 0xf8);
}

#define IN(mode, test) cmocka_unit_test_setup_teardown(test, setup_##mode, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN(long, test_same_level),
        IN(long, test_user_to_kernel),
        IN(long, test_ist),
        IN(long, test_gate_faults),
        IN(long, test_from_compatibility),
        IN(long, test_iretq),
        IN(long, test_iretq_to_16bit_stack),
        IN(long, test_iret_compatibility),
        IN(long, test_syscall),
        IN(long, test_syscall_faults),
        IN(long, test_sysret32),
        IN(long, test_sysenter_long),
        IN(protected, test_sysenter_legacy),
        IN(long, test_swapgs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
