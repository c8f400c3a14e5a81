/*
 * What a boot loader tells a multiboot kernel (Multiboot Specification 0.6.96, chapter 3.3;
 * Multiboot2 Specification 2.0, chapter 3.6).
 */
#ifndef VD_MACHINE_MULTIBOOT_INFO_H
#define VD_MACHINE_MULTIBOOT_INFO_H

#include <stddef.h>
#include <stdint.h>

#include "machine/multiboot_image.h"

enum {
    MULTIBOOT_MAGIC = 0x2badb002, /* in EAX at the entry point */
    MULTIBOOT2_MAGIC = 0x36d76289,
    MULTIBOOT_MAP_MAX = 128,
    MULTIBOOT_MAP_RAM = 1, /* type of a map entry */
    VBE_CONTROL_SIZE = 512,
    VBE_INFO_SIZE = 256,
    RSDP_SIZE_MAX = 36,
};

struct multiboot_map_entry { /* as INT 15h E820h has it */
    uint64_t address, size;
    uint32_t type;
};

struct multiboot_module {
    uint32_t address, size;
    const char *arguments;
};

struct multiboot_info {
    const struct multiboot_image *image;
    const char *cmdline;
    const struct multiboot_module *modules;
    unsigned module_count;
    const uint8_t *sections; /* image->sections with addresses filled in; NULL: none */

    /* From the firmware */
    struct multiboot_map_entry map[MULTIBOOT_MAP_MAX];
    unsigned map_count;
    uint8_t rsdp[RSDP_SIZE_MAX];
    unsigned rsdp_size;    /* 0: none; 20: ACPI 1.0; 36: later */
    unsigned text_columns; /* 0: not in text mode */
    unsigned text_rows;
    uint16_t vbe_mode; /* 0: none was set */
    uint8_t vbe_control[VBE_CONTROL_SIZE], vbe_info[VBE_INFO_SIZE];
};

/* An upper bound for multiboot_info_build with any answers of the firmware. */
size_t multiboot_info_size_max(const struct multiboot_info *info);
/*
 * Writes what the kernel finds at address, which is a multiple of 8, into buffer of at least
 * multiboot_info_size_max bytes. Returns the size.
 */
size_t multiboot_info_build(const struct multiboot_info *info, uint32_t address, uint8_t *buffer);

#endif
