#include "devices/fw_cfg.h"

#include <stdlib.h>
#include <string.h>

enum { PORT_COUNT = 12 };
enum { REG_SELECTOR = 0, REG_DATA = 1, REG_DMA_HIGH = 4, REG_DMA_LOW = 8 };
enum { DIR_HEADER_SIZE = 4, DIR_ENTRY_SIZE = 64, DMA_CHUNK = 64 * 1024 };
static const char dma_signature[8] = {'Q', 'E', 'M', 'U', ' ', 'C', 'F', 'G'};

static void put_be32(uint8_t *bytes, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(value >> (24 - 8 * i));
}

static uint32_t get_be32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* --- items --- */

const struct fw_cfg_item *fw_cfg_find(const struct fw_cfg *fw, unsigned key)
{
    key &= ~(unsigned)FW_CFG_WRITE_CHANNEL;
    if (key >= FW_CFG_FILE_FIRST && key - FW_CFG_FILE_FIRST < fw->file_count)
        return &fw->files[key - FW_CFG_FILE_FIRST].item;
    for (size_t i = 0; i < fw->item_count; i++) {
        if (fw->items[i].key == key)
            return &fw->items[i];
    }
    return NULL;
}

const struct fw_cfg_item *fw_cfg_find_file(const struct fw_cfg *fw, const char *name)
{
    for (size_t i = 0; i < fw->file_count; i++) {
        if (!strcmp(fw->files[i].name, name))
            return &fw->files[i].item;
    }
    return NULL;
}

static int item_set(struct fw_cfg_item *item, const void *data, uint32_t size, bool copy,
                    struct vd_error *err)
{
    uint8_t *owned = NULL;
    if (copy) {
        owned = malloc(size ? size : 1);
        if (!owned)
            return error_set(err, "fw_cfg: no memory for %u bytes", size);
        if (size)
            memcpy(owned, data, size);
    }
    free(item->owned);
    item->owned = owned;
    item->data = copy ? owned : data;
    item->size = size;
    item->source = (struct fw_cfg_source){0};
    return 0;
}

static int add_item(struct fw_cfg *fw, unsigned key, const void *data, uint32_t size, bool copy,
                    struct vd_error *err)
{
    for (size_t i = 0; i < fw->item_count; i++) {
        if (fw->items[i].key == key)
            return item_set(&fw->items[i], data, size, copy, err);
    }
    struct fw_cfg_item *items = realloc(fw->items, (fw->item_count + 1) * sizeof(*items));
    if (!items)
        return error_set(err, "fw_cfg: no memory");
    fw->items = items;
    struct fw_cfg_item *item = &items[fw->item_count];
    *item = (struct fw_cfg_item){.key = (uint16_t)key};
    if (item_set(item, data, size, copy, err) < 0)
        return -1;
    fw->item_count++;
    return 0;
}

int fw_cfg_add(struct fw_cfg *fw, unsigned key, const void *data, uint32_t size,
               struct vd_error *err)
{
    return add_item(fw, key, data, size, true, err);
}

int fw_cfg_add_borrowed(struct fw_cfg *fw, unsigned key, const void *data, uint32_t size,
                        struct vd_error *err)
{
    return add_item(fw, key, data, size, false, err);
}

int fw_cfg_add_source(struct fw_cfg *fw, unsigned key, const struct fw_cfg_source *source,
                      uint32_t size, struct vd_error *err)
{
    if (!fw->bounce)
        fw->bounce = malloc(DMA_CHUNK);
    if (!fw->bounce)
        return error_set(err, "fw_cfg: no memory");
    if (add_item(fw, key, NULL, size, false, err) < 0)
        return -1;
    for (size_t i = 0; i < fw->item_count; i++) {
        if (fw->items[i].key == key)
            fw->items[i].source = *source;
    }
    return 0;
}

int fw_cfg_add_u16(struct fw_cfg *fw, unsigned key, uint16_t value, struct vd_error *err)
{
    uint8_t bytes[2] = {(uint8_t)value, (uint8_t)(value >> 8)};
    return fw_cfg_add(fw, key, bytes, sizeof(bytes), err);
}

int fw_cfg_add_u32(struct fw_cfg *fw, unsigned key, uint32_t value, struct vd_error *err)
{
    uint8_t bytes[4];
    put_be32(bytes, __builtin_bswap32(value));
    return fw_cfg_add(fw, key, bytes, sizeof(bytes), err);
}

