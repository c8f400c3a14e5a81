/*
 * Stack frames: several items pushed or popped as one, so that a frame is written completely or not
 * at all. Also the stack pointers of the task-state segment. Private to engine/bt/transfer/.
 */
#ifndef VD_ENGINE_BT_FRAME_H
#define VD_ENGINE_BT_FRAME_H

#include "engine/bt/transfer/descriptor.h"

enum { FRAME_MAX_ITEMS = 40 }; /* call gate: 31 parameters, SS, SP, CS, IP */

struct frame_stack {
    const struct x86_segment *seg;
    uint64_t sp;    /* current value, within mask */
    uint64_t mask;  /* 0xffff, 0xffffffff or all ones */
    bool flat64;    /* 64-bit mode: no base, no limit, canonical instead */
    uint8_t user;   /* 1: accesses at CPL 3 */
    uint32_t error; /* error code of #SS when the frame does not fit */
};

/* The current stack at the current CPL; error code 0. */
struct frame_stack frame_current(const struct x86_cpu *cpu);
/* A stack that is about to become current: seg filled, pointer sp, owner privilege level cpl. */
struct frame_stack frame_inner(const struct x86_segment *seg, uint64_t sp, unsigned cpl,
                               bool code64);

/* Pushes items[0..count) in this order; 0 with stack->sp moved, or -1 and nothing was written. */
int frame_push(struct x86_cpu *cpu, struct frame_stack *stack, const uint64_t *items,
               unsigned count, unsigned size);
/* Pops count items. 0 with stack->sp moved, or -1. */
int frame_pop(struct x86_cpu *cpu, struct frame_stack *stack, uint64_t *items, unsigned count,
              unsigned size);
/* Writes SP, ESP or RSP; bits of the register above the stack address size stay. */
void frame_commit(struct x86_cpu *cpu, const struct frame_stack *stack);

/* SS:ESP for privilege level cpl from a 16- or 32-bit TSS; beyond its limit: #TS(TR). */
int tss_read_stack(struct x86_cpu *cpu, unsigned cpl, uint16_t *ss, uint64_t *sp);
/* RSP0-2 or, with ist 1..7, an IST entry of the 64-bit TSS; #TS(TR), or #SS(0) if not canonical. */
int tss_read_rsp(struct x86_cpu *cpu, unsigned cpl, unsigned ist, uint64_t *rsp);
/*
 * Checks and fills the stack segment that the TSS names for cpl: #TS(selector), #SS(selector) when
 * not present; accessed bit set in memory.
 */
int tss_fill_ss(struct x86_cpu *cpu, uint16_t selector, unsigned cpl, struct x86_segment *ss);
/*
 * CR4.VME: does the bitmap in the TSS send INT vector to the 8086 program's own table? 1: yes,
 * 0: no, -1: cpu->fault.
 */
int tss_redirects_int(struct x86_cpu *cpu, uint8_t vector);

#endif
