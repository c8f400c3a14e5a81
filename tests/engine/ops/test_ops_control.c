/* Control and debug registers, TLB instructions: SDM vol. 2 (MOV CR/DR), vol. 3 2.5, 4.1, 17.2. */
#include "fixture.h"

static void mov_from_cr(void **state)
{
    struct guest *g = *state;

    g->cpu.cr2 = 0x12345678;
    g->cpu.cr3 = 0x5000;
    RUNS(g, 0x0f, 0x20, 0xc1); /* mov ecx, cr0 */
    assert_int_equal(g->cpu.gpr[X86_RCX], g->cpu.cr0);
    RUNS(g, 0x0f, 0x20, 0xd2); /* mov edx, cr2 */
    assert_int_equal(g->cpu.gpr[X86_RDX], 0x12345678);
    RUNS(g, 0x0f, 0x20, 0x1b); /* mov ebx, cr3, with mod = 0: ignored */
    assert_int_equal(g->cpu.gpr[X86_RBX], 0x5000);
    RUNS(g, 0x0f, 0x20, 0xe6); /* mov esi, cr4 */
    assert_int_equal(g->cpu.gpr[X86_RSI], g->cpu.cr4);
    FAULTS_UD(g, 0x0f, 0x20, 0xc8); /* cr1 */
    FAULTS_UD(g, 0x0f, 0x22, 0xe8); /* cr5 */
    g->cpu.cpl = 3;
    FAULTS_GP(g, 0x0f, 0x20, 0xc0);
    FAULTS_GP(g, 0x0f, 0x22, 0xc0);
}

static enum op_result set_cr0(struct guest *g, uint64_t value)
{
    g->cpu.gpr[X86_RAX] = value;
    return RUN(g, 0x0f, 0x22, 0xc0);
}

static enum op_result set_cr4(struct guest *g, uint64_t value)
{
    g->cpu.gpr[X86_RAX] = value;
    return RUN(g, 0x0f, 0x22, 0xe0);
}

static enum op_result set_cr3(struct guest *g, uint64_t value)
{
    g->cpu.gpr[X86_RAX] = value;
    return RUN(g, 0x0f, 0x22, 0xd8);
}

static void cr0_values(void **state)
{
    struct guest *g = *state;
    const uint64_t base = X86_CR0_PE | X86_CR0_ET;

    assert_int_equal(set_cr0(g, base | X86_CR0_TS), OP_NEXT);
    assert_int_equal(g->cpu.cr0, base | X86_CR0_TS);
    assert_true(g->cpu.dirty & X86_DIRTY_MODE);
    assert_int_equal(set_cr0(g, X86_CR0_PE | X86_CR0_CD | X86_CR0_NW), OP_NEXT);
    assert_true(g->cpu.cr0 & X86_CR0_ET); /* always 1 */
    assert_int_equal(set_cr0(g, base | 1 << 6), OP_NEXT);
    assert_int_equal(g->cpu.cr0, base);                              /* reserved: ignored */
    expect_fault(g, set_cr0(g, base | X86_CR0_NW), X86_GP, 0);       /* NW without CD */
    expect_fault(g, set_cr0(g, X86_CR0_ET | X86_CR0_PG), X86_GP, 0); /* PG without PE */
    g->cpu.dirty = 0;
    assert_int_equal(set_cr0(g, base), OP_NEXT);
    assert_int_equal(g->cpu.dirty, 0); /* nothing changed */
}

static void cr0_upper_half_is_reserved(void **state)
{
    struct guest *g = *state;

    expect_fault(g, set_cr0(g, g->cpu.cr0 | 1ull << 32), X86_GP, 0);
}

static void paging_on_and_off(void **state)
{
    struct guest *g = *state;
    uint64_t flushes = g->mmu->stats.flushes;

    assert_int_equal(set_cr0(g, g->cpu.cr0 | X86_CR0_PG), OP_NEXT);
    assert_true(g->mmu->stats.flushes > flushes);
    assert_true(g->cpu.dirty & X86_DIRTY_ADDRESS);
    assert_false(g->cpu.efer & X86_EFER_LMA);
    assert_int_equal(set_cr0(g, g->cpu.cr0 & ~(uint64_t)X86_CR0_PG), OP_NEXT);
    flushes = g->mmu->stats.flushes;
    assert_int_equal(set_cr0(g, g->cpu.cr0 & ~(uint64_t)X86_CR0_WP), OP_NEXT);
    assert_true(g->mmu->stats.flushes > flushes); /* the TLB holds checked permissions */
}

