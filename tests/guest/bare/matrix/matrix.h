/*
 * Matrix tests: privileged behaviour in all combinations of descriptors, selectors and privilege
 * levels. A test goes to a privilege level with chosen registers ("visit"), runs a few bytes of
 * code there (a "probe"), and looks at how that ended: every probe ends with INT 255 unless
 * something else comes first. What has to happen is computed from the rules of the manuals.
 *
 * An unexpected outcome is printed with the numbers of its case, and ends the test.
 */
#ifndef VD_MATRIX_H
#define VD_MATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../print.h"
#include "../../x86.h"
#include "layout.h"

#ifndef MODE
#define MODE 64 /* the build names it: 32 or 64 */
#endif

enum { /* selectors without RPL; those of common.S stay valid below 100h */
       KERNEL_CODE32 = 0x08,
       KERNEL_DATA = 0x10,
       KERNEL_CODE64 = 0x18,
       KERNEL_CODE = MODE == 64 ? KERNEL_CODE64 : KERNEL_CODE32,
       LEVEL_CODE32 = 0x100, /* + 20h * level */
       LEVEL_DATA = 0x108,
       LEVEL_CODE16 = 0x110,
       LEVEL_CODE64 = 0x118,
       TESTED = 0x200, /* two slots in the GDT and in the LDT */
       TESTED2 = 0x210,
       TEST_TSS = 0x250,
       TEST_LDT = 0x260,
       FREE = 0x270, /* up to the limit */
       GDT_LIMIT = 0xfff,
       LDT_LIMIT = 0x3ff
};

enum { VECTOR_DONE = 255, LANDING = 256 };

enum { /* EFLAGS */
       FLAG_CF = 1,
       FLAG_ZF = 0x40,
       FLAG_TF = 0x100,
       FLAG_IF = 0x200,
       FLAG_IOPL = 0x3000,
       FLAG_NT = 0x4000,
       FLAG_RF = 0x10000,
       FLAG_VM = 0x20000,
       FLAG_AC = 0x40000,
       FLAG_VIF = 0x80000,
       FLAG_VIP = 0x100000,
       FLAG_ID = 0x200000
};

enum { /* exceptions */
       DE = 0,
       DB = 1,
       BP = 3,
       OF = 4,
       UD = 6,
       NM = 7,
       DF = 8,
       TS = 10,
       NP = 11,
       SS_FAULT = 12,
       GP = 13,
       PF = 14
};

enum { /* the five type bits of a descriptor (S and type), and the four flags G D L AVL */
       TYPE_DATA = 0x12,
       TYPE_CODE = 0x1a,
       S_BIT = 0x10,
       CODE_BIT = 8,
       CONFORMING_BIT = 4,
       RW_BIT = 2,
       A_BIT = 1,
       SYS_TSS16 = 1,
       SYS_LDT = 2,
       SYS_TSS16_BUSY = 3,
       SYS_CALL16 = 4,
       SYS_TASK_GATE = 5,
       SYS_INT16 = 6,
       SYS_TRAP16 = 7,
       SYS_TSS = 9,
       SYS_TSS_BUSY = 11,
       SYS_CALL = 12,
       SYS_INT = 14,
       SYS_TRAP = 15,
       FLAGS_CODE64 = 0xa,
       FLAGS_32 = 0xc /* G, D/B */
};

struct visit_state {
    uintptr_t ip, cs, flags, sp, ss, ds, es, fs, gs, ax, cx, dx, bx, bp, si, di, r11;
};

struct visit_end {
    unsigned vector;                 /* or LANDING + n */
    uint32_t error;                  /* 0 when the vector has none */
    uintptr_t ip, cs, flags, sp, ss; /* of the interrupted code */
    uintptr_t *frame;                /* what was pushed, error code first */
    struct visit_state regs;         /* in the handler; ip is the vector, sp before its pushes */
};

/* Written by each test. */
void matrix_main(void);

/* --- environment --- */
/*
 * Tables, 256 vectors (DPL 0, INT 255 DPL 3), task register, LDT, stacks, INT 255 at LOW_CODE;
 * paging with WP on, all interrupts of devices masked.
 */
void matrix_begin(const char *group);
/* Prints the number of cases. */
void matrix_end(void);
/* A new case: what to print if it fails. */
void matrix_case(const char *name, uint32_t a, uint32_t b, uint32_t c, uint32_t d);
/* Ends the test unless got == wanted. */
void check(const char *what, uintptr_t got, uintptr_t wanted);

/* --- tables --- */
uint64_t descriptor_make(uint32_t base, uint32_t limit, unsigned type, unsigned dpl, bool present,
                         unsigned flags);
/* A gate; parameters: of a call gate, or IST. */
uint64_t gate_make(unsigned selector, uintptr_t offset, unsigned type, unsigned dpl, bool present,
                   unsigned parameters);
/* The slot of a selector, in the GDT or (TI set) the LDT. */
uint64_t *descriptor_slot(unsigned selector);
void idt_set(unsigned vector, uint64_t gate);
/* The gate that leads back to the test; DPL as given. */
void idt_restore(unsigned vector, unsigned dpl);
/* The address of landing n: a stub in ring 0 that ends the visit with vector LANDING + n. */
uintptr_t landing(unsigned n);
/* LLDT of TEST_LDT with this limit. */
void ldt_load(uint32_t limit);
void cr4_set(uintptr_t bits, bool on);
/* Memory of 1 (store only), 2, 4 or 8 bytes. */
void store(uintptr_t at, unsigned size, uintptr_t value);
uintptr_t load(uintptr_t at, unsigned size);
/* Present, writable, user bits of the 4 KiB page at address (below 2 MiB). */
void page_set(uintptr_t address, unsigned bits);
/* LTR for a TSS at TSS_AT with this limit; type SYS_TSS or SYS_TSS16. */
void tss_load(unsigned type, uint32_t limit);
/* Stack for level n in the current 32- or 64-bit TSS. */
void tss_set_stack(unsigned level, unsigned ss, uintptr_t sp);
/* The stack that tss_set_stack sets up at the beginning. */
uintptr_t stack_top(unsigned level);

/* --- probes --- */
/* Puts code with INT 255 behind it at a place of its own; its offset from CODE_AT. */
unsigned probe_place(const uint8_t *bytes, unsigned count);
/* Registers for a probe in 16-, 32- or 64-bit code at cpl: data segments of DPL 3, a stack. */
struct visit_state probe_state(unsigned bits, unsigned cpl, unsigned probe);
void visit(const struct visit_state *in, struct visit_end *end);

/* The visit ended by this exception on the probe's first byte and changed no register. */
void expect_fault(const struct visit_state *in, const struct visit_end *end, unsigned vector,
                  uint32_t error);
/* It ended with INT 255. */
void expect_done(const struct visit_end *end);

/* --- rules that several matrices share --- */
bool is_code(unsigned type);
bool is_conforming(unsigned type); /* a conforming code segment */
bool is_readable(unsigned type);   /* data, or readable code */
bool is_writable_data(unsigned type);

#endif
