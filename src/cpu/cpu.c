#include "cpu/cpu.h"

#include <stddef.h>

enum {
    /* Offsets in the XSAVE image (SDM vol. 1, 10.5.1 and 13.4). */
    XSAVE_FCW = 0,
    XSAVE_FTW = 4,
    XSAVE_MXCSR = 24,
    XSAVE_XSTATE_BV = 512,

    RESET_FCW = 0x0040, /* not FNINIT's 037FH */
    RESET_FTW = 0xff,   /* all registers hold +0.0, none is empty (full tag word 5555H) */
    RESET_MXCSR = 0x1f80,

    ATTR_DATA = X86_AR_P | X86_AR_S | X86_AR_WR | X86_AR_A,
    ATTR_LDT = X86_AR_P | 0x2,
    ATTR_TSS_BUSY = X86_AR_P | 0xb,

    MISC_ENABLE_FAST_STRINGS = 1 << 0,
    MISC_ENABLE_BTS_UNAVAILABLE = 1 << 11,
    MISC_ENABLE_PEBS_UNAVAILABLE = 1 << 12,
};

static const uint64_t reset_pat = 0x0007040600070406;

static void zero_words(uint64_t *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        words[i] = 0;
}

static void store16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}

static void reset_vectors(struct x86_cpu *cpu)
{
    for (size_t i = 0; i < sizeof(cpu->xsave); i++)
        cpu->xsave[i] = 0;
    store16(cpu->xsave + XSAVE_FCW, RESET_FCW);
    cpu->xsave[XSAVE_FTW] = RESET_FTW;
    store16(cpu->xsave + XSAVE_MXCSR, RESET_MXCSR);
    /* MXCSR_MASK stays 0: unknown until the host's XSAVE writes it. */
    /* x87 and SSE come from the image (FCW differs from the init state), AVX is in its init state.
     */
    cpu->xsave[XSAVE_XSTATE_BV] = 3;
}

static void reset_segments(struct x86_cpu *cpu)
{
    for (unsigned i = 0; i < X86_SEG_COUNT; i++) {
        struct x86_segment *seg = &cpu->seg[i];

        seg->selector = 0;
        seg->base = 0;
        seg->limit = 0xffff;
        seg->attr = i == X86_LDTR ? ATTR_LDT : i == X86_TR ? ATTR_TSS_BUSY : ATTR_DATA;
    }
    cpu->seg[X86_CS].selector = 0xf000;
    cpu->seg[X86_CS].base = 0xffff0000;
    for (unsigned i = 0; i < X86_SEG_COUNT; i++)
        segment_update_bounds(&cpu->seg[i]);
    cpu->gdtr = (struct x86_table){.base = 0, .limit = 0xffff};
    cpu->idtr = (struct x86_table){.base = 0, .limit = 0xffff};
}

static void reset_msrs(struct x86_cpu *cpu)
{
    cpu->star = cpu->lstar = cpu->cstar = cpu->fmask = cpu->kernel_gs_base = 0;
    cpu->sysenter_cs = cpu->sysenter_esp = cpu->sysenter_eip = 0;
    cpu->pat = reset_pat;
    cpu->misc_enable =
        MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_BTS_UNAVAILABLE | MISC_ENABLE_PEBS_UNAVAILABLE;
    /*
     * The counter of the board runs on: a reset of one processor must not take its TSC out of step
     * with the others.
     */
    cpu->tsc_offset = cpu->tsc_adjust = cpu->tsc_aux = 0;
    cpu->spec_ctrl = 0;
    cpu->mtrr_def_type = 0;
    zero_words(cpu->mtrr_fix, sizeof(cpu->mtrr_fix) / sizeof(cpu->mtrr_fix[0]));
    zero_words(cpu->mtrr_var, sizeof(cpu->mtrr_var) / sizeof(cpu->mtrr_var[0]));
    cpu->mcg_status = 0;
    zero_words(cpu->mc_ctl, sizeof(cpu->mc_ctl) / sizeof(cpu->mc_ctl[0]));
    zero_words(cpu->mc_addr, sizeof(cpu->mc_addr) / sizeof(cpu->mc_addr[0]));
    zero_words(cpu->mc_misc, sizeof(cpu->mc_misc) / sizeof(cpu->mc_misc[0]));
    cpu->xcr0 = 1;
}

