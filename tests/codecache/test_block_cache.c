/* Blocks, links and invalidation, seen through the code bytes and cells that they change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "codecache/block_cache.h"

enum { CODE_SIZE = 1 << 20, BLOCK_SIZE = 64, SITE = 16, STUB = 48 };

static void setup(struct block_cache *cache)
{
    struct vd_error err;
    assert_int_equal(block_cache_init(cache, CODE_SIZE, &err), 0);
}

/* A block on page with one rel32 exit; key.ip is its name. */
static uint32_t add(struct block_cache *cache, uint64_t ip, uint64_t page, unsigned offset,
                    unsigned size, bool cell)
{
    size_t at = code_memory_reserve(&cache->memory, BLOCK_SIZE);
    assert_true(at != SIZE_MAX);
    code_memory_commit(&cache->memory, BLOCK_SIZE);
    struct code_block block = {
        .key = {.ip = ip},
        .host_offset = (uint32_t)at,
        .host_size = BLOCK_SIZE,
        .body_offset = (uint32_t)at + 8,
        .guest_bytes = size,
        .range = {{.page = page, .offset = (uint16_t)offset, .size = (uint16_t)size}},
        .range_count = 1,
    };
    uint32_t index = block_cache_add(cache, &block);
    struct code_exit out = {.target = ip + 1,
                            .site = (uint32_t)at + SITE,
                            .stub = (uint32_t)at + STUB,
                            .cell = CELL_NONE};
    if (cell)
        out.cell = code_memory_cell(&cache->memory);
    block_cache_add_exit(cache, &out);
    return index;
}

/* Where the exit of a block leads: offset in code memory. */
static uint32_t leads_to(const struct block_cache *cache, uint32_t block)
{
    const struct code_exit *out = &cache->exits[cache->blocks[block].first_exit];
    if (out->cell != CELL_NONE)
        return (uint32_t)(cache->memory.cells[out->cell] - (uint64_t)(uintptr_t)cache->memory.exec);
    int32_t rel;
    memcpy(&rel, cache->memory.exec + out->site, sizeof(rel));
    return out->site + 4 + (uint32_t)rel;
}

static void count_gone(void *ctx, const struct code_block *block)
{
    (void)block;
    ++*(unsigned *)ctx;
}

static void test_find_by_whole_key(void **state)
{
    (void)state;
    struct block_cache cache;
    setup(&cache);
    uint32_t a = add(&cache, 10, 1, 0, 4, false);
    struct block_key key = {.ip = 10};
    assert_int_equal(block_cache_find(&cache, &key), a);
    key.mode = 1;
    assert_int_equal(block_cache_find(&cache, &key), BLOCK_NONE);
    key.mode = 0;
    key.base = 1;
    assert_int_equal(block_cache_find(&cache, &key), BLOCK_NONE);
    block_cache_free(&cache);
}

static void test_link_and_invalidate(void **state)
{
    (void)state;
    struct block_cache cache;
    setup(&cache);
    uint32_t a = add(&cache, 10, 1, 0, 4, false), b = add(&cache, 20, 2, 0, 4, false);
    assert_int_equal(leads_to(&cache, a), cache.blocks[a].host_offset + STUB);
    block_cache_link(&cache, cache.blocks[a].first_exit, b, false);
    assert_int_equal(leads_to(&cache, a), cache.blocks[b].body_offset);
    unsigned gone = 0;
    assert_int_equal(block_cache_invalidate(&cache, 2, 4, 1, count_gone, &gone), 1);
    assert_int_equal(gone, 0); /* the byte behind the block */
    assert_int_equal(block_cache_invalidate(&cache, 2, 3, 1, count_gone, &gone), 0);
    assert_int_equal(gone, 1);
    assert_int_equal(leads_to(&cache, a), cache.blocks[a].host_offset + STUB);
    struct block_key key = {.ip = 20};
    assert_int_equal(block_cache_find(&cache, &key), BLOCK_NONE);
    /* an invalid block is never linked again, in either direction */
    block_cache_link(&cache, cache.blocks[a].first_exit, b, false);
    block_cache_link(&cache, cache.blocks[b].first_exit, a, false);
    assert_int_equal(leads_to(&cache, a), cache.blocks[a].host_offset + STUB);
    assert_int_equal(leads_to(&cache, b), cache.blocks[b].host_offset + STUB);
    block_cache_free(&cache);
}

