/*
 * Callouts for segment loads, far transfers, interrupts, system calls and descriptor tables. Every
 * function has the contract of op_fn (engine/bt/ops.h): it completes or, with OP_FAULT, leaves the
 * state as it was. The exceptions are the architecture's own: a fault behind the commit point of a
 * task switch (SDM vol. 3, 7.3) belongs to the new task, and that of an IRET to VIF and VIP to the
 * instruction returned to; cpu->rip is then already there.
 */
#ifndef VD_ENGINE_BT_TRANSFER_H
#define VD_ENGINE_BT_TRANSFER_H

#include "engine/bt/ops.h"

/* Segment registers and far transfers (ops_segment.c, ops_far.c, ops_return.c) */
op_fn op_mov_to_seg;
op_fn op_mov_from_seg;
op_fn op_push_seg;
op_fn op_pop_seg;
op_fn op_load_far_pointer;
op_fn op_jmp_far;
op_fn op_call_far;
op_fn op_ret_far;

/* Interrupts and returns from them (ops_interrupt.c, ops_return.c) */
op_fn op_int_n;
op_fn op_int3;
op_fn op_int1;
op_fn op_into;
op_fn op_iret;

/* Fast system calls (ops_syscall.c) */
op_fn op_syscall;
op_fn op_sysret;
op_fn op_sysenter;
op_fn op_sysexit;
op_fn op_swapgs;

/* Descriptor inspection and table registers (ops_system.c) */
op_fn op_lar;
op_fn op_lsl;
op_fn op_verr;
op_fn op_verw;
op_fn op_arpl;
op_fn op_lgdt;
op_fn op_lidt;
op_fn op_sgdt;
op_fn op_sidt;
op_fn op_lldt;
op_fn op_ltr;
op_fn op_sldt;
op_fn op_str;

#endif
