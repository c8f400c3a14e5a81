#include "devices/isa_debug_exit.h"

void isa_debug_exit_init(struct isa_debug_exit *device,
                         void (*request_exit)(void *ctx, uint32_t code), void *ctx)
{
    device->request_exit = request_exit;
    device->ctx = ctx;
}

static uint64_t debug_exit_read(void *ctx, uint64_t offset, unsigned size)
{
    (void)ctx;
    (void)offset;
    (void)size;
    return 0;
}

static void debug_exit_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    const struct isa_debug_exit *device = ctx;
    (void)offset;
    (void)size;
    if (device->request_exit)
        device->request_exit(device->ctx, (uint32_t)value << 1 | 1);
}

const struct io_ops isa_debug_exit_ops = {debug_exit_read, debug_exit_write, 1, 4};
