/*
 * The ACPI tables: the loader script is executed as firmware does, then every table is checked
 * (ACPI 3.0b chapter 5) and, where iasl is installed, disassembled and compiled again.
 */
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
// clang-format on

#include "machine/acpi_tables.h"
#include "support/little_endian.h"
#include "support/scratch.h"

enum { TABLES_AT = 0x1ffe0000, RSDP_AT = 0xf5a30 };

struct loaded {
    struct acpi_tables acpi;
    bool tables_allocated, rsdp_allocated;
};

static const struct acpi_config default_config = {.cpu_count = 2,
                                                  .has_apic = true,
                                                  .pci_start = 0x80000000,
                                                  .pci_end = 0xfebfffff,
                                                  .pm_base = ACPI_PM_BASE,
                                                  .smb_base = ACPI_SMB_BASE,
                                                  .serial_ports = 2};

static uint8_t sum(const uint8_t *bytes, size_t size)
{
    uint8_t total = 0;
    for (size_t i = 0; i < size; i++)
        total = (uint8_t)(total + bytes[i]);
    return total;
}

static struct acpi_blob *find_file(struct loaded *loaded, const uint8_t *name)
{
    assert_int_equal(name[55], 0);
    if (!strcmp((const char *)name, "etc/acpi/tables")) {
        assert_true(loaded->tables_allocated);
        return &loaded->acpi.tables;
    }
    assert_string_equal((const char *)name, "etc/acpi/rsdp");
    assert_true(loaded->rsdp_allocated);
    return &loaded->acpi.rsdp;
}

static void allocate(struct loaded *loaded, const uint8_t *entry)
{
    uint32_t align = (uint32_t)get(entry + 60, 4);
    assert_int_equal(align & (align - 1), 0);
    if (!strcmp((const char *)entry + 4, "etc/acpi/tables")) {
        assert_false(loaded->tables_allocated);
        assert_int_equal(entry[64], 1); /* high memory */
        assert_int_equal(align, 64);
        loaded->tables_allocated = true;
    } else {
        assert_string_equal((const char *)entry + 4, "etc/acpi/rsdp");
        assert_int_equal(entry[64], 2); /* F segment: where the OS looks for it */
        assert_int_equal(align, 16);
        loaded->rsdp_allocated = true;
    }
}

static void execute_loader(struct loaded *loaded)
{
    const struct acpi_blob *loader = &loaded->acpi.loader;
    assert_int_equal(loader->size % 128, 0);
    for (size_t at = 0; at < loader->size; at += 128) {
        const uint8_t *entry = loader->data + at;
        uint32_t command = (uint32_t)get(entry, 4);
        if (command == 1) {
            allocate(loaded, entry);
            continue;
        }
        struct acpi_blob *file = find_file(loaded, entry + 4);
        if (command == 2) {
            size_t offset = get(entry + 116, 4), size = entry[120];
            assert_ptr_equal(find_file(loaded, entry + 60), &loaded->acpi.tables);
            assert_true(size == 4 || size == 8);
            assert_true(offset + size <= file->size);
            uint64_t value = get(file->data + offset, (unsigned)size);
            assert_true(value < loaded->acpi.tables.size);
            put(file->data + offset, value + TABLES_AT, (unsigned)size);
        } else {
            assert_int_equal(command, 3);
            size_t offset = get(entry + 60, 4), start = get(entry + 64, 4);
            size_t length = get(entry + 68, 4);
            assert_true(start + length <= file->size && offset < file->size);
            uint8_t *byte = file->data + offset;
            *byte = (uint8_t)(*byte - sum(file->data + start, length));
        }
    }
}

static void load(struct loaded *loaded, const struct acpi_config *config)
{
    struct vd_error err;
    memset(loaded, 0, sizeof(*loaded));
    assert_int_equal(acpi_tables_build(&loaded->acpi, config, &err), 0);
    execute_loader(loaded);
}

static uint8_t *at_address(struct loaded *loaded, uint64_t address)
{
    assert_in_range(address, TABLES_AT, TABLES_AT + loaded->acpi.tables.size - 8);
    return loaded->acpi.tables.data + (address - TABLES_AT);
}

static uint8_t *check_table(struct loaded *loaded, uint64_t address, const char *signature)
{
    uint8_t *table = at_address(loaded, address);
    uint32_t length = (uint32_t)get(table + 4, 4);
    assert_memory_equal(table, signature, 4);
    assert_true(address + length <= TABLES_AT + loaded->acpi.tables.size);
    assert_int_equal(sum(table, length), 0);
    return table;
}

