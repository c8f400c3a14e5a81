/*
 * 82093AA I/O APIC (data sheet 290566-001), with the EOI register of version 20h: 24 pins, each
 * with a redirection entry that turns it into messages on the APIC bus.
 *
 * Pins are given as asserted or not; the polarity bit is stored and otherwise ignored, because the
 * board has no electrical levels. On this board pin n carries ISA IRQ n, but the timer's IRQ 0 is
 * on pin 2 and pin 0 is the 8259s' INTR.
 */
#ifndef VD_DEVICES_IOAPIC_H
#define VD_DEVICES_IOAPIC_H

#include "devices/local_apic.h"

enum { IOAPIC_PIN_COUNT = 24 };
#define IOAPIC_DEFAULT_BASE 0xfec00000u

struct ioapic {
    struct apic_bus *bus;
    struct io_region *region;
    uint8_t id; /* initial and after reset */
    uint32_t id_register;
    uint8_t select;
    uint64_t entries[IOAPIC_PIN_COUNT];
    uint32_t levels; /* asserted pins */
};

/* Claims one page at base. -1: it is taken. */
int ioapic_init(struct ioapic *ioapic, struct apic_bus *bus, uint64_t base, uint8_t id,
                struct vd_error *err);
void ioapic_reset(struct ioapic *ioapic);
void ioapic_destroy(struct ioapic *ioapic);
/* The pins as an irq_line. */
void ioapic_set_pin(void *ioapic, unsigned pin, bool level);
/*
 * The pin is unmasked and edge-triggered, and the interrupt of its last edge still waits for a
 * processor: another edge would be lost.
 */
bool ioapic_edge_waits(const struct ioapic *ioapic, unsigned pin);
/* A local APIC's EOI of a level-triggered vector (struct apic_bus_config.eoi). */
void ioapic_end_of_interrupt(void *ioapic, uint8_t vector);

#endif
