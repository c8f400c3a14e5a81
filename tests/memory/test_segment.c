/* Segment checks (SDM vol. 3, 5.3-5.5; 64-bit mode: vol. 3, 3.4.4 and 5.3.1). */
#include "fixture.h"

enum {
    DATA = X86_AR_P | X86_AR_S,
    CODE = X86_AR_P | X86_AR_S | X86_AR_CODE,
    WRITABLE = X86_AR_WR,
    DOWN = X86_AR_EC,
};

static void set_segment(struct machine *m, enum x86_segreg seg, uint64_t base, uint32_t limit,
                        uint32_t attr)
{
    m->cpu.seg[seg].base = base;
    m->cpu.seg[seg].limit = limit;
    m->cpu.seg[seg].attr = attr;
    segment_update_bounds(&m->cpu.seg[seg]);
}

/* -1: no fault, else the vector. */
static int check(struct machine *m, enum x86_segreg seg, uint64_t offset, unsigned size, bool write,
                 uint64_t *linear)
{
    memset(&m->cpu.fault, 0, sizeof(m->cpu.fault));
    if (seg_linear(&m->cpu, seg, offset, size, write, linear) == 0)
        return -1;
    assert_true(m->cpu.fault.has_error);
    assert_int_equal(m->cpu.fault.error, 0);
    return m->cpu.fault.vector;
}

static void expect(struct machine *m, enum x86_segreg seg, uint64_t offset, unsigned size,
                   int read_result, int write_result)
{
    uint64_t linear = 0;
    assert_int_equal(check(m, seg, offset, size, false, &linear), read_result);
    assert_int_equal(check(m, seg, offset, size, true, &linear), write_result);
}

static void test_real_mode(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    uint64_t linear = 0;
    segment_load_real(&m->cpu.seg[X86_DS], 0xffff);
    assert_int_equal(check(m, X86_DS, 0x10, 2, false, &linear), -1);
    assert_int_equal(linear, 0x100000); /* above 1 MiB; A20 is not a matter of segments */
    expect(m, X86_DS, 0xfffe, 2, -1, -1);
    expect(m, X86_DS, 0xffff, 2, X86_GP, X86_GP);
    expect(m, X86_DS, 0x10000, 1, X86_GP, X86_GP);
    expect(m, X86_SS, 0xfffd, 4, X86_SS_FAULT, X86_SS_FAULT);
    /* types do not count, the limit in the descriptor cache does */
    set_segment(m, X86_CS, 0, 0xffff, CODE);
    expect(m, X86_CS, 0, 4, -1, -1);
    expect(m, X86_CS, 0xfffd, 4, X86_GP, X86_GP);
    set_segment(m, X86_ES, 0x1000, 0xffffffff, DATA | WRITABLE | X86_AR_G);
    expect(m, X86_ES, 0x12345678, 4, -1, -1);
    /* virtual-8086 mode is the same */
    m->cpu.cr0 |= X86_CR0_PE;
    m->cpu.sflags |= X86_VM;
    m->cpu.cpl = 3;
    expect(m, X86_CS, 0, 4, -1, -1);
    expect(m, X86_CS, 0xffff, 2, X86_GP, X86_GP);
    machine_free(m);
}

static void test_protected_types(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    m->cpu.cr0 |= X86_CR0_PE;
    static const struct {
        uint32_t attr;
        int read, write;
    } types[] = {
        {DATA | WRITABLE, -1, -1},
        {DATA | WRITABLE | X86_AR_A, -1, -1},
        {DATA, -1, X86_GP},
        {CODE, X86_GP, X86_GP},
        {CODE | X86_AR_EC, X86_GP, X86_GP},
        {CODE | X86_AR_WR, -1, X86_GP},
        {CODE | X86_AR_WR | X86_AR_EC, -1, X86_GP},
        {X86_AR_UNUSABLE, X86_GP, X86_GP},
        {DATA | WRITABLE | X86_AR_UNUSABLE, X86_GP, X86_GP},
    };
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        set_segment(m, X86_DS, 0x10000, 0xfff, types[i].attr);
        expect(m, X86_DS, 0, 1, types[i].read, types[i].write);
        expect(m, X86_DS, 0xffc, 4, types[i].read, types[i].write);
        expect(m, X86_DS, 0xffd, 4, X86_GP, X86_GP);
        expect(m, X86_DS, 0xffffffff, 1, X86_GP, X86_GP);
    }
    set_segment(m, X86_SS, 0, 0xfff, DATA | WRITABLE);
    expect(m, X86_SS, 0xfff, 1, -1, -1);
    expect(m, X86_SS, 0xfff, 2, X86_SS_FAULT, X86_SS_FAULT);
    machine_free(m);
}

static void test_expand_down(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    uint64_t linear = 0;
    m->cpu.cr0 |= X86_CR0_PE;
    set_segment(m, X86_SS, 0x10000, 0x0fff, DATA | WRITABLE | DOWN);
    expect(m, X86_SS, 0xfff, 1, X86_SS_FAULT, X86_SS_FAULT);
    expect(m, X86_SS, 0x1000, 1, -1, -1);
    expect(m, X86_SS, 0xfffc, 4, -1, -1);
    expect(m, X86_SS, 0xfffd, 4, X86_SS_FAULT, X86_SS_FAULT);
    expect(m, X86_SS, 0x10000, 1, X86_SS_FAULT, X86_SS_FAULT);
    set_segment(m, X86_DS, 0x10000, 0x0fff, DATA | WRITABLE | DOWN | X86_AR_DB);
    expect(m, X86_DS, 0xfff, 2, X86_GP, X86_GP);
    expect(m, X86_DS, 0x10000, 1, -1, -1);
    expect(m, X86_DS, 0xfffffffc, 4, -1, -1);
    expect(m, X86_DS, 0xfffffffd, 4, X86_GP, X86_GP);
    assert_int_equal(check(m, X86_DS, 0xfffff000, 4, false, &linear), -1);
    assert_int_equal(linear, 0xf000); /* wraps at 4 GiB */
    set_segment(m, X86_DS, 0x10000, 0x0fff, DATA | DOWN | X86_AR_DB);
    expect(m, X86_DS, 0x1000, 4, -1, X86_GP);
    machine_free(m);
}

