/*
 * Intel 440FX host bridge, the 82441FX PMC (data sheet 290549-001): the PCI function 00:00.0 with
 * the programmable attribute map that shadows the BIOS area, DRAM row boundaries and the SMRAM
 * register.
 *
 * System management mode is not part of the machine, so SMRAM opens no window: the register keeps
 * and locks its value as the data sheet says, and A0000h-BFFFFh always belongs to the VGA.
 */
#ifndef VD_DEVICES_I440FX_H
#define VD_DEVICES_I440FX_H

#include "devices/pci.h"

struct i440fx {
    struct pci_device pci;
    struct address_space *as;
};

/* Puts the bridge at 00:00.0 of bus and takes over the attribute map of its address space. */
int i440fx_init(struct i440fx *bridge, struct pci_bus *bus, struct vd_error *err);

#endif
