/* Starting a kernel without a boot loader: which of the known kinds a file is. */
#ifndef VD_MACHINE_KERNEL_BOOT_H
#define VD_MACHINE_KERNEL_BOOT_H

#include "machine/linux_loader.h"
#include "machine/multiboot_loader.h"

enum kernel_kind { KERNEL_NONE, KERNEL_LINUX, KERNEL_MULTIBOOT };

struct kernel_config {
    const char *kernel;  /* path: a bzImage or a multiboot kernel */
    const char *initrd;  /* path, of a multiboot kernel: its modules; or NULL */
    const char *cmdline; /* or NULL */
    uint64_t ram_end;    /* end of RAM below 4 GiB */
};

struct kernel_boot {
    enum kernel_kind kind;
    struct linux_boot linux_boot;
    struct multiboot_boot multiboot;
};

/* -1: the file is of neither kind, or its loader refuses it. */
int kernel_boot_open(struct kernel_boot *boot, const struct kernel_config *config,
                     struct vd_error *err);
int kernel_boot_add(struct kernel_boot *boot, struct fw_cfg *fw, struct address_space *as,
                    struct vd_error *err);
/* After fw_cfg_destroy; also without kernel_boot_open, on zeros. */
void kernel_boot_close(struct kernel_boot *boot);

#endif
