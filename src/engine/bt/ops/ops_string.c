#include "engine/bt/ops/ops_common.h"
#include "engine/bt/ops/ops_list.h"
#include "engine/bt/ops/string_native.h"
#include "engine/bt/ops/string_walk.h"

/*
 * Every string instruction of the guest that is not inlined ends here, so the loop works in chunks:
 * as far as both operands reach within their pages, one look into the TLB each, then the host's own
 * instruction. What cannot be reached directly (devices, traced pages, elements across two pages,
 * odd segments) goes one element at a time. Registers are up to date after each chunk, so a fault
 * or an interrupt between two of them needs no unwinding.
 */

/* One element of MOVS. Both ends are checked before the source is read: reads may have effects. */
static int move_element(const struct string_walk *walk, uint64_t from, uint64_t to)
{
    enum x86_segreg source = (enum x86_segreg)walk->source;
    uint64_t value = 0;

    if (string_probe(walk, source, from, false) < 0 || string_probe(walk, X86_ES, to, true) < 0)
        return -1;
    if (seg_read(walk->cpu, source, from, &value, walk->size) < 0)
        return -1;
    return seg_write(walk->cpu, X86_ES, to, &value, walk->size);
}

enum op_result op_movs(struct x86_cpu *cpu, const struct insn *insn)
{
    struct string_walk walk;
    enum op_result result = OP_JUMP;

    string_begin(&walk, cpu, insn);
    while (result == OP_JUMP) {
        uint64_t from = string_offset(&walk, X86_RSI), to = string_offset(&walk, X86_RDI);
        uint64_t n = string_remaining(&walk);
        uint8_t *source, *target;
        int64_t reach;

        if (n == 0)
            return OP_NEXT;
        reach = string_map(&walk, (enum x86_segreg)walk.source, from, false, n, &source);
        if (reach > 0)
            reach = string_map(&walk, X86_ES, to, true, (uint64_t)reach, &target);
        if (reach < 0)
            return OP_FAULT;
        if (reach > 0) {
            n = (uint64_t)reach;
            native_movs(walk.size, walk.down, target, source, n);
        } else {
            n = 1;
            if (move_element(&walk, from, to) < 0)
                return OP_FAULT;
        }
        string_advance(&walk, X86_RSI, n);
        string_advance(&walk, X86_RDI, n);
        result = string_count(&walk, n);
    }
    return result;
}

enum op_result op_stos(struct x86_cpu *cpu, const struct insn *insn)
{
    struct string_walk walk;
    enum op_result result = OP_JUMP;

    string_begin(&walk, cpu, insn);
    while (result == OP_JUMP) {
        uint64_t to = string_offset(&walk, X86_RDI);
        uint64_t n = string_remaining(&walk);
        uint8_t *target;
        int64_t reach;

        if (n == 0)
            return OP_NEXT;
        reach = string_map(&walk, X86_ES, to, true, n, &target);
        if (reach < 0)
            return OP_FAULT;
        if (reach > 0) {
            n = (uint64_t)reach;
            native_stos(walk.size, walk.down, target, cpu->gpr[X86_RAX], n);
        } else {
            n = 1;
            if (seg_write(cpu, X86_ES, to, &cpu->gpr[X86_RAX], walk.size) < 0)
                return OP_FAULT;
        }
        string_advance(&walk, X86_RDI, n);
        result = string_count(&walk, n);
    }
    return result;
}

static uint64_t load_element(const uint8_t *at, unsigned size)
{
    switch (size) {
    case 1:
        return *at;
    case 2:
        return __atomic_load_n((const uint16_t *)(const void *)at, __ATOMIC_RELAXED);
    case 4:
        return __atomic_load_n((const uint32_t *)(const void *)at, __ATOMIC_RELAXED);
    default:
        return __atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_RELAXED);
    }
}

enum op_result op_lods(struct x86_cpu *cpu, const struct insn *insn)
{
    struct string_walk walk;
    enum op_result result = OP_JUMP;

