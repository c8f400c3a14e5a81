#include "machine/boot_rom.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/le_bytes.h"

static void set_checksum(uint8_t *bytes, size_t size, size_t at)
{
    uint8_t sum = 0;
    bytes[at] = 0;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + bytes[i]);
    bytes[at] = (uint8_t)-sum;
}

uint8_t *boot_rom_make(const uint8_t *start, const uint8_t *end, uint32_t *size)
{
    enum { ROM_PNP_POINTER = 0x1a, PNP_SIZE = 32, PNP_CHECKSUM = 9 };
    *size = (uint32_t)(end - start);
    uint8_t *rom = malloc(*size);
    if (!rom)
        return NULL;
    memcpy(rom, start, *size);
    set_checksum(rom + get16(rom + ROM_PNP_POINTER), PNP_SIZE, PNP_CHECKSUM);
    set_checksum(rom, *size, *size - 1); /* the last byte is padding, see boot_rom.inc */
    return rom;
}

int boot_rom_add(struct fw_cfg *fw, const char *name, const uint8_t *start, const uint8_t *end,
                 struct vd_error *err)
{
    char file[FW_CFG_FILE_NAME_SIZE], order[FW_CFG_FILE_NAME_SIZE + 16];
    uint32_t size;
    uint8_t *rom = boot_rom_make(start, end, &size);
    if (!rom)
        return error_set(err, "boot ROM %s: no memory", name);
    snprintf(file, sizeof(file), "genroms/%s", name);
    int rc = fw_cfg_add_file(fw, file, rom, size, err);
    free(rom);
    if (rc < 0)
        return -1;
    int length = snprintf(order, sizeof(order), "/rom@%s\n", file);
    /* SeaBIOS wants the text terminated by a NUL. */
    return fw_cfg_add_file(fw, "bootorder", order, (uint32_t)length + 1, err);
}
