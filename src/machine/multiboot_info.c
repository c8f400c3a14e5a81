#include "machine/multiboot_info.h"

#include <string.h>

#include "machine/le_bytes.h"

static const char loader_name[] = "Vedette";
static const uint64_t mib = 1 << 20;

enum { /* Multiboot 1: flags and offsets of the information structure */
       MB1_HAS_MEMORY = 1 << 0,
       MB1_HAS_CMDLINE = 1 << 2,
       MB1_HAS_MODULES = 1 << 3,
       MB1_HAS_SECTIONS = 1 << 5,
       MB1_HAS_MAP = 1 << 6,
       MB1_HAS_LOADER_NAME = 1 << 9,
       MB1_HAS_VBE = 1 << 11,
       MB1_HAS_FRAMEBUFFER = 1 << 12,
       MB1_FLAGS = 0,
       MB1_MEM_LOWER = 4,
       MB1_MEM_UPPER = 8,
       MB1_CMDLINE = 16,
       MB1_MODS_COUNT = 20,
       MB1_MODS_ADDR = 24,
       MB1_SECTIONS = 28,
       MB1_MMAP_LENGTH = 44,
       MB1_MMAP_ADDR = 48,
       MB1_LOADER_NAME = 64,
       MB1_VBE_CONTROL = 72,
       MB1_VBE_INFO = 76,
       MB1_VBE_MODE = 80,
       MB1_FRAMEBUFFER = 88,
       MB1_SIZE = 120,
       MB1_MAP_ENTRY = 24,
       MB1_MODULE = 16,
};
enum { /* Multiboot 2 tags */
       TAG_END = 0,
       TAG_CMDLINE = 1,
       TAG_LOADER_NAME = 2,
       TAG_MODULE = 3,
       TAG_MEMORY = 4,
       TAG_MAP = 6,
       TAG_VBE = 7,
       TAG_FRAMEBUFFER = 8,
       TAG_SECTIONS = 9,
       TAG_RSDP_OLD = 14,
       TAG_RSDP_NEW = 15,
       TAG_LOAD_BASE = 21,
       MB2_MAP_ENTRY = 24,
};
enum { /* the VESA mode information block (VBE Core 3.0, 4.4) */
       VBE_PITCH = 16,
       VBE_WIDTH = 18,
       VBE_HEIGHT = 20,
       VBE_DEPTH = 25,
       VBE_MASKS = 31, /* size and position of red, green, blue */
       VBE_FRAMEBUFFER = 40,
       VBE_LINEAR = 1 << 14, /* in a mode number */
};
enum {
    FRAMEBUFFER_RGB = 1,
    FRAMEBUFFER_TEXT = 2,
    FRAMEBUFFER_COLOR1 = 22, /* where version 1 and 2 have the color fields */
    FRAMEBUFFER_COLOR2 = 24,
    FRAMEBUFFER_SIZE = FRAMEBUFFER_COLOR2 + 6,
};
enum { RSDP_SIZE_OLD = 20 };

struct writer {
    uint8_t *buffer;
    uint32_t address; /* of the buffer in the guest */
    size_t size;
};

/* Room for size zero bytes at a multiple of 8; returns its offset. */
static size_t reserve(struct writer *writer, size_t size)
{
    size_t at = (writer->size + 7) & ~(size_t)7;
    memset(writer->buffer + writer->size, 0, at + size - writer->size);
    writer->size = at + size;
    return at;
}

static uint32_t add_bytes(struct writer *writer, const void *data, size_t size)
{
    size_t at = reserve(writer, size);
    memcpy(writer->buffer + at, data, size);
    return writer->address + (uint32_t)at;
}

static uint32_t add_string(struct writer *writer, const char *text)
{
    return add_bytes(writer, text, strlen(text) + 1);
}

/* --- memory --- */

/* KiB of RAM from start on without a hole. No entry reaches beyond the end of the 64-bit space. */
static uint32_t ram_from(const struct multiboot_info *info, uint64_t start)
{
    uint64_t end = start;
    for (bool grown = true; grown;) {
        grown = false;
        for (unsigned i = 0; i < info->map_count; i++) {
            const struct multiboot_map_entry *entry = &info->map[i];
            if (entry->type == MULTIBOOT_MAP_RAM && entry->address <= end &&
                entry->size > end - entry->address) {
                end = entry->address + entry->size;
                grown = true;
            }
        }
    }
    uint64_t kib = (end - start) / 1024;
    return kib > UINT32_MAX ? UINT32_MAX : (uint32_t)kib;
}

static uint32_t lower_memory(const struct multiboot_info *info)
{
    uint32_t kib = ram_from(info, 0);
    return kib > 640 ? 640 : kib;
}

static void put_map_entry(uint8_t *at, const struct multiboot_map_entry *entry)
{
    put64(at, entry->address);
    put64(at + 8, entry->size);
    put32(at + 16, entry->type);
}

/* --- the screen --- */

/* Both versions describe it in nearly the same bytes. False: neither text nor a linear frame
 * buffer. */
