#include "machine/multiboot_loader.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "machine/boot_rom.h"
#include "machine/le_bytes.h"

/* multiboot.S */
extern const uint8_t multiboot_rom[], multiboot_rom_end[];

enum { PAGE = 4096, ISA_HOLE_END = 0x100000 };
enum { INFO_START = 0x10000, INFO_END = 0x80000 }; /* where it may be below 1 MiB */
/* The firmware keeps tables at the top of memory; everything must stay below them. */
enum { FIRMWARE_RESERVE = 0x100000, FIRMWARE_RESERVE_SMALL = 0x40000, SMALL_RAM = 0x2000000 };
enum { /* where the ROM leaves what it asked the firmware */
       ROM_MAP_COUNT = 0x1000,
       ROM_VBE_MODE = 0x1004,
       ROM_MAP = 0x1008,
       ROM_MAP_ENTRY = 24,
       ROM_VBE_CONTROL = 0x2000,
       ROM_VBE_INFO = 0x2200,
};
enum { /* BIOS data area */
       BDA_VIDEO_MODE = 0x449,
       BDA_COLUMNS = 0x44a,
       BDA_ROWS = 0x484,
       TEXT_MODE_COLOR = 3,
};
/* The stream that the ROM reads. */
enum { STREAM_MODE_SIZE = 8, RECORD_HEADER_SIZE = 8, STREAM_END_SIZE = 16 };

