/* From guest pc to translated block: fetch, prescan, translate, file; and the ways it becomes
 * stale. */
#include "engine/bt/bt.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"

enum { PAGE = 4096, MAX_INSN_BYTES = 15 };
enum { REGION_BLOCKS = 12, REGION_INSNS = 160, BLOCK_INSNS = 32 };

enum { /* mode key bits above those of the packed struct xlate_mode */
       KEY_BITS = 0x7f,
       KEY_CPL_SHIFT = 14,
       KEY_FLAT_SHIFT = 16,
       KEY_MODE = (1u << 29) - 1,
       KEY_NO_WINDOWS = 1u << 29,
       KEY_BOUNCE = 1u << 30,
       KEY_SINGLE = 1u << 31,
};

static bool segment_flat(const struct x86_segment *seg)
{
    return seg->base == 0 && seg->read_end >= 0x100000000ull && seg->write_end >= 0x100000000ull;
}

void bt_update_mode(struct vcpu *vcpu)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    struct xlate_mode *mode = &vcpu->mode;
    const struct x86_segment *cs = &cpu->seg[X86_CS];
    vcpu->alignment = x86_checks_alignment(cpu);
    mode->bits = (uint8_t)x86_code_bits(cpu);
    mode->stack_bits = (uint8_t)x86_stack_bits(cpu);
    mode->cpl = cpu->cpl;
    mode->flat = 0;
    /* 64-bit code ignores bases and limits, and changes of them do not mark the mode dirty. */
    for (unsigned i = X86_ES; i <= X86_DS && mode->bits != 64; i++) {
        if (i != X86_CS && segment_flat(&cpu->seg[i]))
            mode->flat |= (uint8_t)(1u << i);
    }
    if (mode->bits != 64 && cs->base == 0 && cs->read_end >= 0x100000000ull)
        mode->flat |= 1 << X86_CS; /* reads; writes through CS take the slow path by write_end */
    bool vex = x86_protected_mode(cpu);
    mode->fpu =
        (uint8_t)((cpu->cr0 & X86_CR0_TS ? XLATE_TS : 0) | (cpu->cr0 & X86_CR0_EM ? XLATE_EM : 0) |
                  (cpu->cr0 & X86_CR0_MP ? XLATE_MP : 0) |
                  (cpu->cr4 & X86_CR4_OSFXSR ? XLATE_OSFXSR : 0) |
                  (vex && (cpu->cr4 & X86_CR4_OSXSAVE) && (cpu->xcr0 & 6) == 6 ? XLATE_AVX : 0) |
                  (vex ? XLATE_VEX : 0));
    mode->iopl_ok = x86_real_mode(cpu) ||
                    (!x86_vm86(cpu) && cpu->cpl <= (cpu->sflags & X86_IOPL) >> X86_IOPL_SHIFT);
    uint64_t key = (uint64_t)mode->bits | (uint64_t)mode->stack_bits << 7 |
                   (uint64_t)mode->cpl << KEY_CPL_SHIFT | (uint64_t)mode->flat << KEY_FLAT_SHIFT |
                   (uint64_t)mode->fpu << 22 | (uint64_t)mode->iopl_ok << 28;
    bool flat_cs = mode->bits == 64 || (cs->base == 0 && cs->limit == UINT32_MAX);
    uint64_t base = flat_cs ? 0 : cs->base << 32 | cs->limit;
    vcpu->code_segment[cpu->cpl] =
        (struct code_segment){.mode_key = key, .base_key = base, .selector = cs->selector};
    if (key == vcpu->mode_key && base == vcpu->base_key)
        return;
    vcpu->mode_key = key;
    vcpu->base_key = base;
    bt_stack_reset(vcpu);
    unsigned user = cpu->cpl == 3;
    if (vcpu->jump_key[user] != key || vcpu->jump_base[user] != base) {
        vcpu->jump_key[user] = key;
        vcpu->jump_base[user] = base;
        bt_jump_clear(vcpu, user);
    }
}

static unsigned exec_access(const struct vcpu *vcpu)
{
    return (unsigned)MMU_EXEC | (vcpu->cpu.cpl == 3 ? (unsigned)MMU_USER : 0);
}

