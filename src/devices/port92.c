#include "devices/port92.h"

enum {
    FAST_RESET = 1 << 0, /* a rising edge pulses the reset line */
    FAST_A20 = 1 << 1,
};

void port92_init(struct port92 *port, const struct port92_config *config)
{
    port->config = *config;
    port->value = 0;
}

void port92_reset(struct port92 *port)
{
    port->value = 0;
}

static uint64_t port92_read(void *ctx, uint64_t offset, unsigned size)
{
    const struct port92 *port = ctx;
    (void)offset;
    (void)size;
    return port->value;
}

static void port92_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct port92 *port = ctx;
    (void)offset;
    (void)size;
    uint8_t before = port->value;
    port->value = value & (FAST_RESET | FAST_A20);
    if (((port->value ^ before) & FAST_A20) && port->config.set_a20)
        port->config.set_a20(port->config.ctx, port->value & FAST_A20);
    if ((port->value & ~before & FAST_RESET) && port->config.reset_cpu)
        port->config.reset_cpu(port->config.ctx);
}

const struct io_ops port92_ops = {port92_read, port92_write, 1, 1};
