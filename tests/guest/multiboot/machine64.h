/* What the 64-bit multiboot test programs share: start64.S and runtime64.c. */
#ifndef MACHINE64_H
#define MACHINE64_H

#define KERNEL_CODE 0x08
#define KERNEL_DATA 0x10
#define USER_CODE32 0x1b
#define USER_DATA   0x23
#define USER_CODE   0x2b
#define TASK        0x30 /* two slots */
#define CODE32      0x40
#define ABSENT_CODE 0x48
#define SPARE       0x50 /* three slots */
#define USER_RETURN 0x30 /* the vector that ends run_in_user */

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stdint.h>

#include "../x86.h"

enum { DE, DB, NMI, BP, UD = 6, NM, DF, TS = 10, NP, SS, GP, PF, MF = 16, AC, NO_FAULT = 0xffff };

enum { TF = 1 << 8, IF = 1 << 9, RF = 1 << 16 };

/* What an exception entry leaves on the stack. */
struct frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

/* One function per vector; an exception without one ends the program as failed, except in TRY. */
extern void (*handlers[256])(struct frame *);
extern volatile struct frame seen;           /* the last exception that TRY caught */
extern volatile uint64_t resume, resume_rsp; /* where TRY continues */
extern uint64_t root[512], pointers[512], directories[4 * 512], idt[512], gdt[];
extern uint8_t tss[], handler_return[];

void test_main(void);
void run_in_user(void (*function)(void));
/* Counts a check; prints the name and the value if it failed. */
void check(bool good, const char *name, uint64_t value);
void print(const char *text);
void print_number(uint64_t value);
/* Prints PASS or FAIL and ends the run; start64.S calls it behind test_main. */
void finish(void);

#define CHECK(condition, value)                                                                    \
    do { /* the condition first: it may be what makes the value */                                 \
        bool good_ = (condition);                                                                  \
        check(good_, #condition, (uint64_t)(value));                                               \
    } while (0)

/*
 * Runs the instructions, the fault of one of which is caught. The value is its vector, seen has the
 * rest. The first operand list is for outputs that a fault leaves alone.
 */
#define TRY(code, ...)                                                                             \
    ({                                                                                             \
        seen.vector = NO_FAULT;                                                                    \
        __asm__ volatile("movq %%rsp, resume_rsp\n movq $771f, resume\n" code                      \
                         "\n771: movq $0, resume"                                                  \
                         : __VA_ARGS__);                                                           \
        seen.vector;                                                                               \
    })

#endif
#endif
