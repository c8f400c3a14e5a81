#include "engine/bt/transfer/descriptor.h"

int memory_probe(struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access)
{
    unsigned first = (unsigned)(0x100000000 - linear);

    if (x86_long_mode(cpu) || linear + size <= 0x100000000)
        return mmu_probe(cpu, linear, size, access);
    if (mmu_probe(cpu, linear, first, access) < 0)
        return -1;
    return mmu_probe(cpu, 0, size - first, access);
}

int memory_read(struct x86_cpu *cpu, uint64_t linear, void *buffer, unsigned size, unsigned access)
{
    unsigned first = (unsigned)(0x100000000 - linear);

    if (x86_long_mode(cpu) || linear + size <= 0x100000000)
        return mmu_read(cpu, linear, buffer, size, access | MMU_READ);
    if (mmu_read(cpu, linear, buffer, first, access | MMU_READ) < 0)
        return -1;
    return mmu_read(cpu, 0, (uint8_t *)buffer + first, size - first, access | MMU_READ);
}

int memory_write(struct x86_cpu *cpu, uint64_t linear, const void *buffer, unsigned size,
                 unsigned access)
{
    unsigned first = (unsigned)(0x100000000 - linear);

    if (x86_long_mode(cpu) || linear + size <= 0x100000000)
        return mmu_write(cpu, linear, buffer, size, access | MMU_WRITE);
    if (memory_probe(cpu, linear, size, access | MMU_WRITE) < 0)
        return -1;
    if (mmu_write(cpu, linear, buffer, first, access | MMU_WRITE) < 0)
        return -1;
    return mmu_write(cpu, 0, (const uint8_t *)buffer + first, size - first, access | MMU_WRITE);
}

bool descriptor_locate(const struct x86_cpu *cpu, uint16_t selector, unsigned size,
                       uint64_t *address)
{
    uint32_t offset = selector & 0xfff8u;

    if (selector & 4) {
        const struct x86_segment *ldt = &cpu->seg[X86_LDTR];

        if ((ldt->attr & X86_AR_UNUSABLE) || (uint64_t)offset + size - 1 > ldt->limit)
            return false;
        *address = system_wrap(cpu, ldt->base + offset);
        return true;
    }
    if (offset + size - 1 > cpu->gdtr.limit)
        return false;
    *address = system_wrap(cpu, cpu->gdtr.base + offset);
    return true;
}

int descriptor_read(struct x86_cpu *cpu, uint16_t selector, enum x86_vector vector,
                    struct descriptor *d)
{
    d->selector = selector;
    d->high = 0;
    if (!descriptor_locate(cpu, selector, 8, &d->address))
        return x86_raise_error(cpu, vector, selector_error(selector));
    return system_read(cpu, d->address, 8, &d->low);
}

int descriptor_read_high(struct x86_cpu *cpu, enum x86_vector vector, struct descriptor *d)
{
    uint64_t address;

    if (!x86_long_mode(cpu))
        return 0;
    if (!descriptor_locate(cpu, d->selector, 16, &address))
        return x86_raise_error(cpu, vector, selector_error(d->selector));
    if (system_read(cpu, address + 8, 8, &d->high) < 0)
        return -1;
    /* Bits 8-12 of the fourth doubleword would make it look like a descriptor of its own. */
    if (d->high & 0x1f0000000000)
        return x86_raise_error(cpu, vector, selector_error(d->selector));
    return 0;
}

int descriptor_write_type(struct x86_cpu *cpu, const struct descriptor *d, unsigned type)
{
    uint8_t byte = (uint8_t)((((unsigned)(d->low >> 40)) & 0xf0) | type);

    return memory_write(cpu, system_wrap(cpu, d->address + 5), &byte, 1, MMU_WRITE);
}

int descriptor_set_accessed(struct x86_cpu *cpu, const struct descriptor *d)
{
    if ((d->low >> 40) & X86_AR_A)
        return 0;
    return descriptor_write_type(cpu, d, descriptor_type(d) | X86_AR_A);
}

void segment_fill(struct x86_segment *seg, const struct descriptor *d, uint16_t selector)
{
    seg->selector = selector;
    seg->base = descriptor_base(d);
    seg->limit = descriptor_limit(d);
    seg->attr = descriptor_attr(d) | (descriptor_is_system(d) ? 0 : X86_AR_A);
    segment_update_bounds(seg);
}

void segment_fill_null(struct x86_segment *seg, uint16_t selector)
{
    seg->selector = selector;
    seg->base = 0;
    seg->limit = 0;
    seg->attr = X86_AR_UNUSABLE;
    segment_update_bounds(seg);
}

void segment_fill_vm86(struct x86_segment *seg, uint16_t selector)
{
    seg->limit = 0xffff;
    seg->attr = X86_AR_P | X86_AR_DPL | X86_AR_S | X86_AR_WR | X86_AR_A;
    segment_load_real(seg, selector);
}

