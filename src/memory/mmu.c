#include "memory/mmu.h"

#include "base/bytes.h"
#include "memory/tlb.h"
#include "memory/walk.h"

void mmu_init(struct mmu *mmu, struct address_space *as)
{
    bytes_zero(mmu, sizeof(*mmu));
    mmu->as = as;
    tlb_clear(mmu);
}

/* --- translation --- */

static int page_fault(struct x86_cpu *cpu, uint64_t linear, unsigned access,
                      enum walk_result result)
{
    uint32_t error = result == WALK_NOT_PRESENT ? 0 : PF_P;
    if (result == WALK_RESERVED)
        error |= PF_RSVD;
    if (access & MMU_WRITE)
        error |= PF_W;
    if (access & MMU_USER)
        error |= PF_U;
    bool nx = (cpu->cr4 & X86_CR4_PAE) && (cpu->efer & X86_EFER_NXE);
    if ((access & MMU_EXEC) && (nx || (cpu->cr4 & X86_CR4_SMEP)))
        error |= PF_I;
    cpu->mmu->stats.page_faults++;
    return x86_raise_page_fault(cpu, linear, error);
}

/* Walks, checks and sets A and D. 0, or -1 with #PF. */
static int translate(struct x86_cpu *cpu, uint64_t linear, unsigned access, struct walk *walk)
{
    struct mmu *mmu = cpu->mmu;
    do {
        mmu->stats.walks++;
        enum walk_result result = walk_tables(cpu, mmu->as, linear, false, walk);
        if (result != WALK_PAGE || !walk_allows(cpu, walk, access))
            return page_fault(cpu, linear, access, result);
    } while (!walk_set_accessed(mmu->as, walk, (access & MMU_WRITE) != 0));
    return 0;
}

int mmu_translate(struct x86_cpu *cpu, uint64_t linear, unsigned access, uint64_t *gpa)
{
    struct mmu *mmu = cpu->mmu;
    struct walk walk;
    if (access & MMU_EXEC) {
        const struct exec_entry *e = &mmu->exec[tlb_side(access)][tlb_index(linear)];
        uint64_t offset = linear - e->tag;
        if (offset < RAM_PAGE_SIZE) {
            *gpa = e->gpa + offset;
            return 0;
        }
    }
    if (translate(cpu, linear, access, &walk) < 0)
        return -1;
    if (access & MMU_EXEC)
        tlb_insert_exec(mmu, tlb_side(access), linear, &walk);
    *gpa = walk.gpa;
    return 0;
}

int mmu_translate_debug(const struct x86_cpu *cpu, uint64_t linear, uint64_t *gpa)
{
    struct walk walk;
    if (walk_tables(cpu, cpu->mmu->as, linear, true, &walk) != WALK_PAGE)
        return -1;
    *gpa = walk.gpa;
    return 0;
}

int mmu_load_pdptes(struct x86_cpu *cpu, uint64_t cr3)
{
    /* bits 2:1, 8:5 and those above the physical address width (SDM vol. 3, table 4-8) */
    uint64_t reserved = walk_reserved_high(cpu, 63) | 0x1e6;
    uint64_t table = cr3 & 0xffffffe0, entries[4];
    as_read(cpu->mmu->as, table, entries, sizeof(entries));
    for (unsigned i = 0; i < 4; i++)
        if ((entries[i] & PTE_P) && (entries[i] & reserved))
            return x86_raise_error(cpu, X86_GP, 0);
    for (unsigned i = 0; i < 4; i++)
        cpu->pdpte[i] = entries[i];
    return 0;
}

/* --- watchpoints --- */

/* Length and address of data breakpoint i; false if it is off or for something else. */
static bool watchpoint(const struct x86_cpu *cpu, unsigned i, uint64_t *start, uint64_t *length,
                       bool *writes_only)
{
    static const uint8_t lengths[] = {1, 2, 8, 4};
    uint64_t dr7 = cpu->dr[7];
    unsigned control = (unsigned)(dr7 >> (16 + 4 * i)) & 15;
    if (!(dr7 & 3ULL << (2 * i)) || !(control & 1)) /* execution and I/O have bit 0 clear */
        return false;
    *length = lengths[control >> 2];
    *start = cpu->dr[i] & ~(*length - 1);
    if (!x86_long_mode(cpu))
        *start = (uint32_t)*start;
    *writes_only = (control & 3) == 1;
    return true;
}

unsigned mmu_watch_hits(const struct x86_cpu *cpu, uint64_t linear, unsigned size, bool write)
{
    unsigned hits = 0;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t start, length;
        bool writes_only;
        if (watchpoint(cpu, i, &start, &length, &writes_only) && (write || !writes_only) &&
            (start - linear < size || linear - start < length))
            hits |= 1u << i;
    }
    return hits;
}

static bool page_is_watched(const struct x86_cpu *cpu, uint64_t linear)
{
    if (!(cpu->dr[7] & 0xff))
        return false;
    return mmu_watch_hits(cpu, linear & ~(uint64_t)PAGE_OFFSET, RAM_PAGE_SIZE, true) != 0;
}

