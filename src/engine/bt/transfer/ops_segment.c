/*
 * Loads and stores of the data segment registers: MOV, PUSH, POP, LDS and its siblings (SDM vol. 2;
 * vol. 3, 3.4.3 and 5.4-5.8).
 */
#include "engine/bt/transfer/descriptor.h"
#include "engine/bt/transfer/transfer.h"

enum { OPCODE_LES = 0xc4, OPCODE_LDS = 0xc5, OPCODE_LSS = 0xb2, OPCODE_LFS = 0xb4 };

void cpu_set_cpl(struct x86_cpu *cpu, unsigned cpl)
{
    if (cpu->cpl != cpl)
        cpu->dirty |= X86_DIRTY_MODE;
    cpu->cpl = (uint8_t)cpl;
}

static int load_ss(struct x86_cpu *cpu, uint16_t selector)
{
    uint32_t error = selector_error(selector);
    struct x86_segment *ss = &cpu->seg[X86_SS];
    struct descriptor d;

    if (selector_null(selector)) {
        if (!x86_code64(cpu) || cpu->cpl == 3 || (selector & 3) != cpu->cpl)
            return x86_raise_error(cpu, X86_GP, 0);
        segment_fill_null(ss, selector);
        ss->attr |= (uint32_t)cpu->cpl << X86_AR_DPL_SHIFT;
        return 0;
    }
    if (descriptor_read(cpu, selector, X86_GP, &d) < 0)
        return -1;
    if ((selector & 3) != cpu->cpl || descriptor_dpl(&d) != cpu->cpl ||
        !descriptor_is_writable_data(&d))
        return x86_raise_error(cpu, X86_GP, error);
    if (!descriptor_present(&d))
        return x86_raise_error(cpu, X86_SS_FAULT, error);
    if (descriptor_set_accessed(cpu, &d) < 0)
        return -1;
    segment_fill(ss, &d, selector);
    return 0;
}

int segment_load(struct x86_cpu *cpu, enum x86_segreg seg, uint16_t selector)
{
    uint32_t before = mode_fingerprint(cpu);
    int result = 0;

    if (!x86_protected_mode(cpu))
        segment_fill_8086(cpu, seg, selector);
    else
        result =
            seg == X86_SS ? load_ss(cpu, selector) : segment_load_data(cpu, seg, selector, X86_GP);
    mode_note_change(cpu, before);
    return result;
}

enum op_result op_mov_to_seg(struct x86_cpu *cpu, const struct insn *insn)
{
    unsigned seg = (insn->modrm >> 3) & 7;
    uint64_t selector;

    if (seg == X86_CS || seg > X86_GS)
        return op_raise(cpu, X86_UD);
    if (op_read_rm(cpu, insn, 2, &selector) < 0)
        return OP_FAULT;
    if (segment_load(cpu, (enum x86_segreg)seg, (uint16_t)selector) < 0)
        return OP_FAULT;
    if (seg == X86_SS)
        cpu->shadow = X86_SHADOW_MOV_SS;
    return OP_NEXT;
}

enum op_result op_mov_from_seg(struct x86_cpu *cpu, const struct insn *insn)
{
    unsigned seg = (insn->modrm >> 3) & 7;
    unsigned size = insn->mem.present ? 2 : insn->opsize;

    if (seg > X86_GS)
        return op_raise(cpu, X86_UD);
    return op_write_rm(cpu, insn, size, cpu->seg[seg].selector) < 0 ? OP_FAULT : OP_NEXT;
}

/* The register number sits in the opcode: 06 0E 16 1E, 0F A0, 0F A8 (and the odd ones of POP). */
static enum x86_segreg opcode_segment(const struct insn *insn)
{
    return (enum x86_segreg)((insn->opcode >> 3) & (insn->map == 0 ? 3 : 7));
}

enum op_result op_push_seg(struct x86_cpu *cpu, const struct insn *insn)
{
    struct op_stack stack;

    op_stack_begin(&stack, cpu);
    if (op_push(&stack, insn->opsize, cpu->seg[opcode_segment(insn)].selector) < 0)
        return OP_FAULT;
    op_stack_commit(&stack);
    return OP_NEXT;
}

enum op_result op_pop_seg(struct x86_cpu *cpu, const struct insn *insn)
{
    enum x86_segreg seg = opcode_segment(insn);
    uint64_t mask = bytes_mask(x86_stack_bits(cpu) / 8), rsp = cpu->gpr[X86_RSP];
    struct op_stack stack;
    uint64_t selector;

    op_stack_begin(&stack, cpu);
    if (op_pop(&stack, insn->opsize, &selector) < 0)
        return OP_FAULT;
    if (segment_load(cpu, seg, (uint16_t)selector) < 0)
        return OP_FAULT;
    /* The stack address size is that of the SS popped from, not of the one just loaded. */
    rsp = mask == 0xffff ? (rsp & ~mask) | (stack.sp & mask) : stack.sp & mask;
    cpu->gpr[X86_RSP] = rsp;
    if (seg == X86_SS)
        cpu->shadow = X86_SHADOW_MOV_SS;
    return OP_NEXT;
}

enum op_result op_load_far_pointer(struct x86_cpu *cpu, const struct insn *insn)
{
    enum x86_segreg seg = insn->opcode == OPCODE_LES   ? X86_ES
                          : insn->opcode == OPCODE_LDS ? X86_DS
                          : insn->opcode == OPCODE_LSS ? X86_SS
                          : insn->opcode == OPCODE_LFS ? X86_FS
                                                       : X86_GS;
    uint8_t pointer[10];

    if (!insn->mem.present)
        return op_raise(cpu, X86_UD);
    if (seg_read_parts(cpu, (enum x86_segreg)insn->mem.seg, op_offset(cpu, insn), pointer,
                       insn->opsize + 2u, far_pointer_alignment(insn->opsize)) < 0)
        return OP_FAULT;
    if (segment_load(cpu, seg, (uint16_t)bytes_load(pointer + insn->opsize, 2)) < 0)
        return OP_FAULT;
    op_set_gpr(cpu, insn, insn->reg, insn->opsize, bytes_load(pointer, insn->opsize));
    return OP_NEXT;
}
