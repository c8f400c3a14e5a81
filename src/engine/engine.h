/*
 * The interface that every engine (translator, KVM) implements. One vCPU is run by one thread; kick
 * and interrupt may come from any thread or signal handler.
 */
#ifndef VD_ENGINE_ENGINE_H
#define VD_ENGINE_ENGINE_H

#include <stdio.h>

#include "base/error.h"
#include "cpu/cpu.h"
#include "memory/address_space.h"

struct vcpu; /* each engine's own */

enum vcpu_exit {
    VCPU_EXIT_KICK, /* vcpu_kick was called */
    VCPU_EXIT_HALT, /* HLT with nothing deliverable: sleep until interrupt or kick, then run again
                     */
    VCPU_EXIT_SHUTDOWN, /* triple fault; registers show where */
    VCPU_EXIT_ERROR,    /* host failure; text through the vd_error given to vcpu_run */
};

enum trace_flags { TRACE_BLOCKS = 1, TRACE_EXITS = 2, TRACE_CALLOUTS = 4, TRACE_INT = 8 };

struct engine_config {
    struct address_space *as;
    struct x86_platform platform;
    struct cpuid_model cpuid;
    unsigned trace;         /* enum trace_flags */
    size_t code_cache_size; /* bytes, 0: default */
    bool count_events;      /* count what translated code does by itself, for vcpu_stats */
    bool exact_flags;       /* keep dead arithmetic flags, too: right in every pushed EFLAGS */
};

struct engine_ops {
    const char *name;
    int (*vcpu_create)(struct vcpu **vcpu, const struct engine_config *config,
                       struct vd_error *err);
    void (*vcpu_destroy)(struct vcpu *vcpu);
    enum vcpu_exit (*vcpu_run)(struct vcpu *vcpu, struct vd_error *err);
    void (*vcpu_kick)(struct vcpu *vcpu);      /* async-signal-safe */
    void (*vcpu_interrupt)(struct vcpu *vcpu); /* INTR may have changed; async-signal-safe */
    void (*vcpu_nmi)(struct vcpu *vcpu);
    void (*vcpu_reset)(struct vcpu *vcpu); /* as RESET#; only while not running */
    void (*vcpu_init)(struct vcpu *vcpu);  /* as INIT#; only while not running */
    /* State by value: between engines, snapshots, lockstep tests. Pointers inside are ignored by
     * set. */
    void (*vcpu_get_state)(struct vcpu *vcpu, struct x86_cpu *state);
    int (*vcpu_set_state)(struct vcpu *vcpu, const struct x86_cpu *state, struct vd_error *err);
    /* Statistics as text lines or one JSON object. */
    void (*vcpu_stats)(struct vcpu *vcpu, FILE *out, int json);
};

extern const struct engine_ops engine_bt;

#endif
