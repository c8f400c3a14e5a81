/*
 * Liveness and structure of regions over real code (every executable segment of this process),
 * checked flag by flag with an independent method: a search for a path on which the flag is read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "prescan/prescan.h"

enum { ARITH = 0x8d5, MAX_SEGMENTS = 64, MAX_INSNS = 4096 };

struct segment {
    const uint8_t *start;
    size_t size;
};

struct process {
    struct segment segments[MAX_SEGMENTS];
    unsigned count;
};

static int add_object(struct dl_phdr_info *info, size_t size, void *data)
{
    struct process *process = data;

    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_LOAD || (header->p_flags & (PF_X | PF_R)) != (PF_X | PF_R) ||
            header->p_memsz < 4096 || process->count == MAX_SEGMENTS)
            continue;
        process->segments[process->count].start =
            (const uint8_t *)(info->dlpi_addr + header->p_vaddr);
        process->segments[process->count++].size = header->p_memsz;
    }
    return 0;
}

static size_t fetch(void *ctx, uint64_t ip, uint8_t *buffer, size_t size)
{
    const struct segment *segment = ctx;

    if (ip >= segment->size)
        return 0;
    if (size > segment->size - ip)
        size = segment->size - (size_t)ip;
    memcpy(buffer, segment->start + ip, size);
    return size;
}

/* --- the independent method --- */

struct walk {
    const struct prescan_region *region;
    uint16_t flag;
    uint8_t seen[MAX_INSNS]; /* the flag's value reaches the front of this block */
    uint64_t low, high;      /* bytes that were looked at */
};

static int reaches_reader(struct walk *walk, const struct prescan_block *block, unsigned from);

static int successor_reads(struct walk *walk, int32_t index)
{
    if (index < 0)
        return 1; /* unknown code may read it */
    if (walk->seen[index])
        return 0;
    walk->seen[index] = 1;
    return reaches_reader(walk, &walk->region->blocks[index], 0);
}

static int end_reads(struct walk *walk, const struct prescan_block *block)
{
    switch ((enum prescan_end)block->end) {
    case END_BRANCH:
        return successor_reads(walk, block->taken) | successor_reads(walk, block->fall);
    case END_JUMP:
    case END_CALL:
        return successor_reads(walk, block->taken);
    case END_LIMIT:
        return successor_reads(walk, block->fall);
    default:
        return 1;
    }
}

static int reaches_reader(struct walk *walk, const struct prescan_block *block, unsigned from)
{
    uint64_t ip = block->ip;

    for (unsigned i = 0; i < block->count; i++) {
        const struct insn *insn = &walk->region->insns[block->first + i];
        if (i >= from) {
            if (ip < walk->low)
                walk->low = ip;
            if (ip + insn->len > walk->high)
                walk->high = ip + insn->len;
            if (insn->kind == KIND_CALLOUT || (insn->flags_read & walk->flag))
                return 1;
            if (insn->flags_written & walk->flag)
                return 0;
        }
        ip += insn->len;
    }
    return end_reads(walk, block);
}

static void check_liveness(const struct prescan_region *region)
{
    static struct walk walk; /* large */

    for (unsigned b = 0; b < region->block_count; b++) {
        const struct prescan_block *block = &region->blocks[b];
        for (unsigned bit = 0; bit < 12; bit++) {
            if (!(ARITH >> bit & 1))
                continue;
            for (unsigned i = 0; i <= block->count; i++) {
                memset(&walk, 0, sizeof(walk));
                walk.region = region;
                walk.flag = (uint16_t)(1u << bit);
                walk.low = UINT64_MAX;
                int live =
                    i < block->count ? reaches_reader(&walk, block, i) : end_reads(&walk, block);
                if (live != ((prescan_flags_live(region, block, i) >> bit) & 1))
                    fail_msg("flag %u before instruction %u of block %#llx", bit, i,
                             (unsigned long long)block->ip);
                /* a flag found dead behind the block relies on these bytes */
                if (i == block->count && !live &&
                    (walk.low < block->peek_low || walk.high > block->peek_high))
                    fail_msg("peek range of block %#llx", (unsigned long long)block->ip);
            }
        }
        assert_int_equal(prescan_flags_live(region, block, 0), block->flags_live_in);
        assert_int_equal(prescan_flags_live(region, block, block->count), block->flags_live_out);
    }
}

/* --- structure --- */

static int32_t index_of(const struct prescan_region *region, uint64_t ip)
{
    for (unsigned i = 0; i < region->block_count; i++)
        if (region->blocks[i].ip == ip)
            return (int32_t)i;
    return -1;
}

