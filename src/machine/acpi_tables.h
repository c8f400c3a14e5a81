/*
 * The ACPI tables of the PC board (ACPI specification 3.0b chapter 5) and the script with which the
 * firmware puts them into memory.
 *
 * Firmware decides where tables go, so they are handed over through fw_cfg as files with relative
 * pointers: "etc/acpi/tables" (FACS, DSDT, FADT, MADT, RSDT, XSDT), "etc/acpi/rsdp", and
 * "etc/table-loader", a list of 128-byte commands (allocate a file, add a file's address to a
 * pointer, compute a checksum).
 */
#ifndef VD_MACHINE_ACPI_TABLES_H
#define VD_MACHINE_ACPI_TABLES_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/fw_cfg.h"
#include "machine/aml.h"

struct acpi_config {
    unsigned cpu_count; /* processors, with local APIC IDs 0, 1, ... */
    bool has_apic;      /* local APICs and I/O APIC exist */
    uint32_t pci_start; /* memory window of the PCI bus below 4 GiB: [pci_start, pci_end] */
    uint32_t pci_end;
    uint16_t pm_base;      /* PIIX4 power management ports */
    uint16_t smb_base;     /* PIIX4 SMBus ports */
    unsigned serial_ports; /* COM1.., 0..2 */
};

/* Where SeaBIOS maps the PIIX4 when it finds a table loader. */
enum { ACPI_PM_BASE = 0x600, ACPI_SMB_BASE = 0x700, ACPI_SCI_IRQ = 9 };

struct acpi_blob {
    uint8_t *data; /* from malloc */
    size_t size;
};

struct acpi_tables {
    struct acpi_blob tables, rsdp, loader;
};

/* -1: no memory. */
int acpi_tables_build(struct acpi_tables *acpi, const struct acpi_config *config,
                      struct vd_error *err);
void acpi_tables_free(struct acpi_tables *acpi);
/* Builds them and adds the three files. */
int acpi_tables_add(struct fw_cfg *fw, const struct acpi_config *config, struct vd_error *err);

/* The body of the DSDT (acpi_dsdt.c). */
void acpi_dsdt_write(struct aml *aml, const struct acpi_config *config);

#endif
