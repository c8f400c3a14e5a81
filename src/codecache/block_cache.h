/*
 * Translated blocks: lookup by key, chaining of direct exits, invalidation by guest page. Knows no
 * x86 semantics: keys are opaque words, exits are sites that jump somewhere.
 *
 * An exit is either a rel32 inside the code (for targets whose validity does not depend on address
 * translation) or a cell that an indirect jump reads. Unlinked, both lead to the exit's own stub.
 * Cell exits are dropped all together by block_cache_unlink_cells when some address translation
 * changed.
 *
 * Code of an invalidated block stays in place (a host return address may still lead into it) until
 * the whole cache is reset; its exits are never linked again.
 */
#ifndef VD_CODECACHE_BLOCK_CACHE_H
#define VD_CODECACHE_BLOCK_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codecache/code_memory.h"

struct block_key {
    uint64_t physical; /* guest-physical address of the first byte */
    uint64_t ip;       /* guest instruction pointer */
    uint64_t base;     /* code segment base and limit, or 0 when flat */
    uint64_t mode;     /* everything else that translation depends on */
};

enum { BLOCK_NONE = UINT32_MAX, EXIT_NONE = UINT32_MAX, CELL_NONE = UINT32_MAX };

/* Bytes [offset, offset + size) of a guest page that a block was made from. */
struct block_range {
    uint64_t page; /* backing page number */
    uint16_t offset, size;
    uint32_t block;
    uint32_t next; /* range of the same page, BLOCK_NONE: end */
};

enum { BLOCK_RANGES = 2 };

struct code_block {
    struct block_key key;
    uint32_t host_offset, host_size; /* in code memory */
    uint32_t body_offset;            /* entry without the poll */
    uint32_t hash_next;
    uint32_t first_exit, exit_count;
    uint32_t map_offset, map_count; /* engine's own host-to-guest map */
    uint32_t guest_bytes;
    uint32_t incoming; /* exits linked here */
    uint32_t user;     /* engine's own */
    struct block_range range[BLOCK_RANGES];
    uint8_t range_count;
    bool valid;
};

struct code_exit {
    uint64_t target;     /* guest ip */
    uint32_t block;      /* owner */
    uint32_t site;       /* offset of the rel32, if cell is CELL_NONE */
    uint32_t cell;       /* cell index, or CELL_NONE */
    uint32_t stub;       /* offset of the unlinked stub */
    uint32_t linked;     /* target block, BLOCK_NONE: unlinked */
    uint32_t next, prev; /* in the target's incoming list */
    uint32_t active;     /* position + 1 in the list of linked cells, 0: not in it */
    uint8_t lasting;     /* linked as lasting, see block_cache_link */
    uint8_t variant;     /* engine's own: which kind of block the target must be */
    uint8_t poll;        /* link to the polling entry (backward or unknown direction) */
};

struct block_cache_stats {
    uint64_t blocks, guest_bytes, host_bytes, links, unlinks, invalidations, resets;
};

struct block_cache {
    struct code_memory memory;
    struct code_block *blocks;
    uint32_t block_count, block_capacity;
    struct code_exit *exits;
    uint32_t exit_count, exit_capacity;
    uint32_t *hash;
    uint32_t hash_mask;
    struct page_slot *pages; /* hash of pages that hold code */
    uint32_t page_mask, page_used;
    uint32_t *active_cells[2]; /* linked cell exits: [lasting] */
    uint32_t active_count[2];
    struct block_cache_stats stats;
};

int block_cache_init(struct block_cache *cache, size_t code_size, struct vd_error *err);
void block_cache_free(struct block_cache *cache);

/* Index of the valid block with this key, or BLOCK_NONE. */
uint32_t block_cache_find(const struct block_cache *cache, const struct block_key *key);

/* True if a block with this many exits may be added; false: reset first. */
bool block_cache_has_room(const struct block_cache *cache, uint32_t exits);
/*
 * Adds a block whose code is committed; range[] gives the guest bytes it depends on (offset + size
 * stay within the page). Returns its index. Exits are added right behind with block_cache_add_exit,
 * in order.
 */
uint32_t block_cache_add(struct block_cache *cache, const struct code_block *block);
uint32_t block_cache_next_exit(const struct block_cache *cache);
void block_cache_add_exit(struct block_cache *cache, const struct code_exit *code_exit);

/*
 * Makes the exit jump straight to the block. No effect if either side is invalid. lasting: a cell
 * that block_cache_unlink_cells may spare.
 */
void block_cache_link(struct block_cache *cache, uint32_t exit_index, uint32_t block, bool lasting);
/* Every cell exit jumps to its stub again; with spare_lasting only those that are not lasting. */
void block_cache_unlink_cells(struct block_cache *cache, bool spare_lasting);

/*
 * Invalidates the blocks that depend on any of these bytes of a page and calls gone for each.
 * Returns how many blocks of the page are left.
 */
unsigned block_cache_invalidate(struct block_cache *cache, uint64_t page, unsigned offset,
                                unsigned size, void (*gone)(void *ctx, const struct code_block *),
                                void *ctx);
/* True if a valid block depends on any of these bytes of a page. */
bool block_cache_covers(const struct block_cache *cache, uint64_t page, unsigned offset,
                        unsigned size);
/* True if any valid block depends on the page. */
bool block_cache_page_used(const struct block_cache *cache, uint64_t page);

/* Drops everything but the fixed stubs. Calls gone_page for every page that held code. */
void block_cache_reset(struct block_cache *cache, void (*gone_page)(void *ctx, uint64_t page),
                       void *ctx);

/* The block whose code contains the executable address, or BLOCK_NONE (stubs). Also finds
 * invalidated ones. */
uint32_t block_cache_at(const struct block_cache *cache, const void *exec);

static inline uint8_t *block_entry(const struct block_cache *cache, uint32_t block)
{
    return cache->memory.exec + cache->blocks[block].host_offset;
}
static inline uint8_t *block_body(const struct block_cache *cache, uint32_t block)
{
    return cache->memory.exec + cache->blocks[block].body_offset;
}

#endif
