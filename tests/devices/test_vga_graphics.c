/* Graphics modes: planar, CGA, mode 13h, mode X. */
#include "test_vga_rig.h"

#include <time.h>

static void test_planar_16(void **state)
{
    struct rig *rig = *state;
    set_mode(rig, &mode_12);
    /* Plot (x, y) in colour c as a BIOS does: bit mask, set/reset, latched write. */
    static const struct {
        unsigned x, y;
        uint8_t colour;
    } dots[] = {{0, 0, 15}, {1, 0, 9}, {7, 0, 4}, {639, 0, 2}, {8, 479, 13}, {639, 479, 1}};
    out_index(rig, 0x3ce, 1, 0x0f);
    for (size_t i = 0; i < 6; i++) {
        out_index(rig, 0x3ce, 0, dots[i].colour);
        out_index(rig, 0x3ce, 8, (uint8_t)(0x80 >> dots[i].x % 8));
        uint32_t at = 0xa0000 + dots[i].y * 80 + dots[i].x / 8;
        peek(rig, at);
        poke(rig, at, 0xff);
    }
    draw(rig, 640, 480);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(pixel(rig, dots[i].x, dots[i].y), dac_rgb(mode_12.attr[dots[i].colour]));
    assert_int_equal(pixel(rig, 2, 0), dac_rgb(0));
    out_attr(rig, 0x13, 0x07); /* pan by 7 pixels */
    draw(rig, 640, 480);
    assert_int_equal(pixel(rig, 0, 0), dac_rgb(4));
    assert_int_equal(pixel(rig, 1, 479), dac_rgb(0x3d));
    out_attr(rig, 0x13, 0);
    out_attr(rig, 0x12, 0x01); /* plane enable: colour 15 shows as 1, 4 as 0 */
    draw(rig, 640, 480);
    assert_int_equal(pixel(rig, 0, 0), dac_rgb(1));
    assert_int_equal(pixel(rig, 7, 0), dac_rgb(0));
}

static void test_cga_4_colours(void **state)
{
    struct rig *rig = *state;
    set_mode(rig, &mode_4);
    poke(rig, 0xb8000, 0x1b);             /* line 0: colours 0 1 2 3 */
    poke(rig, 0xb8001, 0xe4);             /* 3 2 1 0 */
    poke(rig, 0xba000, 0xff);             /* line 1 is 8 KiB further */
    poke(rig, 0xb8050, 0x55);             /* line 2 */
    poke(rig, 0xb8000 + 99 * 80 + 79, 3); /* line 198, last pixel */
    poke(rig, 0xba000 + 99 * 80 + 79, 2); /* line 199 */
    draw(rig, 640, 400);
    static const uint8_t colours[4] = {0, 0x13, 0x15, 0x17}, line[8] = {0, 1, 2, 3, 3, 2, 1, 0};
    for (unsigned i = 0; i < 8; i++)
        for (unsigned dx = 0; dx < 2; dx++)
            for (unsigned dy = 0; dy < 2; dy++)
                assert_int_equal(pixel(rig, i * 2 + dx, dy), dac_rgb(colours[line[i]]));
    assert_int_equal(pixel(rig, 0, 2), dac_rgb(0x17));
    assert_int_equal(pixel(rig, 8, 2), dac_rgb(0));
    assert_int_equal(pixel(rig, 0, 4), dac_rgb(0x13));
    assert_int_equal(pixel(rig, 639, 397), dac_rgb(0x17));
    assert_int_equal(pixel(rig, 638, 398), dac_rgb(0x15));
}

static void test_cga_2_colours(void **state)
{
    struct rig *rig = *state;
    set_mode(rig, &mode_6);
    poke(rig, 0xb8000, 0x81);
    poke(rig, 0xb804f, 0x01);
    poke(rig, 0xba001, 0x80);
    draw(rig, 640, 400);
    assert_int_equal(pixel(rig, 0, 0), dac_rgb(0x17));
    assert_int_equal(pixel(rig, 1, 0), dac_rgb(0));
    assert_int_equal(pixel(rig, 7, 1), dac_rgb(0x17));
    assert_int_equal(pixel(rig, 639, 0), dac_rgb(0x17));
    assert_int_equal(pixel(rig, 8, 2), dac_rgb(0x17));
    assert_int_equal(pixel(rig, 8, 0), dac_rgb(0));
}

