#include "engine/bt/ops/control.h"

#include "memory/mmu.h"

enum {
    TSS_TYPE_MASK = 0xd, /* 0001 and 0011: 16-bit TSS, available or busy */
    TSS_TYPE_16 = 0x1,
    CR4_PDPTE = X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PSE | X86_CR4_SMEP,
    CR4_FLUSH = CR4_PDPTE | X86_CR4_PCIDE | X86_CR4_SMAP,
};
static const uint64_t cr0_writable = X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS |
                                     X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_NW |
                                     X86_CR0_CD | X86_CR0_PG;
static const uint64_t cr0_pdpte = X86_CR0_PG | X86_CR0_CD | X86_CR0_NW;
#define CR3_NO_FLUSH (1ull << 63)

static int general_protection(struct x86_cpu *cpu)
{
    return x86_raise_error(cpu, X86_GP, 0);
}

/* Paging with 32-bit linear addresses and 64-bit entries (SDM vol. 3, table 4-1). */
static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    return (cr0 & X86_CR0_PG) && (cr4 & X86_CR4_PAE) && !(efer & X86_EFER_LME);
}

static bool cr0_value_valid(uint64_t value)
{
    if (value >> 32)
        return false;
    if ((value & X86_CR0_PG) && !(value & X86_CR0_PE))
        return false;
    return !(value & X86_CR0_NW) || (value & X86_CR0_CD);
}

static bool cr0_transition_valid(const struct x86_cpu *cpu, uint64_t value)
{
    bool code64 = cpu->seg[X86_CS].attr & X86_AR_L;

    if (value & ~cpu->cr0 & X86_CR0_PG) { /* paging goes on */
        if (!(cpu->efer & X86_EFER_LME))
            return true;
        return (cpu->cr4 & X86_CR4_PAE) && !code64 &&
               (cpu->seg[X86_TR].attr & (X86_AR_S | TSS_TYPE_MASK)) != TSS_TYPE_16;
    }
    if (cpu->cr0 & ~value & X86_CR0_PG) /* paging goes off */
        return !x86_code64(cpu) && !(cpu->cr4 & X86_CR4_PCIDE);
    return true;
}

int control_write_cr0(struct x86_cpu *cpu, uint64_t value)
{
    uint64_t old = cpu->cr0, changed;

    if (!cr0_value_valid(value) || !cr0_transition_valid(cpu, value))
        return general_protection(cpu);
    value = (value & cr0_writable) | X86_CR0_ET;
    changed = value ^ old;
    if ((changed & cr0_pdpte) && pae_paging(value, cpu->cr4, cpu->efer) &&
        mmu_load_pdptes(cpu, cpu->cr3) < 0)
        return general_protection(cpu);
    if (!changed)
        return 0;
    cpu->cr0 = value;
    if (changed & X86_CR0_PG) {
        cpu->efer &= ~(uint64_t)X86_EFER_LMA;
        if ((value & X86_CR0_PG) && (cpu->efer & X86_EFER_LME))
            cpu->efer |= X86_EFER_LMA;
    }
    /* WP only changes permissions, but the TLB holds the result of the permission check. */
    if (changed & (X86_CR0_PG | X86_CR0_PE | X86_CR0_WP)) {
        mmu_flush_all(cpu);
        cpu->dirty |= X86_DIRTY_ADDRESS;
    }
    cpu->dirty |= X86_DIRTY_MODE;
    return 0;
}

int control_write_cr3(struct x86_cpu *cpu, uint64_t value)
{
    bool flush = true;

    if (cpu->cr4 & X86_CR4_PCIDE) {
        flush = !(value & CR3_NO_FLUSH);
        value &= ~CR3_NO_FLUSH;
    }
    if (x86_long_mode(cpu) && value >> cpu->cpuid.phys_bits)
        return general_protection(cpu);
    if (pae_paging(cpu->cr0, cpu->cr4, cpu->efer) && mmu_load_pdptes(cpu, value) < 0)
        return general_protection(cpu);
    cpu->cr3 = value;
    if (flush)
        mmu_flush_nonglobal(cpu);
    cpu->dirty |= X86_DIRTY_ADDRESS;
    return 0;
}

