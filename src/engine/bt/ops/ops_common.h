/* Small helpers that the operations of this folder share. */
#ifndef VD_ENGINE_BT_OPS_COMMON_H
#define VD_ENGINE_BT_OPS_COMMON_H

#include "base/bytes.h"
#include "engine/bt/ops.h"

/* An instruction exists if the model offers its feature; the decoder's row names it. */
static inline bool op_exists(const struct x86_cpu *cpu, const struct insn *insn)
{
    return cpuid_has(&cpu->cpuid, (enum x86_feature)insn->feature);
}

/* Bytes of a control or debug register operand: these ignore operand-size prefixes. */
static inline unsigned op_wide_size(const struct x86_cpu *cpu)
{
    return x86_code64(cpu) ? 8 : 4;
}

/* Segment base as address computation uses it: 64-bit mode ignores all but FS and GS. */
static inline uint64_t op_seg_base(const struct x86_cpu *cpu, unsigned seg)
{
    return x86_code64(cpu) && seg != X86_FS && seg != X86_GS ? 0 : cpu->seg[seg].base;
}

/* Writes a counter or index register by address size: 16 bits merge, 32 bits zero-extend. */
static inline void op_set_address_reg(struct x86_cpu *cpu, enum x86_gpr reg, unsigned bytes,
                                      uint64_t value)
{
    if (bytes == 2)
        cpu->gpr[reg] = (cpu->gpr[reg] & ~0xffffull) | (value & 0xffff);
    else
        cpu->gpr[reg] = value & bytes_mask(bytes);
}

/* 32-bit results of implicit registers (EAX, EDX, ...) clear the upper half. */
static inline void op_set_gpr32(struct x86_cpu *cpu, enum x86_gpr reg, uint32_t value)
{
    cpu->gpr[reg] = value;
}

static inline uint64_t op_edx_eax(const struct x86_cpu *cpu)
{
    return (uint64_t)(uint32_t)cpu->gpr[X86_RDX] << 32 | (uint32_t)cpu->gpr[X86_RAX];
}

static inline void op_set_edx_eax(struct x86_cpu *cpu, uint64_t value)
{
    op_set_gpr32(cpu, X86_RAX, (uint32_t)value);
    op_set_gpr32(cpu, X86_RDX, (uint32_t)(value >> 32));
}

/* The guest's time stamp counter. */
static inline uint64_t op_guest_tsc(struct x86_cpu *cpu)
{
    if (!cpu->platform.tsc_read)
        return cpu->tsc_offset;
    return cpu->platform.tsc_read(cpu->platform.ctx) + cpu->tsc_offset;
}

#endif
