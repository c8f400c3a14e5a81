/*
 * Intel 82371AB PIIX4, function 3 (data sheet 290562-001): ACPI power management and SMBus host.
 *
 * Power management I/O (64 bytes at PMBASE): PM1 status, enable and control, the 24-bit PM timer at
 * 3.579545 MHz, general-purpose event block (GPSTS/GPEN at +0Ch, the GPE0 block of the FADT) and
 * the general-purpose I/O registers. The SMBus (16 bytes at SMBBA) has no device on it: every
 * transaction ends with a device error (drivers poll for it; its interrupt is not wired).
 *
 * The APM ports B2h/B3h would raise an SMI whose handler enables ACPI; without SMM the device does
 * what the handler would: F1h written to B2h sets SCI_EN, F0h clears it. For the same reason
 * APMC_EN in DEVACTB (5Bh bit 1) reads as set after reset: firmware takes SMM as set up already.
 */
#ifndef VD_DEVICES_PIIX4_PM_H
#define VD_DEVICES_PIIX4_PM_H

#include "devices/pci.h"
#include "sched/timer.h"

enum {
    PIIX4_PM_TIMER_HZ = 3579545,
    PIIX4_ACPI_ENABLE = 0xf1, /* commands at port B2h */
    PIIX4_ACPI_DISABLE = 0xf0,
    PIIX4_SUS_TYP_SOFT_OFF = 0, /* S5 */
};

struct piix4_pm_config {
    struct irq_line sci; /* IRQ 9, active high, level */
    struct timer_queue *timers;
    void *ctx;
    void (*power_off)(void *ctx); /* SUS_EN with SUS_TYP = soft off; NULL: ignored */
};

struct piix4_pm {
    struct pci_device pci;
    struct piix4_pm_config config;
    struct io_region *pm_region, *smb_region, *apm_region;
    uint16_t pm_base, smb_base; /* where they are mapped, 0: nowhere */
    uint8_t apm_command, apm_status;
    uint16_t pm1_status, pm1_enable, pm1_control;
    uint16_t gpe_status, gpe_enable;
    uint16_t global_status, global_enable;
    uint32_t processor_control, device_status, global_control, device_control;
    uint32_t gpo;
    uint64_t overflow_at; /* PM timer ticks at which bit 23 changes next */
    struct timer overflow;
    uint8_t smb[16];
};

int piix4_pm_init(struct piix4_pm *pm, struct pci_bus *bus, unsigned slot, unsigned function,
                  const struct piix4_pm_config *config, struct vd_error *err);
void piix4_pm_destroy(struct piix4_pm *pm);
/* The power button was pressed: PWRBTN_STS, and an SCI if the guest enabled it. */
void piix4_pm_power_button(struct piix4_pm *pm);
/* The PM timer's present value, 24 bits. */
uint32_t piix4_pm_timer_value(const struct piix4_pm *pm);

#endif
