#include "engine/bt/ops/ops_common.h"
#include "engine/bt/ops/ops_list.h"

static unsigned iopl(const struct x86_cpu *cpu)
{
    return (cpu->sflags & X86_IOPL) >> X86_IOPL_SHIFT;
}

enum if_access { IF_REAL, IF_VIRTUAL, IF_DENIED };

/* What CLI and STI act on: IF, VIF (CR4.VME or PVI), or neither (SDM vol. 2, CLI, table 3-7). */
static enum if_access interrupt_flag_access(const struct x86_cpu *cpu)
{
    if (x86_real_mode(cpu) || iopl(cpu) >= cpu->cpl)
        return IF_REAL;
    if (x86_vm86(cpu))
        return cpu->cr4 & X86_CR4_VME ? IF_VIRTUAL : IF_DENIED;
    return cpu->cpl == 3 && (cpu->cr4 & X86_CR4_PVI) ? IF_VIRTUAL : IF_DENIED;
}

enum op_result op_hlt(struct x86_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    if (cpu->cpl != 0)
        return op_raise_gp0(cpu);
    cpu->halted = 1;
    return OP_HALT;
}

enum op_result op_cli(struct x86_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    switch (interrupt_flag_access(cpu)) {
    case IF_REAL:
        x86_set_iflag(cpu, false);
        return OP_NEXT;
    case IF_VIRTUAL:
        cpu->sflags &= ~(uint32_t)X86_VIF;
        return OP_NEXT;
    default:
        return op_raise_gp0(cpu);
    }
}

enum op_result op_sti(struct x86_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    switch (interrupt_flag_access(cpu)) {
    case IF_REAL:
        if (!cpu->iflag)
            cpu->shadow = X86_SHADOW_STI;
        x86_set_iflag(cpu, true);
        return OP_NEXT;
    case IF_VIRTUAL:
        if (cpu->sflags & X86_VIP)
            return op_raise_gp0(cpu);
        cpu->sflags |= X86_VIF;
        return OP_NEXT;
    default:
        return op_raise_gp0(cpu);
    }
}

enum op_result op_pushf(struct x86_cpu *cpu, const struct insn *insn)
{
    uint64_t image = x86_get_rflags(cpu) & ~(uint64_t)(X86_VM | X86_RF);
    struct op_stack stack;

    if (x86_vm86(cpu) && iopl(cpu) < 3) {
        if (!(cpu->cr4 & X86_CR4_VME) || insn->opsize != 2)
            return op_raise_gp0(cpu);
        image |= X86_IOPL;
        image &= ~(uint64_t)X86_IF;
        if (cpu->sflags & X86_VIF)
            image |= X86_IF;
    }
    op_stack_begin(&stack, cpu);
    if (op_push(&stack, insn->opsize, image) < 0)
        return OP_FAULT;
    op_stack_commit(&stack);
    return OP_NEXT;
}

/* The bits that POPF may change outside of CR4.VME's help (SDM vol. 2, POPF, table 4-16). */
static uint64_t popf_writable(const struct x86_cpu *cpu, unsigned size)
{
    uint64_t writable = X86_ARITH_FLAGS | X86_DF_FLAG | X86_TF | X86_NT;

    if (size > 2)
        writable |= X86_AC_FLAG | X86_ID;
    if (cpu->cpl <= iopl(cpu))
        writable |= X86_IF;
    if (cpu->cpl == 0)
        writable |= X86_IOPL;
    return writable;
}

/* POPF with 16-bit operand in virtual-8086 mode with IOPL < 3 and CR4.VME: IF goes to VIF. */
static int popf_vme(struct x86_cpu *cpu, uint64_t image, uint64_t *flags)
{
    const uint64_t writable = X86_ARITH_FLAGS | X86_DF_FLAG | X86_TF | X86_NT;

    if ((image & X86_TF) || ((image & X86_IF) && (cpu->sflags & X86_VIP)))
        return x86_raise_error(cpu, X86_GP, 0);
    *flags = (x86_get_rflags(cpu) & ~(writable | X86_VIF)) | (image & writable);
    if (image & X86_IF)
        *flags |= X86_VIF;
    return 0;
}

enum op_result op_popf(struct x86_cpu *cpu, const struct insn *insn)
{
    bool vme = x86_vm86(cpu) && iopl(cpu) < 3;
    uint64_t image, flags = 0, writable;
    struct op_stack stack;

    if (vme && (!(cpu->cr4 & X86_CR4_VME) || insn->opsize != 2))
        return op_raise_gp0(cpu);
    op_stack_begin(&stack, cpu);
    if (op_pop(&stack, insn->opsize, &image) < 0)
        return OP_FAULT;
    if (vme) {
        if (popf_vme(cpu, image, &flags) < 0)
            return OP_FAULT;
    } else {
        writable = popf_writable(cpu, insn->opsize);
        flags = (x86_get_rflags(cpu) & ~writable) | (image & writable);
    }
    op_stack_commit(&stack);
    if ((flags ^ cpu->sflags) & X86_AC_FLAG && (cpu->cr4 & X86_CR4_SMAP)) {
        mmu_flush_all(cpu);
        cpu->dirty |= X86_DIRTY_ADDRESS;
    }
    x86_set_rflags(cpu, flags & ~(uint64_t)X86_RF);
    return OP_NEXT;
}
