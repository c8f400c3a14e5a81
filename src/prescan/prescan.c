#include "prescan/prescan.h"

#include <stdlib.h>
#include <string.h>

#include "prescan/liveness.h"

enum { WINDOW_SIZE = 128, PAGE_MASK = 0xfff, MAX_INSN_BYTES = 15 };

/* State of one run. */
struct prescan {
    struct prescan_region *region;
    const struct prescan_params *params;
    uint64_t mask;       /* ip wraps here */
    unsigned insns_left; /* of max_insns */
    unsigned max_blocks;
    /* Code bytes around the current instruction. Never reads past the page of ip on its own. */
    uint8_t window[WINDOW_SIZE];
    uint64_t window_ip;
    size_t window_size;
    int window_short; /* the byte behind the window cannot be fetched */
};

/* --- arrays --- */

static int reserve_insns(struct prescan_region *region)
{
    if (region->insn_count < region->insn_capacity)
        return 0;
    unsigned capacity = region->insn_capacity ? region->insn_capacity * 2 : 128;
    struct insn *insns = realloc(region->insns, capacity * sizeof(*insns));
    if (!insns)
        return -1;
    region->insns = insns;
    region->insn_capacity = capacity;
    return 0;
}

/* Returns the index of a new block, or -1 when memory is short. */
static int append_block(struct prescan_region *region, uint64_t ip)
{
    if (region->block_count == region->block_capacity) {
        unsigned capacity = region->block_capacity ? region->block_capacity * 2 : 32;
        struct prescan_block *blocks = realloc(region->blocks, capacity * sizeof(*blocks));
        if (!blocks)
            return -1;
        region->blocks = blocks;
        region->block_capacity = capacity;
    }
    struct prescan_block *block = &region->blocks[region->block_count];
    memset(block, 0, sizeof(*block));
    block->ip = ip;
    block->taken = block->fall = -1;
    return (int)region->block_count++;
}

/* --- code bytes --- */

static void refill_window(struct prescan *scan, uint64_t ip)
{
    size_t size = (size_t)(PAGE_MASK + 1 - (ip & PAGE_MASK));

    if (size > WINDOW_SIZE)
        size = WINDOW_SIZE;
    scan->window_ip = ip;
    scan->window_size = scan->params->fetch(scan->params->fetch_ctx, ip, scan->window, size);
    scan->window_short = scan->window_size < size;
}

/* Decodes at ip. INSN_NEED_MORE: its bytes cannot be fetched. */
static enum insn_status decode_at(struct prescan *scan, uint64_t ip, struct insn *insn)
{
    uint64_t offset = ip - scan->window_ip;
    uint8_t bytes[MAX_INSN_BYTES];

    if (offset >= scan->window_size ||
        (scan->window_size - offset < MAX_INSN_BYTES && !scan->window_short)) {
        refill_window(scan, ip);
        offset = 0;
    }
    size_t available = scan->window_size - (size_t)offset;
    if (available == 0)
        return INSN_NEED_MORE;
    enum insn_status status =
        insn_decode(insn, scan->window + offset, available, scan->params->bits);
    if (status != INSN_NEED_MORE || scan->window_short || available >= MAX_INSN_BYTES)
        return status;

    /* The instruction crosses into the next page. */
    memcpy(bytes, scan->window + offset, available);
    size_t more = scan->params->fetch(scan->params->fetch_ctx, (ip + available) & scan->mask,
                                      bytes + available, MAX_INSN_BYTES - available);
    return insn_decode(insn, bytes, available + more, scan->params->bits);
}

/* --- how a block ends --- */

/* MOV SS and POP SS inhibit interrupts until after the next instruction, like STI (SDM vol. 3,
 * 6.8.3): the block goes on by one instruction, so that nothing can come between. */
