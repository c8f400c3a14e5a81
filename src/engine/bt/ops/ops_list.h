/*
 * The operations of this folder, one function per row of INSN_OPS that is not a segment or control
 * transfer. Every function has the contract of op_fn (engine/bt/ops.h).
 */
#ifndef VD_ENGINE_BT_OPS_LIST_H
#define VD_ENGINE_BT_OPS_LIST_H

#include "engine/bt/ops.h"

op_fn op_ud; /* ops_misc.c; also MONITOR, MWAIT, RSM, VMCALL: this processor does not have them */

/* Control and debug registers, TLB (ops_control.c, ops_debug.c) */
op_fn op_lmsw;
op_fn op_smsw;
op_fn op_clts;
op_fn op_mov_from_cr;
op_fn op_mov_to_cr;
op_fn op_invlpg;
op_fn op_invpcid;
op_fn op_wbinvd;
op_fn op_mov_from_dr;
op_fn op_mov_to_dr;

/* Model-specific registers, counters, identification (ops_misc.c) */
op_fn op_rdmsr;
op_fn op_wrmsr;
op_fn op_rdtsc;
op_fn op_rdtscp;
op_fn op_rdpmc;
op_fn op_rdpid;
op_fn op_cpuid;
op_fn op_xgetbv;
op_fn op_xsetbv;
op_fn op_rdfsgsbase;
op_fn op_wrfsgsbase;
op_fn op_clac_stac;

/* Flags and halt (ops_flags.c), ports (ops_io.c) */
op_fn op_hlt;
op_fn op_cli;
op_fn op_sti;
op_fn op_pushf;
op_fn op_popf;
op_fn op_in;
op_fn op_out;
op_fn op_ins;
op_fn op_outs;

/* Dropped by 64-bit mode or awkward there (ops_legacy.c, ops_bcd.c) */
op_fn op_pusha;
op_fn op_popa;
op_fn op_enter;
op_fn op_bound;
op_fn op_aaa;
op_fn op_aas;
op_fn op_aam;
op_fn op_aad;
op_fn op_daa;
op_fn op_das;
op_fn op_salc;

/* Strings (ops_string.c) */
op_fn op_movs;
op_fn op_stos;
op_fn op_lods;
op_fn op_scas;
op_fn op_cmps;

/* x87 and vector state (ops_fxsave.c, ops_xsave.c, ops_x87.c, ops_mask.c, ops_gather.c) */
op_fn op_fpu_unavailable;
op_fn op_fxsave;
op_fn op_fxrstor;
op_fn op_xsave;
op_fn op_xrstor;
op_fn op_fnsave;
op_fn op_frstor;
op_fn op_fnstenv;
op_fn op_fldenv;
op_fn op_maskmov;
op_fn op_vmaskmov;
op_fn op_gather;

#endif