void bt_jump_clear(struct vcpu *vcpu, unsigned user)
{
    bytes_zero(vcpu->jump[user], sizeof(vcpu->jump[user]));
    vcpu->jump_local[user] = false;
    vcpu->jump[user][0].negated_ip = 1; /* 0 would be the entry of ip 0 */
}

void bt_jump_add(struct vcpu *vcpu, uint64_t ip, uint32_t block, bool global)
{
    unsigned user = vcpu->cpu.cpl == 3;
    struct jump_entry *entry = &vcpu->jump[user][ip & JUMP_MASK];
    entry->negated_ip = 0 - ip;
    entry->host = (uint64_t)(uintptr_t)block_entry(&vcpu->cache, block);
    vcpu->jump_local[user] |= !global;
}

bool bt_target_is_global(const struct vcpu *vcpu, uint32_t block)
{
    const struct code_block *b = &vcpu->cache.blocks[block];
    bool one_page = b->range_count && b->range[0].offset + b->guest_bytes <= PAGE;
    uint64_t base = vcpu->mode.bits == 64 ? 0 : vcpu->cpu.seg[X86_CS].base;
    return one_page && mmu_fetch_is_global(&vcpu->cpu, mmu_wrap(&vcpu->cpu, base + b->key.ip),
                                           exec_access(vcpu));
}

bool bt_target_is_traced(const struct vcpu *vcpu, uint32_t block)
{
    const struct code_block *b = &vcpu->cache.blocks[block];
    if (!b->range_count)
        return false;
    bool crosses = b->range[0].size < b->guest_bytes;
    return !crosses || b->range_count == 2;
}

void bt_forget_addresses(struct vcpu *vcpu)
{
    bool all = vcpu->stale == BT_STALE_ALL;
    vcpu->stale = BT_FRESH;
    vcpu->stats.address_changes++;
    block_cache_unlink_cells(&vcpu->cache, !all);
    for (unsigned user = 0; user < 2; user++) {
        if (all || vcpu->jump_local[user])
            bt_jump_clear(vcpu, user);
    }
    if (all)
        bytes_zero(vcpu->code_pages, sizeof(vcpu->code_pages));
    bt_stack_reset(vcpu);
}

static void block_gone(void *ctx, const struct code_block *block)
{
    struct vcpu *vcpu = ctx;
    uint64_t ip = block->key.ip;
    for (unsigned user = 0; user < 2; user++) {
        struct jump_entry *entry = &vcpu->jump[user][ip & JUMP_MASK];
        if (entry->negated_ip == 0 - ip)
            entry->negated_ip = (ip & JUMP_MASK) == 0;
    }
}

void bt_code_written(void *ctx, uint64_t page, unsigned offset, unsigned size)
{
    struct vcpu *vcpu = ctx;
    vcpu->stats.code_writes++;
    vcpu->code_changed = true;
    if (block_cache_invalidate(&vcpu->cache, page, offset, size, block_gone, vcpu) == 0)
        as_page_flags(vcpu->mmu.as)[page] &= (uint8_t)~RAM_PAGE_CODE;
}

static void page_gone(void *ctx, uint64_t page)
{
    struct vcpu *vcpu = ctx;
    as_page_flags(vcpu->mmu.as)[page] &= (uint8_t)~RAM_PAGE_CODE;
}

void bt_drop_code(struct vcpu *vcpu)
{
    bt_forget_x87_pointers(vcpu);
    block_cache_reset(&vcpu->cache, page_gone, vcpu);
    vcpu->site_count = 0;
    vcpu->map_count = 0;
    vcpu->stale = BT_STALE_ALL;
    bt_forget_addresses(vcpu);
}

/* The block with the host address and its entry of the map, NULL: none. */
static const struct xlate_map *find_map(const struct vcpu *vcpu, uint64_t host_pc,
                                        const struct code_block **found)
{
    const struct block_cache *cache = &vcpu->cache;
    uint32_t index = block_cache_at(cache, (const void *)(uintptr_t)host_pc);
    if (index == BLOCK_NONE)
        return NULL;
    const struct code_block *block = &cache->blocks[index];
    uint64_t offset = host_pc - (uint64_t)(uintptr_t)block_entry(cache, index);
    const struct xlate_map *map = vcpu->maps + block->map_offset;
    uint32_t low = 0, high = block->map_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (map[middle].host <= offset)
            low = middle;
        else
            high = middle;
    }
    *found = block;
    return &map[low];
}