static void long_mode_activation(void **state)
{
    struct guest *g = *state;
    uint64_t on = g->cpu.cr0 | X86_CR0_PG;

    g->cpu.efer = X86_EFER_LME;
    expect_fault(g, set_cr0(g, on), X86_GP, 0); /* PAE is clear */
    assert_int_equal(set_cr4(g, g->cpu.cr4 | X86_CR4_PAE), OP_NEXT);
    g->cpu.seg[X86_CS].attr |= X86_AR_L;
    expect_fault(g, set_cr0(g, on), X86_GP, 0); /* CS.L is set */
    g->cpu.seg[X86_CS].attr &= ~(uint32_t)X86_AR_L;
    g->cpu.seg[X86_TR].attr = 0x83;
    expect_fault(g, set_cr0(g, on), X86_GP, 0); /* 16-bit TSS */
    g->cpu.seg[X86_TR].attr = 0x8b;
    assert_int_equal(set_cr0(g, on), OP_NEXT);
    assert_true(g->cpu.efer & X86_EFER_LMA);
    expect_fault(g, set_cr4(g, g->cpu.cr4 & ~(uint64_t)X86_CR4_PAE), X86_GP, 0);
    /* off again from compatibility mode */
    assert_int_equal(set_cr0(g, on & ~(uint64_t)X86_CR0_PG), OP_NEXT);
    assert_int_equal(g->cpu.efer & (X86_EFER_LMA | X86_EFER_LME), X86_EFER_LME);
}

static void paging_off_in_64bit_mode(void **state)
{
    struct guest *g = *state;

    expect_fault(g, set_cr0(g, g->cpu.cr0 & ~(uint64_t)X86_CR0_PG), X86_GP, 0);
    assert_true(x86_code64(&g->cpu));
}

static void pae_pointers(void **state)
{
    struct guest *g = *state;

    put(g, 0x9000, 8, 0xa001);
    put(g, 0x9008, 8, 0xb001);
    assert_int_equal(set_cr4(g, g->cpu.cr4 | X86_CR4_PAE), OP_NEXT);
    assert_int_equal(set_cr3(g, 0x9000), OP_NEXT);
    assert_int_equal(set_cr0(g, g->cpu.cr0 | X86_CR0_PG), OP_NEXT);
    assert_int_equal(g->cpu.pdpte[0], 0xa001);
    assert_int_equal(g->cpu.pdpte[1], 0xb001);
    put(g, 0x9008, 8, 0xc001);
    assert_int_equal(g->cpu.pdpte[1], 0xb001); /* cached until the next load */
    assert_int_equal(set_cr3(g, 0x9000), OP_NEXT);
    assert_int_equal(g->cpu.pdpte[1], 0xc001);
    put(g, 0x9008, 8, 0xd007); /* bits 2:1 are reserved */
    expect_fault(g, set_cr3(g, 0x9000), X86_GP, 0);
    assert_int_equal(g->cpu.pdpte[1], 0xc001);
    /* CR4.PGE loads them as well */
    expect_fault(g, set_cr4(g, g->cpu.cr4 | X86_CR4_PGE), X86_GP, 0);
    put(g, 0x9008, 8, 0xd001);
    assert_int_equal(set_cr4(g, g->cpu.cr4 | X86_CR4_PGE), OP_NEXT);
    assert_int_equal(g->cpu.pdpte[1], 0xd001);
}

