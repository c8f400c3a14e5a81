#include "memory/mmu.h"

static int segment_fault(struct x86_cpu *cpu, enum x86_segreg seg)
{
    return x86_raise_error(cpu, seg == X86_SS ? X86_SS_FAULT : X86_GP, 0);
}

/* 64-bit mode: no limits and no types; only FS, GS and the system segments have a base. */
static int linear_64(struct x86_cpu *cpu, enum x86_segreg seg, uint64_t offset, unsigned size,
                     uint64_t *linear)
{
    uint64_t base = seg >= X86_FS ? cpu->seg[seg].base : 0;
    uint64_t address = base + offset;
    if (!mmu_canonical(address) || !mmu_canonical(address + size - 1))
        return segment_fault(cpu, seg);
    *linear = address;
    return 0;
}

/*
 * Offsets within the limit (SDM vol. 3, 5.3). An access that wraps around the end of the offset
 * space is outside of it.
 */
static bool within_limit(const struct x86_segment *segment, uint64_t offset, unsigned size)
{
    uint64_t last = offset + size - 1;
    bool expand_down =
        (segment->attr & (X86_AR_S | X86_AR_CODE | X86_AR_EC)) == ((uint32_t)X86_AR_S | X86_AR_EC);
    if (!expand_down)
        return last <= segment->limit;
    uint64_t upper = segment->attr & X86_AR_DB ? 0xffffffff : 0xffff;
    return offset > segment->limit && last <= upper;
}

/* Types (SDM vol. 3, 5.5); real and virtual-8086 mode do not look at them. */
static bool type_allows(const struct x86_segment *segment, bool write)
{
    if (segment->attr & X86_AR_UNUSABLE)
        return false;
    if (!(segment->attr & X86_AR_S))
        return true; /* LDT and TSS are accessed by the processor itself */
    if (segment->attr & X86_AR_CODE)
        return !write && (segment->attr & X86_AR_WR);
    return !write || (segment->attr & X86_AR_WR);
}

int seg_linear(struct x86_cpu *cpu, enum x86_segreg seg, uint64_t offset, unsigned size, bool write,
               uint64_t *linear)
{
    if (x86_code64(cpu))
        return linear_64(cpu, seg, offset, size, linear);
    const struct x86_segment *segment = &cpu->seg[seg];
    if (offset + size > (write ? segment->write_end : segment->read_end)) {
        if (x86_protected_mode(cpu) && !type_allows(segment, write))
            return x86_raise_error(cpu, X86_GP, 0);
        if (!within_limit(segment, offset, size))
            return segment_fault(cpu, seg);
    }
    *linear = (uint32_t)(segment->base + offset);
    return 0;
}

int seg_read_parts(struct x86_cpu *cpu, enum x86_segreg seg, uint64_t offset, void *buffer,
                   unsigned size, unsigned alignment)
{
    uint64_t linear;
    if (seg_linear(cpu, seg, offset, size, false, &linear) < 0 ||
        mmu_check_alignment(cpu, linear, alignment) < 0)
        return -1;
    return mmu_read(cpu, linear, buffer, size, mmu_cpl_access(cpu));
}

int seg_write_parts(struct x86_cpu *cpu, enum x86_segreg seg, uint64_t offset, const void *buffer,
                    unsigned size, unsigned alignment)
{
    uint64_t linear;
    if (seg_linear(cpu, seg, offset, size, true, &linear) < 0 ||
        mmu_check_alignment(cpu, linear, alignment) < 0)
        return -1;
    return mmu_write(cpu, linear, buffer, size, mmu_cpl_access(cpu) | MMU_WRITE);
}

int seg_read(struct x86_cpu *cpu, enum x86_segreg seg, uint64_t offset, void *buffer, unsigned size)
{
    return seg_read_parts(cpu, seg, offset, buffer, size, mmu_natural_alignment(size));
}

int seg_write(struct x86_cpu *cpu, enum x86_segreg seg, uint64_t offset, const void *buffer,
              unsigned size)
{
    return seg_write_parts(cpu, seg, offset, buffer, size, mmu_natural_alignment(size));
}