bool bt_find_code(const struct vcpu *vcpu, uint64_t host_pc, struct code_place *place)
{
    const struct code_block *block;
    const struct xlate_map *map = find_map(vcpu, host_pc, &block);
    if (!map)
        return false;
    unsigned cpl = block->key.mode >> KEY_CPL_SHIFT & 3;
    const struct code_segment *cs = &vcpu->code_segment[cpl];
    bool crosses = block->range[0].size < block->guest_bytes; /* its base is part of a hash */
    if ((block->key.mode & KEY_MODE) != cs->mode_key ||
        (!crosses && block->key.base != cs->base_key))
        return false;
    *place = (struct code_place){
        .block = block,
        .ip = block->key.ip + (map->ip & XLATE_IP),
        .bits = block->key.mode & KEY_BITS,
        .cpl = cpl,
        .flat = block->key.mode >> KEY_FLAT_SHIFT & 0x3f,
        .base = (uint32_t)(cs->base_key >> 32),
        .selector = cs->selector,
    };
    return true;
}

bool bt_locate(struct vcpu *vcpu, uint64_t host_pc)
{
    const struct code_block *block;
    const struct xlate_map *map = find_map(vcpu, host_pc, &block);
    if (!map)
        return false;
    vcpu->cpu.rip = block->key.ip + (map->ip & XLATE_IP);
    unsigned borrowed;
    if (xlate_map_borrowed(map, &borrowed))
        vcpu->cpu.gpr[borrowed] = vcpu->spill[0];
    uint32_t *aflags = &vcpu->cpu.aflags; /* dead ones may stay as they were, but DF never is */
    if (map->ip & XLATE_PARKED)
        *aflags =
            (vcpu->flags_park >> 8 & 0xd5u) | (vcpu->flags_park & 1 ? (uint32_t)X86_OF_FLAG : 0);
    *aflags &= ~(uint32_t)X86_DF_FLAG;
    *aflags |= vcpu->direction ? (uint32_t)X86_DF_FLAG : 0;
    return true;
}

/* Code bytes around rip for prescan. */
struct fetch {
    const uint8_t *page; /* host memory of the page with rip, NULL: not memory */
    uint64_t first_ip;   /* ip of the page's first byte (may wrap below 0 in 16-bit code) */
    uint64_t entry_ip;
    uint64_t limit;       /* last valid ip */
    const uint8_t *bytes; /* for an instruction that crosses into another page, or code in MMIO */
    size_t byte_count;
};

static size_t fetch_code(void *ctx, uint64_t ip, uint8_t *buffer, size_t size)
{
    const struct fetch *f = ctx;
    if (ip > f->limit)
        return 0;
    if (f->bytes) {
        uint64_t skip = ip - f->entry_ip;
        if (skip >= f->byte_count)
            return 0;
        size_t count = f->byte_count - skip < size ? f->byte_count - (size_t)skip : size;
        memcpy(buffer, f->bytes + skip, count);
        return count;
    }
    uint64_t offset = ip - f->first_ip;
    if (offset >= PAGE)
        return 0;
    uint64_t count = PAGE - offset;
    if (count > size)
        count = size;
    if (count - 1 > f->limit - ip)
        count = f->limit - ip + 1;
    memcpy(buffer, f->page + offset, (size_t)count);
    return (size_t)count;
}

/* Linear address of rip after the checks of an instruction fetch (CS limit, canonical). */
static int fetch_linear(struct vcpu *vcpu, uint64_t *linear)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    if (vcpu->mode.bits == 64) {
        *linear = cpu->rip;
        return mmu_canonical(cpu->rip) ? 0 : x86_raise_error(cpu, X86_GP, 0);
    }
    if (cpu->rip > cpu->seg[X86_CS].limit)
        return x86_raise_error(cpu, X86_GP, 0);
    *linear = (uint32_t)(cpu->seg[X86_CS].base + cpu->rip);
    return 0;
}

