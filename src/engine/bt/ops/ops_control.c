#include "engine/bt/ops/control.h"
#include "engine/bt/ops/ops_common.h"
#include "engine/bt/ops/ops_list.h"

enum op_result op_mov_from_cr(struct x86_cpu *cpu, const struct insn *insn)
{
    uint64_t value;

    switch (insn->reg) {
    case 0:
        value = cpu->cr0;
        break;
    case 2:
        value = cpu->cr2;
        break;
    case 3:
        value = cpu->cr3;
        break;
    case 4:
        value = cpu->cr4;
        break;
    case 8: /* can be encoded in 64-bit mode only */
        value = 0;
        break;
    default:
        return op_raise(cpu, X86_UD);
    }
    if (cpu->cpl != 0)
        return op_raise_gp0(cpu);
    if (insn->reg == 8 && cpu->platform.tpr_read) {
        bt_park_vectors(cpu);
        value = cpu->platform.tpr_read(cpu->platform.ctx) & 0xf;
    }
    op_set_gpr(cpu, insn, insn->rm, op_wide_size(cpu), value);
    return OP_NEXT;
}

static int write_cr8(struct x86_cpu *cpu, uint64_t value)
{
    if (value & ~0xfull)
        return x86_raise_error(cpu, X86_GP, 0);
    if (cpu->platform.tpr_write) {
        bt_park_vectors(cpu);
        cpu->platform.tpr_write(cpu->platform.ctx, value);
    }
    return 0;
}

enum op_result op_mov_to_cr(struct x86_cpu *cpu, const struct insn *insn)
{
    unsigned number = insn->reg;
    uint64_t value;
    int status = 0;

    if (number != 0 && number != 2 && number != 3 && number != 4 && number != 8)
        return op_raise(cpu, X86_UD);
    if (cpu->cpl != 0)
        return op_raise_gp0(cpu);
    value = op_get_gpr(cpu, insn, insn->rm, op_wide_size(cpu));
    switch (number) {
    case 0:
        status = control_write_cr0(cpu, value);
        break;
    case 2:
        cpu->cr2 = value;
        break;
    case 3:
        status = control_write_cr3(cpu, value);
        break;
    case 4:
        status = control_write_cr4(cpu, value);
        break;
    default:
        status = write_cr8(cpu, value);
        break;
    }
    return status < 0 ? OP_FAULT : OP_NEXT;
}

enum op_result op_lmsw(struct x86_cpu *cpu, const struct insn *insn)
{
    const uint64_t low = X86_CR0_MP | X86_CR0_EM | X86_CR0_TS;
    uint64_t value;

    if (cpu->cpl != 0)
        return op_raise_gp0(cpu);
    if (op_read_rm(cpu, insn, 2, &value) < 0)
        return OP_FAULT;
    /* LMSW can set PE but not clear it. */
    value = (cpu->cr0 & ~low) | (value & (low | X86_CR0_PE));
    return control_write_cr0(cpu, value) < 0 ? OP_FAULT : OP_NEXT;
}

enum op_result op_smsw(struct x86_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->mem.present ? 2 : insn->opsize;

    if ((cpu->cr4 & X86_CR4_UMIP) && cpu->cpl != 0)
        return op_raise_gp0(cpu);
    return op_write_rm(cpu, insn, size, cpu->cr0) < 0 ? OP_FAULT : OP_NEXT;
}

enum op_result op_clts(struct x86_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    if (cpu->cpl != 0)
        return op_raise_gp0(cpu);
    if (cpu->cr0 & X86_CR0_TS) {
        cpu->cr0 &= ~(uint64_t)X86_CR0_TS;
        cpu->dirty |= X86_DIRTY_MODE;
    }
    return OP_NEXT;
}

enum op_result op_invlpg(struct x86_cpu *cpu, const struct insn *insn)
{
    uint64_t linear;

    if (!insn->mem.present)
        return op_raise(cpu, X86_UD);
    if (cpu->cpl != 0)
        return op_raise_gp0(cpu);
    /* The address is not accessed: no limit, type or canonical fault. */
    linear = mmu_wrap(cpu, op_seg_base(cpu, insn->mem.seg) + op_offset(cpu, insn));
    if (!x86_code64(cpu) || mmu_canonical(linear)) {
        mmu_flush_page(cpu, linear);
        cpu->dirty |= X86_DIRTY_ADDRESS;
    }
    return OP_NEXT;
}

enum op_result op_invpcid(struct x86_cpu *cpu, const struct insn *insn)
{
    enum { INVPCID_ADDRESS, INVPCID_CONTEXT, INVPCID_ALL, INVPCID_ALL_NONGLOBAL };
    uint64_t descriptor[2], type;

    if (!op_exists(cpu, insn) || !insn->mem.present)
        return op_raise(cpu, X86_UD);
    if (cpu->cpl != 0)
        return op_raise_gp0(cpu);
    type = op_get_gpr(cpu, insn, insn->reg, op_wide_size(cpu));
    if (type > INVPCID_ALL_NONGLOBAL)
        return op_raise_gp0(cpu);
    if (seg_read(cpu, (enum x86_segreg)insn->mem.seg, op_offset(cpu, insn), descriptor, 16) < 0)
        return OP_FAULT;
    if (descriptor[0] >> 12)
        return op_raise_gp0(cpu);
    if (type <= INVPCID_CONTEXT && !(cpu->cr4 & X86_CR4_PCIDE) && descriptor[0])
        return op_raise_gp0(cpu);
    if (type == INVPCID_ADDRESS && !mmu_canonical(descriptor[1]))
        return op_raise_gp0(cpu);
    if (type == INVPCID_ADDRESS)
        mmu_flush_page(cpu, descriptor[1]);
    else if (type == INVPCID_ALL)
        mmu_flush_all(cpu);
    else
        mmu_flush_nonglobal(cpu);
    cpu->dirty |= X86_DIRTY_ADDRESS;
    return OP_NEXT;
}

/* Guest memory is always coherent: there is no cache to write back. */
enum op_result op_wbinvd(struct x86_cpu *cpu, const struct insn *insn)
{
    (void)insn;
    return cpu->cpl != 0 ? op_raise_gp0(cpu) : OP_NEXT;
}
