/*
 * The page walk (SDM vol. 3 ch. 4): reads the paging structures, judges permissions and sets
 * accessed and dirty flags. Knows no TLB.
 */
#ifndef VD_MEMORY_WALK_H
#define VD_MEMORY_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/cpu.h"
#include "memory/address_space.h"

enum { /* bits of paging-structure entries */
       PTE_P = 1 << 0,
       PTE_W = 1 << 1,
       PTE_U = 1 << 2,
       PTE_A = 1 << 5,
       PTE_D = 1 << 6,
       PTE_PS = 1 << 7,
       PTE_G = 1 << 8,
};

enum { /* page-fault error code (SDM vol. 3, 4.7) */
       PF_P = 1 << 0,
       PF_W = 1 << 1,
       PF_U = 1 << 2,
       PF_RSVD = 1 << 3,
       PF_I = 1 << 4,
};

struct walk_entry { /* one paging-structure entry that the walk went through */
    uint64_t gpa, value;
    uint8_t *host; /* NULL: not in directly writable memory */
    int64_t page;  /* backing page number of host */
};

/* The answer, valid if the walk ended in a page. Permissions are those of all levels combined. */
struct walk {
    uint64_t gpa;        /* physical address of the linear address */
    unsigned page_shift; /* log2 of the page size: 12, 21, 22 or 30 */
    bool paged;          /* false: CR0.PG is clear, everything is allowed */
    bool user, writable, no_execute;
    bool dirty, global;
    unsigned entry_size, levels; /* entries[0] is the topmost, entries[levels - 1] the page's */
    struct walk_entry entries[4];
};

enum walk_result { WALK_PAGE, WALK_NOT_PRESENT, WALK_RESERVED };

/*
 * Follows the paging structures for linear in the current mode. debug: never touch device
 * registers, entries there count as not present.
 */
enum walk_result walk_tables(const struct x86_cpu *cpu, struct address_space *as, uint64_t linear,
                             bool debug, struct walk *walk);

/* May this access (MMU_* bits) use the page? (SDM vol. 3, 4.6) */
bool walk_allows(const struct x86_cpu *cpu, const struct walk *walk, unsigned access);

/* Would walk_set_accessed change nothing? */
bool walk_is_accessed(const struct walk *walk, bool write);
/*
 * Sets the accessed flag at every level, and the dirty flag of the page for a write. False: another
 * processor changed an entry meanwhile, walk again.
 */
bool walk_set_accessed(struct address_space *as, struct walk *walk, bool write);

/* Physical address bits that an entry must have clear: 63 .. MAXPHYADDR, below `top`. */
uint64_t walk_reserved_high(const struct x86_cpu *cpu, unsigned top);

#endif
