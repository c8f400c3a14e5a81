/*
 * The oracle: runs tests on the host CPU, in a child process whose low addresses hold nothing but
 * the test's memory.
 */
#ifndef VD_TESTS_INSN_NATIVE_H
#define VD_TESTS_INSN_NATIVE_H

#include "insn_case.h"

enum { BATCH = 64 };

struct batch { /* shared between both processes */
    struct insn_case cases[BATCH];
    struct insn_result results[BATCH];
    volatile uint32_t current; /* what the child works on */
};

struct native;

/* Fills one case; runs in the child. */
typedef void native_generate_fn(void *ctx, struct insn_case *c, uint64_t seed);

enum { NATIVE_SLOTS = 2 };
/* Starts the child. generate is called there with ctx as it is now. NULL: the host cannot do it. */
struct native *native_start(native_generate_fn *generate, void *ctx);
void native_stop(struct native *native);

/* Has the child generate and run tests seed, seed + 1, ... in a slot. */
void native_submit(struct native *native, unsigned slot, uint64_t seed, unsigned count);
/* Has the child run the tests that are in the slot already. */
void native_replay(struct native *native, unsigned slot, unsigned count);
/* Waits for a slot; NULL: the child died (a new one was started, the slot's work is lost). */
struct batch *native_wait(struct native *native, unsigned slot);
struct batch *native_batch(struct native *native, unsigned slot);

#endif
