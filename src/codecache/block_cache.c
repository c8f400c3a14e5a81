#include "codecache/block_cache.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"

/* Lookup runs while guest vector state is in host registers: the scalar variant. */
#define XXH_INLINE_ALL
#define XXH_VECTOR 0
#include <xxhash.h>

enum { RANGE_END = UINT32_MAX };

/* Head of the list of ranges on one guest page. Open addressing; page + 1 marks a used slot. */
struct page_slot {
    uint64_t page_plus_1;
    uint32_t first; /* block index * BLOCK_RANGES + range index */
    uint32_t count;
    uint64_t lines; /* of LINE bytes: those that code was in since there was none */
};
enum { LINE = 64, PAGE = 64 * LINE };

static void *reserve_array(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void release_array(void *p, size_t bytes)
{
    if (p)
        munmap(p, bytes);
}

int block_cache_init(struct block_cache *cache, size_t code_size, struct vd_error *err)
{
    memset(cache, 0, sizeof(*cache));
    /* Measured blocks average over 200 host bytes; capacities leave ample head room. */
    cache->block_capacity = (uint32_t)(code_size / 96);
    cache->exit_capacity = cache->block_capacity * 2 + 16;
    uint32_t slots = 1024;
    while (slots < cache->block_capacity)
        slots *= 2;
    cache->hash_mask = slots - 1;
    cache->page_mask = 65536 - 1;
    if (code_memory_init(&cache->memory, code_size, cache->exit_capacity, err) < 0)
        return -1;
    cache->blocks = reserve_array(cache->block_capacity * sizeof(*cache->blocks));
    cache->exits = reserve_array(cache->exit_capacity * sizeof(*cache->exits));
    cache->hash = reserve_array(slots * sizeof(*cache->hash));
    cache->pages = reserve_array((cache->page_mask + 1) * sizeof(*cache->pages));
    for (unsigned i = 0; i < 2; i++)
        cache->active_cells[i] = reserve_array(cache->exit_capacity * sizeof(uint32_t));
    if (!cache->blocks || !cache->exits || !cache->hash || !cache->pages ||
        !cache->active_cells[0] || !cache->active_cells[1]) {
        block_cache_free(cache);
        return error_set(err, "code cache: no memory for block tables");
    }
    memset(cache->hash, 0xff, slots * sizeof(*cache->hash));
    return 0;
}

void block_cache_free(struct block_cache *cache)
{
    code_memory_free(&cache->memory);
    release_array(cache->blocks, cache->block_capacity * sizeof(*cache->blocks));
    release_array(cache->exits, cache->exit_capacity * sizeof(*cache->exits));
    release_array(cache->hash, (cache->hash_mask + 1ull) * sizeof(*cache->hash));
    release_array(cache->pages, (cache->page_mask + 1ull) * sizeof(*cache->pages));
    for (unsigned i = 0; i < 2; i++)
        release_array(cache->active_cells[i], cache->exit_capacity * sizeof(uint32_t));
    memset(cache, 0, sizeof(*cache));
}

static uint32_t hash_slot(const struct block_cache *cache, const struct block_key *key)
{
    return (uint32_t)XXH3_64bits(key, sizeof(*key)) & cache->hash_mask;
}

uint32_t block_cache_find(const struct block_cache *cache, const struct block_key *key)
{
    uint32_t index = cache->hash[hash_slot(cache, key)];
    while (index != BLOCK_NONE && !bytes_equal(&cache->blocks[index].key, key, sizeof(*key)))
        index = cache->blocks[index].hash_next;
    return index;
}

static struct page_slot *page_find(const struct block_cache *cache, uint64_t page)
{
    uint32_t i = (uint32_t)(page * 0x9e3779b97f4a7c15ull >> 40) & cache->page_mask;
    while (cache->pages[i].page_plus_1 && cache->pages[i].page_plus_1 != page + 1)
        i = (i + 1) & cache->page_mask;
    return &cache->pages[i];
}

bool block_cache_has_room(const struct block_cache *cache, uint32_t exits)
{
    return cache->block_count < cache->block_capacity &&
           cache->exit_capacity - cache->exit_count >= exits &&
           cache->page_used < cache->page_mask / 4 * 3;
}

/* The units of LINE bytes that [offset, offset + size) of a page touches, size > 0. */
static uint64_t lines_of(unsigned offset, unsigned size)
{
    unsigned first = offset / LINE, last = (offset + size - 1) / LINE;
    return UINT64_MAX << first & UINT64_MAX >> (63 - last);
}

uint32_t block_cache_add(struct block_cache *cache, const struct code_block *block)
{
    assert(cache->block_count < cache->block_capacity);
    uint32_t index = cache->block_count++;
    struct code_block *b = &cache->blocks[index];
    bytes_copy(b, block, sizeof(*b));
    b->valid = true;
    b->incoming = EXIT_NONE;
    b->first_exit = cache->exit_count;
    b->exit_count = 0;
    uint32_t slot = hash_slot(cache, &b->key);
    b->hash_next = cache->hash[slot];
    cache->hash[slot] = index;
    for (unsigned i = 0; i < b->range_count; i++) {
        struct block_range *range = &b->range[i];
        struct page_slot *page = page_find(cache, range->page);
        assert(range->size && range->offset + range->size <= PAGE);
        if (!page->page_plus_1) {
            page->page_plus_1 = range->page + 1;
            page->first = RANGE_END;
            page->count = 0;
            page->lines = 0;
            cache->page_used++;
        }
        range->block = index;
        range->next = page->first;
        page->first = index * BLOCK_RANGES + i;
        page->count++;
        page->lines |= lines_of(range->offset, range->size);
    }
    cache->stats.blocks++;
    cache->stats.guest_bytes += b->guest_bytes;
    cache->stats.host_bytes += b->host_size;
    return index;
}

uint32_t block_cache_next_exit(const struct block_cache *cache)
{
    return cache->exit_count;
}

static void exit_set(struct block_cache *cache, const struct code_exit *e, uint32_t offset)
{
    struct code_memory *memory = &cache->memory;
    if (e->cell != CELL_NONE) {
        memory->cells[e->cell] = (uint64_t)(uintptr_t)(memory->exec + offset);
        return;
    }
    int32_t displacement = (int32_t)(offset - (e->site + 4));
    bytes_copy(memory->write + e->site, &displacement, sizeof(displacement));
}

void block_cache_add_exit(struct block_cache *cache, const struct code_exit *code_exit)
{
    assert(cache->exit_count < cache->exit_capacity);
    struct code_exit *e = &cache->exits[cache->exit_count++];
    *e = *code_exit;
    e->block = cache->block_count - 1;
    e->linked = BLOCK_NONE;
    e->active = 0;
    cache->blocks[e->block].exit_count++;
    exit_set(cache, e, e->stub);
}

void block_cache_link(struct block_cache *cache, uint32_t exit_index, uint32_t block, bool lasting)
{
    struct code_exit *e = &cache->exits[exit_index];
    struct code_block *target = &cache->blocks[block];
    if (!target->valid || !cache->blocks[e->block].valid || e->linked != BLOCK_NONE)
        return;
    e->linked = block;
    e->prev = EXIT_NONE;
    e->next = target->incoming;
    if (e->next != EXIT_NONE)
        cache->exits[e->next].prev = exit_index;
    target->incoming = exit_index;
    if (e->cell != CELL_NONE) {
        e->lasting = lasting;
        cache->active_cells[lasting][cache->active_count[lasting]++] = exit_index;
        e->active = cache->active_count[lasting];
    }
    exit_set(cache, e, e->poll ? target->host_offset : target->body_offset);
    cache->stats.links++;
}

static void exit_unlink(struct block_cache *cache, uint32_t exit_index)
{
    struct code_exit *e = &cache->exits[exit_index];
    if (e->linked == BLOCK_NONE)
        return;
    if (e->prev != EXIT_NONE)
        cache->exits[e->prev].next = e->next;
    else
        cache->blocks[e->linked].incoming = e->next;
    if (e->next != EXIT_NONE)
        cache->exits[e->next].prev = e->prev;
    if (e->active) {
        uint32_t *active = cache->active_cells[e->lasting];
        uint32_t last = active[--cache->active_count[e->lasting]];
        active[e->active - 1] = last;
        cache->exits[last].active = e->active;
        e->active = 0;
    }
    e->linked = BLOCK_NONE;
    exit_set(cache, e, e->stub);
    cache->stats.unlinks++;
}

void block_cache_unlink_cells(struct block_cache *cache, bool spare_lasting)
{
    for (unsigned i = 0; i < (spare_lasting ? 1u : 2u); i++) {
        while (cache->active_count[i])
            exit_unlink(cache, cache->active_cells[i][cache->active_count[i] - 1]);
    }
}

static void range_remove(struct block_cache *cache, uint32_t index, unsigned i)
{
    struct block_range *range = &cache->blocks[index].range[i];
    struct page_slot *page = page_find(cache, range->page);
    uint32_t *link = &page->first;
    while (*link != index * BLOCK_RANGES + i)
        link = &cache->blocks[*link / BLOCK_RANGES].range[*link % BLOCK_RANGES].next;
    *link = range->next;
    if (--page->count == 0)
        page->lines = 0;
}

static void block_remove(struct block_cache *cache, uint32_t index)
{
    struct code_block *b = &cache->blocks[index];
    while (b->incoming != EXIT_NONE)
        exit_unlink(cache, b->incoming);
    for (uint32_t i = 0; i < b->exit_count; i++)
        exit_unlink(cache, b->first_exit + i);
    for (unsigned i = 0; i < b->range_count; i++)
        range_remove(cache, index, i);
    uint32_t *link = &cache->hash[hash_slot(cache, &b->key)];
    while (*link != index)
        link = &cache->blocks[*link].hash_next;
    *link = b->hash_next;
    b->valid = false;
    cache->stats.invalidations++;
}

static bool range_overlaps(const struct block_range *range, unsigned offset, unsigned size)
{
    return offset < (unsigned)range->offset + range->size && offset + size > range->offset;
}

bool block_cache_covers(const struct block_cache *cache, uint64_t page, unsigned offset,
                        unsigned size)
{
    const struct page_slot *slot = page_find(cache, page);
    if (!slot->page_plus_1 || !slot->count || !(slot->lines & lines_of(offset, size)))
        return false;
    const struct block_range *range;
    for (uint32_t item = slot->first; item != RANGE_END; item = range->next) {
        range = &cache->blocks[item / BLOCK_RANGES].range[item % BLOCK_RANGES];
        if (range_overlaps(range, offset, size))
            return true;
    }
    return false;
}

unsigned block_cache_invalidate(struct block_cache *cache, uint64_t page, unsigned offset,
                                unsigned size, void (*gone)(void *ctx, const struct code_block *),
                                void *ctx)
{
    struct page_slot *slot = page_find(cache, page);
    if (!slot->page_plus_1)
        return 0;
    uint32_t item = slot->first;
    while (item != RANGE_END) {
        uint32_t index = item / BLOCK_RANGES;
        const struct block_range *range = &cache->blocks[index].range[item % BLOCK_RANGES];
        item = range->next;
        if (!range_overlaps(range, offset, size))
            continue;
        /* The same block may be on this page's list twice: step over its other range. */
        while (item != RANGE_END && item / BLOCK_RANGES == index)
            item = cache->blocks[index].range[item % BLOCK_RANGES].next;
        block_remove(cache, index);
        gone(ctx, &cache->blocks[index]);
    }
    return slot->count;
}

bool block_cache_page_used(const struct block_cache *cache, uint64_t page)
{
    const struct page_slot *slot = page_find(cache, page);
    return slot->page_plus_1 && slot->count;
}

void block_cache_reset(struct block_cache *cache, void (*gone_page)(void *ctx, uint64_t page),
                       void *ctx)
{
    for (uint32_t i = 0; i <= cache->page_mask; i++) {
        if (cache->pages[i].page_plus_1)
            gone_page(ctx, cache->pages[i].page_plus_1 - 1);
    }
    memset(cache->pages, 0, (cache->page_mask + 1ull) * sizeof(*cache->pages));
    memset(cache->hash, 0xff, (cache->hash_mask + 1ull) * sizeof(*cache->hash));
    cache->page_used = 0;
    cache->block_count = 0;
    cache->exit_count = 0;
    cache->active_count[0] = cache->active_count[1] = 0;
    code_memory_reset(&cache->memory);
    cache->stats.resets++;
}

uint32_t block_cache_at(const struct block_cache *cache, const void *exec)
{
    if (!code_memory_contains(&cache->memory, exec))
        return BLOCK_NONE;
    uint32_t offset = (uint32_t)((const uint8_t *)exec - cache->memory.exec);
    uint32_t low = 0, high = cache->block_count; /* blocks are in order of their code */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct code_block *b = &cache->blocks[middle];
        if (offset < b->host_offset)
            high = middle;
        else if (offset >= b->host_offset + b->host_size)
            low = middle + 1;
        else
            return middle;
    }
    return BLOCK_NONE;
}
