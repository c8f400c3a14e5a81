/* The VGA's state, shared by vga*.c and by nobody else. */
#ifndef VD_DEVICES_VGA_STATE_H
#define VD_DEVICES_VGA_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/vga.h"

enum { /* sequencer, 3C4/3C5 */
       VGA_SEQ_RESET = 0,
       VGA_SEQ_CLOCKING_MODE = 1,
       VGA_SEQ_MAP_MASK = 2,
       VGA_SEQ_CHARACTER_MAP = 3,
       VGA_SEQ_MEMORY_MODE = 4,
       VGA_SEQ_COUNT = 5,
};
enum { /* CRT controller, 3D4/3D5 */
       VGA_CRTC_HORIZONTAL_TOTAL = 0x00,
       VGA_CRTC_HORIZONTAL_END = 0x01,
       VGA_CRTC_VERTICAL_TOTAL = 0x06,
       VGA_CRTC_OVERFLOW = 0x07,
       VGA_CRTC_PRESET_ROW_SCAN = 0x08,
       VGA_CRTC_MAXIMUM_SCAN_LINE = 0x09,
       VGA_CRTC_CURSOR_START = 0x0a,
       VGA_CRTC_CURSOR_END = 0x0b,
       VGA_CRTC_START_ADDRESS = 0x0c,
       VGA_CRTC_CURSOR_LOCATION = 0x0e,
       VGA_CRTC_RETRACE_START = 0x10,
       VGA_CRTC_RETRACE_END = 0x11,
       VGA_CRTC_VERTICAL_END = 0x12,
       VGA_CRTC_OFFSET = 0x13,
       VGA_CRTC_UNDERLINE = 0x14,
       VGA_CRTC_MODE_CONTROL = 0x17,
       VGA_CRTC_LINE_COMPARE = 0x18,
       VGA_CRTC_COUNT = 0x19,
};
enum { /* graphics controller, 3CE/3CF */
       VGA_GC_SET_RESET = 0,
       VGA_GC_ENABLE_SET_RESET = 1,
       VGA_GC_COLOR_COMPARE = 2,
       VGA_GC_DATA_ROTATE = 3,
       VGA_GC_READ_MAP_SELECT = 4,
       VGA_GC_MODE = 5,
       VGA_GC_MISCELLANEOUS = 6,
       VGA_GC_COLOR_DONT_CARE = 7,
       VGA_GC_BIT_MASK = 8,
       VGA_GC_COUNT = 9,
};
enum { /* attribute controller, 3C0/3C1 */
       VGA_ATTR_MODE = 0x10,
       VGA_ATTR_OVERSCAN = 0x11,
       VGA_ATTR_PLANE_ENABLE = 0x12,
       VGA_ATTR_PEL_PANNING = 0x13,
       VGA_ATTR_COLOR_SELECT = 0x14,
       VGA_ATTR_COUNT = 0x15,
};
enum { /* Bochs VBE registers, 1CE/1CF */
       VGA_VBE_ID = 0,
       VGA_VBE_XRES = 1,
       VGA_VBE_YRES = 2,
       VGA_VBE_BPP = 3,
       VGA_VBE_ENABLE = 4,
       VGA_VBE_BANK = 5,
       VGA_VBE_VIRT_WIDTH = 6,
       VGA_VBE_VIRT_HEIGHT = 7,
       VGA_VBE_X_OFFSET = 8,
       VGA_VBE_Y_OFFSET = 9,
       VGA_VBE_VIDEO_MEMORY = 10,
       VGA_VBE_COUNT = 11,
};
enum { /* bits of VGA_VBE_ENABLE */
       VGA_VBE_ENABLED = 0x01,
       VGA_VBE_GETCAPS = 0x02,
       VGA_VBE_8BIT_DAC = 0x20,
       VGA_VBE_LFB = 0x40,
       VGA_VBE_NOCLEARMEM = 0x80,
};
enum { VGA_VBE_MAX_XRES = 3840, VGA_VBE_MAX_YRES = 2400, VGA_VBE_MAX_BPP = 32 };
enum { VGA_WINDOW_BASE = 0xa0000, VGA_WINDOW_SIZE = 0x20000 };

struct vga {
    struct vga_config config;
    struct io_region *ports, *vbe_ports, *window;
    uint8_t *vram;