/* {be32 count, {be32 size, be16 key, u16 0, char name[56]}...} */
static int rebuild_directory(struct fw_cfg *fw, struct vd_error *err)
{
    size_t size = DIR_HEADER_SIZE + fw->file_count * DIR_ENTRY_SIZE;
    uint8_t *directory = calloc(1, size);
    if (!directory)
        return error_set(err, "fw_cfg: no memory");
    put_be32(directory, (uint32_t)fw->file_count);
    for (size_t i = 0; i < fw->file_count; i++) {
        struct fw_cfg_file *file = &fw->files[i];
        uint8_t *entry = directory + DIR_HEADER_SIZE + i * DIR_ENTRY_SIZE;
        file->item.key = (uint16_t)(FW_CFG_FILE_FIRST + i);
        put_be32(entry, file->item.size);
        put_be32(entry + 4, (uint32_t)file->item.key << 16);
        memcpy(entry + 8, file->name, FW_CFG_FILE_NAME_SIZE);
    }
    int rc = fw_cfg_add(fw, FW_CFG_FILE_DIR, directory, (uint32_t)size, err);
    free(directory);
    return rc;
}

int fw_cfg_add_file(struct fw_cfg *fw, const char *name, const void *data, uint32_t size,
                    struct vd_error *err)
{
    size_t length = strlen(name);
    if (length == 0 || length >= FW_CFG_FILE_NAME_SIZE)
        return error_set(err, "fw_cfg: bad file name '%s'", name);
    size_t at = 0;
    while (at < fw->file_count && strcmp(fw->files[at].name, name) < 0)
        at++;
    if (at == fw->file_count || strcmp(fw->files[at].name, name)) {
        struct fw_cfg_file *files = realloc(fw->files, (fw->file_count + 1) * sizeof(*files));
        if (!files)
            return error_set(err, "fw_cfg: no memory");
        fw->files = files;
        struct fw_cfg_file file = {.name = ""};
        memcpy(file.name, name, length);
        if (item_set(&file.item, data, size, true, err) < 0)
            return -1;
        memmove(&files[at + 1], &files[at], (fw->file_count - at) * sizeof(*files));
        files[at] = file;
        fw->file_count++;
    } else if (item_set(&fw->files[at].item, data, size, true, err) < 0) {
        return -1;
    }
    return rebuild_directory(fw, err);
}

/* --- transfers --- */

static void select_item(struct fw_cfg *fw, uint16_t key)
{
    fw->selected = key;
    fw->offset = 0;
}

/* What is left of the selected item. */
static uint32_t bytes_left(const struct fw_cfg *fw, const struct fw_cfg_item *item)
{
    return item && fw->offset < item->size ? item->size - fw->offset : 0;
}

static uint8_t next_byte(struct fw_cfg *fw)
{
    const struct fw_cfg_item *item = fw_cfg_find(fw, fw->selected);
    uint8_t byte = 0;
    if (!bytes_left(fw, item))
        return 0;
    if (item->data)
        byte = item->data[fw->offset];
    else if (item->source.read && item->source.read(item->source.ctx, fw->offset, &byte, 1) < 0)
        byte = 0;
    fw->offset++;
    return byte;
}

static int source_to_guest(struct fw_cfg *fw, const struct fw_cfg_item *item, uint64_t gpa,
                           uint32_t length)
{
    int result = 0;
    for (uint32_t done = 0; done < length;) {
        uint32_t part = length - done < DMA_CHUNK ? length - done : DMA_CHUNK;
        if (item->source.read(item->source.ctx, fw->offset + done, fw->bounce, part) < 0) {
            memset(fw->bounce, 0, part);
            result = -1;
        }
        as_write(fw->as, gpa + done, fw->bounce, part);
        done += part;
    }
    return result;
}

