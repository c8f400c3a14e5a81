/* Registers of the IBM VGA, and the retrace timing that programs wait for. */
#include "test_vga_rig.h"

static void test_color_and_mono_addresses(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(in(rig, 0x3cc), 0); /* after reset: monochrome addresses */
    out_index(rig, 0x3b4, 0x0e, 0x12);
    assert_int_equal(in_index(rig, 0x3b4, 0x0e), 0x12);
    assert_int_equal(in(rig, 0x3d4), 0xff);
    assert_int_equal(in(rig, 0x3da), 0xff);
    assert_int_not_equal(in(rig, 0x3ba), 0xff);
    out(rig, 0x3c2, 0x67);
    assert_int_equal(in(rig, 0x3cc), 0x67);
    assert_int_equal(in_index(rig, 0x3d4, 0x0e), 0x12);
    assert_int_equal(in(rig, 0x3b5), 0xff);
    assert_int_equal(in(rig, 0x3ba), 0xff);
    out(rig, 0x3da, 0x03);
    assert_int_equal(in(rig, 0x3ca), 0x03);
}

static void test_register_masks(void **state)
{
    struct rig *rig = *state;
    static const uint8_t seq[5] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
    static const uint8_t gc[9] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};
    for (uint8_t i = 0; i < 5; i++) {
        out_index(rig, 0x3c4, i, 0xff);
        assert_int_equal(in_index(rig, 0x3c4, i), seq[i]);
    }
    for (uint8_t i = 0; i < 9; i++) {
        out_index(rig, 0x3ce, i, 0xff);
        assert_int_equal(in_index(rig, 0x3ce, i), gc[i]);
    }
    out(rig, 0x3ce, 0x0f); /* beyond the last register: nothing happens */
    out(rig, 0x3cf, 0xaa);
    assert_int_equal(in(rig, 0x3cf), 0);
}

static void test_crtc_write_protect(void **state)
{
    struct rig *rig = *state;
    set_mode(rig, &mode_3); /* register 11h = 8Eh: protected */
    out_index(rig, 0x3d4, 0x00, 0x11);
    assert_int_equal(in_index(rig, 0x3d4, 0x00), 0x5f);
    out_index(rig, 0x3d4, 0x07, 0x00); /* only line compare bit 8 gets through */
    assert_int_equal(in_index(rig, 0x3d4, 0x07), 0x0f);
    out_index(rig, 0x3d4, 0x07, 0xff);
    assert_int_equal(in_index(rig, 0x3d4, 0x07), 0x1f);
    out_index(rig, 0x3d4, 0x0c, 0x33);
    assert_int_equal(in_index(rig, 0x3d4, 0x0c), 0x33);
    out_index(rig, 0x3d4, 0x11, 0x0e);
    out_index(rig, 0x3d4, 0x00, 0x11);
    assert_int_equal(in_index(rig, 0x3d4, 0x00), 0x11);
}

static void test_attribute_flip_flop(void **state)
{
    struct rig *rig = *state;
    out(rig, 0x3c2, 0x67);
    in(rig, 0x3da); /* index state */
    out(rig, 0x3c0, 0x05);
    assert_int_equal(in_index(rig, 0x3d4, 0x24) & 0x80, 0x80);
    out(rig, 0x3c0, 0x3a);
    assert_int_equal(in_index(rig, 0x3d4, 0x24) & 0x80, 0);
    assert_int_equal(in(rig, 0x3c0), 0x05);
    assert_int_equal(in(rig, 0x3c1), 0x3a);
    out(rig, 0x3c0, 0x06); /* index again; reading 3C0/3C1 does not disturb the flip-flop */
    in(rig, 0x3c1);
    in(rig, 0x3da); /* but this does: what follows is an index */
    out(rig, 0x3c0, 0x31);
    assert_int_equal(in(rig, 0x3c0), 0x31);
    out(rig, 0x3c0, 0xff);
    assert_int_equal(in(rig, 0x3c1), 0xff); /* 11h overscan */
    out(rig, 0x3c0, 0x12);
    out(rig, 0x3c0, 0xff);
    assert_int_equal(in(rig, 0x3c1), 0x3f);
    out(rig, 0x3c0, 0x1f);
    out(rig, 0x3c0, 0xff);
    assert_int_equal(in(rig, 0x3c1), 0);
}