/* --- the TLB --- */

/* May the guest write the page without further fills? Grants it by marking the page dirty. */
static enum tlb_grant grant_write(const struct x86_cpu *cpu, const struct walk *walk,
                                  const struct as_page *page, unsigned access)
{
    unsigned rights = (access & MMU_USER) | MMU_WRITE;
    if (page->write != page->read || !walk->dirty || !walk_allows(cpu, walk, rights))
        return TLB_READ_ONLY;
    uint8_t flags = as_page_flags(cpu->mmu->as)[page->write_page];
    if (flags & RAM_PAGE_TABLE)
        return TLB_READ_ONLY;
    if (flags & RAM_PAGE_CODE)
        return TLB_ONLY_TRACED;
    if (!(flags & RAM_PAGE_DIRTY)) {
        if (!(access & MMU_WRITE)) /* only read so far: keep it clean in the dirty log */
            return TLB_READ_ONLY;
        as_mark_dirty(cpu->mmu->as, (uint64_t)page->write_page);
    }
    return TLB_WRITABLE;
}

/* The walk for an access that may not come: MMU_DIRECT if it would change no flag. */
static enum mmu_fill walk_ahead(struct x86_cpu *cpu, uint64_t linear, unsigned access,
                                struct walk *walk)
{
    cpu->mmu->stats.walks++;
    if (walk_tables(cpu, cpu->mmu->as, linear, false, walk) != WALK_PAGE ||
        !walk_allows(cpu, walk, access) || !walk_is_accessed(walk, (access & MMU_WRITE) != 0))
        return MMU_INDIRECT;
    return MMU_DIRECT;
}

/* The walk and fill for an access within one page; *gpa unless it faults. */
static enum mmu_fill fill_page(struct x86_cpu *cpu, uint64_t linear, unsigned access, uint64_t *gpa,
                               uint8_t **host)
{
    struct mmu *mmu = cpu->mmu;
    struct walk walk;
    if (access & MMU_EXEC)
        return mmu_translate(cpu, linear, access, gpa) < 0 ? MMU_FAULT : MMU_INDIRECT;
    if (access & MMU_AHEAD) {
        if (walk_ahead(cpu, linear, access, &walk) != MMU_DIRECT)
            return MMU_INDIRECT;
    } else if (translate(cpu, linear, access, &walk) < 0) {
        return MMU_FAULT;
    }
    *gpa = walk.gpa;
    struct as_page page = as_lookup(mmu->as, walk.gpa);
    if (!page.read || page_is_watched(cpu, linear))
        return MMU_INDIRECT;
    /* whether the supervisor may use a user page changes with RFLAGS.AC */
    if ((cpu->cr4 & X86_CR4_SMAP) && walk.paged && walk.user && !(access & MMU_USER))
        return MMU_INDIRECT;
    enum tlb_grant grant = grant_write(cpu, &walk, &page, access);
    tlb_insert(mmu, tlb_side(access), linear, &walk, &page, grant);
    if ((access & MMU_WRITE) && grant != TLB_WRITABLE)
        return MMU_INDIRECT;
    *host = page.read + (linear & PAGE_OFFSET);
    return MMU_DIRECT;
}

/*
 * The first byte on the page behind linear's. Outside of 64-bit mode addresses wrap at 4 GiB, but
 * descriptor tables above it are reached in compatibility mode as well.
 */
static uint64_t next_page(const struct x86_cpu *cpu, uint64_t linear)
{
    uint64_t next = (linear & ~(uint64_t)PAGE_OFFSET) + RAM_PAGE_SIZE;
    return linear >> 32 ? next : mmu_wrap(cpu, next);
}

enum mmu_fill mmu_fill(struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access,
                       uint8_t **host)
{
    uint64_t gpa;
    bool crosses = (linear & PAGE_OFFSET) + size > RAM_PAGE_SIZE;
    if (crosses && (access & MMU_AHEAD))
        return MMU_INDIRECT;
    if (crosses)
        return mmu_probe(cpu, linear, size, access) < 0 ? MMU_FAULT : MMU_INDIRECT;
    if (!(access & MMU_EXEC)) {
        *host = tlb_find(cpu->mmu, linear, size, access);
        if (*host) {
            tlb_promote(cpu->mmu, tlb_side(access), linear);
            return MMU_DIRECT;
        }
    }
    return fill_page(cpu, linear, access, &gpa, host);
}

uint8_t *mmu_find_traced(const struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access,
                         uint64_t *page)
{
    const struct mmu *mmu = cpu->mmu;
    unsigned places[] = {tlb_index(linear), tlb_victim_index(linear)};
    for (unsigned i = 0; i < 2; i++) {
        uint64_t flags = mmu->tlb_flags[tlb_side(access)][places[i]];
        uint8_t *host = tlb_find_at(mmu, places[i], linear, size, access & ~(unsigned)MMU_WRITE);
        if (!host || !(flags & TLB_TRACED))
            continue;
        *page = flags >> TLB_BACKING_SHIFT;
        unsigned tracing = as_page_flags(mmu->as)[*page] & (RAM_PAGE_CODE | RAM_PAGE_TABLE);
        return tracing == RAM_PAGE_CODE ? host : NULL;
    }
    return NULL;
}

