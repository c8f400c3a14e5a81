/* Against the Intel 8237A data sheet and the page registers of the PC/AT. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "devices/i8237.h"

static struct address_space *as;
static struct i8237 dma;

static void out(unsigned port, uint8_t value)
{
    if (port < 0x10)
        i8237_low_ops.write(&dma, port, value, 1);
    else if (port >= 0xc0)
        i8237_high_ops.write(&dma, port - 0xc0, value, 1);
    else
        i8237_page_ops.write(&dma, port - 0x80, value, 1);
}

static uint8_t in(unsigned port)
{
    if (port < 0x10)
        return (uint8_t)i8237_low_ops.read(&dma, port, 1);
    if (port >= 0xc0)
        return (uint8_t)i8237_high_ops.read(&dma, port - 0xc0, 1);
    return (uint8_t)i8237_page_ops.read(&dma, port - 0x80, 1);
}

static unsigned in16(unsigned port)
{
    unsigned low = in(port);
    return low | (unsigned)in(port) << 8;
}

static void program(unsigned channel, uint8_t mode, uint8_t page, unsigned address, unsigned count)
{
    static const uint8_t pages[] = {0x87, 0x83, 0x81, 0x82, 0x8f, 0x8b, 0x89, 0x8a};
    unsigned base = channel < 4 ? 0 : 0xc0, step = channel < 4 ? 1 : 2, n = channel & 3;
    out(base + 12 * step, 0);
    out(base + 11 * step, (uint8_t)(mode | n));
    out(base + 2 * n * step, (uint8_t)address);
    out(base + 2 * n * step, (uint8_t)(address >> 8));
    out(base + (2 * n + 1) * step, (uint8_t)count);
    out(base + (2 * n + 1) * step, (uint8_t)(count >> 8));
    out(pages[channel], page);
    out(base + 10 * step, (uint8_t)n); /* unmask */
}

static int setup(void **state)
{
    struct vd_error err;
    (void)state;
    assert_int_equal(as_create(&as, 4 << 20, 0xc0000000, &err), 0);
    i8237_init(&dma, as);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    as_destroy(as);
    return 0;
}

static void registers(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        out(0x0c, 0);
        out(2 * i, 0x34);
        out(2 * i, (uint8_t)(0x12 + i));
        out(2 * i + 1, 0xcd);
        out(2 * i + 1, (uint8_t)(0xab - i));
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(in16(2 * i), 0x1234 + 256 * i);
        assert_int_equal(in16(2 * i + 1), 0xabcd - 256 * i);
    }
    in(0); /* one byte: the flip-flop is set */
    out(0x0c, 0);
    assert_int_equal(in(0), 0x34);
    out(0x0c, 0);
    assert_int_equal(in(0x0f), 0x0f);
    out(0x0f, 0x05);
    assert_int_equal(in(0x0f), 0x05);
    out(0x0a, 0x06); /* mask channel 2 again */
    out(0x0a, 0x01); /* unmask 1 */
    out(0x0a, 0x05);
    assert_int_equal(in(0x0f), 0x07);
    out(0x0e, 0);
    assert_int_equal(in(0x0f), 0x00);
    out(0x09, 0x06);
    i8237_set_dreq(&dma, 0, true);
    assert_int_equal(in(0x08), 0x50);
    i8237_set_dreq(&dma, 0, false);
    out(0x0d, 0); /* master clear */
    assert_int_equal(in(0x0f), 0x0f);
    assert_int_equal(in(0x08), 0x00);
    assert_int_equal(in(0x0d), 0x00);
    assert_int_equal(in16(0), 0x1234); /* addresses stay */
    out(0xd4, 0x02);
    assert_int_equal(in(0xde), 0x0b); /* the second controller at even ports */
    assert_int_equal(in(0x0f), 0x0f);
    for (unsigned i = 0x80; i < 0x90; i++)
        out(i, (uint8_t)(i * 3));
    for (unsigned i = 0x80; i < 0x90; i++)
        assert_int_equal(in(i), (uint8_t)(i * 3));
}

