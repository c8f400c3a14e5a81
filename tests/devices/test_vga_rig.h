/* A VGA on a bare bus, driven through ports and memory as a guest does. */
#ifndef VD_TESTS_DEVICES_TEST_VGA_RIG_H
#define VD_TESTS_DEVICES_TEST_VGA_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "devices/vga.h"

struct rig {
    struct address_space *as;
    struct vclock clock; /* paused: tests move paused_ns */
    struct vga *vga;
    struct surface surface;
};

/* Mode tables as the IBM VGA BIOS has them: misc, sequencer 1-4, CRTC, attributes, graphics. */
struct mode {
    uint8_t misc, seq[4], crtc[25], attr[20], gc[9];
};

static const struct mode mode_3 = {/* 80 x 25 text, 720 x 400 */
                                   0x67,
                                   {0x00, 0x03, 0x00, 0x02},
                                   {0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00,
                                    0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e,
                                    0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff},
                                   {0,    1,    2,    3,    4,    5,    0x14, 7,    0x38, 0x39,
                                    0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0x00, 0x0f, 0x08},
                                   {0, 0, 0, 0, 0, 0x10, 0x0e, 0, 0xff}};
static const struct mode mode_4 = {/* 320 x 200, 4 colours */
                                   0x63,
                                   {0x09, 0x03, 0x00, 0x02},
                                   {0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0x00,
                                    0xc1, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e,
                                    0x8f, 0x14, 0x00, 0x96, 0xb9, 0xa2, 0xff},
                                   {0,    0x13, 0x15, 0x17, 2,    4,    6,    7,    0x10, 0x11,
                                    0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x01, 0x00, 0x03, 0x00},
                                   {0, 0, 0, 0, 0, 0x30, 0x0f, 0, 0xff}};
static const struct mode mode_6 = {/* 640 x 200, 2 colours */
                                   0x63,
                                   {0x01, 0x01, 0x00, 0x06},
                                   {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00,
                                    0xc1, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e,
                                    0x8f, 0x28, 0x00, 0x96, 0xb9, 0xc2, 0xff},
                                   {0,    0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17,
                                    0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x01, 0x00, 0x01, 0x00},
                                   {0, 0, 0, 0, 0, 0x00, 0x0d, 0, 0xff}};
static const struct mode mode_12 = {/* 640 x 480, 16 colours */
                                    0xe3,
                                    {0x01, 0x0f, 0x00, 0x06},
                                    {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00,
                                     0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xea, 0x8c,
                                     0xdf, 0x28, 0x00, 0xe7, 0x04, 0xe3, 0xff},
                                    {0,    1,    2,    3,    4,    5,    0x14, 7,    0x38, 0x39,
                                     0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x01, 0x00, 0x0f, 0x00},
                                    {0, 0, 0, 0, 0, 0x00, 0x05, 0x0f, 0xff}};
static const struct mode mode_13 = {/* 320 x 200, 256 colours */
                                    0x63,
                                    {0x01, 0x0f, 0x00, 0x0e},
                                    {0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00,
                                     0x41, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e,
                                     0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff},
                                    {0,  1,  2,  3,  4,  5,  6,    7,    8,    9,
                                     10, 11, 12, 13, 14, 15, 0x41, 0x00, 0x0f, 0x00},
                                    {0, 0, 0, 0, 0, 0x40, 0x05, 0x0f, 0xff}};

static inline uint8_t in(struct rig *rig, uint16_t port)
{
    return (uint8_t)as_pio_read(rig->as, port, 1);
}

static inline void out(struct rig *rig, uint16_t port, uint8_t value)
{
    as_pio_write(rig->as, port, value, 1);
}

/* Index and data in one word write, as programs do. */
static inline void out_index(struct rig *rig, uint16_t port, uint8_t index, uint8_t value)
{
    as_pio_write(rig->as, port, (uint64_t)(index | value << 8), 2);
}

static inline uint8_t in_index(struct rig *rig, uint16_t port, uint8_t index)
{
    out(rig, port, index);
    return in(rig, (uint16_t)(port + 1));
}