unsigned bt_fetch(struct vcpu *vcpu, uint8_t *bytes, unsigned size)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    uint64_t linear = 0, gpa;
    if (fetch_linear(vcpu, &linear) < 0 || mmu_translate(cpu, linear, exec_access(vcpu), &gpa) < 0)
        return 0;
    unsigned limit = size;
    if (vcpu->mode.bits != 64 && cpu->seg[X86_CS].limit - cpu->rip < limit)
        limit = (unsigned)(cpu->seg[X86_CS].limit - cpu->rip) + 1;
    unsigned first = PAGE - (unsigned)(linear & (PAGE - 1));
    if (first > limit)
        first = limit;
    as_read(vcpu->mmu.as, gpa, bytes, first);
    if (first == limit)
        return limit;
    struct insn insn; /* the second page only matters if the instruction reaches it */
    bt_park_x87_pointers(cpu);
    if (insn_decode(&insn, bytes, first, vcpu->mode.bits) != INSN_NEED_MORE)
        return first;
    uint64_t next = mmu_wrap(cpu, linear + first);
    if (mmu_translate(cpu, next, exec_access(vcpu), &gpa) < 0)
        return 0;
    as_read(vcpu->mmu.as, gpa, bytes + first, limit - first);
    return limit;
}

struct target { /* where the block's bytes are */
    uint64_t linear;
    uint64_t gpa, gpa2; /* gpa2: of the following page, if the first instruction crosses */
    struct as_page page, page2;
    bool crosses;
    uint8_t bytes[MAX_INSN_BYTES];
    unsigned byte_count; /* of bytes[]: crossing instructions and code outside memory */
};

static void filter_add(struct vcpu *vcpu, uint64_t linear)
{
    unsigned bit = bt_filter_bit(linear);
    vcpu->code_pages[bit / 64] |= 1ull << (bit % 64);
}

static int find_target(struct vcpu *vcpu, struct target *t)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    if (fetch_linear(vcpu, &t->linear) < 0 ||
        mmu_translate(cpu, t->linear, exec_access(vcpu), &t->gpa) < 0)
        return -1;
    filter_add(vcpu, t->linear);
    t->page = as_lookup(vcpu->mmu.as, t->gpa);
    t->crosses = false;
    t->byte_count = 0;
    t->page2.page = -1;
    unsigned offset = (unsigned)(t->linear & (PAGE - 1));
    if (t->page.read && offset <= PAGE - MAX_INSN_BYTES)
        return 0;
    t->byte_count = bt_fetch(vcpu, t->bytes, MAX_INSN_BYTES);
    if (!t->byte_count)
        return -1;
    unsigned first = PAGE - offset;
    if (t->byte_count <= first) {
        if (t->page.read)
            t->byte_count = 0;
        return 0;
    }
    t->crosses = true;
    uint64_t next = mmu_wrap(cpu, t->linear + first);
    if (mmu_translate(cpu, next, exec_access(vcpu), &t->gpa2) < 0)
        return -1;
    filter_add(vcpu, next);
    t->page2 = as_lookup(vcpu->mmu.as, t->gpa2);
    return 0;
}

static struct block_key make_key(const struct vcpu *vcpu, const struct target *t, uint64_t flags)
{
    struct block_key key = {
        .physical = t->page.page >= 0 ? (uint64_t)t->page.page * PAGE + (t->linear & (PAGE - 1))
                                      : t->gpa | 1ull << 63,
        .ip = vcpu->cpu.rip,
        .base = vcpu->base_key,
        .mode = vcpu->mode_key | flags,
    };
    if (t->crosses) /* the second page is part of the identity */
        key.base ^= (uint64_t)(t->page2.page + 1) * 0x9e3779b97f4a7c15ull;
    return key;
}

/* --- translation --- */

struct build { /* allocation context of one block */
    struct vcpu *vcpu;
    uint32_t cells[XLATE_MAX_EXITS];
};

static struct xlate_site *take_site(void *ctx)
{
    struct vcpu *vcpu = ((struct build *)ctx)->vcpu;
    return vcpu->site_count < vcpu->site_capacity ? &vcpu->sites[vcpu->site_count++] : NULL;
}

static uint64_t take_cell(void *ctx, unsigned exit_number)
{
    struct build *build = ctx;
    struct code_memory *memory = &build->vcpu->cache.memory;
    uint32_t cell = code_memory_cell(memory);
    if (cell == UINT32_MAX)
        return 0;
    build->cells[exit_number] = cell;
    return (uint64_t)(uintptr_t)&memory->cells[cell];
}