    string_begin(&walk, cpu, insn);
    while (result == OP_JUMP) {
        enum x86_segreg seg = (enum x86_segreg)walk.source;
        uint64_t from = string_offset(&walk, X86_RSI);
        uint64_t n = string_remaining(&walk), value = 0;
        uint8_t *source;
        int64_t reach;

        if (n == 0)
            return OP_NEXT;
        reach = string_map(&walk, seg, from, false, n, &source);
        if (reach < 0)
            return OP_FAULT;
        if (reach > 0) { /* of plain memory only the last element is seen again */
            uint64_t last = (uint64_t)(reach - 1) << walk.shift;

            n = (uint64_t)reach;
            value = load_element(walk.down ? source - last : source + last, walk.size);
        } else {
            n = 1;
            if (seg_read(cpu, seg, from, &value, walk.size) < 0)
                return OP_FAULT;
        }
        /* AL, AX merge, EAX zero-extends: as an address-size register does, but for AL */
        if (walk.size == 1)
            cpu->gpr[X86_RAX] = (cpu->gpr[X86_RAX] & ~0xffull) | value;
        else
            op_set_address_reg(cpu, X86_RAX, walk.size, value);
        string_advance(&walk, X86_RSI, n);
        result = string_count(&walk, n);
    }
    return result;
}

/* The end of one step of SCAS or CMPS: flags, count, and the condition of REPE and REPNE. */
static enum op_result compared(const struct string_walk *walk, uint32_t flags, uint64_t n)
{
    struct x86_cpu *cpu = walk->cpu;
    enum op_result result;

    cpu->aflags = (cpu->aflags & ~(uint32_t)X86_ARITH_FLAGS) | flags;
    result = string_count(walk, n);
    return ((flags & X86_ZF) != 0) == (walk->repeat == REPEAT_EQUAL) ? result : OP_NEXT;
}

enum op_result op_scas(struct x86_cpu *cpu, const struct insn *insn)
{
    struct string_walk walk;
    enum op_result result = OP_JUMP;

    string_begin(&walk, cpu, insn);
    while (result == OP_JUMP) {
        uint64_t at = string_offset(&walk, X86_RDI);
        uint64_t n = string_remaining(&walk), value = 0;
        uint8_t *memory;
        uint32_t flags;
        int64_t reach;

        if (n == 0)
            return OP_NEXT;
        reach = string_map(&walk, X86_ES, at, false, n, &memory);
        if (reach < 0)
            return OP_FAULT;
        if (reach > 0) {
            n = native_scas(walk.size, walk.down, walk.repeat == REPEAT_EQUAL, memory,
                            cpu->gpr[X86_RAX], (uint64_t)reach, &flags);
        } else {
            n = 1;
            if (seg_read(cpu, X86_ES, at, &value, walk.size) < 0)
                return OP_FAULT;
            flags = native_compare(walk.size, cpu->gpr[X86_RAX], value);
        }
        string_advance(&walk, X86_RDI, n);
        result = compared(&walk, flags, n);
    }
    return result;
}

static int compare_element(const struct string_walk *walk, uint64_t first, uint64_t second,
                           uint32_t *flags)
{
    enum x86_segreg source = (enum x86_segreg)walk->source;
    uint64_t a = 0, b = 0;

    if (string_probe(walk, source, first, false) < 0 ||
        string_probe(walk, X86_ES, second, false) < 0)
        return -1;
    if (seg_read(walk->cpu, source, first, &a, walk->size) < 0 ||
        seg_read(walk->cpu, X86_ES, second, &b, walk->size) < 0)
        return -1;
    *flags = native_compare(walk->size, a, b);
    return 0;
}

enum op_result op_cmps(struct x86_cpu *cpu, const struct insn *insn)
{
    struct string_walk walk;
    enum op_result result = OP_JUMP;

    string_begin(&walk, cpu, insn);
    while (result == OP_JUMP) {
        uint64_t first = string_offset(&walk, X86_RSI), second = string_offset(&walk, X86_RDI);
        uint64_t n = string_remaining(&walk);
        uint8_t *a, *b;
        uint32_t flags;
        int64_t reach;

        if (n == 0)
            return OP_NEXT;
        /* Where both operands fault, AMD's processors report that in ES, but for REPE CMPSB. */
        bool fast = walk.repeat == REPEAT_EQUAL && walk.size == 1;
        if (!fast && string_probe(&walk, X86_ES, second, false) < 0)
            return OP_FAULT;
        reach = string_map(&walk, (enum x86_segreg)walk.source, first, false, n, &a);
        if (reach > 0)
            reach = string_map(&walk, X86_ES, second, false, (uint64_t)reach, &b);
        if (reach < 0)
            return OP_FAULT;
        if (reach > 0) {
            n = native_cmps(walk.size, walk.down, walk.repeat == REPEAT_EQUAL, a, b,
                            (uint64_t)reach, &flags);
        } else {
            n = 1;
            if (compare_element(&walk, first, second, &flags) < 0)
                return OP_FAULT;
        }
        string_advance(&walk, X86_RSI, n);
        string_advance(&walk, X86_RDI, n);
        result = compared(&walk, flags, n);
    }
    return result;
}
