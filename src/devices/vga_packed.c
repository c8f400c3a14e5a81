/* Pictures of the VBE modes, from the linear frame buffer. */
#include <string.h>

#include "devices/vga_state.h"

typedef void draw_fn(const uint8_t *bytes, uint32_t *dots, unsigned count, const uint32_t *colours);

static void draw_8(const uint8_t *bytes, uint32_t *dots, unsigned count, const uint32_t *colours)
{
    for (unsigned i = 0; i < count; i++)
        dots[i] = colours[bytes[i]];
}

/* A field of `bits` bits widened to 8 so that all ones stay all ones. */
static uint32_t widen(unsigned value, unsigned bits)
{
    return (value << (8 - bits) | value >> (2 * bits - 8)) & 0xff;
}

static void draw_15(const uint8_t *bytes, uint32_t *dots, unsigned count, const uint32_t *colours)
{
    (void)colours;
    for (unsigned i = 0; i < count; i++) {
        unsigned v = bytes[2 * i] | (unsigned)bytes[2 * i + 1] << 8;
        dots[i] = widen(v >> 10 & 31, 5) << 16 | widen(v >> 5 & 31, 5) << 8 | widen(v & 31, 5);
    }
}

static void draw_16(const uint8_t *bytes, uint32_t *dots, unsigned count, const uint32_t *colours)
{
    (void)colours;
    for (unsigned i = 0; i < count; i++) {
        unsigned v = bytes[2 * i] | (unsigned)bytes[2 * i + 1] << 8;
        dots[i] = widen(v >> 11, 5) << 16 | widen(v >> 5 & 63, 6) << 8 | widen(v & 31, 5);
    }
}

static void draw_24(const uint8_t *bytes, uint32_t *dots, unsigned count, const uint32_t *colours)
{
    (void)colours;
    for (unsigned i = 0; i < count; i++, bytes += 3)
        dots[i] = bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16;
}

static draw_fn *draw_function(unsigned bpp)
{
    switch (bpp) {
    case 8:
        return draw_8;
    case 15:
        return draw_15;
    case 16:
        return draw_16;
    default:
        return draw_24;
    }
}

/* Planar lines; bytes are dwords of four planes. */
static void draw_4(const uint8_t *bytes, uint32_t *dots, unsigned count, const uint32_t *colours)
{
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *planes = bytes + i / 8 * 4;
        unsigned shift = 7 - i % 8, value = 0;
        for (unsigned plane = 0; plane < 4; plane++)
            value |= (planes[plane] >> shift & 1u) << plane;
        dots[i] = colours[value];
    }
}

/* The bytes of a 32-bit picture are the surface's: compare before anything is copied. */
static void put_bytes(struct surface *surface, unsigned y, const uint8_t *bytes)
{
    vga_put_line(surface, y, (const uint32_t *)(const void *)bytes);
}

void vga_draw_vbe(struct vga *vga, struct surface *surface)
{
    unsigned bpp = vga->vbe[VGA_VBE_BPP], width = vga->vbe[VGA_VBE_XRES];
    uint32_t colours[256], dots[VGA_VBE_MAX_XRES];
    size_t scale = bpp == 4 ? 4 : 1; /* the four planes lie side by side */
    draw_fn *draw = bpp == 4 ? draw_4 : draw_function(bpp);
    if (bpp == 4)
        vga_palette_16(vga, colours);
    else
        vga_palette_256(vga, colours);
    for (unsigned y = 0; y < vga->vbe[VGA_VBE_YRES]; y++) {
        const uint8_t *line = vga->vram + (vga->vbe_start + (size_t)y * vga->vbe_stride) * scale;
        if (bpp == 32) {
            put_bytes(surface, y, line);
        } else {
            draw(line, dots, width, colours);
            vga_put_line(surface, y, dots);
        }
    }
}