static void cr4_values(void **state)
{
    struct guest *g = *state;

    assert_int_equal(set_cr4(g, X86_CR4_UMIP | X86_CR4_SMEP), OP_NEXT);
    set_feature(g, FEAT_UMIP, false);
    set_feature(g, FEAT_SMEP, false);
    expect_fault(g, set_cr4(g, X86_CR4_UMIP), X86_GP, 0);
    expect_fault(g, set_cr4(g, X86_CR4_SMEP), X86_GP, 0);
    expect_fault(g, set_cr4(g, 1u << 13), X86_GP, 0); /* VMXE */
    expect_fault(g, set_cr4(g, 1u << 22), X86_GP, 0); /* PKE */
    expect_fault(g, set_cr4(g, 1u << 31), X86_GP, 0);
    assert_int_equal(set_cr4(g, X86_CR4_PGE | X86_CR4_PSE), OP_NEXT);
    assert_int_equal(g->cpu.cr4, X86_CR4_PGE | X86_CR4_PSE);
    set_feature(g, FEAT_PGE, false);
    expect_fault(g, set_cr4(g, X86_CR4_PGE), X86_GP, 0);
    set_feature(g, FEAT_PCID, true);
    expect_fault(g, set_cr4(g, X86_CR4_PCIDE), X86_GP, 0); /* not in long mode */
}

static void cr3_in_long_mode(void **state)
{
    struct guest *g = *state;

    expect_fault(g, set_cr3(g, 1ull << 40), X86_GP, 0); /* beyond MAXPHYADDR */
    expect_fault(g, set_cr3(g, 1ull << 63), X86_GP, 0);
    g->cpu.dirty = 0;
    assert_int_equal(set_cr3(g, AT_PML4 | 0x18), OP_NEXT);
    assert_int_equal(g->cpu.cr3, AT_PML4 | 0x18);
    assert_int_equal(g->cpu.dirty, X86_DIRTY_ADDRESS);
}

static void cr8_is_the_task_priority(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RAX] = 9;
    RUNS(g, 0x44, 0x0f, 0x22, 0xc0); /* mov cr8, rax */
    assert_int_equal(g->tpr, 9);
    assert_true(g->parked > 0);
    g->tpr = 5;
    RUNS(g, 0x45, 0x0f, 0x20, 0xc1); /* mov r9, cr8 */
    assert_int_equal(g->cpu.gpr[X86_R9], 5);
    g->cpu.gpr[X86_RAX] = 16;
    FAULTS_GP(g, 0x44, 0x0f, 0x22, 0xc0);
    FAULTS_UD(g, 0x44, 0x0f, 0x22, 0xc8); /* cr9 */
    g->cpu.cpl = 3;
    FAULTS_GP(g, 0x44, 0x0f, 0x20, 0xc0);
}

static void machine_status_word(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RAX] = X86_CR0_TS | X86_CR0_MP; /* without PE */
    RUNS(g, 0x0f, 0x01, 0xf0);                     /* lmsw ax */
    assert_int_equal(g->cpu.cr0 & 0xf, X86_CR0_PE | X86_CR0_MP | X86_CR0_TS);
    put(g, AT_DATA, 4, 0xfffffff1);
    g->cpu.gpr[X86_RBX] = AT_DATA;
    RUNS(g, 0x0f, 0x01, 0x33); /* lmsw [ebx] */
    assert_int_equal(g->cpu.cr0 & 0xf, X86_CR0_PE);
    assert_true(g->cpu.cr0 & X86_CR0_WP); /* only the low four bits */

    RUNS(g, 0x0f, 0x01, 0xe1); /* smsw ecx */
    assert_int_equal(g->cpu.gpr[X86_RCX], g->cpu.cr0);
    g->cpu.gpr[X86_RCX] = 0xffffffff;
    RUNS(g, 0x66, 0x0f, 0x01, 0xe1); /* smsw cx */
    assert_int_equal(g->cpu.gpr[X86_RCX], 0xffff0000 | (g->cpu.cr0 & 0xffff));
    put(g, AT_DATA, 4, 0xffffffff);
    g->cpu.cpl = 3;
    RUNS(g, 0x0f, 0x01, 0x23); /* smsw [ebx]: 16 bits, any CPL */
    assert_int_equal(get(g, AT_DATA, 4), 0xffff0000 | (g->cpu.cr0 & 0xffff));
    FAULTS_GP(g, 0x0f, 0x01, 0xf0);
    g->cpu.cr4 |= X86_CR4_UMIP;
    FAULTS_GP(g, 0x0f, 0x01, 0xe1);
}

