/* RDMSR, WRMSR and the registers behind them (SDM vol. 4), counters, CPUID, XCR0, FS/GS base. */
#include "fixture.h"

#include <string.h>

static bool reads(struct guest *g, uint32_t index, uint64_t *value)
{
    enum op_result result;

    g->cpu.gpr[X86_RCX] = 0xffffffff00000000 | index; /* ECX only */
    g->cpu.gpr[X86_RAX] = g->cpu.gpr[X86_RDX] = UINT64_MAX;
    result = RUN(g, 0x0f, 0x32);
    if (result != OP_NEXT) {
        expect_fault(g, result, X86_GP, 0);
        return false;
    }
    assert_int_equal(g->cpu.gpr[X86_RAX] >> 32 | g->cpu.gpr[X86_RDX] >> 32, 0);
    *value = g->cpu.gpr[X86_RDX] << 32 | g->cpu.gpr[X86_RAX];
    return true;
}

static uint64_t read_msr(struct guest *g, uint32_t index)
{
    uint64_t value = 0;

    if (!reads(g, index, &value))
        fail_msg("RDMSR %x", index);
    return value;
}

static bool writes(struct guest *g, uint32_t index, uint64_t value)
{
    enum op_result result;

    g->cpu.gpr[X86_RCX] = index;
    g->cpu.gpr[X86_RAX] = 0xffffffff00000000 | value;
    g->cpu.gpr[X86_RDX] = 0xffffffff00000000 | value >> 32;
    result = RUN(g, 0x0f, 0x30);
    if (result != OP_NEXT)
        expect_fault(g, result, X86_GP, 0);
    return result == OP_NEXT;
}

static void expect_keeps(struct guest *g, uint32_t index, uint64_t value)
{
    if (!writes(g, index, value))
        fail_msg("WRMSR %x", index);
    if (read_msr(g, index) != value)
        fail_msg("MSR %x: %llx", index, (unsigned long long)value);
}

static void privilege(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RCX] = 0x10;
    g->cpu.cpl = 3;
    FAULTS_GP(g, 0x0f, 0x32);
    FAULTS_GP(g, 0x0f, 0x30);
    set_feature(g, FEAT_MSR, false);
    FAULTS_UD(g, 0x0f, 0x32);
}

static void unknown_registers(void **state)
{
    static const uint32_t unknown[] = {0x48,       0x49,       0x9e,       0x3a0,      0x480,
                                       0x570,      0x800,      0xda0,      0x345,      0x17b,
                                       0xe7,       0xe8,       0x210,      0x428,      0x40000000,
                                       0x4b564d00, 0xc0000104, 0xc0010015, 0xc0011029, 0xffffffff};
    struct guest *g = *state;
    uint64_t value;

    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        assert_false(reads(g, unknown[i], &value));
        assert_false(writes(g, unknown[i], 0));
    }
}

/* What firmware and systems read without asking CPUID first; all must exist. */
static void known_registers(void **state)
{
    static const uint32_t known[] = {
        0x0,        0x1,        0x10,       0x17,       0x1b,       0x2a,       0x35,
        0x3a,       0x3b,       0x79,       0x8b,       0xc1,       0xcd,       0xce,
        0xe2,       0xfe,       0x10a,      0x11e,      0x174,      0x175,      0x176,
        0x179,      0x17a,      0x186,      0x187,      0x198,      0x199,      0x1a0,
        0x1a2,      0x1d9,      0x200,      0x20f,      0x250,      0x258,      0x259,
        0x268,      0x26f,      0x277,      0x2ff,      0x400,      0x427,      0x6e0,
        0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101,
        0xc0000102, 0xc0000103};
    struct guest *g = *state;
    uint64_t value;

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (!reads(g, known[i], &value))
            fail_msg("MSR %x does not exist", known[i]);
    }
}

static void time_stamp_counter(void **state)
{
    struct guest *g = *state;

    g->tsc = 1000;
    assert_int_equal(read_msr(g, 0x10), 1000);
    assert_true(writes(g, 0x10, 0x100000000));
    assert_true(g->cpu.tsc_adjust == 0x100000000 - 1000);
    g->tsc = 1500;
    assert_true(read_msr(g, 0x10) == 0x100000000 + 500);
    assert_true(writes(g, 0x3b, 0));
    assert_int_equal(read_msr(g, 0x10), 1500);
    assert_true(writes(g, 0x3b, (uint64_t)-500));
    assert_int_equal(read_msr(g, 0x10), 1000);
    assert_true(read_msr(g, 0x3b) == (uint64_t)-500);

    RUNS(g, 0x0f, 0x31); /* rdtsc */
    assert_int_equal(g->cpu.gpr[X86_RAX], 1000);
    assert_int_equal(g->cpu.gpr[X86_RDX], 0);
    assert_true(g->parked > 0);
}

