/*
 * Booting a Linux bzImage directly (Linux Documentation/arch/x86/boot.rst, boot protocol 2.02 and
 * later): checks the image, decides where everything goes, and puts it into fw_cfg together with
 * the boot ROM (linuxboot.S) that loads it inside the guest.
 */
#ifndef VD_MACHINE_LINUX_LOADER_H
#define VD_MACHINE_LINUX_LOADER_H

#include <stdint.h>

#include "devices/fw_cfg.h"
#include "machine/host_file.h"

enum {
    LINUX_SETUP_ADDR = 0x10000,
    LINUX_CMDLINE_ADDR = 0x20000,
    LINUX_KERNEL_ADDR = 0x100000,
    LINUX_SETUP_MAX = 0x10000 - 0x1000, /* leaves the setup code heap and stack in its segment */
    LINUX_HEADER_SIZE = 0x268,          /* what linux_parse_header looks at */
};

/* What the setup header says (offsets in boot.rst, "The Real-Mode Kernel Header"). */
struct linux_header {
    uint16_t version;         /* 0x0202 .. */
    uint32_t setup_size;      /* boot sector and setup code, bytes */
    uint32_t initrd_addr_max; /* highest address an initrd byte may have */
    uint32_t cmdline_max;     /* characters without the NUL */
    uint32_t memory_end;      /* highest address + 1 the kernel needs before it reads e820 */
};

struct linux_boot {
    struct host_file kernel, initrd; /* initrd.fd < 0: none */
    struct linux_header header;
    uint8_t *setup;       /* header.setup_size bytes, patched */
    uint32_t kernel_size; /* protected-mode part */
    uint32_t initrd_addr, initrd_size;
    char *cmdline;
};

struct linux_boot_config {
    const char *kernel;  /* path */
    const char *initrd;  /* path or NULL */
    const char *cmdline; /* or NULL */
    uint64_t ram_end;    /* end of RAM below 4 GiB */
};

/*
 * Checks the first min(file_size, LINUX_HEADER_SIZE) bytes of an image. -1: not a kernel, too old,
 * not a bzImage, truncated; name is for the text.
 */
int linux_parse_header(const uint8_t *data, uint64_t file_size, const char *name,
                       struct linux_header *header, struct vd_error *err);
/*
 * Opens and checks everything. -1: see above, or the initrd or the kernel does not fit into memory,
 * or the command line is too long. The files stay open: their contents go to the guest when it
 * asks.
 */
int linux_boot_open(struct linux_boot *boot, const struct linux_boot_config *config,
                    struct vd_error *err);
/* Adds the kernel, setup, initrd and command line items, the ROM and the boot order to fw. */
int linux_boot_add(struct linux_boot *boot, struct fw_cfg *fw, struct vd_error *err);
/* After fw_cfg_destroy. */
void linux_boot_close(struct linux_boot *boot);

/* The boot ROM, both checksums in place; *size is a multiple of 512. NULL: no memory. From malloc.
 */
uint8_t *linux_boot_rom(uint32_t *size);

#endif
