/*
 * The VGA as a PCI device, 1234:1111 "standard VGA" as Bochs and others have it: BAR 0 is the
 * linear frame buffer, BAR 2 the registers, the expansion ROM holds the VGA BIOS.
 */
#ifndef VD_DEVICES_VGA_PCI_H
#define VD_DEVICES_VGA_PCI_H

#include "devices/pci.h"
#include "devices/vga.h"

struct vga_pci { /* embedded in the board */
    struct pci_device pci;
    struct vga *vga;
    uint8_t *rom;
};

/*
 * Puts vga (which stays the caller's and outlives the device) on the bus. rom may be NULL; it is
 * copied. -1: the slot is taken, the ROM is larger than 256 KiB, or no memory.
 */
int vga_pci_init(struct vga_pci *device, struct vga *vga, struct pci_bus *bus, unsigned slot,
                 const void *rom, size_t rom_size, struct vd_error *err);
/* Frees the ROM's copy; after pci_bus_destroy. */
void vga_pci_free(struct vga_pci *device);

#endif
