#include "devices/test_device.h"

#include <string.h>

static uint64_t register_read(void *ctx, uint64_t offset, unsigned size)
{
    const struct test_device *device = ctx;
    (void)size;
    return device->value >> (8 * (offset & 3));
}

static void register_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct test_device *device = ctx;
    unsigned shift = 8 * (offset & 3);
    uint32_t mask = (uint32_t)((1ull << (8 * size)) - 1) << shift;
    device->value = (device->value & ~mask) | ((uint32_t)value << shift & mask);
}

static void line_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct test_device *device = ctx;
    (void)size;
    if (device->lines.set)
        device->lines.set(device->lines.ctx, (unsigned)offset, (uint8_t)value != 0);
}

static uint64_t memory_read(void *ctx, uint64_t offset, unsigned size)
{
    const struct test_device *device = ctx;
    uint64_t value = 0;
    memcpy(&value, device->memory + offset, size);
    return value;
}

static void memory_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct test_device *device = ctx;
    memcpy(device->memory + offset, &value, size);
}

static const struct io_ops register_ops = {register_read, register_write, 1, 4};
static const struct io_ops flush_ops = {NULL, NULL, 4, 4};
static const struct io_ops line_ops = {NULL, line_write, 1, 1};
static const struct io_ops memory_ops = {memory_read, memory_write, 1, 8};

int test_device_init(struct test_device *device, struct address_space *as, struct irq_line lines,
                     struct vd_error *err)
{
    enum { FLUSH = TEST_DEVICE_REGISTER + 4, REGISTER_AGAIN = TEST_DEVICE_REGISTER + 8 };
    static const char name[] = "test-device";
    memset(device, 0, sizeof(*device));
    device->lines = lines;
    if (!as_map_pio(as, TEST_DEVICE_REGISTER, 4, &register_ops, device, name, err) ||
        !as_map_pio(as, FLUSH, 4, &flush_ops, device, name, err) ||
        !as_map_pio(as, REGISTER_AGAIN, 4, &register_ops, device, name, err) ||
        !as_map_pio(as, TEST_DEVICE_LINES, TEST_DEVICE_LINE_COUNT, &line_ops, device, name, err) ||
        !as_map_mmio(as, TEST_DEVICE_MEMORY, TEST_DEVICE_MEMORY_SIZE, &memory_ops, device, name,
                     err))
        return -1;
    return 0;
}

void test_device_reset(struct test_device *device)
{
    device->value = 0;
    for (unsigned line = 0; line < TEST_DEVICE_LINE_COUNT; line++)
        line_write(device, line, 0, 1);
}
