/*
 * Linear -> physical -> host: page walk (SDM vol. 3 ch. 4: none, 32-bit with PSE, PAE with NX,
 * 4-level with 2 MiB and 1 GiB pages) and the soft TLB that translated code reads directly.
 *
 * Translated code checks an access of n bytes at linear address a with entry i = (a >> 12) &
 * TLB_MASK: offset = a - entry.read_tag (or write_tag);  hit if offset <= 4096 - n;  host =
 * entry.host + offset An invalid tag is any page address whose index is not i: 0 for every entry
 * but the first, 0x1000 there. Pages with MMIO, traced code or page tables, or watchpoints (DR7)
 * never enter the write tag (watchpoints: neither).
 *
 * An entry whose place another page takes moves to the victims, behind the others, whose index is a
 * hash of the page. They are looked at where the first lookup fails.
 */
#ifndef VD_MEMORY_MMU_H
#define VD_MEMORY_MMU_H

#include <stddef.h>
#include <stdint.h>

#include "cpu/cpu.h"
#include "memory/address_space.h"

enum { TLB_BITS = 10, TLB_SIZE = 1 << TLB_BITS, TLB_MASK = TLB_SIZE - 1 };
enum { TLB_VICTIM_BITS = 9, TLB_VICTIMS = 1 << TLB_VICTIM_BITS };
enum { TLB_ENTRIES = TLB_SIZE + TLB_VICTIMS };

struct tlb_entry {
    uint64_t read_tag, write_tag;
    uint64_t host;   /* host address of the page */
    uint64_t addend; /* host minus linear address */
};
/*
 * Flags of an entry. TLB_TRACED: there is no write tag just because the page holds translated code.
 * From TLB_PAGE_SHIFT on 8 bits with the log2 of the guest's page size; above TLB_BACKING_SHIFT the
 * backing page number, if it is traced.
 */
enum { TLB_GLOBAL = 1, TLB_TRACED = 2, TLB_PAGE_SHIFT = 8, TLB_BACKING_SHIFT = 16 };

struct exec_entry { /* instruction fetch: C only */
    uint64_t tag;   /* linear page, or an invalid tag as above */
    uint64_t gpa;   /* physical page */
    uint64_t flags;
};

struct mmu_stats {
    uint64_t walks, fills, flushes, page_faults;
};

/* Which entries of one array are in use, so that flushing touches no others. */
struct tlb_map {
    uint64_t used[TLB_ENTRIES / 64], global[TLB_ENTRIES / 64];
};
/*
 * Which 2 MiB (1 GiB) regions have entries cut out of large pages: a filter by hash, which may say
 * yes too often. INVLPG of an address in such a region must drop them all.
 */
struct tlb_large {
    uint64_t region[8], giant;
};

enum mmu_flush {
    MMU_FLUSH_ALL,
    MMU_FLUSH_NONGLOBAL, /* translations by global pages are kept */
    MMU_FLUSH_PAGE,      /* only the 4 KiB page at linear */
};

struct mmu {
    struct tlb_entry tlb[2][TLB_ENTRIES]; /* [0] supervisor (CPL 0-2), [1] user (CPL 3) */
    uint64_t tlb_flags[2][TLB_ENTRIES];
    struct exec_entry exec[2][TLB_SIZE];
    struct address_space *as;
    struct mmu_stats stats;
    /* DR6 bits of what the current instruction met and #DB reports behind it: data breakpoints in
     * mmu_read and mmu_write, breakpoints on ports, the single step of SYSRET. */
    unsigned debug_hits;
    unsigned held_hits; /* those that MOV SS holds back until the next instruction is done */
    /*
     * A linear address that was translated is no longer (flush of everything, of all but global
     * pages, or of one page): the engine drops what it derived from it. May be NULL.
     */
    void (*flushed)(void *ctx, enum mmu_flush kind, uint64_t linear);
    void *flushed_ctx;

    struct tlb_map tlb_map[2], exec_map[2];
    uint64_t writable[2][TLB_ENTRIES / 64]; /* entries with a valid write tag */
    struct tlb_large large[2];              /* [0] others, [1] global pages */
};

void mmu_init(struct mmu *mmu, struct address_space *as);

enum { /* access */
       MMU_READ = 0,
       MMU_WRITE = 1,
       MMU_EXEC = 2,
       MMU_USER =
           4, /* check as CPL 3; without it: supervisor access (also implicit ones at CPL 3) */
       /* mmu_fill only: ahead of an access that may not come. Instead of setting accessed or dirty
          flags it answers MMU_INDIRECT. */
       MMU_AHEAD = 8,
};
/* The access bits for an explicit data access at the current CPL. */
static inline unsigned mmu_cpl_access(const struct x86_cpu *cpu)
{
    return cpu->cpl == 3 ? (unsigned)MMU_USER : 0;
}

/*
 * Translates linear (all modes; sets A and D as needed; canonical check is the caller's, see
 * mmu_canonical). 0 with *gpa (before A20), or -1 with cpu->fault = #PF with its exact error code.
 */
int mmu_translate(struct x86_cpu *cpu, uint64_t linear, unsigned access, uint64_t *gpa);
/* After a successful fetch translation of linear: true if MOV CR3 will keep it (a global page). */
bool mmu_fetch_is_global(const struct x86_cpu *cpu, uint64_t linear, unsigned access);
/* mmu_translate without side effects and faults, for debuggers: 0, or -1 if not mapped. */
int mmu_translate_debug(const struct x86_cpu *cpu, uint64_t linear, uint64_t *gpa);