/* Follows RSDP and both root tables to the table with that signature; NULL: none. */
static uint8_t *find_table(struct loaded *loaded, const char *signature)
{
    const uint8_t *rsdp = loaded->acpi.rsdp.data;
    uint8_t *rsdt = check_table(loaded, get(rsdp + 16, 4), "RSDT");
    uint8_t *xsdt = check_table(loaded, get(rsdp + 24, 8), "XSDT");
    size_t count = (get(rsdt + 4, 4) - 36) / 4;
    assert_int_equal((get(xsdt + 4, 4) - 36) / 8, count);
    uint8_t *found = NULL;
    for (size_t i = 0; i < count; i++) {
        uint64_t address = get(rsdt + 36 + 4 * i, 4);
        assert_int_equal(get(xsdt + 36 + 8 * i, 8), address);
        if (!memcmp(at_address(loaded, address), signature, 4))
            found = check_table(loaded, address, signature);
    }
    return found;
}

static void test_rsdp(void **state)
{
    (void)state;
    struct loaded loaded;
    load(&loaded, &default_config);
    const uint8_t *rsdp = loaded.acpi.rsdp.data;
    assert_int_equal(loaded.acpi.rsdp.size, 36);
    assert_memory_equal(rsdp, "RSD PTR ", 8);
    assert_int_equal(rsdp[15], 2);
    assert_int_equal(get(rsdp + 20, 4), 36);
    assert_int_equal(sum(rsdp, 20), 0);
    assert_int_equal(sum(rsdp, 36), 0);
    acpi_tables_free(&loaded.acpi);
}

static void test_fadt(void **state)
{
    (void)state;
    struct loaded loaded;
    load(&loaded, &default_config);
    const uint8_t *fadt = find_table(&loaded, "FACP");
    assert_non_null(fadt);
    assert_int_equal(get(fadt + 4, 4), 244);
    assert_int_equal(fadt[8], 3);
    check_table(&loaded, get(fadt + 40, 4), "DSDT");
    assert_int_equal(get(fadt + 40, 4), get(fadt + 140, 8));
    uint64_t facs = get(fadt + 36, 4);
    assert_int_equal(facs, get(fadt + 132, 8));
    assert_int_equal(facs & 63, 0);
    assert_memory_equal(at_address(&loaded, facs), "FACS\x40\0\0\0", 8);
    assert_int_equal(get(fadt + 46, 2), 9);
    assert_int_equal(get(fadt + 48, 4), 0xb2);
    assert_int_equal(fadt[52], 0xf1);
    assert_int_equal(fadt[53], 0xf0);
    /* {32-bit block, length field, generic address, width} of each register block */
    static const struct {
        unsigned port, at, length_at, length, gas;
    } blocks[] = {
        {0x600, 56, 88, 4, 148},
        {0x604, 64, 89, 2, 172},
        {0x608, 76, 91, 4, 208},
        {0x60c, 80, 92, 4, 220},
    };
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(get(fadt + blocks[i].at, 4), blocks[i].port);
        assert_int_equal(fadt[blocks[i].length_at], blocks[i].length);
        assert_int_equal(fadt[blocks[i].gas], 1);
        assert_int_equal(fadt[blocks[i].gas + 1], 8 * blocks[i].length);
        assert_int_equal(get(fadt + blocks[i].gas + 4, 8), blocks[i].port);
    }
    assert_int_equal(fadt[108], 0x32); /* century */
    assert_true(get(fadt + 112, 4) & 1 << 10);
    assert_memory_equal(fadt + 116, "\x01\x08\0\0\xf9\x0c\0\0\0\0\0\0\x06", 13); /* reset */
    acpi_tables_free(&loaded.acpi);
}

