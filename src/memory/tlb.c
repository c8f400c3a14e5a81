#include "memory/tlb.h"

enum { WORDS = TLB_ENTRIES / 64, REGION_SHIFT = 21, GIANT_SHIFT = 30 };

static void drop_data(struct mmu *mmu, unsigned side, unsigned index)
{
    struct tlb_entry *e = &mmu->tlb[side][index];
    e->read_tag = e->write_tag = tlb_invalid_tag(index);
}

static void drop_exec(struct mmu *mmu, unsigned side, unsigned index)
{
    mmu->exec[side][index].tag = tlb_invalid_tag(index);
}

/* --- large pages --- */

static uint64_t *region_word(struct tlb_large *large, uint64_t region, uint64_t *bit)
{
    unsigned hash = (unsigned)(region ^ region >> 9 ^ region >> 18) & 511;
    *bit = 1ULL << (hash & 63);
    return &large->region[hash / 64];
}

static void large_add(struct tlb_large *large, uint64_t linear, unsigned page_shift)
{
    uint64_t bit;
    if (page_shift == GIANT_SHIFT) {
        large->giant |= 1ULL << ((linear >> GIANT_SHIFT) & 63);
        return;
    }
    uint64_t region = linear >> REGION_SHIFT;
    *region_word(large, region, &bit) |= bit;
    if (page_shift == 22) { /* 4 MiB: two regions */
        uint64_t *word = region_word(large, region ^ 1, &bit);
        *word |= bit;
    }
}

static bool large_may_hold(struct tlb_large *large, uint64_t linear)
{
    uint64_t bit, *word = region_word(large, linear >> REGION_SHIFT, &bit);
    return (*word & bit) || (large->giant >> ((linear >> GIANT_SHIFT) & 63) & 1);
}

static void large_clear(struct tlb_large *large)
{
    for (unsigned i = 0; i < sizeof(large->region) / sizeof(large->region[0]); i++)
        large->region[i] = 0;
    large->giant = 0;
}

/* --- insertion --- */

static void map_add(struct tlb_map *map, unsigned index, bool global)
{
    uint64_t bit = 1ULL << (index & 63);
    map->used[index / 64] |= bit;
    if (global)
        map->global[index / 64] |= bit;
    else
        map->global[index / 64] &= ~bit;
}

static uint64_t entry_flags(struct mmu *mmu, uint64_t linear, const struct walk *walk)
{
    if (walk->page_shift > 12)
        large_add(&mmu->large[walk->global], linear, walk->page_shift);
    return (walk->global ? (uint64_t)TLB_GLOBAL : 0) | (uint64_t)walk->page_shift << TLB_PAGE_SHIFT;
}

struct translation { /* what an entry says */
    uint64_t page, host, flags;
    bool writable;
};

static void put(struct mmu *mmu, unsigned side, unsigned index, const struct translation *t)
{
    uint64_t bit = 1ULL << (index & 63);
    struct tlb_entry *e = &mmu->tlb[side][index];
    e->host = t->host;
    e->addend = t->host - t->page;
    e->read_tag = t->page;
    mmu->tlb_flags[side][index] = t->flags;
    if (t->writable) {
        e->write_tag = t->page;
        mmu->writable[side][index / 64] |= bit;
    } else {
        e->write_tag = tlb_invalid_tag(index);
        mmu->writable[side][index / 64] &= ~bit;
    }
    map_add(&mmu->tlb_map[side], index, t->flags & TLB_GLOBAL);
}

static struct translation get(const struct mmu *mmu, unsigned side, unsigned index)
{
    const struct tlb_entry *e = &mmu->tlb[side][index];
    return (struct translation){
        .page = e->read_tag,
        .host = e->host,
        .flags = mmu->tlb_flags[side][index],
        .writable = mmu->writable[side][index / 64] >> (index & 63) & 1,
    };
}

/* Puts the translation to its first place; another one that is there becomes a victim. */
static void put_first(struct mmu *mmu, unsigned side, const struct translation *t)
{
    unsigned index = tlb_index(t->page);
    if (mmu->tlb_map[side].used[index / 64] >> (index & 63) & 1) {
        struct translation old = get(mmu, side, index);
        if (old.page != t->page)
            put(mmu, side, tlb_victim_index(old.page), &old);
    }
    put(mmu, side, index, t);
}