static void test_dac(void **state)
{
    struct rig *rig = *state;
    out(rig, 0x3c8, 10);
    assert_int_equal(in(rig, 0x3c7) & 3, 0); /* write mode */
    static const uint8_t bytes[6] = {1, 2, 3, 0xff, 5, 6};
    for (unsigned i = 0; i < 6; i++)
        out(rig, 0x3c9, bytes[i]);
    assert_int_equal(in(rig, 0x3c8), 12); /* incremented after each third byte */
    out(rig, 0x3c9, 0x3f);                /* an unfinished entry does not count */
    out(rig, 0x3c7, 10);
    assert_int_equal(in(rig, 0x3c7) & 3, 3); /* read mode */
    static const uint8_t expected[9] = {1, 2, 3, 0x3f, 5, 6, 0, 0, 0};
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(in(rig, 0x3c9), expected[i]);
    out(rig, 0x3c8, 255);
    for (unsigned i = 0; i < 6; i++)
        out(rig, 0x3c9, (uint8_t)(i + 20));
    out(rig, 0x3c7, 255); /* wraps to entry 0 */
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(in(rig, 0x3c9), i + 20);
    assert_int_equal(in(rig, 0x3c6), 0xff);
    out(rig, 0x3c6, 0x0f);
    assert_int_equal(in(rig, 0x3c6), 0x0f);
}

/* Mode 3: 900 dots by 449 lines at 28.322 MHz, 70.09 frames a second. */
static void test_retrace_timing(void **state)
{
    struct rig *rig = *state;
    const double dot_ns = 1e9 / 28322000.0, line_ns = 900 * dot_ns, frame_ns = 449 * line_ns;
    set_mode(rig, &mode_3);
    const struct {
        double lines, dots;
        uint8_t status;
    } points[] = {
        {0, 10, 0x00},    {0, 715, 0x00},   {0, 730, 0x01},   {200, 100, 0x00},
        {399, 100, 0x00}, {400, 100, 0x01}, {411, 890, 0x01}, {412, 10, 0x09},
        {413, 890, 0x09}, {414, 10, 0x01},  {448, 10, 0x01},
    };
    for (unsigned frame = 0; frame < 3; frame++) {
        for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
            rig->clock.paused_ns = (uint64_t)(frame * 1000 * frame_ns + points[i].lines * line_ns +
                                              points[i].dots * dot_ns);
            if ((in(rig, 0x3da) & 0x09) != points[i].status)
                fail_msg("line %g dot %g", points[i].lines, points[i].dots);
        }
    }
}

static void test_unprogrammed_crtc_still_retraces(void **state)
{
    struct rig *rig = *state;
    unsigned seen = 0;
    out(rig, 0x3c2, 0x67);
    for (unsigned i = 0; i < 2000; i++) {
        rig->clock.paused_ns += 10000;
        seen |= in(rig, 0x3da) & 8 ? 1 : 2;
    }
    assert_int_equal(seen, 3);
}

static void test_vertical_interrupt_flag(void **state)
{
    struct rig *rig = *state;
    set_mode(rig, &mode_3);
    out_index(rig, 0x3d4, 0x11, 0x0e); /* bit 4 = 0: clear */
    out_index(rig, 0x3d4, 0x11, 0x1e);
    assert_int_equal(in(rig, 0x3c2) & 0x80, 0);
    rig->clock.paused_ns = 13000000; /* before line 412 of the first frame: 13.09 ms */
    assert_int_equal(in(rig, 0x3c2) & 0x80, 0);
    rig->clock.paused_ns = 13200000;
    assert_int_equal(in(rig, 0x3c2) & 0x80, 0x80);
    out_index(rig, 0x3d4, 0x11, 0x0e);
    assert_int_equal(in(rig, 0x3c2) & 0x80, 0);
}

static void test_reset(void **state)
{
    struct rig *rig = *state;
    set_mode(rig, &mode_3);
    poke(rig, 0xb8000, 'x');
    vga_reset(rig->vga);
    assert_int_equal(in(rig, 0x3cc), 0);
    assert_int_equal(in_index(rig, 0x3b4, 0x13), 0);
    assert_int_equal(peek(rig, 0xb8000), 0xff); /* memory is not enabled */
    set_mode(rig, &mode_3);
    assert_int_equal(peek(rig, 0xb8000), 'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        rig_test(test_color_and_mono_addresses),
        rig_test(test_register_masks),
        rig_test(test_crtc_write_protect),
        rig_test(test_attribute_flip_flop),
        rig_test(test_dac),
        rig_test(test_retrace_timing),
        rig_test(test_unprogrammed_crtc_still_retraces),
        rig_test(test_vertical_interrupt_flag),
        rig_test(test_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
