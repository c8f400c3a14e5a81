/*
 * The differentiated system description table: the PCI root with its windows and interrupt
 * routing, the four PIRQ link devices over PIIX3's route control registers, and the fixed devices
 * of the board.
 *
 * SeaBIOS looks into this table with a small parser: at device level only Name, Method,
 * OperationRegion, Field, Device and Scope may appear, with integers of at most 32 bits.
 */
#include <stdio.h>

#include "machine/acpi_tables.h"

enum { PCI_SLOTS = 32, LINK_COUNT = 4 };
enum { ISA_BRIDGE_ADDRESS = 0x00010000 /* slot 1, function 0 */, PIRQ_ROUTE = 0x60 };

static const char *const link_names[LINK_COUNT] = {"LNKA", "LNKB", "LNKC", "LNKD"};
static const char *const route_names[LINK_COUNT] = {"PRQA", "PRQB", "PRQC", "PRQD"};

static void name_integer(struct aml *aml, const char *name, uint64_t value)
{
    aml_name(aml, name);
    aml_integer(aml, value);
}

static void name_hid(struct aml *aml, const char *id)
{
    aml_name(aml, "_HID");
    aml_eisa_id(aml, id);
}

static void name_crs(struct aml *aml, struct aml_resources *res)
{
    aml_name(aml, "_CRS");
    aml_resources(aml, res);
}

/* --- PCI root --- */

static void write_root_windows(struct aml *aml, const struct acpi_config *config)
{
    struct aml_resources res = {.size = 0};
    aml_res_bus_range(&res, 0, 0xff);
    aml_res_io(&res, 0xcf8, 8);
    aml_res_io_range(&res, 0x0000, 0x0cf7);
    aml_res_io_range(&res, 0x0d00, 0xffff);
    aml_res_memory_range(&res, 0x000a0000, 0x000bffff);
    aml_res_memory_range(&res, config->pci_start, config->pci_end);
    name_crs(aml, &res);
}

/* Pin p of slot s is wired to link (s + p - 1) mod 4, see pci_pirq_of. */
static void write_routing(struct aml *aml)
{
    aml_name(aml, "_PRT");
    aml_package_begin(aml, (PCI_SLOTS - 1) * 4);
    for (unsigned slot = 1; slot < PCI_SLOTS; slot++) {
        for (unsigned pin = 0; pin < 4; pin++) {
            char path[16];
            snprintf(path, sizeof(path), "\\_SB.%s", link_names[(slot + pin + 3) % LINK_COUNT]);
            aml_package_begin(aml, 4);
            aml_integer(aml, slot << 16 | 0xffff);
            aml_integer(aml, pin);
            aml_path(aml, path);
            aml_integer(aml, 0);
            aml_end(aml);
        }
    }
    aml_end(aml);
}

/* --- interrupt links --- */

static void write_link_status(struct aml *aml, const char *route)
{
    aml_method_begin(aml, "_STA", 0);
    aml_if_begin(aml);
    aml_op(aml, AML_AND);
    aml_path(aml, route);
    aml_integer(aml, 0x80);
    aml_op(aml, AML_NULL_NAME);
    aml_op(aml, AML_RETURN);
    aml_integer(aml, 0x09); /* present, functioning, not enabled */
    aml_end(aml);
    aml_op(aml, AML_RETURN);
    aml_integer(aml, 0x0b);
    aml_end(aml);

    aml_method_begin(aml, "_DIS", 0);
    aml_op(aml, AML_OR);
    aml_path(aml, route);
    aml_integer(aml, 0x80);
    aml_path(aml, route);
    aml_end(aml);
}

static void write_link_settings(struct aml *aml, const char *route)
{
    static const uint8_t none[1] = {0}, possible[2] = {10, 11};
    enum { INTERRUPT_OFFSET = 5 }; /* of the number in the extended interrupt descriptor */
    struct aml_resources current = {.size = 0}, choices = {.size = 0};

    aml_res_interrupts(&choices, possible, 2);
    aml_name(aml, "_PRS");
    aml_resources(aml, &choices);

    aml_method_begin(aml, "_CRS", AML_SERIALIZED);
    aml_res_interrupts(&current, none, 1);
    aml_name(aml, "BUF0");
    aml_resources(aml, &current);
    aml_op(aml, AML_CREATE_DWORD_FIELD);
    aml_path(aml, "BUF0");
    aml_integer(aml, INTERRUPT_OFFSET);
    aml_path(aml, "IRQN");
    aml_if_begin(aml);
    aml_op(aml, AML_LLESS);
    aml_path(aml, route);
    aml_integer(aml, 0x80);
    aml_op(aml, AML_STORE);
    aml_path(aml, route);
    aml_path(aml, "IRQN");
    aml_end(aml);
    aml_op(aml, AML_RETURN);
    aml_path(aml, "BUF0");
    aml_end(aml);

    aml_method_begin(aml, "_SRS", AML_SERIALIZED | 1);
    aml_op(aml, AML_CREATE_DWORD_FIELD);
    aml_op(aml, AML_ARG0);
    aml_integer(aml, INTERRUPT_OFFSET);
    aml_path(aml, "IRQN");
    aml_op(aml, AML_STORE);
    aml_path(aml, "IRQN");
    aml_path(aml, route);
    aml_end(aml);
}