static uint64_t cr4_writable(const struct cpuid_model *model)
{
    static const struct {
        uint32_t bits;
        uint8_t feature;
    } rows[] = {
        {X86_CR4_VME | X86_CR4_PVI, FEAT_VME},
        {X86_CR4_TSD, FEAT_TSC},
        {X86_CR4_DE, FEAT_DE},
        {X86_CR4_PSE, FEAT_PSE},
        {X86_CR4_PAE, FEAT_PAE},
        {X86_CR4_MCE, FEAT_MCE},
        {X86_CR4_PGE, FEAT_PGE},
        {X86_CR4_PCE, FEAT_CMOV}, /* RDPMC came with the P6, as did CMOV */
        {X86_CR4_OSFXSR, FEAT_FXSR},
        {X86_CR4_OSXMMEXCPT, FEAT_SSE},
        {X86_CR4_UMIP, FEAT_UMIP},
        {X86_CR4_FSGSBASE, FEAT_FSGSBASE},
        {X86_CR4_PCIDE, FEAT_PCID},
        {X86_CR4_OSXSAVE, FEAT_XSAVE},
        {X86_CR4_SMEP, FEAT_SMEP},
        {X86_CR4_SMAP, FEAT_SMAP},
    };
    uint64_t writable = 0;

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (cpuid_has(model, (enum x86_feature)rows[i].feature))
            writable |= rows[i].bits;
    }
    return writable;
}

int control_write_cr4(struct x86_cpu *cpu, uint64_t value)
{
    uint64_t changed = value ^ cpu->cr4, old = cpu->cr4;

    if (value & ~cr4_writable(&cpu->cpuid))
        return general_protection(cpu);
    if (x86_long_mode(cpu) && !(value & X86_CR4_PAE))
        return general_protection(cpu);
    if ((changed & value & X86_CR4_PCIDE) && (!x86_long_mode(cpu) || (cpu->cr3 & 0xfff)))
        return general_protection(cpu);
    if (!changed)
        return 0;
    cpu->cr4 = value;
    if ((changed & CR4_PDPTE) && pae_paging(cpu->cr0, value, cpu->efer) &&
        mmu_load_pdptes(cpu, cpu->cr3) < 0) {
        cpu->cr4 = old;
        return general_protection(cpu);
    }
    if (changed & CR4_FLUSH) {
        mmu_flush_all(cpu);
        cpu->dirty |= X86_DIRTY_ADDRESS;
    }
    cpu->dirty |= X86_DIRTY_MODE;
    return 0;
}

int control_write_efer(struct x86_cpu *cpu, uint64_t value)
{
    uint64_t writable = 0, changed;

    if (cpuid_has(&cpu->cpuid, FEAT_SYSCALL))
        writable |= X86_EFER_SCE;
    if (cpuid_has(&cpu->cpuid, FEAT_LM))
        writable |= X86_EFER_LME;
    if (cpuid_has(&cpu->cpuid, FEAT_NX))
        writable |= X86_EFER_NXE;
    if (value & ~(writable | X86_EFER_LMA))
        return general_protection(cpu);
    value = (value & writable) | (cpu->efer & X86_EFER_LMA); /* LMA is read-only */
    changed = value ^ cpu->efer;
    if ((changed & X86_EFER_LME) && (cpu->cr0 & X86_CR0_PG))
        return general_protection(cpu);
    if (!changed)
        return 0;
    cpu->efer = value;
    if (changed & X86_EFER_NXE) {
        mmu_flush_all(cpu);
        cpu->dirty |= X86_DIRTY_ADDRESS;
    }
    cpu->dirty |= X86_DIRTY_MODE;
    return 0;
}
