/*
 * A bare machine for engine tests: 4 MiB of RAM, code at CODE, stack below STACK, ports that
 * record. Code is assembled into the test with GUEST_CODE and ends with HLT.
 */
#ifndef VD_TESTS_ENGINE_BT_GUEST_H
#define VD_TESTS_ENGINE_BT_GUEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/engine.h"

enum { CODE = 0x10000, STACK = 0x80000, DATA = 0x100000, GUEST_RAM = 4 << 20 };

#define GUEST_CODE(name, bits, ...)                                                                \
    extern const uint8_t name[], name##_end[];                                                     \
    __asm__(".pushsection .rodata\n.code" #bits "\n" #name ":\n" __VA_ARGS__ "\n" #name            \
            "_end:\n.code64\n.popsection\n")

struct guest {
    struct address_space *as;
    struct vcpu *vcpu;
    struct x86_cpu state;
    uint8_t *ram;
    uint64_t ports[16];             /* last values written to ports 0..15 */
    bool ferr;                      /* FERR# was asserted; that also kicks the vCPU */
    volatile int vector;            /* what the interrupt controller has to offer, -1: nothing */
    volatile unsigned acknowledged; /* interrupts taken so far */
    /* Called for every port write, as a device would be. May be NULL. */
    void (*on_port)(struct guest *g, uint16_t port, uint64_t value);
    void *user; /* the test's own */
};

/* bits: 16 (real mode), 32 (flat protected), 64 (long mode, 4 MiB identity-mapped). */
void guest_create(struct guest *g, unsigned bits);
void guest_destroy(struct guest *g);
void guest_place(struct guest *g, const uint8_t *code, const uint8_t *end);
/* Sets g->state, runs until HLT or shutdown, reads the state back. */
enum vcpu_exit guest_run(struct guest *g);

#define guest_exec(g, name)                                                                        \
    (guest_place((g), name, name##_end), assert_int_equal(guest_run(g), VCPU_EXIT_HALT))

#endif
