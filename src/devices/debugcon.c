#include "devices/debugcon.h"

enum { SIGNATURE = 0xe9 };

void debugcon_init(struct debugcon *debugcon, struct chardev *chardev)
{
    debugcon->chardev = chardev;
}

static uint64_t debugcon_read(void *ctx, uint64_t offset, unsigned size)
{
    (void)ctx;
    (void)offset;
    (void)size;
    return SIGNATURE;
}

static void debugcon_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct debugcon *debugcon = ctx;
    uint8_t byte = (uint8_t)value;
    (void)offset;
    (void)size;
    if (debugcon->chardev)
        chardev_write(debugcon->chardev, &byte, 1);
}

const struct io_ops debugcon_ops = {debugcon_read, debugcon_write, 1, 1};
