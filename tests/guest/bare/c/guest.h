/*
 * Bare-metal tests in C. A test defines guest_main, which runs in ring 0 with interrupts off in the
 * mode that the first line of its file names, and returns when everything passed. Variables start
 * as zeros; there are no initialized ones. Memory: see ../common.S; 0x100000 and up is free.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "../../print.h"
#include "../../x86.h"

void guest_main(void);

/* Ends the test as failed. */
__attribute__((noreturn)) void guest_fail(unsigned line, uint32_t value);
#define EXPECT_THAT(condition, value)                                                              \
    ((condition) ? (void)0 : guest_fail(__LINE__, (uint32_t)(uintptr_t)(value)))

/*
 * Code that runs until an exception, in ring 0 or 3, without interrupts. The registers are loaded
 * from here and updated; sp is for ring 3 only, where 0 means any stack, and not updated.
 */
struct guest_call {
    uint32_t code, user;
    uintptr_t ax, cx, dx, bx, bp, si, di, sp;
};
void guest_enter(struct guest_call *call);

/* The exception that ended it. */
struct seen {
    uint32_t vector, error, ip, cs, flags, sp, cr2; /* low halves */
};
#define SEEN (*(const volatile struct seen *)0x500)

enum {
    VECTOR_DB = 1,
    VECTOR_UD = 6,
    VECTOR_NM = 7,
    VECTOR_SS = 12,
    VECTOR_GP = 13,
    VECTOR_PF = 14,
    VECTOR_MF = 16,
    VECTOR_XM = 19
};

/* One instruction followed by UD2, for guest_enter: see entry.S. */
extern const uint8_t stub_read[], stub_write[], stub_modify[], stub_exchange[], stub_fetch[],
    stub_segment[], stub_prefetch[], stub_read4[], stub_write4[], stub_modify4[], stub_cr0[],
    stub_cr3[], stub_cr4[], stub_wrmsr[], stub_xsetbv[];

/* Runs such a stub: 0, or the vector of the exception that its instruction raised. */
unsigned guest_try(const uint8_t *stub, bool user, uintptr_t ax, uintptr_t cx, uintptr_t dx);

/* --- registers --- */

enum {
    CR0_PE = 1,
    CR0_MP = 2,
    CR0_EM = 4,
    CR0_TS = 8,
    CR0_NE = 0x20,
    CR0_WP = 0x10000,
    CR0_NW = 0x20000000,
    CR0_CD = 0x40000000
};
#define CR0_PG 0x80000000u
enum {
    CR4_PSE = 0x10,
    CR4_PAE = 0x20,
    CR4_PGE = 0x80,
    CR4_OSFXSR = 0x200,
    CR4_OSXMMEXCPT = 0x400,
    CR4_OSXSAVE = 0x40000
};
#define MSR_EFER 0xc0000080u
enum { EFER_SCE = 1, EFER_LME = 0x100, EFER_LMA = 0x400, EFER_NXE = 0x800 };

#endif
