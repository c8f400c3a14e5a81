/*
 * Text and graphics modes of the IBM VGA: the CRTC's counters fetch four plane bytes per character
 * clock; the graphics controller's serializers make dots of them; the attribute controller gives
 * the dots their colours. Every mode, standard or not, goes through these three steps.
 */
#include <string.h>

#include "devices/vga_state.h"

struct drawing {
    const struct vga *vga;
    const struct vga_scan *scan;
    uint32_t colours16[16], colours256[256];
    unsigned phase;
    unsigned cursor; /* memory counter of the cursor; above 0xffff: hidden */
    unsigned cursor_top, cursor_bottom;
    unsigned font_a, font_b; /* plane 2 addresses, for attribute bit 3 set and clear */
    uint32_t dots[VGA_MAX_DOTS];
};

struct vga_scan vga_scan_geometry(const struct vga *vga)
{
    const uint8_t *crtc = vga->crtc;
    unsigned clocking = vga->seq[VGA_SEQ_CLOCKING_MODE];
    bool text = !(vga->gc[VGA_GC_MISCELLANEOUS] & 0x01);
    unsigned doubling = clocking & 0x08 ? 2 : 1;
    unsigned dots = text && !(clocking & 0x01) ? 9 : 8;
    unsigned control = crtc[VGA_CRTC_MODE_CONTROL];
    struct vga_scan scan = {
        .text = text,
        .blank = !(control & 0x80) || (clocking & 0x20) || !(vga->attr_index & 0x20) ||
                 (vga->seq[VGA_SEQ_RESET] & 3) != 3,
        .columns = crtc[VGA_CRTC_HORIZONTAL_END] + 1u,
        .cell_dots = dots * doubling,
        .doubling = doubling,
        .height = (vga_crtc_vertical_end(vga) + 1) << (control >> 2 & 1),
        .lines_per_scan = crtc[VGA_CRTC_MAXIMUM_SCAN_LINE] & 0x80 ? 2 : 1,
        .max_scan = crtc[VGA_CRTC_MAXIMUM_SCAN_LINE] & 0x1f,
        .line_compare = vga_crtc_line_compare(vga) << (control >> 2 & 1),
        .start = (unsigned)(crtc[VGA_CRTC_START_ADDRESS] << 8) + crtc[VGA_CRTC_START_ADDRESS + 1] +
                 (crtc[VGA_CRTC_PRESET_ROW_SCAN] >> 5 & 3),
        .row_step = crtc[VGA_CRTC_OFFSET] * 2u,
        .count_shift = crtc[VGA_CRTC_UNDERLINE] & 0x20 ? 2 : control >> 3 & 1,
        .preset_scan = crtc[VGA_CRTC_PRESET_ROW_SCAN] & 0x1f,
    };
    scan.width = scan.columns * scan.cell_dots;
    unsigned pan = vga->attr[VGA_ATTR_PEL_PANNING];
    if (dots == 9)
        pan = pan >= 8 ? 0 : pan + 1; /* value 8 is "no shift" with 9-dot characters */
    else if (vga->attr[VGA_ATTR_MODE] & 0x40)
        pan &= 6; /* a 256-colour pixel is two dots wide */
    else
        pan &= 7;
    scan.pan = pan * doubling;
    return scan;
}

unsigned vga_scan_address(const struct vga *vga, unsigned counter, unsigned scan)
{
    unsigned control = vga->crtc[VGA_CRTC_MODE_CONTROL];
    unsigned address = counter & 0xffff;
    if (vga->crtc[VGA_CRTC_UNDERLINE] & 0x40) /* doubleword: rotated by two */
        address = address << 2 | address >> 14;
    else if (!(control & 0x40)) /* word: rotated by one, from bit 15 or 13 */
        address = address << 1 | (address >> (control & 0x20 ? 15 : 13) & 1);
    if (!(control & 0x01)) /* CGA: odd scan lines 8 KiB further */
        address = (address & ~0x2000u) | (scan & 1) << 13;
    if (!(control & 0x02)) /* Hercules-like: a second bit */
        address = (address & ~0x4000u) | (scan >> 1 & 1) << 14;
    return address & 0xffff;
}

static uint32_t fetch(const struct vga *vga, unsigned address)
{
    uint32_t planes;
    memcpy(&planes, vga->vram + (size_t)address * 4, 4);
    return planes;
}

static uint32_t *put(uint32_t *dot, uint32_t colour, unsigned count)
{
    while (count--)
        *dot++ = colour;
    return dot;
}

/* --- text --- */

static unsigned font_address(unsigned select)
{
    return (select & 3) * 0x4000 + (select >> 2) * 0x2000;
}

static void draw_character(const struct drawing *d, uint32_t *dot, unsigned counter, unsigned scan)
{
    const struct vga *vga = d->vga;
    uint32_t planes = fetch(vga, vga_scan_address(vga, counter, scan));
    unsigned character = planes & 0xff, attribute = planes >> 8 & 0xff;
    unsigned mode = vga->attr[VGA_ATTR_MODE];
    unsigned foreground = attribute & 15, background = attribute >> 4;
    unsigned font = attribute & 8 ? d->font_a : d->font_b;
    unsigned pattern = fetch(vga, font + character * 32 + scan) >> 16 & 0xff;
    unsigned nine = pattern << 1; /* the ninth dot repeats the eighth of line graphics */
    if ((mode & 0x04) && (character & 0xe0) == 0xc0)
        nine |= pattern & 1;
    if (mode & 0x08) {
        background &= 7;
        if ((attribute & 0x80) && (d->phase & VGA_PHASE_CHARACTERS))
            nine = 0;
    }
    if ((attribute & 0x77) == 0x01 && scan == (vga->crtc[VGA_CRTC_UNDERLINE] & 0x1fu))
        nine = 0x1ff;
    if (counter == d->cursor && scan >= d->cursor_top && scan <= d->cursor_bottom)
        nine = 0x1ff;
    const uint32_t colours[2] = {d->colours16[background], d->colours16[foreground]};
    unsigned dots = d->scan->cell_dots / d->scan->doubling;
    for (unsigned i = 0; i < dots; i++)
        dot = put(dot, colours[nine >> (8 - i) & 1], d->scan->doubling);
}

