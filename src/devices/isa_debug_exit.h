/* A port through which a guest ends the machine with an exit code: test kernels use it. */
#ifndef VD_DEVICES_ISA_DEBUG_EXIT_H
#define VD_DEVICES_ISA_DEBUG_EXIT_H

#include <stdint.h>

#include "memory/address_space.h"

struct isa_debug_exit {
    /* Writing v asks for exit code (v << 1) | 1. May be NULL. Called with the machine lock held. */
    void (*request_exit)(void *ctx, uint32_t code);
    void *ctx;
};

void isa_debug_exit_init(struct isa_debug_exit *device,
                         void (*request_exit)(void *ctx, uint32_t code), void *ctx);

extern const struct io_ops isa_debug_exit_ops; /* ctx: struct isa_debug_exit; up to 4 ports */

#endif
