/* The BIOS and VGA BIOS images: search, checks, and where the BIOS goes in the address space. */
#ifndef VD_MACHINE_FIRMWARE_H
#define VD_MACHINE_FIRMWARE_H

#include <stddef.h>
#include <stdint.h>

#include "memory/address_space.h"

enum { FIRMWARE_MIN = 64 * 1024, FIRMWARE_MAX = 2 * 1024 * 1024 };

/*
 * Reads the BIOS image at path (NULL: the installed SeaBIOS) and maps it so that its last byte is
 * at FFFFFFFFh; its last 128 KiB (or all of a smaller one) appear again below 1 MiB. -1: not found,
 * not readable, or not 64 KiB to 2 MiB.
 */
int firmware_map_bios(struct address_space *as, const char *path, struct vd_error *err);

/*
 * Reads the VGA BIOS at path into memory from malloc. NULL: the installed one, and *data = NULL
 * when there is none; "none": *data = NULL. -1: not readable, or not an expansion ROM.
 */
int firmware_load_vga_bios(const char *path, uint8_t **data, size_t *size, struct vd_error *err);

#endif
