#include "fixture.h"

enum { DF_HANDLER = 0xd0d0, GP_HANDLER = 0x6060, PF_HANDLER = 0x7070 };

static void handlers(struct machine *m)
{
    set_idt(m, X86_DF, make_gate(SEL_CODE0, DF_HANDLER, 0x8e, 0));
    set_idt(m, X86_GP, make_gate(SEL_CODE0, GP_HANDLER, 0x8e, 0));
    set_idt(m, X86_PF, make_gate(SEL_CODE0, PF_HANDLER, 0x8e, 0));
}

static void test_plain(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    handlers(m);
    x86_raise_page_fault(cpu, 0xdeadbeef, 6);
    assert_int_equal(fault_deliver(cpu), 0);
    assert_int_equal(cpu->rip, PF_HANDLER);
    assert_int_equal(cpu->cr2, 0xdeadbeef);
    assert_int_equal(get(m, STACK0 - 16, 4), 6);
    assert_int_equal(get(m, STACK0 - 12, 4), 0x1000);
    assert_int_equal(get(m, STACK0 - 4, 4), X86_RF | 2); /* a fault */
    assert_false(cpu->sflags & X86_RF);
}

/* Table 6-5 of SDM vol. 3; the second fault comes from the missing gate of the first. */
static void test_double_fault_table(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;
    static const struct {
        enum x86_vector first;
        uint32_t handler; /* #GP from the empty gate */
    } cases[] = {
        {X86_DE, DF_HANDLER},       {X86_DB, GP_HANDLER}, {X86_BR, GP_HANDLER},
        {X86_UD, GP_HANDLER},       {X86_NM, GP_HANDLER}, {X86_TS, DF_HANDLER},
        {X86_NP, DF_HANDLER},       {X86_MF, GP_HANDLER}, {X86_AC, GP_HANDLER},
        {X86_SS_FAULT, DF_HANDLER}, {X86_XM, GP_HANDLER},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool is_double = cases[i].handler == DF_HANDLER;

        handlers(m);
        cpu->gpr[X86_RSP] = STACK0;
        cpu->rip = 0x1000;
        x86_raise(cpu, cases[i].first);
        assert_int_equal(fault_deliver(cpu), 0);
        assert_int_equal(cpu->rip, cases[i].handler);
        assert_int_equal(get(m, STACK0 - 16, 4),
                         is_double ? 0u : (unsigned)cases[i].first * 8 + 3); /* IDT and EXT */
        assert_int_equal(get(m, STACK0 - 12, 4), 0x1000);
    }
    /* #PF then #GP: double. */
    set_idt(m, X86_PF, 0);
    cpu->gpr[X86_RSP] = STACK0;
    x86_raise_page_fault(cpu, 0x1234, 0);
    assert_int_equal(fault_deliver(cpu), 0);
    assert_int_equal(cpu->rip, DF_HANDLER);
    assert_int_equal(cpu->cr2, 0x1234);
}

static void test_page_fault_combinations(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    handlers(m);
    enable_paging32(m);
    enter_user(m);
    /* #GP whose delivery page-faults on the kernel stack: the #PF, too, then #DF, then shutdown. */
    unmap_page(m, STACK0 - 0x200);
    x86_raise_error(cpu, X86_GP, 0);
    assert_int_equal(fault_deliver(cpu), -1);
    assert_int_equal(cpu->shutdown, 1);

    /* With a conforming #PF handler (user stack) the contributory + #PF case is served in turn. */
    cpu->shutdown = 0;
    set_idt(m, X86_PF, make_gate(SEL_CONF0, PF_HANDLER, 0x8e, 0));
    x86_raise_error(cpu, X86_GP, 0);
    assert_int_equal(fault_deliver(cpu), 0);
    assert_int_equal(cpu->rip, PF_HANDLER);
    assert_int_equal(cpu->cr2 & ~0xfffull, (STACK0 - 0x200) & ~0xfff);
    assert_int_equal(cpu->cpl, 3);

    /* #PF during the delivery of a #PF: #DF, CR2 of the second. */
    enter_user(m);
    set_idt(m, X86_PF, make_gate(SEL_CODE0, PF_HANDLER, 0x8e, 0));
    set_idt(m, X86_DF, make_gate(SEL_CONF0, DF_HANDLER, 0x8e, 0));
    x86_raise_page_fault(cpu, 0xabcd000, 4);
    assert_int_equal(fault_deliver(cpu), 0);
    assert_int_equal(cpu->rip, DF_HANDLER);
    assert_int_equal(cpu->cr2 & ~0xfffull, (STACK0 - 0x200) & ~0xfff);
    assert_int_equal(get(m, STACK3 - 16, 4), 0);
}

