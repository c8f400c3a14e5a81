#include "fixture.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/cpuid.h"

static struct machine *machine_create(void)
{
    struct machine *m = calloc(1, sizeof(*m));
    struct vd_error err;

    assert_non_null(m);
    m->mmu = calloc(1, sizeof(*m->mmu));
    assert_non_null(m->mmu);
    assert_int_equal(as_create(&m->as, 4 << 20, 0xc0000000, &err), 0);
    memset(m->cpu.cpuid.features, 0xff, sizeof(m->cpu.cpuid.features));
    memcpy(m->cpu.cpuid.vendor, "GenuineIntel", 13);
    m->cpu.cpuid.phys_bits = 40;
    m->cpu.mmu = m->mmu;
    mmu_init(m->mmu, m->as);
    x86_reset(&m->cpu);
    m->cpu.dirty = 0;
    return m;
}

int teardown(void **state)
{
    struct machine *m = *state;

    as_destroy(m->as);
    free(m->mmu);
    free(m);
    return 0;
}

void put(struct machine *m, uint64_t at, unsigned size, uint64_t value)
{
    as_write(m->as, at, &value, size);
}

uint64_t get(struct machine *m, uint64_t at, unsigned size)
{
    uint64_t value = 0;

    as_read(m->as, at, &value, size);
    return value;
}

uint64_t make_descriptor(uint32_t base, uint32_t limit20, unsigned access, unsigned flags)
{
    return (limit20 & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
           (uint64_t)(limit20 >> 16 & 0xf) << 48 | (uint64_t)flags << 52 |
           (uint64_t)(base >> 24) << 56;
}

uint64_t make_gate(uint16_t selector, uint32_t offset, unsigned access, unsigned count)
{
    return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)count << 32 |
           (uint64_t)access << 40 | (uint64_t)(offset >> 16) << 48;
}

void set_gdt(struct machine *m, uint16_t selector, uint64_t descriptor)
{
    put(m, AT_GDT + (selector & 0xfff8u), 8, descriptor);
}

void set_idt(struct machine *m, unsigned vector, uint64_t gate)
{
    put(m, AT_IDT + vector * 8, 8, gate);
}

void set_idt64(struct machine *m, unsigned vector, uint16_t selector, uint64_t offset,
               unsigned access, unsigned ist)
{
    put(m, AT_IDT + vector * 16, 8, make_gate(selector, (uint32_t)offset, access, ist));
    put(m, AT_IDT + vector * 16 + 8, 8, offset >> 32);
}

void force_segment(struct machine *m, enum x86_segreg seg, uint16_t selector)
{
    uint64_t d = get(m, AT_GDT + (selector & 0xfff8u), 8);
    struct x86_segment *s = &m->cpu.seg[seg];

    s->selector = selector;
    s->base = (d >> 16 & 0xffffff) | (d >> 56) << 24;
    s->limit = (uint32_t)((d & 0xffff) | (d >> 32 & 0xf0000));
    if (d >> 55 & 1)
        s->limit = s->limit << 12 | 0xfff;
    s->attr = d >> 40 & 0xf0ff;
    if (s->attr & X86_AR_S)
        s->attr |= X86_AR_A;
    segment_update_bounds(s);
}

static void build_gdt(struct machine *m, unsigned code_flags)
{
    const unsigned flat = FLAG_G | FLAG_D;

    set_gdt(m, SEL_CODE0, make_descriptor(0, 0xfffff, ACC_CODE, code_flags));
    set_gdt(m, SEL_DATA0, make_descriptor(0, 0xfffff, ACC_DATA, flat));
    set_gdt(m, SEL_CODE3, make_descriptor(0, 0xfffff, ACC_CODE | ACC_DPL3, flat));
    set_gdt(m, SEL_DATA3, make_descriptor(0, 0xfffff, ACC_DATA | ACC_DPL3, flat));
    set_gdt(m, SEL_CONF0, make_descriptor(0, 0xfffff, ACC_CODE | 4, code_flags));
    set_gdt(m, SEL_CODE16, make_descriptor(0x20000, 0xffff, ACC_CODE, 0));
    set_gdt(m, SEL_DATA16, make_descriptor(0, 0xffff, ACC_DATA, 0));
    set_gdt(m, SEL_XONLY, make_descriptor(0, 0xfffff, ACC_CODE & ~2u, code_flags));
    set_gdt(m, SEL_RODATA, make_descriptor(0, 0xfffff, ACC_DATA & ~2u, flat));
    set_gdt(m, SEL_DATA_NP, make_descriptor(0, 0xfffff, ACC_DATA & ~0x80u, flat));
    set_gdt(m, SEL_CODE_NP, make_descriptor(0, 0xfffff, ACC_CODE & ~0x80u, code_flags));
    set_gdt(m, SEL_TSS, make_descriptor(AT_TSS, 0xfff, 0x8b, 0));
    set_gdt(m, SEL_TSSB, make_descriptor(AT_TSSB, 0x67, 0x89, 0));
    set_gdt(m, SEL_TSS16, make_descriptor(AT_TSS16, 0x2b, 0x81, 0));
    set_gdt(m, SEL_LDT, make_descriptor(AT_LDT, 0x1f, 0x82, 0));
    set_gdt(m, SEL_DATA1, make_descriptor(0, 0xfffff, ACC_DATA | ACC_DPL1, flat));
    set_gdt(m, SEL_CODE1, make_descriptor(0, 0xfffff, ACC_CODE | ACC_DPL1, code_flags));
    set_gdt(m, SEL_CONF3, make_descriptor(0, 0xfffff, ACC_CODE | ACC_DPL3 | 4, code_flags));
    set_gdt(m, SEL_DOWN, make_descriptor(0, 0xffff, ACC_DATA | 4, FLAG_D));
    set_gdt(m, SEL_CODE64_3, make_descriptor(0, 0xfffff, ACC_CODE | ACC_DPL3, FLAG_G | FLAG_L));
    set_gdt(m, SEL_LD, make_descriptor(0, 0xfffff, ACC_CODE, FLAG_G | FLAG_L | FLAG_D));
}

