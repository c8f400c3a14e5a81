#include "machine/firmware.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine/host_file.h"

enum {
    PAGE = 4096,
    LOW_ALIAS_SIZE = 128 * 1024,
    ROM_SIGNATURE_LOW = 0x55,
    VGA_ROM_MAX = 256 * 1024
};
static const uint64_t four_gib = 1ull << 32;

static const char *const bios_paths[] = {
    "/usr/share/seabios/bios-256k.bin",
    "/usr/share/seabios/bios.bin",
    "/usr/share/qemu/bios-256k.bin",
    "/usr/share/qemu/bios.bin",
    NULL,
};
static const char *const vga_paths[] = {
    "/usr/share/seabios/vgabios-stdvga.bin",
    "/usr/share/qemu/vgabios-stdvga.bin",
    NULL,
};

static const char *first_readable(const char *const *paths)
{
    for (; *paths; paths++) {
        if (access(*paths, R_OK) == 0)
            return *paths;
    }
    return NULL;
}

/* ROMs are made of pages: an odd size is filled up in front, the reset vector stays at the end. */
static int map_image(struct address_space *as, const uint8_t *data, size_t size,
                     struct vd_error *err)
{
    size_t padded = (size + PAGE - 1) & ~(size_t)(PAGE - 1);
    uint8_t *image = malloc(padded);
    if (!image)
        return error_set(err, "BIOS: no memory");
    memset(image, 0xff, padded - size);
    memcpy(image + padded - size, data, size);
    uint64_t gpa = four_gib - padded;
    uint64_t low = padded < LOW_ALIAS_SIZE ? padded : LOW_ALIAS_SIZE;
    int rc = as_add_rom(as, gpa, padded, image, padded, err);
    free(image);
    return rc < 0 ? -1 : as_add_rom_alias(as, 0x100000 - low, low, gpa, err);
}

int firmware_map_bios(struct address_space *as, const char *path, struct vd_error *err)
{
    uint8_t *data;
    size_t size;
    if (!path)
        path = first_readable(bios_paths);
    if (!path)
        return error_set(err, "BIOS: no %s; install SeaBIOS or name an image", bios_paths[0]);
    if (host_file_load(path, "BIOS", FIRMWARE_MAX, &data, &size, err) < 0)
        return -1;
    int rc = size < FIRMWARE_MIN
                 ? error_set(err, "BIOS %s: %zu bytes, less than 64 KiB", path, size)
                 : map_image(as, data, size, err);
    free(data);
    return rc;
}

int firmware_load_vga_bios(const char *path, uint8_t **data, size_t *size, struct vd_error *err)
{
    *data = NULL;
    *size = 0;
    if (path && !strcmp(path, "none"))
        return 0;
    if (!path)
        path = first_readable(vga_paths);
    if (!path)
        return 0;
    if (host_file_load(path, "VGA BIOS", VGA_ROM_MAX, data, size, err) < 0)
        return -1;
    if (*size >= 512 && (*data)[0] == ROM_SIGNATURE_LOW && (*data)[1] == 0xaa)
        return 0;
    free(*data);
    *data = NULL;
    return error_set(err, "VGA BIOS %s: not an expansion ROM (no 55 AA signature)", path);
}
