#include "prescan/liveness.h"

/* What one block does to the flags as a whole. */
struct block_summary {
    uint16_t reads;   /* read before they are written */
    uint16_t writes;  /* certainly written */
    uint32_t decided; /* bytes from the start after which every flag was read or written */
    uint8_t through;  /* some flag passes through undecided: successors matter */
};

struct liveness {
    struct prescan_region *region;
    struct block_summary summary[PRESCAN_MAX_BLOCKS];
    /* blocks already visited by the walk numbered visit, so that marks need no clearing */
    uint16_t visited[PRESCAN_MAX_BLOCKS];
    uint16_t pending[PRESCAN_MAX_BLOCKS];
};

static uint16_t insn_reads(const struct insn *insn)
{
    /* A callout sees, saves or replaces the whole register. */
    return insn->kind == KIND_CALLOUT ? PRESCAN_ARITH_FLAGS
                                      : insn->flags_read & PRESCAN_ARITH_FLAGS;
}

static uint16_t live_before(const struct insn *insn, uint16_t after)
{
    return (uint16_t)(insn_reads(insn) | (after & ~insn->flags_written));
}

static void summarize(const struct prescan_region *region, const struct prescan_block *block,
                      struct block_summary *summary)
{
    const struct insn *insn = &region->insns[block->first];
    unsigned reads = 0, writes = 0;

    summary->decided = 0;
    for (unsigned i = 0; i < block->count; i++, insn++) {
        if (((reads | writes) & PRESCAN_ARITH_FLAGS) == PRESCAN_ARITH_FLAGS)
            break;
        reads |= insn_reads(insn) & ~writes;
        writes |= insn->flags_written & PRESCAN_ARITH_FLAGS;
        summary->decided += insn->len;
    }
    summary->reads = (uint16_t)reads;
    summary->writes = (uint16_t)writes;
    summary->through = (reads | writes) != PRESCAN_ARITH_FLAGS;
}

/* The two successors that the live-out set comes from; -1: unknown code, everything is live. */
static void flag_successors(const struct prescan_block *block, int32_t next[2])
{
    next[0] = next[1] = -1;
    switch ((enum prescan_end)block->end) {
    case END_BRANCH:
        next[0] = block->taken;
        next[1] = block->fall;
        break;
    case END_JUMP:
    case END_CALL: /* the callee sees the flags; the return point gets what it leaves */
        next[0] = next[1] = block->taken;
        break;
    case END_LIMIT:
        next[0] = next[1] = block->fall;
        break;
    case END_INDIRECT:
    case END_RETURN:
    case END_CALLOUT:
    case END_UNREADABLE:
    case END_INVALID:
        break;
    }
}

static void solve(struct liveness *live)
{
    struct prescan_region *region = live->region;
    int changed = 1;

    for (unsigned i = 0; i < region->block_count; i++)
        region->blocks[i].flags_live_in = region->blocks[i].flags_live_out = 0;
    while (changed) {
        changed = 0;
        for (unsigned i = region->block_count; i-- > 0;) {
            struct prescan_block *block = &region->blocks[i];
            const struct block_summary *summary = &live->summary[i];
            unsigned out = 0;
            int32_t next[2];

            flag_successors(block, next);
            for (unsigned k = 0; k < 2; k++)
                out |= next[k] < 0 ? PRESCAN_ARITH_FLAGS : region->blocks[next[k]].flags_live_in;
            unsigned in = summary->reads | (out & ~(unsigned)summary->writes);
            if (in != block->flags_live_in || out != block->flags_live_out)
                changed = 1;
            block->flags_live_in = (uint16_t)in;
            block->flags_live_out = (uint16_t)out;
        }
    }
}

/* Walks forward over the bytes that prove a flag dead at the end of the block. */
static void find_peek(struct liveness *live, unsigned index)
{
    struct prescan_region *region = live->region;
    struct prescan_block *block = &region->blocks[index];
    unsigned pending = 0;
    uint64_t low = UINT64_MAX, high = 0;
    uint16_t mark = (uint16_t)(index + 1);

    block->peek_low = block->peek_high = 0;
    if (block->flags_live_out == PRESCAN_ARITH_FLAGS)
        return; /* nothing was assumed */
    live->pending[pending++] = (uint16_t)index;
    while (pending > 0) {
        int32_t next[2];
        flag_successors(&region->blocks[live->pending[--pending]], next);
        for (unsigned k = 0; k < 2; k++) {
            if (next[k] < 0 || live->visited[next[k]] == mark)
                continue;
            live->visited[next[k]] = mark;
            const struct prescan_block *successor = &region->blocks[next[k]];
            uint64_t end = successor->ip + live->summary[next[k]].decided;
            if (successor->ip < low)
                low = successor->ip;
            if (end > high)
                high = end;
            if (live->summary[next[k]].through && successor->flags_live_out != PRESCAN_ARITH_FLAGS)
                live->pending[pending++] = (uint16_t)next[k];
        }
    }
    block->peek_low = low;
    block->peek_high = high;
}

void liveness_run(struct prescan_region *region)
{
    struct liveness live;

    live.region = region;
    for (unsigned i = 0; i < region->block_count; i++) {
        live.visited[i] = 0;
        summarize(region, &region->blocks[i], &live.summary[i]);
    }
    solve(&live);
    for (unsigned i = 0; i < region->block_count; i++)
        find_peek(&live, i);
}

uint16_t prescan_flags_live(const struct prescan_region *region, const struct prescan_block *block,
                            unsigned i)
{
    uint16_t live = block->flags_live_out;

    for (unsigned k = block->count; k > i; k--)
        live = live_before(&region->insns[block->first + k - 1], live);
    return live;
}