static int opens_shadow(const struct insn *insn)
{
    if (insn->kind == KIND_STI)
        return 1;
    if (insn->kind != KIND_CALLOUT)
        return 0;
    return (insn->op == OP_MOV_TO_SEG && (insn->reg & 7) == 2) ||
           (insn->op == OP_POP_SEG && insn->map == 0 && insn->opcode == 0x17);
}

static int callout_ends_block(const struct insn *insn)
{
    switch ((enum insn_op)insn->op) {
    case OP_UD:
    case OP_FPU_UNAVAILABLE:
    /* pc, CPL, mode */
    case OP_JMP_FAR:
    case OP_CALL_FAR:
    case OP_RET_FAR:
    case OP_INT_N:
    case OP_INT3:
    case OP_INT1:
    case OP_INTO:
    case OP_IRET:
    case OP_SYSCALL:
    case OP_SYSRET:
    case OP_SYSENTER:
    case OP_SYSEXIT:
    case OP_RSM:
    case OP_VMCALL:
    case OP_LMSW:
    case OP_CLTS:
    case OP_MOV_TO_CR:
    case OP_MOV_TO_DR:
    case OP_WRMSR:
    case OP_XSETBV:
    case OP_POPF: /* IF may open the window, TF and AC change the mode */
    case OP_CLAC_STAC:
    /* address translation */
    case OP_INVLPG:
    case OP_INVPCID:
    /* stop */
    case OP_HLT:
    case OP_MWAIT:
    /* segment flatness */
    case OP_LOAD_FAR_POINTER:
        return 1;
    case OP_MOV_TO_SEG:
    case OP_POP_SEG:
        return !opens_shadow(insn);
    default:
        return 0;
    }
}

int prescan_ends_block(const struct insn *insn)
{
    switch ((enum insn_kind)insn->kind) {
    case KIND_CALL_REL:
    case KIND_CALL_IND:
    case KIND_JMP_REL:
    case KIND_JMP_IND:
    case KIND_RET:
    case KIND_JCC:
    case KIND_LOOP:
        return 1;
    case KIND_CALLOUT:
        return callout_ends_block(insn);
    case KIND_COPY:
    case KIND_NOP:
    case KIND_PUSH:
    case KIND_POP:
    case KIND_LEAVE:
    case KIND_STRING:
    case KIND_XLAT:
    case KIND_CLI:
    case KIND_STI:
        break;
    }
    return 0;
}

static uint64_t branch_target(const struct insn *insn, uint64_t next_ip)
{
    uint64_t target = next_ip + (uint64_t)insn->imm;

    if (insn->mode == 64)
        return target; /* the 66 prefix is ignored, see the decoder */
    return target & (insn->opsize == 2 ? 0xffff : 0xffffffff);
}

static enum prescan_end end_of(const struct insn *insn)
{
    switch ((enum insn_kind)insn->kind) {
    case KIND_CALL_REL:
    case KIND_CALL_IND:
        return END_CALL;
    case KIND_JMP_REL:
        return END_JUMP;
    case KIND_JMP_IND:
        return END_INDIRECT;
    case KIND_RET:
        return END_RETURN;
    case KIND_JCC:
    case KIND_LOOP:
        return END_BRANCH;
    default:
        return insn->op == OP_UD ? END_INVALID : END_CALLOUT;
    }
}

static void finish_block(struct prescan_block *block, const struct insn *insn, uint64_t next_ip)
{
    block->end = (uint8_t)end_of(insn);
    switch ((enum insn_kind)insn->kind) {
    case KIND_CALL_REL:
    case KIND_JMP_REL:
    case KIND_JCC:
    case KIND_LOOP:
        block->has_target = 1;
        block->target = branch_target(insn, next_ip);
        break;
    default:
        break;
    }
}

static uint64_t fall_ip(const struct prescan *scan, const struct prescan_block *block)
{
    return (block->ip + block->bytes) & scan->mask;
}

