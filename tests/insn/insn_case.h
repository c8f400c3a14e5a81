/*
 * One test of insn-diff: a short instruction sequence with its complete initial state, and what
 * came out of it. The native side and the guest see the same linear addresses:
 *
 *   LINEAR_CODE   2 pages, read and execute
 *   LINEAR_DATA   4 pages, read and write, then 1 page read-only
 *   LINEAR_STACK  2 pages, read and write
 *
 * with nothing mapped around them. In 64-bit mode all of it is there once more, LINEAR_HIGH above.
 * A test may have other rights to single pages, see enum page_rights.
 */
#ifndef VD_TESTS_INSN_CASE_H
#define VD_TESTS_INSN_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PAGE = 4096,
    CODE_PAGES = 2,
    DATA_PAGES = 5, /* the last one is read-only */
    STACK_PAGES = 2,
    CODE_BYTES = CODE_PAGES * PAGE,
    DATA_BYTES = DATA_PAGES * PAGE,
    DATA_WRITABLE = DATA_BYTES - PAGE,
    STACK_BYTES = STACK_PAGES * PAGE,
    MEMORY_BYTES = DATA_BYTES + STACK_BYTES, /* what is compared: data, then stack */
    MEMORY_PAGES = DATA_PAGES + STACK_PAGES,
    FIRST_CODE_PAGE = MEMORY_PAGES, /* pages by number: data, stack, code */
    ALL_PAGES = MEMORY_PAGES + CODE_PAGES,
};

#define LINEAR_CODE       0x10000000ull
#define LINEAR_TRAMPOLINE 0x6b5a7000ull /* native side only */
#define LINEAR_DATA       0x20000000ull
#define LINEAR_STACK      0x30000000ull
#define LINEAR_HIGH       0x200000000000ull

/* What instructions find at fixed places of the data area; see memory_template(). */
enum {
    DATA_FXSAVE = 0,    /* a valid XSAVE image, 832 bytes, 64-byte aligned */
    DATA_FNSAVE = 1024, /* a valid FNSAVE image, 16- or 32-bit by mode: the template has both */
    DATA_FNSAVE16 = 1280,
    DATA_MXCSR = 1536, /* 16 valid values of MXCSR */
    DATA_FCW = 1600,   /* 16 valid x87 control words */
    DATA_SAVE = 2048,  /* where FXSAVE, FNSAVE, ... store */
};

/* Data and stack contents that every test starts with. */
void memory_template(uint8_t memory[MEMORY_BYTES]);

/* Segment descriptors that the tests use outside 64-bit mode, by LDT index. */
enum segment_index {
    SEGI_CODE32_FLAT = 1,
    SEGI_CODE32,
    SEGI_CODE16,
    SEGI_FLAT,
    SEGI_DATA,        /* the data area from offset 0 on, and no more */
    SEGI_DATA_MIDDLE, /* 64 KiB with the data area in the middle */
    SEGI_DATA16,
    SEGI_DATA16_END, /* the writable data ends at the limit, FFFFh */
    SEGI_STACK16,
    SEGI_STACK16_END,
    SEGI_STACK32,
    SEGI_EXPAND_DOWN,
    SEGI_READ_ONLY,
    SEGI_CODE_ALIAS, /* the code area, writable */
    SEGI_COUNT
};
struct segment_row {
    uint64_t base;
    uint32_t limit; /* in bytes, inclusive */
    bool code, big, expand_down, read_only;
};
extern const struct segment_row segment_rows[SEGI_COUNT];

static inline uint16_t segment_selector(unsigned index)
{
    return (uint16_t)(index << 3 | 7);
}

enum { XSAVE_BYTES = 832, CASE_INSNS = 16, CASE_CODE = 320, END_BYTES = 16 };

struct insn_state {
    uint8_t xsave[XSAVE_BYTES] __attribute__((aligned(64))); /* standard format, components 0-2 */
    uint64_t gpr[16]; /* in the order of the instruction encoding */
    uint64_t rip, rflags;
    uint64_t fs_base, gs_base;
};

enum guest_page { GUEST_PAGE_RAM, GUEST_PAGE_TRACED, GUEST_PAGE_MMIO };

/* What a test may do with a page. The host has no pages of the last two kinds for it: there they
 * are absent, and only error codes differ. */
enum page_rights {
    RIGHTS_USUAL,  /* read and write; the last data page: read; code: read and execute */
    RIGHTS_READ,   /* code: not executable */
    RIGHTS_WRITE,  /* code only: read, write and execute */
    RIGHTS_ABSENT, /* and the following: no access */
    RIGHTS_SUPERVISOR,
    RIGHTS_RESERVED, /* a reserved bit of the page table entry is set */
    RIGHTS_COUNT
};

/* Number of the page at a linear address, -1: none of the test's. */
static inline int page_number(uint64_t linear)
{
    uint64_t low = linear >= LINEAR_HIGH ? linear - LINEAR_HIGH : linear;
    if (low - LINEAR_DATA < DATA_BYTES)
        return (int)((low - LINEAR_DATA) / PAGE);
    if (low - LINEAR_STACK < STACK_BYTES)
        return DATA_PAGES + (int)((low - LINEAR_STACK) / PAGE);
    return low - LINEAR_CODE < CODE_BYTES ? FIRST_CODE_PAGE + (int)((low - LINEAR_CODE) / PAGE)
                                          : -1;
}

static inline bool page_writable(unsigned number, enum page_rights rights)
{
    return rights == RIGHTS_WRITE || (rights == RIGHTS_USUAL && number != DATA_PAGES - 1 &&
                                      number < (unsigned)FIRST_CODE_PAGE);
}

struct insn_case {
    struct insn_state in;
    uint64_t seed;
    uint8_t mode;                 /* 16, 32, 64 */
    uint8_t segment[6];           /* LDT indices, order ES CS SS DS FS GS; unused in 64-bit mode */
    uint8_t behind[MEMORY_PAGES]; /* enum guest_page: what the guest has behind data and stack */
    uint8_t rights[ALL_PAGES];    /* enum page_rights */
    bool compatibility;           /* 16, 32: the guest runs it in compatibility mode */
    bool self_modifying;          /* stores to its own code */
    bool exact_end;      /* the native side ends with INT VECTOR_END, as the guest does: slow */
    bool high;           /* 64-bit: code runs at LINEAR_HIGH */
    uint16_t code_start; /* offset in the code area */
    uint16_t code_size;  /* bytes, without the end marker */
    uint8_t count;       /* instructions */
    uint16_t offset[CASE_INSNS + 1]; /* of each instruction from code_start; then code_size */
    uint16_t mnemonic[CASE_INSNS];   /* ZydisMnemonic */
    uint32_t glued; /* bit i: instruction i relies on i-1, so that no jump may separate them */
    uint8_t code[CASE_CODE];
    /* Stores x87 pointers at this offset of the data area (FXSAVE and the like); 0: none. */
    uint16_t save_offset, save_size;
};

enum { VECTOR_END = 0x81 };

enum outcome { OUTCOME_END, OUTCOME_EXCEPTION, OUTCOME_TIMEOUT, OUTCOME_LOST };

struct insn_result {
    struct insn_state out;
    uint8_t memory[MEMORY_BYTES] __attribute__((aligned(64)));
    uint8_t code[CASE_CODE];  /* self-modifying tests only */
    uint16_t accessed, dirty; /* guest only: bits of pages by number */
    uint8_t outcome;          /* enum outcome */
    uint8_t vector;
    uint64_t error, cr2;
};

#endif