static bool put_framebuffer(uint8_t *at, const struct multiboot_info *info)
{
    const uint8_t *vbe = info->vbe_info;
    memset(at, 0, FRAMEBUFFER_SIZE);
    if (info->vbe_mode) {
        put64(at, get32(vbe + VBE_FRAMEBUFFER));
        put32(at + 8, get16(vbe + VBE_PITCH));
        put32(at + 12, get16(vbe + VBE_WIDTH));
        put32(at + 16, get16(vbe + VBE_HEIGHT));
        at[20] = vbe[VBE_DEPTH];
        at[21] = FRAMEBUFFER_RGB;
        uint8_t *color = at + (info->image->version == 1 ? FRAMEBUFFER_COLOR1 : FRAMEBUFFER_COLOR2);
        for (unsigned i = 0; i < 3; i++) { /* ours are position, size */
            color[2 * i] = vbe[VBE_MASKS + 2 * i + 1];
            color[2 * i + 1] = vbe[VBE_MASKS + 2 * i];
        }
        return true;
    }
    put64(at, 0xb8000);
    put32(at + 8, info->text_columns * 2);
    put32(at + 12, info->text_columns);
    put32(at + 16, info->text_rows);
    at[20] = 16;
    at[21] = FRAMEBUFFER_TEXT;
    return info->text_columns != 0;
}

/* --- version 1 --- */

static uint32_t add_modules1(struct writer *writer, const struct multiboot_info *info)
{
    size_t at = reserve(writer, info->module_count * MB1_MODULE);
    for (unsigned i = 0; i < info->module_count; i++) {
        const struct multiboot_module *module = &info->modules[i];
        uint32_t arguments = add_string(writer, module->arguments);
        uint8_t *entry = writer->buffer + at + i * MB1_MODULE;
        put32(entry, module->address);
        put32(entry + 4, module->address + module->size);
        put32(entry + 8, arguments);
    }
    return writer->address + (uint32_t)at;
}

static void add_map1(struct writer *writer, const struct multiboot_info *info)
{
    size_t at = reserve(writer, info->map_count * MB1_MAP_ENTRY);
    put32(writer->buffer + MB1_MMAP_LENGTH, info->map_count * MB1_MAP_ENTRY);
    put32(writer->buffer + MB1_MMAP_ADDR, writer->address + (uint32_t)at);
    for (unsigned i = 0; i < info->map_count; i++) {
        uint8_t *entry = writer->buffer + at + i * MB1_MAP_ENTRY;
        put32(entry, MB1_MAP_ENTRY - 4); /* the size does not count itself */
        put_map_entry(entry + 4, &info->map[i]);
    }
}

static size_t build1(const struct multiboot_info *info, struct writer *writer)
{
    uint8_t *header = writer->buffer;
    const struct multiboot_sections *sections = &info->image->sections;
    uint32_t flags = MB1_HAS_MEMORY | MB1_HAS_CMDLINE | MB1_HAS_LOADER_NAME;
    reserve(writer, MB1_SIZE);
    put32(header + MB1_MEM_LOWER, lower_memory(info));
    put32(header + MB1_MEM_UPPER, ram_from(info, mib));
    put32(header + MB1_CMDLINE, add_string(writer, info->cmdline));
    put32(header + MB1_LOADER_NAME, add_string(writer, loader_name));
    if (info->module_count) {
        flags |= MB1_HAS_MODULES;
        put32(header + MB1_MODS_COUNT, info->module_count);
        put32(header + MB1_MODS_ADDR, add_modules1(writer, info));
    }
    if (info->sections) {
        flags |= MB1_HAS_SECTIONS;
        put32(header + MB1_SECTIONS, sections->count);
        put32(header + MB1_SECTIONS + 4, sections->entry_size);
        put32(header + MB1_SECTIONS + 8,
              add_bytes(writer, info->sections, sections->count * sections->entry_size));
        put32(header + MB1_SECTIONS + 12, sections->names);
    }
    if (info->map_count) {
        flags |= MB1_HAS_MAP;
        add_map1(writer, info);
    }
    if (info->vbe_mode) {
        flags |= MB1_HAS_VBE;
        put32(header + MB1_VBE_CONTROL, add_bytes(writer, info->vbe_control, VBE_CONTROL_SIZE));
        put32(header + MB1_VBE_INFO, add_bytes(writer, info->vbe_info, VBE_INFO_SIZE));
        put16(header + MB1_VBE_MODE, info->vbe_mode | VBE_LINEAR);
    }
    if (put_framebuffer(header + MB1_FRAMEBUFFER, info))
        flags |= MB1_HAS_FRAMEBUFFER;
    put32(header + MB1_FLAGS, flags);
    return writer->size;
}

/* --- version 2 --- */

/* Returns the contents of a tag of that many bytes behind type and size. */
static uint8_t *add_tag(struct writer *writer, uint32_t type, size_t size)
{
    uint8_t *tag = writer->buffer + reserve(writer, 8 + size);
    put32(tag, type);
    put32(tag + 4, (uint32_t)(8 + size));
    return tag + 8;
}