static void test_flat_wrap(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    uint64_t linear = 0;
    m->cpu.cr0 |= X86_CR0_PE;
    set_segment(m, X86_DS, 0, 0xffffffff, DATA | WRITABLE | X86_AR_DB | X86_AR_G);
    expect(m, X86_DS, 0xfffffffc, 4, -1, -1);
    expect(m, X86_DS, 0xfffffffd, 4, X86_GP, X86_GP);
    set_segment(m, X86_FS, 0xfffff000, 0xffffffff, DATA | WRITABLE | X86_AR_DB | X86_AR_G);
    assert_int_equal(check(m, X86_FS, 0x2000, 4, true, &linear), -1);
    assert_int_equal(linear, 0x1000);
    machine_free(m);
}

static void test_64_bit(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    uint64_t linear = 0;
    m->cpu.cr0 |= X86_CR0_PE | X86_CR0_PG;
    m->cpu.efer = X86_EFER_LMA | X86_EFER_LME;
    set_segment(m, X86_CS, 0, 0, CODE | X86_AR_L);
    for (enum x86_segreg seg = X86_ES; seg <= X86_GS; seg++) {
        int vector = seg == X86_SS ? X86_SS_FAULT : X86_GP;
        /* no limits, no types, not even null selectors */
        if (seg != X86_CS)
            set_segment(m, seg, 0x1000, 0, X86_AR_UNUSABLE);
        else
            m->cpu.seg[seg].base = 0x1000;
        uint64_t base = seg == X86_FS || seg == X86_GS ? 0x1000 : 0;
        assert_int_equal(check(m, seg, 0x7000000000, 8, true, &linear), -1);
        assert_int_equal(linear, 0x7000000000 + base);
        expect(m, seg, 0x7ffffffffff8 - base, 8, -1, -1);
        expect(m, seg, 0x7ffffffffff9 - base, 8, vector, vector);
        expect(m, seg, 0x800000000000 - base, 1, vector, vector);
        expect(m, seg, 0xffff7fffffffffff - base, 1, vector, vector);
        expect(m, seg, 0xffff7fffffffffff - base, 2, vector, vector);
        expect(m, seg, 0xffff800000000000 - base, 64, -1, -1);
    }
    m->cpu.seg[X86_GS].base = 0xffff888000000000;
    assert_int_equal(check(m, X86_GS, (uint64_t)-0x10, 8, false, &linear), -1);
    assert_int_equal(linear, 0xffff887ffffffff0);
    /* compatibility mode: as protected mode */
    m->cpu.seg[X86_CS].attr &= ~(uint32_t)X86_AR_L;
    expect(m, X86_DS, 0, 1, X86_GP, X86_GP);
    set_segment(m, X86_DS, 0x1000, 0xffff, DATA | WRITABLE);
    assert_int_equal(check(m, X86_DS, 0x10, 8, false, &linear), -1);
    assert_int_equal(linear, 0x1010);
    machine_free(m);
}

static void test_access(void **state)
{
    (void)state;
    struct machine *m = machine_new();
    uint32_t value = 0x89abcdef, back = 0;
    segment_load_real(&m->cpu.seg[X86_ES], 0x3000);
    assert_int_equal(seg_write(&m->cpu, X86_ES, 0x20, &value, 4), 0);
    assert_int_equal(peek(m, 0x30020, 4), value);
    assert_int_equal(seg_read(&m->cpu, X86_ES, 0x20, &back, 4), 0);
    assert_int_equal(back, value);
    assert_int_equal(seg_read(&m->cpu, X86_ES, 0xfffe, &back, 4), -1);
    assert_int_equal(m->cpu.fault.vector, X86_GP);
    /* at CPL 3 the page must be a user page */
    m->cpu.cr0 |= X86_CR0_PE | X86_CR0_PG;
    m->cpu.cr3 = 0x200000;
    poke32(m, 0x200000, 0x201000 | 7);
    poke32(m, 0x201000 + 4 * 0x30, 0x30000 | 3);
    set_segment(m, X86_ES, 0x30000, 0xffff, DATA | WRITABLE);
    assert_int_equal(seg_read(&m->cpu, X86_ES, 0x20, &back, 4), 0);
    m->cpu.cpl = 3;
    assert_int_equal(seg_read(&m->cpu, X86_ES, 0x20, &back, 4), -1);
    assert_int_equal(m->cpu.fault.vector, X86_PF);
    assert_int_equal(m->cpu.fault.error, 5);
    assert_int_equal(seg_write(&m->cpu, X86_ES, 0x20, &back, 4), -1);
    assert_int_equal(m->cpu.fault.error, 7);
    assert_int_equal(m->cpu.fault.cr2, 0x30020);
    machine_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_mode),   cmocka_unit_test(test_protected_types),
        cmocka_unit_test(test_expand_down), cmocka_unit_test(test_flat_wrap),
        cmocka_unit_test(test_64_bit),      cmocka_unit_test(test_access),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
