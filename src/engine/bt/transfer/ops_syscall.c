/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS. The vendors differ outside 64-bit mode: on AMD
 * processors SYSCALL works in every protected mode and SYSENTER not in long mode, on Intel's it is
 * the other way round. Operating systems choose by CPUID's vendor, and ours is Intel.
 */
#include "engine/bt/transfer/descriptor.h"
#include "engine/bt/transfer/transfer.h"

enum {
    /* Attributes for segment_fill_flat(): type, DPL, D/B, L. */
    CODE64 = X86_AR_CODE | X86_AR_WR | X86_AR_L,
    CODE32 = X86_AR_CODE | X86_AR_WR | X86_AR_DB,
    DATA32 = X86_AR_WR | X86_AR_DB,
    USER = 3 << X86_AR_DPL_SHIFT,
    SYSRET_FLAGS = 0x3c7fd7, /* all but RF and VM (SDM vol. 2, SYSRET) */
    REX_W = 8,
};

/* CS and SS of the system (cpl 0) or the user (cpl 3), and the privilege level. */
static void load_flat(struct x86_cpu *cpu, unsigned cs, uint32_t cs_attr, unsigned ss, unsigned cpl)
{
    uint32_t dpl = cpl ? (uint32_t)USER : 0;

    segment_fill_flat(&cpu->seg[X86_CS], (uint16_t)cs, cs_attr | dpl);
    segment_fill_flat(&cpu->seg[X86_SS], (uint16_t)ss, DATA32 | dpl);
    cpu->cpl = (uint8_t)cpl;
    cpu->shadow = 0;
}

enum op_result op_syscall(struct x86_cpu *cpu, const struct insn *insn)
{
    uint64_t next = cpu->rip + insn->len, flags = x86_get_rflags(cpu) & ~(uint64_t)X86_RF;
    unsigned base = (unsigned)(cpu->star >> 32) & 0xffff;
    uint32_t before;

    if (!(cpu->efer & X86_EFER_SCE) || !x86_code64(cpu))
        return op_raise(cpu, X86_UD);
    before = mode_fingerprint(cpu);
    cpu->gpr[X86_RCX] = next;
    cpu->gpr[X86_R11] = flags;
    cpu->rip = cpu->lstar;
    x86_set_rflags(cpu, flags & ~cpu->fmask);
    /* The RPL is taken off the selector of CS only. */
    load_flat(cpu, base & 0xfffc, CODE64, (base + 8) & 0xffff, 0);
    mode_note_change(cpu, before);
    return OP_JUMP;
}

enum op_result op_sysret(struct x86_cpu *cpu, const struct insn *insn)
{
    unsigned base = (unsigned)(cpu->star >> 48);
    bool to64 = insn->rex & REX_W;
    unsigned cs = ((base + (to64 ? 16 : 0)) | 3) & 0xffff, ss = ((base + 8) | 3) & 0xffff;
    uint64_t rcx = cpu->gpr[X86_RCX];
    uint32_t before;

    if (!(cpu->efer & X86_EFER_SCE) || !x86_code64(cpu))
        return op_raise(cpu, X86_UD);
    if (cpu->cpl != 0 || (to64 && !mmu_canonical(rcx)))
        return op_raise_gp0(cpu);
    before = mode_fingerprint(cpu);
    x86_set_rflags(cpu, cpu->gpr[X86_R11] & SYSRET_FLAGS);
    if (cpu->sflags & X86_TF) /* not only behind the next instruction: SYSCALL could not step */
        cpu->mmu->debug_hits |= X86_DR6_BS;
    cpu->rip = to64 ? rcx : (uint32_t)rcx;
    load_flat(cpu, cs, to64 ? CODE64 : CODE32, ss, 3);
    mode_note_change(cpu, before);
    return OP_JUMP;
}

enum op_result op_sysenter(struct x86_cpu *cpu, const struct insn *insn)
{
    unsigned cs = (unsigned)cpu->sysenter_cs & 0xfffc;
    bool in_long = x86_long_mode(cpu);
    uint32_t before;

    (void)insn;
    if (x86_real_mode(cpu) || cs == 0)
        return op_raise_gp0(cpu);
    before = mode_fingerprint(cpu);
    x86_set_rflags(cpu, x86_get_rflags(cpu) & ~(uint64_t)(X86_VM | X86_IF | X86_RF));
    cpu->gpr[X86_RSP] = in_long ? cpu->sysenter_esp : (uint32_t)cpu->sysenter_esp;
    cpu->rip = in_long ? cpu->sysenter_eip : (uint32_t)cpu->sysenter_eip;
    load_flat(cpu, cs, in_long ? CODE64 : CODE32, (cs + 8) & 0xffff, 0);
    mode_note_change(cpu, before);
    return OP_JUMP;
}

enum op_result op_sysexit(struct x86_cpu *cpu, const struct insn *insn)
{
    unsigned base = (unsigned)cpu->sysenter_cs & 0xfffc;
    bool to64 = x86_code64(cpu) && (insn->rex & REX_W);
    uint64_t rip = cpu->gpr[X86_RDX], rsp = cpu->gpr[X86_RCX];
    unsigned cs = (base + (to64 ? 32 : 16)) | 3;
    uint32_t before;

    if (x86_real_mode(cpu) || base == 0 || cpu->cpl != 0)
        return op_raise_gp0(cpu);
    if (to64 && (!mmu_canonical(rip) || !mmu_canonical(rsp)))
        return op_raise_gp0(cpu);
    before = mode_fingerprint(cpu);
    cpu->gpr[X86_RSP] = to64 ? rsp : (uint32_t)rsp;
    cpu->rip = to64 ? rip : (uint32_t)rip;
    load_flat(cpu, cs & 0xffff, to64 ? CODE64 : CODE32, (cs + 8) & 0xffff, 3);
    mode_note_change(cpu, before);
    return OP_JUMP;
}

enum op_result op_swapgs(struct x86_cpu *cpu, const struct insn *insn)
{
    uint64_t base = cpu->seg[X86_GS].base;

    (void)insn;
    if (!x86_code64(cpu))
        return op_raise(cpu, X86_UD);
    if (cpu->cpl != 0)
        return op_raise_gp0(cpu);
    cpu->seg[X86_GS].base = cpu->kernel_gs_base;
    cpu->kernel_gs_base = base;
    return OP_NEXT;
}