/* A deadline is in units of the guest's counter, wherever that was moved. */
static void tsc_deadline_register(void **state)
{
    struct guest *g = *state;

    g->tsc = 1000;
    assert_true(writes(g, 0x6e0, 3000));
    assert_int_equal(g->deadline, 3000);
    assert_true(writes(g, 0x3b, 500)); /* now the guest reads 1500 */
    assert_int_equal(g->deadline, 2500);
    assert_int_equal(read_msr(g, 0x6e0), 3000);
    assert_true(writes(g, 0x6e0, 0));
    assert_int_equal(g->deadline, 0);
    assert_int_equal(read_msr(g, 0x6e0), 0);
    assert_true(writes(g, 0x6e0, 500)); /* 0 to the board, but armed */
    assert_true(g->deadline != 0);
}

static void tsc_instructions(void **state)
{
    struct guest *g = *state;

    g->tsc = 0x123456789a;
    g->cpu.tsc_aux = 0x77;
    RUNS(g, 0x0f, 0x01, 0xf9); /* rdtscp */
    assert_int_equal(g->cpu.gpr[X86_RAX], 0x3456789a);
    assert_int_equal(g->cpu.gpr[X86_RDX], 0x12);
    assert_int_equal(g->cpu.gpr[X86_RCX], 0x77);
    RUNS(g, 0xf3, 0x0f, 0xc7, 0xfb); /* rdpid rbx */
    assert_int_equal(g->cpu.gpr[X86_RBX], 0x77);
    g->cpu.cpl = 3;
    RUNS(g, 0x0f, 0x31);
    g->cpu.cr4 |= X86_CR4_TSD;
    FAULTS_GP(g, 0x0f, 0x31);
    FAULTS_GP(g, 0x0f, 0x01, 0xf9);
    g->cpu.cpl = 0;
    RUNS(g, 0x0f, 0x31);
    FAULTS_GP(g, 0x0f, 0x33); /* rdpmc */
    set_feature(g, FEAT_TSC, false);
    FAULTS_UD(g, 0x0f, 0x31);
    set_feature(g, FEAT_RDTSCP, false);
    FAULTS_UD(g, 0x0f, 0x01, 0xf9);
    set_feature(g, FEAT_RDPID, false);
    FAULTS_UD(g, 0xf3, 0x0f, 0xc7, 0xfb);
    assert_false(writes(g, 0xc0000103, 1)); /* TSC_AUX came with them */
}

static void system_call_registers(void **state)
{
    struct guest *g = *state;
    const uint64_t address = 0xffffffff81234567;

    expect_keeps(g, 0x174, 0x10);
    expect_keeps(g, 0x175, address);
    expect_keeps(g, 0x176, address);
    assert_false(writes(g, 0x176, 1ull << 48));
    expect_keeps(g, 0xc0000081, 0x0023001000000000);
    assert_true(g->cpu.star == 0x0023001000000000);
    expect_keeps(g, 0xc0000082, address);
    assert_true(g->cpu.lstar == address);
    expect_keeps(g, 0xc0000083, address + 1);
    assert_true(g->cpu.cstar == address + 1);
    assert_false(writes(g, 0xc0000082, 1ull << 48));
    assert_false(writes(g, 0xc0000083, 1ull << 48));
    expect_keeps(g, 0xc0000084, 0x47700);
    assert_false(writes(g, 0xc0000084, 1ull << 32));
    expect_keeps(g, 0xc0000102, address);
    assert_false(writes(g, 0xc0000102, 1ull << 48));
    expect_keeps(g, 0xc0000103, 0xffffffff);
    assert_false(writes(g, 0xc0000103, 1ull << 32));
}

static void efer(void **state)
{
    struct guest *g = *state;

    expect_keeps(g, 0xc0000080, X86_EFER_SCE | X86_EFER_NXE);
    assert_true(g->cpu.dirty & X86_DIRTY_MODE);
    assert_true(g->cpu.dirty & X86_DIRTY_ADDRESS); /* NXE takes part in every translation */
    assert_false(writes(g, 0xc0000080, 1 << 1));
    assert_false(writes(g, 0xc0000080, 1 << 12)); /* SVME */
    expect_keeps(g, 0xc0000080, X86_EFER_LME);
    assert_true(writes(g, 0xc0000080, X86_EFER_LME | X86_EFER_LMA));
    assert_int_equal(g->cpu.efer, X86_EFER_LME); /* LMA is read-only */
    g->cpu.cr0 |= X86_CR0_PG;
    assert_false(writes(g, 0xc0000080, 0)); /* LME while paging */
    assert_true(writes(g, 0xc0000080, X86_EFER_LME | X86_EFER_SCE));
    set_feature(g, FEAT_NX, false);
    assert_false(writes(g, 0xc0000080, X86_EFER_LME | X86_EFER_NXE));
}