/* --- graphics --- */

/* Eight 4-bit dots of one character clock, first in the top nibble. */
static uint32_t serialize(const struct vga *vga, uint32_t planes)
{
    uint32_t dots = 0;
    if (vga->gc[VGA_GC_MODE] & 0x40) { /* 256-colour: both nibbles of each plane in turn */
        return __builtin_bswap32(planes);
    }
    if (vga->gc[VGA_GC_MODE] & 0x20) { /* interleaved: 2 bits of planes 0 and 2, then of 1 and 3 */
        for (unsigned i = 0; i < 8; i++) {
            unsigned low = planes >> (i < 4 ? 0 : 8), high = planes >> (i < 4 ? 16 : 24);
            unsigned shift = 6 - i % 4 * 2;
            dots = dots << 4 | (low >> shift & 3) | (high >> shift & 3) << 2;
        }
        return dots;
    }
    for (unsigned i = 0; i < 8; i++) {
        uint32_t bits = planes >> (7 - i);
        dots = dots << 4 | (bits & 1) | (bits >> 7 & 2) | (bits >> 14 & 4) | (bits >> 21 & 8);
    }
    return dots;
}

static void draw_bytes(const struct drawing *d, uint32_t *dot, unsigned counter, unsigned scan)
{
    const struct vga *vga = d->vga;
    uint32_t dots = serialize(vga, fetch(vga, vga_scan_address(vga, counter, scan)));
    unsigned doubling = d->scan->doubling;
    if (vga->attr[VGA_ATTR_MODE] & 0x40) { /* two dots make one 8-bit colour */
        for (unsigned i = 0; i < 4; i++)
            dot = put(dot, d->colours256[dots >> (24 - i * 8) & 0xff], 2 * doubling);
        return;
    }
    for (unsigned i = 0; i < 8; i++)
        dot = put(dot, d->colours16[dots >> (28 - i * 4) & 15], doubling);
}

/* --- lines --- */

static void draw_line(struct drawing *d, unsigned row, unsigned scan)
{
    for (unsigned column = 0; column <= d->scan->columns; column++) {
        uint32_t *dot = d->dots + (size_t)column * d->scan->cell_dots;
        unsigned counter = (row + (column >> d->scan->count_shift)) & 0xffff;
        if (d->scan->text)
            draw_character(d, dot, counter, scan);
        else
            draw_bytes(d, dot, counter, scan);
    }
}

static void prepare(struct drawing *d)
{
    const struct vga *vga = d->vga;
    const uint8_t *crtc = vga->crtc;
    unsigned maps = vga->seq[VGA_SEQ_CHARACTER_MAP];
    vga_palette_16(vga, d->colours16);
    vga_palette_256(vga, d->colours256);
    d->font_a = font_address((maps >> 2 & 3) | (maps >> 3 & 4));
    d->font_b = font_address((maps & 3) | (maps >> 2 & 4));
    d->cursor_top = crtc[VGA_CRTC_CURSOR_START] & 0x1f;
    d->cursor_bottom = crtc[VGA_CRTC_CURSOR_END] & 0x1f;
    d->cursor = ((unsigned)(crtc[VGA_CRTC_CURSOR_LOCATION] << 8) +
                 crtc[VGA_CRTC_CURSOR_LOCATION + 1] + (crtc[VGA_CRTC_CURSOR_END] >> 5 & 3)) &
                0xffff;
    if ((crtc[VGA_CRTC_CURSOR_START] & 0x20) || (d->phase & VGA_PHASE_CURSOR))
        d->cursor = 0x10000;
}

void vga_draw_planes(struct vga *vga, struct surface *surface, const struct vga_scan *scan,
                     unsigned phase)
{
    struct drawing d = {.vga = vga, .scan = scan, .phase = phase};
    prepare(&d);
    unsigned row = scan->start, line = scan->preset_scan, pan = scan->pan, repeat = 0;
    unsigned drawn_row = ~0u; /* lines of one graphics row are all alike, unless CGA-like */
    bool alike = !scan->text && (vga->crtc[VGA_CRTC_MODE_CONTROL] & 3) == 3;
    for (unsigned y = 0; y < scan->height; y++) {
        if (y == scan->line_compare + 1) {
            row = line = repeat = 0;
            if (vga->attr[VGA_ATTR_MODE] & 0x20) /* the lower part does not pan */
                pan = 0;
        }
        if (!(repeat || (alike && row == drawn_row))) {
            draw_line(&d, row, line);
            drawn_row = row;
        }
        vga_put_line(surface, y, d.dots + pan);
        if (++repeat < scan->lines_per_scan)
            continue;
        repeat = 0;
        if (line == scan->max_scan) {
            line = 0;
            row += scan->row_step;
        } else {
            line = (line + 1) & 0x1f;
        }
    }
}
