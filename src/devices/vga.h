/*
 * A VGA with the Bochs VBE extension ("stdvga"): what SeaBIOS's vgabios-stdvga and every driver for
 * the IBM VGA expect. Register names follow the IBM VGA reference (PS/2 Hardware Interface,
 * video subsystem).
 *
 * The device claims the I/O ports 3B0-3DF and 1CE-1D1 and the window A0000-BFFFF. Its memory is one
 * array: byte p of dword a is plane p at address a, and the same bytes in order are the linear
 * frame buffer. vga_pci.h puts it on a PCI bus.
 *
 * All functions but create and destroy are called with the machine lock held.
 */
#ifndef VD_DEVICES_VGA_H
#define VD_DEVICES_VGA_H

#include "display/display.h"
#include "memory/address_space.h"
#include "sched/clock.h"

struct vga;

struct vga_config {
    struct address_space *as;
    const struct vclock *clock; /* retrace and blinking */
    uint32_t vram_size;         /* bytes, a power of two, 256 KiB..16 MiB */
};

/* -1: no memory, or the ports or the window are taken. The state is that after reset. */
int vga_create(struct vga **vga, const struct vga_config *config, struct vd_error *err);
void vga_destroy(struct vga *vga);
/* RESET: registers to 0, video memory keeps its contents. */
void vga_reset(struct vga *vga);

/* The video memory, page-aligned, for the linear frame buffer's BAR. */
uint8_t *vga_vram(struct vga *vga, uint32_t *size);
/*
 * Whether the guest can reach the frame buffer directly, so that changes go unnoticed and every
 * refresh has to compare.
 */
void vga_set_lfb(struct vga *vga, bool mapped);
/*
 * The registers as memory (BAR 2 of the PCI device, 4 KiB): ports 3C0-3DF at 400h, the VBE
 * registers, 16 bits each, at 500h. The context is the struct vga.
 */
extern const struct io_ops vga_mmio_ops;

/* A display_source: draws what the monitor shows now. Cheap when nothing changed. */
void vga_refresh(struct vga *vga, struct surface *surface, struct text_screen *text);
/* Fills source; lock is the machine lock. */
void vga_display_source(struct vga *vga, struct display_source *source);
/*
 * The text screen as UTF-8 lines (see text_screen_to_utf8); length, 0 in a graphics mode or when
 * memory is short.
 */
size_t vga_text_snapshot(struct vga *vga, char *text, size_t size);

#endif