void tlb_insert(struct mmu *mmu, unsigned side, uint64_t linear, const struct walk *walk,
                const struct as_page *page, enum tlb_grant grant)
{
    struct translation t = {
        .page = linear & ~(uint64_t)PAGE_OFFSET,
        .host = (uint64_t)(uintptr_t)page->read,
        .flags = entry_flags(mmu, linear, walk),
        .writable = grant == TLB_WRITABLE,
    };
    if (grant == TLB_ONLY_TRACED)
        t.flags |= TLB_TRACED | (uint64_t)page->write_page << TLB_BACKING_SHIFT;
    put_first(mmu, side, &t);
    mmu->stats.fills++;
}

void tlb_promote(struct mmu *mmu, unsigned side, uint64_t linear)
{
    uint64_t page = linear & ~(uint64_t)PAGE_OFFSET;
    unsigned victim = tlb_victim_index(page);
    if (mmu->tlb[side][tlb_index(page)].read_tag == page || mmu->tlb[side][victim].read_tag != page)
        return;
    struct translation t = get(mmu, side, victim);
    put_first(mmu, side, &t);
}

void tlb_insert_exec(struct mmu *mmu, unsigned side, uint64_t linear, const struct walk *walk)
{
    unsigned index = tlb_index(linear);
    struct exec_entry *e = &mmu->exec[side][index];
    e->tag = linear & ~(uint64_t)PAGE_OFFSET;
    e->gpa = walk->gpa & ~(uint64_t)PAGE_OFFSET;
    e->flags = entry_flags(mmu, linear, walk);
    map_add(&mmu->exec_map[side], index, walk->global);
    mmu->stats.fills++;
}

/* --- flushing --- */

void tlb_clear(struct mmu *mmu)
{
    for (unsigned side = 0; side < 2; side++) {
        for (unsigned i = 0; i < TLB_ENTRIES; i++)
            drop_data(mmu, side, i);
        for (unsigned i = 0; i < TLB_SIZE; i++)
            drop_exec(mmu, side, i);
        for (unsigned w = 0; w < WORDS; w++) {
            mmu->tlb_map[side].used[w] = mmu->tlb_map[side].global[w] = 0;
            mmu->exec_map[side].used[w] = mmu->exec_map[side].global[w] = 0;
            mmu->writable[side][w] = 0;
        }
        large_clear(&mmu->large[side]);
    }
}

/* Drops the used entries whose bit is not in keep, one bit map word at a time. */
static void flush_side(struct mmu *mmu, unsigned side, bool keep_global)
{
    struct tlb_map *data = &mmu->tlb_map[side], *exec = &mmu->exec_map[side];
    for (unsigned w = 0; w < WORDS; w++) {
        uint64_t keep = keep_global ? data->global[w] : 0;
        for (uint64_t drop = data->used[w] & ~keep; drop; drop &= drop - 1)
            drop_data(mmu, side, w * 64 + (unsigned)__builtin_ctzll(drop));
        data->used[w] &= keep;
        data->global[w] &= keep;
        mmu->writable[side][w] &= keep;

        keep = keep_global ? exec->global[w] : 0;
        for (uint64_t drop = exec->used[w] & ~keep; drop; drop &= drop - 1)
            drop_exec(mmu, side, w * 64 + (unsigned)__builtin_ctzll(drop));
        exec->used[w] &= keep;
        exec->global[w] &= keep;
    }
}

static void flushed(struct mmu *mmu, enum mmu_flush kind, uint64_t linear)
{
    mmu->stats.flushes++;
    if (mmu->flushed)
        mmu->flushed(mmu->flushed_ctx, kind, linear);
}

bool mmu_fetch_is_global(const struct x86_cpu *cpu, uint64_t linear, unsigned access)
{
    const struct mmu *mmu = cpu->mmu;
    unsigned side = access & MMU_USER ? 1 : 0, index = tlb_index(linear);
    return mmu->exec[side][index].tag == (linear & ~(uint64_t)PAGE_OFFSET) &&
           (mmu->exec_map[side].global[index / 64] >> (index % 64) & 1);
}

