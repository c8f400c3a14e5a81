/* What the string instructions, INS and OUTS share: pointers, direction, count, direct access. */
#ifndef VD_ENGINE_BT_OPS_STRING_WALK_H
#define VD_ENGINE_BT_OPS_STRING_WALK_H

#include "engine/bt/ops.h"

enum string_repeat { REPEAT_NONE, REPEAT_EQUAL /* F3, REP */, REPEAT_NOT_EQUAL /* F2 */ };

struct string_walk {
    struct x86_cpu *cpu;
    uint64_t mask;       /* of the address size */
    uint8_t address;     /* bytes of the address size */
    uint8_t size, shift; /* bytes of an element, and their log2 */
    uint8_t source;      /* enum x86_segreg of the source: DS or the override */
    uint8_t repeat;      /* enum string_repeat */
    bool down;           /* DF = 1 */
    bool code64;
};

void string_begin(struct string_walk *walk, struct x86_cpu *cpu, const struct insn *insn);

/*
 * Elements to do now: the rest of the count, 1 without a repeat prefix, at most 1 while
 * single-stepping (a trap comes after each iteration).
 */
uint64_t string_remaining(const struct string_walk *walk);

/*
 * Finds host memory for up to count elements at offset, going in the walk's direction, within one
 * page. Returns how many are there from *host on (downwards: before it, with *host the first one);
 * 0: the first one must go through seg_read/seg_write, which may raise faults; -1: page fault
 * recorded.
 */
int64_t string_map(const struct string_walk *walk, enum x86_segreg seg, uint64_t offset, bool write,
                   uint64_t count, uint8_t **host);

/* Checks one element as an access would: 0, or -1 with the fault recorded. */
int string_probe(const struct string_walk *walk, enum x86_segreg seg, uint64_t offset, bool write);

/* Moves an index register by n elements. */
void string_advance(const struct string_walk *walk, enum x86_gpr reg, uint64_t n);
/*
 * Takes n off the count. OP_NEXT: the instruction is complete; OP_REPEAT: it must be left now;
 * OP_JUMP: go on with the next chunk.
 */
enum op_result string_count(const struct string_walk *walk, uint64_t n);

static inline uint64_t string_offset(const struct string_walk *walk, enum x86_gpr reg)
{
    return walk->cpu->gpr[reg] & walk->mask;
}

#endif