static void memory_types(void **state)
{
    struct guest *g = *state;

    assert_int_equal(read_msr(g, 0xfe), 0x508); /* 8 variable, fixed, write combining */
    assert_false(writes(g, 0xfe, 0x508));
    assert_true(read_msr(g, 0x277) == 0x0007040600070406);
    expect_keeps(g, 0x277, 0x0007010600070406);
    assert_false(writes(g, 0x277, 0x02)); /* reserved type */
    assert_false(writes(g, 0x277, 0x0800000000000000));
    expect_keeps(g, 0x250, 0x0606060606060606);
    assert_false(writes(g, 0x250, 0x07)); /* UC- is for the PAT only */
    assert_false(writes(g, 0x26f, 0x0300));
    for (uint32_t i = 0; i < 8; i++)
        expect_keeps(g, 0x268 + i, 0x0505050505050500 + (i & 1));
    expect_keeps(g, 0x258, 0x0101010101010101);
    expect_keeps(g, 0x259, 0x0404040404040404);
    assert_true(read_msr(g, 0x250) == 0x0606060606060606);
    expect_keeps(g, 0x2ff, 0xc06);
    assert_false(writes(g, 0x2ff, 0x102));
    assert_false(writes(g, 0x2ff, 0x1000));
    expect_keeps(g, 0x200, 0xc0000006);
    expect_keeps(g, 0x201, 0xffc0000800);
    expect_keeps(g, 0x20f, 0xffc0000800);
    assert_false(writes(g, 0x200, 1ull << 40)); /* MAXPHYADDR */
    assert_false(writes(g, 0x200, 0x100));
    assert_false(writes(g, 0x201, 0x400));
}

static void machine_check(void **state)
{
    struct guest *g = *state;
    uint64_t banks = read_msr(g, 0x179) & 0xff;

    assert_in_range(banks, 1, 16);
    assert_false(read_msr(g, 0x179) & 0x100); /* no IA32_MCG_CTL */
    for (uint32_t i = 0; i < banks; i++) {
        expect_keeps(g, 0x400 + 4 * i, UINT64_MAX);
        assert_true(writes(g, 0x400 + 4 * i, 0));
        assert_false(writes(g, 0x400 + 4 * i, 1)); /* all errors of a bank or none */
        expect_keeps(g, 0x402 + 4 * i, 0x0000900000000000ull + i);
        expect_keeps(g, 0x403 + 4 * i, UINT64_MAX - i);
        assert_int_equal(read_msr(g, 0x401 + 4 * i), 0);
        assert_true(writes(g, 0x401 + 4 * i, 0));
        assert_false(writes(g, 0x401 + 4 * i, 1));
    }
    expect_keeps(g, 0x17a, 7);
    assert_false(writes(g, 0x17a, 8));
}

static void misc_enable(void **state)
{
    struct guest *g = *state;
    uint64_t value = read_msr(g, 0x1a0);

    assert_true(value & 1);                       /* fast strings: Linux then keeps ERMS */
    assert_int_equal(value & (3 << 11), 3 << 11); /* no BTS, no PEBS */
    expect_keeps(g, 0x1a0, value | 1ull << 34 | 1 << 23 | 1 << 22 | 1 << 18 | 1 << 16 | 1 << 3);
    assert_true(writes(g, 0x1a0, (value | 1 << 7 | 1 << 20) & ~(3ull << 11)));
    assert_true(read_msr(g, 0x1a0) == value); /* read-only, or of what is not there */
}

static void board_registers(void **state)
{
    struct guest *g = *state;

    assert_int_equal(read_msr(g, 0x1b), 0xfee00900);
    assert_true(writes(g, 0x1b, 0xfed00900));
    assert_int_equal(g->apic_base, 0xfed00900);
    assert_false(writes(g, 0x1b, 0xfed00901)); /* the board refuses */
    assert_false(writes(g, 0x1b, 1ull << 40)); /* MAXPHYADDR */
    set_feature(g, FEAT_APIC, false);
    assert_false(writes(g, 0x1b, 0xfed00900));
}

