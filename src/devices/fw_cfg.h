/*
 * The firmware configuration device: named and numbered byte strings that the firmware and guest
 * operating systems read through ports 510h/511h or by DMA (ports 514h-51Bh). The interface is the
 * one that SeaBIOS, OVMF and Linux know:
 *
 *   510h  selector, 16-bit writes: chooses an item and rewinds it
 *   511h  data, 8-bit reads: the next byte of the item, 00h past its end
 *   514h  DMA address, big-endian, upper half; reads "QEMU"
 *   518h  lower half, its write starts the transfer; reads " CFG"
 *
 * The DMA descriptor is {u32 control, u32 length, u64 address}, all big-endian; on completion the
 * control word is 0, or FW_CFG_DMA_ERROR. Items are read-only: a DMA write ends with that error.
 * Items stay as they are once the guest runs; add them all before.
 */
#ifndef VD_DEVICES_FW_CFG_H
#define VD_DEVICES_FW_CFG_H

#include <stdbool.h>
#include <stdint.h>

#include "memory/address_space.h"

enum fw_cfg_key {
    FW_CFG_SIGNATURE = 0x00,
    FW_CFG_ID = 0x01,
    FW_CFG_UUID = 0x02,
    FW_CFG_RAM_SIZE = 0x03,
    FW_CFG_NOGRAPHIC = 0x04,
    FW_CFG_NB_CPUS = 0x05,
    FW_CFG_MACHINE_ID = 0x06,
    FW_CFG_KERNEL_ADDR = 0x07,
    FW_CFG_KERNEL_SIZE = 0x08,
    FW_CFG_KERNEL_CMDLINE = 0x09,
    FW_CFG_INITRD_ADDR = 0x0a,
    FW_CFG_INITRD_SIZE = 0x0b,
    FW_CFG_BOOT_DEVICE = 0x0c,
    FW_CFG_NUMA = 0x0d,
    FW_CFG_BOOT_MENU = 0x0e,
    FW_CFG_MAX_CPUS = 0x0f,
    FW_CFG_KERNEL_ENTRY = 0x10,
    FW_CFG_KERNEL_DATA = 0x11,
    FW_CFG_INITRD_DATA = 0x12,
    FW_CFG_CMDLINE_ADDR = 0x13,
    FW_CFG_CMDLINE_SIZE = 0x14,
    FW_CFG_CMDLINE_DATA = 0x15,
    FW_CFG_SETUP_ADDR = 0x16,
    FW_CFG_SETUP_SIZE = 0x17,
    FW_CFG_SETUP_DATA = 0x18,
    FW_CFG_FILE_DIR = 0x19,
    FW_CFG_FILE_FIRST = 0x20,
    FW_CFG_WRITE_CHANNEL = 0x4000, /* ignored in a selector */
    FW_CFG_ARCH_LOCAL = 0x8000,
    FW_CFG_IRQ0_OVERRIDE = FW_CFG_ARCH_LOCAL + 2,
};
enum { FW_CFG_ID_TRADITIONAL = 1, FW_CFG_ID_DMA = 2 };
enum {
    FW_CFG_DMA_ERROR = 1,
    FW_CFG_DMA_READ = 2,
    FW_CFG_DMA_SKIP = 4,
    FW_CFG_DMA_SELECT = 8,
    FW_CFG_DMA_WRITE = 16,
};
enum { FW_CFG_FILE_NAME_SIZE = 56 }; /* in the directory, with the terminating NUL */

/* Bytes that are fetched when the guest wants them, so that big files need no memory here. */
struct fw_cfg_source {
    void *ctx;
    /* [offset, offset + size) of the item. -1: host failure; the guest gets zeros and, in a DMA,
     * FW_CFG_DMA_ERROR. */
    int (*read)(void *ctx, uint64_t offset, void *buffer, uint32_t size);
};

struct fw_cfg_item {
    uint16_t key;
    uint32_t size;
    const uint8_t *data; /* NULL: source gives the bytes */
    uint8_t *owned;      /* NULL: data is borrowed */
    struct fw_cfg_source source;
};

struct fw_cfg_file {
    char name[FW_CFG_FILE_NAME_SIZE];
    struct fw_cfg_item item; /* its key is FW_CFG_FILE_FIRST + position */
};

struct fw_cfg {
    struct address_space *as;
    struct io_region *ports;
    struct fw_cfg_item *items;
    size_t item_count;
    struct fw_cfg_file *files; /* sorted by name */
    size_t file_count;
    uint16_t selected;
    uint32_t offset;
    uint32_t dma_high;
    uint8_t *bounce; /* on the way from a source to the guest; NULL while there is no source */
};

/* Claims 12 ports from port (510h on a PC); has signature, id and an empty directory. -1: taken. */
int fw_cfg_init(struct fw_cfg *fw, struct address_space *as, uint16_t port, struct vd_error *err);
void fw_cfg_reset(struct fw_cfg *fw);
void fw_cfg_destroy(struct fw_cfg *fw);

/* Adds or replaces a numbered item with a copy of data. -1: no memory. */
int fw_cfg_add(struct fw_cfg *fw, unsigned key, const void *data, uint32_t size,
               struct vd_error *err);
/* The same without a copy: data must stay until fw_cfg_destroy. */
int fw_cfg_add_borrowed(struct fw_cfg *fw, unsigned key, const void *data, uint32_t size,
                        struct vd_error *err);
/* The same with a source, whose ctx must stay until fw_cfg_destroy. */
int fw_cfg_add_source(struct fw_cfg *fw, unsigned key, const struct fw_cfg_source *source,
                      uint32_t size, struct vd_error *err);
int fw_cfg_add_u16(struct fw_cfg *fw, unsigned key, uint16_t value, struct vd_error *err);
int fw_cfg_add_u32(struct fw_cfg *fw, unsigned key, uint32_t value, struct vd_error *err);
/* Adds or replaces a named file. -1: no memory, or the name is empty or too long. */
int fw_cfg_add_file(struct fw_cfg *fw, const char *name, const void *data, uint32_t size,
                    struct vd_error *err);

/* The item a selector names, NULL: none. Valid until the next addition. */
const struct fw_cfg_item *fw_cfg_find(const struct fw_cfg *fw, unsigned key);
const struct fw_cfg_item *fw_cfg_find_file(const struct fw_cfg *fw, const char *name);

#endif
