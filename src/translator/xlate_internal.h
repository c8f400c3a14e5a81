/* State of one translation, shared by the files of this module. */
#ifndef VD_TRANSLATOR_XLATE_INTERNAL_H
#define VD_TRANSLATOR_XLATE_INTERNAL_H

#include "translator/emit.h"
#include "translator/xlate.h"

enum cold_kind {                 /* code that runs rarely, placed behind the block */
                 COLD_ACCESS,    /* TLB miss: refill and go back */
                 COLD_CONSTANT,  /* the same for an operand at a constant address */
                 COLD_BOUNCE,    /* segment bounds: C executes the instruction */
                 COLD_EVENT,     /* poll found a request */
                 COLD_EVENT_RCX, /* the same, RCX is in R9 */
                 COLD_CELL_JUMP, /* conditional jump to a cell exit */
                 COLD_VECTORS,   /* vector state is parked: bring it back */
                 COLD_WINDOW,    /* stack window: refill, or go on in the variant without windows */
                 COLD_TARGET,    /* target of a CALL that the jump cache does not have */
};

struct cold {
    uint8_t kind;
    bool parked;
    uint16_t ip;     /* guest ip offset, for the map */
    uint32_t site;   /* rel32 that leads here */
    uint32_t back;   /* COLD_ACCESS: where to continue */
    uint32_t value;  /* COLD_ACCESS: descriptor; COLD_CELL_JUMP: exit; COLD_TARGET: register */
    int32_t tag;     /* COLD_ACCESS: TLB tag array, to restore R10; 0: it is intact */
    uint64_t linear; /* COLD_CONSTANT */
};

enum { COLD_MAX = 4 * XLATE_MAX_INSNS, ARITH_FLAGS = X86_ARITH_FLAGS };

struct xlate {
    const struct xlate_input *in;
    const struct xlate_env *env;
    const struct xlate_mode *mode;
    const struct insn *list[XLATE_MAX_INSNS]; /* instructions of all blocks */
    unsigned count;                           /* of them */
    uint64_t start;                           /* ip of the first */
    uint32_t bytes;                           /* of all */
    struct xlate_result *out;
    struct emit e;
    const struct insn *insn;            /* current */
    uint64_t ip;                        /* of the current instruction */
    uint64_t branch_ip;                 /* the same, and of the last one behind the end */
    uint16_t live[XLATE_MAX_INSNS + 1]; /* arithmetic flags live before each instruction */
    uint16_t live_now;                  /* live[] of the current instruction */
    unsigned borrowed;                  /* bits of XLATE_BORROWED for the map */
    uint8_t scratch[2];                 /* guest registers in R9 and R10, GPR_NONE: none */
    uint32_t scratch_pos;               /* where that is so; else not */
    bool parked;                        /* flags are in env->flags_park, host RFLAGS is garbage */
    bool vectors_live;                  /* vector state is known to be in host registers */
    bool failed;                        /* some table is full */
    bool sti_seen;                      /* exits must poll */
    unsigned base, index;               /* host registers that address the current operand */
    int32_t disp;                       /* displacement from them */
    unsigned number;                    /* of the current instruction in the block */
    unsigned window_end; /* first instruction behind the open stack window, 0: none */
    unsigned windows;    /* opened so far */
    int sp_adjust;       /* POP m: added to RSP-based addresses */
    struct cold cold[COLD_MAX];
    unsigned cold_count;
};

static inline int32_t gpr_offset(unsigned guest)
{
    return (int32_t)(offsetof(struct x86_cpu, gpr) + guest * sizeof(uint64_t));
}
static inline int32_t seg_offset(unsigned seg, size_t field)
{
    return (int32_t)(offsetof(struct x86_cpu, seg) + seg * sizeof(struct x86_segment) + field);
}

/* Home of a guest register, H_NONE: memory. */
static inline unsigned host_of(unsigned guest)
{
    if (guest == X86_RSP)
        return H_R11;
    return guest >= 8 && guest <= 11 ? (unsigned)H_NONE : guest;
}

static inline bool is_user(const struct xlate *x)
{
    return x->mode->cpl == 3;
}

