/* Shared by the generate_*.c files. */
#ifndef VD_TESTS_INSN_GENERATE_PRIVATE_H
#define VD_TESTS_INSN_GENERATE_PRIVATE_H

#include "generate.h"
#include "values.h"

enum role { /* what a register holds when the test starts */
            ROLE_RANDOM,
            ROLE_SMALL,   /* an index or count */
            ROLE_POINTER, /* into the data, relative to DS (RDI of string tests: ES) */
            ROLE_STACK,   /* into the stack, relative to SS */
};

enum { FIXUPS = 2 * CASE_INSNS, CODE_STORES = 4 };

struct fixup {      /* a field that names a later instruction */
    uint16_t at;    /* in code[] */
    uint8_t size;   /* bytes */
    uint8_t insn;   /* the instruction it belongs to */
    uint8_t target; /* instruction number; beyond the last: the end */
    bool relative;
};

struct code_store { /* a store into the test's own code */
    uint8_t insn, size;
    bool adds;                     /* ADD rather than MOV */
    uint16_t address_at, value_at; /* in code[] */
};

struct gen {
    struct random r;
    const struct generator *g;
    struct insn_case *c;
    uint8_t role[16];
    uint16_t keep; /* registers that instructions should not write */
    bool strings;  /* RSI, RDI and RCX are set up for string instructions */
    struct fixup fixup[FIXUPS];
    unsigned fixup_count;
    struct {
        uint8_t head, end; /* instructions: MOV rCX, and the branch back */
    } loops[CASE_INSNS];
    unsigned loop_count;
    unsigned loop, loop_end; /* first instruction of the open loop (0: none), and when to end it */
    struct code_store store[CODE_STORES];
    unsigned store_count;
    uint32_t changed;   /* instructions that a store changes, a bit each */
    unsigned wanted;    /* instructions */
    unsigned undefined; /* flags that may be undefined before the next instruction */
    unsigned read_ever, undefined_ever; /* flags, by any instruction so far */
    bool returns;      /* control flow may go back: to behind a CALL, or wherever RET leads */
    bool restored;     /* XRSTOR or the like was there */
    unsigned limited;  /* a data or stack page with special rights; ALL_PAGES: none */
    bool code_limited; /* the second code page has special rights */
    bool branched;     /* some instruction may be skipped */
};

struct memory_choice {
    uint8_t bytes[7]; /* ModRM, SIB, displacement */
    unsigned size;
    unsigned rip_disp; /* position of a RIP-relative displacement in bytes, 0: none */
    uint64_t target;   /* its linear address */
    bool rex_b, rex_x;
    unsigned data_offset; /* absolute_memory: where */
};

/* --- generate_state.c --- */
void generate_state(struct gen *g);
/* Offset of a linear address in a segment of the test. */
uint64_t segment_offset(const struct gen *g, unsigned seg, uint64_t linear);

/* --- generate.c --- */
void append_insn(struct gen *g, unsigned mnemonic, const uint8_t *bytes, unsigned size);
/* Stores or loads state in memory, which the rest of the test takes into account. */
bool is_state_mnemonic(unsigned mnemonic);

/* --- generate_modify.c --- */
/* Decides whether the test modifies its code; after choose_pages. */
void begin_modifying(struct gen *g);
void emit_store_to_code(struct gen *g);
/* When all instructions are there: what the stores store, and where. */
void modify_code(struct gen *g);

/* --- generate_pages.c --- */
/* Page rights, what the guest has behind pages. Before any pointer is made. */
void choose_pages(struct gen *g);
void choose_code_start(struct gen *g);
/* Linear addresses, mostly valid. */
uint64_t data_pointer(struct gen *g);
uint64_t stack_pointer(struct gen *g);
/* 0, or LINEAR_HIGH where both can be used. */
uint64_t high_half(struct gen *g);

/* --- generate_operand.c --- */
/* A memory operand for ModRM.reg `reg`, with addresses of addrsize bytes. */
void choose_memory(struct gen *g, struct memory_choice *m, unsigned reg, unsigned addrsize,
                   bool vsib, bool aligned, bool override);
/* The operand at a fixed offset of the data area, for the test's own address size. */
void absolute_memory(struct gen *g, struct memory_choice *m, unsigned reg, unsigned data_offset);

#endif