static void check_structure(const struct prescan_region *region, struct segment *segment,
                            const struct prescan_params *params)
{
    assert_true(region->block_count >= 1 && region->block_count <= params->max_blocks);
    assert_true(region->insn_count <= params->max_insns + region->block_count);
    for (unsigned b = 0; b < region->block_count; b++) {
        const struct prescan_block *block = &region->blocks[b];
        uint64_t ip = block->ip;
        assert_int_equal(index_of(region, ip), b); /* no two blocks at one place */
        assert_true(block->first + block->count <= region->insn_count);
        assert_true(block->count > 0 || (block->end == END_UNREADABLE && b == 0));
        for (unsigned i = 0; i < block->count; i++) {
            const struct insn *insn = &region->insns[block->first + i];
            assert_memory_equal(insn->bytes, segment->start + ip, insn->len);
            assert_int_equal(prescan_ends_block(insn), i + 1 == block->count &&
                                                           block->end != END_LIMIT &&
                                                           block->end != END_UNREADABLE);
            ip += insn->len;
        }
        assert_int_equal(ip, block->ip + block->bytes);
        if (block->fall >= 0)
            assert_int_equal(region->blocks[block->fall].ip, ip);
        if (block->taken >= 0)
            assert_int_equal(region->blocks[block->taken].ip, block->target);
        if (block->has_target)
            assert_int_equal(block->taken, index_of(region, block->target));
    }
}

static void test_real_code(void **state)
{
    struct process process = {.count = 0};
    struct prescan_region region = {0};
    unsigned seed = 99, regions = 0;
    unsigned long blocks = 0, insns = 0, dead = 0;
    const char *from_env = getenv("VEDETTE_SEED");

    (void)state;
    if (from_env)
        seed = (unsigned)strtoul(from_env, NULL, 0);
    print_message("seed %u\n", seed);
    dl_iterate_phdr(add_object, &process);
    assert_true(process.count > 0);
    for (; regions < 1500; regions++) {
        struct segment *segment = &process.segments[(unsigned)rand_r(&seed) % process.count];
        unsigned page = 1u + (unsigned)rand_r(&seed) % 8;
        struct prescan_params params = {
            .fetch = fetch,
            .fetch_ctx = segment,
            .bits = 64,
            .entry = ((uint64_t)rand_r(&seed) * 16) % segment->size,
            .max_blocks = 1u + (unsigned)rand_r(&seed) % 40,
            .max_block_insns = 1u + (unsigned)rand_r(&seed) % 40,
            .max_insns = 2u + (unsigned)rand_r(&seed) % 300,
        };
        params.low = params.entry & ~0xfffull;
        params.high = params.low + page * 4096;
        assert_int_equal(prescan_run(&region, &params), 0);
        check_structure(&region, segment, &params);
        check_liveness(&region);
        blocks += region.block_count;
        insns += region.insn_count;
        for (unsigned b = 0; b < region.block_count; b++)
            dead += region.blocks[b].flags_live_out != ARITH;
    }
    prescan_region_free(&region);
    print_message("%u regions, %lu blocks (%lu with a dead flag behind them), %lu instructions\n",
                  regions, blocks, dead, insns);
    assert_true(dead > blocks / 20);
}

/* Any bytes, any code size: it ends, and what it says is consistent. */
static void test_random_bytes(void **state)
{
    static uint8_t bytes[4096];
    struct segment segment = {bytes, sizeof(bytes)};
    struct prescan_region region = {0};
    unsigned seed = 7;

    (void)state;
    for (unsigned n = 0; n < 3000; n++) {
        struct prescan_params params = {
            .fetch = fetch,
            .fetch_ctx = &segment,
            .bits = 16u << (n % 3),
            .entry = (unsigned)rand_r(&seed) % sizeof(bytes),
            .low = 0,
            .high = sizeof(bytes),
            .max_blocks = 600,
            .max_block_insns = 64,
            .max_insns = 2000,
        };
        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = (uint8_t)(rand_r(&seed) >> 7);
            if (rand_r(&seed) % 5 == 0) /* plenty of short jumps */
                bytes[i] = (uint8_t)(0x70 + rand_r(&seed) % 16);
        }
        assert_int_equal(prescan_run(&region, &params), 0);
        check_structure(&region, &segment, &params);
        if (n % 20 == 0 && region.insn_count < 500)
            check_liveness(&region);
    }
    prescan_region_free(&region);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_code),
        cmocka_unit_test(test_random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
