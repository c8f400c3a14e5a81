/* System control port A (IBM PS/2 technical reference, port 92h): fast A20 gate and reset. */
#ifndef VD_DEVICES_PORT92_H
#define VD_DEVICES_PORT92_H

#include <stdbool.h>
#include <stdint.h>

#include "memory/address_space.h"

struct port92_config {
    void *ctx;
    void (*set_a20)(void *ctx, bool enabled); /* may be NULL, as may the other */
    void (*reset_cpu)(void *ctx);
};

struct port92 {
    struct port92_config config;
    uint8_t value;
};

void port92_init(struct port92 *port, const struct port92_config *config);
void port92_reset(struct port92 *port);
/* Bit 1 reads back what was written here, as in PIIX chip sets: other A20 gates do not show. */

extern const struct io_ops port92_ops; /* ctx: struct port92; 1 port */

#endif