static void add_string_tag(struct writer *writer, uint32_t type, const char *text)
{
    size_t size = strlen(text) + 1;
    memcpy(add_tag(writer, type, size), text, size);
}

static void add_module_tag(struct writer *writer, const struct multiboot_module *module)
{
    size_t size = strlen(module->arguments) + 1;
    uint8_t *tag = add_tag(writer, TAG_MODULE, 8 + size);
    put32(tag, module->address);
    put32(tag + 4, module->address + module->size);
    memcpy(tag + 8, module->arguments, size);
}

static void add_map_tag(struct writer *writer, const struct multiboot_info *info)
{
    uint8_t *tag = add_tag(writer, TAG_MAP, 8 + info->map_count * MB2_MAP_ENTRY);
    put32(tag, MB2_MAP_ENTRY);
    for (unsigned i = 0; i < info->map_count; i++)
        put_map_entry(tag + 8 + i * MB2_MAP_ENTRY, &info->map[i]);
}

static void add_sections_tag(struct writer *writer, const struct multiboot_info *info)
{
    const struct multiboot_sections *sections = &info->image->sections;
    size_t size = sections->count * sections->entry_size;
    uint8_t *tag = add_tag(writer, TAG_SECTIONS, 12 + size);
    put32(tag, sections->count);
    put32(tag + 4, sections->entry_size);
    put32(tag + 8, sections->names);
    memcpy(tag + 12, info->sections, size);
}

static void add_screen_tags(struct writer *writer, const struct multiboot_info *info)
{
    uint8_t framebuffer[FRAMEBUFFER_SIZE];
    if (info->vbe_mode) {
        uint8_t *vbe = add_tag(writer, TAG_VBE, 8 + VBE_CONTROL_SIZE + VBE_INFO_SIZE);
        put16(vbe, info->vbe_mode | VBE_LINEAR);
        memcpy(vbe + 8, info->vbe_control, VBE_CONTROL_SIZE);
        memcpy(vbe + 8 + VBE_CONTROL_SIZE, info->vbe_info, VBE_INFO_SIZE);
    }
    if (put_framebuffer(framebuffer, info)) {
        size_t size = info->vbe_mode ? FRAMEBUFFER_SIZE : FRAMEBUFFER_COLOR2;
        memcpy(add_tag(writer, TAG_FRAMEBUFFER, size), framebuffer, size);
    }
}

static size_t build2(const struct multiboot_info *info, struct writer *writer)
{
    reserve(writer, 8); /* total size */
    add_string_tag(writer, TAG_CMDLINE, info->cmdline);
    add_string_tag(writer, TAG_LOADER_NAME, loader_name);
    for (unsigned i = 0; i < info->module_count; i++)
        add_module_tag(writer, &info->modules[i]);
    uint8_t *memory = add_tag(writer, TAG_MEMORY, 8);
    put32(memory, lower_memory(info));
    put32(memory + 4, ram_from(info, mib));
    add_map_tag(writer, info);
    add_screen_tags(writer, info);
    if (info->sections)
        add_sections_tag(writer, info);
    if (info->rsdp_size)
        memcpy(add_tag(writer, TAG_RSDP_OLD, RSDP_SIZE_OLD), info->rsdp, RSDP_SIZE_OLD);
    if (info->rsdp_size > RSDP_SIZE_OLD)
        memcpy(add_tag(writer, TAG_RSDP_NEW, info->rsdp_size), info->rsdp, info->rsdp_size);
    if (info->image->relocatable) {
        uint32_t base = UINT32_MAX;
        for (unsigned i = 0; i < info->image->segment_count; i++) {
            if (info->image->segments[i].address < base)
                base = info->image->segments[i].address;
        }
        put32(add_tag(writer, TAG_LOAD_BASE, 4), base);
    }
    add_tag(writer, TAG_END, 0);
    put32(writer->buffer, (uint32_t)writer->size);
    return writer->size;
}

/* --- the whole --- */

size_t multiboot_info_size_max(const struct multiboot_info *info)
{
    /* Every string, list and block may be preceded by a tag header and filled up to 8 bytes. */
    enum { OVERHEAD = 32 };
    size_t size = MB1_SIZE + VBE_CONTROL_SIZE + VBE_INFO_SIZE + FRAMEBUFFER_SIZE + RSDP_SIZE_OLD +
                  RSDP_SIZE_MAX + 16 * OVERHEAD;
    size += sizeof(loader_name) + strlen(info->cmdline) + 1;
    size += MULTIBOOT_MAP_MAX * MB2_MAP_ENTRY;
    if (info->sections)
        size += (size_t)info->image->sections.count * info->image->sections.entry_size;
    for (unsigned i = 0; i < info->module_count; i++)
        size += strlen(info->modules[i].arguments) + 1 + MB1_MODULE + OVERHEAD;
    return size;
}

size_t multiboot_info_build(const struct multiboot_info *info, uint32_t address, uint8_t *buffer)
{
    struct writer writer = {.buffer = buffer, .address = address};
    return info->image->version == 1 ? build1(info, &writer) : build2(info, &writer);
}
