/*
 * How a kernel without a BIOS of its own learns what it runs on: multiboot information, the
 * firmware configuration ports, ACPI tables, CPUID; and what is not there says so.
 */
#include "board.h"

enum { FW_CFG = 0x510, MAX_TABLES = 64 };
enum { KEY_SIGNATURE = 0, KEY_RAM_SIZE = 3, KEY_CPUS = 5, KEY_MAX_CPUS = 15 };

extern uint8_t kernel_end[];

static const uint8_t *at(uint32_t address)
{
    return (const uint8_t *)(uintptr_t)address;
}

static uint64_t fw_cfg(uint16_t key, unsigned bytes)
{
    uint64_t value = 0;
    out16(FW_CFG, key);
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)in8(FW_CFG + 1) << (8 * i);
    return value;
}

static void firmware_configuration(void)
{
    CHECK(fw_cfg(KEY_SIGNATURE, 4) == 0x554d4551, fw_cfg(KEY_SIGNATURE, 4)); /* "QEMU" */
    CHECK(fw_cfg(KEY_CPUS, 2) == 1, fw_cfg(KEY_CPUS, 2));
    CHECK(fw_cfg(KEY_MAX_CPUS, 2) == 1, fw_cfg(KEY_MAX_CPUS, 2));
    CHECK(fw_cfg(KEY_CPUS, 8) == 1, fw_cfg(KEY_CPUS, 8)); /* zeros behind the end */
    CHECK(fw_cfg(0x3fff, 8) == 0, fw_cfg(0x3fff, 8));     /* and where nothing is */
}

static bool ends_with(const char *text, const char *tail)
{
    const char *a = text, *b = tail;
    while (*a)
        a++;
    while (*b)
        b++;
    while (b > tail && a > text && a[-1] == b[-1]) {
        a--;
        b--;
    }
    return b == tail;
}

/* The number behind "ram=", in MiB. */
static uint64_t ram_size(const char *arguments)
{
    uint64_t size = 0;
    while (*arguments && !(arguments[0] == 'm' && arguments[1] == '='))
        arguments++;
    for (arguments += 2; *arguments >= '0' && *arguments <= '9'; arguments++)
        size = size * 10 + (uint64_t)(*arguments - '0');
    return size << 20;
}

/* Everything is told although the header asked for nothing; the command line is not touched. */
static void multiboot(void)
{
    const uint32_t info = multiboot_info, flags = read32(info);
    CHECK((flags & 0x245) == 0x245, flags);
    const char *arguments = (const char *)at(read32(info + 16));
    CHECK(ends_with(arguments, " one  two=2 'three'"), read32(info + 16));
    CHECK(*arguments != ' ', *arguments);             /* the kernel's path comes first */
    CHECK(read32(info + 20) == 0, read32(info + 20)); /* no module */
    uint64_t ram = ram_size(arguments), sum = 0;
    CHECK(ram != 0 && fw_cfg(KEY_RAM_SIZE, 8) == ram, fw_cfg(KEY_RAM_SIZE, 8));
    uint32_t upper = read32(info + 8) * 1024 + 0x100000, map = read32(info + 48);
    CHECK(upper > (uint32_t)(uintptr_t)kernel_end && upper <= ram, upper);
    for (uint32_t entry = map; entry < map + read32(info + 44); entry += read32(entry) + 4) {
        CHECK(read32(entry) >= 20, entry);
        if (read32(entry + 20) == 1)
            sum += read32(entry + 12) | (uint64_t)read32(entry + 16) << 32;
    }
    CHECK(sum > ram - 0x100000 && sum <= ram, sum);
}

static bool sums_to_zero(uint32_t table, uint32_t length)
{
    uint8_t sum = 0;
    for (uint32_t i = 0; i < length; i++)
        sum = (uint8_t)(sum + at(table)[i]);
    return sum == 0;
}

static uint32_t find_table(uint32_t rsdt, uint32_t signature)
{
    for (uint32_t entry = rsdt + 36; entry < rsdt + read32(rsdt + 4); entry += 4) {
        if (read32(read32(entry)) == signature)
            return read32(entry);
    }
    return 0;
}

static void interrupt_controllers(uint32_t madt)
{
    unsigned processors = 0, ioapics = 0;
    CHECK(read32(madt + 36) == LAPIC, read32(madt + 36));
    for (uint32_t entry = madt + 44; entry < madt + read32(madt + 4); entry += at(entry)[1]) {
        CHECK(at(entry)[1] >= 2, entry);
        if (at(entry)[1] < 2)
            return;
        if (at(entry)[0] == 0 && (at(entry)[4] & 1)) {
            processors++;
            CHECK(at(entry)[3] == apic_read(APIC_ID) >> 24, at(entry)[3]);
        } else if (at(entry)[0] == 1) {
            ioapics++;
            CHECK(read32(entry + 4) == IOAPIC && read32(entry + 8) == 0, read32(entry + 4));
            CHECK(at(entry)[2] == (ioapic_read(0) >> 24 & 15), at(entry)[2]);
        }
    }
    CHECK(processors == 1 && ioapics == 1, processors);
}