static void test_mode_13(void **state)
{
    struct rig *rig = *state;
    set_mode(rig, &mode_13);
    for (unsigned i = 0; i < 256; i++)
        poke(rig, 0xa0000 + 320 * 10 + i, (uint8_t)i);
    poke(rig, 0xa0000 + 320 * 199 + 319, 0xc5);
    draw(rig, 640, 400);
    for (unsigned i = 0; i < 256; i++)
        for (unsigned k = 0; k < 4; k++)
            assert_int_equal(pixel(rig, i * 2 + k % 2, 20 + k / 2), dac_rgb(i));
    assert_int_equal(pixel(rig, 639, 399), dac_rgb(0xc5));
    assert_int_equal(pixel(rig, 637, 399), dac_rgb(0));
    out(rig, 0x3c6, 0xf0); /* PEL mask */
    draw(rig, 640, 400);
    assert_int_equal(pixel(rig, 2 * 0x5a, 20), dac_rgb(0x50));
    out(rig, 0x3c6, 0xff);
    set_dac(rig, 0x5a, 63, 0, 1); /* palette animation */
    draw(rig, 640, 400);
    assert_int_equal(pixel(rig, 2 * 0x5a, 20), 0xff0004);
    out_index(rig, 0x3d4, 0x0d, 10 * 80 & 0xff); /* start address counts four pixels */
    out_index(rig, 0x3d4, 0x0c, 10 * 80 >> 8);
    draw(rig, 640, 400);
    assert_int_equal(pixel(rig, 2 * 0x77, 0), dac_rgb(0x77));
    out_attr(rig, 0x13, 4); /* two pixels */
    draw(rig, 640, 400);
    assert_int_equal(pixel(rig, 2 * 0x75, 0), dac_rgb(0x77));
}

/* Mode X, 320 x 240: unchained, byte mode, 480 lines. */
static void test_mode_x(void **state)
{
    struct rig *rig = *state;
    set_mode(rig, &mode_13);
    out_index(rig, 0x3c4, 4, 0x06);
    out(rig, 0x3c2, 0xe3);
    static const uint8_t crtc[][2] = {{0x11, 0x2c}, {0x06, 0x0d}, {0x07, 0x3e}, {0x09, 0x41},
                                      {0x10, 0xea}, {0x11, 0xac}, {0x12, 0xdf}, {0x14, 0x00},
                                      {0x15, 0xe7}, {0x16, 0x06}, {0x17, 0xe3}};
    for (size_t i = 0; i < sizeof(crtc) / sizeof(crtc[0]); i++)
        out_index(rig, 0x3d4, crtc[i][0], crtc[i][1]);
    static const struct {
        unsigned x, y;
        uint8_t colour;
    } dots[] = {{0, 0, 1}, {1, 0, 2},        {2, 0, 3},  {3, 0, 4},
                {4, 0, 5}, {319, 239, 0xaa}, {5, 120, 9}};
    for (size_t page = 0; page < 2; page++)
        for (size_t i = 0; i < 7; i++) {
            out_index(rig, 0x3c4, 2, (uint8_t)(1 << (dots[i].x & 3)));
            poke(rig, 0xa0000 + page * 0x4b00 + dots[i].y * 80 + dots[i].x / 4,
                 (uint8_t)(dots[i].colour + page));
        }
    draw(rig, 640, 480);
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(pixel(rig, dots[i].x * 2 + 1, dots[i].y * 2 + 1), dac_rgb(dots[i].colour));
    out_index(rig, 0x3d4, 0x0c, 0x4b); /* page flip */
    draw(rig, 640, 480);
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(pixel(rig, dots[i].x * 2, dots[i].y * 2), dac_rgb(dots[i].colour + 1u));
}

/* Whatever is in the registers, drawing stays inside its arrays. */
static void test_random_registers(void **state)
{
    struct rig *rig = *state;
    uint32_t seed = (uint32_t)time(NULL);
    print_message("seed %u\n", seed);
    static struct text_screen text;
    set_mode(rig, &mode_3);
    for (unsigned round = 0; round < 150; round++) {
        for (unsigned i = 0; i < 40; i++) {
            static const uint16_t ports[] = {0x3c0, 0x3c1, 0x3c2, 0x3c4, 0x3c5, 0x3c6,
                                             0x3c7, 0x3c8, 0x3c9, 0x3ce, 0x3cf, 0x3d4,
                                             0x3d5, 0x3da, 0x3b4, 0x3b5};
            seed = seed * 1664525 + 1013904223;
            out(rig, ports[seed >> 28], (uint8_t)(seed >> 16));
            poke(rig, 0xa0000 + (seed >> 15), (uint8_t)seed);
            peek(rig, 0xa0000 + (seed >> 15));
        }
        out(rig, 0x3c2, 0x67); /* keep the picture on */
        out_index(rig, 0x3c4, 0, 3);
        out_index(rig, 0x3c4, 1, (uint8_t)(seed >> 8 & 0x0d));
        out_index(rig, 0x3d4, 0x17, (uint8_t)(seed >> 16 | 0x80));
        out_attr(rig, 0x10, (uint8_t)(seed >> 20));
        vga_refresh(rig->vga, &rig->surface, &text);
        assert_true(text.rows <= TEXT_MAX_ROWS && text.columns <= TEXT_MAX_COLUMNS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        rig_test(test_planar_16), rig_test(test_cga_4_colours), rig_test(test_cga_2_colours),
        rig_test(test_mode_13),   rig_test(test_mode_x),        rig_test(test_random_registers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