static inline void out_attr(struct rig *rig, uint8_t index, uint8_t value)
{
    in(rig, 0x3da);
    out(rig, 0x3c0, index);
    out(rig, 0x3c0, value);
    out(rig, 0x3c0, 0x20); /* picture on; leaves the flip-flop at data */
    in(rig, 0x3da);
}

static inline uint8_t peek(struct rig *rig, uint64_t address)
{
    uint8_t value;
    as_read(rig->as, address, &value, 1);
    return value;
}

static inline void poke(struct rig *rig, uint64_t address, uint8_t value)
{
    as_write(rig->as, address, &value, 1);
}

static inline void set_dac(struct rig *rig, uint8_t index, uint8_t r, uint8_t g, uint8_t b)
{
    out(rig, 0x3c8, index);
    out(rig, 0x3c9, r);
    out(rig, 0x3c9, g);
    out(rig, 0x3c9, b);
}

static inline void set_mode(struct rig *rig, const struct mode *mode)
{
    out(rig, 0x3c2, mode->misc);
    out_index(rig, 0x3c4, 0, 1);
    for (uint8_t i = 0; i < 4; i++)
        out_index(rig, 0x3c4, (uint8_t)(i + 1), mode->seq[i]);
    out_index(rig, 0x3c4, 0, 3);
    out_index(rig, 0x3d4, 0x11, 0);
    for (uint8_t i = 0; i < 25; i++)
        out_index(rig, 0x3d4, i, mode->crtc[i]);
    for (uint8_t i = 0; i < 9; i++)
        out_index(rig, 0x3ce, i, mode->gc[i]);
    in(rig, 0x3da);
    for (uint8_t i = 0; i < 20; i++) {
        out(rig, 0x3c0, i);
        out(rig, 0x3c0, mode->attr[i]);
    }
    out(rig, 0x3c0, 0x14);
    out(rig, 0x3c0, 0);
    out(rig, 0x3c0, 0x20);
    out(rig, 0x3c6, 0xff);
    /* A DAC where each index has a colour of its own, that tells the index. */
    for (unsigned i = 0; i < 256; i++)
        set_dac(rig, (uint8_t)i, (uint8_t)(i >> 2), (uint8_t)(i & 63), (uint8_t)((i * 5) & 63));
}

/* The XRGB colour that set_mode's DAC gives an index. */
static inline uint32_t dac_rgb(unsigned i)
{
    unsigned r = i >> 2, g = i & 63, b = (i * 5) & 63;
    return (r << 2 | r >> 4) << 16 | (g << 2 | g >> 4) << 8 | (b << 2 | b >> 4);
}

static inline uint32_t pixel(struct rig *rig, unsigned x, unsigned y)
{
    assert_true(x < rig->surface.width && y < rig->surface.height);
    return surface_row(&rig->surface, y)[x] & 0xffffff;
}

static inline void draw(struct rig *rig, unsigned width, unsigned height)
{
    vga_refresh(rig->vga, &rig->surface, NULL);
    assert_int_equal(rig->surface.width, width);
    assert_int_equal(rig->surface.height, height);
}

static inline int rig_setup(void **state)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    struct vd_error err = {.text = ""};
    vclock_init(&rig->clock);
    rig->clock.paused = 1;
    rig->clock.paused_ns = 0;
    surface_init(&rig->surface);
    if (as_create(&rig->as, 1 << 20, 1 << 20, &err) < 0)
        fail_msg("%s", err.text);
    const struct vga_config config = {.as = rig->as, .clock = &rig->clock, .vram_size = 1 << 24};
    if (vga_create(&rig->vga, &config, &err) < 0)
        fail_msg("%s", err.text);
    *state = rig;
    return 0;
}

static inline int rig_teardown(void **state)
{
    struct rig *rig = *state;
    vga_destroy(rig->vga);
    as_destroy(rig->as);
    surface_free(&rig->surface);
    free(rig);
    return 0;
}

#define rig_test(function) cmocka_unit_test_setup_teardown(function, rig_setup, rig_teardown)

#endif
