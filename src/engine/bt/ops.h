/*
 * Callouts: C semantics of privileged and sensitive instructions, of those that 64-bit mode
 * dropped, and of exception and interrupt delivery. The guest's state is in struct x86_cpu;
 * cpu->rip is the address of the instruction itself. Functions run to completion or change nothing
 * (precise faults).
 *
 * Compiled with -mgeneral-regs-only: guest vector state may still be in host registers. An
 * operation that needs it calls bt_park_vectors(cpu) first and then works on cpu->xsave.
 */
#ifndef VD_ENGINE_BT_OPS_H
#define VD_ENGINE_BT_OPS_H

#include "cpu/cpu.h"
#include "decoder/insn.h"
#include "memory/mmu.h"

enum op_result {
    OP_NEXT,   /* done; continue behind the instruction (the engine adds insn->len to rip) */
    OP_JUMP,   /* done; cpu->rip (and maybe mode) were set */
    OP_FAULT,  /* cpu->fault is set, state unchanged */
    OP_REPEAT, /* REP made progress and was interrupted: rip unchanged, registers updated, run it
                  again */
    OP_RETRY,  /* nothing happened: run it again, after what an interrupt brings (FERR#) */
    OP_HALT,   /* cpu->halted is set; continue behind the instruction after wake-up */
};

typedef enum op_result op_fn(struct x86_cpu *cpu, const struct insn *insn);

/* The function of an op; never NULL (OP_NONE gives the #UD function). */
op_fn *op_function(enum insn_op op);
const char *op_name(enum insn_op op); /* SDM notation */

/* --- faults --- */
static inline enum op_result op_raise(struct x86_cpu *cpu, enum x86_vector vector)
{
    x86_raise(cpu, vector);
    return OP_FAULT;
}
static inline enum op_result op_raise_error(struct x86_cpu *cpu, enum x86_vector vector,
                                            uint32_t error)
{
    x86_raise_error(cpu, vector, error);
    return OP_FAULT;
}
static inline enum op_result op_raise_gp0(struct x86_cpu *cpu)
{
    return op_raise_error(cpu, X86_GP, 0);
}

/* --- delivery (ops_interrupt.c) --- */
enum event_kind {
    EVENT_EXTERNAL,
    EVENT_NMI,
    EVENT_EXCEPTION,
    EVENT_SOFTWARE /* INT n, INT3, INTO */,
    EVENT_PRIV_SOFTWARE /* INT1 */
};
/*
 * Delivers one interrupt or exception through IVT/IDT in the current mode (SDM vol. 3 ch. 6, 6.14,
 * 21). next_rip is the pc to push. 0: delivered (rip, CS, SS, flags changed; dirty set); -1:
 * cpu->fault is a new fault raised by the delivery.
 */
int event_deliver(struct x86_cpu *cpu, enum event_kind kind, uint8_t vector, bool has_error,
                  uint32_t error, uint64_t return_rip);
/*
 * Delivers cpu->fault with the double-fault rules (SDM vol. 3, table 6-5); commits CR2/DR6; sets RF
 * in the pushed image for faults. A triple fault sets cpu->shutdown and returns -1.
 */
int fault_deliver(struct x86_cpu *cpu);

/* --- segments (ops_segment.c) --- */
/* Loads DS/ES/FS/GS/SS as MOV and POP do in the current mode, with all checks. 0 or -1 with
 * cpu->fault. */
int segment_load(struct x86_cpu *cpu, enum x86_segreg seg, uint16_t selector);
/* Sets CPL and everything derived; marks the mode dirty. */
void cpu_set_cpl(struct x86_cpu *cpu, unsigned cpl);

/* --- operands (ops_operand.c) --- */
/* Effective offset of the explicit memory operand, truncated to the address size. */
uint64_t op_offset(const struct x86_cpu *cpu, const struct insn *insn);
/* Reads/writes a general register operand of size bytes (8-bit: AH..BH without REX). 32-bit writes
 * zero-extend. */
uint64_t op_get_gpr(const struct x86_cpu *cpu, const struct insn *insn, unsigned reg,
                    unsigned size);
void op_set_gpr(struct x86_cpu *cpu, const struct insn *insn, unsigned reg, unsigned size,
                uint64_t value);
/* Reads/writes ModRM r/m as register or memory. 0, or -1 with cpu->fault. */
int op_read_rm(struct x86_cpu *cpu, const struct insn *insn, unsigned size, uint64_t *value);
int op_write_rm(struct x86_cpu *cpu, const struct insn *insn, unsigned size, uint64_t value);
/*
 * Stack: a local copy of SP so that nothing changes until commit. push/pop use SS and the stack
 * address size.
 */
struct op_stack {
    struct x86_cpu *cpu;
    uint64_t sp; /* current value, full width */
};
void op_stack_begin(struct op_stack *stack, struct x86_cpu *cpu);
int op_push(struct op_stack *stack, unsigned size, uint64_t value);
int op_pop(struct op_stack *stack, unsigned size, uint64_t *value);
void op_stack_commit(
    const struct op_stack *stack); /* writes SP/ESP/RSP by the stack address size */

/* Stores host x87/SSE/AVX state into cpu->xsave if it is live in host registers (engine/bt/park.c).
 */
void bt_park_vectors(struct x86_cpu *cpu);
/*
 * The same, and makes cpu->x87_pointers right, which they are otherwise only while an x87 exception
 * is pending (engine/bt/x87_pointers.c).
 */
void bt_park_x87_pointers(struct x86_cpu *cpu);

/* Checks the I/O permission of [port, port+size) (IOPL, TSS bitmap). 0 or -1 with #GP(0). */
int io_check(struct x86_cpu *cpu, uint16_t port, unsigned size);

#endif