static void start_protected(struct machine *m)
{
    struct x86_cpu *cpu = &m->cpu;

    cpu->cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE;
    cpu->gdtr = (struct x86_table){.base = AT_GDT, .limit = GDT_LIMIT};
    cpu->idtr = (struct x86_table){.base = AT_IDT, .limit = 0xfff};
    for (unsigned seg = X86_ES; seg <= X86_GS; seg++)
        force_segment(m, (enum x86_segreg)seg, seg == X86_CS ? SEL_CODE0 : SEL_DATA0);
    force_segment(m, X86_TR, SEL_TSS);
    cpu->seg[X86_LDTR].attr = X86_AR_UNUSABLE;
    cpu->gpr[X86_RSP] = STACK0;
    cpu->rip = 0x1000;
    cpu->dirty = 0;
}

int setup_real(void **state)
{
    struct machine *m = machine_create();

    m->cpu.seg[X86_CS].base = 0x10000;
    m->cpu.seg[X86_CS].selector = 0x1000;
    m->cpu.gpr[X86_RSP] = STACK0;
    m->cpu.rip = 0x1000;
    *state = m;
    return 0;
}

int setup_protected(void **state)
{
    struct machine *m = machine_create();

    build_gdt(m, FLAG_G | FLAG_D);
    put(m, AT_TSS + 4, 4, STACK0 - 0x100);
    put(m, AT_TSS + 8, 2, SEL_DATA0);
    put(m, AT_TSS + 12, 4, STACK1);
    put(m, AT_TSS + 16, 2, SEL_DATA1);
    start_protected(m);
    *state = m;
    return 0;
}

int setup_long(void **state)
{
    struct machine *m = machine_create();

    build_gdt(m, FLAG_G | FLAG_L);
    set_gdt(m, SEL_TSS + 8, 0);
    put(m, AT_TSS + 4, 8, STACK0 - 0x100);
    put(m, AT_TSS + 12, 8, STACK1);
    put(m, AT_TSS + 36, 8, STACK_IST + 9);
    put(m, AT_PML4, 8, AT_PDPT | 7);
    put(m, AT_PML4 + 511 * 8, 8, AT_PDPT | 7); /* the upper half shows the same memory */
    put(m, AT_PDPT, 8, AT_PD | 7);
    put(m, AT_PDPT + 510 * 8, 8, AT_PD | 7); /* FFFFFFFF80000000H */
    put(m, AT_PD, 8, AT_PT | 7);
    put(m, AT_PD + 8, 8, 0x200000 | 0x87);
    for (unsigned i = 0; i < 512; i++)
        put(m, AT_PT + i * 8, 8, i * 4096u | 7);
    m->cpu.efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE | X86_EFER_NXE;
    m->cpu.cr4 = X86_CR4_PAE;
    m->cpu.cr3 = AT_PML4;
    start_protected(m);
    m->cpu.cr0 |= X86_CR0_PG;
    m->cpu.seg[X86_CS].base = 0;
    m->cpu.star = (uint64_t)SEL_CODE0 << 32;
    *state = m;
    return 0;
}

void enter_user(struct machine *m)
{
    static const uint8_t data[] = {X86_ES, X86_SS, X86_DS, X86_FS, X86_GS};

    m->cpu.cpl = 3;
    for (unsigned i = 0; i < sizeof(data); i++)
        force_segment(m, (enum x86_segreg)data[i], SEL_DATA3);
    force_segment(m, X86_CS, x86_long_mode(&m->cpu) ? SEL_CODE64_3 : SEL_CODE3);
    m->cpu.gpr[X86_RSP] = STACK3;
}

