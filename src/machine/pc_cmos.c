/* CMOS RAM as AT-compatible firmware lays it out; 34h and up as SeaBIOS knows it. */
#include "machine/pc.h"

enum {
    CMOS_EQUIPMENT = 0x14,
    CMOS_BASE_KB = 0x15,
    CMOS_EXTENDED_KB = 0x17, /* above 1 MiB, at most 65535 */
    CMOS_CHECKSUM = 0x2e,    /* of 10h-2Dh, high byte first */
    CMOS_EXTENDED_KB_ACTUAL = 0x30,
    CMOS_EXTENDED_64KB = 0x34, /* above 16 MiB, below 4 GiB */
    CMOS_BOOT_FLAGS = 0x38,    /* bits 7:4: third boot device */
    CMOS_BOOT_ORDER = 0x3d,    /* bits 3:0 first, 7:4 second */
    CMOS_HIGH_64KB = 0x5b,     /* above 4 GiB, 24 bits */
    CMOS_CPU_COUNT = 0x5f,     /* minus one */
};
enum { EQUIPMENT_FPU = 1 << 1, EQUIPMENT_MOUSE = 1 << 2 };
enum { BOOT_FLOPPY = 1, BOOT_DISK = 2, BOOT_CDROM = 3 };

static void set_bytes(struct mc146818 *rtc, unsigned index, uint64_t value, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        mc146818_set(rtc, index + i, (uint8_t)(value >> (8 * i)));
}

static uint64_t at_most(uint64_t value, uint64_t limit)
{
    return value < limit ? value : limit;
}

void pc_fill_cmos(struct mc146818 *rtc, const struct address_space *as, unsigned cpu_count)
{
    uint64_t ram = as_ram_size(as), low = at_most(ram, as_low_end(as));
    uint64_t extended_kb = at_most((low - (1 << 20)) >> 10, 0xffff);
    uint64_t above_16m = low > 16 << 20 ? at_most((low - (16 << 20)) >> 16, 0xffff) : 0;

    mc146818_set(rtc, CMOS_EQUIPMENT, EQUIPMENT_FPU | EQUIPMENT_MOUSE);
    set_bytes(rtc, CMOS_BASE_KB, 640, 2);
    set_bytes(rtc, CMOS_EXTENDED_KB, extended_kb, 2);
    set_bytes(rtc, CMOS_EXTENDED_KB_ACTUAL, extended_kb, 2);
    set_bytes(rtc, CMOS_EXTENDED_64KB, above_16m, 2);
    set_bytes(rtc, CMOS_HIGH_64KB, (ram - low) >> 16, 3);
    mc146818_set(rtc, CMOS_BOOT_FLAGS, BOOT_FLOPPY << 4);
    mc146818_set(rtc, CMOS_BOOT_ORDER, BOOT_CDROM << 4 | BOOT_DISK);
    mc146818_set(rtc, CMOS_CPU_COUNT, (uint8_t)(cpu_count - 1));

    unsigned sum = 0;
    for (unsigned i = 0x10; i < CMOS_CHECKSUM; i++)
        sum += mc146818_get(rtc, i);
    mc146818_set(rtc, CMOS_CHECKSUM, (uint8_t)(sum >> 8));
    mc146818_set(rtc, CMOS_CHECKSUM + 1, (uint8_t)sum);
}
