#include "engine/bt/ops/msr.h"
#include "engine/bt/ops/ops_common.h"
#include "engine/bt/ops/ops_list.h"
#include "engine/bt/ops/xstate.h"

enum {
    XCR0_X87 = 1 << 0,
    XCR0_SSE = 1 << 1,
    XCR0_AVX = 1 << 2,
};

enum op_result op_ud(struct x86_cpu *cpu, const struct insn *insn)
{
    if (insn->len == sizeof(insn->bytes) && insn->mnemonic == 0) /* longer than 15 bytes */
        return op_raise_gp0(cpu);
    return op_raise(cpu, X86_UD);
}

enum op_result op_rdmsr(struct x86_cpu *cpu, const struct insn *insn)
{
    uint64_t value;

    if (!op_exists(cpu, insn))
        return op_raise(cpu, X86_UD);
    if (cpu->cpl != 0)
        return op_raise_gp0(cpu);
    if (msr_read(cpu, (uint32_t)cpu->gpr[X86_RCX], &value) < 0)
        return OP_FAULT;
    op_set_edx_eax(cpu, value);
    return OP_NEXT;
}

enum op_result op_wrmsr(struct x86_cpu *cpu, const struct insn *insn)
{
    if (!op_exists(cpu, insn))
        return op_raise(cpu, X86_UD);
    if (cpu->cpl != 0)
        return op_raise_gp0(cpu);
    if (msr_write(cpu, (uint32_t)cpu->gpr[X86_RCX], op_edx_eax(cpu)) < 0)
        return OP_FAULT;
    return OP_NEXT;
}

static bool tsc_allowed(const struct x86_cpu *cpu)
{
    return !(cpu->cr4 & X86_CR4_TSD) || cpu->cpl == 0;
}

enum op_result op_rdtsc(struct x86_cpu *cpu, const struct insn *insn)
{
    if (!op_exists(cpu, insn))
        return op_raise(cpu, X86_UD);
    if (!tsc_allowed(cpu))
        return op_raise_gp0(cpu);
    op_set_edx_eax(cpu, op_guest_tsc(cpu));
    return OP_NEXT;
}

enum op_result op_rdtscp(struct x86_cpu *cpu, const struct insn *insn)
{
    if (!op_exists(cpu, insn))
        return op_raise(cpu, X86_UD);
    if (!tsc_allowed(cpu))
        return op_raise_gp0(cpu);
    op_set_edx_eax(cpu, op_guest_tsc(cpu));
    op_set_gpr32(cpu, X86_RCX, (uint32_t)cpu->tsc_aux);
    return OP_NEXT;
}

/* No counter exists, so every index is out of range. */
enum op_result op_rdpmc(struct x86_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    return op_raise_gp0(cpu);
}

enum op_result op_rdpid(struct x86_cpu *cpu, const struct insn *insn)
{
    if (!op_exists(cpu, insn))
        return op_raise(cpu, X86_UD);
    op_set_gpr(cpu, insn, insn->rm, op_wide_size(cpu), cpu->tsc_aux);
    return OP_NEXT;
}

enum op_result op_cpuid(struct x86_cpu *cpu, const struct insn *insn)
{
    struct cpuid_regs r;

    if (!op_exists(cpu, insn))
        return op_raise(cpu, X86_UD);
    bt_park_vectors(cpu); /* leaf 1 asks the board for the APIC base */
    r = cpuid_query(cpu, (uint32_t)cpu->gpr[X86_RAX], (uint32_t)cpu->gpr[X86_RCX]);
    op_set_gpr32(cpu, X86_RAX, r.eax);
    op_set_gpr32(cpu, X86_RBX, r.ebx);
    op_set_gpr32(cpu, X86_RCX, r.ecx);
    op_set_gpr32(cpu, X86_RDX, r.edx);
    return OP_NEXT;
}

enum op_result op_xgetbv(struct x86_cpu *cpu, const struct insn *insn)
{
    uint32_t index = (uint32_t)cpu->gpr[X86_RCX];

