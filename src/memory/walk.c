#include "memory/walk.h"

#include "base/bytes.h"
#include "memory/mmu.h"

static const uint64_t PTE_NX = 1ULL << 63;

static uint64_t bits(unsigned high, unsigned low) /* inclusive; 0 if high < low */
{
    return high < low ? 0 : (~0ULL >> (63 - high)) & (~0ULL << low);
}

static unsigned phys_bits(const struct x86_cpu *cpu)
{
    unsigned width = cpu->cpuid.phys_bits;
    /* without CPUID leaf 80000008H it is 36 (SDM vol. 3, 4.1.4) */
    return width >= 32 && width <= 52 ? width : 36;
}

uint64_t walk_reserved_high(const struct x86_cpu *cpu, unsigned top)
{
    return bits(top, phys_bits(cpu));
}

/* Reads an entry; what cannot be mapped directly is read as the bus answers. */
static bool read_entry(struct address_space *as, struct walk *walk, uint64_t gpa, bool debug)
{
    struct walk_entry *entry = &walk->entries[walk->levels++];
    struct as_page page = as_lookup(as, gpa);
    unsigned offset = (unsigned)(gpa & (RAM_PAGE_SIZE - 1));
    entry->gpa = gpa;
    entry->host = page.read && page.read == page.write ? page.write + offset : NULL;
    entry->page = page.page;
    entry->value = 0;
    if (!page.read) {
        if (debug)
            return false;
        as_read(as, gpa, &entry->value, walk->entry_size);
    } else if (walk->entry_size == 8) {
        entry->value = __atomic_load_n((uint64_t *)(void *)(page.read + offset), __ATOMIC_RELAXED);
    } else {
        entry->value = __atomic_load_n((uint32_t *)(void *)(page.read + offset), __ATOMIC_RELAXED);
    }
    return true;
}

static void combine(struct walk *walk, uint64_t entry)
{
    walk->user = walk->user && (entry & PTE_U);
    walk->writable = walk->writable && (entry & PTE_W);
    walk->no_execute = walk->no_execute || (entry & PTE_NX);
}

static enum walk_result end_walk(const struct x86_cpu *cpu, struct walk *walk, uint64_t entry,
                                 uint64_t frame, unsigned shift, uint64_t linear)
{
    walk->dirty = (entry & PTE_D) != 0;
    walk->global = (entry & PTE_G) && (cpu->cr4 & X86_CR4_PGE);
    walk->page_shift = shift;
    walk->gpa = frame | (linear & bits(shift - 1, 0));
    return WALK_PAGE;
}

/* 32-bit paging (SDM vol. 3, 4.3). */
static enum walk_result walk_32(const struct x86_cpu *cpu, struct address_space *as,
                                uint64_t linear, bool debug, struct walk *walk)
{
    walk->entry_size = 4;
    uint64_t at = (cpu->cr3 & bits(31, 12)) | ((linear >> 22) & 0x3ff) << 2;
    if (!read_entry(as, walk, at, debug))
        return WALK_NOT_PRESENT;
    uint64_t pde = walk->entries[0].value;
    if (!(pde & PTE_P))
        return WALK_NOT_PRESENT;
    combine(walk, pde);
    if ((pde & PTE_PS) && (cpu->cr4 & X86_CR4_PSE)) {
        /* PSE-36: bits 20:13 are bits 39:32 of the address, as far as the processor has them */
        unsigned width = cpuid_has(&cpu->cpuid, FEAT_PSE36) ? phys_bits(cpu) : 32;
        if (width > 40)
            width = 40;
        if (pde & bits(21, width - 19))
            return WALK_RESERVED;
        uint64_t frame = (pde & bits(31, 22)) | (pde & bits(20, 13)) << 19;
        return end_walk(cpu, walk, pde, frame, 22, linear);
    }
    at = (pde & bits(31, 12)) | ((linear >> 12) & 0x3ff) << 2;
    if (!read_entry(as, walk, at, debug))
        return WALK_NOT_PRESENT;
    uint64_t pte = walk->entries[1].value;
    if (!(pte & PTE_P))
        return WALK_NOT_PRESENT;
    combine(walk, pte);
    return end_walk(cpu, walk, pte, pte & bits(31, 12), 12, linear);
}

/*
 * The levels with 8-byte entries (SDM vol. 3, 4.4 and 4.5). shift is the lowest linear-address bit
 * that indexes the first table: 39 (PML4) or 21 (PAE page directory).
 */