static int falls_through(const struct prescan_block *block)
{
    return block->end == END_BRANCH || block->end == END_CALL || block->end == END_LIMIT;
}

static int in_bounds(const struct prescan *scan, uint64_t ip)
{
    return ip >= scan->params->low && ip < scan->params->high;
}

/* --- discovery --- */

/* First start of a block behind ip. */
static uint64_t next_block_start(const struct prescan *scan, uint64_t ip)
{
    const struct prescan_region *region = scan->region;
    uint64_t next = UINT64_MAX;

    for (unsigned i = 0; i < region->block_count; i++)
        if (region->blocks[i].ip > ip && region->blocks[i].ip < next)
            next = region->blocks[i].ip;
    return next;
}

/*
 * Whether the block may go on at ip. Behind STI, MOV SS or POP SS it goes on by one instruction
 * whatever the limits say, unless they ask for single instructions.
 */
static int may_continue(struct prescan *scan, const struct prescan_block *block, uint64_t ip,
                        uint64_t *stop, int shadow)
{
    const struct prescan_params *params = scan->params;

    if (shadow && params->max_insns > 1 && params->max_block_insns > 1)
        return 1;
    if (scan->insns_left == 0)
        return 0;
    if (block->count == 0)
        return 1;
    if (ip > *stop)
        *stop = next_block_start(scan, ip - 1);
    return ip != *stop && block->count < params->max_block_insns && in_bounds(scan, ip);
}

/* Decodes block index from its ip on. Returns 0, or -1 when memory is short. */
static int decode_block(struct prescan *scan, unsigned index)
{
    struct prescan_region *region = scan->region;
    struct prescan_block *block = &region->blocks[index];
    uint64_t ip = block->ip, stop = next_block_start(scan, ip);
    int shadow = 0; /* the instruction before was STI, MOV SS or POP SS */

    block->first = region->insn_count;
    block->end = END_LIMIT;
    while (may_continue(scan, block, ip, &stop, shadow)) {
        if (reserve_insns(region) != 0)
            return -1;
        struct insn *insn = &region->insns[region->insn_count];
        if (decode_at(scan, ip, insn) == INSN_NEED_MORE) {
            block->end = END_UNREADABLE;
            return 0;
        }
        region->insn_count++;
        if (scan->insns_left > 0)
            scan->insns_left--;
        block->count++;
        block->bytes += insn->len;
        uint64_t next_ip = (ip + insn->len) & scan->mask;
        if (prescan_ends_block(insn)) {
            finish_block(block, insn, next_ip);
            return 0;
        }
        /* Only the first of several in a row inhibits interrupts. */
        if (shadow)
            return 0;
        shadow = opens_shadow(insn);
        if (next_ip < ip)
            return 0; /* wrapped: a new block, so that ranges stay plain intervals */
        ip = next_ip;
    }
    return 0;
}

/*
 * Cuts the block that has an instruction at ip in two; where it cannot, the caller decodes the code
 * at ip a second time. Returns 0, or -1 when memory is short.
 */
static int split_block(struct prescan_region *region, unsigned index, uint64_t ip)
{
    struct prescan_block *block = &region->blocks[index];
    uint32_t bytes = 0, count = 0;

    while (count < block->count && block->ip + bytes < ip)
        bytes += region->insns[block->first + count++].len;
    if (count == 0 || count == block->count || block->ip + bytes != ip)
        return 0; /* into the middle of an instruction */
    if (opens_shadow(&region->insns[block->first + count - 1]))
        return 0; /* these two stay together */
    int tail = append_block(region, ip);
    if (tail < 0)
        return -1;
    block = &region->blocks[index];
    struct prescan_block *second = &region->blocks[tail];
    second->first = block->first + count;
    second->count = block->count - count;
    second->bytes = block->bytes - bytes;
    second->end = block->end;
    second->has_target = block->has_target;
    second->target = block->target;
    block->count = count;
    block->bytes = bytes;
    block->end = END_LIMIT;
    block->has_target = 0;
    block->target = 0;
    return 0;
}

