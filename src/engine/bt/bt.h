/*
 * The translating engine's vCPU, shared by the files of engine/bt/.
 *
 * The gs base points at struct vcpu while vcpu_run is active. Translated code runs on its own small
 * stack (return pairs, see translator/xlate.h); stubs switch to the C stack for everything written
 * in C. Vector state stays in host registers ("loaded") until C code that may clobber it parks it.
 */
#ifndef VD_ENGINE_BT_BT_H
#define VD_ENGINE_BT_BT_H

#include "codecache/block_cache.h"
#include "engine/bt/ops.h"
#include "engine/engine.h"
#include "translator/xlate.h"

enum bt_exit { /* why translated code was left; also what bt_callout returns (0: go on) */
               BT_CONTINUE,
               BT_EXIT_LINK,        /* an unlinked exit: exit_arg is its index */
               BT_EXIT_LOOKUP,      /* jump cache miss: cpu.rip is the target */
               BT_EXIT_EVENT,       /* exit_request was seen */
               BT_EXIT_DONE,        /* a single instruction is complete */
               BT_EXIT_CALLOUT,     /* a callout needs the dispatcher; rip is up to date */
               BT_EXIT_HALT,        /* HLT */
               BT_EXIT_GUEST_FAULT, /* cpu.fault is set, rip is the instruction */
               BT_EXIT_SLOW,        /* C executes the instruction at rip */
               BT_EXIT_HOST_FAULT,  /* a host signal in translated code; host_fault tells */
};

enum { JUMP_BITS = 10, JUMP_SIZE = 1 << JUMP_BITS, JUMP_MASK = JUMP_SIZE - 1 };

struct jump_entry {      /* indirect branch targets; index = ip & JUMP_MASK */
    uint64_t negated_ip; /* minus the ip; of an ip that has another index: empty */
    uint64_t host;
};

enum { BOUNCE_SIZE = 192, INSN_CACHE_SIZE = 256 };

/* What may no longer follow the guest's page tables. */
enum bt_stale { BT_FRESH, BT_STALE_LOCAL /* all but global pages */, BT_STALE_ALL };

enum { BT_FILTER_BITS = 8192 };

struct host_fault {
    int signal, code;
    uint64_t trap, error, host_pc, address;
};

struct bt_stats {
    uint64_t enters, exits[16], callouts[OP_COUNT], faults[32], interrupts;
    uint64_t slow_steps, bounces, jump_misses, tlb_misses, tlb_victim_hits, code_writes,
        writes_beside_code, translations;
    uint64_t prescan_insns, single_steps, address_changes;
};

struct bounced_operand { /* of the last x87 instruction that ran on the bounce buffer */
    uint64_t offset;
    uint16_t selector;
};

struct code_segment { /* that a privilege level uses, or used last */
    uint64_t mode_key, base_key;
    uint16_t selector;
};

struct code_place {
    const struct code_block *block;
    uint64_t ip;
    unsigned bits, cpl;
    unsigned flat; /* as in struct xlate_mode */
    uint32_t base; /* of the code segment, and its selector */
    uint16_t selector;
};

struct slow_insn { /* decoded instruction of the slow path, checked against the code bytes */
    uint64_t tag;
    struct insn insn;
};

struct vcpu {
    struct x86_cpu cpu; /* first: translated code addresses it from the gs base */

    /* --- translated code and stubs --- */
    struct vcpu *self;
    uint64_t spill[2];
    uint64_t host_rsp, c_rsp, enter_target;
    uint64_t exit_arg, exit_pc;
    uint64_t stack_top;    /* of the return-pair stack; the sentinel pair is here */
    uint64_t window_delta; /* R8 across stub_access */
    uint64_t block_count, return_hits, return_misses;
    uint32_t exit_reason;
    uint32_t branch; /* low half of the host address of the last indirect branch */
    uint16_t flags_park;
    union {
        uint16_t rare_flags; /* either of them is set */
        struct {
            uint8_t direction; /* guest DF */
            uint8_t alignment; /* host EFLAGS.AC is set while translated code runs */
        };
    };
    uint8_t vectors_parked; /* guest vector state is in cpu.xsave, not in host registers */
    uint8_t bounce[BOUNCE_SIZE] __attribute__((aligned(64)));
    struct jump_entry jump[2][JUMP_SIZE];
    struct mmu mmu;

    /* --- C only --- */
    volatile uint8_t kicked; /* vcpu_kick was called */
    enum bt_stale stale;     /* which cells, jump caches and return pairs may be stale */
    bool jump_local[2];      /* [user] some jump cache entry is on a page that is not global */
    uint64_t code_pages[BT_FILTER_BITS / 64]; /* see bt_may_hold_code */
    bool code_changed;                        /* blocks were invalidated */
    struct xlate_mode mode;
    uint64_t mode_key, base_key;
    struct code_segment code_segment[4]; /* [CPL] */
    uint64_t jump_key[2];
    uint64_t jump_base[2];
    struct xlate_env env;
    struct block_cache cache;
    struct prescan_region region;
    struct xlate_result result;
    struct xlate_site *sites;
    uint32_t site_count, site_capacity;
    struct xlate_map *maps;
    uint32_t map_count, map_capacity;
    uint64_t stub_enter, stub_fault;
    uint8_t *stack; /* mapping: guard page, then the return-pair stack */
    struct host_fault host_fault;
    struct slow_insn slow[INSN_CACHE_SIZE];
    struct bounced_operand bounced;
    struct engine_config config;
    struct bt_stats stats;
    char host_error[256]; /* text of a host failure found in translated code */
};