void x86_init(struct x86_cpu *cpu)
{
    cpu->exit_window = 0;
    cpu->intr_wanted = 0;
    cpu->iflag = 0;
    cpu->cpl = 0;
    cpu->shadow = 0;
    cpu->aflags = 0;
    cpu->sflags = 0;
    zero_words(cpu->gpr, 16);
    cpu->gpr[X86_RDX] = cpuid_signature(&cpu->cpuid);
    cpu->rip = 0xfff0;
    reset_segments(cpu);

    cpu->cr0 = (cpu->cr0 & (X86_CR0_CD | X86_CR0_NW)) | X86_CR0_ET;
    cpu->cr2 = cpu->cr3 = cpu->cr4 = cpu->efer = 0;
    zero_words(cpu->pdpte, 4);
    zero_words(cpu->dr, 8);
    cpu->dr[6] = 0xffff0ff0;
    cpu->dr[7] = 0x400;

    cpu->halted = 0;
    cpu->nmi_pending = cpu->nmi_blocked = 0;
    cpu->shutdown = 0;
    cpu->reset_request = 0;
    cpu->fault = (struct x86_fault){0};
    cpu->dirty = X86_DIRTY_MODE | X86_DIRTY_ADDRESS;
}

void x86_reset(struct x86_cpu *cpu)
{
    x86_init(cpu);
    cpu->cr0 |= X86_CR0_CD | X86_CR0_NW;
    reset_msrs(cpu);
    reset_vectors(cpu);
    cpu->ferr = 0;
    cpu->ignne = X86_IGNNE_OFF;
}

void x86_set_iflag(struct x86_cpu *cpu, bool on)
{
    if (on && !cpu->iflag && cpu->intr_wanted)
        cpu->exit_window = 1;
    cpu->iflag = on;
}

void x86_set_rflags(struct x86_cpu *cpu, uint64_t rflags)
{
    const uint32_t system =
        X86_TF | X86_IOPL | X86_NT | X86_RF | X86_VM | X86_AC_FLAG | X86_VIF | X86_VIP | X86_ID;
    uint32_t sflags = (uint32_t)rflags & system;

    if ((cpu->sflags ^ sflags) & (X86_TF | X86_VM | X86_AC_FLAG))
        cpu->dirty |= X86_DIRTY_MODE;
    cpu->sflags = sflags;
    cpu->aflags = (uint32_t)rflags & X86_NATIVE_FLAGS;
    x86_set_iflag(cpu, (rflags & X86_IF) != 0);
}

void segment_update_bounds(struct x86_segment *seg)
{
    uint64_t end = (uint64_t)seg->limit + 1;

    seg->read_end = seg->write_end = 0;
    if ((seg->attr & X86_AR_UNUSABLE) || !(seg->attr & X86_AR_P) || !(seg->attr & X86_AR_S))
        return;
    if (seg->attr & X86_AR_CODE) {
        seg->read_end = seg->attr & X86_AR_WR ? end : 0;
    } else if (!(seg->attr & X86_AR_EC)) {
        seg->read_end = end;
        seg->write_end = seg->attr & X86_AR_WR ? end : 0;
    }
}

void segment_load_real(struct x86_segment *seg, uint16_t selector)
{
    seg->selector = selector;
    seg->base = (uint32_t)selector << 4;
    segment_update_bounds(seg);
}

static bool vector_has_error(enum x86_vector vector)
{
    switch (vector) {
    case X86_DF:
    case X86_TS:
    case X86_NP:
    case X86_SS_FAULT:
    case X86_GP:
    case X86_PF:
    case X86_AC:
        return true;
    default:
        return false;
    }
}

int x86_raise(struct x86_cpu *cpu, enum x86_vector vector)
{
    cpu->fault = (struct x86_fault){.vector = (uint8_t)vector};
    cpu->fault.has_error = vector_has_error(vector);
    return -1;
}

int x86_raise_error(struct x86_cpu *cpu, enum x86_vector vector, uint32_t error)
{
    cpu->fault = (struct x86_fault){.vector = (uint8_t)vector, .has_error = true, .error = error};
    return -1;
}

int x86_raise_page_fault(struct x86_cpu *cpu, uint64_t linear, uint32_t error)
{
    cpu->fault =
        (struct x86_fault){.vector = X86_PF, .has_error = true, .error = error, .cr2 = linear};
    return -1;
}
