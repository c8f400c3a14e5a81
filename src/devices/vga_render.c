/* What the monitor shows: colours, change detection, and the text screen. */
#include <string.h>

#include "devices/vga_state.h"
#include "display/cp437.h"

uint32_t vga_dac_colour(const struct vga *vga, uint8_t index)
{
    const uint8_t *entry = vga->dac[index & vga->pel_mask];
    uint32_t rgb[3];
    bool wide = vga->vbe[VGA_VBE_ENABLE] & VGA_VBE_8BIT_DAC;
    for (unsigned i = 0; i < 3; i++)
        rgb[i] = wide ? entry[i] : (uint32_t)(entry[i] << 2 | entry[i] >> 4);
    return rgb[0] << 16 | rgb[1] << 8 | rgb[2];
}

void vga_palette_16(const struct vga *vga, uint32_t colours[16])
{
    unsigned select = vga->attr[VGA_ATTR_COLOR_SELECT];
    for (unsigned i = 0; i < 16; i++) {
        unsigned colour = vga->attr[i & vga->attr[VGA_ATTR_PLANE_ENABLE]] & 0x3f;
        if (vga->attr[VGA_ATTR_MODE] & 0x80)
            colour = (colour & 0x0f) | (select & 3) << 4;
        colours[i] = vga_dac_colour(vga, (uint8_t)(colour | (select & 0x0c) << 4));
    }
}

/* 8-bit colours bypass the internal palette. */
void vga_palette_256(const struct vga *vga, uint32_t colours[256])
{
    unsigned enable = vga->attr[VGA_ATTR_PLANE_ENABLE];
    unsigned mask = vga_vbe_on(vga) ? 0xff : enable | enable << 4;
    for (unsigned i = 0; i < 256; i++)
        colours[i] = vga_dac_colour(vga, (uint8_t)(i & mask));
}

void vga_put_line(struct surface *surface, unsigned y, const uint32_t *dots)
{
    uint32_t *row = surface_row(surface, y);
    size_t bytes = (size_t)surface->width * sizeof(*row);
    if (memcmp(row, dots, bytes) == 0)
        return;
    memcpy(row, dots, bytes);
    surface_mark_dirty(surface, 0, y, surface->width, 1);
}

/* --- text screen --- */

static void fill_row(const struct vga *vga, const struct vga_scan *scan, struct text_cell *cells,
                     unsigned columns, unsigned counter)
{
    unsigned mode = vga->attr[VGA_ATTR_MODE];
    for (unsigned column = 0; column < columns; column++) {
        const uint8_t *planes =
            vga->vram +
            (size_t)vga_scan_address(vga, counter + (column >> scan->count_shift), 0) * 4;
        uint8_t attribute = planes[1];
        struct text_cell cell = {.character = (uint16_t)cp437_to_unicode(planes[0]),
                                 .foreground = attribute & 15,
                                 .background = attribute >> 4};
        if (mode & 0x08) {
            cell.background &= 7;
            cell.flags = attribute & 0x80 ? TEXT_BLINK : 0;
        }
        if ((attribute & 0x77) == 0x01 && (vga->crtc[VGA_CRTC_UNDERLINE] & 0x1fu) <= scan->max_scan)
            cell.flags |= TEXT_UNDERLINE;
        cells[column] = cell;
    }
}

static void place_cursor(const struct vga *vga, struct text_screen *text, unsigned row,
                         unsigned counter)
{
    const uint8_t *crtc = vga->crtc;
    unsigned top = crtc[VGA_CRTC_CURSOR_START] & 0x1f, bottom = crtc[VGA_CRTC_CURSOR_END] & 0x1f;
    unsigned location =
        (unsigned)(crtc[VGA_CRTC_CURSOR_LOCATION] << 8) + crtc[VGA_CRTC_CURSOR_LOCATION + 1];
    unsigned distance = (location - counter) & 0xffff;
    if ((crtc[VGA_CRTC_CURSOR_START] & 0x20) || top > bottom || distance >= text->columns)
        return;
    text->cursor_visible = true;
    text->cursor_column = distance;
    text->cursor_row = row;
}

static void fill_text(const struct vga *vga, const struct vga_scan *scan, struct text_screen *text)
{
    unsigned row_lines = (scan->max_scan + 1) * scan->lines_per_scan;
    unsigned rows = scan->height / row_lines;
    text->columns = scan->columns < TEXT_MAX_COLUMNS ? scan->columns : TEXT_MAX_COLUMNS;
    text->rows = rows < TEXT_MAX_ROWS ? rows : TEXT_MAX_ROWS;
    for (unsigned row = 0; row < text->rows; row++) {
        unsigned counter = scan->start + row * scan->row_step;
        unsigned line = row * row_lines;
        if (line > scan->line_compare) /* below the split */
            counter = (line - scan->line_compare - 1) / row_lines * scan->row_step;
        fill_row(vga, scan, text->cells[row], text->columns, counter);
        place_cursor(vga, text, row, counter);
    }
}

static void refresh_text(struct vga *vga, struct text_screen *text)
{
    struct vga_scan scan = vga_scan_geometry(vga);
    if (!vga->text_changed)
        return;
    vga->text_changed = false;
    bool vbe = vga_vbe_on(vga);
    text->active = !vbe && scan.text && !scan.blank;
    text->width = vbe ? vga->vbe[VGA_VBE_XRES] : scan.blank ? 0 : scan.width;
    text->height = vbe ? vga->vbe[VGA_VBE_YRES] : scan.blank ? 0 : scan.height;
    text->cursor_visible = false;
    text->columns = text->rows = 0;
    if (text->active)
        fill_text(vga, &scan, text);
}

/* --- picture --- */

static void blank_surface(struct surface *surface)
{
    if (!surface->width && surface_resize(surface, 640, 480) < 0)
        return;
    memset(surface->pixels, 0, surface->stride * surface->height * sizeof(*surface->pixels));
    surface_mark_dirty(surface, 0, 0, surface->width, surface->height);
}

/*
 * Writes through the linear frame buffer go unseen, so in a VBE mode every refresh compares. In
 * other modes nobody uses it; what they would write shows with the next change.
 */
static void refresh_surface(struct vga *vga, struct surface *surface)
{
    unsigned phase = (unsigned)(vga_beam_now(vga).frame >> 3 & 3);
    struct vga_scan scan = vga_scan_geometry(vga);
    bool vbe = vga_vbe_on(vga);
    bool blinked = phase != vga->drawn_phase && !vbe && scan.text;
    if (!vga->changed && !blinked && !(vbe && vga->lfb_mapped) &&
        surface->generation == vga->drawn_generation)
        return;
    vga->changed = false;
    vga->drawn_phase = phase;
    if (vbe) {
        if (surface_resize(surface, vga->vbe[VGA_VBE_XRES], vga->vbe[VGA_VBE_YRES]) == 0)
            vga_draw_vbe(vga, surface);
    } else if (scan.blank) {
        blank_surface(surface);
    } else if (surface_resize(surface, scan.width, scan.height) == 0) {
        vga_draw_planes(vga, surface, &scan, phase);
    }
    vga->drawn_generation = surface->generation;
}

void vga_refresh(struct vga *vga, struct surface *surface, struct text_screen *text)
{
    if (surface)
        refresh_surface(vga, surface);
    if (text)
        refresh_text(vga, text);
}
