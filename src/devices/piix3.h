/*
 * Intel 82371SB PIIX3, function 0 (data sheet 290550-002): the PCI-to-ISA bridge with the PIRQ
 * routing registers (PIRQRC[A:D], 60h-63h) and the reset control register at I/O port CF9h.
 */
#ifndef VD_DEVICES_PIIX3_H
#define VD_DEVICES_PIIX3_H

#include "devices/pci.h"

struct piix3_config {
    struct irq_line irq; /* set(ctx, 0..15, level): interrupts steered to an ISA IRQ */
    void *ctx;
    /* A 0 to 1 transition of RCR bit 2: hard reset of the system, or INIT of the processor. */
    void (*reset)(void *ctx, bool hard);
};

struct piix3 {
    struct pci_device pci;
    struct piix3_config config;
    uint8_t reset_control;
    bool pirq[PCI_PIRQ_COUNT]; /* levels of PIRQA#..PIRQD#, true: asserted */
    uint16_t irq_levels;       /* what is driven on the ISA IRQs now */
};

/* Puts the bridge at slot, function 0, and connects the reset control register to bus. */
int piix3_init(struct piix3 *bridge, struct pci_bus *bus, unsigned slot,
               const struct piix3_config *config, struct vd_error *err);
/* The PIRQ lines as an irq_line: set(bridge, 0..3, level). */
void piix3_set_pirq(void *bridge, unsigned pirq, bool level);

#endif
