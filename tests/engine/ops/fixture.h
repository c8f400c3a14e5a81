/*
 * A small guest for the tests of the callouts: 4 MiB of RAM and a way to execute one instruction
 * given as bytes. After OP_FAULT the state is compared with the state before: only cpu->fault (and
 * registers that an interrupted REP has updated, if the test says so) may differ.
 */
#ifndef VD_TEST_OPS_FIXTURE_H
#define VD_TEST_OPS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/bt/ops.h"

enum { /* physical addresses; linear ones are the same in every mode */
       AT_PD32 = 0x1000,
       AT_PT32 = 0x2000,
       AT_PML4 = 0x3000,
       AT_PDPT = 0x4000,
       AT_PD64 = 0x5000,
       AT_PT64 = 0x6000, /* first 2 MiB */
       AT_TSS = 0x8000,
       AT_STACK = 0x10000, /* top */
       AT_DATA = 0x20000,
};

enum { PORT_LOG = 64 };

struct guest {
    struct address_space *as;
    struct mmu *mmu;
    struct x86_cpu cpu, before;
    unsigned parked;   /* calls of bt_park_vectors */
    bool may_progress; /* OP_FAULT after some iterations of REP is expected */
    /* the board */
    uint64_t tsc, tpr, apic_base, deadline;
    uint64_t port_value; /* what the next port read gives; counts up */
    unsigned port_count;
    struct {
        uint16_t port;
        uint8_t size;
        bool write;
        uint64_t value;
    } ports[PORT_LOG];
    unsigned request_exit_after; /* port accesses until an exit is requested; 0: never */
};

int setup_real(void **state);
int setup_protected(void **state); /* CPL 0, flat 32-bit segments, no paging */
int setup_long(void **state);      /* CPL 0, 64-bit mode, first 4 MiB mapped with 4 KiB pages */
int teardown(void **state);

/* Executes one instruction in the current mode; OP_NEXT moves rip. */
enum op_result execute(struct guest *g, const uint8_t *bytes, size_t len);
#define RUN(g, ...)                                                                                \
    execute(g, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
#define RUNS(g, ...) assert_int_equal(RUN(g, __VA_ARGS__), OP_NEXT)

/* The instruction faults with vector and error code (-1: has none). */
void expect_fault(const struct guest *g, enum op_result result, unsigned vector, int64_t error);
#define FAULTS(g, vector, error, ...)                                                              \
    expect_fault(g, RUN(g, __VA_ARGS__), (unsigned)(vector), (int64_t)(error))
#define FAULTS_UD(g, ...) FAULTS(g, X86_UD, -1, __VA_ARGS__)
#define FAULTS_GP(g, ...) FAULTS(g, X86_GP, 0, __VA_ARGS__)

void put(struct guest *g, uint64_t at, unsigned size, uint64_t value);
uint64_t get(struct guest *g, uint64_t at, unsigned size);

/* Flat segments of the given code size (32, 64); CPL as given. */
void flat_segments(struct guest *g, unsigned bits, unsigned cpl);
void enter_vm86(struct guest *g, unsigned iopl);
void set_iopl(struct guest *g, unsigned iopl);
/* 32-bit paging of the first 4 MiB: identity, present, writable, user. */
void enable_paging32(struct guest *g);
/* Makes a page absent or read-only (32-bit paging or long mode). */
void unmap_page(struct guest *g, uint64_t linear);
void read_only_page(struct guest *g, uint64_t linear);

void set_feature(struct guest *g, enum x86_feature feature, bool on);

#endif