void mmu_flush_all(struct x86_cpu *cpu)
{
    struct mmu *mmu = cpu->mmu;
    for (unsigned side = 0; side < 2; side++) {
        flush_side(mmu, side, false);
        large_clear(&mmu->large[side]);
    }
    flushed(mmu, MMU_FLUSH_ALL, 0);
}

void mmu_flush_nonglobal(struct x86_cpu *cpu)
{
    struct mmu *mmu = cpu->mmu;
    flush_side(mmu, 0, true);
    flush_side(mmu, 1, true);
    large_clear(&mmu->large[0]);
    flushed(mmu, MMU_FLUSH_NONGLOBAL, 0);
}

static void forget_data(struct mmu *mmu, unsigned side, unsigned index)
{
    uint64_t mask = ~(1ULL << (index & 63));
    drop_data(mmu, side, index);
    mmu->tlb_map[side].used[index / 64] &= mask;
    mmu->tlb_map[side].global[index / 64] &= mask;
    mmu->writable[side][index / 64] &= mask;
}

static void forget_exec(struct mmu *mmu, unsigned side, unsigned index)
{
    uint64_t mask = ~(1ULL << (index & 63));
    drop_exec(mmu, side, index);
    mmu->exec_map[side].used[index / 64] &= mask;
    mmu->exec_map[side].global[index / 64] &= mask;
}

/* Was the entry for the page `tag` cut out of a large page that also covers linear? */
static bool same_large_page(uint64_t tag, uint64_t flags, uint64_t linear)
{
    unsigned shift = flags >> TLB_PAGE_SHIFT & 0xff;
    return shift > 12 && (tag ^ linear) >> shift == 0;
}

static void flush_large(struct mmu *mmu, unsigned side, uint64_t linear)
{
    for (unsigned w = 0; w < WORDS; w++) {
        for (uint64_t used = mmu->tlb_map[side].used[w]; used; used &= used - 1) {
            unsigned index = w * 64 + (unsigned)__builtin_ctzll(used);
            const struct tlb_entry *e = &mmu->tlb[side][index];
            if (same_large_page(e->read_tag, mmu->tlb_flags[side][index], linear))
                forget_data(mmu, side, index);
        }
        for (uint64_t used = mmu->exec_map[side].used[w]; used; used &= used - 1) {
            unsigned index = w * 64 + (unsigned)__builtin_ctzll(used);
            const struct exec_entry *e = &mmu->exec[side][index];
            if (same_large_page(e->tag, e->flags, linear))
                forget_exec(mmu, side, index);
        }
    }
}

void mmu_flush_page(struct x86_cpu *cpu, uint64_t linear)
{
    struct mmu *mmu = cpu->mmu;
    if (!x86_long_mode(cpu))
        linear = (uint32_t)linear;
    unsigned index = tlb_index(linear), victim = tlb_victim_index(linear);
    uint64_t page = linear & ~(uint64_t)PAGE_OFFSET;
    for (unsigned side = 0; side < 2; side++) {
        if (mmu->tlb[side][index].read_tag == page)
            forget_data(mmu, side, index);
        if (mmu->tlb[side][victim].read_tag == page)
            forget_data(mmu, side, victim);
        if (mmu->exec[side][index].tag == page)
            forget_exec(mmu, side, index);
    }
    bool large = large_may_hold(&mmu->large[0], linear) || large_may_hold(&mmu->large[1], linear);
    if (large) {
        flush_large(mmu, 0, linear);
        flush_large(mmu, 1, linear);
    }
    flushed(mmu, large ? MMU_FLUSH_ALL : MMU_FLUSH_PAGE, page);
}

void mmu_write_protect(struct x86_cpu *cpu, const uint8_t *host_page)
{
    struct mmu *mmu = cpu->mmu;
    for (unsigned side = 0; side < 2; side++) {
        for (unsigned w = 0; w < WORDS; w++) {
            for (uint64_t left = mmu->writable[side][w]; left; left &= left - 1) {
                unsigned index = w * 64 + (unsigned)__builtin_ctzll(left);
                struct tlb_entry *e = &mmu->tlb[side][index];
                if (e->host != (uint64_t)(uintptr_t)host_page)
                    continue;
                e->write_tag = tlb_invalid_tag(index);
                mmu->writable[side][w] &= ~(left & -left);
            }
        }
    }
}