static void trace_page(struct vcpu *vcpu, int64_t page)
{
    if (page < 0)
        return;
    uint8_t *flags = &as_page_flags(vcpu->mmu.as)[page];
    if (*flags & RAM_PAGE_CODE)
        return;
    *flags |= RAM_PAGE_CODE;
    mmu_write_protect(&vcpu->cpu, as_page_host(vcpu->mmu.as, (uint64_t)page));
}

/* Consecutive prescanned blocks that are translated as one. */
struct unit {
    const struct prescan_block *blocks[XLATE_MAX_BLOCKS];
    unsigned count;
    uint32_t bytes, insns;
    uint64_t peek_low, peek_high; /* union of the blocks' */
};

static void unit_append(struct unit *unit, const struct prescan_block *block)
{
    unit->blocks[unit->count++] = block;
    unit->bytes += block->bytes;
    unit->insns += block->count;
    if (block->peek_high <= block->peek_low)
        return;
    bool first = unit->peek_high <= unit->peek_low;
    if (first || block->peek_low < unit->peek_low)
        unit->peek_low = block->peek_low;
    if (first || block->peek_high > unit->peek_high)
        unit->peek_high = block->peek_high;
}

/* The block ends because interrupts must be recognised behind the shadow of STI. */
static bool ends_shadow(const struct prescan_region *region, const struct prescan_block *block)
{
    const struct insn *last = &region->insns[block->first + block->count - 1];
    return last->kind == KIND_STI || (block->count > 1 && last[-1].kind == KIND_STI);
}

/*
 * The block and those that it falls into: conditional branches become side exits, what is known
 * about flags, windows and vector state lasts longer, and there is less to poll. Loop heads start a
 * unit of their own.
 */
static void unit_collect(const struct prescan_region *region, unsigned first, unsigned max_insns,
                         struct unit *unit)
{
    const struct prescan_block *block = &region->blocks[first];
    *unit = (struct unit){.count = 0};
    unit_append(unit, block);
    while (unit->count < XLATE_MAX_BLOCKS && block->fall >= 0 && block->count) {
        const struct insn *last = &region->insns[block->first + block->count - 1];
        bool side_exit = block->end == END_BRANCH && last->kind == KIND_JCC;
        const struct prescan_block *next = &region->blocks[block->fall];
        if (!(side_exit || block->end == END_LIMIT) || !next->count || next->is_loop_head ||
            ends_shadow(region, block) || next->ip != block->ip + block->bytes ||
            unit->insns + next->count > max_insns)
            break;
        unit_append(unit, next);
        block = next;
    }
}

/* Its blocks but the first, a bit each: translations of their own are made when they are needed. */
static uint64_t unit_inner(const struct prescan_region *region, const struct unit *unit)
{
    uint64_t inner = 0;
    for (unsigned i = 1; i < unit->count; i++)
        inner |= 1ull << (unit->blocks[i] - region->blocks);
    return inner;
}

static void add_ranges(struct code_block *block, const struct target *t, const struct unit *unit,
                       uint64_t linear)
{
    unsigned offset = (unsigned)(linear & (PAGE - 1));
    if (t->page.page < 0)
        return;
    block->range[0] = (struct block_range){
        .page = (uint64_t)t->page.page, .offset = (uint16_t)offset, .size = (uint16_t)unit->bytes};
    block->range_count = 1;
    if (t->crosses) {
        block->range[0].size = (uint16_t)(PAGE - offset);
        if (t->page2.page >= 0) {
            block->range[1] =
                (struct block_range){.page = (uint64_t)t->page2.page,
                                     .offset = 0,
                                     .size = (uint16_t)(unit->bytes - (PAGE - offset))};
            block->range_count = 2;
        }
    } else if (unit->peek_high > unit->peek_low) {
        uint64_t peek = linear + (unit->peek_low - unit->blocks[0]->ip);
        block->range[1] =
            (struct block_range){.page = (uint64_t)t->page.page,
                                 .offset = (uint16_t)(peek & (PAGE - 1)),
                                 .size = (uint16_t)(unit->peek_high - unit->peek_low)};
        block->range_count = 2;
    }
}

