/*
 * What a test kernel drives to see its own interrupts and device accesses, with the layout of
 * QEMU's pc-testdev:
 *
 *   E0h..E3h, E8h..EBh   one 32-bit register, in any size and at any byte of it
 *   E4h..E7h             takes the physical address of a page to drop from caches: nothing to do
 *   2000h + n            level of interrupt line n, 0 to 23
 *   FF000000h, 64 KiB    memory that is reached as device registers are
 */
#ifndef VD_DEVICES_TEST_DEVICE_H
#define VD_DEVICES_TEST_DEVICE_H

#include "base/error.h"
#include "base/irq_line.h"
#include "memory/address_space.h"

enum {
    TEST_DEVICE_REGISTER = 0xe0,
    TEST_DEVICE_LINES = 0x2000,
    TEST_DEVICE_LINE_COUNT = 24,
    TEST_DEVICE_MEMORY_SIZE = 0x10000,
};
#define TEST_DEVICE_MEMORY 0xff000000u

struct test_device {
    struct irq_line lines; /* pin is ignored: set is called with the number of the line */
    uint32_t value;
    uint8_t memory[TEST_DEVICE_MEMORY_SIZE];
};

/* Claims its ports and memory. -1: one of them is taken. */
int test_device_init(struct test_device *device, struct address_space *as, struct irq_line lines,
                     struct vd_error *err);
/* Lets go of all lines and clears the register; the memory keeps its contents. */
void test_device_reset(struct test_device *device);

#endif
