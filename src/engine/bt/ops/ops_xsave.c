#include "engine/bt/ops/ops_common.h"
#include "engine/bt/ops/ops_list.h"
#include "engine/bt/ops/xstate.h"

enum { XSTATE_BV = XS_HEADER, XCOMP_BV = XS_HEADER + 8, XS_RESERVED = XS_HEADER + 16 };
#define XCOMP_COMPACTED (1ull << 63)

/* XSAVE 0F AE /4, XSAVEOPT 0F AE /6, XSAVEC 0F C7 /4 */
enum xsave_form { FORM_XSAVE, FORM_XSAVEOPT, FORM_XSAVEC };

static enum xsave_form xsave_form(const struct insn *insn)
{
    if (insn->opcode == 0xc7)
        return FORM_XSAVEC;
    return (insn->modrm >> 3 & 7) == 6 ? FORM_XSAVEOPT : FORM_XSAVE;
}

/*
 * Checks common to all forms and gives the operand's address: #UD, #NM, segment faults, then #GP(0)
 * unless 64-byte aligned (SDM vol. 1, 13.7-13.10).
 */
static int xsave_operand(struct x86_cpu *cpu, const struct insn *insn, unsigned size, bool write,
                         uint64_t *linear)
{
    if (!op_exists(cpu, insn) || !insn->mem.present || !(cpu->cr4 & X86_CR4_OSXSAVE))
        return x86_raise(cpu, X86_UD);
    if (cpu->cr0 & X86_CR0_TS)
        return x86_raise(cpu, X86_NM);
    if (seg_linear(cpu, (enum x86_segreg)insn->mem.seg, op_offset(cpu, insn), size, write, linear) <
        0)
        return -1;
    return *linear & 63 ? x86_raise_error(cpu, X86_GP, 0) : 0;
}

/* Bytes of the area for a set of components; AVX is the only one behind the header. */
static unsigned area_size(uint64_t components)
{
    return components & XC_AVX ? XS_SIZE : XS_YMM_HIGH;
}

struct xsave_area {
    uint8_t bytes[XS_SIZE] __attribute__((aligned(16)));
};

/* Lays out the components to be written over what memory holds. */
static void fill_area(struct x86_cpu *cpu, uint8_t *area, uint64_t components, bool mxcsr,
                      bool wide)
{
    unsigned vectors = 16 * xstate_register_count(cpu);

    if (components & XC_X87) {
        xs_copy(area, cpu->xsave, XS_FOP);
        area[XS_FTW + 1] = 0;
        xstate_store_pointers(cpu, area, wide);
        xs_copy(area + XS_ST, cpu->xsave + XS_ST, XS_XMM - XS_ST);
    }
    if (mxcsr) {
        xs_copy(area + XS_MXCSR, cpu->xsave + XS_MXCSR, 4);
        xs_put32(area + XS_MXCSR_MASK, xstate_mxcsr_mask(cpu));
    }
    if (components & XC_SSE)
        xs_copy(area + XS_XMM, cpu->xsave + XS_XMM, vectors);
    if (components & XC_AVX)
        xs_copy(area + XS_YMM_HIGH, cpu->xsave + XS_YMM_HIGH, vectors);
}

/*
 * Reads the area, changes what the instruction writes, and writes it back: parts in between stay as
 * they are, and all faults come before the first byte.
 */
enum op_result op_xsave(struct x86_cpu *cpu, const struct insn *insn)
{
    enum xsave_form form = xsave_form(insn);
    uint64_t requested = cpu->xcr0 & op_edx_eax(cpu);
    unsigned size = area_size(requested), access = mmu_cpl_access(cpu);
    struct xsave_area area;
    uint64_t linear, in_use, old;
    bool wide = xstate_wide(insn);

    if (xsave_operand(cpu, insn, size, true, &linear) < 0)
        return OP_FAULT;
    if (mmu_probe(cpu, linear, size, access | MMU_WRITE) < 0 ||
        mmu_read(cpu, linear, area.bytes, size, access) < 0)
        return OP_FAULT;
    xstate_park(cpu);
    in_use = xstate_in_use(cpu);
    if (form == FORM_XSAVEC) {
        /* MXCSR makes the SSE component count as in use here */
        if (xs_get32(cpu->xsave + XS_MXCSR) != MXCSR_INIT)
            in_use |= XC_SSE;
        fill_area(cpu, area.bytes, requested & in_use, requested & in_use & XC_SSE, wide);
        xs_put64(area.bytes + XSTATE_BV, requested & in_use);
        xs_put64(area.bytes + XCOMP_BV, requested | XCOMP_COMPACTED);
    } else {
        old = xs_get64(area.bytes + XSTATE_BV);
        fill_area(cpu, area.bytes, form == FORM_XSAVEOPT ? requested & in_use : requested,
                  requested & (XC_SSE | XC_AVX), wide);
        xs_put64(area.bytes + XSTATE_BV, (old & ~requested) | (requested & in_use));
    }
    if (mmu_write(cpu, linear, area.bytes, size, access | MMU_WRITE) < 0)
        return OP_FAULT;
    return OP_NEXT;
}

