#include "engine/bt/ops/ops_common.h"
#include "engine/bt/ops/ops_list.h"
#include "engine/bt/ops/xstate.h"

enum op_result op_fpu_unavailable(struct x86_cpu *cpu, const struct insn *insn)
{
    if (fpu_check(cpu, (enum insn_fpu)insn->fpu_state) < 0)
        return OP_FAULT;
    /* It is available after all: have the code looked up again for the present mode. */
    cpu->dirty |= X86_DIRTY_MODE;
    return OP_JUMP;
}

/*
 * The operand of FXSAVE and FXRSTOR: segment checks, then #GP(0) unless 16-byte aligned. Which of
 * its misalignments are #AC(0) instead is up to the processor (SDM vol. 2, FXSAVE); the host's way.
 */
static int fx_operand(struct x86_cpu *cpu, const struct insn *insn, bool write, uint64_t *linear)
{
    if (fpu_check(cpu, FPU_FXSAVE) < 0)
        return -1;
    if (seg_linear(cpu, (enum x86_segreg)insn->mem.seg, op_offset(cpu, insn), XS_LEGACY_SIZE, write,
                   linear) < 0)
        return -1;
    if (mmu_check_alignment(cpu, *linear, 4) < 0)
        return -1;
    if (*linear & 15)
        return x86_raise_error(cpu, X86_GP, 0);
    /* AMD's processors report the last byte of an image in absent memory. */
    return mmu_probe(cpu, *linear + XS_LEGACY_SIZE - 1, 1,
                     mmu_cpl_access(cpu) | (write ? (unsigned)MMU_WRITE : 0));
}

enum op_result op_fxsave(struct x86_cpu *cpu, const struct insn *insn)
{
    uint8_t image[XS_LEGACY_END];
    uint64_t linear;
    unsigned size = XS_XMM + 16 * xstate_register_count(cpu);

    if (!op_exists(cpu, insn) || !insn->mem.present)
        return op_raise(cpu, X86_UD);
    if (fx_operand(cpu, insn, true, &linear) < 0)
        return OP_FAULT;
    xstate_park(cpu);
    xs_copy(image, cpu->xsave, size);
    image[XS_FTW + 1] = 0;
    xstate_store_pointers(cpu, image, xstate_wide(insn));
    xs_put32(image + XS_MXCSR_MASK, xstate_mxcsr_mask(cpu));
    if (mmu_write(cpu, linear, image, size, mmu_cpl_access(cpu) | MMU_WRITE) < 0)
        return OP_FAULT;
    return OP_NEXT;
}

enum op_result op_fxrstor(struct x86_cpu *cpu, const struct insn *insn)
{
    uint8_t image[XS_LEGACY_SIZE];
    uint64_t linear;
    uint32_t mxcsr;

    if (!op_exists(cpu, insn) || !insn->mem.present)
        return op_raise(cpu, X86_UD);
    if (fx_operand(cpu, insn, false, &linear) < 0)
        return OP_FAULT;
    if (mmu_read(cpu, linear, image, sizeof(image), mmu_cpl_access(cpu)) < 0)
        return OP_FAULT;
    xstate_park(cpu);
    mxcsr = xs_get32(image + XS_MXCSR);
    if (mxcsr & ~xstate_mxcsr_mask(cpu))
        return op_raise_gp0(cpu);
    xs_copy(cpu->xsave, image, XS_FOP);
    xstate_load_pointers(cpu, image, xstate_wide(insn));
    xs_put32(cpu->xsave + XS_MXCSR, mxcsr);
    xs_copy(cpu->xsave + XS_ST, image + XS_ST, XS_XMM - XS_ST + 16 * xstate_register_count(cpu));
    xstate_settle_x87(cpu);
    xstate_set_in_use(cpu, XC_X87 | XC_SSE);
    return OP_NEXT;
}