static void file_exits(struct vcpu *vcpu, const struct build *build, uint32_t host_offset)
{
    const struct xlate_result *result = &vcpu->result;
    for (unsigned i = 0; i < result->exit_count; i++) {
        const struct xlate_exit *out = &result->exits[i];
        struct code_exit code_exit = {
            .target = out->target,
            .site = host_offset + out->site,
            .stub = host_offset + out->stub,
            .cell = out->cell ? build->cells[i] : (uint32_t)CELL_NONE,
            .poll = out->poll,
            .variant = out->no_windows ? BT_NO_WINDOWS : BT_NORMAL,
        };
        block_cache_add_exit(&vcpu->cache, &code_exit);
    }
}

/* Translates a unit and files it. BLOCK_NONE: something is full. */
static uint32_t build_block(struct vcpu *vcpu, const struct target *t, const struct unit *unit,
                            const struct xlate_mode *mode, const struct block_key *key,
                            unsigned bounce_offset)
{
    struct block_cache *cache = &vcpu->cache;
    struct build build = {.vcpu = vcpu};
    if (!block_cache_has_room(cache, XLATE_MAX_EXITS) ||
        vcpu->map_capacity - vcpu->map_count < XLATE_MAX_MAP)
        return BLOCK_NONE;
    size_t offset = code_memory_reserve(&cache->memory, XLATE_MAX_CODE);
    if (offset == SIZE_MAX)
        return BLOCK_NONE;
    struct xlate_alloc alloc = {.ctx = &build,
                                .site = take_site,
                                .cell = take_cell,
                                .first_exit = block_cache_next_exit(cache)};
    struct xlate_input input = {
        .region = &vcpu->region,
        .block_count = unit->count,
        .mode = mode,
        .env = &vcpu->env,
        .alloc = &alloc,
        .bounce_offset = (uint16_t)bounce_offset,
        .cs_base = vcpu->mode.bits == 64 ? 0 : vcpu->cpu.seg[X86_CS].base,
        .cs_limit = vcpu->cpu.seg[X86_CS].limit,
    };
    memcpy(input.blocks, unit->blocks, sizeof(input.blocks));
    uint64_t exec = (uint64_t)(uintptr_t)(cache->memory.exec + offset);
    if (xlate_block(&vcpu->result, &input, cache->memory.write + offset, XLATE_MAX_CODE, exec) <
        0) {
        code_memory_commit(&cache->memory, 0);
        return BLOCK_NONE;
    }
    code_memory_commit(&cache->memory, vcpu->result.size);
    struct code_block block = {
        .key = *key,
        .host_offset = (uint32_t)offset,
        .host_size = vcpu->result.size,
        .body_offset = (uint32_t)offset + vcpu->result.body,
        .map_offset = vcpu->map_count,
        .map_count = vcpu->result.map_count,
        .guest_bytes = unit->bytes,
    };
    memcpy(vcpu->maps + vcpu->map_count, vcpu->result.map,
           vcpu->result.map_count * sizeof(struct xlate_map));
    vcpu->map_count += vcpu->result.map_count;
    add_ranges(&block, t, unit, t->linear + (unit->blocks[0]->ip - vcpu->cpu.rip));
    uint32_t index = block_cache_add(cache, &block);
    file_exits(vcpu, &build, (uint32_t)offset);
    trace_page(vcpu, t->page.page);
    if (t->crosses)
        trace_page(vcpu, t->page2.page);
    vcpu->stats.translations++;
    vcpu->stats.prescan_insns += unit->insns;
    if (vcpu->config.trace & TRACE_BLOCKS)
        bt_trace_block(vcpu, unit->blocks, unit->count, &vcpu->result);
    return index;
}

/* Prescans from rip. -1: cpu.fault is set (the first instruction cannot be fetched). */
static int scan_region(struct vcpu *vcpu, const struct target *t, bool one, unsigned block_insns)
{
    struct x86_cpu *cpu = &vcpu->cpu;
    struct fetch f = {
        .page = t->page.read,
        .entry_ip = cpu->rip,
        .first_ip = cpu->rip - (t->linear & (PAGE - 1)),
        .limit = vcpu->mode.bits == 64 ? UINT64_MAX : cpu->seg[X86_CS].limit,
    };
    if (t->byte_count) {
        f.bytes = t->bytes;
        f.byte_count = t->byte_count;
        one = true;
    }
    uint64_t low = f.first_ip > cpu->rip ? 0 : f.first_ip;
    uint64_t high = f.first_ip + PAGE;
    if (high < low)
        high = UINT64_MAX;
    struct prescan_params params = {
        .fetch = fetch_code,
        .fetch_ctx = &f,
        .bits = vcpu->mode.bits,
        .entry = cpu->rip,
        .low = low,
        .high = high,
        .max_blocks = one ? 1 : REGION_BLOCKS,
        .max_block_insns = one ? 1 : block_insns,
        .max_insns = one ? 1 : REGION_INSNS,
    };
    if (prescan_run(&vcpu->region, &params) < 0) {
        return x86_raise(cpu, X86_MC);
    }
    const struct prescan_block *entry = &vcpu->region.blocks[0];
    if (entry->count)
        return 0;
    /* The bytes end inside the instruction: CS limit, or more than 15 bytes. */
    return x86_raise_error(cpu, X86_GP, 0);
}

