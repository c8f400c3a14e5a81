/*
 * Prescan: from one entry point, follow direct control flow ahead of execution, decode and classify
 * every instruction, and find which flags are live where. Reads code only through a callback.
 */
#ifndef VD_PRESCAN_PRESCAN_H
#define VD_PRESCAN_PRESCAN_H

#include <stddef.h>
#include <stdint.h>

#include "decoder/insn.h"

/*
 * Copies up to size code bytes at offset ip into buffer; returns how many are readable in one piece
 * (0: none; fewer than size: the next byte is not readable).
 */
typedef size_t prescan_fetch_fn(void *ctx, uint64_t ip, uint8_t *buffer, size_t size);

struct prescan_params {
    prescan_fetch_fn *fetch;
    void *fetch_ctx;
    unsigned bits;            /* code size 16, 32, 64 */
    uint64_t entry;           /* ip of the first instruction */
    uint64_t low, high;       /* control flow is followed to targets in [low, high) only */
    unsigned max_blocks;      /* blocks in the region */
    unsigned max_block_insns; /* instructions in one block */
    unsigned max_insns;       /* in all; 1: exactly one instruction (single-step) */
};

enum prescan_end {               /* why a block ends */
                   END_BRANCH,   /* Jcc/LOOP: target and fall-through */
                   END_JUMP,     /* direct JMP */
                   END_CALL,     /* direct or indirect CALL: fall-through is the return point */
                   END_INDIRECT, /* indirect JMP */
                   END_RETURN,
                   END_CALLOUT, /* a callout that may change pc or mode (far transfer, INT, HLT, MOV
                                   CR, ...) */
                   END_LIMIT,   /* max_block_insns, or the next instruction starts another block */
                   END_UNREADABLE, /* the next bytes cannot be fetched */
                   END_INVALID,    /* last instruction is undefined (OP_UD) */
};

struct prescan_block {
    uint64_t ip;           /* of its first instruction */
    uint32_t first, count; /* slice of region.insns; count may be 0 only with END_UNREADABLE */
    uint32_t bytes;
    uint8_t end;          /* enum prescan_end */
    uint8_t has_target;   /* target is known */
    uint8_t is_loop_head; /* some block of the region branches backwards to it */
    uint64_t target;      /* ip of the taken successor (truncated to the operand size) */
    int32_t taken, fall;  /* indices of successor blocks in the region, -1: outside or none */
    uint16_t flags_live_in, flags_live_out; /* RFLAGS bits; all arithmetic flags if unknown */
    uint64_t peek_low, peek_high; /* code bytes outside the block that flags_live_out relies on */
};

struct prescan_region {
    struct prescan_block *blocks; /* [0] is the entry block */
    unsigned block_count, block_capacity;
    struct insn *insns;
    unsigned insn_count, insn_capacity;
};

/*
 * Fills region (whose arrays the caller owns and which grow as needed; start from zero). Returns 0,
 * or -1 when memory is short. An unreadable or undefined first instruction is not an error: see
 * end.
 */
int prescan_run(struct prescan_region *region, const struct prescan_params *params);
void prescan_region_free(struct prescan_region *region);

/*
 * True if the instruction ends a block: control transfers, and callouts after which pc, mode or
 * address translation may differ, or which may stop the CPU.
 */
int prescan_ends_block(const struct insn *insn);

/* Flags live before instruction i of the block (walks backwards; i = count gives flags_live_out).
 */
uint16_t prescan_flags_live(const struct prescan_region *region, const struct prescan_block *block,
                            unsigned i);

#endif
