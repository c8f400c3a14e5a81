/* Where the beam is, from the CRTC's programming and the virtual clock. */
#include "devices/vga_state.h"

unsigned vga_crtc_vertical_end(const struct vga *vga)
{
    unsigned overflow = vga->crtc[VGA_CRTC_OVERFLOW];
    return vga->crtc[VGA_CRTC_VERTICAL_END] | (overflow & 0x02) << 7 | (overflow & 0x40) << 3;
}

unsigned vga_crtc_line_compare(const struct vga *vga)
{
    return vga->crtc[VGA_CRTC_LINE_COMPARE] | (unsigned)(vga->crtc[VGA_CRTC_OVERFLOW] & 0x10) << 4 |
           (unsigned)(vga->crtc[VGA_CRTC_MAXIMUM_SCAN_LINE] & 0x40) << 3;
}

static unsigned vertical_total(const struct vga *vga)
{
    unsigned overflow = vga->crtc[VGA_CRTC_OVERFLOW];
    return (vga->crtc[VGA_CRTC_VERTICAL_TOTAL] | (overflow & 0x01) << 8 | (overflow & 0x20) << 4) +
           2;
}

static unsigned retrace_start(const struct vga *vga)
{
    unsigned overflow = vga->crtc[VGA_CRTC_OVERFLOW];
    return vga->crtc[VGA_CRTC_RETRACE_START] | (overflow & 0x04) << 6 | (overflow & 0x80) << 2;
}

struct vga_raster {
    uint64_t dot_hz;
    unsigned line_dots, visible_dots;
    unsigned lines, visible_lines, retrace_start, retrace_lines;
};

static struct vga_raster raster_of(const struct vga *vga)
{
    unsigned character = vga->seq[VGA_SEQ_CLOCKING_MODE] & 0x01 ? 8 : 9;
    struct vga_raster raster = {
        .dot_hz = (vga->misc & 0x0c) == 0x04 ? 28322000 : 25175000,
        .line_dots = (vga->crtc[VGA_CRTC_HORIZONTAL_TOTAL] + 5u) * character,
        .visible_dots = (vga->crtc[VGA_CRTC_HORIZONTAL_END] + 1u) * character,
        .lines = vertical_total(vga),
        .visible_lines = vga_crtc_vertical_end(vga) + 1,
        .retrace_start = retrace_start(vga),
        /* The end register holds the low 4 bits of the line at which retrace ends. */
        .retrace_lines = (vga->crtc[VGA_CRTC_RETRACE_END] - retrace_start(vga)) & 0x0f,
    };
    if (!raster.retrace_lines)
        raster.retrace_lines = 16;
    if (vga->seq[VGA_SEQ_CLOCKING_MODE] & 0x08)
        raster.dot_hz /= 2;
    /* Not programmed yet, or nonsense that no monitor would follow: 640 x 480 at 60 Hz. */
    uint64_t frame_dots = (uint64_t)raster.line_dots * raster.lines;
    if (frame_dots < raster.dot_hz / 1000 || raster.visible_lines >= raster.lines ||
        raster.retrace_start >= raster.lines)
        raster = (struct vga_raster){25175000, 800, 640, 525, 480, 490, 2};
    return raster;
}

struct vga_beam vga_beam_now(const struct vga *vga)
{
    struct vga_raster raster = raster_of(vga);
    uint64_t dots = clock_muldiv(vclock_now(vga->config.clock), raster.dot_hz, 1000000000);
    uint64_t frame_dots = (uint64_t)raster.line_dots * raster.lines;
    unsigned line = (unsigned)(dots % frame_dots / raster.line_dots);
    unsigned dot = (unsigned)(dots % frame_dots % raster.line_dots);
    return (struct vga_beam){
        .frame = dots / frame_dots,
        .retraces = dots / frame_dots + (line >= raster.retrace_start),
        .display = line < raster.visible_lines && dot < raster.visible_dots,
        .retrace =
            line >= raster.retrace_start && line < raster.retrace_start + raster.retrace_lines,
    };
}
