/*
 * The translator: prescanned blocks -> host code.
 *
 * Registers while translated code runs:
 * - guest RAX RCX RDX RBX RBP RSI RDI R12-R15 are the same-numbered host registers,
 * - guest RSP is host R11,
 * - guest R8-R11 are in memory (struct x86_cpu.gpr), loaded on demand: the least used of all
 *   (0.1-2.2 % of instructions touch one),
 * - host R9 and R10 are scratch; R8 is, too, or host minus guest address of a stack window,
 * - host RSP is a private stack of (guest return, host return) pairs,
 * - the gs base is struct x86_cpu.
 *
 * Arithmetic flags and DF are in host RFLAGS. Inserted checks clobber flags only where they are
 * dead or were "parked" (saved by lahf/seto to memory, and brought back before anybody needs them).
 *
 * Memory: every operand goes through the soft TLB with a compare in line; see emit_tlb in
 * xlate_memory.c.
 *
 * Faults: the checks of an instruction come before its first visible change; the map gives guest ip
 * and whether flags are parked for every host address that may fault or call out.
 */
#ifndef VD_TRANSLATOR_XLATE_H
#define VD_TRANSLATOR_XLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/cpu.h"
#include "prescan/prescan.h"

/* What the code depends on besides its bytes: the mode part of the block key. */
struct xlate_mode {
    uint8_t bits;       /* code size 16, 32, 64 */
    uint8_t stack_bits; /* 16, 32, 64 */
    uint8_t cpl;
    uint8_t flat;     /* bit per X86_ES..X86_GS: 0 to 4 GiB, readable and (but CS) writable */
    uint8_t fpu;      /* enum xlate_fpu bits */
    bool iopl_ok;     /* CLI and STI work on the virtual IF directly */
    bool bounce;      /* the memory operand is in the bounce buffer, its offset in bounce_offset */
    bool single;      /* one instruction, then leave (single step, interrupt shadow) */
    bool no_windows;  /* check every stack access on its own */
    bool count;       /* count events for statistics */
    bool exact_flags; /* arithmetic flags are right in every fault and at every poll, dead or not */
};
enum xlate_fpu { /* CR0/CR4/XCR0/mode state that makes x87/SSE/AVX instructions fault */
                 XLATE_TS = 1,
                 XLATE_EM = 2,
                 XLATE_MP = 4,
                 XLATE_OSFXSR = 8,
                 XLATE_AVX = 16,
                 XLATE_VEX = 32, /* neither real-address nor virtual-8086 mode */
};

/* Offsets from the gs base, and executable addresses of the engine's stubs. */
struct xlate_env {
    int32_t tlb_read_tag[2], tlb_write_tag[2], tlb_host[2], tlb_addend[2]; /* [user]; of entry 0 */
    unsigned tlb_entry_shift, tlb_bits;
    int32_t jump_ip[2], jump_host[2]; /* [user]; of entry 0: minus the guest ip, host address */
    unsigned jump_entry_shift, jump_bits;
    int32_t flags_park;     /* 2 bytes: OF in the low, lahf in the high byte */
    int32_t spill[2];       /* 8 bytes each, scratch of one instruction */
    int32_t direction;      /* 1 byte: guest DF */
    int32_t bounce;         /* bounce buffer: bounce_offset is added at translation */
    int32_t branch;         /* 4 bytes: low half of the host address of the last indirect branch */
    int32_t vectors_parked; /* 1 byte: not 0 while vector state is in memory */
    int32_t block_count, return_hits; /* 8-byte counters, used with mode.count */
    const struct cpuid_model *cpuid;
    /* [user][write] call with r10 = linear, r9d = ACCESS_*: r10 = host, or no return */
    uint64_t stub_access[2][2];
    uint64_t stub_bounce;  /* call: leave, let C execute the instruction at the caller's guest ip */
    uint64_t stub_callout; /* call with r9 = struct xlate_site *: returns, or not at all */
    uint64_t stub_vectors; /* call: brings vector state back to host registers */
    uint64_t stub_link;    /* jmp with r9d = exit index: find or make the target, link, go there */
    uint64_t stub_event;   /* jmp with r10 = guest ip: leave for an asynchronous event */
    uint64_t stub_done;    /* jmp with r10 = guest ip: leave after a single instruction */
    uint64_t stub_indirect[2];    /* [user] jmp with r10 = target ip: jump cache, or leave */
    uint64_t stub_return_miss[2]; /* [user] the same, but first drops the top return pair */
    /*
     * [64-bit mode] call with spill[0] = target ip: returns if it is within the code segment or
     * canonical, else as stub_bounce
     */
    uint64_t stub_check_target[2];
    uint64_t stub_missed_call; /* jmp with spill[0] = target ip: leave */
};