void enter_vm86(struct machine *m, unsigned iopl)
{
    static const uint16_t selectors[] = {1, 0x1000, 0xa00, 2, 3, 4};

    m->cpu.cpl = 3;
    m->cpu.sflags = X86_VM | iopl << X86_IOPL_SHIFT;
    for (unsigned i = 0; i < 6; i++) {
        m->cpu.seg[i].limit = 0xffff;
        m->cpu.seg[i].attr = 0xf3;
        segment_load_real(&m->cpu.seg[i], selectors[i]);
    }
    m->cpu.gpr[X86_RSP] = 0x1000;
}

void enable_paging32(struct machine *m)
{
    put(m, AT_PD32, 4, AT_PT32 | 7);
    for (unsigned i = 0; i < 1024; i++)
        put(m, AT_PT32 + i * 4, 4, i * 4096u | 7);
    m->cpu.cr3 = AT_PD32;
    m->cpu.cr0 |= X86_CR0_PG;
    mmu_flush_all(&m->cpu);
}

void unmap_page(struct machine *m, uint64_t linear)
{
    if (x86_long_mode(&m->cpu))
        put(m, AT_PT + (linear >> 12) * 8, 8, 0);
    else
        put(m, AT_PT32 + (linear >> 12) * 4, 4, 0);
    mmu_flush_all(&m->cpu);
}

/* --- execution --- */

static op_fn *const functions[OP_COUNT] = {
    [OP_MOV_TO_SEG] = op_mov_to_seg,
    [OP_MOV_FROM_SEG] = op_mov_from_seg,
    [OP_PUSH_SEG] = op_push_seg,
    [OP_POP_SEG] = op_pop_seg,
    [OP_LOAD_FAR_POINTER] = op_load_far_pointer,
    [OP_JMP_FAR] = op_jmp_far,
    [OP_CALL_FAR] = op_call_far,
    [OP_RET_FAR] = op_ret_far,
    [OP_INT_N] = op_int_n,
    [OP_INT3] = op_int3,
    [OP_INT1] = op_int1,
    [OP_INTO] = op_into,
    [OP_IRET] = op_iret,
    [OP_SYSCALL] = op_syscall,
    [OP_SYSRET] = op_sysret,
    [OP_SYSENTER] = op_sysenter,
    [OP_SYSEXIT] = op_sysexit,
    [OP_SWAPGS] = op_swapgs,
    [OP_LAR] = op_lar,
    [OP_LSL] = op_lsl,
    [OP_VERR] = op_verr,
    [OP_VERW] = op_verw,
    [OP_ARPL] = op_arpl,
    [OP_LGDT] = op_lgdt,
    [OP_LIDT] = op_lidt,
    [OP_SGDT] = op_sgdt,
    [OP_SIDT] = op_sidt,
    [OP_LLDT] = op_lldt,
    [OP_LTR] = op_ltr,
    [OP_SLDT] = op_sldt,
    [OP_STR] = op_str,
};

/* A fault before the commit point of a task switch must leave everything as it was. */
static void check_unchanged(const struct machine *m)
{
    const struct x86_cpu *a = &m->cpu, *b = &m->before;

    assert_memory_equal(a->gpr, b->gpr, sizeof(a->gpr));
    assert_memory_equal(a->seg, b->seg, sizeof(a->seg));
    assert_int_equal(a->rip, b->rip);
    assert_int_equal(x86_get_rflags(a), x86_get_rflags(b));
    assert_int_equal(a->cpl, b->cpl);
    assert_int_equal(a->cr0, b->cr0);
    assert_int_equal(a->cr2, b->cr2);
    assert_int_equal(a->cr3, b->cr3);
    assert_int_equal(a->gdtr.base, b->gdtr.base);
    assert_int_equal(a->idtr.base, b->idtr.base);
    assert_int_equal(a->kernel_gs_base, b->kernel_gs_base);
    assert_int_equal(a->dirty, b->dirty);
    assert_true(a->nmi_blocked <= b->nmi_blocked); /* IRET unblocks even if it faults */
    assert_int_equal(a->shadow, b->shadow);
}

enum op_result execute(struct machine *m, const uint8_t *bytes, size_t len)
{
    enum op_result result;
    struct insn insn;

    assert_int_equal(insn_decode(&insn, bytes, len, x86_code_bits(&m->cpu)), INSN_OK);
    assert_int_equal(insn.len, len);
    assert_non_null(functions[insn.op]);
    m->before = m->cpu;
    result = functions[insn.op](&m->cpu, &insn);
    if (result == OP_NEXT)
        m->cpu.rip += insn.len;
    if (result == OP_FAULT && m->cpu.seg[X86_TR].selector == m->before.seg[X86_TR].selector)
        check_unchanged(m);
    return result;
}

void expect_fault(const struct machine *m, enum op_result result, unsigned vector, int64_t error)
{
    assert_int_equal(result, OP_FAULT);
    assert_int_equal(m->cpu.fault.vector, vector);
    assert_int_equal(m->cpu.fault.has_error, error >= 0);
    if (error >= 0)
        assert_int_equal(m->cpu.fault.error, error);
}
