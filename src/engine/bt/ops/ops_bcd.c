#include "engine/bt/ops/ops_common.h"
#include "engine/bt/ops/ops_list.h"

/*
 * Decimal adjustment (SDM vol. 2). The flags that the manual leaves undefined are those of the
 * addition or subtraction of the adjustment: AX +- 106H for AAA and AAS, AL +- 06H, 60H or 66H for
 * DAA and DAS, AL + AH * base for AAD. So the processors that were measured do it, and the tests
 * compare with the host's.
 */

enum { ADJUST_FLAGS = X86_AF | X86_CF };

/* Flags of a + b in bytes size, by the host. */
static uint32_t add_flags(unsigned size, uint64_t a, uint64_t b)
{
    if (size == 1)
        __asm__("addb %b[b], %b[a]; lahf; seto %%al" : [a] "+a"(a) : [b] "r"(b) : "cc");
    else
        __asm__("addw %w[b], %w[a]; lahf; seto %%al" : [a] "+a"(a) : [b] "r"(b) : "cc");
    return (uint32_t)(a >> 8 & 0xd5) | (uint32_t)(a & 1) << 11;
}

static uint32_t subtract_flags(unsigned size, uint64_t a, uint64_t b)
{
    if (size == 1)
        __asm__("subb %b[b], %b[a]; lahf; seto %%al" : [a] "+a"(a) : [b] "r"(b) : "cc");
    else
        __asm__("subw %w[b], %w[a]; lahf; seto %%al" : [a] "+a"(a) : [b] "r"(b) : "cc");
    return (uint32_t)(a >> 8 & 0xd5) | (uint32_t)(a & 1) << 11;
}

static void set_flags(struct x86_cpu *cpu, uint32_t flags)
{
    cpu->aflags = (cpu->aflags & ~(uint32_t)X86_ARITH_FLAGS) | (flags & X86_ARITH_FLAGS);
}

static void set_ax(struct x86_cpu *cpu, uint64_t value)
{
    cpu->gpr[X86_RAX] = (cpu->gpr[X86_RAX] & ~0xffffull) | (value & 0xffff);
}

static void set_al(struct x86_cpu *cpu, uint64_t value)
{
    cpu->gpr[X86_RAX] = (cpu->gpr[X86_RAX] & ~0xffull) | (value & 0xff);
}

static enum op_result ascii_adjust(struct x86_cpu *cpu, const struct insn *insn, bool add)
{
    uint64_t ax = cpu->gpr[X86_RAX] & 0xffff;
    bool adjust = (ax & 0xf) > 9 || (cpu->aflags & X86_AF);
    uint64_t by = adjust ? 0x106 : 0;
    uint32_t flags = add ? add_flags(2, ax, by) : subtract_flags(2, ax, by);

    if (insn->mode == 64)
        return op_raise(cpu, X86_UD);
    set_flags(cpu, (flags & ~(uint32_t)ADJUST_FLAGS) | (adjust ? ADJUST_FLAGS : 0));
    set_ax(cpu, (add ? ax + by : ax - by) & 0xff0f);
    return OP_NEXT;
}

enum op_result op_aaa(struct x86_cpu *cpu, const struct insn *insn)
{
    return ascii_adjust(cpu, insn, true);
}

enum op_result op_aas(struct x86_cpu *cpu, const struct insn *insn)
{
    return ascii_adjust(cpu, insn, false);
}

static enum op_result decimal_adjust(struct x86_cpu *cpu, const struct insn *insn, bool add)
{
    uint64_t al = cpu->gpr[X86_RAX] & 0xff;
    bool low = (al & 0xf) > 9 || (cpu->aflags & X86_AF);
    bool high = al > 0x99 || (cpu->aflags & X86_CF);
    uint64_t by = (low ? 0x06u : 0) + (high ? 0x60u : 0);
    uint32_t flags = add ? add_flags(1, al, by) : subtract_flags(1, al, by);
    bool carry = high || (!add && low && al < 6); /* DAS: the borrow of AL - 6 counts too */

    if (insn->mode == 64)
        return op_raise(cpu, X86_UD);
    flags &= ~(uint32_t)ADJUST_FLAGS;
    set_flags(cpu, flags | (low ? (uint32_t)X86_AF : 0) | (carry ? (uint32_t)X86_CF : 0));
    set_al(cpu, add ? al + by : al - by);
    return OP_NEXT;
}

enum op_result op_daa(struct x86_cpu *cpu, const struct insn *insn)
{
    return decimal_adjust(cpu, insn, true);
}

enum op_result op_das(struct x86_cpu *cpu, const struct insn *insn)
{
    return decimal_adjust(cpu, insn, false);
}

enum op_result op_aam(struct x86_cpu *cpu, const struct insn *insn)
{
    uint32_t base = (uint8_t)insn->imm, al = (uint8_t)cpu->gpr[X86_RAX];

    if (insn->mode == 64)
        return op_raise(cpu, X86_UD);
    if (base == 0)
        return op_raise(cpu, X86_DE);
    set_ax(cpu, (al / base) << 8 | al % base);
    set_flags(cpu, add_flags(1, al % base, 0));
    return OP_NEXT;
}

enum op_result op_aad(struct x86_cpu *cpu, const struct insn *insn)
{
    uint64_t base = (uint8_t)insn->imm, al = (uint8_t)cpu->gpr[X86_RAX];
    uint64_t tens = (cpu->gpr[X86_RAX] >> 8 & 0xff) * base & 0xff;

    if (insn->mode == 64)
        return op_raise(cpu, X86_UD);
    set_ax(cpu, (al + tens) & 0xff);
    set_flags(cpu, add_flags(1, al, tens));
    return OP_NEXT;
}

enum op_result op_salc(struct x86_cpu *cpu, const struct insn *insn)
{
    if (insn->mode == 64)
        return op_raise(cpu, X86_UD);
    set_al(cpu, cpu->aflags & X86_CF ? 0xff : 0);
    return OP_NEXT;
}
