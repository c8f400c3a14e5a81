#include "engine/bt/ops.h"
#include "engine/bt/transfer/descriptor.h"

uint64_t op_offset(const struct x86_cpu *cpu, const struct insn *insn)
{
    const struct insn_mem *mem = &insn->mem;
    uint64_t offset = (uint64_t)mem->disp;

    if (mem->rip_relative)
        offset += cpu->rip + insn->len;
    if (mem->base != GPR_NONE)
        offset += cpu->gpr[mem->base & 15];
    if (mem->index != GPR_NONE)
        offset += cpu->gpr[mem->index & 15] << mem->scale;
    return offset & bytes_mask(insn->addrsize);
}

/* AH, CH, DH and BH are the numbers 4-7 when no REX prefix is there. */
static bool is_high8(const struct insn *insn, unsigned reg, unsigned size)
{
    return size == 1 && reg >= 4 && reg < 8 && !insn->rex && insn->encoding == ENC_LEGACY;
}

uint64_t op_get_gpr(const struct x86_cpu *cpu, const struct insn *insn, unsigned reg, unsigned size)
{
    if (is_high8(insn, reg, size))
        return (cpu->gpr[reg - 4] >> 8) & 0xff;
    return cpu->gpr[reg & 15] & bytes_mask(size);
}

void op_set_gpr(struct x86_cpu *cpu, const struct insn *insn, unsigned reg, unsigned size,
                uint64_t value)
{
    uint64_t mask = bytes_mask(size);

    if (is_high8(insn, reg, size)) {
        cpu->gpr[reg - 4] = (cpu->gpr[reg - 4] & ~0xff00ull) | (value & 0xff) << 8;
        return;
    }
    if (size < 4)
        value = (cpu->gpr[reg & 15] & ~mask) | (value & mask);
    else
        value &= mask;
    cpu->gpr[reg & 15] = value;
}

int op_read_rm(struct x86_cpu *cpu, const struct insn *insn, unsigned size, uint64_t *value)
{
    *value = 0;
    if (insn->mem.present)
        return seg_read(cpu, (enum x86_segreg)insn->mem.seg, op_offset(cpu, insn), value, size);
    *value = op_get_gpr(cpu, insn, insn->rm, size);
    return 0;
}

int op_write_rm(struct x86_cpu *cpu, const struct insn *insn, unsigned size, uint64_t value)
{
    if (insn->mem.present)
        return seg_write(cpu, (enum x86_segreg)insn->mem.seg, op_offset(cpu, insn), &value, size);
    op_set_gpr(cpu, insn, insn->rm, size, value);
    return 0;
}

static uint64_t stack_mask(const struct x86_cpu *cpu)
{
    return bytes_mask(x86_stack_bits(cpu) / 8);
}

void op_stack_begin(struct op_stack *stack, struct x86_cpu *cpu)
{
    stack->cpu = cpu;
    stack->sp = cpu->gpr[X86_RSP];
}

int op_push(struct op_stack *stack, unsigned size, uint64_t value)
{
    uint64_t mask = stack_mask(stack->cpu);
    uint64_t sp = (stack->sp - size) & mask;

    if (seg_write(stack->cpu, X86_SS, sp, &value, size) < 0)
        return -1;
    stack->sp = (stack->sp & ~mask) | sp;
    return 0;
}

int op_pop(struct op_stack *stack, unsigned size, uint64_t *value)
{
    uint64_t mask = stack_mask(stack->cpu);
    uint64_t sp = stack->sp & mask;

    *value = 0;
    if (seg_read(stack->cpu, X86_SS, sp, value, size) < 0)
        return -1;
    stack->sp = (stack->sp & ~mask) | ((sp + size) & mask);
    return 0;
}

void op_stack_commit(const struct op_stack *stack)
{
    struct x86_cpu *cpu = stack->cpu;
    uint64_t mask = stack_mask(cpu);

    if (mask == 0xffff)
        cpu->gpr[X86_RSP] = (cpu->gpr[X86_RSP] & ~mask) | (stack->sp & mask);
    else
        cpu->gpr[X86_RSP] = stack->sp & mask;
}
