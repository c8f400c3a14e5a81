/* The register, the lines and the memory that test kernels drive. */
#include "board_fixture.h"
#include "devices/test_device.h"

struct rig {
    struct board board;
    struct test_device device;
    uint32_t levels;
};

static void set_line(void *ctx, unsigned pin, bool level)
{
    uint32_t *levels = ctx;
    assert_true(pin < TEST_DEVICE_LINE_COUNT);
    *levels = level ? *levels | 1u << pin : *levels & ~(1u << pin);
}

static int setup(void **state)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    struct vd_error err;
    assert_non_null(rig);
    board_create(&rig->board, 1 << 20);
    struct irq_line lines = {.set = set_line, .ctx = &rig->levels};
    assert_int_equal(test_device_init(&rig->device, rig->board.as, lines, &err), 0);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    board_destroy(&rig->board);
    free(rig);
    return 0;
}

static void register_in_every_size(void **state)
{
    struct board *board = &((struct rig *)*state)->board;
    out32(board, 0xe0, 0x44332211);
    assert_int_equal(in32(board, 0xe0), 0x44332211);
    assert_int_equal(in8(board, 0xe2), 0x33);
    assert_int_equal(in16(board, 0xe2), 0x4433);
    out8(board, 0xe1, 0xaa);
    out16(board, 0xe2, 0x5566);
    assert_int_equal(in32(board, 0xe0), 0x5566aa11);
    assert_int_equal(in32(board, 0xe8), 0x5566aa11);
    out8(board, 0xeb, 0x77);
    assert_int_equal(in8(board, 0xe3), 0x77);
    out32(board, 0xe4, 0x1000); /* a page to flush changes nothing */
    assert_int_equal(in32(board, 0xe0), 0x7766aa11);
}

static void lines_follow_the_ports(void **state)
{
    struct rig *rig = *state;
    for (uint16_t line = 0; line < TEST_DEVICE_LINE_COUNT; line++) {
        out8(&rig->board, 0x2000 + line, 1);
        assert_int_equal(rig->levels, 1u << line);
        out8(&rig->board, 0x2000 + line, 0);
        assert_int_equal(rig->levels, 0);
    }
    out8(&rig->board, 0x2000 + 24, 1); /* nobody's port */
    assert_int_equal(rig->levels, 0);
    out8(&rig->board, 0x200e, 0x80); /* anything but zero */
    assert_int_equal(rig->levels, 1u << 14);
}

static void memory_keeps_bytes(void **state)
{
    struct rig *rig = *state;
    uint8_t in[16], out[16];
    for (unsigned i = 0; i < sizeof(in); i++)
        in[i] = (uint8_t)(3 * i + 1);
    as_write(rig->board.as, 0xff000003, in, sizeof(in));
    as_read(rig->board.as, 0xff000003, out, sizeof(out));
    assert_memory_equal(in, out, sizeof(in));
    mem_write32(&rig->board, 0xff00fffc, 0x12345678);
    assert_int_equal(mem_read32(&rig->board, 0xff00fffc), 0x12345678);
    assert_int_equal(mem_read32(&rig->board, 0xff010000), UINT32_MAX);
}

static void reset_lets_go_of_the_lines(void **state)
{
    struct rig *rig = *state;
    out8(&rig->board, 0x2005, 1);
    out32(&rig->board, 0xe0, 1);
    mem_write32(&rig->board, 0xff000000, 7);
    test_device_reset(&rig->device);
    assert_int_equal(rig->levels, 0);
    assert_int_equal(in32(&rig->board, 0xe0), 0);
    assert_int_equal(mem_read32(&rig->board, 0xff000000), 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(register_in_every_size, setup, teardown),
        cmocka_unit_test_setup_teardown(lines_follow_the_ports, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_keeps_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(reset_lets_go_of_the_lines, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
