/*
 * The boot ROMs (linuxboot.S, multiboot.S): expansion ROMs with a Plug and Play header that the
 * firmware boots from, and that load a kernel from fw_cfg inside the guest.
 */
#ifndef VD_MACHINE_BOOT_ROM_H
#define VD_MACHINE_BOOT_ROM_H

#include <stddef.h>
#include <stdint.h>

#include "devices/fw_cfg.h"

/*
 * A copy of [start, end), which is padded to a multiple of 512 with at least one byte to spare,
 * with both checksums in place. NULL: no memory. From malloc.
 */
uint8_t *boot_rom_make(const uint8_t *start, const uint8_t *end, uint32_t *size);
/* Adds it as the file genroms/NAME and makes it the first boot device. */
int boot_rom_add(struct fw_cfg *fw, const char *name, const uint8_t *start, const uint8_t *end,
                 struct vd_error *err);

#endif