/* --- stubs.c --- */
enum { BT_STACK_SIZE = 256 * 1024, BT_GUARD_SIZE = 4096 };
/* Emits entry and exit stubs into the fixed part of the code cache and fills vcpu->env. -1: no
 * room. */
int bt_stubs_init(struct vcpu *vcpu, struct vd_error *err);
/* Makes the return-pair stack empty. */
void bt_stack_reset(struct vcpu *vcpu);

/* Called by the stubs on the C stack. */
uint64_t bt_access(struct vcpu *vcpu, uint64_t linear, uint32_t descriptor, uint64_t host_pc);
uint32_t bt_callout(struct vcpu *vcpu, const struct xlate_site *site);

enum { BT_XSTATE_CARRIED = 7 }; /* XSAVE mask: x87, SSE, AVX */
/* --- blocks.c --- */
enum bt_variant {
    BT_NORMAL,
    BT_SINGLE,     /* one instruction that always leaves */
    BT_NO_WINDOWS, /* every stack access is checked on its own */
};
/* Finds or makes the block at cpu.rip in the current mode. BLOCK_NONE: cpu.fault is set. */
uint32_t bt_block(struct vcpu *vcpu, enum bt_variant variant);
/* A block that executes one instruction on the bounce buffer at the given offset. */
uint32_t bt_bounce_block(struct vcpu *vcpu, unsigned bounce_offset);
/* Recomputes mode and keys after X86_DIRTY_MODE. */
void bt_update_mode(struct vcpu *vcpu);
/*
 * Guest state at a host address inside the code cache: sets rip, aflags if they were parked, and
 * a register that was borrowed.
 */
bool bt_locate(struct vcpu *vcpu, uint64_t host_pc);
/*
 * The guest's instruction at a host address inside the code cache. False: none, or one of another
 * mode or code segment than what its privilege level has now or, if it is left, had last.
 */
bool bt_find_code(const struct vcpu *vcpu, uint64_t host_pc, struct code_place *place);
/* Drops what vcpu->stale says. */
void bt_forget_addresses(struct vcpu *vcpu);
void bt_jump_clear(struct vcpu *vcpu, unsigned user);
void bt_jump_add(struct vcpu *vcpu, uint64_t ip, uint32_t block, bool global);
/* False: no cell or jump cache entry leads to the page at linear. (A hash: may be true without
 * need.) */
static inline unsigned bt_filter_bit(uint64_t linear)
{
    return (unsigned)((linear >> 12) * 0x9e3779b97f4a7c15ull >> 51);
}
static inline bool bt_may_hold_code(const struct vcpu *vcpu, uint64_t linear)
{
    unsigned bit = bt_filter_bit(linear);
    return vcpu->code_pages[bit / 64] >> (bit % 64) & 1;
}
/* Writes to any of its bytes drop the block; false: some of them are not in plain memory. */
bool bt_target_is_traced(const struct vcpu *vcpu, uint32_t block);
/* True if the page of cpu.rip is global: links to it survive MOV CR3. */
bool bt_target_is_global(const struct vcpu *vcpu, uint32_t block);
/* Drops all translated code. */
void bt_drop_code(struct vcpu *vcpu);
/* A traced page is about to be written: invalidates what was made from these bytes. */
void bt_code_written(void *ctx, uint64_t page, unsigned offset, unsigned size);
/* Reads up to size code bytes at rip for one instruction; 0 and cpu.fault when the first is
 * unreadable. */
unsigned bt_fetch(struct vcpu *vcpu, uint8_t *bytes, unsigned size);

/* --- slow.c --- */
/* An unmasked x87 exception waits for the next x87 instruction. */
bool bt_x87_pending(const struct vcpu *vcpu);
/*
 * rip is behind the code segment's limit or not canonical. If the branch at host_pc brought it
 * there, undoes that branch: the fault belongs to it.
 */
void bt_undo_branch(struct vcpu *vcpu, uint64_t host_pc);
/* Executes the instruction at cpu.rip through C or the bounce buffer. */
enum op_result bt_slow_step(struct vcpu *vcpu, const struct insn **executed);

/* --- x87_pointers.c --- */
/* Replaces the host's pointers in the parked image by the guest's (XS_HELD). */
void bt_hold_x87_pointers(struct vcpu *vcpu);
/* Before the code cache is reset: what points into it has no meaning any more. */
void bt_forget_x87_pointers(struct vcpu *vcpu);
/* An instruction with its operand at this offset ran on the bounce buffer. */
void bt_x87_bounced(struct vcpu *vcpu, const struct insn *insn, uint64_t offset);

/* --- signals.c --- */
int bt_signals_install(struct vd_error *err);
/*
 * Turns vcpu->host_fault into cpu.fault: 0. 1: no exception, the instruction waits for an
 * interrupt. -1: not the guest's doing (host_error tells).
 */
int bt_host_fault(struct vcpu *vcpu);

/* --- dispatch.c --- */
/* Enters translated code at a host address. */
enum bt_exit bt_enter(struct vcpu *vcpu, const uint8_t *host);

/* The body of vcpu_run: sets up the gs base and dispatches. */
enum vcpu_exit bt_run(struct vcpu *vcpu, struct vd_error *err);

/* --- stats.c --- */
void bt_print_stats(struct vcpu *vcpu, FILE *out, int json);
void bt_trace_exit(struct vcpu *vcpu, enum bt_exit reason);
void bt_trace_block(const struct vcpu *vcpu, const struct prescan_block *const *blocks,
                    unsigned count, const struct xlate_result *result);

#endif
