/*
 * The CPU's window on video memory, A0000-BFFFF: four planes of 64 KiB behind the graphics
 * controller's read and write modes, or plain banks in a VBE mode.
 */
#include <string.h>

#include "devices/vga_state.h"

void vga_update_window(struct vga *vga)
{
    static const struct {
        uint32_t base, size;
    } maps[4] = {{0, 0x20000}, {0, 0x10000}, {0x10000, 0x8000}, {0x18000, 0x8000}};
    unsigned map = vga->gc[VGA_GC_MISCELLANEOUS] >> 2 & 3;
    vga->window_base = maps[map].base;
    vga->window_size = maps[map].size;
}

/* One bit per plane to a byte of all ones or zeros per plane. */
static uint32_t expand(unsigned planes)
{
    return (planes & 1 ? 0xffu : 0) | (planes & 2 ? 0xff00u : 0) | (planes & 4 ? 0xff0000u : 0) |
           (planes & 8 ? 0xff000000u : 0);
}

static uint32_t load_planes(const struct vga *vga, uint32_t address)
{
    uint32_t value;
    memcpy(&value, vga->vram + (size_t)address * 4, 4);
    return value;
}

static void store_planes(struct vga *vga, uint32_t address, uint32_t value)
{
    memcpy(vga->vram + (size_t)address * 4, &value, 4);
}

/* What the address decoder makes of an offset in the window. */
struct vga_access {
    uint32_t address; /* in each plane */
    unsigned write_planes, read_plane;
};

/*
 * In odd/even addressing A0 selects the plane and is replaced in the plane address, so that
 * characters and attributes lie at even addresses of planes 0 and 1, where the CRTC's word mode
 * looks for them. Chain 4 does the same with A1-A0 and the doubleword mode. In the 128 KiB window
 * A16 takes the place of A0.
 */
static struct vga_access decode(const struct vga *vga, uint32_t offset)
{
    struct vga_access access = {.address = offset & 0xffff,
                                .write_planes = vga->seq[VGA_SEQ_MAP_MASK],
                                .read_plane = vga->gc[VGA_GC_READ_MAP_SELECT]};
    unsigned memory_mode = vga->seq[VGA_SEQ_MEMORY_MODE];
    if (vga_vbe_on(vga)) /* 4 bits per pixel: planes larger than 64 KiB, seen through the bank */
        access.address =
            (offset + ((uint32_t)vga->vbe[VGA_VBE_BANK] << 16)) & (vga->config.vram_size / 4 - 1);
    if (memory_mode & 0x08) { /* chain 4 */
        access.write_planes &= 1u << (offset & 3);
        access.read_plane = offset & 3;
        access.address = (access.address & ~3u) | (offset >> 16 & 1);
        return access;
    }
    if (!(memory_mode & 0x04))
        access.write_planes &= offset & 1 ? 0x0a : 0x05;
    if (vga->gc[VGA_GC_MODE] & 0x10)
        access.read_plane = (access.read_plane & 2) | (offset & 1);
    if (vga->gc[VGA_GC_MISCELLANEOUS] & 0x02)
        access.address = (access.address & ~1u) | (offset >> 16 & 1);
    return access;
}

static uint8_t read_byte(struct vga *vga, uint32_t offset)
{
    struct vga_access access = decode(vga, offset);
    vga->latch = load_planes(vga, access.address);
    if (!(vga->gc[VGA_GC_MODE] & 0x08))
        return (uint8_t)(vga->latch >> (access.read_plane * 8));
    /* Read mode 1: a bit is set where all planes that matter equal the colour. */
    uint32_t differ = (vga->latch ^ expand(vga->gc[VGA_GC_COLOR_COMPARE])) &
                      expand(vga->gc[VGA_GC_COLOR_DONT_CARE]);
    differ |= differ >> 16;
    differ |= differ >> 8;
    return (uint8_t)~differ;
}

