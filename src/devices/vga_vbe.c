/*
 * The Bochs VBE registers: an index at 1CE, data at 1CF (and 1D0, where 16-bit data can be
 * aligned).
 */
#include <string.h>

#include "devices/vga_state.h"

enum { VBE_ID0 = 0xb0c0, VBE_ID5 = 0xb0c5 };

void vga_vbe_reset(struct vga *vga)
{
    memset(vga->vbe, 0, sizeof(vga->vbe));
    vga->vbe[VGA_VBE_ID] = VBE_ID5;
    vga->vbe_index = 0;
    vga->vbe_stride = 0;
    vga->vbe_start = 0;
}

uint16_t vga_vbe_read(const struct vga *vga, unsigned index)
{
    if (index == VGA_VBE_VIDEO_MEMORY)
        return (uint16_t)(vga->config.vram_size >> 16);
    if (index >= VGA_VBE_COUNT)
        return 0;
    if (vga->vbe[VGA_VBE_ENABLE] & VGA_VBE_GETCAPS) {
        static const uint16_t limits[] = {VGA_VBE_MAX_XRES, VGA_VBE_MAX_YRES, VGA_VBE_MAX_BPP};
        if (index >= VGA_VBE_XRES && index <= VGA_VBE_BPP)
            return limits[index - VGA_VBE_XRES];
    }
    return vga->vbe[index];
}

/* Bytes for one line of that many pixels; per plane with 4 bits per pixel. */
static uint32_t line_bytes(unsigned pixels, unsigned bpp)
{
    return bpp == 4 ? pixels / 8 : pixels * ((bpp + 7) / 8);
}

static bool is_depth(unsigned bpp)
{
    return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

/* Bends the programming until the picture lies inside the memory, as the registers then read. */
static void fit(struct vga *vga)
{
    uint16_t *vbe = vga->vbe;
    if (!is_depth(vbe[VGA_VBE_BPP]))
        vbe[VGA_VBE_BPP] = 8;
    unsigned bpp = vbe[VGA_VBE_BPP];
    uint32_t memory = bpp == 4 ? vga->config.vram_size / 4 : vga->config.vram_size;

    vbe[VGA_VBE_XRES] &= 0xfff8;
    if (vbe[VGA_VBE_XRES] > VGA_VBE_MAX_XRES)
        vbe[VGA_VBE_XRES] = VGA_VBE_MAX_XRES;
    if (!vbe[VGA_VBE_XRES])
        vbe[VGA_VBE_XRES] = 8;
    vbe[VGA_VBE_VIRT_WIDTH] &= 0xfff8;
    if (vbe[VGA_VBE_VIRT_WIDTH] < vbe[VGA_VBE_XRES])
        vbe[VGA_VBE_VIRT_WIDTH] = vbe[VGA_VBE_XRES];
    vga->vbe_stride = line_bytes(vbe[VGA_VBE_VIRT_WIDTH], bpp);

    uint32_t lines = memory / vga->vbe_stride;
    if (!vbe[VGA_VBE_YRES])
        vbe[VGA_VBE_YRES] = 1;
    if (vbe[VGA_VBE_YRES] > VGA_VBE_MAX_YRES)
        vbe[VGA_VBE_YRES] = VGA_VBE_MAX_YRES;
    if (vbe[VGA_VBE_YRES] > lines) {
        /* Perhaps it is only the virtual width that is too large. */
        vbe[VGA_VBE_VIRT_WIDTH] = vbe[VGA_VBE_XRES];
        vga->vbe_stride = line_bytes(vbe[VGA_VBE_XRES], bpp);
        lines = memory / vga->vbe_stride;
        if (vbe[VGA_VBE_YRES] > lines)
            vbe[VGA_VBE_YRES] = (uint16_t)lines;
    }
    vbe[VGA_VBE_VIRT_HEIGHT] = (uint16_t)(lines > 0xffff ? 0xffff : lines);

    unsigned spare_x = (unsigned)(vbe[VGA_VBE_VIRT_WIDTH] - vbe[VGA_VBE_XRES]);
    unsigned spare_y = lines - vbe[VGA_VBE_YRES];
    if (vbe[VGA_VBE_X_OFFSET] > spare_x)
        vbe[VGA_VBE_X_OFFSET] = (uint16_t)spare_x;
    if (vbe[VGA_VBE_Y_OFFSET] > spare_y)
        vbe[VGA_VBE_Y_OFFSET] = (uint16_t)spare_y;
    vga->vbe_start =
        vbe[VGA_VBE_Y_OFFSET] * vga->vbe_stride + line_bytes(vbe[VGA_VBE_X_OFFSET], bpp);
}

static void write_enable(struct vga *vga, uint16_t value)
{
    bool was_on = vga_vbe_on(vga);
    bool was_8bit = vga->vbe[VGA_VBE_ENABLE] & VGA_VBE_8BIT_DAC;
    bool is_8bit = value & VGA_VBE_8BIT_DAC;
    vga->vbe[VGA_VBE_ENABLE] = value & (VGA_VBE_ENABLED | VGA_VBE_GETCAPS | VGA_VBE_8BIT_DAC |
                                        VGA_VBE_LFB | VGA_VBE_NOCLEARMEM);
    if ((value & VGA_VBE_ENABLED) && !was_on) {
        vga->vbe[VGA_VBE_VIRT_WIDTH] = 0;
        vga->vbe[VGA_VBE_X_OFFSET] = 0;
        vga->vbe[VGA_VBE_Y_OFFSET] = 0;
        vga->vbe[VGA_VBE_BANK] = 0;
        fit(vga);
        if (!(value & VGA_VBE_NOCLEARMEM)) {
            uint32_t stride = vga->vbe[VGA_VBE_BPP] == 4 ? vga->vbe_stride * 4 : vga->vbe_stride;
            memset(vga->vram, 0, (size_t)stride * vga->vbe[VGA_VBE_YRES]);
        }
    } else if (!(value & VGA_VBE_ENABLED)) {
        vga->vbe[VGA_VBE_BANK] = 0;
    }
    /* The DAC's entries keep their brightness when its width changes. */
    for (unsigned i = 0; i < 256 && was_8bit != is_8bit; i++)
        for (unsigned j = 0; j < 3; j++) {
            uint8_t *entry = &vga->dac[i][j];
            *entry = (uint8_t)(is_8bit ? *entry << 2 : *entry >> 2);
        }
}

void vga_vbe_write(struct vga *vga, unsigned index, uint16_t value)
{
    switch (index) {
    case VGA_VBE_ID:
        if (value >= VBE_ID0 && value <= VBE_ID5)
            vga->vbe[index] = value;
        return;
    case VGA_VBE_XRES:
    case VGA_VBE_YRES:
    case VGA_VBE_BPP:
        /* The mode is set while disabled and checked as a whole when it is enabled. */
        if (!vga_vbe_on(vga))
            vga->vbe[index] = value;
        return;
    case VGA_VBE_ENABLE:
        write_enable(vga, value);
        break;
    case VGA_VBE_BANK:
        vga->vbe[index] = value & (uint16_t)((vga->config.vram_size >> 16) - 1);
        return;
    case VGA_VBE_VIRT_WIDTH:
    case VGA_VBE_X_OFFSET:
    case VGA_VBE_Y_OFFSET:
        vga->vbe[index] = value;
        if (vga_vbe_on(vga))
            fit(vga);
        break;
    default: /* VIRT_HEIGHT follows from the width; the rest is read-only or absent */
        return;
    }
    vga_touch(vga);
}

static uint64_t port_read(void *ctx, uint64_t offset, unsigned size)
{
    const struct vga *vga = ctx;
    (void)size;
    return offset == 0 ? vga->vbe_index : vga_vbe_read(vga, vga->vbe_index);
}

static void port_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct vga *vga = ctx;
    (void)size;
    if (offset == 0)
        vga->vbe_index = (uint16_t)value;
    else
        vga_vbe_write(vga, vga->vbe_index, (uint16_t)value);
}