static void test_polling_entry(void **state)
{
    (void)state;
    struct block_cache cache;
    setup(&cache);
    uint32_t a = add(&cache, 10, 1, 0, 4, false);
    cache.exits[cache.blocks[a].first_exit].poll = 1;
    block_cache_link(&cache, cache.blocks[a].first_exit, a, false);
    assert_int_equal(leads_to(&cache, a), cache.blocks[a].host_offset);
    block_cache_free(&cache);
}

static void test_cells(void **state)
{
    (void)state;
    struct block_cache cache;
    setup(&cache);
    uint32_t blocks[8];
    for (unsigned i = 0; i < 8; i++)
        blocks[i] = add(&cache, i, i, 0, 4, i % 2 == 0);
    for (unsigned i = 0; i < 8; i++)
        block_cache_link(&cache, cache.blocks[blocks[i]].first_exit, blocks[(i + 1) % 8], false);
    unsigned gone = 0;
    block_cache_invalidate(&cache, 3, 0, 4096, count_gone, &gone);
    assert_int_equal(gone, 1);
    block_cache_unlink_cells(&cache, false);
    assert_int_equal(cache.active_count[0], 0);
    for (unsigned i = 0; i < 8; i++) {
        uint32_t own = cache.blocks[blocks[i]].host_offset + STUB;
        uint32_t next = cache.blocks[blocks[(i + 1) % 8]].body_offset;
        bool linked = i % 2 == 1 && i != 3;
        assert_int_equal(leads_to(&cache, blocks[i]), linked ? next : own);
    }
    block_cache_free(&cache);
}

static void test_lasting_cells(void **state)
{
    (void)state;
    struct block_cache cache;
    setup(&cache);
    uint32_t a = add(&cache, 1, 1, 0, 4, true), b = add(&cache, 2, 2, 0, 4, true);
    block_cache_link(&cache, cache.blocks[a].first_exit, b, true);
    block_cache_link(&cache, cache.blocks[b].first_exit, a, false);
    block_cache_unlink_cells(&cache, true);
    assert_int_equal(leads_to(&cache, a), cache.blocks[b].body_offset);
    assert_int_equal(leads_to(&cache, b), cache.blocks[b].host_offset + STUB);
    block_cache_unlink_cells(&cache, false);
    assert_int_equal(leads_to(&cache, a), cache.blocks[a].host_offset + STUB);
    block_cache_free(&cache);
}

