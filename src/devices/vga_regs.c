/* The VGA's registers, ports 3B0-3DF. */
#include <string.h>

#include "devices/vga_state.h"

enum { PORT_BASE = 0x3b0 };

/* Bits that exist; the others read as 0. */
static const uint8_t seq_mask[VGA_SEQ_COUNT] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
static const uint8_t gc_mask[VGA_GC_COUNT] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};
static const uint8_t crtc_mask[VGA_CRTC_COUNT] = {
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0x3f, 0x7f, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xef, 0xff,
};

static uint8_t attr_mask(unsigned index)
{
    static const uint8_t control[] = {0xef, 0xff, 0x3f, 0x0f, 0x0f};
    return index < VGA_ATTR_MODE ? 0x3f : control[index - VGA_ATTR_MODE];
}

static void seq_write(struct vga *vga, uint8_t value)
{
    if (vga->seq_index >= VGA_SEQ_COUNT)
        return;
    vga->seq[vga->seq_index] = value & seq_mask[vga->seq_index];
    vga_touch(vga);
}

static void gc_write(struct vga *vga, uint8_t value)
{
    if (vga->gc_index >= VGA_GC_COUNT)
        return;
    vga->gc[vga->gc_index] = value & gc_mask[vga->gc_index];
    if (vga->gc_index == VGA_GC_MISCELLANEOUS)
        vga_update_window(vga);
    if (vga->gc_index == VGA_GC_MISCELLANEOUS || vga->gc_index == VGA_GC_MODE)
        vga_touch(vga);
}

static void crtc_write(struct vga *vga, uint8_t value)
{
    unsigned index = vga->crtc_index;
    if (index >= VGA_CRTC_COUNT)
        return;
    /* Protect R0-7: all but the line compare bit of the overflow register. */
    if (index <= VGA_CRTC_OVERFLOW && (vga->crtc[VGA_CRTC_RETRACE_END] & 0x80)) {
        if (index != VGA_CRTC_OVERFLOW)
            return;
        value = (uint8_t)((vga->crtc[index] & ~0x10) | (value & 0x10));
    }
    value &= crtc_mask[index];
    if (index == VGA_CRTC_RETRACE_END && !(value & 0x10)) /* clear vertical interrupt */
        vga->retrace_cleared = vga_beam_now(vga).retraces;
    if (vga->crtc[index] == value)
        return;
    vga->crtc[index] = value;
    vga_touch(vga);
}

static uint8_t crtc_read(const struct vga *vga)
{
    if (vga->crtc_index < VGA_CRTC_COUNT)
        return vga->crtc[vga->crtc_index];
    /* Two registers that IBM did not document but diagnostics and drivers read. */
    if (vga->crtc_index == 0x22)
        return (uint8_t)(vga->latch >> (vga->gc[VGA_GC_READ_MAP_SELECT] * 8));
    if (vga->crtc_index == 0x24)
        return vga->attr_data ? 0x80 : 0;
    return 0;
}

/*
 * The documented way to load the internal palette is with bit 5 of the index clear. Writes with the
 * bit set take effect here too: many clones behave so, and programs rely on either.
 */
static void attr_write(struct vga *vga, uint8_t value)
{
    unsigned index = vga->attr_index & 0x1f;
    if (!vga->attr_data) {
        if ((vga->attr_index ^ value) & 0x20)
            vga_touch(vga);
        vga->attr_index = value & 0x3f;
    } else if (index < VGA_ATTR_COUNT) {
        vga->attr[index] = value & attr_mask(index);
        vga_touch(vga);
    }
    vga->attr_data = !vga->attr_data;
}

static uint8_t attr_read(const struct vga *vga)
{
    unsigned index = vga->attr_index & 0x1f;
    return index < VGA_ATTR_COUNT ? vga->attr[index] : 0;
}

static uint8_t dac_mask(const struct vga *vga)
{
    return vga->vbe[VGA_VBE_ENABLE] & VGA_VBE_8BIT_DAC ? 0xff : 0x3f;
}

static void dac_write(struct vga *vga, uint8_t value)
{
    vga->dac_pending[vga->dac_component] = value & dac_mask(vga);
    if (++vga->dac_component < 3)
        return;
    /* The entry changes as a whole with the third byte. */
    memcpy(vga->dac[vga->dac_write_index++], vga->dac_pending, 3);
    vga->dac_component = 0;
    vga_touch(vga);
}

static uint8_t dac_read(struct vga *vga)
{
    uint8_t value = vga->dac[vga->dac_read_index][vga->dac_component] & dac_mask(vga);
    if (++vga->dac_component == 3) {
        vga->dac_component = 0;
        vga->dac_read_index++;
        vga->dac_write_index = (uint8_t)(vga->dac_read_index + 1);
    }
    return value;
}

/*
 * Bit 7: vertical retrace interrupt pending. Bit 4: the sense line; a colour monitor terminates all
 * three guns, which reads as 1.
 */