static uint64_t page_up(uint64_t value)
{
    return (value + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

static struct multiboot_record *add_record(struct multiboot_boot *boot, uint64_t address,
                                           uint64_t size)
{
    struct multiboot_record *record = &boot->records[boot->record_count++];
    *record = (struct multiboot_record){.address = (uint32_t)address, .size = (uint32_t)size};
    return record;
}

/* --- opening --- */

/* Takes the next module from a list; ",," stands for a comma. NULL: no memory. */
static char *take_module(const char **list)
{
    const char *at = *list;
    char *text = malloc(strlen(at) + 1), *out = text;
    if (!text)
        return NULL;
    while (*at && (*at != ',' || at[1] == ',')) {
        at += *at == ',';
        *out++ = *at++;
    }
    *out = 0;
    *list = *at ? at + 1 : at;
    return text;
}

static int open_module(struct multiboot_boot *boot, const char **list, struct vd_error *err)
{
    unsigned index = boot->info.module_count;
    if (index == MULTIBOOT_MODULES_MAX)
        return error_set(err, "more than %d modules for a multiboot kernel", MULTIBOOT_MODULES_MAX);
    char *text = take_module(list), *blank;
    if (!text)
        return error_set(err, "multiboot module: no memory");
    boot->module_arguments[index] = text;
    boot->modules[index].arguments = text;
    boot->info.module_count++;
    if ((blank = strchr(text, ' ')))
        *blank = 0;
    int rc = host_file_open(&boot->module_files[index], text, "multiboot module", err);
    if (blank)
        *blank = ' ';
    return rc;
}

static int open_files(struct multiboot_boot *boot, const struct multiboot_config *config,
                      struct vd_error *err)
{
    if (host_file_open(&boot->kernel, config->kernel, "kernel", err) < 0 ||
        multiboot_image_read(&boot->image, &boot->kernel, err) < 0)
        return -1;
    for (const char *list = config->modules; list && *list;) {
        if (open_module(boot, &list, err) < 0)
            return -1;
    }
    size_t size = strlen(config->kernel) + 2 + (config->cmdline ? strlen(config->cmdline) : 0);
    boot->cmdline = malloc(size);
    if (!boot->cmdline)
        return error_set(err, "kernel command line: no memory");
    snprintf(boot->cmdline, size, "%s%s%s", config->kernel, config->cmdline ? " " : "",
             config->cmdline ? config->cmdline : "");
    return 0;
}

/* --- placing --- */

static int place_segments(struct multiboot_boot *boot, uint64_t top, struct vd_error *err)
{
    for (unsigned i = 0; i < boot->image.segment_count; i++) {
        const struct multiboot_segment *segment = &boot->image.segments[i];
        uint64_t start = segment->address, end = start + segment->size;
        bool low = start >= MULTIBOOT_LOW_START && end <= MULTIBOOT_LOW_END;
        if (!low && start < ISA_HOLE_END)
            return error_set(err, "kernel %s: a segment at %#llx to %#llx, where no free memory is",
                             boot->kernel.path, (unsigned long long)start,
                             (unsigned long long)end - 1);
        if (!low && end > top)
            return error_set(err, "kernel %s: needs memory up to %llu MiB, %llu MiB are there",
                             boot->kernel.path, (unsigned long long)((end >> 20) + 1),
                             (unsigned long long)(top >> 20));
        struct multiboot_record *record = add_record(boot, start, segment->size);
        record->file = &boot->kernel;
        record->offset = segment->offset;
        record->file_size = segment->file_size;
    }
    return 0;
}

static int place_modules(struct multiboot_boot *boot, uint64_t *end, uint64_t top,
                         struct vd_error *err)
{
    for (unsigned i = 0; i < boot->info.module_count; i++) {
        const struct host_file *file = &boot->module_files[i];
        uint64_t start = page_up(*end);
        if (file->size > top || start > top - file->size)
            return error_set(err,
                             "multiboot module %s: %llu MiB do not fit behind the kernel and "
                             "below %llu MiB",
                             file->path, (unsigned long long)(file->size + 0xfffff) >> 20,
                             (unsigned long long)top >> 20);
        boot->modules[i].address = (uint32_t)start;
        boot->modules[i].size = (uint32_t)file->size;
        if (file->size) {
            struct multiboot_record *record = add_record(boot, start, file->size);
            record->file = file;
            record->file_size = file->size;
        }
        *end = start + file->size;
    }
    return 0;
}

/* One ELF section: what no segment holds (symbols, names) gets an address of its own. */
static bool place_section(struct multiboot_boot *boot, uint8_t *header, uint64_t *end, uint64_t top)
{
    bool elf64 = boot->image.sections.elf64;
    uint32_t type = get32(header + 4);
    uint64_t flags = elf64 ? get64(header + 8) : get32(header + 8);
    uint64_t address = elf64 ? get64(header + 16) : get32(header + 12);
    uint64_t offset = elf64 ? get64(header + 24) : get32(header + 16);
    uint64_t size = elf64 ? get64(header + 32) : get32(header + 20);
    uint64_t start = page_up(*end);
    if (type == SHT_NULL || type == SHT_NOBITS || (flags & SHF_ALLOC) || address || !size)
        return true;
    if (offset > boot->kernel.size || size > boot->kernel.size - offset || size > top ||
        start > top - size)
        return false;
    struct multiboot_record *record = add_record(boot, start, size);
    record->file = &boot->kernel;
    record->offset = offset;
    record->file_size = size;
    if (elf64)
        put64(header + 16, start);
    else
        put32(header + 12, (uint32_t)start);
    *end = start + size;
    return true;
}

static int place_sections(struct multiboot_boot *boot, uint64_t *end, uint64_t top,
                          struct vd_error *err)
{
    const struct multiboot_sections *sections = &boot->image.sections;
    size_t size = (size_t)sections->count * sections->entry_size;
    unsigned records = boot->record_count;
    uint64_t behind = *end;
    if (!sections->count)
        return 0;
    boot->sections = malloc(size);
    if (!boot->sections)
        return error_set(err, "kernel %s: no memory", boot->kernel.path);
    if (host_file_read(&boot->kernel, sections->offset, boot->sections, size, err) < 0)
        return -1;
    for (unsigned i = 0; i < sections->count; i++) {
        if (!place_section(boot, boot->sections + i * sections->entry_size, &behind, top)) {
            /* Broken or too large: a kernel starts without its symbols, too. */
            free(boot->sections);
            boot->sections = NULL;
            boot->record_count = records;
            return 0;
        }
    }
    *end = behind;
    return 0;
}

static bool is_free(const struct multiboot_boot *boot, uint64_t start, uint64_t size,
                    uint64_t *next)
{
    for (unsigned i = 0; i < boot->image.segment_count; i++) {
        const struct multiboot_segment *segment = &boot->image.segments[i];
        uint64_t end = (uint64_t)segment->address + segment->size;
        if (start < end && segment->address < start + size) {
            *next = page_up(end);
            return false;
        }
    }
    return true;
}

static int place_info(struct multiboot_boot *boot, uint64_t end, uint64_t top, struct vd_error *err)
{
    struct multiboot_info *info = &boot->info;
    info->image = &boot->image;
    info->cmdline = boot->cmdline;
    info->modules = boot->modules;
    info->sections = boot->sections;
    size_t size = (multiboot_info_size_max(info) + 7) & ~(size_t)7;
    uint64_t start = INFO_START;
    while (start + size <= INFO_END && !is_free(boot, start, size, &start))
        ;
    if (start + size > INFO_END)
        start = page_up(end);
    if (start + size > INFO_END && start + size > top)
        return error_set(err, "kernel %s: no memory left for the boot information",
                         boot->kernel.path);
    boot->info_address = (uint32_t)start;
    boot->info_capacity = (uint32_t)size;
    boot->info_bytes = calloc(1, size);
    if (!boot->info_bytes)
        return error_set(err, "kernel %s: no memory", boot->kernel.path);
    add_record(boot, start, size); /* last: the firmware has been asked when it is read */
    return 0;
}

int multiboot_boot_open(struct multiboot_boot *boot, const struct multiboot_config *config,
                        struct vd_error *err)
{
    memset(boot, 0, sizeof(*boot));
    boot->kernel.fd = -1;
    for (unsigned i = 0; i < MULTIBOOT_MODULES_MAX; i++)
        boot->module_files[i].fd = -1;
    uint64_t reserve = config->ram_end < SMALL_RAM ? FIRMWARE_RESERVE_SMALL : FIRMWARE_RESERVE;
    uint64_t top = config->ram_end > reserve ? config->ram_end - reserve : 0;
    if (open_files(boot, config, err) < 0 || place_segments(boot, top, err) < 0)
        goto fail;
    uint64_t end = multiboot_image_end(&boot->image);
    if (end < ISA_HOLE_END)
        end = ISA_HOLE_END;
    if (place_modules(boot, &end, top, err) < 0 || place_sections(boot, &end, top, err) < 0 ||
        place_info(boot, end, top, err) < 0)
        goto fail;
    return 0;
fail:
    multiboot_boot_close(boot);
    return -1;
}

void multiboot_boot_close(struct multiboot_boot *boot)
{
    host_file_close(&boot->kernel);
    for (unsigned i = 0; i < MULTIBOOT_MODULES_MAX; i++) {
        host_file_close(&boot->module_files[i]);
        free(boot->module_arguments[i]);
        boot->module_arguments[i] = NULL;
    }
    free(boot->cmdline);
    free(boot->sections);
    free(boot->info_bytes);
    boot->cmdline = NULL;
    boot->sections = boot->info_bytes = NULL;
}

/* --- what the firmware said --- */

static void read_map(struct multiboot_boot *boot)
{
    struct multiboot_info *info = &boot->info;
    uint8_t entry[ROM_MAP_ENTRY], word[4];
    as_read(boot->as, ROM_MAP_COUNT, word, sizeof(word));
    uint32_t count = get32(word) < MULTIBOOT_MAP_MAX ? get32(word) : MULTIBOOT_MAP_MAX;
    info->map_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        as_read(boot->as, ROM_MAP + i * ROM_MAP_ENTRY, entry, sizeof(entry));
        struct multiboot_map_entry *to = &info->map[info->map_count];
        *to = (struct multiboot_map_entry){get64(entry), get64(entry + 8), get32(entry + 16)};
        if (to->size && to->size <= UINT64_MAX - to->address)
            info->map_count++;
    }
}

/* ACPI specification 3.0b, 5.2.5.1: in the BIOS's segment, on a 16-byte boundary. */
static void find_rsdp(struct multiboot_boot *boot)
{
    enum { AREA = 0xe0000, AREA_SIZE = 0x20000, SIZE_OLD = 20, REVISION = 15 };
    uint8_t bytes[RSDP_SIZE_MAX];
    boot->info.rsdp_size = 0;
    for (uint32_t at = 0; at + RSDP_SIZE_MAX <= AREA_SIZE; at += 16) {
        uint8_t sum = 0;
        as_read(boot->as, AREA + at, bytes, sizeof(bytes));
        for (unsigned i = 0; i < SIZE_OLD; i++)
            sum = (uint8_t)(sum + bytes[i]);
        if (sum == 0 && memcmp(bytes, "RSD PTR ", 8) == 0) {
            memcpy(boot->info.rsdp, bytes, sizeof(bytes));
            boot->info.rsdp_size = bytes[REVISION] < 2 ? SIZE_OLD : RSDP_SIZE_MAX;
            return;
        }
    }
}

static void read_screen(struct multiboot_boot *boot)
{
    struct multiboot_info *info = &boot->info;
    uint8_t mode, rows, word[2];
    as_read(boot->as, ROM_VBE_MODE, word, sizeof(word));
    info->vbe_mode = get16(word);
    as_read(boot->as, ROM_VBE_CONTROL, info->vbe_control, VBE_CONTROL_SIZE);
    as_read(boot->as, ROM_VBE_INFO, info->vbe_info, VBE_INFO_SIZE);
    as_read(boot->as, BDA_VIDEO_MODE, &mode, 1);
    as_read(boot->as, BDA_COLUMNS, word, sizeof(word));
    as_read(boot->as, BDA_ROWS, &rows, 1);
    info->text_columns = mode == TEXT_MODE_COLOR && rows ? get16(word) : 0;
    info->text_rows = rows + 1u;
}

static void build_info(struct multiboot_boot *boot)
{
    read_map(boot);
    find_rsdp(boot);
    read_screen(boot);
    memset(boot->info_bytes, 0, boot->info_capacity);
    multiboot_info_build(&boot->info, boot->info_address, boot->info_bytes);
}

/* --- towards the guest --- */

static void put_start(const struct multiboot_boot *boot, uint8_t *bytes)
{
    const struct multiboot_image *image = &boot->image;
    memset(bytes, 0, STREAM_MODE_SIZE);
    if (!image->wants_mode)
        return;
    put16(bytes, (uint16_t)(image->width && image->width <= UINT16_MAX ? image->width : 1024));
    put16(bytes + 2,
          (uint16_t)(image->height && image->height <= UINT16_MAX ? image->height : 768));
    put16(bytes + 4, (uint16_t)(image->depth && image->depth <= UINT16_MAX ? image->depth : 32));
}

static void put_end(const struct multiboot_boot *boot, uint8_t *bytes)
{
    put32(bytes, boot->image.entry);
    put32(bytes + 4, 0);
    put32(bytes + 8, boot->image.version == 1 ? MULTIBOOT_MAGIC : MULTIBOOT2_MAGIC);
    put32(bytes + 12, boot->info_address);
}

static int read_contents(struct multiboot_boot *boot, const struct multiboot_record *record,
                         uint64_t offset, uint8_t *buffer, size_t size)
{
    struct vd_error err;
    if (!record->file) {
        if (offset == 0)
            build_info(boot);
        memcpy(buffer, boot->info_bytes + offset, size);
        return 0;
    }
    size_t from_file = offset >= record->file_size         ? 0
                       : record->file_size - offset < size ? (size_t)(record->file_size - offset)
                                                           : size;
    memset(buffer + from_file, 0, size - from_file);
    if (host_file_read(record->file, record->offset + offset, buffer, from_file, &err) == 0)
        return 0;
    log_error("%s", err.text);
    return -1;
}

/* Copies the part of source at position `at` of the stream that falls into the window. */
struct window {
    uint64_t start, end; /* in the stream */
    uint8_t *buffer;
};

static void copy_bytes(const struct window *window, uint64_t at, const uint8_t *source, size_t size)
{
    uint64_t from = window->start > at ? window->start : at;
    uint64_t to = window->end < at + size ? window->end : at + size;
    if (from < to)
        memcpy(window->buffer + (from - window->start), source + (from - at), (size_t)(to - from));
}

static int copy_record(struct multiboot_boot *boot, const struct window *window, uint64_t at,
                       const struct multiboot_record *record)
{
    uint8_t header[RECORD_HEADER_SIZE];
    put32(header, record->address);
    put32(header + 4, record->size);
    copy_bytes(window, at, header, sizeof(header));
    at += sizeof(header);
    uint64_t from = window->start > at ? window->start : at;
    uint64_t to = window->end < at + record->size ? window->end : at + record->size;
    if (from >= to)
        return 0;
    return read_contents(boot, record, from - at, window->buffer + (from - window->start),
                         (size_t)(to - from));
}

static int read_stream(void *ctx, uint64_t offset, void *buffer, uint32_t size)
{
    struct multiboot_boot *boot = ctx;
    struct window window = {offset, offset + size, buffer};
    uint8_t bytes[STREAM_END_SIZE];
    uint64_t at = STREAM_MODE_SIZE;
    put_start(boot, bytes);
    copy_bytes(&window, 0, bytes, STREAM_MODE_SIZE);
    for (unsigned i = 0; i < boot->record_count; i++) {
        if (copy_record(boot, &window, at, &boot->records[i]) < 0)
            return -1;
        at += RECORD_HEADER_SIZE + (uint64_t)boot->records[i].size;
    }
    put_end(boot, bytes);
    copy_bytes(&window, at, bytes, STREAM_END_SIZE);
    return 0;
}

int multiboot_boot_add(struct multiboot_boot *boot, struct fw_cfg *fw, struct address_space *as,
                       struct vd_error *err)
{
    struct fw_cfg_source source = {.ctx = boot, .read = read_stream};
    uint64_t size = STREAM_MODE_SIZE + STREAM_END_SIZE;
    boot->as = as;
    for (unsigned i = 0; i < boot->record_count; i++)
        size += RECORD_HEADER_SIZE + (uint64_t)boot->records[i].size;
    if (size > UINT32_MAX)
        return error_set(err, "kernel %s: larger than 4 GiB with its modules", boot->kernel.path);
    if (fw_cfg_add_source(fw, FW_CFG_KERNEL_DATA, &source, (uint32_t)size, err) < 0)
        return -1;
    return boot_rom_add(fw, "multiboot.bin", multiboot_rom, multiboot_rom_end, err);
}