static uint32_t build_region(struct vcpu *vcpu, const struct target *t,
                             const struct xlate_mode *mode, uint64_t key_flags,
                             unsigned bounce_offset, unsigned max_insns)
{
    const struct prescan_region *region = &vcpu->region;
    struct block_key key = make_key(vcpu, t, key_flags);
    struct unit unit;
    uint64_t inner =
        0; /* blocks that are part of a unit already: their own comes when it is needed */
    unit_collect(region, 0, mode->no_windows ? 0 : max_insns, &unit);
    uint32_t entry = build_block(vcpu, t, &unit, mode, &key, bounce_offset);
    if (entry == BLOCK_NONE || mode->single || mode->bounce || mode->no_windows)
        return entry;
    inner = unit_inner(region, &unit);
    for (unsigned i = 1; i < region->block_count; i++) {
        const struct prescan_block *scanned = &region->blocks[i];
        if (!scanned->count || (inner >> i & 1))
            continue;
        unit_collect(region, i, max_insns, &unit);
        inner |= unit_inner(region, &unit);
        key.ip = scanned->ip;
        key.physical = (uint64_t)t->page.page * PAGE +
                       ((t->linear + (scanned->ip - vcpu->cpu.rip)) & (PAGE - 1));
        if (block_cache_find(&vcpu->cache, &key) == BLOCK_NONE &&
            build_block(vcpu, t, &unit, mode, &key, 0) == BLOCK_NONE)
            break;
    }
    return entry;
}

static uint32_t find_or_build(struct vcpu *vcpu, const struct xlate_mode *mode, uint64_t key_flags,
                              unsigned bounce_offset)
{
    struct target t;
    if (find_target(vcpu, &t) < 0)
        return BLOCK_NONE;
    struct block_key key = make_key(vcpu, &t, key_flags);
    uint32_t block = BLOCK_NONE;
    /* Code outside memory is not traced, so never found again. */
    if (t.page.page >= 0 && (!t.crosses || t.page2.page >= 0))
        block = block_cache_find(&vcpu->cache, &key);
    bool one = mode->single || mode->bounce;
    for (unsigned insns = BLOCK_INSNS; block == BLOCK_NONE && insns; insns /= 4) {
        bt_park_x87_pointers(&vcpu->cpu);
        if (scan_region(vcpu, &t, one, insns) < 0)
            return BLOCK_NONE;
        block = build_region(vcpu, &t, mode, key_flags, bounce_offset,
                             insns == BLOCK_INSNS ? (unsigned)XLATE_MAX_INSNS : insns);
        if (block == BLOCK_NONE)
            bt_drop_code(vcpu);
    }
    assert(block != BLOCK_NONE);
    return block;
}

uint32_t bt_block(struct vcpu *vcpu, enum bt_variant variant)
{
    static const uint64_t key_flags[] = {
        [BT_NORMAL] = 0, [BT_SINGLE] = KEY_SINGLE, [BT_NO_WINDOWS] = KEY_NO_WINDOWS};
    struct xlate_mode mode = vcpu->mode;
    mode.single = variant == BT_SINGLE;
    mode.no_windows = variant == BT_NO_WINDOWS;
    return find_or_build(vcpu, &mode, key_flags[variant], 0);
}

uint32_t bt_bounce_block(struct vcpu *vcpu, unsigned bounce_offset)
{
    struct xlate_mode mode = vcpu->mode;
    mode.bounce = true;
    return find_or_build(vcpu, &mode, KEY_BOUNCE | (uint64_t)bounce_offset << 32, bounce_offset);
}
