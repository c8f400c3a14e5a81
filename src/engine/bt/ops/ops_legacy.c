#include "engine/bt/ops/ops_common.h"
#include "engine/bt/ops/ops_list.h"
#include "engine/bt/ops/xstate.h"

static uint64_t stack_mask(const struct x86_cpu *cpu)
{
    return bytes_mask(x86_stack_bits(cpu) / 8);
}

enum op_result op_pusha(struct x86_cpu *cpu, const struct insn *insn)
{
    struct op_stack stack;

    if (insn->mode == 64)
        return op_raise(cpu, X86_UD);
    op_stack_begin(&stack, cpu);
    /* in the order of their numbers; the SP pushed is the one before the instruction */
    for (unsigned reg = X86_RAX; reg <= X86_RDI; reg++) {
        if (op_push(&stack, insn->opsize, cpu->gpr[reg]) < 0)
            return OP_FAULT;
    }
    op_stack_commit(&stack);
    return OP_NEXT;
}

/* Loads one register after the other, so that a fault leaves those before it loaded. */
enum op_result op_popa(struct x86_cpu *cpu, const struct insn *insn)
{
    struct op_stack stack;
    uint64_t value;

    if (insn->mode == 64)
        return op_raise(cpu, X86_UD);
    op_stack_begin(&stack, cpu);
    for (unsigned reg = 8; reg-- > 0;) {
        if (op_pop(&stack, insn->opsize, &value) < 0)
            return OP_FAULT;
        if (reg != X86_RSP) /* skipped, not loaded */
            op_set_address_reg(cpu, (enum x86_gpr)reg, insn->opsize, value);
    }
    op_stack_commit(&stack);
    return OP_NEXT;
}

/* Copies the frame pointers of the enclosing procedures (levels 1 to level - 1). */
static int enter_display(struct op_stack *stack, unsigned size, unsigned level)
{
    struct x86_cpu *cpu = stack->cpu;
    uint64_t mask = stack_mask(cpu), bp = cpu->gpr[X86_RBP], value;

    for (unsigned i = 1; i < level; i++) {
        bp = (bp - size) & mask;
        value = 0;
        if (seg_read(cpu, X86_SS, bp, &value, size) < 0 || op_push(stack, size, value) < 0)
            return -1;
    }
    return 0;
}

enum op_result op_enter(struct x86_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->opsize;
    uint64_t allocate = (uint16_t)insn->imm;
    unsigned level = insn->bytes[insn->imm_off + 2] & 31;
    uint64_t mask = stack_mask(cpu), frame, last, linear;
    struct op_stack stack;

    op_stack_begin(&stack, cpu);
    if (op_push(&stack, size, cpu->gpr[X86_RBP]) < 0)
        return OP_FAULT;
    frame = stack.sp;
    if (level > 0) {
        if (enter_display(&stack, size, level) < 0 || op_push(&stack, size, frame) < 0)
            return OP_FAULT;
    }
    /* A write of an item at the final stack pointer must be possible (SDM vol. 2, ENTER). */
    last = (stack.sp - allocate) & mask;
    if (seg_linear(cpu, X86_SS, last, size, true, &linear) < 0 ||
        mmu_check_alignment(cpu, linear, size) < 0 ||
        mmu_probe(cpu, linear, size, mmu_cpl_access(cpu) | MMU_WRITE) < 0)
        return OP_FAULT;
    stack.sp = (stack.sp & ~mask) | last;
    op_set_address_reg(cpu, X86_RBP, size, frame);
    op_stack_commit(&stack);
    return OP_NEXT;
}

enum op_result op_bound(struct x86_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->opsize == 2 ? 2 : 4;
    enum x86_segreg seg = (enum x86_segreg)insn->mem.seg;
    uint8_t bytes[8];
    uint64_t offset;
    int64_t index, lower, upper;

    if (insn->mode == 64 || !insn->mem.present)
        return op_raise(cpu, X86_UD);
    offset = op_offset(cpu, insn);
    if (seg_read(cpu, seg, offset, bytes, size) < 0 ||
        seg_read(cpu, seg, (offset + size) & bytes_mask(insn->addrsize), bytes + size, size) < 0)
        return OP_FAULT;
    if (size == 2) {
        index = (int16_t)op_get_gpr(cpu, insn, insn->reg, 2);
        lower = (int16_t)xs_get16(bytes);
        upper = (int16_t)xs_get16(bytes + 2);
    } else {
        index = (int32_t)op_get_gpr(cpu, insn, insn->reg, 4);
        lower = (int32_t)xs_get32(bytes);
        upper = (int32_t)xs_get32(bytes + 4);
    }
    if (index < lower || index > upper)
        return op_raise(cpu, X86_BR);
    return OP_NEXT;
}