void segment_fill_real(struct x86_segment *seg, uint16_t selector)
{
    /*
     * Limit, granularity and D/B survive from protected mode ("unreal mode"); a null selector left
     * nothing that could.
     */
    if (seg->attr & X86_AR_UNUSABLE)
        seg->limit = 0xffff;
    seg->attr &= X86_AR_AVL | X86_AR_DB | X86_AR_G;
    seg->attr |= X86_AR_P | X86_AR_S | X86_AR_WR | X86_AR_A;
    segment_load_real(seg, selector);
}

void segment_fill_8086(struct x86_cpu *cpu, enum x86_segreg seg, uint16_t selector)
{
    if (x86_vm86(cpu))
        segment_fill_vm86(&cpu->seg[seg], selector);
    else
        segment_fill_real(&cpu->seg[seg], selector);
}

int segment_load_data(struct x86_cpu *cpu, enum x86_segreg seg, uint16_t selector,
                      enum x86_vector vector)
{
    uint32_t error = selector_error(selector);
    struct descriptor d;

    if (selector_null(selector)) {
        segment_fill_null(&cpu->seg[seg], selector);
        return 0;
    }
    if (descriptor_read(cpu, selector, vector, &d) < 0)
        return -1;
    if (!descriptor_is_readable(&d))
        return x86_raise_error(cpu, vector, error);
    if (!(descriptor_is_code(&d) && descriptor_is_conforming(&d)) &&
        ((selector & 3u) > descriptor_dpl(&d) || cpu->cpl > descriptor_dpl(&d)))
        return x86_raise_error(cpu, vector, error);
    if (!descriptor_present(&d))
        return x86_raise_error(cpu, X86_NP, error);
    if (descriptor_set_accessed(cpu, &d) < 0)
        return -1;
    segment_fill(&cpu->seg[seg], &d, selector);
    return 0;
}

void segment_fill_flat(struct x86_segment *seg, uint16_t selector, uint32_t attr)
{
    seg->selector = selector;
    seg->base = 0;
    seg->limit = 0xffffffff;
    seg->attr = attr | X86_AR_S | X86_AR_P | X86_AR_A | X86_AR_G;
    segment_update_bounds(seg);
}

void segment_fill_code(struct x86_cpu *cpu, const struct descriptor *d, unsigned cpl)
{
    struct x86_segment *cs = &cpu->seg[X86_CS];

    segment_fill(cs, d, (uint16_t)((d->selector & 0xfffc) | cpl));
    if (x86_code64(cpu))
        cs->base = 0;
    cpu->cpl = (uint8_t)cpl;
}

void segments_hide_inner(struct x86_cpu *cpu, unsigned cpl)
{
    static const uint8_t data[] = {X86_ES, X86_DS, X86_FS, X86_GS};

    for (unsigned i = 0; i < sizeof(data); i++) {
        struct x86_segment *seg = &cpu->seg[data[i]];
        uint32_t conforming = X86_AR_CODE | X86_AR_EC;

        if (seg->attr & X86_AR_UNUSABLE) {
            seg->selector = 0; /* a null selector loses its RPL */
            continue;
        }
        if ((seg->attr & conforming) == conforming)
            continue;
        if ((seg->attr & X86_AR_DPL) >> X86_AR_DPL_SHIFT < cpl) {
            uint64_t base = seg->base;

            segment_fill_null(seg, 0);
            /* Only the selector is specified to go; 64-bit code still sees the base. */
            if (data[i] >= X86_FS)
                seg->base = base;
        }
    }
}

int code_check_rip(struct x86_cpu *cpu, const struct descriptor *d, uint64_t rip)
{
    bool good = x86_long_mode(cpu) && descriptor_is_code64(d) ? mmu_canonical(rip)
                                                              : rip <= descriptor_limit(d);

    return good ? 0 : x86_raise_error(cpu, X86_GP, 0);
}

int code_check_rip_real(struct x86_cpu *cpu, uint64_t rip)
{
    return rip <= cpu->seg[X86_CS].limit ? 0 : x86_raise_error(cpu, X86_GP, 0);
}

uint32_t mode_fingerprint(const struct x86_cpu *cpu)
{
    static const uint8_t flat[] = {X86_CS, X86_SS, X86_DS, X86_ES};
    uint32_t print = cpu->cpl | (cpu->sflags & (X86_TF | X86_VM)) | ((uint32_t)cpu->cr0 & 0xf) << 4;

    if (x86_code64(cpu))
        return print | 1u << 31;
    for (unsigned i = 0; i < sizeof(flat); i++) {
        const struct x86_segment *seg = &cpu->seg[flat[i]];
        uint32_t bits = (uint32_t)(seg->base == 0) | (uint32_t)(seg->read_end >> 32 != 0) << 1 |
                        (uint32_t)(seg->write_end >> 32 != 0) << 2;

        print |= bits << (18 + 3 * i);
    }
    return print | (cpu->seg[X86_CS].attr & X86_AR_DB ? 1u << 2 : 0) |
           (cpu->seg[X86_SS].attr & X86_AR_DB ? 1u << 3 : 0);
}