static enum walk_result walk_64(const struct x86_cpu *cpu, struct address_space *as,
                                uint64_t linear, uint64_t table, unsigned shift, bool debug,
                                struct walk *walk)
{
    /* PAE paging reserves bits 62:52 as well, 4-level paging ignores them */
    uint64_t reserved = walk_reserved_high(cpu, shift == 39 ? 51 : 62);
    if (!(cpu->efer & X86_EFER_NXE))
        reserved |= PTE_NX;
    uint64_t frame_mask = bits(phys_bits(cpu) - 1, 12);
    walk->entry_size = 8;
    for (;; shift -= 9) {
        uint64_t at = (table & frame_mask) | ((linear >> shift) & 0x1ff) << 3;
        if (!read_entry(as, walk, at, debug))
            return WALK_NOT_PRESENT;
        uint64_t entry = walk->entries[walk->levels - 1].value;
        if (!(entry & PTE_P))
            return WALK_NOT_PRESENT;
        if (entry & reserved)
            return WALK_RESERVED;
        bool last = shift == 12;
        if (!last && (entry & PTE_PS)) {
            if (shift == 39 || (shift == 30 && !cpuid_has(&cpu->cpuid, FEAT_PDPE1GB)))
                return WALK_RESERVED;
            if (entry & bits(shift - 1, 13))
                return WALK_RESERVED;
            last = true;
        }
        combine(walk, entry);
        if (last)
            return end_walk(cpu, walk, entry, entry & frame_mask & ~bits(shift - 1, 0), shift,
                            linear);
        table = entry;
    }
}

enum walk_result walk_tables(const struct x86_cpu *cpu, struct address_space *as, uint64_t linear,
                             bool debug, struct walk *walk)
{
    walk->levels = 0;
    walk->entry_size = 0;
    walk->global = walk->no_execute = false;
    walk->paged = walk->user = walk->writable = true;
    if (!(cpu->cr0 & X86_CR0_PG)) {
        walk->paged = false;
        walk->dirty = true;
        walk->page_shift = 12;
        walk->gpa = (uint32_t)linear;
        return WALK_PAGE;
    }
    if (!(cpu->cr4 & X86_CR4_PAE))
        return walk_32(cpu, as, (uint32_t)linear, debug, walk);
    if (x86_long_mode(cpu))
        return walk_64(cpu, as, linear, cpu->cr3, 39, debug, walk);
    linear = (uint32_t)linear;
    uint64_t pdpte = cpu->pdpte[linear >> 30];
    if (!(pdpte & PTE_P))
        return WALK_NOT_PRESENT;
    return walk_64(cpu, as, linear, pdpte, 21, debug, walk);
}

bool walk_allows(const struct x86_cpu *cpu, const struct walk *walk, unsigned access)
{
    if (!walk->paged)
        return true;
    if ((access & MMU_EXEC) && walk->no_execute)
        return false;
    if (access & MMU_USER)
        return walk->user && (walk->writable || !(access & MMU_WRITE));
    if (walk->user) {
        if (access & MMU_EXEC)
            return !(cpu->cr4 & X86_CR4_SMEP);
        /* RFLAGS.AC opens user pages, but not to implicit accesses such as descriptor loads */
        bool open = (cpu->sflags & X86_AC_FLAG) && cpu->cpl != 3;
        if ((cpu->cr4 & X86_CR4_SMAP) && !open)
            return false;
    }
    return walk->writable || !(access & MMU_WRITE) || !(cpu->cr0 & X86_CR0_WP);
}

static bool exchange(const struct walk_entry *entry, unsigned size, uint64_t value)
{
    if (size == 8) {
        uint64_t expected = entry->value;
        return __atomic_compare_exchange_n((uint64_t *)(void *)entry->host, &expected, value, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    uint32_t expected = (uint32_t)entry->value;
    return __atomic_compare_exchange_n((uint32_t *)(void *)entry->host, &expected, (uint32_t)value,
                                       false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* The flags that an access sets in entry i. */
static uint64_t accessed_flags(const struct walk *walk, unsigned i, bool write)
{
    return write && i == walk->levels - 1 ? PTE_A | PTE_D : PTE_A;
}

bool walk_is_accessed(const struct walk *walk, bool write)
{
    for (unsigned i = 0; i < walk->levels; i++) {
        uint64_t set = accessed_flags(walk, i, write);
        if ((walk->entries[i].value & set) != set)
            return false;
    }
    return true;
}

bool walk_set_accessed(struct address_space *as, struct walk *walk, bool write)
{
    for (unsigned i = 0; i < walk->levels; i++) {
        struct walk_entry *entry = &walk->entries[i];
        uint64_t set = accessed_flags(walk, i, write);
        if ((entry->value & set) == set)
            continue;
        uint64_t value = entry->value | set;
        if (entry->host) {
            as_report_write(as, (uint64_t)entry->page, (unsigned)(entry->gpa % RAM_PAGE_SIZE),
                            walk->entry_size);
            if (!exchange(entry, walk->entry_size, value))
                return false;
        } else { /* read-only or device memory: what an ordinary write does there */
            as_write(as, entry->gpa, &value, walk->entry_size);
        }
        entry->value = value;
    }
    if (write)
        walk->dirty = true;
    return true;
}