/* --- accesses --- */

struct piece { /* the part of an access that lies in one page */
    uint8_t *host;
    uint64_t gpa;
    unsigned size;
};

static int resolve_piece(struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access,
                         struct piece *piece)
{
    piece->size = size;
    piece->host = access & MMU_EXEC ? NULL : tlb_find(cpu->mmu, linear, size, access);
    if (piece->host)
        return 0;
    return fill_page(cpu, linear, access, &piece->gpa, &piece->host) == MMU_FAULT ? -1 : 0;
}

/* At most two pieces, as size is at most a page. Their number, or -1. */
static int resolve(struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access,
                   struct piece pieces[2])
{
    unsigned first = RAM_PAGE_SIZE - (unsigned)(linear & PAGE_OFFSET);
    if (size <= first)
        return resolve_piece(cpu, linear, size, access, &pieces[0]) < 0 ? -1 : 1;
    if (resolve_piece(cpu, linear, first, access, &pieces[0]) < 0 ||
        resolve_piece(cpu, next_page(cpu, linear), size - first, access, &pieces[1]) < 0)
        return -1;
    return 2;
}

static void note_watch_hits(struct x86_cpu *cpu, uint64_t linear, unsigned size, bool write)
{
    if (cpu->dr[7] & 0xff)
        cpu->mmu->debug_hits |= mmu_watch_hits(cpu, linear, size, write);
}

int mmu_read(struct x86_cpu *cpu, uint64_t linear, void *buffer, unsigned size, unsigned access)
{
    struct piece pieces[2];
    uint8_t *to = buffer;
    int count = resolve(cpu, linear, size, access & ~(unsigned)MMU_WRITE, pieces);
    if (count < 0)
        return -1;
    note_watch_hits(cpu, linear, size, false);
    for (int i = 0; i < count; i++) {
        if (pieces[i].host)
            bytes_copy(to, pieces[i].host, pieces[i].size);
        else
            as_read(cpu->mmu->as, pieces[i].gpa, to, pieces[i].size);
        to += pieces[i].size;
    }
    return 0;
}

int mmu_write(struct x86_cpu *cpu, uint64_t linear, const void *buffer, unsigned size,
              unsigned access)
{
    struct piece pieces[2];
    const uint8_t *from = buffer;
    access = (access & ~(unsigned)MMU_EXEC) | MMU_WRITE;
    int count = resolve(cpu, linear, size, access, pieces);
    if (count < 0)
        return -1;
    note_watch_hits(cpu, linear, size, true);
    for (int i = 0; i < count; i++) {
        if (pieces[i].host)
            bytes_copy(pieces[i].host, from, pieces[i].size);
        else
            as_write(cpu->mmu->as, pieces[i].gpa, from, pieces[i].size);
        from += pieces[i].size;
    }
    return 0;
}

int mmu_probe(struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access)
{
    struct piece piece;
    for (;;) {
        unsigned rest = RAM_PAGE_SIZE - (unsigned)(linear & PAGE_OFFSET);
        unsigned part = size < rest ? size : rest;
        if (resolve_piece(cpu, linear, part, access, &piece) < 0)
            return -1;
        if (size <= rest)
            return 0;
        size -= rest;
        linear = next_page(cpu, linear);
    }
}

static bool leads_to(const struct x86_cpu *cpu, uint64_t linear, uint64_t host, uint64_t host_mask)
{
    uint64_t gpa;
    if (mmu_translate_debug(cpu, linear, &gpa) < 0)
        return false;
    uint64_t page = (uint64_t)(uintptr_t)as_lookup(cpu->mmu->as, gpa).read;
    return page && !((page + (gpa & PAGE_OFFSET) - host) & host_mask);
}

bool mmu_find_host(const struct x86_cpu *cpu, uint64_t host, uint64_t host_mask, unsigned access,
                   uint64_t guess, uint64_t *linear)
{
    const struct mmu *mmu = cpu->mmu;
    if (leads_to(cpu, guess, host, host_mask)) {
        *linear = guess;
        return true;
    }
    for (unsigned index = 0; index < TLB_ENTRIES; index++) {
        const struct tlb_entry *e = &mmu->tlb[tlb_side(access)][index];
        bool valid = mmu->tlb_map[tlb_side(access)].used[index / 64] >> (index & 63) & 1;
        if (valid && !((e->host ^ host) & host_mask & ~(uint64_t)PAGE_OFFSET)) {
            *linear = e->read_tag + (host & PAGE_OFFSET);
            return true;
        }
    }
    return false;
}
