#include "engine/bt/ops/string_walk.h"

#include "engine/bt/ops/ops_common.h"

enum { PAGE = 4096 };

/* F2 or F3, the last one if somebody wrote both. */
static enum string_repeat repeat_prefix(const struct insn *insn)
{
    unsigned both = insn->prefixes & (PREFIX_REP | PREFIX_REPNE);

    if (both == 0)
        return REPEAT_NONE;
    if (both == PREFIX_REP)
        return REPEAT_EQUAL;
    if (both == PREFIX_REPNE)
        return REPEAT_NOT_EQUAL;
    for (unsigned i = insn->len; i > 0; i--) {
        if (insn->bytes[i - 1] == 0xf2)
            return REPEAT_NOT_EQUAL;
        if (insn->bytes[i - 1] == 0xf3)
            return REPEAT_EQUAL;
    }
    return REPEAT_NONE;
}

void string_begin(struct string_walk *walk, struct x86_cpu *cpu, const struct insn *insn)
{
    unsigned size = insn->opcode & 1 ? insn->opsize : 1;

    walk->cpu = cpu;
    walk->address = insn->addrsize;
    walk->mask = bytes_mask(insn->addrsize);
    walk->size = (uint8_t)size;
    walk->shift = (uint8_t)__builtin_ctz(size);
    walk->source = insn->mem.seg;
    walk->repeat = (uint8_t)repeat_prefix(insn);
    walk->down = (cpu->aflags & X86_DF_FLAG) != 0;
    walk->code64 = x86_code64(cpu);
}

uint64_t string_remaining(const struct string_walk *walk)
{
    uint64_t count;

    if (walk->repeat == REPEAT_NONE)
        return 1;
    count = walk->cpu->gpr[X86_RCX] & walk->mask;
    return count && (walk->cpu->sflags & X86_TF) ? 1 : count;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/*
 * Bytes that may be accessed from offset upwards without a closer look, by segment limit and by the
 * wrap of the offset; *linear is the address of offset. 0: look closer.
 */
static uint64_t reach(const struct string_walk *walk, enum x86_segreg seg, uint64_t offset,
                      bool write, uint64_t *linear)
{
    const struct x86_segment *segment = &walk->cpu->seg[seg];
    uint64_t end;

    if (walk->code64) {
        *linear = offset + (seg >= X86_FS ? segment->base : 0);
        if (!mmu_canonical(*linear))
            return 0;
        end = walk->mask;
        return end - offset >= PAGE ? PAGE : end - offset + 1;
    }
    *linear = (uint32_t)(segment->base + offset);
    end = smaller(write ? segment->write_end : segment->read_end, walk->mask + 1);
    return offset < end ? end - offset : 0;
}

int64_t string_map(const struct string_walk *walk, enum x86_segreg seg, uint64_t offset, bool write,
                   uint64_t count, uint8_t **host)
{
    struct x86_cpu *cpu = walk->cpu;
    unsigned user = cpu->cpl == 3;
    const struct tlb_entry *entry;
    uint64_t linear, bytes, in_page, delta;

    bytes = reach(walk, seg, offset, write, &linear);
    if ((linear & (walk->size - 1u)) && x86_checks_alignment(cpu))
        return 0;
    in_page = linear & (PAGE - 1);
    bytes = smaller(bytes, PAGE - in_page);
    if (bytes < walk->size)
        return 0;
    if (walk->down)
        count = smaller(count, (smaller(in_page, offset) >> walk->shift) + 1);
    else
        count = smaller(count, bytes >> walk->shift);

    entry = &cpu->mmu->tlb[user][linear >> 12 & TLB_MASK];
    delta = linear - (write ? entry->write_tag : entry->read_tag);
    if (delta < PAGE) {
        *host = (uint8_t *)(uintptr_t)(entry->host + delta);
        return (int64_t)count;
    }
    switch (mmu_fill(cpu, linear, walk->size,
                     mmu_cpl_access(cpu) | (write ? (unsigned)MMU_WRITE : 0), host)) {
    case MMU_DIRECT:
        return (int64_t)count;
    case MMU_INDIRECT:
        return 0;
    default:
        return -1;
    }
}

int string_probe(const struct string_walk *walk, enum x86_segreg seg, uint64_t offset, bool write)
{
    struct x86_cpu *cpu = walk->cpu;
    uint64_t linear;

    if (seg_linear(cpu, seg, offset, walk->size, write, &linear) < 0 ||
        mmu_check_alignment(cpu, linear, walk->size) < 0)
        return -1;
    return mmu_probe(cpu, linear, walk->size,
                     mmu_cpl_access(cpu) | (write ? (unsigned)MMU_WRITE : 0));
}

void string_advance(const struct string_walk *walk, enum x86_gpr reg, uint64_t n)
{
    uint64_t bytes = n << walk->shift;
    uint64_t value = walk->cpu->gpr[reg];

    op_set_address_reg(walk->cpu, reg, walk->address, walk->down ? value - bytes : value + bytes);
}

enum op_result string_count(const struct string_walk *walk, uint64_t n)
{
    struct x86_cpu *cpu = walk->cpu;
    uint64_t left;

    if (walk->repeat == REPEAT_NONE)
        return OP_NEXT;
    left = (cpu->gpr[X86_RCX] & walk->mask) - n;
    op_set_address_reg(cpu, X86_RCX, walk->address, left);
    if (left == 0)
        return OP_NEXT;
    return cpu->exit_request || (cpu->sflags & X86_TF) || cpu->mmu->debug_hits ? OP_REPEAT
                                                                               : OP_JUMP;
}
