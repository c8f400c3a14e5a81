/*
 * A small guest for the transfer tests: 4 MiB of RAM, tables at fixed places, and a way to execute
 * one instruction given as bytes. After OP_FAULT the processor state is compared with the state
 * before: only cpu->fault may differ (task switches excepted).
 */
#ifndef VD_TEST_TRANSFER_FIXTURE_H
#define VD_TEST_TRANSFER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/bt/transfer/transfer.h"

enum { /* linear = physical addresses */
       AT_GDT = 0x1000,
       AT_IDT = 0x2000,
       AT_TSS = 0x3000,  /* the current task, 32 bits (64 in long mode) */
       AT_TSSB = 0x4000, /* another 32-bit task */
       AT_TSS16 = 0x5000,
       AT_LDT = 0x6000,
       AT_DATA = 0x7000,
       STACK0 = 0x9000, /* tops */
       STACK1 = 0xa000,
       STACK3 = 0xb000,
       STACK_IST = 0xd000,
       AT_PML4 = 0x10000, /* long mode: four levels, the last for the first 2 MiB */
       AT_PDPT = 0x11000,
       AT_PD = 0x12000,
       AT_PT = 0x13000,
       AT_PD32 = 0x14000, /* 32-bit paging of the first 4 MiB */
       AT_PT32 = 0x15000,
};

enum { /* selectors in the GDT; legacy and long mode share the numbers */
       SEL_CODE0 = 0x08,
       SEL_DATA0 = 0x10,
       SEL_CODE3 = 0x1b,
       SEL_DATA3 = 0x23,
       SEL_CONF0 = 0x28,
       SEL_CODE16 = 0x30, /* base 20000H, limit FFFFH */
       SEL_DATA16 = 0x38,
       SEL_XONLY = 0x40,
       SEL_RODATA = 0x48,
       SEL_DATA_NP = 0x50,
       SEL_CODE_NP = 0x58,
       SEL_TSS = 0x60, /* two entries in long mode */
       SEL_TSSB = 0x70,
       SEL_TSS16 = 0x78,
       SEL_LDT = 0x80,
       SEL_DATA1 = 0x91,
       SEL_CODE1 = 0x99,
       SEL_CONF3 = 0xa0,
       SEL_DOWN = 0xa8,     /* expand-down, limit FFFFH, B = 1 */
       SEL_CODE64_3 = 0xb3, /* long mode only */
       SEL_LD = 0xb8,       /* code with L and D */
       SEL_FREE = 0xc0,     /* 2 entries for gates of the tests */
       SEL_BEYOND = 0xf8,   /* outside the limit */
};
enum { GDT_LIMIT = SEL_FREE + 15 };

enum { /* access bytes */
       ACC_CODE = 0x9a,
       ACC_DATA = 0x92,
       ACC_DPL3 = 0x60,
       ACC_DPL1 = 0x20,
       FLAG_G = 0x8,
       FLAG_D = 0x4,
       FLAG_L = 0x2,
};

struct machine {
    struct address_space *as;
    struct mmu *mmu;
    struct x86_cpu cpu, before;
};

/* cmocka set-up and tear-down of a machine in each mode; *state is the struct machine. */
int setup_real(void **state);
int setup_protected(void **state); /* CPL 0, flat 32-bit, no paging */
int setup_long(void **state);      /* CPL 0, 64-bit mode */
int teardown(void **state);

/* Executes one instruction in the current mode; rip moves for OP_NEXT. */
enum op_result execute(struct machine *m, const uint8_t *bytes, size_t len);
#define RUN(m, ...)                                                                                \
    execute(m, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* The instruction faults with vector and error code (-1: has none). */
void expect_fault(const struct machine *m, enum op_result result, unsigned vector, int64_t error);
#define FAULTS(m, vector, error, ...)                                                              \
    expect_fault(m, RUN(m, __VA_ARGS__), (unsigned)(vector), (int64_t)(error))

/* Guest memory. */
void put(struct machine *m, uint64_t at, unsigned size, uint64_t value);
uint64_t get(struct machine *m, uint64_t at, unsigned size);

uint64_t make_descriptor(uint32_t base, uint32_t limit20, unsigned access, unsigned flags);
uint64_t make_gate(uint16_t selector, uint32_t offset, unsigned access, unsigned count);
void set_gdt(struct machine *m, uint16_t selector, uint64_t descriptor);
void set_idt(struct machine *m, unsigned vector, uint64_t gate);
/* Long mode: access byte, IST. */
void set_idt64(struct machine *m, unsigned vector, uint16_t selector, uint64_t offset,
               unsigned access, unsigned ist);
/* Loads a segment register's cache from the GDT without any check. */
void force_segment(struct machine *m, enum x86_segreg seg, uint16_t selector);
/* CPL 3 with SEL_CODE3 and SEL_DATA3 (long mode: SEL_CODE64_3), stack at STACK3. */
void enter_user(struct machine *m);
/* Virtual-8086 mode with CS = 1000H, SS = 0A00H, SP = 1000H, and ES, DS, FS, GS = 1, 2, 3, 4. */
void enter_vm86(struct machine *m, unsigned iopl);
/* 32-bit paging: identity, everything present, writable, user. */
void enable_paging32(struct machine *m);
/* Makes the page at linear absent (long mode or 32-bit paging). */
void unmap_page(struct machine *m, uint64_t linear);

#endif