/* Odd-aligned word accesses to 1CF are the normal case: the bus must not split them. */
const struct io_ops vga_vbe_port_ops = {port_read, port_write, 1, 2};

enum { MMIO_PORTS = 0x400, MMIO_VBE = 0x500 };

static uint64_t mmio_read(void *ctx, uint64_t offset, unsigned size)
{
    struct vga *vga = ctx;
    if (offset >= MMIO_PORTS && offset < MMIO_PORTS + 0x20) {
        uint64_t value = 0;
        for (unsigned i = 0; i < size && offset + i < MMIO_PORTS + 0x20; i++)
            value |= (uint64_t)vga_port_read(vga, (unsigned)(offset - MMIO_PORTS) + 0x10 + i)
                     << (i * 8);
        return value;
    }
    if (offset >= MMIO_VBE && offset < MMIO_VBE + 2 * VGA_VBE_COUNT)
        return (uint64_t)vga_vbe_read(vga, (unsigned)(offset - MMIO_VBE) / 2) >> (offset & 1) * 8;
    return ~(uint64_t)0;
}

static void mmio_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct vga *vga = ctx;
    if (offset >= MMIO_PORTS && offset < MMIO_PORTS + 0x20) {
        for (unsigned i = 0; i < size && offset + i < MMIO_PORTS + 0x20; i++)
            vga_port_write(vga, (unsigned)(offset - MMIO_PORTS) + 0x10 + i,
                           (uint8_t)(value >> (i * 8)));
    } else if (offset >= MMIO_VBE && offset < MMIO_VBE + 2 * VGA_VBE_COUNT && size == 2 &&
               !(offset & 1)) {
        vga_vbe_write(vga, (unsigned)(offset - MMIO_VBE) / 2, (uint16_t)value);
    }
}

const struct io_ops vga_mmio_ops = {mmio_read, mmio_write, 1, 2};