static void test_madt(void **state)
{
    (void)state;
    struct loaded loaded;
    load(&loaded, &default_config);
    const uint8_t *madt = find_table(&loaded, "APIC");
    assert_non_null(madt);
    assert_int_equal(get(madt + 36, 4), 0xfee00000);
    assert_int_equal(get(madt + 40, 4), 1);
    unsigned cpus = 0, ioapics = 0, nmis = 0;
    bool timer = false, sci = false;
    uint32_t length = (uint32_t)get(madt + 4, 4), at = 44;
    while (at < length) {
        const uint8_t *entry = madt + at;
        if (entry[0] == 0) {
            assert_int_equal(entry[3], cpus++);
            assert_int_equal(get(entry + 4, 4), 1);
        } else if (entry[0] == 1) {
            ioapics++;
            assert_int_equal(get(entry + 4, 4), 0xfec00000);
            assert_int_equal(get(entry + 8, 4), 0);
        } else if (entry[0] == 2) {
            if (entry[3] == 0)
                timer = get(entry + 4, 4) == 2 && get(entry + 8, 2) == 0;
            if (entry[3] == 9)
                sci = get(entry + 4, 4) == 9 && get(entry + 8, 2) == 0xd;
        } else {
            assert_int_equal(entry[0], 4);
            assert_int_equal(entry[5], 1);
            nmis++;
        }
        assert_true(entry[1] >= 6);
        at += entry[1];
    }
    assert_int_equal(at, length);
    assert_int_equal(cpus, 2);
    assert_int_equal(ioapics, 1);
    assert_int_equal(nmis, 1);
    assert_true(timer && sci);
    acpi_tables_free(&loaded.acpi);
}

static void test_no_apic(void **state)
{
    (void)state;
    struct acpi_config config = default_config;
    struct loaded loaded;
    config.has_apic = false;
    config.cpu_count = 1;
    load(&loaded, &config);
    assert_null(find_table(&loaded, "APIC"));
    assert_non_null(find_table(&loaded, "FACP"));
    acpi_tables_free(&loaded.acpi);
}

/* SeaBIOS decides by this byte sequence whether there is a keyboard. */
static void test_keyboard_is_visible_to_firmware(void **state)
{
    (void)state;
    struct loaded loaded;
    load(&loaded, &default_config);
    static const uint8_t want[] = {0x08, '_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x03, 0x03};
    assert_non_null(memmem(loaded.acpi.tables.data, loaded.acpi.tables.size, want, sizeof(want)));
    acpi_tables_free(&loaded.acpi);
}

static bool run(const char *format, const char *dir, const char *name)
{
    char command[512];
    snprintf(command, sizeof(command), format, dir, name);
    return system(command) == 0;
}

/* Disassembles, compiles the result and compares: both sides must agree on every byte. */
static void round_trip(const char *dir, const char *name, const uint8_t *table)
{
    char path[256];
    size_t size = get(table + 4, 4);
    snprintf(path, sizeof(path), "%s/%s.aml", dir, name);
    scratch_write(path, table, size);
    if (!run("cd %s && iasl -d %s.aml > log 2>&1", dir, name))
        fail_msg("%s: iasl -d failed", name);
    if (!run("cd %s && iasl -f -we -oa -p new %s.dsl > log 2>&1", dir, name)) {
        run("cat %s/log; cat %s.dsl", dir, name);
        fail_msg("%s: does not compile", name);
    }
    snprintf(path, sizeof(path), "%s/new.aml", dir);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    uint8_t *again = malloc(size + 1);
    assert_int_equal(fread(again, 1, size + 1, file), size);
    fclose(file);
    /* The compiler signs its work: compiler id and revision, and so the checksum. */
    memcpy(again + 9, table + 9, 1);
    memcpy(again + 28, table + 28, 8);
    assert_memory_equal(again, table, size);
    free(again);
}

static void test_iasl_round_trip(void **state)
{
    (void)state;
    struct scratch scratch;
    if (system("command -v iasl > /dev/null 2>&1") != 0)
        skip();
    assert_int_equal(scratch_open(&scratch), 0);
    for (unsigned variant = 0; variant < 2; variant++) {
        struct acpi_config config = default_config;
        struct loaded loaded;
        if (variant) {
            config.serial_ports = 0;
            config.cpu_count = 1;
            config.pci_start = 0xc0000000;
        }
        load(&loaded, &config);
        const uint8_t *fadt = find_table(&loaded, "FACP");
        round_trip(scratch.dir, "dsdt", at_address(&loaded, get(fadt + 40, 4)));
        round_trip(scratch.dir, "facp", fadt);
        round_trip(scratch.dir, "apic", find_table(&loaded, "APIC"));
        acpi_tables_free(&loaded.acpi);
    }
    assert_int_equal(scratch_close(&scratch), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rsdp),
        cmocka_unit_test(test_fadt),
        cmocka_unit_test(test_madt),
        cmocka_unit_test(test_no_apic),
        cmocka_unit_test(test_keyboard_is_visible_to_firmware),
        cmocka_unit_test(test_iasl_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