static void clts(void **state)
{
    struct guest *g = *state;

    RUNS(g, 0x0f, 0x06);
    assert_int_equal(g->cpu.dirty, 0);
    g->cpu.cr0 |= X86_CR0_TS;
    RUNS(g, 0x0f, 0x06);
    assert_false(g->cpu.cr0 & X86_CR0_TS);
    assert_int_equal(g->cpu.dirty, X86_DIRTY_MODE);
    g->cpu.cpl = 1;
    FAULTS_GP(g, 0x0f, 0x06);
}

static void debug_registers(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RAX] = 0x1234;
    RUNS(g, 0x0f, 0x23, 0xc0); /* mov dr0, eax */
    assert_int_equal(g->cpu.dr[0], 0x1234);
    assert_int_equal(g->cpu.dirty, 0); /* not enabled: nothing to do */
    g->cpu.gpr[X86_RAX] = 0xffffffff & ~(1u << 13);
    RUNS(g, 0x0f, 0x23, 0xf8); /* mov dr7, eax */
    assert_int_equal(g->cpu.dr[7], 0xffff07ff);
    assert_int_equal(g->cpu.dirty, X86_DIRTY_MODE | X86_DIRTY_ADDRESS);
    g->cpu.dirty = 0;
    g->cpu.gpr[X86_RAX] = 0x5678;
    RUNS(g, 0x0f, 0x23, 0xc0);
    assert_int_equal(g->cpu.dirty, X86_DIRTY_MODE | X86_DIRTY_ADDRESS);
    g->cpu.gpr[X86_RAX] = 0xffffffff;
    RUNS(g, 0x0f, 0x23, 0xf0); /* mov dr6, eax */
    assert_int_equal(g->cpu.dr[6], 0xffffefff & ~0x1000u);
    g->cpu.gpr[X86_RAX] = 0;
    RUNS(g, 0x0f, 0x23, 0xe0); /* mov dr4, eax: dr6 */
    assert_int_equal(g->cpu.dr[6], 0xffff0ff0);
    RUNS(g, 0x0f, 0x21, 0xe9); /* mov ecx, dr5: dr7 */
    assert_int_equal(g->cpu.gpr[X86_RCX], 0xffff07ff);
    g->cpu.cr4 |= X86_CR4_DE;
    FAULTS_UD(g, 0x0f, 0x23, 0xe0);
    FAULTS_UD(g, 0x0f, 0x21, 0xe8);
    g->cpu.cpl = 3;
    FAULTS_GP(g, 0x0f, 0x21, 0xc0);
}

static void general_detect(void **state)
{
    struct guest *g = *state;

    g->cpu.dr[7] |= 1 << 13;
    FAULTS(g, X86_DB, -1, 0x0f, 0x21, 0xc0);
    assert_int_equal(g->cpu.fault.dr6, 1 << 13);
    assert_false(g->cpu.fault.trap);
    FAULTS(g, X86_DB, -1, 0x0f, 0x23, 0xf8);
}

static void debug_registers_64(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RAX] = 0xffff800000001234;
    RUNS(g, 0x0f, 0x23, 0xc8); /* mov dr1, rax */
    assert_true(g->cpu.dr[1] == 0xffff800000001234);
    g->cpu.gpr[X86_RAX] = 1ull << 32;
    FAULTS_GP(g, 0x0f, 0x23, 0xf0);
    FAULTS_GP(g, 0x0f, 0x23, 0xf8);
    FAULTS_UD(g, 0x44, 0x0f, 0x23, 0xc0); /* dr8 */
}

/* A translation that memory no longer has, is used until INVLPG. */
static void invlpg(void **state)
{
    struct guest *g = *state;
    uint8_t byte;

    enable_paging32(g);
    assert_int_equal(mmu_read(&g->cpu, AT_DATA, &byte, 1, 0), 0);
    put(g, AT_PT32 + 4 * (AT_DATA >> 12), 4, 0);
    g->cpu.dirty = 0;
    g->cpu.gpr[X86_RBX] = AT_DATA + 0x123;
    RUNS(g, 0x0f, 0x01, 0x3b); /* invlpg [ebx] */
    assert_int_equal(g->cpu.dirty, X86_DIRTY_ADDRESS);
    assert_int_equal(mmu_read(&g->cpu, AT_DATA, &byte, 1, 0), -1);
    /* no segment check: the address is not accessed */
    g->cpu.seg[X86_DS].limit = 0xfff;
    segment_update_bounds(&g->cpu.seg[X86_DS]);
    RUNS(g, 0x0f, 0x01, 0x3b);
    FAULTS_UD(g, 0x0f, 0x01, 0xff); /* register operand */
    g->cpu.cpl = 3;
    FAULTS_GP(g, 0x0f, 0x01, 0x3b);
}