    if (!op_exists(cpu, insn) || !(cpu->cr4 & X86_CR4_OSXSAVE))
        return op_raise(cpu, X86_UD);
    if (index == 0) {
        op_set_edx_eax(cpu, cpu->xcr0);
    } else if (index == 1 && cpuid_has(&cpu->cpuid, FEAT_XGETBV1)) {
        bt_park_vectors(cpu);
        uint64_t in_use = xstate_in_use(cpu);
        /* as for XSAVEC, MXCSR counts here */
        if (xs_get32(cpu->xsave + XS_MXCSR) != MXCSR_INIT)
            in_use |= XC_SSE;
        op_set_edx_eax(cpu, cpu->xcr0 & in_use);
    } else {
        return op_raise_gp0(cpu);
    }
    return OP_NEXT;
}

enum op_result op_xsetbv(struct x86_cpu *cpu, const struct insn *insn)
{
    uint64_t value = op_edx_eax(cpu);
    uint64_t supported = XCR0_X87 | XCR0_SSE;

    if (!op_exists(cpu, insn) || !(cpu->cr4 & X86_CR4_OSXSAVE))
        return op_raise(cpu, X86_UD);
    if (cpuid_has(&cpu->cpuid, FEAT_AVX))
        supported |= XCR0_AVX;
    if (cpu->cpl != 0 || (uint32_t)cpu->gpr[X86_RCX] != 0)
        return op_raise_gp0(cpu);
    if ((value & ~supported) || !(value & XCR0_X87))
        return op_raise_gp0(cpu);
    if ((value & XCR0_AVX) && !(value & XCR0_SSE))
        return op_raise_gp0(cpu);
    if (cpu->xcr0 != value) {
        cpu->xcr0 = value;
        cpu->dirty |= X86_DIRTY_MODE;
    }
    return OP_NEXT;
}

/* 64-bit mode only, and only if the system allows it; ModRM.reg: 0 RDFS, 1 RDGS, 2 WRFS, 3 WRGS. */
static bool fsgsbase_usable(const struct x86_cpu *cpu, const struct insn *insn)
{
    return op_exists(cpu, insn) && x86_code64(cpu) && (cpu->cr4 & X86_CR4_FSGSBASE);
}

static struct x86_segment *fsgsbase_segment(struct x86_cpu *cpu, const struct insn *insn)
{
    return &cpu->seg[insn->modrm >> 3 & 1 ? X86_GS : X86_FS];
}

enum op_result op_rdfsgsbase(struct x86_cpu *cpu, const struct insn *insn)
{
    if (!fsgsbase_usable(cpu, insn))
        return op_raise(cpu, X86_UD);
    op_set_gpr(cpu, insn, insn->rm, insn->opsize == 8 ? 8 : 4, fsgsbase_segment(cpu, insn)->base);
    return OP_NEXT;
}

enum op_result op_wrfsgsbase(struct x86_cpu *cpu, const struct insn *insn)
{
    uint64_t base;

    if (!fsgsbase_usable(cpu, insn))
        return op_raise(cpu, X86_UD);
    base = op_get_gpr(cpu, insn, insn->rm, insn->opsize == 8 ? 8 : 4);
    if (!mmu_canonical(base))
        return op_raise_gp0(cpu);
    fsgsbase_segment(cpu, insn)->base = base;
    return OP_NEXT;
}

enum op_result op_clac_stac(struct x86_cpu *cpu, const struct insn *insn)
{
    bool set = insn->modrm & 1; /* 0F 01 CA: CLAC, CB: STAC */
    uint32_t old = cpu->sflags;

    if (!op_exists(cpu, insn) || cpu->cpl != 0)
        return op_raise(cpu, X86_UD);
    cpu->sflags = set ? old | X86_AC_FLAG : old & ~(uint32_t)X86_AC_FLAG;
    /* The TLB holds the result of the permission check, which AC takes part in. */
    if (cpu->sflags != old && (cpu->cr4 & X86_CR4_SMAP)) {
        mmu_flush_all(cpu);
        cpu->dirty |= X86_DIRTY_ADDRESS;
    }
    return OP_NEXT;
}
