/* What the host CPU did against what the guest did. */
#ifndef VD_TESTS_INSN_COMPARE_H
#define VD_TESTS_INSN_COMPARE_H

#include "insn_case.h"

enum difference {
    DIFF_OUTCOME = 1 << 0, /* end, exception, vector */
    DIFF_ERROR = 1 << 1,   /* error code or CR2 */
    DIFF_RIP = 1 << 2,
    DIFF_GPR = 1 << 3,
    DIFF_FLAGS = 1 << 4,
    DIFF_X87 = 1 << 5,
    DIFF_MXCSR = 1 << 6,
    DIFF_VECTOR = 1 << 7,
    DIFF_MEMORY = 1 << 8,
    DIFF_BASE = 1 << 9,
    /* Flags that the manual leaves undefined, where they need not be the host's: no failure. */
    DIFF_UNDEFINED = 1 << 10,
    DIFF_ACCESSED = 1 << 11, /* accessed or dirty bits, see access.h */
    DIFF_CODE = 1 << 12,     /* what the test made of its code */
};

struct compare_rules {
    /* Addresses that only the guest has, where error codes differ in the P bit. NULL: none. */
    bool (*guest_only)(void *ctx, uint64_t linear);
    void *ctx;
    bool exact_flags;        /* the guest keeps dead flags, too */
    bool undefined_flags;    /* undefined flags are compared, too: they are this processor's */
    const uint8_t *template; /* what was in memory, MEMORY_BYTES */
};

/* enum difference bits, 0: equal. */
unsigned compare_results(const struct insn_case *c, const struct insn_result *native,
                         const struct insn_result *guest, const struct compare_rules *rules);

/* False: which pages the instruction that raised the exception accessed before follows no rule. */
bool compare_knows_accesses(const struct insn_case *c, const struct insn_result *native);

/* The number of the instruction at this address, or the last one before it. */
unsigned case_insn_at(const struct insn_case *c, uint64_t rip);

/* Everything about one test: code, initial state, and both results where they differ. */
void report_case(const struct insn_case *c, const struct insn_result *native,
                 const struct insn_result *guest, unsigned differences);

#endif