/* Is the header one that XRSTOR accepts (SDM vol. 1, 13.8)? */
static bool header_valid(const struct x86_cpu *cpu, const uint8_t *area)
{
    uint64_t xstate_bv = xs_get64(area + XSTATE_BV), xcomp_bv = xs_get64(area + XCOMP_BV);
    unsigned reserved_end = XS_HEADER + 24;

    if (xcomp_bv & XCOMP_COMPACTED) {
        if (!cpuid_has(&cpu->cpuid, FEAT_XSAVEC))
            return false;
        xcomp_bv &= ~XCOMP_COMPACTED;
        if ((xcomp_bv & ~cpu->xcr0) || (xstate_bv & ~xcomp_bv))
            return false;
        reserved_end = XS_HEADER + XS_HEADER_SIZE;
    } else if (xcomp_bv || (xstate_bv & ~cpu->xcr0)) {
        return false;
    }
    for (unsigned i = XS_RESERVED; i < reserved_end; i++) {
        if (area[i])
            return false;
    }
    return true;
}

/* The new MXCSR: from memory, initial, or unchanged. */
static uint32_t restored_mxcsr(const struct x86_cpu *cpu, const uint8_t *area, uint64_t requested)
{
    uint64_t xstate_bv = xs_get64(area + XSTATE_BV);

    if (xs_get64(area + XCOMP_BV) & XCOMP_COMPACTED) {
        if (!(requested & XC_SSE))
            return xs_get32(cpu->xsave + XS_MXCSR);
        return xstate_bv & XC_SSE ? xs_get32(area + XS_MXCSR) : MXCSR_INIT;
    }
    if (requested & (XC_SSE | XC_AVX))
        return xs_get32(area + XS_MXCSR);
    return xs_get32(cpu->xsave + XS_MXCSR);
}

static void restore_component(struct x86_cpu *cpu, const uint8_t *area, uint64_t component,
                              bool wide)
{
    unsigned vectors = 16 * xstate_register_count(cpu);
    bool load = xs_get64(area + XSTATE_BV) & component;
    unsigned offset = component == XC_SSE ? XS_XMM : XS_YMM_HIGH;

    if (component == XC_X87) {
        if (!load) {
            xstate_init(cpu, component);
            return;
        }
        xs_copy(cpu->xsave, area, XS_FOP);
        xstate_load_pointers(cpu, area, wide);
        xs_copy(cpu->xsave + XS_ST, area + XS_ST, XS_XMM - XS_ST);
        xstate_settle_x87(cpu);
    } else if (load) {
        xs_copy(cpu->xsave + offset, area + offset, vectors);
    } else if (vectors == 16 * 16) {
        xstate_init(cpu, component);
        return;
    } else { /* registers 8-15 are out of reach here and keep their values */
        xs_zero(cpu->xsave + offset, vectors);
    }
    xstate_set_in_use(cpu, component);
}

enum op_result op_xrstor(struct x86_cpu *cpu, const struct insn *insn)
{
    uint64_t requested = cpu->xcr0 & op_edx_eax(cpu);
    unsigned size = area_size(requested), access = mmu_cpl_access(cpu);
    struct xsave_area area;
    uint64_t linear;
    uint32_t mxcsr;

    if (xsave_operand(cpu, insn, size, false, &linear) < 0)
        return OP_FAULT;
    if (mmu_read(cpu, linear, area.bytes, size, access) < 0)
        return OP_FAULT;
    if (!header_valid(cpu, area.bytes))
        return op_raise_gp0(cpu);
    xstate_park(cpu);
    mxcsr = restored_mxcsr(cpu, area.bytes, requested);
    if (mxcsr & ~xstate_mxcsr_mask(cpu))
        return op_raise_gp0(cpu);
    for (uint64_t component = XC_X87; component <= XC_AVX; component <<= 1) {
        if (requested & component)
            restore_component(cpu, area.bytes, component, xstate_wide(insn));
    }
    xs_put32(cpu->xsave + XS_MXCSR, mxcsr);
    return OP_NEXT;
}
