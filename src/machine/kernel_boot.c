#include "machine/kernel_boot.h"

#include <stdlib.h>
#include <string.h>

/* What people take for a kernel. */
static const char *what_else(const uint8_t *start, size_t size)
{
    if (size >= 4 && memcmp(start, "\177ELF", 4) == 0)
        return " (an ELF file without a multiboot header; of Linux, the bzImage is needed)";
    if (size >= 2 && start[0] == 0x1f && start[1] == 0x8b)
        return " (a gzip file)";
    return "";
}

static int find_kind(const uint8_t *start, size_t size, const char *path, enum kernel_kind *kind,
                     struct vd_error *err)
{
    enum { LINUX_MAGIC = 0x202 };
    unsigned version;
    uint32_t offset;
    if (size == 0)
        return error_set(err, "kernel %s: empty file", path);
    if (size >= LINUX_MAGIC + 4 && memcmp(start + LINUX_MAGIC, "HdrS", 4) == 0)
        *kind = KERNEL_LINUX;
    else if (multiboot_find(start, size, &version, &offset))
        *kind = KERNEL_MULTIBOOT;
    else if (multiboot_is_damaged(start, size))
        return error_set(err, "kernel %s: its multiboot header has a wrong checksum", path);
    else
        return error_set(err, "kernel %s: neither a Linux bzImage nor a multiboot kernel%s", path,
                         what_else(start, size));
    return 0;
}

static int look_into(const char *path, enum kernel_kind *kind, struct vd_error *err)
{
    struct host_file file;
    if (host_file_open(&file, path, "kernel", err) < 0)
        return -1;
    size_t size = file.size < MULTIBOOT2_SEARCH ? (size_t)file.size : MULTIBOOT2_SEARCH;
    uint8_t *start = malloc(MULTIBOOT2_SEARCH);
    int rc = start ? host_file_read(&file, 0, start, size, err)
                   : error_set(err, "kernel %s: no memory", path);
    if (rc == 0)
        rc = find_kind(start, size, path, kind, err);
    free(start);
    host_file_close(&file);
    return rc;
}

int kernel_boot_open(struct kernel_boot *boot, const struct kernel_config *config,
                     struct vd_error *err)
{
    enum kernel_kind kind = KERNEL_NONE;
    int rc;
    boot->kind = KERNEL_NONE;
    if (look_into(config->kernel, &kind, err) < 0)
        return -1;
    if (kind == KERNEL_LINUX) {
        struct linux_boot_config linux_config = {.kernel = config->kernel,
                                                 .initrd = config->initrd,
                                                 .cmdline = config->cmdline,
                                                 .ram_end = config->ram_end};
        rc = linux_boot_open(&boot->linux_boot, &linux_config, err);
    } else {
        struct multiboot_config multiboot = {.kernel = config->kernel,
                                             .modules = config->initrd,
                                             .cmdline = config->cmdline,
                                             .ram_end = config->ram_end};
        rc = multiboot_boot_open(&boot->multiboot, &multiboot, err);
    }
    if (rc == 0)
        boot->kind = kind;
    return rc;
}

int kernel_boot_add(struct kernel_boot *boot, struct fw_cfg *fw, struct address_space *as,
                    struct vd_error *err)
{
    return boot->kind == KERNEL_LINUX ? linux_boot_add(&boot->linux_boot, fw, err)
                                      : multiboot_boot_add(&boot->multiboot, fw, as, err);
}

void kernel_boot_close(struct kernel_boot *boot)
{
    if (boot->kind == KERNEL_LINUX)
        linux_boot_close(&boot->linux_boot);
    else if (boot->kind == KERNEL_MULTIBOOT)
        multiboot_boot_close(&boot->multiboot);
    boot->kind = KERNEL_NONE;
}