/* Random links and invalidations against a model of what must lead where. */
static void test_random(void **state)
{
    (void)state;
    enum { COUNT = 200, PAGES = 7 };
    struct block_cache cache;
    setup(&cache);
    uint32_t block[COUNT];
    int linked[COUNT];
    bool alive[COUNT];
    unsigned page[COUNT], offset[COUNT], seed = 12345;
    for (unsigned i = 0; i < COUNT; i++) {
        seed = seed * 1103515245 + 12345;
        page[i] = seed >> 16 & 0xff;
        page[i] %= PAGES;
        offset[i] = (seed >> 8 & 0xff) * 8;
        block[i] = add(&cache, i, page[i], offset[i], 8, i % 3 == 0);
        linked[i] = -1;
        alive[i] = true;
    }
    for (unsigned round = 0; round < 20000; round++) {
        seed = seed * 1103515245 + 12345;
        unsigned a = (seed >> 16) % COUNT;
        seed = seed * 1103515245 + 12345;
        unsigned b = (seed >> 16) % COUNT;
        bool covers = false;
        for (unsigned i = 0; i < COUNT; i++)
            covers |= alive[i] && page[i] == page[b] && offset[i] < offset[a] + 6 + a &&
                      offset[i] + 8 > offset[a] + 5;
        assert_int_equal(block_cache_covers(&cache, page[b], offset[a] + 5, 1 + a), covers);
        if (round % 64 != 63) {
            block_cache_link(&cache, cache.blocks[block[a]].first_exit, block[b], false);
            if (alive[a] && alive[b] && linked[a] < 0)
                linked[a] = (int)b;
        } else if (round % 640 != 639) {
            block_cache_unlink_cells(&cache, false);
            for (unsigned i = 0; i < COUNT; i += 3)
                linked[i] = -1;
        } else {
            unsigned gone = 0, expected = 0;
            block_cache_invalidate(&cache, page[a], offset[a], 1, count_gone, &gone);
            for (unsigned i = 0; i < COUNT; i++) {
                if (!alive[i] || page[i] != page[a] || offset[i] != offset[a])
                    continue;
                alive[i] = false;
                linked[i] = -1;
                expected++;
                for (unsigned k = 0; k < COUNT; k++)
                    linked[k] = linked[k] == (int)i ? -1 : linked[k];
            }
            assert_int_equal(gone, expected);
        }
    }
    for (unsigned i = 0; i < COUNT; i++) {
        uint32_t expected = linked[i] < 0 ? cache.blocks[block[i]].host_offset + STUB
                                          : cache.blocks[block[linked[i]]].body_offset;
        assert_int_equal(leads_to(&cache, block[i]), expected);
    }
    block_cache_free(&cache);
}

static void no_page(void *ctx, uint64_t page)
{
    *(uint64_t *)ctx |= 1ull << page;
}

static void test_reset_and_locate(void **state)
{
    (void)state;
    struct block_cache cache;
    setup(&cache);
    uint32_t a = add(&cache, 10, 1, 0, 4, false), b = add(&cache, 20, 5, 0, 4, true);
    assert_int_equal(block_cache_at(&cache, block_entry(&cache, a)), a);
    assert_int_equal(block_cache_at(&cache, block_entry(&cache, b) + BLOCK_SIZE - 1), b);
    assert_int_equal(block_cache_at(&cache, cache.memory.exec + cache.memory.used), BLOCK_NONE);
    assert_true(block_cache_page_used(&cache, 5));
    uint64_t pages = 0;
    block_cache_reset(&cache, no_page, &pages);
    assert_int_equal(pages, 1 << 1 | 1 << 5);
    assert_false(block_cache_page_used(&cache, 5));
    struct block_key key = {.ip = 10};
    assert_int_equal(block_cache_find(&cache, &key), BLOCK_NONE);
    assert_int_equal(add(&cache, 10, 1, 0, 4, false), 0);
    block_cache_free(&cache);
}

static void test_memory_limits(void **state)
{
    (void)state;
    struct code_memory memory;
    struct vd_error err;
    assert_int_equal(code_memory_init(&memory, 64 * 1024, 16, &err), 0);
    size_t at = code_memory_reserve(&memory, 100);
    memory.write[at] = 0xc3;
    assert_int_equal(memory.exec[at], 0xc3); /* two views of the same bytes */
    code_memory_commit(&memory, 1);
    assert_int_equal(memory.used, 16);
    code_memory_fix(&memory);
    assert_true(code_memory_reserve(&memory, 64 * 1024) == SIZE_MAX);
    assert_int_equal(code_memory_reserve(&memory, 1000), 16);
    code_memory_commit(&memory, 0);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(code_memory_cell(&memory), i);
    assert_true(code_memory_cell(&memory) == UINT32_MAX);
    code_memory_reset(&memory);
    assert_int_equal(memory.used, 16);
    code_memory_free(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find_by_whole_key), cmocka_unit_test(test_link_and_invalidate),
        cmocka_unit_test(test_polling_entry),     cmocka_unit_test(test_cells),
        cmocka_unit_test(test_lasting_cells),     cmocka_unit_test(test_random),
        cmocka_unit_test(test_reset_and_locate),  cmocka_unit_test(test_memory_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