static void acpi(void)
{
    uint32_t rsdp = 0xe0000;
    while (rsdp < 0x100000 && (read32(rsdp) != 0x20445352 || read32(rsdp + 4) != 0x20525450))
        rsdp += 16;
    CHECK(rsdp < 0x100000, rsdp);
    if (rsdp == 0x100000)
        return;
    CHECK(sums_to_zero(rsdp, 20), rsdp);
    uint32_t rsdt = read32(rsdp + 16);
    CHECK(read32(rsdt) == 0x54445352 && sums_to_zero(rsdt, read32(rsdt + 4)), rsdt);
    uint32_t fadt = find_table(rsdt, 0x50434146), madt = find_table(rsdt, 0x43495041);
    CHECK(fadt && sums_to_zero(fadt, read32(fadt + 4)), fadt);
    CHECK(madt && sums_to_zero(madt, read32(madt + 4)), madt);
    if (!fadt || !madt)
        return;
    uint32_t facs = read32(fadt + 36), dsdt = read32(fadt + 40);
    CHECK(facs % 64 == 0 && read32(facs) == 0x53434146 && read32(facs + 4) == 64, facs);
    CHECK(read32(dsdt) == 0x54445344 && sums_to_zero(dsdt, read32(dsdt + 4)), dsdt);
    uint16_t timer = (uint16_t)read32(fadt + 76);
    uint32_t start = in32(timer);
    while (in32(timer) == start) /* it counts */
        ;
    interrupt_controllers(madt);
}

#define UNDEFINED(bytes)                                                                           \
    do {                                                                                           \
        fault_vector = NO_FAULT;                                                                   \
        __asm__ volatile(TRY(".byte " bytes) : : "a"(0), "c"(0), "d"(0) : "memory");               \
        CHECK(fault_vector == UD, fault_vector);                                                   \
    } while (0)

static void absences(void)
{
    struct cpuid one = cpuid(1, 0), seven = cpuid(7, 0);
    CHECK(!(one.ecx & (1 << 3 | 1 << 5 | 1 << 17 | 1 << 21)),
          one.ecx);                                                   /* MONITOR VMX PCID x2APIC */
    CHECK(!(seven.ebx & (1 << 4 | 1 << 10 | 1 << 11)), seven.ebx);    /* HLE INVPCID RTM */
    CHECK(!(seven.ecx & (1 << 3 | 1 << 16)), seven.ecx);              /* PKU LA57 */
    CHECK(!(seven.edx & (3u << 26)), seven.edx);                      /* SPEC_CTRL STIBP */
    CHECK(cpuid(10, 0).eax == 0, cpuid(10, 0).eax);                   /* performance counters */
    CHECK(!(cpuid(0x80000001, 0).ecx & 4), cpuid(0x80000001, 0).ecx); /* SVM */
    CHECK(one.ecx >> 31 && cpuid(0x40000000, 0).ebx != 0x4b4d564b, one.ecx);
    for (uint32_t leaf = 0x40000001; leaf < 0x40000006; leaf++)
        CHECK(!(cpuid(leaf, 0).eax | cpuid(leaf, 0).ebx | cpuid(leaf, 0).edx), leaf);
    UNDEFINED("0x0f, 0x01, 0xc1");          /* VMCALL */
    UNDEFINED("0x0f, 0x01, 0xd9");          /* VMMCALL */
    UNDEFINED("0x0f, 0x01, 0xd8");          /* VMRUN */
    UNDEFINED("0x0f, 0x01, 0xfd");          /* RDPRU */
    UNDEFINED("0x0f, 0x01, 0xee");          /* RDPKRU */
    UNDEFINED("0x0f, 0x01, 0xc8");          /* MONITOR */
    UNDEFINED("0x0f, 0x01, 0xd5");          /* XEND */
    UNDEFINED("0x66, 0x0f, 0xae, 0xf8");    /* PCOMMIT */
    UNDEFINED("0x66, 0x0f, 0x38, 0x82, 0"); /* INVPCID */
    fault_vector = NO_FAULT;
    uint32_t low, high;
    __asm__ volatile(TRY("rdpmc") : "=a"(low), "=d"(high) : "c"(64));
    CHECK(fault_vector == GP, fault_vector);
}

static void ports_of_nobody(void)
{
    CHECK(in8(0x1234) == 0xff, in8(0x1234));
    CHECK(in16(0x1234) == 0xffff, in16(0x1234));
    CHECK(in32(0x1234) == 0xffffffff, in32(0x1234));
    CHECK(read32(0xf0000000) == 0xffffffff, read32(0xf0000000));
    for (unsigned i = 0; i < 1000; i++) {
        out8(0x80, (uint8_t)i);
        CHECK(in8(0x80) == (uint8_t)i, in8(0x80));
    }
    CHECK(in8(0x92) & 2, in8(0x92)); /* A20 */
    out8(0x4d0, in8(0x4d0));
}

/* The whole sequence of a driver, after which printing goes on. */
static void serial_port(void)
{
    uint8_t control = in8(0x3fb);
    out8(0x3fb, control | 0x80);
    out8(0x3f8, 1);
    out8(0x3f9, 0);
    CHECK(in8(0x3f8) == 1 && in8(0x3f9) == 0, in8(0x3f8)); /* the divisor */
    out8(0x3fb, in8(0x3fb) & 0x7f);
    out8(0x3f9, 0);
    out8(0x3fb, 3);
    out8(0x3fa, 0);
    out8(0x3fc, 3);
    CHECK(in8(0x3fb) == 3 && in8(0x3fc) == 3 && in8(0x3f9) == 0, in8(0x3fb));
    CHECK((in8(0x3fd) & 0x60) == 0x60, in8(0x3fd));
}

void test_main(void)
{
    serial_port();
    board_use_apic();
    firmware_configuration();
    multiboot();
    acpi();
    absences();
    ports_of_nobody();
    board_end();
}
