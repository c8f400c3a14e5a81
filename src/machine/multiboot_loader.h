/*
 * Booting a multiboot kernel directly: checks it, decides where everything goes, and puts it into
 * fw_cfg together with the boot ROM (multiboot.S) that loads and enters it inside the guest.
 *
 *   below 8000h        the ROM's variables and stack, what the firmware answered it
 *   10000h - 7FFFFh    the information for the kernel, beside whatever the kernel loads there
 *   behind the kernel  modules and ELF sections that are not part of a segment, page by page
 */
#ifndef VD_MACHINE_MULTIBOOT_LOADER_H
#define VD_MACHINE_MULTIBOOT_LOADER_H

#include "devices/fw_cfg.h"
#include "machine/host_file.h"
#include "machine/multiboot_image.h"
#include "machine/multiboot_info.h"

enum { MULTIBOOT_MODULES_MAX = 16, MULTIBOOT_LOW_START = 0x3000, MULTIBOOT_LOW_END = 0x9f000 };

struct multiboot_config {
    const char *kernel;  /* path */
    const char *modules; /* "FILE [ARGUMENTS],...", a comma in it is doubled; or NULL */
    const char *cmdline; /* behind the kernel's path; or NULL */
    uint64_t ram_end;    /* end of RAM below 4 GiB */
};

/* A part of what the ROM reads: a header of {u32 address, u32 size} and the contents. */
struct multiboot_record {
    uint32_t address, size;
    const struct host_file *file; /* NULL: the information, which is built when it is read */
    uint64_t offset, file_size;   /* zeros behind that */
};

enum {
    MULTIBOOT_RECORDS_MAX =
        MULTIBOOT_SEGMENTS_MAX + MULTIBOOT_MODULES_MAX + MULTIBOOT_SECTIONS_MAX + 1
};

struct multiboot_boot {
    struct address_space *as;
    struct host_file kernel, module_files[MULTIBOOT_MODULES_MAX];
    struct multiboot_image image;
    struct multiboot_module modules[MULTIBOOT_MODULES_MAX];
    char *module_arguments[MULTIBOOT_MODULES_MAX];
    char *cmdline;
    uint8_t *sections; /* ELF section headers with addresses; NULL: none */
    struct multiboot_info info;
    uint8_t *info_bytes; /* as last built */
    uint32_t info_address, info_capacity;
    struct multiboot_record records[MULTIBOOT_RECORDS_MAX];
    unsigned record_count;
};

/* -1: see multiboot_image_read; or a module is missing, or all that does not fit into memory. */
int multiboot_boot_open(struct multiboot_boot *boot, const struct multiboot_config *config,
                        struct vd_error *err);
/* Adds the list of records, the ROM and the boot order to fw. */
int multiboot_boot_add(struct multiboot_boot *boot, struct fw_cfg *fw, struct address_space *as,
                       struct vd_error *err);
/* After fw_cfg_destroy. */
void multiboot_boot_close(struct multiboot_boot *boot);

#endif