static void write_links(struct aml *aml)
{
    for (unsigned i = 0; i < LINK_COUNT; i++) {
        char route[32];
        snprintf(route, sizeof(route), "\\_SB.PCI0.ISA.%s", route_names[i]);
        aml_device_begin(aml, link_names[i]);
        name_hid(aml, "PNP0C0F");
        name_integer(aml, "_UID", i + 1);
        write_link_status(aml, route);
        write_link_settings(aml, route);
        aml_end(aml);
    }
}

/* --- devices behind the ISA bridge --- */

struct isa_device {
    const char *name, *id;
    uint16_t ports[4]; /* first port; 0 in the 2nd and later: end of list */
    uint8_t counts[4];
    uint8_t irqs[2]; /* 0xff: none */
};

static const struct isa_device isa_devices[] = {
    {"PIC", "PNP0000", {0x20, 0xa0, 0x4d0}, {2, 2, 2}, {2, 0xff}},
    {"DMAC", "PNP0200", {0x00, 0x81, 0x87, 0xc0}, {16, 3, 9, 32}, {0xff, 0xff}},
    {"TMR", "PNP0100", {0x40}, {4}, {0, 0xff}},
    {"RTC", "PNP0B00", {0x70}, {2}, {8, 0xff}},
    {"SPKR", "PNP0800", {0x61}, {1}, {0xff, 0xff}},
    {"FPU", "PNP0C04", {0xf0}, {1}, {13, 0xff}},
    {"KBD", "PNP0303", {0x60, 0x64}, {1, 1}, {1, 0xff}},
    {"MOU", "PNP0F13", {0}, {0}, {12, 0xff}},
};
static const struct isa_device serial_devices[] = {
    {"COM1", "PNP0501", {0x3f8}, {8}, {4, 0xff}},
    {"COM2", "PNP0501", {0x2f8}, {8}, {3, 0xff}},
};

static void write_isa_device(struct aml *aml, const struct isa_device *device, unsigned uid)
{
    struct aml_resources res = {.size = 0};
    aml_device_begin(aml, device->name);
    name_hid(aml, device->id);
    if (uid)
        name_integer(aml, "_UID", uid);
    for (unsigned i = 0; i < 4 && device->counts[i]; i++)
        aml_res_io(&res, device->ports[i], device->counts[i]);
    if (device->name[0] == 'D')
        aml_res_dma(&res, 4); /* the cascade */
    for (unsigned i = 0; i < 2 && device->irqs[i] != 0xff; i++)
        aml_res_irq(&res, device->irqs[i]);
    name_crs(aml, &res);
    aml_end(aml);
}

/* Ports that belong to nobody's driver but must not be given to PCI devices. */
static void write_board_resources(struct aml *aml, const struct acpi_config *config)
{
    struct aml_resources res = {.size = 0};
    aml_device_begin(aml, "SYSR");
    name_hid(aml, "PNP0C02");
    name_integer(aml, "_UID", 1);
    aml_res_io(&res, 0x0080, 1);
    aml_res_io(&res, 0x0092, 1);
    aml_res_io(&res, 0x00b2, 2);
    aml_res_io(&res, 0x0402, 1);
    aml_res_io(&res, 0x0510, 12);
    aml_res_io(&res, config->pm_base, 0x40);
    aml_res_io(&res, config->smb_base, 0x10);
    name_crs(aml, &res);
    aml_end(aml);
}

static void write_isa_bridge(struct aml *aml, const struct acpi_config *config)
{
    aml_device_begin(aml, "ISA");
    name_integer(aml, "_ADR", ISA_BRIDGE_ADDRESS);
    aml_op_region(aml, "PIRQ", AML_PCI_CONFIG, PIRQ_ROUTE, LINK_COUNT);
    aml_field_begin(aml, "PIRQ");
    for (unsigned i = 0; i < LINK_COUNT; i++)
        aml_field_unit(aml, route_names[i], 8);
    aml_end(aml);
    for (size_t i = 0; i < sizeof(isa_devices) / sizeof(isa_devices[0]); i++)
        write_isa_device(aml, &isa_devices[i], 0);
    for (unsigned i = 0; i < config->serial_ports && i < 2; i++)
        write_isa_device(aml, &serial_devices[i], i + 1);
    write_board_resources(aml, config);
    aml_end(aml);
}

/* --- the table --- */

static void write_processors(struct aml *aml, const struct acpi_config *config)
{
    aml_scope_begin(aml, "\\_PR");
    for (unsigned i = 0; i < config->cpu_count && i < 256; i++) {
        char name[8];
        snprintf(name, sizeof(name), "CP%02X", i & 0xff);
        aml_processor(aml, name, (uint8_t)i);
    }
    aml_end(aml);
}

void acpi_dsdt_write(struct aml *aml, const struct acpi_config *config)
{
    write_processors(aml, config);
    aml_scope_begin(aml, "\\_SB");
    aml_device_begin(aml, "PCI0");
    name_hid(aml, "PNP0A03");
    name_integer(aml, "_UID", 0);
    write_root_windows(aml, config);
    write_routing(aml);
    write_isa_bridge(aml, config);
    aml_end(aml);
    write_links(aml);
    aml_end(aml);

    /* S5: SUS_TYP 0 in both PM1 control blocks (PIIX4: soft off). */
    aml_name(aml, "\\_S5");
    aml_package_begin(aml, 4);
    for (unsigned i = 0; i < 4; i++)
        aml_integer(aml, 0);
    aml_end(aml);
}