static void invlpg_non_canonical(void **state)
{
    struct guest *g = *state;
    uint64_t flushes = g->mmu->stats.flushes;

    g->cpu.gpr[X86_RBX] = 1ull << 50;
    RUNS(g, 0x0f, 0x01, 0x3b);
    assert_int_equal(g->mmu->stats.flushes, flushes);
}

static void invpcid(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RBX] = AT_DATA;
    g->cpu.gpr[X86_RAX] = 2;
    FAULTS_UD(g, 0x66, 0x0f, 0x38, 0x82, 0x03); /* invpcid rax, [rbx]: not offered */
    set_feature(g, FEAT_INVPCID, true);
    RUNS(g, 0x66, 0x0f, 0x38, 0x82, 0x03);
    g->cpu.gpr[X86_RAX] = 4;
    FAULTS_GP(g, 0x66, 0x0f, 0x38, 0x82, 0x03); /* type */
    g->cpu.gpr[X86_RAX] = 0;
    put(g, AT_DATA, 8, 0x1000);
    FAULTS_GP(g, 0x66, 0x0f, 0x38, 0x82, 0x03); /* reserved bits */
    put(g, AT_DATA, 8, 1);
    FAULTS_GP(g, 0x66, 0x0f, 0x38, 0x82, 0x03); /* PCID without PCIDE */
    put(g, AT_DATA, 8, 0);
    put(g, AT_DATA + 8, 8, 1ull << 50);
    FAULTS_GP(g, 0x66, 0x0f, 0x38, 0x82, 0x03); /* not canonical */
    put(g, AT_DATA + 8, 8, AT_DATA);
    RUNS(g, 0x66, 0x0f, 0x38, 0x82, 0x03);
    g->cpu.cpl = 3;
    FAULTS_GP(g, 0x66, 0x0f, 0x38, 0x82, 0x03);
}

static void wbinvd(void **state)
{
    struct guest *g = *state;

    RUNS(g, 0x0f, 0x08);
    RUNS(g, 0x0f, 0x09);
    g->cpu.cpl = 3;
    FAULTS_GP(g, 0x0f, 0x08);
    FAULTS_GP(g, 0x0f, 0x09);
}

static void real_mode_enters_protected(void **state)
{
    struct guest *g = *state;

    g->cpu.gpr[X86_RAX] = g->cpu.cr0 | X86_CR0_PE;
    RUNS(g, 0x0f, 0x22, 0xc0);
    assert_true(g->cpu.cr0 & X86_CR0_PE);
    assert_true(g->cpu.dirty & X86_DIRTY_MODE);
    assert_int_equal(x86_code_bits(&g->cpu), 16); /* until CS is loaded */
}

int main(void)
{
#define PROTECTED(test) cmocka_unit_test_setup_teardown(test, setup_protected, teardown)
#define LONG(test)      cmocka_unit_test_setup_teardown(test, setup_long, teardown)
    const struct CMUnitTest tests[] = {
        PROTECTED(mov_from_cr),
        PROTECTED(cr0_values),
        LONG(cr0_upper_half_is_reserved),
        PROTECTED(paging_on_and_off),
        PROTECTED(long_mode_activation),
        LONG(paging_off_in_64bit_mode),
        PROTECTED(pae_pointers),
        PROTECTED(cr4_values),
        LONG(cr3_in_long_mode),
        LONG(cr8_is_the_task_priority),
        PROTECTED(machine_status_word),
        PROTECTED(clts),
        PROTECTED(debug_registers),
        PROTECTED(general_detect),
        LONG(debug_registers_64),
        PROTECTED(invlpg),
        LONG(invlpg_non_canonical),
        LONG(invpcid),
        PROTECTED(wbinvd),
        cmocka_unit_test_setup_teardown(real_mode_enters_protected, setup_real, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
