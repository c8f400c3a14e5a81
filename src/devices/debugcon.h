/* Debug console: one port that prints what is written and reads as E9h, so that firmware finds it.
 */
#ifndef VD_DEVICES_DEBUGCON_H
#define VD_DEVICES_DEBUGCON_H

#include "hostio/chardev.h"
#include "memory/address_space.h"

struct debugcon {
    struct chardev *chardev; /* NULL: output is dropped */
};

void debugcon_init(struct debugcon *debugcon, struct chardev *chardev);

extern const struct io_ops debugcon_ops; /* ctx: struct debugcon; 1 port */

#endif