static void constants(void **state)
{
    struct guest *g = *state;

    g->cpu.cpuid.tsc_hz = 2600000000;
    assert_true(read_msr(g, 0xce) == (26ull << 8 | 26ull << 40));
    assert_int_equal(read_msr(g, 0x8b) >> 32, 1);
    assert_true(writes(g, 0x8b, 0)); /* the way to read a microcode revision */
    assert_int_equal(read_msr(g, 0x8b) >> 32, 1);
    assert_true(writes(g, 0x79, 0x1000));
    assert_int_equal(read_msr(g, 0x3a), 1); /* locked */
    assert_false(writes(g, 0x3a, 5));
    /* RDCL_NO, SSB_NO, MDS_NO, TAA_NO, BHI_NO: nothing to mitigate */
    assert_int_equal(read_msr(g, 0x10a) & (1 << 0 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 20),
                     1 << 0 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 20);
    assert_int_equal(read_msr(g, 0x10a) & (1 << 1 | 1 << 2), 0); /* no IBRS_ALL, no RSBA */
    assert_false(writes(g, 0x10a, 0));
}

static void old_processors_lack_new_registers(void **state)
{
    struct guest *g = *state;
    uint64_t value;

    assert_int_equal(cpuid_model_init(&g->cpu.cpuid, "pentium3", NULL), 0);
    assert_false(reads(g, 0xc0000080, &value));
    assert_false(reads(g, 0xc0000101, &value));
    assert_false(reads(g, 0x10a, &value));
    assert_false(reads(g, 0x6e0, &value));
    assert_true(reads(g, 0x11e, &value));
    assert_true(reads(g, 0x174, &value));
}

static void segment_base_registers(void **state)
{
    struct guest *g = *state;
    const uint64_t address = 0xffff888000001000;

    expect_keeps(g, 0xc0000100, address);
    assert_true(g->cpu.seg[X86_FS].base == address);
    expect_keeps(g, 0xc0000101, address + 8);
    assert_true(g->cpu.seg[X86_GS].base == address + 8);
    assert_false(writes(g, 0xc0000101, 1ull << 48));

    FAULTS_UD(g, 0xf3, 0x48, 0x0f, 0xae, 0xc0); /* rdfsbase rax: CR4.FSGSBASE = 0 */
    g->cpu.cr4 |= X86_CR4_FSGSBASE;
    g->cpu.cpl = 3; /* any CPL */
    RUNS(g, 0xf3, 0x48, 0x0f, 0xae, 0xc0);
    assert_true(g->cpu.gpr[X86_RAX] == address);
    RUNS(g, 0xf3, 0x41, 0x0f, 0xae, 0xc9); /* rdgsbase r9d */
    assert_int_equal(g->cpu.gpr[X86_R9], (address + 8) & 0xffffffff);
    RUNS(g, 0xf3, 0x0f, 0xae, 0xd0); /* wrfsbase eax: zero-extended */
    assert_int_equal(g->cpu.seg[X86_FS].base, address & 0xffffffff);
    g->cpu.gpr[X86_R10] = 0x7fff12345678;
    RUNS(g, 0xf3, 0x49, 0x0f, 0xae, 0xda); /* wrgsbase r10 */
    assert_true(g->cpu.seg[X86_GS].base == 0x7fff12345678);
    g->cpu.gpr[X86_R10] = 1ull << 47;
    FAULTS_GP(g, 0xf3, 0x49, 0x0f, 0xae, 0xda);
    flat_segments(g, 32, 0);
    FAULTS_UD(g, 0xf3, 0x0f, 0xae, 0xc0); /* compatibility mode */
}

static void cpuid_instruction(void **state)
{
    struct guest *g = *state;

    memset(g->cpu.gpr, 0xff, sizeof(g->cpu.gpr));
    g->cpu.gpr[X86_RAX] = 0xffffffff00000000;
    RUNS(g, 0x0f, 0xa2);
    assert_int_equal(g->cpu.gpr[X86_RAX], g->cpu.cpuid.max_leaf);
    assert_memory_equal(&g->cpu.gpr[X86_RBX], "Genu\0\0\0\0", 8);
    g->cpu.gpr[X86_RAX] = 1;
    RUNS(g, 0x0f, 0xa2);
    assert_true(g->cpu.gpr[X86_RCX] & 1 << 27); /* OSXSAVE follows CR4 */
    set_feature(g, FEAT_486, false);
    FAULTS_UD(g, 0x0f, 0xa2);
}