    uint8_t misc;            /* Miscellaneous Output, 3C2/3CC */
    uint8_t feature_control; /* 3DA/3CA */
    uint8_t subsystem;       /* video subsystem enable, 3C3 */
    uint8_t seq_index, seq[VGA_SEQ_COUNT];
    uint8_t crtc_index, crtc[VGA_CRTC_COUNT];
    uint8_t gc_index, gc[VGA_GC_COUNT];
    uint8_t attr_index; /* with bit 5, palette address source */
    uint8_t attr[VGA_ATTR_COUNT];
    bool attr_data; /* flip-flop: the next write to 3C0 is data */
    uint8_t dac[256][3];
    uint8_t dac_pending[3]; /* components written so far */
    uint8_t dac_read_index, dac_write_index, dac_component, pel_mask;
    bool dac_reading;         /* mode of 3C7/3C8, also the state register */
    uint64_t retrace_cleared; /* beam.retraces when CRTC 11 bit 4 was cleared */

    uint32_t latch;                    /* byte p is plane p */
    uint32_t window_base, window_size; /* what GC 6 maps, relative to A0000 */

    uint16_t vbe_index, vbe[VGA_VBE_COUNT];
    uint32_t vbe_stride; /* bytes per line, per plane with 4 bits per pixel */
    uint32_t vbe_start;  /* of the picture, in the same units */

    /* drawing */
    bool lfb_mapped;
    bool changed;              /* something visible may have changed since the surface was drawn */
    bool text_changed;         /* the same for the text screen */
    unsigned drawn_phase;      /* blink state of what was drawn */
    uint64_t drawn_generation; /* of the surface */
};

static inline bool vga_vbe_on(const struct vga *vga)
{
    return vga->vbe[VGA_VBE_ENABLE] & VGA_VBE_ENABLED;
}

static inline void vga_touch(struct vga *vga)
{
    vga->changed = true;
    vga->text_changed = true;
}

/* vga_regs.c: offset is the port minus 3B0h. */
uint8_t vga_port_read(struct vga *vga, unsigned offset);
void vga_port_write(struct vga *vga, unsigned offset, uint8_t value);
extern const struct io_ops vga_port_ops;

/* vga_memory.c */
extern const struct io_ops vga_window_ops;
void vga_update_window(struct vga *vga);

/* vga_vbe.c */
extern const struct io_ops vga_vbe_port_ops;
void vga_vbe_reset(struct vga *vga);
uint16_t vga_vbe_read(const struct vga *vga, unsigned index);
void vga_vbe_write(struct vga *vga, unsigned index, uint16_t value);

/* vga_timing.c */
struct vga_beam {      /* where the electron beam is */
    uint64_t frame;    /* since virtual time 0 */
    uint64_t retraces; /* vertical retraces that have begun */
    bool display;      /* inside the picture, not blanked */
    bool retrace;      /* vertical retrace */
};
struct vga_beam vga_beam_now(const struct vga *vga);
/* 10-bit values put together from the CRTC's overflow bits. */
unsigned vga_crtc_vertical_end(const struct vga *vga);
unsigned vga_crtc_line_compare(const struct vga *vga);

/* vga_render.c */
uint32_t vga_dac_colour(const struct vga *vga, uint8_t index);
void vga_palette_16(const struct vga *vga, uint32_t colours[16]);
void vga_palette_256(const struct vga *vga, uint32_t colours[256]);
/* Copies one finished line into the surface if it differs. */
void vga_put_line(struct surface *surface, unsigned y, const uint32_t *dots);

/* Blink state: the cursor is off, blinking characters are hidden. */
enum { VGA_PHASE_CURSOR = 1, VGA_PHASE_CHARACTERS = 2 };

/* vga_scanout.c: pictures as the CRTC's programming makes them. */
enum { VGA_MAX_DOTS = 257 * 18 };
struct vga_scan {
    bool text;
    bool blank;                /* nothing but black is shown */
    unsigned columns;          /* characters (or bytes) per line */
    unsigned cell_dots;        /* dots of each, doubling included */
    unsigned doubling;         /* 2: each dot is two dots wide */
    unsigned width, height;    /* of the picture in dots and lines */
    unsigned lines_per_scan;   /* 2: double scan */
    unsigned max_scan;         /* scan lines of a row, minus 1 */
    unsigned line_compare;     /* last line before the split */
    unsigned start, row_step;  /* memory counter */
    unsigned count_shift;      /* columns per step of the counter, as a power of two */
    unsigned preset_scan, pan; /* smooth scrolling: lines and dots */
};
struct vga_scan vga_scan_geometry(const struct vga *vga);
/* The plane address that the memory counter selects in scan line `scan` of its row. */
unsigned vga_scan_address(const struct vga *vga, unsigned counter, unsigned scan);
void vga_draw_planes(struct vga *vga, struct surface *surface, const struct vga_scan *scan,
                     unsigned phase);

/* vga_packed.c: pictures of the VBE modes. */
void vga_draw_vbe(struct vga *vga, struct surface *surface);

#endif