static void device_to_memory(void **state)
{
    (void)state;
    uint8_t data[600], back[600];
    bool tc;
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 + 1);
    program(2, 0x44, 0x05, 0x1000, 511);
    assert_int_equal(i8237_transfer(&dma, 2, data, 100, &tc), 100);
    assert_false(tc);
    assert_int_equal(in16(4), 0x1064);
    assert_int_equal(in16(5), 411);
    assert_int_equal(i8237_transfer(&dma, 2, data + 100, 500, &tc), 412);
    assert_true(tc);
    as_read(as, 0x51000, back, 512);
    assert_memory_equal(back, data, 512);
    as_read(as, 0x51200, back, 1);
    assert_int_equal(back[0], 0);
    assert_int_equal(in16(5), 0xffff);
    assert_int_equal(in(0x08) & 0x0f, 0x04);
    assert_int_equal(in(0x08) & 0x0f, 0x00); /* cleared by reading */
    assert_int_equal(in(0x0f) & 0x04, 0x04); /* masked by the terminal count */
    assert_int_equal(i8237_transfer(&dma, 2, data, 10, &tc), 0);
}

static void memory_to_device(void **state)
{
    (void)state;
    const char text[] = "the quick brown fox";
    char buffer[sizeof(text)] = {0};
    bool tc;
    as_write(as, 0x20010, text, sizeof(text));
    program(1, 0x48, 0x02, 0x0010, sizeof(text) - 1);
    assert_int_equal(i8237_transfer(&dma, 1, buffer, sizeof(text), &tc), sizeof(text));
    assert_true(tc);
    assert_string_equal(buffer, text);
    program(1, 0x40, 0x02, 0x0010, sizeof(text) - 1); /* verify: memory is not touched */
    memset(buffer, 'x', sizeof(buffer));
    assert_int_equal(i8237_transfer(&dma, 1, buffer, sizeof(text), &tc), sizeof(text));
    assert_true(tc);
    assert_int_equal(buffer[0], 'x');
    as_read(as, 0x20010, buffer, sizeof(text));
    assert_string_equal(buffer, text);
}

static void wraps_inside_the_page(void **state)
{
    (void)state;
    uint8_t data[4] = {1, 2, 3, 4}, back[2];
    bool tc;
    program(3, 0x44, 0x03, 0xfffe, 9);
    assert_int_equal(i8237_transfer(&dma, 3, data, 4, &tc), 4);
    as_read(as, 0x3fffe, back, 2);
    assert_memory_equal(back, data, 2);
    as_read(as, 0x30000, back, 2);
    assert_memory_equal(back, data + 2, 2);
    as_read(as, 0x40000, back, 2);
    assert_int_equal(back[0], 0);
}

static void word_channels(void **state)
{
    (void)state;
    uint8_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8}, back[8];
    bool tc;
    program(5, 0x44, 0x13, 0x8000, 2); /* page bit 0 is not used */
    assert_int_equal(i8237_transfer(&dma, 5, data, 3, &tc), 2);
    assert_int_equal(i8237_transfer(&dma, 5, data + 2, 6, &tc), 4);
    assert_true(tc);
    as_read(as, 0x130000, back, 6);
    assert_memory_equal(back, data, 6);
    assert_int_equal(in(0xd0) & 0x0f, 0x02);
    program(7, 0x44, 0x13, 0x0000, 2);
    assert_int_equal(i8237_transfer(&dma, 7, data + 4, 4, &tc), 4);
    as_read(as, 0x120000, back, 4);
    assert_memory_equal(back, data + 4, 4);
    program(6, 0x44, 0x12, 0xffff, 7);
    assert_int_equal(i8237_transfer(&dma, 6, data, 4, &tc), 4);
    as_read(as, 0x13fffe, back, 2);
    assert_memory_equal(back, data, 2);
    as_read(as, 0x120000, back, 2);
    assert_memory_equal(back, data + 2, 2);
}