/* r9d at stub_access */
enum { ACCESS_SIZE_MASK = 0xfff, ACCESS_WRITE = 0x1000, ACCESS_WINDOW = 0x2000 };
/* What stub_access returns for a window that cannot be had. */
enum { ACCESS_NO_WINDOW = 1 };

/* One callout in the code; lives as long as the code. */
struct xlate_site {
    struct insn insn;
    uint64_t ip;
};

struct xlate_map { /* ascending host offsets; valid until the next entry */
    uint16_t host; /* offset from the start of the block */
    uint16_t ip;   /* guest ip offset from the start of the block, and enum xlate_map_bits */
};
enum xlate_map_bits {
    XLATE_IP = 0x3ff,
    XLATE_BORROWED = 0x1c00, /* see xlate_map_borrowed */
    XLATE_PARKED = 0x8000,   /* flags are parked */
};

enum {
    XLATE_MAX_BLOCKS = 6,
    XLATE_MAX_EXITS = 14,
    XLATE_MAX_MAP = 512,
    XLATE_MAX_CODE = 24576,
    XLATE_MAX_INSNS = 48
};

/*
 * True if the copy of an instruction that may fault uses the register *reg for something else: its
 * guest value is in env.spill[0].
 */
bool xlate_map_borrowed(const struct xlate_map *map, unsigned *reg);

struct xlate_exit {
    uint64_t target;
    uint32_t site; /* position of the rel32, or of the RIP-relative disp32 if cell */
    uint32_t stub; /* position of the unlinked stub */
    bool cell;
    bool poll;       /* must be linked to the polling entry */
    bool no_windows; /* the target is the variant with mode.no_windows */
};

struct xlate_result {
    uint32_t size, body; /* code bytes; position of the entry behind the poll */
    struct xlate_exit exits[XLATE_MAX_EXITS];
    unsigned exit_count;
    struct xlate_map map[XLATE_MAX_MAP];
    unsigned map_count;
};

/* Where the translator takes callout sites, exit numbers and cells from. */
struct xlate_alloc {
    void *ctx;
    struct xlate_site *(*site)(void *ctx); /* NULL: none left */
    uint32_t first_exit;                   /* number of this block's first exit */
    /* executable address of a fresh cell; 0: none left */
    uint64_t (*cell)(void *ctx, unsigned exit);
};

struct xlate_input {
    const struct prescan_region *region;
    /*
     * The blocks to translate as one: each but the last falls through to the next, which follows it
     * in memory. Their conditional branches become side exits.
     */
    const struct prescan_block *blocks[XLATE_MAX_BLOCKS];
    unsigned block_count;
    const struct xlate_mode *mode;
    const struct xlate_env *env;
    const struct xlate_alloc *alloc;
    uint16_t bounce_offset; /* with mode.bounce: added to env.bounce */
    uint64_t cs_base;       /* to tell pages: linear = cs_base + ip */
    uint32_t cs_limit;      /* of the code segment; without meaning in 64-bit mode */
};

/*
 * Translates the blocks into buffer (exec: its executable address). 0, or -1 when buffer, map,
 * sites or cells run out (the caller resets the cache or asks for a smaller block).
 */
int xlate_block(struct xlate_result *result, const struct xlate_input *input, uint8_t *buffer,
                uint32_t size, uint64_t exec);

#endif
