#include "engine/bt/ops/ops_common.h"
#include "engine/bt/ops/ops_list.h"

enum {
    DR6_BD = 1 << 13, /* debug register access detected */
    DR6_WRITABLE = 0xe00f,
    DR7_ENABLED = 0xff, /* L0 G0 ... L3 G3 */
    DR7_GD = 1 << 13,
    DR7_FIXED = 0x400,
};
static const uint64_t dr6_fixed = 0xffff0ff0;
static const uint64_t dr7_writable = 0xffff23ff;

/* The register that the encoding means, or -1 with the fault of MOV DRn recorded. */
static int debug_register(struct x86_cpu *cpu, const struct insn *insn)
{
    int number = insn->reg;

    if (number > 7)
        return x86_raise(cpu, X86_UD);
    if (cpu->cpl != 0)
        return x86_raise_error(cpu, X86_GP, 0);
    if (number == 4 || number == 5) {
        if (cpu->cr4 & X86_CR4_DE)
            return x86_raise(cpu, X86_UD);
        number += 2;
    }
    if (cpu->dr[7] & DR7_GD) {
        x86_raise(cpu, X86_DB);
        cpu->fault.dr6 = DR6_BD;
        return -1;
    }
    return number;
}

enum op_result op_mov_from_dr(struct x86_cpu *cpu, const struct insn *insn)
{
    int number = debug_register(cpu, insn);

    if (number < 0)
        return OP_FAULT;
    op_set_gpr(cpu, insn, insn->rm, op_wide_size(cpu), cpu->dr[number]);
    return OP_NEXT;
}

/* A breakpoint keeps its page out of the TLB, and code at it out of translated blocks. */
static void breakpoints_changed(struct x86_cpu *cpu)
{
    mmu_flush_all(cpu);
    cpu->dirty |= X86_DIRTY_MODE | X86_DIRTY_ADDRESS;
}

static void write_dr7(struct x86_cpu *cpu, uint64_t value)
{
    uint64_t old = cpu->dr[7];

    cpu->dr[7] = (value & dr7_writable) | DR7_FIXED;
    if (cpu->dr[7] != old && ((cpu->dr[7] | old) & DR7_ENABLED))
        breakpoints_changed(cpu);
}

enum op_result op_mov_to_dr(struct x86_cpu *cpu, const struct insn *insn)
{
    int number = debug_register(cpu, insn);
    uint64_t value;

    if (number < 0)
        return OP_FAULT;
    value = op_get_gpr(cpu, insn, insn->rm, op_wide_size(cpu));
    if (number >= 6 && value >> 32)
        return op_raise_gp0(cpu);
    if (number == 7) {
        write_dr7(cpu, value);
    } else if (number == 6) {
        cpu->dr[6] = (value & DR6_WRITABLE) | dr6_fixed;
    } else if (cpu->dr[number] != value) {
        cpu->dr[number] = value;
        if (cpu->dr[7] >> (2 * number) & 3)
            breakpoints_changed(cpu);
    }
    return OP_NEXT;
}