/* --- xlate.c --- */
void map_mark(struct xlate *x);
struct cold *cold_add(struct xlate *x, enum cold_kind kind, uint32_t site);
/* To cold code unless RCX is 0; touches no flags. */
struct cold *cold_unless_rcx_zero(struct xlate *x, enum cold_kind kind);
/* Adds one to an 8-byte counter without touching flags; destroys R9. */
void emit_count(struct xlate *x, int32_t counter);
/* Call before clobbering host flags in front of the current instruction. */
void flags_clobber(struct xlate *x);
/* Call right before the copy of an instruction that reads or writes flags. */
void flags_settle(struct xlate *x);
/* Parks them; destroys R9. */
void flags_park(struct xlate *x);
/* Brings parked flags back (R9 is destroyed; keep_r9 uses a spill slot instead). */
void flags_unpark(struct xlate *x, bool keep_r9);
void emit_callout(struct xlate *x, const struct insn *insn, enum insn_op op);
/* True if a C function runs instead of a copy (also when a feature or the FPU is not available). */
bool insn_needs_callout(const struct xlate *x, const struct insn *insn, bool last);

/* --- xlate_memory.c --- */
/* dst = a guest register that lives in memory, or still is in R9 or R10. */
void emit_load_guest(struct xlate *x, unsigned guest, unsigned dst);
/* Host register with the guest register's value; memory-resident ones are loaded into scratch. */
unsigned guest_load(struct xlate *x, unsigned guest, unsigned scratch);
/* Writes host register src (size bytes, 4 zero-extends) to a guest register. */
void guest_store(struct xlate *x, unsigned guest, unsigned size, unsigned src);
/* R10 = effective offset, truncated to the address size. */
void emit_offset(struct xlate *x, const struct insn_mem *mem);
/* R10 = offset -> linear address, with segment bounds check. */
void emit_linear(struct xlate *x, unsigned seg, unsigned size, bool write);
/*
 * R10 = linear -> host address through the TLB, or cold code of this kind on a miss. Destroys flags
 * and R9, with r8_free also R8.
 */
struct cold *emit_tlb_lookup(struct xlate *x, enum cold_kind kind, unsigned size, bool write,
                             bool r8_free);
/* The same for the current operand, which becomes [R10]; flags are parked if they are live. */
void emit_tlb(struct xlate *x, unsigned size, bool write);
/* Calls stub_access for a lookup that failed; R10 is the linear address. */
void emit_call_access(struct xlate *x, const struct cold *cold);
/* All three for the explicit operand of the current instruction: sets base, index and disp. */
void emit_operand(struct xlate *x, bool write);
/* The same for the stack item at SP + displacement. */
void emit_stack(struct xlate *x, int displacement, unsigned size, bool write);
/* mov dst, operand of size bytes, zero-extended. */
void emit_load_operand(struct xlate *x, unsigned size, unsigned dst);
/* mov operand of size bytes, src or value (8 bytes: sign-extended). */
void emit_store_operand(struct xlate *x, unsigned size, unsigned src);
void emit_store_operand_imm(struct xlate *x, unsigned size, uint32_t value);
/* SP += delta by the stack address size. */
void emit_sp_add(struct xlate *x, int delta);

/* The current operand is [base + index + disp]. */
static inline void set_operand(struct xlate *x, unsigned base, unsigned index, int32_t disp)
{
    x->base = base;
    x->index = index;
    x->disp = disp;
}
/* The prefix-less ModRM form of the current operand. */
static inline void emit_operand_modrm(struct xlate *x, unsigned reg)
{
    emit_modrm_mem(&x->e, reg, x->base, x->index, 0, x->disp);
}

/* --- xlate_window.c --- */
/* Opens a stack window at the current instruction if that pays. */
void window_open(struct xlate *x);
void emit_cold_window(struct xlate *x, const struct cold *cold);
static inline bool window_active(const struct xlate *x)
{
    return x->number < x->window_end;
}
/* True if an access through RSP + displacement goes through the open window; then it is the
 * operand. */
bool window_covers(struct xlate *x, unsigned base, unsigned index, int displacement);

/* --- xlate_copy.c --- */
void xlate_copy(struct xlate *x);
void xlate_lea(struct xlate *x);
void xlate_push(struct xlate *x);
void xlate_pop(struct xlate *x);
void xlate_leave(struct xlate *x);
void xlate_xlat(struct xlate *x);

/* --- xlate_control.c --- */
/* Leaves the block for a known ip. */
void emit_exit(struct xlate *x, uint64_t target);
void xlate_jump(struct xlate *x);
/* last: also leaves for the next instruction; else falls through. */
void xlate_jcc(struct xlate *x, bool last);
void xlate_loop(struct xlate *x);
void xlate_call(struct xlate *x);
void emit_cold_target(struct xlate *x, const struct cold *cold);
void xlate_jump_indirect(struct xlate *x);
void xlate_return(struct xlate *x);
void emit_cell_jump(struct xlate *x, unsigned exit_number);
/* Leaves for the variant without stack windows that starts at the current instruction. */
void emit_exit_variant(struct xlate *x);

#endif