static void decrements(void **state)
{
    (void)state;
    uint8_t data[3] = {1, 2, 3}, back[3];
    bool tc;
    program(1, 0x64, 0x04, 0x0002, 2);
    assert_int_equal(i8237_transfer(&dma, 1, data, 3, &tc), 3);
    assert_true(tc);
    as_read(as, 0x40000, back, 3);
    assert_int_equal(back[0], 3);
    assert_int_equal(back[2], 1);
    assert_int_equal(in16(2), 0xffff);
}

static void initialises_itself_again(void **state)
{
    (void)state;
    uint8_t data[16] = {0};
    bool tc;
    program(1, 0x54, 0x04, 0x0100, 7);
    assert_int_equal(i8237_transfer(&dma, 1, data, 16, &tc), 8);
    assert_true(tc);
    assert_int_equal(in16(2), 0x0100);
    assert_int_equal(in16(3), 7);
    assert_int_equal(in(0x0f) & 2, 0);
    assert_int_equal(i8237_transfer(&dma, 1, data, 4, &tc), 4);
    assert_false(tc);
}

static void refuses_when_not_ready(void **state)
{
    (void)state;
    uint8_t data[16] = {0};
    bool tc;
    assert_int_equal(i8237_transfer(&dma, 1, data, 4, &tc), 0); /* masked after reset */
    program(1, 0x44, 0x04, 0, 100);
    out(0x08, 0x04); /* controller disabled */
    assert_int_equal(i8237_transfer(&dma, 1, data, 4, &tc), 0);
    out(0x08, 0x00);
    assert_int_equal(i8237_transfer(&dma, 1, data, 4, &tc), 4);
    program(1, 0xc4, 0x04, 0, 100); /* cascade */
    assert_int_equal(i8237_transfer(&dma, 1, data, 4, &tc), 0);
    assert_int_equal(i8237_transfer(&dma, 4, data, 4, &tc), 0);
    assert_int_equal(i8237_transfer(&dma, 99, data, 4, &tc), 0);
}

static void largest_transfer(void **state)
{
    (void)state;
    static uint8_t data[70000];
    bool tc;
    program(2, 0x44, 0x05, 0x0000, 0xffff);
    assert_int_equal(i8237_transfer(&dma, 2, data, sizeof(data), &tc), 65536);
    assert_true(tc);
    program(5, 0x48, 0x06, 0x1234, 0xffff);
    assert_int_equal(i8237_transfer(&dma, 5, data, sizeof(data), &tc), sizeof(data));
    assert_false(tc);
}

static void survives_garbage(void **state)
{
    (void)state;
    uint8_t data[64];
    unsigned seed = (unsigned)time(NULL);
    printf("seed %u\n", seed);
    srand(seed);
    memset(data, 0x5a, sizeof(data));
    for (int i = 0; i < 300000; i++) {
        unsigned port = (unsigned)rand() % 64;
        port = port < 16 ? port : port < 32 ? 0x70 + port : 0xa0 + port;
        if (rand() % 4)
            out(port, (uint8_t)rand());
        else
            in(port);
        if (rand() % 4 == 0) {
            bool tc;
            size_t size = (size_t)rand() % sizeof(data);
            assert_true(i8237_transfer(&dma, (unsigned)rand() % 9, data, size, &tc) <= size);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(registers, setup, teardown),
        cmocka_unit_test_setup_teardown(device_to_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_to_device, setup, teardown),
        cmocka_unit_test_setup_teardown(wraps_inside_the_page, setup, teardown),
        cmocka_unit_test_setup_teardown(word_channels, setup, teardown),
        cmocka_unit_test_setup_teardown(decrements, setup, teardown),
        cmocka_unit_test_setup_teardown(initialises_itself_again, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_when_not_ready, setup, teardown),
        cmocka_unit_test_setup_teardown(largest_transfer, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_garbage, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