static uint8_t input_status_0(const struct vga *vga)
{
    bool pending = (vga->crtc[VGA_CRTC_RETRACE_END] & 0x10) &&
                   vga_beam_now(vga).retraces > vga->retrace_cleared;
    return (uint8_t)(0x10 | (pending ? 0x80 : 0));
}

static uint8_t input_status_1(struct vga *vga)
{
    struct vga_beam beam = vga_beam_now(vga);
    vga->attr_data = false;
    return (uint8_t)((beam.display ? 0 : 0x01) | (beam.retrace ? 0x08 : 0));
}

/* Miscellaneous Output bit 0 puts CRTC, input status 1 and feature control at 3Dx or 3Bx. */
static bool is_colour_port(unsigned port)
{
    return port >= 0x3d0;
}

static bool is_decoded(const struct vga *vga, unsigned port)
{
    if (port >= 0x3c0 && port < 0x3d0)
        return true;
    return is_colour_port(port) == (vga->misc & 1);
}

/* Ports that follow the misc bit, relative to 3B0 or 3D0. */
static uint8_t crtc_port_read(struct vga *vga, unsigned offset)
{
    switch (offset) {
    case 0x4:
        return vga->crtc_index;
    case 0x5:
        return crtc_read(vga);
    case 0xa:
        return input_status_1(vga);
    default:
        return 0xff;
    }
}

uint8_t vga_port_read(struct vga *vga, unsigned offset)
{
    unsigned port = PORT_BASE + offset;
    if (!is_decoded(vga, port))
        return 0xff;
    switch (port) {
    case 0x3c0:
        return vga->attr_index;
    case 0x3c1:
        return attr_read(vga);
    case 0x3c2:
        return input_status_0(vga);
    case 0x3c3:
        return vga->subsystem;
    case 0x3c4:
        return vga->seq_index;
    case 0x3c5:
        return vga->seq_index < VGA_SEQ_COUNT ? vga->seq[vga->seq_index] : 0;
    case 0x3c6:
        return vga->pel_mask;
    case 0x3c7:
        return vga->dac_reading ? 3 : 0;
    case 0x3c8:
        return vga->dac_write_index;
    case 0x3c9:
        return dac_read(vga);
    case 0x3ca:
        return vga->feature_control;
    case 0x3cc:
        return vga->misc;
    case 0x3ce:
        return vga->gc_index;
    case 0x3cf:
        return vga->gc_index < VGA_GC_COUNT ? vga->gc[vga->gc_index] : 0;
    case 0x3cb:
    case 0x3cd:
        return 0xff;
    default:
        return crtc_port_read(vga, port & 0xf);
    }
}

static void dac_port_write(struct vga *vga, unsigned port, uint8_t value)
{
    switch (port) {
    case 0x3c6:
        vga->pel_mask = value;
        vga_touch(vga);
        break;
    case 0x3c7:
        vga->dac_read_index = value;
        vga->dac_write_index = (uint8_t)(value + 1); /* one address register, already advanced */
        vga->dac_component = 0;
        vga->dac_reading = true;
        break;
    case 0x3c8:
        vga->dac_write_index = value;
        vga->dac_component = 0;
        vga->dac_reading = false;
        break;
    default:
        dac_write(vga, value);
        break;
    }
}

static void crtc_port_write(struct vga *vga, unsigned offset, uint8_t value)
{
    if (offset == 0x4)
        vga->crtc_index = value;
    else if (offset == 0x5)
        crtc_write(vga, value);
    else if (offset == 0xa)
        vga->feature_control = value & 0x0b;
}

void vga_port_write(struct vga *vga, unsigned offset, uint8_t value)
{
    unsigned port = PORT_BASE + offset;
    if (!is_decoded(vga, port))
        return;
    switch (port) {
    case 0x3c0:
    case 0x3c1: /* the address decoder ignores A0 for writes */
        attr_write(vga, value);
        break;
    case 0x3c2:
        vga->misc = value & 0xef;
        vga_touch(vga);
        break;
    case 0x3c3:
        vga->subsystem = value & 1;
        break;
    case 0x3c4:
        vga->seq_index = value & 0x07;
        break;
    case 0x3c5:
        seq_write(vga, value);
        break;
    case 0x3c6:
    case 0x3c7:
    case 0x3c8:
    case 0x3c9:
        dac_port_write(vga, port, value);
        break;
    case 0x3ce:
        vga->gc_index = value & 0x0f;
        break;
    case 0x3cf:
        gc_write(vga, value);
        break;
    case 0x3ca:
    case 0x3cb:
    case 0x3cc:
    case 0x3cd:
        break;
    default:
        crtc_port_write(vga, port & 0xf, value);
        break;
    }
}

static uint64_t port_read(void *ctx, uint64_t offset, unsigned size)
{
    (void)size;
    return vga_port_read(ctx, (unsigned)offset);
}

static void port_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    (void)size;
    vga_port_write(ctx, (unsigned)offset, (uint8_t)value);
}

const struct io_ops vga_port_ops = {port_read, port_write, 1, 1};