static void extended_control_register(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RCX] = 0;
    RUNS(g, 0x0f, 0x01, 0xd0); /* xgetbv */
    assert_int_equal(g->cpu.gpr[X86_RAX], 7);
    assert_int_equal(g->cpu.gpr[X86_RDX], 0);
    g->cpu.dirty = 0;
    g->cpu.gpr[X86_RAX] = 3;
    RUNS(g, 0x0f, 0x01, 0xd1); /* xsetbv */
    assert_int_equal(g->cpu.xcr0, 3);
    assert_int_equal(g->cpu.dirty, X86_DIRTY_MODE);
    for (uint64_t bad = 0; bad < 4; bad++) {
        static const uint64_t values[] = {2 /* no x87 */, 5 /* AVX without SSE */, 0xf /* MPX */,
                                          0};

        g->cpu.gpr[X86_RAX] = values[bad];
        FAULTS_GP(g, 0x0f, 0x01, 0xd1);
    }
    g->cpu.gpr[X86_RAX] = 7;
    g->cpu.gpr[X86_RCX] = 1;
    FAULTS_GP(g, 0x0f, 0x01, 0xd1);
    g->cpu.gpr[X86_RCX] = 2;
    FAULTS_GP(g, 0x0f, 0x01, 0xd0);
    g->cpu.gpr[X86_RCX] = 1;
    g->cpu.xcr0 = 7;
    g->cpu.xsave[512] = 3; /* AVX in its initial state */
    RUNS(g, 0x0f, 0x01, 0xd0);
    assert_int_equal(g->cpu.gpr[X86_RAX], 3);
    g->cpu.gpr[X86_RCX] = 0;
    g->cpu.cpl = 3;
    RUNS(g, 0x0f, 0x01, 0xd0);
    FAULTS_GP(g, 0x0f, 0x01, 0xd1);
    g->cpu.cr4 &= ~(uint64_t)X86_CR4_OSXSAVE;
    FAULTS_UD(g, 0x0f, 0x01, 0xd0);
    FAULTS_UD(g, 0x0f, 0x01, 0xd1);
}

static void absent_instructions(void **state)
{
    struct guest *g = *state;

    FAULTS_UD(g, 0x0f, 0x01, 0xc8); /* monitor */
    FAULTS_UD(g, 0x0f, 0x01, 0xc9); /* mwait */
    FAULTS_UD(g, 0x0f, 0xaa);       /* rsm */
    FAULTS_UD(g, 0x0f, 0x01, 0xc1); /* vmcall */
    FAULTS_UD(g, 0x0f, 0x01, 0xd9); /* vmmcall */
    FAULTS_UD(g, 0x0f, 0x0b);       /* ud2 */
    FAULTS_UD(g, 0x0f, 0x01, 0xca); /* clac */
    set_feature(g, FEAT_SMAP, true);
    RUNS(g, 0x0f, 0x01, 0xcb); /* stac */
    assert_true(g->cpu.sflags & X86_AC_FLAG);
    RUNS(g, 0x0f, 0x01, 0xca);
    assert_false(g->cpu.sflags & X86_AC_FLAG);
    g->cpu.cpl = 3;
    FAULTS_UD(g, 0x0f, 0x01, 0xcb);
}

static void table_is_complete(void **state)
{
    (void)state;
    for (int op = 0; op < OP_COUNT; op++) {
        assert_non_null(op_function((enum insn_op)op));
        assert_non_null(op_name((enum insn_op)op));
    }
    assert_ptr_equal(op_function(OP_NONE), op_function(OP_UD));
    assert_ptr_not_equal(op_function(OP_GATHER), op_function(OP_UD));
    assert_string_equal(op_name(OP_RDMSR), "RDMSR");
    assert_string_equal(op_name(OP_MOV_TO_CR), "MOV CRn, r");
}

int main(void)
{
#define PROTECTED(test) cmocka_unit_test_setup_teardown(test, setup_protected, teardown)
#define LONG(test)      cmocka_unit_test_setup_teardown(test, setup_long, teardown)
    const struct CMUnitTest tests[] = {
        PROTECTED(privilege),
        PROTECTED(unknown_registers),
        PROTECTED(known_registers),
        PROTECTED(time_stamp_counter),
        PROTECTED(tsc_deadline_register),
        LONG(tsc_instructions),
        LONG(system_call_registers),
        PROTECTED(efer),
        PROTECTED(memory_types),
        PROTECTED(machine_check),
        PROTECTED(misc_enable),
        PROTECTED(board_registers),
        PROTECTED(constants),
        PROTECTED(old_processors_lack_new_registers),
        LONG(segment_base_registers),
        LONG(cpuid_instruction),
        LONG(extended_control_register),
        LONG(absent_instructions),
        cmocka_unit_test(table_is_complete),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