/* Makes ip the start of a block if limits allow. Returns 0, or -1 when memory is short. */
static int want_block(struct prescan *scan, uint64_t ip)
{
    struct prescan_region *region = scan->region;
    int inside = -1;

    if (!in_bounds(scan, ip) || region->block_count >= scan->max_blocks)
        return 0;
    for (unsigned i = 0; i < region->block_count; i++) {
        if (region->blocks[i].ip == ip)
            return 0;
        if (ip > region->blocks[i].ip && ip - region->blocks[i].ip < region->blocks[i].bytes)
            inside = (int)i;
    }
    if (inside >= 0) {
        unsigned before = region->block_count;
        if (split_block(region, (unsigned)inside, ip) != 0)
            return -1;
        if (region->block_count > before)
            return 0;
    }
    return append_block(region, ip) < 0 ? -1 : 0;
}

static int want_successors(struct prescan *scan, unsigned index)
{
    struct prescan_block block = scan->region->blocks[index]; /* the array may move */

    if (falls_through(&block) && want_block(scan, fall_ip(scan, &block)) != 0)
        return -1;
    if (block.has_target && block.end != END_CALL)
        return want_block(scan, block.target);
    return 0;
}

/* Blocks that were wanted but never decoded, or cannot be read at all, go away again. */
static void drop_empty_blocks(struct prescan_region *region)
{
    unsigned kept = region->block_count ? 1 : 0; /* the entry block stays whatever it is */

    for (unsigned i = 1; i < region->block_count; i++)
        if (region->blocks[i].count > 0)
            region->blocks[kept++] = region->blocks[i];
    region->block_count = kept;
}

static int32_t find_block(const struct prescan_region *region, uint64_t ip)
{
    for (unsigned i = 0; i < region->block_count; i++)
        if (region->blocks[i].ip == ip && region->blocks[i].count > 0)
            return (int32_t)i;
    return -1;
}

static void link_blocks(struct prescan *scan)
{
    struct prescan_region *region = scan->region;

    for (unsigned i = 0; i < region->block_count; i++) {
        struct prescan_block *block = &region->blocks[i];
        if (falls_through(block) && block->count > 0)
            block->fall = find_block(region, fall_ip(scan, block));
        if (!block->has_target)
            continue;
        block->taken = find_block(region, block->target);
        if (block->taken >= 0 && block->end != END_CALL && block->target < block->ip + block->bytes)
            region->blocks[block->taken].is_loop_head = 1;
    }
}

int prescan_run(struct prescan_region *region, const struct prescan_params *params)
{
    struct prescan scan;

    region->block_count = 0;
    region->insn_count = 0;
    scan.region = region;
    scan.params = params;
    scan.mask =
        params->bits == 64 ? UINT64_MAX : UINT32_MAX; /* 16-bit code does not wrap at 64 KiB */
    scan.insns_left = params->max_insns;
    scan.max_blocks =
        params->max_blocks < PRESCAN_MAX_BLOCKS ? params->max_blocks : PRESCAN_MAX_BLOCKS;
    scan.window_ip = 0;
    scan.window_size = 0;
    scan.window_short = 0;

    if (append_block(region, params->entry & scan.mask) < 0)
        return -1;
    for (unsigned i = 0; i < region->block_count; i++) {
        if (region->blocks[i].count > 0)
            continue; /* came from a split */
        if (scan.insns_left == 0)
            break;
        if (decode_block(&scan, i) != 0 || want_successors(&scan, i) != 0)
            return -1;
    }
    drop_empty_blocks(region);
    link_blocks(&scan);
    liveness_run(region);
    return 0;
}

void prescan_region_free(struct prescan_region *region)
{
    free(region->blocks);
    free(region->insns);
    memset(region, 0, sizeof(*region));
}
