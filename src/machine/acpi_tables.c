#include "machine/acpi_tables.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "devices/ioapic.h"
#include "devices/piix4_pm.h"

static const char tables_file[] = "etc/acpi/tables";
static const char rsdp_file[] = "etc/acpi/rsdp";
static const char loader_file[] = "etc/table-loader";

enum { HEADER_SIZE = 36, CHECKSUM_OFFSET = 9, FACS_SIZE = 64, FADT_SIZE = 244, RSDP_SIZE = 36 };
enum { LOCAL_APIC_ADDRESS_PAGE = 0xfee00 };
enum { RESET_PORT = 0xcf9, RESET_VALUE = 0x06, SMI_PORT = 0xb2, CENTURY_REGISTER = 0x32 };

/* --- growing blobs --- */

struct builder {
    struct acpi_tables *acpi;
    bool failed;
};

static uint8_t *blob_grow(struct builder *builder, struct acpi_blob *blob, size_t more)
{
    uint8_t *data = builder->failed ? NULL : realloc(blob->data, blob->size + more);
    if (!data) {
        builder->failed = true;
        return NULL;
    }
    memset(data + blob->size, 0, more);
    blob->data = data;
    blob->size += more;
    return data + blob->size - more;
}

static void put_little(uint8_t *at, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

/* --- loader commands --- */

enum { LOADER_ENTRY_SIZE = 128, LOADER_NAME_SIZE = 56 };
enum { LOADER_ALLOCATE = 1, LOADER_ADD_POINTER = 2, LOADER_ADD_CHECKSUM = 3 };
enum loader_zone { ZONE_HIGH = 1, ZONE_FSEG = 2 };

static uint8_t *loader_entry(struct builder *builder, unsigned command, const char *file)
{
    uint8_t *entry = blob_grow(builder, &builder->acpi->loader, LOADER_ENTRY_SIZE);
    if (entry) {
        put_little(entry, command, 4);
        memcpy(entry + 4, file, strlen(file));
    }
    return entry;
}

static void loader_allocate(struct builder *builder, const char *file, uint32_t align,
                            enum loader_zone zone)
{
    uint8_t *entry = loader_entry(builder, LOADER_ALLOCATE, file);
    if (entry) {
        put_little(entry + 60, align, 4);
        entry[64] = (uint8_t)zone;
    }
}

/* The pointer at offset in file holds an offset into the tables file; makes it an address. */
static void loader_add_pointer(struct builder *builder, const char *file, size_t offset,
                               unsigned size)
{
    uint8_t *entry = loader_entry(builder, LOADER_ADD_POINTER, file);
    if (entry) {
        memcpy(entry + 60, tables_file, strlen(tables_file));
        put_little(entry + 116, offset, 4);
        entry[120] = (uint8_t)size;
    }
}

static void loader_add_checksum(struct builder *builder, const char *file, size_t offset,
                                size_t start, size_t length)
{
    uint8_t *entry = loader_entry(builder, LOADER_ADD_CHECKSUM, file);
    if (entry) {
        put_little(entry + 60, offset, 4);
        put_little(entry + 64, start, 4);
        put_little(entry + 68, length, 4);
    }
}

/* --- tables --- */

/* Appends a table with its header; its offset in the file. The checksum command comes later. */
static size_t table_begin(struct builder *builder, const char *signature, unsigned revision,
                          const void *body, size_t body_size)
{
    struct acpi_blob *tables = &builder->acpi->tables;
    blob_grow(builder, tables, -tables->size & 7); /* tables start aligned */
    size_t offset = tables->size;
    uint8_t *table = blob_grow(builder, tables, HEADER_SIZE + body_size);
    if (!table)
        return offset;
    memcpy(table, signature, 4);
    put_little(table + 4, HEADER_SIZE + body_size, 4);
    table[8] = (uint8_t)revision;
    memcpy(table + 10, "VEDETT", 6);
    memcpy(table + 16, "VDPC    ", 8);
    put_little(table + 24, 1, 4); /* OEM revision */
    memcpy(table + 28, "VDTT", 4);
    put_little(table + 32, 1, 4); /* creator revision */
    if (body)
        memcpy(table + HEADER_SIZE, body, body_size);
    return offset;
}

static void table_checksum(struct builder *builder, size_t offset)
{
    if (builder->failed)
        return;
    const uint8_t *table = builder->acpi->tables.data + offset;
    size_t length = table[4] | (size_t)table[5] << 8 | (size_t)table[6] << 16;
    loader_add_checksum(builder, tables_file, offset + CHECKSUM_OFFSET, offset, length);
}

static void put_pointer(struct builder *builder, size_t at, uint64_t target, unsigned size)
{
    if (builder->failed)
        return;
    put_little(builder->acpi->tables.data + at, target, size);
    loader_add_pointer(builder, tables_file, at, size);
}

/* Firmware ACPI control structure (5.2.10); at the start of the file, so 64-byte aligned. */
static size_t add_facs(struct builder *builder)
{
    size_t offset = builder->acpi->tables.size;
    uint8_t *facs = blob_grow(builder, &builder->acpi->tables, FACS_SIZE);
    assert(offset == 0);
    if (facs) {
        memcpy(facs, "FACS", 4);
        put_little(facs + 4, FACS_SIZE, 4);
        facs[32] = 1; /* version: X_Firmware_Waking_Vector exists */
    }
    return offset;
}

static size_t add_dsdt(struct builder *builder, const struct acpi_config *config)
{
    struct aml aml;
    aml_init(&aml);
    acpi_dsdt_write(&aml, config);
    builder->failed |= aml.failed;
    /* Revision 1: integers have 32 bits, for systems of the board's age. */
    size_t offset = table_begin(builder, "DSDT", 1, aml.data, aml.size);
    aml_free(&aml);
    return offset;
}

/* Generic address structure of a port block (5.2.3.1). */
static void put_port_block(uint8_t *at, uint16_t port, unsigned bytes)
{
    if (!port)
        return;
    at[0] = 1; /* system I/O */
    at[1] = (uint8_t)(8 * bytes);
    put_little(at + 4, port, 8);
}

enum { /* FADT flags */
       FADT_WBINVD = 1 << 0,
       FADT_PROC_C1 = 1 << 2,
       FADT_SLP_BUTTON = 1 << 5, /* there is no fixed sleep button */
       FADT_FIX_RTC = 1 << 6,    /* RTC wake status is not in the fixed registers */
       FADT_RESET_REG_SUP = 1 << 10,
};
enum { BOOT_LEGACY_DEVICES = 1 << 0, BOOT_8042 = 1 << 1 }; /* IA-PC boot architecture */

/* Fixed ACPI description table, revision 3 (table 5-9). */
static void fill_fadt(uint8_t *fadt, const struct acpi_config *config)
{
    uint16_t pm = config->pm_base;
    uint32_t flags =
        FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC | FADT_RESET_REG_SUP;
    fadt[45] = 1; /* preferred profile: desktop */
    put_little(fadt + 46, ACPI_SCI_IRQ, 2);
    put_little(fadt + 48, SMI_PORT, 4);
    fadt[52] = PIIX4_ACPI_ENABLE;
    fadt[53] = PIIX4_ACPI_DISABLE;
    put_little(fadt + 56, pm, 4);         /* PM1a event block */
    put_little(fadt + 64, pm + 0x04u, 4); /* PM1a control block */
    put_little(fadt + 76, pm + 0x08u, 4); /* PM timer */
    put_little(fadt + 80, pm + 0x0cu, 4); /* GPE0 block */
    fadt[88] = 4;
    fadt[89] = 2;
    fadt[91] = 4;
    fadt[92] = 4;
    put_little(fadt + 96, 0xfff, 2); /* C2 latency: not supported */
    put_little(fadt + 98, 0xfff, 2); /* C3 latency: not supported */
    fadt[108] = CENTURY_REGISTER;
    put_little(fadt + 109, BOOT_LEGACY_DEVICES | BOOT_8042, 2);
    put_little(fadt + 112, flags, 4);
    put_port_block(fadt + 116, RESET_PORT, 1);
    fadt[128] = RESET_VALUE;
    put_port_block(fadt + 148, pm, 4);
    put_port_block(fadt + 172, (uint16_t)(pm + 0x04), 2);
    put_port_block(fadt + 208, (uint16_t)(pm + 0x08), 4);
    put_port_block(fadt + 220, (uint16_t)(pm + 0x0c), 4);
}

static size_t add_fadt(struct builder *builder, const struct acpi_config *config, size_t facs,
                       size_t dsdt)
{
    size_t offset = table_begin(builder, "FACP", 3, NULL, FADT_SIZE - HEADER_SIZE);
    if (builder->failed)
        return offset;
    fill_fadt(builder->acpi->tables.data + offset, config);
    put_pointer(builder, offset + 36, facs, 4);
    put_pointer(builder, offset + 40, dsdt, 4);
    put_pointer(builder, offset + 132, facs, 8);
    put_pointer(builder, offset + 140, dsdt, 8);
    return offset;
}

/* An ISA interrupt that does not arrive as the bus has it (5.2.12.5). */
static uint8_t *put_override(uint8_t *at, uint8_t irq, uint32_t gsi, uint16_t flags)
{
    at[0] = 2;
    at[1] = 10;
    at[3] = irq;
    put_little(at + 4, gsi, 4);
    put_little(at + 8, flags, 2);
    return at + 10;
}

/* Multiple APIC description table (5.2.12). */
static size_t add_madt(struct builder *builder, const struct acpi_config *config)
{
    static const uint8_t level_irqs[] = {ACPI_SCI_IRQ, 10, 11};
    enum { LEVEL_HIGH = 0x0d };
    size_t size = 8 + 8 * (size_t)config->cpu_count + 12 + 10 * (1 + sizeof(level_irqs)) + 6;
    size_t offset = table_begin(builder, "APIC", 1, NULL, size);
    if (builder->failed)
        return offset;
    uint8_t *at = builder->acpi->tables.data + offset + HEADER_SIZE;
    put_little(at, (uint64_t)LOCAL_APIC_ADDRESS_PAGE << 12, 4);
    put_little(at + 4, 1, 4); /* PCAT_COMPAT: there are 8259s, too */
    at += 8;
    for (unsigned i = 0; i < config->cpu_count; i++, at += 8) {
        at[0] = 0;
        at[1] = 8;
        at[2] = at[3] = (uint8_t)i; /* ACPI processor and local APIC ID */
        at[4] = 1;                  /* enabled */
    }
    at[0] = 1;
    at[1] = 12;
    put_little(at + 4, IOAPIC_DEFAULT_BASE, 4);
    at = put_override(at + 12, 0, 2, 0);
    for (size_t i = 0; i < sizeof(level_irqs); i++)
        at = put_override(at, level_irqs[i], level_irqs[i], LEVEL_HIGH);
    at[0] = 4; /* NMI at LINT1 of every processor */
    at[1] = 6;
    at[2] = 0xff;
    at[5] = 1;
    return offset;
}

/* Root tables: an array of pointers of 4 (RSDT) or 8 bytes (XSDT). */
static size_t add_root(struct builder *builder, const char *signature, unsigned pointer_size,
                       const size_t *entries, unsigned count)
{
    size_t offset = table_begin(builder, signature, 1, NULL, (size_t)pointer_size * count);
    for (unsigned i = 0; i < count; i++)
        put_pointer(builder, offset + HEADER_SIZE + (size_t)i * pointer_size, entries[i],
                    pointer_size);
    return offset;
}

/* Root system description pointer, revision 2 (5.2.5.3). */
static void add_rsdp(struct builder *builder, size_t rsdt, size_t xsdt)
{
    uint8_t *rsdp = blob_grow(builder, &builder->acpi->rsdp, RSDP_SIZE);
    if (!rsdp)
        return;
    memcpy(rsdp, "RSD PTR ", 8);
    memcpy(rsdp + 9, "VEDETT", 6);
    rsdp[15] = 2;
    put_little(rsdp + 16, rsdt, 4);
    put_little(rsdp + 20, RSDP_SIZE, 4);
    put_little(rsdp + 24, xsdt, 8);
    loader_add_pointer(builder, rsdp_file, 16, 4);
    loader_add_pointer(builder, rsdp_file, 24, 8);
    loader_add_checksum(builder, rsdp_file, 8, 0, 20);
    loader_add_checksum(builder, rsdp_file, 32, 0, RSDP_SIZE);
}

int acpi_tables_build(struct acpi_tables *acpi, const struct acpi_config *config,
                      struct vd_error *err)
{
    struct builder builder = {.acpi = acpi};
    size_t entries[2];
    unsigned count = 0;
    memset(acpi, 0, sizeof(*acpi));

    loader_allocate(&builder, tables_file, 64, ZONE_HIGH);
    loader_allocate(&builder, rsdp_file, 16, ZONE_FSEG);
    size_t facs = add_facs(&builder);
    size_t dsdt = add_dsdt(&builder, config);
    entries[count++] = add_fadt(&builder, config, facs, dsdt);
    if (config->has_apic)
        entries[count++] = add_madt(&builder, config);
    size_t rsdt = add_root(&builder, "RSDT", 4, entries, count);
    size_t xsdt = add_root(&builder, "XSDT", 8, entries, count);
    /* Checksums cover the pointers, so they come last. */
    table_checksum(&builder, dsdt);
    for (unsigned i = 0; i < count; i++)
        table_checksum(&builder, entries[i]);
    table_checksum(&builder, rsdt);
    table_checksum(&builder, xsdt);
    add_rsdp(&builder, rsdt, xsdt);
    if (!builder.failed)
        return 0;
    acpi_tables_free(acpi);
    return error_set(err, "ACPI tables: no memory");
}

void acpi_tables_free(struct acpi_tables *acpi)
{
    free(acpi->tables.data);
    free(acpi->rsdp.data);
    free(acpi->loader.data);
    memset(acpi, 0, sizeof(*acpi));
}

int acpi_tables_add(struct fw_cfg *fw, const struct acpi_config *config, struct vd_error *err)
{
    struct acpi_tables acpi;
    if (acpi_tables_build(&acpi, config, err) < 0)
        return -1;
    const struct {
        const char *name;
        const struct acpi_blob *blob;
    } files[] = {{tables_file, &acpi.tables}, {rsdp_file, &acpi.rsdp}, {loader_file, &acpi.loader}};
    int rc = 0;
    for (size_t i = 0; i < 3 && rc == 0; i++)
        rc = fw_cfg_add_file(fw, files[i].name, files[i].blob->data, (uint32_t)files[i].blob->size,
                             err);
    acpi_tables_free(&acpi);
    return rc;
}
