/* The soft TLB's arrays: lookup, insertion, removal. Shared by mmu.c and tlb.c only. */
#ifndef VD_MEMORY_TLB_H
#define VD_MEMORY_TLB_H

#include "memory/mmu.h"
#include "memory/walk.h"

enum { PAGE_OFFSET = RAM_PAGE_SIZE - 1 };

static inline unsigned tlb_index(uint64_t linear)
{
    return (unsigned)(linear >> 12) & TLB_MASK;
}

/* Pages that share an entry in the first place do not share one here. */
static inline unsigned tlb_victim_index(uint64_t linear)
{
    uint64_t page = linear >> 12;
    return TLB_SIZE + ((unsigned)(page ^ page >> TLB_VICTIM_BITS) & (TLB_VICTIMS - 1));
}

static inline uint64_t tlb_invalid_tag(unsigned index)
{
    return index & TLB_MASK ? 0 : RAM_PAGE_SIZE;
}

static inline unsigned tlb_side(unsigned access) /* index into the [2] arrays */
{
    return access & MMU_USER ? 1 : 0;
}

static inline uint8_t *tlb_find_at(const struct mmu *mmu, unsigned index, uint64_t linear,
                                   unsigned size, unsigned access)
{
    const struct tlb_entry *e = &mmu->tlb[tlb_side(access)][index];
    uint64_t offset = linear - (access & MMU_WRITE ? e->write_tag : e->read_tag);
    return offset <= RAM_PAGE_SIZE - size ? (uint8_t *)(uintptr_t)(e->host + offset) : NULL;
}

/* Host address of [linear, + size) if the TLB allows the data access, else NULL. */
static inline uint8_t *tlb_find(const struct mmu *mmu, uint64_t linear, unsigned size,
                                unsigned access)
{
    uint8_t *host = tlb_find_at(mmu, tlb_index(linear), linear, size, access);
    return host ? host : tlb_find_at(mmu, tlb_victim_index(linear), linear, size, access);
}

void tlb_clear(struct mmu *mmu); /* all entries, used or not */
enum tlb_grant { TLB_READ_ONLY, TLB_ONLY_TRACED, TLB_WRITABLE };
void tlb_insert(struct mmu *mmu, unsigned side, uint64_t linear, const struct walk *walk,
                const struct as_page *page, enum tlb_grant grant);
/* Brings the page back to its first place if it is a victim. */
void tlb_promote(struct mmu *mmu, unsigned side, uint64_t linear);
void tlb_insert_exec(struct mmu *mmu, unsigned side, uint64_t linear, const struct walk *walk);

#endif
