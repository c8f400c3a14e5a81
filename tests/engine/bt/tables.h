/* Descriptor tables for guests that take exceptions and interrupts. */
#ifndef VD_TESTS_ENGINE_BT_TABLES_H
#define VD_TESTS_ENGINE_BT_TABLES_H

#include "guest.h"

enum {
    GDT = 0x8000,
    IDT = 0x9000,
    TSS = 0xa000,
    KERNEL_CS = 0x08,
    KERNEL_DS = 0x10,
    USER_CS = 0x1b,
    USER_DS = 0x23,
    TSS_SELECTOR = 0x28,
    KERNEL_STACK = 0x78000, /* where interrupts from CPL 3 push */
};

/*
 * GDT, an empty IDT and a TSS for 32 or 64 bits in guest RAM, and the registers that point to them.
 * In real mode nothing: the interrupt table is at 0.
 */
void guest_make_tables(struct guest *g, unsigned bits);
/* Interrupt gate (real mode: vector table entry) that leads to ip; dpl: who may INT n. */
void guest_set_gate(struct guest *g, unsigned bits, unsigned vector, uint64_t ip, unsigned dpl);
/* The same for a label inside code that guest_place puts at CODE. */
#define GUEST_GATE(g, bits, vector, start, label)                                                  \
    guest_set_gate((g), (bits), (vector),                                                          \
                   ((bits) == 16 ? 0 : CODE) + (uint64_t)((label) - (start)), 3)
/* Makes the next guest_run start at CPL 3 with flat user segments. */
void guest_enter_user(struct guest *g, unsigned bits);

/* Guest memory as numbers. */
uint32_t guest_read32(struct guest *g, uint64_t gpa);
void guest_write32(struct guest *g, uint64_t gpa, uint32_t value);
uint64_t guest_read64(struct guest *g, uint64_t gpa);
void guest_write64(struct guest *g, uint64_t gpa, uint64_t value);

#endif