/* Copies what is left of the item, then zeros. -1: a source failed. */
static int dma_to_guest(struct fw_cfg *fw, uint64_t gpa, uint32_t length)
{
    static const uint8_t zeros[DMA_CHUNK];
    const struct fw_cfg_item *item = fw_cfg_find(fw, fw->selected);
    uint32_t left = bytes_left(fw, item);
    uint32_t data = length < left ? length : left;
    int result = 0;
    if (data && item->data)
        as_write(fw->as, gpa, item->data + fw->offset, data);
    else if (data && item->source.read)
        result = source_to_guest(fw, item, gpa, data);
    fw->offset += data;
    for (uint32_t done = data; done < length;) {
        uint32_t part = length - done < DMA_CHUNK ? length - done : DMA_CHUNK;
        as_write(fw->as, gpa + done, zeros, part);
        done += part;
    }
    return result;
}

static void skip(struct fw_cfg *fw, uint32_t length)
{
    const struct fw_cfg_item *item = fw_cfg_find(fw, fw->selected);
    uint32_t left = bytes_left(fw, item);
    fw->offset += length < left ? length : left;
}

static void dma_transfer(struct fw_cfg *fw, uint64_t descriptor)
{
    uint8_t bytes[16];
    as_read(fw->as, descriptor, bytes, sizeof(bytes));
    uint32_t control = get_be32(bytes), length = get_be32(bytes + 4), result = 0;
    uint64_t address = (uint64_t)get_be32(bytes + 8) << 32 | get_be32(bytes + 12);

    if (control & FW_CFG_DMA_SELECT)
        select_item(fw, (uint16_t)(control >> 16));
    if (control & FW_CFG_DMA_READ)
        result = dma_to_guest(fw, address, length) < 0 ? FW_CFG_DMA_ERROR : 0;
    else if (control & FW_CFG_DMA_WRITE)
        result = FW_CFG_DMA_ERROR;
    else if (control & FW_CFG_DMA_SKIP)
        skip(fw, length);
    put_be32(bytes, result);
    as_write(fw->as, descriptor, bytes, 4);
}

/* --- ports --- */

static uint64_t port_read(void *ctx, uint64_t offset, unsigned size)
{
    struct fw_cfg *fw = ctx;
    if (offset == REG_DATA)
        return next_byte(fw);
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++) {
        uint64_t at = offset + i;
        bool dma = at >= REG_DMA_HIGH && at < PORT_COUNT;
        uint64_t byte = dma ? (uint8_t)dma_signature[at - REG_DMA_HIGH] : 0xff;
        value |= byte << (8 * i);
    }
    return value;
}

static void port_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    struct fw_cfg *fw = ctx;
    if (offset == REG_SELECTOR && size == 2) {
        select_item(fw, (uint16_t)value);
    } else if (offset == REG_DMA_HIGH && size == 4) {
        fw->dma_high = __builtin_bswap32((uint32_t)value);
    } else if (offset == REG_DMA_LOW && size == 4) {
        uint64_t descriptor = (uint64_t)fw->dma_high << 32 | __builtin_bswap32((uint32_t)value);
        fw->dma_high = 0;
        dma_transfer(fw, descriptor);
    }
}

static const struct io_ops port_ops = {
    .read = port_read, .write = port_write, .min_size = 1, .max_size = 4};

void fw_cfg_reset(struct fw_cfg *fw)
{
    select_item(fw, FW_CFG_SIGNATURE);
    fw->dma_high = 0;
}

int fw_cfg_init(struct fw_cfg *fw, struct address_space *as, uint16_t port, struct vd_error *err)
{
    memset(fw, 0, sizeof(*fw));
    fw->as = as;
    fw->ports = as_map_pio(as, port, PORT_COUNT, &port_ops, fw, "fw_cfg", err);
    if (!fw->ports)
        return -1;
    if (fw_cfg_add(fw, FW_CFG_SIGNATURE, dma_signature, 4, err) < 0 ||
        fw_cfg_add_u32(fw, FW_CFG_ID, FW_CFG_ID_TRADITIONAL | FW_CFG_ID_DMA, err) < 0 ||
        rebuild_directory(fw, err) < 0) {
        fw_cfg_destroy(fw);
        return -1;
    }
    return 0;
}

void fw_cfg_destroy(struct fw_cfg *fw)
{
    if (fw->ports)
        as_unmap(fw->as, fw->ports);
    for (size_t i = 0; i < fw->item_count; i++)
        free(fw->items[i].owned);
    for (size_t i = 0; i < fw->file_count; i++)
        free(fw->files[i].item.owned);
    free(fw->items);
    free(fw->files);
    free(fw->bounce);
    memset(fw, 0, sizeof(*fw));
}