static uint32_t combine(const struct vga *vga, uint32_t value)
{
    switch (vga->gc[VGA_GC_DATA_ROTATE] >> 3) {
    case 1:
        return value & vga->latch;
    case 2:
        return value | vga->latch;
    case 3:
        return value ^ vga->latch;
    default:
        return value;
    }
}

/* The four bytes that the write modes make of one CPU byte. */
static uint32_t write_value(const struct vga *vga, uint8_t byte)
{
    unsigned rotate = vga->gc[VGA_GC_DATA_ROTATE] & 7;
    uint8_t rotated = (uint8_t)(byte >> rotate | byte << (8 - rotate));
    uint32_t set_reset = expand(vga->gc[VGA_GC_SET_RESET]);
    uint32_t bit_mask = vga->gc[VGA_GC_BIT_MASK] * 0x01010101u;
    uint32_t value;
    switch (vga->gc[VGA_GC_MODE] & 3) {
    case 0: {
        uint32_t enable = expand(vga->gc[VGA_GC_ENABLE_SET_RESET]);
        value = combine(vga, (rotated * 0x01010101u & ~enable) | (set_reset & enable));
        break;
    }
    case 1:
        return vga->latch;
    case 2:
        value = combine(vga, expand(byte & 0x0f));
        break;
    default: /* 3: the rotated data is one more mask for the set/reset colour */
        bit_mask &= rotated * 0x01010101u;
        value = combine(vga, set_reset);
        break;
    }
    return (value & bit_mask) | (vga->latch & ~bit_mask);
}

static void write_byte(struct vga *vga, uint32_t offset, uint8_t byte)
{
    struct vga_access access = decode(vga, offset);
    uint32_t planes = expand(access.write_planes);
    uint32_t old = load_planes(vga, access.address);
    uint32_t now = (write_value(vga, byte) & planes) | (old & ~planes);
    if (now == old)
        return;
    store_planes(vga, access.address, now);
    vga_touch(vga);
}

/* In a packed-pixel VBE mode the window is 64 KiB of the frame buffer; NULL: outside. */
static uint8_t *vbe_window(const struct vga *vga, uint64_t offset, unsigned size)
{
    uint64_t address = offset + ((uint64_t)vga->vbe[VGA_VBE_BANK] << 16);
    if (offset + size > 0x10000 || address + size > vga->config.vram_size)
        return NULL;
    return vga->vram + address;
}

static bool is_linear(const struct vga *vga)
{
    return vga_vbe_on(vga) && vga->vbe[VGA_VBE_BPP] > 4;
}

static uint64_t window_read(void *ctx, uint64_t offset, unsigned size)
{
    struct vga *vga = ctx;
    uint64_t value = 0;
    if (is_linear(vga)) {
        const uint8_t *bytes = vbe_window(vga, offset, size);
        if (!bytes)
            return ~(uint64_t)0;
        memcpy(&value, bytes, size);
        return value;
    }
    for (unsigned i = 0; i < size; i++) {
        uint32_t at = (uint32_t)offset + i - vga->window_base;
        bool mapped = at < vga->window_size && (vga->misc & 0x02);
        value |= (uint64_t)(mapped ? read_byte(vga, at) : 0xff) << (i * 8);
    }
    return value;
}

static void window_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct vga *vga = ctx;
    if (is_linear(vga)) {
        uint8_t *bytes = vbe_window(vga, offset, size);
        if (bytes) {
            memcpy(bytes, &value, size);
            vga_touch(vga);
        }
        return;
    }
    for (unsigned i = 0; i < size; i++) {
        uint32_t at = (uint32_t)offset + i - vga->window_base;
        if (at < vga->window_size && (vga->misc & 0x02))
            write_byte(vga, at, (uint8_t)(value >> (i * 8)));
    }
}

const struct io_ops vga_window_ops = {window_read, window_write, 1, 8};