enum mmu_fill { MMU_DIRECT, MMU_INDIRECT, MMU_FAULT };
/*
 * TLB refill for one access of size bytes that may not be a hit. MMU_DIRECT: *host is the host
 * address of linear and the whole access lies in that page; the TLB holds the page, not as a
 * victim. MMU_INDIRECT: allowed, but must go through mmu_read/mmu_write (MMIO, traced, page
 * crossing, watchpoint, a user page accessed by the supervisor under CR4.SMAP, whose permission
 * follows RFLAGS.AC). MMU_FAULT: cpu->fault is set (never with MMU_AHEAD).
 */
enum mmu_fill mmu_fill(struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access,
                       uint8_t **host);

/*
 * The host address of linear if the whole access lies in a page that the TLB knows and the guest
 * may write, but whose writes are traced because it holds translated code (*page: its backing
 * page). Else NULL. The caller knows whether these bytes are code.
 */
uint8_t *mmu_find_traced(const struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access,
                         uint64_t *page);

/*
 * Reads/writes size bytes (1..4096) at a linear address through everything: page crossing, MMIO,
 * traced pages. Both pages are checked before the first byte moves. 0, or -1 with cpu->fault. In
 * 64-bit mode a non-canonical address must be caught by the caller.
 */
int mmu_read(struct x86_cpu *cpu, uint64_t linear, void *buffer, unsigned size, unsigned access);
int mmu_write(struct x86_cpu *cpu, uint64_t linear, const void *buffer, unsigned size,
              unsigned access);
/* Only checks that [linear, linear + size) may be accessed so; same faults as the access would
 * raise. */
int mmu_probe(struct x86_cpu *cpu, uint64_t linear, unsigned size, unsigned access);

/*
 * The linear address through which data at a host address is accessed: guess if it leads there,
 * else what the TLB holds for the privilege that access says. Only the bits in host_mask of the
 * host address are known. False: not found.
 */
bool mmu_find_host(const struct x86_cpu *cpu, uint64_t host, uint64_t host_mask, unsigned access,
                   uint64_t guess, uint64_t *linear);

static inline bool mmu_canonical(uint64_t linear) /* 48-bit linear addresses */
{
    return (uint64_t)((int64_t)(linear << 16) >> 16) == linear;
}

/* What the current mode does to a computed linear address: 64-bit mode keeps it, else it wraps at 4
 * GiB. */
static inline uint64_t mmu_wrap(const struct x86_cpu *cpu, uint64_t linear)
{
    return x86_code64(cpu) ? linear : (uint32_t)linear;
}

/*
 * Also global pages: needed after changes of CR0.PG and WP, CR4.PGE/PSE/PAE/SMEP/SMAP, EFER.NXE and
 * LMA, of the breakpoints in DR0-3 and DR7, of the layout and A20, and after flags of pages were
 * set (CODE, TABLE; see mmu_write_protect) or the dirty log was cleared.
 */
void mmu_flush_all(struct x86_cpu *cpu);
void mmu_flush_nonglobal(struct x86_cpu *cpu);             /* MOV CR3 */
void mmu_flush_page(struct x86_cpu *cpu, uint64_t linear); /* INVLPG */
/*
 * Which enabled data breakpoints [linear, linear + size) hits (SDM vol. 3, 17.2.5): bits 0-3 as in
 * DR6. Accesses to their pages always come as MMU_INDIRECT; raising #DB is up to the caller.
 */
unsigned mmu_watch_hits(const struct x86_cpu *cpu, uint64_t linear, unsigned size, bool write);
/* Takes write permission from every entry that maps the backing page (it became traced). */
void mmu_write_protect(struct x86_cpu *cpu, const uint8_t *host_page);

/* MOV CR3 and friends in PAE mode: loads the four PDPTEs (SDM vol. 3, 4.4.1). -1: reserved bits,
 * #GP. */
int mmu_load_pdptes(struct x86_cpu *cpu, uint64_t cr3);

/*
 * The alignment that an operand of size bytes has to have while alignment is checked (SDM vol. 3,
 * table 6-7): its size, 8 for the 80 bits of the x87, 16 for vectors.
 */
static inline unsigned mmu_natural_alignment(unsigned size)
{
    return size >= 16 ? 16 : size == 10 ? 8 : size;
}
/*
 * The alignment check of an explicit data access; alignment is a power of two, 1: no check. Like
 * processors do it: behind the segment checks, ahead of the page walk. 0, or -1 with #AC(0).
 */
static inline int mmu_check_alignment(struct x86_cpu *cpu, uint64_t linear, unsigned alignment)
{
    if (__builtin_expect((linear & (alignment - 1)) != 0, 0) && x86_checks_alignment(cpu))
        return x86_raise_error(cpu, X86_AC, 0);
    return 0;
}

/*
 * Segmented access of 1..64 bytes as instructions do: segment checks (#GP or #SS with error 0,
 * canonical in 64-bit mode), the check of natural alignment (not in seg_linear), then
 * mmu_read/mmu_write at the current CPL. offset is already truncated to the address size.
 */
int seg_linear(struct x86_cpu *cpu, enum x86_segreg seg, uint64_t offset, unsigned size, bool write,
               uint64_t *linear);
int seg_read(struct x86_cpu *cpu, enum x86_segreg seg, uint64_t offset, void *buffer,
             unsigned size);
int seg_write(struct x86_cpu *cpu, enum x86_segreg seg, uint64_t offset, const void *buffer,
              unsigned size);
/* The same for operands whose parts are to be aligned, not the whole (far pointers, tables). */
int seg_read_parts(struct x86_cpu *cpu, enum x86_segreg seg, uint64_t offset, void *buffer,
                   unsigned size, unsigned alignment);
int seg_write_parts(struct x86_cpu *cpu, enum x86_segreg seg, uint64_t offset, const void *buffer,
                    unsigned size, unsigned alignment);

#endif