static void test_triple_fault(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    x86_raise(cpu, X86_UD); /* no handler at all: #GP, #DF, shutdown */
    assert_int_equal(fault_deliver(cpu), -1);
    assert_int_equal(cpu->shutdown, 1);
    assert_int_equal(cpu->rip, 0x1000);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0);
}

static void test_triple_fault_real(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    cpu->idtr.limit = 0;
    x86_raise(cpu, X86_UD);
    assert_int_equal(fault_deliver(cpu), -1);
    assert_int_equal(cpu->shutdown, 1);
}

static void test_real_has_no_error_code(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    put(m, X86_GP * 4, 4, 0x123);
    x86_raise_error(cpu, X86_GP, 0);
    assert_int_equal(fault_deliver(cpu), 0);
    assert_int_equal(cpu->rip, 0x123);
    assert_int_equal(cpu->gpr[X86_RSP], STACK0 - 6);
}

/* A double fault through a task gate gets a good stack in any case. */
static void test_double_fault_task(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    put(m, AT_TSSB + 0x20, 4, DF_HANDLER);
    put(m, AT_TSSB + 0x38, 4, STACK1);
    put(m, AT_TSSB + 0x4c, 2, SEL_CODE0);
    put(m, AT_TSSB + 0x50, 2, SEL_DATA0);
    set_idt(m, X86_SS_FAULT, make_gate(SEL_CODE0, 0x10, 0x8e, 0));
    set_idt(m, X86_DF, make_gate(SEL_TSSB, 0, 0x85, 0));
    cpu->seg[X86_SS].limit = 0xfff; /* ESP is outside */
    segment_update_bounds(&cpu->seg[X86_SS]);
    x86_raise_error(cpu, X86_SS_FAULT, 0);
    assert_int_equal(fault_deliver(cpu), 0);
    assert_int_equal(cpu->rip, DF_HANDLER);
    assert_int_equal(cpu->seg[X86_TR].selector, SEL_TSSB);
    assert_int_equal(get(m, STACK1 - 4, 4), 0);
    assert_int_equal(get(m, AT_TSS + 0x20, 4), 0x1000);
}

static void test_debug_exceptions(void **state)
{
    struct machine *m = *state;
    struct x86_cpu *cpu = &m->cpu;

    set_idt(m, X86_DB, make_gate(SEL_CODE0, 0x111, 0x8e, 0));
    cpu->dr[7] |= 1 << 13; /* GD */
    cpu->sflags |= X86_TF | X86_RF;
    cpu->fault = (struct x86_fault){.vector = X86_DB, .dr6 = 1 << 14, .trap = true};
    assert_int_equal(fault_deliver(cpu), 0);
    assert_true(cpu->dr[6] & 1 << 14);
    assert_false(cpu->dr[7] & 1 << 13);
    assert_int_equal(get(m, STACK0 - 4, 4), X86_TF | X86_RF | 2); /* a trap: RF as it is */
    assert_false(cpu->sflags & X86_TF);

    cpu->gpr[X86_RSP] = STACK0;
    cpu->fault = (struct x86_fault){.vector = X86_DB, .dr6 = 1 << 13}; /* BD: a fault */
    assert_int_equal(fault_deliver(cpu), 0);
    assert_int_equal(get(m, STACK0 - 4, 4), X86_RF | 2);
    cpu->gpr[X86_RSP] = STACK0;
    cpu->fault = (struct x86_fault){.vector = X86_DB, .dr6 = 1}; /* instruction breakpoint */
    assert_int_equal(fault_deliver(cpu), 0);
    assert_int_equal(get(m, STACK0 - 4, 4), 2);
    assert_true(cpu->dr[6] & 1);
}

#define IN(mode, test) cmocka_unit_test_setup_teardown(test, setup_##mode, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN(protected, test_plain),
        IN(protected, test_double_fault_table),
        IN(protected, test_page_fault_combinations),
        IN(protected, test_triple_fault),
        IN(real, test_triple_fault_real),
        IN(real, test_real_has_no_error_code),
        IN(protected, test_double_fault_task),
        IN(protected, test_debug_exceptions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
